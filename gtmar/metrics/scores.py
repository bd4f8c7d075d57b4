"""What stands beside the 13 in every row: the score's own distribution, and counts."""

from __future__ import annotations

from gtmar.metrics.metric import Metric, Quantity, Sums, ratio, real, where, wide

__all__ = ["METRICS"]


def score_mean(s: Sums) -> Quantity:
    """Mean score in points."""
    return ratio(s.whole("score_sum"), 100 * s.whole("scored"))


def score_deviation(s: Sums) -> Quantity:
    """Population standard deviation of the score in points, from exact sums of squares."""
    n, total = wide(s.whole("scored")), wide(s.whole("score_sum"))
    variance = real(n * s.whole("score_squares") - total * total)
    return where(n > 0, variance.sqrt() / real(100 * n))


def _share(name: str) -> Metric:
    end = "below 0" if name == "clipped_low" else "above max_score"
    return Metric(
        key=f"share_{name}",
        answers=f"What share of accounts would score {end} and is clipped?",
        formula_of=lambda s: ratio(s.whole(name), s.whole("scored")),
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
        formula_of=lambda s: s(name) if by_tier else s.whole(name),
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
        formula_of=score_mean,
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
        formula_of=score_deviation,
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
        formula_of=lambda s: ratio(s("accounts"), s.whole("scored")),
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
