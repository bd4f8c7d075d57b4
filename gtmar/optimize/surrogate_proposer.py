"""The learning proposer: it fits a surrogate model of the objective to the latest results.

The model is a quadratic surface around the incumbent (see `surrogate`). Proposals are of three
kinds: steps to the maxima of samples of the surface within a radius; random moves ranked by the
samples; and random moves. A fence, fitted to candidates that guardrails kept or blocked, keeps
steps on the allowed side.
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
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.optimize.proposers import Result, SearchSpace

    Vector = tuple[int, ...]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["LearnedProposer"]

#: Number of proposals in a block; all depend on the same results.
_BLOCK = TUNING.block
#: Number of latest results kept.
_KEPT = 256
#: Number of latest candidates that beat the incumbent, kept or blocked, for fitting the fence.
_FENCED = 64
#: Kinds of the proposals in a block: `step` on the surface, `ranked` move, or random by `chance`.
#: After `_STALE_AFTER` proposals without a win, blocks alternate between `_STALE` and `_CHANCE`.
_FRESH = ("step", "step", "ranked", "step", "ranked", "step", "ranked", "chance")
_STALE = ("step", "step", "ranked", "step", "chance", "chance", "chance", "chance")
_CHANCE = ("chance",) * _BLOCK
_STALE_AFTER = 4 * _BLOCK
#: By kinds of a block, the positions of its ranked moves: each is ranked by that sample.
_RANKED: dict[tuple[str, ...], Integers] = {
    roles: np.array([index for index, role in enumerate(roles) if role == "ranked"], dtype=np.int64)
    for roles in (_FRESH, _STALE)
}

#: The radius limits the length of a step, in units of the incumbent's length: initial value, and
#: bounds.
_FIRST_RADIUS, _LEAST_RADIUS, _MOST_RADIUS = 0.5, 0.04, 0.8
#: A win raises the radius to at least `_GROWTH` times its step; a loss multiplies it by `_DECAY`.
_GROWTH, _DECAY = 1.5, 0.92


class LearnedProposer:
    """Proposes changes by a surrogate model of results of this run and of earlier ones.

    Parameters
    ----------
    space
        Names and bounds of the weights.
    seed
        Key of the random numbers, together with the number of the proposal before a block.
    sign
        1 if a higher objective is better, -1 if a lower one is.
    remembered
        Weight vectors of earlier runs over the same table with their objective, best first.

    Notes
    -----
    A proposal is a function of seed, number, incumbent, and the results up to the last win or the
    last full block of eight proposals, whichever is later. Cost: one call of `surrogate.options`
    for each block and each win.
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
        #: Candidates that beat the incumbent: 1 if kept, -1 if blocked by guardrails.
        self._fenced = _Latest(_FENCED, len(self._free))
        self._radius = _FIRST_RADIUS
        #: The incumbent's objective times `sign`; None before the first result.
        self._level: float | None = None
        #: What the plan follows: the number of a proposal, and the incumbent.
        self._since = -1
        self._center: Sequence[int] = ()
        self._plan: list[Vector] = []
        #: Number of a proposal, and vectors that the plan after it takes as seen, though nothing
        #: was learned of them yet.
        self._ahead: tuple[int, set[Vector]] = (-1, set())

    def _freed(self, weights: Sequence[int]) -> Vector:
        """Return the free ones of all weights."""
        return tuple(weights) if self._whole else tuple([weights[i] for i in self._free])

    def learn(self, result: Result) -> None:
        """Take note of a result, which counts from the next block or win on."""
        self._waiting.append(result)
        self._ahead = (-1, set())
        if result.won:
            self._last_win = result.proposal

    def goes_on(self, number: int, tried: Collection[Vector], /) -> bool:
        """Return whether the next block is one of random moves, which depend on no value."""
        if self._roles(number) is not _CHANCE:
            return False
        self._ahead = number, {self._freed(vector) for vector in tried}
        return True

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
        """Add a result to what is known, and adapt the radius to it."""
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

    def _roles(self, since: int) -> tuple[str, ...]:
        """Return the kinds of the proposals `since` + 1 to `since` + 8, if none wins before."""
        stale = since - self._last_win >= _STALE_AFTER
        return _FRESH if not stale else _STALE if since // _BLOCK % 2 else _CHANCE

    def _block_from(self, since: int, center: Vector) -> list[Vector]:
        """Return the vectors of a block, for proposals `since` + 1 to `since` + 8."""
        roles = self._roles(since)
        known = None if roles is _CHANCE else self._knowledge()
        raw = self._stream.raw(since + 1, most_draws(known, len(center)))
        here = np.array(center, dtype=np.int64)
        if known is None:
            moves, steps, heights = chance(raw, here, self._bounds)
        else:
            moves, steps, heights = options(known, raw, here, self._bounds, _RANKED[roles])
        ahead, tried = self._ahead
        taken = {center, *tried} if ahead == since else {center}
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
        """Return the results so far, in the form that the surrogate needs."""
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
        """Return the first vector that is neither seen nor taken; None if there is none."""
        seen = self._seen
        for vector in vectors:
            if vector not in seen and vector not in taken:
                return vector
        return None


def _turned(before: Vector, after: Vector) -> float:
    """Return the distance between two vectors scaled to length 1, in [0, 2]; 0 if one is zero."""
    own = sum(w * w for w in before) * sum(w * w for w in after)
    inner = sum(a * b for a, b in zip(before, after, strict=True))
    return math.sqrt(max(0.0, 2 - 2 * (inner / math.sqrt(own)))) if own else 0.0


def _rows(vectors: Integers) -> Iterator[Vector]:
    """Yield vectors of shape (K, F) as tuples, converted in small blocks, since few are used."""
    for start in range(0, len(vectors), _BLOCK):
        yield from map(tuple, vectors[start : start + _BLOCK].tolist())


def _falling(vectors: Integers, heights: Doubles) -> Iterator[Vector]:
    """Yield vectors by descending height, the first one of equal heights first.

    Overwrites the heights of the vectors that it has yielded.
    """
    for _ in range(len(heights)):
        index = heights.argmax()
        heights[index] = -np.inf
        yield tuple(vectors[index].tolist())


class _Latest:
    """A ring buffer of the latest vectors of F weights, each with a number."""

    def __init__(self, most: int, width: int) -> None:
        self._vectors, self._values = np.zeros((width, most)), np.zeros(most)
        self._filled = self._next = 0
        #: Entries added since the last access to `arrays`, which copies them together.
        self._new: list[tuple[Vector, float]] = []

    def add(self, vector: Vector, value: float) -> None:
        """Add an entry; it replaces the oldest one if the buffer is full."""
        self._new.append((vector, value))

    @property
    def arrays(self) -> tuple[Doubles, Doubles, int]:
        """Vectors (F, K), numbers (K,), and how many of the K are filled, from the first on."""
        most = len(self._values)
        added, self._new = self._new, []
        for start in range(0, len(added), most):
            vectors, values = zip(*added[start : start + most], strict=True)
            count, width = len(values), len(self._vectors)
            index: Any = slice(self._next, self._next + count)
            if self._next + count > most:
                index = np.arange(self._next, self._next + count) % most
            # Some thousand numbers of Python: read one by one, not looked through for their shape.
            flat = np.fromiter(chain.from_iterable(vectors), np.float64, count * width)
            self._vectors[:, index] = flat.reshape(count, width).T
            self._values[index] = values
            self._filled = min(self._filled + count, most)
            self._next = (self._next + count) % most
        return self._vectors, self._values, self._filled
