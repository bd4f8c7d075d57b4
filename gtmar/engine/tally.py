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

from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.engine.cohorts import LIMB_BITS
from gtmar.engine.layout import Recipe
from gtmar.engine.numpy_kernel import BOUNDARY_SUMS, CASH, Counts, Totals, boundaries, place_total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.spec.model import ScoringSpec

__all__ = ["TierEdges", "sums_frame", "tier_sum"]

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


@dataclass(frozen=True)
class TierEdges:
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
    def of(cls, spec: ScoringSpec, days: NDArray[np.int64] | None = None) -> TierEdges:
        """Read the bands off a spec; `days` are the distinct values behind `day_codes`."""
        return cls(
            tiers=spec.tier_names,
            tier_lows=tuple(spec.tier_lows),
            places=place_total(spec.max_score),
            risk=spec.orientation == "risk",
            days=days,
        )

    def tiers_of(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return each place's tier, in [0, T)."""
        from_bottom = np.searchsorted(self.tier_lows[::-1], places, side="right")
        return len(self.tier_lows) - from_bottom

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all sums, in the order in which `sums` gives them."""
        return (*SCALAR_SUMS, *(tier_sum(n, tier) for tier in self.tiers for n in TIER_SUMS))

    @cached_property
    def _place_of(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def recipe(self) -> Recipe:
        """How machine code puts a tier's sums together; the rest of their order it has by heart."""
        days = np.zeros(0, dtype=np.int64) if self.days is None else self.days
        return Recipe(_ACCOUNT_INDICATOR, _CHURNED_INDICATOR[:, 0].copy(), days)

    def known(self, rows: NDArray[np.int64], names: Sequence[str]) -> dict[str, list[int]]:
        """Return some sums by name, as Python's integers.

        Parameters
        ----------
        rows
            int64, shape (K, L, S).
        names
            Which.

        Returns
        -------
        dict
            K integers by name.
        """
        places = [self._place_of[name] for name in names]
        columns: list[list[int]] = rows[:, 0, places].T.tolist()
        for limb in range(1, rows.shape[1]):
            high = rows[:, limb, places].T.tolist()
            columns = [
                [low + (more << LIMB_BITS * limb) for low, more in zip(*pair, strict=True)]
                for pair in zip(columns, high, strict=True)
            ]
        return dict(zip(names, columns, strict=True))

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
        totals = self._totals(counts, first)
        tiers = self._tier_sums(totals)
        candidates, depth = tiers.shape[:2]
        all_accounts, labelled, retained = tiers[:, 0, :, :3].sum(axis=1).T
        scalars = np.zeros((candidates, depth, len(SCALAR_SUMS)), dtype=np.int64)
        head = scalars[:, 0]
        head[:, 0] = all_accounts
        head[:, 1:3] = totals.clipped
        head[:, 3:5] = totals.moments
        head[:, 5], head[:, 6] = retained, labelled - retained
        # Average ranks for ties: of the accounts on a place, the ranks before it and half its own.
        head[:, 7] = totals.ranks + retained
        scalars[..., -BOUNDARY_SUMS:] = totals.boundaries
        return np.concatenate([scalars, tiers.reshape(candidates, depth, -1)], axis=-1)

    def _totals(self, counts: Counts, first: int) -> Totals:
        candidates, _, depth, places = counts.money.shape
        turn = slice(None, None, -1 if self.risk else 1)
        accounts, money = counts.accounts[..., turn], counts.money[..., turn]
        grid = np.arange(first, first + places)[turn]
        ranked = accounts[:, 0] + accounts[:, 1]
        everyone = ranked + accounts[:, 2]
        before = np.cumsum(ranked, axis=1)
        before *= 2
        before -= ranked
        # Runs of places by tier; a tier without a place here gets none.
        lows = np.clip(np.array(self.tier_lows) - first, 0, places)
        tops = np.append(places, lows[:-1])
        held = np.flatnonzero(lows < tops)
        by_tier = np.zeros((candidates, CASH, depth, len(self.tiers)), dtype=np.int64)
        inside = np.add.reduceat(counts.money[:, :CASH], lows[held][::-1], axis=-1)
        by_tier[..., held] = inside[..., ::-1]
        return Totals(
            clipped=counts.clipped,
            moments=np.stack([np.einsum("kp,p->k", everyone, g) for g in (grid, grid * grid)], 1),
            ranks=np.einsum("kp,kp->k", before, accounts[:, 1]),
            tier_counts=counts.tier_counts,
            tier_days=counts.tier_days,
            tier_money=by_tier,
            boundaries=boundaries(accounts[:, 3:], money),
        )

    def _tier_sums(self, totals: Totals) -> NDArray[np.int64]:
        """Return the sums of each tier, int64 (K, L, T, sums)."""
        candidates, _, depth, tiers = totals.tier_money.shape
        rows = np.zeros((candidates, depth, tiers, len(TIER_SUMS)), dtype=np.int64)
        split = _ACCOUNT_INDICATOR.shape[1]
        rows[:, 0, :, :split] = totals.tier_counts @ _ACCOUNT_INDICATOR
        gone, stays, contraction, expansion = totals.tier_money.swapaxes(0, 1)
        rows[..., split] = gone + stays
        rows[..., split + 1] = stays - contraction + expansion
        rows[..., split + 2] = expansion
        rows[..., split + 3] = contraction
        # Without a label nobody is known to have left.
        churned = totals.tier_counts @ _CHURNED_INDICATOR > 0
        rows[..., split + 4] = gone * churned[:, None, :, 0]
        if self.days is not None and len(self.days):
            rows[:, 0, :, -2], rows[:, 0, :, -1] = _median_doubled(totals.tier_days, self.days)
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
