"""A made-up business as its Stripe tables would come from a connector, with what is true of it.

Money is in cents, an annual price is one of twelve months, trials don't pay, an upgrade is a new
subscription, some rows are of test mode or were never paid for. Who uses the product less leaves
more often: that is what a score has to find.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FIRST", "LAST", "Paid", "StripeExport", "make_export"]

FIRST, LAST = date(2022, 1, 1), date(2025, 6, 30)
#: Prices: id, cents, interval, how many of it, currency.
PRICES = (
    ("price_basic", 2_900, "month", 1, "usd"),
    ("price_team", 9_900, "month", 1, "usd"),
    ("price_quarter", 24_000, "month", 3, "usd"),
    ("price_year", 99_000, "year", 1, "usd"),
    ("price_week", 1_200, "week", 1, "usd"),
)
_MONTHS = {"month": Decimal(1), "year": Decimal(12), "week": Decimal(12) / 52}
_ITEMS = ["id", "created", "plan_id", "quantity", "subscription_id", "_fivetran_synced"]
_SUBSCRIPTIONS = [
    *("id", "customer_id", "status", "start_date", "ended_at", "canceled_at", "trial_start"),
    *("trial_end", "cancel_at_period_end", "current_period_end", "created", "livemode"),
    *("is_deleted", "_fivetran_synced"),
]


@dataclass(frozen=True)
class Paid:
    """An item of a subscription, from the first day that is paid for to its end."""

    customer: str
    begin: date
    end: date | None
    cents: int
    months: Decimal
    quantity: int
    off: Decimal

    @property
    def monthly(self) -> Decimal:
        """Whole units of money a month."""
        return Decimal(self.cents) / 100 * self.quantity * (1 - self.off) / self.months


class StripeExport:
    """Rows of each table, and what is paid."""

    def __init__(self) -> None:
        self.paid: list[Paid] = []
        self.tables: dict[str, list[dict[str, Any]]] = {
            name: []
            for name in (
                *("subscription", "subscription_item", "price", "invoice"),
                *("subscription_history", "subscription_discount", "coupon", "usage"),
            )
        }

    def write(self, folder: Path) -> Path:
        """Write the tables as CSV."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return folder

    def mrr(self, day: date) -> dict[str, Decimal]:
        """Return what each customer pays a month just before a day begins."""
        found: dict[str, Decimal] = {}
        for paid in self.paid:
            if paid.begin < day and (paid.end is None or paid.end >= day):
                found[paid.customer] = found.get(paid.customer, Decimal(0)) + paid.monthly
        return found


def _at(day: date | None) -> str:
    return "" if day is None else f"{datetime.combine(day, datetime.min.time()):%Y-%m-%d %H:%M:%S}"


def make_export(customers: int = 900, seed: int = 18) -> StripeExport:
    """Draw the business."""
    rng, made = Random(seed), StripeExport()
    synced = _at(LAST)
    made.tables["price"] = [
        {
            "id": name,
            "unit_amount": cents,
            "currency": currency,
            "billing_scheme": "per_unit",
            "recurring_interval": interval,
            "recurring_interval_count": count,
            "type": "recurring",
            "livemode": "true",
            "is_deleted": "false",
        }
        for name, cents, interval, count, currency in PRICES
    ]
    made.tables["coupon"] = [
        {"id": "tenth", "percent_off": 10, "amount_off": "", "duration": "forever"},
        {"id": "first", "percent_off": 50, "amount_off": "", "duration": "once"},
    ]
    for number in range(customers):
        _customer(made, rng, f"cus_{number:05}", synced)
    extra = made.tables["subscription"]
    # Rows that no money ever came of.
    for number, (status, live) in enumerate([("incomplete_expired", "true"), ("active", "false")]):
        began = date(2024, 3, 1)
        row = _subscription(f"sub_none{number}", "cus_00000", began, None, None, status, synced)
        extra.append({**row, "livemode": live})
        made.tables["subscription_item"].append(
            _item(f"si_none{number}", f"sub_none{number}", "price_team", 50, began, synced)
        )
    return made


def _customer(made: StripeExport, rng: Random, customer: str, synced: str) -> None:
    day = FIRST + timedelta(rng.randrange(900))
    health, ended = rng.gauss(2.2, 0.6), None
    begin = day
    # Week by week: usage follows health, and whoever uses little leaves.
    while day < LAST and ended is None:
        logins = max(0, round(rng.gauss(health * 4, 2)))
        use = {"customer_id": customer, "used_at": _at(day), "logins": logins}
        made.tables["usage"].append(use)
        day += timedelta(7)
        health += rng.gauss(-0.005, 0.12)
        if (day - begin).days > 60 and rng.random() < (0.06 if health < 1.2 else 0.002):
            ended = min(day, LAST)
    price = rng.choice(PRICES)
    second = rng.random() < 0.1
    trial = begin + timedelta(14) if rng.random() < 0.3 else None
    off = Decimal("0.1") if rng.random() < 0.1 else Decimal(0)
    upgrade = begin + timedelta(200) if rng.random() < 0.2 else None
    spans = [(begin, ended, 1)]
    if upgrade is not None and upgrade < (ended or LAST):
        # An upgrade is a new subscription, so that its quantity is of its own time.
        spans = [(begin, upgrade, 1), (upgrade, ended, 3)]
    for part, (start, end, quantity) in enumerate(spans):
        name, free = f"sub_{customer[4:]}_{part}", trial if part == 0 else None
        status = "active" if end is None else "canceled"
        row = _subscription(name, customer, start, free, end, status, synced)
        made.tables["subscription"].append(row)
        made.tables["subscription_history"] += [
            {
                "id": name,
                "customer_id": customer,
                "status": known,
                "_fivetran_start": _at(on),
                "cancel_at_period_end": "false",
                "current_period_end": "",
                "livemode": "true",
                "_fivetran_active": "true",
            }
            for on, known in ((start, "active"), (end, "canceled"))
            if on is not None
        ]
        items = [(price, quantity), *([(PRICES[0], 1)] if second else [])]
        for place, (bought, count) in enumerate(items):
            made.tables["subscription_item"].append(
                _item(f"si_{name}_{place}", name, bought[0], count, start, synced)
            )
            months = _MONTHS[bought[2]] * bought[3]
            paid_from = free or start
            if end is None or paid_from < end:
                made.paid.append(Paid(customer, paid_from, end, bought[1], months, count, off))
        if off:
            made.tables["subscription_discount"].append(
                {
                    "id": f"di_{name}",
                    "coupon_id": "tenth",
                    "customer_id": customer,
                    "start": _at(start),
                    "end": "",
                    "subscription_id": name,
                }
            )
        bill = free or start
        number = 0
        while bill < (end or LAST):
            made.tables["invoice"].append(
                {
                    "id": f"in_{name}_{number}",
                    "customer_id": customer,
                    "subscription_id": name,
                    "status": "paid",
                    "created": _at(bill),
                    "amount_due": price[1] * quantity,
                    "amount_paid": price[1] * quantity,
                    "currency": "usd",
                    "livemode": "true",
                    "_fivetran_synced": synced,
                }
            )
            number += 1
            bill += timedelta(365 if price[2] == "year" else 91 if price[3] == 3 else 30)


def _subscription(
    name: str,
    customer: str,
    start: date,
    trial: date | None,
    end: date | None,
    status: str,
    synced: str,
) -> dict[str, Any]:
    values = {
        "id": name,
        "customer_id": customer,
        "status": status,
        "start_date": _at(start),
        "ended_at": _at(end),
        "canceled_at": _at(end and end - timedelta(9)),
        "trial_start": _at(start if trial else None),
        "trial_end": _at(trial),
        "cancel_at_period_end": "false",
        "current_period_end": _at(end or LAST),
        "created": _at(start),
        "livemode": "true",
        "is_deleted": "false",
        "_fivetran_synced": synced,
    }
    return {key: values[key] for key in _SUBSCRIPTIONS}


def _item(
    name: str, subscription: str, price: str, quantity: int, day: date, synced: str
) -> dict[str, Any]:
    values = [name, _at(day), price, quantity, subscription, synced]
    return dict(zip(_ITEMS, values, strict=True))
