"""How closely one column goes with an outcome, or with another column: plain numpy.

All of it is exact up to one division, and the same whatever the order of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Flags = NDArray[np.bool_]

__all__ = [
    "area",
    "levels_of",
    "one_to_one",
    "proportional",
    "pure",
    "rank_correlation",
    "separation",
]

#: Two columns are the same line where they differ by no more than this share of their range.
_NOTHING = 1e-9
#: Rarer levels of a category are taken together.
_RARE = 10


def area(values: Doubles, positive: Flags) -> float:
    """Return the area under the ROC curve of one column, ties counted half.

    Parameters
    ----------
    values
        Shape (N,), none unknown.
    positive
        Shape (N,), with both classes in it.

    Returns
    -------
    float
        In [0, 1]; 0.5 says nothing, 0 and 1 say all.

    References
    ----------
    Hanley and McNeil (1982), The meaning and use of the area under a ROC curve.
    """
    levels, place = np.unique(values, return_inverse=True)
    above = np.bincount(place, weights=positive, minlength=len(levels))
    below = np.bincount(place, minlength=len(levels)) - above
    won = (above * (np.cumsum(below) - below / 2)).sum()
    return float(won / (above.sum() * below.sum()))


def separation(values: Doubles, positive: Flags) -> float:
    """Return how well one column ranks an outcome by itself, in [0.5, 1].

    The area under the ROC curve in the better direction, unknown values (NaN) a level of their own:
    below or above all others, whichever separates more.

    Parameters
    ----------
    values
        Shape (N,), NaN where unknown.
    positive
        Shape (N,), with both classes in it.
    """
    unknown = np.isnan(values)
    if not unknown.any():
        found = area(values, positive)
        return max(found, 1 - found)
    _, place = np.unique(values[~unknown], return_inverse=True)
    best = 0.5
    for level in (-1, len(place)):
        ranked = np.full(len(values), float(level))
        ranked[~unknown] = place
        found = area(ranked, positive)
        best = max(best, found, 1 - found)
    return best


def levels_of(codes: NDArray[np.intp], positive: Flags) -> Doubles:
    """Return each account's level as the share of positives in it, so that `separation` ranks it.

    Parameters
    ----------
    codes
        Shape (N,): the category as a number from 0, the unknown being one of them.
    positive
        Shape (N,).

    Returns
    -------
    ndarray of float64, shape (N,)
        Levels of fewer than ten accounts share one level.
    """
    size = np.bincount(codes)
    rare = (size < _RARE)[codes]
    codes = np.where(rare, len(size), codes)
    size = np.bincount(codes)
    share: Doubles = np.bincount(codes, weights=positive) / np.maximum(size, 1)
    return share[codes]


def pure(codes: NDArray[np.intp], positive: Flags) -> bool:
    """Whether every category, shape (N,), goes with one class alone."""
    size, above = np.bincount(codes), np.bincount(codes, weights=positive)
    return bool(np.all((above == 0) | (above == size)))


def rank_correlation(one: Doubles, two: Doubles) -> float:
    """Spearman's rank correlation of two columns, shape (N,), none unknown; 0 for a constant one.

    References
    ----------
    Spearman (1904), The proof and measurement of association between two things.
    """
    ranks = [_mid_ranks(values) for values in (one, two)]
    spreads = [values - values.mean() for values in ranks]
    size = np.sqrt((spreads[0] ** 2).sum() * (spreads[1] ** 2).sum())
    return float((spreads[0] * spreads[1]).sum() / size) if size else 0.0


def _mid_ranks(values: Doubles) -> Doubles:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle: Doubles = np.cumsum(count) - (count - 1) / 2
    return middle[place]


def one_to_one(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Whether each value of one column, shape (N,), goes with one value of the other, and back.

    Columns whose values hardly repeat go with anything; they never count.
    """
    first, at = np.unique(one, return_inverse=True)
    second, there = np.unique(two, return_inverse=True)
    if len(first) != len(second) or len(first) < 2 or len(first) > len(one) / 3:
        return False
    return len(np.unique(at * len(second) + there)) == len(first)


def proportional(one: Doubles, two: Doubles) -> bool:
    """Whether two columns, shape (N,), NaN where unknown, are one line, up or down.

    Both must be unknown for the same accounts, and vary.
    """
    if not np.array_equal(np.isnan(one), np.isnan(two)):
        return False
    shares = []
    for values in (one, two):
        known = values[~np.isnan(values)]
        if not len(known) or known.min() == known.max():
            return False
        shares.append((known - known.min()) / (known.max() - known.min()))
    up, down = (np.abs(shares[0] - other).max() for other in (shares[1], 1 - shares[1]))
    return bool(min(up, down) <= _NOTHING)
