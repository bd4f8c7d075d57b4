"""Where tiers end by their rule: edges from how many accounts have which score.

The same edges come from the same counts on every path: all of it is integer arithmetic. The
compiled kernel has a twin of `TierRule.lows`, and a test holds the two together.
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

#: Sizes are compared in millionths of an account, so that a share of them is whole.
MILLION = 1_000_000
#: A lift is counted in hundredths.
_HUNDRED = 100


@dataclass(frozen=True)
class TierRule:
    """How the edges of T tiers are set, from the highest scores down.

    Parameters
    ----------
    goals
        For each tier but the lowest, a and b: so many accounts are wanted in it and the tiers above
        that a x accounts + b millionths are reached as nearly as ties allow. Empty for a lift.
    lifts
        For each tier but the lowest, in hundredths: its accounts leave at least so many times as
        often as all do. Empty for sizes.
    """

    goals: tuple[tuple[int, int], ...] = ()
    lifts: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: ScoringSpec) -> TierRule | None:
        """Read the rule off a spec; None where its tiers have edges alone."""
        rules = [spec.tiers[name].rule for name in spec.tier_names]
        kinds = {rule[0] for rule in rules if rule is not None}
        if not kinds:
            return None
        values = [None if rule is None else rule[1] for rule in rules]
        if kinds == {"lift"}:
            return cls(lifts=tuple(round((v or 0) * _HUNDRED) for v in values[:-1]))
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
        """Whether tiers keep their size whatever the score."""
        return not self.lifts

    @property
    def tiers(self) -> int:
        """T."""
        return 1 + len(self.goals or self.lifts)

    def lows(self, everyone: Int64s, left: Int64s, labelled: Int64s, *, first: int) -> list[int]:
        """Return the lowest bin of each tier.

        Parameters
        ----------
        everyone, left, labelled
            int64, shape (bins,): accounts in each score bin; those of them that left; and those of
            whom it is known whether they did.
        first
            The bin that the counts begin with.

        Returns
        -------
        list of int
            T bins, falling, the last 0. An edge is the bin of the last account above it.
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
            # Each tier has a bin of its own, though nobody be in it.
            ceiling = lows[-1] - 1 if lows else first + edge
            lows.append(max(min(first + edge, ceiling), self.tiers - 1 - tier))
        return [*lows, 0]

    def _by_size(self, everyone: Int64s, top: int) -> list[int]:
        """Return the edge nearest to each goal; of two as near the one with fewer above."""
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
        """Return the edge of the largest tier, from where the one above ends, that leaves so often.

        Where there is none the tier is empty.
        """
        all_left, all_labelled = int(left.sum()), int(labelled.sum())
        edges, stop = [], top + 1
        for lift in self.lifts:
            own = np.cumsum(left[:stop][::-1])
            among = np.cumsum(labelled[:stop][::-1])
            enough = own * all_labelled * _HUNDRED >= lift * among * all_left
            reached = np.flatnonzero(enough & (labelled[:stop][::-1] > 0) & (among > 0))
            if len(reached) and all_left:
                stop = stop - 1 - int(reached[-1])
            edges.append(stop)
        return edges
