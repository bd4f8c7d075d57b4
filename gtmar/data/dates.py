"""The dates of an account table that has rows of several days.

Such a table has one row per account and date. The date is a column, or part of its folders' names,
as ``features_asof=2024-07-01``. The user always states which dates to read:
`--at 2024-01-01..2025-01-01`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from gtmar.errors import AccountDataError, UsageError, culprits, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ASOF", "AskedDates", "TableDates", "day_of", "listed"]

#: Default name of the column, or of the key in folders' names, that holds each row's date.
ASOF = "features_asof"
_HINT = "--at 2024-07-01, or --at 2024-01-01..2025-01-01, both ends included"


@dataclass(frozen=True)
class AskedDates:
    """The dates that the user requests: one, or all in a range, both ends included."""

    column: str
    first: date
    last: date

    @classmethod
    def parse(cls, text: str) -> AskedDates:
        """Parse ``2024-07-01`` or ``2024-01-01..2025-01-01``, optionally with ``COLUMN=`` before.

        Raises
        ------
        UsageError
            If the text is no date or range, or the range ends before it begins.

        Examples
        --------
        >>> asked = AskedDates.parse("snapshot=2024-01-01..2024-07-01")
        >>> asked.column, str(asked.first), str(asked.last)
        ('snapshot', '2024-01-01', '2024-07-01')
        """
        column, _, days = text.rpartition("=")
        ends = days.split("..")
        try:
            first, last = date.fromisoformat(ends[0]), date.fromisoformat(ends[-1])
        except ValueError as err:
            raise UsageError(f'--at expects dates, got "{text}": {err}', hint=_HINT) from err
        if len(ends) > 2 or last < first:
            raise UsageError(f'--at expects a first and a last date, got "{text}"', hint=_HINT)
        return cls(column or ASOF, first, last)

    def refuse_absent(self, source: str, schema: pl.Schema) -> None:
        """Raise `AccountDataError` if the table lacks the column, or it can't hold dates."""
        if self.column not in schema:
            likely = nearest(self.column, schema.names())
            raise AccountDataError(
                f'{source}: no column "{self.column}" that says of which date a row is; it has '
                f"{culprits(schema.names())}",
                hint=f"--at {likely or 'COLUMN'}={self.first}..{self.last} names another column",
            )
        dtype = schema[self.column]
        if dtype not in (pl.Date, pl.Datetime, pl.String):
            raise AccountDataError(
                f'{source}: column "{self.column}" is to say of which date a row is, got {dtype}',
                hint="store it as a date, or as text YYYY-MM-DD",
            )

    def holds(self, day: pl.Expr) -> pl.Expr:
        """Return whether a day lies in the range."""
        return day.is_between(pl.lit(self.first), pl.lit(self.last))


@dataclass(frozen=True)
class TableDates:
    """The dates that are read from a table, and the column that holds each row's date."""

    column: str
    #: Ascending; each occurs in the table.
    days: tuple[date, ...]

    @property
    def several(self) -> bool:
        """Whether an account may have more than one row."""
        return len(self.days) > 1

    def day(self, schema: pl.Schema) -> pl.Expr:
        """Return each row's date."""
        return day_of(self.column, schema[self.column])


def day_of(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column of dates, timestamps or ISO texts as days; null where a text is no date."""
    x = pl.col(column)
    if dtype == pl.String:
        return x.str.strip_chars().str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return x.cast(pl.Date)


def listed(days: Sequence[date]) -> str:
    """Return dates as text: up to two by name, more as a count with the first and the last.

    Examples
    --------
    >>> listed([date(2024, 1, 1), date(2024, 4, 1), date(2024, 7, 1)])
    '3 dates from 2024-01-01 to 2024-07-01'
    """
    if len(days) < 3:
        return " and ".join(map(str, days))
    return f"{len(days):,} dates from {days[0]} to {days[-1]}"
