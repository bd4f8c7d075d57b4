"""How closely columns go together, held against scikit-learn, scipy and the definition."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from gtmar.autospec.leakage import (
    area,
    levels_of,
    one_to_one,
    proportional,
    pure,
    rank_correlation,
    separation,
)

DRAW = np.random.default_rng(5)
POSITIVE = DRAW.random(400) < 0.35
NAN = float("nan")


def tied(pull: float) -> np.ndarray:
    """Draw a column with many ties that goes with the label as strongly as is said."""
    return np.round(DRAW.normal(size=400) + pull * POSITIVE, 1)


@pytest.mark.parametrize("pull", [-2.0, -0.3, 0.0, 0.4, 3.0])
def test_area_is_the_one_of_scikit_learn(pull: float) -> None:
    values = tied(pull)
    expected = roc_auc_score(POSITIVE, values)
    assert area(values, POSITIVE) == pytest.approx(expected, abs=1e-12)
    assert separation(values, POSITIVE) == pytest.approx(max(expected, 1 - expected), abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8])
def test_the_unknown_is_a_level_of_its_own(share: float) -> None:
    values = tied(1.0)
    # Unknown more often for the positive.
    values[(DRAW.random(400) < 0.3) & (POSITIVE | (DRAW.random(400) < share))] = NAN
    found = []
    for level in (-1e9, 1e9):
        filled = np.nan_to_num(values, nan=level)
        found += [roc_auc_score(POSITIVE, filled), roc_auc_score(POSITIVE, -filled)]
    assert separation(values, POSITIVE) == pytest.approx(max(found), abs=1e-12)


def test_area_does_not_depend_on_order() -> None:
    values, order = tied(0.7), DRAW.permutation(400)
    assert area(values[order], POSITIVE[order]) == area(values, POSITIVE)


def test_levels_are_shares_of_positives_the_rare_taken_together() -> None:
    codes = np.repeat([0, 1, 2, 3], [20, 30, 4, 5])
    positive = np.arange(59) % 3 == 0
    levels = levels_of(codes, positive)
    assert levels[0] == positive[:20].mean()
    assert levels[25] == positive[20:50].mean()
    assert set(levels[50:]) == {positive[50:].mean()}


def test_rank_correlation_is_the_one_of_scipy() -> None:
    one, two = tied(1.0), tied(2.0)
    assert rank_correlation(one, two) == pytest.approx(spearmanr(one, two).statistic, abs=1e-12)
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1, abs=1e-12)
    assert rank_correlation(one, np.zeros(400)) == 0


def test_pure_levels() -> None:
    assert pure(np.array([0, 0, 1, 2]), np.array([True, True, False, True]))
    assert not pure(np.array([0, 0, 1, 2]), np.array([True, False, False, True]))


def test_one_to_one() -> None:
    codes = np.arange(60) % 3
    assert one_to_one(codes, (codes * 7 + 1) % 3)
    assert not one_to_one(codes, np.minimum(codes, 1))
    assert not one_to_one(codes, np.roll(codes, 1) * (np.arange(60) % 2))
    assert not one_to_one(np.arange(60), np.arange(60)[::-1]), "nothing repeats"
    assert not one_to_one(np.zeros(60), np.zeros(60)), "nothing varies"


def test_proportional() -> None:
    x = DRAW.normal(size=50)
    assert proportional(x, x)
    assert proportional(x, 3 - 0.1 * x)
    assert not proportional(x, np.exp(x))
    assert not proportional(x, np.zeros(50))
    gap = x.copy()
    gap[7] = NAN
    assert not proportional(x, gap)
    assert proportional(gap, 2 * gap)
