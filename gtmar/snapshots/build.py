"""Account tables of a recipe's dates, each by one SELECT, and where they go: a folder a date."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import polars as pl

from gtmar.data.locations import literal, quoted
from gtmar.data.table_files import SOURCES_FILE
from gtmar.errors import AccountDataError, UsageError
from gtmar.outputs import Output, write_together
from gtmar.safe_text import without_credentials
from gtmar.snapshots.conflicts import Conflict, conflicts, refuse_unsettled
from gtmar.snapshots.raw_history import RawHistory, history
from gtmar.snapshots.recipe import SnapshotRecipe, conventions, parse, recipe_id
from gtmar.snapshots.statement import RAW, SnapshotDays, all_rows
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date


__all__ = [
    "Built",
    "SnapshotPlace",
    "SnapshotTable",
    "build",
    "change_of",
    "change_of_frames",
    "snapshot_sql",
]

_ROWS = 122_880


@dataclass(frozen=True)
class SnapshotTable:
    """The table of one date."""

    day: date
    accounts: int
    #: Whether it has outcomes: the window is over.
    outcomes: bool
    #: Where it is, as ``--data`` takes it.
    data: str
    #: `new`, `same` as was there, or `outcomes`: those came to features that are as they were.
    change: str


class SnapshotPlace(Protocol):
    """Where tables of dates go: a folder here, or a table of a lakehouse."""

    @property
    def tells_sources(self) -> bool:
        """Whether the table's file is to say what its sources were: nothing lies beside it."""
        ...

    def of(self, day: date) -> str:
        """Return where a date is, as ``--data`` takes it."""
        ...

    def put(self, day: date, made: Path, key: str, sources: str) -> str:
        """Put a date's Parquet file in; return `SnapshotTable.change`."""
        ...


@dataclass(frozen=True)
class Built:
    """What was written."""

    recipe_id: str
    #: What each source was: its place, rows, and hash, version or time of reading.
    sources: dict[str, dict[str, Any]]
    tables: tuple[SnapshotTable, ...]
    #: What is worth knowing of the sources: leak risks, rows without an account or a date.
    notes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]


def _checked(opened: RawHistory) -> list[Conflict]:
    found = conflicts(opened)
    refuse_unsettled(found)
    return found


def snapshot_sql(recipe: SnapshotRecipe, day: date, **options: Any) -> str:
    """Return DuckDB's SELECT of one date, over raw tables that are called ``raw:SOURCE``."""
    with history(recipe, **options) as opened:
        _checked(opened)
        return opened.statement(day)[0]


def build(
    recipe: SnapshotRecipe,
    target: str | Path | SnapshotPlace,
    *,
    base: Path | None = None,
    memory: int | None = None,
    days: list[date] | None = None,
    watch: Callable[[str, int, int], None] | None = None,
) -> Built:
    """Write an account table for each date, as ``features_asof=DATE/accounts.parquet`` in a folder.

    Parameters
    ----------
    recipe, base, memory
        As for `history`.
    target
        Where they go: a folder, or what `integrations.tables_by_date` gives. A date that is there
        stays as it is where its rows are the same; where only outcomes have come to it, it gets
        them; with other rows it is an error: a table that was scored is not changed silently.
    days
        The dates; None for the recipe's.
    watch
        Told what is being done, and how many of how many dates are there.

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
    place = _Folder(Path(target)) if isinstance(target, str | Path) else target
    tables = list[SnapshotTable]()

    def tell(what: str) -> None:
        if watch is not None:
            watch(what, len(tables), len(wanted))

    with history(recipe, base=base, memory=memory, watch=tell) as opened:
        tell("looking for contradictions")
        found = _checked(opened)
        sources = _sources(opened)
        metadata = _metadata(recipe, found, sources)
        told = json.dumps(sources, sort_keys=True)
        if place.tells_sources:
            metadata["gtmar_versions"] = told
        for day in wanted:
            tell(f"table of {day}")
            text, span = opened.statement(day)
            tables.append(_written(opened, text, span, place, metadata, told))
        _note_stale(opened, wanted[-1])
    return Built(recipe_id(recipe), sources, tuple(tables), tuple(opened.notes), tuple(found))


def _sources(opened: RawHistory) -> dict[str, dict[str, Any]]:
    """Return what each source was: where, how many rows, and what is known of its version."""
    return {
        name: {
            "data": ", ".join(map(without_credentials, source.places.values())),
            "rows": opened.ask(f"select count(*) from {quoted(f'{RAW}{name}')}")[0][0],
            **opened.sources[name].version,
        }
        for name, source in opened.recipe.sources.items()
    }


def _metadata(
    recipe: SnapshotRecipe, found: list[Conflict], sources: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Return what a table's file says of how it was made."""
    rows = {name: source["rows"] for name, source in sources.items()}
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
    opened: RawHistory,
    text: str,
    days: SnapshotDays,
    place: SnapshotPlace,
    metadata: dict[str, str],
    sources: str,
) -> SnapshotTable:
    """Write one date's table aside and put it in its place."""
    aside = opened.scratch / "accounts.parquet"
    keys = ", ".join(f"{name}: {literal(value)}" for name, value in metadata.items())
    # The date stands in the folder's name, as in any hive table.
    body = f"select * exclude (features_asof) from ({text})"
    try:
        opened.connection.execute(
            f"copy ({body}) to '{aside}' (format parquet, compression zstd, "
            f"row_group_size {_ROWS}, kv_metadata {{{keys}}})"
        )
    except duckdb.Error as err:
        raise AccountDataError(f"table of {days.day}: {first_line(err)}") from err
    accounts = pl.scan_parquet(aside).select(pl.len()).collect().item()
    change = place.put(days.day, aside, opened.recipe.id, sources)
    aside.unlink()
    return SnapshotTable(days.day, int(accounts), days.over, place.of(days.day), change)


@dataclass(frozen=True)
class _Folder:
    """A folder of hive partitions, with a file beside each table that says what its sources were.

    Not within the table: a source whose rows come in another order is another file, and gives the
    same bytes.
    """

    path: Path
    tells_sources: bool = False

    def of(self, day: date) -> str:
        return str(self.path / f"features_asof={day.isoformat()}")

    def put(self, day: date, made: Path, key: str, sources: str) -> str:  # noqa: ARG002 - in order
        place = Path(self.of(day)) / "accounts.parquet"
        change = "new"
        if place.exists():
            try:
                old = pl.read_parquet(place, hive_partitioning=False)
            except (pl.exceptions.PolarsError, OSError) as err:
                raise UsageError(f'"{place}" is there already and is no table of accounts') from err
            new = pl.read_parquet(made, hive_partitioning=False)
            change = change_of_frames(old, new, str(place))
        if change != "same":
            # What lies beside a table that isn't there, of a build that was killed, says nothing.
            beside = place.with_name(SOURCES_FILE)
            with made.open("rb") as file:
                write_together(
                    {
                        Output(beside, parents=True, force=True): f"{sources}\n",
                        Output(place, parents=True, force=change == "outcomes"): lambda out: (
                            shutil.copyfileobj(file, out)
                        ),
                    }
                )
        return change


def change_of_frames(old: pl.DataFrame, new: pl.DataFrame, place: str) -> str:
    """Say what a new table changes of one whose rows are in the same order; as `change_of`."""
    shared = [name for name in old.columns if name in new.columns]
    alike = new.select(shared).equals(old.select(shared))
    return change_of(old.columns, new.columns, alike=alike, place=place)


def change_of(old: Sequence[str], new: Sequence[str], *, alike: bool, place: str) -> str:
    """Say what a new table changes, by its columns and whether shared ones are alike.

    Returns
    -------
    str
        ``same``, or ``outcomes`` where these have come to features that are as they were.

    Raises
    ------
    UsageError
        If rows that are there would be others.
    """
    if alike and set(old) == set(new):
        return "same"
    came = set(new) - set(old)
    if alike and set(old) < set(new) and "outcome_end" in came:
        return "outcomes"
    raise UsageError(
        f'"{without_credentials(place)}" is there already with other rows; it is not replaced',
        hint="the history or the recipe has changed since: give -o another place",
    )
