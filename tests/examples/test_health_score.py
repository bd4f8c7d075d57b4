"""The planted signal: from a poor guess, every search finds what was put into the shipped table.

All accounts are searched here, since the question is whether the search finds what is there.
Whether a gain holds on accounts never seen is asked by the walk-through, and elsewhere.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from gtmar import runs
from gtmar.data.synthetic import generate
from gtmar.journal.columns import experiment_id

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "examples" / "health_score" / "spec.yaml"
#: The same with edges that stand still, so that a tier can empty.
FIXED = ROOT / "tests" / "golden" / "fixed_edges.yaml"
#: The five strongest planted causes, strongest first.
PLANTED = (
    "alert_created",
    "session_depth",
    "activation_speed",
    "has_exported",
    "credit_limit_hits",
)
NOISE = ("noise_feature_1", "noise_feature_2")
THE_13 = (
    "nrr_by_tier",
    "grr_by_tier",
    "logo_retention_by_tier",
    "expansion_rate_by_tier",
    "contraction_rate_by_tier",
    "quick_ratio_by_tier",
    "winback_rate_by_former_tier",
    "activation_rate_by_tier",
    "arpa_by_tier",
    "revenue_concentration_hhi",
    "revenue_capture_at_20",
    "auc_roc_retain",
    "tier_separation",
)
#: What a tier's metric is divided by: null where this count is 0, and only there.
COUNTED = {
    "nrr_by_tier": "paying_by_tier",
    "grr_by_tier": "paying_by_tier",
    "logo_retention_by_tier": "labelled_by_tier",
    "expansion_rate_by_tier": "paying_by_tier",
    "contraction_rate_by_tier": "paying_by_tier",
    "winback_rate_by_former_tier": "former_by_tier",
    "activation_rate_by_tier": "activation_applies_by_tier",
    "arpa_by_tier": "paying_by_tier",
}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return generate("health_score")


def search(
    table: pl.DataFrame, journal: Path, *, seed: int, experiments: int, spec: Path = SPEC
) -> runs.RunResult:
    limits = runs.Limits(experiments)
    return runs.run(table, spec, seed=seed, limits=limits, holdout=0.0, journal=journal)


def tiers_of(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    assert list(value) == ["A", "B", "C", "D"]
    return value


def assert_all_13_observed(metrics: dict[str, object]) -> None:
    for name in THE_13:
        value = metrics[name]
        values = tiers_of(value).values() if name.endswith("tier") else [value]
        assert all(isinstance(one, float) for one in values), name


@pytest.fixture(scope="module")
def baseline(table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    return search(table, tmp_path_factory.mktemp("baseline"), seed=0, experiments=0)


def test_the_guess_is_a_poor_one(baseline: runs.RunResult) -> None:
    assert baseline.best_experiment == experiment_id(0)
    assert baseline.best_value is not None
    assert 0.62 < baseline.best_value < 0.64


def test_all_13_metrics_are_observed_from_the_start(
    table: pl.DataFrame, baseline: runs.RunResult
) -> None:
    found = runs.check(table, SPEC)
    assert found.basis == "observed"
    assert found.reasons == {}
    assert None not in found.metrics.values()
    assert_all_13_observed(baseline.metrics)


def test_no_experiment_has_a_null_without_need(table: pl.DataFrame, tmp_path: Path) -> None:
    # This search comes by weights that leave the top tier without a former account.
    search(table, tmp_path, seed=2, experiments=1_000, spec=FIXED)
    rows = pl.read_parquet(tmp_path / "experiments" / "*" / "*.parquet").rows(named=True)
    assert len(rows) == 1_001
    nulls = 0
    for row in rows:
        tiered = {name: dict(row[name]) for name in (*COUNTED, *COUNTED.values())}
        for name, count in COUNTED.items():
            needed = {tier: counted == 0 for tier, counted in tiered[count].items()}
            assert {tier: value is None for tier, value in tiered[name].items()} == needed, name
            nulls += sum(needed.values())
        without_loss = {tier: value in {None, 1.0} for tier, value in tiered["grr_by_tier"].items()}
        quick = dict(row["quick_ratio_by_tier"])
        assert {tier: value is None for tier, value in quick.items()} == without_loss
        assert None not in [row[name] for name in THE_13 if not name.endswith("tier")]
        assert row["basis"] == "observed"
    assert nulls > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_search_finds_the_planted_order_and_drops_the_noise(
    table: pl.DataFrame, baseline: runs.RunResult, tmp_path: Path, seed: int
) -> None:
    found = search(table, tmp_path, seed=seed, experiments=2_000)
    assert found.experiments == 2_000
    assert found.baseline_value == baseline.best_value
    assert found.best_value is not None
    assert found.best_value >= 0.749
    ladder = [*(found.weights[name] for name in PLANTED), 0]
    assert all(stronger > weaker for stronger, weaker in pairwise(ladder)), found.weights
    assert all(-1 <= found.weights[name] <= 1 for name in NOISE), found.weights
    before, after = (result.metrics["tier_separation"] for result in (baseline, found))
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert after > before
