"""A holdout in a table of its own: is it later, who is in both, and how often was it looked at.

Where the days of a declared window put two tables in order, the same customers in both are the
normal case. Where no window is declared, nothing tells a later table from the one that was searched
but its values; so rows that are in both are refused, and all else is said to be unverified.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from gtmar.autospec.first_spec import window_of
from gtmar.data.matrix import load_accounts
from gtmar.data.prepare import with_days
from gtmar.data.rules import overlap
from gtmar.data.scan import Source, collect
from gtmar.data.split import key_expression
from gtmar.errors import (
    AccountDataError,
    RunNotFoundError,
    UsageError,
    Violation,
    ViolationsError,
    culprits,
)
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.plain_data import some
from gtmar.safe_text import without_credentials
from gtmar.spec.model import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

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
    "shared_account_notes",
    "without_holdout",
]


T = TypeVar("T")
U = TypeVar("U")


def read_both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Read two tables; a `ViolationsError` lists what is wrong with both, by the tables' names."""
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


#: What a start record's parameters call whatever concerns the holdout's table.
_PREFIX = "holdout_"


def without_holdout(spec: ScoringSpec, *, share: float | None = None) -> ScoringSpec:
    """Return a spec that searches all of its table; `UsageError` where a share is held out, too."""
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
    """Load a table to search and a later one as its holdout, by a spec `without_holdout`.

    Other parameters are those of `load_accounts`, for both tables; `later_as_of` None is `as_of`;
    `spec_file` is where an error's hint says that a window is to be declared. What is said of
    accounts in both tables, and of their order of time, is among the notes.

    Raises
    ------
    ViolationsError
        With all that is wrong in either table, or between them.
    AccountDataError
        If rows stand in both tables, and no window says that one is later than the other.
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
    said = _shared_sentences(one, two)
    two = replace(two, checked=replace(two.checked, notes=said))
    checked = replace(
        one.checked,
        notes=(*said, *warnings, *one.checked.notes),
        warnings=(*warnings, *one.checked.warnings),
    )
    return replace(one, later=two, checked=checked)


# ---- the order of time ---------------------------------------------------------------------------


def declared_window(
    spec: ScoringSpec, searched: AccountTable, later: AccountTable
) -> Window | None:
    """Return the window whose days say that a table is later: the spec's, or that of one recipe.

    None where there is none, or it doesn't say when outcomes were complete.
    """
    window = spec.window or _recipe_window(searched, later)
    return None if window is None or window.outcome_end is None else window


def _recipe_window(*tables: AccountTable) -> Window | None:
    """Return the window of tables that one recipe of gtmar snapshot made; None of others."""
    recipes = {table.origin.get("recipe") for table in tables}
    days = window_of(tables[0])
    if len(recipes) > 1 or None in recipes or days is None:
        return None
    dated = all(table.schema.get(n) == pl.Date for table in tables for n in days.values())
    return Window(**days) if dated else None


def order_unverified(accounts: Accounts, spec: ScoringSpec) -> str | None:
    """Say that nothing shows the order of time of what was searched and held out; None else.

    Of a holdout that is a part of the table searched, it is that features come before outcomes.
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
    """Refuse rows that stand in both tables, and two tables that are one."""
    name, there = later.checked.id_column, searched.table.columns
    columns = [column for column in identifying_columns(later, spec) if column in there]
    same = 0
    if searched.outcomes_fingerprint == later.outcomes_fingerprint:
        same = later.checked.accounts
    elif name is not None and searched.checked.id_column == name:
        one, two = (_ids_and_columns(each, name, columns) for each in (searched, later))
        if one.schema == two.schema:
            same = one.join(two, on=one.columns, how="semi", nulls_equal=True).height
    if not same:
        return
    where = "the spec" if spec_file is None else f'"{spec_file}"'
    found = _window_between(searched.table, later.table, spec)
    if found is None:
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
        listing=["window:", *(f"  {key}: {json.dumps(name)}" for key, name in found.items())],
        hint="is it a later window of the same customers, and are these its days? Then the lines "
        f"above say so in {where}, {instead}; else give a holdout of other accounts",
        window=found,
    )


def identifying_columns(accounts: Accounts, spec: ScoringSpec) -> list[str]:
    """Return the columns of outcomes and features that make a row what it is, without the id."""
    outcomes = accounts.checked.outcomes.columns.values()
    read = dict.fromkeys([*outcomes, *spec.columns])
    return [name for name in read if name != accounts.checked.id_column]


def _ids_and_columns(accounts: Accounts, name: str, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Read ids, as their table spells them, and other columns."""
    table = accounts.table
    key = key_expression(name, table.schema).alias(name)
    return collect(table, table.frame.select(key, *columns))


def _window_between(
    searched: AccountTable, later: AccountTable, spec: ScoringSpec
) -> dict[str, str] | None:
    """Find the two columns of days, named alike in both tables, that put the tables in order.

    Of several the earliest for the features and the latest for the outcomes: they ask most.
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


def ids_in_both(searched: Accounts, later: Accounts) -> pl.Series | None:
    """Return the ids of a later table that stand in the one searched, each once; None without."""
    name = later.checked.id_column
    if name is None or searched.checked.id_column != name:
        return None
    one, two = (_ids_and_columns(each, name) for each in (searched, later))
    return two.join(one, on=name, how="semi")[name].unique(maintain_order=True)


def shared_account_notes(accounts: Accounts) -> tuple[str, ...]:
    """Return what is said of accounts in both tables; nothing where there is one table."""
    return () if accounts.later is None else accounts.later.checked.notes


def _shared_sentences(searched: Accounts, later: Accounts) -> tuple[str, ...]:
    """Say how many accounts stand in both tables, and how many are new."""
    again = ids_in_both(searched, later)
    if again is None:
        return ("There is no id to tell whether accounts stand in both tables.",)
    name = str(later.checked.id_column)
    one, two = (
        _ids_and_columns(each, name).unique(maintain_order=True) for each in (searched, later)
    )
    if len(again):
        new = two.height - len(again)
        return (
            f"{some(len(again), 'account stands', 'accounts stand')} in both tables, the same "
            f"customers; {new:,} of the "
            "holdout's are new.",
        )
    loosely = pl.col(name).str.to_lowercase().str.strip_chars_start("0")
    alike = one[name].filter(one.select(loosely)[name].is_in(two.select(loosely)[name].implode()))
    if alike.is_empty():
        return ()
    return (
        f"No account stands in both tables by its id, but {len(alike):,} do but for case or "
        f"zeros before it, {culprits(alike.head(3).to_list())}: are they the same?",
    )


def holdout_parameters(accounts: Accounts) -> dict[str, str]:
    """Return what a start record's parameters say of a holdout that is a table of its own."""
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
    """Read where a holdout's own table was off a start record; None where the run had none."""
    named = {k.removeprefix(_PREFIX): v for k, v in parameters.items() if k.startswith(_PREFIX)}
    return Source.of_record(named["source"], named) if "source" in named else None


@contextmanager
def journal_if_there(folder: str | Path) -> Iterator[Journal | None]:
    """Open a journal; None where there is none yet."""
    try:
        opened = Journal(folder)
    except RunNotFoundError:
        opened = None
    with opened or nullcontext():
        yield opened


def count_looks(journal: Path, outcomes_fingerprint: str, comparison: str) -> int:
    """Count the comparisons on a holdout, this one included; the same again is none.

    `outcomes_fingerprint` is that of the table that holds the holdout, `comparison` what is
    compared with its incumbent. Where there is no journal yet, this is the first look.
    """
    return len({*comparisons_on(journal, outcomes_fingerprint), comparison})


def comparisons_on(journal: Path, outcomes_fingerprint: str) -> set[str]:
    """Return the comparisons that a holdout was looked at for; parameters as for `count_looks`."""
    with journal_if_there(journal) as opened:
        if opened is None:
            return set()
        looks = opened.sql("holdout_looks")
    same = looks.filter(pl.col("outcomes_fingerprint") == outcomes_fingerprint)
    return set(same["comparison"].to_list())


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
    """Write a look as an event; `fields` are its columns. Returns the event's id."""
    details = {
        "outcomes_fingerprint": outcomes_fingerprint,
        "comparison": comparison,
        "objective": objective,
        "baseline_value": before,
        "best_value": after,
        "higher_is_better": higher_is_better,
    }
    return write_event(journal, EventKind.LOOK, details=details, **fields)
