"""A person's change, and any two specs, decided on; accounts that a search saw are no proof."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from blank_charts import blank_charts
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.split import holdout_mask
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify
from gtmar.validation.gates import Verdict

if TYPE_CHECKING:
    from pathlib import Path


def table(n: int, seed: int, *, sign: int = 1, prefix: str = "a") -> pl.DataFrame:
    """Accounts that stay by `x0`, a little by `x1`; the other way round where `sign` is -1."""
    draw = np.random.default_rng(seed)
    features = {f"x{i}": draw.random(n) for i in range(3)}
    logit = sign * (4 * (features["x0"] - 0.5) + (features["x1"] - 0.5))
    kept = (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    ids = [f"{prefix}{i}" for i in range(n)]
    return pl.DataFrame({"account_id": ids, **features, "retained_6mo": kept})


def spec_of(weights: dict[str, int], **more: Any) -> specs.ScoringSpec:
    features = {n: {"weight": w, "min": -40, "max": 40} for n, w in weights.items()}
    tiers = {"A": {"min": 60, "max": 101}, "B": {"min": 40, "max": 60}, "C": {"min": 0, "max": 40}}
    data = {"model": "m", "id": "account_id", "base": 30, "features": features, "tiers": tiers}
    return specs.ScoringSpec.model_validate({**data, **more})


OLD = spec_of({"x0": 5, "x1": 10, "x2": 20})
#: Other features, another base.
OTHER = spec_of({"x0": 30, "x1": 5}, base=20)
NAME = "auc_roc_retain"


def area(frame: pl.DataFrame, spec: specs.ScoringSpec) -> float:
    return float(roc_auc_score(frame["retained_6mo"], runs.score(frame, spec)["score"]))


def held(frame: pl.DataFrame, spec: specs.ScoringSpec) -> pl.DataFrame:
    split = spec.split
    return frame.filter(holdout_mask(frame["account_id"], share=split.holdout, salt=split.salt))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Write a table and a later one; return them and a journal that isn't there yet."""
    now, later = tmp_path / "now.parquet", tmp_path / "later.parquet"
    table(1_200, 1).write_parquet(now)
    table(800, 2, prefix="b").write_parquet(later)
    return now, later, tmp_path / "journal"


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


# ---- a person's change -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_try_is_decided_on_kept_or_not(files: tuple[Path, Path, Path]) -> None:
    now, _, journal = files
    good = runs.try_weights(now, OLD, {"x0": 35}, note="x0 tells", journal=journal)
    done = runs.decide(good.run_id, journal=journal)
    assert (done.kind, done.experiment) == ("human", f"{good.run_id}/exp_00001")
    assert done.verdict is Verdict.READY
    unseen = held(pl.read_parquet(now), OLD)
    assert done.accounts == unseen.height
    changed = OLD.with_weights({"x0": 35})
    for side, spec in ((done.intervals.before, OLD), (done.intervals.after, changed)):
        assert side[NAME].value == pytest.approx(area(unseen, spec), abs=1e-12)
    # One that the accounts searched spoke against is the candidate all the same.
    bad = runs.try_weights(now, OLD, {"x0": -20}, note="or not", journal=journal)
    assert bad.wins == 0
    done = runs.decide(bad.run_id, journal=journal)
    assert done.verdict is Verdict.KEEP
    assert done.candidate.weights["x0"] == -20
    # Two changes on the same accounts are two looks, the same again is none.
    assert done.looks == 2
    assert runs.decide(bad.run_id, journal=journal).looks == 2
    assert runs.decide(f"{good.run_id}/exp_00001", journal=journal).looks == 2


@pytest.mark.slow
def test_a_try_is_measured_on_a_later_file(files: tuple[Path, Path, Path]) -> None:
    now, later, journal = files
    spec = now.with_name("spec.yaml")
    spec.write_text(specs.to_yaml(OLD, heading="m"), "utf-8")
    words = ("try", "--data", now, "--spec", spec, "--set", "x0=35", "--note", "x0 tells")
    told = command(*words, "--holdout-file", later, "--journal", journal, "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)["run"]
    frame, changed = pl.read_parquet(later), OLD.with_weights({"x0": 35})
    assert found["holdout"]["accounts"] == 800
    assert found["holdout"]["best_value"] == pytest.approx(area(frame, changed), abs=1e-12)
    assert found["baseline_value"] == pytest.approx(area(pl.read_parquet(now), OLD), abs=1e-12)
    said = command("decide", "latest", "--journal", journal)
    assert said.exit_code == 0, said.output
    assert "800 accounts of" in " ".join(said.stdout.split())
    assert runs.replay(found["run_id"], journal=journal).identical


@pytest.mark.slow
def test_any_experiment_of_a_search_is_decided_on(files: tuple[Path, Path, Path]) -> None:
    now, _, journal = files
    ran = runs.run(now, OLD, limits=runs.Limits(20), journal=journal)
    done = runs.decide(f"{ran.run_id}/exp_00003", journal=journal)
    assert done.experiment == f"{ran.run_id}/exp_00003"
    row = next(r for r in RunFiles(journal, ran.run_id).judged() if r["number"] == 3)
    assert done.candidate.weights == dict(row["weights"])
    assert done.promised == row["value_after"]
    # The run's end looked at its best, this is another comparison.
    assert done.looks == 2


# ---- two specs -------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_specs_of_other_features_are_decided_on(files: tuple[Path, Path, Path]) -> None:
    now, later, journal = files
    done = runs.decide_between(OTHER, OLD, now, journal=journal, names=("new.yaml", "old.yaml"))
    unseen = held(pl.read_parquet(now), OTHER)
    for side, spec in ((done.intervals.before, OLD), (done.intervals.after, OTHER)):
        assert side[NAME].value == pytest.approx(area(unseen, spec), abs=1e-12)
    assert done.verdict is Verdict.READY
    told = done.as_json()
    assert told["incumbent"]["spec_id"] == specs.spec_id(OLD)
    assert told["candidate"]["spec_id"] == specs.spec_id(OTHER)
    assert told["candidate"]["weights"] == OTHER.weights
    compared = f"new.yaml against old.yaml ({done.experiment}), on {unseen.height:,} accounts of "
    assert told["compared"].startswith(compared)
    # The same again is the same run and no other look.
    again = runs.decide_between(OTHER, OLD, now, journal=journal)
    assert (again.run_id, again.looks) == (done.run_id, 1)
    # On a later file it is another one, and its first look.
    after = runs.decide_between(OTHER, OLD, now, holdout_file=later, journal=journal)
    assert (after.accounts, after.looks) == (800, 1)
    assert after.run_id != done.run_id
    frame = pl.read_parquet(later)
    assert after.intervals.after[NAME].value == pytest.approx(area(frame, OTHER), abs=1e-12)
    assert not verify(journal).findings


@pytest.mark.slow
def test_what_was_decided_against_what_stands_everywhere(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    now, _, journal = files
    paths = tmp_path / "new.yaml", tmp_path / "old.yaml"
    for path, spec in zip(paths, (OTHER, OLD), strict=True):
        path.write_text(specs.to_yaml(spec, heading="m"), "utf-8")
    folder = tmp_path / "decision"
    words = ("decide", paths[0], "--against", paths[1], "--data", now, "--journal", journal)
    done = command(*words, "-o", folder)
    assert done.exit_code == 0, done.output
    compared = f"{paths[0]} against {paths[1]}"

    def has(text: str) -> bool:
        return compared.replace(" ", "") in "".join(text.replace("\\", "").split())

    assert has(done.stdout)
    assert has((folder / "report.md").read_text("utf-8"))
    assert has((folder / "manifest.json").read_text("utf-8"))
    assert specs.spec_id(specs.load(folder / "candidate.yaml")) == specs.spec_id(OTHER)
    changes = pl.read_csv(folder / "account_changes.csv").sort("account")
    scored = runs.score(pl.read_parquet(now), OTHER).sort("account_id")
    assert changes["score_after"].to_list() == scored["score"].to_list()
    with Journal(journal) as opened:
        run_id = opened.run_id("latest")
    assert has(command("log", "--journal", journal).stdout)
    assert has(command("show", f"{run_id}/1", "--journal", journal).stdout)
    assert has(command("lineage", f"{run_id}/1", "--journal", journal).stdout)
    assert has(command("sql", "decisions", "--journal", journal, "--json").stdout)
    page = tmp_path / "page.html"
    with blank_charts():
        assert command("report", run_id, "--journal", journal, "-o", page).exit_code == 0
    assert has(page.read_text("utf-8"))
    # What goes live is the candidate's file, and the promotion knows that it was decided on.
    assert f"gtmar promote {paths[0]} " in " ".join(done.stdout.split())
    live = command("promote", paths[0], "--note", "it tells more", "--journal", journal)
    assert live.exit_code == 0, live.output
    assert "READY_FOR_REVIEW" in live.stdout


@pytest.mark.slow
def test_a_runs_best_is_held_against_another_spec(files: tuple[Path, Path, Path]) -> None:
    now, later, journal = files
    ran = runs.run(now, OTHER, limits=runs.Limits(20), journal=journal, holdout_file=later)
    done = runs.decide(ran.run_id, journal=journal, against=OLD, against_name="old.yaml")
    frame = pl.read_parquet(later)
    assert done.intervals.before[NAME].value == pytest.approx(area(frame, OLD), abs=1e-12)
    assert done.intervals.after[NAME].value == pytest.approx(area(frame, ran.spec), abs=1e-12)
    # The run's own end was the first look at the file.
    assert done.looks == 2


# ---- accounts that a search saw ----------------------------------------------------------------


@pytest.mark.slow
def test_accounts_that_a_search_saw_are_no_proof(files: tuple[Path, Path, Path]) -> None:
    now, later, journal = files
    whole = runs.run(now, OLD, limits=runs.Limits(10), holdout=0, journal=journal)
    # Found on all accounts, then given a holdout.
    candidate = whole.spec.model_copy(update={"split": OLD.split})
    before = sorted(journal.rglob("*"))
    count = held(pl.read_parquet(now), OLD).height
    said = f"run {whole.run_id}, which chose weights, searched {count} of the {count} accounts"
    for pair in ((candidate, OLD), (OLD, candidate)):
        with pytest.raises(UsageError, match=said):
            runs.decide_between(*pair, now, journal=journal)
    assert sorted(journal.rglob("*")) == before
    # A try that starts from it is a person's change, and its accounts were searched.
    tried = runs.try_weights(now, candidate, {"x2": 3}, note="less x2", journal=journal)
    with pytest.raises(UsageError, match=said):
        runs.decide(tried.run_id, journal=journal)
    # Other accounts decide.
    done = runs.decide_between(candidate, OLD, now, holdout_file=later, journal=journal)
    assert done.accounts == 800
    # The table that the search saw is no later file.
    with pytest.raises(UsageError, match=r"searched 1,200 of the 1,200 accounts"):
        runs.decide_between(candidate, OLD, later, holdout_file=now, journal=journal)


@pytest.mark.slow
def test_rows_that_another_search_saw_are_no_proof_of_a_later_file(
    files: tuple[Path, Path, Path],
) -> None:
    now, _, journal = files
    ran = runs.run(now, OLD, limits=runs.Limits(10), holdout=0, journal=journal)
    fresh = table(500, 5, prefix="c")
    seen = pl.concat([table(700, 6, prefix="d"), pl.read_parquet(now).head(60)])
    with pytest.raises(UsageError, match="searched 60 of the 760 accounts"):
        runs.decide_between(ran.spec, OLD, fresh, holdout_file=seen, journal=journal)
    # With other values they may be another window, which nothing shows: that is said.
    other = seen.with_columns(x0=1 - pl.col("x0"))
    done = runs.decide_between(ran.spec, OLD, fresh, holdout_file=other, journal=journal)
    assert done.time_order is not None
    assert done.accounts == 760


@pytest.mark.slow
def test_a_search_whose_table_is_gone_is_named_as_unknown(files: tuple[Path, Path, Path]) -> None:
    now, later, journal = files
    ran = runs.run(now, OLD, limits=runs.Limits(10), holdout=0, journal=journal)
    now.unlink()
    fresh = table(500, 5, prefix="c")
    # The same accounts are known by their fingerprint, though.
    with pytest.raises(UsageError, match=r"searched 1,200 of the 1,200 accounts"):
        runs.decide_between(ran.spec, OLD, fresh, holdout_file=table(1_200, 1), journal=journal)
    done = runs.decide_between(ran.spec, OLD, fresh, holdout_file=later, journal=journal)
    assert f"Whether run {ran.run_id}, which chose weights" in done.headline[-2]


def test_without_a_holdout_nothing_decides(files: tuple[Path, Path, Path]) -> None:
    now, _, journal = files
    bare = OTHER.model_copy(update={"split": specs.Split(holdout=0)})
    with pytest.raises(UsageError, match="no account is held out"):
        runs.decide_between(bare, OLD, now, journal=journal)
    spec = now.with_name("new.yaml")
    spec.write_text(specs.to_yaml(OTHER, heading="m"), "utf-8")
    alone = command("decide", spec, "--journal", journal)
    assert alone.exit_code == 2
    assert "--against old.yaml" in " ".join(alone.stderr.split())


# ---- a score that stands on its head -----------------------------------------------------------


@pytest.mark.slow
def test_a_live_score_turned_upside_down_is_said_first_by_every_command(tmp_path: Path) -> None:
    old, new, live = (tmp_path / name for name in ("q1.parquet", "q2.parquet", "live.yaml"))
    table(1_200, 1).write_parquet(old)
    table(1_200, 2, sign=-1, prefix="b").write_parquet(new)
    live.write_text(specs.to_yaml(OTHER, heading="m"), "utf-8")
    journal = ("--journal", tmp_path / "j")
    right = round(100 * area(pl.read_parquet(new), OTHER))
    assert right < 40
    said = f"is upside down: of 100 pairs of a kept and a lost account it ranks {right} right"
    drift = ("drift", "--spec", live, "--against", old, *journal)
    backtest = ("backtest", "--spec", live, *journal)
    turned = [command(*words, "--data", new) for words in (drift, backtest)]
    for found in turned:
        assert found.exit_code == 10, found.output
        assert said in " ".join(found.stdout.split())
        assert found.stdout.startswith("The score m is upside down")
    assert "Nothing moved" in turned[0].stdout
    asked = ("refresh", "--train", old, "--holdout", new, "--spec", live, "--n", 20)
    found = command(*asked, *journal, "--quiet")
    assert found.exit_code == 10
    assert found.stdout.startswith("KEEP_INCUMBENT: the candidate is upside down")
    for words in (drift, backtest):
        told = json.loads(command(*words, "--data", new, "--json").stdout)
        assert said in told["upside_down"]
        # A score that stands as it did is no finding.
        found = command(*words, "--data", old)
        assert found.exit_code == 0, found.output
        assert "upside down" not in found.stdout


def test_drift_reads_who_left_from_the_end_mrr(tmp_path: Path) -> None:
    """It said that the table doesn't tell, and an upside-down score ended in exit code 0."""
    old, new = table(1_200, 1), table(1_200, 2, sign=-1, prefix="b")
    labelled = runs.drift(new, OTHER, against=old)
    paid = new.with_columns(mrr=10.0, mrr_end=pl.col("retained_6mo") * 10.0).drop("retained_6mo")
    found = runs.drift(paid, OTHER, against=old)
    assert found.auc is not None
    assert labelled.auc is not None
    assert found.auc.value == pytest.approx(area(new, OTHER))
    assert found.upside_down == labelled.upside_down is not None


def test_drift_without_outcomes_says_what_it_can_not_know(tmp_path: Path) -> None:
    frame = table(600, 1)
    found = runs.drift(frame.drop("retained_6mo"), OTHER, against=frame)
    assert found.upside_down is None
    assert "isn't known from this table" in found.ranking_sentence
    # Outcomes that can't be read say as little.
    found = runs.drift(frame.with_columns(retained_6mo=7), OTHER, against=frame)
    assert found.auc is None
