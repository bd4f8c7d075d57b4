"""AccountMatrix: N accounts as frozen integer arrays, ready for the kernel.

Rows are put in the order of their movement class and activation, so that each cohort of the kernel
is a run of rows; since every tally is an exact sum, no result depends on that order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.accounts.outcomes import ACTIVATION_STATES, Movement, OutcomeColumns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gtmar.accounts.storage import Columns, Storage

__all__ = ["AccountMatrix", "Segments", "freeze"]


@dataclass(frozen=True)
class Segments:
    """One column whose every value is a segment, over N accounts.

    Parameters
    ----------
    column
        Its name.
    values
        V values in the order of their text, the unknown last where there is one.
    codes
        int8, shape (N,), in [0, V): each account's value.
    """

    column: str
    values: tuple[str, ...]
    codes: NDArray[np.int8]

    def rows(self, place: int) -> NDArray[np.intp]:
        """Return the row numbers of one value's accounts, ascending."""
        return np.flatnonzero(self.codes == place)

    def name(self, place: int) -> str:
        """Return how a segment is called: ``COLUMN=VALUE``."""
        return f"{self.column}={self.values[place]}"


@dataclass(frozen=True)
class AccountMatrix:
    """Encoded features and outcomes of N accounts, F features; every array is read-only.

    Parameters
    ----------
    names
        Term names, F of them, in the spec's order.
    columns
        F arrays of shape (N,), each of the narrowest integer type that holds it, in 1/10,000ths.
    codes
        int16, shape (N,): movement class x 3 + activation state (0 unknown, 1 missed, 2 reached).
        Ascending.
    offsets
        int64, shape (12,): where each movement class begins, the last entry being N.
    start, end, ltv
        int64, shape (N,), in cents, unknown taken as 0; None where the table has no such column.
    ltv_rows
        Row numbers of the LTV cohort (current, LTV above 0), ascending; None without LTV.
    day_codes, days
        Place of each activated account's days in `days`, the sorted distinct values, or -1; None
        without such a column.
    segments
        The spec's segment columns.
    """

    names: tuple[str, ...]
    columns: tuple[NDArray[np.integer], ...]
    codes: NDArray[np.int16]
    offsets: NDArray[np.int64]
    outcomes: OutcomeColumns
    start: NDArray[np.int64] | None = None
    end: NDArray[np.int64] | None = None
    ltv: NDArray[np.int64] | None = None
    ltv_rows: NDArray[np.int32] | None = None
    day_codes: NDArray[np.int32] | None = None
    days: NDArray[np.int64] | None = None
    segments: tuple[Segments, ...] = ()

    @property
    def accounts(self) -> int:
        """N."""
        return len(self.codes)

    def rows(self, first: Movement, last: Movement) -> slice:
        """Return the run of rows whose movement class lies between two, both included."""
        return slice(int(self.offsets[first]), int(self.offsets[last + 1]))

    def part(self, first: int, last: int) -> AccountMatrix:
        """Return the rows from `first` to before `last`, without copying any but a few."""
        some = slice(first, last)
        ltv_rows = None
        if self.ltv_rows is not None:
            ends = np.searchsorted(self.ltv_rows, (first, last))
            ltv_rows = self.ltv_rows[ends[0] : ends[1]] - np.int32(first)
            ltv_rows.flags.writeable = False
        offsets = self.offsets.clip(first, last) - first
        offsets.flags.writeable = False
        return replace(
            self,
            columns=tuple(column[some] for column in self.columns),
            codes=self.codes[some],
            offsets=offsets,
            start=None if self.start is None else self.start[some],
            end=None if self.end is None else self.end[some],
            ltv=None if self.ltv is None else self.ltv[some],
            ltv_rows=ltv_rows,
            day_codes=None if self.day_codes is None else self.day_codes[some],
            segments=tuple(replace(each, codes=each.codes[some]) for each in self.segments),
        )

    def take(self, rows: NDArray[np.intp]) -> AccountMatrix:
        """Copy some rows, a row as often as it is named.

        Parameters
        ----------
        rows
            Row numbers, ascending: so they stay in the order of their codes.
        """

        def taken(values: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if values is None else _frozen(values[rows])

        codes = _frozen(self.codes[rows])
        sizes = np.bincount(codes // ACTIVATION_STATES, minlength=len(Movement))
        ltv_rows = None
        if self.ltv_rows is not None:
            valued = np.zeros(self.accounts, dtype=bool)
            valued[self.ltv_rows] = True
            ltv_rows = _frozen(np.flatnonzero(valued[rows]).astype(np.int32))
        return replace(
            self,
            columns=tuple(_frozen(column[rows]) for column in self.columns),
            codes=codes,
            offsets=_frozen(np.concatenate([[0], np.cumsum(sizes)])),
            start=taken(self.start),
            end=taken(self.end),
            ltv=taken(self.ltv),
            ltv_rows=ltv_rows,
            day_codes=taken(self.day_codes),
            segments=tuple(
                replace(each, codes=_frozen(each.codes[rows])) for each in self.segments
            ),
        )

    @property
    def paying_rows(self) -> slice:
        """The revenue cohort: current accounts with start MRR above 0."""
        unlabelled = self.rows(Movement.UNLABELLED_PAYING, Movement.UNLABELLED_PAYING)
        if unlabelled.start < unlabelled.stop:
            return unlabelled
        return self.rows(Movement.LOST_PAYING, Movement.KEPT_EXPANDED)


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    values = np.ascontiguousarray(values)
    values.flags.writeable = False
    return values


def freeze(
    columns: Columns,
    names: list[str],
    outcomes: OutcomeColumns,
    held_out: NDArray[np.int8],
    storage: Storage,
    segments: Mapping[str, tuple[str, ...]] | None = None,
) -> list[AccountMatrix]:
    """Freeze columns, rows by code: the search part, then the holdout if there is one.

    Parameters
    ----------
    columns
        The canonical outcomes, `movement`, each term's encoded values as `x.` and its name, and
        each segment column's codes as `s.` and its name.
    names
        Term names, in the spec's order.
    outcomes
        Which outcomes the table has.
    held_out
        int8, shape (N,): 1 where an account is of the holdout, else 0.
    storage
        Where the arrays are kept.
    segments
        Values by segment column.

    Notes
    -----
    A column is let go of once it is frozen, so that there are no two copies of the table.
    """
    movement = columns.pop("movement").to_numpy()
    activated = columns.pop("activated")
    states = activated.fill_null(-1).to_numpy() + np.int8(1)
    codes_of = movement.astype(np.int8) * np.int8(ACTIVATION_STATES) + states
    # Sorted stably: numpy puts small integers in order by counting them, in one pass.
    orders = [
        rows[np.argsort(codes_of[rows], kind="stable")].astype(np.int32)
        for rows in (np.flatnonzero(held_out == part) for part in (0, 1))
        if len(rows)
    ]

    def kept(values: pl.Series) -> list[NDArray[Any]]:
        known = values.fill_null(0).to_numpy()
        return [storage.keep(known, order) for order in orders]

    def column(name: str, *, there: bool = True) -> list[Any]:
        return kept(columns.pop(name)) if there else [None for _ in orders]

    codes = kept(pl.Series(codes_of).cast(pl.Int16))
    days: list[Any] = [(None, None) for _ in orders]
    if outcomes.has("days_to_activate"):
        reached = columns.pop("days").set((activated != 1).fill_null(value=True), None)
        days = [_days(reached.gather(order), storage) for order in orders]
    features = [column(f"x.{name}") for name in names]
    grouped = [(name, values, column(f"s.{name}")) for name, values in (segments or {}).items()]
    start = column("start", there=outcomes.has("mrr"))
    end = column("end", there=outcomes.basis is not None)
    ltv = column("ltv", there=outcomes.has("ltv"))
    found = []
    for place, order in enumerate(orders):
        valued = None
        if ltv[place] is not None:
            cohort = (ltv[place] > 0) & (movement[order] < Movement.FORMER_LOST)
            at = np.flatnonzero(cohort).astype(np.int32)
            valued = storage.keep(at, np.arange(len(at), dtype=np.int32))
        sizes = np.bincount(movement[order], minlength=len(Movement))
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        offsets.flags.writeable = False
        found.append(
            AccountMatrix(
                names=tuple(names),
                columns=tuple(parts[place] for parts in features),
                codes=codes[place],
                offsets=offsets,
                outcomes=outcomes,
                start=start[place],
                end=end[place],
                ltv=ltv[place],
                ltv_rows=valued,
                day_codes=days[place][0],
                days=days[place][1],
                segments=tuple(Segments(name, v, codes[place]) for name, v, codes in grouped),
            )
        )
    return found


def _days(reached: pl.Series, storage: Storage) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return day codes from days (N,), null where an account did not activate; and their days."""
    days = reached.drop_nulls().unique().sort().to_numpy()
    days.flags.writeable = False
    codes = np.searchsorted(days, reached.fill_null(0).to_numpy()).astype(np.int32)
    codes[reached.is_null().to_numpy()] = -1
    return storage.keep(codes, np.arange(len(codes), dtype=np.int32)), days
