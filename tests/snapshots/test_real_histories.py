"""Histories that others wrote; they lie beside the project, and without them these tests skip."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from snapshot_tables import snapshot_table

from gtmar.errors import AccountDataError
from gtmar.snapshots.bridge import MOVEMENTS, bridge
from gtmar.snapshots.recipe import parse

SHARED = Path(__file__).parents[3] / "shared"
HISTORY = SHARED / "history"

pytestmark = pytest.mark.skipif(not HISTORY.is_dir(), reason=f"no folder {HISTORY}")

SHOP = f"""
name: shop
sources:
  orders: {{data: {HISTORY}/cdnow_orders.parquet, account: account_id, at: date}}
dates: [1997-07-01]
window: 6 months
revenue: {{transactions: {{source: orders, amount: amount, months: 6}}}}
population: seen
ltv: all revenue
features:
  recency_days: {{days_since: orders}}
  orders: {{count: orders}}
  order_days: {{distinct: orders.date}}
  cds: {{sum: orders.cds}}
  zero_dollar_orders: {{count: orders, where: amount = 0}}
  max_order_value: {{max: orders.amount}}
"""


def test_a_shops_orders_give_its_account_table_exactly() -> None:
    made = snapshot_table(parse(SHOP), date(1997, 7, 1))
    table = pl.read_parquet(SHARED / "data" / "cdnow.parquet").sort("account_id")
    assert made.height == 23_570
    assert made["account_id"].to_list() == table["account_id"].to_list()
    shared = ["recency_days", "orders", "order_days", "cds", "zero_dollar_orders"]
    shared += ["max_order_value", "retained_6mo", "churned", "mrr", "mrr_end", "actual_ltv"]
    for name in shared:
        assert made[name].cast(pl.Float64).to_list() == table[name].cast(pl.Float64).to_list(), name


OTHERS = """
  orders_last_2mo: {count: orders, last: 2 months}
  first_order_week: {sql: "select account_id, week(min(date)) from orders group by 1"}
  median_gap_days: {sql: "select account_id, median(gap) from (select account_id, date_diff('day',
    lag(date) over (partition by account_id order by date), date) as gap from
    (select distinct account_id, date from orders)) group by 1"}
  usual_weekday: {sql: "select account_id, min_by(day, {'n': -n, 'day': day}) from (select
    account_id, strftime(date, '%A') as day, count(*) as n from orders group by all) group by 1"}
  avg_order_value: {mean: orders.amount}
  avg_cd_price: {sql: "select account_id, sum(amount) / sum(cds) from orders group by 1"}
"""


def test_the_other_columns_of_the_shops_table_are_features_too() -> None:
    """Of two averages that table has two and four decimals; all else is exact."""
    made = snapshot_table(parse(SHOP + OTHERS), date(1997, 7, 1))
    table = pl.read_parquet(SHARED / "data" / "cdnow.parquet").sort("account_id")
    assert set(table.columns) == set(made.columns) - {
        *("features_asof", "features_until", "outcome_start", "outcome_end"),
    }
    for name in ("orders_last_2mo", "first_order_week", "median_gap_days", "usual_weekday"):
        assert made[name].to_list() == table[name].to_list(), name
    for name, room in (("avg_order_value", 0.005), ("avg_cd_price", 0.00005)):
        assert made[name].is_null().to_list() == table[name].is_null().to_list(), name
        assert (made[name] - table[name]).abs().max() <= room + 1e-9, name  # type: ignore[operator]


PLAYBOOK = f"""
name: playbook
id: customer_id
sources:
  subs: {{data: {HISTORY}/subscription_periods.csv, account: customer_id, from: start_date,
    until: end_date}}
dates: [2018-12-01]
window: 1 month
data_until: 2020-01-01
revenue: {{subscriptions: {{source: subs, amount: monthly_amount}}}}
population: paying and former
features: {{tenure: {{tenure: subs}}}}
"""


@pytest.mark.parametrize(
    ("day", "gap", "mrr", "mrr_end", "churned", "won_back"),
    [
        # Customer 1 pays 50 from 2018-11-01 to 2019-02-01, 50 from 2019-04-01, 75 from 2019-06-01
        # to 2019-08-01.
        ("2018-12-01", "0 days", 50, 50, 0, None),
        ("2019-01-15", "0 days", 50, 0, 1, None),
        # 59 days lie between the end and the return.
        ("2019-01-15", "58 days", 50, 0, 1, None),
        ("2019-01-15", "59 days", 50, 50, 0, None),
        ("2019-03-01", "0 days", None, None, None, 0),
        ("2019-03-15", "0 days", None, None, None, 1),
        ("2019-05-15", "0 days", 50, 75, 0, None),
        ("2019-07-02", "0 days", 75, 0, 1, None),
        # On the first day after the last one paid for, an account doesn't pay.
        ("2019-07-01", "0 days", 75, 75, 0, None),
    ],
)
def test_the_movements_of_one_customer_by_date(
    day: str, gap: str, mrr: object, mrr_end: object, churned: object, won_back: object
) -> None:
    recipe = parse(PLAYBOOK.replace("monthly_amount}", f"monthly_amount, gap: {gap}}}"))
    row = snapshot_table(recipe, date.fromisoformat(day)).filter(customer_id="1").row(0, named=True)
    assert [row[k] for k in ("mrr", "mrr_end", "churned", "won_back")] == [
        *(mrr, mrr_end, churned, won_back),
    ]


SAAS = f"""
name: saas
sources:
  crm: {{data: {HISTORY}/saas/accounts.parquet, account: account_id, as_of: today}}
  subs: {{data: {HISTORY}/saas/subscriptions.parquet, account: account_id, from: start_date,
    until: end_date}}
  tickets: {{data: {HISTORY}/saas/support_tickets.parquet, account: account_id, at: submitted_at}}
  left: {{data: {HISTORY}/saas/churn_events.parquet, account: account_id, at: churn_date}}
dates: [2024-07-01]
window: 3 months
accounts: crm
flags: [{{source: crm, where: churn_flag}}, {{source: left}}]
revenue: {{subscriptions: {{source: subs, amount: mrr_amount}}}}
features:
  tickets_90: {{count: tickets, last: 90 days}}
  seats: {{latest: subs.seats}}
"""


@pytest.mark.slow
def test_a_history_full_of_contradictions_is_refused_until_each_has_a_rule() -> None:
    day = date(2024, 7, 1)
    subs = pl.read_parquet(HISTORY / "saas" / "subscriptions.parquet")
    last = subs["start_date"].max()
    paying = (
        subs.filter(pl.col("end_date").is_null() | (pl.col("end_date") >= last))
        .filter(pl.col("start_date") < last)
        .group_by("account_id")
        .agg(pl.col("mrr_amount").sum())
        .filter(pl.col("mrr_amount") > 0)["account_id"]
    )
    crm = pl.read_parquet(HISTORY / "saas" / "accounts.parquet")
    flagged = crm.filter("churn_flag")["account_id"]
    with pytest.raises(AccountDataError) as caught:
        snapshot_table(parse(SAAS), day)
    found: Any = caught.value.facts["conflicts"]
    counts = [(each["kind"], each["count"]) for each in found]
    kinds = [kind for kind, _ in counts]
    assert kinds == [
        *("zero_amounts", "overlaps", "events_outside", "events_outside"),
        *("flagged_and_paying", "gone_and_unflagged", "flagged_and_paying", "gone_and_unflagged"),
    ]
    # 110 accounts are flagged, and none of them has only subscriptions that ended; 352 have left by
    # an event, of which some are of the very last day or later.
    assert flagged.len() == 110
    assert ("flagged_and_paying", flagged.is_in(paying.implode()).sum()) in counts
    left = pl.read_parquet(HISTORY / "saas" / "churn_events.parquet")
    assert left["account_id"].n_unique() == 352
    told = left.filter(pl.col("churn_date") < last)["account_id"].unique()
    both = told.is_in(paying.implode()).sum()
    assert counts[4:] == [
        *(("flagged_and_paying", 110), ("gone_and_unflagged", 500 - paying.len())),
        *(
            ("flagged_and_paying", both),
            ("gone_and_unflagged", 500 - paying.len() - told.len() + both),
        ),
    ]
    assert subs.filter(mrr_amount=0).height == 778
    assert ("zero_amounts", 778) in counts
    for kind in set(kinds):
        settles = "flags" if kind in FLAGS else kind
        rules = [rule for rule in RULES if RULES[rule] != settles]
        with pytest.raises(AccountDataError) as caught:
            snapshot_table(parse(ruled(*rules)), day)
        # All of what that rule would settle, and nothing else.
        left_over: Any = caught.value.facts["conflicts"]
        assert {each["kind"] for each in left_over} == (FLAGS if kind in FLAGS else {kind})
    assert snapshot_table(parse(RULED), day).height > 100


FLAGS = {"flagged_and_paying", "gone_and_unflagged"}
#: What settles each kind of contradiction.
RULES = {
    "zero_amounts: not paying": "zero_amounts",
    "overlaps: add": "overlaps",
    "events_outside: keep": "events_outside",
    "flags: believe revenue": "flags",
}


def ruled(*rules: str) -> str:
    return SAAS + f"rules: {{{', '.join(rules)}}}\n"


RULED = ruled(*RULES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "months", "end"), [(SHOP, 17, None), (PLAYBOOK, 28, 125_500), (RULED, 23, None)]
)
def test_the_bridge_closes_to_the_cent(text: str, months: int, end: int | None) -> None:
    found = bridge(parse(text))
    assert found.differences == ()
    assert found.sound
    assert found.months.height == months
    moved = pl.sum_horizontal("start", *MOVEMENTS) - pl.col("end")
    assert found.months.select(moved.abs().max()).item() == 0
    assert found.accounts.select(moved.abs().max()).item() == 0
    assert found.months["start"][1:].to_list() == found.months["end"][:-1].to_list()
    assert end in (None, found.months["end"][-1])


def test_a_history_without_rules_has_no_sound_bridge() -> None:
    found = bridge(parse(SAAS))
    assert found.differences == ()
    assert not found.sound
    assert {each.kind for each in found.conflicts} == {
        *("zero_amounts", "overlaps", "events_outside", "flagged_and_paying", "gone_and_unflagged"),
    }


def test_the_bridge_names_the_movements_of_one_customer() -> None:
    own = bridge(parse(PLAYBOOK)).accounts.filter(account="1")
    moves = {
        f"{row['month']:%Y-%m}": {name: row[name] for name in MOVEMENTS if row[name]}
        for row in own.iter_rows(named=True)
    }
    assert {month: move for month, move in moves.items() if move} == {
        "2018-11": {"new": 5_000},
        "2019-02": {"churn": -5_000},
        "2019-04": {"reactivation": 5_000},
        "2019-06": {"expansion": 2_500},
        "2019-08": {"churn": -7_500},
    }


@pytest.mark.parametrize(
    ("until", "outside"), [("last day", "19,432"), ("first day after", "19,434")]
)
def test_usage_outside_its_subscription_is_counted(until: str, outside: str) -> None:
    """Usage names subscriptions, which stand for accounts here; two rows lie on a last day."""
    usage = SAAS.replace(
        "  left:",
        f"  usage: {{data: {HISTORY}/saas/feature_usage.parquet, account: subscription_id, "
        "at: usage_date}\n  left:",
    ).replace("account: account_id, from: start_date", "account: subscription_id, from: start_date")
    usage = usage.replace("amount: mrr_amount", f"amount: mrr_amount, until: {until}")
    with pytest.raises(AccountDataError) as caught:
        snapshot_table(parse(usage), date(2024, 7, 1))
    assert f'source "usage": {outside} rows are of a day on which no subscription' in str(
        caught.value
    )
