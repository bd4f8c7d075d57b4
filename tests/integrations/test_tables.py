import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import forks
import polars as pl
import pytest
from deltalake import DeltaTable
from factories import make_accounts, make_spec
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.data.scan import scan
from gtmar.errors import UsageError
from gtmar.integrations.lakehouse import append_new, publish, replace
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.runs import Limits, changed_since, promote, run, score, write_table
from gtmar.spec import ScoringSpec, reweighed, spec_id, to_yaml

ACCOUNTS = make_accounts(120)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A journal with two short searches, and their ids; tests take them over into their own."""
    folder = tmp_path_factory.mktemp("made") / "journal"
    searches = [
        run(ACCOUNTS, make_spec(), limits=Limits(count), journal=folder, seed=seed, cold=True)
        for seed, count in ((1, 10), (2, 5))
    ]
    return folder, [found.run_id for found in searches]


def take_over(made: tuple[Path, list[str]], number: int) -> str:
    """Have a search in the test's own journal, as if it had been made there; return its id."""
    folder, ids = made
    for room in ("runs", "experiments"):
        place = f"{room}/run_id={ids[number]}"
        shutil.copytree(folder / place, Path("journal") / place)
    return ids[number]


def changed() -> ScoringSpec:
    return reweighed(make_spec(), {"plan": -20})


# ---- scores ---------------------------------------------------------------------------------


def test_scores_into_a_delta_table_version_by_version() -> None:
    first, second = score(ACCOUNTS, make_spec()), score(ACCOUNTS, changed())
    assert write_table(first, "delta:scores") == "delta:scores"
    with pytest.raises(UsageError, match="is not replaced"):
        write_table(second, "delta:scores")
    write_table(second, "delta:scores", force=True)
    assert DeltaTable("scores").version() == 1
    assert_frame_equal(pl.read_delta("scores"), second, check_row_order=False)
    assert_frame_equal(pl.read_delta("scores", version=0), first, check_row_order=False)


def test_scores_into_a_duckdb_table_beside_others() -> None:
    with duckdb.connect("crm.db") as con:
        con.execute("create table mine as select 1 as a")
    for spec, force in ((make_spec(), False), (changed(), True)):
        write_table(score(ACCOUNTS, spec), "duckdb:///crm.db?table=the%20scores", force=force)
    for table in ("the%20scores", "MINE"):
        with pytest.raises(UsageError, match="is not replaced"):
            write_table(score(ACCOUNTS, make_spec()), f"duckdb:///crm.db?table={table}")
    with duckdb.connect("crm.db") as con:
        assert_frame_equal(con.sql('from "the scores"').pl(), score(ACCOUNTS, changed()))
        assert con.sql("from mine").fetchall() == [(1,)]


@pytest.mark.parametrize("target", ["delta:", "duckdb:///crm.db", "duckdb://crm?table=x"])
def test_a_malformed_target_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match=r'": expected d'):
        write_table(score(ACCOUNTS, make_spec()), target)


def test_a_target_that_can_not_be_written() -> None:
    Path("taken").write_text("no database", "utf-8")
    with pytest.raises(UsageError, match=r'taken\?table=t": can\'t be written'):
        write_table(score(ACCOUNTS, make_spec()), "duckdb:///taken?table=t")
    with pytest.raises(UsageError, match="delta:taken\": can't be written"):
        write_table(score(ACCOUNTS, make_spec()), "delta:taken")


def test_columns_that_a_delta_table_can_not_tell_apart_are_refused() -> None:
    """It was an error that nobody foresaw."""
    scored = score(ACCOUNTS, make_spec()).rename({"account_id": "Tier"})
    with pytest.raises(UsageError, match='differ by capitals alone, as "Tier", "tier" do'):
        write_table(scored, "delta:scores")
    assert not list(Path().iterdir())


# ---- what changed ---------------------------------------------------------------------------


def test_only_accounts_that_moved_with_the_reason() -> None:
    old = score(ACCOUNTS.head(100), make_spec())
    new = score(ACCOUNTS, changed())
    moved = changed_since(old, new, changed())
    assert moved.columns == [
        *("account_id", "score", "tier", "previous_score", "previous_tier", "reason"),
        *("spec_id", "scored_on"),
    ]
    before = {row["account_id"]: row for row in old.to_dicts()}
    expected = [
        row["account_id"]
        for row in new.to_dicts()
        if (row["score"], row["tier"])
        != tuple(before.get(row["account_id"], {}).get(name) for name in ("score", "tier"))
    ]
    assert moved["account_id"].to_list() == expected
    assert 20 < moved.height < 120
    assert set(moved["spec_id"]) == {spec_id(changed())}
    assert moved.filter(pl.col("reason") == "new account").height == 20
    rows = {row["account_id"]: row for row in new.to_dicts()}
    for row in moved.filter(pl.col("reason") != "new account").to_dicts():
        then, now = before[row["account_id"]], rows[row["account_id"]]
        name, move = row["reason"].split(", ")[0].rsplit(" ", 1)
        exact = now[f"points.{name}"] - then[f"points.{name}"]
        assert float(move) == pytest.approx(exact, rel=1e-3)
        others = [abs(now[c] - then[c]) for c in now if c.startswith("points.")]
        assert abs(exact) == max(others)


def test_the_same_scores_are_no_change() -> None:
    scores = score(ACCOUNTS, make_spec())
    assert changed_since(scores, scores.reverse(), make_spec()).is_empty()


def test_a_tier_that_moved_alone_is_a_change() -> None:
    tiers = {"A": {"min": 50, "max": 101}, "B": {"min": 0, "max": 50}}
    spec = make_spec(tiers=tiers)
    moved = changed_since(score(ACCOUNTS, make_spec()), score(ACCOUNTS, spec), spec)
    assert moved["score"].to_list() == moved["previous_score"].to_list()
    assert set(moved["reason"]) == {"base, tiers or weights that were not there before"}


def test_only_moves_of_so_many_points_or_of_a_tier() -> None:
    old, new = score(ACCOUNTS.head(100), make_spec()), score(ACCOUNTS, changed())
    every = changed_since(old, new, changed())
    by = (every["score"] - every["previous_score"]).abs()
    tier = every["tier"].ne_missing(every["previous_tier"])
    # At the very size of a move that there is, so that both sides of the edge are asked.
    least = float(by.drop_nulls().sort()[40])
    far = every.filter((by.fill_null(1e9) >= least - 1e-9) | tier)
    assert_frame_equal(changed_since(old, new, changed(), least=least), far)
    assert 0 < far.height < every.height
    moved = every.filter(tier)
    assert_frame_equal(changed_since(old, new, changed(), tier_only=True), moved)
    assert 20 < moved.height < far.height


@pytest.mark.slow
def test_options_of_changes_go_with_earlier_scores(folder: Path) -> None:
    ACCOUNTS.write_parquet("accounts.parquet")
    Path("spec.yaml").write_text(to_yaml(make_spec()), "utf-8")
    words = "score --data accounts.parquet --spec spec.yaml -o scored.parquet"
    for more, said in (("--tier-only", "go with --changed-since"), ("--by -1", "go with")):
        done = CliRunner().invoke(app, [*words.split(), *more.split()])
        assert done.exit_code == 2
        assert said in done.stderr
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    kept = pl.read_parquet("scored.parquet")
    assert set(kept["spec_id"]) == {spec_id(make_spec())}
    assert kept["scored_on"].dtype == pl.Date
    done = CliRunner().invoke(
        app, [*words.replace("scored", "moved").split(), "--changed-since", "scored.parquet"]
    )
    assert done.exit_code == 0, done.output
    assert pl.read_parquet("moved.parquet").is_empty()


def test_what_can_not_be_compared_is_refused() -> None:
    new = score(ACCOUNTS, make_spec())
    with pytest.raises(UsageError, match='frame: no column "score", "tier", so nothing'):
        changed_since(ACCOUNTS, new, make_spec())
    with pytest.raises(UsageError, match='ids in "account_id" stand more than once'):
        changed_since(pl.concat([new, new]), new, make_spec())


def test_the_command_from_delta_to_delta(folder: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake("accounts", ACCOUNTS.to_arrow())
    for name, spec in (("old.yaml", make_spec()), ("new.yaml", changed())):
        Path(name).write_text(to_yaml(spec), "utf-8")
    words = ["score", "--data", "accounts", "--at-version", "0", "--spec"]
    for more in (
        ["old.yaml", "-o", "delta:scores"],
        ["new.yaml", "-o", "delta:moved", "--changed-since", "scores"],
    ):
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
    assert "whose score or tier moved, into delta:moved" in done.output
    expected = changed_since(score(ACCOUNTS, make_spec()), score(ACCOUNTS, changed()), changed())
    got = pl.read_delta("moved")
    assert_frame_equal(got, expected, check_row_order=False)


# ---- the journal ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("target", ["delta:lake/gtmar", "duckdb:///lake.db"])
def test_a_journal_is_published_once_per_run(made: tuple[Path, list[str]], target: str) -> None:
    def held(name: str) -> pl.DataFrame:
        if target.startswith("delta:"):
            return pl.read_delta(f"lake/gtmar/{name}")
        with duckdb.connect("lake.db", read_only=True) as con:
            frame: pl.DataFrame = con.sql(f"from gtmar_{name}").pl()
            return frame

    def published() -> tuple[int, int, int]:
        with Journal("journal") as journal:
            found = publish(journal, target)
            keys = {"runs": ["run_id"], "experiments": ["run_id", "number"]}
            for name, order in (keys | {"events": ["event_id"]}).items():
                expected = journal.query(f"select * from {name}").sort(order)
                got = held(name).sort(order)
                assert got.columns == expected.columns
                assert got.to_dicts() == expected.to_dicts()
        return found.runs, found.experiments, found.events

    take_over(made, 0)
    assert published() == (1, 11, 0)
    promote(make_spec(), note="as set up", journal="journal")
    assert published() == (0, 0, 1)
    assert published() == (0, 0, 0)
    last = take_over(made, 1)
    promote(make_spec(base=11), note="another", journal="journal")
    details = {"verdict": "KEEP_INCUMBENT", "gates": []}
    write_event(Path("journal"), EventKind.DECISION, run_id=last, details=details)
    assert published() == (1, 6, 2)
    # Cut off between the two tables: the next publication adds what lacks, and only that.
    if target.startswith("delta:"):
        DeltaTable("lake/gtmar/runs").delete(f"run_id = '{last}'")
        assert published() == (1, 0, 0)
        DeltaTable("lake/gtmar/events").delete("kind = 'decision'")
        assert published() == (0, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["delta:lake/gtmar", "duckdb:///lake.db"])
def test_what_an_older_version_published_gets_its_events(
    made: tuple[Path, list[str]], target: str
) -> None:
    take_over(made, 1)
    promote(make_spec(), note="as set up", journal="journal")
    tables = [
        f"{target}/{name}" if target[:5] == "delta" else f"{target}?table=gtmar_{name}"
        for name in ("runs", "experiments", "events")
    ]
    with Journal("journal") as journal:
        # As it was before there were events; and as it would be with fewer columns of them.
        runs, rows, events = (
            journal.query(f"from {name}") for name in ("runs", "experiments", "events")
        )
        append_new(runs.drop("equal_sizes"), tables[0])
        append_new(rows, tables[1])
        found = publish(journal, target)
        assert (found.runs, found.experiments, found.events) == (0, 0, 1)
        assert found.events_table == tables[2]
    promote(make_spec(base=11), note="another", journal="journal")
    with Journal("journal") as journal:
        replace(events.drop("expect", "source"), tables[2], force=True)
        assert publish(journal, target).events == 1
        every = journal.query("from events").sort("event_id")
    if target.startswith("delta:"):
        got = pl.read_delta("lake/gtmar/events")
    else:
        with duckdb.connect("lake.db", read_only=True) as con:
            got = con.sql("from gtmar_events").pl()
    assert set(got.columns) == set(every.columns)
    assert got.sort("event_id")["note"].to_list() == every["note"].to_list()


@pytest.mark.slow
def test_a_run_that_has_not_ended_waits(made: tuple[Path, list[str]]) -> None:
    done = take_over(made, 1)
    for name in ("end.parquet", "seal"):
        Path(f"journal/runs/run_id={done}/{name}").unlink()
    with Journal("journal") as journal:
        found = publish(journal, "duckdb:///lake.db")
    assert (found.runs, found.experiments, found.waiting) == (0, 0, 1)


@pytest.mark.slow
def test_a_target_that_is_neither_is_refused(made: tuple[Path, list[str]]) -> None:
    take_over(made, 1)
    done = CliRunner().invoke(app, ["journal", "publish", "--to", "lake.db"])
    assert done.exit_code == 2
    assert '"lake.db": expected delta:FOLDER, delta:URL or duckdb:///file.db' in done.stderr


TWICE = """
import sys, time
import polars as pl
from gtmar.integrations.lakehouse import append_new
frame = pl.DataFrame({"run_id": [f"r{n}" for n in range(20)], "value": list(range(20))})
while time.time() < float(sys.argv[2]):
    pass
print(append_new(frame, sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("target", ["delta:{}/table", "duckdb:///{}/lake.db?table=runs"])
def test_a_table_of_fewer_columns_gets_those_that_came_later(target: str, tmp_path: Path) -> None:
    location = target.format(tmp_path)
    append_new(pl.DataFrame({"run_id": ["r1"]}), location, key="run_id")
    edges = [{"key": "A", "value": 52.5}]
    more = pl.DataFrame({"run_id": ["r1", "r2"], "tier_edges": [None, edges]})
    assert append_new(more, location, key="run_id") == 1
    held = scan(location).frame.collect().sort("run_id")
    assert held.rows() == [("r1", None), ("r2", edges)]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["delta:{}/table", "duckdb:///{}/lake.db?table=runs"])
def test_two_that_append_at_once_leave_each_row_once(tmp_path: Path, target: str) -> None:
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        location = target.format(folder)
        begin = str(time.time() + 0.5)
        both = [forks.start(location, begin, code=TWICE) for _ in range(2)]
        assert sorted(process.ended().stdout.strip() for process in both) == ["0", "20"]
        [made] = folder.iterdir()
        if made.is_dir():
            kept = pl.read_delta(str(made))["value"].to_list()
        else:
            with duckdb.connect(str(made)) as connection:
                kept = [value for (value,) in connection.sql("select value from runs").fetchall()]
        assert sorted(kept) == list(range(20))


def test_two_threads_that_append_at_once_leave_each_row_once(tmp_path: Path) -> None:
    frame = pl.DataFrame({"run_id": [f"r{n}" for n in range(20)], "value": list(range(20))})
    location = f"duckdb:///{tmp_path}/lake.db?table=runs"
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: append_new(frame, location), range(4)))
    assert sorted(done) == [0, 0, 0, 20]


def test_a_duckdb_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Killed before its last step, none is there, and the next finds its place free."""
    frame = pl.DataFrame({"run_id": ["r1"]})
    location = f"duckdb:///{tmp_path}/lake.db?table=runs"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gtmar.integrations.lakehouse.settle", killed)
        with pytest.raises(KeyboardInterrupt):
            append_new(frame, location)
    assert list(tmp_path.iterdir()) == []
    assert append_new(frame, location) == 1


@pytest.mark.parametrize("half", [b"", bytes(4096), b"\0" * 8 + b"DUC"])
def test_a_half_made_duckdb_file_is_named_with_the_way_out(tmp_path: Path, half: bytes) -> None:
    (tmp_path / "lake.db").write_bytes(half)
    with pytest.raises(UsageError, match="it is no DuckDB database"):
        append_new(pl.DataFrame({"run_id": ["r1"]}), f"duckdb:///{tmp_path}/lake.db?table=runs")
    assert (tmp_path / "lake.db").read_bytes() == half
