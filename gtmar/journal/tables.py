"""A journal's rows as sources for a query engine, which can only read them.

Small files, of which there may be thousands, are read whole. The rows of runs that have ended are
kept in the cache, as a DuckDB database for each folder. A connection attaches it read only before
it is locked, so that queries read just the columns and rows that they need, without Arrow. Large
files aren't copied: the engine reads the columns that it needs, and verifies page checksums.

Rows that fit in memory are passed as a stream, since an Arrow dataset would import pandas, if that
is installed, which takes longer than most queries.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gtmar.documents import is_text
from gtmar.journal.columns import EVENTS, EXPERIMENTS, RECORDS, columns_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds

    from gtmar.journal.file_index import Cache, FileIndex

__all__ = ["FolderRows", "Rows", "Tables"]

#: Largest file, in bytes, that is read whole.
_SMALL_BYTES = 262_144
#: For so few runs, files up to the second size are read whole, as that is quicker than importing
#: Arrow's datasets, and pandas with them.
_ALONE, _SMALL_ALONE = 2, 1_048_576
#: Up to the first size in bytes, a folder's cache takes in every new group of files. A larger one,
#: which has to be copied each time, waits for more groups than the second number or third share.
_SOON_COPIED, _FEW_GROUPS, _FEW_SHARE = 1 << 27, 64, 0.05
#: Number of files up to which Arrow is quicker than Polars, with its start-up and a cast.
_FEW_FILES = 48
_KEYS = {RECORDS: "run_id", EXPERIMENTS: "run_id", EVENTS: "event_id"}


@dataclass(frozen=True)
class Rows:
    """A table that an engine can read as a stream, any number of times."""

    table: pa.Table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows by Arrow's PyCapsule protocol."""
        return self.table.__arrow_c_stream__(requested_schema)


@dataclass(frozen=True)
class FolderRows:
    """The source of a view of a folder's rows."""

    folder: str
    #: A SELECT over the cached rows; empty if none of them is needed.
    kept: str = ""
    #: Rows that aren't cached, registered as `name`; None without any.
    fresh: Rows | ds.Dataset | None = None
    #: Columns of `fresh`; None for all.
    columns: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Name under which the rows that aren't cached are registered."""
        return f"fresh_{self.folder}"

    @property
    def select(self) -> str:
        """The SELECT of the view."""
        if self.fresh is not None:
            listed = ", ".join(f'"{name}"' for name in self.columns or ()) or "*"
            kept = [f"select {listed} from ({self.kept})"] if self.kept else []
            return " union all by name ".join([*kept, f"select * from {self.name}"])
        kinds = columns_of(self.folder)
        nulls = ", ".join(f'cast(null as {kind}) as "{name}"' for name, kind in kinds.items())
        return self.kept or f"select {nulls} where false"


@dataclass
class Tables:
    """The rows of a journal's files."""

    index: FileIndex
    cache: Cache
    #: Cached rows that are attached to the connection, by folder.
    _attached: dict[str, _Kept] = field(default_factory=dict)
    #: Folders whose cache has been renewed, or cannot be: tried once for each opened journal.
    _renewed: set[str] = field(default_factory=set)
    #: Whether the cache has been renewed since it was attached.
    outdated: bool = False
    #: Whether a query over cached rows has failed, so that the cache isn't used any more.
    distrusted: bool = False
    _made: dict[object, dict[str, FolderRows]] = field(default_factory=dict)
    _read_already: dict[object, Rows | ds.Dataset] = field(default_factory=dict)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Attach the cached rows to a connection, which must not be locked yet."""
        self.outdated = False
        self._made.clear()
        self._attached = (
            {}
            if self.distrusted
            else {folder: _Kept.attached(connection, folder, self.cache) for folder in _KEYS}
        )

    def of(
        self,
        runs: Collection[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        damaged: bool = False,
    ) -> dict[str, FolderRows]:
        """Return the sources of rows by folder: of all or some runs, and of all events.

        If `outdated` is set afterwards, attach the cache to a new connection and call this again.

        Parameters
        ----------
        runs
            Ids; None for all.
        columns
            Columns of experiments that are read, `run_id` among them; None for all.
        damaged
            Whether to include damaged runs and events, as far as they can be read.
        """
        key = None if runs is None else frozenset(runs), columns and tuple(columns), damaged
        if key not in self._made:
            self._made[key] = self._rows(key[0], columns, damaged=damaged)
        return self._made[key]

    def forget(self) -> None:
        """Forget all rows, and remove the cache, which the next opened journal builds again."""
        self._made.clear()
        self._read_already.clear()
        self.distrusted = True
        for folder in _KEYS:
            self.cache.remove(_file(folder))

    def _rows(
        self, runs: frozenset[str] | None, columns: Sequence[str] | None, *, damaged: bool
    ) -> dict[str, FolderRows]:
        index = self.index
        ids = index.run_ids if runs is None else sorted(runs)
        sound = [run for run in ids if damaged or not index.damage(run)]
        by_folder: dict[str, FolderRows] = {}
        for folder, wanted in ((RECORDS, None), (EXPERIMENTS, columns)):
            groups = {run: index.files(folder, run) for run in sound}
            by_folder[folder] = self._of_folder(
                folder, groups, wanted, keeping=not damaged, whole=runs is None
            )
        left_out = set() if damaged else {each.file for each in index.event_damage()}
        events = {
            name if damaged else name.partition("=")[2].partition(".")[0]: [name]
            for name in index.events
            if name not in left_out and index[name].whole
        }
        by_folder[EVENTS] = self._of_folder(EVENTS, events, None, keeping=not damaged, whole=True)
        index.keep()
        return by_folder

    def _of_folder(
        self,
        folder: str,
        groups: dict[str, list[str]],
        columns: Sequence[str] | None,
        *,
        keeping: bool,
        whole: bool,
    ) -> FolderRows:
        """Return the source of a folder's files, in groups: those of a run, or of an event.

        `keeping` uses and renews the cache; `whole` means that these are all groups there are.
        """
        kept = self._attached.get(folder, _NOTHING) if keeping else _NOTHING
        if columns == ():
            return FolderRows(folder, kept.none)
        hashes = self._hashes(folder, groups) if keeping else {}
        known = {key for key, content in hashes.items() if kept.contents.get(key) == content}
        limit = _SMALL_BYTES if whole or len(groups) > _ALONE else _SMALL_ALONE
        rest = {key: names for key, names in groups.items() if key not in known}
        small = [key for key, names in rest.items() if self.index.are_small(key, names, limit)]
        if self.index.is_large and not (folder in self._renewed or self.distrusted):
            new = {key: groups[key] for key in small if key in hashes}
            requested = kept.contents.keys() if whole else kept.contents.keys() & hashes.keys()
            gone = {*requested} - known
            if (gone or new) and keeping and self._renew(folder, gone, new, hashes):
                self._renewed.add(folder)
                self.outdated = True
                return FolderRows(folder)
        select = kept.select(known, _KEYS[folder])
        if not any(rest.values()):
            return FolderRows(folder, select or kept.none)
        large = [name for key in rest.keys() - {*small} for name in rest[key]]
        names = [name for key in small for name in rest[key]]
        chosen = tuple(columns) if columns else None
        made = folder, chosen, *names, *sorted(large)
        if made not in self._read_already:
            self._read_already[made] = self._fresh(folder, names, large, columns)
        return FolderRows(folder, select, self._read_already[made], None if large else chosen)

    def _fresh(
        self, folder: str, names: list[str], large: list[str], columns: Sequence[str] | None
    ) -> Rows | ds.Dataset:
        """Return the rows of files, of which the small ones are read into memory."""
        from gtmar.journal.schema import schema_of

        schema = schema_of(folder)
        rows = self._read(folder, names, columns if not large else None)
        if not large:
            return Rows(rows.select(list(columns) if columns else schema.names))
        import pyarrow as pa
        import pyarrow.dataset as ds

        index = self.index
        unlike = [_schema(index.path(n)) for n in large if not index[n].alike]
        if unlike:
            schema = pa.unify_schemas(
                [schema, *(each.remove_metadata() for each in unlike)], promote_options="permissive"
            )
        children = [ds.InMemoryDataset(rows), _fragments({n: index.path(n) for n in large}, schema)]
        return ds.UnionDataset(schema, [child.replace_schema(schema) for child in children])

    def _read(
        self, folder: str, names: list[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read files and check their hashes; at least `columns` are returned."""
        import pyarrow as pa

        from gtmar.journal.schema import completed, schema_of

        schema = schema_of(folder)
        contents: list[IO[bytes]] = []
        for name in names:
            content = self.index.read(name)
            if content is None:
                raise FileNotFoundError(self.index.path(name))
            contents.append(io.BytesIO(content))
        if not contents:
            # `empty_table` would import pandas.
            return pa.Table.from_batches([], schema=schema)
        if len(contents) <= _FEW_FILES:
            read = partial(_read_columns, columns=columns, schema=schema)
            return pa.concat_tables(map(read, contents))
        import polars as pl

        # Rechunked first, as converting thousands of chunks takes longer than reading them.
        tables = []
        for newer in (False, True):
            alike = [
                content
                for name, content in zip(names, contents, strict=True)
                if (self.index[name].format > 1) is newer
            ]
            if alike:
                frame = pl.scan_parquet(alike, hive_partitioning=False).collect().rechunk()
                table: pa.Table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                table = completed(table, schema)
                tables.append(table.select(schema.names).cast(schema).combine_chunks())
        return pa.concat_tables(tables).combine_chunks()

    # ---- cached rows -------------------------------------------------------------------------

    def _hashes(self, folder: str, groups: dict[str, list[str]]) -> dict[str, str]:
        """Return the content hash of each group whose rows may be cached."""
        index = self.index
        return {
            key: index.content(folder, key, names)
            for key, names in groups.items()
            if folder == EVENTS or index.has_ended(key)
        }

    def _renew(
        self, folder: str, gone: set[str], new: dict[str, list[str]], hashes: dict[str, str]
    ) -> bool:
        """Add the rows of `new` groups to the cache, drop those `gone`; return whether it did."""
        import duckdb

        path = self.cache.path(_file(folder))
        kept = self._attached.get(folder, _NOTHING)
        few = len(new) <= max(_FEW_GROUPS, int(_FEW_SHARE * len(kept.contents)))
        if path is None or (not gone and few and _size(path) > _SOON_COPIED):
            return False
        rows = self._read(folder, [name for names in new.values() for name in names])
        held = {key: content for key, content in kept.contents.items() if key not in gone}
        contents = held | {key: hashes[key] for key in new}

        def fill(beside: Path) -> None:
            with duckdb.connect() as connection:
                before = _Kept.attached(connection, folder, self.cache)
                if before.contents != kept.contents:
                    raise FileNotFoundError("another process has kept other rows meanwhile")
                if held and not gone:
                    connection.execute(f"detach {_name(folder)}")
                    shutil.copyfile(path, beside)
                connection.execute(f"attach {_quoted(beside)} as written")
                connection.register("fresh", Rows(rows))
                if held and not gone:
                    connection.execute("drop table written.about")
                    connection.execute("insert into written.entries select * from fresh")
                else:
                    parts = [before.select(held, _KEYS[folder])] if held else []
                    text = " union all ".join([*parts, "select * from fresh"])
                    connection.execute(f"create table written.entries as {text}")
                connection.execute(
                    "create table written.about as select $columns as columns, $held as contents",
                    {"columns": _columns(folder), "held": json.dumps(contents)},
                )
                connection.execute("detach written")
            beside.chmod(0o600)

        try:
            self.cache.place(_file(folder), fill)
        except (OSError, duckdb.Error, UnicodeError):
            # The next query would read all files for it again, in vain.
            self._renewed.add(folder)
            return False
        return True


@dataclass(frozen=True)
class _Kept:
    """The attached cache of a folder: the groups of files in it, with their content hashes."""

    contents: dict[str, str]
    #: Name of the table with the rows.
    table: str = ""

    @classmethod
    def attached(cls, connection: duckdb.DuckDBPyConnection, folder: str, cache: Cache) -> _Kept:
        """Attach the cache, unless it is damaged or a version with other columns wrote it."""
        import duckdb

        try:
            path = cache.path(_file(folder))
            if path is None or not path.is_file():
                return _NOTHING
            name = _name(folder)
            with cache.linked(_file(folder)) as link:
                connection.execute(f"attach {_quoted(link)} as {name} (read_only)")
            about = connection.execute(f"select columns, contents from {name}.about").fetchall()
            [(columns, contents)] = about
            if columns == _columns(folder):
                return cls(json.loads(contents), f"{name}.entries")
        except (duckdb.Error, OSError, ValueError):
            pass
        return _NOTHING

    @property
    def none(self) -> str:
        """A SELECT without rows; empty if there is no cache."""
        return self.table and f"select * from {self.table} where false"

    def select(self, known: Collection[str], column: str) -> str:
        """Return a SELECT of the rows of some groups; empty for none."""
        if not known:
            return ""
        others = self.contents.keys() - set(known)
        if not others:
            return f"select * from {self.table}"
        few, word = (others, "not in") if len(others) < len(known) else (known, "in")
        # Ids of runs and events are letters, digits and dashes, so they need no escaping.
        listed = ", ".join(f"'{key}'" for key in sorted(few))
        return f"select * from {self.table} where {column} {word} ({listed})"


_NOTHING = _Kept({})


def _file(folder: str) -> str:
    return f"{folder}.duckdb"


def _name(folder: str) -> str:
    """Return the name of a folder's attached database."""
    return f"kept_{folder}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _quoted(path: Path) -> str:
    """Return a path as an SQL literal; raise `UnicodeError` if it isn't valid text."""
    name = str(path)
    name.encode()
    return "'" + name.replace("'", "''") + "'"


def _columns(folder: str) -> str:
    """Return the columns of this version as text."""
    return json.dumps(columns_of(folder))


def _read_columns(
    content: IO[bytes], *, columns: Sequence[str] | None, schema: pa.Schema
) -> pa.Table:
    """Read a file with all columns of this version in order, or with some of them."""
    import pyarrow.parquet as pq

    from gtmar.journal.schema import completed

    file = pq.ParquetFile(content)
    there = set(file.schema_arrow.names)
    wanted = None if columns is None else [name for name in columns if name in there]
    table = file.read(wanted, use_threads=False).replace_schema_metadata(None)
    return completed(table, schema).select(columns or schema.names)


def _schema(path: str) -> pa.Schema:
    import pyarrow.parquet as pq

    with open(path, "rb") as file:  # noqa: PTH123 - Arrow takes a path for UTF-8
        return pq.read_schema(file)


def _fragments(paths: dict[str, str], schema: pa.Schema) -> ds.Dataset:
    """Return a dataset over files; a filter by run skips the files of other runs."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    format_ = ds.ParquetFileFormat(default_fragment_scan_options=options)
    system, fragments = LocalFileSystem(), []
    for name, path in paths.items():
        run_id = name.partition("/run_id=")[2].partition("/")[0]
        whose = ds.field("run_id") == run_id if run_id else None
        if is_text(path):
            fragments.append(format_.make_fragment(path, system, whose))
        else:
            # Arrow doesn't accept a path that isn't UTF-8.
            content = pa.py_buffer(Path(path).read_bytes())
            fragments.append(format_.make_fragment(content, partition_expression=whose))
    return ds.FileSystemDataset(fragments, schema, format_)
