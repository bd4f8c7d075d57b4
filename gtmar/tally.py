"""Tally: the exact counts and sums that every metric is computed from.

Two tallies of two parts of a table add up to the tally of the whole. A tally comes down to its
*sums*: one row of exact integers a candidate, named here and read by `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.accounts.outcomes import ACTIVATION_STATES, Movement
from gtmar.kernel import LIMB_BITS, Cohorts, Counts, limbs, place_total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.accounts.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

__all__ = ["Bands", "cohorts_of", "sums_frame", "tier_sum"]

_CODES = len(Movement) * ACTIVATION_STATES
_M = Movement
#: Ending of the column that holds a sum's high limb until the two are joined.
_HIGH = "#high"
_PAYING = (
    _M.LOST_PAYING,
    _M.KEPT_REVENUE_LOST,
    _M.KEPT_CONTRACTED,
    _M.KEPT_FLAT,
    _M.KEPT_EXPANDED,
    _M.UNLABELLED_PAYING,
)
_KEPT_PAYING = (_M.KEPT_REVENUE_LOST, _M.KEPT_CONTRACTED, _M.KEPT_FLAT, _M.KEPT_EXPANDED)
_KEPT = (*_KEPT_PAYING, _M.KEPT_NONPAYING)

#: Which movement classes each count of accounts takes in.
_ACCOUNTS_OF = {
    "accounts": tuple(Movement),
    "labelled": (_M.LOST_NONPAYING, _M.LOST_PAYING, *_KEPT),
    "retained": _KEPT,
    "paying": _PAYING,
    "kept_paying": _KEPT_PAYING,
    "expanded": (_M.KEPT_EXPANDED,),
    "contracted": (_M.KEPT_CONTRACTED,),
    "former": (_M.FORMER_LOST, _M.FORMER_WON_BACK),
    "won_back": (_M.FORMER_WON_BACK,),
}
_MOVED = {
    "expansion": (_M.KEPT_EXPANDED,),
    "contraction": (_M.KEPT_CONTRACTED,),
    "churned": (_M.LOST_PAYING, _M.KEPT_REVENUE_LOST),
}
#: Sums of each tier; `days_doubled` is twice the median, `days_known` the accounts behind it.
TIER_SUMS = (
    *_ACCOUNTS_OF,
    "applies",
    "activated",
    "start",
    "end",
    *_MOVED,
    "days_known",
    "days_doubled",
)
#: Sums of the whole. `rank_doubled`: twice the rank sum of the positives, average ranks for ties.
#: `top_*`: the top fifth of paying accounts; `best_*`, `worst_*`: the quarters of the LTV cohort:
#: what lies beyond the boundary, what is tied on it, and `*_fit` of the tied (in fifths or
#: quarters of an account) belong in.
SCALAR_SUMS = (
    "scored",
    "clipped_low",
    "clipped_high",
    "score_sum",
    "score_squares",
    "positives",
    "negatives",
    "rank_doubled",
    "top_accounts",
    "top_start",
    "top_start_tied",
    "top_end",
    "top_end_tied",
    "top_tied",
    "top_fit",
    "ltv_accounts",
    "best_ltv",
    "best_ltv_tied",
    "best_tied",
    "best_fit",
    "worst_ltv",
    "worst_ltv_tied",
    "worst_tied",
    "worst_fit",
)


def tier_sum(name: str, tier: str) -> str:
    """Return the name of a tier's sum in a frame of sums."""
    return f"{name}[{tier}]"


def _indicator(groups: dict[str, tuple[Movement, ...]]) -> NDArray[np.int64]:
    """Return int64 (C, groups): 1 where a code's movement class is in the group."""
    table = np.zeros((len(Movement), ACTIVATION_STATES, len(groups)), dtype=np.int64)
    for i, classes in enumerate(groups.values()):
        table[list(classes), :, i] = 1
    return table.reshape(_CODES, len(groups))


def _account_indicator() -> NDArray[np.int64]:
    activation = np.zeros((len(Movement), ACTIVATION_STATES, 2), dtype=np.int64)
    activation[:, 1:, 0] = 1
    activation[:, 2, 1] = 1
    return np.hstack([_indicator(_ACCOUNTS_OF), activation.reshape(_CODES, 2)])


_ACCOUNT_INDICATOR = _account_indicator()
_MONEY_INDICATOR = _indicator({"paying": _PAYING, **_MOVED})


def cohorts_of(matrix: AccountMatrix) -> Cohorts:
    """Return the kernel's view of an account matrix."""
    paying = matrix.paying_rows

    def parts(values: NDArray[np.int64] | None, rows: Any) -> tuple[NDArray[np.float64], ...]:
        return () if values is None else limbs(values[rows])

    ltv_rows = matrix.ltv_rows
    everyone = ltv_rows is not None and len(ltv_rows) == matrix.accounts
    return Cohorts(
        negatives=matrix.rows(Movement.LOST_NONPAYING, Movement.LOST_PAYING),
        positives=matrix.rows(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING),
        paying=paying,
        rest=matrix.rows(Movement.UNLABELLED, Movement.FORMER_WON_BACK),
        codes=matrix.codes.astype(np.intp),
        start=parts(matrix.start, paying),
        end=parts(matrix.end, paying),
        ltv=parts(matrix.ltv, ltv_rows),
        ltv_rows=None if everyone else ltv_rows,
        ltv_known=ltv_rows is not None,
        day_codes=None if matrix.day_codes is None else matrix.day_codes.astype(np.intp),
        code_count=_CODES,
        day_count=0 if matrix.days is None else len(matrix.days),
    )


@dataclass(frozen=True)
class Bands:
    """How a spec divides score places: the tiers and the order. Turns a tally into its sums.

    Parameters
    ----------
    tiers
        Tier names, T of them, from the highest scores down.
    tier_of_place
        intp, shape (P,): each place's tier.
    risk
        True where high scores are bad. The order of scores is turned here, once, before all
        ranking; scores and tiers stay as they are.
    grid
        int64, shape (P,): score values in hundredths of a point.
    """

    tiers: tuple[str, ...]
    tier_of_place: NDArray[np.intp]
    risk: bool
    grid: NDArray[np.int64]
    days: NDArray[np.int64] | None

    @classmethod
    def of(cls, spec: ScoringSpec, days: NDArray[np.int64] | None = None) -> Bands:
        """Read the bands off a spec; `days` are the distinct values behind `day_codes`."""
        values = np.arange(place_total(spec.max_score), dtype=np.int64)
        lows = np.array(spec.tier_lows[::-1])
        from_bottom = np.searchsorted(lows, values, side="right") - 1
        return cls(
            tiers=spec.tier_names,
            tier_of_place=(len(lows) - 1 - from_bottom).astype(np.intp),
            risk=spec.orientation == "risk",
            grid=values,
            days=days,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all sums, in the order in which `sums` gives them."""
        return (*SCALAR_SUMS, *(tier_sum(n, tier) for tier in self.tiers for n in TIER_SUMS))

    def sums(self, counts: Counts) -> NDArray[np.int64]:
        """Reduce a candidate's counts to its sums.

        Parameters
        ----------
        counts
            The counts of all accounts, parts added up.

        Returns
        -------
        ndarray of int64, shape (L, S)
            A row a limb, in the order of `names`; `sums_frame` joins the limbs.
        """
        depth = len(counts.start)
        everyone = counts.negatives + counts.positives + counts.rest
        weighted = self.grid * everyone
        head = [
            int(everyone.sum()),
            *counts.clipped.tolist(),
            int(weighted.sum()),
            int(weighted @ self.grid),
        ]
        turn = slice(None, None, -1 if self.risk else 1)
        negatives, positives = counts.negatives[turn], counts.positives[turn]
        labelled = negatives + positives
        doubled = 2 * np.cumsum(labelled) - labelled + 1
        head += [int(positives.sum()), int(negatives.sum()), int(positives @ doubled)]
        rows = np.zeros((depth, len(SCALAR_SUMS)), dtype=np.int64)
        rows[0, : len(head)] = head
        rows[:, len(head) :] = _boundaries(
            counts.paying[turn],
            counts.valued[turn],
            counts.start[:, turn],
            counts.end[:, turn],
            counts.ltv[:, turn],
        )
        return np.hstack([rows, self._tier_sums(counts)])

    def _tier_sums(self, counts: Counts) -> NDArray[np.int64]:
        depth = len(counts.start)
        rows = np.zeros((depth, len(self.tiers), len(TIER_SUMS)), dtype=np.int64)
        split = _ACCOUNT_INDICATOR.shape[1]
        rows[0, :, :split] = counts.tier_counts @ _ACCOUNT_INDICATOR
        start, end = counts.tier_money @ _MONEY_INDICATOR
        rows[..., split] = start[..., 0]
        rows[..., split + 1] = end[..., 0]
        rows[..., split + 2] = end[..., 1] - start[..., 1]
        rows[..., split + 3] = start[..., 2] - end[..., 2]
        rows[..., split + 4] = start[..., 3]
        if self.days is not None and counts.tier_days.size:
            rows[0, :, -2:] = [_median_doubled(h, self.days) for h in counts.tier_days]
        return rows.reshape(depth, -1)


def _boundaries(
    paying: NDArray[np.int64],
    valued: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    ltv: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Sums of the top fifth of paying accounts and both end quarters of the LTV cohort."""
    width = len(SCALAR_SUMS) - SCALAR_SUMS.index("top_accounts")
    rows = np.zeros((len(start), width), dtype=np.int64)
    rows[0, 0] = n = int(paying.sum())
    if n:
        place, above = _top(paying, 5)
        rows[:, 1] = start[:, place + 1 :].sum(axis=-1)
        rows[:, 2] = start[:, place]
        rows[:, 3] = end[:, place + 1 :].sum(axis=-1)
        rows[:, 4] = end[:, place]
        rows[0, 5:7] = paying[place], n - 5 * above
    rows[0, 7] = n = int(valued.sum())
    if n:
        place, above = _top(valued, 4)
        rows[:, 8] = ltv[:, place + 1 :].sum(axis=-1)
        rows[:, 9] = ltv[:, place]
        rows[0, 10:12] = valued[place], n - 4 * above
        # The worst quarter is the top one of the order read from its other end.
        mirrored, below = _top(valued[::-1], 4)
        place = len(valued) - 1 - mirrored
        rows[:, 12] = ltv[:, :place].sum(axis=-1)
        rows[:, 13] = ltv[:, place]
        rows[0, 14:16] = valued[place], n - 4 * below
    return rows


def _top(histogram: NDArray[np.int64], parts: int) -> tuple[int, int]:
    """Return the place on which the top 1/parts of the accounts ends, and the accounts above it."""
    reached = np.cumsum(histogram)
    n = int(reached[-1])
    place = int(np.searchsorted(reached, n * (parts - 1) // parts, side="right"))
    return place, n - int(reached[place])


def _median_doubled(histogram: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[int, int]:
    reached = np.cumsum(histogram)
    n = int(reached[-1])
    if n == 0:
        return 0, 0
    low, high = np.searchsorted(reached, [(n - 1) // 2, n // 2], side="right")
    return n, int(values[low] + values[high])


def sums_frame(names: Sequence[str], rows: NDArray[np.int64]) -> pl.DataFrame:
    """Return sums as a frame, one row a candidate.

    Parameters
    ----------
    names
        Names of the S sums.
    rows
        int64, shape (K, L, S).

    Returns
    -------
    DataFrame
        Int64 columns; Int128 where money needed a second limb.
    """
    frame = pl.DataFrame(np.ascontiguousarray(rows[:, 0].T), schema=list(names), orient="col")
    if rows.shape[1] == 1:
        return frame
    high = pl.DataFrame(np.ascontiguousarray(rows[:, 1].T), schema=list(names), orient="col")
    wide = [n for n in names if (high[n] != 0).any()]
    both = frame.hstack(high.select(pl.col(wide).name.suffix(_HIGH)))
    return both.with_columns(
        pl.col(n).cast(pl.Int128) + pl.col(n + _HIGH).cast(pl.Int128) * 2**LIMB_BITS for n in wide
    ).select(names)
