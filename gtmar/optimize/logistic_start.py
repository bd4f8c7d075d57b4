"""Starting vectors for a search from a logistic regression of retention.

The scale of a regression's coefficients is arbitrary, while weights are integers within bounds and
guardrails depend on the scores. So several scalings are tried. Each gives the same order of
accounts, except for rounding and cuts at the bounds.
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

#: Rows processed at a time.
_ROWS = 65_536
#: Ridge penalty on the coefficients, per whole range of a feature, as an amount of Fisher
#: information: accounts x probability x (1 - probability).
_RIDGE = 1.0
#: Quantiles of the scores between which no account should be clipped.
_ENDS = (0.005, 0.995)


@dataclass(frozen=True)
class Labelled:
    """The N accounts with a known outcome."""

    #: F encoded columns, each of shape (N,).
    columns: tuple[NDArray[np.integer], ...]
    #: Whether each account stayed, shape (N,).
    stayed: NDArray[np.bool_]

    def blocks(self, scales: Doubles) -> Iterator[tuple[Doubles, Doubles]]:
        """Yield blocks of rows: values divided by `scales`, shape (F,), and outcomes as 0 or 1."""
        for first in range(0, len(self.stayed), _ROWS):
            some = slice(first, first + _ROWS)
            values = np.stack([column[some] for column in self.columns], axis=1)
            yield values / scales, self.stayed[some].astype(np.float64)

    def sums(self, weights: Doubles) -> Doubles:
        """Return the weighted sum of each account's values, shape (N,), for weights (F,)."""
        return np.concatenate([v @ weights for v, _ in self.blocks(np.ones(len(weights)))])

    def spread(self, weights: Doubles) -> tuple[float, float]:
        """Return mean and standard deviation of the weighted sums."""
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
    """Fit a logistic regression, and scale its coefficients to integer weights within bounds.

    Parameters
    ----------
    labelled
        The accounts searched.
    start
        The spec's weights, F of them. Some vectors get the same spread of scores.
    space
        Bounds of the weights.
    groups
        Groups of weights, by number, of which exactly one applies to each account, as with the bins
        of a scorecard. A constant added to a whole group doesn't change the order of accounts.
    sign
        1 if high scores mean that an account stays, -1 if they mean that it leaves.
    constraints
        Joint constraints that the vectors must satisfy; None for none.
    within
        Smallest and largest sum of points, in units of the values, that isn't clipped.

    Returns
    -------
    tuple of tuples
        At most four different vectors of F weights, none of them the start. They are scaled to the
        start's spread, or less if the bounds require; to that spread, cut at the bounds; as large
        as the bounds allow; and as large as possible with at most one account in a hundred clipped,
        if that is smaller. Empty if all accounts stayed, all left, or all get the same score.

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
    # Groups are shifted so that the mean score equals the start's, if the bounds allow that.
    fixed = [(0.0, 0.0), *([(own_mean, mean)] if groups else [])]
    inside = min(_unclipped(np.quantile(sums, _ENDS), each, within) for each in fixed)
    vectors: list[Vector] = []
    for factor in (min(same, most), same, most, min(inside, most)):
        lift = (mean - factor * own_mean) / _whole(labelled, groups)
        weights = _fitted(factor * slopes, lift, groups, space, start)
        if constraints:
            pairs = enumerate(zip(start, weights, strict=True))
            # All weights of an ordered group count as changed, so that all of them are pooled.
            whole = {i for group in constraints.ordered for i in group}
            changes = {i: new for i, (old, new) in pairs if new != old or i in whole}
            kept = constraints.kept(start, changes, space, first=0)
            weights = tuple(kept.get(i, old) for i, old in enumerate(start))
        if weights != tuple(start) and weights not in vectors:
            vectors.append(weights)
    return tuple(vectors)


def _most(slopes: Doubles, space: SearchSpace) -> float:
    """Return the largest factor at which no free weight exceeds the bound on its side of 0."""
    room = [
        (space.highs[i] if slopes[i] > 0 else space.lows[i]) / slopes[i]
        for i in space.free
        if slopes[i]
    ]
    return min((factor for factor in room if factor > 0), default=0.0)


def _unclipped(ends: Doubles, fixed: tuple[float, float], within: tuple[float, float]) -> float:
    """Return the largest factor at which both `ends` of the sums, shape (2,), aren't clipped.

    Sums are scaled and then shifted so that a sum of ``fixed[0]`` becomes ``fixed[1]``.
    """
    room = [
        (bound - fixed[1]) / (end - fixed[0])
        for end, bound in zip(ends.tolist(), within, strict=True)
        if end != fixed[0]
    ]
    return min((factor for factor in room if factor > 0), default=math.inf)


def _whole(labelled: Labelled, groups: Sequence[Sequence[int]]) -> float:
    """Return the increase of the mean sum if all weights of all groups rise by 1, or 1 if none."""
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
    """Add `lift` to the weights of groups, as far as bounds allow, then round and clip all weights.

    Weights that aren't free keep their start.
    """
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
