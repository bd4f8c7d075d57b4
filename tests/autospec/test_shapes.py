"""Encoders fitted together: lines that bend where accounts say so, levels, and unknowns."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from gtmar.autospec.fit_encoders import Fitted, Shape, _between, _line, fit_shapes
from gtmar.stats.logistic import Part, correlation, fit_levels

N = 6_000
DRAW = np.random.default_rng(11)
X, Z = DRAW.random(N) * 10, DRAW.random(N)


def outcome(logit: Any) -> Any:
    return (DRAW.random(N) < 1 / (1 + np.exp(-np.asarray(logit)))).astype(float)


def shapes(y: Any, **columns: Any) -> dict[str, Shape]:
    frame = pl.DataFrame(columns, strict=False)
    fitted = {}
    for name in frame.columns:
        kind = {pl.String: "categories", pl.Boolean: "flag"}.get(frame.schema[name], "number")  # type: ignore[call-overload]
        listed = tuple(sorted(frame[name].drop_nulls().unique())) if kind == "categories" else ()
        unknown = frame[name].null_count() / frame.height
        fitted[name] = Fitted(kind, 0.5, unknown, listed)
    return fit_shapes(frame, fitted, np.asarray(y, dtype=float))


def drawn(shape: Shape, at: Any) -> Any:
    xs, ys = zip(*shape.encode["points"], strict=True)
    return np.interp(at, xs, ys)


def test_a_straight_effect_is_a_straight_line_between_the_ends() -> None:
    found = shapes(outcome(0.4 * X - 2), x=X)["x"].encode
    assert (found["kind"], set(found)) == ("range", {"kind", "from", "to"})
    assert (found["from"], found["to"]) == pytest.approx((X.min(), X.max()), rel=1e-3, abs=1e-3)
    assert shapes(outcome(2 - 0.4 * X), x=X)["x"].encode["invert"] is True


def test_a_bent_effect_is_a_curve_through_it() -> None:
    found = shapes(outcome(3 * np.minimum(X, 5) / 5 - 1), x=X)["x"]
    assert found.encode["kind"] == "curve"
    assert drawn(found, [0, 2.5, 5, 7.5, 10]) == pytest.approx([0, 0.5, 1, 1, 1], abs=0.12)


def test_an_effect_is_told_apart_from_what_goes_with_it() -> None:
    """`with_x` goes with the outcome as `x` does, and bends with `z`; neither is taken for it."""
    with_x = X + 6 * np.sin(2 * np.pi * Z)
    y = outcome(0.5 * X - 2.5 + 0.8 * np.cos(2 * np.pi * Z))
    alone, beside = shapes(y, x=X)["x"], shapes(y, x=X, with_x=with_x, z=Z)
    assert alone.encode["kind"] == beside["x"].encode["kind"] == "range"
    assert drawn(beside["z"], [0, 0.5, 1]) == pytest.approx([1, 0, 1], abs=0.25)


def test_a_long_tail_is_cut_and_a_short_one_is_not() -> None:
    long = np.exp(3 * DRAW.normal(size=N))
    found = shapes(outcome(np.log(long) / 2), x=long, z=Z)
    assert found["x"].encode["points"][-1][0] == pytest.approx(np.quantile(long, 0.99), rel=1e-3)
    assert found["z"].encode.get("to", found["z"].encode.get("points", [[1]])[-1][0]) == (
        pytest.approx(Z.max(), rel=1e-3)
    )


@pytest.mark.parametrize(("level", "place"), [(-2.0, 0.0), (0.0, 0.5), (2.0, 1.0)])
def test_the_unknown_lies_at_its_own_level(level: float, place: float) -> None:
    unknown = Z < 0.3
    y = outcome(np.where(unknown, level, 0.4 * X - 2))
    found = shapes(y, x=[None if no else x for x, no in zip(X, unknown, strict=True)])["x"]
    assert found.missing == pytest.approx(place, abs=0.12)
    assert found.comment.endswith(" unknown, which count as their outcomes say")


def test_the_unknown_may_be_worse_than_all_that_is_known() -> None:
    unknown = Z < 0.3
    y = outcome(np.where(unknown, -4, 0.2 * X))
    found = shapes(y, x=[None if no else x for x, no in zip(X, unknown, strict=True)])["x"]
    assert found.missing == 0
    assert found.encode["points"][0][1] > 0.4


def test_few_unknown_accounts_count_as_the_mean() -> None:
    """Nine accounts that all left say nothing of who comes next; ten do."""
    y = outcome(0.4 * X - 2)
    flag = Z < 0.8
    for few, missing in ((9, 0.5), (40, 0.0)):
        y[:few] = 0.0
        unknown = np.arange(N) < few
        columns = {
            "x": [None if no else x for x, no in zip(X, unknown, strict=True)],
            "f": [None if no else bool(f) for f, no in zip(flag, unknown, strict=True)],
        }
        found = shapes(y, **columns)
        assert found["x"].missing == pytest.approx(missing, abs=0.1)
        worded = "too few to fit" if few < 10 else "as their outcomes say"
        assert worded in found["x"].comment
        if few < 10:
            mean = flag[few:].mean()
            turned = found["f"].encode.get("invert", False)
            assert found["f"].missing == pytest.approx(1 - mean if turned else mean, abs=0.01)


def test_categories_are_at_their_levels_and_others_at_the_mean() -> None:
    place = (Z * 3).astype(int)
    found = shapes(outcome(1.5 * place - 1.5), c=[("low", "mid", "top")[p] for p in place])["c"]
    assert found.encode["values"] == {"low": 0.0, "mid": pytest.approx(0.5, abs=0.1), "top": 1.0}
    assert found.encode["default"] == pytest.approx(0.5, abs=0.1)
    assert found.missing == pytest.approx(0.5, abs=0.1)
    assert found.comment.endswith("; none unknown; one that comes counts as the mean")


@pytest.mark.parametrize("invert", [False, True])
def test_a_flag_is_turned_and_its_unknown_lies_between(invert: bool) -> None:
    flag = [None if z < 0.2 else bool(z < 0.6) for z in Z]
    level = np.array([0.0 if f is None else 1.0 if f != invert else -1.0 for f in flag])
    found = shapes(outcome(level), f=flag)["f"]
    assert found.encode == {"kind": "bool", **({"invert": True} if invert else {})}
    assert found.missing == pytest.approx(0.5, abs=0.1)


def test_features_are_turned_as_they_go_with_the_outcome_alone() -> None:
    """A feature that beside another takes off, but alone goes with the outcome, keeps its sign."""
    with_x = X + DRAW.normal(size=N)
    y = outcome(2 * X - 1.2 * with_x - 4)
    assert correlation(with_x, y) > 0
    found = shapes(y, x=X, with_x=with_x)["with_x"].encode
    assert not found.get("invert", False)


def test_an_outcome_that_does_not_vary_leaves_lines() -> None:
    found = shapes(np.ones(N), x=X, f=Z < 0.5)
    assert found["x"].encode["kind"] == "range"
    assert found["f"].encode == {"kind": "bool"}


def test_all_goes_from_0_to_1() -> None:
    noise = {f"x{i}": DRAW.random(N) for i in range(3)}
    for shape in shapes(outcome(0 * X), **noise).values():
        values = [y for _, y in shape.encode.get("points", [(0, 0), (1, 1)])]
        assert (min(values), max(values)) == (0, 1)


def test_noise_bends_and_matters_in_a_twentieth_of_cases_and_its_comment_says_so() -> None:
    draw = np.random.default_rng(2)
    found: list[Shape] = []
    for _ in range(12):
        noise = {f"x{i}": draw.random(300) ** 2 for i in range(5)}
        fitted = {name: Fitted("number", 0.1, 0.0) for name in noise}
        y = (draw.random(300) < 0.5).astype(float)
        found += fit_shapes(pl.DataFrame(noise), fitted, y).values()
    curved = sum(shape.encode["kind"] == "curve" for shape in found)
    proven = sum("; proves nothing beside the others; " not in shape.comment for shape in found)
    stepped = {at // 5 for at, shape in enumerate(found) if ", a step at " in shape.comment}
    assert binomtest(curved, 60, 0.05, "greater").pvalue > 0.01
    # Of tables, that is, however many places they have.
    assert binomtest(len(stepped), 12, 0.05, "greater").pvalue > 0.01
    # Either test may prove what is none.
    assert binomtest(proven, 60, 0.1, "greater").pvalue > 0.01
    real = shapes(outcome(0.4 * X - 2), x=X)["x"]
    assert "proves nothing" not in real.comment


def test_rows_of_one_account_prove_as_much_as_one() -> None:
    draw = np.random.default_rng(3)
    x = draw.random(400)
    y = (draw.random(400) < 0.3 + 0.4 * np.sin(3 * x)).astype(float)
    eight, labels = pl.DataFrame({"x": np.repeat(x, 8)}), np.repeat(y, 8)
    fitted = {"x": Fitted("number", 0.1, 0.0)}
    kinds = [
        fit_shapes(eight, fitted, labels, repeats=repeats)["x"].encode["kind"]
        for repeats in (1.0, 8.0)
    ]
    once = fit_shapes(pl.DataFrame({"x": x}), fitted, y)["x"].encode["kind"]
    assert kinds == ["curve", once]


def test_a_step_beside_a_usual_value_is_a_step() -> None:
    """Most accounts have 0, the others anything to 10: what lies between has next to none."""
    value = np.where(Z < 0.7, 0, 0.5 + 9.5 * X / 10).round(2)
    found = shapes(outcome(np.where(value > 0, 1.5, -1)), x=value)["x"]
    assert drawn(found, [0, 0.6, 5, 10]) == pytest.approx([0, 1, 1, 1], abs=0.15)


def test_a_wavy_effect_is_written_in_twelve_points_and_its_ends() -> None:
    found = shapes(outcome(2.5 * np.sin(1.5 * X)), x=X)["x"].encode["points"]
    assert 7 <= len(found) <= 14
    at = np.linspace(0.3, 9.7, 40)
    drawn_there = np.interp(at, *np.array(found).T)
    assert np.corrcoef(drawn_there, np.sin(1.5 * at))[0, 1] > 0.95


def test_a_straight_part_is_the_line_that_a_fit_of_lines_alone_gives() -> None:
    draw = np.random.default_rng(4)
    x, z = draw.random((2, 3_000))
    y = (draw.random(3_000) < 1 / (1 + np.exp(-(2 * x - z)))).astype(float)
    parts = [Part.of_line(one, np.linspace(0, 1, 16)) for one in (x, z)]
    slopes = [fit.levels[-1] - fit.levels[0] for fit in fit_levels(parts, y)]
    theirs = LogisticRegression(C=20, max_iter=1_000).fit(np.stack([x, z], axis=1), y).coef_[0]
    # A feature is turned as it goes with the outcome alone.
    assert np.abs(slopes) == pytest.approx(np.abs(theirs), rel=0.01)
    assert all(np.ptp(np.diff(fit.levels)) < 1e-5 for fit in fit_levels(parts, y))


def test_a_step_where_few_accounts_are_is_two_points_next_to_each_other() -> None:
    """Bends that share one stiffness would make a slope of it."""
    age = np.floor(X * 8)
    found = shapes(outcome(1.5 * (age >= 74) - 0.02 * age - 1), age=age, z=Z)
    points = dict(found["age"].encode["points"])
    assert points[74] - points[73] > 0.6
    assert "points, a step at 74; " in found["age"].comment
    assert found["z"].encode["kind"] == "range"
    grown = shapes(outcome(1.5 * (age >= 74) - 0.02 * age - 1), age=age * 100_003, z=Z)
    assert "points, a step at 7400222; " in grown["age"].comment


def test_a_step_stays_however_few_accounts_are_beyond_it() -> None:
    knots, values = (0.0, 5.0, 5.1, 10.0), [0.0, 0.5, 0.52, 1.0]
    assert _line(knots, values, np.ones(4), {1, 2})["points"] == [
        [knot, value] for knot, value in zip(knots, values, strict=True)
    ]
    assert _line(knots, values, np.ones(4), set())["kind"] == "range"


def test_of_two_columns_that_say_the_same_one_steps() -> None:
    same = X + 1e-3 * Z
    found = shapes(outcome(1.5 * (X >= 8) - 1), x=X, same=same)
    assert sum(", a step at " in shape.comment for shape in found.values()) == 1


def test_a_step_is_written_shortly_and_no_account_is_between() -> None:
    assert _between(59, 60) == (59, 60)
    assert _between(2 / 3, 0.7) == (0.6667, 0.7)
    assert _between(1234.4, 1234.6) == (1234.4, 1234.6)
    assert _between(1234.56781, 1234.56789) == (1234.56781, 1234.56789)
    low, high = 0.1, float(np.nextafter(0.1, 1))
    assert _between(low, high) == (low, high)
