"""A run that was cut off ends as if it had not been; a run done again is the same."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import forks
import polars as pl
import pytest
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.data import synthetic
from gtmar.errors import JournalError, NotResumableError, RunNotFoundError
from gtmar.journal import writer
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles

session = import_module("gtmar.runs.session")
SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
EXPERIMENTS = 150


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "accounts.parquet"
    synthetic.generate("health_score", accounts=600).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    """The run that was never cut off."""
    journal = tmp_path_factory.mktemp("whole")
    limits = runs.Limits(EXPERIMENTS)
    return runs.run(table, SPEC, limits=limits, seed=11, journal=journal)


def start(table: Path, journal: Path) -> forks.Fork:
    """Begin the same run in a process that flushes often, so that kills fall between parts."""
    code = (
        "import sys\n"
        "from gtmar import runs\n"
        "from gtmar.journal import writer\n"
        "from gtmar.runs import journaled_search\n"
        "writer.FLUSH_ROWS, journaled_search._MEASURED_AT_ONCE = 30, 15\n"
        f"runs.run(sys.argv[1], sys.argv[2], limits=runs.Limits({EXPERIMENTS}), seed=11,"
        " journal=sys.argv[3])\n"
    )
    return forks.start(str(table), str(SPEC), str(journal), code=code)


def cut_off(table: Path, journal: Path, parts: int) -> str:
    """Kill a run with SIGKILL when it has written so many parts; return its id."""
    process = start(table, journal)
    deadline = time.monotonic() + 60
    while len(list(journal.glob("experiments/*/part-*.parquet"))) < parts:
        assert time.monotonic() < deadline
        assert process.wait(0) is None
        time.sleep(0.001)
    process.kill()
    return next(journal.glob("runs/*")).name.partition("=")[2]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_a_killed_run_resumes_to_the_same_digest(
    table: Path, whole: runs.RunResult, tmp_path: Path, attempt: int
) -> None:
    run_id = cut_off(table, tmp_path, parts=2 + attempt)
    with Journal(tmp_path) as journal:
        assert journal.sql("runs").height == 1
    assert not (tmp_path / "runs" / f"run_id={run_id}" / "end.parquet").exists()
    resumed = runs.resume(run_id, journal=tmp_path)
    assert resumed.digest == whole.digest
    assert resumed.weights == whole.weights
    assert (resumed.wins, resumed.experiments) == (whole.wins, EXPERIMENTS)
    assert resumed.holdout == whole.holdout
    assert runs.replay(run_id, journal=tmp_path).identical


def often(patch: pytest.MonkeyPatch) -> None:
    """Flush often, so that a run has several parts."""
    patch.setattr(writer, "FLUSH_ROWS", 50)
    patch.setattr("gtmar.runs.journaled_search._MEASURED_AT_ONCE", 30)


@pytest.fixture(scope="module")
def dead(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose process died before its end, several parts written."""
    journal = tmp_path_factory.mktemp("dead")
    record: Any = writer.RunWriter.record

    def die(_self: object, kind: str, _fields: object) -> None:
        if kind == "end":
            raise RuntimeError("died")
        record(_self, kind, _fields)

    with pytest.MonkeyPatch.context() as patch:
        often(patch)
        patch.setattr(writer.RunWriter, "record", die)
        limits = runs.Limits(EXPERIMENTS)
        with pytest.raises(RuntimeError, match="died"):
            runs.run(table, SPEC, limits=limits, seed=11, journal=journal)
    return journal


def half_done(dead: Path, journal: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Copy the run whose process died, to go on with; return its id."""
    often(monkeypatch)
    shutil.copytree(dead, journal, dirs_exist_ok=True)
    return next(journal.glob("runs/*")).name.partition("=")[2]


@pytest.mark.slow
def test_a_torn_last_part_is_passed_over_and_written_anew(
    dead: Path, whole: runs.RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = half_done(dead, tmp_path, monkeypatch)
    last = RunFiles(tmp_path, run_id).parts[-1]
    last.write_bytes(last.read_bytes()[:-200])
    with Journal(tmp_path) as journal:
        rows = journal.query("select count(*) as n from experiments")["n"].item()
    assert 0 < rows < EXPERIMENTS + 1
    assert runs.resume(run_id, journal=tmp_path).digest == whole.digest


@pytest.mark.slow
def test_a_missing_part_is_damage(
    dead: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = half_done(dead, tmp_path, monkeypatch)
    RunFiles(tmp_path, run_id).parts[2].unlink()
    with pytest.raises(JournalError, match="a part is missing or was changed"):
        runs.resume(run_id, journal=tmp_path)


@pytest.mark.slow
def test_a_run_that_still_runs_is_not_resumed(
    dead: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = half_done(dead, tmp_path, monkeypatch)
    with RunFiles(tmp_path, run_id).lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert RunFiles(tmp_path, run_id).running()
        with pytest.raises(JournalError, match="still running"):
            runs.resume(run_id, journal=tmp_path)
    assert not RunFiles(tmp_path, run_id).running()


def test_a_run_that_has_ended_is_not_resumed(whole: runs.RunResult) -> None:
    with pytest.raises(JournalError, match="has ended"):
        runs.resume(whole.run_id, journal=whole.journal)


@pytest.mark.slow
def test_another_table_is_refused_and_named(
    table: Path, dead: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = half_done(dead, tmp_path, monkeypatch)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    frame = pl.read_parquet(table)
    features = frame.with_columns(session_depth=pl.col("session_depth") * 0.5)
    with pytest.raises(NotResumableError, match=r"table \(features\)") as caught:
        runs.resume(run_id, journal=tmp_path, data=features)
    assert caught.value.facts["differing"] == ["table (features)"]
    outcomes = frame.with_columns(actual_ltv=pl.col("actual_ltv") + 1)
    for other in (outcomes, frame.head(599)):
        with pytest.raises(NotResumableError, match=r"table \(ids, outcomes or split\)"):
            runs.resume(run_id, journal=tmp_path, data=other)
    monkeypatch.setattr(session, "EVALUATOR_VERSION", 99)
    with pytest.raises(NotResumableError, match="evaluator version: 1 then, 99 now"):
        runs.resume(run_id, journal=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_moved_table_resumes_by_its_new_place(
    table: Path, dead: Path, whole: runs.RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved.csv"
    pl.read_parquet(table).sample(fraction=1, shuffle=True, seed=1).write_csv(moved)
    run_id = half_done(dead, tmp_path / "j", monkeypatch)
    assert runs.resume(run_id, journal=tmp_path / "j", data=moved).digest == whole.digest


def test_an_unknown_run(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="no start record"):
        runs.resume("r1", journal=tmp_path)


@pytest.mark.slow
def test_replay_names_the_first_value_that_differs(
    table: Path, whole: runs.RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = runs.replay(whole.run_id, journal=whole.journal)
    assert same.identical
    assert same.digest == whole.digest
    assert same.experiments == EXPERIMENTS
    monkeypatch.setattr("gtmar.optimize.surrogate_proposer._FIRST_RADIUS", 0.4)
    other = runs.replay(whole.run_id, journal=whole.journal)
    assert not other.identical
    assert other.difference is not None
    assert other.difference["then"] != other.difference["now"]


@pytest.mark.slow
def test_the_commands(
    dead: Path, whole: runs.RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = half_done(dead, tmp_path / "j", monkeypatch)
    journal = ["--journal", str(tmp_path / "j")]
    best = tmp_path / "best.yaml"
    done = CliRunner().invoke(app, ["resume", run_id, *journal, "--json", "-o", str(best)])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["digest"] == whole.digest
    assert best.exists()
    again = CliRunner().invoke(app, ["replay", *journal])
    assert again.exit_code == 0
    assert f"all {EXPERIMENTS} experiments are the same" in " ".join(again.stdout.split())
    assert json.loads(CliRunner().invoke(app, ["replay", *journal, "--json"]).stdout)["identical"]
