"""The list of all metrics, and their values from a frame of sums.

Polars and NumPy are imported only where values are computed; names and units don't need them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.errors import UsageError, did_you_mean
from gtmar.metrics.formulas import CONCENTRATION, DISTRIBUTION, METRICS
from gtmar.metrics.metric import Exact, Metric, Sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from gtmar.data.outcomes import OutcomeColumns

__all__ = [
    "CONCENTRATION_KEYS",
    "DISTRIBUTION_KEYS",
    "MAIN_KEYS",
    "Measured",
    "all_metrics",
    "expression",
    "measure",
    "measure_exact",
    "metric_column",
    "metric_named",
    "objective_keys",
]


#: Metrics of how revenue is spread over tiers.
CONCENTRATION_KEYS = tuple(metric.key for metric in CONCENTRATION)
#: The 13 metrics, in the order of `docs/metrics.md`, without their companions.
MAIN_KEYS = (
    "nrr_by_tier",
    "grr_by_tier",
    "logo_retention_by_tier",
    "expansion_rate_by_tier",
    "contraction_rate_by_tier",
    "quick_ratio_by_tier",
    "winback_rate_by_former_tier",
    "activation_rate_by_tier",
    "arpa_by_tier",
    "revenue_concentration_hhi",
    "revenue_capture_at_20",
    "auc_roc_retain",
    "tier_separation",
)
#: Metrics of the distribution of scores, which can't be an objective.
DISTRIBUTION_KEYS = tuple(metric.key for metric in DISTRIBUTION)


@cache
def all_metrics() -> dict[str, Metric]:
    """Return every metric by key: the 13 and their companions, then counts and distribution."""
    return {metric.key: metric for metric in METRICS}


def objective_keys() -> list[str]:
    """Return the metrics that may be an objective: those with a better direction, and HHI.

    More concentration is neither good nor bad by itself; as an objective, more counts as better.
    """
    usable = all_metrics().items()
    return [k for k, m in usable if m.better != "neither" or k in CONCENTRATION_KEYS]


def metric_column(key: str, tier: str | None) -> str:
    """Return the name of a metric's column in `Measured.values`."""
    return key if tier is None else f"{key}.{tier}"


def metric_named(name: str, tiers: Sequence[str]) -> Metric:
    """Return a metric by name: ``tier_separation``, ``nrr_by_tier.A``.

    Raises
    ------
    UsageError
        If there is no such metric or tier, or a by-tier metric is named without a tier.
    """
    key, _, tier = name.partition(".")
    metrics = all_metrics()
    if key not in metrics:
        raise UsageError(
            f'no metric "{key}"; objectives are {", ".join(objective_keys())}',
            hint=did_you_mean(key, metrics) or None,
        )
    metric = metrics[key]
    names = tuple(tiers)
    if metric.by_tier and tier not in names:
        problem = f'has no tier "{tier}"' if tier else "is by tier and needs one"
        raise UsageError(
            f'metric "{key}" {problem}; tiers are {", ".join(names)}',
            hint=f"for example {key}.{names[0]}" if names else None,
        )
    if tier and not metric.by_tier:
        raise UsageError(f'metric "{key}" has no tiers', hint=f"ask for {key}")
    return metric


def expression(name: str, tiers: Sequence[str]) -> tuple[Metric, pl.Expr]:
    """Return a metric and its expression by name; errors are those of `metric_named`."""
    metric = metric_named(name, tiers)
    return metric, metric.expression(Sums(tuple(tiers), name.partition(".")[2] or None))


@dataclass(frozen=True)
class Measured:
    """All metrics of K candidates."""

    #: K rows; scalar metrics under their key, by-tier ones under ``key.tier``. Doubles; counts are
    #: Int64.
    values: pl.DataFrame
    tiers: tuple[str, ...]
    #: K mappings from the column of a null value to the reason; key ``*`` for a row of nulls.
    reasons: tuple[dict[str, str], ...]
    #: Shape (K, T): the lowest score of each tier in hundredths of a point, NaN where unknown; None
    #: unless a rule sets the tiers' edges.
    edges: NDArray[np.float64] | None = None

    def spread(self, numbers: Sequence[int | None], lacking: Sequence[str]) -> Measured:
        """Return rows in another order, with rows of nulls in between.

        `numbers` holds the index here of each row of the result, or None for a row of nulls, for
        which `lacking` holds the reason at the same index.
        """
        import numpy as np
        import polars as pl

        rows = pl.Series(numbers, dtype=pl.UInt32)
        reasons = tuple(
            {"*": why} if number is None else self.reasons[number]
            for number, why in zip(numbers, lacking, strict=True)
        )
        # Of an empty frame not even a row of nulls could be gathered.
        values = self.values if self.values.height else self.values.clear(1)
        edges = None
        if self.edges is not None:
            edges = np.full((len(numbers), len(self.tiers)), np.nan)
            known = [(row, number) for row, number in enumerate(numbers) if number is not None]
            edges[[row for row, _ in known]] = self.edges[[number for _, number in known]]
        return Measured(values.select(pl.all().gather(rows)), self.tiers, reasons, edges)

    def row(self, index: int) -> dict[str, object]:
        """Return one candidate's metrics, by-tier ones as mappings from tier to value."""
        flat = self.values.row(index, named=True)
        return {
            key: {tier: flat[metric_column(key, tier)] for tier in self.tiers}
            if metric.by_tier
            else flat[key]
            for key, metric in all_metrics().items()
        }


@cache
def _expressions(tiers: tuple[str, ...], lacking: frozenset[str]) -> tuple[pl.Expr, ...]:
    """Return the expressions of all metrics; those `lacking` columns are null."""
    import polars as pl

    built = []
    for key, metric in all_metrics().items():
        for tier in tiers if metric.by_tier else (None,):
            value = (
                pl.lit(None, dtype=pl.Int64 if metric.count else pl.Float64)
                if key in lacking
                else metric.expression(Sums(tiers, tier))
            )
            built.append(value.alias(metric_column(key, tier)))
    return tuple(built)


def measure(frame: pl.DataFrame, tiers: Sequence[str], outcomes: OutcomeColumns) -> Measured:
    """Compute all metrics of K candidates in one query.

    Parameters
    ----------
    frame
        Sums of the engine, K rows.
    tiers
        The spec's tier names.
    outcomes
        The table's outcome columns; a metric without its columns is null, with that reason.

    Notes
    -----
    Cost: about three milliseconds for four tiers, and one more per thousand candidates.
    """
    names = tuple(tiers)
    reasons = {key: outcomes.missing_reason(m.needs) for key, m in all_metrics().items()}
    static = {key: reason for key, reason in reasons.items() if reason is not None}
    values = frame.select(_expressions(names, frozenset(static)))
    lows = [tier_sum(TIER_LOW, tier) for tier in names]
    edges = frame.select(lows).to_numpy().astype("float64") if lows[0] in frame.columns else None
    return Measured(values, names, _reasons(values, static), edges)


def measure_exact(
    known: Mapping[str, Sequence[int | Fraction]], tiers: Sequence[str], outcomes: OutcomeColumns
) -> dict[str, float | None]:
    """Compute all metrics but counts from the exact sums of one score.

    By-tier metrics are under ``key.tier``; one whose columns are missing is None. `known` comes
    from `equal_sizes.sums_at_sizes`.
    """
    names, values = tuple(tiers), {}
    for key, metric in all_metrics().items():
        if metric.count:
            continue
        lacking = outcomes.missing_reason(metric.needs) is not None
        for tier in names if metric.by_tier else (None,):
            value = None
            if not lacking:
                measured = metric.formula_of(Sums(names, tier, known))
                value = cast("Exact", measured).values[0]
            values[metric_column(key, tier)] = None if value is None else float(value)
    return values


def _reasons(values: pl.DataFrame, static: dict[str, str]) -> tuple[dict[str, str], ...]:
    """Return the reason of each null by row; rows with the same nulls share one mapping."""
    import polars as pl

    metrics = all_metrics()
    counts = dict(zip(values.columns, values.null_count().row(0), strict=True))
    holed = [name for name, count in counts.items() if count]
    # Only columns that are null in some rows need to be examined row by row.
    varying = [name for name in holed if counts[name] < values.height]
    worded: dict[tuple[bool, ...], dict[str, str]] = {}
    rows = []
    nulls_by_row = values.select(pl.col(varying).is_null()).rows() if varying else ()
    for nulls in nulls_by_row or ((),) * values.height:
        if nulls not in worded:
            known = {name for name, null in zip(varying, nulls, strict=True) if not null}
            worded[nulls] = {
                name: static.get(key := name.partition(".")[0], metrics[key].null_when)
                for name in holed
                if name not in known
            }
        rows.append(worded[nulls])
    return tuple(rows)
