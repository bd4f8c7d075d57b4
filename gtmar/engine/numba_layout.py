"""Memory layout for machine code: accounts, score bins, buffers for counting.

Letters of shapes: N accounts, F weights, T tiers, C codes of movement class and activation state, E
codes that occur in the table, U distinct values of days, P score bins, R row ranges, S slots, each
of which counts one candidate.
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
    """N accounts as the compiled functions read them."""

    #: int64, shape (F,): each column's address in memory, and its bytes per item.
    columns: Int64s
    widths: Int64s
    #: int64, shape (R, 3): ranges [first, last) of rows with the same code, and the code's index in
    #: `codes`. Together they are all rows.
    runs: Int64s
    #: int64, shape (E, 2): a code, and which count its accounts go to: 0 negatives, 1 positives, 2
    #: rest.
    codes: Int64s
    #: int64, shape (R, 2): ranges of rows for the count of paying accounts; see
    #: `Order.paying_direct`.
    paying: Int64s
    #: int32, ascending: rows for the count of the LTV cohort; see `Order.valued_direct`.
    listed: Int32s
    #: int32, ascending: rows whose days to activation are known, and the index of their days.
    dated: Int32s
    days: Int32s
    #: int64, shape (5,): the first row of each array in `cents`.
    starts: Int64s
    #: Five arrays, int32 or int64: cents of consecutive rows for each of `CASH_FLOWS`, and LTV of
    #: all rows, 0 outside the LTV cohort.
    cents: tuple[Integers, ...]
    #: int64, shape (5,): the sum of each array in `cents`.
    totals: Int64s


class Order(NamedTuple):
    """What score bins mean, and how cohorts are counted."""

    #: P: 100 x max_score + 1.
    bins: int
    #: int64, shape (T,): each tier's lowest bin, from the highest tier down; 0 if a rule sets it.
    lows: Int64s
    #: Whether a rule sets the lowest bins: then `goals`, int64 (T - 1, 2), or `lifts`, int64
    #: (T - 1,), are those of `TierRule`, and the other one is empty.
    by_rule: bool
    goals: Int64s
    lifts: Int64s
    #: Whether high scores are bad: then bins are ranked from the highest down.
    risk: bool
    #: How many accounts pay, and how many are in the LTV cohort.
    paying: int
    valued: int
    #: Whether paying accounts, and those of the LTV cohort, are counted themselves. If False, the
    #: others are, since they are fewer, and subtracted: from all labelled accounts, and from all.
    paying_direct: bool
    valued_direct: bool


class Recipe(NamedTuple):
    """How the sums of a tier follow from its counts."""

    #: `cohorts.ACCOUNT_INDICATOR` and `cohorts.CHURNED_INDICATOR`.
    groups: Int64s
    churned: Int64s
    #: int64, shape (U,): the distinct values of days to activation, ascending.
    days: Int64s


class Workspace(NamedTuple):
    """Buffers of one thread for S candidates; counts, histograms and `dated` are 0 between calls.

    There are two kinds. One keeps every account's bin, and sums cents in a second pass over the
    rows (`bins`). The other keeps histograms of cents by bin, and no account's bin
    (`histograms`, `dated`, more rows of `counts`). The fields of the other kind are empty.
    """

    #: uint16, shape (S, N): each account's bin.
    bins: NDArray[np.uint16]
    #: int32, or uint16 for few accounts, shape (S, 5, P): accounts per bin: negatives, positives,
    #: rest, paying, LTV cohort. With histograms, shape (S, 5 + E, P): after those, each code's.
    counts: Integers
    #: uint16, shape (S, D): the bins of the D accounts whose days are known.
    dated: NDArray[np.uint16]
    #: int64, shape (S, 5, P): cents per bin, as in `AccountRows.cents`.
    histograms: Int64s


class PartialCounts(NamedTuple):
    """What is known so far of the candidates in S slots, all int64; 0 between calls."""

    #: Shape (S, 2): the number of bins from the lowest occupied one up, and from bin 0 to the
    #: highest occupied one. Each only grows, so that extents of two threads join by their maxima.
    extent: Int64s
    #: Shape (S, 2): accounts clipped from below 0 and from above the maximum; the sum of bins over
    #: accounts, and of their squares.
    clipped: Int64s
    moments: Int64s
    #: Shape (S,): the sum over positives of twice the labelled accounts in lower-ranked bins, plus
    #: those in their own bin.
    ranks: Int64s
    #: Shape (S, 3, 2): for the boundaries of the top fifth, the best and the worst quarter, how
    #: many accounts lie up to the boundary's bin, included, and how many in it.
    ends: Int64s
    #: Shape (S, T): the lowest bin of each tier.
    lows: Int64s
    #: Shapes (S, T, C), (S, T, U), (S, 4, T): accounts by code, by days, and cents by cash flow.
    tier_counts: Int64s
    tier_days: Int64s
    tier_money: Int64s
    #: Shape (S, 2, 4): cents by cash flow beyond the top fifth's boundary, and in its bin.
    top: Int64s
    #: Shape (S, 4): LTV in cents beyond the best quarter's boundary and in its bin, then the same
    #: of the worst quarter's.
    ltv: Int64s
