"""What a journal's rows are: Arrow schemas, and ids.

The format is described in `docs/journal-format.md`; a change of a column is a change of
`FORMAT_VERSION`.
"""

from __future__ import annotations

import pyarrow as pa

from gtmar.metrics.registry import all_metrics

__all__ = [
    "EVENTS",
    "EXPERIMENTS",
    "FORMAT_VERSION",
    "RECORDS",
    "SCHEMAS",
    "event_schema",
    "experiment_id",
    "experiment_schema",
    "run_schema",
]

FORMAT_VERSION = 1

_TEXT = pa.string()
_COUNT = pa.int64()
_VALUE = pa.float64()
_TEXTS = pa.map_(_TEXT, _TEXT)
_TIME = pa.timestamp("us", tz="UTC")

#: What was asked, of which data and spec, by whom; in the `start` record.
_START = {
    "format_version": _COUNT,
    "kind": _TEXT,
    "started_at": _TIME,
    "author": _TEXT,
    "note": _TEXT,
    "seed": _COUNT,
    "parameters": _TEXTS,
    "objective": _TEXT,
    "higher_is_better": pa.bool_(),
    "orientation": _TEXT,
    "model": _TEXT,
    "spec_id": _TEXT,
    "score_id": _TEXT,
    "spec": _TEXT,
    "tiers": pa.list_(_TEXT),
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
#: How it ended; in the `end` record. Holdout metrics are JSON: looked at whole, never searched.
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
    "changes": pa.map_(_TEXT, pa.struct([("before", _COUNT), ("after", _COUNT)])),
    "weights": pa.map_(_TEXT, _COUNT),
}
_TAIL = {
    "basis": _TEXT,
    "null_reasons": _TEXTS,
    "breaches": pa.list_(_TEXT),
    "repeats": _TEXT,
    "proposer": _TEXT,
    "author": _TEXT,
    "note": _TEXT,
    "evaluated_at": _TIME,
    "duration_us": _COUNT,
}


def experiment_id(number: int) -> str:
    """Return an experiment's id within its run.

    Examples
    --------
    >>> experiment_id(34)
    'exp_00034'
    """
    return f"exp_{number:05d}"


def run_schema() -> pa.Schema:
    """Return the schema of a run's records: one for all kinds, so that globs read as a table."""
    return pa.schema({"run_id": _TEXT, "record": _TEXT, **_START, **_END})


def experiment_schema() -> pa.Schema:
    """Return the schema of an experiment's row: head, one column a metric, tail."""
    metrics = {}
    for key, metric in all_metrics().items():
        scalar = _COUNT if metric.count else _VALUE
        metrics[key] = pa.map_(_TEXT, scalar) if metric.by_tier else scalar
    return pa.schema({**_HEAD, **metrics, **_TAIL})


def event_schema() -> pa.Schema:
    """Return the schema of an event's row."""
    return pa.schema(
        {
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
    )


#: Names of a journal's folders.
RECORDS, EXPERIMENTS, EVENTS = "runs", "experiments", "events"
#: The folders in the order in which they are listed: records first, so that whatever parts a run
#: had when it ended are seen with its end.
SCHEMAS = {RECORDS: run_schema, EXPERIMENTS: experiment_schema, EVENTS: event_schema}
