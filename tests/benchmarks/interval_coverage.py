"""How often a 95 % interval covers the truth: in 93 to 97 % of simulated tables, or it is no good.

Run it as ``python tests/benchmarks/interval_coverage.py``. Each table is a `health_score` table of
another seed; scored by the example's guess, by its best spec, and the gain of one over the other.
The truth is the value on a million accounts of a seed that no table has. "top tier" is tier A.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from gtmar import spec as specs
from gtmar.data import synthetic
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.validation.intervals import Uncertainty, panel_of, uncertainty

if TYPE_CHECKING:
    from gtmar.spec import ScoringSpec
    from gtmar.stats.interval import Interval

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "tests" / "golden" / "fixed_edges.yaml"
BEST = ROOT / "examples" / "health_score" / "best.yaml"
METRICS = (
    "auc_roc_retain",
    "nrr_by_tier",
    "logo_retention_by_tier",
    "revenue_capture_at_20",
    "nrr_at_20",
    "revenue_concentration_hhi",
)
COLUMNS = (
    "auc_roc_retain",
    "nrr_by_tier.*",
    "nrr_by_tier.A",
    "logo_retention_by_tier.*",
    "logo_retention_by_tier.A",
    "revenue_capture_at_20",
    "nrr_at_20",
    "revenue_concentration_hhi",
)
PARTS = ("before", "after", "gain")
_TRUTH_SEED, _FIRST_SEED = 999_999, 1_000_000


@cache
def scores() -> tuple[ScoringSpec, ScoringSpec]:
    """Return the guess, whose tables have no holdout, and the best spec."""
    spec, best = map(specs.load, (SPEC, BEST))
    whole = spec.split.model_copy(update={"holdout": 0.0})
    return spec.model_copy(update={"split": whole}), best


def measured(accounts: int, seed: int, *, replicates: int) -> Uncertainty:
    """Return the intervals of one simulated table."""
    spec, best = scores()
    table = synthetic.generate("health_score", accounts=accounts, seed=seed)
    matrix = load_accounts(scan(table), spec).search
    old, new = ([s.weights[t.name] for t in spec.terms] for s in (spec, best))
    panel = panel_of(matrix, spec, old, new)
    return uncertainty(panel, seed=seed, replicates=replicates, metrics=METRICS)


def rows(found: Uncertainty) -> dict[tuple[str, str], Interval]:
    """Return intervals by metric and part."""
    return {
        (name, part): getattr(found, part)[name]
        for name in COLUMNS
        for part in PARTS
        if name in getattr(found, part)
    }


def simulated(seed: int, *, accounts: int) -> dict[tuple[str, str], tuple[float, float] | None]:
    """Return the ends of every interval of one table, None where it has none."""
    return {
        key: None if i.low is None or i.high is None else (i.low, i.high)
        for key, i in rows(measured(accounts, seed, replicates=1_000)).items()
    }


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--accounts", type=int, default=3_000)
    parser.add_argument("--truth", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    truth = {
        key: interval.value
        for key, interval in rows(measured(arguments.truth, _TRUTH_SEED, replicates=0)).items()
    }
    one = partial(simulated, accounts=arguments.accounts)
    seeds = range(_FIRST_SEED, _FIRST_SEED + arguments.tables)
    # Spawned, not forked: a fork would inherit locks that Polars' threads hold.
    spawned = get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=spawned) as pool:
        tables = list(pool.map(one, seeds, chunksize=10))
    print(f"| metric, {arguments.accounts:,} accounts | score | truth | intervals | covered |")
    print("| --- | --- | ---: | ---: | ---: |")
    for (name, part), value in truth.items():
        ends = [found for table in tables if (found := table[name, part]) is not None]
        assert value is not None
        covered = sum(low <= value <= high for low, high in ends) / max(1, len(ends))
        print(f"| {name} | {part} | {value:.4f} | {len(ends):,} | {covered:.1%} |")


if __name__ == "__main__":
    main()
