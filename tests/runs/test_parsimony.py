"""The parsimony curve: planted features stay, noise goes, and each AUC is out of fold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from gtmar.runs.simplify import parsimony

SIGNALS, NOISE = 3, 9
NAMES = [*(f"s{i}" for i in range(SIGNALS)), *(f"n{i}" for i in range(NOISE))]


def planted(seed: int, accounts: int = 2_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = np.floor(random.random((accounts, SIGNALS + NOISE)) * 10_000)
    logit = (x[:, :SIGNALS] / 10_000 - 0.5) @ np.array([3.0, 2.5, 2.0])
    stayed = random.random(accounts) < 1 / (1 + np.exp(-logit))
    return x, stayed, np.arange(accounts)


def test_noise_goes_and_what_was_planted_stays() -> None:
    kept = []
    for seed in range(5):
        x, stayed, groups = planted(seed)
        curve = parsimony(x, NAMES, stayed, groups)
        assert [size.features for size in curve.sizes] == [*range(SIGNALS + NOISE, 0, -1)]
        left = curve.kept(NAMES)
        assert {*NAMES[:SIGNALS]} <= {*left}
        kept.append(len(left) - SIGNALS)
    # One standard error lets a feature of noise stay now and then.
    assert sum(kept) <= 5
    assert max(kept) < NOISE


def test_each_size_is_judged_by_accounts_that_neither_chose_nor_fitted_it() -> None:
    x, stayed, groups = planted(7)
    curve = parsimony(x, NAMES, stayed, groups)
    scaled = x / np.ptp(x, axis=0)
    aucs = []
    for fold in range(5):
        out = groups % 5 == fold
        # A penalty of 1 on each coefficient is scikit-learn's C of 1.
        model = LogisticRegression(C=1.0, max_iter=5_000, tol=1e-10).fit(scaled[~out], stayed[~out])
        aucs.append(roc_auc_score(stayed[out], model.decision_function(scaled[out])))
    assert curve.sizes[0].auc == pytest.approx(np.mean(aucs), abs=2e-5)


def test_on_noise_alone_no_size_looks_good() -> None:
    random = np.random.default_rng(3)
    x = np.floor(random.random((1_000, 8)) * 10_000)
    stayed = random.random(1_000) < 0.7
    curve = parsimony(x, [f"n{i}" for i in range(8)], stayed, np.arange(1_000))
    assert all(size.auc is not None and size.auc < 0.56 for size in curve.sizes)
    assert curve.chosen <= 4


def test_columns_of_one_feature_go_together_and_some_features_never() -> None:
    x, stayed, groups = planted(11)
    features = ["a", "a", "a", *NAMES[3:]]
    curve = parsimony(x, features, stayed, groups, always=["n0"])
    out = [size.next_out for size in curve.sizes]
    assert out.count("a") <= 1
    assert "n0" not in out
    assert {"a", "n0"} <= {*curve.kept(list(dict.fromkeys(features)))}


def test_columns_that_know_outcomes_are_encoded_without_the_fold_that_judges_them() -> None:
    random = np.random.default_rng(5)
    levels, stayed = random.integers(0, 40, (4, 1_000)), random.random(1_000) < 0.5

    def encoded(some: np.ndarray) -> np.ndarray:
        rates = [
            np.bincount(own[some], stayed[some], 40) / np.bincount(own[some], minlength=40)
            for own in levels
        ]
        return np.stack([rate[own] for rate, own in zip(rates, levels, strict=True)], axis=1)

    x = encoded(np.ones(1_000, dtype=bool))
    names, groups = ["a", "b", "c", "d"], np.arange(1_000)
    seen, unseen = (parsimony(x, names, stayed, groups, encoded=e) for e in (None, encoded))
    assert (seen.sizes[0].auc or 0) > 0.6
    assert (unseen.sizes[0].auc or 0) < 0.54


def test_folds_of_one_class_say_nothing() -> None:
    x, _, groups = planted(2, 30)
    stayed = np.arange(30) > 0
    curve = parsimony(x[:30], NAMES, stayed, groups)
    assert curve.sizes[0].auc is None
    assert curve.kept(NAMES) == tuple(NAMES)
