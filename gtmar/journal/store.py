"""A journal's files as they lie on disk: which are whole, how they are chained, who holds the lock.

A Parquet file ends in ``PAR1``: one that doesn't was cut off. What is in a run's files is the
matter of `writer`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.errors import JournalError, RunNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "RunFiles",
    "is_whole",
    "place_file",
    "previous_of",
    "sha256_of",
    "sync_folder",
    "unwritable",
]

_MAGIC = b"PAR1"
#: Magic, an empty footer's length, magic.
_LEAST_BYTES = 12


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def place_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside its place, synced, then renamed."""
    beside = path.with_suffix(".partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        sync_folder(path.parent)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def unwritable(journal: Path, err: OSError) -> JournalError:
    """Word an operating system's refusal to write."""
    reason = err.strerror or str(err)
    where = f" ({err.filename})" if err.filename else ""
    return JournalError(
        f'journal "{journal}": can\'t be written: {reason}{where}; '
        "what was written before is intact",
        hint="give --journal DIR, or set GTMAR_JOURNAL, to a folder that you may write to",
    )


def is_whole(path: Path) -> bool:
    """Whether a Parquet file has both its ends."""
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            return False
        size = file.seek(0, 2)
        file.seek(-4, 2)
        return size >= _LEAST_BYTES and file.read(4) == _MAGIC


def previous_of(path: Path) -> str:
    """Return the hash, stated in a file's footer, of the file before it in its run."""
    metadata = pq.read_schema(path).metadata or {}
    stated: bytes = metadata.get(b"gtmar_previous", b"?")
    return stated.decode()


@dataclass(frozen=True)
class RunFiles:
    """Where a run's records and parts lie."""

    journal: Path
    run_id: str

    @property
    def records(self) -> Path:
        """Folder of the run's records."""
        return self.journal / "runs" / f"run_id={self.run_id}"

    @property
    def experiments(self) -> Path:
        """Folder of the run's parts."""
        return self.journal / "experiments" / f"run_id={self.run_id}"

    @property
    def lock(self) -> Path:
        """File that a running run holds a lock on."""
        return self.records / "lock"

    @property
    def end(self) -> Path:
        """Record of how the run ended."""
        return self.records / "end.parquet"

    @property
    def seal(self) -> Path:
        """Text file with the hash of the end record, which no later file carries."""
        return self.records / "seal"

    @property
    def parts(self) -> list[Path]:
        """Parts in order, whole or torn."""
        return sorted(self.experiments.glob("part-*.parquet"))

    @property
    def whole_parts(self) -> list[Path]:
        """Parts in order, torn ones left out."""
        return [part for part in self.parts if is_whole(part)]

    def record(self, kind: str) -> dict[str, Any]:
        """Return a record's row.

        Raises
        ------
        RunNotFoundError
            If there is no such record.
        """
        path = self.records / f"{kind}.parquet"
        if not path.is_file():
            raise RunNotFoundError(f'run {self.run_id}: no {kind} record in "{self.journal}"')
        row: dict[str, Any] = pq.read_table(path, partitioning=None).to_pylist()[0]
        return row

    def rows(self) -> pa.Table:
        """Return all experiments of the whole parts, in order."""
        tables = [pq.read_table(part, partitioning=None) for part in self.whole_parts]
        if not tables:
            raise RunNotFoundError(f"run {self.run_id} has no experiment yet")
        return pa.concat_tables(table.replace_schema_metadata(None) for table in tables)

    def judged(self) -> list[dict[str, Any]]:
        """Return what a search needs to go on from: each experiment's proposal and outcome."""
        columns = ["number", "proposal", "outcome", "weights", "value_after"]
        judged: list[dict[str, Any]] = self.rows().select(columns).to_pylist()
        return judged

    def chain(self) -> list[Path]:
        """Return the run's whole files in the order of their links, from the baseline on.

        It ends where no file names the one before; `integrity` says what that means.
        """
        files = [f for f in [*self.records.glob("*.parquet"), *self.parts] if is_whole(f)]
        after: dict[str, Path] = {}
        for file in files:
            after.setdefault(previous_of(file), file)
        linked: list[Path] = []
        link = ""
        while link in after and after[link] not in linked:
            linked.append(after[link])
            link = sha256_of(after[link])
        return linked

    def running(self) -> bool:
        """Whether a process holds the run's lock."""
        if not self.lock.is_file():
            return False
        with self.lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False
