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

_BY_PLACE = ("negatives", "positives", "rest", "paying", "valued", "start", "end", "ltv")
_LIMBED = {"start": -2, "end": -2, "ltv": -2, "tier_change": -3}


@dataclass(frozen=True)
class Counts:
    """Exact integers that the scores of K candidates give; two of them add up, array by array.

    Parameters
    ----------
    clipped
        int64, shape (K, 2): accounts whose rounded raw score lies below 0, and above the maximum.
    negatives, positives, rest, paying, valued
        int64, shape (K, P): accounts per score place; `valued` are those of the LTV cohort.
    start, end, ltv
        int64, shape (K, L, P): cents per score place; L limbs.
    tier_counts
        int64, shape (K, T, C): accounts per tier and code.
    tier_change
        int64, shape (K, L, T, C): end less start cents of changed accounts, per tier and code.
    tier_days
        int64, shape (K, T, U): activated accounts per tier and distinct value of days.
    """

    clipped: Int64s
    negatives: Int64s
    positives: Int64s
    rest: Int64s
    paying: Int64s
    valued: Int64s
    start: Int64s
    end: Int64s
    ltv: Int64s
    tier_counts: Int64s
    tier_change: Int64s
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

    def widened(self, first: int, places: int) -> Counts:
        """Return the same counts over all P places; these begin with place `first`."""
        counts = {}
        for name in _BY_PLACE:
            narrow = getattr(self, name)
            counts[name] = np.zeros((*narrow.shape[:-1], places), dtype=np.int64)
            counts[name][..., first : first + narrow.shape[-1]] = narrow
        return replace(self, **counts)


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
    Cost: a `bincount` over n for the accounts per place, one for each of start, end and LTV, and
    one for tiers; each is a pass over n. All K candidates share a call.
    """
    candidates, tiers, total = len(places), len(tier_lows), len(window)
    coded = _offset(_tier_codes(places, part, tier_lows), tiers * part.code_count)
    # A candidate has places of its own, one run of P after the other.
    at = _offset(places, total, less=window.start)

    def tally(rows: NDArray[np.intp], width: int) -> Int64s:
        return np.bincount(rows.ravel(), minlength=candidates * width).reshape(candidates, width)

    def cents(rows: NDArray[np.intp], limbs: tuple[NDArray[np.float64], ...], width: int) -> Int64s:
        summed = np.zeros((candidates, part.depth, width), dtype=np.int64)
        for place, limb in enumerate(limbs):
            added = np.bincount(rows, limb[: len(rows)], minlength=candidates * width)
            summed[:, place] = added.reshape(candidates, width)
        return summed

    negatives = tally(at[:, part.negatives], total)
    positives = tally(at[:, part.positives], total)
    rest = tally(at[:, part.rest], total)
    if not part.start:
        paying = np.zeros((candidates, total), dtype=np.int64)
    else:
        paying = _paying(at, part, negatives, positives, total)
    valued_at = at
    if not part.ltv:
        valued = np.zeros((candidates, total), dtype=np.int64)
    elif part.unvalued is None:
        valued_at = at.take(part.valued, axis=1)
        valued = tally(valued_at, total)
    else:
        valued = negatives + positives
        valued += rest
        if len(part.unvalued):
            valued -= tally(at.take(part.unvalued, axis=1), total)
    paying_at, size = at[:, part.paying].ravel(), tiers * part.code_count
    changed = np.hstack([coded[:, run] for run in part.changed]).ravel()
    return Counts(
        clipped=clipped,
        negatives=negatives,
        positives=positives,
        rest=rest,
        paying=paying,
        valued=valued,
        start=cents(paying_at, part.start, total),
        end=cents(paying_at, part.end, total),
        ltv=cents(valued_at.ravel(), part.ltv, total),
        tier_counts=tally(coded, size).reshape(candidates, tiers, -1),
        tier_change=cents(changed, part.change, size).reshape(candidates, part.depth, tiers, -1),
        tier_days=_tier_days(coded, part, tiers),
    )


def _offset(values: Integers, width: int, *, less: int = 0) -> NDArray[np.intp]:
    """Return values less `less`, those of candidate k raised by k x width, as `bincount` has them.

    It would copy anything but intp.
    """
    raised = values.astype(np.intp)
    if len(raised) > 1 or less:
        raised += (width * np.arange(len(raised)) - less)[:, None]
    return raised


def _tier_codes(places: Integers, part: Part, tier_lows: Sequence[int]) -> Integers:
    """Return each account's tier x C + code, shape (K, n)."""
    # Comparisons are far cheaper than looking each place up.
    tier = np.zeros(places.shape, dtype=np.int8 if len(tier_lows) < 128 else np.int32)
    below = np.empty(places.shape, dtype=bool)
    for low in tier_lows[:-1]:
        np.less(places, low, out=below)
        tier += below.view(np.int8)
    codes = tier.astype(np.int32)
    codes *= part.code_count
    codes += part.codes
    return codes


def _paying(
    at: NDArray[np.intp], part: Part, negatives: Int64s, positives: Int64s, total: int
) -> Int64s:
    """Count the paying, or all that are labelled but those who don't pay: whoever is fewer."""
    run, labelled = part.paying, part.positives.stop
    outside = run.start + labelled - run.stop
    width = len(at) * total
    if run.stop > labelled or outside > run.stop - run.start:
        return np.bincount(at[:, run].ravel(), minlength=width).reshape(-1, total)
    paying = negatives + positives
    if outside:
        rows = np.hstack([at[:, : run.start], at[:, run.stop : labelled]])
        paying -= np.bincount(rows.ravel(), minlength=width).reshape(-1, total)
    return paying


def _tier_days(coded: NDArray[np.intp], part: Part, tiers: int) -> Int64s:
    candidates = len(coded)
    shape = (candidates, tiers, part.day_count)
    if not len(part.dated):
        return np.zeros(shape, dtype=np.int64)
    # Candidate x T + tier is what is left when the code is divided away.
    rows = coded.take(part.dated, axis=1) // part.code_count
    rows *= part.day_count
    rows += part.days
    return np.bincount(rows.ravel(), minlength=np.prod(shape)).reshape(shape)
