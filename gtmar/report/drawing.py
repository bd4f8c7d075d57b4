"""Charts as SVG that belongs to its page: themed by CSS, in its font, one image to a screen reader.

Altair and vl-convert are at home here and in `charts`. A chart is drawn in the colours of `INK`,
each of which then becomes the CSS variable of its name, so that light, dark and print are the
page's affair.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, TypeAlias

import altair as alt
import vl_convert
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["INK", "WIDE", "Chart", "both", "legible", "names_axis", "over", "room"]

#: CSS variables by the colour that stands for them in a drawing; no two alike, none of them seen.
INK = {
    "ink": "#010101",
    "quiet": "#020202",
    "line": "#030303",
    "start": "#040404",
    "best": "#050505",
    "band": "#060606",
    "paper": "#070707",
}
#: Widths in CSS pixels, of a drawing for a desk and of one for a phone.
WIDE = 860
NARROW = 340

_SVG = "http://www.w3.org/2000/svg"
_VARIABLES = {colour: f"var(--{name})" for name, colour in INK.items()}
#: What a screen reader needs not hear, the image having a text of its own.
_INNER = ("role", "aria-roledescription", "aria-label", "aria-hidden", "class", "pointer-events")
#: Stands for a quote while a drawing is written.
_QUOTE = "\uffff"
#: Attributes that say what holds anyway.
_DEFAULTS = {"opacity": "1", "stroke-width": "0"}

Chart: TypeAlias = "alt.LayerChart | alt.FacetChart"


def over(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """Begin a chart over rows of data."""
    # Altair's signature of Data takes anything, and says no type of it.
    make: Any = alt.Data
    return alt.Chart(make(values=list(rows)))


def legible(text: str) -> str:
    """Replace what XML can't hold, such as control characters, by a mark."""
    return "".join(
        c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "\ufffd"
        for c in text
    )


def room(names: Sequence[str], most: int) -> int:
    """Return the pixels that names need at the left, in a wide font, `most` at most."""
    return min(most, 8 * max(map(len, names), default=0) + 8)


def names_axis(field: str, order: Sequence[str], pixels: int) -> alt.Y:
    """Return an axis of names; they have their room, whatever font the page finds."""
    limit = int(pixels * 0.85)
    axis = alt.Axis(labelColor=INK["ink"], labelLimit=limit, minExtent=pixels)
    return alt.Y(field, sort=order, title=None, axis=axis)


def both(draw: Callable[[int], Chart], alt_text: str) -> Markup:
    """Draw a chart twice, for a desk and for a phone; the page's CSS shows one of them.

    Parameters
    ----------
    draw
        Gives the chart of a width in CSS pixels.
    alt_text
        What the chart shows, for who can't see it.
    """
    return Markup("\n").join(
        _svg(draw(width), alt_text, kind) for width, kind in ((WIDE, "wide"), (NARROW, "narrow"))
    )


def _svg(chart: Chart, alt_text: str, kind: str) -> Markup:
    axis = alt.AxisConfig(
        labelColor=INK["quiet"],
        titleColor=INK["quiet"],
        titleFontWeight="normal",
        labelFontSize=12,
        titleFontSize=12,
        gridColor=INK["line"],
        domain=False,
        ticks=False,
        labelPadding=6,
    )
    configured = chart.configure(
        background="transparent",
        view=alt.ViewConfig(stroke=None),
        axis=axis,
        text=alt.MarkConfig(fontSize=12, color=INK["ink"]),
        padding={"left": 2, "right": 8, "top": 8, "bottom": 2},
    )
    root = ET.fromstring(vl_convert.vegalite_to_svg(configured.to_dict()))
    _adapt(root)
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib.pop("version", None)
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("class", f"chart {kind}")
    root.set("role", "img")
    root.set("aria-label", alt_text)
    root.set("style", f"max-width:{width}px")
    ET.register_namespace("", _SVG)
    # ElementTree escapes all text but quotes, which need it in attributes alone. They are escaped
    # too, by way of a character that `legible` lets nobody use.
    for node in root.iter():
        node.text = node.text and node.text.replace('"', _QUOTE)
    return Markup(ET.tostring(root, encoding="unicode").replace(_QUOTE, "&quot;"))


def _adapt(root: ET.Element) -> None:
    """Turn colours into variables, descriptions into titles; drop what repeats or is not seen."""
    for parent in list(root.iter()):
        for child in list(parent):
            unseen = child.get("display") == "none" or child.get("class") == "background"
            if unseen:
                parent.remove(child)
    for node in root.iter():
        described = node.get("aria-label") if node.get("role") == "graphics-symbol" else None
        if described and node.tag == f"{{{_SVG}}}path":
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = described
            node.insert(0, title)
        for name in _INNER:
            node.attrib.pop(name, None)
        node.attrib.pop("font-family", None)
        for name, value in _DEFAULTS.items():
            if node.get(name) == value:
                del node.attrib[name]
        for name in ("fill", "stroke"):
            colour = node.get(name)
            if colour in _VARIABLES:
                node.set(name, _VARIABLES[colour])
