"""Fitted starts: the order of a regression, as integers within bounds, on the start's scale."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gtmar.optimize.constraints import WeightConstraints
from gtmar.optimize.logistic_start import Labelled, logistic_starts
from gtmar.optimize.proposers import SearchSpace

DRAW = np.random.default_rng(4)
N = 3_000
VALUES = (DRAW.random((N, 4)) * 10_000).astype(np.int16)
STAYED = DRAW.random(N) < 1 / (1 + np.exp(-(VALUES @ [3.0, 1.0, 0.0, -2.0]) / 10_000 + 1))
START = (10, 10, 10, 10)
NAMES = ("a", "b", "c", "d")
WIDE = SearchSpace(NAMES, (-40,) * 4, (40,) * 4)


def labelled(stayed: np.ndarray = STAYED) -> Labelled:
    return Labelled(tuple(VALUES.T), stayed)


def test_accounts_are_ordered_as_by_scikit_learns_regression() -> None:
    theirs = LogisticRegression(max_iter=1_000).fit(VALUES / 10_000, STAYED).coef_[0]
    for vector in logistic_starts(labelled(), START, WIDE):
        assert np.corrcoef(vector, theirs)[0, 1] > 0.999
        ours, best = (roc_auc_score(STAYED, VALUES @ w) for w in (np.array(vector), theirs))
        assert ours == pytest.approx(best, abs=0.001)


def test_the_first_has_the_spread_of_the_start_and_the_last_fills_the_bounds() -> None:
    first, last = logistic_starts(labelled(), START, WIDE)
    spread = [float((VALUES @ w).std()) for w in (START, first)]
    assert spread[1] == pytest.approx(spread[0], rel=0.05)
    assert max(map(abs, last)) == 40


def test_tight_bounds_are_kept_by_scale_or_by_a_cut() -> None:
    tight = SearchSpace(NAMES, (-3, -40, 2, -40), (3, 40, 40, 40))
    within, cut = logistic_starts(labelled(), START, tight)
    assert within[0] == cut[0] == 3
    assert abs(within[3]) <= 3 < abs(cut[3])
    assert within[2] == cut[2] == 2


def test_fixed_weights_stay() -> None:
    fixed = SearchSpace(NAMES, (-40, 10, -40, -40), (40, 10, 40, 40))
    assert {vector[1] for vector in logistic_starts(labelled(), START, fixed)} == {10}


def test_high_scores_may_mean_to_leave() -> None:
    for_, against = (logistic_starts(labelled(), START, WIDE, sign=sign) for sign in (1, -1))
    assert against[-1] == tuple(-weight for weight in for_[-1])


def test_a_column_on_another_scale_has_its_weight_on_another_scale() -> None:
    wide = SearchSpace(NAMES, (-400,) * 4, (400,) * 4)
    mixed = VALUES.astype(np.int64) * [1, 4, 1, 1]
    alike = np.array(logistic_starts(labelled(), START, wide)[-1])
    other = np.array(logistic_starts(Labelled(tuple(mixed.T), STAYED), START, wide)[-1])
    assert other * [1, 4, 1, 1] == pytest.approx(alike, abs=3)


def test_bins_are_lifted_to_the_scores_of_the_start() -> None:
    """Points of bins that are 0 or more give the mean score that the start gives."""
    place = DRAW.integers(0, 3, N)
    bins = [(place == b).astype(np.int16) * 10_000 for b in range(3)]
    stayed = DRAW.random(N) < np.array([0.2, 0.5, 0.8])[place]
    levers = SearchSpace(("x0", "x1", "x2"), (0,) * 3, (60,) * 3)
    start = (20, 30, 20)
    [first, *_] = logistic_starts(Labelled(tuple(bins), stayed), start, levers, groups=[(0, 1, 2)])
    values = np.stack(bins, axis=1) / 10_000
    assert first[0] < first[1] < first[2]
    assert min(first) >= 0
    assert (values @ first).mean() == pytest.approx((values @ start).mean(), abs=1)


@pytest.mark.parametrize(
    "constraints",
    [WeightConstraints(total=40), WeightConstraints(most_nonzero=2)],
    ids=["total", "nonzero"],
)
def test_constraints_are_kept(constraints: WeightConstraints) -> None:
    start = START if constraints.total else (10, 10, 0, 0)
    found = logistic_starts(labelled(), start, WIDE, constraints=constraints)
    assert found
    assert all(constraints.hold(vector) for vector in found)


@pytest.mark.parametrize(
    "stayed",
    [np.ones(N, bool), np.zeros(N, bool), np.zeros(0, bool)],
    ids=["stayed", "left", "nobody"],
)
def test_nothing_is_fitted_where_all_stayed_or_left(stayed: np.ndarray) -> None:
    columns = tuple(column[: len(stayed)] for column in VALUES.T)
    assert logistic_starts(Labelled(columns, stayed), START, WIDE) == ()


def test_the_order_of_accounts_changes_no_weight() -> None:
    order = DRAW.permutation(N)
    shuffled = Labelled(tuple(VALUES[order].T), STAYED[order])
    assert logistic_starts(shuffled, START, WIDE) == logistic_starts(labelled(), START, WIDE)
