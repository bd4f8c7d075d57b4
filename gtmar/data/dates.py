"""Columns of dates as days: from dates, moments and texts, in one stated time zone.

A moment with a time zone counts by its day in the spec's zone; without one it counts as it stands.
A text is read as it says, year first; any other order must be stated, or follow from the column
itself: 25/12/2026 can only be a day first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.scan import collect
from gtmar.data.text_columns import cleaned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from gtmar.data.scan import AccountTable

__all__ = ["ENDLESS", "endless", "looks_like_dates", "with_days"]

#: Days since 1970 of the first day of year 1 and the last of year 9999.
_FIRST, _LAST = -719_162, 2_932_896
#: Where infinite dates, and those beyond these years, are kept: a day further out.
ENDLESS = (_FIRST - 1, _LAST + 1)
_INFINITY = 2**63 - 1
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

_DATE_LIKE = r"^(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})(?:[T ].*)?$"
#: How databases write the end of all time.
_INFINITE = ("infinity", "+infinity", "-infinity", "inf", "-inf")


def endless(name: str) -> pl.Expr:
    """Whether a day that `with_days` gave is infinite, or outside the years 1 to 9999."""
    days = pl.col(name).to_physical()
    return (days < _FIRST) | (days > _LAST)


def looks_like_dates(column: pl.Series) -> bool:
    """Whether all known texts of a column are dates in figures."""
    known = column.cast(pl.String).str.strip_chars().drop_nulls()
    return len(known) > 0 and bool(known.str.contains(_DATE_LIKE).all())


def _text_formats(
    table: AccountTable, columns: Iterable[str], stated: str | None
) -> dict[str, str]:
    """Return a format, or ``iso``, by text column whose cells are all dates written so.

    A form that was stated, as ``%m/%d/%Y``, comes before any that cells show.
    """
    formats = {}
    for name in columns:
        known = _plain(name, table.nulls).drop_nulls()
        text = known.filter(~known.is_in(_INFINITE))
        parts = text.str.extract_groups(r"^(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4})$").struct
        read = text.str.to_date(stated, strict=False) if stated else pl.lit(None)
        asked = table.frame.select(
            iso=_of_iso(text, "UTC").is_not_null().all(),
            stated=read.is_not_null().all(),
            last=text.str.contains(r"^\d{1,2}[-/.]\d{1,2}[-/.]\d{4}$").all(),
            first=parts.field("1").cast(pl.Int32).max(),
            second=parts.field("3").cast(pl.Int32).max(),
            sign=parts.field("2").first(),
            signs=parts.field("2").n_unique(),
        )
        facts = collect(table, asked).row(0, named=True)
        if facts["iso"]:
            formats[name] = "iso"
        elif facts["stated"] and stated:
            formats[name] = stated
        elif stated is None and facts["last"] and facts["signs"] == 1:
            sign, first, second = facts["sign"], facts["first"], facts["second"]
            if 12 < first <= 31 and second <= 12:
                formats[name] = f"%d{sign}%m{sign}%Y"
            elif first <= 12 < second <= 31:
                formats[name] = f"%m{sign}%d{sign}%Y"
    return formats


def with_days(
    table: AccountTable, columns: Iterable[str], *, date_format: str | None, zone: str
) -> AccountTable:
    """Return a table with columns as days, and a note of each that its cells alone explain.

    A column that holds no dates stays as it is, for `contract` to refuse. `date_format` is how
    texts write a date, where that isn't year first; in `zone` days count for moments that have a
    zone. Cost: a pass over the columns of text among them.
    """
    wanted = [name for name in dict.fromkeys(columns) if name in table.schema]
    texts = [name for name in wanted if table.schema[name] == pl.String]
    formats = _text_formats(table, texts, date_format)
    days: dict[str, pl.Expr] = {}
    for name in wanted:
        dtype = table.schema[name]
        if isinstance(dtype, pl.Datetime):
            days[name] = _of_moment(pl.col(name), dtype, zone)
        elif dtype == pl.Date:
            days[name] = pl.col(name).to_physical().clip(*ENDLESS).cast(pl.Int32).cast(pl.Date)
        elif name in formats:
            days[name] = _of_text(_plain(name, table.nulls), formats[name], zone)
    notes = [
        f'Column "{name}": dates are read as {form}, since only so all of them are dates.'
        for name, form in formats.items()
        if form not in ("iso", date_format)
    ]
    return replace(
        table,
        frame=table.frame.with_columns(**days),
        schema=pl.Schema({**table.schema, **dict.fromkeys(days, pl.Date())}),
        notes=(*table.notes, *(note for note in notes if note not in table.notes)),
    )


def _of_moment(x: pl.Expr, dtype: pl.Datetime, zone: str) -> pl.Expr:
    # By integers: the library's own way to a date gives up on an infinite moment.
    ticks = x.to_physical()
    days = (ticks // _PER_DAY[dtype.time_unit]).clip(*ENDLESS)
    # Nanoseconds reach no further than the year 2262, where infinity is their last one.
    days = pl.when(ticks >= _INFINITY).then(ENDLESS[1]).otherwise(days)
    days = pl.when(ticks <= -_INFINITY).then(ENDLESS[0]).otherwise(days)
    day = days.cast(pl.Int32).cast(pl.Date)
    if dtype.time_zone is None or zone == "UTC":
        return day
    known = pl.when(days.is_between(_FIRST, _LAST)).then(x)
    local = known.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.date()
    return pl.when(days.is_between(_FIRST, _LAST)).then(local).otherwise(day)


def _of_text(text: pl.Expr, form: str, zone: str) -> pl.Expr:
    day = _of_iso(text, zone) if form == "iso" else text.str.to_date(form, strict=False)
    low, high = (pl.lit(end, dtype=pl.Int32).cast(pl.Date) for end in ENDLESS)
    endless = pl.when(text.str.starts_with("-")).then(low).otherwise(high)
    return pl.when(text.is_in(_INFINITE)).then(endless).otherwise(day)


def _plain(name: str, nulls: Collection[str]) -> pl.Expr:
    return cleaned(pl.col(name), nulls).str.to_lowercase()


def _of_iso(text: pl.Expr, zone: str) -> pl.Expr:
    """Read ISO dates and moments; null what is none."""
    moment = text.str.to_uppercase().str.replace_all(" ", "T", literal=True)
    # As 2026-01-31T10:00:00+02:00, whose seconds and minutes of the zone may be left out.
    offset = moment.str.replace(r"T?(?:Z|UTC)$", "+00:00")
    offset = offset.str.replace(r"(T\d.*?)T?([+-]\d{2})(?::?(\d{2}))?$", "$1$2:${3}00")
    offset = offset.str.replace(r"(:\d{2})00$", "$1")
    offset = offset.str.replace(r"(T\d{2}:\d{2})([+-])", "$1:00$2")
    zoned = offset.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    local = zoned.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.date()
    dashed = moment.str.replace_all("/", "-", literal=True)
    plain = dashed.str.extract(r"^(\d{4}-\d{1,2}-\d{1,2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?$")
    return pl.coalesce(plain.str.to_date("%Y-%m-%d", strict=False), local)
