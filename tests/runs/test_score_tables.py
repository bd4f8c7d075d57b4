"""Kept scores in a Delta or DuckDB table: the rules of the folder, and nothing twice."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import duckdb
import forks
import polars as pl
import pytest
from deltalake import write_deltalake
from polars.testing import assert_frame_equal
from runs.test_watch import FIRST, SECOND, SPEC, table_of, write
from sklearn.metrics import roc_auc_score

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.integrations.tables_by_date import ScoreTable
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.runs import Watched, promote, watch
from gtmar.runs.kept_scores import ScoreStore, score_store

#: Of a date: what is asked here doesn't depend on how many they are.
FEW = 200
TABLES = {"delta": "delta:lake/scores", "duckdb": "duckdb:///lake.db?table=scores"}


@pytest.fixture(params=TABLES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    promote(SPEC, note="agreed", expect="auc_roc_retain >= 0.75")
    return TABLES[request.param]


def watched(place: str, **options: Any) -> Watched:
    return watch("accounts", scores=place, **options)


def rows_of(place: str) -> pl.DataFrame:
    """Read the table as anybody's tool does."""
    if place.startswith("delta:"):
        found = pl.read_delta(place.removeprefix("delta:"))
    else:
        with duckdb.connect("lake.db", read_only=True) as connection:
            found = connection.sql("from scores").pl()
    return found.sort("features_asof", "role", "account")


def events() -> list[str]:
    with Journal("journal") as opened:
        rows = opened.query("select event_id from events where kind = 'measurement'")
    return sorted(rows["event_id"])


@pytest.mark.slow
def test_a_table_keeps_what_the_folder_keeps_and_measures_by_it(place: str) -> None:
    shadow = specs.reweighed(SPEC, {"logins": 90})
    for day in (FIRST, SECOND):
        write(Path("accounts"), day, outcomes=False, accounts=FEW)
        watched(place, shadows=[shadow])
        watch("accounts", shadows=[shadow])
    folder, table = ScoreStore("scores").kept(), score_store(place, Path("journal")).kept()
    assert [(k.day, k.role, k.spec, k.scored_on) for k in folder] == [
        (k.day, k.role, k.spec, k.scored_on) for k in table
    ]
    for one, two in zip(folder, table, strict=True):
        assert_frame_equal(one.frame(), two.frame())
    # Measured by what was kept: features that were changed since change nothing.
    changed = table_of(FIRST, accounts=FEW).with_columns(logins=pl.lit(3)).drop("features_asof")
    changed.write_parquet(f"accounts/features_asof={FIRST}/accounts.parquet")
    found = watched(place, shadows=[shadow])
    [measured] = found.measurements
    by_hand = (
        table_of(FIRST, accounts=FEW)["logins"] * 2.0
        + table_of(FIRST, accounts=FEW)["tickets"] * 0.5
    ).to_list()
    auc = roc_auc_score(table_of(FIRST, accounts=FEW)["retained_6mo"], by_hand)
    assert measured.metrics["auc_roc_retain"].value == pytest.approx(auc, abs=1e-12)
    assert [*measured.gains] == [f"shadow {specs.score_id(shadow)}"]
    # The folder's kept scores tell the same.
    assert watch("accounts", shadows=[shadow]).before_leaving.equals(found.before_leaving)
    assert verify(Path("journal")).findings == ()


@pytest.mark.slow
def test_each_date_is_read_once_when_it_is_due_and_once_for_what_became_of_it(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a table in a warehouse each reading is a query."""
    asked = []
    rows = ScoreTable.rows

    def counted(table: ScoreTable, kept_as: str) -> pl.DataFrame:
        asked.append(kept_as[:10])
        return rows(table, kept_as)

    monkeypatch.setattr(ScoreTable, "rows", counted)
    for day in (FIRST, SECOND):
        write(Path("accounts"), day, accounts=FEW)
        watched(place)
    assert sorted(asked) == [str(FIRST)] * 3 + [str(SECOND)] * 2


@pytest.mark.slow
def test_watched_twice_or_by_two_nothing_comes_twice(place: str) -> None:
    write(Path("accounts"), FIRST, accounts=FEW)
    held = score_store(place, Path("journal")).alone()
    with held, pytest.raises(UsageError, match="another process is writing"):
        watched(place)
    assert watched(place).new == (FIRST,)
    rows, told = rows_of(place), events()
    assert rows.height == FEW
    again = watched(place)
    assert (again.kept, again.new) == ((), ())
    assert_frame_equal(rows_of(place), rows)
    assert events() == told
    assert len(told) == 1


@pytest.mark.slow
def test_what_is_forgotten_is_gone_from_older_versions_too(place: str) -> None:
    for day in (FIRST, SECOND):
        write(Path("accounts"), day, accounts=FEW)
        watched(place)
    kept = rows_of(place).filter(pl.col("features_asof") == SECOND)
    assert watched(place, forget_before=SECOND).forgotten == 1
    assert_frame_equal(rows_of(place), kept)
    assert [m.day for m in watched(place).measurements] == [FIRST, SECOND]
    assert watched(place, forget_before=SECOND).forgotten == 0
    if place.startswith("delta:"):
        files = [str(path) for path in Path("lake/scores").rglob("*.parquet")]
        assert len(files) == 1
        assert f"features_asof={SECOND}" in files[0]
        log = "".join(path.read_text("utf-8") for path in Path("lake/scores").rglob("*.json"))
        assert "a00000" not in log
        with pytest.raises(Exception, match=r"not found|No such file"):
            pl.read_delta("lake/scores", version=2)
    # Of a date that is forgotten nothing new is made up.
    assert watched(place).kept == ()


@pytest.mark.slow
def test_a_table_of_something_else_is_left_alone(place: str) -> None:
    write(Path("accounts"), FIRST, accounts=FEW)
    other = pl.DataFrame({"features_asof": [FIRST], "account": ["a"]})
    if place.startswith("delta:"):
        write_deltalake("lake/scores", other.to_arrow())
    else:
        with duckdb.connect("lake.db") as connection:
            connection.register("other", other)
            connection.sql("create table scores as from other")
    with pytest.raises(UsageError, match="is no table of kept scores: it has no column"):
        watched(place, forget_before=SECOND)
    assert rows_of_other(place).equals(other)
    assert events() == []


def rows_of_other(place: str) -> pl.DataFrame:
    if place.startswith("delta:"):
        return pl.read_delta("lake/scores")
    with duckdb.connect("lake.db", read_only=True) as connection:
        found: pl.DataFrame = connection.sql("from scores").pl()
        return found


@pytest.mark.slow
def test_a_table_may_stand_beside_the_data_and_not_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    promote(SPEC, note="agreed")
    with duckdb.connect("lake.db") as connection:
        connection.register("given", table_of(FIRST, accounts=FEW))
        connection.sql("create table accounts as from given")
    found = watch("duckdb:///lake.db?table=accounts", scores="duckdb:///lake.db?table=kept")
    assert found.new == (FIRST,)
    with duckdb.connect("lake.db", read_only=True) as connection:
        assert connection.sql("select count(*) from kept").fetchall() == [(FEW,)]
    write_deltalake("accounts", table_of(FIRST, accounts=FEW).to_arrow())
    for location in ("delta:accounts", "delta:journal/scores"):
        with pytest.raises(UsageError, match="onto or into"):
            watch("delta:accounts", scores=location)
    with pytest.raises(UsageError, match="expected duckdb:///"):
        watch("delta:accounts", scores="duckdb:lake.db")


KILLED = """
import os
{patch}
from gtmar.cli.app import app
app(["watch", "--data", "accounts", "--scores", {place!r}, "--json", *{options!r}])
"""
#: Before a date's rows are committed, and when they are and nothing is measured.
BEFORE = (
    "from gtmar.integrations import tables_by_date\n"
    "tables_by_date.append_new = lambda *_, **__: os.kill(os.getpid(), 9)"
)
UNMEASURED = (
    "from gtmar.runs import kept_scores\n"
    "kept_scores.write_event = lambda *_, **__: os.kill(os.getpid(), 9)"
)
#: When rows are forgotten and older versions still have them.
UNSWEPT = "import deltalake\ndeltalake.DeltaTable.vacuum = lambda *_, **__: os.kill(os.getpid(), 9)"


def killed(place: str, patch: str, *options: str) -> None:
    """Watch in a process of its own that is killed at a point."""
    script = KILLED.format(patch=patch, place=place, options=options)
    done = forks.script(script)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_killed_before_during_and_after_it_keeps_and_measures_once(place: str) -> None:
    write(Path("accounts"), FIRST)
    killed(place, BEFORE)
    assert score_store(place, Path("journal")).kept() == []
    killed(place, UNMEASURED)
    rows = rows_of(place)
    assert rows.height == 800
    assert events() == []
    found = watched(place)
    assert (found.kept, found.new) == ((), (FIRST,))
    assert_frame_equal(rows_of(place), rows)
    assert len(events()) == 1
    write(Path("accounts"), SECOND)
    if place.startswith("delta:"):
        killed(place, UNSWEPT, "--forget-before", str(SECOND))
        assert {path.parent.name for path in Path("lake/scores").rglob("*.parquet")} == {
            f"features_asof={day}" for day in (FIRST, SECOND)
        }
    watched(place, forget_before=SECOND)
    assert rows_of(place)["features_asof"].unique().to_list() == [SECOND]
    if place.startswith("delta:"):
        [path] = Path("lake/scores").rglob("*.parquet")
        assert path.parent.name == f"features_asof={SECOND}"
    assert len(events()) == 2
    assert verify(Path("journal")).findings == ()


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_comes_twice(place: str) -> None:
    words = ["watch", "--data", "accounts", "--scores", place, "--json"]
    kills = 0
    # At the second date the moments lie between those of the first.
    for day, first in ((FIRST, 0.04), (SECOND, 0.03)):
        write(Path("accounts"), day, accounts=FEW)
        # Later each time, until one ends by itself, however fast the machine is.
        for number in range(60):
            process = forks.start(*words)
            if process.wait(first * 2**number) is None:
                process.kill()
            kills += process.wait() == -signal.SIGKILL
            if process.wait() == 0:
                break
        rows = rows_of(place).group_by("features_asof").len().sort("features_asof").rows()
        assert rows == [(each, FEW) for each in (FIRST, SECOND) if each <= day]
    assert kills >= 4
    with Journal("journal") as opened:
        days = opened.query("select details->>'day' as day from events where kind = 'measurement'")
    assert sorted(days["day"]) == [str(FIRST), str(SECOND)]
    assert verify(Path("journal")).findings == ()
