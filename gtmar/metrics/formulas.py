"""The definition of every metric: its formula over named sums, its unit, range and meaning.

Accounts are ordered by score, best first; for `orientation: risk` the engine has reversed the order
in its sums already. No metric depends on the order of rows: accounts tied on a boundary count in
part, which is the mean over all orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gtmar.metrics.metric import (
    Metric,
    Quantity,
    Sums,
    nonzero,
    nothing,
    ratio,
    real,
    where,
    wide,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONCENTRATION", "DISTRIBUTION", "METRICS", "TOP_SHARE"]

#: Share of paying accounts in `revenue_capture_at_20` and `nrr_at_20`; also the capture by chance.
TOP_SHARE = 0.2

_MANN_WHITNEY = "Hanley & McNeil 1982; Mann & Whitney 1947"
_SMSB = "SaaS Metrics Standards Board; ChartMogul's definitions"
_HERFINDAHL = "US DOJ/FTC Horizontal Merger Guidelines; Herfindahl 1950"
_NO_START = "no start MRR"
_NO_KEPT = "no retained paying account"


# ---- order: AUC, the top fifth, the end quarters ---------------------------------------------


def auc(s: Sums) -> Quantity:
    """(R - m(m+1)/2) / (m n), where R is the rank sum of the m retained accounts by score.

    Ranking the churned accounts by the negated score gives the same value.
    """
    m, n = s.whole("positives"), s.whole("negatives")
    return ratio(s.whole("rank_doubled") - m * (m + 1), 2 * wide(m) * n)


def _top_fifth(s: Sums, kind: str) -> Quantity:
    """Cents of the top fifth, times five, times the accounts tied on its edge: an integer."""
    tied = s.whole("top_tied")
    beyond = wide(s.whole(f"top_{kind}")) * 5 * tied
    return beyond + wide(s.whole(f"top_{kind}_tied")) * s.whole("top_fit")


def capture(s: Sums) -> Quantity:
    """MRR of the top fifth by score / all MRR."""
    return ratio(_top_fifth(s, "start"), wide(s("start")) * 5 * s.whole("top_tied"))


def ceiling(s: Sums) -> Quantity:
    """MRR of the highest-paying fifth / all MRR."""
    return ratio(s.whole("ceiling_fifths"), wide(s("start")) * 5)


def lift(s: Sums) -> Quantity:
    """Capture / 0.2, the capture of a random order."""
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


_RANKING = (
    Metric(
        key="auc_roc_retain",
        answers="How often does a retained account score better than a churned one?",
        formula_of=auc,
        needs=("label",),
        null_when="one class only",
        unit="probability",
        range="0 to 1; 0.5 is chance",
        formula="(R₊ - m(m+1)/2) / (m n), average ranks for ties",
        source=_MANN_WHITNEY,
    ),
    Metric(
        key="auc_roc_churn",
        answers="How often does a churned account score worse than a retained one?",
        formula_of=auc,
        needs=("label",),
        null_when="one class only",
        unit="probability",
        range="0 to 1; 0.5 is chance",
        formula="as auc_roc_retain, churned accounts ranked by minus the score",
        source=_MANN_WHITNEY,
    ),
    Metric(
        key="revenue_capture_at_20",
        answers="What share of MRR sits in the best-scored fifth of accounts?",
        formula_of=capture,
        needs=("mrr",),
        null_when="no start MRR",
        range="0 to revenue_capture_ceiling; 0.2 is chance",
        formula="Σ start of exactly n/5 paying accounts / Σ start, ties on the boundary in part",
        source="cumulative gains at 20%",
    ),
    Metric(
        key="revenue_capture_ceiling",
        answers="What share of MRR could the best fifth hold at most?",
        formula_of=ceiling,
        needs=("mrr",),
        null_when="no start MRR",
        range="0.2 to 1",
        better="neither",
        formula="revenue_capture_at_20 of the order by MRR itself",
        source="companion of revenue_capture_at_20",
    ),
    Metric(
        key="revenue_capture_lift",
        answers="How many times better than chance does the top fifth capture MRR?",
        formula_of=lift,
        needs=("mrr",),
        null_when="no start MRR",
        range="0 to 5; 1 is chance",
        formula="revenue_capture_at_20 / 0.2",
        source="companion of revenue_capture_at_20",
    ),
    Metric(
        key="nrr_at_20",
        answers="What is the NRR of the best-scored fifth of accounts?",
        formula_of=nrr_at_20,
        needs=("mrr", "label"),
        null_when="no start MRR in the top fifth",
        range="0 and up; 1 is flat",
        formula="Σ end / Σ start of exactly n/5 paying accounts",
        source="companion of revenue_capture_at_20",
    ),
    Metric(
        key="tier_separation",
        answers="How many times the LTV of the worst-scored quarter does the best quarter have?",
        formula_of=separation,
        needs=("ltv",),
        null_when="fewer than 4 accounts with LTV",
        range="above 0; 1 is none",
        formula="mean LTV of exactly n/4 best by score / mean LTV of exactly n/4 worst",
        source="quartile comparison; LTV above 0",
    ),
)


# ---- retention, by tier: revenue, logos, movements, win-back, activation, ARPA ----------------


def _over(numerator: str, denominator: str) -> Callable[[Sums], Quantity]:
    """Return a formula: the ratio of two named sums."""
    return lambda s: ratio(s(numerator), s(denominator))


def _by_tier(key: str, formula_of: Callable[[Sums], Quantity], **texts: Any) -> Metric:
    return Metric(key=key, formula_of=formula_of, by_tier=True, **{"source": _SMSB} | texts)


_RETENTION = (
    _by_tier(
        "nrr_by_tier",
        _over("end", "start"),
        answers="Of each tier's MRR at the start, how much is there at the end, growth included?",
        needs=("mrr", "label"),
        null_when=_NO_START,
        range="0 and up; 1 is flat",
        formula="Σ end / Σ start",
    ),
    _by_tier(
        "grr_by_tier",
        lambda s: ratio(s("end") - s("expansion"), s("start")),
        answers="Of each tier's MRR at the start, how much stayed, growth not counted?",
        needs=("mrr", "label"),
        null_when=_NO_START,
        formula="Σ min(start, end) / Σ start",
    ),
    _by_tier(
        "logo_retention_by_tier",
        _over("retained", "labelled"),
        answers="How many of each tier's accounts are still customers?",
        needs=("label",),
        null_when="no labelled account",
        formula="retained accounts / accounts with an outcome",
    ),
    _by_tier(
        "expansion_rate_by_tier",
        _over("expansion", "start"),
        answers="How much did each tier's accounts grow, against its MRR at the start?",
        needs=("mrr", "mrr_end"),
        null_when=_NO_START,
        range="0 and up",
        formula="Σ (end - start)+ / Σ start",
    ),
    _by_tier(
        "expanded_share_by_tier",
        _over("expanded", "kept_paying"),
        answers="How many of each tier's retained accounts grew?",
        needs=("mrr", "mrr_end"),
        null_when=_NO_KEPT,
        formula="accounts with end > start / retained paying accounts",
        source="companion of expansion_rate_by_tier",
    ),
    _by_tier(
        "contraction_rate_by_tier",
        _over("contraction", "start"),
        answers="How much did each tier's staying accounts shrink?",
        needs=("mrr", "mrr_end"),
        null_when=_NO_START,
        better="lower",
        formula="Σ (start - end)+ over end > 0 / Σ start",
    ),
    _by_tier(
        "contracted_share_by_tier",
        _over("contracted", "kept_paying"),
        answers="How many of each tier's retained accounts shrank?",
        needs=("mrr", "mrr_end"),
        null_when=_NO_KEPT,
        better="lower",
        formula="accounts with 0 < end < start / retained paying accounts",
        source="companion of contraction_rate_by_tier",
    ),
    _by_tier(
        "quick_ratio_by_tier",
        lambda s: ratio(s("expansion"), s("contraction") + s("churned")),
        answers="How much growth stands against each unit of MRR lost?",
        needs=("mrr", "mrr_end"),
        null_when="no losses",
        range="0 and up; 1 is break-even",
        formula="expansion / (contraction + churned)",
        source="existing-customer variant: a new customer has no score at the start",
    ),
    _by_tier(
        "winback_rate_by_former_tier",
        _over("won_back", "former"),
        answers="How many former accounts of each tier came back?",
        needs=("won_back",),
        null_when="none churned before",
        formula="won back / churned before the window",
    ),
    _by_tier(
        "activation_rate_by_tier",
        _over("activated", "applies"),
        answers="How many new accounts of each tier reached their milestone?",
        needs=("activated",),
        null_when="activation applies to none",
        formula="activated / accounts for which activation applies",
    ),
    _by_tier(
        "median_days_to_activate_by_tier",
        lambda s: ratio(s("days_doubled"), 2 * (s("days_known") > 0)),
        answers="How long did activation take, for half of each tier's activated accounts?",
        needs=("activated", "days_to_activate"),
        null_when="no activated account with known days",
        unit="days",
        range="0 and up",
        better="lower",
        formula="median of days_to_activate, the mean of the two middle ones",
        source="companion of activation_rate_by_tier",
    ),
    _by_tier(
        "arpa_by_tier",
        lambda s: ratio(s("start"), 100 * s("paying")),
        answers="What does a paying account of each tier pay a month?",
        needs=("mrr",),
        null_when="no paying account",
        unit="currency a month",
        range="above 0",
        formula="Σ start / paying accounts",
    ),
)


# ---- concentration of revenue over tiers -----------------------------------------------------


def _sum_of_squares(s: Sums) -> Quantity:
    """Σ over tiers (100 x share of start MRR)², in doubles."""
    total = s("start")
    return _by_halves([ratio(100 * real(each), total).pow(2) for each in s.each("start")])


def _by_halves(values: list[Quantity]) -> Quantity:
    """Add doubles in a fixed order, by halves: the order of Polars depends on its threads."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return _by_halves(values[:half]) + _by_halves(values[half:])


def hhi(s: Sums) -> Quantity:
    """Σ over tiers (100 x share)², null without start MRR."""
    return where(nonzero(s("start")), _sum_of_squares(s))


def hhi_normalised(s: Sums) -> Quantity:
    """(HHI - 10000/K) / (10000 - 10000/K) for the spec's K tiers; null for one tier."""
    tiers = len(s.tiers)
    if tiers == 1:
        return nothing(s("start"))
    floor = 10_000 / tiers
    # The divisor is a column, as Polars divides by a literal inexactly.
    span = real(s("start")) * 0 + (10_000 - floor)
    return (hhi(s) - floor) / span


CONCENTRATION = (
    Metric(
        key="revenue_concentration_hhi",
        answers="How concentrated is MRR in few tiers?",
        formula_of=hhi,
        needs=("mrr",),
        null_when="no start MRR",
        unit="points",
        range="10000/K to 10000 for K tiers",
        better="neither",
        formula="Σ over tiers (100 x share of Σ start)²",
        source=_HERFINDAHL,
    ),
    Metric(
        key="hhi_normalised",
        answers="The same between 0, an even split, and 1, all MRR in one tier?",
        formula_of=hhi_normalised,
        needs=("mrr",),
        null_when="no start MRR, or one tier only",
        better="neither",
        formula="(HHI - 10000/K) / (10000 - 10000/K)",
        source=_HERFINDAHL,
    ),
)


# ---- the distribution of scores, and counts --------------------------------------------------


def score_mean(s: Sums) -> Quantity:
    """Mean score in points."""
    return ratio(s.whole("score_sum"), 100 * s.whole("scored"))


def score_deviation(s: Sums) -> Quantity:
    """Population standard deviation of the score in points, from exact sums of squares."""
    n, total = wide(s.whole("scored")), wide(s.whole("score_sum"))
    variance = real(n * s.whole("score_squares") - total * total)
    return where(n > 0, variance.sqrt() / real(100 * n))


def _own(key: str, formula_of: Callable[[Sums], Quantity], **texts: Any) -> Metric:
    """Return a metric of the distribution of scores, which has no better direction."""
    return Metric(key=key, formula_of=formula_of, better="neither", **texts)


def _clipped(name: str, end: str) -> Metric:
    return _own(
        f"share_{name}",
        lambda s: ratio(s.whole(name), s.whole("scored")),
        answers=f"What share of accounts would score {end} and is clipped?",
        formula=f"accounts whose rounded raw score lies {end} / accounts scored",
    )


def _count(key: str, name: str, answers: str) -> Metric:
    by_tier = key.endswith("_by_tier")
    return _own(
        key,
        lambda s: s(name) if by_tier else s.whole(name),
        by_tier=by_tier,
        answers=answers,
        null_when="",
        unit="accounts",
        range="0 and up",
        formula="count",
        count=True,
    )


DISTRIBUTION = (
    _count("scored", "scored", "How many accounts were scored?"),
    _own(
        "score_mean",
        score_mean,
        answers="What does an account score on average?",
        unit="points",
        range="0 to max_score",
        formula="Σ score / accounts scored",
    ),
    _own(
        "score_deviation",
        score_deviation,
        answers="How far do scores spread?",
        unit="points",
        range="0 and up",
        formula="population standard deviation of the score",
    ),
    _clipped("clipped_low", "below 0"),
    _clipped("clipped_high", "above max_score"),
    _own(
        "share_by_tier",
        lambda s: ratio(s("accounts"), s.whole("scored")),
        by_tier=True,
        answers="What share of accounts is in each tier?",
        formula="accounts of the tier / accounts scored",
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

METRICS = (*_RANKING, *_RETENTION, *CONCENTRATION, *DISTRIBUTION)
