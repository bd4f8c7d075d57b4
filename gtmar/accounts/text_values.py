"""Text cells as values: markers of nothing, numbers, flags and dates, as Polars expressions.

The one conversion, whatever the text came from: CSV files of any dialect, here or in an object
store, and text columns of formats that have types. A cell either is a value of a kind or null;
nothing is guessed from a cell's neighbours but the kind, which all cells of a column share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = [
    "NULL_MARKERS",
    "NUMBER_KINDS",
    "SHOWN",
    "Content",
    "Kind",
    "as_date",
    "as_number",
    "cleaned",
    "contents",
    "converted",
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
