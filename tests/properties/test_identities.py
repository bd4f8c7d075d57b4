"""Identities that hold on any table with observed revenue, whatever the implementation."""

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
import reference
import tables
from hypothesis import assume, given, settings
from hypothesis import strategies as st

Row = dict[str, Any]

BASE = 5

#: Three candidates: to load a table takes far longer than to measure them on it.
weight_vectors = st.lists(
    st.lists(st.integers(-60, 120), min_size=3, max_size=3), min_size=3, max_size=3
)


@st.composite
def observed_tables(draw: st.DrawFn) -> list[Row]:
    size = draw(st.sampled_from((5, 10, 20)) | st.integers(1, 30))
    source = random.Random(draw(st.integers(0, 2**32)))
    return tables.draw_table(source, size, "everything")


def measured(
    drawn: Sequence[Row], vectors: Sequence[Sequence[int]], **more: Any
) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
    """Return each vector of weights with what a table gives for it."""
    spec = tables.make_spec(vectors[0], base=BASE, **more)
    found = tables.tallied(tables.frame_of(drawn, "everything"), spec, vectors)
    for number, weights in enumerate(vectors):
        yield weights, found.row(number)


# ---- retention ------------------------------------------------------------------------------


@pytest.mark.slow
@given(drawn=observed_tables(), vectors=weight_vectors)
@settings(max_examples=8, deadline=None)
def test_what_tiers_have_and_a_fifth_captures_adds_up(
    drawn: list[Row], vectors: list[list[int]]
) -> None:
    for weights, found in measured(drawn, vectors):
        rows = tables.scored(drawn, "everything", weights, base=BASE)
        paying = [row for row in rows if reference.is_paying(row)]
        net_retention_is_what_grew_shrank_and_left(found, paying)
        start_times_net_retention_adds_up_to_the_end(found, paying)
        tiers_share_all_accounts(found, rows)
        capture_lies_between_its_worst_and_best_order_of_ties(found, paying)


def net_retention_is_what_grew_shrank_and_left(found: Row, paying: list[Row]) -> None:
    for tier, nrr in found["nrr_by_tier"].items():
        if nrr is None:
            continue
        cohort = [row for row in paying if row["tier"] == tier]
        left = sum(row["start"] for row in cohort if row["end"] == 0)
        churned = left / sum(row["start"] for row in cohort)
        grown = found["expansion_rate_by_tier"][tier]
        shrunk = found["contraction_rate_by_tier"][tier]
        grr = found["grr_by_tier"][tier]
        # Differences of numbers as large as these keep no more than their last bits allow.
        loose = 1e-12 * max(1.0, nrr)
        assert nrr == pytest.approx(1 + grown - shrunk - churned, rel=0, abs=loose)
        assert nrr - grr == pytest.approx(grown, rel=0, abs=loose)
        assert 0 <= grr <= min(1.0, nrr)


def start_times_net_retention_adds_up_to_the_end(found: Row, paying: list[Row]) -> None:
    start = {
        tier: (found["arpa_by_tier"][tier] or 0) * found["paying_by_tier"][tier]
        for tier in tables.TIERS
    }
    end = sum(start[tier] * (found["nrr_by_tier"][tier] or 0) for tier in tables.TIERS)
    assert end == pytest.approx(sum(row["end"] for row in paying) / 100, rel=1e-12)


def tiers_share_all_accounts(found: Row, rows: list[Row]) -> None:
    assert sum(found["accounts_by_tier"].values()) == found["scored"] == len(rows)
    assert sum(found["share_by_tier"].values()) == pytest.approx(1.0, abs=1e-12)
    kept = sum(
        (found["logo_retention_by_tier"][tier] or 0) * found["labelled_by_tier"][tier]
        for tier in tables.TIERS
    )
    assert kept == pytest.approx(
        sum(row["retained"] for row in rows if reference.is_current(row)), rel=1e-12
    )


def captured(rows: list[tuple[int, int]], sign: int) -> Fraction:
    """Share of MRR in exactly n/5 accounts, ties put in their best or worst order."""
    ordered = sorted(rows, key=lambda row: (-row[0], -sign * row[1]))
    left, total = Fraction(len(rows), 5), Fraction(0)
    for _, start in ordered:
        taken = min(left, Fraction(1))
        total += taken * start
        left -= taken
    return total / sum(start for _, start in rows)


def capture_lies_between_its_worst_and_best_order_of_ties(found: Row, paying: list[Row]) -> None:
    capture = found["revenue_capture_at_20"]
    rows = [(row["score"], row["start"]) for row in paying]
    if not rows:
        assert capture is None
        return
    assert captured(rows, -1) - Fraction(1, 10**12) <= capture
    assert capture <= captured(rows, 1) + Fraction(1, 10**12)
    assert capture <= found["revenue_capture_ceiling"] * (1 + 1e-12)
    assert found["revenue_capture_lift"] == pytest.approx(5 * capture, rel=1e-12)


# ---- order ----------------------------------------------------------------------------------


@pytest.mark.slow
@given(drawn=observed_tables(), vectors=weight_vectors)
@settings(max_examples=8, deadline=None)
def test_auc_of_the_opposite_order_is_the_rest_to_one(
    drawn: list[Row], vectors: list[list[int]]
) -> None:
    both = (measured(drawn, vectors, orientation=turn) for turn in ("health", "risk"))
    for (_, health), (_, risk) in zip(*both, strict=True):
        assume(health["auc_roc_retain"] is not None)
        for key in ("auc_roc_retain", "auc_roc_churn"):
            assert health[key] + risk[key] == pytest.approx(1.0, abs=1e-12)
        # The two labels are complements, so a good order is as good for either.
        assert health["auc_roc_retain"] == pytest.approx(health["auc_roc_churn"], abs=1e-12)
        if health["tier_separation"] is not None:
            product = health["tier_separation"] * risk["tier_separation"]
            assert product == pytest.approx(1.0, rel=1e-12)


@pytest.mark.slow
@given(drawn=observed_tables(), orientation=st.sampled_from(("health", "risk")))
@settings(max_examples=8, deadline=None)
def test_auc_of_mirrored_scores_is_the_rest_to_one(drawn: list[Row], orientation: str) -> None:
    # Weights and base that clip nothing, and whose points are whole hundredths: 100 - score.
    drawn = [{**row, "units": tuple(u // 100 * 100 for u in row["units"])} for row in drawn]
    one, two = (
        tables.tallied(
            tables.frame_of(drawn, "everything"),
            tables.make_spec(weights, base=base, orientation=orientation),
        ).row(0)["auc_roc_retain"]
        for base, weights in ((20, (40, 25, -10)), (80, (-40, -25, 10)))
    )
    if one is None:
        assert two is None
    else:
        assert isinstance(one, float)
        assert isinstance(two, float)
        assert one + two == pytest.approx(1.0, abs=1e-12)


@pytest.mark.slow
@given(
    drawn=observed_tables(),
    weights=st.lists(st.integers(0, 10), min_size=3, max_size=3),
    times=st.lists(st.integers(2, 10), min_size=3, max_size=3),
)
@settings(max_examples=8, deadline=None)
def test_larger_weights_in_proportion_keep_the_order(
    drawn: list[Row], weights: list[int], times: list[int]
) -> None:
    # Points are whole hundredths, so that rounding ties no two accounts that a factor parts.
    drawn = [{**row, "units": tuple(u // 100 * 100 for u in row["units"])} for row in drawn]
    vectors = [weights, *([factor * weight for weight in weights] for factor in times)]
    (_, before), *others = measured(drawn, vectors, max_score=1000)
    assert len(others) == 3
    for _, after in others:
        assert before["share_clipped_low"] == after["share_clipped_high"] == 0
        for key in ("auc_roc_retain", "auc_roc_churn", "revenue_capture_at_20", "tier_separation"):
            assert before[key] == after[key]


@pytest.mark.slow
@given(drawn=observed_tables())
@settings(max_examples=8, deadline=None)
def test_a_score_that_ties_all_is_chance(drawn: list[Row]) -> None:
    # The mean over all orders.
    [(_, found)] = measured(drawn, [[0, 0, 0]])
    assert found["auc_roc_retain"] in (0.5, None)
    for key in ("revenue_capture_lift", "tier_separation"):
        assert found[key] is None or found[key] == pytest.approx(1.0, rel=1e-12)


# ---- concentration --------------------------------------------------------------------------


@pytest.mark.slow
@given(
    drawn=observed_tables(),
    vectors=weight_vectors,
    tiers=st.sampled_from((tables.TIERS, {"A": 50.0, "B": 0.0}, {"only": 0.0})),
)
@settings(max_examples=8, deadline=None)
def test_concentration_lies_between_an_even_split_and_one_tier(
    drawn: list[Row], vectors: list[list[int]], tiers: dict[str, float]
) -> None:
    for _, found in measured(drawn, vectors, tiers=tiers):
        hhi, normalised = found["revenue_concentration_hhi"], found["hhi_normalised"]
        if hhi is None:
            assert normalised is None
            return
        floor = 10_000 / len(tiers)
        assert floor * (1 - 1e-12) <= hhi <= 10_000 * (1 + 1e-12)
        paying = {tier: count for tier, count in found["paying_by_tier"].items() if count}
        if len(paying) == 1:
            assert hhi == pytest.approx(10_000.0, rel=1e-12)
        if len(tiers) == 1:
            assert normalised is None
        else:
            assert -1e-12 <= normalised <= 1 + 1e-12
            assert (len(paying) == 1) == (normalised == pytest.approx(1.0, abs=1e-12))
