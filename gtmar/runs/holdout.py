"""Holdouts: the order of time, accounts in both tables, counted looks, accounts searched before.

If a declared window shows that one table is later than the other, customers may be in both: that is
the normal case. Without a window nothing but values can tell a later table from the one searched.
So rows that are in both tables are refused, and a warning says that the order is unverified.
Accounts that a search of the journal saw can't prove the weights that it chose.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from gtmar import spec as specs
from gtmar.autospec.first_spec import window_of
from gtmar.data.matrix import load_accounts, part
from gtmar.data.prepare import prepared, with_days
from gtmar.data.rules import OWN, overlap
from gtmar.data.scan import Source, collect, scan
from gtmar.data.split import key_expression
from gtmar.errors import (
    AccountDataError,
    JournalError,
    RunNotFoundError,
    UsageError,
    Violation,
    ViolationsError,
    culprits,
)
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.plain_data import some
from gtmar.safe_text import without_credentials
from gtmar.spec.model import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.spec.model import ScoringSpec, Split

__all__ = [
    "comparisons_on",
    "count_looks",
    "declared_window",
    "holdout_parameters",
    "identifying_columns",
    "ids_in_both",
    "journal_if_there",
    "later_source",
    "load_with_holdout",
    "order_unverified",
    "read_both",
    "record_look",
    "refuse_searched",
    "searched_before",
    "searched_note",
    "shared_account_notes",
    "without_holdout",
]


T = TypeVar("T")
U = TypeVar("U")


def read_both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Call two functions that read a table each; join their `ViolationsError`s into one."""
    try:
        one = first()
    except ViolationsError as err:
        try:
            second()
        except ViolationsError as other:
            raise ViolationsError(
                f"{err.source} and {other.source}",
                [
                    Violation(v.column, f"{each.source}: {v.problem}", hint=v.hint, rows=v.rows)
                    for each in (err, other)
                    for v in each.violations
                ],
            ) from None
        raise
    return one, second()


#: Prefix of a start record's parameters that are about the holdout's own table.
_PREFIX = "holdout_"
#: Column of canonical ids; no table has one of this name.
_KEY = f"{OWN}id"


def without_holdout(spec: ScoringSpec, *, share: float | None = None) -> ScoringSpec:
    """Return a spec that holds nothing of its table out.

    Raises `UsageError` if a `share` of the table was asked to be held out, too.
    """
    if share:
        raise UsageError(
            f"a holdout of {share:g} of the table and one in a file exclude each other",
            hint="leave --holdout away: with --holdout-file the whole table is searched",
        )
    return spec.model_copy(update={"split": spec.split.model_copy(update={"holdout": 0.0})})


def load_with_holdout(
    searched: AccountTable,
    later: AccountTable,
    spec: ScoringSpec,
    *,
    as_of: str | None = None,
    later_as_of: str | None = None,
    spec_file: str | Path | None = None,
    **options: Any,
) -> Accounts:
    """Load a table to search, and a later one as its holdout.

    Parameters
    ----------
    searched, later
        The two tables.
    spec
        The spec, from `without_holdout`.
    as_of, later_as_of
        ISO dates that `days_before` counts from in either table; None in the later one for `as_of`.
    spec_file
        The spec's file, which an error's hint names as the place to declare a window in.
    options
        As for `load_accounts`, for both tables.

    Returns
    -------
    Accounts
        Its notes say how many accounts are in both tables, and if the order of time is unverified.

    Raises
    ------
    ViolationsError
        With all that is wrong in either table, or between them.
    AccountDataError
        If rows are in both tables, and no window says that one is later than the other.
    """
    one, two = read_both(
        lambda: load_accounts(searched, spec, as_of=as_of, **options),
        lambda: load_accounts(later, spec, as_of=later_as_of or as_of, **options),
    )
    violations = [
        Violation(column, f"no such column (outcome {role}), which the searched table has")
        for role, column in one.checked.outcomes.columns.items()
        if role not in two.checked.outcomes.columns
    ]
    window = declared_window(spec, one.table, two.table)
    if window is not None:
        violations += overlap(window, one.table, two.table)
    if violations:
        raise ViolationsError(later.source, violations)
    if window is None:
        _refuse_the_same(one, two, spec, spec_file)
    one = replace(one, repeated=(one.repeated[0], two.repeated[0]))
    one = replace(one, holdout=two.search, later=two)
    unverified = order_unverified(one, spec)
    warnings = () if unverified is None else (unverified,)
    sentences = _shared_sentences(one, two)
    two = replace(two, checked=replace(two.checked, notes=sentences))
    checked = replace(
        one.checked,
        notes=(*sentences, *warnings, *one.checked.notes),
        warnings=(*warnings, *one.checked.warnings),
    )
    return replace(one, later=two, checked=checked)


# ---- the order of time ---------------------------------------------------------------------------


def declared_window(
    spec: ScoringSpec, searched: AccountTable, later: AccountTable
) -> Window | None:
    """Return the window that orders two tables: the spec's, or that of the recipe of both.

    None if there is none, or it doesn't say when outcomes were complete.
    """
    window = spec.window or _recipe_window(searched, later)
    return None if window is None or window.outcome_end is None else window


def _recipe_window(*tables: AccountTable) -> Window | None:
    """Return the window of tables that the same recipe of gtmar snapshot made, else None."""
    recipes = {table.origin.get("recipe") for table in tables}
    days = window_of(tables[0])
    if len(recipes) > 1 or None in recipes or days is None:
        return None
    dated = all(table.schema.get(n) == pl.Date for table in tables for n in days.values())
    return Window(**days) if dated else None


def order_unverified(accounts: Accounts, spec: ScoringSpec) -> str | None:
    """Return a sentence if no window proves the order of time, else None.

    That the holdout's own table is later than the one searched or, for a holdout that is a part of
    the table, that features were known before outcomes.
    """
    later = accounts.later
    if later is None:
        window = spec.window or _recipe_window(accounts.table)
        if window is not None and (window.outcome_start or window.outcome_end):
            return None
        return (
            "The order of time is unverified: no window says that the features were known before "
            "the outcomes."
        )
    if declared_window(spec, accounts.table, later.table) is not None:
        return None
    return (
        "The order of time is unverified: no window says that the holdout's table is later than "
        "the one searched."
    )


def _refuse_the_same(
    searched: Accounts, later: Accounts, spec: ScoringSpec, spec_file: str | Path | None
) -> None:
    name, there = later.checked.id_column, searched.table.columns
    columns = [column for column in identifying_columns(later, spec) if column in there]
    same = 0
    if searched.outcomes_fingerprint == later.outcomes_fingerprint:
        same = later.checked.accounts
    elif name is not None and searched.checked.id_column == name:
        one, two = (_keys(each.table, name, columns) for each in (searched, later))
        if one.schema == two.schema:
            same = one.join(two, on=one.columns, how="semi", nulls_equal=True).height
    if not same:
        return
    where = "the spec" if spec_file is None else f'"{spec_file}"'
    window = _window_between(searched.table, later.table, spec)
    if window is None:
        raise AccountDataError(
            f"{some(same, 'row stands', 'rows stand')} in both tables, id and outcomes alike: "
            "what was searched can't "
            "be the holdout",
            hint=f"give other accounts; or, of a later window, declare it in {where}: window: "
            "{features_asof: COLUMN, outcome_end: COLUMN}, two columns of days that both tables "
            "have; folders named features_asof=DATE/outcome_end=DATE are columns, too",
        )
    instead = "in place of its window" if spec.window is not None else "at its end"
    raise AccountDataError(
        f"{some(same, 'row stands', 'rows stand')} in both tables, id and outcomes alike, and no "
        "window says which is "
        "later: what was searched can't be the holdout",
        listing=["window:", *(f"  {key}: {json.dumps(name)}" for key, name in window.items())],
        hint="is it a later window of the same customers, and are these its days? Then the lines "
        f"above say so in {where}, {instead}; else give a holdout of other accounts",
        window=window,
    )


def identifying_columns(accounts: Accounts, spec: ScoringSpec) -> list[str]:
    """Return the columns that identify a row's content: outcomes and features, without the id."""
    outcomes = accounts.checked.outcomes.columns.values()
    read = dict.fromkeys([*outcomes, *spec.columns])
    return [name for name in read if name != accounts.checked.id_column]


def _keys(table: AccountTable, name: str, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return the canonical ids of a table, as `_KEY`, and other columns."""
    key = key_expression(name, table.schema).alias(_KEY)
    return collect(table, table.frame.select(key, *columns))


def _window_between(
    searched: AccountTable, later: AccountTable, spec: ScoringSpec
) -> dict[str, str] | None:
    """Return two columns of days, in both tables, that would declare a window between them.

    If several would, the earliest for the features and the latest for the outcomes, which is the
    strictest window.
    """
    kinds = (pl.Date, pl.Datetime, pl.String, pl.Categorical)
    one, two = (
        with_days(
            table,
            [name for name, dtype in table.schema.items() if dtype in kinds],
            date_format=spec.date_format,
            zone=spec.time_zone,
        )
        for table in (searched, later)
    )
    days = [n for n in one.columns if one.schema[n] == two.schema.get(n) == pl.Date]
    last = collect(one, one.frame.select(pl.col(days).max())).row(0) if days else ()
    when = {name: day for name, day in zip(days, last, strict=True) if day is not None}
    earliest = sorted(when, key=when.__getitem__)
    for asof, end in ((x, y) for x in earliest for y in reversed(earliest) if x != y):
        window = Window(features_asof=asof, outcome_end=end)
        ordered = (pl.col(asof) < pl.col(end)).all(ignore_nulls=False).fill_null(value=False)
        if all(
            collect(table, table.frame.select(ordered)).item() for table in (one, two)
        ) and not overlap(window, one, two):
            return window.model_dump(exclude_none=True)
    return None


# ---- accounts in both tables ---------------------------------------------------------------------


def _ids_of(searched: Accounts, later: Accounts) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Return the canonical ids of both tables; None if they have no common column of ids."""
    name = later.checked.id_column
    if name is None or searched.checked.id_column != name:
        return None
    return _keys(searched.table, name), _keys(later.table, name)


def ids_in_both(searched: Accounts, later: Accounts) -> pl.Series | None:
    """Return the distinct ids of a later table that the searched one has; None without ids."""
    ids = _ids_of(searched, later)
    if ids is None:
        return None
    return ids[1].join(ids[0], on=_KEY, how="semi")[_KEY].unique(maintain_order=True)


def shared_account_notes(accounts: Accounts) -> tuple[str, ...]:
    """Return the sentences about accounts in both tables; none if there is one table."""
    return () if accounts.later is None else accounts.later.checked.notes


def _shared_sentences(searched: Accounts, later: Accounts) -> tuple[str, ...]:
    ids = _ids_of(searched, later)
    if ids is None:
        return ("There is no id to tell whether accounts stand in both tables.",)
    one, two = (each.unique(maintain_order=True) for each in ids)
    again = two.join(one, on=_KEY, how="semi").height
    if again:
        return (
            f"{some(again, 'account stands', 'accounts stand')} in both tables, the same "
            f"customers; {two.height - again:,} of the holdout's are new.",
        )
    loosely = pl.col(_KEY).str.to_lowercase().str.strip_chars_start("0")
    known = two.select(loosely)[_KEY].implode()
    alike = one[_KEY].filter(one.select(loosely)[_KEY].is_in(known))
    if alike.is_empty():
        return ()
    return (
        f"No account stands in both tables by its id, but {len(alike):,} do but for case or "
        f"zeros before it, {culprits(alike.head(3).to_list())}: are they the same?",
    )


def holdout_parameters(accounts: Accounts) -> dict[str, str]:
    """Return the parameters of a start record that are about the holdout's own table."""
    later = accounts.later
    if later is None:
        return {}
    facts = {
        "source": without_credentials(later.table.source),
        "outcomes_fingerprint": later.outcomes_fingerprint,
        "features_fingerprint": later.features_fingerprint,
        **later.table.origin,
        **{name: str(value) for name, value in later.checked.set_aside.parameters.items()},
    }
    return {f"{_PREFIX}{name}": value for name, value in facts.items()}


def later_source(parameters: Mapping[str, Any]) -> Source | None:
    """Return the holdout's own table by a start record's parameters; None if the run had none."""
    named = {k.removeprefix(_PREFIX): v for k, v in parameters.items() if k.startswith(_PREFIX)}
    return Source.of_record(named["source"], named) if "source" in named else None


@contextmanager
def journal_if_there(journal: Journal | str | Path) -> Iterator[Journal | None]:
    """Open a journal for the context, unless it is open; yield None if there is none yet."""
    if isinstance(journal, Journal):
        yield journal
        return
    try:
        opened = Journal(journal)
    except RunNotFoundError:
        opened = None
    with opened or nullcontext():
        yield opened


def count_looks(journal: Journal | Path, outcomes_fingerprint: str, comparison: str) -> int:
    """Count the distinct comparisons made on a holdout, this one included.

    `outcomes_fingerprint` is that of the table that the holdout is in. `comparison` identifies what
    is compared with the incumbent; the same comparison again isn't counted.
    """
    return len({*comparisons_on(journal, outcomes_fingerprint), comparison})


def comparisons_on(journal: Journal | Path, outcomes_fingerprint: str) -> set[str]:
    """Return the comparisons recorded for a holdout; see `count_looks`."""
    with journal_if_there(journal) as opened:
        if opened is None:
            return set()
        looks = opened.sql_rows("holdout_looks", columns=())
    return {
        look["comparison"] for look in looks if look["outcomes_fingerprint"] == outcomes_fingerprint
    }


def record_look(
    journal: Path,
    outcomes_fingerprint: str,
    comparison: str,
    *,
    objective: str,
    before: float | None,
    after: float | None,
    higher_is_better: bool,
    **fields: Any,
) -> str:
    """Write a look at a holdout as an event, and return the event's id.

    `fields` are columns of the event; `before` and `after` are values of the objective.
    """
    details = {
        "outcomes_fingerprint": outcomes_fingerprint,
        "comparison": comparison,
        "objective": objective,
        "baseline_value": before,
        "best_value": after,
        "higher_is_better": higher_is_better,
    }
    return write_event(journal, EventKind.LOOK, details=details, **fields)


# ---- accounts that a search saw ------------------------------------------------------------------


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
    own, starts = specs.points_id(spec), []
    for run_id in ids:
        start = RunFiles(journal, run_id).record("start")
        begun = specs.parse(start["spec"], source="the run's spec")
        if specs.points_id(specs.reweighed(begun, spec.weights)) == own:
            starts.append(start)
    return starts


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
