"""Whether a journal is what was written: files, hashes, sequence, chain, events; and its digest.

Inside the journal only accidents and clumsy edits can be found: whoever rewrites a run and all its
hashes leaves no trace there. The digest, kept elsewhere (a commit, a ticket), finds that too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gtmar.errors import JournalError, RunNotFoundError, culprits, nearest
from gtmar.journal.clock import ahead, clock_note
from gtmar.journal.entries import (
    Entry,
    digest_of,
    event_entry,
    hold_against,
    run_entry,
    saved_list,
)
from gtmar.journal.events import HASH_DIGITS, EventKind, event_files
from gtmar.journal.examination import Examination, Finding, examine
from gtmar.journal.names import event_of, run_of
from gtmar.journal.store import JournalFile, RunFiles, parquet_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Finding", "Verification", "covered", "packings", "run_ids", "run_named", "verify"]

#: Runs examined at once: to read and to hash takes no turn of Python's.
_AT_ONCE = 8


@dataclass(frozen=True)
class Verification:
    """What `verify` looked at, and what it found."""

    runs: int
    experiments: int
    events: int
    findings: tuple[Finding, ...]
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
        plain = asdict(self)
        del plain["entries"]
        return {"sound": self.sound, **plain}


def verify(
    journal: Path, run_id: str | None = None, *, against: str | None = None, rows: bool = False
) -> Verification:
    """Check a journal, or one run of it.

    Parameters
    ----------
    journal
        The journal's folder.
    run_id
        One run's full id; None for all, and all events.
    against
        A digest that was printed earlier, for the whole journal, or the path of a saved list: still
        holds where all that it covered is there unchanged, whatever came later or was merged.
    rows
        Whether rows are read and held against their run's digest where hashes hold too.

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
    told = [file.row() for file in events.values() if file is not None and _states_hash(file)]
    sound_events = [event for event in told if event is not None]
    packed = _packings(sound_events)
    withdrawn, undone = _withdrawn(sound_events)
    # Hashes of parts that were packed stand for files that are gone: with `against`, rows do.
    how = True if rows else None if against is not None else False
    asked = ids if against is None else run_ids(journal)
    looked = partial(_examined, journal, packed, rows=how)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        examined = dict(zip(asked, pool.map(looked, asked), strict=True))
    unfinished = undone | _half_imported(journal)
    mine = [examined[each] for each in ids if each not in unfinished]
    findings = [finding for one in mine for finding in one.findings]
    notes = [note for one in mine for note in one.notes]
    if run_id is None:
        findings += _strays(journal) + _verify_events(journal, events)
        notes += _absent(ids, [one.start for one in mine])
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
    """Return ids of all runs that have a record or a part, in order."""
    names = {folder.name for room in ("runs", "experiments") for folder in _folders(journal, room)}
    return sorted(run for name in names if (run := run_of(name)) is not None)


def _folders(journal: Path, room: str) -> list[Path]:
    try:
        with os.scandir(journal / room) as found:
            return sorted(journal / room / each.name for each in found if each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as err:
        raise JournalError(
            f'journal "{journal}": can\'t be read: {err.strerror} ({err.filename})',
            hint="ask its owner to let the folder's group read it: chmod -R g+rX",
        ) from err


def run_named(journal: Path, name: str) -> str:
    """Return a run's full id: the only one that begins or ends with `name`.

    It reads no file, so that a damaged journal can be looked at too.

    Raises
    ------
    RunNotFoundError
        If there is none, or more than one.
    """
    ids = run_ids(journal)
    matches = [each for each in ids if each.startswith(name) or each.endswith(name)]
    if name in ids:
        return name
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RunNotFoundError(f'"{name}" stands for {len(matches)} runs: {culprits(matches)}')
    likely = nearest(name, ids)
    raise RunNotFoundError(
        f'journal "{journal}" has no run "{name}"; it has {len(ids)}',
        hint=f'did you mean "{likely}"?' if likely else "gtmar sql runs lists them",
    )


def packings(journal: Path) -> dict[str, set[str]]:
    """Return by run the hashes of packed files, as untouched events of compactions say."""
    files = _load_events(journal).values()
    events = (file.row() for file in files if file is not None and _states_hash(file))
    return _packings([event for event in events if event is not None])


def _packings(events: Sequence[dict[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for event in events:
        if event["kind"] == EventKind.COMPACTION:
            for run in json.loads(event["details"])["runs"]:
                found.setdefault(run["run_id"], set()).add(run["sha256"])
    return found


def covered(journal: Path, runs: Sequence[str]) -> list[dict[str, str]]:
    """Return what digests cover of some runs, for an event that says that they were taken back.

    Raises
    ------
    JournalError
        If one isn't as it was written.
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
    found = examine(RunFiles(journal, run_id), packed.get(run_id), rows=rows)
    # Thousands of runs are examined: their rows needn't stay.
    return replace(found, rows=None)


def _load_events(journal: Path) -> dict[Path, JournalFile | None]:
    """Read all events' files; None for one that mayn't be read."""
    found: dict[Path, JournalFile | None] = {}
    for path in event_files(journal):
        try:
            found[path] = JournalFile.load(path)
        except FileNotFoundError:
            continue
        except PermissionError:
            found[path] = None
    return found


def _states_hash(file: JournalFile) -> bool:
    """Whether an event's file is the one that was written, by the hash in its name."""
    named = event_of(file.path.name)
    return named is not None and file.sha256[:HASH_DIGITS] == named[1]


def _withdrawn(events: Sequence[dict[str, Any]]) -> tuple[list[Entry], set[str]]:
    """Return entries and ids of the runs that were taken back on record."""
    entries: list[Entry] = []
    runs: set[str] = set()
    for event in events:
        if event["kind"] == EventKind.UNDO:
            details = json.loads(event["details"])
            entries += [Entry(e["name"], e["sha256"], 0, e["old_line"]) for e in details["entries"]]
            runs.update(details["runs"])
    return entries, runs


def _strays(journal: Path) -> list[Finding]:
    """Find files that look like a run's and belong to none, such as a sync's second copies."""
    return [
        Finding("", path.relative_to(journal).as_posix(), "added", "it belongs to no run")
        for room in ("runs", "experiments")
        for folder in _folders(journal, room)
        if run_of(folder.name) is None
        for path in parquet_files(folder)
    ]


def _absent(ids: list[str], starts: list[dict[str, Any]]) -> list[str]:
    """Note runs that others came from, or learnt from, and that aren't there."""
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
    """Return runs whose parts an import has put in place, and their records not yet."""
    named: set[str] = set()
    for mark in journal.glob("packing/import-*"):
        with suppress(OSError, UnicodeDecodeError):
            named.update(mark.read_text(encoding="ascii").split())
    return {run for run in named if not RunFiles(journal, run).records.exists()}


def _unfinished(journal: Path, undone: set[str], events: Sequence[dict[str, Any]]) -> list[str]:
    """Note work on the journal that was cut off, and files that were brought in twice."""
    notes = []
    if any(journal.glob("packing/run_id=*")):
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
            f"{len(left):,} of the runs of an import that was taken back are still there: "
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


def _verify_events(journal: Path, events: dict[Path, JournalFile | None]) -> list[Finding]:
    """Hold each event against the hash in its name."""
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
        elif not _states_hash(file) or (event := file.row()) is None:
            kind, problem = "changed", "its bytes are not those that its name says"
        elif event.get("event_id") != named[0]:
            kind, problem = "changed", "it is not the event that its name says"
        if kind:
            findings.append(Finding("", path.relative_to(journal).as_posix(), kind, problem))
    return findings


def _entry(journal: Path, run_id: str, one: Examination, *, is_old: bool) -> Entry:
    files = RunFiles(journal, run_id)
    old_line = _old_run_line(files, one) if is_old else ""
    return run_entry(run_id, one.links, _arrival(files.end), old_line)


def _arrival(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns
    except OSError:
        return 0


def _old_run_line(files: RunFiles, one: Examination) -> str:
    """Return a run as digests of the old form cover it."""
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
