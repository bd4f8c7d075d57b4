"""Concentration of revenue over tiers: the Herfindahl-Hirschman index, plain and normalised."""

from __future__ import annotations

from gtmar.metrics.metric import Metric, Quantity, Sums, nonzero, nothing, ratio, real, where

__all__ = ["METRICS"]

_SOURCE = "US DOJ/FTC Horizontal Merger Guidelines; Herfindahl 1950"


def _sum_of_squares(s: Sums) -> Quantity:
    """Σ over tiers (100 x share of start MRR)², in doubles, tiers from the highest down."""
    total = s("start")
    return _by_halves([ratio(100 * real(each), total).pow(2) for each in s.each("start")])


def _by_halves(values: list[Quantity]) -> Quantity:
    """Add doubles up, each half by itself: in what order Polars adds depends on its threads."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return _by_halves(values[:half]) + _by_halves(values[half:])


def hhi(s: Sums) -> Quantity:
    """Σ over tiers (100 x share)², null without start MRR."""
    return where(nonzero(s("start")), _sum_of_squares(s))


def hhi_normalised(s: Sums) -> Quantity:
    """(HHI - 10000/K) / (10000 - 10000/K), K being the spec's tiers."""
    tiers = len(s.tiers)
    if tiers == 1:
        return nothing(s("start"))
    floor = 10_000 / tiers
    # A column as divisor: Polars divides by a literal inexactly.
    span = real(s("start")) * 0 + (10_000 - floor)
    return (hhi(s) - floor) / span


METRICS = (
    Metric(
        key="revenue_concentration_hhi",
        answers="How concentrated is MRR in few tiers?",
        formula_of=hhi,
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
        formula_of=hhi_normalised,
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
