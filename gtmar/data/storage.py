"""Where a table's arrays are kept: in memory, or on disk and mapped where they outgrow a budget.

Mapped files have no name: the space is free again when the process ends, however it ends. Only
while a table is read does a folder stand there, and it is removed on any error and on Ctrl-C.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from gtmar.data.scan import AccountTable, collect
from gtmar.data.table_files import broken_file
from gtmar.errors import ResourceError
from gtmar.memory import default_budget, roomy_folder
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


__all__ = ["Columns", "Storage"]

#: Rows copied at a time.
_SLICE = 2**20
_ALIGNED = 64
#: How the operating system says that a file, a disk, or somebody's share of it, is full.
_NO_ROOM = re.compile(r"(File too large|No space left|quota exceeded).*", re.IGNORECASE)


class Columns(Protocol):
    """Columns of N rows by name."""

    def __getitem__(self, name: str, /) -> pl.Series: ...

    def pop(self, name: str, /) -> pl.Series:
        """Return a column that nobody will ask for again."""
        ...


@dataclass(frozen=True)
class _FileColumns:
    """Columns that are read from an Arrow file each time they are asked for."""

    table: AccountTable
    path: Path

    def __getitem__(self, name: str, /) -> pl.Series:
        column = pl.scan_ipc(self.path, glob=False).select(name)
        return collect(self.table, column).to_series()

    pop = __getitem__


def write_rows(table: AccountTable, lazy: pl.LazyFrame, path: Path) -> None:
    """Write the rows of a query over the table to an Arrow file, streaming."""
    try:
        lazy.sink_ipc(path, compression="uncompressed")
    except (PolarsError, OSError) as err:
        if reason := _NO_ROOM.search(str(err)):
            raise _no_room(path.parent.parent, reason[0]) from err
        raise broken_file(table.source, first_line(err)) from err


def _no_room(folder: Path, reason: str) -> ResourceError:
    return ResourceError(
        f"{folder}: no room for the account table: {reason}",
        hint="TMPDIR names another folder, and --memory lets the table stay in memory",
    )


@dataclass
class Storage:
    """Keeps arrays that nobody can write to."""

    #: Where to map files; None keeps everything in memory.
    folder: Path | None = None
    #: Bytes that will be kept, so that one file holds them all.
    expected: int = 0
    #: The mapping being filled, its read-only twin, and the offset of the next array in both.
    _segment: tuple[mmap.mmap, mmap.mmap] | None = field(default=None, init=False)
    _used: int = field(default=0, init=False)

    @classmethod
    def fitting(cls, *, needed: int, kept: int, budget: int | None = None) -> Storage:
        """Choose memory where it suffices, else the disk.

        Reading and keeping the arrays takes `needed` bytes at most, keeping them `kept`; `budget`
        may be used, or `default_budget`. On disk it is in `roomy_folder`.
        """
        if needed <= (default_budget() if budget is None else budget):
            return cls()
        return cls(Path(roomy_folder()), kept)

    @property
    def on_disk(self) -> bool:
        """Whether arrays are mapped from files."""
        return self.folder is not None

    @contextmanager
    def columns(self, table: AccountTable, lazy: pl.LazyFrame) -> Iterator[Columns]:
        """Give the columns of a query, from memory or from a file."""
        if self.folder is None:
            yield collect(table, lazy).to_dict()
            return
        try:
            scratch = tempfile.TemporaryDirectory(prefix="gtmar-", dir=self.folder)
        except OSError as err:
            raise _no_room(self.folder, str(err.strerror)) from err
        with scratch:
            path = Path(scratch.name) / "rows.arrow"
            write_rows(table, lazy, path)
            yield _FileColumns(table, path)

    def keep(self, values: NDArray[Any], rows: NDArray[np.integer]) -> NDArray[Any]:
        """Return the values of some rows as an array that nobody can write to."""
        if self.folder is None:
            kept = values.take(rows)
            kept.flags.writeable = False
            return kept
        target, kept = self._space(len(rows), values.dtype)
        for start in range(0, len(rows), _SLICE):
            some = rows[start : start + _SLICE]
            values.take(some, out=target[start : start + _SLICE], mode="clip")
        return kept

    def _space(self, count: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return room for an array twice: to be filled, and to be given away."""
        if not count:
            none = np.zeros(0, dtype)
            none.flags.writeable = False
            return none, none
        size = count * dtype.itemsize
        if self._segment is None or self._used + size > len(self._segment[0]):
            expected = self.expected if self._segment is None else 0
            self._segment, self._used = self._mapped(max(size, expected)), 0
        first, second = (
            np.frombuffer(mapping, dtype, count, self._used) for mapping in self._segment
        )
        self._used += -(-size // _ALIGNED) * _ALIGNED
        return first, second

    def _mapped(self, size: int) -> tuple[mmap.mmap, mmap.mmap]:
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                # Now, and not when a page is written to: that would end the process with a signal.
                _reserve(file.fileno(), size)
                writable = mmap.mmap(file.fileno(), size)
                return writable, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as err:
            raise _no_room(Path(str(self.folder)), str(err.strerror)) from err


def _reserve(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    zeros = bytes(_SLICE)
    while size:
        size -= os.write(file, zeros[:size])
