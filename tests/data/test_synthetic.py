"""Tables with planted signals: what was planted is in them, and the shipped ones stay put."""

import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gtmar.data.synthetic import FIRMOGRAPHICS, KINDS, LOGIN_CURVE, VISITS_CURVE, Logit, generate
from gtmar.errors import UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTCOMES = {
    "retained_6mo",
    "churned",
    "mrr",
    "mrr_end",
    "actual_ltv",
    "activated",
    "days_to_activate",
    "won_back",
}
#: Enough accounts for planted strengths to stand out from luck: a twentieth is two deviations.
MANY = 200_000


@pytest.fixture(scope="module")
def many_health() -> pl.DataFrame:
    return generate("health_score", accounts=MANY, seed=11)


@pytest.fixture(scope="module")
def many_churn() -> pl.DataFrame:
    return generate("churn_risk", accounts=MANY, seed=12)


@pytest.fixture(scope="module")
def many_icp() -> pl.DataFrame:
    return generate("icp_fit", accounts=MANY, seed=13)


def fitted(signals: dict[str, Any], happened: pl.Series) -> tuple[float, dict[str, float]]:
    """Fit a logistic regression without a penalty to speak of: intercept and strengths."""
    columns = np.column_stack([np.asarray(values, dtype=float) for values in signals.values()])
    fit = LogisticRegression(C=1e6, max_iter=1_000).fit(columns, happened.to_numpy())
    return fit.intercept_[0], dict(zip(signals, fit.coef_[0], strict=True))


def assert_recovered(
    planted: Logit, signals: dict[str, Any], happened: pl.Series, *, within: float
) -> None:
    intercept, strengths = fitted(signals, happened)
    assert intercept == pytest.approx(planted.intercept, abs=within)
    assert strengths == pytest.approx(
        {name: planted.strengths[name] for name in signals}, abs=within
    )


def feature_columns(kind: str) -> list[str]:
    return [
        name for name in generate(kind, accounts=1).columns if name not in OUTCOMES | {"account_id"}
    ]


def example(kind: str) -> dict[str, Any]:
    text = (EXAMPLES / kind / "spec.yaml").read_text(encoding="utf-8")
    spec: dict[str, Any] = yaml.safe_load(text)
    return spec


# One table for the same arguments


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_table(kind: str) -> None:
    assert_frame_equal(generate(kind, accounts=500, seed=7), generate(kind, accounts=500, seed=7))


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_is_another_table(kind: str) -> None:
    first, second = (generate(kind, accounts=500, seed=seed) for seed in (7, 8))
    assert first.schema == second.schema
    assert not first.equals(second)


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_size_and_seed_are_the_defaults(kind: str) -> None:
    shipped = KINDS[kind]
    assert_frame_equal(generate(kind), generate(kind, accounts=shipped.accounts, seed=shipped.seed))


@pytest.mark.parametrize(
    ("kind", "accounts", "label", "positives", "cents"),
    [
        ("health_score", 5_000, "retained_6mo", 3_472, 307_452_958),
        ("churn_risk", 4_000, "churned", 907, 268_928_508),
        ("icp_fit", 3_000, "retained_6mo", 1_576, 201_846_393),
    ],
)
def test_shipped_tables_stay_put(
    kind: str, accounts: int, label: str, positives: int, cents: int
) -> None:
    table = generate(kind)
    assert table.height == accounts
    assert table[label].sum() == positives
    assert (table["mrr"] * 100).round().cast(pl.Int64).sum() == cents


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("accounts", [0, 1, 2])
def test_tiny_tables_have_the_same_columns(kind: str, accounts: int) -> None:
    table = generate(kind, accounts=accounts)
    assert table.height == accounts
    assert table.schema == generate(kind, accounts=50).schema


@pytest.mark.parametrize("kind", KINDS)
def test_account_ids_come_first_and_are_unique(kind: str) -> None:
    table = generate(kind)
    assert table.columns[0] == "account_id"
    assert table["account_id"].n_unique() == table.height
    assert table["account_id"][0] == "acct-00001"


def test_unknown_kind_names_the_known_ones() -> None:
    message = 'no kind of synthetic table is called "helth_score"'
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        generate("helth_score")
    assert 'there are "health_score", "churn_risk", "icp_fit"' in caught.value.message
    assert caught.value.hint == 'did you mean "health_score"?'
    assert isinstance(caught.value, ValueError)


def test_the_record_of_what_was_planted_cannot_be_changed() -> None:
    shipped = KINDS["health_score"]
    strengths: Any = shipped.planted["retained_6mo"].strengths
    with pytest.raises(FrozenInstanceError):
        shipped.seed = 3  # type: ignore[misc]
    for mapping in (KINDS, shipped.planted, strengths):
        frozen: Any = mapping
        with pytest.raises(TypeError):
            frozen["alert_created"] = 9.0


# Health score


def test_health_strengths_are_the_stated_ones() -> None:
    planted = KINDS["health_score"].planted["retained_6mo"]
    assert planted.intercept == -1.5
    assert {name: value for name, value in planted.strengths.items() if value} == {
        "alert_created": 2.5,
        "session_depth": 2.0,
        "activation_speed": 1.8,
        "has_exported": 1.0,
        "credit_limit_hits": 0.8,
        "days_active_norm": 0.5,
        "email_engagement": 0.3,
        "rage_clicks": -0.5,
    }
    assert set(planted.strengths) == set(feature_columns("health_score"))
    assert len(planted.strengths) == 14


def test_health_features_are_within_0_and_1(many_health: pl.DataFrame) -> None:
    features = many_health.select(feature_columns("health_score"))
    assert features.null_count().sum_horizontal().item() == 0
    assert min(features.min().row(0)) >= 0
    assert max(features.max().row(0)) <= 1


@pytest.mark.parametrize(("feature", "share"), [("alert_created", 0.15), ("has_exported", 0.25)])
def test_health_flags_have_their_shares(
    many_health: pl.DataFrame, feature: str, share: float
) -> None:
    assert set(many_health[feature].unique()) == {0, 1}
    assert many_health[feature].mean() == pytest.approx(share, abs=0.003)


@pytest.mark.slow
def test_health_strengths_are_recovered_and_the_rest_is_near_0(many_health: pl.DataFrame) -> None:
    current = many_health.filter(pl.col("won_back").is_null())
    signals: dict[str, Any] = {name: current[name] for name in feature_columns("health_score")}
    planted = KINDS["health_score"].planted["retained_6mo"]
    assert_recovered(planted, signals, current["retained_6mo"], within=0.08)


@pytest.mark.slow
def test_mrr_says_nothing_beside_the_features(many_health: pl.DataFrame) -> None:
    current = many_health.filter(pl.col("won_back").is_null(), pl.col("mrr") > 0)
    signals: dict[str, Any] = {name: current[name] for name in feature_columns("health_score")}
    _, strengths = fitted(signals | {"log_mrr": current["mrr"].log()}, current["retained_6mo"])
    assert strengths["log_mrr"] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(
    ("event", "cohort", "happened"),
    [
        ("activated", pl.col("activated").is_not_null(), pl.col("activated")),
        ("won_back", pl.col("won_back").is_not_null(), pl.col("won_back")),
        (
            "expanded",
            (pl.col("retained_6mo") == 1) & (pl.col("mrr") > 0) & (pl.col("mrr_end") > 0),
            pl.col("mrr_end") > pl.col("mrr"),
        ),
        (
            "contracted",
            (pl.col("retained_6mo") == 1) & (pl.col("mrr") > 0) & (pl.col("mrr_end") > 0),
            pl.col("mrr_end") < pl.col("mrr"),
        ),
    ],
)
def test_later_events_follow_behaviour_as_planted(
    many_health: pl.DataFrame, event: str, cohort: pl.Expr, happened: pl.Expr
) -> None:
    planted = KINDS["health_score"].planted[event]
    rows = many_health.filter(cohort)
    signals: dict[str, Any] = {name: rows[name] for name in planted.strengths}
    outcome = rows.select(happened.cast(pl.Int8)).to_series()
    assert_recovered(planted, signals, outcome, within=0.25)


def test_former_accounts_have_nothing_but_a_win_back(many_health: pl.DataFrame) -> None:
    former = many_health.filter(pl.col("won_back").is_not_null())
    assert former.height / MANY == pytest.approx(0.06, abs=0.005)
    assert set(former["won_back"].unique()) == {0, 1}
    assert former["mrr"].max() == 0.0
    for column in OUTCOMES - {"won_back", "mrr"}:
        assert former[column].null_count() == former.height, column


def test_current_accounts_have_complementary_labels_and_all_money(
    many_health: pl.DataFrame,
) -> None:
    current = many_health.filter(pl.col("won_back").is_null())
    assert (current["retained_6mo"] + current["churned"]).unique().to_list() == [1]
    for column in ("mrr", "mrr_end", "actual_ltv"):
        assert current[column].null_count() == 0, column
        assert current[column].min() == 0.0, column
    assert current.filter(pl.col("churned") == 1)["mrr_end"].max() == 0.0


def test_activation_is_known_for_new_accounts_only(many_health: pl.DataFrame) -> None:
    current = many_health.filter(pl.col("won_back").is_null())
    assert current["activated"].count() / current.height == pytest.approx(0.2, abs=0.01)
    timed = pl.col("days_to_activate").is_not_null()
    assert current.select((timed == (pl.col("activated") == 1).fill_null(False)).all()).item()
    assert current["days_to_activate"].dtype.is_integer()
    assert current["days_to_activate"].min() == 1


@pytest.mark.parametrize("kind", ["health_score", "churn_risk"])
def test_all_movements_are_there_in_their_shares(kind: str, request: pytest.FixtureRequest) -> None:
    fixture = {"health_score": "many_health", "churn_risk": "many_churn"}[kind]
    table: pl.DataFrame = request.getfixturevalue(fixture)
    current = table.filter(pl.col("churned").is_not_null())
    kept = current.filter(pl.col("churned") == 0, pl.col("mrr") > 0)
    shares = kept.select(
        expanded=(pl.col("mrr_end") > pl.col("mrr")).mean(),
        contracted=((pl.col("mrr_end") < pl.col("mrr")) & (pl.col("mrr_end") > 0)).mean(),
        flat=(pl.col("mrr_end") == pl.col("mrr")).mean(),
        emptied=(pl.col("mrr_end") == 0).mean(),
    ).row(0, named=True)
    assert shares["expanded"] == pytest.approx(0.25, abs=0.03)
    assert shares["contracted"] == pytest.approx(0.10, abs=0.02)
    assert shares["flat"] > 0.5
    assert 0 < shares["emptied"] < 0.01
    free = current.filter(pl.col("mrr") == 0)
    assert 0 < free.height / current.height < 0.01
    assert 0 < free.filter(pl.col("mrr_end") > 0).height < free.height


@pytest.mark.parametrize("kind", ["health_score", "churn_risk"])
def test_shipped_tables_hold_every_case(kind: str) -> None:
    current = generate(kind).filter(pl.col("churned").is_not_null())
    kept = current.filter(pl.col("churned") == 0)
    paying = kept.filter(pl.col("mrr") > 0)
    assert current.filter(pl.col("churned") == 1).height > 0
    assert 0 < paying.filter(pl.col("mrr_end") == 0).height < 0.01 * kept.height
    assert kept.filter(pl.col("mrr") == 0, pl.col("mrr_end") > 0).height > 0


# Money


@pytest.mark.parametrize("fixture", ["many_health", "many_churn", "many_icp"])
def test_mrr_is_log_normal_between_50_and_5000(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    table: pl.DataFrame = request.getfixturevalue(fixture)
    mrr = table.filter(pl.col("mrr") > 0)["mrr"]
    assert mrr.min() == 50.0
    assert mrr.max() == 5_000.0
    logs = mrr.log()
    assert logs.mean() == pytest.approx(np.log(500.0), abs=0.03)
    assert logs.std() == pytest.approx(0.75, abs=0.03)
    assert logs.skew() == pytest.approx(0.0, abs=0.05)
    assert logs.kurtosis() == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("fixture", ["many_health", "many_churn", "many_icp"])
def test_money_has_whole_cents(fixture: str, request: pytest.FixtureRequest) -> None:
    table: pl.DataFrame = request.getfixturevalue(fixture)
    for column in {"mrr", "mrr_end", "actual_ltv"} & set(table.columns):
        amounts = table[column].drop_nulls().to_numpy()
        assert np.array_equal(amounts, np.round(amounts * 100) / 100), column


@pytest.mark.parametrize("kind", KINDS)
def test_lifetime_value_follows_mrr_and_is_longer_for_those_who_stay(kind: str) -> None:
    table = generate(kind)
    left = pl.col("churned") == 1 if "churned" in table.columns else pl.col("retained_6mo") == 0
    months = pl.col("actual_ltv") / pl.col("mrr")
    by_fate = (
        table.filter(pl.col("mrr") > 0)
        .group_by(left=left)
        .agg(least=months.min(), middle=months.median(), most=months.max())
        .drop_nulls()
        .sort("left")
    )
    assert by_fate["middle"].to_list() == pytest.approx([42.0, 6.0], rel=0.05)
    assert by_fate["least"].min() == pytest.approx(3.0, rel=0.02)
    assert by_fate["most"].max() == pytest.approx(63.0, rel=0.02)


# Churn risk


def test_churn_columns_are_counts_days_and_flags(many_churn: pl.DataFrame) -> None:
    limits = {
        "payment_failures": (0, 8),
        "days_since_login": (0, 120),
        "feature_breadth": (0, 12),
    }
    for column, (least, most) in limits.items():
        assert many_churn[column].dtype.is_integer(), column
        assert (many_churn[column].min(), many_churn[column].max()) == (least, most), column
    assert many_churn["support_tickets"].dtype.is_integer()
    assert many_churn["onboarding_complete"].dtype == pl.Boolean
    assert many_churn["billing_monthly"].dtype == pl.Boolean
    assert many_churn.null_count().sum_horizontal().item() == 0
    assert "retained_6mo" not in many_churn.columns
    assert many_churn.filter(pl.col("churned") == 1)["mrr_end"].max() == 0.0


@pytest.mark.slow
def test_churn_strengths_are_recovered(many_churn: pl.DataFrame) -> None:
    signals: dict[str, Any] = {
        "recency_drop": many_churn["recency_drop"],
        "payment_failures": many_churn["payment_failures"].clip(0, 5) / 5,
        "days_since_login": np.interp(many_churn["days_since_login"].to_numpy(), *LOGIN_CURVE),
        "onboarding_complete": many_churn["onboarding_complete"],
        "billing_monthly": many_churn["billing_monthly"],
        "support_tickets": sum(
            ((many_churn["support_tickets"] >= cut).cast(pl.Int8) for cut in (1, 3, 6)),
            pl.zeros(MANY, dtype=pl.Int8, eager=True),
        )
        / 3,
        "feature_breadth": many_churn["feature_breadth"] / 12,
        "noise_feature": many_churn["noise_feature"],
    }
    planted = KINDS["churn_risk"].planted["churned"]
    assert set(signals) == set(planted.strengths) == set(feature_columns("churn_risk"))
    assert_recovered(planted, signals, many_churn["churned"], within=0.1)


# ICP fit


def test_icp_has_categories_flags_and_gaps(many_icp: pl.DataFrame) -> None:
    for feature, categories in FIRMOGRAPHICS.items():
        assert many_icp[feature].dtype == pl.String, feature
        found = many_icp[feature].fill_null("missing").value_counts(normalize=True)
        assert dict(found.iter_rows()) == pytest.approx(
            {category: share for category, (share, _) in categories.items()}, abs=0.005
        )
    assert many_icp["industry"].n_unique() == 8
    gaps = {column: many_icp[column].null_count() / MANY for column in many_icp.columns}
    assert {column: gap for column, gap in gaps.items() if gap} == pytest.approx(
        {"employee_band": 0.08, "funding_stage": 0.22, "website_visits": 0.12}, abs=0.005
    )
    flags = [column for column in many_icp.columns if column.startswith("uses_")]
    assert len(flags) == 4
    assert {many_icp[flag].dtype for flag in flags} == {pl.Boolean()}
    assert not {"mrr_end", "churned", "won_back"} & set(many_icp.columns)


@pytest.mark.slow
def test_icp_strengths_are_recovered(many_icp: pl.DataFrame) -> None:
    planted = KINDS["icp_fit"].planted["retained_6mo"]
    visits = many_icp["website_visits"].fill_null(0).to_numpy()
    signals: dict[str, Any] = {"website_visits": np.interp(visits, *VISITS_CURVE)}
    for signal, strength in planted.strengths.items():
        feature, _, category = signal.partition("=")
        if not category:
            signals.setdefault(signal, many_icp[signal])
        # Categories without effect are what the others are measured against.
        elif strength:
            signals[signal] = many_icp[feature].fill_null("missing") == category
    assert_recovered(planted, signals, many_icp["retained_6mo"], within=0.1)


# The example specs


@pytest.mark.parametrize("kind", KINDS)
def test_example_spec_scores_the_features_of_its_table_and_nothing_else(kind: str) -> None:
    spec = example(kind)
    assert spec["model"] == kind
    assert set(spec["features"]) == set(feature_columns(kind))
    orientations = {"churn_risk": "risk"}
    assert spec["orientation"] == orientations.get(kind, "health")


def test_example_health_score_starts_low_and_can_reach_the_ceiling() -> None:
    current = generate("health_score").filter(pl.col("won_back").is_null())
    features = example("health_score")["features"]
    values = current.select(list(features)).to_numpy()
    retained = current["retained_6mo"].to_numpy()
    # No account of this table comes near either end of the scale, so nothing is cut off here.
    start = values @ np.array([feature["weight"] for feature in features.values()])
    assert 0.62 < roc_auc_score(retained, start) < 0.64
    fit = LogisticRegression(C=1e6, max_iter=1_000).fit(values, retained)
    assert 0.755 < roc_auc_score(retained, fit.decision_function(values)) < 0.765
    for noise in ("noise_feature_1", "noise_feature_2"):
        assert features[noise]["min"] <= -10
        assert features[noise]["max"] >= 10
