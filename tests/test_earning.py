"""What earns a weight's points, in words."""

from __future__ import annotations

from typing import Any

import pytest

from gtmar import spec as specs
from gtmar.earning import earnings

TIERS = "tiers: {A: {min: 50, max: 101}, B: {min: 0, max: 50}}"


def of(encode: Any, weight: int = 12, column: str = "tickets") -> str:
    each = earnings({"features": {"f": {"column": column, "encode": encode}}})["f"]
    return each.points(weight)


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        ({"kind": "range", "from": 0, "to": 9}, "higher tickets: up to 12 points"),
        ({"kind": "range", "from": 0, "to": 9, "invert": True}, "lower tickets: up to 12 points"),
        ({"kind": "bool"}, "with tickets: 12 points"),
        ({"kind": "bool", "invert": True}, "without tickets: 12 points"),
        ({"kind": "quantile", "cuts": [1, 2], "invert": True}, "lower tickets: up to 12 points"),
        ({"kind": "curve", "points": [[0, 0], [5, 1]]}, "higher tickets: up to 12 points"),
        ({"kind": "curve", "points": [[0, 1], [5, 0.5]]}, "lower tickets: 6 to 12 points"),
        ({"kind": "curve", "points": [[0, 0], [5, 1], [9, 0]]}, "tickets near 5: up to 12 points"),
        (
            {"kind": "curve", "points": [[0, 0], [5, 1], [7, 1], [9, 0.5]]},
            "tickets from 5 to 7: up to 12 points",
        ),
        (
            {"kind": "curve", "points": [[0, 0.6], [5, 0], [9, 1]]},
            "tickets of 9 and more: up to 12 points",
        ),
        ({"kind": "curve", "points": [[0, -1], [5, 1]]}, "higher tickets: -12 to 12 points"),
        # What it falls by at first is next to nothing.
        (
            {"kind": "curve", "points": [[0, 0.1], [5, 0], [9, 1]]},
            "higher tickets: up to 12 points",
        ),
        (
            {"kind": "one_of", "values": {"pro": 1, "free": 0.2}, "default": 0},
            "tickets pro: up to 12 points",
        ),
        (
            {"kind": "one_of", "values": dict.fromkeys("abcde", 1), "default": 1},
            "tickets a, b, c, 2 more or any other: 12 points",
        ),
        ({"kind": "days_before"}, "each day since tickets: 12 points"),
        (
            {"kind": "days_before", "then": {"kind": "range", "from": 0, "to": 9, "invert": True}},
            "more recent tickets: up to 12 points",
        ),
        (
            {"kind": "days_before", "then": {"kind": "decay", "half_life": 30}},
            "more recent tickets: up to 12 points",
        ),
    ],
)
def test_an_encoder_in_words(encode: dict[str, Any], words: str) -> None:
    assert of(encode) == words


def test_a_weight_below_zero_costs() -> None:
    assert of({"kind": "range", "from": 0, "to": 9}, -3) == "higher tickets: costs up to 3 points"
    assert of({"kind": "bool", "invert": True}, -1) == "without tickets: -1 point"
    assert of({"kind": "range", "from": 0, "to": 9}, 0) == "higher tickets: 0 points"


def test_a_rule_is_its_own_words() -> None:
    feature = {"rule": "logins < 3 and plan = 'free'", "weight": -2, "min": -5, "max": 0}
    assert earnings({"features": {"f": feature}})["f"].points(-2) == (
        "logins < 3 and plan = 'free': -2 points"
    )


def test_a_columns_own_numbers_need_no_words() -> None:
    assert earnings({"features": {"nps": {"weight": 3}}}) == {}


def test_beside_its_name_a_column_isnt_said_again() -> None:
    encoders = {
        "a": {"kind": "bool", "invert": True},
        "b": {"kind": "one_of", "values": {"pro": 1, "free": 0}},
        "c": {"kind": "curve", "points": [[0, 0], [5, 1], [9, 0]]},
    }
    features = {name: {"encode": encode} for name, encode in encoders.items()}
    found = {name: each.how(1) for name, each in earnings({"features": features}).items()}
    assert found == {"a": "without it", "b": "pro", "c": "near 5"}


def test_bins_say_it_by_their_names() -> None:
    bins = {"[-inf,3)": {"weight": 1, "min": 0, "max": 5}, "missing": {"weight": 0}}
    assert earnings({"features": {"tenure": {"encode": {"kind": "bins", "bins": bins}}}}) == {}


def test_a_spec_says_it_by_weight() -> None:
    feature = (
        "tickets: {weight: 3, min: 0, max: 9, encode: {kind: range, from: 0, to: 9, invert: true}}"
    )
    spec = specs.parse(f"model: m\nfeatures:\n  {feature}\n{TIERS}\n", source="spec")
    assert spec.earned_by == {"tickets": "lower"}
    assert "lower tickets: up to 3 points" in spec._repr_html_()
    turned = spec.model_copy(
        update={"features": {"tickets": spec.features["tickets"].model_copy(update={"weight": -3})}}
    )
    assert turned.earned_by == {"tickets": "lower costs"}
    assert "lower tickets: costs up to 3 points" in turned._repr_html_()
