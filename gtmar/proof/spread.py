"""How concentrated MRR is in few tiers, with intervals: from the same sums as ARPA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gtmar.proof.interval import Interval, from_students, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.proof.ratios import Cells

    Floats = NDArray[np.float64]

__all__ = ["concentration"]

#: Paying accounts below which there is no interval.
LEAST = 50


def concentration(arpa: Cells, *, level: float) -> tuple[Interval, Interval, Interval]:
    """Return HHI before, after and the gain.

    Parameters
    ----------
    arpa
        Sums of ARPA, whose y is start MRR.
    level
        Probability in (0, 1).
    """
    accounts = int(arpa.counted.sum())
    values, deviations = _hhi(arpa.known[None])
    drawn, drawn_deviations = _hhi(arpa.drawn)
    found = []
    for place in range(3):
        value, deviation = float(values[place, 0]), float(deviations[place, 0])
        if not np.isfinite(value):
            reason = "nothing to divide by"
            found.append(unknown(None, level=level, accounts=accounts, reason=reason))
        elif deviation == 0 and value == 0:
            found.append(Interval(0.0, 0.0, 0.0, level, accounts))
        elif accounts < LEAST or deviation == 0:
            reason = f"too few: {accounts:,} paying accounts in as many tiers as there are"
            found.append(unknown(value, level=level, accounts=accounts, reason=reason))
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                students = (drawn[place] - value) / drawn_deviations[place]
            found.append(from_students(value, deviation, students, level=level, accounts=accounts))
    return found[0], found[1], found[2]


def _hhi(cells: Floats) -> tuple[Floats, Floats]:
    """HHI before, after and the difference, and their standard errors; shape (3, B).

    An account of MRR x in tier t pulls HHI by ``2 x (p_t - sum of p²)`` over all MRR.
    """
    money, squares = cells[..., 1], cells[..., 4]
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = money.sum(axis=(1, 2))[:, None]
        old, new = money.sum(axis=2) / whole, money.sum(axis=1) / whole
        before, after = (old**2).sum(axis=1), (new**2).sum(axis=1)
        pull = np.broadcast_to((old - before[:, None])[:, :, None], squares.shape)
        other = np.broadcast_to((new - after[:, None])[:, None, :], squares.shape)
        values = np.stack([before, after, after - before])
        variances = [(squares * p * p).sum(axis=(1, 2)) for p in (pull, other, other - pull)]
        deviations = 2 * np.sqrt(np.stack(variances)) / whole[:, 0]
    return values * 10_000, deviations * 10_000
