"""Searches done again on shuffled outcomes and on resampled accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec

from gtmar import runs
from gtmar import spec as specs
from gtmar.data import synthetic
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import NotResumableError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.metrics import measure
from gtmar.runs.session import ended_run, repeated_search
from gtmar.validation.repeated_search import Chance
from gtmar.validation.resampling import halved, repeated, shuffled

WEIGHTS = (20, 25, 30, -8)
EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


def noise_table(n: int, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            **{f"x{i}": draw.random(n) for i in range(8)},
            "retained_6mo": (draw.random(n) < 0.7).astype(int),
        }
    )


# ---- resampling ------------------------------------------------------------------------------


def test_a_repeated_matrix_measures_as_a_table_with_repeated_rows() -> None:
    table = make_accounts(120, seed=4)
    spec = make_spec(split={"holdout": 0})
    matrix = load_accounts(scan(table), spec).search
    times = np.random.default_rng(2).integers(0, 4, matrix.accounts)
    drawn = repeated(matrix, times)
    both = repeated(matrix, np.full(matrix.accounts, 2))
    twice = load_accounts(
        scan(pl.concat([table, table.with_columns(pl.col("account_id") + "b")])), spec
    ).search
    frames = [LocalEvaluator(m, spec).frame([WEIGHTS]) for m in (both, twice)]
    assert frames[0].equals(frames[1])
    assert drawn.accounts == times.sum()
    assert not drawn.columns[0].flags.writeable
    # Sums of accounts add up: those that stand k times count k times.
    [whole, *parts] = (
        LocalEvaluator(m, spec).frame([WEIGHTS])
        for m in (drawn, *(repeated(matrix, np.where(times == k, k, 0)) for k in (1, 2, 3)))
    )
    for name in ("scored", "score_sum", "start[A]", "end[B]", "activated[C]", "ltv_accounts"):
        assert whole[name].item() == sum(part[name].item() for part in parts), name


def test_shuffling_keeps_outcomes_whole_and_breaks_what_ties_them_to_features() -> None:
    table = synthetic.generate("health_score", accounts=3_000, seed=2)
    spec = specs.load(EXAMPLE)
    matrix = load_accounts(scan(table), spec).search
    other = shuffled(matrix, seed=5, number=1)
    start = [term.weight for term in spec.terms]
    one, two = (
        measure(LocalEvaluator(m, spec).frame([start]), spec.tier_names, m.outcomes).values
        for m in (matrix, other)
    )
    # All accounts together are what they were; their order by score says nothing any more.
    for name in ("score_mean", "revenue_capture_ceiling", "scored"):
        assert one[name].item() == two[name].item()
    assert one["auc_roc_retain"].item() > 0.58
    assert two["auc_roc_retain"].item() == pytest.approx(0.5, abs=0.04)
    assert other.start is matrix.start
    assert all(
        (np.sort(a) == np.sort(b)).all() for a, b in zip(matrix.columns, other.columns, strict=True)
    )
    again, next_one = (shuffled(matrix, seed=5, number=n) for n in (1, 2))
    assert (again.columns[1] == other.columns[1]).all()
    assert (next_one.columns[1] != other.columns[1]).any()


def test_two_draws_are_two_halves_of_a_whole_and_others_are_of_another() -> None:
    spec = make_spec(split={"holdout": 0})
    matrix = load_accounts(scan(make_accounts(301, seed=1)), spec).search
    one, other, same, later = (halved(matrix, seed=1, number=n) for n in (1, 2, 1, 3))
    assert (one.accounts, other.accounts) == (150, 151)
    assert (one.codes == same.codes).all()
    assert (one.columns[1] == same.columns[1]).all()
    assert sorted([*one.columns[1], *other.columns[1]]) == sorted(matrix.columns[1])
    assert (one.columns[1] != later.columns[1]).any()


# ---- the search again ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("proposer", ["random", "learned"])
def test_a_rehearsal_finds_what_the_run_found(proposer: str, tmp_path: Path) -> None:
    table = synthetic.generate("health_score", accounts=600, seed=3)
    table.write_parquet(tmp_path / "accounts.parquet")
    found = runs.run(
        tmp_path / "accounts.parquet",
        EXAMPLE,
        limits=runs.Limits(150, patience=60),
        journal=tmp_path / "journal",
        proposer=proposer,
    )
    session = ended_run(found.run_id, tmp_path / "journal")
    done = repeated_search(session).over(session.accounts.search)
    assert done.weights == session.best
    assert dict(zip(found.weights, done.weights, strict=True)) == found.weights
    assert (done.start_value, done.value) == (found.baseline_value, found.best_value)
    assert done.experiments == found.experiments


@pytest.mark.slow
def test_a_warm_run_is_held_against_searches_of_all_experiments_behind_it(tmp_path: Path) -> None:
    table = synthetic.generate("health_score", accounts=400, seed=3)
    table.write_parquet(tmp_path / "accounts.parquet")
    for seed in (0, 1):
        runs.run(
            tmp_path / "accounts.parquet",
            EXAMPLE,
            limits=runs.Limits(40),
            seed=seed,
            journal=tmp_path / "journal",
        )
    with Journal(tmp_path / "journal") as journal:
        latest = journal.run_id()
    found = runs.null_search(latest, journal=tmp_path / "journal", searches=2)
    assert found.experiments >= 80


# ---- null ------------------------------------------------------------------------------------


def test_p_value_counts_the_run_among_the_searches() -> None:
    assert Chance(0.05, (0.01, 0.02, 0.06, 0.05)).p_value == 3 / 5
    assert Chance(0.05, (0.01,) * 19).p_value == 1 / 20


def test_where_less_is_better_less_is_as_good() -> None:
    less = Chance(0.2, (0.1, 0.2, 0.3, 0.4), sign=-1)
    assert less.p_value == 3 / 5
    assert less.quantile(0.5) == pytest.approx(0.25)
    # 95 % of the searches found no less than this.
    assert less.quantile(0.95) == pytest.approx(0.115)


@pytest.mark.slow
def test_noise_is_called_noise_and_a_signal_is_not(tmp_path: Path) -> None:
    noise_table(300).write_parquet(tmp_path / "noise.parquet")
    synthetic.generate("health_score", accounts=800).write_parquet(tmp_path / "signal.parquet")
    how: dict[str, Any] = {"limits": runs.Limits(40), "journal": tmp_path / "j"}
    noise = runs.run(tmp_path / "noise.parquet", **how, folds=0)
    signal = runs.run(
        tmp_path / "signal.parquet", EXAMPLE, limits=runs.Limits(40), journal=tmp_path / "j"
    )
    assert noise.wins > 3
    ids = [noise.run_id, signal.run_id]
    tested = [runs.null_search(i, journal=tmp_path / "j", searches=19) for i in ids]
    assert tested[0].p_value > 0.05
    assert tested[0].typical > 0.02, "a search in noise finds gains too"
    assert tested[1].p_value == 1 / 20
    assert tested[1].found > tested[1].high
    # A first spec is made from the outcomes; its encoders are fitted anew to each draw.
    assert tested[0].sentences[0].startswith("Nothing here shows that the score knows anything")
    assert [text.partition(":")[0] for text in tested[1].sentences] == [
        "The score knows something",
        "It is better than the start",
    ]
    assert not verify(tmp_path / "j").findings
    with Journal(tmp_path / "j") as journal:
        kinds = journal.query("select kind, run_id from events").rows()
        assert journal.sql("checks/events").is_empty()
    assert sorted(kinds) == sorted(("null", run_id) for run_id in ids)


@pytest.mark.slow
def test_what_can_not_be_done_again_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "accounts.parquet"
    synthetic.generate("health_score", accounts=400).write_parquet(table)
    found = runs.run(table, EXAMPLE, limits=runs.Limits(5), journal=tmp_path / "j")
    with pytest.raises(UsageError, match="searches must be 1 or more, got 0; seed must be in"):
        runs.null_search(found.run_id, journal=tmp_path / "j", searches=0, seed=-1)
    tried = runs.try_weights(table, EXAMPLE, {"alert_created": 9}, note="n", journal=tmp_path / "j")
    with pytest.raises(UsageError, match=f"run {tried.run_id} is of kind human, not a search"):
        runs.stability(tried.run_id, journal=tmp_path / "j")
    (tmp_path / "j" / "runs" / f"run_id={found.run_id}" / "end.parquet").unlink()
    with pytest.raises(NotResumableError, match=f"run {found.run_id} has not ended"):
        runs.null_search(found.run_id, journal=tmp_path / "j")
    assert not list((tmp_path / "j").glob("events/*"))


# ---- stability -------------------------------------------------------------------------------


@pytest.mark.slow
def test_answers_are_the_same_however_many_processes_search(tmp_path: Path) -> None:
    synthetic.generate("health_score", accounts=300).write_parquet(tmp_path / "a.parquet")
    journal = tmp_path / "journal"
    run_id = runs.run(
        tmp_path / "a.parquet", EXAMPLE, limits=runs.Limits(20), start="logistic", journal=journal
    ).run_id
    told: list[tuple[int, int]] = []
    for again, several in ((runs.null_search, 3), (runs.stability, 2)):
        found = [
            again(
                run_id,
                journal=journal,
                searches=4,
                workers=workers,
                watch=lambda *done: told.append(done),
            ).as_json()
            for workers in (1, several)
        ]
        assert len({each.pop("event_id") for each in found}) == 2
        assert found[0] == found[1]
    assert told == 2 * [(n, 8) for n in range(1, 9)] + 2 * [(n, 4) for n in range(1, 5)]


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> runs.FoundStability:
    folder = tmp_path_factory.mktemp("stable")
    synthetic.generate("health_score", accounts=2_500).write_parquet(folder / "a.parquet")
    found = runs.run(
        folder / "a.parquet", EXAMPLE, limits=runs.Limits(300), journal=folder / "journal"
    )
    return runs.stability(found.run_id, journal=folder / "journal", searches=16)


@pytest.mark.slow
def test_planted_signals_hold_and_planted_noise_does_not(stable: runs.FoundStability) -> None:
    readings = {weight.name: weight.reading for weight in stable.weights}
    for name in ("alert_created", "session_depth", "activation_speed"):
        assert readings[name] == "holds", name
    assert "noise" in {readings["noise_feature_1"], readings["noise_feature_2"]}


def test_the_ends_enclose_the_median_and_shares_are_shares(stable: runs.FoundStability) -> None:
    for weight in stable.weights:
        assert weight.low <= weight.middle <= weight.high
        assert 0 <= weight.sign_held <= 1
        assert (weight.direction_held is None) == (weight.found == weight.start)
