"""Four tables of real customers: what `init` makes of each, and that its spec then fits it.

They belong to others and stay where they are: where the folder is absent, all of this is skipped.
"""

import os
from pathlib import Path

import polars as pl
import pytest

from gtmar.autospec.first_spec import FirstSpec, first_spec
from gtmar.autospec.leakage import Grade
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.data.split import holdout_mask
from gtmar.runs.check import check
from gtmar.runs.score import score
from gtmar.spec import parse

FOLDER = Path(
    os.environ.get("GTMAR_REAL_TABLES", Path(__file__).parents[2].parent / "shared" / "data")
)
NAMES = ("saas_churn", "cdnow", "iranian_churn", "bank_marketing")

pytestmark = pytest.mark.skipif(
    not all((FOLDER / f"{name}.parquet").is_file() for name in NAMES),
    reason="the real tables are not here; GTMAR_REAL_TABLES names their folder",
)


def path(name: str) -> Path:
    return FOLDER / f"{name}.parquet"


def detected(name: str) -> FirstSpec:
    return first_spec(scan(path(name)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "accounts", "outcomes", "retained"),
    [
        ("saas_churn", 2_000, {"retained_6mo", "churned"}, 0.534),
        ("iranian_churn", 3_150, {"retained_6mo", "churned"}, 0.843),
        ("bank_marketing", 45_211, {"retained_6mo"}, 0.117),
        ("cdnow", 23_570, {"retained_6mo", "churned", "mrr", "mrr_end", "actual_ltv"}, 0.272),
    ],
)
def test_detected_spec_fits_its_table(
    name: str, accounts: int, outcomes: set[str], retained: float
) -> None:
    found = detected(name)
    assert {column for column, why in found.left_out.items() if why == "an outcome"} == outcomes
    table = pl.read_parquet(path(name))
    assert set(found.spec.features) | set(found.left_out) == set(table.columns)
    assert parse(found.text) == found.spec
    checkup = check(path(name))
    assert checkup.detected
    assert checkup.accounts == accounts == table.height
    held_out = holdout_mask(table["account_id"], share=0.3, salt="gtmar")
    assert checkup.holdout_accounts == held_out.sum()
    assert checkup.search_accounts == accounts - checkup.holdout_accounts
    assert checkup.cohorts["retained"] == table["retained_6mo"].sum()
    assert checkup.cohorts["retained"] / accounts == pytest.approx(retained, abs=0.000_5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "features", "kinds"),
    [
        ("saas_churn", 12, {"range": 6, "curve": 1, "one_of": 5}),
        ("iranian_churn", 13, None),
        ("bank_marketing", 15, None),
        ("cdnow", 12, None),
    ],
)
def test_every_column_known_before_becomes_a_feature(
    name: str, features: int, kinds: dict[str, int] | None
) -> None:
    spec = detected(name).spec
    assert len(spec.features) == features
    if kinds is not None:
        found = [feature.encode.kind for feature in spec.features.values()]
        assert {kind: found.count(kind) for kind in set(found)} == kinds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "leaking"),
    [
        ("saas_churn", ["months_active"]),
        ("cdnow", []),
        ("iranian_churn", []),
        ("bank_marketing", ["duration"]),
    ],
)
def test_known_leaks_are_left_out_and_strong_honest_columns_stay(
    name: str, leaking: list[str]
) -> None:
    found = detected(name)
    assert [leak.column for leak in found.leaks if leak.grade is Grade.ERROR] == leaking
    reasons = {column for column, why in found.left_out.items() if "--keep" in why}
    assert reasons == set(leaking)
    again = first_spec(scan(path(name)), keep=leaking)
    assert set(again.spec.features) == {*found.spec.features, *leaking}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [("saas_churn", 0.80), ("iranian_churn", 0.80), ("bank_marketing", 0.70), ("cdnow", 0.70)],
)
def test_equal_weights_already_rank_better_than_chance(name: str, least: float) -> None:
    value = check(path(name)).objective_value
    assert value is not None
    assert least < value < 1


@pytest.mark.slow
def test_observed_revenue_of_cdnow() -> None:
    """Net and gross retention as summed from the table, whose end revenue is known."""
    table = pl.read_parquet(path("cdnow"))
    held_out = pl.Series(holdout_mask(table["account_id"], share=0.3, salt="gtmar"))
    cents = (pl.col("mrr", "mrr_end") * 100 + 0.5).floor().cast(pl.Int64)
    rows = table.filter(~held_out).select(cents).filter(pl.col("mrr") > 0).rows()
    start = sum(mrr for mrr, _ in rows)
    checkup = check(path("cdnow"))
    assert checkup.basis == "observed"
    assert checkup.metrics["nrr"] == sum(end for _, end in rows) / start
    assert checkup.metrics["grr"] == sum(min(mrr, end) for mrr, end in rows) / start
    whole = table.select(cents).filter(pl.col("mrr") > 0)
    assert sum(whole["mrr_end"]) / sum(whole["mrr"]) == pytest.approx(0.414, abs=0.001)
    assert checkup.cohorts["paying"] == whole.height


@pytest.mark.slow
def test_unknowns_of_cdnow_are_stated() -> None:
    feature = detected("cdnow").spec.features["median_gap_days"]
    assert feature.missing != "error"


@pytest.mark.slow
def test_names_with_double_spaces_survive() -> None:
    spec = detected("iranian_churn").spec
    assert {"Call  Failure", "Subscription  Length", "Charge  Amount"} <= set(spec.features)


@pytest.mark.slow
def test_never_contacted_is_no_number_of_days() -> None:
    """`pdays` is -1 for never, which is not one day less than 0: the line bends right after."""
    encode = detected("bank_marketing").spec.features["pdays"].encode.model_dump()
    assert encode["kind"] == "curve"
    (first, at_first), (_, at_second), (_, at_third) = encode["points"][:3]
    assert first == -1.0
    assert at_second != pytest.approx((at_first + at_third) / 2, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_score_is_the_sum_of_its_parts(name: str) -> None:
    spec = detected(name).spec
    scored = score(path(name), spec)
    parts = ["base", "rounding", "clipping", *(f"points.{term.name}" for term in spec.terms)]
    units = scored.select((pl.col("score", *parts) * 10_000).round().cast(pl.Int64))
    assert (units.select(pl.sum_horizontal(parts)).to_series() == units["score"]).all()
    assert scored["account_id"].equals(pl.read_parquet(path(name))["account_id"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saas_churn", "iranian_churn"])
def test_another_format_is_the_same_table(name: str, tmp_path: Path) -> None:
    spec = detected(name).spec
    table = pl.read_parquet(path(name))
    table.write_csv(tmp_path / "a.csv")
    table.sample(fraction=1, shuffle=True, seed=1).write_ipc(tmp_path / "a.arrow")
    original = load_accounts(scan(path(name)), spec)
    for copy in ("a.csv", "a.arrow"):
        accounts = load_accounts(scan(tmp_path / copy), spec)
        assert accounts.outcomes_fingerprint == original.outcomes_fingerprint
        assert accounts.features_fingerprint == original.features_fingerprint
