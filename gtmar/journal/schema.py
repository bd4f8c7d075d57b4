"""What a journal's rows are: Arrow schemas, ids, and the digest over a run's experiments.

The format is described in `docs/journal-format.md`; a change of a column is a change of
`FORMAT_VERSION`.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gtmar.metrics.registry import all_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FORMAT_VERSION",
    "OUTSIDE_DIGEST",
    "RunDigest",
    "experiment_id",
    "experiment_schema",
    "repeated",
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
#: What a digest leaves out: the run's id, times, durations, and wording, which follows from the
#: values and may get better from version to version.
OUTSIDE_DIGEST = ("run_id", "evaluated_at", "duration_us", "null_reasons", "breaches")


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


_AS_JSON = json.JSONEncoder(ensure_ascii=False).encode


class RunDigest:
    """A hash over a run's rows in order, whatever parts they are written in.

    It leaves out the run's id, times, durations, null reasons and breaches, so that the same table,
    spec, seed, parameters and memory give the same digest on any machine. Of each row it takes in
    the numbers as their 64 bits, little-endian, each with a byte for null before it, then the texts
    as JSON.
    """

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def update(self, table: pa.Table) -> None:
        """Take in the next rows. Cost: about 10 microseconds a row."""
        numbers: list[NDArray[np.uint8]] = []
        constants: list[str] = []
        texts: list[list[Any]] = []
        for name in table.column_names:
            if name in OUTSIDE_DIGEST:
                continue
            column = table[name].combine_chunks()
            keys = _shared_keys(column)
            if keys is not None:
                constants.append(json.dumps([name, keys]))
                numbers.append(_number_bytes(column.items, len(keys)))
            elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                numbers.append(_number_bytes(column, 1))
            else:
                texts.append(column.to_pylist())
        head = "".join(constants).encode()
        fixed = np.hstack(numbers)
        width, cells = fixed.shape[1], fixed.tobytes()
        for place, row in enumerate(zip(*texts, strict=True)):
            numbers_of_row = cells[place * width : (place + 1) * width]
            self._state.update(b"".join((head, numbers_of_row, _AS_JSON(row).encode())))

    def hexdigest(self) -> str:
        """Return the digest so far."""
        return self._state.hexdigest()


def _shared_keys(column: pa.Array) -> list[str] | None:
    """Return the keys of a MAP of numbers whose rows all have the same ones; else None."""
    if not pa.types.is_map(column.type) or column.null_count or len(column) == 0:
        return None
    item = column.type.item_type
    if not (pa.types.is_integer(item) or pa.types.is_floating(item)):
        return None
    keys = column.keys
    width = len(keys) // len(column)
    if width == 0 or not (np.diff(column.offsets.to_numpy()) == width).all():
        return None
    first = keys.slice(0, width)
    return first.to_pylist() if keys.equals(repeated(first, len(column))) else None


def repeated(keys: pa.Array, count: int) -> pa.Array:
    """Return the same keys so many times, one after the other; never a Python object each."""
    # Not `take`: that imports all of pyarrow's compute functions, a twentieth of a second.
    return pa.concat_arrays([keys] * count) if count else keys.slice(0, 0)


def _number_bytes(column: pa.Array, width: int) -> NDArray[np.uint8]:
    """Return uint8 (K, 9 x width): a byte for null, then the value's 64 bits, little-endian."""
    here = slice(column.offset, column.offset + len(column))
    validity, data = column.buffers()
    kind = "<i8" if pa.types.is_integer(column.type) else "<f8"
    bits = np.frombuffer(data, dtype=kind)[here].copy()
    known = np.ones(len(column), dtype=np.uint8)
    if validity is not None:
        known = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), bitorder="little")[here]
        # What lies under a null is anything.
        bits[known == 0] = 0
    cells = np.hstack([known.reshape(-1, 1), bits.view(np.uint8).reshape(-1, 8)])
    return cells.reshape(len(column) // width, 9 * width)
