"""Arrow schemas of a journal's rows, the rows of experiments, and their Parquet files.

Parts are written during a run, so they are compressed fast; packed parts are kept and read, so they
are compressed small. `docs/journal-format.md` describes the format; any change of a column changes
`FORMAT_VERSION`.
"""

from __future__ import annotations

from itertools import chain, groupby, pairwise
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.journal.columns import ADDED, CHANGES, EXPERIMENTS, columns_of, experiment_id
from gtmar.metrics.registry import Measured, all_metrics, metric_column

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.optimize.hill_climb import Step

__all__ = [
    "FAST",
    "SMALL",
    "Fields",
    "baseline_fields",
    "completed",
    "experiment_rows",
    "first_format",
    "format_of",
    "schema_of",
    "step_fields",
    "write_parquet",
]

_TEXT = pa.string()
#: Arrow types of the columns, by DuckDB's names.
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


def schema_of(folder: str) -> pa.Schema:
    """Return the schema of a folder's rows: `RECORDS`, `EXPERIMENTS` or `EVENTS`."""
    return pa.schema([(name, _ARROW[kind]) for name, kind in columns_of(folder).items()])


#: Snappy takes two thirds of the time of zstd for several rows, half of it for few, and a third
#: more space.
FAST = "snappy"
SMALL = "zstd"


def first_format(schema: pa.Schema) -> pa.Schema:
    """Return the schema without the columns that format 2 added."""
    return pa.schema([field for field in schema if field.name not in ADDED])


def format_of(table: pa.Table) -> str:
    """Return the format of a table, as it is stated in a file's footer."""
    return "2" if ADDED.intersection(table.column_names) else "1"


def completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with all columns that format 2 added; missing ones are null."""
    for name in ADDED.intersection(schema.names).difference(table.column_names):
        table = table.append_column(
            schema.field(name), pa.nulls(table.num_rows, schema.field(name).type)
        )
    return table


def write_parquet(
    table: pa.Table, file: IO[bytes], footer: dict[str, str], rows: int, compression: str
) -> None:
    """Write a table to a Parquet file with page checksums, as all files of a journal are written.

    Parameters
    ----------
    footer
        Metadata that replaces the table's own.
    rows
        Most rows of a row group.
    compression
        `FAST` or `SMALL`.
    """
    # Written to memory first, as each of a hundred small writes to a Python file takes the GIL.
    whole = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(footer),
        whole,
        compression=compression,
        # Dictionaries for texts only: numbers rarely repeat, and trying takes a third of the time.
        use_dictionary=[path for field in table.schema for path in _texts(field.name, field.type)],
        # Statistics of a map are over the values of all its keys together, so they are useless.
        write_statistics=[f.name for f in table.schema if not pa.types.is_nested(f.type)],
        row_group_size=rows,
        write_page_checksum=True,
    )
    file.write(whole.getvalue())


def _texts(path: str, kind: pa.DataType) -> Iterator[str]:
    """Yield the Parquet paths of the text columns in which a field is stored."""
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


#: Values by column, one a row: a list, or an Arrow or NumPy array.
Fields = dict[str, Any]

#: Copies that are concatenated at once to repeat a value.
_REPEATED_AT_ONCE = 64


def baseline_fields(weights: Sequence[int], value: float | None) -> Fields:
    """Return the values of a run's first row, the baseline, by column."""
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
    """Return the values of the rows of K judged steps, by column; at least one step is needed.

    `names` are those of the F weights.
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
    """Return the journal rows of K experiments and their metrics.

    Parameters
    ----------
    fields
        From `baseline_fields` or `step_fields`.
    measured
        Their metrics, K rows.
    run_id, objective, basis, author, note
        The same in every row; author and note are null in a baseline's.
    names
        Names of the F weights.
    times
        Shape (K,): time of evaluation in microseconds since 1970, UTC.
    durations
        Shape (K,): microseconds of each evaluation; a batch's time is divided evenly.

    Notes
    -----
    Cost: about 5 microseconds a row, half of it for the loops over steps.
    """
    count = len(fields["number"])
    schema = schema_of(EXPERIMENTS)
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
    """Return each step's incumbent weights, shape (K, F); consecutive steps often share them."""
    starts = [0, *(np.flatnonzero(np.diff(parents)) + 1).tolist()]
    lengths = [end - start for start, end in pairwise([*starts, len(steps)])]
    before = np.array([steps[start].before_weights for start in starts], dtype=np.int64)
    return np.repeat(before, lengths, axis=0)


def _changes(
    names: Sequence[str], before: NDArray[np.int64], after: NDArray[np.int64]
) -> pa.MapArray:
    """Return for each row the weights that differ, by name, with their old and new values."""
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
    places = {name: index for index, name in enumerate(measured.values.columns)}
    # One array of doubles, as each selection from the frame costs a tenth of a millisecond. Counts
    # stay exact, as they are far below 2^53. Every NaN stands for a null.
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
    """Return doubles, row by row, as an array of a numeric type; NaN becomes null."""
    flat = np.ascontiguousarray(cells).reshape(-1)
    nulls = np.isnan(flat)
    values = np.where(nulls, 0, flat)
    # Converted in NumPy, as a cast would import all of pyarrow's compute functions.
    numbers = values.astype(np.int64) if pa.types.is_integer(kind) else values
    return pa.array(numbers, type=kind, mask=nulls if nulls.any() else None)


def _maps(keys: pa.Array, items: pa.Array, count: int) -> pa.MapArray:
    """Return `count` maps, with the same number of keys and items each."""
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(len(items) // max(1, count))
    return pa.MapArray.from_arrays(pa.array(ends), keys, items)


def _reasons(reasons: Sequence[Mapping[str, str]]) -> pa.MapArray:
    """Return K maps of texts; consecutive rows that share a mapping cost as much as one."""
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
    """Return the values `count` times in a row, without a Python object for each."""
    # `take` would import all of pyarrow's compute functions, which costs a twentieth of a second.
    many, rest = divmod(count, _REPEATED_AT_ONCE)
    block = [pa.concat_arrays([values] * _REPEATED_AT_ONCE)] * many if many else []
    return pa.concat_arrays([*block, *[values] * rest]) if count else values.slice(0, 0)
