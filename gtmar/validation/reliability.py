"""Probabilities of leaving by score: fitted on the accounts searched, tested on other accounts."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.data.outcomes import Movement
from gtmar.engine.local import LocalEvaluator
from gtmar.plain_data import PlainData, percent
from gtmar.spec.calibration import PROBABILITY_UNITS, Calibration, CalibrationStep
from gtmar.spec.ids import calibration_of, points_id
from gtmar.spec.model import SCORE_UNITS
from gtmar.stats.interval import Interval, from_normal
from gtmar.stats.isotonic import Pool, few_steps, pooled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

    Counts = NDArray[np.int64]

__all__ = ["Reliability", "calibrated", "reliability"]

#: Most steps of a table, so that it stays readable, and fewest accounts of a step.
MOST_STEPS, LEAST_ACCOUNTS = 20, 50
#: Groups of about equal size over which the calibration error is computed.
_GROUPS = 10
_DRAWS = 1_000


def _counted(
    matrix: AccountMatrix, spec: ScoringSpec, scores: Counts | None = None
) -> tuple[Counts, Counts]:
    """Return the number of accounts that left, and of those with a label, by score value."""
    if scores is None:
        evaluator = LocalEvaluator(matrix, spec, threads=1)
        scores = evaluator.scores([term.weight for term in spec.terms])
    top = spec.max_score * SCORE_UNITS + 1
    lost = matrix.rows(Movement.LOST_NONPAYING, Movement.LOST_PAYING)
    both = matrix.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING)
    left, labelled = (np.bincount(scores[rows], minlength=top) for rows in (lost, both))
    return left.astype(np.int64), labelled.astype(np.int64)


def calibrated(
    matrix: AccountMatrix, spec: ScoringSpec, on: date, scores: Counts | None = None
) -> Calibration | None:
    """Fit the probability of leaving to the scores of accounts.

    Parameters
    ----------
    matrix
        The accounts to fit on: those searched, never the holdout. Accounts without a label and
        former ones are left out.
    spec
        Its weights give the scores.
    on
        The date of the fit, which is stored in the table.
    scores
        Scores by the spec's weights, int64, shape (N,), in hundredths of a point; None computes
        them.

    Returns
    -------
    Calibration or None
        At most 20 steps, monotone in the direction of the spec's orientation, of 50 accounts or
        more each (a single step may have fewer); None if nobody left, or nobody stayed.

    Notes
    -----
    Isotonic regression: neighbouring scores whose shares are in the wrong order are pooled. It
    counts whole accounts, so it depends on neither row order, nor engine, nor machine. One pass
    over the accounts.
    """
    left, labelled = _counted(matrix, spec, scores)
    total, gone = int(labelled.sum()), int(left.sum())
    if not 0 < gone < total:
        return None
    counts = (
        Pool(int(value), int(left[value]), int(labelled[value]))
        for value in np.flatnonzero(labelled)
    )
    monotone = pooled(counts, rising=spec.orientation == "risk")
    steps = few_steps(monotone, most=MOST_STEPS, least=LEAST_ACCOUNTS)
    lows = [0, *(step.low for step in steps[1:])]
    return Calibration(
        fitted=on,
        points_id=points_id(spec),
        base_rate=round(gone / total, 4),
        steps=tuple(
            CalibrationStep(from_=low / SCORE_UNITS, accounts=step.total, left=step.hits)
            for low, step in zip(lows, steps, strict=True)
        ),
    )


@dataclass(frozen=True)
class Reliability(PlainData):
    """The outcomes of accounts compared with the probabilities that a score gave them."""

    _beside = ("off", "sentence")

    #: Accounts with a label; of a table of several dates, their rows.
    accounts: int
    #: Mean probability of leaving, and the share that left.
    predicted: float
    observed: float
    #: Observed less predicted; the error of the fitted table is in its width.
    difference: Interval
    #: Mean squared error of the probabilities, and of the base rate for everyone.
    brier: float
    brier_of_base_rate: float
    #: Mean distance of predicted and observed over ten groups of accounts, and what 95 in 100 such
    #: tables stay below where every probability is right.
    calibration_error: Interval
    by_chance: float
    #: Whether accounts have several rows, of several dates.
    several: bool = False

    @property
    def off(self) -> bool:
        """Whether predicted and observed differ by more than chance gives."""
        return self.difference.above_zero or self.difference.below_zero

    @property
    def sentence(self) -> str:
        """Say how the probabilities did on these accounts."""
        text = (
            f"Probabilities of leaving: {percent(self.predicted, 1)} on average, "
            f"{percent(self.observed, 1)} of "
            f"{self.accounts:,} {'rows' if self.several else 'accounts'} left"
        )
        if not self.off:
            return f"{text}; the difference is within chance."
        way = "too low" if self.difference.above_zero else "too high"
        return f"{text}: they are {way}, by more than chance gives."

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        own = super().as_json()
        return own if self.several else {k: v for k, v in own.items() if k != "several"}

    def to_json(self) -> str:
        """Return everything as JSON text, the form in a journal."""
        return json.dumps(self.as_json(), sort_keys=True)


def reliability(
    matrix: AccountMatrix, spec: ScoringSpec, *, level: float = 0.95
) -> Reliability | None:
    """Compare a spec's probabilities with the outcomes of accounts.

    Parameters
    ----------
    matrix
        Accounts that the probabilities were not fitted on.
    level
        Confidence level of the intervals, in (0, 1).

    Returns
    -------
    Reliability or None
        None if the spec has no probabilities for its present scores, or no account has a label.

    Notes
    -----
    The calibration error is computed over ten groups of about equal size, with equal probabilities
    in one group (Naeini, Cooper & Hauskrecht 2015). Its interval is the basic bootstrap's, with a
    fixed seed. Where accounts have several rows, whole accounts are drawn, and the difference's
    standard error is that of sums over each account's rows.
    """
    calibration = calibration_of(spec)
    if calibration is None:
        return None
    left, labelled = _counted(matrix, spec)
    if not labelled.sum():
        return None
    starts = np.array([step.low for step in calibration.steps])
    step_of = np.searchsorted(starts, np.arange(len(labelled)), side="right") - 1
    count = len(starts)
    gone = np.bincount(step_of, weights=left, minlength=count).astype(np.float64)
    there = np.bincount(step_of, weights=labelled, minlength=count).astype(np.float64)
    chances = np.array([step.units for step in calibration.steps]) / PROBABILITY_UNITS
    accounts = int(there.sum())
    predicted, observed = float(there @ chances) / accounts, float(gone.sum()) / accounts
    own, fitted = _variances(there / accounts, accounts, calibration.steps)
    groups = _groups(there, chances)
    error = float(_error(gone[None], there[None], chances, groups)[0])
    generator = np.random.Generator(np.random.Philox(key=[0, accounts]))
    lost: NDArray[Any]
    counted: NDArray[Any]
    right: NDArray[Any]
    if matrix.account_of is None:
        cells = np.concatenate([gone, there - gone]) / accounts
        drawn = generator.multinomial(accounts, cells / cells.sum(), size=_DRAWS)
        lost, counted = drawn[:, :count], drawn[:, :count] + drawn[:, count:]
        right = generator.binomial(there.astype(np.int64), chances, size=(_DRAWS, count))
    else:
        each = _by_account(matrix, spec, step_of, count)
        pulls = (each[0] - each[1] * (chances + observed - predicted)).sum(axis=1) / accounts
        # The design effect, also for the table's fit, as its accounts had several rows as well.
        effect = max(1.0, float(pulls @ pulls) / own)
        own, fitted = own * effect, fitted * effect
        whole = len(pulls)
        times = generator.multinomial(whole, np.full(whole, 1 / whole), size=_DRAWS)
        lost, counted = times @ each[0], times @ each[1]
        # Deviations by chance if all probabilities are right: each account's deviations from the
        # shares of the steps, with random signs.
        rates = gone / np.maximum(there, 1)
        signs = 2.0 * generator.integers(0, 2, size=(_DRAWS, whole)) - 1
        right = there * chances + signs @ (each[0] - each[1] * rates)
    resampled = _error(lost.astype(np.float64), counted.astype(np.float64), chances, groups)
    by_chance = _error(right.astype(np.float64), np.tile(there, (_DRAWS, 1)), chances, groups)
    spread = math.sqrt(own + fitted)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Reliability(
        accounts=accounts,
        predicted=predicted,
        observed=observed,
        difference=from_normal(observed - predicted, spread, level=level, accounts=accounts),
        brier=_brier(gone, there, chances),
        brier_of_base_rate=_brier(gone, there, np.full(count, calibration.base_rate)),
        calibration_error=Interval(
            error,
            max(0.0, 2 * error - float(high)),
            max(0.0, 2 * error - float(low)),
            level,
            accounts,
        ),
        by_chance=float(np.quantile(by_chance, 0.95)),
        several=matrix.account_of is not None,
    )


def _by_account(
    matrix: AccountMatrix, spec: ScoringSpec, step_of: NDArray[np.intp], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows that left, and those with a label, by account and step; shape (A, steps)."""
    assert matrix.account_of is not None  # set in a table of several dates
    scores = LocalEvaluator(matrix, spec, threads=1).scores([term.weight for term in spec.terms])
    both = matrix.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING)
    lost = matrix.rows(Movement.LOST_NONPAYING, Movement.LOST_PAYING)
    accounts, whose = np.unique(matrix.account_of[both], return_inverse=True)
    cell, size = whose * count + step_of[scores[both]], len(accounts) * count
    # Among the labelled rows, those of accounts that left come first.
    gone = np.bincount(cell[: lost.stop - lost.start], minlength=size)
    there = np.bincount(cell, minlength=size)
    left, labelled = (counted.reshape(-1, count).astype(np.float64) for counted in (gone, there))
    return left, labelled


def _variances(
    shares: NDArray[np.float64], accounts: int, steps: Sequence[CalibrationStep]
) -> tuple[float, float]:
    """Return the variance of observed less predicted if the probabilities are right, in two parts.

    The first part is from the accounts at hand, the second from those of the fit.
    """
    # Shares are smoothed, as a step in which all or none left still varies.
    smoothed = [(step.left + 0.5) / (step.accounts + 1) for step in steps]
    each = np.array([p * (1 - p) for p in smoothed])
    fitted = each / np.array([step.accounts for step in steps])
    return float(shares @ each) / accounts, float(shares**2 @ fitted)


def _groups(there: NDArray[np.float64], chances: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the group of each step; groups have about equal size, the lowest probability first."""
    order = np.argsort(chances, kind="stable")
    middle = np.cumsum(there[order]) - there[order] / 2
    groups = np.empty(len(there), dtype=np.intp)
    groups[order] = np.minimum(_GROUPS - 1, (_GROUPS * middle / there.sum()).astype(np.intp))
    return groups


def _error(
    gone: NDArray[np.float64],
    there: NDArray[np.float64],
    chances: NDArray[np.float64],
    groups: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return the calibration error of each of B tables, given as counts of shape (B, steps)."""
    inside = np.equal.outer(groups, np.arange(_GROUPS)).astype(np.float64)
    apart = np.abs(gone @ inside - (there * chances) @ inside).sum(axis=1)
    error: NDArray[np.float64] = apart / there.sum(axis=1)
    return error


def _brier(
    gone: NDArray[np.float64], there: NDArray[np.float64], chances: NDArray[np.float64]
) -> float:
    squared = gone * (1 - chances) ** 2 + (there - gone) * chances**2
    return float(squared.sum() / there.sum())
