"""The share gone by the last look is Kaplan and Meier's, and its error that of accounts."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from gtmar.runs.leaving import GONE, THERE, UNKNOWN, share_gone
from gtmar.stats.interval import wilson

LEVEL = 0.95


def looks_of(draw: np.random.Generator, rows: int, looks: int) -> np.ndarray:
    """Draw rows that leave, stay or are lost sight of at each look."""
    found = np.full((rows, looks), UNKNOWN, dtype=np.int8)
    for row in found:
        for number in range(looks):
            what = draw.choice([THERE, GONE, UNKNOWN], p=[0.7, 0.2, 0.1])
            if what == GONE:
                row[number:] = GONE
                break
            if what == UNKNOWN:
                break
            row[number] = THERE
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_share_is_kaplan_and_meiers(seed: int) -> None:
    draw = np.random.default_rng(seed)
    looks = looks_of(draw, int(draw.integers(20, 400)), int(draw.integers(1, 5)))
    gone = (looks == GONE).any(axis=1)
    followed = np.where(gone, (looks == GONE).argmax(axis=1) + 1, (looks == THERE).sum(axis=1))
    fitted = KaplanMeierFitter().fit(followed, gone)
    found = share_gone(looks, np.arange(len(looks)), level=LEVEL)
    assert found.value == pytest.approx(1 - fitted.predict(looks.shape[1]), abs=1e-9)


def test_the_error_of_single_rows_is_greenwoods() -> None:
    """With 400 rows, an account each, the interval is Wilson's on the size of that error."""
    looks = looks_of(np.random.default_rng(5), 400, 3)
    found = share_gone(looks, np.arange(400), level=LEVEL)
    assert found.value is not None
    variance, risk = 0.0, np.ones(400, dtype=bool)
    for look in looks.T:
        risk &= look != UNKNOWN
        events = int((risk & (look == GONE)).sum())
        variance += events / risk.sum() / (risk.sum() - events)
        risk &= look != GONE
    variance *= (1 - found.value) ** 2
    ends = wilson(found.value * 400, 400)
    assert ends is not None
    assert found.low is not None
    assert found.high is not None
    half = (found.high - found.low) / 2
    # Wilson's half width is close to the normal one at this size, a little wider for few accounts.
    assert half == pytest.approx(1.96 * variance**0.5, rel=0.03)


def test_rows_of_one_account_count_as_one() -> None:
    looks = looks_of(np.random.default_rng(1), 100, 2)
    once = share_gone(looks, np.arange(100), level=LEVEL)
    again = share_gone(np.repeat(looks, 9, axis=0), np.repeat(np.arange(100), 9), level=LEVEL)
    assert again.value == pytest.approx(once.value, abs=1e-12)
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert again.accounts == once.accounts


def test_nobody_gone_all_gone_and_nobody_followed() -> None:
    some = np.arange(40)
    none = share_gone(np.full((40, 2), THERE, dtype=np.int8), some, level=LEVEL)
    assert none.value == 0.0
    assert none.low == pytest.approx(0, abs=1e-12)
    assert none.high == pytest.approx(wilson(0, 40)[1])  # type: ignore[index] # of 40 trials
    every = share_gone(np.full((40, 2), GONE, dtype=np.int8), some, level=LEVEL)
    assert every.value == 1.0
    half = np.full((40, 2), UNKNOWN, dtype=np.int8)
    half[:, 0] = THERE
    lost = share_gone(half, some, level=LEVEL)
    assert (lost.value, lost.low, lost.reason) == (None, None, "nobody was followed so long")
