"""Two specs as one form score as each of them does."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec, weighted

from gtmar import runs
from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.spec.ids import form_id
from gtmar.spec.joined import joined

TABLE = make_accounts(300, seed=4).with_columns(
    depth=pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise("depth")
)
MISSING: dict[str, Any] = {"missing": {"value": 0}}


def bins(low: int, high: int, unknown: int) -> dict[str, Any]:
    each = {"[-inf,0.5)": low, "[0.5,inf)": high, "missing": unknown}
    known = {key: {"weight": w, "min": -50, "max": 50} for key, w in each.items()}
    return {"encode": {"kind": "bins", "bins": known}}


ONE = make_spec(features={"logins": weighted(), "depth": weighted(**MISSING)}, base=20)
KNOWN = {"logins": weighted(), "depth": weighted(**MISSING), "alert_created": weighted()}
OPEN = {**KNOWN, "depth": weighted(12, missing="redistribute")}
BOTH = {"g": {"features": ["depth", "logins"], "min": 0, "max": 6}}
VETO = {"rule": "logins < 10", "tier": "C"}
PAIRS = {
    "other weights": (ONE, ONE.with_weights({"logins": 1, "depth": 17})),
    "other features": (
        ONE,
        make_spec(features={"depth": weighted(**MISSING), "alert_created": weighted()}, base=20),
    ),
    "another base": (ONE, make_spec(features=ONE.model_dump()["features"], base=35)),
    "another encoder of the same name": (
        ONE,
        make_spec(features={"logins": weighted(), "depth": bins(3, 9, -4)}, base=21),
    ),
    "groups of one side, and another base": (
        make_spec(features=KNOWN, base=20, groups={"g": {"features": ["logins"], "max": 3}}),
        make_spec(features=KNOWN, base=-5),
    ),
    "the same groups and shared weights": (
        make_spec(features=OPEN, groups=BOTH),
        make_spec(features={**OPEN, "logins": weighted(9)}, groups=BOTH),
    ),
    "other groups, and weights shared on one side": (
        make_spec(features=OPEN, base=4, groups={"g": {"features": ["depth", "logins"], "max": 2}}),
        make_spec(features=KNOWN, base=9, groups={"g": {"features": ["logins"], "min": -4}}),
    ),
    "the same veto": (
        make_spec(features=KNOWN, veto=VETO),
        make_spec(features={"depth": weighted(7, **MISSING)}, veto=VETO, base=30),
    ),
    "bins and others": (
        make_spec(features={"depth": bins(1, 2, 3)}),
        make_spec(features={"depth": bins(-7, 8, 20), "logins": weighted()}),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_each_side_scores_as_its_spec(name: str) -> None:
    pair = PAIRS[name]
    both = joined(*pair)
    assert form_id(both[0], tiers=False) == form_id(both[1], tiers=False)
    for given, made in zip(pair, both, strict=True):
        expected = runs.score(TABLE, given).select("score", "tier")
        assert runs.score(TABLE, made).select("score", "tier").equals(expected)
    bounds = [(term.min, term.max) for term in both[0].terms]
    for low_high, one, two in zip(bounds, both[0].terms, both[1].terms, strict=True):
        assert low_high[0] <= min(one.weight, two.weight) <= max(one.weight, two.weight)
        assert max(one.weight, two.weight) <= low_high[1]


def test_of_one_form_the_first_is_the_incumbent_itself() -> None:
    first, second = joined(*PAIRS["other weights"])
    assert specs.spec_id(first) == specs.spec_id(ONE)
    assert second.weights == {"logins": 1, "depth": 17}


def test_what_has_no_common_scale_is_refused_with_all_that_differs() -> None:
    other = make_spec(
        features=ONE.model_dump()["features"],
        orientation="risk",
        max_score=200,
        tiers={"A": {"min": 0, "max": 201}},
    )
    with pytest.raises(UsageError) as caught:
        joined(ONE, other)
    for word in ("max_score: 100 and 200", "orientation: health and risk", "tiers: "):
        assert word in caught.value.message
    with pytest.raises(UsageError, match="nothing to decide"):
        joined(ONE, ONE)
