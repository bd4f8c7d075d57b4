"""The decision on a candidate: measured on accounts that no search saw, and recorded.

It can also be written as a folder, see `decision_report`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.documents import is_spec_file
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.errors import UsageError, culprits
from gtmar.journal.catalog import Journal
from gtmar.journal.columns import experiment_id
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.lookup import checkout
from gtmar.journal.review import why_none
from gtmar.metrics.metric import basis_note
from gtmar.metrics.registry import all_metrics
from gtmar.objective.guardrails import Guard
from gtmar.outputs import Output
from gtmar.runs.decision_report import Decided, write_folder
from gtmar.runs.holdout import (
    count_looks,
    order_unverified,
    record_look,
    refuse_searched,
    shared_account_notes,
)
from gtmar.runs.inputs import (
    file_hashes,
    local_inputs,
    refuse_changed,
    refuse_unknown_options,
    run_or_experiment,
    spec_of,
)
from gtmar.runs.run import run
from gtmar.runs.segments import (
    columns_of_few_values,
    large_segment_panels,
    only_segments,
    segment_panels,
    segment_rows,
    with_segments,
)
from gtmar.runs.session import ended_run, tables_of
from gtmar.runs.side_by_side import at_equal_sizes, both_objectives, by_date, customers_apart
from gtmar.runs.two_specs import tried_between
from gtmar.stats.interval import level_of
from gtmar.validation.gates import (
    Gates,
    Grounds,
    judged,
    verdict_of,
)
from gtmar.validation.intervals import Uncertainty, panel_of, uncertainty
from gtmar.validation.reliability import reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.scan import Tabular
    from gtmar.runs.session import Session
    from gtmar.spec.model import ScoringSpec
    from gtmar.validation.paired_scores import Panel

__all__ = ["decide", "decide_between", "decide_on", "refresh"]


class DecisionOptions(TypedDict, total=False):
    """Options of a decision."""

    #: What the candidate must pass; None for a proven gain and the spec's guardrails. Gates that
    #: name no segments take the spec's.
    gates: Gates | None
    #: New folder for report, account changes, specs and manifest; None to write none.
    folder: str | Path | None
    #: Who asks, and why.
    author: str | None
    note: str | None


def _value_of(journal: Journal, name: str) -> float | None:
    """Return an experiment's objective on the accounts searched, from the journal."""
    run_id, _, experiment = name.partition("/")
    [row] = journal.query_rows(
        "select value_after from experiments where run_id = getvariable('run') "
        "and experiment_id = getvariable('experiment')",
        among=[run_id],
        columns=("run_id", "experiment_id", "value_after"),
        run=run_id,
        experiment=experiment,
    )
    value: float | None = row["value_after"]
    return value


def decide_on(
    candidate: ScoringSpec | str | Path | None = None,
    *,
    against: ScoringSpec | str | Path | None = None,
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
    journal: str | Path = "journal",
    tables: Mapping[str, Any],
    announce: Callable[[str], None] | None = None,
    **options: Unpack[DecisionOptions],
) -> Decided:
    """Decide on a run's best, a person's change, or one spec against another.

    Parameters
    ----------
    candidate
        A run's id, ``RUN/EXP`` or None for the last search: see `decide`. A spec or its file: see
        `decide_between`, which needs `against` and `data`.
    against
        A spec, its file or ``RUN/EXP`` to compare with; None for the run's start.
    tables
        How tables are read, as `HoldoutOptions`. Only for a spec: a run's tables are read as the
        run read them.
    data, holdout_file, journal, announce, options
        As for `decide` and `decide_between`, whose errors are raised, too.
    """
    other = None if against is None else spec_of(against, journal)
    called = str(against) if isinstance(against, str | Path) else None
    named = isinstance(candidate, str) and not is_spec_file(candidate)
    if candidate is None or named:
        if given := [name for name, value in tables.items() if value and name != "set_aside_to"]:
            raise UsageError(
                f"a run's tables are read as the run read them, without {culprits(given)}",
                hint="these options are for a spec: gtmar decide new.yaml --against old.yaml",
            )
        run_id = run_or_experiment(candidate if isinstance(candidate, str) else None, journal)
        return decide(
            run_id,
            data=data,
            holdout_file=holdout_file,
            journal=journal,
            against=other,
            against_name=called,
            **options,
        )
    path = str(candidate) if isinstance(candidate, str | Path) else None
    if other is None or data is None:
        raise UsageError(
            "a spec is decided on against another, on a table",
            hint=f"gtmar decide {path or 'new.yaml'} --against old.yaml --data accounts.parquet",
        )
    new = spec_of(candidate, journal)
    return decide_between(
        new,
        other,
        data,
        holdout_file=holdout_file,
        journal=journal,
        names=(path or f"{new.model}, candidate", called or f"{other.model}, incumbent"),
        announce=announce,
        **tables,
        **options,
    )


def decide(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
    against: ScoringSpec | None = None,
    against_name: str | None = None,
    **options: Unpack[DecisionOptions],
) -> Decided:
    """Decide on a run's best against the run's start, on the run's holdout.

    Parameters and errors are those of `gtmar.decide`, except for these.

    Parameters
    ----------
    run_id
        The run's full id, or ``RUN/EXP`` for that experiment. If the run is a person's change,
        that change is decided on, whether it was kept or not.
    against, against_name
        Another spec to compare with, by `decide_between` over the run's tables, and its name in the
        report; None for the run's start, and for the spec's model.
    """
    refuse_unknown_options(options, DecisionOptions)
    _new_folder(options, data, holdout_file, journal)
    if against is None:
        return _decide(run_id, Path(journal), data, holdout_file, options)
    with Journal(journal) as opened:
        candidate = checkout(opened, run_id)
    start = RunFiles(Path(journal), run_id.partition("/")[0]).record("start")
    moved = {"data": data, "holdout_file": holdout_file}
    tables = tables_of(start) | {name: table for name, table in moved.items() if table is not None}
    names = run_id, against_name or against.model
    return decide_between(candidate, against, journal=journal, names=names, **tables, **options)


def decide_between(
    candidate: ScoringSpec,
    against: ScoringSpec,
    data: Tabular,
    *,
    holdout_file: Tabular | None = None,
    journal: str | Path = "journal",
    names: tuple[str, str] | None = None,
    gates: Gates | None = None,
    folder: str | Path | None = None,
    author: str | None = None,
    note: str | None = None,
    **try_options: Any,
) -> Decided:
    """Decide on one spec against another, on accounts that no search saw.

    Parameters and errors are those of `gtmar.decide`, except for these. The change from one to the
    other is journaled as a person's, unless it is in the journal already.

    Parameters
    ----------
    candidate, against
        The two specs, which may differ in features, encoders and tiers; see `spec.joined`.
    names
        Names of candidate and incumbent in the report; None for their models.
    try_options
        ``metric``, ``holdout_as_of``, ``announce`` and options of tables, as for `try_weights`.
    """
    options = DecisionOptions(gates=gates, folder=folder, author=author, note=note)
    tables = (data,) if holdout_file is None else (data, holdout_file)
    _new_folder(options, *tables, journal)
    before = file_hashes(*tables)
    called = names or (f"{candidate.model}, candidate", f"{against.model}, incumbent")
    run_id, changed = tried_between(
        candidate,
        against,
        data,
        note=note or f"to decide: {called[0]} against {called[1]}",
        author=author,
        journal=Path(journal),
        holdout_file=holdout_file,
        **try_options,
    )
    given = _GivenSpecs(changed, (against, candidate), called)
    return _decide(run_id, Path(journal), data, holdout_file, options, tables, before, given)


@dataclass(frozen=True)
class _GivenSpecs:
    """Two specs that a person gave: the candidate in their joined form, and both as given."""

    changed: ScoringSpec
    specs: tuple[ScoringSpec, ScoringSpec]
    names: tuple[str, str]


def _decide(
    run_id: str,
    journal: Path,
    data: Any,
    holdout_file: Any,
    options: DecisionOptions,
    sources: tuple[Any, ...] = (),
    hashes: dict[str, str] | None = None,
    given: _GivenSpecs | None = None,
) -> Decided:
    """Measure, judge, record and write, in this order; write nothing if an input file changed.

    `sources` are the tables whose files are watched, `hashes` those of the files when they were
    first read. Without them, the run's own tables are hashed now.
    """
    run_id, _, chosen = run_id.partition("/")
    session = ended_run(run_id, journal, data, holdout_file, numbered=True)
    spec, judge, plan, later = session.spec, session.judge, session.plan, session.accounts.later
    if hashes is None:
        sources = _sources(session, data, holdout_file)
        hashes = file_hashes(*sources)
    holdout = session.accounts.holdout
    if holdout is None:
        raise UsageError(
            f"run {run_id} had no holdout: every account was searched",
            hint="gtmar run --holdout-file LATER_TABLE, or gtmar refresh",
        )
    kind, best = session.start["kind"], session.end["best_experiment"]
    # A person's change is decided on even if it was not kept on the accounts searched.
    best = best if kind == "search" else experiment_id(session.end["experiments"])
    experiment = f"{run_id}/{chosen or best}"
    accounts, as_of = session.accounts, plan.as_of
    if later is not None:
        accounts, as_of = later, plan.holdout_as_of or plan.as_of
    with Journal(journal) as opened:
        candidate = checkout(opened, experiment) if given is None else given.changed
        promised = _value_of(opened, experiment)
        blocked = None if session.end["wins"] else why_none(opened, run_id)
        looks = count_looks(opened, accounts.outcomes_fingerprint, experiment)
    from_specs = [] if kind == "search" else [spec] if given is None else [*given.specs]
    seen = refuse_searched(journal, session.accounts, spec, *from_specs)
    with session.search() as search:
        findings = search.findings
    output = _new_folder(options, *sources, journal)
    stated = (options.get("gates") or Gates()).asking(spec)
    old, new = ([side.weights[t.name] for t in spec.terms] for side in (spec, candidate))
    level = level_of(looks)
    basis = accounts.checked.outcomes.basis
    panel = panel_of(holdout, spec, old, new)
    segments, large = _segments_of(accounts, spec, stated, old, new, as_of=as_of)
    if later is not None:
        segments = _searched_segments(session, stated) | segments
    before, after = both_objectives(judge, holdout, spec, old, new)
    own, moves, moved_mrr = _by_own_edges(holdout, spec, candidate, level)
    moved = 1 - sum(row[tier] for tier, row in enumerate(moves)) / max(1, holdout.accounts)
    frame = _as_it_would_go_live(holdout, candidate)
    intervals = uncertainty(panel, level=level)
    checked = reliability(holdout, candidate, level=level)
    nothing = blocked or "nothing better than the incumbent was found"
    outcomes = judged(
        Grounds(
            panel,
            judge,
            stated,
            intervals,
            level,
            unchanged=nothing if old == new else None,
            moved=moved,
            moved_mrr=moved_mrr,
            breaches=Guard(holdout, spec, judge, old).breaches(frame, new, after, before),
            segments=segments,
            large=large,
            leaking=[f.column for f in findings if f.grade == "error" and f.column],
            repeated=accounts.repeated[1 if later is None else 0],
            basis=basis,
            reliability=checked,
        )
    )
    decided = Decided(
        verdict=verdict_of(outcomes),
        gates=outcomes,
        stated=stated,
        run_id=run_id,
        experiment=experiment,
        objective=judge.name,
        higher_is_better=judge.sign > 0,
        incumbent=spec,
        candidate=candidate,
        source=accounts.table.source,
        accounts=holdout.distinct,
        looks=looks,
        level=level,
        intervals=intervals,
        own_edges=own,
        equal_sizes=at_equal_sizes(holdout, spec, new, accounts.checked.outcomes),
        moves=moves,
        moved_mrr=moved_mrr,
        promised=promised,
        reliability=checked,
        inputs=hashes,
        fingerprints={
            "outcomes": accounts.outcomes_fingerprint,
            "features": accounts.features_fingerprint,
        },
        notes=tuple(filter(None, (*shared_account_notes(session.accounts), basis_note(basis)))),
        unknown_searches=seen,
        findings=findings,
        basis=basis,
        customers=customers_apart(
            session.accounts, spec, judge, old, new, as_of=as_of, level=level
        ),
        time_order=order_unverified(session.accounts, spec),
        kind=kind,
        given=None if given is None else given.specs,
        names=None if given is None else given.names,
        by_date=by_date(holdout, spec, judge, old, new),
    )
    refuse_changed(hashes, *sources)
    event = _put_on_record(journal, decided, before, after, options)
    decided = replace(decided, event_id=event)
    if output is not None:
        decided = replace(decided, folder=str(options["folder"]))
        write_folder(output, decided, accounts.table, as_of=as_of)
    return decided


def _sources(session: Session, data: Any, holdout_file: Any) -> tuple[Any, ...]:
    """Return the tables of a run: those given, else those in its start record."""
    own = tables_of(session.start)
    searched = own["data"] if data is None else data
    if session.accounts.later is None:
        return (searched,)
    return (searched, own["holdout_file"] if holdout_file is None else holdout_file)


def _searched_segments(session: Session, stated: Gates) -> dict[str, Panel | None]:
    """Return the segments of the accounts searched, each with None for its panel.

    A later table may lack accounts of a segment, which must not go unnoticed.
    """
    accounts = session.accounts
    there = [name for name in stated.segments if name in accounts.table.columns]
    searched = with_segments(accounts, session.spec, there, as_of=session.plan.as_of).search
    return dict.fromkeys(name for name, rows in segment_rows(searched) if len(rows))


def _segments_of(
    accounts: Accounts,
    spec: ScoringSpec,
    stated: Gates,
    old: Sequence[int],
    new: Sequence[int],
    *,
    as_of: str | None,
) -> tuple[dict[str, Panel | None], dict[str, Panel]]:
    """Return panels of the segments that gates ask for, and of other large segments."""
    others = [name for name in columns_of_few_values(accounts, spec) if name not in stated.segments]
    parts = with_segments(accounts, spec, (*stated.segments, *others), as_of=as_of)
    matrix = parts.search if parts.holdout is None else parts.holdout
    requested = segment_panels(only_segments(matrix, stated.segments), spec, old, new)
    return requested, large_segment_panels(only_segments(matrix, others), spec, old, new)


def _by_own_edges(
    matrix: AccountMatrix, spec: ScoringSpec, candidate: ScoringSpec, level: float
) -> tuple[Uncertainty, tuple[tuple[int, ...], ...], float | None]:
    """Measure both specs by tier at their own edges, and count accounts by both tiers.

    Returns the intervals, accounts by tier before and after, and the share of MRR whose account
    changes tier, None without MRR.
    """
    old, new = ([side.weights[term.name] for term in spec.terms] for side in (spec, candidate))
    panel = panel_of(matrix, spec, old, new, own_edges=candidate)
    tiers = len(spec.tiers)
    moves = np.bincount(panel.before.tiers * tiers + panel.after.tiers, minlength=tiers * tiers)
    by_tier = {key for key, metric in all_metrics().items() if metric.by_tier}
    intervals = uncertainty(panel, level=level, metrics=by_tier, gains=False)
    start, changed = panel.start, panel.before.tiers != panel.after.tiers
    known = start is not None and start.sum() > 0
    moved_mrr = float(start[changed].sum() / start.sum()) if start is not None and known else None
    return intervals, tuple(map(tuple, moves.reshape(tiers, tiers).tolist())), moved_mrr


def _as_it_would_go_live(matrix: AccountMatrix, candidate: ScoringSpec) -> pl.DataFrame:
    """Return a candidate's sums at its own tier edges, with these edges, for guardrails."""
    edges = zip(candidate.tier_names, candidate.tier_lows, strict=True)
    sums = LocalEvaluator(matrix, candidate).frame([candidate.vector])
    return sums.with_columns(
        pl.lit(low, dtype=pl.Int64).alias(tier_sum(TIER_LOW, tier)) for tier, low in edges
    )


def _put_on_record(
    journal: Path,
    decided: Decided,
    before: float | None,
    after: float | None,
    options: DecisionOptions,
) -> str:
    """Write the look at the holdout and the decision as events; return the decision's id."""
    shared = {
        "author": options.get("author"),
        "note": options.get("note"),
        "model": decided.incumbent.model,
        "spec_id": specs.spec_id(decided.incumbent),
        "run_id": decided.run_id,
        "experiment_id": decided.experiment.partition("/")[2],
        "source": decided.source,
    }
    record_look(
        journal,
        decided.fingerprints["outcomes"],
        decided.experiment,
        objective=decided.objective,
        before=before,
        after=after,
        higher_is_better=decided.higher_is_better,
        **shared,
    )
    details = decided.as_json()
    kept = (
        "verdict",
        "sentence",
        "headline",
        "costs",
        "gates",
        "stated",
        "segment_safety",
        "findings",
        "looks",
        "level",
        "customers",
        "time_order",
        "compared",
    )
    gain = decided.intervals.gain.get(decided.objective)
    return write_event(
        journal,
        EventKind.DECISION,
        details={
            **{name: details[name] for name in kept},
            "incumbent": specs.score_id(decided.sides[0]),
            "candidate": specs.score_id(decided.sides[1]),
            "lineage": {n: details[n]["lineage"] for n in ("incumbent", "candidate")},
            "objective": decided.objective,
            "gain": gain and gain.as_json(),
        },
        **shared,
    )


def refresh(
    train: Tabular,
    holdout: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    journal: str | Path = "journal",
    gates: Gates | None = None,
    folder: str | Path | None = None,
    author: str | None = None,
    note: str | None = None,
    **run_options: Any,
) -> Decided:
    """Search one table from the incumbent on, and decide on another table.

    Parameters
    ----------
    train, holdout
        The table to search, all of it, and the one to decide on, preferably of a later window.
    spec
        The incumbent, or its file.
    journal, gates, folder, author, note
        As for `decide`, with its errors, and `AccountDataError` if rows are in both tables.
    run_options
        ``metric``, ``no_worse``, ``limits``, ``seed``, ``holdout_as_of``, ``announce``, ``watch``
        and options of tables, which are for both: as for `run`.
    """
    options = DecisionOptions(gates=gates, folder=folder, author=author, note=note)
    _new_folder(options, train, holdout, spec, journal)
    stated = (gates or Gates()).asking(specs.reading_dates(spec, run_options.get("date_format")))
    run_options["no_worse"] = (*stated.no_worse, *run_options.get("no_worse", ()))
    sources, given = (train, holdout, spec), {"author": author, "note": note, **run_options}
    before = file_hashes(*sources)
    searched = run(train, spec, journal=journal, holdout_file=holdout, cold=True, **given)
    refuse_changed(before, *sources)
    return _decide(searched.run_id, Path(journal), train, holdout, options, sources, before)


def _new_folder(options: DecisionOptions, *inputs: object) -> Output | None:
    """Check that a decision's folder can be made; None if none is asked for."""
    folder = options.get("folder")
    if folder is None:
        return None
    return Output(Path(folder), local_inputs(*inputs), folder=True, parents=True)
