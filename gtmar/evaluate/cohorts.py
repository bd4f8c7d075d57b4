"""An account matrix as the kernel sees it: runs of rows, codes and cents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gtmar.accounts.outcomes import ACTIVATION_STATES, Movement
from gtmar.kernel import Cohorts, limb_count

if TYPE_CHECKING:
    from gtmar.accounts.matrix import AccountMatrix

__all__ = ["cohorts_of"]

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
