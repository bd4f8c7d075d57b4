"""DeLong's placements, and the difference of two scores' AUC on the same accounts.

References
----------
DeLong, DeLong & Clarke-Pearson 1988; Sun & Xu 2014 for the computation by mid-ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.intp]
    #: A result of `placements`.
    Placed = tuple[Floats, Floats]

__all__ = ["folded_difference", "placed", "placements"]


def placements(positives: Places, negatives: Places) -> tuple[Floats, Floats]:
    """Return the share of the other class that each account is ranked correctly against.

    Parameters
    ----------
    positives, negatives
        Score ranks from 0, shapes (m,) and (n,), each with at least one account; a tie counts half.

    Returns
    -------
    tuple of ndarray
        Shapes (m,) and (n,), in [0, 1]; the mean of either is the AUC.

    Notes
    -----
    By mid-ranks from counts per rank, without sorting: O(m + n + R) for R ranks.
    """
    size = int(max(positives.max(), negatives.max())) + 1
    up = np.bincount(positives, minlength=size)
    down = np.bincount(negatives, minlength=size)
    below = np.cumsum(down) - down / 2
    above = len(positives) - (np.cumsum(up) - up / 2)
    return below[positives] / len(negatives), above[negatives] / len(positives)


def placed(scores: Floats, positive: NDArray[np.bool_]) -> Placed:
    """Return the placements of scores, shape (N,); scores tie if equal to nine decimals."""
    _, ranks = np.unique(np.round(scores, 9), return_inverse=True)
    return placements(ranks[positive], ranks[~positive])


def folded_difference(one: Sequence[Placed], two: Sequence[Placed]) -> tuple[float, float]:
    """Return the second score's gain in mean AUC over folds, and the gain's standard error.

    `one` and `two` hold the placements of each fold, of the same accounts in the same order.
    """
    folds = list(zip(one, two, strict=True))
    gain = float(np.mean([after[0].mean() - before[0].mean() for before, after in folds]))
    parts = [(a - b) for before, after in folds for a, b in zip(after, before, strict=True)]
    variance = sum(float(own.var(ddof=1)) / len(own) for own in parts if len(own) > 1)
    return gain, float(np.sqrt(variance)) / len(folds)
