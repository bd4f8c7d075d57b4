"""What weights must hold together: a fixed total, at most so many that aren't 0, an order.

Any proposer's proposals are brought to it by the same rule, so that a proposer needs to know of
bounds alone. The rule draws nothing: a proposal stays a function of what it was before.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, pairwise
from math import floor, inf
from typing import TYPE_CHECKING

from gtmar.stats.isotonic import Pool, pooled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gtmar.optimize.proposers import Proposer, Result, SearchSpace

__all__ = ["ConstrainedProposer", "WeightConstraints"]


@dataclass(frozen=True)
class WeightConstraints:
    """Limits on F weights together."""

    #: What all weights add up to; None for anything.
    total: int | None = None
    #: How many weights may differ from 0; None for all.
    most_nonzero: int | None = None
    #: Numbers of weights that never fall from one to the next, as bins of a monotone feature.
    ordered: tuple[tuple[int, ...], ...] = ()

    def __bool__(self) -> bool:
        return self != WeightConstraints()

    def hold(self, weights: Sequence[int]) -> bool:
        """Whether a vector keeps them."""
        nonzero = sum(weight != 0 for weight in weights)
        return (
            (self.total is None or sum(weights) == self.total)
            and (self.most_nonzero is None or nonzero <= self.most_nonzero)
            and all(weights[a] <= weights[b] for group in self.ordered for a, b in pairwise(group))
        )

    def kept(
        self, before: Sequence[int], changes: dict[int, int], space: SearchSpace, *, first: int
    ) -> dict[int, int]:
        """Bring a proposal to keep them, at the expense of weights that it leaves alone.

        Parameters
        ----------
        before
            The incumbent's weights, which keep them.
        changes
            New weight by number.
        space
            Bounds.
        first
            Where in the round of the weights to begin; any whole number.

        Returns
        -------
        dict
            New weight by number, of those that differ from before. Empty where it can't be done.

        Notes
        -----
        Out of order: of weights proposed together that contradict each other the mean counts; the
        neighbours left alone follow as far as they must. Too many weights: the smallest of those
        left alone go to 0. Another total: what is over or short is taken from, or given to, the
        weights left alone, a point each in turn, where the order allows it; the proposed
        weights themselves come last. Cost: of the order of the points moved.
        """
        weights = list(before)
        for index, weight in changes.items():
            weights[index] = weight
        for group in self.ordered:
            _put_in_order(weights, group, changes, space)
        spun = [(first + i) % len(weights) for i in range(len(weights))]
        free = [i for i in spun if space.lows[i] < space.highs[i]]
        order = [*(i for i in free if i not in changes), *(i for i in free if i in changes)]
        self._thin(weights, order, space, changes)
        alone = [i for i in order if i not in changes]
        self._settle(weights, alone, space)
        self._settle(weights, order, space)
        if not self.hold(weights):
            return {}
        pairs = enumerate(zip(before, weights, strict=True))
        return {i: new for i, (old, new) in pairs if new != old}

    def _thin(
        self, weights: list[int], order: list[int], space: SearchSpace, changes: dict[int, int]
    ) -> None:
        """Send the smallest weights to 0 until no more than allowed are left."""
        if self.most_nonzero is None:
            return
        over = sum(weight != 0 for weight in weights) - self.most_nonzero
        may = [i for i in order if weights[i] and space.lows[i] <= 0 <= space.highs[i]]
        may.sort(key=lambda i: (i in changes, abs(weights[i])))
        for index in may:
            if over > 0 and self._in_order(weights, index, 0):
                weights[index] = 0
                over -= 1

    def _in_order(self, weights: Sequence[int], index: int, new: int) -> bool:
        """Whether another weight keeps the order with its neighbours."""
        below, above = self._neighbours
        return (index not in below or weights[below[index]] <= new) and (
            index not in above or new <= weights[above[index]]
        )

    @cached_property
    def _neighbours(self) -> tuple[dict[int, int], dict[int, int]]:
        """The weight before each ordered weight, and the one after."""
        pairs = [pair for group in self.ordered for pair in pairwise(group)]
        return {two: one for one, two in pairs}, dict(pairs)

    def _settle(self, weights: list[int], order: Iterable[int], space: SearchSpace) -> None:
        """Bring the total right, a point each in turn."""
        if self.total is None:
            return
        short = self.total - sum(weights)
        step = 1 if short > 0 else -1
        most = len(weights) if self.most_nonzero is None else self.most_nonzero
        room = list(order)
        while short and room:
            nonzero = sum(weight != 0 for weight in weights)
            moved = []
            for index in room:
                new = weights[index] + step
                inside = space.lows[index] <= new <= space.highs[index]
                if not short or not inside or (weights[index] == 0 and nonzero >= most):
                    continue
                if not self._in_order(weights, index, new):
                    continue
                nonzero += (new != 0) - (weights[index] != 0)
                weights[index] = new
                short -= step
                moved.append(index)
            # A weight whose neighbour was in its way may move once that one has.
            room = room if self.ordered and moved else moved


def _put_in_order(
    weights: list[int], group: Sequence[int], changes: Collection[int], space: SearchSpace
) -> None:
    """Bring the weights of a group, which were in order before the changes, into order again."""
    changed = [place for place, index in enumerate(group) if index in changes]
    if not changed:
        return
    # What bounds of neighbours leave to each, given the order.
    least = list(accumulate((space.lows[i] for i in group), max))
    most = list(accumulate((space.highs[i] for i in reversed(group)), min))[::-1]
    pools = pooled(
        (Pool(nth, weights[group[place]], 1) for nth, place in enumerate(changed)), rising=True
    )
    means = [floor(pool.share + Fraction(1, 2)) for pool in pools for _ in range(pool.total)]
    floor_, anchors = -inf, dict(zip(changed, means, strict=True))
    for place, index in enumerate(group):
        if place in anchors:
            floor_ = weights[index] = min(max(anchors[place], least[place]), most[place])
        else:
            weights[index] = int(max(weights[index], floor_))
    ceiling = inf
    for place, index in reversed(list(enumerate(group))):
        if place in anchors:
            ceiling = weights[index]
        weights[index] = int(min(weights[index], ceiling))


class ConstrainedProposer:
    """A proposer whose proposals keep constraints."""

    def __init__(
        self, proposer: Proposer, constraints: WeightConstraints, space: SearchSpace
    ) -> None:
        self._proposer, self._constraints, self._space = proposer, constraints, space
        self.name = proposer.name
        self.block = proposer.block

    def learn(self, result: Result) -> None:
        """Tell the proposer what became of what was really tried."""
        self._proposer.learn(result)

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        """Suggest changes; none where the proposal can't be brought to keep the constraints."""
        changes = self._proposer.propose(number, weights)
        return self._constraints.kept(weights, changes, self._space, first=number)
