"""What a journal's rows are: Arrow schemas, rows of experiments, and how Parquet holds them.

A part is written while its run goes on, so it is written fast; what is packed is there to stay and
to be read, so it is small. The format is described in `docs/journal-format.md`; a change of a
column is a change of `FORMAT_VERSION`.
"""

from __future__ import annotations

from itertools import chain, groupby, pairwise
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.journal.columns import (
    ADDED,
    CHANGES,
    EVENTS,
    EXPERIMENTS,
    RECORDS,
    columns_of,
    experiment_id,
)
from gtmar.metrics.registry import Measured, all_metrics, metric_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.optimize.hill_climb import Step

__all__ = [
    "FAST",
    "SCHEMAS",
    "SMALL",
    "Fields",
    "baseline_fields",
    "completed",
    "event_schema",
    "experiment_rows",
    "experiment_schema",
    "first_format",
    "format_of",
    "run_schema",
    "step_fields",
    "write_parquet",
]

_TEXT = pa.string()
#: A column's type as Arrow has it.
_ARROW = {
    "varchar": _TEXT,
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "varchar[]": pa.list_(_TEXT),
    "map(varchar, varchar)": pa.map_(_TEXT, _TEXT),
    "map(varchar, bigint)": pa.map_(_TEXT, pa.int64()),
    "map(varchar, double)": pa.map_(_TEXT, pa.float64()),
    CHANGES: pa.map_(_TEXT, pa.struct([("before", pa.int64()), ("after", pa.int64())])),
}


def _schema(folder: str) -> pa.Schema:
    return pa.schema([(name, _ARROW[kind]) for name, kind in columns_of(folder).items()])


def run_schema() -> pa.Schema:
    """Return the schema of a run's records: one for all kinds, so that globs read as a table."""
    return _schema(RECORDS)


def experiment_schema() -> pa.Schema:
    """Return the schema of an experiment's row: head, one column a metric, tail."""
    return _schema(EXPERIMENTS)


def event_schema() -> pa.Schema:
    """Return the schema of an event's row."""
    return _schema(EVENTS)


#: The folders in the order in which they are listed: records first, so that whatever parts a run
#: had when it ended are seen with its end.
SCHEMAS = {RECORDS: run_schema, EXPERIMENTS: experiment_schema, EVENTS: event_schema}

#: Snappy takes two thirds of zstd's time with several rows and half with few, and a third more
#: room.
FAST = "snappy"
SMALL = "zstd"


def first_format(schema: pa.Schema) -> pa.Schema:
    """Return a schema as format 1 has it."""
    return pa.schema([field for field in schema if field.name not in ADDED])


def format_of(table: pa.Table) -> str:
    """Return the format that a table is written in, as a file's footer states it."""
    return "2" if ADDED.intersection(table.column_names) else "1"


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns that format 2 added, null where it has none."""
    for name in ADDED.intersection(schema.names).difference(table.column_names):
        table = table.append_column(
            schema.field(name), pa.nulls(table.num_rows, schema.field(name).type)
        )
    return table


def write_parquet(
    table: pa.Table, file: IO[bytes], footer: dict[str, str], rows: int, compression: str
) -> None:
    """Write a table as all of a journal's files are: with checksums of its pages.

    Parameters
    ----------
    footer
        Metadata, in place of the table's own.
    rows
        Most rows of a row group.
    compression
        `FAST` or `SMALL`.
    """
    # Into memory first: each of some hundred small writes to a file of Python would take its lock.
    whole = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(footer),
        whole,
        compression=compression,
        # Numbers hardly repeat: to look for it takes a third of the time of writing them.
        use_dictionary=[path for field in table.schema for path in _texts(field.name, field.type)],
        # The least and the greatest of a map's values are of all its keys together: no use.
        write_statistics=[f.name for f in table.schema if not pa.types.is_nested(f.type)],
        row_group_size=rows,
        write_page_checksum=True,
    )
    file.write(whole.getvalue())


def _texts(path: str, kind: pa.DataType) -> Iterator[str]:
    """Name the columns of text that a field is stored in, as Parquet does."""
    if pa.types.is_map(kind):
        yield from _texts(f"{path}.key_value.key", kind.key_type)
        yield from _texts(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_list(kind):
        yield from _texts(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _texts(f"{path}.{field.name}", field.type)
    elif pa.types.is_string(kind):
        yield path


#: A value a row: as a list, or as an array of their type.
Fields = dict[str, Any]

#: Copies that are joined at once where a value is repeated.
_REPEATED_AT_ONCE = 64


def baseline_fields(weights: Sequence[int], value: float | None) -> Fields:
    """Return what the first row of a run says of its experiment."""
    return {
        "number": [0],
        "proposal": [0],
        "parent": [None],
        "value_before": [None],
        "value_after": [value],
        "outcome": ["baseline"],
        "changes": [[]],
        "weights": np.array([weights], dtype=np.int64),
        "breaches": [[]],
        "repeats": [None],
        "proposer": ["baseline"],
    }


def step_fields(steps: Sequence[Step], names: Sequence[str]) -> Fields:
    """Return what the rows of judged steps say, by column.

    Parameters
    ----------
    steps
        K steps, one at least.
    """
    numbers, candidates, parents, _, before, after, outcomes, breaches = zip(*steps, strict=True)
    proposals, _, vectors, proposers, known, _ = zip(*candidates, strict=True)
    flat = np.fromiter(chain.from_iterable(vectors), np.int64, len(steps) * len(names))
    weights = flat.reshape(len(steps), len(names))
    ids = {parent: experiment_id(parent) for parent in set(parents)}
    return {
        "number": numbers,
        "proposal": proposals,
        "parent": [ids[parent] for parent in parents],
        "value_before": before,
        "value_after": after,
        "outcome": outcomes,
        "changes": _changes(names, _incumbents(steps, parents), weights),
        "weights": weights,
        "breaches": breaches,
        "repeats": [each and each.source for each in known],
        "proposer": proposers,
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
    times: NDArray[np.int64],
    durations: NDArray[np.int64],
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
    times
        When each was evaluated, in microseconds since 1970, UTC; shape (K,).
    durations
        Microseconds each took; those evaluated in one batch share its time evenly. Shape (K,).

    Notes
    -----
    Cost: about 5 microseconds a row, half of it to go through the steps.
    """
    count = len(fields["number"])
    schema = experiment_schema()
    personal = fields["number"] != [0]
    texts = {
        "run_id": run_id,
        "objective": objective,
        "basis": basis,
        "author": author if personal else None,
        "note": note if personal else None,
    }
    columns: dict[str, Any] = {
        **{name: _repeated(pa.array([text], pa.string()), count) for name, text in texts.items()},
        "experiment_id": [experiment_id(number) for number in fields["number"]],
        "null_reasons": _reasons(measured.reasons),
        "evaluated_at": pa.array(times).view(schema.field("evaluated_at").type),
        "duration_us": durations,
        **fields,
        "weights": _maps(
            _repeated(pa.array(names), count), pa.array(fields["weights"].reshape(-1)), count
        ),
        **_metrics(measured),
    }
    if measured.edges is None:
        schema = first_format(schema)
    else:
        tiers = _repeated(pa.array(measured.tiers), count)
        columns["tier_edges"] = _maps(tiers, _numbers(measured.edges / 100, pa.float64()), count)
    arrays = [
        c if isinstance(c := columns[field.name], pa.Array) else pa.array(c, type=field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _incumbents(steps: Sequence[Step], parents: Sequence[int]) -> NDArray[np.int64]:
    """Return the weights that each step changed, shape (K, F); runs of steps share theirs."""
    starts = [0, *(np.flatnonzero(np.diff(parents)) + 1).tolist()]
    lengths = [end - start for start, end in pairwise([*starts, len(steps)])]
    before = np.array([steps[start].before_weights for start in starts], dtype=np.int64)
    return np.repeat(before, lengths, axis=0)


def _changes(
    names: Sequence[str], before: NDArray[np.int64], after: NDArray[np.int64]
) -> pa.MapArray:
    """Return for each row the weights that differ, by name, each with both its values."""
    rows, places = np.nonzero(before != after)
    ends = np.searchsorted(rows, np.arange(len(before) + 1)).astype(np.int32)
    both = {"before": before[rows, places], "after": after[rows, places]}
    return pa.MapArray.from_arrays(
        pa.array(ends),
        pa.array(np.array(names, dtype=object)[places], pa.string()),
        pa.StructArray.from_arrays([pa.array(values) for values in both.values()], list(both)),
    )


def _metrics(measured: Measured) -> dict[str, pa.Array]:
    """Return a column for each metric; by-tier ones as maps."""
    places = {name: place for place, name in enumerate(measured.values.columns)}
    # All at once, as doubles, since a selection costs a tenth of a millisecond however small it is.
    # Counts are exact: they are of accounts, far below 2^53. There is no NaN but for null.
    cells = measured.values.to_numpy()
    tiers = _repeated(pa.array(measured.tiers), len(cells))
    columns: dict[str, pa.Array] = {}
    for key, metric in all_metrics().items():
        kind = pa.int64() if metric.count else pa.float64()
        if metric.by_tier:
            wanted = [places[metric_column(key, tier)] for tier in measured.tiers]
            columns[key] = _maps(tiers, _numbers(cells[:, wanted], kind), len(cells))
        else:
            columns[key] = _numbers(cells[:, places[key]], kind)
    return columns


def _numbers(cells: NDArray[np.floating], kind: pa.DataType) -> pa.Array:
    """Return doubles, row after row, as numbers of a type; NaN stands for null."""
    flat = np.ascontiguousarray(cells).reshape(-1)
    nulls = np.isnan(flat)
    values = np.where(nulls, 0, flat)
    # Of its type at once: a cast would import all of pyarrow's compute functions.
    numbers = values.astype(np.int64) if pa.types.is_integer(kind) else values
    return pa.array(numbers, type=kind, mask=nulls if nulls.any() else None)


def _maps(keys: pa.Array, items: pa.Array, count: int) -> pa.MapArray:
    """Return K maps from the same keys, repeated, to as many items each."""
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(len(items) // max(1, count))
    return pa.MapArray.from_arrays(pa.array(ends), keys, items)


def _reasons(reasons: Sequence[Mapping[str, str]]) -> pa.MapArray:
    """Return K maps of texts; a run of rows that share a mapping costs as much as one."""
    keys, values, lengths = [], [], []
    for _, run in groupby(reasons, key=id):
        mapping, *others = run
        count = 1 + len(others)
        keys.append(_repeated(pa.array(list(mapping), pa.string()), count))
        values.append(_repeated(pa.array(list(mapping.values()), pa.string()), count))
        lengths += [len(mapping)] * count
    ends = pa.array(np.cumsum([0, *lengths], dtype=np.int32))
    return pa.MapArray.from_arrays(ends, pa.concat_arrays(keys), pa.concat_arrays(values))


def _repeated(values: pa.Array, count: int) -> pa.Array:
    """Return the same values so many times, one after the other; never a Python object each."""
    # Not `take`: that imports all of pyarrow's compute functions, a twentieth of a second.
    many, rest = divmod(count, _REPEATED_AT_ONCE)
    block = [pa.concat_arrays([values] * _REPEATED_AT_ONCE)] * many if many else []
    return pa.concat_arrays([*block, *[values] * rest]) if count else values.slice(0, 0)
