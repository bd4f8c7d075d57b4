"""The interval around an estimate, and the formulas that build one.

Normal, Wilson's and Student's intervals, delete-a-group jackknife and studentised bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from gtmar.plain_data import PlainData, digits
from gtmar.stats import LEAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "NOTHING",
    "TOO_FEW",
    "Interval",
    "effective_size",
    "freedom",
    "from_groups",
    "from_normal",
    "from_proportion",
    "from_students",
    "level_of",
    "reading_of",
    "resampled",
    "student_ends",
    "student_quantile",
    "too_few",
    "unknown",
    "wilson",
]

#: Reason for no interval: too many replicates have no standard error.
TOO_FEW = "too few accounts"
#: Reason for no value: the denominator is 0.
NOTHING = "nothing to divide by"
#: Share of replicates that may lack a standard error; with more, there is no interval.
_FAILED = 0.05
#: Degrees of freedom below which the expansion of Student's t is too inexact.
_LEAST_FREEDOM = 3.0
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval(PlainData):
    """An estimate and its confidence interval, of confidence `level` in (0, 1)."""

    #: The estimate; None where the metric has none.
    value: float | None
    #: Ends; None where there is no interval.
    low: float | None
    high: float | None
    level: float
    #: Accounts that the value rests on.
    accounts: int
    #: Why there is no interval; None where there is one.
    reason: str | None = None

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero; never without an interval."""
        return self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero; never without an interval."""
        return self.high is not None and self.high < 0

    @property
    def worded(self) -> str:
        """The value and the ends, to four digits; `none` where there is no value."""
        if self.value is None:
            return "none"
        if self.low is None or self.high is None:
            return digits(self.value, 4)
        return f"{digits(self.value, 4)} ({digits(self.low, 4)} to {digits(self.high, 4)})"

    def negated(self) -> Interval:
        """Return the interval of minus the value."""
        value, low, high = (None if v is None else -v for v in (self.value, self.high, self.low))
        return Interval(value, low, high, self.level, self.accounts, self.reason)

    def within(self, least: float, most: float) -> Interval:
        """Return the interval without what lies below `least` or above `most`.

        No true value lies there, so that it covers the true one as often.
        """
        if self.low is None or self.high is None or least <= self.low <= self.high <= most:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))


def reading_of(change: Interval, better: str) -> str:
    """Classify a change by its interval; `better` is the good direction: higher, lower or neither.

    Returns ``better``, ``worse`` or, if neither direction is good, ``moved`` where the whole
    interval lies on one side of 0; else ``no proven change``; ``unknown`` without an interval.
    """
    if change.low is None or change.high is None or change.value is None:
        return "unknown"
    if not (change.above_zero or change.below_zero):
        return "no proven change"
    if better == "neither":
        return "moved"
    return "better" if change.above_zero == (better == "higher") else "worse"


def level_of(looks: int) -> float:
    """Return the confidence level of intervals in the n-th look at a holdout: 1 - 0.05 / n.

    Examples
    --------
    >>> level_of(1), level_of(2)
    (0.95, 0.975)
    """
    return 1 - 0.05 / max(1, looks)


def too_few(accounts: int) -> str:
    """Return the reason for no interval of so few accounts.

    Examples
    --------
    >>> too_few(1), too_few(1_200)
    ('too few: 1 account', 'too few: 1,200 accounts')
    """
    return f"too few: {accounts:,} account{'' if accounts == 1 else 's'}"


def unknown(value: float | None, *, level: float, accounts: int, reason: str) -> Interval:
    """Return a value without an interval, with the reason."""
    return Interval(value, None, None, level, accounts, reason)


def from_normal(
    value: float, deviation: float, *, level: float, accounts: int, logit: bool = False
) -> Interval:
    """Return the normal interval around a value whose standard error is `deviation`.

    With `logit`, it is built on the logit scale, so that the interval of a value in (0, 1) stays
    inside.
    """
    z = _NORMAL.inv_cdf((1 + level) / 2)
    if not logit:
        return Interval(value, value - z * deviation, value + z * deviation, level, accounts)
    centre = math.log(value / (1 - value))
    reach = z * deviation / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(centre + side * reach))) for side in (-1, 1))
    return Interval(value, low, high, level, accounts)


def wilson(successes: float, trials: float, *, level: float = 0.95) -> tuple[float, float] | None:
    """Return Wilson's score interval of a share, ends in [0, 1]; None without trials.

    It assumes that accounts are independent draws, and doesn't correct for weights that were chosen
    on the same accounts. Wilson 1927; Brown, Cai & DasGupta 2001.

    Examples
    --------
    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if not trials:
        return None
    z = _NORMAL.inv_cdf((1 + level) / 2)
    square = z * z
    share = successes / trials
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    spread = share * (1 - share) / trials + square / (4 * trials * trials)
    half = z * math.sqrt(spread) / (1 + square / trials)
    # Rounding can push an end just outside of [0, 1], or past a share of 0 or 1.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def from_proportion(
    successes: float, accounts: float, *, level: float, effective: float | None = None
) -> Interval:
    """Return Wilson's interval of the share of `successes` among `accounts`, which is above 0.

    Both may be fractional, as tied accounts can belong to a tier in part. `effective` is the
    effective sample size, see `effective_size`; None for `accounts`.

    Examples
    --------
    >>> found = from_proportion(9, 10, level=0.95)
    >>> round(found.low, 4), round(found.high, 4)
    (0.5958, 0.9821)
    """
    share = successes / accounts
    sized = (successes, accounts) if effective is None else (share * effective, effective)
    low, high = wilson(*sized, level=level) or (None, None)
    return Interval(share, low, high, level, round(accounts))


def effective_size(pulls: Floats, share: float, rows: float, *, level: float) -> float:
    """Return the effective sample size of a share: independent rows with the same standard error.

    `pulls`, shape (A,), are the influence of each account, all its rows together, on the share; the
    size is A if it is 0 or 1, and `rows` at most. Where few accounts make up the standard error, it
    is itself uncertain, so the size is divided by the squared ratio of Student's quantile to the
    normal one. Kish 1965; Korn & Graubard 1998.

    Examples
    --------
    >>> round(effective_size(np.array([0.01, -0.01] * 50), 0.5, 400.0, level=0.95), 6)
    25.0
    """
    variance = float(pulls @ pulls)
    if not 0 < share < 1 or variance <= 0:
        return float(len(pulls))
    probability = (1 + level) / 2
    wider = student_quantile(probability, freedom(pulls)) / _NORMAL.inv_cdf(probability)
    return min(rows, share * (1 - share) / variance) / wider**2


def freedom(pulls: Floats) -> float:
    """Return Satterthwaite's degrees of freedom of a standard error, at least 3.

    `pulls`, shape (N,), are the influence of each account on the value. The degrees are twice the
    squared sum of squares over the variance of the sum of squares. Where a few large accounts make
    up most of the error, as they do with money, it is as uncertain as that of so few accounts.
    """
    squares = pulls * pulls
    total = float(squares.sum())
    own = float((squares * squares).sum()) / total**2 - 1 / max(1, int(np.count_nonzero(squares)))
    return max(_LEAST_FREEDOM, 2 / own) if own > 0 else math.inf


def student_quantile(probability: float, degrees: float) -> float:
    """Return a quantile of Student's t by the first terms of its expansion around the normal one.

    Abramowitz & Stegun 1964, 26.7.5. `degrees` should be 3 or more, and may be infinite.

    Examples
    --------
    >>> round(student_quantile(0.975, 10), 3)
    2.228
    """
    z = _NORMAL.inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def from_groups(
    value: float | None, left_out: Sequence[float], *, level: float, accounts: int
) -> Interval:
    """Return the delete-a-group jackknife's interval, by Student's t.

    `left_out`, shape (G,), holds the estimate without one of G groups of accounts, about equal in
    size, each; fewer than 4 groups give no interval. Quenouille 1956; Kott 2001, The delete-a-group
    jackknife.
    """
    groups = len(left_out)
    if value is None or groups < _LEAST_FREEDOM + 1:
        reason = "no value" if value is None else too_few(accounts)
        return unknown(value, level=level, accounts=accounts, reason=reason)
    values = np.asarray(left_out)
    spread = (groups - 1) / groups * float(((values - values.mean()) ** 2).sum())
    reach = student_quantile((1 + level) / 2, groups - 1) * math.sqrt(spread)
    return Interval(value, value - reach, value + reach, level, accounts)


def from_students(
    value: float,
    deviation: float,
    students: Floats,
    *,
    level: float,
    accounts: int,
    degrees: float = math.inf,
) -> Interval:
    """Return the wider, at each end, of the studentised bootstrap's interval and Student's.

    The bootstrap reflects skewness, but only as far as the sample shows it. Where few accounts make
    up the error, either interval alone is too narrow. Efron & Tibshirani 1993, chapter 12.

    Parameters
    ----------
    deviation, degrees
        The value's standard error, and its degrees of freedom.
    students
        Shape (B,): (replicate - value) / the replicate's own standard error; nan where a
        replicate has none. Empty for Student's interval alone, as large tables use it.
    """
    ends = student_ends(students, level=level, degrees=degrees)
    if ends is None:
        return unknown(value, level=level, accounts=accounts, reason=TOO_FEW)
    low, high = ends
    return Interval(value, value - high * deviation, value - low * deviation, level, accounts)


def resampled(
    value: float,
    deviation: float,
    values: Floats,
    deviations: Floats,
    pulls: Floats,
    *,
    level: float,
    accounts: int,
) -> Interval:
    """Return the interval of `from_students`; none, with a reason, if accounts are few or alike.

    Few are fewer than `LEAST`; alike are accounts that give a standard error of 0. `values` and
    `deviations`, shape (B,), are the estimates and standard errors of replicates; `pulls`, shape
    (A,), are the influence of each account on the value.
    """
    reason = too_few(accounts) if accounts < LEAST else None
    if reason is None and deviation == 0:
        reason = "no two accounts differ, so there is nothing to judge the spread by"
    if reason is not None:
        return unknown(value, level=level, accounts=accounts, reason=reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        students = np.where(deviations > 0, (values - value) / deviations, np.nan)
    degrees = freedom(pulls) if pulls.any() else math.inf
    return from_students(
        value, deviation, students, level=level, accounts=accounts, degrees=degrees
    )


def student_ends(students: Floats, *, level: float, degrees: float) -> tuple[float, float] | None:
    """Return the quantiles of the studentised error at both ends, in standard errors.

    The lower one is negative; see `from_students`. None if too many replicates have no standard
    error.
    """
    reach = student_quantile((1 + level) / 2, degrees)
    if not len(students):
        return -reach, reach
    known = students[np.isfinite(students)]
    if len(known) < (1 - _FAILED) * len(students):
        return None
    wider = reach / _NORMAL.inv_cdf((1 + level) / 2)
    ends = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) * wider
    return min(-reach, float(ends[0])), max(reach, float(ends[1]))
