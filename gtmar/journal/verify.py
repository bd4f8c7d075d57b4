"""Verification of a journal, run by run: files, chain, seal, sequence and digest.

Damage is a finding. A run that is still running, or was interrupted, is only a note.

If the files of a run match all hashes of its chain, from the first to the sealed end, the run is as
it was written, whatever its content. So only bytes are read, not rows. Rows are read if a hash
doesn't match or is missing, or if they are requested.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gtmar.engine.evaluator import EVALUATOR_VERSION, evaluator_code
from gtmar.errors import JournalError, RunNotFoundError, culprits, did_you_mean
from gtmar.journal.digest import (
    DigestEntry,
    RunDigest,
    digest_of,
    event_entry,
    hold_against,
    run_entry,
    saved_list,
)
from gtmar.journal.events import EventKind, ahead, clock_note, event_files, untouched
from gtmar.journal.files import (
    PACKED_NAME,
    JournalFile,
    Link,
    Row,
    RunFiles,
    event_of,
    holds_rows_of,
    is_own,
    matching,
    parquet_files,
    plain_rows,
    read_rows,
    refuse_journal_elsewhere,
    replaced_names,
    row_count,
    run_aside,
    run_of,
    sha256_of,
    steadily,
)
from gtmar.journal.seal_chain import find_breaks, number_of
from gtmar.plain_data import PlainData

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "Discrepancy",
    "Examination",
    "Verification",
    "covered",
    "examine",
    "packings",
    "run_ids",
    "run_named",
    "verify",
]


#: Columns of the start record that notes about a run need.
_NOTED = ["kind", "evaluator_version", "evaluator_code", "parent_run", "memory"]


@dataclass(frozen=True)
class Discrepancy:
    """One thing that isn't as it was written."""

    #: Empty where it is about no run.
    run_id: str
    #: File within the journal; empty where the run as a whole is meant.
    file: str
    #: `missing`, `torn`, `changed`, `added`, `sequence`, `digest`, `link` or `unreadable`.
    kind: str
    problem: str


@dataclass(frozen=True)
class Examination:
    """The result of verifying one run."""

    run_id: str
    #: Number of rows without the baseline.
    experiments: int
    findings: tuple[Discrepancy, ...]
    notes: tuple[str, ...]
    #: Links of all readable files that belong to the run.
    links: tuple[Link, ...]
    #: The start record, or its file if it hasn't been read yet; empty if it can't be read.
    start: dict[str, Any] | JournalFile
    #: Whether there is a readable end record.
    ended: bool
    #: All rows in order; None if they weren't read, or can't be.
    rows: pa.Table | None = field(default=None, repr=False)


def examine(
    files: RunFiles, packed: set[str] | None = None, *, rows: bool | None = None
) -> Examination:
    """Verify one run: files, seal, chain, sequence, digest.

    Parameters
    ----------
    packed
        Recorded hashes of its packed file; None if no packing is recorded.
    rows
        True to read the rows, and compare them with the digest, even if all hashes match. False to
        read them only if a hash doesn't. None to also read packed rows, as the original hashes of
        packed parts are of files that are gone.
    """
    try:
        return steadily(_Examiner(files, packed, rows=rows).examine)
    except PermissionError as err:
        name = os.path.relpath(os.fsdecode(err.filename), files.journal)
        unread = Discrepancy(files.run_id, name, "unreadable", f"{err.strerror}: it wasn't checked")
        return Examination(files.run_id, 0, (unread,), (), (), {}, ended=False)


class _Examiner:
    def __init__(self, files: RunFiles, packed: set[str] | None, *, rows: bool | None) -> None:
        self._files = files
        self._packed = packed
        self._rows_asked = rows
        self._findings: list[Discrepancy]
        self._notes: list[str]

    def examine(self) -> Examination:
        """Verify the hashes and, if they aren't enough, everything."""
        self._findings, self._notes = [], []
        on_disk = [JournalFile.load(path) for path in _listing(self._files)]
        replaced = self._replaced(on_disk)
        kept = [file for file in on_disk if file.path not in replaced]
        examined = self._as_written(kept) or self._in_detail(kept)
        linked = [f for f in (self._files.records, self._files.experiments) if f.is_symlink()]
        what = "a folder that is a link is not the journal's own: answers leave the run out"
        findings = [Discrepancy(self._files.run_id, self._within(f), "link", what) for f in linked]
        return replace(examined, findings=(*examined.findings, *findings))

    def _replaced(self, on_disk: list[JournalFile]) -> set[Path]:
        """Return parts that a packed one replaces, as a sync may put them back beside it."""
        parts = [file for file in on_disk if file.path.parent == self._files.experiments]
        links = {x.name: x.sha256 for file in parts[:1] for x in file.links() if x.packed}
        names = replaced_names(parts[0].path.name, links) if parts else set()
        if not names:
            return set()
        beside = [file for file in parts if file.path.name in names]
        for file in beside:
            if links.get(file.path.name) != file.sha256:
                self._report(file.path, "added", "the packed part stands in its place")
        if beside and not self._findings:
            self._note(
                f": {len(beside):,} of its parts {'lies' if len(beside) == 1 else 'lie'} beside "
                "the packed one that stands for them; they aren't read, and gtmar journal compact "
                "takes them away"
            )
        return {file.path for file in beside}

    def _as_written(self, kept: list[JournalFile]) -> Examination | None:
        """Return the result for a run whose hashes all match; None for any other run."""
        files = self._files
        links = sorted((link for file in kept for link in file.links()), key=lambda x: x.position)
        packed = [file for file in kept if file.stated(b"gtmar_packed") is not None]
        rows_asked = bool(packed) if self._rows_asked is None else self._rows_asked
        parts = [file for file in kept if file.path.parent == files.experiments]
        if (
            rows_asked
            or self._findings
            or len(links) < 3
            or links[-1].path != files.end
            or links[-1].sha256 != files.sealed()
            or [x.previous for x in links] != ["", *(x.sha256 for x in links[:-1])]
            or [x.position for x in links] != list(range(len(links)))
            or not _are_in_order(links)
            or not all(is_own(file.path.parent.parent.name, file.path.name) for file in kept)
            or not all(holds_rows_of(files.run_id, file.footer) for file in kept)
            or not all(file.sha256 in (self._packed or ()) for file in packed)
        ):
            return None
        lone = [file.path.name for file in parts] == [PACKED_NAME]
        if lone and self._packed is not None and parts[0].sha256 not in self._packed:
            return None
        counts = [row_count(file) for file in parts]
        begun = next(file for file in kept if file.path == files.start)
        if None in counts or row_count(begun) != 1:
            return None
        return Examination(
            run_id=files.run_id,
            experiments=sum(count or 0 for count in counts) - 1,
            findings=(),
            notes=tuple(self._notes),
            links=tuple(links),
            start=begun,
            ended=True,
        )

    def _in_detail(self, kept: list[JournalFile]) -> Examination:
        """Verify everything, in the order in which findings are listed."""
        files = self._files
        on_disk = [file.path for file in kept]
        torn = [file.path for file in kept if not file.is_whole]
        read = {file: file.table() for file in kept if file.is_whole}
        sound = {file.path: table for file, table in read.items() if table is not None}
        damaged = set(on_disk) - set(sound)
        links = [link for file in kept if file.path in sound for link in file.links()]
        ended = files.end in on_disk
        start, end = (_row_of(sound[p]) if p in sound else {} for p in (files.start, files.end))
        self._note_damage(damaged, torn, on_disk, ended=ended)
        self._check_owner(sound)
        begun = self._check_beginning(on_disk, links)
        if begun and not ended and not torn:
            self._check_whether_it_goes_on(imported=start.get("kind") == "import")
        rows = self._rows([t for path, t in sound.items() if path.parent == files.experiments])
        later, hold = self._check_rows(rows, end if files.end in sound else None)
        if files.end in sound:
            self._check_seal()
        self._check_packed(links)
        if begun:
            changed = [path for path in sound if self._is_named(path)]
            breaks = find_breaks(files, links, damaged, changed, rows_hold=hold)
            for path, (kind, problem) in breaks.items():
                self._report(path, kind, problem)
        self._findings += later
        return Examination(
            run_id=files.run_id,
            experiments=max(0, rows.num_rows - 1) if rows is not None else 0,
            findings=tuple(self._findings),
            notes=tuple(self._notes),
            links=tuple(links),
            start=start,
            ended=bool(end),
            rows=rows,
        )

    def _check_owner(self, sound: dict[Path, pa.Table]) -> None:
        """Report files whose rows are of another run than their folder."""
        for path, table in sound.items():
            if "run_id" in table.column_names:
                others = {*table["run_id"].to_pylist()} - {self._files.run_id}
                if others:
                    self._report(path, "added", f"its rows are of run {min(map(str, others))}")

    def _report(self, path: Path | None, kind: str, problem: str) -> None:
        """Add a finding, unless there is one about the same file."""
        if path is None or not self._is_named(path):
            name = "" if path is None else self._within(path)
            self._findings.append(Discrepancy(self._files.run_id, name, kind, problem))

    def _is_named(self, path: Path) -> bool:
        return self._within(path) in [finding.file for finding in self._findings]

    def _within(self, path: Path) -> str:
        return path.relative_to(self._files.journal).as_posix()

    def _note(self, text: str) -> None:
        self._notes.append(f"run {self._files.run_id}{text}")

    def _note_damage(
        self, damaged: set[Path], torn: list[Path], on_disk: list[Path], *, ended: bool
    ) -> None:
        last = max((p for p in on_disk if p.parent == self._files.experiments), default=None)
        for path in sorted(damaged):
            if path not in torn:
                self._report(path, "changed", "its bytes are not those that were written")
            elif ended or path != last:
                self._report(path, "torn", "cut off: it has no end")
            else:
                self._note(": its last part was cut off; gtmar resume mends that")

    def _check_beginning(self, on_disk: list[Path], links: list[Link]) -> bool:
        """Return whether the run has begun; if it has, a missing start record is a finding."""
        files = self._files
        if files.start in on_disk:
            return True
        position, _ = files.newest() or (0, "")
        if files.start.is_file() or (files.running() and len(links) <= 1):
            self._note(" is beginning")
            return False
        if len(links) > 1 or position > 0 or files.seal.is_file() or files.end in on_disk:
            self._report(files.start, "missing", "the start record is gone")
            return True
        self._note(" was cut off before it began; pass over it")
        return False

    def _check_whether_it_goes_on(self, *, imported: bool) -> None:
        files = self._files
        if files.running() or files.end.is_file():
            self._note(" is running")
            return
        # If the process was killed before the sealed end was renamed, it is still beside its place.
        if files.seal.is_file() and not files.end_beside():
            self._report(files.end, "missing", "the end record is gone")
        elif imported:
            self._note(" was cut off while it was brought in")
        else:
            self._note(" was cut off; gtmar resume goes on with it")

    def _rows(self, tables: list[pa.Table]) -> pa.Table | None:
        if not tables:
            return None
        try:
            return pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
        except pa.ArrowInvalid:
            self._report(None, "digest", "its parts don't have the same columns")
            return None

    def _check_rows(
        self, rows: pa.Table | None, end: dict[str, Any] | None
    ) -> tuple[list[Discrepancy], bool]:
        """Check the rows' numbers and digest; return findings, and whether the digest matches."""
        if rows is None:
            return [], False
        problems = {}
        digest = RunDigest()
        try:
            numbers = rows["number"].to_pylist()
            digest.update(rows)
        except (pa.ArrowException, LookupError, ValueError, TypeError, AttributeError):
            return [self._about_rows("digest", "its experiments can't be read")], False
        if numbers != list(range(len(numbers))):
            wrong = next(i for i, n in enumerate(numbers) if n != i)
            problems["sequence"] = f"experiment {wrong} is missing, doubled or out of its place"
        holds = end is not None and digest.hexdigest() == end.get("digest")
        if end is not None and not holds:
            problems["digest"] = "its experiments are not those that it ended with"
        return [self._about_rows(kind, text) for kind, text in problems.items()], holds

    def _about_rows(self, kind: str, problem: str) -> Discrepancy:
        return Discrepancy(self._files.run_id, "", kind, problem)

    def _check_seal(self) -> None:
        files = self._files
        sealed = files.sealed()
        if sealed is None:
            self._report(files.seal, "missing", "the seal of the end record is gone")
        elif sealed != sha256_of(files.end):
            self._report(files.end, "changed", "its bytes are not those that were sealed")

    def _check_packed(self, links: list[Link]) -> None:
        parts = {link.path for link in links if link.path.parent == self._files.experiments}
        lone = parts if parts == {self._files.experiments / PACKED_NAME} else set()
        for path in sorted({link.path for link in links if link.packed} | lone):
            if self._packed is not None and sha256_of(path) not in self._packed:
                self._report(path, "changed", "its bytes are not those that were packed")
            elif self._packed is None and any(x.packed for x in links if x.path == path):
                self._note(": its packing isn't on record; gtmar journal compact makes up for it")


def _with_starts(examined: Sequence[Examination]) -> list[Examination]:
    """Read the start records of runs in one query, and note changes of the evaluator since."""
    unread = [one.start for one in examined if isinstance(one.start, JournalFile)]
    rows = dict(zip((file.path for file in unread), read_rows(unread, _NOTED), strict=True))
    done = []
    for one in examined:
        start = one.start if isinstance(one.start, dict) else rows[one.start.path] or {}
        note = _evaluator_note(start)
        notes = (*one.notes, f"run {one.run_id}{note}") if note else one.notes
        done.append(replace(one, start=start, notes=notes))
    return done


def _evaluator_note(start: dict[str, Any]) -> str:
    # Null for an imported run, which gtmar hasn't evaluated.
    version = start.get("evaluator_version")
    if version is not None and version != EVALUATOR_VERSION:
        return f": evaluator version {version} then, {EVALUATOR_VERSION} now"
    if version is not None and start.get("evaluator_code") != evaluator_code():
        return ": the evaluator's code has changed since, not its version"
    return ""


def _listing(files: RunFiles) -> list[Path]:
    """Return a run's files at one moment, even if the run is writing some."""
    while True:
        listed = [parquet_files(room) for room in (files.records, files.experiments) * 2]
        if listed[:2] == listed[2:]:
            return listed[0] + listed[1]


def _are_in_order(links: list[Link]) -> bool:
    """Return whether names are in the order of places: part 1, start, then all by number."""
    if links[1].name != "start.parquet":
        return False
    for kind in ("part", "resume"):
        numbers = [number for x in links if (number := number_of(x.name, kind)) is not None]
        if numbers != list(range(1, len(numbers) + 1)):
            return False
    return True


def _row_of(record: pa.Table) -> dict[str, Any]:
    """Return a record's row; empty if there is none, or it can't be read."""
    try:
        rows = plain_rows(record)
    except (pa.ArrowException, ValueError):
        rows = []
    return rows[0] if rows else {}


#: Runs that are verified in parallel; reading and hashing release the GIL.
_AT_ONCE = 8
#: Runs whose start records are read in one query.
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class Verification(PlainData):
    """The result of `verify`."""

    _left_out = ("entries",)

    runs: int
    experiments: int
    events: int
    findings: tuple[Discrepancy, ...]
    #: Worth knowing, no damage: runs cut off, evaluator code changed since.
    notes: tuple[str, ...]
    #: To be kept elsewhere; covers all runs that have ended and all events.
    digest: str
    #: Whether what was given with `against` still holds; None where nothing was given.
    against_holds: bool | None
    #: Entries that came since; None where that can't be told.
    against_added: int | None = None
    #: What a saved list names and isn't there, or isn't what it was; a digest names nothing.
    against_missing: tuple[str, ...] = ()
    against_changed: tuple[str, ...] = ()
    #: The entries as text, a line each.
    entries: str = field(default="", repr=False)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings and self.against_holds is not False

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"sound": self.sound, **super().as_json()}


def verify(
    journal: Path, run_id: str | None = None, *, against: str | None = None, rows: bool = False
) -> Verification:
    """Verify a journal, or one run of it.

    Parameters
    ----------
    run_id
        One run's full id; None for all runs and events.
    against
        An earlier digest of the whole journal, or the path of a saved list. It holds if everything
        that it covered is unchanged, whatever was added or merged since.
    rows
        Whether to read rows, and compare them with their run's digest, even if hashes match.

    Raises
    ------
    RunNotFoundError
        If the journal holds neither run nor event.
    UsageError
        If `against` is neither a digest of this tool nor a list.
    """
    ids = [run_id] if run_id is not None else run_ids(journal)
    events = _load_events(journal)
    if not ids and not (events and run_id is None):
        raise RunNotFoundError(
            f'journal "{journal}": no run in it', hint="--journal DIR says where it is"
        )
    hashed = _untouched(events)
    rows_of = dict(zip((file.path for file in hashed), read_rows(hashed), strict=True))
    sound_events = [event for event in rows_of.values() if event is not None]
    packed = _packings(sound_events)
    withdrawn, undone = _withdrawn(sound_events)
    # An earlier digest covers parts that have been packed since, so packed rows are read, too.
    how = True if rows else None if against is not None else False
    requested = ids if against is None else run_ids(journal)
    looked = partial(_examined, journal, packed, rows=how)
    examined: dict[str, Examination] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(requested), _READ_AT_ONCE):
            some = list(pool.map(looked, requested[first : first + _READ_AT_ONCE]))
            examined |= {one.run_id: one for one in _with_starts(some)}
    unfinished = undone | _half_imported(journal)
    mine = [examined[each] for each in ids if each not in unfinished]
    findings = [finding for one in mine for finding in one.findings]
    notes = [note for one in mine for note in one.notes]
    if run_id is None:
        findings += _strays(journal) + _verify_events(journal, events, rows_of)
        notes += _absent(ids, [one.start for one in mine if isinstance(one.start, dict)])
        notes += _unfinished(journal, undone, sound_events)
        dated = ahead([*ids, *(event["event_id"] for event in sound_events)])
        notes += [note] if (note := clock_note(dated)) else []
    is_old = against is not None and against.startswith("gtmar1")
    entries = [
        *(
            _entry(journal, each, one, is_old=is_old)
            for each, one in examined.items()
            if one.ended and each not in unfinished
        ),
        *(
            event_entry(file, _arrival(file.path), _old_event_line(file) if is_old else "")
            for file in events.values()
            if file is not None and event_of(file.path.name) is not None
        ),
    ]
    held = None if against is None else hold_against(entries, against, withdrawn)
    return Verification(
        runs=len(mine),
        experiments=sum(one.experiments for one in mine),
        events=len(events) if run_id is None else 0,
        findings=tuple(findings),
        notes=tuple(notes),
        digest=digest_of(entries),
        against_holds=None if held is None else held.holds,
        against_added=None if held is None else held.added,
        against_missing=() if held is None else held.missing,
        against_changed=() if held is None else held.changed,
        entries=saved_list(entries),
    )


def run_ids(journal: Path) -> list[str]:
    """Return the ids of all runs that have a folder, in order."""
    refuse_journal_elsewhere(journal)
    names = {folder.name for room in ("runs", "experiments") for folder in _folders(journal, room)}
    return sorted(run for name in names if (run := run_of(name)) is not None)


def _folders(journal: Path, room: str) -> list[Path]:
    try:
        with os.scandir(journal / room) as entries:
            return sorted(journal / room / each.name for each in entries if each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as err:
        raise JournalError(
            f'journal "{journal}": can\'t be read: {err.strerror} ({err.filename})',
            hint="ask its owner to let the folder's group read it: chmod -R g+rX",
        ) from err


def run_named(journal: Path, name: str) -> str:
    """Return a run's full id: the only one that begins or ends with `name`.

    No file is read, so this works on a damaged journal.

    Raises
    ------
    RunNotFoundError
        If no run matches, or more than one.
    """
    ids = run_ids(journal)
    matches = matching(name, ids)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RunNotFoundError(f'"{name}" stands for {len(matches)} runs: {culprits(matches)}')
    raise RunNotFoundError(
        f'journal "{journal}" has no run "{name}"; it has {len(ids)}',
        hint=did_you_mean(name, ids) or "gtmar sql runs lists them",
    )


def packings(journal: Path) -> dict[str, set[str]]:
    """Return the hashes of packed files by run, from undamaged events of compactions."""
    files = _untouched(_load_events(journal))
    return _packings([event for event in read_rows(files) if event is not None])


def _untouched(events: dict[Path, JournalFile | None]) -> list[JournalFile]:
    return [x for x in events.values() if x is not None and untouched(x.path, x.sha256)]


def _packings(events: Sequence[dict[str, Any]]) -> dict[str, set[str]]:
    packings: dict[str, set[str]] = {}
    for event in events:
        if event["kind"] == EventKind.COMPACTION:
            for run in json.loads(event["details"])["runs"]:
                packings.setdefault(run["run_id"], set()).add(run["sha256"])
    return packings


def covered(journal: Path, runs: Sequence[str]) -> list[dict[str, str]]:
    """Return the digest entries of some runs as plain data, for the event that withdraws them.

    Raises
    ------
    JournalError
        If a run is damaged, or hasn't ended.
    """
    packed = packings(journal)
    examined = {run: _examined(journal, packed, run, rows=None) for run in runs}
    unsound = [run for run, one in examined.items() if one.findings or not one.ended]
    if unsound:
        raise JournalError(
            f"{culprits(unsound)}: not as it was written", hint="gtmar verify says how"
        )
    entries = [_entry(journal, run, one, is_old=True) for run, one in examined.items()]
    return [{"name": e.name, "sha256": e.sha256, "old_line": e.old_line} for e in entries]


def _examined(
    journal: Path, packed: dict[str, set[str]], run_id: str, *, rows: bool | None
) -> Examination:
    examination = examine(RunFiles(journal, run_id), packed.get(run_id), rows=rows)
    # Rows are dropped, as there may be thousands of runs.
    return replace(examination, rows=None)


def _load_events(journal: Path) -> dict[Path, JournalFile | None]:
    """Read the files of all events; None for one without permission."""
    loaded: dict[Path, JournalFile | None] = {}
    for path in event_files(journal):
        try:
            loaded[path] = JournalFile.load(path)
        except FileNotFoundError:
            continue
        except PermissionError:
            loaded[path] = None
    return loaded


def _withdrawn(events: Sequence[dict[str, Any]]) -> tuple[list[DigestEntry], set[str]]:
    """Return digest entries and ids of the runs that undone imports have withdrawn."""
    entries: list[DigestEntry] = []
    runs: set[str] = set()
    for event in events:
        if event["kind"] == EventKind.UNDO:
            details = json.loads(event["details"])
            entries += [
                DigestEntry(e["name"], e["sha256"], 0, e["old_line"]) for e in details["entries"]
            ]
            runs.update(details["runs"])
    return entries, runs


def _strays(journal: Path) -> list[Discrepancy]:
    """Return a finding for each file in a folder that is no run's, such as a sync's copies."""
    return [
        Discrepancy("", path.relative_to(journal).as_posix(), "added", "it belongs to no run")
        for room in ("runs", "experiments")
        for folder in _folders(journal, room)
        if run_of(folder.name) is None
        for path in parquet_files(folder)
    ]


def _absent(ids: list[str], starts: list[dict[str, Any]]) -> list[str]:
    """Return notes on missing runs that others started or learnt from."""
    followers: Counter[str] = Counter()
    for start in starts:
        before = {start.get("parent_run")}
        with suppress(ValueError, TypeError, LookupError):
            before.update(json.loads(start["memory"])["runs"])
        followers.update(run for run in before if run is not None and run not in ids)
    return [
        f"run {run} isn't in this journal, though {count:,} of its runs came or learnt from it"
        for run, count in sorted(followers.items())
    ]


def _half_imported(journal: Path) -> set[str]:
    """Return the runs of unfinished imports whose records aren't written yet."""
    named: set[str] = set()
    for mark in journal.glob("packing/import-*"):
        with suppress(OSError, UnicodeDecodeError):
            named.update(mark.read_text(encoding="ascii").split())
    return {run for run in named if not RunFiles(journal, run).records.exists()}


def _unfinished(journal: Path, undone: set[str], events: Sequence[dict[str, Any]]) -> list[str]:
    """Return notes on interrupted compactions and imports, and on files imported twice."""
    notes = []
    if any(run_aside(path.name) for path in journal.glob("packing/run_id=*")):
        notes.append("parts are being packed, or that was cut off: gtmar journal compact mends it")
    on_record = {
        json.loads(event["details"])["file_sha256"]
        for event in events
        if event["kind"] == EventKind.IMPORT
    }
    marks = {path.name.removeprefix("import-") for path in journal.glob("packing/import-*")}
    if any(not mark.endswith(".partial") for mark in marks - on_record):
        notes.append(
            "an import is going on, or was cut off: gtmar journal import of the same file goes on "
            "with it"
        )
    left = sorted(undone.intersection(run_ids(journal)))
    if left:
        notes.append(
            f"{len(left):,} of the runs of an import that was taken back "
            f"{'is' if len(left) == 1 else 'are'} still there: "
            "gtmar journal import --undo of the same event goes on with it"
        )
    imports: dict[str, list[str]] = {}
    for event in events:
        if event["kind"] == EventKind.IMPORT:
            details = json.loads(event["details"])
            if not undone.intersection(details["runs"]):
                imports.setdefault(details["file_sha256"], []).append(event["event_id"])
    notes += [
        f"one file was brought in {len(ids)} times, by events {culprits(ids)}: its experiments are "
        f"there as often; gtmar journal import --undo {ids[-1]} takes one back"
        for ids in imports.values()
        if len(ids) > 1
    ]
    return notes


def _verify_events(
    journal: Path, events: dict[Path, JournalFile | None], rows: dict[Path, Row | None]
) -> list[Discrepancy]:
    """Return findings on the events' files, which have their id and hash in their name."""
    findings = []
    for path, file in events.items():
        kind, problem = "", ""
        named = event_of(path.name)
        if file is None:
            kind, problem = "unreadable", "Permission denied: it wasn't checked"
        elif named is None:
            kind, problem = "added", "it is no event's file"
        elif not file.is_whole:
            kind, problem = "torn", "cut off: it has no end"
        elif (event := rows.get(path)) is None:
            kind, problem = "changed", "its bytes are not those that its name says"
        elif event.get("event_id") != named[0]:
            kind, problem = "changed", "it is not the event that its name says"
        if kind:
            findings.append(Discrepancy("", path.relative_to(journal).as_posix(), kind, problem))
    return findings


def _entry(journal: Path, run_id: str, one: Examination, *, is_old: bool) -> DigestEntry:
    files = RunFiles(journal, run_id)
    old_line = _old_run_line(files, one) if is_old else ""
    return run_entry(run_id, one.links, _arrival(files.end), old_line)


def _arrival(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return 0


def _old_run_line(files: RunFiles, one: Examination) -> str:
    """Return the line of a run in digests of the old form (gtmar1)."""
    try:
        start, end = (JournalFile.load(path).row() for path in (files.start, files.end))
    except OSError:
        return ""
    parts = sorted({(x.name, x.sha256) for x in one.links if x.name.startswith("part")})
    hashes = "".join(sha256 for _, sha256 in parts)
    return (
        "" if end is None else f"{end.get('ended_at')} {files.run_id} {_hash([start, end, hashes])}"
    )


def _old_event_line(file: JournalFile) -> str:
    event = file.row()
    return "" if event is None else f"{event.get('at')} {file.path.name} {_hash(event)}"


def _hash(content: object) -> str:
    body = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()
