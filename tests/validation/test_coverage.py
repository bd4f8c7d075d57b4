"""A small form of the coverage benchmark: intervals that are too narrow or too wide fail it."""

from __future__ import annotations

from collections import Counter

import pytest
from benchmarks.interval_coverage import measured, rows

TABLES, ACCOUNTS = 60, 2_500


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = {key: i.value or 0.0 for key, i in rows(measured(200_000, 999, replicates=0)).items()}
    covered: Counter[tuple[str, str]] = Counter()
    widths: Counter[tuple[str, str]] = Counter()
    for seed in range(TABLES):
        for key, interval in rows(measured(ACCOUNTS, seed, replicates=200)).items():
            assert interval.low is not None
            assert interval.high is not None
            covered[key] += interval.low <= truth[key] <= interval.high
            widths[key] += (interval.high - interval.low) / 2 > abs(interval.low - truth[key]) / 9
    for key in truth:
        # At 95 % fewer than 50 of 60 come once in 10,000 times; at 80 % they are the rule.
        assert covered[key] >= 50, key
    # All together are 22 kinds: at 95 % some 57 of 60 each; were they half as wide, some 40.
    assert 54 <= sum(covered.values()) / len(truth) <= 59.5
