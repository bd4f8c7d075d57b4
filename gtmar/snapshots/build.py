"""Account tables of a recipe's dates, written as one hive folder a date."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.data.locations import quoted
from gtmar.data.scan import Source as Location
from gtmar.data.scan import default_budget, scan
from gtmar.data.table_files import located
from gtmar.errors import AccountDataError, RecipeError, UsageError, culprits, nearest
from gtmar.outputs import Output
from gtmar.safe_text import is_remote
from gtmar.snapshots.closed_sql import refuse_condition, refuse_select
from gtmar.snapshots.recipe import Monthly, Recipe, Subscriptions, Transactions, recipe_id
from gtmar.snapshots.statement import RAW, Window, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    import duckdb
    import polars as pl

__all__ = ["Built", "build", "history", "snapshot_table"]

_ROWS = 122_880


@dataclass(frozen=True)
class Built:
    """What was written."""

    recipe_id: str
    #: By date: accounts, and whether outcomes are known.
    tables: tuple[tuple[date, int, bool], ...]
    #: What is worth knowing of the sources: leak risks, rows without an account or a date.
    notes: tuple[str, ...]
    folder: str | None


class History:
    """A recipe's sources, opened in DuckDB; no other table or file can be read there."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, recipe: Recipe, scratch: Path
    ) -> None:
        self.connection, self.recipe, self.scratch = connection, recipe, scratch
        self.notes: list[str] = []
        self.until: date | None = None

    def table(self, day: date) -> tuple[str, Window]:
        """Return the SELECT of a date, and its days."""
        window = Window.of(self.recipe, day, self.until)
        return statement(self.recipe, window), window


@contextmanager
def history(recipe: Recipe, *, base: Path | None = None, memory: int | None = None) -> Iterator[History]:
    """Open a recipe's sources and check what the recipe says of them.

    Parameters
    ----------
    recipe
        The recipe.
    base
        Folder that relative paths of its sources begin at; None for the current one.
    memory
        Bytes that DuckDB may take; what needs more goes to a temporary folder. None for half of
        the machine's.

    Raises
    ------
    RecipeError
        If a column isn't there or is of no use, or a condition isn't one.
    AccountDataError
        If a source can't be read, or its rows contradict each other.
    """
    import duckdb

    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as connection:
        allowed: list[str] = []
        for name, source in recipe.sources.items():
            for path in _opened(connection, name, source, base, Path(scratch)):
                allowed.append(str(path))
        for setting in (
            f"memory_limit = '{(memory or default_budget()) >> 10}KiB'",
            f"temp_directory = '{scratch}'",
            f"allowed_directories = {_listed([scratch])}",
            f"allowed_paths = {_listed(allowed)}",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "python_enable_replacements = false",
            "preserve_insertion_order = true",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"set {setting}")
        opened = History(connection, recipe, Path(scratch))
        _check(opened)
        yield opened


def _listed(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _opened(
    connection: duckdb.DuckDBPyConnection, name: str, source: Any, base: Path | None, scratch: Path
) -> list[Path]:
    """Make a source a view under its raw name; return the files that it reads."""
    place = source.data
    if base is not None and not is_remote(place) and "://" not in place:
        place = str(base / place)
    view = quoted(f"{RAW}{name}")
    files: list[Path] = []
    if source.query is None and not is_remote(place) and "://" not in place:
        try:
            kind, found = located(place)
        except AccountDataError as err:
            raise AccountDataError(f"source {name}: {err.message}", hint=err.hint) from err
        if kind == "parquet":
            files = [path.absolute() for path in found]
    if not files:
        table = scan(place if source.query is None else Location(place, query=source.query))
        files = [scratch / f"{name}.parquet"]
        table.frame.sink_parquet(files[0])
    connection.execute(
        f"create view {view} as select * from read_parquet({_listed(list(map(str, files)))}, "
        "hive_partitioning = false, union_by_name = true)"
    )
    return files


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    rows = connection.execute(f"describe select * from {quoted(f'{RAW}{name}')}").fetchall()
    return {row[0]: row[1] for row in rows}


_TIMES = ("DATE", "TIMESTAMP")
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "U")


def _check(opened: History) -> None:
    """Refuse what the recipe says of its sources and isn't so: all of it, in one message."""
    recipe, connection = opened.recipe, opened.connection
    wrong: list[str] = []
    schemas = {name: _columns(connection, name) for name in recipe.sources}

    def asked(place: str, source: str, column: str | None, kinds: tuple[str, ...] = ()) -> None:
        if column is None:
            return
        kind = schemas[source].get(column)
        if kind is None:
            likely = nearest(column, schemas[source])
            hint = f'; did you mean "{likely}"?' if likely else ""
            wrong.append(f'{place}: source "{source}" has no column "{column}"{hint}')
        elif kinds and not kind.startswith(kinds):
            what = "dates" if kinds is _TIMES else "numbers"
            wrong.append(f'{place}: column "{column}" of "{source}" must hold {what}, got {kind}')

    for name, source in recipe.sources.items():
        place = f"sources.{name}"
        asked(place, name, source.account)
        for column in (source.at, source.from_, source.until, source.valid_from, source.known_at):
            asked(place, name, column, _TIMES)
        if source.where is not None:
            refuse_condition(connection, source.where, f"{place}.where")
        if source.kind == "today":
            opened.notes.append(
                f'Source "{name}" is as it is today: what it says of an account may have come after '
                "the date, so its features may know the outcome."
            )
    shape = recipe.revenue.shape
    asked("revenue", shape.source, shape.amount, _NUMBERS)
    asked("revenue", shape.source, shape.currency)
    if isinstance(shape, Subscriptions):
        asked("revenue", shape.source, shape.quantity, _NUMBERS)
        asked("revenue", shape.source, shape.discount, _NUMBERS)
        if isinstance(shape.months, str):
            asked("revenue", shape.source, shape.months, _NUMBERS)
    numbers = ("sum", "mean", "trend", "change")
    for name, feature in recipe.features.items():
        place = f"features.{name}"
        if feature.kind == "sql":
            refuse_select(connection, str(feature.sql), recipe.sources, place)
            continue
        asked(place, feature.source, feature.column, _NUMBERS if feature.kind in numbers else ())
        if feature.where is not None:
            refuse_condition(connection, feature.where, f"{place}.where")
    if recipe.activation is not None and recipe.activation.where is not None:
        refuse_condition(connection, recipe.activation.where, "activation.where")
    if wrong:
        raise RecipeError(
            wrong[0] if len(wrong) == 1 else f"{len(wrong)} problems",
            listing=[] if len(wrong) == 1 else [f"  - {text}" for text in wrong],
            problems=wrong,
        )
    _conflicts(opened)


def _conflicts(opened: History) -> None:
    """Refuse rows that no rule of the recipe settles; note those that are left out."""
    recipe, ask = opened.recipe, opened.connection.execute
    wrong = []
    for name, source in recipe.sources.items():
        raw, extra = quoted(f"{RAW}{name}"), ""
        if source.where is not None:
            extra = f" and ({source.where}\n)"
        time = "null" if source.time is None else quoted(source.time)
        [row] = ask(
            f"select count(*) filter (where {quoted(source.account)} is null), "
            f"count(*) filter (where {time} is null), count(*) from {raw} where true{extra}"
        ).fetchall()
        if row[0]:
            opened.notes.append(f'Source "{name}": {row[0]:,} of {row[2]:,} rows have no account; left out.')
        if source.time is not None and row[1]:
            opened.notes.append(f'Source "{name}": {row[1]:,} of {row[2]:,} rows have no date; left out.')
        if source.until is not None:
            found = ask(
                f"select cast({quoted(source.account)} as varchar) from {raw} "
                f"where {quoted(source.until)} < {quoted(str(source.from_))}{extra} order by 1"
            ).fetchall()
            if found:
                listed = culprits([each[0] for each in found[:3]])
                wrong.append(f'source "{name}": {len(found):,} rows end before they begin: {listed}')
    shape = recipe.revenue.shape
    raw = quoted(f"{RAW}{shape.source}")
    source = recipe.sources[shape.source]
    extra = "" if source.where is None else f" and ({source.where}\n)"
    if shape.currency is not None:
        known = _listed(sorted(shape.rates))
        found = ask(
            f"select distinct cast({quoted(shape.currency)} as varchar) from {raw} where not coalesce("
            f"list_contains({known}, {quoted(shape.currency)}), false){extra} order by 1"
        ).fetchall()
        if found:
            wrong.append(f"revenue: no rate for currencies {culprits([e[0] for e in found[:5]])}")
    if isinstance(shape, Transactions | Monthly) and shape.negative == "refuse":
        [row] = ask(
            f"select count(*) from {raw} where {quoted(shape.amount)} < 0{extra}"
        ).fetchall()
        if row[0]:
            wrong.append(
                f"revenue: {row[0]:,} amounts are negative; negative: subtract or leave out says "
                "what they mean"
            )
    if wrong:
        raise AccountDataError(
            wrong[0] if len(wrong) == 1 else f"the history has {len(wrong)} contradictions",
            listing=[] if len(wrong) == 1 else [f"  - {text}" for text in wrong],
            hint="a where in the source, or a rule in the recipe, settles it",
        )
    if recipe.data_until is not None:
        opened.until = recipe.data_until
    else:
        time = quoted(str(source.time))
        [[opened.until]] = ask(
            f"select cast(max({time}) as date) from {raw} where true{extra}"
        ).fetchall()
    if opened.until is None:
        raise AccountDataError(f'source "{shape.source}" has no row with a date')


def snapshot_table(recipe: Recipe, day: date, **options: Any) -> pl.DataFrame:
    """Return the account table of one date as a frame; options and errors are those of `history`."""
    with history(recipe, **options) as opened:
        text, _ = opened.table(day)
        return opened.connection.sql(text).pl()


def build(
    recipe: Recipe,
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
        Where they go. A date that is there already stays as it is if its bytes are the same, and is
        an error otherwise: a table that was scored is not changed silently.
    days
        The dates; None for the recipe's.
    watch
        Told how many of how many dates are done.

    Raises
    ------
    UsageError
        If a date's table is there with other rows, or the folder can't be written.
    RecipeError, AccountDataError
        As for `history`; nothing is written then.

    Notes
    -----
    DuckDB streams the sources once a date. Sums are of decimals, so neither the order of rows nor
    the number of threads changes a byte.
    """
    wanted = recipe.days if days is None else days
    root, tables = Path(folder), []
    metadata = {"gtmar_recipe": recipe_id(recipe), "gtmar_conventions": _conventions(recipe)}
    with history(recipe, base=base, memory=memory) as opened:
        for number, day in enumerate(wanted, start=1):
            text, window = opened.table(day)
            place = root / f"features_asof={day.isoformat()}" / "accounts.parquet"
            accounts = _written(opened, text, place, metadata)
            tables.append((day, accounts, window.over))
            if watch is not None:
                watch(number, len(wanted))
        return Built(recipe_id(recipe), tuple(tables), tuple(opened.notes), str(root))


def _conventions(recipe: Recipe) -> str:
    shape = recipe.model_dump(mode="json", by_alias=True)["revenue"]
    return json.dumps({k: v for k, v in shape.items() if v is not None}, sort_keys=True)


def _written(opened: History, text: str, place: Path, metadata: dict[str, str]) -> int:
    """Write one date's table aside and put it in its place; return its accounts."""
    aside = opened.scratch / "accounts.parquet"
    keys = ", ".join(f"{name}: '{value.replace(chr(39), chr(39) * 2)}'" for name, value in metadata.items())
    # The date stands in the folder's name, as in any hive table.
    body = f"select * exclude (features_asof) from ({text})"
    opened.connection.execute(
        f"copy ({body}) to '{aside}' (format parquet, compression zstd, row_group_size {_ROWS}, "
        f"kv_metadata {{{keys}}})"
    ).fetchall()
    [[accounts]] = opened.connection.execute(f"select count(*) from '{aside}'").fetchall()
    if place.exists():
        if place.read_bytes() != aside.read_bytes():
            raise UsageError(
                f'"{place}" is there already with other rows; it is not replaced',
                hint="give -o another folder, or take the old one away",
            )
    else:
        Output(place, parents=True).write(lambda target: _copy(aside, target))
    os.unlink(aside)
    return int(accounts)


def _copy(source: Path, target: Any) -> None:
    data = source.read_bytes()
    if hasattr(target, "write"):
        target.write(data)
    else:
        Path(target).write_bytes(data)
