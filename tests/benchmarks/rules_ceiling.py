"""How much could three readable rules bring at most, and how much could boosting of fewer columns?

Run it with a table: ``python tests/benchmarks/rules_ceiling.py FOLDER/iranian_churn.parquet``. Its
splits are others than those of ``logistic.py``. Everything is an AUC on the holdout, the rules' by
logistic regression over the encoders, fitted anew beside them, and the rules themselves:

- *init*: the rules that `init --rules 3` finds.
- *three* to *six*: so many rules of three conditions, each the one of highest likelihood on the
  accounts searched, chosen among all corners of all three columns and asked for no proof.
- *peeked*: three rules, each the one of four hundred promising ones that raises the AUC on the
  holdout itself most. Nobody can choose so; it says what is there to be chosen.
- *jointly*: three rules of two or three conditions, each chosen again beside the others until none
  changes, encoders fitted anew beside every set that is looked at; and no proof.
- *whole*: three rules chosen so with the whole table in sight, the same three on every split.
  Nobody can choose these either.
- boosting that lets no columns meet, or pairs alone, or as many as fit in 4 and 8 leaves; all.
- the share of holdout rows that stand among the rows searched, too, and boosting without them.

Only numbers and flags are looked at, so it is for tables that have nothing else.
"""

from __future__ import annotations

import argparse
import math
import sys
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from benchmarks.logistic import ID, LABEL, held_out, over_terms, split_anew
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from gtmar.autospec.find_rules import FoundRule
from gtmar.autospec.first_spec import first_spec
from gtmar.data.encode import encoded_terms
from gtmar.data.scan import scan
from gtmar.spec.rule import Condition, Rule
from gtmar.stats.interplay import Predicted
from gtmar.stats.logistic import fit_logistic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    #: A rule: columns, and a side of each.
    Sides = tuple[tuple[int, int], ...]

#: As `init` has them: what slopes of features and rules are drawn to nothing by, cuts of a column,
#: and how many accounts a rule holds for at least.
RIDGE, RULE_RIDGE, PARTS, LEAST = 0.1, 2.0, 10, 20
#: Corners of three columns, and rules that are looked at.
EACH, MOST = 8, 1_500
PEEKED = 400
#: Of a joint search: how often a rule is chosen, among how many beside encoders fitted anew, and
#: how much a change must gain.
SWAPS, NEAR, LITTLE = 12, 4, 0.01


class Corners:
    """All rules of three conditions over a table's columns, and what a sum of points misses."""

    def __init__(self, frame: pl.DataFrame, terms: Doubles, y: Doubles, held: Flags) -> None:
        self.terms, self.y, self.held = terms, y, held
        #: By column: conditions, which levels keep each, shape (S, L), and who has which level.
        self.columns = []
        for name in frame.columns:
            x = frame[name].cast(pl.Float64).to_numpy()
            cuts = np.unique(np.quantile(x[~held], np.arange(1, PARTS) / PARTS))
            cuts = cuts[cuts > x[~held].min()]
            if len(cuts) == 0:
                cuts = np.array([x[~held].max()])
            conditions = [Condition(name, sign, float(cut)) for cut in cuts for sign in ("<", ">=")]
            below = np.arange(len(cuts) + 1) <= np.arange(len(cuts))[:, None]
            keep = np.stack([below, ~below], axis=1).reshape(-1, len(cuts) + 1).astype(float)
            self.columns.append((conditions, keep, np.searchsorted(cuts, x, side="right")))

    def rule(self, sides: Sides) -> Rule:
        return Rule(tuple(self.columns[column][0][side] for column, side in sides))

    def holds(self, rules: Sequence[Sides]) -> Doubles:
        """Return for whom each rule holds, shape (K, N)."""
        keep = [{c: self.columns[c][1][s][self.columns[c][2]] for c, s in own} for own in rules]
        return np.array([np.prod([*own.values()], axis=0) for own in keep])

    def model(self, before: Sequence[Sides], terms: Doubles) -> tuple[Predicted, Doubles]:
        """Fit features and rules before to the accounts searched; return all accounts' log-odds."""
        table = np.column_stack([terms, *self.holds(before)])
        penalty = np.repeat([RIDGE, RULE_RIDGE], [terms.shape[1], len(before)])
        seen, y = table[~self.held], self.y[~self.held]
        fit = fit_logistic(lambda: [(seen, y)], np.diag(penalty))
        logit = fit.solution[0] + table @ fit.solution[1:]
        constant = np.column_stack([np.ones(len(seen)), seen])
        chance = 1 / (1 + np.exp(-logit[~self.held]))
        return Predicted(constant, np.append(0, penalty), chance, y), logit

    def best(self, model: Predicted, sizes: Sequence[int] = (3,)) -> list[Sides]:
        """Return the rules that promise most, the best first."""
        rows = model.outcome - model.chance, model.information, np.ones_like(model.chance)
        found: list[tuple[float, Sides]] = []
        for some in (
            some for size in sizes for some in combinations(range(len(self.columns)), size)
        ):
            keeps = [self.columns[column][1] for column in some]
            shape = [keep.shape[1] for keep in keeps]
            codes = [self.columns[column][2][~self.held] for column in some]
            cell = np.ravel_multi_index(codes, shape)
            sums = np.stack([np.bincount(cell, row, math.prod(shape)) for row in rows])
            sums = sums.reshape(3, *shape)
            for keep in keeps:
                # The first column's levels give way to its sides, which come last.
                sums = np.tensordot(sums, keep, (1, 1))
            off, known, size = sums
            enough = (size >= LEAST) & (size <= len(cell) - LEAST)
            worth = np.where(enough, off**2 / (known + RULE_RIDGE) / 2, 0)
            for at in np.argsort(-worth, axis=None, kind="stable")[:EACH]:
                sides = np.unravel_index(at, worth.shape)
                found.append((float(worth[sides]), tuple(zip(some, map(int, sides), strict=True))))
        rules = [sides for _, sides in sorted(found, key=lambda each: -each[0])[:MOST]]
        gains = model.gains(self.holds(rules)[:, ~self.held], RULE_RIDGE)
        return [rules[at] for at in np.argsort(-gains, kind="stable")]

    def chosen(self, count: int, *, peek: bool = False) -> list[Rule]:
        """Choose rules one after another, by the accounts searched or by the holdout itself."""
        rules: list[Sides] = []
        for _ in range(count):
            model, logit = self.model(rules, self.terms)
            found = self.best(model)
            at = 0
            if peek:
                some = self.holds(found[:PEEKED])
                off, known = model.outcome - model.chance, model.information
                inside = some[:, ~self.held]
                slopes = inside @ off / (inside @ known + RULE_RIDGE)
                sums = logit[self.held] + slopes[:, None] * some[:, self.held]
                y = self.y[self.held]
                at = int(np.argmax([roc_auc_score(y, own) for own in sums]))
            rules.append(found[at])
        return [self.rule(sides) for sides in rules]


def jointly(
    frame: pl.DataFrame,
    fitted: Collection[str],
    encoded: Callable[[tuple[Rule, ...]], Doubles],
    y: Doubles,
    *,
    most: int,
    **_: Any,
) -> list[FoundRule]:
    """Choose rules in place of `find_rules`, each again beside the others until none changes.

    By likelihood, with all encoders fitted anew beside each set of rules that is looked at.
    """
    names = [*fitted]
    corners = Corners(frame.select(names), encoded(()), y, np.zeros(len(y), dtype=bool))

    @cache
    def height(rules: tuple[Sides, ...]) -> tuple[float, Predicted]:
        terms = encoded(tuple(map(corners.rule, rules)))
        model, logit = corners.model(rules, terms)
        return float((y * logit - np.logaddexp(0, logit)).sum()), model

    rules: tuple[Sides, ...] = ()
    unchanged = turn = 0
    while unchanged < most and turn < SWAPS:
        at, full = turn % most, len(rules) == most
        others = (*rules[:at], *rules[at + 1 :])
        found = corners.best(height(others)[1], (2, 3))[: NEAR if full else 1]
        best = max(
            ((*others[:at], each, *others[at:]) for each in found), key=lambda r: height(r)[0]
        )
        if full and height(best)[0] < height(rules)[0] + LITTLE:
            unchanged += 1
        else:
            rules, unchanged = best, 0
        turn += 1
    return [FoundRule(corners.rule(each), 0.0) for each in rules]


def of_joint_search(table: pl.DataFrame, **how: Any) -> list[Rule]:
    """Return three rules by the search above."""
    with (
        patch("gtmar.autospec.first_spec.find_rules", jointly),
        patch("gtmar.autospec.first_spec.rules_that_pay", lambda _, blocks, *__: len(blocks)),
    ):
        spec = first_spec(scan(table), rules=3, **how).spec
    return [Rule.parse(str(each.rule)) for each in spec.features.values() if each.rule]


def beside(table: pl.DataFrame, rules: Sequence[Rule]) -> float:
    """Return the AUC of regression over these rules and encoders fitted anew beside them."""
    given = [FoundRule(rule, 0.0) for rule in rules]
    with (
        patch("gtmar.autospec.first_spec.find_rules", lambda *_, **__: given),
        patch("gtmar.autospec.first_spec.rules_that_pay", lambda *_, **__: len(given)),
    ):
        return over_terms(table, first_spec(scan(table), rules=len(given)).spec)


def one(table: pl.DataFrame, whole: Sequence[Rule], wanted: Collection[str]) -> dict[str, float]:
    """Return the figures of a split that are wanted, all if none is named."""
    spec = first_spec(scan(table)).spec
    y, held = table[LABEL].to_numpy().astype(float), held_out(table[ID])
    x = table.select([*spec.features]).cast(pl.Float64).to_numpy()
    seen = {tuple(each) for each in x[~held].tolist()}
    new = np.array([tuple(each) not in seen for each in x[held].tolist()])

    @cache
    def corners() -> Corners:
        terms = table.select(encoded_terms(spec, table.schema).values()).to_numpy() / 10_000
        return Corners(table.select([*spec.features]), terms, y, held)

    @cache
    def six() -> list[Rule]:
        return corners().chosen(6)

    def boosted(among: Flags | None = None, **how: Any) -> float:
        model = HistGradientBoostingClassifier(random_state=0, **how).fit(x[~held], y[~held])
        some = np.ones_like(new) if among is None else among
        return float(roc_auc_score(y[held][some], model.predict_proba(x[held])[some, 1]))

    figures: dict[str, Callable[[], float]] = {
        "curves": lambda: over_terms(table, spec),
        "init": lambda: over_terms(table, first_spec(scan(table), rules=3).spec),
        "three": lambda: beside(table, six()[:3]),
        "four": lambda: beside(table, six()[:4]),
        "five": lambda: beside(table, six()[:5]),
        "six": lambda: beside(table, six()),
        "peeked": lambda: beside(table, corners().chosen(3, peek=True)),
        "jointly": lambda: beside(table, of_joint_search(table)),
        "whole": lambda: beside(table, whole),
        "none meet": lambda: boosted(interaction_cst="no_interactions"),
        "pairs": lambda: boosted(interaction_cst="pairwise"),
        "4 leaves": lambda: boosted(max_leaf_nodes=4),
        "8 leaves": lambda: boosted(max_leaf_nodes=8),
        "boosting": boosted,
        "repeated": lambda: float(1 - new.mean()),
        "boosting, new": lambda: boosted(new),
    }
    return {name: made() for name, made in figures.items() if not wanted or name in wanted}


def main() -> None:
    """Print a Markdown table: each split, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--first", type=int, default=100, help="the first split's number")
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=(), help="figures, as columns name them")
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []
    whole: list[Rule] = []
    if not arguments.only or "whole" in arguments.only:
        whole = of_joint_search(pl.read_parquet(arguments.table), holdout=0.0)
        print("whole:", *whole, sep="\n- ", end="\n\n")
    for number in range(arguments.first, arguments.first + arguments.splits):
        table = split_anew(pl.read_parquet(arguments.table), number)
        rows.append(one(table, whole, arguments.only))
        if len(rows) == 1:
            print(f"| split | {' | '.join(rows[0])} |\n| --- |{' ---: |' * len(rows[0])}")
        print(f"| {number} | {' | '.join(f'{v:.4f}' for v in rows[-1].values())} |", flush=True)
    mean = [np.mean([row[key] for row in rows]) for key in rows[0]]
    print(f"| mean | {' | '.join(f'{value:.4f}' for value in mean)} |")


if __name__ == "__main__":
    main()
