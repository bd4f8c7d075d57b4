"""Import experiments of other tools from JSONL: split a file into runs and add them to a journal.

Several runs append to such a file without a mark between them, so a run's begin is inferred from
the weights and the value that each line starts from. The whole file is validated before anything is
written. Fields that it lacks, such as the table and the spec, stay null, so an imported run can't
be compared with others.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from gtmar.errors import GtmarError, JournalError, culprits
from gtmar.integrations.jsonl_format import (
    KEPT_REASON,
    ORIGINAL,
    REVENUE_WEIGHTED,
    Entry,
    Problems,
    entry_of,
    objects,
)
from gtmar.journal.columns import EXPERIMENTS, FORMAT_VERSION, experiment_id
from gtmar.journal.compaction import work_folder
from gtmar.journal.events import EventKind, event_files, read_event, untouched, write_event
from gtmar.journal.files import RunFiles, make_folder, matching, place_file, run_of, unwritable
from gtmar.journal.schema import first_format, schema_of
from gtmar.journal.verify import covered, run_ids
from gtmar.journal.writer import RunWriter
from gtmar.metrics.registry import all_metrics
from gtmar.outputs import sync_folder
from gtmar.plain_data import PlainData

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

__all__ = ["Imported", "Undone", "import_jsonl", "undo_import"]

#: Tolerance within which a value equals the incumbent's, since files contain rounded values.
_ROUNDING = 1e-6
#: Most bytes of a line, which may hold a list of all experiments.
_LONGEST_LINE = 256 * 1024 * 1024
_NOT_THERE = "imported: not in the file"
#: Prefix of the mark: a file with the ids of the runs that an import is about to write.
_MARK = "import-"
#: Rows in memory at once.
_BATCH = 2048


# ---- the runs of a file --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Placed:
    """An experiment assigned to a run."""

    #: Index of its run in the file, from 0.
    run: int
    #: Number of the experiment in its run, from 1, and of its incumbent (0: the baseline).
    number: int
    parent: int
    #: Weight before and after, by name.
    changes: dict[str, tuple[int, int]]
    entry: Entry


class _ForeignRun:
    """One run of a file: its incumbent while lines are read, and totals over its lines.

    `start` has the weights before the change of its `first` line: those of the baseline.
    """

    def __init__(self, first: Entry, start: dict[str, int]) -> None:
        self.first, self.start = first, start
        #: Weights and objective of the incumbent, and its number, 0 for the baseline.
        self.weights, self.value, self.incumbent = start, first.before, 0
        #: Whether a higher objective is better.
        self.higher_is_better = True
        self.experiments = 0
        self.wins = 0
        self.last_line = first.line
        #: Sum of durations in microseconds; None if no line has one.
        self.duration_us: int | None = None
        #: Tiers, in the order of the longest list of tiers.
        self.tiers: tuple[str, ...] = ()
        #: Bases of revenue retention in the lines; None for a line without one.
        self.bases: set[str | None] = set()
        #: Metrics by tier that occur in the run.
        self.by_tier: set[str] = set()

    def goes_on_with(self, entry: Entry) -> bool:
        """Whether a line starts from the weights and the value of this run's incumbent."""
        start = {name: before for name, (before, _) in entry.changes.items()}
        start = {**entry.weights, **start}
        return (
            self.keeps(entry)
            and self.weights.keys() == entry.weights.keys()
            and all(start[name] in (None, weight) for name, weight in self.weights.items())
        )

    def keeps(self, entry: Entry) -> bool:
        """Whether a line has this run's origin, and starts from its incumbent's value."""
        near = math.isclose(entry.before, self.value, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        return entry.origin == self.first.origin and near

    def take(self, entry: Entry, run: int) -> _Placed:
        """Add the next line to the run."""
        self.experiments += 1
        changes = {
            name: (self.weights[name] if before is None else before, after)
            for name, (before, after) in entry.changes.items()
        }
        placed = _Placed(run, self.experiments, self.incumbent, changes, entry)
        if entry.won and entry.after is not None:
            self.wins += 1
            self.weights, self.value, self.incumbent = entry.weights, entry.after, self.experiments
        self.last_line = entry.line
        self.bases.add(entry.basis)
        if entry.duration_us is not None:
            self.duration_us = (self.duration_us or 0) + entry.duration_us
        for key, values in entry.by_tier.items():
            self.by_tier.add(key)
            if not values.keys() <= set(self.tiers):
                first, rest = sorted((self.tiers, tuple(values)), key=len, reverse=True)
                self.tiers = tuple(dict.fromkeys((*first, *rest)))
        return placed


class _ForeignFile:
    """One pass over a file, which yields each valid experiment assigned to its run."""

    def __init__(self, path: Path, problems: Problems, earlier: Collection[str] = ()) -> None:
        self.path, self.problems = path, problems
        #: SHA-256 of files imported before, and lines so far after which the file was one of them.
        self._earlier, self.begins_with = earlier, dict[str, int]()
        #: Runs found so far.
        self.runs: list[_ForeignRun] = []
        self._hash = hashlib.sha256()
        #: Hashes of the objects read so far that say when they were evaluated.
        self._seen: set[bytes] = set()

    def __iter__(self) -> Iterator[_Placed]:
        for entry in self._entries():
            run = self._run_of(entry)
            if run is None:
                continue
            if entry.won and entry.after is not None:
                if run.wins == 0:
                    run.higher_is_better = _higher_is_better(entry)
                gain = entry.after - entry.before
                if (gain if run.higher_is_better else -gain) <= 0:
                    problem = "outcome is win, but variant_value is no better"
                    self.problems.add(entry.line, problem, entry.after)
            yield run.take(entry, len(self.runs) - 1)

    def hexdigest(self) -> str:
        """Return the SHA-256 of the bytes read so far."""
        return self._hash.hexdigest()

    def _entries(self) -> Iterator[Entry]:
        try:
            with self.path.open("rb") as file:
                for number, text in objects(self._lines(file), self.problems):
                    entry = entry_of(text, number, self.problems)
                    if entry is not None and not self._repeats(entry):
                        yield entry
        except OSError as err:
            raise JournalError(f'"{self.path}": can\'t be read: {err.strerror}') from err

    def _repeats(self, entry: Entry) -> bool:
        """Whether an earlier object is equal in every key, which is a fault: it would count twice.

        Without a moment, two runs of one seed may well have written equal objects.
        """
        if entry.at is None:
            return False
        key = hashlib.blake2b(entry.original.encode(), digest_size=16).digest()
        if key not in self._seen:
            self._seen.add(key)
            return False
        self.problems.add(entry.line, "the same experiment stands before it, equal in every key")
        return True

    def _lines(self, file: IO[bytes]) -> Iterator[tuple[int, str]]:
        for number, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
            self._note_earlier(number, raw)
            if len(raw) == _LONGEST_LINE:
                self.problems.add(number, f"a line of more than {_LONGEST_LINE:,} bytes")
                return
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
            except UnicodeDecodeError:
                self.problems.add(number, "not UTF-8 text")
                continue
            yield number, text

    def _note_earlier(self, number: int, raw: bytes) -> None:
        """Hash a line, and note whether the file was imported when it ended here."""
        end = len(raw.rstrip(b"\r\n"))
        for part in (raw[:end], raw[end:]):
            self._hash.update(part)
            if self._earlier and (digest := self._hash.hexdigest()) in self._earlier:
                self.begins_with[digest] = number

    def _run_of(self, entry: Entry) -> _ForeignRun | None:
        """Return the run that a line belongs to, starting one if needed; None if it is faulty."""
        if self.runs:
            run = self.runs[-1]
            if run.goes_on_with(entry):
                return run
            others = sorted(run.weights.keys() ^ entry.weights.keys())
            if others and run.keeps(entry):
                problem = (
                    "weights_snapshot has or lacks names beside the lines before it; "
                    "if another run begins here, split the file"
                )
                self.problems.add(entry.line, problem, others)
                return None
        start = dict(entry.weights)
        for name, (before, _) in entry.changes.items():
            if before is None:
                problem = "the first experiment of a run must say what a changed weight was before"
                self.problems.add(entry.line, problem, name)
                return None
            start[name] = before
        self.runs.append(_ForeignRun(entry, start))
        return self.runs[-1]


def _higher_is_better(win: Entry) -> bool:
    """Whether higher is better: by the metric; for an unknown one, by the direction of its win."""
    metric = all_metrics().get(win.metric.partition(".")[0])
    if metric is not None:
        return metric.better != "lower"
    return win.after is None or win.after >= win.before


def _rows(run: _ForeignRun, run_id: str, placed: Sequence[_Placed]) -> pa.Table:
    """Return lines of a run, which must have been read to its end, as rows of the journal."""
    rows = []
    for each in placed:
        entry = each.entry
        reasons = [("*", _NOT_THERE)]
        if entry.revenue_weighted is not None:
            reasons.append((REVENUE_WEIGHTED, KEPT_REASON.replace("(.*)", entry.revenue_weighted)))
        row: dict[str, Any] = {
            "run_id": run_id,
            "experiment_id": experiment_id(each.number),
            "number": each.number,
            "proposal": each.number,
            "parent": experiment_id(each.parent),
            "objective": entry.metric,
            "value_before": entry.before,
            "value_after": entry.after,
            "outcome": "win" if entry.won else "lose",
            "changes": [(n, {"before": b, "after": a}) for n, (b, a) in each.changes.items()],
            # In the order of the first line, since the order of keys in JSON has no meaning.
            "weights": [(name, entry.weights[name]) for name in run.start],
            "null_reasons": [*reasons, (ORIGINAL, entry.original)],
            "basis": entry.basis,
            "breaches": [],
            "proposer": "import",
            "note": entry.hypothesis,
            "evaluated_at": entry.at,
            "duration_us": entry.duration_us,
        }
        row |= {key: entry.scalars.get(key) for key, m in all_metrics().items() if not m.by_tier}
        for key in run.by_tier:
            of_tiers = entry.by_tier.get(key, {})
            row[key] = [(tier, of_tiers.get(tier)) for tier in run.tiers]
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=first_format(schema_of(EXPERIMENTS)))


def _baseline(run: _ForeignRun, run_id: str) -> pa.Table:
    """Return the journal row of a run's baseline, from which its first line started."""
    row = {
        "run_id": run_id,
        "experiment_id": experiment_id(0),
        "number": 0,
        "proposal": 0,
        "objective": run.first.metric,
        "value_after": run.first.before,
        "outcome": "baseline",
        "changes": [],
        "weights": list(run.start.items()),
        "null_reasons": [("*", _NOT_THERE)],
        "breaches": [],
        "proposer": "baseline",
        "evaluated_at": run.first.at,
        **{key: [(tier, None) for tier in run.tiers] for key in run.by_tier},
    }
    return pa.Table.from_pylist([row], schema=first_format(schema_of(EXPERIMENTS)))


# ---- writing to a journal ------------------------------------------------------------------------


@dataclass(frozen=True)
class Imported(PlainData):
    """The result of an import."""

    source: str
    #: Ids of the new runs, in the order of the file.
    runs: tuple[str, ...]
    experiments: int
    wins: int
    #: Keys and metrics that the journal has no column for, and in how many lines they were.
    ignored: dict[str, int]


def import_jsonl(
    path: str | Path,
    journal: str | Path = "journal",
    *,
    author: str | None = None,
    note: str | None = None,
) -> Imported:
    """Import a file of experiments: each run in it becomes a run of kind `import`.

    A new run begins where the metric, the seed, the evaluation version or the ``RUN/`` prefix of
    the id changes, or where a line doesn't start from the current incumbent. Each object becomes
    an experiment; missing fields stay null.

    Parameters
    ----------
    path
        The file.
    journal
        The journal's folder, created if it doesn't exist.
    author, note
        Who imports the file, and why; recorded with the runs and the event.

    Raises
    ------
    JournalError
        If the file can't be read or has faults, which the message lists (nothing is written then);
        if the journal contains this file already, or its beginning, or can't be written.
    """
    path, folder = Path(path), Path(journal)
    problems = Problems()
    earlier = {str(each.get("file_sha256")) for each in _imports(folder).values()}
    file = _ForeignFile(path, problems, earlier)
    ignored: Counter[str] = Counter()
    for placed in file:
        ignored.update(placed.entry.ignored)
    if not file.runs and not problems:
        problems.add(0, "it is empty")
    if problems:
        raise problems.error(str(path))
    digest = file.hexdigest()
    _refuse_twice(folder, path, digest)
    _refuse_grown(folder, path, file.begins_with)
    try:
        with work_folder(folder) as room:
            _tidy(folder, room)
            # Another process may have imported it while this one waited for the lock.
            _refuse_twice(folder, path, digest)
            return _place(folder, room, file, digest, ignored, {"author": author, "note": note})
    except OSError as err:
        raise unwritable(folder, err) from err


def _place(
    folder: Path,
    room: Path,
    file: _ForeignFile,
    digest: str,
    ignored: Mapping[str, int],
    by: dict[str, str | None],
) -> Imported:
    """Write the runs of a valid file, each atomically, and an event that records the import.

    The runs' ids are written to a mark first. If the import is killed, the next attempt reads them
    there, keeps the runs that exist and writes the others.
    """
    now = datetime.now(UTC)
    mark = room / f"{_MARK}{digest}"
    # Runs without a time get the current one plus some microseconds, so that they keep their order.
    starts = [run.first.at or now + timedelta(microseconds=n) for n, run in enumerate(file.runs)]
    if mark.is_file():
        ids = mark.read_text(encoding="ascii").split()
    else:
        ids = [f"r{at:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}" for at in starts]
        place_file(mark, "\n".join(ids).encode("ascii"))
    lines = groupby(_ForeignFile(file.path, Problems()), key=lambda placed: placed.run)
    for (n, of_run), run in zip(lines, file.runs, strict=True):
        there, staged = RunFiles(folder, ids[n]), RunFiles(room, ids[n])
        if there.end.is_file():
            continue
        start = _start(run, file.path, digest) | {"started_at": starts[n], **by}
        with RunWriter(room, ids[n]) as writer:
            _write(writer, run, start, of_run)
        make_folder(there.experiments.parent, exist_ok=True)
        make_folder(there.records.parent, exist_ok=True)
        # The records are moved last, since a run exists only once it has records.
        for new, path in ((staged.experiments, there.experiments), (staged.records, there.records)):
            new.rename(path)
            sync_folder(path.parent)
    imported = Imported(
        source=str(file.path),
        runs=tuple(ids),
        experiments=sum(run.experiments for run in file.runs),
        wins=sum(run.wins for run in file.runs),
        ignored=dict(ignored),
    )
    write_event(
        folder,
        EventKind.IMPORT,
        **by,
        run_id=ids[0] if len(ids) == 1 else None,
        source=str(file.path),
        details={"file_sha256": digest, **imported.as_json()},
    )
    mark.unlink()
    _clear(room)
    return imported


def _tidy(folder: Path, room: Path) -> None:
    """Delete the partial files of killed imports, and the marks of completed ones."""
    _clear(room)
    on_record = {details["file_sha256"] for details in _imports(folder).values()}
    for half in room.glob(f"{_MARK}*.partial"):
        half.unlink()
    for mark in room.glob(f"{_MARK}*"):
        for run_id in mark.read_text(encoding="ascii").split():
            files = RunFiles(folder, run_id)
            if run_of(f"run_id={run_id}") and not files.records.exists():
                shutil.rmtree(files.experiments, ignore_errors=True)
        if mark.name.removeprefix(_MARK) in on_record:
            mark.unlink()


def _clear(room: Path) -> None:
    for kind in ("runs", "experiments"):
        shutil.rmtree(room / kind, ignore_errors=True)


def _event(path: Path) -> dict[str, Any]:
    return read_event(path) if untouched(path) else {}


def _imports(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the details of all recorded imports that were not undone, by event."""
    by_event: dict[str, dict[str, Any]] = {}
    undone: set[str] = set()
    for path in event_files(folder):
        try:
            event = _event(path)
        except PermissionError:
            continue
        if event.get("kind") == EventKind.IMPORT:
            by_event[event["event_id"]] = json.loads(event["details"])
        elif event.get("kind") == EventKind.UNDO:
            undone.add(json.loads(event["details"])["event"])
    return {event: details for event, details in by_event.items() if event not in undone}


def _refuse_twice(folder: Path, path: Path, digest: str) -> None:
    """Raise `JournalError` if the journal records an import of a file with this hash."""
    for details in _imports(folder).values():
        if details.get("file_sha256") == digest:
            runs = details["runs"]
            raise JournalError(
                f'"{path}" is in the journal "{folder}" already, as '
                f"run{'s' if len(runs) > 1 else ''} {culprits(runs)}",
                hint=f"gtmar review {runs[0]}",
                runs=runs,
            )


def _refuse_grown(folder: Path, path: Path, begins_with: Mapping[str, int]) -> None:
    """Raise `JournalError` if a file has grown since it was imported: its lines would count twice.

    `begins_with` has the numbers of its lines so far by hash of an earlier import.
    """
    for event, details in _imports(folder).items():
        lines = begins_with.get(str(details.get("file_sha256")))
        if lines is not None:
            runs = details["runs"]
            raise JournalError(
                f'"{path}" has grown since it was imported: its first {lines:,} lines are in the '
                f'journal "{folder}" as run{"s" if len(runs) > 1 else ""} {culprits(runs)}, and '
                "would count twice",
                hint=f"gtmar journal import --undo {event}, then import the whole file",
                runs=runs,
            )


@dataclass(frozen=True)
class Undone(PlainData):
    """The result of undoing an import."""

    #: The import's event, and the one that says that it was taken back.
    event: str
    event_id: str
    source: str
    runs: tuple[str, ...]
    experiments: int


def undo_import(
    event: str,
    journal: str | Path = "journal",
    *,
    author: str | None = None,
    note: str | None = None,
) -> Undone:
    """Undo an import: delete its runs, and record that in an event.

    The event is written first. It contains the entries of these runs that the journal's digest
    covered, so that older digests can still be verified. The import's own event stays. An undo that
    was interrupted is completed by the next call. Afterwards the same file can be imported again.

    Parameters
    ----------
    event
        Id of the import's event, or a unique beginning or end of it.
    journal
        The journal's folder.
    author, note
        Who undoes the import, and why.

    Raises
    ------
    JournalError
        If there is no such import, it was undone already, one of its runs was changed since, or
        something else in the journal depends on one of its runs.
    """
    folder = Path(journal)
    try:
        with work_folder(folder) as room:
            events = list(map(_event, event_files(folder)))
            imports = (each for each in events if each.get("kind") == EventKind.IMPORT)
            on_record = {each["event_id"]: json.loads(each["details"]) for each in imports}
            matches = matching(event, list(on_record))
            if len(matches) != 1:
                raise JournalError(
                    f'"{event}" stands for {len(matches)} imports of the journal "{folder}"; '
                    f"it has {culprits(sorted(on_record)) if on_record else 'none'}",
                    hint="gtmar sql -c \"from events where kind = 'import'\" lists them",
                )
            details = on_record[matches[0]]
            undone = {
                json.loads(each["details"])["event"]: each["event_id"]
                for each in reversed(events)
                if each.get("kind") == EventKind.UNDO
            }
            begun = undone.get(matches[0])
            files = [RunFiles(folder, run) for run in details["runs"]]
            there = [each.run_id for each in files if each.records.exists()]
            # An import killed after its event left its mark. Without the mark, a later import of
            # the file gets new ids.
            (room / f"{_MARK}{details['file_sha256']}").unlink(missing_ok=True)
            if begun is None:
                _refuse_needed(folder, set(details["runs"]), matches[0], events)
                begun = write_event(
                    folder,
                    EventKind.UNDO,
                    author=author,
                    note=note,
                    source=details["source"],
                    details={
                        "event": matches[0],
                        "runs": details["runs"],
                        "entries": covered(folder, there),
                    },
                )
            elif not any(run.records.exists() or run.experiments.exists() for run in files):
                raise JournalError(f"the import {matches[0]} was taken back already, by {begun}")
            for old in (path for run in files for path in (run.records, run.experiments)):
                aside = room / old.name
                if aside.is_dir() and not aside.is_symlink():
                    shutil.rmtree(aside)  # Left by an undo that was interrupted here.
                if old.exists():
                    # Renaming hides the folder from readers in one step; then it is deleted.
                    old.rename(aside)
                    sync_folder(old.parent)
                    shutil.rmtree(aside)
    except OSError as err:
        raise unwritable(folder, err) from err
    return Undone(
        event=matches[0],
        event_id=begun,
        source=details["source"],
        runs=tuple(details["runs"]),
        experiments=details["experiments"],
    )


def _refuse_needed(folder: Path, runs: set[str], event: str, events: list[dict[str, Any]]) -> None:
    """Raise `JournalError` if an event or a run outside the import refers to one of its runs."""
    needing = [
        each["event_id"]
        for each in events
        if each.get("run_id") in runs and each["event_id"] != event
    ]
    for run_id in set(run_ids(folder)) - runs:
        try:
            start = RunFiles(folder, run_id).record("start")
        except GtmarError:
            continue
        memory = json.loads(start["memory"] or "{}").get("runs", [])
        if start["parent_run"] in runs or runs.intersection(memory):
            needing.append(run_id)
    if needing:
        raise JournalError(
            f"the import {event} can't be taken back: {culprits(sorted(needing))} came from it",
            hint="what others depend on stays",
        )


def _start(run: _ForeignRun, path: Path, digest: str) -> dict[str, Any]:
    """Return a run's start record, with the fields that the file provides."""
    first = run.first
    parameters = {
        "format": "jsonl",
        "file_sha256": digest,
        "lines": f"{first.line}-{run.last_line}",
        "first_experiment": first.experiment_id,
        "evaluation_version": first.evaluation,
    }
    return {
        "format_version": FORMAT_VERSION,
        "kind": "import",
        "seed": first.seed,
        "parameters": [(k, v) for k, v in parameters.items() if v is not None],
        "objective": first.metric,
        "higher_is_better": run.higher_is_better,
        "model": path.stem,
        "tiers": list(run.tiers),
        "basis": next(iter(run.bases)) if len(run.bases) == 1 else None,
        "source": str(path),
    }


def _write(
    writer: RunWriter, run: _ForeignRun, start: dict[str, Any], lines: Iterator[_Placed]
) -> None:
    """Write a run: its baseline, start record, experiments and end record."""
    writer.append(_baseline(run, writer.run_id))
    writer.record("start", start)
    while batch := list(islice(lines, _BATCH)):
        writer.append(_rows(run, writer.run_id, batch))
    writer.flush()
    writer.record(
        "end",
        {
            # The time of the import, so that a digest taken before it still verifies.
            "ended_at": datetime.now(UTC),
            "state": "imported",
            "experiments": run.experiments,
            "wins": run.wins,
            "proposals": run.experiments,
            "seconds": None if run.duration_us is None else run.duration_us / 1e6,
            "baseline_value": run.first.before,
            "best_value": run.value,
            "best_experiment": experiment_id(run.incumbent),
            "digest": writer.digest.hexdigest(),
        },
    )
