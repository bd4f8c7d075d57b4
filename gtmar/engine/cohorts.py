"""What the counting needs of accounts, apart from their scores: cohorts, codes, cents as limbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.data.outcomes import ACTIVATION_STATES, Movement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]
    Doubles = NDArray[np.float64]
    Cash = tuple[slice, tuple[Doubles, ...]]
    from gtmar.data.matrix import AccountMatrix

__all__ = ["LIMB_BITS", "Cohorts", "Part", "cohorts_of", "limb_count", "limbs"]


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
    gone, stays
        Runs of rows: the paying whose MRR is gone at the end, and all other paying ones.
    contracted, expanded
        Runs of rows among those that stay: with less and with more at the end.
    codes
        int16, shape (N,), in [0, C): movement class and activation state.
    start, end
        int64, shape (N,), in cents; None without such a column. `end` implies `start`.
    ltv
        int64, shape (N,), in cents; None without LTV.
    valued
        int32: rows of the LTV cohort, ascending.
    unvalued
        int32: all other rows, ascending, where they are fewer and counted instead; else None.
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
    gone: slice
    stays: slice
    contracted: slice
    expanded: slice
    codes: Integers
    start: Int64s | None
    end: Int64s | None
    ltv: Int64s | None
    valued: Integers
    unvalued: Integers | None
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

        def inside(rows: Integers) -> NDArray[np.intp]:
            start, stop = np.searchsorted(rows, (first, last)).tolist()
            return rows[start:stop].astype(np.intp) - first

        def cents(values: Int64s) -> tuple[Doubles, ...]:
            found = limbs(values, self.depth)
            return found if copies == 1 else tuple(np.tile(limb, copies) for limb in found)

        def cash(run: slice, values: Int64s | None, less: Int64s | None = None) -> Cash:
            rows = here(run)
            if values is None or rows.start == rows.stop:
                return rows, ()
            found = values[first:last][rows]
            return rows, cents(found if less is None else found - less[first:last][rows])

        ltv, valued, others = self.ltv, None, None
        if ltv is not None:
            ltv = ltv[first:last]
            if self.unvalued is None:
                valued = inside(self.valued)
                ltv = ltv[valued]
            elif len(others := inside(self.unvalued)):
                ltv = ltv.copy()
                ltv[others] = 0
        at = slice(*np.searchsorted(self.dated, (first, last)).tolist())
        return Part(
            negatives=here(self.negatives),
            positives=here(self.positives),
            rest=here(self.rest),
            paying=here(self.paying),
            cash=(
                cash(self.gone, self.start),
                cash(self.stays, self.start),
                cash(self.contracted, self.start, self.end),
                cash(self.expanded, self.end, self.start),
            ),
            codes=self.codes[first:last].astype(np.int32),
            revenue=self.start is not None,
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
    negatives, positives, rest, paying
        As in `Cohorts`.
    revenue
        Whether there is start MRR at all.
    cash
        Four runs of rows, each with L limbs of cents, times the copies asked for: the start MRR of
        those gone, of those who stay, and what is lost by contraction and won by expansion.
    codes
        int32, shape (n,).
    ltv
        L limbs of cents, of all rows where `unvalued` is given, else of `valued`.
    valued, unvalued
        intp: rows within the LTV cohort, or those without; None for what isn't needed.
    dated, days
        intp, int32: rows whose days are known, and the place of their days.
    """

    negatives: slice
    positives: slice
    rest: slice
    paying: slice
    revenue: bool
    cash: tuple[Cash, ...]
    codes: Integers
    ltv: tuple[Doubles, ...]
    valued: NDArray[np.intp] | None
    unvalued: NDArray[np.intp] | None
    dated: NDArray[np.intp]
    days: Integers
    depth: int
    code_count: int
    day_count: int

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All arrays of the part: what it holds in memory."""
        cents = (*(limb for _, limbs in self.cash for limb in limbs), *self.ltv)
        rows = (rows for rows in (self.valued, self.unvalued) if rows is not None)
        return (self.codes, self.dated, self.days, *cents, *rows)


_CODES = len(Movement) * ACTIVATION_STATES


def cohorts_of(matrix: AccountMatrix) -> Cohorts:
    """Return the kernel's view of an account matrix; it copies no column."""
    paying = matrix.paying_rows
    labelled = matrix.rows(Movement.LOST_PAYING, Movement.KEPT_EXPANDED)
    # Of a table that says nothing of the window's end, no end MRR is known.
    gone = paying
    if paying == labelled:
        gone = matrix.rows(Movement.LOST_PAYING, Movement.KEPT_REVENUE_LOST)
    none = np.zeros(0, dtype=np.int32)
    valued = none if matrix.ltv_rows is None else matrix.ltv_rows
    unvalued = None
    if 2 * len(valued) > matrix.accounts:
        outside = np.ones(matrix.accounts, dtype=bool)
        outside[valued] = False
        unvalued = np.flatnonzero(outside).astype(np.int32)
    dated, days = none, none
    if matrix.day_codes is not None:
        dated = np.flatnonzero(matrix.day_codes >= 0).astype(np.int32)
        days = matrix.day_codes[dated]
    money = [
        *(values[paying] for values in (matrix.start, matrix.end) if values is not None),
        *([] if matrix.ltv is None else [matrix.ltv[valued]]),
    ]
    return Cohorts(
        negatives=matrix.rows(Movement.LOST_NONPAYING, Movement.LOST_PAYING),
        positives=matrix.rows(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING),
        rest=matrix.rows(Movement.UNLABELLED, Movement.FORMER_WON_BACK),
        paying=paying,
        gone=gone,
        stays=matrix.rows(Movement.KEPT_CONTRACTED, Movement.KEPT_EXPANDED),
        contracted=matrix.rows(Movement.KEPT_CONTRACTED, Movement.KEPT_CONTRACTED),
        expanded=matrix.rows(Movement.KEPT_EXPANDED, Movement.KEPT_EXPANDED),
        codes=matrix.codes,
        start=matrix.start,
        end=matrix.end,
        ltv=matrix.ltv,
        valued=valued,
        unvalued=unvalued,
        dated=dated,
        days=days,
        depth=max((limb_count(values) for values in money), default=1),
        code_count=_CODES,
        day_count=0 if matrix.days is None else len(matrix.days),
    )
