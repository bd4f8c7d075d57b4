"""Reviews and comparisons: every number again in plain Python, every sentence for its case."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec

from gtmar.data.synthetic import generate
from gtmar.errors import NotComparableError, RunNotFoundError
from gtmar.journal.catalog import Journal
from gtmar.journal.review import Comparison, Review, compare, review
from gtmar.metrics import all_metrics
from gtmar.runs import Limits, RunResult, run
from gtmar.spec import Guardrail, ScoringSpec, Split, load

Row = dict[str, Any]

EXAMPLES = Path(__file__).parents[2] / "examples"
TABLE = generate("health_score", accounts=300, seed=4)


def health(**changes: Any) -> ScoringSpec:
    return load(EXAMPLES / "health_score" / "spec.yaml").model_copy(update=changes)


def churn() -> ScoringSpec:
    return load(EXAMPLES / "churn_risk" / "spec.yaml")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """Runs that differ, each in a journal of its own."""
    folder = tmp_path_factory.mktemp("reading")
    guardrails = (Guardrail(metric="share_by_tier.A", max=0.4),)
    risks = generate("churn_risk", accounts=300, seed=4)
    asked: dict[str, tuple[pl.DataFrame, ScoringSpec, int]] = {
        "first": (TABLE, health(), 1),
        "second": (TABLE, health(), 2),
        "again": (TABLE, health(), 1),
        "guarded": (TABLE, health(guardrails=guardrails), 1),
        "in_sample": (TABLE, health(split=Split(holdout=0)), 1),
        "salted": (TABLE, health(split=Split(salt="other")), 1),
        "nothing": (TABLE, health(), 1),
        "less": (TABLE, health(objective="contraction_rate_by_tier.B"), 1),
        "churn": (risks, churn(), 1),
    }
    return {
        name: run(
            table,
            spec,
            limits=Limits(0 if name == "nothing" else 60),
            seed=seed,
            journal=folder / name,
        )
        for name, (table, spec, seed) in asked.items()
    }


@pytest.fixture(scope="module")
def shared(made: dict[str, RunResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in one journal."""
    folder = tmp_path_factory.mktemp("shared") / "journal"
    for result in made.values():
        shutil.copytree(result.journal, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def experiments(made: dict[str, RunResult]) -> dict[str, list[Row]]:
    """Each run's rows as Polars reads them, with no DuckDB in between."""
    found = {}
    for name, result in made.items():
        parts = sorted(Path(result.journal).glob("experiments/*/*.parquet"))
        rows = pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in parts])
        found[name] = rows.sort("number").to_dicts()
    return found


def best_of(rows: list[Row]) -> Row:
    return [row for row in rows if row["outcome"] in ("baseline", "win")][-1]


RUNS = ["first", "guarded", "in_sample", "nothing", "less", "churn"]


@pytest.fixture(params=RUNS, scope="module")
def case(
    request: pytest.FixtureRequest,
    made: dict[str, RunResult],
    experiments: dict[str, list[Row]],
) -> tuple[Review, list[Row], RunResult]:
    name: str = request.param
    with Journal(made[name].journal) as journal:
        return review(journal, made[name].run_id), experiments[name], made[name]


# ---- a review's numbers ---------------------------------------------------------------------


def test_the_summary_is_what_the_rows_say(
    case: tuple[Review, list[Row], RunResult],
) -> None:
    found, rows, result = case
    wins = [row["number"] for row in rows if row["outcome"] == "win"]
    blocked = [row for row in rows if row["outcome"] == "blocked"]
    baseline, best = rows[0], best_of(rows)
    tried = len(rows) - 1
    gaps = [b - a for a, b in zip([0, *wins], wins, strict=False)] + [tried - max([0, *wins])]
    holdout = result.holdout or {}
    expected = {
        "run_id": result.run_id,
        "objective": result.metric,
        "higher_is_better": result.metric != "contraction_rate_by_tier.B",
        "state": "finished",
        "holdout_accounts": holdout.get("accounts", 0),
        "experiments": tried,
        "wins": len(wins),
        "blocked": len(blocked),
        "win_rate": len(wins) / tried if tried else None,
        "baseline_value": baseline["value_after"],
        "best_experiment": best["experiment_id"],
        "best_value": best["value_after"],
        "gain": best["value_after"] - baseline["value_after"],
        "last_win": wins[-1] if wins else None,
        "longest_gap": max(gaps),
        "holdout_baseline_value": holdout.get("baseline_value"),
        "holdout_best_value": holdout.get("best_value"),
        "baseline_hhi": baseline["revenue_concentration_hhi"],
        "best_hhi": best["revenue_concentration_hhi"],
        "best_hhi_normalised": best["hhi_normalised"],
        "tier_count": 4,
        "digest": result.digest,
    }
    assert {name: found.summary[name] for name in expected} == expected
    assert found.summary["accounts"] + found.summary["holdout_accounts"] == 300
    assert found.improved == bool(wins)


def worded(changes: dict[str, dict[str, int]]) -> str:
    return ", ".join(f"{name}: {c['before']} -> {c['after']}" for name, c in changes.items())


def test_the_wins_are_listed_with_what_they_changed(
    case: tuple[Review, list[Row], RunResult],
) -> None:
    found, rows, _ = case
    expected, before = [], 0
    for row in rows:
        if row["outcome"] != "win":
            continue
        changes = row["changes"]
        size = {n: -abs(c["after"] - c["before"]) for n, c in changes.items()}
        three = {n: changes[n] for n in sorted(changes, key=lambda n: (size[n], n))[:3]}
        expected.append(
            {
                "number": row["number"],
                "experiment_id": row["experiment_id"],
                "gap": row["number"] - before,
                "value_before": row["value_before"],
                "value_after": row["value_after"],
                "gain": row["value_after"] - row["value_before"],
                "changes": worded(changes),
                "changed": len(changes),
                "largest": worded(three)
                + (f" and {more} more" if (more := len(changes) - 3) > 0 else ""),
                "steps": ", ".join(f"{n} {c['after'] - c['before']:+d}" for n, c in three.items()),
            }
        )
        before = row["number"]
    assert found.wins == expected


def test_weights_stand_beside_those_of_the_start(
    case: tuple[Review, list[Row], RunResult],
) -> None:
    found, rows, result = case
    start, best = rows[0]["weights"], best_of(rows)["weights"]
    assert best == result.weights
    expected: list[Row] = [
        {"feature": name, "start": start[name], "best": best[name], "change": best[name] - w}
        for name, w in start.items()
    ]
    expected.sort(key=lambda row: (-row["best"], row["feature"]))
    spec = {term.name: term for term in result.spec.terms}
    for row in expected:
        term = spec[row["feature"]]
        ends = {term.min: "min", term.max: "max"}
        earned = result.spec.earned_by.get(term.name)
        row |= {"of": term.feature, "at_bound": ends.get(row["best"]), "earned_by": earned}
    assert found.weights == expected


def test_the_tier_table_is_that_of_start_and_best(
    case: tuple[Review, list[Row], RunResult],
) -> None:
    found, rows, result = case
    columns = {
        "accounts": "accounts_by_tier",
        "share": "share_by_tier",
        "paying": "paying_by_tier",
        "nrr": "nrr_by_tier",
        "grr": "grr_by_tier",
        "logo_retention": "logo_retention_by_tier",
        "arpa": "arpa_by_tier",
    }
    expected = [
        {
            "stage": stage,
            "tier": tier,
            **{name: row[column][tier] for name, column in columns.items()},
            "basis": row["basis"],
        }
        for stage, row in (("start", rows[0]), ("best", best_of(rows)))
        for tier in result.spec.tier_names
    ]
    assert found.tiers == expected


def flat(row: Row) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for key, metric in all_metrics().items():
        if metric.by_tier:
            values |= {f"{key}.{tier}": value for tier, value in row[key].items()}
        else:
            values[key] = row[key]
    return values


def test_proxy_drift_lists_what_else_moved(
    case: tuple[Review, list[Row], RunResult],
) -> None:
    found, rows, result = case
    start, best = flat(rows[0]), flat(best_of(rows))
    # Metrics of tiers are taken at the start's sizes.
    sized = found.equal_sizes["searched"]
    start |= {k: v for k, v in sized["start"].items() if not k.startswith("share_by_tier.")}
    best |= {k: v for k, v in sized["best"].items() if not k.startswith("share_by_tier.")}
    drift = {row["metric"]: row for row in found.drift}
    assert len(drift) == len(found.drift)
    assert result.metric not in drift
    assert {"nrr_at_20", "tier_separation", "score_mean"} - drift.keys() <= {"nrr_at_20"}
    for name, row in drift.items():
        assert (row["start"], row["best"]) == (start[name], best[name])
        if None in (start[name], best[name]):
            assert (row["change"], row["reading"]) == (None, "moved")
        else:
            before, after = start[name], best[name]
            assert before is not None
            assert after is not None
            assert row["change"] == after - before
            unmoved = abs(after - before) <= 0.0005 * max(1.0, abs(before))
            assert (row["reading"] == "same") == unmoved
    # Of the tiers only the best one is read as better or worse: what it gains, another loses.
    best_tier = result.spec.tier_names[-1 if result.spec.orientation == "risk" else 0]
    for name, row in drift.items():
        if row["reading"] in ("same", "moved"):
            continue
        key, _, tier = name.partition(".")
        assert tier in ("", best_tier)
        less = all_metrics()[key].better == "lower" or key.startswith("share_clipped")
        good = row["change"] < 0 if less else row["change"] > 0
        assert row["reading"] == ("better" if good else "worse"), name
    order = [row["reading"] for row in found.drift]
    places = {"worse": 1, "better": 2, "moved": 3, "same": 4}
    assert order == sorted(order, key=places.__getitem__)


def test_a_review_as_plain_data_has_all_of_it(
    case: tuple[Review, list[Row], RunResult],
) -> None:
    found, _, _ = case
    plain = found.as_json()
    assert plain.items() >= found.summary.items()
    assert plain["wins_list"] == found.wins
    assert plain["tiers"] == found.tiers
    assert (plain["improved"], plain["held_on_holdout"]) == (found.improved, found.held)


# ---- a review's sentences -------------------------------------------------------------------


@pytest.fixture(scope="module")
def usual(made: dict[str, RunResult]) -> Review:
    with Journal(made["first"].journal) as journal:
        return review(journal, made["first"].run_id)


def said(usual: Review, **changes: Any) -> list[str]:
    numbers: dict[str, Any] = {
        "objective": "auc_roc_retain",
        "higher_is_better": True,
        "experiments": 2000,
        "wins": 34,
        "baseline_value": 0.61,
        "best_value": 0.73456,
        "holdout_accounts": 1500,
        "holdout_baseline_value": 0.6,
        "holdout_best_value": 0.7,
    }
    return replace(usual, summary={**usual.summary, **numbers, **changes}).verdict


def test_a_gain_that_held(usual: Review) -> None:
    assert said(usual) == [
        "auc_roc_retain rose from 0.6100 to 0.7346 (+0.1246) on the accounts searched, in 2,000 "
        "experiments, 34 of them kept.",
        "On the 1,500 accounts that the search never saw: 0.6000 -> 0.7000 (+0.1000).",
    ]


def test_no_improvement(usual: Review) -> None:
    assert said(usual, wins=0, best_value=0.61, holdout_best_value=0.6) == [
        "No experiment of 2,000 beat the baseline's auc_roc_retain of 0.6100: keep the spec."
    ]


def test_in_sample(usual: Review) -> None:
    nothing = dict.fromkeys(("holdout_baseline_value", "holdout_best_value"))
    [_, second] = said(usual, holdout_accounts=0, **nothing)
    assert second == (
        "In-sample: no holdout was kept, so this says nothing about accounts that the search has "
        "not seen."
    )


@pytest.mark.parametrize("after", [0.6, 0.59, 0.6 + 1e-13])
def test_a_gain_that_did_not_hold(usual: Review, after: float) -> None:
    [_, second] = said(usual, holdout_best_value=after)
    assert second.startswith("On the 1,500 accounts that the search never saw: 0.6000 -> ")
    assert second.endswith("The gain did not hold: keep the spec.")


def test_a_run_that_has_not_ended_has_not_looked_at_its_holdout(usual: Review) -> None:
    nothing = dict.fromkeys(("holdout_baseline_value", "holdout_best_value"))
    [_, second] = said(usual, state="running or cut off", **nothing)
    assert second == "The run has not ended, so the holdout has not been looked at."


def test_less_is_better_reads_the_other_way(usual: Review) -> None:
    turned = {
        "objective": "contraction_rate_by_tier.B",
        "higher_is_better": False,
        "baseline_value": 0.2,
        "best_value": 0.1,
    }
    [first, *_, second] = said(usual, **turned)
    assert first.startswith("contraction_rate_by_tier.B fell from 0.2000 to 0.1000 (-0.1000)")
    assert second.endswith("The gain did not hold: keep the spec.")
    [*_, second] = said(usual, **turned, holdout_best_value=0.5)
    assert second.endswith("(-0.1000).")


@pytest.mark.parametrize("missing", ["holdout_baseline_value", "holdout_best_value"])
def test_a_holdout_without_a_value_leaves_it_open(usual: Review, missing: str) -> None:
    [_, second] = said(usual, **{missing: None})
    assert second == "On the holdout it has no value, so whether the gain holds is open."


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.05, "spread almost evenly over the 4 tiers"),
        (0.1, "leaning on some of the 4 tiers"),
        (0.39, "leaning on some of the 4 tiers"),
        (0.4, "concentrated in few of the 4 tiers"),
    ],
)
def test_concentration_is_read_between_its_ends(usual: Review, value: float, words: str) -> None:
    summary = {**usual.summary, "best_hhi_normalised": value, "best_hhi": 3123.4, "tier_count": 4}
    assert replace(usual, summary=summary).hhi_reading == (
        f"MRR is {words}: HHI 3,123, where 2,500 is an even split and 10,000 is all in one tier."
    )


def test_concentration_without_mrr_is_not_read(usual: Review) -> None:
    summary = {**usual.summary, "best_hhi_normalised": None}
    assert replace(usual, summary=summary).hhi_reading is None


@pytest.mark.parametrize(
    ("before", "after", "said"), [(0.05, 0.009, True), (0.049, 0.0, False), (0.5, 0.01, False)]
)
def test_a_tier_that_is_left_empty_is_named(
    usual: Review, before: float, after: float, said: bool
) -> None:
    tiers = [
        {"stage": stage, "tier": tier, "accounts": round(share * 2000), "share": share}
        for stage, shares in (("start", (before, 0.6)), ("best", (after, 0.7)))
        for tier, share in zip("AB", shares, strict=True)
    ]
    found = replace(usual, tiers=tiers).emptied
    assert (
        found
        == [
            f"Tier A went from {round(before * 2000)} accounts to {round(after * 2000)}: "
            "auc_roc_retain doesn't hold the tiers in place. gtmar tiers SPEC --data TABLE "
            "--like START -o NEW gives them their sizes back."
        ]
        * said
    )


# ---- which run ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_latest_run_is_reviewed_where_none_is_named(
    shared: Path, made: dict[str, RunResult]
) -> None:
    with Journal(shared) as journal:
        assert review(journal).summary["run_id"] == made["churn"].run_id
        with pytest.raises(RunNotFoundError):
            review(journal, "r-none")


# ---- comparing ------------------------------------------------------------------------------


def compared(shared: Path, one: RunResult, two: RunResult) -> Comparison:
    with Journal(shared) as journal:
        return compare(journal, one.run_id, two.run_id)


def test_two_runs_stand_side_by_side(
    shared: Path, made: dict[str, RunResult], experiments: dict[str, list[Row]]
) -> None:
    found = compared(shared, made["first"], made["second"])
    for name, row in (("first", found.one), ("second", found.two)):
        best, result = best_of(experiments[name]), made[name]
        assert result.holdout is not None
        expected = {
            "run_id": result.run_id,
            "seed": 1 if name == "first" else 2,
            "experiments": 60,
            "wins": result.wins,
            "baseline_value": result.baseline_value,
            "best_value": best["value_after"],
            "best_experiment": best["experiment_id"],
            "holdout_best_value": result.holdout["best_value"],
            "revenue_capture_at_20": best["revenue_capture_at_20"],
            "tier_separation": best["tier_separation"],
            "nrr_at_20": best["nrr_at_20"],
            "hhi_normalised": best["hhi_normalised"],
        }
        assert {key: row[key] for key in expected} == expected
        assert row["weights"] == result.weights
    assert found.as_json() == {"verdict": found.verdict, "runs": [found.one, found.two]}


def test_the_first_run_named_stands_first(shared: Path, made: dict[str, RunResult]) -> None:
    found = compared(shared, made["second"], made["first"])
    ids = (found.one["run_id"], found.two["run_id"])
    assert ids == (made["second"].run_id, made["first"].run_id)


def test_runs_with_the_same_end_are_level(shared: Path, made: dict[str, RunResult]) -> None:
    found = compared(shared, made["first"], made["again"])
    assert found.verdict == (
        f"Both runs reach the same auc_roc_retain, {made['first'].best_value:.4f}."
    )


def test_a_run_compares_with_itself(shared: Path, made: dict[str, RunResult]) -> None:
    assert compared(shared, made["first"], made["first"]).verdict.startswith("Both runs")


def facing(*, higher: bool = True, **values: float | None) -> str:
    def side(name: str) -> Row:
        return {
            "run_id": name,
            "objective": "m",
            "higher_is_better": higher,
            "best_value": values[name],
            "holdout_best_value": values.get(f"{name}_holdout"),
        }

    return Comparison(side("r1"), side("r2")).verdict


def test_the_verdict_names_who_found_more() -> None:
    assert facing(r1=0.7, r2=0.8) == "r2 found more: m 0.8000 against 0.7000."
    assert facing(r1=0.9, r2=0.8) == "r1 found more: m 0.9000 against 0.8000."
    assert facing(r1=0.9, r2=0.8, higher=False) == "r2 found more: m 0.8000 against 0.9000."
    assert facing(r1=0.9, r2=0.9 + 1e-13) == "Both runs reach the same m, 0.9000."


def test_the_verdict_says_where_the_holdout_does_not_agree() -> None:
    behind = "r2 found more: m 0.8000 against 0.7000. On the holdout it is not ahead: "
    assert facing(r1=0.7, r2=0.8, r1_holdout=0.6, r2_holdout=0.5) == (
        behind + "0.5000 against 0.6000."
    )
    assert facing(r1=0.7, r2=0.8, r1_holdout=0.6, r2_holdout=0.6) == (
        behind + "0.6000 against 0.6000."
    )
    assert facing(r1=0.7, r2=0.8, r1_holdout=0.5, r2_holdout=0.6).endswith("against 0.7000.")
    assert facing(r1=0.7, r2=0.8, r1_holdout=None, r2_holdout=0.6).endswith("against 0.7000.")
    less = facing(r1=0.7, r2=0.8, r1_holdout=0.5, r2_holdout=0.4, higher=False)
    assert less.endswith("On the holdout it is not ahead: 0.5000 against 0.4000.")


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        ("churn", ["outcomes_fingerprint", "tiers_id", "objective"]),
        ("less", ["objective"]),
        ("in_sample", ["outcomes_fingerprint"]),
        ("salted", ["outcomes_fingerprint"]),
    ],
)
def test_what_differs_is_named(
    shared: Path, made: dict[str, RunResult], other: str, differing: list[str]
) -> None:
    names = {
        "outcomes_fingerprint": "tables (ids, outcomes or split)",
        "tiers_id": "tiers",
        "objective": "objectives",
    }
    with pytest.raises(NotComparableError, match="don't compare: they differ in") as caught:
        compared(shared, made["first"], made[other])
    assert caught.value.facts["differing"] == differing
    for column, name in names.items():
        assert (f"{name}: " in caught.value.message) == (column in differing)
    assert "auc_roc_retain and " in caught.value.message or "objective" not in differing


def test_other_guardrails_and_seeds_still_compare(shared: Path, made: dict[str, RunResult]) -> None:
    assert compared(shared, made["first"], made["guarded"]).two["run_id"] == made["guarded"].run_id


def test_a_run_with_no_experiment_yet_is_named(
    shared: Path, made: dict[str, RunResult], tmp_path: Path
) -> None:
    copied = tmp_path / "journal"
    shutil.copytree(shared, copied)
    shutil.rmtree(copied / "experiments" / f"run_id={made['second'].run_id}")
    for name in ("end.parquet", "seal"):
        (copied / "runs" / f"run_id={made['second'].run_id}" / name).unlink()
    with Journal(copied) as journal:
        with pytest.raises(RunNotFoundError, match="has no experiment yet"):
            review(journal, made["second"].run_id)
        with pytest.raises(RunNotFoundError, match=made["second"].run_id):
            compare(journal, made["first"].run_id, made["second"].run_id)


def test_values_are_finite(experiments: dict[str, list[Row]]) -> None:
    for rows in experiments.values():
        for row in (rows[0], best_of(rows)):
            assert all(v is None or math.isfinite(v) for v in flat(row).values())


@pytest.mark.slow
def test_what_is_usual_stands_beside_a_year_of_observed_revenue(tmp_path: Path) -> None:
    accounts = make_accounts(900, seed=4)
    window = {"features_asof": "2024-12-31", "outcome_start": "2025-01-01"}
    for end, said in (("2025-12-31", 3), ("2025-06-30", 0)):
        spec = make_spec(window=window | {"outcome_end": end})
        journal = tmp_path / end
        made = run(accounts, spec, limits=Limits(2), journal=journal, holdout=0.0)
        with Journal(journal) as opened:
            found = review(opened, made.run_id)
        assert len(found.usual) == said
        assert found.as_json()["usual"] == list(found.usual)
    paying = accounts.filter(pl.col("won_back").is_null() & (pl.col("mrr") > 0))
    stays = pl.min_horizontal("mrr", "mrr_end")
    expected = accounts.filter(pl.col("retained_6mo").is_not_null()).select(
        nrr=pl.lit(float(paying["mrr_end"].sum()) / float(paying["mrr"].sum())),
        grr=pl.lit(float(paying.select(stays).to_series().sum()) / float(paying["mrr"].sum())),
        kept=pl.col("retained_6mo").mean(),
    )
    with Journal(tmp_path / "2025-12-31") as opened:
        usual = review(opened).usual
    for sentence, value in zip(usual, expected.row(0), strict=True):
        assert f" over all tiers: {value:.1%}. Published: " in sentence
