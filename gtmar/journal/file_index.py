"""What readers keep between commands, outside the journal: only ever a cache.

It lies in the user's cache folder, so that to read a journal changes no byte of it and a folder
that can't be written to reads as quickly. Each entry begins with the hash of its content: one that
was cut off or changed counts as absent, and is made anew. Whoever writes last wins; both entries
are right. Nothing that `verify` says rests on it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.journal.events import event_schema
from gtmar.journal.files import (
    RunFiles,
    event_of,
    holds_rows_of,
    is_own,
    replaced_names,
    run_of,
    stated_in,
)
from gtmar.journal.schema import experiment_schema, run_schema
from gtmar.journal.seal_chain import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["EVENTS", "EXPERIMENTS", "RECORDS", "SCHEMAS", "Cache", "Damage", "File", "FileIndex"]


_HASH_BYTES = 64
_JOURNAL = "journal"


@dataclass(frozen=True)
class Cache:
    """The cache of one journal.

    Parameters
    ----------
    folder
        Where its entries are; None where nothing is to be kept.
    journal
        The journal's folder.
    """

    folder: Path | None
    journal: Path

    @classmethod
    def of(cls, journal: Path) -> Self:
        """Return a journal's cache: below ``GTMAR_CACHE``, else the user's cache folder."""
        stated = os.environ.get("GTMAR_CACHE")
        if stated == "":
            return cls(None, journal)
        try:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gtmar"
        except RuntimeError:
            return cls(None, journal)
        name = hashlib.sha256(os.fsencode(journal)).hexdigest()[:16]
        return cls((Path(stated) if stated else home) / name, journal)

    def read(self, name: str) -> bytes | None:
        """Return an entry's content; None where there is none that is whole."""
        if self.folder is None:
            return None
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return None
        stated, kept = content[:_HASH_BYTES], content[_HASH_BYTES:]
        return kept if stated == _hash(kept) else None

    def write(self, name: str, content: bytes) -> None:
        """Keep an entry, whole or not at all; where that can't be done, it is left undone."""
        if self.folder is None:
            return
        with suppress(OSError):
            if not self.folder.is_dir():
                self._clear_abandoned()
                # Notes and specs are in it: nobody else's business.
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.folder / _JOURNAL).write_bytes(os.fsencode(self.journal))
            beside = self.folder / f"{name}.{secrets.token_hex(8)}"
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_hash(content))
                    file.write(content)
                beside.replace(self.folder / name)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise

    def _clear_abandoned(self) -> None:
        """Remove the caches of journals that are gone."""
        if self.folder is None or not self.folder.parent.is_dir():
            return
        for other in self.folder.parent.iterdir():
            marker = other / _JOURNAL
            if marker.is_file() and not os.path.isdir(marker.read_bytes()):  # noqa: PTH112 - bytes
                for entry in other.iterdir():
                    entry.unlink()
                other.rmdir()


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")


RECORDS = "runs"
EXPERIMENTS = "experiments"
EVENTS = "events"
#: The journal's folders, in the order in which they are listed: records first, so that whatever
#: parts a run had when it ended are seen with its end.
SCHEMAS = {RECORDS: run_schema, EXPERIMENTS: experiment_schema, EVENTS: event_schema}
_MAGIC = b"PAR1"
#: A footer's length, and magic.
_END_BYTES = 8
#: Read from a file's end at first; most footers are smaller.
_LIKELY_BYTES = 49_152
#: What is wrong with a file, as its footer or the way to it tells.
_CHANGED = "isn't what was written"
_CUT_OFF = "is cut off"
_FOREIGN = "is another's, under this name"
_HIDDEN = "is not yours to read"
_LINK = "is a link"
#: The cache is worth its files from this many on.
_MANY_FILES = 200
_ENTRY = "files"


@dataclass(frozen=True)
class Damage:
    """Why a run, or an event, is left out of answers."""

    #: Empty for an event.
    run_id: str
    #: File within the journal.
    file: str
    problem: str


@dataclass
class File:
    """What is known of a file without its rows."""

    #: Size, times of change in nanoseconds, inode.
    stamp: list[int]
    #: Why it is none of the journal as it was written; empty where it is.
    problem: str = ""
    #: Whether it has the columns that this version writes.
    alike: bool = False
    #: Format that it states; 0 where it states none.
    format: int = 0
    #: Files of the run that were written before it; -1 where it doesn't say.
    place: int = -1
    #: SHA-256 of the file before it; empty in the first.
    previous: str = ""
    #: Name, place, previous and SHA-256 of each part that was packed into it.
    packed: list[list[Any]] = field(default_factory=list)
    #: SHA-256 of its bytes; empty as long as nobody asked.
    sha256: str = ""

    @property
    def whole(self) -> bool:
        """Whether its rows can be read, be they those of another run."""
        return self.problem in ("", _FOREIGN)

    @property
    def withheld(self) -> bool:
        """Whether nothing is known of what is in it."""
        return self.problem in (_HIDDEN, _LINK)


class FileIndex:
    """The files of a journal's folder.

    Parameters
    ----------
    journal
        The folder.
    kept
        Its cache.
    """

    def __init__(self, journal: Path, kept: Cache) -> None:
        self._journal = journal
        self._cache = kept
        self._files: dict[str, File] = {}
        self._changed = False
        self._packings: dict[str, set[str]] | None = None
        self._damage: dict[str, tuple[Damage, ...]] = {}
        #: By run that has ended and was found sound, the state of its files then.
        self._sound: dict[str, str] = {}
        self.look()

    def look(self) -> None:
        """List the files; those gone meanwhile are passed over.

        So is what isn't the journal's own: second copies that a sync leaves, of files, and of
        folders in which no file is of the run that they name.
        """
        known = self._files or self._remembered()
        #: Names of files by folder and run; events are those of a run without a name.
        self.names: dict[str, dict[str, list[str]]] = {}
        files: dict[str, File] = {}
        self._damage, self._packings = {}, None
        for folder in SCHEMAS:
            found = self.names[folder] = {}
            for run_id, entries in self._listed(folder):
                group: dict[str, File] = {}
                for name, entry in entries:
                    with suppress(FileNotFoundError):
                        group[name] = self._known(folder, run_id, name, entry, known)
                if group and not all(file.problem == _FOREIGN for file in group.values()):
                    found[run_id] = list(group)
                # Copies are known too, so that they needn't be looked into again.
                files |= group
        self._changed |= len(known) != len(files)
        self._files = files

    def _known(
        self,
        folder: str,
        run_id: str,
        name: str,
        entry: os.DirEntry[str],
        known: dict[str, File],
    ) -> File:
        """Return what is known of a file, or folder, looked at anew where it isn't as it was."""
        status = entry.stat(follow_symlinks=False)
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        file = known.get(name)
        # Rights change with whoever asks, too.
        if file is None or file.stamp != stamp or file.withheld:
            self._changed = True
            if entry.is_symlink():
                return File(stamp, _LINK)
            try:
                file = _facts(entry.path, stamp, _form(folder)[1], run_id)
            except (PermissionError, IsADirectoryError):
                return File(stamp, _HIDDEN)
        return file

    def _listed(self, folder: str) -> Iterator[tuple[str, list[tuple[str, os.DirEntry[str]]]]]:
        """Give the runs of a folder, and by name the entries of each that are the journal's own.

        A folder of a run that is a link, or mayn't be listed, stands for its files.
        """
        top = self._journal / folder
        if not top.is_dir():
            return
        if folder == EVENTS:
            with os.scandir(top) as entries:
                own = {f"{folder}/{e.name}": e for e in entries if is_own(folder, e.name)}
            yield "", sorted(own.items())
            return
        with os.scandir(top) as entries:
            runs = sorted((run, e) for e in entries if (run := run_of(e.name)) is not None)
        for run_id, place in runs:
            name = f"{folder}/{place.name}"
            own = {name: place}
            if not place.is_symlink():
                with suppress(PermissionError):
                    try:
                        with os.scandir(place.path) as entries:
                            own = {f"{name}/{e.name}": e for e in entries if is_own(folder, e.name)}
                    except (FileNotFoundError, NotADirectoryError):
                        continue
            yield run_id, sorted(own.items())

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> File:
        return self._files[name]

    def path(self, name: str) -> str:
        """Return where a file is."""
        return f"{self._journal}/{name}"

    @property
    def run_ids(self) -> list[str]:
        """Return the ids of all runs that have a file, in order."""
        return sorted({*self.names[RECORDS], *self.names[EXPERIMENTS]})

    @property
    def newest_format(self) -> int:
        """The newest format that a file states."""
        return max((file.format for file in self._files.values()), default=0)

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None where they aren't those that were hashed."""
        with open(self.path(name), "rb") as file:  # noqa: PTH123 - thousands of them
            content = file.read()
        return content if hashlib.sha256(content).hexdigest() == self.sha256(name) else None

    def sha256(self, name: str) -> str:
        """Return the hash of a file's bytes: read once, then known by size, times and inode."""
        file = self._files[name]
        if not file.sha256:
            with open(self.path(name), "rb") as opened:  # noqa: PTH123 - thousands of them
                file.sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
            self._changed = True
        return file.sha256

    def rehash(self, runs: Iterable[str]) -> None:
        """Forget the hashes of some runs' files: bytes may change though nothing says so."""
        for run_id in runs:
            self._damage.pop(run_id, None)
            self._sound.pop(run_id, None)
            for folder in (RECORDS, EXPERIMENTS):
                for name in self.names[folder].get(run_id, ()):
                    self._files[name].sha256 = ""

    def condemn(self, damage: Damage) -> None:
        """Add what the rows of a run have brought out."""
        self._damage[damage.run_id] = (*self._damage.get(damage.run_id, ()), damage)

    # ---- whether a run is sound --------------------------------------------------------------

    def files(self, folder: str, run_id: str) -> list[str]:
        """Return a run's files that hold rows: whole, and not packed into another since."""
        names = [n for n in self.names[folder].get(run_id, ()) if self._files[n].whole]
        replaced = {
            part
            for name in names
            if self._files[name].packed
            for part in replaced_names(_last(name), (p[0] for p in self._files[name].packed))
        }
        return [name for name in names if _last(name) not in replaced] if replaced else names

    def damage(self, run_id: str) -> tuple[Damage, ...]:
        """Return what is wrong with a run's files, by the hashes that they carry of each other."""
        found = self._damage.get(run_id)
        if found is None:
            state = self._state(run_id)
            if state is not None and self._sound.get(run_id) == state:
                found = ()
            else:
                try:
                    found = tuple(self._examine(run_id))
                except FileNotFoundError:
                    # Its parts have been packed since they were listed.
                    self.look()
                    state, found = self._state(run_id), tuple(self._examine(run_id))
                if state is not None and not found:
                    self._sound[run_id] = state
                    self._changed = True
            self._damage[run_id] = found
        return found

    def _state(self, run_id: str) -> str | None:
        """Return a hash over the sizes and times of a run's files; None for one without an end."""
        if f"{RECORDS}/run_id={run_id}/end.parquet" not in self._files:
            return None
        names = [n for f in (RECORDS, EXPERIMENTS) for n in self.names[f].get(run_id, ())]
        stamps = repr([(name, self._files[name].stamp) for name in names])
        return hashlib.blake2b(stamps.encode(), digest_size=16).hexdigest()

    def event_damage(self) -> list[Damage]:
        """Return the events whose bytes aren't those that their name says."""
        found = []
        for name in self.names[EVENTS].get("", ()):
            _, stated = event_of(_last(name)) or ("", "")
            problem = self._files[name].problem
            if not problem and not self.sha256(name).startswith(stated):
                problem = _CHANGED
            if problem:
                found.append(Damage("", name, problem))
        return found

    def _examine(self, run_id: str) -> list[Damage]:
        names = [
            name for folder in (RECORDS, EXPERIMENTS) for name in self.names[folder].get(run_id, ())
        ]
        withheld = [Damage(run_id, n, f.problem) for n in names if (f := self._files[n]).withheld]
        if withheld:
            # The rest can't be held against a chain.
            return withheld
        rows = {n for folder in (RECORDS, EXPERIMENTS) for n in self.files(folder, run_id)}
        files = RunFiles(self._journal, run_id)
        end = f"{RECORDS}/run_id={run_id}/end.parquet"
        ended = end in names
        # Sealed before it is put in its place: a cut between the two leaves it beside.
        placed = files.end, files.end.with_suffix(".partial")
        sealed = not ended and files.seal.is_file() and not files.running()
        if sealed and not any(path.is_file() for path in placed):
            return [Damage(run_id, end, "is missing")]
        if not ended and not self.names[EXPERIMENTS].get(run_id):
            # Nothing that an answer could rest on.
            return []
        torn = [name for name in names if self._files[name].problem]
        parts = self.names[EXPERIMENTS].get(run_id, [])
        newest = None if ended else files.newest()
        cut_short = not ended and torn == parts[-1:] and self._files[torn[0]].problem == _CUT_OFF
        if cut_short:
            # Its writer was cut off there: gtmar resume goes on before it.
            torn = []
        found = [Damage(run_id, name, self._files[name].problem) for name in torn]
        links: dict[int, tuple[str, str, str]] = {}
        for name in sorted(rows):
            file = self._files[name]
            stated = file.packed or [["", file.place, file.previous, self.sha256(name)]]
            for _, place, previous, sha256 in stated:
                if place in links:
                    found.append(Damage(run_id, name, "is a file too many"))
                elif place >= 0:
                    links[place] = (name, previous, sha256)
        placeless = [n for n in rows if self._files[n].place < 0 and not self._files[n].packed]
        if placeless:
            # Files of the time before there were places: what they name is all that can be held.
            named = {previous for _, previous, _ in links.values()}
            found += [
                Damage(run_id, name, _CHANGED)
                for name in sorted(placeless)
                if links and self.sha256(name) not in named
            ]
            return found
        found += self._broken(files, links, ended=ended)
        found += self._repacked(files, rows)
        last = max(links, default=-1)
        if ended and end in rows:
            last = max(last, self._files[end].place)
        elif not cut_short and newest and newest[0] > last and not files.running():
            last = newest[0]
        gone = [place for place in range(last + 1) if place not in links]
        if gone and not found:
            found.append(self._missing(run_id, gone, links))
        return found

    def _broken(
        self, files: RunFiles, links: dict[int, tuple[str, str, str]], *, ended: bool
    ) -> list[Damage]:
        """Walk a chain from its last file to the first: each must have the hash that is stated."""
        last = max(links, default=-1)
        expected = ""
        if ended:
            if files.seal.is_file():
                expected = files.seal.read_bytes().decode("ascii", errors="replace").strip()
        else:
            newest = files.newest()
            if newest is not None and newest[0] == last:
                expected = newest[1]
        found = []
        for place in range(last, -1, -1):
            if place not in links:
                expected = ""
                continue
            name, previous, sha256 = links[place]
            if expected and expected != sha256:
                found.append(Damage(files.run_id, name, _CHANGED))
                previous = ""
            expected = previous
        return found

    def _repacked(self, files: RunFiles, rows: Iterable[str]) -> list[Damage]:
        """Hold a packed file against the record of its packing, where that is there."""
        packed = [name for name in rows if self._files[name].packed]
        if not packed:
            return []
        if self._packings is None:
            from gtmar.journal.verify import packings

            self._packings = packings(self._journal)
        on_record = self._packings.get(files.run_id)
        return [
            Damage(files.run_id, name, "isn't what was packed")
            for name in packed
            if on_record is not None and self.sha256(name) not in on_record
        ]

    def _missing(
        self, run_id: str, gone: list[int], links: dict[int, tuple[str, str, str]]
    ) -> Damage:
        """Name the first file that is missing, as far as the numbers of the others tell."""
        name = f"{RECORDS}/run_id={run_id}/start.parquet"
        if name in self._files:
            part, following = self._lowest_missing(EXPERIMENTS, run_id, "part")
            resume, next_resume = self._lowest_missing(RECORDS, run_id, "resume")
            goes_on = any(
                place > gone[0] and link[0].startswith(EXPERIMENTS) for place, link in links.items()
            )
            if part is None and (goes_on or resume is not None):
                name = f"{RECORDS}/run_id={run_id}/resume-{resume or next_resume}.parquet"
            else:
                name = f"{EXPERIMENTS}/run_id={run_id}/part-{part or following:06d}.parquet"
        rest = f", and {len(gone) - 1:,} more" if len(gone) > 1 else ""
        return Damage(run_id, name, f"is missing{rest}")

    def _lowest_missing(self, folder: str, run_id: str, kind: str) -> tuple[int | None, int]:
        """Return the lowest number that lacks among numbered files, and the one after the last."""
        found = self.names[folder].get(run_id, [])
        names = [_last(name) for name in found]
        names += [part[0] for name in found for part in self._files[name].packed]
        numbers = {number for name in names if (number := number_of(name, kind)) is not None}
        following = max(numbers, default=0) + 1
        return next((n for n in range(1, following) if n not in numbers), None), following

    # ---- what is remembered of files ---------------------------------------------------------

    def _remembered(self) -> dict[str, File]:
        content = self._cache.read(_ENTRY)
        with suppress(ValueError, TypeError, LookupError):
            kept = json.loads(content or b"")
            if kept["columns"] == _columns():
                files = {name: File(*values) for name, values in kept["files"].items()}
                self._sound = dict(kept["sound"])
                return files
        return {}

    def keep(self) -> None:
        """Write down what was learnt, where it is worth a file."""
        if self._changed and len(self._files) >= _MANY_FILES:
            kept = {name: astuple(file) for name, file in self._files.items()}
            content = {"columns": _columns(), "files": kept, "sound": self._sound}
            self._cache.write(_ENTRY, json.dumps(content, separators=(",", ":")).encode())
        self._changed = False


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _why_not_whole(path: str) -> str:
    """Say whether a file lost its end, as a loss of power leaves it, or was changed at one."""
    with open(path, "rb") as file:  # noqa: PTH123
        begin = file.read(len(_MAGIC))
        file.seek(max(0, file.seek(0, 2) - len(_MAGIC)))
        end = file.read(len(_MAGIC))
    alike = sum(one == other for one, other in zip(end, _MAGIC, strict=False))
    lost = begin == _MAGIC[: len(begin)] and alike < len(_MAGIC) - 1
    return _CUT_OFF if lost else _CHANGED


def _facts(path: str, stamp: list[int], columns: bytes, run_id: str) -> File:
    """Read what a file's footer states, and hold it against the run or event that it is of."""
    footer = _footer(path)
    if footer is None:
        return File(stamp, _why_not_whole(path))
    event = None if run_id else event_of(_last(path))
    owner = run_id if event is None else event[0]
    file = File(
        stamp,
        "" if holds_rows_of(owner, footer) else _FOREIGN,
        alike=footer.startswith(columns),
    )
    with suppress(ValueError, LookupError, TypeError):
        file.format = int(stated_in(footer, b"gtmar_format") or b"0")
        file.place = int(stated_in(footer, b"gtmar_place") or b"-1")
        file.previous = (stated_in(footer, b"gtmar_previous") or b"").decode("ascii")
        listed = json.loads(stated_in(footer, b"gtmar_packed") or b"[]")
        file.packed = [[e["name"], e["place"], e["previous"], e["sha256"]] for e in listed]
    return file


@cache
def _columns() -> str:
    """Return a hash of the columns that this version writes."""
    return hashlib.sha256(b"".join(_form(folder)[1] for folder in SCHEMAS)).hexdigest()


@cache
def _form(folder: str) -> tuple[bytes, bytes]:
    """Return a file of a folder's schema without rows, and how the footers of its like begin."""
    schema = SCHEMAS[folder]()
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
