"""Which two columns say together what they don't say apart: scores of corners, numpy alone.

Of two columns, each cut into levels, a corner is some levels of the one and some of the other: few
logins and a short tenure. A corner's score is what the outcomes are off a model's predictions in
it, beyond what any change of the two columns' own levels explains, in standard deviations. How high
the best of all scores climbs where there is nothing is found by drawing outcomes from the model.
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

#: Random outcomes are drawn so often.
_DRAWS = 149
#: How much a level of a column is drawn to nothing.
_RIDGE = 0.1
#: A corner with less information than this, in accounts x chance x (1 - chance), says nothing.
_LEAST_INFORMATION = 0.5


@dataclass(frozen=True)
class LevelColumns:
    """A column of N accounts cut into L levels, and S sides of it that a rule may ask for."""

    #: Each account's level, shape (N,), from 0.
    codes: NDArray[np.intp]
    #: Whether a side takes a level, shape (S, L), ones and zeros.
    sides: Doubles

    def indicators(self) -> Doubles:
        """Return each account's level as ones and zeros, shape (N, L)."""
        return np.asarray(np.eye(self.sides.shape[1])[self.codes], dtype=np.float64)

    def members(self, side: int) -> Doubles:
        """Return who is on a side, shape (N,), ones and zeros."""
        return np.asarray(self.sides[side][self.codes], dtype=np.float64)


@dataclass(frozen=True)
class Corner:
    """Sides of two columns, by number, and their score."""

    columns: tuple[int, int]
    sides: tuple[int, int]
    #: In standard deviations, above 0 where the outcome is higher than predicted.
    score: float
    #: Share of tables without any interplay in which the best corner scores as high.
    p: float


@dataclass(frozen=True)
class Predicted:
    """A model that was fitted to N accounts: what it predicts of them, and from what."""

    #: Predictors with a constant, shape (N, P), and the penalty on each, shape (P,).
    predictors: Doubles
    penalty: Doubles
    #: Predicted share of the outcome, shape (N,), in (0, 1).
    chance: Doubles
    #: Outcomes, shape (N,), in [0, 1].
    outcome: Doubles

    @property
    def information(self) -> Doubles:
        """What an account tells of its log-odds, shape (N,)."""
        return self.chance * (1 - self.chance)

    def gains(self, members: Doubles, ridge: float) -> Doubles:
        """Return by how much the log-likelihood rises with each of K predictors more, about.

        `members` has shape (K, N); each new coefficient is drawn to 0 by `ridge`.
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
        """Return what outcomes are off, and are off where they are drawn: shape (1 + draws, N).

        They are drawn from their chances; others than 0 and 1 as far around them as they lie. What
        a new fit would explain is taken off.
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
    """Return the corners whose score chance doesn't reach, the best first; none for most tables.

    Parameters
    ----------
    columns
        F columns of the model's accounts.
    model
        Holds what each column says by itself, so that what is left is theirs together.
    least
        A corner has at least so many accounts, and so have those outside of it.
    above
        A corner's score is above all but less than so many of the best scores that 149 tables
        without interplay give: 3 for one table in fifty by chance.

    Notes
    -----
    A score test of each corner against an additive model in both columns' levels; the level of all
    tests together is kept as the maximum's distribution has it, by outcomes drawn from the model
    (Westfall and Young, Resampling-based multiple testing, 1993). Cost: about 150 sums over N
    accounts for each of the F x (F - 1) / 2 pairs.
    """
    known = model.information
    # Of accounts and information, what is off, and what is off where outcomes are drawn.
    rows = np.concatenate([[np.ones(len(known)), known], model.off(_DRAWS)])
    indicators = np.concatenate([column.indicators() for column in columns], axis=1)
    ends = np.cumsum([column.sides.shape[1] for column in columns])
    best, own = np.zeros(_DRAWS), []
    for i, one in enumerate(columns):
        level = [one.codes == code for code in range(one.sides.shape[1])]
        # Of the columns after it alone.
        sums = np.stack([rows[:, at] @ indicators[at, ends[i] :] for at in level], axis=1)
        for j, table in enumerate(np.split(sums, ends[i + 1 : -1] - ends[i], axis=2), i + 1):
            if j < len(columns):
                found = _scores(one, columns[j], table, least)
                best = np.maximum(best, np.abs(found[1:]).max(axis=(1, 2)))
                own.append(((i, j), found[0]))
    bar = np.sort(best)[-above]
    proven = [
        Corner(
            pair, (int(a), int(b)), score, float((1 + (best >= abs(score)).sum()) / (1 + _DRAWS))
        )
        for pair, found in own
        for a, b in np.argwhere(np.abs(found) > bar)
        # Sums of doubles differ in their last digits.
        for score in (round(float(found[a, b]), 6),)
    ]
    return sorted(proven, key=lambda corner: (-abs(corner.score), corner.columns, corner.sides))


def _scores(one: LevelColumns, two: LevelColumns, table: Doubles, least: float) -> Doubles:
    """Return scores of all corners of two columns, of S and S' sides: shape (D, S, S').

    `table`, shape (2 + D, L, L'), has the sums of accounts and of information by both columns'
    levels, and those of D rows of what is off.
    """
    accounts, known, off = table[0], table[1], table[2:]
    # What changes of both columns' own levels explain, in the metric of the information.
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
