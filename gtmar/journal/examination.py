"""One run examined: its files, chain, seal, sequence and digest; what is wrong, by file.

What is wrong is a finding. A run that goes on, or was cut off, is none: that is a note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gtmar.evaluate.version import EVALUATOR_VERSION, evaluator_code
from gtmar.journal.chain import find_breaks
from gtmar.journal.digest import RunDigest
from gtmar.journal.store import (
    PACKED_NAME,
    Link,
    RunFiles,
    is_whole,
    links_of,
    read_checked,
    sha256_of,
    steadily,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Examination", "Finding", "examine", "row_of"]


@dataclass(frozen=True)
class Finding:
    """One thing that isn't as it was written."""

    #: Empty where it is about no run.
    run_id: str
    #: File within the journal; empty where the run as a whole is meant.
    file: str
    #: `missing`, `torn`, `changed`, `added`, `sequence` or `digest`.
    kind: str
    problem: str


@dataclass(frozen=True)
class Examination:
    """What was found about one run."""

    #: Rows, the baseline aside.
    experiments: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    #: Links of all files that can be read.
    links: tuple[Link, ...]
    #: The start and the end record; empty where they aren't there or can't be read.
    start: dict[str, Any]
    end: dict[str, Any]


def examine(files: RunFiles, packed: set[str] | None = None) -> Examination:
    """Check one run: files, seal, chain, sequence, digest.

    Parameters
    ----------
    files
        The run.
    packed
        Hashes of its packed file that are on record; None where it isn't on record as packed.
    """
    return steadily(_Examiner(files, packed).examine)


class _Examiner:
    def __init__(self, files: RunFiles, packed: set[str] | None) -> None:
        self._files = files
        self._packed = packed
        self._findings: list[Finding]
        self._notes: list[str]

    def examine(self) -> Examination:
        """Look at everything, in the order in which findings are told."""
        files = self._files
        self._findings, self._notes = [], []
        on_disk = _listing(files)
        torn = [path for path in on_disk if not is_whole(path)]
        read = {path: read_checked(path) for path in on_disk if path not in torn}
        sound = {path: table for path, table in read.items() if table is not None}
        damaged = set(on_disk) - set(sound)
        links = [link for path in sound for link in links_of(path)]
        ended = files.end in on_disk
        start, end = (row_of(sound[p]) if p in sound else {} for p in (files.start, files.end))
        self._note_damage(damaged, torn, on_disk, ended=ended)
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
            for gap in find_breaks(files, links, damaged, changed, rows_hold=hold):
                self._found(gap.path, gap.kind, gap.problem)
        self._findings += later
        self._note_evaluator(start)
        return Examination(
            experiments=max(0, rows.num_rows - 1) if rows is not None else 0,
            findings=tuple(self._findings),
            notes=tuple(self._notes),
            links=tuple(links),
            start=start,
            end=end,
        )

    def _found(self, path: Path | None, kind: str, problem: str) -> None:
        """Keep a finding; the first about a file is the one that counts."""
        if path is None or not self._is_named(path):
            name = "" if path is None else self._within(path)
            self._findings.append(Finding(self._files.run_id, name, kind, problem))

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
                self._found(path, "changed", "its bytes are not those that were written")
            elif ended or path != last:
                self._found(path, "torn", "cut off: it has no end")
            else:
                self._note(": its last part was cut off; gtmar resume mends that")

    def _check_beginning(self, on_disk: list[Path], links: list[Link]) -> bool:
        """Say whether the run has begun; what was cut off before its start record is no run."""
        files = self._files
        if files.start in on_disk:
            return True
        place, _ = files.newest() or (0, "")
        if files.start.is_file() or (files.running() and len(links) <= 1):
            self._note(" is beginning")
            return False
        if len(links) > 1 or place > 0 or files.seal.is_file() or files.end in on_disk:
            self._found(files.start, "missing", "the start record is gone")
            return True
        self._note(" was cut off before it began; pass over it")
        return False

    def _check_whether_it_goes_on(self, *, imported: bool) -> None:
        files = self._files
        if files.running() or files.end.is_file():
            self._note(" is running")
            return
        # The end as it was written, and not yet put in its place when the process was killed.
        aside = [sha256_of(file) for file in files.records.glob("*.partial") if file.is_file()]
        if files.seal.is_file() and _sealed(files) not in aside:
            self._found(files.end, "missing", "the end record is gone")
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
            self._found(None, "digest", "its parts don't have the same columns")
            return None

    def _check_rows(
        self, rows: pa.Table | None, end: dict[str, Any] | None
    ) -> tuple[list[Finding], bool]:
        """Hold rows against their numbers and the end record's digest; say whether that holds."""
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

    def _about_rows(self, kind: str, problem: str) -> Finding:
        return Finding(self._files.run_id, "", kind, problem)

    def _check_seal(self) -> None:
        files = self._files
        if not files.seal.is_file():
            self._found(files.seal, "missing", "the seal of the end record is gone")
        elif _sealed(files) != sha256_of(files.end):
            self._found(files.end, "changed", "its bytes are not those that were sealed")

    def _check_packed(self, links: list[Link]) -> None:
        parts = {link.path for link in links if link.path.parent == self._files.experiments}
        lone = parts if parts == {self._files.experiments / PACKED_NAME} else set()
        for path in sorted({link.path for link in links if link.packed} | lone):
            if self._packed is not None and sha256_of(path) not in self._packed:
                self._found(path, "changed", "its bytes are not those that were packed")
            elif self._packed is None and any(x.packed for x in links if x.path == path):
                self._note(": its packing isn't on record; gtmar journal compact makes up for it")

    def _note_evaluator(self, start: dict[str, Any]) -> None:
        # Null for an imported run: nobody here evaluated it.
        version = start.get("evaluator_version")
        if version is not None and version != EVALUATOR_VERSION:
            self._note(f": evaluator version {version} then, {EVALUATOR_VERSION} now")
        elif version is not None and start.get("evaluator_code") != evaluator_code():
            self._note(": the evaluator's code has changed since, not its version")


def _listing(files: RunFiles) -> list[Path]:
    """Return a run's files of one moment, though a run may be writing."""
    while True:
        listed = [sorted(room.glob("*.parquet")) for room in (files.records, files.experiments) * 2]
        if listed[:2] == listed[2:]:
            return listed[0] + listed[1]


def _sealed(files: RunFiles) -> str:
    return files.seal.read_bytes().decode("ascii", errors="replace").strip()


def row_of(record: pa.Table) -> dict[str, Any]:
    """Return a record's row; an empty one where it was taken out or can't be read."""
    try:
        rows: list[dict[str, Any]] = record.to_pylist()
    except (pa.ArrowException, ValueError):
        rows = []
    return rows[0] if rows else {}
