"""Wilson's interval against scipy's."""

import pytest
from scipy.stats import binomtest

from gtmar.stats.interval import wilson


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (0, 50), (50, 50), (8, 10), (601, 627), (1, 10**7)]
)
def test_it_is_the_interval_of_scipy(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_trial_gives_no_interval() -> None:
    assert wilson(0, 0) is None


@pytest.mark.parametrize("level", [0.95, 0.975, 0.9977])
def test_shares_of_none_and_of_all_are_within_their_intervals(level: float) -> None:
    for trials in range(1, 300):
        none, everybody = wilson(0, trials, level=level), wilson(trials, trials, level=level)
        assert none is not None
        assert everybody is not None
        assert (none[0], everybody[1]) == (0.0, 1.0)
