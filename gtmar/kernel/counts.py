"""Counts: the exact integers that the scores of K candidates give, and the counting of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from gtmar.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.kernel.cohorts import Part

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]

__all__ = ["Counts", "count"]

#: Where arrays have their limbs.
_LIMBED = {"money": -2}
#: How much `accounts` and `money` hold.
_COHORTS = 5
_KINDS = 5


@dataclass(frozen=True)
class Counts:
    """Exact integers that the scores of K candidates give; two of them add up, array by array.

    Parameters
    ----------
    clipped
        int64, shape (K, 2): accounts whose rounded raw score lies below 0, and above the maximum.
    accounts
        int64, shape (K, 5, P): accounts per score place: negatives, positives, rest, paying, and
        valued, those of the LTV cohort.
    money
        int64, shape (K, 5, L, P): cents per score place, in L limbs: start MRR of the paying that
        are gone, of those that stay, contraction, expansion, and LTV. End MRR follows from these.
    tier_counts
        int64, shape (K, T, C): accounts per tier and code.
    tier_days
        int64, shape (K, T, U): activated accounts per tier and distinct value of days.
    """

    clipped: Int64s
    accounts: Int64s
    money: Int64s
    tier_counts: Int64s
    tier_days: Int64s

    def __add__(self, other: Counts) -> Counts:
        """Add the counts of another part of the table.

        A part whose sums fit one limb adds to one that needs two: its second is all zeros.
        """
        added = {}
        for name, pair in self._pairs(other).items():
            even = _of_one_depth(*pair, axis=_LIMBED[name]) if name in _LIMBED else pair
            added[name] = np.add(*_matching(name, *even))
        return Counts(**added)

    def __iadd__(self, other: Counts) -> Counts:
        """Add the counts of another part in place; both have as many limbs."""
        for name, (mine, theirs) in self._pairs(other).items():
            np.add(*_matching(name, mine, theirs), out=mine)
        return self

    def _pairs(self, other: Counts) -> dict[str, tuple[Int64s, Int64s]]:
        names = (field.name for field in fields(self))
        return {name: (getattr(self, name), getattr(other, name)) for name in names}

    @classmethod
    def joined(cls, groups: Sequence[Counts]) -> Counts:
        """Return the counts of several groups of candidates, one after the other, as one."""
        if len(groups) == 1:
            return groups[0]
        names = [field.name for field in fields(cls)]
        return cls(**{n: np.concatenate([getattr(g, n) for g in groups]) for n in names})

    def narrowed(self, block: int) -> tuple[Counts, int]:
        """Return the same counts less the blocks of places that nobody has, and their first place.

        Parameters
        ----------
        block
            Places of a block.
        """
        found = np.flatnonzero(self.accounts[:, :3].any(axis=(0, 1)))
        low, high = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
        window = slice(low // block * block, (high // block + 1) * block)
        return (
            replace(self, accounts=self.accounts[..., window], money=self.money[..., window]),
            window.start,
        )

    def widened(self, first: int, places: int) -> Counts:
        """Return the same counts over all P places; these begin with place `first`."""
        wide = {}
        for name in ("accounts", "money"):
            narrow = getattr(self, name)
            wide[name] = np.zeros((*narrow.shape[:-1], places), dtype=np.int64)
            wide[name][..., first : first + narrow.shape[-1]] = narrow
        return replace(self, **wide)


def _matching(name: str, mine: Int64s, theirs: Int64s) -> tuple[Int64s, Int64s]:
    if mine.shape != theirs.shape:
        raise ShapeError(f"counts.{name}: {mine.shape} and {theirs.shape} don't add up")
    return mine, theirs


def _of_one_depth(mine: Int64s, theirs: Int64s, *, axis: int) -> tuple[Int64s, Int64s]:
    """Give two arrays of limbs the same number of limbs."""
    depth = max(mine.shape[axis], theirs.shape[axis])

    def padded(limbed: Int64s) -> Int64s:
        if limbed.shape[axis] == depth:
            return limbed
        missing = [(0, 0)] * limbed.ndim
        missing[axis] = (0, depth - limbed.shape[axis])
        return np.pad(limbed, missing)

    return padded(mine), padded(theirs)


def count(
    places: Integers,
    clipped: Int64s,
    part: Part,
    tier_lows: Sequence[int],
    window: range,
) -> Counts:
    """Count the accounts and cents of K candidates per score place and per tier.

    Parameters
    ----------
    places, clipped
        From `score_places`, shapes (K, n) and (K, 2).
    part
        The n accounts, with cents for K candidates at least.
    tier_lows
        The lowest place of each of T tiers, from the highest tier down; the last is 0.
    window
        The places to count, which must hold all that occur: `range(P)`, or less. P is their number
        in what is returned.

    Notes
    -----
    Cost: a `bincount` over n for the accounts per place, one for each of start MRR and LTV, and one
    for tiers; each is a pass over n. All K candidates share a call.
    """
    candidates, tiers, total = len(places), len(tier_lows), len(window)
    at = _offset(places, total, less=window.start)
    accounts = _accounts(at, part, total)
    size = tiers * part.code_count
    tier = _tiers_of(places, tier_lows)
    codes = tier.astype(np.int32)
    codes *= part.code_count
    codes += part.codes
    coded = _offset(codes, size)

    def cents(rows: NDArray[np.intp], limbs: tuple[NDArray[np.float64], ...], out: Int64s) -> None:
        flat = rows.ravel()
        for place, limb in enumerate(limbs):
            added = np.bincount(flat, limb[: len(flat)], minlength=candidates * total)
            out[:, place] = added.reshape(candidates, total)

    money = np.zeros((candidates, _KINDS, part.depth, total), dtype=np.int64)
    for kind, (run, limbs) in enumerate(part.cash):
        if limbs:
            cents(at[:, run], limbs, money[:, kind])
    if part.ltv:
        valued = at if part.valued is None else at.take(part.valued, axis=1)
        cents(valued, part.ltv, money[:, -1])
    return Counts(
        clipped=clipped,
        accounts=accounts,
        money=money,
        tier_counts=_bincount(coded, candidates, size).reshape(candidates, tiers, -1),
        tier_days=_tier_days(tier, part, tiers),
    )


def _bincount(rows: NDArray[np.intp], candidates: int, width: int) -> Int64s:
    return np.bincount(rows.ravel(), minlength=candidates * width).reshape(candidates, width)


def _accounts(at: NDArray[np.intp], part: Part, total: int) -> Int64s:
    """Count each cohort's accounts per place, int64 (K, 5, P)."""
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


def _tiers_of(places: Integers, tier_lows: Sequence[int]) -> Integers:
    """Return each account's tier, 0 the highest, shape (K, n)."""
    # Comparisons are far cheaper than looking each place up.
    tier = np.zeros(places.shape, dtype=np.int8 if len(tier_lows) < 128 else np.int32)
    below = np.empty(places.shape, dtype=bool)
    for low in tier_lows[:-1]:
        np.less(places, low, out=below)
        tier += below.view(np.int8)
    return tier


def _tier_days(tier: Integers, part: Part, tiers: int) -> Int64s:
    candidates, days = len(tier), part.day_count
    if not len(part.dated):
        return np.zeros((candidates, tiers, days), dtype=np.int64)
    rows = tier.take(part.dated, axis=1).astype(np.int32)
    rows *= days
    rows += part.days
    return _bincount(_offset(rows, tiers * days), candidates, tiers * days).reshape(-1, tiers, days)
