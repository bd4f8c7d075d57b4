"""Kept scores in a Delta or DuckDB table: the rules of the folder, and nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from polars.testing import assert_frame_equal
from runs.test_watch import FIRST, SECOND, SPEC, THIRD, table_of, write
from sklearn.metrics import roc_auc_score

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.runs import Watched, promote, watch
from gtmar.runs.score_store import ScoreStore, score_store

TABLES = {"delta": "delta:lake/scores", "duckdb": "duckdb:///lake.db?table=scores"}
OWN = ["features_asof", "role", "account", "score", "tier", "spec_id"]


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


def test_a_table_keeps_what_the_folder_keeps_and_measures_by_it(place: str) -> None:
    shadow = specs.reweighed(SPEC, {"logins": 90})
    for day in (FIRST, SECOND):
        write(Path("accounts"), day, outcomes=False)
        watched(place, shadows=[shadow])
        watch("accounts", shadows=[shadow])
    folder, table = ScoreStore("scores").kept(), score_store(place, Path("journal")).kept()
    assert [(k.day, k.role, k.spec, k.scored_on) for k in folder] == [
        (k.day, k.role, k.spec, k.scored_on) for k in table
    ]
    for one, two in zip(folder, table, strict=True):
        assert_frame_equal(one.frame(), two.frame())
    # Measured by what was kept: features that were changed since change nothing.
    changed = table_of(FIRST).with_columns(logins=pl.lit(3)).drop("features_asof")
    changed.write_parquet(f"accounts/features_asof={FIRST}/accounts.parquet")
    found = watched(place, shadows=[shadow])
    [measured] = found.measurements
    by_hand = (table_of(FIRST)["logins"] * 2.0 + table_of(FIRST)["tickets"] * 0.5).to_list()
    auc = roc_auc_score(table_of(FIRST)["retained_6mo"], by_hand)
    assert measured.metrics["auc_roc_retain"].value == pytest.approx(auc, abs=1e-12)
    assert [*measured.gains] == [f"shadow {specs.score_id(shadow)}"]
    # The folder's kept scores tell the same.
    assert watch("accounts", shadows=[shadow]).before_leaving.equals(found.before_leaving)
    assert verify(Path("journal")).findings == ()


def test_watched_twice_nothing_comes_twice(place: str) -> None:
    write(Path("accounts"), FIRST)
    watched(place)
    rows, told = rows_of(place), events()
    assert rows.height == 800
    again = watched(place)
    assert (again.kept, again.new) == ((), ())
    assert_frame_equal(rows_of(place), rows)
    assert events() == told
    assert len(told) == 1


def test_what_is_forgotten_is_gone_from_older_versions_too(place: str) -> None:
    for day in (FIRST, SECOND):
        write(Path("accounts"), day)
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
        with pytest.raises(Exception, match="not found|No such file"):
            pl.read_delta("lake/scores", version=2)
    # Of a date that is forgotten nothing new is made up.
    assert watched(place).kept == ()


def test_a_table_of_something_else_is_left_alone(place: str) -> None:
    write(Path("accounts"), FIRST)
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
        return connection.sql("from scores").pl()


def test_a_table_may_stand_beside_the_data_and_not_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    promote(SPEC, note="agreed")
    with duckdb.connect("lake.db") as connection:
        connection.register("given", table_of(FIRST))
        connection.sql("create table accounts as from given")
    found = watch("duckdb:///lake.db?table=accounts", scores="duckdb:///lake.db?table=kept")
    assert found.new == (FIRST,)
    with duckdb.connect("lake.db", read_only=True) as connection:
        assert connection.sql("select count(*) from kept").fetchall() == [(800,)]
    write_deltalake("accounts", table_of(FIRST).to_arrow())
    for location in ("delta:accounts", "delta:journal/scores"):
        with pytest.raises(UsageError, match="onto or into"):
            watch("delta:accounts", scores=location)
    with pytest.raises(UsageError, match="expected duckdb:///"):
        watch("delta:accounts", scores="duckdb:lake.db")


def test_two_at_once_do_not_write_both(place: str) -> None:
    write(Path("accounts"), FIRST)
    held = score_store(place, Path("journal")).alone()
    with held, pytest.raises(UsageError, match="another process is writing"):
        watched(place)
    assert watched(place).new == (FIRST,)


def started(place: str) -> subprocess.Popen[bytes]:
    words = ["watch", "--data", "accounts", "--scores", place, "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "gtmar", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_whoever_is_killed_loses_and_doubles_nothing(place: str) -> None:
    expected: dict[str, pl.DataFrame] = {}
    killed = between = 0
    for day in (FIRST, SECOND, THIRD):
        write(Path("accounts"), day, accounts=4_000)
        # A little later each time, so that kills fall before, between and into what is written.
        for number in range(14):
            process = started(place)
            begun = time.monotonic()
            while process.poll() is None and time.monotonic() - begun < 0.6 + 0.12 * number:
                time.sleep(0.01)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += process.returncode == -signal.SIGKILL
            kept = score_store(place, Path("journal")).kept()
            between += day in {k.day for k in kept} and process.returncode == -signal.SIGKILL
        assert started(place).wait() == 0
        expected[str(day)] = rows_of(place)
    assert killed >= 5
    assert between >= 1
    rows = rows_of(place)
    assert rows.group_by("features_asof").len().sort("features_asof").rows() == [
        (day, 4_000) for day in (FIRST, SECOND, THIRD)
    ]
    # What was kept first stands to the end.
    for day in (FIRST, SECOND):
        before = expected[str(day)].filter(pl.col("features_asof") == day).select(OWN)
        assert_frame_equal(rows.filter(pl.col("features_asof") == day).select(OWN), before)
    with Journal("journal") as opened:
        days = opened.query("select details->>'day' as day from events where kind = 'measurement'")
    assert sorted(days["day"]) == [str(day) for day in (FIRST, SECOND, THIRD)]
    assert verify(Path("journal")).findings == ()
    if place.startswith("delta:"):
        assert DeltaTable("lake/scores").to_pyarrow_table().num_rows == 12_000
