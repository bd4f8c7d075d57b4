"""The decision on a candidate: measured on accounts that no search saw, and put on record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar import spec as specs
from gtmar.accounts.matrix import load_accounts
from gtmar.accounts.scan import AccountTable, collect, scan
from gtmar.errors import AccountDataError, UsageError
from gtmar.evaluate.local import LocalEvaluator
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.history import checkout
from gtmar.objective import Judge
from gtmar.proof.decision import Gate, Gates, Verdict, judged, verdict_of
from gtmar.proof.interval import level_of
from gtmar.proof.uncertainty import Uncertainty, panel_of, uncertainty
from gtmar.runs.dossier import refuse_existing, write_dossier
from gtmar.runs.inputs import file_hashes, refuse_changed
from gtmar.runs.proving import past_search
from gtmar.runs.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.accounts.matrix import AccountMatrix, Accounts
    from gtmar.proof.panel import Panel
    from gtmar.runs.results import Limits, Progress
    from gtmar.spec.model import ScoringSpec

__all__ = ["Decided", "decide", "refresh"]

#: Values of a segment column at most; more are no segments but ids.
_MOST_SEGMENTS = 50
_UNKNOWN_SEGMENT = "(unknown)"


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

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        plain = (
            "run_id experiment objective higher_is_better source accounts looks level moves inputs "
            "fingerprints notes folder event_id"
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
        }


def _weights(spec: ScoringSpec) -> dict[str, Any]:
    return {"score_id": specs.score_id(spec), "weights": spec.weights}


def decide(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: str | Path | pl.DataFrame | pl.LazyFrame | None = None,
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
    data
        The account table, where it has moved since.
    gates
        What the candidate must pass; None for a proven gain and the spec's guardrails.
    folder
        New folder for report, account changes, specs and manifest; None for none.
    author, note
        Who asks, and why.

    Raises
    ------
    UsageError
        If the run had no holdout, or the folder exists.
    NotResumableError
        If the table isn't the run's.
    AccountDataError
        If an input changed meanwhile; nothing is written then.
    """
    gates = gates or Gates()
    refuse_existing(folder)
    start, ended, search = past_search(run_id, journal, data)
    table = data if data is not None else start["source"]
    before = file_hashes(table)
    if search.accounts.holdout is None:
        raise UsageError(
            f"run {run_id} had no holdout: every account was searched",
            hint="gtmar refresh --train TABLE --holdout LATER_TABLE --spec SPEC",
        )
    with Journal(journal) as opened:
        candidate = checkout(opened, f"{run_id}/{ended['best_experiment']}")
    return _decided(
        _Case(
            journal=Path(journal),
            run_id=run_id,
            experiment=f"{run_id}/{ended['best_experiment']}",
            incumbent=search.spec,
            candidate=candidate,
            judge=search.judge,
            gates=gates,
            accounts=search.accounts,
            untouched=search.accounts.holdout,
            held_out=True,
            as_of=search.plan.as_of,
            sources=(table,),
            hashes=before,
            folder=folder,
            author=author,
            note=note,
        )
    )


def refresh(
    train: str | Path | pl.DataFrame | pl.LazyFrame,
    holdout: str | Path | pl.DataFrame | pl.LazyFrame,
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
    journal, gates, folder, author, note
        As for `decide`.

    Raises
    ------
    UsageError
        If both tables have the same outcomes, or the folder exists.
    AccountDataError
        If a table breaks the contract, or an input changed meanwhile.
    """
    gates = gates or Gates()
    refuse_existing(folder)
    sources = (train, holdout, spec)
    before = file_hashes(*sources)
    incumbent = spec if isinstance(spec, specs.ScoringSpec) else specs.load(spec)
    whole = incumbent.model_copy(
        update={"split": incumbent.split.model_copy(update={"holdout": 0.0})}
    )
    judge = Judge.of(whole, metric)
    later = load_accounts(scan(holdout), whole, as_of=holdout_as_of or as_of)
    shared = _shared_accounts(scan(train), later)
    found = run(
        train,
        whole,
        metric=metric,
        limits=limits,
        seed=seed,
        journal=journal,
        as_of=as_of,
        author=author,
        note=note,
        cold=True,
        watch=watch,
    )
    return _decided(
        _Case(
            journal=Path(journal),
            run_id=found.run_id,
            experiment=f"{found.run_id}/{found.best_experiment}",
            incumbent=whole,
            candidate=found.spec,
            judge=judge,
            gates=gates,
            accounts=later,
            untouched=later.search,
            held_out=False,
            as_of=holdout_as_of or as_of,
            sources=sources,
            hashes=before,
            folder=folder,
            author=author,
            note=note,
            notes=shared,
        )
    )


@dataclass(frozen=True)
class _Case:
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


def _decided(case: _Case) -> Decided:
    spec, judge, table = case.incumbent, case.judge, case.accounts.table
    old, new = ([weights[t.name] for t in spec.terms] for weights in _both_weights(case))
    looks = _looks(case)
    level = level_of(looks)
    panel = panel_of(case.untouched, spec, old, new)
    frame = LocalEvaluator(case.untouched, spec).frame([old, new])
    gates = judged(
        panel,
        judge,
        case.gates,
        level=level,
        changed=old != new,
        breaches=judge.breaches(frame[1]),
        segments=_segments(case, old, new),
    )
    tiers = range(len(spec.tiers))
    moves = tuple(
        tuple(int(((panel.before.tiers == a) & (panel.after.tiers == b)).sum()) for b in tiers)
        for a in tiers
    )
    decided = Decided(
        verdict=verdict_of(gates),
        gates=gates,
        stated=case.gates,
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
        notes=case.notes,
    )
    refuse_changed(case.hashes, *case.sources)
    before, after = judge.values(frame)
    decided = replace(decided, event_id=_put_on_record(case, decided, before, after))
    if case.folder is None:
        return decided
    decided = replace(decided, folder=str(case.folder))
    write_dossier(Path(case.folder), decided, table, as_of=case.as_of)
    return decided


def _both_weights(case: _Case) -> tuple[dict[str, int], dict[str, int]]:
    return case.incumbent.weights, case.candidate.weights


def _looks(case: _Case) -> int:
    """Count the comparisons on these accounts, this one included."""
    fingerprint = case.accounts.outcomes_fingerprint
    with Journal(case.journal) as opened:
        rows = opened.sql("holdout_looks").filter(pl.col("outcomes_fingerprint") == fingerprint)
    return len({*rows["comparison"].to_list(), case.experiment})


def _put_on_record(case: _Case, decided: Decided, before: float | None, after: float | None) -> str:
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
    look = {
        "outcomes_fingerprint": case.accounts.outcomes_fingerprint,
        "comparison": case.experiment,
        "objective": decided.objective,
        "baseline_value": before,
        "best_value": after,
        "higher_is_better": decided.higher_is_better,
    }
    write_event(case.journal, EventKind.LOOK, details=look, **shared)
    return write_event(
        case.journal,
        EventKind.DECISION,
        details={
            "verdict": str(decided.verdict),
            "gates": [gate.as_json() for gate in decided.gates],
            "looks": decided.looks,
            "level": decided.level,
            "incumbent": specs.score_id(case.incumbent),
            "candidate": specs.score_id(case.candidate),
        },
        **shared,
    )


def _segments(case: _Case, old: list[int], new: list[int]) -> dict[str, Panel | None]:
    """Load each segment's untouched accounts by themselves."""
    table, spec = case.accounts.table, case.incumbent
    unknown = [name for name in case.gates.segments if name not in table.columns]
    if unknown:
        raise UsageError(
            f"{table.source}: no column {', '.join(unknown)} to take segments from",
            hint=f"columns are {', '.join(table.columns[:8])}",
        )
    found: dict[str, Panel | None] = {}
    for name in case.gates.segments:
        values = collect(table, table.frame.select(pl.col(name).cast(pl.String)).unique())
        listed = sorted(values[name].fill_null(_UNKNOWN_SEGMENT).to_list())
        if len(listed) > _MOST_SEGMENTS:
            raise UsageError(
                f'column "{name}" has {len(listed):,} values, more than {_MOST_SEGMENTS} segments'
            )
        for value in listed:
            inside = pl.col(name).cast(pl.String).fill_null(_UNKNOWN_SEGMENT) == value
            part = AccountTable(table.source, table.frame.filter(inside), table.schema)
            dropped = case.accounts.checked.dropped > 0
            loaded = load_accounts(part, spec, as_of=case.as_of, drop_unlabelled=dropped)
            matrix = loaded.holdout if case.held_out else loaded.search
            if matrix is None or not matrix.accounts:
                found[f"{name}={value}"] = None
            else:
                found[f"{name}={value}"] = panel_of(matrix, spec, old, new)
    return found


def _shared_accounts(train: AccountTable, later: Accounts) -> tuple[str, ...]:
    """Say how many accounts stand in both tables; refuse two tables that are one."""
    name = later.checked.id_column
    if name is None or name not in train.columns:
        return ("There is no id to tell whether accounts stand in both tables.",)
    columns = [c for c in later.table.columns if c in train.columns]
    if set(later.table.columns) == set(train.columns):
        one, two = (collect(t, t.frame.select(columns)) for t in (train, later.table))
        both = one.join(two, on=columns, how="semi", nulls_equal=True).height
        if both:
            raise AccountDataError(
                f"{both:,} rows stand in both tables, id and outcomes alike: what was searched "
                "can't be the holdout",
                hint="give --holdout accounts, or a window, that --train doesn't have",
            )
    ids = [collect(t, t.frame.select(pl.col(name).cast(pl.String))) for t in (train, later.table)]
    again = ids[0].join(ids[1], on=name, how="semi").height
    if not again:
        return ()
    return (f"{again:,} accounts stand in both tables, with other values: another window, surely.",)
