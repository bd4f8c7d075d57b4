"""Monotone (isotonic) regression of shares and means: neighbours in the wrong order are pooled."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = ["Pool", "few_steps", "isotonic", "pooled"]


@dataclass(frozen=True)
class Pool:
    """A step of neighbouring values, from `low` up: `hits` of its `total` accounts are events."""

    low: int
    hits: int
    total: int

    @property
    def share(self) -> Fraction:
        """Hits over total, exactly."""
        return Fraction(self.hits, self.total)

    def joined(self, above: Pool) -> Pool:
        """Return this step and the step `above` it merged into one."""
        return Pool(self.low, self.hits + above.hits, self.total + above.total)


def pooled(steps: Iterable[Pool], *, rising: bool) -> list[Pool]:
    """Pool adjacent violators: fit the monotone shares that are closest to the counts.

    Parameters
    ----------
    steps
        In ascending order of `low`, each with a total of 1 or more.
    rising
        Whether shares rise with the values; False if they fall.

    Returns
    -------
    list of Pool
        In ascending order of `low`; shares strictly rise, or strictly fall.

    Notes
    -----
    Exact integer arithmetic, so the result depends on neither row order nor machine. Linear in the
    number of steps.

    References
    ----------
    Ayer, Brunk, Ewing, Reid & Silverman 1955.

    Examples
    --------
    >>> [(s.low, s.hits, s.total) for s in pooled([Pool(0, 2, 4), Pool(1, 1, 4)], rising=True)]
    [(0, 3, 8)]
    """
    kept: list[Pool] = []
    for step in steps:
        last = step
        while kept and not _in_order(kept[-1], last, rising=rising):
            last = kept.pop().joined(last)
        kept.append(last)
    return kept


def _in_order(below: Pool, above: Pool, *, rising: bool) -> bool:
    one, two = below.hits * above.total, above.hits * below.total
    return one < two if rising else one > two


def isotonic(means: Doubles, sizes: Doubles) -> Doubles:
    """Return the non-decreasing levels with the least weighted squared error to K means.

    Parameters
    ----------
    means
        Shape (..., K): any number of sequences at once. The result has the same shape.
    sizes
        Weights above 0, shape (K,).

    Notes
    -----
    The max-min formula: level k is the maximum, over all i <= k, of the minimum, over all j >= k,
    of the mean of i to j. Cost: O(K^2) for each sequence. Robertson, Wright & Dykstra, Order
    Restricted Statistical Inference, 1988, theorem 1.4.4.

    Examples
    --------
    >>> isotonic(np.array([1.0, 4.0, 2.0]), np.ones(3))
    array([1., 3., 3.])
    """
    levels = np.full(means.shape, -np.inf)
    for begin in range(means.shape[-1]):
        sums = np.cumsum((means * sizes)[..., begin:], axis=-1) / np.cumsum(sizes[begin:])
        least = np.minimum.accumulate(sums[..., ::-1], axis=-1)[..., ::-1]
        levels[..., begin:] = np.maximum(levels[..., begin:], least)
    return levels


def few_steps(steps: Sequence[Pool], *, most: int, least: int) -> list[Pool]:
    """Join neighbouring steps until at most `most` remain, each with a total of `least` or more.

    Each round joins the pair of neighbours that adds the least squared error (Ward 1963), the
    lowest pair in a tie. While any step is too small, only the smallest is joined, to one of its
    neighbours. Monotone steps stay monotone.
    """
    kept = list(steps)
    while len(kept) > 1:
        small = [index for index, step in enumerate(kept) if step.total < least]
        if not small and len(kept) <= most:
            break
        pairs = range(len(kept) - 1)
        if small:
            index = min(small, key=lambda each: kept[each].total)
            pairs = range(max(0, index - 1), min(index + 1, len(kept) - 1))
        first = min(pairs, key=lambda each: _error(kept[each], kept[each + 1]))
        kept[first : first + 2] = [kept[first].joined(kept[first + 1])]
    return kept


def _error(one: Pool, two: Pool) -> Fraction:
    """Return the squared error that joining two steps adds."""
    weight = Fraction(one.total * two.total, one.total + two.total)
    return weight * (one.share - two.share) ** 2
