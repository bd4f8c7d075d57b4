"""A journal's rows where an engine reads them, and can do nothing else.

Small files, of which there may be thousands, are read whole, and the rows of runs that have ended
are kept in the cache: a database for each folder, which a connection attaches read only before it
is locked, so that a question reads the columns and rows that it needs and no Arrow at all. Large
files are left where they are: an engine reads the columns that it needs, and the checksums of their
pages are verified.

Rows that fit in memory are handed over as a stream: a dataset would import pandas where it is
installed, which takes longer than most answers.
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

#: Bytes of a file up to which it is read whole; above, most of the time goes into its rows.
_SMALL_BYTES = 262_144
#: The same where so few runs are asked about: that much is sooner read than Arrow's datasets are
#: imported, with pandas where that is installed.
_ALONE, _SMALL_ALONE = 2, 1_048_576
#: Bytes of what is kept of a folder up to which each new group of files is kept at once; above,
#: so many are read anew each time before they are, since all that is kept is copied then.
_SOON_COPIED, _FEW_GROUPS, _FEW_SHARE = 1 << 27, 64, 0.05
#: Files up to this many are read by Arrow: its own setting up, and a cast, take Polars longer.
_FEW_FILES = 48
_KEYS = {RECORDS: "run_id", EXPERIMENTS: "run_id", EVENTS: "event_id"}


@dataclass(frozen=True)
class Rows:
    """A table that an engine reads as a stream, as often as it likes."""

    table: pa.Table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows, as Arrow's PyCapsule protocol asks."""
        return self.table.__arrow_c_stream__(requested_schema)


@dataclass(frozen=True)
class FolderRows:
    """What a view of a folder's rows reads."""

    folder: str
    #: A SELECT over the rows that are kept; empty where none of them is asked for.
    kept: str = ""
    #: Rows that aren't kept, for the view to read by the name `name`; None without any.
    fresh: Rows | ds.Dataset | None = None
    #: Columns that those have; None for all.
    columns: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Name under which the rows that aren't kept are registered."""
        return f"fresh_{self.folder}"

    @property
    def select(self) -> str:
        """Return the view's SELECT."""
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
    #: What the connection has attached, by folder.
    _attached: dict[str, _Kept] = field(default_factory=dict)
    #: Folders whose rows were kept anew, or could not be: once a journal is opened is enough.
    _renewed: set[str] = field(default_factory=set)
    #: Whether what is attached isn't what is kept any more.
    outdated: bool = False
    #: Whether an answer from what is kept has failed: nothing is taken from it any more.
    distrusted: bool = False
    _made: dict[object, dict[str, FolderRows]] = field(default_factory=dict)
    _read_already: dict[object, Rows | ds.Dataset] = field(default_factory=dict)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have a connection read what is kept, which has to be before it is locked."""
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
        """Return rows by folder: all, or those of some runs and all events.

        Parameters
        ----------
        runs
            Ids; None for all.
        columns
            Columns of experiments that are read, `run_id` among them; None for all.
        damaged
            Whether to read what isn't as it was written too, as far as it can be read.
        """
        key = None if runs is None else frozenset(runs), columns and tuple(columns), damaged
        if key not in self._made:
            self._made[key] = self._rows(key[0], columns, damaged=damaged)
        return self._made[key]

    def forget(self) -> None:
        """Have everything looked at anew, and what is kept made anew by the next that asks."""
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
        found: dict[str, FolderRows] = {}
        for folder, wanted in ((RECORDS, None), (EXPERIMENTS, columns)):
            groups = {run: index.files(folder, run) for run in sound}
            found[folder] = self._of_folder(
                folder, groups, wanted, keeping=not damaged, whole=runs is None
            )
        left_out = set() if damaged else {each.file for each in index.event_damage()}
        events = {
            name if damaged else name.partition("=")[2].partition(".")[0]: [name]
            for name in index.events
            if name not in left_out and index[name].whole
        }
        found[EVENTS] = self._of_folder(EVENTS, events, None, keeping=not damaged, whole=True)
        index.keep()
        return found

    def _of_folder(
        self,
        folder: str,
        groups: dict[str, list[str]],
        columns: Sequence[str] | None,
        *,
        keeping: bool,
        whole: bool,
    ) -> FolderRows:
        """Return the rows of a folder's files, which come in groups: a run's, or an event's."""
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
            asked = kept.contents.keys() if whole else kept.contents.keys() & hashes.keys()
            gone = {*asked} - known
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
        """Return the rows of small files, and of large ones."""
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
                [schema, *(each.remove_metadata() for each in unlike)],
                promote_options="permissive",
            )
        children = [ds.InMemoryDataset(rows), _fragments({n: index.path(n) for n in large}, schema)]
        return ds.UnionDataset(schema, [child.replace_schema(schema) for child in children])

    def _read(
        self, folder: str, names: list[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read files, held against their hashes: some columns at the least."""
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
            # Not `empty_table`: that would import pandas.
            return pa.Table.from_batches([], schema=schema)
        if len(contents) <= _FEW_FILES:
            read = partial(_read_columns, columns=columns, schema=schema)
            return pa.concat_tables(map(read, contents))
        import polars as pl

        # In one piece first: to convert thousands, a file's each, takes longer than to read them.
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

    # ---- the rows that are kept --------------------------------------------------------------

    def _hashes(self, folder: str, groups: dict[str, list[str]]) -> dict[str, str]:
        """Return a hash of the content of each group whose rows may be kept."""
        index = self.index
        return {
            key: index.content(folder, key, names)
            for key, names in groups.items()
            if folder == EVENTS or index.has_ended(key)
        }

    def _renew(
        self, folder: str, gone: set[str], new: dict[str, list[str]], hashes: dict[str, str]
    ) -> bool:
        """Keep the rows of new groups too, and no more those of others; say whether it was done."""
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
            return False
        return True


@dataclass(frozen=True)
class _Kept:
    """Rows from the cache: which groups of files they are of, each with its content's hash."""

    contents: dict[str, str]
    #: The table of them.
    table: str = ""

    @classmethod
    def attached(cls, connection: duckdb.DuckDBPyConnection, folder: str, cache: Cache) -> _Kept:
        """Attach what is kept; nothing of what a version with other columns kept, or is damaged."""
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
        """A SELECT of no row; empty where nothing is kept."""
        return self.table and f"select * from {self.table} where false"

    def select(self, known: Collection[str], column: str) -> str:
        """Return a SELECT of the rows of some groups; empty for none."""
        if not known:
            return ""
        others = self.contents.keys() - set(known)
        if not others:
            return f"select * from {self.table}"
        few, word = (others, "not in") if len(others) < len(known) else (known, "in")
        # Ids of runs and events, which are of letters, digits and dashes.
        listed = ", ".join(f"'{key}'" for key in sorted(few))
        return f"select * from {self.table} where {column} {word} ({listed})"


_NOTHING = _Kept({})


def _file(folder: str) -> str:
    return f"{folder}.duckdb"


def _name(folder: str) -> str:
    """Return what a connection calls the database of a folder's rows."""
    return f"kept_{folder}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _quoted(path: Path) -> str:
    """Return a path as SQL has a text; `UnicodeError` for one that no text holds."""
    name = str(path)
    name.encode()
    return "'" + name.replace("'", "''") + "'"


def _columns(folder: str) -> str:
    """Return what this version's rows are of, as text."""
    return json.dumps(columns_of(folder))


def _read_columns(
    content: IO[bytes], *, columns: Sequence[str] | None, schema: pa.Schema
) -> pa.Table:
    """Read a file in this version's order of columns, or some of them."""
    import pyarrow.parquet as pq

    from gtmar.journal.schema import completed

    file = pq.ParquetFile(content)
    there = set(file.schema_arrow.names)
    wanted = None if columns is None else [name for name in columns if name in there]
    table = file.read(wanted, use_threads=False).replace_schema_metadata(None)
    return completed(table, schema).select(columns or schema.names)


def _format() -> ds.ParquetFileFormat:
    import pyarrow.dataset as ds

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


def _schema(path: str) -> pa.Schema:
    import pyarrow.parquet as pq

    with open(path, "rb") as file:  # noqa: PTH123 - Arrow takes a path for UTF-8
        return pq.read_schema(file)


def _fragments(paths: dict[str, str], schema: pa.Schema) -> ds.Dataset:
    """Return files that are read where they are; a run's are passed over where it isn't asked."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    system, format_, fragments = LocalFileSystem(), _format(), []
    for name, path in paths.items():
        run_id = name.partition("/run_id=")[2].partition("/")[0]
        whose = ds.field("run_id") == run_id if run_id else None
        if is_text(path):
            fragments.append(format_.make_fragment(path, system, whose))
        else:
            # A name that Arrow doesn't take.
            content = pa.py_buffer(Path(path).read_bytes())
            fragments.append(format_.make_fragment(content, partition_expression=whose))
    return ds.FileSystemDataset(fragments, schema, format_)
