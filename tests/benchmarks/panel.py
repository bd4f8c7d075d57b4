"""Intervals of panels: how often they cover the truth, and how much more several dates can prove.

Run it as ``python tests/benchmarks/panel.py``. Each panel has 300 accounts on eight dates. An
account has a level of its own in each feature, in whether it leaves and in its MRR, and moves about
it from date to date; so its rows go together. Intervals that draw whole accounts are held beside
those of rows taken for accounts of their own. The truth is that of a panel of 200,000 accounts.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.runs.plan import Plan
from gtmar.spec.model import ScoringSpec
from gtmar.validation.intervals import panel_of, uncertainty
from gtmar.validation.repeated_search import RepeatedSearch, gain_by_chance, value_by_chance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.stats.interval import Interval
    from gtmar.validation.intervals import Uncertainty
    from gtmar.validation.paired_scores import Panel

ACCOUNTS, DATES = 300, 8
DAYS = tuple(date(2024 + month // 12, month % 12 + 1, 1) for month in range(0, 24, 3))
AT = f"{DAYS[0]}..{DAYS[-1]}"
#: Of each feature, and of leaving: what share of its variance is the account's own on all dates.
OWN = 0.7
START, OTHER = (30, 10, 10, 0), (15, 25, 25, 5)
METRICS = (
    "auc_roc_retain",
    "nrr_by_tier",
    "logo_retention_by_tier",
    "share_by_tier",
    "revenue_capture_at_20",
    "nrr_at_20",
    "revenue_concentration_hhi",
)
#: What is asked: metric and part.
ASKED = (
    ("auc_roc_retain", "before"),
    ("auc_roc_retain", "gain"),
    ("nrr_by_tier.*", "before"),
    ("nrr_by_tier.A", "before"),
    ("nrr_by_tier.A", "gain"),
    ("logo_retention_by_tier.*", "before"),
    ("logo_retention_by_tier.D", "before"),
    ("logo_retention_by_tier.A", "before"),
    ("logo_retention_by_tier.A", "gain"),
    ("share_by_tier.A", "before"),
    ("revenue_capture_at_20", "before"),
    ("revenue_capture_at_20", "gain"),
    ("nrr_at_20", "before"),
    ("nrr_at_20", "gain"),
    ("revenue_concentration_hhi", "before"),
    ("revenue_concentration_hhi", "gain"),
)


def spec() -> ScoringSpec:
    """Return the scoring model: four features between 0 and 1, tiers at fixed edges."""
    features = {
        f"x{i}": {"weight": weight, "min": -50, "max": 50} for i, weight in enumerate(START)
    }
    edges = (("A", 32, 101), ("B", 25, 32), ("C", 18, 25), ("D", 0, 18))
    return ScoringSpec.model_validate(
        {
            "model": "panel",
            "max_score": 100,
            "id": "account_id",
            "split": {"holdout": 0},
            "features": features,
            "tiers": {name: {"min": low, "max": high} for name, low, high in edges},
        }
    )


def accounts(
    n: int,
    seed: int,
    *,
    dates: int = DATES,
    by: tuple[int, ...] = (10, 16, 16, 0),
    strength: float = 1.0,
) -> pl.DataFrame:
    """Make a panel: N accounts on so many dates, the first one included.

    Who stays follows from the features weighted as `by`, the more the larger `strength` is.
    """
    draw = np.random.default_rng([seed, n])

    def moving(*shape: int) -> np.ndarray:
        """Draw normals of variance 1, of which `OWN` is the account's own; shape (N, D, ...)."""
        own, each = draw.normal(size=(n, 1, *shape)), draw.normal(size=(n, DATES, *shape))
        return np.asarray(OWN**0.5 * own + (1 - OWN) ** 0.5 * each)

    x = np.round(1 / (1 + np.exp(-1.5 * moving(4))), 3)
    known = strength * 0.16 * (x @ np.array(by) - sum(by) / 2)
    kept = 1.2 + known + 1.2 * moving() > draw.logistic(size=(n, DATES))
    mrr = np.exp(5 + 0.8 * draw.normal(size=(n, 1)) + 0.15 * moving() + 0.2 * known).round(2)
    change = np.exp(0.05 * known + 0.2 * moving())
    there = np.arange(DATES) < dates
    rows = {
        "account_id": np.repeat([f"a{i:06}" for i in range(n)], dates),
        "features_asof": np.tile(np.array(DAYS[:dates], dtype="datetime64[D]"), n),
        **{f"x{i}": x[:, there, i].reshape(-1) for i in range(4)},
        "retained_6mo": kept[:, there].astype(int).reshape(-1),
        "mrr": mrr[:, there].reshape(-1),
        "mrr_end": (mrr * change * kept).round(2)[:, there].reshape(-1),
    }
    return pl.DataFrame(rows)


def paired(n: int, seed: int, *, dates: int = DATES) -> Panel:
    """Score a panel by both weight vectors."""
    table = scan(accounts(n, seed, dates=dates), at=AT)
    return panel_of(load_accounts(table, spec()).search, spec(), START, OTHER)


def paired_at_once(n: int, seeds: Sequence[int]) -> list[Panel]:
    """Score a panel of each seed as `paired` does; all are read as one table, which costs less."""
    own = spec().model_copy(update={"segments": ("panel",)})
    whose = [pl.lit(f"{seed:06}").alias("panel") for seed in seeds]
    tables = [
        accounts(n, seed).with_columns(each, account_id=each + pl.col("account_id"))
        for seed, each in zip(seeds, whose, strict=True)
    ]
    matrix = load_accounts(scan(pl.concat(tables), at=AT), own).search
    [panels] = matrix.segments
    parts = {name: matrix.take(panels.rows(at)) for at, name in enumerate(panels.values)}
    return [panel_of(parts[f"{seed:06}"], own, START, OTHER) for seed in seeds]


def asked(found: Uncertainty) -> dict[tuple[str, str], Interval]:
    """Return the intervals that are asked."""
    return {(name, part): getattr(found, part)[name] for name, part in ASKED}


def simulated(
    seed: int, *, n: int = ACCOUNTS, replicates: int = 200
) -> list[list[tuple[float, float] | None]]:
    """Return the ends of all intervals of one panel: of whole accounts, and of rows alone."""
    return both_ways(paired(n, seed), seed, replicates=replicates)


def both_ways(
    panel: Panel, seed: int, *, replicates: int
) -> list[list[tuple[float, float] | None]]:
    """Return the ends of all intervals: of whole accounts, and of rows taken for accounts."""
    # Of so many rows the interval without drawing is as good, were they accounts.
    both = ((panel, replicates), (replace(panel, account_of=None), 0))
    return [
        [
            None if i.low is None or i.high is None else (i.low, i.high)
            for i in asked(uncertainty(each, seed=seed, replicates=draws, metrics=METRICS)).values()
        ]
        for each, draws in both
    ]


def truth(n: int) -> list[float]:
    """Return the values on a panel of so many accounts."""
    found = uncertainty(replace(paired(n, 999_999), account_of=None), replicates=0, metrics=METRICS)
    return [float(i.value or 0.0) for i in asked(found).values()]


def smallest(seed: int, *, n: int, dates: int) -> float:
    """Return the standard error of the gain of AUC on so many dates of one panel."""
    gain = uncertainty(paired(n, seed, dates=dates), replicates=0, metrics=["auc_roc_retain"]).gain
    found = gain["auc_roc_retain"]
    assert found.low is not None
    assert found.high is not None
    return (found.high - found.low) / 2 / 1.959964


def null_p(
    seed: int,
    *,
    n: int = ACCOUNTS,
    by_rows: bool = False,
    searches: int = 19,
    experiments: int = 40,
) -> tuple[float, float]:
    """Return both p-values of a null search on a panel of which the start knows all there is.

    The first asks whether the score knows anything, of outcomes that nothing tells; the second
    whether it is better than its start, of outcomes that follow from the start alone. With
    `by_rows` rows change hands as if each were an account.
    """
    own = spec()
    judge, found = Judge.of(own, None), []
    for question, strength in ((value_by_chance, 0.0), (gain_by_chance, 1.0)):
        table = scan(accounts(n, seed, by=START, strength=strength), at=AT)
        matrix = load_accounts(table, own).search
        if by_rows:
            matrix = replace(matrix, account_of=None, date_of=None, dates=())
        plan = Plan(seed=seed, limits=Limits(experiments))
        proposer = partial(plan.make_proposer, own, sign=1)
        search = RepeatedSearch(own, judge, proposer, plan.limits)
        best = search.over(matrix)
        value = best.value if question is value_by_chance else best.gain(1)
        chance = question(search, matrix, value or 0.0, searches=searches, seed=seed)
        found.append(chance.p_value)
    return found[0], found[1]


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--panels", type=int, default=1_000)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--truth", type=int, default=200_000)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    true = truth(given.truth)
    # Spawned, not forked: a fork would inherit locks that Polars' threads hold.
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        one = partial(simulated, n=given.accounts, replicates=given.replicates)
        panels = list(pool.map(one, range(given.panels), chunksize=5))
        errors = {
            dates: np.array(
                list(
                    pool.map(
                        partial(smallest, n=given.accounts, dates=dates),
                        range(min(given.panels, 200)),
                        chunksize=5,
                    )
                )
            )
            for dates in (1, 2, 4, 8)
        }
    first = f"{given.accounts:,} accounts, {DATES} dates"
    print(f"| {first} | part | truth | accounts drawn | rows taken for accounts |")
    print("| --- | --- | ---: | ---: | ---: |")
    for place, (name, part) in enumerate(ASKED):
        covered = []
        for way in (0, 1):
            ends = [ends for each in panels if (ends := each[way][place]) is not None]
            inside = sum(low <= true[place] <= high for low, high in ends)
            covered.append(f"{inside / max(1, len(ends)):.1%} of {len(ends):,}")
        print(f"| {name} | {part} | {true[place]:.4f} | {covered[0]} | {covered[1]} |")
    print()
    print("| dates | gain of AUC proven four times in five | of that with one date |")
    print("| ---: | ---: | ---: |")
    one_date = np.median(errors[1])
    for dates, each in errors.items():
        gain = (1.959964 + 0.841621) * np.median(each)
        print(f"| {dates} | {gain:.4f} | {np.median(each) / one_date:.0%} |")


if __name__ == "__main__":
    main()
