"""Hill climbing by ask and tell: ask for candidates, tell their values, keep or revert."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from gtmar.optimize.proposers import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gtmar.optimize.proposers import Proposer

    Vector = tuple[int, ...]

__all__ = [
    "EXHAUSTED_AFTER",
    "MOST_GIVEN",
    "Batch",
    "Candidate",
    "Climb",
    "Given",
    "Known",
    "Memory",
    "Outcome",
    "Step",
]


#: Most vectors of earlier runs that are tried before any proposal.
MOST_GIVEN = 3
#: Consecutive proposals that were all known already, after which a search is exhausted.
EXHAUSTED_AFTER = 1000


class Outcome(StrEnum):
    """The outcome of an experiment."""

    BASELINE = "baseline"
    WIN = "win"
    LOSE = "lose"
    BLOCKED = "blocked"
    KNOWN = "known"


#: Makes a named tuple in half of the time that its own class takes.
_made = tuple.__new__
# Local names, since access to a member of the enum costs 0.25 microseconds, four times a step.
_WIN, _LOSE, _BLOCKED, _KNOWN = Outcome.WIN, Outcome.LOSE, Outcome.BLOCKED, Outcome.KNOWN


@dataclass(frozen=True)
class Known:
    """The result of a weight vector that an earlier run evaluated."""

    value: float | None
    #: The experiment: ``RUN/EXP``.
    source: str


@dataclass(frozen=True)
class Given:
    """Vectors of F weights that are tried before any proposal, in this order."""

    #: Their proposer in the journal: `memory`, `human` or `logistic`.
    by: str
    vectors: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Memory:
    """Results of earlier runs over the same table, objective and scale, frozen at a run's start.

    The start record contains the memory as JSON, so that a run can be resumed and replayed from its
    own files alone.
    """

    #: Ids of the runs, and names of the F weights.
    runs: tuple[str, ...]
    names: tuple[str, ...]
    #: Results by vector, the best first, null values last.
    known: dict[Vector, Known] = field(repr=False)
    #: The best vectors that no guardrail blocked, at most `MOST_GIVEN`.
    best: tuple[Vector, ...]

    @property
    def given(self) -> Given:
        """Return the best vectors, for a search to try first."""
        return Given("memory", self.best)

    @property
    def remembered(self) -> tuple[tuple[Vector, float], ...]:
        """Return vectors with their values, the best first, without null values."""
        pairs = ((vector, known.value) for vector, known in self.known.items())
        return tuple((vector, value) for vector, value in pairs if value is not None)

    def to_json(self) -> str:
        """Serialise to JSON; `from_json` restores an equal memory."""
        numbers = {run: number for number, run in enumerate(self.runs)}
        known = []
        for vector, result in self.known.items():
            run, _, experiment = result.source.partition("/")
            known.append([list(vector), result.value, numbers[run], experiment])
        return json.dumps(
            {"runs": self.runs, "names": self.names, "best": self.best, "known": known},
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Memory:
        """Restore a memory from the JSON of `to_json`."""
        data = json.loads(text)
        runs = tuple(data["runs"])
        return cls(
            runs=runs,
            names=tuple(data["names"]),
            known={
                tuple(vector): Known(value, f"{runs[number]}/{experiment}")
                for vector, value, number, experiment in data["known"]
            },
            best=tuple(tuple(vector) for vector in data["best"]),
        )

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the memory's JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


class Candidate(NamedTuple):
    """A full weight vector, and the proposal that it comes from.

    Candidates, steps and results are named tuples: there is one for every experiment, and creating
    a frozen dataclass takes three times as long.
    """

    #: Number of the proposal, from 1.
    proposal: int
    #: New weight by the number of the weight.
    changes: dict[int, int]
    #: All F weights.
    weights: tuple[int, ...]
    #: Name of the proposer.
    by: str = ""
    #: Its result in an earlier run; None if there is none.
    known: Known | None = None
    #: Whether that result is used; otherwise the candidate is evaluated.
    taken_over: bool = False


@dataclass(frozen=True)
class Batch:
    """Candidates from one incumbent, in the order of their proposals."""

    parent: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    #: Number of the last proposal examined, including known ones.
    last_proposal: int
    #: Consecutive known proposals at the end of the batch.
    trailing_known: int
    #: Candidates to evaluate: those that aren't taken over from an earlier run.
    fresh: tuple[Candidate, ...] = field(init=False)

    def __post_init__(self) -> None:
        fresh = tuple(c for c in self.candidates if not c.taken_over)
        object.__setattr__(self, "fresh", fresh)


class Step(NamedTuple):
    """One experiment with its outcome."""

    number: int
    candidate: Candidate
    #: Number of the incumbent's experiment, and its weights.
    parent: int
    before_weights: tuple[int, ...]
    before: float | None
    value: float | None
    outcome: Outcome
    #: Names of the guardrails that the candidate breaks, for a blocked one.
    breaches: tuple[str, ...] = ()


class Climb:
    """The state of one search: the incumbent, the vectors evaluated, and the proposals used.

    Parameters
    ----------
    proposer
        Suggests changes.
    start
        Weights of the baseline, F of them.
    value
        The baseline's objective.
    better
        Whether a value is better than another; both may be null.
    given
        Vectors to try first, in this order.
    known
        Results of earlier runs, by vector.
    """

    def __init__(
        self,
        proposer: Proposer,
        start: Sequence[int],
        value: float | None,
        *,
        better: Callable[[float | None, float | None], bool],
        given: Sequence[Given] = (),
        known: Mapping[tuple[int, ...], Known] | None = None,
    ) -> None:
        self._proposer = proposer
        self._better = better
        self._given = [(vector, each.by) for each in given for vector in each.vectors]
        self._known = known or {}
        self._seen = {tuple(start)}
        self._known_in_row = 0
        self.weights = tuple(start)
        self.value = value
        #: Number of the incumbent's experiment, 0 for the baseline.
        self.incumbent = 0
        #: Number of the last step, including those taken over from earlier runs.
        self.number = 0
        #: Experiments evaluated, without the baseline.
        self.experiments = 0
        #: Proposals used up.
        self.proposals = 0
        #: Experiments since the last win.
        self.since_win = 0

    @property
    def exhausted(self) -> bool:
        """Whether the last `EXHAUSTED_AFTER` proposals were all known already."""
        return self._known_in_row >= EXHAUSTED_AFTER

    def restore(
        self, proposal: int, weights: tuple[int, ...], value: float | None, outcome: str
    ) -> None:
        """Restore a recorded step; steps must be restored in the order of their numbers."""
        self._take_in(proposal, weights, value, Outcome(outcome))

    def _take_in(
        self, proposal: int, weights: tuple[int, ...], value: float | None, outcome: Outcome
    ) -> None:
        """Update the state by one judged step, and let the proposer learn from it."""
        self.number += 1
        # All proposals since the last fresh one were known or repeated.
        known = outcome is _KNOWN
        self._known_in_row = self._known_in_row + proposal - self.proposals if known else 0
        self.proposals = proposal
        self._seen.add(weights)
        won = outcome is _WIN
        self._proposer.learn(
            _made(Result, (proposal, self.weights, weights, self.value, value, won))
        )
        if not known:
            self.experiments += 1
            self.since_win += 1
        if won:
            self.weights, self.value = weights, value
            self.incumbent, self.since_win = self.number, 0

    def ask(self, limit: int, *, until: int | None = None, goes_on: bool = True) -> Batch:
        """Return the next candidates, with at most `limit` of them to evaluate.

        Asking has no side effect: until `tell`, the same call returns the same batch. A batch ends
        where the proposer needs results before it can continue, at proposal `until`, or when the
        search is exhausted; without `goes_on` at the end of the proposer's block, too.
        """
        candidates: list[Candidate] = []
        fresh: set[tuple[int, ...]] = set()
        seen, number = self._seen, self.proposals
        known_in_row, left = self._known_in_row, limit
        block = self._proposer.block
        # Where a block was begun before, results of its first candidates are known by now.
        ahead = goes_on and block is not None and number % block == 0
        end = None if block is None else (number // block + 1) * block
        while left and known_in_row < EXHAUSTED_AFTER and number != until:
            if number == end:
                if not (ahead and block is not None and self._proposer.goes_on(number, fresh)):
                    break
                end += block
            number += 1
            candidate = self._candidate(number)
            _, _, vector, _, _, taken_over = candidate
            if vector in seen or vector in fresh:
                known_in_row += 1
                continue
            known_in_row = known_in_row + 1 if taken_over else 0
            left -= not taken_over
            fresh.add(vector)
            candidates.append(candidate)
        return Batch(self.weights, tuple(candidates), number, known_in_row)

    def _candidate(self, number: int) -> Candidate:
        """Return the candidate of a proposal number, starting from the incumbent."""
        if number <= len(self._given):
            vector, by = self._given[number - 1]
            pairs = zip(self.weights, vector, strict=True)
            changes = {i: new for i, (old, new) in enumerate(pairs) if old != new}
        else:
            changes, by = self._proposer.propose(number, self.weights), self._proposer.name
            weights = list(self.weights)
            for index, weight in changes.items():
                weights[index] = weight
            vector = tuple(weights)
        known, taken_over = None, False
        if self._known:
            known = self._known.get(vector)
            taken_over = known is not None and not self._better(known.value, self.value)
        return _made(Candidate, (number, changes, vector, by, known, taken_over))

    def tell(
        self,
        batch: Batch,
        values: Sequence[float | None],
        breaches: Callable[[int], tuple[str, ...]],
    ) -> list[Step]:
        """Judge a batch's candidates in order, up to the first win.

        Parameters
        ----------
        batch
            From `ask`.
        values
            The objective of each of the batch's `fresh` candidates.
        breaches
            Returns the names of the guardrails that a fresh candidate, given by its index in
            `fresh`, breaks. Called only for candidates with a better value.

        Returns
        -------
        list of Step
            One per judged candidate. Candidates after a win are dropped, since the next `ask`
            starts from the new incumbent.
        """
        evaluated = enumerate(list(zip(batch.fresh, values, strict=True)))
        steps: list[Step] = []
        # The same for all: the first that is kept is the last that is judged.
        parent, before, beats = self.incumbent, self.value, self._better
        for candidate in batch.candidates:
            proposal, _, weights, _, known, taken_over = candidate
            broken: tuple[str, ...] = ()
            if taken_over and known is not None:
                outcome, value = _KNOWN, known.value
            else:
                number, (_, value) = next(evaluated)
                outcome = _LOSE
                if beats(value, before):
                    broken = breaches(number)
                    outcome = _BLOCKED if broken else _WIN
            row = (self.number + 1, candidate, parent, batch.parent, before, value, outcome, broken)
            steps.append(_made(Step, row))
            self._take_in(proposal, weights, value, outcome)
            if outcome is _WIN:
                return steps
        self.proposals = batch.last_proposal
        self._known_in_row = batch.trailing_known
        return steps
