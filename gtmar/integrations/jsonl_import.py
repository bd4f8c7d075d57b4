"""Coming and going: a journal's experiments as JSONL for other tools, and theirs brought in.

An import is checked whole before anything is written. What a file doesn't say, such as the table
and the spec, stays null, so that an imported run compares with no other.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.errors import GtmarError, JournalError, culprits
from gtmar.integrations.jsonl_entries import ForeignFile, baseline_row, foreign_rows
from gtmar.integrations.jsonl_export import KEPT_REASON, KEYS, ORIGINAL, REVENUE_WEIGHTED, Problems
from gtmar.journal.compaction import work_folder
from gtmar.journal.events import EventKind, event_files, read_event, untouched, write_event
from gtmar.journal.files import (
    RunFiles,
    aside_for,
    make_folder,
    place_file,
    run_of,
    unwritable,
)
from gtmar.journal.schema import FORMAT_VERSION, experiment_id
from gtmar.journal.verify import covered, run_ids
from gtmar.journal.writer import RunWriter
from gtmar.metrics.registry import all_metrics
from gtmar.outputs import sync_folder
from gtmar.spec.import_specs import encoded_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gtmar.integrations.jsonl_entries import ForeignRun, Placed
    from gtmar.journal.catalog import Journal

__all__ = ["Imported", "Undone", "encoded_in", "export_jsonl", "import_jsonl", "undo_import"]

#: What the format knows as a win or a lost experiment.
_EXPORTED = {"win": "win", "lose": "lose", "blocked": "lose"}
_RUNS = """
    select
        run_id,
        note,
        seed,
        coalesce(cast(evaluator_version as varchar), parameters['evaluation_version'])
            as evaluation_version
    from runs
    order by started_at, run_id
"""
#: How the file begins that says which runs an import is about to write.
_MARK = "import-"
#: What the folder begins with in which its runs are written, a fresh one each time.
_STAGE = "runs."
#: Rows in memory at once.
_BATCH = 2048
#: How often a run's parts are looked for.
_TRIES = 3


def export_jsonl(journal: Journal, run: str | None = None) -> Iterator[str]:
    """Give a journal's experiments as lines of JSON, each without its end.

    Parameters
    ----------
    journal
        The journal.
    run
        One run, its experiments named ``exp_00034``; None for all, in the order of their starts,
        named ``RUN/exp_00034``.

    Returns
    -------
    Iterator of str
        One object an experiment, read as it is asked for: an imported one as it came in, with the
        id that it had. `blocked` counts as ``lose``; baselines
        and experiments taken over from earlier runs are left out.

    Raises
    ------
    RunNotFoundError
        If there is no such run.
    JournalError
        On the way, if a part is damaged.
    """
    runs = journal.query(_RUNS).to_dicts()
    if run is not None:
        run_id = journal.run_id(run)
        runs = [row for row in runs if row["run_id"] == run_id]
    return _lines(journal.path, runs, prefixed=run is None)


def encoded_in(journal: Journal, run: str | None = None) -> list[str]:
    """Name the features that specs of a journal, or of one run, encode; see `encoded_features`."""
    query = "select distinct run_id, spec from runs where spec is not null order by run_id"
    rows = journal.query(query).rows()
    run_id = None if run is None else journal.run_id(run)
    specs = dict.fromkeys(spec for each, spec in rows if run_id in (None, each))
    return list(dict.fromkeys(chain(*(encoded_features(json.loads(spec)) for spec in specs))))


def _lines(folder: Path, runs: list[dict[str, Any]], *, prefixed: bool) -> Iterator[str]:
    for run in runs:
        for row in _rows_of(RunFiles(folder, run["run_id"])):
            if row["outcome"] not in _EXPORTED:
                continue
            reasons = dict(row["null_reasons"] or ())
            line = json.loads(reasons[ORIGINAL]) if ORIGINAL in reasons else _line(row, run)
            name = line["experiment_id"]
            if prefixed and "/" not in name:
                line["experiment_id"] = f"{run['run_id']}/{name}"
            yield json.dumps(line, ensure_ascii=False)


def _rows_of(files: RunFiles) -> Iterator[dict[str, Any]]:
    """Give a run's rows in order, a few at a time; go on where its parts are packed meanwhile."""
    last = -1
    for attempt in range(_TRIES):
        try:
            for part in files.whole_parts:
                with pq.ParquetFile(part) as file:
                    for batch in file.iter_batches(_BATCH):
                        rows = [row for row in batch.to_pylist() if row["number"] > last]
                        yield from rows
                        last = rows[-1]["number"] if rows else last
        except (pa.ArrowException, OSError) as err:
            if isinstance(err, FileNotFoundError) and attempt < _TRIES - 1:
                continue
            raise JournalError(
                f"run {files.run_id} can't be read: {err}", hint="gtmar verify says more"
            ) from err
        return


def _line(row: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Put a row, its maps being lists of pairs, into the format; what is null is left out.

    The run's note stands in for one of its own.
    """
    changes = {weight: (step["before"], step["after"]) for weight, step in row["changes"]}
    duration = row["duration_us"]
    metrics = {
        key: {tier: each for tier, each in row[key] if each is not None}
        if metric.by_tier
        else row[key]
        for key, metric in all_metrics().items()
        if row[key] is not None
    }
    kept = re.fullmatch(KEPT_REASON, dict(row["null_reasons"] or ()).get(REVENUE_WEIGHTED, ""))
    if kept:
        metrics[REVENUE_WEIGHTED] = json.loads(kept[1])
    values = (
        row["experiment_id"],
        row["objective"],
        row["value_before"],
        row["value_after"],
        _EXPORTED[row["outcome"]],
        [f"{weight}: {before} -> {after}" for weight, (before, after) in changes.items()],
        dict(row["weights"]),
        metrics,
        row["evaluated_at"].isoformat() if row["evaluated_at"] else None,
        row["note"] or run["note"] or _sentence(changes),
        None if duration is None else duration / 1000,
    )
    line = {
        **dict(zip(KEYS, values, strict=True)),
        "seed": run["seed"],
        "evaluation_version": run["evaluation_version"],
        "basis": row["basis"],
    }
    # A lost experiment without a value has the key all the same.
    return {k: v for k, v in line.items() if v is not None or k == "variant_value"}


def _sentence(changes: Mapping[str, tuple[int, int]]) -> str:
    """Say what an experiment tries.

    Examples
    --------
    >>> _sentence({"alert_created": (5, 12), "nps": (3, -1)})
    'raise alert_created from 5 to 12, lower nps from 3 to -1'
    """
    parts = [
        f"{'raise' if after > before else 'lower'} {name} from {before} to {after}"
        for name, (before, after) in changes.items()
    ]
    return ", ".join(parts) or "change nothing"


@dataclass(frozen=True)
class Imported:
    """What was brought in."""

    source: str
    #: Ids of the new runs, in the order of the file.
    runs: tuple[str, ...]
    experiments: int
    wins: int
    #: Keys and metrics that the journal has no column for, and in how many lines they were.
    ignored: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def import_jsonl(
    path: str | Path,
    journal: str | Path = "journal",
    *,
    author: str | None = None,
    note: str | None = None,
) -> Imported:
    """Bring a file of experiments in: a run of kind `import` for each run that it holds.

    A run begins where the metric, the seed, the evaluation version or the ``RUN/`` of an id
    changes, or where a line doesn't start from the incumbent that the lines before lead to. Each
    line becomes an experiment; what it doesn't say stays null.

    Parameters
    ----------
    path
        The file.
    journal
        The journal's folder; made where it isn't there.
    author, note
        Who brings it in, and why.

    Raises
    ------
    JournalError
        If the file can't be read or a line of it is wrong: every fault is in the message, and
        nothing is written. If the journal has this file already, or can't be written.
    """
    path, folder = Path(path), Path(journal)
    problems = Problems()
    file = ForeignFile(path, problems)
    ignored: Counter[str] = Counter()
    for placed in file:
        ignored.update(placed.entry.ignored)
    if not file.runs and not problems:
        problems.add(0, "it is empty")
    if problems:
        raise problems.error(str(path))
    digest = file.hexdigest()
    _refuse_twice(folder, path, digest)
    try:
        with work_folder(folder) as room:
            _tidy(folder, room)
            # Another process may have brought it in before the lock was to be had.
            _refuse_twice(folder, path, digest)
            return _place(folder, room, file, digest, ignored, {"author": author, "note": note})
    except OSError as err:
        raise unwritable(folder, err) from err


def _place(
    folder: Path,
    room: Path,
    file: ForeignFile,
    digest: str,
    ignored: Mapping[str, int],
    by: dict[str, str | None],
) -> Imported:
    """Write the runs of a file that is sound, each whole or not at all, and put them on record.

    Their ids stand in a mark before the first is written, so that an import that was killed goes on
    when it comes again: runs that are there stay, the others are written.
    """
    now = datetime.now(UTC)
    mark = room / f"{_MARK}{digest}"
    if mark.is_file():
        ids = mark.read_text(encoding="ascii").split()
    else:
        # Where the file doesn't say when, its runs keep their order all the same.
        starts = [
            run.first.at or now + timedelta(microseconds=n) for n, run in enumerate(file.runs)
        ]
        ids = [f"r{at:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}" for at in starts]
        place_file(mark, "\n".join(ids).encode("ascii"))
    stage = room / f"{_STAGE}{secrets.token_hex(6)}"
    lines = groupby(ForeignFile(file.path, Problems()), key=lambda placed: placed.run)
    for (place, of_run), run in zip(lines, file.runs, strict=True):
        there = RunFiles(folder, ids[place])
        if there.end.is_file():
            continue
        started = run.first.at or now + timedelta(microseconds=place)
        start = _start(run, file.path, digest) | {"started_at": started, **by}
        with RunWriter(stage, ids[place]) as writer:
            _write(writer, run, start, of_run)
        staged = RunFiles(stage, ids[place])
        make_folder(there.experiments.parent, exist_ok=True)
        make_folder(there.records.parent, exist_ok=True)
        # The records last: a run that has none is none.
        for new, place_of_it in (
            (staged.experiments, there.experiments),
            (staged.records, there.records),
        ):
            new.rename(place_of_it)
            sync_folder(place_of_it.parent)
    found = Imported(
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
        details={"file_sha256": digest, **found.as_json()},
    )
    mark.unlink()
    _clear(room)
    return found


def _tidy(folder: Path, room: Path) -> None:
    """Take away what an import that was killed left half done, and the marks of those at an end."""
    _clear(room)
    on_record = {details["file_sha256"] for _, details in _imports(folder)}
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
    """Take away the folders in which imports write their runs."""
    for stage in room.glob(f"{_STAGE}*"):
        if re.fullmatch(rf"{_STAGE}[0-9a-f]{{12}}", stage.name) and not stage.is_symlink():
            shutil.rmtree(stage, ignore_errors=True)


def _imports(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the imports on record that were not taken back: event and details."""
    found: dict[str, dict[str, Any]] = {}
    undone: set[str] = set()
    for path in event_files(folder):
        try:
            event = read_event(path) if untouched(path) else {}
        except PermissionError:
            continue
        if event.get("kind") == EventKind.IMPORT:
            found[event["event_id"]] = json.loads(event["details"])
        elif event.get("kind") == EventKind.UNDO:
            undone.add(json.loads(event["details"])["event"])
    return [(event, details) for event, details in found.items() if event not in undone]


def _refuse_twice(folder: Path, path: Path, digest: str) -> None:
    """Refuse a file that an import event of the journal names by its hash."""
    for _, details in _imports(folder):
        if details.get("file_sha256") == digest:
            runs = details["runs"]
            raise JournalError(
                f'"{path}" is in the journal "{folder}" already, as '
                f"run{'s' if len(runs) > 1 else ''} {culprits(runs)}",
                hint=f"gtmar review {runs[0]}",
                runs=runs,
            )


@dataclass(frozen=True)
class Undone:
    """What was taken back."""

    #: The import's event, and the one that says that it was taken back.
    event: str
    event_id: str
    source: str
    runs: tuple[str, ...]
    experiments: int

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def undo_import(
    event: str,
    journal: str | Path = "journal",
    *,
    author: str | None = None,
    note: str | None = None,
) -> Undone:
    """Take an import back: its runs are deleted, and an event says so.

    The event comes first and holds what the journal's digest covered of these runs, so that an
    older digest still holds. The import's own event stays. Done again after it was cut off, it goes
    on; the same file can be brought in again afterwards.

    Parameters
    ----------
    event
        The import's event, or the only one that begins or ends so.
    journal
        The journal's folder.
    author, note
        Who takes it back, and why.

    Raises
    ------
    JournalError
        If there is no such import, a run of it isn't as it was written, or something else in the
        journal depends on one of its runs.
    """
    folder = Path(journal)
    try:
        with work_folder(folder) as room:
            on_record, events = {}, []
            for path in event_files(folder):
                events.append(read_event(path) if untouched(path) else {})
                if events[-1].get("kind") == EventKind.IMPORT:
                    on_record[events[-1]["event_id"]] = json.loads(events[-1]["details"])
            found = [e for e in on_record if e.startswith(event) or e.endswith(event)]
            if len(found) != 1:
                raise JournalError(
                    f'"{event}" stands for {len(found)} imports of the journal "{folder}"; '
                    f"it has {culprits(sorted(on_record)) if on_record else 'none'}",
                    hint="gtmar sql -c \"from events where kind = 'import'\" lists them",
                )
            details = on_record[found[0]]
            begun = next(
                (
                    each["event_id"]
                    for each in events
                    if each.get("kind") == EventKind.UNDO
                    and json.loads(each["details"])["event"] == found[0]
                ),
                None,
            )
            there = [run for run in details["runs"] if RunFiles(folder, run).records.exists()]
            # Of an import killed after its event: brought in again, the file gets ids of its own.
            (room / f"{_MARK}{details['file_sha256']}").unlink(missing_ok=True)
            if begun is None:
                _refuse_needed(folder, set(details["runs"]), found[0], events)
                begun = write_event(
                    folder,
                    EventKind.UNDO,
                    author=author,
                    note=note,
                    source=details["source"],
                    details={
                        "event": found[0],
                        "runs": details["runs"],
                        "entries": covered(folder, there),
                    },
                )
            elif not any(
                (folder / kind / f"run_id={run}").exists()
                for run in details["runs"]
                for kind in ("runs", "experiments")
            ):
                raise JournalError(f"the import {found[0]} was taken back already, by {begun}")
            for run in details["runs"]:
                files = RunFiles(folder, run)
                # Out of the readers' sight in one step each, then deleted.
                for kind, old in (("runs", files.records), ("experiments", files.experiments)):
                    if old.exists():
                        aside = aside_for(run, room)
                        old.rename(aside)
                        sync_folder(folder / kind)
                        shutil.rmtree(aside)
    except OSError as err:
        raise unwritable(folder, err) from err
    return Undone(
        event=found[0],
        event_id=begun,
        source=details["source"],
        runs=tuple(details["runs"]),
        experiments=details["experiments"],
    )


def _refuse_needed(folder: Path, runs: set[str], event: str, events: list[dict[str, Any]]) -> None:
    """Refuse where something outside an import points to one of its runs."""
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


def _start(run: ForeignRun, path: Path, digest: str) -> dict[str, Any]:
    """Return the start record, as far as the file tells."""
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
    writer: RunWriter, run: ForeignRun, start: dict[str, Any], lines: Iterator[Placed]
) -> None:
    """Write a run: the baseline that its first line started from, its lines, how it ended."""
    writer.append(baseline_row(run, writer.run_id))
    writer.record("start", start)
    while batch := list(islice(lines, _BATCH)):
        writer.append(foreign_rows(run, batch, writer.run_id))
    writer.flush()
    writer.record(
        "end",
        {
            # When it was brought in, so that a journal's digest from before still holds.
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
