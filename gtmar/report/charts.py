"""Charts of values with their ranges: segments, weights on other accounts, gains on noise."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import altair as alt

from gtmar.report.account_table import GRID
from gtmar.report.drawing import INK, WIDE, Chart, both, legible, names_axis, over, room
from gtmar.report.words import arrows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from gtmar.report.account_table import Capture
    from gtmar.report.null_and_stability import NullRecord, StabilityRecord
    from gtmar.report.run_content import Evidence, TierLine
    from gtmar.runs.segments import SegmentPart

__all__ = [
    "capture_chart",
    "noise_chart",
    "objective_chart",
    "segment_chart",
    "span_chart",
    "stability_chart",
    "tier_chart",
    "weight_chart",
]


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


#: Wins that are named in the chart itself, and the least distance between two names, as a share of
#: the chart's height.
_NAMED, _APART = 5, 0.075
#: Longest name of a win in the chart, in characters.
_LONGEST = {True: 44, False: 24}
_START, _BEST = "start", "best"


def objective_chart(evidence: Evidence) -> Markup:
    """Draw the objective over experiments: best so far, every win, and what else was tried."""
    s = evidence.review.summary
    wins = evidence.review.wins.to_dicts()
    last = max([1, s["experiments"], s["last_win"] or 0, *evidence.tried["last"].to_list()])
    steps = [{"x": 0, "y": s["baseline_value"]}]
    steps += [{"x": w["number"], "y": w["value_after"]} for w in wins]
    steps.append({"x": last, "y": s["best_value"]})
    bands = [
        {"x": x, "low": row["low"], "high": row["high"]}
        for row in evidence.tried.to_dicts()
        for x in (row["first"] - 1, row["last"])
    ]
    marks = [
        {
            "x": w["number"],
            "y": w["value_after"],
            "what": legible(f"{w['experiment_id']}: {arrows(w['changes'])} ({w['gain']:+.4f})"),
        }
        for w in wins
    ]
    seen = [*(b["low"] for b in bands), *(b["high"] for b in bands), *(p["y"] for p in steps)]
    ends = min(seen), max(seen)

    def draw(width: int) -> Chart:
        x = alt.X(
            "x:Q",
            title="experiment, on a square-root scale",
            scale=alt.Scale(type="sqrt", domain=[0, last]),
            axis=alt.Axis(grid=False, format=",d", values=_ticks(last)),
        )
        scale = alt.Scale(zero=False, domain=ends, nice=True)
        y = alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5))
        named = [
            {**name, "text": _short(name["text"], _LONGEST[width == WIDE])}
            for name in _names(wins, ends, last, rising=bool(s["higher_is_better"]))
        ]
        layers = [
            over(bands)
            .mark_area(color=INK["band"], opacity=1, aria=False)
            .encode(x=x, y=alt.Y("low:Q", scale=scale, title=None), y2="high:Q"),
            over([{"y": s["baseline_value"]}])
            .mark_rule(color=INK["start"], strokeDash=[4, 4], aria=False)
            .encode(y=y),
            over(steps)
            .mark_line(color=INK["best"], interpolate="step-after", strokeWidth=2, aria=False)
            .encode(x=x, y=y),
            over(marks)
            .mark_point(color=INK["best"], fill=INK["paper"], size=36, opacity=1)
            .encode(x=x, y=y, description="what:N"),
        ]
        if named:
            layers.append(
                over(named)
                .mark_text(align="left", baseline="middle", dx=9, aria=False)
                .encode(x=x, y=y, text="text:N")
            )
        height = 300 if width == WIDE else 240
        return alt.layer(*layers).properties(width=width - 60, height=height)

    text = (
        f"Line chart of {s['objective']} over {s['experiments']:,} experiments, from "
        f"{s['baseline_value']:.4f} to {s['best_value']:.4f} in {len(wins):,} steps, one for each "
        "win. The table below lists them."
    )
    return both(draw, legible(text))


def _names(
    wins: Sequence[dict[str, Any]], ends: tuple[float, float], last: int, *, rising: bool
) -> list[dict[str, Any]]:
    """Choose the wins to be named in the chart: the largest gains that leave each other room."""
    height = (ends[1] - ends[0]) or 1.0
    chosen: list[dict[str, Any]] = []
    for win in sorted(wins, key=lambda w: -abs(w["gain"])):
        # Right of a late win there is no room; its name stands in the table.
        if win["number"] > 0.3 * last or len(chosen) == _NAMED:
            continue
        # The name stands on the side of the line that it leaves empty, clear of it.
        clear = max(0.25 * abs(win["gain"]), 0.05 * height)
        y = win["value_after"] - (1 if rising else -1) * clear
        if all(abs(y - other["y"]) >= _APART * height for other in chosen):
            chosen.append({"x": win["number"], "y": y, "text": legible(arrows(win["changes"]))})
    return chosen


def _ticks(last: int) -> list[int]:
    """Return round numbers that keep their distance on a square-root scale of 0 to `last`."""
    round_numbers = [10**e * m for e in range(12) for m in (1, 2, 5)]
    ticks = [0]
    for number in round_numbers:
        if number <= last and sqrt(number / last) - sqrt(ticks[-1] / last) >= 0.12:
            ticks.append(number)
    return ticks


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(", ") + "…"


def weight_chart(evidence: Evidence) -> Markup:
    """Draw each weight at the start and at the best, a line between the two."""
    rows = [
        {"name": legible(row["feature"]), _START: row["start"], _BEST: row["best"]}
        for row in evidence.review.weights.to_dicts()
    ]
    order = [row["name"] for row in rows]

    def draw(width: int) -> Chart:
        side = room(order, 240 if width == WIDE else 130)
        base = over(rows).encode(y=names_axis("name:N", order, side))
        x = alt.X(
            f"{_START}:Q",
            title="points",
            scale=alt.Scale(padding=12),
            axis=alt.Axis(tickCount=6, format="d"),
        )
        layers = [
            base.mark_rule(color=INK["quiet"], strokeWidth=2, aria=False).encode(
                x=x, x2=f"{_BEST}:Q"
            ),
            base.mark_point(
                color=INK["start"], fill=INK["paper"], size=60, opacity=1, aria=False
            ).encode(x=x),
            base.mark_point(
                color=INK["best"], fill=INK["best"], size=60, opacity=1, aria=False
            ).encode(x=alt.X(f"{_BEST}:Q")),
        ]
        return alt.layer(*layers).properties(width=width - side - 30, height=alt.Step(22))

    moved = sum(row[_START] != row[_BEST] for row in rows)
    text = (
        f"Dot chart of {len(rows):,} weights at the start and at the best; {moved:,} of them "
        "moved. The table below lists them."
    )
    return both(draw, text)


def tier_chart(tiers: Sequence[TierLine]) -> Markup | None:
    """Draw logo retention by tier with its intervals; None where no tier has any."""
    rows = [
        {
            "name": legible(line.tier),
            "stage": line.stage,
            "value": line.logo_retention,
            "low": line.logo_interval[0],
            "high": line.logo_interval[1],
        }
        for line in tiers
        if line.logo_interval is not None
    ]
    if not rows:
        return None
    order = [legible(line.tier) for line in tiers if line.stage == _START]
    text = (
        f"Dot chart of the share of accounts kept in each of {len(order)} tiers, at the start and "
        "at the best, with 95 % intervals. The table below has the numbers."
    )
    return span_chart(rows, order, text, title="logos kept, with 95 % interval", share=True)


def capture_chart(capture: Capture) -> Markup:
    """Draw what the best-scored share of accounts captures, by start, best and chance."""
    lines = {
        "perfect": (capture.perfect, INK["quiet"], [2, 3]),
        "random": (GRID, INK["quiet"], [6, 4]),
        _START: (capture.start, INK["start"], [1, 0]),
        _BEST: (capture.best, INK["best"], [1, 0]),
    }

    def draw(width: int) -> Chart:
        x = alt.X(
            "x:Q", title="accounts, best score first", axis=alt.Axis(format=".0%", tickCount=5)
        )
        y = alt.Y("y:Q", title=None, axis=alt.Axis(format=".0%", tickCount=5))
        layers = [
            over(
                [
                    {"x": round(float(a), 4), "y": round(float(b), 5)}
                    for a, b in zip(GRID, curve, strict=True)
                ]
            )
            .mark_line(color=colour, strokeDash=dash, strokeWidth=2, aria=False)
            .encode(x=x, y=y)
            for curve, colour, dash in lines.values()
        ]
        height = 320 if width == WIDE else 240
        return alt.layer(*layers).properties(width=min(width - 60, 600), height=height)

    at = int(0.2 * (len(GRID) - 1))
    text = (
        f"Capture curve. The best-scored 20 % of {capture.accounts:,} accounts hold "
        f"{capture.start[at]:.1%} of {capture.of} by the start's scores, {capture.best[at]:.1%} by "
        f"the best's, 20.0% in a random order, {capture.perfect[at]:.1%} in a perfect one."
    )
    return both(draw, text)
