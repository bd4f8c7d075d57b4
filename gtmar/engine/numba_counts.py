"""The passes over rows as machine code, by numba: scores, places, counts and cents.

What `counts` does with numpy, an array of all places at a time, these functions do row by row while
a block of rows is in a core's cache. They let go of Python's lock, so threads share a table. All of
it is integer arithmetic: nothing here can round.

Compiled code calls none of another module: numba keeps what it compiled as long as the function's
own module isn't changed, and doesn't look at others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]  # numba lists no exports
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.engine.layout import Found, Order, Rows, Workspace

    Int64s = NDArray[np.int64]
    Int32s = NDArray[np.int32]
    Integers = NDArray[np.integer]
    TierEdges = NDArray[np.uint8]
    Places = NDArray[np.uint16]

__all__ = ["move", "tabulate", "weigh"]

#: Rows of a block: what is made of them on the way stays in a core's own cache.
_BLOCK = 2_048
#: Rows that all candidates of a large table are counted over before the next ones are touched, so
#: that their columns come from a cache for all candidates but the first.
_SHARED = 32_768
#: Raw scores are in 1/10,000 of a point, score values in 1/100; half of one rounds up.
_RAW_PER_SCORE, _HALF = 100, 50
_LEAST, _MOST = -(2**31), 2**31 - 1
#: Places of counts and heaps, sides of a boundary, and tables to add to by turns: see `layout`.
_PAYING, _VALUED = 3, 4
_GONE, _STAYS, _CONTRACTED, _EXPANDED, _LTV = range(5)
_SIDES, _TURNS = 3, 4

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
def _place(made: Int32s, top: int, places: Places, found: Found, k: int) -> None:
    """Round half up to 1/100 of a point and clip; note who was clipped, extent and moments."""
    lowest, highest = np.int32(_MOST), np.int32(_LEAST)
    floor, ceiling = np.int32(-_HALF), np.int32((top + 1) * _RAW_PER_SCORE - 1 - _HALF)
    for row in range(len(made)):
        raw = made[row]
        lowest, highest = min(lowest, raw), max(highest, raw)
        # A division of unsigned integers by a constant is done for eight rows at once.
        raised = np.uint32(min(max(raw, floor), ceiling) + np.int32(_HALF))
        places[row] = np.uint16(raised // np.uint32(_RAW_PER_SCORE))
    if lowest < floor:
        for row in range(len(made)):
            found.clipped[k, 0] += made[row] < floor
    if highest > ceiling:
        for row in range(len(made)):
            found.clipped[k, 1] += made[row] > ceiling
    low = np.int64(min(max(lowest, floor), ceiling)) + _HALF
    high = np.int64(min(max(highest, floor), ceiling)) + _HALF
    total, squares = np.int64(0), np.int64(0)
    for place in places:
        wide = np.int64(place)
        total += wide
        squares += wide * wide
    found.moments[k, 0] += total
    found.moments[k, 1] += squares
    extent = found.extent[k]
    extent[0] = max(extent[0], top + 1 - low // _RAW_PER_SCORE)
    extent[1] = max(extent[1], high // _RAW_PER_SCORE + 1)


@_compiled
def _count(places: Places, counted: Integers) -> None:
    """Count accounts by place."""
    for place in places:
        counted[place] += 1


@_compiled
def _count_tiers(made: Int32s, lows: Int64s, counted: Int64s) -> None:
    """Count accounts of one code by tier: those who reach a tier, less those who reach a higher."""
    before = np.int32(0)
    for tier in range(len(lows) - 1):
        cut, reach = np.int32(lows[tier] * _RAW_PER_SCORE - _HALF), np.int32(0)
        for row in range(len(made)):
            reach = np.int32(reach + np.int32(made[row] >= cut))
        counted[tier] += reach - before
        before = reach
    counted[len(lows) - 1] += len(made) - before


@_compiled
def _count_block(
    rows: Rows,
    order: Order,
    made: Int32s,
    places: Places,
    first: int,
    counts: Integers,
    found: Found,
    k: int,
) -> None:
    """Count the accounts of a block of rows from `first` on, whose scores and places are made."""
    last = first + len(made)
    for run in range(len(rows.runs)):
        start, stop = max(first, rows.runs[run, 0]) - first, min(last, rows.runs[run, 1]) - first
        if start < stop:
            code, count = rows.runs[run, 2], rows.runs[run, 3]
            _count(places[start:stop], counts[count])
            _count_tiers(made[start:stop], order.lows, found.tier_counts[k, :, code])
    for run in range(len(rows.paying)):
        start, stop = max(first, rows.paying[run, 0]), min(last, rows.paying[run, 1])
        if start < stop:
            _count(places[start - first : stop - first], counts[_PAYING])
    listed = np.searchsorted(rows.listed, first), np.searchsorted(rows.listed, last)
    for row in rows.listed[listed[0] : listed[1]]:
        counts[_VALUED, places[row - first]] += 1
    dated = np.searchsorted(rows.dated, first), np.searchsorted(rows.dated, last)
    for entry in range(dated[0], dated[1]):
        tier = order.tier_of[places[rows.dated[entry] - first]]
        found.tier_days[k, tier, rows.days[entry]] += 1


@_compiled
def _heap(cents: Integers, start: int, first: int, places: Places, heap: Int64s) -> None:
    """Add a run's cents up by place, as far as they belong to the rows from `first` on."""
    begin = max(first, start)
    end = max(begin, min(first + len(places), start + len(cents)))
    own, added = places[begin - first : end - first], cents[begin - start : end - start]
    for row in range(len(own)):
        heap[own[row]] += added[row]


@_compiled
def _tabulate(
    rows: Rows,
    order: Order,
    raw: Integers,
    change: Int32s,
    first: int,
    last: int,
    desk: Workspace,
    slot: int,
    found: Found,
) -> None:
    """Score the rows from `first` to before `last` for a candidate, and add up their accounts."""
    made, room = np.empty(_BLOCK, dtype=np.int32), np.empty(_BLOCK, dtype=np.uint16)
    for begin in range(first, last, _BLOCK):
        end = min(begin + _BLOCK, last)
        scores, own = made[: end - begin], room[: end - begin]
        if len(desk.places):
            own = desk.places[slot, begin:end]
        _score(rows, change, raw, begin, scores)
        _place(scores, len(order.tier_of) - 1, own, found, slot)
        _count_block(rows, order, scores, own, begin, desk.counts[slot], found, slot)
        if len(desk.heaps):
            heaps = desk.heaps[slot]
            _heap(rows.gone, rows.starts[_GONE], begin, own, heaps[_GONE])
            _heap(rows.stays, rows.starts[_STAYS], begin, own, heaps[_STAYS])
            _heap(rows.contracted, rows.starts[_CONTRACTED], begin, own, heaps[_CONTRACTED])
            _heap(rows.expanded, rows.starts[_EXPANDED], begin, own, heaps[_EXPANDED])
            _heap(rows.ltv, 0, begin, own, heaps[_LTV])


@_compiled
def _add_cents(places: Places, cents: Integers, band_of: TierEdges, found: Int64s) -> None:
    even = len(places) // _TURNS * _TURNS
    for row in range(0, even, _TURNS):
        for turn in range(_TURNS):
            found[turn, band_of[places[row + turn]]] += cents[row + turn]
    for row in range(even, len(places)):
        found[0, band_of[places[row]]] += cents[row]


@_compiled
def _weigh_run(cents: Integers, start: int, places: Places, bands: TierEdges, cash: Int64s) -> None:
    """Add up the cents of a run's rows by band, in `cash[0]`."""
    cash[:] = 0
    _add_cents(places[start : start + len(cents)], cents, bands, cash)
    for turn in range(1, _TURNS):
        cash[0] += cash[turn]


@_compiled
def tabulate(
    rows: Rows,
    order: Order,
    raw: Integers,
    changes: Int32s,
    first: int,
    last: int,
    desk: Workspace,
    found: Found,
) -> None:
    """Score and count the rows from `first` to before `last` for all candidates, a slot each.

    Parameters
    ----------
    raw
        Raw scores of the incumbent, int32, shape (N,).
    changes
        int32, shape (K, F): the candidates' weights less the incumbent's.
    """
    for begin in range(first, last, _SHARED):
        end = min(begin + _SHARED, last)
        for k in range(len(changes)):
            _tabulate(rows, order, raw, changes[k], begin, end, desk, k, found)


@_compiled
def weigh(rows: Rows, desk: Workspace, found: Found, count: int) -> None:
    """Add up the cents of all rows for the candidates in the first slots, by the bands of places.

    What it adds to is 0 before: see `Found`.
    """
    cash = desk.cash
    for k in range(count):
        places, own, ltv = desk.places[k], desk.bands[k, 0], desk.bands[k, 1]
        for kind in range(_LTV):
            start = rows.starts[kind]
            if kind == _GONE:
                _weigh_run(rows.gone, start, places, own, cash)
            elif kind == _STAYS:
                _weigh_run(rows.stays, start, places, own, cash)
            elif kind == _CONTRACTED:
                _weigh_run(rows.contracted, start, places, own, cash)
            else:
                _weigh_run(rows.expanded, start, places, own, cash)
            for tier in range(found.tier_money.shape[2]):
                below, on, above = cash[0, _SIDES * tier : _SIDES * tier + _SIDES]
                found.tier_money[k, kind, tier] = below + on + above
                found.top[k, 0, kind] += above
                found.top[k, 1, kind] += on
        _weigh_run(rows.ltv, 0, places, ltv, cash)
        for band in range(_SIDES * _SIDES):
            best, worst, cents = band // _SIDES, band % _SIDES, cash[0, band]
            found.ltv[k, 0] += cents * (best == 2)
            found.ltv[k, 1] += cents * (best == 1)
            found.ltv[k, 2] += cents * (worst == 0)
            found.ltv[k, 3] += cents * (worst == 1)


@_compiled
def move(rows: Rows, change: Int32s, raw: Integers, first: int, last: int) -> None:
    """Add changes x columns to the raw scores of the rows from `first` to before `last`."""
    made = np.empty(_BLOCK, dtype=np.int32)
    for begin in range(first, last, _BLOCK):
        scores = made[: min(_BLOCK, last - begin)]
        _score(rows, change, raw, begin, scores)
        raw[begin : begin + len(scores)] = scores
