"""A decision between any two specs, and whether a search saw the accounts that it rests on.

The change from one spec to the other is put on record as a person's, measured over the accounts
searched; then it is decided on as any other, on those held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gtmar import spec as specs
from gtmar.data.matrix import part
from gtmar.data.prepare import prepared
from gtmar.data.rules import OWN, overlap
from gtmar.data.scan import Source, collect, scan
from gtmar.data.split import key_expression
from gtmar.errors import AccountDataError, JournalError, UsageError
from gtmar.journal.files import RunFiles
from gtmar.objective.objective import Judge
from gtmar.runs.holdout import declared_window, journal_if_there, recorded, values_read, whole
from gtmar.runs.inputs import TableOptions, load, refuse_unknown_options
from gtmar.runs.run import try_weights
from gtmar.spec.joined import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["on_record", "refuse_searched", "tried_between"]


def tried_between(
    candidate: ScoringSpec,
    against: ScoringSpec,
    data: Tabular,
    *,
    note: str,
    journal: Path,
    holdout_file: Tabular | None = None,
    holdout_as_of: str | None = None,
    author: str | None = None,
    metric: str | None = None,
    announce: Callable[[str], None] | None = None,
    **table_options: Unpack[TableOptions],
) -> tuple[str, ScoringSpec]:
    """Put the change from one spec to another on record; return ``RUN`` and the spec after it.

    Where the journal has this very change over these very tables, that run is named, and nothing is
    written: to look once more at the same is no other look.

    Raises
    ------
    UsageError
        If the specs don't compare, no account is held out, or a search saw accounts that are.
    """
    refuse_unknown_options(table_options, TableOptions)
    start, changed = joined(against, candidate)
    if holdout_file is not None:
        start, changed = whole(start), whole(changed)
    elif not start.split.holdout:
        raise UsageError(
            "no account is held out: the candidate's split has a holdout of 0, so that a search "
            "may have seen all of them",
            hint="--holdout-file LATER_TABLE",
        )
    tables: dict[str, Any] = {"holdout_file": holdout_file, "holdout_as_of": holdout_as_of}
    accounts, _ = load(scan(data), start, **tables, **table_options)
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
        **tables,
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
