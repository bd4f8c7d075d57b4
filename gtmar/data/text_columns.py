"""Text cells as values: markers of nothing, numbers, flags and dates, as Polars expressions.

The one conversion, whatever the text came from: CSV files of any dialect, names of folders, and
text columns of formats that have types. A cell is a value of its column's kind or null.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.errors import culprits
from gtmar.spec.model import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    #: Runs a query over a table.
    Collect = Callable[[pl.LazyFrame], pl.DataFrame]

__all__ = [
    "NULL_MARKERS",
    "TEXT_TYPES",
    "Content",
    "Kind",
    "Texts",
    "cleaned",
    "contents",
    "converted",
]


#: What exports write where a value is unknown, beside blanks. Taken so in these spellings alone.
NULL_MARKERS = (
    *("NULL", "null", "Null", "None", "none", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "#N/A"),
    *("<NA>", "NaT", "nil", "-", "--", "\u2013", "\u2014", "?", "\\N"),
)
#: Types of columns that hold text.
TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)
#: Of a column whose known cells are numbers but for a share of at most this many, the others are
#: named.
_FEW = 0.2
#: How many cells of another kind are shown.
_SHOWN = 5
#: What stands around an amount: signs and codes of currencies, and blanks.
_CURRENCY = r"(?:\p{Sc}|[A-Z]{3}|US\$|Fr\.|kr\.?|z\u0142)"
_BLANKS = "[ \u00a0\u202f]*"
_DAY = r"\d{4}-\d{2}-\d{2}"
_TIME = r"[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}(?::?\d{2})?))?"


class Kind(StrEnum):
    """What the cells of a text column are."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    #: ``45%`` is 0.45.
    PERCENT = "percent"
    #: ``47,5 %`` is 0.475.
    PERCENT_COMMA = "percent-comma"
    #: ``12,5`` is 12.5.
    DECIMAL_COMMA = "decimal-comma"
    #: ``$1,234.50`` is 1234.5.
    MONEY = "money"
    #: ``1.234,50 €`` is 1234.5.
    MONEY_COMMA = "money-comma"


#: Kinds that are looked for, the narrowest first; then numbers that are read on request alone.
_PLAIN = (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN, Kind.DATE, Kind.DATETIME)
_WRITTEN = (Kind.PERCENT, Kind.PERCENT_COMMA, Kind.MONEY, Kind.MONEY_COMMA)


def cleaned(text: pl.Expr, nulls: Collection[str] = NULL_MARKERS) -> pl.Expr:
    """Return cells without blanks around them, null where none or a marker of nothing is left."""
    bare = text.str.strip_chars()
    return pl.when(~bare.is_in(["", *nulls])).then(bare)


def _as_number(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.Float64, strict=False)


def _as_flag(text: pl.Expr) -> pl.Expr:
    lowered = text.str.to_lowercase()
    return pl.when(lowered.is_in(["true", "false"])).then(lowered == "true")


def _as_date(text: pl.Expr) -> pl.Expr:
    day = pl.when(text.str.contains(rf"^{_DAY}$")).then(text)
    return day.str.to_date("%Y-%m-%d", strict=False)


def _as_datetime(text: pl.Expr) -> pl.Expr:
    """Return cells as times by the clock that they were written by, to the second."""
    day = pl.when(text.str.contains(rf"^{_DAY}(?:{_TIME})?$")).then(text.str.slice(0, 10))
    seconds = text.str.extract(r"^.{10}[T ](\d{2}:\d{2}(?::\d{2})?)").fill_null("00:00")
    whole = pl.concat_str(day, pl.lit(" "), seconds, pl.lit(":00")).str.slice(0, 19)
    return whole.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)


def _as_percent(text: pl.Expr, decimal: str) -> pl.Expr:
    """Read a share; 94.7% is the double 0.947, which the quotient of 94.7 and 100 is not."""
    digits = rf"\d+(?:{decimal}\d*)?|{decimal}\d+"
    amount = text.str.extract(rf"^([+-]?(?:{digits})){_BLANKS}%$")
    return _as_number(amount.str.replace(",", ".", literal=True) + "e-2")


def _as_decimal_comma(text: pl.Expr) -> pl.Expr:
    number = text.str.extract(r"^([+-]?\d+(?:,\d+)?)$")
    return _as_number(number.str.replace(",", ".", literal=True))


def _as_money(text: pl.Expr, *, thousands: str, decimal: str) -> pl.Expr:
    """Read an amount; its currency may stand on either side, and a debit in brackets."""
    amount = rf"[1-9]\d{{0,2}}(?:{thousands}\d{{3}})+(?:{decimal}\d+)?|\d+(?:{decimal}\d+)?"
    pattern = (
        rf"^(?P<sign>[-+\u2212(]?){_BLANKS}{_CURRENCY}?{_BLANKS}(?P<inner>-?)(?P<amount>{amount})"
        rf"{_BLANKS}{_CURRENCY}?{_BLANKS}\)?$"
    )
    parts = text.str.extract_groups(pattern)
    plain = parts.struct.field("amount").str.replace_all(thousands, "")
    number = _as_number(plain.str.replace(decimal, "."))
    below = parts.struct.field("sign").is_in(["-", "\u2212", "("])
    below = below ^ (parts.struct.field("inner") == "-")
    return pl.when(below).then(-number).otherwise(number)


_SPACES = "'\u00a0\u202f\u2019"
_CONVERSIONS: dict[Kind, Callable[[pl.Expr], pl.Expr]] = {
    Kind.TEXT: lambda text: text,
    Kind.INTEGER: lambda text: text.cast(pl.Int64, strict=False),
    Kind.NUMBER: _as_number,
    Kind.BOOLEAN: _as_flag,
    Kind.DATE: _as_date,
    Kind.DATETIME: _as_datetime,
    Kind.PERCENT: lambda text: _as_percent(text, r"\."),
    Kind.PERCENT_COMMA: lambda text: _as_percent(text, ","),
    Kind.DECIMAL_COMMA: _as_decimal_comma,
    Kind.MONEY: lambda text: _as_money(text, thousands=f"[, {_SPACES}]", decimal=r"\."),
    Kind.MONEY_COMMA: lambda text: _as_money(text, thousands=f"[. {_SPACES}]", decimal=","),
}


def converted(text: pl.Expr, kind: Kind) -> pl.Expr:
    """Return cells that `cleaned` gave as values of a kind, null where one is none."""
    return _CONVERSIONS[kind](text)


@dataclass(frozen=True)
class Content:
    """What the cells of a text column are."""

    kind: Kind
    #: Cells that aren't null.
    known: int = 0
    #: Cells by marker of nothing, where there are any.
    markers: dict[str, int] = field(default_factory=dict)
    #: What most cells are, where a few of them are something else; these few, and how many.
    nearly: Kind | None = None
    others: tuple[str, ...] = ()
    other_cells: int = 0
    #: Whether every known cell is a number as it stands, so that nothing needs to be cleaned.
    bare: bool = field(default=False, compare=False)
    #: The decimal sign that its cells show.
    decimal: str | None = field(default=None, compare=False)
    #: The sign that has three digits behind it in every cell, so that 1.234 may be a thousand.
    grouped: str | None = field(default=None, compare=False)
    #: Whether decimals would hardly be written so: many of them, among whole numbers.
    often: bool = field(default=False, compare=False)


#: Numbers with a 0 before them are codes, as 00012 is.
_CODE = r"^[+-]?0\d"
#: Rows by whose cells kinds are chosen that all rows are then held against.
_HEAD = 10_000
#: Decimals lose a last 0, so that so many of three digits among whole numbers are thousands.
_OFTEN = 50
_SIGNS = {Kind.NUMBER: ".", Kind.DECIMAL_COMMA: ","}
#: What 1.234 and 1,234 are where the sign is a decimal one, and where it stands before thousands.
_GROUPED = {".": (Kind.NUMBER, Kind.MONEY_COMMA), ",": (Kind.DECIMAL_COMMA, Kind.MONEY)}


def contents(
    lazy: pl.LazyFrame,
    columns: Iterable[str],
    collect: Collect,
    *,
    nulls: Collection[str] = NULL_MARKERS,
    comma: bool = False,
) -> dict[str, Content]:
    """Return what the cells of text columns are, by column, after a look at every row.

    `collect` runs a query over the table; `nulls` are markers of nothing, and with `comma` 12,5 may
    be a number. Cost: the first rows, then one streaming pass that settles columns of plain
    numbers; another over the columns that are left, and a third and fourth over those of no one
    kind.
    """
    names = list(columns)
    if not names:
        return {}
    every = (*_PLAIN, *_WRITTEN, *([Kind.DECIMAL_COMMA] if comma else []))
    head = collect(lazy.select(names).head(_HEAD)).lazy()
    likely = _bare_numbers(head, names, pl.LazyFrame.collect, nulls)
    settled = _bare_numbers(lazy, likely, collect, nulls)
    # Most columns show their decimal sign in the first rows.
    settled = _with_sign(lazy, _with_sign(head, settled, pl.LazyFrame.collect), collect)
    rest = [name for name in names if name not in settled]
    counts = _counts(head, dict.fromkeys(rest, every), pl.LazyFrame.collect, nulls)
    asked = {name: _candidates(count) for name, count in counts.items()}
    for left_out in (_WRITTEN, ()):
        # Patterns of money are slow: they are for columns that are no plain values.
        kinds = {
            name: tuple(kind for kind in asked[name] if kind not in left_out)
            for name in rest
            if name not in settled
        }
        for name, count in _counts(lazy, kinds, collect, nulls).items():
            content = _content(count, kinds[name])
            if kinds[name] == asked[name] or content.kind is not Kind.TEXT or count.get("codes"):
                settled[name] = content
    settled = _by_other_columns(settled, ask=False)
    shown = []
    for name, each in settled.items():
        if each.nearly is not None:
            text = cleaned(pl.col(name), nulls)
            strange = text.filter(text.is_not_null() & converted(text, each.nearly).is_null())
            others = strange.unique(maintain_order=True).head(_SHOWN)
            shown.append(others.implode().alias(name))
    if shown:
        row = collect(lazy.select(shown)).row(0, named=True)
        settled |= {n: replace(settled[n], others=tuple(others)) for n, others in row.items()}
    return settled


def _bare_numbers(
    lazy: pl.LazyFrame, columns: Iterable[str], collect: Collect, nulls: Iterable[str]
) -> dict[str, Content]:
    """Return the columns whose every known cell is a number as it stands: most, in most tables."""
    markers = _as_number(pl.lit(pl.Series(list(nulls), dtype=pl.String)))
    names = list(columns)
    if not names or pl.select(markers.is_not_nan().any()).item():
        return {}
    x = pl.col(names)
    counts = {
        "known": x.count(),
        "integers": converted(x, Kind.INTEGER).count(),
        # NaN is a marker of nothing, or a cell that somebody should look at.
        "numbers": _as_number(x).is_not_nan().sum(),
        "codes": x.str.contains(_CODE).any(),
    }
    row = collect(lazy.select(count.name.suffix(f"\x00{key}") for key, count in counts.items()))
    numeric = {}
    for name in names:
        known, integers, numbers, codes = (row[f"{name}\x00{key}"].item() for key in counts)
        if known and numbers == known and not codes:
            kind = Kind.INTEGER if integers == known else Kind.NUMBER
            numeric[name] = Content(kind, known, bare=True)
    return numeric


def _with_sign(
    lazy: pl.LazyFrame, numeric: Mapping[str, Content], collect: Collect
) -> dict[str, Content]:
    """Look at columns of fractions for their decimal sign, where it isn't known yet."""
    fractions = [n for n, c in numeric.items() if c.kind is Kind.NUMBER and not c.decimal]
    if not fractions:
        return dict(numeric)
    row = collect(lazy.select(_signs(pl.col(n), ".").alias(n) for n in fractions)).row(0)
    signs = {n: _sign(count, ".") for n, count in zip(fractions, row, strict=True)}
    return {n: replace(content, **signs.get(n, {})) for n, content in numeric.items()}


def _signs(text: pl.Expr, sign: str) -> pl.Expr:
    """Count numbers with a sign, and where it may stand before thousands; look for 12 and 1234."""
    return pl.struct(
        signed=text.str.contains(sign, literal=True).sum(),
        grouped=text.str.contains(rf"^[+-]?[1-9]\d{{0,2}}[{sign}]\d{{3}}$").sum(),
        short=text.str.contains(r"^[+-]?[1-9]\d{0,2}$").any(),
        long=text.str.contains(r"^[+-]?\d{4,}$").any(),
    )


def _sign(count: Mapping[str, Any], sign: str) -> dict[str, Any]:
    """Say what a sign is in a column of numbers: a decimal one where any cell shows it."""
    signed, grouped, short, long = count.values()
    if not signed:
        return {}
    # Who writes thousands apart writes no 1234.
    if signed > grouped or long:
        return {"decimal": sign, "grouped": None}
    return {"grouped": sign, "often": short and signed >= _OFTEN}


def _by_other_columns(contents: Mapping[str, Content], *, ask: bool) -> dict[str, Content]:
    """Settle numbers such as 1.234 by the decimal sign that other columns show.

    Where none does, a dot is a decimal sign, unless one has to `ask`. Cells and columns that say
    different things settle nothing.
    """
    shown = {each.decimal for each in contents.values()} - {None}
    settled = dict(contents)
    for name, each in contents.items():
        if each.grouped is None:
            continue
        decimal, thousand = _GROUPED[each.grouped]
        by_default = each.grouped == "." and not (ask or shown)
        if not each.often and (by_default or shown == {each.grouped}):
            settled[name] = replace(each, kind=decimal, nearly=None)
        elif shown and each.grouped not in shown:
            settled[name] = replace(each, kind=thousand, nearly=None)
        else:
            settled[name] = replace(each, kind=Kind.TEXT, nearly=thousand)
    return settled


def _counts(
    lazy: pl.LazyFrame,
    kinds: Mapping[str, Collection[Kind]],
    collect: Collect,
    nulls: Collection[str],
) -> dict[str, dict[str, Any]]:
    """Count by column the cells that are known, codes, markers, and of each kind asked for."""
    wanted = []
    for i, (name, asked) in enumerate(kinds.items()):
        text, bare = cleaned(pl.col(name), nulls), pl.col(name).str.strip_chars()
        markers = bare.filter(bare.is_in(list(nulls))).value_counts(sort=True, name="cells")
        counts = {"known": text.count(), "markers": markers.implode()}
        counts |= {kind: converted(text, kind).count() for kind in asked}
        if Kind.INTEGER in asked or Kind.NUMBER in asked:
            counts["codes"] = text.str.contains(_CODE).sum()
        counts |= {sign: _signs(text, sign) for kind, sign in _SIGNS.items() if kind in asked}
        wanted += [count.alias(f"{i}.{what}") for what, count in counts.items()]
    if not wanted:
        return {}
    counted: dict[str, dict[str, Any]] = {name: {} for name in kinds}
    names = list(kinds)
    for key, value in collect(lazy.select(wanted)).row(0, named=True).items():
        column, _, what = key.partition(".")
        counted[names[int(column)]][what] = value or 0
    for name, count in counted.items():
        count["markers"] = {each[name]: each["cells"] for each in count["markers"] or ()}
    return counted


def _candidates(count: Mapping[str, Any]) -> tuple[Kind, ...]:
    """Return the kinds that a column may be of, by the cells of its first rows."""
    known = count["known"]
    if not known:
        return tuple(kind for kind in Kind if kind in count)
    likely = [kind for kind in Kind if count.get(kind, 0) >= (1 - 2 * _FEW) * known]
    if Kind.INTEGER in likely and Kind.NUMBER not in likely:
        likely.append(Kind.NUMBER)
    if Kind.DATE in likely or Kind.DATETIME in likely:
        likely = [Kind.DATE, Kind.DATETIME]
    return tuple(likely)


def _content(count: Mapping[str, Any], asked: Collection[Kind]) -> Content:
    """Choose a column's kind: the narrowest that all of its known cells are of."""
    known, markers = count["known"], count["markers"]
    if not known or count.get("codes"):
        return Content(Kind.TEXT, known, markers)
    for kind in (*_PLAIN, Kind.DECIMAL_COMMA):
        if kind in asked and count[kind] == known:
            sign = _sign(count[_SIGNS[kind]], _SIGNS[kind]) if kind in _SIGNS else {}
            return Content(kind, known, markers, **sign)
    best = max(asked, key=lambda kind: int(count[kind]), default=None)
    if best is None or count[best] < (1 - _FEW) * known:
        return Content(Kind.TEXT, known, markers)
    point, comma = (count.get(kind, 0) for kind in (Kind.MONEY, Kind.MONEY_COMMA))
    decimal = {Kind.MONEY: "." * (point > comma), Kind.MONEY_COMMA: "," * (comma > point)}
    others = known - count[best]
    return Content(Kind.TEXT, known, markers, best, (), others, decimal=decimal.get(best) or None)


@dataclass(frozen=True)
class Texts:
    """Columns of text, and what each is taken for."""

    #: The table, with `columns` as the source has them.
    raw: pl.LazyFrame
    columns: tuple[str, ...]
    #: Whether the source's format has no types, so that markers of nothing stand for null.
    typeless: bool
    #: Whether 12,5 may be a number, and whether 1.234 is asked for where no other cell settles it.
    comma: bool = False
    ask: bool = False
    reading: Reading = field(default_factory=Reading)
    #: What the cells of columns are, where that was looked at.
    contents: Mapping[str, Content] = field(default_factory=dict)
    #: What columns are taken for; those of a typed format that aren't here stay as they are.
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    #: Columns of ids: text, and NULL or - an id as any other.
    ids: tuple[str, ...] = ()
    #: Markers of nothing that a column's own categories are called by.
    kept: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def nulls(self) -> tuple[str, ...]:
        """The markers of nothing."""
        return NULL_MARKERS if self.reading.nulls is None else self.reading.nulls

    @property
    def stated(self) -> dict[str, Kind]:
        """The kinds of columns that the reading states."""
        return {name: Kind(kind) for name, kind in self.reading.columns.items()}

    def read_by(self, reading: Reading) -> Texts:
        """Return the columns as another spec says that cells are read."""
        known = self.contents if reading.nulls == self.reading.nulls else {}
        kinds = {name: content.kind for name, content in known.items()}
        kinds |= dict.fromkeys(self.ids, Kind.TEXT)
        return replace(self, reading=reading, contents=known, kinds=kinds, kept={})

    def looked_at(self, columns: Iterable[str], collect: Collect) -> Texts:
        """Return the columns, some of them taken for what their cells are."""
        new = [name for name in columns if name in self.columns and name not in self.contents]
        raw = self.raw.with_columns(pl.col(new).cast(pl.String)) if new else self.raw
        looked = contents(raw, new, collect, nulls=self.nulls, comma=self.comma)
        known = _by_other_columns({**self.contents, **looked}, ask=self.ask)
        kinds = {name: known[name].kind for name in looked}
        return replace(self, contents=known, kinds={**self.kinds, **kinds})

    def taken_as(self, kinds: Mapping[str, Kind]) -> Texts:
        """Return the columns, some of them taken for what is stated."""
        stated = {name: kind for name, kind in kinds.items() if name in self.columns}
        return replace(self, kinds={**self.kinds, **stated})

    def identifying(self, columns: Iterable[str]) -> Texts:
        """Return the columns, some of them as ids."""
        ids = tuple(columns)
        return replace(self.taken_as(dict.fromkeys(ids, Kind.TEXT)), ids=(*self.ids, *ids))

    def typed(self) -> pl.LazyFrame:
        """Return the table with its text as what it is taken for."""
        read = []
        for name in self.columns:
            kind, content = self.kinds.get(name, Kind.TEXT), self.contents.get(name)
            if kind is Kind.TEXT and not self.typeless:
                continue
            text = pl.col(name).cast(pl.String)
            if content is None or not content.bare:
                kept = self._kept(name)
                text = cleaned(text, [marker for marker in self.nulls if marker not in kept])
            read.append(converted(text, kind).alias(name))
        return self.raw.with_columns(read) if read else self.raw

    def _kept(self, name: str) -> Collection[str]:
        return self.nulls if name in self.ids else self.kept.get(name, ())

    def thousands(self, columns: Collection[str]) -> dict[str, str]:
        """Return the columns whose thousands other columns show to be such, and their kind."""
        return {
            name: content.kind.value
            for name, content in self.contents.items()
            if name in columns and name not in self.reading.columns and content.kind in _WRITTEN
        }

    def notes(self, columns: Collection[str]) -> list[str]:
        """Say which cells of columns are read as unknown, and which hold thousands."""
        notes, parts = [], []
        for name, content in ((n, self.contents[n]) for n in self.columns if n in self.contents):
            typed = self.typeless or self.kinds.get(name, Kind.TEXT) is not Kind.TEXT
            counts = content.markers.items() if typed and name in columns else ()
            kept = self._kept(name)
            if markers := [f'{n:,} "{marker}"' for marker, n in counts if marker not in kept]:
                parts.append(f"{', '.join(markers)} in {name}")
        if parts:
            notes.append(
                f"Read as unknown: {'; '.join(parts)}. Where one is a value of its own, the spec "
                "says which markers mean nothing, as read: {nulls: []}, or lists it as a category."
            )
        if names := list(self.thousands(columns)):
            sign = self.contents[names[0]].grouped or "."
            notes.append(
                f"Read with thousands, as other columns show the decimal sign: {', '.join(names)}; "
                f"1{sign}234 is 1234. --parse {quote(f'{names[0]}={_GROUPED[sign][0]}')} reads it "
                "as 1.234."
            )
        return notes

    def unlike(self, column: str) -> tuple[str, str] | None:
        """Word what keeps a text column from being numbers, or dates: problem and hint."""
        content = self.contents.get(column)
        if content is None or content.nearly is None or column in self.reading.columns:
            return None
        kind = content.nearly
        option = f"gtmar init --parse {quote(f'{column}={kind}')}"
        if sign := content.grouped:
            what = "dot" if sign == "." else "comma"
            example = f"1{sign}234"
            read = f"read: {{columns: {{{column}: {kind}}}}}"
            return (
                f"numbers whose {what} may be a decimal sign or stand before thousands, {example}",
                f"{option} reads {example} as 1234, in a spec {read}; "
                f"{_GROUPED[sign][0]} in its place as 1.234",
            )
        dates = kind in (Kind.DATE, Kind.DATETIME)
        problem = "dates" if dates else "flags" if kind is Kind.BOOLEAN else "numbers"
        hints = []
        if kind not in _PLAIN:
            problem += f" written as {kind}"
            stated = f"read: {{columns: {{{column}: {kind}}}}}"
            hints.append(f"{option} reads them; in a spec, {stated}")
        if content.other_cells:
            listed = culprits(content.others)
            more = ", ..." if len(content.others) == _SHOWN else ""
            cells = f"{content.other_cells:,} of {content.known:,} cells"
            problem += f" but for {cells}: {listed}{more}"
            marks = quote(",".join(content.others))
            hints.append(f"--nulls {marks} reads these as unknown, beside the usual markers")
        return problem, "; ".join(hints)
