"""Logistic regression with a penalty, by Newton's method: numpy alone, for encoders and starts.

The optimum is unique, and is found far below the last digit that is given back. So neither the
order of rows nor the machine changes a coefficient, though sums of doubles differ on the way there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Blocks = Callable[[], Iterable[tuple[Doubles, Doubles]]]

__all__ = ["Fit", "fit_logistic"]

_MOST_ROUNDS = 100
#: A step whose largest part is below this has arrived; what is given back is rounded well above.
_ARRIVED, _DIGITS = 1e-7, 6
#: Beyond this a probability is 0 or 1 to all digits.
_MOST_LOGIT = 35.0
#: Gain in penalised log-likelihood, relative to its size, below which sums of doubles say nothing.
_NOISE = 1e-12


@dataclass(frozen=True)
class Fit:
    """A regression that was fitted: P coefficients and what is known of them.

    Parameters
    ----------
    coefficients
        Change of the log-odds per unit of each predictor, shape (P,), rounded to six decimals.
    covariance
        Of them, the penalty taken as prior knowledge; shape (P, P).
    place
        Intercept and coefficients as they were found, shape (P + 1,): where another fit may begin.
    """

    coefficients: Doubles
    covariance: Doubles
    place: Doubles


def fit_logistic(blocks: Blocks, penalty: Doubles, *, start: Doubles | None = None) -> Fit:
    """Fit an intercept and P coefficients by penalised maximum likelihood.

    Parameters
    ----------
    blocks
        Gives the table a block of rows at a time, anew at each call: predictors of shape (N, P),
        outcomes of shape (N,), in [0, 1], not all at one end; a share is so much of an event.
    penalty
        Positive definite, shape (P, P): half of its quadratic form is taken off the log-likelihood.
    start
        Where to begin, shape (P + 1,); None for zeros. Changes nothing but the cost.

    Notes
    -----
    Newton's steps on a strictly concave function, halved until they rise. Cost: some ten passes
    over the table, each of N x P^2 operations.

    References
    ----------
    McCullagh and Nelder, Generalized Linear Models, 1989, chapter 4; le Cessie and van Houwelingen,
    Ridge estimators in logistic regression, 1992.
    """
    width = len(penalty)
    whole = np.zeros((width + 1, width + 1))
    whole[1:, 1:] = penalty
    now = np.zeros(width + 1) if start is None else start
    height, slope, bend = _at(now, blocks, whole)
    for _ in range(_MOST_ROUNDS):
        step = np.linalg.solve(bend, slope)
        while np.abs(step).max() >= _ARRIVED:
            reached, *there = _at(now + step, blocks, whole)
            if reached >= height - _NOISE * abs(height):
                break
            step = step / 2
        now = now + step
        if np.abs(step).max() < _ARRIVED:
            break
        height, (slope, bend) = reached, there
    # Adding 0 turns -0 into 0.
    rounded: Doubles = np.round(now[1:], _DIGITS) + 0.0
    return Fit(rounded, np.linalg.inv(bend)[1:, 1:].astype(np.float64), now)


def _at(place: Doubles, blocks: Blocks, whole: Doubles) -> tuple[float, Doubles, Doubles]:
    """Return penalised log-likelihood, its slope and its bend (negated) at a place, (P + 1,)."""
    pulled = whole @ place
    height = -0.5 * float(place @ pulled)
    slope, bend = -pulled, whole.copy()
    for predictors, outcomes in blocks():
        logit = np.clip(place[0] + predictors @ place[1:], -_MOST_LOGIT, _MOST_LOGIT)
        chance = 1 / (1 + np.exp(-logit))
        height += float((outcomes * logit - np.logaddexp(0, logit)).sum())
        rest = outcomes - chance
        slope[0] += rest.sum()
        slope[1:] += predictors.T @ rest
        spread = chance * (1 - chance)
        weighted = predictors * spread[:, None]
        bend[0, 0] += spread.sum()
        cross = weighted.sum(axis=0)
        bend[0, 1:] += cross
        bend[1:, 0] += cross
        bend[1:, 1:] += predictors.T @ weighted
    return height, slope, bend
