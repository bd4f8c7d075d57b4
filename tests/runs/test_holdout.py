"""A holdout that is a table of its own: all of the other is searched, and nothing of this one."""

from __future__ import annotations

import json
import shutil
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from factories import OUTCOMES, make_accounts, make_spec, weighted
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.errors import AccountDataError, NotResumableError, UsageError, ViolationsError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

NOW = make_accounts(400, seed=1)
#: Other accounts, but for the first hundred ids, whose values are others.
LATER = make_accounts(300, seed=2).with_columns(
    account_id=pl.when(pl.int_range(pl.len()) < 100)
    .then("account_id")
    .otherwise(pl.format("later-{}", "account_id"))
)
SPEC = make_spec()


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Write both tables; return them and a journal that isn't there yet."""
    now, later = tmp_path / "now.parquet", tmp_path / "later.parquet"
    NOW.write_parquet(now)
    LATER.write_parquet(later)
    return now, later, tmp_path / "journal"


def searched(now: Any, later: Any, journal: Path, n: int = 40, **more: Any) -> runs.RunResult:
    return runs.run(
        now, SPEC, limits=runs.Limits(n), journal=journal, holdout_file=later, cold=True, **more
    )


def area(table: pl.DataFrame, spec: Any) -> float:
    scored = table.with_columns(score=runs.score(table, spec)["score"])
    known = scored.filter(pl.col("retained_6mo").is_not_null())
    return float(roc_auc_score(known["retained_6mo"], known["score"]))


@pytest.mark.slow
def test_all_of_the_table_is_searched_and_all_of_the_file_is_the_holdout(
    tables: tuple[Path, Path, Path],
) -> None:
    found = searched(*tables)
    assert found.holdout is not None
    assert found.metrics["scored"] == 400
    assert found.holdout["accounts"] == 300
    assert found.baseline_value == pytest.approx(area(NOW, SPEC), abs=1e-12)
    assert found.best_value == pytest.approx(area(NOW, found.spec), abs=1e-12)
    assert found.holdout["baseline_value"] == pytest.approx(area(LATER, SPEC), abs=1e-12)
    assert found.holdout["best_value"] == pytest.approx(area(LATER, found.spec), abs=1e-12)
    assert found.spec.split.holdout == 0
    assert found.notes[0].startswith("100 accounts stand in both tables, the same customers; 200")


@pytest.mark.slow
def test_the_record_names_the_file_and_its_fingerprints(tables: tuple[Path, Path, Path]) -> None:
    now, later, journal = tables
    found = searched(now, later, journal)
    start = RunFiles(journal, found.run_id).record("start")
    parameters = dict(start["parameters"])
    assert parameters["holdout_source"] == str(later)
    assert parameters["holdout"] == "0.0"
    assert start["holdout_accounts"] == 300
    own = runs.run(
        later, SPEC, holdout=0, limits=runs.Limits(0), journal=journal.with_name("other")
    )
    other = RunFiles(journal.with_name("other"), own.run_id).record("start")
    for name in ("outcomes_fingerprint", "features_fingerprint"):
        assert parameters[f"holdout_{name}"] == other[name] != start[name]
    assert not verify(journal).findings


@pytest.mark.slow
def test_nothing_of_the_file_reaches_the_search(tmp_path: Path) -> None:
    told = LATER.with_columns(
        retained_6mo=1 - pl.col("retained_6mo"), churned=1 - pl.col("churned")
    ).with_columns(mrr_end=pl.col("mrr") * pl.col("retained_6mo"), depth=pl.col("depth") * 0)
    found = [searched(NOW, each, tmp_path / name) for name, each in (("a", LATER), ("b", told))]
    assert found[0].digest == found[1].digest
    assert found[0].holdout != found[1].holdout
    # Nor the first spec's encoders.
    made = [
        runs.run(NOW, limits=runs.Limits(5), journal=tmp_path / name, holdout_file=each, cold=True)
        for name, each in (("a", LATER), ("b", told))
    ]
    assert made[0].spec.features == made[1].spec.features
    alone = runs.run(NOW, holdout=0, limits=runs.Limits(5), journal=tmp_path / "c", cold=True)
    assert made[0].digest == alone.digest


# ---- again -----------------------------------------------------------------------------------


def cut_off(journal: Path, run_id: str) -> None:
    """Leave a run as a crash would: with its first part alone."""
    files = RunFiles(journal, run_id)
    files.end.unlink()
    parts = sorted((journal / "experiments" / f"run_id={run_id}").glob("part-*.parquet"))
    for part in parts[1:]:
        part.unlink()


@pytest.mark.slow
def test_a_run_is_resumed_and_replayed_over_both(tables: tuple[Path, Path, Path]) -> None:
    now, later, journal = tables
    found = searched(now, later, journal, n=700)
    assert runs.replay(found.run_id, journal=journal).identical
    cut_off(journal, found.run_id)
    again = runs.resume(found.run_id, journal=journal)
    assert (again.digest, again.holdout) == (found.digest, found.holdout)
    moved = later.rename(later.with_name("moved.parquet"))
    with pytest.raises(AccountDataError, match=r"later\.parquet"):
        runs.replay(found.run_id, journal=journal)
    assert runs.replay(found.run_id, journal=journal, holdout_file=moved).identical


def test_a_run_without_a_later_table_takes_none_afterwards(tables: tuple[Path, Path, Path]) -> None:
    now, later, journal = tables
    found = runs.run(now, SPEC, limits=runs.Limits(5), journal=journal)
    for again in (runs.replay, runs.decide):
        with pytest.raises(UsageError, match="held out accounts of its own table"):
            again(found.run_id, journal=journal, holdout_file=later)


@pytest.mark.slow
def test_a_file_that_changed_voids(tables: tuple[Path, Path, Path]) -> None:
    now, later, journal = tables
    found = searched(now, later, journal)
    before = sorted(journal.rglob("*"))
    for changed, what in (
        (LATER.with_columns(depth=pl.col("depth") / 2), "features"),
        (LATER.head(299), "ids or outcomes"),
    ):
        changed.write_parquet(later)
        for again in (runs.decide, runs.replay):
            with pytest.raises(NotResumableError, match=rf"what differs is .*table \({what}\)"):
                again(found.run_id, journal=journal)
    assert sorted(journal.rglob("*")) == before
    # What concerns the searched accounts alone doesn't ask for it.
    later.unlink()
    assert runs.null_search(found.run_id, journal=journal, searches=2).run_id == found.run_id
    assert runs.stability(found.run_id, journal=journal, searches=2).run_id == found.run_id


@pytest.mark.slow
def test_each_table_has_its_own_day_and_its_own_unlabelled_accounts(tmp_path: Path) -> None:
    encode = {"kind": "days_before", "then": {"kind": "range", "from": 0, "to": 60}}
    spec = make_spec(features={"seen": weighted(encode=encode), "depth": weighted()})

    def dated(table: pl.DataFrame, day: date) -> pl.DataFrame:
        ago = pl.duration(days=pl.col("logins"))
        return table.with_columns(seen=pl.lit(day) - ago)

    later = dated(LATER, date(2026, 7, 1))
    blank = pl.int_range(pl.len()) < 9
    later = later.with_columns(
        pl.when(blank).then(None).otherwise(name).alias(name) for name in OUTCOMES
    )
    found = runs.run(
        dated(NOW, date(2026, 1, 1)),
        spec,
        holdout_file=later,
        limits=runs.Limits(5),
        as_of="2026-01-01",
        holdout_as_of="2026-07-01",
        drop_unlabelled=True,
        journal=tmp_path / "j",
    )
    assert found.holdout is not None
    assert found.holdout["accounts"] == 291
    labelled = later.filter(~blank)
    scored = runs.score(labelled, spec, as_of="2026-07-01")["score"]
    known = labelled["retained_6mo"].is_not_null()
    expected = roc_auc_score(labelled["retained_6mo"].filter(known), scored.filter(known))
    assert found.holdout["baseline_value"] == pytest.approx(expected, abs=1e-12)
    tables: dict[str, Any] = {"data": dated(NOW, date(2026, 1, 1)), "holdout_file": later}
    assert runs.replay(found.run_id, journal=tmp_path / "j", **tables).identical
    done = runs.decide(found.run_id, journal=tmp_path / "j", folder=tmp_path / "d", **tables)
    assert done.accounts == 291
    changes = pl.read_csv(tmp_path / "d" / "account_changes.csv").sort("account")
    before = runs.score(later, spec, as_of="2026-07-01").sort("account_id")
    assert changes["score_before"].to_list() == before["score"].to_list()
    assert done.intervals.before["auc_roc_retain"].value == pytest.approx(expected, abs=1e-12)


# ---- decisions and looks ---------------------------------------------------------------------


@pytest.mark.slow
def test_decide_uses_the_file_and_is_what_refresh_says(tables: tuple[Path, Path, Path]) -> None:
    now, later, journal = tables
    found = searched(now, later, journal)
    folder = journal.with_name("decision")
    done = runs.decide(found.run_id, journal=journal, folder=folder)
    assert (done.source, done.accounts, done.looks) == (str(later), 300, 1)
    assert set(done.inputs) == {str(now), str(later)}
    assert done.intervals.before["auc_roc_retain"].value == pytest.approx(area(LATER, SPEC))
    assert "100 accounts stand in both tables" in done.notes[0]
    assert len((folder / "account_changes.csv").read_text("utf-8").splitlines()) == 301
    refreshed = runs.refresh(
        now, later, SPEC, limits=runs.Limits(40), journal=journal.with_name("other")
    )
    assert (refreshed.verdict, refreshed.moves, refreshed.looks) == (done.verdict, done.moves, 1)


@pytest.mark.slow
def test_every_comparison_on_a_file_is_a_look_at_it(tables: tuple[Path, Path, Path]) -> None:
    now, later, journal = tables
    first = searched(now, later, journal)
    searched(now, later, journal, seed=1)
    runs.refresh(now, later, SPEC, limits=runs.Limits(20), seed=2, journal=journal)
    other = searched(now, make_accounts(200, seed=9), journal, seed=3)
    assert runs.decide(first.run_id, journal=journal).looks == 3
    with Journal(journal) as opened:
        looks = opened.sql("holdout_looks")
    on_file = looks.filter(pl.col("source") == str(later))
    assert on_file["outcomes_fingerprint"].n_unique() == 1
    assert on_file["look"].max() == 3
    assert looks.filter(pl.col("run_id") == other.run_id)["look"].to_list() == [1]


# ---- what is refused -------------------------------------------------------------------------


def test_both_tables_are_held_to_one_contract(tmp_path: Path) -> None:
    with pytest.raises(ViolationsError) as caught:
        searched(NOW.drop("depth"), LATER.drop("logins"), tmp_path / "j")
    assert [v.column for v in caught.value.violations] == ["depth", "logins"]
    with pytest.raises(ViolationsError, match=r"outcome mrr_end\), which the searched table has"):
        searched(NOW, LATER.drop("mrr_end"), tmp_path / "j")
    with pytest.raises(AccountDataError, match="7 rows stand in both tables"):
        searched(NOW, pl.concat([LATER.tail(200), NOW.head(7)]), tmp_path / "j")
    with pytest.raises(UsageError, match=r"holdout of 0\.2 of the table and one in a file exclude"):
        searched(NOW, LATER, tmp_path / "j", holdout=0.2)
    assert not (tmp_path / "j").exists()


def test_a_holdout_of_none_beside_a_file_is_no_contradiction(tmp_path: Path) -> None:
    found = searched(NOW, LATER, tmp_path / "j", n=3, holdout=0.0)
    assert found.holdout is not None
    assert found.holdout["accounts"] == 300


def test_without_ids_that_is_said(tmp_path: Path) -> None:
    spec = make_spec(id=None)
    plain = [table.drop("account_id") for table in (NOW, LATER)]
    found = runs.run(
        plain[0], spec, holdout_file=plain[1], limits=runs.Limits(2), journal=tmp_path / "j"
    )
    assert found.notes[0] == "There is no id to tell whether accounts stand in both tables."
    with pytest.raises(AccountDataError, match="400 rows stand in both tables"):
        runs.run(plain[0], spec, holdout_file=plain[0].reverse(), journal=tmp_path / "j")


# ---- the commands ----------------------------------------------------------------------------


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.slow
def test_the_commands_run_replay_and_decide(
    tables: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    now, later, journal = tables
    spec = tmp_path / "spec.yaml"
    assert command("init", "--data", now, "--holdout", "none", "-o", spec).exit_code == 0
    words = ("run", "--data", now, "--spec", spec, "--n", 40, "--journal", journal)
    ran = command(*words, "--holdout-file", later, "--json")
    assert ran.exit_code == 0, ran.output
    assert "100 accounts stand in both tables" in ran.stderr
    found = json.loads(ran.stdout)
    assert found["holdout"]["accounts"] == 300
    moved = shutil.move(later, tmp_path / "moved.parquet")
    beside = (found["run_id"], "--journal", journal, "--holdout-file", moved)
    assert command("replay", *beside).exit_code == 0
    decided = command("decide", *beside, "--json")
    assert decided.exit_code in (0, 10), decided.output
    assert json.loads(decided.stdout)["source"] == str(moved)
    clash = command(*words, "--holdout-file", moved, "--holdout", "0.3", "--quiet")
    assert clash.exit_code == 2
    assert "with --holdout-file the whole table is searched" in " ".join(clash.stderr.split())
