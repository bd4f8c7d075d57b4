"""Edges by rule, held against the definition: sizes as near as ties allow, lift as stated."""

from itertools import pairwise

import numpy as np
import pytest
from factories import make_spec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gtmar import spec as specs
from gtmar.errors import SpecError
from gtmar.spec.tier_rule import MILLION, TierRule

COUNTS = st.lists(st.integers(0, 6), min_size=1, max_size=40)
SHARES = st.lists(st.integers(1, 20), min_size=1, max_size=5)


def lows_of(rule: TierRule, everyone: list[int], *, first: int = 0) -> list[int]:
    counts = np.array(everyone, dtype=np.int64)
    return rule.lows(counts, counts * 0, counts, first=first)


def by_share(parts: list[int]) -> TierRule:
    reached = np.cumsum(parts[:-1]) / sum(parts)
    return TierRule(goals=tuple((round(share * MILLION), 0) for share in reached.tolist()))


@given(COUNTS, SHARES, st.integers(0, 50))
def test_each_edge_is_as_near_to_its_share_as_ties_allow(
    everyone: list[int], parts: list[int], first: int
) -> None:
    rule = by_share(parts)
    lows = lows_of(rule, everyone, first=first)
    assert lows[-1] == 0
    assert all(high > low for high, low in pairwise(lows))
    total = sum(everyone)
    reachable = {sum(everyone[bin_:]) for bin_ in range(len(everyone) + 1)}
    ceilings = [None, *lows]
    for low, (share, _), above in zip(lows, rule.goals, ceilings, strict=False):
        reached = sum(everyone[max(0, low - first) :])
        nearest = min(abs(count * MILLION - share * total) for count in reachable)
        # An edge gives way only to the tiers above and below, which need a bin of their own.
        crowded = (above is not None and low == above - 1) or low < len(parts) or not total
        assert crowded or abs(reached * MILLION - share * total) == nearest


def test_of_two_edges_as_near_the_one_with_fewer_accounts_above_is_taken() -> None:
    # Two accounts tied where one is wanted: none is as near as both.
    assert lows_of(by_share([1, 3]), [2, 0, 2])[0] == 3
    assert lows_of(by_share([1, 1]), [1, 2, 1])[0] == 2


def test_an_edge_is_the_score_of_the_last_account_above_it() -> None:
    assert lows_of(by_share([1, 1]), [1, 0, 0, 0, 1])[0] == 4


def rule_of(tiers: dict[str, dict[str, float]], **more: str) -> TierRule | None:
    return TierRule.of(make_spec(tiers=tiers, **more))


def test_accounts_are_counted_from_both_ends_and_one_tier_takes_the_rest() -> None:
    rule = rule_of({"A": {"accounts": 2}, "B": {}, "C": {"accounts": 3}})
    assert rule is not None
    assert lows_of(rule, [1] * 10) == [8, 3, 0]
    # Fewer accounts than the tiers take: those above are filled first.
    assert lows_of(rule, [0, 0, 1, 1, 1]) == [3, 2, 0]


def test_a_lift_takes_the_largest_group_that_leaves_so_often() -> None:
    tiers: dict[str, dict[str, float]] = {"hot": {"lift": 2}, "warm": {"lift": 1}, "cold": {}}
    rule = rule_of(tiers, orientation="risk")
    assert rule is not None
    labelled = np.full(10, 10)
    left = np.array([0, 0, 0, 1, 1, 2, 3, 5, 6, 7])
    # 25 of 100 leave. From bin 6 on 21 of 40 do, from 5 on 23 of 50: less than twice as often.
    assert rule.lows(labelled, left, labelled, first=0) == [6, 5, 0]


@pytest.mark.parametrize("lift", [1e4, 1e15, 1e300])
def test_no_tier_reaches_a_lift_beyond_what_all_leaving_would_be(lift: float) -> None:
    tiers: dict[str, dict[str, float]] = {"hot": {"lift": lift}, "warm": {"lift": 1}, "cold": {}}
    rule = rule_of(tiers, orientation="risk")
    assert rule is not None
    # The products of such counts and such lifts are beyond 64 bits.
    labelled = np.full(10, 10**7)
    left = np.array([0, 0, 0, 1, 1, 2, 3, 5, 6, 7]) * 10**6
    assert rule.lows(labelled, left, labelled, first=0) == [10, 1, 0]


def test_specs_with_edges_alone_have_no_rule_and_keep_their_ids() -> None:
    spec = make_spec()
    assert TierRule.of(spec) is None
    assert specs.canonical(spec)["tiers"]["A"] == [6000, 10100]
    assert "tier_rules" not in specs.canonical(spec)


def test_edges_of_a_rule_are_written_into_the_spec_and_say_who_is_in_which_tier() -> None:
    spec = make_spec(tiers={"A": {"share": 0.25}, "B": {"share": 0.75}})
    assert not spec.has_edges
    with pytest.raises(SpecError, match=r"have a rule and no edges yet.*\n?.*gtmar tiers"):
        _ = spec.tier_lows
    edged = spec.with_edges([7112, 0])
    assert edged.tier_lows == (7112, 0)
    assert edged.tiers["A"].share == 0.25
    assert (edged.tiers["A"].min, edged.tiers["A"].max) == (71.12, 101)
    assert specs.parse(specs.to_yaml(edged), source="text") == edged
    assert specs.score_id(edged) != specs.score_id(edged.with_edges([7113, 0]))
    # The same bands give the same scores and tiers, whether a rule stands beside them or not.
    bare = make_spec(tiers={"A": {"min": 71.12, "max": 101}, "B": {"min": 0, "max": 71.12}})
    assert specs.score_id(edged) == specs.score_id(bare)
    assert specs.spec_id(edged) != specs.spec_id(bare)


@pytest.mark.parametrize(
    ("tiers", "text"),
    [
        ({"A": {"share": 0.5}, "B": {"share": 0.4}}, "the shares must add up to 1, they add up"),
        ({"A": {"share": 0.5}, "B": {}}, "needs a share as the other tiers have one"),
        ({"A": {"share": 0.5}, "B": {"accounts": 3}}, "the same kind of rule, got accounts and"),
        ({"A": {"share": 0.5, "accounts": 3}, "B": {}}, "a tier has one rule, got share and acc"),
        ({"A": {"accounts": 3}, "B": {"accounts": 3}}, "one tier has no accounts and takes the"),
        ({"A": {"lift": 3}, "B": {}}, "lift is for risk scores"),
        ({"A": {"min": 5}, "B": {"share": 1}}, "min and max stand together"),
        ({"A": {}, "B": {}}, "needs min and max, or a rule"),
        ({"A": {"share": 0.5, "min": 5, "max": 101}, "B": {"share": 0.5}}, "as the other tiers"),
        ({"A": {"share": 1.5}, "B": {"share": 0.5}}, "less than or equal to 1"),
        ({"A": {"accounts": 0}, "B": {}}, "greater than or equal to 1"),
    ],
)
def test_rules_that_do_not_fit_are_refused(tiers: dict[str, dict[str, float]], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        make_spec(tiers=tiers)
