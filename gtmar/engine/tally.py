"""From a candidate's counts to its sums, which every metric is computed from.

Counts are accounts and cents per score bin; those of two parts of a table add up. Sums are one row
of exact integers a candidate, named in `sum_names` and read by `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.engine.cohorts import ACCOUNT_INDICATOR, CASH_FLOWS, CHURNED_INDICATOR, LIMB_BITS
from gtmar.engine.numpy_kernel import Counts, bin_count, boundaries, revenue
from gtmar.engine.sum_names import SCALAR_SUMS, TIER_LOW, TIER_SUMS, tier_sum
from gtmar.spec.tier_rule import TierRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.spec.model import ScoringSpec

    Int64s = NDArray[np.int64]

__all__ = ["TierEdges", "sums_frame"]

#: Suffix of the column that holds a sum's high limb until both limbs are added up.
_HIGH = "#high"


@dataclass(frozen=True)
class TierEdges:
    """The tiers of a spec over score bins, and the order of scores; turns counts into sums.

    Letters of shapes: K candidates, T tiers, L limbs of money, P bins, S sums, U values of days.

    Parameters
    ----------
    tiers
        T tier names, from the highest scores down.
    tier_lows
        The lowest bin of each tier, from the highest tier down; empty where a rule sets them.
    bins
        P, the number of score bins.
    risk
        True where high scores are bad. Then scores are ranked from the highest down, everywhere,
        because `sums` reverses their order; scores and tiers stay as they are.
    days
        int64, shape (U,): the distinct days to activation, ascending.
    rule
        Sets the tier edges of each candidate by its own scores; None where all have the spec's.
    """

    tiers: tuple[str, ...]
    tier_lows: tuple[int, ...]
    bins: int
    risk: bool
    days: Int64s
    rule: TierRule | None = None

    @classmethod
    def of(
        cls, spec: ScoringSpec, days: Int64s | None = None, *, by_rule: bool = False
    ) -> TierEdges:
        """Return the tier edges of a spec; its rule in their place if `by_rule` and it has one.

        `days` are the distinct days to activation, `AccountMatrix.days`.
        """
        rule = TierRule.of(spec) if by_rule else None
        return cls(
            tiers=spec.tier_names,
            tier_lows=() if rule else spec.tier_lows,
            bins=bin_count(spec.max_score),
            risk=spec.orientation == "risk",
            days=np.zeros(0, dtype=np.int64) if days is None else days,
            rule=rule,
        )

    def lows_of(self, accounts: Int64s, *, first: int = 0) -> Int64s:
        """Return the lowest bin of each tier of K candidates, int64 (K, T).

        Parameters
        ----------
        accounts
            int64, shape (K, 5, bins): accounts per score bin of the whole table, as in `Counts`.
        first
            The first of these bins.
        """
        if self.rule is None:
            return np.tile(np.array(self.tier_lows, dtype=np.int64), (len(accounts), 1))
        negatives, positives, rest = accounts[:, :3].swapaxes(0, 1)
        labelled = negatives + positives
        sides = zip(labelled + rest, negatives, labelled, strict=True)
        return np.array([self.rule.lows(*each, first=first) for each in sides], dtype=np.int64)

    def tiers_of(self, bins: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return each bin's tier, in [0, T)."""
        from_bottom = np.searchsorted(self.tier_lows[::-1], bins, side="right")
        return len(self.tier_lows) - from_bottom

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all sums, in the order in which `sums` gives them."""
        by_tier = (tier_sum(n, tier) for tier in self.tiers for n in TIER_SUMS)
        lows = (tier_sum(TIER_LOW, tier) for tier in self.tiers) if self.rule else ()
        return (*SCALAR_SUMS, *by_tier, *lows)

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def known(self, rows: Int64s, names: Sequence[str]) -> dict[str, list[int]]:
        """Return some sums of K candidates by name, as Python integers; `rows` are from `sums`."""
        edges = {}
        for name in names:
            low, *high = rows[:, :, self._index_of[name]].T.tolist()
            for limb, more in enumerate(high, 1):
                low = [a + (b << LIMB_BITS * limb) for a, b in zip(low, more, strict=True)]
            edges[name] = low
        return edges

    def sums(self, counts: Counts) -> Int64s:
        """Reduce the counts of K candidates to their sums.

        Parameters
        ----------
        counts
            The counts of all accounts, parts added up.

        Returns
        -------
        ndarray of int64, shape (K, L, S)
            In the order of `names`; a sum is its low limb plus 2^26 times its high one, if L is 2.

        Notes
        -----
        Cost: some dozen passes over the bins, whatever the number of accounts.
        """
        candidates, _, depth, bins = counts.money.shape
        turn = slice(None, None, -1 if self.risk else 1)
        accounts, money = counts.accounts[..., turn], counts.money[..., turn]
        grid = np.arange(counts.first, counts.first + bins)[turn]
        ranked = accounts[:, 0] + accounts[:, 1]
        everyone = ranked + accounts[:, 2]
        # Twice the labelled accounts in bins before, and those in the bin itself.
        before = np.cumsum(ranked, axis=1)
        before *= 2
        before -= ranked
        tiers = self._tier_sums(counts)
        scored, labelled, retained = (
            tiers[:, 0, :, TIER_SUMS.index(name)].sum(axis=1)
            for name in ("accounts", "labelled", "retained")
        )
        whole = {
            "scored": scored,
            "clipped_low": counts.clipped[:, 0],
            "clipped_high": counts.clipped[:, 1],
            "score_sum": np.einsum("kp,p->k", everyone, grid),
            "score_squares": np.einsum("kp,p->k", everyone, grid * grid),
            "positives": retained,
            "negatives": labelled - retained,
            # Average ranks for ties: of the accounts in a bin, the ranks before and half its own.
            "rank_doubled": np.einsum("kp,kp->k", before, accounts[:, 1]) + retained,
            **boundaries(accounts[:, 3:], money),
        }
        scalars = _in_order(SCALAR_SUMS, whole, (candidates, depth))
        parts = [scalars, tiers.reshape(candidates, depth, -1)]
        if self.rule:
            lows = np.zeros((candidates, depth, len(self.tiers)), dtype=np.int64)
            lows[:, 0] = counts.lows
            parts.append(lows)
        return np.concatenate(parts, axis=-1)

    def _tier_sums(self, counts: Counts) -> Int64s:
        """Return the sums of each tier, int64 (K, L, T, sums)."""
        candidates, _, depth, bins = counts.money.shape
        flows = np.zeros((candidates, len(CASH_FLOWS), depth, len(self.tiers)), dtype=np.int64)
        # All candidates at once if they share their edges, else one by one.
        alike = 1 if self.rule else candidates
        for group in (slice(k, k + alike) for k in range(0, candidates, alike)):
            # `held` are the tiers with bins among those counted; the others have no cents.
            lows = np.clip(counts.lows[group][0] - counts.first, 0, bins)
            held = np.flatnonzero(lows < np.append(bins, lows[:-1]))
            money = counts.money[group, : len(CASH_FLOWS)]
            inside = np.add.reduceat(money, lows[held][::-1], axis=-1)
            flows[group][..., held] = inside[..., ::-1]
        gone, _, contraction, expansion = flows.swapaxes(0, 1)
        start, end = revenue(flows.swapaxes(0, 1))
        rows = _in_order(
            TIER_SUMS,
            {
                "start": start,
                "end": end,
                "expansion": expansion,
                "contraction": contraction,
                # Without a label nobody is known to have left.
                "churned": gone * (counts.tier_counts @ CHURNED_INDICATOR > 0)[:, None],
            },
            (candidates, depth, len(self.tiers)),
        )
        accounts = counts.tier_counts @ ACCOUNT_INDICATOR
        rows[:, 0, :, : accounts.shape[-1]] = accounts
        if len(self.days):
            rows[:, 0, :, -2], rows[:, 0, :, -1] = _median_doubled(counts.tier_days, self.days)
        return rows


def _in_order(names: Sequence[str], values: Mapping[str, Int64s], shape: tuple[int, ...]) -> Int64s:
    """Return sums as one array, in the order of `names`: int64 (*shape, names).

    `shape` is (K, L, ...). A value of fewer dimensions has no limbs: it goes to the low one.
    """
    rows = np.zeros((*shape, len(names)), dtype=np.int64)
    for name, value in values.items():
        column = rows[..., names.index(name)]
        column[(..., 0) if value.ndim < len(shape) else ...] = value
    return rows


def _median_doubled(histograms: Int64s, values: Int64s) -> tuple[Int64s, Int64s]:
    """Return how many accounts each tier has, and twice the median of their values, 0 for none.

    `histograms`, (K, T, U), are accounts by value; both results have shape (K, T).
    """
    reached = np.cumsum(histograms, axis=-1)
    known = reached[..., -1:]
    low = (reached <= (known - 1) // 2).sum(axis=-1)
    high = (reached <= known // 2).sum(axis=-1)
    last = len(values) - 1
    doubled = values[np.minimum(low, last)] + values[np.minimum(high, last)]
    return known[..., 0], np.where(known[..., 0] > 0, doubled, 0)


def sums_frame(names: Sequence[str], rows: Int64s) -> pl.DataFrame:
    """Return sums, int64 (K, L, S), as a frame of K rows with S columns, Int64.

    Columns whose sums need a second limb are Int128.
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
