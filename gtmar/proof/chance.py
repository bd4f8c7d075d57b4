"""What a search finds where there is nothing to find: the same search on shuffled outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.proof.resampling import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.accounts.matrix import AccountMatrix
    from gtmar.proof.rehearsal import Rehearsal

__all__ = ["CHANCE", "Chance", "chance"]

#: Above this a p-value says that noise gains as much.
CHANCE = 0.05


@dataclass(frozen=True)
class Chance:
    """A gain, and those of the same search on shuffled outcomes.

    Parameters
    ----------
    found
        The gain in question, as an improvement: above 0 is better whatever the metric.
    gains
        The gain of each search on shuffled outcomes, smallest first.
    """

    found: float
    gains: tuple[float, ...]

    @property
    def p_value(self) -> float:
        """(1 + searches on noise that gained as much) / (1 + searches); never 0.

        References
        ----------
        Phipson & Smyth 2010.
        """
        as_much = sum(gain >= self.found for gain in self.gains)
        return (1 + as_much) / (1 + len(self.gains))

    def quantile(self, share: float) -> float:
        """Return the gain that a share of the searches on noise stayed below."""
        return float(np.quantile(self.gains, share))


def chance(
    rehearsal: Rehearsal,
    matrix: AccountMatrix,
    found: float,
    *,
    searches: int,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
) -> Chance:
    """Search shuffled outcomes again and again.

    Parameters
    ----------
    rehearsal
        The search.
    matrix
        The accounts that were searched.
    found
        The gain to hold against chance, as an improvement.
    searches
        How many, 1 or more. A p-value can't be below 1 / (searches + 1).
    seed
        Keys the shuffles.
    watch
        Told how many of how many are done.

    Notes
    -----
    A search whose objective has no value on shuffled outcomes gained nothing. Cost: that of
    `searches` runs.
    """
    gains = []
    for number in range(1, searches + 1):
        done = rehearsal.over(shuffled(matrix, seed=seed, number=number))
        gains.append(done.gain(rehearsal.judge.sign) or 0.0)
        if watch is not None:
            watch(number, searches)
    return Chance(found, tuple(sorted(gains)))
