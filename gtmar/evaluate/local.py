"""The local evaluator: weights in, sums out, over arrays that nobody can write to.

It keeps the incumbent's raw scores, so that a candidate costs one pass a changed weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.accounts.matrix import check_reach
from gtmar.kernel import LIMB_BITS, Counts, add_steps, count, raw_scores, score_places
from gtmar.tally import Bands, cohorts_of, sums_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.accounts.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

__all__ = ["LocalEvaluator", "ceiling_fifths"]


class LocalEvaluator:
    """Computes sums of candidates over one account matrix.

    Parameters
    ----------
    matrix
        The accounts.
    spec
        Bands, base and bounds; its weights are not used.

    Examples
    --------
    ``LocalEvaluator(accounts.search, spec).frame([[5, 3, 0]])`` gives one row of sums.
    """

    def __init__(self, matrix: AccountMatrix, spec: ScoringSpec) -> None:
        ranges = {
            name: (int(column.min(initial=0)), int(column.max(initial=0)))
            for name, column in zip(matrix.names, matrix.columns, strict=True)
        }
        self._matrix = matrix
        self._spec = spec
        self._wide = check_reach(spec, ranges) >= 2**31
        self._cohorts = cohorts_of(matrix)
        self._bands = Bands.of(spec, matrix.days)
        self._ceiling = ceiling_fifths(matrix)
        self._incumbent: tuple[int, ...] | None = None
        self._raw: NDArray[np.integer] = np.zeros(0, dtype=np.int64)

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
        return self.reduce(self.counts(candidates))

    def counts(self, candidates: Sequence[Sequence[int]]) -> Counts:
        """Count K candidates' accounts and cents; counts of two parts of a table add up."""
        out = np.empty_like(self._raw)
        found = []
        for weights in candidates:
            if self._incumbent is None:
                raw = self._full(weights)
            else:
                pairs = zip(self._incumbent, weights, strict=True)
                steps = [(i, new - old) for i, (old, new) in enumerate(pairs) if new != old]
                add_steps(self._raw, self._matrix.columns, steps, out=out)
                raw = out
            found.append(self._counts(raw))
        return Counts.stacked(found)

    def reduce(self, counts: Counts) -> NDArray[np.int64]:
        """Reduce the counts of K candidates, all parts added up, to sums of shape (K, L, S)."""
        return np.stack([self._bands.sums(one) for one in counts.each()])

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector the incumbent, from which candidates are computed."""
        if self._incumbent is None:
            self._raw = self._full(weights)
        else:
            pairs = zip(self._incumbent, weights, strict=True)
            steps = [(i, new - old) for i, (old, new) in enumerate(pairs) if new != old]
            add_steps(self._raw, self._matrix.columns, steps, out=self._raw)
        self._incumbent = tuple(weights)

    def frame_of(self, rows: NDArray[np.int64]) -> pl.DataFrame:
        """Return sums as the frame that metrics read, the table's own constants beside them."""
        frame = sums_frame(self._bands.names, rows)
        return frame.with_columns(pl.lit(self._ceiling, dtype=pl.Int128).alias("ceiling_fifths"))

    def frame(self, candidates: Sequence[Sequence[int]]) -> pl.DataFrame:
        """Evaluate K candidates; return K rows of sums."""
        return self.frame_of(self.sums(candidates))

    def scores(self, weights: Sequence[int]) -> NDArray[np.int64]:
        """Return score values in hundredths of a point, clipped, shape (N,), in matrix order."""
        places, _ = score_places(self._full(weights), self._spec.max_score)
        return places.astype(np.int64)

    def _full(self, weights: Sequence[int]) -> NDArray[np.integer]:
        vector = np.asarray(weights, dtype=np.int64)
        return raw_scores(self._matrix.columns, vector, self._spec.base, wide=self._wide)

    def _counts(self, raw: NDArray[np.integer]) -> Counts:
        places, clipped = score_places(raw, self._spec.max_score)
        return count(places, clipped, self._cohorts, self._bands.tier_of_place)


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
