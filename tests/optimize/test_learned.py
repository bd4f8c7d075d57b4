"""What `learned` keeps, and in which order it takes what a block offers."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from gtmar.optimize.constraints import ConstrainedProposer, WeightConstraints
from gtmar.optimize.hill_climb import Climb, Outcome, Step
from gtmar.optimize.proposers import Proposer, Result, SearchSpace
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


def rough(weights: Sequence[int]) -> float:
    """An objective without any order."""
    drawn = hashlib.sha256(bytes(weight % 256 for weight in weights)).digest()
    return drawn[0] / 256 + drawn[1] / 65536


def climbed(
    space: SearchSpace, constraints: WeightConstraints, sizes: Sequence[int], experiments: int
) -> tuple[list[Step], int]:
    """Search by batches of some sizes in turn; return all steps, and the largest batch."""
    proposer: Proposer = LearnedProposer(space, seed=4, sign=1)
    if constraints:
        proposer = ConstrainedProposer(proposer, constraints, space)
    start = tuple((low + high) // 2 for low, high in zip(space.lows, space.highs, strict=True))
    climb = Climb(proposer, start, rough(start), better=lambda a, _: (a or 0) > 0.97)
    steps: list[Step] = []
    largest = 0
    while climb.experiments < experiments and not climb.exhausted:
        limit = min(sizes[len(steps) % len(sizes)], experiments - climb.experiments)
        batch = climb.ask(limit)
        # What was asked and not told has no effect.
        climb.ask(limit + 3)
        assert climb.ask(limit) == batch
        largest = max(largest, len(batch.candidates))
        steps += climb.tell(batch, [rough(c.weights) for c in batch.fresh], lambda _: ())
    return steps, largest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "constraints"),
    [
        (SearchSpace(tuple("abcdef"), (-9,) * 6, (20,) * 6), WeightConstraints()),
        # Few vectors: many proposals are known already, the start among them.
        (SearchSpace(tuple("abc"), (0, 0, 2), (15, 15, 2)), WeightConstraints()),
        # What is tried is not always what was proposed.
        (SearchSpace(tuple("abcd"), (0,) * 4, (12,) * 4), WeightConstraints(total=24)),
    ],
)
def test_blocks_that_go_on_bring_the_same_steps(
    space: SearchSpace, constraints: WeightConstraints
) -> None:
    """A block of random moves is asked for with the one before, which may bring a win."""
    one, largest = climbed(space, constraints, [1], 250)
    assert largest <= 1
    assert 1 < [step.outcome for step in one].count(Outcome.WIN) < 20
    for sizes in ([64], [8, 11, 3]):
        steps, largest = climbed(space, constraints, sizes, 250)
        assert steps == one
        assert largest > 8
