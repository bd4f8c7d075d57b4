"""Keep-or-revert hill climbing as ask and tell: the state of one search, and nothing else.

`ask` gives candidates ahead of their turn, all from the present incumbent; `tell` takes their
values in order and stops at the first that is kept, since what follows would have been proposed
from another incumbent. So any batch size gives the steps of a strictly sequential loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gtmar.search.proposers import Proposer

__all__ = ["EXHAUSTED_AFTER", "Batch", "Candidate", "Climb", "Outcome", "Step"]

#: Proposals in a row, all known already, after which a search is exhausted.
EXHAUSTED_AFTER = 1000


class Outcome(StrEnum):
    """What became of an experiment."""

    BASELINE = "baseline"
    WIN = "win"
    LOSE = "lose"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Candidate:
    """A full weight vector, and the proposal that gave it."""

    proposal: int
    #: New weight by the number of the weight.
    changes: dict[int, int]
    weights: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Candidates from one incumbent, in the order of their proposals."""

    parent: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    #: The last proposal looked at, known ones included.
    last_proposal: int
    #: Known proposals in a row after the last candidate.
    trailing_known: int


@dataclass(frozen=True)
class Step:
    """One experiment, judged."""

    number: int
    candidate: Candidate
    #: Number of the experiment that was the incumbent, and its weights.
    parent: int
    before_weights: tuple[int, ...]
    before: float | None
    value: float | None
    outcome: Outcome
    breaches: tuple[str, ...] = ()


class Climb:
    """One search: incumbent, what has been evaluated, and where the proposals stand.

    Parameters
    ----------
    proposer
        Suggests changes.
    start
        Weights of the baseline, F of them.
    value
        The baseline's objective.
    better
        Whether a value beats another.
    """

    def __init__(
        self,
        proposer: Proposer,
        start: Sequence[int],
        value: float | None,
        *,
        better: Callable[[float | None, float | None], bool],
    ) -> None:
        self._proposer = proposer
        self._better = better
        self._seen = {tuple(start)}
        self._known_in_row = 0
        self.weights = tuple(start)
        self.value = value
        #: Number of the experiment that is the incumbent, 0 for the baseline.
        self.incumbent = 0
        #: Experiments evaluated, the baseline aside.
        self.experiments = 0
        #: Proposals used up.
        self.proposals = 0
        #: Experiments since the last win.
        self.since_win = 0

    @property
    def exhausted(self) -> bool:
        """True when a thousand proposals in a row were known already."""
        return self._known_in_row >= EXHAUSTED_AFTER

    def restore(
        self, proposal: int, weights: tuple[int, ...], value: float | None, *, won: bool
    ) -> None:
        """Take in an experiment that was judged before, in the order of their numbers."""
        self.experiments += 1
        self.proposals = proposal
        self._seen.add(weights)
        self.since_win += 1
        if won:
            self.weights, self.value = weights, value
            self.incumbent, self.since_win = self.experiments, 0

    def ask(self, limit: int) -> Batch:
        """Return up to `limit` candidates to evaluate; fewer, or none, near exhaustion.

        Asking changes nothing: the same question gets the same answer until `tell`.
        """
        candidates: list[Candidate] = []
        fresh: set[tuple[int, ...]] = set()
        number, known = self.proposals, self._known_in_row
        while len(candidates) < limit and known < EXHAUSTED_AFTER:
            number += 1
            changes = self._proposer.propose(number, self.weights)
            weights = list(self.weights)
            for index, weight in changes.items():
                weights[index] = weight
            vector = tuple(weights)
            if vector in self._seen or vector in fresh:
                known += 1
                continue
            known = 0
            fresh.add(vector)
            candidates.append(Candidate(number, changes, vector))
        return Batch(self.weights, tuple(candidates), number, known)

    def tell(
        self,
        batch: Batch,
        values: Sequence[float | None],
        breaches: Callable[[int], tuple[str, ...]],
    ) -> list[Step]:
        """Judge a batch's candidates in order, up to the first that is kept.

        Parameters
        ----------
        batch
            From `ask`.
        values
            The objective of each candidate.
        breaches
            Names the guardrails that the candidate of a given place breaks; asked of would-be wins
            alone.

        Returns
        -------
        list of Step
            One a candidate judged. Candidates after a win are not: they are asked for anew, from
            the new incumbent.
        """
        steps: list[Step] = []
        for place, (candidate, value) in enumerate(zip(batch.candidates, values, strict=True)):
            self.experiments += 1
            self.proposals = candidate.proposal
            self._seen.add(candidate.weights)
            self._known_in_row = 0
            broken: tuple[str, ...] = ()
            outcome = Outcome.LOSE
            if self._better(value, self.value):
                broken = breaches(place)
                outcome = Outcome.BLOCKED if broken else Outcome.WIN
            steps.append(
                Step(
                    number=self.experiments,
                    candidate=candidate,
                    parent=self.incumbent,
                    before_weights=batch.parent,
                    before=self.value,
                    value=value,
                    outcome=outcome,
                    breaches=broken,
                )
            )
            if outcome is Outcome.WIN:
                self.weights, self.value = candidate.weights, value
                self.incumbent, self.since_win = self.experiments, 0
                return steps
            self.since_win += 1
        self.proposals = batch.last_proposal
        self._known_in_row = batch.trailing_known
        return steps
