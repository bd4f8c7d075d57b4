"""Which files a query reads: those that are whole, and whether their columns are this version's.

A Parquet file ends with its footer, which begins with its columns and states the journal's format.
To read footers as bytes takes microseconds a file; to let an engine open thousands takes seconds.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.journal.names import holds_rows_of, is_own, replaced_names, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Shelf", "Stock"]

_MAGIC = b"PAR1"
#: A footer's length, and magic.
_END_BYTES = 8
#: Read from a file's end at first; most footers are smaller.
_LIKELY_BYTES = 49_152
#: The format version as it stands in a footer: a key, the length of its value, the value.
_FORMAT_KEY = b"gtmar_format\x18"
_FORMAT = re.compile(rb".(\d+)", re.DOTALL)


@dataclass(frozen=True)
class Stock:
    """The whole files of one kind."""

    paths: tuple[str, ...]
    #: Whether all have the columns that this version writes.
    alike: bool
    #: The newest format among them; 0 where none states one.
    newest: int
    #: Files and folders that mayn't be read, and links.
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shelf:
    """One kind of file in a journal.

    Parameters
    ----------
    folder
        The journal's folder that has them.
    by_run
        Whether they are in a folder a run below that.
    empty
        A file without rows that stands in where there is none.
    columns
        How a footer begins that has the columns of this version.
    """

    folder: str
    by_run: bool
    empty: str
    columns: bytes

    @classmethod
    def of(cls, folder: str, schema: pa.Schema, scratch: Path, *, by_run: bool = True) -> Self:
        """Return the shelf of files with this schema; its empty one is written to `scratch`."""
        # Named as a run's files are, so that an engine that reads folder names is content.
        empty = scratch / folder / "run_id=none" / "empty.parquet"
        empty.parent.mkdir(parents=True)
        content, columns = _form(schema)
        empty.write_bytes(content)
        return cls(folder, by_run, str(empty), columns)

    def stock(self, journal: Path) -> Stock:
        """Look through the files; those cut off by a crash, or gone meanwhile, are passed over.

        So is what `names` says that readers don't take in: second copies of a sync, and parts that
        a packed one stands for.
        """
        paths, alike, newest = [], True, 0
        left_out: list[str] = []
        for run_id, found in self._found(journal, left_out):
            footers: list[tuple[str, bytes]] = []
            for path in found:
                try:
                    footer = _footer(path)
                except FileNotFoundError:
                    continue
                except PermissionError:
                    left_out.append(path)
                    continue
                if footer is not None and (run_id is None or holds_rows_of(run_id, footer)):
                    footers.append((path, footer))
            replaced = replaced_names((path.rpartition("/")[2], footer) for path, footer in footers)
            for path, footer in footers:
                if path.rpartition("/")[2] in replaced:
                    continue
                paths.append(path)
                alike &= footer.startswith(self.columns)
                place = footer.rfind(_FORMAT_KEY)
                if place >= 0 and (stated := _FORMAT.match(footer, place + len(_FORMAT_KEY))):
                    newest = max(newest, int(stated[1]))
        return Stock(tuple(paths), alike, newest, tuple(left_out))

    def _found(self, journal: Path, left_out: list[str]) -> Iterator[tuple[str | None, list[str]]]:
        """Give each folder's files with names of the journal's own, and the run that it is of."""
        top = str(journal / self.folder)
        folders: list[tuple[str | None, str]] = [(None, top)]
        if self.by_run:
            names = sorted(name for name, _ in _listed(top, left_out))
            folders = [(run, f"{top}/{name}") for name in names if (run := run_of(name))]
        for run_id, folder in folders:
            listed = _listed(folder, left_out)
            yield run_id, sorted(path for name, path in listed if is_own(self.folder, name))


def _listed(folder: str, left_out: list[str]) -> list[tuple[str, str]]:
    """List names and paths in a folder, without links, which may lead out of the journal.

    None where there is no folder, or it mayn't be read.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    left_out.append(entry.path)
                else:
                    found.append((entry.name, entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        left_out.append(folder)
    return found


@cache
def _form(schema: pa.Schema) -> tuple[bytes, bytes]:
    """Return a file of this schema without rows, and how the footers of its like begin."""
    files = [io.BytesIO(), io.BytesIO()]
    for count, file in enumerate(files):
        pq.write_table(pa.Table.from_pylist([{}] * count, schema=schema), file)
    empty, single = (file.getvalue() for file in files)
    pairs = zip(_footer_of(empty), _footer_of(single), strict=False)
    # After the columns comes the number of rows.
    same = next(place for place, (one, two) in enumerate(pairs) if one != two)
    return empty, _footer_of(empty)[:same]


def _footer_of(content: bytes) -> bytes:
    length = int.from_bytes(content[-_END_BYTES:-4], "little")
    return content[-_END_BYTES - length : -_END_BYTES]


def _footer(path: str) -> bytes | None:
    """Return a Parquet file's footer as bytes; None where the file isn't whole."""
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        if os.pread(handle, len(_MAGIC), 0) != _MAGIC or size < len(_MAGIC) + _END_BYTES:
            return None
        end = os.pread(handle, _LIKELY_BYTES, max(0, size - _LIKELY_BYTES))
        length = int.from_bytes(end[-_END_BYTES:-4], "little")
        if not end.endswith(_MAGIC) or length > size - len(_MAGIC) - _END_BYTES:
            return None
        if length > len(end) - _END_BYTES:
            return os.pread(handle, length, size - _END_BYTES - length)
        return _footer_of(end)
    finally:
        os.close(handle)
