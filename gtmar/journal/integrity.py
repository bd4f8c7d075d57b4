"""Whether a journal is what was written: files, hashes, sequence, chain; and its digest.

Inside the journal only accidents and clumsy edits can be found: whoever rewrites a run and all its
hashes leaves no trace there. The digest, kept elsewhere (a commit, a ticket), finds that too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.errors import RunNotFoundError, UsageError
from gtmar.evaluate.version import EVALUATOR_VERSION, evaluator_code
from gtmar.journal.schema import RunDigest
from gtmar.journal.store import RunFiles, is_whole, previous_of, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Finding", "Verification", "verify"]

_PREFIX = "gtmar1"
#: Takes a finding: file or None, kind, problem.
_Report = Callable[["Path | None", str, str], None]


@dataclass(frozen=True)
class Finding:
    """One thing that isn't as it was written."""

    run_id: str
    #: File within the journal; empty where the run as a whole is meant.
    file: str
    #: `missing`, `torn`, `changed`, `added`, `sequence` or `digest`.
    kind: str
    problem: str


@dataclass(frozen=True)
class Verification:
    """What `verify` looked at, and what it found."""

    runs: int
    experiments: int
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
        One run's full id; None for all.
    against
        A digest that was printed earlier, for the whole journal: still holds where all that it
        covered is there unchanged, whatever came later.

    Raises
    ------
    RunNotFoundError
        If the journal holds no run.
    UsageError
        If `against` isn't a digest of this tool.
    """
    ids = [run_id] if run_id is not None else _run_ids(journal)
    if not ids:
        raise RunNotFoundError(
            f'journal "{journal}": no run in it', hint="--journal DIR says where it is"
        )
    findings: list[Finding] = []
    notes: list[str] = []
    experiments = 0
    for each in ids:
        files = RunFiles(journal, each)
        experiments += _verify_run(files, findings, notes)
    entries = _entries(journal)
    return Verification(
        runs=len(ids),
        experiments=experiments,
        findings=tuple(findings),
        notes=tuple(notes),
        digest=_digest(entries, len(entries)),
        against_holds=None if against is None else _holds(entries, against),
    )


def _run_ids(journal: Path) -> list[str]:
    """Return ids of all runs that have a record or a part."""
    folders = [*journal.glob("runs/run_id=*"), *journal.glob("experiments/run_id=*")]
    return sorted({folder.name.partition("=")[2] for folder in folders})


def _verify_run(files: RunFiles, findings: list[Finding], notes: list[str]) -> int:
    """Check one run; return its number of experiments."""

    def found(path: Path | None, kind: str, problem: str) -> None:
        name = path.relative_to(files.journal).as_posix() if path is not None else ""
        findings.append(Finding(files.run_id, name, kind, problem))

    on_disk = [*sorted(files.records.glob("*.parquet")), *files.parts]
    torn = [path for path in on_disk if not is_whole(path)]
    unreadable = [path for path in on_disk if path not in torn and not _readable(path)]
    ended = files.end.is_file()
    for path in torn:
        if ended or not files.parts or path != files.parts[-1]:
            found(path, "torn", "cut off: it has no end")
        else:
            notes.append(f"run {files.run_id}: its last part was cut off; gtmar resume mends that")
    for path in unreadable:
        found(path, "changed", "its bytes are not those that were written")
    if not (files.records / "start.parquet").is_file():
        found(files.records / "start.parquet", "missing", "the start record is gone")
        return 0
    whole = [path for path in on_disk if path not in torn and path not in unreadable]
    _verify_chain(files, whole, found, broken=bool(torn or unreadable))
    if not ended and not torn:
        state = "is running" if files.running() else "was cut off; gtmar resume goes on with it"
        notes.append(f"run {files.run_id} {state}")
    parts = [path for path in files.parts if path in whole]
    if not parts:
        return 0
    rows = pa.concat_tables(
        pq.read_table(p, partitioning=None).replace_schema_metadata(None) for p in parts
    )
    if not set(unreadable) & {files.end, files.records / "start.parquet"}:
        _verify_rows(files, rows, ended=ended, found=found, notes=notes)
    return max(0, int(rows.num_rows) - 1)


def _readable(path: Path) -> bool:
    try:
        pq.read_table(path, partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return False
    return True


def _verify_chain(files: RunFiles, whole: list[Path], found: _Report, *, broken: bool) -> None:
    """Hold each file against the hash that the next one carries; name what breaks the chain."""
    hashes = {path: sha256_of(path) for path in whole}
    claims = {path: previous_of(path) for path in whole}
    numbers = [int(part.stem.partition("-")[2]) for part in files.parts]
    gaps = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
    for number in gaps:
        found(files.experiments / f"part-{number:06d}.parquet", "missing", "the part is gone")
    # The tail has nothing after it: the end record, or the newest file of a run without one.
    tail = files.end if files.end in whole else max(whole, key=lambda p: p.stat().st_mtime_ns)
    before_gaps = {files.experiments / f"part-{number - 1:06d}.parquet" for number in gaps}
    for path in whole:
        if path == tail or hashes[path] in claims.values() or path in before_gaps:
            continue
        rivals = [other for other in whole if other != path and claims[other] == claims[path]]
        stranger = claims[path] not in ("", *hashes.values())
        if rivals or stranger:
            found(path, "added", "no file of the run was written after it")
        elif not broken:
            found(path, "changed", "its bytes are not those that the next file was written after")
    if files.end in whole:
        sealed = files.seal.read_text("ascii").strip() if files.seal.is_file() else None
        if sealed is None:
            found(files.seal, "missing", "the seal of the end record is gone")
        elif sealed != sha256_of(files.end):
            found(files.end, "changed", "its bytes are not those that were sealed")


def _verify_rows(
    files: RunFiles, rows: pa.Table, *, ended: bool, found: _Report, notes: list[str]
) -> None:
    """Check sequence, digest and evaluator of a run's rows."""
    numbers = rows["number"].to_pylist()
    if numbers != list(range(len(numbers))):
        wrong = next(i for i, n in enumerate(numbers) if n != i)
        found(None, "sequence", f"experiment {wrong} is missing, doubled or out of its place")
    start = files.record("start")
    if ended:
        end = files.record("end")
        digest = RunDigest()
        digest.update(rows)
        if digest.hexdigest() != end["digest"]:
            found(None, "digest", "its experiments are not those that it ended with")
    if start["evaluator_version"] != EVALUATOR_VERSION:
        notes.append(
            f"run {files.run_id}: evaluator version {start['evaluator_version']} then, "
            f"{EVALUATOR_VERSION} now"
        )
    elif start["evaluator_code"] != evaluator_code():
        notes.append(f"run {files.run_id}: the evaluator's code has changed since, not its version")


def _entries(journal: Path) -> list[str]:
    """Return a line for each run that has ended and each event, in the order of their times."""
    lines = []
    for run_id in _run_ids(journal):
        files = RunFiles(journal, run_id)
        if not files.end.is_file() or not _readable(files.end):
            continue
        beginning = files.records / "start.parquet"
        readable = beginning.is_file() and _readable(beginning)
        end, start = files.record("end"), files.record("start") if readable else None
        rows = "".join(sha256_of(part) for part in files.parts)
        body = json.dumps([start, end, rows], sort_keys=True, default=str)
        lines.append((str(end["ended_at"]), run_id, hashlib.sha256(body.encode()).hexdigest()))
    for path in journal.glob("events/*.parquet"):
        if is_whole(path) and _readable(path):
            row = pq.read_table(path, partitioning=None).to_pylist()[0]
            body = json.dumps(row, sort_keys=True, default=str)
            lines.append((str(row["at"]), path.name, hashlib.sha256(body.encode()).hexdigest()))
    return [" ".join(line) for line in sorted(lines)]


def _digest(entries: list[str], count: int) -> str:
    state = hashlib.sha256("\n".join(entries[:count]).encode())
    return f"{_PREFIX}:{count}:{state.hexdigest()}"


def _holds(entries: list[str], against: str) -> bool:
    prefix, _, rest = against.partition(":")
    count, _, _ = rest.partition(":")
    if prefix != _PREFIX or not count.isdigit():
        raise UsageError(
            f'"{against}" is no digest of a journal',
            hint=f"it looks like {_PREFIX}:12:0f3a..., as gtmar verify prints it",
        )
    return _digest(entries, int(count)) == against
