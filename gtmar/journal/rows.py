"""Experiments as Arrow rows, built by column: steps and measured metrics in, one table out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gtmar.journal.schema import experiment_id, experiment_schema, repeated
from gtmar.metrics.registry import all_metrics, metric_column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from gtmar.metrics.registry import Measured
    from gtmar.search.climb import Step

__all__ = ["baseline_fields", "experiment_rows", "step_fields"]

Fields = dict[str, list[Any]]


def baseline_fields(weights: Sequence[int], value: float | None) -> Fields:
    """Return what the first row of a run says of its experiment."""
    return {
        "number": [0],
        "proposal": [0],
        "parent": [None],
        "value_before": [None],
        "value_after": [value],
        "outcome": ["baseline"],
        "changes": [{}],
        "weights": [tuple(weights)],
        "breaches": [[]],
        "proposer": ["baseline"],
    }


def step_fields(steps: Sequence[Step], names: Sequence[str]) -> Fields:
    """Return what the rows of judged steps say, by column.

    Parameters
    ----------
    steps
        K steps.
    names
        Names of the weights.
    """
    changes = []
    for step in steps:
        after = step.candidate.changes
        before = step.before_weights
        changes.append(
            {
                names[i]: {"before": before[i], "after": weight}
                for i, weight in sorted(after.items())
            }
        )
    return {
        "number": [step.number for step in steps],
        "proposal": [step.candidate.proposal for step in steps],
        "parent": [experiment_id(step.parent) for step in steps],
        "value_before": [step.before for step in steps],
        "value_after": [step.value for step in steps],
        "outcome": [str(step.outcome) for step in steps],
        "changes": changes,
        "weights": [step.candidate.weights for step in steps],
        "breaches": [list(step.breaches) for step in steps],
        "repeats": [step.candidate.known and step.candidate.known.source for step in steps],
        "proposer": [step.candidate.by for step in steps],
    }


def experiment_rows(
    fields: Fields,
    measured: Measured,
    *,
    run_id: str,
    objective: str,
    names: Sequence[str],
    basis: str | None,
    author: str | None,
    note: str | None,
    times: Sequence[datetime],
    durations: Sequence[int],
) -> pa.Table:
    """Join K experiments and their metrics to journal rows.

    Parameters
    ----------
    fields
        From `baseline_fields` or `step_fields`.
    measured
        Their metrics, K rows.
    run_id, objective, basis, author, note
        The same in every row; author and note are not said of a baseline.
    names
        Names of the weights.
    times
        When each was evaluated.
    durations
        Microseconds each took; those evaluated in one batch share its time evenly.
    """
    count = len(fields["number"])
    schema = experiment_schema()
    weights = np.array(fields["weights"], dtype=np.int64)
    columns: dict[str, Any] = {
        "run_id": [run_id] * count,
        "experiment_id": [experiment_id(n) for n in fields["number"]],
        "objective": [objective] * count,
        "basis": [basis] * count,
        "null_reasons": [list(reasons.items()) for reasons in measured.reasons],
        "repeats": [None] * count,
        "author": [author if n else None for n in fields["number"]],
        "note": [note if n else None for n in fields["number"]],
        "evaluated_at": list(times),
        "duration_us": list(durations),
        **fields,
        "changes": [list(changes.items()) for changes in fields["changes"]],
        "weights": _maps(repeated(pa.array(names), count), weights, pa.int64()),
    }
    tiers = repeated(pa.array(measured.tiers), count)
    for key, metric in all_metrics().items():
        kind = pa.int64() if metric.count else pa.float64()
        if metric.by_tier:
            flat = measured.values.select(metric_column(key, tier) for tier in measured.tiers)
            columns[key] = _maps(tiers, flat.to_numpy(), kind)
        else:
            values = measured.values[key].to_arrow()
            columns[key] = values if values.type == kind else values.cast(kind)
    arrays = [
        c if isinstance(c := columns[field.name], pa.Array) else pa.array(c, type=field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _maps(keys: pa.Array, values: NDArray[Any], kind: pa.DataType) -> pa.MapArray:
    """Return K maps from the same keys, repeated, to a row of values each; NaN stands for null."""
    count, width = values.shape
    flat = values.reshape(-1)
    mask = np.isnan(flat) if flat.dtype.kind == "f" else None
    if mask is not None and pa.types.is_integer(kind):
        flat = np.where(mask, 0, flat).astype(np.int64)
    # Of its type at once: a cast would import all of pyarrow's compute functions.
    items = pa.array(flat, type=kind, mask=mask)
    offsets = pa.array(np.arange(0, count * width + 1, width, dtype=np.int32))
    return pa.MapArray.from_arrays(offsets, keys, items)
