"""A small form of the coverage benchmark: intervals that are too narrow or too wide fail it."""

from __future__ import annotations

from collections import Counter

import pytest
from benchmarks.interval_coverage import measured, rows

TABLES, ACCOUNTS = 40, 2_000


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = {key: i.value or 0.0 for key, i in rows(measured(100_000, 999, replicates=0)).items()}
    covered: Counter[tuple[str, str]] = Counter()
    for seed in range(TABLES):
        for key, interval in rows(measured(ACCOUNTS, seed, replicates=100)).items():
            assert interval.low is not None
            assert interval.high is not None
            covered[key] += interval.low <= truth[key] <= interval.high
    for key in truth:
        # At 95 % fewer than 33 of 40 come seven in 10,000 times; at 80 % they are the rule.
        assert covered[key] >= 33, key
    # All together are 22 kinds: at 95 % some 38 of 40 each; were they half as wide, some 27.
    assert 36 <= sum(covered.values()) / len(truth) <= 39.7
