"""What a block of proposals is chosen from: random moves, and a surrogate model of the objective.

The surrogate is a quadratic surface through the results nearest to the incumbent, and a fence:
where guardrails begin, as far as blocked candidates tell. A block gets steps to the tops of samples
of the surface, and the heights of random moves.

Every number comes from additions, multiplications, divisions and square roots of doubles in a
stated order, element by element. Matrix products of numerical libraries, sums of arrays and
logarithms differ in their last digits from build to build, and a search would go another way.

The mathematics is written once, in the part of numpy that numba compiles too. Where numba is
loaded, the functions of `_Code` are machine code, in which `total`, `product`, `solved` and a few
others are the loops at the end of this module: the same operations in the same order, so every bit
is the same. Compiled functions keep to those few, to arrays of one shape and to rows in one piece:
an array that numba spreads over another is compiled for every way in which it might be.
All that numba compiles is in this one module, since it looks for changes in no other.
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
    """What proposals depend on besides results and chance. Any change makes other searches."""

    #: Proposals made on the same knowledge, and samples of surface and fence.
    block: int = 8
    #: Random moves drawn: to be ranked, and beside them.
    ranked: int = 200
    spare: int = 32
    #: How many results, the nearest to the incumbent and itself, a surface is fitted to.
    fitted: int = 64

    #: A pivot below this means a matrix that isn't positive definite.
    smallest_pivot: float = 1e-9
    #: How much of a change of all weights by one factor counts: most objectives hardly see it.
    scale_share: float = 0.1
    #: Shortest length that an incumbent is taken to have, in points.
    shortest: float = 3.0

    # Prior variances of a surface: of slopes, of curvatures of any direction, of those of single
    # weights on top; and the curvature expected, downwards, all in units of its amplitude.
    slope: float = 1.0
    curvature: float = 0.2
    own_curvature: float = 0.5
    expected: float = 1.0
    #: What a quadratic surface gets wrong: at no distance, and per cube of the distance.
    near_error: float = 0.001
    far_error: float = 0.15
    #: Spread of the samples, as a share of what is really unknown.
    boldness: float = 0.3

    # A fence: prior spread of its slope, error of a label, spread of its samples.
    fence_slope: float = 5.0
    fence_error: float = 0.1
    fence_boldness: float = 0.5
    #: Fits at most, until the candidates near the fence are known.
    fence_rounds: int = 4

    #: Damping of steps: the first that is enough for the radius, or the last times fours.
    damping: tuple[float, float, float] = (0.02, 0.5, 5.0)
    #: A typical step may be this times the radius before it is shortened.
    over_radius: float = 1.5
    #: How far inside a fence steps should end, and how much all weights may grow or shrink by one.
    margin: float = 0.2
    most_scaling: float = 0.15
    #: Least factor by which a step is shortened to fit into bounds, before it is cut at them.
    least_fit: float = 0.7


TUNING = Tuning()


class Knowledge(NamedTuple):
    """The results so far, as a block needs them."""

    #: Shapes (F, K) and (K,): vectors with their objective, more being better; how many are filled.
    vectors: Doubles
    values: Doubles
    results: int
    #: Whether the incumbent's own objective is known, and what it is.
    told: bool
    level: float
    #: Shapes (F, K) and (K,): vectors that beat an incumbent; 1 where one was kept, -1 where
    #: guardrails blocked it; how many are filled.
    better: Doubles
    kept: Doubles
    fenced: int
    #: Length of a step in units of the incumbent's length.
    radius: float


class Bounds(NamedTuple):
    """Ends of the weights that may move, both included, each int64 of shape (F,)."""

    lows: Integers
    highs: Integers


class Options(NamedTuple):
    """What the proposals of a block are chosen from."""

    #: Random moves, each different from the incumbent, shape (M, F).
    moves: Integers
    #: Where samples of the surface are highest within the radius, shape (B, F).
    steps: Integers
    #: Values of the first moves by the samples asked for, more being better, shape (R, M'). Moves
    #: outside the fence are lower than all others.
    heights: Doubles


class Frame(NamedTuple):
    """Coordinates round an incumbent of F weights, in units of its own length.

    A vector is first brought to the incumbent's length; what was lost by that comes back in part,
    along the incumbent's direction. So a change of all weights by one factor is a small step.
    """

    #: The incumbent, shape (F,); its length, in points; its direction, shape (F,).
    center: Doubles
    size: float
    unit: Doubles


class Surface(NamedTuple):
    """Quadratic surfaces through the known results: slopes (F, B) of B samples, curvature (F, F).

    A Gaussian process with a quadratic kernel: slopes, curvatures and those of single weights have
    independent priors. Samples come from prior draws corrected by the data, so that they differ
    where little is known and agree where much is.
    """

    slopes: Doubles
    curvature: Doubles


class Fence(NamedTuple):
    """Where guardrails begin, linear, above 0 inside: levels at the incumbent (B,), slopes (F, B).

    While nothing was blocked there is none: its arrays are of no samples.
    """

    levels: Doubles
    slopes: Doubles


# ---- entry points ---------------------------------------------------------------------------


def machine_code() -> _Code | None:
    """Return the same arithmetic in machine code, if it is there and numba is loaded."""
    if "numba" not in sys.modules or not MACHINE_CODE.ready(wanted=False):
        return None
    return _compiled()


def most_draws(known: Knowledge | None, width: int) -> int:
    """Return how many raw numbers a block takes at most, with F weights that may move.

    One that makes no use of what is known takes fewer.
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
    """Return what a block is chosen from.

    Parameters
    ----------
    known
        The results so far.
    raw
        Raw numbers, as many as `most_draws` says.
    here
        The incumbent, shape (F,).
    bounds
        Of its weights.
    ranked
        Numbers of the samples by which moves are to be ranked.

    Notes
    -----
    Cost: a tenth of a millisecond in machine code, with a dozen weights; ten times that with numpy.
    """
    return _options(machine_code() or _NUMPY, known, raw, here, bounds, ranked)


def _options(
    code: _Code, known: Knowledge, raw: Raw, here: Integers, bounds: Bounds, ranked: Integers
) -> Options:
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
    """Return random moves alone, for a block that makes no use of what is known."""
    moves, _ = (machine_code() or _NUMPY).moves(raw, here, bounds)
    return Options(moves, np.empty((0, len(here)), dtype=np.int64), np.empty((0, 0)))


# ---- random numbers -------------------------------------------------------------------------

#: A move changes one to this many weights.
_MOST_CHANGES = 3
#: A sum of four uniform 16-bit numbers, less its mean, over this is about standard normal.
_NORMAL_MEAN, _NORMAL_DEVIATION = 131_070.0, math.sqrt((65_536**2 - 1) / 3)
#: The quarters of 64 bits that are left when every other one is shifted away, and the lower half.
_QUARTERS, _LOW = np.uint64(0x0000FFFF0000FFFF), np.uint64(2**32 - 1)
_HALF, _QUARTER, _FRACTION = np.uint64(32), np.uint64(16), np.uint64(11)


def _uniform(raw: Raw) -> Doubles:
    """Return numbers in [0, 1)."""
    return (raw >> _FRACTION).astype(np.float64) * 2.0**-53


def _normal(raw: Raw) -> Doubles:
    """Return about standard normal numbers."""
    low = (raw & _QUARTERS) + ((raw >> _QUARTER) & _QUARTERS)
    sums = (low & _LOW) + (low >> _HALF)
    return (sums.astype(np.float64) - _NORMAL_MEAN) / _NORMAL_DEVIATION


def _below(raw: Raw, ends: Raw) -> Integers:
    """Return whole numbers in [0, end), an end each, at most 2^32."""
    return (((raw >> _HALF) * ends) >> _HALF).astype(np.int64)


def random_moves(raw: Raw, here: Integers, bounds: Bounds) -> tuple[Integers, int]:
    """Return moves as `RandomProposer` makes them, (M, F), and how many raw numbers are used."""
    width, count = len(here), TUNING.ranked + TUNING.spare
    # What each number is drawn below: how many weights change, then which, each of those left.
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
    """Return what each of one times each of the other is, shape (A, B)."""
    return product(one.reshape(1, -1), two.reshape(1, -1))


def by_rows(matrix: Doubles, factors: Doubles) -> Doubles:
    """Multiply each row by a factor of its own."""
    return matrix * factors[:, None]


def by_columns(matrix: Doubles, factors: Doubles) -> Doubles:
    """Multiply each column by a factor of its own."""
    return matrix * factors


def raised(matrix: Doubles, more: Doubles) -> Doubles:
    """Add to each row a number of its own."""
    return matrix + more[:, None]


def put(target: Doubles, values: Doubles) -> None:
    """Copy an array of two dimensions; where numba assigns slices, it compiles texts of errors."""
    target[:] = values


def add_at(values: Integers, index: Integers, more: Integers) -> None:
    """Add to the values at indices, of which none comes twice."""
    values[index] += more


# ---- sums, products, systems ----------------------------------------------------------------


def total(values: Doubles) -> Doubles:
    """Add along the first axis, by halves: an order that no library or processor changes."""
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
    """Return the product of the left side's transpose and the right, shapes (K, A) and (K, B)."""
    return total(left[:, :, None] * right[:, None, :])


def solved(matrix: Doubles, right: Doubles) -> tuple[bool, Doubles]:
    """Solve a symmetric positive definite system by elimination, a row of (B, A) a right side.

    Returns whether the matrix is positive definite, and then the solutions, (B, A).
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
    """Return the Euclidean length of each column, shape (A, B)."""
    return np.sqrt(total(columns * columns))


# ---- coordinates ----------------------------------------------------------------------------


def frame_at(here: Integers) -> Frame:
    """Take an incumbent as the origin."""
    # Squares of integers add up exactly, in any order.
    size = max(math.sqrt(here @ here), TUNING.shortest)
    return Frame(here.astype(np.float64), size, here / size)


def coordinates(frame: Frame, vectors: Doubles) -> Doubles:
    """Return where vectors lie, both of shape (F, K)."""
    sizes = np.maximum(_length(vectors), 1e-9)
    return framed(frame, vectors, sizes)


def framed(frame: Frame, vectors: Doubles, sizes: Doubles) -> Doubles:
    """Return the same from vectors and their lengths, shapes (F, K) and (K,)."""
    center, size, unit = frame
    moved = raised(by_columns(vectors, size / sizes), -center) / size
    return moved + outer(unit, TUNING.scale_share * (sizes - size) / size)


def _softened(unit: Doubles, slopes: Doubles) -> Doubles:
    """Turn slopes in coordinates of a frame into slopes per step of weights, shape (F, K)."""
    along = product(unit.reshape(-1, 1), slopes)[0]
    return slopes - outer((1 - TUNING.scale_share) * unit, along)


# ---- the surface ----------------------------------------------------------------------------


def nearest(reach: Doubles, most: int) -> Integers:
    """Return the indices of the least of (K,), rising; of equal ones the first."""
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
    """Return the results nearest to the incumbent, itself first: coordinates (F, K), values.

    They are the first of what is placed; `known` is 1 where the incumbent's value is known, else 0.
    """
    vectors = placed[:, :results]
    near = nearest(total(vectors * vectors), TUNING.fitted - 1)
    points, chosen = np.zeros((len(vectors), known + len(near))), np.empty(known + len(near))
    put(points[:, known:], vectors[:, near])
    chosen[:known] = level
    put(chosen[known:].reshape(1, -1), values[near].reshape(1, -1))
    return points, chosen


def fit_surface(points: Doubles, values: Doubles, slopes: Doubles, noise: Doubles) -> Surface:
    """Fit to K results at coordinates (F, K), by standard normal numbers (F, B) and (K, B)."""
    squares = points * points
    reach = total(squares)
    inner, quartic = product(points, points), product(squares, squares)
    error = TUNING.near_error**2 + TUNING.far_error**2 * reach * reach * reach
    kernel = inner * (TUNING.slope + TUNING.curvature / 2 * inner)
    kernel = kernel + TUNING.own_curvature / 4 * quartic + np.diag(error)

    slopes = slopes * TUNING.boldness
    noise = by_rows(noise * TUNING.boldness, np.sqrt(error))
    goal = values - (values[reach.argmin()] if len(values) else 0.0)
    bent = -0.5 * TUNING.expected * reach
    right = np.empty((2 + slopes.shape[1], len(values)))
    put(right[:1], goal.reshape(1, -1))
    put(right[1:2], bent.reshape(1, -1))
    put(right[2:], (product(points, slopes) + noise).T)
    # The errors on the diagonal keep every pivot above zero.
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


def _amplitude(right: Doubles, parts: Doubles) -> float:
    """Return the unit in which values are measured: the likeliest, given the prior.

    The first of the right sides are the values, the second what is expected.
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
    """Return what a fence is fitted to, the incumbent first, since it is inside."""
    count = known.fenced
    points, kept = np.zeros((len(frame.center), 1 + count)), np.ones(1 + count)
    np.subtract(known.better[:, :count], frame.center[:, None], out=points[:, 1:])
    points /= frame.size
    kept[1:] = known.kept[:count]
    return points, kept


def fit_fence(points: Doubles, kept: Doubles, slopes: Doubles, noise: Doubles) -> Fence:
    """Fit to K candidates that were better, by standard normal numbers (1 + F, B) and (K, B).

    `points`, (F, K), are differences to the incumbent in its units; `kept` is 1 where one was kept,
    -1 where guardrails blocked it.
    """
    rows = np.ones((len(kept), 1 + len(points)))
    put(rows[:, 1:], points.T)
    prior, goal = np.full(rows.shape[1], 1 / TUNING.fence_slope**2), np.zeros(rows.shape[1])
    prior[0] = goal[0] = 1.0
    error, near = TUNING.fence_error**2, np.ones(len(kept))
    # Candidates well on their own side say no more about the fence.
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
    """Return where samples of the surface are highest within the radius, shape (F, B)."""
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
    """Return the value with half of all, rounded down, before it in order."""
    return np.sort(values)[len(values) // 2]  # type: ignore[no-any-return]  # a double


def _damped(curvature: Doubles, right: Doubles, radius: float) -> Doubles:
    """Solve for the tops of samples, rows of F, damped until most are within reach."""
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
    """Bring vectors, (F, B), within bounds, if possible by one factor, and round."""
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
    """Value what is placed after the results by samples of a surface, (F, R): shape (R, K)."""
    points = np.ascontiguousarray(placed[:, results:])
    bent = 0.5 * total(points * product(np.ascontiguousarray(curvature.T), points))
    return product(slopes, points) + bent


def _fenced(
    heights: Doubles, frame: Frame, fence: Fence, vectors: Doubles, results: int
) -> Doubles:
    """Lower the heights, (R, K), of vectors outside the fence below all others."""
    apart = raised(np.ascontiguousarray(vectors[:, results:]), -frame.center) / frame.size
    inside = raised(product(fence.slopes, apart), fence.levels) - TUNING.margin
    return lowered(heights, inside, heights.min() - 1)


def lowered(heights: Doubles, inside: Doubles, lowest: float) -> Doubles:
    """Set the heights of what isn't inside below the lowest, the lower the farther outside."""
    return np.where(inside < 0, lowest + inside, heights)


# ---- machine code ---------------------------------------------------------------------------


#: How numba compiles: dividing by 0 as numpy does, and no operation changed for speed.
SETTINGS: Any = {"error_model": "numpy", "fastmath": False, "nogil": True}


class _Code(NamedTuple):
    """What makes a block: functions of their own, since what one calls is compiled again in it."""

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


#: What machine code alone calls needs no way in from Python.
_INNER: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@cache
def machine_names() -> dict[str, Any]:
    """Return this module's names, those of its arithmetic standing for machine code.

    Functions are made anew, so that they find machine code under the names that they call. What
    numba's `overload` puts in a function's place is compiled again for each kind of caller.
    """
    from numba import njit

    names = dict(globals())

    def add(name: str, function: Any, **settings: Any) -> None:
        own = FunctionType(function.__code__, names)
        names[name] = njit(**SETTINGS, **settings)(own)

    # What numba has for these takes long to compile.
    for name in ("total", "product", "solved", "by_rows", "by_columns", "raised"):
        add(name, names[f"_{name}_loops"], **_INNER)
    for name in ("put", "add_at", "nearest", "middle", "lowered", "framed"):
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
    """Make blocks from next to nothing by all that makes larger ones."""
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
        value, place = ordered[end], end
        while place and ordered[place - 1] > value:
            ordered[place] = ordered[place - 1]
            place -= 1
        ordered[place] = value
    return ordered[len(ordered) // 2]  # type: ignore[no-any-return]  # a double


def _nearest_loops(reach: Doubles, most: int) -> Integers:
    count, filled = min(len(reach), most), 0
    least, chosen = np.full(count, np.inf), np.empty(count, dtype=np.int64)
    if not count:
        return chosen
    for value in reach:
        place = count - 1
        if value < least[place]:
            while place and least[place - 1] > value:
                least[place] = least[place - 1]
                place -= 1
            least[place] = value
    last = least[count - 1]
    room = (least == last).sum()
    for index in range(len(reach)):
        if reach[index] < last or (reach[index] == last and room > 0):
            room -= reach[index] == last
            chosen[filled] = index
            filled += 1
    return chosen[:filled]


#: Numbers that lie near enough to be read again at once: half of a small processor's first cache.
_NEAR = 4096
# Indices are unsigned below: of signed ones numba asks at each whether it counts from the end.
_ZERO, _ONE, _TWO = np.uintp(0), np.uintp(1), np.uintp(2)


def _halve(work: Doubles, count: Any, width: Any) -> None:
    """Add `count` rows of `width`, one after the other in (K x M,), by halves into the first."""
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
    """See `product`; as many rows at once as stay in the cache, by eights for the processor."""
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
    """See `solved`. Pivots go in pairs, so that each number is read and written once for both."""
    count, samples = len(matrix), len(right)
    # An odd pivot gets a partner that changes nothing.
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
