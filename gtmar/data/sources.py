"""Account tables that aren't plain files: where they are, and how each kind is opened.

Delta, Iceberg, DuckDB, object stores, queries over tables, and frames of other libraries. What a
location holds of credentials never reaches a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl
from polars.exceptions import PolarsError

from gtmar.data.locations import (
    duckdb_place,
    quoted,
    refuse_unasked,
    split,
    worded,
)
from gtmar.data.table_files import CSV_ENDINGS, TextFile, refuse_repeated, scan_text, text_file
from gtmar.errors import (
    AccountDataError,
    GtmarError,
    JournalError,
    QueryError,
    UsageError,
    culprits,
    nearest,
    needing,
)
from gtmar.safe_text import is_remote, without_credentials
from gtmar.sql_sandbox import QueryLimits, answer, failed, first_line, lock, refuse_all_but_select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Opened", "Source", "Tabular", "named_sources", "opened"]


#: What the table that ``--data`` names is called in a query.
_ACCOUNTS = "accounts"
#: Types of DuckDB that no column of a frame has.
_FOREIGN = ("interval", "union", "bignum", "varint", "variant", "time with time zone", "geometry")
#: A part of a table's name, quoted or not.
_PART = r'"(?:[^"]|"")+"|[^."]+'
_SCANS: dict[str, Callable[..., pl.LazyFrame]] = {
    **dict.fromkeys((".parquet", ".pq"), pl.scan_parquet),
    **dict.fromkeys((".arrow", ".ipc", ".feather"), pl.scan_ipc),
}


def _unreadable(location: str, err: Exception) -> AccountDataError:
    return AccountDataError(
        f'"{without_credentials(location)}": can\'t be read: {worded(location, err)}',
        hint="is it there, and are credentials in the environment, where it needs any?",
    )


# ---- sources ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """An account table somewhere, at a version of it, or a query over such tables.

    Parameters
    ----------
    location
        A file, folder or glob; a folder or URL of a Delta table; ``iceberg://CATALOG/space.table``;
        ``duckdb:///file.db?table=accounts``, with a fourth slash for an absolute path; a URL of
        files in an object store.
    at_version
        A Delta table's version or an Iceberg table's snapshot; None for the newest.
    query
        One SELECT that gives the account table, over `location` as ``accounts`` and `others`.
    others
        Further tables of the query, by name.
    recorded
        Whether a journal's record names it and no person: then it is opened beyond this machine's
        files only where somebody agrees, and a DuckDB file's views reach no other file.
    query_file
        The file that the query was read from, so that no output goes onto it.
    """

    location: str
    at_version: int | None = None
    query: str | None = None
    others: tuple[tuple[str, Source], ...] = ()
    recorded: bool = False
    query_file: Path | None = field(default=None, compare=False)

    @classmethod
    def of_record(cls, location: str, parameters: Mapping[str, str]) -> Source:
        """Read a source off a run's record: the same table at the same version."""
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
        return cls(location, version(versions), parameters.get("query"), others, recorded=True)


@dataclass(frozen=True)
class Opened:
    """A source that was opened."""

    #: What messages and the journal call it: the location, without credentials.
    name: str
    frame: pl.LazyFrame
    #: For a run's record: version or snapshot, query, the other tables.
    origin: dict[str, str] = field(default_factory=dict)
    #: Columns that can't be read, with the reason.
    unread: dict[str, str] = field(default_factory=dict)
    #: The file of separated text that it is, where it is one.
    text: TextFile | None = None


#: Whatever an account table may be given as; Any stands for pandas, Arrow and DuckDB objects.
Tabular: TypeAlias = "str | Path | Source | pl.DataFrame | pl.LazyFrame | Any"


def named_sources(settings: list[str]) -> tuple[tuple[str, Source], ...]:
    """Read ``name=location`` settings, the further tables of a query; refuse all others at once.

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


def opened(data: Tabular, plainly: Callable[[str], pl.LazyFrame]) -> Opened | None:
    """Open a source; None for a plain path, which the caller opens, as `plainly` does for a query.

    Raises `AccountDataError` if it isn't there or can't be read, `UsageError` if its location is
    malformed or a library is missing, and `QueryError` if its query isn't one SELECT, or fails.
    """
    if not isinstance(data, str | Path | Source):
        return _of_object(data)
    source = data if isinstance(data, Source) else Source(str(data))
    if source.query is not None:
        return _queried(source, plainly)
    return _located(source)


def _located(source: Source) -> Opened | None:
    """Open what a location's form says; None for a plain path."""
    location = source.location
    name = without_credentials(location)
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    refuse_unasked(location, recorded=source.recorded)
    try:
        if scheme == "iceberg":
            return _iceberg(source, name)
        if location.startswith("delta:"):
            return _delta(source, location.removeprefix("delta:"), name)
        path = Path(split(location).path if scheme else location)
        ending = path.suffix.lower()
        text = path.name.lower().endswith(CSV_ENDINGS)
        plain = scheme == "file" or (not scheme and not (path / "_delta_log").is_dir())
        if not (plain or scheme == "duckdb" or (scheme and (text or ending in _SCANS))):
            return _delta(source, location, name)
        _refuse_version(source, name)
        if plain:
            return None
        if scheme == "duckdb":
            frame, unread = _duckdb(location, locked=source.recorded)
            return Opened(name, frame, unread=unread)
        if text:
            file = text_file(location)
            return Opened(name, scan_text([file], None), text=file)
        lazy = _SCANS[ending](location)
        lazy.collect_schema()
        return Opened(name, lazy)
    except (PolarsError, OSError) as err:
        raise _unreadable(location, err) from err
    except GtmarError:
        raise
    except Exception as err:
        # Stores' own libraries have errors of their own, of lacking credentials for one.
        if is_remote(location):
            raise _unreadable(location, err) from err
        raise


def _refuse_version(source: Source, name: str) -> None:
    if source.at_version is not None:
        hint = "--at-version is for Delta and Iceberg tables"
        raise UsageError(f'"{name}" has no versions', hint=hint)


# ---- frames of other libraries ------------------------------------------------------------------


def _of_object(data: Any) -> Opened:
    """Turn a frame or relation of another library into a Polars frame."""
    kind = type(data)
    library = kind.__module__.split(".")[0]
    frame: pl.DataFrame | None = None
    unread: dict[str, str] = {}
    if library == "pandas":
        # NaN is how pandas writes an unknown.
        wide = data.to_frame() if data.ndim == 1 else data
        names = list(map(str, wide.columns))
        frame, unread = _column_by_column(lambda some: pl.from_pandas(wide.iloc[:, some]), names)
    elif library in ("duckdb", "_duckdb") and hasattr(data, "types"):
        selected, unread = _readable(data)
        frame = data.project(", ".join(selected.values())).pl()
    elif hasattr(data, "select") and hasattr(data, "column_names"):
        names = list(data.column_names)
        frame, unread = _column_by_column(lambda some: pl.DataFrame(data.select(some)), names)
    elif hasattr(data, "__arrow_c_stream__"):
        frame = pl.DataFrame(data)
    if frame is None:
        raise UsageError(
            f"an account table can't be a {kind.__module__}.{kind.__qualname__}",
            hint="give a path, a Polars, pandas or Arrow frame, or a DuckDB relation",
        )
    return Opened("frame", frame.lazy(), unread=unread)


def _column_by_column(
    convert: Callable[[list[int]], pl.DataFrame], names: list[str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Convert a frame; where that fails, all of its columns that can be, and why not the others."""
    refuse_repeated("frame", names)
    failures = (PolarsError, TypeError, ValueError, ArithmeticError)
    try:
        return convert(list(range(len(names)))), {}
    except failures:
        pass
    frames, unread = [], {}
    for i, name in enumerate(names):
        try:
            frames.append(convert([i]))
        except failures as err:
            unread[name] = f"of values that no column has together: {first_line(err)}"
    if not frames:
        raise AccountDataError("frame: no column can be read: " + culprits(names))
    return pl.concat(frames, how="horizontal"), unread


def _readable(relation: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return how to select a relation's columns that can be read, and why the others can't."""

    def foreign(dtype: Any) -> bool:
        nested = dtype.id in ("list", "array", "struct", "map")
        parts = [part for _, part in dtype.children] if nested else []
        return dtype.id in _FOREIGN or any(foreign(part) for part in parts if hasattr(part, "id"))

    types = dict(zip(relation.columns, relation.types, strict=True))
    refuse_repeated("the table", relation.columns)
    unread = {
        name: f"of DuckDB's type {dtype}, neither number, date nor category"
        for name, dtype in types.items()
        if foreign(dtype)
    }
    if len(unread) == len(types):
        raise AccountDataError("no column can be read: " + culprits(types))
    selected = {name: quoted(name) for name in types if name not in unread}
    for name in selected:
        if types[name].id == "timestamp_s":
            # On its way to a frame an infinite one would become a moment of 1969.
            selected[name] = f"cast({quoted(name)} as timestamp) as {quoted(name)}"
    return selected, unread


# ---- Delta, Iceberg, DuckDB ---------------------------------------------------------------------


def _delta(source: Source, location: str, name: str) -> Opened:
    with needing("delta"):
        import deltalake
    try:
        table = deltalake.DeltaTable(location, version=source.at_version)
        lazy = pl.scan_delta(table)
    except (deltalake.exceptions.DeltaError, OSError, ValueError) as err:
        raise _unreadable(location, err) from err
    return Opened(name, lazy, {"source_kind": "delta", "source_version": str(table.version())})


def _iceberg(source: Source, name: str) -> Opened:
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
    snapshot = table.current_snapshot()
    wanted = source.at_version or (snapshot.snapshot_id if snapshot else None)
    if wanted is None or table.snapshot_by_id(wanted) is None:
        known = [str(entry.snapshot_id) for entry in table.history()]
        raise AccountDataError(
            f'"{name}": no snapshot {wanted}; it has {culprits(known) or "none"}',
            hint="--at-version takes one of these",
        )
    # Polars' own reader wants a package more to plan a scan, and warns where it isn't there.
    lazy = pl.scan_iceberg(table, snapshot_id=wanted, reader_override="pyiceberg")
    return Opened(name, lazy, {"source_kind": "iceberg", "source_version": str(wanted)})


def _duckdb(location: str, *, locked: bool) -> tuple[pl.LazyFrame, dict[str, str]]:
    """Open a table or view of a DuckDB file, reading only the columns that are asked for.

    The views of a `locked` one reach no other files, nor a network.
    """
    import duckdb

    path, table = duckdb_place(location)
    if not path.is_file():
        raise AccountDataError(
            f'"{without_credentials(location)}": no file "{path}"',
            hint="duckdb:///file.db is a path from here, duckdb:////data/file.db one from the root",
        )

    def ask(text: str) -> pl.DataFrame:
        try:
            with duckdb.connect(path, read_only=True) as connection:
                if locked:
                    lock(connection, QueryLimits())
                rows: pl.DataFrame = connection.sql(text).pl()
                return rows
        except duckdb.Error as err:
            raise _unreadable(location, err) from err

    tables = ask(
        "select table_catalog, table_schema, table_name from information_schema.tables order by all"
    )
    name = _table_named(table, tables.rows(), without_credentials(location))
    try:
        with duckdb.connect(path, read_only=True) as connection:
            selected, unread = _readable(connection.sql(f"select * from {name}"))
    except duckdb.Error as err:
        raise _unreadable(location, err) from err

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        listed = ", ".join(selected[name] for name in columns or selected)
        limit = "" if rows is None else f" limit {rows}"
        frame = ask(f"select {listed} from {name}{limit}")
        yield frame if predicate is None else frame.filter(predicate)

    schema = ask(f"select {', '.join(selected.values())} from {name} limit 0").schema
    return pl.io.plugins.register_io_source(read, schema=schema), unread


def _table_named(name: str, tables: list[tuple[str, str, str]], location: str) -> str:
    """Return a table's quoted name: ``accounts``, ``marts.accounts``, ``crm.marts.accounts``.

    A name that a table of the main schema has as it stands is that table's, dots included. A hint
    names no table of another schema than the one asked for.
    """

    def shown(schema: str, table: str) -> str:
        parts = (table,) if schema == "main" else (schema, table)
        plain = all(re.fullmatch(r"\w+", part) for part in parts)
        # As one name, or part by part: that is how it is read.
        return f'"{".".join(parts)}"' if plain else ".".join(map(quoted, parts))

    parts = [name]
    if re.fullmatch(rf"(?:{_PART})(?:\.(?:{_PART})){{0,2}}", name):
        parts = [
            part[1:-1].replace('""', '"') if part.startswith('"') else part
            for part in re.findall(_PART, name)
        ]
    wanted = [("main", name), ("main" if len(parts) == 1 else parts[-2], parts[-1])]
    for schema, table in wanted:
        for catalog, its_schema, its_table in tables:
            outside = len(parts) == 3 and parts[0].lower() != catalog.lower()
            if (its_schema, its_table) == (schema, table) and not outside:
                return ".".join(map(quoted, (catalog, its_schema, its_table)))
    known = [shown(schema, table) for _, schema, table in tables]
    alike = [shown(schema, table) for _, schema, table in tables if schema == wanted[-1][0]]
    if len(parts) == 1:
        alike += [shown(s, t) for _, s, t in tables if t.lower() == parts[0].lower()]
    asked = name if '"' in name else f'"{name}"'
    end = f'.{name}"'
    likely = nearest(asked, alike) or next((each for each in alike if each.endswith(end)), None)
    more = f" and {len(known) - 5:,} more" if len(known) > 5 else ""
    raise AccountDataError(
        f'"{location}": no table {asked}; it has {", ".join(known[:5]) or "none"}{more}',
        hint=f"did you mean {likely}?" if likely else None,
    )


# ---- queries ------------------------------------------------------------------------------------


def _queried(source: Source, plainly: Callable[[str], pl.LazyFrame]) -> Opened:
    """Run a query over its sources, in memory, under locks."""
    import duckdb

    text = str(source.query)
    refuse_all_but_select(text, hint="the query gives the account table; it changes nothing")
    first = Source(source.location, source.at_version, recorded=source.recorded)
    origin = {"query": text}
    with duckdb.connect() as connection:
        for name, table in {_ACCOUNTS: first, **dict(source.others)}.items():
            there = _located(table)
            suffix = "" if name == _ACCOUNTS else f".{name}"
            if there is None or there.text is not None:
                frame = plainly(table.location)
            else:
                frame = there.frame
                if "source_version" in there.origin:
                    origin[f"source_version{suffix}"] = there.origin["source_version"]
            if suffix:
                origin[f"source{suffix}"] = without_credentials(table.location)
            try:
                connection.register(name, frame.collect(engine="streaming"))
            except (PolarsError, OSError) as err:
                raise _unreadable(table.location, err) from err
        limits, unread = QueryLimits(), {}

        def picked(relation: Any) -> Any:
            selected, others = _readable(relation)
            unread.update(others)
            return relation.project(", ".join(selected.values()))

        lock(connection, limits)
        try:
            result = answer(connection, text, limits, pick=picked)
        except duckdb.Error as err:
            raise failed(err) from err
        except PolarsError as err:
            raise QueryError(f"the query's result is no table: {first_line(err)}") from err
    return Opened(without_credentials(source.location), result.lazy(), origin, unread)
