"""Tables of a PostgreSQL server on loopback: exact, of one moment, and no password anywhere."""

import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from urllib.parse import quote
from uuid import UUID

import histories
import polars as pl
import pytest
from engines import PASSWORD, Postgres, postgres
from factories import make_accounts, make_spec, weighted
from polars.testing import assert_frame_equal
from snapshot_tables import snapshot_table
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import Source, collect, scan
from gtmar.errors import (
    AccountDataError,
    NotResumableError,
    RecipeError,
    UsageError,
    ViolationsError,
)
from gtmar.runs import Limits, replay, run
from gtmar.snapshots.build import build
from gtmar.snapshots.recipe import parse


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with postgres(port=port) as started:
        if started is None:
            pytest.skip("PostgreSQL is not installed here")
        # Neither the zone nor the language of the server's own may show.
        started.run("alter database postgres set timezone = 'Asia/Kolkata'")
        started.run("alter database postgres set datestyle = 'German'")
        yield started


def read(location: str) -> pl.DataFrame:
    table = scan(location)
    return collect(table, table.frame)


# ---- values --------------------------------------------------------------------------------------


def drawn(rng: Random, number: int) -> tuple[object, ...]:
    moment = datetime(1, 1, 1) + timedelta(microseconds=rng.randrange(315_000_000_000_000_000))
    whole = Decimal(rng.randrange(-(10**12), 10**12))
    values = (
        f"{number:05}",
        rng.randrange(-(2**15), 2**15),
        rng.randrange(-(2**31), 2**31),
        rng.randrange(-(2**63), 2**63),
        rng.choice([True, False]),
        rng.uniform(-1e9, 1e9),
        whole / 100,
        whole / Decimal(10) ** rng.randrange(0, 15),
        whole / 100,
        moment.date(),
        moment,
        moment.replace(tzinfo=UTC),
        UUID(int=rng.getrandbits(128)),
        rng.choice(["Zürich", "東京", "a'b\"c", "", "NULL", "a\tb\\n"]),
        rng.choice(["gold", "silver"]),
    )
    return (values[0], *(None if rng.random() < 0.15 else value for value in values[1:]))


COLUMNS = {
    "id": "text",
    "small": "int2",
    "middle": "int4",
    "large": "int8",
    "flag": "bool",
    "real": "float8",
    "cents": "eur",
    "free": "numeric",
    "paid": "money",
    "day": "date",
    "at": "timestamp",
    "moment": "timestamptz",
    "key": "uuid",
    "text": "varchar",
    "tier": "tier",
}


def literal(value: object) -> str:
    if value is None:
        return "null"
    shown = value.isoformat() if isinstance(value, date | datetime) else str(value)
    return "'" + shown.replace("'", "''") + "'"


def test_every_value_is_what_was_written(server: Postgres) -> None:
    rng = Random(5)
    rows = [drawn(rng, number) for number in range(3_000)]
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    listed = ",\n".join(f"({', '.join(map(literal, row))})" for row in rows)
    server.run(
        "create domain eur as numeric(14, 2); create type tier as enum ('silver', 'gold');"
        f"create table exact ({columns}); insert into exact values {listed};"
    )
    got = read(f"{server.address}?table=exact").sort("id")
    assert got.columns == list(COLUMNS)
    assert got.schema["cents"] == pl.Decimal(14, 2)
    assert got.schema["moment"] == pl.Datetime("us", "UTC")
    expected = [
        tuple(str(value) if isinstance(value, UUID) else value for value in row) for row in rows
    ]
    assert got.rows() == expected


def test_what_has_no_end_is_endless_and_never_a_day_like_others(server: Postgres) -> None:
    """The driver wraps them around: an end that never comes would lie before Christ."""
    server.run(
        "create table endless (id text, day date, at timestamp, moment timestamptz);"
        "insert into endless values ('a', 'infinity', 'infinity', 'infinity'), "
        "('b', '-infinity', '-infinity', '-infinity'), "
        "('c', '2024-02-29', '2024-02-29 10:00', '294276-01-01 00:00+00'), "
        "('d', '4712-01-01 BC', null, '9999-12-31 23:59:59.999999+00');"
    )
    got = read(f"{server.address}?table=endless").sort("id").with_columns(pl.all().to_physical())
    last, end = 2**31 - 1, 2**63 - 1
    leap = (date(2024, 2, 29) - date(1970, 1, 1)).days
    before_christ = server.ask("select '4712-01-01 BC'::date - '1970-01-01'::date as days").item()
    assert got["day"].to_list() == [last, -last, leap, before_christ]
    assert got["at"].to_list() == [end, -end, (leap * 24 + 10) * 3_600_000_000, None]
    assert got["moment"].to_list() == [end, -end, end, 253_402_300_799_999_999]
    encoder = {"kind": "days_before", "then": {"kind": "range", "from": 0, "to": 9}}
    spec = make_spec(features={"day": weighted(encode=encoder)}, id="id")
    query = "select *, 1 as churned from accounts"
    with pytest.raises(ViolationsError, match=r"3 .*infinite, or outside the years 1 to 9999"):
        load_accounts(
            scan(Source(f"{server.address}?table=endless", query=query)), spec, as_of="2024-03-01"
        )


def test_a_number_that_no_decimal_holds_leaves_its_column_out(server: Postgres) -> None:
    server.run(
        "create table odd (id text, gone numeric, held numeric(5, 2), long numeric, fine numeric, "
        "age interval, marks int[], note json); insert into odd values "
        "('a', 'NaN', 'NaN', 1e-21, 12345678901234567.89, '1 day', '{1}', '{}'), "
        "('b', 'Infinity', 1, 1e18, -0.00000000000000000001, null, null, null), "
        "('c', 1, 2, 3, null, null, null, null);"
    )
    table = scan(f"{server.address}?table=odd")
    assert table.columns == ["id", "fine"]
    assert dict(table.unread) == {
        "gone": "of type numeric with 2 of its values NaN or infinite",
        "held": "of type numeric with 1 of its values NaN or infinite",
        "long": "of type numeric with 2 of its values beyond 18 digits or 20 decimals",
        "age": "of PostgreSQL's type interval, neither number, date nor category",
        "marks": "of PostgreSQL's type integer[], neither number, date nor category",
        "note": "of PostgreSQL's type json, neither number, date nor category",
    }
    fine = collect(table, table.frame.sort("id"))["fine"].to_list()
    assert fine == [Decimal("12345678901234567.89"), Decimal("-1E-20"), None]
    server.run("create table none (age interval)")
    with pytest.raises(AccountDataError, match='no column can be read: "age"'):
        scan(f"{server.address}?table=none")


def test_text_of_another_encoding_is_text_and_bytes_that_are_none_are_refused(
    server: Postgres,
) -> None:
    for name, encoding in (("latin", "LATIN1"), ("bytes", "SQL_ASCII")):
        server.run(f"create database {name} encoding '{encoding}' template template0 locale 'C'")
        server.run(
            f"\\connect {name}\ncreate table t (id text);\n"
            "insert into t values (convert_from('\\x5afc72696368', getdatabaseencoding()));"
        )
    there = server.address.replace("/postgres", "/latin")
    assert read(f"{there}?table=t")["id"].to_list() == ["Zürich"]
    there = server.address.replace("/postgres", "/bytes")
    with pytest.raises(AccountDataError, match=r"can't be read: .*UTF.?8"):
        read(f"{there}?table=t")


# ---- tables and their names ----------------------------------------------------------------------


def test_tables_and_views_of_any_schema(server: Postgres) -> None:
    server.run(
        'create schema "My Mart"; create table "My Mart"."acc.t" (id int);'
        'insert into "My Mart"."acc.t" values (7); create table plain (id int);'
        'create view seen as select 1 as id; create schema "Upper"; create table "Upper".plain ();'
    )
    assert read(f'{server.address}?table="My Mart"."acc.t"')["id"].to_list() == [7]
    assert read(f"{server.address}?table=public.plain").height == 0
    assert read(f"{server.address}?table=seen")["id"].to_list() == [1]
    with pytest.raises(AccountDataError, match='no table "plane"; it has ') as caught:
        scan(f"{server.address}?table=plane")
    assert caught.value.hint == 'did you mean "plain"?'
    with pytest.raises(AccountDataError, match=r'no table "upper\.plain"'):
        scan(f"{server.address}?table=upper.plain")
    with pytest.raises(UsageError, match=r"expected postgresql://HOST/DATABASE\?table=NAME"):
        scan(server.address)
    with pytest.raises(UsageError, match="has no versions"):
        scan(Source(f"{server.address}?table=plain", 3))


def test_nothing_can_be_written_there(server: Postgres) -> None:
    server.run(
        "create sequence taken; create function take() returns int language plpgsql as "
        "$$ begin create table made (id int); return 1; end $$;"
        "create view writing as select nextval('taken') as id;"
        "create view making as select take() as id;"
    )
    for view in ("writing", "making"):
        with pytest.raises(AccountDataError, match="in a read-only transaction"):
            scan(f"{server.address}?table={view}")


@pytest.mark.slow
def test_every_pass_sees_the_rows_of_one_moment_and_leaves_no_file(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server.run("create table moving as select generate_series(1, 500000) as id")
    table = scan(f"{server.address}?table=moving")
    server.run("delete from moving where id > 10; insert into moving values (-1)")
    total = table.frame.select(pl.col("id").cast(pl.Int64).sum(), n=pl.len())
    assert collect(table, total).row(0) == (500_000 * 500_001 // 2, 500_000)
    few = collect(table, table.frame.filter(pl.col("id") % 100_000 == 0).select("id"))
    assert sorted(few["id"]) == [100_000, 200_000, 300_000, 400_000, 500_000]
    assert table.origin["source_rows"] == "500000"
    assert len(list(tmp_path.iterdir())) == 1
    del table, total
    assert list(tmp_path.iterdir()) == []


PEAK = """
import resource, sys
from gtmar.data.scan import scan
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = scan(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) << 10, table.origin["source_rows"])
"""


@pytest.mark.slow
def test_a_table_is_streamed(server: Postgres) -> None:
    """Four times the rows take about the memory of one batch, not four times as much."""
    peaks = []
    for rows in (50_000, 200_000):
        # Long texts make many bytes of few rows, which the server is quick about.
        server.run(
            "create or replace view wide as select n as id, repeat(md5(n::text), 30) as a, "
            f"n * 1.01 as b, repeat('x', 640) as c from generate_series(1, {rows}) as n"
        )
        command = [sys.executable, "-c", PEAK, f"{server.address}?table=wide"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, count = map(int, done.stdout.split())
        assert count == rows
        peaks.append(peak)
    # As a frame the larger is 300 MB and more.
    assert peaks[1] < 1.5 * peaks[0] + (50 << 20)
    assert peaks[1] < 250 << 20


# ---- secrets -------------------------------------------------------------------------------------

RUNNER = CliRunner()


@pytest.mark.slow
def test_no_password_is_printed_or_journaled(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = make_accounts(400)
    server.load("accounts", frame)
    address = f"{server.address}?table=accounts"
    said = []

    def gtmar(*words: object, code: int = 0) -> str:
        result = RUNNER.invoke(app, list(map(str, words)))
        said.append(result.output)
        assert result.exit_code == code, result.output
        return result.output

    first = gtmar("init", "--data", address, "-o", "spec.yaml")
    [following] = [line for line in first.splitlines() if line.startswith("Next: ")]
    assert "postgresql://gtmar@127.0.0.1" in following
    assert "put in your own URL with its credentials" in first
    gtmar("check", "--data", address, "--spec", "spec.yaml")
    gtmar("check", "--data", address, "--spec", "spec.yaml", "--json")
    gtmar("run", "--data", address, "--spec", "spec.yaml", "--n", 20, "-o", "best.yaml")
    gtmar("review")
    gtmar("report", "-o", "page.html", "--data", address)
    gtmar("journal", "publish", "--to", "duckdb:///published.duckdb")
    gtmar("check", "--data", f"{address}s", "--spec", "spec.yaml", code=3)
    gtmar("check", "--data", f"{address}s", "--spec", "spec.yaml", "--json", code=3)
    gtmar("--debug", "check", "--data", f"{address}&nonsense=1", "--spec", "spec.yaml", code=3)
    wrong = address.replace(":pa55", ":another-pa55")
    gtmar("--debug", "check", "--data", wrong, "--spec", "spec.yaml", code=3)
    Path("own.yaml").write_text(
        "name: x\nsources: {s: {data: '" + wrong + "', account: account_id, at: nothing}}\n"
        "dates: [2024-03-01]\nwindow: 1 month\nrevenue: {transactions: {source: s, amount: mrr}}\n"
        "features: {n: {count: s}}\n"
    )
    gtmar("snapshot", "own.yaml", "-o", "out", code=3)
    Path("own.yaml").write_text(Path("own.yaml").read_text().replace(wrong, address))
    gtmar("snapshot", "own.yaml", "-o", "out", "--json", code=3)
    secrets = {PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), "pa55"}
    for text in said:
        assert not [secret for secret in secrets if secret in text], text
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "own.yaml"]
    assert len(written) > 5
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path
    # With the password in the environment the printed step runs as it is.
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    gtmar(*shlex.split(following)[2:])


@pytest.mark.slow
def test_a_record_is_opened_again_where_somebody_says_so(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.load("again", make_accounts(300))
    done = run(f"{server.address}?table=again", make_spec(), limits=Limits(10), journal="journal")
    with pytest.raises(AccountDataError, match=r"can't be reached: .*no password supplied"):
        replay(done.run_id, journal="journal")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert replay(done.run_id, journal="journal").identical
    server.run("update again set depth = depth / 2")
    with pytest.raises(NotResumableError):
        replay(done.run_id, journal="journal")
    done_elsewhere = subprocess.run(
        [sys.executable, "-m", "gtmar", "replay", done.run_id],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "it is not opened unasked" in done_elsewhere.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/db?table=t", "can't be reached: .*Connection refused"),
        ("postgresql://u:hunter2@127.0.0.1:port/db?table=t", "can't be reached: "),
        ("postgresql://u:hunter2@[::1/db?table=t", "not a URL"),
        ("mysql://u:hunter2@127.0.0.1/db?table=t", 'no ADBC driver "mysql" is installed'),
        ("snowflake://u:hunter2@acc/db?table=t;drop", 'no ADBC driver "snowflake" is installed'),
    ],
)
def test_what_cant_be_reached(address: str, said: str) -> None:
    with pytest.raises((AccountDataError, UsageError), match=said) as caught:
        scan(address)
    cause = str(caught.value)
    assert "hunter2" not in cause


def test_without_the_drivers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    with pytest.raises(UsageError, match="adbc_driver_postgresql") as caught:
        scan("postgresql://h/db?table=t")
    assert caught.value.hint == "pip install 'gtmar[database]'"


# ---- the same as from files ----------------------------------------------------------------------


@pytest.mark.slow
def test_accounts_of_a_database_are_those_of_a_file(server: Postgres, tmp_path: Path) -> None:
    frame = make_accounts(500)
    server.load("same", frame)
    frame.write_parquet(tmp_path / "same.parquet")
    there, here = (
        load_accounts(scan(place), make_spec())
        for place in (f"{server.address}?table=same", tmp_path / "same.parquet")
    )
    assert there.outcomes_fingerprint == here.outcomes_fingerprint
    assert there.features_fingerprint == here.features_fingerprint
    query = "select * replace (depth * 2 as depth) from accounts"
    doubled = scan(Source(f"{server.address}?table=same", query=query))
    assert_frame_equal(
        collect(doubled, doubled.frame.select("account_id", "depth")).sort("account_id"),
        frame.select("account_id", depth=pl.col("depth") * 2).sort("account_id"),
    )
    assert doubled.origin["source_rows"] == "500"


@pytest.mark.slow
def test_a_recipe_over_a_database_gives_the_tables_of_files(
    server: Postgres, tmp_path: Path
) -> None:
    history = histories.random_history(11, accounts=120)
    folder = history.write(tmp_path / "raw")
    text = histories.recipe_text(folder)
    for name in ("subs", "events", "states"):
        server.load(f"raw_{name}", pl.read_parquet(folder / f"{name}.parquet"))
        there = f"{server.address}?table=raw_{name}"
        text = text.replace(f"{folder}/{name}.parquet", f"'{there}'")
    assert text.count("postgresql://") == 4
    built = build(parse(text), tmp_path / "out")
    sources = Path(built.tables[0].data, "sources.json").read_text()
    assert "postgresql://gtmar@127.0.0.1" in sources
    assert '"read_at": "20' in sources
    assert "pa55" not in sources + str(built)
    expected = snapshot_table(parse(histories.recipe_text(folder)), histories.DAY)
    assert_frame_equal(snapshot_table(parse(text), histories.DAY), expected, check_dtypes=False)


def test_a_recipe_names_the_column_that_cant_be_had(server: Postgres) -> None:
    server.run(
        "create table paid (id text, day date, amount numeric, age interval);"
        "insert into paid values ('a', '2024-01-01', 'NaN', '1 day')"
    )
    text = f"""
name: x
sources: {{paid: {{data: '{server.address}?table=paid', account: id, at: day}}}}
dates: [2024-03-01]
window: 1 month
data_until: 2024-05-01
revenue: {{transactions: {{source: paid, amount: amount}}}}
features: {{n: {{count: paid}}}}
"""
    with pytest.raises(RecipeError, match="1 of its values NaN or infinite"):
        snapshot_table(parse(text), date(2024, 3, 1))
