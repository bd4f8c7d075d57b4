"""Drift of a table against the one a spec was made on: every feature's column, and the score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import as_of_date, check_contract, id_column
from gtmar.data.encode import categories_of, category
from gtmar.data.prepare import prepared
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.errors import UsageError
from gtmar.runs.holdout import both
from gtmar.runs.score import score, write_rows_aside
from gtmar.runs.session import open_run
from gtmar.spec.encoders import DaysBeforeEncoder
from gtmar.validation.psi import Shift, ShiftReading, shift_of_categories, shift_of_numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gtmar.data.rules import SetAside
    from gtmar.data.scan import Tabular
    from gtmar.spec.encoders import SpecModel
    from gtmar.spec.model import ScoringSpec

__all__ = ["Drift", "drift", "shifts_between"]


@dataclass(frozen=True)
class Drift:
    """What moved between two tables."""

    model: str
    #: The reference and the table held against it, and their accounts.
    against: str
    source: str
    accounts_before: int
    accounts: int
    #: Features in the spec's order, then the score under the name `score`.
    shifts: tuple[Shift, ...]

    @property
    def moved(self) -> tuple[Shift, ...]:
        """What moved by 0.25 or more, and not by chance."""
        return tuple(each for each in self.shifts if each.reading is ShiftReading.LARGE)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        plain = "model against source accounts_before accounts"
        return {
            **{name: getattr(self, name) for name in plain.split()},
            "shifts": [each.as_json() for each in self.shifts],
            "moved": [each.name for each in self.moved],
        }


def drift(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    against: Tabular | None = None,
    journal: str | Path = "journal",
    as_of: str | None = None,
    against_as_of: str | None = None,
    date_format: str | None = None,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    announce: Callable[[str], None] | None = None,
) -> Drift:
    """Hold a table against the one that a spec was made on. Outcomes aren't needed.

    Parameters
    ----------
    data
        The table of today.
    spec
        The scoring spec, or its file.
    against
        The reference. None for the table of the run that the spec came from, which must still be
        as it was.
    journal
        The journal's folder, where that run is.
    as_of, against_as_of
        ISO dates that `days_before` counts from, in either table; None for the other's.
    date_format, set_aside, set_aside_to, announce
        As for `run`, of both tables; `announce` hears what was set aside.

    Raises
    ------
    UsageError
        If there is no reference: none was given, and the spec has no lineage.
    RunNotFoundError
        If the spec's run isn't in the journal.
    NotResumableError
        If the run's table is no longer what it was.
    ViolationsError
        If either table doesn't fit the spec; with all that is wrong in both.
    """
    spec = specs.reading_dates(spec, date_format)
    before_as_of = against_as_of or as_of
    if against is None:
        reference, before_as_of = _made_on(spec, journal, before_as_of)
    else:
        reference = scan(against)
    table = scan(data)
    asides: list[SetAside] = []
    shifts, accounts = shifts_between(
        reference,
        table,
        spec,
        as_of=(before_as_of, as_of or against_as_of),
        set_aside=set_aside,
        asides=asides,
    )
    for sentence in write_rows_aside(asides, set_aside_to):
        if announce is not None:
            announce(sentence)
    return Drift(
        model=spec.model,
        against=reference.source,
        source=table.source,
        accounts_before=accounts[0],
        accounts=accounts[1],
        shifts=shifts,
    )


def _made_on(
    spec: ScoringSpec, journal: str | Path, as_of: str | None
) -> tuple[AccountTable, str | None]:
    """Open the table of the run that a spec came from."""
    if spec.lineage is None:
        raise UsageError(
            f'spec "{spec.model}" has no lineage, so nothing says what table it was made on',
            hint="--against OLD_TABLE names it",
        )
    session = open_run(spec.lineage.run, journal, untouched=False)
    return session.accounts.table, as_of or session.plan.as_of


def shifts_between(
    reference: AccountTable,
    now: AccountTable,
    spec: ScoringSpec,
    *,
    as_of: tuple[str | None, str | None] = (None, None),
    set_aside: float | None = None,
    asides: list[SetAside] | None = None,
) -> tuple[tuple[Shift, ...], tuple[int, int]]:
    """Hold each feature's column of one table against another's, and the score.

    Parameters
    ----------
    reference, now, spec
        The tables, and which of their columns count.
    as_of
        ISO dates that `days_before` counts from, of the reference and now.
    set_aside, asides
        As for `score`, of either table.

    Returns
    -------
    tuple
        The shifts, features in the spec's order and `score` last; and both numbers of accounts. The
        columns that the spec reads are held in memory, of both tables.
    """
    before, after = both(
        lambda: _read(reference, spec, as_of[0], set_aside, asides),
        lambda: _read(now, spec, as_of[1], set_aside, asides),
    )
    shifts = []
    for name in before.columns:
        shown = "score" if name == _SCORE else name
        old, new = before[name], after[name]
        if old.dtype.is_numeric():
            shifts.append(shift_of_numbers(shown, old.to_numpy(), new.to_numpy()))
        else:
            shifts.append(shift_of_categories(shown, old.to_list(), new.to_list()))
    return tuple(shifts), (before.height, after.height)


#: The score's own column, under a name that no feature has.
_SCORE = "\x00score"


def _read(
    table: AccountTable,
    spec: ScoringSpec,
    as_of: str | None,
    set_aside: float | None,
    asides: list[SetAside] | None,
) -> pl.DataFrame:
    """Return each feature's values by its name, numbers or texts as its encoder reads them."""
    table = prepared(table, spec, outcomes=False)
    read = {term.column for term in spec.terms} | {spec.as_of, id_column(spec, table.columns)}
    read |= {*spec.required_columns, *spec.read.columns}
    # The part of a table is drawn once.
    held = collect(table, table.frame.select(name for name in table.columns if name in read))
    table = replace(table, frame=held.lazy())
    checked = check_contract(table, spec, as_of=as_of, outcomes=False, set_aside=set_aside)
    table = checked.table
    if asides is not None:
        asides.append(checked.set_aside)
    day = as_of_date(spec, table.schema, as_of)
    values = [
        _value(feature.column or name, feature.encode, table.schema, day).alias(name)
        for name, feature in spec.features.items()
    ]
    frame = collect(table, table.frame.select(values))
    return frame.with_columns(score(table.frame, spec, as_of=as_of)["score"].alias(_SCORE))


def _value(name: str, encoder: SpecModel, schema: pl.Schema, day: pl.Expr | None) -> pl.Expr:
    """Return a column's value before any encoding; dates as days before the table's own day."""
    listed = categories_of(encoder)
    if listed is not None:
        return category(name, schema[name], listed)
    if isinstance(encoder, DaysBeforeEncoder) and day is not None:
        return (day - pl.col(name)).dt.total_days().cast(pl.Float64)
    return pl.col(name).cast(pl.Float64)
