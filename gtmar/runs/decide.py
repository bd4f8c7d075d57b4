"""The decision on a candidate: measured on accounts that no search saw, and put on record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.data.sources import Source
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import UsageError
from gtmar.html import sentence
from gtmar.html import table as html_table
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.history import checkout
from gtmar.journal.review import why_none
from gtmar.metrics.metric import basis_note
from gtmar.objective.guardrails import Guard
from gtmar.runs.decision_folder import new_folder, write_dossier
from gtmar.runs.findings import warnings_of
from gtmar.runs.holdout import later_source, looks_at, record_look, shared_note
from gtmar.runs.input_files import file_hashes, refuse_changed
from gtmar.runs.run import run
from gtmar.runs.segments import segment_panels, segmented
from gtmar.runs.session import ended_run
from gtmar.stats.interval import level_of
from gtmar.validation.gates import Gate, Gates, Verdict, judged, segment_safety, verdict_of
from gtmar.validation.intervals import Uncertainty, panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.sources import Tabular
    from gtmar.objective.objective import Judge
    from gtmar.optimize.search_loop import Limits
    from gtmar.runs.findings import Finding
    from gtmar.runs.results import Progress
    from gtmar.spec.model import ScoringSpec

__all__ = ["Case", "Decided", "case_of", "decide", "decided_on", "refresh"]


@dataclass(frozen=True)
class Decided:
    """A verdict, with all that it rests on."""

    verdict: Verdict
    gates: tuple[Gate, ...]
    stated: Gates
    run_id: str
    #: ``RUN/EXP`` of the candidate.
    experiment: str
    objective: str
    higher_is_better: bool
    incumbent: ScoringSpec = field(repr=False)
    candidate: ScoringSpec = field(repr=False)
    #: The table with the untouched accounts, and how many they are.
    source: str
    accounts: int
    #: Comparisons made on them so far, this one included, and the level that follows.
    looks: int
    level: float
    intervals: Uncertainty = field(repr=False)
    #: Accounts by tier before (rows) and after (columns), tiers from the highest down.
    moves: tuple[tuple[int, ...], ...]
    #: SHA-256 by file, and fingerprints of the tables.
    inputs: dict[str, str]
    fingerprints: dict[str, str]
    notes: tuple[str, ...] = ()
    folder: str | None = None
    event_id: str | None = None
    #: What a check of the searched table brought out, copies in the holdout's included.
    findings: tuple[Finding, ...] = ()
    #: `binary` where MRR is assumed flat, so that NRR and GRR are logo retention by revenue.
    basis: str | None = None

    @property
    def segment_safety(self) -> str:
        """What is known of the segments: in which the gates failed, are unknown, or passed."""
        return segment_safety(gate.as_json() for gate in self.gates)

    @property
    def headline(self) -> list[str]:
        """Return what stands right below the verdict: findings, segments."""
        return [*warnings_of(self.findings), f"Segment safety: {self.segment_safety}."]

    def _repr_html_(self) -> str:
        rows = [(gate.name, gate.limit, gate.found, gate.outcome) for gate in self.gates]
        said = "".join(map(sentence, self.headline))
        heads = ("gate", "stated beforehand", "measured", "")
        return said + html_table(heads, rows, caption=str(self.verdict))

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        plain = (
            "run_id experiment objective higher_is_better source accounts looks level moves inputs "
            "fingerprints notes folder event_id segment_safety basis"
        )
        return {
            "verdict": str(self.verdict),
            "gates": [gate.as_json() for gate in self.gates],
            "stated": self.stated.as_json(),
            **{name: getattr(self, name) for name in plain.split()},
            "tiers": list(self.incumbent.tier_names),
            "incumbent": {"spec_id": specs.spec_id(self.incumbent), **_weights(self.incumbent)},
            "candidate": {"spec_id": specs.spec_id(self.candidate), **_weights(self.candidate)},
            "intervals": self.intervals.as_json(),
            "findings": [finding.as_json() for finding in self.findings],
        }


def _weights(spec: ScoringSpec) -> dict[str, Any]:
    return {"score_id": specs.score_id(spec), "weights": spec.weights}


def decide(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
    gates: Gates | None = None,
    folder: str | Path | None = None,
    author: str | None = None,
    note: str | None = None,
) -> Decided:
    """Decide on a run's best against its start, on the run's holdout.

    Parameters
    ----------
    run_id
        The run's full id.
    journal
        The journal's folder.
    data, holdout_file
        The account table and the holdout's own, where they have moved since.
    gates
        What the candidate must pass; None for a proven gain and the spec's guardrails. Without
        segments of their own they ask of the spec's.
    folder
        New folder for report, account changes, specs and manifest; None for none.
    author, note
        Who asks, and why.

    Raises
    ------
    UsageError
        If the run had no holdout, or the folder exists.
    NotResumableError
        If a table isn't the run's.
    AccountDataError
        If an input changed meanwhile; nothing is written then.
    """
    new_folder(folder, data, holdout_file, journal)
    return decided_on(
        case_of(
            run_id,
            journal=journal,
            data=data,
            holdout_file=holdout_file,
            gates=gates,
            folder=folder,
            author=author,
            note=note,
        )
    )


def case_of(
    run_id: str,
    *,
    journal: str | Path,
    data: Any,
    holdout_file: Any,
    gates: Gates | None,
    folder: str | Path | None,
    author: str | None,
    note: str | None,
) -> Case:
    """Make the case of a run's best against its start.

    Parameters and errors are those of `decide`.
    """
    session = ended_run(run_id, journal, data, holdout_file, only_search=True)
    start, ended, accounts = session.start, session.end, session.accounts
    later = accounts.later
    parameters = dict(start["parameters"])
    sources = [data if data is not None else Source.of_record(start["source"], parameters)]
    if later is not None:
        sources.append(holdout_file if holdout_file is not None else later_source(parameters))
    before = file_hashes(*sources)
    if accounts.holdout is None:
        raise UsageError(
            f"run {run_id} had no holdout: every account was searched",
            hint="gtmar run --holdout-file LATER_TABLE, or gtmar refresh",
        )
    with Journal(journal) as opened:
        candidate = checkout(opened, f"{run_id}/{ended['best_experiment']}")
        blocked = None if ended["wins"] else why_none(opened, run_id)
    with session.search() as search:
        findings = search.findings
    plan = session.plan
    return Case(
        journal=Path(journal),
        run_id=run_id,
        experiment=f"{run_id}/{ended['best_experiment']}",
        incumbent=session.spec,
        candidate=candidate,
        judge=session.judge,
        gates=gates or Gates(),
        accounts=later or accounts,
        untouched=accounts.holdout,
        held_out=later is None,
        as_of=plan.as_of if later is None else plan.holdout_as_of or plan.as_of,
        sources=tuple(sources),
        hashes=before,
        folder=folder,
        author=author,
        note=note,
        notes=shared_note(accounts),
        findings=findings,
        blocked=blocked,
    )


@dataclass(frozen=True)
class Case:
    """All that a decision is made of."""

    journal: Path
    run_id: str
    experiment: str
    incumbent: ScoringSpec
    candidate: ScoringSpec
    judge: Judge
    gates: Gates
    accounts: Accounts
    untouched: AccountMatrix
    #: Whether the untouched accounts are the holdout of the table, or all of it.
    held_out: bool
    as_of: str | None
    sources: tuple[Any, ...]
    hashes: dict[str, str]
    folder: str | Path | None
    author: str | None
    note: str | None
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    #: Why better experiments were not kept; None where there were none.
    blocked: str | None = None


def decided_on(case: Case) -> Decided:
    """Measure, judge, put on record, write; in this order, and nothing if an input changed.

    Raises
    ------
    UsageError
        If a segment's column isn't there, or the folder can't be written.
    AccountDataError
        If an input changed since the case was made.
    """
    output = new_folder(case.folder, *case.sources, case.journal)
    spec, judge, table = case.incumbent, case.judge, case.accounts.table
    # The spec's own segments are looked at, unless somebody named others.
    stated = replace(case.gates, segments=case.gates.segments or spec.segments)
    old, new = ([weights[t.name] for t in spec.terms] for weights in _both_weights(case))
    looks = looks_at(case.journal, case.accounts.outcomes_fingerprint, case.experiment)
    level = level_of(looks)
    panel = panel_of(case.untouched, spec, old, new)
    parts = segmented(case.accounts, spec, stated.segments, as_of=case.as_of)
    untouched = parts.holdout if case.held_out else parts.search
    segments = {} if untouched is None else segment_panels(untouched, spec, old, new)
    frame = LocalEvaluator(case.untouched, spec).frame([old, new])
    before, after = judge.values(frame)
    guard = Guard(case.untouched, spec, judge, old)
    gates = judged(
        panel,
        judge,
        stated,
        level=level,
        changed=old != new,
        breaches=guard.breaches(frame[1], new, after, before),
        segments=segments,
        leaking=[each.column for each in case.findings if each.grade == "error" and each.column],
        repeated=case.accounts.repeated[1 if case.held_out else 0],
    )
    if case.blocked and old == new:
        gates = tuple(replace(gate, found=case.blocked) for gate in gates)
    basis = case.accounts.checked.outcomes.basis
    tiers = range(len(spec.tiers))
    moves = tuple(
        tuple(int(((panel.before.tiers == a) & (panel.after.tiers == b)).sum()) for b in tiers)
        for a in tiers
    )
    decided = Decided(
        verdict=verdict_of(gates),
        gates=gates,
        stated=stated,
        run_id=case.run_id,
        experiment=case.experiment,
        objective=judge.name,
        higher_is_better=judge.sign > 0,
        incumbent=spec,
        candidate=case.candidate,
        source=table.source,
        accounts=case.untouched.accounts,
        looks=looks,
        level=level,
        intervals=uncertainty(panel, level=level),
        moves=moves,
        inputs=case.hashes,
        fingerprints={
            "outcomes": case.accounts.outcomes_fingerprint,
            "features": case.accounts.features_fingerprint,
        },
        notes=tuple(filter(None, (*case.notes, basis_note(basis)))),
        findings=case.findings,
        basis=basis,
    )
    refuse_changed(case.hashes, *case.sources)
    decided = replace(decided, event_id=_put_on_record(case, decided, before, after))
    if output is None:
        return decided
    decided = replace(decided, folder=str(case.folder))
    write_dossier(output, decided, table, as_of=case.as_of)
    return decided


def _both_weights(case: Case) -> tuple[dict[str, int], dict[str, int]]:
    return case.incumbent.weights, case.candidate.weights


def _put_on_record(case: Case, decided: Decided, before: float | None, after: float | None) -> str:
    """Write the look and the decision as events; return the latter's id."""
    shared = {
        "author": case.author,
        "note": case.note,
        "model": case.incumbent.model,
        "spec_id": specs.spec_id(case.incumbent),
        "run_id": case.run_id,
        "experiment_id": case.experiment.partition("/")[2],
        "source": decided.source,
    }
    record_look(
        case.journal,
        case.accounts.outcomes_fingerprint,
        case.experiment,
        objective=decided.objective,
        before=before,
        after=after,
        higher_is_better=decided.higher_is_better,
        **shared,
    )
    return write_event(
        case.journal,
        EventKind.DECISION,
        details={
            "verdict": str(decided.verdict),
            "gates": [gate.as_json() for gate in decided.gates],
            "stated": decided.stated.as_json(),
            "segment_safety": decided.segment_safety,
            "findings": [finding.as_json() for finding in decided.findings],
            "looks": decided.looks,
            "level": decided.level,
            "incumbent": specs.score_id(case.incumbent),
            "candidate": specs.score_id(case.candidate),
        },
        **shared,
    )


def refresh(
    train: Tabular,
    holdout: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    journal: str | Path = "journal",
    metric: str | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    gates: Gates | None = None,
    folder: str | Path | None = None,
    as_of: str | None = None,
    holdout_as_of: str | None = None,
    drop_unlabelled: bool = False,
    author: str | None = None,
    note: str | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Decided:
    """Search one table from the incumbent, and decide on another that the search never saw.

    Parameters
    ----------
    train
        The table to search, whole.
    holdout
        The table to decide on, best a later window.
    spec
        The incumbent, or its file.
    metric, limits, seed, watch
        As for `run`.
    as_of, holdout_as_of
        ISO dates that `days_before` counts from, in either table.
    drop_unlabelled
        Leave accounts without any outcome out of both, and count them.
    journal, gates, folder, author, note
        As for `decide`.

    Raises
    ------
    UsageError
        If the folder exists.
    AccountDataError
        If a table breaks the contract, rows stand in both, or an input changed meanwhile.
    """
    new_folder(folder, train, holdout, spec, journal)
    sources = (train, holdout, spec)
    before = file_hashes(*sources)
    found = run(
        train,
        spec,
        metric=metric,
        limits=limits,
        seed=seed,
        journal=journal,
        holdout_file=holdout,
        as_of=as_of,
        holdout_as_of=holdout_as_of,
        drop_unlabelled=drop_unlabelled,
        author=author,
        note=note,
        cold=True,
        watch=watch,
    )
    refuse_changed(before, *sources)
    case = case_of(
        found.run_id,
        journal=journal,
        data=train,
        holdout_file=holdout,
        gates=gates,
        folder=folder,
        author=author,
        note=note,
    )
    return decided_on(replace(case, sources=sources, hashes=before))
