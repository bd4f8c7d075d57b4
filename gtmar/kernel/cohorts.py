"""What the counting needs of accounts, apart from their scores: cohorts, codes, cents as limbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]
    Doubles = NDArray[np.float64]

__all__ = ["LIMB_BITS", "Cohorts", "Part", "limb_count", "limbs"]

#: A column whose sum could pass 2^53 is split into limbs of this many bits, summed apart.
LIMB_BITS = 26
_DOUBLE_EXACT = 2**53


def limb_count(values: Int64s) -> int:
    """Return how many limbs integers below 2^53 need, so that sums of them stay exact."""
    return 1 if float(values.sum(dtype=np.float64)) < _DOUBLE_EXACT / 2 else 2


def limbs(values: Int64s, depth: int) -> tuple[Doubles, ...]:
    """Split integers into doubles whose sums stay exact, since `bincount` adds in doubles.

    Parameters
    ----------
    values
        int64, shape (n,), each within 2^53 of 0.
    depth
        1, or 2 where the sum of all could pass 2^52: see `limb_count`.

    Returns
    -------
    tuple of ndarray of float64
        One array, or two, low and high, with ``values = low + high * 2^26``; low is never negative.

    Examples
    --------
    >>> [limb.tolist() for limb in limbs(np.array([2**52, -1]), 2)]
    [[0.0, 67108863.0], [67108864.0, -1.0]]
    """
    if depth == 1:
        return (values.astype(np.float64),)
    low = (values & (2**LIMB_BITS - 1)).astype(np.float64)
    return low, (values >> LIMB_BITS).astype(np.float64)


@dataclass(frozen=True)
class Cohorts:
    """All N accounts: views of the matrix, which nothing is copied from. All are read-only.

    Parameters
    ----------
    negatives, positives, rest
        Run of rows: lost, retained, and those with neither label; together all, in this order.
    paying
        Run of rows: the paying current accounts.
    changed
        Runs of rows among them, whose cents at the end are neither 0 nor those at the start.
    codes
        int16, shape (N,), in [0, C): movement class and activation state.
    start, end
        int64, shape (N,), in cents; None without such a column. `end` implies `start`.
    ltv
        int64, shape (N,), in cents; None without LTV.
    valued
        int32: rows of the LTV cohort, ascending.
    dated
        int32: rows whose days to activation are known, ascending.
    days
        int32: for each of `dated`, the place of its days.
    depth
        L, the same for all money: 2 where one column's sum could pass 2^52.
    code_count, day_count
        C and U.
    """

    negatives: slice
    positives: slice
    rest: slice
    paying: slice
    changed: tuple[slice, ...]
    codes: Integers
    start: Int64s | None
    end: Int64s | None
    ltv: Int64s | None
    valued: Integers
    dated: Integers
    days: Integers
    depth: int
    code_count: int
    day_count: int

    def part(self, first: int, last: int, *, copies: int = 1) -> Part:
        """Return the rows from `first` up to `last`, ready to be counted.

        Parameters
        ----------
        first, last
            A run of rows.
        copies
            Candidates counted in one call, whose cents are laid out one after the other.

        Notes
        -----
        Cost: a pass over the part for each column of cents. Worth it for many candidates.
        """

        def here(run: slice) -> slice:
            start, stop = (min(max(end, first), last) - first for end in (run.start, run.stop))
            return slice(start, stop)

        def inside(rows: Integers) -> slice:
            return slice(*np.searchsorted(rows, (first, last)).tolist())

        def cents(values: Int64s) -> tuple[Doubles, ...]:
            return tuple(np.tile(limb, copies) for limb in limbs(values, self.depth))

        def there(values: Int64s | None, run: slice) -> Int64s | None:
            return None if values is None else values[first:last][here(run)]

        start, end = there(self.start, self.paying), there(self.end, self.paying)
        changes = [
            after - before
            for run in self.changed
            if (after := there(self.end, run)) is not None
            and (before := there(self.start, run)) is not None
        ]
        valued = (self.valued[inside(self.valued)] - first).astype(np.intp)
        others, ltv = None, self.ltv
        if ltv is not None:
            ltv = ltv[first:last]
            # Counted are those of the LTV cohort, or all but the others: whoever is fewer.
            if 2 * len(valued) > last - first:
                outside = np.ones(last - first, dtype=bool)
                outside[valued] = False
                others = np.flatnonzero(outside)
                ltv = np.where(outside, 0, ltv) if len(others) else ltv
            else:
                ltv = ltv[valued]
        at = inside(self.dated)
        return Part(
            negatives=here(self.negatives),
            positives=here(self.positives),
            rest=here(self.rest),
            paying=here(self.paying),
            changed=tuple(here(run) for run in self.changed),
            codes=self.codes[first:last].astype(np.int32),
            start=() if start is None else cents(start),
            end=() if end is None else cents(end),
            change=cents(np.concatenate(changes)) if changes else (),
            ltv=() if ltv is None else cents(ltv),
            valued=valued,
            unvalued=others,
            dated=(self.dated[at] - first).astype(np.intp),
            days=self.days[at],
            depth=self.depth,
            code_count=self.code_count,
            day_count=self.day_count,
        )


@dataclass(frozen=True)
class Part:
    """A run of n rows of `Cohorts`, with cents as doubles. Runs and rows count from its first.

    Parameters
    ----------
    negatives, positives, rest, paying, changed
        As in `Cohorts`.
    codes
        int32, shape (n,).
    start, end
        L limbs of cents of the paying rows, times the copies asked for.
    change
        L limbs of end less start, of the changed rows, times the copies.
    ltv
        L limbs of cents, of all rows where `unvalued` is given, else of `valued`.
    valued, unvalued
        intp: rows within the LTV cohort, and those without; the latter None where they are more.
    dated, days
        intp, int32: rows whose days are known, and the place of their days.
    """

    negatives: slice
    positives: slice
    rest: slice
    paying: slice
    changed: tuple[slice, ...]
    codes: Integers
    start: tuple[Doubles, ...]
    end: tuple[Doubles, ...]
    change: tuple[Doubles, ...]
    ltv: tuple[Doubles, ...]
    valued: NDArray[np.intp]
    unvalued: NDArray[np.intp] | None
    dated: NDArray[np.intp]
    days: Integers
    depth: int
    code_count: int
    day_count: int

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All arrays of the part: what it holds in memory."""
        cents = (*self.start, *self.end, *self.change, *self.ltv)
        others = () if self.unvalued is None else (self.unvalued,)
        return (self.codes, self.valued, self.dated, self.days, *cents, *others)
