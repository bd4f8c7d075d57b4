"""What `check` says of a table: counts, metrics of the search part, and why one has no value."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import reference
from factories import OUTCOMES, make_accounts, make_spec

from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.data.split import holdout_mask
from gtmar.errors import AccountDataError, SpecError, UsageError, ViolationsError
from gtmar.metrics.registry import all_metrics
from gtmar.optimize.search_loop import Limits
from gtmar.runs.check import Checkup, check
from gtmar.runs.run import run
from gtmar.runs.score import score
from gtmar.spec import ScoringSpec, to_yaml

ACCOUNTS = make_accounts(150, former=0.2)
SPEC = make_spec()
HELD_OUT = pl.Series(holdout_mask(ACCOUNTS["account_id"], share=0.3, salt="gtmar"))


def by_reference(frame: pl.DataFrame, spec: ScoringSpec) -> dict[str, object]:
    """Compute the metrics of the whole table as if it were one tier, from their formulas."""

    def cents(value: float | None) -> int | None:
        return None if value is None else round(value * 100)

    scores = score(frame, spec)["score"]
    rows = [
        {
            "score": round(points * 100),
            "tier": "all",
            "retained": row["retained_6mo"],
            "start": cents(row["mrr"]),
            "end": cents(row["mrr_end"]),
            "ltv": cents(row["actual_ltv"]),
            "activated": row["activated"],
            "days": row["days_to_activate"],
            "won_back": row["won_back"],
        }
        for points, row in zip(scores, frame.iter_rows(named=True), strict=True)
    ]
    found: dict[str, object] = {}
    for key, value in reference.metrics(rows, ["all"], spec.orientation).items():
        name = key.replace("_by_former_tier", "").replace("_by_tier", "")
        found[name] = value["all"] if isinstance(value, dict) else value
    return found


# Counts


def test_counts_are_of_all_accounts() -> None:
    found = check(ACCOUNTS, SPEC)
    current = ACCOUNTS.filter(pl.col("won_back").is_null())
    assert (found.source, found.model, found.detected) == ("frame", "test", False)
    assert (found.accounts, found.dropped) == (150, 0)
    assert found.holdout_accounts == HELD_OUT.sum()
    assert found.search_accounts == 150 - HELD_OUT.sum()
    assert (found.features, found.basis) == (4, "observed")
    assert found.cohorts == {
        "retained": current["retained_6mo"].sum(),
        "lost": current["churned"].sum(),
        "paying": (current["mrr"] > 0).sum(),
        "former": ACCOUNTS["won_back"].count(),
        "activation known": ACCOUNTS["activated"].count(),
        "with LTV": (current["actual_ltv"] > 0).sum(),
    }
    assert min(found.cohorts.values()) > 0


def test_counts_without_a_holdout_are_the_same() -> None:
    found = check(ACCOUNTS, make_spec(split={"holdout": 0}))
    assert (found.search_accounts, found.holdout_accounts) == (150, 0)
    assert found.cohorts == check(ACCOUNTS, SPEC).cohorts


def test_a_table_of_labels_alone() -> None:
    frame = ACCOUNTS.drop([name for name in OUTCOMES if name != "churned"]).drop_nulls()
    found = check(frame, SPEC)
    assert found.basis is None
    assert found.cohorts == {
        "retained": frame.height - frame["churned"].sum(),
        "lost": frame["churned"].sum(),
        "paying": 0,
        "former": 0,
        "activation known": 0,
        "with LTV": 0,
    }


def test_a_table_of_mrr_alone() -> None:
    frame = ACCOUNTS.drop([name for name in OUTCOMES if name != "mrr"]).drop_nulls()
    found = check(frame, SPEC, metric="revenue_capture_at_20")
    assert found.basis is None
    assert found.cohorts["paying"] == (frame["mrr"] > 0).sum()
    assert found.cohorts["retained"] == found.cohorts["lost"] == 0
    assert found.objective_value is not None


def test_unlabelled_accounts_are_left_out_on_request() -> None:
    blank = pl.int_range(pl.len()) < 10
    frame = ACCOUNTS.with_columns(
        pl.when(blank).then(None).otherwise(name).alias(name) for name in OUTCOMES
    )
    with pytest.raises(ViolationsError, match="10 of 150 accounts have no outcome of any kind"):
        check(frame, SPEC)
    found = check(frame, SPEC, drop_unlabelled=True)
    assert (found.accounts, found.dropped) == (140, 10)
    assert found.search_accounts + found.holdout_accounts == 140


# Metrics


@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_metrics_are_those_of_the_search_part(orientation: str) -> None:
    spec = make_spec(orientation=orientation)
    found = check(ACCOUNTS, spec).metrics
    expected = by_reference(ACCOUNTS.filter(~HELD_OUT), spec)
    by_tier = {"revenue_concentration_hhi", "hhi_normalised"}
    compared = found.keys() & expected.keys() - by_tier
    assert len(compared) >= 18
    for name in compared:
        assert found[name] == pytest.approx(expected[name], rel=1e-12), name
        assert found[name] is not None


@pytest.mark.slow
def test_holdout_is_not_measured() -> None:
    turned = ACCOUNTS.with_columns(
        pl.when(HELD_OUT).then(1 - pl.col(name)).otherwise(name).alias(name)
        for name in ("retained_6mo", "churned")
    ).with_columns(mrr_end=pl.when(HELD_OUT).then(0.0).otherwise("mrr_end"))
    one, two = check(ACCOUNTS, SPEC), check(turned, SPEC)
    assert two.metrics == one.metrics
    assert two.objective_value == one.objective_value
    assert two.cohorts != one.cohorts


def test_concentration_is_over_the_tiers() -> None:
    search = ACCOUNTS.filter(~HELD_OUT)
    tiers = score(search, SPEC)["tier"]
    paying = search.with_columns(tier=tiers).filter(pl.col("mrr") > 0)
    cents = dict.fromkeys(SPEC.tier_names, 0)
    for tier, mrr in paying.select("tier", "mrr").iter_rows():
        cents[tier] += round(mrr * 100)
    total = sum(cents.values())
    hhi = sum((100 * part / total) ** 2 for part in cents.values())
    found = check(ACCOUNTS, SPEC).metrics
    assert found["revenue_concentration_hhi"] == pytest.approx(hhi, rel=1e-12)
    assert found["hhi_normalised"] == pytest.approx((hhi - 2_500) / 7_500, rel=1e-9)


def test_all_thirteen_are_there() -> None:
    found = check(ACCOUNTS, SPEC)
    assert found.reasons == {}
    thirteen = {
        "auc_roc_retain",
        "auc_roc_churn",
        "nrr",
        "grr",
        "logo_retention",
        "expansion_rate",
        "contraction_rate",
        "quick_ratio",
        "winback_rate",
        "activation_rate",
        "arpa",
        "revenue_concentration_hhi",
        "revenue_capture_at_20",
        "tier_separation",
    }
    assert thirteen <= set(found.metrics)


@pytest.mark.parametrize(
    ("without", "reasons"),
    [
        (["won_back"], {"winback_rate": "no won_back column"}),
        (["activated", "days_to_activate"], {"activation_rate": "no activated column"}),
        (["actual_ltv"], {"tier_separation": "no actual_ltv column"}),
        (["mrr_end"], {"quick_ratio": "no mrr_end column", "expansion_rate": "no mrr_end column"}),
        (["mrr"], {"nrr": "no mrr column", "arpa": "no mrr column"}),
        (
            ["retained_6mo", "churned", "mrr_end"],
            {"auc_roc_retain": "no retained_6mo, churned or mrr_end column"},
        ),
    ],
    ids=str,
)
def test_metric_without_its_columns_is_null_and_says_so(
    without: list[str], reasons: dict[str, str]
) -> None:
    frame = ACCOUNTS.drop(without)
    if "won_back" in without:
        frame = frame.drop_nulls("retained_6mo")
    found = check(frame, SPEC)
    for name, reason in reasons.items():
        assert found.metrics[name] is None
        assert found.reasons[name] == reason
    assert {name for name, value in found.metrics.items() if value is None} == set(found.reasons)


def test_binary_basis() -> None:
    found = check(ACCOUNTS.drop("mrr_end"), SPEC)
    assert found.basis == "binary"
    assert found.metrics["nrr"] == found.metrics["grr"]
    assert found.metrics["nrr"] is not None
    assert any("binary basis" in note for note in found.notes)


def test_metric_that_is_null_for_other_reasons() -> None:
    frame = ACCOUNTS.filter(pl.col("retained_6mo") == 1)
    found = check(frame, SPEC)
    assert found.objective_value is None
    assert found.metrics["auc_roc_retain"] is None
    assert found.reasons["auc_roc_retain"] == "one class only"
    assert "auc_roc_retain" in all_metrics()


# Objective


def test_objective_is_auc_unless_told() -> None:
    found = check(ACCOUNTS, SPEC)
    assert found.objective == "auc_roc_retain"
    assert found.objective_value == found.metrics["auc_roc_retain"]


@pytest.mark.slow
def test_objective_of_the_spec_and_of_the_call() -> None:
    spec = make_spec(objective="tier_separation")
    found = check(ACCOUNTS, spec)
    assert (found.objective, found.objective_value) == (
        "tier_separation",
        found.metrics["tier_separation"],
    )
    told = check(ACCOUNTS, spec, metric="logo_retention_by_tier.A")
    search = ACCOUNTS.filter(~HELD_OUT)
    top = search.filter(score(search, SPEC)["tier"] == "A")["retained_6mo"].drop_nulls()
    assert told.objective == "logo_retention_by_tier.A"
    assert told.objective_value == top.mean()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("auc_roc_retian", 'no metric "auc_roc_retian"'),
        ("nrr_by_tier", 'metric "nrr_by_tier" is by tier and needs one; tiers are A, B, C, D'),
        ("nrr_by_tier.Z", 'metric "nrr_by_tier" has no tier "Z"'),
    ],
)
def test_objective_that_is_not_there(metric: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(ACCOUNTS, SPEC, metric=metric)


# Sources


@pytest.mark.slow
def test_spec_from_a_file_and_table_from_a_file(tmp_path: Path) -> None:
    ACCOUNTS.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "spec.yaml").write_text(to_yaml(SPEC), encoding="utf-8")
    found = check(tmp_path / "a.parquet", tmp_path / "spec.yaml")
    assert found.source == str(tmp_path / "a.parquet")
    assert found.metrics == check(ACCOUNTS, SPEC).metrics
    with pytest.raises(SpecError, match="No such file"):
        check(ACCOUNTS, tmp_path / "nope.yaml")


def test_without_a_spec_features_are_detected() -> None:
    found = check(ACCOUNTS)
    assert (found.detected, found.model, found.features) == (True, "first_spec", 4)
    assert found.objective_value is not None
    assert found.objective_value > 0.5


def test_fingerprints_are_those_of_the_run() -> None:
    accounts = load_accounts(scan(ACCOUNTS), SPEC)
    found = check(ACCOUNTS, SPEC)
    assert found.outcomes_fingerprint == accounts.outcomes_fingerprint
    assert found.features_fingerprint == accounts.features_fingerprint
    assert found.notes == accounts.checked.notes


def test_score_in_the_wrong_order_is_said() -> None:
    start = "auc_roc_retain is 0."
    assert not any(note.startswith(start) for note in check(ACCOUNTS, SPEC).notes)
    [note] = [n for n in check(ACCOUNTS, make_spec(orientation="risk")).notes if start in n]
    assert "below 0.5: the score puts accounts in the wrong order" in note
    assert note.endswith("If a high score is good here, set orientation: health in the spec.")


def test_faults_of_the_table_come_through() -> None:
    with pytest.raises(ViolationsError, match='column "depth": no such column'):
        check(ACCOUNTS.drop("depth"), SPEC)
    with pytest.raises(AccountDataError, match="no such file or folder"):
        check("nowhere.parquet", SPEC)


def test_as_json_is_plain_data() -> None:
    found = check(ACCOUNTS, SPEC)
    plain: dict[str, Any] = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert set(plain) == {field.name for field in fields(Checkup)}
    assert plain["cohorts"] == found.cohorts
    assert plain["metrics"] == found.metrics
    assert plain["accounts"] == 150


# Leakage


LEAKY = ACCOUNTS.with_columns(tenure=pl.col("retained_6mo").fill_null(1) * 9 + pl.col("logins"))


@pytest.mark.slow
def test_leakage_is_looked_for_in_the_columns_that_the_spec_reads() -> None:
    assert check(LEAKY, SPEC).leaks == ()
    feature = {"weight": 5, "min": 0, "max": 25, "encode": {"kind": "range", "from": 0, "to": 70}}
    data = SPEC.model_dump(by_alias=True, exclude_defaults=True)
    reading = ScoringSpec.model_validate(
        {**data, "features": {**data["features"], "stay": {**feature, "column": "tenure"}}}
    )
    found = check(LEAKY.with_columns(tenure=1 - pl.col("churned").fill_null(0)), reading)
    assert [(leak.column, leak.kind) for leak in found.leaks] == [("tenure", "outcome")]
    assert found.leaking == ("tenure",)
    assert found.as_json()["leaks"][0]["grade"] == "error"
    kept = check(
        LEAKY.with_columns(tenure=1 - pl.col("churned").fill_null(0)), reading, keep=["tenure"]
    )
    assert (kept.leaks, kept.leaking) == ((), ())


def test_detected_features_are_no_leaks_and_what_was_left_out_is_named() -> None:
    told = ACCOUNTS.with_columns(copy=1 - pl.col("retained_6mo"))
    found = check(told)
    assert [leak.column for leak in found.leaks] == ["copy"]
    assert (found.leaking, found.features) == ((), 4)


@pytest.mark.slow
def test_a_spec_that_was_made_on_another_table_is_said(tmp_path: Path) -> None:
    path, journal = tmp_path / "a.parquet", tmp_path / "journal"
    ACCOUNTS.write_parquet(path)
    made = run(path, SPEC, limits=Limits(3), journal=journal).spec
    assert made.lineage is not None
    told = [f"The spec was made on another table or split, {path}, in run {made.lineage.run}"]

    def said(frame: Any, **more: Any) -> list[str]:
        notes = check(frame, made, **{"journal": journal, **more}).notes
        return [note.partition(";")[0] for note in notes if "made on" in note]

    assert said(path) == said(ACCOUNTS.reverse()) == []
    assert said(ACCOUNTS.with_columns(depth=pl.col("depth") / 2)) == told
    assert said(ACCOUNTS.head(149)) == told
    assert said(ACCOUNTS.head(149), journal=tmp_path / "other") == []
