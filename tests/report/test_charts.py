"""Drawings belong to their page: every colour a variable of its style, text as text, one image."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import gtmar.report
from gtmar.report.charts import INK, both, legible, over

STYLE = (Path(gtmar.report.__file__).parent / "templates" / "style.css").read_text("utf-8")
HOSTILE = '</svg><script>alert(1)</script>"\x00\x1b'


def drawn(text: str) -> list[ET.Element]:
    rows = [{"x": 1, "y": 2, "what": legible(text)}]

    def draw(width: int) -> object:
        points = (
            over(rows).mark_point(color=INK["best"]).encode(x="x:Q", y="y:Q", description="what:N")
        )
        words = (
            over(rows)
            .mark_text(color=INK["ink"], aria=False)
            .encode(x="x:Q", y="y:Q", text="what:N")
        )
        return (points + words).properties(width=width)

    svg = both(draw, text)  # type: ignore[arg-type] # a layer of charts
    return list(ET.fromstring(f"<div>{svg}</div>"))


def test_colours_are_variables_that_the_style_has_in_light_dark_and_print() -> None:
    for svg in drawn("a win"):
        colours = {n.get(a) for n in svg.iter() for a in ("fill", "stroke")} - {None}
        named = {str(c) for c in colours} - {"none", "transparent"}
        assert named
        assert all(re.fullmatch(r"var\(--\w+\)", c) for c in named), named
    for name in INK:
        assert len(re.findall(rf"--{name}: #", STYLE)) == 3, name


def test_a_hostile_text_stays_a_text() -> None:
    wide, narrow = drawn(legible(HOSTILE))
    for svg in (wide, narrow):
        assert not list(svg.iter("{http://www.w3.org/2000/svg}script"))
        said = [node.text for node in svg.iter() if node.text]
        assert said.count(legible(HOSTILE)) == 2
        assert svg.get("aria-label") == legible(HOSTILE)


def test_it_is_one_image_with_a_text_of_its_own() -> None:
    for svg in drawn("what it shows"):
        assert (svg.get("role"), svg.get("aria-label")) == ("img", "what it shows")
        assert svg.get("viewBox")
        inner = [node for node in svg.iter() if node is not svg]
        assert not any(node.get("role") or node.get("aria-label") for node in inner)


@pytest.mark.parametrize(
    ("text", "read"), [("a\tb", "a\ufffdb"), ("\ud800x", "\ufffdx"), ("ok < & ü", "ok < & ü")]
)
def test_what_xml_cannot_hold_is_marked(text: str, read: str) -> None:
    assert legible(text) == read
