"""The kernel as machine code, by numba: scores, counts and cents by score bin, and the sums.

It computes what `numpy_kernel` and `tally` compute, but row by row while a block of rows is in a
core's cache, and without holding Python's lock, so that threads share a table. All arithmetic is on
integers: nothing here can round. Letters of shapes are those of `numba_layout`; `k` is a slot, or
the index of a candidate.

numba compiles anew only what changed in a function's own module. So after a change in the order of
`cohorts` or `sum_names`, or of the fields of `numba_layout`, a line must change here, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]  # numba lists no exports
from numba.core import cgutils
from numba.extending import intrinsic

from gtmar.engine.cohorts import CASH_FLOWS
from gtmar.engine.sum_names import SCALAR_SUMS, TIER_SUMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gtmar.engine.numba_layout import AccountRows, Order, PartialCounts, Recipe, Workspace

    Int64s = NDArray[np.int64]
    Int32s = NDArray[np.int32]
    Integers = NDArray[np.integer]
    Bins = NDArray[np.uint16]

_Function = TypeVar("_Function", bound="Callable[..., Any]")

__all__ = ["conclude", "count_tiers", "evaluate", "gather", "move", "tabulate"]

#: Rows of a block: its scores and bins stay in a core's own cache.
_BLOCK = 2_048
#: Rows that are counted for all candidates before the next ones are read, so that only the first
#: candidate reads the columns from memory.
_SHARED = 32_768
#: Raw scores are in 1/10,000 of a point, score values in 1/100; half a score value rounds up.
_RAW_PER_SCORE, _HALF = 100, 50
#: The largest number of a bin: bins are uint16.
_MOST = 2**16 - 1
#: Rows of `Workspace.counts`; those of codes begin at the last.
_NEGATIVE, _POSITIVE, _REST, _PAYING, _VALUED, _BY_CODE = range(6)
#: Units of `TierRule.goals`, millionths of the accounts, and of `TierRule.lifts`, hundredths.
_MILLION, _HUNDRED = 1_000_000, 100
_LTV = len(CASH_FLOWS)
#: Score bins that are added up together while a boundary is searched.
_STRETCH = 128

# Index of each sum by name, since compiled code can't look names up.
_whole, _tier = SCALAR_SUMS.index, TIER_SUMS.index
_SCORED, _CLIPPED_LOW, _CLIPPED_HIGH = map(_whole, ("scored", "clipped_low", "clipped_high"))
_SCORE_SUM, _SCORE_SQUARES = map(_whole, ("score_sum", "score_squares"))
_POSITIVES, _NEGATIVES, _RANKS = map(_whole, ("positives", "negatives", "rank_doubled"))
_TOP_ACCOUNTS, _TOP_START, _TOP_END = map(_whole, ("top_accounts", "top_start", "top_end"))
_TOP_TIED, _TOP_FIT, _LTV_ACCOUNTS = map(_whole, ("top_tied", "top_fit", "ltv_accounts"))
_BEST_LTV, _BEST_TIED, _BEST_FIT = map(_whole, ("best_ltv", "best_tied", "best_fit"))
_WORST_LTV, _WORST_TIED, _WORST_FIT = map(_whole, ("worst_ltv", "worst_tied", "worst_fit"))
_BEST_LTV_TIED, _WORST_LTV_TIED = map(_whole, ("best_ltv_tied", "worst_ltv_tied"))
_WHOLE, _TIER = len(SCALAR_SUMS), len(TIER_SUMS)
_ACCOUNTS, _LABELLED, _RETAINED = map(_tier, ("accounts", "labelled", "retained"))
_START, _END, _CHURNED = map(_tier, ("start", "end", "churned"))
_EXPANSION, _CONTRACTION = map(_tier, ("expansion", "contraction"))
_DAYS_KNOWN, _DAYS_DOUBLED = map(_tier, ("days_known", "days_doubled"))

_compiled = njit(nogil=True, cache=True, error_model="numpy")
_NO_WAY_IN: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _inner(function: _Function) -> _Function:
    """Compile a function that only compiled functions call: no wrapper for Python is built."""
    compiled: _Function = njit(nogil=True, cache=True, error_model="numpy", **_NO_WAY_IN)(function)
    return compiled


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:
    """Turn an address into a pointer: numba can't index a tuple of columns of different types."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@_inner
def _score(rows: AccountRows, change: Int32s, raw: Integers, first: int, made: Int32s) -> None:
    """Write raw scores of the rows from `first` on: the incumbent's, plus changes x columns."""
    size = len(made)
    # Loops, not assignments to slices: numba would compile those with code for error messages.
    own = raw[first : first + size]
    for row in range(size):
        made[row] = own[row]
    for feature in range(len(change)):
        step, width = change[feature], rows.widths[feature]
        if step == 0:
            continue
        address = rows.columns[feature] + first * width
        start: Any = _pointer(address)  # type: ignore[call-arg]  # numba gives the context itself
        if width == 1:
            byte = carray(start, (size,), np.int8)
            for row in range(size):
                made[row] += step * byte[row]
        elif width == 2:
            short = carray(start, (size,), np.int16)
            for row in range(size):
                made[row] += step * short[row]
        elif width == 4:
            word = carray(start, (size,), np.int32)
            for row in range(size):
                made[row] += step * word[row]


@_inner
def _score_bins(made: Int32s, top: int, bins: Bins, partial: PartialCounts, k: int) -> None:
    """Round raw scores half up to 1/100 of a point and clip them; update what `partial` has of it.

    That is the accounts clipped, the extent and the moments. `made` has at most `_BLOCK` scores, so
    that their bins add up within 32 bits.
    """
    floor, ceiling = np.int32(-_HALF), np.int32((top + 1) * _RAW_PER_SCORE - 1 - _HALF)
    for row in range(len(made)):
        # Unsigned, since the compiler then divides eight rows at once.
        raised = np.uint32(min(max(made[row], floor), ceiling) + np.int32(_HALF))
        bins[row] = np.uint16(raised // np.uint32(_RAW_PER_SCORE))
    lowest, highest, total, squares = np.uint16(_MOST), np.uint16(0), np.uint32(0), np.uint64(0)
    for row in range(len(bins)):
        index = bins[row]
        lowest, highest = min(lowest, index), max(highest, index)
        total = np.uint32(total + index)
        squares += np.uint64(np.uint32(index) * np.uint32(index))
    if lowest == 0:
        for row in range(len(made)):
            partial.clipped[k, 0] += made[row] < floor
    if highest == top:
        for row in range(len(made)):
            partial.clipped[k, 1] += made[row] > ceiling
    partial.moments[k, 0] += np.int64(total)
    partial.moments[k, 1] += np.int64(squares)
    extent = partial.extent[k]
    extent[0] = max(extent[0], top + 1 - np.int64(lowest))
    extent[1] = max(extent[1], np.int64(highest) + 1)


@_inner
def _count(bins: Bins, counted: Integers) -> None:
    """Count accounts by score bin."""
    for index in bins:
        counted[index] += 1


@_inner
def _count_tiers(bins: Bins, lows: Int64s, counted: Int64s) -> None:
    """Count accounts by tier: those at or above a tier's edge, less those above the next one's."""
    before = np.int64(0)
    for tier in range(len(lows) - 1):
        cut, reach = np.uint16(lows[tier]), np.int64(0)
        for first in range(0, len(bins), _SHARED):
            # 16 bits, so that one instruction compares many.
            some, own = bins[first : first + _SHARED], np.uint16(0)
            for row in range(len(some)):
                own = np.uint16(own + np.uint16(some[row] >= cut))
            reach += np.int64(own)
        counted[tier] += reach - before
        before = reach
    counted[len(lows) - 1] += len(bins) - before


@_inner
def _tier_of(index: int, lows: Int64s) -> int:
    """Return the tier of a bin, 0 the highest."""
    tier = 0
    while index < lows[tier]:
        tier += 1
    return tier


@_inner
def _count_block(rows: AccountRows, bins: Bins, first: int, room: Workspace, k: int) -> None:
    """Count the accounts of a block of rows, which begins with row `first`, by their bins."""
    counts, last = room.counts[k], first + len(bins)
    by_code = len(counts) > _VALUED + 1
    for run in range(len(rows.runs)):
        start, stop = max(first, rows.runs[run, 0]) - first, min(last, rows.runs[run, 1]) - first
        if start < stop:
            code = rows.runs[run, 2]
            _count(bins[start:stop], counts[_BY_CODE + code if by_code else rows.codes[code, 1]])
    for run in range(len(rows.paying)):
        start, stop = max(first, rows.paying[run, 0]), min(last, rows.paying[run, 1])
        if start < stop:
            _count(bins[start - first : stop - first], counts[_PAYING])
    listed = np.searchsorted(rows.listed, first), np.searchsorted(rows.listed, last)
    for row in rows.listed[listed[0] : listed[1]]:
        counts[_VALUED, bins[row - first]] += 1
    if by_code:
        dated = np.searchsorted(rows.dated, first), np.searchsorted(rows.dated, last)
        for entry in range(dated[0], dated[1]):
            room.dated[k, entry] = bins[rows.dated[entry] - first]


@_inner
def _add_run(cents: Integers, start: int, first: int, bins: Bins, histogram: Int64s) -> None:
    """Add cents to a histogram by score bin, for those rows of a block that have any.

    The cents are of consecutive rows from `start` on, the bins of the block's rows from `first` on.
    """
    begin = max(first, start)
    end = max(begin, min(first + len(bins), start + len(cents)))
    own, added = bins[begin - first : end - first], cents[begin - start : end - start]
    for row in range(len(own)):
        histogram[own[row]] += added[row]


@_compiled
def tabulate(
    rows: AccountRows,
    order: Order,
    raw: Integers,
    changes: Int32s,
    first: int,
    last: int,
    room: Workspace,
    partial: PartialCounts,
) -> None:
    """Score and count the rows [first, last) for K candidates, each in its own slot.

    Parameters
    ----------
    raw
        Raw scores of the incumbent, int32, shape (N,).
    changes
        int32, shape (K, F): the candidates' weights less the incumbent's.
    """
    made, bins = np.empty(_BLOCK, dtype=np.int32), np.empty(_BLOCK, dtype=np.uint16)
    for shared in range(first, last, _SHARED):
        stop = min(shared + _SHARED, last)
        for k in range(len(changes)):
            for begin in range(shared, stop, _BLOCK):
                end = min(begin + _BLOCK, stop)
                scores, own = made[: end - begin], bins[: end - begin]
                if len(room.bins):
                    own = room.bins[k, begin:end]
                _score(rows, changes[k], raw, begin, scores)
                _score_bins(scores, order.bins - 1, own, partial, k)
                _count_block(rows, own, begin, room, k)
                if len(room.histograms):
                    for kind in range(_LTV + 1):
                        start, histogram = rows.starts[kind], room.histograms[k, kind]
                        _add_run(rows.cents[kind], start, begin, own, histogram)


@_inner
def _reach(bins: Bins, cents: Integers, cut: int) -> np.int64:
    """Return the cents of the rows whose bin is `cut` or above."""
    least, total = np.uint16(cut), np.int64(0)
    for row in range(len(cents)):
        total += np.int64(cents[row]) if bins[row] >= least else np.int64(0)
    return total


@_inner
def _around(bins: Bins, cents: Integers, cut: int, sides: Int64s) -> None:
    """Add the cents above a boundary's bin `cut` to `sides[0]`, and those in it to `sides[1]`.

    Where there is no boundary, `cut` is -1 or below all bins with accounts.
    """
    own, after = np.uint16(max(cut, 0)), np.uint16(cut + 1)
    reach, above = np.int64(0), np.int64(0)
    for row in range(len(cents)):
        added = np.int64(cents[row])
        reach += added if bins[row] >= own else np.int64(0)
        above += added if bins[row] >= after else np.int64(0)
    sides[0] += above
    sides[1] += reach - above


@_inner
def _weigh(
    rows: AccountRows,
    order: Order,
    cuts: tuple[int, int, int],
    bins: Bins,
    partial: PartialCounts,
    k: int,
) -> None:
    """Add up the cents of all rows by tier, and beyond and in the three boundaries' bins, `cuts`.

    The sums in `partial` must be 0 before. A pass over the rows for each tier compares bins, which
    is faster than looking up each row's tier.
    """
    lows, top, ltv = partial.lows[k], partial.top[k], partial.ltv[k]
    last = len(lows) - 1
    for kind in range(_LTV + 1):
        cents, start = rows.cents[kind], rows.starts[kind]
        for begin in range(0, len(cents), _BLOCK):
            added = cents[begin : begin + _BLOCK]
            own = bins[start + begin : start + begin + len(added)]
            if kind < _LTV:
                for tier in range(last):
                    partial.tier_money[k, kind, tier] += _reach(own, added, lows[tier])
                _around(own, added, cuts[0], top[:, kind])
            else:
                _around(own, added, cuts[1], ltv[:2])
                _around(own, added, cuts[2], ltv[2:])
    for kind in range(_LTV):
        money, whole = partial.tier_money[k, kind], rows.totals[kind]
        money[last] = whole
        for tier in range(last, 0, -1):
            money[tier] -= money[tier - 1]
        if order.risk:
            top[0, kind] = whole - top[0, kind] - top[1, kind]
    # The worst quarter is below its boundary; where high scores are bad, the best one is.
    other = 0 if order.risk else 2
    ltv[other] = rows.totals[_LTV] - ltv[other] - ltv[other + 1]


@_inner
def _count_by_tier(
    rows: AccountRows, bins: Bins, lows: Int64s, by_code: Int64s, by_days: Int64s
) -> None:
    """Count all rows by tier: by code, and by days to activation where these are known."""
    for run in range(len(rows.runs)):
        first, last, code = rows.runs[run]
        _count_tiers(bins[first:last], lows, by_code[:, rows.codes[code, 0]])
    for entry in range(len(rows.dated)):
        by_days[_tier_of(bins[rows.dated[entry]], lows), rows.days[entry]] += 1


@_compiled
def move(rows: AccountRows, change: Int32s, raw: Integers, first: int, last: int) -> None:
    """Add changes x columns to the raw scores of the rows [first, last)."""
    made = np.empty(_BLOCK, dtype=np.int32)
    for begin in range(first, last, _BLOCK):
        scores = made[: min(_BLOCK, last - begin)]
        _score(rows, change, raw, begin, scores)
        own = raw[begin : begin + len(scores)]
        for row in range(len(scores)):
            own[row] = scores[row]


@_inner
def _rank(order: Order, negatives: Integers, positives: Integers) -> int:
    """Return twice the rank sum of the positives, less one for each.

    That is the sum over positives of twice the labelled accounts ranked before, plus those tied.
    """
    most = len(negatives)
    before, rank = 0, 0
    for step in range(most):
        index = most - 1 - step if order.risk else step
        won = np.int64(positives[index])
        ranked = negatives[index] + won
        rank += won * (2 * before + ranked)
        before += ranked
    return rank


@_inner
def _boundary(order: Order, counted: Integers, least: int, end: Int64s) -> int:
    """Return the first bin, in rank order, up to which more than `least` accounts lie; -1 if none.

    `end` receives how many accounts lie up to it, included, and how many in it.
    """
    most, before, kind = len(counted), np.int64(0), counted.dtype.type
    for step in range(0, most, _STRETCH):
        # Only the stretch with the boundary in it is searched bin by bin. A total of accounts fits
        # the type that counts them in one bin.
        stop = min(step + _STRETCH, most)
        low, high = (most - stop, most - step) if order.risk else (step, stop)
        stretch, total = counted[low:high], kind(0)
        for index in range(len(stretch)):
            total = kind(total + stretch[index])
        if before + total > least:
            for within in range(high - low):
                index = high - 1 - within if order.risk else low + within
                before += counted[index]
                if before > least and counted[index] > 0:
                    end[0], end[1] = before, counted[index]
                    return index
        before += total
    return -1


@_inner
def _others(everyone: Integers, counted: Integers) -> None:
    """Turn the counts of a cohort into those of all other accounts."""
    for index in range(len(counted)):
        counted[index] = everyone[index] - counted[index]


@_inner
def _locate(
    order: Order, counts: Integers, low: int, high: int, partial: PartialCounts, k: int
) -> tuple[int, int, int]:
    """Rank the positives, and return the bins where top fifth, best and worst quarter end.

    A boundary is the first bin up to which more accounts lie than four fifths of the paying
    accounts, than three quarters of the LTV cohort, or than a quarter of it less one. Bins are
    counted from `low`; all accounts lie in [low, high). The counts are overwritten: the first one
    has all accounts then.
    """
    everyone, positives = counts[_NEGATIVE, low:high], counts[_POSITIVE, low:high]
    paying, valued = counts[_PAYING, low:high], counts[_VALUED, low:high]
    partial.ranks[k] = _rank(order, everyone, positives)
    everyone += positives
    if not order.paying_direct:
        _others(everyone, paying)
    everyone += counts[_REST, low:high]
    if not order.valued_direct:
        _others(everyone, valued)
    ends = partial.ends[k]
    top = _boundary(order, paying, order.paying * 4 // 5, ends[0])
    best = _boundary(order, valued, order.valued * 3 // 4, ends[1])
    worst = _boundary(order, valued, -(-order.valued // 4) - 1, ends[2])
    return top, best, worst


@_compiled
def _set_lows(order: Order, counts: Integers, low: int, high: int, lows: Int64s) -> None:
    """Write each tier's lowest bin: the spec's, or by its rule, as `tier_rule.TierRule.lows` does.

    All accounts lie in [low, high). Must come after `_locate`, which leaves all accounts in the
    first count.
    """
    last = len(lows) - 1
    if not order.by_rule:
        for tier in range(last + 1):
            lows[tier] = order.lows[tier]
        return
    if low >= high:
        for tier in range(last + 1):
            lows[tier] = last - tier
        return
    everyone = counts[_NEGATIVE, low:high]
    if len(order.lifts):
        _edges_by_lift(order, everyone, counts[_POSITIVE, low:high], counts[_REST, low:high], lows)
    else:
        _edges_by_size(order, everyone, lows)
    lows[last] = 0
    for tier in range(last):
        edge = low + lows[tier]
        if tier > 0:
            edge = min(edge, lows[tier - 1] - 1)
        lows[tier] = max(edge, last - tier)


@_inner
def _edges_by_size(order: Order, everyone: Integers, lows: Int64s) -> None:
    """Write the edge for which the accounts above come nearest to each goal.

    Of two as near, the one with fewer accounts above.
    """
    total, last, size = np.int64(0), len(lows) - 1, len(everyone)
    for index in range(size):
        total += everyone[index]
    above, held, tier = np.int64(0), size, 0
    goal = _goal(order, 0, total, np.int64(0)) if last > 0 else np.int64(0)
    for stop in range(size, 0, -_STRETCH):
        start, stretch = max(stop - _STRETCH, 0), np.int64(0)
        for index in range(start, stop):
            stretch += everyone[index]
        while tier < last and (above + stretch) * _MILLION >= goal:
            # Only a stretch with an edge in it is searched bin by bin. `edge` is the last bin with
            # accounts so far.
            reached, edge, index = above, held, stop - 1
            while goal > 0 and (reached + everyone[index]) * _MILLION < goal:
                if everyone[index] > 0:
                    reached, edge = reached + everyone[index], index
                index -= 1
            if goal > 0:
                beyond = (reached + everyone[index]) * _MILLION - goal
                if beyond < goal - reached * _MILLION:
                    edge = index
            lows[tier] = edge
            tier += 1
            if tier < last:
                goal = _goal(order, tier, total, goal)
        if stretch > 0:
            held = start
            while everyone[held] == 0:
                held += 1
        above += stretch


@_inner
def _goal(order: Order, tier: int, total: np.int64, before: np.int64) -> np.int64:
    wanted = order.goals[tier, 0] * total + order.goals[tier, 1]
    return np.int64(min(max(wanted, before), total * _MILLION))


@_inner
def _edges_by_lift(
    order: Order, everyone: Integers, positives: Integers, rest: Integers, lows: Int64s
) -> None:
    """Write for each tier the lowest edge at which enough of its accounts leave.

    A tier begins below the one above it. Enough is its lift times the share of all accounts.
    """
    all_left, all_labelled, size = np.int64(0), np.int64(0), len(everyone)
    for index in range(size):
        labelled = np.int64(everyone[index]) - rest[index]
        all_labelled += labelled
        all_left += labelled - positives[index]
    stop = size
    most = all_labelled * _HUNDRED // max(all_left, np.int64(1)) + 1
    for tier in range(len(lows) - 1):
        lift = min(order.lifts[tier], most)
        left, among, edge = np.int64(0), np.int64(0), stop
        for index in range(stop - 1, -1, -1):
            labelled = np.int64(everyone[index]) - rest[index]
            among += labelled
            left += labelled - positives[index]
            often = left * all_labelled * _HUNDRED >= lift * among * all_left
            if labelled > 0 and often and all_left > 0:
                edge = index
        stop = edge
        lows[tier] = stop


@_inner
def _divide(histogram: Int64s, index: int) -> tuple[int, int, int]:
    """Return the cents below a bin, in it and above it; for a bin of -1, all are above."""
    below, above = 0, 0
    for cents in histogram[:index] if index >= 0 else histogram[:0]:
        below += cents
    for cents in histogram[index + 1 :]:
        above += cents
    return below, histogram[index] if index >= 0 else 0, above


@_inner
def _by_tier(histogram: Integers, lows: Int64s, low: int, high: int, added: Int64s) -> None:
    """Add up by tier what lies in the bins of [low, high)."""
    stop = high
    for tier in range(len(lows)):
        start = min(max(lows[tier], low), stop)
        total = np.int64(0)
        for index in range(start, stop):
            total += histogram[index]
        added[tier] += total
        stop = start


@_inner
def _cut(
    order: Order,
    cuts: tuple[int, int, int],
    histograms: Int64s,
    low: int,
    high: int,
    partial: PartialCounts,
    k: int,
) -> None:
    """Add up histograms of cents by tier, and beyond and in the boundaries' bins, `cuts`.

    All cents lie in [low, high); boundaries are counted from `low`.
    """
    for kind in range(_LTV):
        _by_tier(histograms[kind], partial.lows[k], low, high, partial.tier_money[k, kind])
        below, on, above = _divide(histograms[kind, low:high], cuts[0])
        partial.top[k, 0, kind], partial.top[k, 1, kind] = below if order.risk else above, on
    ltv = histograms[_LTV, low:high]
    below, on, above = _divide(ltv, cuts[1])
    partial.ltv[k, 0], partial.ltv[k, 1] = below if order.risk else above, on
    below, on, above = _divide(ltv, cuts[2])
    partial.ltv[k, 2], partial.ltv[k, 3] = above if order.risk else below, on


@_inner
def _assemble(order: Order, recipe: Recipe, partial: PartialCounts, k: int, sums: Int64s) -> None:
    """Write a candidate's sums in the order of `tally.TierEdges.names`; they must be 0 before."""
    groups = recipe.groups.shape[1]
    labelled, retained = 0, 0
    tiers = len(order.lows)
    for tier in range(tiers):
        if order.by_rule:
            sums[_WHOLE + tiers * _TIER + tier] = partial.lows[k, tier]
        own, left = sums[_WHOLE + tier * _TIER :], 0
        for code in range(len(recipe.churned)):
            number = partial.tier_counts[k, tier, code]
            if number:
                left += number * recipe.churned[code]
                for group in range(groups):
                    own[group] += number * recipe.groups[code, group]
        gone, stays, less, more = partial.tier_money[k, :, tier]
        own[_START], own[_END] = gone + stays, stays - less + more
        own[_EXPANSION], own[_CONTRACTION] = more, less
        # Without a label nobody is known to have left.
        own[_CHURNED] = gone if left else 0
        known, doubled = _median_doubled(partial.tier_days[k, tier], recipe.days)
        own[_DAYS_KNOWN], own[_DAYS_DOUBLED] = known, doubled
        sums[_SCORED] += own[_ACCOUNTS]
        labelled += own[_LABELLED]
        retained += own[_RETAINED]
    sums[_CLIPPED_LOW], sums[_CLIPPED_HIGH] = partial.clipped[k]
    sums[_SCORE_SUM], sums[_SCORE_SQUARES] = partial.moments[k]
    sums[_POSITIVES], sums[_NEGATIVES] = retained, labelled - retained
    # Average ranks for ties: of the accounts in a bin, the ranks before it and half its own.
    sums[_RANKS] = partial.ranks[k] + retained
    ends, paying, valued = partial.ends[k], order.paying, order.valued
    sums[_TOP_ACCOUNTS], sums[_TOP_TIED] = paying, ends[0, 1]
    sums[_TOP_FIT] = paying - 5 * (paying - ends[0, 0])
    # The name after each sum beyond the boundary is that of the same sum in the boundary's bin.
    for side in range(2):
        gone, stays, less, more = partial.top[k, side]
        sums[_TOP_START + side], sums[_TOP_END + side] = gone + stays, stays - less + more
    sums[_LTV_ACCOUNTS], sums[_BEST_TIED], sums[_WORST_TIED] = valued, ends[1, 1], ends[2, 1]
    sums[_BEST_LTV], sums[_BEST_LTV_TIED] = partial.ltv[k, 0], partial.ltv[k, 1]
    sums[_WORST_LTV], sums[_WORST_LTV_TIED] = partial.ltv[k, 2], partial.ltv[k, 3]
    sums[_BEST_FIT] = valued - 4 * (valued - ends[1, 0])
    sums[_WORST_FIT] = valued - 4 * (ends[2, 0] - ends[2, 1])


@_inner
def _median_doubled(histogram: Int64s, values: Int64s) -> tuple[int, int]:
    """Return how many accounts there are, and twice the median of their values, 0 for none."""
    known = histogram.sum()
    if known == 0:
        return 0, 0
    reached, low, high = 0, 0, 0
    for number in histogram:
        reached += number
        low += reached <= (known - 1) // 2
        high += reached <= known // 2
    return known, values[low] + values[high]


@_inner
def _clear(rows: Integers, low: int, high: int) -> None:
    """Set counts or histograms in [low, high) back to 0."""
    for row in range(len(rows)):
        rows[row, low:high] = 0


@_inner
def _reset(partial: PartialCounts, k: int) -> None:
    """Set a candidate's partial counts back to 0."""
    partial.extent[k] = 0
    partial.clipped[k] = 0
    partial.moments[k] = 0
    partial.tier_counts[k] = 0
    partial.tier_days[k] = 0
    partial.tier_money[k] = 0
    partial.ends[k] = 0
    partial.top[k] = 0
    partial.ltv[k] = 0


@_inner
def _occupied(order: Order, partial: PartialCounts, k: int) -> tuple[int, int]:
    """Return the range [low, high) of bins in which all accounts of a slot lie."""
    return order.bins - partial.extent[k, 0], partial.extent[k, 1]


@_compiled
def evaluate(
    rows: AccountRows,
    order: Order,
    recipe: Recipe,
    raw: Integers,
    changes: Int32s,
    room: Workspace,
    partial: PartialCounts,
    sums: Int64s,
) -> None:
    """Write the sums of K candidates over all rows, keeping each account's bin in between.

    Counts as many candidates at a time as there are slots. `raw` and `changes` are as for
    `tabulate`; `sums`, int64 (K, sums), must be 0 before.
    """
    slots = len(room.bins)
    for group in range(0, len(changes), slots):
        some = changes[group : group + slots]
        tabulate(rows, order, raw, some, 0, len(raw), room, partial)
        for k in range(len(some)):
            low, high = _occupied(order, partial, k)
            counts, bins, lows = room.counts[k], room.bins[k], partial.lows[k]
            top, best, worst = _locate(order, counts, low, high, partial, k)
            _set_lows(order, counts, low, high, lows)
            _clear(counts, low, high)
            _count_by_tier(rows, bins, lows, partial.tier_counts[k], partial.tier_days[k])
            _weigh(rows, order, (low + top, low + best, low + worst), bins, partial, k)
            _assemble(order, recipe, partial, k, sums[group + k])
            _reset(partial, k)


@_compiled
def gather(
    order: Order,
    room: Workspace,
    partial: PartialCounts,
    other: Workspace,
    more: PartialCounts,
    first: int,
    last: int,
) -> None:
    """Add the counts of another thread, for the candidates [first, last), and reset its buffers."""
    for k in range(first, last):
        low, high = _occupied(order, more, k)
        for row in range(room.counts.shape[1]):
            counts = room.counts[k, row, low:high]
            counts += other.counts[k, row, low:high]
        for row in range(room.histograms.shape[1]):
            histogram = room.histograms[k, row, low:high]
            histogram += other.histograms[k, row, low:high]
        # An account's bin is known to one thread; in the other's buffer it is 0.
        room.dated[k] += other.dated[k]
        other.dated[k] = 0
        partial.clipped[k] += more.clipped[k]
        partial.moments[k] += more.moments[k]
        for end in range(2):
            partial.extent[k, end] = max(partial.extent[k, end], more.extent[k, end])
        _clear(other.counts[k], low, high)
        _clear(other.histograms[k], low, high)
        _reset(more, k)


@_inner
def _by_code_and_days(
    rows: AccountRows,
    room: Workspace,
    lows: Int64s,
    low: int,
    high: int,
    partial: PartialCounts,
    k: int,
) -> None:
    """Count a slot's accounts by tier, by code and by days; all lie in the bins [low, high)."""
    for code in range(len(rows.codes)):
        own = partial.tier_counts[k, :, rows.codes[code, 0]]
        _by_tier(room.counts[k, _BY_CODE + code], lows, low, high, own)
    for entry in range(len(rows.dated)):
        partial.tier_days[k, _tier_of(room.dated[k, entry], lows), rows.days[entry]] += 1


@_compiled
def count_tiers(
    rows: AccountRows,
    order: Order,
    room: Workspace,
    partial: PartialCounts,
    lows: Int64s,
    first: int,
    last: int,
) -> None:
    """Count the accounts of the candidates [first, last) by tier, from what `tabulate` left.

    `lows` are their tiers' lowest bins, int64 (K, T). Only `tier_counts` and `tier_days` change.
    """
    for k in range(first, last):
        low, high = _occupied(order, partial, k)
        partial.tier_counts[k] = 0
        partial.tier_days[k] = 0
        _by_code_and_days(rows, room, lows[k], low, high, partial, k)


@_compiled
def conclude(
    rows: AccountRows,
    order: Order,
    recipe: Recipe,
    room: Workspace,
    partial: PartialCounts,
    first: int,
    last: int,
    sums: Int64s,
) -> None:
    """Write the sums of the candidates [first, last) from histograms, and reset the buffers.

    Those are of the first thread, after `gather`; `sums` must be 0 before.
    """
    for k in range(first, last):
        low, high = _occupied(order, partial, k)
        counts, lows = room.counts[k], partial.lows[k]
        for code in range(len(rows.codes)):
            kind = counts[rows.codes[code, 1], low:high]
            kind += counts[_BY_CODE + code, low:high]
        cuts = _locate(order, counts, low, high, partial, k)
        _set_lows(order, counts, low, high, lows)
        _by_code_and_days(rows, room, lows, low, high, partial, k)
        room.dated[k] = 0
        _cut(order, cuts, room.histograms[k], low, high, partial, k)
        _assemble(order, recipe, partial, k, sums[k])
        _clear(room.counts[k], low, high)
        _clear(room.histograms[k], low, high)
        _reset(partial, k)
