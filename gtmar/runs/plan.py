"""The plan of a run, as its start record keeps it, and the engine that the run computes on.

Also the bounds and constraints of a spec's weights, for searches and for changes by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar import spec as specs
from gtmar.data.outcomes import Movement
from gtmar.errors import SpecError, UsageError, nearest
from gtmar.optimize.constraints import ConstrainedProposer, WeightConstraints
from gtmar.optimize.hill_climb import Given, Memory
from gtmar.optimize.logistic_start import Labelled, logistic_starts
from gtmar.optimize.proposers import RandomProposer, SearchSpace
from gtmar.optimize.search_loop import Limits
from gtmar.optimize.surrogate_proposer import LearnedProposer
from gtmar.runs.results import findings_in
from gtmar.spec.model import VALUE_UNITS
from gtmar.validation.search_pays import SearchPays

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gtmar.data.matrix import AccountMatrix
    from gtmar.engine.evaluator import Evaluator
    from gtmar.engine.processes import Processes
    from gtmar.engine.ray_shards import ClusterRows
    from gtmar.optimize.proposers import Proposer
    from gtmar.runs.results import Finding
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "DEFAULT_PROPOSER",
    "DEFAULT_START",
    "ENGINES",
    "PROPOSERS",
    "STARTS",
    "Engine",
    "Plan",
    "constraints_of",
    "given_at_start",
    "refuse_unfit",
    "refuse_unknown",
    "search_space_of",
    "vector_of",
    "with_locked_weights",
]

DEFAULT_PROPOSER = "learned"
PROPOSERS = ("random", "learned")
DEFAULT_START = "spec"
STARTS = ("spec", "logistic")
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Plan:
    """What a run is to do."""

    #: `search`; `human` for one change that a person proposes; `record` for one made elsewhere.
    kind: str = "search"
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    #: One of `PROPOSERS`.
    proposer: str = DEFAULT_PROPOSER
    #: Results of earlier runs; None for a cold start.
    memory: Memory | None = None
    #: Where to begin: one of `STARTS`.
    start: str = DEFAULT_START
    #: Vectors to try first, before the best ones of the memory and before any proposal.
    given: Given | None = None
    #: Candidates evaluated ahead of their turn, which changes no result; None adapts the number.
    batch: int | None = None
    #: Who asked for the run, and why.
    author: str | None = None
    note: str | None = None
    #: What should come of it, in words or as a promise; None if nobody said.
    expect: str | None = None
    #: ISO dates that `days_before` counts from; the second in a holdout's own table.
    as_of: str | None = None
    holdout_as_of: str | None = None
    #: Lower edges by tier before a change of edges by hand, as JSON; None for any other run.
    tiers_before: str | None = None
    #: Id of the spec with the weights that a person proposes, by which an earlier look at the
    #: holdout is known as the same comparison; None for a search.
    changed_spec_id: str | None = None
    #: Whether the search pays on accounts that it doesn't see; None if nobody asked.
    search_pays: SearchPays | None = None
    #: Findings of the check of table and start; None before it is made.
    findings: tuple[Finding, ...] | None = None

    @property
    def only_first(self) -> bool:
        """Whether the search is to try `given` alone, as more doesn't pay."""
        return self.search_pays is not None and not self.search_pays.pays

    def ended_by_folds(self) -> Plan:
        """Return the plan with the limit, and without the memory, of a search that doesn't pay."""
        if not self.only_first:
            return self
        given = self.given.vectors if self.given else ()
        return replace(self, limits=replace(self.limits, proposals=len(given)), memory=None)

    @property
    def tried_first(self) -> tuple[Given, ...]:
        """Vectors that are tried before any proposal, in order."""
        remembered = self.memory.given if self.memory else None
        return tuple(given for given in (self.given, remembered) if given)

    @property
    def parameters(self) -> dict[str, object]:
        """Return the plan as parameters of the start record, without what has its own column."""
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
            "tiers_before": self.tiers_before,
            "changed_spec_id": self.changed_spec_id,
            "expect": self.expect,
            "folds": self.search_pays and len(self.search_pays.first),
            "search_pays": self.search_pays
            and json.dumps(self.search_pays.as_json(), sort_keys=True),
        }

    @classmethod
    def of_record(cls, start: dict[str, Any]) -> Plan:
        """Return the plan of a recorded run, from its start record."""
        parameters = dict(start["parameters"])
        patience, seconds = parameters.get("patience"), parameters.get("time_budget")
        given, first = parameters.get("given"), parameters.get("start", DEFAULT_START)
        by = "human" if first == DEFAULT_START else first
        vectors = tuple(tuple(map(int, v.split(","))) for v in given.split()) if given else ()
        answer = parameters.get("search_pays")
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
            expect=parameters.get("expect"),
            as_of=parameters.get("as_of"),
            holdout_as_of=parameters.get("holdout_as_of"),
            search_pays=SearchPays.of_json(answer) if answer else None,
            findings=findings_in(parameters),
        ).ended_by_folds()

    def make_proposer(self, spec: ScoringSpec, *, sign: int, warm: bool = False) -> Proposer:
        """Return the proposer for a spec's weights.

        `sign` is 1 if more of the objective is better, -1 if less is. With `warm`, the proposer
        first learns the results in the memory.
        """
        refuse_unknown("proposer", self.proposer, PROPOSERS)
        space = search_space_of(spec)
        remembered = self.memory.remembered if warm and self.memory else ()
        proposer: Proposer = (
            RandomProposer(space, seed=self.seed)
            if self.proposer == "random"
            else LearnedProposer(space, seed=self.seed, sign=sign, remembered=remembered)
        )
        constraints = constraints_of(spec)
        return ConstrainedProposer(proposer, constraints, space) if constraints else proposer

    def up_to(self, proposals: int) -> Plan:
        """Return the plan that stops after so many proposals, for a replay of an ended run."""
        return replace(self, limits=Limits(experiments=2**62, proposals=proposals))


def refuse_unknown(noun: str, name: str, known: tuple[str, ...]) -> None:
    """Raise `UsageError` for an unknown name; `noun` is ``proposer`` or ``start``."""
    if name not in known:
        default = {"proposer": DEFAULT_PROPOSER, "start": DEFAULT_START}[noun]
        raise UsageError(
            f'no {noun} "{name}"; there are {", ".join(known)}',
            hint=f"--{noun} {nearest(name, known) or default}",
        )


def constraints_of(spec: ScoringSpec) -> WeightConstraints:
    """Return the constraints on a spec's weights, as the search needs them."""
    own, ordered = spec.constraints, spec.ordered_terms
    if own is None:
        return WeightConstraints(ordered=ordered)
    return WeightConstraints(own.total, own.most_nonzero, ordered)


def given_at_start(start: str, matrix: AccountMatrix, spec: ScoringSpec) -> Given | None:
    """Return the vectors that one of `STARTS` tries first; None for `spec`, which tries none.

    `matrix` must have only the accounts that are searched. Raises `UsageError` if the table says of
    no account whether it stayed.
    """
    if start == DEFAULT_START:
        return None
    if not matrix.outcomes.labelled:
        raise UsageError(
            f'start "{start}" is fitted to who stayed and who left; the table has none of '
            "retained_6mo, churned, mrr_end",
            hint="name your column in the spec's outcomes, or start with --start spec",
        )
    labelled = matrix.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING)
    rows = np.arange(labelled.start, labelled.stop)
    stayed = rows >= matrix.offsets[Movement.KEPT_REVENUE_LOST]
    groups: dict[str, list[int]] = {}
    for number, term in enumerate(spec.terms):
        if term.bin is not None:
            groups.setdefault(term.feature, []).append(number)
    vectors = logistic_starts(
        Labelled(tuple(column[labelled] for column in matrix.columns), stayed),
        spec.vector,
        search_space_of(spec),
        groups=tuple(groups.values()),
        sign=1 if spec.orientation == "health" else -1,
        constraints=constraints_of(spec),
        within=(-spec.base * VALUE_UNITS, (spec.max_score - spec.base) * VALUE_UNITS),
    )
    return Given(start, vectors)


def search_space_of(spec: ScoringSpec) -> SearchSpace:
    """Return the names and bounds of a spec's weights."""
    names, low, high = (
        tuple(getattr(term, field) for term in spec.terms) for field in ("name", "min", "max")
    )
    return SearchSpace(names, low, high)


@dataclass(frozen=True)
class Engine:
    """Where a run computes. None of it changes the journal: digests are the same.

    But for `own_rows` where a run would ask in folds whether its search pays: see `runs.folds`.
    """

    #: `local`, this process; or `ray`, shards of the table in processes of a Ray cluster.
    kind: str = "local"
    #: Bytes of memory for the table; a larger one is mapped from a temporary file. None for half of
    #: the machine's memory.
    memory: int | None = None
    #: Address of a running cluster; None starts one on this machine.
    address: str | None = None
    #: Parts of the table, each in a process; None for one on each machine of the cluster.
    shards: int | None = None
    #: Whether each shard reads its own rows of the source, so that no process reads all of them.
    own_rows: bool = False

    def __post_init__(self) -> None:
        """Raise one `UsageError` for all options that don't fit together."""
        wrong, hint = [], None
        if self.kind not in ENGINES:
            wrong.append(f'no engine "{self.kind}"; there are {", ".join(ENGINES)}')
            hint = f"--engine {nearest(self.kind, ENGINES) or 'local'}"
        elif self.kind == "local" and (self.address is not None or self.shards is not None):
            wrong.append("an address and a number of shards are for the engine ray")
            hint = "--engine ray"
        elif self.kind == "local" and self.own_rows:
            wrong.append("rows are read by shards of the engine ray alone")
            hint = "--engine ray"
        if self.shards is not None and self.shards < 1:
            wrong.append(f"shards must be 1 or more, got {self.shards}")
        if self.memory is not None and self.memory < 0:
            wrong.append(f"memory must be 0 bytes or more, got {self.memory}")
        if wrong:
            raise UsageError("; ".join(wrong), hint=hint)

    @contextmanager
    def rows(self) -> Iterator[ClusterRows | None]:
        """Yield the shards that read the table's rows; None if this process does.

        Errors are those of `evaluator`.
        """
        if not self.own_rows:
            yield None
            return
        from gtmar.engine.ray_cluster import connected
        from gtmar.engine.ray_shards import ClusterRows

        with connected(self.address) as ray, closing(ClusterRows(ray, self.shards)) as rows:
            yield rows

    @contextmanager
    def evaluator(
        self, matrix: AccountMatrix, spec: ScoringSpec, rows: ClusterRows | None = None
    ) -> Iterator[Evaluator | None]:
        """Yield an evaluator on the cluster for a matrix; None if this process evaluates.

        `rows` are the shards that read the table, if any did. Raises `UsageError` if Ray isn't
        installed, `ResourceError` if there is no cluster.
        """
        if self.kind == "local":
            yield None
            return
        from gtmar.engine.ray_cluster import connected
        from gtmar.engine.ray_shards import ClusterEvaluator

        with connected(self.address) as ray:
            how: dict[str, Any] = {"shards": self.shards, "rows": rows, "by_rule": True}
            evaluator = ClusterEvaluator(ray, matrix, spec, **how)
            with closing(evaluator):
                yield evaluator

    def processes(self, workers: int | None) -> Processes:
        """Return a pool of processes for searches side by side, on this machine or the cluster.

        Entering that of a cluster raises the errors of `evaluator`.
        """
        if self.kind == "local":
            from gtmar.engine.processes import Processes

            return Processes(workers)
        from gtmar.engine.ray_cluster import ClusterProcesses

        return ClusterProcesses(workers, self.address)


# ---- weights by name -----------------------------------------------------------------------------


def vector_of(spec: ScoringSpec, weights: Mapping[str, int]) -> tuple[int, ...]:
    """Return F weights: those that are named, and the spec's own for the others.

    Raises `SpecError` unless they are whole numbers that the spec allows. The checks are those of
    `specs.reweighed`, which is called only for its error message, since it takes a millisecond.
    """
    refuse_unfit(spec, weights)
    vector = tuple(int(weights.get(term.name, term.weight)) for term in spec.terms)
    if not constraints_of(spec).hold(vector):
        specs.reweighed(spec, weights)
    return vector


def refuse_unfit(spec: ScoringSpec, weights: Mapping[str, int]) -> None:
    """Raise one `SpecError` for all names and weights that a spec doesn't allow.

    `UsageError` if `weights` is no mapping.
    """
    if not isinstance(weights, Mapping):
        raise UsageError(
            f"weights are numbers by name, got a {type(weights).__name__}", hint='{"nps": 12}'
        )
    terms = {term.name: term for term in spec.terms}
    wrong = [
        f'"{name}" is a whole number, got {weight!r}'
        for name, weight in weights.items()
        if name in terms and (isinstance(weight, bool) or not isinstance(weight, Integral))
    ]
    if wrong:
        raise SpecError(f'spec "{spec.model}": {"; ".join(wrong)}')
    outside = (n not in terms or not terms[n].min <= w <= terms[n].max for n, w in weights.items())
    if any(outside):
        # Raises the error.
        specs.reweighed(spec, weights)


def with_locked_weights(spec: ScoringSpec, locked: Collection[str]) -> ScoringSpec:
    """Return a spec in which the bounds of some weights are the weights themselves.

    Raises `SpecError` if a name is no weight.
    """
    own = spec.weights
    refuse_unfit(spec, {name: own.get(name, 0) for name in locked})
    data = spec.model_dump(mode="json", by_alias=True)
    for term in spec.terms:
        if term.name in locked:
            feature = data["features"][term.feature]
            bounded = feature if term.bin is None else feature["encode"]["bins"][term.bin]
            bounded |= {"min": term.weight, "max": term.weight}
    return specs.ScoringSpec.model_validate(data)
