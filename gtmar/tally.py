"""Tally: the exact counts and sums that every metric is computed from.

Two tallies of two parts of a table add up to the tally of the whole. A tally comes down to its
*sums*: one row of exact integers a candidate, named here and read by `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.accounts.outcomes import ACTIVATION_STATES, Movement
from gtmar.kernel import LIMB_BITS, Cohorts, Counts, limb_count, place_total
from gtmar.kernel.boundaries import BOUNDARY_SUMS, boundaries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
#: Accounts whose whole start MRR is gone.
_CHURNED = {"churned": (_M.LOST_PAYING, _M.KEPT_REVENUE_LOST)}
#: Sums of each tier; `days_doubled` is twice the median, `days_known` the accounts behind it.
TIER_SUMS = (
    *_ACCOUNTS_OF,
    "applies",
    "activated",
    "start",
    "end",
    "expansion",
    "contraction",
    "churned",
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


def _indicator(groups: Mapping[str, tuple[Movement, ...]]) -> NDArray[np.int64]:
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
_CHURNED_INDICATOR = _indicator(_CHURNED)


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


@dataclass(frozen=True)
class Bands:
    """How a spec divides score places: the tiers and the order. Turns counts into sums.

    Parameters
    ----------
    tiers
        Tier names, T of them, from the highest scores down.
    tier_lows
        The lowest place of each tier, from the highest tier down.
    places
        P.
    risk
        True where high scores are bad. The order of scores is turned here, once, before all
        ranking; scores and tiers stay as they are.
    days
        int64, shape (U,): the distinct values behind `day_codes`; None without such a column.
    """

    tiers: tuple[str, ...]
    tier_lows: tuple[int, ...]
    places: int
    risk: bool
    days: NDArray[np.int64] | None

    @classmethod
    def of(cls, spec: ScoringSpec, days: NDArray[np.int64] | None = None) -> Bands:
        """Read the bands off a spec; `days` are the distinct values behind `day_codes`."""
        return cls(
            tiers=spec.tier_names,
            tier_lows=tuple(spec.tier_lows),
            places=place_total(spec.max_score),
            risk=spec.orientation == "risk",
            days=days,
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all sums, in the order in which `sums` gives them."""
        return (*SCALAR_SUMS, *(tier_sum(n, tier) for tier in self.tiers for n in TIER_SUMS))

    def sums(self, counts: Counts, *, first: int = 0) -> NDArray[np.int64]:
        """Reduce the counts of K candidates to their sums.

        Parameters
        ----------
        counts
            The counts of all accounts, parts added up.
        first
            The place that the counts begin with. No account may be outside of what they hold.

        Returns
        -------
        ndarray of int64, shape (K, L, S)
            A row a limb, in the order of `names`; `sums_frame` joins the limbs.

        Notes
        -----
        Cost: some dozen passes over the places, whatever the number of accounts.
        """
        candidates, _, depth, places = counts.money.shape
        tiers = self._tier_sums(counts, first)
        all_accounts, labelled, retained = tiers[:, 0, :, :3].sum(axis=1).T
        scalars = np.zeros((candidates, depth, len(SCALAR_SUMS)), dtype=np.int64)
        head = scalars[:, 0]
        turn = slice(None, None, -1 if self.risk else 1)
        accounts, money = counts.accounts[..., turn], counts.money[..., turn]
        grid = np.arange(first, first + places)[turn]
        ranked = accounts[:, 0] + accounts[:, 1]
        everyone = ranked + accounts[:, 2]
        head[:, 0] = all_accounts
        head[:, 1:3] = counts.clipped
        head[:, 3] = np.einsum("kp,p->k", everyone, grid)
        head[:, 4] = np.einsum("kp,p->k", everyone, grid * grid)
        head[:, 5], head[:, 6] = retained, labelled - retained
        # Average ranks for ties: of the accounts on a place, the ranks before it and half its own.
        before = np.cumsum(ranked, axis=1)
        before *= 2
        before -= ranked
        head[:, 7] = np.einsum("kp,kp->k", before, accounts[:, 1]) + retained
        scalars[..., -BOUNDARY_SUMS:] = boundaries(accounts[:, 3:], money)
        return np.concatenate([scalars, tiers.reshape(candidates, depth, -1)], axis=-1)

    def _tier_sums(self, counts: Counts, first: int) -> NDArray[np.int64]:
        """Return the sums of each tier, int64 (K, L, T, sums)."""
        candidates, _, depth, places = counts.money.shape
        shape = (candidates, depth, len(self.tiers), len(TIER_SUMS))
        rows = np.zeros(shape, dtype=np.int64)
        split = _ACCOUNT_INDICATOR.shape[1]
        rows[:, 0, :, :split] = counts.tier_counts @ _ACCOUNT_INDICATOR
        # Runs of places by tier; a tier without a place here gets none.
        lows = np.clip(np.array(self.tier_lows) - first, 0, places)
        tops = np.append(places, lows[:-1])
        held = np.flatnonzero(lows < tops)
        inside = np.add.reduceat(counts.money[:, :4], lows[held][::-1], axis=-1)[..., ::-1]
        gone, stays, contraction, expansion = inside.swapaxes(0, 1)
        rows[:, :, held, split] = gone + stays
        rows[:, :, held, split + 1] = stays - contraction + expansion
        rows[:, :, held, split + 2] = expansion
        rows[:, :, held, split + 3] = contraction
        rows[:, :, held, split + 4] = gone
        # Without a label nobody is known to have left.
        churned = counts.tier_counts @ _CHURNED_INDICATOR > 0
        rows[..., split + 4] *= churned[:, None, :, 0]
        if self.days is not None and len(self.days):
            rows[:, 0, :, -2], rows[:, 0, :, -1] = _median_doubled(counts.tier_days, self.days)
        return rows


def _median_doubled(
    histograms: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many there are and twice their median, 0 of none; (K, T, U) to (K, T)."""
    reached = np.cumsum(histograms, axis=-1)
    known = reached[..., -1:]
    low = (reached <= (known - 1) // 2).sum(axis=-1)
    high = (reached <= known // 2).sum(axis=-1)
    last = len(values) - 1
    doubled = values[np.minimum(low, last)] + values[np.minimum(high, last)]
    return known[..., 0], np.where(known[..., 0] > 0, doubled, 0)


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
