"""The share that is gone after some days, where not everybody could be followed so long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.stats.interval import Interval, effective_size, from_proportion, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GONE", "THERE", "UNKNOWN", "share_gone"]

#: What is known of a row at a look.
THERE, GONE, UNKNOWN = 0, 1, -1


def share_gone(
    looks: NDArray[np.int8], whose: NDArray[np.integer[Any]], *, level: float
) -> Interval:
    """Estimate the share that is gone by the last look.

    Parameters
    ----------
    looks
        Shape (N, G): what was known of each row at each of G looks in the order of time: `THERE`,
        `GONE`, or `UNKNOWN`, from which on the row is censored.
    whose
        Shape (N,): the account that a row is of. Accounts are independent, their rows aren't.
    level
        Of the interval, in (0, 1).

    Returns
    -------
    Interval
        In [0, 1]; `accounts` are those known of at the first look. Without a value where nobody is
        at risk at a look.

    Notes
    -----
    Discrete Kaplan-Meier: one minus the product over looks of the share of those at risk who were
    not found gone. The standard error is Greenwood's, made of what each account's rows pull
    together (Lin & Wei 1989), and the interval is Wilson's on as many independent accounts as have
    that error (Korn & Graubard 1998), so that its ends stay in [0, 1] with no leaver at all too.
    """
    staying, stays = np.ones(len(looks), dtype=bool), 1.0
    pulls, followed = np.zeros(len(looks)), (looks[:, 0] != UNKNOWN)
    risk = followed
    for look in looks.T:
        if stays == 0:
            break
        risk = staying & (look != UNKNOWN)
        rows = int(risk.sum())
        if not rows:
            reason = "nobody was followed so long"
            return unknown(None, level=level, accounts=0, reason=reason)
        found = risk & (look == GONE)
        hazard = float(found.sum()) / rows
        if hazard < 1:
            pulls += np.where(risk, found - hazard, 0.0) / (rows * (1 - hazard))
        stays *= 1 - hazard
        staying = risk & ~found
    accounts = len(np.unique(whose[followed]))
    share = min(1.0, max(0.0, 1 - stays))
    _, of = np.unique(whose, return_inverse=True)
    together = np.bincount(of, weights=stays * pulls).astype(np.float64)
    if 0 < share < 1:
        size = effective_size(together, share, float(followed.sum()), level=level)
    else:
        size = float(len(np.unique(whose[risk])))
    return from_proportion(share * accounts, accounts, level=level, effective=size)
