"""Encoders against plain Python doubles, bit for bit, and unknowns in every one of them."""

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from factories import binned, make_spec, weighted
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gtmar.data.encode import divided, encoded_terms, half_up, is_missing

Encode = dict[str, Any]

#: Doubles as tables have them: nothing that leaves exact integers after the factor of 10,000.
amounts = st.floats(-1e9, 1e9, allow_nan=False)
columns = st.lists(amounts, min_size=1, max_size=40)
quick = settings(deadline=None, max_examples=60)


def units(value: float) -> int:
    """Round to 1/10,000ths, the one rounding of the project."""
    return math.floor(value * 10_000 + 0.5)


def encode(
    values: list[Any] | pl.Series, feature: dict[str, Any], as_of: date | None = None
) -> dict[str, list[int]]:
    """Return the encoded column of every term of one feature."""
    frame = pl.DataFrame({"x": values}, strict=False)
    spec = make_spec(features={"x": feature})
    day = None if as_of is None else pl.lit(as_of)
    result = frame.lazy().select(**encoded_terms(spec, frame.schema, day)).collect()
    assert set(result.dtypes) == {pl.Int64}
    return result.to_dict(as_series=False)


def one(values: list[Any] | pl.Series, encode_as: Encode | str, **more: Any) -> list[int]:
    return encode(values, weighted(encode=encode_as, **more))["x"]


# What the encoders are, in Python


def identity(x: float) -> float:
    return x


def ranged(x: float, *, low: float, high: float, invert: bool) -> float:
    inside = min(max(x, low), high)
    return (high - inside) / (high - low) if invert else (inside - low) / (high - low)


def curved(x: float, *, stated: list[list[float]]) -> float:
    if x <= stated[0][0]:
        return stated[0][1]
    for (x0, y0), (x1, y1) in pairwise(stated):
        if x <= x1:
            return y0 + (y1 - y0) * ((x - x0) / (x1 - x0))
    return stated[-1][1]


def stepped(x: float, *, cuts: list[float], invert: bool) -> float:
    reached = sum(x >= cut for cut in cuts)
    return (len(cuts) - reached if invert else reached) / len(cuts)


def by_reference(values: list[float], reference: Callable[..., float], **stated: Any) -> list[int]:
    return [units(reference(x, **stated)) for x in values]


# The two operations that must be exact


def test_half_up_rounds_ties_up_on_both_sides_of_zero() -> None:
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994, 2.675]})
    assert frame.select(half_up(pl.col("x"), 1)).to_series().to_list() == [1, 2, 3, 0, -1, 1, 3]
    assert frame.select(half_up(pl.col("x"), 100)).to_series().to_list() == [
        math.floor(x * 100 + 0.5) for x in frame["x"]
    ]


@quick
@given(values=columns, scale=st.sampled_from([1, 100, 10_000]))
def test_half_up_is_pythons(values: list[float], scale: int) -> None:
    rounded = pl.DataFrame({"x": values}).select(half_up(pl.col("x"), scale)).to_series()
    assert rounded.to_list() == [float(math.floor(x * scale + 0.5)) for x in values]


@quick
@given(
    values=columns,
    divisor=st.floats(1e-6, 1e9) | st.floats(-1e9, -1e-6) | st.integers(1, 100).map(float),
)
def test_divided_is_correctly_rounded(values: list[float], divisor: float) -> None:
    quotients = pl.DataFrame({"x": values}).select(divided(pl.col("x"), divisor)).to_series()
    assert [q.hex() for q in quotients] == [(x / divisor).hex() for x in values]


def test_divided_is_needed() -> None:
    """Fails on the day that Polars divides by a literal as IEEE says: the detour may go then."""
    values = [i / 7 for i in range(1_000)]
    frame = pl.DataFrame({"x": values})
    exact = [x / 3.7 for x in values]
    assert frame.select(pl.col("x") / 3.7).to_series().to_list() != exact
    assert frame.select(divided(pl.col("x"), 3.7)).to_series().to_list() == exact


def test_divided_decides_feature_values_on_a_rounding_edge() -> None:
    ends = 20_000
    by_reciprocal = [units(k * (1 / ends)) for k in range(ends)]
    exact = [units(k / ends) for k in range(ends)]
    assert by_reciprocal != exact
    values = [float(k) for k in range(ends)]
    assert one(values, {"kind": "range", "from": 0, "to": ends}) == exact


# Numbers


@quick
@given(values=columns)
def test_identity(values: list[float]) -> None:
    assert one(values, "identity") == by_reference(values, identity)


@quick
@given(values=columns, ends=st.sets(amounts, min_size=2, max_size=2), invert=st.booleans())
def test_range(values: list[float], ends: set[float], invert: bool) -> None:
    low, high = sorted(ends)
    found = one([*values, low, high], {"kind": "range", "from": low, "to": high, "invert": invert})
    assert found == by_reference([*values, low, high], ranged, low=low, high=high, invert=invert)
    assert set(found[-2:]) == {0, 10_000}


@quick
@given(
    values=columns,
    xs=st.sets(amounts, min_size=2, max_size=6).map(sorted),
    ys=st.lists(st.floats(-10, 10), min_size=6, max_size=6),
)
def test_curve(values: list[float], xs: list[float], ys: list[float]) -> None:
    stated = [[x, y] for x, y in zip(xs, ys, strict=False)]
    found = one([*values, *xs], {"kind": "curve", "points": stated})
    assert found == by_reference([*values, *xs], curved, stated=stated)


@quick
@given(
    values=columns, cuts=st.sets(amounts, min_size=1, max_size=9).map(sorted), invert=st.booleans()
)
def test_quantile(values: list[float], cuts: list[float], invert: bool) -> None:
    found = one([*values, *cuts], {"kind": "quantile", "cuts": cuts, "invert": invert})
    assert found == by_reference([*values, *cuts], stepped, cuts=cuts, invert=invert)


def test_worked_values() -> None:
    assert one([0, 1, 2.5, 5, 9], {"kind": "range", "from": 0, "to": 5}) == [
        0,
        2_000,
        5_000,
        10_000,
        10_000,
    ]
    assert one([0, 5], {"kind": "range", "from": 0, "to": 5, "invert": True}) == [10_000, 0]
    curve = {"kind": "curve", "points": [[0, 0], [14, 0.3], [60, 1]]}
    assert one([-1, 0, 7, 14, 37, 60, 99], curve) == [0, 0, 1_500, 3_000, 6_500, 10_000, 10_000]
    steps = {"kind": "quantile", "cuts": [1, 3, 6]}
    assert one([0, 1, 2, 3, 5, 6, 7], steps) == [0, 3_333, 3_333, 6_667, 6_667, 10_000, 10_000]
    assert one([0.00004, 0.00005, 0.0001, -0.00005, -0.00006], "identity") == [0, 1, 1, 0, -1]


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.UInt8, pl.Int64, pl.UInt64, pl.Float32, pl.Decimal(10, 2), pl.Boolean]
)
def test_numbers_of_every_type(dtype: Any) -> None:
    column = pl.Series("x", [0, 1, 1, 0]).cast(dtype)
    assert one(column, {"kind": "range", "from": 0, "to": 2}) == [0, 5_000, 5_000, 0]
    assert one(column, "identity") == [0, 10_000, 10_000, 0]


def test_single_precision_is_taken_for_what_it_is() -> None:
    tenth = float(np.float32(0.1))
    assert one(
        pl.Series("x", [0.1], dtype=pl.Float32), {"kind": "range", "from": 0, "to": 1e-4 + tenth}
    ) == [units(tenth / (1e-4 + tenth))]


# Flags and categories


@pytest.mark.parametrize("values", [[True, False], [1, 0], [1.0, 0.0]], ids=str)
def test_bool(values: list[Any]) -> None:
    assert one(values, "bool") == [10_000, 0]
    assert one(values, {"kind": "bool", "invert": True}) == [0, 10_000]


@quick
@given(
    stated=st.dictionaries(st.text(max_size=5), st.floats(-10, 10), min_size=1, max_size=5),
    default=st.floats(-10, 10),
    others=st.lists(st.text(max_size=5), max_size=5),
)
def test_one_of(stated: dict[str, float], default: float, others: list[str]) -> None:
    # Blanks around a category count nowhere.
    bare = {name.strip(" "): value for name, value in stated.items()}
    assume(len(bare) == len(stated))
    values = [*others, *stated]
    found = one(values, {"kind": "one_of", "values": stated, "default": default})
    assert found == [units(bare.get(value.strip(" "), default)) for value in values]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["1", "2", "1"], dtype=pl.Categorical),
        pl.Series(["1", "2", "1"], dtype=pl.Enum(["1", "2"])),
        pl.Series([1, 2, 1]),
    ],
    ids=["categorical", "enum", "integer"],
)
def test_categories_of_every_type(column: pl.Series) -> None:
    assert one(column, {"kind": "one_of", "values": {"1": 0.5, "2": 1}}) == [5_000, 10_000, 5_000]
    assert encode(column, binned("1", "other")) == {
        "x[1]": [10_000, 0, 10_000],
        "x[other]": [0, 10_000, 0],
    }


def test_booleans_are_categories_by_name() -> None:
    assert one([True, False], {"kind": "one_of", "values": {"true": 1, "false": 0.5}}) == [
        10_000,
        5_000,
    ]


# Bins


def test_bins_of_numbers_are_closed_below_and_open_above() -> None:
    values = [-math.inf, -0.1, 0, 2.999, 3, 7.999, 8, 1e300]
    assert encode(values, binned("[-inf,0)", "[0,3)", "[3,8)", "[8,inf)")) == {
        "x[-inf,0)": [10_000, 10_000, 0, 0, 0, 0, 0, 0],
        "x[0,3)": [0, 0, 10_000, 10_000, 0, 0, 0, 0],
        "x[3,8)": [0, 0, 0, 0, 10_000, 10_000, 0, 0],
        "x[8,inf)": [0, 0, 0, 0, 0, 0, 10_000, 10_000],
    }


def test_bins_for_the_unknown_and_for_what_no_interval_takes() -> None:
    values = [None, math.nan, -1.0, 0.0, 2.0, 3.0]
    assert encode(values, binned("[0,3)", "other", "missing")) == {
        "x[0,3)": [0, 0, 0, 10_000, 10_000, 0],
        "x[other]": [0, 0, 10_000, 0, 0, 10_000],
        "x[missing]": [10_000, 10_000, 0, 0, 0, 0],
    }


def test_bins_of_categories() -> None:
    assert encode(["a", "b", None, "c", "a"], binned("a", "b", "other", "missing")) == {
        "x[a]": [10_000, 0, 0, 0, 10_000],
        "x[b]": [0, 10_000, 0, 0, 0],
        "x[other]": [0, 0, 0, 10_000, 0],
        "x[missing]": [0, 0, 10_000, 0, 0],
    }


def test_category_called_missing_or_other_is_not_the_bin_of_that_name() -> None:
    assert encode(["missing", "other", None], binned("other", "missing")) == {
        "x[other]": [10_000, 10_000, 0],
        "x[missing]": [0, 0, 10_000],
    }


@quick
@given(values=st.lists(amounts | st.none() | st.just(math.nan), min_size=1, max_size=30))
def test_every_account_is_in_exactly_one_bin(values: list[float | None]) -> None:
    found = encode(
        pl.Series(values, dtype=pl.Float64),
        binned("[-5,0)", "[0,5)", "[7,inf)", "other", "missing"),
    )
    assert [sum(row) for row in zip(*found.values(), strict=True)] == [10_000] * len(values)


# Dates

TODAY = date(2026, 3, 1)


def test_days_before() -> None:
    values = [TODAY, date(2026, 2, 28), date(2025, 3, 1), date(2026, 3, 4)]
    found = encode(values, weighted(encode="days_before"), TODAY)["x"]
    assert found == [0, 10_000, 3_650_000, -30_000]


@quick
@given(
    values=st.lists(st.dates(date(1990, 1, 1), date(2040, 1, 1)), min_size=1, max_size=20),
    invert=st.booleans(),
)
def test_days_before_scaled(values: list[date], invert: bool) -> None:
    then = {"kind": "range", "from": 7, "to": 365, "invert": invert}
    days = [(TODAY - value).days for value in values]
    found = encode(values, weighted(encode={"kind": "days_before", "then": then}), TODAY)["x"]
    assert found == by_reference([float(d) for d in days], ranged, low=7, high=365, invert=invert)


def test_days_before_counts_whole_days_of_a_timestamp() -> None:
    values = [datetime(2026, 2, 28, 0, 0), datetime(2026, 2, 28, 23, 59, 59)]
    assert encode(values, weighted(encode="days_before"), TODAY)["x"] == [10_000, 10_000]


def test_days_before_counts_by_the_clock_of_the_time_zone() -> None:
    evening = datetime(2026, 2, 28, 23, 0, tzinfo=timezone(timedelta(hours=-5)))
    column = pl.Series([evening]).dt.convert_time_zone("America/New_York")
    assert column.dt.day().to_list() == [28]
    assert encode(column, weighted(encode="days_before"), TODAY)["x"] == [10_000]


def test_days_before_without_a_date_is_a_fault_of_the_program() -> None:
    spec = make_spec(features={"x": weighted(encode="days_before")})
    with pytest.raises(ValueError, match="days_before needs as_of"):
        encoded_terms(spec, pl.Schema({"x": pl.Date()}))


# Unknowns


@pytest.mark.parametrize(
    "stated",
    [
        "identity",
        "bool",
        {"kind": "range", "from": 0, "to": 2, "invert": True},
        {"kind": "curve", "points": [[0, 0], [2, 1]]},
        {"kind": "quantile", "cuts": [0.5, 1]},
    ],
    ids=lambda stated: stated if isinstance(stated, str) else stated["kind"],
)
@pytest.mark.parametrize("value", [0, 0.123_45, -2.5])
def test_unknown_numbers_count_what_the_spec_says(stated: Any, value: float) -> None:
    known = one([1.0], stated)
    found = one([None, math.nan, 1.0], stated, missing={"value": value})
    assert found == [units(value), units(value), *known]


def test_unknown_category_counts_what_the_spec_says_and_not_the_default() -> None:
    stated = {"kind": "one_of", "values": {"a": 1}, "default": 0.75}
    assert one(["a", None, "b"], stated, missing={"value": 0.3}) == [10_000, 3_000, 7_500]


def test_unknown_date_counts_what_the_spec_says_on_the_scale_of_the_encoder() -> None:
    then = {"kind": "range", "from": 0, "to": 10}
    feature = weighted(encode={"kind": "days_before", "then": then}, missing={"value": 0.5})
    assert encode([None, date(2026, 2, 24)], feature, TODAY)["x"] == [5_000, 5_000]


def test_is_missing_knows_nan_in_doubles_only() -> None:
    frame = pl.DataFrame({"x": [1.0, math.nan, None], "y": ["a", "NaN", None]})
    found = frame.select(x=is_missing("x", frame.schema["x"]), y=is_missing("y", frame.schema["y"]))
    assert found["x"].to_list() == [False, True, True]
    assert found["y"].to_list() == [False, False, True]


# Points
