"""All rows of a table counted in machine code, and in threads: `compiled` with arrays around it.

The passes of `compiled` need numba, of the extra `fast`. Where it isn't installed, or a table needs
wider integers than they have, `counts` does the same with numpy; either gives the same integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gtmar.kernel.layout import Found, Order, Rows, Scratch
from gtmar.kernel.totals import CASH, Totals, boundary_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from gtmar.kernel.cohorts import Cohorts

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]

__all__ = ["FusedTable", "Workers"]

_I = TypeVar("_I", bound=np.integer)

#: The most places whose number 16 bits hold, and bands that 8 bits do.
_MOST_PLACES, _MOST_BANDS = 2**16, 2**8
#: Rows from which on threads share the rows; below they share the candidates. A thread is there
#: some 50 microseconds after it was called, so few rows are left to one.
_MANY_ROWS, _FEW_ROWS = 262_144, 16_384
#: Places of a candidate's five counts.
_NEGATIVE, _POSITIVE, _REST, _PAYING, _VALUED = range(5)


@dataclass(frozen=True)
class Workers:
    """Threads that share the work: this one, and those of a pool.

    Parameters
    ----------
    threads
        How many work at once.
    pool
        Has one fewer; not asked where there is one thread.
    """

    threads: int
    pool: Callable[[], Executor]

    def share(self, work: Callable[[int, int], None], items: int) -> None:
        """Do a piece of work over items [0, items), cut into even runs, one a thread."""
        ends = [items * thread // self.threads for thread in range(self.threads + 1)]
        runs = [(a, b) for a, b in pairwise(ends) if a < b]
        others = [self.pool().submit(work, *run) for run in runs[1:]]
        if runs:
            work(*runs[0])
        for other in others:
            other.result()


class FusedTable:
    """One table, ready to be counted in few passes.

    Parameters
    ----------
    rows, order
        For the passes.
    columns
        F arrays, kept alive here since `rows` has no more than their addresses.
    shape
        P, T, C and U.
    """

    def __init__(
        self, rows: Rows, order: Order, columns: Sequence[Integers], shape: tuple[int, ...]
    ) -> None:
        self._rows, self._order, self._columns, self._shape = rows, order, columns, shape

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What it holds in memory, the columns aside."""
        return (*self._rows, self._order.tier_of, self._order.tier_thirds)

    @classmethod
    def of(
        cls,
        columns: Sequence[Integers],
        cohorts: Cohorts,
        tier_lows: Sequence[int],
        places: int,
        top: int,
        *,
        risk: bool,
    ) -> FusedTable | None:
        """Lay a table out for the passes; None where they can't count it.

        Parameters
        ----------
        columns
            F arrays of shape (N,), whose raw scores stay within int32.
        cohorts
            What the counting needs of accounts.
        tier_lows
            The lowest place of each of T tiers, from the highest tier down.
        places, top
            P, and the highest place that occurs: 100 x max_score.
        risk
            Whether high scores are bad.

        Notes
        -----
        Cost: a copy of start MRR and one of LTV, of 4 bytes an account each where the cents fit.
        """
        tiers = len(tier_lows)
        fits = top < _MOST_PLACES and 3 * tiers <= _MOST_BANDS and cohorts.depth == 1
        narrow = all(column.itemsize <= 4 for column in columns)
        if not (fits and narrow and len(cohorts.codes)):
            return None
        try:
            from gtmar.kernel.compiled import SIDES
        except (ImportError, RuntimeError):
            # Not installed; or numba finds no folder to keep what it compiles in.
            return None
        tier_of = np.searchsorted(-np.array(tier_lows), -np.arange(top + 1)).astype(np.uint8)
        sides = np.arange(SIDES, dtype=np.uint8)
        paying = cohorts.paying
        return cls(
            _rows(columns, cohorts),
            Order(
                tier_of=tier_of,
                tier_thirds=(tier_of * SIDES).astype(np.uint8),
                sides=sides[::-1].copy() if risk else sides,
                risk=risk,
                paying=0 if cohorts.start is None else paying.stop - paying.start,
                valued=0 if cohorts.ltv is None else len(cohorts.valued),
                paying_direct=_counts_paying(cohorts),
                valued_direct=cohorts.unvalued is None,
            ),
            columns,
            (places, tiers, cohorts.code_count, cohorts.day_count),
        )

    def totals(self, raw: Integers, changes: NDArray[np.int32], workers: Workers) -> Totals:
        """Count K candidates over all rows.

        Parameters
        ----------
        raw
            int32, shape (N,): raw scores of the incumbent.
        changes
            int32, shape (K, F): each candidate's weights less the incumbent's.
        workers
            Who does it.

        Notes
        -----
        Cost: a pass over N a changed column, and about four nanoseconds an account besides; some
        passes over P. A thread needs 2 N + 22 P bytes while it lasts, times K for a large table.
        """
        count = self._by_candidates if len(raw) < _MANY_ROWS else self._by_rows
        found = count(raw, changes, workers)
        ones = np.ones(len(changes), dtype=np.int64)
        return Totals(
            clipped=found.clipped,
            moments=found.moments,
            ranks=found.ranks,
            tier_counts=found.tier_counts,
            tier_days=found.tier_days,
            tier_money=found.tier_money[:, :, None],
            boundaries=boundary_rows(
                (self._order.paying * ones, self._order.valued * ones),
                found.ends,
                (found.top[:, :1], found.top[:, 1:]),
                found.ltv[:, None],
            ),
        )

    def _by_candidates(self, raw: Integers, changes: NDArray[np.int32], workers: Workers) -> Found:
        from gtmar.kernel.compiled import survey

        found = self._found(len(changes))

        def work(first: int, last: int) -> None:
            scratch = self._scratch(np.empty((1, len(raw)), dtype=np.uint16))
            survey(self._rows, self._order, raw, changes, first, last, scratch, found)

        if len(raw) < _FEW_ROWS:
            work(0, len(changes))
        else:
            workers.share(work, len(changes))
        return found

    def _by_rows(self, raw: Integers, changes: NDArray[np.int32], workers: Workers) -> Found:
        from gtmar.kernel.compiled import locate, tabulate_all, weigh_all

        places = np.empty((len(changes), len(raw)), dtype=np.uint16)
        parts: dict[int, tuple[Scratch, Found]] = {}

        def score(first: int, last: int) -> None:
            scratch, found = self._scratch(places), self._found(len(changes))
            tabulate_all(self._rows, self._order, raw, changes, first, last, scratch, found)
            parts[first] = scratch, found

        def add_cents(first: int, last: int) -> None:
            scratch, found = parts[first]
            weigh_all(self._rows, first, last, scratch._replace(bands=whole.bands), found)

        workers.share(score, len(raw))
        (whole, found), *others = (parts[first] for first in sorted(parts))
        for scratch, _ in others:
            np.add(whole.counts, scratch.counts, out=whole.counts)
        for k in range(len(changes)):
            locate(self._order, whole, k, found, k)
        workers.share(add_cents, len(raw))
        same = zip(found, *(other for _, other in others), strict=True)
        return Found(*(np.add.reduce(arrays) for arrays in same))

    def _scratch(self, places: NDArray[np.uint16]) -> Scratch:
        from gtmar.kernel.compiled import SIDES, TURNS

        slots, (most, tiers, codes, _) = len(places), self._shape
        return Scratch(
            places=places,
            counts=np.empty((slots, _VALUED + 1, most), dtype=np.int32),
            codes=np.empty((TURNS, tiers, codes), dtype=np.int64),
            bands=np.empty((slots, 2, most), dtype=np.uint8),
            cash=np.empty((TURNS, max(tiers, SIDES) * SIDES), dtype=np.int64),
        )

    def _found(self, candidates: int) -> Found:
        _, tiers, codes, days = self._shape
        shapes = (
            (2,), (2,), (), (3, 2), (tiers, codes), (tiers, days), (CASH, tiers), (2, CASH), (4,)
        )  # fmt: skip
        return Found(*(np.zeros((candidates, *shape), dtype=np.int64) for shape in shapes))


def _counts_paying(cohorts: Cohorts) -> bool:
    """Whether the paying are counted, or all that are labelled but those who don't pay."""
    run, end = cohorts.paying, cohorts.positives.stop
    return cohorts.start is None or run.stop > end or end > 2 * (run.stop - run.start)


def _rows(columns: Sequence[Integers], cohorts: Cohorts) -> Rows:
    """Lay accounts out for the passes."""
    listed = cohorts.valued if cohorts.unvalued is None else cohorts.unvalued
    cash, ltv = _cash(cohorts)
    gone, stays, contracted, expanded = (values for _, values in cash)
    return Rows(
        columns=np.array([column.ctypes.data for column in columns], dtype=np.int64),
        widths=np.array([column.itemsize for column in columns], dtype=np.int64),
        runs=_runs(cohorts),
        codes=_plain(cohorts.codes, np.int16),
        listed=_plain(listed if cohorts.ltv is not None else listed[:0], np.int32),
        dated=_plain(cohorts.dated, np.int32),
        days=_plain(cohorts.days, np.int32),
        starts=np.array([run.start for run, _ in cash], dtype=np.int64),
        gone=gone,
        stays=stays,
        contracted=contracted,
        expanded=expanded,
        ltv=ltv,
    )


def _runs(cohorts: Cohorts) -> Int64s:
    """Return which rows each count takes in, shape (R, 3)."""
    paying, end = cohorts.paying, cohorts.positives.stop
    runs = [
        (cohorts.negatives.start, cohorts.negatives.stop, _NEGATIVE),
        (cohorts.positives.start, cohorts.positives.stop, _POSITIVE),
        (cohorts.rest.start, cohorts.rest.stop, _REST),
    ]
    if not _counts_paying(cohorts):
        runs += [(0, paying.start, _PAYING), (paying.stop, end, _PAYING)]
    elif cohorts.start is not None:
        runs += [(paying.start, paying.stop, _PAYING)]
    return np.array([run for run in runs if run[0] < run[1]], dtype=np.int64).reshape(-1, 3)


def _cash(cohorts: Cohorts) -> tuple[list[tuple[slice, Integers]], Integers]:
    """Return four runs of rows with their cents, and the LTV of all; of the narrowest type."""
    none = np.zeros(0, dtype=np.int64)
    start = none if cohorts.start is None else cohorts.start
    end = none if cohorts.end is None else cohorts.end
    ltv = none
    if cohorts.ltv is not None:
        ltv = np.zeros_like(cohorts.ltv)
        ltv[cohorts.valued] = cohorts.ltv[cohorts.valued]

    def change(run: slice, more: Int64s, less: Int64s) -> Int64s:
        return more[run] - less[run] if len(end) else none

    cash = [
        (cohorts.gone, start[cohorts.gone]),
        (cohorts.stays, start[cohorts.stays]),
        (cohorts.contracted, change(cohorts.contracted, start, end)),
        (cohorts.expanded, change(cohorts.expanded, end, start)),
    ]
    most = max(int(np.abs(values).max(initial=0)) for values in (*(c for _, c in cash), ltv))
    kind = np.int32 if most < 2**31 else np.int64
    return [(run, _plain(values, kind)) for run, values in cash], _plain(ltv, kind)


def _plain(values: Integers, kind: type[_I]) -> NDArray[_I]:
    """Return an array as the passes take it: of one type, in one piece, read-only."""
    plain = np.ascontiguousarray(np.asarray(values), dtype=kind).view()
    plain.flags.writeable = False
    return plain
