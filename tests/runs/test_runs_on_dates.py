"""Runs, decisions and proofs on a table of several dates: accounts stay whole in each."""

from __future__ import annotations

import csv
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from benchmarks import panel as panels
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gtmar import runs
from gtmar.api import Run
from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import Source, scan
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import AccountDataError, NotResumableError
from gtmar.journal.catalog import Journal
from gtmar.journal.review import review
from gtmar.objective.guardrails import Guard
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.validation.gates import Gates, smallest_gain
from gtmar.validation.resampling import halved, shuffled

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.runs import RunResult
    from gtmar.spec.model import ScoringSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("panel")
    number = pl.col("account_id").str.tail(1).cast(pl.Int64)
    plan = pl.when(number < 5).then(pl.lit("pro")).otherwise(pl.lit("free"))
    table = panels.accounts(240, 3).with_columns(plan=plan, health=pl.col("x0") * 100)
    for (day,), part in table.partition_by("features_asof", as_dict=True).items():
        own = place / "accounts" / f"features_asof={day}"
        own.mkdir(parents=True)
        part.drop("features_asof").write_parquet(own / "accounts.parquet")
    return place


@pytest.fixture(scope="module")
def spec() -> ScoringSpec:
    own = panels.spec()
    return own.model_copy(update={"split": own.split.model_copy(update={"holdout": 0.4})})


@pytest.fixture(scope="module")
def done(folder: Path, spec: ScoringSpec) -> RunResult:
    source = Source(str(folder / "accounts"), at=panels.AT)
    return runs.run(source, spec, limits=Limits(60), journal=folder / "journal")


def test_a_run_counts_accounts_and_not_their_rows(folder: Path, done: RunResult) -> None:
    assert done.holdout is not None
    assert done.by_date is not None
    parts = done.by_date["parts"]
    assert parts["searched"]["accounts"] + parts["held_out"]["accounts"] == 240
    assert parts["searched"]["rows"] + parts["held_out"]["rows"] == 1_920
    assert done.holdout["accounts"] == parts["held_out"]["accounts"]
    assert f"on {done.holdout['accounts']:,} accounts never seen" in done.sentences[0]
    with Journal(folder / "journal") as journal:
        [row] = journal.query("select * from runs").to_dicts()
        found = review(journal, done.run_id)
    assert (row["accounts"], row["search_accounts"]) == (240, parts["searched"]["accounts"])
    parameters = dict(row["parameters"])
    assert parameters["at"] == panels.AT
    assert parameters["rows"] == "1920"
    assert parameters["dates"].split()[-1] == str(panels.DAYS[-1])
    assert found.dates[0].startswith("240 accounts on 8 dates, 1,920 rows. The gain holds in ")
    assert found.counted == "rows"
    assert json.loads(json.dumps(found.as_json()["by_date"])) == done.by_date


def test_what_a_date_shows_is_the_objective_on_its_rows(
    folder: Path, spec: ScoringSpec, done: RunResult
) -> None:
    judge, facts = Judge.of(spec, None), done.by_date
    assert facts is not None
    start = [term.weight for term in spec.terms]
    best = [done.weights[term.name] for term in spec.terms]
    for place, day in enumerate(facts["dates"]):
        one = scan(Source(str(folder / "accounts"), at=day))
        loaded = load_accounts(one, spec)
        assert loaded.holdout is not None
        for name, matrix in (("searched", loaded.search), ("held_out", loaded.holdout)):
            part = facts["parts"][name]
            values = judge.values(LocalEvaluator(matrix, spec).frame([start, best]))
            assert [part["before"][place], part["after"][place]] == values
            assert part["gained"][place] == ((values[1] or 0) > (values[0] or 0))
            assert part["rows_by_date"][place] == matrix.accounts
    # The sign of a weight holds where the objective is worse without it.
    loaded = load_accounts(scan(Source(str(folder / "accounts"), at=facts["dates"][2])), spec)
    assert loaded.holdout is not None
    for index, term in enumerate(spec.terms):
        without = [*best[:index], 0, *best[index + 1 :]]
        frame = LocalEvaluator(loaded.holdout, spec).frame([without, best])
        zero, own = judge.values(frame)
        if best[index]:
            assert facts["signs"][term.name][2] == ((own or 0) > (zero or 0)), term.name


@pytest.mark.slow
def test_a_run_is_done_again_from_its_record(folder: Path, done: RunResult) -> None:
    journal = folder / "journal"
    assert runs.replay(done.run_id, journal=journal).identical
    # Where the table has moved, its dates are those on record.
    moved = runs.replay(done.run_id, journal=journal, data=str(folder / "accounts"))
    assert moved.identical
    fewer = Source(str(folder / "accounts"), at=f"{panels.DAYS[0]}..{panels.DAYS[5]}")
    with pytest.raises(NotResumableError, match="table"):
        runs.replay(done.run_id, journal=journal, data=fewer)


@pytest.mark.slow
def test_on_how_many_dates_a_gain_holds_is_said_beside_it_everywhere(
    folder: Path, done: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gtmar` alone and a notebook showed the gain over all dates without it."""
    [dates] = done.dates_held
    assert "The gain holds in" in dates
    shown = Run(done)._repr_html_()
    assert shown.index(dates) < shown.index(done.sentences[0])
    monkeypatch.setenv("GTMAR_JOURNAL", str(folder / "journal"))
    printed = CliRunner().invoke(app, []).stdout
    assert printed.index(dates) < printed.index(done.sentences[0])


def test_a_frame_of_several_dates_is_read_by_the_dates_on_record(
    tmp_path: Path, spec: ScoringSpec
) -> None:
    frame, journal = panels.accounts(120, 8), tmp_path / "journal"
    ran = runs.run(scan(frame, at=panels.AT), spec, limits=Limits(10), journal=journal)
    assert runs.replay(ran.run_id, journal=journal, data=frame).identical


@pytest.mark.slow
def test_two_panels_of_the_same_customers_are_one_before_the_other(
    folder: Path, tmp_path: Path
) -> None:
    window = {"features_asof": "features_asof", "outcome_end": "outcome_end"}
    given = panels.spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    spec = type(panels.spec()).model_validate({**given, "window": window})
    table = panels.accounts(160, 5).with_columns(
        outcome_end=pl.col("features_asof").dt.offset_by("2mo")
    )
    # Of 160 accounts 40 come after the dates searched.
    new = pl.col("account_id").str.tail(3).cast(pl.Int64) >= 120
    middle = panels.DAYS[4]
    first = table.filter((pl.col("features_asof") < middle) & ~new)
    later = table.filter(pl.col("features_asof") >= middle)
    first.write_parquet(tmp_path / "first.parquet")
    later.write_parquet(tmp_path / "later.parquet")
    decided = runs.refresh(
        Source(str(tmp_path / "first.parquet"), at=f"{panels.DAYS[0]}..{panels.DAYS[3]}"),
        Source(str(tmp_path / "later.parquet"), at=f"{middle}..{panels.DAYS[7]}"),
        spec,
        limits=Limits(30),
        journal=tmp_path / "journal",
    )
    note = "120 accounts stand in both tables, the same customers; 40 of the holdout's are new."
    assert note in decided.notes
    assert decided.accounts == 160
    old, fresh = decided.customers
    assert (old.accounts, fresh.accounts) == (120, 40)
    own = scan(later.filter(~new), at=f"{middle}..{panels.DAYS[7]}")
    matrix = load_accounts(own, spec).search
    assert (
        old.before.value
        == Judge.of(spec).values(LocalEvaluator(matrix, spec).frame([panels.START]))[0]
    )
    with Journal(tmp_path / "journal") as opened:
        [text] = review(opened, decided.run_id).dates
    assert text.startswith(
        "120 accounts on 4 dates, 480 rows searched; 160 accounts on 4 dates, 640 rows held out."
    )
    assert runs.replay(decided.run_id, journal=tmp_path / "journal").identical


@pytest.mark.slow
def test_a_decision_is_on_accounts_and_lists_each_of_their_dates(
    folder: Path, done: RunResult
) -> None:
    out = folder / "decision"
    gates = Gates(segments=("plan",))
    decided = runs.decide(done.run_id, journal=folder / "journal", folder=out, gates=gates)
    assert done.holdout is not None
    assert decided.accounts == done.holdout["accounts"]
    assert decided.unseen.endswith(f"on 8 dates, {decided.accounts * 8:,} rows")
    interval = decided.intervals.gain["auc_roc_retain"]
    assert interval.accounts == decided.accounts
    # Fewer than 50 accounts of a segment are too few, however many rows they have.
    asked = {gate.name: gate for gate in decided.gates if gate.name.startswith("segment ")}
    found = [asked[f"segment plan={plan}"].found for plan in ("free", "pro")]
    sizes = [int(text.partition(" accounts")[0].split()[-1]) for text in found]
    assert sum(sizes) == decided.accounts
    for text, size in zip(found, sizes, strict=True):
        assert ("50 needed" in text) == (size < 50)
    with (out / "account_changes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1_920
    assert len({(row["account"], row["date"]) for row in rows}) == 1_920
    report = (out / "report.md").read_text("utf-8")
    assert f"{decided.accounts:,} accounts on 8 dates" in report
    assert "## Rows by tier" in report


@pytest.mark.slow
def test_what_is_of_one_day_takes_the_newest_date_and_says_which(
    folder: Path, done: RunResult
) -> None:
    last = panels.DAYS[-1]
    one = Source(str(folder / "accounts"), at=str(last))
    pooled = str(folder / "accounts")
    range_ = Source(pooled, at=panels.AT)
    alone = runs.account_list(one, done.spec)
    lines = runs.explain("a000001", one, done.spec).lines
    same = runs.difference(done.run_id + "/start", done.run_id, **at(folder, one))
    assert same.moved is not None
    for source in (range_, pooled):
        listed = runs.account_list(source, done.spec)
        explained = runs.explain("a000001", source, done.spec)
        assert (listed.newest, explained.newest) == (last, last)
        assert listed.rows.equals(alone.rows)
        assert listed.accounts == 240
        assert explained.lines == lines
        moved = runs.difference(done.run_id + "/start", done.run_id, **at(folder, source))
        assert moved.newest == last
        assert moved.moved is not None
        assert moved.moved.equals(same.moved)
        assert moved.equal_sizes == same.equal_sizes
    assert (alone.newest, same.newest) == (None, None)
    earlier = Source(pooled, at=f"{panels.DAYS[0]}..{panels.DAYS[2]}")
    assert runs.account_list(earlier, done.spec).newest == panels.DAYS[2]


def at(folder: Path, source: Any) -> dict[str, Any]:
    return {"journal": folder / "journal", "data": source}


def test_accounts_that_each_stand_once_are_all_taken_whatever_their_dates(
    done: RunResult,
) -> None:
    """Of a table whose dates are only when each account was looked at, none is left out."""
    table = panels.accounts(40, 3)
    number = pl.col("account_id").str.tail(1).cast(pl.Int64) % 8
    day = pl.int_range(pl.len()).over("account_id")
    each_once = table.filter(day == number)
    assert each_once["features_asof"].n_unique() > 2
    found = runs.account_list(each_once, done.spec, most=100)
    assert (found.newest, found.accounts) == (None, 40)


def test_days_before_count_from_the_newest_date(tmp_path: Path) -> None:
    last, first = panels.DAYS[-1], panels.DAYS[0]
    table = pl.DataFrame(
        {
            "account_id": ["a", "a", "b", "b"],
            "features_asof": [first, last] * 2,
            "seen": [first, last, first, first],
        }
    )
    spec = panels.spec()
    then = {"kind": "range", "from": 0, "to": 700, "invert": True}
    days = {"kind": "days_before", "then": then}
    features = {"seen": {"weight": 50, "min": 0, "max": 50, "encode": days}}
    given = {**spec.model_dump(mode="json", exclude_none=True), "features": features}
    own = type(spec).model_validate(given)
    found = {name: runs.explain(name, table, own).score for name in ("a", "b")}
    gone = (last - first).days
    assert found["a"] == 50
    assert found["b"] == pytest.approx(50 * (1 - gone / 700), abs=0.01)


def test_tiers_are_set_on_the_newest_date_whose_outcomes_are_over(
    tmp_path: Path, spec: ScoringSpec
) -> None:
    table = panels.accounts(200, 4)
    open_ = pl.col("features_asof") == panels.DAYS[-1]
    outcomes = [pl.when(~open_).then(pl.col(c)).alias(c) for c in ("retained_6mo", "mrr_end")]
    table = table.with_columns(outcomes)
    known = panels.DAYS[-2]
    how: dict[str, Any] = {"rule": "accounts", "sizes": {"A": 20, "B": 50, "C": 80}}
    found = runs.tiers_of(scan(table, at=panels.AT), spec, **how, journal=tmp_path / "j")
    alone = runs.tiers_of(scan(table, at=str(known)), spec, **how)
    assert (found.newest, alone.newest) == (known, None)
    assert found.lines == alone.lines
    assert [line.accounts for line in found.lines] == [20, 50, 80, 50]
    with Journal(tmp_path / "j") as journal:
        [row] = journal.query("select parameters['at'] as at, accounts from runs").to_dicts()
    assert row == {"at": str(known), "accounts": 200}


@pytest.mark.slow
def test_a_backtest_judges_each_date_and_all_rows_with_accounts_drawn(
    folder: Path, done: RunResult
) -> None:
    source = Source(str(folder / "accounts"), at=panels.AT)
    found = runs.backtest(source, score_column="health", journal=folder / "journal")
    table = panels.accounts(240, 3)
    health = (table["x0"] * 100).to_numpy()
    assert (found.accounts, found.rows) == (240, 1_920)
    pooled = found.intervals.before["auc_roc_retain"]
    assert pooled.value == pytest.approx(roc_auc_score(table["retained_6mo"], health), abs=1e-12)
    assert pooled.accounts == 240
    assert [each.day for each in found.by_date] == list(panels.DAYS)
    for each in found.by_date:
        one = table.filter(pl.col("features_asof") == each.day)
        value = roc_auc_score(one["retained_6mo"], one["x0"])
        assert each.intervals.before["auc_roc_retain"].value == pytest.approx(value, abs=1e-12)
        kept = each.intervals.before["logo_retention_by_tier.*"].value
        assert kept == pytest.approx(one["retained_6mo"].mean(), abs=1e-12)
        assert each.accounts == 240
    above = [each.intervals.before["auc_roc_retain"] for each in found.by_date]
    assert found.dates_sentence is not None
    better = sum((each.value or 0) > 0.5 for each in above)
    proven = sum((each.low or 0) > 0.5 for each in above)
    assert f"on {better} of 8 dates, on {proven} of them beyond chance" in found.dates_sentence
    # The lists name accounts of the newest date, each once.
    assert found.listed == panels.DAYS[-1]
    last = table.filter(pl.col("features_asof") == panels.DAYS[-1])
    edge = found.edges[0]
    left = last.filter(pl.col("x0") * 100 >= edge, pl.col("retained_6mo") == 0)
    assert sorted(found.green_and_churned["account"]) == sorted(left["account_id"])


@pytest.mark.slow
def test_a_candidate_is_held_against_the_score_on_each_date(folder: Path, done: RunResult) -> None:
    source = Source(str(folder / "accounts"), at=panels.AT)
    found = runs.backtest(source, score_column="health", spec=done.spec, journal=folder / "journal")
    assert done.holdout is not None
    assert found.accounts == done.holdout["accounts"]
    assert {each.accounts for each in found.by_date} == {found.accounts}
    assert done.by_date is not None
    held = done.by_date["parts"]["held_out"]["after"]
    values = [each.intervals.after["auc_roc_retain"].value for each in found.by_date]
    assert values == pytest.approx(held, abs=1e-12)
    assert found.in_sample is False
    shown = json.loads(json.dumps(found.as_json(), default=str))
    assert [each["day"] for each in shown["by_date"]] == [str(day) for day in panels.DAYS]


@pytest.mark.slow
def test_accounts_without_a_score_are_left_out_by_row(folder: Path) -> None:
    table = panels.accounts(120, 3).with_columns(health=pl.col("x0") * 100)
    bare = pl.col("features_asof") == panels.DAYS[0]
    table = table.with_columns(health=pl.when(~bare).then("health"))
    source = scan(table, at=panels.AT)
    with pytest.raises(AccountDataError, match="120 of 960 rows have no score"):
        runs.backtest(source, score_column="health", journal=folder / "j")
    found = runs.backtest(source, score_column="health", journal=folder / "j", drop_unscored=True)
    assert (found.accounts, found.rows, len(found.by_date)) == (120, 840, 7)


def test_customers_in_both_tables_are_counted_once(folder: Path, spec: ScoringSpec) -> None:
    table = panels.accounts(300, 9)
    early, late = f"{panels.DAYS[0]}..{panels.DAYS[3]}", f"{panels.DAYS[4]}..{panels.DAYS[7]}"
    number = pl.col("account_id").str.tail(1).cast(pl.Int64)
    first = table.filter(number < 8)
    ran = runs.run(
        scan(first, at=early),
        panels.spec(),
        limits=Limits(5),
        journal=folder / "again",
        holdout_file=scan(table, at=late),
    )
    said = next(note for note in ran.notes if "stand in both tables" in note)
    assert said == (
        "240 accounts stand in both tables, the same customers; 60 of the holdout's are new."
    )


def test_a_segment_of_few_accounts_is_unknown_however_many_rows_it_has(
    spec: ScoringSpec,
) -> None:
    number = pl.col("account_id").str.tail(2).cast(pl.Int64)
    plan = pl.when(number < 10).then(pl.lit("rare")).otherwise(pl.lit("usual"))
    table = panels.accounts(200, 3).with_columns(plan=plan)
    own = panels.spec().model_copy(update={"segments": ("plan",)})
    matrix = load_accounts(scan(table, at=panels.AT), own).search
    weights = [term.weight for term in own.terms]
    guard = Guard(matrix, own, Judge.of(own, None), weights)
    values = guard.segment_values(weights)
    # 20 accounts on eight dates are 160 rows.
    assert values["plan=rare"] is None
    assert values["plan=usual"] is not None


def test_a_score_of_several_dates_has_the_date_in_each_row(folder: Path, done: RunResult) -> None:
    scored = runs.score(Source(str(folder / "accounts"), at=panels.AT), done.spec)
    assert scored.columns[:3] == ["account_id", "features_asof", "score"]
    assert scored.height == 1_920


def _far(day: int, other: int) -> tuple[int, int]:
    return abs(other - day), other


def test_a_null_moves_whole_histories_and_a_resample_whole_accounts(spec: ScoringSpec) -> None:
    table = panels.accounts(50, 4)
    # Some accounts end early, as those do that leave.
    ends = pl.col("account_id").str.tail(1).cast(pl.Int64) + 1
    place = pl.int_range(pl.len()).over("account_id")
    table = table.filter(place <= ends)
    number = pl.col("account_id").str.tail(2).cast(pl.Int64)
    table = table.with_columns(x0=number / 1_000, x1=place / 1_000)
    matrix = load_accounts(scan(table, at=panels.AT), panels.spec()).search
    drawn = shuffled(matrix, seed=1, number=1)
    assert matrix.account_of is not None
    assert matrix.date_of is not None
    givers = drawn.columns[0] // 10
    for account in np.unique(matrix.account_of):
        rows = matrix.account_of == account
        [giver] = np.unique(givers[rows])
        of_giver = set((matrix.columns[1][matrix.account_of == giver] // 10).tolist())
        own = sorted(matrix.date_of[rows].tolist())
        taken = (drawn.columns[1][rows] // 10).tolist()
        order = np.argsort(matrix.date_of[rows])
        # The giver's row of the same date or, where it has none, of the nearest.
        nearest = [sorted(of_giver, key=partial(_far, day))[0] for day in own]
        assert [taken[i] for i in order] == nearest
    assert len(np.unique(givers)) == 50
    assert (drawn.codes == matrix.codes).all()
    again = halved(matrix, seed=1, number=2)
    assert again.account_of is not None
    sizes = np.bincount(matrix.account_of, minlength=50)
    times = np.bincount(again.account_of, minlength=50)
    assert (times % sizes == 0).all()
    # Half of the accounts, each with all of its rows.
    assert (times // sizes).sum() == 25
    assert times.max() == sizes.max()


def test_among_accounts_of_like_score_outcomes_stay_near(spec: ScoringSpec) -> None:
    matrix = load_accounts(scan(panels.accounts(400, 5), at=panels.AT), panels.spec()).search
    weights = [term.weight for term in panels.spec().terms]
    evaluator = LocalEvaluator(matrix, panels.spec())
    scores = evaluator.scores(weights)
    drawn = shuffled(matrix, seed=1, number=1, scores=scores)
    judge = Judge.of(panels.spec(), None)
    before, kept, lost = (
        judge.values(LocalEvaluator(each, panels.spec()).frame([weights]))[0] or 0.0
        for each in (matrix, drawn, shuffled(matrix, seed=1, number=1))
    )
    assert abs(lost - 0.5) < 0.06
    # The start still knows most of what it knew.
    assert before - 0.5 > kept - 0.5 > 0.6 * (before - 0.5)


def test_eight_dates_prove_a_smaller_gain_than_one(spec: ScoringSpec) -> None:
    own, table = panels.spec(), panels.accounts(300, 6)
    judge = Judge.of(own, None)
    found = []
    for at in (str(panels.DAYS[0]), panels.AT):
        matrix = load_accounts(scan(table, at=at), own).search
        found.append(smallest_gain(matrix, own, judge, accounts=300) or 0.0)
        assert matrix.distinct == 300
    # Eight times as many accounts would give 0.35; eight dates of the same ones give less.
    assert 0.36 < found[1] / found[0] < 0.65


@pytest.mark.slow
def test_the_first_lines_say_accounts_and_dates(
    folder: Path, done: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.chdir(folder)
    asked = ["--data", "accounts", "--at", panels.AT]
    runner = CliRunner()
    made = runner.invoke(app, ["init", *asked, "-o", "first.yaml", "--force"])
    assert made.exit_code == 0, made.output
    assert "240 accounts on 8 dates, 1,920 rows." in made.output
    checked = runner.invoke(app, ["check", *asked, "--spec", "first.yaml"])
    assert "240 accounts on 8 dates, 1,920 rows" in checked.output
    assert "accounts on 8 dates would prove" in checked.output.replace("\n", " ")
    read = runner.invoke(app, ["review", done.run_id, "--full", "--journal", "journal"])
    assert "240 accounts on 8 dates, 1,920 rows." in read.output
    assert "by date" in read.output
    refused = runner.invoke(app, ["check", "--data", "accounts", "--spec", "first.yaml"])
    assert refused.exit_code == 3
    assert f"--at {panels.DAYS[0]}..{panels.DAYS[-1]}" in refused.output.replace("\n", " ")
