"""Where a search may begin besides its spec: weights of a logistic regression of who stays.

A regression's coefficients have any scale; weights are integers within bounds, and guardrails look
at scores. So there are several vectors to try, each the same order of accounts but for rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.stats.logistic import fit_logistic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.optimize.constraints import WeightConstraints
    from gtmar.optimize.proposers import SearchSpace

    Doubles = NDArray[np.float64]
    Vector = tuple[int, ...]

__all__ = ["Labelled", "logistic_starts"]

#: Rows at a time.
_ROWS = 65_536
#: Each coefficient, per whole range of its feature, is drawn to 0 as if this much information
#: (accounts x chance x (1 - chance)) said so.
_RIDGE = 1.0
#: Accounts between these quantiles aren't to be clipped.
_ENDS = (0.005, 0.995)


@dataclass(frozen=True)
class Labelled:
    """Accounts of which it is known whether they stayed: F encoded columns, and who did, (N,)."""

    columns: tuple[NDArray[np.integer], ...]
    stayed: NDArray[np.bool_]

    def blocks(self, scales: Doubles) -> Iterator[tuple[Doubles, Doubles]]:
        """Give values divided by `scales`, shape (F,), and who stayed, some rows at a time."""
        for first in range(0, len(self.stayed), _ROWS):
            some = slice(first, first + _ROWS)
            values = np.stack([column[some] for column in self.columns], axis=1)
            yield values / scales, self.stayed[some].astype(np.float64)

    def sums(self, weights: Doubles) -> Doubles:
        """Return the values' sums, shape (N,), weighted by `weights`, shape (F,)."""
        return np.concatenate([v @ weights for v, _ in self.blocks(np.ones(len(weights)))])

    def spread(self, weights: Doubles) -> tuple[float, float]:
        """Return mean and standard deviation of the sums."""
        sums = self.sums(weights)
        return float(sums.mean()), float(sums.std())


def logistic_starts(
    labelled: Labelled,
    start: Sequence[int],
    space: SearchSpace,
    *,
    groups: Sequence[Sequence[int]] = (),
    sign: int = 1,
    constraints: WeightConstraints | None = None,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[Vector, ...]:
    """Fit weights, and bring them to integers within bounds.

    Parameters
    ----------
    labelled
        The accounts searched.
    start
        The spec's weights, F of them, whose spread of scores the vectors take over.
    space
        Bounds.
    groups
        Numbers of weights of which each account has exactly one, as a scorecard's bins are: all of
        a group may rise alike, which changes no order.
    sign
        1 where high scores mean to stay, -1 where they mean to leave.
    constraints
        What the weights hold together.
    within
        Least and largest sum of points, in units of the values, that isn't clipped.

    Returns
    -------
    tuple of tuples
        At most four vectors, none of them the start: with the start's spread as far as the bounds
        allow; with that spread, what is beyond a bound cut at it; as large as the bounds allow; as
        large as leaves all but one account in a hundred unclipped, where that is less.
        None where all stayed or all left.

    Notes
    -----
    Cost: some ten passes over N x F values.
    """
    if not len(labelled.stayed) or labelled.stayed.min() == labelled.stayed.max():
        return ()
    reach = np.array([float(np.ptp(column)) for column in labelled.columns])
    scales = np.where(reach > 0, reach, 1.0)
    fit = fit_logistic(lambda: labelled.blocks(scales), _RIDGE * np.eye(len(scales)))
    slopes = sign * fit.coefficients / scales
    for group in groups:
        slopes[list(group)] -= slopes[list(group)].min()
    mean, spread = labelled.spread(np.array(start, dtype=np.float64))
    sums = labelled.sums(slopes)
    own_mean, own_spread = float(sums.mean()), float(sums.std())
    if own_spread == 0:
        return ()
    same, most = spread / own_spread, _most(slopes, space)
    # Groups are lifted until the scores' mean is the start's, where bounds allow that.
    fixed = [(0.0, 0.0), *([(own_mean, mean)] if groups else [])]
    inside = min(_unclipped(np.quantile(sums, _ENDS), each, within) for each in fixed)
    vectors: list[Vector] = []
    for factor in (min(same, most), same, most, min(inside, most)):
        lift = (mean - factor * own_mean) / _whole(labelled, groups)
        weights = _fitted(factor * slopes, lift, groups, space, start)
        if constraints:
            pairs = enumerate(zip(start, weights, strict=True))
            # All of an order are pooled, those that the fit leaves alone as well.
            whole = {i for group in constraints.ordered for i in group}
            changes = {i: new for i, (old, new) in pairs if new != old or i in whole}
            kept = constraints.kept(start, changes, space, first=0)
            weights = tuple(kept.get(i, old) for i, old in enumerate(start))
        if weights != tuple(start) and weights not in vectors:
            vectors.append(weights)
    return tuple(vectors)


def _most(slopes: Doubles, space: SearchSpace) -> float:
    """Return the largest factor that brings no free weight beyond a bound on its own side of 0."""
    room = [
        (space.highs[i] if slopes[i] > 0 else space.lows[i]) / slopes[i]
        for i in space.free
        if slopes[i]
    ]
    return min((factor for factor in room if factor > 0), default=0.0)


def _unclipped(ends: Doubles, fixed: tuple[float, float], within: tuple[float, float]) -> float:
    """Return the largest factor that keeps both ends of the sums, (2,), within what isn't clipped.

    Times a factor, a sum equal to the first number of `fixed` becomes the second.
    """
    room = [
        (bound - fixed[1]) / (end - fixed[0])
        for end, bound in zip(ends.tolist(), within, strict=True)
        if end != fixed[0]
    ]
    return min((factor for factor in room if factor > 0), default=math.inf)


def _whole(labelled: Labelled, groups: Sequence[Sequence[int]]) -> float:
    """Return by how much a score's sum rises where all weights of all groups rise by 1."""
    lifted = np.zeros(len(labelled.columns))
    lifted[[i for group in groups for i in group]] = 1.0
    return labelled.spread(lifted)[0] or 1.0


def _fitted(
    weights: Doubles,
    lift: float,
    groups: Sequence[Sequence[int]],
    space: SearchSpace,
    start: Sequence[int],
) -> Vector:
    """Lift groups, as far as bounds allow without cutting, then round and cut all weights."""
    weights = weights.copy()
    lows, highs = np.array(space.lows), np.array(space.highs)
    for group in groups:
        own = list(group)
        down = min(0.0, float((lows[own] - weights[own]).max()))
        up = max(0.0, float((highs[own] - weights[own]).min()))
        weights[own] += min(max(lift, down), up)
    rounded = np.clip(np.floor(weights + 0.5), lows, highs).astype(int).tolist()
    free = set(space.free)
    return tuple(new if i in free else start[i] for i, new in enumerate(rounded))
