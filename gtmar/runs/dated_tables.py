"""The account table of each date: one a folder, as gtmar snapshot writes them, or all in one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.dates import ASOF, AskedDates, day_of
from gtmar.data.locations import local_path
from gtmar.data.outcomes import OutcomeColumns
from gtmar.data.scan import Source, collect, days_of, scan
from gtmar.errors import AccountDataError
from gtmar.spec.model import stated_date

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["outcome_end", "outcomes_known", "tables_by_date"]

_FOLDER = re.compile(rf"{ASOF}=(\d{{4}}-\d{{2}}-\d{{2}})")
#: Outcomes that say who stayed.
_LABELS = ("retained", "churned", "mrr_end")


def tables_by_date(data: Tabular, opened: AccountTable | None = None) -> dict[date, AccountTable]:
    """Open the account table of each date, by the day that its features are of.

    That is a folder ``features_asof=DATE`` each, whose columns may differ, or one table with a
    column `features_asof`, or the one that its dates were asked for by. `opened` is all of it,
    where it is open already.

    Raises
    ------
    AccountDataError
        If nothing says of which date an account's row is.
    """
    if folders := _folders(data):
        return {day: scan(Source(str(folder))) for day, folder in folders.items()}
    table = opened or scan(data)
    column, days = (table.dates.column, table.dates.days) if table.dates else (ASOF, days_of(table))
    if not days:
        raise AccountDataError(
            f'{table.source}: no column "{ASOF}" says of which date a row is',
            hint="gtmar snapshot makes a folder of tables by date; --at COLUMN=FIRST..LAST names "
            "another column",
        )
    every = replace(table, dates=None)
    return {day: every.keeping(partial(_of_day, column, day)) for day in days}


def _of_day(column: str, day: date, schema: pl.Schema) -> pl.Expr:
    return day_of(column, schema[column]) == pl.lit(day)


def _folders(data: Tabular) -> dict[date, Path]:
    """Return the folders of dates below a local folder, in order; none where it has no such."""
    if isinstance(data, Source) and data.query is not None:
        return {}
    if not isinstance(data, str | Source) and not hasattr(data, "iterdir"):
        return {}
    place = local_path(data.location if isinstance(data, Source) else str(data))
    if place is None or not place.is_dir():
        return {}
    named = ((_FOLDER.fullmatch(each.name), each) for each in sorted(place.iterdir()))
    folders = {date.fromisoformat(found[1]): each for found, each in named if found is not None}
    if isinstance(data, Source) and data.at is not None:
        asked = AskedDates.parse(data.at)
        return {day: each for day, each in folders.items() if asked.first <= day <= asked.last}
    return folders


def outcome_end(table: AccountTable, spec: ScoringSpec) -> date | None:
    """Return the last day of a table's outcomes, by the spec's window or the usual column."""
    stated = None if spec.window is None else spec.window.outcome_end
    column = stated or "outcome_end"
    fixed = stated_date(column)
    if fixed is not None or column not in table.columns:
        return fixed
    last = table.frame.select(day_of(column, table.schema[column]).max())
    found: date | None = collect(table, last).item()
    return found


def outcomes_known(table: AccountTable, spec: ScoringSpec) -> bool:
    """Whether a table says of any account who stayed."""
    found = OutcomeColumns.found(spec.outcomes, table.columns)
    labels = [found.columns[role] for role in _LABELS if role in found.columns]
    known = pl.any_horizontal(pl.col(labels).is_not_null().any())
    return bool(labels) and bool(collect(table, table.frame.select(known)).item())
