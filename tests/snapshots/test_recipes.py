"""What a recipe may say, and how it is refused: all that is wrong at once, with lines."""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import jsonschema
import polars as pl
import pytest

from gtmar.errors import AccountDataError, RecipeError, UsageError
from gtmar.snapshots.build import build
from gtmar.snapshots.recipe import Dates, Span, json_schema, parse, recipe_id

GOOD = """
name: shop
sources:
  orders: {data: orders.parquet, account: id, at: day}
  crm: {data: crm.parquet, account: id, as_of: today}
dates: [2024-03-01]
window: 6 months
revenue: {transactions: {source: orders, amount: amount}}
features:
  n: {count: orders}
"""


def test_all_that_is_wrong_is_said_at_once_with_its_line() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(
            """name: shop
sources:
  orders: {data: a, acount: id, at: day}
dates: []
window: 6 moons
revenue: {monthly: {source: orders, amount: x}, transactions: {source: orders, amount: x}}
features:
  f: {cout: orders}
  g: {sum: orders}
""",
            source="snapshots.yaml",
        )
    text = str(caught.value)
    for said in (
        'snapshots.yaml:3: sources.orders.acount: unknown key "acount"; did you mean "account"?',
        "snapshots.yaml:5: window: expected a length of time",
        "snapshots.yaml:6: revenue: revenue is one of",
        'snapshots.yaml:8: features.f.cout: unknown key "cout"; did you mean "count"?',
        'snapshots.yaml:9: features.g: sum needs a column, as "orders.COLUMN"',
    ):
        assert said in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("n: {count", "mrr_end: {count", '"mrr_end" is a column that every table has'),
        ("n: {count", "Account_ID: {count", '"Account_ID" is a column that every table has'),
        ("n: {count: orders}", "n: {count: orders}\n  N: {count: orders}", "but for its capitals"),
        ("count: orders", "count: order", 'there is no source "order"; did you mean "orders"?'),
        ("count: orders", "sum: crm.size", "crm has no dates; only latest reads it"),
        ("window: 6 months", "window: 0 days", "window: must be a day or more"),
        ("amount: amount}", "amount: amount, months: 12}", "months is 12, longer than the window"),
        ("[2024-03-01]", "[2024-03-01, 2024-03-01]", "one stands twice"),
        ("[2024-03-01]", "[2024-02-30]", "dates"),
        ("at: day", "at: day, valid_from: day", "got at and valid_from"),
        ("count: orders", "change: orders", "change needs a last"),
        ("amount: amount}", "amount: amount, currency: c}", "currency and rates stand together"),
        ("  orders:", "  my orders:", "must be letters, digits and underscores"),
    ],
)
def test_what_cant_hold_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("?", r"\?")):
        parse(GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[2024-03-01]", "[01/03/2024]", 'r:6: dates.0: expected a day as 2024-01-31, got "01/03'),
        ("[2024-03-01]", "{from: 2024-01-01, to: 2024-06-01, every: quarterly}",
         'r:6: dates.every: expected a length of time as "90 days" or "6 months", got "quarterly"'),
        ("[2024-03-01]", "2024-03-01",
         'r:6: dates: expected a list of days, or from, to and every, got "2024-03-01"'),
        ("source: orders", "source: order",
         'r:8: revenue: there is no source "order"; did you mean "orders"?'),
        ("n: {count: orders}", "n: {count: orders}\n  mrr: {count: orders}",
         'r:11: features: "mrr" is a column that every table has'),
        ("count: orders", "count: order", 'r:10: features.n: there is no source "order"'),
        ("window:", "rules: {overlaps: ad}\nwindow:",
         'r:7: rules.overlaps: expected "refuse" or "add", got "ad"; did you mean "add"?'),
        ("window:", "rules:\nwindow:",
         'r:7: rules: expected keys with values, as "key: value", got nothing'),
        ("window:", "\twindow:", "r:7: not readable as YAML"),
    ],
)  # fmt: skip
def test_a_usual_slip_is_named_with_its_line_and_alone(old: str, new: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(GOOD.replace(old, new, 1), source="r")
    assert str(caught.value).startswith(said)
    assert "problems" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("amunt > 1", 'source "orders" has no column "amunt"; did you mean "amount"?'),
        ("id = paid_by_card", 'has no column "paid_by_card"; text stands in single quotes'),
    ],
)
def test_a_condition_over_no_column_names_the_nearest(
    tmp_path: Path, where: str, said: str
) -> None:
    text = shop(tmp_path).replace("{count: orders}", f'{{count: orders, where: "{where}"}}')
    with pytest.raises(RecipeError) as caught:
        build(parse(text), tmp_path / "out", base=tmp_path)
    assert said in str(caught.value)


def test_the_schema_takes_what_the_parser_takes() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    good = {
        "name": "shop",
        "sources": {"orders": {"data": "a", "account": "id", "at": "day"}},
        "dates": {"from": "2024-01-01", "to": "2024-06-01", "every": "1 month"},
        "window": "6 months",
        "revenue": {"transactions": {"source": "orders", "amount": "x"}},
        "features": {"n": {"count": "orders", "last": "90 days"}},
    }
    jsonschema.validate(good, json_schema())
    parse(json.dumps(good))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, "windows": "6 months"}, json_schema())


def test_months_are_counted_from_the_first_date() -> None:
    dates = Dates.model_validate({"from": "2024-01-31", "to": "2024-06-30", "every": "1 month"})
    assert [day.isoformat()[5:] for day in dates.days()] == [
        *("01-31", "02-29", "03-31", "04-30", "05-31", "06-30"),
    ]
    assert Span.of("1 year").after(date(2024, 2, 29)) == date(2025, 2, 28)


def test_the_id_is_of_what_changes_a_value() -> None:
    one = recipe_id(parse(GOOD))
    same = GOOD.replace("name: shop", "name: other").replace("[2024-03-01]", "[2024-06-01]")
    assert recipe_id(parse(same.replace("orders.parquet", "elsewhere.parquet"))) == one
    assert recipe_id(parse(GOOD.replace("6 months", "3 months"))) != one
    assert recipe_id(parse(GOOD + "rules: {overlaps: add}\n")) != one


# ---- against the sources ------------------------------------------------------------------------


def shop(folder: Path, **columns: Sequence[object]) -> str:
    frame = {
        "id": ["a", "b", "a", "c"],
        "day": [date(2024, 2, 1), date(2024, 2, 2), date(2024, 5, 1), date(2024, 9, 2)],
        "amount": [1.0, 2.0, 3.0, 4.0],
        **columns,
    }
    pl.DataFrame(frame, strict=False).write_parquet(folder / "orders.parquet")
    pl.DataFrame({"id": ["a", "b", "c"], "size": [1, 2, 3]}).write_parquet(folder / "crm.parquet")
    return GOOD


def test_columns_that_arent_there_are_named_together(tmp_path: Path) -> None:
    text = shop(tmp_path).replace("account: id, at: day", "account: idd, at: amount")
    with pytest.raises(RecipeError) as caught:
        build(parse(text.replace("count: orders", "sum: orders.id")), tmp_path / "o", base=tmp_path)
    said = str(caught.value)
    assert 'source "orders" has no column "idd"; did you mean "id"?' in said
    assert 'column "amount" of "orders" must hold dates, got DOUBLE' in said
    assert 'features.n: column "id" of "orders" must hold numbers, got VARCHAR' in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("amount", [1.0, -2.0, 3.0, 4.0], '1 amount is negative: "b"; negative: subtract'),
        ("amount", [1.0, None, 3.0, 4.0], '1 amount is unknown: "b"'),
    ],
)
def test_a_history_that_contradicts_itself_is_refused(
    tmp_path: Path, column: str, values: list[object], said: str
) -> None:
    text = shop(tmp_path, **{column: values})
    with pytest.raises(AccountDataError, match=said):
        build(parse(text), tmp_path / "out", base=tmp_path)
    assert not (tmp_path / "out").exists()


def test_currencies_need_a_rate_each_and_count_at_it(tmp_path: Path) -> None:
    text = shop(tmp_path, cur=["EUR", "USD", "EUR", "GBP"])
    money = "amount: amount, currency: cur, rates: {EUR: 1, USD: 0.5}"
    with pytest.raises(AccountDataError, match='1 amount is of a currency without a rate: "c"'):
        build(parse(text.replace("amount: amount", money)), tmp_path / "out", base=tmp_path)
    money = money.replace("0.5", "0.5, GBP: 2")
    build(parse(text.replace("amount: amount", money)), tmp_path / "out", base=tmp_path)
    found = pl.read_parquet(tmp_path / "out/features_asof=2024-03-01/accounts.parquet")
    assert found.select("account_id", "mrr").rows() == [("a", 1.0), ("b", 1.0)]


@pytest.mark.slow
def test_currencies_without_rates_are_said(tmp_path: Path) -> None:
    text = shop(tmp_path, currency_code=["EUR", "USD", "EUR", "GBP"])
    told = 'Column "currency_code" of "orders" has 3 currencies'
    built = build(parse(text), tmp_path / "out", base=tmp_path)
    assert any(note.startswith(told) for note in built.notes)
    text = shop(tmp_path, currency_code=["EUR"] * 4)
    built = build(parse(text), tmp_path / "out", base=tmp_path)
    assert not any("currencies" in note for note in built.notes)


def test_ids_that_no_revenue_has_are_refused(tmp_path: Path) -> None:
    text = shop(tmp_path)
    pl.DataFrame({"id": [1, 2, 3], "size": [1, 2, 3]}).write_parquet(tmp_path / "crm.parquet")
    with pytest.raises(AccountDataError, match="are ids written alike in both"):
        build(parse(text), tmp_path / "out", base=tmp_path)


def test_a_table_of_today_has_an_account_once(tmp_path: Path) -> None:
    text = shop(tmp_path)
    pl.DataFrame({"id": ["a", "a"], "size": [1, 2]}).write_parquet(tmp_path / "crm.parquet")
    with pytest.raises(AccountDataError, match='"crm": 1 account stands there more than once: "a"'):
        build(parse(text), tmp_path / "out", base=tmp_path)


def test_an_account_that_the_table_of_accounts_leaves_out_is_unknown_to_it(tmp_path: Path) -> None:
    text = shop(tmp_path).replace("as_of: today", "as_of: today, where: size > 1")
    with pytest.raises(AccountDataError, match='1 account isn\'t in "crm": "a"'):
        build(parse(text + "accounts: crm\n"), tmp_path / "out", base=tmp_path)


def test_rows_of_days_to_come_need_a_word_on_what_is_known(tmp_path: Path) -> None:
    ahead = date.today() + timedelta(40)
    days = [date(2024, 2, 1), date(2024, 2, 2), date(2024, 5, 1), ahead]
    text = shop(tmp_path, day=days)
    with pytest.raises(AccountDataError, match="rows of days to come"):
        build(parse(text), tmp_path / "out", base=tmp_path)
    build(parse(text + "data_until: 2024-09-02\n"), tmp_path / "out", base=tmp_path)


def test_risks_and_rows_left_out_are_said(tmp_path: Path) -> None:
    text = shop(tmp_path, id=["a", None, "a", "c"])
    built = build(parse(text), tmp_path / "out", base=tmp_path)
    notes = " ".join(built.notes)
    assert 'Source "crm" is as it is today' in notes
    assert 'Source "orders": 1 of 4 rows have no account; left out.' in notes
    assert "Outcomes are taken as known until 2024-09-02" in notes


def test_other_dates_have_to_fit_the_recipe_too(tmp_path: Path) -> None:
    """From 1 February on 91 days are three months and more, from 1 June on they are less."""
    text = (
        shop(tmp_path)
        .replace("6 months", "91 days")
        .replace("amount: amount}", "amount: amount, months: 3}")
    )
    recipe = parse(text.replace("2024-03-01", "2024-02-01"))
    with pytest.raises(RecipeError, match="months is 3, longer than the window"):
        build(recipe, tmp_path / "out", base=tmp_path, days=[date(2024, 6, 1)])
    [made] = build(recipe, tmp_path / "out", base=tmp_path, days=[date(2024, 2, 1)]).tables
    assert made.day == date(2024, 2, 1)


def test_a_date_after_the_histories_end_says_what_it_lacks(tmp_path: Path) -> None:
    text = shop(tmp_path)
    pl.DataFrame({"id": ["a"], "at": [date(2024, 1, 5)]}).write_parquet(tmp_path / "did.parquet")
    did = "sources:\n  did: {data: did.parquet, account: id, at: at}"
    text = text.replace("sources:", did) + "data_until: 2024-09-02\n"
    late = build(parse(text), tmp_path / "out", base=tmp_path, days=[date(2024, 9, 3)])
    notes = " ".join(late.notes)
    assert "the table of 2024-09-03 lacks what came since" in notes
    assert 'Source "did" has no row after 2024-01-05, 242 days before 2024-09-03.' in notes


def test_a_table_that_was_written_gets_its_outcomes_and_no_other_rows(tmp_path: Path) -> None:
    text = shop(tmp_path)
    early = text + "data_until: 2024-05-02\n"
    [first] = build(parse(early), tmp_path / "out", base=tmp_path).tables
    assert (first.outcomes, first.change) == (False, "new")
    assert "churned" not in pl.read_parquet_schema(f"{first.data}/accounts.parquet")
    assert build(parse(early), tmp_path / "out", base=tmp_path).tables[0].change == "same"
    [later] = build(parse(text), tmp_path / "out", base=tmp_path).tables
    assert (later.outcomes, later.change) == (True, "outcomes")
    assert pl.read_parquet(f"{later.data}/accounts.parquet")["churned"].to_list() == [0, 1]
    shop(tmp_path, amount=[1.0, 5.0, 3.0, 4.0])
    with pytest.raises(UsageError, match="is there already with other rows"):
        build(parse(text), tmp_path / "out", base=tmp_path)
