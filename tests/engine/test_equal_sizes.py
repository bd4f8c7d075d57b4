"""Tiers cut at given sizes, held against the definition: seats in the order of scores.

Where accounts tie across a cut, each is in both tiers in part. The oracle writes every account
down as often as the parts' common denominator says, and takes plain metrics of whole accounts.
"""

from __future__ import annotations

import math
import random
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference
import sized
import tables
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gtmar.engine.equal_sizes import SizedTiers, sums_at_sizes, tier_sizes
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import tier_sum
from gtmar.errors import ShapeError
from gtmar.metrics.registry import all_metrics, measure, metric_column
from gtmar.runs.side_by_side import at_equal_sizes, measured_at_sizes
from gtmar.validation.intervals import panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar import spec as specs
    from gtmar.data.matrix import AccountMatrix

BY_TIER = {
    "nrr_by_tier": reference.nrr,
    "grr_by_tier": reference.grr,
    "logo_retention_by_tier": reference.logo_retention,
    "expansion_rate_by_tier": reference.expansion_rate,
    "expanded_share_by_tier": reference.expanded_share,
    "contraction_rate_by_tier": reference.contraction_rate,
    "contracted_share_by_tier": reference.contracted_share,
    "quick_ratio_by_tier": reference.quick_ratio,
    "winback_rate_by_former_tier": reference.winback_rate,
    "activation_rate_by_tier": reference.activation_rate,
    "median_days_to_activate_by_tier": reference.median_days_to_activate,
    "arpa_by_tier": reference.arpa,
}
#: Rows that an oracle writes down at most.
MOST = 40_000
TIERS = tuple(tables.TIERS)


def sizes_of(source: random.Random, accounts: int, tiers: int = len(TIERS)) -> list[int]:
    """Draw sizes that add up; tiers may be empty."""
    ends = sorted(source.randint(0, accounts) for _ in range(tiers - 1))
    return [high - low for low, high in zip([0, *ends], [*ends, accounts], strict=True)]


def in_whole_accounts(
    rows: Sequence[tables.Row], sizes: Sequence[int]
) -> tuple[int, list[list[tables.Row]]]:
    """Write scored rows down by tier, each as often as the tier has of it; and what is one."""
    shares = sized.memberships([row["score"] for row in rows], sizes)
    one = math.lcm(*(share.denominator for own in shares for share in own))
    if one * len(rows) > MOST:
        return one, []
    found: list[list[tables.Row]] = [[] for _ in sizes]
    for row, own in zip(rows, shares, strict=True):
        for tier, share in enumerate(own):
            found[tier] += [row] * int(share * one)
    return one, found


def expected_metrics(rows: Sequence[tables.Row], sizes: Sequence[int]) -> dict[str, float | None]:
    one, by_tier = in_whole_accounts(rows, sizes)
    assume(one * len(rows) <= MOST)
    values: dict[str, Fraction | None] = {
        metric_column(key, tier): formula(own)
        for key, formula in BY_TIER.items()
        for tier, own in zip(TIERS, by_tier, strict=True)
    }
    paying = [
        {"tier": tier, "start": row["start"]}
        for tier, own in zip(TIERS, by_tier, strict=True)
        for row in own
        if reference.is_paying(row)
    ]
    values["revenue_concentration_hhi"] = reference.hhi(paying, TIERS)
    values["hhi_normalised"] = reference.hhi_normalised(paying, TIERS)
    for tier, size in zip(TIERS, sizes, strict=True):
        values[metric_column("share_by_tier", tier)] = Fraction(size, len(rows))
    return {key: None if v is None else float(v) for key, v in values.items()}


def bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("<d", value)


# ---- accounts and tiers -----------------------------------------------------------------------

SCORES = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@given(SCORES, st.randoms(use_true_random=False), st.integers(1, 6))
@example([5] * 6, random.Random(0), 3)
def test_each_tier_takes_of_each_account_what_seats_in_the_order_of_scores_give_it(
    scores: list[int], source: random.Random, tiers: int
) -> None:
    sizes = sizes_of(source, len(scores), tiers)
    cut = SizedTiers.of(np.array(scores), sizes)
    expected = sized.memberships(scores, sizes)
    taken = cut.overlap[cut.rows]
    of = cut.counts[cut.rows]
    got = [[Fraction(int(n), int(m)) for n in own] for own, m in zip(taken, of, strict=True)]
    assert got == expected
    assert cut.overlap.sum(axis=0).tolist() == sizes
    membership = cut.membership
    divided = any(0 < share < 1 for own in expected for share in own)
    assert (membership is not None) == divided
    if membership is not None:
        np.testing.assert_allclose(membership, np.array(expected, dtype=float), rtol=1e-15)
    most = [max(own) for own in expected]
    assert cut.tiers.tolist() == [
        own.index(share) for own, share in zip(expected, most, strict=True)
    ]


@given(SCORES, st.randoms(use_true_random=False))
def test_totals_are_exact(scores: list[int], source: random.Random) -> None:
    sizes = sizes_of(source, len(scores))
    cents = [source.choice((0, 1, -7, 10**17, 2**70)) for _ in scores]
    cut = SizedTiers.of(np.array(scores), sizes)
    by_score = np.zeros(len(cut.counts), dtype=object)
    for row, value in zip(cut.rows, cents, strict=True):
        by_score[row] += value
    shares = sized.memberships(scores, sizes)
    assert cut.totals(by_score) == [
        sum((own[tier] * value for own, value in zip(shares, cents, strict=True)), Fraction(0))
        for tier in range(len(sizes))
    ]


def test_sizes_that_are_not_those_of_the_accounts_are_refused() -> None:
    with pytest.raises(ShapeError, match="expected 3 accounts in all, got 4"):
        SizedTiers.of(np.array([1, 2, 3]), [2, 2])


# ---- sums and metrics -------------------------------------------------------------------------

WEIGHTS = st.sampled_from([(40, 25, -10), (40, 0, 0), (0, 0, 0), (100, 100, 0), (-9, 60, 3)])


def matrix_of(
    kind: str, orientation: str, size: int, seed: int
) -> tuple[list[tables.Row], specs.ScoringSpec, AccountMatrix]:
    drawn = tables.draw_table(random.Random(seed), size, kind)
    spec = tables.make_spec(base=5, orientation=orientation)
    return drawn, spec, tables.loaded(tables.frame_of(drawn, kind), spec).search


@pytest.mark.slow
@settings(max_examples=24, deadline=None)
@given(
    st.sampled_from(sorted(tables.KINDS)),
    st.sampled_from(["health", "risk"]),
    st.integers(1, 40),
    st.integers(0, 10**6),
    WEIGHTS,
)
@example("everything", "risk", 30, 1, (40, 0, 0))
@example("everything", "health", 7, 2, (0, 0, 0))
def test_metrics_at_given_sizes_are_those_of_the_definition(
    kind: str, orientation: str, size: int, seed: int, weights: tuple[int, ...]
) -> None:
    drawn, spec, matrix = matrix_of(kind, orientation, size, seed)
    rows = tables.scored(drawn, kind, weights, base=5)
    if kind == "mrr_only":
        # Where nobody has a label, all who pay count in what asks for their start MRR alone.
        rows = [{**row, "retained": 1, "end": row["start"]} for row in rows]
    sizes = sizes_of(random.Random(seed), size)
    found = measured_at_sizes(matrix, spec, weights, sizes, matrix.outcomes)
    expected = expected_metrics(rows, sizes)
    whole: dict[str, Any] = reference.metrics(rows, TIERS, orientation)
    scalar = {key for key, metric in all_metrics().items() if not metric.count}
    expected |= {
        key: value
        for key, value in whole.items()
        if key in scalar.difference(expected) and not isinstance(value, dict)
    }
    # How many are clipped asks for no tier.
    clipped = {"share_clipped_low", "share_clipped_high"}
    assert found.keys() - clipped == expected.keys()
    lacking = {
        key
        for key, metric in all_metrics().items()
        if matrix.outcomes.missing_reason(metric.needs) is not None
    }
    for name, value in expected.items():
        if name.partition(".")[0] in lacking:
            assert found[name] is None
        else:
            assert tables.agree(found[name], value), (name, found[name], value)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6), WEIGHTS)
def test_sums_of_tiers_add_up_to_those_of_the_table(
    size: int, seed: int, weights: tuple[int, ...]
) -> None:
    _, spec, matrix = matrix_of("everything", "health", size, seed)
    sizes = sizes_of(random.Random(seed), size)
    found = sums_at_sizes(matrix, spec, weights, sizes)
    usual = LocalEvaluator(matrix, spec).frame([weights]).to_dicts()[0]
    assert [found[tier_sum("accounts", tier)] for tier in TIERS] == [[n] for n in sizes]
    for name in ("labelled", "retained", "start", "end", "expansion", "contraction", "churned"):
        added = sum(found[tier_sum(name, tier)][0] for tier in TIERS)
        assert added == sum(usual[tier_sum(name, tier)] for tier in TIERS), name


@pytest.mark.parametrize("orientation", ["health", "risk"])
@pytest.mark.parametrize("kind", list(tables.KINDS))
def test_a_score_at_its_own_sizes_has_the_metrics_of_the_usual_path_to_the_bit(
    kind: str, orientation: str
) -> None:
    _, spec, matrix = matrix_of(kind, orientation, 70, 5)
    for weights in ([40, 25, -10], [0, 0, 0], [200, 200, 200], [-200, 3, 0], [90, 20, 7]):
        frame = LocalEvaluator(matrix, spec).frame([weights])
        usual = measure(frame, spec.tier_names, matrix.outcomes).row(0)
        sizes = tier_sizes(matrix, spec, weights)
        found = measured_at_sizes(matrix, spec, weights, sizes, matrix.outcomes)
        flat: dict[str, Any] = {
            metric_column(key, tier): each
            for key, value in usual.items()
            if not all_metrics()[key].count
            for tier, each in (value.items() if isinstance(value, dict) else [(None, value)])
        }
        assert {name: bits(v) for name, v in found.items()} == {
            name: bits(v) for name, v in flat.items()
        }


def test_cents_beyond_one_limb_stay_exact() -> None:
    drawn = tables.draw_table(random.Random(6), 40, "everything")
    for row in drawn[::3]:
        for name in ("start", "end"):
            row[name] = 6 * 10**15 if row[name] else row[name]
    spec = tables.make_spec()
    frame = tables.frame_of(drawn, "everything")
    matrix = tables.loaded(frame, spec).search
    rows = tables.scored(drawn, "everything", (40, 0, 0))
    sizes = [10, 11, 12, 7]
    found = sums_at_sizes(matrix, spec, (40, 0, 0), sizes)
    one, by_tier = in_whole_accounts(rows, sizes)
    for tier, own in zip(TIERS, by_tier, strict=True):
        paying = [row for row in own if reference.is_paying(row)]
        assert found[tier_sum("start", tier)] == [
            Fraction(sum(row["start"] for row in paying), one)
        ]
        assert found[tier_sum("end", tier)] == [
            Fraction(sum(reference.end_of(row) for row in paying), one)
        ]


# ---- side by side -----------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["health", "risk"])
@pytest.mark.parametrize("after", [(40, 0, 0), (9, 2, 90), (400, 250, -100)])
def test_intervals_are_of_the_values_at_equal_sizes(
    orientation: str, after: tuple[int, ...]
) -> None:
    before = (40, 25, -10)
    _, spec, matrix = matrix_of("everything", orientation, 400, 9)
    sizes = tier_sizes(matrix, spec, before)
    found = uncertainty(panel_of(matrix, spec, before, after), replicates=20)
    seen = 0
    for weights, side in ((before, found.before), (after, found.after)):
        at_sizes = measured_at_sizes(matrix, spec, weights, sizes, matrix.outcomes)
        for name, interval in side.items():
            if name.endswith(".*"):
                continue
            assert tables.agree(interval.value, at_sizes[name], rel=1e-9), name
            seen += "." in name
    assert seen > 60
    first, second = (
        measured_at_sizes(matrix, spec, w, sizes, matrix.outcomes) for w in (before, after)
    )
    for name, interval in found.gain.items():
        one, two = first[name], second[name]
        if interval.value is not None and one is not None and two is not None:
            assert math.isclose(interval.value, two - one, rel_tol=1e-7, abs_tol=1e-9), name


def test_start_and_best_stand_side_by_side_at_the_sizes_of_the_start() -> None:
    _, spec, matrix = matrix_of("everything", "health", 120, 4)
    best = (9, 2, 90)
    found: dict[str, Any] = at_equal_sizes(matrix, spec, best, matrix.outcomes)
    start = tuple(term.weight for term in spec.terms)
    assert tuple(found["sizes"]) == tier_sizes(matrix, spec, start)
    assert found["tiers"] == list(TIERS)
    for side, weights in (("start", start), ("best", best)):
        values = measured_at_sizes(matrix, spec, weights, found["sizes"], matrix.outcomes)
        kept = {k: v for k, v in values.items() if "." in k or "hhi" in k}
        assert found[side] == kept
        labelled = LocalEvaluator(matrix, spec).frame([weights])
        total = sum(labelled[tier_sum("labelled", tier)][0] for tier in TIERS)
        assert sum(found[f"labelled_{side}"]) == pytest.approx(total)
