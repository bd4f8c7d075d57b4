"""Bins of a first scorecard: where numbers are cut, which categories stand alone, their points."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from gtmar.autospec.fit_encoders import Fitted, fit_bins

N = 4_000
DRAW = np.random.default_rng(8)
X, Z = DRAW.random(N) * 100, DRAW.random(N)


def bins(values: Any, y: Any, *, points: int = 20) -> dict[str, int]:
    """Return a single feature's points by bin; without `missing` where it is fixed."""
    column = pl.Series("x", values, strict=False)
    kind = "categories" if column.dtype == pl.String else "number"
    fitted = Fitted(kind, 0.5, column.null_count() / len(column))
    [shape] = fit_bins(
        column.to_frame(), {"x": fitted}, np.asarray(y, dtype=float), points=points, bound=60
    ).values()
    assert shape.encode["kind"] == "bins"
    found = dict(shape.encode["bins"])
    if not column.null_count():
        fixed = found.pop("missing")
        assert fixed["min"] == fixed["weight"] == fixed["max"]
        points_found = [weight["weight"] for weight in found.values()]
        assert min(points_found) <= fixed["weight"] <= max(points_found)
    assert {(b["min"], b["max"]) for b in found.values()} == {(0, 60)}
    return {key: weight["weight"] for key, weight in found.items()}


def outcome(logit: Any) -> Any:
    return (DRAW.random(N) < 1 / (1 + np.exp(-np.asarray(logit)))).astype(float)


def test_a_number_is_cut_at_tenths_and_points_follow_its_effect() -> None:
    found = bins(X, outcome(X / 20 - 2.5))
    assert len(found) == 10
    assert list(found.values()) == sorted(found.values())
    assert (min(found.values()), max(found.values())) == (0, 20)
    cuts = [float(key[1:].split(",")[0]) for key in list(found)[1:]]
    assert cuts == pytest.approx(np.quantile(X, np.linspace(0.1, 0.9, 9)), rel=1e-3)
    assert (next(iter(found))[:6], list(found)[-1][-4:]) == ("[-inf,", "inf)")


def test_neighbours_with_the_same_points_are_one_bin() -> None:
    found = bins(X, outcome(np.where(X < 50, -3, 3)), points=3)
    assert list(found.values()) == [0, 3]
    [cut] = {float(key[1:].split(",")[0]) for key in found} - {float("-inf")}
    assert cut == pytest.approx(50, abs=1)


def test_no_bin_is_small() -> None:
    values = np.where(Z < 0.97, 0.0, X)
    found = bins(np.where(Z < 0.8, 0.0, X), outcome(X / 50 - 1))
    for key in found:
        low, high = (float(end) for end in key[1:-1].split(","))
        share = ((np.where(Z < 0.8, 0.0, X) >= low) & (np.where(Z < 0.8, 0.0, X) < high)).mean()
        assert share >= 0.05
    # Where nearly all have one value, what differs from it is a bin all the same.
    assert len(bins(values, outcome(np.where(values > 0, 3, -1)))) == 2
    assert len(bins(-values, outcome(np.where(values > 0, 3, -1)))) == 2


def test_the_unknown_has_a_bin_where_there_is_any() -> None:
    unknown = Z < 0.2
    values = [None if no else x for x, no in zip(X, unknown, strict=True)]
    found = bins(values, outcome(np.where(unknown, -3, X / 50)))
    assert found["missing"] == 0
    assert "missing" not in bins(X, outcome(X / 50))


def test_a_few_unknown_accounts_say_nothing_and_count_as_the_mean() -> None:
    values = [None if i < 9 else x for i, x in enumerate(X)]
    y = outcome(X / 20 - 2.5)
    y[:9] = 0.0
    found = bins(values, y)
    assert found["missing"] == pytest.approx(np.mean([*found.values()][:-1]), abs=1)
    assert (min(found.values()), max(found.values())) == (0, 20)


def test_rare_categories_and_names_with_another_meaning_join_the_others() -> None:
    names = np.array(["a", "b", "missing", "other", "[0,3)", "(x,y]"])
    place = np.minimum((Z * 6).astype(int), 5)
    values = np.where(np.arange(N) % 60 == 0, "rare", names[place])
    found = bins(values.tolist(), outcome(np.where(place == 0, 2, -1)))
    assert list(found) == ["a", "b", "other"]
    assert (found["a"], min(found.values())) == (20, 0)


def test_unknown_categories_have_a_bin() -> None:
    values = [None if z < 0.3 else "a" if z < 0.6 else "b" for z in Z]
    level = [3.0 if v is None else 0.0 if v == "a" else -3.0 for v in values]
    found = bins(values, outcome(level))
    assert list(found) == ["a", "b", "other", "missing"]
    assert (found["missing"], found["b"]) == (20, 0)


def test_an_outcome_that_does_not_vary_gives_no_points() -> None:
    assert bins(X, np.ones(N)) == {"[-inf,inf)": 0}
