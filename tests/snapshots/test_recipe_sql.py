"""SQL of a recipe reaches nothing but the rows that a date could see."""

from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest
from snapshot_tables import snapshot_table

from gtmar.errors import RecipeError
from gtmar.snapshots.raw_history import refuse_select
from gtmar.snapshots.recipe import parse

DAY = date(2024, 3, 1)


def table(folder: Path, *, sql: str | None = None, where: str | None = None) -> pl.DataFrame:
    pl.DataFrame(
        {
            "id": ["a", "a", "b", "a"],
            "day": [date(2024, 2, 5), date(2024, 2, 6), date(2024, 2, 7), date(2024, 5, 1)],
            "amount": [10, 20, 30, 1_000],
        }
    ).write_parquet(folder / "orders.parquet")
    own = {"sql": sql} if sql is not None else {"sum": "orders.amount", "where": where}
    return snapshot_table(
        parse(
            f"""
name: shop
id: id
sources: {{orders: {{data: {folder}/orders.parquet, account: id, at: day}}}}
dates: [{DAY}]
window: 1 month
data_until: 2024-06-01
revenue: {{transactions: {{source: orders, amount: amount}}}}
features:
  own: {pl.Series([own]).to_list()[0]!r}
""".replace("None", "null")
        ),
        DAY,
    )


@pytest.mark.parametrize(
    "sql",
    [
        'select id, sum(amount) from "raw:orders" group by 1',
        'select id, sum(amount) from main."raw:orders" group by 1',
        'select id, sum(amount) from memory.main."raw:orders" group by 1',
        'select id, 1 from orders where amount < (select max(amount) from "raw:orders")',
        'with o as (select * from "raw:orders") select id, count(*) from o group by 1',
        # A name that is known where it is defined, and is a raw table's elsewhere.
        'select id, sum(amount) from "raw:orders" where exists (with "raw:orders" as (select 1) '
        "select 1) group by 1",
        "with orders as (select 'a' as id, 5 as v) select id, v from orders",
        'select account, 1 from "gtmar:revenue"',
        'select account, mrr from "gtmar:end"',
        "select id, 1 from 'orders.parquet'",
        "select id, 1 from read_parquet('orders.parquet')",
        "select id, 1 from glob('*')",
        "select view_name, 1 from duckdb_views()",
        "select table_name, 1 from information_schema.tables",
        "select sql, 1 from sqlite_master",
        "select name, 1 from (show tables)",
        "select id, 1 from query_table('raw:orders')",
        "select id, count(*) from orders where day < now() group by 1",
        "select id, count(*) from orders where day < current_date group by 1",
        "select id, max(age(day)) from orders group by 1",
        "select id, random() from orders",
        "select id, reservoir_quantile(amount, 0.5) from orders group by 1",
        "select id, pg_get_viewdef(1) from orders",
        "select id, count(*) from orders where day < ago(interval 30 days) group by 1",
        "select id, count(*) from orders using sample 1 group by 1",
        "select id, 1 from orders tablesample 50%",
        "select id from orders",
        "select id, 1, 2 from orders",
        "select id, nothing from orders",
        "select id, 1 from orders; select id, 2 from orders",
        "copy orders to 'x.csv'",
        "not sql",
    ],
)
def test_a_select_that_reaches_more_is_refused(tmp_path: Path, sql: str) -> None:
    with pytest.raises(RecipeError, match=r"features\.own"):
        table(tmp_path, sql=sql)


#: Of its arguments alone, for all that DuckDB says; `error` ends a query.
STEADY = {"error"}


def test_no_function_that_knows_more_than_its_arguments_can_be_called() -> None:
    """DuckDB itself says which are volatile, and which of one value a query have no argument.

    Macros over tables of DuckDB's own, and those that call one of these, count too.
    """
    with duckdb.connect() as connection:
        found = {
            name
            for (name,) in connection.execute(
                "select distinct function_name from duckdb_functions() where schema_name in "
                "('main', 'pg_catalog') and function_type in ('scalar', 'macro') and (stability = "
                "'VOLATILE' or (stability = 'CONSISTENT_WITHIN_QUERY' and parameters = []) or "
                "macro_definition ilike '% from %' or regexp_matches(macro_definition, "
                "'(current_|now\\(|today\\(|random\\(|getvariable|getenv)'))"
            ).fetchall()
        } - STEADY
        assert len(found) > 30
        wrong = []
        for name in sorted(found):
            try:
                refuse_select(connection, f'select id, "{name}"() from orders', ["orders"], "own")
            except RecipeError:
                continue
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize(
    "where",
    [
        "amount > 0) or (true",
        "amount > 0) filter (where true",
        "amount in (select 1)",
        'exists (select 1 from "raw:orders")',
        "true group by amount",
        "true union select 1",
        "true limit 1",
        "day < today()",
        "current_date > day",
        "random() < 0.5",
        "row_number() over () = 1",
        "sum(amount) > 1",
        "nothing > 1",
        "amount > 0; drop view orders",
        "true /*",
        "",
    ],
)
def test_a_condition_that_is_more_than_one_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(RecipeError, match=r"features\.own"):
        table(tmp_path, where=where)


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("select id, sum(amount) from orders group by id", 30),
        (
            "with big as (from orders where amount > 15) select id, 1 from big where id='a'",
            1,
        ),
        ("select o.id, max(p.amount) from orders o join ORDERS p using (id) group by 1", 20),
        ("select id, count(*) from orders, unnest([1, 2]) group by 1 -- twice", 4),
        ("select id, date_diff('day', max(day), date '2024-03-01') from orders group by 1", 24),
    ],
)
def test_a_select_over_the_sources_sees_the_past_alone(
    tmp_path: Path, sql: str, value: int
) -> None:
    assert table(tmp_path, sql=sql).filter(id="a")["own"].to_list() == [value]


def test_conditions_may_have_brackets_and_comments(tmp_path: Path) -> None:
    found = table(tmp_path, where="(amount > 15) or (amount = 10) -- not the small ones")
    assert found.filter(id="a")["own"].to_list() == [30]


def test_a_select_with_two_values_of_an_account_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        Exception, match="feature own: its SELECT gives an account more than one row"
    ):
        table(tmp_path, sql="select id, amount from orders")
