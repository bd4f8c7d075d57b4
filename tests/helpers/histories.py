"""Random raw histories, and what an account table of them must hold, worked out in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2024, 3, 1)  # a leap day lies just before it
FIRST = date(2023, 1, 1)
#: A month before each day at which the tests cut.
MONTH_BEFORE = {
    DAY: date(2024, 2, 1),
    date(2024, 2, 29): date(2024, 1, 29),
    date(2024, 1, 31): date(2023, 12, 31),
}
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


def with_another_future(past: RandomHistory, cut: date, seed: int) -> RandomHistory:
    """Change, drop and add rows that a cut can't see, and ends that lie on or after it."""
    rng, other = Random(seed), random_history(seed + 1)
    subs = []
    for sub in past.subs:
        if sub.started < cut and sub.loaded < cut:
            if sub.ended is None or sub.ended >= cut:
                ends = (None, cut, cut + timedelta(rng.randrange(400)))
                subs.append(replace(sub, ended=rng.choice(ends)))
            else:
                subs.append(sub)
    events = [e for e in past.events if e.at.date() < cut and e.loaded < cut]
    subs += [s for s in other.subs if s.started >= cut or s.loaded >= cut]
    events += [e for e in other.events if e.at.date() >= cut or e.loaded >= cut]
    states = [s for s in past.states if s.since < cut] + [s for s in other.states if s.since >= cut]
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


def mrr(subs: list[Subscription], acct: str, day: date) -> Decimal:
    return sum((monthly_amount(s) for s in subs if s.acct == acct and runs(s, day)), Decimal(0))


def outcomes(history: RandomHistory, day: date, end: date, gap_days: int) -> dict[str, Any]:
    """Return by account what the outcome columns must hold."""
    known = [s for s in history.subs if s.loaded < day and s.started < day]
    table = {}
    for acct in sorted({s.acct for s in history.subs}):
        start = mrr(known, acct, day)
        if start <= 0:
            continue
        own = [s for s in history.subs if s.acct == acct]
        after = mrr(own, acct, end)
        paying = [s for s in own if s.amount > 0]
        if after == 0 and gap_days:
            gone = [s.ended for s in paying if s.started < end and s.ended and s.ended <= end]
            back = [s.started for s in paying if s.started >= end]
            if gone and back and (min(back) - max(gone)).days <= gap_days:
                after = sum((monthly_amount(s) for s in own if s.started == min(back)), Decimal(0))
        table[acct] = {
            "mrr": float(round(start, 4)),
            "mrr_end": float(round(after, 4)),
            "retained_6mo": int(after > 0),
            "churned": int(after <= 0),
        }
    return table


def features(history: RandomHistory, cut: date, day: date, acct: str) -> dict[str, Any]:
    """Return what each feature of the tests' recipe must be for one account."""
    seen = [e for e in history.events if e.at.date() < cut and e.loaded < cut]
    all_times = [e.at.date() for e in seen]
    own = [e for e in seen if e.who == acct]
    subs = [s for s in history.subs if s.acct == acct and s.started < cut and s.loaded < cut]
    states = [s for s in history.states if s.acct == acct and s.since < cut]

    def last(days: int, before: int = 0) -> list[Happening]:
        first, end = cut - timedelta(days + before), cut - timedelta(before)
        return [e for e in own if first <= e.at.date() < end]

    def told(first: date, recent: date) -> bool:
        return bool(all_times) and min(all_times) <= first and max(all_times) >= recent

    def total(rows: list[Happening]) -> Decimal:
        return sum((e.value for e in rows if e.value is not None), Decimal(0))

    month = MONTH_BEFORE[cut]
    values = [e.value for e in own if e.value is not None]
    in_90 = told(cut - timedelta(90), cut - timedelta(90))
    recent = [e for e in own if month <= e.at.date() < cut]
    in_month = told(month, month)
    tickets = [e for e in last(90) if e.kind == "ticket"]
    points = [((e.at.date() - cut).days, float(e.value)) for e in own if e.value is not None]
    n = len(points)
    spread = n * sum(x * x for x, _ in points) - sum(x for x, _ in points) ** 2
    slope = None
    if spread:
        slope = (
            n * sum(x * y for x, y in points)
            - sum(x for x, _ in points) * sum(y for _, y in points)
        ) / spread
    newest = max((s.since for s in states), default=None)
    return {
        "n_events": len(own) if all_times else None,
        "n_month": len(recent) if in_month else None,
        "value_90": float(total(last(90))) if in_90 else None,
        "mean_value": float(total(own)) / len(values) if values else None,
        "least": min(values, default=None),
        "most": max(values, default=None),
        "ticket_share": (len(tickets) / len(last(90)) if last(90) else None) if in_90 else None,
        "kinds": len({e.kind for e in own}) if all_times else None,
        "since_last": (day - max(e.at.date() for e in own)).days if own else None,
        "tenure": (day - min(s.started for s in subs)).days if subs else None,
        "plan": max((s.plan for s in states if s.since == newest), default=None),
        "more": (
            float(len(last(30)) - len(last(30, 30)))
            if told(cut - timedelta(60), cut - timedelta(30))
            else None
        ),
        "value_change": (
            float(total(last(90)) - total(last(90, 90)))
            if told(cut - timedelta(180), cut - timedelta(90))
            else None
        ),
        "slope": slope,
        "open_subs": (
            len([s for s in subs if s.ended is None or s.ended >= cut])
            if any(s.started < cut and s.loaded < cut for s in history.subs)
            else None
        ),
        "own_sql": len([e for e in own if e.kind == "login"]) or None,
        "own_open": len([s for s in subs if s.ended is None or s.ended >= cut]) or None,
    }


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
