"""The kernel with numpy: raw scores, their bins, and counts and cents by bin and by tier.

Letters of shapes: N accounts, n of them in a block, F weights, K candidates, T tiers, C codes of
movement class and activation state, U distinct values of days, P score bins, L limbs of money.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.engine.cohorts import CASH_FLOWS
from gtmar.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]
    from gtmar.data.matrix import AccountMatrix
    from gtmar.engine.cohorts import RowBlock
    from gtmar.spec.combination import Combination

__all__ = [
    "BIN_BLOCK",
    "Counts",
    "SetSums",
    "add_steps",
    "bin_count",
    "bin_window",
    "boundaries",
    "count",
    "count_tiers",
    "raw_scores",
    "revenue",
    "score_bins",
]


#: Raw scores are in 1/10,000 of a point, score values in 1/100.
RAW_PER_SCORE = 100
#: P is a multiple of this. At least one bin at the end has no score value: those fill the block.
BIN_BLOCK = 128


def bin_count(max_score: int) -> int:
    """Return P, the number of bins: one for each score value, and some that fill the last block.

    Examples
    --------
    >>> bin_count(100)
    10112
    """
    return -(-(RAW_PER_SCORE * max_score + 2) // BIN_BLOCK) * BIN_BLOCK


def raw_scores(
    columns: Sequence[Integers], weights: Int64s, base: int, *, wide: bool = True
) -> Integers:
    """Return the raw scores of N accounts in 1/10,000 of a point, shape (N,).

    Parameters
    ----------
    columns
        F arrays of shape (N,): encoded values in 1/10,000ths.
    weights
        int64, shape (F,), in points.
    base
        Points that every account starts with.
    wide
        Whether the result is int64; else int32, which the caller knows to suffice.

    Raises
    ------
    ShapeError
        If there isn't one weight a column.
    """
    if len(columns) != len(weights):
        raise ShapeError(
            f"weights: expected one for each of F = {len(columns)} columns, got {len(weights)}"
        )
    kind = np.int64 if wide else np.int32
    raw: Integers = np.full(len(columns[0]), base * RAW_PER_SCORE**2, dtype=kind)
    add_steps(raw, columns, list(enumerate(weights.tolist())), out=raw)
    return raw


def add_steps(
    raw: Integers,
    columns: Sequence[Integers],
    steps: Sequence[tuple[int, int]],
    *,
    out: Integers,
    spare: Integers | None = None,
) -> None:
    """Add changes of weights to every account's raw score.

    The result equals a full recompute, since raw scores are exact integers, at one pass over N for
    each changed weight.

    Parameters
    ----------
    raw
        Raw scores, shape (N,).
    columns
        F arrays of shape (N,).
    steps
        Pairs of a column's number and the change of its weight.
    out
        Receives the result; may be `raw`.
    spare
        A buffer like `out` for products; None has one allocated for each.
    """
    start = raw
    for index, change in steps:
        if change:
            # Widened first: the product may leave the column's own narrow type.
            product = np.multiply(columns[index], change, dtype=out.dtype, out=spare)
            np.add(start, product, out=out)
            start = out
    if start is not out:
        np.copyto(out, start)


def score_bins(raw: Integers, max_score: int) -> tuple[Integers, Int64s]:
    """Round raw scores, (K, n), half up to 1/100 of a point, and clip them, in place.

    Returns `raw` itself, now in [0, 100 x max_score], and int64 (K, 2): how many accounts were
    below 0, and above the maximum, after rounding.
    """
    raw += RAW_PER_SCORE // 2
    np.floor_divide(raw, RAW_PER_SCORE, out=raw)
    top = RAW_PER_SCORE * max_score
    clipped = np.zeros((len(raw), 2), dtype=np.int64)
    # A minimum costs a fraction of counting, and most often nobody is clipped.
    if raw.min(initial=0) < 0:
        clipped[:, 0] = [np.count_nonzero(row < 0) for row in raw]
        np.maximum(raw, 0, out=raw)
    if raw.max(initial=0) > top:
        clipped[:, 1] = [np.count_nonzero(row > top) for row in raw]
        np.minimum(raw, top, out=raw)
    return raw, clipped


#: How many cohorts `Counts.accounts` has, and kinds of cents `Counts.money`, LTV the last.
_COHORTS = 5
_FLOWS = len(CASH_FLOWS) + 1


@dataclass(frozen=True)
class Counts:
    """What is counted of K candidates: exact integers, so that counts of two parts add up."""

    #: int64, shape (K, 2): accounts whose rounded raw score lies below 0, and above the maximum.
    clipped: Int64s
    #: int64, shape (K, 5, P): accounts per score bin: negatives, positives, those with neither
    #: label, paying, LTV cohort.
    accounts: Int64s
    #: int64, shape (K, 5, L, P): cents per score bin, in L limbs: each of `CASH_FLOWS`, then LTV.
    money: Int64s
    #: int64, shape (K, T, C): accounts per tier and code.
    tier_counts: Int64s
    #: int64, shape (K, T, U): activated accounts per tier and distinct value of days.
    tier_days: Int64s
    #: int64, shape (K, T): the lowest bin of each tier, from the highest tier down.
    lows: Int64s
    #: The first of the P bins, where these are only a range of all: no account lies outside of it.
    first: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add the counts of another part of the table."""
        return self.total([self, other])

    def __iadd__(self, other: Counts) -> Counts:
        """Add the counts of another part in place; both have the same bins, and as many limbs."""
        if self.first != other.first:
            raise ShapeError(f"counts begin with bins {self.first} and {other.first}")
        for name in _ADDED:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine.shape != theirs.shape:
                raise ShapeError(f"counts.{name}: {mine.shape} and {theirs.shape} don't add up")
            np.add(mine, theirs, out=mine)
        return self

    @classmethod
    def total(cls, parts: Sequence[Counts]) -> Counts:
        """Add up the counts of several parts of a table, packed or not.

        Parts may differ in limbs and in bins: those that a part lacks count as 0.
        """
        total = parts[0].over(_window_of(parts), max(part.money.shape[2] for part in parts))
        for part in parts[1:]:
            at = part.first - total.first
            bins, depth = slice(at, at + part.accounts.shape[-1]), part.money.shape[2]
            mine = replace(
                total, accounts=total.accounts[..., bins], money=total.money[:, :, :depth, bins]
            )
            mine += replace(part, first=total.first)
        return total

    @classmethod
    def of_tiers(cls, by_code: Int64s, by_days: Int64s, lows: Int64s, clipped: Int64s) -> Counts:
        """Return counts by tier without bins; those of clipped accounts, shaped alike, are 0."""
        candidates = len(lows)
        return cls(
            clipped=np.zeros_like(clipped),
            accounts=np.zeros((candidates, _COHORTS, 0), dtype=np.int64),
            money=np.zeros((candidates, _FLOWS, 1, 0), dtype=np.int64),
            tier_counts=by_code,
            tier_days=by_days,
            lows=lows,
        )

    def with_tiers(self, tiers: Counts) -> Counts:
        """Return these counts with the counts by tier, and the tier edges, of `tiers`."""
        return replace(
            self, tier_counts=tiers.tier_counts, tier_days=tiers.tier_days, lows=tiers.lows
        )

    @classmethod
    def joined(cls, groups: Sequence[Counts]) -> Counts:
        """Return the counts of several groups of candidates as those of all, in their order."""
        if len(groups) == 1:
            return groups[0]
        window, depth = _window_of(groups), groups[0].money.shape[2]
        groups = [group.over(window, depth) for group in groups]
        names = (*_ADDED, "lows")
        joined = {n: np.concatenate([getattr(g, n) for g in groups]) for n in names}
        return cls(**joined, first=window.start)

    def narrowed(self) -> Counts:
        """Return the same counts without the empty blocks of bins at either end."""
        held = np.flatnonzero(self.accounts[:, :3].any(axis=(0, 1))).tolist() or [0]
        window = bin_window(held[0], held[-1])
        bins = slice(window.start, window.stop)
        return replace(
            self,
            accounts=self.accounts[..., bins],
            money=self.money[..., bins],
            first=self.first + window.start,
        )

    def over(self, window: range, depth: int) -> Counts:
        """Return a copy of these counts over the bins of `window`, which has all of theirs.

        Money is in `depth` limbs.
        """
        at = self.first - window.start
        bins = slice(at, at + self.accounts.shape[-1])
        accounts = np.zeros((*self.accounts.shape[:2], len(window)), dtype=np.int64)
        money = np.zeros((*self.money.shape[:2], depth, len(window)), dtype=np.int64)
        accounts[..., bins], money[:, :, : self.money.shape[2], bins] = self.accounts, self.money
        # `astype` also copies: no array is shared with these counts.
        rest = {name: getattr(self, name).astype(np.int64) for name in _ADDED[2:]}
        return replace(self, accounts=accounts, money=money, first=window.start, **rest)

    def packed(self) -> Counts:
        """Return the same counts, small: without empty blocks, each array in a narrow type."""
        narrow = self.narrowed()
        arrays: dict[str, Any] = {name: _packed(getattr(narrow, name)) for name in _ADDED}
        return replace(narrow, **arrays)


#: The arrays of `Counts` that add up.
_ADDED = ("accounts", "money", "clipped", "tier_counts", "tier_days")


def _packed(values: Int64s) -> Integers:
    """Return an array in the narrowest integer type that holds its values, contiguous."""
    low, high = values.min(initial=0), values.max(initial=0)
    kinds = (np.uint8, np.uint16, np.int32, np.int64)
    fits = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.ascontiguousarray(values, dtype=next(fits))


def _window_of(parts: Sequence[Counts]) -> range:
    """Return the smallest range of bins that has those of all counts."""
    ends = [part.first + part.accounts.shape[-1] for part in parts]
    return range(min(part.first for part in parts), max(ends))


def bin_window(first: int, last: int) -> range:
    """Return the smallest range of whole blocks that has the bins from `first` to `last`."""
    return range(first // BIN_BLOCK * BIN_BLOCK, (last // BIN_BLOCK + 1) * BIN_BLOCK)


def count(bins: Integers, clipped: Int64s, part: RowBlock, tiers: int, window: range) -> Counts:
    """Count the accounts and cents of K candidates per score bin; counts by tier are left 0.

    Parameters
    ----------
    bins, clipped
        From `score_bins`, shapes (K, n) and (K, 2).
    part
        The n accounts, their cents repeated for at least K candidates.
    tiers
        T.
    window
        The bins of the result, all that occur among them: all P, or a part of them.

    Notes
    -----
    Cost: three passes over n for each candidate, one each for accounts, start MRR and LTV.
    """
    candidates, total = len(bins), len(window)
    at = _offset(bins, total, less=window.start)

    def cents(rows: NDArray[np.intp], limbs: tuple[NDArray[np.float64], ...], out: Int64s) -> None:
        flat = rows.ravel()
        for index, limb in enumerate(limbs):
            added = np.bincount(flat, limb[: len(flat)], minlength=candidates * total)
            out[:, index] = added.reshape(candidates, total)

    money = np.zeros((candidates, _FLOWS, part.depth, total), dtype=np.int64)
    for kind, (run, limbs) in enumerate(part.cash):
        if limbs:
            cents(at[:, run], limbs, money[:, kind])
    if part.ltv:
        valued = at if part.valued is None else at.take(part.valued, axis=1)
        cents(valued, part.ltv, money[:, -1])
    return Counts(
        clipped=clipped,
        accounts=_accounts(at, part, total),
        money=money,
        tier_counts=np.zeros((candidates, tiers, part.code_count), dtype=np.int64),
        tier_days=np.zeros((candidates, tiers, part.day_count), dtype=np.int64),
        lows=np.zeros((candidates, tiers), dtype=np.int64),
        first=window.start,
    )


def count_tiers(bins: Integers, part: RowBlock, lows: Int64s) -> tuple[Int64s, Int64s]:
    """Count the accounts of K candidates per tier: by code, and by days to activation.

    Parameters
    ----------
    bins
        From `score_bins`, shape (K, n).
    part
        The n accounts.
    lows
        int64, shape (K, T): the lowest bin of each tier, from the highest tier down.

    Returns
    -------
    tuple of ndarray of int64
        Shapes (K, T, C) and (K, T, U). Cost: a `bincount` over n, and a comparison a tier.
    """
    candidates, tiers = lows.shape
    size = tiers * part.code_count
    tier = _tiers_of(bins, lows)
    codes = tier.astype(np.int32)
    codes *= part.code_count
    codes += part.codes
    counted = _bincount(_offset(codes, size), candidates, size).reshape(candidates, tiers, -1)
    return counted, _tier_days(tier, part, tiers)


def _bincount(rows: NDArray[np.intp], candidates: int, width: int) -> Int64s:
    return np.bincount(rows.ravel(), minlength=candidates * width).reshape(candidates, width)


def _accounts(at: NDArray[np.intp], part: RowBlock, total: int) -> Int64s:
    """Count each cohort's accounts per bin, int64 (K, 5, P)."""
    candidates = len(at)
    # One `bincount` for the three cohorts that don't overlap: each has its own P bins, followed by
    # those of the other two, which are filled below.
    apart = at + (total * (_COHORTS - 1) * np.arange(candidates))[:, None]
    apart[:, part.positives] += total
    apart[:, part.rest] += 2 * total
    counts = _bincount(apart, candidates, total * _COHORTS).reshape(candidates, _COHORTS, total)
    negatives, positives, rest, paying, valued = counts.swapaxes(0, 1)
    labelled = np.add(negatives, positives, out=valued)
    if part.revenue:
        # Count the paying, or the labelled who don't pay and subtract: whichever are fewer.
        run, end = part.paying, part.positives.stop
        outside = run.start + end - run.stop
        if run.stop > end or outside > run.stop - run.start:
            paying[...] = _bincount(at[:, run], candidates, total)
        elif outside:
            others = np.hstack([at[:, : run.start], at[:, run.stop : end]])
            np.subtract(labelled, _bincount(others, candidates, total), out=paying)
        else:
            paying[...] = labelled
    if not part.ltv:
        valued[...] = 0
    elif part.valued is not None:
        valued[...] = _bincount(at.take(part.valued, axis=1), candidates, total)
    else:
        valued += rest
        if part.unvalued is not None and len(part.unvalued):
            valued -= _bincount(at.take(part.unvalued, axis=1), candidates, total)
    return counts


def _offset(values: Integers, width: int, *, less: int = 0) -> NDArray[np.intp]:
    """Return values minus `less`, plus k x `width` for candidate k, for one `bincount` of all.

    The result is intp: `bincount` would copy any other type.
    """
    raised = values.astype(np.intp)
    if len(raised) > 1 or less:
        raised += (width * np.arange(len(raised)) - less)[:, None]
    return raised


def _tiers_of(bins: Integers, lows: Int64s) -> Integers:
    """Return each account's tier, 0 the highest, shape (K, n)."""
    # Comparing with each edge is far cheaper than a search for each bin.
    tier = np.zeros(bins.shape, dtype=np.int8 if lows.shape[1] < 128 else np.int32)
    below = np.empty(bins.shape, dtype=bool)
    for low in lows.T[:-1].astype(bins.dtype):
        np.less(bins, low[:, None], out=below)
        tier += below.view(np.int8)
    return tier


def _tier_days(tier: Integers, part: RowBlock, tiers: int) -> Int64s:
    candidates, days = len(tier), part.day_count
    if not len(part.dated):
        return np.zeros((candidates, tiers, days), dtype=np.int64)
    rows = tier.take(part.dated, axis=1).astype(np.int32)
    rows *= days
    rows += part.days
    return _bincount(_offset(rows, tiers * days), candidates, tiers * days).reshape(-1, tiers, days)


#: As `numpy.sum`, which has an overhead that shows with small arrays; and sums of ranges.
_sum, _sum_runs = np.add.reduce, np.add.reduceat


def boundaries(cohorts: Int64s, money: Int64s) -> dict[str, Int64s]:
    """Return the sums of the top fifth of paying accounts, and of both end quarters by LTV.

    Parameters
    ----------
    cohorts
        int64, shape (K, 2, bins): paying accounts and those of the LTV cohort, by bin in rank
        order; bins are whole blocks.
    money
        `Counts.money`, in the same order of bins.

    Returns
    -------
    dict
        By name in `SCALAR_SUMS`: accounts, int64 (K,), and cents, int64 (K, L).
    """
    candidates = len(money)
    blocks = cohorts.reshape(candidates, 2, -1, BIN_BLOCK)
    reached = np.cumsum(_sum(blocks, axis=-1), axis=-1)
    paying, valued = reached[..., -1].T
    # Each boundary is the first bin up to which more accounts lie than these: four fifths of the
    # paying, three quarters of the valued, and, of the worst quarter, one less than a quarter.
    least = np.stack([paying * 4 // 5, valued * 3 // 4, -(-valued // 4) - 1], axis=1)
    cohort = np.array([0, 1, 1])
    reached, each = reached[:, cohort], np.arange(candidates)[:, None]
    block = np.minimum(_sum(reached <= least[..., None], axis=-1), reached.shape[-1] - 1)
    inner = blocks[each, cohort, block]
    within = np.cumsum(inner, axis=-1)
    within += (reached[each, np.arange(3), block] - within[..., -1])[..., None]
    edge = np.minimum(_sum(within <= least[..., None], axis=-1), BIN_BLOCK - 1)
    upto, tied = within[each, np.arange(3), edge], inner[each, np.arange(3), edge]
    edge += block * BIN_BLOCK

    _, on, above = _around(money, edge[:, [0, 0, 0, 0, 1]])
    below, last, _ = _around(money[:, -1:], edge[:, 2:])
    start, end = revenue(np.moveaxis(above, -1, 0)[:-1])
    start_tied, end_tied = revenue(np.moveaxis(on, -1, 0)[:-1])
    return {
        "top_accounts": paying,
        "top_start": start,
        "top_start_tied": start_tied,
        "top_end": end,
        "top_end_tied": end_tied,
        "top_tied": tied[:, 0],
        "top_fit": paying - 5 * (paying - upto[:, 0]),
        "ltv_accounts": valued,
        "best_ltv": above[..., -1],
        "best_ltv_tied": on[..., -1],
        "best_tied": tied[:, 1],
        "best_fit": valued - 4 * (valued - upto[:, 1]),
        "worst_ltv": below[..., 0],
        "worst_ltv_tied": last[..., 0],
        "worst_tied": tied[:, 2],
        "worst_fit": valued - 4 * (upto[:, 2] - tied[:, 2]),
    }


def revenue(flows: Int64s) -> tuple[Int64s, Int64s]:
    """Return start and end MRR, in cents; the first axis of `flows` is that of `CASH_FLOWS`."""
    gone, stays, contraction, expansion = flows
    return gone + stays, stays - contraction + expansion


def _around(money: Int64s, edge: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Return the sums below a bin, in it and above it, three arrays of shape (K, L, M).

    `money` is (K, M, L, bins), `edge` the bin for each candidate and kind of money, (K, M).
    """
    *rows, bins = money.shape
    ends = np.stack([np.zeros_like(edge), edge, np.minimum(edge + 1, bins - 1)], axis=-1)
    first = bins * np.arange(np.prod(rows)).reshape(*rows, 1)
    parts = _sum_runs(money.reshape(-1), (first + ends[:, :, None]).reshape(-1))
    below, on, above = parts.reshape(*rows, 3).transpose(3, 0, 2, 1)
    # For an empty range, `reduceat` gives the value of one bin instead of 0.
    return below * (edge > 0)[:, None], on, above * (edge < bins - 1)[:, None]


_ALL = slice(None)


class SetSums:
    """The incumbent's points over N accounts, summed by set of features.

    Until `move`, the incumbent's weights are all 0.
    """

    def __init__(self, matrix: AccountMatrix, combination: Combination) -> None:
        self._columns, self._flags, self._combination = matrix.columns, matrix.flags, combination
        self._weights: tuple[int, ...] = (0,) * len(matrix.columns)
        self._sums = [np.zeros(matrix.accounts, dtype=np.int64) for _ in combination.sets]

    @property
    def arrays(self) -> tuple[Int64s, ...]:
        """Arrays that it keeps in memory beside the matrix."""
        return tuple(self._sums)

    def move(self, weights: Sequence[int]) -> None:
        """Make F weights the incumbent's. Cost: a pass over N for each that differs."""
        for sums, steps in zip(self._sums, self._steps(weights), strict=True):
            add_steps(sums, self._columns, steps, out=sums)
        self._weights = tuple(weights)

    def raw(self, candidates: Sequence[Sequence[int]], rows: slice = _ALL) -> Int64s:
        """Return raw scores of K candidates for n rows, in 1/10,000 of a point, shape (K, n)."""
        columns = [column[rows] for column in self._columns]
        flags = {n: self._flags[n][rows].astype(np.int64) for n in self._combination.flags}
        made = []
        for weights in candidates:
            sums = [own[rows] for own in self._sums]
            for number, steps in enumerate(self._steps(weights)):
                if steps:
                    points = np.empty_like(sums[number])
                    add_steps(sums[number], columns, steps, out=points)
                    sums[number] = points
            made.append(self._combination.raw(sums, weights, flags))
        return np.stack(made)

    def _steps(self, weights: Sequence[int]) -> list[list[tuple[int, int]]]:
        """Return for each set the weights that differ: pairs of a weight's number and a change."""
        old = self._weights
        return [
            [(i, weights[i] - old[i]) for i in each.terms if weights[i] != old[i]]
            for each in self._combination.sets
        ]
