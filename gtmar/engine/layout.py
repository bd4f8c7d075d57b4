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
    TierEdges = NDArray[np.uint8]

__all__ = ["Found", "Order", "Recipe", "Rows", "Workspace"]


class Rows(NamedTuple):
    """N accounts as the passes read them.

    Parameters
    ----------
    columns, widths
        int64, shape (F,): each column's address, and its bytes an item.
    runs
        int64, shape (R, 4): rows of one code from the first to before the last, the code, and which
        of a candidate's first three counts they add to. Together all rows.
    paying
        int64, shape (R, 2): runs of rows that the fourth count takes in.
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
    paying: Int64s
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
    lows
        int64, shape (T,): each tier's lowest place, from the highest tier down.
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

    lows: Int64s
    tier_of: TierEdges
    tier_thirds: TierEdges
    sides: TierEdges
    risk: bool
    paying: int
    valued: int
    paying_direct: bool
    valued_direct: bool


class Recipe(NamedTuple):
    """How the sums of a tier come from what was counted in it.

    Parameters
    ----------
    groups
        int64, shape (C, G): 1 where accounts of a code count in one of G groups.
    churned
        int64, shape (C,): 1 where a code says that the whole start MRR is gone.
    days
        int64, shape (U,): the distinct values of days, ascending.
    """

    groups: Int64s
    churned: Int64s
    days: Int64s


class Workspace(NamedTuple):
    """Room for a thread to count S candidates in, one a slot.

    Counts and heaps are zero whenever nobody counts.

    Parameters
    ----------
    places
        uint16, shape (S, N): each account's place, where cents are added up in a pass of their own;
        of no slots where they are not.
    counts
        int32, or uint16 for few accounts, shape (S, 5, P): accounts per place: negatives,
        positives, rest, paying, valued.
    heaps
        int64, shape (S, 5, P): cents per place: of the gone, of those who stay, contraction,
        expansion, LTV. Of no slots where cents have a pass of their own.
    bands
        uint8, shape (S, 2, P): a place's tier x 3 and its side of the top fifth's boundary; three
        times the side of the best quarter's and the side of the worst quarter's.
    cash
        int64, shape (4, bands): cents of a run by band.
    """

    places: NDArray[np.uint16]
    counts: NDArray[np.integer]
    heaps: Int64s
    bands: TierEdges
    cash: Int64s


class Found(NamedTuple):
    """What the candidates in S slots come to; zero whenever nobody counts.

    Parameters
    ----------
    extent
        int64, shape (S, 2): of all that there are, how many places there are from the lowest
        account's up, and from 0 to the highest account's.
    clipped, moments
        int64, shape (S, 2): accounts below 0 and above the maximum; the sum of places, and of
        their squares.
    ranks
        int64, shape (S,): the sum, over positives, of twice the accounts on places before and the
        accounts on their own.
    ends
        int64, shape (S, 3, 2): for the top fifth, the best and the worst quarter, the accounts up
        to the boundary's place, it included, and those on it.
    tier_counts, tier_days
        int64, shapes (S, T, C) and (S, T, U).
    tier_money
        int64, shape (S, 4, T): cents of the gone, of those who stay, contraction, expansion.
    top, ltv
        int64, shapes (S, 2, 4) and (S, 4): the same cents above the top fifth's boundary and on it;
        LTV above the best quarter's boundary, on it, below the worst quarter's, on it.
    """

    extent: Int64s
    clipped: Int64s
    moments: Int64s
    ranks: Int64s
    ends: Int64s
    tier_counts: Int64s
    tier_days: Int64s
    tier_money: Int64s
    top: Int64s
    ltv: Int64s
