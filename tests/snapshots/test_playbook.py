"""The movements of the dbt community's MRR playbook over its own sample, named by date.

The playbook's rules, in plain Python: a customer's months go from the first active one to the one
after the last; the first is new, active after inactive is a reactivation, inactive after active is
churn, more than the month before an upgrade, less a downgrade. All periods of the sample begin and
end on first days of months.
"""

import csv
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from gtmar.snapshots.bridge import MOVEMENTS, bridge
from gtmar.snapshots.raw_history import history
from gtmar.snapshots.recipe import parse

SAMPLE = Path(__file__).parents[3] / "shared" / "history" / "subscription_periods.csv"

pytestmark = pytest.mark.skipif(not SAMPLE.is_file(), reason=f"no file {SAMPLE}")

RECIPE = f"""
name: playbook
id: customer_id
sources:
  subs: {{data: {SAMPLE}, account: customer_id, from: start_date, until: end_date}}
dates: [2018-12-01]
window: 1 month
data_until: 2020-04-01
revenue: {{subscriptions: {{source: subs, amount: monthly_amount}}}}
population: paying and former
features: {{tenure: {{tenure: subs}}}}
"""
#: Month, customer, movement and by how much.
Movement = tuple[date, str, str, int]


def following(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def amounts() -> dict[str, dict[date, int]]:
    """Return by customer and month what the playbook takes for MRR: where it isn't 0."""
    with SAMPLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 121
    found: dict[str, dict[date, int]] = {}
    for row in rows:
        start, end = (date.fromisoformat(row[name]) for name in ("start_date", "end_date"))
        assert (start.day, end.day) == (1, 1)
        own, month = found.setdefault(row["customer_id"], {}), start
        while month < end:
            own[month] = own.get(month, 0) + int(row["monthly_amount"])
            month = following(month)
    return found


def playbook() -> set[Movement]:
    """Return the movements by the playbook's rules."""
    found = set()
    for customer, mrr in amounts().items():
        first, month, before = min(mrr), min(mrr), 0
        while month <= following(max(mrr)):
            now = mrr.get(month, 0)
            active, was_active = now > 0, before > 0
            name = ""
            if month == first:
                name = "new"
            elif not active and was_active:
                name = "churn"
            elif active and not was_active:
                name = "reactivation"
            elif now > before:
                name = "expansion"
            elif now < before:
                name = "contraction"
            if name:
                found.add((month, customer, name, now - before))
            month, before = following(month), now
    return found


def test_the_bridge_names_every_movement_of_the_playbook() -> None:
    found = bridge(parse(RECIPE))
    assert found.sound
    named = {
        (row["month"], row["account"], name, row[name] // 100)
        for row in found.accounts.iter_rows(named=True)
        for name in MOVEMENTS
        if row[name]
    }
    assert named == playbook()
    # Of 121 periods 55 are a customer's first, 3 follow a gap, 6 go on at the same amount. All end.
    assert Counter(name for _, _, name, _ in named) == {
        "new": 55,
        "expansion": 30,
        "contraction": 27,
        "churn": 58,
        "reactivation": 3,
    }


def test_snapshots_of_every_month_say_what_the_bridge_does() -> None:
    mrr, months = amounts(), []
    month = min(min(own) for own in mrr.values())
    while month <= date(2020, 3, 1):
        months.append(month)
        month = following(month)
    seen: set[Movement] = set()
    was_there: set[str] = set()
    with history(parse(RECIPE)) as opened:
        for day in months:
            answer = opened.connection.execute(opened.statement(day)[0])
            names = [column[0] for column in answer.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            there = {row["customer_id"] for row in rows}
            before = date(day.year - (day.month == 1), (day.month - 2) % 12 + 1, 1)
            for row in rows:
                customer = row["customer_id"]
                start, end = mrr[customer].get(before, 0), mrr[customer].get(day, 0)
                if customer not in was_there:
                    seen.add((before, customer, "new", start))
                kept, gone = int(end > 0), int(end == 0)
                outcome = (start, end, kept, gone, None) if start else (*[None] * 4, kept)
                columns = ("mrr", "mrr_end", "retained_6mo", "churned", "won_back")
                assert tuple(row[name] for name in columns) == outcome, (day, customer)
                if row["churned"] or row["won_back"]:
                    name = "churn" if row["churned"] else "reactivation"
                    seen.add((day, customer, name, end - start))
                elif start and row["mrr_end"] != row["mrr"]:
                    name = "expansion" if row["mrr_end"] > row["mrr"] else "contraction"
                    seen.add((day, customer, name, int(row["mrr_end"] - row["mrr"])))
            # Who was a customer is one still, or a former one.
            assert was_there <= there
            was_there = there
    assert seen == playbook()


#: Worked by hand from the sample's rows.
BY_HAND = {
    # 50 until 2018-12, 25 until 2019-03, nothing for four months, then 50, 25, 50, 25, 40.
    "5": [
        ("2018-11-01", "new", 50),
        ("2018-12-01", "contraction", -25),
        ("2019-03-01", "churn", -25),
        ("2019-07-01", "reactivation", 50),
        ("2019-08-01", "contraction", -25),
        ("2019-09-01", "expansion", 25),
        ("2019-10-01", "contraction", -25),
        ("2019-12-01", "expansion", 15),
        ("2020-01-01", "churn", -40),
    ],
    # A month at 80, four months without, then seven periods one after the other.
    "10": [
        ("2018-04-01", "new", 80),
        ("2018-05-01", "churn", -80),
        ("2018-09-01", "reactivation", 50),
        ("2018-10-01", "contraction", -25),
        ("2019-04-01", "expansion", 25),
        ("2019-05-01", "contraction", -25),
        ("2019-06-01", "expansion", 25),
        ("2019-11-01", "contraction", -25),
        ("2019-12-01", "expansion", 10),
        ("2020-01-01", "churn", -35),
    ],
    # Two periods that touch, of one amount: nothing moves between them.
    "15": [("2019-02-01", "new", 30), ("2020-01-01", "churn", -30)],
    "2": [("2017-09-01", "new", 25), ("2017-11-01", "churn", -25)],
    # One month each, the last of the sample.
    "55": [("2020-01-01", "new", 50), ("2020-02-01", "churn", -50)],
}


@pytest.mark.parametrize("customer", BY_HAND)
def test_movements_worked_by_hand(customer: str) -> None:
    own = bridge(parse(RECIPE)).accounts.filter(account=customer).sort("month")
    assert [
        (row["month"].isoformat(), name, row[name] / 100)
        for row in own.iter_rows(named=True)
        for name in MOVEMENTS
        if row[name]
    ] == BY_HAND[customer]
