"""The local evaluator: weights in, sums out, over arrays that nobody can write to.

It keeps the incumbent's raw scores, so that a candidate costs one pass a changed weight. Candidates
of a small table share calls; the parts of a large one go to threads. None of it changes a sum,
since sums are exact integers.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from gtmar.accounts.matrix import check_reach
from gtmar.evaluate.cohorts import cohorts_of
from gtmar.kernel import LIMB_BITS, PLACE_BLOCK, Counts, add_steps, count, raw_scores, score_places
from gtmar.tally import Bands, sums_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from gtmar.accounts.matrix import AccountMatrix
    from gtmar.kernel import Part
    from gtmar.spec.model import ScoringSpec

__all__ = ["CEILING", "LocalEvaluator", "ceiling_fifths"]

_R = TypeVar("_R")

#: The column that the table alone gives: see `ceiling_fifths`.
CEILING = "ceiling_fifths"
#: Rows of a part at most. A thread waits some 50 microseconds for Python's lock after each call, so
#: threads pay where a call takes several hundred; smaller tables are a single part, for one thread.
PART_ROWS = 524_288
#: Rows times candidates of one call, where the table is a single part.
CALL_ROWS = 65_536
#: Candidates of a group at most: their counts, 80 KB an array, shouldn't leave the cache either.
GROUP = 8
#: Freed memory up to this size stays with the process.
_KEPT_BYTES = 24 * 2**20


class LocalEvaluator:
    """Computes sums of candidates over one account matrix.

    Parameters
    ----------
    matrix
        The accounts.
    spec
        Bands, base and bounds; its weights are not used.
    threads
        How many work at once; None takes one for each core that this process may use. Changes no
        sum.
    part_rows
        Rows counted before the next ones are touched. Changes no sum.

    Examples
    --------
    ``LocalEvaluator(accounts.search, spec).frame([[5, 3, 0]])`` gives one row of sums.
    """

    def __init__(
        self,
        matrix: AccountMatrix,
        spec: ScoringSpec,
        *,
        threads: int | None = None,
        part_rows: int = PART_ROWS,
    ) -> None:
        ranges = {
            name: (int(column.min(initial=0)), int(column.max(initial=0)))
            for name, column in zip(matrix.names, matrix.columns, strict=True)
        }
        _keep_memory()
        self._matrix = matrix
        self._spec = spec
        self.threads = threads or _cores()
        #: Candidates evaluated so far.
        self.evaluated = 0
        self._wide = check_reach(spec, ranges) >= 2**31
        self._cohorts = cohorts_of(matrix)
        self._bands = Bands.of(spec, matrix.days)
        self._ceiling = ceiling_fifths(matrix)
        self._incumbent: tuple[int, ...] = (0,) * len(matrix.names)
        self._raw = self._full(self._incumbent)
        self._runs = _even_runs(matrix.accounts, part_rows, self.threads)
        # The smaller the table, the more candidates share a call.
        few = max(1, matrix.accounts)
        self._together = max(1, min(GROUP, CALL_ROWS // few)) if len(self._runs) == 1 else GROUP
        self._in_memory = not any(isinstance(column, np.memmap) for column in matrix.columns)
        self._parts: dict[int, Part] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that stay in memory: the matrix, raw scores, and parts that are kept."""
        held = [self._raw, *self._matrix.columns, *(vars(self._matrix).values())]
        held += [array for part in self._parts.values() for array in part.arrays]
        own = {id(array): array.nbytes for array in held if isinstance(array, np.ndarray)}
        return sum(own.values())

    def sums(self, candidates: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Evaluate K candidates.

        Parameters
        ----------
        candidates
            K weight vectors of F integers, one at least. Call `move` with the incumbent first, and
            a candidate costs its differences alone.

        Returns
        -------
        ndarray of int64, shape (K, L, S)
            Sums by limb, in the order of `Bands.names`.
        """

        def summed(group: Sequence[Sequence[int]]) -> NDArray[np.int64]:
            counts, first = self._group(group)
            if len(self._runs) > 1:
                counts, first = counts.narrowed(PLACE_BLOCK)
            return self._bands.sums(counts, first=first)

        groups = self._each(candidates, summed)
        return groups[0] if len(groups) == 1 else np.concatenate(groups)

    def counts(self, candidates: Sequence[Sequence[int]]) -> Counts:
        """Count K candidates' accounts and cents; counts of two parts of a table add up."""
        groups = self._each(candidates, self._group)
        places = self._bands.places
        return Counts.joined([counts.widened(first, places) for counts, first in groups])

    def reduce(self, counts: Counts) -> NDArray[np.int64]:
        """Reduce the counts of K candidates, all parts added up, to sums of shape (K, L, S)."""
        return self._bands.sums(counts)

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector the incumbent, from which candidates are computed."""
        add_steps(self._raw, self._matrix.columns, self._steps(weights), out=self._raw)
        self._incumbent = tuple(weights)

    def frame_of(
        self, rows: NDArray[np.int64], *, only: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return sums as the frame that metrics read, the table's own constants beside them.

        Parameters
        ----------
        rows
            From `sums`.
        only
            Names of the columns wanted; None for all. A column costs some microseconds.
        """
        names = self._bands.names
        if only is not None:
            wanted = [place for place, name in enumerate(names) if name in only]
            names, rows = tuple(names[place] for place in wanted), rows[..., wanted]
        frame = sums_frame(names, rows)
        if only is not None and CEILING not in only:
            return frame
        return frame.with_columns(pl.lit(self._ceiling, dtype=pl.Int128).alias(CEILING))

    def frame(self, candidates: Sequence[Sequence[int]]) -> pl.DataFrame:
        """Evaluate K candidates; return K rows of sums."""
        return self.frame_of(self.sums(candidates))

    def scores(self, weights: Sequence[int]) -> NDArray[np.int64]:
        """Return score values in hundredths of a point, clipped, shape (N,), in matrix order."""
        raw = self._full(weights)
        score_places(raw[None], self._spec.max_score)
        return raw.astype(np.int64)

    def _full(self, weights: Sequence[int]) -> NDArray[np.integer]:
        vector = np.asarray(weights, dtype=np.int64)
        return raw_scores(self._matrix.columns, vector, self._spec.base, wide=self._wide)

    def _steps(self, weights: Sequence[int]) -> list[tuple[int, int]]:
        pairs = zip(self._incumbent, weights, strict=True)
        return [(i, new - old) for i, (old, new) in enumerate(pairs) if new != old]

    def _each(
        self, candidates: Sequence[Sequence[int]], work: Callable[[Sequence[Sequence[int]]], _R]
    ) -> list[_R]:
        """Do a piece of work for each group of candidates."""
        self.evaluated += len(candidates)
        size = self._together
        return [work(candidates[at : at + size]) for at in range(0, len(candidates), size)]

    def _group(self, candidates: Sequence[Sequence[int]]) -> tuple[Counts, int]:
        """Count a group's candidates, part by part of the table.

        Returns
        -------
        counts : Counts
            Of all accounts.
        first : int
            The place that they begin with.
        """
        steps = [self._steps(weights) for weights in candidates]
        if len(self._runs) == 1:
            places, clipped = self._places(self._runs[0], steps)
            window = _window(places)
            part = self._part(self._runs[0])
            return self._count(places, clipped, part, window), window.start
        if self.threads == 1:
            return self._over(self._runs, steps), 0
        shares = [self._runs[thread :: self.threads] for thread in range(self.threads)]
        found = _pool(self.threads).map(
            lambda share: self._over(share, steps), filter(None, shares)
        )
        total = next(found)
        for counts in found:
            total += counts
        return total, 0

    def _over(self, runs: Sequence[slice], steps: Sequence[Sequence[tuple[int, int]]]) -> Counts:
        """Count candidates over some parts of the table."""
        found: list[Counts] = []
        window = range(self._bands.places)
        for run in runs:
            part = self._part(run)
            for place, step in enumerate(steps):
                counts = self._count(*self._places(run, [step]), part, window)
                if place == len(found):
                    found.append(counts)
                else:
                    found[place] += counts
        return Counts.joined(found)

    def _part(self, run: slice) -> Part:
        """Return a part of the table: made once, unless the table itself isn't in memory."""
        part = self._parts.get(run.start)
        if part is None:
            copies = self._together if len(self._runs) == 1 else 1
            part = self._cohorts.part(run.start, run.stop, copies=copies)
            if self._in_memory:
                self._parts[run.start] = part
        return part

    def _places(
        self, run: slice, steps: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        """Score a run of rows for some candidates; return places and who was clipped."""
        columns = [column[run] for column in self._matrix.columns]
        raw = np.empty((len(steps), run.stop - run.start), dtype=self._raw.dtype)
        spare = np.empty_like(raw[0])
        for row, each in zip(raw, steps, strict=True):
            add_steps(self._raw[run], columns, each, out=row, spare=spare)
        return score_places(raw, self._spec.max_score)

    def _count(
        self, places: NDArray[np.integer], clipped: NDArray[np.int64], part: Part, window: range
    ) -> Counts:
        return count(places, clipped, part, self._bands.tier_lows, window)


def _even_runs(accounts: int, most: int, threads: int) -> list[slice]:
    """Cut rows into runs of at most `most`, as many as threads or a multiple, if more than one."""
    parts = max(1, -(-accounts // most))
    if parts > 1:
        parts = -(-parts // threads) * threads
    rows = max(1, -(-accounts // parts))
    runs = [slice(at, min(at + rows, accounts)) for at in range(0, accounts, rows)]
    return runs or [slice(0, 0)]


def _window(places: NDArray[np.integer]) -> range:
    """Return the whole blocks of places between the lowest and the highest that occur."""
    if not places.size:
        return range(PLACE_BLOCK)
    low, high = int(places.min()) // PLACE_BLOCK, int(places.max()) // PLACE_BLOCK
    return range(low * PLACE_BLOCK, (high + 1) * PLACE_BLOCK)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _keep_memory() -> None:
    """Make the C library keep what is freed, instead of handing it back after every batch.

    Counts of a group are some megabytes, freed as soon as they are reduced. glibc gives such memory
    back to the system, and the next group pays for it in page faults: two thirds of a run's time.
    It stops doing so for sizes up to the largest that it has seen freed.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; they wait for work and are shared by all evaluators."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gtmar-evaluate")


def ceiling_fifths(matrix: AccountMatrix) -> int:
    """Five times the MRR of exactly the n/5 accounts that pay most, in cents."""
    if matrix.start is None:
        return 0
    paid = np.sort(matrix.start[matrix.paying_rows])[::-1]
    whole, part = divmod(len(paid), 5)
    # Limbs summed apart, then Python integers: five times a sum may leave Int64.
    high, low = paid[:whole] >> LIMB_BITS, paid[:whole] & (2**LIMB_BITS - 1)
    top = 5 * ((int(high.sum()) << LIMB_BITS) + int(low.sum()))
    return top + (part * int(paid[whole]) if part else 0)
