"""Raw scores, changes of them, and the places that they come to."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from gtmar.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]
    from gtmar.engine.cohorts import Part

__all__ = [
    "BOUNDARY_SUMS",
    "CASH",
    "PLACE_BLOCK",
    "Counts",
    "Totals",
    "add_steps",
    "boundaries",
    "boundary_rows",
    "count",
    "place_total",
    "raw_scores",
    "score_places",
]


#: Raw scores are in 1/10,000 of a point, score values in 1/100.
RAW_PER_SCORE = 100
#: P is a multiple of this. The places at the end, one at least, are nobody's: they fill a block.
PLACE_BLOCK = 128


def place_total(max_score: int) -> int:
    """Return P: a place per score value, and some at the end that fill whole blocks.

    Examples
    --------
    >>> place_total(100)
    10112
    """
    return -(-(RAW_PER_SCORE * max_score + 2) // PLACE_BLOCK) * PLACE_BLOCK


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
    spare
        Room for a product, as large as `out`; None takes it anew.
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


def score_places(raw: Integers, max_score: int) -> tuple[Integers, Int64s]:
    """Round raw scores half up to 1/100 of a point, and clip; overwrites them.

    Parameters
    ----------
    raw
        Raw scores, shape (K, n), in 1/10,000 of a point. Turned into places.
    max_score
        In points.

    Returns
    -------
    places : ndarray of raw's type, shape (K, n)
        `raw` itself, now in [0, 100 x max_score].
    clipped : ndarray of int64, shape (K, 2)
        Accounts below 0, and above the maximum, after rounding.
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


#: As `numpy.sum`, without the detour that small arrays feel.
_sum = np.add.reduce


def boundaries(cohorts: NDArray[np.int64], money: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum the top fifth of the paying accounts, and both end quarters of the LTV cohort.

    Parameters
    ----------
    cohorts
        int64, shape (K, 2, places): paying and valued accounts, in whole blocks of places.
    money
        int64, shape (K, 5, L, places): as in `Counts`.

    Returns
    -------
    ndarray of int64, shape (K, L, 16)
        As `boundary_rows` gives them.
    """
    candidates = len(money)
    blocks = cohorts.reshape(candidates, 2, -1, PLACE_BLOCK)
    reached = np.cumsum(_sum(blocks, axis=-1), axis=-1)
    paying, valued = reached[..., -1].T
    # Each boundary is the first place up to which more accounts lie than these: four fifths of the
    # paying, three quarters of the valued, and, of the worst quarter, one less than a quarter.
    least = np.stack([paying * 4 // 5, valued * 3 // 4, -(-valued // 4) - 1], axis=1)
    cohort = np.array([0, 1, 1])
    reached, each = reached[:, cohort], np.arange(candidates)[:, None]
    block = np.minimum(_sum(reached <= least[..., None], axis=-1), reached.shape[-1] - 1)
    inner = blocks[each, cohort, block]
    within = np.cumsum(inner, axis=-1)
    within += (reached[each, np.arange(3), block] - within[..., -1])[..., None]
    place = np.minimum(_sum(within <= least[..., None], axis=-1), PLACE_BLOCK - 1)
    upto, tied = within[each, np.arange(3), place], inner[each, np.arange(3), place]
    place += block * PLACE_BLOCK

    _, on, above = _around(money, place[:, [0, 0, 0, 0, 1]])
    below, last, _ = _around(money[:, -1:], place[:, 2:])
    return boundary_rows(
        (paying, valued),
        np.stack([upto, tied], axis=-1),
        (above[..., :-1], on[..., :-1]),
        np.concatenate([above[..., -1:], on[..., -1:], below, last], axis=-1),
    )


def _around(
    money: NDArray[np.int64], place: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sum what lies below, on and above a place; (K, M, L, places) and (K, M) to (K, L, M) each."""
    *rows, places = money.shape
    ends = np.stack([np.zeros_like(place), place, np.minimum(place + 1, places - 1)], axis=-1)
    first = places * np.arange(np.prod(rows)).reshape(*rows, 1)
    parts = np.add.reduceat(money.reshape(-1), (first + ends[:, :, None]).reshape(-1))
    below, on, above = parts.reshape(*rows, 3).transpose(3, 0, 2, 1)
    # Of an empty run, `reduceat` gives the place itself.
    return below * (place > 0)[:, None], on, above * (place < places - 1)[:, None]


#: Runs of cents that are added up by tier: gone, stays, contraction, expansion.
CASH = 4
#: Sums that the boundaries of the top fifth and of both end quarters give: see `boundary_rows`.
BOUNDARY_SUMS = 16


@dataclass(frozen=True)
class Totals:
    """Exact integers of K candidates, from which their sums are put together.

    Parameters
    ----------
    clipped
        int64, shape (K, 2): accounts whose rounded raw score lies below 0, and above the maximum.
    moments
        int64, shape (K, 2): the sum of all score places, and of their squares.
    ranks
        int64, shape (K,): the sum, over positives, of twice the labelled accounts on places before
        and the labelled accounts on their own.
    tier_counts
        int64, shape (K, T, C): accounts per tier and code.
    tier_days
        int64, shape (K, T, U): activated accounts per tier and distinct value of days.
    tier_money
        int64, shape (K, CASH, L, T): cents per tier, in L limbs: start MRR of the paying that are
        gone, of those that stay, contraction, expansion.
    boundaries
        int64, shape (K, L, 16): from `boundary_rows`.
    """

    clipped: Int64s
    moments: Int64s
    ranks: Int64s
    tier_counts: Int64s
    tier_days: Int64s
    tier_money: Int64s
    boundaries: Int64s


def boundary_rows(
    totals: tuple[Int64s, Int64s], ends: Int64s, top: tuple[Int64s, Int64s], ltv: Int64s
) -> Int64s:
    """Put the sums of the boundaries in their order.

    Parameters
    ----------
    totals
        int64, shape (K,) each: the paying accounts, and those of the LTV cohort.
    ends
        int64, shape (K, 3, 2): for the top fifth, the best and the worst quarter, accounts up to
        the boundary's place, it included, and those on it.
    top
        int64, shape (K, L, 4) each: cents above the top fifth's boundary and on it, of the paying
        that are gone, that stay, contraction, expansion.
    ltv
        int64, shape (K, L, 4): LTV above the best quarter's boundary, on it; below the worst
        quarter's, on it.

    Returns
    -------
    ndarray of int64, shape (K, L, 16)
        From `top_accounts` on, as `tally.SCALAR_SUMS` names them.
    """
    paying, valued = totals
    rows = np.zeros((len(ltv), ltv.shape[1], BOUNDARY_SUMS), dtype=np.int64)
    upto, tied = ends[..., 0], ends[..., 1]
    rows[:, 0, 0], rows[:, 0, 7] = paying, valued
    rows[:, 0, [5, 10, 14]] = tied
    rows[:, 0, 6] = paying - 5 * (paying - upto[:, 0])
    rows[:, 0, 11] = valued - 4 * (valued - upto[:, 1])
    rows[:, 0, 15] = valued - 4 * (upto[:, 2] - tied[:, 2])
    for column, part in enumerate(top, start=1):
        gone, stays, contraction, expansion = np.moveaxis(part, -1, 0)
        rows[..., column] = gone + stays
        rows[..., column + 2] = stays - contraction + expansion
    rows[..., [8, 9, 12, 13]] = ltv
    return rows
