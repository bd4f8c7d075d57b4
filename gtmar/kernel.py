"""The hot loop on plain arrays: raw scores, steps, score places, exact counts and sums.

No Polars and no spec here, and nothing that isn't an integer in the end. N accounts, F features, P
score places, T tiers, C account codes, U distinct values of days.

A *place* is a score value's row in a tally: the score in hundredths of a point, from 0 to P - 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from gtmar.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]

__all__ = [
    "LIMB_BITS",
    "Cohorts",
    "Counts",
    "add_steps",
    "count",
    "limbs",
    "place_total",
    "raw_scores",
    "score_places",
]

#: Raw scores are in 1/10,000 of a point, score values in 1/100.
RAW_PER_SCORE = 100
#: A column whose sum could pass 2^53 is split into limbs of this many bits, summed apart.
LIMB_BITS = 26
_DOUBLE_EXACT = 2**53


@dataclass(frozen=True)
class Cohorts:
    """What the counting needs of N accounts, apart from their scores. All arrays are read-only.

    Parameters
    ----------
    negatives, positives, paying
        Runs of rows: lost, retained, and paying current accounts.
    rest
        The run of rows with neither label.
    codes
        intp, shape (N,), in [0, C): movement class and activation state.
    start, end
        Limbs of cents, float64, each of the length of `paying`; empty without such a column.
    ltv
        Limbs of cents, float64, each of the length of `ltv_rows`.
    ltv_rows
        int32: rows of the LTV cohort; None where that is every row.
    ltv_known
        Whether there is an LTV at all.
    day_codes
        intp, shape (N,): place of an activated account's days, -1 elsewhere; None without days.
    code_count, day_count
        C and U.
    """

    negatives: slice
    positives: slice
    paying: slice
    rest: slice
    codes: Integers
    start: tuple[NDArray[np.float64], ...]
    end: tuple[NDArray[np.float64], ...]
    ltv: tuple[NDArray[np.float64], ...]
    ltv_rows: Integers | None
    ltv_known: bool
    day_codes: Integers | None
    code_count: int
    day_count: int


@dataclass(frozen=True)
class Counts:
    """Exact integers that scores give; two of them add up, array by array.

    Shapes are those of one candidate. Counts of K candidates have a leading axis K throughout.

    Parameters
    ----------
    clipped
        int64, shape (2,): accounts whose rounded raw score lies below 0, and above the maximum.
    negatives, positives, rest, paying, valued
        int64, shape (P,): accounts per score place; `valued` are those of the LTV cohort.
    start, end, ltv
        int64, shape (L, P): cents per score place; L limbs.
    tier_counts
        int64, shape (T, C): accounts per tier and code.
    tier_money
        int64, shape (2, L, T, C): start and end cents per tier and code.
    tier_days
        int64, shape (T, U): activated accounts per tier and distinct value of days.
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
    tier_money: Int64s
    tier_days: Int64s

    def __add__(self, other: Counts) -> Counts:
        """Add the counts of another part of the table.

        A part whose sums fit one limb adds to one that needs two: its second is all zeros.
        """
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        for name in ("start", "end", "ltv", "tier_money"):
            pairs[name] = _of_one_depth(*pairs[name], axis=-3 if name == "tier_money" else -2)
        for name, (mine, theirs) in pairs.items():
            if mine.shape != theirs.shape:
                raise ShapeError(f"counts.{name}: {mine.shape} and {theirs.shape} don't add up")
        return Counts(**{name: mine + theirs for name, (mine, theirs) in pairs.items()})

    @classmethod
    def stacked(cls, singles: Sequence[Counts]) -> Counts:
        """Return the counts of K candidates, each counted on its own, as one."""
        return cls(**{f.name: np.stack([getattr(c, f.name) for c in singles]) for f in fields(cls)})

    def each(self) -> Iterator[Counts]:
        """Give the counts of each of K candidates."""
        for place in range(len(self.clipped)):
            yield Counts(**{f.name: getattr(self, f.name)[place] for f in fields(self)})


def _of_one_depth(mine: Int64s, theirs: Int64s, *, axis: int) -> tuple[Int64s, Int64s]:
    """Give two arrays of limbs the same number of limbs."""
    depth = max(mine.shape[axis], theirs.shape[axis])

    def padded(limbed: Int64s) -> Int64s:
        missing = [(0, 0)] * limbed.ndim
        missing[axis] = (0, depth - limbed.shape[axis])
        return np.pad(limbed, missing)

    return padded(mine), padded(theirs)


def place_total(max_score: int) -> int:
    """Return P: a place per score value.

    Examples
    --------
    >>> place_total(100)
    10001
    """
    return RAW_PER_SCORE * max_score + 1


def limbs(values: Int64s) -> tuple[NDArray[np.float64], ...]:
    """Split non-negative integers into doubles whose sums stay exact.

    Parameters
    ----------
    values
        int64, shape (N,), each below 2^53.

    Returns
    -------
    tuple of ndarray of float64
        One array where the sum of all values stays below 2^53, since `bincount` adds in doubles;
        else two, low and high, with ``values = low + high * 2^26``.

    Examples
    --------
    >>> [limb.tolist() for limb in limbs(np.array([2**52, 2**52 + 5]))]
    [[0.0, 5.0], [67108864.0, 67108864.0]]
    """
    if float(values.sum(dtype=np.float64)) < _DOUBLE_EXACT / 2:
        return (values.astype(np.float64),)
    low = (values & (2**LIMB_BITS - 1)).astype(np.float64)
    return low, (values >> LIMB_BITS).astype(np.float64)


def raw_scores(
    columns: Sequence[Integers], weights: Int64s, base: int, *, wide: bool = True
) -> Integers:
    """Score every account in full.

    Parameters
    ----------
    columns
        F arrays of shape (N,), in 1/10,000ths.
    weights
        int64, shape (F,).
    base
        Points every account starts with.
    wide
        False where the caller knows that no raw score leaves int32.

    Returns
    -------
    ndarray of int64 or int32, shape (N,)
        Raw scores in 1/10,000 of a point.

    Raises
    ------
    ShapeError
        If there isn't one weight a column.
    """
    if len(columns) != len(weights):
        raise ShapeError(
            f"weights: expected one for each of F = {len(columns)} columns, got {len(weights)}"
        )
    raw: Integers = np.full(len(columns[0]), base * RAW_PER_SCORE**2, dtype=np.int64)
    if not wide:
        raw = raw.astype(np.int32)
    add_steps(raw, columns, list(enumerate(weights.tolist())), out=raw)
    return raw


def add_steps(
    raw: Integers, columns: Sequence[Integers], steps: Sequence[tuple[int, int]], *, out: Integers
) -> None:
    """Add weight changes to every account's raw score.

    Equals a full recompute, since raw scores are exact integers, at one pass over N a changed
    weight instead of F passes.

    Parameters
    ----------
    raw
        Raw scores, shape (N,). Not modified unless it is `out`.
    columns
        F arrays of shape (N,).
    steps
        Pairs of a column's number and its weight's change.
    out
        Receives the result, shape (N,), of raw's type.
    """
    if out is not raw:
        np.copyto(out, raw)
    for index, change in steps:
        if change:
            # Widened first: the product may leave the column's own narrow type.
            out += np.multiply(columns[index], change, dtype=out.dtype)


def score_places(raw: Integers, max_score: int) -> tuple[NDArray[np.intp], Int64s]:
    """Round raw scores half up to 1/100 of a point, and clip.

    Parameters
    ----------
    raw
        Raw scores, shape (N,), in 1/10,000 of a point.
    max_score
        In points.

    Returns
    -------
    places : ndarray of intp, shape (N,)
        In [0, P).
    clipped : ndarray of int64, shape (2,)
        Accounts below 0, and above the maximum, after rounding.
    """
    rounded = np.floor_divide(raw + RAW_PER_SCORE // 2, RAW_PER_SCORE)
    top = place_total(max_score) - 1
    clipped = np.array([np.count_nonzero(rounded < 0), np.count_nonzero(rounded > top)])
    return np.clip(rounded, 0, top).astype(np.intp), clipped


def count(
    places: NDArray[np.intp], clipped: Int64s, cohorts: Cohorts, tier_of_place: NDArray[np.intp]
) -> Counts:
    """Count one candidate's accounts and cents per score place and per tier.

    Parameters
    ----------
    places, clipped
        From `score_places`, shapes (N,) and (2,).
    cohorts
        The accounts.
    tier_of_place
        intp, shape (P,): each place's tier, in [0, T), T being the largest plus one.

    Notes
    -----
    Cost: about two passes over N for the counts, and one for each money column and tier sum. No
    array is larger than N or P.
    """
    total = len(tier_of_place)
    tiers = int(tier_of_place.max()) + 1
    size = tiers * cohorts.code_count
    depth = max(len(cohorts.start), len(cohorts.end), len(cohorts.ltv), 1)

    tier_code = tier_of_place.take(places)
    tier_days = np.zeros((tiers, cohorts.day_count), dtype=np.int64)
    if cohorts.day_codes is not None and cohorts.day_count:
        known = cohorts.day_codes >= 0
        at = tier_code[known] * cohorts.day_count + cohorts.day_codes[known]
        tier_days = np.bincount(at, minlength=tier_days.size).reshape(tier_days.shape)
    tier_code *= cohorts.code_count
    tier_code += cohorts.codes
    paying, paying_code = places[cohorts.paying], tier_code[cohorts.paying]
    valued = places
    if cohorts.ltv_rows is not None:
        valued = places.take(cohorts.ltv_rows)

    def accounts(rows: NDArray[np.intp], *, known: bool = True) -> Int64s:
        return np.bincount(rows if known else rows[:0], minlength=total)

    def cents(rows: NDArray[np.intp], parts: tuple[NDArray[np.float64], ...], width: int) -> Int64s:
        summed = np.zeros((depth, width), dtype=np.int64)
        for limb, part in enumerate(parts):
            summed[limb] = np.bincount(rows, part, minlength=width)
        return summed

    return Counts(
        clipped=clipped,
        negatives=accounts(places[cohorts.negatives]),
        positives=accounts(places[cohorts.positives]),
        rest=accounts(places[cohorts.rest]),
        paying=accounts(paying, known=bool(cohorts.start)),
        valued=accounts(valued, known=cohorts.ltv_known),
        start=cents(paying, cohorts.start, total),
        end=cents(paying, cohorts.end, total),
        ltv=cents(valued, cohorts.ltv, total),
        tier_counts=np.bincount(tier_code, minlength=size).reshape(tiers, -1),
        tier_money=np.stack(
            [cents(paying_code, cohorts.start, size), cents(paying_code, cohorts.end, size)]
        ).reshape(2, depth, tiers, -1),
        tier_days=tier_days,
    )
