"""Tier rules: compute the edges of tiers from the number of accounts per score.

All arithmetic is on integers, so that equal counts give equal edges on every machine. The compiled
kernel has its own version of `TierRule.lows`, and a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.spec.model import ScoringSpec

    Int64s = NDArray[np.int64]

__all__ = ["MILLION", "TierRule"]

#: Sizes are compared in millionths of an account, so that shares of accounts are integers.
MILLION = 1_000_000
#: Lifts are counted in hundredths.
_HUNDRED = 100
#: In hundredths; more than any accounts that fit in memory could reach.
_MOST_LIFT = 10**12


@dataclass(frozen=True)
class TierRule:
    """The rule that sets the edges of T tiers, from the highest scores down.

    Parameters
    ----------
    goals
        A pair (a, b) for each tier but the lowest. The tier and those above it should together have
        ``a * accounts + b`` millionths of an account, as nearly as ties allow. Empty for a lift.
    lifts
        For each tier but the lowest, the smallest ratio of its rate of leaving to the rate of all
        accounts, in hundredths. Empty for sizes.
    """

    goals: tuple[tuple[int, int], ...] = ()
    lifts: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: ScoringSpec) -> TierRule | None:
        """Return the rule of a spec's tiers; None where they have only edges."""
        rules = [spec.tiers[name].rule for name in spec.tier_names]
        kinds = {rule[0] for rule in rules if rule is not None}
        if not kinds:
            return None
        values = [None if rule is None else rule[1] for rule in rules]
        if kinds == {"lift"}:
            return cls(
                lifts=tuple(min(round((v or 0) * _HUNDRED), _MOST_LIFT) for v in values[:-1])
            )
        if kinds == {"share"}:
            reached = np.cumsum([value or 0.0 for value in values[:-1]])
            return cls(goals=tuple((round(share * MILLION), 0) for share in reached.tolist()))
        rest = values.index(None)
        above = np.cumsum([round(v or 0) for v in values[:rest]], dtype=np.int64).tolist()
        below = np.cumsum([round(v or 0) for v in values[:rest:-1]], dtype=np.int64).tolist()
        goals = [(0, count * MILLION) for count in above]
        goals += [(MILLION, -count * MILLION) for count in reversed(below)]
        return cls(goals=tuple(goals))

    @property
    def holds_sizes(self) -> bool:
        """Whether the rule sets the tiers' sizes, which then don't depend on the score."""
        return not self.lifts

    @property
    def tiers(self) -> int:
        """T, the number of tiers."""
        return 1 + len(self.goals or self.lifts)

    def lows(self, everyone: Int64s, left: Int64s, labelled: Int64s, *, first: int) -> list[int]:
        """Return the lowest score bin of each tier.

        Parameters
        ----------
        everyone, left, labelled
            int64, shape (bins,): number of accounts by score bin: all of them, those that left, and
            those with a known label.
        first
            The score bin of the first count.

        Returns
        -------
        list of int
            T score bins, descending, the last 0. An edge is the lowest bin with an account of its
            tier, if the tier has any.
        """
        held = np.flatnonzero(everyone)
        if not len(held):
            return list(range(self.tiers - 1, -1, -1))
        wanted = (
            self._by_lift(left, labelled, int(held[-1]))
            if self.lifts
            else self._by_size(everyone, int(held[-1]))
        )
        lows: list[int] = []
        for tier, edge in enumerate(wanted):
            # Each tier has at least one score bin, even if no account is in it.
            ceiling = lows[-1] - 1 if lows else first + edge
            lows.append(max(min(first + edge, ceiling), self.tiers - 1 - tier))
        return [*lows, 0]

    def _by_size(self, everyone: Int64s, top: int) -> list[int]:
        """Return the edge nearest to each goal; of two equally near, that with fewer above it."""
        last = len(everyone) - 1
        above = np.cumsum(everyone[::-1])
        total = int(above[-1])
        edges, goal = [], 0
        for share, fixed in self.goals:
            goal = min(max(share * total + fixed, goal), total * MILLION)
            index = int(np.searchsorted(above * MILLION, goal, side="left"))
            before = int(above[index - 1]) if index else 0
            if goal and int(above[index]) * MILLION - goal < goal - before * MILLION:
                edges.append(last - index)
            elif before:
                edges.append(last - int(np.searchsorted(above, before, side="left")))
            else:
                edges.append(top + 1)
        return edges

    def _by_lift(self, left: Int64s, labelled: Int64s, top: int) -> list[int]:
        """Return the edge of the largest tier below the previous one that reaches each lift.

        A tier is empty where no edge reaches its lift.
        """
        all_left, all_labelled = int(left.sum()), int(labelled.sum())
        edges, stop = [], top + 1
        # No tier can leave more often than all its accounts; a larger lift would leave int64.
        most = all_labelled * _HUNDRED // max(all_left, 1) + 1
        for requested in self.lifts:
            lift = min(requested, most)
            own = np.cumsum(left[:stop][::-1])
            among = np.cumsum(labelled[:stop][::-1])
            enough = own * all_labelled * _HUNDRED >= lift * among * all_left
            reached = np.flatnonzero(enough & (labelled[:stop][::-1] > 0) & (among > 0))
            if len(reached) and all_left:
                stop = stop - 1 - int(reached[-1])
            edges.append(stop)
        return edges
