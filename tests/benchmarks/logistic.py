"""The integer score that a search finds, beside other readable models and gradient boosting.

Run it with the folder of the tables: ``python tests/benchmarks/logistic.py FOLDER``. Each table
is split anew ten times, 70 to 30, by giving every account another id. Nothing is edited by hand:
`init` writes the spec, `run` searches with its defaults, and the holdout is scored once; then the
same with `init --rules 3`. *Pays* is how often it searched beyond fitted weights. *Plain* is `run
--start spec`, which asks no folds, *fitted* the fitted weights alone. *Curves* is logistic
regression over the spec's own encoders. All others are fitted to the same accounts and the same
columns: scikit-learn's logistic regression, numbers standardised, unknown ones at their mean with a
flag of their own, categories one-hot; its histogram boosting, untuned, and tuned by three-fold
cross-validation; interpret's EBM without pairs, and with as many pairs as the score has rules;
optbinning's scorecard; FasterRisk's score of ten terms.

The last three are asked for only here, and are left out where they aren't installed:
``pip install interpret-core optbinning requests`` and ``pip install --no-deps fasterrisk``; so are
those that ``--leave-out`` names, *score* (no search) and *rules* among them. With ``--bins`` the
spec is that of `init --bins`, and *curves* has its very bins.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.encode import encoded_terms
from gtmar.data.scan import scan
from gtmar.engine.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from gtmar.spec.model import ScoringSpec

ID = "account_id"
LABEL = "retained_6mo"
SHARE = 0.3
#: Experiments that try the weights of a fitted start alone, four at most.
_FITTED = 4
#: What is printed of a split, in this order; of these the last are no AUC.
SIZES = ("columns", "rules", "weights", "pays", "pays, rules")
SHOWN = (
    *("start", "score", "pays", "plain", "fitted", "start, rules", "score, rules", "pays, rules"),
    *("logistic", "curves", "curves, rules", "EBM", "EBM, pairs", "boosting", "tuned"),
    *("optbinning", "FasterRisk", "searched", *SIZES[:3]),
)
MODULES = {"scikit-learn": "sklearn", "interpret-core": "interpret"}


def split_anew(table: pl.DataFrame, number: int) -> pl.DataFrame:
    """Give every account an id that another split sees differently."""
    return (
        table.drop(ID, strict=False)
        .with_row_index("row")
        .select(pl.format("{}-{}", pl.lit(number), pl.col("row")).alias(ID), pl.exclude("row", ID))
    )


def held_out(ids: pl.Series) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Draw the split again, as docs/spec.md has it."""
    numbers = (int(hashlib.md5(f"gtmar:{each}".encode()).hexdigest()[:8], 16) for each in ids)
    return np.array([number < SHARE * 2**32 for number in numbers])


def over_terms(table: pl.DataFrame, spec: ScoringSpec) -> float:
    """Return the AUC on the holdout of logistic regression over the spec's own terms."""
    terms = table.select(encoded_terms(spec, table.schema).values()).to_numpy() / 10_000
    y, held = table[LABEL].to_numpy(), held_out(table[ID])
    # The penalty of `init` itself: the usual one draws slopes of a whole range to nothing.
    model = LogisticRegression(C=10, max_iter=5_000).fit(terms[~held], y[~held])
    return float(roc_auc_score(y[held], model.predict_proba(terms[held])[:, 1]))


def others(
    table: pl.DataFrame, columns: list[str], pairs: int, left_out: Collection[str] = ()
) -> dict[str, float]:
    """Return each other model's AUC on the holdout; NaN if left out, or its library is missing."""
    frame = table.select(columns).with_columns(pl.col(pl.Boolean).cast(pl.Int8))
    texts = [name for name in columns if not frame.schema[name].is_numeric()]
    numbers = [name for name in columns if name not in texts]
    frame = frame.with_columns(pl.col(texts).cast(pl.String).fill_null("(none)"))
    x, y = frame.to_pandas(), table[LABEL].to_numpy()
    held = held_out(table[ID])
    linear = make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), texts),
    )
    coded = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    plain = make_column_transformer(("passthrough", numbers), (coded, texts))
    untuned = HistGradientBoostingClassifier(random_state=0)
    trees = {"learning_rate": [0.05], "max_leaf_nodes": [4, 12, 31], "max_iter": [100, 300]}
    tuned = GridSearchCV(untuned, trees, scoring="roc_auc", cv=3)
    models: dict[str, Callable[[], Any]] = {
        "logistic": lambda: make_pipeline(linear, LogisticRegression(max_iter=5_000)),
        "EBM": lambda: ebm(0),
        "EBM, pairs": lambda: ebm(pairs),
        "boosting": lambda: make_pipeline(plain, untuned),
        "tuned": lambda: make_pipeline(plain, tuned),
        "optbinning": lambda: scorecard(columns, texts),
        "FasterRisk": lambda: TenTerms(numbers, texts),
    }
    found = {}
    for name, make in models.items():
        found[name] = float("nan")
        try:
            model = None if name in left_out else make()
        except ImportError:
            continue
        if model is None:
            continue
        model.fit(x[~held], y[~held])
        found[name] = float(roc_auc_score(y[held], model.predict_proba(x[held])[:, 1]))
    return found


def ebm(pairs: int) -> Any:
    """Return interpret's additive model of so many pairs of columns, else as it comes."""
    from interpret.glassbox import ExplainableBoostingClassifier  # type: ignore[import-not-found] # of the benchmark alone

    return ExplainableBoostingClassifier(interactions=pairs, random_state=0, n_jobs=1)


def scorecard(columns: list[str], texts: list[str]) -> Any:
    """Return optbinning's scorecard: optimal bins by weight of evidence, logistic regression."""
    from optbinning import BinningProcess, Scorecard  # type: ignore[import-not-found] # of the benchmark alone

    process = BinningProcess(columns, categorical_variables=texts)
    return Scorecard(process, LogisticRegression(max_iter=5_000))


class TenTerms:
    """FasterRisk: ten yes-or-no questions with points from -5 to 5."""

    def __init__(self, numbers: list[str], texts: list[str]) -> None:
        from fasterrisk.fasterrisk import RiskScoreClassifier, RiskScoreOptimizer  # type: ignore[import-not-found] # of the benchmark alone

        self.optimizer, self.classifier = RiskScoreOptimizer, RiskScoreClassifier
        self.numbers, self.texts = numbers, texts

    def questions(self, x: Any) -> Any:
        """Return whether a number is below each tenth, and which category it is: (N, Q)."""
        asked = [x[name].to_numpy() <= cut for name in self.numbers for cut in self.cuts[name]]
        asked += [(x[name] == each).to_numpy() for name in self.texts for each in self.levels[name]]
        return np.stack(asked, axis=1).astype(float)

    def fit(self, x: Any, y: Any) -> None:
        """Find the terms and their points."""
        self.cuts = {
            n: np.unique(np.nanquantile(x[n], np.arange(1, 10) / 10)) for n in self.numbers
        }
        self.levels = {name: sorted(x[name].unique()) for name in self.texts}
        found = self.optimizer(X=self.questions(x), y=np.where(y == 1, 1.0, -1.0), k=10)
        found.optimize()
        multiplier, intercept, points = found.get_models(model_index=0)
        self.model = self.classifier(multiplier, intercept, points)

    def predict_proba(self, x: Any) -> Any:
        """Return chances, of which the second column is that to stay: (N, 2)."""
        chance = self.model.predict_prob(self.questions(x))
        return np.stack([1 - chance, chance], axis=1)


def one(
    path: Path,
    number: int,
    n: int,
    *,
    bins: bool,
    start: str | None,
    left_out: Collection[str],
) -> dict[str, float]:
    """Return AUCs on the holdout of one split: ours, before and after, and the others'."""
    table = split_anew(pl.read_parquet(path), number)
    row: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "accounts.parquet"
        table.write_parquet(made)
        for rules, suffix in ((0, ""), (3, ", rules")):
            if rules and "rules" in left_out:
                continue
            spec = first_spec(scan(made), bins=bins, rules=rules).spec
            weights: Mapping[str, float] = spec.weights
            row |= {f"curves{suffix}": over_terms(table, spec)}
            if "score" in left_out:
                continue
            ways: dict[str, tuple[str | None, int]] = {"score": (start, n)}
            ways |= {} if rules else {"plain": ("spec", n), "fitted": ("logistic", _FITTED)}
            for way, (begin, most) in ways.items():
                # A journal each, as a run remembers those before it.
                journal = Path(folder) / f"{way}_{rules}"
                limits = runs.Limits(most)
                found = runs.run(made, spec, limits=limits, journal=journal, start=begin)
                held = found.holdout or {}
                row |= {f"{way}{suffix}": held["best_value"]}
                if way == "score":
                    weights = found.weights
                    asked = found.search_pays
                    row |= {f"start{suffix}": held["baseline_value"]}
                    row |= {f"pays{suffix}": float(asked is None or asked.pays)}
                    row |= {} if rules else {"searched": found.best_value or 0.0}
    columns = sorted({c for name, each in spec.features.items() for c in each.reads(name)})
    count = sum(bool(each.conditions) for each in spec.features.values())
    row |= others(table, columns, count, left_out)
    points = [weight for weight in weights.values() if weight]
    return {**row, "columns": len(columns), "rules": count, "weights": len(points)}


def main() -> None:
    """Print a Markdown table: means over the splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--bins", action="store_true")
    parser.add_argument("--start", help="as of run, which then asks no folds")
    parser.add_argument("--only", default="*", help="the one table, by its name")
    parser.add_argument("--leave-out", nargs="+", default=(), help="models, as columns name them")
    arguments = parser.parse_args()
    libraries = ("gtmar", "scikit-learn", "interpret-core", "optbinning", "fasterrisk")
    there = [name for name in libraries if find_spec(MODULES.get(name, name))]
    print(", ".join(f"{name} {version(name)}" for name in there), "\n")
    print(f"| {' | '.join(('table', *SHOWN))} |")
    print(f"| --- |{' ---: |' * len(SHOWN)}")
    for path in sorted(arguments.folder.glob(f"{arguments.only}.parquet")):
        how: dict[str, Any] = {"n": arguments.n, "bins": arguments.bins, "start": arguments.start}
        how |= {"left_out": arguments.leave_out}
        with Processes(None) as processes:
            rows = processes.each(partial(one, path, **how), range(arguments.splits))
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        told = (f"{mean.get(key, np.nan):.{1 if key in SIZES else 4}f}" for key in SHOWN)
        print(f"| {' | '.join((path.stem, *told))} |".replace("nan", "-"), flush=True)


if __name__ == "__main__":
    main()
