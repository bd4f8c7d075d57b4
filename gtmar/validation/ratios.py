"""Ratios of sums over the accounts of a tier, with intervals.

A table of several dates has an account once for each. What an account did on one date goes with
what it did on the next, so that the rows say less than as many accounts would: the standard error
is that of sums over each account's rows (linearised, as of any ratio of sums over clusters).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gtmar.data.outcomes import CENTS
from gtmar.engine.cohorts import COHORTS
from gtmar.stats.interval import (
    LEAST,
    NOTHING,
    Interval,
    effective_size,
    from_proportion,
    resampled,
    unknown,
)
from gtmar.validation.concentration import TierMoney
from gtmar.validation.paired_scores import known

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    from collections.abc import Callable, Iterable, Sequence

    from gtmar.data.outcomes import Movement
    from gtmar.validation.paired_scores import Panel, Scored

__all__ = [
    "RATIOS",
    "Cells",
    "ClusteredCells",
    "Ratio",
    "gathered",
    "gathered_by_account",
    "pulls_of",
]


#: Accounts that must have come into or left a tier before a gain has an interval.
_LEAST_MOVED = 10
_PAYING, _KEPT_PAYING, _KEPT = COHORTS["paying"], COHORTS["kept_paying"], COHORTS["retained"]
_LABELLED, _FORMER, _CHURNED = COHORTS["labelled"], COHORTS["former"], COHORTS["churned"]
_EXPANDED, _CONTRACTED = COHORTS["expanded"], COHORTS["contracted"]


@dataclass(frozen=True)
class Ratio:
    """A metric Σy / Σx over the accounts of a tier.

    Parameters
    ----------
    parts
        Gives y and x of every account, shape (N,) each.
    proportion
        True where both count accounts, so that the value is a share of them.
    """

    key: str
    parts: Callable[[Panel], tuple[Floats, Floats]]
    proportion: bool = False


def _money(panel: Panel, *classes: Movement) -> tuple[Floats, Floats]:
    """Start and end MRR of accounts in some classes, 0 elsewhere."""
    rows = panel.among(*classes)
    return np.where(rows, known(panel.start), 0.0), np.where(rows, known(panel.end), 0.0)


def _flags(panel: Panel, *classes: Movement) -> Floats:
    return panel.among(*classes).astype(np.float64)


def _nrr(panel: Panel) -> tuple[Floats, Floats]:
    start, end = _money(panel, *_PAYING)
    return end, start


def _grr(panel: Panel) -> tuple[Floats, Floats]:
    start, end = _money(panel, *_PAYING)
    return np.minimum(start, end), start


def _expansion(panel: Panel) -> tuple[Floats, Floats]:
    start, end = _money(panel, *_EXPANDED)
    return end - start, _money(panel, *_PAYING)[0]


def _contraction(panel: Panel) -> tuple[Floats, Floats]:
    start, end = _money(panel, *_CONTRACTED)
    return start - end, _money(panel, *_PAYING)[0]


def _quick(panel: Panel) -> tuple[Floats, Floats]:
    start, end = _money(panel, *_CONTRACTED, *_CHURNED)
    return _expansion(panel)[0], start - end


def _arpa(panel: Panel) -> tuple[Floats, Floats]:
    paying = _flags(panel, *_PAYING)
    return paying * known(panel.start) / CENTS, paying


def _counted(
    of: tuple[Movement, ...], among: tuple[Movement, ...]
) -> Callable[[Panel], tuple[Floats, Floats]]:
    return lambda panel: (_flags(panel, *of), _flags(panel, *among))


def _activation(panel: Panel) -> tuple[Floats, Floats]:
    return (panel.activation == 2).astype(np.float64), (panel.activation > 0).astype(np.float64)


RATIOS = (
    Ratio("nrr_by_tier", _nrr),
    Ratio("grr_by_tier", _grr),
    Ratio("logo_retention_by_tier", _counted(_KEPT, _LABELLED), proportion=True),
    Ratio("expansion_rate_by_tier", _expansion),
    Ratio("expanded_share_by_tier", _counted(_EXPANDED, _KEPT_PAYING), proportion=True),
    Ratio("contraction_rate_by_tier", _contraction),
    Ratio("contracted_share_by_tier", _counted(_CONTRACTED, _KEPT_PAYING), proportion=True),
    Ratio("quick_ratio_by_tier", _quick),
    Ratio("winback_rate_by_former_tier", _counted(COHORTS["won_back"], _FORMER), proportion=True),
    Ratio("activation_rate_by_tier", _activation, proportion=True),
    Ratio("arpa_by_tier", _arpa),
)


@dataclass(frozen=True)
class Cells:
    """The five sums of one ratio, as they are and resampled.

    Parameters
    ----------
    known
        Shape (T, U, 5): Σx, Σy, Σx², Σxy, Σy² by tier before and tier after; (T, U, 8) where
        accounts are in tiers in part, the squares once more, with the squares of the parts.
    drawn
        Shape (B, T, U, 5 or 8): the same in each replicate.
    counted
        Shape (T, U): accounts with x above 0.
    parts
        y and x of every account, shape (N,).
    proportion
        Whether the ratio is a share of accounts.
    """

    known: Floats
    drawn: Floats
    counted: Floats
    parts: tuple[Floats, Floats]
    sides: tuple[Scored, Scored]
    proportion: bool

    def level(self, tier: int | None, *, after: bool, level: float) -> Interval:
        """Return the ratio of a tier, None for all accounts, of one of the two scores."""
        rows = self._rows(tier, after=after)
        inside = float(self.counted[rows].sum())
        accounts = round(inside)
        own = _own(after=tier is not None and after, width=self.known.shape[-1])
        known = self.known[rows].reshape(-1, self.known.shape[-1]).sum(axis=0)[own]
        if known[0] == 0:
            return unknown(None, level=level, accounts=accounts, reason=NOTHING)
        if self.proportion:
            found = from_proportion(float(known[1]), inside, level=level)
            return replace(found, accounts=accounts)
        value, deviation = (float(v) for v in _ratio(known))
        cells = self.drawn[(slice(None), *rows)]
        drawn = _ratio(cells.sum(axis=tuple(range(1, cells.ndim - 1)))[..., own])
        pulls = self._pulls(tier, after=after)
        return resampled(value, deviation, *drawn, pulls, level=level, accounts=accounts)

    def gain(self, one: int, two: int, *, level: float) -> Interval:
        """Return the ratio of a tier after minus that of a tier before, accounts paired."""
        old, new = self._rows(one, after=False), self._rows(two, after=True)
        inside = [float(self.counted[rows].sum()) for rows in (old, new)]
        accounts, both = list(map(round, inside)), float(self.counted[one, two])
        value, deviation = (float(v[0]) for v in _difference(self.known[None], one, two))
        if not np.isfinite(value):
            return unknown(None, level=level, accounts=min(accounts), reason=NOTHING)
        # Accounts that tie may come or go in part; less than a millionth is what rounding leaves.
        moved = round(sum(inside) - 2 * both, 6)
        if moved == 0:
            return Interval(0.0, 0.0, 0.0, level, round(both))
        drawn = _difference(self.drawn, one, two)
        pulls = self._pulls(two, after=True) - self._pulls(one, after=False)
        return _gain(value, deviation, drawn, pulls, level, accounts, moved)

    def tier_money(self) -> TierMoney:
        """Return what HHI is made of, where y is start MRR."""
        cells = np.concatenate([self.known[None], self.drawn])
        money, squares = cells[..., 1], cells[..., 4]
        old, new = (squares.sum(axis=axis) for axis in (2, 1))
        tiers = old.shape[1], new.shape[1]
        rows = [np.eye(tiers[0]) * old[:, :, None], squares]
        others = [np.swapaxes(squares, 1, 2), np.eye(tiers[1]) * new[:, :, None]]
        y = self.parts[0]
        sides = [(self.sides[after], tier) for after in (0, 1) for tier in range(tiers[after])]

        def moved(weights: Floats) -> Floats:
            parts = zip(weights, sides, strict=True)
            return np.asarray(sum(w * y * side.inside(tier) for w, (side, tier) in parts))

        return TierMoney(
            sums=np.concatenate([money.sum(axis=2), money.sum(axis=1)], axis=1),
            squares=np.block([rows, others]),
            moved=moved,
            tiers=tiers,
            accounts=int(self.counted.sum()),
        )

    def _pulls(self, tier: int | None, *, after: bool) -> Floats:
        """By how much each account moves a tier's ratio, shape (N,)."""
        y, x = self.parts
        inside = 1.0 if tier is None else self.sides[after].inside(tier)
        return pulls_of(y * inside, x * inside)

    def _rows(self, tier: int | None, *, after: bool) -> tuple[slice | int, ...]:
        if tier is None:
            return (slice(None), slice(None))
        return (slice(None), tier) if after else (tier, slice(None))


def _ratio(sums: Floats) -> tuple[Floats, Floats]:
    """Return ratio and standard error from five sums, shape (..., 5)."""
    x, y, xx, xy, yy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = y / x
        squares = yy - 2 * value * xy + value**2 * xx
        return value, np.sqrt(np.maximum(squares, 0.0)) / x


def _difference(cells: Floats, one: int, two: int) -> tuple[Floats, Floats]:
    """Return the difference of two tiers' ratios and its standard error; cells as in `Cells`."""
    width = cells.shape[-1]
    old = cells[:, one].sum(axis=1)[..., _own(after=False, width=width)]
    new = cells[:, :, two].sum(axis=1)[..., _own(after=True, width=width)]
    _, _, xx, xy, yy = np.moveaxis(cells[:, one, two], -1, 0)[:5]
    (before, spread_before), (after, spread_after) = _ratio(old), _ratio(new)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Accounts of both tiers pull both ratios.
        shared = (yy - (before + after) * xy + before * after * xx) / (old[:, 0] * new[:, 0])
        variance = spread_before**2 + spread_after**2 - 2 * shared
        # A draw that leaves nothing to divide by has infinite ratios, and no difference.
        return after - before, np.sqrt(np.maximum(variance, 0.0))


def _own(*, after: bool, width: int) -> list[int]:
    """Return the columns of a tier's own five sums: of the score after, squares of parts."""
    return [0, 1, 5, 6, 7] if after and width > 5 else [0, 1, 2, 3, 4]


def pulls_of(y: Floats, x: Floats) -> Floats:
    """Say by how much each account moves Σy / Σx, from its own y and x, shape (A,)."""
    whole = x.sum()
    return np.asarray((y - y.sum() / whole * x) / whole)


def _gain(
    value: float,
    deviation: float,
    drawn: tuple[Floats, Floats],
    pulls: Floats,
    level: float,
    accounts: Sequence[int],
    moved: float,
) -> Interval:
    """Return the interval of a change of a ratio, `accounts` of them before and after."""
    reason = None
    if min(accounts) < LEAST:
        reason = f"too few: {accounts[0]:,} accounts before, {accounts[1]:,} after"
    elif moved < _LEAST_MOVED:
        reason = f"too few: {round(moved):,} accounts came or went"
    if reason is not None:
        return unknown(value, level=level, accounts=min(accounts), reason=reason)
    return resampled(value, deviation, *drawn, pulls, level=level, accounts=min(accounts))


def gathered(panel: Panel, ratios: Iterable[Ratio], chunks: Iterable[Floats]) -> dict[str, Cells]:
    """Sum the ratios' parts by cell, as they are and in every replicate.

    Parameters
    ----------
    panel
        N accounts.
    ratios
        Those whose columns the table has.
    chunks
        Weights, shape (b, N) each.

    Notes
    -----
    Cost: B x N x 5 multiplications a ratio.
    """
    chosen = list(ratios)
    tiers, others = len(panel.before.tier_names), len(panel.after.tier_names)
    accounts, tier, share = panel.after.parts
    cell = panel.before.tiers[accounts] * others + tier
    entries = [np.flatnonzero(cell == number) for number in range(tiers * others)]
    rows = [accounts[at] for at in entries]
    parts = [ratio.parts(panel) for ratio in chosen]
    columns = np.stack(
        [_powers(y, x, share, accounts, whole=panel.after.membership is None) for y, x in parts]
    )
    width = columns.shape[1]
    columns = columns.reshape(-1, len(accounts)).T
    blocks = [np.ascontiguousarray(columns[at]) for at in entries]
    known = np.stack([block.sum(axis=0) for block in blocks])
    drawn = np.concatenate(
        [
            np.empty((0, *known.shape)),
            *(
                np.stack([w[:, at] @ block for at, block in zip(rows, blocks, strict=True)], axis=1)
                for w in chunks
            ),
        ]
    )
    found = {}
    for place, ratio in enumerate(chosen):
        own = slice(width * place, width * place + width)
        x = parts[place][1]
        counted = np.array([share[at][x[accounts[at]] != 0].sum() for at in entries])
        found[ratio.key] = Cells(
            known=known[:, own].reshape(tiers, others, width),
            drawn=drawn[:, :, own].reshape(-1, tiers, others, width),
            counted=counted.reshape(tiers, others),
            parts=parts[place],
            sides=(panel.before, panel.after),
            proportion=ratio.proportion,
        )
    return found


def _powers(
    y: Floats, x: Floats, share: Floats, accounts: NDArray[np.intp], *, whole: bool
) -> Floats:
    """Return what the cells add up of a ratio's parts, shape (5 or 8, entries)."""
    if whole:
        return np.stack([x, y, x * x, x * y, y * y])
    y, x = y[accounts], x[accounts]
    first, squares = np.stack([x, y]), np.stack([x * x, x * y, y * y])
    return np.concatenate([first * share, squares * share, squares * share**2])


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
            return unknown(None, level=level, accounts=accounts, reason=NOTHING)
        value, pulls = float(y.sum() / x.sum()), pulls_of(y, x)
        if self.proportion:
            there = x != 0
            size = effective_size(pulls[there], value, float(x.sum()), level=level)
            found = from_proportion(value, 1.0, level=level, effective=size)
            return Interval(found.value, found.low, found.high, level, accounts)
        drawn, deviation = _ratio(self.drawn[:, side]), float(np.linalg.norm(pulls))
        return resampled(value, deviation, *drawn, pulls, level=level, accounts=accounts)

    def gain(self, one: int, two: int, *, level: float) -> Interval:
        """Return the ratio of a tier after minus that of a tier before, accounts paired."""
        old, new = self._side(one, after=False), self._side(two, after=True)
        accounts = [self._accounts(side) for side in (old, new)]
        wholes = [float(self.x[side].sum()) for side in (old, new)]
        if min(wholes) == 0:
            return unknown(None, level=level, accounts=min(accounts), reason=NOTHING)
        before, after = (float(self.y[s].sum() / self.x[s].sum()) for s in (old, new))
        moved = int(self.moved[one, two])
        if moved == 0:
            return Interval(0.0, 0.0, 0.0, level, accounts[0])
        pulls = pulls_of(self.y[new], self.x[new]) - pulls_of(self.y[old], self.x[old])
        (r1, s1), (r2, s2) = _ratio(self.drawn[:, old]), _ratio(self.drawn[:, new])
        xx, xy, yx, yy = np.moveaxis(self.crossed[:, one], -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = yy - r1 * xy - r2 * yx + r1 * r2 * xx
            shared /= self.drawn[:, old, 0] * self.drawn[:, new, 0]
            deviations = np.sqrt(np.maximum(s1**2 + s2**2 - 2 * shared, 0.0))
        drawn, deviation = (r2 - r1, deviations), float(np.linalg.norm(pulls))
        return _gain(after - before, deviation, drawn, pulls, level, accounts, moved)

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


def gathered_by_account(
    panel: Panel, ratios: Iterable[Ratio], chunks: Iterable[Floats]
) -> dict[str, ClusteredCells]:
    """Sum the ratios' parts by account and tier, as they are and in every replicate.

    Parameters and cost are those of `gathered`, A accounts in place of N rows.
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
