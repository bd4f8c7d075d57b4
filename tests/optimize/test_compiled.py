"""Machine code calculates what numpy does, bit by bit."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest

from gtmar.objective.objective import better
from gtmar.optimize import surrogate
from gtmar.optimize.constraints import ConstrainedProposer, WeightConstraints
from gtmar.optimize.hill_climb import Climb
from gtmar.optimize.proposers import SearchSpace, Stream
from gtmar.optimize.surrogate import TUNING, Bounds, Fence, Knowledge, Options, Surface
from gtmar.optimize.surrogate_proposer import LearnedProposer

# Compiling takes half a minute.
pytestmark = pytest.mark.slow

SIZES = [1, 2, 3, 14, 60]
RANKED = np.array([2, 4, 6])


@pytest.fixture(scope="module", autouse=True)
def _machine_code() -> None:
    """Wait for the compiler, as no search does; of several workers one has these tests."""
    surrogate.MACHINE_CODE.compile()


@contextmanager
def numpy_alone() -> Iterator[None]:
    """Work as in a process that hasn't loaded numba."""
    with pytest.MonkeyPatch.context() as hidden:
        hidden.delitem(sys.modules, "numba", raising=False)
        assert surrogate.machine_code() is None
        yield


@cache
def compiled(name: str) -> Any:
    """Return a part of the surrogate as machine code."""
    assert surrogate.machine_code() is not None
    function = surrogate.machine_names()[name].py_func
    return numba.njit(cache=True, **surrogate.SETTINGS)(function)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    source = np.random.default_rng(seed)
    return source.normal(size=shape) * 10.0 ** source.integers(-3, 4, size=shape)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare all bits, but those that tell 0 from -0: nothing here divides by them."""
    assert found.shape == expected.shape
    one, two = (np.ascontiguousarray(values) + 0.0 for values in (found, expected))
    assert one.tobytes() == two.tobytes()


# ---- its parts ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1), (14, 64, 8), (64, 14, 64), (5, 7, 9), (3, 0, 2)])
def test_products_have_the_same_bits(shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    left, right = drawn(inner, rows), drawn(inner, columns, seed=1)
    found = compiled("product")(left, right)
    assert_same_bits(found, surrogate.product(left, right))
    np.testing.assert_allclose(found, left.T @ right, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 14, 63, 64])
def test_solutions_have_the_same_bits(size: int) -> None:
    matrix = drawn(size, size)
    matrix = matrix @ matrix.T + np.eye(size)
    right = drawn(5, size, seed=2)
    definite, found = compiled("solved")(matrix, right)
    expected = surrogate.solved(matrix, right)
    assert definite
    assert expected[0]
    assert_same_bits(found, expected[1])
    np.testing.assert_allclose(matrix @ found.T, right.T, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [[[-1.0]], [[1.0, 2.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]], np.diag([1.0, 1.0, 0.0])],
)
def test_a_matrix_that_is_not_positive_definite_has_no_solution(matrix: Any) -> None:
    matrix = np.array(matrix)
    right = np.ones((1, len(matrix)))
    assert not surrogate.solved(matrix, right)[0]
    assert not compiled("solved")(matrix, right)[0]


@pytest.mark.parametrize("count", [0, 1, 62, 63, 64, 256])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_the_nearest_are_those_of_a_stable_sort(count: int, levels: int) -> None:
    """With few levels there are ties, also at the last index."""
    values = np.random.default_rng(count).integers(0, levels, count) / 8.0
    expected = np.sort(np.argsort(values, kind="stable")[:63])
    np.testing.assert_array_equal(surrogate.nearest(values, 63), expected)
    np.testing.assert_array_equal(surrogate._nearest_loops(values, 63), expected)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("levels", [2, 1000])
def test_the_middle_is_that_of_a_sorted_array(count: int, levels: int) -> None:
    values = np.random.default_rng(count).integers(0, levels, count) / 8.0
    assert surrogate._middle_loops(values) == surrogate.middle(values)
    assert surrogate.middle(values) == sorted(values.tolist())[count // 2]


@pytest.mark.parametrize("width", SIZES)
def test_moves_are_the_same_within_bounds_and_change_something(width: int) -> None:
    source = np.random.default_rng(width)
    bounds = Bounds(np.full(width, -20), np.full(width, 30))
    here = source.integers(-20, 31, width)
    here[0] = 30
    code = surrogate.machine_code()
    assert code is not None
    for number in range(20):
        raw = Stream(3).raw(number, surrogate.most_draws(None, width))
        moves, used = code.moves(raw, here, bounds)
        expected, expected_used = surrogate.random_moves(raw, here, bounds)
        np.testing.assert_array_equal(moves, expected)
        assert used == expected_used
        assert ((moves >= bounds.lows) & (moves <= bounds.highs)).all()
        changed = (moves != here).sum(axis=1)
        assert set(changed.tolist()) <= set(range(1, min(3, width) + 1))


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_surfaces_have_the_same_bits(width: int, count: int) -> None:
    points, values = drawn(width, count) / 100, drawn(count, seed=1)
    draws = drawn(width, TUNING.block, seed=2), drawn(count, TUNING.block, seed=3)
    found = compiled("fit_surface")(points, values, *draws)
    expected = surrogate.fit_surface(points, values, *draws)
    assert_same_bits(found.slopes, expected.slopes)
    assert_same_bits(found.curvature, expected.curvature)


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("count", [2, 17, 65])
def test_fences_have_the_same_bits(width: int, count: int) -> None:
    points = drawn(width, count) / 10
    kept = np.where(np.random.default_rng(count).random(count) < 0.4, -1.0, 1.0)
    draws = drawn(width + 1, TUNING.block, seed=2), drawn(count, TUNING.block, seed=3)
    found = compiled("fit_fence")(points, kept, *draws)
    expected = surrogate.fit_fence(points, kept, *draws)
    assert_same_bits(found.levels, expected.levels)
    assert_same_bits(found.slopes, expected.slopes)


@pytest.mark.parametrize("width", SIZES)
def test_coordinates_have_the_same_bits(width: int) -> None:
    whole = np.random.default_rng(width).integers(-20, 30, (width, 40))
    whole[:, 0] = 0
    frame, vectors = surrogate.frame_at(whole[:, 1].copy()), whole.astype(np.float64)
    expected = surrogate.coordinates(frame, vectors)
    assert_same_bits(compiled("coordinates")(frame, vectors), expected)


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("fenced", [True, False])
@pytest.mark.parametrize("radius", [0.04, 0.3, 0.8])
def test_steps_have_the_same_bits_before_they_are_rounded(
    width: int, *, fenced: bool, radius: float
) -> None:
    here = np.random.default_rng(width).integers(-20, 30, width)
    curvature = drawn(width, width)
    curvature = (curvature + curvature.T) / 1e3 - np.eye(width)
    top = Surface(drawn(width, TUNING.block, seed=1) / 10, curvature)
    samples = TUNING.block if fenced else 0
    fence = Fence(drawn(samples, seed=2), drawn(width, samples, seed=3))
    uniform = np.random.default_rng(1).random(TUNING.block)
    arguments = surrogate.frame_at(here), top, fence, uniform, radius
    expected = surrogate.surface_tops(*arguments)
    assert_same_bits(compiled("surface_tops")(*arguments), expected)


# ---- whole blocks ---------------------------------------------------------------------------


def told(
    width: int, results: int, fenced: int, *, sign: int = 1, blocked: bool = True, seed: int = 0
) -> tuple[Knowledge, np.ndarray, Bounds]:
    """Make up what a search may have been told, with repeated vectors and equal values."""
    source = np.random.default_rng([width, results, fenced, seed])
    lows = source.choice([-20, 0], width)
    highs = source.choice([9, 30], width)
    here = source.integers(lows, highs + 1)
    # Some at the bounds, so that steps must be fitted into them.
    here[: width // 3] = highs[: width // 3]
    vectors = np.clip(here[:, None] + source.integers(-4, 5, (width, 256)), lows[:, None], 30)
    vectors[:, 100:120] = vectors[:, :20]
    values = sign * np.round(-((vectors - 5.0) ** 2).sum(axis=0) / 1000, 2)
    sides = vectors[:, :64] + source.integers(-2, 3, (width, 64))
    kept = np.where((source.random(64) < 0.5) & blocked, -1.0, 1.0)
    if blocked:
        kept[0] = -1.0
    known = Knowledge(
        vectors=vectors.astype(np.float64),
        values=values,
        results=results,
        told=results > 0,
        level=float(values[:results].max()) if results else 0.0,
        better=sides.astype(np.float64),
        kept=kept,
        fenced=fenced,
        radius=float(source.choice([0.04, 0.3, 0.8])),
    )
    return known, here, Bounds(lows, highs)


def assert_same_block(known: Knowledge, here: np.ndarray, bounds: Bounds, seed: int) -> Options:
    raw = Stream(seed).raw(9, surrogate.most_draws(known, len(here)))
    quick = surrogate.options(known, raw, here, bounds, RANKED)
    with numpy_alone():
        slow = surrogate.options(known, raw, here, bounds, RANKED)
    np.testing.assert_array_equal(quick.moves, slow.moves)
    np.testing.assert_array_equal(quick.steps, slow.steps)
    assert_same_bits(quick.heights, slow.heights)
    return quick


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("results", [0, 1, 9, 64, 256])
@pytest.mark.parametrize("fenced", [0, 1, 20, 64])
def test_blocks_are_the_same(width: int, results: int, fenced: int) -> None:
    # Either sign meets each size of each of the three.
    seed = (width + results + fenced // 20) % 2
    known, here, bounds = told(width, results, fenced, sign=1 - 2 * seed, seed=seed)
    found = assert_same_block(known, here, bounds, seed)
    assert ((found.steps >= bounds.lows) & (found.steps <= bounds.highs)).all()


def test_blocks_are_the_same_where_all_that_won_was_kept() -> None:
    known, here, bounds = told(14, 64, 20, blocked=False)
    assert_same_block(known, here, bounds, 3)


def test_blocks_are_the_same_before_the_incumbent_has_a_value() -> None:
    known, here, bounds = told(14, 64, 20)
    assert_same_block(known._replace(told=False), here, bounds, 3)


def test_blocks_are_the_same_round_nothing() -> None:
    known, _, bounds = told(3, 64, 20)
    assert_same_block(known, np.zeros(3, dtype=np.int64), Bounds(bounds.lows - 1, bounds.highs), 3)


def test_blocks_are_the_same_where_steps_must_be_damped_again() -> None:
    """Values that curve upwards: no system is positive definite before damping is large."""
    known, here, bounds = told(14, 256, 0)
    steep = known._replace(values=-40 * known.values, level=-40 * known.level, radius=0.04)
    assert_same_block(steep, here, bounds, 3)


def test_a_fence_and_a_bound_make_a_difference() -> None:
    """Else the blocks above would compare what is never reached."""
    known, here, bounds = told(14, 64, 64)
    fenced = assert_same_block(known, here, bounds, 3)
    free = assert_same_block(known._replace(fenced=0), here, bounds, 3)
    assert (fenced.heights != free.heights).any()
    grown = known._replace(values=known.vectors.sum(axis=0), level=float(here.sum()), radius=0.8)
    bound = assert_same_block(grown, here, bounds, 3)
    wide = assert_same_block(grown, here, Bounds(bounds.lows - 50, bounds.highs + 50), 3)
    assert (bound.steps != wide.steps).any()


@pytest.mark.parametrize("width", SIZES)
def test_blocks_of_chance_are_the_same(width: int) -> None:
    _, here, bounds = told(width, 0, 0)
    raw = Stream(1).raw(9, surrogate.most_draws(None, width))
    quick = surrogate.chance(raw, here, bounds)
    with numpy_alone():
        slow = surrogate.chance(raw, here, bounds)
    for one, two in zip(quick, slow, strict=True):
        np.testing.assert_array_equal(one, two)


# ---- whole searches -------------------------------------------------------------------------


def searched(width: int, *, sign: int, fixed: int, constrained: bool) -> list[tuple[Any, ...]]:
    """Return the steps of a search, with guardrails that block many."""
    goal = [(7 * i) % 23 - 3 for i in range(width)]
    lows, highs = [-5] * width, [18] * width
    start = (6,) * width
    for place in range(fixed):
        lows[place] = highs[place] = 6

    def value(weights: tuple[int, ...]) -> float:
        return -sign * sum((a - b) ** 2 for a, b in zip(weights, goal, strict=True)) / 997

    def wins(new: float | None, old: float | None) -> bool:
        return better(*(None if x is None else sign * x for x in (new, old)))

    levers = SearchSpace(tuple(map(str, range(width))), tuple(lows), tuple(highs))
    proposer: Any = LearnedProposer(levers, seed=4, sign=sign)
    if constrained:
        proposer = ConstrainedProposer(proposer, WeightConstraints(total=6 * width), levers)
    climb = Climb(proposer, start, value(start), better=wins)
    rows = []
    while climb.experiments < 150 and not climb.exhausted:
        batch = climb.ask(8)
        broken = [("odd",) if sum(c.weights[-2:]) % 3 == 0 else () for c in batch.fresh]
        done = climb.tell(batch, [value(c.weights) for c in batch.fresh], broken.__getitem__)
        rows += [(s.candidate.proposal, s.candidate.weights, s.value, s.outcome) for s in done]
    return rows


@pytest.mark.parametrize(
    ("width", "sign", "fixed", "constrained"),
    [(14, 1, 0, False), (14, -1, 0, False), (14, 1, 3, False), (5, 1, 0, True), (2, -1, 1, False)],
    ids=["health", "risk", "some fixed", "constrained", "one weight"],
)
def test_searches_are_the_same(width: int, sign: int, fixed: int, *, constrained: bool) -> None:
    quick = searched(width, sign=sign, fixed=fixed, constrained=constrained)
    with numpy_alone():
        slow = searched(width, sign=sign, fixed=fixed, constrained=constrained)
    assert quick == slow
    if width > 2:
        assert {row[3] for row in quick} == {"win", "lose", "blocked"}
