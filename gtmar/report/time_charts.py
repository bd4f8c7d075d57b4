"""Charts over time: metrics and tiers by date, walks, time to leaving, and MRR by month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from gtmar.journal.sentences import DATED
from gtmar.report.charts import INK, WIDE, both, dots, layered, legible, line, over, rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from markupsafe import Markup

    from gtmar.report.charts import Chart
    from gtmar.runs.kept_scores import Measurement
    from gtmar.runs.leaving import TimeToLeaving
    from gtmar.runs.walk import Walked

__all__ = [
    "MARKS",
    "SIDES",
    "dates_chart",
    "gains_chart",
    "leaving_chart",
    "level_chart",
    "metric_chart",
    "moves_chart",
    "probability_chart",
    "shadows_chart",
    "tiers_chart",
    "walk_chart",
]

#: Sides of a walk: label, ink and dashes of the line, and CSS class of the legend's entry.
SIDES: dict[str, tuple[str, str, list[int], str]] = {
    "retuned": ("re-tuned", "best", [1, 0], "best"),
    "alone": ("left alone", "start", [1, 0], "start"),
    "once": ("tuned once", "start", [6, 4], "start dashed"),
    "logistic": ("logistic regression", "quiet", [1, 0], "quiet"),
    "column": ("your score", "quiet", [2, 3], "quiet dotted"),
}
#: Ink of a movement's bar, and whether the bar is filled. Gains are drawn above the axis, losses
#: below it.
MARKS = {
    "new": ("best", True),
    "expansion": ("good", True),
    "contraction": ("start", True),
    "churn": ("bad", True),
    "reactivation": ("best", False),
    "pause": ("bad", False),
    "resumption": ("good", False),
}
_SOLID, _DASHED = [1, 0], [6, 4]
#: Heights in CSS pixels for a desktop and for a phone.
_HEIGHTS = (240, 200)
#: Vega expression: the row has an interval.
_KNOWN = "datum.low != null"
#: Ink, dashes and CSS class of the legend's entry for up to three shadows.
_SHADOWS = (
    ("best", _SOLID, "best"),
    ("start", _DASHED, "start dashed"),
    ("quiet", [2, 3], "quiet dotted"),
)


def metric_chart(measured: Sequence[Measurement], since: Sequence[date]) -> Markup | None:
    """Draw the objective by date with its interval; None without any value.

    Dashed lines mark the promotions, on the days in `since`.
    """
    points: list[dict[str, Any]] = [
        {"x": str(each.day), "verdict": each.verdict, **_ends(each.metrics[each.objective])}
        for each in measured
        if each.metrics[each.objective].value is not None
    ]
    if not points:
        return None
    promoted = [{"x": str(day)} for day in since]

    def draw(width: int) -> Chart:
        x = _dates([row["x"] for row in (*points, *promoted)])
        y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, padding=8))
        layers = [
            rule(promoted, "start", strokeDash=_DASHED).encode(x=x),
            line(points, "best", strokeWidth=1).encode(x=x, y=y),
        ]
        for verdict, ink, fill in (
            ("holds", "best", "best"),
            ("worse", "bad", "bad"),
            ("unknown", "quiet", "paper"),
        ):
            own = [row for row in points if row["verdict"] == verdict]
            layers += [_intervals(own, ink, x), dots(own, ink, fill, 60).encode(x=x, y=y)]
        return layered(layers, width, 70, _HEIGHTS)

    first, last = points[0], points[-1]
    text = (
        f"Chart of {measured[-1].objective} on {len(points):,} dates with 95% intervals, from "
        f"{first['value']:.4f} on {first['x']} to {last['value']:.4f} on {last['x']}, and "
        f"{len(promoted)} promotions. The table below has the numbers."
    )
    return both(draw, legible(text))


def shadows_chart(measured: Sequence[Measurement]) -> tuple[Markup, dict[str, str]] | None:
    """Draw the gains of the newest three shadows over the live score, by date.

    Returns the chart, and the CSS class of each shadow's legend entry by the shadow's name. None if
    no shadow was measured.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for each in measured:
        for name, gain in each.gains.items():
            if name.startswith("shadow") and gain.value is not None:
                rows.setdefault(name, []).append({"x": str(each.day), **_ends(gain)})
    if not rows:
        return None
    newest = sorted(rows, key=lambda name: rows[name][-1]["x"])[-len(_SHADOWS) :]
    looks = dict(zip(newest, _SHADOWS, strict=False))

    def draw(width: int) -> Chart:
        x = _dates([row["x"] for name in newest for row in rows[name]])
        y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5))
        layers = [rule([{"value": 0}], "quiet").encode(y=y)]
        for name, (ink, dashes, _) in looks.items():
            layers += [
                line(rows[name], ink, strokeDash=dashes).encode(x=x, y=y),
                _intervals(rows[name], ink, x),
                dots(rows[name], ink).encode(x=x, y=y),
            ]
        return layered(layers, width, 70, _HEIGHTS)

    text = (
        f"Chart of the gain of {len(newest)} shadows over the live score, by date, with 95% "
        "intervals. The table of dates has the numbers."
    )
    return both(draw, text), {name: look[2] for name, look in looks.items()}


def tiers_chart(measured: Sequence[Measurement]) -> Markup | None:
    """Draw the share of each tier that was retained, by date; None if no share is known."""
    rows = [
        {"x": str(each.day), "name": row["tier"], "value": row["retained"]}
        for each in measured
        for row in each.tiers
        if row["retained"] is not None
    ]
    return _by_tier(
        rows, f"Line chart of the share of each tier that stayed, on {len(measured):,} dates."
    )


def leaving_chart(leaving: TimeToLeaving) -> Markup | None:
    """Draw the share of each tier that has left, by days after the score; None without any."""
    rows = [
        {"x": days, "name": tier, **_ends(each.gone)}
        for tier, by_days in leaving.of("tier").items()
        for days, each in by_days.items()
        if each.gone.value is not None
    ]
    return _by_tier(rows, "Chart of the share of each tier that is gone after some days.")


def _by_tier(rows: Sequence[Mapping[str, Any]], text: str) -> Markup | None:
    """Draw a line per tier, labelled at its end, with intervals if the rows have them."""
    if not rows:
        return None
    names = list(dict.fromkeys(row["name"] for row in rows))
    tiers = {name: [row for row in rows if row["name"] == name] for name in names}

    def draw(width: int) -> Chart:
        of_days = isinstance(rows[0]["x"], int)
        every = sorted({row["x"] for row in rows})
        if of_days:
            scale = alt.Scale(domain=[0, every[-1]])
            axis = alt.Axis(grid=False, values=every)
            x = alt.X("x:Q", title="days after the score", scale=scale, axis=axis)
        else:
            x = _dates(every)
        y = alt.Y("value:Q", title=None, axis=alt.Axis(format=".0%", tickCount=5))
        layers = []
        for number, (name, own) in enumerate(tiers.items()):
            ink = "best" if number == 0 else "bad" if number == len(names) - 1 else "quiet"
            named = [{**row, "name": legible(name)} for row in own]
            layers.append(line(named, ink).encode(x=x, y=y))
            if "low" in own[0]:
                layers.append(_intervals(named, ink, x))
            layers.append(dots(named, ink).encode(x=x, y=y))
            label = over(named[-1:]).mark_text(
                align="left", baseline="middle", dx=8, limit=60, aria=False
            )
            layers.append(label.encode(x=x, y=y, text=alt.Text("name:N")))
        return layered(layers, width, 110, _HEIGHTS)

    return both(draw, f"{text} The table below has the numbers.")


def probability_chart(measured: Sequence[Measurement]) -> Markup | None:
    """Draw the predicted and the actual share that leaves, by date; None without any."""
    both_known = [(str(each.day), *each.probability) for each in measured if each.probability]
    if not both_known:
        return None
    expected = [{"x": day, "value": value} for day, value, _ in both_known]
    left = [{"x": day, "value": value} for day, _, value in both_known]
    text = (
        f"Line chart of the share that leaves by the probabilities and the share that left, "
        f"on {len(expected):,} dates. The table below has the numbers."
    )
    return _lines([(expected, "start", _DASHED), (left, "best", _SOLID)], text, share=True)


def walk_chart(walked: Walked) -> Markup | None:
    """Draw the objective of each side of a walk, by date; None without any value."""
    lines = []
    for name, (_, ink, dashes, _) in SIDES.items():
        rows = [
            {"x": str(step.day), "value": value}
            for step in walked.steps
            if (value := step.values.get(name)) is not None
        ]
        if rows:
            lines.append((rows, ink, dashes))
    if not lines:
        return None
    text = (
        f"Line chart of {walked.objective} on {len(walked.steps):,} dates, re-tuned and left "
        "alone, and what else was tried. The table below has the numbers."
    )
    return _lines(lines[::-1], legible(text))


def dates_chart(rows: Sequence[Mapping[str, Any]], objective: str) -> Markup | None:
    """Draw the objective at the start and at the best by date; None without any value.

    `rows` are those of `Evidence.dates`. The values are of the accounts held out, if there are any.
    """
    part = "held_out" if any("held_out" in row for row in rows) else "searched"
    lines = []
    for end, ink in (("start", "start"), ("best", "best")):
        own = [
            {"x": row["day"], "value": row[part][end]}
            for row in rows[:-1]
            if part in row and row[part][end] is not None
        ]
        lines += [(own, ink, _SOLID)] if own else []
    if not lines:
        return None
    text = (
        f"Line chart of {objective} on {len(rows) - 1:,} dates, at the start and at the best, on "
        f"the accounts {DATED[part]}. The table below has the numbers."
    )
    return _lines(lines, legible(text))


def _lines(
    lines: Iterable[tuple[Sequence[Mapping[str, Any]], str, list[int]]],
    text: str,
    *,
    share: bool = False,
) -> Markup:
    drawn = list(lines)

    def draw(width: int) -> Chart:
        x = _dates([row["x"] for rows, *_ in drawn for row in rows])
        axis = alt.Axis(format=".0%", tickCount=5) if share else alt.Axis(tickCount=5)
        y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, padding=8), axis=axis)
        layers = []
        for rows, ink, dashes in drawn:
            layers.append(line(rows, ink, strokeDash=dashes).encode(x=x, y=y))
            layers.append(dots(rows, ink).encode(x=x, y=y))
        return layered(layers, width, 70, _HEIGHTS)

    return both(draw, text)


def gains_chart(walked: Walked) -> Markup | None:
    """Draw the mean gain of re-tuning over each other side with its interval; None without any."""
    rows = [
        {"name": SIDES[name][0], **_ends(gain)}
        for name, gain in walked.gains.items()
        if gain.value is not None
    ]
    if not rows:
        return None
    names = [str(row["name"]) for row in rows]

    def draw(width: int) -> Chart:
        side = 150 if width == WIDE else 120
        axis = alt.Axis(labelColor=INK["ink"], labelLimit=side, minExtent=side)
        y = alt.Y("name:N", sort=names, title=None, axis=axis)
        x = alt.X("low:Q", title=None, scale=alt.Scale(padding=12), axis=alt.Axis(tickCount=5))
        ends = rule(rows, "best", strokeWidth=2).transform_filter(_KNOWN)
        layers = [
            rule([{"x": 0}], "quiet").encode(x=alt.X("x:Q")),
            ends.encode(x=x, x2=alt.X2("high:Q"), y=y),
            dots(rows, "best", size=60).encode(x=alt.X("value:Q"), y=y),
        ]
        return alt.layer(*layers).properties(width=width - side - 40, height=alt.Step(28))

    text = (
        f"Range chart of the mean gain of re-tuning over {len(rows)} others, with 95% intervals. "
        "The table below has the numbers."
    )
    return both(draw, text)


def _ends(interval: Any) -> dict[str, float | None]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _intervals(rows: Sequence[Mapping[str, Any]], ink: str, x: alt.X) -> alt.Chart:
    """Draw the intervals of the values that have one."""
    ends = rule(rows, ink, strokeWidth=2).transform_filter(_KNOWN)
    return ends.encode(x=x, y=alt.Y("low:Q", title=None), y2=alt.Y2("high:Q"))


def _dates(days: Iterable[Any]) -> alt.X:
    """Return an axis of dates, with as many labels as fit."""
    every = sorted({str(day) for day in days})
    ticks: Any = [
        {"year": int(day[:4]), "month": int(day[5:7]), "date": int(day[8:]), "utc": True}
        for day in every
    ]
    axis = alt.Axis(
        grid=False,
        format="%Y-%m-%d",
        labelAngle=0,
        labelOverlap="greedy",
        labelSeparation=10,
        values=ticks,
    )
    scale = alt.Scale(type="utc", domain=[every[0], every[-1]], padding=12)
    if len(every) == 1:
        scale = alt.Scale(type="utc")
    return alt.X("x:T", title=None, scale=scale, axis=axis)


# ---- MRR at each month's end, and its movements --------------------------------------------------


def _month(row: Mapping[str, Any]) -> str:
    return f"{row['month']:%Y-%m}"


def _months(months: Sequence[Mapping[str, Any]]) -> alt.X:
    """Return an axis of all months; labels that would overlap are left out."""
    axis = alt.Axis(grid=False, labelAngle=0, labelOverlap="greedy", labelSeparation=8)
    # The domain includes months without any movement.
    scale = alt.Scale(domain=[_month(row) for row in months])
    return alt.X("month:O", title=None, scale=scale, axis=axis)


def _money_axis(values: Sequence[float]) -> alt.Axis:
    """Return an axis of money, which abbreviates amounts from 10,000 on."""
    long = max((abs(value) for value in values), default=0) >= 10_000
    return alt.Axis(tickCount=5, format="~s" if long else ",.2~f")


def level_chart(months: Sequence[Mapping[str, Any]], marked: Sequence[date]) -> Markup:
    """Draw MRR at each month's end; `marked` months, whose sums differ, get a cross."""
    ends = [{"month": _month(row), "value": row["end"] / 100} for row in months]
    wrong = [point for row, point in zip(months, ends, strict=True) if row["month"] in marked]
    axis = _money_axis([point["value"] for point in ends])

    def draw(width: int) -> Chart:
        y = alt.Y("value:Q", title=None, axis=axis)
        marks = [line(ends, "best"), dots(ends, "best", "paper", 30)]
        marks += [dots(wrong, "bad", size=160, shape="cross")] if wrong else []
        layers = [mark.encode(x=_months(months), y=y) for mark in marks]
        return layered(layers, width, 70, (220, 180))

    text = (
        f"Line chart of MRR at the end of {len(ends):,} months, from {ends[0]['value']:,.2f} in "
        f"{ends[0]['month']} to {ends[-1]['value']:,.2f} in {ends[-1]['month']}; {len(wrong)} of "
        "them differ from another sum. The table below has the numbers."
    )
    return both(draw, text)


def moves_chart(months: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> Markup:
    """Draw the movements of MRR in each month as stacked bars, gains above and losses below 0."""
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
        x = _months(months)
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
            layers.append(bar.encode(x=x, y=y, y2=alt.Y2("high:Q")))
        layers.append(rule([{"y": 0}], "quiet").encode(y=alt.Y("y:Q")))
        return layered(layers, width, 70, (260, 220))

    text = (
        f"Bar chart of what moved MRR in {len(months):,} months: {', '.join(kinds)}. The table "
        "below has the numbers."
    )
    return both(draw, text)
