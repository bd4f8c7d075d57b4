"""No statement of SQL changes a byte of a journal, reads a file, or outlives its query.

The forms are those of DuckDB's grammar that change something, each where a SELECT may hold one; and
all functions that DuckDB lists, so that a later release's are tried too.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from journals import IDS, begin, finish

from gtmar.data.scan import Source, scan
from gtmar.errors import QueryError
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event

#: Statements that change data, files or settings; `{part}` is a part of the journal, `{folder}` it.
STATEMENTS = [
    "copy (select 1 as a) to '{part}' (format parquet)",
    "copy (select * replace (0.9999 as value_after) from experiments) to '{part}' (format parquet)",
    "copy (select 1 as a) to '{folder}/experiments' (partition_by (a), overwrite true)",
    "copy (select 1 as a, 2 as b) to '{folder}/runs' (partition_by (a), overwrite_or_ignore)",
    "copy (select 1 as a, 2 as b) to '{folder}/new' (partition_by (a), append)",
    "copy (select 1) to '{folder}/x.csv'",
    "copy (select 1) to '{folder}/x.json' (format json)",
    "copy (select 1) to '{folder}/x.parquet' (per_thread_output)",
    "copy (select 1) to '{folder}/x.parquet' (return_files)",
    "copy experiments to '{folder}/x.parquet'",
    "copy runs from '{part}'",
    "copy from database memory to other",
    "insert into experiments select * from experiments",
    "insert into run_records by name select 'x' as run_id",
    "insert into runs values (1) returning *",
    "insert or replace into runs values (1)",
    "update experiments set value_after = 1",
    "update runs set note = 'x' returning *",
    "delete from runs",
    "delete from experiments where true returning *",
    "delete from events using runs",
    "truncate experiments",
    "merge into runs using runs as r on (false) when matched then delete",
    "create table x as select 1",
    "create temp table x as select 1",
    "create or replace view runs as select 1",
    "create or replace temp view experiments as select 1",
    "create macro m() as 1",
    "create sequence s",
    "create type t as enum ('a')",
    "create schema s",
    "create secret (type s3)",
    "create index i on runs (run_id)",
    "alter view runs rename to x",
    "alter table experiments add column x int",
    "drop view runs",
    "drop view if exists experiments cascade",
    "comment on view runs is 'x'",
    "attach '{folder}/x.db' as x",
    "attach ':memory:' as x",
    "attach '{folder}/x.db' as x (type sqlite)",
    "detach memory",
    "use memory",
    "export database '{folder}/x'",
    "import database '{folder}'",
    "call enable_logging(storage = 'file', storage_path = '{folder}')",
    "call checkpoint()",
    "checkpoint",
    "force checkpoint",
    "vacuum",
    "analyze",
    "install httpfs",
    "install httpfs from '{folder}'",
    "load httpfs",
    "load '{part}'",
    "update extensions",
    "set enable_external_access = true",
    "set allowed_directories = ['/']",
    "set temp_directory = '{folder}'",
    "set log_query_path = '{folder}/log'",
    "set profile_output = '{folder}/profile'",
    "set lock_configuration = false",
    "set variable event_source = 'select 1'",
    "reset all",
    "pragma enable_profiling",
    "pragma profile_output = '{folder}/x'",
    "pragma database_list",
    "begin",
    "commit",
    "rollback",
    "prepare p as delete from runs",
    "execute p",
    "deallocate p",
    "explain analyze delete from runs",
    "explain analyze copy (select 1) to '{folder}/x.csv'",
    "explain delete from runs",
]
#: Where a statement may stand.
FORMS = {
    "alone": "{0}",
    "after a select": "select 1; {0}",
    "in a CTE": "with x as ({0}) select * from x",
    "in a CTE that is not read": "with x as ({0}) select 1",
    "materialized": "with x as materialized ({0}) select * from x",
    "in a second CTE": "with y as (select 1), x as ({0}) select * from y",
    "in recursion": "with recursive x as (select 1 union all ({0})) select * from x",
    "in a CTE of recursion": "with recursive x as ({0}) select * from x",
    "in a subquery": "select * from ({0})",
    "in a CTE of a subquery": "select * from (with x as ({0}) select * from x)",
    "as a value": "select ({0})",
    "in a CTE of a value": "select (with x as ({0}) select 1)",
    "in a condition": "select 1 where exists ({0})",
    "in a CTE of a lateral join": "select * from runs, lateral (with x as ({0}) select 1)",
    "in a union": "select 1 union all ({0})",
    "explained": "explain analyze {0}",
    "in a CTE explained": "explain analyze with x as ({0}) select * from x",
    "described": "describe {0}",
    "summarized": "summarize {0}",
    "by query()": "from query('{1}')",
    "in a CTE by query()": "from query('with x as ({1}) select * from x')",
    "by query_table()": "from query_table('{1}')",
    "from JSON": "from json_execute_serialized_sql(json_serialize_sql('{1}'))",
    "in a CTE from JSON": (
        "from json_execute_serialized_sql(json_serialize_sql('with x as ({1}) select * from x'))"
    ),
    "in a CTE before an insert": "with x as (select 1) {0}",
    "pivoted": "pivot ({0}) on a",
    "in a values list": "values (({0}))",
}


def tried(form: str) -> list[str]:
    """Return what is tried in a form: everything in the plain ones, of the rest a third each.

    Forms that follow each other get other thirds, so that each statement is tried in a dozen.
    """
    turn, whole = list(FORMS).index(form), ("alone", "after a select", "in a CTE", "explained")
    return [text for n, text in enumerate(STATEMENTS) if form in whole or (n + turn) % 3 == 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One journal for all: each test sees that it left it as it was."""
    journal = tmp_path_factory.mktemp("folder") / "journal"
    for run_id in IDS[:2]:
        finish(begin(journal, run_id))
    write_event(journal, EventKind.PROMOTION, author="ann", model="m", spec="{}")
    return journal


def state(folder: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """Every file and folder: bytes, time of change, inode, size."""
    return {
        path: (Path(path).read_bytes() if Path(path).is_file() else b"", *seen)
        for path, seen in places(folder).items()
    }


def places(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder without its bytes, which takes no time after each statement."""
    found = {}
    for at, _, names in os.walk(folder):
        for path in (at, *(f"{at}/{name}" for name in names)):
            status = os.stat(path)  # noqa: PTH116
            found[path] = (status.st_mtime_ns, status.st_ino, status.st_size)
    return found


def rows(journal: Journal) -> list[pl.DataFrame]:
    return [
        journal.query(f"from {view} order by all")
        for view in ("run_records", "runs", "experiments", "events", "history")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_no_statement_changes_a_journal_or_a_later_answer(folder: Path, form: str) -> None:
    part = next(folder.glob("experiments/*/part-000002.parquet"))
    before, there = state(folder.parent), places(folder.parent)
    with Journal(folder) as journal:
        first = rows(journal)
        for statement in tried(form):
            text = statement.format(part=part, folder=folder)
            quoted = text.replace("'", "''")
            with contextlib.suppress(QueryError):
                journal.query(FORMS[form].format(text, quoted))
            assert places(folder.parent) == there, text
        for one, other in zip(first, rows(journal), strict=True):
            assert one.equals(other)
    assert state(folder.parent) == before


def test_the_attacks_of_the_issue_do_nothing(folder: Path) -> None:
    part = next(folder.glob("experiments/*/part-000002.parquet"))
    before = state(folder)
    texts = [
        "with x as (copy (select * replace (0.9999 as value_after) from "
        f"read_parquet('{part}')) to '{part}' (format parquet)) select * from x",
        "with x as (copy (select * replace (0.9999 as value_after) from experiments) "
        f"to '{part}' (format parquet)) select * from x",
        f"with x as (copy (select 1 as a) to '{folder}/experiments' "
        "(partition_by (a), overwrite true)) select * from x",
    ]
    with Journal(folder) as journal:
        for text in texts:
            with pytest.raises(QueryError):
                journal.query(text)
    assert state(folder) == before


#: Functions that take a place, by what DuckDB calls them; tried with a few arguments each.
PLACES = ["'/etc/passwd'", "'{part}'", "'{folder}/*'", "['{part}']", "'{folder}/x', '{part}'", ""]


def functions() -> list[str]:
    with duckdb.connect() as connection:
        found = connection.sql(
            "select distinct function_name from duckdb_functions() "
            "where function_type in ('table', 'table_macro', 'pragma') order by 1"
        ).fetchall()
    return [name for (name,) in found]


@pytest.mark.slow
def test_no_table_function_reads_or_writes_a_file(folder: Path) -> None:
    part = next(folder.glob("experiments/*/part-000002.parquet"))
    before, there = state(folder.parent), places(folder.parent)
    answered = set()
    with Journal(folder, time_limit=20) as journal:
        first = rows(journal)
        for name in functions():
            for given in PLACES:
                place = given.format(part=part, folder=folder)
                try:
                    frame = journal.query(f'select * from "{name}"({place}) limit 3')
                except QueryError:
                    continue
                answered.add(name)
                assert "root:" not in str(frame.rows()), name
            assert places(folder.parent) == there, name
        for one, other in zip(first, rows(journal), strict=True):
            assert one.equals(other)
    assert state(folder.parent) == before
    # Nothing that is named after a place gives an answer.
    assert not {n for n in answered if n.startswith(("read_", "parquet_", "glob", "sniff"))}


@pytest.mark.parametrize(
    "text",
    [
        "from '/etc/passwd'",
        "from '{part}'",
        "from read_text('/etc/passwd')",
        "from read_blob('{part}')",
        "from read_csv('/etc/passwd', columns = {{'a': 'varchar'}})",
        "from glob('/*')",
        "from read_parquet('https://localhost:9/x.parquet')",
        "from 's3://bucket/x.parquet'",
        "select getenv('PATH')",
        "select current_setting('secret_directory') from duckdb_secrets()",
        "from query_table(['/etc/passwd'])",
        "from query('from read_text(''/etc/passwd'')')",
        "from which_secret('s3://x', 's3')",
    ],
)
def test_no_file_is_read(folder: Path, text: str) -> None:
    part = next(folder.glob("runs/*/start.parquet"))
    with Journal(folder) as journal, pytest.raises(QueryError):
        journal.query(text.format(part=part))


@pytest.mark.parametrize(
    "name",
    [
        "event_source",
        "EVENT_SOURCE",
        "Event_Source",
        "JOURNAL",
        "formats_mix",
        "\uff4aournal",
        "\u1d36ournal",
    ],
)
def test_no_variable_of_the_views_is_set(folder: Path, name: str) -> None:
    with Journal(folder) as journal:
        first = rows(journal)
        with pytest.raises(QueryError, match="is no name for a parameter"):
            journal.query("from events", **{name: "select 1"})
        for one, other in zip(first, rows(journal), strict=True):
            assert one.equals(other)


@pytest.mark.parametrize(
    "text",
    [
        "with x as (copy (select 1 as a) to '{place}') select * from x",
        "with x as (copy accounts to '{place}' (partition_by (a), overwrite true)) from x",
        "with x as (delete from accounts returning *) select * from x",
        "from read_csv('{table}')",
        "from read_text('/etc/passwd')",
        "with x as (attach '{place}' as y) from x",
    ],
)
def test_a_query_over_account_tables_writes_and_reads_no_file(tmp_path: Path, text: str) -> None:
    table = tmp_path / "accounts.parquet"
    pl.DataFrame({"a": [1, 2]}).write_parquet(table)
    before = state(tmp_path)
    filled = text.format(place=tmp_path / "x", table=table)
    with pytest.raises(QueryError):
        scan(Source(str(table), query=filled))
    assert state(tmp_path) == before
    found: Any = scan(Source(str(table), query="select sum(a) as a from accounts"))
    assert found.frame.collect().item() == 3


def test_a_journal_that_cannot_be_written_is_read(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    for path in [*copied.rglob("*"), copied]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with Journal(copied) as journal:
        assert journal.query("select count(*) from runs").item() == 2
    for path in [copied, *copied.rglob("*")]:
        path.chmod(0o755)
