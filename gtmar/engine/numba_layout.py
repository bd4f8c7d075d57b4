"""How accounts, score bins and room to count in lie in memory for machine code.

Letters of shapes: N accounts, F weights, T tiers, C codes, E codes that occur, U values of days,
P score bins, R runs of rows, S candidates, one a slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]
    Int32s = NDArray[np.int32]

__all__ = ["AccountRows", "Order", "PartialCounts", "Recipe", "Workspace"]


class AccountRows(NamedTuple):
    """N accounts as the passes read them."""

    #: int64, shape (F,): each column's address, and its bytes an item.
    columns: Int64s
    widths: Int64s
    #: int64, shape (R, 3): rows of one code from the first to before the last, and the number of
    #: the code among those that occur. Together all rows.
    runs: Int64s
    #: int64, shape (E, 2): codes that occur, and which of a candidate's first three counts their
    #: accounts add to.
    codes: Int64s
    #: int64, shape (R, 2): runs of rows that the fourth count takes in.
    paying: Int64s
    #: int32: rows that the fifth count takes in, ascending.
    listed: Int32s
    #: int32: rows whose days are known, ascending, and the index of their days.
    dated: Int32s
    days: Int32s
    #: int64, shape (5,): the row at which each run of cents begins.
    starts: Int64s
    #: Cents of the accounts of each cash flow, and LTV of all, 0 outside the LTV cohort; int32 or
    #: int64.
    cents: tuple[Integers, ...]
    #: int64, shape (5,): all cents of each.
    totals: Int64s


class Order(NamedTuple):
    """What score bins mean."""

    #: P: 100 x max_score + 1.
    bins: int
    #: int64, shape (T,): each tier's lowest bin, from the highest tier down, unless a rule sets it.
    lows: Int64s
    #: Whether a rule does; int64, shape (T - 1, 2), and (T - 1,): `TierRule.goals` and
    #: `TierRule.lifts`, of which one has no rows.
    by_rule: bool
    goals: Int64s
    lifts: Int64s
    #: Whether high scores are bad: then the order of bins is turned.
    risk: bool
    #: How many accounts pay, and how many are of the LTV cohort.
    paying: int
    valued: int
    #: Whether the fourth and the fifth count are of these accounts; else of all others.
    paying_direct: bool
    valued_direct: bool


class Recipe(NamedTuple):
    """How the sums of a tier come from its counts: indicators of `cohorts`, and values of days."""

    groups: Int64s
    churned: Int64s
    days: Int64s


class Workspace(NamedTuple):
    """Room for a thread to count S candidates in. Counts and histograms are 0 between calls."""

    #: uint16, shape (S, N): each account's bin, where cents are added up in a pass of their own; of
    #: no slots where they are not.
    bins: NDArray[np.uint16]
    #: int32, or uint16 for few accounts, shape (S, 5, P): accounts per bin: negatives, positives,
    #: rest, paying, valued. Where bins aren't kept, (S, 5 + E, P): then those of each code.
    counts: Integers
    #: uint16, shape (S, D): the bins of the D accounts whose days are known, where the others'
    #: aren't kept; of no accounts where they are. 0 between calls.
    dated: NDArray[np.uint16]
    #: int64, shape (S, 5, P): cents per bin, of no slots where they have a pass of their own.
    histograms: Int64s


class PartialCounts(NamedTuple):
    """The counts of the candidates in S slots, int64; 0 between calls."""

    #: Shape (S, 2): of all that there are, how many bins there are from the lowest account's up,
    #: and from 0 to the highest account's.
    extent: Int64s
    #: Shape (S, 2): accounts below 0 and above the maximum; the sum of bins, and of their squares.
    clipped: Int64s
    moments: Int64s
    #: Shape (S,): the sum, over positives, of twice the accounts in bins before and those in their
    #: own.
    ranks: Int64s
    #: Shape (S, 3, 2): for the top fifth, the best and the worst quarter, the accounts up to the
    #: boundary's bin, it included, and those in it.
    ends: Int64s
    #: Shape (S, T): the lowest bin of each tier.
    lows: Int64s
    #: Shapes (S, T, C), (S, T, U), and (S, 4, T): accounts, and cents by cash flow.
    tier_counts: Int64s
    tier_days: Int64s
    tier_money: Int64s
    #: Shape (S, 2, 4): cents by cash flow above the top fifth's boundary, and on it.
    top: Int64s
    #: Shape (S, 4): LTV above the best quarter's boundary, on it, below the worst quarter's, on it.
    ltv: Int64s
