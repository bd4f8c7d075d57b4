"""A snapshot's SELECT for warehouses against DuckDB's, on engines that gtmar did not write."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random

import polars as pl
import pytest
import sqlglot
from engines import DuckDB, Engine, Postgres, Spark
from histories import DAY, random_history
from snapshot_tables import snapshot_table

from gtmar.errors import RecipeError, UsageError
from gtmar.integrations.snapshot_sql import DIALECTS, source_tables, warehouse_selects
from gtmar.snapshots.recipe import SnapshotRecipe, parse

NAMES = ("duckdb", "postgres", pytest.param("databricks", marks=pytest.mark.slow))
#: Texts whose order depends on a server's language.
TEXTS = ("Zoo", "apple", "Äpfel", "zebra", "_x", "a b", None)


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "duckdb":
        return DuckDB()
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server
    started: Spark = request.getfixturevalue("spark")
    return started.speaking(request.param)


def tables(seed: int) -> dict[str, pl.DataFrame]:
    """Draw raw tables with everything odd in them."""
    rng, drawn = Random(seed), random_history(seed, accounts=20)
    subs = pl.DataFrame(
        [
            {
                **vars(sub),
                "seats": rng.choice([1, 2, 5]),
                "off": rng.choice([None, 0.0, 0.25, 1 / 3]),
                "money": rng.choice(["EUR", "USD"]),
                "stopped": rng.choice([None, sub.started + timedelta(rng.randrange(1, 300))]),
                "setup": rng.choice([True, False, False, None]),
            }
            for sub in drawn.subs
        ],
        schema_overrides={"amount": pl.Decimal(12, 2), "stopped": pl.Date, "setup": pl.Boolean},
    )
    events = pl.DataFrame(
        [
            {**vars(e), "note": rng.choice(TEXTS), "Fine": rng.choice([True, False, None])}
            for e in drawn.events
        ],
        schema_overrides={"value": pl.Decimal(12, 2), "Fine": pl.Boolean, "note": pl.String},
    ).with_columns(
        moment=pl.col("at").dt.replace_time_zone("UTC") if seed % 2 else pl.col("at"),
        ratio=pl.Series([rng.choice([None, rng.uniform(-1e6, 1e6)]) for _ in drawn.events]),
    )
    states = pl.DataFrame([{**vars(s), "level": rng.choice(TEXTS)} for s in drawn.states])
    accounts = sorted({sub.acct for sub in drawn.subs})
    paid = [
        (
            rng.choice(accounts),
            date(2023, 6, 1) + timedelta(rng.randrange(700)),
            rng.randrange(-2_000, 30_000) / 100,
            rng.choice(["EUR", "USD"]),
            rng.choice([1, 1, 3, 12]),
            rng.choice([None, False, True]),
        )
        for _ in range(150)
    ]
    till = [row[1] + timedelta(rng.choice([1, 12, 28, 30, 31, 91, 365])) for row in paid]
    fx = [(date(2023, 1, 1), "EUR", 1.0), (date(2023, 1, 1), "USD", 0.917)]
    fx += [(date(2023, 2, 1) + timedelta(40 * n), "USD", rng.uniform(0.8, 1)) for n in range(9)]
    crm = [
        {"acct": a, "tier": rng.choice(TEXTS), "test": rng.random() < 0.1, "size": rng.randrange(9)}
        for a in accounts
    ]
    return {
        "subs": subs,
        "events": events,
        "states": states,
        "paid": pl.DataFrame(
            paid, schema=["acct", "day", "amount", "money", "months", "setup"], orient="row"
        ).with_columns(till=pl.Series(till)),
        "fx": pl.DataFrame(fx, schema=["first", "code", "worth"], orient="row"),
        "crm": pl.DataFrame(crm, schema_overrides={"tier": pl.String}),
    }


FEATURES = """
  n: {count: events}
  n_month: {count: events, last: 1 month, where: "kind <> 'login' or value is null"}
  total: {sum: events.value, last: 90 days}
  ratio_total: {sum: events.ratio}
  mean: {mean: events.value, where: value > 0}
  least: {min: events.value}
  latest_moment: {max: events.moment}
  own_first_note: {sql: "select who, min(note) from events group by who"}
  own_last_note: {sql: "select who, max(note) from events where value > 0 group by who"}
  own_ever_fine: {sql: "select who, max(Fine) from events group by who"}
  own_always_fine: {sql: "select who, min(Fine) from events group by who"}
  tickets: {share: events, where: "kind = 'ticket'", last: 90 days}
  kinds: {distinct: events.kind, where: not fine}
  quiet: {days_since: events, where: "kind in ('login', 'invite')"}
  tenure: {tenure: subs}
  plan: {latest: states.plan}
  level: {latest: states.level}
  note: {latest: events.note, where: "moment >= '2023-06-01' and kind = 'login'"}
  fine: {latest: events.Fine, last: 300 days}
  more: {change: events, last: 1 month}
  Growth: {change: events.value, last: 90 days}
  slope: {trend: events.value, where: value between -5 and 80}
  tier: {latest: crm.tier}
  size: {latest: crm.size}
  open: {count: running}
  own: {sql: "select who, count(*) from events where kind = 'login' group by who"}
  own_mean: {sql: "select who, avg(value) + avg(abs(value)) / 3 from events group by 1"}
  own_join: {sql: "
    with sold as (select s.acct, s.ended - s.started as days from subs s where s.ended is not null)
    select s.acct, case when max(days) > 60 then 'long' else 'short' end
    from sold s left join states t on t.acct = s.acct and t.since <= date '2024-01-31'
    where coalesce(t.plan, 'none') <> 'team' group by s.acct having count(*) > 0"}
  own_row: {sql: "
    select who, note from (select who, note, row_number() over (
      partition by who order by moment desc, note desc, kind, loaded, value) as n from events) as e
    where n = 1"}
  own_half: {sql: "select who, sum(1) / nullif(count(value), 0) from events group by who"}
"""


#: One, for recipes that are about revenue.
ONE_FEATURE = """
  n: {count: events}
"""


def recipe_of(folder: Path, seed: int, shape: str, *, features: str = FEATURES) -> SnapshotRecipe:
    """Return a recipe with every kind of feature, and conventions drawn by a seed."""
    rng = Random(f"{seed} {shape}")
    dated = f"{{data: {folder}/fx.parquet, currency: code, date: first, rate: worth}}"
    rates = rng.choice(["", "{EUR: 1.0, USD: 0.917}", dated])
    money = f", currency: money, rates: {rates}" if rates else ""
    money += rng.choice(["", ", one_off: setup"])
    month = rng.choice(["rolling", "calendar"])
    gap = f", gap: {rng.choice(['0 days', '45 days', '2 months'])}"
    gap += rng.choice(["", ", new_again: 100 days"])
    negative = rng.choice(["subtract", "leave out"])
    if shape == "subscriptions":
        more = rng.choice(["", ", quantity: seats, discount: off"])
        more += f", months: {rng.choice(['1', '12', 'months'])}"
        more += f", until: {rng.choice(['first day after', 'last day'])}, month: {month}{gap}"
        more += f", deciding_day: {('last day', 'first day', 'any day')[seed % 3]}"
        more += rng.choice(["", ", cancelled: stopped"])
        revenue = f"{{source: subs, amount: amount{more}{money}}}"
    elif shape == "monthly":
        revenue = f"{{source: paid, amount: amount, negative: {negative}{gap}{money}}}"
    elif shape == "prepaid":
        more = ("months: 7", "months: months", "paid_until: till")[seed % 3]
        more += f", month: {month}, retained_by: mrr{gap}"
        revenue = f"{{source: paid, amount: amount, negative: {negative}, {more}{money}}}"
    else:
        more = f"months: {rng.choice([1, 3])}, retained_by: {rng.choice(['any row', 'amount'])}"
        more += f", month: {month}"
        revenue = f"{{source: paid, amount: amount, negative: {negative}, {more}{money}}}"
    within = rng.choice(["60 days", "1 month"])
    population = rng.choice(["paying", "paying and former", "seen"])
    subs = f"{{data: {folder}/subs.parquet, account: acct, from: started, until: ended"
    return parse(
        f"""
name: random
id: acct
sources:
  subs: {subs}, known_at: loaded}}
  running: {subs}, where: ended is null and not (amount = 0)}}
  events: {{data: {folder}/events.parquet, account: who, at: moment, known_at: loaded}}
  states: {{data: {folder}/states.parquet, account: acct, valid_from: since}}
  paid: {{data: {folder}/paid.parquet, account: acct, at: day}}
  crm: {{data: {folder}/crm.parquet, account: acct, as_of: today, where: not test}}
dates: [{DAY}]
window: {"6 months" if shape == "transactions" else rng.choice(["6 months", "90 days"])}
lead: {rng.choice(["0 days", "30 days"])}
data_until: {rng.choice(["2025-06-01", "2025-06-01", "2024-03-02"])}
population: {population}
{"" if shape == "subscriptions" else "ltv: all revenue"}
activation: {{source: events, where: "kind = 'invite'", within: {within}}}
revenue: {{{shape.replace("prepaid", "transactions")}: {revenue}}}
rules:
  {{zero_amounts: not paying, overlaps: add,
   events_outside: keep, ends_before_start: leave out}}
features:{features}"""
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Have the tables of a seed as files, written once."""

    @cache
    def folder_of(seed: int) -> Path:
        folder = tmp_path_factory.mktemp(f"raw-{seed}-")
        for name, frame in tables(seed).items():
            frame.write_parquet(folder / f"{name}.parquet")
        return folder

    return folder_of


@cache
def table_of(folder: Path, seed: int, shape: str, features: str) -> pl.DataFrame:
    """Return the table that each engine's is held against."""
    return snapshot_table(recipe_of(folder, seed, shape, features=features), DAY)


def load(engine: Engine, folder: Path) -> None:
    for path in folder.glob("*.parquet"):
        engine.load(path.stem, pl.read_parquet(path))


def assert_same(engine: Engine, recipe: SnapshotRecipe, wanted: pl.DataFrame) -> None:
    text = warehouse_selects(recipe, [DAY], source_tables(recipe), dialect=engine.dialect)[DAY].sql
    got = engine.ask_texts(text) if isinstance(engine, Postgres) else engine.ask(text)
    assert got.columns == wanted.columns
    assert got.height == wanted.height > 0
    if not isinstance(engine, Postgres):
        got = got.sort("acct")
    wrong = []
    for name, dtype in wanted.schema.items():
        found = got[name]
        if dtype == pl.Boolean and found.dtype == pl.String:
            found = found.replace_strict({"t": True, "f": False}, return_dtype=pl.Boolean)
        wanted_values = wanted[name]
        if dtype.is_numeric():
            found, wanted_values = found.cast(pl.Float64), wanted_values.cast(pl.Float64)
        elif dtype.is_temporal():
            found, wanted_values = found.cast(pl.String), wanted_values.cast(pl.String)
            found, wanted_values = found.str.slice(0, 19), wanted_values.str.slice(0, 19)
        # Of an average of one's own the last digit is each engine's.
        close = 1e-14 if name == "own_mean" else 0.0
        wrong += [
            (name, value, other)
            for value, other in zip(found.to_list(), wanted_values.to_list(), strict=True)
            if value != other
            and (not close or None in (value, other) or abs(value / other - 1) > close)
        ]
    assert wrong == []


#: Shapes of revenue by history: the recipes drawn for them have each convention of each shape.
SHAPES = {
    1: ["subscriptions", "monthly", "transactions", "prepaid"],
    2: ["prepaid", "subscriptions", "transactions"],
    3: ["subscriptions", "monthly", "transactions", "prepaid"],
    4: ["subscriptions"],
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SHAPES)
def test_no_value_differs_from_duckdbs(
    engine: Engine, raw: Callable[[int], Path], seed: int
) -> None:
    if engine.dialect == "databricks" and seed > 2:
        pytest.skip("Spark plans such a statement for long: the histories before are enough")
    # A statement of all features takes seconds to write and to plan, and none of them knows a
    # revenue's shape: one of two histories has them, with moments of a zone and without.
    load(engine, raw(seed))
    for place, shape in enumerate(SHAPES[seed]):
        features = FEATURES if place == 0 and seed <= 2 else ONE_FEATURE
        recipe = recipe_of(raw(seed), seed, shape, features=features)
        assert_same(engine, recipe, table_of(raw(seed), seed, shape, features))


@pytest.mark.slow
def test_a_second_row_of_an_account_is_an_error_there_too(
    engine: Engine, raw: Callable[[int], Path]
) -> None:
    load(engine, raw(1))
    recipe = short_recipe(raw(1), 'twice: {sql: "select who, kind from events"}')
    text = warehouse_selects(recipe, [DAY], source_tables(recipe), dialect=engine.dialect)
    with pytest.raises(Exception, match="twice: its SELECT gives an account more than one row"):
        engine.ask(text[DAY].sql)


@pytest.mark.slow
def test_rows_of_one_moment_and_unknown_flags_count_as_they_do_here(
    engine: Engine, tmp_path: Path
) -> None:
    """Of the rows at the newest moment the largest value counts, and unknown is not false."""
    old, new = datetime(2024, 1, 3), datetime(2024, 2, 9)
    rows = [("a", old, 9, True), ("a", new, 1, False), ("a", new, 2, None)]
    rows += [("b", new, 2, False), ("b", new, 1, None), ("b", old, 3, False)]
    columns = {"who": pl.String, "moment": pl.Datetime, "value": pl.Int64, "fine": pl.Boolean}
    frames = {
        "events": pl.DataFrame(rows, schema=columns, orient="row"),
        "paid": pl.DataFrame({"acct": ["a", "b"], "day": [new.date()] * 2, "amount": [5.0, 7.0]}),
    }
    for name, frame in frames.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
        engine.load(name, frame)
    recipe = short_recipe(
        tmp_path,
        "newest: {latest: events.value}\n"
        "  poor: {count: events, where: fine is false}\n"
        "  fine_or_unknown: {count: events, where: fine is not false}\n"
        "  surely: {count: events, where: fine is true}",
    )
    wanted = snapshot_table(recipe, DAY)
    counts = wanted.select("newest", "poor", "fine_or_unknown", "surely").rows()
    assert counts == [(2, 1, 2, 1), (2, 2, 1, 0)]
    assert_same(engine, recipe, wanted)


# ---- what is refused, and what can't be run here -------------------------------------------------


def short_recipe(folder: Path, features: str, **sources: str) -> SnapshotRecipe:
    """Return a recipe over payments and events, with a feature or two."""
    more = "".join(f"  {name}: {{{text}}}\n" for name, text in sources.items())
    return parse(
        f"""
name: short
id: acct
sources:
  paid: {{data: {folder}/paid.parquet, account: acct, at: day}}
  events: {{data: {folder}/events.parquet, account: who, at: moment}}
{more}
dates: [{DAY}]
window: 90 days
data_until: 2025-06-01
revenue: {{transactions: {{source: paid, amount: amount, negative: subtract}}}}
rules: {{events_outside: keep}}
features:
  {features}
"""
    )


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        ("{count: events, where: \"lower(kind) = 'login'\"}", "LOWER"),
        ("{count: events, where: \"kind like 'l%'\"}", "LIKE"),
        ("{count: events, where: \"kind ~ 'l'\"}", "REGEXP_MATCHES"),
        ("{count: events, where: \"kind = 5 or kind = 'x'\"}", "what kind of values"),
        ("{count: events, where: 'value / value > 1'}", "what kind of values"),
        ("{count: events, where: 'value in (1, 2) = fine'}", "needs brackets"),
        ("{count: events, where: 'value + 1'}", "what kind of values"),
        ("{count: events, where: 'cast(value as int) = 1'}", "what kind of values"),
        ('{sql: "select who, median(value) from events group by 1"}', "MEDIAN"),
        ('{sql: "select who, first(kind) from events group by 1"}', "FIRST"),
        ('{sql: "select who, max(v) from (select *, 1 as v from events) group by 1"}', "*"),
        ('{sql: "select who, count(*) from events group by all"}', "GROUP BY ALL"),
        (
            '{sql: "select who, count(*) from events semi join paid on acct = who group by 1"}',
            "SEMI",
        ),
    ],
)
def test_what_may_mean_another_thing_is_refused_by_name(
    raw: Callable[[int], Path], feature: str, reason: str
) -> None:
    recipe = short_recipe(raw(1), f"odd: {feature}")
    with pytest.raises(RecipeError) as refused:
        warehouse_selects(recipe, [DAY], source_tables(recipe), dialect="snowflake")
    assert "in snowflake" in refused.value.message
    [_, problem] = refused.value.message.splitlines()
    assert problem.startswith("  - features.odd")
    assert reason in problem


def test_a_source_is_the_table_of_its_files_name_unless_one_is_given(
    raw: Callable[[int], Path],
) -> None:
    recipe = short_recipe(
        raw(1),
        "n: {count: events}",
        a="data: 'raw/plans/*.parquet', account: acct, as_of: today",
        b="data: 'delta:lake/users', account: acct, as_of: today",
        c="data: 'duckdb:///crm.db?table=main.people', account: acct, as_of: today",
        d="data: 's3://bucket/day=1/part.csv.gz', account: acct, as_of: today",
    )
    found = source_tables(recipe, ["paid=books.payments"])
    assert found == {
        "paid": "books.payments",
        "events": "events",
        "a": "plans",
        "b": "users",
        "c": "main.people",
        "d": "part",
    }
    odd = short_recipe(
        raw(1),
        "n: {count: events}",
        a="data: 'export (1).csv', account: acct, as_of: today",
        b="data: users.csv, query: select * from accounts, account: acct, as_of: today",
    )
    with pytest.raises(UsageError) as refused:
        source_tables(odd, ["evnts=x"])
    for said in ('"evnts"; did you mean "events"?', 'source "a"', 'source "b" has a query'):
        assert said in refused.value.message
    assert source_tables(odd, ["a=one", "b=two"])["b"] == "two"


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_reads_what_is_written_in_it(raw: Callable[[int], Path], dialect: str) -> None:
    """Snowflake and BigQuery can't be run here: what they have no word for must not stand there."""
    for shape, features in (("subscriptions", FEATURES), ("transactions", ONE_FEATURE)):
        recipe = recipe_of(raw(1), 1, shape, features=features)
        [made] = warehouse_selects(
            recipe, [DAY], source_tables(recipe, ["subs=crm.subs"]), dialect=dialect
        ).values()
        tree = sqlglot.parse_one(made.sql, read=dialect)
        assert isinstance(tree, sqlglot.exp.Select)
        names = [chosen.alias_or_name for chosen in tree.selects]
        assert names == table_of(raw(1), 1, shape, features).columns
        full = features == FEATURES
        absent = {"FILTER(", "STRUCT", "ANY_VALUE", "GROUP BY ALL", " USING ", "EXCLUDE", ".*"}
        if dialect == "duckdb":
            absent -= {"STRUCT"}
        if dialect == "snowflake":
            # Its columns are in capitals unless they were made in quotes, and a length of time is
            # no value of its own; months are added by DATEADD.
            absent |= {"INTERVAL", "IGNORE NULLS", "TIMESTAMP)"}
            assert 'CAST("WHO" AS VARCHAR) AS "who"' in made.sql
            assert 'CAST("Fine" AS BOOLEAN) AS "fine"' in made.sql or not full
            assert "CONVERT_TIMEZONE('UTC', \"MOMENT\") AS TIMESTAMPNTZ" in made.sql
            assert "DATEADD(" in made.sql
            # Of whole numbers and decimals it would give six digits.
            assert "CAST(SUM(1) AS DOUBLE) / NULLIF(" in made.sql or not full
        if dialect == "bigquery":
            # A decimal as wide as ours has no scale there; moments without a zone are DATETIME.
            absent |= {"DECIMAL", "NUMERIC(", "TIMESTAMP", "::", "IGNORE NULLS"}
            assert "ROUND(CAST(`amount` AS BIGNUMERIC), " in made.sql or shape != "subscriptions"
            assert "CAST(DATETIME(`moment`, 'UTC') AS DATETIME)" in made.sql
            assert "DATE_DIFF(" in made.sql
        assert [word for word in absent if word in made.sql] == []


def test_names_that_a_dialect_cannot_hold_are_refused(raw: Callable[[int], Path]) -> None:
    for dialect, name, said in (
        ("postgres", "x" * 64, "cuts names off after 63 bytes"),
        ("bigquery", "log ins", "letters, digits and underscores"),
        ("oracle", "n", 'no dialect "oracle"'),
        ("snowflake", "gtmar_n", 'names that begin with "gtmar_"'),
    ):
        recipe = short_recipe(raw(1), f'"{name}": {{count: events}}')
        with pytest.raises(UsageError, match=said):
            warehouse_selects(recipe, [DAY], source_tables(recipe), dialect=dialect)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_months_of_a_column_and_unknown_flags_are_lost_in_no_dialect(
    raw: Callable[[int], Path], dialect: str
) -> None:
    flags = """
  kinds: {distinct: events.kind, where: not fine}
  own_ever_fine: {sql: "select who, max(Fine) from events group by who"}
"""
    recipe = recipe_of(raw(1), 1, "prepaid", features=flags)
    assert recipe.revenue.shape.one_off == "setup"
    [made] = warehouse_selects(recipe, [DAY], source_tables(recipe), dialect=dialect).values()
    tree = sqlglot.parse_one(made.sql, read=dialect)
    named = [each for each in tree.find_all(sqlglot.exp.Column) if each.name.lower() == "months"]
    # Once in the raw table; then a start and an end each, of MRR and of who comes back.
    assert len(named) > 4
    assert "IS TRUE" not in made.sql
    assert "COALESCE(" in made.sql


def test_rates_by_date_are_a_table_of_the_warehouse_too(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, 1, "monthly")
    assert source_tables(recipe)["revenue.rates"] == "fx"
    given = source_tables(recipe, ["revenue.rates=books.fx"])
    assert given["revenue.rates"] == "books.fx"
