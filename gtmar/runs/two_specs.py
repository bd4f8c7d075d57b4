"""Two specs: how they differ, and the change from one to the other as a journaled experiment."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import isdir
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import id_column
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import AccountTable, scan
from gtmar.documents import is_spec_file
from gtmar.errors import AccountDataError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.lookup import Reference, checkout, measured_as, resolve
from gtmar.metrics.metric import basis_note
from gtmar.objective.objective import Judge
from gtmar.plain_data import PlainData, html_sentence, html_table
from gtmar.runs.holdout import (
    holdout_parameters,
    journal_if_there,
    refuse_searched,
    searched_note,
    without_holdout,
)
from gtmar.runs.inputs import HoldoutOptions, load, newest_date, refuse_unknown_options
from gtmar.runs.run import try_weights
from gtmar.runs.score import refuse_other_id, tier_changes
from gtmar.runs.side_by_side import side_by_side
from gtmar.spec.joined import joined

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["Difference", "Side", "difference", "on_record", "tried_between"]

#: Columns of runs that must be equal for two experiments' metrics to compare, and their names.
_SHARED = {
    "outcomes_fingerprint": "tables",
    "tiers_id": "tiers",
    "evaluator_version": "evaluators",
}


@dataclass(frozen=True)
class Side:
    """One of two specs that are compared."""

    #: Its file, its experiment or its model, as it was given.
    name: str
    spec: ScoringSpec
    #: The experiment that measured it; None if none did, as for a file that was edited.
    experiment: Reference | None


@dataclass(frozen=True)
class Difference(PlainData):
    """The difference between two specs."""

    _left_out = ("one", "two", "weights")

    one: Side
    two: Side
    #: Weight by term, None where a side has no such term.
    weights: tuple[tuple[str, int | None, int | None], ...]
    #: Parts of the spec other than weights that differ.
    parts: tuple[str, ...]
    #: Metrics that differ: metric, one, two, change, reading; None if they don't compare.
    metrics: pl.DataFrame | None
    #: Why metrics don't compare.
    unmeasured: str | None
    #: Accounts by tier before and after: from, to, accounts; None without a table.
    moves: pl.DataFrame | None
    #: Accounts that change tier: id or row, both scores, both tiers; those that move most first.
    moved: pl.DataFrame | None
    #: By-tier metrics of both at the first one's tier sizes, see `side_by_side`; None without a
    #: table that has outcomes.
    equal_sizes: dict[str, Any] | None
    #: The newest date, if it was taken from a table of several; else None.
    newest: date | None = None
    #: A sentence if a run searched accounts of the table for the weights of one of the two.
    searched: str | None = None

    @property
    def earned_by(self) -> dict[str, str]:
        """What earns the points of each weight that differs, on both sides if they differ in it."""
        one, two = self.one.spec.earned_by, self.two.spec.earned_by
        either = {name: (one.get(name), two.get(name)) for name, *_ in self.weights}
        return {
            name: f"one: {old}; two: {new}" if old and new and old != new else new or old or ""
            for name, (old, new) in either.items()
            if old or new
        }

    def _repr_html_(self) -> str:
        names = ("weight", self.one.name, self.two.name, "earned by")
        earned = self.earned_by
        weights = [(*row, earned.get(row[0], "")) for row in self.weights]
        shown = html_table(names, weights, caption=f"{self.one.name} and {self.two.name}")
        if self.parts:
            shown += html_sentence(f"Also different: {', '.join(self.parts)}.")
        if self.metrics is not None:
            caption = "Metrics that differ, on the accounts searched"
            shown += html_table(self.metrics.columns, self.metrics.rows(), caption=caption)
            bases = self.metrics["basis"].drop_nulls().unique().to_list()
            if note := basis_note(bases[0] if bases else None):
                shown += html_sentence(note)
        elif self.unmeasured:
            shown += html_sentence(f"Metrics don't compare: {self.unmeasured}.")
        shown += html_sentence(self.searched) if self.searched else ""
        if self.moves is not None:
            shown += html_table(self.moves.columns, self.moves.rows(), caption="Accounts by tier")
        return shown

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        earned = self.earned_by
        return {
            "one": self.one.name,
            "two": self.two.name,
            "weights": [
                {"weight": name, "one": one, "two": two, "earned_by": earned.get(name)}
                for name, one, two in self.weights
            ],
            **super().as_json(),
        }


def difference(
    one: ScoringSpec | str | Path,
    two: ScoringSpec | str | Path,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    as_of: str | None = None,
) -> Difference:
    """Compare two specs, and with a table the scores that they give.

    Parameters are those of `gtmar.diff`. From a table of several dates the newest one is taken.
    Raises `RunNotFoundError` or `SpecError` if one of the two doesn't exist, or can't be read.
    """
    metrics = None
    files = not any(isinstance(each, str) and not is_spec_file(each) for each in (one, two))
    # Unlike `Path`, it takes a name that is too long for a path.
    there = isdir(journal)  # noqa: PTH112
    if files and not (there and any(Path(journal).glob("runs/*/start.parquet"))):
        sides = _side(one, None), _side(two, None)
        unmeasured: str | None = "neither was measured in a journal"
    else:
        with Journal(journal) as opened:
            sides = _side(one, opened), _side(two, opened)
            first, second = (side.experiment for side in sides)
            unmeasured = _incomparable(opened, *sides)
            if first is not None and second is not None and unmeasured is None:
                metrics = opened.sql(
                    "difference",
                    run=first.run_id,
                    experiment=first.experiment_id,
                    other=second.run_id,
                    other_experiment=second.experiment_id,
                )
    old, new = (side.spec for side in sides)
    weights = (
        (name, old.weights.get(name), new.weights.get(name))
        for name in dict.fromkeys([*old.weights, *new.weights])
    )
    left, right = _unweighted(old), _unweighted(new)
    given: AccountTable | None = None
    newest: date | None = None
    if data is not None:
        given = scan(data)
        given, newest = newest_date(given, id_column(old, given.columns))
    moves, moved = (None, None) if given is None else _moves(given, old, new, as_of=as_of)
    equal_sizes = None if given is None else _at_equal_sizes(given, old, new, as_of=as_of)
    searched = None
    if given is not None and equal_sizes is not None:
        searched = searched_note(given, (old, new), journal, as_of)
    return Difference(
        *sides,
        weights=tuple(row for row in weights if row[1] != row[2]),
        parts=tuple(key for key in sorted({*left, *right}) if left.get(key) != right.get(key)),
        metrics=metrics,
        unmeasured=unmeasured,
        moves=moves,
        moved=moved,
        equal_sizes=equal_sizes,
        newest=newest,
        searched=searched,
    )


def _at_equal_sizes(
    table: AccountTable, one: ScoringSpec, two: ScoringSpec, *, as_of: str | None
) -> dict[str, Any] | None:
    """Measure both specs at the first one's tier sizes; None if the table has no outcomes."""
    if one.orientation != two.orientation:
        return None
    try:
        first, second = (
            load_accounts(table, without_holdout(spec), as_of=as_of) for spec in (one, two)
        )
    except AccountDataError:
        return None
    old, new = (spec.vector for spec in (one, two))
    sides = (first.search, one, old), (second.search, two, new)
    return side_by_side(*sides, first.checked.outcomes)


def _side(given: ScoringSpec | str | Path, journal: Journal | None) -> Side:
    """Return a side by its spec, file or experiment, with the experiment that measured it."""
    if journal is not None and isinstance(given, str) and not is_spec_file(given):
        return Side(given, checkout(journal, given), resolve(journal, given))
    spec = given if isinstance(given, specs.ScoringSpec) else specs.load(given)
    measured = None if journal is None else measured_as(journal, spec)
    return Side(str(measured or spec.model) if spec is given else str(given), spec, measured)


def _incomparable(journal: Journal, one: Side, two: Side) -> str | None:
    """Word why the metrics of two sides don't compare; None if they do."""
    unknown = [side.name for side in (one, two) if side.experiment is None]
    if unknown:
        return f"{' and '.join(unknown)} was not measured in this journal as it is"
    ids = [side.experiment.run_id for side in (one, two) if side.experiment]
    rows = journal.query(
        f"select run_id, {', '.join(_SHARED)} from runs "
        "where list_contains(getvariable('ids'), run_id)",
        ids=ids,
    ).rows_by_key("run_id", named=True, unique=True)
    first, second = (rows[run_id] for run_id in ids)
    differing = [word for column, word in _SHARED.items() if first[column] != second[column]]
    return f"they were measured on different {' and '.join(differing)}" if differing else None


def _unweighted(spec: ScoringSpec) -> dict[str, Any]:
    """Return the parts of a spec in canonical form, each feature a part, without weights."""
    parts = specs.canonical(spec)
    for name, feature in parts.pop("features").items():
        bins = feature["encode"]["bins"] if feature["encode"]["kind"] == "bins" else {}
        for weighted in (feature, *bins.values()):
            weighted.pop("weight", None)
        parts[f"features.{name}"] = feature
    return parts


def _moves(
    table: AccountTable, one: ScoringSpec, two: ScoringSpec, *, as_of: str | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    refuse_other_id(one, two)
    changed = tier_changes(table, one, two, as_of=as_of)
    order = {name: index for spec in (two, one) for index, name in enumerate(spec.tier_names)}
    tiers = pl.col("tier_one", "tier_two")
    moves = changed.group_by("tier_one", "tier_two").agg(accounts=pl.len())
    return moves.sort(tiers.replace_strict(order, return_dtype=pl.Int64)), changed


# ---- the change from one to the other, journaled -------------------------------------------------


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
    """Journal the change from one spec to another; return the run's id and the spec after it.

    If the journal has the same change over the same tables, that run's id is returned, and nothing
    is written: the same comparison again counts as no further look at the holdout.

    Parameters
    ----------
    candidate, against
        The specs after and before the change.
    data, note, journal, author, metric, announce, table_options
        As for `try_weights`.

    Raises
    ------
    UsageError
        If the specs can't be joined, no account is held out, or a search saw accounts that are.
    """
    refuse_unknown_options(table_options, HoldoutOptions)
    start, changed = joined(against, candidate)
    if table_options.get("holdout_file") is not None:
        start, changed = without_holdout(start), without_holdout(changed)
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
    """Return the id of the run that tried this change over these tables; None if there is none."""
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
            columns=("run_id", "number", "weights"),
            spec=specs.spec_id(start),
            outcomes=accounts.outcomes_fingerprint,
            features=accounts.features_fingerprint,
            objective=objective,
        ).to_dicts()
    name, later = "holdout_outcomes_fingerprint", holdout_parameters(accounts)
    for row in rows:
        then = dict(row["parameters"]).get(name)
        if dict(row["weights"]) == changed.weights and then == later.get(name):
            return str(row["run_id"])
    return None
