"""Monotone shares against scikit-learn's isotonic regression, which gtmar did not write."""

import random
from fractions import Fraction

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from gtmar.stats.isotonic import Pool, few_steps, pooled


def drawn(seed: int, values: int = 40) -> list[Pool]:
    draw = random.Random(seed)
    lows = sorted(draw.sample(range(1_000), values))
    totals = [draw.randint(1, 30) for _ in lows]
    return [Pool(low, draw.randint(0, n), n) for low, n in zip(lows, totals, strict=True)]


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_shares_are_those_of_scikit_learn(seed: int, rising: bool) -> None:
    steps = drawn(seed)
    found = pooled(steps, rising=rising)
    model = IsotonicRegression(increasing=rising)
    shares = [float(step.share) for step in steps]
    expected = model.fit_transform(
        [step.low for step in steps], shares, sample_weight=[step.total for step in steps]
    )
    lows = [step.low for step in found]
    own = [float(found[np.searchsorted(lows, step.low, side="right") - 1].share) for step in steps]
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-12)
    assert sum(s.hits for s in found) == sum(s.hits for s in steps)


def test_equal_shares_are_one_step_and_order_is_strict() -> None:
    found = pooled([Pool(0, 1, 2), Pool(5, 2, 4), Pool(9, 3, 4)], rising=True)
    assert found == [Pool(0, 3, 6), Pool(9, 3, 4)]


def test_few_steps_keep_counts_order_and_size() -> None:
    draw = random.Random(3)
    steps = pooled((Pool(low, draw.randint(low, low + 9), 60) for low in range(50)), rising=True)
    assert len(steps) > 8
    found = few_steps(steps, most=6, least=100)
    assert len(found) <= 6
    assert min(step.total for step in found) >= 100
    assert sum(step.total for step in found) == sum(step.total for step in steps)
    shares = [step.share for step in found]
    assert shares == sorted(shares)
    assert found[0].low == steps[0].low


def test_the_nearest_neighbours_are_joined_first() -> None:
    steps = [Pool(0, 1, 10), Pool(1, 2, 10), Pool(2, 9, 10)]
    assert few_steps(steps, most=2, least=1) == [Pool(0, 3, 20), Pool(2, 9, 10)]


def test_a_small_step_joins_the_neighbour_that_it_is_like() -> None:
    steps = [Pool(0, 10, 100), Pool(1, 1, 2), Pool(2, 60, 100)]
    assert few_steps(steps, most=9, least=50) == [Pool(0, 10, 100), Pool(1, 61, 102)]


def test_few_accounts_end_as_one_step() -> None:
    assert few_steps([Pool(0, 1, 3), Pool(4, 2, 3)], most=9, least=50) == [Pool(0, 3, 6)]
    assert Pool(0, 3, 6).share == Fraction(1, 2)
