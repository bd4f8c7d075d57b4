"""The search of a run over another matrix, in memory: nothing is journaled, nothing is shown.

It keeps what the run's own loop would keep, since proposals, verdicts and their order are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.engine.local import LocalEvaluator
from gtmar.objective.guardrails import Guard
from gtmar.optimize.hill_climb import Climb, Outcome
from gtmar.validation.resampling import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.data.matrix import AccountMatrix
    from gtmar.objective.objective import Judge
    from gtmar.optimize.hill_climb import Batch, Given
    from gtmar.optimize.proposers import Proposer
    from gtmar.spec.model import ScoringSpec

__all__ = ["CHANCE", "Chance", "Rehearsal", "Rehearsed", "chance"]


#: Candidates evaluated ahead of their turn; changes no result.
_AHEAD = (4, 64)


@dataclass(frozen=True)
class Rehearsed:
    """What a search came to."""

    start_value: float | None
    value: float | None
    weights: tuple[int, ...]
    experiments: int

    def gain(self, sign: int) -> float | None:
        """Return by how much it got better; None where the start has no value."""
        if self.start_value is None or self.value is None:
            return None
        return sign * (self.value - self.start_value)


@dataclass(frozen=True)
class Rehearsal:
    """A search that can be done over any matrix.

    Parameters
    ----------
    spec
        Its weights are the start.
    judge
        Objective and guardrails.
    proposer
        Makes a fresh proposer; each search needs its own, since some learn.
    experiments
        Experiments a search has.
    patience
        Stop after so many without a win; None for never.
    given
        Fits the vectors to try first to a matrix, anew for each; None for none.
    """

    spec: ScoringSpec
    judge: Judge
    proposer: Callable[[], Proposer]
    experiments: int
    patience: int | None = None
    given: Callable[[AccountMatrix], Given | None] | None = None

    def over(self, matrix: AccountMatrix) -> Rehearsed:
        """Search one matrix."""
        start = tuple(term.weight for term in self.spec.terms)
        evaluator = LocalEvaluator(matrix, self.spec, expected=self.experiments)
        evaluator.move(start)
        [start_value] = self.judge.values(evaluator.frame([start]))
        guard = Guard(matrix, self.spec, self.judge, start)
        given = self.given(matrix) if self.given else None
        climb = Climb(
            self.proposer(),
            start,
            start_value,
            better=self.judge.gain,
            given=(given,) if given else (),
        )
        free = any(not term.fixed for term in self.spec.terms)
        ahead = _AHEAD[0]
        while free and self._goes_on(climb):
            left = self.experiments - climb.experiments
            if self.patience is not None:
                left = min(left, self.patience - climb.since_win)
            batch = climb.ask(min(ahead, left))
            won = self._judged(climb, batch, evaluator, guard)
            ahead = max(_AHEAD[0], ahead // 4) if won else min(_AHEAD[1], ahead * 2)
        return Rehearsed(start_value, climb.value, climb.weights, climb.experiments)

    def _judged(self, climb: Climb, batch: Batch, evaluator: LocalEvaluator, guard: Guard) -> bool:
        """Evaluate and judge a batch; say whether its last step was kept."""
        if not batch.fresh:
            climb.tell(batch, [], lambda _: ())
            return False
        frame = evaluator.frame([candidate.weights for candidate in batch.fresh])
        values = self.judge.values(frame)

        def breaches(place: int) -> tuple[str, ...]:
            weights = batch.fresh[place].weights
            return guard.breaches(frame[place], weights, values[place], climb.value)

        steps = climb.tell(batch, values, breaches)
        won = bool(steps) and steps[-1].outcome is Outcome.WIN
        if won:
            evaluator.move(climb.weights)
        return won

    def _goes_on(self, climb: Climb) -> bool:
        if climb.exhausted or climb.experiments >= self.experiments:
            return False
        return self.patience is None or climb.since_win < self.patience


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
