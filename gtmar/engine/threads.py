"""What searches of a process share: its cores, threads, memory that was freed, and garbage."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gtmar.engine.layout import Found, Order, Recipe, Rows, Workspace
from gtmar.engine.numpy_kernel import CASH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from gtmar.engine.cohorts import Cohorts

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]

__all__ = ["FusedTable", "Workers", "compiled_before", "cores", "keep_memory", "pool", "set_aside"]


#: Freed memory up to this size stays with the process.
_KEPT_BYTES = 24 * 2**20


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; they wait for work and are shared by all evaluators."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gtmar-evaluate")


@cache
def keep_memory() -> None:
    """Make the C library keep what is freed, instead of handing it back after every batch.

    Counts of a group are some megabytes, freed as soon as they are reduced. glibc gives such memory
    back to the system, and the next group pays for it in page faults: two thirds of a run's time.
    It stops doing so for sizes up to the largest that it has seen freed.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


@contextmanager
def set_aside() -> Iterator[None]:
    """Leave what there is already out of collections of garbage, for as long as the context lasts.

    A search makes enough objects for Python to look through all there are once in a while, those of
    every library that is loaded included: some 50 milliseconds, a quarter of a short search.
    """
    if gc.get_freeze_count():
        # Somebody else has done it, and it is for them to undo.
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


_I = TypeVar("_I", bound=np.integer)

#: The most places whose number 16 bits hold, and bands that 8 bits do.
_MOST_PLACES, _MOST_BANDS, _MOST_COUNTED = 2**16, 2**8, 2**16
#: Rows from which on threads share the rows; below they share the candidates. A thread is there
#: some 50 microseconds after it was called, so few rows are left to one.
_MANY_ROWS, _FEW_ROWS = 262_144, 49_152
#: Rows, or candidates of a smaller table, that a thread takes at a time.
_PIECE, _TOGETHER = 65_536, 2
#: A candidate's five counts, and its heaps of cents, as many.
_COUNTS = 5
_NEGATIVE, _POSITIVE, _REST = range(3)
#: Sides of a boundary, and tables that cents are added to by turns: with one, a row waits for the
#: row before it.
_SIDES, _TURNS = 3, 4


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

    def share(self, work: Callable[[int, int], None], items: int, piece: int) -> None:
        """Do work over items [0, items), a piece at a time; who is free takes the next one.

        So a thread that comes late, or whose items take longer, does fewer of them.
        """
        # One call gives one number to one thread.
        numbers = count()

        def take() -> None:
            while (first := next(numbers) * piece) < items:
                work(first, min(first + piece, items))

        others = [
            self.pool().submit(take) for _ in range(min(self.threads, -(-items // piece)) - 1)
        ]
        take()
        for other in others:
            other.result()


class FusedTable:
    """One table, ready to be counted in few passes.

    Parameters
    ----------
    rows, order, recipe
        For the passes.
    columns
        F arrays, kept alive here since `rows` has no more than their addresses.
    """

    def __init__(
        self, rows: Rows, order: Order, recipe: Recipe, columns: Sequence[Integers]
    ) -> None:
        self._rows, self._order, self._recipe, self._columns = rows, order, recipe, columns
        #: Room of threads that are done, for those that come.
        self._rooms: list[tuple[Workspace, Found]] = []

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What it holds in memory, the columns aside."""
        rooms = (array for room in self._rooms for part in room for array in part)
        return (*self._rows, self._order.tier_of, self._order.tier_thirds, *rooms)

    @classmethod
    def of(
        cls,
        columns: Sequence[Integers],
        cohorts: Cohorts,
        tier_lows: Sequence[int],
        top: int,
        recipe: Recipe,
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
            The lowest place of each of T tiers, from the highest tier down; 0 is the last one's.
        top
            The highest place that occurs: 100 x max_score.
        recipe
            How sums of tiers come from counts.
        risk
            Whether high scores are bad.

        Notes
        -----
        Cost: a copy of start MRR and one of LTV, of 4 bytes an account each where the cents fit.
        """
        tiers = len(tier_lows)
        fits = top < _MOST_PLACES and _SIDES * tiers <= _MOST_BANDS and cohorts.depth == 1
        narrow = all(column.itemsize <= 4 for column in columns)
        if not (fits and narrow and len(cohorts.codes)):
            return None
        try:
            from gtmar.engine.numba_counts import tabulate  # noqa: F401  # whether it can be had
        except (ImportError, RuntimeError):
            # Not installed; or numba finds no folder to keep what it compiles in.
            return None
        tier_of = np.searchsorted(-np.array(tier_lows), -np.arange(top + 1)).astype(np.uint8)
        sides = np.arange(_SIDES, dtype=np.uint8)
        paying = cohorts.paying
        return cls(
            _rows(columns, cohorts),
            Order(
                lows=np.array(tier_lows, dtype=np.int64),
                tier_of=tier_of,
                tier_thirds=(tier_of * _SIDES).astype(np.uint8),
                sides=sides[::-1].copy() if risk else sides,
                risk=risk,
                paying=0 if cohorts.start is None else paying.stop - paying.start,
                valued=0 if cohorts.ltv is None else len(cohorts.valued),
                paying_direct=_counts_paying(cohorts),
                valued_direct=cohorts.unvalued is None,
            ),
            recipe,
            columns,
        )

    def sums(
        self, raw: Integers, changes: NDArray[np.int32], workers: Workers, width: int
    ) -> Int64s:
        """Evaluate K candidates over all rows.

        Parameters
        ----------
        raw
            int32, shape (N,): raw scores of the incumbent.
        changes
            int32, shape (K, F): each candidate's weights less the incumbent's.
        workers
            Who does it.
        width
            S.

        Returns
        -------
        ndarray of int64, shape (K, S)
            In the order of `tally.TierEdges.names`.

        Notes
        -----
        Cost: a pass over N a changed column, and about three nanoseconds an account besides; some
        passes over the places that have accounts. A thread keeps room for the most candidates that
        it ever had: each 2 N + 12 P bytes, 22 P from 65,536 accounts on, and 60 P alone where
        threads share the rows.
        """
        sums = np.zeros((len(changes), width), dtype=np.int64)
        count = self._by_candidates if len(raw) < _MANY_ROWS else self._by_rows
        count(raw, changes, workers, sums)
        return sums

    def move(self, raw: Integers, change: NDArray[np.int32], workers: Workers) -> None:
        """Add a change of weights, int32 of shape (F,), to raw scores, int32 of shape (N,)."""
        from gtmar.engine.numba_counts import move

        def work(first: int, last: int) -> None:
            move(self._rows, change, raw, first, last)

        workers.share(work, len(raw), _PIECE)

    def _by_candidates(
        self, raw: Integers, changes: NDArray[np.int32], workers: Workers, sums: Int64s
    ) -> None:
        from gtmar.engine.numba_counts import tabulate, weigh
        from gtmar.engine.numba_sums import assemble, locate

        def work(first: int, last: int) -> None:
            slots = last - first
            desk, found = self._room(slots, len(raw))
            tabulate(self._rows, self._order, raw, changes[first:last], 0, len(raw), desk, found)
            locate(self._order, desk, found, slots)
            weigh(self._rows, desk, found, slots)
            assemble(self._order, self._recipe, found, slots, sums[first:last])
            self._rooms.append((desk, found))

        few = len(raw) < _FEW_ROWS
        workers.share(work, len(changes), len(changes) if few else _TOGETHER)

    def _by_rows(
        self, raw: Integers, changes: NDArray[np.int32], workers: Workers, sums: Int64s
    ) -> None:
        from gtmar.engine.numba_counts import tabulate
        from gtmar.engine.numba_sums import conclude, gather

        order = self._order
        rooms: dict[int, tuple[Workspace, Found]] = {}

        def add_up(first: int, last: int) -> None:
            room = rooms.get(get_ident())
            if room is None:
                room = rooms[get_ident()] = self._room(len(changes))
            tabulate(self._rows, order, raw, changes, first, last, *room)

        def put_together(first: int, last: int) -> None:
            (desk, found), *others = rooms.values()
            for other, more in others:
                gather(order, desk, found, other, more, first, last)
            conclude(order, self._recipe, desk, found, first, last, sums)

        workers.share(add_up, len(raw), _PIECE)
        workers.share(put_together, len(changes), 1)
        self._rooms += rooms.values()

    def _room(self, slots: int, accounts: int = 0) -> tuple[Workspace, Found]:
        """Return room for so many candidates, used before if there is such."""
        # Taken off the list by one thread alone; one that fails leaves its room behind.
        while self._rooms:
            room = self._rooms.pop()
            if len(room[1].ranks) >= slots:
                return room
        places, tiers = len(self._order.tier_of), len(self._order.lows)
        codes, days = len(self._recipe.churned), len(self._recipe.days)
        heaps = 0 if accounts else slots
        narrow = np.uint16 if 0 < accounts < _MOST_COUNTED else np.int32
        shapes = (
            (2,), (2,), (2,), (), (3, 2), (tiers, codes), (tiers, days), (CASH, tiers), (2, CASH),
            (4,),
        )  # fmt: skip
        return Workspace(
            places=np.empty((slots - heaps, accounts), dtype=np.uint16),
            counts=np.zeros((slots, _COUNTS, places), dtype=narrow),
            heaps=np.zeros((heaps, _COUNTS, places), dtype=np.int64),
            bands=np.empty((slots - heaps, 2, places), dtype=np.uint8),
            cash=np.empty((_TURNS, max(tiers, _SIDES) * _SIDES), dtype=np.int64),
        ), Found(*(np.zeros((slots, *shape), dtype=np.int64) for shape in shapes))


def compiled_before() -> bool:
    """Whether machine code was compiled in this installation, and kept; numba has to be there.

    Not whether it was the same code: that numba alone can tell, by what its files hold.
    """
    from gtmar.engine.numba_counts import tabulate

    place = tabulate.stats.cache_path
    return place is not None and any(Path(place).glob("compiled_rows.tabulate-*.nbi"))


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
        paying=_paying(cohorts),
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
    """Return runs of rows of one code, and which count each adds to, shape (R, 4)."""
    codes = cohorts.codes
    kinds = (cohorts.negatives, cohorts.positives, cohorts.rest)
    inner = {run.start for run in kinds} | {run.stop for run in kinds} - {0, len(codes)}
    steps = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    ends = np.unique([0, *steps, *inner, len(codes)]).tolist()

    def kind_of(row: int) -> int:
        return next(
            kind
            for kind, run in zip((_NEGATIVE, _POSITIVE, _REST), kinds, strict=True)
            if run.start <= row < run.stop
        )

    runs = [(first, last, codes[first], kind_of(first)) for first, last in pairwise(ends)]
    return np.array(runs, dtype=np.int64)


def _paying(cohorts: Cohorts) -> Int64s:
    """Return runs of the paying, or of the labelled who don't pay, shape (R, 2)."""
    paying, end = cohorts.paying, cohorts.positives.stop
    runs = [(paying.start, paying.stop)] if cohorts.start is not None else []
    if not _counts_paying(cohorts):
        runs = [(0, paying.start), (paying.stop, end)]
    return np.array([run for run in runs if run[0] < run[1]], dtype=np.int64).reshape(-1, 2)


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
