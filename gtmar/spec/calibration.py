"""Calibration of scores: a monotone table in the spec from scores to probabilities of leaving."""

from __future__ import annotations

import math
from datetime import date  # noqa: TC003 - pydantic reads annotations at run time
from itertools import pairwise
from typing import Annotated

from pydantic import Field, FiniteFloat, StrictInt

from gtmar.plain_data import percent, some
from gtmar.spec.encoders import SpecModel

__all__ = ["PROBABILITY_UNITS", "Calibration", "CalibrationStep"]

#: Probabilities are integer counts of 1/10,000ths wherever they are computed.
PROBABILITY_UNITS = 10_000
_SCORE_UNITS = 100


class CalibrationStep(SpecModel):
    """Scores from `from` points up, to where the next step begins, and what became of them."""

    from_: Annotated[FiniteFloat, Field(ge=0)] = Field(alias="from")
    accounts: Annotated[StrictInt, Field(ge=1)]
    left: Annotated[StrictInt, Field(ge=0)]

    @property
    def low(self) -> int:
        """`from` in hundredths of a point."""
        return round(self.from_ * _SCORE_UNITS)

    @property
    def units(self) -> int:
        """The share of accounts that left, in 1/10,000ths, rounded half up."""
        return (2 * PROBABILITY_UNITS * self.left + self.accounts) // (2 * self.accounts)

    @property
    def sentence(self) -> str:
        """Say how likely an account of the step is to leave: by a count where all or none left.

        Nobody is 100 % likely to leave, whatever became of so many accounts.

        Examples
        --------
        >>> CalibrationStep(**{"from": 0, "accounts": 97, "left": 65}).sentence
        '67% likely to leave'
        >>> CalibrationStep(**{"from": 0, "accounts": 97, "left": 97}).sentence
        'all 97 accounts that scored like this left'
        """
        if 0 < self.left < self.accounts:
            return f"{percent(self.left / self.accounts)} likely to leave"
        if self.accounts == 1:
            return f"the one account that scored like this {'left' if self.left else 'stayed'}"
        which = "all" if self.left else "none of"
        return f"{which} {self.accounts:,} accounts that scored like this left"


class Calibration(SpecModel):
    """How many of the accounts with such a score left, step by step from the lowest score up.

    It was fitted on a day, `fitted`, to the scores that `points_id` stands for; a spec whose scores
    have another id has no probabilities. `base_rate` is the share of all those accounts that left.
    """

    fitted: date
    points_id: str
    base_rate: Annotated[FiniteFloat, Field(ge=0, le=1)]
    steps: Annotated[tuple[CalibrationStep, ...], Field(min_length=1)]

    @property
    def accounts(self) -> int:
        """Number of accounts that the calibration was fitted on."""
        return sum(step.accounts for step in self.steps)

    @property
    def left(self) -> int:
        """Number of these accounts that left."""
        return sum(step.left for step in self.steps)

    def step_of(self, score: float) -> CalibrationStep:
        """Return the step that a score belongs to; the score is in points, 0 or more."""
        value = round(score * _SCORE_UNITS)
        return [step for step in self.steps if step.low <= value][-1]

    def sentence_of(self, score: float) -> str:
        """Return a sentence with the share of accounts that left in the score's step."""
        step = self.step_of(score)
        above = next((each for each in self.steps if each.low > step.low), None)
        end = "" if above is None else f" to below {above.from_:g}"
        return (
            f"Of {some(step.accounts, 'account')} with scores from {step.from_:g}{end}, "
            f"{step.left:,} "
            f"left: {percent(step.left / step.accounts)} of them (fitted {self.fitted})."
        )

    def problems(self, max_score: int, *, rising: bool) -> list[str]:
        """Return what is invalid, one text each.

        `rising` is True for risk scores, where the probability of leaving rises with the score.
        """
        listed = []
        lows = [step.low for step in self.steps]
        off = [s.from_ for s in self.steps if abs(s.from_ * _SCORE_UNITS - s.low) > 1e-6]
        if off:
            listed.append(f"from must be a multiple of 0.01 points, got {off[0]!r}")
        if lows[0] != 0:
            listed.append(f"the lowest step must begin at 0, got {self.steps[0].from_:g}")
        if any(one >= two for one, two in pairwise(lows)) or lows[-1] > max_score * _SCORE_UNITS:
            listed.append(f"steps must begin at rising scores, up to max_score {max_score}")
        if any(step.left > step.accounts for step in self.steps):
            listed.append("no more accounts can have left than there were")
            return listed
        sides = [
            (one.left * two.accounts, two.left * one.accounts) for one, two in pairwise(self.steps)
        ]
        if any(one > two if rising else one < two for one, two in sides):
            way = "rise" if rising else "fall"
            listed.append(f"the share that left must {way} with the score, as orientation has it")
        rate = self.left / self.accounts
        if not math.isclose(self.base_rate, rate, abs_tol=5e-4):
            listed.append(
                f"base_rate must be that of the steps, {rate:.4f}, got {self.base_rate:g}"
            )
        return listed
