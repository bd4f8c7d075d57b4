"""The index of a journal's files, and a cache of it between commands.

The cache is in the user's cache folder, so that reading a journal changes no byte of it, and a
read-only journal is read as quickly. Each entry begins with the hash of its content; one that was
cut off or changed counts as absent and is built again. Of two writers the last one wins, as both
entries are right. `verify` never relies on the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field, fields, replace
from functools import cache, cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gtmar.journal.columns import EVENTS, EXPERIMENTS, RECORDS, columns_of
from gtmar.journal.files import (
    JournalFile,
    Link,
    RunFiles,
    columns_in_footer,
    event_of,
    holds_rows_of,
    is_own,
    replaced_names,
    run_of,
)
from gtmar.journal.seal_chain import find_breaks, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Cache", "Damage", "File", "FileIndex"]


_HASH_BYTES = 64
_JOURNAL = "journal"
#: The folders of the journal in which a run has its own.
_ROOMS = (RECORDS, EXPERIMENTS)


@dataclass(frozen=True)
class Cache:
    """The cache of one journal.

    Parameters
    ----------
    folder
        Folder of the entries; None to keep nothing.
    journal
        The journal's folder.
    """

    folder: Path | None
    journal: Path

    @classmethod
    def of(cls, journal: Path) -> Self:
        """Return a journal's cache, in ``GTMAR_CACHE`` or else the user's cache folder.

        If that variable is set but empty, nothing is kept.
        """
        stated = os.environ.get("GTMAR_CACHE")
        if stated == "":
            return cls(None, journal)
        try:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gtmar"
        except RuntimeError:
            return cls(None, journal)
        name = hashlib.sha256(os.fsencode(journal)).hexdigest()[:16]
        return cls((Path(stated) if stated else home) / name, journal)

    def path(self, name: str) -> Path | None:
        """Return the path of an entry; None if nothing is kept."""
        return None if self.folder is None else self.folder / name

    def read(self, name: str) -> bytes | None:
        """Return an entry's content; None if there is none, or it is damaged."""
        path = self.path(name)
        try:
            content = b"" if path is None else path.read_bytes()
        except OSError:
            return None
        stated, kept = content[:_HASH_BYTES], content[_HASH_BYTES:]
        return kept if stated == _hash(kept) else None

    def write(self, name: str, content: bytes) -> None:
        """Write an entry, whole or not at all; errors of the file system are ignored."""

        def fill(beside: Path) -> None:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(_hash(content))
                file.write(content)

        with suppress(OSError):
            self.place(name, fill)

    @contextmanager
    def linked(self, name: str) -> Iterator[Path]:
        """Provide a second name (hard link) of an entry, in a folder that is removed afterwards.

        A locked DuckDB connection can still access a file that it has attached, under the name that
        it was attached by. Nothing can be read or written under a name that is gone.
        """
        path = self.path(f"{name}.{secrets.token_hex(8)}")
        if self.folder is None or path is None:
            raise FileNotFoundError(name)
        path.mkdir(mode=0o700)
        try:
            (path / name).hardlink_to(self.folder / name)
            yield path / name
        finally:
            (path / name).unlink(missing_ok=True)
            path.rmdir()

    def remove(self, name: str) -> None:
        """Remove an entry."""
        if (path := self.path(name)) is not None:
            with suppress(OSError):
                path.unlink()

    def place(self, name: str, fill: Callable[[Path], None]) -> None:
        """Write an entry by `fill`, which gets a temporary path; errors of writing are raised."""
        if self.folder is None:
            return
        if not self.folder.is_dir():
            self._clear_abandoned()
            # Private, as it holds notes and specs.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / _JOURNAL).write_bytes(os.fsencode(self.journal))
        beside = self.folder / f"{name}.{secrets.token_hex(8)}"
        try:
            fill(beside)
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
                shutil.rmtree(other, ignore_errors=True)


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")


_MAGIC = b"PAR1"
#: Problems of a file that its footer or its path shows.
_CHANGED = "isn't what was written"
_CUT_OFF = "is cut off"
_FOREIGN = "is another's, under this name"
_HIDDEN = "is not yours to read"
_LINK = "is a link"
#: Problems of a file that its position in the chain shows.
_BROKEN = {"changed": _CHANGED, "added": "is a file too many"}
#: Number of files from which a cache is worthwhile.
_MANY_FILES = 200
#: Fewest files of a run.
_FILES_OF_A_RUN = 3
_ENTRY = "files"
_STATE_DIGITS = 32
#: Nanoseconds within which a second change of a folder may leave its time the same.
_SETTLED = 2_000_000_000
#: File with the hash of a run's end record; not Parquet, but a change of it changes the run.
_SEAL = "seal"


@dataclass(frozen=True)
class Damage:
    """A problem because of which a run, or an event, is left out of answers."""

    #: Empty for an event.
    run_id: str
    #: Path of the file within the journal.
    file: str
    problem: str


@dataclass
class File:
    """The properties of a file, without its rows."""

    #: Size, modification and change time in nanoseconds, inode.
    stamp: list[int]
    #: Why the file isn't as the journal's writer left it; empty if it is.
    problem: str = ""
    #: Whether it has the columns that this version writes.
    alike: bool = False
    #: Format in its footer; 0 if there is none.
    format: int = 0
    #: Name, place, previous and SHA-256 of each `Link` of the file: its own, or those of the parts
    #: that were packed into it.
    links: list[list[Any]] = field(default_factory=list)
    packed: bool = False
    #: SHA-256 of its bytes; empty if they can't be read.
    sha256: str = ""

    @property
    def whole(self) -> bool:
        """Whether its rows can be read, even if they are of another run."""
        return self.problem in ("", _FOREIGN)

    @property
    def withheld(self) -> bool:
        """Whether its content is not accessible."""
        return self.problem in (_HIDDEN, _LINK)


@dataclass
class _Listing:
    """The files of a run at one moment."""

    #: Paths within the journal, by folder.
    names: dict[str, list[str]]
    #: Size, times and inode by path; for an inaccessible file, the problem.
    stamps: dict[str, list[int] | str]
    #: Size, times and inode of each folder before it was listed, unless it had just changed.
    folders: dict[str, list[int]] = field(default_factory=dict)

    @cached_property
    def state(self) -> str:
        """A hash that changes with any file; must not be read before all files are listed."""
        return hashlib.sha256(repr(self.stamps).encode()).hexdigest()[:_STATE_DIGITS]


@dataclass(frozen=True)
class _Sound:
    """A run that has ended and whose files are as they were written."""

    #: `_Listing.state`.
    state: str
    #: Whether all its files have the columns that this version writes.
    alike: bool
    #: Hash over the hashes of the files that hold its rows, by folder.
    content: dict[str, str]
    #: Names of parts that a packed part replaces.
    replaced: list[str]
    #: `_Listing.folders`, and the paths in `_Listing.stamps`. While a folder is unchanged, so are
    #: the names in it.
    folders: dict[str, list[int]]
    stamped: list[str]


class FileIndex:
    """The files of a journal; those of a run are examined when first needed."""

    def __init__(self, journal: Path, kept: Cache) -> None:
        self._journal = journal
        self._cache = kept
        self._changed = False
        self._sound: dict[str, _Sound] = {}
        self._files: dict[str, File] = {}
        #: The newest format in the files that have been read.
        self.newest_format = 0
        self._remember()
        self.look()

    def look(self) -> None:
        """List the folders again, and forget the lists of their files.

        Files and folders that aren't the journal's own are skipped, such as the second copies that
        a sync leaves.
        """
        self._listings: dict[str, _Listing] = {}
        self._damage: dict[str, tuple[Damage, ...]] = {}
        self._packings: dict[str, set[str]] | None = None
        #: The runs in each folder, and whether the run's folder is a link.
        self._folders: dict[str, dict[str, bool]] = {}
        for folder in _ROOMS:
            self._folders[folder] = runs = {}
            if (self._journal / folder).is_dir():
                with os.scandir(self._journal / folder) as entries:
                    for entry in entries:
                        if (run_id := run_of(entry.name)) is not None:
                            runs[run_id] = entry.is_symlink()
        listing = self._listed_events()
        self._changed |= self._files.keys() - listing.stamps.keys() != set()
        events = {n: f for n, f in self._files.items() if listing.stamps.get(n) == f.stamp}
        self._files = events
        self._listings[""] = listing
        for name in listing.names[EVENTS]:
            self._note_format(self[name])

    def _listed_events(self) -> _Listing:
        listing = _Listing({EVENTS: []}, {})
        if (self._journal / EVENTS).is_dir():
            with os.scandir(self._journal / EVENTS) as entries:
                self._take_in(listing, EVENTS, EVENTS, entries)
        return listing

    def _take_in(
        self, listing: _Listing, folder: str, within: str, entries: Iterable[os.DirEntry[str]]
    ) -> None:
        for entry in sorted(entries, key=attrgetter("name")):
            is_seal = folder == RECORDS and entry.name == _SEAL
            if not (is_seal or is_own(folder, entry.name)):
                continue
            with suppress(FileNotFoundError):
                name, status = f"{within}/{entry.name}", entry.stat(follow_symlinks=False)
                listing.stamps[name] = _LINK if entry.is_symlink() else _stamp(status)
                if not is_seal:
                    listing.names[folder].append(name)

    def _listing(self, run_id: str) -> _Listing:
        """Return a run's files; records are listed first, so no part before the end is missed."""
        listing = self._listings.get(run_id)
        if listing is None:
            sound = self._sound.get(run_id)
            listing = None if sound is None else self._unchanged(run_id, sound)
            if listing is None:
                listing = _Listing({RECORDS: [], EXPERIMENTS: []}, {})
                for folder in _ROOMS:
                    is_link = self._folders[folder].get(run_id)
                    if is_link is not None:
                        within = f"{folder}/run_id={run_id}"
                        self._list_folder(listing, folder, within, is_link=is_link)
            self._listings[run_id] = listing
            if not self._is_known_sound(run_id):
                self._drop_copies(listing)
            elif sound and listing.folders != sound.folders:
                self._sound[run_id] = replace(sound, folders=listing.folders)
                self._changed = True
        return listing

    def _unchanged(self, run_id: str, sound: _Sound) -> _Listing | None:
        """Return the earlier list of a run's files; None if a folder or a file has changed."""
        if len(sound.folders) < len(_ROOMS):
            return None
        try:
            for room in _ROOMS:
                within = f"{room}/run_id={run_id}"
                if _stamp(os.lstat(self.path(within))) != sound.folders.get(within):
                    return None
            stamps = {name: _stamp(os.lstat(self.path(name))) for name in sound.stamped}
        except OSError:
            return None
        names = {
            room: [n for n in stamps if n.startswith(room) and not n.endswith(_SEAL)]
            for room in _ROOMS
        }
        listing = _Listing(names, {**stamps}, sound.folders)
        return listing if listing.state == sound.state else None

    def _list_folder(self, listing: _Listing, folder: str, within: str, *, is_link: bool) -> None:
        """List a folder; one that is a link or can't be read is listed itself, as a problem."""
        problem = _LINK if is_link else ""
        try:
            if not is_link:
                status = os.lstat(self.path(within))
                if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED:
                    listing.folders[within] = _stamp(status)
                with os.scandir(self.path(within)) as entries:
                    self._take_in(listing, folder, within, entries)
        except PermissionError:
            problem = _HIDDEN
        except (FileNotFoundError, NotADirectoryError):
            return
        if problem:
            listing.stamps[within] = problem
            listing.names[folder] = [within]

    def _drop_copies(self, listing: _Listing) -> None:
        for folder, names in listing.names.items():
            files = {}
            for name in names:
                with suppress(FileNotFoundError):
                    files[name] = self[name]
                    self._note_format(files[name])
            copied = all(file.problem == _FOREIGN for file in files.values())
            listing.names[folder] = [] if copied else list(files)

    def _note_format(self, file: File) -> None:
        self.newest_format = max(self.newest_format, file.format)

    def __contains__(self, name: str) -> bool:
        folder, run_id = _owner(name)
        return name in self._listing(run_id).names.get(folder, ())

    def __getitem__(self, name: str) -> File:
        file = self._files.get(name)
        if file is None:
            folder, run_id = _owner(name)
            stamp = self._listing(run_id).stamps[name]
            if isinstance(stamp, str):
                file = File([], stamp)
            else:
                try:
                    file = _facts(self.path(name), stamp, columns_in_footer(folder), run_id)
                except (PermissionError, IsADirectoryError):
                    # The cache doesn't keep this, as permissions depend on the reader.
                    file = File([], _HIDDEN)
                self._changed |= folder == EVENTS
            self._files[name] = file
        return file

    def path(self, name: str) -> str:
        """Return the full path of a file."""
        return f"{self._journal}/{name}"

    @property
    def folder_names(self) -> list[str]:
        """Ids of all runs that have a folder of records, in order; no file is read."""
        return sorted(self._folders[RECORDS])

    @property
    def is_large(self) -> bool:
        """Whether the journal has so many files that a cache is worthwhile."""
        return len(self.events) + _FILES_OF_A_RUN * len(self._folders[RECORDS]) >= _MANY_FILES

    @property
    def run_ids(self) -> list[str]:
        """Ids of all runs that have a file, in order."""
        ids = sorted({*self._folders[RECORDS], *self._folders[EXPERIMENTS]})
        return [run for run in ids if any(self._listing(run).names.values())]

    def has_begun(self, run_id: str) -> bool:
        """Return whether a run has a start record."""
        return f"{RECORDS}/run_id={run_id}/start.parquet" in self

    def has_ended(self, run_id: str) -> bool:
        """Return whether a run has an end record."""
        return f"{RECORDS}/run_id={run_id}/end.parquet" in self

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes; None if they have changed since they were hashed."""
        with open(self.path(name), "rb") as file:  # noqa: PTH123 - thousands of them
            content = file.read()
        return content if hashlib.sha256(content).hexdigest() == self.sha256(name) else None

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file's bytes; empty if they can't be read."""
        return self[name].sha256

    def rehash(self, runs: Iterable[str]) -> None:
        """Forget the files of some runs, so that changes that left no trace in times are found."""
        for run_id in runs:
            self._damage.pop(run_id, None)
            self._sound.pop(run_id, None)
            for name in self._listing(run_id).stamps:
                self._files.pop(name, None)

    # ---- whether a run is sound --------------------------------------------------------------

    def files(self, folder: str, run_id: str) -> list[str]:
        """Return a run's files that hold rows: whole, and not replaced by a packed part."""
        names = self._listing(run_id).names.get(folder, [])
        if self._is_known_sound(run_id):
            replaced = {*self._sound[run_id].replaced}
        else:
            names = [name for name in names if self[name].whole]
            replaced = self._replaced(names)
        return [name for name in names if _last(name) not in replaced] if replaced else names

    def _replaced(self, names: Iterable[str]) -> set[str]:
        return {
            part
            for name in names
            if self[name].packed
            for part in replaced_names(_last(name), (link[0] for link in self[name].links))
        }

    def are_small(self, group: str, names: Iterable[str], most: int) -> bool:
        """Return whether files of a run or event have this version's columns, and few bytes each.

        `most` is the largest size in bytes.
        """
        known = self._is_known_sound(group)
        if known and not self._sound[group].alike:
            return False
        names = [*names]
        stamps = self._listing(_owner(names[0])[1]).stamps if names else {}
        return all(
            (known or self[n].alike) and not isinstance(s := stamps[n], str) and s[0] <= most
            for n in names
        )

    def content(self, folder: str, group: str, names: Iterable[str]) -> str:
        """Return a hash over the hashes of the files of a run or event."""
        if self._is_known_sound(group):
            return self._sound[group].content[folder]
        joined = "".join(self.sha256(name) for name in names)
        return hashlib.sha256(joined.encode()).hexdigest()[:32]

    def _is_known_sound(self, run_id: str) -> bool:
        sound, listing = self._sound.get(run_id), self._listings.get(run_id)
        return sound is not None and listing is not None and sound.state == listing.state

    def damage(self, run_id: str) -> tuple[Damage, ...]:
        """Return the problems of a run's files, which carry hashes of each other."""
        damage = self._damage.get(run_id)
        if damage is None:
            self._listing(run_id)
            damage = () if self._is_known_sound(run_id) else self._examined(run_id)
            self._damage[run_id] = damage
        return damage

    def _examined(self, run_id: str) -> tuple[Damage, ...]:
        try:
            damage = tuple(self._examine(run_id))
        except FileNotFoundError:
            # Its parts were packed after they were listed.
            self.look()
            damage = tuple(self._examine(run_id))
        if not damage and self.has_ended(run_id):
            listing = self._listing(run_id)
            held = {folder: self.files(folder, run_id) for folder in listing.names}
            self._sound[run_id] = _Sound(
                state=listing.state,
                alike=all(self[name].alike for names in held.values() for name in names),
                content={f: self.content(f, run_id, names) for f, names in held.items()},
                replaced=sorted(self._replaced(listing.names[EXPERIMENTS])),
                folders=listing.folders,
                stamped=list(listing.stamps),
            )
            self._changed = True
        return damage

    def event_damage(self) -> list[Damage]:
        """Return the problems of events, whose file names carry hashes."""
        damage = []
        for name in self._listings[""].names[EVENTS]:
            _, stated = event_of(_last(name)) or ("", "")
            problem = self[name].problem
            if not problem and not self.sha256(name).startswith(stated):
                problem = _CHANGED
            if problem:
                damage.append(Damage("", name, problem))
        return damage

    @property
    def events(self) -> list[str]:
        """Paths of the events' files, damaged ones included."""
        return self._listings[""].names[EVENTS]

    def _examine(self, run_id: str) -> list[Damage]:
        listed = self._listing(run_id).names
        parts = listed[EXPERIMENTS]
        names = [*listed[RECORDS], *parts]
        withheld = [Damage(run_id, n, f.problem) for n in names if (f := self[n]).withheld]
        if withheld:
            # The chain can't be checked without these files.
            return withheld
        rows = {n for folder in _ROOMS for n in self.files(folder, run_id)}
        files = RunFiles(self._journal, run_id)
        end = f"{RECORDS}/run_id={run_id}/end.parquet"
        ended = end in names
        # The end record is sealed before its file is renamed into place; after a kill between the
        # two steps, it is found beside its place.
        sealed = not ended and files.seal.is_file() and not files.running()
        if sealed and not (files.end.is_file() or files.end_beside()):
            return [Damage(run_id, end, "is missing")]
        if not ended and not parts:
            # A run without experiments is in no answer.
            return []
        torn = [name for name in names if self[name].problem]
        newest = None if ended else files.newest()
        cut_short = not ended and torn == parts[-1:] and self[torn[0]].problem == _CUT_OFF
        if cut_short:
            # The writer was killed while it wrote this part; gtmar resume puts it aside.
            torn = []
        damage = [Damage(run_id, name, self[name].problem) for name in torn]
        links = [link for name in sorted(rows) for link in self._links(name)]
        placeless = {_last(name) for name in rows} & {x.name for x in links if x.position < 0}
        if placeless:
            # Files written before there were places: only the hashes that others name can be
            # checked.
            named = {x.previous for x in links if x.position >= 0}
            return damage + [
                Damage(run_id, self._within(x.path), _CHANGED)
                for x in links
                if x.position < 0 and named and x.sha256 not in named
            ]
        sealed_as = files.sealed() if ended else None
        if ended and sealed_as is None:
            # The seal is written before the end record, which can't be checked without it.
            damage.append(Damage(run_id, f"{RECORDS}/run_id={run_id}/{_SEAL}", "is missing"))
        elif ended and end in rows and self.sha256(end) != sealed_as:
            damage.append(Damage(run_id, end, _CHANGED))
        damaged = [Path(self.path(name)) for name in names if self[name].problem]
        breaks = find_breaks(files, links, damaged, (), rows_hold=False)
        damage += [
            Damage(run_id, self._within(path), _BROKEN[kind])
            for path, (kind, _) in breaks.items()
            if kind in _BROKEN
        ]
        damage += self._repacked(files, rows)
        gone = [self._within(path) for path, (kind, _) in breaks.items() if kind == "missing"]
        last = max((link.position for link in links), default=-1)
        if newest and newest[0] > last and not (cut_short or files.running()):
            numbers = [number_of(link.name, "part") or 0 for link in links]
            after = max(numbers, default=0) + 1
            gone += [
                f"{EXPERIMENTS}/run_id={run_id}/part-{after + n:06d}.parquet"
                for n in range(newest[0] - last)
            ]
        if gone and not damage:
            rest = f", and {len(gone) - 1:,} more" if len(gone) > 1 else ""
            damage.append(Damage(run_id, min(gone), f"is missing{rest}"))
        return damage

    def _links(self, name: str) -> list[Link]:
        file, path = self[name], Path(self.path(name))
        return [
            Link(path, part, position, previous, sha256, file.packed)
            for part, position, previous, sha256 in file.links
        ]

    def _within(self, path: Path) -> str:
        return path.relative_to(self._journal).as_posix()

    def _repacked(self, files: RunFiles, rows: Iterable[str]) -> list[Damage]:
        """Compare packed files with the events of their packing, if there are any."""
        packed = [name for name in rows if self[name].packed]
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

    # ---- the cached properties of files ------------------------------------------------------

    def _remember(self) -> None:
        """Load the cached properties of files, if they are of this version."""
        with suppress(ValueError, TypeError, LookupError):
            kept = json.loads(self._cache.read(_ENTRY) or b"")
            if kept["columns"] == _written():
                events = {name: File(*values) for name, values in kept["events"].items()}
                self._sound = {run: _Sound(*values) for run, values in kept["sound"].items()}
                self._files = events

    def keep(self) -> None:
        """Write the properties of files to the cache, if they have changed and are many."""
        if not self._changed:
            return
        events = {name: astuple(self[name]) for name in self.events if not self[name].withheld}
        runs = {**self._folders[RECORDS], **self._folders[EXPERIMENTS]}
        sound = {run: astuple(known) for run, known in self._sound.items() if run in runs}
        if self.is_large:
            content = {"columns": _written(), "events": events, "sound": sound}
            self._cache.write(_ENTRY, json.dumps(content, separators=(",", ":")).encode())
        self._changed = False


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _owner(name: str) -> tuple[str, str]:
    """Return the folder of a file and its run; the run is empty for an event."""
    folder, _, rest = name.partition("/")
    return folder, "" if folder == EVENTS else rest.partition("/")[0].removeprefix("run_id=")


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _why_not_whole(data: bytes) -> str:
    """Return whether a file without a footer was cut off, as by a power loss, or changed."""
    begin, end = data[: len(_MAGIC)], data[-len(_MAGIC) :]
    alike = sum(one == other for one, other in zip(end, _MAGIC, strict=False))
    lost = begin == _MAGIC[: len(begin)] and alike < len(_MAGIC) - 1
    return _CUT_OFF if lost else _CHANGED


def _facts(path: str, stamp: list[int], columns: tuple[bytes, ...], run_id: str) -> File:
    """Return the properties of a file from its footer; `run_id` is empty for an event."""
    read = JournalFile.load(Path(path))
    if not read.footer:
        return File(stamp, _why_not_whole(read.data), sha256=read.sha256)
    event = None if run_id else event_of(_last(path))
    owner = run_id if event is None else event[0]
    file = File(
        stamp,
        "" if holds_rows_of(owner, read.footer) else _FOREIGN,
        alike=read.footer.startswith(columns),
        sha256=read.sha256,
    )
    with suppress(ValueError):
        file.format = int(read.stated(b"gtmar_format") or b"0")
    links = read.links()
    file.links = [[link.name, link.position, link.previous, link.sha256] for link in links]
    file.packed = any(link.packed for link in links)
    return file


@cache
def _written() -> str:
    """Return a hash of the columns that this version writes, and of the fields of the cache."""
    columns = [columns_of(folder) for folder in (*_ROOMS, EVENTS)]
    facts = [fact.name for kind in (File, _Sound) for fact in fields(kind)]
    return hashlib.sha256(repr([columns, facts]).encode()).hexdigest()
