"""How closely one column goes with an outcome, or with another column: plain numpy.

All of it is exact up to one division, and the same whatever the order of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Flags = NDArray[np.bool_]

__all__ = [
    "ColumnContent",
    "area",
    "content_of",
    "few",
    "levels_of",
    "one_to_one",
    "proportional",
    "pure",
    "rank_correlation",
    "readings",
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


#: A text column of more values is no category.
_MOST_LEVELS = 50
#: Means of two columns that are one line lie as far from the middle, up to this.
_ALIKE = 1e-6


def readings(column: pl.Series) -> tuple[Doubles | None, NDArray[np.intp] | None]:
    """Return a column as doubles, NaN where unknown, and as codes of few levels; None for neither.

    Dates count as numbers.
    """
    dtype = column.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return None, None
    if dtype.is_temporal():
        column = column.to_physical()
    values: Doubles | None = None
    if column.dtype.is_numeric() or dtype == pl.Boolean:
        column = column.cast(pl.Float64).fill_nan(None)
        values = column.to_numpy()
    else:
        column = column.cast(pl.String)
    if column.n_unique() > _MOST_LEVELS:
        return values, None
    # Ranks of the values from 1, so that 0 is free for the unknown.
    return values, column.rank("dense").fill_null(0).to_numpy().astype(np.intp)


def few(codes: NDArray[np.intp]) -> bool:
    """Whether levels are so few that each has accounts enough to tell."""
    return len(np.unique(codes)) <= len(codes) / 5


@dataclass(frozen=True)
class ColumnContent:
    """A column and what it has in common with any that says the same."""

    name: str
    key: tuple[object, ...]
    content: NDArray[Any]
    #: How far the mean is from the middle between both ends, as a share; None for categories.
    lean: float | None

    def says_the_same_as(self, other: ColumnContent) -> bool:
        """Whether both are one line, up or down, or categories that go one to one."""
        if self.lean is None or other.lean is None:
            return one_to_one(self.content, other.content)
        return abs(self.lean - other.lean) < _ALIKE and proportional(self.content, other.content)


def content_of(column: pl.Series) -> ColumnContent | None:
    """Read a column; None where it doesn't vary, or is neither number nor category."""
    values, codes = readings(column)
    if values is None:
        if codes is None or not few(codes) or len(np.unique(codes)) < 2:
            return None
        return ColumnContent(
            column.name, ("levels", *sorted(np.bincount(codes).tolist())), codes, None
        )
    known = values[~np.isnan(values)]
    if not len(known) or not np.isfinite(known).all() or known.min() == known.max():
        return None
    lean = abs((known.mean() - known.min()) / (known.max() - known.min()) - 0.5)
    return ColumnContent(column.name, ("line", len(known)), values, float(lean))
