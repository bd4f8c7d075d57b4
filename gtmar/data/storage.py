"""Keeps a table's arrays in memory, or in mapped files where they exceed a budget.

Mapped files are unlinked, so their space is freed when the process ends, even if it is killed. A
temporary folder exists only while a table is read; it is removed on any error and on Ctrl-C.
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
#: Messages of the operating system for a full disk, a full quota, and a file size limit.
_NO_ROOM = re.compile(r"(File too large|No space left|quota exceeded).*", re.IGNORECASE)


class Columns(Protocol):
    """Columns of N rows by name."""

    def __getitem__(self, name: str, /) -> pl.Series: ...

    def pop(self, name: str, /) -> pl.Series:
        """Return a column, which must not be requested again."""
        ...


@dataclass(frozen=True)
class _FileColumns:
    """Columns of an Arrow file, read at each access."""

    table: AccountTable
    path: Path

    def __getitem__(self, name: str, /) -> pl.Series:
        column = pl.scan_ipc(self.path, glob=False).select(name)
        return collect(self.table, column).to_series()

    pop = __getitem__


def write_rows(table: AccountTable, lazy: pl.LazyFrame, path: Path) -> None:
    """Write the rows of a query over the table to an Arrow file, streaming.

    Raises
    ------
    ResourceError
        If the disk is full.
    AccountDataError
        If the table can't be read.
    """
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
    """Keeps read-only arrays, in memory or in mapped files."""

    #: Folder for mapped files; None keeps everything in memory.
    folder: Path | None = None
    #: Total bytes of all arrays, so that one file can hold them.
    expected: int = 0
    #: A writable and a read-only mapping of the current file; `_used` is the next array's offset.
    _segment: tuple[mmap.mmap, mmap.mmap] | None = field(default=None, init=False)
    _used: int = field(default=0, init=False)

    @classmethod
    def fitting(cls, *, needed: int, kept: int, budget: int | None = None) -> Storage:
        """Return storage in memory if the budget suffices, else in `roomy_folder` on disk.

        Parameters
        ----------
        needed
            Bytes for reading and keeping the arrays, at most.
        kept
            Bytes for keeping them.
        budget
            Bytes of memory that may be used; None for `default_budget`.
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
        """Run a query and yield its columns, held in memory or in a temporary file."""
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
        """Return the values of these rows, in their order, as a read-only array.

        Raises `ResourceError` if the disk is full.
        """
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
        """Return a new array in the file twice: a writable view, and a read-only one."""
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
                # Reserve the space now: on a full disk a write to a page would kill the process.
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
