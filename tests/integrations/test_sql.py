import random
import re
from typing import Any

import duckdb
import polars as pl
import pytest
import sqlglot
from engines import DuckDB, Engine
from factories import binned, make_accounts, make_spec, weighted
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scorecards import ENCODERS, draw_accounts, draw_spec

from gtmar.errors import UsageError
from gtmar.integrations.sql import DIALECTS, column_kinds, select
from gtmar.runs import score
from gtmar.spec import ScoringSpec


def parsed(text: str, dialect: str) -> sqlglot.exp.Select:
    statement = sqlglot.parse_one(text, dialect=dialect)
    assert isinstance(statement, sqlglot.exp.Select)
    return statement


every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.mark.slow
@every_dialect
def test_every_dialect_reads_what_is_written_for_it(dialect: str) -> None:
    spec = draw_spec(10)
    assert {feature.encode.kind for feature in spec.features.values()} == ENCODERS
    assert spec.calibration is not None
    text = select(spec, "crm.accounts", dialect=dialect)
    [statement] = sqlglot.parse(text, dialect=dialect)
    assert isinstance(statement, sqlglot.exp.Select)
    again = statement.sql(dialect=dialect, pretty=True)
    assert again.lower() == text.lower()
    assert sqlglot.parse_one(again, dialect=dialect) == statement


@every_dialect
def test_it_reads_one_table_and_calls_nothing_odd(dialect: str) -> None:
    statement = sqlglot.parse_one(
        select(draw_spec(3), "crm.accounts", dialect=dialect), dialect=dialect
    )
    tables = {table.sql() for table in statement.find_all(sqlglot.exp.Table)}
    assert {name for name in tables if not name.startswith("gtmar_")} == {"crm.accounts"}
    assert not list(statement.find_all(sqlglot.exp.Anonymous))


@every_dialect
def test_the_columns_of_gtmar_score_under_their_names(dialect: str) -> None:
    spec, accounts = make_spec(), make_accounts(20)
    statement = parsed(select(spec, "accounts", dialect=dialect), dialect)
    names = score(accounts, spec).columns
    if dialect == "bigquery":
        names = [re.sub(r"\W", "_", name) for name in names]
    assert statement.named_selects == names


@every_dialect
@pytest.mark.parametrize(
    ("reading", "kind", "typed"),
    [
        ({"read": {"columns": {"fee": "money"}}}, "range", "number"),
        ({"read": {"columns": {"fee": "decimal-comma"}}}, "range", "number"),
        ({"date_format": "%m/%d/%Y", "as_of": "today"}, "days_before", "date"),
    ],
)
def test_a_reading_of_text_that_sql_has_no_cast_for_is_refused(
    dialect: str, reading: dict[str, Any], kind: str, typed: str
) -> None:
    encode: dict[str, Any] = {"kind": "range", "from": 0, "to": 10}
    if kind == "days_before":
        encode = {"kind": "days_before", "then": encode}
    spec = make_spec(features={"fee": weighted(5, encode=encode)}, **reading)
    with pytest.raises(UsageError, match='the same way: "fee" as'):
        select(spec, "accounts", dialect=dialect)
    with pytest.raises(UsageError, match='"fee" as'):
        select(spec, "accounts", dialect=dialect, kinds={"fee": "text", "today": typed})
    assert select(spec, "accounts", dialect=dialect, kinds={"fee": typed, "today": typed})


def test_bigquery_names_that_turn_out_the_same_are_numbered() -> None:
    features = {name: weighted(encode="identity") for name in ("a-b", "a b", "A_b", "c")}
    text = select(make_spec(features=features), "accounts", dialect="bigquery")
    names = parsed(text, "bigquery").named_selects
    assert names[4:8] == ["points_a_b", "points_a_b_2", "points_A_b_3", "points_c"]


# ---- hostile names and texts ----------------------------------------------------------------

hostile = st.text(
    st.one_of(
        st.sampled_from("\"'`\\;-/*{}%$[]().\n\t\r @#|&\u2028\u00e4\U0001f600"), st.characters()
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: "\x00" not in text and not re.search("[\ud800-\udfff]", text))
EXAMPLES = (
    '"; drop table accounts; --',
    "x' or '1'='1",
    "`a`b",
    "a\\'b",
    "back\\",
    "/* no */ comment",
    "$$dollar$$",
    "{{ config() }} {% raw %}",
    "%s %(name)s :bind ?",
    "line\nbreak",
)


def hostile_spec(column: str, category: str, tier: str) -> tuple[ScoringSpec, pl.DataFrame]:
    """Return a spec with odd names everywhere, and a table that it scores."""
    spec = make_spec(
        id=f"{column} id",
        features={
            column: weighted(7, encode="identity"),
            f"{column} kind": weighted(
                3,
                encode={"kind": "one_of", "values": {category: 1, f"{category}2": 0.5}},
            ),
            f"{column} bins": {
                "column": f"{column} kind",
                **binned("other", *({category} - {"other", "missing"}), weight=2),
            },
        },
        tiers={tier: {"min": 14, "max": 101}, f"{tier}2": {"min": 0, "max": 14}},
    )
    frame = pl.DataFrame(
        {
            # An id of blanks alone is none.
            f"{column} id": [f"{column}1", f"{column}2", f"{category}."],
            column: [0.0, 1.0, 0.5],
            f"{column} kind": [category, f"{category}2", category],
        }
    )
    return spec, frame


def agrees(engine: DuckDB, spec: ScoringSpec, frame: pl.DataFrame) -> None:
    engine.load("hostile", frame)
    got = engine.ask(select(spec, "hostile", dialect=engine.dialect))
    expected = score(frame, spec)
    assert got.columns[:3] == expected.columns[:3]
    for place, name in ((0, spec.id or ""), (2, "tier")):
        assert sorted(got.to_series(place).cast(pl.String)) == sorted(expected[name])
    scores = sorted(got["score"].cast(pl.Float64).to_list())
    assert scores == sorted(expected["score"].to_list())


@pytest.mark.slow
@given(column=hostile, category=hostile, tier=hostile)
@settings(max_examples=20, deadline=None)
@example(*EXAMPLES[:3])
@example(*EXAMPLES[3:6])
@example(*EXAMPLES[6:9])
@example(EXAMPLES[9], EXAMPLES[0], EXAMPLES[1])
# DuckDB takes every blank off a text that it trims, unless it is told which.
@example("0", "\xa0", "0")
@example("0", "\u2003x", "0")
def test_hostile_names_and_texts_are_only_names_and_texts(
    column: str, category: str, tier: str
) -> None:
    try:
        spec, frame = hostile_spec(column, category, tier)
    except ValueError:
        return  # the spec itself refuses such a name
    agrees(DuckDB(), spec, frame)


@pytest.mark.slow
@every_dialect
@given(column=hostile, category=hostile, tier=hostile)
@settings(max_examples=3, deadline=None)
@example(*EXAMPLES[:3])
@example(*EXAMPLES[3:6])
@example(*EXAMPLES[6:9])
def test_every_dialect_holds_them_or_refuses(
    dialect: str, column: str, category: str, tier: str
) -> None:
    try:
        spec, _ = hostile_spec(column, category, tier)
        text = select(spec, "accounts", dialect=dialect)
    except ValueError:
        return
    [statement] = sqlglot.parse(text, dialect=dialect)
    assert statement is not None
    texts = {found.name for found in statement.find_all(sqlglot.exp.Literal) if found.is_string}
    assert {category, tier, f"{tier}2"} <= texts
    assert column in {found.name for found in statement.find_all(sqlglot.exp.Identifier)}
    tables = {table.sql(dialect) for table in statement.find_all(sqlglot.exp.Table)}
    assert {name for name in tables if not name.startswith("gtmar_")} == {"accounts"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "spark"])
def test_hostile_names_on_the_other_engines(kind: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(kind)
    for shift in range(len(EXAMPLES)):
        turned = [*EXAMPLES[shift:], *EXAMPLES[:shift]]
        spec, frame = hostile_spec(*turned[:3])
        engine.load("hostile", frame)
        got = engine.ask(select(spec, "hostile", dialect=engine.dialect))
        expected = score(frame, spec)
        scores = [float(value) for value in got["score"].to_list()]
        assert sorted(scores) == sorted(expected["score"].to_list()), turned[:3]
        assert sorted(got["tier"]) == sorted(expected["tier"]), turned[:3]


@pytest.mark.parametrize(("dialect", "name"), [("bigquery", "a.b"), ("duckdb", "nul\x00")])
def test_a_name_that_the_dialect_would_lose_is_refused(dialect: str, name: str) -> None:
    spec = make_spec(features={name: weighted(encode="identity")})
    with pytest.raises(UsageError, match=f"{dialect} has no way to write these names or texts"):
        select(spec, "accounts", dialect=dialect)


# ---- what is refused ------------------------------------------------------------------------


def test_an_unknown_dialect_is_refused_with_the_likely_one() -> None:
    with pytest.raises(UsageError, match='no dialect "postgress"; there are duckdb, ') as caught:
        select(make_spec(), "accounts", dialect="postgress")
    assert caught.value.hint == "--dialect postgres"


@pytest.mark.parametrize(
    "name",
    ["", "a; drop table b", "a b", "(select 1)", "a join b", "f(1)", "a.b.c.d.e", "read_csv('x')"],
)
def test_a_table_is_a_name_and_nothing_else(name: str) -> None:
    with pytest.raises(UsageError, match="--table expects a table's name as duckdb writes it"):
        select(make_spec(), name)


@pytest.mark.parametrize("name", ["accounts", "crm.accounts", 'main."my accounts"', "gtmar_read"])
def test_a_table_by_any_name_that_duckdb_takes(name: str) -> None:
    spec, frame = make_spec(), make_accounts(20)
    con = duckdb.connect()
    con.execute("create schema crm")
    con.register("frame", frame)
    con.execute(f"create table {name} as from frame")
    assert con.sql(select(spec, name)).fetchall()


def test_a_spec_without_id_is_refused() -> None:
    with pytest.raises(UsageError, match='spec "test" names no id column'):
        select(make_spec(id=None), "accounts")
    assert '"key" AS "id"' in select(make_spec(id=None), "accounts", identifier="key")


def test_an_id_with_the_name_of_a_result_is_refused() -> None:
    with pytest.raises(UsageError, match='"tier" is the account id\'s column and one of the'):
        select(make_spec(id="tier"), "accounts")


@every_dialect
def test_columns_that_differ_by_capitals_alone_are_refused_where_they_are_one(
    dialect: str,
) -> None:
    """DuckDB read "Logins" for both of them, and gave another score without a word."""
    names = ("Logins", "logins")
    features = {name: weighted(encode="identity") for name in names}
    spec = make_spec(features=features)
    if dialect in ("postgres", "snowflake"):
        identifiers = parsed(select(spec, "accounts", dialect=dialect), dialect).find_all(
            sqlglot.exp.Column
        )
        assert {*names} <= {each.name for each in identifiers}
        return
    with pytest.raises(UsageError, match='differ by capitals alone: "Logins", "logins"') as caught:
        select(spec, "accounts", dialect=dialect)
    assert str(caught.value).startswith(f"{dialect} doesn't tell columns apart")
    # Columns of the result are read by no query.
    bins = {name: {"weight": 1, "min": 0, "max": 9} for name in ("Pro", "pro")}
    binned_by_case = {"plan": {"encode": {"kind": "bins", "bins": bins}}}
    assert select(make_spec(features=binned_by_case), "accounts", dialect=dialect)


def test_names_longer_than_the_engine_keeps_are_refused() -> None:
    features = {"x" * 60: weighted(encode="identity")}
    select(make_spec(features=features), "accounts")
    with pytest.raises(UsageError, match="postgres cuts names off after 63 bytes"):
        select(make_spec(features=features), "accounts", dialect="postgres")


@pytest.mark.parametrize(
    ("encode", "match"),
    [
        ({"kind": "range", "from": 0, "to": 1e200}, "1e\\+200 is too large or too small"),
        ({"kind": "curve", "points": [[0, 0], [1, 1e13]]}, "1e\\+13 is too large to be exact"),
        ({"kind": "one_of", "values": {"a": 1e300}}, "1e\\+300 is too large to be exact"),
    ],
)
def test_numbers_that_engines_treat_differently_are_refused(encode: object, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        select(make_spec(features={"x": weighted(encode=encode)}), "accounts")


def test_days_before_needs_a_date() -> None:
    spec = make_spec(features={"since": weighted(encode="days_before")})
    with pytest.raises(UsageError, match="there is no date to count from"):
        select(spec, "accounts")
    with pytest.raises(UsageError, match='as_of expects a date, got "March"'):
        select(spec, "accounts", as_of="March")
    assert "'2026-03-01'" in select(spec, "accounts", as_of="2026-03-01")


@pytest.mark.slow
def test_three_hundred_weights_are_no_trouble() -> None:
    draw = random.Random(0)
    features = {f"f{i}": weighted(draw.randint(-25, 25)) for i in range(300)}
    frame = pl.DataFrame({"account_id": ["a"], **{name: [0.5] for name in features}})
    engine = DuckDB()
    engine.load("wide", frame)
    spec = make_spec(features=features)
    got = engine.ask(select(spec, "wide"))
    assert float(got["score"].item()) == score(frame, spec)["score"].item()


def test_the_kinds_of_a_table_s_columns() -> None:
    kinds = column_kinds(draw_accounts(2).schema)
    assert kinds["flag"] == "boolean"
    assert kinds["amount"] == "number"
    assert kinds["since"] == "date"
    assert kinds["plan"] == "text"
