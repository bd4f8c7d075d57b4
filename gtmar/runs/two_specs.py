"""Two specs on accounts held out: put on record, refused where a search saw those, looked at.

To decide between any two, the change from one to the other is put on record as a person's, measured
over the accounts searched; then it is decided on as any other, on those held out. A look measures a
change there without a decision, and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gtmar import spec as specs
from gtmar.data.matrix import part
from gtmar.data.prepare import prepared
from gtmar.data.rules import OWN, overlap
from gtmar.data.scan import Source, collect, scan
from gtmar.data.split import key_expression
from gtmar.engine.equal_sizes import tier_sizes
from gtmar.errors import AccountDataError, JournalError, UsageError
from gtmar.journal.files import RunFiles
from gtmar.journal.sentences import Seen, old_customers, worse
from gtmar.objective.objective import Judge
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import (
    compared_on,
    declared_window,
    journal_if_there,
    record_look,
    recorded,
    values_read,
    whole,
)
from gtmar.runs.inputs import HoldoutOptions, load, refuse_unknown_options
from gtmar.runs.run import try_weights
from gtmar.runs.side_by_side import at_equal_sizes, customers_apart, measured_at_sizes, objectives
from gtmar.runs.weight_change import MetricChange, metric_changes
from gtmar.spec.joined import joined
from gtmar.stats.interval import level_of, reading_of
from gtmar.validation.intervals import panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = [
    "HoldoutLook",
    "Looks",
    "look_at_holdout",
    "looks_so_far",
    "on_record",
    "refuse_searched",
    "tried_between",
]


def tried_between(
    candidate: ScoringSpec,
    against: ScoringSpec,
    data: Tabular,
    *,
    note: str,
    journal: Path,
    author: str | None = None,
    metric: str | None = None,
    announce: Callable[[str], None] | None = None,
    **table_options: Unpack[HoldoutOptions],
) -> tuple[str, ScoringSpec]:
    """Put the change from one spec to another on record; return ``RUN`` and the spec after it.

    Where the journal has this very change over these very tables, that run is named, and nothing is
    written: to look once more at the same is no other look.

    Raises
    ------
    UsageError
        If the specs don't compare, no account is held out, or a search saw accounts that are.
    """
    refuse_unknown_options(table_options, HoldoutOptions)
    start, changed = joined(against, candidate)
    if table_options.get("holdout_file") is not None:
        start, changed = whole(start), whole(changed)
    elif not start.split.holdout:
        raise UsageError(
            "no account is held out: the candidate's split has a holdout of 0, so that a search "
            "may have seen all of them",
            hint="--holdout-file LATER_TABLE",
        )
    accounts, _ = load(scan(data), start, **table_options)
    refuse_searched(journal, accounts, start, candidate, against)
    before = on_record(journal, accounts, start, changed, Judge.of(start, metric).name)
    if before is not None:
        return before, changed
    tried = try_weights(
        data,
        start,
        changed.weights,
        note=note,
        author=author,
        metric=metric,
        announce=announce,
        journal=journal,
        **table_options,
    )
    return tried.run_id, changed


def on_record(
    journal: Path,
    accounts: Accounts,
    start: ScoringSpec,
    changed: ScoringSpec,
    objective: str,
) -> str | None:
    """Return the run that tried this change over these tables; None where there is none."""
    query = (
        "select runs.run_id, parameters, experiments.weights from runs "
        "join experiments on experiments.run_id = runs.run_id and experiments.number = 1 "
        "where runs.kind = 'human' and runs.spec_id = getvariable('spec') "
        "and outcomes_fingerprint = getvariable('outcomes') "
        "and features_fingerprint = getvariable('features') "
        "and runs.objective = getvariable('objective') "
        "and state = 'finished' order by started_at"
    )
    with journal_if_there(journal) as opened:
        if opened is None:
            return None
        rows = opened.query(
            query,
            spec=specs.spec_id(start),
            outcomes=accounts.outcomes_fingerprint,
            features=accounts.features_fingerprint,
            objective=objective,
        ).to_dicts()
    name, later = "holdout_outcomes_fingerprint", recorded(accounts)
    for row in rows:
        then = dict(row["parameters"]).get(name)
        if dict(row["weights"]) == changed.weights and then == later.get(name):
            return str(row["run_id"])
    return None


# ---- accounts that a search saw ------------------------------------------------------------------


def refuse_searched(
    journal: Path, accounts: Accounts, spec: ScoringSpec, *from_specs: ScoringSpec
) -> tuple[str, ...]:
    """Refuse accounts held out that a search saw which chose weights of a spec.

    That is each search in a spec's lineage, back to the first; `spec` is the one that the accounts
    were loaded by. Who was searched in an earlier
    window that a declared one follows may be held out; see `load_with_holdout`.

    Returns
    -------
    tuple of str
        A sentence for each search of which it isn't known.

    Raises
    ------
    UsageError
        If a search saw some; how many, and which search.
    """
    unknown = []
    for run_id in dict.fromkeys(run for spec in from_specs for run in _searches(journal, spec)):
        start = RunFiles(journal, run_id).record("start")
        seen = _seen_by(start, accounts, spec)
        if seen is None:
            unknown.append(
                f"Whether run {run_id}, which chose weights, searched any of these accounts isn't "
                "known: its table isn't there to compare ids with."
            )
        elif seen:
            held = 0 if accounts.holdout is None else accounts.holdout.accounts
            raise UsageError(
                f"run {run_id}, which chose weights, searched {seen:,} of the {held:,} accounts "
                "held out: they prove nothing of them",
                hint="--holdout-file LATER_TABLE: accounts that no search saw, or a later window",
            )
    return tuple(unknown)


def _searches(journal: Path, spec: ScoringSpec) -> Iterator[str]:
    """Give the searches of the journal that a spec comes from, the latest first."""
    run_id = None if spec.lineage is None else spec.lineage.run
    known: set[str] = set()
    while run_id is not None and run_id not in known:
        known.add(run_id)
        try:
            start = RunFiles(journal, run_id).record("start")
        except JournalError:
            return
        if start["kind"] == "search":
            yield run_id
        run_id = start["parent_run"]


def _seen_by(start: dict[str, Any], accounts: Accounts, spec: ScoringSpec) -> int | None:
    """Count held-out accounts that a run searched, as they are; None where that isn't known."""
    later, identifier = accounts.later, accounts.checked.id_column
    prints = start["outcomes_fingerprint"]
    if later is None and prints == accounts.outcomes_fingerprint:
        return 0
    if later is not None and prints == later.outcomes_fingerprint:
        return int(start["search_accounts"])
    if identifier is None or not Path(start["source"]).exists():
        return None
    try:
        table = scan(Source.of_record(start["source"], dict(start["parameters"])))
        table = prepared(table, spec)
    except AccountDataError:
        return None
    if identifier not in table.columns:
        return None
    columns: list[str] = []
    if later is None:
        held = part(accounts.table, identifier, spec.split, held=True, copies=accounts.copies)
    else:
        held, window = later.table, declared_window(spec, table, later.table)
        if window is not None and not overlap(window, table, held):
            return 0
        if window is None:
            # As for the table that is searched here: other values may be another window.
            columns = [n for n in values_read(later, spec) if table.schema.get(n) == held.schema[n]]
    split = specs.parse(start["spec"], source="the run's spec").split
    sides = []
    for each in (part(table, identifier, split), held):
        key = key_expression(identifier, each.schema).alias(f"{OWN}id")
        sides.append(collect(each, each.frame.select(key, *columns)))
    old, now = sides
    return now.join(old, on=now.columns, how="semi", nulls_equal=True).height


# ---- one look at the holdout ---------------------------------------------------------------------


@dataclass(frozen=True)
class Looks(PlainData):
    """How often a holdout was looked at, before a look."""

    #: Comparisons so far, and whether this one would be a further one: the same again is none.
    so_far: int
    new: bool
    accounts: int

    @property
    def sentence(self) -> str:
        """Say what a look costs, before it."""
        count = f"{self.so_far:,} comparison{'' if self.so_far == 1 else 's'}"
        before = f"The {self.accounts:,} accounts held out served {count} so far"
        if not self.new:
            return f"{before}, this one among them: to look again is no further look."
        return f"{before}; this is one more, and each further one makes proof harder."


@dataclass(frozen=True)
class HoldoutLook(PlainData):
    """A change of weights on accounts that no search saw, tiers at the incumbent's sizes."""

    weights: dict[str, int]
    accounts: int
    #: Comparisons on this holdout before, and with this one; the level of all intervals follows.
    looks_before: int
    looks: int
    level: float
    objective: str
    before: float | None
    after: float | None
    #: Whether the objective is better there; None where it has no value. What its interval says:
    #: ``better``, ``worse``, ``no proven change`` or ``unknown``.
    improved: bool | None
    reading: str
    sentences: tuple[str, ...]
    metrics: tuple[MetricChange, ...]
    #: The event that has it on record.
    event_id: str
    #: A sentence for each search of which it isn't known whether it saw these accounts.
    unknown_searches: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The sentences in one text."""
        return " ".join(self.sentences)


def _held_out(accounts: Accounts) -> tuple[AccountMatrix, Accounts]:
    """Return the accounts held out, and the table that they are of."""
    if accounts.holdout is None:
        raise UsageError(
            "no account is held out: all of them are searched",
            hint="--holdout 0.3, or --holdout-file LATER_TABLE",
        )
    return accounts.holdout, accounts if accounts.later is None else accounts.later


def _comparison(
    accounts: Accounts, spec: ScoringSpec, changed: ScoringSpec, judge: Judge, journal: Path
) -> str:
    """Name what is compared: the experiment that has this change on record, else the spec's id."""
    run_id = on_record(journal, accounts, spec, changed, judge.name)
    return specs.spec_id(changed) if run_id is None else f"{run_id}/exp_00001"


def looks_so_far(
    accounts: Accounts, spec: ScoringSpec, changed: ScoringSpec, judge: Judge, journal: Path
) -> Looks:
    """Say how often the holdout was looked at; errors are those of `look_at_holdout`."""
    holdout, held = _held_out(accounts)
    seen = compared_on(journal, held.outcomes_fingerprint)
    new = _comparison(accounts, spec, changed, judge, journal) not in seen
    return Looks(len(seen), new, holdout.distinct)


def look_at_holdout(
    accounts: Accounts,
    spec: ScoringSpec,
    changed: ScoringSpec,
    judge: Judge,
    journal: Path,
    *,
    as_of: str | None = None,
    author: str | None = None,
    note: str | None = None,
) -> HoldoutLook:
    """Measure a spec with other weights on the accounts held out, and count the look.

    Parameters
    ----------
    accounts, spec, judge
        The accounts, loaded by the incumbent; and what decides.
    changed
        The incumbent with other weights.
    journal, author, note
        Where the look is put on record, by whom, and why.
    as_of
        ISO date that `days_before` counts from in the holdout's table.

    Raises
    ------
    UsageError
        If no account is held out, or a search that chose the incumbent's weights saw some; nothing
        is written then.
    """
    holdout, held = _held_out(accounts)
    unknown = refuse_searched(journal, accounts, spec, spec)
    old, new = ([term.weight for term in each.terms] for each in (spec, changed))
    seen = compared_on(journal, held.outcomes_fingerprint)
    comparison = _comparison(accounts, spec, changed, judge, journal)
    looks = len({*seen, comparison})
    level, outcomes = level_of(looks), held.checked.outcomes
    intervals = uncertainty(panel_of(holdout, spec, old, new), level=level)
    sizes = tier_sizes(holdout, spec, old)
    ends = [measured_at_sizes(holdout, spec, each, sizes, outcomes) for each in (old, new)]
    before, after = objectives(judge, holdout, spec, old, new)
    gain: Interval | None = intervals.gain.get(judge.name)
    apart = customers_apart(accounts, spec, judge, old, new, as_of=as_of, level=level)
    shown = Seen(
        unseen=True,
        accounts=holdout.distinct,
        start=ends[0],
        best=ends[1],
        sized=at_equal_sizes(holdout, spec, new, outcomes),
        risk=spec.orientation == "risk",
        old=old_customers(each.as_json() for each in apart),
        rows=bool(holdout.dates),
    )
    run_id, _, experiment = comparison.partition("/")
    event_id = record_look(
        journal,
        held.outcomes_fingerprint,
        comparison,
        objective=judge.name,
        before=before,
        after=after,
        higher_is_better=judge.sign > 0,
        author=author,
        note=note,
        model=spec.model,
        spec_id=specs.spec_id(spec),
        source=held.table.source,
        run_id=run_id if experiment else None,
        experiment_id=experiment or None,
    )
    return HoldoutLook(
        weights=changed.weights,
        accounts=holdout.distinct,
        looks_before=len(seen),
        looks=looks,
        level=level,
        objective=judge.name,
        before=before,
        after=after,
        improved=None if None in (before, after) else judge.gain(after, before),
        reading="unknown"
        if gain is None
        else reading_of(gain, "higher" if judge.sign > 0 else "lower"),
        sentences=(*shown.said(improved=True), *worse(shown, judge.name)),
        metrics=metric_changes(
            ends[0], ends[1], spec.tier_names, outcomes, intervals=intervals.gain
        ),
        event_id=event_id,
        unknown_searches=unknown,
    )
