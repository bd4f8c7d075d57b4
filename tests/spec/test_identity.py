"""What changes a spec's two ids, and what doesn't."""

import hashlib
import json
import re
from typing import Any

import pytest
from factories import binned, make_spec, weighted
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.spec import ScoringSpec, canonical, parse, score_id, spec_id

PLAIN = make_spec()


def plain(**features: Any) -> ScoringSpec:
    """Return `PLAIN` with some features replaced."""
    stated = {name: f.model_dump(by_alias=True) for name, f in PLAIN.features.items()}
    return make_spec(features={**stated, **features})


def hashed(prefix: str, form: dict[str, Any]) -> str:
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:16]


def test_ids_are_hashes_of_what_the_spec_says_written_out_in_full() -> None:
    spec = parse(
        "model: m\n"
        "features:\n"
        "  alert: {weight: 5, min: 0, max: 25}\n"
        "  plan: {encode: {kind: bins, bins: {a: {weight: 1, min: 0, max: 2}}}, column: é}\n"
        "tiers: {A: {min: 60.5, max: 101}, B: {min: 0, max: 60.5}}\n"
    )
    alert = {
        "weight": 5,
        "column": "alert",
        "encode": {"kind": "identity"},
        "missing": "error",
    }
    plan = {
        "weight": None,
        "column": "é",
        "encode": {"kind": "bins", "bins": {"a": 1}},
        "missing": "error",
    }
    scored: dict[str, Any] = {
        "max_score": 100,
        "base": 0,
        "as_of": None,
        "features": {"alert": alert, "plan": plan},
        "tiers": {"A": [6_050, 10_100], "B": [0, 6_050]},
    }
    assert score_id(spec) == hashed("c", scored)
    wide = {"a": {"weight": 1, "min": 0, "max": 2}}
    searched = scored | {
        "features": {
            "alert": alert | {"min": 0, "max": 25},
            "plan": plan | {"min": None, "max": None, "encode": {"kind": "bins", "bins": wide}},
        },
        "orientation": "health",
        "outcomes": {
            "retained": "retained_6mo",
            "churned": "churned",
            "mrr": "mrr",
            "mrr_end": "mrr_end",
            "ltv": "actual_ltv",
            "activated": "activated",
            "days_to_activate": "days_to_activate",
            "won_back": "won_back",
        },
        "objective": None,
        "guardrails": [],
    }
    assert spec_id(spec) == hashed("s", searched)


def test_ids_look_like_ids() -> None:
    assert re.fullmatch("c[0-9a-f]{16}", score_id(PLAIN))
    assert re.fullmatch("s[0-9a-f]{16}", spec_id(PLAIN))


@pytest.mark.parametrize(
    "overrides",
    [
        {"model": "another"},
        {"version": "9"},
        {"lineage": {"run": "r1", "experiment": "exp_00001"}},
        {"id": "customer_id"},
        {"outcomes": {}},
        {"orientation": "health"},
        {"guardrails": []},
        {"no_worse": []},
    ],
    ids=lambda overrides: next(iter(overrides)),
)
def test_talk_lineage_and_spelled_out_defaults_change_nothing(overrides: dict[str, Any]) -> None:
    other = make_spec(**overrides)
    assert score_id(other) == score_id(PLAIN)
    assert spec_id(other) == spec_id(PLAIN)


@pytest.mark.parametrize(
    "depth",
    [
        weighted(25, -50, 50, description="How deep"),
        weighted(25, -50, 50, column="depth"),
        weighted(25, -50, 50, encode="identity"),
        weighted(25, -50, 50, missing="error"),
    ],
    ids=["description", "own column", "own encoder", "own missing"],
)
def test_what_a_feature_says_anyway_changes_nothing(depth: dict[str, Any]) -> None:
    other = plain(depth=depth)
    assert score_id(other) == score_id(PLAIN)
    assert spec_id(other) == spec_id(PLAIN)


def test_order_of_keys_changes_nothing() -> None:
    data = PLAIN.model_dump(by_alias=True)
    turned = ScoringSpec.model_validate(
        {
            **dict(reversed(list(data.items()))),
            "features": dict(reversed(list(data["features"].items()))),
            "tiers": dict(reversed(list(data["tiers"].items()))),
        }
    )
    assert list(turned.features) != list(PLAIN.features)
    assert score_id(turned) == score_id(PLAIN)
    assert spec_id(turned) == spec_id(PLAIN)


def test_sign_of_zero_changes_nothing() -> None:
    one, two = (plain(depth=weighted(25, -50, 50, missing={"value": zero})) for zero in (0.0, -0.0))
    assert one == two
    assert score_id(one) == score_id(two)


def test_comments_change_nothing() -> None:
    text = (
        "model: m\nfeatures: {x: {weight: 1, min: 0, max: 2}}\ntiers: {all: {min: 0, max: 101}}\n"
    )
    commented = "# about\n" + text.replace("\n", "   # and this\n")
    assert spec_id(parse(commented)) == spec_id(parse(text))


@pytest.mark.parametrize(
    "overrides",
    [
        {"orientation": "risk"},
        {"outcomes": {"retained": "stayed"}},
        {"objective": "tier_separation"},
        {"guardrails": [{"metric": "share_by_tier.A", "min": 0.05}]},
        {"guardrails": [{"metric": "share_by_tier.A", "max": 0.05}]},
        {"no_worse": ["nrr_at_20"]},
    ],
    ids=["orientation", "outcomes", "objective", "guardrail", "another guardrail", "no worse"],
)
def test_what_changes_a_verdict_changes_the_spec_id_alone(overrides: dict[str, Any]) -> None:
    other = make_spec(**overrides)
    assert score_id(other) == score_id(PLAIN)
    assert spec_id(other) != spec_id(PLAIN)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (plain(depth=weighted(25, -50, 50)), plain(depth=weighted(25, -51, 50))),
        (plain(depth=weighted(25, -50, 50)), plain(depth=weighted(25, -50, 51))),
        (plain(plan=binned("a", low=-25)), plain(plan=binned("a", low=-24))),
        (plain(plan=binned("a", high=25)), plain(plan=binned("a", high=24))),
    ],
    ids=["min", "max", "min of a bin", "max of a bin"],
)
def test_bounds_change_the_spec_id_alone(one: ScoringSpec, two: ScoringSpec) -> None:
    assert score_id(one) == score_id(two)
    assert spec_id(one) != spec_id(two)


def scaled(**encode: Any) -> ScoringSpec:
    return plain(logins=weighted(30, -50, 50, encode=encode))


RANGE = {"kind": "range", "from": 0, "to": 40}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (PLAIN, make_spec(base=11)),
        (PLAIN, make_spec(max_score=99)),
        (PLAIN, make_spec(as_of="day")),
        (PLAIN, plain(depth=weighted(24, -50, 50))),
        (PLAIN, plain(depth=weighted(25, -50, 50, column="alert_created"))),
        (PLAIN, plain(depth=weighted(25, -50, 50, missing={"value": 0}))),
        (
            plain(depth=weighted(25, -50, 50, missing={"value": 0})),
            plain(depth=weighted(25, -50, 50, missing={"value": 0.5})),
        ),
        (PLAIN, plain(extra=weighted(0))),
        (PLAIN, scaled(**RANGE | {"to": 41})),
        (PLAIN, scaled(**RANGE, invert=True)),
        (
            scaled(kind="curve", points=[[0, 0], [1, 1]]),
            scaled(kind="curve", points=[[0, 0], [1, 2]]),
        ),
        (scaled(kind="quantile", cuts=[1]), scaled(kind="quantile", cuts=[2])),
        (scaled(kind="bool"), scaled(kind="bool", invert=True)),
        (
            scaled(kind="one_of", values={"a": 1}),
            scaled(kind="one_of", values={"a": 1}, default=0),
        ),
        (plain(plan=binned("a", weight=1)), plain(plan=binned("a", weight=2))),
        (plain(plan=binned("a", weight=1)), plain(plan=binned("b", weight=1))),
        (
            PLAIN,
            make_spec(tiers={"A": {"min": 60.01, "max": 101}, "B": {"min": 0, "max": 60.01}}),
        ),
        (
            make_spec(tiers={"A": {"min": 60, "max": 101}, "B": {"min": 0, "max": 60}}),
            make_spec(tiers={"B": {"min": 60, "max": 101}, "A": {"min": 0, "max": 60}}),
        ),
    ],
)
def test_what_changes_a_score_or_a_tier_changes_both_ids(
    one: ScoringSpec, two: ScoringSpec
) -> None:
    assert score_id(one) != score_id(two)
    assert spec_id(one) != spec_id(two)


def test_canonical_form_fills_in_defaults_and_leaves_out_talk() -> None:
    form = canonical(plain(depth=weighted(25, -50, 50, description="How deep")))
    assert form["features"]["depth"] == {
        "weight": 25,
        "min": -50,
        "max": 50,
        "column": "depth",
        "encode": {"kind": "identity"},
        "missing": "error",
    }
    for key in ("model", "version", "lineage", "id", "split"):
        assert key not in form


@settings(deadline=None)
@given(first=st.integers(-50, 50), second=st.integers(-50, 50))
def test_score_ids_are_equal_where_the_weights_are(first: int, second: int) -> None:
    one, two = (PLAIN.with_weights({"depth": weight}) for weight in (first, second))
    assert (score_id(one) == score_id(two)) is (first == second)
