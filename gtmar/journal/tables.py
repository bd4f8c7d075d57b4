"""A journal's rows as Arrow tables and datasets, which can be read and nothing else.

Small files, of which there may be thousands, are read whole, and the rows of runs that have ended
are kept in the cache, together. Large ones are left where they are: an engine reads the columns
that it needs, and the checksums of their pages are held against them.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from gtmar.documents import is_text
from gtmar.journal.file_index import EVENTS, EXPERIMENTS, RECORDS, SCHEMAS
from gtmar.journal.rows import SMALL, write_parquet

if TYPE_CHECKING:
    from collections.abc import Collection

    from gtmar.journal.file_index import Cache, FileIndex

__all__ = ["Tables"]

#: Bytes of a file up to which it is read whole; above, most of the time goes into its rows.
_SMALL_BYTES = 262_144
#: Groups of files that are read anew each time before they are kept too: this many, or this share.
_FEW_GROUPS, _FEW_SHARE = 64, 0.05
_GROUP_ROWS = 65_536
_CONTENTS = b"gtmar_contents"
_KEYS = {RECORDS: "run_id", EXPERIMENTS: "run_id", EVENTS: "event_id"}


@dataclass
class Tables:
    """The rows of a journal's files.

    Parameters
    ----------
    index
        The files.
    kept
        The journal's cache.
    """

    index: FileIndex
    kept: Cache
    _loaded: dict[str, _Kept] = field(default_factory=dict)
    _made: dict[tuple[frozenset[str] | None, bool], dict[str, ds.Dataset]] = field(
        default_factory=dict
    )
    _events: ds.Dataset | None = None

    def datasets(
        self, runs: Collection[str] | None = None, *, damaged: bool = False
    ) -> dict[str, ds.Dataset]:
        """Return rows by folder: all, or those of some runs and all events.

        Parameters
        ----------
        runs
            Ids; None for all.
        damaged
            Whether to read what isn't as it was written too, as far as it can be read.
        """
        asked = None if runs is None else frozenset(runs), damaged
        if asked not in self._made:
            self._made[asked] = self._datasets(asked[0], damaged=damaged)
        return self._made[asked]

    def forget(self) -> None:
        """Have everything looked at anew."""
        self._made.clear()
        self._events = None

    def _datasets(self, runs: frozenset[str] | None, *, damaged: bool) -> dict[str, ds.Dataset]:
        index = self.index
        keeping = runs is None and not damaged
        sound = [run for run in index.run_ids if runs is None or run in runs]
        sound = [run for run in sound if damaged or not index.damage(run)]
        found = {
            folder: self._dataset(
                folder, {run: index.files(folder, run) for run in sound}, keeping=keeping
            )
            for folder in (RECORDS, EXPERIMENTS)
        }
        found[EVENTS] = self._event_rows(damaged=damaged)
        index.keep()
        return found

    def _event_rows(self, *, damaged: bool) -> ds.Dataset:
        if self._events is not None and not damaged:
            return self._events
        left_out = set() if damaged else {each.file for each in self.index.event_damage()}
        events = {
            name if damaged else name.partition("=")[2].partition(".")[0]: [name]
            for name in self.index.files(EVENTS, "")
            if name not in left_out
        }
        found = self._dataset(EVENTS, events, keeping=not damaged)
        if not damaged:
            self._events = found
        return found

    def _dataset(self, folder: str, groups: dict[str, list[str]], *, keeping: bool) -> ds.Dataset:
        """Return the rows of a folder's files, which come in groups: a run's, or an event's."""
        index, schema = self.index, SCHEMAS[folder]()
        small = {
            key: names
            for key, names in groups.items()
            if all(index[n].alike and index[n].stamp[0] <= _SMALL_BYTES for n in names)
        }
        children: list[ds.Dataset] = []
        rest = set(small)
        if keeping:
            kept = self._kept(folder, small)
            if kept.table is not None:
                children.append(kept.table)
            rest -= kept.contents.keys()
        fresh = self._read(folder, [name for key in groups if key in rest for name in small[key]])
        children.append(ds.InMemoryDataset(fresh))
        large = [name for key, names in groups.items() if key not in small for name in names]
        if large:
            unlike = [_schema(index.path(n)) for n in large if not index[n].alike]
            if unlike:
                schema = pa.unify_schemas(
                    [schema, *(each.remove_metadata() for each in unlike)],
                    promote_options="permissive",
                )
            children.append(_fragments({n: index.path(n) for n in large}, schema))
        return ds.UnionDataset(schema, [child.replace_schema(schema) for child in children])

    def _read(self, folder: str, names: list[str]) -> pa.Table:
        """Read whole files, held against their hashes."""
        schema = SCHEMAS[folder]()
        contents: list[IO[bytes]] = []
        for name in names:
            content = self.index.read(name)
            if content is None:
                raise FileNotFoundError(self.index.path(name))
            contents.append(io.BytesIO(content))
        if not contents:
            return schema.empty_table()
        # In one piece first: to convert thousands, a file's each, takes longer than to read them.
        frame = pl.scan_parquet(contents, hive_partitioning=False).collect().rechunk()
        table: pa.Table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        return table.select(schema.names).cast(schema).combine_chunks()

    # ---- the rows that are kept --------------------------------------------------------------

    def _kept(self, folder: str, groups: dict[str, list[str]]) -> _Kept:
        """Return the rows in the cache that are those of files as they are; bring it up to date."""
        index = self.index
        wanted = {
            key: hashlib.sha256("".join(map(index.sha256, names)).encode()).hexdigest()[:32]
            for key, names in groups.items()
            if folder == EVENTS or f"{RECORDS}/run_id={key}/end.parquet" in index
        }
        kept = self._loaded.get(folder) or _Kept.loaded(self.kept.read(f"{folder}.parquet"))
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
        if kept.table is not None:
            still = None
            if stale:
                still = ~ds.field(_KEYS[folder]).isin(sorted(stale))
            tables.insert(0, kept.table.to_table(filter=still))
        contents = {key: wanted[key] for key in [*kept.contents, *new] if key in wanted}
        rows = pa.concat_tables(tables).combine_chunks()
        if len(wanted) <= _FEW_GROUPS:
            return _Kept(contents, ds.InMemoryDataset(rows))
        written = io.BytesIO()
        footer = {_CONTENTS.decode(): json.dumps(contents)}
        write_parquet(rows, written, footer, _GROUP_ROWS, SMALL)
        self.kept.write(f"{folder}.parquet", written.getvalue())
        return _Kept(contents, ds.InMemoryDataset(rows))


@dataclass(frozen=True)
class _Kept:
    """Rows from the cache: which groups of files they are of, each with its content's hash."""

    contents: dict[str, str]
    table: ds.Dataset | None

    @classmethod
    def loaded(cls, content: bytes | None) -> _Kept:
        try:
            buffer = pa.py_buffer(content or b"")
            schema = pq.read_schema(pa.BufferReader(buffer))
            contents = json.loads(schema.metadata[_CONTENTS])
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError):
            return cls({}, None)
        plain = schema.remove_metadata()
        return cls(contents, ds.FileSystemDataset([_FORMAT.make_fragment(buffer)], plain, _FORMAT))


_FORMAT = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


def _schema(path: str) -> pa.Schema:
    with open(path, "rb") as file:  # noqa: PTH123 - Arrow takes a path for UTF-8
        return pq.read_schema(file)


def _fragments(paths: dict[str, str], schema: pa.Schema) -> ds.Dataset:
    """Return files that are read where they are; a run's are passed over where it isn't asked."""
    from pyarrow.fs import LocalFileSystem

    system, fragments = LocalFileSystem(), []
    for name, path in paths.items():
        run_id = name.partition("/run_id=")[2].partition("/")[0]
        whose = ds.field("run_id") == run_id if run_id else None
        if is_text(path):
            fragments.append(_FORMAT.make_fragment(path, system, whose))
        else:
            # A name that Arrow doesn't take.
            content = pa.py_buffer(Path(path).read_bytes())
            fragments.append(_FORMAT.make_fragment(content, partition_expression=whose))
    return ds.FileSystemDataset(fragments, schema, _FORMAT)
