"""Account tables of several dates: one a folder, as gtmar snapshot writes them, or all in one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.locations import local_path
from gtmar.data.scan import Source, collect, scan
from gtmar.errors import AccountDataError
from gtmar.spec.model import stated_date

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["tables_by_date"]

_FOLDER = re.compile(r"features_asof=(\d{4}-\d{2}-\d{2})")
_COLUMN = "features_asof"


def tables_by_date(data: Tabular, spec: ScoringSpec) -> dict[date, AccountTable]:
    """Open the account table of each date, by the day that its features are of.

    That is a folder ``features_asof=DATE`` each, or one table with a column that says so: the one
    of the spec's window, or `features_asof`.

    Raises
    ------
    AccountDataError
        If nothing says of which date an account's row is.
    """
    if folders := _folders(data):
        return {day: scan(Source(str(folder))) for day, folder in folders.items()}
    table = scan(data)
    column = _COLUMN if spec.window is None else spec.window.features_asof
    fixed = stated_date(column)
    if fixed is not None:
        return {fixed: table}
    if column not in table.columns:
        raise AccountDataError(
            f'{table.source}: no column "{column}" says of which date a row is',
            hint="gtmar snapshot makes a folder of tables by date",
        )
    day = pl.col(column).cast(pl.Date)
    days = collect(table, table.frame.select(day.unique().sort()))[column]
    if days.null_count():
        raise AccountDataError(f'{table.source}: column "{column}" is null in some rows')
    return {
        each: replace(table, frame=table.frame.filter(day == pl.lit(each)), texts=None)
        for each in days
    }


def _folders(data: Tabular) -> dict[date, Path]:
    """Return the folders of dates below a local folder, in order; none where it has no such."""
    location = data.location if isinstance(data, Source) else str(data)
    if isinstance(data, pl.DataFrame | pl.LazyFrame) or (
        isinstance(data, Source) and data.query is not None
    ):
        return {}
    place = local_path(location)
    if place is None or not place.is_dir():
        return {}
    named = ((_FOLDER.fullmatch(each.name), each) for each in sorted(place.iterdir()))
    return {date.fromisoformat(found[1]): each for found, each in named if found is not None}
