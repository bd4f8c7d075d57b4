"""The digest of a run: of every value in it, and of nothing else."""

import copy
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.journal.schema import RunDigest, experiment_id, experiment_schema, run_schema
from gtmar.metrics import all_metrics

Row = dict[str, Any]

SCHEMA = experiment_schema()
#: Who ran it, when and how fast; and wording, which may get better.
OUTSIDE = {"run_id", "evaluated_at", "duration_us", "null_reasons", "breaches"}


def value_of(kind: pa.DataType, number: int) -> Any:
    """Make up a value of a type, another for another number."""
    if pa.types.is_map(kind):
        return [(f"k{i}", value_of(kind.item_type, number + i)) for i in range(3)]
    if pa.types.is_struct(kind):
        return {kind.field(i).name: value_of(kind.field(i).type, number + i) for i in range(2)}
    if pa.types.is_list(kind):
        return [value_of(kind.value_type, number), value_of(kind.value_type, number + 1)]
    if pa.types.is_timestamp(kind):
        return datetime(2026, 1, 1, 0, 0, number % 60, tzinfo=UTC)
    if pa.types.is_integer(kind):
        return 1000 + number
    if pa.types.is_floating(kind):
        return 0.5 + number
    assert pa.types.is_string(kind)
    return f"text {number}"


def made(count: int = 4) -> list[Row]:
    return [
        {field.name: value_of(field.type, 10 * row) for field in SCHEMA} for row in range(count)
    ]


def digest(*parts: Sequence[Row]) -> str:
    state = RunDigest()
    for rows in parts:
        state.update(pa.Table.from_pylist(list(rows), schema=SCHEMA))
    return state.hexdigest()


def changed(row: int, column: str, value: Any) -> list[Row]:
    rows = made()
    assert rows[row][column] != value
    rows[row][column] = value
    return rows


# ---- what a row is --------------------------------------------------------------------------


def test_every_metric_is_a_column_of_its_kind() -> None:
    for key, metric in all_metrics().items():
        kind = SCHEMA.field(key).type
        if metric.by_tier:
            assert pa.types.is_map(kind)
            kind = kind.item_type
        assert kind == (pa.int64() if metric.count else pa.float64())
    assert len(set(SCHEMA.names)) == len(SCHEMA.names)


def test_records_of_all_kinds_share_one_schema() -> None:
    names = run_schema().names
    assert len(set(names)) == len(names)
    assert {"run_id", "record", "seed", "spec", "outcomes_fingerprint", "state"} <= set(names)


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "exp_00000"), (99_999, "exp_99999"), (100_000, "exp_100000")]
)
def test_ids_sort_by_number_up_to_five_digits(number: int, expected: str) -> None:
    assert experiment_id(number) == expected


# ---- what the digest is of ------------------------------------------------------------------


def test_a_digest_is_a_sha256() -> None:
    assert re.fullmatch("[0-9a-f]{64}", digest(made()))
    assert digest(made()) == digest(made())


@given(cuts=st.lists(st.integers(0, 6), max_size=4).map(sorted))
@settings(max_examples=30, deadline=None)
def test_parts_do_not_matter(cuts: list[int]) -> None:
    rows = made(6)
    ends = zip([0, *cuts], [*cuts, 6], strict=True)
    whole = pa.Table.from_pylist(rows, schema=SCHEMA)
    state = RunDigest()
    for first, last in ends:
        state.update(whole.slice(first, last - first))
    assert state.hexdigest() == digest(rows)
    assert digest(rows) == digest(*(rows[i : i + 1] for i in range(6)))


def test_a_table_of_many_chunks_is_one_table() -> None:
    rows = made(5)
    chunks = [pa.Table.from_pylist(rows[i : i + 2], schema=SCHEMA) for i in (0, 2, 4)]
    state = RunDigest()
    state.update(pa.concat_tables(chunks))
    assert state.hexdigest() == digest(rows)


@pytest.mark.parametrize("column", SCHEMA.names)
def test_every_other_value_is_another_digest(column: str) -> None:
    kind = SCHEMA.field(column).type
    before = digest(made())
    for row in (0, 3):
        for other in (value_of(kind, 77), None):
            after = digest(changed(row, column, other))
            assert (after == before) == (column in OUTSIDE), (row, other)


MAPS = [f.name for f in SCHEMA if pa.types.is_map(f.type) and f.name not in OUTSIDE]


@pytest.mark.parametrize("column", MAPS)
@pytest.mark.parametrize("shared", [True, False], ids=["same keys", "own keys"])
def test_maps_tell_keys_values_and_nulls_apart(column: str, shared: bool) -> None:
    rows = made()
    if not shared:
        # A row with a key of its own: then no row of the part is taken the short way.
        rows[1][column] = rows[1][column][:2]
    original = rows[2][column]
    (k0, v0), (k1, v1), (k2, v2) = original
    versions = {
        "as it is": original,
        "another value": [(k0, v0), (k1, v2), (k2, v2)],
        "values swapped": [(k0, v1), (k1, v0), (k2, v2)],
        "another key": [(k0, v0), ("other", v1), (k2, v2)],
        "fewer": [(k0, v0), (k1, v1)],
        "none": [],
        "no map": None,
        "null": [(k0, v0), (k1, None), (k2, v2)],
    }
    if pa.types.is_integer(SCHEMA.field(column).type.item_type):
        versions["zero"] = [(k0, v0), (k1, 0), (k2, v2)]
    elif pa.types.is_floating(SCHEMA.field(column).type.item_type):
        versions["zero"] = [(k0, v0), (k1, 0.0), (k2, v2)]
    digests = {}
    for name, version in versions.items():
        rows[2][column] = version
        digests[name] = digest(copy.deepcopy(rows))
    assert len(set(digests.values())) == len(versions), digests


@pytest.mark.parametrize("column", MAPS)
def test_a_key_that_all_rows_share_counts(column: str) -> None:
    rows = made()
    for row in rows:
        row[column] = [("other" if key == "k1" else key, value) for key, value in row[column]]
    assert digest(rows) != digest(made())


@pytest.mark.parametrize("column", ["value_before", "tier_separation", "number", "scored"])
def test_null_is_not_zero(column: str) -> None:
    zero = 0 if pa.types.is_integer(SCHEMA.field(column).type) else 0.0
    assert digest(changed(1, column, None)) != digest(changed(1, column, zero))


@pytest.mark.parametrize(("one", "two"), [(None, ""), (None, "null"), ("a", "b"), ("", " ")])
def test_null_is_no_text(one: str | None, two: str | None) -> None:
    assert digest(changed(1, "note", one)) != digest(changed(1, "note", two))


def test_the_last_bit_of_a_value_counts() -> None:
    value = 0.1 + 0.2
    assert digest(changed(0, "value_after", value)) != digest(changed(0, "value_after", 0.3))


def test_the_order_of_rows_counts() -> None:
    rows = made()
    assert digest(rows) != digest(rows[::-1])
    assert digest(rows) != digest(rows[:-1])


def test_a_value_does_not_slip_into_the_next_column() -> None:
    rows = made()
    rows[0]["repeats"], rows[0]["proposer"] = "ab", "c"
    other = made()
    other[0]["repeats"], other[0]["proposer"] = "a", "bc"
    assert digest(rows) != digest(other)


def test_no_rows_are_no_change() -> None:
    rows = made()
    assert digest(rows, []) == digest(rows)
