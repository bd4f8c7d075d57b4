"""The digest of a run: of every value in it, and of nothing else."""

import copy
import hashlib
import json
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.journal.columns import EXPERIMENTS
from gtmar.journal.digest import RunDigest
from gtmar.journal.schema import schema_of

Row = dict[str, Any]

SCHEMA = schema_of(EXPERIMENTS)
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


# ---- what the digest is of ------------------------------------------------------------------


def test_a_digest_is_a_sha256() -> None:
    assert re.fullmatch("[0-9a-f]{64}", digest(made()))
    assert digest(made()) == digest(made())


@pytest.mark.slow
@given(cuts=st.lists(st.integers(0, 6), max_size=4).map(sorted))
@settings(max_examples=16, deadline=None)
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


# ---- what the bytes are ---------------------------------------------------------------------

CHANGE = pa.struct([("before", pa.int64()), ("after", pa.int64())])
KINDS = pa.schema(
    {
        "run_id": pa.string(),
        "experiment_id": pa.string(),
        "number": pa.int64(),
        "note": pa.string(),
        "always": pa.string(),
        "never": pa.string(),
        "value_after": pa.float64(),
        "changes": pa.map_(pa.string(), CHANGE),
        "weights": pa.map_(pa.string(), pa.int64()),
        "others": pa.list_(pa.string()),
        "nrr_by_tier": pa.map_(pa.string(), pa.float64()),
        "breaches": pa.list_(pa.string()),
    }
)
FORMATS = {pa.int64(): "<q", pa.float64(): "<d"}
NAMES = ("nps", 'naïve "log\\ins"', "\u2028天\n🌱")
WORDS = st.sampled_from(["", "a", "null", 'say "no"', "back\\slash", "tab\t\x00", "天气 🌱", "é"])
NUMBERS = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=True, allow_infinity=True)


def or_null(values: st.SearchStrategy[Any], *, nulls: bool) -> st.SearchStrategy[Any]:
    return st.none() | values if nulls else values


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    nulls = draw(st.booleans())
    number = or_null(NUMBERS, nulls=nulls)
    change = or_null(st.fixed_dictionaries({"before": number, "after": number}), nulls=nulls)
    changed = st.lists(st.tuples(st.sampled_from(NAMES), change), max_size=3)
    row = st.fixed_dictionaries(
        {
            "run_id": WORDS,
            "experiment_id": WORDS,
            "number": number,
            "note": or_null(WORDS, nulls=nulls),
            "always": st.just('the "same"'),
            "never": st.none(),
            "value_after": or_null(DOUBLES, nulls=nulls),
            "changes": or_null(changed, nulls=nulls),
            "weights": st.tuples(*[number] * 3).map(lambda row: list(zip(NAMES, row, strict=True))),
            "others": or_null(st.lists(or_null(WORDS, nulls=nulls), max_size=2), nulls=nulls),
            "nrr_by_tier": or_null(DOUBLES, nulls=nulls).map(lambda value: [("A", value)]),
            "breaches": st.lists(WORDS, max_size=1),
        }
    )
    return draw(st.lists(row, max_size=7))


def cell(value: float | None, kind: pa.DataType) -> bytes:
    return bytes(9) if value is None else b"\1" + struct.pack(FORMATS[kind], value)


def plain_digest(rows: list[Row]) -> str:
    """The digest row by row, as the journal's format describes it."""
    state = hashlib.sha256()
    for row in pa.Table.from_pylist(rows, schema=KINDS).to_pylist():
        names, numbers, rest = "", b"", []
        for field in KINDS:
            value = row[field.name]
            if field.name in OUTSIDE:
                continue
            if field.type in FORMATS:
                numbers += cell(value, field.type)
            elif pa.types.is_map(field.type) and field.type.item_type in FORMATS:
                names += json.dumps([field.name, [key for key, _ in value]])
                numbers += b"".join(cell(item, field.type.item_type) for _, item in value)
            else:
                rest.append(value)
        state.update(names.encode() + numbers + json.dumps(rest, ensure_ascii=False).encode())
    return state.hexdigest()


@pytest.mark.slow
@given(rows=tables(), before=tables(), cut=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_the_bytes_are_those_of_the_format(rows: list[Row], before: list[Row], cut: int) -> None:
    """Whole, as slices that begin within their arrays, and in several chunks."""
    expected = plain_digest(rows)
    whole = pa.Table.from_pylist(before + rows, schema=KINDS).slice(len(before))
    parts = [whole.slice(0, cut), whole.slice(cut)]
    again = [pa.Table.from_pylist(half, schema=KINDS) for half in (rows[:cut], rows[cut:])]
    for tables_of_run in ([whole], parts, [pa.concat_tables(again)], again):
        state = RunDigest()
        for table in tables_of_run:
            state.update(table)
        assert state.hexdigest() == expected


def test_a_long_table_is_hashed_to_its_last_row() -> None:
    """More rows than are hashed at once."""
    rows = [
        {
            **dict.fromkeys(KINDS.names),
            "number": n,
            "weights": [("a", n)],
            "nrr_by_tier": [("A", 1)],
        }
        for n in range(1_300)
    ]
    state = RunDigest()
    state.update(pa.Table.from_pylist(rows, schema=KINDS))
    assert state.hexdigest() == plain_digest(rows)


def test_what_lies_under_a_null_is_anything() -> None:
    """A null number has 64 bits in memory too, of which a reader may make what it likes."""
    unknown = np.array([False, True, True])
    digests = set()
    for hidden in (0, 7):
        numbers = np.array([1, hidden, hidden])
        column = pa.array(numbers, pa.int64(), mask=unknown)
        assert np.frombuffer(column.buffers()[1], np.int64)[1] == hidden
        state = RunDigest()
        state.update(pa.table({"number": column}))
        digests.add(state.hexdigest())
    assert len(digests) == 1
