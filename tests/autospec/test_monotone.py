"""Monotone first specs and a person's own cuts: what is in order, what isn't, and by whose word."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from gtmar.autospec.first_spec import FirstSpec, first_spec
from gtmar.autospec.fit_encoders import Fitted, rising_numbers
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError
from gtmar.spec import parse
from gtmar.spec.encoders import Bins
from gtmar.stats.isotonic import isotonic

N = 2_000
DRAW = np.random.default_rng(7)
TENURE, VISITS, TICKETS = DRAW.integers(0, 60, N), DRAW.gamma(2, 5, N), DRAW.poisson(3, N)
#: More tenure is better, then level; more tickets are worse; visits are best in the middle.
LOGIT = 1.5 * np.minimum(TENURE, 20) / 20 - 0.4 * TICKETS - 0.05 * (VISITS - 10) ** 2 / 4 + 1.2
STAYED = (DRAW.random(N) < 1 / (1 + np.exp(-LOGIT))).astype(int)
TABLE = pl.DataFrame(
    {
        "account_id": [f"a{i}" for i in range(N)],
        "retained_6mo": STAYED,
        "tenure": TENURE,
        "visits": VISITS,
        "tickets": TICKETS,
        "plan": np.where(DRAW.random(N) < 0.5, "pro", "free"),
    }
)


def detected(**more: Any) -> FirstSpec:
    found = first_spec(scan(TABLE), **more)
    assert parse(found.text) == found.spec
    return found


@given(
    means=st.lists(st.floats(-9, 9), min_size=1, max_size=9),
    sizes=st.lists(st.integers(1, 50), min_size=9, max_size=9),
)
def test_levels_are_those_of_scikit_learns_isotonic_regression(
    means: list[float], sizes: list[int]
) -> None:
    weights = np.array(sizes[: len(means)], dtype=float)
    x = np.arange(len(means))
    theirs = IsotonicRegression().fit(x, means, sample_weight=weights).predict(x)
    both = isotonic(np.array([means, means]), weights)
    assert both == pytest.approx(np.array([theirs, theirs]), abs=1e-9)


def test_what_the_data_contradict_is_left_free() -> None:
    features = detected(monotone=True).spec.features
    directions = {
        name: (getattr(f.encode, "monotone", None), f.min) for name, f in features.items()
    }
    assert directions["tenure"] == ("up", 0)
    assert directions["tickets"] == ("down", 0)
    assert directions["visits"] == (None, -75)
    assert directions["plan"][0] is None


def test_without_the_option_no_spec_moves() -> None:
    assert "monotone" not in detected().text


def test_bins_are_in_order() -> None:
    features = detected(monotone=True, bins=True).spec.features
    tenure, tickets, visits = (features[n].encode for n in ("tenure", "tickets", "visits"))
    assert isinstance(tenure, Bins)
    assert isinstance(tickets, Bins)
    assert (tenure.monotone, tickets.monotone, visits.monotone) == ("up", "down", None)  # type: ignore[union-attr]
    for encode in (tenure, tickets):
        points = [encode.bins[key].weight for key in encode.ordered]
        assert points == sorted(points)
        assert points[0] == 0 < points[-1]


@pytest.mark.parametrize("bins", [False, True], ids=["curves", "bins"])
@pytest.mark.parametrize("monotone", [False, True], ids=["free", "in order"])
def test_a_persons_cuts_are_the_bins(bins: bool, monotone: bool) -> None:
    features = detected(bins=bins, monotone=monotone, cuts={"tenure": (3, 12.5, 36)}).spec.features
    encode = features["tenure"].encode
    assert isinstance(encode, Bins)
    assert list(encode.bins) == ["[-inf,3)", "[3,12.5)", "[12.5,36)", "[36,inf)", "missing"]
    points = [b.weight for b in encode.bins.values()][:4]
    assert (min(points), max(points)) == (0, 25)
    assert encode.monotone == ("up" if monotone else None)
    assert encode.bins["missing"].min == encode.bins["missing"].max
    assert (features["visits"].encode.kind == "bins") is bins


def test_cuts_of_what_is_no_number_are_refused_all_at_once() -> None:
    with pytest.raises(AccountDataError) as caught:
        detected(cuts={"plan": (1,), "tenur": (3,), "retained_6mo": (1,)})
    assert caught.value.message == (
        'cuts are for numbers; "plan" is of categories; "tenur" is no column; "retained_6mo" is '
        "an outcome"
    )
    assert caught.value.hint == 'did you mean "tenure"?'
    with pytest.raises(AccountDataError, match='"visi" is no column') as caught:
        detected(cuts={"visi": (3,)})
    assert caught.value.hint == 'did you mean "visits"?'


def found(logit: Any, x: Any, seed: int) -> dict[str, bool]:
    y = (np.random.default_rng(seed).random(len(x)) < 1 / (1 + np.exp(-logit))).astype(float)
    return rising_numbers(pl.DataFrame({"x": x}), {"x": Fitted("number", 0.0, 0.0)}, y)


@pytest.mark.slow
def test_monotone_columns_are_taken_for_none_one_time_in_twenty() -> None:
    """And a dip of a third of the way is seen nearly always."""
    x = np.random.default_rng(0).random(3_000)
    rising = [found(3 * x - 1, x, seed) for seed in range(100)]
    assert sum(each == {"x": True} for each in rising) >= 92
    level = [bool(found(0 * x, x, seed)) for seed in range(100)]
    assert sum(level) >= 85
    falling = [found(1 - 3 * x, x, seed) for seed in range(20)]
    assert sum(each == {"x": False} for each in falling) >= 17
    dip = np.where(x < 0.5, 4 * x - 1, np.where(x < 0.7, 0.2, 4 * x - 2))
    assert sum(found(dip, x, seed) == {} for seed in range(50)) >= 45


def test_all_written_points_go_one_way() -> None:
    for feature in detected(monotone=True).spec.features.values():
        points = getattr(feature.encode, "points", ())
        if getattr(feature.encode, "monotone", None) and points:
            assert len({b > a for (_, a), (_, b) in pairwise(points) if a != b}) == 1
