"""The retention family, by tier: revenue, logos, movements, win-back, activation, ARPA."""

from __future__ import annotations

from gtmar.metrics.metric import Metric, Quantity, Sums, ratio

__all__ = ["METRICS"]

_SMSB = "SaaS Metrics Standards Board; ChartMogul's definitions"
_NO_START = "no start MRR"
_NO_KEPT = "no retained paying account"


def nrr(s: Sums) -> Quantity:
    """Σ end / Σ start."""
    return ratio(s("end"), s("start"))


def grr(s: Sums) -> Quantity:
    """Σ min(start, end) / Σ start: end MRR without what grew, capped account by account."""
    return ratio(s("end") - s("expansion"), s("start"))


def logo_retention(s: Sums) -> Quantity:
    """Retained accounts / accounts with an outcome."""
    return ratio(s("retained"), s("labelled"))


def expansion_rate(s: Sums) -> Quantity:
    """Σ (end - start)+ / Σ start."""
    return ratio(s("expansion"), s("start"))


def contraction_rate(s: Sums) -> Quantity:
    """Σ (start - end)+ over end > 0 / Σ start."""
    return ratio(s("contraction"), s("start"))


def quick_ratio(s: Sums) -> Quantity:
    """Expansion / (contraction + churned)."""
    return ratio(s("expansion"), s("contraction") + s("churned"))


def winback_rate(s: Sums) -> Quantity:
    """Won back / churned before the window."""
    return ratio(s("won_back"), s("former"))


def activation_rate(s: Sums) -> Quantity:
    """Activated / accounts for which activation applies."""
    return ratio(s("activated"), s("applies"))


def median_days(s: Sums) -> Quantity:
    """Median days to activate: half the sum of the two middle values."""
    return ratio(s("days_doubled"), 2 * (s("days_known") > 0))


def arpa(s: Sums) -> Quantity:
    """Σ start / paying accounts, in currency units."""
    return ratio(s("start"), 100 * s("paying"))


def expanded_share(s: Sums) -> Quantity:
    """Accounts that grew / retained paying accounts."""
    return ratio(s("expanded"), s("kept_paying"))


def contracted_share(s: Sums) -> Quantity:
    """Accounts that shrank but stayed / retained paying accounts."""
    return ratio(s("contracted"), s("kept_paying"))


METRICS = (
    Metric(
        key="nrr_by_tier",
        answers="Of each tier's MRR at the start, how much is there at the end, growth included?",
        formula_of=nrr,
        by_tier=True,
        needs=("mrr", "label"),
        null_when=_NO_START,
        unit="ratio",
        range="0 and up; 1 is flat",
        better="higher",
        formula="Σ end / Σ start",
        source=_SMSB,
    ),
    Metric(
        key="grr_by_tier",
        answers="Of each tier's MRR at the start, how much stayed, growth not counted?",
        formula_of=grr,
        by_tier=True,
        needs=("mrr", "label"),
        null_when=_NO_START,
        unit="ratio",
        range="0 to 1",
        better="higher",
        formula="Σ min(start, end) / Σ start",
        source=_SMSB,
    ),
    Metric(
        key="logo_retention_by_tier",
        answers="How many of each tier's accounts are still customers?",
        formula_of=logo_retention,
        by_tier=True,
        needs=("label",),
        null_when="no labelled account",
        unit="ratio",
        range="0 to 1",
        better="higher",
        formula="retained accounts / accounts with an outcome",
        source=_SMSB,
    ),
    Metric(
        key="expansion_rate_by_tier",
        answers="How much did each tier's accounts grow, against its MRR at the start?",
        formula_of=expansion_rate,
        by_tier=True,
        needs=("mrr", "mrr_end"),
        null_when=_NO_START,
        unit="ratio",
        range="0 and up",
        better="higher",
        formula="Σ (end - start)+ / Σ start",
        source=_SMSB,
    ),
    Metric(
        key="expanded_share_by_tier",
        answers="How many of each tier's retained accounts grew?",
        formula_of=expanded_share,
        by_tier=True,
        needs=("mrr", "mrr_end"),
        null_when=_NO_KEPT,
        unit="ratio",
        range="0 to 1",
        better="higher",
        formula="accounts with end > start / retained paying accounts",
        source="companion of expansion_rate_by_tier",
    ),
    Metric(
        key="contraction_rate_by_tier",
        answers="How much did each tier's staying accounts shrink?",
        formula_of=contraction_rate,
        by_tier=True,
        needs=("mrr", "mrr_end"),
        null_when=_NO_START,
        unit="ratio",
        range="0 to 1",
        better="lower",
        formula="Σ (start - end)+ over end > 0 / Σ start",
        source=_SMSB,
    ),
    Metric(
        key="contracted_share_by_tier",
        answers="How many of each tier's retained accounts shrank?",
        formula_of=contracted_share,
        by_tier=True,
        needs=("mrr", "mrr_end"),
        null_when=_NO_KEPT,
        unit="ratio",
        range="0 to 1",
        better="lower",
        formula="accounts with 0 < end < start / retained paying accounts",
        source="companion of contraction_rate_by_tier",
    ),
    Metric(
        key="quick_ratio_by_tier",
        answers="How much growth stands against each unit of MRR lost?",
        formula_of=quick_ratio,
        by_tier=True,
        needs=("mrr", "mrr_end"),
        null_when="no losses",
        unit="ratio",
        range="0 and up; 1 is break-even",
        better="higher",
        formula="expansion / (contraction + churned)",
        source="existing-customer variant: a new customer has no score at the start",
    ),
    Metric(
        key="winback_rate_by_former_tier",
        answers="How many former accounts of each tier came back?",
        formula_of=winback_rate,
        by_tier=True,
        needs=("won_back",),
        null_when="none churned before",
        unit="ratio",
        range="0 to 1",
        better="higher",
        formula="won back / churned before the window",
        source=_SMSB,
    ),
    Metric(
        key="activation_rate_by_tier",
        answers="How many new accounts of each tier reached their milestone?",
        formula_of=activation_rate,
        by_tier=True,
        needs=("activated",),
        null_when="activation applies to none",
        unit="ratio",
        range="0 to 1",
        better="higher",
        formula="activated / accounts for which activation applies",
        source=_SMSB,
    ),
    Metric(
        key="median_days_to_activate_by_tier",
        answers="How long did activation take, for half of each tier's activated accounts?",
        formula_of=median_days,
        by_tier=True,
        needs=("activated", "days_to_activate"),
        null_when="no activated account with known days",
        unit="days",
        range="0 and up",
        better="lower",
        formula="median of days_to_activate, the mean of the two middle ones",
        source="companion of activation_rate_by_tier",
    ),
    Metric(
        key="arpa_by_tier",
        answers="What does a paying account of each tier pay a month?",
        formula_of=arpa,
        by_tier=True,
        needs=("mrr",),
        null_when="no paying account",
        unit="currency a month",
        range="above 0",
        better="higher",
        formula="Σ start / paying accounts",
        source=_SMSB,
    ),
)
