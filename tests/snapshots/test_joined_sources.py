"""A source that a query makes of several tables: it reaches these, and nothing else."""

from datetime import date
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml
from snapshot_tables import snapshot_table

from gtmar.errors import AccountDataError, RecipeError
from gtmar.snapshots.recipe import json_schema, parse, recipe_id

DAY = date(2024, 7, 1)
RECIPE = """
name: joined
sources:
  subs:
    tables: {items: items.csv, subs: subs.csv, prices: prices.parquet}
    query: |
      select s.customer, s.began, s.ended, i.quantity, p.cents / 100.0 as amount
      from items i
      join subs s on s.id = i.sub
      join prices p on p.id = i.price
    account: customer
    from: began
    until: ended
dates: [2024-07-01]
window: 1 month
data_until: 2025-01-01
revenue: {subscriptions: {source: subs, amount: amount, quantity: quantity}}
rules: {overlaps: add}
features: {n: {count: subs}, tenure: {tenure: subs}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text(
        "id,sub,price,quantity\ni1,s1,p1,3\ni2,s1,p2,1\ni3,s2,p2,2\n"
    )
    (tmp_path / "subs.csv").write_text(
        "id,customer,began,ended\ns1,007,2024-01-01,2024-07-15\ns2,008,2024-05-01,2025-01-01\n"
    )
    prices = {"id": ["p1", "p2"], "cents": [1_250, 990]}
    pl.DataFrame(prices).write_parquet(tmp_path / "prices.parquet")
    return tmp_path


def test_a_source_joins_tables_by_its_query(folder: Path) -> None:
    made = snapshot_table(parse(RECIPE), DAY, base=folder)
    columns = ("account_id", "n", "tenure", "mrr", "mrr_end", "churned")
    assert made.select(columns).rows() == [
        ("007", 2, 182, 3 * 12.5 + 9.9, 0.0, 1),
        ("008", 1, 61, 2 * 9.9, 2 * 9.9, 0),
    ]


def test_an_account_whose_id_was_replaced_goes_on(tmp_path: Path) -> None:
    """As docs/snapshots.md has it: without the query one left, and another came in its window."""
    page = (Path(__file__).parents[2] / "docs" / "snapshots.md").read_text("utf-8")
    [merged] = [each for each in page.split("```text\n")[1:] if "merged.csv" in each]
    source = merged.partition("```")[0]
    # "old" and "other" became "new" on the day on which their subscriptions end.
    (tmp_path / "subscriptions.csv").write_text(
        "customer,start,end,mrr\nold,2024-01-01,2024-07-15,50\nother,2024-03-01,2024-07-15,20\n"
        "new,2024-07-15,,70\nleft,2024-02-01,2024-07-15,30\n"
    )
    (tmp_path / "merged.csv").write_text("old_id,new_id\nold,new\nother,new\n")
    tail = """
dates: [2024-07-01]
window: 1 month
data_until: 2025-01-01
revenue: {subscriptions: {source: subs, amount: mrr}}
rules: {overlaps: add}
features: {n: {count: subs}, tenure: {tenure: subs}}
"""
    plain = "  subs: {data: subscriptions.csv, account: customer, from: start, until: end}\n"
    columns = ("account_id", "mrr", "mrr_end", "churned", "n", "tenure")
    tables = {
        text: snapshot_table(parse(f"name: a\nsources:\n{text}{tail}"), DAY, base=tmp_path)
        for text in (plain, source)
    }
    assert tables[plain].select(columns).sort("account_id").rows() == [
        ("left", 30.0, 0.0, 1, 1, 151),
        ("old", 50.0, 0.0, 1, 1, 182),
        ("other", 20.0, 0.0, 1, 1, 122),
    ]
    assert tables[source].select(columns).sort("account_id").rows() == [
        ("left", 30.0, 0.0, 1, 1, 151),
        ("new", 70.0, 70.0, 0, 2, 182),
    ]


def test_a_table_of_data_alone_is_called_accounts_by_its_query(folder: Path) -> None:
    head, tail = RECIPE.partition("    tables")[0], RECIPE.partition("    account")[2]
    query = "select *, 5 as amount, 1 as quantity from accounts;"
    text = f"{head}    data: subs.csv\n    query: {query}\n    account{tail}"
    made = snapshot_table(parse(text), DAY, base=folder)
    assert made.select("account_id", "mrr").rows() == [("007", 5.0), ("008", 5.0)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("from items i", "from item i", 'no table "item"'),
        ("from items i", "from 'items.csv' i", 'no table "items.csv"'),
        ("from items i", 'from "raw:subs.items" i', 'no table "raw:subs.items"'),
        ("from items i", "from read_csv('items.csv') i", '"read_csv" reads what no source'),
        ("from items i", "from main.items i", "no table"),
        ("s.ended, i", "current_date as x, s.ended, i", "may give another value another day"),
        ("p.cents", "p.pence", "pence"),
        ("from items i", "from items i; drop table items", "query"),
    ],
)
def test_the_query_reaches_its_own_tables_alone(
    folder: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        snapshot_table(parse(RECIPE.replace(old, new)), DAY, base=folder)
    assert "sources.subs.query" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.slow
def test_no_feature_reaches_a_table_of_a_query(folder: Path) -> None:
    for table in ("items", '"raw:subs.items"'):
        own = f"{{sql: 'select customer, 1 from {table}'}}"
        with pytest.raises(RecipeError, match="there is no source"):
            snapshot_table(parse(RECIPE.replace("{count: subs}", own)), DAY, base=folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    query: |", "    data: a.csv\n    query: |", "got both"),
        ("    tables: {items: items.csv, subs: subs.csv, prices: prices.parquet}\n", "", "neither"),
        ("{items: items.csv,", "{my items: items.csv,", '"my items" must be letters'),
        ("{items: items.csv,", "{Subs: items.csv,", "each name once"),
    ],
)
def test_where_a_source_is_has_to_be_said_in_one_way(old: str, new: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse(RECIPE.replace(old, new))
    queryless = (
        RECIPE.partition("    query")[0] + "    account" + RECIPE.partition("    account")[2]
    )
    with pytest.raises(RecipeError, match="tables needs a query"):
        parse(queryless)


@pytest.mark.slow
def test_a_table_that_isnt_there_is_named(folder: Path) -> None:
    with pytest.raises(AccountDataError, match=r"source subs\.prices: .*prices\.csv"):
        snapshot_table(parse(RECIPE.replace("prices.parquet", "prices.csv")), DAY, base=folder)


def test_the_id_is_of_the_query_and_not_of_where_its_tables_are() -> None:
    one = recipe_id(parse(RECIPE))
    assert recipe_id(parse(RECIPE.replace("subs.csv", "elsewhere/subs.parquet"))) == one
    assert recipe_id(parse(RECIPE.replace("p.cents / 100.0", "p.cents"))) != one


def test_the_schema_takes_tables() -> None:
    jsonschema.validate(yaml.load(RECIPE, Loader=yaml.BaseLoader), json_schema())
