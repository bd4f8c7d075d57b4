"""Tables into a lakehouse: a frame to a Delta or DuckDB table, whole or appended.

Where a table goes is said as where one comes from: ``delta:FOLDER`` or ``delta:s3://...``, and
``duckdb:///file.db?table=scores``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from gtmar.accounts.locations import duckdb_place, quoted, split, worded
from gtmar.errors import GtmarError, UsageError, needing
from gtmar.redaction import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

__all__ = ["append_new", "is_target", "replace"]


def is_target(location: str) -> bool:
    """Whether a location is a Delta or DuckDB table and not a file."""
    return location.startswith(("delta:", "duckdb:"))


def replace(frame: pl.DataFrame, location: str) -> None:
    """Write a frame to a table, in place of what it holds; a Delta table keeps the old version.

    Raises
    ------
    UsageError
        If the location is malformed, a library is missing, or it can't be written.
    """
    if location.startswith("delta:"):
        with _delta(location) as (deltalake, target):
            overwrite: dict[str, object] = {"mode": "overwrite", "schema_mode": "overwrite"}
            deltalake.write_deltalake(target, frame.to_arrow(), **overwrite)
        return
    with _duckdb(location) as (connection, table):
        connection.register("gtmar_frame", frame)
        connection.execute(f"create or replace table {table} as from gtmar_frame")


def append_new(frame: pl.DataFrame, location: str, *, key: str = "run_id") -> int:
    """Append the rows whose key isn't in the table yet; done twice, nothing more is added.

    All rows go in by one commit. The table is made where it isn't there.

    Parameters
    ----------
    frame
        The rows.
    location
        A Delta or DuckDB table.
    key
        The column that says what is there already.

    Returns
    -------
    int
        Number of rows appended.

    Raises
    ------
    UsageError
        If the location is malformed, a library is missing, or it can't be written.
    """
    if location.startswith("delta:"):
        with _delta(location) as (deltalake, target):
            there = deltalake.DeltaTable.is_deltatable(target)
            held = _keys_of_delta(target, key) if there else set()
            new = frame.filter(~pl.col(key).is_in(held))
            if new.height or not there:
                merged: dict[str, object] = {"schema_mode": "merge"} if there else {}
                deltalake.write_deltalake(target, new.to_arrow(), mode="append", **merged)
            return new.height
    with _duckdb(location) as (connection, table):
        connection.register("gtmar_frame", frame)
        connection.execute("begin")
        connection.execute(f"create table if not exists {table} as from gtmar_frame limit 0")
        before = connection.execute(f"select count(*) from {table}").fetchall()[0][0]
        connection.execute(
            f'insert into {table} by name select * from gtmar_frame where "{key}" not in '
            f'(select "{key}" from {table})'
        )
        after = connection.execute(f"select count(*) from {table}").fetchall()[0][0]
        connection.execute("commit")
        return int(after - before)


def _keys_of_delta(target: str, key: str) -> set[str]:
    keys = pl.scan_delta(target).select(pl.col(key).unique()).collect()
    return set(keys[key].to_list())


@contextmanager
def _delta(location: str) -> Iterator[tuple[Any, str]]:
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
    """Give a connection to the file and the table's name, quoted; word DuckDB's errors."""
    import duckdb

    path, table = duckdb_place(location)
    try:
        with duckdb.connect(path) as connection:
            yield connection, quoted(table)
    except duckdb.Error as err:
        raise _unwritable(location, err) from err


def _unwritable(location: str, err: Exception) -> UsageError:
    name = without_credentials(location)
    return UsageError(f'"{name}": can\'t be written: {worded(location, err)}')
