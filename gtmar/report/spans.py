"""Charts of values with their ranges: segments, weights on other accounts, gains on noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from gtmar.report.drawing import INK, WIDE, Chart, both, legible, names_axis, over, room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from gtmar.report.proof import NullRecord, StabilityRecord
    from gtmar.runs.segments import SegmentPart

__all__ = ["noise_chart", "segment_chart", "span_chart", "stability_chart"]

_START, _BEST = "start", "best"


def span_chart(
    rows: Sequence[dict[str, Any]],
    order: Sequence[str],
    text: str,
    *,
    title: str,
    share: bool = False,
) -> Markup:
    """Draw a value and its range by name, the start's above the best's.

    Parameters
    ----------
    rows
        Each with `name`, `stage`, `value`, `low`, `high`.
    order
        Names from the top down.
    text
        What the chart shows, for who can't see it.
    title
        Of the axis of values.
    share
        Whether values are shares, drawn from 0 to 1.
    """

    def draw(width: int) -> Chart:
        side = room(order, 240 if width == WIDE else 110)
        colours = alt.Color(
            "stage:N",
            scale=alt.Scale(domain=[_START, _BEST], range=[INK["start"], INK["best"]]),
            legend=None,
        )
        base = over(rows).encode(
            y=names_axis("name:N", order, side),
            yOffset=alt.YOffset("stage:N", sort=[_START, _BEST]),
            color=colours,
        )
        scale = alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False, padding=12)
        axis = alt.Axis(format=".0%", tickCount=5) if share else alt.Axis(tickCount=5)
        x = alt.X("low:Q", title=title, scale=scale, axis=axis)
        layers = [
            base.mark_rule(strokeWidth=2, aria=False).encode(x=x, x2="high:Q"),
            base.mark_point(filled=True, size=60, opacity=1, aria=False).encode(x="value:Q"),
        ]
        step = alt.Step(20, **{"for": "offset"})
        return alt.layer(*layers).properties(width=width - side - 40, height=step)

    return both(draw, text)


def segment_chart(part: SegmentPart, objective: str) -> Markup | None:
    """Draw the objective of each segment at the start and at the best; None where none is known."""
    rows = [
        {
            "name": legible(line.name),
            "stage": stage,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
        }
        for line in part.lines
        for stage, interval in ((_START, line.start), (_BEST, line.best))
        if interval.low is not None and interval.high is not None
    ]
    if not rows:
        return None
    known = {row["name"] for row in rows}
    order = [name for line in part.lines if (name := legible(line.name)) in known]
    text = (
        f"Dot chart of {objective} in {len(order)} segments of the accounts {part.part}, at the "
        "start and at the best, with intervals. The table below has the numbers."
    )
    title = f"{objective}, with {100 * part.level:.4g} % interval"
    return span_chart(rows, order, legible(text), title=legible(title))


def stability_chart(record: StabilityRecord) -> Markup:
    """Draw where each weight lies in the searches on other accounts, and what the run found."""
    rows = [{**weight, "name": legible(weight["name"])} for weight in record.weights]
    order = [row["name"] for row in rows]

    def draw(width: int) -> Chart:
        side = room(order, 240 if width == WIDE else 130)
        base = over(rows).encode(y=names_axis("name:N", order, side))
        axis = alt.Axis(tickCount=6, format="d")
        x = alt.X("low:Q", title="points", scale=alt.Scale(padding=12), axis=axis)
        layers = [
            over([{"x": 0}]).mark_rule(color=INK["quiet"], aria=False).encode(x="x:Q"),
            base.mark_rule(color=INK["start"], strokeWidth=3, aria=False).encode(x=x, x2="high:Q"),
            base.mark_point(
                color=INK["best"], fill=INK["best"], size=60, opacity=1, aria=False
            ).encode(x=alt.X("found:Q")),
        ]
        return alt.layer(*layers).properties(width=width - side - 30, height=alt.Step(22))

    text = (
        f"Range chart of {len(rows):,} weights over {record.searches:,} searches on resampled "
        "accounts, beside the weight that the run found. The table below has the numbers."
    )
    return both(draw, text)


def noise_chart(record: NullRecord) -> Markup:
    """Draw the gain of each search on noise, and the run's own."""
    rows = [{"gain": gain, "of": "noise"} for gain in record.gains]

    def draw(width: int) -> Chart:
        x = alt.X(
            "gain:Q",
            title="gain on the accounts searched",
            scale=alt.Scale(zero=True, padding=12),
            axis=alt.Axis(tickCount=5),
        )
        layers = [
            over(rows)
            .mark_tick(color=INK["start"], thickness=2, size=34, opacity=1, aria=False)
            .encode(x=x),
            over([{"gain": record.found}])
            .mark_rule(color=INK["best"], strokeWidth=3, aria=False)
            .encode(x=x),
        ]
        return alt.layer(*layers).properties(width=width - 60, height=60)

    text = (
        f"Strip of the gains of {len(rows):,} searches on shuffled outcomes, half of them "
        f"{record.typical:.4f} or more, beside the run's gain of {record.found:.4f}."
    )
    return both(draw, text)
