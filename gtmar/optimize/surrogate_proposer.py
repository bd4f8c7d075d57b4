"""The proposer that learns: steps to where results say that the objective is better.

It keeps the latest results, fits a quadratic surface round the incumbent, and proposes the tops of
samples of that surface within a radius, moves drawn by chance and ranked by it, and moves by chance
alone. A fence, fitted to candidates that guardrails blocked, keeps steps on the side of the kept.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import chain, compress
from operator import ne
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.optimize.proposers import Stream
from gtmar.optimize.surrogate import TUNING, Bounds, Knowledge, chance, most_draws, options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.optimize.proposers import Result, SearchSpace

    Vector = tuple[int, ...]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["LearnedProposer"]

#: Proposals made on the same knowledge.
_BLOCK = TUNING.block
#: Latest results kept.
_KEPT = 256
#: Candidates that beat the incumbent, kept or blocked, that a fence is fitted to.
_FENCED = 64
#: What a block consists of: steps on the surface, ranked moves, chance; and when it's long ago that
#: a block won.
_FRESH = ("step", "step", "ranked", "step", "ranked", "step", "ranked", "chance")
_STALE = ("step", "step", "ranked", "step", "chance", "chance", "chance", "chance")
_CHANCE = ("chance",) * _BLOCK
_STALE_AFTER = 4 * _BLOCK
#: The samples by which moves are ranked: those of their positions.
_RANKED: dict[tuple[str, ...], Integers] = {
    roles: np.array([index for index, role in enumerate(roles) if role == "ranked"], dtype=np.int64)
    for roles in (_FRESH, _STALE)
}

#: A radius is the length of a step in units of the incumbent's length: at first, at least, at most.
_FIRST_RADIUS, _LEAST_RADIUS, _MOST_RADIUS = 0.5, 0.04, 0.8
#: After a win it is at least this times the step that won; after a loss this times itself.
_GROWTH, _DECAY = 1.5, 0.92


class LearnedProposer:
    """Proposes by what results say, those of this run and of earlier ones.

    Parameters
    ----------
    space
        What may move, and how far.
    seed
        Keys the numbers drawn, with the number of the proposal that a block of proposals follows.
    sign
        1 where more of the objective is better, -1 where less is.
    remembered
        Weight vectors of earlier runs over the same table with their objective, best first.

    Notes
    -----
    A proposal is a function of seed, number, incumbent and what was told up to the last win or the
    last full block of eight, whichever is later. Cost: see `surrogate.options`, a block and a win.
    """

    name = "learned"
    block: int | None = _BLOCK

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        sign: int,
        remembered: Sequence[tuple[Vector, float]] = (),
    ) -> None:
        self._free = space.free
        self._indices = range(len(self._free))
        self._whole = len(self._free) == len(space.names)
        lows = np.array([space.lows[i] for i in self._free], dtype=np.int64)
        highs = np.array([space.highs[i] for i in self._free], dtype=np.int64)
        self._bounds = Bounds(lows, highs)
        self._stream, self._sign = Stream(seed), sign
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
        #: What the plan follows: the number of a proposal, and the incumbent.
        self._since = -1
        self._center: Sequence[int] = ()
        self._plan: list[Vector] = []

    def _freed(self, weights: Sequence[int]) -> Vector:
        return tuple(weights) if self._whole else tuple([weights[i] for i in self._free])

    def learn(self, result: Result) -> None:
        """Take note of what a proposal came to; it counts from the next block or win on."""
        self._waiting.append(result)
        if result.won:
            self._last_win = result.proposal

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        """Suggest changes; see `Proposer`."""
        since = max((number - 1) // _BLOCK * _BLOCK, self._last_win)
        center = self._freed(weights)
        if since != self._since or center != self._center:
            while self._waiting and self._waiting[0].proposal <= since:
                self._absorb(self._waiting.popleft())
            self._plan = self._block_from(since, center)
            self._since, self._center = since, center
        vector = self._plan[number - since - 1]
        changed = compress(self._indices, map(ne, center, vector))
        return {self._free[index]: vector[index] for index in changed}

    def _absorb(self, result: Result) -> None:
        _, before, after, old, new, won = result
        if not self._whole:
            before, after = self._freed(before), self._freed(after)
        sign = self._sign
        old = None if old is None else sign * old
        new = None if new is None else sign * new
        if self._level is None and old is not None:
            self._results.add(before, old)
            self._level = old
        better = new is not None and (old is None or new > old)
        if won:
            self._radius = min(max(self._radius, _GROWTH * _turned(before, after)), _MOST_RADIUS)
            self._level = new
        elif not better and self._radius > _LEAST_RADIUS:
            self._radius = max(self._radius * _DECAY, _LEAST_RADIUS)
        self._seen.add(after)
        if new is not None:
            self._results.add(after, new)
        if better:
            self._fenced.add(after, 1.0 if won else -1.0)

    def _block_from(self, since: int, center: Vector) -> list[Vector]:
        """Return the vectors that proposals `since` + 1 and on stand for."""
        stale = since - self._last_win >= _STALE_AFTER
        roles = _FRESH if not stale else _STALE if since // _BLOCK % 2 else _CHANCE
        known = None if roles is _CHANCE else self._knowledge()
        raw = self._stream.raw(since + 1, most_draws(known, len(center)))
        here = np.array(center, dtype=np.int64)
        if known is None:
            moves, steps, heights = chance(raw, here, self._bounds)
        else:
            moves, steps, heights = options(known, raw, here, self._bounds, _RANKED[roles])
        taken = {center}
        spare = chain(_rows(moves[TUNING.ranked :]), _rows(moves[: TUNING.ranked]))
        ranked, tops = iter(heights), steps.tolist()
        plan = []
        for index, role in enumerate(roles):
            vectors: Iterable[Vector] = spare
            if role == "step":
                vectors = chain((tuple(tops[index]),), spare)
            elif role == "ranked":
                vectors = chain(_falling(moves, next(ranked)), spare)
            vector = self._first_new(vectors, taken) or tuple(moves[index].tolist())
            taken.add(vector)
            plan.append(vector)
        return plan

    def _knowledge(self) -> Knowledge:
        vectors, values, results = self._results.arrays
        better, kept, fenced = self._fenced.arrays
        return Knowledge(
            vectors=vectors,
            values=values,
            results=results,
            told=self._level is not None,
            level=self._level or 0.0,
            better=better,
            kept=kept,
            fenced=fenced,
            radius=self._radius,
        )

    def _first_new(self, vectors: Iterable[Vector], taken: set[Vector]) -> Vector | None:
        """Return the first of some vectors that was neither seen nor taken."""
        seen = self._seen
        for vector in vectors:
            if vector not in seen and vector not in taken:
                return vector
        return None


def _turned(before: Vector, after: Vector) -> float:
    """Return the distance between two directions, 0 to 2; 0 where one has no direction."""
    own = sum(w * w for w in before) * sum(w * w for w in after)
    inner = sum(a * b for a, b in zip(before, after, strict=True))
    return math.sqrt(max(0.0, 2 - 2 * (inner / math.sqrt(own)))) if own else 0.0


def _rows(vectors: Integers) -> Iterator[Vector]:
    """Give vectors of shape (K, F) as tuples, some at a time, since few are ever asked for."""
    for start in range(0, len(vectors), _BLOCK):
        yield from map(tuple, vectors[start : start + _BLOCK].tolist())


def _falling(vectors: Integers, heights: Doubles) -> Iterator[Vector]:
    """Give vectors by their heights, the highest first, of equal ones the first; lowers them."""
    for _ in range(len(heights)):
        index = heights.argmax()
        heights[index] = -np.inf
        yield tuple(vectors[index].tolist())


class _Latest:
    """The latest so many vectors of F weights, each with a number."""

    def __init__(self, most: int, width: int) -> None:
        self._vectors, self._values = np.zeros((width, most)), np.zeros(most)
        self._filled = self._next = 0
        #: Those that came since they were last asked for: they go into the arrays together.
        self._new: list[tuple[Vector, float]] = []

    def add(self, vector: Vector, value: float) -> None:
        """Take in one more, in the place of the oldest where there is no room."""
        self._new.append((vector, value))

    @property
    def arrays(self) -> tuple[Doubles, Doubles, int]:
        """Vectors (F, K) and numbers (K,), of which the first so many count."""
        most = len(self._values)
        added, self._new = self._new, []
        for start in range(0, len(added), most):
            vectors, values = zip(*added[start : start + most], strict=True)
            count, width = len(values), len(self._vectors)
            places: Any = slice(self._next, self._next + count)
            if self._next + count > most:
                places = np.arange(self._next, self._next + count) % most
            # Some thousand numbers of Python: read one by one, not looked through for their shape.
            flat = np.fromiter(chain.from_iterable(vectors), np.float64, count * width)
            self._vectors[:, places] = flat.reshape(count, width).T
            self._values[places] = values
            self._filled = min(self._filled + count, most)
            self._next = (self._next + count) % most
        return self._vectors, self._values, self._filled
