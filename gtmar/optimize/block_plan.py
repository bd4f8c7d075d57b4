"""What a block of proposals is chosen from: moves by chance, steps on a surface, ranks of moves.

`options` is a function of what is known and of raw numbers. The arithmetic stands here for numpy,
and in `compiled` as machine code, of which every bit is the same.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gtmar.optimize.hill_climb import TUNING
from gtmar.optimize.random_streams import Draws, random_moves
from gtmar.optimize.surrogate import Fence, Frame, Surface, length, solved, total

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Raw = NDArray[np.uint64]

__all__ = ["Bounds", "Knowledge", "Options", "chance", "machine_code", "most_draws", "options"]


class Knowledge(NamedTuple):
    """What was told so far, as a block needs it.

    Parameters
    ----------
    vectors, values
        Shapes (F, K) and (K,): vectors with their objective, more being better.
    results
        How many of the K are filled.
    told, level
        Whether the incumbent's own objective is known, and what it is.
    better, kept
        Shapes (F, K) and (K,): vectors that beat an incumbent; 1 where one was kept, -1 where
        guardrails blocked it.
    fenced
        How many of those K are filled.
    radius
        Length of a step in units of the incumbent's length.
    """

    vectors: Doubles
    values: Doubles
    results: int
    told: bool
    level: float
    better: Doubles
    kept: Doubles
    fenced: int
    radius: float


class Bounds(NamedTuple):
    """Ends of the weights that may move, both included, each int64 of shape (F,)."""

    lows: Integers
    highs: Integers


class Options(NamedTuple):
    """What the proposals of a block are chosen from.

    Parameters
    ----------
    moves
        By chance, each different from the incumbent, shape (M, F).
    steps
        Where samples of the surface are highest within the radius, shape (B, F).
    heights
        What samples of the surface say of the first moves, more being better, a row for each sample
        asked for, shape (R, M'). Moves outside the fence are lower than all others.
    """

    moves: Integers
    steps: Integers
    heights: Doubles


class _MachineCode(NamedTuple):
    """The modules of `compiled`."""

    chance: ModuleType
    surface: ModuleType
    steps: ModuleType


def machine_code() -> _MachineCode | None:
    """Return the same arithmetic in machine code, if the evaluator found numba worth loading."""
    if "numba" not in sys.modules:
        return None
    try:
        from gtmar.optimize import numba_block_plan as steps
        from gtmar.optimize import numba_random_streams as chance
        from gtmar.optimize import numba_response_surface as surface
    except (ImportError, RuntimeError):
        return None
    return _MachineCode(chance, surface, steps)


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
        What was told.
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
    Cost: a tenth of a millisecond in machine code, with a dozen weights; more than ten times that
    with numpy.
    """
    code = machine_code()
    if code is not None:
        return _compiled_options(code, known, raw, here, bounds, ranked)
    draws = Draws(raw)
    moves = random_moves(draws, here, *bounds, count=TUNING.ranked + TUNING.spare)
    frame = Frame.at(here.astype(np.float64))
    surface = _surface(known, frame, draws)
    fence = _fence(known, frame, draws)
    steps = _fitted(_steps(frame, surface, fence, draws, known.radius), bounds).T
    heights = _heights(frame, surface, fence, moves[: TUNING.ranked])
    return Options(moves, steps, heights[ranked])


def chance(raw: Raw, here: Integers, bounds: Bounds) -> Options:
    """Return moves alone, for a block that makes no use of what is known."""
    width, count = len(here), TUNING.ranked + TUNING.spare
    code = machine_code()
    if code is not None:
        moves = code.chance.moves(raw, here, *bounds, count)[0]
    else:
        moves = random_moves(Draws(raw), here, *bounds, count=count)
    return Options(moves, np.empty((0, width), dtype=np.int64), np.empty((0, 0)))


def _compiled_options(
    code: _MachineCode,
    known: Knowledge,
    raw: Raw,
    here: Integers,
    bounds: Bounds,
    ranked: Integers,
) -> Options:
    fitted = min(known.results, TUNING.fitted - 1) + known.told
    kept = known.kept[: known.fenced]
    moves, draws = code.chance.numbers(TUNING, raw, here, *bounds, fitted, kept)
    slopes, curvature, heights = code.surface.heights(TUNING, known, draws, here, moves, ranked)
    left = draws[(len(here) + fitted) * TUNING.block :]
    steps = code.steps.steps(TUNING, known, left, here, *bounds, slopes, curvature, moves, heights)
    if len(heights) != len(ranked):
        heights = heights[ranked]
    return Options(moves, steps, heights)


def _surface(known: Knowledge, frame: Frame, draws: Draws) -> Surface:
    """Fit to the results nearest to the incumbent, itself among them."""
    width = len(frame.center)
    slopes = draws.normal(width, TUNING.block)
    vectors, values = known.vectors[:, : known.results], known.values[: known.results]
    places = frame.coordinates(vectors)
    near = np.sort(np.argsort(total(places * places), kind="stable")[: TUNING.fitted - 1])
    places, values = places[:, near], values[near]
    if known.told:
        places = np.concatenate([np.zeros((width, 1)), places], axis=1)
        values = np.concatenate([[known.level], values])
    return Surface.through(places, values, (slopes, draws.normal(len(values), TUNING.block)))


def _fence(known: Knowledge, frame: Frame, draws: Draws) -> Fence | None:
    """Fit to candidates that were better; None while nothing was blocked."""
    vectors, kept = known.better[:, : known.fenced], known.kept[: known.fenced]
    if (kept > 0).all():
        return None
    width = len(frame.center)
    apart = (vectors - frame.center[:, None]) / frame.size
    # The incumbent itself is inside.
    places = np.concatenate([np.zeros((width, 1)), apart], axis=1)
    kept = np.concatenate([[1.0], kept])
    noise = draws.normal(width + 1, TUNING.block), draws.normal(len(kept), TUNING.block)
    return Fence.between(places, kept, noise)


def _steps(
    frame: Frame, surface: Surface, fence: Fence | None, draws: Draws, radius: float
) -> Doubles:
    """Return where samples of the surface are highest within the radius, shape (F, B)."""
    slopes = frame.softened(surface.slopes)
    curvature = frame.softened(frame.softened(surface.curvature).T)
    right = slopes if fence is None else np.concatenate([slopes, fence.slopes], axis=1)
    steps, toward = _damped(curvature, right, radius)
    cap = radius * (0.5 + draws.uniform(TUNING.block))
    steps = steps * np.minimum(1, cap / np.maximum(length(steps), 1e-12))
    if fence is not None:
        lacking = TUNING.margin - fence.levels - total(fence.slopes * steps)
        gain = np.maximum(total(fence.slopes * toward), 1e-9)
        steps = steps + toward * np.maximum(lacking / gain, 0)

    along = total(frame.unit[:, None] * steps)
    turned = frame.unit[:, None] * (1 - along) + steps
    scaling = 1 + np.clip(along, -TUNING.most_scaling, TUNING.most_scaling)
    vectors: Doubles = turned * (frame.size * scaling / np.maximum(length(turned), 1e-9))
    return vectors


def _damped(curvature: Doubles, right: Doubles, radius: float) -> tuple[Doubles, Doubles]:
    """Solve for the tops of samples, damped until most are within reach."""
    diagonal = np.eye(len(curvature))
    trial, damping = 0, 0.0
    while True:
        damping = TUNING.damping[trial] if trial < len(TUNING.damping) else 4 * damping
        trial += 1
        found = solved(damping * diagonal - curvature, right)
        if found is None:
            continue
        steps = found[:, : TUNING.block]
        typical = float(np.sort(length(steps))[TUNING.block // 2])
        if typical <= TUNING.over_radius * radius or trial >= len(TUNING.damping):
            return steps, found[:, TUNING.block :]


def _fitted(vectors: Doubles, bounds: Bounds) -> Integers:
    """Bring vectors, shape (F, B), within bounds, if possible by one factor, and round."""
    lows, highs = (ends[:, None].astype(float) for ends in bounds)
    tall = np.where(highs > 0, highs / np.maximum(np.maximum(vectors, highs), 1e-9), 1.0)
    deep = np.where(lows < 0, lows / np.minimum(np.minimum(vectors, lows), -1e-9), 1.0)
    factor = np.maximum(np.minimum(tall, deep).min(axis=0), TUNING.least_fit)
    rounded = np.floor(vectors * factor + 0.5)
    fitted: Integers = np.clip(rounded, lows, highs).astype(np.int64)
    return fitted


def _heights(frame: Frame, surface: Surface, fence: Fence | None, moves: Integers) -> Doubles:
    """Value moves of shape (K, F) by each sample, those outside the fence last; shape (B, K)."""
    vectors = moves.T.astype(np.float64)
    heights = surface.heights(frame.coordinates(vectors))
    if fence is None:
        return heights
    inside = fence.margins((vectors - frame.center[:, None]) / frame.size) - TUNING.margin
    return np.where(inside < 0, heights.min() - 1 + inside, heights)
