"""Metrics of the order that a score puts accounts in: AUC, the top fifth, the end quarters.

The order is the score's, turned for `orientation: risk`; the tally has turned it already. No metric
depends on the order of rows: whoever is tied on a boundary counts with a fractional share, the mean
over all orders.
"""

from __future__ import annotations

from gtmar.metrics.metric import Metric, Quantity, Sums, ratio, where, wide

__all__ = ["METRICS", "TOP_SHARE"]

#: Share of paying accounts in `revenue_capture_at_20` and `nrr_at_20`; chance captures as much.
TOP_SHARE = 0.2

_MANN_WHITNEY = "Hanley & McNeil 1982; Mann & Whitney 1947"


def auc_retain(s: Sums) -> Quantity:
    """(R - m(m+1)/2) / (m n), R being the rank sum of the retained by score."""
    m, n = s.whole("positives"), s.whole("negatives")
    return ratio(s.whole("rank_doubled") - m * (m + 1), 2 * wide(m) * n)


def auc_churn(s: Sums) -> Quantity:
    """The same with the churned as positives, ranked by minus the score.

    An account of rank r by score has rank N + 1 - r by minus the score.
    """
    m, n = s.whole("positives"), s.whole("negatives")
    total = wide(m) + n
    # Twice the churned accounts' rank sum by score, then by minus the score.
    ascending = total * (total + 1) - s.whole("rank_doubled")
    descending = 2 * n * (total + 1) - ascending
    return ratio(descending - wide(n) * (n + 1), 2 * wide(m) * n)


def _top_fifth(s: Sums, kind: str) -> Quantity:
    """Cents of the top fifth, times five times the tied accounts: an integer."""
    tied = s.whole("top_tied")
    beyond = wide(s.whole(f"top_{kind}")) * 5 * tied
    return beyond + wide(s.whole(f"top_{kind}_tied")) * s.whole("top_fit")


def capture(s: Sums) -> Quantity:
    """MRR of the top fifth by score / all MRR."""
    return ratio(_top_fifth(s, "start"), wide(s("start")) * 5 * s.whole("top_tied"))


def ceiling(s: Sums) -> Quantity:
    """MRR of the fifth that pays most / all MRR."""
    return ratio(s.whole("ceiling_fifths"), wide(s("start")) * 5)


def lift(s: Sums) -> Quantity:
    """Capture against the fifth that a random order captures."""
    return ratio(_top_fifth(s, "start"), wide(s("start")) * s.whole("top_tied"))


def nrr_at_20(s: Sums) -> Quantity:
    """NRR of the top fifth by score."""
    return ratio(_top_fifth(s, "end"), _top_fifth(s, "start"))


def separation(s: Sums) -> Quantity:
    """Mean LTV of the top quarter by score / that of the bottom quarter."""
    best_tied, worst_tied = s.whole("best_tied"), s.whole("worst_tied")
    best = wide(s.whole("best_ltv")) * 4 * best_tied
    best += wide(s.whole("best_ltv_tied")) * s.whole("best_fit")
    worst = wide(s.whole("worst_ltv")) * 4 * worst_tied
    worst += wide(s.whole("worst_ltv_tied")) * s.whole("worst_fit")
    enough = s.whole("ltv_accounts") >= 4
    return where(enough, ratio(best * worst_tied, worst * best_tied))


METRICS = (
    Metric(
        key="auc_roc_retain",
        answers="How often does a retained account score better than a churned one?",
        formula_of=auc_retain,
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
        formula_of=auc_churn,
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
        formula_of=capture,
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
        formula_of=ceiling,
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
        formula_of=lift,
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
        formula_of=nrr_at_20,
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
        formula_of=separation,
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
