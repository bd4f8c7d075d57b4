"""Tables into a lakehouse: a frame to a Delta or DuckDB table, whole or appended.

Where a table goes is said as where one comes from: ``delta:FOLDER`` or ``delta:s3://...``, and
``duckdb:///file.db?table=scores``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from gtmar.accounts.locations import duckdb_place, local_path, quoted, without_credentials, worded
from gtmar.errors import UsageError, needing
from gtmar.outputs import Output, refuse_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import duckdb

__all__ = ["append_new", "is_target", "refuse_target", "replace"]


def is_target(location: str) -> bool:
    """Whether a location is a Delta or DuckDB table and not a file."""
    return location.startswith(("delta:", "duckdb:"))


def refuse_target(location: str, inputs: Iterable[str | Path] = (), *, force: bool = False) -> None:
    """Refuse a table that is an input or, unless `force` says so, there already.

    In a DuckDB file that is an input, a new table may be made and none replaced.

    Raises
    ------
    UsageError
        If it is one, the location is malformed, a library is missing, or it can't be opened.
    """
    if location.startswith("delta:"):
        there = _refuse_delta(location, inputs)
    else:
        path, table = duckdb_place(location)
        others = [given for given in inputs if not (path.exists() and _is(path, given))]
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
    foreign = False
    if local is not None and location != "delta:":
        refuse_inputs(local, inputs)
    with _delta(location) as (deltalake, target):
        if deltalake.DeltaTable.is_deltatable(target):
            return True
        if local is not None and os.path.lexists(local):
            foreign = local.is_symlink() or any(local.iterdir())
    if foreign:
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
    with _duckdb(location, path, read_only=True) as connection:
        names = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'main'"
        ).fetchall()
    return {name.lower() for (name,) in names}


def _is(path: Path, other: str | Path) -> bool:
    return Path(other).exists() and path.samefile(other)


def replace(
    frame: pl.DataFrame, location: str, inputs: Iterable[str | Path] = (), *, force: bool = False
) -> None:
    """Write a frame to a new table or, with `force`, in place of what a table holds.

    A Delta table keeps the old version.

    Raises
    ------
    UsageError
        If `refuse_target` refuses it, or it can't be written.
    """
    refuse_target(location, inputs, force=force)
    if location.startswith("delta:"):
        with _delta(location) as (deltalake, target):
            how = {"mode": "overwrite", "schema_mode": "overwrite"} if force else {"mode": "error"}
            deltalake.write_deltalake(target, frame.to_arrow(), **how)
        return
    path, table = duckdb_place(location)
    new = nullcontext(path) if path.exists() else Output(path).made()
    with new as place, _duckdb(location, place) as connection:
        connection.register("gtmar_frame", frame)
        create = "create or replace" if force else "create"
        connection.execute(f"{create} table {quoted(table)} as from gtmar_frame")


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
    path, name = duckdb_place(location)
    table = quoted(name)
    with _duckdb(location, path) as connection:
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
    try:
        yield deltalake, target
    except (deltalake.exceptions.DeltaError, PolarsError, OSError, ValueError) as err:
        raise _unwritable(location, err) from err


@contextmanager
def _duckdb(
    location: str, path: Path, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection to a DuckDB file; word DuckDB's errors."""
    import duckdb

    try:
        with duckdb.connect(path, read_only=read_only) as connection:
            yield connection
    except duckdb.Error as err:
        raise _unwritable(location, err) from err


def _unwritable(location: str, err: Exception) -> UsageError:
    name = without_credentials(location)
    return UsageError(f'"{name}": can\'t be written: {worded(location, err)}')
