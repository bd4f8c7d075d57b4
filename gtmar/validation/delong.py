"""The AUC with its standard error, and the difference of two AUCs over the same accounts: DeLong.

References
----------
DeLong, DeLong & Clarke-Pearson 1988; Sun & Xu 2014 for the way by mid-ranks; Obuchowski 1997 for
accounts that have several rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gtmar.engine.cohorts import COHORTS
from gtmar.stats.interval import Interval, from_normal, unknown
from gtmar.stats.paired_auc import placements

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.validation.paired_scores import Panel, Scored

    Floats = NDArray[np.float64]
    Places = NDArray[np.intp]

__all__ = ["auc_gain", "auc_interval"]

#: Accounts of either class below which DeLong's variance is not to be trusted.
LEAST = 10
_KEPT, _LOST = COHORTS["retained"], COHORTS["lost"]


def _split(panel: Panel, scored: Scored) -> tuple[Places, Places]:
    places = scored.places.max(initial=0) - scored.places if scored.risk else scored.places
    return places[panel.among(*_KEPT)], places[panel.among(*_LOST)]


def _too_few(panel: Panel) -> tuple[int, str | None]:
    """Return the accounts that the value rests on, and why they give no interval, if so."""
    sides = [panel.part(panel.among(*classes)) for classes in (_KEPT, _LOST)]
    m, n = (side.accounts for side in sides)
    counted = m + n
    if panel.account_of is not None:
        # An account may be kept on one date and lost on the next.
        counted = panel.part(panel.among(*_KEPT, *_LOST)).accounts
    if min(m, n) == 0:
        return counted, "one class only"
    few = min(m, n) < LEAST
    return counted, f"too few: {m:,} retained and {n:,} lost" if few else None


def _variance(panel: Panel, ups: Floats, downs: Floats) -> float:
    """Return the variance of the mean of the kept accounts' placements, and so of the lost ones'.

    Where accounts have several rows, it is that of sums over each account's: Obuchowski's, which
    with a row an account is DeLong's.
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
    """Return the AUC of the second score minus that of the first, accounts paired."""
    accounts, reason = _too_few(panel)
    if reason == "one class only":
        return unknown(None, level=level, accounts=accounts, reason=reason)
    old, new = (placements(*_split(panel, side)) for side in (panel.before, panel.after))
    ups, downs = new[0] - old[0], new[1] - old[1]
    value = float(new[0].mean() - old[0].mean())
    if reason is not None:
        return unknown(value, level=level, accounts=accounts, reason=reason)
    # The variance of a difference of means is that of the accounts' own differences.
    variance = _variance(panel, ups, downs)
    return from_normal(value, math.sqrt(variance), level=level, accounts=accounts)
