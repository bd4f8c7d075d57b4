"""What a query may take: time and memory, Ctrl-C, and what is left afterwards."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import duckdb
import polars as pl
import pytest

from gtmar.errors import QueryError
from gtmar.sql_sandbox import QueryLimits, answer, lock, memory_of

MB = 1_000_000
#: Small enough to be reached at once, large enough for an ordinary query.
LIMITS = QueryLimits(seconds=1, memory=200 * MB)
PATIENT = QueryLimits(seconds=30, memory=200 * MB)

ENDLESS = "with recursive x as (select 1 as a union all select a + 1 from x) select max(a) from x"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.register("numbers", pl.DataFrame({"a": [1, 2, 3]}))
        opened.execute("create table held as select 7 as a")
        lock(opened, LIMITS)
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        ENDLESS,
        "select count(*) from range(1000000000000) a where hash(a.range) = 8",
        "select sum(a.range * b.range) from range(1000000) a, range(1000000) b",
    ],
)
def test_a_query_without_an_end_is_stopped_in_time(
    connection: duckdb.DuckDBPyConnection, text: str
) -> None:
    began = time.monotonic()
    with pytest.raises(QueryError, match="stopped after 1 s, its time limit") as caught:
        answer(connection, text, LIMITS, flags="--time-limit")
    assert caught.value.hint == "--time-limit"
    assert time.monotonic() - began < 20
    assert answer(connection, "from numbers", PATIENT)["a"].to_list() == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "select * from range(1000000000000)",
        "select list(range) from range(1000000000000)",
        "select repeat('x', 3000000000)",
        "select sum(length(repeat('x', 100000000 + range))) from range(1000)",
        "select string_agg(repeat('x', 1000000), '') from range(100000)",
        "with recursive x as (select 'a' as a union all select a || a from x) select max(a) from x",
        "select array_agg(a) from (select unnest(range(1000000000)) as a)",
        "select a.range, b.range from range(100000) a, range(100000) b order by hash(b.range)",
    ],
)
def test_a_query_without_bounds_is_stopped_or_refused(
    connection: duckdb.DuckDBPyConnection, text: str
) -> None:
    with pytest.raises((QueryError, duckdb.Error)):
        answer(connection, text, PATIENT)
    assert answer(connection, "from numbers", PATIENT)["a"].to_list() == [1, 2, 3]
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


def test_a_result_larger_than_the_memory_is_said_to_be(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    with pytest.raises(QueryError, match="its result is more than 200 MB, its memory limit"):
        answer(connection, "select * from range(100000000)", PATIENT)


def test_nothing_that_a_query_does_outlives_it(connection: duckdb.DuckDBPyConnection) -> None:
    for text in (
        "with x as (delete from held returning *) select * from x",
        "with x as (insert into held values (8) returning *) select * from x",
        "with x as (update held set a = 9 returning *) select * from x",
    ):
        with pytest.raises(duckdb.Error, match="read-only"):
            answer(connection, text, PATIENT)
    assert answer(connection, "from held", PATIENT).item() == 7


def test_queries_of_several_threads_share_the_bound(connection: duckdb.DuckDBPyConnection) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    found: list[int] = []

    def ask() -> None:
        with duckdb.connect() as opened:
            lock(opened, LIMITS)
            text = "select count(*) from range(1000000)"
            found.append(answer(opened, text, PATIENT).item())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1_000_000] * 4
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert answer(connection, "select 1 as a", PATIENT).item() == 1


@pytest.mark.slow
def test_ctrl_c_stops_a_query() -> None:
    code = (
        # Imported first: what is pressed while a library loads may be lost on it.
        "import duckdb, polars, sys\nfrom gtmar.sql_sandbox import QueryLimits, answer, lock\n"
        "connection = duckdb.connect()\nlock(connection, QueryLimits())\n"
        "print('begun', flush=True)\n"
        f"try:\n    answer(connection, {ENDLESS!r}, QueryLimits(50))\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    process.stdout.close()


@pytest.mark.parametrize(
    ("text", "amount"),
    [("64MB", 64_000_000), ("1.5 GB", 1_500_000_000), ("2g", 2_000_000_000), ("1TiB", 1 << 40)],
)
def test_an_amount_of_memory_is_read(text: str, amount: int) -> None:
    assert memory_of(text) == amount


@pytest.mark.parametrize("text", ["", "much", "-1GB", "63MB", "0", "nan", "1e9GB", "1GB2"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="is no amount of memory"):
        memory_of(text)


def test_repeated_names_of_columns_are_told_apart(connection: duckdb.DuckDBPyConnection) -> None:
    frame = answer(connection, "select 1 as a, 2 as a, 3 as A, 4 as a_1", PATIENT)
    assert frame.row(0) == (1, 2, 3, 4)
    assert len({name.casefold() for name in frame.columns}) == 4
