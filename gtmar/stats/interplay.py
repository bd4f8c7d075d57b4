"""Tests for interactions of two columns that an additive model misses, in numpy alone.

Two columns are each cut into levels. A corner combines some levels of the one with some levels of
the other, such as few logins and a short tenure. Its score is the sum of the model's residuals in
the corner, less what changes of either column's own levels explain, in standard deviations. Random
outcomes drawn from the model give the distribution of the best score without any interaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = ["Corner", "LevelColumns", "Predicted", "proven_corners"]

#: Tables of random outcomes that are drawn from the model.
_DRAWS = 149
#: Ridge penalty on each level of a column.
_RIDGE = 0.1
#: Information, in accounts x chance x (1 - chance), that a corner must exceed to be scored.
_LEAST_INFORMATION = 0.5


@dataclass(frozen=True)
class LevelColumns:
    """A column of N accounts cut into L levels, and the S sides of it that a rule may require."""

    #: Each account's level, shape (N,), from 0.
    codes: NDArray[np.intp]
    #: Whether a side includes a level, shape (S, L), ones and zeros.
    sides: Doubles

    def indicators(self) -> Doubles:
        """Return each account's level as ones and zeros, shape (N, L)."""
        return np.asarray(np.eye(self.sides.shape[1])[self.codes], dtype=np.float64)

    def members(self, side: int) -> Doubles:
        """Return which accounts are on a side, shape (N,), ones and zeros."""
        return np.asarray(self.sides[side][self.codes], dtype=np.float64)


@dataclass(frozen=True)
class Corner:
    """One side of each of two columns, by index, and the score of their intersection."""

    columns: tuple[int, int]
    sides: tuple[int, int]
    #: In standard deviations; above 0 where the outcome is higher than predicted.
    score: float
    #: Share of tables without any interaction whose best corner scores at least as high, in (0, 1].
    p: float


@dataclass(frozen=True)
class Predicted:
    """A model fitted to N accounts: its predictors, predictions and outcomes."""

    #: Predictors, a constant among them, shape (N, P), and the ridge penalty on each, shape (P,).
    predictors: Doubles
    penalty: Doubles
    #: Predicted share of the outcome, shape (N,), in (0, 1).
    chance: Doubles
    #: Outcomes, shape (N,), in [0, 1].
    outcome: Doubles

    @property
    def information(self) -> Doubles:
        """Fisher information of each account about its log-odds, shape (N,)."""
        return self.chance * (1 - self.chance)

    def gains(self, members: Doubles, ridge: float) -> Doubles:
        """Return the approximate gain in log-likelihood of adding each of K predictors alone.

        `members` has shape (K, N), the result shape (K,); `ridge` penalises the new coefficient.
        """
        weighted = members * self.information
        cross = weighted @ self.predictors
        explained = np.einsum("kp,kp->k", cross, np.linalg.solve(self._bend, cross.T).T)
        left = np.maximum(np.einsum("kn,kn->k", weighted, members) - explained, 0) + ridge
        return np.asarray((members @ (self.outcome - self.chance)) ** 2 / left / 2)

    def gain(self, block: Doubles, ridge: float) -> float:
        """Return the same of K predictors at once, shape (N, K)."""
        weighted = block * self.information[:, None]
        cross = weighted.T @ self.predictors
        left = block.T @ weighted - cross @ np.linalg.solve(self._bend, cross.T)
        pull = (self.outcome - self.chance) @ block
        return float(pull @ np.linalg.solve(left + ridge * np.eye(len(pull)), pull)) / 2

    @property
    def _bend(self) -> Doubles:
        weighted = self.predictors * self.information[:, None]
        return np.asarray(self.predictors.T @ weighted + np.diag(self.penalty))

    def off(self, draws: int) -> Doubles:
        """Return residuals of the outcomes, then of each draw: shape (1 + draws, N).

        Events are drawn with the predicted chances. Where outcomes aren't all 0 or 1, the drawn
        residuals are scaled down to the variance of the real ones. What a refit of the model would
        explain is subtracted from them.
        """
        off = self.outcome - self.chance
        generator = np.random.Generator(np.random.Philox(key=[0, len(off)]))
        events = generator.random((draws, len(off))) < self.chance
        binary = bool(np.isin(self.outcome, (0, 1)).all())
        spread = 1.0 if binary else min(1.0, float((off**2).sum() / self.information.sum()))
        drawn = (events - self.chance) * np.sqrt(spread)
        fitted = np.linalg.solve(self._bend, self.predictors.T @ drawn.T)
        drawn -= (self.predictors @ fitted).T * self.information
        return np.concatenate([off[None], drawn])


def proven_corners(
    columns: Sequence[LevelColumns], model: Predicted, least: float, *, above: int
) -> list[Corner]:
    """Return the corners whose scores chance rarely reaches, best first; none for most tables.

    Parameters
    ----------
    columns
        F columns of the model's accounts.
    model
        Includes the effect of each column alone, so that its residuals show interactions.
    least
        Minimum number of accounts inside a corner, and outside of it.
    above
        A corner is proven if fewer than `above` of the 149 drawn tables have a best score as high:
        3 for a family-wise error of one table in fifty.

    Notes
    -----
    A score test of each corner against an additive model in both columns' levels. The distribution
    of the best score over drawn tables controls the error of all tests together (Westfall and
    Young, Resampling-based multiple testing, 1993). Cost: about 150 sums over N accounts for each
    of the F x (F - 1) / 2 pairs.
    """
    known = model.information
    # Rows to sum: accounts, information, residuals, and the residuals of each draw.
    rows = np.concatenate([[np.ones(len(known)), known], model.off(_DRAWS)])
    indicators = np.concatenate([column.indicators() for column in columns], axis=1)
    ends = np.cumsum([column.sides.shape[1] for column in columns])
    best, own = np.zeros(_DRAWS), []
    for i, one in enumerate(columns):
        level = [one.codes == code for code in range(one.sides.shape[1])]
        # Only with the later columns: each pair once.
        sums = np.stack([rows[:, at] @ indicators[at, ends[i] :] for at in level], axis=1)
        for j, table in enumerate(np.split(sums, ends[i + 1 : -1] - ends[i], axis=2), i + 1):
            if j < len(columns):
                scores = _scores(one, columns[j], table, least)
                best = np.maximum(best, np.abs(scores[1:]).max(axis=(1, 2)))
                own.append(((i, j), scores[0]))
    bar = np.sort(best)[-above]
    proven = [
        Corner(
            pair, (int(a), int(b)), score, float((1 + (best >= abs(score)).sum()) / (1 + _DRAWS))
        )
        for pair, scores in own
        for a, b in np.argwhere(np.abs(scores) > bar)
        # Rounded, as the last digits of sums of doubles differ between machines.
        for score in (round(float(scores[a, b]), 6),)
    ]
    return sorted(proven, key=lambda corner: (-abs(corner.score), corner.columns, corner.sides))


def _scores(one: LevelColumns, two: LevelColumns, table: Doubles, least: float) -> Doubles:
    """Return scores of all corners of two columns, with S and S' sides: shape (D, S, S').

    `table`, shape (2 + D, L, L'), holds sums by both columns' levels: of accounts, of information
    and of D rows of residuals. Corners that are too small score 0.
    """
    accounts, known, off = table[0], table[1], table[2:]
    # The information matrix of the two columns' own levels, which the scores are adjusted for.
    bend = np.block([[np.diag(known.sum(1)), known], [known.T, np.diag(known.sum(0))]])
    inverse = np.linalg.inv(bend + _RIDGE * np.eye(len(bend)))
    corners = one.sides[:, None, :, None] * two.sides[None, :, None, :]
    cross = np.concatenate([(corners * known).sum(3), (corners * known).sum(2)], axis=2)
    part = cross @ inverse
    own = np.concatenate([off.sum(2), off.sum(1)], axis=1)
    score = one.sides @ off @ two.sides.T - np.einsum("stl,dl->dst", part, own, optimize=True)
    left = one.sides @ known @ two.sides.T - (part * cross).sum(2)
    size = one.sides @ accounts @ two.sides.T
    enough = (size >= least) & (accounts.sum() - size >= least) & (left > _LEAST_INFORMATION)
    return np.where(enough, score / np.sqrt(np.where(enough, left, 1)), 0)
