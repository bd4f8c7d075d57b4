"""What a change costs beside its objective, and scores that stand on their head: in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.journal.sentences import TWINS
from gtmar.plain_data import digits

if TYPE_CHECKING:
    from gtmar.stats.interval import Interval
    from gtmar.validation.intervals import Uncertainty

__all__ = ["CHANCE_LEVEL", "HEADLINES", "costs_of", "far_below", "upside_down"]

#: AUC of a coin.
CHANCE_LEVEL = 0.5
#: How far beyond its interval on unseen accounts a value lies at least that was promised in vain:
#: of 80 ordinary searches none got its value up by so much (decision 71).
FAR = 0.05
_AUC = "auc_roc_retain"
_HHI = "hhi_normalised"
#: Headline metrics: what a sentence begins with where they got worse, and how a value is written.
_HEADLINES = {
    _AUC: ("Worse beyond chance: pairs of a kept and a lost account ranked right", ".1%"),
    "revenue_capture_at_20": (
        "Worse beyond chance: the MRR that the best-scored fifth holds",
        ".1%",
    ),
    "nrr_at_20": ("Worse beyond chance: the NRR of the best-scored fifth", ".1%"),
    "tier_separation": (
        "Worse beyond chance: LTV of the best-scored quarter against the worst",
        ".2f",
    ),
    _HHI: ("More concentrated beyond chance: MRR over the tiers, of the same sizes", ".3f"),
}
#: Their keys.
HEADLINES = frozenset(_HEADLINES)


def costs_of(intervals: Uncertainty, objective: str | None = None) -> dict[str, str]:
    """Name every headline metric that got worse beyond chance, a sentence each, by metric.

    `intervals` are those of a panel whose tiers have equal sizes; `objective` is left out, and so
    is its twin. Of concentration neither direction is worse: more of it is said as that.
    """
    said = {}
    for key, (words, unit) in _HEADLINES.items():
        sides = (intervals.gain, intervals.before, intervals.after)
        gain, before, after = (side.get(key) for side in sides)
        if (
            gain is None
            or before is None
            or after is None
            or key in (objective, TWINS.get(objective or ""))
        ):
            continue
        beyond = gain.above_zero if key == _HHI else gain.below_zero
        if beyond and before.value is not None and after.value is not None:
            said[key] = f"{words}, {before.value:{unit}} -> {after.value:{unit}}."
    return said


def upside_down(
    intervals: Uncertainty,
    names: tuple[str, str] = ("incumbent", "candidate"),
    *,
    rows: bool = False,
) -> str | None:
    """Say that a score ranks worse than a coin beyond chance, which one and how; None for neither.

    `intervals` are of the incumbent (`before`) and the candidate (`after`), or of two scores that
    `names` call otherwise; `rows` says that accounts have several rows, of several dates.
    """
    first, second = names

    def turned(side: dict[str, Interval]) -> float | None:
        auc = side.get(_AUC)
        if auc is None or auc.value is None or auc.high is None or auc.high >= CHANCE_LEVEL:
            return None
        return 100 * auc.value

    before, after = turned(intervals.before), turned(intervals.after)
    pairs = f"of 100 pairs of a kept and a lost {'row' if rows else 'account'}"
    coin = "fewer than a coin would"
    if after is not None:
        also = "" if before is None else f", and so is the {first} with {before:.0f}"
        return f"The {second} is upside down: {pairs} it ranks {after:.0f} right, {coin}{also}."
    if before is not None:
        return (
            f"The {first} is upside down: {pairs} it ranks {before:.0f} right, {coin}. A "
            "weight's sign, or the orientation, is wrong for these accounts."
        )
    return None


def far_below(promised: float, found: Interval, objective: str, *, better: int) -> str | None:
    """Say that a score is worth far less on unseen accounts than on those searched.

    Far is beyond the interval's end by more than `FAR`, or 5 % of a value above 1, and by more than
    half the interval. `better` is 1 where more of the objective is better, -1 where less is.
    """
    if found.value is None or found.low is None or found.high is None:
        return None
    end = found.high if better > 0 else found.low
    gap = better * (promised - end)
    if gap <= max(FAR * max(1.0, abs(promised)), (found.high - found.low) / 2):
        return None
    return (
        f"Far from what the search promised: {objective} {digits(promised, 4)} on the accounts "
        f"searched, {found.worded} on these."
    )
