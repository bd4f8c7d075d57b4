"""Ratios of sums where accounts have several rows, with intervals: whole accounts are drawn.

A table of several dates has an account once for each. What an account did on one date goes with
what it did on the next, so that the rows say less than as many accounts would: the standard error
is that of sums over each account's rows (linearised, as of any ratio of sums over clusters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.stats.interval import (
    Interval,
    effective_size,
    freedom,
    from_proportion,
    from_students,
    too_few,
    unknown,
)
from gtmar.validation.concentration import TierMoney
from gtmar.validation.ratios import LEAST, LEAST_MOVED, students

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gtmar.validation.paired_scores import Panel
    from gtmar.validation.ratios import Ratio

    Floats = NDArray[np.float64]

__all__ = ["ClusteredCells", "gathered_by_account", "pulls_of"]


def pulls_of(y: Floats, x: Floats) -> Floats:
    """Say by how much each account moves Σy / Σx, from its own sums, shape (A,)."""
    whole = x.sum()
    return np.asarray((y - y.sum() / whole * x) / whole)


@dataclass(frozen=True)
class ClusteredCells:
    """What each account adds to one ratio of two scores, tier by tier, and the resampled sums.

    Sides are numbered: 0 all rows, then the tiers of the first score, then those of the second.

    Parameters
    ----------
    x, y
        Shape (S, A): each account's sums by side.
    drawn
        Shape (B, S, 5): Σx, Σy, Σx², Σxy, Σy² over the accounts of each replicate.
    crossed
        Shape (B, T, 4): of two tiers of one number, Σx₁x₂, Σx₁y₂, Σy₁x₂, Σy₁y₂.
    moved
        Shape (T, U): accounts that are in one tier by the first score and not in the other by the
        second, or the other way round, on any date.
    weights
        Shape (B, A): what each account counted in each replicate.
    tiers
        T and U.
    proportion
        Whether the ratio is a share of rows.
    """

    x: Floats
    y: Floats
    drawn: Floats
    crossed: Floats
    moved: NDArray[np.intp]
    weights: Floats
    tiers: tuple[int, int]
    proportion: bool

    def _side(self, tier: int | None, *, after: bool) -> int:
        return 0 if tier is None else 1 + tier + self.tiers[0] * after

    def _accounts(self, side: int) -> int:
        return int(np.count_nonzero(self.x[side]))

    def level(self, tier: int | None, *, after: bool, level: float) -> Interval:
        """Return the ratio of a tier, None for all rows, of one of the two scores."""
        side = self._side(tier, after=after)
        x, y, accounts = self.x[side], self.y[side], self._accounts(side)
        if x.sum() == 0:
            return unknown(None, level=level, accounts=accounts, reason="nothing to divide by")
        value, pulls = float(y.sum() / x.sum()), pulls_of(y, x)
        if self.proportion:
            there = x != 0
            size = effective_size(pulls[there], value, float(x.sum()), level=level)
            found = from_proportion(value, 1.0, level=level, effective=size)
            return Interval(found.value, found.low, found.high, level, accounts)
        if accounts < LEAST:
            return unknown(value, level=level, accounts=accounts, reason=too_few(accounts))
        deviation = float(np.linalg.norm(pulls))
        if deviation == 0:
            reason = "no two accounts differ, so there is nothing to judge the spread by"
            return unknown(value, level=level, accounts=accounts, reason=reason)
        values, deviations = _ratio(self.drawn[:, side])
        return from_students(
            value,
            deviation,
            students(values - value, deviations),
            level=level,
            accounts=accounts,
            degrees=freedom(pulls),
        )

    def gain(self, one: int, two: int, *, level: float) -> Interval:
        """Return the ratio of a tier after minus that of a tier before, accounts paired."""
        old, new = self._side(one, after=False), self._side(two, after=True)
        accounts = [self._accounts(side) for side in (old, new)]
        wholes = [float(self.x[side].sum()) for side in (old, new)]
        if min(wholes) == 0:
            nothing = "nothing to divide by"
            return unknown(None, level=level, accounts=min(accounts), reason=nothing)
        before, after = (float(self.y[s].sum() / self.x[s].sum()) for s in (old, new))
        moved = int(self.moved[one, two])
        if moved == 0:
            return Interval(0.0, 0.0, 0.0, level, accounts[0])
        pulls = pulls_of(self.y[new], self.x[new]) - pulls_of(self.y[old], self.x[old])
        value, deviation = after - before, float(np.linalg.norm(pulls))
        reason: str | None = None
        if min(accounts) < LEAST:
            reason = f"too few: {accounts[0]:,} accounts before, {accounts[1]:,} after"
        elif moved < LEAST_MOVED:
            reason = f"too few: {moved:,} accounts came or went"
        elif deviation == 0:
            reason = "no two accounts differ, so there is nothing to judge the spread by"
        if reason is not None:
            return unknown(value, level=level, accounts=min(accounts), reason=reason)
        (r1, s1), (r2, s2) = _ratio(self.drawn[:, old]), _ratio(self.drawn[:, new])
        xx, xy, yx, yy = np.moveaxis(self.crossed[:, one], -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = yy - r1 * xy - r2 * yx + r1 * r2 * xx
            shared /= self.drawn[:, old, 0] * self.drawn[:, new, 0]
            deviations = np.sqrt(np.maximum(s1**2 + s2**2 - 2 * shared, 0.0))
        return from_students(
            value,
            deviation,
            students(r2 - r1 - value, deviations),
            level=level,
            accounts=min(accounts),
            degrees=freedom(pulls),
        )

    def tier_money(self) -> TierMoney:
        """Return what HHI is made of, where y is start MRR."""
        sides = self.y[1:]
        products = (sides[:, None] * sides[None]).reshape(-1, sides.shape[1])
        weights = np.concatenate([np.ones((1, sides.shape[1])), self.weights])
        return TierMoney(
            sums=weights @ sides.T,
            squares=(weights @ products.T).reshape(-1, len(sides), len(sides)),
            moved=lambda weights: np.asarray(weights @ sides),
            tiers=self.tiers,
            accounts=self._accounts(0),
        )


def _ratio(sums: Floats) -> tuple[Floats, Floats]:
    """Return ratio and standard error from five sums over accounts, shape (..., 5)."""
    x, y, xx, xy, yy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = y / x
        squares = yy - 2 * value * xy + value**2 * xx
        return value, np.sqrt(np.maximum(squares, 0.0)) / x


def gathered_by_account(
    panel: Panel, ratios: Iterable[Ratio], chunks: Iterable[Floats]
) -> dict[str, ClusteredCells]:
    """Sum the ratios' parts by account and tier, as they are and in every replicate.

    Parameters and cost are those of `ratios.gathered`, A accounts in place of N rows.
    """
    chosen = list(ratios)
    before, after = panel.before, panel.after
    tiers = len(before.tier_names), len(after.tier_names)
    old = [before.inside(tier) for tier in range(tiers[0])]
    new = [after.inside(tier) for tier in range(tiers[1])]
    inside = np.stack([np.ones(panel.rows), *old, *new])
    weights = np.concatenate(
        [np.empty((0, panel.accounts)), *(panel.of_accounts(each) for each in chunks)]
    )
    found = {}
    for ratio in chosen:
        y, x = ratio.parts(panel)
        xs, ys = panel.per_account(x * inside), panel.per_account(y * inside)
        columns = np.stack([xs, ys, xs * xs, xs * ys, ys * ys], axis=-1)
        shared = min(tiers)
        one, two = slice(1, 1 + shared), slice(1 + tiers[0], 1 + tiers[0] + shared)
        x1, y1, x2, y2 = xs[one], ys[one], xs[two], ys[two]
        crossed = np.stack([x1 * x2, x1 * y2, y1 * x2, y1 * y2], axis=-1)
        counted = x != 0
        moved = [
            [np.count_nonzero(panel.per_account(np.abs(a - b) * counted) > 1e-6) for b in new]
            for a in old
        ]
        found[ratio.key] = ClusteredCells(
            x=xs,
            y=ys,
            drawn=np.einsum("ba,saf->bsf", weights, columns, optimize=True),
            crossed=np.einsum("ba,saf->bsf", weights, crossed, optimize=True),
            moved=np.array(moved, dtype=np.intp),
            weights=weights,
            tiers=tiers,
            proportion=ratio.proportion,
        )
    return found
