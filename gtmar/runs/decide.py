"""The decision on a candidate: measured on accounts that no search saw, and put on record.

It can be written as a folder: a report, what changes for which account, what it all rests on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.scan import Source
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.errors import UsageError
from gtmar.html import sentence
from gtmar.html import table as html_table
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.lookup import checkout
from gtmar.journal.review import why_none
from gtmar.journal.sentences import on_dates
from gtmar.metrics.metric import basis_note, marked
from gtmar.metrics.registry import all_metrics
from gtmar.objective.guardrails import Guard
from gtmar.outputs import Output
from gtmar.runs.by_date import by_date
from gtmar.runs.holdout import later_source, looks_at, record_look, shared_note
from gtmar.runs.inputs import (
    file_hashes,
    local_inputs,
    refuse_changed,
    refuse_unknown_options,
)
from gtmar.runs.results import PlainData, warnings_of
from gtmar.runs.run import run
from gtmar.runs.score import score
from gtmar.runs.segments import (
    few_valued,
    large_segments,
    segment_panels,
    segment_rows,
    segmented,
)
from gtmar.runs.session import ended_run
from gtmar.runs.tier_table import at_equal_sizes, objectives
from gtmar.safe_text import markdown, spreadsheet_safe
from gtmar.spec.model import VALUE_UNITS
from gtmar.stats.interval import level_of
from gtmar.validation.gates import (
    Gate,
    Gates,
    Grounds,
    Verdict,
    judged,
    reason_of,
    segment_safety,
    verdict_of,
)
from gtmar.validation.intervals import Uncertainty, panel_of, uncertainty
from gtmar.validation.reliability import Reliability, reliability
from gtmar.validation.trade_offs import costs_of, far_below, upside_down

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.runs.results import Finding
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval
    from gtmar.validation.paired_scores import Panel

__all__ = ["Decided", "account_changes", "decide", "refresh"]

_CUSTOMERS = (
    "This folder holds customer data: account ids, scores and what moved them. Keep it where such "
    "data may be kept."
)
#: Metrics that the report shows first; the rest follow.
_FIRST = ("auc_roc_retain", "nrr_by_tier", "revenue_capture_at_20", "logo_retention_by_tier")


class DecisionOptions(TypedDict, total=False):
    """What a decision is asked for."""

    #: What the candidate must pass; None for a proven gain and the spec's guardrails. Without
    #: segments of their own they ask of the spec's.
    gates: Gates | None
    #: New folder for report, account changes, specs and manifest; None for none.
    folder: str | Path | None
    #: Who asks, and why.
    author: str | None
    note: str | None


@dataclass(frozen=True)
class Decided(PlainData):
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
    #: Accounts by tier before (rows) and after (columns), tiers from the highest down, each score
    #: by its own edges.
    moves: tuple[tuple[int, ...], ...]
    #: By-tier metrics by each score's own edges, where tiers may have other sizes.
    own_edges: Uncertainty = field(repr=False)
    #: Both by tier at the incumbent's sizes, as `tier_table.at_equal_sizes` gives it.
    equal_sizes: dict[str, Any] = field(repr=False)
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
    #: The candidate's objective on the accounts searched.
    promised: float | None = None
    #: Share of the MRR whose account changes tier, by each score's own edges; None without MRR.
    moved_mrr: float | None = None
    #: The candidate's probabilities beside what became of these accounts; None where it has none.
    reliability: Reliability | None = None
    #: Start and best on each date, as `by_date` gives it, and the dates; None of a table of one.
    by_date: dict[str, Any] | None = None

    @property
    def segment_safety(self) -> str:
        """What is known of the segments: in which the gates failed, are unknown, or passed."""
        return segment_safety(gate.as_json() for gate in self.gates)

    @property
    def sentence(self) -> str:
        """The verdict and its reason, in words."""
        reason = reason_of(self.gates)
        if reason is None:
            reason = f"{self._gain}, on {self.unseen} never searched"
            reason += ", at a cost" if self.costs else ""
        return f"{self.verdict}: {reason}."

    @property
    def unseen(self) -> str:
        """Say how many accounts it was measured on and, of a table of several dates, how often."""
        if self.by_date is None:
            return f"{self.accounts:,} accounts"
        return on_dates(self.accounts, len(self.by_date["dates"]), self.by_date["rows"])

    @property
    def dates_held(self) -> list[str]:
        """Say on how many of several dates the gain holds."""
        if self.by_date is None:
            return []
        known = [gained for gained in self.by_date["gained"] if gained is not None]
        return [f"The gain holds in {sum(known):,} of {len(known):,} dates."]

    @property
    def _gain(self) -> str:
        """Say what got better, where it is proven."""
        sides = self.intervals.before[self.objective], self.intervals.after[self.objective]
        before, after = (side.value or 0.0 for side in sides)
        if self.objective in ("auc_roc_retain", "auc_roc_churn"):
            one = "account" if self.by_date is None else "row"
            pairs = f"of 100 pairs of a kept and a lost {one} it ranks"
            return f"{pairs} {100 * after:.0f} right, was {100 * before:.0f}"
        return f"{marked(self.objective, self.basis)} {before:.4g} -> {after:.4g}"

    @property
    def headline(self) -> list[str]:
        """Return what stands right below: leaks and copies, level, costs, details, segments."""
        # The verdict's own line says what makes it UNVERIFIED.
        first = {gate.name for gate in self.gates if self.verdict is Verdict.UNVERIFIED}
        known = [
            each.short
            for each in self.findings
            if each.short
            and each.grade != "note"
            and not (each.kind == "copies" and "copies" in first)
            and not (each.kind == "leak" and each.grade == "error" and "leakage" in first)
        ]
        beware = f"Beware: {'; '.join(known)}."
        level = self.level_sentence
        if any(gate.name == "level" and not gate.passed for gate in self.gates):
            # The verdict's own line says it.
            level = level[1:]
        said = [*([beware] if known else []), *level, *self.dates_held, *self.costs]
        if self.reliability is not None and self.reliability.off:
            said.append(self.reliability.sentence)
        said += warnings_of(self.findings)
        return [*said, f"Segment safety: {self.segment_safety}."]

    @property
    def level_sentence(self) -> list[str]:
        """Say that a score is upside down here, or far below what the search promised."""
        said = [upside_down(self.intervals)]
        # Of a tier the search measured by each score's own edges.
        by_tier = "." in self.objective
        found = (self.own_edges if by_tier else self.intervals).after.get(self.objective)
        if found is not None and self.promised is not None:
            said.append(far_below(self.promised, found, self.objective, better=self.better))
        return [text for text in said if text is not None]

    @property
    def better(self) -> int:
        """1 where more of the objective is better, -1 where less is."""
        return 1 if self.higher_is_better else -1

    @property
    def costs(self) -> list[str]:
        """Name what got worse beyond chance beside the objective, a sentence each."""
        return list(costs_of(self.intervals, self.objective).values())

    @property
    def moved(self) -> int:
        """How many of the accounts, or their rows, change tier."""
        stay = sum(row[index] for index, row in enumerate(self.moves))
        return sum(map(sum, self.moves)) - stay

    @property
    def sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Accounts of each tier before and after, by each score's own edges."""
        return tuple(map(sum, self.moves)), tuple(map(sum, zip(*self.moves, strict=True)))

    @property
    def counted(self) -> str:
        """What tiers count: `accounts`, or `rows` where an account has several."""
        return "accounts" if self.by_date is None else "rows"

    @property
    def movement(self) -> str:
        """Say who changes tier, and which tiers change their size."""
        before, after = self.sizes
        ends = zip(self.incumbent.tier_names, before, after, strict=True)
        listed = ", ".join(f"{n} {old:,} -> {new:,}" for n, old, new in ends)
        share = self.moved / max(1, sum(before))
        said = f"{share:.0%} of these {self.counted} change tier; tiers by their own edges: "
        said += f"{listed}."
        if self.moved_mrr is None:
            return said
        return f"{said} They hold {self.moved_mrr:.0%} of the MRR."

    def _repr_html_(self) -> str:
        rows = [(gate.name, gate.limit, gate.found, gate.outcome) for gate in self.gates]
        headline = "".join(map(sentence, (self.sentence, *self.headline)))
        heads = ("gate", "stated beforehand", "measured", "")
        return headline + html_table(heads, rows, caption=str(self.verdict))

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return vars(self) | {
            "verdict": str(self.verdict),
            "sentence": self.sentence,
            "headline": self.headline,
            "gates": [gate.as_json() for gate in self.gates],
            "stated": self.stated.as_json(),
            "segment_safety": self.segment_safety,
            "tiers": list(self.incumbent.tier_names),
            "incumbent": {**_ids(self.incumbent), "weights": self.incumbent.weights},
            "candidate": {**_ids(self.candidate), "weights": self.candidate.weights},
            "costs": self.costs,
            "intervals": self.intervals.as_json(),
            "own_edges": {
                "sizes": dict(zip(("before", "after"), self.sizes, strict=True)),
                **{k: v for k, v in self.own_edges.as_json().items() if k != "gain"},
            },
            "findings": [finding.as_json() for finding in self.findings],
            "reliability": None if self.reliability is None else self.reliability.as_json(),
        }


def _ids(spec: ScoringSpec) -> dict[str, str]:
    return {"spec_id": specs.spec_id(spec), "score_id": specs.score_id(spec)}


def decide(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
    **options: Unpack[DecisionOptions],
) -> Decided:
    """Decide on a run's best against its start, on the run's holdout.

    Parameters
    ----------
    run_id, journal, data, holdout_file
        As for `open_run`.
    options
        `gates`, `folder`, `author`, `note`: see `DecisionOptions`.

    Raises
    ------
    UsageError
        If the run had no holdout, or the folder exists.
    NotResumableError
        If a table isn't the run's.
    AccountDataError
        If an input changed meanwhile; nothing is written then.
    """
    refuse_unknown_options(options, DecisionOptions)
    _new_folder(options, data, holdout_file, journal)
    return _decide(run_id, Path(journal), data, holdout_file, options)


def _decide(
    run_id: str,
    journal: Path,
    data: Any,
    holdout_file: Any,
    options: DecisionOptions,
    sources: tuple[Any, ...] = (),
    hashes: dict[str, str] | None = None,
) -> Decided:
    """Measure, judge, put on record, write; in this order, and nothing if an input changed.

    `sources` and `hashes` are given where what is decided on was read before the run was.
    """
    session = ended_run(run_id, journal, data, holdout_file, only_search=True)
    spec, judge, plan, later = session.spec, session.judge, session.plan, session.accounts.later
    if hashes is None:
        start = session.start
        parameters = dict(start["parameters"])
        sources = (data if data is not None else Source.of_record(start["source"], parameters),)
        if later is not None:
            sources += (holdout_file if holdout_file is not None else later_source(parameters),)
        hashes = file_hashes(*sources)
    holdout = session.accounts.holdout
    if holdout is None:
        raise UsageError(
            f"run {run_id} had no holdout: every account was searched",
            hint="gtmar run --holdout-file LATER_TABLE, or gtmar refresh",
        )
    experiment = f"{run_id}/{session.end['best_experiment']}"
    with Journal(journal) as opened:
        candidate = checkout(opened, experiment)
        blocked = None if session.end["wins"] else why_none(opened, run_id)
    with session.search() as search:
        findings = search.findings
    output = _new_folder(options, *sources, journal)
    accounts, as_of = session.accounts, plan.as_of
    if later is not None:
        accounts, as_of = later, plan.holdout_as_of or plan.as_of
    stated = (options.get("gates") or Gates()).asking(spec)
    old, new = ([side.weights[t.name] for t in spec.terms] for side in (spec, candidate))
    looks = looks_at(journal, accounts.outcomes_fingerprint, experiment)
    level = level_of(looks)
    basis = accounts.checked.outcomes.basis
    panel = panel_of(holdout, spec, old, new)
    segments, large = _segments_of(accounts, spec, stated, old, new, as_of=as_of)
    if later is not None:
        # Of the columns that the table searched has.
        there = [n for n in stated.segments if n in session.accounts.table.columns]
        searched = segmented(session.accounts, spec, there, as_of=plan.as_of).search
        segments = (
            dict.fromkeys(name for name, rows in segment_rows(searched) if len(rows)) | segments
        )
    before, after = objectives(judge, holdout, spec, old, new)
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
        promised=session.end["best_value"],
        reliability=checked,
        inputs=hashes,
        fingerprints={
            "outcomes": accounts.outcomes_fingerprint,
            "features": accounts.features_fingerprint,
        },
        notes=tuple(filter(None, (*shared_note(session.accounts), basis_note(basis)))),
        findings=findings,
        basis=basis,
        by_date=by_date(holdout, spec, judge, old, new),
    )
    refuse_changed(hashes, *sources)
    event = _put_on_record(journal, decided, before, after, options)
    decided = replace(decided, event_id=event)
    if output is not None:
        decided = replace(decided, folder=str(options["folder"]))
        _write_folder(output, decided, accounts.table, as_of=as_of)
    return decided


def _segments_of(
    accounts: Accounts,
    spec: ScoringSpec,
    stated: Gates,
    old: Sequence[int],
    new: Sequence[int],
    *,
    as_of: str | None,
) -> tuple[dict[str, Panel | None], dict[str, Panel]]:
    """Score the segments that are asked for, and the large ones that nobody asked for."""
    others = [name for name in few_valued(accounts, spec) if name not in stated.segments]
    parts = segmented(accounts, spec, (*stated.segments, *others), as_of=as_of)
    matrix = parts.search if parts.holdout is None else parts.holdout
    own = {each.column: each for each in matrix.segments}

    def only(names: Sequence[str]) -> AccountMatrix:
        return replace(matrix, segments=tuple(own[name] for name in names))

    asked = segment_panels(only(stated.segments), spec, old, new)
    return asked, large_segments(only(others), spec, old, new)


def _by_own_edges(
    matrix: AccountMatrix, spec: ScoringSpec, candidate: ScoringSpec, level: float
) -> tuple[Uncertainty, tuple[tuple[int, ...], ...], float | None]:
    """Measure both specs by tier at their own edges, and count accounts by both tiers.

    The last is the share of MRR whose account changes tier, None without MRR.
    """
    old, new = ([side.weights[term.name] for term in spec.terms] for side in (spec, candidate))
    panel = panel_of(matrix, spec, old, new, own_edges=candidate)
    tiers = len(spec.tiers)
    moves = np.bincount(panel.before.tiers * tiers + panel.after.tiers, minlength=tiers * tiers)
    by_tier = {key for key, metric in all_metrics().items() if metric.by_tier}
    intervals = uncertainty(panel, level=level, metrics=by_tier)
    start, changed = panel.start, panel.before.tiers != panel.after.tiers
    known = start is not None and start.sum() > 0
    moved_mrr = float(start[changed].sum() / start.sum()) if start is not None and known else None
    return intervals, tuple(map(tuple, moves.reshape(tiers, tiers).tolist())), moved_mrr


def _as_it_would_go_live(matrix: AccountMatrix, candidate: ScoringSpec) -> pl.DataFrame:
    """Return the sums of a candidate by its own edges, these among them, as guardrails ask."""
    edges = zip(candidate.tier_names, candidate.tier_lows, strict=True)
    sums = LocalEvaluator(matrix, candidate).frame([[term.weight for term in candidate.terms]])
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
    """Write the look and the decision as events; return the latter's id."""
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
    )
    gain = decided.intervals.gain.get(decided.objective)
    return write_event(
        journal,
        EventKind.DECISION,
        details={
            **{name: details[name] for name in kept},
            "incumbent": specs.score_id(decided.incumbent),
            "candidate": specs.score_id(decided.candidate),
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
    """Search one table from the incumbent, and decide on another that the search never saw.

    Parameters
    ----------
    train, holdout
        The table to search, whole, and the one to decide on, best a later window.
    spec
        The incumbent, or its file.
    journal, gates, folder, author, note
        As for `decide`.
    run_options
        ``metric``, ``no_worse``, ``limits``, ``seed``, ``holdout_as_of``, ``announce``, ``watch``
        and options of tables, which are those of both: as for `run`.

    Raises
    ------
    UsageError
        If the folder exists.
    AccountDataError
        If a table breaks the contract, rows stand in both, or an input changed meanwhile.
    """
    options = DecisionOptions(gates=gates, folder=folder, author=author, note=note)
    _new_folder(options, train, holdout, spec, journal)
    stated = (gates or Gates()).asking(specs.reading_dates(spec, run_options.get("date_format")))
    run_options["no_worse"] = (*stated.no_worse, *run_options.get("no_worse", ()))
    sources, asked = (train, holdout, spec), {"author": author, "note": note, **run_options}
    before = file_hashes(*sources)
    searched = run(train, spec, journal=journal, holdout_file=holdout, cold=True, **asked)
    refuse_changed(before, *sources)
    return _decide(searched.run_id, Path(journal), train, holdout, options, sources, before)


def _new_folder(options: DecisionOptions, *inputs: object) -> Output | None:
    """Check where a decision's folder is to be made; None for none."""
    folder = options.get("folder")
    if folder is None:
        return None
    return Output(Path(folder), local_inputs(*inputs), folder=True, parents=True)


def _write_folder(
    output: Output, decided: Decided, table: AccountTable, *, as_of: str | None
) -> None:
    """Write report, account changes, specs and manifest; all or nothing."""
    changes = account_changes(table, decided.incumbent, decided.candidate, as_of=as_of)
    try:
        with output.made() as folder:
            changes.write_csv(folder / "account_changes.csv")
            for name, spec in (("incumbent", decided.incumbent), ("candidate", decided.candidate)):
                heading = f"Frozen by a decision on {decided.experiment}: the {name}."
                (folder / f"{name}.yaml").write_text(specs.to_yaml(spec, heading=heading), "utf-8")
            report = json.dumps(decided.as_json(), indent=2, ensure_ascii=False, default=str)
            (folder / "report.json").write_text(report + "\n", "utf-8")
            (folder / "report.md").write_text(_report(decided, changes.height), "utf-8")
            (folder / "manifest.json").write_text(_manifest(decided, folder), "utf-8")
    except UsageError as err:
        raise UsageError(
            f"{err.message}. The decision itself, {decided.verdict}, is in the journal as "
            f"{decided.event_id}",
            hint=f"gtmar decide {decided.run_id} -o NEW makes the folder",
            event=decided.event_id,
        ) from err


def account_changes(
    table: AccountTable, one: ScoringSpec, two: ScoringSpec, *, as_of: str | None
) -> pl.DataFrame:
    """Return score and tier of every account under two specs, and what the difference is made of.

    Returns
    -------
    DataFrame
        `account` (its id, or its row from 1), `date` in a table of several, `score_before`,
        `score_after`, `change`, `tier_before`, `tier_after`, then ``by.<term>`` for each weight,
        ``by.base``, ``by.rounding`` and ``by.clipping``, which add up to `change`. Texts that a
        spreadsheet would run as a formula begin with an apostrophe.
    """
    before, after = (score(table.as_read, spec, as_of=as_of) for spec in (one, two))
    identifier = before.columns[0] if before.columns[0] != "score" else None
    dated = {} if table.several is None else {"date": table.several.column}
    account = pl.col(identifier) if identifier else pl.int_range(1, before.height + 1)
    names = [name for name in before.columns if name.startswith("points.")]
    parts = [*names, "base", "rounding", "clipping"]

    def difference(name: str) -> pl.Series:
        # Both are whole numbers of 1/10,000 of a point, so the difference is rounded to one.
        units = ((after[name] - before[name]) * VALUE_UNITS).round().cast(pl.Int64)
        return units / VALUE_UNITS

    changes = before.select(
        account.cast(pl.String if identifier else pl.Int64).alias("account"),
        **dated,
        score_before="score",
        score_after=after["score"],
        change=difference("score"),
        tier_before="tier",
        tier_after=after["tier"],
        **{f"by.{name.removeprefix('points.')}": difference(name) for name in parts},
    )
    safe = spreadsheet_safe(changes)
    order = ["account", *dated]
    return safe.sort(pl.col("change").abs(), *order, descending=[True, *[False] * len(order)])


def _manifest(decided: Decided, folder: Path) -> str:
    """List by hash what the decision was made from, and what was written."""
    content = {
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "event": decided.event_id,
        "run": decided.run_id,
        "inputs_sha256": decided.inputs,
        "fingerprints": decided.fingerprints,
        "incumbent": _ids(decided.incumbent),
        "candidate": _ids(decided.candidate),
        "evaluator_version": EVALUATOR_VERSION,
        "packages": {name: version(name) for name in ("gtmar", "polars", "numpy")},
        "files_sha256": {Path(name).name: sha for name, sha in file_hashes(folder).items()},
        "customer_data": _CUSTOMERS,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _report(decided: Decided, listed: int) -> str:
    """Return the report as Markdown."""
    tiers, own = decided.incumbent.tier_names, decided.own_edges
    old, new = decided.incumbent.weights, decided.candidate.weights
    of = decided.intervals
    before, after, gain = of.before, of.after, of.gain

    def rank(name: str) -> tuple[int, str]:
        key = name.partition(".")[0]
        return _FIRST.index(key) if key in _FIRST else len(_FIRST), name

    looks = f"First look at these accounts: intervals at {decided.level:.1%}."
    if decided.looks > 1:
        looks = (
            f"Comparison number {decided.looks} on these accounts, so intervals are taken at "
            f"{decided.level:.2%} (1 - 0.05 / {decided.looks}). Each look makes them less unseen."
        )
    lines = [
        f"# {markdown(decided.sentence)}",
        "",
        *(f"- {markdown(said)}" for said in (*decided.headline, decided.movement)),
        "",
        f"{markdown(decided.incumbent.model)}: {markdown(decided.experiment)} against the spec "
        f"that it started from, on {decided.unseen} of {markdown(decided.source)} "
        "that the search never saw.",
        "",
        f"**{_CUSTOMERS}**",
        "",
        looks,
        "",
        "## Gates",
        "",
        "| gate | stated beforehand | measured | |",
        "|---|---|---|---|",
        *(
            f"| {markdown(g.name)} | {markdown(g.limit)} | {markdown(g.found)} | {g.outcome} |"
            for g in decided.gates
        ),
        "",
        "## Weights",
        "",
        "| weight | incumbent | candidate |",
        "|---|---:|---:|",
        *(f"| {markdown(n)} | {w} | {new[n]} |" for n, w in old.items() if w != new[n]),
        "",
        f"## {decided.counted.capitalize()} by tier, before (rows) and after (columns)",
        "",
        f"| | {' | '.join(map(markdown, tiers))} |",
        "|---|" + "---:|" * len(tiers),
        *(
            f"| {markdown(name)} | {' | '.join(f'{n:,}' for n in row)} |"
            for name, row in zip(tiers, decided.moves, strict=True)
        ),
        "",
        f"`account_changes.csv` lists all {listed:,} {decided.counted} of the table.",
        "",
        f"## Metrics, with {decided.level:.1%} intervals",
        "",
        "Metrics of a tier are taken at the incumbent's tier sizes: both scores are cut after as "
        "many accounts, and those that tie across a cut belong to both sides in part.",
        "",
        "| metric | incumbent | candidate | gain |",
        "|---|---|---|---|",
        *(
            f"| {markdown(marked(name, decided.basis))} | {_worded(before[name])} "
            f"| {_worded(after[name])} "
            f"| {_worded(gain[name]) if name in gain else 'none: any score has it'} |"
            for name in sorted(after, key=rank)
            if name in before and not name.startswith("share_by_tier.")
        ),
        "",
        "## Tiers by each score's own edges",
        "",
        "| metric | incumbent | candidate |",
        "|---|---|---|",
        *(
            f"| {decided.counted} in {markdown(tier)} | {one:,} | {two:,} |"
            for tier, one, two in zip(tiers, *decided.sizes, strict=True)
        ),
        *(
            f"| {markdown(marked(name, decided.basis))} | {_worded(own.before[name])} "
            f"| {_worded(own.after[name])} |"
            for name in sorted(own.after, key=rank)
            if name in own.before and not name.endswith(".*")
        ),
    ]
    if decided.notes:
        lines += ["", "## Notes", "", *(f"- {markdown(note)}" for note in decided.notes)]
    return "\n".join([*lines, ""])


def _worded(interval: Interval) -> str:
    if interval.value is None:
        return f"none: {markdown(str(interval.reason))}"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.4g} ({markdown(str(interval.reason))})"
    return f"{interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})"
