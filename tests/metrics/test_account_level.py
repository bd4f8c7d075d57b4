"""The account-level expressions for tables of one's own equal the tallied metrics."""

import random
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.metrics import accounts as own

Row = dict[str, Any]

SCHEMA: Mapping[str, type[pl.DataType]] = {
    "score": pl.Float64,
    "tier": pl.String,
    "retained_6mo": pl.Int64,
    "mrr": pl.Int64,
    "mrr_end": pl.Int64,
    "actual_ltv": pl.Int64,
    "activated": pl.Int64,
    "won_back": pl.Int64,
}

#: By tier: the tallied metric's key, the expression, and who it is asked of.
BY_TIER = {
    "nrr_by_tier": (own.nrr(), "current"),
    "grr_by_tier": (own.grr(), "current"),
    "expansion_rate_by_tier": (own.expansion_rate(), "current"),
    "contraction_rate_by_tier": (own.contraction_rate(), "current"),
    "quick_ratio_by_tier": (own.quick_ratio(), "current"),
    "logo_retention_by_tier": (own.logo_retention(), "all"),
    "winback_rate_by_former_tier": (own.rate("won_back"), "all"),
    "activation_rate_by_tier": (own.rate("activated"), "all"),
    # Cents to currency units.
    "arpa_by_tier": (own.arpa() / 100, "current"),
}
WHOLE = {
    "auc_roc_retain": (own.auc(), "all"),
    "revenue_concentration_hhi": (own.hhi(), "current"),
    "revenue_capture_at_20": (own.top_share(), "current"),
    "tier_separation": (own.tier_separation(), "current"),
}


def scored_frame(drawn: list[Row], weights: tuple[int, ...]) -> pl.DataFrame:
    rows = tables.scored(drawn, "everything", weights)
    names = ("retained", "start", "end", "ltv", "activated", "won_back")
    columns: dict[str, list[Any]] = {
        "score": [row["score"] / 100 for row in rows],
        "tier": [row["tier"] for row in rows],
        **{name: [row[name] for row in rows] for name in names},
    }
    return pl.DataFrame(dict(zip(SCHEMA, columns.values(), strict=True)), schema=dict(SCHEMA))


def current(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("won_back").is_null() & pl.col("retained_6mo").is_not_null())


@pytest.mark.slow
@given(
    size=st.sampled_from((4, 5, 20)) | st.integers(1, 40),
    seed=st.integers(0, 2**32),
    weights=st.tuples(*[st.integers(-60, 120)] * 3),
)
@settings(max_examples=15, deadline=None)
def test_account_level_expressions_equal_the_tallied_metrics(
    size: int, seed: int, weights: tuple[int, ...]
) -> None:
    drawn = tables.draw_table(random.Random(seed), size, "everything")
    spec = tables.make_spec(weights)
    expected = tables.tallied(tables.frame_of(drawn, "everything"), spec).row(0)
    frame = scored_frame(drawn, weights)
    asked = {"all": frame, "current": current(frame)}
    for key, (expression, who) in WHOLE.items():
        if asked[who].height == 0:
            continue
        got = asked[who].select(expression.alias("value"))["value"].item()
        assert tables.agree(got, expected[key]), key
    for key, (expression, who) in BY_TIER.items():
        grouped = asked[who].group_by("tier").agg(expression.alias("value"))
        by_tier = dict(grouped.iter_rows())
        wanted = expected[key]
        assert isinstance(wanted, dict)
        for tier, value in wanted.items():
            assert tables.agree(by_tier.get(tier), value), (key, tier)


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Int64, pl.UInt32, pl.Int8])
def test_scores_may_be_of_any_numeric_type(dtype: type[pl.DataType]) -> None:
    frame = pl.DataFrame(
        {
            "score": pl.Series([90, 90, 40, 40, 10], dtype=dtype),
            "retained_6mo": [1, 1, 1, 0, 0],
            "mrr": [10, 20, 30, 40, 50],
            "actual_ltv": [8, 6, 5, 3, 1],
        }
    )
    got = frame.select(
        own.auc().alias("auc"),
        own.top_share().alias("top"),
        own.tier_separation().alias("separation"),
    )
    # One account of five is the top fifth: half of each of the two that are tied. A quarter is
    # one and a quarter: 1.25 of the two best, and the last with a quarter of the tied two above.
    assert got.row(0) == pytest.approx((5.5 / 6, 15 / 150, 1.25 * 7 / (1 + 0.25 * 4)))


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Boolean, pl.UInt8, pl.Float64])
def test_labels_may_be_flags_or_numbers(dtype: type[pl.DataType]) -> None:
    frame = pl.DataFrame({"score": [1.0, 2.0, 2.0, 3.0, 9.0]}).with_columns(
        retained_6mo=pl.Series([0, 0, 1, 1, None]).cast(dtype)
    )
    row = frame.select(auc=own.auc(), logo=own.logo_retention()).row(0)
    assert row == (0.875, 0.5)


def test_what_has_no_value_is_null() -> None:
    frame = pl.DataFrame(
        {
            "score": [1.0, 2.0],
            "retained_6mo": [1, 1],
            "mrr": [0, 0],
            "mrr_end": [0, 0],
            "actual_ltv": [5, 5],
            "won_back": pl.Series([None, None], dtype=pl.Int64),
            "tier": ["A", "B"],
        }
    )
    expressions = {
        "auc": own.auc(),
        "nrr": own.nrr(),
        "grr": own.grr(),
        "expansion": own.expansion_rate(),
        "contraction": own.contraction_rate(),
        "quick": own.quick_ratio(),
        "won_back": own.rate("won_back"),
        "arpa": own.arpa(),
        "hhi": own.hhi(),
        "top": own.top_share(),
        "separation": own.tier_separation(),
    }
    got = frame.select(**expressions)
    assert got.row(0, named=True) == dict.fromkeys(expressions)


def test_every_public_expression_is_held_against_a_metric() -> None:
    # `rate` stands behind win-back and activation; the rest is above by name.
    assert sorted(own.__all__) == sorted(
        {
            "arpa",
            "auc",
            "contraction_rate",
            "expansion_rate",
            "grr",
            "hhi",
            "logo_retention",
            "nrr",
            "quick_ratio",
            "rate",
            "tier_separation",
            "top_share",
        }
    )


def test_revenue_of_accounts_without_their_label_is_unknown() -> None:
    frame = pl.DataFrame(
        {
            "score": [9, 8, 7, 6, 5],
            "tier": ["A", "A", "B", "B", "B"],
            "retained_6mo": [1, 0, 1, None, None],
            "mrr": [100, 100, 200, 400, 50],
            "mrr_end": [150, None, 160, 0, 500],
        }
    )
    label = "retained_6mo"
    asked = {
        "nrr": own.nrr(retained=label),
        "grr": own.grr(retained=label),
        "expansion": own.expansion_rate(retained=label),
        "contraction": own.contraction_rate(retained=label),
        "quick": own.quick_ratio(retained=label),
        "arpa": own.arpa(retained=label),
        "top": own.top_share(retained=label, parts=3),
        "hhi": own.hhi(retained=label),
    }
    assert frame.select(**asked).row(0, named=True) == pytest.approx(
        {
            "nrr": 310 / 400,
            "grr": 260 / 400,
            "expansion": 50 / 400,
            "contraction": 40 / 400,
            "quick": 50 / 140,
            "arpa": 400 / 3,
            "top": 100 / 400,
            "hhi": 5_000.0,
        }
    )
