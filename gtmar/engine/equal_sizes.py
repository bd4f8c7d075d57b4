"""Sums of a score whose tiers have given sizes, so that two scores are compared tier by tier.

The best tier of a score looks better when it just gets smaller, and every tier's mean can rise when
accounts only move down; neither makes the score better. So accounts are sorted by score and cut
into tiers of the sizes that the other score's tiers have. Where a cut falls among accounts with the
same score, each of them belongs to both tiers in part: the mean over all orders of the tied.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.engine.cohorts import (
    ACCOUNT_INDICATOR,
    CASH_FLOWS,
    CHURNED_INDICATOR,
    CODES,
    LIMB_BITS,
    cohorts_of,
    limbs,
)
from gtmar.engine.local import CEILING, LocalEvaluator
from gtmar.engine.sum_names import ACCOUNT_SUMS, SCALAR_SUMS, tier_sum
from gtmar.engine.tally import TierEdges
from gtmar.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.engine.evaluator import Evaluator
    from gtmar.spec.model import ScoringSpec

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]

__all__ = [
    "SizedTiers",
    "edges_by_rule",
    "scores_at_sizes",
    "sums_at_sizes",
    "tier_sizes",
    "with_edges",
]


@dataclass(frozen=True)
class SizedTiers:
    """N accounts, with B distinct scores, divided into T tiers of given sizes.

    Parameters
    ----------
    rows
        intp, shape (N,), in [0, B): index of each account's score among the distinct scores.
    counts
        int64, shape (B,): accounts of each distinct score, the highest score first.
    overlap
        int64, shape (B, T): how many of a score's accounts each tier takes.
    """

    rows: NDArray[np.intp]
    counts: Int64s
    overlap: Int64s

    @classmethod
    def of(cls, scores: NDArray[np.integer], sizes: Sequence[int]) -> SizedTiers:
        """Divide accounts by their scores, integers of shape (N,), from the highest down.

        Raises
        ------
        ShapeError
            If the sizes don't add up to N.
        """
        if sum(sizes) != len(scores):
            raise ShapeError(
                f"tier sizes: expected {len(scores):,} accounts in all, got {sum(sizes):,}"
            )
        # Few distinct whole numbers: counting them is cheaper than sorting accounts.
        lowest = int(scores.min(initial=0))
        by_score = np.bincount(scores - lowest)
        held = np.flatnonzero(by_score)[::-1]
        number = np.zeros(len(by_score), dtype=np.intp)
        number[held] = np.arange(len(held))
        rows, counts = number[scores - lowest], by_score[held]
        stops = np.cumsum(counts)
        ends = np.cumsum(np.array(sizes, dtype=np.int64))
        overlap = np.minimum(stops[:, None], ends) - np.maximum(
            (stops - counts)[:, None], ends - np.array(sizes)
        )
        return cls(rows, counts.astype(np.int64), np.maximum(overlap, 0))

    @property
    def tiers(self) -> NDArray[np.intp]:
        """The tier that takes most of each account, the higher of two alike; shape (N,)."""
        return np.asarray(self.overlap.argmax(axis=1)[self.rows], dtype=np.intp)

    @property
    def membership(self) -> Floats | None:
        """How much of each account each tier takes, shape (N, T); None where none is divided."""
        if ((self.overlap > 0).sum(axis=1) == 1).all():
            return None
        return np.asarray((self.overlap / self.counts[:, None])[self.rows])

    def totals(self, values: NDArray[Any]) -> list[Fraction]:
        """Return the sum of each tier, exact, of values by score: int64 or objects, shape (B,)."""
        whole = self.overlap == self.counts[:, None]
        part = (self.overlap > 0) & ~whole
        totals = []
        for tier in range(self.overlap.shape[1]):
            total = Fraction(sum(values[whole[:, tier]].tolist()))
            for score in np.flatnonzero(part[:, tier]).tolist():
                taken = int(self.overlap[score, tier]), int(self.counts[score])
                total += Fraction(*taken) * int(values[score])
            totals.append(total)
        return totals


def edges_by_rule(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    weights: Sequence[int] | None = None,
    evaluator: Evaluator | None = None,
) -> tuple[int, ...]:
    """Return the tier edges that the spec's rule gives over N accounts, in hundredths of a point.

    They are the lowest score of each tier, from the highest tier down. `weights` are F integers,
    None for the spec's own; `evaluator` scores the accounts, None for one made here. Cost: a pass
    over the accounts for each feature.
    """
    vector = [term.weight for term in spec.terms] if weights is None else list(weights)
    evaluator = evaluator or LocalEvaluator(matrix, spec, threads=1, by_rule=True)
    scores, cohorts = evaluator.scores(vector), cohorts_of(matrix)
    edges = TierEdges.of(spec, by_rule=True)
    counts = np.zeros((1, 3, edges.bins), dtype=np.int64)
    for index, run in enumerate((cohorts.negatives, cohorts.positives, cohorts.rest)):
        counts[0, index] = np.bincount(scores[run], minlength=edges.bins)
    return tuple(edges.lows_of(counts)[0].tolist())


def with_edges(
    spec: ScoringSpec, matrix: AccountMatrix, evaluator: Evaluator | None = None
) -> ScoringSpec:
    """Return a spec with the edges that its tier rule gives over a matrix; as it is without one."""
    if not spec.has_rule:
        return spec
    return spec.with_edges(edges_by_rule(matrix, spec, evaluator=evaluator))


def tier_sizes(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    weights: Sequence[int],
    evaluator: Evaluator | None = None,
) -> tuple[int, ...]:
    """Return how many accounts each tier has by the spec's edges, the highest tier first."""
    evaluator = evaluator or LocalEvaluator(matrix, spec, threads=1)
    tiers = TierEdges.of(spec).tiers_of(evaluator.scores(weights))
    return tuple(np.bincount(tiers, minlength=len(spec.tiers)).tolist())


def sums_at_sizes(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    weights: Sequence[int],
    sizes: Sequence[int],
    names: Sequence[str] | None = None,
    evaluator: Evaluator | None = None,
) -> Mapping[str, Sequence[int | Fraction]]:
    """Return all sums of one candidate with tiers of given sizes: one exact value for each sum.

    Parameters
    ----------
    matrix
        N accounts.
    spec
        How accounts are scored. Its tier edges are used only for what a veto caps a score at.
    weights
        F weights.
    sizes
        Accounts of each tier from the highest scores down; they add up to N.
    names
        Tier names; None for the spec's own.
    evaluator
        Scores the accounts; None for one made here.

    Returns
    -------
    mapping
        As formulas take them, see `metric.Sums`: sums of the whole are integers, those of a tier
        fractions, since accounts that tie across a cut belong to both sides in part.

    Notes
    -----
    Cost: some twenty passes over the accounts.
    """
    spec = spec if spec.has_edges else spec.with_edges(range(len(spec.tiers) - 1, -1, -1))
    evaluator = evaluator or LocalEvaluator(matrix, spec, threads=1)
    whole = evaluator.known_of(evaluator.sums([weights]), (*SCALAR_SUMS, CEILING))
    names = spec.tier_names if names is None else names
    return scores_at_sizes(matrix, evaluator.scores(weights), whole, sizes, names)


def scores_at_sizes(
    matrix: AccountMatrix,
    scores: NDArray[np.int64],
    whole: Mapping[str, Sequence[int]],
    sizes: Sequence[int],
    names: Sequence[str],
) -> Mapping[str, Sequence[int | Fraction]]:
    """Return what `sums_at_sizes` does, given the scores: int64 (N,), in matrix order.

    `whole` has the sums that no tier changes, `SCALAR_SUMS` and `CEILING`, one value each.
    """
    cohorts = cohorts_of(matrix)
    known: dict[str, Sequence[int | Fraction]] = {n: whole[n] for n in (*SCALAR_SUMS, CEILING)}
    cut = SizedTiers.of(scores, sizes)
    values = len(cut.counts)
    by_code = np.bincount(cut.rows * CODES + matrix.codes, minlength=values * CODES)
    by_code = by_code.reshape(values, CODES)
    accounts = by_code @ ACCOUNT_INDICATOR
    named = {name: cut.totals(accounts[:, i]) for i, name in enumerate(ACCOUNT_SUMS)}
    flows = {
        name: cut.totals(_cents(cut.rows[run], cents, values))
        for name, (run, cents) in zip(CASH_FLOWS, cohorts.cash_flows(), strict=True)
    }
    left = cut.totals(by_code @ CHURNED_INDICATOR)
    known_days = _days(cut, cohorts.dated, cohorts.days, matrix.days)
    for index, tier in enumerate(names):
        gone, stays, less, more = (flows[name][index] for name in CASH_FLOWS)
        sums: dict[str, int | Fraction] = {n: totals[index] for n, totals in named.items()}
        sums |= {
            "start": gone + stays,
            "end": stays - less + more,
            "expansion": more,
            "contraction": less,
            # Without a label nobody is known to have left.
            "churned": gone if left[index] else Fraction(0),
            "days_known": known_days[index][0],
            "days_doubled": known_days[index][1],
        }
        known |= {tier_sum(name, tier): [value] for name, value in sums.items()}
    return known


def _cents(rows: NDArray[np.intp], cents: Int64s, scores: int) -> NDArray[np.object_]:
    """Sum cents by score, as Python integers, which can't overflow."""
    if not len(cents):
        return np.zeros(scores, dtype=object)
    low, high = (
        np.bincount(rows, limb, minlength=scores).astype(np.int64).astype(object)
        for limb in limbs(cents, 2)
    )
    return np.asarray(low + high * 2**LIMB_BITS)


def _days(
    cut: SizedTiers, dated: NDArray[np.integer], days: NDArray[np.integer], values: Int64s | None
) -> list[tuple[Fraction, int]]:
    """Return for each tier how many accounts have known days to activation, and twice their median.

    `dated` are rows, `days` the index of each one's days among `values`.
    """
    tiers = cut.overlap.shape[1]
    if values is None or not len(dated):
        return [(Fraction(0), 0)] * tiers
    scores = len(cut.counts)
    table = np.bincount(
        cut.rows[dated] * len(values) + days, minlength=scores * len(values)
    ).reshape(scores, len(values))
    by_day = [cut.totals(table[:, day]) for day in range(len(values))]
    return [_median([totals[tier] for totals in by_day], values.tolist()) for tier in range(tiers)]


def _median(weights: Sequence[Fraction], values: Sequence[int]) -> tuple[Fraction, int]:
    """Return the sum of the weights, and the two middle values added up: twice the median."""
    whole, reached, low = sum(weights, Fraction(0)), Fraction(0), None
    for weight, value in zip(weights, values, strict=True):
        reached += weight
        if low is None and reached and 2 * reached >= whole:
            low = value
        if low is not None and 2 * reached > whole:
            return whole, low + value
    return whole, 0
