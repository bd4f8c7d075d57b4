"""Two scores side by side, tier by tier, at the sizes that the first one's tiers have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gtmar.data.outcomes import CENTS
from gtmar.engine.equal_sizes import sums_at_sizes, tier_sizes
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import tier_sum
from gtmar.metrics.registry import CONCENTRATION_KEYS, all_metrics, measure_exact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.outcomes import OutcomeColumns
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec

    _Scored = tuple[AccountMatrix, ScoringSpec, Sequence[int]]

__all__ = ["at_equal_sizes", "measured_at_sizes", "objectives", "one_side", "side_by_side"]


def measured_at_sizes(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    weights: Sequence[int],
    sizes: Sequence[int],
    outcomes: OutcomeColumns,
) -> dict[str, float | None]:
    """Return all metrics but counts, tiers having given sizes; by-tier ones as ``key.tier``."""
    return measure_exact(sums_at_sizes(matrix, spec, weights, sizes), spec.tier_names, outcomes)


def at_equal_sizes(
    matrix: AccountMatrix, spec: ScoringSpec, best: Sequence[int], outcomes: OutcomeColumns
) -> dict[str, Any]:
    """Measure a spec and other weights by tier, at the sizes that the spec's tiers have.

    Returns
    -------
    dict
        `tiers` from the highest scores down, `sizes` of them, `start` and `best`: the by-tier
        metrics as ``key.tier``, and HHI, null without their columns; how many accounts of each tier
        have a label, `labelled_start` and `labelled_best`; and its MRR of the start that is gone,
        `churned_mrr_start` and `churned_mrr_best`, null without MRR.
    """
    return side_by_side(
        (matrix, spec, [t.weight for t in spec.terms]), (matrix, spec, best), outcomes
    )


def side_by_side(one: _Scored, two: _Scored, outcomes: OutcomeColumns) -> dict[str, Any]:
    """Measure two scores of the same accounts by tier, at the sizes that the first one's have.

    Each score is a matrix, a spec and weights; the tiers are called as the first one's. Returns
    what `at_equal_sizes` does.
    """
    spec = one[1]
    sizes, tiers = tier_sizes(*one), spec.tier_names
    sides: dict[str, Any] = {}
    for name, (matrix, own, weights) in (("start", one), ("best", two)):
        sides |= one_side(name, sums_at_sizes(matrix, own, weights, sizes, tiers), tiers, outcomes)
    return {"tiers": list(tiers), "sizes": list(sizes), **sides}


def one_side(
    name: str,
    known: Mapping[str, Sequence[int | Fraction]],
    tiers: Sequence[str],
    outcomes: OutcomeColumns,
) -> dict[str, Any]:
    """Return the part of `side_by_side` that is of one score, by its sums at the sizes."""
    has_mrr = outcomes.missing_reason(all_metrics()["grr_by_tier"].needs) is None
    values = measure_exact(known, tiers, outcomes)
    labelled = (known[tier_sum("labelled", tier)][0] for tier in tiers)
    gone = [float(known[tier_sum("churned", tier)][0]) / CENTS for tier in tiers]
    return {
        name: {k: v for k, v in values.items() if "." in k or k in CONCENTRATION_KEYS},
        f"labelled_{name}": list(map(float, labelled)),
        f"churned_mrr_{name}": gone if has_mrr else None,
    }


def objectives(
    judge: Judge,
    matrix: AccountMatrix,
    spec: ScoringSpec,
    before: Sequence[int],
    after: Sequence[int],
) -> tuple[float | None, float | None]:
    """Return the objective of two weight vectors; of a tier at the sizes of the first one's."""
    if not judge.metric.by_tier:
        one, two = judge.values(LocalEvaluator(matrix, spec).frame([before, after]))
        return one, two
    sizes = tier_sizes(matrix, spec, before)
    one, two = (
        judge.decide(sums_at_sizes(matrix, spec, each, sizes))[0] for each in (before, after)
    )
    return one, two
