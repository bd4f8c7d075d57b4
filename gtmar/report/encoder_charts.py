"""The chart of one feature: value against points, with the accounts beneath and how many stay."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import altair as alt

from gtmar.report.charts import INK, WIDE, both, dots, legible, line, over, rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from gtmar.report.encoder_pictures import Band, EncoderPicture

__all__ = ["encoder_chart"]


def encoder_chart(picture: EncoderPicture) -> Markup:
    """Draw a feature: points by value, beneath the share of accounts and how many of them stay."""
    low, high = (end(band.points for band in picture.bands) for end in (min, max))
    text = (
        f"{picture.feature}: points from {low:.1f} to {high:.1f} over {len(picture.bands)} bands "
        "of values, with the share that each has and the share of those that stay. The "
        "table below has the numbers."
    )
    draw = _number if picture.line else _categories
    return both(lambda width: draw(picture, width), legible(text))


def _rows(bands: Sequence[Band]) -> list[dict[str, Any]]:
    return [{**vars(band), "name": legible(band.name)} for band in bands]


def _bars(rows: Sequence[dict[str, Any]], ink: str) -> alt.Chart:
    return over(rows).mark_bar(color=INK[ink], opacity=1, aria=False)


def _number(picture: EncoderPicture, width: int) -> alt.VConcatChart:
    """Stack three charts over one axis of values; each unknown has no place on it."""
    rows = _rows([band for band in picture.bands if band.low is not None])
    # A band of one value is as wide as the distance to the nearest other.
    gaps = [b["low"] - a["low"] for a, b in itertools.pairwise(rows)] or [1.0]
    for row in rows:
        row["middle"] = (row["low"] + row["high"]) / 2
        if row["low"] == row["high"]:
            row["low"], row["high"] = (row["low"] + s * 0.4 * min(gaps) for s in (-1, 1))
    scale = alt.Scale(domain=[rows[0]["low"], rows[-1]["high"]], nice=False)
    title = legible(picture.feature)

    def x(field: str, *, named: bool = False) -> alt.X:
        axis = alt.Axis(tickCount=6, grid=False, labels=named, title=title if named else None)
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    share = alt.Axis(format=".0%", tickCount=2)
    ends = [{"x": value, "y": points} for value, points in picture.line]
    shape = "step-after" if picture.steps else "linear"
    drawn = line(ends, "best", interpolate=shape, clip=True)
    middle = alt.Y("retention_low:Q", title="stay", axis=share, scale=alt.Scale(domain=[0, 1]))
    charts = (
        drawn.encode(x=x("x"), y=alt.Y("y:Q", title="points", axis=alt.Axis(tickCount=4))),
        _bars(rows, "band").encode(
            x=x("low"),
            x2="high:Q",
            y=alt.Y("share:Q", title="share", axis=share),
            y2=alt.datum(0),
        ),
        alt.layer(
            rule(rows, "quiet").encode(x=x("middle", named=True), y=middle, y2="retention_high:Q"),
            dots(rows, "ink", size=30).encode(x=x("middle", named=True), y="retention:Q"),
        ),
    )
    room = min(width, 640) - 80
    heights = (130, 50, 60)
    sized = [c.properties(width=room, height=h) for c, h in zip(charts, heights, strict=True)]
    return alt.vconcat(*sized, spacing=6)


def _categories(picture: EncoderPicture, width: int) -> alt.HConcatChart:
    """Set three charts beside each other, a line a category."""
    rows = _rows(picture.bands)
    order = [row["name"] for row in rows]
    side = 150 if width == WIDE else 80
    room = (min(width, 640) - side - 50) // 3

    def y(*, named: bool) -> alt.Y:
        axis = alt.Axis(labels=named, labelLimit=side - 10, labelColor=INK["ink"])
        return alt.Y("name:N", sort=order, title=None, axis=axis if named else None)

    share = alt.Axis(format=".0%", tickCount=2, grid=False)
    points = alt.X("points:Q", title="points", axis=alt.Axis(tickCount=2, grid=False))
    stay = alt.X("retention_low:Q", title="stay", axis=share, scale=alt.Scale(domain=[0, 1]))
    charts = (
        _bars(rows, "best").encode(y=y(named=True), x=points),
        _bars(rows, "band").encode(y=y(named=False), x=alt.X("share:Q", title="share", axis=share)),
        alt.layer(
            rule(rows, "quiet").encode(y=y(named=False), x=stay, x2="retention_high:Q"),
            dots(rows, "ink", size=30).encode(y=y(named=False), x="retention:Q"),
        ),
    )
    sized = [c.properties(width=room, height=alt.Step(20)) for c in charts]
    return alt.hconcat(*sized, spacing=12)
