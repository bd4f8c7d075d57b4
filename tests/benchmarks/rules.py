"""Does `gtmar init --rules` find a planted rule, and none where there is none?

Run it as ``python tests/benchmarks/rules.py``. Tables are drawn of 300 to 5,000 accounts with 5, 20
or 60 features of mixed kinds: normal, skewed, counts with many zeros, flags, categories of uneven
size, correlated ones, and up to 40 % unknown. In *noise* tables no feature matters, in *additive*
ones a third of them do, by lines, steps and bends, each by itself. In *planted* tables of 5,000
accounts and 20 features there is a rule of two conditions, too; without it no sum of points comes
nearer to the truth than 0.02 in AUC.
Counted are tables with any rule, and planted ones whose first rule has the two columns, each cut
within a tenth of the accounts of the planted threshold. `--small` draws noise and additive tables
of up to 1,000 accounts and 20 features alone: half a second each, so that hundreds can be drawn.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.autospec.first_spec import first_spec
from gtmar.autospec.leakage import area
from gtmar.data.scan import scan
from gtmar.spec.encoders import TableEncoder
from gtmar.spec.rule import Rule
from gtmar.stats.interval import wilson
from gtmar.stats.logistic import fit_logistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

SIZES, FEATURES = (300, 1_000, 2_000, 5_000), (5, 20, 60)
WORTH = 0.02


@dataclass(frozen=True)
class Drawn:
    """A table, and the rule planted in it: its columns, and each one's threshold as a share."""

    table: pl.DataFrame
    planted: dict[str, float]


def column(rng: np.random.Generator, kind: int, accounts: int, before: Doubles) -> NDArray[Any]:
    """Draw a column of one of eight kinds, shape (N,)."""
    normal = rng.normal(size=accounts)
    match kind:
        case 0:
            return normal
        case 1:
            return np.exp(1.5 * normal)
        case 2:
            return rng.poisson(rng.gamma(0.4, 5, accounts))
        case 3:
            return rng.random(accounts) < rng.uniform(0.05, 0.95)
        case 4:
            sizes = rng.dirichlet(np.full(rng.integers(2, 13), 0.7))
            names = np.array([f"kind {number}" for number in range(len(sizes))])
            return names[rng.choice(len(sizes), accounts, p=sizes)]
        case 5:
            return np.round(before + 0.5 * normal, 2)
        case 6:
            return rng.integers(1, rng.integers(3, 10), accounts)
        case _:
            return np.exp(0.7 * before) * rng.exponential(size=accounts)


def effect(rng: np.random.Generator, values: NDArray[Any]) -> Doubles:
    """Return what a column does to the log-odds by itself: a line, a step, a bend, a level each."""
    if values.dtype.kind == "U":
        names, codes = np.unique(values, return_inverse=True)
        return np.asarray(rng.normal(0, 0.8, len(names))[codes])
    place = np.searchsorted(np.sort(values), values) / len(values)
    shape = rng.integers(3)
    drawn = [2 * place, 1.5 * (place > rng.random()), 6 * (place - rng.random()) ** 2][shape]
    return np.asarray(rng.choice([-1, 1]) * (drawn - drawn.mean()), dtype=np.float64)


def draw(seed: int, kind: str, *, small: bool = False) -> Drawn:
    """Draw a table."""
    rng = np.random.default_rng([seed, len(kind)])
    sizes, widths = (SIZES[:2], FEATURES[:2]) if small else (SIZES, FEATURES)
    accounts, features = rng.choice(sizes), rng.choice(widths)
    if kind == "planted":
        accounts, features = 5_000, 20
    columns: dict[str, NDArray[Any]] = {}
    before = rng.normal(size=accounts)
    for number in range(features):
        columns[f"x{number}"] = column(rng, int(rng.integers(8)), accounts, before)
    acting = rng.permutation(features)[: 0 if kind == "noise" else max(2, features // 3)]
    logit = sum((effect(rng, columns[f"x{at}"]) for at in acting), np.zeros(accounts))
    logit += np.log(share := rng.uniform(0.15, 0.85)) - np.log(1 - share)
    planted = {}
    if kind == "planted":
        numbers = [n for n, v in columns.items() if v.dtype.kind in "fi" and len(np.unique(v)) > 20]
        holds, places = np.ones(accounts, dtype=bool), []
        for name in rng.permutation(numbers)[:2].tolist():
            place = np.searchsorted(np.sort(columns[name]), columns[name]) / accounts
            # Where nearly all have one value, another threshold is the nearest that parts them.
            cut = float(np.min(place[place >= rng.uniform(0.3, 0.7)], initial=1.0))
            holds &= (place < cut) if rng.random() < 0.5 else (place >= cut)
            planted[name] = cut
            places.append(place)
        logit = with_worth(rng, logit, places, holds)
    y = rng.random(accounts) < 1 / (1 + np.exp(-logit))
    table = pl.DataFrame({"account_id": np.arange(accounts), **columns, "retained_6mo": y * 1})
    for name in columns:
        if name not in planted and rng.random() < 0.3:
            gone = rng.random(accounts) < rng.uniform(0.02, 0.4)
            table = table.with_columns(pl.when(pl.Series(~gone)).then(pl.col(name)).alias(name))
    return Drawn(table, planted)


def with_worth(
    rng: np.random.Generator, logit: Doubles, places: list[Doubles], holds: NDArray[np.bool_]
) -> Doubles:
    """Add as much where a rule holds as makes it worth `WORTH`, or the most.

    Its worth is the AUC of the truth less that of the best sum of what each column says: the rest
    of the truth, and a level for each twentieth of the rule's two columns.
    """
    levels = [np.eye(20)[np.minimum((place * 20).astype(int), 19)] for place in places]
    predictors = np.concatenate([logit[:, None], *levels], axis=1)
    sign, uniform = rng.choice([-1, 1]), rng.random(len(logit))
    low, high = 0.0, 5.0
    for _ in range(8):
        size = (low + high) / 2
        full = logit + sign * size * holds
        chance = 1 / (1 + np.exp(-full))
        fit = fit_logistic(partial(zip, [predictors], [chance]), np.eye(predictors.shape[1]) / 10)
        y = uniform < chance
        worth = area(full, y) - area(predictors @ fit.coefficients, y)
        low, high = (size, high) if worth < WORTH else (low, size)
    return np.asarray(logit + sign * high * holds)


def found_in(drawn: Drawn, *, rules: int = 1) -> list[Rule | TableEncoder]:
    """Return the rules and tables that a first spec has."""
    spec = first_spec(scan(drawn.table), rules=rules, keep=drawn.table.columns[1:-1]).spec
    asked = (each.parsed_rule or each.encode for each in spec.features.values())
    return [each for each in asked if isinstance(each, Rule | TableEncoder)]


def is_planted(rule: Rule | TableEncoder, drawn: Drawn) -> tuple[bool, bool]:
    """Whether a rule has the planted columns, and its cuts are within a tenth of the accounts.

    A table may cut a column more than once: then one of its cuts has to be.
    """
    if {*rule.columns} != {*drawn.planted}:
        return False, False
    enough = any if isinstance(rule, TableEncoder) else all
    return True, all(
        cuts and enough(cuts)
        for column, share in drawn.planted.items()
        for cuts in [
            [
                abs((drawn.table[column].to_numpy() < c.number).mean() - share) <= 0.1
                for c in rule.conditions
                if c.column == column and c.number is not None
            ]
        ]
    )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=100, help="noise tables, and additive ones")
    parser.add_argument("--planted", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    print(
        "| tables | of them | with a rule | 95 % interval | its two columns | and both thresholds "
        "| as a table |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("noise", "additive") if arguments.small else ("noise", "additive", "planted"):
        count = arguments.planted if kind == "planted" else arguments.tables
        some, columns, cuts, tables = 0, 0, 0, 0
        for seed in range(arguments.first, arguments.first + count):
            drawn = draw(seed, kind, small=arguments.small)
            for rule in found_in(drawn):
                some += 1
                right, near = is_planted(rule, drawn)
                columns, cuts = columns + right, cuts + near
                tables += right and isinstance(rule, TableEncoder)
        low, high = wilson(some, count) or (0, 1)
        told = f"{columns} | {cuts} | {tables}" if kind == "planted" else "| |"
        print(f"| {kind} | {count} | {some} | {low:.1%} to {high:.1%} | {told} |", flush=True)


if __name__ == "__main__":
    main()
