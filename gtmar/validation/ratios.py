"""Intervals of metrics by tier: ratios of sums over the accounts of a tier, and HHI over tiers.

A table of several dates has a row for each account and date. Rows of one account depend on each
other, so they carry less information than as many accounts. Their standard error is that of sums
over each account's rows (linearised, as for any ratio of sums over clusters).

HHI is a sum of squared shares, so sampling error in the shares raises it on average. Near an even
split the usual linear error formula fails: it is small just where the sample happens to be even. So
HHI is treated as a quadratic form of normal shares, whose mean and variance are known (Mathai &
Provost 1992, Quadratic Forms in Random Variables, 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gtmar.data.outcomes import CENTS
from gtmar.engine.cohorts import COHORTS
from gtmar.stats import LEAST
from gtmar.stats.interval import (
    NOTHING,
    TOO_FEW,
    Interval,
    effective_size,
    freedom,
    from_proportion,
    from_students,
    resampled,
    student_ends,
    too_few,
    unknown,
)
from gtmar.validation.paired_scores import known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from gtmar.validation.paired_scores import Panel, Scored

    Floats = NDArray[np.float64]

__all__ = [
    "RATIOS",
    "Cells",
    "ClusteredCells",
    "Ratio",
    "TierMoney",
    "concentration",
    "gathered",
    "gathered_by_account",
    "pulls_of",
]

#: Accounts that must enter or leave a tier for its gain to have an interval.
_LEAST_MOVED = 10


def _lost(panel: Panel) -> Floats:
    return known(panel.start) - known(panel.end)


#: Sums of money by name: their cohorts, and an account's cents, or MRR for `mrr`.
_MONEY: dict[str, tuple[tuple[str, ...], Callable[[Panel], Floats]]] = {
    "start": (("paying",), lambda panel: known(panel.start)),
    "end": (("paying",), lambda panel: known(panel.end)),
    "kept": (("paying",), lambda panel: np.minimum(known(panel.start), known(panel.end))),
    "expansion": (("expanded",), lambda panel: known(panel.end) - known(panel.start)),
    "contraction": (("contracted",), _lost),
    "lost": (("contracted", "churned"), _lost),
    "mrr": (("paying",), lambda panel: known(panel.start) / CENTS),
}
#: Lowest activation state that a sum counts. All remaining sums count the accounts of a cohort.
_ACTIVATION = {"applies": 1, "activated": 2}


@dataclass(frozen=True)
class Ratio:
    """A metric Σy / Σx over the accounts of a tier, with the names of its two sums."""

    key: str
    y: str
    x: str

    @property
    def proportion(self) -> bool:
        """Whether both sums count accounts, so that the value is a share of accounts."""
        return self.y not in _MONEY

    def parts(self, panel: Panel) -> tuple[Floats, Floats]:
        """Return the contribution of every account to y and to x, shape (N,) each."""
        return _added(panel, self.y), _added(panel, self.x)


def _added(panel: Panel, name: str) -> Floats:
    if name in _ACTIVATION:
        return (panel.activation >= _ACTIVATION[name]).astype(np.float64)
    cohorts, money = _MONEY.get(name, ((name,), None))
    rows = panel.among(*(kind for cohort in cohorts for kind in COHORTS[cohort]))
    return rows.astype(np.float64) if money is None else np.where(rows, money(panel), 0.0)


RATIOS = (
    Ratio("nrr_by_tier", "end", "start"),
    Ratio("grr_by_tier", "kept", "start"),
    Ratio("logo_retention_by_tier", "retained", "labelled"),
    Ratio("expansion_rate_by_tier", "expansion", "start"),
    Ratio("expanded_share_by_tier", "expanded", "kept_paying"),
    Ratio("contraction_rate_by_tier", "contraction", "start"),
    Ratio("contracted_share_by_tier", "contracted", "kept_paying"),
    Ratio("quick_ratio_by_tier", "expansion", "lost"),
    Ratio("winback_rate_by_former_tier", "won_back", "former"),
    Ratio("activation_rate_by_tier", "activated", "applies"),
    Ratio("arpa_by_tier", "mrr", "paying"),
)


@dataclass(frozen=True)
class Cells:
    """The five sums of one ratio by cell, observed and resampled.

    Parameters
    ----------
    known
        Shape (T, U, 5): Σx, Σy, Σx², Σxy, Σy² by tier before and tier after. Shape (T, U, 8) if
        accounts are in tiers in part: the first five are weighted by the fractions, and the last
        three are the squares again, weighted by the squared fractions.
    drawn
        Shape (B, T, U, 5 or 8): the same in each replicate.
    counted
        Shape (T, U): number of accounts whose x isn't 0.
    parts
        y and x of every account, shape (N,).
    sides
        The two scores.
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
        """Return the interval of the ratio of a tier, None for all accounts, by one score."""
        rows = self._rows(tier, after=after)
        inside = float(self.counted[rows].sum())
        accounts = round(inside)
        own = _own(after=tier is not None and after, width=self.known.shape[-1])
        known = self.known[rows].reshape(-1, self.known.shape[-1]).sum(axis=0)[own]
        if known[0] == 0:
            return unknown(None, level=level, accounts=accounts, reason=NOTHING)
        if self.proportion:
            interval = from_proportion(float(known[1]), inside, level=level)
            return replace(interval, accounts=accounts)
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
        # Tied accounts may move in part; below a millionth is rounding error.
        moved = round(sum(inside) - 2 * both, 6)
        if moved == 0:
            return Interval(0.0, 0.0, 0.0, level, round(both))
        drawn = _difference(self.drawn, one, two)
        pulls = self._pulls(two, after=True) - self._pulls(one, after=False)
        return _gain(value, deviation, drawn, pulls, level, accounts, moved)

    def tier_money(self) -> TierMoney:
        """Return the sums that HHI is computed from; y must be start MRR."""
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
        """Return the influence of each account on a tier's ratio, shape (N,)."""
        y, x = self.parts
        inside = 1.0 if tier is None else self.sides[after].inside(tier)
        return pulls_of(y * inside, x * inside)

    def _rows(self, tier: int | None, *, after: bool) -> tuple[slice | int, ...]:
        if tier is None:
            return (slice(None), slice(None))
        return (slice(None), tier) if after else (tier, slice(None))


def _ratio(sums: Floats) -> tuple[Floats, Floats]:
    """Return the ratio and its standard error from five sums, shape (..., 5)."""
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
        # Accounts in both tiers influence both ratios: their covariance.
        shared = (yy - (before + after) * xy + before * after * xx) / (old[:, 0] * new[:, 0])
        variance = spread_before**2 + spread_after**2 - 2 * shared
        # A replicate with a denominator of 0 has no finite difference.
        return after - before, np.sqrt(np.maximum(variance, 0.0))


def _own(*, after: bool, width: int) -> list[int]:
    """Return the columns of a tier's five sums; after, those with squared fractions, if any."""
    return [0, 1, 5, 6, 7] if after and width > 5 else [0, 1, 2, 3, 4]


def pulls_of(y: Floats, x: Floats) -> Floats:
    """Return the influence of each account on Σy / Σx, from its y and x, shape (A,)."""
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
    """Return the interval of a ratio's change; `accounts` are the numbers before and after."""
    reason = None
    if min(accounts) < LEAST:
        reason = f"{too_few(accounts[0])} before, {accounts[1]:,} after"
    elif moved < _LEAST_MOVED:
        reason = f"{too_few(round(moved))} came or went"
    if reason is not None:
        return unknown(value, level=level, accounts=min(accounts), reason=reason)
    return resampled(value, deviation, *drawn, pulls, level=level, accounts=min(accounts))


def gathered(panel: Panel, ratios: Iterable[Ratio], chunks: Iterable[Floats]) -> dict[str, Cells]:
    """Compute the sums of ratios by cell, observed and in every replicate.

    Parameters
    ----------
    panel
        N accounts, one row each.
    ratios
        Ratios whose columns the table has.
    chunks
        Bootstrap weights, shape (b, N) each.

    Returns
    -------
    dict
        Cells by the ratio's key.

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
    by_ratio = {}
    for index, ratio in enumerate(chosen):
        own = slice(width * index, width * index + width)
        x = parts[index][1]
        counted = np.array([share[at][x[accounts[at]] != 0].sum() for at in entries])
        by_ratio[ratio.key] = Cells(
            known=known[:, own].reshape(tiers, others, width),
            drawn=drawn[:, :, own].reshape(-1, tiers, others, width),
            counted=counted.reshape(tiers, others),
            parts=parts[index],
            sides=(panel.before, panel.after),
            proportion=ratio.proportion,
        )
    return by_ratio


def _powers(
    y: Floats, x: Floats, share: Floats, accounts: NDArray[np.intp], *, whole: bool
) -> Floats:
    """Return the terms of a ratio's five or eight sums, shape (5 or 8, entries)."""
    if whole:
        return np.stack([x, y, x * x, x * y, y * y])
    y, x = y[accounts], x[accounts]
    first, squares = np.stack([x, y]), np.stack([x * x, x * y, y * y])
    return np.concatenate([first * share, squares * share, squares * share**2])


@dataclass(frozen=True)
class ClusteredCells:
    """The sums of one ratio for accounts with several rows, tier by tier, and the resampled ones.

    There are S = 1 + T + U sides: all rows, the tiers of the first score, those of the second.

    Parameters
    ----------
    x, y
        Shape (S, A): each account's sums by side.
    drawn
        Shape (B, S, 5): Σx, Σy, Σx², Σxy, Σy² over the accounts of each replicate.
    crossed
        Shape (B, min(T, U), 4): Σx₁x₂, Σx₁y₂, Σy₁x₂, Σy₁y₂ of the two scores' tiers of the same
        index.
    moved
        Shape (T, U): number of accounts that, on any date, are in a tier by the first score but
        not in the other by the second, or the reverse.
    weights
        Shape (B, A): each account's weight in each replicate.
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
        """Return the interval of the ratio of a tier, None for all rows, by one score."""
        side = self._side(tier, after=after)
        x, y, accounts = self.x[side], self.y[side], self._accounts(side)
        if x.sum() == 0:
            return unknown(None, level=level, accounts=accounts, reason=NOTHING)
        value, pulls = float(y.sum() / x.sum()), pulls_of(y, x)
        if self.proportion:
            there = x != 0
            size = effective_size(pulls[there], value, float(x.sum()), level=level)
            interval = from_proportion(value, 1.0, level=level, effective=size)
            return Interval(interval.value, interval.low, interval.high, level, accounts)
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
        """Return the sums that HHI is computed from; y must be start MRR."""
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
    """Compute the sums of ratios by account and tier, observed and in every replicate.

    Parameters and cost are as for `gathered`, with A accounts instead of N.
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
    by_ratio = {}
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
        by_ratio[ratio.key] = ClusteredCells(
            x=xs,
            y=ys,
            drawn=np.einsum("ba,saf->bsf", weights, columns, optimize=True),
            crossed=np.einsum("ba,saf->bsf", weights, crossed, optimize=True),
            moved=np.array(moved, dtype=np.intp),
            weights=weights,
            tiers=tiers,
            proportion=ratio.proportion,
        )
    return by_ratio


# ---- concentration: HHI by tier ------------------------------------------------------------------

#: Share of the largest possible variance up to which a variance is rounding error.
_ROUNDING = 1e-12
#: HHI of a single tier with all MRR.
_WHOLE = 10_000


@dataclass(frozen=True)
class TierMoney:
    """MRR by tier, observed and in each replicate: T tiers of one score, then U of another.

    Parameters
    ----------
    sums
        Shape (1 + B, T + U): MRR of each tier.
    squares
        Shape (1 + B, T + U, T + U): sums over accounts of the product of their MRR in two tiers.
    moved
        Returns each account's contribution to a weighted sum of tiers: from shape (T + U,) to (A,).
    tiers
        T and U.
    accounts
        Number of paying accounts.
    """

    sums: Floats
    squares: Floats
    moved: Callable[[Floats], Floats]
    tiers: tuple[int, int]
    accounts: int


@dataclass(frozen=True)
class _QuadraticForm:
    """A signed sum of squared distances of shares from an even split, and the moments of its error.

    Each field has shape (1 + B,). With distances d, the diagonal matrix A of signs and covariance S
    of the shares: `value` is d'Ad; `excess` is tr(AS), its mean error; `spread` is tr(ASAS); `pull`
    is d'ASAd; `size` bounds `spread` and `pull` from above.
    """

    value: Floats
    excess: Floats
    spread: Floats
    pull: Floats
    size: Floats


def concentration(money: TierMoney, *, level: float) -> tuple[Interval, Interval, Interval]:
    """Return the intervals of HHI before, after and of its change, in points; null without MRR.

    Notes
    -----
    The interval of one score holds all true values that are compatible with the estimate, each
    with its own variance, as Wilson's interval of a share does. The quantiles are Student's, with
    Satterthwaite's degrees of freedom, or those of the studentised bootstrap if wider. The interval
    of a change is the studentised bootstrap's around the estimate less its mean error. An interval
    always includes its value. Cost: B x A x (T + U)².
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
    """Return the interval of the HHI of one score."""
    form, degrees = _form(money, signs)
    even = 1 / np.count_nonzero(signs)
    value, pull = float(form.value[0]), float(form.pull[0])
    refused = _refused(money, even + value, pull, level)
    if refused is not None:
        return refused
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = form.pull / form.value
        errors = form.value - form.excess - value
        students = (errors / np.sqrt(2 * form.spread + 4 * slope * value))[1:]
    ends = student_ends(students, level=level, degrees=degrees)
    if ends is None:
        value = _WHOLE * (even + value)
        return unknown(value, level=level, accounts=money.accounts, reason=TOO_FEW)
    # An end t solves (c - t)² = reach² (2 spread + 4 slope t), where c is value - excess.
    centre, slope, spread = value - float(form.excess[0]), slope[0], float(form.spread[0])

    def true(reach: float) -> float:
        root = 4 * centre * slope + (2 * reach * slope) ** 2 + 2 * spread
        return float(centre + 2 * reach**2 * slope - reach * math.sqrt(max(root, 0.0)))

    low, high = min(max(true(ends[1]), 0.0), value), max(true(ends[0]), value)
    low, value, high = (_WHOLE * (even + each) for each in (low, value, min(high, 1 - even)))
    return Interval(value, low, high, level, money.accounts)


def _of_change(money: TierMoney, signs: Floats, level: float) -> Interval:
    """Return the interval of HHI after minus HHI before, with accounts paired."""
    count, squares = money.tiers[0], money.squares[0]
    both = (squares[:count, count:], squares[count:, count:])
    if money.sums[0].any() and all(_same(squares[:count, :count], each) for each in both):
        return Interval(0.0, 0.0, 0.0, level, money.accounts)
    form, degrees = _form(money, signs)
    # The form measures each HHI from the even split of its own tiers.
    value = float(form.value[0]) + 1 / money.tiers[1] - 1 / money.tiers[0]
    # The variance is 4 pull + 2 spread at the true shares, but the estimated pull is too large by
    # `spread` on average.
    variance = np.maximum(4 * form.pull - 2 * form.spread, 2 * form.spread)
    deviations = np.sqrt(np.where(variance > _ROUNDING * form.size, variance, 0.0))
    interval = _refused(money, value, float(deviations[0]), level)
    if interval is not None:
        return interval
    errors = form.value - form.excess - form.value[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        students = (errors / deviations)[1:]
    interval = from_students(
        _WHOLE * (value - float(form.excess[0])),
        _WHOLE * float(deviations[0]),
        students,
        level=level,
        accounts=money.accounts,
        degrees=degrees,
    )
    value *= _WHOLE
    if interval.low is None or interval.high is None:
        return unknown(value, level=level, accounts=money.accounts, reason=str(interval.reason))
    return Interval(
        value, min(interval.low, value), max(interval.high, value), level, money.accounts
    )


def _same(one: Floats, two: Floats) -> bool:
    """Return whether two tables of sums are equal, whatever the order of summation."""
    return one.shape == two.shape and np.allclose(one, two, rtol=1e-12, atol=0)


def _refused(money: TierMoney, value: float, error: float, level: float) -> Interval | None:
    """Return the value without an interval, with the reason; None if an interval is possible."""
    if not np.isfinite(value):
        return unknown(None, level=level, accounts=money.accounts, reason=NOTHING)
    if money.accounts >= LEAST and error > 0:
        return None
    reason = f"too few: {money.accounts:,} paying accounts in as many tiers as there are"
    if money.accounts >= LEAST:
        reason = "all paying accounts are in one tier" if value >= 1 else "nothing varies"
    return unknown(_WHOLE * value, level=level, accounts=money.accounts, reason=reason)


def _form(money: TierMoney, signs: Floats) -> tuple[_QuadraticForm, float]:
    """Return the quadratic form with given signs, and the degrees of freedom of its error."""
    count = money.tiers[0]
    even = np.repeat(1 / np.array(money.tiers), money.tiers)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = money.sums[:, :count].sum(axis=1)[:, None]
        shares = money.sums / whole
        # Sums of an account's MRR in a tier times its whole MRR, the sum over the tiers of a score.
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
