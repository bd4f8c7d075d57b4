"""Names of a journal's own files and folders, and which of a run's files stand for its rows.

Tools that sync or copy folders leave others beside them: ``run_id=R (conflicted copy)``,
``part-000002.sync-conflict-20260101.parquet``, ``start (1).parquet``. Readers take in what bears a
name of the journal's own and, by its footer, holds rows of the run that its folder names. A packed
part replaces the parts that its footer lists, so those that a sync has put back beside it aren't
read either.
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


#: The part that all others of its run are packed into.
PACKED_NAME = "part-000001.parquet"
_RUN = re.compile(r"run_id=(r[0-9a-z-]+)")
_ASIDE = re.compile(r"run_id=(r[0-9a-z-]+)\.[0-9a-f]{12}(?:\.old)?")
_EVENT = re.compile(r"event_id=(e[0-9a-z-]+)\.([0-9a-f]+)\.parquet")
_OWN = {
    "runs": re.compile(r"(?:start|end|resume-[0-9]+)\.parquet"),
    "experiments": re.compile(r"part-[0-9]{6,}\.parquet"),
    "events": _EVENT,
}
#: Length of a text in a footer is one byte up to this.
_SHORT = 128


def run_of(folder: str) -> str | None:
    """Return the id in the name of a run's folder; None where it isn't a name that gtmar gives.

    Examples
    --------
    >>> run_of("run_id=r20260101-120000-abc123")
    'r20260101-120000-abc123'
    >>> run_of("run_id=r20260101-120000-abc123 (conflicted copy)")
    """
    match = _RUN.fullmatch(folder)
    return match[1] if match else None


def aside_for(run_id: str, room: Path) -> Path:
    """Return a fresh name in the folder for packing, for a folder of a run put aside there."""
    return room / f"run_id={run_id}.{secrets.token_hex(6)}"


def run_aside(folder: str) -> str | None:
    """Return the run of a folder that has such a name, `.old` after it or not; None for others.

    Examples
    --------
    >>> run_aside("run_id=r20260101-120000-abc123.0123456789ab")
    'r20260101-120000-abc123'
    >>> run_aside("run_id=r20260101-120000-abc123")
    """
    match = _ASIDE.fullmatch(folder)
    return match[1] if match else None


def matching(name: str, ids: Sequence[str]) -> list[str]:
    """Return the ids that a name stands for: itself, else those that begin or end with it.

    An empty name, as of a shell's variable that nobody set, stands for none.
    """
    return [i for i in ids if i == name] or [
        i for i in ids if name and (i.startswith(name) or i.endswith(name))
    ]


def event_of(file: str) -> tuple[str, str] | None:
    """Return an event's id and the digits of its hash from its file's name; None for another."""
    match = _EVENT.fullmatch(file)
    return (match[1], match[2]) if match else None


@lru_cache(4096)
def is_own(room: str, file: str) -> bool:
    """Whether a file has a name that gtmar gives in `runs`, `experiments` or `events`."""
    return _OWN[room].fullmatch(file) is not None


def holds_rows_of(run_id: str, footer: bytes) -> bool:
    """Whether a file's rows are of a run, by the least and greatest `run_id` in its footer."""
    stated = run_id.encode()
    return len(stated) >= _SHORT or bytes([len(stated)]) + stated in footer


def replaced_names(file: str, listed: Iterable[str]) -> set[str]:
    """Return names of a run's parts that one of its files stands for.

    Parameters
    ----------
    listed
        Names of the parts that were packed into it, by its footer.
    """
    return {*listed} - {PACKED_NAME} if file == PACKED_NAME else set()


Looked = TypeVar("Looked")
Row: TypeAlias = "dict[str, Any]"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PARTS = "experiments"
_MAGIC = b"PAR1"
#: Magic, an empty footer's length, magic.
_LEAST_BYTES = 12
#: A footer's length, and magic.
_FOOTER_END = 8
#: Between a key and the length of its value: Thrift's mark for a text in the next field.
_VALUE_FOLLOWS = b"\x18"
#: Folders that a journal consists of.
_KINDS = (RECORDS, EXPERIMENTS, EVENTS)
#: How often a lock is asked for: whoever looks whether it is held holds it for a moment.
_LOCK_TRIES = 20
_LOCK_PAUSE = 0.01


def refuse_journal_elsewhere(path: str | Path) -> None:
    """Refuse a journal that isn't one local folder.

    A URL would be made as a folder of that name here, and what is written through a link in the
    journal would land in somebody's other folder.

    Raises
    ------
    UsageError
        If it is a URL, or begins with ``~``.
    JournalError
        If no file system has such a name, or its folder of records, experiments or events is a
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
    """Make a folder, and those above it that are missing, for the group that shares the journal."""
    if not path.parent.is_dir():
        make_folder(path.parent, exist_ok=True)
    there = path.is_dir()
    path.mkdir(exist_ok=exist_ok)
    if not there:
        share(path)


def share(path: Path) -> None:
    """Open a new file or folder to the group of its folder, where that group may write there.

    So a colleague's umask keeps nobody from a folder that was made for a group. Where the group
    mayn't write to the folder, the umask holds.
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
        # Not a member of that group: what is made stays its maker's.
        return


@contextmanager
def staged(path: Path, write: Callable[[IO[bytes]], object]) -> Iterator[Path]:
    """Give a file of the journal written beside its place, for the journal's group."""
    with outputs.staged(path, write) as beside:
        share(beside)
        yield beside


def place_file(path: Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file of the journal whole or not at all; the caller alone has its name."""
    write = content if callable(content) else lambda file: file.write(content)
    with staged(path, write) as beside:
        outputs.settle(beside, path, replace=True)


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


def unreadable(run_id: str, err: OSError) -> JournalError:
    """Word an operating system's refusal to let a run's file be read."""
    return JournalError(
        f'run {run_id}: "{err.filename}" can\'t be read: {err.strerror}',
        hint="ask its owner to let the folder's group read it: chmod -R g+rX",
    )


def open_lock(path: Path) -> IO[bytes]:
    """Open a file to lock, made where it isn't there; a link is not followed."""
    is_new = not path.exists()
    lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
    if is_new:
        share(path)
    return lock


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


def parquet_files(folder: Path) -> list[Path]:
    """List a folder's files that end in `.parquet`, by name; none where there is no folder.

    A folder that mayn't be read is a `PermissionError`: a pattern alone would say that it is empty.
    """
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(folder.glob("*.parquet"))


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


@dataclass(frozen=True)
class JournalFile:
    """A file's bytes, read once: its hash, its footer, its rows."""

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
        """The Parquet footer; empty where the file has no end."""
        return footer_of(self.data) if self.is_whole else b""

    @property
    def is_whole(self) -> bool:
        """Whether the file has both its ends."""
        data = self.data
        return len(data) >= _LEAST_BYTES and data[:4] == _MAGIC == data[-4:]

    def stated(self, key: bytes) -> bytes | None:
        """Return what the footer states under a key; None where it doesn't."""
        return stated_in(self.footer, key)

    def links(self) -> list[Link]:
        """Return the links that a file of readable footer stands for: more than one if packed."""
        try:
            listed = json.loads(self.stated(b"gtmar_packed") or b"null")
            if listed is not None:
                return [
                    Link(self.path, e["name"], e["place"], e["previous"], e["sha256"], packed=True)
                    for e in listed
                ]
            place = int(self.stated(b"gtmar_place") or b"-1")
        except (ValueError, KeyError, TypeError):
            place = -1
        previous = self.stated(b"gtmar_previous")
        before = "?" if previous is None else previous.decode("ascii", errors="replace")
        return [Link(self.path, self.path.name, place, before, self.sha256)]

    def table(self, columns: list[str] | None = None) -> pa.Table | None:
        """Return the rows; None where a page isn't what was written, by its checksum."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(pa.BufferReader(self.data), page_checksum_verification=True)
            # Parts are small: to share one out among threads takes longer than to read it.
            return file.read(columns, use_threads=False)
        except (pa.ArrowException, OSError):
            return None

    def row(self, columns: list[str] | None = None) -> Row | None:
        """Return the row of a record or an event; None where it isn't there or can't be read."""
        import pyarrow as pa

        table = self.table(columns) if self.is_whole else None
        try:
            rows = [] if table is None else plain_rows(table)
        except (pa.ArrowException, ValueError):
            rows = []
        return rows[0] if rows else None


def plain_rows(table: pa.Table) -> list[Row]:
    """Return a table's rows as Python values.

    Moments are made of their microseconds: Arrow would import pandas for them.
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
    """Return how the footers of a folder's files begin: with the columns of either format."""
    from gtmar.journal.schema import first_format, schema_of

    schema = schema_of(folder)
    return _columns_in_footer(schema), _columns_in_footer(first_format(schema))


def _columns_in_footer(schema: pa.Schema) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    footers = []
    for count in (0, 1):
        file = io.BytesIO()
        # Not from Python values: that would import pandas.
        rows = [pa.nulls(count, field.type) for field in schema]
        pq.write_table(pa.Table.from_arrays(rows, schema=schema), file)
        footers.append(footer_of(file.getvalue()))
    # After the columns comes the number of rows.
    pairs = enumerate(zip(*footers, strict=False))
    return footers[0][: next(at for at, (one, two) in pairs if one != two)]


def footer_of(data: bytes) -> bytes:
    """Return the footer of a Parquet file; empty where it isn't whole."""
    length = int.from_bytes(data[-_FOOTER_END:-4], "little")
    return data[-_FOOTER_END - length : -_FOOTER_END] if length < len(data) else b""


def row_count(file: JournalFile) -> int | None:
    """Return how many rows a file has, by its footer; None where that can't be read."""
    for columns in columns_in_footer(file.path.parent.parent.name):
        if file.footer.startswith(columns):
            # Thrift's variable-length integer, its sign in the lowest bit.
            return _varint(file.footer, len(columns))[0] >> 1
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: int = pq.read_metadata(pa.BufferReader(file.data)).num_rows
    except (pa.ArrowException, OSError):
        return None
    return rows


def read_rows(files: Sequence[JournalFile], columns: list[str] | None = None) -> list[Row | None]:
    """Return each file's first row; None where it can't be read. Sound files are read at once."""
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
    """Return what a footer states under a key: a length in Thrift's way, then text."""
    at = footer.rfind(key + _VALUE_FOLLOWS)
    if at < 0:
        return None
    length, at = _varint(footer, at + len(key) + 1)
    return footer[at : at + length]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number in Thrift's variable length, and where it ends."""
    number = shift = 0
    for byte in data[at : at + 10]:
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return number, at


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
        return self.journal / _PARTS / f"run_id={self.run_id}"

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

    def sealed(self) -> str | None:
        """Return the hash in the seal; None where there is no seal."""
        if not self.seal.is_file():
            return None
        return self.seal.read_bytes().decode("ascii", errors="replace").strip()

    def end_beside(self) -> bool:
        """Whether the end that is sealed lies beside its place still, as a kill leaves it."""
        sealed = self.sealed()
        beside = (path for path in self.records.glob("*.partial") if path.is_file())
        return sealed is not None and any(sha256_of(path) == sealed for path in beside)

    @property
    def parts(self) -> list[Path]:
        """Parts in order, whole or torn; what bears another name is none of the run's."""
        return [path for path in parquet_files(self.experiments) if is_own(_PARTS, path.name)]

    @property
    def whole_parts(self) -> list[Path]:
        """Parts in order, without torn ones and those that a packed part stands for."""
        parts = [part for part in self.parts if is_whole(part)]
        if len(parts) < 2:
            return parts
        listed = (link.name for link in JournalFile.load(parts[0]).links() if link.packed)
        replaced = replaced_names(parts[0].name, listed)
        return [part for part in parts if part.name not in replaced]

    def record(self, kind: str) -> dict[str, Any]:
        """Return a record's row.

        Raises
        ------
        RunNotFoundError
            If there is no such record.
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
            If a part isn't what was written.
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
        """Return what a search needs to go on from: each experiment's proposal and outcome."""
        columns = ["number", "proposal", "outcome", "weights", "value_after", "breaches"]
        return cast("list[Row]", self.rows().select(columns).to_pylist())

    def chain(self) -> list[Link]:
        """Return the run's links in their order, from the baseline on.

        It ends where no file names the one before; `integrity` says what that means.
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
