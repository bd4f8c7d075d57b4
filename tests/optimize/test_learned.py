"""What `learned` keeps, and in which order it takes what a block offers."""

import numpy as np
import pytest

from gtmar.optimize.proposers import Result, SearchSpace
from gtmar.optimize.surrogate_proposer import LearnedProposer, _falling, _Latest, _rows


def test_moves_come_in_the_order_of_a_stable_sort() -> None:
    source = np.random.default_rng(0)
    heights = source.integers(-3, 4, 200) / 2.0
    vectors = np.arange(400).reshape(200, 2)
    expected = vectors[np.argsort(-heights, kind="stable")].tolist()
    assert [list(vector) for vector in _falling(vectors, heights.copy())] == expected


@pytest.mark.parametrize("count", [0, 1, 8, 9, 32])
def test_rows_are_all_given_in_order(count: int) -> None:
    vectors = np.arange(2 * count).reshape(count, 2)
    assert list(_rows(vectors)) == [tuple(row) for row in vectors.tolist()]


@pytest.mark.parametrize("asked_every", [1, 2, 5, 6, 14])
def test_the_latest_results_take_the_places_of_the_oldest(asked_every: int) -> None:
    latest, most = _Latest(3, 2), 3
    for number in range(14):
        latest.add((number, -number), number / 2)
        if number % asked_every and number < 13:
            continue
        # The place of each is its number, counted round.
        last = [
            max(n for n in range(number + 1) if n % most == p) for p in range(min(number, 2) + 1)
        ]
        vectors, values, filled = latest.arrays
        assert filled == len(last)
        assert values[:filled].tolist() == [n / 2 for n in last]
        assert vectors[:, :filled].tolist() == [last, [-n for n in last]]


def test_proposals_change_no_weight_that_is_fixed_and_keep_the_bounds() -> None:
    levers = SearchSpace(("a", "b", "c"), (0, 4, -90), (70, 4, 90))
    proposer = LearnedProposer(levers, seed=2, sign=1)
    here, seen = (60, 4, -50), set()
    for number in range(1, 65):
        changes = proposer.propose(number, here)
        weights = tuple(changes.get(i, old) for i, old in enumerate(here))
        assert changes
        assert 1 not in changes
        assert 0 <= weights[0] <= 70
        assert -90 <= weights[2] <= 90
        assert weights not in seen
        seen.add(weights)
        proposer.learn(Result(number, here, weights, 0.5, weights[0] / 400, won=False))
