"""Account tables of a recipe's dates, written as one hive folder a date."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from gtmar.data.locations import quoted
from gtmar.errors import AccountDataError, UsageError
from gtmar.outputs import Output
from gtmar.snapshots.conflicts import Conflict, conflicts, refuse_unsettled
from gtmar.snapshots.raw_history import RawHistory, history
from gtmar.snapshots.recipe import SnapshotRecipe, conventions, parse, recipe_id
from gtmar.snapshots.statement import RAW, all_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from gtmar.snapshots.statement import SnapshotDays

__all__ = ["Built", "SnapshotTable", "build", "snapshot_sql", "snapshot_table"]

_ROWS = 122_880


@dataclass(frozen=True)
class SnapshotTable:
    """The table of one date."""

    day: date
    accounts: int
    #: Whether it has outcomes: the window is over.
    outcomes: bool
    path: Path
    #: `new`, `same` as was there, or `outcomes`: those came to features that are as they were.
    change: str


@dataclass(frozen=True)
class Built:
    """What was written."""

    recipe_id: str
    tables: tuple[SnapshotTable, ...]
    #: What is worth knowing of the sources: leak risks, rows without an account or a date.
    notes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]


def _checked(opened: RawHistory) -> list[Conflict]:
    found = conflicts(opened)
    refuse_unsettled(found)
    return found


def snapshot_table(recipe: SnapshotRecipe, day: date, **options: Any) -> pl.DataFrame:
    """Return the account table of one date as a frame; options are those of `history`."""
    with history(recipe, **options) as opened:
        _checked(opened)
        text, _ = opened.statement(day)
        try:
            return pl.DataFrame(opened.connection.sql(text).pl())
        except duckdb.Error as err:
            raise _failed(day, err) from err


def snapshot_sql(recipe: SnapshotRecipe, day: date, **options: Any) -> str:
    """Return DuckDB's SELECT of one date, over raw tables that are called ``raw:SOURCE``."""
    with history(recipe, **options) as opened:
        _checked(opened)
        return opened.statement(day)[0]


def _failed(day: date, err: Exception) -> AccountDataError:
    return AccountDataError(f"table of {day}: {str(err).strip().partition(chr(10))[0]}")


def build(
    recipe: SnapshotRecipe,
    folder: str | Path,
    *,
    base: Path | None = None,
    memory: int | None = None,
    days: list[date] | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Built:
    """Write an account table for each date, as ``features_asof=DATE/accounts.parquet`` in a folder.

    Parameters
    ----------
    recipe, base, memory
        As for `history`.
    folder
        Where they go. A date that is there stays as it is where its rows are the same; where only
        outcomes have come to it, it gets them; with other rows it is an error: a table that was
        scored is not changed silently.
    days
        The dates; None for the recipe's.
    watch
        Told how many of how many dates are done.

    Raises
    ------
    UsageError
        If a date's table is there with other rows, or the folder can't be written.
    RecipeError, AccountDataError
        As for `history`, and if the history contradicts itself without a rule; nothing is written
        then.

    Notes
    -----
    DuckDB streams the sources once a date. Sums are of decimals, so neither the order of rows nor
    the number of threads changes a byte.
    """
    if days is not None:
        # What has to hold of the recipe's dates has to of these.
        said = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
        recipe = parse(json.dumps({**said, "dates": sorted({day.isoformat() for day in days})}))
    wanted = recipe.days
    tables = []
    with history(recipe, base=base, memory=memory) as opened:
        found = _checked(opened)
        metadata = _metadata(opened, found)
        for number, day in enumerate(wanted, start=1):
            text, span = opened.statement(day)
            place = Path(folder) / f"features_asof={day.isoformat()}" / "accounts.parquet"
            tables.append(_written(opened, text, span, place, metadata))
            if watch is not None:
                watch(number, len(wanted))
        _note_stale(opened, wanted[-1])
    return Built(recipe_id(recipe), tuple(tables), tuple(opened.notes), tuple(found))


def _metadata(opened: RawHistory, found: list[Conflict]) -> dict[str, str]:
    """Return what a table's file says of how it was made."""
    recipe = opened.recipe
    rows = {
        name: opened.ask(f"select count(*) from {quoted(f'{RAW}{name}')}")[0][0]
        for name in recipe.sources
    }
    counted = {each.kind: each.count for each in found}
    return {
        "gtmar_recipe": recipe_id(recipe),
        "gtmar_conventions": json.dumps(conventions(recipe), sort_keys=True),
        "gtmar_sources": json.dumps({"rows": rows, "conflicts": counted}, sort_keys=True),
    }


def _note_stale(opened: RawHistory, day: date) -> None:
    """Note what breaks off before the newest date: events by more than a month, or all of it."""
    recipe = opened.recipe
    if recipe.data_until is not None and day > recipe.data_until:
        opened.notes.append(
            f"The recipe says that the history is complete until {recipe.data_until}: the table of "
            f"{day} lacks what came since."
        )
    for name, source in recipe.sources.items():
        if source.kind == "events":
            newest = f"cast(max({quoted(str(source.time))}) as date)"
            [[last]] = opened.ask(f"select {newest} from ({all_rows(recipe, name)})")
            if last is not None and (day - last).days > 31:
                opened.notes.append(
                    f'Source "{name}" has no row after {last}, {(day - last).days} days before '
                    f"{day}."
                )


def _written(
    opened: RawHistory, text: str, days: SnapshotDays, place: Path, metadata: dict[str, str]
) -> SnapshotTable:
    """Write one date's table aside and put it in its place."""
    aside = opened.scratch / "accounts.parquet"
    keys = ", ".join(
        f"{name}: '{value.replace(chr(39), chr(39) * 2)}'" for name, value in metadata.items()
    )
    # The date stands in the folder's name, as in any hive table.
    body = f"select * exclude (features_asof) from ({text})"
    try:
        opened.connection.execute(
            f"copy ({body}) to '{aside}' (format parquet, compression zstd, "
            f"row_group_size {_ROWS}, kv_metadata {{{keys}}})"
        )
    except duckdb.Error as err:
        raise _failed(days.day, err) from err
    accounts = pl.scan_parquet(aside).select(pl.len()).collect().item()
    change = _change(place, aside)
    if change != "same":
        output = Output(place, parents=True, force=change == "outcomes")
        with aside.open("rb") as made:
            output.write(lambda file: shutil.copyfileobj(made, file))
    aside.unlink()
    return SnapshotTable(days.day, int(accounts), days.over, place, change)


def _change(place: Path, aside: Path) -> str:
    """Say what a new table changes; refuse it where rows that are there would be others."""
    if not place.exists():
        return "new"
    try:
        old = pl.read_parquet(place, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as err:
        raise UsageError(f'"{place}" is there already and is no table of accounts') from err
    new = pl.read_parquet(aside, hive_partitioning=False)
    if old.equals(new):
        return "same"
    shared = [name for name in old.columns if name in new.columns]
    came = [name for name in new.columns if name not in old.columns]
    if shared == old.columns and "outcome_end" in came and new.select(shared).equals(old):
        return "outcomes"
    raise UsageError(
        f'"{place}" is there already with other rows; it is not replaced',
        hint="the history or the recipe has changed since: give -o another folder",
    )
