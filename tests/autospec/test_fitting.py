"""What a column alone says: its sort, its correlation with the outcome, what is listed."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from gtmar.autospec.fit_encoders import (
    Fitted,
    fit_categories,
    fit_flag,
    fit_number,
    written,
)
from gtmar.stats.logistic import correlation

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


# Flags and numbers


def test_flag() -> None:
    found = fit_flag(pl.Series([True, False, True, None]), np.array([1.0, 0, 1, 0]))
    assert found == Fitted("flag", pytest.approx(1.0), 0.25)  # type: ignore[arg-type] # approx stands for a number


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_is_judged_by_its_line_or_its_ranks(sign: int) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=len(LINE)) * 20
    straight = number(LINE, sign * (LINE + noise))
    assert straight.r == pytest.approx(correlation(LINE, sign * (LINE + noise)), abs=0.01)
    # Of what saturates, ranks say more than the line does.
    bent = np.exp(LINE / 12)
    assert number(bent, sign * LINE).r == pytest.approx(sign, abs=1e-9)
    assert abs(correlation(bent, LINE)) < 0.8


def test_outliers_do_not_hide_a_correlation() -> None:
    values = [*LINE, 1e9, -1e9]
    assert number(values, [*LINE, 100, 0]).r > 0.99


def test_unknown_values_are_left_out_of_the_correlation_and_counted() -> None:
    found = number([*LINE, *[None] * 1_001], [*LINE, *[-1e6] * 1_001])
    assert found.r == pytest.approx(1, abs=0.001)
    assert found.unknown == 0.5


@pytest.mark.parametrize("value", [5.0, -2.0])
def test_one_value_and_unknowns_is_no_number(value: float) -> None:
    found = fit_number(pl.Series([value, None, value, None]), np.array([1.0, 0, 1, 0]))
    assert found == f"always {value:g} where it is known"


def test_numbers_are_written_as_people_would() -> None:
    assert [written(value) for value in (1_234.567, 0.012_345_6, -98_766.0)] == [
        1_235.0,
        0.012_35,
        -98_770.0,
    ]


# Categories


def rates(groups: dict[str | None, tuple[int, int]]) -> tuple[list[str | None], list[float]]:
    """Return a column and an outcome: positives out of accounts, by category."""
    values: list[str | None] = []
    y: list[float] = []
    for name, (positives, accounts) in groups.items():
        values += [name] * accounts
        y += [1.0] * positives + [0.0] * (accounts - positives)
    return values, y


def test_categories_are_listed_where_they_are_not_rare() -> None:
    groups: dict[str | None, tuple[int, int]] = {
        "b": (60, 100),
        "a": (10, 100),
        "rare": (9, 9),
        "ten": (10, 10),
        None: (35, 100),
    }
    found = categories(*rates(groups))
    assert found.listed == ("a", "b", "ten")
    assert found.unknown == pytest.approx(100 / 319)


def test_correlation_of_categories_is_that_of_their_mean_outcomes() -> None:
    values, y = rates({"a": (10, 100), "b": (60, 100)})
    flag = np.array([value == "b" for value in values], dtype=float)
    assert categories(values, y).r == pytest.approx(correlation(flag, np.array(y)))


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
