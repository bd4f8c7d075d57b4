"""The search of a run over another matrix, in memory: nothing is journaled, nothing is shown.

It keeps what the run's own loop would keep, since proposals, verdicts and their order are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gtmar.evaluate.guard import Guard
from gtmar.evaluate.local import LocalEvaluator
from gtmar.search.climb import Climb, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.accounts.matrix import AccountMatrix
    from gtmar.objective import Judge
    from gtmar.search.climb import Batch, Given
    from gtmar.search.proposers import Proposer
    from gtmar.spec.model import ScoringSpec

__all__ = ["Rehearsal", "Rehearsed"]

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
