"""An account table and its bridge in plain Python: dictionaries, dates and fractions.

Written from docs/snapshots.md alone. A recipe is what its YAML says, as a dictionary; the tables
are lists of rows. No SQL, no data frame, and nothing of the package.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = dict[str, Any]
    Tables = dict[str, list[Row]]
    Recipe = dict[str, Any]


# ---- time ----------------------------------------------------------------------------------------


def moment(value: date | None) -> datetime | None:
    """Return a moment in UTC, without a zone; a day begins at midnight."""
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return None if value is None else datetime(value.year, value.month, value.day)


def later(value: Any, span: str, times: int = 1) -> Any:
    """Move a day or a moment by `90 days`, `6 months` and the like."""
    number, unit = span.split()
    count = int(number) * times
    unit = unit.rstrip("s")
    if unit in ("day", "week"):
        return value + timedelta(count * (7 if unit == "week" else 1))
    month = value.month - 1 + count * (12 if unit == "year" else 1)
    year, month = value.year + month // 12, month % 12 + 1
    return value.replace(
        year=year, month=month, day=min(value.day, calendar.monthrange(year, month)[1])
    )


# ---- what a day can see --------------------------------------------------------------------------


#: Conditions of recipes, and what they ask of a row; what is unknown doesn't fulfil one.
CONDITIONS: dict[str, Callable[[Row], bool]] = {
    "kind = 'login'": lambda row: row["kind"] == "login",
    "kind in ('invite', 'ticket')": lambda row: row["kind"] in ("invite", "ticket"),
    "value > 10 or value is null": lambda row: row["value"] is None or row["value"] > 10,
    "not (value > 10)": lambda row: row["value"] is not None and row["value"] <= 10,
    "ended is null": lambda row: row["ended"] is None,
    "amount >= 100 -- large ones": lambda row: row["amount"] >= 100,
    "plan <> 'free'": lambda row: row["plan"] not in (None, "free"),
}


@dataclass
class Sight:
    """The tables as one day could see them; as they are, without a day."""

    recipe: Recipe
    tables: Tables
    cut: date | None

    def time_of(self, source: str) -> str | None:
        said = self.recipe["sources"][source]
        return next((str(said[key]) for key in ("at", "from", "valid_from") if key in said), None)

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a source, with `_who` and `_at`."""
        said = self.recipe["sources"][name]
        edge, found = moment(self.cut), []
        time, until = self.time_of(name), said.get("until")
        leave_out = self.recipe["rules"].get("ends_before_start") == "leave out"
        for raw in self.tables[Path(said["data"]).stem]:
            at = None if time is None else moment(raw[time])
            if raw[said["account"]] is None or (time is not None and at is None):
                continue
            row = {**raw, "_who": str(raw[said["account"]]), "_at": at}
            if until is not None:
                end = moment(raw[until])
                if leave_out and end is not None and at is not None and end < at:
                    continue
                if edge is not None and end is not None and end >= edge:
                    row[until] = None
            if edge is not None:
                if at is not None and at >= edge:
                    continue
                if "known_at" in said:
                    known = moment(raw[said["known_at"]])
                    if known is None or known >= edge:
                        continue
            if "where" not in said or CONDITIONS[said["where"]](row):
                found.append(row)
        return found


# ---- money ---------------------------------------------------------------------------------------


class Money:
    """The revenue of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        [(self.shape, self.said)] = recipe["revenue"].items()
        self.source = self.said["source"]
        self.until = recipe["sources"][self.source].get("until")

    def amount(self, row: Row) -> Fraction:
        """Return what a row counts: of a subscription, what it is a month."""
        said = self.said
        value = Fraction(row[said["amount"]])
        if "currency" in said:
            value *= Fraction(str(said["rates"][row[said["currency"]]]))
        if self.shape == "subscriptions":
            if "quantity" in said:
                value *= Fraction(row[said["quantity"]])
            if "discount" in said:
                value *= 1 - Fraction(row[said["discount"]] or 0)
            months = said.get("months", 1)
            value /= row[months] if isinstance(months, str) else months
        elif said.get("negative") == "leave out":
            value = max(value, Fraction(0))
        return value

    def gone(self, row: Row) -> datetime | None:
        """Return the first moment that a subscription isn't paid for."""
        end = moment(row[self.until])
        if end is None or self.said.get("until", "first day after") == "first day after":
            return end
        return datetime(end.year, end.month, end.day) + timedelta(1)

    def counts(self, row: Row, day: date) -> bool:
        """Whether a row counts for the MRR of just before a day begins."""
        begins, at = datetime(day.year, day.month, day.day), row["_at"]
        if self.shape == "subscriptions":
            gone = self.gone(row)
            return bool(at < begins and (gone is None or gone >= begins))
        if self.shape == "transactions":
            first = later(begins, f"{self.said.get('months', 1)} months", -1)
            return bool(first <= at < begins)
        before = later(begins.replace(day=1), "1 month", -1)
        return bool((at.year, at.month) == (before.year, before.month))

    def mrr(self, rows: list[Row], day: date, who: str) -> Fraction:
        total = sum(
            (self.amount(r) for r in rows if r["_who"] == who and self.counts(r, day)), Fraction(0)
        )
        return total / self.said.get("months", 1) if self.shape == "transactions" else total

    def stays(self, rows: list[Row], day: date, end: date, who: str) -> tuple[bool, Fraction]:
        """Say whether an account is there at a window's end, and its MRR then."""
        own = [row for row in rows if row["_who"] == who]
        last, closes = self.mrr(rows, end, who), datetime(end.year, end.month, end.day)
        if self.shape == "transactions":
            paid = [r for r in own if moment(day) <= r["_at"] < closes]
            if self.said.get("retained_by", "any row") == "amount":
                return sum(map(self.amount, paid)) > 0, max(last, Fraction(0))
            return any(r[self.said["amount"]] >= 0 for r in paid), max(last, Fraction(0))
        if self.shape == "monthly" or last > 0:
            return last > 0, max(last, Fraction(0))
        first = self.back(own, end)
        if first is None:
            return False, Fraction(0)
        returned = [r for r in self.paying(own) if r["_at"] == first]
        return True, sum(map(self.amount, returned), Fraction(0))

    def paying(self, own: list[Row]) -> list[Row]:
        """Return the rows of an account that were paid for, for a time."""
        return [
            row
            for row in own
            if self.amount(row) > 0 and ((end := self.gone(row)) is None or end > row["_at"])
        ]

    def back(self, own: list[Row], day: date) -> datetime | None:
        """Return when an account comes back that is gone on a day, if that is within the gap."""
        closes, gap = datetime(day.year, day.month, day.day), self.said.get("gap", "0 days")
        if gap == "0 days":
            return None
        paying = self.paying(own)
        ends = [g for r in paying if r["_at"] < closes and (g := self.gone(r)) is not None]
        returns = [r["_at"] for r in paying if r["_at"] >= closes]
        if not ends or not returns or min(returns) > later(max(ends), gap):
            return None
        first: datetime = min(returns)
        return first


# ---- features ------------------------------------------------------------------------------------


def _count(rows: list[Row]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[row["_who"]] = found.get(row["_who"], 0) + 1
    return found


def _longest_pause(sight: Sight) -> dict[str, int]:
    days: dict[str, list[date]] = {}
    for row in sight.rows("events"):
        days.setdefault(row["_who"], []).append(row["_at"].date())
    pauses = {}
    for who, own in days.items():
        own.sort()
        steps = [(b - a).days for a, b in pairwise(own)]
        if steps:
            pauses[who] = max(steps)
    return pauses


def _busiest_day(sight: Sight) -> dict[str, int]:
    days: dict[tuple[str, date], int] = {}
    for row in sight.rows("events"):
        key = (row["_who"], row["_at"].date())
        days[key] = days.get(key, 0) + 1
    return {who: max(n for (w, _), n in days.items() if w == who) for who, _ in days}


def _of_subscribers(sight: Sight) -> dict[str, int]:
    counted = _count(sight.rows("events"))
    return {row["_who"]: counted.get(row["_who"], 0) for row in sight.rows("subs")}


#: SELECTs of one's own, and what they must find.
SELECTS: dict[str, Callable[[Sight], dict[str, Any]]] = {
    "select who, count(*) from events where kind = 'login' group by who": lambda s: _count(
        [row for row in s.rows("events") if row["kind"] == "login"]
    ),
    "select who, count(*) from subs where ended is null group by who": lambda s: _count(
        [row for row in s.rows("subs") if row["ended"] is None]
    ),
    """with days as (select who, cast("at" as date) as d, count(*) as n from Events group by all)
    select who, max(n) from days group by 1""": _busiest_day,
    """select who, max(pause) from (select who, date_diff('day', lag(cast("at" as date)) over
    (partition by who order by "at"), cast("at" as date)) as pause from "events") group by who
    having max(pause) is not null""": _longest_pause,
    """select s.who, (select count(*) from events as e where e.who = s.who)
    from (select distinct who from subs) as s""": _of_subscribers,
    """select who, max(n) from subs, lateral (select count(*) as n from events
    where events.who = subs.who) group by who -- the same""": _of_subscribers,
}


def feature(sight: Sight, day: date, rule: dict[str, Any]) -> Callable[[str], Any]:
    """Return what a feature is of an account."""
    [kind] = rule.keys() - {"last", "where"}
    if kind == "sql":
        return SELECTS[rule["sql"]](sight).get
    source, _, column = rule[kind].partition(".")
    every, last, cut = sight.rows(source), rule.get("last"), sight.cut
    assert cut is not None
    edge = datetime(cut.year, cut.month, cut.day)
    asked = CONDITIONS[rule["where"]] if "where" in rule else lambda _: True
    timed = sight.time_of(source) is not None

    def tells() -> bool:
        """Whether anybody counted at the time that the feature is of."""
        if not timed:
            return True
        times = [row["_at"] for row in every]
        if last is None or not times:
            return bool(times)
        first = later(edge, last, -2 if kind == "change" else -1)
        return bool(min(times) <= first and max(times) >= later(edge, last, -1))

    def between(rows: list[Row], times: int) -> list[Row]:
        if last is None:
            return rows
        first, end = later(edge, last, -times), later(edge, last, 1 - times)
        return [row for row in rows if first <= row["_at"] < end]

    def total(rows: list[Row]) -> Fraction:
        return sum((Fraction(r[column]) for r in rows if r[column] is not None), Fraction(0))

    told = tells()

    def of(who: str) -> Any:
        if not told:
            return None
        own = [row for row in every if row["_who"] == who]
        seen = between(own, 1)
        rows = [row for row in seen if asked(row)]
        values = [row[column] for row in rows if row[column] is not None] if column else []
        if kind == "count":
            return len(rows)
        if kind == "share":
            return Fraction(len(rows), len(seen)) if seen else None
        if kind == "sum":
            return total(rows)
        if kind == "mean":
            return total(rows) / len(values) if values else None
        if kind == "min":
            return min(values, default=None)
        if kind == "max":
            return max(values, default=None)
        if kind == "distinct":
            return len(set(values))
        if kind == "days_since":
            return (day - max(r["_at"] for r in rows).date()).days if rows else None
        if kind == "tenure":
            return (day - min(r["_at"] for r in rows).date()).days if rows else None
        if kind == "latest":
            if not timed:
                return max(values, default=None)
            newest = [r[column] for r in rows if r["_at"] == max(x["_at"] for x in rows)]
            return max((v for v in newest if v is not None), default=None)
        if kind == "change":
            before = [row for row in between(own, 2) if asked(row)]
            if not column:
                return len(rows) - len(before)
            return total(rows) - total(before)
        assert kind == "trend"
        points = [
            (Fraction((r["_at"].date() - cut).days), Fraction(r[column]))
            for r in rows
            if r[column] is not None
        ]
        if len({x for x, _ in points}) < 2:
            return None
        middle = sum(x for x, _ in points) / len(points)
        return sum((x - middle) * y for x, y in points) / sum((x - middle) ** 2 for x, _ in points)

    return of


# ---- the table -----------------------------------------------------------------------------------


def account_table(recipe: Recipe, tables: Tables, day: date) -> dict[str, Row]:
    """Return the account table of a date: by account its columns but the dates."""
    cut = later(day, recipe.get("lead", "0 days"), -1)
    end = later(day, recipe["window"])
    money = Money(recipe)
    known = Sight(recipe, tables, day).rows(money.source)
    rows = Sight(recipe, tables, None).rows(money.source)
    until = date.fromisoformat(recipe["data_until"])
    over = later(end, money.said.get("gap", "0 days")) <= until
    population = recipe.get("population", "paying")
    whos = {row["_who"] for row in known}
    start = {who: money.mrr(known, day, who) for who in whos}
    if population != "seen":
        former = {row["_who"] for row in known if money.amount(row) > 0}
        whos = {who for who in whos if start[who] > 0}
        whos |= former if population == "paying and former" else set()
    sight = Sight(recipe, tables, cut)
    made = {name: feature(sight, day, rule) for name, rule in recipe["features"].items()}
    table = {}
    for who in sorted(whos):
        row: Row = {name: value(who) for name, value in made.items()}
        begins = max(start[who], Fraction(0))
        row["mrr"] = begins
        table[who] = row
        if not over:
            continue
        kept, last = money.stays(rows, day, end, who)
        there = population != "paying and former" or begins > 0
        row["mrr"] = begins if there else None
        row["mrr_end"] = last if there else None
        row["retained_6mo"] = int(kept) if there else None
        row["churned"] = int(not kept) if there else None
        if population == "paying and former":
            row["won_back"] = None if there else int(kept)
        if "ltv" in recipe:
            own = [money.amount(r) for r in rows if r["_who"] == who]
            row["actual_ltv"] = sum(own, Fraction(0)) if own else None
        if "activation" in recipe:
            row |= _activated(recipe, tables, rows, who, end)
    return table


def _activated(recipe: Recipe, tables: Tables, rows: list[Row], who: str, end: date) -> Row:
    said = recipe["activation"]
    began = min((row["_at"] for row in rows if row["_who"] == who), default=None)
    if began is None or later(began, said["within"]) > datetime(end.year, end.month, end.day):
        return {"activated": None, "days_to_activate": None}
    times = [
        row["_at"]
        for row in Sight(recipe, tables, None).rows(said["source"])
        if row["_who"] == who
        and began <= row["_at"] < later(began, said["within"])
        and ("where" not in said or CONDITIONS[said["where"]](row))
    ]
    if not times:
        return {"activated": 0, "days_to_activate": None}
    return {"activated": 1, "days_to_activate": (min(times).date() - began.date()).days}


def movements(recipe: Recipe, tables: Tables) -> dict[tuple[date, str], dict[str, int]]:
    """Return by month and account what moved, in cents: `start`, `end` and the one movement.

    Who has no MRR at either end of a month isn't there.
    """
    money = Money(recipe)
    rows = Sight(recipe, tables, None).rows(money.source)
    until = date.fromisoformat(recipe["data_until"])
    parts = money.said.get("months", 1) if money.shape == "transactions" else 1

    def cents(row: Row) -> int:
        value = money.amount(row) * 100 / parts
        whole = int(abs(value) + Fraction(1, 2))
        return whole if value >= 0 else -whole

    found: dict[tuple[date, str], dict[str, int]] = {}
    for who in {row["_who"] for row in rows}:
        own = [row for row in rows if row["_who"] == who]
        month = min(row["_at"] for row in rows).date().replace(day=1)
        start, paid_before = 0, False
        while (following := later(month, "1 month")) <= until:
            counted = [row for row in own if money.counts(row, following)]
            end = sum(map(cents, counted))
            if counted or start or any(money.counts(row, month) for row in own):
                moved = {"start": start, "end": end}
                if start <= 0 < end:
                    again = "resumption" if money.back(own, month) else "reactivation"
                    moved[again if paid_before else "new"] = end - start
                elif end <= 0 < start:
                    moved["pause" if money.back(own, following) else "churn"] = end - start
                elif end != start:
                    moved["expansion" if end > start else "contraction"] = end - start
                found[month, who] = moved
            paid_before = paid_before or end > 0
            start, month = end, following
    return found
