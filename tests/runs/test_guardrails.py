"""Guardrails that compare with the start, through whole runs: one verdict, wherever it is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import AccountDataError, NotResumableError
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.objective.guardrails import Guard
from gtmar.objective.objective import Judge
from gtmar.runs.plan import Engine
from gtmar.runs.session import ended_run, repeated_search

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = runs.Limits(120)
GUARDRAILS = {
    "worst_segment_change": {"min": -0.005},
    "segment_gap": {"max": 0.3},
    "moved_share": {"max": 0.2},
    "gain": {"min": 0.004},
}
ALL = [{"metric": name, **limit} for name, limit in GUARDRAILS.items()]


def table(n: int = 2_000, seed: int = 1, *, apac: float = -3.0) -> pl.DataFrame:
    """Accounts that `x0` keeps everywhere but in apac, where it drives them away."""
    draw = np.random.default_rng(seed)
    x = {f"x{i}": draw.random(n) for i in range(4)}
    region = np.where(draw.random(n) < 0.3, "apac", "emea")
    logit = (x["x0"] - 0.5) * np.where(region == "apac", apac, 4.0) + x["x1"] - 0.5
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            "region": region,
            **x,
            "retained_6mo": (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


def spec_with(guardrails: list[dict[str, Any]], **more: Any) -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(
        {
            "model": "guarded",
            "id": "account_id",
            "base": 30,
            "segments": ["region"],
            "guardrails": guardrails,
            "features": {f"x{i}": {"weight": 10, "min": -25, "max": 25} for i in range(4)},
            "tiers": {
                "A": {"min": 60, "max": 101},
                "B": {"min": 45, "max": 60},
                "C": {"min": 0, "max": 45},
            },
            **more,
        }
    )


TABLE = table()


def rows_of(journal: Path, run: str) -> list[dict[str, Any]]:
    with Journal(journal) as opened:
        return opened.query(
            "select * from experiments where run_id = getvariable('run') order by number", run=run
        ).to_dicts()


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    """A run that no guardrail holds back."""
    journal = tmp_path_factory.mktemp("free")
    return runs.run(TABLE, spec_with([]), limits=LIMITS, journal=journal, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", GUARDRAILS)
def test_what_is_kept_respects_it_and_what_is_blocked_says_what_broke(
    tmp_path: Path, free: runs.RunResult, name: str
) -> None:
    spec = spec_with([{"metric": name, **GUARDRAILS[name]}])
    found = runs.run(TABLE, spec, limits=LIMITS, journal=tmp_path / "j", seed=2)
    assert found.digest != free.digest
    rows = rows_of(tmp_path / "j", found.run_id)
    blocked = [row for row in rows if row["outcome"] == "blocked"]
    assert blocked
    assert all(text.startswith(name) for row in blocked for text in row["breaches"])
    assert all(row["breaches"] == [] for row in rows if row["outcome"] != "blocked")
    wins = [row for row in rows if row["outcome"] == "win"]
    assert wins
    matrix, judge = load_accounts(scan(TABLE), spec).search, Judge.of(spec)
    guard = Guard(matrix, spec, judge, [10] * 4)
    evaluator = LocalEvaluator(matrix, spec)
    for row in [*wins, *blocked]:
        weights = [dict(row["weights"])[f"x{i}"] for i in range(4)]
        frame = evaluator.frame([weights])
        said = guard.breaches(frame, weights, row["value_after"], row["value_before"])
        assert list(said) == row["breaches"]
    assert not verify(tmp_path / "j").findings


@pytest.mark.slow
@pytest.mark.parametrize("proposer", runs.PROPOSERS)
def test_batches_order_and_memory_of_the_machine_give_one_digest(
    tmp_path: Path, proposer: str
) -> None:
    spec = spec_with(ALL)
    digests = set()
    for place, (frame, batch, engine) in enumerate(
        (
            (TABLE, None, None),
            (TABLE, 1, None),
            (TABLE.sample(fraction=1, shuffle=True, seed=3), 7, None),
            (TABLE, 64, Engine(memory=0)),
        )
    ):
        found = runs.run(
            frame,
            spec,
            limits=LIMITS,
            seed=2,
            batch=batch,
            engine=engine,
            proposer=proposer,
            journal=tmp_path / str(place),
        )
        digests.add(found.digest)
    assert len(digests) == 1
    outcomes = {row["outcome"] for row in rows_of(tmp_path / "0", runs_in(tmp_path / "0"))}
    assert {"win", "blocked", "lose"} <= outcomes


def runs_in(journal: Path) -> str:
    with Journal(journal) as opened:
        return opened.run_id(None)


@pytest.mark.slow
def test_a_run_cut_off_goes_on_and_is_replayed_the_same(tmp_path: Path) -> None:
    spec, journal = spec_with(ALL), tmp_path / "j"
    TABLE.write_parquet(tmp_path / "a.parquet")
    whole = runs.run(tmp_path / "a.parquet", spec, limits=LIMITS, seed=2, journal=tmp_path / "w")

    class CutOffError(Exception):
        pass

    def cut(progress: runs.Progress) -> None:
        if progress.experiments > 40:
            raise CutOffError

    with pytest.raises(CutOffError):
        runs.run(tmp_path / "a.parquet", spec, limits=LIMITS, seed=2, journal=journal, watch=cut)
    resumed = runs.resume(runs_in(journal), journal=journal)
    assert resumed.digest == whole.digest
    assert runs.replay(resumed.run_id, journal=journal).identical


def test_another_segment_of_one_account_is_another_table(tmp_path: Path) -> None:
    spec = spec_with(ALL)
    found = runs.run(TABLE, spec, limits=runs.Limits(5), journal=tmp_path)
    other = TABLE.with_columns(
        region=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("amer")).otherwise("region")
    )
    with pytest.raises(NotResumableError, match=r"table \(segments\): \w+ then, \w+ now"):
        runs.replay(found.run_id, journal=tmp_path, data=other)


def test_a_persons_change_that_breaches_is_blocked_and_says_why(tmp_path: Path) -> None:
    spec = spec_with([{"metric": "worst_segment_change", "min": -0.005}])
    found = runs.try_weights(TABLE, spec, {"x0": 25}, note="x0 counts", journal=tmp_path)
    assert found.wins == 0
    [_, row] = rows_of(tmp_path, found.run_id)
    assert row["outcome"] == "blocked"
    assert row["value_after"] > row["value_before"]
    [said] = row["breaches"]
    assert said.endswith("< min -0.005 in region=apac")


@pytest.mark.slow
def test_a_memory_helps_across_guardrails_and_its_best_is_held_against_them(
    tmp_path: Path,
) -> None:
    runs.run(TABLE, spec_with([], segments=[]), limits=LIMITS, journal=tmp_path, seed=2)
    spec = spec_with([{"metric": "worst_segment_change", "min": -0.005}])
    said: list[str] = []
    found = runs.run(TABLE, spec, limits=LIMITS, journal=tmp_path, seed=3, announce=said.append)
    assert said[0].startswith("The journal knows this table")
    rows = rows_of(tmp_path, found.run_id)
    assert rows[1]["proposer"] == "memory"
    assert rows[1]["outcome"] == "blocked"
    assert runs.replay(found.run_id, journal=tmp_path, data=TABLE).identical


@pytest.mark.slow
def test_a_rehearsal_keeps_what_the_run_keeps(tmp_path: Path) -> None:
    spec = spec_with(ALL)
    found = runs.run(TABLE, spec, limits=LIMITS, seed=2, journal=tmp_path)
    session = ended_run(found.run_id, tmp_path, TABLE)
    done = repeated_search(session).over(session.accounts.search)
    assert done.value == found.best_value
    assert dict(zip(("x0", "x1", "x2", "x3"), done.weights, strict=True)) == found.weights


def test_a_limit_that_nothing_can_answer_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    spec = spec_with([{"metric": "segment_gap", "max": 0.1}])
    one = TABLE.with_columns(region=pl.lit("emea"))
    with pytest.raises(AccountDataError, match=r'"segment_gap": 1 of 1 segments have 50 accounts'):
        runs.run(one, spec, limits=LIMITS, journal=tmp_path / "j")
    assert not (tmp_path / "j").exists()
    notes = runs.check(one, spec).notes
    assert any(
        note.startswith("Guardrail segment_gap can't be asked here: 1 of 1") for note in notes
    )
    broken = runs.check(TABLE, spec_with([{"metric": "segment_gap", "max": 0.01}, *ALL[2:]])).notes
    assert [note.split(" 0.")[0] for note in broken if "guardrail" in note] == [
        "The start breaks a guardrail, segment_gap"
    ]


@pytest.mark.slow
def test_a_decision_asks_them_of_the_holdout_and_the_specs_segments(tmp_path: Path) -> None:
    found = runs.run(TABLE, spec_with([]), limits=LIMITS, seed=2, journal=tmp_path / "j")
    done = runs.decide(found.run_id, journal=tmp_path / "j", data=TABLE)
    assert done.stated.segments == ("region",)
    segments = [gate.name for gate in done.gates if "segment" in gate.name]
    assert segments == ["segment region=apac", "segment region=emea"]
    train, later = table(apac=4.0), table(seed=9)
    done = runs.refresh(
        train,
        later.with_columns(account_id=pl.concat_str(pl.lit("b"), "account_id")),
        spec_with([{"metric": "worst_segment_change", "min": -0.005}]),
        limits=LIMITS,
        journal=tmp_path / "r",
    )
    [gate] = [g for g in done.gates if g.name == "guardrails"]
    assert gate.outcome == "failed"
    assert gate.found.startswith("worst_segment_change -0.")
    assert gate.found.endswith("< min -0.005 in region=apac")


@pytest.mark.slow
def test_the_commands_refuse_with_the_count_and_show_what_broke(tmp_path: Path) -> None:
    limits = [{"metric": "worst_segment_change", "min": -0.005}]
    TABLE.with_columns(city=pl.int_range(pl.len())).write_parquet(tmp_path / "a.parquet")
    for name, spec in (
        ("good", spec_with(limits)),
        ("bad", spec_with(limits, segments=["region", "city"])),
    ):
        (tmp_path / f"{name}.yaml").write_text(specs.to_yaml(spec), "utf-8")
    data = ["--data", str(tmp_path / "a.parquet")]
    journal = ["--journal", str(tmp_path / "j")]
    for command in (["check"], ["run", "--n", "5", *journal]):
        refused = CliRunner().invoke(app, [*command, *data, "--spec", str(tmp_path / "bad.yaml")])
        assert refused.exit_code == 3
        assert 'column "city": has 2,000 values, more than 100 segments' in refused.stderr
    assert not (tmp_path / "j").exists()
    good = ["--spec", str(tmp_path / "good.yaml")]
    change = ["--set", "x0=25", "--note", "x0 counts", "--json"]
    tried = CliRunner().invoke(app, ["try", *data, *good, *change, *journal])
    assert tried.exit_code == 0, tried.output
    run = json.loads(tried.stdout)["run_id"]
    shown = CliRunner().invoke(app, ["show", f"{run}/exp_00001", *journal])
    assert "worst_segment_change -0." in shown.stdout
    assert "in region=apac" in shown.stdout
