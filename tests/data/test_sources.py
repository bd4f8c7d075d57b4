import decimal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stores
from deltalake import DeltaTable, write_deltalake
from factories import make_accounts, make_spec, weighted
from polars.testing import assert_frame_equal

from gtmar.autospec.first_spec import first_spec
from gtmar.data.locations import without_credentials
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import Source, collect, named_sources, scan
from gtmar.errors import AccountDataError, QueryError, UsageError, ViolationsError
from gtmar.journal.catalog import Journal
from gtmar.runs import Limits, replay, run


def read(data: Any) -> pl.DataFrame:
    table = scan(data)
    return collect(table, table.frame)


def start_of(journal: Path) -> dict[str, Any]:
    with Journal(journal) as opened:
        row = opened.query("select * from runs").row(0, named=True)
    return {**row, "parameters": dict(row["parameters"])}


OLD, NEW = make_accounts(200), make_accounts(300, seed=7)


# ---- Delta ----------------------------------------------------------------------------------


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Make a Delta table of two versions."""
    folder = tmp_path / "accounts"
    write_deltalake(folder, OLD.to_arrow())
    write_deltalake(folder, NEW.to_arrow(), mode="overwrite")
    return folder


@pytest.mark.parametrize("form", ["{}", "delta:{}"])
def test_a_delta_table_at_its_newest_version(delta: Path, form: str) -> None:
    table = scan(form.format(delta))
    assert table.origin == {"source_kind": "delta", "source_version": "1"}
    assert_frame_equal(collect(table, table.frame), NEW, check_row_order=False)


def test_a_delta_table_at_an_older_version(delta: Path) -> None:
    table = scan(Source(str(delta), 0))
    assert table.origin["source_version"] == "0"
    assert_frame_equal(collect(table, table.frame), OLD, check_row_order=False)


def test_a_version_that_is_not_there(delta: Path) -> None:
    for wanted in (7, 2, -1, 2**70):
        with pytest.raises(AccountDataError, match=f"no version {wanted}; it has 0 to 1"):
            scan(Source(str(delta), wanted))
    OLD.write_delta(delta.parent / "one")
    with pytest.raises(AccountDataError, match='one": no version 1; it has 0 alone'):
        scan(Source(str(delta.parent / "one"), 1))


@pytest.mark.slow
def test_a_run_records_the_version_and_is_replayed_on_it(delta: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    done = run(Source(str(delta), 0), make_spec(), limits=Limits(20), journal=journal)
    start = start_of(journal)
    assert start["source"] == str(delta)
    assert start["parameters"]["source_version"] == "0"
    assert start["accounts"] == OLD.height
    write_deltalake(delta, OLD.head(50).to_arrow(), mode="overwrite")
    assert replay(done.run_id, journal=journal).identical


# ---- Iceberg --------------------------------------------------------------------------------


@pytest.fixture
def iceberg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an Iceberg table of two snapshots in a SQLite catalog of the environment's."""
    from pyiceberg.catalog.sql import SqlCatalog

    uri = f"sqlite:///{tmp_path}/catalog.db"
    warehouse = (tmp_path / "warehouse").as_uri()
    for key, value in (("TYPE", "sql"), ("URI", uri), ("WAREHOUSE", warehouse)):
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{key}", value)
    monkeypatch.setattr(
        "pyiceberg.catalog._ENV_CONFIG", __import__("pyiceberg").utils.config.Config()
    )
    catalog = SqlCatalog("lake", uri=uri, warehouse=warehouse)
    catalog.create_namespace("crm")
    table = catalog.create_table("crm.accounts", schema=OLD.to_arrow().schema)
    table.append(OLD.to_arrow())
    table.append(
        NEW.with_columns(pl.concat_str(pl.lit("n-"), "account_id").alias("account_id")).to_arrow()
    )
    snapshots = [entry.snapshot_id for entry in table.history()]
    catalog.close()
    return SimpleNamespace(location="iceberg://lake/crm.accounts", snapshots=snapshots)


def test_an_iceberg_table_at_its_newest_and_an_older_snapshot(iceberg: Any) -> None:
    newest = scan(iceberg.location)
    assert newest.origin["source_version"] == str(iceberg.snapshots[-1])
    assert collect(newest, newest.frame).height == OLD.height + NEW.height
    older = scan(Source(iceberg.location, iceberg.snapshots[0]))
    assert_frame_equal(collect(older, older.frame), OLD, check_row_order=False)


def test_an_iceberg_table_or_snapshot_that_is_not_there(iceberg: Any) -> None:
    with pytest.raises(AccountDataError, match=r'catalog "lake" has no table crm\.other'):
        scan("iceberg://lake/crm.other")
    # 0 is no snapshot either, and not a way of asking for the newest.
    for wanted in (0, 5):
        with pytest.raises(AccountDataError, match=f"no snapshot {wanted}; it has "):
            scan(Source(iceberg.location, wanted))
    with pytest.raises(UsageError, match=r"expected iceberg://CATALOG/namespace\.table"):
        scan("iceberg://lake/accounts")


# ---- DuckDB ---------------------------------------------------------------------------------


@pytest.fixture
def crm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with duckdb.connect("crm.db") as con:
        con.register("frame", NEW)
        con.execute("create table accounts as from frame")
        con.execute('create view "odd ""view" as select * from accounts where depth > 0.5')
    return tmp_path / "crm.db"


@pytest.mark.slow
def test_a_duckdb_table_and_a_view(crm: Path) -> None:
    assert_frame_equal(read("duckdb:///crm.db?table=accounts"), NEW)
    assert_frame_equal(read(f"duckdb:///{crm}?table=accounts"), NEW)
    assert_frame_equal(
        read("duckdb:///crm.db?table=odd%20%22view"), NEW.filter(pl.col("depth") > 0.5)
    )


def test_only_the_columns_asked_for_are_read_and_filters_hold(crm: Path) -> None:
    table = scan("duckdb:///crm.db?table=accounts")
    got = collect(table, table.frame.filter(pl.col("logins") > 30).select("depth"))
    assert got.to_series().to_list() == NEW.filter(pl.col("logins") > 30)["depth"].to_list()
    assert collect(table, table.frame.head(3)).height == 3


def test_what_is_not_there_in_duckdb(crm: Path) -> None:
    with pytest.raises(AccountDataError, match='no table "acounts"; it has "accounts"') as caught:
        scan("duckdb:///crm.db?table=acounts")
    assert caught.value.hint == 'did you mean "accounts"?'
    with pytest.raises(AccountDataError, match=r'no file "other\.db"'):
        scan("duckdb:///other.db?table=accounts")
    for malformed in ("duckdb:///crm.db", "duckdb://crm.db?table=a", "duckdb:///?table=a"):
        with pytest.raises(UsageError, match=r"expected duckdb:///file\.db\?table=NAME"):
            scan(malformed)


@pytest.mark.slow
def test_a_table_of_another_schema_and_no_hint_to_another_table(crm: Path) -> None:
    with duckdb.connect("crm.db") as con:
        con.execute("create schema marts; create table marts.accounts as from accounts limit 7")
        con.execute(
            'create table marts.fct as from accounts limit 3; create table "a.b" as select 1'
        )
    assert read("duckdb:///crm.db?table=marts.accounts").height == 7
    assert read("duckdb:///crm.db?table=crm.marts.fct").height == 3
    assert read('duckdb:///crm.db?table="marts"."fct"').height == 3
    assert read("duckdb:///crm.db?table=a.b").height == 1
    for name, hint in {
        "fct": 'did you mean "marts.fct"?',
        "marts.acounts": 'did you mean "marts.accounts"?',
        "sales.accounts": None,
    }.items():
        with pytest.raises(AccountDataError, match="no table") as caught:
            scan(f"duckdb:///crm.db?table={name}")
        assert caught.value.hint == hint


def test_names_of_tables_are_shown_as_they_are_read(crm: Path) -> None:
    with duckdb.connect("crm.db") as con:
        con.execute('create schema "My Mart"; create table "My Mart"."acc.t" as from accounts')
    with pytest.raises(AccountDataError) as caught:
        scan('duckdb:///crm.db?table="My Mart"."acc.s"')
    told = 'no table "My Mart"."acc.s"; it has "My Mart"."acc.t", "accounts"'
    assert told in caught.value.message
    assert caught.value.hint == 'did you mean "My Mart"."acc.t"?'
    assert read('duckdb:///crm.db?table="My Mart"."acc.t"').height == NEW.height


@pytest.mark.slow
def test_columns_that_no_frame_has_are_left_out_and_named_where_asked_for(crm: Path) -> None:
    strange = {
        "s_interval": "interval '1 month'",
        "s_union": "union_value(a := 1)",
        "s_bignum": "12345678901234567890123::bignum",
        "s_timetz": "'10:00:00+02'::timetz",
        "s_list": "[interval '1 month']",
    }
    columns = ", ".join(f"{value} as {name}" for name, value in strange.items())
    with duckdb.connect("crm.db") as con:
        con.execute(f"create table odd as select *, {columns} from accounts")
    table = scan("duckdb:///crm.db?table=odd")
    assert table.columns == NEW.columns
    assert strange.keys() <= first_spec(table).left_out.keys()
    assert read(Source("duckdb:///crm.db?table=odd", query="from accounts")).height == NEW.height
    for name in strange:
        spec = make_spec(features={name: weighted()})
        with pytest.raises(ViolationsError, match=rf"{name}.*can't be read.*of DuckDB's type"):
            load_accounts(table, spec)


def test_pandas_columns_that_no_feature_uses(tmp_path: Path) -> None:
    whole = NEW.to_pandas().assign(mixed=[1, "x"] * (NEW.height // 2))
    table = scan(whole)
    assert table.columns == NEW.columns
    assert "of values that no column has together" in table.unread["mixed"]


def test_names_in_a_pandas_index_are_columns() -> None:
    table, ids = NEW.to_pandas(), ["account_id"]
    unnamed = table.set_index(table["account_id"].rename(None))
    for given in (table.set_index(ids), table.set_index([*ids, "mrr"]), unnamed):
        assert sorted(scan(given).columns) == sorted(NEW.columns)
    # A name that is a column as well is read from the column.
    assert scan(table.set_index("account_id", drop=False)).columns == NEW.columns
    assert "day" not in scan(table.rename_axis(columns="day")).columns


@pytest.mark.parametrize("kind", ["parquet", "table", "batches", "pandas", "objects"])
def test_decimals_wider_than_any_frame_s_are_left_out_and_named(kind: str, tmp_path: Path) -> None:
    # BigQuery's BIGNUMERIC is a decimal of 76 digits, alone or in a list; Polars panics at it.
    with decimal.localcontext(prec=76):
        amounts = [decimal.Decimal("1e30") + decimal.Decimal("1e-20")] * NEW.height
    wide = pa.array(amounts, pa.decimal256(76, 38))
    listed = pa.array([[each] for each in amounts], pa.list_(pa.decimal256(76, 38)))
    data: Any = NEW.to_arrow().append_column("wide", wide).append_column("listed", listed)
    if kind == "parquet":
        pq.write_table(data, tmp_path / "wide.parquet")
        data = tmp_path / "wide.parquet"
    elif kind == "batches":
        data = data.to_reader()
    elif kind == "pandas":
        data = data.to_pandas(types_mapper=pd.ArrowDtype)
    elif kind == "objects":
        data = NEW.to_pandas().assign(wide=amounts, listed=[[each] for each in amounts])
    table = scan(data)
    assert table.columns == NEW.columns
    assert set(table.unread) == {"wide", "listed"}
    assert table.frame.collect().equals(NEW)
    with pytest.raises(ViolationsError, match=r'"wide".*can\'t be read'):
        load_accounts(table, make_spec(features={"wide": weighted()}))


# ---- an object store ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with stores.server() as url:
        yield url


@pytest.fixture
def bucket(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return stores.bucket(store, monkeypatch)


@pytest.mark.slow
def test_files_and_a_delta_table_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    NEW.write_parquet(f"{bucket}/accounts.parquet")
    NEW.write_csv(f"{bucket}/accounts.csv")
    assert_frame_equal(read(f"{bucket}/accounts.parquet"), NEW)
    assert read(f"{bucket}/accounts.csv").height == NEW.height
    write_deltalake(f"{bucket}/lake", OLD.to_arrow())
    write_deltalake(f"{bucket}/lake", NEW.to_arrow(), mode="overwrite")
    assert_frame_equal(read(f"{bucket}/lake"), NEW, check_row_order=False)
    assert_frame_equal(read(Source(f"{bucket}/lake", 0)), OLD, check_row_order=False)
    journal = tmp_path / "journal"
    done = run(f"{bucket}/accounts.parquet", make_spec(), limits=Limits(5), journal=journal)
    assert start_of(journal)["source"] == "s3://crm/accounts.parquet"
    assert replay(done.run_id, journal=journal).identical
    for file in journal.rglob("*.parquet"):
        assert b"of-the-test" not in file.read_bytes()


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_text_file_in_an_object_store_is_read_as_on_a_disk(
    bucket: str, tmp_path: Path, ending: str
) -> None:
    frame = NEW.with_columns(
        account_id=pl.format("{}{}", pl.lit("000"), pl.int_range(pl.len())),
        code=pl.format("{}{}", pl.lit("0"), pl.int_range(pl.len())),
        renewed=pl.lit("2026-03-01"),
    )
    text = frame.write_csv(separator="\t" if ending == "tsv" else ",")
    (tmp_path / f"a.{ending}").write_text(text)
    import boto3

    client = boto3.client("s3", region_name="us-east-1")
    client.put_object(Bucket="crm", Key=f"a.{ending}", Body=text.encode())
    here, there = scan(tmp_path / f"a.{ending}"), scan(f"{bucket}/a.{ending}")
    assert there.schema == here.schema
    assert there.schema["account_id"] == pl.String
    assert there.schema["renewed"] == pl.Date
    assert_frame_equal(there.frame.collect(), here.frame.collect())
    codes = there.with_text("code").frame.collect()["code"]
    assert codes.to_list() == frame["code"].to_list()


def test_what_is_not_in_the_store_and_no_credentials_in_the_error(bucket: str) -> None:
    for form in (
        "s3://user:pa55word@crm/none.parquet?token=t0ken",
        "s3://user:pa55word@crm/none.csv?token=t0ken",
        "s3://user:pa55word@crm/none.tsv",
        "delta:s3://u:pa55word@crm/no",
    ):
        with pytest.raises(AccountDataError, match="can't be read") as caught:
            scan(form)
        assert "pa55word" not in str(caught.value)
        assert "t0ken" not in str(caught.value)
    with pytest.raises(AccountDataError, match="can't be read"):
        scan(f"{bucket}/nowhere")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("accounts.parquet", "accounts.parquet"),
        ("a@b.parquet", "a@b.parquet"),
        ("https://u:p@host:8080/a.parquet?sig=1#x", "https://host:8080/a.parquet"),
        ("az://acct@box/a", "az://box/a"),
        ("delta:s3://key:secret@box/a", "delta:s3://box/a"),
        ("delta:scores", "delta:scores"),
        ("duckdb:////abs/c.db?table=t&password=p", "duckdb:////abs/c.db?table=t"),
    ],
)
def test_credentials_are_taken_out_of_urls(location: str, expected: str) -> None:
    assert without_credentials(location) == expected


# ---- queries --------------------------------------------------------------------------------

JOINED = "select a.* exclude depth, u.depth from accounts a join usage u using (account_id)"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    NEW.write_parquet("accounts.parquet")
    NEW.select("account_id", depth=pl.col("depth") / 2).write_csv("usage.csv")
    return tmp_path


def test_a_query_over_two_sources(files: Path) -> None:
    source = Source("accounts.parquet", query=JOINED, others=named_sources(["usage=usage.csv"]))
    got = read(source).sort("account_id")
    assert got["depth"].to_list() == (NEW.sort("account_id")["depth"] / 2).to_list()


def test_a_query_is_refused_a_table_whose_columns_it_takes_for_one(files: Path) -> None:
    """`select "LOGINS"` gave the column "logins", of another meaning, under its name."""
    NEW.with_columns(LOGINS=pl.col("logins") + 1).write_parquet("accounts.parquet")
    assert "LOGINS" in read("accounts.parquet").columns
    with pytest.raises(AccountDataError, match='"logins", "LOGINS" differ by capitals alone'):
        scan(Source("accounts.parquet", query='select "LOGINS" from accounts'))


@pytest.mark.slow
def test_a_query_stands_in_the_record_with_the_versions_it_read(files: Path, delta: Path) -> None:
    text = "select * from accounts where mrr is null or mrr >= 0"
    others = (("more", Source(str(delta), 0)),)
    done = run(
        Source(str(delta), 1, text, others), make_spec(), limits=Limits(5), journal="journal"
    )
    parameters = start_of(Path("journal"))["parameters"]
    assert parameters["query"] == text
    assert parameters["source_version"] == "1"
    assert (parameters["source.more"], parameters["source_version.more"]) == (str(delta), "0")
    DeltaTable(delta).delete("depth > 0.5")
    assert replay(done.run_id, journal="journal").identical


@pytest.mark.parametrize(
    "text",
    [
        "select * from read_csv('usage.csv')",
        "select * from 'accounts.parquet'",
        "from read_text('/etc/passwd')",
        "select * from glob('*')",
        "from read_parquet('https://example.org/a.parquet')",
        "select * from NEW",
        "select getenv('HOME')",
    ],
)
def test_a_query_reaches_nothing_but_its_sources(files: Path, text: str) -> None:
    with pytest.raises(QueryError, match="the query failed"):
        scan(Source("accounts.parquet", query=text))


@pytest.mark.parametrize(
    "text",
    [
        "copy accounts to 'out.parquet'",
        "select 1; select 2",
        "attach 'x.db'",
        "install httpfs",
        "set lock_configuration = false",
        "",
    ],
)
def test_a_query_is_one_select(files: Path, text: str) -> None:
    with pytest.raises(QueryError, match="expected one SELECT"):
        scan(Source("accounts.parquet", query=text))
    assert {path.name for path in files.iterdir()} == {"accounts.parquet", "usage.csv"}


def test_names_of_sources() -> None:
    with pytest.raises(UsageError, match='got "accounts=x", "a b=c", "=d", "e"'):
        named_sources(["accounts=x", "a b=c", "=d", "e"])


def test_a_plain_file_has_no_versions(files: Path) -> None:
    assert read(Source("accounts.parquet")).height == NEW.height
    with pytest.raises(UsageError, match=r'"accounts\.parquet" has no versions'):
        scan(Source("accounts.parquet", 3))


# ---- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pandas", "arrow", "relation", "polars", "lazy"])
def test_frames_of_any_library_give_the_same_run(kind: str, tmp_path: Path) -> None:
    arrow = NEW.to_arrow()
    con = duckdb.connect()
    given = {
        "pandas": lambda: pd.DataFrame(NEW.to_dict(as_series=False)),
        "arrow": lambda: arrow,
        "relation": lambda: con.from_arrow(arrow),
        "polars": lambda: NEW,
        "lazy": NEW.lazy,
    }[kind]()
    expected = run(NEW, make_spec(), limits=Limits(10), journal=tmp_path / "a")
    got = run(given, make_spec(), limits=Limits(10), journal=tmp_path / "b")
    assert got.digest == expected.digest
    assert start_of(tmp_path / "b")["source"] == "frame"


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(UsageError, match=r"an account table can't be a builtins\.dict"):
        scan({"a": [1]})
