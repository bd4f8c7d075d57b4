"""Concentration of revenue over tiers: the Herfindahl-Hirschman index, plain and normalised."""

from __future__ import annotations

import polars as pl

from gtmar.metrics.metric import Metric, Sums, ratio

__all__ = ["METRICS"]

_SOURCE = "US DOJ/FTC Horizontal Merger Guidelines; Herfindahl 1950"


def _sum_of_squares(s: Sums) -> pl.Expr:
    """Σ over tiers (100 x share of start MRR)², in doubles, tiers from the highest down."""
    total = s("start")
    return pl.sum_horizontal(
        ratio(100 * each.cast(pl.Float64), total).pow(2) for each in s.each("start")
    )


def hhi(s: Sums) -> pl.Expr:
    """Σ over tiers (100 x share)², null without start MRR."""
    return pl.when(s("start") != 0).then(_sum_of_squares(s))


def hhi_normalised(s: Sums) -> pl.Expr:
    """(HHI - 10000/K) / (10000 - 10000/K), K being the spec's tiers."""
    tiers = len(s.tiers)
    if tiers == 1:
        return pl.lit(None, dtype=pl.Float64)
    floor = 10_000 / tiers
    # A column as divisor: Polars divides by a literal inexactly.
    span = s("start").cast(pl.Float64) * 0 + (10_000 - floor)
    return (hhi(s) - floor) / span


METRICS = (
    Metric(
        key="revenue_concentration_hhi",
        answers="How concentrated is MRR in few tiers?",
        expression=hhi,
        by_tier=False,
        needs=("mrr",),
        null_when="no start MRR",
        unit="points",
        range="10000/K to 10000 for K tiers",
        better="neither",
        formula="Σ over tiers (100 x share of Σ start)²",
        source=_SOURCE,
    ),
    Metric(
        key="hhi_normalised",
        answers="The same between 0, an even split, and 1, all MRR in one tier?",
        expression=hhi_normalised,
        by_tier=False,
        needs=("mrr",),
        null_when="no start MRR, or one tier only",
        unit="ratio",
        range="0 to 1",
        better="neither",
        formula="(HHI - 10000/K) / (10000 - 10000/K)",
        source=_SOURCE,
    ),
)
