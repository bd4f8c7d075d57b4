"""Random raw histories of subscriptions, events and states, with a recipe over them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2024, 3, 1)  # a leap day lies just before it
FIRST = date(2023, 1, 1)
KINDS = ("login", "invite", "ticket")


@dataclass(frozen=True)
class Subscription:
    acct: str
    started: date
    ended: date | None
    amount: Decimal
    months: int
    loaded: date


@dataclass(frozen=True)
class Happening:
    who: str
    at: datetime
    kind: str
    value: Decimal | None
    loaded: date


@dataclass(frozen=True)
class State:
    acct: str
    since: date
    plan: str


@dataclass(frozen=True)
class RandomHistory:
    subs: tuple[Subscription, ...]
    events: tuple[Happening, ...]
    states: tuple[State, ...]

    def write(self, folder: Path, shuffle: Random | None = None) -> Path:
        """Write the three tables as Parquet."""
        folder.mkdir(parents=True, exist_ok=True)
        schemas: dict[str, dict[str, Any]] = {
            "subs": {
                "acct": pl.String,
                "started": pl.Date,
                "ended": pl.Date,
                "amount": pl.Decimal(12, 2),
                "months": pl.Int64,
                "loaded": pl.Date,
            },
            "events": {
                "who": pl.String,
                "at": pl.Datetime("us"),
                "kind": pl.String,
                "value": pl.Decimal(12, 2),
                "loaded": pl.Date,
            },
            "states": {"acct": pl.String, "since": pl.Date, "plan": pl.String},
        }
        for name, schema in schemas.items():
            rows = [vars(row) for row in getattr(self, name)]
            if shuffle is not None:
                shuffle.shuffle(rows)
            pl.DataFrame(rows, schema=schema).write_parquet(folder / f"{name}.parquet")
        return folder


def random_history(seed: int, accounts: int = 25) -> RandomHistory:
    """Draw a history: overlaps, gaps, plan changes in mid-month, leap days, rows loaded late."""
    rng = Random(seed)
    subs, events, states = [], [], []

    def day(first: date = FIRST, days: int = 730) -> date:
        # Often on the day of the snapshot itself, and on its neighbours.
        near = rng.choice([DAY, DAY - timedelta(1), DAY + timedelta(1), date(2024, 2, 29)])
        return near if rng.random() < 0.15 else first + timedelta(rng.randrange(days))

    def loaded(at: date) -> date:
        return at + timedelta(rng.choice([0, 0, 0, 1, 40]))

    for number in range(accounts):
        acct = f"{number:03}"
        for _ in range(rng.randrange(1, 5)):
            started = day()
            ended = started + timedelta(rng.choice([0, 1, 14, 28, 31, 90, 200, 366]))
            subs.append(
                Subscription(
                    acct,
                    started,
                    None if rng.random() < 0.3 else ended,
                    Decimal(rng.randrange(0, 50_000)) / 100,
                    rng.choice([1, 1, 3, 12]),
                    loaded(started),
                )
            )
        for _ in range(rng.randrange(0, 12)):
            at = datetime.combine(day(), datetime.min.time())
            at += timedelta(seconds=rng.choice([0, 0, 1, 86_399, 40_000]))
            value = None if rng.random() < 0.2 else Decimal(rng.randrange(-999, 9_999)) / 100
            events.append(Happening(acct, at, rng.choice(KINDS), value, loaded(at.date())))
        plans = ["free", "pro", "team"]
        states += [State(acct, day(), rng.choice(plans)) for _ in range(rng.randrange(0, 3))]
    # Everything was counted from the first day on.
    events.append(Happening("000", datetime(2023, 1, 1), "login", None, FIRST))
    states.append(State("000", FIRST, "free"))
    return RandomHistory(tuple(subs), tuple(events), tuple(states))


# ---- what must come out -------------------------------------------------------------------------


def monthly_amount(sub: Subscription) -> Decimal:
    return (
        Decimal(round(float(sub.amount) / sub.months, 6)).quantize(Decimal("0.000001"))
        if sub.months != 1
        else sub.amount
    )


def cents_a_month(sub: Subscription) -> int:
    return int((monthly_amount(sub) * 100).to_integral_value(rounding=ROUND_HALF_UP))


def runs(sub: Subscription, day: date) -> bool:
    """Whether it is paid for on the day before, which is when a day begins."""
    last = day - timedelta(1)
    return sub.started <= last and (sub.ended is None or last < sub.ended)


FEATURES = """
features:
  n_events: {count: events}
  n_month: {count: events, last: 1 month}
  value_90: {sum: events.value, last: 90 days}
  mean_value: {mean: events.value}
  least: {min: events.value}
  most: {max: events.value}
  ticket_share: {share: events, where: "kind = 'ticket'", last: 90 days}
  kinds: {distinct: events.kind}
  since_last: {days_since: events}
  tenure: {tenure: subs}
  plan: {latest: states.plan}
  more: {change: events, last: 30 days}
  value_change: {change: events.value, last: 90 days}
  slope: {trend: events.value}
  open_subs: {count: running}
  own_sql: {sql: "select who, count(*) from events where kind = 'login' group by who"}
  own_open: {sql: "select acct, count(*) from subs where ended is null group by acct"}
"""


def recipe_text(folder: Path, *, lead: str = "0 days", gap: str = "0 days") -> str:
    """Return a recipe that has every kind of source and of feature."""
    return f"""
name: random
id: acct
sources:
  subs:
    {{data: {folder}/subs.parquet, account: acct, from: started, until: ended, known_at: loaded}}
  running:
    {{data: {folder}/subs.parquet, account: acct, from: started, until: ended, known_at: loaded,
      where: ended is null}}
  events: {{data: {folder}/events.parquet, account: who, at: at, known_at: loaded}}
  states: {{data: {folder}/states.parquet, account: acct, valid_from: since}}
dates: [{DAY}]
window: 6 months
lead: {lead}
data_until: 2025-06-01
revenue:
  subscriptions: {{source: subs, amount: amount, months: months, gap: {gap}}}
rules: {{overlaps: add, events_outside: keep, zero_amounts: not paying}}
{FEATURES}
"""
