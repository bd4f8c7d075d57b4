"""A journal's experiments as JSONL for other tools."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.errors import JournalError
from gtmar.integrations.jsonl_entries import KEPT_REASON, KEYS, ORIGINAL, REVENUE_WEIGHTED
from gtmar.journal.files import RunFiles
from gtmar.metrics.registry import all_metrics
from gtmar.spec.import_specs import encoded_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gtmar.journal.catalog import Journal

__all__ = ["encoded_in", "export_jsonl"]

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
#: Rows in memory at once.
_BATCH = 2048
#: How often a run's parts are looked for.
_TRIES = 3


def export_jsonl(journal: Journal, run: str | None = None) -> Iterator[str]:
    """Give a journal's experiments as lines of JSON, each without its end, read as it is asked for.

    Those of one run are named ``exp_00034``; of all, in the order of their starts,
    ``RUN/exp_00034``. An imported one is given as it came in, with the id that it had. `blocked`
    counts as ``lose``; baselines and experiments taken over from earlier runs are left out.
    Raises `RunNotFoundError` if there is no such run and, on the way, `JournalError` if a part is
    damaged.
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
    line = dict(zip(KEYS, values, strict=True))
    line |= {key: run[key] for key in ("seed", "evaluation_version")} | {"basis": row["basis"]}
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
