"""The journal writer: appends the records and experiments of a run.

Files are written beside their place under a new name, synced, then renamed, so that a reader never
sees half a file; no file is ever edited. Each file's footer carries the hash of the file before it
in its run. While a run is running, it holds a lock of the operating system.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from gtmar.errors import JournalError
from gtmar.journal.columns import ADDED, RECORDS
from gtmar.journal.digest import RunDigest
from gtmar.journal.files import (
    RunFiles,
    is_whole,
    lock_alone,
    make_folder,
    open_lock,
    place_file,
    refuse_journal_elsewhere,
    sha256_of,
    staged,
    unwritable,
)
from gtmar.journal.schema import FAST, format_of, schema_of, write_parquet
from gtmar.outputs import settle

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RunWriter"]

#: A part is flushed at this many rows, or when the oldest waiting row is this many seconds old.
FLUSH_ROWS = 4096
FLUSH_SECONDS = 2.0


class RunWriter:
    """Writes one run into a journal; a context manager that releases the run's lock.

    Parameters
    ----------
    journal
        The journal's folder; created if it doesn't exist.
    run_id
        The run's id; must be new to the journal unless the run is resumed.
    resumed
        True to continue an interrupted run: its whole parts are kept, a torn one is put aside, and
        the digest continues from them.

    Raises
    ------
    JournalError
        If the folder can't be written, the journal has this run already, or the run to resume is
        still running, has ended, or is damaged.
    """

    def __init__(self, journal: Path, run_id: str, *, resumed: bool = False) -> None:
        refuse_journal_elsewhere(journal)
        self.journal = journal
        self.run_id = run_id
        self.digest = RunDigest()
        self._previous = ""
        self._place = 0
        self._parts = 0
        self._waiting: list[pa.Table] = []
        self._since = time.monotonic()
        self._files = RunFiles(journal, run_id)
        try:
            if not resumed:
                # Creation fails if the folder exists, so a run has only one writer.
                make_folder(self._files.records)
                make_folder(self._files.experiments)
            self._lock = open_lock(self._files.lock)
            try:
                self._hold()
                if resumed:
                    self._go_on()
            except BaseException:
                self._lock.close()
                raise
        except OSError as err:
            raise unwritable(journal, err) from err

    def _hold(self) -> None:
        if not lock_alone(self._lock):
            raise JournalError(
                f"run {self.run_id} is still running; it can't be resumed",
                hint="wait for it, or stop it first",
            )

    def _go_on(self) -> None:
        """Check the run's files, and continue after the last of them."""
        files = self._files
        if files.records.is_symlink() or files.experiments.is_symlink():
            raise JournalError(
                f"run {self.run_id}: a folder of it is a link; nothing is written through one",
                hint="gtmar verify names it",
            )
        if files.end.exists():
            raise JournalError(
                f"run {self.run_id} has ended; there is nothing to resume",
                hint="gtmar run with its best spec goes on from there",
            )
        # The seal of an end record that a kill kept from its place.
        files.seal.unlink(missing_ok=True)
        for part in files.parts:
            if not is_whole(part):
                part.rename(part.with_suffix(".torn"))
        linked, parts = files.chain(), files.parts
        numbers = [int(part.stem.partition("-")[2]) for part in parts]
        unlinked = set(parts) - {link.path for link in linked}
        sound = numbers == list(range(1, len(parts) + 1)) and not unlinked and bool(linked)
        newest = files.newest() or (-1, "")
        if not sound or (newest[0] == len(linked) - 1 and newest[1] != linked[-1].sha256):
            raise JournalError(
                f"run {self.run_id} is damaged: a part is missing or was changed",
                hint="gtmar verify names it",
            )
        self._previous, self._place = linked[-1].sha256, len(linked)
        self._parts = len(parts)
        if parts:
            self.digest.update(files.rows())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def record(self, kind: str, fields: dict[str, Any]) -> None:
        """Write a record of the run: `start` after the baseline, `end` after all experiments.

        The end record's hash, which no later file carries, is written to the file `seal` first. So
        every run that has ended has a seal, and a run with a seal alone was interrupted.
        """
        self.flush()
        schema = schema_of(RECORDS)
        row = {"run_id": self.run_id, "record": kind, **fields}
        schema = pa.schema([f for f in schema if f.name not in ADDED or f.name in fields])
        arrays = [pa.array([row.get(field.name)], type=field.type) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema)
        self._write(self._files.records / f"{kind}.parquet", table, sealed=kind == "end")

    def append(self, rows: pa.Table) -> None:
        """Add experiments, which are written at the next flush."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(rows)
        count = sum(table.num_rows for table in self._waiting)
        if count >= FLUSH_ROWS or time.monotonic() - self._since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows as the next part."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._write(self._files.experiments / f"part-{self._parts + 1:06d}.parquet", table)
        self._waiting = []
        self._parts += 1
        self.digest.update(table)

    def _write(self, path: Path, table: pa.Table, *, sealed: bool = False) -> None:
        footer = {
            "gtmar_format": format_of(table),
            "gtmar_previous": self._previous,
            "gtmar_place": str(self._place),
        }
        try:
            with staged(
                path, lambda file: write_parquet(table, file, footer, table.num_rows, FAST)
            ) as beside:
                written = sha256_of(beside)
                if sealed:
                    place_file(self._files.seal, f"{written}\n".encode("ascii"))
                # The run's lock is held, so no other process writes this name.
                settle(beside, path, replace=True)
            if not sealed:
                # No later file carries the hash of this one yet. The lock file has it, so that a
                # change is detected.
                os.pwrite(self._lock.fileno(), f"{self._place:06d} {written}\n".encode("ascii"), 0)
        except OSError as err:
            with suppress(OSError):
                if sealed and not path.exists():
                    self._files.seal.unlink(missing_ok=True)
            raise unwritable(self.journal, err) from err
        self._previous = written
        self._place += 1
