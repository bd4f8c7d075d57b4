"""Whether null searches tell the truth: p-values where chance is all, power where there is a gain.

Run it as ``python tests/benchmarks/nulls.py``. Tables of ten features whose outcomes, MRR included,
follow from one order of the accounts, and from chance. Where that is the start's own order, whether
it knows little or much, no gain over it is real; where it is another, one is. Then the same null
beside `decide` on the accounts held out, from the start's own order to quite another. First specs
of tables of noise: how many numbers get a curve, how many weights hold, what p says. And the same
with a rule or a table forced in, which chance made: whether it holds where it stays as it was found
and where it is found anew in each draw.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy.stats import kstest

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.autospec.refit_encoders import EncoderRefit, columns_of
from gtmar.data.matrix import load_accounts
from gtmar.data.outcomes import Movement
from gtmar.data.scan import scan
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.runs.plan import Plan
from gtmar.spec.ids import fitted_features
from gtmar.spec.model import Feature, ScoringSpec
from gtmar.stats.interval import wilson
from gtmar.validation.repeated_search import (
    CHANCE,
    RepeatedSearch,
    WeightStability,
    gain_by_chance,
    read_weights,
    searched_again,
    value_by_chance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.data.scan import AccountTable

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


def noise(
    n: int, seed: int, *, signal: float = 0.0, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """Make accounts of which nothing says who stays, or as much as `signal` says of x0 and g0.

    `columns` are those that the table has of eight; None for all.
    """
    draw = np.random.default_rng([seed, 7])
    drawn: dict[str, np.ndarray] = {f"x{i}": draw.random(n).round(3) for i in range(4)}
    drawn |= {f"g{i}": draw.gamma(1, 10, n).round() for i in range(2)}
    drawn |= {"flag": draw.random(n) < 0.4, "kind": draw.choice(list("abcdef"), n)}
    known = signal * ((drawn["x0"] - 0.5) * 4 + np.minimum(drawn["g0"], 10) / 2.5)
    kept = draw.random(n) < 1 / (1 + np.exp(-(0.8 + known - known.mean())))
    ids = [f"a{i}" for i in range(n)]
    features = drawn if columns is None else {name: drawn[name] for name in columns}
    return pl.DataFrame({"account_id": ids, **features, "retained_6mo": kept.astype(int)})


@dataclass(frozen=True)
class OnNoise:
    """What is said of a first spec."""

    names: tuple[str, ...]
    #: Whether stability says that the weight holds, of each; whether a number has a curve, of each.
    holds: tuple[bool, ...]
    curves: tuple[bool, ...]
    #: Of whether the score knows anything.
    p_value: float


#: What is forced into a first spec: a table of 16 cells, cut without a look at outcomes, or a rule.
FORCED: dict[str, dict[str, Any]] = {
    "table": {
        "encode": {
            "kind": "table",
            "down": [f"x0 < {cut}" for cut in (0.25, 0.5, 0.75)],
            "across": [f"g0 < {cut}" for cut in (3, 7, 14)],
            "values": [[0, 0, 0, 0]] * 4,
        }
    },
    "rule": {"rule": "x0 < 0.5 and g0 < 7"},
}


def with_forced(table: AccountTable, spec: ScoringSpec, kind: str) -> ScoringSpec:
    """Add a table or a rule, its cells or its thresholds fitted to the table's accounts.

    A rule's two columns are stated, or of those that are numbers the two whose rule goes furthest:
    `chosen`.
    """

    def forced(feature: dict[str, Any]) -> ScoringSpec:
        limits = {"weight": 10, "min": -30, "max": 30}
        own = Feature.model_validate({**feature, **limits})
        wider = spec.model_copy(update={"features": {**spec.features, "forced": own}})
        names = (*fitted_features(spec), "forced")
        loaded = load_accounts(table, wider, coded=columns_of(wider, names))
        return EncoderRefit.of(loaded.table, wider, names).fitted(loaded.search)

    if kind != "chosen":
        return forced(FORCED[kind])

    def distance(made: ScoringSpec) -> float:
        holds = load_accounts(table, made).search
        kept = np.arange(holds.accounts) >= holds.offsets[Movement.KEPT_REVENUE_LOST]
        return abs(float(np.corrcoef(holds.columns[-1], kept)[0, 1]))

    numbers = [name for name in spec.features if name[0] in "xg"]
    rules = ({"rule": f"{a} < 0.5 and {b} < 0.5"} for a, b in combinations(numbers, 2))
    return max(map(forced, rules), key=distance)


def first_spec_on_noise(
    n: int,
    seed: int,
    *,
    experiments: int,
    searches: int,
    nulls: int = 0,
    signal: float = 0.0,
    forced: str | None = None,
    anew: bool = True,
    columns: Sequence[str] | None = None,
) -> OnNoise:
    """Make a first spec of a table, search it, and ask stability and a null search.

    What is `forced` in is found `anew` in each draw, or stays. With no `searches` nobody asks
    stability, and no weight is said to hold.
    """
    table = scan(noise(n, seed, signal=signal, columns=columns))
    spec = first_spec(table, holdout=0.0).spec
    names = fitted_features(spec)
    if forced is not None:
        spec = with_forced(table, spec, forced)
        names = (*names, "forced") if anew else names
    judge, plan = Judge.of(spec), Plan(proposer="random")
    search = RepeatedSearch(
        spec, judge, lambda: plan.make_proposer(spec, sign=judge.sign), Limits(experiments)
    )
    loaded = load_accounts(table, spec, coded=columns_of(spec, names))
    again = replace(search, refit=EncoderRefit.of(loaded.table, spec, names))
    found = search.over(again.encoded(loaded.search, spec))
    weights: tuple[WeightStability, ...] = ()
    if searches:
        drawn = searched_again(again, loaded.search, searches=searches, seed=seed)
        weights = read_weights(spec, found.weights, drawn)
    p_value = 1.0
    if nulls:
        value = found.value or 0.0
        p_value = value_by_chance(again, loaded.search, value, searches=nulls, seed=seed).p_value
    kinds = [feature.encode.kind for feature in spec.features.values()]
    return OnNoise(
        tuple(weight.name for weight in weights),
        tuple(weight.reading == "holds" for weight in weights),
        tuple(kind == "curve" for kind in kinds if kind in ("curve", "range")),
        p_value,
    )


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
    parser.add_argument("--only", choices=("p", "power", "decide", "init", "forced"))
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
        if a.only in (None, "init"):
            print("| tables | numbers with a curve | weights that hold | p ≤ 0.05 | uniform: KS |")
            print("| ---: | ---: | ---: | ---: | ---: |")
            ask = partial(
                first_spec_on_noise, a.accounts, experiments=a.n, searches=40, nulls=a.searches
            )
            specs = list(pool.map(ask, range(a.first, a.first + a.tables)))
            curves, holds = (
                [one for each in specs for one in getattr(each, name)]
                for name in ("curves", "holds")
            )
            p = [each.p_value for each in specs]
            print(
                f"| {len(specs)} | {sum(curves)} of {len(curves)} | {sum(holds)} of {len(holds)} "
                f"| {np.mean(np.array(p) <= CHANCE):.1%} | {uniform(p, a.searches):.2f} |"
            )
        if a.only in (None, "forced"):
            print("| forced in | in each draw | it holds | 95 % interval | others that hold |")
            print("| --- | --- | ---: | ---: | ---: |")
            for kind, anew in product(("table", "rule", "chosen"), (False, True)):
                ask = partial(
                    first_spec_on_noise, a.accounts, experiments=a.n, searches=40, forced=kind
                )
                some = range(a.first, a.first + a.tables)
                specs = list(pool.map(partial(ask, anew=anew), some))
                hold = sum(each.holds[-1] for each in specs)
                low, high = wilson(hold, len(specs)) or (0, 1)
                others = [one for each in specs for one in each.holds[:-1]]
                print(
                    f"| {kind} | {'found anew' if anew else 'as it was'} | {hold} of {len(specs)} "
                    f"| {low:.1%} to {high:.1%} | {sum(others)} of {len(others)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
