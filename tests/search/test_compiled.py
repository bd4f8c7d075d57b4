"""Machine code calculates what numpy does, bit by bit."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gtmar.search import compiled, surrogate
from gtmar.search.draws import Draws, random_moves

SHAPES = [(1, 1, 1), (14, 64, 8), (64, 14, 64), (5, 7, 9), (3, 1, 2)]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a function as in a process that hasn't loaded numba."""

    def called(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        with monkeypatch.context() as hidden:
            hidden.delitem(sys.modules, "numba", raising=False)
            assert surrogate.machine_code() is None
            return function(*arguments, **keywords)

    return called


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    source = np.random.default_rng(seed)
    return source.normal(size=shape) * 10.0 ** source.integers(-3, 4, size=shape)


def test_it_is_used_where_numba_is_loaded() -> None:
    assert surrogate.machine_code() is compiled


@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_totals_have_the_same_bits(
    shape: tuple[int, int, int], plain: Callable[..., Any]
) -> None:
    rows, inner, columns = shape
    left, right = drawn(rows, inner), drawn(inner, columns, seed=1)
    expected = plain(surrogate.product, left, right)
    assert compiled.product(left, right).tobytes() == expected.tobytes()
    assert surrogate.product(left, right).tobytes() == expected.tobytes()
    assert surrogate.product(left.T.copy().T, right).tobytes() == expected.tobytes()
    assert surrogate.total(left).tobytes() == plain(surrogate.total, left).tobytes()


@pytest.mark.parametrize("size", [1, 2, 14, 64])
def test_solutions_have_the_same_bits(size: int, plain: Callable[..., Any]) -> None:
    matrix = drawn(size, size)
    matrix = matrix @ matrix.T + np.eye(size)
    right = drawn(size, 5, seed=2)
    found, expected = surrogate.solved(matrix, right), plain(surrogate.solved, matrix, right)
    assert found is not None
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()
    np.testing.assert_allclose(matrix @ found, right, rtol=1e-6, atol=1e-6)


def test_a_matrix_that_is_not_positive_definite_has_no_solution(
    plain: Callable[..., Any],
) -> None:
    matrix, right = np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones((2, 1))
    assert surrogate.solved(matrix, right) is None
    assert plain(surrogate.solved, matrix, right) is None


@pytest.mark.parametrize("width", [1, 2, 3, 14, 60])
def test_moves_are_the_same(width: int, plain: Callable[..., Any]) -> None:
    source = np.random.default_rng(width)
    lows, highs = np.full(width, -20), np.full(width, 30)
    here = source.integers(lows, highs + 1)
    here[0] = 30
    for number in range(20):
        quick = random_moves(Draws(3, number), here, lows, highs, count=50)
        slow = plain(random_moves, Draws(3, number), here, lows, highs, count=50)
        np.testing.assert_array_equal(quick, slow)
        assert ((quick >= lows) & (quick <= highs)).all()
        changed = (quick != here).sum(axis=1)
        assert set(changed.tolist()) <= set(range(1, min(3, width) + 1))
