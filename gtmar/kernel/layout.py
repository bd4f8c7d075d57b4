"""How accounts lie in memory for the passes of `compiled`, and what these give.

Letters as in the package's docstring; R runs of rows, S slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Int32s = NDArray[np.int32]
    Bands = NDArray[np.uint8]

__all__ = ["Found", "Order", "Rows", "Scratch"]


class Rows(NamedTuple):
    """N accounts as the passes read them.

    Parameters
    ----------
    columns, widths
        int64, shape (F,): each column's address, and its bytes an item.
    runs
        int64, shape (R, 3): a run of rows, and which of a candidate's five counts it adds to.
    codes
        int16, shape (N,), in [0, C).
    listed
        int32: rows that the fifth count takes in, ascending.
    dated, days
        int32: rows whose days are known, ascending, and the place of their days.
    starts
        int64, shape (4,): the row at which each run of cents begins; LTV's begins with the first.
    gone, stays, contracted, expanded, ltv
        int32 or int64: cents of each run's accounts; LTV is 0 outside the LTV cohort.
    """

    columns: Int64s
    widths: Int64s
    runs: Int64s
    codes: NDArray[np.int16]
    listed: Int32s
    dated: Int32s
    days: Int32s
    starts: Int64s
    gone: NDArray[np.integer]
    stays: NDArray[np.integer]
    contracted: NDArray[np.integer]
    expanded: NDArray[np.integer]
    ltv: NDArray[np.integer]


class Order(NamedTuple):
    """What places mean.

    Parameters
    ----------
    tier_of, tier_thirds
        uint8, shape (100 x max_score + 1,): a place's tier, 0 the highest; three times that.
    sides
        uint8, shape (3,): the side of places before a boundary, of its own place and of those
        after: 0, 1, 2, and turned where the order is.
    risk
        Whether high scores are bad: then the order of places is turned.
    paying, valued
        How many accounts pay, and how many are of the LTV cohort.
    paying_direct, valued_direct
        Whether the fourth and the fifth count are of these accounts; else of all others.
    """

    tier_of: NDArray[np.uint8]
    tier_thirds: NDArray[np.uint8]
    sides: NDArray[np.uint8]
    risk: bool
    paying: int
    valued: int
    paying_direct: bool
    valued_direct: bool


class Scratch(NamedTuple):
    """Room to count S candidates in, one a slot; what is counted in is zeroed before.

    Parameters
    ----------
    places
        uint16, shape (S, N): each account's place.
    counts
        int32, shape (S, 5, P): accounts per place: negatives, positives, rest, paying, valued.
    codes
        int64, shape (4, T, C): accounts by tier and code; see `TURNS`.
    bands
        uint8, shape (S, 2, P): a place's tier x 3 and its side of the top fifth's boundary; three
        times the side of the best quarter's and the side of the worst quarter's.
    cash
        int64, shape (4, bands): cents of a run by band.
    """

    places: NDArray[np.uint16]
    counts: Int32s
    codes: Int64s
    bands: NDArray[np.uint8]
    cash: Int64s


class Found(NamedTuple):
    """What K candidates come to.

    Parameters
    ----------
    clipped, moments
        int64, shape (K, 2): accounts below 0 and above the maximum; the sum of places, and of
        their squares.
    ranks
        int64, shape (K,): the sum, over positives, of twice the accounts on places before and the
        accounts on their own.
    ends
        int64, shape (K, 3, 2): for the top fifth, the best and the worst quarter, the accounts up
        to the boundary's place, it included, and those on it.
    tier_counts, tier_days
        int64, shapes (K, T, C) and (K, T, U).
    tier_money
        int64, shape (K, 4, T): cents of the gone, of those who stay, contraction, expansion.
    top, ltv
        int64, shapes (K, 2, 4) and (K, 4): the same cents above the top fifth's boundary and on it;
        LTV above the best quarter's boundary, on it, below the worst quarter's, on it.
    """

    clipped: Int64s
    moments: Int64s
    ranks: Int64s
    ends: Int64s
    tier_counts: Int64s
    tier_days: Int64s
    tier_money: Int64s
    top: Int64s
    ltv: Int64s
