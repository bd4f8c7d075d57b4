"""The evaluator of one process: counts a table with numba's machine code, or with numpy.

It begins with numpy, and goes over to machine code once that is loaded: see `numba_cache`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import reduce
from operator import iadd
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.data.matrix import check_reach
from gtmar.engine.cohorts import LIMB_BITS, cohorts_of
from gtmar.engine.numba_cache import compiler_runs
from gtmar.engine.numba_table import NumbaTable
from gtmar.engine.numpy_kernel import (
    Counts,
    SetSums,
    add_steps,
    bin_window,
    count,
    count_tiers,
    raw_scores,
    score_bins,
)
from gtmar.engine.tally import TierEdges, sums_frame
from gtmar.engine.threads import Workers, cores, keep_memory, pool
from gtmar.spec.combination import Combination
from gtmar.spec.model import SCORE_UNITS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.engine.cohorts import Cohorts, RowBlock
    from gtmar.spec.model import ScoringSpec

    Integers = NDArray[np.integer]
    Steps = Sequence[tuple[int, int]]

__all__ = [
    "CEILING",
    "COMPILED_GROUP",
    "PART_ROWS",
    "LocalEvaluator",
    "PartedTable",
    "ceiling_fifths",
]


#: Most rows of a part. After each numpy call a thread waits some 50 microseconds for Python's lock,
#: so threads pay off where a call takes several hundred; smaller tables are a single part, counted
#: by one thread.
PART_ROWS = 524_288
#: Rows times candidates of one numpy call, where the table is a single part.
CALL_ROWS = 65_536
#: Most candidates that numpy counts together: their counts, 80 KB an array, fit a core's cache.
GROUP = 8


class PartedTable:
    """One table for numpy to count: cut into parts of rows, which threads share."""

    def __init__(
        self,
        columns: Sequence[Integers],
        cohorts: Cohorts,
        edges: TierEdges,
        max_score: int,
        *,
        threads: int,
        part_rows: int,
        sets: SetSums | None = None,
    ) -> None:
        self._columns, self._cohorts, self._edges = columns, cohorts, edges
        self._sets = sets
        self._most, self._max_score, self._threads = edges.bins, max_score, threads
        accounts = len(cohorts.codes)
        self._runs = _even_runs(accounts, part_rows, threads)
        # The smaller the table, the more candidates share a call.
        self.together = GROUP
        if len(self._runs) == 1:
            self.together = max(1, min(GROUP, CALL_ROWS // max(1, accounts)))
        self._in_memory = not any(isinstance(column, np.memmap) for column in columns)
        self._parts: dict[int, RowBlock] = {}

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """Arrays that it keeps in memory beside the columns: the parts made so far."""
        return tuple(array for part in self._parts.values() for array in part.arrays)

    def counts(
        self, raw: Integers, steps: Sequence[Steps], lows: NDArray[np.int64] | None = None
    ) -> Counts:
        """Count up to `together` candidates over all accounts.

        Parameters
        ----------
        raw
            The incumbent's raw scores, shape (N,).
        steps
            For each candidate, the weights that differ from the incumbent's, as pairs of a weight's
            number and its change; all weights as they are where the spec's points don't simply add
            up (`SetSums`).
        lows
            Lowest bin of each tier, int64 (K, T); None for those of the spec or of its rule.
        """
        if len(self._runs) == 1:
            bins, clipped = self._bins(raw, self._runs[0], steps)
            window = bin_window(*((int(bins.min()), int(bins.max())) if bins.size else (0, 0)))
            part = self._part(self._runs[0])
            counts = count(bins, clipped, part, len(self._edges.tiers), window)
            if lows is None:
                lows = self._edges.lows_of(counts.accounts, first=window.start)
            by_code, by_days = count_tiers(bins, part, lows)
            return replace(counts, tier_counts=by_code, tier_days=by_days, lows=lows)
        if lows is None and self._edges.rule is None:
            lows = self._edges.lows_of(np.zeros((len(steps), 5, 0), dtype=np.int64))
        total = self._shared(lambda runs: self._over(raw, runs, steps, lows))
        if lows is None:
            # The rule needs the scores of all accounts; with the edges it gives, tiers are counted
            # in a second pass.
            lows = self._edges.lows_of(total.accounts, first=total.first)
            total = total.with_tiers(self.tiers(raw, steps, lows))
        return total.narrowed()

    def untiered(self, raw: Integers, steps: Sequence[Steps]) -> Counts:
        """Count candidates per score bin over all accounts; the counts by tier are left 0."""
        return self._shared(lambda runs: self._over(raw, runs, steps, None))

    def tiers(self, raw: Integers, steps: Sequence[Steps], lows: NDArray[np.int64]) -> Counts:
        """Count candidates per tier over all accounts; the counts have no bins."""

        def over(runs: Sequence[slice]) -> Counts:
            totals: list[Counts] = []
            for run in runs:
                part = self._part(run)
                bins, clipped = self._bins(raw, run, steps)
                by_code, by_days = count_tiers(bins, part, lows)
                totals.append(Counts.of_tiers(by_code, by_days, lows, clipped))
            return reduce(iadd, totals)

        return self._shared(over)

    def _shared(self, over: Callable[[Sequence[slice]], Counts]) -> Counts:
        """Call `over` for the parts of each thread, and add up the counts."""
        shares = [self._runs[thread :: self._threads] for thread in range(self._threads)]
        shares = [share for share in shares if share]
        if len(shares) == 1:
            return over(shares[0])
        return reduce(iadd, pool(self._threads).map(over, shares))

    def _over(
        self,
        raw: Integers,
        runs: Sequence[slice],
        steps: Sequence[Steps],
        lows: NDArray[np.int64] | None,
    ) -> Counts:
        """Count candidates over some parts of the table; tiers only where `lows` are given."""
        totals: list[Counts] = []
        window = range(self._most)
        for run in runs:
            part = self._part(run)
            for index, step in enumerate(steps):
                bins, clipped = self._bins(raw, run, [step])
                counts = count(bins, clipped, part, len(self._edges.tiers), window)
                if lows is not None:
                    own = lows[index : index + 1]
                    by_code, by_days = count_tiers(bins, part, own)
                    counts = replace(counts, tier_counts=by_code, tier_days=by_days, lows=own)
                if index == len(totals):
                    totals.append(counts)
                else:
                    totals[index] += counts
        return Counts.joined(totals)

    def _part(self, run: slice) -> RowBlock:
        """Return a part of the table; kept for the next call if the table itself is in memory."""
        part = self._parts.get(run.start)
        if part is None:
            copies = self.together if len(self._runs) == 1 else 1
            part = self._cohorts.block(run.start, run.stop, copies=copies)
            if self._in_memory:
                self._parts[run.start] = part
        return part

    def _bins(
        self, raw: Integers, run: slice, steps: Sequence[Steps]
    ) -> tuple[Integers, NDArray[np.int64]]:
        """Return the bins of a part's rows for some candidates, and how many were clipped."""
        if self._sets is not None:
            whole = [[weight for _, weight in each] for each in steps]
            return score_bins(self._sets.raw(whole, run), self._max_score)
        columns = [column[run] for column in self._columns]
        made = np.empty((len(steps), run.stop - run.start), dtype=raw.dtype)
        spare = np.empty_like(made[0])
        for row, each in zip(made, steps, strict=True):
            add_steps(raw[run], columns, each, out=row, spare=spare)
        return score_bins(made, self._max_score)


def _even_runs(accounts: int, most: int, threads: int) -> list[slice]:
    """Cut rows into parts of at most `most`: one, or a multiple of the number of threads."""
    parts = max(1, -(-accounts // most))
    if parts > 1:
        parts = -(-parts // threads) * threads
    rows = max(1, -(-accounts // parts))
    runs = [slice(at, min(at + rows, accounts)) for at in range(0, accounts, rows)]
    return runs or [slice(0, 0)]


#: Name of the one sum that depends on the table alone: see `ceiling_fifths`.
CEILING = "ceiling_fifths"
#: Work, as (accounts + bins) x candidates, that numpy does in the half second that loading numba
#: takes; from there on machine code is worth it. If it must be compiled first, this search may be
#: over before that is done, but later searches find it in the cache.
_WORTH_COMPILED = 16_000_000
#: Most candidates of one call to machine code.
COMPILED_GROUP = 16


class LocalEvaluator:
    """Computes sums of candidates over one account matrix.

    Parameters
    ----------
    matrix
        The accounts.
    spec
        Tiers, base and bounds; its weights are not used.
    threads
        How many work at once; None takes one for each core that this process may use. Changes no
        sum.
    part_rows
        Rows that numpy counts before the next ones are touched. Changes no sum.
    compiled
        Whether machine code counts, as far as it can; what was never compiled is compiled first.
        None takes it up as soon as it is in the cache, and has it compiled beside this process,
        where there is enough work to be worth that. Changes no sum.
    expected
        How many candidates will be asked for, about; None if nobody knows.
    ceiling
        `ceiling_fifths` of the whole table, where the matrix is a part of it.
    by_rule
        Whether each candidate's tiers follow from its own scores by the spec's rule, where it has
        one; else the spec's edges hold.
    shard
        Whether the matrix is a part of a table, and machine code is there for `counts`, which add
        up, instead of for `sums`. Changes no sum.

    Examples
    --------
    ``LocalEvaluator(accounts.search, spec).frame([[5, 3, 0]])`` gives one row of sums.
    """

    #: See `Evaluator.batch_cost`.
    batch_cost = 50_000

    def __init__(
        self,
        matrix: AccountMatrix,
        spec: ScoringSpec,
        *,
        threads: int | None = None,
        part_rows: int = PART_ROWS,
        compiled: bool | None = None,
        expected: int | None = None,
        ceiling: int | None = None,
        by_rule: bool = False,
        shard: bool = False,
    ) -> None:
        ranges = {
            name: (int(column.min(initial=0)), int(column.max(initial=0)))
            for name, column in zip(matrix.names, matrix.columns, strict=True)
        }
        keep_memory()
        self._matrix = matrix
        self._spec = spec
        self.threads = threads or cores()
        self._workers = Workers(self.threads, lambda: pool(self.threads))
        #: Candidates evaluated so far.
        self.evaluated = 0
        combination = Combination.of(spec)
        self._sets = None if combination is None else SetSums(matrix, combination)
        self._wide = check_reach(spec, ranges) >= 2**31
        self._cohorts = cohorts_of(matrix)
        self._edges = TierEdges.of(spec, matrix.days, by_rule=by_rule)
        self._ceiling = ceiling_fifths(matrix) if ceiling is None else ceiling
        self._incumbent: tuple[int, ...] = (0,) * len(matrix.names)
        self._origin = np.array(self._incumbent, dtype=np.int64)
        # Where sums are kept by set, nothing is computed from raw scores.
        none = np.zeros(0, dtype=np.int64)
        self._raw = self._full(self._incumbent) if self._sets is None else none
        self._part_rows = part_rows
        self._parted: PartedTable | None = None
        self._compiled = compiled
        self._asked, self._expected, self._shard = 0, expected or 0, shard
        self._numba: NumbaTable | None = None
        #: The candidates whose counts machine code has kept, to count their tiers.
        self._kept: list[tuple[int, ...]] | None = None
        #: The same before its machine code is loaded.
        self._prepared: NumbaTable | None = None
        #: Candidates that were evaluated while it was not there; None where it was at first asking.
        self._waited: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that stay in memory: the matrix, raw scores, and what kernels keep."""
        own = self._matrix
        held = [self._raw, *own.columns, *own.flags.values(), *vars(own).values()]
        for table in (self._parted, self._prepared, self._sets):
            held += table.arrays if table is not None else ()
        sizes = {id(array): array.nbytes for array in held if isinstance(array, np.ndarray)}
        return sum(sizes.values())

    @property
    def compiles(self) -> bool:
        """Whether machine code counts this table from now on. May load it."""
        return self._numba_table(0) is not None

    def compile(self) -> bool:
        """Compile in this process, now, if the work is worth it; return `compiles`."""
        if self._compiled is None and self._worth_compiled:
            self._compiled = True
        return self.compiles

    @property
    def _worth_compiled(self) -> bool:
        each = self._edges.bins + self._matrix.accounts
        return max(self._asked, self._expected) * each >= _WORTH_COMPILED

    @property
    def machine_code(self) -> str | None:
        """A sentence for people if this search began without machine code, else None."""
        if self._waited is None:
            return None
        if self._numba is not None:
            return (
                f"Machine code, compiled in the background, took over after {self._waited:,} "
                "evaluations. It is cached: the next search begins with it."
            )
        if not compiler_runs():
            return None
        return (
            "Machine code is being compiled in the background, once, for about half a minute; "
            "searches after that are some five times as fast."
        )

    def sums(self, candidates: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Evaluate K candidates, one at least; see `Evaluator.sums`.

        After `move`, a candidate costs only the weights in which it differs from the incumbent.
        """
        table = self._numba_table(len(candidates))
        if table is not None:
            return self._compiled_sums(table, candidates)

        groups = (self._table.counts(self._raw, steps) for steps in self._grouped(candidates))
        return _joined(list(map(self._edges.sums, groups)))

    def counts(
        self,
        candidates: Sequence[Sequence[int]],
        lows: NDArray[np.int64] | None = None,
        *,
        untiered: bool = False,
    ) -> Counts:
        """Return the counts of K candidates over these accounts; counts of two shards add up.

        Parameters
        ----------
        candidates
            K vectors of F weights.
        lows
            Lowest bin of each tier, int64 (K, T); None for the spec's edges, or for those that its
            rule gives over these accounts alone.
        untiered
            Whether to leave the counts by tier 0, for a rule that needs the counts of all shards to
            set the edges; `tiers` then counts them.
        """
        self._kept = None
        table = self._numba_table(len(candidates)) if self._shard else None
        joined, at = [], 0
        if table is not None:
            for raw, changes in self._rounds(candidates):
                counts = table.counts(raw, changes, self._workers)
                if not untiered:
                    own = None if lows is None else lows[at : at + len(changes)]
                    if own is None:
                        own = self.lows_of(counts)
                    counts = counts.with_tiers(table.tiers(own, self._workers))
                joined.append(counts)
                at += len(changes)
            if untiered and len(joined) == 1:
                self._kept = list(map(tuple, candidates))
            return Counts.joined(joined)
        for steps in self._grouped(candidates):
            if untiered:
                joined.append(self._table.untiered(self._raw, steps))
            else:
                own = None if lows is None else lows[at : at + len(steps)]
                joined.append(self._table.counts(self._raw, steps, own))
            at += len(steps)
        return Counts.joined(joined)

    def tiers(self, candidates: Sequence[Sequence[int]], lows: NDArray[np.int64]) -> Counts:
        """Return the counts by tier of K candidates, for counts that were taken `untiered`.

        `lows` are the lowest bins of the tiers, int64 (K, T). Machine code reads them off the last
        `counts`, if those were of the same candidates, at most 16; else it counts anew.
        """
        if self._shard and self._numba is not None:
            if self._kept == list(map(tuple, candidates)):
                return self._numba.tiers(lows, self._workers)
            counts = self.counts(candidates, lows)
            return Counts.of_tiers(counts.tier_counts, counts.tier_days, lows, counts.clipped)
        joined, at = [], 0
        for steps in self._grouped(candidates):
            joined.append(self._table.tiers(self._raw, steps, lows[at : at + len(steps)]))
            at += len(steps)
        return Counts.joined(joined)

    def lows_of(self, counts: Counts) -> NDArray[np.int64]:
        """Return the lowest bins of the tiers, int64 (K, T), from counts of all shards."""
        return self._edges.lows_of(counts.accounts, first=counts.first)

    def reduce(self, counts: Counts) -> NDArray[np.int64]:
        """Reduce the counts of K candidates, all shards added up, to sums of shape (K, L, S)."""
        return self._edges.sums(counts)

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector the incumbent; see `Evaluator.move`."""
        if self._sets is not None:
            self._sets.move(weights)
            self._incumbent = tuple(weights)
            return
        if self._numba is None:
            add_steps(self._raw, self._matrix.columns, self._steps(weights), out=self._raw)
        else:
            change = np.array(weights, dtype=np.int64) - self._origin
            self._numba.move(self._raw, change.astype(np.int32), self._workers)
        self._incumbent = tuple(weights)
        self._origin = np.array(weights, dtype=np.int64)

    def frame_of(
        self, rows: NDArray[np.int64], *, only: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return sums as the frame that metrics read; see `Evaluator.frame_of`."""
        names = self._edges.names
        if only is not None:
            wanted = [index for index, name in enumerate(names) if name in only]
            names, rows = tuple(names[index] for index in wanted), rows[..., wanted]
        frame = sums_frame(names, rows)
        if only is not None and CEILING not in only:
            return frame
        return frame.with_columns(pl.lit(self._ceiling, dtype=pl.Int128).alias(CEILING))

    def known_of(self, rows: NDArray[np.int64], names: Collection[str]) -> dict[str, list[int]]:
        """Return some sums of K candidates by name, K integers each."""
        known = self._edges.known(rows, [name for name in names if name != CEILING])
        if CEILING in names:
            known[CEILING] = [self._ceiling] * len(rows)
        return known

    def frame(self, candidates: Sequence[Sequence[int]]) -> pl.DataFrame:
        """Evaluate K candidates; see `Evaluator.frame`."""
        return self.frame_of(self.sums(candidates))

    def scores(self, weights: Sequence[int]) -> NDArray[np.int64]:
        """Return score values in hundredths of a point, clipped, shape (N,), in matrix order."""
        raw = self._full(weights)
        score_bins(raw[None], self._spec.max_score)
        return raw.astype(np.int64)

    def _full(self, weights: Sequence[int]) -> NDArray[np.integer]:
        if self._sets is not None:
            [raw] = self._sets.raw([weights])
            return np.asarray(raw)
        vector = np.asarray(weights, dtype=np.int64)
        return raw_scores(self._matrix.columns, vector, self._spec.base, wide=self._wide)

    def _steps(self, weights: Sequence[int]) -> list[tuple[int, int]]:
        if self._sets is not None:
            return list(enumerate(weights))
        pairs = zip(self._incumbent, weights, strict=True)
        return [(i, new - old) for i, (old, new) in enumerate(pairs) if new != old]

    def _numba_table(self, candidates: int) -> NumbaTable | None:
        """Return the table laid out for machine code; None as long as numpy counts."""
        if self._numba is not None or self._compiled is False:
            return self._numba
        self._asked += candidates
        worth = self._worth_compiled
        if self._compiled is None and not worth and "numba" not in sys.modules:
            return None
        if self._prepared is None:
            top = SCORE_UNITS * self._spec.max_score
            if not self._wide:
                self._prepared = NumbaTable.of(
                    self._matrix.columns, self._cohorts, self._edges, top, shard=self._shard
                )
            if self._prepared is None:
                self._compiled = False
                return None
        if self._compiled:
            self._prepared.part.compile()
        elif not self._prepared.part.ready(wanted=worth):
            self._waited = self.evaluated + candidates
            return None
        self._numba, self._parted = self._prepared, None
        return self._numba

    def _compiled_sums(
        self, table: NumbaTable, candidates: Sequence[Sequence[int]]
    ) -> NDArray[np.int64]:
        width, workers = len(self._edges.names), self._workers
        rounds = self._rounds(candidates)
        return _joined([table.sums(raw, each, workers, width) for raw, each in rounds])[:, None]

    def _rounds(
        self, candidates: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Integers, NDArray[np.int32]]]:
        """Give what each call to machine code counts: raw scores, and changes of weights from them.

        Changes are int32, shape (k, F), of the k candidates of the call.
        """
        self.evaluated += len(candidates)
        if self._sets is not None:
            # Machine code knows no sets: it gets each candidate's raw scores, and no change.
            none = np.zeros((1, len(self._incumbent)), dtype=np.int32)
            yield from ((self._scored(weights), none) for weights in candidates)
            return
        changes = np.array(candidates, dtype=np.int64) - self._origin
        narrow = changes.astype(np.int32)
        for at in range(0, len(narrow), COMPILED_GROUP):
            yield self._raw, narrow[at : at + COMPILED_GROUP]

    def _scored(self, weights: Sequence[int]) -> NDArray[np.int32]:
        """Return a candidate's raw scores where sums are kept by set, int32 (N,)."""
        assert self._sets is not None
        sets, raw = self._sets, np.empty(self._matrix.accounts, dtype=np.int32)

        def work(first: int, last: int) -> None:
            raw[first:last] = sets.raw([weights], slice(first, last))[0]

        self._workers.share(work, len(raw), CALL_ROWS)
        return raw

    def _grouped(self, candidates: Sequence[Sequence[int]]) -> Iterator[list[Steps]]:
        """Give the changes of weights of K candidates, `together` candidates at a time."""
        self.evaluated += len(candidates)
        size = self._table.together
        for at in range(0, len(candidates), size):
            yield [self._steps(weights) for weights in candidates[at : at + size]]

    @property
    def _table(self) -> PartedTable:
        """The table as numpy counts it."""
        if self._parted is None:
            self._parted = PartedTable(
                self._matrix.columns,
                self._cohorts,
                self._edges,
                self._spec.max_score,
                threads=self.threads,
                part_rows=self._part_rows,
                sets=self._sets,
            )
        return self._parted


def _joined(groups: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return groups[0] if len(groups) == 1 else np.concatenate(groups)


def ceiling_fifths(matrix: AccountMatrix) -> int:
    """Return five times the start MRR of the n/5 paying accounts that pay most, in cents.

    The most that revenue capture at 20 % can reach; five times it is a whole number, since n/5 may
    count one account in part.
    """
    if matrix.start is None:
        return 0
    paid = np.sort(matrix.start[matrix.paying_rows])[::-1]
    whole, part = divmod(len(paid), 5)
    # Limbs summed apart, then Python integers: five times a sum may leave Int64.
    high, low = paid[:whole] >> LIMB_BITS, paid[:whole] & (2**LIMB_BITS - 1)
    top = 5 * ((int(high.sum()) << LIMB_BITS) + int(low.sum()))
    return top + (part * int(paid[whole]) if part else 0)
