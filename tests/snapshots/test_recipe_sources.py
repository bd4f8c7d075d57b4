"""Whatever ``--data`` takes is a recipe's source too, and what it was is on record."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
import stores
from deltalake import write_deltalake
from polars.testing import assert_frame_equal
from snapshot_tables import snapshot_table

from gtmar.errors import AccountDataError
from gtmar.snapshots.build import build
from gtmar.snapshots.recipe import parse

DAY = date(2024, 3, 1)
PAID = pl.DataFrame(
    {
        "id": ["007", "007", "008", "008", "009"],
        "day": [date(2024, month, 15) for month in (1, 3, 1, 2, 4)],
        "amount": pl.Series(
            ["1234.5", "7.25", "-0.5", "1000000.01", "3"], dtype=pl.String
        ).str.to_decimal(scale=2),
    }
)


def recipe(data: str, more: str = "") -> str:
    return f"""
name: shop
sources: {{paid: {{data: '{data}', account: id, at: day{more}}}}}
dates: [{DAY}]
window: 1 month
data_until: 2024-05-01
population: seen
revenue: {{transactions: {{source: paid, amount: amount, negative: subtract}}}}
features:
  n: {{count: paid}}
  total: {{sum: paid.amount}}
  quiet: {{days_since: paid}}
"""


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with stores.server() as url:
        yield url


def european(folder: Path) -> str:
    rows = ["id;day;amount", "007;2024-01-15;1234,50", "007;2024-03-15;7,25"]
    rows += ["008;2024-01-15;-0,50", "008;2024-02-15;1000000,01", "009;2024-04-15;3,00"]
    (folder / "paid.csv").write_text("\n".join(rows) + "\n")
    return f"{folder}/paid.csv"


def hive(folder: Path) -> str:
    for (account,), part in PAID.partition_by("id", as_dict=True).items():
        inside = folder / "paid" / f"id={account}"
        inside.mkdir(parents=True)
        part.drop("id").write_parquet(inside / "part.parquet")
    return f"{folder}/paid"


def delta(folder: Path) -> str:
    write_deltalake(folder / "paid", PAID.head(2).to_arrow())
    write_deltalake(folder / "paid", PAID.tail(3).to_arrow(), mode="append")
    return f"delta:{folder}/paid"


def iceberg(folder: Path) -> str:
    from pyiceberg.catalog.sql import SqlCatalog

    uri, warehouse = f"sqlite:///{folder}/catalog.db", (folder / "warehouse").as_uri()
    monkey = pytest.MonkeyPatch()
    for key, value in (("TYPE", "sql"), ("URI", uri), ("WAREHOUSE", warehouse)):
        monkey.setenv(f"PYICEBERG_CATALOG__LAKE__{key}", value)
    monkey.setattr("pyiceberg.catalog._ENV_CONFIG", __import__("pyiceberg").utils.config.Config())
    catalog = SqlCatalog("lake", uri=uri, warehouse=warehouse)
    catalog.create_namespace("crm")
    rows = PAID.to_arrow()
    table = catalog.create_table("crm.paid", schema=rows.schema)
    table.append(rows.slice(0, 2))
    table.append(rows.slice(2))
    catalog.close()
    return "iceberg://lake/crm.paid"


def schema_of_duckdb(folder: Path) -> str:
    with duckdb.connect(folder / "crm.db") as connection:
        connection.register("frame", PAID)
        connection.execute("create schema marts; create table marts.paid as from frame")
        connection.execute("create table paid as select * replace (0 as amount) from frame")
    return f"duckdb:///{folder}/crm.db?table=marts.paid"


WAYS = [european, hive, delta, iceberg, schema_of_duckdb]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_source_of_any_kind_gives_the_same_table(
    way: Callable[[Path], str], tmp_path: Path
) -> None:
    PAID.write_parquet(tmp_path / "plain.parquet")
    expected = snapshot_table(parse(recipe(f"{tmp_path}/plain.parquet")), DAY)
    assert expected["account_id"].to_list() == ["007", "008"]
    assert expected["total"].to_list() == [1234.5, 999_999.51 + 0.0]
    got = snapshot_table(parse(recipe(way(tmp_path))), DAY)
    assert_frame_equal(got, expected)


@pytest.mark.slow
def test_files_in_an_object_store_give_the_same_table(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = stores.bucket(store, monkeypatch)
    PAID.write_parquet(tmp_path / "plain.parquet")
    expected = snapshot_table(parse(recipe(f"{tmp_path}/plain.parquet")), DAY)
    PAID.write_parquet(f"{bucket}/paid.parquet")
    PAID.write_csv(f"{bucket}/paid.csv")
    write_deltalake(f"{bucket}/paid", PAID.to_arrow())
    for place in (f"{bucket}/paid.parquet", f"{bucket}/paid.csv", f"{bucket}/paid"):
        assert_frame_equal(snapshot_table(parse(recipe(place)), DAY), expected)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_source_whose_columns_sql_takes_for_one_is_refused(ending: str, tmp_path: Path) -> None:
    """`where: "amount > 0"` read the column "Amount", which stands before it."""
    turned = PAID.select("id", "day", Amount=-pl.col("amount"), amount="amount")
    path = tmp_path / f"paid.{ending}"
    turned.write_parquet(path) if ending == "parquet" else turned.write_csv(path)
    with pytest.raises(AccountDataError, match='"Amount", "amount" differ by capitals') as caught:
        snapshot_table(parse(recipe(str(path))), DAY)
    assert str(caught.value).startswith("source paid: ")


# ---- on record -----------------------------------------------------------------------------------


def versions(text: str, folder: Path) -> dict[str, dict[str, object]]:
    [table] = build(parse(text), folder).tables
    said = json.loads(Path(table.data, "sources.json").read_text())
    return dict(said)


def test_what_a_source_was_stands_beside_the_table(tmp_path: Path) -> None:
    PAID.write_parquet(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    one = versions(recipe(f"{tmp_path}/a.parquet"), tmp_path / "1")["paid"]
    assert one == {
        "data": f"{tmp_path}/a.parquet",
        "rows": 5,
        "files": 1,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    place = hive(tmp_path)
    files = sorted((tmp_path / "paid").rglob("*.parquet"))
    several = versions(recipe(place), tmp_path / "2")["paid"]
    joined = b"".join(file.read_bytes() for file in files)
    assert several["files"] == 3
    assert several["sha256"] == hashlib.sha256(joined).hexdigest()
    (tmp_path / "d").mkdir()
    table = versions(recipe(delta(tmp_path / "d")), tmp_path / "3")["paid"]
    assert (table["kind"], table["version"]) == ("delta", "1")
    assert "sha256" not in table
    (tmp_path / "i").mkdir()
    lake = versions(recipe(iceberg(tmp_path / "i")), tmp_path / "4")["paid"]
    assert lake["kind"] == "iceberg"
    assert len(str(lake["version"])) > 10


def test_a_source_that_changed_is_another_on_record_and_changes_no_table_that_is_there(
    tmp_path: Path,
) -> None:
    PAID.write_parquet(tmp_path / "a.parquet")
    text = recipe(f"{tmp_path}/a.parquet")
    first = versions(text, tmp_path / "out")
    table = tmp_path / "out" / f"features_asof={DAY}" / "accounts.parquet"
    before = table.read_bytes()
    more = pl.DataFrame(
        {"id": ["010"], "day": [date(2024, 4, 30)], "amount": [Decimal("1.00")]},
        schema=PAID.schema,
    )
    pl.concat([PAID, more]).write_parquet(tmp_path / "a.parquet")
    # Of what the table was made, not of what its source is now.
    assert versions(text, tmp_path / "out") == first
    assert table.read_bytes() == before
    built = build(parse(text), tmp_path / "out", days=[date(2024, 3, 15)])
    assert built.sources["paid"]["rows"] == 6
    assert built.sources["paid"]["sha256"] != first["paid"]["sha256"]
    assert table.read_bytes() == before
