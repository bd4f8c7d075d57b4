"""What stands beside the 13 in every row: the score's own distribution, and counts."""

from __future__ import annotations

import polars as pl

from gtmar.metrics.metric import Metric, Sums, ratio, wide

__all__ = ["METRICS"]


def score_mean(_: Sums) -> pl.Expr:
    """Mean score in points."""
    return ratio(pl.col("score_sum"), 100 * pl.col("scored"))


def score_deviation(_: Sums) -> pl.Expr:
    """Population standard deviation of the score in points, from exact sums of squares."""
    n, total = wide(pl.col("scored")), wide(pl.col("score_sum"))
    variance = (n * pl.col("score_squares") - total * total).cast(pl.Float64)
    return pl.when(n > 0).then(variance.sqrt() / (100 * n).cast(pl.Float64))


def _share(name: str) -> Metric:
    end = "below 0" if name == "clipped_low" else "above max_score"
    return Metric(
        key=f"share_{name}",
        answers=f"What share of accounts would score {end} and is clipped?",
        expression=lambda _: ratio(pl.col(name), pl.col("scored")),
        by_tier=False,
        needs=(),
        null_when="no account",
        unit="ratio",
        range="0 to 1",
        better="neither",
        formula=f"accounts whose rounded raw score lies {end} / accounts scored",
        source="gtmar",
    )


def _count(key: str, name: str, answers: str) -> Metric:
    by_tier = key.endswith("_by_tier")
    return Metric(
        key=key,
        answers=answers,
        expression=lambda s: s(name) if by_tier else pl.col(name),
        by_tier=by_tier,
        needs=(),
        null_when="",
        unit="accounts",
        range="0 and up",
        better="neither",
        formula="count",
        source="gtmar",
        count=True,
    )


METRICS = (
    _count("scored", "scored", "How many accounts were scored?"),
    Metric(
        key="score_mean",
        answers="What does an account score on average?",
        expression=score_mean,
        by_tier=False,
        needs=(),
        null_when="no account",
        unit="points",
        range="0 to max_score",
        better="neither",
        formula="Σ score / accounts scored",
        source="gtmar",
    ),
    Metric(
        key="score_deviation",
        answers="How far do scores spread?",
        expression=score_deviation,
        by_tier=False,
        needs=(),
        null_when="no account",
        unit="points",
        range="0 and up",
        better="neither",
        formula="population standard deviation of the score",
        source="gtmar",
    ),
    _share("clipped_low"),
    _share("clipped_high"),
    Metric(
        key="share_by_tier",
        answers="What share of accounts is in each tier?",
        expression=lambda s: ratio(s("accounts"), pl.col("scored")),
        by_tier=True,
        needs=(),
        null_when="no account",
        unit="ratio",
        range="0 to 1",
        better="neither",
        formula="accounts of the tier / accounts scored",
        source="gtmar",
    ),
    _count("accounts_by_tier", "accounts", "How many accounts are in each tier?"),
    _count(
        "labelled_by_tier", "labelled", "How many of each tier's accounts have a known outcome?"
    ),
    _count("paying_by_tier", "paying", "How many of each tier's current accounts pay?"),
    _count("former_by_tier", "former", "How many former accounts fall in each tier?"),
    _count("activation_applies_by_tier", "applies", "To how many accounts does activation apply?"),
    _count("ltv_accounts", "ltv_accounts", "How many accounts does tier_separation rest on?"),
)
