"""The probability behind a score on accounts never seen, beside logistic regression's own.

Run it with the folder of the tables: ``python tests/benchmarks/calibration.py FOLDER``. Each table
is split anew ten times, as in `logistic.py`: `init` writes the spec, `run` searches, fits the
probabilities on the accounts searched, and the holdout is looked at once. The regression is scikit-
learn's, untuned, on the same accounts and features; `all steps` is the same isotonic fit with every
step that it has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from benchmarks.logistic import LABEL, held_out, split_anew
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from gtmar import runs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.scan import scan
from gtmar.engine.processes import Processes

if TYPE_CHECKING:
    from gtmar.spec.model import ScoringSpec


def regression(table: pl.DataFrame, spec: ScoringSpec) -> float:
    """Return the Brier score on the holdout of logistic regression over the spec's columns."""
    columns = sorted({c for name, each in spec.features.items() for c in each.reads(name)})
    frame = table.select(columns).with_columns(pl.col(pl.Boolean).cast(pl.Int8))
    texts = [name for name in columns if not frame.schema[name].is_numeric()]
    numbers = [name for name in columns if name not in texts]
    x = frame.with_columns(pl.col(texts).cast(pl.String).fill_null("(none)")).to_pandas()
    left, held = 1 - table[LABEL].to_numpy(), held_out(table["account_id"])
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore"), texts),
        ),
        LogisticRegression(max_iter=5_000),
    ).fit(x[~held], left[~held])
    return float(brier_score_loss(left[held], model.predict_proba(x[held])[:, 1]))


def every_step(table: pl.DataFrame, spec: ScoringSpec) -> float:
    """Return the Brier score on the holdout of isotonic regression without fewer steps."""
    scores = runs.score(table, spec)["score"].to_numpy()
    left, held = 1 - table[LABEL].to_numpy(), held_out(table["account_id"])
    fit = IsotonicRegression(increasing=spec.orientation == "risk", out_of_bounds="clip")
    chances = fit.fit(scores[~held], left[~held]).predict(scores[held])
    return float(brier_score_loss(left[held], np.clip(chances, 0, 1)))


def one(path: Path, number: int, n: int) -> dict[str, float]:
    """Measure one split."""
    table = split_anew(pl.read_parquet(path), number)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "accounts.parquet"
        table.write_parquet(made)
        spec = first_spec(scan(made)).spec
        found = runs.run(made, spec, limits=runs.Limits(n), journal=Path(folder) / "journal")
    checked: dict[str, Any] = found.reliability or {}
    return {
        "steps": len(found.spec.calibration.steps) if found.spec.calibration else 0,
        "predicted": checked["predicted"],
        "observed": checked["observed"],
        "apart": abs(checked["predicted"] - checked["observed"]),
        "off": checked["off"],
        "error": checked["calibration_error"]["value"],
        "chance": checked["by_chance"],
        "brier": checked["brier"],
        "all": every_step(table, found.spec),
        "base": checked["brier_of_base_rate"],
        "logistic": regression(table, spec),
    }


def main() -> None:
    """Print a Markdown table: means over the splits, and the largest distance of the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--n", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"gtmar {version('gtmar')}, scikit-learn {version('scikit-learn')}\n")
    print(
        "| table | steps | predicted | observed | farthest apart | beyond chance | "
        "calibration error | by chance below | Brier | all steps | base rate | logistic |"
    )
    print("| --- |" + " ---: |" * 11)
    for path in sorted(arguments.folder.glob("*.parquet")):
        with Processes(None) as processes:
            rows = processes.each(partial(one, path, n=arguments.n), range(arguments.splits))
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        print(
            f"| {path.stem} | {mean['steps']:.0f} | {mean['predicted']:.4f} "
            f"| {mean['observed']:.4f} | {max(row['apart'] for row in rows):.4f} "
            f"| {sum(int(row['off']) for row in rows)} of {len(rows)} | {mean['error']:.4f} "
            f"| {mean['chance']:.4f} | {mean['brier']:.4f} | {mean['all']:.4f} "
            f"| {mean['base']:.4f} | {mean['logistic']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
