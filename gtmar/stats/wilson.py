"""Intervals that follow from counts alone."""

from __future__ import annotations

from math import sqrt

__all__ = ["wilson"]

#: Standard normal quantile of 0.975: intervals are 95 %.
_Z = 1.959963984540054


def wilson(successes: int, trials: int) -> tuple[float, float] | None:
    """Return Wilson's 95 % score interval of a share.

    Parameters
    ----------
    successes
        Accounts that did, in [0, trials].
    trials
        Accounts asked about.

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
    square = _Z * _Z
    share = successes / trials
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    spread = share * (1 - share) / trials + square / (4 * trials * trials)
    half = _Z * sqrt(spread) / (1 + square / trials)
    # Rounding can leave the ends a unit outside of what they can be.
    return max(0.0, middle - half), min(1.0, middle + half)
