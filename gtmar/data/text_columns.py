"""Conversion of text cells to nulls, numbers, flags and dates, as Polars expressions.

All text is converted here: CSV files of any dialect, names of folders, and text columns of formats
with types. A cell becomes a value of its column's kind, or null.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.errors import culprits
from gtmar.spec.model import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    #: Runs a query and returns its result.
    Collect = Callable[[pl.LazyFrame], pl.DataFrame]

__all__ = [
    "HEADER_AGAIN",
    "NULL_MARKERS",
    "ONE_CURRENCY",
    "TEXT_TYPES",
    "Content",
    "Kind",
    "Texts",
    "cleaned",
    "contents",
    "converted",
    "mixed_currencies",
    "names_currency",
]


#: Null markers: what exports write for unknown values, besides blanks. Case matters.
NULL_MARKERS = (
    *("NULL", "null", "Null", "None", "none", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "#N/A"),
    *("<NA>", "NaT", "nil", "-", "--", "\u2013", "\u2014", "?", "\\N"),
)
#: Types of columns that hold text.
TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)
#: The hint where a column's name is among its cells.
HEADER_AGAIN = "the header stands among the rows again: leave such rows out of the table"
#: The hint where a column has amounts in several currencies.
ONE_CURRENCY = "convert them to one currency first, in the export or by a --query"
#: Largest share of known cells of another kind at which a column counts as nearly of a kind, so
#: that messages name these cells.
_FEW = 0.2
#: Number of cells of another kind that a message names.
_SHOWN = 5
#: Signs and codes of currencies, and the blanks around an amount.
_CURRENCY = r"(?:\p{Sc}|[A-Z]{3}|US\$|Fr\.|kr\.?|z\u0142)"
#: Codes of the signs that stand for one currency as a rule; a column may have either.
_CODES = {"$": "USD", "US$": "USD", "\u20ac": "EUR", "\u00a3": "GBP", "\u00a5": "JPY"}
_CODES |= {"Fr.": "CHF", "kr.": "kr", "z\u0142": "PLN"}
#: Codes of the currencies that are written as kr.
_CROWNS = ("SEK", "NOK", "DKK", "ISK")
_BLANKS = "[ \u00a0\u202f]*"
_DAY = r"\d{4}-\d{2}-\d{2}"
_TIME = r"[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}(?::?\d{2})?))?"


class Kind(StrEnum):
    """The kind of value that a text column holds."""

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


#: Kinds that are detected, the narrowest first, and kinds of numbers that must be requested, unless
#: other columns settle them.
_PLAIN = (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN, Kind.DATE, Kind.DATETIME)
_WRITTEN = (Kind.PERCENT, Kind.PERCENT_COMMA, Kind.MONEY, Kind.MONEY_COMMA)


def cleaned(text: pl.Expr, nulls: Collection[str] = NULL_MARKERS) -> pl.Expr:
    """Return cells without surrounding blanks; null where empty or a null marker."""
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
    """Return cells as timestamps to the second, in their own local time: offsets are ignored."""
    day = pl.when(text.str.contains(rf"^{_DAY}(?:{_TIME})?$")).then(text.str.slice(0, 10))
    seconds = text.str.extract(r"^.{10}[T ](\d{2}:\d{2}(?::\d{2})?)").fill_null("00:00")
    whole = pl.concat_str(day, pl.lit(" "), seconds, pl.lit(":00")).str.slice(0, 19)
    return whole.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)


def _as_percent(text: pl.Expr, decimal: str) -> pl.Expr:
    """Return percentages as shares.

    The text is parsed with an exponent, since 94.7 / 100 is not the double nearest to 0.947.
    """
    digits = rf"\d+(?:{decimal}\d*)?|{decimal}\d+"
    amount = text.str.extract(rf"^([+-]?(?:{digits})){_BLANKS}%$")
    return _as_number(amount.str.replace(",", ".", literal=True) + "e-2")


def _as_decimal_comma(text: pl.Expr) -> pl.Expr:
    number = text.str.extract(r"^([+-]?\d+(?:,\d+)?)$")
    return _as_number(number.str.replace(",", ".", literal=True))


def _as_money(text: pl.Expr, *, thousands: str, decimal: str) -> pl.Expr:
    """Return amounts, with the currency on either side; one in brackets is negative."""
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
    """Return cells from `cleaned` as values of a kind; null where a cell is of another kind."""
    return _CONVERSIONS[kind](text)


def names_currency(column: str) -> bool:
    """Whether a column of text is named like the currency of amounts beside it.

    Examples
    --------
    >>> names_currency("CurrencyIsoCode"), names_currency("plan")
    (True, False)
    """
    return any(word in column.lower() for word in ("currency", "währung", "waehrung", "valuta"))


def mixed_currencies(
    lazy: pl.LazyFrame, columns: Iterable[str], collect: Collect, nulls: Collection[str]
) -> dict[str, str]:
    """Return the problem of each column of money that has several currencies.

    Amounts of several currencies can't be added up or compared. Cells without a currency are taken
    to be in that of the others.
    """
    counts = []
    for name in columns:
        text = cleaned(pl.col(name).cast(pl.String), nulls)
        # A code says more than a sign beside it: "$ 5 CAD".
        currency = pl.coalesce(text.str.extract(r"([A-Z]{3})"), text.str.extract(f"({_CURRENCY})"))
        codes = currency.replace(_CODES).drop_nulls()
        counts.append(codes.value_counts(sort=True, name="cells").implode().alias(name))
    problems = {}
    for name, found in collect(lazy.select(counts)).row(0, named=True).items() if counts else ():
        shown = _with_crowns(Counter({each[name]: each["cells"] for each in found})).most_common()
        if len(shown) > 1:
            listed = ", ".join(f"{cells:,} of {code}" for code, cells in shown[:_SHOWN])
            more = ", ..." if len(shown) > _SHOWN else ""
            problems[name] = f"amounts in {len(shown):,} currencies: {listed}{more}"
    return problems


def _with_crowns(cells: Counter[str]) -> Counter[str]:
    """Count kr, which several countries write, as the one crown whose code the column has."""
    crowns = [code for code in _CROWNS if code in cells]
    if len(crowns) == 1:
        cells[crowns[0]] += cells.pop("kr", 0)
    return cells


@dataclass(frozen=True)
class Content:
    """The detected content of a text column."""

    #: Kind of all known cells; `Kind.TEXT` where they have no other in common.
    kind: Kind
    #: Number of cells that are neither blank nor a null marker.
    known: int = 0
    #: Number of cells by null marker.
    markers: dict[str, int] = field(default_factory=dict)
    #: Kind of most cells, where `kind` is text because of a few others, or of an open sign.
    nearly: Kind | None = None
    #: The first of the other cells.
    others: tuple[str, ...] = ()
    #: Number of the other cells.
    other_cells: int = 0
    #: Whether every known cell parses as a number without cleaning.
    bare: bool = field(default=False, compare=False)
    #: The decimal sign that its cells show.
    decimal: str | None = field(default=None, compare=False)
    #: The sign before exactly three digits in every cell that has it: 1.234 may be a thousand.
    grouped: str | None = field(default=None, compare=False)
    #: Whether so many such cells among small whole numbers suggest thousands.
    often: bool = field(default=False, compare=False)


#: Numbers with a leading zero are codes, such as 00012.
_CODE = r"^[+-]?0\d"
#: Rows by which likely kinds are chosen, before all rows are checked for these kinds only.
_HEAD = 10_000
#: Decimals are written without trailing zeros, so this many with exactly three digits are unlikely:
#: they are thousands.
_OFTEN = 50
_SIGNS = {Kind.NUMBER: ".", Kind.DECIMAL_COMMA: ","}
#: Kind of numbers such as 1.234, by sign: if it is a decimal sign, and if it separates thousands.
_GROUPED = {".": (Kind.NUMBER, Kind.MONEY_COMMA), ",": (Kind.DECIMAL_COMMA, Kind.MONEY)}


def contents(
    lazy: pl.LazyFrame,
    columns: Iterable[str],
    collect: Collect,
    *,
    nulls: Collection[str] = NULL_MARKERS,
    comma: bool = False,
) -> dict[str, Content]:
    """Detect the content of text columns from all of their rows.

    Parameters
    ----------
    lazy
        The table.
    columns
        Names of text columns.
    collect
        Runs a query over the table.
    nulls
        Null markers.
    comma
        Whether 12,5 may be a number.

    Notes
    -----
    Cost: a query over the first 10,000 rows, and one streaming pass, which settles columns of plain
    numbers. Other columns take a second pass, and columns whose cells have no plain kind in common
    up to two more.
    """
    names = list(columns)
    if not names:
        return {}
    every = (*_PLAIN, *_WRITTEN, *([Kind.DECIMAL_COMMA] if comma else []))
    head = collect(lazy.select(names).head(_HEAD)).lazy()
    likely = _bare_numbers(head, names, pl.LazyFrame.collect, nulls)
    settled = _bare_numbers(lazy, likely, collect, nulls)
    # Most columns show their decimal sign in the first rows, which saves a pass.
    settled = _with_sign(lazy, _with_sign(head, settled, pl.LazyFrame.collect), collect)
    rest = [name for name in names if name not in settled]
    counts = _counts(head, dict.fromkeys(rest, every), pl.LazyFrame.collect, nulls)
    candidates = {name: _candidates(count) for name, count in counts.items()}
    for left_out in (_WRITTEN, ()):
        # The patterns of money are slow, so they are tried only where no plain kind fits.
        kinds = {
            name: tuple(kind for kind in candidates[name] if kind not in left_out)
            for name in rest
            if name not in settled
        }
        for name, count in _counts(lazy, kinds, collect, nulls).items():
            content = _content(count, kinds[name])
            if (
                kinds[name] == candidates[name]
                or content.kind is not Kind.TEXT
                or count.get("codes")
            ):
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
    """Return the content of columns whose known cells all parse as numbers without cleaning."""
    markers = _as_number(pl.lit(pl.Series(list(nulls), dtype=pl.String)))
    names = list(columns)
    if not names or pl.select(markers.is_not_nan().any()).item():
        return {}
    x = pl.col(names)
    counts = {
        "known": x.count(),
        "integers": converted(x, Kind.INTEGER).count(),
        # NaN may be a null marker or an odd cell, so a column with it is not settled here.
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
    """Return contents with the sign of fractional columns examined, where it isn't known yet."""
    fractions = [n for n, c in numeric.items() if c.kind is Kind.NUMBER and not c.decimal]
    if not fractions:
        return dict(numeric)
    row = collect(lazy.select(_signs(pl.col(n), ".").alias(n) for n in fractions)).row(0)
    signs = {n: _sign(count, ".") for n, count in zip(fractions, row, strict=True)}
    return {n: replace(content, **signs.get(n, {})) for n, content in numeric.items()}


def _signs(text: pl.Expr, sign: str) -> pl.Expr:
    """Return the counts for `_sign`.

    They are the number of cells with the sign and of those where it may separate thousands, and
    whether there are whole numbers of up to three digits, and of four or more.
    """
    return pl.struct(
        signed=text.str.contains(sign, literal=True).sum(),
        grouped=text.str.contains(rf"^[+-]?[1-9]\d{{0,2}}[{sign}]\d{{3}}$").sum(),
        short=text.str.contains(r"^[+-]?[1-9]\d{0,2}$").any(),
        long=text.str.contains(r"^[+-]?\d{4,}$").any(),
    )


def _sign(count: Mapping[str, Any], sign: str) -> dict[str, Any]:
    """Return `Content` fields for a sign: decimal if any cell shows that it can't group digits."""
    signed, grouped, short, long = count.values()
    if not signed:
        return {}
    # A column that separates thousands has no cell such as 1234.
    if signed > grouped or long:
        return {"decimal": sign, "grouped": None}
    return {"grouped": sign, "often": short and signed >= _OFTEN}


def _by_other_columns(contents: Mapping[str, Content], *, ask: bool) -> dict[str, Content]:
    """Choose the kind of columns with numbers such as 1.234 by the decimal sign of other columns.

    Without another column to go by, a dot is a decimal sign, unless `ask` is set. A column stays
    text if its own cells and the other columns disagree, or nothing tells.
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
    """Return counts by column: known cells, null markers, codes, and cells of each given kind."""
    wanted = []
    for i, (name, candidates) in enumerate(kinds.items()):
        text, bare = cleaned(pl.col(name), nulls), pl.col(name).str.strip_chars()
        markers = bare.filter(bare.is_in(list(nulls))).value_counts(sort=True, name="cells")
        counts = {"known": text.count(), "markers": markers.implode()}
        counts |= {kind: converted(text, kind).count() for kind in candidates}
        if Kind.INTEGER in candidates or Kind.NUMBER in candidates:
            counts["codes"] = text.str.contains(_CODE).sum()
        counts |= {sign: _signs(text, sign) for kind, sign in _SIGNS.items() if kind in candidates}
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
    """Return the kinds that a column may have, from the counts of its first rows."""
    known = count["known"]
    if not known:
        return tuple(kind for kind in Kind if kind in count)
    likely = [kind for kind in Kind if count.get(kind, 0) >= (1 - 2 * _FEW) * known]
    if Kind.INTEGER in likely and Kind.NUMBER not in likely:
        likely.append(Kind.NUMBER)
    if Kind.DATE in likely or Kind.DATETIME in likely:
        likely = [Kind.DATE, Kind.DATETIME]
    return tuple(likely)


def _content(count: Mapping[str, Any], candidates: Collection[Kind]) -> Content:
    """Return a column's content: its kind is the narrowest that all of its known cells have."""
    known, markers = count["known"], count["markers"]
    if not known or count.get("codes"):
        return Content(Kind.TEXT, known, markers)
    for kind in (*_PLAIN, Kind.DECIMAL_COMMA):
        if kind in candidates and count[kind] == known:
            sign = _sign(count[_SIGNS[kind]], _SIGNS[kind]) if kind in _SIGNS else {}
            return Content(kind, known, markers, **sign)
    best = max(candidates, key=lambda kind: int(count[kind]), default=None)
    if best is None or count[best] < (1 - _FEW) * known:
        return Content(Kind.TEXT, known, markers)
    point, comma = (count.get(kind, 0) for kind in (Kind.MONEY, Kind.MONEY_COMMA))
    decimal = {Kind.MONEY: "." * (point > comma), Kind.MONEY_COMMA: "," * (comma > point)}
    others = known - count[best]
    return Content(Kind.TEXT, known, markers, best, (), others, decimal=decimal.get(best) or None)


@dataclass(frozen=True)
class Texts:
    """The text columns of a table, and the kind that each is converted to."""

    #: The table, with `columns` as the source has them.
    raw: pl.LazyFrame
    columns: tuple[str, ...]
    #: Whether the source's format has no types, as CSV, so that null markers stand for null.
    typeless: bool
    #: Whether 12,5 may be a number.
    comma: bool = False
    #: Whether 1.234 stays text where no other cell tells what its dot means.
    ask: bool = False
    reading: Reading = field(default_factory=Reading)
    #: Detected content by column, for the columns examined so far.
    contents: Mapping[str, Content] = field(default_factory=dict)
    #: Kind by column to convert to. Without one, a column is text; in a format with types it is
    #: left as it is.
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    #: Columns of ids. They stay text, and null markers in them are ids.
    ids: tuple[str, ...] = ()
    #: Null markers that are values in a column, since the spec lists them as categories or labels.
    kept: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def nulls(self) -> tuple[str, ...]:
        """The null markers."""
        return NULL_MARKERS if self.reading.nulls is None else self.reading.nulls

    def in_several_currencies(self, columns: Collection[str], collect: Collect) -> dict[str, str]:
        """Return the problem of each of some columns that is money of several currencies."""
        money = (Kind.MONEY, Kind.MONEY_COMMA)
        names = [n for n in self.columns if n in columns and self.kinds.get(n) in money]
        return mixed_currencies(self.raw, names, collect, self.nulls)

    @property
    def stated(self) -> dict[str, Kind]:
        """The kinds of columns that the reading states."""
        return {name: Kind(kind) for name, kind in self.reading.columns.items()}

    def read_by(self, reading: Reading) -> Texts:
        """Return the columns with another reading; detected content is kept if markers agree."""
        known = self.contents if reading.nulls == self.reading.nulls else {}
        kinds = {name: content.kind for name, content in known.items()}
        kinds |= dict.fromkeys(self.ids, Kind.TEXT)
        return replace(self, reading=reading, contents=known, kinds=kinds, kept={})

    def looked_at(self, columns: Iterable[str], collect: Collect) -> Texts:
        """Return the columns with some of them examined, and converted to the detected kind."""
        new = [name for name in columns if name in self.columns and name not in self.contents]
        raw = self.raw.with_columns(pl.col(new).cast(pl.String)) if new else self.raw
        looked = contents(raw, new, collect, nulls=self.nulls, comma=self.comma)
        known = _by_other_columns({**self.contents, **looked}, ask=self.ask)
        kinds = {name: known[name].kind for name in looked}
        return replace(self, contents=known, kinds={**self.kinds, **kinds})

    def taken_as(self, kinds: Mapping[str, Kind]) -> Texts:
        """Return the columns with other kinds for some of them."""
        stated = {name: kind for name, kind in kinds.items() if name in self.columns}
        return replace(self, kinds={**self.kinds, **stated})

    def identifying(self, columns: Iterable[str]) -> Texts:
        """Return the columns with some of them marked as ids, which stay text."""
        ids = tuple(columns)
        return replace(self.taken_as(dict.fromkeys(ids, Kind.TEXT)), ids=(*self.ids, *ids))

    def typed(self) -> pl.LazyFrame:
        """Return the table with its text columns converted to their kinds."""
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
        """Return the kind of columns read with thousands because of other columns' decimal sign."""
        return {
            name: content.kind.value
            for name, content in self.contents.items()
            if name in columns and name not in self.reading.columns and content.kind in _WRITTEN
        }

    def notes(self, columns: Collection[str]) -> list[str]:
        """Return notes on cells read as null, and on columns read with thousands separators."""
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
        """Return why a text column was not converted, as problem and hint.

        None for a column without a likely kind, and for one whose kind the reading states.
        """
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
            again = content.others == (column.strip(),)
            unknown = f"--nulls {marks} reads these as unknown, beside the usual markers"
            hints.append(HEADER_AGAIN if again else unknown)
        return problem, "; ".join(hints)
