"""Logistic regression by our own Newton steps: as scikit-learn's, whatever the order and blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from gtmar.stats.logistic import Part, fit_levels, fit_logistic

DRAW = np.random.default_rng(5)
X = DRAW.random((500, 4))
Y = (DRAW.random(500) < 1 / (1 + np.exp(2 - 4 * X[:, 0] + 2 * X[:, 1]))).astype(float)


@pytest.mark.parametrize("ridge", [0.1, 1.0, 50.0])
def test_coefficients_are_scikit_learns(ridge: float) -> None:
    found = fit_logistic(lambda: [(X, Y)], ridge * np.eye(4))
    theirs = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(X, Y)
    assert found.coefficients == pytest.approx(theirs.coef_[0], abs=1e-5)
    assert found.solution[0] == pytest.approx(theirs.intercept_[0], abs=1e-5)


def test_blocks_order_and_start_change_no_digit() -> None:
    whole = fit_logistic(lambda: [(X, Y)], np.eye(4)).coefficients
    order = DRAW.permutation(500)
    blocks = [(X[order][:7], Y[order][:7]), (X[order][7:], Y[order][7:])]
    parts = fit_logistic(lambda: blocks, np.eye(4), start=np.array([3.0, -2, 1, 0, 5]))
    assert (parts.coefficients == whole).all()


def test_what_parts_all_outcomes_has_finite_coefficients() -> None:
    x = np.array([[0.0], [0], [1], [1]])
    found = fit_logistic(lambda: [(x, x[:, 0])], np.array([[0.01]]))
    assert np.isfinite(found.coefficients).all()
    assert found.coefficients[0] > 3


def test_a_share_counts_as_so_much_of_an_event() -> None:
    twice = np.concatenate([X, X])
    halves = np.full(500, 0.25)
    apart = np.concatenate([np.zeros(500), halves * 2])
    one = fit_logistic(lambda: [(X, halves)], np.eye(4)).coefficients
    two = fit_logistic(lambda: [(twice, apart)], 2 * np.eye(4)).coefficients
    assert one == pytest.approx(two, abs=1e-6)


def test_covariance_is_that_of_the_information() -> None:
    found = fit_logistic(lambda: [(X, Y)], np.eye(4))
    full = np.column_stack([np.ones(500), X])
    chance = 1 / (1 + np.exp(-(full @ found.solution)))
    information = full.T @ (full * (chance * (1 - chance))[:, None])
    information[1:, 1:] += np.eye(4)
    assert found.covariance == pytest.approx(np.linalg.inv(information)[1:, 1:], rel=1e-5)


def test_a_line_bends_where_that_is_found_out_slowly() -> None:
    """Of columns that go together, one bends; twelve rounds leave all three straight."""
    rng = np.random.default_rng(4)
    z = rng.normal(size=(3_000, 3))
    values = [np.exp(z[:, 0]), *(np.exp(0.9 * z[:, 0] + 0.4 * z[:, at]) for at in (1, 2))]
    y = (rng.random(3_000) < 1 / (1 + np.exp(0.8 - 0.15 * z[:, 0]))).astype(float)
    knots = [np.quantile(each, np.linspace(0, 1, 16)) for each in values]
    fits = fit_levels(list(map(Part.of_line, values, knots)), y)
    slopes = [np.diff(fit.levels) / np.diff(at) for fit, at in zip(fits, knots, strict=True)]
    assert [bool(np.ptp(each) > 1e-4) for each in slopes] == [False, True, False]


def test_a_line_steps_by_as_much_as_was_planted_and_no_other() -> None:
    rng = np.random.default_rng(6)
    x, z = rng.random((2, 5_000))
    y = (rng.random(5_000) < 1 / (1 + np.exp(1 - x - 1.2 * (x >= 0.9)))).astype(float)
    knots, places = np.linspace(0, 1, 16), [0.1, 0.5, 0.9, 0.95]
    one, other = fit_levels([Part.of_line(each, knots, places) for each in (x, z)], y)
    assert list(one.steps) == [0.9]
    assert one.steps[0.9] == pytest.approx(1.2, abs=0.35)
    assert not other.steps
    assert len(one.levels) == len(knots)


def test_a_step_that_is_expected_takes_the_proof_of_one_place_and_is_there_if_it_is() -> None:
    rng = np.random.default_rng(9)
    x, z = rng.random((2, 3_000))
    y = (rng.random(3_000) < 1 / (1 + np.exp(0.4 - 0.6 * (x >= 0.5)))).astype(float)
    knots, places = np.linspace(0, 1, 16), np.linspace(0.01, 0.99, 99).round(2).tolist()
    parts = [Part.of_line(each, knots, places) for each in (x, z)]
    assert [fit.steps for fit in fit_levels(parts, y)] == [{}, {}]
    one, other = fit_levels([replace(part, expected=(0.5,)) for part in parts], y)
    assert list(one.steps) == [0.5]
    assert not other.steps


def test_a_fit_that_ends_before_its_optimum_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit_logistic(lambda: [(X, Y)], np.eye(4)).converged
    x = np.repeat([0.0, 1.0], 200)
    y = np.concatenate([np.arange(200) % 10 == 0, np.arange(200) % 10 > 0]).astype(float)
    assert fit_levels([Part.of_flag(x)], y)[0].proven
    monkeypatch.setattr("gtmar.stats.logistic._MOST_ROUNDS", 1)
    assert not fit_logistic(lambda: [(X, Y)], np.eye(4)).converged
    assert not fit_levels([Part.of_flag(x)], y)[0].proven
