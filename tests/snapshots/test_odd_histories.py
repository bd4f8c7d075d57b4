"""Histories as exports really write them: ends in the year 9999, a column called number, NaN."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from snapshot_tables import snapshot_table

from gtmar.errors import GtmarError
from gtmar.snapshots.bridge import Bridge, bridge
from gtmar.snapshots.recipe import parse

DAY = date(2024, 3, 1)
JANUARY, APRIL = date(2024, 1, 1), date(2024, 4, 1)


def recipe(folder: Path, columns: Mapping[str, object], money: str, more: str = "") -> Any:
    """Write one table, whose first columns are account and times, and return its recipe."""
    frame = pl.DataFrame(columns, strict=False)
    frame.write_parquet(folder / "rows.parquet")
    names = list(columns)
    periods = money.startswith("subscriptions")
    times = f"from: {names[1]}, until: {names[2]}" if periods else f"at: {names[1]}"
    features = "" if "features:" in more else "features: {n: {count: rows}}"
    return parse(f"""
name: odd
id: id
sources: {{rows: {{data: {folder}/rows.parquet, account: {names[0]}, {times}}}}}
dates: [{DAY}]
window: 1 month
data_until: 2024-08-01
revenue: {{{money}}}
{features}
{more}
""")


def months_of(found: Bridge) -> dict[str, tuple[int, int]]:
    rows = found.months.select("month", "start", "end").rows()
    return {f"{month:%m}": (start, end) for month, start, end in rows}


@pytest.mark.slow
@pytest.mark.parametrize("until", ["first day after", "last day"])
def test_an_open_end_may_be_written_as_the_last_day_there_is(tmp_path: Path, until: str) -> None:
    """A day later is one that Python has no date for."""
    rows = {"id": ["a"], "b": [JANUARY], "u": [date.max], "v": [10.0]}
    money = f"subscriptions: {{source: rows, amount: v, until: {until}, gap: 30 days}}"
    odd = recipe(tmp_path, rows, money)
    found = bridge(odd)
    assert found.sound
    assert months_of(found)["07"] == (1_000, 1_000)
    assert snapshot_table(odd, DAY).select("mrr", "mrr_end").rows() == [(10.0, 10.0)]


@pytest.mark.parametrize("names", [("number", "at", "amount"), ("account", "bound", "month")])
@pytest.mark.parametrize("shape", ["transactions", "monthly"])
def test_a_sources_columns_may_have_any_name(
    tmp_path: Path, shape: str, names: tuple[str, str, str]
) -> None:
    rows = dict(zip(names, (["a", "a"], [JANUARY, DAY], [10.0, 5.0]), strict=True))
    found = bridge(recipe(tmp_path, rows, f"{shape}: {{source: rows, amount: {names[2]}}}"))
    assert found.sound
    assert [months_of(found)[month] for month in ("01", "02", "03")] == [
        *((0, 1_000), (1_000, 0), (0, 500)),
    ]


def test_the_last_day_that_is_paid_for_may_be_written_as_its_last_second(tmp_path: Path) -> None:
    """The next period begins a second later, and doesn't overlap."""
    begins = [datetime(2024, 1, 1), datetime(2024, 3, 1)]
    ends = [datetime(2024, 2, 29, 23, 59, 59), datetime(2024, 3, 20, 23, 59, 59)]
    rows = {"id": ["a", "a"], "b": begins, "u": ends, "v": [10.0, 10.0]}
    money = "subscriptions: {source: rows, amount: v, until: last day}"
    odd = recipe(tmp_path, rows, money)
    assert bridge(odd).conflicts == ()
    assert snapshot_table(odd, DAY)["mrr"].to_list() == [10.0]


@pytest.mark.parametrize("length", [0, 1])
def test_a_period_of_no_length_is_no_return_and_puts_off_no_end(
    tmp_path: Path, length: int
) -> None:
    """With a gap of 30 days: `back` returns within it, `late` 40 days after its last end."""
    periods = [
        ("back", JANUARY, date(2024, 3, 20)),
        ("back", date(2024, 4, 10), date(2024, 4, 10) + timedelta(length)),
        ("late", JANUARY, date(2024, 3, 2)),
        ("late", date(2024, 3, 25), date(2024, 3, 25) + timedelta(length)),
        ("late", date(2024, 4, 11), date(2024, 6, 11)),
    ]
    names, begins, ends = zip(*periods, strict=True)
    rows = {"id": names, "b": begins, "u": ends, "v": [10.0] * 5}
    money = "subscriptions: {source: rows, amount: v, gap: 30 days}"
    found = snapshot_table(recipe(tmp_path, rows, money), DAY)
    kept = found.select("id", "mrr_end", "churned").rows()
    assert kept == [("back", 10.0 * length, 1 - length), ("late", 10.0 * length, 1 - length)]


BOOKS = [(JANUARY, 10.0), (date(2024, 2, 1), 10.0), (DAY, None), (date(2024, 9, 1), 10.0)]


@pytest.mark.parametrize("shape", ["transactions", "monthly"])
def test_books_know_of_a_first_month_that_is_gone(tmp_path: Path, shape: str) -> None:
    """What they say nothing of, and what the history doesn't reach, is held against nothing."""
    books = pl.DataFrame(BOOKS, schema=["month", "total"], orient="row")
    books.write_parquet(tmp_path / "b.parquet")
    rows = {"id": ["a", "a"], "at": [date(2024, 2, 3), date(2024, 3, 3)], "v": [10.0, 10.0]}
    totals = f"totals: {{data: {tmp_path}/b.parquet, month: month, amount: total}}"
    found = bridge(recipe(tmp_path, rows, f"{shape}: {{source: rows, amount: v}}", totals))
    [missing] = found.differences
    assert (missing.month, missing.against, missing.cents) == (JANUARY, "books", -1_000)
    notes = " ".join(found.notes)
    assert "The totals have no row for 5 of 8 months, the first of them 2024-03;" in notes
    assert "isn't known to the end of 1 of 8 months, the first of them 2024-09;" in notes


@pytest.mark.parametrize(
    ("amount", "more", "value", "mrr"),
    [
        (300_000.0, "discount: f", 1 / 3, 200_000.0),
        (0.00000149, "quantity: f", 10_000_000.0, 14.9),
        (1_000_000.0, "quantity: f", 1 / 3, 333_333.3333),
        (90_000_000.0, "currency: c, rates: {X: 0.0000365}", 0.0, 3_285.0),
        (9_000_000_000_000.0, "currency: c, rates: {X: 0.00000000012}", 0.0, 1_080.0),
    ],
)
def test_small_prices_thirds_and_small_rates_count_to_the_cent(
    tmp_path: Path, amount: float, more: str, value: float, mrr: float
) -> None:
    rows = {"id": ["a"], "b": [JANUARY], "u": [APRIL], "v": [amount], "f": [value], "c": ["X"]}
    money = f"subscriptions: {{source: rows, amount: v, {more}}}"
    odd = recipe(tmp_path, rows, money)
    assert snapshot_table(odd, DAY)["mrr"].to_list() == [mrr]
    assert months_of(bridge(odd))["02"] == (round(mrr * 100), round(mrr * 100))


def test_who_was_given_back_more_than_they_paid_has_no_mrr(tmp_path: Path) -> None:
    """An account table has amounts of 0 or more; the bridge adds up what there is."""
    days = [date(2024, 2, 5), date(2024, 3, 5), date(2024, 2, 6), date(2024, 3, 6)]
    rows = {"id": ["a", "a", "b", "b"], "at": days, "v": [10.0, -4.0, -3.0, 5.0]}
    money = "transactions: {source: rows, amount: v, negative: subtract}"
    odd = recipe(tmp_path, rows, money, "population: seen")
    found = snapshot_table(odd, DAY).select("id", "mrr", "mrr_end", "churned").rows()
    assert found == [("a", 10.0, 0.0, 1), ("b", 0.0, 5.0, 0)]
    assert months_of(bridge(odd))["03"] == (700, 100)


def test_nan_is_an_unknown_number(tmp_path: Path) -> None:
    nan = float("nan")
    days = [date(2024, 2, day) for day in (5, 6, 7)]
    rows = {"id": ["a"] * 3, "at": days, "v": [10.0] * 3, "x": [1.0, 2.0, nan]}
    features = """features:
  sum: {sum: rows.x}
  max: {max: rows.x}
  distinct: {distinct: rows.x}
  large: {count: rows, where: x > 1}
  own: {sql: "select id, count(*) from rows where x > 1 group by id"}
"""
    money = "transactions: {source: rows, amount: v}"
    found = snapshot_table(recipe(tmp_path, rows, money, features), DAY)
    assert found.select("sum", "max", "distinct", "large", "own").row(0) == (3.0, 2.0, 2, 1, 1)
    with pytest.raises(GtmarError, match="1 amount is unknown"):
        snapshot_table(recipe(tmp_path, {**rows, "v": rows["x"]}, money), DAY)


@pytest.mark.parametrize("kind", ["min", "max"])
def test_text_has_no_largest_number(tmp_path: Path, kind: str) -> None:
    rows = {"id": ["a", "a"], "at": [date(2024, 2, 5)] * 2, "v": [10.0] * 2, "x": ["9", "10"]}
    features = f"features: {{x: {{{kind}: rows.x}}}}"
    with pytest.raises(GtmarError, match="must hold numbers or dates, got VARCHAR"):
        snapshot_table(
            recipe(tmp_path, rows, "transactions: {source: rows, amount: v}", features), DAY
        )
    features = f"features: {{x: {{{kind}: rows.at}}}}"
    found = recipe(tmp_path, rows, "transactions: {source: rows, amount: v}", features)
    assert snapshot_table(found, DAY)["x"].to_list() == [date(2024, 2, 5)]
