"""The encoders' parameters: what a spec may state, and how a wrong one is worded."""

from typing import Any

import pytest
from factories import binned, make_spec, weighted
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gtmar.spec.encoders import BinInterval, Bins, OneOfEncoder

THEN: dict[str, Any] = {"kind": "range", "from": 0, "to": 30}


def encoder(**stated: Any) -> Any:
    return make_spec(features={"x": weighted(encode=stated)}).features["x"].encode


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({"kind": "range", "from": 1, "to": 1}, "`from` must be below `to`, got from 1 to 1"),
        ({"kind": "range", "from": 5, "to": 0}, "write `invert: true` where low is good"),
        ({"kind": "range", "from": 0}, "Field required"),
        ({"kind": "range", "from": 0, "to": float("inf")}, "finite number"),
        ({"kind": "range", "from": float("nan"), "to": 1}, "finite number"),
        ({"kind": "range", "from": 0, "to": 1, "invert": 1}, "valid boolean"),
        ({"kind": "curve", "points": [[0, 0]]}, "at least 2 items"),
        ({"kind": "curve", "points": [[0, 0], [0, 1]]}, r"must ascend, got \[0\.0, 0\.0\]"),
        ({"kind": "curve", "points": [[2, 0], [1, 1]]}, "first numbers must ascend"),
        ({"kind": "curve", "points": [[0, 0], [1, 1, 1]]}, "at most 2 items"),
        ({"kind": "quantile", "cuts": []}, "at least 1 item"),
        ({"kind": "quantile", "cuts": [1, 1]}, r"the cuts must ascend, got \[1\.0, 1\.0\]"),
        ({"kind": "one_of", "values": {}}, "at least 1 item"),
        ({"kind": "one_of", "values": {"a": "b"}}, "valid number"),
        ({"kind": "bool", "inverted": True}, "Extra inputs"),
        ({"kind": "identity", "scale": 2}, "Extra inputs"),
        ({"kind": "days_before", "then": {"kind": "bool"}}, "does not match any of the expected"),
        ({"kind": "days_before", "then": {"kind": "bins", "bins": {}}}, "does not match any"),
        ({"kind": "log"}, "does not match any of the expected tags"),
    ],
)
def test_refused(stated: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        encoder(**stated)


def test_range_reads_from_under_its_own_name() -> None:
    ends = encoder(kind="range", **{"from": -1, "to": 2.5})
    assert (ends.from_, ends.to, ends.invert) == (-1.0, 2.5, False)


def test_days_before_scales_by_identity_unless_told() -> None:
    assert encoder(kind="days_before").then.kind == "identity"
    assert encoder(kind="days_before", then=THEN).then.to == 30.0


@pytest.mark.parametrize("kind", ["identity", "bool", "days_before"])
def test_a_word_stands_for_an_encoder_without_parameters(kind: str) -> None:
    short = make_spec(features={"x": weighted(encode=kind)})
    assert short == make_spec(features={"x": weighted(encode={"kind": kind})})


def test_one_of_has_no_default_unless_told() -> None:
    assert OneOfEncoder(kind="one_of", values={"a": 1}).default is None


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_value_of_an_unknown_is_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        make_spec(features={"x": weighted(missing={"value": value})})


# Intervals


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("[0,3)", 0, 3),
        ("[ -1.5 , 2e3 )", -1.5, 2_000),
        ("[-inf,0)", float("-inf"), 0),
        ("[12,inf)", 12, float("inf")),
    ],
)
def test_interval_is_read(text: str, low: float, high: float) -> None:
    assert BinInterval.parse(text) == BinInterval(low=low, high=high)


@pytest.mark.parametrize(
    "text", ["", "software", "1-10", "(0,3)", "[0,3]", "[3,0)", "[3,3)", "[a,b)", "[0,nan)", "[0)"]
)
def test_what_is_no_interval(text: str) -> None:
    assert BinInterval.parse(text) is None


@given(low=st.floats(allow_nan=False), high=st.floats(allow_nan=False))
def test_interval_keeps_every_digit(low: float, high: float) -> None:
    parsed = BinInterval.parse(f"[{low!r},{high!r})")
    assert parsed == (BinInterval(low=low, high=high) if low < high else None)


# Bins


def bins(*keys: str) -> Bins:
    spec = make_spec(features={"x": binned(*keys)})
    found = spec.features["x"].encode
    assert isinstance(found, Bins)
    return found


def test_bins_know_their_intervals_and_categories() -> None:
    numbers = bins("[3,9)", "other", "[0,3)", "missing")
    assert list(numbers.intervals) == ["[3,9)", "[0,3)"]
    assert numbers.categories == []
    words = bins("small", "other", "large", "missing")
    assert words.intervals == {}
    assert words.categories == ["small", "large"]


def test_bins_that_touch_or_leave_a_gap_are_fine() -> None:
    assert len(bins("[0,3)", "[3,5)", "[8,inf)").intervals) == 3


@pytest.mark.parametrize(
    ("keys", "one", "two"),
    [
        (("[0,3)", "[2,5)"), "[0,3)", "[2,5)"),
        (("[2,5)", "[0,3)"), "[0,3)", "[2,5)"),
        (("[-inf,inf)", "[2,5)"), "[-inf,inf)", "[2,5)"),
        (("[0,1)", "[0.0,1)"), "[0,1)", "[0.0,1)"),
    ],
)
def test_bins_that_overlap(keys: tuple[str, ...], one: str, two: str) -> None:
    with pytest.raises(ValidationError) as caught:
        bins(*keys)
    assert f'bins "{one}" and "{two}" overlap' in str(caught.value)


@pytest.mark.parametrize("key", ["[3,0)", "(0,3]", "[0,3]", "[0,x)"])
def test_bins_that_are_nearly_intervals(key: str) -> None:
    with pytest.raises(ValidationError, match="interval"):
        bins(key)


def test_bins_of_two_sorts() -> None:
    with pytest.raises(ValidationError) as caught:
        bins("[0,3)", "small")
    assert "intervals ['[0,3)'], categories ['small']" in str(caught.value)


@pytest.mark.parametrize(("weight", "problem"), [(26, "outside its bounds"), (1.5, "integer")])
def test_bin_keeps_to_its_own_bounds(weight: float, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Bins.model_validate(
            {"kind": "bins", "bins": {"a": {"weight": weight, "min": -25, "max": 25}}}
        )
