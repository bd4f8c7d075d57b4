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
    # In no order groups have no number of their own.
    assert _first_come(found.down) == _first_come(rows)
    assert _first_come(found.across) == _first_come(places)
    if ordered:
        assert found.down.tolist() == rows.tolist()
        assert found.across.tolist() == places.tolist()


def test_categories_stand_together_in_no_order_at_all() -> None:
    """Along a number cut in four, four groups of categories that no single order parts."""
    effect = np.array([[1.3, -1.3, 0, 0], [-1.3, 1.3, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]])
    rng = np.random.default_rng(12)
    groups, places = rng.permutation(np.repeat([0, 1, 2, 3], 5)), np.repeat([0, 1, 2, 3], 8)
    known = np.full((20, 32), 6.0)
    off = known * effect[np.ix_(groups, places)] * 0.8 + rng.normal(0, 2.4, known.shape)
    found = best_cells(off, known, ordered=(False, True), most=4, **HOW)
    assert found is not None
    assert _first_come(found.down) == _first_come(groups)
    assert found.across.tolist() == places.tolist()
    other = best_cells(off.T, known.T, ordered=(True, False), most=4, **HOW)
    assert other is not None
    assert _first_come(other.across) == _first_come(groups)


def test_a_number_is_cut_in_the_best_of_all_ways_beside_the_other_column() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        known = rng.uniform(1, 9, (8, 3))
        off = rng.normal(0, 6, (8, 3))
        off -= known * _additive(off, known)
        found = best_cells(off, known, ordered=(True, True), most=3, **HOW)
        assert found is not None
        down, across = (np.flatnonzero(np.diff(side)) + 1 for side in (found.down, found.across))

        def worth(cuts: tuple[int, ...], across: Any = across, sums: Any = (off, known)) -> float:
            places = [0, *across]
            own, size = (
                np.add.reduceat(np.add.reduceat(each, [0, *cuts]), places, axis=1) for each in sums
            )
            return float((own**2 / (size + 2)).sum() / 2 - own.size)

        ways = [cuts for many in (1, 2) for cuts in combinations(range(1, 8), many)]
        assert worth(tuple(down)) == pytest.approx(max(map(worth, ways)), rel=1e-3, abs=1e-3)


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


def _first_come(groups: NDArray[Any]) -> list[int]:
    """Number groups in the order in which they come first."""
    return [[*dict.fromkeys(groups.tolist())].index(each) for each in groups.tolist()]


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
