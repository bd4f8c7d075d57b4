"""What the score said of those who left, some days before they were gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from gtmar.runs.leaving import gone_after, presence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from gtmar.data.scan import AccountTable
    from gtmar.runs.score_store import KeptScores
    from gtmar.spec.model import ScoringSpec

__all__ = ["BEFORE", "before_leaving"]

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
