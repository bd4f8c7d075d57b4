"""The smallest gain that so many accounts can prove."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import make_accounts, make_spec, weighted

from gtmar import runs
from gtmar import spec as specs
from gtmar.data import synthetic
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.objective.objective import Judge
from gtmar.validation.gates import smallest_gain
from gtmar.validation.intervals import panel_of, uncertainty

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score"


def test_it_shrinks_with_the_root_of_the_accounts() -> None:
    spec = make_spec(split={"holdout": 0})
    matrix = load_accounts(scan(make_accounts(600, seed=1)), spec).search
    one, four = (
        smallest_gain(matrix, spec, Judge.of(spec), accounts=n) or 0.0 for n in (300, 1_200)
    )
    assert one == pytest.approx(2 * four)


def test_it_is_of_the_size_that_intervals_have() -> None:
    """It is 2.8 standard errors, of a change about as large as a search makes."""
    spec, best = (specs.load(EXAMPLE / f"{name}.yaml") for name in ("spec", "best"))
    spec = spec.model_copy(update={"split": spec.split.model_copy(update={"holdout": 0.0})})
    table = synthetic.generate("health_score", accounts=1_500, seed=5)
    matrix = load_accounts(scan(table), spec).search
    found = smallest_gain(matrix, spec, Judge.of(spec), accounts=1_500) or 0.0
    old, new = ([s.weights[t.name] for t in spec.terms] for s in (spec, best))
    gain = uncertainty(panel_of(matrix, spec, old, new), metrics={"auc_roc_retain"}).gain
    low, high = gain["auc_roc_retain"].low or 0.0, gain["auc_roc_retain"].high or 0.0
    assert found == pytest.approx((high - low) / 3.92 * 2.8, rel=0.6)


def test_none_where_nothing_can_move_or_nothing_can_be_said() -> None:
    spec = make_spec(split={"holdout": 0})
    few = load_accounts(scan(make_accounts(20, seed=1)), spec).search
    assert smallest_gain(few, spec, Judge.of(spec), accounts=20) is None
    fixed = make_spec(split={"holdout": 0}, features={"depth": weighted(5, 5, 5)})
    matrix = load_accounts(scan(make_accounts(300, seed=1)), fixed).search
    assert smallest_gain(matrix, fixed, Judge.of(fixed), accounts=300) is None


def test_check_says_it_of_the_accounts_held_out() -> None:
    table = make_accounts(900, seed=4)
    half, third = (
        runs.check(table, make_spec(split={"holdout": share})).smallest_gain or 0.0
        for share in (0.5, 0.1)
    )
    assert 0 < half < third
