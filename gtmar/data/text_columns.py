"""Text cells as values: markers of nothing, numbers, flags and dates, as Polars expressions.

The one conversion, whatever the text came from: CSV files of any dialect, here or in an object
store, and text columns of formats that have types. A cell either is a value of a kind or null;
nothing is guessed from a cell's neighbours but the kind, which all cells of a column share.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.encode import categories_of
from gtmar.errors import AccountDataError, culprits, nearest
from gtmar.spec.encoders import DaysBeforeEncoder
from gtmar.spec.model import Reading, stated_date

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "NULL_MARKERS",
    "NUMBER_KINDS",
    "SHOWN",
    "TEXT_TYPES",
    "Content",
    "Kind",
    "Texts",
    "as_date",
    "as_number",
    "cleaned",
    "contents",
    "converted",
    "settled",
    "stated_kinds",
    "texts_for",
]


#: What exports write where a value is unknown, beside blanks. Taken so in these spellings alone.
NULL_MARKERS = (
    "NULL",
    "null",
    "Null",
    "None",
    "none",
    "NaN",
    "nan",
    "NAN",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "<NA>",
    "NaT",
    "nil",
    "-",
    "--",
    "\u2013",
    "\u2014",
    "?",
    "\\N",
)
#: Of a column whose known cells are numbers but for a share of at most this many, the others are
#: named.
_FEW = 0.2
#: How many cells of another kind are shown.
SHOWN = 5
#: What stands around an amount: signs and codes of currencies, and blanks.
_CURRENCY = r"(?:\p{Sc}|[A-Z]{3}|US\$|Fr\.|kr\.?|z\u0142)"
_BLANKS = "[ \u00a0\u202f]*"


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
    #: ``12,5`` is 12.5.
    DECIMAL_COMMA = "decimal-comma"
    #: ``$1,234.50`` is 1234.5.
    MONEY = "money"
    #: ``1.234,50 €`` is 1234.5.
    MONEY_COMMA = "money-comma"


#: Kinds that are numbers.
NUMBER_KINDS = (
    Kind.INTEGER,
    Kind.NUMBER,
    Kind.PERCENT,
    Kind.DECIMAL_COMMA,
    Kind.MONEY,
    Kind.MONEY_COMMA,
)


def cleaned(text: pl.Expr, nulls: Collection[str] = NULL_MARKERS) -> pl.Expr:
    """Return cells without blanks around them, null where nothing or a marker of nothing is left.

    Parameters
    ----------
    text
        Cells, as text.
    nulls
        The markers; a cell of blanks is null in any case.
    """
    bare = text.str.strip_chars()
    return pl.when(~bare.is_in(["", *nulls])).then(bare)


def as_number(text: pl.Expr) -> pl.Expr:
    """Return cells as doubles, null where one is no number.

    Parameters
    ----------
    text
        Cells without blanks around them.
    """
    return text.cast(pl.Float64, strict=False)


def as_date(text: pl.Expr) -> pl.Expr:
    """Return cells such as ``2026-01-31`` as days, null where one isn't written so.

    Parameters
    ----------
    text
        Cells without blanks around them. A time of day behind the date is left out, and so is its
        zone: the day is the one that is written.
    """
    written = text.str.contains(rf"^{_DAY}(?:{_TIME})?$")
    return pl.when(written).then(text.str.slice(0, 10)).str.to_date("%Y-%m-%d", strict=False)


_DAY, _DAY_SIGNS = r"\d{4}-\d{2}-\d{2}", 10
_TIME = r"[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}(?::?\d{2})?))?"


def _as_datetime(text: pl.Expr) -> pl.Expr:
    """Return cells as times by the clock that they were written by, to the second."""
    written = text.str.contains(rf"^{_DAY}(?:{_TIME})?$")
    day = pl.when(written).then(text.str.slice(0, 10))
    seconds = text.str.extract(r"^.{10}[T ](\d{2}:\d{2}(?::\d{2})?)").fill_null("00:00")
    whole = pl.concat_str(day, pl.lit(" "), seconds, pl.lit(":00")).str.slice(0, 19)
    return whole.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)


def _as_flag(text: pl.Expr) -> pl.Expr:
    lowered = text.str.to_lowercase()
    return pl.when(lowered.is_in(["true", "false"])).then(lowered == "true")


def _as_percent(text: pl.Expr) -> pl.Expr:
    number = text.str.extract(rf"^(.*?){_BLANKS}%$")
    # Correctly rounded, as a person reads 45%: the quotient of two doubles.
    amount = as_number(number)
    return amount / (amount * 0.0 + 100.0)


def _as_decimal_comma(text: pl.Expr) -> pl.Expr:
    number = text.str.extract(r"^([+-]?\d+(?:,\d+)?)$")
    return as_number(number.str.replace(",", ".", literal=True))


def _as_money(text: pl.Expr, *, thousands: str, decimal: str) -> pl.Expr:
    """Read an amount; its currency may stand on either side, and a debit in brackets."""
    amount = rf"\d{{1,3}}(?:{thousands}\d{{3}})+(?:{decimal}\d+)?|\d+(?:{decimal}\d+)?"
    sign = r"(?P<sign>[-+\u2212(]?)"
    pattern = (
        rf"^{sign}{_BLANKS}{_CURRENCY}?{_BLANKS}(?P<inner>-?)(?P<amount>{amount})"
        rf"{_BLANKS}{_CURRENCY}?{_BLANKS}\)?$"
    )
    parts = text.str.extract_groups(pattern)
    plain = parts.struct.field("amount").str.replace_all(thousands, "")
    number = as_number(plain.str.replace(decimal, "."))
    below = parts.struct.field("sign").is_in(["-", "\u2212", "("])
    below = below ^ (parts.struct.field("inner") == "-")
    return pl.when(below).then(-number).otherwise(number)


_CONVERSIONS: dict[Kind, Callable[[pl.Expr], pl.Expr]] = {
    Kind.TEXT: lambda text: text,
    Kind.INTEGER: lambda text: text.cast(pl.Int64, strict=False),
    Kind.NUMBER: as_number,
    Kind.BOOLEAN: _as_flag,
    Kind.DATE: lambda text: as_date(pl.when(text.str.len_chars() == _DAY_SIGNS).then(text)),
    Kind.DATETIME: _as_datetime,
    Kind.PERCENT: _as_percent,
    Kind.DECIMAL_COMMA: _as_decimal_comma,
    Kind.MONEY: lambda text: _as_money(text, thousands="[, '\u00a0\u202f\u2019]", decimal=r"\."),
    Kind.MONEY_COMMA: lambda text: _as_money(
        text, thousands="[. '\u00a0\u202f\u2019]", decimal=","
    ),
}


def converted(text: pl.Expr, kind: Kind) -> pl.Expr:
    """Return cells as values of a kind, null where one is none.

    Parameters
    ----------
    text
        What `cleaned` gave.
    kind
        The kind.
    """
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


#: Kinds that are looked for, the narrowest first.
_PLAIN = (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN, Kind.DATE, Kind.DATETIME)
_WRITTEN = (Kind.PERCENT, Kind.MONEY, Kind.MONEY_COMMA)
#: Numbers with a 0 before them are codes, as 00012 is.
_CODE = r"^[+-]?0\d"
#: What shows that a comma is a decimal one: 1,234 may be a thousand.
_FRACTION = r"^[+-]?\d+,(?:\d{1,2}|\d{4,})$"
#: Rows by whose cells kinds are chosen that all rows are then held against.
_HEAD = 10_000


def contents(
    lazy: pl.LazyFrame,
    columns: Iterable[str],
    collect: Callable[[pl.LazyFrame], pl.DataFrame],
    *,
    nulls: Collection[str] = NULL_MARKERS,
    comma: bool = False,
) -> dict[str, Content]:
    """Say of text columns what their cells are, all rows being asked.

    Parameters
    ----------
    lazy
        A table.
    columns
        Its text columns to be looked at.
    collect
        Runs a query over it.
    nulls
        Markers of nothing.
    comma
        Whether 12,5 may be a number.

    Notes
    -----
    Cost: the first rows, then one streaming pass over columns that may be more than text; another
    where a column is a number but for a few cells.
    """
    names = list(columns)
    if not names:
        return {}
    head = collect(lazy.select(names).head(_HEAD)).lazy()
    likely = _counts(head, names, pl.LazyFrame.collect, nulls, comma=comma)
    asked = {name: _candidates(count) for name, count in likely.items()}
    counted = _counts(lazy, names, collect, nulls, asked=asked, comma=comma)
    found = {name: _content(count, asked[name]) for name, count in counted.items()}
    few = {name: each for name, each in found.items() if each.nearly is not None}
    if few:
        shown = [
            _others(name, each.nearly, nulls).implode().alias(name)
            for name, each in few.items()
            if each.nearly is not None
        ]
        row = collect(lazy.select(shown)).row(0, named=True)
        for name, each in few.items():
            found[name] = Content(
                each.kind, each.known, each.markers, each.nearly, tuple(row[name]), each.other_cells
            )
    return found


def _others(name: str, kind: Kind, nulls: Collection[str]) -> pl.Expr:
    text = cleaned(pl.col(name), nulls)
    strange = text.filter(text.is_not_null() & converted(text, kind).is_null())
    return strange.unique(maintain_order=True).head(SHOWN)


def _counts(
    lazy: pl.LazyFrame,
    names: list[str],
    collect: Callable[[pl.LazyFrame], pl.DataFrame],
    nulls: Collection[str],
    *,
    asked: dict[str, tuple[Kind, ...]] | None = None,
    comma: bool,
) -> dict[str, dict[str, Any]]:
    """Count by column the cells that are known, codes, markers, and of each kind asked for."""
    every = (*_PLAIN, *_WRITTEN, *([Kind.DECIMAL_COMMA] if comma else []))
    wanted = []
    for i, name in enumerate(names):
        text = cleaned(pl.col(name), nulls)
        kinds = every if asked is None else asked[name]
        wanted.append(text.count().alias(f"{i}.known"))
        wanted += [converted(text, kind).count().alias(f"{i}.{kind}") for kind in kinds]
        if Kind.INTEGER in kinds or Kind.NUMBER in kinds:
            wanted.append(text.str.contains(_CODE).sum().alias(f"{i}.codes"))
        if Kind.DECIMAL_COMMA in kinds:
            wanted.append(text.str.contains(_FRACTION).sum().alias(f"{i}.fractions"))
        bare = pl.col(name).str.strip_chars()
        markers = bare.filter(bare.is_in(list(nulls))).value_counts(sort=True, name="cells")
        wanted.append(markers.implode().alias(f"{i}.markers"))
    row = collect(lazy.select(wanted)).row(0, named=True)
    counts: list[dict[str, Any]] = [{} for _ in names]
    for key, value in row.items():
        place, _, what = key.partition(".")
        counts[int(place)][what] = value or 0
    for name, count in zip(names, counts, strict=True):
        count["markers"] = {each[name]: each["cells"] for each in count["markers"] or ()}
    return dict(zip(names, counts, strict=True))


def _candidates(count: dict[str, Any]) -> tuple[Kind, ...]:
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


def _content(count: dict[str, Any], asked: tuple[Kind, ...]) -> Content:
    """Choose a column's kind: the narrowest that all of its known cells are of."""
    known = count["known"]
    markers = count["markers"]
    if not known or count.get("codes"):
        return Content(Kind.TEXT, known, markers)
    plain = (*_PLAIN, Kind.DECIMAL_COMMA) if count.get("fractions") else _PLAIN
    for kind in plain:
        if kind in asked and count[kind] == known:
            return Content(kind, known, markers)
    best = max(asked, key=lambda kind: count[kind], default=None)
    if best is None or count[best] < (1 - _FEW) * known:
        return Content(Kind.TEXT, known, markers)
    return Content(Kind.TEXT, known, markers, best, (), known - count[best])


#: Types of columns that hold text.
TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)
_DATES = (Kind.DATE, Kind.DATETIME)
_COMMA = Kind.DECIMAL_COMMA


@dataclass(frozen=True)
class Texts:
    """Columns of text, and what each is taken for."""

    #: The table, with `columns` as the source has them.
    raw: pl.LazyFrame
    columns: tuple[str, ...]
    #: Whether the source's format has no types, so that markers of nothing stand for null.
    typeless: bool
    #: Whether 12,5 may be a number.
    comma: bool = False
    reading: Reading = field(default_factory=Reading)
    #: What the cells of columns are, where that was looked at.
    found: Mapping[str, Content] = field(default_factory=dict)
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

    def read_by(self, reading: Reading) -> Texts:
        """Return the columns as another spec says that cells are read."""
        known = self.found if reading.nulls == self.reading.nulls else {}
        kinds = {name: content.kind for name, content in known.items()}
        kinds |= dict.fromkeys(self.ids, Kind.TEXT)
        return replace(self, reading=reading, found=known, kinds=kinds, kept={})

    def looked_at(
        self, columns: Iterable[str], collect: Callable[[pl.LazyFrame], pl.DataFrame]
    ) -> Texts:
        """Return the columns, some of them taken for what their cells are."""
        new = [name for name in columns if name in self.columns and name not in self.found]
        raw = self.raw.with_columns(pl.col(new).cast(pl.String)) if new else self.raw
        looked = contents(raw, new, collect, nulls=self.nulls, comma=self.comma)
        found = {**self.found, **looked}
        kinds = {**self.kinds, **{name: content.kind for name, content in looked.items()}}
        return replace(self, found=found, kinds=kinds)

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
            kind = self.kinds.get(name, Kind.TEXT)
            if kind is Kind.TEXT and not self.typeless:
                continue
            kept = self.nulls if name in self.ids else self.kept.get(name, ())
            nulls = [marker for marker in self.nulls if marker not in kept]
            text = cleaned(pl.col(name).cast(pl.String), nulls)
            read.append(converted(text, kind).alias(name))
        return self.raw.with_columns(read) if read else self.raw

    def markers_note(self, columns: Collection[str]) -> str | None:
        """Say which cells of columns are read as unknown; None where none are."""
        parts = []
        for name in self.columns:
            content = self.found.get(name)
            if name not in columns or content is None:
                continue
            if not self.typeless and self.kinds.get(name, Kind.TEXT) is Kind.TEXT:
                continue
            kept = self.nulls if name in self.ids else self.kept.get(name, ())
            markers = {m: n for m, n in content.markers.items() if m not in kept}
            if markers:
                listed = ", ".join(f'{count:,} "{marker}"' for marker, count in markers.items())
                parts.append(f"{listed} in {name}")
        if not parts:
            return None
        return (
            f"Read as unknown: {'; '.join(parts)}. Where one is a value of its own, the spec says "
            "which markers mean nothing, as read: {nulls: []}, or lists it as a category."
        )

    def unlike(self, column: str) -> tuple[str, str] | None:
        """Word what keeps a text column from being numbers, or dates: problem and hint."""
        content = self.found.get(column)
        if content is None or content.nearly is None:
            return None
        kind = content.nearly
        plain = kind in (Kind.INTEGER, Kind.NUMBER)
        what = "dates" if kind in _DATES else "flags" if kind is Kind.BOOLEAN else "numbers"
        problem, hints = what, []
        if kind in NUMBER_KINDS and not plain:
            problem += f" written as {kind}"
            stated = f"read: {{columns: {{{column}: {kind}}}}}"
            hints.append(f"--parse {column}={kind} reads them; in a spec, {stated}")
        if content.other_cells:
            listed = culprits(content.others)
            more = ", ..." if len(content.others) == SHOWN else ""
            cells = f"{content.other_cells:,} of {content.known:,} cells"
            problem += f" but for {cells}: {listed}{more}"
            marks = ",".join(content.others)
            hints.append(f'--nulls "{marks}" reads these as unknown, beside the usual markers')
        return problem, "; ".join(hints)


def stated_kinds(reading: Reading) -> dict[str, Kind]:
    """Return the kinds of columns that a spec states."""
    return {name: Kind(kind) for name, kind in reading.columns.items()}


def settled(table: AccountTable, reading: Reading) -> Reading:
    """Return how cells are to be read, money's decimal sign chosen by the cells.

    Raises
    ------
    AccountDataError
        If a column that is named isn't there or isn't text, or its cells aren't written so.
    """
    wrong: list[str] = []
    columns: dict[str, str] = dict(reading.columns)
    raw = table.frame if table.texts is None else table.texts.raw
    schema = raw.collect_schema()
    for name, stated in reading.columns.items():
        if name not in schema:
            likely = nearest(name, schema.names())
            wrong.append(f'no column "{name}"' + (f', did you mean "{likely}"?' if likely else ""))
            continue
        if schema[name] not in TEXT_TYPES:
            wrong.append(f'column "{name}" is {schema[name]} and no text')
            continue
        ways = [Kind(stated)]
        if ways == [Kind.MONEY]:
            ways.append(Kind.MONEY_COMMA)
        nulls = NULL_MARKERS if reading.nulls is None else reading.nulls
        text = cleaned(pl.col(name).cast(pl.String), nulls)
        read = [converted(text, way) for way in ways]
        odd = [(text.is_not_null() & each.is_null()) for each in read]
        counts = raw.select(
            text.count().alias("known"),
            *(each.sum().alias(f"odd{i}") for i, each in enumerate(odd)),
            (read[0] != read[-1]).sum().alias("unlike"),
            text.filter(odd[0]).unique(maintain_order=True).head(5).implode().alias("shown"),
        )
        found = counts.collect(engine="streaming").row(0, named=True)
        fitting = [way for i, way in enumerate(ways) if not found[f"odd{i}"]]
        if not fitting:
            wrong.append(
                f'column "{name}": {found["odd0"]:,} of {found["known"]:,} cells are not written '
                f"as {stated}: {culprits(found['shown'])}"
            )
        elif len(fitting) > 1 and found["unlike"]:
            wrong.append(
                f'column "{name}": 1.234 may be a thousand or not, and no cell tells; say '
                f"{name}=number or {name}={Kind.MONEY_COMMA}"
            )
        else:
            columns[name] = fitting[0].value
    if wrong:
        raise AccountDataError(
            f"{table.source}: --parse can't read {'; '.join(wrong)}",
            hint="--parse mrr=money; kinds are text, number, percent, decimal-comma, money, "
            "money-comma",
        )
    return Reading.model_validate({"nulls": reading.nulls, "columns": columns})


def texts_for(
    texts: Texts,
    spec: ScoringSpec,
    present: Collection[str],
    collect: Callable[[pl.LazyFrame], pl.DataFrame],
) -> Texts:
    """Return text columns taken for what a spec reads them as.

    Parameters
    ----------
    texts
        The columns.
    spec
        The spec.
    present
        The table's columns.
    collect
        Runs a query over the table.
    """
    categories: dict[str, list[str]] = {}
    values: set[str] = {*spec.outcomes.model_dump().values()}
    dates = {spec.as_of} if spec.as_of else set()
    if spec.window is not None:
        named = [text for text in spec.window.model_dump().values() if text is not None]
        dates |= {text for text in named if not _is_date(text)}
    for name, feature in spec.features.items():
        column = feature.column or name
        listed = categories_of(feature.encode)
        if listed is not None:
            categories.setdefault(column, []).extend(listed)
        elif isinstance(feature.encode, DaysBeforeEncoder):
            dates.add(column)
        else:
            values.add(column)
    lowered = {name.lower() for name in values}
    values = {name for name in present if name.strip().lower() in lowered} - set(categories)
    texts = texts.looked_at(sorted((values | dates) & set(texts.columns)), collect)
    read = {name: texts.found[name].kind for name in values | dates if name in texts.found}
    # What order a date is written in, and in whose time zone, the spec says to `dates`.
    read |= dict.fromkeys(dates, Kind.TEXT)
    # A category stays the text that it is, but for numbers of another country's spelling.
    commas = {n for n in categories if n in texts.found and texts.found[n].kind is _COMMA}
    kinds = {**read, **{n: _COMMA if n in commas else Kind.TEXT for n in categories}}
    codes = [name for name in values if _of_codes(texts, name)]
    if codes:
        # What looks like codes, 007, is to be numbers here: a number if all cells are.
        number = {name: _all_numbers(texts, name) for name in codes}
        row = collect(texts.raw.select(**number)).row(0, named=True)
        kinds |= {name: Kind.NUMBER for name, whole in row.items() if whole}
    kinds |= stated_kinds(texts.reading)
    ids = [spec.id] if spec.id else []
    labels = {getattr(spec.outcomes, role).lower(): spec.labels[role] for role in spec.labels}
    words = {name: list(labels.get(name.strip().lower(), ())) for name in values}
    return replace(texts.taken_as(kinds), kept={**words, **categories}).identifying(ids)


def _of_codes(texts: Texts, name: str) -> bool:
    content = texts.found.get(name)
    return (
        content is not None
        and content.known > 0
        and content.kind is Kind.TEXT
        and content.nearly is None
    )


def _all_numbers(texts: Texts, name: str) -> pl.Expr:
    text = cleaned(pl.col(name).cast(pl.String), texts.nulls)
    return (text.is_null() | converted(text, Kind.NUMBER).is_not_null()).all()


def _is_date(text: str) -> bool:
    try:
        return stated_date(text) is not None
    except ValueError:
        return True
