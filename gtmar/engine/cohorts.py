"""Cohorts: which accounts each sum is over, and which rows of a table they are.

The constants of this module are the one definition of every cohort: kernels, tally and intervals
read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.engine.sum_names import COUNTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]
    Doubles = NDArray[np.float64]
    Cash = tuple[slice, tuple[Doubles, ...]]
    from gtmar.data.matrix import AccountMatrix

__all__ = [
    "ACCOUNT_INDICATOR",
    "CASH_FLOWS",
    "CHURNED_INDICATOR",
    "CODES",
    "COHORTS",
    "LIMB_BITS",
    "Cohorts",
    "RowBlock",
    "cohorts_of",
    "limb_count",
    "limbs",
]

_M = Movement
_STAYING = (_M.KEPT_CONTRACTED, _M.KEPT_FLAT, _M.KEPT_EXPANDED)
_KEPT_PAYING = (_M.KEPT_REVENUE_LOST, *_STAYING)
_RETAINED = (*_KEPT_PAYING, _M.KEPT_NONPAYING)
_LOST = (_M.LOST_NONPAYING, _M.LOST_PAYING)
_FORMER = (_M.FORMER_LOST, _M.FORMER_WON_BACK)

#: Movement classes of each cohort, by the cohort's name.
COHORTS: dict[str, tuple[Movement, ...]] = {
    "accounts": tuple(_M),
    "current": tuple(set(_M) - set(_FORMER)),
    "labelled": (*_LOST, *_RETAINED),
    "lost": _LOST,
    "retained": _RETAINED,
    "unlabelled": (_M.UNLABELLED, _M.UNLABELLED_PAYING, *_FORMER),
    "paying": (_M.LOST_PAYING, *_KEPT_PAYING, _M.UNLABELLED_PAYING),
    "kept_paying": _KEPT_PAYING,
    #: Paying accounts whose whole start MRR is gone, and those of which some is left.
    "churned": (_M.LOST_PAYING, _M.KEPT_REVENUE_LOST),
    "staying": _STAYING,
    "expanded": (_M.KEPT_EXPANDED,),
    "contracted": (_M.KEPT_CONTRACTED,),
    "former": _FORMER,
    "won_back": (_M.FORMER_WON_BACK,),
}
#: Money that is summed by tier, in cents: start MRR of the churned (`gone`) and of the staying
#: (`stays`), and by how much the MRR of the staying shrank (`contraction`) and grew (`expansion`).
CASH_FLOWS = ("gone", "stays", "contraction", "expansion")

#: C: codes of movement class and activation state.
CODES = len(Movement) * ACTIVATION_STATES


def _indicator(*cohorts: str) -> Int64s:
    """Return int64 (C, cohorts): 1 where a code's movement class belongs to the cohort, else 0."""
    table = np.zeros((len(Movement), ACTIVATION_STATES, len(cohorts)), dtype=np.int64)
    for i, cohort in enumerate(cohorts):
        table[list(COHORTS[cohort]), :, i] = 1
    return table.reshape(CODES, len(cohorts))


def _account_indicator() -> Int64s:
    """Return int64 (C, `ACCOUNT_SUMS`): 1 where an account of the code counts in the sum."""
    state = np.tile(np.arange(ACTIVATION_STATES), len(Movement))
    return np.hstack([_indicator(*COUNTED), np.stack([state >= 1, state == 2], axis=1)])


#: 1 where an account of a code counts in a sum, else 0: for `ACCOUNT_SUMS`, int64 (C, 11), and for
#: the cohort `churned`, int64 (C,).
ACCOUNT_INDICATOR = _account_indicator()
CHURNED_INDICATOR = _indicator("churned")[:, 0].copy()


#: A column of cents whose sum could pass 2^53 is split into two numbers, its limbs: the low one of
#: this many bits and the high one of the rest. Each is summed by itself.
LIMB_BITS = 26
_DOUBLE_EXACT = 2**53


def limb_count(values: Int64s) -> int:
    """Return how many limbs (1 or 2) a column of integers below 2^53 needs for an exact sum."""
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
    """The rows of each cohort among N accounts, and the columns that kernels read.

    Columns are read-only views of the matrix; none is copied.
    """

    #: Row ranges of the lost, the retained and those with neither label. Together, in this order,
    #: they are all rows.
    negatives: slice
    positives: slice
    rest: slice
    #: Row ranges: the paying current accounts; of them those whose MRR is gone at the end of the
    #: window, and all others; of these others, those with less and with more MRR at the end.
    paying: slice
    gone: slice
    stays: slice
    contracted: slice
    expanded: slice
    #: int16, shape (N,), in [0, C): movement class and activation state.
    codes: Integers
    #: int64, shape (N,), in cents; None without such a column. There is no `end` without `start`.
    start: Int64s | None
    end: Int64s | None
    ltv: Int64s | None
    #: int32, ascending: rows of the LTV cohort. `unvalued` has all other rows where those are
    #: fewer: then they are counted, and subtracted from all.
    valued: Integers
    unvalued: Integers | None
    #: int32, ascending: rows whose days to activation are known, and for each the index of its days
    #: among the U distinct values.
    dated: Integers
    days: Integers
    #: L, the number of limbs, the same for all money: 2 where one column's sum could pass 2^52.
    depth: int
    #: C, the number of codes, and U, the number of distinct values of days.
    code_count: int
    day_count: int

    def cash_flows(
        self, first: int = 0, last: int | None = None
    ) -> tuple[tuple[slice, Int64s], ...]:
        """Return for each of `CASH_FLOWS` the row range that it is of, and the cents of its rows.

        Only of the rows [first, last), and row ranges count from `first`. There are no cents if the
        table lacks a column for them.
        """
        last = len(self.codes) if last is None else last
        runs = (self.gone, self.stays, self.contracted, self.expanded)
        gone, stays, less, more = (_within(run, first, last) for run in runs)
        none = np.zeros(0, dtype=np.int64)
        start = none if self.start is None else self.start[first:last]
        end = none if self.end is None else self.end[first:last]
        changed = len(start) and len(end)
        return (
            (gone, start[gone]),
            (stays, start[stays]),
            (less, start[less] - end[less] if changed else none),
            (more, end[more] - start[more] if changed else none),
        )

    def block(self, first: int, last: int, *, copies: int = 1) -> RowBlock:
        """Return the rows [first, last), ready to be counted.

        Cents are repeated `copies` times, once for each candidate that is counted in the same call.
        Cost: a pass over the rows for each column of cents, which pays off over many candidates.
        """

        def inside(rows: Integers) -> NDArray[np.intp]:
            start, stop = np.searchsorted(rows, (first, last)).tolist()
            return rows[start:stop].astype(np.intp) - first

        def cents(values: Int64s) -> tuple[Doubles, ...]:
            split = limbs(values, self.depth)
            return split if copies == 1 else tuple(np.tile(limb, copies) for limb in split)

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
        return RowBlock(
            negatives=_within(self.negatives, first, last),
            positives=_within(self.positives, first, last),
            rest=_within(self.rest, first, last),
            paying=_within(self.paying, first, last),
            cash=tuple(
                (run, cents(values) if len(values) else ())
                for run, values in self.cash_flows(first, last)
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


def _within(run: slice, first: int, last: int) -> slice:
    """Return the part of a row range that is in [first, last), counted from `first`."""
    start, stop = (min(max(end, first), last) - first for end in (run.start, run.stop))
    return slice(start, stop)


@dataclass(frozen=True)
class RowBlock:
    """A block of n consecutive rows of `Cohorts`, with cents as doubles.

    Row ranges and row numbers count from the first row of the block. Fields without a comment are
    those of `Cohorts`.
    """

    negatives: slice
    positives: slice
    rest: slice
    paying: slice
    #: Whether there is start MRR at all.
    revenue: bool
    #: For each of `CASH_FLOWS`, a row range and L limbs of its rows' cents, repeated for each copy;
    #: no limbs where the range is empty.
    cash: tuple[Cash, ...]
    #: int32, shape (n,).
    codes: Integers
    #: L limbs of LTV in cents: of the rows `valued`, or of all rows where that is None, with 0 for
    #: those outside of the LTV cohort.
    ltv: tuple[Doubles, ...]
    #: intp: rows of the LTV cohort, or all other rows. At least one of the two is None.
    valued: NDArray[np.intp] | None
    unvalued: NDArray[np.intp] | None
    dated: NDArray[np.intp]
    days: Integers
    depth: int
    code_count: int
    day_count: int

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All arrays of the block, for a sum of its bytes."""
        cents = (*(limb for _, limbs in self.cash for limb in limbs), *self.ltv)
        rows = (rows for rows in (self.valued, self.unvalued) if rows is not None)
        return (self.codes, self.dated, self.days, *cents, *rows)


def cohorts_of(matrix: AccountMatrix) -> Cohorts:
    """Return the cohorts of an account matrix; no column is copied."""

    def run(cohort: str) -> slice:
        return matrix.rows(min(COHORTS[cohort]), max(COHORTS[cohort]))

    paying = matrix.paying_rows
    # False for a table without labels: who is gone at the end of the window isn't known there.
    ends_known = paying == matrix.rows(Movement.LOST_PAYING, Movement.KEPT_EXPANDED)
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
        negatives=run("lost"),
        positives=run("retained"),
        rest=run("unlabelled"),
        paying=paying,
        gone=run("churned") if ends_known else paying,
        stays=run("staying"),
        contracted=run("contracted"),
        expanded=run("expanded"),
        codes=matrix.codes,
        start=matrix.start,
        end=matrix.end,
        ltv=matrix.ltv,
        valued=valued,
        unvalued=unvalued,
        dated=dated,
        days=days,
        depth=max((limb_count(values) for values in money), default=1),
        code_count=CODES,
        day_count=0 if matrix.days is None else len(matrix.days),
    )
