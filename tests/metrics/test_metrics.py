"""Every metric on every kind of table equals the reference; order and copies change no rate."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest
import reference
import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from gtmar.engine.local import LocalEvaluator
from gtmar.metrics import Measured, all_metrics, measure

Row = dict[str, Any]

ORIENTATIONS = ("health", "risk")
BASE = 5
#: Metrics that need the end MRR itself: under the binary basis nobody grows or shrinks.
OBSERVED_ONLY = (
    "expansion_rate_by_tier",
    "expanded_share_by_tier",
    "contraction_rate_by_tier",
    "contracted_share_by_tier",
    "quick_ratio_by_tier",
)
#: Metrics of start MRR alone.
START_ONLY = (
    "arpa_by_tier",
    "revenue_concentration_hhi",
    "hhi_normalised",
    "revenue_capture_at_20",
    "revenue_capture_ceiling",
    "revenue_capture_lift",
)
#: Metrics that the reference doesn't know, as loops below count them.
COUNTED = (
    "share_clipped_low",
    "share_clipped_high",
    "labelled_by_tier",
    "paying_by_tier",
    "former_by_tier",
    "activation_applies_by_tier",
    "ltv_accounts",
)


def expected_metrics(
    drawn: Sequence[Row], kind: str, weights: Sequence[int], tiers: Mapping[str, float], turn: str
) -> dict[str, object]:
    """Ask the reference, and tell it what it can't know: which columns a table lacks."""
    rows = tables.scored(drawn, kind, weights, base=BASE, tiers=tiers)
    names = list(tiers)
    found = reference.metrics(rows, names, turn)
    found.pop("revenue_capture_random")
    if "mrr_end" not in tables.KINDS[kind]:
        found |= {key: dict.fromkeys(names) for key in OBSERVED_ONLY}
    # Lifetime value counts for all who have it and aren't former, label or no label.
    open_rows = [{**row, "retained": 1 if row["won_back"] is None else None} for row in rows]
    found["tier_separation"] = reference.metrics(open_rows, names, turn)["tier_separation"]
    if kind == "mrr_only":
        flat = [{**row, "retained": 1, "end": row["start"]} for row in rows]
        found |= {key: reference.metrics(flat, names, turn)[key] for key in START_ONLY}
    return found


def expected_counts(
    drawn: Sequence[Row], kind: str, weights: Sequence[int], tiers: Mapping[str, float]
) -> dict[str, object]:
    rows = tables.scored(drawn, kind, weights, base=BASE, tiers=tiers)
    raw = [tables.unclipped(row["units"], weights, BASE) for row in drawn]

    def each_tier(belongs: list[bool]) -> dict[str, int]:
        return {
            tier: sum(b and row["tier"] == tier for b, row in zip(belongs, rows, strict=True))
            for tier in tiers
        }

    current = [row["won_back"] is None for row in rows]
    if kind == "mrr_only":
        paying = [row["start"] > 0 for row in rows]
    else:
        paying = [reference.is_paying(row) for row in rows]
    return {
        "share_clipped_low": sum(value < 0 for value in raw) / len(rows),
        "share_clipped_high": sum(value > 10_000 for value in raw) / len(rows),
        "labelled_by_tier": each_tier([reference.is_current(row) for row in rows]),
        "paying_by_tier": each_tier(paying),
        "former_by_tier": each_tier([not c for c in current]),
        "activation_applies_by_tier": each_tier([row["activated"] is not None for row in rows]),
        "ltv_accounts": sum(
            c and row["ltv"] is not None and row["ltv"] > 0
            for c, row in zip(current, rows, strict=True)
        ),
    }


def assert_reasons(measured: Measured) -> None:
    """Every null has a reason, and nothing else has."""
    for index, reasons in enumerate(measured.reasons):
        row = measured.values.row(index, named=True)
        assert set(reasons) == {name for name, value in row.items() if value is None}
        assert all(reasons.values())


ALL_TIERS = (
    tables.TIERS,
    {"only": 0.0},
    {"it's": 50.0, "B plus": 0.0},
    {"never": 100.0, "A.1": 0.01, "B": 0.0},
)


@st.composite
def tables_of_all_kinds(draw: st.DrawFn) -> tuple[str, list[Row]]:
    kind = draw(st.sampled_from(tuple(tables.KINDS)))
    size = draw(st.sampled_from((3, 4, 5, 10, 20)) | st.integers(1, 30))
    source = random.Random(draw(st.integers(0, 2**32)))
    drawn = tables.draw_table(source, size, kind)
    if kind == "mrr_only":
        drawn = [{**row, "start": row["start"] or 0} for row in drawn]
    return kind, drawn


@pytest.mark.slow
@given(
    table=tables_of_all_kinds(),
    orientation=st.sampled_from(ORIENTATIONS),
    # Several: to load a table takes far longer than to measure them on it.
    vectors=st.lists(
        st.lists(st.integers(-60, 120), min_size=3, max_size=3), min_size=3, max_size=3
    ),
    tiers=st.sampled_from(ALL_TIERS),
)
@settings(max_examples=40, deadline=None)
def test_metrics_equal_the_reference(
    table: tuple[str, list[Row]],
    orientation: str,
    vectors: list[list[int]],
    tiers: dict[str, float],
) -> None:
    kind, drawn = table
    spec = tables.make_spec(vectors[0], base=BASE, orientation=orientation, tiers=tiers)
    measured = tables.tallied(tables.frame_of(drawn, kind), spec, vectors)
    assert measured.values.height == len(vectors)
    for number, weights in enumerate(vectors):
        got = measured.row(number)
        counts = expected_counts(drawn, kind, weights, tiers)
        tables.assert_same_metrics({key: got.pop(key) for key in counts}, counts)
        expected = expected_metrics(drawn, kind, weights, tiers, orientation)
        # What is left of the even split is a difference, so its last bits are not its own.
        evenness, expected_evenness = got.pop("hhi_normalised"), expected.pop("hhi_normalised")
        assert evenness == pytest.approx(expected_evenness, abs=1e-12)
        tables.assert_same_metrics(got, expected)
    assert_reasons(measured)


def test_reference_and_loops_know_every_metric() -> None:
    known = set(reference.metrics([], ["A"])) - {"revenue_capture_random"}
    assert known | set(COUNTED) == set(all_metrics())
    assert not known & set(COUNTED)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["everything", "binary"])
def test_metrics_equal_the_reference_on_a_larger_table(kind: str, orientation: str) -> None:
    drawn = tables.draw_table(random.Random(11), 400, kind)
    weights = (37, 19, -23)
    spec = tables.make_spec(weights, base=BASE, orientation=orientation)
    got = tables.tallied(tables.frame_of(drawn, kind), spec).row(0)
    expected = expected_metrics(drawn, kind, weights, tables.TIERS, orientation)
    tables.assert_same_metrics({key: got[key] for key in expected}, expected)
    assert sum(value is None for value in expected.values()) == 0


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("seed", range(4))
def test_auc_is_that_of_scikit_learn_with_ties(seed: int, orientation: str) -> None:
    source = random.Random(seed)
    drawn = tables.draw_table(source, 300, "label_only")
    weights = (40, 25, -10)
    scores = [tables.score_of(row["units"], weights, BASE, 100) for row in drawn]
    assert len(set(scores)) < 200
    spec = tables.make_spec(weights, base=BASE, orientation=orientation)
    got = tables.tallied(tables.frame_of(drawn, "label_only"), spec).row(0)
    sign = 1 if orientation == "health" else -1
    retained = [row["retained"] for row in drawn]
    standing = [sign * score for score in scores]
    assert got["auc_roc_retain"] == pytest.approx(roc_auc_score(retained, standing), abs=1e-12)
    churned, sinking = [1 - r for r in retained], [-s for s in standing]
    assert got["auc_roc_churn"] == pytest.approx(roc_auc_score(churned, sinking), abs=1e-12)


@pytest.mark.slow
@given(table=tables_of_all_kinds(), source=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_the_order_of_rows_changes_nothing_at_all(
    table: tuple[str, list[Row]], source: random.Random
) -> None:
    kind, drawn = table
    spec = tables.make_spec(base=BASE)
    frame = tables.frame_of(drawn, kind)
    order = source.sample(range(len(drawn)), len(drawn))
    one, two = tables.tallied(frame, spec), tables.tallied(frame[order], spec)
    assert_frame_equal(one.values, two.values, check_exact=True)
    assert one.reasons == two.reasons


@pytest.mark.slow
@given(table=tables_of_all_kinds(), copies=st.sampled_from((2, 5)))
@settings(max_examples=8, deadline=None)
def test_copies_of_every_account_change_no_rate(table: tuple[str, list[Row]], copies: int) -> None:
    kind, drawn = table
    # Fewer than four accounts with LTV have no separation, of which copies make enough.
    if len(drawn) < 4:
        drawn = [{**row, "ltv": -100} for row in drawn]
    spec = tables.make_spec(base=BASE)
    copied = [{**row, "id": f"{row['id']}-{i}"} for row in drawn for i in range(copies)]
    one = tables.tallied(tables.frame_of(drawn, kind), spec).row(0)
    many = tables.tallied(tables.frame_of(copied, kind), spec).row(0)
    if one["tier_separation"] is None:
        one.pop("tier_separation"), many.pop("tier_separation")
    for key, metric in all_metrics().items():
        if metric.count:
            before, after = one.pop(key), many.pop(key)
            if isinstance(before, dict):
                before = {tier: copies * value for tier, value in before.items()}
            else:
                assert isinstance(before, int)
                before *= copies
            assert before == after, key
    evenness = one.pop("hhi_normalised")
    assert many.pop("hhi_normalised") == pytest.approx(evenness, abs=1e-12)
    tables.assert_same_metrics(many, one)


def test_many_candidates_are_measured_as_each_alone() -> None:
    drawn = tables.draw_table(random.Random(2), 25, "everything")
    frame = tables.frame_of(drawn, "everything")
    vectors = [(40, 25, -10), (0, 0, 0), (-200, -200, -200), (200, 0, 1)]
    spec = tables.make_spec(vectors[0], base=BASE)
    accounts = tables.loaded(frame, spec)
    evaluator = LocalEvaluator(accounts.search, spec)
    together = measure(evaluator.frame(vectors), spec.tier_names, accounts.checked.outcomes)
    assert together.values.height == len(together.reasons) == len(vectors)
    for index, weights in enumerate(vectors):
        alone = tables.tallied(frame, tables.make_spec(weights, base=BASE))
        assert together.row(index) == alone.row(0)
        assert together.reasons[index] == alone.reasons[0]
    assert_reasons(together)


@pytest.mark.parametrize(
    ("kind", "column", "reason"),
    [
        ("binary", "quick_ratio_by_tier.A", "no mrr_end column"),
        ("no_mrr", "nrr_by_tier.A", "no mrr column"),
        ("no_ltv", "tier_separation", "no actual_ltv column"),
        ("ltv_only", "auc_roc_retain", "no retained_6mo, churned or mrr_end column"),
        ("end_only", "winback_rate_by_former_tier.D", "no won_back column"),
        ("label_only", "activation_rate_by_tier.B", "no activated column"),
        ("no_days", "median_days_to_activate_by_tier.B", "no days_to_activate column"),
    ],
)
def test_a_missing_column_is_the_reason(kind: str, column: str, reason: str) -> None:
    drawn = tables.draw_table(random.Random(1), 40, kind)
    measured = tables.tallied(tables.frame_of(drawn, kind), tables.make_spec(base=BASE))
    assert measured.reasons[0][column] == reason


def test_the_reason_of_a_hole_in_the_data_is_the_metrics_own() -> None:
    frame = pl.DataFrame(
        {
            "account_id": ["a", "b"],
            **{name: [1.0, 1.0] for name in tables.FEATURES},
            "retained_6mo": [1, 1],
            "mrr": [0.0, 0.0],
            "mrr_end": [0.0, 0.0],
            "actual_ltv": [5.0, 5.0],
        }
    )
    [reasons] = tables.tallied(frame, tables.make_spec()).reasons
    assert reasons["auc_roc_retain"] == "one class only"
    assert reasons["revenue_capture_at_20"] == "no start MRR"
    assert reasons["tier_separation"] == "fewer than 4 accounts with LTV"
    assert reasons["arpa_by_tier.A"] == "no paying account"
    assert reasons["logo_retention_by_tier.A"] == "no labelled account"
    assert "logo_retention_by_tier.B" not in reasons
