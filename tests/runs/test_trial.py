"""A person's change is measured and journaled like any experiment, whatever the verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gtmar import spec as specs
from gtmar.data.synthetic import generate
from gtmar.errors import (
    AccountDataError,
    NotComparableError,
    NotResumableError,
    SpecError,
    UsageError,
)
from gtmar.integrations.jsonl_import import import_jsonl
from gtmar.journal import lookup
from gtmar.journal import review as reading
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify
from gtmar.metrics import all_metrics
from gtmar.runs import Limits, RunResult, replay, resume, run, try_weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
SPEC = specs.load(EXAMPLE)
NOTE = "VP of CS: weigh alerts higher"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trial") / "accounts.parquet"
    generate("health_score", accounts=400, seed=4).write_parquet(path)
    return path


def rows_of(result: RunResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = RunFiles(Path(result.journal), result.run_id).rows().to_pylist()
    return rows


def start_of(result: RunResult) -> dict[str, Any]:
    return RunFiles(Path(result.journal), result.run_id).record("start")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "outcome"), [({"alert_created": 15}, "win"), ({"alert_created": 0}, "lose")]
)
def test_a_change_is_journaled_with_who_and_why(
    table: Path, tmp_path: Path, weights: dict[str, int], outcome: str
) -> None:
    result = try_weights(table, SPEC, weights, note=NOTE, author="RevOps", journal=tmp_path)
    baseline, changed = rows_of(result)
    assert (changed["proposer"], changed["author"], changed["note"]) == ("human", "RevOps", NOTE)
    assert (baseline["author"], baseline["note"]) == (None, None)
    assert changed["outcome"] == outcome
    assert dict(changed["changes"]) == {
        "alert_created": {
            "before": SPEC.weights["alert_created"],
            "after": weights["alert_created"],
        }
    }
    assert dict(changed["weights"]) == {**SPEC.weights, **weights}
    start = start_of(result)
    assert (start["kind"], start["author"], start["note"]) == ("human", "RevOps", NOTE)
    assert verify(tmp_path).sound
    # The holdout is looked at only for what is worth it.
    assert (result.holdout is not None) == (outcome == "win")


@pytest.mark.slow
def test_it_measures_what_a_search_measures(table: Path, tmp_path: Path) -> None:
    searched = run(table, SPEC, limits=Limits(30), seed=3, journal=tmp_path)
    row = next(r for r in rows_of(searched) if r["parent"] == "exp_00000")
    weights = dict(row["weights"])
    changed = rows_of(try_weights(table, SPEC, weights, note=NOTE, journal=tmp_path))[1]
    for name in all_metrics():
        assert changed[name] == row[name], name
    assert changed["outcome"] == row["outcome"]


@pytest.mark.slow
def test_a_guardrail_blocks_a_person_too(table: Path, tmp_path: Path) -> None:
    guarded = SPEC.model_copy(
        update={"guardrails": (specs.Guardrail(metric="share_by_tier.A", max=0.001),)}
    )
    result = try_weights(table, guarded, {"alert_created": 15}, note=NOTE, journal=tmp_path)
    row = rows_of(result)[1]
    assert row["outcome"] == "blocked"
    assert "share_by_tier.A" in row["breaches"][0]
    assert result.wins == 0


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ({"alert_created": 5}, UsageError, "nothing to try: alert_created is 5 already"),
        ({"alert_creatd": 9}, SpecError, "alert_creatd"),
        ({"alert_created": 99}, SpecError, "alert_created"),
    ],
)
def test_what_cant_be_tried_writes_nothing(
    table: Path, tmp_path: Path, weights: dict[str, int], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        try_weights(table, SPEC, weights, note=NOTE, journal=tmp_path / "journal")
    with pytest.raises(AccountDataError):
        try_weights(tmp_path / "none.csv", SPEC, {"alert_created": 9}, note=NOTE, journal=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_change_cut_off_is_resumed_and_done_again(table: Path, tmp_path: Path) -> None:
    result = try_weights(table, SPEC, {"alert_created": 15}, note=NOTE, journal=tmp_path / "j")
    journal = shutil.copytree(tmp_path / "j", tmp_path / "copy")
    assert replay(result.run_id, journal=journal).identical
    files = RunFiles(journal, result.run_id)
    files.end.unlink()
    files.seal.unlink()
    files.parts[-1].unlink()
    again = resume(result.run_id, journal=journal)
    assert again.digest == result.digest
    assert rows_of(again)[1]["note"] == NOTE


@pytest.mark.slow
def test_a_change_links_to_the_experiment_that_it_starts_from(table: Path, tmp_path: Path) -> None:
    first = run(table, SPEC, limits=Limits(40), seed=3, journal=tmp_path)
    with Journal(tmp_path) as journal:
        best = lookup.checkout(journal, first.run_id)
    assert best.weights == first.weights
    assert best.objective == first.metric
    name = next(iter(best.weights))
    changed = try_weights(table, best, {name: best.weights[name] + 1}, note=NOTE, journal=tmp_path)
    start = start_of(changed)
    assert (start["parent_run"], start["parent_experiment"]) == (
        first.run_id,
        first.best_experiment,
    )


@pytest.mark.slow
def test_an_imported_run_is_not_done_again(table: Path, tmp_path: Path) -> None:
    line = {
        "experiment_id": "exp_1",
        "metric": "auc_roc_retain",
        "baseline_value": 0.6,
        "variant_value": 0.7,
        "outcome": "win",
        "changes": ["nps: 5 -> 12"],
        "weights_snapshot": {"nps": 12},
        "metrics": {},
    }
    (tmp_path / "old.jsonl").write_text(json.dumps(line), "utf-8")
    [run_id] = import_jsonl(tmp_path / "old.jsonl", tmp_path / "j").runs
    for again in (resume, replay):
        with pytest.raises(NotResumableError, match="was imported"):
            again(run_id, journal=tmp_path / "j", data=table)
    with Journal(tmp_path / "j") as journal:
        review = reading.review(journal, run_id)
        assert (review.emptied, review.hhi_reading) == ([], None)
        assert "isn't known here" in " ".join(review.verdict)
        with pytest.raises(SpecError, match="imported without its spec"):
            lookup.checkout(journal, run_id)
    import_jsonl(_with(tmp_path / "new.jsonl", line | {"variant_value": 0.8}), tmp_path / "j")
    with Journal(tmp_path / "j") as journal:
        runs = journal.sql("runs")["run_id"].to_list()
        with pytest.raises(NotComparableError, match="not known and not known"):
            reading.compare(journal, *runs)


def _with(path: Path, line: dict[str, Any]) -> Path:
    path.write_text(json.dumps(line), "utf-8")
    return path
