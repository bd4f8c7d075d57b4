"""Groups, shared weights and vetoes in a spec: what is refused, ids, and text that reads back."""

from __future__ import annotations

from typing import Any

import pytest
from factories import make_spec, weighted

from gtmar import spec as specs
from gtmar.errors import SpecError, UsageError
from gtmar.spec.joined import joined

SHARED: dict[str, Any] = {"missing": "redistribute"}
FEATURES = {"logins": weighted(), "depth": weighted(**SHARED), "alert_created": weighted()}
GROUP = {"engagement": {"features": ["logins", "depth"], "min": 0, "max": 8}}
VETO = [{"rule": "tickets > 10", "tier": "D"}]
BINS = {"missing": {"weight": 1, "min": 0, "max": 1}}
SHARES = {"A": {"share": 0.3}, "B": {"share": 0.3}, "C": {"share": 0.4}}


def drawn(**more: Any) -> specs.ScoringSpec:
    return make_spec(**{"features": FEATURES, "groups": GROUP, "veto": VETO, **more})


def test_all_that_can_not_hold_is_said_at_once() -> None:
    text = """
model: wrong
features:
  logins: {weight: 5, min: 0, max: 10}
  seats: {weight: 5, min: 0, max: 10}
groups:
  one: {features: [logins, seets], max: 4}
  two: {features: [logins, seats]}
  three: {features: [seats, seats], min: 3}
veto:
- {rule: "tickets > 10", tier: E}
- {rule: "10 < tickets", tier: B}
- {rule: "retained_6mo = 0", tier: B}
- {rule: "logins = 0", tier: A}
tiers: {A: {min: 50, max: 101}, B: {min: 0, max: 50}}
"""
    with pytest.raises(SpecError) as caught:
        specs.parse(text)
    problems = caught.value.facts["problems"]
    assert isinstance(problems, list)
    for expected in (
        'spec:7: groups.one: there is no feature "seets"; did you mean "seats"?',
        'spec:8: groups.two: feature "logins" stands in more than one place: "one" and "two"',
        "spec:8: groups.two: needs a min or a max, or a feature with `missing: redistribute`",
        'spec:9: groups.three: feature "seats" stands in more than one place: "two" and "three"',
        'spec:10: veto: "tickets > 10": there is no tier "E"; there are A, B',
        'spec:10: veto: "10 < tickets": stands twice',
        'spec:10: veto: reads column "retained_6mo", which is the outcome "retained"',
        'spec:10: veto: "logins = 0": "A" is the best tier, so this veto changes nothing',
    ):
        assert [text for text in problems if text.startswith(expected)], expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"groups": {"g": {"features": ["logins"], "min": 4, "max": 3}}}, "min 4 is above max 3"),
        ({"veto": {"rule": "tickets >", "tier": "D"}}, "not understood"),
        ({"tiers": SHARES, "veto": [{"rule": "a = 1", "tier": "B"}]}, 'the lowest, "C", alone'),
        (
            {"tiers": SHARES, "orientation": "risk", "veto": [{"rule": "a = 1", "tier": "A"}]},
            "needs tiers with fixed edges",
        ),
        (
            {"features": {"plan": {"encode": {"kind": "bins", "bins": BINS}, **SHARED}}},
            "or has a bin named `missing`",
        ),
    ],
)
def test_what_can_not_hold_is_refused_in_a_sentence(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_spec(**{"features": FEATURES, **data})


def test_text_reads_back_to_the_same_spec() -> None:
    spec = drawn(veto=VETO[0])
    assert spec == drawn()
    assert specs.parse(specs.to_yaml(spec)) == spec
    assert specs.parse(specs.to_json(spec)) == spec


def test_ids_cover_what_changes_a_score_and_not_how_it_is_written() -> None:
    ids = specs.score_id, specs.points_id, specs.spec_id
    base = [identify(drawn()) for identify in ids]
    turned = {"engagement": {**GROUP["engagement"], "features": ["depth", "logins"]}}
    alike = drawn(groups=turned, veto=[{"rule": "10 < tickets", "tier": "D"}])
    assert [identify(alike) for identify in ids] == base
    for other in (
        drawn(groups={"engagement": {**GROUP["engagement"], "max": 9}}),
        drawn(groups={}),
        drawn(veto=[]),
        drawn(veto=[{"rule": "tickets > 11", "tier": "D"}]),
        drawn(veto=[{"rule": "tickets > 10", "tier": "C"}]),
        drawn(features={**FEATURES, "depth": weighted(missing={"value": 0})}),
    ):
        assert not {identify(other) for identify in ids} & set(base)
    # Where a veto leads follows from the tier's edge, and so does the score.
    edges = {"A": {"min": 60, "max": 101}, "D": {"min": 0, "max": 60}}
    assert specs.points_id(drawn(tiers=edges)) != base[1]
    edges = {"A": {"min": 70, "max": 101}, "B": {"min": 15, "max": 70}, "D": {"min": 0, "max": 15}}
    assert specs.points_id(drawn(tiers=edges)) == base[1]


def test_two_specs_whose_vetoes_differ_are_not_compared_account_by_account() -> None:
    with pytest.raises(UsageError, match="veto: tickets > 10 and none"):
        joined(drawn(), drawn(veto=[]))
    floor = {"engagement": {"features": ["logins"], "min": 3}}
    with pytest.raises(UsageError, match="the points of engagement can't be 0"):
        joined(drawn(groups=floor), drawn())
