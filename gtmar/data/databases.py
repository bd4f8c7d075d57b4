"""Reads a database's table through ADBC: one SELECT, streamed to a Parquet file.

PostgreSQL is tested. Other databases are read by the ADBC driver of their scheme, where one is
installed; that driver decides which Arrow types their columns become.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from gtmar.data.locations import quoted, split, table_named, worded
from gtmar.errors import AccountDataError, UsageError, culprits, needing
from gtmar.plain_data import some
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

__all__ = ["Fetched", "fetch", "is_database"]

_POSTGRES = ("postgresql", "postgres")
#: Schemes that are names of ADBC drivers, none of which is tested here.
_UNTRIED = (
    *("bigquery", "clickhouse", "databricks", "flightsql", "mariadb", "mssql", "mysql", "oracle"),
    *("redshift", "snowflake", "trino"),
)
#: PostgreSQL types by their treatment. Money is cast to a decimal, since the driver returns it as
#: an integer of cents without saying so.
_AS_THEY_ARE = ("bool", "int2", "int4", "int8", "float4", "float8")
_EXACT = ("numeric", "money")
_TIMES = ("date", "timestamp", "timestamptz")
_TEXTS = ("text", "varchar", "bpchar", "name", "char", "citext", "uuid", "inet", "cidr", "macaddr")
#: Precision and scale of a numeric column that states none.
_DIGITS, _DECIMALS = 38, 20
#: Prefix of a helper column: 1 for an infinite future date, -1 for an infinite past one.
_ENDLESS = "gtmar:endless:"
#: The driver wraps later timestamps around to years before Christ.
_LAST = "294000-01-01"

#: Resolves a table's columns to the types that domains are made of.
_COLUMNS = """
with recursive of_table(name, place, type, modifier) as (
    select attname, attnum, atttypid, atttypmod from pg_attribute
    where attrelid = '{}'::regclass and attnum > 0 and not attisdropped
    union all
    select name, place, typbasetype, case when modifier = -1 then typtypmod else modifier end
    from of_table join pg_type on oid = type where typtype = 'd'
)
select name::text as name, typname::text as type, typtype::text as kind, modifier,
    format_type(type, modifier) as shown
from of_table join pg_type on oid = type where typtype <> 'd' order by place
"""
_TABLES = """
select current_database()::text, nspname::text, relname::text, current_schema()::text
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where relkind in ('r', 'v', 'm', 'f', 'p') and nspname not in ('pg_catalog', 'information_schema')
    and nspname not like 'pg\\_toast%' order by 2, 3
"""


@dataclass(frozen=True)
class Fetched:
    """The result of reading a database's table into a file."""

    rows: int
    #: Columns left out because a frame can't hold them exactly, with the reason.
    unread: Mapping[str, str]
    #: Entries for a run's record: kind of source, time of reading (UTC), and number of rows.
    origin: Mapping[str, str]
    notes: tuple[str, ...]


def is_database(location: str) -> bool:
    """Return whether a location is the address of a database.

    Examples
    --------
    >>> is_database("postgresql://host/crm?table=accounts"), is_database("s3://bucket/a.parquet")
    (True, False)
    """
    return location.partition("://")[0].lower() in (*_POSTGRES, *_UNTRIED) and "://" in location


def fetch(location: str, path: Path) -> Fetched:
    """Read a database's table into a new Parquet file, batch by batch.

    PostgreSQL is read in one snapshot. Its money and numeric columns become decimals, with 20
    decimals where the column states no scale. Timestamps with a zone become UTC. Infinite dates
    are written as DuckDB writes them: as the largest value of their type, or its negative. A column
    is left out, and reported in `unread`, if it can't be read exactly or is neither number, flag,
    date nor text.

    Parameters
    ----------
    location
        ``postgresql://user@host/database?table=schema.name``; its other parameters are libpq's.
    path
        The file to write.

    Raises
    ------
    UsageError
        If the location names no table, or a driver is missing.
    AccountDataError
        If the database can't be reached or read, or has no such table.
    """
    scheme = location.partition("://")[0].lower()
    uri, table = _address(location)
    with _connected(location, scheme, uri) as connection:
        began = datetime.now(UTC)
        read: _PostgresTable | _OtherTable
        notes = []
        if scheme in _POSTGRES:
            read = _PostgresTable(connection, location, table)
        else:
            read = _OtherTable(location, table)
            notes.append(
                f"{scheme} is read by its own ADBC driver, which gtmar was never tried with: hold "
                "numbers and dates against the source."
            )
        rows = read.write(connection, path)
    shown = f"{began:%Y-%m-%d %H:%M:%S}"
    origin = {"source_kind": scheme, "source_read_at": f"{shown} UTC", "source_rows": str(rows)}
    notes.append(f"The database was read on {shown} UTC: {some(rows, 'row')}.")
    return Fetched(rows, dict(read.unread), origin, tuple(notes))


def _address(location: str) -> tuple[str, str]:
    """Split a location into the driver's URI and the table."""
    parts = split(location)
    tables = parse_qs(parts.query).get("table", [])
    if len(tables) != 1:
        scheme = parts.scheme.lower()
        raise UsageError(
            f'"{without_credentials(location)}": expected {scheme}://HOST/DATABASE?table=NAME',
            hint="table=schema.name for one of another schema",
        )
    others = [item for item in parts.query.split("&") if not item.startswith("table=")]
    if parts.scheme.lower() in _POSTGRES:
        # Makes the server convert text to UTF-8, and raise on bytes that aren't valid text.
        others.append("client_encoding=UTF8")
    query = "?" + "&".join(others) if others else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}", tables[0]


@contextmanager
def _connected(location: str, scheme: str, uri: str) -> Iterator[Any]:
    """Open a connection; raise errors of driver and database without the location's credentials."""
    with needing("database"):
        import adbc_driver_manager.dbapi as manager
        import pyarrow as pa

        if scheme in _POSTGRES:
            import adbc_driver_postgresql.dbapi as postgres
    name = without_credentials(location)
    try:
        # For other databases the driver manager picks the driver by the scheme.
        connection = postgres.connect(uri) if scheme in _POSTGRES else manager.connect(uri)
    except manager.Error as err:
        if scheme not in _POSTGRES and "Could not load" in str(err):
            raise UsageError(
                f'"{name}": no ADBC driver "{scheme}" is installed',
                hint=f"dbc install {scheme} installs one, where there is one",
            ) from err
        raise AccountDataError(
            f'"{name}": can\'t be reached: {worded(location, err)}',
            hint="PGUSER and PGPASSWORD, or ~/.pgpass, say who asks where the address doesn't"
            if scheme in _POSTGRES
            else None,
        ) from err
    try:
        with connection:
            yield connection
    except (manager.Error, pa.ArrowException, OSError) as err:
        raise AccountDataError(f'"{name}": can\'t be read: {worded(location, err)}') from err


def _answer(connection: Any, text: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text)
        return [tuple(row) for row in cursor.fetchall()]


class _InexactError(Exception):
    """A value doesn't fit its column's decimal type."""


def _stream(
    connection: Any,
    text: str,
    schema: pa.Schema,
    path: Path,
    changed: Callable[[pa.Array, str, pa.RecordBatch], pa.Array] = lambda column, *_: column,
) -> int:
    """Write a SELECT's rows to a file, columns converted by `changed`; return the row count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    with (
        connection.cursor() as cursor,
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        cursor.execute(text)
        for batch in cursor.fetch_record_batch():
            columns = [
                changed(batch.column(name), name, batch).cast(schema.field(name).type)
                for name in schema.names
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            rows += batch.num_rows
    return rows


# ---- PostgreSQL ----------------------------------------------------------------------------------


class _PostgresTable:
    """A PostgreSQL table and the type that each of its columns is read as."""

    def __init__(self, connection: Any, location: str, table: str) -> None:
        # All queries see one snapshot, and none can write.
        with connection.cursor() as cursor:
            cursor.execute(
                "set session characteristics as transaction isolation level repeatable read, "
                "read only"
            )
        connection.commit()
        name = without_credentials(location)
        tables = _answer(connection, _TABLES)
        main = tables[0][3] if tables else None
        self.table = table_named(table, [row[:3] for row in tables], name, main=str(main))
        self.unread: dict[str, str] = {}
        self.types: dict[str, tuple[str, int]] = {}
        text = _COLUMNS.format(self.table.replace("'", "''"))
        for column, kind, sort, modifier, shown in _answer(connection, text):
            if kind in (*_AS_THEY_ARE, *_EXACT, *_TIMES, *_TEXTS) or sort == "e":
                self.types[column] = ("text" if sort == "e" else kind), modifier
            else:
                self.unread[column] = (
                    f"of PostgreSQL's type {shown}, neither number, date nor category"
                )
        self._refuse_none(name)

    def _refuse_none(self, name: str) -> None:
        if not self.types:
            raise AccountDataError(
                f'"{name}": no column can be read: {culprits(self.unread) or "it has none"}'
            )

    def write(self, connection: Any, path: Path) -> int:
        """Write the table to a file; return its rows."""
        try:
            return _stream(connection, self._select(), self._schema(), path, self._changed)
        except _InexactError:
            # This is rare, so the columns at fault are queried only here, in the same snapshot.
            self._leave_out(connection)
            self._refuse_none(self.table)
            return _stream(connection, self._select(), self._schema(), path, self._changed)

    def _select(self) -> str:
        selected = []
        for column, (kind, _) in self.types.items():
            name = quoted(column)
            if kind in _EXACT:
                selected.append(f"{name}::numeric::text as {name}")
            elif kind in _TIMES:
                beyond = "" if kind == "date" else f" or {name} > '{_LAST}'"
                sign = f"case when {name} = 'infinity'{beyond} then 1 when {name} = '-infinity'"
                selected += [
                    f"case when isfinite({name}) then {name} end as {name}",
                    f"({sign} then -1 end)::int2 as {quoted(_ENDLESS + column)}",
                ]
            else:
                selected.append(f"{name}::text as {name}" if kind in _TEXTS else name)
        return f"select {', '.join(selected)} from {self.table}"

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        kinds = {
            "bool": pa.bool_(),
            "int2": pa.int16(),
            "int4": pa.int32(),
            "int8": pa.int64(),
            "float4": pa.float32(),
            "float8": pa.float64(),
            "date": pa.date32(),
            "timestamp": pa.timestamp("us"),
            "timestamptz": pa.timestamp("us", "UTC"),
        }
        return pa.schema(
            [
                (name, pa.decimal128(*_digits(modifier)))
                if kind in _EXACT
                else (name, kinds.get(kind, pa.string()))
                for name, (kind, modifier) in self.types.items()
            ]
        )

    def _changed(self, column: pa.Array, name: str, batch: pa.RecordBatch) -> pa.Array:
        """Convert a batch's column to the file's values: exact decimals, infinite dates."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind, modifier = self.types[name]
        if kind in _EXACT:
            try:
                return column.cast(pa.decimal128(*_digits(modifier)))
            except pa.ArrowInvalid as err:
                raise _InexactError from err
        if kind in _TIMES:
            signs = batch.column(_ENDLESS + name)
            if signs.null_count < len(signs):
                whole = pa.int32() if kind == "date" else pa.int64()
                # Infinity is the largest integer, and minus infinity its negative, as in DuckDB.
                farthest = pa.scalar(2 ** (whole.bit_width - 1) - 1, whole)
                last = pc.multiply(signs.cast(whole), farthest)
                days = pc.coalesce(last, column.cast(whole))
                return days.cast(column.type)
        return column

    def _leave_out(self, connection: Any) -> None:
        """Drop columns with a value that doesn't fit their decimal type, and record the reason."""
        for column, (kind, modifier) in list(self.types.items()):
            if kind not in _EXACT:
                continue
            name, (digits, decimals) = f"{quoted(column)}::numeric", _digits(modifier)
            odd = f"{name}::text in ('NaN', 'Infinity', '-Infinity')"
            # PostgreSQL sorts NaN above all numbers, so a comparison with it would be true.
            wide = (
                f"not {odd} and (abs({name}) >= 1e{digits - decimals} "
                f"or {name} <> round({name}, {decimals}))"
            )
            [(odd_ones, wide_ones)] = _answer(
                connection,
                f"select count(*) filter (where {odd}), count(*) filter (where {wide}) "
                f"from {self.table}",
            )
            reasons = [
                f"{count:,} of its values {what}"
                for count, what in (
                    (odd_ones, "NaN or infinite"),
                    (wide_ones, f"beyond {digits - decimals} digits or {decimals} decimals"),
                )
                if count
            ]
            if reasons:
                del self.types[column]
                self.unread[column] = f"of type {kind} with {' and '.join(reasons)}"


def _digits(modifier: int) -> tuple[int, int]:
    """Return the precision and scale of a numeric column from its type modifier."""
    digits, decimals = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
    if modifier < 4 or digits > _DIGITS or decimals > digits:
        return _DIGITS, _DECIMALS
    return digits, decimals


# ---- others --------------------------------------------------------------------------------------


class _OtherTable:
    """A table of another database, with the column types that its driver reports."""

    def __init__(self, location: str, table: str) -> None:
        if not re.fullmatch(r"\w+(\.\w+){0,2}", table):
            raise UsageError(
                f'"{without_credentials(location)}": a table\'s name has letters, digits, '
                f'underscores and dots here, got "{table}"'
            )
        self.table, self.unread = table, dict[str, str]()
        self.name = without_credentials(location)

    def write(self, connection: Any, path: Path) -> int:
        """Write the table to a file; return its rows."""
        import pyarrow as pa
        import pyarrow.types as kinds

        text = f"select * from {self.table}"
        with connection.cursor() as cursor:
            cursor.execute(f"{text} where 1 = 0")
            fields = list(cursor.fetch_record_batch().schema)
        plain = (
            *(kinds.is_boolean, kinds.is_integer, kinds.is_floating, kinds.is_string),
            *(kinds.is_large_string, kinds.is_decimal128, kinds.is_date, kinds.is_timestamp),
        )
        kept = [f for f in fields if any(is_kind(f.type) for is_kind in plain)]
        self.unread = {
            field.name: f"of the driver's type {field.type}, neither number, date nor category"
            for field in fields
            if field not in kept
        }
        if not kept:
            raise AccountDataError(f'"{self.name}": no column can be read: {culprits(self.unread)}')
        schema = pa.schema([(field.name, field.type) for field in kept])
        return _stream(connection, text, schema, path)
