"""From counts and cents by place to sums, as machine code, by numba.

What `boundaries` and `tally` do with numpy. It sees the places alone that some account is on. As
in `compiled_rows`, all of it is integer arithmetic, and nothing is called of another module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.engine.layout import Found, Order, Recipe, Workspace

    Int64s = NDArray[np.int64]
    Integers = NDArray[np.integer]
    TierEdges = NDArray[np.uint8]

__all__ = ["assemble", "conclude", "gather", "locate"]

#: Places of counts and heaps, and sides of a boundary: see `layout`.
_NEGATIVE, _POSITIVE, _REST, _PAYING, _VALUED = range(5)
_LTV, _SIDES = 4, 3
#: Places of a stretch.
_STRETCH = 64
#: Sums of the whole, before those of tiers; sums of a tier beside its groups of accounts.
_WHOLE, _BESIDE = 24, 7

_compiled = njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def _rank(order: Order, negatives: Integers, positives: Integers) -> int:
    """Return the sum, over positives, of twice the accounts before and those on their place."""
    most = len(negatives)
    before, rank = 0, 0
    for step in range(most):
        place = most - 1 - step if order.risk else step
        won = np.int64(positives[place])
        ranked = negatives[place] + won
        rank += won * (2 * before + ranked)
        before += ranked
    return rank


@_compiled
def _boundary(order: Order, counted: Integers, least: int, end: Int64s) -> int:
    """Find the first place up to which more than `least` accounts lie; -1 if there is none.

    `end` receives how many lie up to there, and how many on it.
    """
    most, before, total = len(counted), 0, 0
    for step in range(0, most, _STRETCH):
        # A stretch is added up at once, and walked along only where the boundary is.
        stop = min(step + _STRETCH, most)
        low, high = (most - stop, most - step) if order.risk else (step, stop)
        stretch = counted[low:high]
        total = before
        for place in range(len(stretch)):
            total += stretch[place]
        if total > least:
            for within in range(high - low):
                place = high - 1 - within if order.risk else low + within
                before += counted[place]
                if before > least and counted[place] > 0:
                    end[0], end[1] = before, counted[place]
                    return place
        before = total
    return -1


@_compiled
def _add_side(tiers: TierEdges, side: int, bands: TierEdges) -> None:
    for place in range(len(bands)):
        bands[place] = tiers[place] + side


@_compiled
def _name_bands(tiers: TierEdges, boundary: int, sides: TierEdges, bands: TierEdges) -> None:
    """Write tiers plus the side of a boundary that each place lies on."""
    after = boundary + 1
    _add_side(tiers[:after], sides[0], bands[:after])
    _add_side(tiers[after:], sides[2], bands[after:])
    if boundary >= 0:
        bands[boundary] += sides[1] - sides[0]


@_compiled
def _others(everyone: Integers, counted: Integers) -> None:
    """Turn counts of some accounts into counts of all others."""
    for place in range(len(counted)):
        counted[place] = everyone[place] - counted[place]


@_compiled
def _locate(
    order: Order, counts: Integers, low: int, high: int, found: Found, k: int
) -> tuple[int, int, int]:
    """Rank the positives, and find where the top fifth and both end quarters end.

    A boundary is the first place up to which more accounts lie than: four fifths of the paying,
    three quarters of the valued, and, of the worst quarter, one less than a quarter. Accounts lie
    in [low, high), and boundaries are counted from there; the counts are used up.
    """
    everyone, positives = counts[_NEGATIVE, low:high], counts[_POSITIVE, low:high]
    paying, valued = counts[_PAYING, low:high], counts[_VALUED, low:high]
    found.ranks[k] = _rank(order, everyone, positives)
    everyone += positives
    if not order.paying_direct:
        _others(everyone, paying)
    everyone += counts[_REST, low:high]
    if not order.valued_direct:
        _others(everyone, valued)
    ends = found.ends[k]
    top = _boundary(order, paying, order.paying * 4 // 5, ends[0])
    best = _boundary(order, valued, order.valued * 3 // 4, ends[1])
    worst = _boundary(order, valued, -(-order.valued // 4) - 1, ends[2])
    return top, best, worst


@_compiled
def _divide(heap: Int64s, place: int) -> tuple[int, int, int]:
    """Add up the cents below a place, on it and above it; all are above -1."""
    below, above = 0, 0
    for cents in heap[:place] if place >= 0 else heap[:0]:
        below += cents
    for cents in heap[place + 1 :]:
        above += cents
    return below, heap[place] if place >= 0 else 0, above


@_compiled
def _cut(
    order: Order,
    cuts: tuple[int, int, int],
    heaps: Int64s,
    low: int,
    high: int,
    found: Found,
    k: int,
) -> None:
    """Cut heaps of cents, all of which lie in [low, high), at tiers and boundaries."""
    for kind in range(_LTV):
        stop = high
        for tier in range(len(order.lows)):
            start = min(max(order.lows[tier], low), stop)
            for cents in heaps[kind, start:stop]:
                found.tier_money[k, kind, tier] += cents
            stop = start
        below, on, above = _divide(heaps[kind, low:high], cuts[0])
        found.top[k, 0, kind], found.top[k, 1, kind] = below if order.risk else above, on
    ltv = heaps[_LTV, low:high]
    below, on, above = _divide(ltv, cuts[1])
    found.ltv[k, 0], found.ltv[k, 1] = below if order.risk else above, on
    below, on, above = _divide(ltv, cuts[2])
    found.ltv[k, 2], found.ltv[k, 3] = above if order.risk else below, on


@_compiled
def _assemble(order: Order, recipe: Recipe, found: Found, k: int, sums: Int64s) -> None:
    """Write a candidate's sums, which are 0 before, in the order of `tally.TierEdges.names`."""
    groups = recipe.groups.shape[1]
    labelled, retained = 0, 0
    for tier in range(len(order.lows)):
        own, left = sums[_WHOLE + tier * (groups + _BESIDE) :], 0
        for code in range(len(recipe.churned)):
            number = found.tier_counts[k, tier, code]
            if number:
                left += number * recipe.churned[code]
                for group in range(groups):
                    own[group] += number * recipe.groups[code, group]
        gone, stays, less, more = found.tier_money[k, :, tier]
        beside = own[groups:]
        beside[0], beside[1], beside[2], beside[3] = gone + stays, stays - less + more, more, less
        # Without a label nobody is known to have left.
        beside[4] = gone if left else 0
        beside[5], beside[6] = _median_doubled(found.tier_days[k, tier], recipe.days)
        sums[0] += own[0]
        labelled += own[1]
        retained += own[2]
    sums[1], sums[2] = found.clipped[k]
    sums[3], sums[4] = found.moments[k]
    # Average ranks for ties: of the accounts on a place, the ranks before it and half its own.
    sums[5], sums[6], sums[7] = retained, labelled - retained, found.ranks[k] + retained
    ends, paying, valued = found.ends[k], order.paying, order.valued
    sums[8], sums[13], sums[14] = paying, ends[0, 1], paying - 5 * (paying - ends[0, 0])
    for side in range(2):
        gone, stays, less, more = found.top[k, side]
        sums[9 + side], sums[11 + side] = gone + stays, stays - less + more
    sums[15], sums[18], sums[22] = valued, ends[1, 1], ends[2, 1]
    sums[16], sums[17], sums[20], sums[21] = found.ltv[k]
    sums[19] = valued - 4 * (valued - ends[1, 0])
    sums[23] = valued - 4 * (ends[2, 0] - ends[2, 1])


@_compiled
def _median_doubled(histogram: Int64s, values: Int64s) -> tuple[int, int]:
    """Return how many there are and twice their median, 0 of none."""
    known = histogram.sum()
    if known == 0:
        return 0, 0
    reached, low, high = 0, 0, 0
    for number in histogram:
        reached += number
        low += reached <= (known - 1) // 2
        high += reached <= known // 2
    return known, values[low] + values[high]


@_compiled
def _clear(rows: Integers, low: int, high: int) -> None:
    """Leave counts or heaps as they were found: zero."""
    for row in range(len(rows)):
        rows[row, low:high] = 0


@_compiled
def _forget(found: Found, k: int) -> None:
    """Leave what was found of a candidate as it was: zero."""
    found.extent[k] = 0
    found.clipped[k] = 0
    found.moments[k] = 0
    found.tier_counts[k] = 0
    found.tier_days[k] = 0
    found.tier_money[k] = 0
    found.ends[k] = 0
    found.top[k] = 0
    found.ltv[k] = 0


@_compiled
def _occupied(order: Order, found: Found, k: int) -> tuple[int, int]:
    """Return the places between which all accounts of a slot lie: the first, and after the last."""
    return len(order.tier_of) - found.extent[k, 0], found.extent[k, 1]


@_compiled
def locate(order: Order, desk: Workspace, found: Found, count: int) -> None:
    """Rank positives, find boundaries and name bands, for the candidates in the first slots."""
    for k in range(count):
        low, high = _occupied(order, found, k)
        top, best, worst = _locate(order, desk.counts[k], low, high, found, k)
        _clear(desk.counts[k], low, high)
        own, ltv = desk.bands[k, 0, low:high], desk.bands[k, 1, low:high]
        _name_bands(order.tier_thirds[low:high], top, order.sides, own)
        ltv[:] = 0
        _name_bands(ltv, best, order.sides, ltv)
        for place in range(len(ltv)):
            ltv[place] *= _SIDES
        _name_bands(ltv, worst, order.sides, ltv)


@_compiled
def assemble(order: Order, recipe: Recipe, found: Found, count: int, sums: Int64s) -> None:
    """Put together the sums of the candidates in the first slots; `sums`, (K, S), are 0 before."""
    for k in range(count):
        _assemble(order, recipe, found, k, sums[k])
        _forget(found, k)


@_compiled
def gather(
    order: Order,
    desk: Workspace,
    found: Found,
    other: Workspace,
    more: Found,
    first: int,
    last: int,
) -> None:
    """Add what another thread counted for the candidates from `first` to before `last`."""
    for k in range(first, last):
        low, high = _occupied(order, more, k)
        for row in range(desk.counts.shape[1]):
            counts, heap = desk.counts[k, row, low:high], desk.heaps[k, row, low:high]
            counts += other.counts[k, row, low:high]
            heap += other.heaps[k, row, low:high]
        found.clipped[k] += more.clipped[k]
        found.moments[k] += more.moments[k]
        found.tier_counts[k] += more.tier_counts[k]
        found.tier_days[k] += more.tier_days[k]
        for end in range(2):
            found.extent[k, end] = max(found.extent[k, end], more.extent[k, end])
        _clear(other.counts[k], low, high)
        _clear(other.heaps[k], low, high)
        _forget(more, k)


@_compiled
def conclude(
    order: Order, recipe: Recipe, desk: Workspace, found: Found, first: int, last: int, sums: Int64s
) -> None:
    """Put together the same, from heaps, for the candidates from `first` to before `last`."""
    for k in range(first, last):
        low, high = _occupied(order, found, k)
        cuts = _locate(order, desk.counts[k], low, high, found, k)
        _cut(order, cuts, desk.heaps[k], low, high, found, k)
        _assemble(order, recipe, found, k, sums[k])
        _clear(desk.counts[k], low, high)
        _clear(desk.heaps[k], low, high)
        _forget(found, k)
