"""Whether null searches tell the truth: p-values where chance is all, power where there is a gain.

Run it as ``python tests/benchmarks/nulls.py``. Tables of ten features whose outcomes, MRR included,
follow from one order of the accounts, and from chance. Where that is the start's own order, whether
it knows little or much, no gain over it is real; where it is another, one is. Then the same null
beside `decide` on the accounts held out, from the start's own order to quite another.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from scipy.stats import kstest

from gtmar import runs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.runs.plan import Plan
from gtmar.spec.model import ScoringSpec
from gtmar.validation.repeated_search import CHANCE, RepeatedSearch, gain_by_chance, value_by_chance

#: The start's weights, and others that order accounts quite differently.
START = (30, 20, 10, 5, 0, 0, 0, 0, 0, 0)
OTHER = (5, 5, 20, 30, 0, 10, 0, 0, 0, 0)
#: How much the order says of who stays, in log-odds per standard deviation: AUC .76, .55 and .5.
STRENGTHS = {"much": 1.05, "little": 0.18, "nothing": 0.0}
QUESTIONS = {"knows": "knows anything", "better": "better than the start"}
#: How much of what outcomes follow from the start has, by the share of another order.
SHARES = {0.0: "all", 0.5: "half", 1.0: "nothing"}
OBJECTIVES = ("auc_roc_retain", "revenue_capture_at_20", "nrr_at_20")


def accounts(n: int, strength: float, seed: int, *, other: float = 0.0) -> pl.DataFrame:
    """Make accounts whose outcomes follow from the start's order, or in part from another."""
    draw = np.random.default_rng([seed, n])
    x = draw.random((n, len(START)))
    # Two features that matter nothing go with two that do.
    x[:, 4:6] = 0.6 * x[:, :2] + 0.4 * x[:, 4:6]
    x = x.round(3)
    order = x @ ((1 - other) * np.array(START) + other * np.array(OTHER))
    known = strength * (order - order.mean()) / order.std()
    kept = draw.random(n) < 1 / (1 + np.exp(-(0.85 + known)))
    mrr = np.exp(5 + 0.35 * known + draw.normal(size=n)).round(2)
    mrr[draw.random(n) < 0.1] = 0
    change = np.exp(0.1 * known + 0.25 * draw.normal(size=n) * (draw.random(n) < 0.5))
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            **{f"x{i}": x[:, i] for i in range(len(START))},
            "retained_6mo": kept.astype(int),
            "mrr": mrr,
            "mrr_end": np.where(kept, (mrr * change).round(2), 0),
        }
    )


def spec_of(*, holdout: float = 0.0) -> ScoringSpec:
    """Return the spec of the start."""
    tiers = {"A": (60, 101), "B": (35, 60), "C": (15, 35), "D": (0, 15)}
    return ScoringSpec.model_validate(
        {
            "model": "nulls",
            "id": "account_id",
            "base": 10,
            "features": {
                f"x{i}": {"weight": w, "min": -40, "max": 40} for i, w in enumerate(START)
            },
            "tiers": {name: {"min": low, "max": high} for name, (low, high) in tiers.items()},
            "split": {"holdout": holdout},
        }
    )


@dataclass(frozen=True)
class Cell:
    """What is measured on each of its tables."""

    objective: str
    strength: float
    #: Share of another order in what outcomes follow from; 0 where the start's own is all.
    other: float
    n: int
    experiments: int
    searches: int


def p_values(cell: Cell, seed: int) -> dict[str, float]:
    """Search one table; return its `gain`, whose p is `better`, and the p of its value, `knows`.

    Where outcomes follow from the start's own order alone, nobody asks whether it knows anything.
    """
    spec, plan = spec_of(), Plan(proposer="random")
    judge = Judge.of(spec, cell.objective)
    search = RepeatedSearch(
        spec=spec,
        judge=judge,
        proposer=lambda: plan.make_proposer(spec, sign=judge.sign),
        limits=Limits(cell.experiments),
    )
    table = accounts(cell.n, cell.strength, seed, other=cell.other)
    matrix = load_accounts(scan(table), spec).search
    outcome = search.over(matrix)
    gain = outcome.gain(judge.sign) or 0.0
    found = {"gain": gain}
    if cell.other or not cell.strength:
        value = value_by_chance(
            search, matrix, outcome.value or 0.0, searches=cell.searches, seed=seed
        )
        found["knows"] = value.p_value
    by_chance = gain_by_chance(search, matrix, gain, searches=cell.searches, seed=seed)
    return found | {"better": by_chance.p_value}


def answers(cell: Cell, seed: int) -> tuple[bool, bool]:
    """Run one table; say whether its null search and its decision call it better."""
    table = accounts(cell.n, cell.strength, seed, other=cell.other)
    with tempfile.TemporaryDirectory() as journal:
        found = runs.run(
            table,
            spec_of(holdout=0.5),
            metric=cell.objective,
            limits=Limits(cell.experiments),
            proposer="random",
            journal=journal,
        )
        null = runs.null_search(
            found.run_id, data=table, journal=journal, searches=cell.searches, seed=seed
        )
        decided = runs.decide(found.run_id, data=table, journal=journal)
    gate = next(gate for gate in decided.gates if gate.name == "gain")
    return null.p_value <= CHANCE, gate.outcome == "passed"


def uniform(values: list[float], searches: int) -> float:
    """Return the p-value of Kolmogorov and Smirnov's test; steps of p are spread at random."""
    spread = np.random.default_rng(0).random(len(values)) / (1 + searches)
    return float(kstest(np.array(values) - spread, "uniform").pvalue)


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--searches", type=int, default=19)
    parser.add_argument("--n", type=int, default=30, help="experiments of a search")
    parser.add_argument("--accounts", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="seed of the first table")
    parser.add_argument("--start", choices=STRENGTHS, help="one of the starts alone")
    parser.add_argument("--only", choices=("p", "power", "decide"))
    a = parser.parse_args()
    os.environ |= {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with ProcessPoolExecutor(a.jobs) as pool:
        if a.only in (None, "p", "power"):
            print("| objective | the start knows | question | mean gain | p ≤ 0.05 | uniform: KS |")
            print("| --- | --- | --- | ---: | ---: | ---: |")
            words = [a.start] if a.start else list(STRENGTHS)
            cells = [(o, word, 0.0) for word in words for o in OBJECTIVES]
            cells += [(o, "much", 0.5) for o in OBJECTIVES] if not a.start else []
            if a.only == "power":
                cells = [(o, "much", 1.0) for o in OBJECTIVES]
            for objective, word, other in cells:
                cell = Cell(objective, STRENGTHS[word], other, a.accounts, a.n, a.searches)
                # Power is told by fewer.
                tables = range(a.first, a.first + (a.tables // 4 if other else a.tables))
                found = list(pool.map(partial(p_values, cell), tables))
                gain = np.mean([p["gain"] for p in found])
                for question in [name for name in ("knows", "better") if name in found[0]]:
                    p = [each[question] for each in found]
                    # What is real isn't uniform: of that the share below 0.05 is the power.
                    ks = "real" if other else f"{uniform(p, a.searches):.2f}"
                    proven = np.mean(np.array(p) <= CHANCE)
                    print(
                        f"| {objective} | {word}, {SHARES[other]} there is "
                        f"| {QUESTIONS[question]} | {gain:+.4f} | {proven:.1%} | {ks} |",
                        flush=True,
                    )
        if a.only in (None, "decide"):
            print("| another order's share | null: better | decide: better | differ | by chance |")
            print("| --- | ---: | ---: | ---: | ---: |")
            for other in (0.0, 0.2, 0.35, 0.5):
                cell = Cell(OBJECTIVES[0], STRENGTHS["much"], other, 3_000, 60, a.searches)
                pairs = np.array(list(pool.map(partial(answers, cell), range(a.tables // 4))))
                null, decided = pairs.mean(axis=0)
                differ = (pairs[:, 0] != pairs[:, 1]).mean()
                # As often as two that know nothing of each other, each right as often as it is.
                chance = null * (1 - decided) + decided * (1 - null)
                print(
                    f"| {other:.0%} | {null:.0%} | {decided:.0%} | {differ:.0%} | {chance:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
