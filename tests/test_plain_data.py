"""Percentages of people's texts: 100 % is said of all alone, and 0 % of none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtmar.plain_data import percent


@given(of=st.integers(1, 10**9), part=st.integers(0, 10**9), decimals=st.integers(0, 2))
def test_all_and_none_alone_are_100_and_0_percent(of: int, part: int, decimals: int) -> None:
    text = percent(min(part, of) / of, decimals)
    whole = {"100%", "100.0%", "100.00%"}
    none = {"0%", "0.0%", "0.00%"}
    assert (text in whole) == (part >= of)
    assert (text in none) == (part == 0)
    if text[0] not in "<>":
        shown = float(text.removesuffix("%"))
        assert shown == pytest.approx(100 * min(part, of) / of, abs=0.5 * 10**-decimals + 1e-9)


def test_ratios_beyond_one_are_rounded_as_ever() -> None:
    assert [percent(x, 1) for x in (1.0004, 1.034, -0.25)] == ["100.0%", "103.4%", "-25.0%"]
