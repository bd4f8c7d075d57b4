"""The surface through results, as machine code, and what it says of moves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.optimize.block_plan import Knowledge
    from gtmar.optimize.hill_climb import Tuning

    Doubles = NDArray[np.float64]
    Place = int | np.uintp
    Integers = NDArray[np.int64]


__all__ = ["coordinates", "heights", "nearest", "product", "solved", "surface"]

_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath=False)

#: Numbers that lie near enough to be read again at once: half of a small processor's first cache.
_NEAR = 4096
_ZERO, _ONE = np.uintp(0), np.uintp(1)


# ---- sums, products, systems ----------------------------------------------------------------
# Places are unsigned here: of signed ones numba asks at each whether it counts from the end.


@_compiled
def _halve(work: Doubles, count: Place, width: Place) -> None:
    """Add `count` rows of `width`, one after the other in (K x M,), by halves into the first."""
    while count > _ONE:
        half = count >> _ONE
        size = half * width
        for place in range(size):
            work[place] += work[size + place]
        if count & _ONE:
            last = (count - _ONE) * width
            for place in range(width):
                work[place] += work[last + place]
        count = half


@_compiled
def _mixed(
    left: Doubles, right: Doubles, top: Place, rows: Place, first: Place, work: Doubles
) -> None:
    """Multiply some columns of (K, A), from `top` on, by those of (K, M), from `first` on.

    The products, added by halves over K, are left as `rows` rows at the start of `work`, which has
    room for K / 2 times as much, and for them.
    """
    count, width = np.uintp(len(right)), np.uintp(right.shape[1]) - first
    half, size = count >> _ONE, rows * width
    if not half:
        for each in range(size):
            work[each] = 0.0
    for row in range(half):
        for each in range(rows):
            own, other = left[row, top + each], left[half + row, top + each]
            start = row * size + each * width
            for place in range(width):
                upper = other * right[half + row, first + place]
                work[start + place] = own * right[row, first + place] + upper
    if count & _ONE:
        last = count - _ONE
        for each in range(rows):
            own, start = left[last, top + each], each * width
            for place in range(width):
                work[start + place] += own * right[last, first + place]
    _halve(work, half, size)


@_compiled
def _together(inner: int, width: int, most: int) -> np.uintp:
    """Return how many rows of a product are worth making at once: what stays in the cache."""
    near = _NEAR // max(1, inner // 2 * width)
    # By eights, since a processor takes some columns at once.
    return np.uintp(max(1, min(most, near - near % 8 if near > 8 else near)))


@_compiled
def product(left: Doubles, right: Doubles) -> Doubles:
    """See `surrogate.product`; of the left side's transpose, so of (K, A) and (K, M)."""
    (inner, count), width = left.shape, right.shape[1]
    group = _together(inner, width, count)
    found = np.empty((count, width))
    work = np.empty(max(1, inner // 2) * np.int64(group) * width)
    for top in range(np.uintp(0), np.uintp(count), group):
        rows = min(group, np.uintp(count) - top)
        _mixed(left, right, top, rows, _ZERO, work)
        for each in range(rows):
            for place in range(np.uintp(width)):
                found[top + each, place] = work[each * np.uintp(width) + place]
    return found


@_compiled
def _inner(one: Doubles, two: Doubles, work: Doubles) -> float:
    """Return the sum of the products of (K,) and (K,), by halves; `work` has room for K."""
    count = np.uintp(len(one))
    if not count:
        return 0.0
    for place in range(count):
        work[place] = one[place] * two[place]
    _halve(work, count, _ONE)
    return float(work[0])


@_compiled
def _reach(columns: Doubles) -> Doubles:
    """Return the sum of squares of each column of (F, K), F one at least."""
    (width, count), at = columns.shape, _ZERO
    work = np.empty(columns.size)
    for row in range(np.uintp(width)):
        for place in range(np.uintp(count)):
            work[at] = columns[row, place] * columns[row, place]
            at += _ONE
    _halve(work, np.uintp(width), np.uintp(count))
    return work[:count]


@_compiled
def _turned(matrix: Doubles) -> Doubles:
    """Return the transpose, C-contiguous."""
    rows, columns = np.uintp(matrix.shape[0]), np.uintp(matrix.shape[1])
    found = np.empty((matrix.shape[1], matrix.shape[0]))
    for row in range(rows):
        for column in range(columns):
            found[column, row] = matrix[row, column]
    return found


@_compiled
def solved(matrix: Doubles, right: Doubles, smallest: float) -> tuple[bool, Doubles]:
    """See `surrogate.solved`: whether it was, and the solution, both sides transposed, (B, A)."""
    count, samples = matrix.shape[0], right.shape[0]
    # Pivots go in pairs, to read and write each number once for both; an odd one gets a partner
    # that changes nothing.
    even = count + count % 2
    work = np.zeros((even + samples, even))
    if count % 2:
        work[count, count] = 1.0
    work[:count, :count] = matrix
    work[even:, :count] = right
    size, rows = np.uintp(even), np.uintp(even + samples)
    for step in range(_ZERO, size, _ONE + _ONE):
        following = step + _ONE
        one = work[following, step] / work[step, step]
        fine = work[step, step] > smallest
        for place in range(size):
            work[following, place] -= one * work[step, place]
        work[following, step] = one
        if not (fine and work[following, following] > smallest):
            return False, work[even:, :count].copy()
        for row in range(following + _ONE, rows):
            one = work[row, step] / work[step, step]
            two = work[row, following] - one * work[step, following]
            two /= work[following, following]
            corner = one - two * work[following, step]
            for place in range(size):
                taken = work[row, place] - one * work[step, place]
                work[row, place] = taken - two * work[following, place]
            work[row, step], work[row, following] = corner, two
    return True, work[even:, :count].copy()


# ---- the surface -----------------------------------------------------------------------------


@_compiled
def nearest(reach: Doubles, most: int) -> Integers:
    """Return the places of the least of (K,), rising; of equal ones the first."""
    count = len(reach)
    if count <= most:
        return np.arange(count)
    last = np.partition(reach, most - 1)[most - 1]
    equal = most - (reach < last).sum()
    found, used = np.empty(most, dtype=np.int64), 0
    for place in range(count):
        if reach[place] < last or (reach[place] == last and equal > 0):
            equal -= reach[place] == last
            found[used] = place
            used += 1
    return found


@_compiled
def coordinates(
    tuning: Tuning, vectors: Doubles, center: Doubles, size: float, unit: Doubles
) -> Doubles:
    """See `Frame.coordinates`."""
    width, count = np.uintp(vectors.shape[0]), np.uintp(vectors.shape[1])
    scale, stretch = _reach(vectors), np.empty(vectors.shape[1])
    for place in range(count):
        own = max(math.sqrt(scale[place]), 1e-9)
        scale[place] = size / own
        stretch[place] = tuning.scale_share * (own - size) / size
    found = np.empty(vectors.shape)
    for row in range(width):
        for place in range(count):
            moved = (vectors[row, place] * scale[place] - center[row]) / size
            found[row, place] = moved + stretch[place] * unit[row]
    return found


@_compiled
def _kernel(tuning: Tuning, places: Doubles, squares: Doubles, error: Doubles) -> Doubles:
    """Return how K results go together, shape (K, K); one half is the mirror of the other."""
    count = np.uintp(len(error))
    found = np.empty((len(error), len(error)))
    group = _together(places.shape[0], places.shape[1], len(error))
    inner, quartic = (
        np.empty(places.size * np.int64(group)),
        np.empty(places.size * np.int64(group)),
    )
    for top in range(_ZERO, count, group):
        rows, width = min(group, count - top), count - top
        _mixed(places, places, top, rows, top, inner)
        _mixed(squares, squares, top, rows, top, quartic)
        for each in range(rows):
            for place in range(width):
                at = each * width + place
                near = inner[at] * (tuning.slope + tuning.curvature / 2 * inner[at])
                found[top + each, top + place] = near + tuning.own_curvature / 4 * quartic[at]
            found[top + each, top + each] += error[top + each]
    for row in range(count):
        for place in range(row):
            found[row, place] = found[place, row]
    return found


@_compiled
def _amplitude(values: Doubles, expected: Doubles, parts: Doubles) -> float:
    """See `surrogate._amplitude`."""
    count, work = len(values), np.empty(len(values))
    own, mixed = _inner(values, parts[0], work), _inner(values, parts[1], work)
    room = max(count - _inner(expected, parts[1], work), count / 4)
    if room == 0:
        return 1.0
    found = (math.sqrt(max(mixed * mixed + room * own, 0.0)) - mixed) / room
    return found if found > 0 else 1.0


@_compiled
def surface(
    tuning: Tuning, places: Doubles, values: Doubles, first: Doubles, second: Doubles
) -> tuple[Doubles, Doubles]:
    """See `Surface.through`: slopes, transposed, (B, F), and curvature, by draws as there."""
    (width, count), samples = places.shape, first.shape[1]
    squares, reach = np.empty(places.shape), _reach(places)
    error, right = np.empty(count), np.empty((2 + samples, count))
    base = values[reach.argmin()] if count else 0.0
    slopes = np.empty(first.shape)
    for row in range(width):
        for place in range(count):
            squares[row, place] = places[row, place] * places[row, place]
        for sample in range(samples):
            slopes[row, sample] = first[row, sample] * tuning.boldness
    guesses = product(slopes, places)
    far = tuning.far_error * tuning.far_error
    for place in range(count):
        own = far * reach[place] * reach[place] * reach[place]
        error[place] = tuning.near_error * tuning.near_error + own
        right[0, place] = values[place] - base
        right[1, place] = -0.5 * tuning.expected * reach[place]
        root = math.sqrt(error[place])
        for sample in range(samples):
            spread = second[place, sample] * tuning.boldness * root
            right[2 + sample, place] = guesses[sample, place] + spread
    _, parts = solved(_kernel(tuning, places, squares, error), right, tuning.smallest_pivot)
    amplitude = _amplitude(right[0], right[1], parts)
    # All with results down and weights or samples across.
    rest, bare = np.empty((count, samples)), np.empty((count, width))
    weighed, squared = np.empty((count, width)), np.empty(count * width)
    for place in range(count):
        mean = parts[0, place] / amplitude - parts[1, place]
        for sample in range(samples):
            rest[place, sample] = mean - parts[2 + sample, place]
        for row in range(width):
            bare[place, row] = places[row, place]
            weighed[place, row] = places[row, place] * mean
            squared[place * width + row] = squares[row, place] * mean
    found, curvature = product(rest, bare), product(weighed, bare)
    _halve(squared, np.uintp(count), np.uintp(width))
    for row in range(width):
        for sample in range(samples):
            found[sample, row] = slopes[row, sample] + tuning.slope * found[sample, row]
        for column in range(width):
            curvature[row, column] *= tuning.curvature
        own = squared[row] if count else 0.0
        curvature[row, row] += tuning.own_curvature / 2 * own - tuning.expected
    return found, curvature


# ---- a block --------------------------------------------------------------------------------


@_compiled
def heights(
    tuning: Tuning,
    known: Knowledge,
    draws: Doubles,
    here: Integers,
    moves: Integers,
    ranked: Integers,
) -> tuple[Doubles, Doubles, Doubles]:
    """See `planning._surface` and `planning._heights`: slopes, curvature and heights of moves.

    The heights are those without a fence: of the samples asked for, or of all where one will be.
    """
    width, count, samples = len(here), tuning.ranked, tuning.block
    center, unit, work = np.empty(width), np.empty(width), np.empty(width)
    for row in range(width):
        center[row] = here[row]
    size = max(math.sqrt(_inner(center, center, work)), tuning.shortest)
    for row in range(width):
        unit[row] = center[row] / size
    vectors = known.vectors[:, : known.results].copy()
    places = coordinates(tuning, vectors, center, size, unit)
    near = nearest(_reach(places), tuning.fitted - 1)
    told = 1 if known.told else 0
    chosen, goals = np.zeros((width, told + len(near))), np.empty(told + len(near))
    goals[:told] = known.level
    for place in range(len(near)):
        goals[told + place] = known.values[near[place]]
        for row in range(width):
            chosen[row, told + place] = places[row, near[place]]
    middle, end = width * samples, (width + len(goals)) * samples
    first = draws[:middle].reshape(width, samples)
    second = draws[middle:end].reshape(len(goals), samples)
    slopes, curvature = surface(tuning, chosen, goals, first, second)

    vectors = moves[:count].T.astype(np.float64).copy()
    places = coordinates(tuning, vectors, center, size, unit)
    bent = product(_turned(curvature), places)
    for row in range(np.uintp(width)):
        for place in range(np.uintp(count)):
            bent[row, place] *= places[row, place]
    halved = bent.ravel()
    _halve(halved, np.uintp(width), np.uintp(count))
    fenced = len(draws) > end + samples
    found = product(_turned(slopes if fenced else slopes[ranked]), places)
    for row in range(len(found)):
        for place in range(count):
            found[row, place] += 0.5 * halved[place]
    return slopes, curvature, found
