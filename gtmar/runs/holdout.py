"""A holdout in a table of its own, and how often a holdout was looked at."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
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
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "both",
    "journal_if_there",
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
    """Read two tables; a `ViolationsError` has what is wrong in either, by the table's name."""
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
    **options: Any,
) -> Accounts:
    """Load a table to search and a later one as its holdout, by a spec of the `whole` table.

    Other parameters are those of `load_accounts`, for both tables; `later_as_of` None is `as_of`.
    What is said of accounts in both tables is among the notes.

    Raises
    ------
    ViolationsError
        With all that is wrong in either table, or between them.
    AccountDataError
        If rows stand in both tables.
    """
    one, two = both(
        lambda: load_accounts(searched, spec, as_of=as_of, **options),
        lambda: load_accounts(later, spec, as_of=later_as_of or as_of, **options),
    )
    violations = [
        Violation(column, f"no such column (outcome {role}), which the searched table has")
        for role, column in one.checked.outcomes.columns.items()
        if role not in two.checked.outcomes.columns
    ]
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
    if again:
        sentence = f"{again:,} accounts stand in both tables, with other values: another window, "
        return (f"{sentence}surely.",)
    loosely = pl.col(name).str.to_lowercase().str.strip_chars_start("0")
    alike = one[name].filter(one.select(loosely)[name].is_in(two.select(loosely)[name].implode()))
    if alike.is_empty():
        return ()
    return (
        f"No account stands in both tables by its id, but {len(alike):,} do but for case or "
        f"zeros before it, {culprits(alike.head(3).to_list())}: are they the same?",
    )


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


def looks_at(journal: Path, outcomes_fingerprint: str, comparison: str) -> int:
    """Count the comparisons on a holdout, this one included; the same again is none.

    `outcomes_fingerprint` is that of the table that holds the holdout, `comparison` what is
    compared with its incumbent. Where there is no journal yet, this is the first look.
    """
    with journal_if_there(journal) as opened:
        if opened is None:
            return 1
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
