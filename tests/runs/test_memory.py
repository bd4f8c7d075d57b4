"""A run over a known table begins from what earlier runs found, and says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gtmar import spec as specs
from gtmar.data.synthetic import generate
from gtmar.journal import writer
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify
from gtmar.optimize.hill_climb import Memory
from gtmar.runs import Limits, RunResult, replay, resume, run

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
SPEC = specs.load(EXAMPLE)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "accounts.parquet"
    generate("health_score", accounts=300, seed=4).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def taught(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    journal = tmp_path_factory.mktemp("taught") / "journal"
    return journal, run(table, SPEC, limits=Limits(150), seed=3, journal=journal)


@pytest.fixture
def journal(taught: tuple[Path, RunResult], tmp_path: Path) -> Path:
    return shutil.copytree(taught[0], tmp_path / "journal")


def rows_of(result: RunResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = RunFiles(Path(result.journal), result.run_id).rows().to_pylist()
    return rows


def memory_of(result: RunResult) -> Memory | None:
    start = RunFiles(Path(result.journal), result.run_id).record("start")
    assert (start["memory"] is None) == (start["memory_digest"] is None)
    memory = Memory.from_json(start["memory"]) if start["memory"] else None
    if memory is not None:
        assert memory.digest == start["memory_digest"]
    return memory


def test_a_second_run_says_what_is_known_and_starts_from_the_best(
    table: Path, taught: tuple[Path, RunResult], journal: Path
) -> None:
    first = taught[1]
    said: list[str] = []
    second = run(table, SPEC, limits=Limits(60), seed=3, journal=journal, announce=said.append)
    # The example's edges are those of its own table.
    [sentence, edges] = said
    assert edges.startswith(
        "The tiers' rule sets their edges anew on the accounts searched: A from"
    )
    assert "knows this table: 1 finished run, 151 weight vectors" in sentence
    assert f"{first.best_value:.4f} of {first.run_id}/{first.best_experiment}" in sentence
    rows = rows_of(second)
    assert (rows[1]["outcome"], rows[1]["proposer"]) == ("win", "memory")
    assert rows[1]["repeats"] == f"{first.run_id}/{first.best_experiment}"
    assert dict(rows[1]["weights"]) == first.weights
    # Measured anew, to the same value.
    assert rows[1]["value_after"] == first.best_value
    assert second.best_value is not None
    assert first.best_value is not None
    assert second.best_value >= first.best_value


def test_runs_of_the_other_orientation_teach_nothing(table: Path, journal: Path) -> None:
    """Equal weights have the value 1 - AUC there, so the best of one is the worst of the other."""
    turned = SPEC.model_copy(update={"orientation": "risk"})
    found = run(table, turned, limits=Limits(10), seed=3, journal=journal)
    assert memory_of(found) is None
    assert not [row for row in rows_of(found) if row["repeats"] is not None]


def test_known_rows_point_to_what_they_repeat_and_are_no_experiments(
    table: Path, taught: tuple[Path, RunResult], journal: Path
) -> None:
    first = taught[1]
    # The same seed from the same start: proposals meet known vectors once the best is blocked.
    second = run(table, SPEC, limits=Limits(40), seed=3, journal=journal)
    rows = rows_of(second)
    before = {row["experiment_id"]: row for row in rows_of(first)}
    known = [row for row in rows if row["outcome"] == "known"]
    assert known
    assert second.known == len(known)
    assert second.experiments == len(rows) - 1 - len(known) == 40
    assert [row["number"] for row in rows] == list(range(len(rows)))
    for row in known:
        run_id, _, experiment = row["repeats"].partition("/")
        assert run_id == first.run_id
        assert before[experiment]["weights"] == row["weights"]
        assert before[experiment]["value_after"] == row["value_after"]
        assert row["auc_roc_retain"] is None
        assert set(dict(row["nrr_by_tier"]).values()) == {None}
        assert dict(row["null_reasons"])["*"].endswith(row["repeats"])
        assert row["duration_us"] == 0
    evaluated = [row for row in rows if row["outcome"] != "known"]
    assert all(row["auc_roc_retain"] is not None for row in evaluated)


@pytest.mark.slow
def test_the_same_memory_and_seed_give_the_same_run_in_any_batch(
    table: Path, journal: Path, tmp_path: Path
) -> None:
    copies = [shutil.copytree(journal, tmp_path / f"copy{batch}") for batch in (1, 7, 0)]
    digests = {
        run(table, SPEC, limits=Limits(80), seed=3, journal=copy, batch=batch or None).digest
        for copy, batch in zip(copies, (1, 7, 0), strict=True)
    }
    assert len(digests) == 1
    cold = run(table, SPEC, limits=Limits(80), seed=3, journal=journal, cold=True)
    assert memory_of(cold) is None
    assert cold.known == 0
    assert cold.digest not in digests


@pytest.mark.slow
def test_a_run_with_memory_is_resumed_and_replayed_from_its_own_files_alone(
    table: Path, journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(
        table, SPEC, limits=Limits(90), seed=3, journal=shutil.copytree(journal, tmp_path / "w")
    )
    monkeypatch.setattr(writer, "FLUSH_ROWS", 20)
    monkeypatch.setattr("gtmar.runs.journaled_search._MEASURED_AT_ONCE", 10)
    cut = run(table, SPEC, limits=Limits(90), seed=3, journal=journal)
    assert cut.digest == whole.digest
    memory, files = memory_of(cut), RunFiles(journal, cut.run_id)
    assert memory is not None
    # Cut off after each of its parts but the last, with the teaching run gone.
    shutil.rmtree(RunFiles(journal, memory.runs[0]).records)
    files.end.unlink()
    files.seal.unlink()
    for part in files.parts[2:]:
        part.unlink()
    assert resume(cut.run_id, journal=journal).digest == whole.digest
    assert replay(cut.run_id, journal=journal).identical


@pytest.mark.parametrize(
    "other",
    [
        {"holdout": 0.2},
        {"metric": "revenue_capture_at_20"},
        {"spec": SPEC.model_copy(update={"base": 3})},
        {"spec": SPEC.model_copy(update={"tiers": {**SPEC.tiers, "A": SPEC.tiers["A"]}})},
    ],
    ids=["split", "objective", "scale", "nothing"],
)
def test_runs_over_anything_else_teach_nothing(
    table: Path, journal: Path, other: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    asked = {"spec": SPEC, **other}
    result = run(table, limits=Limits(5), seed=5, journal=journal, **asked)
    assert (memory_of(result) is None) == (request.node.callspec.id != "nothing")


def test_another_table_teaches_nothing(journal: Path) -> None:
    other = generate("health_score", accounts=301, seed=4)
    assert memory_of(run(other, SPEC, limits=Limits(5), journal=journal)) is None


def test_a_run_that_has_not_ended_teaches_nothing(
    table: Path, taught: tuple[Path, RunResult], journal: Path
) -> None:
    files = RunFiles(journal, taught[1].run_id)
    files.end.unlink()
    files.seal.unlink()
    assert memory_of(run(table, SPEC, limits=Limits(5), journal=journal)) is None


@pytest.mark.slow
def test_the_best_must_fit_the_bounds_and_pass_the_guardrails_of_now(
    table: Path, taught: tuple[Path, RunResult], journal: Path
) -> None:
    best = taught[1].weights
    name = max(best, key=lambda name: best[name])
    data = json.loads(specs.to_json(SPEC))
    data["features"][name]["max"] = best[name] - 1
    narrow = specs.parse(json.dumps(data))
    memory = memory_of(run(table, narrow, limits=Limits(5), journal=journal))
    assert memory is not None
    place = memory.names.index(name)
    assert all(vector[place] < best[name] for vector in memory.best)
    assert any(vector[place] >= best[name] for vector in memory.known)

    strict = SPEC.model_copy(
        update={"guardrails": (specs.Guardrail(metric="share_by_tier.A", max=0.001),)}
    )
    again = run(table, strict, limits=Limits(5), journal=journal)
    first = rows_of(again)[1]
    assert (first["proposer"], first["outcome"]) == ("memory", "blocked")
    assert verify(journal).sound


@pytest.mark.slow
def test_blocked_vectors_are_known_and_never_the_best(table: Path, tmp_path: Path) -> None:
    strict = SPEC.model_copy(
        update={"guardrails": (specs.Guardrail(metric="share_by_tier.A", max=0.001),)}
    )
    first = run(table, strict, limits=Limits(60), seed=1, journal=tmp_path)
    blocked = [row for row in rows_of(first) if row["outcome"] == "blocked"]
    assert blocked
    memory = memory_of(run(table, strict, limits=Limits(5), journal=tmp_path))
    assert memory is not None
    vectors = {tuple(dict(row["weights"])[name] for name in memory.names) for row in blocked}
    assert vectors <= set(memory.known)
    assert not vectors & set(memory.best)


def test_the_journal_of_runs_with_memory_reads_as_one_table(table: Path, journal: Path) -> None:
    run(table, SPEC, limits=Limits(40), seed=3, journal=journal)
    frame = pl.read_parquet(journal / "experiments" / "*" / "*.parquet", hive_partitioning=False)
    assert frame.filter(pl.col("outcome") == "known").height > 0
