"""Which files a query reads: those that are whole, and whether their columns are this version's.

A Parquet file ends with its footer, which begins with its columns and states the journal's format.
To read footers as bytes takes microseconds a file; to let an engine open thousands takes seconds.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
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
        """Look through the files; those cut off by a crash, or gone meanwhile, are passed over."""
        paths, alike, newest = [], True, 0
        for path in self._found(journal):
            try:
                footer = _footer(path)
            except FileNotFoundError:
                continue
            if footer is None:
                continue
            paths.append(path)
            alike &= footer.startswith(self.columns)
            place = footer.rfind(_FORMAT_KEY)
            if place >= 0 and (stated := _FORMAT.match(footer, place + len(_FORMAT_KEY))):
                newest = max(newest, int(stated[1]))
        return Stock(tuple(paths), alike, newest)

    def _found(self, journal: Path) -> list[str]:
        """List what ends in `.parquet`, in the order of names."""
        top = journal / self.folder
        if not top.is_dir():
            return []
        folders = [str(top)]
        if self.by_run:
            with os.scandir(top) as entries:
                folders = sorted(e.path for e in entries if e.name.startswith("run_id="))
        found = []
        for folder in folders:
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                found += sorted(e.path for e in entries if e.name.endswith(".parquet"))
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
