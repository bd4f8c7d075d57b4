"""The local evaluator: weights in, sums out, over arrays that nobody can write to.

It keeps the incumbent's raw scores, so that a candidate costs one pass a changed weight. Machine
code counts where it is installed and there is enough to do, numpy elsewhere; both use threads. None
of it changes a sum, since sums are exact integers.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.accounts.matrix import check_reach
from gtmar.evaluate.cohorts import cohorts_of
from gtmar.evaluate.parts import PART_ROWS, PartedTable
from gtmar.evaluate.resources import cores, keep_memory, pool
from gtmar.kernel import (
    LIMB_BITS,
    Counts,
    FusedTable,
    Workers,
    add_steps,
    compiled_before,
    raw_scores,
    score_places,
)
from gtmar.spec.model import SCORE_UNITS
from gtmar.tally import Bands, sums_frame

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.accounts.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

__all__ = ["CEILING", "LocalEvaluator", "ceiling_fifths"]

#: The column that the table alone gives: see `ceiling_fifths`.
CEILING = "ceiling_fifths"
#: Accounts and places, times candidates, that numpy counts in the time that numba takes to load.
_WORTH_COMPILED = 16_000_000
#: Candidates of a call to machine code at most.
_COMPILED_GROUP = 16


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
        Rows that numpy counts before the next ones are touched. Changes no sum.
    compiled
        Whether machine code counts, as far as it can. None leaves it to the work that there is:
        what is short isn't worth loading numba for. Changes no sum.
    expected
        How many candidates will be asked for, about; None if nobody knows.

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
        compiled: bool | None = None,
        expected: int | None = None,
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
        self._wide = check_reach(spec, ranges) >= 2**31
        self._cohorts = cohorts_of(matrix)
        self._bands = Bands.of(spec, matrix.days)
        self._ceiling = ceiling_fifths(matrix)
        self._incumbent: tuple[int, ...] = (0,) * len(matrix.names)
        self._raw = self._full(self._incumbent)
        self._part_rows = part_rows
        self._parted: PartedTable | None = None
        self._compiled = compiled
        self._asked, self._expected = 0, expected or 0
        self._fused: FusedTable | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that stay in memory: the matrix, raw scores, and parts that are kept."""
        held = [self._raw, *self._matrix.columns, *(vars(self._matrix).values())]
        for table in (self._parted, self._fused):
            held += table.arrays if table is not None else ()
        own = {id(array): array.nbytes for array in held if isinstance(array, np.ndarray)}
        return sum(own.values())

    @property
    def compiles(self) -> bool:
        """Whether machine code counts this table from now on."""
        return self._compiled is not False and self._fused_table(0) is not None

    @property
    def compiles_first(self) -> bool:
        """Whether it will have to wait for machine code that was never compiled here."""
        return self.compiles and not compiled_before()

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
        fused = self._fused_table(len(candidates))
        if fused is not None:
            return self._compiled_sums(fused, candidates)

        return _joined(
            [self._bands.sums(counts, first=first) for counts, first in self._groups(candidates)]
        )

    def counts(self, candidates: Sequence[Sequence[int]]) -> Counts:
        """Count K candidates' accounts and cents; counts of two parts of a table add up."""
        places = self._bands.places
        return Counts.joined(
            [counts.widened(first, places) for counts, first in self._groups(candidates)]
        )

    def reduce(self, counts: Counts) -> NDArray[np.int64]:
        """Reduce the counts of K candidates, all parts added up, to sums of shape (K, L, S)."""
        return self._bands.sums(counts)

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector the incumbent, from which candidates are computed."""
        if self._fused is None:
            add_steps(self._raw, self._matrix.columns, self._steps(weights), out=self._raw)
        else:
            change = np.array(weights, dtype=np.int64) - np.array(self._incumbent)
            self._fused.move(self._raw, change.astype(np.int32), self._workers)
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

    def known_of(self, rows: NDArray[np.int64], names: Collection[str]) -> dict[str, list[int]]:
        """Return some sums of K candidates by name, K integers each."""
        found = self._bands.known(rows, [name for name in names if name != CEILING])
        if CEILING in names:
            found[CEILING] = [self._ceiling] * len(rows)
        return found

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

    def _fused_table(self, candidates: int) -> FusedTable | None:
        """Return the table for machine code, made when there is enough work to pay for it."""
        if self._compiled is None:
            self._asked += candidates
            each = self._bands.places + self._matrix.accounts
            work = max(self._asked, self._expected) * each
            if work < _WORTH_COMPILED and "numba" not in sys.modules:
                return None
            self._compiled = True
        if self._compiled and self._fused is None:
            if not self._wide:
                self._fused = FusedTable.of(
                    self._matrix.columns,
                    self._cohorts,
                    self._bands.tier_lows,
                    SCORE_UNITS * self._spec.max_score,
                    self._bands.recipe,
                    risk=self._bands.risk,
                )
            self._compiled = self._fused is not None
            self._parted = None
        return self._fused

    def _compiled_sums(
        self, fused: FusedTable, candidates: Sequence[Sequence[int]]
    ) -> NDArray[np.int64]:
        self.evaluated += len(candidates)
        changes = np.asarray(candidates, dtype=np.int64) - np.array(self._incumbent)
        narrow, width = changes.astype(np.int32), len(self._bands.names)
        groups = [
            fused.sums(self._raw, narrow[at : at + _COMPILED_GROUP], self._workers, width)
            for at in range(0, len(narrow), _COMPILED_GROUP)
        ]
        return _joined(groups)[:, None]

    def _groups(self, candidates: Sequence[Sequence[int]]) -> Iterator[tuple[Counts, int]]:
        """Count candidates with numpy, group by group; each with the place that it begins with."""
        self.evaluated += len(candidates)
        if self._parted is None:
            self._parted = PartedTable(
                self._matrix.columns,
                self._cohorts,
                self._bands.tier_lows,
                places=self._bands.places,
                max_score=self._spec.max_score,
                threads=self.threads,
                part_rows=self._part_rows,
            )
        size = self._parted.together
        for at in range(0, len(candidates), size):
            steps = [self._steps(weights) for weights in candidates[at : at + size]]
            yield self._parted.counts(self._raw, steps)


def _joined(groups: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return groups[0] if len(groups) == 1 else np.concatenate(groups)


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
