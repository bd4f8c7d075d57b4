"""A holdout in a table of its own, and how often a holdout was looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from gtmar.data.matrix import load_accounts
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
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "both",
    "dropped_later",
    "later_source",
    "load_with_holdout",
    "looks_at",
    "record_look",
    "recorded",
    "shared_note",
    "whole",
]


T = TypeVar("T")
U = TypeVar("U")


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Do two things, and raise the violations of both in one error.

    Parameters
    ----------
    first, second
        What reads a table each.

    Raises
    ------
    ViolationsError
        With all that either found, each problem with its table's name before it.
    """
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


def whole(spec: ScoringSpec, *, share: float | None = None) -> ScoringSpec:
    """Return a spec that searches all of its table.

    Parameters
    ----------
    spec
        The scoring spec.
    share
        The holdout's share, where one was asked for as well.

    Raises
    ------
    UsageError
        If a share was asked for: accounts are held out of the table, or in another one.
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
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    memory: int | None = None,
    copies_together: bool = True,
) -> Accounts:
    """Load a table to search and the one that is its holdout, by the same spec.

    Parameters
    ----------
    searched, later
        The tables.
    spec
        It searches all of a table, see `whole`.
    as_of, later_as_of
        ISO dates that `days_before` counts from, in either table; None in the second for the first.
    drop_unlabelled, set_aside, memory, copies_together
        As for `load_accounts`, of both.

    Returns
    -------
    Accounts
        The searched ones, `later` as their holdout. What is said of accounts in both tables is
        among the notes.

    Raises
    ------
    ViolationsError
        With all that is wrong in either table, or between them.
    AccountDataError
        If rows stand in both tables.
    """
    options: dict[str, Any] = {
        "drop_unlabelled": drop_unlabelled,
        "set_aside": set_aside,
        "memory": memory,
        "copies_together": copies_together,
    }
    one, two = both(
        lambda: load_accounts(searched, spec, as_of=as_of, **options),
        lambda: load_accounts(later, spec, as_of=later_as_of or as_of, **options),
    )
    violations = _lacking(one, two)
    if spec.window is not None:
        violations += overlap(spec.window, one.table, two.table)
    if violations:
        raise ViolationsError(later.source, violations)
    two = replace(two, checked=replace(two.checked, notes=_shared(one, two, spec)))
    notes = (*two.checked.notes, *one.checked.notes)
    repeated = (one.repeated[0], two.repeated[0])
    one = replace(one, repeated=repeated)
    return replace(one, holdout=two.search, later=two, checked=replace(one.checked, notes=notes))


def _one_table(rows: int) -> AccountDataError:
    return AccountDataError(
        f"{rows:,} rows stand in both tables, id and outcomes alike: what was searched can't be "
        "the holdout",
        hint="give a holdout of other accounts, or of another window",
    )


def shared_note(accounts: Accounts) -> tuple[str, ...]:
    """Return what is said of accounts in both tables; nothing where there is one table."""
    return () if accounts.later is None else accounts.later.checked.notes


def _lacking(searched: Accounts, later: Accounts) -> list[Violation]:
    """Say which outcomes the holdout lacks."""
    there = later.checked.outcomes.columns
    return [
        Violation(column, f"no such column (outcome {role}), which the searched table has")
        for role, column in searched.checked.outcomes.columns.items()
        if role not in there
    ]


def _shared(searched: Accounts, later: Accounts, spec: ScoringSpec) -> tuple[str, ...]:
    """Say how many accounts stand in both tables; refuse two tables that are one."""
    name = later.checked.id_column
    if searched.outcomes_fingerprint == later.outcomes_fingerprint:
        raise _one_table(later.checked.accounts)
    if name is None or searched.checked.id_column != name:
        return ("There is no id to tell whether accounts stand in both tables.",)
    outcomes = later.checked.outcomes.columns.values()
    read = dict.fromkeys([name, *outcomes, *(term.column for term in spec.terms)])
    columns = [column for column in read if column in searched.table.columns]
    one, two = (
        collect(
            table,
            table.frame.select(key_expression(name, table.schema).alias(name), *columns[1:]),
        )
        for table in (searched.table, later.table)
    )
    if [one.schema[c] for c in columns] == [two.schema[c] for c in columns]:
        same = one.join(two, on=columns, how="semi", nulls_equal=True).height
        if same:
            raise _one_table(same)
    again = one.join(two, on=name, how="semi").height
    if not again:
        return _nearly_shared(one[name], two[name])
    return (f"{again:,} accounts stand in both tables, with other values: another window, surely.",)


def _nearly_shared(one: pl.Series, two: pl.Series) -> tuple[str, ...]:
    """Say that ids of two tables without a common account differ in how they are written."""

    def loosely(ids: pl.Series) -> pl.Series:
        return ids.str.to_lowercase().str.strip_chars_start("0")

    alike = loosely(one).is_in(loosely(two).implode())
    if not alike.any():
        return ()
    return (
        f"No account stands in both tables by its id, but {int(alike.sum()):,} do but for case or "
        f"zeros before it, {culprits(one.filter(alike).head(3).to_list())}: are they the same?",
    )


def dropped_later(accounts: Accounts) -> bool:
    """Whether accounts without an outcome were left out of a holdout's own table."""
    return accounts.later is not None and accounts.later.checked.dropped > 0


def recorded(accounts: Accounts) -> dict[str, str]:
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
    own = {
        name.removeprefix(_PREFIX): value
        for name, value in parameters.items()
        if name.startswith(_PREFIX)
    }
    return Source.of_record(own["source"], own) if "source" in own else None


def looks_at(journal: Path, outcomes_fingerprint: str, comparison: str) -> int:
    """Count the comparisons on a holdout, this one included; the same again is none.

    Parameters
    ----------
    journal
        The journal's folder; where there is none yet, this is the first look.
    outcomes_fingerprint
        Of the table that holds the holdout.
    comparison
        What is compared with its incumbent.
    """
    try:
        opened = Journal(journal)
    except RunNotFoundError:
        return 1
    with opened:
        looks = opened.sql("holdout_looks")
    same = looks.filter(pl.col("outcomes_fingerprint") == outcomes_fingerprint)
    return len({*same["comparison"].to_list(), comparison})


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
