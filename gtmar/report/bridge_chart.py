"""The charts of a bridge: MRR at each month's end, and what moved it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from gtmar.report.charts import INK, both, dots, layered, line, over, rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from markupsafe import Markup

    from gtmar.report.charts import Chart

__all__ = ["MARKS", "level_chart", "moves_chart"]

#: Ink of a movement's bar, and whether it is filled; what comes stands above the line, what goes
#: below it, and a pause and its resumption are hollow.
MARKS = {
    "new": ("best", True),
    "expansion": ("good", True),
    "contraction": ("start", True),
    "churn": ("bad", True),
    "reactivation": ("best", False),
    "pause": ("bad", False),
    "resumption": ("good", False),
}


def _month(row: Mapping[str, Any]) -> str:
    return f"{row['month']:%Y-%m}"


def _x(months: Sequence[Mapping[str, Any]]) -> alt.X:
    """Return an axis of all months; labels that would touch each other are left out."""
    axis = alt.Axis(grid=False, labelAngle=0, labelOverlap="greedy", labelSeparation=8)
    # A month in which nothing moved has its place too.
    scale = alt.Scale(domain=[_month(row) for row in months])
    return alt.X("month:O", title=None, scale=scale, axis=axis)


def _money_axis(values: Sequence[float]) -> alt.Axis:
    """Return an axis of money: short where the numbers are long."""
    long = max((abs(value) for value in values), default=0) >= 10_000
    return alt.Axis(tickCount=5, format="~s" if long else ",.2~f")


def level_chart(months: Sequence[Mapping[str, Any]], marked: Sequence[date]) -> Markup:
    """Draw MRR at each month's end; a month in which sums differ has a mark of its own."""
    ends = [{"month": _month(row), "value": row["end"] / 100} for row in months]
    wrong = [point for row, point in zip(months, ends, strict=True) if row["month"] in marked]
    axis = _money_axis([point["value"] for point in ends])

    def draw(width: int) -> Chart:
        y = alt.Y("value:Q", title=None, axis=axis)
        marks = [line(ends, "best"), dots(ends, "best", "paper", 30)]
        marks += [dots(wrong, "bad", size=160, shape="cross")] if wrong else []
        layers = [mark.encode(x=_x(months), y=y) for mark in marks]
        return layered(layers, width, 70, (220, 180))

    text = (
        f"Line chart of MRR at the end of {len(ends):,} months, from {ends[0]['value']:,.2f} in "
        f"{ends[0]['month']} to {ends[-1]['value']:,.2f} in {ends[-1]['month']}; {len(wrong)} of "
        "them differ from another sum. The table below has the numbers."
    )
    return both(draw, text)


def moves_chart(months: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> Markup:
    """Draw what moved MRR in each month: what came above the line, what went below it."""
    bars = []
    for row in months:
        tops = {True: 0.0, False: 0.0}
        for kind in kinds:
            if row[kind]:
                low = tops[row[kind] > 0]
                tops[row[kind] > 0] = high = low + row[kind] / 100
                bars.append({"month": _month(row), "kind": kind, "low": low, "high": high})
    scale = [each["high"] for each in bars]

    def draw(width: int) -> Chart:
        axis = _money_axis(scale)
        x = _x(months)
        layers: list[alt.Chart] = []
        for kind in kinds:
            ink, filled = MARKS[kind]
            own = [bar for bar in bars if bar["kind"] == kind]
            bar = over(own).mark_bar(
                color=INK[ink if filled else "paper"],
                stroke=INK[ink],
                strokeWidth=1,
                opacity=1,
                aria=False,
            )
            y = alt.Y("low:Q", title=None, axis=axis)
            layers.append(bar.encode(x=x, y=y, y2="high:Q"))
        layers.append(rule([{"y": 0}], "quiet").encode(y="y:Q"))
        return layered(layers, width, 70, (260, 220))

    text = (
        f"Bar chart of what moved MRR in {len(months):,} months: {', '.join(kinds)}. The table "
        "below has the numbers."
    )
    return both(draw, text)
