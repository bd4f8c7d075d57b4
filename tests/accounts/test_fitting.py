"""Fitting one column: ends, shapes, turns, category values, and what an unknown counts."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.accounts.fitting import Fitted, correlation, fit_categories, fit_flag, fit_number

LINE = np.linspace(0, 100, 1_001)


def number(values: Any, y: Any) -> Fitted:
    found = fit_number(pl.Series("x", values, strict=False), np.asarray(y, dtype=float))
    assert isinstance(found, Fitted)
    return found


def categories(values: list[str | None], y: list[float]) -> Fitted:
    found = fit_categories(pl.Series("x", values, dtype=pl.String), np.asarray(y, dtype=float))
    assert isinstance(found, Fitted)
    return found


# Correlation


def test_correlation_is_pearsons() -> None:
    x, y = np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3])
    assert correlation(x, y) == pytest.approx(0.6)
    assert correlation(x, -y) == pytest.approx(-0.6)


def test_correlation_leaves_unknowns_out() -> None:
    x = np.array([1.0, 2, np.nan, 3, 4])
    y = np.array([2.0, 1, 9, 4, 3])
    assert correlation(x, y) == pytest.approx(0.6)
    assert correlation(y, x) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("x", "y"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [1, 1, 1]), ([1], [1]), ([], [])], ids=str
)
def test_correlation_of_what_does_not_vary_is_0(x: list[float], y: list[float]) -> None:
    assert correlation(np.array(x, dtype=float), np.array(y, dtype=float)) == 0.0


# Flags


@pytest.mark.parametrize(
    ("y", "invert", "r"), [([0, 1, 0, 1], False, 1.0), ([1, 0, 1, 0], True, -1.0)], ids=str
)
def test_flag_is_turned_towards_the_better_outcome(y: list[float], invert: bool, r: float) -> None:
    found = fit_flag(pl.Series([0, 1, 0, 1]), np.array(y, dtype=float))
    assert found.encode == {"kind": "bool", **({"invert": True} if invert else {})}
    assert found.r == pytest.approx(r)
    assert found.missing is None
    assert found.comment == f"r = {r:+.3f}; flag"


@pytest.mark.parametrize(("invert", "place"), [(False, 0.25), (True, 0.75)])
def test_unknown_flag_lies_where_its_outcome_lies(invert: bool, place: float) -> None:
    column = pl.Series([True, False, True, False, None, None, None, None])
    y = np.array([1.0, 0, 1, 0, 1, 0, 0, 0])
    found = fit_flag(column, 1 - y if invert else y)
    assert found.encode == {"kind": "bool", **({"invert": True} if invert else {})}
    assert found.missing == place
    assert found.comment == f"r = {'-' if invert else '+'}1.000; flag; 50.0% unknown"


# The ends of a number


def test_ends_are_the_1st_and_99th_percentile() -> None:
    found = number(LINE, LINE)
    assert found.encode == {"kind": "range", "from": 1.0, "to": 99.0}
    assert found.comment == f"r = {found.r:+.3f}; 1st to 99th percentile"
    assert found.missing is None


def test_ends_are_written_as_people_would() -> None:
    found = number(LINE * 1_234.567, LINE)
    assert found.encode == {"kind": "range", "from": 1_235.0, "to": 122_200.0}


def test_outliers_are_cut_off() -> None:
    values = [*LINE, 1e9, -1e9]
    found = number(values, np.clip(values, 0, 100))
    assert found.encode["to"] == pytest.approx(99.1, abs=0.1)


def test_ends_of_a_column_that_hardly_varies_are_its_extremes() -> None:
    values = [5.0] * 999 + [7.0]
    assert number(values, np.arange(1_000)).encode == {"kind": "range", "from": 5.0, "to": 7.0}


def test_large_numbers_that_differ_in_their_last_digits_keep_two_ends() -> None:
    found = number(20_260_100 + np.arange(50), np.arange(50))
    assert found.encode == {"kind": "range", "from": 20_260_100.0, "to": 20_260_149.0}


@pytest.mark.parametrize("value", [5.0, -2.0])
def test_one_value_and_unknowns(value: float) -> None:
    """Whether it is known is all that such a column says: no range from a value to itself."""
    found = fit_number(pl.Series([value, None, value, None]), np.array([1.0, 0, 1, 0]))
    assert isinstance(found, str) or found.encode["from"] < found.encode["to"]


# The turn and the shape of a number


def test_number_that_goes_with_the_worse_outcome_is_inverted() -> None:
    found = number(LINE, -LINE)
    assert found.encode == {"kind": "range", "from": 1.0, "to": 99.0, "invert": True}
    assert found.r < -0.99
    assert found.comment.startswith("r = -")


@pytest.mark.parametrize("sign", [1, -1])
def test_saturating_number_becomes_a_curve(sign: int) -> None:
    values = np.exp(LINE / 12)
    found = number(values, sign * LINE)
    assert found.encode["kind"] == "curve"
    assert set(found.encode) == {"kind", "points"}
    xs, ys = zip(*found.encode["points"], strict=True)
    assert list(xs) == sorted(set(xs))
    assert list(ys) == sorted(ys, reverse=sign < 0)
    assert {ys[0], ys[-1]} == {0.0, 1.0}
    assert found.r * sign > 0.95
    assert found.comment.startswith(f"r = {'+' if sign > 0 else '-'}")
    assert "curve through its ranks" in found.comment


def test_curve_follows_the_ranks() -> None:
    values = np.exp(LINE / 12)
    [first, *_, last] = points = number(values, LINE).encode["points"]
    assert (first[1], last[1]) == (0.0, 1.0)
    for x, share in points:
        below = (values < x).mean()
        assert share == pytest.approx((below - 0.02) / 0.96, abs=0.011)


def test_straight_line_is_preferred_where_the_curve_is_no_clear_gain() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=2_000)
    assert number(values, values + rng.normal(size=2_000)).encode["kind"] == "range"


def test_few_distinct_values_are_no_curve() -> None:
    assert number([1, 2] * 50, [0, 1] * 50).encode == {"kind": "range", "from": 1.0, "to": 2.0}


# Unknowns


@pytest.mark.parametrize(("mean", "value"), [(0.25, 0.25), (0.5, 0.5), (-3.0, 0.0), (7.0, 1.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_unknown_lies_where_its_outcome_lies(mean: float, value: float, sign: int) -> None:
    known = np.linspace(0, 1, 101)
    column = [*known, None, None]
    y = [*known, mean - 0.1, mean + 0.1]
    low, high = 0.01, 0.99
    inside = np.clip(known, low, high)
    slope, intercept = np.polyfit((inside - low) / (high - low), known, 1)
    place = float(np.clip((mean - intercept) / slope, 0, 1))
    assert place == pytest.approx(value, abs=0.02)
    # Where less is better the scale is turned round, and the unknown's place with it.
    found = number(column, sign * np.array(y))
    assert found.missing == round(place if sign > 0 else 1 - place, 2)
    assert found.comment.endswith("; 1.9% unknown")


def test_unknown_without_any_outcome_counts_0() -> None:
    found = number([0.0, 1.0, 2.0, None], [0, 1, 2, np.nan])
    assert found.missing == 0.0


def test_unknown_where_nothing_can_be_told_is_in_the_middle() -> None:
    found = number([0.0, 1.0, 2.0, 3.0, None], [1, 0, 0, 1, 1])
    assert found.r == pytest.approx(0, abs=1e-12)
    assert found.missing == 0.5


def test_unknown_is_looked_at_in_no_other_place() -> None:
    values = [*LINE, *[None] * 500]
    found = number(values, [*LINE, *[-1e6] * 500])
    assert found.encode == {"kind": "range", "from": 1.0, "to": 99.0}
    assert found.missing == 0.0


# Categories


def rates(groups: dict[str | None, tuple[int, int]]) -> tuple[list[str | None], list[float]]:
    """Return a column and an outcome: positives out of accounts, by category."""
    values: list[str | None] = []
    y: list[float] = []
    for name, (positives, accounts) in groups.items():
        values += [name] * accounts
        y += [1.0] * positives + [0.0] * (accounts - positives)
    return values, y


def test_categories_are_worth_their_mean_outcome_from_0_to_1() -> None:
    groups: dict[str | None, tuple[int, int]] = {"a": (10, 100), "b": (60, 100), "c": (30, 50)}
    found = categories(*rates(groups))
    mean = 100 / 250
    drawn = {name: (p + 20 * mean) / (n + 20) for name, (p, n) in groups.items()}
    low, high = min(drawn.values()), max(drawn.values())
    assert found.encode == {
        "kind": "one_of",
        "values": {name: round((rate - low) / (high - low), 2) for name, rate in drawn.items()},
        "default": round((mean - low) / (high - low), 2),
    }
    assert found.encode["values"]["a"] == 0.0
    assert found.encode["values"]["b"] == 1.0
    assert 0.9 < found.encode["values"]["c"] < 1.0
    assert found.missing is None
    assert found.r > 0
    assert found.comment == f"r = {found.r:+.3f}; 3 categories by their mean outcome"


def test_rare_categories_take_the_default() -> None:
    found = categories(*rates({"a": (10, 100), "b": (60, 100), "rare": (9, 9), "ten": (10, 10)}))
    assert set(found.encode["values"]) == {"a", "b", "ten"}
    assert 0 < found.encode["default"] < 1


def test_unknown_category_is_worth_its_own_mean_outcome() -> None:
    groups: dict[str | None, tuple[int, int]] = {"a": (10, 100), "b": (60, 100), None: (35, 100)}
    found = categories(*rates(groups))
    mean = 105 / 300
    low, high, own = ((p + 20 * mean) / 120 for p in (10, 60, 35))
    assert found.missing == round((own - low) / (high - low), 2)
    assert found.comment.endswith("2 categories by their mean outcome; 33.3% unknown")


def test_unknown_category_without_any_outcome_is_worth_the_mean() -> None:
    values, y = rates({"a": (10, 100), "b": (60, 100)})
    found = categories([*values, None], [*y, np.nan])
    assert found.missing == found.encode["default"] == 0.5


def test_unknown_and_default_stay_between_0_and_1() -> None:
    groups: dict[str | None, tuple[int, int]] = {"a": (500, 1_000), "b": (510, 1_000)}
    found = categories(*rates({**groups, None: (0, 1_000)}))
    assert found.missing is not None
    assert 0 <= found.missing <= 1
    assert 0 <= found.encode["default"] <= 1


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({"a": (5, 10), "b": (5, 10)}, "no category differs from the others"),
        ({"a": (5, 10)}, "no category differs from the others"),
        ({"a": (1, 9), "b": (9, 9)}, "no category differs from the others"),
    ],
    ids=str,
)
def test_categories_that_say_nothing(groups: Any, reason: str) -> None:
    values, y = rates(groups)
    assert fit_categories(pl.Series(values), np.array(y)) == reason


def test_categories_without_any_outcome() -> None:
    found = fit_categories(pl.Series(["a", "b"]), np.array([np.nan, np.nan]))
    assert found == "no account has both it and an outcome"


@settings(deadline=None, max_examples=50)
@given(
    groups=st.dictionaries(
        st.sampled_from("abcdef"),
        st.integers(10, 80).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        min_size=2,
    )
)
def test_better_categories_are_worth_no_less(groups: Any) -> None:
    values, y = rates(groups)
    found = fit_categories(pl.Series(values), np.array(y))
    if isinstance(found, str):
        assert len({positives / accounts for positives, accounts in groups.values()}) == 1
        return
    mean = sum(y) / len(y)
    drawn = {name: (p + 20 * mean) / (n + 20) for name, (p, n) in groups.items()}
    worth = found.encode["values"]
    by_rate = sorted(drawn, key=drawn.__getitem__)
    assert (worth[by_rate[0]], worth[by_rate[-1]]) == (0.0, 1.0)
    ascending = [worth[name] for name in by_rate]
    assert ascending == sorted(ascending)
