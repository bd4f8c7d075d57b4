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
is the same.
All that numba compiles is in this one module, since it looks for changes in no other.
"""

from __future__ import annotations

import math
import sys
from functools import cache
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
    code = machine_code() or _NUMPY
    moves, used = code.moves(raw, here, bounds)
    frame, surface, used = code.surface(known, here, raw, used)
    fence, used = code.fence(known, frame, raw, used)
    steps = code.steps(frame, surface, fence, raw[used:], known.radius, bounds)
    heights = code.heights(frame, surface, fence, moves[: TUNING.ranked], ranked)
    return Options(moves, steps, heights)


def chance(raw: Raw, here: Integers, bounds: Bounds) -> Options:
    """Return random moves alone, for a block that makes no use of what is known."""
    moves, _ = (machine_code() or _NUMPY).moves(raw, here, bounds)
    return Options(moves, np.empty((0, len(here)), dtype=np.int64), np.empty((0, 0)))


def _surface_at(
    known: Knowledge, here: Integers, raw: Raw, used: int
) -> tuple[Frame, Surface, int]:
    """Fit a surface round the incumbent, by raw numbers from `used` on; return how many are."""
    frame = frame_at(here.astype(np.float64))
    points, values = _results(known, frame)
    slopes, used = _normal(raw, used, len(here))
    noise, used = _normal(raw, used, len(values))
    return frame, fit_surface(points, values, slopes, noise), used


def _fence_at(known: Knowledge, frame: Frame, raw: Raw, used: int) -> tuple[Fence, int]:
    """Fit a fence where something was blocked, by raw numbers from `used` on."""
    width = len(frame.center)
    if not (known.kept[: known.fenced] < 0).any():
        return Fence(np.empty(0), np.empty((width, 0))), used
    points, kept = _labels(known, frame)
    slopes, used = _normal(raw, used, width + 1)
    noise, used = _normal(raw, used, len(kept))
    return fit_fence(points, kept, slopes, noise), used


def _steps(
    frame: Frame, surface: Surface, fence: Fence, raw: Raw, radius: float, bounds: Bounds
) -> Integers:
    """Return the tops of samples within radius and bounds, (B, F)."""
    uniform = _uniform(raw[: TUNING.block])
    return _within(surface_tops(frame, surface, fence, uniform, radius), bounds)


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


def _normal(raw: Raw, used: int, rows: int) -> tuple[Doubles, int]:
    """Return about standard normal numbers, (rows, B), from `used` on, and how many are used."""
    end = used + rows * TUNING.block
    low = (raw[used:end] & _QUARTERS) + ((raw[used:end] >> _QUARTER) & _QUARTERS)
    sums = (low & _LOW) + (low >> _HALF)
    scaled = (sums.astype(np.float64) - _NORMAL_MEAN) / _NORMAL_DEVIATION
    return scaled.reshape(rows, TUNING.block), end


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
    moves = np.empty((count, width), dtype=np.int64)
    moves[:] = here
    flat = moves.reshape(count * width)
    for order in range(_MOST_CHANGES):
        rows = np.flatnonzero(sizes > order)
        index = drawn[1 + order][rows]
        step = _below(raw[used : used + len(rows)], span[index].astype(np.uint64))
        used += len(rows)
        at = rows * width + index
        add_at(flat, at, step - down[index] + (step >= down[index]))
    return moves, used


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


def _dot(one: Doubles, two: Doubles) -> float:
    return total((one * two).reshape(len(one), 1))[0]  # type: ignore[no-any-return]  # a double


def _length(columns: Doubles) -> Doubles:
    """Return the Euclidean length of each column, shape (A, B)."""
    return np.sqrt(total(columns * columns))


# ---- coordinates ----------------------------------------------------------------------------


def frame_at(weights: Doubles) -> Frame:
    """Take an incumbent as the origin."""
    size = max(math.sqrt(_dot(weights, weights)), TUNING.shortest)
    return Frame(weights, size, weights / size)


def coordinates(frame: Frame, vectors: Doubles) -> Doubles:
    """Return where vectors lie, both of shape (F, K)."""
    center, size, unit = frame
    sizes = np.maximum(_length(vectors), 1e-9)
    moved = (vectors * (size / sizes) - center[:, None]) / size
    return moved + (TUNING.scale_share * (sizes - size) / size) * unit[:, None]


def _softened(unit: Doubles, slopes: Doubles) -> Doubles:
    """Turn slopes in coordinates of a frame into slopes per step of weights, shape (F, K)."""
    along = total(unit[:, None] * slopes)
    return slopes - (1 - TUNING.scale_share) * unit[:, None] * along


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


def _results(known: Knowledge, frame: Frame) -> tuple[Doubles, Doubles]:
    """Return the results nearest to the incumbent, itself first: coordinates (F, K), values."""
    told = 1 if known.told else 0
    vectors = coordinates(frame, known.vectors[:, : known.results].copy())
    near = nearest(total(vectors * vectors), TUNING.fitted - 1)
    points, values = np.zeros((len(vectors), told + len(near))), np.empty(told + len(near))
    points[:, told:] = vectors[:, near]
    values[:told] = known.level
    values[told:] = known.values[near]
    return points, values


def fit_surface(points: Doubles, values: Doubles, slopes: Doubles, noise: Doubles) -> Surface:
    """Fit to K results at coordinates (F, K), by standard normal numbers (F, B) and (K, B)."""
    squares = points * points
    reach = total(squares)
    inner, quartic = product(points, points), product(squares, squares)
    error = TUNING.near_error**2 + TUNING.far_error**2 * reach * reach * reach
    kernel = inner * (TUNING.slope + TUNING.curvature / 2 * inner)
    kernel = kernel + TUNING.own_curvature / 4 * quartic + np.diag(error)

    slopes = slopes * TUNING.boldness
    right = np.empty((2 + slopes.shape[1], len(values)))
    right[0] = values - (values[reach.argmin()] if len(values) else 0.0)
    right[1] = -0.5 * TUNING.expected * reach
    noise = noise * TUNING.boldness * np.sqrt(error)[:, None]
    right[2:] = (product(points, slopes) + noise).T
    # The errors on the diagonal keep every pivot above zero.
    _, parts = solved(kernel, right)
    mean = parts[0] / _amplitude(right[0], right[1], parts) - parts[1]
    across = np.ascontiguousarray(points.T)
    weighed = across * mean[:, None]
    slopes = slopes + TUNING.slope * product(across, (mean - parts[2:]).T)
    own = TUNING.own_curvature / 2 * total(squares.T * mean[:, None]) - TUNING.expected
    return Surface(slopes, TUNING.curvature * product(weighed, across) + np.diag(own))


def _amplitude(values: Doubles, expected: Doubles, parts: Doubles) -> float:
    """Return the unit in which values are measured: the likeliest, given the prior."""
    count = len(values)
    own, mixed = _dot(values, parts[0]), _dot(values, parts[1])
    room = max(count - _dot(expected, parts[1]), count / 4)
    if room == 0:
        return 1.0
    amplitude = (math.sqrt(max(mixed * mixed + room * own, 0.0)) - mixed) / room
    return amplitude if amplitude > 0 else 1.0


# ---- the fence ------------------------------------------------------------------------------


def _labels(known: Knowledge, frame: Frame) -> tuple[Doubles, Doubles]:
    """Return what a fence is fitted to, the incumbent first, since it is inside."""
    points, kept = np.zeros((len(frame.center), 1 + known.fenced)), np.ones(1 + known.fenced)
    points[:, 1:] = (known.better[:, : known.fenced] - frame.center[:, None]) / frame.size
    kept[1:] = known.kept[: known.fenced]
    return points, kept


def fit_fence(points: Doubles, kept: Doubles, slopes: Doubles, noise: Doubles) -> Fence:
    """Fit to K candidates that were better, by standard normal numbers (1 + F, B) and (K, B).

    `points`, (F, K), are differences to the incumbent in its units; `kept` is 1 where one was kept,
    -1 where guardrails blocked it.
    """
    rows = np.ones((len(kept), 1 + len(points)))
    rows[:, 1:] = points.T
    prior, goal = np.full(rows.shape[1], 1 / TUNING.fence_slope**2), np.zeros(rows.shape[1])
    prior[0] = goal[0] = 1.0
    error, near = TUNING.fence_error**2, np.ones(len(kept))
    # Candidates well on their own side say no more about the fence.
    for _ in range(TUNING.fence_rounds):
        system = product(rows * (near / error)[:, None], rows) + np.diag(prior)
        right = total(rows * (near * kept / error)[:, None]) + goal
        _, line = solved(system, right.reshape(1, len(right)))
        closer = (kept * total((rows * line[0]).T) < 1).astype(np.float64)
        if (closer == near).all():
            break
        near = closer
    weighed = rows * (near / error)[:, None]
    noise = kept[:, None] + TUNING.fence_boldness * TUNING.fence_error * noise
    slopes = TUNING.fence_boldness * np.sqrt(prior)[:, None] * slopes
    right = product(weighed, noise) + goal[:, None] + slopes
    _, lines = solved(product(weighed, rows) + np.diag(prior), right.T)
    return Fence(lines[:, 0].copy(), np.ascontiguousarray(lines[:, 1:].T))


# ---- steps and heights ----------------------------------------------------------------------


def surface_tops(
    frame: Frame, surface: Surface, fence: Fence, uniform: Doubles, radius: float
) -> Doubles:
    """Return where samples of the surface are highest within the radius, shape (F, B)."""
    size, unit = frame.size, frame.unit
    slopes = _softened(unit, surface.slopes)
    curvature = _softened(unit, np.ascontiguousarray(_softened(unit, surface.curvature).T))
    right = np.concatenate((slopes, fence.slopes), axis=1).T
    solution = _damped(curvature, right, radius)
    steps = np.ascontiguousarray(solution[: TUNING.block].T)
    cap = radius * (0.5 + uniform)
    steps = steps * np.minimum(1, cap / np.maximum(_length(steps), 1e-12))
    if len(fence.levels):
        toward = np.ascontiguousarray(solution[TUNING.block :].T)
        lacking = TUNING.margin - fence.levels - total(fence.slopes * steps)
        gain = np.maximum(total(fence.slopes * toward), 1e-9)
        steps = steps + toward * np.maximum(lacking / gain, 0)
    along = total(unit[:, None] * steps)
    turned = unit[:, None] * (1 - along) + steps
    scaling = 1 + np.minimum(np.maximum(along, -TUNING.most_scaling), TUNING.most_scaling)
    return turned * (size * scaling / np.maximum(_length(turned), 1e-9))


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
            typical = middle(_length(solution[: TUNING.block].T))
            if typical <= TUNING.over_radius * radius or trial >= most:
                return solution


def _within(vectors: Doubles, bounds: Bounds) -> Integers:
    """Bring vectors, (F, B), within bounds, if possible by one factor, and round; (B, F)."""
    factor = np.ones(vectors.shape[1])
    for row in range(len(vectors)):
        low, high = float(bounds.lows[row]), float(bounds.highs[row])
        if high > 0:
            factor = np.minimum(factor, high / np.maximum(vectors[row], high))
        if low < 0:
            factor = np.minimum(factor, low / np.minimum(vectors[row], low))
    factor = np.maximum(factor, TUNING.least_fit)
    fitted = np.empty((vectors.shape[1], vectors.shape[0]), dtype=np.int64)
    for row in range(len(vectors)):
        rounded = np.floor(vectors[row] * factor + 0.5)
        low, high = float(bounds.lows[row]), float(bounds.highs[row])
        fitted[:, row] = np.minimum(np.maximum(rounded, low), high).astype(np.int64)
    return fitted


def _heights(
    frame: Frame, surface: Surface, fence: Fence, moves: Integers, ranked: Integers
) -> Doubles:
    """Value moves, (K, F), by the samples asked for, those outside the fence last; shape (R, K)."""
    vectors = np.ascontiguousarray(moves.T).astype(np.float64)
    points = coordinates(frame, vectors)
    bent = 0.5 * total(points * product(np.ascontiguousarray(surface.curvature.T), points))
    if not len(fence.levels):
        return product(surface.slopes[:, ranked], points) + bent
    heights = product(surface.slopes, points) + bent
    apart = (vectors - frame.center[:, None]) / frame.size
    inside = product(fence.slopes, apart) + fence.levels[:, None] - TUNING.margin
    return np.where(inside < 0, heights.min() - 1 + inside, heights)[ranked]


# ---- machine code ---------------------------------------------------------------------------


#: How numba compiles: dividing by 0 as numpy does, and no operation changed for speed.
SETTINGS: Any = {"error_model": "numpy", "fastmath": False}


class _Code(NamedTuple):
    """What makes a block: functions of their own, since what one calls is compiled again in it."""

    moves: Callable[..., tuple[Integers, int]]
    surface: Callable[..., tuple[Frame, Surface, int]]
    fence: Callable[..., tuple[Fence, int]]
    steps: Callable[..., Integers]
    heights: Callable[..., Doubles]


_NUMPY = _Code(random_moves, _surface_at, _fence_at, _steps, _heights)


def _always(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *_: function


@cache
def _compiled() -> _Code:
    from numba import njit
    from numba.extending import overload, register_jitable

    loops: dict[Any, Any] = {total: _total_loops, product: _product_loops, solved: _solved_loops}
    # What numba has for these takes long to compile.
    loops |= {nearest: _nearest_loops, middle: _middle_loops, add_at: _add_at_loops}
    for plain, loop in loops.items():
        overload(plain, jit_options=SETTINGS, strict=False)(_always(loop))
    for function in (
        *(_halve, _product_rows, _eliminate, _uniform, _normal, _below, _dot, _length, frame_at),
        *(coordinates, _softened, _results, fit_surface, _amplitude, _labels, fit_fence),
        *(surface_tops, _damped, _within),
    ):
        register_jitable(**SETTINGS)(function)
    return _Code(*map(njit(nogil=True, cache=True, **SETTINGS), _NUMPY))


def _rehearse() -> None:
    """Make a block from next to nothing by all that makes larger ones."""
    code, width = _compiled(), 1
    here = np.ones(width, dtype=np.int64)
    known = Knowledge(
        vectors=np.ones((width, 1)),
        values=np.ones(1),
        results=1,
        told=True,
        level=1.0,
        better=np.ones((width, 1)),
        kept=np.ones(1),
        fenced=1,
        radius=1.0,
    )
    raw, bounds = np.zeros(most_draws(known, width), dtype=np.uint64), Bounds(0 * here, 2 * here)
    moves, used = code.moves(raw, here, bounds)
    frame, surface, used = code.surface(known, here, raw, used)
    fence, used = code.fence(known, frame, raw, used)
    code.steps(frame, surface, fence, raw[used:], known.radius, bounds)
    code.heights(frame, surface, fence, moves, 0 * here)


MACHINE_CODE = CodePart("proposer", _rehearse)


def _add_at_loops(values: Integers, index: Integers, more: Integers) -> None:
    for row in range(len(index)):
        values[index[row]] += more[row]


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
    work = np.empty(values.shape)
    work[:] = values
    flat = work.reshape(work.size)
    _halve(flat, np.uintp(len(values)), np.uintp(width))
    return flat[:width]


def _product_loops(left: Doubles, right: Doubles) -> Doubles:
    return _product_rows(np.ascontiguousarray(left), np.ascontiguousarray(right))


def _product_rows(left: Doubles, right: Doubles) -> Doubles:
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
    return _eliminate(np.ascontiguousarray(matrix), np.ascontiguousarray(right))


def _eliminate(matrix: Doubles, right: Doubles) -> tuple[bool, Doubles]:
    """See `solved`. Pivots go in pairs, so that each number is read and written once for both."""
    count, samples = len(matrix), len(right)
    # An odd pivot gets a partner that changes nothing.
    even = count + count % 2
    work = np.zeros((even + samples, even))
    if count % 2:
        work[count, count] = 1.0
    work[:count, :count] = matrix
    work[even:, :count] = right
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
