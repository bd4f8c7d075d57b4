"""Opens any source of an account table as a lazy Polars frame, and runs queries over it.

Sources are files, Delta, Iceberg, DuckDB, databases, object stores, queries over tables, and frames
of other libraries. For formats with types only the schema is read here. Text files take a pass to
detect their columns' types, and a database's table is copied to a file once. Credentials in a
location never reach a message.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl
from polars.exceptions import PolarsError

from gtmar.data.databases import fetch, is_database
from gtmar.data.dates import ASOF, AskedDates, TableDates, day_of, listed
from gtmar.data.locations import (
    delta_root,
    duckdb_place,
    is_delta,
    quoted,
    refuse_unasked,
    split,
    table_named,
    worded,
)
from gtmar.data.other_frames import MOST_DIGITS, TOO_WIDE, readable, taken_in
from gtmar.data.table_files import (
    FORMATS,
    SCANS,
    TextFile,
    broken_file,
    ending_of,
    located,
    named_partitions,
    refuse_alike,
    scan_text,
    scan_typed,
    snapshot_origin,
    text_file,
    told_origin,
)
from gtmar.data.text_columns import NULL_MARKERS, TEXT_TYPES, Texts
from gtmar.errors import (
    AccountDataError,
    GtmarError,
    JournalError,
    QueryError,
    UsageError,
    culprits,
    needing,
)
from gtmar.memory import default_budget, roomy_folder
from gtmar.plain_data import some
from gtmar.safe_text import is_remote, without_credentials
from gtmar.spec.model import Reading
from gtmar.sql_sandbox import QueryLimits, answer, failed, first_line, lock, refuse_all_but_select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    import duckdb


__all__ = [
    "ID_NAMES",
    "AccountTable",
    "Source",
    "Tabular",
    "collect",
    "days_of",
    "first_values",
    "likely_id",
    "named_sources",
    "refuse_empty",
    "scan",
]

#: Name in queries of the table that ``--data`` names.
_ACCOUNTS = "accounts"
#: Memory that text takes per byte of its file, and the share of the budget that it may take.
_TIMES, _SHARE = 5, 0.5
#: Column names of the account id where the spec names none, best first.
ID_NAMES = ("account_id", "customer_id", "company_id", "accountid", "customerid", "id")
#: Further names of an account id, in lower case without punctuation. They serve for suggestions,
#: and where the chosen name is written down.
_ID_NAME = re.compile(
    r"(account|acct|customer|cust|company|client|user|tenant|workspace|org|organi[sz]ation|"
    r"subscriber|record)u?u?id|(account|acct|customer|cust)(no|nr|number|key)|id"
)


@dataclass(frozen=True)
class AccountTable:
    """A lazy account table with its name, schema and origin."""

    #: Name in messages and the journal: the path as given, or "frame".
    source: str
    frame: pl.LazyFrame
    schema: pl.Schema
    #: Entries for a run's record beside the name, such as version and query.
    origin: Mapping[str, str] = field(default_factory=dict)
    #: Columns of the source that can't be read, with the reason.
    unread: Mapping[str, str] = field(default_factory=dict)
    #: One sentence each about differences between its files and conversions of its columns.
    notes: tuple[str, ...] = ()
    #: Its text columns as the source has them, with their detected kinds.
    texts: Texts | None = None
    #: Runs the table's query again with the named columns of its sources kept as text.
    requery: Callable[..., pl.LazyFrame] | None = field(default=None, compare=False)
    #: The dates that were requested by `at`; None where none were.
    dates: TableDates | None = None

    @property
    def several(self) -> TableDates | None:
        """Its dates if there is more than one, else None: each account then has one row."""
        return self.dates if self.dates and self.dates.several else None

    @property
    def as_read(self) -> AccountTable:
        """The table with its current types, without the text that it was read from."""
        schema = self.frame.collect_schema()
        return AccountTable(self.source, self.frame, schema, dates=self.dates)

    def keeping(self, kept: Callable[[pl.Schema], pl.Expr]) -> AccountTable:
        """Return the rows that meet a condition, also when the table's text is read again later."""
        texts, requery = self.texts, self.requery

        def of(lazy: pl.LazyFrame) -> pl.LazyFrame:
            return lazy.filter(kept(lazy.collect_schema()))

        return replace(
            self,
            frame=of(self.frame),
            texts=None if texts is None else replace(texts, raw=of(texts.raw)),
            requery=None if requery is None else lambda *names: of(requery(*names)),
        )

    @property
    def columns(self) -> list[str]:
        """Column names, in the table's order."""
        return self.schema.names()

    @property
    def nulls(self) -> tuple[str, ...]:
        """The null markers of text cells, such as N/A."""
        return NULL_MARKERS if self.texts is None else self.texts.nulls

    def unlike(self, column: str) -> tuple[str, str] | None:
        """Return why a text column was not converted, as problem and hint; None for others."""
        return None if self.texts is None else self.texts.unlike(column)

    def with_text(self, *columns: str | None) -> AccountTable:
        """Return the table with columns read as text, so that an id such as 00012 keeps its zeros.

        Columns of formats with types are unchanged. A table that a query gave is queried again.
        """
        if self.requery is not None:
            texts = [name for name in columns if name is not None]
            if all(self.schema.get(name, pl.String) == pl.String for name in texts):
                return self
            lazy = self.requery(*texts)
            return replace(self, frame=lazy, schema=lazy.collect_schema(), texts=None)
        if self.texts is None or not self.texts.typeless:
            return self
        return self.read_as(self.texts.identifying(filter(None, columns)))

    def detected(self, reading: Reading | None = None) -> AccountTable:
        """Return the table with each text column converted to the kind of its cells.

        `reading` states the kinds of columns, and null markers, that are not detected. Cost: a
        pass over the text columns.
        """
        texts = self.texts_by(reading or Reading())
        looked_at = texts.looked_at(texts.columns, lambda lazy: collect(self, lazy))
        return self.read_as(looked_at.taken_as(texts.stated))

    def texts_by(self, reading: Reading) -> Texts:
        """Return the text columns as the source has them, with a reading to convert them by."""
        if self.texts is None:
            names = tuple(name for name, dtype in self.schema.items() if dtype in TEXT_TYPES)
            return Texts(self.frame, names, typeless=False, reading=reading)
        return self.texts.read_by(reading)

    def read_as(self, texts: Texts) -> AccountTable:
        """Return the table with its text columns converted to their kinds in `texts`."""
        frame = texts.typed()
        return replace(self, frame=frame, schema=frame.collect_schema(), texts=texts)


def likely_id(columns: Sequence[str]) -> str | None:
    """Return the column that is named like an account id, preferring `ID_NAMES`; None without one.

    Examples
    --------
    >>> likely_id(["MRR", "Customer ID"]), likely_id(["Account_ID__c"]), likely_id(["MRR"])
    ('Customer ID', 'Account_ID__c', None)
    """
    lowered = {name.lower(): name for name in columns}
    usual = next((lowered[name] for name in ID_NAMES if name in lowered), None)
    spelt = (c for c in columns if _ID_NAME.fullmatch(re.sub(r"__c$|[^0-9a-z]+", "", c.lower())))
    return usual or next(spelt, None)


def collect(table: AccountTable, lazy: pl.LazyFrame) -> pl.DataFrame:
    """Run a query over the table, streaming; raise `AccountDataError` if the source fails."""
    try:
        return lazy.collect(engine="streaming")
    except (PolarsError, OSError) as err:
        raise broken_file(table.source, first_line(err)) from err


def first_values(table: AccountTable, column: str, count: int) -> str:
    """Return a column's first distinct known values as text."""
    values = pl.col(column).drop_nulls().unique(maintain_order=True).head(count)
    return culprits(collect(table, table.frame.select(values))[column].to_list())


def refuse_empty(table: AccountTable) -> None:
    """Raise `AccountDataError` if the table has no row, in which case its types mean nothing."""
    if collect(table, table.frame.head(1)).is_empty():
        raise AccountDataError(
            f"{table.source}: the table is empty", hint="does --data name the right file?"
        )


# ---- sources -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """An account table somewhere, at a version of it, or a query over such tables."""

    #: A file, folder or glob; a folder or URL of a Delta table; ``iceberg://CATALOG/space.table``;
    #: ``duckdb:///file.db?table=accounts``, with a fourth slash for an absolute path;
    #: ``postgresql://user@host/db?table=schema.name``; a URL of files in an object store.
    location: str
    #: A Delta table's version or an Iceberg table's snapshot; None for the newest.
    at_version: int | None = None
    #: One SELECT that returns the account table, from ``accounts``, the table at `location`, and
    #: `others`.
    query: str | None = None
    #: Further tables of the query, by name.
    others: tuple[tuple[str, Source], ...] = ()
    #: Whether only a journal's record names the location. It is then opened remotely only with
    #: consent, and the views of a DuckDB file can't reach other files.
    recorded: bool = False
    #: The dates to read, in the form of `AskedDates.parse`; None for a table of one date.
    at: str | None = None
    #: The file that the query was read from, which no output may overwrite.
    query_file: Path | None = field(default=None, compare=False)

    @classmethod
    def of_record(cls, location: str, parameters: Mapping[str, str]) -> Source:
        """Return the source that a run's record states: the same table at the same version."""
        prefix, versions = "source.", "source_version"

        def version(key: str) -> int | None:
            try:
                return int(parameters[key]) if key in parameters else None
            except ValueError as err:
                raise JournalError(
                    f'the run\'s record has "{parameters[key]}" as {key}, which is no version'
                ) from err

        names = [key.removeprefix(prefix) for key in parameters if key.startswith(prefix)]
        others = tuple(
            (name, cls(parameters[prefix + name], version(f"{versions}.{name}"), recorded=True))
            for name in names
        )
        query, at = parameters.get("query"), parameters.get("at")
        return cls(location, version(versions), query, others, recorded=True, at=at)


#: Accepted forms of an account table; Any stands for pandas, Arrow and DuckDB objects.
Tabular: TypeAlias = str | Path | Source | pl.DataFrame | pl.LazyFrame | Any


def named_sources(settings: list[str]) -> tuple[tuple[str, Source], ...]:
    """Parse ``name=location`` settings, the further tables of a query.

    Raises
    ------
    UsageError
        If any setting has another form or repeats a name; the message lists all of these.

    Examples
    --------
    >>> named_sources(["usage=usage.parquet"])[0][1].location
    'usage.parquet'
    """
    read, wrong = {_ACCOUNTS: ""}, []
    for setting in settings:
        name, _, location = setting.partition("=")
        if not location or not re.fullmatch(r"[A-Za-z_]\w*", name) or name in read:
            wrong.append(setting)
        read[name] = location
    if wrong:
        raise UsageError(
            f"--source expects name=location, each name once, got {culprits(wrong)}",
            hint=f'--source usage=usage.parquet; "{_ACCOUNTS}" is what --data names',
        )
    del read[_ACCOUNTS]
    return tuple((name, Source(location)) for name, location in read.items())


def scan(data: Tabular, *, at: str | None = None) -> AccountTable:
    """Open an account table.

    Parameters
    ----------
    data
        A Parquet, CSV or Arrow IPC file; a glob or a folder of such files, with Hive partitions;
        another location as in `Source`; a `Source`; a frame of Polars, pandas or Arrow; a DuckDB
        relation; or an open `AccountTable`, which is returned unchanged but for its dates.
    at
        The dates to read, in the form of `AskedDates.parse`. A `Source` that states dates, and an
        open table that has them, ignore it.

    Raises
    ------
    AccountDataError
        If there is no such table, it can't be read, or it has no row of the dates.
    UsageError
        If a location is malformed, or a library is missing.
    QueryError
        If a query isn't one SELECT, or fails.
    """
    if isinstance(data, AccountTable):
        table = data
    else:
        table = _opened(data)
        at = (data.at if isinstance(data, Source) else None) or at
    return table if at is None or table.dates else _at(table, at)


def _opened(data: Tabular) -> AccountTable:
    if isinstance(data, pl.DataFrame | pl.LazyFrame):
        return _table("frame", data.lazy())
    if not isinstance(data, str | Path | Source):
        frame, unread = taken_in(data)
        return _table("frame", frame.lazy(), unread=unread)
    source = data if isinstance(data, Source) else Source(str(data))
    return _located(source) if source.query is None else _queried(source)


def days_of(table: AccountTable, column: str = ASOF) -> list[date]:
    """Return a column's distinct days, ascending; empty if it is absent or can't hold dates."""
    dtype = table.schema.get(column)
    if dtype not in (pl.Date, pl.Datetime, pl.String):
        return []
    days = day_of(column, dtype).drop_nulls().unique()
    return sorted(collect(table, table.frame.select(days)).to_series().to_list())


def _at(table: AccountTable, at: str) -> AccountTable:
    """Return the table's rows of the requested dates."""
    requested = AskedDates.parse(at)
    requested.refuse_absent(table.source, table.schema)
    day = day_of(requested.column, table.schema[requested.column])
    undated = collect(table, table.frame.select(day.is_null().sum())).item()
    if undated:
        raise AccountDataError(
            f"{table.source}: {some(undated, 'row has', 'rows have')} no date in column "
            f'"{requested.column}"',
            hint="store it as a date, or as text YYYY-MM-DD, and leave no row without one",
        )
    there = days_of(table, requested.column)
    days = tuple(each for each in there if requested.first <= each <= requested.last)
    if not days:
        raise AccountDataError(
            f"{table.source}: no row is of {at}; it has {listed(there) or 'no rows'}",
            hint=f"--at {there[0]}..{there[-1]} takes all" if there else None,
        )
    kept = table.keeping(
        lambda schema: requested.holds(day_of(requested.column, schema[requested.column]))
    )
    origin = {**table.origin, "at": at}
    return replace(kept, origin=origin, dates=TableDates(requested.column, days))


def _table(
    name: str,
    lazy: pl.LazyFrame,
    origin: Mapping[str, str] | None = None,
    unread: Mapping[str, str] | None = None,
) -> AccountTable:
    schema = lazy.collect_schema()
    if wide := {column: TOO_WIDE for column, dtype in schema.items() if _too_wide(dtype)}:
        if len(wide) == len(schema):
            raise AccountDataError(f"{name}: no column can be read: " + culprits(wide))
        lazy = lazy.drop(wide)
        schema = lazy.collect_schema()
    return AccountTable(name, lazy, schema, origin or {}, {**(unread or {}), **wide})


def _too_wide(dtype: pl.DataType) -> bool:
    """Whether values hold decimals of more digits than Polars reads: BigQuery's BIGNUMERIC."""
    inner = getattr(dtype, "inner", None)
    parts = [field.dtype for field in getattr(dtype, "fields", ())] + ([inner] if inner else [])
    wide = isinstance(dtype, pl.Decimal) and (dtype.precision or 0) > MOST_DIGITS
    return wide or any(map(_too_wide, parts))


def _located(source: Source) -> AccountTable:
    """Open the table at a source's location; the location's form decides how."""
    location = source.location
    name = without_credentials(location)
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    refuse_unasked(location, recorded=source.recorded)
    try:
        if scheme == "iceberg":
            return _iceberg(source, name)
        if is_database(location):
            _refuse_version(source, name)
            return _database(location, name)
        if location.startswith("delta:"):
            return _delta(source, location.removeprefix("delta:"), name)
        path = Path(split(location).path if scheme else location)
        kind = FORMATS.get(ending_of(path))
        plain = scheme == "file" or (not scheme and not is_delta(location))
        if not (plain or scheme == "duckdb" or (scheme and kind)):
            return _delta(source, location, name)
        _refuse_version(source, name)
        if scheme == "duckdb":
            frame, unread, made = _duckdb(location, locked=source.recorded)
            return _table(name, frame, made, unread)
        if not plain and kind in SCANS:
            return _table(name, SCANS[kind](location))
        if not plain:
            return _of_text(name, [text_file(location)], None)
    except (PolarsError, OSError) as err:
        raise _unreadable(location, err) from err
    except GtmarError:
        raise
    except Exception as err:
        # Libraries of object stores raise errors of their own, such as for missing credentials.
        if is_remote(location):
            raise _unreadable(location, err) from err
        raise
    return _of_files(location)


def _refuse_version(source: Source, name: str) -> None:
    if source.at_version is not None:
        hint = "--at-version is for Delta and Iceberg tables"
        raise UsageError(f'"{name}" has no versions', hint=hint)


def _of_files(location: str) -> AccountTable:
    kind, files = located(location)
    try:
        if kind not in SCANS:
            return _of_text(location, [text_file(file) for file in files], Path(location))
        lazy, notes = scan_typed(kind, files, Path(location))
        made = snapshot_origin(files) if kind == "parquet" else {}
        return replace(_table(location, lazy, made), notes=tuple(notes))
    except (PolarsError, OSError) as err:
        raise broken_file(location, first_line(err)) from err


def _of_text(name: str, files: Sequence[TextFile], source: Path | None) -> AccountTable:
    """Open text files and detect their columns' kinds; keep the text in memory if it fits."""
    raw = scan_text(files, source)
    table = _table(name, raw)
    if _TIMES * sum(file.size for file in files) <= _SHARE * default_budget():
        raw = collect(table, raw).lazy()
    columns = tuple(name for name, dtype in table.schema.items() if dtype == pl.String)
    signs = {file.separator for file in files}
    texts = Texts(raw, columns, typeless=True, comma=signs != {","}, ask=";" in signs)
    ids = [name for name in columns if name.lower() in ID_NAMES]
    return replace(table, frame=raw, texts=texts).detected().with_text(*ids)


def _unreadable(location: str, err: Exception) -> AccountDataError:
    return AccountDataError(
        f'"{without_credentials(location)}": can\'t be read: {worded(location, err)}',
        hint="is it there, and are credentials in the environment, where it needs any?",
    )


# ---- Delta, Iceberg, DuckDB ---------------------------------------------------------------------


def _delta(source: Source, location: str, name: str) -> AccountTable:
    with needing("delta"):
        import deltalake
    root, partitions = delta_root(location)
    try:
        try:
            table = deltalake.DeltaTable(root, version=source.at_version)
        except (deltalake.exceptions.DeltaError, OverflowError):
            if source.at_version is not None:
                _refuse_other_versions(deltalake.DeltaTable(root), source.at_version, name)
            raise
        # Named once more, since a shard that is sent the plan opens the table anew.
        lazy = pl.scan_delta(table, version=table.version())
        origin = {"source_kind": "delta", "source_version": str(table.version())}
        if partitions:
            lazy, made = _partition(table, lazy, named_partitions(partitions), name)
            origin |= made
    except (deltalake.exceptions.DeltaError, PolarsError, OSError, ValueError) as err:
        if isinstance(err, GtmarError):
            raise
        raise _unreadable(location, err) from err
    return _table(name, lazy, origin)


def _refuse_other_versions(newest: Any, wanted: int, name: str) -> None:
    """Raise `AccountDataError` if a Delta table doesn't have a version that is asked for."""
    last = newest.version()
    if 0 <= wanted <= last:
        return
    # The log may have been cleaned of the first ones.
    first = min((entry["version"] for entry in newest.history()), default=last)
    known = f"{first} to {last}" if first < last else f"{last} alone"
    raise AccountDataError(
        f'"{name}": no version {wanted}; it has {known}', hint="--at-version takes one of these"
    )


def _partition(
    table: Any, lazy: pl.LazyFrame, values: Mapping[str, str | None], name: str
) -> tuple[pl.LazyFrame, dict[str, str]]:
    """Filter a Delta table by a partition and drop the partition's columns.

    Only files of the current table version count, not all that lie in the partition's folder. A
    partition that gtmar snapshot wrote keeps only its own columns, not those of other dates.
    """
    known = list(table.metadata().partition_columns)
    if unknown := [column for column in values if column not in known]:
        raise AccountDataError(
            f'"{name}": the Delta table isn\'t partitioned by {culprits(unknown)}, but by '
            f"{culprits(known) or 'no column'}"
        )
    files = table.file_uris(
        file_pruning_predicate=[(column, "=", value or "") for column, value in values.items()]
    )
    if not files:
        raise AccountDataError(f'"{name}": the Delta table has no such partition')
    schema = lazy.collect_schema()
    for column, value in values.items():
        if value is None:
            lazy = lazy.filter(pl.col(column).is_null())
        elif schema[column] == pl.Date:
            lazy = lazy.filter(pl.col(column) == pl.lit(value).str.to_date())
        else:
            lazy = lazy.filter(pl.col(column).cast(pl.String) == value)
    lazy = lazy.drop(values)
    made = snapshot_origin(files)
    if made:
        own = pl.scan_parquet(files, hive_partitioning=False).collect_schema().names()
        lazy = lazy.select(own)
    return lazy, made


def _iceberg(source: Source, name: str) -> AccountTable:
    with needing("iceberg"):
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
    parts = split(source.location)
    catalog, table_name = parts.netloc, parts.path.strip("/").replace("/", ".")
    if not catalog or "." not in table_name:
        raise UsageError(
            f'"{name}": expected iceberg://CATALOG/namespace.table',
            hint="the catalog is one of pyiceberg's own configuration",
        )
    try:
        table = load_catalog(catalog).load_table(table_name)
    except (NoSuchTableError, NoSuchNamespaceError) as err:
        raise AccountDataError(f'"{name}": catalog "{catalog}" has no table {table_name}') from err
    except (ValueError, OSError) as err:
        raise _unreadable(source.location, err) from err
    snapshot, wanted = table.current_snapshot(), source.at_version
    if wanted is None and snapshot is not None:
        wanted = snapshot.snapshot_id
    if wanted is None or table.snapshot_by_id(wanted) is None:
        known = [str(entry.snapshot_id) for entry in table.history()]
        raise AccountDataError(
            f'"{name}": no snapshot {wanted}; it has {culprits(known) or "none"}',
            hint="--at-version takes one of these",
        )
    # Polars' native reader needs one more package to plan a scan, and warns without it.
    lazy = pl.scan_iceberg(table, snapshot_id=wanted, reader_override="pyiceberg")
    return _table(name, lazy, {"source_kind": "iceberg", "source_version": str(wanted)})


def _duckdb(location: str, *, locked: bool) -> tuple[pl.LazyFrame, dict[str, str], dict[str, str]]:
    """Open a table or view of a DuckDB file; a query reads only the columns that it needs.

    Returns the frame, the columns that can't be read with the reason, and the entries of a run's
    record if gtmar snapshot made the view. With `locked`, views reach neither other files nor the
    network.
    """
    import duckdb

    path, table = duckdb_place(location)
    if not path.is_file():
        raise AccountDataError(
            f'"{without_credentials(location)}": no file "{path}"',
            hint="duckdb:///file.db is a path from here, duckdb:////data/file.db one from the root",
        )

    @contextmanager
    def connected() -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with duckdb.connect(path, read_only=True) as connection:
                if locked:
                    lock(connection, QueryLimits())
                yield connection
        except duckdb.Error as err:
            raise _unreadable(location, err) from err

    def ask(text: str) -> pl.DataFrame:
        with connected() as connection:
            rows: pl.DataFrame = connection.sql(text).pl()
            return rows

    tables = ask(
        "select table_catalog, table_schema, table_name from information_schema.tables order by all"
    )
    name = table_named(table, tables.rows(), without_credentials(location))
    with connected() as connection:
        selected, unread = readable(connection.sql(f"select * from {name}"))

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        listed = ", ".join(selected[name] for name in columns or selected)
        limit = "" if rows is None else f" limit {rows}"
        frame = ask(f"select {listed} from {name}{limit}")
        yield frame if predicate is None else frame.filter(predicate)

    schema = ask(f"select {', '.join(selected.values())} from {name} limit 0").schema
    views = ask(
        "select database_name, schema_name, view_name, comment from duckdb_views() "
        "where comment like '%gtmar_recipe%'"
    )
    made = {}
    for *parts, comment in views.rows():
        if ".".join(map(quoted, parts)) == name:
            made = _origin_in(comment)
    return pl.io.plugins.register_io_source(read, schema=schema), unread, made


def _origin_in(comment: str) -> dict[str, str]:
    """Return the origin that gtmar snapshot wrote into a view's comment; empty for others."""
    try:
        fields = json.loads(comment)
    except ValueError:
        return {}
    return told_origin(fields) if isinstance(fields, dict) else {}


class _Scratch:
    """A temporary folder that is removed with this object, or when the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="gtmar-", dir=roomy_folder()))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _database(location: str, name: str) -> AccountTable:
    """Copy a database's table to a temporary file, so that every pass sees the same rows."""
    scratch = _Scratch()
    path = scratch.path / "rows.parquet"
    fetched = fetch(location, path)

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        # This closure keeps `scratch`, and so the file, alive as long as the frame.
        lazy = pl.scan_parquet(scratch.path / path.name)
        lazy = lazy if rows is None else lazy.head(rows)
        lazy = lazy if predicate is None else lazy.filter(predicate)
        yield from (lazy if columns is None else lazy.select(columns)).collect_batches()

    frame = pl.io.plugins.register_io_source(read, schema=pl.read_parquet_schema(path))
    return replace(_table(name, frame, fetched.origin, fetched.unread), notes=fetched.notes)


# ---- queries -------------------------------------------------------------------------------------


def _queried(source: Source, *texts: str) -> AccountTable:
    """Run a query over its sources in a locked in-memory database, columns `texts` kept as text."""
    import duckdb

    query = str(source.query)
    refuse_all_but_select(query, hint="the query gives the account table; it changes nothing")
    first = Source(source.location, source.at_version, recorded=source.recorded)
    origin = {"query": query}
    with duckdb.connect() as connection:
        for name, there in {_ACCOUNTS: first, **dict(source.others)}.items():
            table = _located(there).with_text(*texts)
            refuse_alike(table.source, table.columns)
            suffix = "" if name == _ACCOUNTS else f".{name}"
            for key in ("source_version", "source_read_at", "source_rows"):
                if key in table.origin:
                    origin[f"{key}{suffix}"] = table.origin[key]
            if suffix:
                origin[f"source{suffix}"] = without_credentials(there.location)
            try:
                connection.register(name, table.frame.collect(engine="streaming"))
            except (PolarsError, OSError) as err:
                raise _unreadable(there.location, err) from err
        limits, unread = QueryLimits(), {}

        def picked(relation: Any) -> Any:
            selected, others = readable(relation)
            unread.update(others)
            return relation.project(", ".join(selected.values()))

        lock(connection, limits)
        try:
            result = answer(connection, query, limits, pick=picked)
        except duckdb.Error as err:
            raise failed(err) from err
        except PolarsError as err:
            raise QueryError(f"the query's result is no table: {first_line(err)}") from err
    table = _table(without_credentials(source.location), result.lazy(), origin, unread)
    return replace(table, requery=lambda *names: _queried(source, *names).frame)
