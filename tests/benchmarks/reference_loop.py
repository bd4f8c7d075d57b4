"""The loop that most teams would write in an afternoon: pandas, scikit-learn, a JSON line each.

A competent analyst's own version of what this package does, as a measure of speed: the same table,
the same 13 metrics for every candidate, keep or revert by AUC, everything logged. Nothing is slowed
down on purpose: masks of cohorts that don't change are made once, scores are clipped and cut into
tiers by vectorised calls, nothing is computed twice within an experiment. It has no seeds per
proposal, no holdout, no exact ties on a boundary, no digest, no guardrails and no way to resume.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

__all__ = ["ReferenceLoop"]


@dataclass
class _Cohorts:
    """What doesn't change from experiment to experiment: who counts where."""

    current: pd.Series
    former: pd.Series
    paying: pd.Series
    valued: pd.Series
    applies: pd.Series

    @classmethod
    def of(cls, table: pd.DataFrame) -> _Cohorts:
        former = table["won_back"].notna()
        current = ~former & table["retained_6mo"].notna()
        return cls(
            current=current,
            former=former,
            paying=current & (table["mrr"] > 0),
            valued=~former & (table["actual_ltv"] > 0),
            applies=table["activated"].notna(),
        )


class ReferenceLoop:
    """Random hill climbing over one table.

    Parameters
    ----------
    table
        Features and outcomes, as `gtmar generate health_score` makes them.
    weights, bounds
        Of each feature.
    base, top
        Points that every account starts with, and the highest score.
    tiers
        Each tier's lowest score, the highest tier first.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        weights: dict[str, int],
        bounds: dict[str, tuple[int, int]],
        *,
        base: int,
        top: int,
        tiers: dict[str, float],
        seed: int = 0,
    ) -> None:
        self.table = table
        self.weights = dict(weights)
        self.bounds = bounds
        self.base, self.top, self.tiers = base, top, tiers
        self.random = np.random.default_rng(seed)
        self.cohorts = _Cohorts.of(table)
        self.best = self.metrics(self.weights)

    def score(self, weights: dict[str, int]) -> pd.Series:
        """Add up points, column by column."""
        total = pd.Series(float(self.base), index=self.table.index)
        for feature, weight in weights.items():
            total += weight * self.table[feature]
        return total.clip(0, self.top).round(2)

    def metrics(self, weights: dict[str, int]) -> dict[str, Any]:
        """Compute the 13 metrics of a weight vector."""
        table, who = self.table, self.cohorts
        score = self.score(weights)
        label = table["retained_6mo"][who.current].astype(int)
        found: dict[str, Any] = {
            "auc_roc_retain": roc_auc_score(label, score[who.current]),
            "auc_roc_churn": roc_auc_score(1 - label, -score[who.current]),
        }
        mrr = table["mrr"]
        ranked = score[who.paying].sort_values(ascending=False)
        best = ranked.index[: int(len(ranked) * 0.2)]
        found["revenue_capture_at_20"] = mrr.loc[best].sum() / mrr[who.paying].sum()
        by_score = score[who.valued].sort_values(ascending=False).index
        quarter = len(by_score) // 4
        lifetime = table["actual_ltv"]
        found["tier_separation"] = (
            lifetime.loc[by_score[:quarter]].mean() / lifetime.loc[by_score[-quarter:]].mean()
        )
        edges = [*list(self.tiers.values())[::-1], np.inf]
        tier = pd.cut(score, edges, right=False, labels=list(self.tiers)[::-1])
        by_tier: dict[str, dict[str, float]] = {}
        for name in self.tiers:
            for key, value in self.of_tier(tier == name).items():
                by_tier.setdefault(key, {})[name] = value
        shares = np.array(list(by_tier.pop("mrr").values())) / mrr[who.paying].sum()
        found["revenue_concentration_hhi"] = float(((100 * shares) ** 2).sum())
        return found | by_tier

    def of_tier(self, inside: pd.Series) -> dict[str, float]:
        """Compute the metrics of one tier's accounts."""
        table, who = self.table, self.cohorts
        paying = inside & who.paying
        start, end = table["mrr"][paying], table["mrr_end"][paying]
        total = start.sum()
        change = end - start
        return {
            "mrr": total,
            "logo_retention_by_tier": table["retained_6mo"][inside & who.current].mean(),
            "nrr_by_tier": end.sum() / total,
            "grr_by_tier": np.minimum(start, end).sum() / total,
            "expansion_rate_by_tier": change[change > 0].sum() / total,
            "contraction_rate_by_tier": -change[(change < 0) & (end > 0)].sum() / total,
            "arpa_by_tier": start.mean(),
            "activation_rate_by_tier": table["activated"][inside & who.applies].mean(),
            "winback_rate_by_former_tier": table["won_back"][inside & who.former].mean(),
        }

    def propose(self) -> dict[str, int]:
        """Change one to three weights by up to 30 %, within their bounds."""
        changed = dict(self.weights)
        names = list(changed)
        for name in self.random.choice(names, size=self.random.integers(1, 4), replace=False):
            reach = max(1, int(np.ceil(0.3 * abs(changed[name]))))
            step = int(self.random.integers(-reach, reach + 1)) or 1
            low, high = self.bounds[name]
            changed[name] = min(max(changed[name] + step, low), high)
        return changed

    def run(self, experiments: int, log: IO[str]) -> None:
        """Do experiments, keep what is better, write each one down."""
        for number in range(1, experiments + 1):
            weights = self.propose()
            # An empty tier has no rate.
            with np.errstate(invalid="ignore"):
                measured = self.metrics(weights)
            won = measured["auc_roc_retain"] > self.best["auc_roc_retain"]
            row = {"experiment": number, "won": bool(won), "weights": weights, **measured}
            log.write(json.dumps(row) + "\n")
            if won:
                self.weights, self.best = weights, measured
