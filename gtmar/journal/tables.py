"""A journal's rows as Arrow tables and datasets, which can be read and nothing else.

Small files, of which there may be thousands, are read whole, and the rows of runs that have ended
are kept in the cache, together. Large ones are left where they are: an engine reads the columns
that it needs, and the checksums of their pages are verified.

Rows that fit in memory are handed over as a stream: a dataset would import pandas where it is
installed, which takes longer than most answers.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.documents import is_text
from gtmar.journal.schema import (
    EVENTS,
    EXPERIMENTS,
    RECORDS,
    SCHEMAS,
    SMALL,
    completed,
    write_parquet,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import pyarrow.dataset as ds

    from gtmar.journal.file_index import Cache, FileIndex

__all__ = ["Rows", "Tables"]

#: Bytes of a file up to which it is read whole; above, most of the time goes into its rows.
_SMALL_BYTES = 262_144
#: The same where so few runs are asked about: that much is sooner read than Arrow's datasets are
#: imported, with pandas where that is installed.
_ALONE, _SMALL_ALONE = 2, 1_048_576
#: Groups of files that are read anew each time before they are kept too: this many, or this share.
_FEW_GROUPS, _FEW_SHARE = 64, 0.05
#: Files up to this many are read by Arrow: its own setting up, and a cast, take Polars longer.
_FEW_FILES = 48
_GROUP_ROWS = 65_536
_CONTENTS = b"gtmar_contents"
_KEYS = {RECORDS: "run_id", EXPERIMENTS: "run_id", EVENTS: "event_id"}


@dataclass(frozen=True)
class Rows:
    """A table that an engine reads as a stream, as often as it likes."""

    table: pa.Table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the rows, as Arrow's PyCapsule protocol asks."""
        return self.table.__arrow_c_stream__(requested_schema)


@dataclass
class Tables:
    """The rows of a journal's files."""

    index: FileIndex
    kept: Cache
    _loaded: dict[str, _Kept] = field(default_factory=dict)
    _made: dict[object, dict[str, Rows | ds.Dataset]] = field(default_factory=dict)
    _events: Rows | ds.Dataset | None = None

    def of(
        self,
        runs: Collection[str] | None = None,
        *,
        columns: Sequence[str] | None = None,
        damaged: bool = False,
    ) -> dict[str, Rows | ds.Dataset]:
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
        """Have everything looked at anew."""
        self._made.clear()
        self._events = None

    def _rows(
        self, runs: frozenset[str] | None, columns: Sequence[str] | None, *, damaged: bool
    ) -> dict[str, Rows | ds.Dataset]:
        index = self.index
        keeping = not damaged
        ids = index.run_ids if runs is None else sorted(runs)
        sound = [run for run in ids if damaged or not index.damage(run)]
        found: dict[str, Rows | ds.Dataset] = {}
        for folder, wanted in ((RECORDS, None), (EXPERIMENTS, columns)):
            groups = {run: index.files(folder, run) for run in sound}
            found[folder] = self._of_folder(
                folder, groups, wanted, keeping=keeping, whole=runs is None
            )
        found[EVENTS] = self._event_rows(damaged=damaged)
        index.keep()
        return found

    def _event_rows(self, *, damaged: bool) -> Rows | ds.Dataset:
        if self._events is not None and not damaged:
            return self._events
        left_out = set() if damaged else {each.file for each in self.index.event_damage()}
        events = {
            name if damaged else name.partition("=")[2].partition(".")[0]: [name]
            for name in self.index.events
            if name not in left_out and self.index[name].whole
        }
        found = self._of_folder(EVENTS, events, None, keeping=not damaged)
        if not damaged:
            self._events = found
        return found

    def _of_folder(
        self,
        folder: str,
        groups: dict[str, list[str]],
        columns: Sequence[str] | None,
        *,
        keeping: bool,
        whole: bool = True,
    ) -> Rows | ds.Dataset:
        """Return the rows of a folder's files, which come in groups: a run's, or an event's."""
        index, schema = self.index, SCHEMAS[folder]()
        limit = _SMALL_BYTES if whole or len(groups) > _ALONE else _SMALL_ALONE
        small = {key: names for key, names in groups.items() if index.are_small(key, names, limit)}
        # Of few runs the files are read sooner than what is kept of all, and of many few columns.
        few_columns = folder != EXPERIMENTS or bool(columns)
        keeping &= columns != () and (whole or (len(small) > _FEW_GROUPS and few_columns))
        kept = self._kept(folder, small, whole=whole) if keeping else _Kept({}, None)
        new = [key for key in small if key not in kept.contents]
        rest = [name for key in new for name in small[key]]
        fresh = self._read(folder, rest if columns != () else [], columns)
        large = [name for key, names in groups.items() if key not in small for name in names]
        in_memory = folder != EXPERIMENTS or columns is not None or not kept.contents
        if in_memory and not (large and columns != ()):
            rows, before = fresh.select(columns or schema.names), kept.read(columns)
            if before is not None and not whole:
                before = _among(before, _KEYS[folder], kept.contents)
            return Rows(rows if before is None else pa.concat_tables([before, rows]))
        import pyarrow.dataset as ds

        children = [] if kept.content is None else [kept.dataset()]
        children.append(ds.InMemoryDataset(fresh))
        if large:
            unlike = [_schema(index.path(n)) for n in large if not index[n].alike]
            if unlike:
                schema = pa.unify_schemas(
                    [schema, *(each.remove_metadata() for each in unlike)],
                    promote_options="permissive",
                )
            children.append(_fragments({n: index.path(n) for n in large}, schema))
        return ds.UnionDataset(schema, [child.replace_schema(schema) for child in children])

    def _read(
        self, folder: str, names: list[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read files, held against their hashes: some columns at the least."""
        schema = SCHEMAS[folder]()
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

    def _kept(self, folder: str, groups: dict[str, list[str]], *, whole: bool) -> _Kept:
        """Return the rows in the cache that are those of files as they are.

        Where these are all of the folder's, the cache is brought up to date.
        """
        index = self.index
        wanted = {
            key: index.content(folder, key, names)
            for key, names in groups.items()
            if folder == EVENTS or index.has_ended(key)
        }
        kept = self._loaded.get(folder) or _Kept.loaded(
            self.kept.read(f"{folder}.parquet"), SCHEMAS[folder]()
        )
        if not whole:
            alike = wanted.items() & kept.contents.items()
            return _Kept(dict(alike), kept.content)
        stale = {key for key, content in kept.contents.items() if wanted.get(key) != content}
        new = [key for key in wanted if key not in kept.contents or key in stale]
        few = max(_FEW_GROUPS, int(_FEW_SHARE * len(kept.contents)))
        if stale or len(new) > few:
            kept = self._renewed(folder, kept, stale, {key: groups[key] for key in new}, wanted)
        self._loaded[folder] = kept
        return kept

    def _renewed(
        self,
        folder: str,
        kept: _Kept,
        stale: set[str],
        new: dict[str, list[str]],
        wanted: dict[str, str],
    ) -> _Kept:
        tables = [self._read(folder, [name for names in new.values() for name in names])]
        before = kept.read(None)
        if before is not None:
            if stale:
                before = _among(before, _KEYS[folder], kept.contents.keys() - stale)
            tables.insert(0, before)
        contents = {key: wanted[key] for key in [*kept.contents, *new] if key in wanted}
        rows = pa.concat_tables(tables).combine_chunks()
        written = io.BytesIO()
        write_parquet(rows, written, {_CONTENTS.decode(): json.dumps(contents)}, _GROUP_ROWS, SMALL)
        if len(wanted) > _FEW_GROUPS:
            self.kept.write(f"{folder}.parquet", written.getvalue())
        return _Kept(contents, written.getvalue())


@dataclass(frozen=True)
class _Kept:
    """Rows from the cache: which groups of files they are of, each with its content's hash."""

    contents: dict[str, str]
    #: A Parquet file.
    content: bytes | None

    @classmethod
    def loaded(cls, content: bytes | None, columns: pa.Schema) -> _Kept:
        """Read what is kept; nothing of what a version with other columns kept."""
        try:
            schema = pq.read_schema(pa.BufferReader(content or b""))
            if schema.names != columns.names:
                return cls({}, None)
            return cls(json.loads(schema.metadata[_CONTENTS]), content)
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError):
            return cls({}, None)

    def read(self, columns: Sequence[str] | None) -> pa.Table | None:
        """Return the rows; None where there are none."""
        if self.content is None:
            return None
        file = pq.ParquetFile(pa.BufferReader(self.content), page_checksum_verification=True)
        # Not by Arrow's threads: the memory that they take anew costs more than they save.
        return file.read(columns, use_threads=False).replace_schema_metadata(None)

    def dataset(self) -> ds.Dataset:
        """Return the rows as what is read column by column."""
        import pyarrow.dataset as ds

        format_ = _format()
        schema = pq.read_schema(pa.BufferReader(self.content)).remove_metadata()
        fragment = format_.make_fragment(pa.py_buffer(self.content))
        return ds.FileSystemDataset([fragment], schema, format_)


def _read_columns(
    content: IO[bytes], *, columns: Sequence[str] | None, schema: pa.Schema
) -> pa.Table:
    """Read a file in this version's order of columns, or some of them."""
    file = pq.ParquetFile(content)
    there = set(file.schema_arrow.names)
    wanted = None if columns is None else [name for name in columns if name in there]
    table = file.read(wanted, use_threads=False).replace_schema_metadata(None)
    return completed(table, schema).select(columns or schema.names)


def _among(rows: pa.Table, column: str, values: Iterable[str]) -> pa.Table:
    """Return the rows with one of some values in a column."""
    import pyarrow.compute as pc

    return rows.filter(pc.is_in(rows[column], pa.array(sorted(values), pa.string())))


def _format() -> ds.ParquetFileFormat:
    import pyarrow.dataset as ds

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


def _schema(path: str) -> pa.Schema:
    with open(path, "rb") as file:  # noqa: PTH123 - Arrow takes a path for UTF-8
        return pq.read_schema(file)


def _fragments(paths: dict[str, str], schema: pa.Schema) -> ds.Dataset:
    """Return files that are read where they are; a run's are passed over where it isn't asked."""
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
