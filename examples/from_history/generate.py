"""Raw history with a planted truth: subscriptions, events, tickets, and a CRM as it is today.

``python generate.py FOLDER`` writes four CSV files. On 2024-07-01, and again on 2025-01-01, each
account that pays stays or leaves within half a year, by `PLANTED` and by what it did in the 90 days
before; nothing else about it matters. The CRM was exported on 2025-01-01: it knows who had left by
then, and is wrong about some.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

__all__ = ["DATES", "FULL", "INTERCEPT", "PLANTED", "write"]

#: On these days it is drawn who leaves in the half-year after.
DATES = (date(2024, 7, 1), date(2025, 1, 1))
INTERCEPT = -0.6
#: What each thing, done so often in 90 days that its signal is 1, adds to the log-odds of staying.
PLANTED = {"export": 3.0, "login": 2.0, "invite": 1.0, "search": 0.0, "ticket": -2.0}
#: How often that is.
FULL = {"export": 10, "login": 30, "invite": 8, "search": 15, "ticket": 6}
#: Shares of the accounts that left, and of those that stayed, of which the CRM says the contrary.
LIES = (0.15, 0.10)


def write(folder: Path, accounts: int = 4_000, seed: int = 1) -> None:
    """Write the four files; the same accounts and seed give the same bytes."""
    draw = np.random.Generator(np.random.PCG64(seed)).random
    start = [date(2023, 7, 1) + timedelta(int(days)) for days in draw(accounts) * 270]
    money = np.floor(20 + 480 * draw(accounts) ** 2)
    ends: list[date | None] = [None] * accounts
    rows: list[tuple[int, str, datetime]] = []

    def happens(account: int, what: str, times: int, first: datetime, days: float) -> None:
        moments = draw(times) * days * 86_400
        rows.extend((account, what, first + timedelta(seconds=int(s))) for s in moments)

    for day in DATES:
        noon = datetime.combine(day, datetime.min.time())
        for account in range(accounts):
            if ends[account] is not None:
                continue
            pull = INTERCEPT
            for what, strength in PLANTED.items():
                times = int(draw() * (FULL[what] + 1))
                pull += strength * times / FULL[what]
                happens(account, what, times, noon - timedelta(90), 90)
                # What was done longer ago says nothing.
                earlier = datetime.combine(start[account], datetime.min.time())
                if day == DATES[0]:
                    span = (noon - timedelta(90) - earlier).days
                    happens(account, what, int(draw() * FULL[what]), earlier, span)
            if draw() >= 1 / (1 + np.exp(-pull)):
                gone = 1 + int(draw() * 179)
                ends[account] = day + timedelta(gone)
                # Who leaves asks how to: after the day on which they are scored.
                happens(account, "ticket", 1 + int(draw() * 4), noon, gone)
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"acct-{number:05d}" for number in range(1, accounts + 1)]
    subscriptions = pl.DataFrame(
        {"account_id": ids, "starts": start, "ends": ends, "mrr": money},
        schema_overrides={"ends": pl.Date, "mrr": pl.Decimal(10, 2)},
    )
    # One in ten has bought an add-on beside.
    more = subscriptions.filter(pl.Series(draw(accounts) < 0.1)).with_columns(
        mrr=pl.lit(25, dtype=pl.Decimal(10, 2))
    )
    pl.concat([subscriptions, more]).write_csv(folder / "subscriptions.csv")
    done = pl.DataFrame(
        [(ids[account], what, at) for account, what, at in rows],
        schema={"account_id": pl.String, "name": pl.String, "at": pl.Datetime},
        orient="row",
    ).sort("at", "account_id", "name")
    ticket = pl.col("name") == "ticket"
    done.filter(~ticket).write_csv(folder / "events.csv")
    done.filter(ticket).select("account_id", opened="at").write_csv(folder / "tickets.csv")
    lost = np.array([end is not None and end < DATES[1] for end in ends])
    lies = draw(accounts) < np.where(lost, *LIES)
    status = np.where(lost ^ lies, "lost", "customer")
    pl.DataFrame({"account_id": ids, "status": status}).write_csv(folder / "crm.csv")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
