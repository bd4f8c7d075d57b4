"""The passes of the hot loop as machine code, by numba: scores, counts and cents in few of them.

What `counts` and `boundaries` do with numpy, an array of all places at a time, these functions do
row by row while a block of rows is in a core's cache. They let go of Python's lock, so threads
share a table. All of it is integer arithmetic: nothing here can round.

All compiled code stands in this one module, with the constants that it takes in: numba keeps what
it compiled as long as the module isn't changed, and doesn't look at others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]  # numba lists no exports
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.kernel.layout import Found, Order, Rows, Scratch

    Int64s = NDArray[np.int64]
    Int32s = NDArray[np.int32]
    Integers = NDArray[np.integer]
    Bands = NDArray[np.uint8]
    Places = NDArray[np.uint16]

__all__ = ["SIDES", "TURNS", "locate", "survey", "tabulate_all", "weigh_all"]

#: Rows of a block: what is made of them on the way stays in a core's own cache.
_BLOCK = 2_048
#: Rows that all candidates of a large table are counted over before the next ones are touched, so
#: that their columns come from a core's own cache for all candidates but the first.
_SHARED = 32_768
#: Raw scores are in 1/10,000 of a point, score values in 1/100.
_RAW_PER_SCORE = 100
#: ``a // 100`` is ``(a * _MAGIC) >> _SHIFT`` for every a of 32 bits, and unlike a division it is
#: done for eight rows at once (Granlund and Montgomery 1994).
_MAGIC, _SHIFT = 1_374_389_535, 37
#: Where a candidate's five counts are.
_NEGATIVE, _POSITIVE, _REST, _PAYING, _VALUED = range(5)
#: Places of a stretch.
_STRETCH = 64
#: Tables that rows are added to by turns: with one, a row waits for the row before it.
TURNS = 4
#: A place lies below a boundary, on it, or above it.
SIDES = 3

_compiled = njit(nogil=True, cache=True, error_model="numpy")


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:
    """Take an integer as an address: numba can't index arrays of different types otherwise."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@_compiled
def _score(rows: Rows, change: Int32s, raw: Integers, first: int, made: Int32s) -> None:
    """Write raw scores from row `first` on: the incumbent's, plus changes x columns."""
    size = len(made)
    made[:] = raw[first : first + size]
    for feature in range(len(change)):
        step, width = change[feature], rows.widths[feature]
        if step == 0:
            continue
        place = rows.columns[feature] + first * width
        start: Any = _pointer(place)  # type: ignore[call-arg]  # numba gives the context itself
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


@_compiled
def _place(made: Int32s, top: int, places: Places, clipped: Int64s, moments: Int64s) -> None:
    """Round half up to 1/100 of a point and clip; add to who was clipped, and to the moments."""
    least = (top + 1) * _RAW_PER_SCORE
    low, high, total, squares = 0, 0, 0, 0
    for row in range(len(made)):
        raised = made[row] + _RAW_PER_SCORE // 2
        low += raised < 0
        high += raised >= least
        kept = min(max(raised, 0), least - 1)
        place = (kept * _MAGIC) >> _SHIFT
        places[row] = place
        total += place
        squares += place * place
    clipped[0] += low
    clipped[1] += high
    moments[0] += total
    moments[1] += squares


@_compiled
def _count(places: Places, counted: Int32s) -> None:
    """Count accounts by place."""
    for place in places:
        counted[place] += 1


@_compiled
def _count_codes(places: Places, codes: NDArray[np.int16], tier_of: Bands, found: Int64s) -> None:
    """Count accounts by tier and code."""
    even = len(places) // TURNS * TURNS
    for row in range(0, even, TURNS):
        for turn in range(TURNS):
            found[turn, tier_of[places[row + turn]], codes[row + turn]] += 1
    for row in range(even, len(places)):
        found[0, tier_of[places[row]], codes[row]] += 1


@_compiled
def _count_listed(places: Places, listed: Int32s, counted: Int32s) -> None:
    for row in listed:
        counted[places[row]] += 1


@_compiled
def tabulate(
    rows: Rows,
    order: Order,
    raw: Integers,
    change: Int32s,
    first: int,
    last: int,
    scratch: Scratch,
    slot: int,
    found: Found,
    k: int,
) -> None:
    """Score the rows from `first` to before `last` for a candidate, and add up their accounts.

    Parameters
    ----------
    raw
        Raw scores of the incumbent, int32, shape (N,).
    change
        int32, shape (F,): the candidate's weights less the incumbent's.
    slot, k
        Where the candidate is in `scratch`, and where in `found`.
    """
    made = np.empty(_BLOCK, dtype=np.int32)
    places, counts = scratch.places[slot], scratch.counts[slot]
    scratch.codes[:] = 0
    for begin in range(first, last, _BLOCK):
        end = min(begin + _BLOCK, last)
        own = places[begin:end]
        scores = made[: end - begin]
        _score(rows, change, raw, begin, scores)
        _place(scores, len(order.tier_of) - 1, own, found.clipped[k], found.moments[k])
        for run in range(len(rows.runs)):
            start = max(begin, rows.runs[run, 0])
            stop = max(start, min(end, rows.runs[run, 1]))
            _count(own[start - begin : stop - begin], counts[rows.runs[run, 2]])
        _count_codes(own, rows.codes[begin:end], order.tier_of, scratch.codes)
    for turn in range(TURNS):
        found.tier_counts[k] += scratch.codes[turn]
    listed = np.searchsorted(rows.listed, first), np.searchsorted(rows.listed, last)
    _count_listed(places, rows.listed[listed[0] : listed[1]], counts[_VALUED])
    dated = np.searchsorted(rows.dated, first), np.searchsorted(rows.dated, last)
    for entry in range(dated[0], dated[1]):
        tier = order.tier_of[places[rows.dated[entry]]]
        found.tier_days[k, tier, rows.days[entry]] += 1


@_compiled
def _rank(order: Order, negatives: Int32s, positives: Int32s) -> int:
    """Return the sum, over positives, of twice the accounts before and those on their place."""
    most = len(order.tier_of)
    before, rank = 0, 0
    for step in range(most):
        place = most - 1 - step if order.risk else step
        won = np.int64(positives[place])
        ranked = negatives[place] + won
        rank += won * (2 * before + ranked)
        before += ranked
    return rank


@_compiled
def _boundary(order: Order, counted: Int32s, least: int, end: Int64s) -> int:
    """Find the first place up to which more than `least` accounts lie; -1 if there is none.

    `end` receives how many lie up to there, and how many on it.
    """
    most, before, total = len(order.tier_of), 0, 0
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
def _add_side(tiers: Bands, side: int, bands: Bands) -> None:
    for place in range(len(bands)):
        bands[place] = tiers[place] + side


@_compiled
def _name_bands(tiers: Bands, boundary: int, sides: Bands, bands: Bands) -> None:
    """Write tiers plus the side of a boundary that each place lies on."""
    after = boundary + 1
    _add_side(tiers[:after], sides[0], bands[:after])
    _add_side(tiers[after:], sides[2], bands[after:])
    if boundary >= 0:
        bands[boundary] += sides[1] - sides[0]


@_compiled
def _others(everyone: Int32s, counted: Int32s) -> None:
    """Turn counts of some accounts into counts of all others."""
    for place in range(len(counted)):
        counted[place] = everyone[place] - counted[place]


@_compiled
def locate(order: Order, scratch: Scratch, slot: int, found: Found, k: int) -> None:
    """Rank the positives, find where the top fifth and both end quarters end, and name bands.

    A boundary is the first place up to which more accounts lie than: four fifths of the paying,
    three quarters of the valued, and, of the worst quarter, one less than a quarter.
    """
    counts, bands = scratch.counts[slot], scratch.bands[slot]
    negatives, positives, rest = counts[_NEGATIVE], counts[_POSITIVE], counts[_REST]
    paying, valued = counts[_PAYING], counts[_VALUED]
    found.ranks[k] = _rank(order, negatives, positives)
    everyone = negatives + positives
    if not order.paying_direct:
        _others(everyone, paying)
    everyone += rest
    if not order.valued_direct:
        _others(everyone, valued)
    ends, most = found.ends[k], len(order.tier_of)
    top = _boundary(order, paying, order.paying * 4 // 5, ends[0])
    best = _boundary(order, valued, order.valued * 3 // 4, ends[1])
    worst = _boundary(order, valued, -(-order.valued // 4) - 1, ends[2])
    own, ltv = bands[0, :most], bands[1, :most]
    _name_bands(order.tier_thirds, top, order.sides, own)
    ltv[:] = 0
    _name_bands(ltv, best, order.sides, ltv)
    for place in range(most):
        ltv[place] *= SIDES
    _name_bands(ltv, worst, order.sides, ltv)


@_compiled
def _add_cents(places: Places, cents: Integers, band_of: Bands, found: Int64s) -> None:
    even = len(places) // TURNS * TURNS
    for row in range(0, even, TURNS):
        for turn in range(TURNS):
            found[turn, band_of[places[row + turn]]] += cents[row + turn]
    for row in range(even, len(places)):
        found[0, band_of[places[row]]] += cents[row]


@_compiled
def _weigh_run(
    cents: Integers, start: int, first: int, last: int, places: Places, bands: Bands, cash: Int64s
) -> None:
    """Add up the cents of a run's rows from `first` to before `last` by band, in `cash[0]`."""
    cash[:] = 0
    begin = max(first, start)
    end = max(begin, min(last, start + len(cents)))
    _add_cents(places[begin:end], cents[begin - start : end - start], bands, cash)
    for turn in range(1, TURNS):
        cash[0] += cash[turn]


@_compiled
def weigh(
    rows: Rows, first: int, last: int, scratch: Scratch, slot: int, found: Found, k: int
) -> None:
    """Add up the cents of the rows from `first` to before `last` for a candidate."""
    places, bands, cash = scratch.places[slot], scratch.bands[slot], scratch.cash
    tiers = found.tier_money.shape[2]
    for kind in range(found.tier_money.shape[1]):
        if kind == 0:
            _weigh_run(rows.gone, rows.starts[0], first, last, places, bands[0], cash)
        elif kind == 1:
            _weigh_run(rows.stays, rows.starts[1], first, last, places, bands[0], cash)
        elif kind == 2:
            _weigh_run(rows.contracted, rows.starts[2], first, last, places, bands[0], cash)
        else:
            _weigh_run(rows.expanded, rows.starts[3], first, last, places, bands[0], cash)
        for tier in range(tiers):
            below, on, above = cash[0, SIDES * tier : SIDES * tier + SIDES]
            found.tier_money[k, kind, tier] += below + on + above
            found.top[k, 0, kind] += above
            found.top[k, 1, kind] += on
    _weigh_run(rows.ltv, 0, first, last, places, bands[1], cash)
    for band in range(SIDES * SIDES):
        best, worst, cents = band // SIDES, band % SIDES, cash[0, band]
        found.ltv[k, 0] += cents * (best == 2)
        found.ltv[k, 1] += cents * (best == 1)
        found.ltv[k, 2] += cents * (worst == 0)
        found.ltv[k, 3] += cents * (worst == 1)


@_compiled
def survey(
    rows: Rows,
    order: Order,
    raw: Integers,
    changes: Int32s,
    first: int,
    last: int,
    scratch: Scratch,
    found: Found,
) -> None:
    """Do everything for the candidates from `first` to before `last`, over all rows.

    What a candidate is counted in is as good as in the cache then: one slot is enough for all.
    """
    accounts = len(raw)
    for k in range(first, last):
        scratch.counts[0] = 0
        tabulate(rows, order, raw, changes[k], 0, accounts, scratch, 0, found, k)
        locate(order, scratch, 0, found, k)
        weigh(rows, 0, accounts, scratch, 0, found, k)


@_compiled
def tabulate_all(
    rows: Rows,
    order: Order,
    raw: Integers,
    changes: Int32s,
    first: int,
    last: int,
    scratch: Scratch,
    found: Found,
) -> None:
    """Score and count the rows from `first` to before `last` for all candidates, a slot each."""
    scratch.counts[:] = 0
    for begin in range(first, last, _SHARED):
        end = min(begin + _SHARED, last)
        for k in range(len(changes)):
            tabulate(rows, order, raw, changes[k], begin, end, scratch, k, found, k)


@_compiled
def weigh_all(rows: Rows, first: int, last: int, scratch: Scratch, found: Found) -> None:
    """Add up the cents of the rows from `first` to before `last` for all candidates."""
    for begin in range(first, last, _SHARED):
        for k in range(len(found.ranks)):
            weigh(rows, begin, min(begin + _SHARED, last), scratch, k, found, k)
