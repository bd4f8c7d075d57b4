"""The arithmetic of `surrogate` as machine code, by numba: the same operations in the same order.

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

__all__ = ["product", "solved", "total"]

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
    return work[0]  # type: ignore[no-any-return]


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
