"""The kernel with numpy: raw scores, their bins, and counts and cents by bin and by tier."""

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
    from gtmar.engine.cohorts import RowBlock

__all__ = [
    "BIN_BLOCK",
    "Counts",
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
#: P is a multiple of this. The bins at the end, one at least, are nobody's: they fill a block.
BIN_BLOCK = 128


def bin_count(max_score: int) -> int:
    """Return P: a bin per score value, and some at the end that fill whole blocks.

    Examples
    --------
    >>> bin_count(100)
    10112
    """
    return -(-(RAW_PER_SCORE * max_score + 2) // BIN_BLOCK) * BIN_BLOCK


def raw_scores(
    columns: Sequence[Integers], weights: Int64s, base: int, *, wide: bool = True
) -> Integers:
    """Score every account in full, in 1/10,000 of a point; int64, or int32 unless `wide`.

    `columns` are F arrays of shape (N,) in 1/10,000ths, `base` the points every account starts
    with. Raises `ShapeError` if there isn't one weight a column.
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
    """Add weight changes, pairs of a column's number and a change, to every account's raw score.

    Equals a full recompute, since raw scores are exact integers, at one pass over N a changed
    weight instead of F passes. The result goes to `out`, which may be `raw`; `spare` is room for a
    product, as large as `out`.
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
    """Round raw scores half up to 1/100 of a point, and clip.

    Returns `raw` itself, shape (K, n), now in [0, 100 x max_score]; and int64 (K, 2), accounts
    below 0 and above the maximum after rounding.
    """
    raw += RAW_PER_SCORE // 2
    np.floor_divide(raw, RAW_PER_SCORE, out=raw)
    top = RAW_PER_SCORE * max_score
    clipped = np.zeros((len(raw), 2), dtype=np.int64)
    # A minimum costs a fraction of a comparison and its count, and most often nobody is clipped.
    if raw.min(initial=0) < 0:
        clipped[:, 0] = [np.count_nonzero(row < 0) for row in raw]
        np.maximum(raw, 0, out=raw)
    if raw.max(initial=0) > top:
        clipped[:, 1] = [np.count_nonzero(row > top) for row in raw]
        np.minimum(raw, top, out=raw)
    return raw, clipped


#: How many cohorts `accounts` holds, and flows of cents `money`, LTV the last.
_COHORTS = 5
_FLOWS = len(CASH_FLOWS) + 1


@dataclass(frozen=True)
class Counts:
    """Exact integers that the scores of K candidates give; two of them add up, array by array."""

    #: int64, shape (K, 2): accounts whose rounded raw score lies below 0, and above the maximum.
    clipped: Int64s
    #: int64, shape (K, 5, P): accounts per score bin: negatives, positives, rest, paying, and
    #: valued, those of the LTV cohort.
    accounts: Int64s
    #: int64, shape (K, 5, L, P): cents per score bin, in L limbs: `CASH_FLOWS`, and LTV.
    money: Int64s
    #: int64, shape (K, T, C): accounts per tier and code.
    tier_counts: Int64s
    #: int64, shape (K, T, U): activated accounts per tier and distinct value of days.
    tier_days: Int64s
    #: int64, shape (K, T): the lowest bin of each tier, from the highest tier down.
    lows: Int64s
    #: The bin that the P of them begin with: no account is outside of what they hold.
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
        """Add up the counts of some parts of the table, packed or not.

        One whose sums fit one limb adds to one that needs two: its second is all zeros; and so it
        is with bins that it lacks.
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
        """Return counts by tier alone, over no bins; `clipped` is not counted again."""
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
        """Return these counts with the tiers, and their edges, of others."""
        return replace(
            self, tier_counts=tiers.tier_counts, tier_days=tiers.tier_days, lows=tiers.lows
        )

    @classmethod
    def joined(cls, groups: Sequence[Counts]) -> Counts:
        """Return the counts of several groups of candidates, one after the other, as one."""
        if len(groups) == 1:
            return groups[0]
        window, depth = _window_of(groups), groups[0].money.shape[2]
        groups = [group.over(window, depth) for group in groups]
        names = (*_ADDED, "lows")
        joined = {n: np.concatenate([getattr(g, n) for g in groups]) for n in names}
        return cls(**joined, first=window.start)

    def narrowed(self) -> Counts:
        """Return the same counts less the blocks of bins that nobody has."""
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
        """Return the same counts over more bins, all of theirs included, and in `depth` limbs."""
        at = self.first - window.start
        bins = slice(at, at + self.accounts.shape[-1])
        accounts = np.zeros((*self.accounts.shape[:2], len(window)), dtype=np.int64)
        money = np.zeros((*self.money.shape[:2], depth, len(window)), dtype=np.int64)
        accounts[..., bins], money[:, :, : self.money.shape[2], bins] = self.accounts, self.money
        # Those that are packed, widened; no array is shared with these counts.
        rest = {name: getattr(self, name).astype(np.int64) for name in _ADDED[2:]}
        return replace(self, accounts=accounts, money=money, first=window.start, **rest)

    def packed(self) -> Counts:
        """Return the same counts as they are sent: without empty blocks, each array narrow."""
        narrow = self.narrowed()
        arrays: dict[str, Any] = {name: _packed(getattr(narrow, name)) for name in _ADDED}
        return replace(narrow, **arrays)


#: What adds up, of `Counts`.
_ADDED = ("accounts", "money", "clipped", "tier_counts", "tier_days")


def _packed(values: Int64s) -> Integers:
    """Return an array as the narrowest type that holds it, in one piece."""
    low, high = values.min(initial=0), values.max(initial=0)
    kinds = (np.uint8, np.uint16, np.int32, np.int64)
    fits = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.ascontiguousarray(values, dtype=next(fits))


def _window_of(parts: Sequence[Counts]) -> range:
    """Return the bins that any of some counts has."""
    ends = [part.first + part.accounts.shape[-1] for part in parts]
    return range(min(part.first for part in parts), max(ends))


def bin_window(first: int, last: int) -> range:
    """Return the whole blocks of bins that two and all between them lie in."""
    return range(first // BIN_BLOCK * BIN_BLOCK, (last // BIN_BLOCK + 1) * BIN_BLOCK)


def count(
    bins: Integers,
    clipped: Int64s,
    part: RowBlock,
    tiers: int,
    window: range,
) -> Counts:
    """Count the accounts and cents of K candidates per score bin; the tiers' counts are left 0.

    Parameters
    ----------
    bins, clipped
        From `score_bins`, shapes (K, n) and (K, 2).
    part
        The n accounts, with cents for K candidates at least.
    tiers
        T.
    window
        The bins to count, which must hold all that occur: `range(P)`, or less. P is their number
        in what is returned.

    Notes
    -----
    Cost: a `bincount` over n for the accounts per bin, and one for each of start MRR and LTV; each
    is a pass over n. All K candidates share a call.
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
    # One call for the three that no account is in two of: a run of P for each, two left free.
    apart = at + (total * (_COHORTS - 1) * np.arange(candidates))[:, None]
    apart[:, part.positives] += total
    apart[:, part.rest] += 2 * total
    counts = _bincount(apart, candidates, total * _COHORTS).reshape(candidates, _COHORTS, total)
    negatives, positives, rest, paying, valued = counts.swapaxes(0, 1)
    labelled = np.add(negatives, positives, out=valued)
    if part.revenue:
        # The paying, or all that are labelled but those who don't pay: whoever is fewer.
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
    """Return values less `less`, those of candidate k raised by k x width, as `bincount` has them.

    It would copy anything but intp.
    """
    raised = values.astype(np.intp)
    if len(raised) > 1 or less:
        raised += (width * np.arange(len(raised)) - less)[:, None]
    return raised


def _tiers_of(bins: Integers, lows: Int64s) -> Integers:
    """Return each account's tier, 0 the highest, shape (K, n)."""
    # Comparisons are far cheaper than looking each bin up.
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


#: As `numpy.sum`, without the detour that small arrays feel; and the same of runs.
_sum, _sum_runs = np.add.reduce, np.add.reduceat


def boundaries(cohorts: Int64s, money: Int64s) -> dict[str, Int64s]:
    """Sum the top fifth of the paying accounts, and both end quarters of the LTV cohort.

    `cohorts`, (K, 2, bins), are paying and valued accounts in whole blocks of bins; `money` is as
    in `Counts`. The sums are by their names in `SCALAR_SUMS`, (K,) accounts and (K, L) cents.
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
    """Return start and end MRR of cents by `CASH_FLOWS`, its first axis."""
    gone, stays, contraction, expansion = flows
    return gone + stays, stays - contraction + expansion


def _around(money: Int64s, edge: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Sum what lies below, on and above a bin; (K, M, L, bins) and (K, M) to (K, L, M) each."""
    *rows, bins = money.shape
    ends = np.stack([np.zeros_like(edge), edge, np.minimum(edge + 1, bins - 1)], axis=-1)
    first = bins * np.arange(np.prod(rows)).reshape(*rows, 1)
    parts = _sum_runs(money.reshape(-1), (first + ends[:, :, None]).reshape(-1))
    below, on, above = parts.reshape(*rows, 3).transpose(3, 0, 2, 1)
    # Of an empty run, `reduceat` gives the bin itself.
    return below * (edge > 0)[:, None], on, above * (edge < bins - 1)[:, None]
