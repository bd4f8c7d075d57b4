"""Tables into a lakehouse: a frame to a Delta or DuckDB table, whole or appended.

Where a table goes is said as where one comes from: ``delta:FOLDER`` or ``delta:s3://...``, and
``duckdb:///file.db?table=scores``.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
from polars.exceptions import PolarsError

from gtmar.data.locations import duckdb_place, local_path, quoted, split, worded
from gtmar.errors import GtmarError, UsageError, needing
from gtmar.outputs import Output, refuse_inputs, settle
from gtmar.plain_data import PlainData
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import duckdb

    from gtmar.journal.catalog import Journal

__all__ = [
    "Published",
    "add_columns",
    "append_new",
    "by_turns",
    "delta_table",
    "described",
    "in_duckdb",
    "is_target",
    "publish",
    "refuse_target",
    "replace",
    "took_turn",
]


_T = TypeVar("_T")
#: How often is tried what another process is in the way of, and how long is waited in between.
_TRIES = 40
_PAUSE = 0.25
#: Whose commits conflict with each other, in Delta's words.
_APPLICATION = "gtmar"
#: Connections of one process share a database: its lock keeps other processes out alone.
_ALONE = Lock()


def is_target(location: str) -> bool:
    """Whether a location is a Delta or DuckDB table and not a file."""
    return location.startswith(("delta:", "duckdb:"))


def refuse_target(location: str, inputs: Iterable[str | Path] = (), *, force: bool = False) -> None:
    """Refuse a table that is an input or, unless `force` says so, there already.

    In a DuckDB file that is an input, a new table may be made and none replaced. The error is a
    `UsageError`, as where the location is malformed, a library is missing, or it can't be opened.
    """
    if location.startswith("delta:"):
        there = _refuse_delta(location, inputs)
    else:
        path, table = duckdb_place(location)
        others = [
            given
            for given in inputs
            if not (path.exists() and Path(given).exists() and path.samefile(given))
        ]
        refuse_inputs(path, others)
        force = force and len(others) == len(list(inputs))
        there = table.lower() in _tables(location, path)
    if there and not force:
        raise UsageError(
            f'"{without_credentials(location)}" is there already; it is not replaced',
            hint="give -o another table, or --force to replace it, where it is no input",
        )


def _refuse_delta(location: str, inputs: Iterable[str | Path]) -> bool:
    """Refuse a folder of something else; say whether the table is there."""
    local = local_path(location)
    if local is not None and location != "delta:":
        refuse_inputs(local, inputs)
    with delta_table(location) as (deltalake, target):
        if deltalake.DeltaTable.is_deltatable(target):
            return True
        there = local is not None and os.path.lexists(local)
        if local is not None and there and (local.is_symlink() or any(local.iterdir())):
            raise UsageError(
                f'"{location}": can\'t be written: what is there is no Delta table',
                hint="give -o another name",
            )
    return False


def _tables(location: str, path: Path) -> set[str]:
    """Return the tables and views of a DuckDB file in small letters, as its names compare."""
    if not os.path.lexists(path):
        Output(path)
        return set()
    with _worded(location, path), _connected(path, read_only=True) as connection:
        names = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'main'"
        ).fetchall()
    return {name.lower() for (name,) in names}


def replace(
    frame: pl.DataFrame, location: str, inputs: Iterable[str | Path] = (), *, force: bool = False
) -> None:
    """Write a frame to a new table or, with `force`, in place of what a table holds.

    A Delta table keeps the old version. Raises `UsageError` if `refuse_target` refuses it, or it
    can't be written.
    """
    refuse_target(location, inputs, force=force)
    if location.startswith("delta:"):
        with delta_table(location) as (deltalake, target):
            how = {"mode": "overwrite", "schema_mode": "overwrite"} if force else {"mode": "error"}
            deltalake.write_deltalake(target, frame.to_arrow(), **how)
        return

    def act(connection: duckdb.DuckDBPyConnection, table: str) -> int:
        connection.register("gtmar_frame", frame)
        create = "create or replace" if force else "create"
        connection.execute(f"{create} table {table} as from gtmar_frame")
        return frame.height

    in_duckdb(location, act)


def append_new(frame: pl.DataFrame, location: str, *, key: str = "run_id") -> int:
    """Append the rows whose key isn't in a table yet, made where it isn't there; return how many.

    All rows go in by one commit, which fails where another one of gtmar's came between the look
    and the commit; then it looks again. So two that run at once, and one that was killed and comes
    again, leave each row once. Raises `UsageError` if the location is malformed, a library is
    missing, or it can't be written.
    """
    if location.startswith("delta:"):
        with delta_table(location) as (deltalake, target):
            return by_turns(lambda: _append_to_delta(deltalake, target, frame, key))

    def act(connection: duckdb.DuckDBPyConnection, table: str) -> int:
        def rows() -> int:
            return int(connection.execute(f"select count(*) from {table}").fetchall()[0][0])

        connection.register("gtmar_frame", frame)
        connection.execute("begin")
        connection.execute(f"create table if not exists {table} as from gtmar_frame limit 0")
        # A version with fewer columns may have made the table.
        there = described(connection, table)
        add_columns(connection, table, there, described(connection, "gtmar_frame"))
        before = rows()
        connection.execute(
            f'insert into {table} by name select * from gtmar_frame where "{key}" not in '
            f'(select "{key}" from {table})'
        )
        after = rows()
        connection.execute("commit")
        return after - before

    return in_duckdb(location, act)


def in_duckdb(location: str, act: Callable[[duckdb.DuckDBPyConnection, str], _T]) -> _T:
    """Act on a table of a database, again where another process made its file meanwhile."""
    for _ in range(_TRIES):
        try:
            with _duckdb(location) as (connection, table):
                return act(connection, table)
        except _OvertakenError:
            continue
    name = without_credentials(location)
    raise UsageError(f'"{name}": can\'t be written: it is made and deleted by another process')


def described(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    """Return the columns of a table, a view or whatever else a FROM takes, each with its type."""
    rows = connection.execute(f"describe from {source}").fetchall()
    return {name: kind for name, kind, *_ in rows}


def add_columns(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    there: Mapping[str, str],
    wanted: Mapping[str, str],
) -> None:
    """Add to a table of DuckDB the columns, each with its type, that it lacks."""
    for name, kind in wanted.items():
        if name not in there:
            connection.execute(f"alter table {table} add column {quoted(name)} {kind}")


def _append_to_delta(deltalake: Any, target: str, frame: pl.DataFrame, key: str) -> int:
    if not deltalake.DeltaTable.is_deltatable(target):
        # Without rows: to make a table with rows doesn't conflict with another who does.
        deltalake.write_deltalake(target, frame.clear().to_arrow(), mode="ignore")
    table = deltalake.DeltaTable(target)
    keys = pl.scan_delta(table).select(pl.col(key).unique()).collect()
    new = frame.filter(~pl.col(key).is_in(set(keys[key].to_list())))
    if new.height:
        how = {"mode": "append", "schema_mode": "merge", "commit_properties": took_turn(table)}
        deltalake.write_deltalake(table, new.to_arrow(), **how)
    return new.height


def by_turns(act: Callable[[], _T]) -> _T:
    """Act on a Delta table, again where another's commit came between the look and the commit."""
    from deltalake.exceptions import CommitFailedError

    for _ in range(_TRIES - 1):
        try:
            return act()
        except CommitFailedError:
            time.sleep(random.uniform(0, _PAUSE))
    return act()


def took_turn(table: Any) -> Any:
    """Return the properties of a commit that fails where another of gtmar's came before it.

    Appends don't conflict by themselves: two commits of one application do.
    """
    import deltalake

    turn = deltalake.Transaction(_APPLICATION, table.version() + 1)
    return deltalake.CommitProperties(app_transactions=[turn])


@contextmanager
def delta_table(location: str) -> Iterator[tuple[Any, str]]:
    """Give deltalake and the table's folder or URL; word its errors."""
    with needing("delta"):
        import deltalake
    target = location.removeprefix("delta:")
    if not target:
        raise UsageError(
            f'"{location}": expected delta:FOLDER or delta:URL', hint="-o delta:scores"
        )
    if "://" in target:
        split(target)
    try:
        yield deltalake, target
    except GtmarError:
        raise
    except (deltalake.exceptions.DeltaError, PolarsError, OSError, ValueError) as err:
        raise _unwritable(location, err) from err


@contextmanager
def _duckdb(location: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """Give a connection to the file and the table's name, quoted; word DuckDB's errors.

    A file that isn't there is made beside its place and put there when all is in it: a process
    killed meanwhile leaves none that is half made.
    """
    path, table = duckdb_place(location)
    with _worded(location, path), _ALONE:
        if path.exists():
            with _connected(path) as connection:
                yield connection, quoted(table)
            return
        beside = path.with_name(f".{path.name}.{token_hex(4)}.new")
        try:
            with _connected(beside) as connection:
                yield connection, quoted(table)
            # Not a rename: that would replace what another process has made meanwhile.
            settle(beside, path, replace=False)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def _worded(location: str, path: Path) -> Iterator[None]:
    """Word what DuckDB and the disk say of a database file."""
    import duckdb

    try:
        yield
    except FileExistsError:
        raise _OvertakenError from None
    except (duckdb.Error, OSError) as err:
        if path.is_file() and not _is_duckdb(path):
            raise UsageError(
                f'"{without_credentials(location)}": can\'t be written: it is no DuckDB database',
                hint="if a process was killed while it made the file, delete it and run this "
                "again; else name another one",
            ) from err
        raise _unwritable(location, err) from err


class _OvertakenError(Exception):
    """Another process made the database file first."""


def _connected(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Connect to a file; wait for a process that holds its lock."""
    import duckdb

    for _ in range(_TRIES - 1):
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as err:
            if "lock" not in str(err):
                raise
            time.sleep(_PAUSE)
    return duckdb.connect(str(path), read_only=read_only)


def _is_duckdb(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[8:] == b"DUCK"


def _unwritable(location: str, err: Exception) -> UsageError:
    name = without_credentials(location)
    return UsageError(f'"{name}": can\'t be written: {worded(location, err)}')


@dataclass(frozen=True)
class Published(PlainData):
    """What was appended, and where."""

    #: Rows appended: one a run, all of its experiments, and one an event.
    runs: int
    experiments: int
    events: int
    #: Runs that have not ended: they are published when they have.
    waiting: int
    #: Where the tables are.
    runs_table: str
    experiments_table: str
    events_table: str


#: The tables of a published journal.
_TABLES = ("runs", "experiments", "events")


def publish(journal: Journal, target: str) -> Published:
    """Append to three tables the runs that have ended, and the events, that aren't in them yet.

    Experiments go first, in one commit, then the runs, then events: whoever finds a run in the one
    table finds its experiments in the other, and a publication that was cut off is finished by the
    next. A target that an older version published to gets the table of events, all of them in it.

    The target is ``delta:FOLDER`` or ``delta:URL``, with Delta tables ``runs``, ``experiments`` and
    ``events`` below it; or ``duckdb:///file.db``, with tables ``gtmar_runs`` and so on. Raises
    `UsageError` if it is neither, or can't be written.
    """
    if target.startswith("delta:") and target != "delta:":
        places = [f"{target.rstrip('/')}/{name}" for name in _TABLES]
    elif target.startswith("duckdb:///") and "?" not in target:
        places = [f"{target}?table=gtmar_{name}" for name in _TABLES]
    else:
        raise UsageError(
            f'"{without_credentials(target)}": expected delta:FOLDER, delta:URL or duckdb:///file.db',
            hint="three tables are written there, of runs, experiments and events",
        )
    for place in places:
        if (local := local_path(place)) is not None:
            refuse_inputs(local, [journal.path])
    runs = journal.query("select * from runs where ended_at is not null order by started_at")
    waiting = journal.query("select count(*) as n from runs where ended_at is null")["n"].item()
    experiments = journal.query(
        "select e.* from experiments e join runs r using (run_id) "
        "where r.ended_at is not null order by r.started_at, e.number"
    )
    events = journal.query('select * from events order by "at", event_id', among=(), columns=())
    appended = append_new(experiments, places[1])
    named = [without_credentials(place) for place in places]
    return Published(
        runs=append_new(runs, places[0]),
        experiments=appended,
        events=append_new(events, places[2], key="event_id"),
        waiting=waiting,
        **{f"{name}_table": place for name, place in zip(_TABLES, named, strict=True)},
    )
