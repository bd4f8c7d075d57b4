"""The AUC account by account, and how surely two scores of the same accounts differ in it.

References
----------
DeLong, DeLong & Clarke-Pearson 1988; Sun & Xu 2014 for the way by mid-ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.intp]
    #: As `placements` gives them.
    Placed = tuple[Floats, Floats]

__all__ = ["folded_difference", "placed", "placements"]


def placements(positives: Places, negatives: Places) -> tuple[Floats, Floats]:
    """Say of each account with what share of the other class it stands in the right order.

    Parameters
    ----------
    positives, negatives
        Score places, shapes (m,) and (n,); a tie counts half.

    Returns
    -------
    tuple of ndarray
        Shapes (m,) and (n,); the mean of either is the AUC.

    Notes
    -----
    By mid-ranks, which counts per place give without sorting: O(m + n + P).
    """
    size = int(max(positives.max(), negatives.max())) + 1
    up = np.bincount(positives, minlength=size)
    down = np.bincount(negatives, minlength=size)
    below = np.cumsum(down) - down / 2
    above = len(positives) - (np.cumsum(up) - up / 2)
    return below[positives] / len(negatives), above[negatives] / len(positives)


def placed(scores: Floats, positive: NDArray[np.bool_]) -> Placed:
    """Return placements of scores, shape (N,); they tie where they agree to nine decimals."""
    _, ranks = np.unique(np.round(scores, 9), return_inverse=True)
    return placements(ranks[positive], ranks[~positive])


def folded_difference(one: Sequence[Placed], two: Sequence[Placed]) -> tuple[float, float]:
    """Return by how much the second score's mean AUC over folds is higher, and its standard error.

    Each has a pair of placements a fold, of the same accounts.
    """
    folds = list(zip(one, two, strict=True))
    gain = float(np.mean([after[0].mean() - before[0].mean() for before, after in folds]))
    parts = [(a - b) for before, after in folds for a, b in zip(after, before, strict=True)]
    variance = sum(float(own.var(ddof=1)) / len(own) for own in parts if len(own) > 1)
    return gain, float(np.sqrt(variance)) / len(folds)
