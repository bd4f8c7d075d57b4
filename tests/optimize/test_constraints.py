"""What weights hold together: every proposal keeps it, at the expense of weights left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gtmar.optimize.constraints import ConstrainedProposer, WeightConstraints
from gtmar.optimize.logistic_start import Labelled, logistic_starts
from gtmar.optimize.proposers import RandomProposer, Result, SearchSpace
from gtmar.optimize.surrogate_proposer import LearnedProposer

if TYPE_CHECKING:
    from collections.abc import Sequence

Position = tuple[SearchSpace, list[int], WeightConstraints]


@st.composite
def positions(draw: st.DrawFn) -> Position:
    """Draw bounds, weights within them, and constraints that these weights keep."""
    width = draw(st.integers(2, 7))
    lows = draw(st.lists(st.integers(-30, 5), min_size=width, max_size=width))
    highs = [low + draw(st.integers(0, 40)) for low in lows]
    weights = [draw(st.integers(low, high)) for low, high in zip(lows, highs, strict=True)]
    assume(any(low < high for low, high in zip(lows, highs, strict=True)))
    nonzero = sum(weight != 0 for weight in weights)
    most = draw(st.none() | st.integers(max(1, nonzero), width))
    total = draw(st.none() | st.just(sum(weights)))
    levers = SearchSpace(tuple(f"w{i}" for i in range(width)), tuple(lows), tuple(highs))
    return levers, weights, WeightConstraints(total, most)


@given(position=positions(), seed=st.integers(0, 2**32), number=st.integers(1, 2**40))
def test_every_proposal_keeps_constraints_and_bounds(
    position: Position, seed: int, number: int
) -> None:
    levers, weights, constraints = position
    proposer = ConstrainedProposer(RandomProposer(levers, seed=seed), constraints, levers)
    changes = proposer.propose(number, weights)
    assert changes == proposer.propose(number, weights)
    candidate = [changes.get(i, weight) for i, weight in enumerate(weights)]
    assert constraints.hold(candidate)
    for index, weight in changes.items():
        assert weight != weights[index]
        assert levers.lows[index] <= weight <= levers.highs[index]
        assert levers.lows[index] < levers.highs[index], "a fixed weight moved"


@st.composite
def orders(draw: st.DrawFn) -> Position:
    """Draw weights of which two groups are in order, some of them fixed, and a total perhaps."""
    size, other, alone = (draw(st.integers(*ends)) for ends in ((2, 6), (0, 4), (0, 2)))
    width = size + other + alone
    weights = [
        *sorted(draw(st.lists(st.integers(-9, 20), min_size=size, max_size=size))),
        *sorted(draw(st.lists(st.integers(0, 20), min_size=other, max_size=other)), reverse=True),
        *draw(st.lists(st.integers(-9, 20), min_size=alone, max_size=alone)),
    ]
    lows = [weight - draw(st.sampled_from((0, 1, 5, 25))) for weight in weights]
    highs = [weight + draw(st.sampled_from((0, 2, 25))) for weight in weights]
    assume(any(low < high for low, high in zip(lows, highs, strict=True)))
    groups = (tuple(range(size)), tuple(range(size, size + other))[::-1])
    total = draw(st.none() | st.just(sum(weights)))
    most = draw(st.none() | st.just(max(1, sum(w != 0 for w in weights))))
    space = SearchSpace(tuple(f"w{i}" for i in range(width)), tuple(lows), tuple(highs))
    return space, weights, WeightConstraints(total, most, groups)


def in_order(space: SearchSpace, groups: Any, weights: Sequence[int]) -> bool:
    """Whether weights keep order and bounds, said in another way than by the code."""
    sequences = [[weights[i] for i in group] for group in groups]
    inside = all(
        low <= w <= high for low, w, high in zip(space.lows, weights, space.highs, strict=True)
    )
    return inside and all(each == sorted(each) for each in sequences)


@pytest.mark.slow
@pytest.mark.parametrize("learned", [False, True], ids=["random", "learned"])
@given(position=orders(), seed=st.integers(0, 2**32), draw=st.data())
def test_every_candidate_keeps_the_order_and_what_is_fixed(
    learned: bool, position: Position, seed: int, draw: st.DataObject
) -> None:
    space, weights, constraints = position
    proposer = ConstrainedProposer(
        LearnedProposer(space, seed=seed, sign=1) if learned else RandomProposer(space, seed=seed),
        constraints,
        space,
    )
    for number in range(1, 13):
        changes = proposer.propose(number, weights)
        candidate = [changes.get(i, weight) for i, weight in enumerate(weights)]
        assert in_order(space, constraints.ordered, candidate)
        assert constraints.hold(candidate)
        won = bool(changes) and draw.draw(st.booleans())
        result = Result(number, tuple(weights), tuple(candidate), 0.5, 0.5 + won / 10, won=won)
        proposer.learn(result)
        weights = candidate if won else weights


@given(position=orders(), seed=st.integers(0, 99))
def test_fitted_starts_keep_the_order_and_what_is_fixed(position: Position, seed: int) -> None:
    space, weights, constraints = position
    draw = np.random.default_rng(seed)
    values = (draw.random((60, len(weights))) * 10_000).astype(np.int16)
    stayed = draw.random(60) < 0.5
    for vector in logistic_starts(
        Labelled(tuple(values.T), stayed), weights, space, constraints=constraints
    ):
        assert in_order(space, constraints.ordered, vector)
        assert constraints.hold(vector)


def test_neighbours_follow_and_contradictions_meet_in_the_mean() -> None:
    space = SearchSpace(tuple("abcd"), (0, 0, 0, 0), (25, 25, 25, 9))
    order = WeightConstraints(ordered=((0, 1, 2, 3),))
    assert order.kept((1, 2, 3, 4), {0: 3}, space, first=0) == {0: 3, 1: 3}
    assert order.kept((1, 2, 3, 4), {3: 2}, space, first=0) == {2: 2, 3: 2}
    assert order.kept((1, 2, 3, 4), {1: 9, 2: 4}, space, first=0) == {1: 7, 2: 7, 3: 7}
    # The last one's bound is every one's.
    assert order.kept((1, 2, 3, 4), {0: 20}, space, first=0) == {0: 9, 1: 9, 2: 9, 3: 9}


@pytest.mark.parametrize("learned", [False, True], ids=["random", "learned"])
def test_an_order_leaves_most_proposals_something_new(learned: bool) -> None:
    space = SearchSpace(tuple("abcdefgh"), (0,) * 8, (25,) * 8)
    order = WeightConstraints(ordered=(tuple(range(8)),))
    proposer = LearnedProposer(space, seed=1, sign=1) if learned else RandomProposer(space, seed=1)
    whole = ConstrainedProposer(proposer, order, space)
    weights = [0, 1, 3, 4, 5, 6, 8, 10]
    assert sum(bool(whole.propose(number, weights)) for number in range(1, 9)) == 8


def test_a_fixed_neighbour_is_in_the_way() -> None:
    space = SearchSpace(tuple("abc"), (0, 5, 0), (25, 5, 25))
    order = WeightConstraints(ordered=((0, 1, 2),))
    assert order.kept((1, 5, 9), {0: 8, 2: 2}, space, first=0) == {0: 5, 2: 5}


def test_a_total_is_settled_in_order() -> None:
    space = SearchSpace(tuple("abc"), (0, 0, 0), (25, 25, 25))
    both = WeightConstraints(total=9, ordered=((0, 1, 2),))
    assert both.kept((3, 3, 3), {2: 7}, space, first=0) == {0: 1, 1: 1, 2: 7}
    # The second can give a point only once the first has.
    assert both.kept((3, 3, 3), {2: 6}, space, first=1) == {0: 1, 1: 2, 2: 6}


@given(position=positions(), seed=st.integers(0, 2**32), number=st.integers(1, 2**40))
def test_what_was_proposed_stays_where_the_others_can_make_up_for_it(
    position: Position, seed: int, number: int
) -> None:
    levers, weights, _ = position
    total = sum(weights)
    proposed = RandomProposer(levers, seed=seed).propose(number, weights)
    moved = sum(new - weights[i] for i, new in proposed.items())
    alone = [i for i in levers.free if i not in proposed]
    below = sum(weights[i] - levers.lows[i] for i in alone)
    above = sum(levers.highs[i] - weights[i] for i in alone)
    room = below if moved > 0 else above
    assume(room >= abs(moved))
    kept = WeightConstraints(total=total).kept(weights, proposed, levers, first=number)
    assert {i: kept[i] for i in proposed} == proposed
    # Nothing is moved that needn't be.
    assert sum(abs(new - weights[i]) for i, new in kept.items() if i not in proposed) == abs(moved)


def test_points_are_taken_one_each_in_turn_from_where_the_round_begins() -> None:
    levers = SearchSpace(tuple("abcd"), (0, 0, 0, 0), (25, 25, 25, 25))
    changes = WeightConstraints(total=20).kept((5, 5, 5, 5), {0: 9}, levers, first=2)
    assert changes == {0: 9, 2: 3, 3: 4, 1: 4}


def test_points_stop_at_the_bounds() -> None:
    levers = SearchSpace(tuple("abc"), (0, 4, 0), (25, 25, 25))
    assert WeightConstraints(total=15).kept((5, 5, 5), {0: 10}, levers, first=1) == {
        0: 10,
        1: 4,
        2: 1,
    }


def test_the_proposed_weight_itself_gives_way_last() -> None:
    levers = SearchSpace(tuple("abc"), (0, 4, 5), (25, 25, 25))
    assert WeightConstraints(total=15).kept((5, 5, 5), {0: 10}, levers, first=0) == {0: 6, 1: 4}


def test_the_smallest_of_the_others_go_to_nothing() -> None:
    levers = SearchSpace(tuple("abcd"), (-9, -9, -9, -9), (9, 9, 9, 9))
    constraints = WeightConstraints(most_nonzero=3)
    assert constraints.kept((5, -2, 3, 0), {3: 1}, levers, first=0) == {3: 1, 1: 0}


def test_what_cant_be_kept_is_no_proposal() -> None:
    # One weight can't move where the only other one is fixed.
    levers = SearchSpace(tuple("ab"), (0, 5), (25, 5))
    assert WeightConstraints(total=10).kept((5, 5), {0: 9}, levers, first=0) == {}
    levers = SearchSpace(tuple("ab"), (0, 1), (25, 5))
    assert WeightConstraints(most_nonzero=1).kept((0, 3), {0: 2}, levers, first=0) in ({0: 0}, {})


def test_a_total_out_of_reach_once_a_weight_has_gone_is_no_proposal() -> None:
    levers = SearchSpace(tuple("abc"), (0, 3, 0), (1, 3, 2))
    assert WeightConstraints(5, 2).kept((0, 3, 2), {0: 1}, levers, first=0) == {}


@pytest.mark.parametrize("constraints", [WeightConstraints(), WeightConstraints(total=None)])
def test_no_constraint_is_false(constraints: WeightConstraints) -> None:
    assert not constraints
    assert WeightConstraints(total=0)


def test_the_proposer_within_learns_what_was_really_tried() -> None:
    told: list[Result] = []

    class Listener(RandomProposer):
        block: int | None = 8

        def learn(self, result: Result) -> None:
            told.append(result)

    levers = SearchSpace(tuple("ab"), (0, 0), (9, 9))
    proposer = ConstrainedProposer(Listener(levers, seed=1), WeightConstraints(total=9), levers)
    assert (proposer.name, proposer.block) == ("random", 8)
    result = Result(1, (4, 5), (5, 4), 0.5, 0.6, won=True)
    proposer.learn(result)
    assert told == [result]
