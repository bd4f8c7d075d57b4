"""Totals: what counts come down to, however they were counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]

__all__ = ["BOUNDARY_SUMS", "CASH", "Totals", "boundary_rows"]

#: Runs of cents that are added up by tier: gone, stays, contraction, expansion.
CASH = 4
#: Sums that the boundaries of the top fifth and of both end quarters give: see `boundary_rows`.
BOUNDARY_SUMS = 16


@dataclass(frozen=True)
class Totals:
    """Exact integers of K candidates, from which their sums are put together.

    Parameters
    ----------
    clipped
        int64, shape (K, 2): accounts whose rounded raw score lies below 0, and above the maximum.
    moments
        int64, shape (K, 2): the sum of all score places, and of their squares.
    ranks
        int64, shape (K,): the sum, over positives, of twice the labelled accounts on places before
        and the labelled accounts on their own.
    tier_counts
        int64, shape (K, T, C): accounts per tier and code.
    tier_days
        int64, shape (K, T, U): activated accounts per tier and distinct value of days.
    tier_money
        int64, shape (K, CASH, L, T): cents per tier, in L limbs: start MRR of the paying that are
        gone, of those that stay, contraction, expansion.
    boundaries
        int64, shape (K, L, 16): from `boundary_rows`.
    """

    clipped: Int64s
    moments: Int64s
    ranks: Int64s
    tier_counts: Int64s
    tier_days: Int64s
    tier_money: Int64s
    boundaries: Int64s


def boundary_rows(
    totals: tuple[Int64s, Int64s], ends: Int64s, top: tuple[Int64s, Int64s], ltv: Int64s
) -> Int64s:
    """Put the sums of the boundaries in their order.

    Parameters
    ----------
    totals
        int64, shape (K,) each: the paying accounts, and those of the LTV cohort.
    ends
        int64, shape (K, 3, 2): for the top fifth, the best and the worst quarter, accounts up to
        the boundary's place, it included, and those on it.
    top
        int64, shape (K, L, 4) each: cents above the top fifth's boundary and on it, of the paying
        that are gone, that stay, contraction, expansion.
    ltv
        int64, shape (K, L, 4): LTV above the best quarter's boundary, on it; below the worst
        quarter's, on it.

    Returns
    -------
    ndarray of int64, shape (K, L, 16)
        From `top_accounts` on, as `tally.SCALAR_SUMS` names them.
    """
    paying, valued = totals
    rows = np.zeros((len(ltv), ltv.shape[1], BOUNDARY_SUMS), dtype=np.int64)
    upto, tied = ends[..., 0], ends[..., 1]
    rows[:, 0, 0], rows[:, 0, 7] = paying, valued
    rows[:, 0, [5, 10, 14]] = tied
    rows[:, 0, 6] = paying - 5 * (paying - upto[:, 0])
    rows[:, 0, 11] = valued - 4 * (valued - upto[:, 1])
    rows[:, 0, 15] = valued - 4 * (upto[:, 2] - tied[:, 2])
    for column, part in enumerate(top, start=1):
        gone, stays, contraction, expansion = np.moveaxis(part, -1, 0)
        rows[..., column] = gone + stays
        rows[..., column + 2] = stays - contraction + expansion
    rows[..., [8, 9, 12, 13]] = ltv
    return rows
