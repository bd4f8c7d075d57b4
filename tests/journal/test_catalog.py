"""The catalog: views over a journal, and queries that can read it and do nothing else."""

import gc
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from journals import unchained
from sql_files import files_of

from gtmar.data.synthetic import generate
from gtmar.errors import DamagedJournalWarning, JournalVersionError, QueryError, RunNotFoundError
from gtmar.journal.catalog import Journal
from gtmar.journal.columns import EVENTS, EXPERIMENTS, RECORDS
from gtmar.journal.compaction import compact
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.review import review
from gtmar.journal.schema import schema_of
from gtmar.journal.sql_library import find_file
from gtmar.journal.writer import RunWriter
from gtmar.runs import Limits, RunResult, run
from gtmar.spec import ScoringSpec, load

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
TABLE = generate("health_score", accounts=250, seed=4)

VIEWS = set(
    re.findall(
        r"^create or replace view (\w+)",
        (Path(__file__).parents[2] / "sql" / "views.sql").read_text(),
        re.MULTILINE,
    )
)
#: A table of this process, which no query may see.
process_table = pl.DataFrame({"secret": [1]})


@pytest.fixture(scope="module")
def spec() -> ScoringSpec:
    return load(EXAMPLE)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, spec: ScoringSpec
) -> tuple[Path, list[RunResult]]:
    """A journal with two runs."""
    folder = tmp_path_factory.mktemp("catalog") / "journal"
    results = [
        run(
            TABLE,
            spec,
            limits=Limits(25),
            seed=seed,
            journal=folder,
            author="ann",
            note=note,
            cold=True,
        )
        for seed, note in ((1, "first"), (2, None))
    ]
    return folder, results


@pytest.fixture(scope="module")
def journal(made: tuple[Path, list[RunResult]]) -> Iterator[Journal]:
    with Journal(made[0]) as opened:
        yield opened


@pytest.fixture(scope="module")
def results(made: tuple[Path, list[RunResult]]) -> list[RunResult]:
    return made[1]


def test_a_question_has_the_views_that_it_names_defined(journal: Journal) -> None:
    with Journal(journal.path) as opened:
        opened.query("select run_id from runs")
        assert {"runs"} < VIEWS - opened._undefined.keys() < VIEWS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("select view_name from duckdb_views() where not internal", VIEWS),
        ("select table_name from Information_Schema.tables", VIEWS),
        ("select viewname from pg_views", VIEWS),
        ("select name from sqlite_master", VIEWS),
        ("select name from (show tables)", VIEWS),
        ("select name from (Describe)", VIEWS),
        ("select function_name from duckdb_functions()", {"better_direction", "spec_weights"}),
        ("select name from query_table('sqli' || 'te_master')", VIEWS),
        ("select name from query('sho' || 'w tables')", VIEWS),
    ],
)
def test_what_lists_the_views_lists_all(journal: Journal, text: str, found: set[str]) -> None:
    with Journal(journal.path) as opened:
        opened.query("select run_id from runs")
        assert found <= {*opened.query(text).to_series()}


@pytest.mark.parametrize(
    "text",
    [
        "select count(*) from query_table('histo' || 'ry')",
        "select count(*) from query('from ' || 'chosen_' || 'run')",
        'select count(*) from "HISTORY"',
    ],
)
def test_a_view_is_found_however_it_is_named(journal: Journal, text: str) -> None:
    with Journal(journal.path) as opened:
        assert opened.query(text).item() > 0


@pytest.mark.parametrize("name", [*files_of("journal"), *files_of("checks")])
def test_plain_rows_are_those_of_the_frame(
    journal: Journal, results: list[RunResult], name: str
) -> None:
    named: dict[str, Any] = {"run": results[0].run_id, "other": results[1].run_id, "most": 5}
    named |= {"experiment": "exp_00001", "other_experiment": "exp_00002"}
    named["metric"] = "nrr_by_tier.A"
    asked = {each.name for each in find_file(name).parameters}
    given = {key: value for key, value in named.items() if key in asked}
    assert journal.sql_rows(name, **given) == journal.sql(name, **given).to_dicts()


def test_plain_rows_are_those_of_the_views(journal: Journal) -> None:
    for view in ("runs", "experiments", "events", "measures", "changes", "history"):
        text = f"from {view} order by all"
        rows, frame = journal.query_rows(text), journal.query(text)
        assert repr(rows).replace("Etc/", "") == repr(frame.to_dicts()).replace("Etc/", ""), view


# ---- views ----------------------------------------------------------------------------------


def test_runs_are_one_row_each_start_and_end_together(
    journal: Journal, results: list[RunResult]
) -> None:
    rows = journal.query("from runs order by started_at").to_dicts()
    assert [row["run_id"] for row in rows] == [result.run_id for result in results]
    for row, result, seed in zip(rows, results, (1, 2), strict=True):
        assert (row["seed"], row["state"], row["wins"]) == (seed, "finished", result.wins)
        assert (row["experiments"], row["digest"]) == (25, result.digest)
        assert row["author"] == "ann"
    assert set(rows[0]) == set(schema_of(RECORDS).names) - {"record"}


def test_experiments_are_all_rows_of_all_runs(journal: Journal, results: list[RunResult]) -> None:
    frame = journal.query("from experiments order by run_id, number")
    assert frame.columns == schema_of(EXPERIMENTS).names
    for result in results:
        mine = frame.filter(pl.col("run_id") == result.run_id)
        assert mine["number"].to_list() == list(range(26))


@pytest.mark.parametrize("named", [None, 0, 1])
def test_the_chosen_run_is_the_one_named_else_the_latest(
    journal: Journal, results: list[RunResult], named: int | None
) -> None:
    chosen = results[-1 if named is None else named]
    variables: dict[str, Any] = {} if named is None else {"run": chosen.run_id}
    [row] = journal.query("select run_id from chosen_run", **variables).rows()
    assert row == (chosen.run_id,)
    [row] = journal.query("select experiment_id, value_after from chosen_best", **variables).rows()
    assert row == (chosen.best_experiment, chosen.best_value)
    [row] = journal.query("select number, value_after from chosen_baseline", **variables).rows()
    assert row == (0, chosen.baseline_value)


def test_values_of_earlier_queries_are_forgotten(
    journal: Journal, results: list[RunResult]
) -> None:
    text = "select getvariable('run') as run, getvariable('other') as other"
    assert journal.query(text, run="a", other=3).rows() == [("a", 3)]
    assert journal.query(text, other=[1, 2]).rows() == [(None, [1, 2])]
    assert journal.query(text).rows() == [(None, None)]
    assert journal.query("select run_id from chosen_run").item() == results[-1].run_id


# ---- queries under locks --------------------------------------------------------------------


def inventory(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("copy (select 1) to '{journal}/runs/x.parquet'", "COPY"),
        ("copy runs from '{journal}/runs/x.parquet'", "COPY"),
        ("attach '{journal}/x.db' as x", "ATTACH"),
        ("insert into runs values (1)", "INSERT"),
        ("with x as (select 1) insert into runs from x", "INSERT"),
        ("explain analyze insert into runs values (1)", "EXPLAIN"),
        ("explain select 1", "EXPLAIN"),
        ("update runs set seed = 1", "UPDATE"),
        ("delete from runs", "DELETE"),
        ("create table x as select 1", "CREATE"),
        ("drop view runs", "DROP"),
        ("call pragma_version()", "CALL"),
        ("checkpoint", "CALL"),
        ("set variable run = 'x'", "SET"),
        ("set enable_external_access = true", "SET"),
        ("reset variable journal", "SET"),
        ("pragma database_list", "PRAGMA"),
        ("load httpfs", "LOAD"),
        ("install httpfs", "LOAD"),
        ("export database '{journal}/x'", "EXPORT"),
        ("begin transaction", "TRANSACTION"),
        ("prepare p as select 1", "PREPARE"),
        ("execute p", "EXECUTE"),
        ("explain analyze copy runs to '{journal}/x.csv'", "EXPLAIN"),
        ("copy from database memory to other", "PRAGMA"),
        ("import database '{journal}/x'", "PRAGMA"),
        ("detach memory", "DETACH"),
        ("use memory", "SET"),
        ("set global lock_configuration = false", "SET"),
        ("set variable record_files = ['{journal}']", "SET"),
        ("create macro m() as 1", "CREATE"),
        ("create or replace view runs as select 1", "CREATE"),
        ("alter view runs rename to x", "ALTER"),
        ("truncate runs", "DELETE"),
        ("merge into runs using runs as r on (false) when matched then delete", "MERGE"),
        ("vacuum", "VACUUM"),
    ],
)
def test_what_is_not_a_select_is_refused_and_writes_nothing(
    journal: Journal, text: str, kind: str
) -> None:
    before = inventory(journal.path)
    # DuckDB names a kind somewhat differently from release to release; that it isn't SELECT stays.
    with pytest.raises(QueryError, match=f"^expected one SELECT, got .*{kind[:4]}"):
        journal.query(text.format(journal=journal.path))
    assert inventory(journal.path) == before


@pytest.mark.parametrize(
    "text", ["select 1; select 2", "select 1; copy runs to 'x.csv'", "", "-- nothing", ";"]
)
def test_other_than_one_statement_is_refused(journal: Journal, text: str) -> None:
    with pytest.raises(QueryError, match=r"expected one SELECT, got \d statements"):
        journal.query(text)


def test_a_semicolon_at_the_end_or_in_a_text_is_no_second_statement(journal: Journal) -> None:
    assert journal.query("select ';' as a;").item() == ";"


@pytest.mark.parametrize(
    "text",
    [
        "from read_csv('{outside}')",
        "from read_text('{outside}')",
        "from read_blob('{outside}')",
        "from read_json('{outside}')",
        "from '{outside}'",
        "from glob('{folder}/*')",
        "from read_text('{inside}/../../{name}')",
        "from 'https://example.com/x.parquet'",
    ],
)
def test_nothing_outside_the_journal_is_read(journal: Journal, tmp_path: Path, text: str) -> None:
    outside = tmp_path / "secret.csv"
    outside.write_text("a\n1\n")
    sibling = journal.path.parent / "sibling.csv"
    sibling.write_text("a\n1\n")
    filled = text.format(
        outside=outside, folder=tmp_path, inside=journal.path / "runs", name=sibling.name
    )
    with pytest.raises(QueryError, match="Permission Error"):
        journal.query(filled)


@pytest.mark.parametrize(
    "text",
    [
        "copy runs to '{journal}/x.csv'",
        "insert into runs values (1)",
        "attach '{journal}/x.db' as x",
        "explain analyze insert into runs values (1)",
        "call pragma_version()",
        "pragma database_list",
        "set variable journal = 'x'",
        "install httpfs",
        "load httpfs",
        "checkpoint",
        "select 1; select 2",
        "create table x as select 1",
    ],
)
def test_text_that_a_query_runs_is_a_select_too(journal: Journal, text: str) -> None:
    before = inventory(journal.path)
    quoted = text.format(journal=journal.path).replace("'", "''")
    with pytest.raises(QueryError, match="single SELECT"):
        journal.query(f"from query('{quoted}')")
    assert inventory(journal.path) == before
    assert journal.query("select count(*) from query('from runs')").item() == 2


@pytest.mark.parametrize(
    "text",
    [
        "from read_csv('/etc/passwd')",
        "from query('from read_csv(''/etc/passwd'')')",
        "select (select content from read_text('/etc/passwd'))",
        "with x as (from read_blob('/etc/passwd')) from x",
        "from read_parquet('{outside}')",
        "from read_parquet(['{inside}', '{outside}'])",
        "from parquet_schema('{outside}')",
        "from parquet_metadata('{outside}')",
        "from parquet_kv_metadata('{outside}')",
        "from sniff_csv('/etc/passwd')",
        "from glob('/etc/*')",
        "from glob('{folder}/*.parquet')",
    ],
)
def test_no_way_of_reading_leads_outside(
    journal: Journal, made: tuple[Path, list[RunResult]], tmp_path: Path, text: str
) -> None:
    outside = tmp_path / "outside.parquet"
    inside = next(made[0].glob("runs/*/start.parquet"))
    shutil.copy(inside, outside)
    filled = text.format(outside=outside, inside=inside, folder=tmp_path)
    with pytest.raises(QueryError, match="Permission Error"):
        journal.query(filled)


@pytest.mark.parametrize(
    "text",
    [
        "select getenv('HOME')",
        "from enable_logging()",
        "from enable_profiling()",
        "from load_aws_credentials()",
        "from query_table('/etc/passwd')",
    ],
)
def test_no_function_gets_at_the_machine(journal: Journal, text: str) -> None:
    with pytest.raises(QueryError, match=r"^the query failed: "):
        journal.query(text)


def test_the_journals_own_files_are_reached_by_the_views_alone(journal: Journal) -> None:
    path = next(journal.path.glob("runs/*/start.parquet"))
    with pytest.raises(QueryError, match="Permission Error"):
        journal.query(f"select count(*) from read_parquet('{path}')")


def test_tables_of_the_process_are_not_seen(journal: Journal) -> None:
    assert process_table.height == 1
    with pytest.raises(QueryError, match="does not exist"):
        journal.query("from process_table")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select no_such_column from runs", "no_such_column"),
        ("selekt 1", "syntax error"),
        ("select error('boom')", "boom"),
        ("select $name", "name"),
    ],
)
def test_a_query_that_fails_says_so_in_one_line(journal: Journal, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        journal.query(text)
    assert caught.value.message.startswith("the query failed: ")
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 6


def test_a_result_that_has_no_frame_is_a_failed_query(journal: Journal) -> None:
    with pytest.raises(QueryError):
        journal.query("select interval 1 month as i")


def test_two_columns_of_one_name_are_both_there(journal: Journal) -> None:
    assert journal.query("select 1 as a, 2 as a").row(0) == (1, 2)


# ---- parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["x", "it's", 7, 2.5, True, None, [1, 2], "'; drop view runs"])
def test_values_come_in_as_they_are(journal: Journal, value: object) -> None:
    assert journal.query("select getvariable('given') as v", given=value).rows() == [(value,)]


@pytest.mark.parametrize("name", ["a b", 'x"; drop view runs; --', "", "journal"])
def test_a_name_that_is_none_is_refused(journal: Journal, name: str) -> None:
    values: dict[str, Any] = {name: 1}
    with pytest.raises(QueryError, match="is no name for a parameter"):
        journal.query("select 1", **values)


def test_a_value_of_no_known_type_is_refused(journal: Journal) -> None:
    with pytest.raises(QueryError):
        journal.query("select getvariable('given')", given=object())


def test_an_unknown_parameter_is_refused(journal: Journal) -> None:
    with pytest.raises(QueryError, match='query "journal/review" has no parameter "rum"') as err:
        journal.sql("review", rum="x")
    assert "it has run" in err.value.message
    assert err.value.hint == 'did you mean "run"?'
    with pytest.raises(QueryError, match="it has none") as err:
        journal.sql("runs", run="x")
    assert err.value.hint is None


@pytest.mark.parametrize("name", ["review", "journal/review"])
def test_a_query_of_the_library_is_found_by_either_name(
    journal: Journal, results: list[RunResult], name: str
) -> None:
    assert journal.sql(name)["run_id"].item() == results[-1].run_id


def test_an_unknown_query_is_refused_with_the_likely_one(journal: Journal) -> None:
    with pytest.raises(QueryError, match='no query "reveiw" in the SQL library') as caught:
        journal.sql("reveiw")
    assert caught.value.hint == 'did you mean "review"?'


# ---- which run ------------------------------------------------------------------------------


def test_a_run_is_named_in_full_or_in_part(journal: Journal, results: list[RunResult]) -> None:
    first, second = (result.run_id for result in results)
    assert journal.run_id() == second
    assert journal.run_id(first) == first
    assert journal.run_id(first[-6:]) == first
    assert journal.run_id(second[-4:]) == second


def test_a_part_of_two_names_is_refused(journal: Journal, results: list[RunResult]) -> None:
    first, second = sorted(result.run_id for result in results)
    with pytest.raises(RunNotFoundError, match='"r20" stands for 2 runs') as caught:
        journal.run_id("r20")
    assert first in caught.value.message
    assert second in caught.value.message


def test_an_unknown_run_is_refused_with_the_nearest(
    journal: Journal, results: list[RunResult]
) -> None:
    wrong = results[0].run_id[:-1] + "z"
    with pytest.raises(RunNotFoundError, match=f'has no run "{wrong}"; it has 2') as caught:
        journal.run_id(wrong)
    assert re.search('did you mean "r2', str(caught.value.hint))
    assert caught.value.exit_code == 5
    with pytest.raises(RunNotFoundError) as caught:
        journal.run_id("nothing like it")
    assert caught.value.hint == "gtmar sql runs lists them"


# ---- journals that are not as usual ---------------------------------------------------------


def test_no_folder_and_no_run_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="no such folder"):
        Journal(tmp_path / "none")
    with pytest.raises(RunNotFoundError, match="no run in it") as caught:
        Journal(tmp_path)
    assert "--journal" in str(caught.value.hint)


@pytest.mark.slow
def test_a_journal_of_events_alone_opens_and_is_empty_but_for_them(tmp_path: Path) -> None:
    event_id = write_event(tmp_path, EventKind.COMPACTION, note="packed")
    with Journal(tmp_path) as journal:
        [row] = journal.query("select event_id, kind, note from events").rows()
        assert row == (event_id, "compaction", "packed")
        for view in VIEWS - {"events"}:
            assert journal.query(f"select count(*) from {view}").item() == 0, view
        for name in ("log", "live", "leaderboard", "review"):
            assert journal.sql(name).is_empty(), name
        for part in (None, "r2026"):
            with pytest.raises(RunNotFoundError, match="no run in it"):
                journal.run_id(part)


def test_events_are_read_as_they_were_written(
    made: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    folder, results = made
    copied = tmp_path / "journal"
    shutil.copytree(folder, copied)
    since = datetime(2026, 3, 31, tzinfo=UTC)
    ids = [
        write_event(
            copied,
            kind,
            author="RevOps",
            since=since,
            model="m",
            spec='{"features": {}}',
            run_id=results[0].run_id,
            details={"a": 1},
        )
        for kind in EventKind
    ]
    # One beside its place is passed over; a torn one is left out, and named.
    whole = sorted((copied / "events").iterdir())[-1]
    whole.with_name("event_id=etorn.0.parquet").write_bytes(whole.read_bytes()[:-9])
    whole.with_name("event_id=ebeside.0.partial").write_bytes(b"PAR1")
    with Journal(copied) as journal:
        with pytest.warns(DamagedJournalWarning, match=r"1 event left out.*etorn\.0\."):
            frame = journal.query("from events order by kind")
        assert frame.columns == schema_of(EVENTS).names
        assert set(frame["event_id"]) == set(ids)
        assert frame["kind"].to_list() == sorted(map(str, EventKind))
        assert set(frame["since"]) == {since}
        assert set(frame["run_id"]) == {results[0].run_id}
        assert set(frame["details"]) == {'{"a": 1}'}


def test_the_view_of_events_has_their_columns_where_there_are_none(journal: Journal) -> None:
    described = journal.query("describe events")
    assert described["column_name"].to_list() == schema_of(EVENTS).names
    kinds = {"string": "VARCHAR", "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE"}
    assert described["column_type"].to_list() == [kinds[str(f.type)] for f in schema_of(EVENTS)]
    assert journal.query("select count(*) from events").item() == 0


def test_what_a_newer_version_wrote_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtmar.journal.writer.format_of", lambda _table: "3")
    with RunWriter(tmp_path / "one", "r20260101-120000-abc123") as opened:
        opened.record("start", {"kind": "search"})
    monkeypatch.setattr("gtmar.journal.schema.format_of", lambda _table: "12")
    write_event(tmp_path / "two", EventKind.IMPORT)
    for name, newest in (("one", 3), ("two", 12)):
        with pytest.raises(JournalVersionError, match=f"format {newest}, newer than the 2 ") as err:
            Journal(tmp_path / name)
        assert err.value.hint == "install the newer gtmar"


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a file anew with other columns, as of a version that didn't chain files yet."""
    table = pq.ParquetFile(path).read()
    pq.write_table(change(table).replace_schema_metadata({"gtmar_format": "1"}), path)


@pytest.mark.slow
def test_files_with_fewer_and_with_more_columns_read_side_by_side(
    made: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    folder, results = made
    copied = tmp_path / "journal"
    shutil.copytree(folder, copied)
    older, newer = (result.run_id for result in results)
    write_event(copied, EventKind.IMPORT)
    unchained(copied)
    for part in (copied / "experiments" / f"run_id={older}").iterdir():
        rewritten(part, lambda table: table.drop_columns(["repeats", "hhi_normalised"]))
    for part in (copied / "experiments" / f"run_id={newer}").iterdir():
        rewritten(
            part, lambda table: table.append_column("mood", pa.array(["calm"] * table.num_rows))
        )
    start = copied / "runs" / f"run_id={older}" / "start.parquet"
    rewritten(start, lambda table: table.drop_columns(["memory"]))
    with Journal(copied) as journal:
        frame = journal.query(
            "select run_id, count(*) as rows, count(hhi_normalised) as known, count(mood) as moods "
            "from experiments group by run_id"
        )
        assert set(frame.rows()) == {(older, 26, 0, 0), (newer, 26, 26, 26)}
        assert journal.query("select count(*), count(repeats) from experiments").row(0) == (52, 0)
        assert journal.query("select count(*), count(memory) from runs").row(0) == (2, 0)
        for result in results:
            assert review(journal, result.run_id).summary["best_value"] == result.best_value
        assert journal.sql("log")["value_after"].to_list() == [r.best_value for r in results[::-1]]


def test_parts_may_be_packed_while_a_journal_is_open(
    made: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    folder, results = made
    copied = tmp_path / "journal"
    shutil.copytree(folder, copied)
    parts = sorted((copied / "experiments" / f"run_id={results[0].run_id}").iterdir())
    assert len(parts) > 1
    with Journal(copied) as journal:
        compact(copied)
        assert journal.sql("review", run=results[0].run_id)["experiments"].item() == 25
        assert journal.query("select count(*) from experiments").item() == 2 * 26


@pytest.mark.slow
def test_a_run_without_an_end_still_reads(
    made: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    folder, results = made
    copied = tmp_path / "journal"
    shutil.copytree(folder, copied)
    latest = results[-1]
    for name in ("end.parquet", "seal"):
        (copied / "runs" / f"run_id={latest.run_id}" / name).unlink()
    with Journal(copied) as journal:
        row = journal.query("from runs where run_id = getvariable('run')", run=latest.run_id)
        assert row["state"].item() == "running or cut off"
        assert row["digest"].item() is None
        found = review(journal)
        assert found.summary["run_id"] == latest.run_id
        assert found.summary["experiments"] == 25
        assert found.summary["best_value"] == latest.best_value
        assert found.held is None


def test_a_run_that_has_only_begun_reads_as_such(
    made: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    # The start record is there, the first part not yet: nobody's mistake, so no failure.
    folder, results = made
    copied = tmp_path / "journal"
    for result in results:
        record = Path("runs") / f"run_id={result.run_id}" / "start.parquet"
        (copied / record).parent.mkdir(parents=True)
        shutil.copy(folder / record, copied / record)
    with Journal(copied) as journal:
        assert journal.run_id() == results[-1].run_id
        assert journal.query("select count(*) from experiments").item() == 0
        with pytest.raises(RunNotFoundError, match="has no experiment yet"):
            review(journal)


def test_a_file_beside_its_place_is_not_read(
    made: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    folder, _ = made
    copied = tmp_path / "journal"
    shutil.copytree(folder, copied)
    part = next((copied / "experiments").glob("*/part-000001.parquet"))
    part.with_name("part-000002.partial").write_bytes(part.read_bytes()[:500])
    with Journal(copied) as journal:
        assert journal.query("select count(*) from experiments").item() == 2 * 26


@pytest.mark.slow
def test_a_journal_need_not_be_closed(made: tuple[Path, list[RunResult]]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert Journal(made[0]).query("select count(*) from runs").item() == 2
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("name", ["it's", "with space", "[1]", "a*b", "50%"])
def test_a_journal_may_have_any_name(
    made: tuple[Path, list[RunResult]], tmp_path: Path, name: str
) -> None:
    copied = tmp_path / name
    shutil.copytree(made[0], copied)
    with Journal(copied) as journal:
        assert journal.query("select count(*) from experiments").item() == 2 * 26
        assert journal.query("select count(*) from runs").item() == 2
