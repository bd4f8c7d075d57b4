"""The integer score that a search finds, beside logistic regression and gradient boosting.

Run it with the folder of the tables: ``python tests/benchmarks/logistic.py FOLDER``. Each table
is split anew ten times, 70 to 30, by giving every account another id. Nothing is edited by hand:
`init` writes the spec, `run` searches with its defaults, and the holdout is scored once. The
others are scikit-learn's, untuned, fitted to the same accounts and the same features: numbers
standardised, unknown ones at their mean with a flag of their own, categories one-hot. With
``--bins`` the spec is that of `init --bins`, and the regression has its very bins, one-hot.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.encode import encoded_terms
from gtmar.data.scan import scan

if TYPE_CHECKING:
    from gtmar.spec.model import ScoringSpec

ID = "account_id"
LABEL = "retained_6mo"
SHARE = 0.3


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


def binned(table: pl.DataFrame, spec: ScoringSpec) -> float:
    """Return the AUC on the holdout of logistic regression over the spec's own bins."""
    terms = table.select(encoded_terms(spec, table.schema).values()).to_numpy() / 10_000
    y, held = table[LABEL].to_numpy(), held_out(table[ID])
    model = LogisticRegression(max_iter=5_000).fit(terms[~held], y[~held])
    return float(roc_auc_score(y[held], model.predict_proba(terms[held])[:, 1]))


def others(table: pl.DataFrame, spec: ScoringSpec) -> dict[str, float]:
    """Return each other model's AUC on the holdout."""
    columns = sorted({c for name, each in spec.features.items() for c in each.reads(name)})
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
    models = {
        "logistic": make_pipeline(linear, LogisticRegression(max_iter=5_000)),
        "boosting": make_pipeline(
            make_column_transformer(("passthrough", numbers), (coded, texts)),
            HistGradientBoostingClassifier(random_state=0),
        ),
    }
    found = {}
    for name, model in models.items():
        model.fit(x[~held], y[~held])
        found[name] = float(roc_auc_score(y[held], model.predict_proba(x[held])[:, 1]))
    return found


def one(path: Path, number: int, n: int, *, bins: bool, start: str) -> dict[str, float]:
    """Return AUCs on the holdout of one split: ours, before and after, and the others'."""
    table = split_anew(pl.read_parquet(path), number)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "accounts.parquet"
        table.write_parquet(made)
        spec = first_spec(scan(made), bins=bins).spec
        journal = Path(folder) / "journal"
        found = runs.run(made, spec, limits=runs.Limits(n), journal=journal, start=start)
    held = found.holdout or {}
    ours = {"start": held["baseline_value"], "score": held["best_value"]}
    theirs = others(table, spec)
    if bins:
        theirs["logistic"] = binned(table, spec)
    ours["weights"] = len(spec.weights)
    return {**ours, **theirs, "searched": found.best_value or 0.0}


def main() -> None:
    """Print a Markdown table: means over the splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--bins", action="store_true")
    parser.add_argument("--start", default="spec")
    arguments = parser.parse_args()
    print(f"gtmar {version('gtmar')}, scikit-learn {version('scikit-learn')}\n")
    print("| table | start | score | logistic | score - logistic | boosting | searched |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for path in sorted(arguments.folder.glob("*.parquet")):
        rows = [
            one(path, number, arguments.n, bins=arguments.bins, start=arguments.start)
            for number in range(arguments.splits)
        ]
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        gap = mean["score"] - mean["logistic"]
        print(
            f"| {path.stem} | {mean['start']:.4f} | {mean['score']:.4f} | {mean['logistic']:.4f} "
            f"| {gap:+.4f} | {mean['boosting']:.4f} | {mean['searched']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
