"""The files and folders of a journal: their names, their bytes, and those of each run.

Tools that sync or copy folders leave other files beside the journal's: ``run_id=R (conflicted
copy)``, ``part-000002.sync-conflict-20260101.parquet``, ``start (1).parquet``. Readers take only
files with a name that gtmar gives and, by the footer, rows of the run that the folder names. A
packed part replaces the parts that its footer lists, so these aren't read either if a sync has put
them back.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, cast

from gtmar import outputs
from gtmar.data.locations import refuse_remote
from gtmar.errors import JournalError, RunNotFoundError, culprits
from gtmar.journal.columns import EVENTS, EXPERIMENTS, RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pyarrow as pa

__all__ = [
    "PACKED_NAME",
    "JournalFile",
    "Link",
    "Row",
    "RunFiles",
    "aside_for",
    "columns_in_footer",
    "event_of",
    "footer_of",
    "holds_rows_of",
    "is_own",
    "is_whole",
    "lock_alone",
    "make_folder",
    "matching",
    "open_lock",
    "parquet_files",
    "place_file",
    "plain_rows",
    "read_rows",
    "refuse_journal_elsewhere",
    "replaced_names",
    "row_count",
    "run_aside",
    "run_of",
    "sha256_of",
    "share",
    "staged",
    "stated_in",
    "steadily",
    "unreadable",
    "unwritable",
]


#: Name of the part that all parts of a run are packed into.
PACKED_NAME = "part-000001.parquet"
_RUN = re.compile(r"run_id=(r[0-9a-z-]+)")
_ASIDE = re.compile(r"run_id=(r[0-9a-z-]+)\.[0-9a-f]{12}(?:\.old)?")
_EVENT = re.compile(r"event_id=(e[0-9a-z-]+)\.([0-9a-f]+)\.parquet")
_OWN = {
    "runs": re.compile(r"(?:start|end|resume-[0-9]+)\.parquet"),
    "experiments": re.compile(r"part-[0-9]{6,}\.parquet"),
    "events": _EVENT,
}
#: The length of a text shorter than this takes one byte in a footer.
_SHORT = 128


def run_of(folder: str) -> str | None:
    """Return the id in the name of a run's folder; None if gtmar gives no such name.

    Examples
    --------
    >>> run_of("run_id=r20260101-120000-abc123")
    'r20260101-120000-abc123'
    >>> run_of("run_id=r20260101-120000-abc123 (conflicted copy)")
    """
    match = _RUN.fullmatch(folder)
    return match[1] if match else None


def aside_for(run_id: str, room: Path) -> Path:
    """Return a new path in the folder for packing, for a folder of a run that is put aside."""
    return room / f"run_id={run_id}.{secrets.token_hex(6)}"


def run_aside(folder: str) -> str | None:
    """Return the run of a folder named by `aside_for`, with `.old` or without; None for others.

    Examples
    --------
    >>> run_aside("run_id=r20260101-120000-abc123.0123456789ab")
    'r20260101-120000-abc123'
    >>> run_aside("run_id=r20260101-120000-abc123")
    """
    match = _ASIDE.fullmatch(folder)
    return match[1] if match else None


def matching(name: str, ids: Sequence[str]) -> list[str]:
    """Return the ids that match a name: the equal one, else those that begin or end with it.

    An empty name, as from an unset shell variable, matches none.
    """
    return [i for i in ids if i == name] or [
        i for i in ids if name and (i.startswith(name) or i.endswith(name))
    ]


def event_of(file: str) -> tuple[str, str] | None:
    """Return an event's id and hash digits from its file name; None for other names."""
    match = _EVENT.fullmatch(file)
    return (match[1], match[2]) if match else None


@lru_cache(4096)
def is_own(room: str, file: str) -> bool:
    """Return whether gtmar gives such file names in `runs`, `experiments` or `events`."""
    return _OWN[room].fullmatch(file) is not None


def holds_rows_of(run_id: str, footer: bytes) -> bool:
    """Return whether a file's rows are of a run, by the `run_id` statistics in its footer."""
    stated = run_id.encode()
    return len(stated) >= _SHORT or bytes([len(stated)]) + stated in footer


def replaced_names(file: str, listed: Iterable[str]) -> set[str]:
    """Return the names of the parts that a file of a run replaces; none unless it is packed.

    `listed` are the names in its footer of the parts that were packed into it.
    """
    return {*listed} - {PACKED_NAME} if file == PACKED_NAME else set()


Looked = TypeVar("Looked")
Row: TypeAlias = "dict[str, Any]"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PARTS = "experiments"
_MAGIC = b"PAR1"
#: Bytes of magic, the length of an empty footer, and magic.
_LEAST_BYTES = 12
#: Bytes of a footer's length, and magic.
_FOOTER_END = 8
#: Thrift's mark, between a key and the length of its value, for a text in the next field.
_VALUE_FOLLOWS = b"\x18"
#: The folders of a journal.
_KINDS = (RECORDS, EXPERIMENTS, EVENTS)
#: Attempts to take a lock. Several, as `RunFiles.running`, which tests it, holds it for a moment.
_LOCK_TRIES = 20
_LOCK_PAUSE = 0.01


def refuse_journal_elsewhere(path: str | Path) -> None:
    """Raise if a journal isn't a single local folder.

    A URL would become a local folder of that name, and files written through a link within the
    journal would end up in some other folder.

    Raises
    ------
    UsageError
        If it is a URL, or begins with ``~``.
    JournalError
        If the file system allows no such name, or the folder of records, experiments or events is a
        link. The journal itself may be one.
    """
    refuse_remote(
        path,
        what="a journal is a local folder",
        hint="keep it on a local disk and copy or sync the folder to the store",
    )
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        raise JournalError(f'journal "{path}": {reason}') from err
    linked = [str(p) for kind in _KINDS if (p := Path(path) / kind).is_symlink()]
    if linked:
        links = "is a link" if len(linked) == 1 else "are links"
        raise JournalError(
            f'journal "{path}": {culprits(linked)} {links}; nothing is read or written through one',
            hint="move the whole journal to where the room is, and link to that folder",
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path, *, exist_ok: bool = False) -> None:
    """Create a folder, and missing ones above it, for the group that shares the journal."""
    if not path.parent.is_dir():
        make_folder(path.parent, exist_ok=True)
    there = path.is_dir()
    path.mkdir(exist_ok=exist_ok)
    if not there:
        share(path)


def share(path: Path) -> None:
    """Give the group of the parent folder access to a new file or folder, if it may write there.

    So nobody's umask locks colleagues out of a folder that is shared with a group. If the group
    can't write to the parent folder, the umask applies.
    """
    folder, made = path.parent.stat(), path.stat()
    if not folder.st_mode & stat.S_IWGRP:
        return
    try:
        if made.st_gid != folder.st_gid:
            os.chown(path, -1, folder.st_gid)
        is_folder = stat.S_ISDIR(made.st_mode)
        path.chmod(stat.S_IMODE(made.st_mode) | (0o2070 if is_folder else 0o060))
    except PermissionError:
        # The writer isn't a member of that group.
        return


@contextmanager
def staged(path: Path, write: Callable[[IO[bytes]], object]) -> Iterator[Path]:
    """Write a file of the journal beside its place, for the journal's group; yield its path."""
    with outputs.staged(path, write) as beside:
        share(beside)
        yield beside


def place_file(path: Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file of the journal, whole or not at all; no other process may write its name."""
    write = content if callable(content) else lambda file: file.write(content)
    with staged(path, write) as beside:
        outputs.settle(beside, path, replace=True)


def unwritable(journal: Path, err: OSError) -> JournalError:
    """Return the error for a journal that can't be written."""
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


def unreadable(run_id: str, err: OSError) -> JournalError:
    """Return the error for a run's file that can't be read."""
    return JournalError(
        f'run {run_id}: "{err.filename}" can\'t be read: {err.strerror}',
        hint="ask its owner to let the folder's group read it: chmod -R g+rX",
    )


def open_lock(path: Path) -> IO[bytes]:
    """Open a lock file, and create it if necessary; a link is not followed."""
    is_new = not path.exists()
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
    if is_new:
        share(path)
    return lock


def lock_alone(file: IO[Any]) -> bool:
    """Take an exclusive lock; return whether it was free."""
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
    """Call `look`, which reads a run's parts; call it again if they are packed meanwhile."""
    for _ in range(2):
        try:
            return look()
        except FileNotFoundError:
            continue
    return look()


def parquet_files(folder: Path) -> list[Path]:
    """Return a folder's files that end in `.parquet`, by name; none if there is no folder.

    Raises
    ------
    PermissionError
        If the folder can't be read; a glob alone would find nothing in it.
    """
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(folder.glob("*.parquet"))


def is_whole(path: Path) -> bool:
    """Return whether a Parquet file has the magic at both its ends."""
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            return False
        size = file.seek(0, 2)
        if size < _LEAST_BYTES:
            return False
        file.seek(-4, 2)
        return file.read(4) == _MAGIC


@dataclass(frozen=True)
class Link:
    """One file in the chain of a run; a part that was packed with others keeps its link."""

    #: The file with its rows: its own, or the one that it was packed into.
    path: Path
    #: The file's own name, `part-000002.parquet`.
    name: str
    #: Number of the run's files written before it; -1 if the file doesn't state it.
    position: int
    #: SHA-256 of the file before it; empty for the first.
    previous: str
    #: SHA-256 of the file as it was written.
    sha256: str
    #: Whether it was packed.
    packed: bool = False


@dataclass(frozen=True)
class JournalFile:
    """A file whose bytes are read once, for its hash, footer and rows."""

    path: Path
    data: bytes

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file."""
        return cls(path, path.read_bytes())

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def footer(self) -> bytes:
        """The Parquet footer; empty if the file isn't whole."""
        return footer_of(self.data) if self.is_whole else b""

    @property
    def is_whole(self) -> bool:
        """Whether the file has the magic at both its ends."""
        data = self.data
        return len(data) >= _LEAST_BYTES and data[:4] == _MAGIC == data[-4:]

    def stated(self, key: bytes) -> bytes | None:
        """Return the footer's value of a key; None if there is none."""
        return stated_in(self.footer, key)

    def links(self) -> list[Link]:
        """Return the links of a file with a readable footer; several if it is packed."""
        try:
            listed = json.loads(self.stated(b"gtmar_packed") or b"null")
            if listed is not None:
                return [
                    Link(self.path, e["name"], e["place"], e["previous"], e["sha256"], packed=True)
                    for e in listed
                ]
            position = int(self.stated(b"gtmar_place") or b"-1")
        except (ValueError, KeyError, TypeError):
            position = -1
        previous = self.stated(b"gtmar_previous")
        before = "?" if previous is None else previous.decode("ascii", errors="replace")
        return [Link(self.path, self.path.name, position, before, self.sha256)]

    def table(self, columns: list[str] | None = None) -> pa.Table | None:
        """Return the rows; None if the file can't be read, or a page's checksum is wrong."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(pa.BufferReader(self.data), page_checksum_verification=True)
            # Parts are small, so threads cost more than they save.
            return file.read(columns, use_threads=False)
        except (pa.ArrowException, OSError):
            return None

    def row(self, columns: list[str] | None = None) -> Row | None:
        """Return the row of a record or an event; None if there is none, or it can't be read."""
        import pyarrow as pa

        table = self.table(columns) if self.is_whole else None
        try:
            rows = [] if table is None else plain_rows(table)
        except (pa.ArrowException, ValueError):
            rows = []
        return rows[0] if rows else None


def plain_rows(table: pa.Table) -> list[Row]:
    """Return a table's rows as Python values; raise `ValueError` for a time out of range.

    Times are converted from their microseconds, as Arrow would import pandas for that.
    """
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    moments = {field.name for field in table.schema if field.type == moment}
    fields = [f.with_type(pa.int64()) if f.type == moment else f for f in table.schema]
    rows: list[Row] = table.cast(pa.schema(fields)).to_pylist()
    for row in rows:
        for name in moments:
            if isinstance(row[name], int):
                try:
                    row[name] = _EPOCH + timedelta(microseconds=row[name])
                except OverflowError as err:
                    raise ValueError("a moment beyond all years") from err
    return rows


@cache
def columns_in_footer(folder: str) -> tuple[bytes, ...]:
    """Return the beginnings of footers of a folder's files: the columns, in either format."""
    from gtmar.journal.schema import first_format, schema_of

    schema = schema_of(folder)
    return _columns_in_footer(schema), _columns_in_footer(first_format(schema))


def _columns_in_footer(schema: pa.Schema) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    footers = []
    for count in (0, 1):
        file = io.BytesIO()
        # Arrays of nulls, as building them from Python values would import pandas.
        rows = [pa.nulls(count, field.type) for field in schema]
        pq.write_table(pa.Table.from_arrays(rows, schema=schema), file)
        footers.append(footer_of(file.getvalue()))
    # The number of rows follows the columns, so footers of 0 and of 1 row differ from there on.
    pairs = enumerate(zip(*footers, strict=False))
    return footers[0][: next(at for at, (one, two) in pairs if one != two)]


def footer_of(data: bytes) -> bytes:
    """Return the footer of a Parquet file; empty if the file is too short for it."""
    length = int.from_bytes(data[-_FOOTER_END:-4], "little")
    return data[-_FOOTER_END - length : -_FOOTER_END] if length < len(data) else b""


def row_count(file: JournalFile) -> int | None:
    """Return the number of rows in a file's footer; None if that can't be read."""
    for columns in columns_in_footer(file.path.parent.parent.name):
        if file.footer.startswith(columns):
            # Thrift's variable-length integer, with the sign in the lowest bit.
            return _varint(file.footer, len(columns))[0] >> 1
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: int = pq.read_metadata(pa.BufferReader(file.data)).num_rows
    except (pa.ArrowException, OSError):
        return None
    return rows


def read_rows(files: Sequence[JournalFile], columns: list[str] | None = None) -> list[Row | None]:
    """Return each file's first row; None if it can't be read.

    All files are read in one query; only if that fails, each is read by itself.
    """
    import polars as pl

    contents: list[IO[bytes]] = [io.BytesIO(file.data) for file in files]
    try:
        lazy = pl.scan_parquet(contents, hive_partitioning=False)
        frame = (lazy if columns is None else lazy.select(columns)).collect()
        rows = frame.rows(named=True) if frame.height == len(files) else []
    except (pl.exceptions.PolarsError, OSError):
        rows = []
    return list(rows) or [file.row(columns) for file in files]


def stated_in(footer: bytes, key: bytes) -> bytes | None:
    """Return the value of a key in a footer, Thrift's length and text; None if there is none."""
    at = footer.rfind(key + _VALUE_FOLLOWS)
    if at < 0:
        return None
    length, at = _varint(footer, at + len(key) + 1)
    return footer[at : at + length]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the variable-length integer of Thrift at an offset, and the offset after it."""
    number = shift = 0
    for byte in data[at : at + 10]:
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return number, at


@dataclass(frozen=True)
class RunFiles:
    """The records and parts of a run."""

    journal: Path
    run_id: str

    @property
    def records(self) -> Path:
        """Folder of the run's records."""
        return self.journal / "runs" / f"run_id={self.run_id}"

    @property
    def experiments(self) -> Path:
        """Folder of the run's parts."""
        return self.journal / _PARTS / f"run_id={self.run_id}"

    @property
    def lock(self) -> Path:
        """File that a running run locks; it holds the place and hash of the run's newest file."""
        return self.records / "lock"

    @property
    def start(self) -> Path:
        """Record of the request, data and spec."""
        return self.records / "start.parquet"

    @property
    def end(self) -> Path:
        """Record of the run's results."""
        return self.records / "end.parquet"

    @property
    def seal(self) -> Path:
        """Text file with the hash of the end record, which is in no other file."""
        return self.records / "seal"

    def sealed(self) -> str | None:
        """Return the hash in the seal; None if there is no seal."""
        if not self.seal.is_file():
            return None
        return self.seal.read_bytes().decode("ascii", errors="replace").strip()

    def end_beside(self) -> bool:
        """Return whether the sealed end record is still beside its place, as after a kill."""
        sealed = self.sealed()
        beside = (path for path in self.records.glob("*.partial") if path.is_file())
        return sealed is not None and any(sha256_of(path) == sealed for path in beside)

    @property
    def parts(self) -> list[Path]:
        """Parts in order, whole or torn; files with other names are ignored."""
        return [path for path in parquet_files(self.experiments) if is_own(_PARTS, path.name)]

    @property
    def whole_parts(self) -> list[Path]:
        """Parts in order, without torn ones and those that a packed part replaces."""
        parts = [part for part in self.parts if is_whole(part)]
        if len(parts) < 2:
            return parts
        listed = (link.name for link in JournalFile.load(parts[0]).links() if link.packed)
        replaced = replaced_names(parts[0].name, listed)
        return [part for part in parts if part.name not in replaced]

    def record(self, kind: str) -> dict[str, Any]:
        """Return the row of a record: `start`, `end` or `resume-N`.

        Raises
        ------
        RunNotFoundError
            If there is no such record.
        JournalError
            If it can't be read, or is damaged.
        """
        path = self.records / f"{kind}.parquet"
        try:
            row = JournalFile.load(path).row()
        except (FileNotFoundError, NotADirectoryError):
            raise RunNotFoundError(
                f'run {self.run_id}: no {kind} record in "{self.journal}"'
            ) from None
        except PermissionError as err:
            raise unreadable(self.run_id, err) from err
        if row is None:
            raise self._damaged(f'"{path.name}" isn\'t what was written')
        return row

    def rows(self) -> pa.Table:
        """Return all experiments of the whole parts, in order.

        Raises
        ------
        RunNotFoundError
            If there is none yet.
        JournalError
            If a part can't be read, or is damaged.
        """
        import pyarrow as pa

        try:
            tables = steadily(self._tables)
        except PermissionError as err:
            raise unreadable(self.run_id, err) from err
        if not tables:
            raise RunNotFoundError(f"run {self.run_id} has no experiment yet")
        try:
            return pa.concat_tables(tables)
        except pa.ArrowInvalid as err:
            raise self._damaged("its parts don't have the same columns") from err

    def _tables(self) -> list[pa.Table]:
        tables = []
        for part in self.whole_parts:
            table = JournalFile.load(part).table()
            if table is None:
                raise self._damaged(f'"{part.name}" isn\'t what was written')
            tables.append(table.replace_schema_metadata(None))
        return tables

    def _damaged(self, problem: str) -> JournalError:
        return JournalError(
            f"run {self.run_id} is damaged: {problem}", hint="gtmar verify names all that is"
        )

    def judged(self) -> list[Row]:
        """Return each experiment's proposal and outcome, from which a search is resumed."""
        columns = ["number", "proposal", "outcome", "weights", "value_after", "breaches"]
        return cast("list[Row]", self.rows().select(columns).to_pylist())

    def chain(self) -> list[Link]:
        """Return the run's links in order, from the first file on.

        The chain ends where no file names the hash of the last one; `verify` finds out why.
        """
        paths = [*parquet_files(self.records), *self.whole_parts]
        after: dict[str, Link] = {}
        for file in (JournalFile.load(path) for path in paths):
            if file.is_whole and file.table() is not None:
                for link in file.links():
                    after.setdefault(link.previous, link)
        linked: list[Link] = []
        previous = ""
        while previous in after and after[previous] not in linked:
            linked.append(after[previous])
            previous = linked[-1].sha256
        return linked

    def newest(self) -> tuple[int, str] | None:
        """Return place and hash of the newest file but the end, from the lock; None without it."""
        if not self.lock.is_file():
            return None
        position, _, stated = (
            self.lock.read_bytes().decode("ascii", errors="replace").partition(" ")
        )
        return (int(position), stated.strip()) if position.isdigit() else None

    def running(self) -> bool:
        """Return whether a process holds the run's lock."""
        if not self.lock.is_file():
            return False
        with self.lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False
