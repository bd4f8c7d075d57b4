"""Which accounts a search of the journal saw: these can't prove the weights that it chose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts, part
from gtmar.data.prepare import prepared
from gtmar.data.rules import OWN, overlap
from gtmar.data.scan import Source, collect, scan
from gtmar.data.split import key_expression
from gtmar.errors import AccountDataError, JournalError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.runs.holdout import declared_window, identifying_columns, without_holdout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.spec.model import ScoringSpec, Split

__all__ = ["SearchedBefore", "refuse_searched", "searched_before", "searched_note"]


def refuse_searched(
    journal: Path, accounts: Accounts, spec: ScoringSpec, *from_specs: ScoringSpec
) -> tuple[str, ...]:
    """Raise if a search that chose weights of a spec saw accounts that are held out.

    Those searches are the ones in the lineage of each spec in `from_specs`, back to the first.
    `spec` is the one that the accounts were loaded by. Accounts may have been searched in an
    earlier window, if a declared window shows that; see `load_with_holdout`.

    Returns
    -------
    tuple of str
        A sentence for each search whose accounts can't be compared.

    Raises
    ------
    UsageError
        If a search saw some of them; it says how many, and which search.
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
    """Yield the ids of the searches in a spec's lineage, the latest first."""
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
    """Count the held-out accounts that a run searched; None if that isn't known."""
    later, identifier = accounts.later, accounts.checked.id_column
    prints = start["outcomes_fingerprint"]
    if later is None and prints == accounts.outcomes_fingerprint:
        return 0
    if later is not None and prints == later.outcomes_fingerprint:
        return int(start["search_accounts"])
    table = _table_of(start, identifier, spec)
    if identifier is None or table is None:
        return None
    columns: list[str] = []
    if later is None:
        held = part(accounts.table, identifier, spec.split, held=True, copies=accounts.copies)
    else:
        held, window = later.table, declared_window(spec, table, later.table)
        if window is not None and not overlap(window, table, held):
            return 0
        if window is None:
            # Without a window only rows with the same values are surely the same accounts.
            columns = [
                n for n in identifying_columns(later, spec) if table.schema.get(n) == held.schema[n]
            ]
    old = _keys(part(table, identifier, _split_of(start)), identifier, columns)
    now = _keys(held, identifier, columns)
    return now.join(old, on=now.columns, how="semi", nulls_equal=True).height


def _table_of(
    start: dict[str, Any], identifier: str | None, spec: ScoringSpec
) -> AccountTable | None:
    """Open the table of a run's start record; None if it is gone, or has no ids to compare."""
    if identifier is None or not Path(start["source"]).exists():
        return None
    try:
        table = scan(Source.of_record(start["source"], dict(start["parameters"])))
        table = prepared(table, spec)
    except AccountDataError:
        return None
    return table if identifier in table.columns else None


def _split_of(start: dict[str, Any]) -> Split:
    return specs.parse(start["spec"], source="the run's spec").split


def _keys(table: AccountTable, identifier: str, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return the canonical ids of a table, and other columns."""
    key = key_expression(identifier, table.schema).alias(f"{OWN}id")
    return collect(table, table.frame.select(key, *columns))


# ---- a score judged on a table -------------------------------------------------------------------


@dataclass(frozen=True)
class SearchedBefore:
    """How many of a table's accounts a run searched for a spec's weights."""

    run_id: str
    searched: int
    accounts: int

    @property
    def note(self) -> str | None:
        """A sentence that the score looks better here than it is; None if none was searched."""
        if not self.searched:
            return None
        return (
            f"In-sample: run {self.run_id} searched {self.searched:,} of these {self.accounts:,} "
            "accounts for its weights, so the score looks better on them than it is."
        )


def searched_before(
    accounts: Accounts, spec: ScoringSpec, journal: Path, as_of: str | None
) -> SearchedBefore | None:
    """Return how many of these accounts a run of the journal searched for the spec's weights.

    The run is found by the spec's lineage; for a spec without one, it is a search that came upon
    these very weights with the same encoders, whatever the model was called. None if no such run is
    known, or its table is gone. A run that began with this very spec did not choose its weights.
    """

    def fingerprint(split: Split) -> str:
        """Return the fingerprint of ids, outcomes and split that a run with this split has."""
        dropped = accounts.checked.dropped > 0
        other = spec.model_copy(update={"split": split})
        loaded = load_accounts(accounts.table, other, as_of=as_of, drop_unlabelled=dropped)
        return loaded.outcomes_fingerprint

    def searched(start: dict[str, Any]) -> int | None:
        """Return how many of the accounts a run searched; None where that isn't known."""
        split = _split_of(start)
        if start["outcomes_fingerprint"] == fingerprint(split):
            return int(start["search_accounts"])
        identifier = accounts.checked.id_column
        table = _table_of(start, identifier, spec)
        if identifier is None or table is None:
            return None
        sides = (part(table, identifier, split), accounts.table)
        old, now = (_keys(side, identifier).unique() for side in sides)
        return now.join(old, on=now.columns, how="semi").height

    try:
        if spec.lineage is not None:
            starts = [RunFiles(journal, spec.lineage.run).record("start")]
        else:
            starts = _came_upon(journal, spec)
    except JournalError:
        return None
    counts = {start["run_id"]: searched(start) for start in starts}
    known = {run_id: count for run_id, count in counts.items() if count is not None}
    if not known:
        return None
    most = max(known, key=lambda run_id: known[run_id])
    return SearchedBefore(most, known[most], accounts.checked.accounts)


def _came_upon(journal: Path, spec: ScoringSpec) -> list[dict[str, Any]]:
    """Return the start records of searches that evaluated a spec's weights, the latest first."""
    with Journal(journal) as opened:
        ids = opened.query(
            "select run_id from experiments join runs using (run_id) "
            "where kind = 'search' and number > 0 "
            "and cardinality(weights) = len(getvariable('names')) "
            "and cardinality(changed_weights(weights, "
            "map(getvariable('names'), getvariable('weights')))) = 0 "
            "group by run_id order by max(started_at) desc",
            columns=("run_id", "number", "weights"),
            names=[*spec.weights],
            weights=[*spec.weights.values()],
        )["run_id"].to_list()
    own, found = specs.points_id(spec), []
    for run_id in ids:
        start = RunFiles(journal, run_id).record("start")
        begun = specs.parse(start["spec"], source="the run's spec")
        if specs.points_id(specs.reweighed(begun, spec.weights)) == own:
            found.append(start)
    return found


def searched_note(
    data: Tabular, given: Sequence[ScoringSpec], journal: str | Path, as_of: str | None = None
) -> str | None:
    """Return a sentence if a run searched accounts of a table for the weights of one of the specs.

    None if no such run is known, or the table has no outcomes that keep the data contract.
    """
    for spec in given:
        try:
            whole = without_holdout(spec)
            accounts = load_accounts(scan(data), whole, as_of=as_of, drop_unlabelled=True)
        except AccountDataError:
            continue
        before = searched_before(accounts, spec, Path(journal), as_of)
        if before is not None and before.note is not None:
            return before.note
    return None
