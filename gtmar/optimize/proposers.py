"""The interface of proposers, which suggest the next change of weights, and the random proposer.

A proposal is a function of the seed, its number, the incumbent and, for proposers that learn, the
results before the current block of proposals. Therefore proposals can be evaluated ahead of their
turn, while the journal is the one of a strictly sequential loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

__all__ = ["Proposer", "RandomProposer", "Result", "SearchSpace", "Stream"]

#: Most weights that one proposal changes.
MOST_CHANGES = 3
#: Largest step, as a share of the changed weight.
STEP_SHARE = 0.3


@dataclass(frozen=True)
class SearchSpace:
    """Names and inclusive bounds of F weights; a weight with equal bounds is fixed."""

    names: tuple[str, ...]
    lows: tuple[int, ...]
    highs: tuple[int, ...]

    @property
    def free(self) -> tuple[int, ...]:
        """Numbers of the weights that aren't fixed."""
        ends = zip(self.lows, self.highs, strict=True)
        return tuple(i for i, (low, high) in enumerate(ends) if low < high)


class Result(NamedTuple):
    """The result of one proposal, from which a proposer may learn."""

    #: Number of the proposal.
    proposal: int
    #: The incumbent's weights, and the candidate's; F each.
    before: tuple[int, ...]
    weights: tuple[int, ...]
    #: The incumbent's objective, and the candidate's; None if null.
    value_before: float | None
    value: float | None
    #: Whether the candidate was kept.
    won: bool


class Proposer(Protocol):
    """The interface of a proposer."""

    #: Recorded in the journal with every experiment.
    name: str
    #: Proposals in a block: 1 to `block`, and so on. All use the results before the block or, if
    #: later, up to the last win. None for a proposer that doesn't learn.
    block: int | None

    def learn(self, result: Result) -> None:
        """Take note of a result. Called once for each, in the order of proposals."""
        ...

    def goes_on(self, number: int, tried: Collection[tuple[int, ...]], /) -> bool:
        """Return whether the block after proposal `number` needs no value of the one before.

        Asked of proposers with blocks alone, at the end of one that has no result yet. `tried` are
        that block's vectors; if the answer is yes, the next block is planned as if none of them was
        kept.
        """
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
            New weight by the number of the weight, each within bounds and different from the
            incumbent's. Empty only if a `ConstrainedProposer` can't repair the proposal.
        """
        ...


class Stream:
    """The random streams of a seed: one independent sequence of numbers for each proposal number.

    One generator is reset for each sequence; a new one would cost three times as much.
    """

    def __init__(self, seed: int) -> None:
        self._philox = np.random.Philox(key=[seed, 0])
        self._start = self._philox.state
        self._key = self._start["state"]["key"]
        self._generator = np.random.Generator(self._philox)

    def generator(self, number: int) -> np.random.Generator:
        """Return the generator, reset to the start of sequence `number`.

        The generator is shared: the next call resets it.
        """
        self._key[1] = number
        self._philox.state = self._start
        return self._generator

    def raw(self, number: int, count: int) -> NDArray[np.uint64]:
        """Return the first `count` raw numbers of a sequence, uint64, shape (count,)."""
        self.generator(number)
        return self._philox.random_raw(count)


class RandomProposer:
    """Proposes to change one to three weights, each by a uniform nonzero step.

    The largest step of a weight w is ``max(1, ceil(0.3 * |w|))``, cut at the bounds.

    Parameters
    ----------
    space
        Names and bounds of the weights.
    seed
        Key of the random numbers, together with the proposal's number.

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
        """Do nothing: random proposals don't depend on results."""

    def goes_on(self, _number: int, _tried: Collection[tuple[int, ...]], /) -> bool:
        """Return True: no proposal depends on results."""
        return True

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        """Suggest changes; see `Proposer`. Cost: about 10 microseconds."""
        generator = self._stream.generator(number)
        most = min(MOST_CHANGES, len(self._free))
        count = int(generator.integers(1, most + 1))
        chosen = generator.permutation(self._free)[:count].tolist()
        return {index: self._stepped(generator, index, weights[index]) for index in chosen}

    def _stepped(self, generator: np.random.Generator, index: int, weight: int) -> int:
        # Integer arithmetic for ceil(0.3 |w|), since 0.3 is no exact double.
        reach = max(1, -(-3 * abs(weight) // 10))
        down = min(reach, weight - self._space.lows[index])
        up = min(reach, self._space.highs[index] - weight)
        drawn = int(generator.integers(0, down + up))
        # 0..down-1 become steps of -down..-1, the rest 1..up: a step is never 0.
        return weight + (drawn - down if drawn < down else drawn - down + 1)
