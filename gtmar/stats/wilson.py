"""Intervals that follow from counts alone."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

__all__ = ["wilson"]


def wilson(successes: float, trials: float, *, level: float = 0.95) -> tuple[float, float] | None:
    """Return Wilson's score interval of a share.

    Parameters
    ----------
    successes
        Accounts that did, in [0, trials].
    trials
        Accounts asked about.
    level
        Probability with which the interval covers the truth, in (0, 1).

    Returns
    -------
    tuple of float or None
        Lower and upper end, in [0, 1]; None without trials.

    Notes
    -----
    It takes accounts as independent draws, and says nothing about weights having been chosen on
    these very accounts.

    References
    ----------
    Wilson 1927; Brown, Cai & DasGupta 2001.

    Examples
    --------
    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if not trials:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2)
    square = z * z
    share = successes / trials
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    spread = share * (1 - share) / trials + square / (4 * trials * trials)
    half = z * sqrt(spread) / (1 + square / trials)
    # Rounding can leave the ends a unit outside of what they can be.
    return max(0.0, middle - half), min(1.0, middle + half)
