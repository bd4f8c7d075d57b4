"""Text from outside, made harmless for a terminal, JSON, Markdown and spreadsheets."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gtmar.safe_text import exact_json, from_spreadsheet, markdown, spreadsheet_safe, visible

CODES = "00 07 08 09 0a 0d 1b 7f 85 9b 61c 200b 200c 200e 200f 2028 2029 202a 202e 2060 2066 2069"


@pytest.mark.parametrize("code", [*CODES.split(), "feff", "d800", "dfff", "e0041"])
def test_what_a_terminal_obeys_or_hides_is_shown(code: str) -> None:
    shown = visible(f"a{chr(int(code, 16))}b")
    assert shown.startswith("a\\")
    assert shown.isprintable()


@pytest.mark.parametrize(
    "text", ["Zürich", "東京", "👩‍👩‍👧 🏳️‍🌈 👍🏽", "\u0646\u0648\u0631", "C:\\new"]
)
def test_ordinary_text_stays(text: str) -> None:
    assert visible(text) == text


@given(st.text(st.characters(exclude_categories=[])))
def test_json_stays_the_same_value(text: str) -> None:
    written = json.dumps(text, ensure_ascii=False)
    assert json.loads(exact_json(written)) == text
    assert exact_json(written, ascii_only=True).isascii()
    exact_json(written).encode("utf-8")


@given(st.text(st.sampled_from("'=+-@ \ta1\u200b\uff1d"), max_size=6))
def test_cells_are_escaped_and_come_back(text: str) -> None:
    frame = pl.DataFrame({"=name": [text, None], "n": [-1, 2]})
    safe = spreadsheet_safe(frame)
    assert not str(safe[0, 0]).strip(" \t\u200b").startswith(("=", "+", "-", "@", "\uff1d"))
    assert safe.columns == ["'=name", "n"]
    assert safe["n"].to_list() == [-1, 2]
    assert_frame_equal(from_spreadsheet(safe), frame)


def test_markdown_shows_what_it_is_given() -> None:
    shown = markdown("<img src=x onerror=a()> | [a](http://b) `c`\n# d")
    assert "<" not in shown
    assert "http://" not in shown
    assert "\n" not in shown
    assert markdown("nrr_by_tier.A") == "nrr_by_tier.A"
    assert markdown("# a").startswith("\\#")
