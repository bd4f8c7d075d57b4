"""The columns of a journal's rows, by name and type.

Types are DuckDB's, as in the headers of the SQL library. Nothing heavy is imported here, as queries
need only names and types; `schema` has the same columns as Arrow schemas for reading and writing.
"""

from __future__ import annotations

from gtmar.metrics.registry import all_metrics

__all__ = [
    "ADDED",
    "CHANGES",
    "EVENTS",
    "EXPERIMENTS",
    "FORMAT_VERSION",
    "RECORDS",
    "columns_of",
    "experiment_id",
]

#: The newest format; a file without the columns that format 2 added is of format 1.
FORMAT_VERSION = 2

#: Names of the journal's folders.
RECORDS, EXPERIMENTS, EVENTS = "runs", "experiments", "events"

#: Type of an experiment's changes: weights by name, each with its old and its new value.
CHANGES = "map(varchar, struct(before bigint, after bigint))"


def _map_of(kind: str) -> str:
    return f"map(varchar, {kind})"


_TEXT = "varchar"
_COUNT = "bigint"
_VALUE = "double"
_FLAG = "boolean"
_TEXTS = _map_of(_TEXT)
_TIME = "timestamp with time zone"

#: Columns of the `start` record: the request, its author, and the data and spec.
_START = {
    "format_version": _COUNT,
    "kind": _TEXT,
    "started_at": _TIME,
    "author": _TEXT,
    "note": _TEXT,
    "seed": _COUNT,
    "parameters": _TEXTS,
    "objective": _TEXT,
    "higher_is_better": _FLAG,
    "orientation": _TEXT,
    "model": _TEXT,
    "spec_id": _TEXT,
    "score_id": _TEXT,
    "spec": _TEXT,
    "tiers": "varchar[]",
    "tiers_id": _TEXT,
    "source": _TEXT,
    "outcomes_fingerprint": _TEXT,
    "features_fingerprint": _TEXT,
    "accounts": _COUNT,
    "accounts_dropped": _COUNT,
    "search_accounts": _COUNT,
    "holdout_accounts": _COUNT,
    "basis": _TEXT,
    "evaluator_version": _COUNT,
    "evaluator_code": _TEXT,
    "packages": _TEXTS,
    "memory": _TEXT,
    "memory_digest": _TEXT,
    "parent_run": _TEXT,
    "parent_experiment": _TEXT,
}
#: Columns of the `end` record: the results. Holdout metrics are JSON, as no query filters by them.
_END = {
    "ended_at": _TIME,
    "state": _TEXT,
    "experiments": _COUNT,
    "wins": _COUNT,
    "proposals": _COUNT,
    "seconds": _VALUE,
    "baseline_value": _VALUE,
    "best_value": _VALUE,
    "best_experiment": _TEXT,
    "holdout_baseline_value": _VALUE,
    "holdout_best_value": _VALUE,
    "holdout_baseline_metrics": _TEXT,
    "holdout_best_metrics": _TEXT,
    "digest": _TEXT,
    "equal_sizes": _TEXT,
    "calibration": _TEXT,
    "by_date": _TEXT,
    "customers": _TEXT,
}
_HEAD = {
    "run_id": _TEXT,
    "experiment_id": _TEXT,
    "number": _COUNT,
    "proposal": _COUNT,
    "parent": _TEXT,
    "objective": _TEXT,
    "value_before": _VALUE,
    "value_after": _VALUE,
    "outcome": _TEXT,
    "changes": CHANGES,
    "weights": _map_of(_COUNT),
}
_TAIL = {
    "basis": _TEXT,
    "null_reasons": _TEXTS,
    "breaches": "varchar[]",
    "repeats": _TEXT,
    "proposer": _TEXT,
    "author": _TEXT,
    "note": _TEXT,
    "evaluated_at": _TIME,
    "duration_us": _COUNT,
    "tier_edges": _map_of(_VALUE),
}
_EVENT = {
    "event_id": _TEXT,
    "kind": _TEXT,
    "at": _TIME,
    "author": _TEXT,
    "note": _TEXT,
    "expect": _TEXT,
    "since": _TIME,
    "model": _TEXT,
    "spec_id": _TEXT,
    "score_id": _TEXT,
    "spec": _TEXT,
    "run_id": _TEXT,
    "experiment_id": _TEXT,
    "source": _TEXT,
    "details": _TEXT,
}
#: Columns that format 2 added; a file has each of them only if it is set.
ADDED = frozenset({"by_date", "calibration", "customers", "equal_sizes", "tier_edges"})


def experiment_id(number: int) -> str:
    """Return an experiment's id within its run.

    Examples
    --------
    >>> experiment_id(34)
    'exp_00034'
    """
    return f"exp_{number:05d}"


def columns_of(folder: str) -> dict[str, str]:
    """Return the columns of a folder's rows in order, with their types.

    All kinds of records have the same columns, so that a glob over them reads as one table.
    Experiments have one column for each metric between those of the head and the tail.
    """
    if folder == RECORDS:
        return {"run_id": _TEXT, "record": _TEXT, **_START, **_END}
    if folder == EVENTS:
        return dict(_EVENT)
    metrics = {}
    for key, metric in all_metrics().items():
        scalar = _COUNT if metric.count else _VALUE
        metrics[key] = _map_of(scalar) if metric.by_tier else scalar
    return {**_HEAD, **metrics, **_TAIL}
