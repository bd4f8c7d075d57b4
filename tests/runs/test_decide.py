"""The decision: gates, looks, what is written, and that noise seldom passes."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data import synthetic
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.runs.decision_report import account_changes
from gtmar.runs.inputs import file_hashes, refuse_changed
from gtmar.validation.gates import Gates, Verdict

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


def noise_table(n: int, seed: int, *, rate: float = 0.7, features: int = 6) -> pl.DataFrame:
    draw = np.random.default_rng([seed, n])
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            **{f"x{i}": draw.random(n) for i in range(features)},
            "retained_6mo": (draw.random(n) < rate).astype(int),
        }
    )


def window(n: int, seed: int, *, pulls: dict[str, float], segment: float = 0.0) -> pl.DataFrame:
    """Accounts that stay by what `pulls` say; in apac `x0` pulls by `segment` more."""
    draw = np.random.default_rng(seed)
    features = {f"x{i}": draw.random(n) for i in range(4)}
    region = np.where(draw.random(n) < 0.3, "apac", "emea")
    logit = sum((features[name] - 0.5) * pull for name, pull in pulls.items())
    logit = logit + np.where(region == "apac", (features["x0"] - 0.5) * segment, 0.0)
    return pl.DataFrame(
        {
            "account_id": [f"w{seed}-{i}" for i in range(n)],
            "region": region,
            **features,
            "retained_6mo": (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


def plain_spec(**more: Any) -> specs.ScoringSpec:
    feature = {"weight": 10, "min": -25, "max": 25}
    data: dict[str, Any] = {
        "model": "plain",
        "id": "account_id",
        "base": 30,
        "features": {f"x{i}": dict(feature) for i in range(4)},
        "tiers": {
            "A": {"min": 60, "max": 101},
            "B": {"min": 40, "max": 60},
            "C": {"min": 0, "max": 40},
        },
    }
    return specs.ScoringSpec.model_validate({**data, **more})


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, runs.RunResult]:
    folder = tmp_path_factory.mktemp("searched")
    synthetic.generate("health_score", accounts=1_200).write_parquet(folder / "a.parquet")
    found = runs.run(
        folder / "a.parquet", EXAMPLE, limits=runs.Limits(100), journal=folder / "journal"
    )
    return folder, found


# ---- verdicts --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_planted_gain_is_ready_and_pure_noise_is_not(tmp_path: Path) -> None:
    verdicts = []
    for seed in range(2):
        table = synthetic.generate("health_score", accounts=1_000, seed=seed)
        found = runs.run(table, EXAMPLE, limits=runs.Limits(60), journal=tmp_path / "signal")
        done = runs.decide(found.run_id, data=table, journal=tmp_path / "signal")
        verdicts.append(done.verdict)
    assert verdicts == [Verdict.READY] * 2
    for seed in range(6):
        table = noise_table(400, seed, features=3)
        found = runs.run(table, limits=runs.Limits(40), journal=tmp_path / "noise")
        done = runs.decide(found.run_id, data=table, journal=tmp_path / "noise")
        verdicts.append(done.verdict)
    # At 2.5 % each, two of six come by chance once in 114 times.
    assert verdicts[2:].count(Verdict.READY) <= 1


@pytest.mark.slow
def test_a_feature_that_reverses_later_is_refused(tmp_path: Path) -> None:
    train = window(2_000, 1, pulls={"x0": 3, "x1": 1})
    later = window(2_000, 2, pulls={"x0": -3, "x1": 1})
    spec, journal = plain_spec(), tmp_path / "journal"
    done = runs.refresh(train, later, spec, limits=runs.Limits(150), journal=journal)
    assert done.verdict is Verdict.KEEP
    assert [gate.name for gate in done.gates if gate.passed is False][:2] == ["level", "gain"]
    assert done.sentence.startswith("KEEP_INCUMBENT: the candidate is upside down: of 100 pairs")
    assert "; auc_roc_retain gets worse (-0." in done.sentence
    # Its level on these accounts is nothing like what the search found.
    assert any(text.startswith("Far from what the search promised") for text in done.headline)
    with Journal(journal) as opened:
        gain = opened.query("select best_value - baseline_value as gain from runs")["gain"].item()
    assert gain > 0.05, "the winner of the search window"
    same = window(2_000, 3, pulls={"x0": 3, "x1": 1})
    done = runs.refresh(train, same, spec, limits=runs.Limits(150), journal=journal)
    assert done.verdict is Verdict.READY


@pytest.mark.slow
def test_a_candidate_that_is_worse_in_one_segment_is_refused_and_the_segment_named(
    tmp_path: Path,
) -> None:
    train, later = (window(5_000, s, pulls={"x0": 4, "x1": 1}, segment=-8.0) for s in (1, 2))
    spec, journal = plain_spec(), tmp_path / "journal"
    limits = runs.Limits(150)
    # Without the column nobody can know.
    blind = [each.drop("region") for each in (train, later)]
    overall = runs.refresh(blind[0], blind[1], spec, limits=limits, journal=journal)
    assert overall.verdict is Verdict.READY
    assert overall.segment_safety == "not asked"
    again = tmp_path / "again"
    unasked = runs.refresh(train, later, spec, limits=limits, journal=again)
    assert unasked.verdict is Verdict.KEEP
    [failed] = [gate for gate in unasked.gates if gate.passed is False]
    assert failed.name == "segment region=apac"
    assert "at 97.5%, 2 of them" in failed.limit, "two segments were asked"
    assert unasked.segment_safety == "failed in region=apac"
    assert unasked.sentence.startswith("KEEP_INCUMBENT: in region=apac, 3")
    gates = Gates(segments=("region",))
    done = runs.decide(unasked.run_id, data=train, holdout_file=later, journal=again, gates=gates)
    assert done.verdict is Verdict.KEEP
    outcomes = {gate.name: gate.outcome for gate in done.gates}
    assert outcomes == {
        "level": "passed",
        "gain": "passed",
        "segment region=apac": "failed",
        "segment region=emea": "passed",
        "movement": "passed",
    }


@pytest.mark.slow
def test_a_small_segment_is_unknown_and_the_decision_unverified(tmp_path: Path) -> None:
    later = window(1_500, 2, pulls={"x0": 4})
    rare = pl.when(pl.int_range(pl.len()) < 12).then(pl.lit("latam")).otherwise("region")
    later = later.with_columns(region=rare)
    done = runs.refresh(
        window(1_500, 1, pulls={"x0": 4}),
        later,
        plain_spec(),
        limits=runs.Limits(100),
        journal=tmp_path / "journal",
        gates=Gates(segments=("region",)),
    )
    outcomes = {gate.name: gate.outcome for gate in done.gates}
    assert outcomes["segment region=latam"] == "unknown"
    assert done.verdict is Verdict.UNVERIFIED
    assert done.segment_safety.startswith("unknown in region=latam; passed in ")


@pytest.mark.slow
def test_a_segment_that_only_the_searched_table_has_is_unknown_and_unverified(
    tmp_path: Path,
) -> None:
    train = window(1_500, 1, pulls={"x0": 4})
    rare = pl.when(pl.int_range(pl.len()) < 150).then(pl.lit("latam")).otherwise("region")
    gates = Gates(segments=("region",))
    train, later = train.with_columns(region=rare), window(1_500, 2, pulls={"x0": 4})
    done = runs.refresh(
        train,
        later,
        plain_spec(),
        limits=runs.Limits(100),
        journal=tmp_path / "journal",
        gates=gates,
    )
    [gate] = [gate for gate in done.gates if gate.name == "segment region=latam"]
    assert gate.outcome == "unknown"
    assert "none among these" in gate.found
    assert done.verdict is Verdict.UNVERIFIED
    assert done.segment_safety.startswith("unknown in region=latam; passed in ")
    again = runs.decide(
        done.run_id, data=train, holdout_file=later, journal=tmp_path / "journal", gates=gates
    )
    assert again.segment_safety == done.segment_safety


def test_a_largest_drop_of_no_segment_is_refused_before_the_search(tmp_path: Path) -> None:
    train, later = (window(300, seed, pulls={"x0": 4}) for seed in (1, 2))
    gates, journal = Gates(max_segment_drop=0.1), tmp_path / "journal"
    with pytest.raises(UsageError, match=r"largest drop of 0\.1 is stated, but no segment"):
        runs.refresh(train, later, plain_spec(), gates=gates, journal=journal)
    assert not journal.exists()
    found = runs.run(train, plain_spec(), limits=runs.Limits(5), journal=journal)
    with pytest.raises(UsageError, match="but no segment"):
        runs.decide(found.run_id, data=train, journal=journal, gates=gates)


@pytest.mark.slow
def test_gates_on_movement_gain_and_guardrails(searched: tuple[Path, runs.RunResult]) -> None:
    folder, found = searched
    for gates, failed in (
        (Gates(max_moved=0.05), "movement"),
        (Gates(min_gain=0.4), "gain"),
    ):
        done = runs.decide(found.run_id, journal=folder / "journal", gates=gates)
        assert done.verdict is Verdict.KEEP
        assert [g.name for g in done.gates if g.passed is False] == [failed]
    with pytest.raises(UsageError, match=r"least gain must be 0 or more.*share that may move"):
        Gates(min_gain=-1, max_moved=2)


@pytest.mark.slow
def test_a_guardrail_that_holds_where_it_was_searched_can_break_later(tmp_path: Path) -> None:
    limit = {"metric": "logo_retention_by_tier.A", "min": 0.5}
    spec = plain_spec(guardrails=[limit])
    train = window(1_500, 1, pulls={"x0": 4})
    later = window(1_500, 2, pulls={"x0": 4}).with_columns(
        retained_6mo=pl.col("retained_6mo") * (pl.int_range(pl.len()) % 3 == 0)
    )
    done = runs.refresh(train, later, spec, limits=runs.Limits(100), journal=tmp_path / "journal")
    [gate] = [g for g in done.gates if g.name == "guardrails"]
    assert gate.outcome == "failed"
    assert gate.found.startswith("logo_retention_by_tier.A")
    assert done.verdict is Verdict.KEEP


@pytest.mark.slow
def test_nothing_found_is_nothing_to_decide(tmp_path: Path) -> None:
    table = noise_table(300, 1)
    found = runs.run(table, limits=runs.Limits(0), journal=tmp_path / "journal")
    done = runs.decide(found.run_id, data=table, journal=tmp_path / "journal")
    assert [(g.name, g.outcome) for g in done.gates] == [("change", "failed")]
    assert done.verdict is Verdict.KEEP


# ---- looks -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_comparison_on_a_holdout_counts_once_and_narrows_the_level(tmp_path: Path) -> None:
    table, journal = noise_table(400, 3), tmp_path / "journal"
    ids = [
        runs.run(table, limits=runs.Limits(20), seed=seed, journal=journal, cold=True).run_id
        for seed in range(3)
    ]
    done = [runs.decide(i, data=table, journal=journal) for i in (ids[0], ids[0], ids[2])]
    # The runs themselves have looked: three comparisons, whichever is decided on.
    assert [d.looks for d in done] == [3, 3, 3]
    assert done[0].level == pytest.approx(1 - 0.05 / 3)
    with Journal(journal) as opened:
        looks = opened.sql("holdout_looks")
    assert looks["look"].to_list() == [1, 2, 3, 3, 3, 3]
    assert looks["kind"].to_list() == ["search"] * 3 + ["look"] * 3
    assert not verify(journal).findings
    one = tmp_path / "one"
    first = runs.run(table, limits=runs.Limits(20), journal=one)
    assert runs.decide(first.run_id, data=table, journal=one).looks == 1


# ---- the folder ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dossier(searched: tuple[Path, runs.RunResult]) -> Path:
    folder, found = searched
    runs.decide(found.run_id, journal=folder / "journal", folder=folder / "decision")
    return folder / "decision"


def test_the_folder_holds_all_of_it(dossier: Path) -> None:
    assert {path.name for path in dossier.iterdir()} == {
        "report.md",
        "report.json",
        "account_changes.csv",
        "incumbent.yaml",
        "candidate.yaml",
        "manifest.json",
    }
    report = (dossier / "report.md").read_text("utf-8")
    assert report.startswith("# READY_FOR_REVIEW: of 100 pairs of a kept and a lost account it ")
    assert "holds customer data" in report
    assert json.loads((dossier / "report.json").read_text("utf-8"))["verdict"] == "READY_FOR_REVIEW"


def test_the_manifest_has_the_hash_of_every_input_and_file(dossier: Path) -> None:
    manifest = json.loads((dossier / "manifest.json").read_text("utf-8"))
    [(source, digest)] = manifest["inputs_sha256"].items()
    assert hashlib.sha256(Path(source).read_bytes()).hexdigest() == digest
    for name, stated in manifest["files_sha256"].items():
        assert hashlib.sha256((dossier / name).read_bytes()).hexdigest() == stated
    candidate = specs.load(dossier / "candidate.yaml")
    assert specs.spec_id(candidate) == manifest["candidate"]["spec_id"]
    assert "holds customer data" in manifest["customer_data"]


def test_contributions_add_up_account_by_account(dossier: Path) -> None:
    with (dossier / "account_changes.csv").open(newline="", encoding="utf-8") as file:
        changes = list(csv.DictReader(file))
    assert len(changes) == 1_200
    for row in changes:
        parts = [round(float(v) * 10_000) for k, v in row.items() if k.startswith("by.")]
        change = round(float(row["score_after"]) * 10_000) - round(
            float(row["score_before"]) * 10_000
        )
        assert sum(parts) == change == round(float(row["change"]) * 10_000)
    spec = specs.load(dossier / "candidate.yaml")
    moved = [row for row in changes if row["tier_before"] != row["tier_after"]]
    assert moved
    assert {row["tier_after"] for row in changes} <= set(spec.tier_names)


def test_cells_that_a_spreadsheet_would_run_are_escaped() -> None:
    table = pl.DataFrame(
        {
            "account_id": ["=HYPERLINK(1)", "+1", "-2", "@x", "\tx", "plain"],
            **{name: [0.1] * 6 for name in ("x0", "x1", "x2", "x3")},
        }
    )
    feature = {"weight": 10, "min": -25, "max": 25}
    spec = plain_spec(features={"=x": {**feature, "column": "x0"}})
    found = account_changes(scan(table), spec, spec.with_weights({"=x": 20}), as_of=None)
    assert set(found["account"]) == {"'=HYPERLINK(1)", "'+1", "'-2", "'@x", "'\tx", "plain"}
    assert not [name for name in found.columns if name.startswith("=")]


# ---- what is refused -------------------------------------------------------------------------


def test_inputs_that_change_meanwhile_void_the_decision(tmp_path: Path) -> None:
    train, later = tmp_path / "train.parquet", tmp_path / "later.parquet"
    window(500, 1, pulls={"x0": 3}).write_parquet(train)
    window(500, 2, pulls={"x0": 3}).write_parquet(later)
    journal, folder = tmp_path / "journal", tmp_path / "decision"

    def meddle(_: runs.Progress) -> None:
        window(500, 9, pulls={"x0": 3}).write_parquet(later)

    with pytest.raises(AccountDataError, match=r'later.parquet" changed while .* is void'):
        runs.refresh(
            train, later, plain_spec(), limits=runs.Limits(20), journal=journal, folder=folder,
            watch=meddle,
        )  # fmt: skip
    assert not folder.exists()
    assert not list(journal.glob("events/*"))


def test_a_file_that_comes_or_goes_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x", "utf-8")
    before = file_hashes(tmp_path)
    refuse_changed(before, tmp_path)
    (tmp_path / "b.csv").write_text("y", "utf-8")
    with pytest.raises(AccountDataError, match=r"b\.csv"):
        refuse_changed(before, tmp_path)


def test_what_was_searched_can_not_be_the_holdout(tmp_path: Path) -> None:
    train = window(300, 1, pulls={"x0": 3})
    with pytest.raises(AccountDataError, match="300 rows stand in both tables"):
        runs.refresh(train, train, plain_spec(), journal=tmp_path / "journal")
    later = pl.concat([window(300, 2, pulls={"x0": 3}), train.head(5)])
    with pytest.raises(AccountDataError, match="5 rows stand in both tables"):
        runs.refresh(train, later, plain_spec(), journal=tmp_path / "journal")
    assert not (tmp_path / "journal").exists()


@pytest.mark.slow
def test_a_folder_that_is_there_and_a_run_without_holdout_are_refused(tmp_path: Path) -> None:
    table = noise_table(200, 1)
    found = runs.run(table, limits=runs.Limits(5), holdout=0, journal=tmp_path / "j")
    with pytest.raises(UsageError, match="had no holdout"):
        runs.decide(found.run_id, data=table, journal=tmp_path / "j")
    with pytest.raises(UsageError, match="is there already"):
        runs.decide(found.run_id, data=table, journal=tmp_path / "j", folder=tmp_path)
    held = runs.run(table, limits=runs.Limits(5), journal=tmp_path / "j")
    gates = Gates(segments=("plan",))
    with pytest.raises(UsageError, match='no column "plan" to take segments from'):
        runs.decide(held.run_id, data=table, journal=tmp_path / "j", gates=gates)


# ---- the command -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_exits_with_10_to_keep_the_incumbent(
    searched: tuple[Path, runs.RunResult],
) -> None:
    folder, found = searched
    words = ["decide", found.run_id, "--journal", str(folder / "journal")]
    ready = CliRunner().invoke(app, words)
    assert ready.exit_code == 0, ready.output
    assert ready.output.startswith("READY_FOR_REVIEW: of 100 pairs of a kept and a lost account it")
    kept = CliRunner().invoke(app, [*words, "--max-moved", "0.01", "--json"])
    assert kept.exit_code == 10
    assert json.loads(kept.stdout)["verdict"] == "KEEP_INCUMBENT"
    assert kept.stderr == ""


@pytest.mark.slow
def test_what_got_worse_beside_the_objective_is_named_below_the_verdict(tmp_path: Path) -> None:
    """The more retained accounts pay less: a score that ranks retention better holds less MRR."""
    table = window(4_000, seed=5, pulls={"x0": 5.0})
    table = table.with_columns(mrr=(100 * (1.2 - pl.col("x0")) + 100 * pl.col("x1")).round(2))
    before = plain_spec(split={"holdout": 0.4}).with_weights({"x0": 0, "x1": 20})
    found = runs.run(table, before, limits=runs.Limits(150), journal=tmp_path, cold=True)
    done = runs.decide(found.run_id, journal=tmp_path, data=table)
    assert done.verdict == Verdict.READY
    [cost] = done.costs
    assert cost.startswith("Worse beyond chance: the MRR that the best-scored fifth holds, ")
    assert done.headline[0] == cost
    ends = [done.intervals.before, done.intervals.after]
    shown = [f"{side['revenue_capture_at_20'].value:.1%}" for side in ends]
    assert cost.endswith(f"{shown[0]} -> {shown[1]}.")
    assert done.as_json()["costs"] == [cost]


@pytest.mark.slow
def test_a_score_that_is_upside_down_is_said_first(tmp_path: Path) -> None:
    table = window(3_000, seed=6, pulls={"x0": 4.0})
    table = table.with_columns(mrr=(300 * (1.1 - pl.col("x0"))).round(2))
    spec = plain_spec(split={"holdout": 0.4}, objective="revenue_capture_at_20")
    found = runs.run(table, spec, limits=runs.Limits(150), journal=tmp_path, cold=True)
    done = runs.decide(found.run_id, journal=tmp_path, data=table)
    value = done.intervals.after["auc_roc_retain"].value
    assert value is not None
    assert value < 0.4
    assert done.verdict is Verdict.KEEP
    said = "the candidate is upside down: of 100 pairs of a kept and a lost account it ranks"
    assert done.sentence.startswith(f"KEEP_INCUMBENT: {said} {100 * value:.0f} right, fewer than")
    assert not any("upside down" in text for text in done.headline)
    assert done.headline[0].startswith("Worse beyond chance: pairs of a kept and a lost account")
