"""One table for machine code: its accounts and score bins laid out, and buffers for threads.

Letters of shapes are those of `numba_layout`.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import pairwise
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gtmar.engine.cohorts import ACCOUNT_INDICATOR, CASH_FLOWS, CHURNED_INDICATOR, Cohorts
from gtmar.engine.numba_cache import CodePart
from gtmar.engine.numba_layout import AccountRows, Order, PartialCounts, Recipe, Workspace
from gtmar.engine.numpy_kernel import Counts, bin_window
from gtmar.engine.tally import TierEdges
from gtmar.engine.threads import Workers, pool
from gtmar.spec.tier_rule import TierRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]
    Int32s = NDArray[np.int32]
    Room = tuple["Workspace", "PartialCounts"]

__all__ = ["NumbaTable", "kernel_part"]

_I = TypeVar("_I", bound=np.integer)

#: Bins are numbered in 16 bits, and the accounts of a small table counted in 16 bits.
_MOST_BINS, _MOST_COUNTED = 2**16, 2**16
#: From so many rows on, threads share the rows; below, they share the candidates. Below the second
#: number one thread counts alone, as calling others takes some 50 microseconds.
_MANY_ROWS, _FEW_ROWS = 262_144, 49_152
#: Rows that a thread takes at a time, or candidates where threads share those.
_PIECE, _TOGETHER = 65_536, 2
#: Rows of `Workspace.counts` but for codes, and of `Workspace.histograms`.
_COUNTS = len(CASH_FLOWS) + 1


class NumbaTable:
    """One table, laid out for the functions of `numba_kernel`; made by `of`.

    `columns` are referred to here to keep them in memory: `rows` has only their addresses.
    """

    def __init__(
        self,
        rows: AccountRows,
        order: Order,
        recipe: Recipe,
        columns: Sequence[Integers],
        accounts: int,
        *,
        shard: bool = False,
    ) -> None:
        self._rows, self._order, self._recipe, self._columns = rows, order, recipe, columns
        #: Whether threads share the rows; whether the table is a shard; the type of counts.
        self._shares_rows, self._shard = shard or accounts >= _MANY_ROWS, shard
        narrow = accounts < _MOST_COUNTED and not self._shares_rows
        self._counts = np.dtype(np.uint16 if narrow else np.int32)
        #: Buffers that no thread uses now.
        self._rooms: list[Room] = []
        #: Buffers that the last `counts` were taken in, slots in use, and range of occupied bins.
        self._last: tuple[Workspace, PartialCounts, int, slice] | None = None

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Arrays that it keeps in memory beside the columns."""
        rooms = (array for room in self._rooms for part in room for array in part)
        order, rows = self._order, self._rows
        return (*rows[:-2], *rows.cents, rows.totals, order.lows, *rooms)

    @classmethod
    def of(
        cls,
        columns: Sequence[Integers],
        cohorts: Cohorts,
        edges: TierEdges,
        top: int,
        *,
        shard: bool = False,
    ) -> NumbaTable | None:
        """Lay a table out for machine code; None where that can't count it, or numba is missing.

        Parameters
        ----------
        columns
            F arrays of shape (N,), whose raw scores stay within int32.
        cohorts
            The accounts.
        edges
            Tiers and order.
        top
            The highest bin that occurs: 100 x max_score.
        shard
            Whether `counts` will be called, for a part of a table; else `sums`.

        Notes
        -----
        Cost: a copy of start MRR and one of LTV, of 4 bytes an account each where the cents fit.
        """
        tiers = len(edges.tiers)
        fits = top < _MOST_BINS and cohorts.depth == 1
        narrow = all(column.itemsize <= 4 for column in columns)
        if not (fits and narrow and len(cohorts.codes)):
            return None
        try:
            from gtmar.engine.numba_kernel import tabulate  # noqa: F401  # may fail
        except (ImportError, RuntimeError):
            # numba isn't installed, or finds no folder for its cache.
            return None
        paying, rule = cohorts.paying, edges.rule or TierRule()
        order = Order(
            bins=top + 1,
            lows=np.array(edges.tier_lows or [0] * tiers, dtype=np.int64),
            by_rule=edges.rule is not None,
            goals=np.array(rule.goals, dtype=np.int64).reshape(-1, 2),
            lifts=np.array(rule.lifts, dtype=np.int64),
            risk=edges.risk,
            paying=0 if cohorts.start is None else paying.stop - paying.start,
            valued=0 if cohorts.ltv is None else len(cohorts.valued),
            paying_direct=_counts_paying(cohorts),
            valued_direct=cohorts.unvalued is None,
        )
        recipe = Recipe(ACCOUNT_INDICATOR, CHURNED_INDICATOR, _plain(edges.days, np.int64))
        accounts = len(cohorts.codes)
        return cls(_rows(columns, cohorts), order, recipe, columns, accounts, shard=shard)

    @property
    def part(self) -> CodePart:
        """The compiled functions that count this kind of table."""
        passes = "shard" if self._shard else "rows" if self._shares_rows else "candidates"
        return kernel_part(f"{passes} {self._counts} {self._rows.cents[0].dtype}")

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
            The threads that share the work.
        width
            How many sums a candidate has.

        Returns
        -------
        ndarray of int64, shape (K, width)
            In the order of `tally.TierEdges.names`.

        Notes
        -----
        Cost for each candidate: a pass over N for each changed column, about three nanoseconds an
        account besides, and some passes over the bins that have accounts. A thread's buffers are
        for one candidate, or two of a larger table, of 2 N + 10 P bytes each, with 20 P from 65,536
        accounts on. Where threads share the rows, they are for as many candidates as one call ever
        had, of (60 + 4 E) P bytes each.
        """
        sums = np.zeros((len(changes), width), dtype=np.int64)
        count = self._by_rows if self._shares_rows else self._by_candidates
        count(raw, changes, workers, sums)
        return sums

    def move(self, raw: Integers, change: NDArray[np.int32], workers: Workers) -> None:
        """Add a change of weights, int32 of shape (F,), to raw scores, int32 of shape (N,)."""
        from gtmar.engine.numba_kernel import move

        def work(first: int, last: int) -> None:
            move(self._rows, change, raw, first, last)

        workers.share(work, len(raw), _PIECE)

    def _by_candidates(
        self, raw: Integers, changes: NDArray[np.int32], workers: Workers, sums: Int64s
    ) -> None:
        from gtmar.engine.numba_kernel import evaluate

        few = len(raw) < _FEW_ROWS

        def work(first: int, last: int) -> None:
            room, partial = self._room(1 if few else _TOGETHER, len(raw))
            own = changes[first:last], room, partial, sums[first:last]
            evaluate(self._rows, self._order, self._recipe, raw, *own)
            self._rooms.append((room, partial))

        workers.share(work, len(changes), len(changes) if few else _TOGETHER)

    def _by_rows(
        self, raw: Integers, changes: NDArray[np.int32], workers: Workers, sums: Int64s
    ) -> None:
        from gtmar.engine.numba_kernel import conclude

        rooms = self._tabulated(raw, changes, workers)

        def put_together(first: int, last: int) -> None:
            self._gather(rooms, first, last)
            conclude(self._rows, self._order, self._recipe, *rooms[0], first, last, sums)

        workers.share(put_together, len(changes), 1)
        self._rooms += rooms

    def _tabulated(self, raw: Integers, changes: NDArray[np.int32], workers: Workers) -> list[Room]:
        """Count all rows by bin; return the buffers of each thread that took part."""
        from gtmar.engine.numba_kernel import tabulate

        rooms: dict[int, Room] = {}

        def add_up(first: int, last: int) -> None:
            room = rooms.get(get_ident())
            if room is None:
                room = rooms[get_ident()] = self._room(len(changes))
            tabulate(self._rows, self._order, raw, changes, first, last, *room)

        workers.share(add_up, len(raw), _PIECE)
        return list(rooms.values())

    def _gather(self, rooms: Sequence[Room], first: int, last: int) -> None:
        """Add up the counts of the candidates [first, last) in the first thread's buffers."""
        from gtmar.engine.numba_kernel import gather

        room, *others = rooms
        for other in others:
            gather(self._order, *room, *other, first, last)

    def counts(self, raw: Integers, changes: NDArray[np.int32], workers: Workers) -> Counts:
        """Count K candidates over all rows; the counts by tier are left 0, see `tiers`.

        Parameters
        ----------
        raw, changes, workers
            As for `sums`.

        Returns
        -------
        Counts
            The same integers as `numpy_kernel` gives. Counts of several parts of a table add up.
        """
        self._let_go()
        order, slots = self._order, len(changes)
        rooms = self._tabulated(raw, changes, workers)
        workers.share(lambda first, last: self._gather(rooms, first, last), slots, 1)
        (room, partial), *others = rooms
        self._rooms += others
        extent = partial.extent[:slots]
        held = slice(int(order.bins - extent[:, 0].max()), int(extent[:, 1].max()))
        self._last = room, partial, slots, held
        window = bin_window(held.start, held.stop - 1)
        at = slice(held.start - window.start, held.stop - window.start)
        counted = room.counts[:slots, :, held]
        by_kind = np.zeros((slots, _COUNTS, held.stop - held.start), dtype=counted.dtype)
        for code, kind in enumerate(self._rows.codes[:, 1].tolist()):
            by_kind[:, kind] += counted[:, _COUNTS + code]
        labelled = by_kind[:, 0] + by_kind[:, 1]
        paying, valued = counted[:, 3], counted[:, 4]
        by_kind[:, 3] = paying if order.paying_direct else labelled - paying
        by_kind[:, 4] = valued if order.valued_direct else labelled + by_kind[:, 2] - valued
        accounts = np.zeros((slots, _COUNTS, len(window)), dtype=np.int64)
        money = np.zeros((slots, _COUNTS, 1, len(window)), dtype=np.int64)
        accounts[..., at], money[:, :, 0, at] = by_kind, room.histograms[:slots, :, held]
        return Counts(
            clipped=partial.clipped[:slots].copy(),
            accounts=accounts,
            money=money,
            tier_counts=np.zeros_like(partial.tier_counts[:slots]),
            tier_days=np.zeros_like(partial.tier_days[:slots]),
            lows=np.zeros_like(partial.lows[:slots]),
            first=window.start,
        )

    def tiers(self, lows: Int64s, workers: Workers) -> Counts:
        """Return counts by tier of the candidates of the last `counts`; `lows` are int64 (K, T)."""
        from gtmar.engine.numba_kernel import count_tiers

        assert self._last is not None
        room, partial, slots, _ = self._last
        lows = np.array(lows, dtype=np.int64)

        def work(first: int, last: int) -> None:
            count_tiers(self._rows, self._order, room, partial, lows, first, last)

        workers.share(work, slots, 1)
        by_code, by_days = partial.tier_counts[:slots].copy(), partial.tier_days[:slots].copy()
        return Counts.of_tiers(by_code, by_days, lows, partial.clipped[:slots])

    def _let_go(self) -> None:
        """Reset the buffers of the last `counts`, which `tiers` reads, and give them back."""
        if self._last is not None:
            room, partial, slots, held = self._last
            for counted in (room.counts, room.histograms):
                counted[:slots, :, held] = 0
            for array in (room.dated, *partial):
                array[:slots] = 0
            self._rooms.append((room, partial))
            self._last = None

    def _room(self, slots: int, accounts: int = 0) -> Room:
        """Return buffers for so many candidates, from the list of unused ones if one suffices.

        `accounts` is above 0 for the kind that keeps each account's bin.
        """
        # `pop` gives one to one thread only. A thread that fails doesn't put its own back, as they
        # may not be 0.
        while self._rooms:
            room = self._rooms.pop()
            if len(room[1].ranks) >= slots:
                return room
        bins, tiers, flows = self._order.bins, len(self._order.lows), len(CASH_FLOWS)
        histograms = 0 if accounts else slots
        codes, dated = (0, 0) if accounts else (len(self._rows.codes), len(self._rows.dated))
        shapes: dict[str, tuple[int, ...]] = {
            "extent": (2,),
            "clipped": (2,),
            "moments": (2,),
            "ranks": (),
            "ends": (3, 2),
            "lows": (tiers,),
            "tier_counts": (tiers, len(self._recipe.churned)),
            "tier_days": (tiers, len(self._recipe.days)),
            "tier_money": (flows, tiers),
            "top": (2, flows),
            "ltv": (4,),
        }
        workspace = Workspace(
            bins=np.empty((slots - histograms, accounts), dtype=np.uint16),
            counts=np.zeros((slots, _COUNTS + codes, bins), dtype=self._counts),
            dated=np.zeros((slots, dated), dtype=np.uint16),
            histograms=np.zeros((histograms, _COUNTS, bins), dtype=np.int64),
        )
        partial = {name: np.zeros((slots, *shape), np.int64) for name, shape in shapes.items()}
        return workspace, PartialCounts(**partial)


@cache
def kernel_part(name: str) -> CodePart:
    """Return the compiled functions for a kind of table, as `NumbaTable.part` names it."""
    return CodePart(name, partial(_rehearse, *name.split(" ")))


def _rehearse(passes: str, counts: str, cents: str) -> None:
    """Call on a table of one account every function that counts larger tables of its kind."""
    from gtmar.engine.numba_kernel import gather

    one, none, row = slice(0, 1), slice(1, 1), np.zeros(1, dtype=np.int32)
    money = np.full(1, np.iinfo(cents).max, dtype=np.int64)
    cohorts = Cohorts(
        negatives=one,
        positives=none,
        rest=none,
        paying=one,
        gone=one,
        stays=none,
        contracted=none,
        expanded=none,
        codes=np.zeros(1, dtype=np.int16),
        start=money,
        end=money,
        ltv=money,
        valued=row,
        unvalued=None,
        dated=row,
        days=row,
        depth=1,
        code_count=1,
        day_count=1,
    )
    edges = TierEdges(("all",), (0,), bins=1, risk=False, days=np.zeros(1, dtype=np.int64))
    shard = passes == "shard"
    table = NumbaTable.of([np.zeros(1, dtype=np.int8)], cohorts, edges, 0, shard=shard)
    assert table is not None
    table._shares_rows, table._counts = shard or passes == "rows", np.dtype(counts)
    raw, changes, alone = row.copy(), np.ones((1, 1), dtype=np.int32), Workers(1, lambda: pool(1))
    if shard:
        table.counts(raw, changes, alone)
        table.tiers(np.zeros((1, 1), dtype=np.int64), alone)
    else:
        table.sums(raw, changes, alone, len(edges.names))
    table.move(raw, changes[0], alone)
    if table._shares_rows:
        gather(table._order, *table._room(1), *table._room(1), 0, 1)


def _counts_paying(cohorts: Cohorts) -> bool:
    """Return whether the paying accounts are counted, else all labelled ones that don't pay."""
    run, end = cohorts.paying, cohorts.positives.stop
    return cohorts.start is None or run.stop > end or end > 2 * (run.stop - run.start)


def _rows(columns: Sequence[Integers], cohorts: Cohorts) -> AccountRows:
    """Lay accounts out for the compiled functions."""
    listed = cohorts.valued if cohorts.unvalued is None else cohorts.unvalued
    cash, (runs, codes) = _cash(cohorts), _runs(cohorts)
    return AccountRows(
        columns=np.array([column.ctypes.data for column in columns], dtype=np.int64),
        widths=np.array([column.itemsize for column in columns], dtype=np.int64),
        runs=runs,
        codes=codes,
        paying=_paying(cohorts),
        listed=_plain(listed if cohorts.ltv is not None else listed[:0], np.int32),
        dated=_plain(cohorts.dated, np.int32),
        days=_plain(cohorts.days, np.int32),
        starts=np.array([start for start, _ in cash], dtype=np.int64),
        cents=tuple(cents for _, cents in cash),
        totals=np.array([cents.sum(dtype=np.int64) for _, cents in cash]),
    )


def _runs(cohorts: Cohorts) -> tuple[Int64s, Int64s]:
    """Return `AccountRows.runs`, shape (R, 3), and `AccountRows.codes`, shape (E, 2)."""
    codes = cohorts.codes
    kinds = (cohorts.negatives, cohorts.positives, cohorts.rest)
    inner = {run.start for run in kinds} | {run.stop for run in kinds} - {0, len(codes)}
    steps = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    ends = np.unique([0, *steps, *inner, len(codes)]).tolist()

    def kind_of(row: int) -> int:
        return next(kind for kind, run in enumerate(kinds) if run.start <= row < run.stop)

    numbers: dict[tuple[int, int], int] = {}
    runs = []
    for first, last in pairwise(ends):
        code = int(codes[first]), kind_of(first)
        runs.append((first, last, numbers.setdefault(code, len(numbers))))
    return np.array(runs, dtype=np.int64), np.array(list(numbers), dtype=np.int64)


def _paying(cohorts: Cohorts) -> Int64s:
    """Return the row ranges of the paying, or of the labelled who don't pay, shape (R, 2)."""
    paying, end = cohorts.paying, cohorts.positives.stop
    runs = [(paying.start, paying.stop)] if cohorts.start is not None else []
    if not _counts_paying(cohorts):
        runs = [(0, paying.start), (paying.stop, end)]
    return np.array([run for run in runs if run[0] < run[1]], dtype=np.int64).reshape(-1, 2)


def _cash(cohorts: Cohorts) -> list[tuple[int, Integers]]:
    """Return the first row and the cents of each cash flow and of LTV, all of one integer type."""
    ltv = np.zeros(0, dtype=np.int64)
    if cohorts.ltv is not None:
        ltv = np.zeros_like(cohorts.ltv)
        ltv[cohorts.valued] = cohorts.ltv[cohorts.valued]
    runs = [*((run.start, cents) for run, cents in cohorts.cash_flows()), (0, ltv)]
    most = max(int(np.abs(values).max(initial=0)) for _, values in runs)
    kind = np.int32 if most < 2**31 else np.int64
    return [(first, _plain(values, kind)) for first, values in runs]


def _plain(values: Integers, kind: type[_I]) -> NDArray[_I]:
    """Return an array as the compiled functions take it: of one type, contiguous, read-only."""
    plain = np.ascontiguousarray(np.asarray(values), dtype=kind).view()
    plain.flags.writeable = False
    return plain
