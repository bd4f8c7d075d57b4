"""Lakehouse tables that grow by date: account snapshots, and kept scores.

Each is a Delta table partitioned by date, or a table of a DuckDB file. Existing dates stay
unchanged. A date is added in one commit, which is tried again if another commit came after the
table was read. Snapshots follow the rules of a folder (`snapshots.build`): outcomes can be added to
an existing date, and other differences are refused.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from gtmar.data.locations import duckdb_place, literal, local_path, quoted
from gtmar.errors import UsageError, culprits
from gtmar.integrations.lakehouse import (
    add_columns,
    append_new,
    by_turns,
    delta_table,
    described,
    in_duckdb,
    took_turn,
)
from gtmar.outputs import refuse_inputs
from gtmar.safe_text import without_credentials
from gtmar.snapshots.build import change_of, change_of_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    import duckdb

__all__ = ["DeltaSnapshots", "DuckDBSnapshots", "ScoreTable", "snapshots_into"]

_T = TypeVar("_T")

#: The column of the snapshot date; in a folder it is part of the partition's name.
_DAY = "features_asof"


# ---- snapshots -----------------------------------------------------------------------------------


def snapshots_into(
    location: str, inputs: Iterable[str | Path] = ()
) -> DeltaSnapshots | DuckDBSnapshots:
    """Return the target of snapshots at ``delta:FOLDER`` or ``duckdb:///file.db?table=NAME``.

    Raises
    ------
    UsageError
        If a Delta table is one of the inputs. A DuckDB file may be one, since its other tables
        stay unchanged.
    """
    if location.startswith("delta:"):
        if (local := local_path(location)) is not None:
            refuse_inputs(local, inputs)
        return DeltaSnapshots(location.rstrip("/"))
    return DuckDBSnapshots(location)


def _refuse_other_types(location: str, there: dict[str, str], new: dict[str, str]) -> None:
    """Raise `UsageError` if a column's type differs from the existing table's."""
    unlike = [
        f'"{name}" is {there[name]} there and {kind} now'
        for name, kind in new.items()
        if there.get(name, kind) != kind
    ]
    if unlike:
        raise UsageError(
            f'"{without_credentials(location)}": columns of other types: {"; ".join(unlike)}',
            hint="the recipe has changed since: give -o another table",
        )


def _no_snapshots(location: str) -> UsageError:
    return UsageError(
        f'"{without_credentials(location)}" is there already and is no table of snapshots',
        hint="give -o another table",
    )


@dataclass(frozen=True)
class _Snapshots:
    """A lakehouse table of snapshots; see `SnapshotPlace`."""

    location: str
    #: Whether the sources are recorded in the Parquet metadata.
    tells_sources: bool = True

    def of(self, day: date) -> str:
        """Return the location of a date's rows in the form that ``--data`` accepts."""
        return f"{self.location}/{_DAY}={day.isoformat()}"


# ---- Delta ---------------------------------------------------------------------------------------


class DeltaSnapshots(_Snapshots):
    """A Delta table partitioned by date; each date is one file with only its own columns."""

    def put(self, day: date, made: Path, key: str, sources: str) -> str:  # noqa: ARG002 - in the file
        """Store a date's Parquet file; return `SnapshotTable.change`.

        Raises
        ------
        UsageError
            If the date exists with other rows, or the table can't be written.
        """
        with delta_table(self.location) as (deltalake, target):
            return by_turns(lambda: self._committed(deltalake, target, day, made, key))

    def _committed(self, deltalake: Any, target: str, day: date, made: Path, key: str) -> str:
        from deltalake.transaction import create_table_with_add_actions

        own = _delta_fields(deltalake, made, self.location)
        if not deltalake.DeltaTable.is_deltatable(target):
            fields = [*own.values(), deltalake.Field(_DAY, deltalake.schema.PrimitiveType("date"))]
            # Created without rows: two processes that create it with rows wouldn't conflict.
            create_table_with_add_actions(
                target, deltalake.Schema(fields), [], mode="ignore", partition_by=[_DAY]
            )
        table = deltalake.DeltaTable(target)
        if table.metadata().partition_columns != [_DAY]:
            raise _no_snapshots(self.location)
        there = {field.name: str(field.type) for field in table.schema().fields}
        kinds = {name: str(field.type) for name, field in own.items()}
        _refuse_other_types(self.location, there, kinds)
        this_day = [(_DAY, "=", day.isoformat())]
        change = "new"
        if files := table.file_uris(file_pruning_predicate=this_day):
            old = pl.scan_parquet(files, hive_partitioning=False, missing_columns="insert")
            new = pl.scan_parquet(made, hive_partitioning=False)
            change = change_of_frames(
                old.sort(key).collect(), new.sort(key).collect(), self.of(day)
            )
        if change == "same":
            return change
        if lacking := [field for name, field in own.items() if name not in there]:
            table.alter.add_columns(lacking)
            table = deltalake.DeltaTable(target)
        name = f"{_DAY}={day.isoformat()}/accounts-{token_hex(8)}.parquet"
        size = _copy(made, target, name)
        rows = pl.scan_parquet(made, hive_partitioning=False).select(pl.len()).collect().item()
        add = deltalake.transaction.AddAction(
            path=name,
            size=size,
            partition_values={_DAY: day.isoformat()},
            modification_time=int(made.stat().st_mtime * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": rows}),
        )
        table.create_write_transaction(
            [add],
            mode="append" if change == "new" else "overwrite",
            schema=table.schema(),
            partition_by=[_DAY],
            partition_filters=None if change == "new" else this_day,
            commit_properties=took_turn(table),
        )
        return change


def _delta_fields(deltalake: Any, made: Path, location: str) -> dict[str, Any]:
    """Return a Parquet file's columns as Delta fields, by name."""
    frame = pl.scan_parquet(made, hive_partitioning=False).head(0).collect()
    # Delta would read them as signed, so that large values would become negative.
    if unsigned := [name for name, dtype in frame.schema.items() if dtype.is_unsigned_integer()]:
        raise UsageError(
            f'"{without_credentials(location)}": Delta has no unsigned integers, which columns '
            f"{culprits(unsigned)} are",
            hint="a source's query in the recipe can cast them, or -o a folder",
        )
    fields = deltalake.Schema.from_arrow(frame.to_arrow().schema).fields
    return {field.name: field for field in fields}


def _copy(made: Path, target: str, name: str) -> int:
    """Copy a file into a Delta table's local folder or URL; return its size there in bytes."""
    if "://" not in target:
        path = Path(target) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, path)
        return path.stat().st_size
    from deltalake.fs import DeltaStorageHandler

    metadata = pl.read_parquet_metadata(made)
    own = {key: text for key, text in metadata.items() if key.startswith("gtmar_")}
    rows = pl.scan_parquet(made, hive_partitioning=False)
    rows.sink_parquet(f"{target}/{name}", metadata=own)
    [there] = DeltaStorageHandler(target).get_file_info([name])
    return int(there.size)


# ---- DuckDB --------------------------------------------------------------------------------------


class DuckDBSnapshots(_Snapshots):
    """A DuckDB table with all dates, and a view of each date with only its own columns."""

    def put(self, day: date, made: Path, key: str, sources: str) -> str:  # noqa: ARG002 - in the file
        """Store a date's Parquet file; returns and raises as `DeltaSnapshots.put`."""

        def act(connection: duckdb.DuckDBPyConnection, table: str) -> str:
            connection.execute("begin")
            change = self._written(connection, table, day, made)
            connection.execute("commit")
            return change

        return in_duckdb(self.location, act)

    def _written(
        self, connection: duckdb.DuckDBPyConnection, table: str, day: date, made: Path
    ) -> str:
        def count(text: str) -> int:
            return int(connection.execute(f"select count(*) from ({text})").fetchall()[0][0])

        name = f"{table[1:-1].replace(chr(34) * 2, chr(34))}/{_DAY}={day.isoformat()}"
        view = quoted(name)
        source = f"read_parquet('{made}')"
        rows = f"from {source}"
        when = f"date '{day.isoformat()}'"
        connection.execute(
            f"create table if not exists {table} as select {when} as {_DAY}, * {rows} limit 0"
        )
        there, new = described(connection, table), described(connection, source)
        if there.get(_DAY) != "DATE":
            raise _no_snapshots(self.location)
        _refuse_other_types(self.location, there, new)
        change = "new"
        if count(f"from {table} where {_DAY} = {when}"):
            views = connection.execute("select view_name from duckdb_views()").fetchall()
            # Rows without a view weren't written by gtmar: all columns are compared.
            known = (name,) in views
            old = described(connection, view) if known else there
            shared = [column for column in old if column in new]
            listed = ", ".join(map(quoted, shared))
            before = f"select {listed} from {table} where {_DAY} = {when}"
            now = f"select {listed} {rows}"
            differ = count(f"({before} except all {now}) union all ({now} except all {before})")
            change = change_of(list(old), list(new), alike=not differ, path=self.of(day))
        if change == "same":
            return change
        add_columns(connection, table, there, new)
        connection.execute(f"delete from {table} where {_DAY} = {when}")
        connection.execute(f"insert into {table} by name select {when} as {_DAY}, * {rows}")
        selected = ", ".join(map(quoted, new))
        connection.execute(
            f"create or replace view {view} as select {selected} from {table} where {_DAY} = {when}"
        )
        metadata = literal(json.dumps(pl.read_parquet_metadata(made)))
        connection.execute(f"comment on view {view} is {metadata}")
        return change


# ---- kept scores ---------------------------------------------------------------------------------

_KEY = "kept_as"
#: The columns; `kept_as` identifies one spec's scores of one date, ``DATE/SCORE_ID``; `spec` is
#: JSON.
_COLUMNS = {
    _DAY: pl.Date,
    "role": pl.String,
    _KEY: pl.String,
    "account": pl.String,
    "score": pl.Float64,
    "tier": pl.String,
    "probability": pl.Float64,
    "model": pl.String,
    "spec_id": pl.String,
    "scored_on": pl.Date,
    "spec": pl.String,
}
_SHARED = (_DAY, "role", _KEY, "scored_on", "spec")
_OWN = ("account", "score", "tier", "probability", "model", "spec_id", "scored_on")


@dataclass(frozen=True)
class ScoreTable:
    """A table of kept scores: ``delta:FOLDER``, ``delta:URL`` or ``duckdb:///file.db?table=NAME``.

    Every method raises `UsageError` if the table can't be read or written, or isn't one of kept
    scores.
    """

    location: str

    @property
    def _in_delta(self) -> bool:
        return self.location.startswith("delta:")

    def refuse_inputs(self, inputs: Iterable[str | Path]) -> None:
        """Refuse a Delta table that is an input; a DuckDB file may be one, for its other tables."""
        if self._in_delta and (local := local_path(self.location)) is not None:
            refuse_inputs(local, inputs)
        self._is_there()

    def kept(self) -> pl.DataFrame:
        """Return one row for each date and spec, with the columns they share, dates ascending."""
        return self._read(_SHARED).unique().sort(_DAY, _KEY)

    def rows(self, kept_as: str) -> pl.DataFrame:
        """Return one spec's scores of one date: a row per account, ordered by id."""
        return self._read(_OWN, kept_as).sort("account")

    def keep(self, rows: pl.DataFrame) -> bool:
        """Append the rows of one `kept_as` unless it exists; return whether they were new."""
        rows = rows.select(pl.col(name).cast(dtype) for name, dtype in _COLUMNS.items())
        if not self._is_there() and self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                deltalake.write_deltalake(
                    target,
                    rows.clear().to_arrow(),
                    mode="ignore",
                    partition_by=[_DAY],
                    # Statistics in the log outlive deleted rows, and would contain account ids.
                    configuration={"delta.dataSkippingNumIndexedCols": "0"},
                )
        return append_new(rows, self.location, key=_KEY) > 0

    def forget(self, before: date) -> None:
        """Delete the rows of dates before a day, also from older versions of a Delta table."""
        condition = f"{_DAY} < '{before.isoformat()}'"
        if self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                table = self._delta(deltalake, target)
                if table is None:
                    return
                table.delete(condition)
                # Even if nothing was deleted: an earlier call may have been killed before this.
                table.vacuum(0, dry_run=False, enforce_retention_duration=False)
            return

        def act(connection: duckdb.DuckDBPyConnection, table: str) -> None:
            connection.execute(f"delete from {table} where {condition}")
            connection.execute("checkpoint")

        self._in_file(act, without=None)

    def _is_there(self) -> bool:
        """Whether the table exists; raise `UsageError` if it isn't one of kept scores."""
        if self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                return self._delta(deltalake, target) is not None
        return self._in_file(lambda *_: True, without=False)

    def _delta(self, deltalake: Any, target: str) -> Any:
        """Return the Delta table, or None if there is none; raises as `_is_there`."""
        if not deltalake.DeltaTable.is_deltatable(target):
            return None
        table = deltalake.DeltaTable(target)
        self._refuse_others([field.name for field in table.schema().fields])
        return table

    def _in_file(self, act: Callable[[duckdb.DuckDBPyConnection, str], _T], *, without: _T) -> _T:
        """Call `act` as `in_duckdb` does, or return `without` if there is no table.

        Both are asked by one connection: opening the file takes longer than reading a date.
        """
        path, name = duckdb_place(self.location)
        if not path.exists():
            return without

        def checked(connection: duckdb.DuckDBPyConnection, table: str) -> _T:
            text = (
                "select column_name from information_schema.columns "
                "where table_schema = 'main' and lower(table_name) = lower(?)"
            )
            there = [column for (column,) in connection.execute(text, [name]).fetchall()]
            if not there:
                return without
            self._refuse_others(there)
            return act(connection, table)

        return in_duckdb(self.location, checked)

    def _refuse_others(self, there: Sequence[str]) -> None:
        """Raise `UsageError` if a table's columns aren't those of kept scores."""
        if lacking := [name for name in _COLUMNS if name not in there]:
            raise UsageError(
                f'"{without_credentials(self.location)}" is there already and is no table of kept '
                f"scores: it has no column {culprits(lacking)}",
                hint="give --scores another table",
            )

    def _read(self, columns: Sequence[str], kept_as: str | None = None) -> pl.DataFrame:
        """Read some columns, of one `kept_as` or of all; without a table, return no rows."""
        nothing = pl.DataFrame(schema={name: _COLUMNS[name] for name in columns})
        if self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                there = self._delta(deltalake, target)
                if there is None:
                    return nothing
                lazy = pl.scan_delta(there)
                if kept_as is not None:
                    day = pl.lit(kept_as[:10]).str.to_date()
                    lazy = lazy.filter(pl.col(_DAY) == day, pl.col(_KEY) == kept_as)
                return lazy.select(columns).collect()

        def act(connection: duckdb.DuckDBPyConnection, table: str) -> pl.DataFrame:
            listed = ", ".join(map(quoted, columns))
            kept = "" if kept_as is None else f" where {_KEY} = ?"
            given: list[Any] = [] if kept_as is None else [kept_as]
            rows: pl.DataFrame = connection.sql(
                f"select {listed} from {table}{kept}", params=given
            ).pl()
            return rows

        return self._in_file(act, without=nothing)
