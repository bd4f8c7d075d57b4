"""What chance decides for a block, as machine code: moves, and numbers for what is fitted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.optimize.hill_climb import Tuning

    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Raw = NDArray[np.uint64]


__all__ = ["moves", "numbers"]

_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath=False)

#: Of a number that is drawn: its low quarters, its lowest half, and how far others are shifted.
_LOW_QUARTERS, _LOW = np.uint64(0x0000FFFF0000FFFF), np.uint64(2**32 - 1)
_HALF, _QUARTER, _FRACTION = np.uint64(32), np.uint64(16), np.uint64(11)
#: See `draws`.
_NORMAL_MEAN, _NORMAL_SPREAD = 131_070.0, math.sqrt((65_536**2 - 1) / 3)


@_compiled
def _below(raw: int, end: int) -> np.int64:
    """See `draws.below`."""
    high = np.uint64(raw) >> _HALF
    return np.int64((high * np.uint64(end)) >> _HALF)


@_compiled
def moves(
    raw: Raw, here: Integers, lows: Integers, highs: Integers, count: int
) -> tuple[Integers, int]:
    """See `draws.random_moves`; and how many numbers were used up."""
    width = len(here)
    most = min(3, width)
    down, span = np.empty(width, dtype=np.int64), np.empty(width, dtype=np.int64)
    for place in range(width):
        reach = max(1, -(-3 * abs(here[place]) // 10))
        down[place] = min(reach, here[place] - lows[place])
        span[place] = down[place] + min(reach, highs[place] - here[place])
    found = np.empty((count, width), dtype=np.int64)
    places = np.empty((3, count), dtype=np.int64)
    sizes = np.empty(count, dtype=np.int64)
    chosen = raw[count : 4 * count]
    for row in range(count):
        found[row] = here
        sizes[row] = 1 + _below(raw[row], most)
        first = _below(chosen[row], width)
        second = _below(chosen[count + row], max(1, width - 1))
        third = _below(chosen[2 * count + row], max(1, width - 2))
        second += second >= first
        third += third >= min(first, second)
        third += third >= max(first, second)
        places[0, row], places[1, row], places[2, row] = first, second, third
    used = 4 * count
    for order in range(3):
        for row in range(count):
            if sizes[row] > order:
                place = places[order, row]
                drawn = _below(raw[used], span[place])
                found[row, place] += drawn - down[place] + (drawn >= down[place])
                used += 1
    return found, used


@_compiled
def numbers(
    tuning: Tuning,
    raw: Raw,
    here: Integers,
    lows: Integers,
    highs: Integers,
    results: int,
    kept: Doubles,
) -> tuple[Integers, Doubles]:
    """Return moves, and numbers for all that is fitted, one after the other.

    Normal ones for the surface, of shapes (F, B) and (K, B) for K results; for the fence, of
    shapes (1 + F, B) and (1 + N, B) for the N candidates of which `kept` tells whether they were,
    none where all were. Uniform ones for the B steps.
    """
    drawn, used = moves(raw, here, lows, highs, tuning.ranked + tuning.spare)
    rows = len(here) + results
    if (kept < 0).any():
        rows += 2 + len(here) + len(kept)
    normal, samples = rows * tuning.block, tuning.block
    found = np.empty(normal + samples)
    for place in range(normal):
        number = raw[used + place]
        low = (number & _LOW_QUARTERS) + ((number >> _QUARTER) & _LOW_QUARTERS)
        sums = (low & _LOW) + (low >> _HALF)
        found[place] = (np.float64(sums) - _NORMAL_MEAN) / _NORMAL_SPREAD
    for place in range(normal, normal + samples):
        found[place] = np.float64(raw[used + place] >> _FRACTION) * 2.0**-53
    return drawn, found
