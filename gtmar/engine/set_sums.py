"""Raw scores for a spec whose points don't simply add up: groups with caps, vetoes, unknowns.

Such a spec divides its features into sets, see `Combination`. The incumbent's points are kept,
summed by set, so a candidate costs a pass over the accounts for each weight that differs, and some
five passes a set for combining them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gtmar.engine.numpy_kernel import add_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.combination import Combination

    Int64s = NDArray[np.int64]

__all__ = ["SetSums"]

_ALL = slice(None)


class SetSums:
    """The incumbent's points over N accounts, summed by set of features.

    Until `move`, the incumbent's weights are all 0.
    """

    def __init__(self, matrix: AccountMatrix, combination: Combination) -> None:
        self._columns, self._flags, self._combination = matrix.columns, matrix.flags, combination
        self._weights: tuple[int, ...] = (0,) * len(matrix.columns)
        self._sums = [np.zeros(matrix.accounts, dtype=np.int64) for _ in combination.sets]

    @property
    def arrays(self) -> tuple[Int64s, ...]:
        """Arrays that it keeps in memory beside the matrix."""
        return tuple(self._sums)

    def move(self, weights: Sequence[int]) -> None:
        """Make F weights the incumbent's. Cost: a pass over N for each that differs."""
        for sums, steps in zip(self._sums, self._steps(weights), strict=True):
            add_steps(sums, self._columns, steps, out=sums)
        self._weights = tuple(weights)

    def raw(self, candidates: Sequence[Sequence[int]], rows: slice = _ALL) -> Int64s:
        """Return raw scores of K candidates for n rows, in 1/10,000 of a point, shape (K, n)."""
        columns = [column[rows] for column in self._columns]
        flags = {n: self._flags[n][rows].astype(np.int64) for n in self._combination.flags}
        made = []
        for weights in candidates:
            sums = [own[rows] for own in self._sums]
            for number, steps in enumerate(self._steps(weights)):
                if steps:
                    points = np.empty_like(sums[number])
                    add_steps(sums[number], columns, steps, out=points)
                    sums[number] = points
            made.append(self._combination.raw(sums, weights, flags))
        return np.stack(made)

    def _steps(self, weights: Sequence[int]) -> list[list[tuple[int, int]]]:
        """Return for each set the weights that differ: pairs of a weight's number and a change."""
        old = self._weights
        return [
            [(i, weights[i] - old[i]) for i in each.terms if weights[i] != old[i]]
            for each in self._combination.sets
        ]
