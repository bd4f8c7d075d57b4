"""The score of today, judged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.errors import AccountDataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

TIERS = {"green": 60.0, "yellow": 30.0, "red": 0.0}


def table_with_score(n: int = 400, *, top: float = 100) -> pl.DataFrame:
    table = make_accounts(n, seed=6)
    draw = np.random.default_rng(1)
    value = np.clip(table["depth"].to_numpy() * 0.6 + draw.random(n) * 0.4, 0, 1) * top
    return table.with_columns(current_health=pl.Series(np.round(value, 2)))


def test_a_column_is_judged_by_the_same_metrics() -> None:
    table = table_with_score()
    found = runs.backtest(table, score_column="current_health", tiers=TIERS)
    current = table.filter(pl.col("retained_6mo").is_not_null())
    expected = roc_auc_score(current["retained_6mo"], current["current_health"])
    assert found.metrics["auc_roc_retain"] == pytest.approx(expected, abs=1e-12)
    assert found.intervals.before["auc_roc_retain"].value == pytest.approx(expected, abs=1e-12)
    green = current.filter((pl.col("current_health") >= 60) & (pl.col("mrr") > 0))
    nrr = float(green["mrr_end"].sum()) / float(green["mrr"].sum())
    assert found.metrics["nrr_by_tier"]["green"] == pytest.approx(nrr)
    assert (found.tiers, found.edges) == (("green", "yellow", "red"), (60.0, 30.0, 0.0))


def test_the_curve_passes_through_capture_at_20_and_ends_at_1() -> None:
    found = runs.backtest(table_with_score(), score_column="current_health")
    curve = {share: (held, missed) for share, held, missed in found.curve}
    assert curve[0.2][0] == pytest.approx(found.metrics["revenue_capture_at_20"])
    assert curve[1.0][0] == pytest.approx(1)
    assert curve[1.0][1] == pytest.approx(1)
    assert (curve[0.2][1] or 0) > 0.25, "the worst fifth has more than its part of the lost"


def test_green_and_churned_and_red_and_renewed_are_listed_by_revenue() -> None:
    table = table_with_score()
    found = runs.backtest(table, score_column="current_health", tiers=TIERS)
    for frame, tier, retained in (
        (found.green_and_churned, pl.col("current_health") >= 60, 0),
        (found.red_and_renewed, pl.col("current_health") < 30, 1),
    ):
        expected = table.filter(tier & (pl.col("retained_6mo") == retained))
        assert set(frame["account"]) == set(expected["account_id"])
        assert frame["mrr"].is_sorted(descending=True)
    turned = runs.backtest(table, score_column="current_health", tiers=TIERS, orientation="risk")
    assert set(turned.green_and_churned["tier"]) == {"red"}


@pytest.mark.parametrize("top", [1, 100, 1000])
def test_the_scale_of_a_score_does_not_matter(top: float) -> None:
    table = table_with_score(top=1).with_columns(pl.col("current_health") * top)
    found = runs.backtest(table, score_column="current_health", tiers={"A": 0.5 * top, "B": 0})
    one = runs.backtest(table_with_score(top=1), score_column="current_health")
    assert found.metrics["auc_roc_retain"] == pytest.approx(one.metrics["auc_roc_retain"])
    assert found.edges == pytest.approx((0.5 * top, 0.0))


@pytest.mark.slow
def test_a_candidate_stands_beside_it_on_the_accounts_it_holds_out(tmp_path: Path) -> None:
    table = table_with_score(1_200)
    spec = make_spec(split={"holdout": 0.4})

    def judged(candidate: specs.ScoringSpec) -> runs.Backtest:
        return runs.backtest(
            table,
            score_column="current_health",
            spec=candidate,
            tiers=TIERS,
            journal=tmp_path / "journal",
        )

    found = judged(spec)
    # Each other candidate is another look at the accounts held out; the same one again is not.
    again, other = judged(spec), judged(spec.with_weights({"depth": 40}))
    assert [f.level for f in (found, again, other)] == [0.95, 0.95, 0.975]
    assert found.candidate == "test"
    assert 400 < found.accounts < 560
    assert any("holds out" in note for note in found.notes)
    gain = found.intervals.gain["auc_roc_retain"]
    one, two = (
        part["auc_roc_retain"].value for part in (found.intervals.before, found.intervals.after)
    )
    assert gain.value == pytest.approx((two or 0) - (one or 0))
    # The candidate is cut at the sizes of today's tiers, whatever its own are called.
    assert "logo_retention_by_tier.green" in found.intervals.gain
    assert not [name for name in found.intervals.after if name.endswith(".A")]
    sizes = [
        part["logo_retention_by_tier.green"].accounts
        for part in (found.intervals.before, found.intervals.after)
    ]
    assert abs(sizes[0] - sizes[1]) <= 0.15 * sizes[0]


def test_a_spec_is_judged_alone_on_all_accounts() -> None:
    table, spec = make_accounts(300, seed=2), make_spec()
    found = runs.backtest(table, spec=spec)
    assert found.accounts == 300
    assert found.candidate is None
    checked = runs.check(table, make_spec(split={"holdout": 0}))
    assert found.metrics["auc_roc_retain"] == checked.metrics["auc_roc_retain"]


def test_what_is_no_score_is_refused() -> None:
    table = table_with_score()
    with pytest.raises(UsageError, match="nothing to judge"):
        runs.backtest(table)
    with pytest.raises(AccountDataError, match='no column "health"'):
        runs.backtest(table, score_column="health")
    with pytest.raises(AccountDataError, match='"plan" must be a number to be a score'):
        runs.backtest(table, score_column="plan")
    negative = table.with_columns(pl.col("current_health") - 50)
    with pytest.raises(AccountDataError, match="must lie in 0 to 1,000 to be a score, got -"):
        runs.backtest(negative, score_column="current_health")
    with pytest.raises(UsageError, match="lowest tier must begin at 0, got 10"):
        runs.backtest(table, score_column="current_health", tiers={"A": 50, "B": 10})


@pytest.mark.slow
def test_that_it_is_in_sample_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table_with_score().write_parquet("a.parquet")
    (tmp_path / "spec.yaml").write_text(specs.to_yaml(make_spec()), "utf-8")
    words = ["--data", "a.parquet", "--spec"]
    assert CliRunner().invoke(app, ["run", *words, "spec.yaml", "--n", "30", "-o", "b.yaml"]).output
    result = CliRunner().invoke(app, ["backtest", *words, "b.yaml"])
    assert result.exit_code == 0, result.output
    assert result.output.count("In-sample: ") == 1
    assert result.output.splitlines()[0].endswith(", in-sample, so too good).")


@pytest.mark.slow
def test_where_all_that_pay_are_in_one_tier_it_says_so() -> None:
    table = make_accounts(400, seed=6)
    pays = pl.col("mrr") > 0
    score = pl.when(pays.fill_null(value=False)).then(80.0).otherwise(10.0)
    found = runs.backtest(
        table.with_columns(own=score), score_column="own", tiers={"A": 50, "B": 0}
    )
    spread = found.intervals.before["revenue_concentration_hhi"]
    assert (spread.value, spread.low) == (10_000.0, None)
    assert spread.reason == "all paying accounts are in one tier"


@pytest.mark.slow
def test_the_commands_print_and_give_json(tmp_path: Path) -> None:
    table_with_score().write_parquet(tmp_path / "a.parquet")
    (tmp_path / "spec.yaml").write_text(specs.to_yaml(make_spec()), "utf-8")
    data, spec = str(tmp_path / "a.parquet"), str(tmp_path / "spec.yaml")
    words = ["backtest", "--data", data, "--score-column", "current_health"]
    words += ["--tiers", "A=60,B=30,C=0"]
    for more in ([], ["--spec", spec, "--journal", str(tmp_path / "journal")]):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 0, result.output
        assert "In the best tier, and left" in result.output
        shown = json.loads(CliRunner().invoke(app, [*words, *more, "--json"]).stdout)
        assert shown["name"] == "current_health"
        found = next(x for x in shown["intervals"]["before"].items() if x[0] == "auc_roc_retain")[1]
        value, low, high = (f"{100 * found[key]:.0f}" for key in ("value", "low", "high"))
        pairs = f"lost account current_health ranks {value} right ({low} to {high})"
        assert result.output.startswith(f"Of 100 pairs of a kept and a {pairs}")
    wrong = CliRunner().invoke(app, [*words[:-1], "A=x"])
    assert wrong.exit_code == 2
    assert "--tiers expects tier=edge" in wrong.stderr
    words = ["explain", "acct-00003", "--data", data, "--spec", spec]
    for more in ([], ["--vs", spec]):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 0, result.output
        assert "Next: gtmar" in result.output
        shown = json.loads(CliRunner().invoke(app, [*words, *more, "--json"]).stdout)
        assert shown["account"] == "acct-00003"
