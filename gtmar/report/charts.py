"""The charts of a run's page as inline SVG, in the page's font and themed by its CSS.

A chart is drawn in the placeholder colours of `INK`. Each is then replaced by the CSS variable of
its name, so that the page's CSS sets the colours for light, dark and print.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

import altair as alt
import vl_convert
from altair.utils.schemapi import debug_mode
from markupsafe import Markup

from gtmar.plain_data import arrows
from gtmar.report.account_table import GRID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gtmar.journal.front import Front
    from gtmar.report.account_table import Band, Capture, EncoderPicture
    from gtmar.report.content import Evidence, StabilityRecord
    from gtmar.runs.segments import SegmentPart
    from gtmar.validation.repeated_search import NullAnswers

__all__ = [
    "INK",
    "MOST_DRAWN",
    "WIDE",
    "Chart",
    "both",
    "capture_chart",
    "dots",
    "encoder_chart",
    "front_chart",
    "layered",
    "legible",
    "line",
    "null_charts",
    "objective_chart",
    "over",
    "rule",
    "segment_chart",
    "stability_chart",
    "tier_chart",
    "weight_chart",
]

#: Placeholder colours by the name of the CSS variable that replaces them; all are different.
INK = {
    "ink": "#010101",
    "quiet": "#020202",
    "line": "#030303",
    "start": "#040404",
    "best": "#050505",
    "band": "#060606",
    "paper": "#070707",
    "good": "#080808",
    "bad": "#090909",
}
#: Widths in CSS pixels of the drawings for a desktop and for a phone.
WIDE = 860
NARROW = 340

_SVG = "http://www.w3.org/2000/svg"
_VARIABLES = {colour: f"var(--{name})" for name, colour in INK.items()}
#: Attributes removed from the SVG: those for screen readers, since the image has its own text, and
#: the font, which is the page's.
_INNER = (
    *("role", "aria-roledescription", "aria-label", "aria-hidden", "class", "pointer-events"),
    "font-family",
)
#: Placeholder for quotes while an SVG is serialised.
_QUOTE = "\uffff"
#: Attributes that only repeat SVG's defaults.
_DEFAULTS = {"opacity": "1", "stroke-width": "0"}

#: Most weights drawn in the chart of weights: those that changed most.
MOST_DRAWN = 40

Chart: TypeAlias = (
    "alt.Chart | alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart"
)
_START, _BEST = "start", "best"
#: Most wins labelled in the chart, and the smallest distance between two labels as a share of the
#: chart's height.
_NAMED, _APART = 5, 0.075
#: Most compromises drawn.
_COMPROMISES = 60
#: Longest label of a win, in characters, in the wide and in the narrow drawing.
_LONGEST, _LONGEST_NARROW = 44, 24

# ---- the charts ---------------------------------------------------------------------------------


def objective_chart(evidence: Evidence) -> Markup:
    """Draw the objective over experiments: best so far, every win, and the range of all values."""
    s = evidence.review.summary
    wins = evidence.review.wins
    last = max([1, s["experiments"], s["last_win"] or 0, *evidence.tried["last"].to_list()])
    steps = [
        {"x": 0, "y": s["baseline_value"]},
        *({"x": win["number"], "y": win["value_after"]} for win in wins),
        {"x": last, "y": s["best_value"]},
    ]
    bands = [
        {"x": x, "low": row["low"], "high": row["high"]}
        for row in evidence.tried.to_dicts()
        for x in (row["first"] - 1, row["last"])
    ]
    marks = [
        {
            "x": w["number"],
            "y": w["value_after"],
            "what": legible(f"{w['experiment_id']}: {arrows(w['largest'])} ({w['gain']:+.4f})"),
        }
        for w in wins
    ]
    seen = [*(b["low"] for b in bands), *(b["high"] for b in bands), *(p["y"] for p in steps)]
    ends = min(seen), max(seen)
    names = _win_names(wins, ends, last, rising=bool(s["higher_is_better"]))

    def draw(width: int) -> Chart:
        x = alt.X(
            "x:Q",
            title="experiment, on a square-root scale",
            scale=alt.Scale(type="sqrt", domain=[0, last]),
            axis=alt.Axis(grid=False, format=",d", values=_ticks(last)),
        )
        scale = alt.Scale(zero=False, domain=ends, nice=True)
        y = alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5))
        longest = _LONGEST if width == WIDE else _LONGEST_NARROW
        named = [{**name, "text": _short(name["text"], longest)} for name in names]
        layers = [
            over(bands)
            .mark_area(color=INK["band"], opacity=1, aria=False)
            .encode(x=x, y=alt.Y("low:Q", scale=scale, title=None), y2=alt.Y2("high:Q")),
            rule([{"y": s["baseline_value"]}], "start", strokeDash=[4, 4]).encode(y=y),
            line(steps, "best", interpolate="step-after").encode(x=x, y=y),
            dots(marks, "best", "paper", 36, aria=True).encode(
                x=x, y=y, description=alt.Description("what:N")
            ),
        ]
        if named:
            text = over(named).mark_text(align="left", baseline="middle", dx=9, aria=False)
            layers.append(text.encode(x=x, y=y, text=alt.Text("text:N")))
        return layered(layers, width, 60, (300, 240))

    text = (
        f"Line chart of {s['objective']} over {s['experiments']:,} experiments, from "
        f"{s['baseline_value']:.4f} to {s['best_value']:.4f} in {len(wins):,} steps, one for each "
        "win. The table below lists them."
    )
    return both(draw, legible(text))


def _win_names(
    wins: Sequence[dict[str, Any]], ends: tuple[float, float], last: int, *, rising: bool
) -> list[dict[str, Any]]:
    """Choose the wins to label: those with the largest gains whose labels don't collide."""
    height = (ends[1] - ends[0]) or 1.0
    chosen: list[dict[str, Any]] = []
    for win in sorted(wins, key=lambda w: -abs(w["gain"])):
        # There is no room for a label right of a late win; the table lists it.
        if win["number"] > 0.3 * last or len(chosen) == _NAMED:
            continue
        # The label is placed on the empty side of the line, at some distance from it.
        clear = max(0.25 * abs(win["gain"]), 0.05 * height)
        y = win["value_after"] - (1 if rising else -1) * clear
        if all(abs(y - other["y"]) >= _APART * height for other in chosen):
            chosen.append({"x": win["number"], "y": y, "text": legible(arrows(win["largest"]))})
    return chosen


def _ticks(last: int) -> list[int]:
    """Return round numbers from 0 to `last` that are far enough apart on a square-root scale."""
    ticks = [0]
    for number in (10**e * m for e in range(12) for m in (1, 2, 5)):
        if number <= last and sqrt(number / last) - sqrt(ticks[-1] / last) >= 0.12:
            ticks.append(number)
    return ticks


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(", ") + "…"


def weight_chart(evidence: Evidence) -> Markup:
    """Draw each weight at the start and at the best, connected by a line."""
    rows = [
        {"name": legible(row["feature"]), _START: row["start"], _BEST: row["best"]}
        for group in evidence.weights
        for row in group.rows
    ]
    moved = sum(row[_START] != row[_BEST] for row in rows)
    text = (
        f"Dot chart of {len(rows):,} weights at the start and at the best; {moved:,} of them "
        "moved. The table below lists them."
    )
    if len(rows) > MOST_DRAWN:
        by_change = sorted(rows, key=lambda row: -abs(row[_BEST] - row[_START]))[:MOST_DRAWN]
        rows = [row for row in rows if row in by_change]
        text = f"{text} Drawn are the {MOST_DRAWN} that moved most."
    points = {_START: ("start", "paper"), _BEST: ("best", "best")}
    return _weights(rows, text, ends=(_START, _BEST), look=("quiet", 2), points=points)


def stability_chart(record: StabilityRecord) -> Markup:
    """Draw each weight's range over the searches on halves of the accounts, and the run's."""
    rows = [{**weight, "name": legible(weight["name"])} for weight in record.weights]
    text = (
        f"Range chart of {len(rows):,} weights over {record.searches:,} searches on halves of the "
        "accounts, beside the weight that the run found. The table below has the numbers."
    )
    points = {"found": ("best", "best")}
    return _weights(rows, text, ends=("low", "high"), look=("start", 3), points=points, zero=True)


def _weights(
    rows: Sequence[dict[str, Any]],
    text: str,
    *,
    ends: tuple[str, str],
    look: tuple[str, int],
    points: dict[str, tuple[str, str]],
    zero: bool = False,
) -> Markup:
    """Draw, for each weight, a line between two values, and points.

    `ends` are the keys of the line's two values, and `look` is its ink and width. `points` has the
    inks of outline and filling by the key of the value. `zero` adds a line at 0.
    """
    order = [row["name"] for row in rows]

    def draw(width: int) -> Chart:
        side = _room(order, 240 if width == WIDE else 130)
        y = _names_axis(order, side)
        axis = alt.Axis(tickCount=6, format="d")
        x = alt.X(f"{ends[0]}:Q", title="points", scale=alt.Scale(padding=12), axis=axis)
        ink, thick = look
        layers = [rule(rows, ink, strokeWidth=thick).encode(x=x, x2=alt.X2(f"{ends[1]}:Q"), y=y)]
        if zero:
            layers.insert(0, rule([{"x": 0}], "quiet").encode(x=alt.X("x:Q")))
        for field, inks in points.items():
            at = x if field == ends[0] else alt.X(f"{field}:Q")
            layers.append(dots(rows, *inks, size=60).encode(x=at, y=y))
        return alt.layer(*layers).properties(width=width - side - 30, height=alt.Step(22))

    return both(draw, text)


def tier_chart(
    tiers: Sequence[Mapping[str, Any]], counted: str = "accounts", level: float = 0.95
) -> Markup | None:
    """Draw logo retention by tier with its intervals; None without any interval.

    `counted` is the unit, accounts or rows; `level` is that of the intervals.
    """
    # If a tier has the same size in both stages, its label includes the size.
    sizes = Counter((line["tier"], line["accounts"]) for line in tiers)
    names = {
        line["tier"]: f"{line['tier']} · {line['accounts']:,}"
        if sizes[line["tier"], line["accounts"]] == 2
        else line["tier"]
        for line in tiers
    }
    spans = [
        (names[line["tier"]], line["stage"], (line["logo_retention"], *line["logo_interval"]))
        for line in tiers
        if line["logo_interval"] is not None
    ]
    order = [legible(names[line["tier"]]) for line in tiers if line["stage"] == _START]
    text = (
        f"Dot chart of the share of {counted} kept in each of {len(order)} tiers, at the start and "
        f"at the best, with {100 * level:.5g}% intervals. The table below has the numbers."
    )
    title = f"logos kept, with {100 * level:.5g}% interval"
    return _spans(spans, order, text, title=title, share=True)


def segment_chart(part: SegmentPart, objective: str) -> Markup | None:
    """Draw each segment's objective at the start and at the best; None without any interval."""
    spans = [
        (line.name, stage, (interval.value, interval.low, interval.high))
        for line in part.lines
        for stage, interval in ((_START, line.start), (_BEST, line.best))
        if interval.low is not None and interval.high is not None
    ]
    order = list(dict.fromkeys(legible(name) for name, _, _ in spans))
    text = (
        f"Dot chart of {objective} in {len(order)} segments of the accounts {part.part}, at the "
        "start and at the best, with intervals. The table below has the numbers."
    )
    title = f"{objective}, with {100 * part.level:.5g}% interval"
    return _spans(spans, order, legible(text), title=legible(title))


def _spans(
    spans: Iterable[tuple[str, str, tuple[float | None, ...]]],
    order: Sequence[str],
    text: str,
    *,
    title: str,
    share: bool = False,
) -> Markup | None:
    """Draw values with intervals by name, the start's above the best's; None without any.

    A span is a name, a stage, and (value, low, high). `order` has the names from the top. With
    `share`, the axis goes from 0 to 1.
    """
    rows = [
        {"name": legible(name), "stage": stage, "value": value, "low": low, "high": high}
        for name, stage, (value, low, high) in spans
    ]
    if not rows:
        return None

    def draw(width: int) -> Chart:
        side = _room(order, 240 if width == WIDE else 110)
        colours = alt.Scale(domain=[_START, _BEST], range=[INK["start"], INK["best"]])
        base = over(rows).encode(
            y=_names_axis(order, side),
            yOffset=alt.YOffset("stage:N", sort=[_START, _BEST]),
            color=alt.Color("stage:N", scale=colours, legend=None),
        )
        scale = alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False, padding=12)
        quarters = [0, 0.25, 0.5, 0.75, 1]
        axis = alt.Axis(format=".0%", values=quarters) if share else alt.Axis(tickCount=5)
        x = alt.X("low:Q", title=title, scale=scale, axis=axis)
        layers = [
            base.mark_rule(strokeWidth=2, aria=False).encode(x=x, x2=alt.X2("high:Q")),
            base.mark_point(filled=True, size=60, opacity=1, aria=False).encode(x=alt.X("value:Q")),
        ]
        step = alt.Step(20, **{"for": "offset"})
        return alt.layer(*layers).properties(width=width - side - 40, height=step)

    return both(draw, text)


def null_charts(null: NullAnswers) -> dict[str, Markup]:
    """Draw the results of null searches beside the run's, by a description of their marks."""
    gains = _chance_strip(null.gains, null.found, null.typical, "gain on the accounts searched")
    if null.knows is None:
        return {"a search on shuffled outcomes": gains}
    values, best, typical = (null.knows[name] for name in ("values", "found", "typical"))
    return {
        "a search on outcomes shuffled among all accounts": _chance_strip(
            values, best, typical, f"best {legible(null.objective)}"
        ),
        "a search on outcomes shuffled among accounts of like score": gains,
    }


def _chance_strip(drawn: Sequence[float], best: float, typical: float, title: str) -> Markup:
    rows = [{"value": value} for value in drawn]
    scale = alt.Scale(zero=False, padding=12)
    x = alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
    ticks = over(rows).mark_tick(color=INK["start"], thickness=2, size=34, opacity=1, aria=False)
    layers = [ticks.encode(x=x), rule([{"value": best}], "best", strokeWidth=3).encode(x=x)]
    text = (
        f"Strip of {len(rows):,} searches on drawn outcomes, {title}: half of them {typical:.4f} "
        f"or more, beside the run's {best:.4f}."
    )
    return both(lambda width: alt.layer(*layers).properties(width=width - 60, height=60), text)


def capture_chart(capture: Capture) -> Markup:
    """Draw the capture curves of start and best, between those of chance and of a perfect score."""
    lines = (
        (capture.perfect, "quiet", [2, 3]),
        (GRID, "quiet", [6, 4]),
        (capture.start, "start", [1, 0]),
        (capture.best, "best", [1, 0]),
    )

    def draw(width: int) -> Chart:
        axis = alt.Axis(format=".0%", tickCount=5)
        x = alt.X("x:Q", title="accounts, best score first", axis=axis)
        y = alt.Y("y:Q", title=None, axis=axis)
        layers = []
        for curve, ink, dash in lines:
            pairs = zip(GRID.tolist(), curve.tolist(), strict=True)
            points = [{"x": round(a, 4), "y": round(b, 5)} for a, b in pairs]
            layers.append(line(points, ink, strokeDash=dash).encode(x=x, y=y))
        return layered(layers, width, 60, (320, 240), most=600)

    at = int(0.2 * (len(GRID) - 1))
    text = (
        f"Capture curve. The best-scored 20% of {capture.accounts:,} accounts hold "
        f"{capture.start[at]:.1%} of {capture.of} by the start's scores, {capture.best[at]:.1%} by "
        f"the best's, 20.0% in a random order, {capture.perfect[at]:.1%} in a perfect one."
    )
    return both(draw, text)


def front_chart(front: Front) -> Markup | None:
    """Draw the best compromises of two metrics with start and best; None for fewer than two."""
    if len(front.points) < 2:
        return None
    trade = front.bend
    rows = [
        {
            "x": row["value"],
            "y": row["metric_value"],
            "what": legible(f"{row['experiment']}: {row['value']:.4f}, {row['metric_value']:.4f}"),
            "mark": row["mark"] or ("trade" if row == trade else ""),
            "on": row["on_front"],
        }
        for row in front.shown(_COMPROMISES)
    ]

    def draw(width: int) -> Chart:
        axis = alt.Axis(tickCount=5)
        x = alt.X("x:Q", title=front.objective, scale=alt.Scale(zero=False, padding=12), axis=axis)
        y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False, padding=12), axis=axis)
        looks = (
            ("", "best", "paper", 30, "circle"),
            ("trade", "best", "paper", 130, "diamond"),
            ("start", "start", "start", 80, "circle"),
            ("best", "best", "best", 80, "circle"),
        )
        # A step, not a slope: no compromise was found between two neighbours.
        step = "step-before" if front.higher_is_better else "step-after"
        drawn = line([row for row in rows if row["on"]], "quiet", strokeWidth=1, interpolate=step)
        layers = [drawn.encode(x=x, y=y)]
        for mark, ink, fill, size, shape in looks:
            own = [row for row in rows if row["mark"] == mark]
            point = dots(own, ink, fill, size, shape=shape, aria=True)
            layers.append(point.encode(x=x, y=y, description=alt.Description("what:N")))
        return layered(layers, width, 60, (300, 240), most=600)

    text = (
        f"Chart of {len(front.points):,} best compromises: {front.metric} upwards against "
        f"{front.objective} to the right, with the start and the best. The table below lists them."
    )
    return both(draw, legible(text))


# ---- one feature: points by value, with the share of accounts and of those retained --------------


def encoder_chart(picture: EncoderPicture) -> Markup:
    """Draw a feature: points by value, the share of accounts, and the share of these retained."""
    low, high = (end(band.points for band in picture.bands) for end in (min, max))
    text = (
        f"{picture.feature}: points from {low:.1f} to {high:.1f} over {len(picture.bands)} bands "
        "of values, with the share that each has and the share of those that stay. The "
        "table below has the numbers."
    )
    draw = _number_chart if picture.line else _category_chart
    return both(lambda width: draw(picture, width), legible(text))


def _band_rows(bands: Sequence[Band]) -> list[dict[str, Any]]:
    return [{**vars(band), "name": legible(band.name)} for band in bands]


def _bars(rows: Sequence[dict[str, Any]], ink: str) -> alt.Chart:
    return _inked(rows, "bar", ink, opacity=1)


def _number_chart(picture: EncoderPicture, width: int) -> alt.VConcatChart:
    """Stack three charts over a common axis of values, on which unknown values don't appear."""
    rows = _band_rows([band for band in picture.bands if band.low is not None])
    # A band with a single value is drawn as wide as 0.8 times the smallest distance of two bands.
    gaps = [b["low"] - a["low"] for a, b in pairwise(rows)] or [1.0]
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
            x2=alt.X2("high:Q"),
            y=alt.Y("share:Q", title="share", axis=share),
            y2=alt.Y2Datum(0),
        ),
        alt.layer(
            rule(rows, "quiet").encode(
                x=x("middle", named=True), y=middle, y2=alt.Y2("retention_high:Q")
            ),
            dots(rows, "ink", size=30).encode(x=x("middle", named=True), y=alt.Y("retention:Q")),
        ),
    )
    room = min(width, 640) - 80
    heights = (130, 50, 60)
    sized = [c.properties(width=room, height=h) for c, h in zip(charts, heights, strict=True)]
    return alt.vconcat(*sized, spacing=6)


def _category_chart(picture: EncoderPicture, width: int) -> alt.HConcatChart:
    """Draw three charts side by side, with one row per category."""
    rows = _band_rows(picture.bands)
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
            rule(rows, "quiet").encode(y=y(named=False), x=stay, x2=alt.X2("retention_high:Q")),
            dots(rows, "ink", size=30).encode(y=y(named=False), x=alt.X("retention:Q")),
        ),
    )
    sized = [c.properties(width=room, height=alt.Step(20)) for c in charts]
    return alt.hconcat(*sized, spacing=12)


# ---- drawing ------------------------------------------------------------------------------------


def over(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """Begin a chart over rows of data.

    Rows are tuples, since Altair copies lists at each step of a chart; channels are classes, since
    it searches all its classes for the one of a channel that is given as text.
    """
    # Altair's `Data` has no usable type annotations.
    make: Any = alt.Data
    return alt.Chart(make(values=tuple(rows)))


def line(rows: Sequence[Mapping[str, Any]], ink: str, **look: Any) -> alt.Chart:
    """Begin a line chart in an ink of `INK`."""
    return _inked(rows, "line", ink, **{"strokeWidth": 2} | look)


def rule(rows: Sequence[Mapping[str, Any]], ink: str, **look: Any) -> alt.Chart:
    """Begin a chart of straight lines in an ink, such as intervals."""
    return _inked(rows, "rule", ink, **look)


def dots(
    rows: Sequence[Mapping[str, Any]],
    ink: str,
    fill: str | None = None,
    size: int = 40,
    **look: Any,
) -> alt.Chart:
    """Begin a chart of points in an ink, filled with the ink `fill`, or with their own."""
    return _inked(rows, "point", ink, fill=INK[fill or ink], size=size, opacity=1, **look)


def _inked(rows: Sequence[Mapping[str, Any]], mark: str, ink: str, **look: Any) -> alt.Chart:
    """Begin a chart of marks of one kind in an ink, hidden from screen readers by default."""
    given = {"color": INK[ink], "aria": False} | look
    chart: alt.Chart = getattr(over(rows), f"mark_{mark}")(**given)
    return chart


def layered(
    layers: Iterable[alt.Chart],
    width: int,
    side: int,
    heights: tuple[int, int],
    most: int = WIDE,
) -> Chart:
    """Layer charts over each other; sizes in CSS pixels.

    `side` is the room beside the plot, `heights` are those for a desktop and for a phone, and
    `most` is the largest width of the plot.
    """
    height = heights[width != WIDE]
    return alt.layer(*layers).properties(width=min(width - side, most), height=height)


def legible(text: str) -> str:
    """Replace characters that XML doesn't allow, such as control characters, by U+FFFD."""
    return "".join(
        c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "\ufffd"
        for c in text
    )


def _room(names: Sequence[str], most: int) -> int:
    """Return the width in pixels that names need in a wide font, at most `most`."""
    return min(most, 8 * max(map(len, names), default=0) + 8)


def _names_axis(order: Sequence[str], pixels: int) -> alt.Y:
    """Return an axis of names with `pixels` reserved, which suffice in any font of the page.

    Long names are shortened in the middle, since names of a feature's bins differ at the end.
    """
    limit = int(pixels * 0.85)
    most = max(9, limit // 7)
    head = most // 6
    ends = f"slice(datum.label, 0, {head})", f"slice(datum.label, {head + 1 - most})"
    cut = " + '\N{HORIZONTAL ELLIPSIS}' + ".join(ends)
    axis = alt.Axis(
        labelColor=INK["ink"],
        labelExpr=f"length(datum.label) > {most} ? {cut} : datum.label",
        labelLimit=limit,
        minExtent=pixels,
    )
    return alt.Y("name:N", sort=order, title=None, axis=axis)


def both(draw: Callable[[int], Chart], alt_text: str) -> Markup:
    """Draw a chart for a desktop and for a phone; the page's CSS shows one of them.

    `draw` takes the width in CSS pixels.
    """
    # Validation against Vega-Lite's schema takes half the time, so only the tests do it.
    with debug_mode(arg=False):
        return Markup("\n").join(
            _svg(draw(width), alt_text, kind)
            for width, kind in ((WIDE, "wide"), (NARROW, "narrow"))
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
    root = ET.fromstring(vl_convert.vegalite_to_svg(configured.to_dict(validate=False)))
    _adapt(root)
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib.pop("version", None)
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("class", f"chart {kind}")
    root.set("role", "img")
    root.set("aria-label", alt_text)
    root.set("style", f"max-width:{width}px")
    ET.register_namespace("", _SVG)
    # ElementTree escapes quotes in attributes only. Quotes in text are escaped too, by way of a
    # placeholder that `legible` removes from all texts.
    for node in root.iter():
        node.text = node.text and node.text.replace('"', _QUOTE)
    return Markup(ET.tostring(root, encoding="unicode").replace(_QUOTE, "&quot;"))


def _adapt(root: ET.Element) -> None:
    """Replace colours by CSS variables and descriptions by titles; drop invisible parts."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.get("display") == "none" or child.get("class") == "background":
                parent.remove(child)
    for node in root.iter():
        described = node.get("aria-label") if node.get("role") == "graphics-symbol" else None
        if described and node.tag == f"{{{_SVG}}}path":
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = described
            node.insert(0, title)
        for name in _INNER:
            node.attrib.pop(name, None)
        for name, value in _DEFAULTS.items():
            if node.get(name) == value:
                del node.attrib[name]
        for name in ("fill", "stroke"):
            colour = node.get(name)
            if colour in _VARIABLES:
                node.set(name, _VARIABLES[colour])
