"""Capture curves: how much of the MRR, or of the retained accounts, the best-scored share holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.evaluate.cohorts import cohorts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.accounts.matrix import AccountMatrix

__all__ = ["GRID", "Capture", "capture_of"]

#: Shares of accounts at which a curve is drawn; 0.2, where the metric is read, is one of them.
GRID = np.arange(201) / 200


@dataclass(frozen=True)
class Capture:
    """Curves over `GRID`, each from 0 to 1: captured share of what counts.

    Parameters
    ----------
    of
        What is captured: ``MRR``, or ``retained accounts`` where the table has no MRR.
    accounts
        Accounts in the cohort: paying ones, or those with a label.
    start, best
        float64, shape (201,): accounts in the order of the start's and the best's scores. Accounts
        of one score are taken as evenly spread over their places, as the metrics take them.
    perfect
        The same in the order of what is captured itself: no score can do better.
    """

    of: str
    accounts: int
    start: NDArray[np.float64]
    best: NDArray[np.float64]
    perfect: NDArray[np.float64]


def capture_of(
    matrix: AccountMatrix, scores: Sequence[NDArray[np.int64]], *, risk: bool
) -> Capture | None:
    """Return the curves of two scores.

    Parameters
    ----------
    matrix
        N accounts.
    scores
        Score values of the start and of the best, each of shape (N,), in matrix order.
    risk
        Whether a high score is bad, so that the lowest come first.

    Returns
    -------
    Capture or None
        None where there is nothing to capture: neither MRR nor a retained account.

    Notes
    -----
    Amounts are added up as doubles: exact to 2^53 cents, and a picture needs no more.
    """
    cohorts = cohorts_of(matrix)
    if matrix.start is not None and matrix.start[cohorts.paying].any():
        amounts = matrix.start[cohorts.paying].astype(np.float64)
        rows, of = cohorts.paying, "MRR"
    else:
        rows = slice(cohorts.negatives.start, cohorts.positives.stop)
        kept = cohorts.positives.stop - cohorts.positives.start
        lost = cohorts.negatives.stop - cohorts.negatives.start
        if not kept:
            return None
        amounts, of = np.repeat([0.0, 1.0], [lost, kept]), "retained accounts"
    start, best = (_curve(s[rows] if risk else -s[rows], amounts) for s in scores)
    perfect = _curve(-amounts, amounts)
    return Capture(of=of, accounts=len(amounts), start=start, best=best, perfect=perfect)


def _curve(order: NDArray[np.number], amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the captured share at each of `GRID`, the lowest of `order` first."""
    _, places = np.unique(order, return_inverse=True)
    accounts = np.cumsum(np.bincount(places))
    captured = np.cumsum(np.bincount(places, weights=amounts))
    x = np.concatenate([[0.0], accounts / accounts[-1]])
    y = np.concatenate([[0.0], captured / captured[-1]])
    curve: NDArray[np.float64] = np.interp(GRID, x, y)
    return curve
