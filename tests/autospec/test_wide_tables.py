"""Wide tables: which columns become features, and a start that tells accounts apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gtmar import runs
from gtmar import spec as specs
from gtmar.autospec import wide_tables
from gtmar.autospec.first_spec import MOST_CLIPPED, FirstSpec, first_spec
from gtmar.autospec.fit_encoders import Fitted, fit_categories, fit_flag, fit_number
from gtmar.data.encode import encoded_terms
from gtmar.data.scan import scan
from gtmar.data.split import holdout_mask
from gtmar.journal.catalog import Journal
from gtmar.report.pages import run_page

if TYPE_CHECKING:
    from pathlib import Path

N = 3_000


def wide(features: int, *, signals: int = 5, bent: bool = False, n: int = N) -> pl.DataFrame:
    """Make columns of noise, of which the first few move the outcome: AUC of all near 0.84."""
    draw = np.random.default_rng(features)
    x = draw.normal(size=(n, features))
    effect = x[:, :signals] ** 2 - 1 if bent else x[:, :signals]
    logit = 0.5 + 1.8 / signals**0.5 * effect.sum(axis=1)
    stayed = (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    columns = {f"x{i}": x[:, i] for i in range(features)}
    ids = [f"a{i}" for i in range(n)]
    return pl.DataFrame({"account_id": ids, "retained_6mo": stayed, **columns})


def detected(table: pl.DataFrame, **more: Any) -> FirstSpec:
    return first_spec(scan(table), **more)


def kept(table: pl.DataFrame, *, keep: tuple[str, ...] = ()) -> set[str]:
    """Return which columns stay, without fitting them together."""
    y = table["retained_6mo"].cast(pl.Float64).to_numpy()
    frame = table.drop("account_id", "retained_6mo")
    fits = {pl.String: fit_categories, pl.Boolean: fit_flag}
    looked = {c.name: fits.get(type(c.dtype), fit_number)(c, y) for c in frame}
    fitted = {name: each for name, each in looked.items() if isinstance(each, Fitted)}
    return {*frame.columns} - {*wide_tables.weakest(frame, fitted, y, keep)}


@pytest.mark.slow
@pytest.mark.parametrize("bent", [False, True], ids=["straight", "bent"])
@pytest.mark.parametrize("features", [101, 170, 200, 400])
def test_signals_stay_and_most_noise_goes(features: int, bent: bool) -> None:
    found = kept(wide(features, bent=bent))
    assert {f"x{i}" for i in range(5)} <= found
    assert 10 <= len(found) <= 30


@pytest.mark.slow
def test_a_column_left_out_says_its_rank() -> None:
    found = detected(wide(101, n=400))
    gone = [why for name, why in found.left_out.items() if name[0] == "x"]
    assert len(gone) + len(found.spec.features) == 101
    assert all(" of 101 columns by how well each alone tells outcomes apart" in w for w in gone)
    assert "columns are left out since they tell least" in found.notes[-1]


def test_many_weak_signals_are_the_most_there_may_be() -> None:
    assert len(kept(wide(130, signals=130))) == wide_tables.MOST_FEATURES


def test_chance_alone_leaves_the_least_there_may_be() -> None:
    noise = wide(200).with_columns(retained_6mo=pl.col("retained_6mo").shuffle(seed=1))
    assert len(kept(noise)) <= 15


def test_what_is_kept_by_name_stays() -> None:
    assert {"x50", "x109"} <= kept(wide(110), keep=("x50", "x109"))


def test_a_usual_table_keeps_all() -> None:
    assert len(kept(wide(100, n=600))) == 100


def test_categories_flags_and_unknowns_are_told_apart_from_noise() -> None:
    table = wide(104, signals=1, n=2_000)
    draw = np.random.default_rng(3)
    stayed = table["retained_6mo"].to_numpy()
    gap = pl.Series(draw.random(2_000) < 0.5 - 0.4 * stayed)
    found = kept(
        table.with_columns(
            region=pl.Series(np.where(draw.random(2_000) < 0.3 + 0.4 * stayed, "n", "s")),
            flag=pl.Series(draw.random(2_000) < 0.2 + 0.5 * stayed),
            gaps=pl.when(gap).then(None).otherwise(pl.col("x90")),
            noise=pl.Series(draw.choice(list("abcdefgh"), 2_000)),
        )
    )
    assert {"region", "flag", "gaps", "x0"} <= found
    assert "noise" not in found


def test_scores_that_would_be_clipped_get_a_higher_maximum() -> None:
    """Sixty flags of 2 points each, nearly all of them set: 115 of 100 points."""
    table = wide(1, n=800)
    stayed, draw = table["retained_6mo"].to_numpy(), np.random.default_rng(5)
    flags = {f"f{i}": pl.Series(draw.random(800) < 0.9 + 0.1 * stayed) for i in range(60)}
    table = table.with_columns(**flags)
    found = detected(table)
    assert found.spec.max_score > 100
    assert "max_score is" in found.notes[-1]
    encoded = table.select(encoded_terms(found.spec, table.schema).values())
    raw = encoded.to_numpy() @ np.array(list(found.spec.weights.values())) / 10_000
    assert np.mean(raw > found.spec.max_score) <= MOST_CLIPPED < np.mean(raw > 100)


@pytest.mark.slow
def test_what_chose_the_columns_cant_say_what_they_are_worth(tmp_path: Path) -> None:
    """Ten of 300 columns of noise: null said that the score knows something, at the least p.

    Half of them held in `stability`, and the AUCs of `simplify` were of accounts that "chose no
    feature".
    """
    draw = np.random.default_rng(11)
    noise = {f"f{i}": draw.normal(size=600).round(3) for i in range(300)}
    stayed = (draw.random(600) < 0.7).astype(int)
    table = pl.DataFrame({"account_id": [f"a{i}" for i in range(600)], **noise})
    table = table.with_columns(retained_6mo=pl.Series(stayed))
    table.write_parquet(tmp_path / "a.parquet")
    spec = detected(table).spec
    assert (spec.chosen_from, len(spec.features)) == (300, 10)
    assert specs.spec_id(spec) == specs.spec_id(spec.model_copy(update={"chosen_from": None}))
    journal = tmp_path / "j"
    found = runs.run(tmp_path / "a.parquet", spec, limits=runs.Limits(10), journal=journal)
    assert found.spec.chosen_from == 300
    null = runs.null_search(found.run_id, journal=journal, searches=4)
    assert null.knows is not None
    assert null.knows["p_value"] == 1 / 5
    assert "knows anything, these accounts can't say" in null.sentences[0]
    held = runs.stability(found.run_id, journal=journal, searches=4)
    assert held.note is not None
    assert held.note.startswith("All of these accounts chose the features out of 300 columns")
    simple = runs.simplify(table, spec, limits=runs.Limits(10), journal=journal)
    assert "init chose its features out of 300 columns by all of them" in simple.unseen
    with Journal(journal) as opened:
        page = run_page(opened, found.run_id).html
    assert "on halves of the accounts. All of these accounts chose the features out of 300" in page


@pytest.mark.slow
def test_a_scorecard_says_that_its_bins_are_no_halfs_own(tmp_path: Path) -> None:
    """On tables of noise 79 of 212 bins held."""
    table = wide(3, signals=1, n=300)
    for bins in (True, False):
        journal, spec = tmp_path / str(bins), detected(table, bins=bins).spec
        found = runs.run(table, spec, journal=journal, limits=runs.Limits(3))
        held = runs.stability(found.run_id, data=table, journal=journal, searches=1)
        assert (held.note is not None) is bins
        assert held.note is None or "All of these accounts set the bins" in held.note


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "signals", "bins"),
    [(250, 5, True), (400, 10, False)],
)
def test_a_search_from_a_wide_table_is_level_with_regression(
    features: int, signals: int, bins: bool, tmp_path: Any
) -> None:
    table = wide(features, signals=signals)
    spec = detected(table, bins=bins).spec
    limits = runs.Limits(150)
    found = runs.run(table, spec, journal=tmp_path, limits=limits, start="logistic")
    held = holdout_mask(table["account_id"], share=0.3, salt="gtmar")
    values = table.select(encoded_terms(spec, table.schema).values()).to_numpy() / 10_000
    stayed = table["retained_6mo"].to_numpy()
    fit = LogisticRegression(max_iter=3_000).fit(values[~held], stayed[~held])
    theirs = fit.decision_function(values)
    assert found.baseline_value is not None
    assert found.baseline_value > 0.6
    assert found.best_value is not None
    assert found.best_value >= roc_auc_score(stayed[~held], theirs[~held]) - 0.01
    assert found.holdout is not None
    assert found.holdout["best_value"] >= roc_auc_score(stayed[held], theirs[held]) - 0.01


@pytest.mark.slow
def test_a_start_that_clips_is_said_aloud(tmp_path: Any) -> None:
    table = wide(6, n=600)
    spec = detected(table).spec
    assert not [f for f in runs.check(table, spec).notes if "clips" in f]
    low = spec.model_copy(update={"base": -60})
    assert [f for f in runs.check(table, low).notes if "fewer points than 0" in f]
    high = spec.model_copy(update={"base": 60})
    said = [f for f in runs.check(table, high).notes if "clips" in f]
    assert len(said) == 1
    assert said[0].endswith("raise max_score, or lower weights.")
    found = runs.run(table, high, journal=tmp_path, limits=runs.Limits(2))
    assert [f.text for f in found.findings if "clips" in f.text] == said
