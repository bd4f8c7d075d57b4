"""One run examined: its files, chain, seal, sequence and digest; what is wrong, by file.

What is wrong is a finding. A run that goes on, or was cut off, is none: that is a note.

A run whose files have the hashes of its chain, from the first to the sealed end, is as it was
written, whatever is in them: so its bytes are read and not its rows. Rows are read where a hash
doesn't hold, where nothing states one, and where they are asked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.evaluate.version import EVALUATOR_VERSION, evaluator_code
from gtmar.journal.chain import find_breaks, number_of
from gtmar.journal.digest import RunDigest
from gtmar.journal.names import PACKED_NAME, holds_rows_of, is_own, replaced_names
from gtmar.journal.store import (
    JournalFile,
    Link,
    RunFiles,
    parquet_files,
    sha256_of,
    steadily,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Examination", "Finding", "examine"]

#: Of a start record: what the notes about a run are made of.
_NOTED = ["kind", "evaluator_version", "evaluator_code", "parent_run", "memory"]


@dataclass(frozen=True)
class Finding:
    """One thing that isn't as it was written."""

    #: Empty where it is about no run.
    run_id: str
    #: File within the journal; empty where the run as a whole is meant.
    file: str
    #: `missing`, `torn`, `changed`, `added`, `sequence`, `digest` or `unreadable`.
    kind: str
    problem: str


@dataclass(frozen=True)
class Examination:
    """What was found about one run."""

    #: Rows, the baseline aside.
    experiments: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    #: Links of all files that can be read and that readers take in.
    links: tuple[Link, ...]
    #: What of the start record is noted; empty where it isn't there or can't be read.
    start: dict[str, Any]
    #: Whether the end record is there and can be read.
    ended: bool
    #: All rows in order; None where they were not read, or can't be.
    rows: pa.Table | None = field(default=None, repr=False)


def examine(
    files: RunFiles, packed: set[str] | None = None, *, rows: bool | None = None
) -> Examination:
    """Check one run: files, seal, chain, sequence, digest.

    Parameters
    ----------
    files
        The run.
    packed
        Hashes of its packed file that are on record; None where it isn't on record as packed.
    rows
        True to read the rows of a run whose hashes hold too, and to hold them against its digest;
        None to do so where parts are packed, whose first hashes stand for files that are gone.
    """
    try:
        return steadily(_Examiner(files, packed, rows=rows).examine)
    except PermissionError as err:
        name = os.path.relpath(os.fsdecode(err.filename), files.journal)
        unread = Finding(files.run_id, name, "unreadable", f"{err.strerror}: it wasn't checked")
        return Examination(0, (unread,), (), (), {}, ended=False)


class _Examiner:
    def __init__(self, files: RunFiles, packed: set[str] | None, *, rows: bool | None) -> None:
        self._files = files
        self._packed = packed
        self._rows_asked = rows
        self._findings: list[Finding]
        self._notes: list[str]

    def examine(self) -> Examination:
        """Look at the bytes, and where they don't say enough at everything."""
        self._findings, self._notes = [], []
        if self._files.records.is_symlink() or self._files.experiments.is_symlink():
            self._note(": a folder of it is a link, which queries don't follow")
        on_disk = [JournalFile.load(path) for path in _listing(self._files)]
        replaced = self._replaced(on_disk)
        kept = [file for file in on_disk if file.path not in replaced]
        return self._as_written(kept) or self._in_detail(kept)

    def _replaced(self, on_disk: list[JournalFile]) -> set[Path]:
        """Return parts that a packed one stands for, as a sync puts them back beside it."""
        parts = [file for file in on_disk if file.path.parent == self._files.experiments]
        links = {x.name: x.sha256 for file in parts[:1] for x in file.links() if x.packed}
        names = replaced_names(parts[0].path.name, links) if parts else set()
        if not names:
            return set()
        beside = [file for file in parts if file.path.name in names]
        for file in beside:
            if links.get(file.path.name) != file.sha256:
                self._found(file.path, "added", "the packed part stands in its place")
        if beside and not self._findings:
            self._note(
                f": {len(beside):,} of its parts lie beside the packed one that stands for them; "
                "they aren't read, and gtmar journal compact takes them away"
            )
        return {file.path for file in beside}

    def _as_written(self, kept: list[JournalFile]) -> Examination | None:
        """Return what there is to say of a run whose every hash holds; None for any other."""
        files = self._files
        links = sorted((link for file in kept for link in file.links()), key=lambda x: x.place)
        packed = [file for file in kept if file.stated(b"gtmar_packed") is not None]
        rows_asked = bool(packed) if self._rows_asked is None else self._rows_asked
        parts = [file for file in kept if file.path.parent == files.experiments]
        if (
            rows_asked
            or self._findings
            or len(links) < 3
            or links[-1].path != files.end
            or not files.seal.is_file()
            or links[-1].sha256 != _sealed(files)
            or [x.previous for x in links] != ["", *(x.sha256 for x in links[:-1])]
            or [x.place for x in links] != list(range(len(links)))
            or not _are_in_order(links)
            or not all(is_own(file.path.parent.parent.name, file.path.name) for file in kept)
            or not all(holds_rows_of(files.run_id, file.footer) for file in kept)
            or not all(file.sha256 in (self._packed or ()) for file in packed)
        ):
            return None
        lone = [file.path.name for file in parts] == [PACKED_NAME]
        if lone and self._packed is not None and parts[0].sha256 not in self._packed:
            return None
        count = _rows_in(parts)
        begun = next((file for file in kept if file.path == files.start), None)
        start = None if begun is None else begun.table(_NOTED)
        if count is None or start is None or start.num_rows != 1:
            return None
        noted: dict[str, Any] = start.to_pylist()[0]
        self._note_evaluator(noted)
        return Examination(
            experiments=count - 1,
            findings=(),
            notes=tuple(self._notes),
            links=tuple(links),
            start=noted,
            ended=True,
        )

    def _in_detail(self, kept: list[JournalFile]) -> Examination:
        """Look at everything, in the order in which findings are told."""
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
            ended=bool(end),
            rows=rows,
        )

    def _check_owner(self, sound: dict[Path, pa.Table]) -> None:
        """Name files whose rows are of another run than their folder's name says."""
        for path, table in sound.items():
            if "run_id" in table.column_names:
                others = {*table["run_id"].to_pylist()} - {self._files.run_id}
                if others:
                    self._found(path, "added", f"its rows are of run {min(map(str, others))}")

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
        listed = [parquet_files(room) for room in (files.records, files.experiments) * 2]
        if listed[:2] == listed[2:]:
            return listed[0] + listed[1]


def _are_in_order(links: list[Link]) -> bool:
    """Whether names ascend as places do: part 1, the start, then parts and resumes by number."""
    if links[1].name != "start.parquet":
        return False
    for kind in ("part", "resume"):
        numbers = [number for x in links if (number := number_of(x.name, kind)) is not None]
        if numbers != list(range(1, len(numbers) + 1)):
            return False
    return True


def _rows_in(parts: list[JournalFile]) -> int | None:
    """Return how many rows parts have, by their footers; None where one can't be read."""
    try:
        counts: list[int] = [
            pq.read_metadata(pa.BufferReader(part.data)).num_rows for part in parts
        ]
    except (pa.ArrowException, OSError):
        return None
    return sum(counts)


def _sealed(files: RunFiles) -> str:
    return files.seal.read_bytes().decode("ascii", errors="replace").strip()


def _row_of(record: pa.Table) -> dict[str, Any]:
    """Return a record's row; an empty one where it was taken out or can't be read."""
    try:
        rows: list[dict[str, Any]] = record.to_pylist()
    except (pa.ArrowException, ValueError):
        rows = []
    return rows[0] if rows else {}
