"""Joint constraints on weights: a fixed total, a maximal number of nonzero weights, an order.

Proposals of every proposer are repaired by one rule, so that proposers need to know only bounds.
The rule is deterministic: a repaired proposal is a function of the same arguments as before.
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
    """Joint constraints on F weights."""

    #: Sum of all weights; None for any.
    total: int | None = None
    #: Largest number of weights that differ from 0; None for any.
    most_nonzero: int | None = None
    #: Groups of weights, by number, that must not decrease, such as the bins of a monotone feature.
    ordered: tuple[tuple[int, ...], ...] = ()

    def __bool__(self) -> bool:
        return self != WeightConstraints()

    def hold(self, weights: Sequence[int]) -> bool:
        """Whether a vector of F weights satisfies the constraints."""
        nonzero = sum(weight != 0 for weight in weights)
        return (
            (self.total is None or sum(weights) == self.total)
            and (self.most_nonzero is None or nonzero <= self.most_nonzero)
            and all(weights[a] <= weights[b] for group in self.ordered for a, b in pairwise(group))
        )

    def kept(
        self, before: Sequence[int], changes: dict[int, int], space: SearchSpace, *, first: int
    ) -> dict[int, int]:
        """Repair a proposal to satisfy the constraints, preferably by changing other weights.

        Parameters
        ----------
        before
            The incumbent's weights, which satisfy the constraints; F of them.
        changes
            The proposal: new weight by number.
        space
            Bounds of the weights.
        first
            Number of the weight to start from, modulo F; the weights are visited in a circle.

        Returns
        -------
        dict
            New weight by number, for weights that differ from `before`. Empty if the proposal can't
            be repaired.

        Notes
        -----
        Order: proposed weights that contradict it are replaced by their mean, and other weights
        follow as far as necessary. Nonzero weights: the smallest of the others become 0. Total: the
        difference is distributed over the other weights, one point each in turn, where bounds and
        order allow it, and over the proposed weights last. Cost: proportional to the points moved.
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
        self._settle(weights, [i for i in order if i not in changes], space)
        self._settle(weights, order, space)
        if not self.hold(weights):
            return {}
        pairs = enumerate(zip(before, weights, strict=True))
        return {i: new for i, (old, new) in pairs if new != old}

    def _thin(
        self, weights: list[int], order: list[int], space: SearchSpace, changes: dict[int, int]
    ) -> None:
        """Set the smallest weights to 0 until no more than `most_nonzero` are left."""
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
        """Whether a new weight at `index` is in order with its neighbours."""
        below, above = self._neighbours
        return (index not in below or weights[below[index]] <= new) and (
            index not in above or new <= weights[above[index]]
        )

    @cached_property
    def _neighbours(self) -> tuple[dict[int, int], dict[int, int]]:
        """For each ordered weight, the number of the one before it, and of the one after it."""
        pairs = [pair for group in self.ordered for pair in pairwise(group)]
        return {two: one for one, two in pairs}, dict(pairs)

    def _settle(self, weights: list[int], order: Iterable[int], space: SearchSpace) -> None:
        """Correct the total by one point per weight in turn, as far as possible."""
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
            # With an order, a blocked weight may be free to move after its neighbour has moved.
            room = room if self.ordered and moved else moved


def _put_in_order(
    weights: list[int], group: Sequence[int], changes: Collection[int], space: SearchSpace
) -> None:
    """Restore the order of a group's weights after changes."""
    changed = [position for position, index in enumerate(group) if index in changes]
    if not changed:
        return
    # Each weight's range, given the order and the bounds of its neighbours.
    least = list(accumulate((space.lows[i] for i in group), max))
    most = list(accumulate((space.highs[i] for i in reversed(group)), min))[::-1]
    pools = pooled(
        (Pool(nth, weights[group[position]], 1) for nth, position in enumerate(changed)),
        rising=True,
    )
    means = [floor(pool.share + Fraction(1, 2)) for pool in pools for _ in range(pool.total)]
    floor_, anchors = -inf, dict(zip(changed, means, strict=True))
    for position, index in enumerate(group):
        if position in anchors:
            floor_ = weights[index] = min(max(anchors[position], least[position]), most[position])
        else:
            weights[index] = int(max(weights[index], floor_))
    ceiling = inf
    for position, index in reversed(list(enumerate(group))):
        if position in anchors:
            ceiling = weights[index]
        weights[index] = int(min(weights[index], ceiling))


class ConstrainedProposer:
    """Wraps a proposer and repairs its proposals to satisfy constraints."""

    def __init__(
        self, proposer: Proposer, constraints: WeightConstraints, space: SearchSpace
    ) -> None:
        self._proposer, self._constraints, self._space = proposer, constraints, space
        self.name = proposer.name
        self.block = proposer.block

    def learn(self, result: Result) -> None:
        """Pass on the result of the candidate that was evaluated, which may be a repaired one."""
        self._proposer.learn(result)

    def goes_on(self, number: int, tried: Collection[tuple[int, ...]], /) -> bool:
        """Ask the proposer; `tried` are candidates as they were evaluated, repaired or not."""
        return self._proposer.goes_on(number, tried)

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        """Suggest changes; none if the proposal can't be repaired."""
        changes = self._proposer.propose(number, weights)
        return self._constraints.kept(weights, changes, self._space, first=number)
