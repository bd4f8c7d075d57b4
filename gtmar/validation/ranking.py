"""Intervals of metrics of a score's order: AUC, and capture, NRR and separation of the top share.

The AUC, and the difference of two over the same accounts, have DeLong's standard error. The other
metrics depend on a boundary between accounts, which moves with the sample, so each replicate finds
its own. An account's influence (`pull`) on such a metric has two parts: its own amount, if it lies
beyond the boundary, and the shift of the boundary, priced at the mean amount of accounts near it.

References
----------
DeLong, DeLong & Clarke-Pearson 1988; Sun & Xu 2014 for the computation by mid-ranks; Obuchowski
1997 for accounts that have several rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gtmar.engine.cohorts import COHORTS
from gtmar.metrics.formulas import TOP_SHARE
from gtmar.stats.interval import NOTHING, Interval, from_normal, resampled, unknown
from gtmar.stats.paired_auc import placements
from gtmar.validation.paired_scores import known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gtmar.validation.paired_scores import Panel, Scored

    Floats = NDArray[np.float64]
    Places = NDArray[np.intp]

__all__ = ["BOUNDARIES", "Boundary", "Shares", "auc_gain", "auc_interval", "drawn_shares"]

#: Accounts of either class below which DeLong's variance is unreliable.
_LEAST = 10
_KEPT, _LOST = COHORTS["retained"], COHORTS["lost"]


def _split(panel: Panel, scored: Scored) -> tuple[Places, Places]:
    places = scored.places.max(initial=0) - scored.places if scored.risk else scored.places
    return places[panel.among(*_KEPT)], places[panel.among(*_LOST)]


def _too_few(panel: Panel) -> tuple[int, str | None]:
    """Return the number of accounts with a label, and the reason for no interval, or None."""
    sides = [panel.part(panel.among(*classes)) for classes in (_KEPT, _LOST)]
    m, n = (side.accounts for side in sides)
    counted = m + n
    if panel.account_of is not None:
        # An account may be kept on one date and lost on the next.
        counted = panel.part(panel.among(*_KEPT, *_LOST)).accounts
    if min(m, n) == 0:
        return counted, "one class only"
    few = min(m, n) < _LEAST
    return counted, f"too few: {m:,} retained and {n:,} lost" if few else None


def _variance(panel: Panel, ups: Floats, downs: Floats) -> float:
    """Return the variance of an AUC, or of a difference of two, from the accounts' placements.

    DeLong's; where accounts have several rows, Obuchowski's, which sums over the rows of each.
    """
    if panel.account_of is None:
        return float(ups.var(ddof=1) / len(ups) + downs.var(ddof=1) / len(downs))
    both, pulls = [], []
    for classes, values in ((_KEPT, ups), (_LOST, downs)):
        rows = panel.among(*classes)
        whose = panel.account_of[rows]
        sums = np.bincount(whose, weights=values - values.mean(), minlength=panel.accounts)
        pulls.append(sums / len(values))
        there = len(np.unique(whose))
        both.append(there / (there - 1) * float(pulls[-1] @ pulls[-1]))
    shared = 2 * float(pulls[0] @ pulls[1]) * panel.accounts / (panel.accounts - 1)
    return max(0.0, sum(both) + shared)


def auc_interval(panel: Panel, scored: Scored, *, level: float) -> Interval:
    """Return the AUC of one score with its interval, on the logit scale."""
    accounts, reason = _too_few(panel)
    if reason == "one class only":
        return unknown(None, level=level, accounts=accounts, reason=reason)
    ups, downs = placements(*_split(panel, scored))
    value = float(ups.mean())
    if reason is not None:
        return unknown(value, level=level, accounts=accounts, reason=reason)
    variance = _variance(panel, ups, downs)
    if not 0 < value < 1 or variance <= 0:
        reason = "no account stands out of order, so there is nothing to judge the spread by"
        return unknown(value, level=level, accounts=accounts, reason=reason)
    return from_normal(value, math.sqrt(variance), level=level, accounts=accounts, logit=True)


def auc_gain(panel: Panel, *, level: float) -> Interval:
    """Return the AUC of the second score minus that of the first, with accounts paired."""
    accounts, reason = _too_few(panel)
    if reason == "one class only":
        return unknown(None, level=level, accounts=accounts, reason=reason)
    old, new = (placements(*_split(panel, side)) for side in (panel.before, panel.after))
    ups, downs = new[0] - old[0], new[1] - old[1]
    value = float(new[0].mean() - old[0].mean())
    if reason is not None:
        return unknown(value, level=level, accounts=accounts, reason=reason)
    # Accounts are paired, so the variance is that of the differences of their placements.
    variance = _variance(panel, ups, downs)
    return from_normal(value, math.sqrt(variance), level=level, accounts=accounts)


# ---- metrics of the top share --------------------------------------------------------------------

#: Share of accounts on each side of a boundary that estimates the mean amount at it.
_NEIGHBOURS = 0.05
_QUARTER = 0.25


@dataclass(frozen=True)
class Boundary:
    """One metric of the top share, and of the bottom share where it has one.

    Parameters
    ----------
    cohort
        Name of the cohort; for LTV, only its accounts with LTV above 0 count.
    share
        Share of the cohort beyond each boundary, in (0, 1).
    upper, lower
        Columns of the panel: the numerator sums `upper` over the top share, the denominator sums
        `lower` over the accounts given by `over`.
    over
        ``all``, the ``top`` share, or the ``bottom`` share.
    """

    key: str
    cohort: str
    share: float
    upper: Literal["start", "end", "ltv"]
    lower: Literal["start", "end", "ltv"]
    over: Literal["all", "top", "bottom"]

    def counted(self, panel: Panel) -> NDArray[np.bool_]:
        """Return whether each account is in the cohort, shape (N,)."""
        rows = panel.among(*COHORTS[self.cohort])
        return rows & (known(panel.ltv) > 0) if self.upper == "ltv" else rows


BOUNDARIES = (
    Boundary("revenue_capture_at_20", "paying", TOP_SHARE, "start", "start", over="all"),
    Boundary("nrr_at_20", "paying", TOP_SHARE, "end", "start", over="top"),
    Boundary("tier_separation", "current", _QUARTER, "ltv", "ltv", over="bottom"),
)


class _Side:
    """One score's order of a cohort, and the metric's values and influences under any weights."""

    def __init__(self, metric: Boundary, panel: Panel, scored: Scored) -> None:
        self._metric = metric
        self._places = -scored.places if scored.risk else scored.places
        self._order = np.argsort(-self._places, kind="stable")
        self._upper, self._lower = (
            known(getattr(panel, name)) for name in (metric.upper, metric.lower)
        )
        self._near_top = self._neighbours(self._order)
        self._near_bottom = self._neighbours(self._order[::-1])

    def _beyond(self, weights: Floats, order: NDArray[np.intp]) -> Floats:
        """Return the fraction of each account beyond the boundary, shape (b, N); ties are split."""
        reached = np.cumsum(weights[:, order], axis=1)
        target = self._metric.share * reached[:, -1:]
        edge = self._places[order][np.argmax(reached >= target, axis=1)][:, None]
        first = self._places[order[0]]
        ahead = self._places > edge if first >= self._places[order[-1]] else self._places < edge
        tied = self._places == edge
        weight = (weights * tied).sum(axis=1, keepdims=True)
        left = target - (weights * ahead).sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            fit = np.where(weight > 0, left / weight, 0.0)
        shares: Floats = ahead + tied * fit
        return shares

    def _neighbours(self, order: NDArray[np.intp]) -> tuple[float, float]:
        """Return the means of the upper and lower columns over the accounts near a boundary."""
        n = len(order)
        middle, reach = self._metric.share * n, max(5.0, _NEIGHBOURS * n)
        near = order[max(0, int(middle - reach)) : int(middle + reach) + 1]
        return float(self._upper[near].mean()), float(self._lower[near].mean())

    def value(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the metric, shape (b,), and every account's influence on it, shape (b, N)."""
        share, over = self._metric.share, self._metric.over
        top = self._beyond(weights, self._order)
        upper = top * self._upper
        if over == "all":
            lower = np.broadcast_to(self._lower, top.shape)
            shifted = np.zeros_like(top)
        elif over == "top":
            lower = top * self._lower
            shifted = self._near_top[1] * (top - share)
        else:
            bottom = self._beyond(weights, self._order[::-1])
            lower = bottom * self._lower
            shifted = self._near_bottom[1] * (bottom - share)
        above = (weights * upper).sum(axis=1, keepdims=True)
        below = (weights * lower).sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = above / below
            pulls = upper - self._near_top[0] * (top - share) - value * (lower - shifted)
            return value[:, 0], pulls / below


@dataclass(frozen=True)
class Shares:
    """A boundary metric of one or two scores: values, standard errors, and their replicates.

    Parameters
    ----------
    values, deviations
        Shape (3,): before, after, and after minus before.
    drawn, drawn_deviations
        Shape (3, B): the same in each replicate.
    pulls
        Shape (A,) each: the influence of each account on each of the three values.
    accounts
        Number of accounts in the cohort.
    """

    values: Floats
    deviations: Floats
    drawn: Floats
    drawn_deviations: Floats
    pulls: tuple[Floats, ...]
    accounts: int

    def interval(self, which: int, *, level: float) -> Interval:
        """Return the interval of before (0), after (1) or the gain (2)."""
        accounts, value = self.accounts, float(self.values[which])
        if not np.isfinite(value):
            return unknown(None, level=level, accounts=accounts, reason=NOTHING)
        deviation = float(self.deviations[which])
        if which == 2 and deviation == 0 and value == 0:
            return Interval(0.0, 0.0, 0.0, level, accounts)
        drawn, pulls = (self.drawn[which], self.drawn_deviations[which]), self.pulls[which]
        return resampled(value, deviation, *drawn, pulls, level=level, accounts=accounts)


def drawn_shares(metric: Boundary, panel: Panel, chunks: Iterable[Floats]) -> Shares:
    """Resample one boundary metric.

    Parameters
    ----------
    metric
        One of `BOUNDARIES`, whose columns the table has.
    panel
        N rows.
    chunks
        Weights, shape (b, N) each.

    Notes
    -----
    Cost: some thirty passes over B x N.
    """
    rows = metric.counted(panel)
    cohort = panel.part(rows)
    if cohort.accounts == 0:
        nothing = np.full(3, np.nan)
        return Shares(nothing, nothing, nothing[:, None], nothing[:, None], (), 0)
    sides = [_Side(metric, cohort, side) for side in (cohort.before, cohort.after)]
    values, deviations, pulls = _both(cohort, sides, np.ones((1, cohort.rows)))
    drawn = [_both(cohort, sides, w[:, rows])[:2] for w in chunks]
    return Shares(
        values=values[:, 0],
        deviations=deviations[:, 0],
        drawn=np.concatenate([np.empty((3, 0)), *(d[0] for d in drawn)], axis=1),
        drawn_deviations=np.concatenate([np.empty((3, 0)), *(d[1] for d in drawn)], axis=1),
        pulls=tuple(each[0] for each in pulls),
        accounts=cohort.accounts,
    )


def _both(
    panel: Panel, sides: list[_Side], weights: Floats
) -> tuple[Floats, Floats, tuple[Floats, ...]]:
    """Return values, standard errors, shape (3, b), and influences: before, after, difference."""
    (old, pulls), (new, others) = (side.value(weights) for side in sides)
    values = np.stack([old, new, new - old])
    moved = tuple(map(panel.per_account, (pulls, others, others - pulls)))
    own = panel.of_accounts(weights)
    squares = [(own * p * p).sum(axis=1) for p in moved]
    return values, np.sqrt(np.stack(squares)), moved
