"""The proposer that learns: steps to where results say that the objective is better.

It keeps the latest results, fits a quadratic surface round the incumbent, and proposes the tops of
samples of that surface within a radius, moves drawn by chance and ranked by it, and moves by chance
alone. A fence, fitted to candidates that guardrails blocked, keeps steps on the side of the kept.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from gtmar.search.draws import Draws, random_moves
from gtmar.search.surrogate import Fence, Frame, Surface, length, solved, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.search.proposers import Levers, Result

    Vector = tuple[int, ...]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["LearnedProposer"]

#: Proposals made on the same knowledge.
_BLOCK = 8
#: Latest results kept, and how many of them, the nearest to the incumbent, a surface is fitted to.
_KEPT, _FITTED = 256, 64
#: Candidates that beat the incumbent, kept or blocked, that a fence is fitted to.
_FENCED = 64
#: Moves drawn by chance: to be ranked, and beside them.
_RANKED, _SPARE = 200, 32
#: What a block consists of: steps on the surface, ranked moves, chance; and when it's long ago that
#: a block won.
_FRESH = ("step", "step", "ranked", "step", "ranked", "step", "ranked", "chance")
_STALE = ("step", "step", "ranked", "step", "chance", "chance", "chance", "chance")
_CHANCE = ("chance",) * _BLOCK
_STALE_AFTER = 4 * _BLOCK

#: A radius is the length of a step in units of the incumbent's length: at first, at least, at most.
_FIRST_RADIUS, _LEAST_RADIUS, _MOST_RADIUS = 0.5, 0.04, 0.8
#: After a win it is at least this times the step that won; after a loss this times itself.
_GROWTH, _DECAY = 1.5, 0.92
#: Damping of steps: the first that is enough for the radius, or the last times fours.
_DAMPING = (0.02, 0.5, 5.0)
_OVER_RADIUS = 1.5
#: How far inside a fence steps should end, and how much all weights may grow or shrink by one step.
_MARGIN, _MOST_SCALING = 0.2, 0.15
#: Least factor by which a step is shortened to fit into bounds, before it is cut at them.
_LEAST_FIT = 0.7


class LearnedProposer:
    """Proposes by what results say, those of this run and of earlier ones.

    Parameters
    ----------
    levers
        What may move, and how far.
    seed
        Keys the draws together with the number of the proposal that a block of proposals follows.
    sign
        1 where more of the objective is better, -1 where less is.
    remembered
        Weight vectors of earlier runs over the same table with their objective, best first.

    Notes
    -----
    A proposal is a function of seed, number, incumbent and what was told up to the last win or the
    last full block of eight, whichever is later. Cost: about a millisecond a block and a win.
    """

    name = "learned"
    block: int | None = _BLOCK

    def __init__(
        self,
        levers: Levers,
        *,
        seed: int,
        sign: int,
        remembered: Sequence[tuple[Vector, float]] = (),
    ) -> None:
        self._free = levers.free
        self._lows = np.array([levers.lows[i] for i in self._free], dtype=np.int64)
        self._highs = np.array([levers.highs[i] for i in self._free], dtype=np.int64)
        self._seed, self._sign = seed, sign
        self._waiting: deque[Result] = deque()
        self._last_win = 0
        self._results = _Latest(_KEPT, len(self._free))
        for vector, value in reversed(remembered[:_KEPT]):
            self._results.add(self._freed(vector), sign * value)
        self._seen = {self._freed(vector) for vector, _ in remembered}
        #: Candidates that were better, and 1 where one was kept, -1 where it was blocked.
        self._fenced = _Latest(_FENCED, len(self._free))
        self._radius = _FIRST_RADIUS
        #: The incumbent's objective, more being better; None before anything was told.
        self._level: float | None = None
        self._planned: tuple[int, Vector] | None = None
        self._plan: list[Vector] = []

    def _freed(self, weights: Sequence[int]) -> Vector:
        if len(weights) == len(self._free):
            return tuple(weights)
        return tuple(weights[i] for i in self._free)

    def learn(self, result: Result) -> None:
        """Take note of what a proposal came to; it counts from the next block or win on."""
        self._waiting.append(result)
        if result.won:
            self._last_win = result.proposal

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        """Suggest changes; see `Proposer`."""
        since = max((number - 1) // _BLOCK * _BLOCK, self._last_win)
        center = self._freed(weights)
        if self._planned != (since, center):
            while self._waiting and self._waiting[0].proposal <= since:
                self._absorb(self._waiting.popleft())
            self._plan = self._block_from(since, center)
            self._planned = since, center
        vector = self._plan[number - since - 1]
        pairs = zip(self._free, center, vector, strict=True)
        return {index: new for index, old, new in pairs if new != old}

    def _absorb(self, result: Result) -> None:
        before, after = self._freed(result.before), self._freed(result.weights)
        old = None if result.value_before is None else self._sign * result.value_before
        new = None if result.value is None else self._sign * result.value
        if self._level is None and old is not None:
            self._results.add(before, old)
            self._level = old
        better = new is not None and (old is None or new > old)
        if result.won:
            self._radius = min(max(self._radius, _GROWTH * _turned(before, after)), _MOST_RADIUS)
            self._level = new
        elif not better:
            self._radius = max(self._radius * _DECAY, _LEAST_RADIUS)
        self._seen.add(after)
        if new is not None:
            self._results.add(after, new)
        if better:
            self._fenced.add(after, 1.0 if result.won else -1.0)

    def _block_from(self, since: int, center: Vector) -> list[Vector]:
        """Return the vectors that proposals `since` + 1 and on stand for."""
        draws = Draws(self._seed, since + 1)
        here = np.array(center, dtype=np.int64)
        moves = random_moves(draws, here, self._lows, self._highs, count=_RANKED + _SPARE)
        stale = since - self._last_win >= _STALE_AFTER
        roles = _FRESH if not stale else _STALE if since // _BLOCK % 2 else _CHANCE
        ranked: list[Iterator[Integers]] = []
        steps = moves[:0]
        if roles is not _CHANCE:
            frame = Frame.at(here.astype(np.float64))
            surface = self._surface(frame, draws)
            fence = self._fence(frame, draws)
            steps = self._steps(frame, surface, fence, draws)
            ranked = [
                map(moves.__getitem__, order)
                for order in _orders(frame, surface, fence, moves[:_RANKED])
            ]
        chosen = {center}
        spare = map(moves.__getitem__, [*range(_RANKED, len(moves)), *range(_RANKED)])
        plan = []
        for place, role in enumerate(roles):
            options: Iterator[Integers] = spare
            if role == "step":
                options = itertools.chain([steps[place]], spare)
            elif role == "ranked":
                options = itertools.chain(ranked[place], spare)
            vector = self._first_new(options, chosen) or tuple(moves[place].tolist())
            chosen.add(vector)
            plan.append(vector)
        return plan

    def _first_new(self, options: Iterator[Integers], chosen: set[Vector]) -> Vector | None:
        for option in options:
            vector = tuple(option.tolist())
            if vector not in chosen and vector not in self._seen:
                return vector
        return None

    def _surface(self, frame: Frame, draws: Draws) -> Surface:
        """Fit to the results nearest to the incumbent, itself among them."""
        width = len(frame.center)
        slopes = draws.normal(width, _BLOCK)
        vectors, values = self._results.vectors, self._results.values
        places = frame.coordinates(vectors)
        near = np.sort(np.argsort(total(places * places), kind="stable")[: _FITTED - 1])
        places, values = places[:, near], values[near]
        if self._level is not None:
            places = np.concatenate([np.zeros((width, 1)), places], axis=1)
            values = np.concatenate([[self._level], values])
        return Surface.through(places, values, (slopes, draws.normal(len(values), _BLOCK)))

    def _fence(self, frame: Frame, draws: Draws) -> Fence | None:
        """Fit to candidates that were better; None while nothing was blocked."""
        vectors, kept = self._fenced.vectors, self._fenced.values
        if (kept > 0).all():
            return None
        width = len(frame.center)
        apart = (vectors - frame.center[:, None]) / frame.size
        # The incumbent itself is inside.
        places = np.concatenate([np.zeros((width, 1)), apart], axis=1)
        kept = np.concatenate([[1.0], kept])
        noise = draws.normal(width + 1, _BLOCK), draws.normal(len(kept), _BLOCK)
        return Fence.between(places, kept, noise)

    def _steps(self, frame: Frame, surface: Surface, fence: Fence | None, draws: Draws) -> Integers:
        """Return where samples of the surface are highest within the radius, shape (B, F)."""
        slopes = frame.softened(surface.slopes)
        curvature = frame.softened(frame.softened(surface.curvature).T)
        right = slopes if fence is None else np.concatenate([slopes, fence.slopes], axis=1)
        steps, toward = self._damped(curvature, right)
        cap = self._radius * (0.5 + draws.uniform(_BLOCK))
        steps = steps * np.minimum(1, cap / np.maximum(length(steps), 1e-12))
        if fence is not None:
            lacking = _MARGIN - fence.levels - total(fence.slopes * steps)
            gain = np.maximum(total(fence.slopes * toward), 1e-9)
            steps = steps + toward * np.maximum(lacking / gain, 0)

        along = total(frame.unit[:, None] * steps)
        turned = frame.unit[:, None] * (1 - along) + steps
        scaling = 1 + np.clip(along, -_MOST_SCALING, _MOST_SCALING)
        vectors = turned * (frame.size * scaling / np.maximum(length(turned), 1e-9))
        return self._fitted(vectors).T

    def _damped(self, curvature: Doubles, right: Doubles) -> tuple[Doubles, Doubles]:
        """Solve for the tops of samples, damped until most are within reach."""
        diagonal = np.eye(len(curvature))
        trial, damping = 0, 0.0
        while True:
            damping = _DAMPING[trial] if trial < len(_DAMPING) else 4 * damping
            trial += 1
            found = solved(damping * diagonal - curvature, right)
            if found is None:
                continue
            steps = found[:, :_BLOCK]
            typical = float(np.sort(length(steps))[_BLOCK // 2])
            if typical <= _OVER_RADIUS * self._radius or trial >= len(_DAMPING):
                return steps, found[:, _BLOCK:]

    def _fitted(self, vectors: Doubles) -> Integers:
        """Bring vectors, shape (F, B), within bounds, if possible by one factor, and round."""
        lows, highs = self._lows[:, None].astype(float), self._highs[:, None].astype(float)
        tall = np.where(highs > 0, highs / np.maximum(np.maximum(vectors, highs), 1e-9), 1.0)
        deep = np.where(lows < 0, lows / np.minimum(np.minimum(vectors, lows), -1e-9), 1.0)
        factor = np.maximum(np.minimum(tall, deep).min(axis=0), _LEAST_FIT)
        rounded = np.floor(vectors * factor + 0.5)
        fitted: Integers = np.clip(rounded, lows, highs).astype(np.int64)
        return fitted


def _turned(before: Vector, after: Vector) -> float:
    """Return the distance between two directions, 0 to 2; 0 where one has no direction."""
    own = sum(w * w for w in before) * sum(w * w for w in after)
    inner = sum(a * b for a, b in zip(before, after, strict=True))
    return math.sqrt(max(0.0, 2 - 2 * (inner / math.sqrt(own)))) if own else 0.0


def _orders(
    frame: Frame, surface: Surface, fence: Fence | None, moves: Integers
) -> NDArray[np.intp]:
    """Rank moves of shape (K, F) by each sample, those outside the fence last; shape (B, K)."""
    vectors = moves.T.astype(np.float64)
    heights = surface.heights(frame.coordinates(vectors))
    if fence is not None:
        inside = fence.margins((vectors - frame.center[:, None]) / frame.size) - _MARGIN
        heights = np.where(inside < 0, heights.min() - 1 + inside, heights)
    return np.argsort(-heights, axis=1, kind="stable")


class _Latest:
    """The latest so many vectors of F weights, each with a number."""

    def __init__(self, most: int, width: int) -> None:
        self._vectors = np.zeros((width, most))
        self._values = np.zeros(most)
        self._count = 0

    def add(self, vector: Vector, value: float) -> None:
        place = self._count % len(self._values)
        self._vectors[:, place] = vector
        self._values[place] = value
        self._count += 1

    @property
    def vectors(self) -> Doubles:
        """Shape (F, K)."""
        return self._vectors[:, : self._count]

    @property
    def values(self) -> Doubles:
        """Shape (K,)."""
        return self._values[: self._count]
