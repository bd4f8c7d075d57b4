"""Who suggests the next change. One small interface; each proposer is a function of its arguments.

A proposal depends on the seed, its own number, the incumbent and, for proposers that learn, on what
they were told before their present block of proposals. That makes it possible to evaluate proposals
ahead of their turn and still write the journal of a strictly sequential loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Proposer", "RandomProposer", "Result", "SearchSpace", "Stream"]

#: A proposal changes one to this many weights.
MOST_CHANGES = 3
#: Largest step, as a share of the weight that it changes.
STEP_SHARE = 0.3


@dataclass(frozen=True)
class SearchSpace:
    """Names and bounds of F weights, ends included; where both ends meet the weight is fixed."""

    names: tuple[str, ...]
    lows: tuple[int, ...]
    highs: tuple[int, ...]

    @property
    def free(self) -> tuple[int, ...]:
        """Numbers of the weights that may move."""
        ends = zip(self.lows, self.highs, strict=True)
        return tuple(i for i, (low, high) in enumerate(ends) if low < high)


class Result(NamedTuple):
    """What a proposal came to, as the loop tells it to the proposer."""

    proposal: int
    #: The incumbent's weights, and the candidate's; F each.
    before: tuple[int, ...]
    weights: tuple[int, ...]
    value_before: float | None
    value: float | None
    #: Whether the candidate was kept.
    won: bool


class Proposer(Protocol):
    """What the loop asks of a proposer."""

    #: Journalled with every experiment.
    name: str
    #: Proposals made on the same knowledge: those numbered 1 to `block`, and so on. After a win all
    #: is known up to it. None for a proposer that doesn't learn.
    block: int | None

    def learn(self, result: Result) -> None:
        """Take in what a proposal came to. Each is told once, in the order of their numbers."""
        ...

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        """Suggest changes to an incumbent.

        Parameters
        ----------
        number
            The proposal's number, from 1.
        weights
            The incumbent's weights, F of them.

        Returns
        -------
        dict
            New weight by the number of the weight; never empty, each within bounds and different
            from the incumbent's.
        """
        ...


class Stream:
    """The pinned stream of a seed: one generator, sent to the start of a sequence for each number.

    A new generator for each would cost three times as much.
    """

    def __init__(self, seed: int) -> None:
        self._philox = np.random.Philox(key=[seed, 0])
        self._start = self._philox.state
        self._key = self._start["state"]["key"]
        self._generator = np.random.Generator(self._philox)

    def generator(self, number: int) -> np.random.Generator:
        """Return the generator, at the start of a sequence."""
        self._key[1] = number
        self._philox.state = self._start
        return self._generator

    def raw(self, number: int, count: int) -> NDArray[np.uint64]:
        """Return the first numbers of a sequence, 64 bits each."""
        self.generator(number)
        return self._philox.random_raw(count)


class RandomProposer:
    """Changes one to three weights, each by a uniform step of at least one.

    The largest step is ``max(1, ceil(0.3 * |w|))``, cut at the bounds.

    Parameters
    ----------
    space
        What may move, and how far.
    seed
        Keys the generator together with the proposal's number.

    Examples
    --------
    >>> space = SearchSpace(("nps", "logins"), (0, 0), (25, 25))
    >>> proposer = RandomProposer(space, seed=7)
    >>> proposer.propose(1, (10, 5)) == proposer.propose(1, (10, 5))
    True
    """

    name = "random"
    block: int | None = None

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space = space
        self._free = np.array(space.free)
        self._stream = Stream(seed)

    def learn(self, result: Result) -> None:
        """Learn nothing: chance has no memory."""

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        """Suggest changes; see `Proposer`. Cost: about 10 microseconds."""
        generator = self._stream.generator(number)
        most = min(MOST_CHANGES, len(self._free))
        count = int(generator.integers(1, most + 1))
        chosen = generator.permutation(self._free)[:count].tolist()
        return {index: self._stepped(generator, index, weights[index]) for index in chosen}

    def _stepped(self, generator: np.random.Generator, index: int, weight: int) -> int:
        # Integer arithmetic for ceil(0.3 |w|), so that no rounding of 0.3 can add a step.
        reach = max(1, -(-3 * abs(weight) // 10))
        down = min(reach, weight - self._space.lows[index])
        up = min(reach, self._space.highs[index] - weight)
        drawn = int(generator.integers(0, down + up))
        # 0..down-1 lead down by down..1, the rest up by 1..up: never a step of nothing.
        return weight + (drawn - down if drawn < down else drawn - down + 1)
