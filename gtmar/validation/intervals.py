"""Intervals of every metric: of one score, or of two scores and the gain between them.

AUC has DeLong's interval, shares of accounts have Wilson's, and everything else has that of the
studentised bootstrap. The bootstrap draws from all accounts together, as draws within each label
would give the share of retained accounts no width. Large tables have intervals without draws, which
are as good there. Where accounts have several rows, of several dates, whole accounts are drawn, and
each formula is that of clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.engine.equal_sizes import SizedTiers
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.tally import TierEdges
from gtmar.journal.sentences import TWINS
from gtmar.metrics.registry import all_metrics, metric_column
from gtmar.plain_data import PlainData, apart, digits, some
from gtmar.stats.interval import Interval, effective_size, from_normal, from_proportion, unknown
from gtmar.validation.paired_scores import Panel, Scored
from gtmar.validation.ranking import BOUNDARIES, auc_gain, auc_interval, drawn_shares
from gtmar.validation.ratios import RATIOS, concentration, gathered, gathered_by_account, pulls_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

    _Draws = Callable[[], Iterator[NDArray[np.float64]]]

__all__ = [
    "CHANCE_LEVEL",
    "HEADLINES",
    "OVERALL",
    "REPLICATES",
    "Uncertainty",
    "at_sizes_of",
    "costs_of",
    "far_below",
    "paired",
    "panel_of",
    "uncertainty",
    "upside_down",
]

#: Tier name for all tiers together: ``nrr_by_tier.*``.
OVERALL = "*"
#: Bootstrap replicates.
REPLICATES = 1_000
#: Number of accounts from which intervals need no bootstrap.
LARGE = 50_000
_AUC = ("auc_roc_retain", "auc_roc_churn")
_HHI = ("revenue_concentration_hhi", "hhi_normalised")
_SCALED = {"revenue_capture_lift": ("revenue_capture_at_20", 1 / 0.2)}


@dataclass(frozen=True)
class Uncertainty(PlainData):
    """Intervals by metric; by-tier ones as ``key.tier``, all tiers at once as ``key.*``.

    Parameters
    ----------
    before, after
        Of the two scores; equal if there is only one.
    gain
        After minus before, with accounts paired.
    """

    before: dict[str, Interval]
    after: dict[str, Interval]
    gain: dict[str, Interval]


def paired(
    intervals: Uncertainty,
    column: str,
    before: float | None,
    after: float | None,
    lacking: Interval,
) -> tuple[Interval, Interval, Interval]:
    """Return the intervals of a metric before, after, and of its change, around exact values.

    `before` and `after` replace the values that the intervals were estimated with, so that the
    values shown are those that decided. `lacking` is used where there is no interval.
    """
    change = None if before is None or after is None else after - before
    return (
        replace(intervals.before.get(column, lacking), value=before),
        replace(intervals.after.get(column, lacking), value=after),
        replace(intervals.gain.get(column, lacking), value=change),
    )


def panel_of(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    before: Sequence[int],
    after: Sequence[int] | None = None,
    *,
    own_edges: ScoringSpec | None = None,
) -> Panel:
    """Score a matrix by one or two weight vectors of a spec.

    The tiers of the second score get the sizes of the first one's tiers on these accounts, so that
    equal tiers are compared; with `own_edges`, a spec, they are cut at its edges instead.
    """
    evaluator, bands = LocalEvaluator(matrix, spec), TierEdges.of(spec)
    places = evaluator.scores(before).astype(np.intp)
    first = Scored(places, bands.tiers_of(places), bands.tiers, bands.risk)
    if after is None:
        return Panel.of(matrix, first)
    places = evaluator.scores(after).astype(np.intp)
    if own_edges is not None:
        second = replace(first, places=places, tiers=TierEdges.of(own_edges).tiers_of(places))
    else:
        second = at_sizes_of(first, places)
    return Panel.of(matrix, first, second)


def at_sizes_of(first: Scored, places: NDArray[np.intp]) -> Scored:
    """Return another score of the same accounts, with tiers of the sizes of the first one's."""
    sizes = np.bincount(first.tiers, minlength=len(first.tier_names)).tolist()
    cut = SizedTiers.of(places, sizes)
    return replace(first, places=places, tiers=cut.tiers, membership=cut.membership)


def uncertainty(
    panel: Panel,
    *,
    level: float = 0.95,
    seed: int = 0,
    replicates: int = REPLICATES,
    metrics: Collection[str] | None = None,
    gains: bool = True,
) -> Uncertainty:
    """Return the intervals of all metrics whose columns the table has.

    Parameters
    ----------
    panel
        The accounts, and one or two scores of them.
    level
        Confidence level of the intervals, in (0, 1).
    seed
        Seed of the bootstrap.
    replicates
        Bootstrap replicates; at 95 %, each end rests on a fortieth of them. Tables of `LARGE`
        accounts or more use none.
    metrics
        Keys of metrics; None for all.
    gains
        False where nobody reads the changes of ratios by tier, which take half of the time.

    Returns
    -------
    Uncertainty
        A metric whose columns are missing is left out.

    Notes
    -----
    Cost: about half a second for 1,500 accounts and two scores. Deterministic: the same table,
    scores and seed give the same intervals, whatever the order of rows.
    """
    wanted = {
        key
        for key, metric in all_metrics().items()
        if (metrics is None or key in metrics)
        and panel.outcomes.missing_reason(metric.needs) is None
    }
    draws = 0 if panel.accounts >= LARGE else replicates

    def chunks() -> Iterator[NDArray[np.float64]]:
        return panel.weights(draws, seed=seed)

    result = Uncertainty({}, {}, {})
    for key in (key for key in _AUC if key in wanted):
        result.before[key] = auc_interval(panel, panel.before, level=level)
        result.after[key] = auc_interval(panel, panel.after, level=level)
        result.gain[key] = auc_gain(panel, level=level)
    _ratios(result, panel, wanted, chunks, level, gains=gains)
    _boundaries(result, panel, wanted, chunks, level)
    if "share_by_tier" in wanted:
        _shares(result, panel, level)
    for side in (result.before, result.after):
        for column, interval in side.items():
            metric = all_metrics()[column.partition(".")[0]]
            side[column] = interval.within(*metric.bounds)
    return result


def _ratios(
    uncertainty: Uncertainty,
    panel: Panel,
    wanted: set[str],
    chunks: _Draws,
    level: float,
    *,
    gains: bool,
) -> None:
    """Add the ratios of sums, and HHI, which is computed from the sums of ARPA."""
    hhi = wanted.intersection(_HHI)
    chosen = [r for r in RATIOS if r.key in wanted or (hhi and r.key == "arpa_by_tier")]
    if not chosen:
        return
    gather: Callable[..., Any] = gathered if panel.account_of is None else gathered_by_account
    cells = gather(panel, chosen, chunks())
    if hhi:
        money = cells["arpa_by_tier"].tier_money()
        _concentrations(uncertainty, hhi, concentration(money, level=level), panel)
    for key in (ratio.key for ratio in chosen if ratio.key in wanted):
        _by_tier(uncertainty, panel, key, cells[key].level, level)
        for one, two, name in _shared_tiers(panel) if gains else ():
            uncertainty.gain[metric_column(key, name)] = cells[key].gain(one, two, level=level)


def _boundaries(
    uncertainty: Uncertainty, panel: Panel, wanted: set[str], chunks: _Draws, level: float
) -> None:
    """Add the metrics of the top share, and those that are a multiple of one."""
    parts = (uncertainty.before, uncertainty.after, uncertainty.gain)
    scaled = {source for key, (source, _) in _SCALED.items() if key in wanted}
    for metric in BOUNDARIES:
        if metric.key in wanted | scaled:
            shares = drawn_shares(metric, panel, chunks())
            for index, part in enumerate(parts):
                part[metric.key] = shares.interval(index, level=level)
    for key, (source, factor) in _SCALED.items():
        if key in wanted:
            for part in parts:
                part[key] = _times(part[source], factor)


def _concentrations(
    uncertainty: Uncertainty, wanted: set[str], intervals: tuple[Interval, ...], panel: Panel
) -> None:
    """Add HHI and, if there is more than one tier, the normalised HHI."""
    sides = (panel.before, panel.after, panel.after)
    parts = zip(
        (uncertainty.before, uncertainty.after, uncertainty.gain), intervals, sides, strict=True
    )
    for index, (part, interval, scored) in enumerate(parts):
        floor = 10_000 / len(scored.tier_names)
        if _HHI[0] in wanted:
            part[_HHI[0]] = interval
        if _HHI[1] in wanted and floor < 10_000:
            plus = 0.0 if index == 2 else -floor
            part[_HHI[1]] = _times(interval, 1 / (10_000 - floor), plus)


def _shared_tiers(panel: Panel) -> list[tuple[int, int, str]]:
    """Return the tiers that both scores have: index before, index after, name."""
    after = {name: index for index, name in enumerate(panel.after.tier_names)}
    names = enumerate(panel.before.tier_names)
    return [(index, after[name], name) for index, name in names if name in after]


def _by_tier(
    uncertainty: Uncertainty, panel: Panel, key: str, of: Callable[..., Interval], level: float
) -> None:
    """Add the values of a by-tier metric, of each tier and of all together."""
    for part, scored, after in (
        (uncertainty.before, panel.before, False),
        (uncertainty.after, panel.after, True),
    ):
        part[metric_column(key, OVERALL)] = of(None, after=after, level=level)
        for index, name in enumerate(scored.tier_names):
            part[metric_column(key, name)] = of(index, after=after, level=level)


def _shares(uncertainty: Uncertainty, panel: Panel, level: float) -> None:
    """Add each tier's share of accounts, and its change."""
    n, clustered = panel.rows, panel.account_of is not None
    each = panel.per_account(np.ones(n))
    for part, scored in ((uncertainty.before, panel.before), (uncertainty.after, panel.after)):
        for index, name in enumerate(scored.tier_names):
            own = scored.inside(index)
            inside, size = round(float(own.sum())), None
            if clustered:
                pulls = pulls_of(panel.per_account(own), each)
                size = effective_size(pulls, inside / n, n, level=level)
            share = from_proportion(inside, n, level=level, effective=size)
            share = replace(share, accounts=panel.accounts) if clustered else share
            part[metric_column("share_by_tier", name)] = share
    for one, two, name in _shared_tiers(panel):
        change = panel.after.inside(two) - panel.before.inside(one)
        # Rounded, as the fractions of tied accounts add up inexactly.
        came, went = (round(float(side.sum()), 6) for side in (change.clip(0), -change.clip(max=0)))
        value, moved = (came - went) / n, came + went
        spread = math.sqrt(moved - (came - went) ** 2 / n) / n
        if clustered:
            spread = float(np.linalg.norm(pulls_of(panel.per_account(change), each)))
            moved = float(np.count_nonzero(panel.per_account(np.abs(change)) > 1e-6))
        column = metric_column("share_by_tier", name)
        if moved == 0:
            uncertainty.gain[column] = Interval(0.0, 0.0, 0.0, level, panel.accounts)
        elif moved < 10:
            reason = f"too few: {some(round(moved), 'account')} came or went"
            uncertainty.gain[column] = unknown(
                value, level=level, accounts=panel.accounts, reason=reason
            )
        else:
            uncertainty.gain[column] = from_normal(
                value, spread, level=level, accounts=panel.accounts
            )


def _times(interval: Interval, factor: float, plus: float = 0.0) -> Interval:
    """Return the interval of (value + `plus`) x `factor`, for a positive factor."""
    value, low, high = (
        None if v is None else (v + plus) * factor
        for v in (interval.value, interval.low, interval.high)
    )
    return replace(interval, value=value, low=low, high=high)


# ---- sentences about intervals -------------------------------------------------------------------

#: AUC of a random order.
CHANCE_LEVEL = 0.5
#: Distance from the interval on unseen accounts beyond which the value of a search counts as far
#: too good; 1 of 113 proven gains was (decision 71).
FAR = 0.05
#: Headline metrics: the opening of the sentence for one that got worse, and the values' format.
_HEADLINES = {
    _AUC[0]: ("Worse beyond chance: pairs of a kept and a lost account ranked right", ".1%"),
    "revenue_capture_at_20": (
        "Worse beyond chance: the MRR that the best-scored fifth holds",
        ".1%",
    ),
    "nrr_at_20": ("Worse beyond chance: the NRR of the best-scored fifth", ".1%"),
    "tier_separation": (
        "Worse beyond chance: LTV of the best-scored quarter against the worst",
        ".2f",
    ),
    _HHI[1]: ("More concentrated beyond chance: MRR over the tiers, of the same sizes", ".3f"),
}
#: The keys of the headline metrics.
HEADLINES = frozenset(_HEADLINES)


def costs_of(intervals: Uncertainty, objective: str | None = None) -> dict[str, str]:
    """Return a sentence for each headline metric that got worse beyond chance, by key.

    `intervals` are those of a panel whose tiers have equal sizes. `objective` and its twin are left
    out. Neither direction of concentration is worse, so the sentence only says that it rose.
    """
    costs = {}
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
        beyond = gain.above_zero if key == _HHI[1] else gain.below_zero
        if beyond and before.value is not None and after.value is not None:
            costs[key] = f"{words}, {before.value:{unit}} -> {after.value:{unit}}."
    return costs


def upside_down(
    intervals: Uncertainty,
    names: tuple[str, str] = ("incumbent", "candidate"),
    *,
    rows: bool = False,
) -> str | None:
    """Return a sentence if a score ranks worse than a coin beyond chance; None if neither does.

    `names` are those of the scores before and after in `intervals`; `rows` is True if accounts have
    several rows, of several dates.
    """
    first, second = names

    def turned(side: dict[str, Interval]) -> str | None:
        auc = side.get(_AUC[0])
        if auc is None or auc.value is None or auc.high is None or auc.high >= CHANCE_LEVEL:
            return None
        return apart(auc.value, CHANCE_LEVEL, "")[0]

    before, after = turned(intervals.before), turned(intervals.after)
    pairs = f"of 100 pairs of a kept and a lost {'row' if rows else 'account'}"
    coin = "fewer than a coin would"
    if after is not None:
        also = "" if before is None else f", and so is the {first} with {before}"
        return f"The {second} is upside down: {pairs} it ranks {after} right, {coin}{also}."
    if before is not None:
        return (
            f"The {first} is upside down: {pairs} it ranks {before} right, {coin}. A "
            "weight's sign, or the orientation, is wrong for these accounts."
        )
    return None


def far_below(promised: float, interval: Interval, objective: str, *, better: int) -> str | None:
    """Return a sentence if a score is far worse on unseen accounts than on those searched, or None.

    Far means beyond the interval's end by more than `FAR`, or by more than 5 % of a value above 1,
    and by more than half the width. `better` is 1 where more of the objective is better, else -1.
    """
    if interval.value is None or interval.low is None or interval.high is None:
        return None
    end = interval.high if better > 0 else interval.low
    gap = better * (promised - end)
    if gap <= max(FAR * max(1.0, abs(promised)), (interval.high - interval.low) / 2):
        return None
    return (
        f"Far from what the search promised: {objective} {digits(promised, 4)} on the accounts "
        f"searched, {interval.worded} on these."
    )
