"""A run that begins with fitted weights: journaled, done again, rehearsed on other outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gtmar import runs
from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.scan import scan
from gtmar.data.synthetic import generate
from gtmar.errors import UsageError
from gtmar.journal.files import RunFiles
from gtmar.runs.plan import given_at_start
from gtmar.runs.session import ended_run, repeated_search
from gtmar.validation.resampling import shuffled

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
SPEC = specs.load(EXAMPLE)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "accounts.parquet"
    generate("health_score", accounts=800, seed=4).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def done(table: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    journal = tmp_path_factory.mktemp("start") / "journal"
    return runs.run(
        table,
        SPEC,
        limits=runs.Limits(40),
        start="logistic",
        journal=journal,
        metric="auc_roc_retain",
    )


def rows_of(result: runs.RunResult) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = RunFiles(Path(result.journal), result.run_id).rows().to_pylist()
    return rows


def test_fitted_weights_are_the_first_experiments_after_the_spec(done: runs.RunResult) -> None:
    rows = rows_of(done)
    assert dict(rows[0]["weights"]) == SPEC.weights
    by = [row["proposer"] for row in rows[1:]]
    fitted = by.count("logistic")
    assert 1 <= fitted <= 3
    assert by == ["logistic"] * fitted + ["learned"] * (len(by) - fitted)
    assert rows[1]["outcome"] == "win"
    assert rows[1]["value_after"] > rows[0]["value_after"]


def test_the_run_is_done_again_from_its_record(done: runs.RunResult, table: Path) -> None:
    start = RunFiles(Path(done.journal), done.run_id).record("start")
    parameters = dict(start["parameters"])
    assert parameters["start"] == "logistic"
    assert len(parameters["given"].split()) == sum(
        row["proposer"] == "logistic" for row in rows_of(done)
    )
    assert runs.replay(done.run_id, journal=done.journal, data=table).identical


def test_a_start_that_is_the_spec_leaves_the_record_as_it_was(table: Path, tmp_path: Path) -> None:
    plain = runs.run(table, SPEC, limits=runs.Limits(5), journal=tmp_path)
    start = RunFiles(tmp_path, plain.run_id).record("start")
    assert {"start", "given"} & set(dict(start["parameters"])) == set()


@pytest.mark.slow
def test_fitted_weights_come_before_those_remembered(
    done: runs.RunResult, table: Path, tmp_path: Path
) -> None:
    first = runs.run(
        table, SPEC, limits=runs.Limits(20), seed=1, journal=tmp_path, metric=done.metric
    )
    warm = runs.run(
        table, SPEC, limits=runs.Limits(20), journal=tmp_path, start="logistic", metric=done.metric
    )
    by = [row["proposer"] for row in rows_of(warm)[1:]]
    assert by[0] == "logistic"
    assert "memory" in by
    assert warm.best_value is not None
    assert first.best_value is not None
    assert warm.best_value >= first.best_value


def test_a_rehearsal_fits_the_start_to_the_outcomes_at_hand(
    done: runs.RunResult, table: Path
) -> None:
    session = ended_run(done.run_id, done.journal, table)
    search = repeated_search(session)
    again = search.over(session.accounts.search)
    assert dict(zip(done.weights, again.weights, strict=True)) == done.weights
    noise = shuffled(session.accounts.search, seed=1, number=1)
    own = given_at_start("logistic", session.accounts.search, SPEC)
    other = search.given(noise) if search.given else None
    assert own is not None
    assert other is not None
    assert other.vectors != own.vectors


@pytest.mark.slow
def test_the_holdout_is_not_looked_at(table: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(table).drop("mrr_end")
    held = rows_held_out(frame)
    wild = frame.with_columns(
        pl.when(held).then(1 - pl.col(name)).otherwise(name).alias(name)
        for name in ("retained_6mo", "churned")
        if name in frame.columns
    )
    assert not wild.equals(frame)
    found = [
        runs.run(
            each,
            SPEC,
            limits=runs.Limits(5),
            journal=tmp_path / str(i),
            start="logistic",
            metric="auc_roc_retain",
        )
        for i, each in enumerate((frame, wild))
    ]
    given = [
        [row["weights"] for row in rows_of(each) if row["proposer"] == "logistic"] for each in found
    ]
    assert given[0] == given[1] != []


def rows_held_out(frame: pl.DataFrame) -> pl.Series:
    from gtmar.data.split import holdout_mask

    split = SPEC.split
    return pl.Series(
        holdout_mask(frame[SPEC.id or "account_id"], share=split.holdout, salt=split.salt)
    )


def test_an_unknown_start_is_refused_before_anything_is_written(
    table: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        runs.run(table, SPEC, journal=tmp_path / "journal", start="logistics")
    assert caught.value.message == 'no start "logistics"; there are spec, logistic'
    assert caught.value.hint == "--start logistic"
    assert not (tmp_path / "journal").exists()


def test_a_table_that_says_of_nobody_whether_they_stayed(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(200)],
            "x": draw.random(200),
            "actual_ltv": draw.random(200) * 100 + 1,
        }
    )
    spec = first_spec(scan(frame)).spec
    with pytest.raises(UsageError, match='start "logistic" is fitted to who stayed'):
        runs.run(frame, spec, journal=tmp_path / "journal", start="logistic")
    assert not (tmp_path / "journal").exists()


@pytest.mark.slow
def test_a_scorecard_begins_with_fitted_points(table: Path, tmp_path: Path) -> None:
    spec = first_spec(scan(table), bins=True).spec
    found = runs.run(table, spec, limits=runs.Limits(3), journal=tmp_path, start="logistic")
    weights = [term.min <= found.weights[term.name] <= term.max for term in spec.terms]
    assert all(weights)
    assert found.wins >= 1
