"""The arithmetic of `surrogate` and `draws` as machine code: the same operations in the same order.

numba contracts no multiplication and addition into one rounding and adds in no other order unless
asked to, so every double is the one that numpy's loops give; a test compares bit by bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Raw = NDArray[np.uint64]

__all__ = ["moves", "product", "solved", "total"]

#: A pivot below this means a matrix that isn't positive definite.
_SMALLEST_PIVOT = 1e-9

_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath=False)


@_compiled
def _halve(work: Doubles) -> None:
    """Add along the first axis of (K, M), by halves, into the first row."""
    count, width = work.shape
    while count > 1:
        half = count // 2
        for row in range(half):
            other = half + row
            for column in range(width):
                work[row, column] += work[other, column]
        if count % 2:
            for column in range(width):
                work[0, column] += work[count - 1, column]
        count = half


@_compiled
def total(values: Doubles) -> Doubles:
    """See `surrogate.total`, for shape (K, M), K one at least."""
    work = values.copy()
    _halve(work)
    return work[0]  # type: ignore[no-any-return]  # an array, compiled


@_compiled
def product(left: Doubles, right: Doubles) -> Doubles:
    """See `surrogate.product`, K one at least."""
    inner, width = right.shape
    found = np.empty((len(left), width))
    work = np.empty((inner, width))
    for row in range(len(left)):
        for k in range(inner):
            factor = left[row, k]
            for column in range(width):
                work[k, column] = factor * right[k, column]
        _halve(work)
        found[row] = work[0]
    return found


@_compiled
def solved(matrix: Doubles, right: Doubles) -> tuple[bool, Doubles]:
    """See `surrogate.solved`: whether it was, and the solution."""
    size, count = right.shape
    work = np.empty((size + count, size))
    work[:size] = matrix
    work[size:] = right.T
    for step in range(size):
        pivot = work[step, step]
        if not pivot > _SMALLEST_PIVOT:
            return False, work[size:].T
        for row in range(step + 1, size + count):
            factor = work[row, step] / pivot
            for column in range(size):
                work[row, column] -= factor * work[step, column]
            work[row, step] = factor
    return True, work[size:].T


@_compiled
def _below(raw: int, end: int) -> np.int64:
    """See `draws.below`."""
    high = np.uint64(raw) >> np.uint64(32)
    return np.int64((high * np.uint64(end)) >> np.uint64(32))


@_compiled
def moves(
    here: Integers, lows: Integers, highs: Integers, sizes: Integers, chosen: Raw, stepped: Raw
) -> Integers:
    """See `draws.random_moves`: `sizes` weights a move, which, and how far."""
    count, width = len(sizes), len(here)
    down, span = np.empty(width, dtype=np.int64), np.empty(width, dtype=np.int64)
    for place in range(width):
        reach = max(1, -(-3 * abs(here[place]) // 10))
        down[place] = min(reach, here[place] - lows[place])
        span[place] = down[place] + min(reach, highs[place] - here[place])
    found = np.empty((count, width), dtype=np.int64)
    places = np.empty((3, count), dtype=np.int64)
    for row in range(count):
        found[row] = here
        first = _below(chosen[row], width)
        second = _below(chosen[count + row], max(1, width - 1))
        third = _below(chosen[2 * count + row], max(1, width - 2))
        second += second >= first
        third += third >= min(first, second)
        third += third >= max(first, second)
        places[0, row], places[1, row], places[2, row] = first, second, third
    entry = 0
    for order in range(3):
        for row in range(count):
            if sizes[row] > order:
                place = places[order, row]
                drawn = _below(stepped[entry], span[place])
                found[row, place] += drawn - down[place] + (drawn >= down[place])
                entry += 1
    return found
