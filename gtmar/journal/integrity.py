"""Whether a journal is what was written: files, hashes, sequence, chain, events; and its digest.

Inside the journal only accidents and clumsy edits can be found: whoever rewrites a run and all its
hashes leaves no trace there. The digest, kept elsewhere (a commit, a ticket), finds that too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gtmar.errors import RunNotFoundError, UsageError, culprits, nearest
from gtmar.journal.events import EventKind, event_files, untouched
from gtmar.journal.examination import Examination, Finding, examine, row_of
from gtmar.journal.store import RunFiles, is_whole, links_of, read_checked, sha256_of, steadily

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Finding", "Verification", "packings", "run_ids", "run_named", "verify"]

_PREFIX = "gtmar1"
#: Entries that may have reached the disk after later ones, and how far back they are looked for.
_MOST_LATE = 2
_LATE_AMONG = 60


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
    #: Whether the digest given with `against` still holds; None where none was given.
    against_holds: bool | None

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings and self.against_holds is not False

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"sound": self.sound, **asdict(self)}


def verify(journal: Path, run_id: str | None = None, *, against: str | None = None) -> Verification:
    """Check a journal, or one run of it.

    Parameters
    ----------
    journal
        The journal's folder.
    run_id
        One run's full id; None for all, and all events.
    against
        A digest that was printed earlier, for the whole journal: still holds where all that it
        covered is there unchanged, whatever came later.

    Raises
    ------
    RunNotFoundError
        If the journal holds neither run nor event.
    UsageError
        If `against` isn't a digest of this tool.
    """
    ids = [run_id] if run_id is not None else run_ids(journal)
    events = event_files(journal) if run_id is None else []
    if not ids and not events:
        raise RunNotFoundError(
            f'journal "{journal}": no run in it', hint="--journal DIR says where it is"
        )
    packed = packings(journal)
    examined = [examine(RunFiles(journal, each), packed.get(each)) for each in ids]
    findings = [finding for one in examined for finding in one.findings]
    notes = [note for one in examined for note in one.notes]
    if run_id is None:
        findings += _strays(journal) + _verify_events(journal, events)
        notes += _absent(ids, [one.start for one in examined])
        if any(journal.glob("packing/run_id=*")):
            notes.append(
                "parts are being packed, or that was cut off: gtmar journal compact mends it"
            )
    entries = _entries(journal, dict(zip(ids, examined, strict=True)))
    return Verification(
        runs=len(ids),
        experiments=sum(one.experiments for one in examined),
        events=len(events),
        findings=tuple(findings),
        notes=tuple(notes),
        digest=_digest(entries),
        against_holds=None if against is None else _holds(entries, against),
    )


def run_ids(journal: Path) -> list[str]:
    """Return ids of all runs that have a record or a part, in order."""
    folders = [*journal.glob("runs/run_id=*"), *journal.glob("experiments/run_id=*")]
    return sorted({folder.name.partition("=")[2] for folder in folders})


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
    found: dict[str, set[str]] = {}
    for path in event_files(journal):
        event = _record(path) if untouched(path) else None
        if event is None:
            continue
        if event["kind"] == EventKind.COMPACTION:
            for run in json.loads(event["details"])["runs"]:
                found.setdefault(run["run_id"], set()).add(run["sha256"])
    return found


def _strays(journal: Path) -> list[Finding]:
    """Find files that readers take in though they belong to no run."""
    return [
        Finding("", path.relative_to(journal).as_posix(), "added", "it belongs to no run")
        for room in ("runs", "experiments")
        for path in sorted(journal.glob(f"{room}/*/*.parquet"))
        if not path.parent.name.startswith("run_id=")
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


def _verify_events(journal: Path, events: list[Path]) -> list[Finding]:
    """Hold each event against the hash in its name."""
    findings = []
    for path in events:
        kind, problem = "", ""
        if not path.name.startswith("event_id="):
            kind, problem = "added", "it is no event's file"
        elif not is_whole(path):
            kind, problem = "torn", "cut off: it has no end"
        elif not untouched(path) or (event := _record(path)) is None:
            kind, problem = "changed", "its bytes are not those that its name says"
        elif event.get("event_id") != path.name.partition("=")[2].partition(".")[0]:
            kind, problem = "changed", "it is not the event that its name says"
        if kind:
            findings.append(Finding("", path.relative_to(journal).as_posix(), kind, problem))
    return findings


def _entries(journal: Path, examined: dict[str, Examination]) -> list[str]:
    """Return a line for each run that has ended and each event, in the order of their times."""
    lines: list[tuple[str, str, object]] = []
    for run_id in run_ids(journal):
        one = examined.get(run_id)
        start: dict[str, Any] | None
        end: dict[str, Any] | None
        if one is not None and not one.findings:
            # Sound: what was read of it needn't be read again.
            parts = sorted((x.name, x.sha256) for x in one.links if x.name.startswith("part"))
            start, end, hashes = one.start, one.end or None, "".join(x for _, x in parts)
        else:
            files = RunFiles(journal, run_id)
            start, end = _record(files.start), _record(files.end)
            hashes = steadily(partial(_hashes, files)) if end is not None else ""
        if end is not None:
            lines.append((str(end.get("ended_at")), run_id, [start, end, hashes]))
    for path in event_files(journal):
        event = _record(path)
        if event is not None:
            lines.append((str(event.get("at")), path.name, event))
    return sorted(f"{when} {name} {_hash(content)}" for when, name, content in lines)


def _record(path: Path) -> dict[str, Any] | None:
    """Return a record's row; None where it isn't there or can't be read."""
    table = read_checked(path) if path.is_file() and is_whole(path) else None
    return None if table is None else row_of(table)


def _hash(content: object) -> str:
    body = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()


def _hashes(files: RunFiles) -> str:
    """Return the hashes of a run's parts as they were written; packing changes none."""
    found = []
    for part in files.parts:
        try:
            packed = [link.sha256 for link in links_of(part) if link.packed]
        except (pa.ArrowException, OSError):
            packed = []
        found += packed or [sha256_of(part)]
    return "".join(found)


def _digest(entries: list[str]) -> str:
    state = hashlib.sha256("\n".join(entries).encode())
    return f"{_PREFIX}:{len(entries)}:{state.hexdigest()}"


def _holds(entries: list[str], against: str) -> bool:
    """Whether a digest is that of entries that are still there.

    It covered the first `count` of them, but for those few that carry an earlier time and reached
    the disk later, as runs that end in the same moment may.
    """
    prefix, _, rest = against.partition(":")
    digits, _, _ = rest.partition(":")
    if prefix != _PREFIX or not digits.isdigit():
        raise UsageError(
            f'"{against}" is no digest of a journal',
            hint=f"it looks like {_PREFIX}:12:0f3a..., as gtmar verify prints it",
        )
    count = int(digits)
    for late in range(_MOST_LATE + 1):
        reach = entries[: count + late]
        recent = range(max(0, len(reach) - _LATE_AMONG), len(reach))
        for left_out in combinations(recent, late):
            kept = [entry for place, entry in enumerate(reach) if place not in left_out]
            if _digest(kept) == against:
                return True
    return False
