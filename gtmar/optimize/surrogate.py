"""Surrogate model of the objective, and the steps and random moves that proposals are chosen from.

The surrogate has two parts: a quadratic surface fitted to the results nearest to the incumbent, and
a fence, the linear boundary of what guardrails allow, fitted to kept and blocked candidates. Each
block of proposals gets steps to the maxima of samples of the surface, and the values ("heights") of
random moves by these samples.

All arithmetic consists of additions, multiplications, divisions and square roots of doubles in a
fixed order, element by element. Matrix products of numerical libraries, sums of arrays and
logarithms differ in their last digits between builds, so that searches would diverge.

The mathematics is written once, in the part of numpy that numba also compiles. If numba is loaded,
the functions of `_Code` are machine code, in which `total`, `product`, `solved` and a few others
are replaced by the loops at the end of this module. These do the same operations in the same order,
so the results are equal bit for bit. Compiled functions use only these primitives, arrays of equal
shape, and contiguous rows, since numba compiles broadcasting for every case that might occur.
Everything that numba compiles is in this module, since its cache detects changes in one file only.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from itertools import accumulate, pairwise
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gtmar.engine.numba_cache import CodePart

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Raw = NDArray[np.uint64]

__all__ = [
    "MACHINE_CODE",
    "TUNING",
    "Bounds",
    "Fence",
    "Frame",
    "Knowledge",
    "Options",
    "Surface",
    "chance",
    "machine_code",
    "most_draws",
    "options",
]


class Tuning(NamedTuple):
    """Constants of the proposer. Changing any of them changes the course of every search."""

    #: Number of proposals in a block, and of samples of surface and fence.
    block: int = 8
    #: Number of random moves to be ranked, and of further random moves.
    ranked: int = 200
    spare: int = 32
    #: Number of results that a surface is fitted to: the incumbent and the nearest ones.
    fitted: int = 64

    #: Elimination takes a matrix with a pivot below this as not positive definite.
    smallest_pivot: float = 1e-9
    #: Share by which scaling all weights by one factor counts as distance: it hardly affects most
    #: objectives.
    scale_share: float = 0.1
    #: Lower bound of the length that an incumbent is taken to have, in points.
    shortest: float = 3.0

    # Prior variances of a surface: of slopes, of curvatures in any direction, and of additional
    # curvatures along single weights; and the expected downward curvature. In units of the
    # surface's amplitude.
    slope: float = 1.0
    curvature: float = 0.2
    own_curvature: float = 0.5
    expected: float = 1.0
    #: Standard error of the quadratic model at distance 0, and per cube of the distance.
    near_error: float = 0.001
    far_error: float = 0.15
    #: Spread of the samples, as a share of the posterior's.
    boldness: float = 0.3

    # The fence: prior spread of its slope, error of a label, and spread of its samples.
    fence_slope: float = 5.0
    fence_error: float = 0.1
    fence_boldness: float = 0.5
    #: Most rounds of fitting, each of which selects the candidates near the fence anew.
    fence_rounds: int = 4

    #: Damping of steps, tried in order until the system is positive definite and a typical step
    #: short enough. The last one needs only the former, and is multiplied by 4 until that holds.
    damping: tuple[float, float, float] = (0.02, 0.5, 5.0)
    #: Length of a typical step, in radii, up to which damping is sufficient.
    over_radius: float = 1.5
    #: Value of the fence's function that steps should reach; largest relative change of a length.
    margin: float = 0.2
    most_scaling: float = 0.15
    #: Smallest factor by which a step is shortened to fit into bounds, before it is cut at them.
    least_fit: float = 0.7


TUNING = Tuning()


class Knowledge(NamedTuple):
    """The results on which a block of proposals is based."""

    #: Vectors (F, K) with their objective (K,), higher being better; how many of K are filled.
    vectors: Doubles
    values: Doubles
    results: int
    #: Whether the incumbent's objective is known, and its value.
    told: bool
    level: float
    #: Vectors (F, K) that beat an incumbent; (K,): 1 if kept, -1 if blocked by guardrails; how many
    #: of K are filled.
    better: Doubles
    kept: Doubles
    fenced: int
    #: Limit of a step's length, in units of the incumbent's length.
    radius: float


class Bounds(NamedTuple):
    """Inclusive bounds of the F free weights, each int64 of shape (F,)."""

    lows: Integers
    highs: Integers


class Options(NamedTuple):
    """The vectors from which the proposals of a block are chosen."""

    #: Random moves: weight vectors different from the incumbent, shape (M, F).
    moves: Integers
    #: Maxima of the samples of the surface within the radius, rounded, shape (B, F).
    steps: Integers
    #: Values of the first M' moves by the R requested samples, shape (R, M'); higher is better.
    #: Moves outside the fence are lower than all others.
    heights: Doubles


class Frame(NamedTuple):
    """A coordinate system around an incumbent of F weights, in units of its length.

    A vector is scaled to the incumbent's length, and a share of the difference in length is added
    along the incumbent's direction. So scaling all weights by one factor is a small step.
    """

    #: The incumbent, shape (F,); its length, in points; its direction, shape (F,).
    center: Doubles
    size: float
    unit: Doubles


class Surface(NamedTuple):
    """B samples of a quadratic surface: slopes (F, B), and a common curvature (F, F).

    The model is a Gaussian process with a quadratic kernel: slopes, curvatures and curvatures of
    single weights have independent priors. Slopes are sampled as prior draws corrected by the data
    (Matheron's rule), so samples differ where little is known and agree where much is.
    """

    slopes: Doubles
    curvature: Doubles


class Fence(NamedTuple):
    """B samples of a linear function that is positive where guardrails allow candidates.

    Levels at the incumbent (B,), and slopes (F, B). If no candidate was blocked, B is 0.
    """

    levels: Doubles
    slopes: Doubles


# ---- entry points ---------------------------------------------------------------------------


def machine_code() -> _Code | None:
    """Return the functions as machine code; None if numba isn't loaded or nothing is compiled."""
    if "numba" not in sys.modules or not MACHINE_CODE.ready(wanted=False):
        return None
    return _compiled()


def most_draws(known: Knowledge | None, width: int) -> int:
    """Return the largest number of raw random numbers that a block uses, for `width` free weights.

    With `known` None, for a block of random moves only.
    """
    moves = 7 * (TUNING.ranked + TUNING.spare)
    if known is None:
        return moves
    fitted = min(known.results, TUNING.fitted - 1) + 1
    normal = width + fitted + (width + 1) + (known.fenced + 1)
    return moves + TUNING.block * (normal + 1)


def options(
    known: Knowledge, raw: Raw, here: Integers, bounds: Bounds, ranked: Integers
) -> Options:
    """Return the moves, steps and heights from which a block of proposals is chosen.

    Parameters
    ----------
    known
        The results so far.
    raw
        Raw random numbers, uint64, as many as `most_draws` returns.
    here
        The incumbent, int64, shape (F,).
    bounds
        Bounds of the weights.
    ranked
        Numbers of the samples by which moves are ranked, int64, shape (R,).

    Notes
    -----
    Cost with a dozen weights: about 0.1 ms in machine code, and 1 ms with numpy.
    """
    return _options(machine_code() or _NUMPY, known, raw, here, bounds, ranked)


def _options(
    code: _Code, known: Knowledge, raw: Raw, here: Integers, bounds: Bounds, ranked: Integers
) -> Options:
    """Compute `options` by numpy or by machine code."""
    width, results, fenced = len(here), known.results, known.fenced
    moves, used = code.moves(raw, here, bounds)
    vectors = np.concatenate((known.vectors[:, :results], moves[: TUNING.ranked].T), axis=1)
    frame = frame_at(here)
    placed = code.coordinates(frame, vectors)
    points, values = code.nearby(placed, results, known.values, int(known.told), known.level)

    blocked = fenced > 0 and bool((known.kept[:fenced] < 0).any())
    rows = [width, len(values), *([width + 1, fenced + 1] if blocked else [])]
    ends = [0, *accumulate(rows)]
    drawn, used = raw[used : used + ends[-1] * TUNING.block], used + ends[-1] * TUNING.block
    normal = code.normal(drawn).reshape(-1, TUNING.block)
    slopes, noise, *others = [normal[first:last] for first, last in pairwise(ends)]
    surface = code.surface(points, values, slopes, noise)
    fence = Fence(np.empty(0), np.empty((width, 0)))
    if blocked:
        fence = code.fence(*_labels(known, frame), *others)

    uniform = code.uniform(raw[used : used + TUNING.block])
    tops = code.tops(frame, surface, fence, uniform, known.radius)
    steps = code.within(tops, bounds).T
    if not blocked:
        slopes = np.ascontiguousarray(surface.slopes[:, ranked])
        return Options(moves, steps, code.heights(slopes, surface.curvature, placed, results))
    heights = code.heights(surface.slopes, surface.curvature, placed, results)
    return Options(moves, steps, code.fenced(heights, frame, fence, vectors, results)[ranked])


def chance(raw: Raw, here: Integers, bounds: Bounds) -> Options:
    """Return random moves only, for a block that uses no results; steps and heights are empty."""
    moves, _ = (machine_code() or _NUMPY).moves(raw, here, bounds)
    return Options(moves, np.empty((0, len(here)), dtype=np.int64), np.empty((0, 0)))


# ---- random numbers -------------------------------------------------------------------------

#: Most weights that one move changes.
_MOST_CHANGES = 3
#: Mean and standard deviation of the sum of four uniform 16-bit numbers, which is about normal.
_NORMAL_MEAN, _NORMAL_DEVIATION = 131_070.0, math.sqrt((65_536**2 - 1) / 3)
#: Bit masks: the lower 16 bits of each half of 64 bits, and the lower half.
_QUARTERS, _LOW = np.uint64(0x0000FFFF0000FFFF), np.uint64(2**32 - 1)
_HALF, _QUARTER, _FRACTION = np.uint64(32), np.uint64(16), np.uint64(11)


def _uniform(raw: Raw) -> Doubles:
    """Return uniform doubles in [0, 1), one for each raw number."""
    return (raw >> _FRACTION).astype(np.float64) * 2.0**-53


def _normal(raw: Raw) -> Doubles:
    """Return approximately standard normal doubles, one for each raw number."""
    low = (raw & _QUARTERS) + ((raw >> _QUARTER) & _QUARTERS)
    sums = (low & _LOW) + (low >> _HALF)
    return (sums.astype(np.float64) - _NORMAL_MEAN) / _NORMAL_DEVIATION


def _below(raw: Raw, ends: Raw) -> Integers:
    """Return an integer in [0, end) for each raw number and its end, which is at most 2^32."""
    return (((raw >> _HALF) * ends) >> _HALF).astype(np.int64)


def random_moves(raw: Raw, here: Integers, bounds: Bounds) -> tuple[Integers, int]:
    """Return random moves like those of `RandomProposer`, (M, F), and the raw numbers used."""
    width, count = len(here), TUNING.ranked + TUNING.spare
    # Exclusive upper ends: of the number of changed weights, then of the choice of each weight
    # among those left.
    ends = np.empty((4, count), dtype=np.uint64)
    ends[0] = min(_MOST_CHANGES, width)
    for order in range(_MOST_CHANGES):
        ends[1 + order] = max(1, width - order)
    used = 4 * count
    drawn = _below(raw[:used], ends.reshape(used)).reshape(4, count)
    sizes, first, second, third = 1 + drawn[0], drawn[1], drawn[2], drawn[3]
    second += second >= first
    third += third >= np.minimum(first, second)
    third += third >= np.maximum(first, second)

    reach = np.maximum(1, -(-3 * np.abs(here) // 10))
    down = np.minimum(reach, here - bounds.lows)
    span = down + np.minimum(reach, bounds.highs - here)
    moves = here + np.zeros((count, 1), dtype=np.int64)
    flat = moves.reshape(count * width)
    for order in range(_MOST_CHANGES):
        rows = np.flatnonzero(sizes > order)
        index = drawn[1 + order][rows]
        step = _below(raw[used : used + len(rows)], span[index].astype(np.uint64))
        used += len(rows)
        at = rows * width + index
        add_at(flat, at, step - down[index] + (step >= down[index]))
    return moves, used


def outer(one: Doubles, two: Doubles) -> Doubles:
    """Return the outer product of vectors (A,) and (B,), shape (A, B)."""
    return product(one.reshape(1, -1), two.reshape(1, -1))


def by_rows(matrix: Doubles, factors: Doubles) -> Doubles:
    """Multiply each row by its factor."""
    return matrix * factors[:, None]


def by_columns(matrix: Doubles, factors: Doubles) -> Doubles:
    """Multiply each column by its factor."""
    return matrix * factors


def raised(matrix: Doubles, more: Doubles) -> Doubles:
    """Add to each row its number."""
    return matrix + more[:, None]


def put(target: Doubles, values: Doubles) -> None:
    """Copy a two-dimensional array; numba's own slice assignment would compile error messages."""
    target[:] = values


def add_at(values: Integers, index: Integers, more: Integers) -> None:
    """Add to the values at indices, all of which must be different."""
    values[index] += more


# ---- sums, products, systems ----------------------------------------------------------------


def total(values: Doubles) -> Doubles:
    """Sum along the first axis by halves, an order that doesn't depend on library or processor."""
    count = len(values)
    if not count:
        return np.zeros(values.shape[1:])
    while count > 1:
        half = count // 2
        added = values[:half] + values[half : 2 * half]
        if count % 2:
            added[0] += values[-1]
        values, count = added, half
    return values[0]  # type: ignore[no-any-return]  # a row of an array of doubles


def product(left: Doubles, right: Doubles) -> Doubles:
    """Return ``left.T @ right``, shape (A, B), for shapes (K, A) and (K, B)."""
    return total(left[:, :, None] * right[:, None, :])


def solved(matrix: Doubles, right: Doubles) -> tuple[bool, Doubles]:
    """Solve a symmetric positive definite system (A, A) by elimination, for right sides (B, A).

    Returns whether the matrix is positive definite, and the solutions, (B, A), if it is.
    """
    size = len(matrix)
    work = np.concatenate((matrix, right))
    scratch = np.empty_like(work)
    for step in range(size):
        pivot = work[step, step]
        if not pivot > TUNING.smallest_pivot:
            return False, right
        rest, change = work[step + 1 :], scratch[step + 1 :]
        column = rest[:, step] / pivot
        np.multiply(column[:, None], work[step], out=change)
        np.subtract(rest, change, out=rest)
        rest[:, step] = column
    return True, work[size:]


def _length(columns: Doubles) -> Doubles:
    """Return the Euclidean length of each column, shape (B,), for columns (A, B)."""
    return np.sqrt(total(columns * columns))


# ---- coordinates ----------------------------------------------------------------------------


def frame_at(here: Integers) -> Frame:
    """Return the coordinate system around an incumbent, shape (F,)."""
    # Squares of integers add up exactly, in any order.
    size = max(math.sqrt(here @ here), TUNING.shortest)
    return Frame(here.astype(np.float64), size, here / size)


def coordinates(frame: Frame, vectors: Doubles) -> Doubles:
    """Return the coordinates of vectors, both of shape (F, K)."""
    sizes = np.maximum(_length(vectors), 1e-9)
    return framed(frame, vectors, sizes)


def framed(frame: Frame, vectors: Doubles, sizes: Doubles) -> Doubles:
    """Return the same from vectors and their lengths, shapes (F, K) and (K,)."""
    center, size, unit = frame
    moved = raised(by_columns(vectors, size / sizes), -center) / size
    return moved + outer(unit, TUNING.scale_share * (sizes - size) / size)


def _softened(unit: Doubles, slopes: Doubles) -> Doubles:
    """Convert slopes in a frame's coordinates to slopes per step of weights, shape (F, K)."""
    along = product(unit.reshape(-1, 1), slopes)[0]
    return slopes - outer((1 - TUNING.scale_share) * unit, along)


# ---- the surface ----------------------------------------------------------------------------


def nearest(reach: Doubles, most: int) -> Integers:
    """Return the indices of the `most` smallest of (K,), ascending; ties go to the first."""
    if len(reach) <= most:
        return np.arange(len(reach))
    last = np.partition(reach, most - 1)[most - 1]
    chosen = reach < last
    ties = np.flatnonzero(reach == last)
    chosen[ties[: most - chosen.sum()]] = True
    return np.flatnonzero(chosen)


def _nearby(
    placed: Doubles, results: int, values: Doubles, known: int, level: float
) -> tuple[Doubles, Doubles]:
    """Return coordinates (F, K) and values (K,) of the incumbent and the results nearest to it.

    `placed` starts with the coordinates of all results. The incumbent, with value `level`, is
    included if `known` is 1 and not 0.
    """
    vectors = placed[:, :results]
    near = nearest(total(vectors * vectors), TUNING.fitted - 1)
    points, chosen = np.zeros((len(vectors), known + len(near))), np.empty(known + len(near))
    put(points[:, known:], vectors[:, near])
    chosen[:known] = level
    put(chosen[known:].reshape(1, -1), values[near].reshape(1, -1))
    return points, chosen


def fit_surface(points: Doubles, values: Doubles, slopes: Doubles, noise: Doubles) -> Surface:
    """Fit a surface to K results, and draw B samples of it.

    `points` are coordinates (F, K) and `values` (K,) objectives; `slopes` (F, B) and `noise` (K, B)
    are standard normal numbers.
    """
    squares = points * points
    reach = total(squares)
    inner, quartic = product(points, points), product(squares, squares)
    error = TUNING.near_error**2 + TUNING.far_error**2 * reach * reach * reach
    kernel = covariance(inner, quartic, error)

    slopes = slopes * TUNING.boldness
    noise = by_rows(noise * TUNING.boldness, np.sqrt(error))
    goal = values - (values[reach.argmin()] if len(values) else 0.0)
    bent = -0.5 * TUNING.expected * reach
    right = np.empty((2 + slopes.shape[1], len(values)))
    put(right[:1], goal.reshape(1, -1))
    put(right[1:2], bent.reshape(1, -1))
    put(right[2:], (product(points, slopes) + noise).T)
    # The model's errors on the diagonal keep every pivot positive.
    _, parts = solved(kernel, right)
    mean = parts[0] / _amplitude(right, parts) - parts[1]
    across = np.ascontiguousarray(points.T)
    lacking = raised(np.ascontiguousarray(-parts[2:].T), mean)
    slopes = slopes + TUNING.slope * product(across, lacking)
    bends = TUNING.curvature * product(by_rows(across, mean), across)
    own = (
        TUNING.own_curvature / 2 * product(mean.reshape(-1, 1), across * across)[0]
        - TUNING.expected
    )
    return Surface(slopes, bends + np.diag(own))


def covariance(inner: Doubles, quartic: Doubles, error: Doubles) -> Doubles:
    """Return the kernel of K results, (K, K), by inner products of coordinates and of squares."""
    kernel = inner * (TUNING.slope + TUNING.curvature / 2 * inner)
    return kernel + TUNING.own_curvature / 4 * quartic + np.diag(error)


def _amplitude(right: Doubles, parts: Doubles) -> float:
    """Return the estimated amplitude a, the unit of the surface's values.

    The rows of `right` are the K values y, and their prior mean m in units of a; `parts` are the
    solutions of the kernel C for these. The estimate satisfies
    ``K a**2 = (y - a m)' C**-1 (y - a m)``, the expected size of the residuals.
    """
    count = right.shape[1]
    both = product(np.ascontiguousarray(right[:2].T), np.ascontiguousarray(parts[:2].T))
    own, mixed = both[0, 0], both[0, 1]
    room = max(count - both[1, 1], count / 4)
    if room == 0:
        return 1.0
    amplitude = (math.sqrt(max(mixed * mixed + room * own, 0.0)) - mixed) / room
    return amplitude if amplitude > 0 else 1.0


# ---- the fence ------------------------------------------------------------------------------


def _labels(known: Knowledge, frame: Frame) -> tuple[Doubles, Doubles]:
    """Return coordinates and labels for fitting a fence; the incumbent comes first, as inside."""
    count = known.fenced
    points, kept = np.zeros((len(frame.center), 1 + count)), np.ones(1 + count)
    np.subtract(known.better[:, :count], frame.center[:, None], out=points[:, 1:])
    points /= frame.size
    kept[1:] = known.kept[:count]
    return points, kept


def fit_fence(points: Doubles, kept: Doubles, slopes: Doubles, noise: Doubles) -> Fence:
    """Fit a fence to K candidates that were better, and draw B samples of it.

    `points`, (F, K), are differences to the incumbent in units of its length. `kept`, (K,), is 1 if
    a candidate was kept, -1 if guardrails blocked it. `slopes`, (1 + F, B), and `noise`, (K, B),
    are standard normal numbers.
    """
    rows = np.ones((len(kept), 1 + len(points)))
    put(rows[:, 1:], points.T)
    prior, goal = np.full(rows.shape[1], 1 / TUNING.fence_slope**2), np.zeros(rows.shape[1])
    prior[0] = goal[0] = 1.0
    error, near = TUNING.fence_error**2, np.ones(len(kept))
    # Each round leaves out candidates that lie well on their own side: they don't inform the fence.
    across = np.ascontiguousarray(rows.T)
    for _ in range(TUNING.fence_rounds):
        system = product(by_rows(rows, near / error), rows) + np.diag(prior)
        right = product((near * kept / error).reshape(-1, 1), rows) + goal
        _, line = solved(system, right)
        closer = (kept * product(across, line[0].reshape(-1, 1))[:, 0] < 1).astype(np.float64)
        if (closer == near).all():
            break
        near = closer
    weighed = by_rows(rows, near / error)
    noise = raised(TUNING.fence_boldness * TUNING.fence_error * noise, kept)
    slopes = by_rows(slopes, TUNING.fence_boldness * np.sqrt(prior))
    right = raised(product(weighed, noise), goal) + slopes
    _, lines = solved(product(weighed, rows) + np.diag(prior), np.ascontiguousarray(right.T))
    return Fence(lines[:, 0].copy(), np.ascontiguousarray(lines[:, 1:].T))


# ---- steps and heights ----------------------------------------------------------------------


def surface_tops(
    frame: Frame, surface: Surface, fence: Fence, uniform: Doubles, radius: float
) -> Doubles:
    """Return the maxima of the samples of a surface within the radius, as weights, (F, B).

    `uniform`, (B,), are random numbers in [0, 1) that vary the limit of each step's length.
    """
    size, unit = frame.size, frame.unit
    slopes = _softened(unit, surface.slopes)
    curvature = _softened(unit, np.ascontiguousarray(_softened(unit, surface.curvature).T))
    right = np.ascontiguousarray(np.concatenate((slopes, fence.slopes), axis=1).T)
    solution = _damped(curvature, right, radius)
    steps = np.ascontiguousarray(solution[: TUNING.block].T)
    cap = radius * (0.5 + uniform)
    steps = by_columns(steps, np.minimum(1, cap / np.maximum(_length(steps), 1e-12)))
    if len(fence.levels):
        toward = np.ascontiguousarray(solution[TUNING.block :].T)
        lacking = TUNING.margin - fence.levels - total(fence.slopes * steps)
        gain = np.maximum(total(fence.slopes * toward), 1e-9)
        steps = steps + by_columns(toward, np.maximum(lacking / gain, 0))
    along = product(unit.reshape(-1, 1), steps)[0]
    turned = outer(unit, 1 - along) + steps
    scaling = 1 + np.minimum(np.maximum(along, -TUNING.most_scaling), TUNING.most_scaling)
    return by_columns(turned, size * scaling / np.maximum(_length(turned), 1e-9))


def middle(values: Doubles) -> float:
    """Return the median, the upper one of two."""
    return np.sort(values)[len(values) // 2]  # type: ignore[no-any-return]  # a double


def _damped(curvature: Doubles, right: Doubles, radius: float) -> Doubles:
    """Return the maxima of samples, rows of F, damped until their median length is in reach."""
    trial, damping, most = 0, 0.0, len(TUNING.damping)
    while True:
        damping = TUNING.damping[trial] if trial < most else 4 * damping
        trial += 1
        definite, solution = solved(damping * np.eye(len(curvature)) - curvature, right)
        if definite:
            typical = middle(_length(np.ascontiguousarray(solution[: TUNING.block].T)))
            if typical <= TUNING.over_radius * radius or trial >= most:
                return solution


def _within(vectors: Doubles, bounds: Bounds) -> Integers:
    """Scale vectors, (F, B), to fit into bounds as far as `least_fit` allows; round and clip."""
    factor = np.ones(vectors.shape[1])
    for row in range(len(vectors)):
        low, high = float(bounds.lows[row]), float(bounds.highs[row])
        if high > 0:
            factor = np.minimum(factor, high / np.maximum(vectors[row], high))
        if low < 0:
            factor = np.minimum(factor, low / np.minimum(vectors[row], low))
    factor = np.maximum(factor, TUNING.least_fit)
    fitted = np.empty(vectors.shape)
    for row in range(len(vectors)):
        rounded = np.floor(vectors[row] * factor + 0.5)
        low, high = float(bounds.lows[row]), float(bounds.highs[row])
        put(fitted[row : row + 1], np.minimum(np.maximum(rounded, low), high).reshape(1, -1))
    return fitted.astype(np.int64)


def _heights(slopes: Doubles, curvature: Doubles, placed: Doubles, results: int) -> Doubles:
    """Return the values of moves by R samples of a surface, shape (R, K).

    `slopes` are (F, R). The moves' coordinates follow those of the `results` in `placed`.
    """
    points = np.ascontiguousarray(placed[:, results:])
    bent = 0.5 * total(points * product(np.ascontiguousarray(curvature.T), points))
    return product(slopes, points) + bent


def _fenced(
    heights: Doubles, frame: Frame, fence: Fence, vectors: Doubles, results: int
) -> Doubles:
    """Lower the heights, (R, K), of moves outside the fence below all others."""
    apart = raised(np.ascontiguousarray(vectors[:, results:]), -frame.center) / frame.size
    inside = raised(product(fence.slopes, apart), fence.levels) - TUNING.margin
    return lowered(heights, inside, heights.min() - 1)


def lowered(heights: Doubles, inside: Doubles, lowest: float) -> Doubles:
    """Set heights outside the fence below `lowest`, the lower the farther outside."""
    return np.where(inside < 0, lowest + inside, heights)


# ---- machine code ---------------------------------------------------------------------------


#: Numba's settings: division by 0 as in numpy, and no reordering of floating-point operations.
SETTINGS: Any = {"error_model": "numpy", "fastmath": False, "nogil": True}


class _Code(NamedTuple):
    """The functions that compute a block, by numpy or as machine code.

    They don't call each other, since numba compiles a function again inside each of its callers.
    """

    moves: Callable[..., tuple[Integers, int]]
    coordinates: Callable[..., Doubles]
    nearby: Callable[..., tuple[Doubles, Doubles]]
    normal: Callable[..., Doubles]
    surface: Callable[..., Surface]
    fence: Callable[..., Fence]
    uniform: Callable[..., Doubles]
    tops: Callable[..., Doubles]
    within: Callable[..., Integers]
    heights: Callable[..., Doubles]
    fenced: Callable[..., Doubles]


_NUMPY = _Code(
    *(random_moves, coordinates, _nearby, _normal, fit_surface, fit_fence, _uniform),
    *(surface_tops, _within, _heights, _fenced),
)


#: Numba's settings for functions that only machine code calls: no wrappers for Python.
_INNER: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@cache
def machine_names() -> dict[str, Any]:
    """Return this module's globals, with its arithmetic replaced by machine code.

    Functions are copied with these globals, so that the names they call refer to machine code.
    Numba's `overload` would compile a replacement again for each kind of caller.
    """
    from numba import njit

    names = dict(globals())

    def add(name: str, function: Any, **settings: Any) -> None:
        own = FunctionType(function.__code__, names)
        names[name] = njit(**SETTINGS, **settings)(own)

    # Numba's own versions of these numpy operations take long to compile.
    for name in ("total", "product", "solved", "by_rows", "by_columns", "raised"):
        add(name, names[f"_{name}_loops"], **_INNER)
    for name in ("put", "add_at", "nearest", "middle", "lowered", "framed", "covariance"):
        add(name, names[f"_{name}_loops"], **_INNER)
    for name in ("_halve", "_below", "outer", "_length", "_softened", "_amplitude", "_damped"):
        add(name, names[name], **_INNER)
    for function in _NUMPY:
        add(function.__name__, function, cache=True)
    return names


@cache
def _compiled() -> _Code:
    return _Code(*(machine_names()[function.__name__] for function in _NUMPY))


def _rehearse() -> None:
    """Compute tiny blocks that call every function, so that all of them are compiled."""
    one, width = np.ones((1, 1)), 1
    here = np.ones(width, dtype=np.int64)
    for kept in (-one[0], one[0]):
        known = Knowledge(
            *(one, one[0], 1), told=True, level=1.0, better=one, kept=kept, fenced=1, radius=1.0
        )
        raw = np.zeros(most_draws(known, width), dtype=np.uint64)
        _options(_compiled(), known, raw, here, Bounds(0 * here, 2 * here), 0 * here)


MACHINE_CODE = CodePart("proposer", _rehearse)


def _add_at_loops(values: Integers, index: Integers, more: Integers) -> None:
    for row in range(len(index)):
        values[index[row]] += more[row]


def _by_rows_loops(matrix: Doubles, factors: Doubles) -> Doubles:
    result = matrix.copy()
    for row in range(len(matrix)):
        for column in range(matrix.shape[1]):
            result[row, column] *= factors[row]
    return result


def _by_columns_loops(matrix: Doubles, factors: Doubles) -> Doubles:
    result = matrix.copy()
    for row in range(len(matrix)):
        for column in range(matrix.shape[1]):
            result[row, column] *= factors[column]
    return result


def _raised_loops(matrix: Doubles, more: Doubles) -> Doubles:
    result = matrix.copy()
    for row in range(len(matrix)):
        for column in range(matrix.shape[1]):
            result[row, column] += more[row]
    return result


def _framed_loops(frame: Frame, vectors: Doubles, sizes: Doubles) -> Doubles:
    center, size, unit = frame
    factors, shifts = size / sizes, TUNING.scale_share * (sizes - size) / size
    result = np.empty(vectors.shape)
    for row in range(len(vectors)):
        down, along = -center[row], unit[row]
        for column in range(vectors.shape[1]):
            moved = (vectors[row, column] * factors[column] + down) / size
            result[row, column] = moved + along * shifts[column]
    return result


def _covariance_loops(inner: Doubles, quartic: Doubles, error: Doubles) -> Doubles:
    half, own = TUNING.curvature / 2, TUNING.own_curvature / 4
    result = np.empty(inner.shape)
    for row in range(len(inner)):
        for column in range(inner.shape[1]):
            product = inner[row, column]
            value = product * (TUNING.slope + half * product) + own * quartic[row, column]
            # Off the diagonal 0 is added, which turns a negative 0 into a positive one.
            result[row, column] = value + 0.0
        last = inner[row, row]
        value = last * (TUNING.slope + half * last) + own * quartic[row, row]
        result[row, row] = value + error[row]
    return result


def _put_loops(target: Doubles, values: Doubles) -> None:
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            target[row, column] = values[row, column]


def _lowered_loops(heights: Doubles, inside: Doubles, lowest: float) -> Doubles:
    result = heights.copy()
    for row in range(len(heights)):
        for column in range(heights.shape[1]):
            if inside[row, column] < 0:
                result[row, column] = lowest + inside[row, column]
    return result


def _middle_loops(values: Doubles) -> float:
    ordered = values.copy()
    for end in range(1, len(ordered)):
        value, i = ordered[end], end
        while i and ordered[i - 1] > value:
            ordered[i] = ordered[i - 1]
            i -= 1
        ordered[i] = value
    return ordered[len(ordered) // 2]  # type: ignore[no-any-return]  # a double


def _nearest_loops(reach: Doubles, most: int) -> Integers:
    count, filled = min(len(reach), most), 0
    least, chosen = np.full(count, np.inf), np.empty(count, dtype=np.int64)
    if not count:
        return chosen
    for value in reach:
        i = count - 1
        if value < least[i]:
            while i and least[i - 1] > value:
                least[i] = least[i - 1]
                i -= 1
            least[i] = value
    last = least[count - 1]
    room = (least == last).sum()
    for index in range(len(reach)):
        if reach[index] < last or (reach[index] == last and room > 0):
            room -= reach[index] == last
            chosen[filled] = index
            filled += 1
    return chosen[:filled]


#: Doubles that fit into half of a small processor's first-level cache.
_NEAR = 4096
# Indices are unsigned below: numba checks signed ones for negative values at every access.
_ZERO, _ONE, _TWO = np.uintp(0), np.uintp(1), np.uintp(2)


def _halve(work: Doubles, count: Any, width: Any) -> None:
    """Sum `count` rows of `width` numbers, contiguous in `work`, by halves into the first row."""
    while count > _ONE:
        half = count >> _ONE
        size = half * width
        for index in range(size):
            work[index] += work[size + index]
        if count & _ONE:
            last = (count - _ONE) * width
            for index in range(width):
                work[index] += work[last + index]
        count = half


def _total_loops(values: Doubles) -> Doubles:
    width = values.shape[1]
    if not len(values):
        return np.zeros(width)
    flat = values.copy().reshape(values.size)
    _halve(flat, np.uintp(len(values)), np.uintp(width))
    return flat[:width]


def _product_loops(left: Doubles, right: Doubles) -> Doubles:
    """Compute `product` for as many rows at a time as fit into the cache, a multiple of 8."""
    inner, rows, width = np.uintp(len(right)), np.uintp(left.shape[1]), np.uintp(right.shape[1])
    half, result = inner >> _ONE, np.empty((left.shape[1], right.shape[1]))
    near = _NEAR // max(1, len(right) // 2 * right.shape[1])
    group = np.uintp(max(1, min(left.shape[1], near - near % 8 if near > 8 else near)))
    work = np.zeros(max(1, len(right) // 2) * np.int64(group) * right.shape[1])
    for top in range(_ZERO, rows, group):
        some = min(group, rows - top)
        size = some * width
        if not half:
            work[:] = 0.0
        for row in range(half):
            for each in range(some):
                own, other = left[row, top + each], left[half + row, top + each]
                start = row * size + each * width
                for index in range(width):
                    upper = other * right[half + row, index]
                    work[start + index] = own * right[row, index] + upper
        if inner & _ONE:
            last = inner - _ONE
            for each in range(some):
                own, start = left[last, top + each], each * width
                for index in range(width):
                    work[start + index] += own * right[last, index]
        _halve(work, half, size)
        for each in range(some):
            for index in range(width):
                result[top + each, index] = work[each * width + index]
    return result


def _solved_loops(matrix: Doubles, right: Doubles) -> tuple[bool, Doubles]:
    """Compute `solved` with two pivots at a time, to read and write each number once for both."""
    count, samples = len(matrix), len(right)
    # An odd number of pivots is padded by one that has no effect.
    even = count + count % 2
    work = np.zeros((even + samples, even))
    if count % 2:
        work[count, count] = 1.0
    put(work[:count, :count], matrix)
    put(work[even:, :count], right)
    size, rows, smallest = np.uintp(even), np.uintp(even + samples), TUNING.smallest_pivot
    for step in range(_ZERO, size, _TWO):
        following = step + _ONE
        one = work[following, step] / work[step, step]
        definite = work[step, step] > smallest
        for index in range(size):
            work[following, index] -= one * work[step, index]
        work[following, step] = one
        if not (definite and work[following, following] > smallest):
            return False, work[even:, :count].copy()
        for row in range(following + _ONE, rows):
            one = work[row, step] / work[step, step]
            two = work[row, following] - one * work[step, following]
            two /= work[following, following]
            corner = one - two * work[following, step]
            for index in range(size):
                taken = work[row, index] - one * work[step, index]
                work[row, index] = taken - two * work[following, index]
            work[row, step], work[row, following] = corner, two
    return True, work[even:, :count].copy()
