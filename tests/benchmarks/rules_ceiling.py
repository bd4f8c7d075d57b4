"""How much could three readable rules bring at most, and how much could boosting of fewer columns?

Run it with a table: ``python tests/benchmarks/rules_ceiling.py FOLDER/iranian_churn.parquet``. Its
splits are others than those of ``logistic.py``. Everything is an AUC on the holdout, the rules' by
logistic regression over the encoders, fitted anew beside them, and the rules themselves:

- *init*: the rules that `init --rules 3` finds.
- *three* to *six*: so many rules of three conditions, each the one of highest likelihood on the
  accounts searched, chosen among all corners of all three columns and asked for no proof.
- *peeked*: three rules, each the one of four hundred promising ones that raises the AUC on the
  holdout itself most. Nobody can choose so; it says what is there to be chosen.
- boosting that lets no columns meet, or pairs alone, or as many as fit in 4 and 8 leaves; all.
- the share of holdout rows that stand among the rows searched, too, and boosting without them.

Only numbers and flags are looked at, so it is for tables that have nothing else.
"""

from __future__ import annotations

import argparse
import sys
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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.spec.model import ScoringSpec

    Doubles = NDArray[np.float64]
    Flags = NDArray[np.bool_]

#: As `init` has them: what slopes of features and rules are drawn to nothing by, cuts of a column,
#: and how many accounts a rule holds for at least.
RIDGE, RULE_RIDGE, PARTS, LEAST = 0.1, 2.0, 10, 20
#: Corners of three columns, and rules that are looked at.
EACH, MOST = 8, 1_500
PEEKED = 400


class Corners:
    """All rules of three conditions over a table's columns, and what a sum of points misses."""

    def __init__(self, table: pl.DataFrame, spec: ScoringSpec) -> None:
        self.held = held_out(table[ID])
        self.y = table[LABEL].to_numpy().astype(float)
        self.terms = table.select(encoded_terms(spec, table.schema).values()).to_numpy() / 10_000
        #: By column: conditions, and who keeps each, shape (S, N).
        self.sides = []
        for name in spec.features:
            x = table[name].cast(pl.Float64).to_numpy()
            cuts = np.unique(np.quantile(x[~self.held], np.arange(1, PARTS) / PARTS))
            cuts = cuts[cuts > x[~self.held].min()]
            if len(cuts) == 0:
                cuts = np.array([x[~self.held].max()])
            conditions = [Condition(name, sign, float(cut)) for cut in cuts for sign in ("<", ">=")]
            keep = np.array([each for cut in cuts for each in (x < cut, x >= cut)], dtype=float)
            self.sides.append((conditions, keep))

    def model(self, before: Sequence[Doubles]) -> tuple[Predicted, Doubles]:
        """Fit features and rules before to the accounts searched; return all accounts' log-odds."""
        table = np.column_stack([self.terms, *before])
        penalty = np.repeat([RIDGE, RULE_RIDGE], [self.terms.shape[1], len(before)])
        seen, y = table[~self.held], self.y[~self.held]
        fit = fit_logistic(lambda: [(seen, y)], np.diag(penalty))
        logit = fit.solution[0] + table @ fit.solution[1:]
        constant = np.column_stack([np.ones(len(seen)), seen])
        chance = 1 / (1 + np.exp(-logit[~self.held]))
        return Predicted(constant, np.append(0, penalty), chance, y), logit

    def best(self, model: Predicted) -> tuple[list[tuple[Condition, ...]], Doubles]:
        """Return the rules that promise most, the best first, and for whom each holds, (K, N)."""
        rows = np.stack(
            [model.outcome - model.chance, model.information, np.ones_like(model.chance)]
        )
        seen = [keep[:, ~self.held] for _, keep in self.sides]
        found = []
        for i, j, k in combinations(range(len(seen)), 3):
            both = (seen[i][:, None] * seen[j]).reshape(-1, seen[i].shape[1])
            off, known, size = (both * row @ seen[k].T for row in rows)
            worth = np.where(size >= LEAST, off**2 / (known + RULE_RIDGE) / 2, 0)
            for at in np.argsort(-worth, axis=None)[:EACH]:
                pair, last = np.unravel_index(at, worth.shape)
                one, two = divmod(int(pair), len(seen[j]))
                found.append((worth[pair, last], (i, one), (j, two), (k, int(last))))
        found = sorted(found, key=lambda each: -each[0])[:MOST]
        holds = np.array(
            [np.prod([self.sides[c][1][s] for c, s in sides], axis=0) for _, *sides in found]
        )
        order = np.argsort(-model.gains(holds[:, ~self.held], RULE_RIDGE), kind="stable")
        rules = [tuple(self.sides[c][0][s] for c, s in found[at][1:]) for at in order]
        return rules, holds[order]

    def chosen(self, count: int, *, peek: bool = False) -> list[Rule]:
        """Choose rules one after another, by the accounts searched or by the holdout itself."""
        rules: list[Rule] = []
        before: list[Doubles] = []
        for _ in range(count):
            model, logit = self.model(before)
            found, holds = self.best(model)
            at = 0
            if peek:
                some = holds[:PEEKED]
                off, known = model.outcome - model.chance, model.information
                inside = some[:, ~self.held]
                slopes = inside @ off / (inside @ known + RULE_RIDGE)
                sums = logit[self.held] + slopes[:, None] * some[:, self.held]
                y = self.y[self.held]
                at = int(np.argmax([roc_auc_score(y, own) for own in sums]))
            rules.append(Rule(found[at]))
            before.append(holds[at])
        return rules


def beside(table: pl.DataFrame, rules: Sequence[Rule]) -> float:
    """Return the AUC of regression over these rules and encoders fitted anew beside them."""
    given = [FoundRule(rule, 0.0) for rule in rules]
    with (
        patch("gtmar.autospec.first_spec.find_rules", lambda *_, **__: given),
        patch("gtmar.autospec.first_spec.rules_that_pay", lambda *_, **__: len(given)),
    ):
        return over_terms(table, first_spec(scan(table), rules=len(given)).spec)


def one(table: pl.DataFrame) -> dict[str, float]:
    """Return each figure of a split."""
    spec = first_spec(scan(table)).spec
    row = {"curves": over_terms(table, spec)}
    row["init"] = over_terms(table, first_spec(scan(table), rules=3).spec)
    corners = Corners(table, spec)
    rules = corners.chosen(6)
    for count, word in enumerate(("three", "four", "five", "six"), 3):
        row[word] = beside(table, rules[:count])
    row["peeked"] = beside(table, corners.chosen(3, peek=True))
    x, y, held = table.select([*spec.features]).cast(pl.Float64).to_numpy(), corners.y, corners.held

    def boosted(**how: Any) -> Doubles:
        model = HistGradientBoostingClassifier(random_state=0, **how).fit(x[~held], y[~held])
        return np.asarray(model.predict_proba(x[held])[:, 1])

    def auc(chance: Doubles) -> float:
        return float(roc_auc_score(y[held], chance))

    row["none meet"] = auc(boosted(interaction_cst="no_interactions"))
    row["pairs"] = auc(boosted(interaction_cst="pairwise"))
    row["4 leaves"] = auc(boosted(max_leaf_nodes=4))
    row["8 leaves"] = auc(boosted(max_leaf_nodes=8))
    chance = boosted()
    row["boosting"] = auc(chance)
    seen = {tuple(each) for each in x[~held].tolist()}
    new = np.array([tuple(each) not in seen for each in x[held].tolist()])
    row["repeated"] = float(1 - new.mean())
    row["boosting, new"] = float(roc_auc_score(y[held][new], chance[new]))
    return row


def main() -> None:
    """Print a Markdown table: each split, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--first", type=int, default=100, help="the first split's number")
    parser.add_argument("--splits", type=int, default=8)
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []
    for number in range(arguments.first, arguments.first + arguments.splits):
        rows.append(one(split_anew(pl.read_parquet(arguments.table), number)))
        if len(rows) == 1:
            print(f"| split | {' | '.join(rows[0])} |\n| --- |{' ---: |' * len(rows[0])}")
        print(f"| {number} | {' | '.join(f'{v:.4f}' for v in rows[-1].values())} |", flush=True)
    mean = [np.mean([row[key] for row in rows]) for key in rows[0]]
    print(f"| mean | {' | '.join(f'{value:.4f}' for value in mean)} |")


if __name__ == "__main__":
    main()
