"""When an account was there and by when it was gone, defined once; what its score said before."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.contract import id_column
from gtmar.data.outcomes import OutcomeColumns, canonical_outcomes
from gtmar.data.prepare import read_for
from gtmar.data.scan import collect
from gtmar.data.split import key_expression
from gtmar.runs.dated_tables import outcome_end

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gtmar.data.scan import AccountTable
    from gtmar.runs.score_store import KeptScores
    from gtmar.spec.model import ScoringSpec

__all__ = ["BEFORE", "Presence", "before_leaving", "gone_after", "presence"]

#: What was seen of accounts, and the days on which those of each date are seen again.
Presence = tuple[pl.DataFrame, "dict[date, list[date]]"]


def presence(spec: ScoringSpec, tables: Mapping[date, AccountTable]) -> Presence:
    """Say of accounts on which days they were there, and on which they weren't.

    Returns
    -------
    DataFrame
        `account`, `day`, `there`, and whether the date's own table has the account, `listed`;
        one row an account and day, sorted. An account is there on a date whose table has it, and
        not there on a later date whose table lacks it. On the day after a window's end it is
        there if it stayed, and not if it left, or if the table of that very day lacks it.
    dict
        By each date whose table has an id, ascending: the later days that say so of its accounts.
    """
    listed, windows = [], []
    ends: dict[date, date | None] = {}
    for day, given in sorted(tables.items()):
        table = read_for(given, spec)
        name = id_column(spec, table.columns)
        if name is None:
            continue
        outcomes = OutcomeColumns.found(spec.outcomes, table.columns)
        retained = canonical_outcomes(outcomes, table.schema)["retained"]
        rows = collect(
            table,
            table.frame.select(
                key_expression(name, table.schema).alias("account"),
                (retained == 1).alias("there"),
            ),
        )
        ends[day] = None
        last = outcome_end(table, spec)
        known = rows.drop_nulls("there")
        if last is not None and known.height:
            ends[day] = over = last + timedelta(days=1)
            windows.append(known.with_columns(day=pl.lit(over), listed=pl.lit(value=False)))
        listed.append(rows.select("account", pl.lit(value=True).alias("there"), day=pl.lit(day)))
    schema = {"account": pl.String, "day": pl.Date, "there": pl.Boolean, "listed": pl.Boolean}
    if not listed:
        return pl.DataFrame(schema=schema), {}
    there = pl.concat(listed).with_columns(listed=pl.lit(value=True))
    days = pl.DataFrame({"day": list(ends)}, schema={"day": pl.Date})
    first = there.group_by("account").agg(first=pl.col("day").min())
    lacking = (
        first.join(days, how="cross")
        .filter(pl.col("day") > pl.col("first"))
        .join(there, on=["account", "day"], how="anti")
        .with_columns(there=pl.lit(value=False), listed=pl.lit(value=False))
    )
    seen = (
        pl.concat([each.select(*schema) for each in (there, lacking, *windows)])
        .group_by("account", "day")
        .agg(pl.col("there").all(), pl.col("listed").any())
        .sort("account", "day")
    )
    later = {
        day: sorted(
            {other for other in ends if other > day}
            | {end for other, end in ends.items() if end is not None and other >= day and end > day}
        )
        for day in ends
    }
    return seen, later


def gone_after(seen: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Add to accounts on days when they were found gone after, and until when they were there.

    `seen` is what `presence` gives; `rows` has `account` and `day`. Added are `gone`, the first
    later day on which the account wasn't there, null where none is known; and `known`, the last
    day before that on which it was.
    """
    away = seen.filter(~pl.col("there")).select("account", gone=pl.col("day")).sort("gone")
    present = seen.filter("there").select("account", known=pl.col("day")).sort("known")
    asked = rows.with_columns(_after=pl.col("day") + pl.duration(days=1)).sort("_after")
    found = asked.join_asof(
        away,
        left_on="_after",
        right_on="gone",
        by="account",
        strategy="forward",
        check_sortedness=False,
    )
    last = pl.col("gone") - pl.duration(days=1)
    found = found.with_columns(_until=last.fill_null(date.max)).sort("_until")
    found = found.join_asof(
        present, left_on="_until", right_on="known", by="account", check_sortedness=False
    )
    return found.with_columns(known=pl.max_horizontal("known", "day")).drop("_after", "_until")


# ---- what the score said before ------------------------------------------------------------------

#: Days before an account is gone on which people ask what its score was.
BEFORE = (30, 60, 90)


def before_leaving(
    lives: Sequence[KeptScores], tables: Mapping[date, AccountTable]
) -> pl.DataFrame:
    """Say what the score said of those who left, some days before they were gone.

    Returns
    -------
    DataFrame
        A row for 30, 60 and 90 days: `days`, `leavers` (those with a score kept so long before),
        `lowest` (their share in the tier that is worst), `others` (share of all accounts scored on
        the same dates who were in it), `median` (their median score). An account is gone by the
        end of the window that it left in, or by the first later date whose table lacks it. Shares
        are null without leavers.
    """
    schema = {"days": pl.Int64, "leavers": pl.Int64, "lowest": pl.Float64, "others": pl.Float64}
    if not lives:
        return pl.DataFrame(schema={**schema, "median": pl.Float64})
    gone = _gone(lives[-1].spec, tables)
    frames = [
        each.frame().select(
            "account",
            "score",
            pl.lit(each.day).alias("day"),
            (pl.col("tier") == _worst(each.spec)).alias("worst"),
        )
        for each in lives
    ]
    kept = pl.concat(frames).with_columns(scored_for=pl.col("day")).sort("day")
    rows = []
    for days in BEFORE:
        asked = gone.with_columns(day=pl.col("gone") - pl.duration(days=days)).sort("day")
        found = asked.join_asof(kept, on="day", by="account", check_sortedness=False).drop_nulls(
            "score"
        )
        same_dates = pl.col("day").is_in(found["scored_for"].unique().implode())
        others = kept.filter(same_dates, ~pl.col("account").is_in(found["account"].implode()))
        rows.append(
            {
                "days": days,
                "leavers": found.height,
                "lowest": found["worst"].mean(),
                "others": others["worst"].mean(),
                "median": found["score"].median(),
            }
        )
    return pl.DataFrame(rows, schema={**schema, "median": pl.Float64})


def _worst(spec: ScoringSpec) -> str:
    return spec.tier_names[0 if spec.orientation == "risk" else -1]


def _gone(spec: ScoringSpec, tables: Mapping[date, AccountTable]) -> pl.DataFrame:
    """Return `account` and the day by which it was `gone`, of those who left last."""
    seen, _ = presence(spec, tables)
    last = seen.filter("listed").group_by("account").agg(pl.col("day").max())
    return gone_after(seen, last).select("account", "gone").drop_nulls()
