"""A run: a function of table, spec and seed, whole in its journal, blind to its holdout."""

import dataclasses
import hashlib
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import reference
import tables
from machine_code import ready_after

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.data.synthetic import generate
from gtmar.engine import local
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import AccountDataError, GtmarError, SpecError, UsageError, ViolationsError
from gtmar.metrics import all_metrics, measure
from gtmar.objective.objective import Judge
from gtmar.runs import DEFAULT_PROPOSER, Limits, Progress, RunResult, check, run, score
from gtmar.runs.journaled_search import Search, start_record
from gtmar.runs.plan import Plan

Row = dict[str, Any]

EXAMPLE = Path(__file__).parents[1] / "golden" / "fixed_edges.yaml"
TABLE = generate("health_score", accounts=300, seed=4)
SPEC = specs.load(EXAMPLE)
#: What says when and how fast, and where: nothing of it is a result.
INCIDENTAL = {"run_id", "evaluated_at", "duration_us"}
TIMED = {"run_id", "ended_at", "seconds"}


def experiments_of(result: RunResult) -> list[Row]:
    folder = Path(result.journal) / "experiments" / f"run_id={result.run_id}"
    parts = sorted(folder.glob("part-*.parquet"))
    frame = pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in parts])
    return frame.to_dicts()


def record_of(result: RunResult, kind: str) -> Row:
    path = Path(result.journal) / "runs" / f"run_id={result.run_id}" / f"{kind}.parquet"
    return pl.read_parquet(path, hive_partitioning=False).row(0, named=True)


def without(row: Row, names: set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def in_holdout(identifier: str, share: float = 0.3, salt: str = "gtmar") -> bool:
    """Draw the holdout as any database would."""
    drawn = hashlib.md5(f"{salt}:{identifier}".encode(), usedforsecurity=False).hexdigest()
    return int(drawn[:8], 16) / 16**8 < share


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    journal = tmp_path_factory.mktemp("run") / "journal"
    return run(
        TABLE,
        SPEC,
        limits=Limits(120),
        seed=3,
        journal=journal,
        author="ann",
        note="why not",
    )


@pytest.fixture(scope="module")
def rows(done: RunResult) -> list[Row]:
    return experiments_of(done)


# ---- the same run ---------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_any_batch_is_the_same_run(tmp_path: Path, done: RunResult, batch: int) -> None:
    again = run(TABLE, SPEC, limits=Limits(120), seed=3, journal=tmp_path, batch=batch)
    assert again.digest == done.digest
    first, second = experiments_of(done), experiments_of(again)
    assert [without(row, INCIDENTAL) for row in first] == [
        without(row, INCIDENTAL) for row in second
    ]
    assert without(record_of(done, "end"), TIMED) == without(record_of(again, "end"), TIMED)


def shuffled(folder: Path) -> pl.DataFrame:
    return TABLE.sample(fraction=1.0, shuffle=True, seed=1)


def columns_turned(folder: Path) -> pl.DataFrame:
    return TABLE.select(TABLE.columns[::-1])


def parquet(folder: Path) -> Path:
    TABLE.write_parquet(folder / "accounts.parquet", row_group_size=70)
    return folder / "accounts.parquet"


def csv(folder: Path) -> Path:
    TABLE.write_csv(folder / "accounts.csv")
    return folder / "accounts.csv"


def two_files(folder: Path) -> str:
    TABLE[:100].write_parquet(folder / "b.parquet", compression="snappy")
    TABLE[100:].write_parquet(folder / "a.parquet")
    return str(folder / "*.parquet")


@pytest.mark.parametrize("stored", [shuffled, columns_turned, parquet, csv, two_files])
def test_rows_files_and_formats_do_not_matter(
    tmp_path: Path, done: RunResult, stored: Callable[[Path], Any]
) -> None:
    again = run(stored(tmp_path), SPEC, limits=Limits(120), seed=3, journal=tmp_path / "journal")
    assert again.digest == done.digest
    one, two = record_of(done, "start"), record_of(again, "start")
    for column in ("outcomes_fingerprint", "features_fingerprint", "spec_id", "score_id"):
        assert one[column] == two[column]


def test_a_spec_is_taken_from_its_file(tmp_path: Path, done: RunResult) -> None:
    assert run(TABLE, EXAMPLE, limits=Limits(120), seed=3, journal=tmp_path).digest == done.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"metric": "nrr_at_20"},
        {"limits": Limits(119)},
        {"holdout": 0.2},
    ],
)
def test_anything_else_is_another_run(
    tmp_path: Path, done: RunResult, changes: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"limits": Limits(120), "seed": 3, **changes}
    assert run(TABLE, SPEC, journal=tmp_path, **asked).digest != done.digest


def test_another_table_is_another_run(tmp_path: Path, done: RunResult) -> None:
    first = pl.int_range(pl.len()) == 0
    other = TABLE.with_columns(
        alert_created=pl.when(first).then(1 - pl.col("alert_created")).otherwise("alert_created")
    )
    assert run(other, SPEC, limits=Limits(120), seed=3, journal=tmp_path).digest != done.digest


def test_a_shorter_run_is_the_beginning_of_a_longer_one(tmp_path: Path, rows: list[Row]) -> None:
    short = run(TABLE, SPEC, limits=Limits(50), seed=3, journal=tmp_path)
    begun = [without(row, INCIDENTAL) for row in experiments_of(short)]
    assert begun == [without(row, INCIDENTAL) for row in rows[:51]]


# ---- when it stops --------------------------------------------------------------------------


def test_n_counts_experiments_really_evaluated(done: RunResult, rows: list[Row]) -> None:
    assert (done.state, done.experiments, len(rows)) == ("finished", 120, 121)
    end = record_of(done, "end")
    assert end["experiments"] == 120
    assert end["proposals"] == rows[-1]["proposal"] >= 120


def test_no_experiment_leaves_the_baseline(tmp_path: Path) -> None:
    result = run(TABLE, SPEC, limits=Limits(0), seed=3, journal=tmp_path)
    assert (result.state, result.experiments, result.wins) == ("finished", 0, 0)
    assert result.best_value == result.baseline_value
    assert result.best_experiment == "exp_00000"
    assert result.weights == SPEC.weights
    assert not result.improved
    [row] = experiments_of(result)
    assert row["outcome"] == "baseline"


@pytest.mark.parametrize("patience", [1, 5, 20])
@pytest.mark.parametrize("batch", [None, 1, 64])
def test_patience_ends_a_run_that_wins_no_more(
    tmp_path: Path, patience: int, batch: int | None, rows: list[Row]
) -> None:
    limits = Limits(120, patience=patience)
    result = run(TABLE, SPEC, limits=limits, seed=3, journal=tmp_path, batch=batch)
    # The first stretch of that length without a win in the run that had no such limit.
    outcomes = "".join("w" if row["outcome"] == "win" else "." for row in rows[1:])
    at = outcomes.find("." * patience)
    if at < 0:
        assert (result.state, result.experiments) == ("finished", 120)
    else:
        assert (result.state, result.experiments) == ("patience", at + patience)


def test_no_time_is_no_experiment(tmp_path: Path) -> None:
    result = run(TABLE, SPEC, limits=Limits(50, seconds=0.0), journal=tmp_path)
    assert (result.state, result.experiments) == ("time_budget", 0)


def test_a_time_budget_only_fixes_where_a_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Row]
) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr("gtmar.runs.journaled_search.time.perf_counter", lambda: float(next(clock)))
    limits = Limits(120, seconds=20.0)
    result = run(TABLE, SPEC, limits=limits, seed=3, journal=tmp_path, batch=5)
    assert result.state == record_of(result, "end")["state"] == "time_budget"
    assert 0 < result.experiments < 120
    assert record_of(result, "end")["experiments"] == result.experiments
    begun = [without(row, INCIDENTAL) for row in experiments_of(result)]
    assert begun == [without(row, INCIDENTAL) for row in rows[: result.experiments + 1]]


SMALL = tables.make_spec((1, 0, 0), bounds=(0, 1))


def small_table(seed: int = 1) -> pl.DataFrame:
    drawn = tables.draw_table(random.Random(seed), 60, "retained")
    return tables.frame_of(drawn, "retained")


@pytest.mark.slow
def test_a_search_without_new_vectors_is_exhausted_whatever_the_batch(tmp_path: Path) -> None:
    # Eight vectors in all. What the journal says of the end must not depend on the batch.
    ends = []
    for batch in (1, 7, 64, None):
        result = run(
            small_table(),
            SMALL,
            limits=Limits(500),
            seed=1,
            journal=tmp_path,
            batch=batch,
            cold=True,
        )
        assert result.state == "exhausted"
        assert result.experiments <= 7
        weights = [tuple(row["weights"].values()) for row in experiments_of(result)]
        assert len(set(weights)) == len(weights)
        ends.append(without(record_of(result, "end"), TIMED))
    assert ends[1:] == ends[:1] * 3


def test_fixed_weights_alone_leave_nothing_to_search(tmp_path: Path) -> None:
    spec = tables.make_spec((5, 5, 5), bounds=(5, 5))
    result = run(small_table(), spec, limits=Limits(50), journal=tmp_path)
    assert (result.state, result.experiments) == ("exhausted", 0)
    assert len(experiments_of(result)) == 1


def test_an_interruption_keeps_what_was_found(tmp_path: Path, rows: list[Row]) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.experiments >= 30:
            signal.raise_signal(signal.SIGINT)

    result = run(
        TABLE, SPEC, limits=Limits(120), seed=3, journal=tmp_path, batch=6, watch=interrupt
    )
    assert result.state == record_of(result, "end")["state"] == "interrupted"
    assert 30 <= result.experiments < 40
    begun = [without(row, INCIDENTAL) for row in experiments_of(result)]
    assert begun == [without(row, INCIDENTAL) for row in rows[: result.experiments + 1]]


# ---- what is journaled ----------------------------------------------------------------------


def test_numbers_have_no_holes_and_parents_are_the_incumbents(rows: list[Row]) -> None:
    assert [row["number"] for row in rows] == list(range(121))
    assert [row["experiment_id"] for row in rows] == [f"exp_{n:05d}" for n in range(121)]
    baseline, *others = rows
    assert baseline["outcome"] == baseline["proposer"] == "baseline"
    assert (baseline["parent"], baseline["value_before"], baseline["proposal"]) == (None, None, 0)
    assert baseline["changes"] == {}
    assert baseline["weights"] == SPEC.weights
    incumbent, last = baseline, 0
    for row in others:
        assert row["parent"] == incumbent["experiment_id"]
        assert row["value_before"] == incumbent["value_after"]
        assert row["proposal"] > last
        last = row["proposal"]
        assert row["changes"]
        changed = {
            name: {"before": incumbent["weights"][name], "after": weight}
            for name, weight in row["weights"].items()
            if weight != incumbent["weights"][name]
        }
        assert row["changes"] == changed
        better = row["value_after"] - incumbent["value_after"] > 1e-12
        assert row["outcome"] == ("win" if better else "lose")
        if row["outcome"] == "win":
            incumbent = row
        assert row["proposer"] == DEFAULT_PROPOSER == "learned"
    assert sum(row["outcome"] == "win" for row in rows) > 5
    assert len({tuple(row["weights"].values()) for row in rows}) == 121


def test_weights_stay_within_their_bounds(rows: list[Row]) -> None:
    for term in SPEC.terms:
        found = [row["weights"][term.name] for row in rows]
        assert term.min <= min(found) <= max(found) <= term.max


def test_every_value_is_that_of_a_fresh_full_evaluation(rows: list[Row]) -> None:
    accounts = load_accounts(scan(TABLE), SPEC)
    sums = LocalEvaluator(accounts.search, SPEC).frame([[*row["weights"].values()] for row in rows])
    measured = measure(sums, SPEC.tier_names, accounts.checked.outcomes)
    values = Judge.of(SPEC).values(sums)
    for index, row in enumerate(rows):
        assert row["value_after"] == values[index]
        assert {key: row[key] for key in all_metrics()} == measured.row(index)
        assert row["null_reasons"] == measured.reasons[index]
        assert row["objective"] == "auc_roc_retain"
        assert row["value_after"] == row["auc_roc_retain"]
        assert row["basis"] == "observed"
        assert row["duration_us"] >= 0
    times = [row["evaluated_at"] for row in rows]
    assert times == sorted(times)


def test_the_start_says_what_was_asked(done: RunResult) -> None:
    start = record_of(done, "start")
    assert start["record"] == "start"
    assert (start["seed"], start["author"], start["note"]) == (3, "ann", "why not")
    parameters = start["parameters"]
    assert parameters["n"] == "120"
    assert parameters["holdout"] == "0.3"
    assert "patience" not in parameters
    assert specs.parse(start["spec"]) == SPEC
    assert (start["spec_id"], start["score_id"]) == (specs.spec_id(SPEC), specs.score_id(SPEC))
    assert start["tiers"] == ["A", "B", "C", "D"]
    held_out = sum(in_holdout(i) for i in TABLE["account_id"])
    assert (start["accounts"], start["accounts_dropped"]) == (300, 0)
    assert (start["search_accounts"], start["holdout_accounts"]) == (300 - held_out, held_out)
    assert set(start["packages"]) >= {"gtmar", "polars", "numpy", "duckdb", "pyarrow"}
    assert start["ended_at"] is None


def test_the_result_is_what_the_journal_says(done: RunResult, rows: list[Row]) -> None:
    end = record_of(done, "end")
    wins = [row for row in rows if row["outcome"] == "win"]
    assert done.wins == end["wins"] == len(wins)
    best = wins[-1]
    assert done.best_experiment == end["best_experiment"] == best["experiment_id"]
    assert done.best_value == end["best_value"] == best["value_after"]
    assert done.baseline_value == end["baseline_value"] == rows[0]["value_after"]
    assert done.weights == best["weights"]
    assert done.metrics == {key: best[key] for key in all_metrics()}
    assert done.digest == end["digest"]
    assert done.holdout is not None
    assert done.holdout["baseline_value"] == end["holdout_baseline_value"]
    assert done.holdout["best_value"] == end["holdout_best_value"]
    assert done.holdout["metrics"] == json.loads(end["holdout_best_metrics"])
    assert done.holdout["baseline_metrics"] == json.loads(end["holdout_baseline_metrics"])
    assert done.experiments_per_second == pytest.approx(120 / done.seconds)
    plain = done.as_json()
    assert json.loads(json.dumps(plain))["weights"] == done.weights
    assert plain["in_sample"] is False


def test_the_found_spec_gives_the_best_value(done: RunResult) -> None:
    assert done.spec.lineage is not None
    assert (done.spec.lineage.run, done.spec.lineage.experiment) == (
        done.run_id,
        done.best_experiment,
    )
    assert done.spec.lineage.parent_spec_id == specs.spec_id(SPEC)
    again = specs.parse(specs.to_yaml(done.spec))
    assert again == done.spec
    assert check(TABLE, again).objective_value == done.best_value


@pytest.mark.parametrize("part", ["search", "holdout"])
def test_values_are_those_of_the_definition(done: RunResult, part: str) -> None:
    # The accounts by the documented draw, their scores by `score`, the value by the reference.
    scores = score(TABLE, done.spec)
    held = [in_holdout(identifier) for identifier in TABLE["account_id"]]
    inside = [
        {"standing": value, "retained": retained, "won_back": won_back}
        for value, retained, won_back, out in zip(
            scores["score"], TABLE["retained_6mo"], TABLE["won_back"], held, strict=True
        )
        if out == (part == "holdout")
    ]
    assert done.holdout is not None
    found = done.best_value if part == "search" else done.holdout["best_value"]
    assert tables.agree(found, float(reference.auc_retain(inside) or 0))
    if part == "holdout":
        assert done.holdout["accounts"] == len(inside)


# ---- the holdout ----------------------------------------------------------------------------


def test_the_search_never_sees_the_holdout(tmp_path: Path, done: RunResult) -> None:
    # Other accounts' features and outcomes take the place of the holdout's own.
    held = pl.Series([in_holdout(identifier) for identifier in TABLE["account_id"]])
    others = generate("health_score", accounts=300, seed=99).drop("account_id")
    changed = TABLE.select(
        "account_id",
        *(
            pl.when(held).then(others[name]).otherwise(pl.col(name)).alias(name)
            for name in others.columns
        ),
    )
    again = run(changed, SPEC, limits=Limits(120), seed=3, journal=tmp_path)
    assert again.digest == done.digest
    first, second = experiments_of(done), experiments_of(again)
    assert [without(row, INCIDENTAL) for row in first] == [
        without(row, INCIDENTAL) for row in second
    ]
    assert again.holdout is not None
    assert done.holdout is not None
    assert again.holdout["best_value"] != done.holdout["best_value"]


def test_without_a_holdout_the_run_is_in_sample(tmp_path: Path) -> None:
    result = run(TABLE, SPEC, limits=Limits(5), journal=tmp_path, holdout=0)
    assert result.holdout is None
    assert result.as_json()["in_sample"] is True
    start, end = record_of(result, "start"), record_of(result, "end")
    assert (start["search_accounts"], start["holdout_accounts"]) == (300, 0)
    names = [name for name in end if name.startswith("holdout_") and name != "holdout_accounts"]
    assert len(names) == 4
    assert {end[name] for name in names} == {None}


# ---- guardrails and direction ---------------------------------------------------------------


def test_what_breaks_a_guardrail_is_blocked_with_its_breaches(tmp_path: Path) -> None:
    guardrails = (specs.Guardrail(metric="share_by_tier.A", max=0.2),)
    spec = SPEC.model_copy(update={"guardrails": guardrails})
    result = run(TABLE, spec, limits=Limits(80), seed=3, journal=tmp_path)
    rows = experiments_of(result)
    blocked = [row for row in rows if row["outcome"] == "blocked"]
    assert blocked
    for row in blocked:
        share = row["share_by_tier"]["A"]
        assert share > 0.2
        assert row["breaches"] == [f"share_by_tier.A {share:.4g} > max 0.2"]
        assert row["value_after"] > row["value_before"]
    assert all(row["breaches"] == [] for row in rows if row["outcome"] != "blocked")
    assert all(row["share_by_tier"]["A"] <= 0.2 for row in rows if row["outcome"] == "win")


def test_less_wins_where_less_is_better(tmp_path: Path) -> None:
    metric = "contraction_rate_by_tier.B"
    result = run(TABLE, SPEC, metric=metric, limits=Limits(60), seed=3, journal=tmp_path)
    values = [r["value_after"] for r in experiments_of(result) if r["outcome"] == "win"]
    assert values
    assert values == sorted(values, reverse=True)
    assert result.best_value is not None
    assert result.baseline_value is not None
    assert result.best_value < result.baseline_value
    assert result.higher_is_better is False
    assert result.spec.objective == metric


# ---- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        pytest.param({"data": TABLE.drop("session_depth")}, ViolationsError, id="no feature"),
        pytest.param(
            {"data": TABLE.with_columns(mrr=-pl.col("mrr") - 1)}, ViolationsError, id="negative mrr"
        ),
        pytest.param(
            {"data": TABLE.drop("retained_6mo", "churned", "mrr_end")}, AccountDataError, id="null"
        ),
        pytest.param({"data": "no/such/file.parquet"}, AccountDataError, id="no file"),
        pytest.param({"spec": "no/such/spec.yaml"}, SpecError, id="no spec"),
        pytest.param({"metric": "no_such_metric"}, UsageError, id="no metric"),
        pytest.param({"metric": "nrr_by_tier"}, UsageError, id="no tier"),
        pytest.param({"seed": -1}, UsageError, id="seed below 0"),
        pytest.param({"seed": 2**63}, UsageError, id="seed beyond Int64"),
        pytest.param({"limits": Limits(-1)}, UsageError, id="n below 0"),
        pytest.param({"limits": Limits(5, patience=-1)}, UsageError, id="patience below 0"),
        pytest.param({"limits": Limits(5, seconds=-1.0)}, UsageError, id="seconds below 0"),
        pytest.param({"batch": 0}, UsageError, id="batch of none"),
        pytest.param({"batch": -1}, UsageError, id="batch below 0"),
        pytest.param({"holdout": -0.1}, UsageError, id="holdout below 0"),
        pytest.param({"holdout": 1.0}, UsageError, id="holdout of all"),
        pytest.param({"holdout": float("nan")}, UsageError, id="holdout of nan"),
    ],
)
def test_nothing_is_written_on_bad_input(
    tmp_path: Path, asked: dict[str, Any], error: type[GtmarError]
) -> None:
    journal = tmp_path / "journal"
    usual: dict[str, Any] = {"data": TABLE, "spec": SPEC, "limits": Limits(5), **asked}
    with pytest.raises(error):
        run(journal=journal, **usual)
    assert not journal.exists()


def test_seeds_may_be_as_large_as_a_journal_holds(tmp_path: Path) -> None:
    result = run(small_table(), SMALL, limits=Limits(2), seed=2**63 - 1, journal=tmp_path)
    assert record_of(result, "start")["seed"] == 2**63 - 1


# ---- who watches ----------------------------------------------------------------------------


def test_whoever_watches_sees_every_batch(tmp_path: Path, rows: list[Row]) -> None:
    seen: list[Progress] = []
    result = run(
        TABLE, SPEC, limits=Limits(40), seed=3, journal=tmp_path, batch=8, watch=seen.append
    )
    assert seen[-1].experiments == 40
    assert [p.experiments for p in seen] == sorted({p.experiments for p in seen})
    for progress in seen:
        begun = rows[1 : progress.experiments + 1]
        wins = [row for row in begun if row["outcome"] == "win"]
        assert progress.wins == len(wins)
        assert progress.best == (wins[-1] if wins else rows[0])["value_after"]
        assert progress.baseline == result.baseline_value
        assert (progress.run_id, progress.limit) == (result.run_id, 40)


# ---- where the table came from --------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("s3://key:secret@bucket/a.parquet", "s3://bucket/a.parquet"),
        ("https://host:8080/a.csv?token=secret#part", "https://host:8080/a.csv"),
        ("postgresql://ann:secret@host:5432/db", "postgresql://ann@host:5432/db"),
        ("data/accounts@2026?.parquet", "data/accounts@2026?.parquet"),
        ("C:\\data\\accounts.parquet", "C:\\data\\accounts.parquet"),
        ("frame", "frame"),
    ],
)
def test_credentials_are_taken_out_of_a_source(source: str, kept: str) -> None:
    accounts = tables.loaded(small_table(), SMALL)
    accounts = dataclasses.replace(
        accounts, table=dataclasses.replace(accounts.table, source=source)
    )
    search = Search(accounts, SMALL, Judge.of(SMALL), Plan(limits=Limits(1)))
    assert start_record(search)["source"] == kept


# ---- accounts left out ----------------------------------------------------------------------


def test_accounts_without_an_outcome_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = small_table()
    bare = pl.DataFrame({"account_id": ["bare"], **{name: [0.5] for name in tables.FEATURES}})
    more = pl.concat([frame, bare], how="diagonal")
    with pytest.raises(ViolationsError):
        run(more, SMALL, limits=Limits(3), journal=tmp_path)
    one = run(more, SMALL, limits=Limits(3), journal=tmp_path, drop_unlabelled=True)
    two = run(frame, SMALL, limits=Limits(3), journal=tmp_path, cold=True)
    assert one.digest == two.digest
    start = record_of(one, "start")
    assert (start["accounts"], start["accounts_dropped"]) == (frame.height, 1)


def test_of_a_table_with_mrr_alone_those_without_it_are_left_out() -> None:
    frame = pl.DataFrame(
        {
            "account_id": ["a", "b", "c"],
            **{name: [0.1, 0.2, 0.3] for name in tables.FEATURES},
            "mrr": [10.0, None, 30.0],
        }
    )
    accounts = load_accounts(scan(frame), tables.make_spec(), drop_unlabelled=True)
    assert (accounts.checked.dropped, accounts.search.accounts) == (1, 2)


@pytest.mark.parametrize(("compiler", "sentences"), [(True, 1), (False, 0)])
def test_that_machine_code_is_being_compiled_is_said_once_and_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, compiler: bool, sentences: int
) -> None:
    ready_after(monkeypatch, kernel=10**6, proposer=10**6)
    monkeypatch.setattr(local, "compiler_runs", lambda: compiler)
    said: list[str] = []
    limits = Limits(2_000, proposals=20)
    run(TABLE, SPEC, limits=limits, journal=tmp_path, announce=said.append)
    assert ["in the background" in sentence for sentence in said] == [True] * sentences
