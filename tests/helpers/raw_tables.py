"""Random raw histories, random recipes over them, and other futures of the same past."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl
from plain_snapshots import SELECTS, later, moment

if TYPE_CHECKING:
    from pathlib import Path

    from plain_snapshots import Recipe, Row, Tables

FIRST = date(2023, 1, 1)
#: Snapshot dates, and days that rows often lie on: leap days, ends of months, days on which clocks
#: By how many times more histories are drawn than each test asks for: `GTMAR_HISTORIES=20`.
MORE = int(os.environ.get("GTMAR_HISTORIES", "1"))
#: change in New York or Berlin.
DAYS = (
    *(date(2024, 2, 29), date(2024, 3, 1), date(2024, 3, 10), date(2024, 3, 11)),
    *(date(2024, 3, 31), date(2024, 1, 31), date(2024, 5, 17), date(2024, 10, 27)),
    *(date(2024, 11, 3), date(2024, 11, 4), date(2023, 12, 31)),
)
ZONES = (None, "UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata")
WINDOWS = ("1 month", "3 months", "6 months", "45 days", "200 days")
_SECONDS = (0, 0, 1, 7_200, 8_999, 17_999, 18_000, 40_000, 71_999, 86_399)
_MONEY = pl.Decimal(14, 2)


@dataclass(frozen=True)
class RandomHistory:
    """Tables by name, and what type the columns of each have."""

    tables: Tables
    schemas: dict[str, dict[str, Any]]

    def frame(self, name: str, shuffle: Random | None = None) -> pl.DataFrame:
        schema = self.schemas[name]
        rows = [{column: row[column] for column in schema} for row in self.tables[name]]
        if shuffle is not None:
            shuffle.shuffle(rows)
        frame = pl.DataFrame(rows, schema={c: _plain(kind) for c, kind in schema.items()})
        zoned = [
            pl.col(c).dt.convert_time_zone(kind.time_zone)
            for c, kind in schema.items()
            if isinstance(kind, pl.Datetime) and kind.time_zone
        ]
        return frame.with_columns(zoned)

    def write(self, folder: Path, shuffle: Random | None = None) -> Path:
        """Write the tables as Parquet."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.tables:
            self.frame(name, shuffle).write_parquet(folder / f"{name}.parquet")
        return folder


def _plain(kind: Any) -> Any:
    return pl.Datetime("us", "UTC") if isinstance(kind, pl.Datetime) and kind.time_zone else kind


class _Draw:
    """Draws rows; with a first day, of no time before it."""

    def __init__(
        self, rng: Random, schemas: dict[str, dict[str, Any]], first: date = FIRST
    ) -> None:
        self.rng, self.schemas, self.first = rng, schemas, first

    def day(self) -> date:
        near = self.near()
        if self.rng.random() < 0.3 and near >= self.first:
            return near
        return self.first + timedelta(
            self.rng.randrange(max((date(2025, 1, 20) - self.first).days, 9))
        )

    def near(self) -> date:
        """Return a day on or beside a snapshot's, or where its window ends."""
        day = self.rng.choice(DAYS) + timedelta(self.rng.choice([-1, 0, 0, 1]))
        moved: date = later(day, self.rng.choice(["0 days", "0 days", *WINDOWS]))
        return moved

    def time(self, table: str, column: str, day: date) -> Any:
        """Return some moment of a day, in the column's zone, or the day itself."""
        kind = self.schemas[table][column]
        if kind == pl.Date:
            return day
        seconds = timedelta(seconds=self.rng.choice(_SECONDS))
        whole = datetime(day.year, day.month, day.day) + seconds
        # Of UTC, so that a table's first day is that of its zone too.
        return whole if kind.time_zone is None else whole.replace(tzinfo=ZoneInfo("UTC"))

    def back(self, row: Row) -> Row:
        """Return a period of an account that begins about when a gap after another is over."""
        days = self.rng.choice([0, 0, 1, 29, 30, 31, 60, 61, 62, 90, 91])
        began = (moment(row["ended"]) or datetime(2024, 1, 1)) + timedelta(days)
        made = self.row("subs", row["who"])
        ended = moment(made["ended"])
        if ended is not None and ended < began:
            made["ended"] = None
        kind = self.schemas["subs"]["began"]
        if kind == pl.Date:
            return {**made, "began": began.date()}
        zone = None if kind.time_zone is None else ZoneInfo("UTC")
        return {**made, "began": began.replace(tzinfo=zone)}

    def cents(self, least: int, most: int) -> Decimal:
        return Decimal(self.rng.randrange(least, most)) / 100

    def row(self, table: str, who: str) -> Row:
        rng, day = self.rng, self.day()
        late = day + timedelta(rng.choice([0, 0, 0, 1, 40]))
        loaded = None if rng.random() < 0.02 else late
        if table == "subs":
            lengths = [0, 1, 14, 28, 31, 31, 90, 200, 366]
            lengths += [-3] if rng.random() < 0.1 else []
            end = day + timedelta(rng.choice(lengths))
            if rng.random() < 0.4 and (near := self.near()) >= day:
                end = near
            began, ended = self.time(table, "began", day), self.time(table, "ended", end)
            return {
                "who": who,
                "began": began,
                "ended": None if rng.random() < 0.25 else ended,
                "amount": self.cents(0, 50_000),
                "months": rng.choice([1, 1, 3, 12]),
                "units": rng.choice([1, 1, 2, 17]),
                "off": rng.choice([None, Decimal(0), Decimal("0.1"), Decimal("0.25"), Decimal(1)]),
                "cur": rng.choice(["EUR", "USD", "JPY"]),
                "loaded": loaded,
            }
        if table == "events":
            value = None if rng.random() < 0.2 else self.cents(-999, 9_999)
            kind = rng.choice(["login", "invite", "ticket", "login", None])
            at = self.time(table, "at", day)
            return {"who": who, "at": at, "kind": kind, "value": value, "loaded": loaded}
        if table == "payments":
            amount = self.cents(-3_000 if rng.random() < 0.4 else 0, 20_000)
            # An order of 0 is an order.
            amount = Decimal(0) if rng.random() < 0.15 else amount
            cur, at = rng.choice(["EUR", "USD", "JPY"]), self.time(table, "at", day)
            return {"who": who, "at": at, "amount": amount, "cur": cur, "loaded": loaded}
        if table == "months":
            amount = self.cents(-500 if rng.random() < 0.2 else 0, 20_000)
            return {
                "who": who,
                "at": self.time(table, "at", day),
                "amount": amount,
                "loaded": loaded,
            }
        plan = rng.choice(["free", "pro", "team", None])
        size, since = rng.choice([None, 1, 2, 3, 50]), self.time(table, "since", day)
        return {"who": int(who), "since": since, "plan": plan, "size": size, "loaded": loaded}


#: How many rows of a table an account has, at most, and its column of time.
ROWS = {"subs": 4, "events": 12, "payments": 9, "months": 9, "states": 3}
TIME = {"subs": "began", "events": "at", "payments": "at", "months": "at", "states": "since"}


def random_history(seed: int, accounts: int = 12) -> RandomHistory:
    """Draw a history: overlaps, gaps, credits, plan changes, moves in mid-month, late rows."""
    rng = Random(seed)

    def times() -> Any:
        return rng.choice([pl.Date, *(pl.Datetime(rng.choice(["us", "ms"]), z) for z in ZONES)])

    schemas: dict[str, dict[str, Any]] = {
        "subs": {
            "who": pl.String,
            "began": times(),
            "ended": times(),
            "amount": _MONEY,
            "months": pl.Int64,
            "units": pl.Int32,
            "off": pl.Decimal(5, 4),
            "cur": pl.String,
        },
        "events": {"who": pl.String, "at": times(), "kind": pl.String, "value": _MONEY},
        "payments": {"who": pl.String, "at": times(), "amount": _MONEY, "cur": pl.String},
        "months": {"who": pl.String, "at": times(), "amount": _MONEY},
        # Ids are written as numbers here, and as text elsewhere.
        "states": {"who": pl.Int64, "since": times(), "plan": pl.String, "size": pl.Int64},
    }
    for schema in schemas.values():
        schema["loaded"] = pl.Date
    draw, tables = _Draw(rng, schemas), {}
    whos = [str(100 + number) for number in range(accounts)]
    for name, most in ROWS.items():
        tables[name] = [
            draw.row(name, who) for who in whos for _ in range(rng.randrange(0, most + 1))
        ]
        if name == "subs":
            tables[name] += [draw.back(row) for row in tables[name] if rng.random() < 0.5]
        else:
            # Some rows of an account are of one moment.
            tables[name] += [
                draw.row(name, str(row["who"])) | {TIME[name]: row[TIME[name]]}
                for row in tables[name]
                if rng.random() < 0.2
            ]
        # Rows without an account or a date say nothing.
        tables[name] += [draw.row(name, whos[0]) | {"who": None}]
        tables[name] += [draw.row(name, whos[0]) | {TIME[name]: None}]
        # Of most tables rows were counted from the first day on.
        if rng.random() < 0.8:
            first = draw.time(name, TIME[name], FIRST)
            ended = {"ended": draw.time(name, "ended", FIRST)} if name == "subs" else {}
            tables[name].append(
                draw.row(name, whos[0]) | {TIME[name]: first, "loaded": FIRST} | ended
            )
        rng.shuffle(tables[name])
    return RandomHistory(tables, schemas)


# ---- recipes -------------------------------------------------------------------------------------

_WHERE = {
    "events": ("kind = 'login'", "kind in ('invite', 'ticket')", "value > 10 or value is null"),
    "logins": ("not (value > 10)",),
    "subs": ("ended is null", "amount >= 100 -- large ones"),
    "running": ("amount >= 100 -- large ones",),
    "payments": ("amount >= 100 -- large ones",),
    "months": ("amount >= 100 -- large ones",),
    "states": ("plan <> 'free'",),
}
_NUMBER = {
    "events": "value",
    "logins": "value",
    "subs": "amount",
    "running": "amount",
    "payments": "amount",
    "months": "amount",
    "states": "size",
}
_WORD = {"events": "kind", "logins": "kind", "subs": "cur", "running": "ended"}
_WORD |= {"payments": "cur", "months": "amount", "states": "plan"}
_SPANS = ("7 days", "30 days", "90 days", "1 month", "3 months", "1 year", "2 weeks")
EVENTS = ("events", "logins", "payments", "months")


def random_feature(rng: Random) -> dict[str, Any]:
    """Draw a feature of any kind, over any source."""
    kind = rng.choice(
        [
            *("count", "sum", "mean", "min", "max", "share", "distinct", "days_since", "latest"),
            *("change", "trend", "tenure", "sql", "count", "change"),
        ]
    )
    if kind == "sql":
        return {"sql": rng.choice(list(SELECTS))}
    source = rng.choice(EVENTS if kind in ("change", "share") else list(_NUMBER))
    column = _NUMBER[source]
    if kind in ("distinct", "latest"):
        column = rng.choice([column, _WORD[source]])
    of_column = kind not in ("count", "share", "days_since", "tenure")
    if kind == "change" and rng.random() < 0.5:
        of_column = False
    rule: dict[str, Any] = {kind: f"{source}.{column}" if of_column else source}
    if kind == "change" or (source in EVENTS and rng.random() < 0.6):
        rule["last"] = rng.choice(_SPANS)
    if kind == "share" or rng.random() < 0.4:
        rule["where"] = rng.choice(_WHERE[source])
    return rule


def random_recipe(seed: int, *, features: int = 14, shape: str | None = None) -> Recipe:
    """Draw a recipe: every shape of revenue, convention and rule, and features of every kind."""
    rng = Random(seed)
    late = {table for table in ROWS if rng.random() < 0.6}

    def source(table: str, times: dict[str, str], **more: str) -> dict[str, str]:
        known = {"known_at": "loaded"} if table in late else {}
        return {"data": f"{table}.parquet", "account": "who", **times, **known, **more}

    period = {"from": "began", "until": "ended"}
    sources = {
        "subs": source("subs", period),
        "running": source("subs", period, where="ended is null"),
        "events": source("events", {"at": "at"}),
        "logins": source("events", {"at": "at"}, where="kind = 'login'"),
        "payments": source("payments", {"at": "at"}),
        "months": source("months", {"at": "at"}),
        "states": source("states", {"valid_from": "since"}),
    }
    shape = shape or rng.choice(["subscriptions", "transactions", "monthly"])
    window = rng.choice(WINDOWS)
    of = {"subscriptions": "subs", "transactions": "payments", "monthly": "months"}[shape]
    money: dict[str, Any] = {"source": of, "amount": "amount"}
    if shape != "monthly" and rng.random() < 0.4:
        money |= {"currency": "cur", "rates": {"EUR": 1, "USD": 0.92, "JPY": 0.0061}}
    if shape == "subscriptions":
        drawn = {
            "months": rng.choice([1, 12, "months", "months"]),
            "quantity": rng.choice([None, "units"]),
            "discount": rng.choice([None, "off"]),
            "until": rng.choice(["first day after", "last day"]),
            "gap": rng.choice(["0 days", "1 day", "30 days", "2 months", "90 days"]),
        }
        money |= {key: value for key, value in drawn.items() if value is not None}
    else:
        money["negative"] = rng.choice(["subtract", "leave out"])
    if shape == "transactions":
        money["months"] = rng.choice([1, 3, 6]) if window in ("6 months", "200 days") else 1
        money["retained_by"] = rng.choice(["any row", "amount"])
    recipe: Recipe = {
        "name": "random",
        "id": "who",
        "sources": sources,
        "dates": ["2024-03-01"],
        "window": window,
        "lead": rng.choice(["0 days", "0 days", "1 day", "30 days", "1 month"]),
        "data_until": rng.choice(["2025-03-01", "2025-03-01", "2024-08-15"]),
        "revenue": {shape: money},
        "population": rng.choice(["paying", "paying and former", "seen"]),
        "rules": {
            "overlaps": "add",
            "events_outside": "keep",
            "ends_before_start": "leave out",
            "zero_amounts": "not paying",
        },
        "features": {f"f{number}": random_feature(rng) for number in range(features)},
    }
    if shape != "subscriptions" and rng.random() < 0.5:
        recipe["ltv"] = "all revenue"
    if rng.random() < 0.6:
        within = rng.choice(["7 days", "30 days", "1 month"])
        recipe["activation"] = {"source": rng.choice(["events", "logins"]), "within": within}
        if rng.random() < 0.5:
            recipe["activation"]["where"] = "not (value > 10)"
    return recipe


# ---- another future ------------------------------------------------------------------------------


def _unseen(recipe: Recipe, table: str, row: Row, cut: date) -> bool:
    """Whether no source of a recipe shows a row to a day."""
    at, known = moment(row[TIME[table]]), row["loaded"]
    late = any(
        "known_at" in said
        for said in recipe["sources"].values()
        if said["data"] == f"{table}.parquet"
    )
    unknown = late and (known is None or known >= cut)
    return (
        row["who"] is None or at is None or at >= datetime(cut.year, cut.month, cut.day) or unknown
    )


def another_future(history: RandomHistory, recipe: Recipe, cut: date, rng: Random) -> RandomHistory:
    """Change, drop and add rows that a day can't see, and ends that lie on or after it."""
    tables = {}
    for name, rows in history.tables.items():
        early = _Draw(rng, history.schemas)
        late = _Draw(rng, history.schemas, cut)
        kept = [row for row in rows if not _unseen(recipe, name, row, cut) or rng.random() < 0.3]
        for _ in range(rng.randrange(1, 25)):
            drawn = rng.choice([early, late, late]).row(name, str(100 + rng.randrange(14)))
            if rng.random() < 0.3:
                drawn["loaded"] = cut + timedelta(rng.choice([0, 0, 1, 300]))
            if "amount" in drawn and rng.random() < 0.2:
                drawn["amount"] = Decimal("99999999.99")
            if _unseen(recipe, name, drawn, cut):
                kept.append(drawn)
        if name == "subs":
            kept = [_end_moved(row, late, cut) for row in kept]
        rng.shuffle(kept)
        tables[name] = kept
    return RandomHistory(tables, history.schemas)


def _end_moved(row: Row, late: _Draw, cut: date) -> Row:
    """Give a period that has not ended by a day another end from that day on, or none."""
    end = moment(row["ended"])
    if end is not None and end < datetime(cut.year, cut.month, cut.day):
        return row
    began = moment(row["began"])
    if end is not None and began is not None and end < began:
        return row
    day = cut + timedelta(late.rng.choice([0, 0, 1, 30, 400]))
    if began is not None and began >= datetime(day.year, day.month, day.day):
        day = began.date() + timedelta(1)
    return {**row, "ended": late.rng.choice([None, late.time("subs", "ended", day)])}
