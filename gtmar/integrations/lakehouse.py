"""Write frames to Delta or DuckDB tables, replacing the table or appending to it.

Locations have the form that ``--data`` accepts too: ``delta:FOLDER`` or ``delta:s3://...``, and
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
from gtmar.errors import GtmarError, UsageError, alike, culprits, needing
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
#: Attempts when another process holds a lock or commits first, and seconds between them.
_TRIES = 40
_PAUSE = 0.25
#: Delta's application id: commits with the same one conflict with each other.
_APPLICATION = "gtmar"
#: DuckDB's file lock excludes other processes only, so threads of this one need a lock too.
_ALONE = Lock()


def is_target(location: str) -> bool:
    """Whether a location is a Delta or DuckDB table and not a file."""
    return location.startswith(("delta:", "duckdb:"))


def refuse_target(location: str, inputs: Iterable[str | Path] = (), *, force: bool = False) -> None:
    """Raise `UsageError` if a table is an input, or exists and `force` is false.

    In a DuckDB file that is an input, new tables may be created but none replaced. `UsageError` is
    also raised if the location is malformed, a library is missing, or the table can't be opened.
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
    """Return whether the table exists; raise `UsageError` if the folder holds something else."""
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
    """Return the tables and views of a DuckDB file in lower case: its names ignore case."""
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
    """Write a frame to a new table or, with `force`, replace the content of an existing one.

    A Delta table keeps its old version. Raises `UsageError` as `refuse_target`, if its columns
    would differ by capitals alone, and if the table can't be written.
    """
    refuse_target(location, inputs, force=force)
    if location.startswith("delta:"):
        if found := alike(frame.columns):
            raise UsageError(
                f'"{without_credentials(location)}": columns there can\'t differ by capitals '
                f"alone, as {culprits(found)} do",
                hint="rename the table's columns, or give -o a file",
            )
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
    """Append the rows whose key isn't in a table yet; return their number.

    The table is created if it doesn't exist. All rows are added in one commit. If another commit of
    gtmar's came after the keys were read, the commit fails and is tried again. So concurrent
    appends, and repeated ones after a kill, add each key's rows only once.

    Raises
    ------
    UsageError
        If the location is malformed, a library is missing, or the table can't be written.
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
        # An older version of gtmar may have created the table with fewer columns.
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
    """Call `act` with a connection and the table's quoted name; return its result.

    `act` is called again if another process created the database file at the same time.
    """
    for _ in range(_TRIES):
        try:
            with _duckdb(location) as (connection, table):
                return act(connection, table)
        except _OvertakenError:
            continue
    name = without_credentials(location)
    raise UsageError(f'"{name}": can\'t be written: it is made and deleted by another process')


def described(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    """Return the types of all columns of a table, a view or anything else allowed in a FROM."""
    rows = connection.execute(f"describe from {source}").fetchall()
    return {name: kind for name, kind, *_ in rows}


def add_columns(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    there: Mapping[str, str],
    wanted: Mapping[str, str],
) -> None:
    """Add the missing ones of the `wanted` columns to a DuckDB table; both map names to types."""
    for name, kind in wanted.items():
        if name not in there:
            connection.execute(f"alter table {table} add column {quoted(name)} {kind}")


def _append_to_delta(deltalake: Any, target: str, frame: pl.DataFrame, key: str) -> int:
    if not deltalake.DeltaTable.is_deltatable(target):
        # Created without rows: two processes that create it with rows wouldn't conflict.
        deltalake.write_deltalake(target, frame.clear().to_arrow(), mode="ignore")
    table = deltalake.DeltaTable(target)
    keys = pl.scan_delta(table).select(pl.col(key).unique()).collect()
    new = frame.filter(~pl.col(key).is_in(set(keys[key].to_list())))
    if new.height:
        how = {"mode": "append", "schema_mode": "merge", "commit_properties": took_turn(table)}
        deltalake.write_deltalake(table, new.to_arrow(), **how)
    return new.height


def by_turns(act: Callable[[], _T]) -> _T:
    """Call `act`, which reads a Delta table and commits, again while its commits conflict."""
    from deltalake.exceptions import CommitFailedError

    for _ in range(_TRIES - 1):
        try:
            return act()
        except CommitFailedError:
            time.sleep(random.uniform(0, _PAUSE))
    return act()


def took_turn(table: Any) -> Any:
    """Return commit properties by which a commit fails if another one of gtmar's came first.

    In Delta, appends don't conflict; commits with the same application transaction do.
    """
    import deltalake

    turn = deltalake.Transaction(_APPLICATION, table.version() + 1)
    return deltalake.CommitProperties(app_transactions=[turn])


@contextmanager
def delta_table(location: str) -> Iterator[tuple[Any, str]]:
    """Yield deltalake and the table's folder or URL; turn their errors into `UsageError`."""
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
    """Yield a connection to the file, and the table's quoted name; translate DuckDB's errors.

    A new file is written under a temporary name and renamed when complete, so that a killed process
    leaves no partial database.
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
            # A plain rename would replace a file that another process created meanwhile.
            settle(beside, path, replace=False)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def _worded(location: str, path: Path) -> Iterator[None]:
    """Turn errors of DuckDB and of the disk into `UsageError`."""
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
    """Another process created the database file first."""


def _connected(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Connect to a file, waiting up to 10 seconds for another process to release its lock."""
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
    """The result of publishing a journal: rows appended, and the tables."""

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
    """Append ended runs, their experiments, and events to three tables, each only once.

    Experiments are appended in one commit, then runs, then events. So every run in the table of
    runs has all its experiments, and an interrupted publication is completed by the next one. A
    target published to by an older version, without a table of events, gets one with all events.

    Parameters
    ----------
    journal
        The journal.
    target
        ``delta:FOLDER`` or ``delta:URL``, for Delta tables ``runs``, ``experiments`` and ``events``
        below it; or ``duckdb:///file.db``, for tables ``gtmar_runs`` and so on.

    Raises
    ------
    UsageError
        If the target has another form or can't be written.
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
    for location in places:
        if (local := local_path(location)) is not None:
            refuse_inputs(local, [journal.path])
    runs = journal.query("select * from runs where ended_at is not null order by started_at")
    waiting = journal.query("select count(*) as n from runs where ended_at is null")["n"].item()
    experiments = journal.query(
        "select e.* from experiments e join runs r using (run_id) "
        "where r.ended_at is not null order by r.started_at, e.number"
    )
    events = journal.query('select * from events order by "at", event_id', among=(), columns=())
    appended = append_new(experiments, places[1])
    named = [without_credentials(location) for location in places]
    return Published(
        runs=append_new(runs, places[0]),
        experiments=appended,
        events=append_new(events, places[2], key="event_id"),
        waiting=waiting,
        **{f"{name}_table": location for name, location in zip(_TABLES, named, strict=True)},
    )
