"""Snapshots into Delta and DuckDB tables: the rules of a folder, and each date read as its own."""

import json
import random
import re
import shlex
import signal
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import forks
import histories
import polars as pl
import pytest
import stores
from deltalake import DeltaTable, write_deltalake
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.data.scan import Source, collect, scan
from gtmar.errors import AccountDataError, UsageError
from gtmar.integrations import tables_by_date
from gtmar.integrations.tables_by_date import snapshots_into
from gtmar.journal.files import RunFiles
from gtmar.snapshots.build import Built, build
from gtmar.snapshots.recipe import parse

RUNNER = CliRunner()
KINDS = ("delta", "duckdb")
DAYS = [date(2024, 2, 1), date(2024, 3, 1), date(2024, 4, 1)]


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return "delta:lake/accounts" if request.param == "delta" else "duckdb:///lake.db?table=accounts"


def shop(folder: Path, *, until: str = "2024-12-01", amount: float = 1.0, more: str = "") -> str:
    """Write a small shop's payments; return a recipe over them."""
    pl.DataFrame(
        {
            "id": ["a", "b", "a", "b", "c", "a"],
            "day": [date(2024, month, 15) for month in (1, 1, 2, 2, 3, 5)],
            "amount": [amount, 2.0, 3.0, 4.0, 5.0, 6.0],
        }
    ).write_parquet(folder / "paid.parquet")
    return f"""
name: shop
sources: {{paid: {{data: {folder}/paid.parquet, account: id, at: day}}}}
dates: [2024-02-01]
window: 2 months
data_until: {until}
revenue: {{transactions: {{source: paid, amount: amount}}}}
features:
  n: {{count: paid}}
  most: {{max: paid.amount}}
{more}
"""


def built(text: str, target: str, days: list[date] | None = None) -> Built:
    return build(parse(text), snapshots_into(target), days=days)


def read(location: str, version: int | None = None) -> pl.DataFrame:
    table = scan(Source(location, version))
    return collect(table, table.frame)


def dates_in(target: str) -> dict[date, int]:
    """Return how many rows each date has, as anybody else reads the table."""
    if target.startswith("delta:"):
        frame = pl.read_delta(target.removeprefix("delta:"))
    else:
        with duckdb.connect("lake.db", read_only=True) as connection:
            frame = connection.sql("from accounts").pl()
    counted = frame.group_by("features_asof").len().sort("features_asof")
    return dict(counted.iter_rows())


@pytest.mark.slow
def test_each_date_is_the_table_that_a_folder_has(target: str, tmp_path: Path) -> None:
    text = shop(tmp_path, until="2024-05-02")
    folder = build(parse(text), tmp_path / "out", days=DAYS)
    made = built(text, target, DAYS)
    assert [each.change for each in made.tables] == ["new"] * 3
    # The last one has no outcomes yet, and none of their columns though the table has them.
    assert [each.outcomes for each in made.tables] == [True, True, False]
    for there, here in zip(made.tables, folder.tables, strict=True):
        one, other = scan(there.data), scan(here.data)
        assert one.columns == other.columns
        assert_frame_equal(
            collect(one, one.frame), collect(other, other.frame), check_row_order=False
        )
        for key in ("recipe", "recipe_conventions", "recipe_sources"):
            assert one.origin[key] == other.origin[key]
    assert dates_in(target) == {each.day: each.accounts for each in folder.tables}


@pytest.mark.slow
def test_a_date_that_is_there_stays_gets_its_outcomes_and_no_other_rows(
    target: str, tmp_path: Path
) -> None:
    early, late = shop(tmp_path, until="2024-03-02"), shop(tmp_path)
    [first] = built(early, target).tables
    assert "churned" not in scan(first.data).columns
    before = read(first.data)
    assert [each.change for each in built(early, target, DAYS[:2]).tables] == ["same", "new"]
    assert_frame_equal(read(first.data), before, check_row_order=False)
    second = read(built(early, target, [DAYS[1]]).tables[0].data)
    [later] = built(late, target).tables
    assert (later.change, later.outcomes) == ("outcomes", True)
    assert dict(read(later.data).select("account_id", "churned").iter_rows()) == {"a": 0, "b": 0}
    assert_frame_equal(read(later.data).select(before.columns), before, check_row_order=False)
    # The other date wasn't touched, though the table has columns now that it hasn't.
    other = f"{later.data.rpartition('=')[0]}={DAYS[1]}"
    assert_frame_equal(read(other), second, check_row_order=False)
    assert built(late, target).tables[0].change == "same"
    changed = shop(tmp_path, amount=9.0)
    with pytest.raises(UsageError, match="is there already with other rows"):
        built(changed, target)
    assert dict(read(later.data).select("account_id", "most").iter_rows()) == {"a": 1.0, "b": 2.0}
    # An outcome that is gone is another row as well.
    with pytest.raises(UsageError, match="is there already with other rows"):
        built(shop(tmp_path, until="2024-03-02"), target)


def test_what_is_no_table_of_snapshots_is_left_alone(target: str, tmp_path: Path) -> None:
    text = shop(tmp_path)
    mine = pl.DataFrame({"id": [1], "x": [2]})
    if target.startswith("delta:"):
        write_deltalake("lake/accounts", mine.to_arrow())
    else:
        with duckdb.connect("lake.db") as connection:
            connection.execute(
                "create table accounts as from mine; create table others as from mine"
            )
    with pytest.raises(UsageError, match="is there already and is no table of snapshots"):
        built(text, target)
    assert_frame_equal(read(target), mine)


@pytest.mark.slow
def test_a_column_never_changes_its_type(target: str, tmp_path: Path) -> None:
    built(shop(tmp_path), target)
    text = shop(tmp_path).replace("n: {count: paid}", "n: {mean: paid.amount}")
    with pytest.raises(UsageError, match=r'columns of other types: "n" is .* there and .* now'):
        built(text, target, [DAYS[1]])
    assert list(dates_in(target)) == [DAYS[0]]
    # A new one is unknown for the dates before.
    text = shop(tmp_path, more="  late: {days_since: paid}")
    built(text, target, [DAYS[1]])
    assert "late" not in scan(f"{built(shop(tmp_path), target).tables[0].data}").columns
    assert list(dates_in(target)) == DAYS[:2]


@pytest.mark.slow
def test_the_printed_step_runs_and_the_run_has_sources_on_record(
    target: str, tmp_path: Path
) -> None:
    histories.random_history(5, accounts=300).write(tmp_path / "raw")
    text = histories.recipe_text(Path("raw")).replace("id: acct", "id: account_id")
    Path("snapshots.yaml").write_text(text)

    def gtmar(*words: object) -> str:
        result = RUNNER.invoke(app, list(map(str, words)))
        assert result.exit_code == 0, result.output
        return result.output

    days = ("--date", "2024-03-01", "--date", "2023-12-01")
    said = gtmar("snapshot", "snapshots.yaml", *days, "-o", target)
    [following] = re.findall(r"^Next: gtmar (init .*)$", said, re.MULTILINE)
    words = shlex.split(following)
    assert words[2] == f"{target}/features_asof=2024-03-01"
    gtmar(*words)
    assert "features_asof: features_until" in Path("spec.yaml").read_text()
    checked = " ".join(gtmar("check", "--data", words[2], "--spec", "spec.yaml").split())
    assert "made by recipe h" in checked
    assert re.search(
        r"It was made of events, [\d,]+ rows of raw/events.parquet \([\d,]+ bytes, "
        r"sha256 [0-9a-f]{12}\); running,",
        checked,
    )
    gtmar("run", "--data", words[2], "--spec", "spec.yaml", "--n", 10, "-q")
    [run] = Path("journal").glob("runs/run_id=*")
    record = RunFiles(Path("journal"), run.name.partition("=")[2]).record("start")
    parameters = dict(record["parameters"])
    assert json.loads(parameters["recipe_sources"])["subs"]["data"] == "raw/subs.parquet"
    gtmar("replay")


# ---- Delta alone ---------------------------------------------------------------------------------


def test_files_that_left_the_table_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a partition holds what it held before, too."""
    place = tmp_path / "lake"
    frame = pl.DataFrame({"id": [1, 2], "day": ["2024-01-01", "2024-02-01"], "x": [1, 2]})
    write_deltalake(place, frame.to_arrow(), partition_by=["day"])
    write_deltalake(place, frame.with_columns(pl.col("x") + 10).to_arrow(), mode="overwrite")
    assert len(list((place / "day=2024-01-01").iterdir())) == 2
    for form in (
        f"{place}/day=2024-01-01",
        f"{place}/day=2024-01-01/",
        f"delta:{place}/day=2024-01-01",
    ):
        assert read(form).rows() == [(1, 11)]
        assert read(form, 0).rows() == [(1, 1)]
    monkeypatch.chdir(place)
    assert read("day=2024-01-01").rows() == [(1, 11)]
    table = scan(f"{place}/day=2024-02-01")
    assert table.origin == {"source_kind": "delta", "source_version": "1"}
    with pytest.raises(AccountDataError, match="has no such partition"):
        scan(f"{place}/day=2024-03-01")
    with pytest.raises(AccountDataError, match='isn\'t partitioned by "week", but by "day"'):
        scan(f"{place}/week=1")
    # A table of its own in a folder that is called so is one.
    write_deltalake(tmp_path / "a=1", frame.to_arrow())
    assert read(str(tmp_path / "a=1")).height == 2


def test_delta_has_no_unsigned_integers(tmp_path: Path) -> None:
    text = shop(tmp_path).replace("most: {max: paid.amount}", "most: {max: paid.large}")
    paid = pl.read_parquet(tmp_path / "paid.parquet")
    paid.with_columns(large=pl.lit(2**63 + 1, dtype=pl.UInt64)).write_parquet(
        tmp_path / "paid.parquet"
    )
    with pytest.raises(UsageError, match='no unsigned integers, which columns "most" are'):
        built(text, f"delta:{tmp_path}/lake")
    assert not (tmp_path / "lake").exists()
    made = built(text, f"duckdb:///{tmp_path}/lake.db?table=a")
    assert read(made.tables[0].data)["most"].to_list() == [2**63 + 1] * 2


def test_an_input_is_no_target(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "raw", pl.DataFrame({"id": ["a"]}).to_arrow())
    with pytest.raises(UsageError, match="written onto or into"):
        snapshots_into(f"delta:{tmp_path}/raw", [tmp_path / "raw"])


# ---- an object store -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with stores.server() as url:
        yield url


@pytest.mark.slow
def test_from_files_in_an_object_store_into_a_delta_table_there(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = stores.bucket(store, monkeypatch)
    text = shop(tmp_path)
    expected = build(parse(text), tmp_path / "out", days=DAYS[:2])
    pl.read_parquet(tmp_path / "paid.parquet").write_parquet(f"{bucket}/paid.parquet")
    there = text.replace(f"{tmp_path}/paid.parquet", f"{bucket}/paid.parquet")
    target = f"delta:{bucket}/lake"
    made = built(there, target, DAYS[:2])
    for one, other in zip(made.tables, expected.tables, strict=True):
        assert_frame_equal(read(one.data), read(other.data), check_row_order=False)
    assert scan(made.tables[0].data).origin["recipe"] == made.recipe_id
    assert [each.change for each in built(there, target, DAYS[:2]).tables] == ["same"] * 2
    assert made.sources["paid"] == {"data": f"{bucket}/paid.parquet", "rows": 6}


# ---- at once, and killed -------------------------------------------------------------------------

BUILD = """
import sys
from datetime import date
from pathlib import Path
from gtmar.integrations.tables_by_date import snapshots_into
from gtmar.snapshots.build import build
from gtmar.snapshots.recipe import parse
text, target = Path(sys.argv[1]).read_text(), sys.argv[2]
place = snapshots_into(target) if target.startswith("d") else target
build(parse(text), place, days=[date(2024, month, 1) for month in range(2, 12)])
"""


def started(target: str, text: str) -> forks.Fork:
    Path("recipe.yaml").write_text(text)
    return forks.start("recipe.yaml", target, code=BUILD)


def test_a_date_that_another_process_puts_in_meanwhile_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the table and the commit."""
    text, target = shop(tmp_path), f"delta:{tmp_path}/lake"
    copied = tables_by_date._copy

    def overtaken(made: Path, where: str, name: str) -> int:
        monkeypatch.setattr(tables_by_date, "_copy", copied)
        assert built(text, target).tables[0].change == "new"
        return copied(made, where, name)

    monkeypatch.setattr(tables_by_date, "_copy", overtaken)
    [made] = built(text, target).tables
    assert made.change == "same"
    assert read(made.data).height == 2


KILLED = f"""
import os
from gtmar.integrations import tables_by_date
tables_by_date.pl.read_parquet_metadata = lambda _: os.kill(os.getpid(), 9)
{BUILD}"""


@pytest.mark.slow
def test_rows_of_a_date_are_not_there_without_the_rest_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when rows are in and before the table says how they were made."""
    monkeypatch.chdir(tmp_path)
    text, target = shop(tmp_path), "duckdb:///lake.db?table=accounts"
    built(text, target, [date(2024, 1, 20)])
    Path("recipe.yaml").write_text(text)
    done = forks.script(KILLED, "recipe.yaml", target)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(dates_in(target)) == [date(2024, 1, 20)]
    [made] = built(text, target).tables
    assert made.change == "new"
    assert scan(made.data).origin["recipe"]


@pytest.mark.slow
def test_two_at_once_write_each_date_once(target: str, tmp_path: Path) -> None:
    text = shop(tmp_path, until="2024-12-01")
    pair = [started(target, text) for _ in range(2)]
    for process in pair:
        done = process.ended()
        assert done.returncode == 0, done.stderr
    expected = build(parse(text), tmp_path / "out", days=[date(2024, m, 1) for m in range(2, 12)])
    assert dates_in(target) == {
        each.day: each.accounts for each in expected.tables if each.accounts
    }
    for each in expected.tables:
        if each.accounts:
            there = f"{target}/features_asof={each.day}"
            assert_frame_equal(read(there), read(each.data), check_row_order=False)


@pytest.mark.slow
def test_whoever_is_killed_leaves_whole_dates_and_the_next_one_finishes(
    target: str, tmp_path: Path
) -> None:
    history = histories.random_history(3, accounts=200)
    text = histories.recipe_text(history.write(tmp_path / "raw"))
    rng = random.Random(1)
    days = [date(2024, m, 1) for m in range(2, 12)]
    expected = {each.day: each for each in build(parse(text), tmp_path / "out", days=days).tables}
    killed, partly = 0, 0
    # A little later each time, so that kills fall before, between and into dates on any machine.
    for number in range(40):
        process = started(target, text)
        time.sleep(rng.uniform(0.1, 0.12) * 1.35**number)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        seen = {}
        if Path("lake.db").exists() or DeltaTable.is_deltatable("lake/accounts"):
            seen = dates_in(target)
        partly += 0 < len(seen) < len(days)
        assert seen == {day: expected[day].accounts for day in seen}
        if len(seen) == len(days):
            break
    assert killed >= 2
    assert partly >= 1
    last = started(target, text).ended()
    assert last.returncode == 0, last.stderr
    for day, table in expected.items():
        there_now = read(f"{target}/features_asof={day}")
        assert_frame_equal(there_now, read(table.data), check_row_order=False)
    assert dates_in(target) == {day: each.accounts for day, each in expected.items()}
