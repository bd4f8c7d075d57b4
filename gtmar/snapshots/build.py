"""Build the account table of each date by one SELECT, and write it to a folder or a lakehouse."""

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
from gtmar.snapshots.statement import RAW, SnapshotDays, source_rows
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
    #: Whether the table has outcomes, because its outcome window is over.
    outcomes: bool
    #: Location in the form that ``--data`` accepts.
    data: str
    #: `new`; `same`: an equal table existed; `outcomes`: outcomes were added to equal features.
    change: str


class SnapshotPlace(Protocol):
    """A target that stores one account table per date: a local folder, or a lakehouse table."""

    @property
    def tells_sources(self) -> bool:
        """Whether the sources are recorded in the Parquet metadata rather than in a file beside."""
        ...

    def of(self, day: date) -> str:
        """Return the location of a date's table in the form that ``--data`` accepts."""
        ...

    def put(self, day: date, made: Path, key: str, sources: str) -> str:
        """Store a date's Parquet file; return `SnapshotTable.change`.

        `key` is the id column; `sources` is JSON that describes the sources.
        """
        ...


@dataclass(frozen=True)
class Built:
    """The result of a build."""

    recipe_id: str
    #: By source: its location, number of rows, and hash, table version or time of reading.
    sources: dict[str, dict[str, Any]]
    tables: tuple[SnapshotTable, ...]
    #: Notes on the sources: leakage risks, rows left out for want of an account or a date.
    notes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]


def _checked(opened: RawHistory) -> list[Conflict]:
    """Return the settled contradictions; raise `AccountDataError` if one has no rule."""
    conflicting = conflicts(opened)
    refuse_unsettled(conflicting)
    return conflicting


def snapshot_sql(recipe: SnapshotRecipe, day: date, **options: Any) -> str:
    """Return the DuckDB SELECT of one date, over raw tables named ``raw:SOURCE``.

    `options` are those of `history`, and so are errors; `AccountDataError` where the history has
    contradictions without a rule.
    """
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
    """Write an account table for each date, in a folder as ``features_asof=DATE/accounts.parquet``.

    Parameters
    ----------
    recipe, base, memory
        As for `history`.
    target
        A folder, or a lakehouse table from `integrations.tables_by_date`. An existing table with
        the same rows is left as it is. If the new table only adds outcomes, the existing one gets
        them. Any other difference is an error, so that a table that was scored never changes
        silently.
    days
        The dates; None for those of the recipe.
    watch
        Called with the current step, the number of dates done, and the number of all dates.

    Returns
    -------
    Built
        The tables, and the sources they were built from.

    Raises
    ------
    UsageError
        If a date's table exists with other rows, or the target can't be written.
    RecipeError, AccountDataError
        As for `history`, and if the history has contradictions without a rule. Nothing is written
        then.

    Notes
    -----
    DuckDB streams the sources once a date. Sums are of decimals, so the bytes of a table depend on
    neither the order of rows nor the number of threads.
    """
    if days is not None:
        # Parsing validates these dates like those of the recipe.
        fields = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
        recipe = parse(json.dumps({**fields, "dates": sorted({day.isoformat() for day in days})}))
    wanted = recipe.days
    destination = _Folder(Path(target)) if isinstance(target, str | Path) else target
    tables = list[SnapshotTable]()

    def tell(what: str) -> None:
        if watch is not None:
            watch(what, len(tables), len(wanted))

    with history(recipe, base=base, memory=memory, watch=tell) as opened:
        tell("looking for contradictions")
        conflicts = _checked(opened)
        sources = _sources(opened)
        metadata = _metadata(recipe, conflicts, sources)
        versions = json.dumps(sources, sort_keys=True)
        if destination.tells_sources:
            metadata["gtmar_versions"] = versions
        for day in wanted:
            tell(f"table of {day}")
            text, span = opened.statement(day)
            tables.append(_written(opened, text, span, destination, metadata, versions))
        _note_stale(opened, wanted[-1])
    return Built(recipe_id(recipe), sources, tuple(tables), tuple(opened.notes), tuple(conflicts))


def _sources(opened: RawHistory) -> dict[str, dict[str, Any]]:
    """Return location, number of rows and version of each source."""
    return {
        name: {
            "data": ", ".join(map(without_credentials, source.places.values())),
            "rows": opened.ask(f"select count(*) from {quoted(f'{RAW}{name}')}")[0][0],
            **opened.sources[name].version,
        }
        for name, source in opened.recipe.sources.items()
    }


def _metadata(
    recipe: SnapshotRecipe, conflicts: list[Conflict], sources: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Return the Parquet metadata that records the recipe, its conventions and the sources."""
    rows = {name: source["rows"] for name, source in sources.items()}
    counted = {each.kind: each.count for each in conflicts}
    return {
        "gtmar_recipe": recipe_id(recipe),
        "gtmar_conventions": json.dumps(conventions(recipe), sort_keys=True),
        "gtmar_sources": json.dumps({"rows": rows, "conflicts": counted}, sort_keys=True),
    }


def _note_stale(opened: RawHistory, day: date) -> None:
    """Note event sources that end over a month before the newest date, and an old `data_until`."""
    recipe = opened.recipe
    if recipe.data_until is not None and day > recipe.data_until:
        opened.notes.append(
            f"The recipe says that the history is complete until {recipe.data_until}: the table of "
            f"{day} lacks what came since."
        )
    for name, source in recipe.sources.items():
        if source.kind == "events":
            newest = f"cast(max({quoted(str(source.time))}) as date)"
            [[last]] = opened.ask(f"select {newest} from ({source_rows(recipe, name)})")
            if last is not None and (day - last).days > 31:
                opened.notes.append(
                    f'Source "{name}" has no row after {last}, {(day - last).days} days before '
                    f"{day}."
                )


def _written(
    opened: RawHistory,
    text: str,
    days: SnapshotDays,
    destination: SnapshotPlace,
    metadata: dict[str, str],
    sources: str,
) -> SnapshotTable:
    """Write one date's table to the scratch folder, then store it at its target."""
    aside = opened.scratch / "accounts.parquet"
    keys = ", ".join(f"{name}: {literal(value)}" for name, value in metadata.items())
    # As in any hive table, the date is part of the folder's name and no column of the file.
    body = f"select * exclude (features_asof) from ({text})"
    try:
        opened.connection.execute(
            f"copy ({body}) to '{aside}' (format parquet, compression zstd, "
            f"row_group_size {_ROWS}, kv_metadata {{{keys}}})"
        )
    except duckdb.Error as err:
        raise AccountDataError(f"table of {days.day}: {first_line(err)}") from err
    accounts = pl.scan_parquet(aside).select(pl.len()).collect().item()
    change = destination.put(days.day, aside, opened.recipe.id, sources)
    aside.unlink()
    return SnapshotTable(days.day, int(accounts), days.over, destination.of(days.day), change)


@dataclass(frozen=True)
class _Folder:
    """A folder of hive partitions, with a file beside each table that describes its sources.

    The description is kept outside the table, so that a source whose rows were only reordered
    still gives a byte-identical table.
    """

    path: Path
    tells_sources: bool = False

    def of(self, day: date) -> str:
        return str(self.path / f"features_asof={day.isoformat()}")

    def put(self, day: date, made: Path, key: str, sources: str) -> str:  # noqa: ARG002 - in order
        path = Path(self.of(day)) / "accounts.parquet"
        change = "new"
        if path.exists():
            try:
                old = pl.read_parquet(path, hive_partitioning=False)
            except (pl.exceptions.PolarsError, OSError) as err:
                raise UsageError(f'"{path}" is there already and is no table of accounts') from err
            new = pl.read_parquet(made, hive_partitioning=False)
            change = change_of_frames(old, new, str(path))
        if change != "same":
            # A killed build may have left a sources file without a table: it is overwritten.
            beside = path.with_name(SOURCES_FILE)
            with made.open("rb") as file:
                write_together(
                    {
                        Output(beside, parents=True, force=True): f"{sources}\n",
                        Output(path, parents=True, force=change == "outcomes"): lambda out: (
                            shutil.copyfileobj(file, out)
                        ),
                    }
                )
        return change


def change_of_frames(old: pl.DataFrame, new: pl.DataFrame, path: str) -> str:
    """Classify the change from an old table to a new one with rows in the same order.

    Returns and raises as `change_of`.
    """
    shared = [name for name in old.columns if name in new.columns]
    alike = new.select(shared).equals(old.select(shared))
    return change_of(old.columns, new.columns, alike=alike, path=path)


def change_of(old: Sequence[str], new: Sequence[str], *, alike: bool, path: str) -> str:
    """Classify the change from an old table to a new one.

    Parameters
    ----------
    old, new
        Column names of the existing and of the new table.
    alike
        Whether the columns that both have are equal.
    path
        Location of the existing table, for the error.

    Returns
    -------
    str
        ``same``, or ``outcomes`` if the new table only adds outcome columns.

    Raises
    ------
    UsageError
        If existing rows would change.
    """
    if alike and set(old) == set(new):
        return "same"
    came = set(new) - set(old)
    if alike and set(old) < set(new) and "outcome_end" in came:
        return "outcomes"
    raise UsageError(
        f'"{without_credentials(path)}" is there already with other rows; it is not replaced',
        hint="the history or the recipe has changed since: give -o another place",
    )
