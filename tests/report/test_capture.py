"""Capture curves against a plain reference: the mean over orders of who is tied."""

import random
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec

from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.metrics import measure
from gtmar.report.account_table import GRID, Capture, capture_of


def reference(scores: list[int], amounts: list[int], share: Fraction, *, risk: bool) -> Fraction:
    """Return what the best-scored share captures, account by account, ties in part."""
    total, left, captured = sum(amounts), share * len(scores), Fraction(0)
    for score in sorted(set(scores), reverse=not risk):
        tied = [a for s, a in zip(scores, amounts, strict=True) if s == score]
        part = min(Fraction(1), max(Fraction(0), left) / len(tied))
        captured += part * sum(tied)
        left -= len(tied)
    return captured / total


def curves(
    *, seed: int, orientation: str, drop: tuple[str, ...] = ()
) -> tuple[Capture, pl.DataFrame]:
    spec = make_spec(orientation=orientation, split={"holdout": 0})
    accounts = load_accounts(scan(make_accounts(90, seed)), spec)
    evaluator = LocalEvaluator(accounts.search, spec)
    weights = [term.weight for term in spec.terms]
    other = [weight // 2 for weight in weights]
    scores = [evaluator.scores(weights), evaluator.scores(other)]
    found = capture_of(accounts.search, scores, risk=orientation == "risk")
    assert found is not None
    measured = measure(
        evaluator.frame([weights, other]), spec.tier_names, accounts.checked.outcomes
    )
    return found, measured.values


@pytest.mark.parametrize("orientation", ["health", "risk"])
@pytest.mark.parametrize("seed", range(5))
def test_at_a_fifth_it_is_the_metric(seed: int, orientation: str) -> None:
    found, values = curves(seed=seed, orientation=orientation)
    at = int(np.flatnonzero(GRID == 0.2)[0])
    metric = values["revenue_capture_at_20"]
    assert found.of == "MRR"
    assert found.start[at] == pytest.approx(metric[0], abs=1e-12)
    assert found.best[at] == pytest.approx(metric[1], abs=1e-12)
    ceiling = values["revenue_capture_ceiling"][0]
    assert found.perfect[at] == pytest.approx(ceiling, abs=1e-12)


@pytest.mark.parametrize("risk", [False, True])
def test_without_mrr_it_captures_retained_accounts(risk: bool) -> None:
    spec = make_spec(orientation="risk" if risk else "health", split={"holdout": 0})
    table = make_accounts(80, 3, former=0).drop("mrr", "mrr_end", "actual_ltv")
    accounts = load_accounts(scan(table), spec)
    draw = random.Random(1)
    scores = np.array([draw.randrange(6) for _ in range(accounts.search.accounts)], dtype=np.int64)
    found = capture_of(accounts.search, [scores, scores], risk=risk)
    assert found is not None
    assert found.of == "retained accounts"
    assert found.accounts == 80
    kept = int(table["retained_6mo"].sum())
    amounts = [0] * (80 - kept) + [1] * kept
    for share, value in zip(GRID, found.start, strict=True):
        exact = reference(scores.tolist(), amounts, Fraction(round(share * 200), 200), risk=risk)
        assert value == pytest.approx(float(exact), abs=1e-12)
    perfect = np.minimum(1, GRID * 80 / kept)
    # The corner at the share of retained accounts lies between two points of the grid.
    assert np.abs(found.perfect - perfect).max() < 1e-12


def test_nothing_to_capture_gives_no_curve() -> None:
    spec = make_spec(split={"holdout": 0})
    table = make_accounts(30, 1, former=0).drop("retained_6mo", "churned", "mrr", "mrr_end")
    accounts = load_accounts(scan(table), spec, drop_unlabelled=True)
    scores = np.zeros(accounts.search.accounts, dtype=np.int64)
    assert capture_of(accounts.search, [scores, scores], risk=False) is None
