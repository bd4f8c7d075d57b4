"""Cells of two columns: planted ones are found, whatever order the levels of categories have."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gtmar.stats.cells import best_cells

HOW = {"ridge": 2.0, "penalty": 1.0}
#: Interplay of three rows and three places, 0 along both in the mean.
EFFECT = np.array([[1.0, -1, 0], [-1, 0, 1], [0, 1, -1]])


@pytest.mark.parametrize("ordered", [True, False])
def test_planted_cells_are_found(*, ordered: bool) -> None:
    rng = np.random.default_rng(3)
    rows, places = np.repeat([0, 1, 2], 4), np.repeat([0, 1, 2], [3, 3, 3])
    if not ordered:
        rows, places = rng.permutation(rows), rng.permutation(places)
    known = rng.uniform(20, 30, (12, 9))
    off = known * EFFECT[np.ix_(rows, places)] + rng.normal(0, 2, (12, 9))
    found = best_cells(off, known, ordered=(ordered, ordered), most=4, **HOW)
    assert found is not None
    if ordered:
        assert found.down.tolist() == rows.tolist()
        assert found.across.tolist() == places.tolist()
    else:
        # One singular vector orders the levels of three groups, so most of them lie together.
        assert found.count >= 6
        assert found.worth > 300


def test_two_by_two_is_the_best_of_all_corners() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        known = rng.uniform(1, 9, (5, 6))
        off = rng.normal(0, 3, (5, 6))
        # Without interplay in the levels' sums, nothing is taken off.
        off -= known * _additive(off, known)
        found = best_cells(off, known, ordered=(True, True), most=2, ridge=2.0, penalty=1.0)
        assert found is not None
        corners = [
            sum(
                off[a[0] : a[1], b[0] : b[1]].sum() ** 2
                / (known[a[0] : a[1], b[0] : b[1]].sum() + 2)
                for a in ((0, i), (i, 5))
                for b in ((0, j), (j, 6))
            )
            / 2
            - 4
            for i in range(1, 5)
            for j in range(1, 6)
        ]
        assert found.worth == pytest.approx(max(corners), rel=1e-3, abs=1e-3)
        assert found.count == 4


def test_a_column_of_one_level_has_no_cells() -> None:
    one = np.ones((1, 4))
    assert best_cells(one, one, ordered=(True, True), most=4, **HOW) is None


def test_no_more_rows_than_asked_for() -> None:
    rng = np.random.default_rng(8)
    off, known = rng.normal(0, 99, (9, 9)), np.ones((9, 9))
    found = best_cells(off, known, ordered=(True, True), most=4, **HOW)
    assert found is not None
    assert found.down.max() == found.across.max() == 3
    assert all(low <= high for side in (found.down, found.across) for low, high in _next(side))


def _next(side: NDArray[Any]) -> list[tuple[int, int]]:
    return [(low, high) for low, high in combinations(side.tolist(), 2)][: len(side) - 1]


def _additive(off: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """Fit rows and columns to what is off, by weighted least squares with the same ridge."""
    rows, places = np.indices(off.shape)
    levels = np.column_stack(
        [rows.ravel()[:, None] == np.arange(5), places.ravel()[:, None] == np.arange(6)]
    ).astype(float)
    root = np.sqrt(known.ravel())
    table = np.vstack([levels * root[:, None], np.eye(11) * 1e-6])
    fit = np.linalg.lstsq(table, np.append(off.ravel() / root, np.zeros(11)), rcond=None)[0]
    return np.asarray((levels @ fit).reshape(off.shape))
