"""What a run is to do: frozen, kept in its start record, and read back from there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gtmar.errors import UsageError, nearest
from gtmar.optimize.constraints import ConstrainedProposer, Constraints
from gtmar.optimize.hill_climb import Given, Memory
from gtmar.optimize.proposers import RandomProposer
from gtmar.optimize.surrogate_proposer import LearnedProposer
from gtmar.runs.findings import findings_in
from gtmar.runs.results import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.optimize.proposers import Proposer, SearchSpace
    from gtmar.runs.findings import Finding
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "DEFAULT_PROPOSER",
    "DEFAULT_START",
    "PROPOSERS",
    "STARTS",
    "Plan",
    "constraints_of",
    "make_proposer",
    "refuse_unknown_proposer",
    "refuse_unknown_start",
]

DEFAULT_PROPOSER = "learned"
PROPOSERS = ("random", "learned")
DEFAULT_START = "spec"
STARTS = ("spec", "logistic")


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Parameters
    ----------
    kind
        `search`; `human` for one change that a person proposes; `record` for one made elsewhere.
    seed, limits
        Of the search.
    proposer
        Who proposes: one of `PROPOSERS`.
    memory
        What earlier runs taught; None for nothing.
    start
        What is tried first: one of `STARTS`.
    given
        Vectors to try before any proposal, and before those that the memory holds best.
    batch
        Candidates evaluated ahead of their turn. Changes no result; None adapts.
    author, note
        Who asked, and why.
    as_of, holdout_as_of
        ISO dates that `days_before` counts from; the second in a holdout's own table.
    findings
        What a check of table and start brought out; None where it was not looked for yet.
    """

    kind: str = "search"
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    proposer: str = DEFAULT_PROPOSER
    memory: Memory | None = None
    start: str = DEFAULT_START
    given: Given | None = None
    batch: int | None = None
    author: str | None = None
    note: str | None = None
    as_of: str | None = None
    holdout_as_of: str | None = None
    findings: tuple[Finding, ...] | None = None

    @property
    def tried_first(self) -> tuple[Given, ...]:
        """What is tried before any proposal, in order."""
        remembered = self.memory.given if self.memory else None
        return tuple(given for given in (self.given, remembered) if given)

    @property
    def parameters(self) -> dict[str, object]:
        """Return what the start record keeps of it, apart from columns of their own."""
        given = self.given.vectors if self.given else ()
        return {
            "n": self.limits.experiments,
            "patience": self.limits.patience,
            "time_budget": self.limits.seconds,
            "proposer": self.proposer,
            "start": None if self.start == DEFAULT_START else self.start,
            "given": " ".join(",".join(map(str, vector)) for vector in given) or None,
            "as_of": self.as_of,
            "holdout_as_of": self.holdout_as_of,
        }

    @classmethod
    def of_record(cls, start: dict[str, Any]) -> Plan:
        """Read the plan of a run off its start record."""
        parameters = dict(start["parameters"])
        patience, seconds = parameters.get("patience"), parameters.get("time_budget")
        given, first = parameters.get("given"), parameters.get("start", DEFAULT_START)
        by = "human" if first == DEFAULT_START else first
        vectors = tuple(tuple(map(int, v.split(","))) for v in given.split()) if given else ()
        return cls(
            kind=start["kind"],
            seed=start["seed"],
            limits=Limits(
                experiments=int(parameters["n"]),
                patience=int(patience) if patience else None,
                seconds=float(seconds) if seconds else None,
            ),
            proposer=parameters["proposer"],
            memory=Memory.from_json(start["memory"]) if start["memory"] else None,
            start=first,
            given=Given(by, vectors) if vectors else None,
            author=start["author"],
            note=start["note"],
            as_of=parameters.get("as_of"),
            holdout_as_of=parameters.get("holdout_as_of"),
            findings=findings_in(parameters),
        )

    def up_to(self, proposals: int) -> Plan:
        """Return the plan that stops where a run stopped, for whatever reason that was."""
        limits = Limits(experiments=2**62, proposals=proposals)
        return replace(self, limits=limits)


def make_proposer(
    name: str,
    levers: SearchSpace,
    *,
    seed: int,
    sign: int,
    remembered: Sequence[tuple[tuple[int, ...], float]] = (),
    constraints: Constraints | None = None,
) -> Proposer:
    """Return a proposer by its name.

    Parameters
    ----------
    name
        One of `PROPOSERS`.
    levers, seed
        What may move, and the key of all chance.
    sign
        1 where more of the objective is better, -1 where less is.
    remembered
        Vectors and their values from earlier runs, the best first.
    constraints
        What the weights hold together.

    Raises
    ------
    UsageError
        If there is no such proposer.
    """
    refuse_unknown_proposer(name)
    proposer: Proposer = (
        RandomProposer(levers, seed=seed)
        if name == "random"
        else LearnedProposer(levers, seed=seed, sign=sign, remembered=remembered)
    )
    return ConstrainedProposer(proposer, constraints, levers) if constraints else proposer


def refuse_unknown_proposer(name: str) -> None:
    """Refuse a name that is none of `PROPOSERS`, before anything is written.

    Raises
    ------
    UsageError
        If it is none.
    """
    if name not in PROPOSERS:
        likely = nearest(name, PROPOSERS)
        raise UsageError(
            f'no proposer "{name}"; there are {", ".join(PROPOSERS)}',
            hint=f"--proposer {likely or DEFAULT_PROPOSER}",
        )


def refuse_unknown_start(name: str) -> None:
    """Refuse a name that is none of `STARTS`, before anything is written.

    Raises
    ------
    UsageError
        If it is none.
    """
    if name not in STARTS:
        raise UsageError(
            f'no start "{name}"; there are {", ".join(STARTS)}',
            hint=f"--start {nearest(name, STARTS) or DEFAULT_START}",
        )


def constraints_of(spec: ScoringSpec) -> Constraints:
    """Return what a spec's weights hold together, as the search takes it."""
    own = spec.constraints
    return Constraints() if own is None else Constraints(own.total, own.most_nonzero)
