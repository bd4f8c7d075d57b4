"""Sources of account tables beyond files: Delta, Iceberg and DuckDB tables, URLs, queries, frames.

Each becomes a lazy Polars frame, a name without credentials, and what a run's record says of it:
the version or snapshot that was read. Libraries are imported where they are needed; `scan` is the
one caller.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import polars as pl
from polars.exceptions import PolarsError

from gtmar.accounts.locations import duckdb_place, quoted, unreadable, without_credentials
from gtmar.errors import AccountDataError, QueryError, UsageError, culprits, nearest, needing
from gtmar.locks import QueryLimits, answer, failed, first_line, lock, refuse_all_but_select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Opened", "Source", "Tabular", "named_sources", "opened"]

#: What the table that ``--data`` names is called in a query.
ACCOUNTS = "accounts"
_SCANS: dict[str, Callable[..., pl.LazyFrame]] = {
    ".parquet": pl.scan_parquet,
    ".pq": pl.scan_parquet,
    ".csv": pl.scan_csv,
    ".arrow": pl.scan_ipc,
    ".ipc": pl.scan_ipc,
    ".feather": pl.scan_ipc,
}


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
    """

    location: str
    at_version: int | None = None
    query: str | None = None
    others: tuple[tuple[str, Source], ...] = ()

    @classmethod
    def of_record(cls, location: str, parameters: Mapping[str, str]) -> Source:
        """Read a source off a run's record: the same table at the same version."""
        prefix, versions = "source.", "source_version"

        def version(key: str) -> int | None:
            return int(parameters[key]) if key in parameters else None

        others = tuple(
            (name.removeprefix(prefix), cls(other, version(f"{versions}.{name[len(prefix) :]}")))
            for name, other in parameters.items()
            if name.startswith(prefix)
        )
        return cls(location, version(versions), parameters.get("query"), others)


@dataclass(frozen=True)
class Opened:
    """A source that was opened."""

    #: What messages and the journal call it: the location, without credentials.
    name: str
    frame: pl.LazyFrame
    #: For a run's record: version or snapshot, query, the other tables.
    origin: dict[str, str] = field(default_factory=dict)


#: Whatever an account table may be given as; Any stands for pandas, Arrow and DuckDB objects.
Tabular: TypeAlias = "str | Path | Source | pl.DataFrame | pl.LazyFrame | Any"


def opened(data: Tabular, plainly: Callable[[str], pl.LazyFrame]) -> Opened | None:
    """Open a source that isn't a plain path.

    Parameters
    ----------
    data
        What was given as the account table.
    plainly
        Opens a path of files.

    Returns
    -------
    Opened or None
        None for a plain path, which the caller knows how to open.

    Raises
    ------
    AccountDataError
        If it isn't there or can't be read.
    UsageError
        If the location is malformed, has no versions, or a library is missing.
    QueryError
        If the query isn't one SELECT, or fails.
    """
    if not isinstance(data, str | Path | Source):
        return Opened("frame", _of_object(data))
    source = data if isinstance(data, Source) else Source(str(data))
    if source.query is not None:
        return _queried(source, plainly)
    found = _located(source)
    if found is None:
        _refuse_version(source)
    return found


def _of_object(data: Any) -> pl.LazyFrame:
    """Turn a frame or relation of another library into a Polars frame."""
    kind = type(data)
    if kind.__module__.split(".")[0] == "pandas":
        # NaN is how pandas writes an unknown.
        frame = pl.from_pandas(data)
        return (frame.to_frame() if isinstance(frame, pl.Series) else frame).lazy()
    if hasattr(data, "__arrow_c_stream__"):
        return pl.DataFrame(data).lazy()
    raise UsageError(
        f"an account table can't be a {kind.__module__}.{kind.__qualname__}",
        hint="give a path, a Polars, pandas or Arrow frame, or a DuckDB relation",
    )


def _located(source: Source) -> Opened | None:
    """Open what a location's form says; None for a plain path."""
    location = source.location
    name = without_credentials(location)
    scheme = location.partition("://")[0] if "://" in location else ""
    try:
        if scheme == "duckdb":
            _refuse_version(source)
            return Opened(name, _duckdb(location))
        if scheme == "iceberg":
            return _iceberg(source, name)
        if location.startswith("delta:"):
            return _delta(source, location.removeprefix("delta:"), name)
        if not scheme:
            is_delta = (Path(location) / "_delta_log").is_dir()
            return _delta(source, location, name) if is_delta else None
        if scheme == "file":
            return None
        ending = Path(urlsplit(location).path).suffix.lower()
        if ending in _SCANS:
            _refuse_version(source)
            return Opened(name, _lazily(_SCANS[ending](location)))
        return _delta(source, location, name)
    except (PolarsError, OSError) as err:
        raise unreadable(location, err) from err


def _lazily(lazy: pl.LazyFrame) -> pl.LazyFrame:
    lazy.collect_schema()
    return lazy


def _refuse_version(source: Source) -> None:
    if source.at_version is not None:
        raise UsageError(
            f'"{without_credentials(source.location)}" has no versions',
            hint="--at-version is for Delta and Iceberg tables",
        )


def _delta(source: Source, location: str, name: str) -> Opened:
    with needing("delta"):
        import deltalake
    try:
        table = deltalake.DeltaTable(location, version=source.at_version)
        lazy = pl.scan_delta(table)
    except (deltalake.exceptions.DeltaError, OSError, ValueError) as err:
        raise unreadable(location, err) from err
    return Opened(name, lazy, {"source_kind": "delta", "source_version": str(table.version())})


def _iceberg(source: Source, name: str) -> Opened:
    with needing("iceberg"):
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
    parts = urlsplit(source.location)
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
        raise unreadable(source.location, err) from err
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


def _duckdb(location: str) -> pl.LazyFrame:
    """Open a table or view of a DuckDB file, reading only the columns that are asked for."""
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
                found: pl.DataFrame = connection.sql(text).pl()
                return found
        except duckdb.Error as err:
            raise unreadable(location, err) from err

    names = ask("select table_name from information_schema.tables")["table_name"].to_list()
    if table not in names:
        likely = nearest(table, names)
        raise AccountDataError(
            f'"{without_credentials(location)}": no table "{table}"; it has {culprits(names)}',
            hint=f'did you mean "{likely}"?' if likely else None,
        )
    place = quoted(table)

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        listed = ", ".join(map(quoted, columns)) if columns else "*"
        limit = "" if rows is None else f" limit {rows}"
        frame = ask(f"select {listed} from {place}{limit}")
        yield frame if predicate is None else frame.filter(predicate)

    schema = ask(f"select * from {place} limit 0").schema
    return pl.io.plugins.register_io_source(read, schema=schema)


def named_sources(settings: list[str]) -> tuple[tuple[str, Source], ...]:
    """Read ``name=location`` settings, the further tables of a query.

    Raises
    ------
    UsageError
        If some aren't of that form, or a name stands twice; all of them in one message.

    Examples
    --------
    >>> named_sources(["usage=usage.parquet"])[0][1].location
    'usage.parquet'
    """
    read, wrong = {ACCOUNTS: ""}, []
    for setting in settings:
        name, sign, location = setting.partition("=")
        if not sign or not location or not re.fullmatch(r"[A-Za-z_]\w*", name) or name in read:
            wrong.append(setting)
        read[name] = location
    if wrong:
        raise UsageError(
            f"--source expects name=location, each name once, got {culprits(wrong)}",
            hint=f'--source usage=usage.parquet; "{ACCOUNTS}" is what --data names',
        )
    del read[ACCOUNTS]
    return tuple((name, Source(location)) for name, location in read.items())


def _queried(source: Source, plainly: Callable[[str], pl.LazyFrame]) -> Opened:
    """Run a query over its sources, in memory, under locks."""
    import duckdb

    text = str(source.query)
    refuse_all_but_select(text, hint="the query gives the account table; it changes nothing")
    places = {ACCOUNTS: Source(source.location, source.at_version)}
    places |= dict(source.others)
    origin = {"query": text}
    with duckdb.connect() as connection:
        for name, place in places.items():
            found = _located(place)
            if found is None:
                _refuse_version(place)
                frame = plainly(place.location)
            else:
                frame = found.frame
                version = found.origin.get("source_version")
                if version is not None:
                    key = "source_version" if name == ACCOUNTS else f"source_version.{name}"
                    origin[key] = version
            if name != ACCOUNTS:
                origin[f"source.{name}"] = without_credentials(place.location)
            try:
                connection.register(name, frame.collect(engine="streaming"))
            except (PolarsError, OSError) as err:
                raise unreadable(place.location, err) from err
        limits = QueryLimits()
        lock(connection, limits)
        try:
            result = answer(connection, text, limits)
        except duckdb.Error as err:
            raise failed(err) from err
        except PolarsError as err:
            raise QueryError(f"the query's result is no table: {first_line(err)}") from err
    return Opened(without_credentials(source.location), result.lazy(), origin)
