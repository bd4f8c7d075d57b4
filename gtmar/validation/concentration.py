"""The interval of HHI by tier, and of its change: squares, which are hardest near an even split.

HHI is the sum of squared shares, so that whatever chance does to a share adds to it, and near an
even split its error by the usual linear formula comes out small exactly where shares happened to
fall evenly. So the squares are taken for what they are: a quadratic form of shares that are normal,
whose mean and variance are known (Mathai & Provost 1992, Quadratic Forms in Random Variables, 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.stats.interval import (
    LEAST,
    NOTHING,
    TOO_FEW,
    Interval,
    freedom,
    from_students,
    student_ends,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["TierMoney", "concentration"]

#: Share of the largest variance there could be that is what rounding leaves where nothing moved.
_ROUNDING = 1e-12
#: HHI of one tier that has it all.
_WHOLE = 10_000


@dataclass(frozen=True)
class TierMoney:
    """MRR by tier, T tiers of one score before U of another: as it is, then in each replicate.

    Parameters
    ----------
    sums
        Shape (1 + B, T + U).
    squares
        Shape (1 + B, T + U, T + U): sums over accounts of what each has in two tiers, multiplied.
    moved
        Says what each account adds to a weighted sum of tiers: from shape (T + U,) to (A,).
    tiers
        T and U.
    accounts
        Of those that pay.
    """

    sums: Floats
    squares: Floats
    moved: Callable[[Floats], Floats]
    tiers: tuple[int, int]
    accounts: int


@dataclass(frozen=True)
class _QuadraticForm:
    """The sum of signed squares of shares' distances to an even split, and what chance does to it.

    Each of shape (1 + B,). With d the distances, A the signs and S the covariance of the shares,
    `value` is d'Ad, `excess` the trace of AS, by which chance raises it on average, `spread` the
    trace of ASAS and `pull` d'ASAd; `size` is what both could come to, if nothing cancelled.
    """

    value: Floats
    excess: Floats
    spread: Floats
    pull: Floats
    size: Floats


def concentration(money: TierMoney, *, level: float) -> tuple[Interval, Interval, Interval]:
    """Return HHI before, after and the change, between 0 and 10,000; null without any MRR.

    Notes
    -----
    Of one score the interval has all values that lie no further from what was found than chance
    takes them, at the variance that each would have: as Wilson's of a share. How far chance goes is
    the normal's, Student's with as many degrees of freedom as the accounts give, or that of the
    studentised bootstrap, whichever is more. Of a change the interval is the studentised
    bootstrap's around the value less what chance adds to it. An interval holds its value.
    Cost: B x A x (T + U)².
    """
    count, both = money.tiers[0], sum(money.tiers)
    before, after = np.zeros(both), np.zeros(both)
    before[:count], after[count:] = 1, 1
    return (
        _of_one(money, before, level),
        _of_one(money, after, level),
        _of_change(money, after - before, level),
    )


def _of_one(money: TierMoney, signs: Floats, level: float) -> Interval:
    """Return HHI of one of the two scores."""
    form, degrees = _form(money, signs)
    even = 1 / np.count_nonzero(signs)
    value, pull = float(form.value[0]), float(form.pull[0])
    found = _refused(money, even + value, pull, level)
    if found is not None:
        return found
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = form.pull / form.value
        errors = form.value - form.excess - value
        students = (errors / np.sqrt(2 * form.spread + 4 * slope * value))[1:]
    ends = student_ends(students, level=level, degrees=degrees)
    if ends is None:
        value = _WHOLE * (even + value)
        return unknown(value, level=level, accounts=money.accounts, reason=TOO_FEW)
    # At either end t, (c - t)² = reach² (2 spread + 4 slope t), with c the value less the excess.
    centre, slope, spread = value - float(form.excess[0]), slope[0], float(form.spread[0])

    def true(reach: float) -> float:
        root = 4 * centre * slope + (2 * reach * slope) ** 2 + 2 * spread
        return float(centre + 2 * reach**2 * slope - reach * math.sqrt(max(root, 0.0)))

    low, high = min(max(true(ends[1]), 0.0), value), max(true(ends[0]), value)
    low, value, high = (_WHOLE * (even + each) for each in (low, value, min(high, 1 - even)))
    return Interval(value, low, high, level, money.accounts)


def _of_change(money: TierMoney, signs: Floats, level: float) -> Interval:
    """Return HHI after minus HHI before, accounts paired."""
    count, squares = money.tiers[0], money.squares[0]
    both = (squares[:count, count:], squares[count:, count:])
    if money.sums[0].any() and all(_same(squares[:count, :count], each) for each in both):
        return Interval(0.0, 0.0, 0.0, level, money.accounts)
    form, degrees = _form(money, signs)
    # Each is counted from an even split of its own tiers.
    value = float(form.value[0]) + 1 / money.tiers[1] - 1 / money.tiers[0]
    # The squares of what was found are larger than those of the truth, by twice the spread.
    variance = np.maximum(4 * form.pull - 2 * form.spread, 2 * form.spread)
    deviations = np.sqrt(np.where(variance > _ROUNDING * form.size, variance, 0.0))
    found = _refused(money, value, float(deviations[0]), level)
    if found is not None:
        return found
    errors = form.value - form.excess - form.value[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        students = (errors / deviations)[1:]
    found = from_students(
        _WHOLE * (value - float(form.excess[0])),
        _WHOLE * float(deviations[0]),
        students,
        level=level,
        accounts=money.accounts,
        degrees=degrees,
    )
    value *= _WHOLE
    if found.low is None or found.high is None:
        return unknown(value, level=level, accounts=money.accounts, reason=str(found.reason))
    return Interval(value, min(found.low, value), max(found.high, value), level, money.accounts)


def _same(one: Floats, two: Floats) -> bool:
    """Whether two tables of sums are of the same accounts, added up in whatever order."""
    return one.shape == two.shape and np.allclose(one, two, rtol=1e-12, atol=0)


def _refused(money: TierMoney, value: float, error: float, level: float) -> Interval | None:
    """Return the value without an interval, and why; None where it has one."""
    if not np.isfinite(value):
        return unknown(None, level=level, accounts=money.accounts, reason=NOTHING)
    if money.accounts >= LEAST and error > 0:
        return None
    reason = f"too few: {money.accounts:,} paying accounts in as many tiers as there are"
    return unknown(_WHOLE * value, level=level, accounts=money.accounts, reason=reason)


def _form(money: TierMoney, signs: Floats) -> tuple[_QuadraticForm, float]:
    """Return the form of some signs, and the degrees of freedom of its error."""
    count = money.tiers[0]
    even = np.repeat(1 / np.array(money.tiers), money.tiers)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = money.sums[:, :count].sum(axis=1)[:, None]
        shares = money.sums / whole
        # What accounts have in a tier times their MRR, which the tiers of either score add up to.
        own = money.squares[:, :count].sum(axis=1)
        crossed = shares[:, :, None] * own[:, None, :]
        covariance = money.squares - crossed - np.swapaxes(crossed, 1, 2)
        squared = own[:, :count].sum(axis=1)[:, None, None]
        covariance += squared * shares[:, :, None] * shares[:, None, :]
        covariance /= whole[:, :, None] ** 2
    distances, signed = signs * (shares - even), signs[:, None] * covariance
    norm = np.sqrt((covariance**2).sum(axis=(1, 2)))
    form = _QuadraticForm(
        value=(distances * (shares - even)).sum(axis=1),
        excess=np.trace(signed, axis1=1, axis2=2),
        spread=(signed * np.swapaxes(signed, 1, 2)).sum(axis=(1, 2)),
        pull=np.einsum("bi,bij,bj->b", distances, covariance, distances),
        size=norm * (norm + (distances**2).sum(axis=1)),
    )
    everything = np.repeat([1.0, 0.0], money.tiers)
    pulls = money.moved(distances[0]) - distances[0] @ shares[0] * money.moved(everything)
    return form, freedom(pulls) if pulls.any() else math.inf
