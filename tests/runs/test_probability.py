"""The probability of leaving through a run, the journal, and what people ask of it later."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec
from sklearn.metrics import brier_score_loss
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.scan import scan
from gtmar.data.split import held_out, row_key
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.lookup import checkout
from gtmar.spec import ScoringSpec
from gtmar.stats.interval import from_normal
from gtmar.validation.gates import Gates

ACCOUNTS = make_accounts(1_500, seed=3)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.RunResult, Path]:
    folder = tmp_path_factory.mktemp("ran")
    ACCOUNTS.write_parquet(folder / "accounts.parquet")
    journal = folder / "journal"
    limits = runs.Limits(60)
    found = runs.run(folder / "accounts.parquet", make_spec(), limits=limits, journal=journal)
    return found, folder


def labelled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("retained_6mo").is_not_null() & pl.col("won_back").is_null())


def searched(spec: ScoringSpec, *, held: bool) -> pl.DataFrame:
    drawn = held_out(row_key("account_id", scan(ACCOUNTS).schema), spec.split)
    return labelled(ACCOUNTS.filter(drawn if held else ~drawn))


def test_it_counts_the_accounts_searched(ran: tuple[runs.RunResult, Path]) -> None:
    found, _ = ran
    table = found.spec.calibration
    assert table is not None
    assert specs.calibration_of(found.spec) == table
    own = searched(found.spec, held=False)
    scored = runs.score(own, found.spec)["score"]
    assert table.accounts == own.height
    assert table.left == own["churned"].sum()
    for step, above in zip(table.steps, [*table.steps[1:], None], strict=True):
        inside = own.filter((scored >= step.from_) & (scored < (above.from_ if above else 1e9)))
        assert (step.accounts, step.left) == (inside.height, inside["churned"].sum())


def test_former_accounts_are_said_not_to_leave_again(ran: tuple[runs.RunResult, Path]) -> None:
    """They have the probability of their score, as in SQL, which can't know who they are."""
    found, _ = ran
    gone = ACCOUNTS["won_back"].is_not_null().sum()
    made = runs.score_table(ACCOUNTS, found.spec)
    said = f"{gone} accounts left before the window, by won_back: the probability of leaving says"
    assert [note for note in made.notes if "left before" in note] == [f"{said} nothing of them."]
    assert made.frame["probability"].null_count() == 0
    assert made.frame.equals(runs.score(ACCOUNTS.drop("won_back"), found.spec))
    for table, spec in ((ACCOUNTS.drop("won_back"), found.spec), (ACCOUNTS, make_spec())):
        assert not [n for n in runs.score_table(table, spec).notes if "left before" in n]


def test_it_is_checked_on_the_holdout(ran: tuple[runs.RunResult, Path]) -> None:
    found, _ = ran
    others = searched(found.spec, held=True)
    chances = runs.score(others, found.spec)["probability"]
    checked = found.reliability
    assert checked is not None
    assert checked["accounts"] == others.height
    assert checked["predicted"] == pytest.approx(chances.mean())
    assert checked["observed"] == pytest.approx(others["churned"].mean())
    brier = brier_score_loss(others["churned"].to_numpy(), chances.to_numpy())
    assert checked["brier"] == pytest.approx(brier)
    assert found.as_json()["reliability"] == checked


def test_the_journal_has_it_for_the_best_alone(ran: tuple[runs.RunResult, Path]) -> None:
    found, folder = ran
    assert found.wins
    with Journal(folder / "journal") as journal:
        best = checkout(journal, found.run_id)
        assert best.calibration == found.spec.calibration
        assert checkout(journal, f"{found.run_id}/start").calibration is None
        others = [
            n for n in range(1, found.experiments) if not found.best_experiment.endswith(str(n))
        ]
        assert checkout(journal, f"{found.run_id}/{others[0]}").calibration is None
    end = RunFiles(folder / "journal", found.run_id).record("end")
    kept = json.loads(end["calibration"])
    assert kept["held_out"] == json.loads(json.dumps(found.reliability))


def test_a_start_with_probabilities_keeps_its_own(tmp_path: Path) -> None:
    first = runs.calibrate(ACCOUNTS, make_spec()).spec
    found = runs.run(ACCOUNTS, first, limits=runs.Limits(5), journal=tmp_path / "journal")
    with Journal(tmp_path / "journal") as journal:
        start = checkout(journal, f"{found.run_id}/start")
    assert start.calibration == first.calibration


def test_without_a_holdout_nothing_is_checked(tmp_path: Path) -> None:
    found = runs.run(
        ACCOUNTS, make_spec(), limits=runs.Limits(3), journal=tmp_path / "j", holdout=0.0
    )
    assert found.spec.calibration is not None
    assert found.reliability is None


def test_replay_and_resume_give_it_again(ran: tuple[runs.RunResult, Path], tmp_path: Path) -> None:
    found, made = ran
    folder = tmp_path / "again"
    shutil.copytree(made, folder)
    assert runs.replay(found.run_id, journal=folder / "journal").identical
    files = RunFiles(folder / "journal", found.run_id)
    files.end.unlink()
    files.seal.unlink()
    again = runs.resume(found.run_id, journal=folder / "journal")
    assert again.spec.calibration is not None
    assert found.spec.calibration is not None
    assert again.spec.calibration.steps == found.spec.calibration.steps
    assert again.digest == found.digest


def test_explain_says_it_in_a_sentence(ran: tuple[runs.RunResult, Path]) -> None:
    found, _ = ran
    account = ACCOUNTS["account_id"][7]
    told = runs.explain(account, ACCOUNTS, found.spec)
    row = runs.score(ACCOUNTS, found.spec).filter(account_id=account).row(0, named=True)
    assert told.probability == row["probability"]
    assert found.spec.calibration is not None
    step = found.spec.calibration.step_of(row["score"])
    assert f"Of {step.accounts:,} accounts with scores from {step.from_:g}" in (
        told.probability_reading or ""
    )
    assert f"{step.left:,} left" in (told.probability_reading or "")
    assert runs.explain(account, ACCOUNTS, make_spec()).probability_reading is None


def test_a_later_table_says_how_it_aged(ran: tuple[runs.RunResult, Path], tmp_path: Path) -> None:
    found, folder = ran
    later = make_accounts(900, seed=77).with_columns(
        account_id=pl.col("account_id") + "-later",
        retained_6mo=pl.when(pl.int_range(pl.len()) % 2 == 0).then(0).otherwise("retained_6mo"),
    )
    later = later.with_columns(
        churned=1 - pl.col("retained_6mo"),
        mrr_end=pl.when(pl.col("retained_6mo") == 0).then(0.0).otherwise("mrr_end"),
    )
    later = later.with_columns(
        retained_6mo=pl.when(pl.col("won_back").is_null()).then("retained_6mo"),
        churned=pl.when(pl.col("won_back").is_null()).then("churned"),
        mrr_end=pl.when(pl.col("won_back").is_null()).then("mrr_end"),
    )
    chances = runs.score(later, found.spec)
    known = labelled(later.with_columns(chances["probability"]))
    judged = runs.backtest(later, spec=found.spec, journal=tmp_path / "none").reliability
    assert judged is not None
    assert judged.off
    assert judged.predicted == pytest.approx(known["probability"].mean())
    assert judged.observed == pytest.approx(known["churned"].mean())
    drifted = runs.drift(later, found.spec, journal=folder / "journal")
    assert found.spec.calibration is not None
    assert drifted.leaving == pytest.approx(
        (found.spec.calibration.base_rate, chances["probability"].mean())
    )
    assert drifted.leaving_sentence is not None
    assert drifted.leaving is not None
    assert f"{drifted.leaving[1]:.1%} of these accounts leave" in drifted.leaving_sentence


@pytest.mark.slow
def test_the_command_line_says_so(ran: tuple[runs.RunResult, Path], tmp_path: Path) -> None:
    found, folder = ran
    path = tmp_path / "best.yaml"
    path.write_text(specs.to_yaml(found.spec), "utf-8")

    def gtmar(words: str) -> str:
        done = CliRunner().invoke(app, words.split())
        assert done.exit_code in (0, 10), done.output
        return done.stdout

    data = f"--data {folder}/accounts.parquet"
    assert "accounts with scores from" in gtmar(
        f"explain {ACCOUNTS['account_id'][0]} {data} --spec {path}"
    )
    assert "By the spec's probabilities" in gtmar(
        f"drift {data} --spec {path} --against {folder}/accounts.parquet"
    )
    assert "Probabilities of leaving:" in gtmar(
        f"backtest {data} --spec {path} --journal {tmp_path}/j"
    )
    new = tmp_path / "new.yaml"
    said = gtmar(f"calibrate {path} {data} -o {new}")
    assert "On accounts held out. Probabilities of leaving:" in said
    following: list[Any] = said.splitlines()[-1].removeprefix("Next: gtmar ").split()
    assert CliRunner().invoke(app, following).exit_code == 0


@pytest.mark.slow
def test_a_decision_says_where_probabilities_are_off_and_asks_if_told(
    ran: tuple[runs.RunResult, Path],
) -> None:
    found, folder = ran
    where: dict[str, Any] = {"journal": folder / "journal"}
    plain = runs.decide(found.run_id, **where)
    assert plain.reliability is not None
    assert plain.reliability.accounts == (found.reliability or {})["accounts"]
    assert "calibration" not in {gate.name for gate in plain.gates}
    assert (plain.reliability.sentence in plain.headline) == plain.reliability.off
    off = replace(plain.reliability, difference=from_normal(0.1, 0.01, level=0.95, accounts=400))
    assert off.sentence in replace(plain, reliability=off).headline
    error = plain.reliability.calibration_error.value
    assert error is not None
    for most, passed in ((error + 1e-6, True), (error - 1e-6, False)):
        gates = Gates(max_calibration_error=most)
        [gate] = [
            g
            for g in runs.decide(found.run_id, gates=gates, **where).gates
            if g.name == "calibration"
        ]
        assert gate.passed is passed
        assert gate.found.startswith(f"{error:.4f}, from ")
    with pytest.raises(UsageError, match="calibration error must be in"):
        Gates(max_calibration_error=2)
