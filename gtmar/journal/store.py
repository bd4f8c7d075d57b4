"""A journal's files as they lie on disk: which are whole, how they are chained, who holds the lock.

A Parquet file ends in ``PAR1``: one that doesn't was cut off. What is in a run's files is the
matter of `writer`; that a file is written whole or not at all, of `outputs`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.errors import JournalError, RunNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "PACKED_NAME",
    "Link",
    "RunFiles",
    "is_whole",
    "links_of",
    "lock_alone",
    "open_lock",
    "read_checked",
    "sha256_of",
    "steadily",
    "unwritable",
]

Looked = TypeVar("Looked")

#: The part that all others of its run are packed into.
PACKED_NAME = "part-000001.parquet"
_MAGIC = b"PAR1"
#: Magic, an empty footer's length, magic.
_LEAST_BYTES = 12
#: How often a lock is asked for: whoever looks whether it is held holds it for a moment.
_LOCK_TRIES = 20
_LOCK_PAUSE = 0.01


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unwritable(journal: Path, err: OSError) -> JournalError:
    """Word an operating system's refusal to write."""
    reason = err.strerror or str(err)
    where = f" ({err.filename})" if err.filename else ""
    gone = isinstance(err, FileNotFoundError)
    rest = "the folder is gone" if gone else "what was written before is intact"
    return JournalError(
        f'journal "{journal}": can\'t be written: {reason}{where}; {rest}',
        hint="put it back, and gtmar resume goes on from there"
        if gone
        else "give --journal DIR, or set GTMAR_JOURNAL, to a folder that you may write to",
    )


def open_lock(path: Path) -> IO[bytes]:
    """Open a file to lock, made where it isn't there; a link is not followed."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")


def lock_alone(file: IO[Any]) -> bool:
    """Take a lock that nobody else then has; say whether it was to be had."""
    for attempt in range(_LOCK_TRIES):
        if attempt:
            time.sleep(_LOCK_PAUSE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def steadily(look: Callable[[], Looked]) -> Looked:
    """Look at a run's parts; look again where they are packed in that moment."""
    for _ in range(2):
        try:
            return look()
        except FileNotFoundError:
            continue
    return look()


def is_whole(path: Path) -> bool:
    """Whether a Parquet file has both its ends."""
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            return False
        size = file.seek(0, 2)
        if size < _LEAST_BYTES:
            return False
        file.seek(-4, 2)
        return file.read(4) == _MAGIC


def read_checked(path: Path) -> pa.Table | None:
    """Return a whole file's rows; None where a page isn't what was written, by its checksum."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        return None


@dataclass(frozen=True)
class Link:
    """One file of a run's chain; a part that was packed with others keeps its own."""

    #: Where its rows are: its own file, or the one that it was packed into.
    path: Path
    #: The file's own name, `part-000002.parquet`.
    name: str
    #: How many files of the run were written before it; -1 where it doesn't say.
    place: int
    #: SHA-256 of the file before it; empty in the first.
    previous: str
    #: SHA-256 of the file as it was written.
    sha256: str
    #: Whether it was packed.
    packed: bool = False


def links_of(path: Path) -> list[Link]:
    """Return the links that a file of readable footer stands for: more than one if packed."""
    metadata = pq.read_schema(path).metadata or {}
    try:
        listed = json.loads(metadata.get(b"gtmar_packed", b"null"))
        if listed is not None:
            return [
                Link(path, e["name"], e["place"], e["previous"], e["sha256"], packed=True)
                for e in listed
            ]
        place = int(metadata.get(b"gtmar_place", b"-1"))
    except (ValueError, KeyError, TypeError):
        place = -1
    previous: bytes = metadata.get(b"gtmar_previous", b"?")
    stated = previous.decode("ascii", errors="replace")
    return [Link(path, path.name, place, stated, sha256_of(path))]


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
        """File that a running run holds a lock on; in it, place and hash of its newest file."""
        return self.records / "lock"

    @property
    def start(self) -> Path:
        """Record of what was asked."""
        return self.records / "start.parquet"

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
        """Return all experiments of the whole parts, in order.

        Raises
        ------
        RunNotFoundError
            If there is none yet.
        JournalError
            If a part isn't what was written.
        """
        tables = steadily(self._tables)
        if not tables:
            raise RunNotFoundError(f"run {self.run_id} has no experiment yet")
        try:
            return pa.concat_tables(tables)
        except pa.ArrowInvalid as err:
            raise self._damaged("its parts don't have the same columns") from err

    def _tables(self) -> list[pa.Table]:
        tables = []
        for part in self.whole_parts:
            table = read_checked(part)
            if table is None:
                raise self._damaged(f'"{part.name}" isn\'t what was written')
            tables.append(table.replace_schema_metadata(None))
        return tables

    def _damaged(self, problem: str) -> JournalError:
        return JournalError(
            f"run {self.run_id} is damaged: {problem}", hint="gtmar verify names all that is"
        )

    def judged(self) -> list[dict[str, Any]]:
        """Return what a search needs to go on from: each experiment's proposal and outcome."""
        columns = ["number", "proposal", "outcome", "weights", "value_after"]
        judged: list[dict[str, Any]] = self.rows().select(columns).to_pylist()
        return judged

    def chain(self) -> list[Link]:
        """Return the run's links in their order, from the baseline on.

        It ends where no file names the one before; `integrity` says what that means.
        """
        files = [f for f in [*self.records.glob("*.parquet"), *self.parts] if is_whole(f)]
        after: dict[str, Link] = {}
        for link in (
            link for file in files if read_checked(file) is not None for link in links_of(file)
        ):
            after.setdefault(link.previous, link)
        linked: list[Link] = []
        previous = ""
        while previous in after and after[previous] not in linked:
            linked.append(after[previous])
            previous = linked[-1].sha256
        return linked

    def newest(self) -> tuple[int, str] | None:
        """Return place and hash of the newest file but the end, as its writer left word."""
        if not self.lock.is_file():
            return None
        place, _, stated = self.lock.read_bytes().decode("ascii", errors="replace").partition(" ")
        return (int(place), stated.strip()) if place.isdigit() else None

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
