"""What a spec may say: bounds, tiers, terms, and what never goes together."""

from typing import Any

import pytest
from factories import binned, make_spec, weighted
from pydantic import ValidationError

from gtmar.spec import Feature, Guardrail, Lineage, ScoringSpec, Split, Term, Tier

TIERS = {"high": {"min": 50, "max": 101}, "low": {"min": 0, "max": 50}}


def refused(message: str, **overrides: Any) -> None:
    with pytest.raises(ValidationError, match=message):
        make_spec(**overrides)


def test_defaults() -> None:
    spec = ScoringSpec.model_validate(
        {"model": "m", "features": {"x": {"weight": 0, "min": 0, "max": 0}}, "tiers": TIERS}
    )
    assert (spec.max_score, spec.base, spec.id, spec.as_of) == (100, 0, None, None)
    assert (spec.orientation, spec.objective, spec.guardrails) == ("health", None, ())
    assert spec.split == Split(holdout=0.3, salt="gtmar")
    assert spec.outcomes.model_dump() == {
        "retained": "retained_6mo",
        "churned": "churned",
        "mrr": "mrr",
        "mrr_end": "mrr_end",
        "ltv": "actual_ltv",
        "activated": "activated",
        "days_to_activate": "days_to_activate",
        "won_back": "won_back",
    }
    assert spec.features["x"].encode.kind == "identity"
    assert spec.features["x"].missing == "error"


# Weights and bounds


@pytest.mark.parametrize("weight", [-25, 0, 25])
def test_weight_on_its_bounds(weight: int) -> None:
    assert make_spec(features={"x": weighted(weight)}).weights == {"x": weight}


@pytest.mark.parametrize("weight", [-26, 26])
def test_weight_outside_its_bounds(weight: int) -> None:
    refused(
        rf"weight {weight} is outside its bounds \[-25, 25\]; change the weight or widen",
        features={"x": weighted(weight)},
    )


def test_bounds_the_wrong_way_round() -> None:
    refused("min 3 is above max 2", features={"x": weighted(2, 3, 2)})


@pytest.mark.parametrize("weight", [5.0, "5", True])
def test_weights_are_integers_and_nothing_like_them(weight: object) -> None:
    refused("valid integer", features={"x": weighted() | {"weight": weight}})


@pytest.mark.parametrize("edge", [-1_000_001, 1_000_001])
def test_bounds_have_a_limit(edge: int) -> None:
    low, high = min(edge, 0), max(edge, 0)
    refused("1000000", features={"x": weighted(0, low, high)})
    assert make_spec(features={"x": weighted(0, -1_000_000, 1_000_000)}).weights == {"x": 0}


@pytest.mark.parametrize("key", ["weight", "min", "max"])
def test_feature_needs_weight_and_both_bounds(key: str) -> None:
    given = {k: v for k, v in weighted().items() if k != key}
    refused(rf"a feature needs weight, min and max; \['{key}'\] not given", features={"x": given})


@pytest.mark.parametrize("max_score", [0, 1_001, 50.5])
def test_max_score_is_1_to_1000(max_score: float) -> None:
    refused("max_score", max_score=max_score)


def test_spec_needs_a_feature_and_a_tier() -> None:
    refused("features", features={})
    refused("tiers", tiers={})


# Tiers


def test_tiers_in_any_order_go_from_high_to_low() -> None:
    tiers = {
        "mid": {"min": 0.01, "max": 99.99},
        "top": {"min": 99.99, "max": 101},
        "zero": {"min": 0, "max": 0.01},
    }
    spec = make_spec(tiers=tiers)
    assert spec.tier_names == ("top", "mid", "zero")
    assert spec.tier_lows == (9_999, 1, 0)


def test_one_tier_is_enough() -> None:
    assert make_spec(tiers={"all": {"min": 0, "max": 100.01}}).tier_lows == (0,)


@pytest.mark.parametrize(
    ("low", "high", "problem"),
    [
        (49, 101, 'tiers.low: "low" and "high" overlap between 50 and 49'),
        (51, 101, 'tiers.low: "low" and "high" leave a gap between 50 and 51'),
        (50.01, 101, 'tiers.low: "low" and "high" leave a gap between 50 and 50.01'),
        (50, 100, 'tiers.high: the highest tier, "high", ends at 100, short of the maximum'),
        (50, 99, "it must be above max_score 100, for example 101"),
    ],
)
def test_tiers_cover_every_score_once(low: float, high: float, problem: str) -> None:
    refused(problem, tiers={"high": {"min": low, "max": high}, "low": {"min": 0, "max": 50}})


def test_lowest_tier_begins_at_0() -> None:
    refused(
        'tiers.low: the lowest tier, "low", must begin at 0, got 5',
        tiers={"high": {"min": 50, "max": 101}, "low": {"min": 5, "max": 50}},
    )


def test_all_that_is_wrong_with_tiers_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        make_spec(
            tiers={
                "A": {"min": 60, "max": 90},
                "B": {"min": 30, "max": 50},
                "C": {"min": 10, "max": 40},
            }
        )
    message = str(caught.value)
    for part in ("must begin at 0", "overlap between 40 and 30", "gap between 50 and 60", "short"):
        assert part in message


def test_tier_edges_are_whole_hundredths() -> None:
    with pytest.raises(
        ValidationError, match=r"min must be a multiple of 0\.01 points, got 1\.005"
    ):
        Tier(min=1.005, max=2)
    with pytest.raises(ValidationError, match=r"min 2 must be below max 2"):
        Tier(min=2, max=2)


@pytest.mark.parametrize("hundredths", [1, 29, 57, 58, 113, 1_001, 33_333, 99_999])
def test_tier_edges_survive_binary_fractions(hundredths: int) -> None:
    assert Tier(min=0, max=hundredths / 100).high == hundredths


# Terms


def test_terms_expand_bins_in_order() -> None:
    spec = make_spec(
        features={
            "depth": weighted(3, column="session_depth"),
            "tenure": {
                "column": "months",
                "encode": {
                    "kind": "bins",
                    "bins": {
                        "[0,3)": {"weight": 1, "min": 0, "max": 2},
                        "[3, inf)": {"weight": 2, "min": 2, "max": 2},
                        "missing": {"weight": -1, "min": -3, "max": 0},
                    },
                },
            },
            "plan": binned("basic", "other", weight=7),
        }
    )
    assert spec.terms == (
        Term("depth", "depth", ("session_depth",), 3, -25, 25),
        Term("tenure[0,3)", "tenure", ("months",), 1, 0, 2, bin="[0,3)"),
        Term("tenure[3, inf)", "tenure", ("months",), 2, 2, 2, bin="[3, inf)"),
        Term("tenure[missing]", "tenure", ("months",), -1, -3, 0, bin="missing"),
        Term("plan[basic]", "plan", ("plan",), 7, -25, 25, bin="basic"),
        Term("plan[other]", "plan", ("plan",), 7, -25, 25, bin="other"),
    )
    assert [term.fixed for term in spec.terms] == [False, False, True, False, False, False]
    assert list(spec.weights.values()) == [3, 1, 2, -1, 7, 7]


def test_two_weights_of_one_name() -> None:
    refused(
        r"stand for more than one weight: \['plan\[basic\]'\]",
        features={"plan": binned("basic"), "plan[basic]": weighted(column="plan")},
    )


def test_one_column_may_have_two_features() -> None:
    spec = make_spec(features={"depth": weighted(), "depth_again": weighted(column="depth")})
    assert [term.columns for term in spec.terms] == [("depth",), ("depth",)]


def test_binned_feature_has_no_weight_of_its_own() -> None:
    refused(
        r"with bins each bin has its own weight; drop \['weight', 'max'\] here",
        features={"plan": {**binned("basic"), "weight": 1, "max": 3}},
    )


def test_binned_feature_has_a_bin_for_the_unknown() -> None:
    refused(
        "give the unknown a bin of its own named `missing`",
        features={"plan": {**binned("basic"), "missing": {"value": 0}}},
    )


# Outcomes


@pytest.mark.parametrize(
    ("name", "role"),
    [("mrr", "mrr"), ("churned", "churned"), ("actual_ltv", "ltv"), ("won_back", "won_back")],
)
def test_outcome_is_no_feature(name: str, role: str) -> None:
    refused(
        f'features.{name}: reads column "{name}", which is the outcome "{role}"; '
        "a score must not see its own outcome",
        features={name: weighted()},
    )


def test_outcome_under_another_name_is_no_feature_either() -> None:
    refused(
        'features.health: reads column "stayed", which is the outcome "retained"',
        features={"health": weighted(column="stayed")},
        outcomes={"retained": "stayed"},
    )


def test_name_that_is_no_outcome_any_more_may_be_a_feature() -> None:
    spec = make_spec(features={"mrr": weighted()}, outcomes={"mrr": "start_mrr"})
    assert spec.terms[0].columns == ("mrr",)


# The rest


@pytest.mark.parametrize("holdout", [-0.1, 1.0, float("nan"), float("inf")])
def test_holdout_is_a_share_below_1(holdout: float) -> None:
    with pytest.raises(ValidationError, match="holdout"):
        Split(holdout=holdout)


def test_guardrail_says_something() -> None:
    with pytest.raises(ValidationError, match=r"guardrail on nrr_by_tier\.A needs a min or a max"):
        Guardrail(metric="nrr_by_tier.A")
    assert Guardrail(metric="nrr_by_tier.A", max=0).max == 0


def test_orientation_is_one_of_two() -> None:
    assert make_spec(orientation="risk").orientation == "risk"
    refused("'health' or 'risk'", orientation="riskk")


def test_number_as_version_is_text() -> None:
    assert make_spec(version=3).version == "3"


def test_keys_that_nobody_knows_are_refused_everywhere() -> None:
    for model, given in (
        (Split, {"holdout": 0.1, "share": 0.1}),
        (Tier, {"min": 0, "max": 1, "name": "A"}),
        (Feature, weighted() | {"wieght": 3}),
        (Lineage, {"run": "r1", "experiment": "exp_00001", "by": "me"}),
    ):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            model.model_validate(given)


def test_spec_is_frozen() -> None:
    spec = make_spec()
    for target, name in ((spec, "base"), (spec.features["depth"], "weight"), (spec.split, "salt")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(target, name, 1)


# Other weights


def test_with_weights_changes_what_is_named_and_nothing_else() -> None:
    spec = make_spec(features={"depth": weighted(3), "plan": binned("basic", "other")})
    other = spec.with_weights({"plan[other]": -7, "depth": 25})
    assert other.weights == {"depth": 25, "plan[basic]": 5, "plan[other]": -7}
    assert spec.weights == {"depth": 3, "plan[basic]": 5, "plan[other]": 5}
    assert other.with_weights(spec.weights) == spec


def test_with_weights_keeps_to_the_bounds() -> None:
    with pytest.raises(ValidationError, match=r"weight 26 is outside its bounds \[-25, 25\]"):
        make_spec(features={"plan": binned("basic")}).with_weights({"plan[basic]": 26})
