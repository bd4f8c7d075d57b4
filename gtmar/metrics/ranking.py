"""Metrics of the order that a score puts accounts in: AUC, the top fifth, the end quarters.

The order is the score's, turned for `orientation: risk`; the tally has turned it already. No metric
depends on the order of rows: whoever is tied on a boundary counts with a fractional share, the mean
over all orders.
"""

from __future__ import annotations

import polars as pl

from gtmar.metrics.metric import Metric, Sums, ratio, wide

__all__ = ["METRICS", "TOP_SHARE"]

#: Share of paying accounts in `revenue_capture_at_20` and `nrr_at_20`; chance captures as much.
TOP_SHARE = 0.2

_MANN_WHITNEY = "Hanley & McNeil 1982; Mann & Whitney 1947"


def auc_retain(_: Sums) -> pl.Expr:
    """(R - m(m+1)/2) / (m n), R being the rank sum of the retained by score."""
    m, n = pl.col("positives"), pl.col("negatives")
    return ratio(pl.col("rank_doubled") - m * (m + 1), 2 * wide(m) * n)


def auc_churn(_: Sums) -> pl.Expr:
    """The same with the churned as positives, ranked by minus the score.

    An account of rank r by score has rank N + 1 - r by minus the score.
    """
    m, n = pl.col("positives"), pl.col("negatives")
    total = wide(m) + n
    # Twice the churned accounts' rank sum by score, then by minus the score.
    ascending = total * (total + 1) - pl.col("rank_doubled")
    descending = 2 * n * (total + 1) - ascending
    return ratio(descending - wide(n) * (n + 1), 2 * wide(m) * n)


def _top_fifth(kind: str) -> pl.Expr:
    """Cents of the top fifth, times five times the tied accounts: an integer."""
    tied = pl.col("top_tied")
    beyond = wide(pl.col(f"top_{kind}")) * 5 * tied
    return beyond + wide(pl.col(f"top_{kind}_tied")) * pl.col("top_fit")


def capture(s: Sums) -> pl.Expr:
    """MRR of the top fifth by score / all MRR."""
    return ratio(_top_fifth("start"), wide(s("start")) * 5 * pl.col("top_tied"))


def ceiling(s: Sums) -> pl.Expr:
    """MRR of the fifth that pays most / all MRR."""
    return ratio(pl.col("ceiling_fifths"), wide(s("start")) * 5)


def lift(s: Sums) -> pl.Expr:
    """Capture against the fifth that a random order captures."""
    return ratio(_top_fifth("start"), wide(s("start")) * pl.col("top_tied"))


def nrr_at_20(_: Sums) -> pl.Expr:
    """NRR of the top fifth by score."""
    return ratio(_top_fifth("end"), _top_fifth("start"))


def separation(_: Sums) -> pl.Expr:
    """Mean LTV of the top quarter by score / that of the bottom quarter."""
    best_tied, worst_tied = pl.col("best_tied"), pl.col("worst_tied")
    best = wide(pl.col("best_ltv")) * 4 * best_tied
    best += wide(pl.col("best_ltv_tied")) * pl.col("best_fit")
    worst = wide(pl.col("worst_ltv")) * 4 * worst_tied
    worst += wide(pl.col("worst_ltv_tied")) * pl.col("worst_fit")
    return pl.when(pl.col("ltv_accounts") >= 4).then(ratio(best * worst_tied, worst * best_tied))


METRICS = (
    Metric(
        key="auc_roc_retain",
        answers="How often does a retained account score better than a churned one?",
        expression=auc_retain,
        by_tier=False,
        needs=("label",),
        null_when="one class only",
        unit="probability",
        range="0 to 1; 0.5 is chance",
        better="higher",
        formula="(R₊ - m(m+1)/2) / (m n), average ranks for ties",
        source=_MANN_WHITNEY,
    ),
    Metric(
        key="auc_roc_churn",
        answers="How often does a churned account score worse than a retained one?",
        expression=auc_churn,
        by_tier=False,
        needs=("label",),
        null_when="one class only",
        unit="probability",
        range="0 to 1; 0.5 is chance",
        better="higher",
        formula="as auc_roc_retain, churned accounts ranked by minus the score",
        source=_MANN_WHITNEY,
    ),
    Metric(
        key="revenue_capture_at_20",
        answers="What share of MRR sits in the best-scored fifth of accounts?",
        expression=capture,
        by_tier=False,
        needs=("mrr",),
        null_when="no start MRR",
        unit="ratio",
        range="0 to revenue_capture_ceiling; 0.2 is chance",
        better="higher",
        formula="Σ start of exactly n/5 paying accounts / Σ start, ties on the boundary in part",
        source="cumulative gains at 20 %",
    ),
    Metric(
        key="revenue_capture_ceiling",
        answers="What share of MRR could the best fifth hold at most?",
        expression=ceiling,
        by_tier=False,
        needs=("mrr",),
        null_when="no start MRR",
        unit="ratio",
        range="0.2 to 1",
        better="neither",
        formula="revenue_capture_at_20 of the order by MRR itself",
        source="companion of revenue_capture_at_20",
    ),
    Metric(
        key="revenue_capture_lift",
        answers="How many times better than chance does the top fifth capture MRR?",
        expression=lift,
        by_tier=False,
        needs=("mrr",),
        null_when="no start MRR",
        unit="ratio",
        range="0 to 5; 1 is chance",
        better="higher",
        formula="revenue_capture_at_20 / 0.2",
        source="companion of revenue_capture_at_20",
    ),
    Metric(
        key="nrr_at_20",
        answers="What is the NRR of the best-scored fifth of accounts?",
        expression=nrr_at_20,
        by_tier=False,
        needs=("mrr", "label"),
        null_when="no start MRR in the top fifth",
        unit="ratio",
        range="0 and up; 1 is flat",
        better="higher",
        formula="Σ end / Σ start of exactly n/5 paying accounts",
        source="companion of revenue_capture_at_20",
    ),
    Metric(
        key="tier_separation",
        answers="How many times the LTV of the worst-scored quarter does the best quarter have?",
        expression=separation,
        by_tier=False,
        needs=("ltv",),
        null_when="fewer than 4 accounts with LTV",
        unit="ratio",
        range="above 0; 1 is none",
        better="higher",
        formula="mean LTV of exactly n/4 best by score / mean LTV of exactly n/4 worst",
        source="quartile comparison; LTV above 0",
    ),
)
