"""The journal writer: appends a run's records and experiments, and has no opinion.

Files are written beside their place under another ending, synced, then renamed, so that a reader
never sees half of one; nothing is ever edited. Each file's footer carries the hash of the one
before it in its run. A lock that the operating system holds says that a run is running.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.errors import JournalError
from gtmar.journal.schema import FORMAT_VERSION, RunDigest, run_schema

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["RunWriter"]

#: A part is flushed at this many rows, or when the oldest waiting row is this many seconds old.
FLUSH_ROWS = 4096
FLUSH_SECONDS = 2.0


class RunWriter:
    """Writes one run into a journal; a context manager that lets go of the run's lock.

    Parameters
    ----------
    journal
        The journal's folder; made where it isn't there.
    run_id
        The run's id, not yet in the journal.

    Raises
    ------
    JournalError
        If the folder can't be written, or the journal has this run already.
    """

    def __init__(self, journal: Path, run_id: str) -> None:
        self.journal = journal
        self.run_id = run_id
        self.digest = RunDigest()
        self._previous = ""
        self._parts = 0
        self._waiting: list[pa.Table] = []
        self._since = time.monotonic()
        self._records = journal / "runs" / f"run_id={run_id}"
        self._experiments = journal / "experiments" / f"run_id={run_id}"
        try:
            (journal / "runs").mkdir(parents=True, exist_ok=True)
            # Made, not found: so a run has one writer.
            self._records.mkdir()
            self._experiments.mkdir(parents=True)
            self._lock = (self._records / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise _unwritable(journal, err) from err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()

    def record(self, kind: str, fields: dict[str, Any]) -> None:
        """Write a record of the run: `start` before all experiments, `end` after them."""
        self.flush()
        schema = run_schema()
        row = {"run_id": self.run_id, "record": kind, **fields}
        arrays = [pa.array([row.get(field.name)], type=field.type) for field in schema]
        self._write(self._records / f"{kind}.parquet", pa.Table.from_arrays(arrays, schema=schema))

    def append(self, rows: pa.Table) -> None:
        """Take in experiments; they reach the disk at the next flush."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(rows)
        count = sum(table.num_rows for table in self._waiting)
        if count >= FLUSH_ROWS or time.monotonic() - self._since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits as the next part."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = []
        self._parts += 1
        self.digest.update(table)
        self._write(self._experiments / f"part-{self._parts:06d}.parquet", table)

    def _write(self, path: Path, table: pa.Table) -> None:
        footer = {"gtmar_format": str(FORMAT_VERSION), "gtmar_previous": self._previous}
        table = table.replace_schema_metadata(footer)
        beside = path.with_suffix(".partial")
        try:
            with beside.open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
            _sync_folder(path.parent)
            self._previous = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as err:
            beside.unlink(missing_ok=True)
            raise _unwritable(self.journal, err) from err


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(journal: Path, err: OSError) -> JournalError:
    reason = err.strerror or str(err)
    where = f" ({err.filename})" if err.filename else ""
    return JournalError(
        f'journal "{journal}": can\'t be written: {reason}{where}; '
        "what was written before is intact",
        hint="give --journal DIR, or set GTMAR_JOURNAL, to a folder that you may write to",
    )
