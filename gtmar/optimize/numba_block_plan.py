"""The fence and the steps of a block, as machine code: sums and systems of a few weights."""

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
    Fence = tuple[Doubles, Doubles]


__all__ = ["fence", "steps", "tops"]

_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath=False)

_ONE = np.uintp(1)


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
def _product(left: Doubles, right: Doubles) -> Doubles:
    """See `surrogate.product`; of the left side's transpose, so of (K, A) and (K, M), K above 0."""
    inner, width = np.uintp(right.shape[0]), np.uintp(right.shape[1])
    half, found = inner >> _ONE, np.empty((left.shape[1], right.shape[1]))
    work = np.empty((len(right) + 1) // 2 * right.shape[1])
    for row in range(np.uintp(left.shape[1])):
        if not half:
            work[:] = 0.0
        for pair in range(half):
            one, two = left[pair, row], left[half + pair, row]
            for place in range(width):
                upper = two * right[half + pair, place]
                work[pair * width + place] = one * right[pair, place] + upper
        if inner & _ONE:
            last = inner - _ONE
            for place in range(width):
                work[place] += left[last, row] * right[last, place]
        _halve(work, half, width)
        for place in range(width):
            found[row, place] = work[place]
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
def _solved(matrix: Doubles, right: Doubles, smallest: float) -> tuple[bool, Doubles]:
    """See `surrogate.solved`: whether it was, and the solution, both sides transposed, (B, A)."""
    size, rows = np.uintp(len(matrix)), np.uintp(len(matrix) + len(right))
    work = np.empty((len(matrix) + len(right), len(matrix)))
    solution = work[len(matrix) :]
    work[: len(matrix)] = matrix
    solution[:] = right
    for step in range(size):
        if not work[step, step] > smallest:
            return False, solution
        for row in range(step + _ONE, rows):
            factor = work[row, step] / work[step, step]
            for place in range(size):
                work[row, place] -= factor * work[step, place]
            work[row, step] = factor
    return True, solution


@_compiled
def _labels(kept: Doubles, near: Doubles, error: float, bare: Doubles) -> tuple[Doubles, Doubles]:
    """Return rows of (K, F) times what each says of the fence, and their sum by labels, (1, F)."""
    weighed, work = np.empty(bare.shape), np.empty(bare.size)
    right, at = np.zeros((1, bare.shape[1])), 0
    for place in range(len(bare)):
        for row in range(bare.shape[1]):
            weighed[place, row] = bare[place, row] * (near[place] / error)
            work[at] = bare[place, row] * (near[place] * kept[place] / error)
            at += 1
    _halve(work, np.uintp(bare.shape[0]), np.uintp(bare.shape[1]))
    right[0] = work[: bare.shape[1]]
    right[0, 0] += 1.0
    return weighed, right


@_compiled
def fence(
    tuning: Tuning, places: Doubles, kept: Doubles, first: Doubles, second: Doubles
) -> tuple[Doubles, Doubles]:
    """See `Fence.between`: levels, and slopes, transposed, (B, F), by draws as there."""
    (width, samples), count = first.shape, len(kept)
    error = tuning.fence_error * tuning.fence_error
    prior, near, bare = np.ones(width), np.ones(count), np.ones((count, width))
    bare[:, 1:] = places.T
    prior[1:] = 1 / (tuning.fence_slope * tuning.fence_slope)
    work, trial = np.empty(width), 0
    while True:
        weighed, right = _labels(kept, near, error, bare)
        system = _product(weighed, bare)
        for row in range(width):
            system[row, row] += prior[row]
        if trial == tuning.fence_rounds:
            break
        _, found = _solved(system, right, tuning.smallest_pivot)
        trial, settled = trial + 1, True
        for place in range(count):
            side = kept[place] * _inner(bare[place], found[0], work)
            closer = 1.0 if side < 1 else 0.0
            settled = settled and closer == near[place]
            near[place] = closer
        if settled:
            break
    noise = np.empty((count, samples))
    for place in range(count):
        for sample in range(samples):
            wide = tuning.fence_boldness * tuning.fence_error * second[place, sample]
            noise[place, sample] = kept[place] + wide
    right = _product(noise, weighed)
    for sample in range(samples):
        right[sample, 0] += 1.0
        for row in range(width):
            right[sample, row] += tuning.fence_boldness * math.sqrt(prior[row]) * first[row, sample]
    _, found = _solved(system, right, tuning.smallest_pivot)
    return found[:, 0].copy(), found[:, 1:].copy()


# ---- steps ----------------------------------------------------------------------------------


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
def _softened(tuning: Tuning, slopes: Doubles, unit: Doubles) -> Doubles:
    """See `Frame.softened`; transposed, so from (K, F) to (K, F)."""
    found, work = np.empty(slopes.shape), np.empty(len(unit))
    for row in range(len(slopes)):
        along = _inner(unit, slopes[row], work)
        for place in range(len(unit)):
            taken = (1 - tuning.scale_share) * unit[place] * along
            found[row, place] = slopes[row, place] - taken
    return found


@_compiled
def _damped(tuning: Tuning, curvature: Doubles, right: Doubles, radius: float) -> Doubles:
    """See `planning._damped`; transposed, so from rows of F to rows of F."""
    trial, damping, size = 0, 0.0, len(curvature)
    matrix, work, lengths = np.empty((size, size)), np.empty(size), np.empty(tuning.block)
    while True:
        damping = tuning.damping[trial] if trial < len(tuning.damping) else 4 * damping
        trial += 1
        for row in range(size):
            for column in range(size):
                matrix[row, column] = -curvature[row, column]
            matrix[row, row] = damping - curvature[row, row]
        fine, found = _solved(matrix, right, tuning.smallest_pivot)
        if not fine:
            continue
        for sample in range(tuning.block):
            own, at = math.sqrt(_inner(found[sample], found[sample], work)), sample
            while at > 0 and lengths[at - 1] > own:
                lengths[at] = lengths[at - 1]
                at -= 1
            lengths[at] = own
        typical = lengths[tuning.block // 2]
        if typical <= tuning.over_radius * radius or trial >= len(tuning.damping):
            return found


@_compiled
def tops(
    tuning: Tuning,
    size: float,
    unit: Doubles,
    top: tuple[Doubles, Doubles],
    edge: Fence,
    uniform: Doubles,
    radius: float,
) -> Doubles:
    """See `planning._steps`; transposed, shape (B, F). Without a fence `edge` is of no rows."""
    width, (slopes, curvature), (levels, edges) = len(unit), top, edge
    once = _turned(_softened(tuning, _turned(curvature), unit))
    bent = _turned(_softened(tuning, once, unit))
    right, work = np.empty((len(slopes) + len(levels), width)), np.empty(width)
    right[: len(slopes)] = _softened(tuning, slopes, unit)
    right[len(slopes) :] = edges
    found = _damped(tuning, bent, right, radius)
    for sample in range(len(slopes)):
        step = found[sample]
        cap = radius * (0.5 + uniform[sample])
        shorter = min(1.0, cap / max(math.sqrt(_inner(step, step, work)), 1e-12))
        for place in range(width):
            step[place] *= shorter
        if len(levels):
            toward = found[len(slopes) + sample]
            lacking = tuning.margin - levels[sample] - _inner(edges[sample], step, work)
            gain = max(_inner(edges[sample], toward, work), 1e-9)
            for place in range(width):
                step[place] += toward[place] * max(lacking / gain, 0.0)
        along = _inner(unit, step, work)
        for place in range(width):
            step[place] = unit[place] * (1 - along) + step[place]
        scaling = 1 + min(max(along, -tuning.most_scaling), tuning.most_scaling)
        longer = size * scaling / max(math.sqrt(_inner(step, step, work)), 1e-9)
        for place in range(width):
            step[place] *= longer
    return found[: len(slopes)]


@_compiled
def _fitted(
    tuning: Tuning, vector: Doubles, lows: Integers, highs: Integers, found: Integers
) -> None:
    """See `planning._fitted`; of one vector."""
    least = 1.0
    for place in range(len(vector)):
        low, high, weight = np.float64(lows[place]), np.float64(highs[place]), vector[place]
        tall = high / max(weight, high, 1e-9) if high > 0 else 1.0
        deep = low / min(weight, low, -1e-9) if low < 0 else 1.0
        least = min(least, tall, deep)
    factor = max(least, tuning.least_fit)
    for place in range(len(vector)):
        rounded = np.floor(vector[place] * factor + 0.5)
        low, high = np.float64(lows[place]), np.float64(highs[place])
        found[place] = np.int64(min(max(rounded, low), high))


@_compiled
def _lowered(
    tuning: Tuning, moves: Integers, center: Doubles, size: float, edge: Fence, heights: Doubles
) -> None:
    """Bring heights of moves outside the fence below those of all samples; see `_heights`."""
    count = heights.shape[1]
    levels, edges = edge
    apart, lowest = np.empty((len(center), count)), heights.min()
    for row in range(len(center)):
        for place in range(count):
            apart[row, place] = (moves[place, row] - center[row]) / size
    margins = _product(_turned(edges), apart)
    for sample in range(len(heights)):
        for place in range(count):
            inside = margins[sample, place] + levels[sample] - tuning.margin
            if inside < 0:
                heights[sample, place] = lowest - 1 + inside


@_compiled
def steps(
    tuning: Tuning,
    known: Knowledge,
    draws: Doubles,
    here: Integers,
    lows: Integers,
    highs: Integers,
    slopes: Doubles,
    curvature: Doubles,
    moves: Integers,
    heights: Doubles,
) -> Integers:
    """See `planning._fence` and `planning._steps`: steps, (B, F); lowers heights by the fence.

    `draws` are those that the surface left.
    """
    width, samples = len(here), tuning.block
    center, unit, work = np.empty(width), np.empty(width), np.empty(width)
    for row in range(width):
        center[row] = here[row]
    size = max(math.sqrt(_inner(center, center, work)), tuning.shortest)
    for row in range(width):
        unit[row] = center[row] / size
    edge = np.empty(0), np.empty((0, width))
    if len(draws) > samples:
        # The incumbent itself is inside.
        apart, sides = np.zeros((width, 1 + known.fenced)), np.ones(1 + known.fenced)
        sides[1:] = known.kept[: known.fenced]
        for row in range(width):
            for place in range(known.fenced):
                apart[row, 1 + place] = (known.better[row, place] - center[row]) / size
        middle, end = (1 + width) * samples, (2 + width + known.fenced) * samples
        first = draws[:middle].reshape(1 + width, samples)
        second = draws[middle:end].reshape(len(sides), samples)
        edge = fence(tuning, apart, sides, first, second)
        _lowered(tuning, moves, center, size, edge, heights)
    uniform = draws[len(draws) - samples :]
    found = np.empty((samples, width), dtype=np.int64)
    vectors = tops(tuning, size, unit, (slopes, curvature), edge, uniform, known.radius)
    for sample in range(samples):
        _fitted(tuning, vectors[sample], lows, highs, found[sample])
    return found
