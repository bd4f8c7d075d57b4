"""The charts of a page, as SVG that belongs to it: themed by its CSS, in its font, one image each.

A chart is drawn in the colours of `INK`, each of which then becomes the CSS variable of its name,
so that light, dark and print are the page's affair.
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

from gtmar.html import arrows
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

#: CSS variables by the colour that stands for them in a drawing; no two alike, none of them seen.
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
#: Widths in CSS pixels, of a drawing for a desk and of one for a phone.
WIDE = 860
NARROW = 340

_SVG = "http://www.w3.org/2000/svg"
_VARIABLES = {colour: f"var(--{name})" for name, colour in INK.items()}
#: What a screen reader needs not hear, the image having a text of its own, and the page's font.
_INNER = (
    *("role", "aria-roledescription", "aria-label", "aria-hidden", "class", "pointer-events"),
    "font-family",
)
#: Stands for a quote while a drawing is written.
_QUOTE = "\uffff"
#: Attributes that say what holds anyway.
_DEFAULTS = {"opacity": "1", "stroke-width": "0"}

#: Weights in the chart of weights, those that moved most.
MOST_DRAWN = 40

Chart: TypeAlias = (
    "alt.Chart | alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart"
)
_START, _BEST = "start", "best"
#: Wins that are named in the chart itself, and the least distance between two names, as a share of
#: the chart's height.
_NAMED, _APART = 5, 0.075
#: Compromises that are drawn at most.
_COMPROMISES = 60
#: Longest name of a win in the chart, in characters, in a wide and in a narrow drawing.
_LONGEST, _LONGEST_NARROW = 44, 24

# ---- the charts ---------------------------------------------------------------------------------


def objective_chart(evidence: Evidence) -> Markup:
    """Draw the objective over experiments: best so far, every win, and what else was tried."""
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
            chosen.append({"x": win["number"], "y": y, "text": legible(arrows(win["largest"]))})
    return chosen


def _ticks(last: int) -> list[int]:
    """Return round numbers that keep their distance on a square-root scale of 0 to `last`."""
    ticks = [0]
    for number in (10**e * m for e in range(12) for m in (1, 2, 5)):
        if number <= last and sqrt(number / last) - sqrt(ticks[-1] / last) >= 0.12:
            ticks.append(number)
    return ticks


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(", ") + "…"


def weight_chart(evidence: Evidence) -> Markup:
    """Draw each weight at the start and at the best, a line between the two."""
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
    """Draw where each weight lies in the searches on other accounts, and what the run found."""
    rows = [{**weight, "name": legible(weight["name"])} for weight in record.weights]
    text = (
        f"Range chart of {len(rows):,} weights over {record.searches:,} searches on resampled "
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
    """Draw a rule between two values of each weight, and points with their inks.

    `look` is the ink and the width of the rule.
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
    """Draw logo retention by tier, of accounts or rows, with its intervals; None without any."""
    # Tiers of one size in both stages are named with it.
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
        f"at the best, with {100 * level:.4g} % intervals. The table below has the numbers."
    )
    title = f"logos kept, with {100 * level:.4g} % interval"
    return _spans(spans, order, text, title=title, share=True)


def segment_chart(part: SegmentPart, objective: str) -> Markup | None:
    """Draw the objective of each segment at the start and at the best; None where none is known."""
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
    title = f"{objective}, with {100 * part.level:.4g} % interval"
    return _spans(spans, order, legible(text), title=legible(title))


def _spans(
    spans: Iterable[tuple[str, str, tuple[float | None, ...]]],
    order: Sequence[str],
    text: str,
    *,
    title: str,
    share: bool = False,
) -> Markup | None:
    """Draw values with their ranges by name, the start's above the best's; None without any.

    A span has a name, a stage, and value, low and high; shares are drawn from 0 to 1.
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
    """Draw what searches on drawn outcomes found, and the run, by what each mark stands for."""
    gains = _chance_strip(null.gains, null.found, null.typical, "gain on the accounts searched")
    if null.knows is None:
        return {"a search on shuffled outcomes": gains}
    values, found, typical = (null.knows[name] for name in ("values", "found", "typical"))
    return {
        "a search on outcomes shuffled among all accounts": _chance_strip(
            values, found, typical, f"best {legible(null.objective)}"
        ),
        "a search on outcomes shuffled among accounts of like score": gains,
    }


def _chance_strip(drawn: Sequence[float], found: float, typical: float, title: str) -> Markup:
    rows = [{"value": value} for value in drawn]
    scale = alt.Scale(zero=False, padding=12)
    x = alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
    ticks = over(rows).mark_tick(color=INK["start"], thickness=2, size=34, opacity=1, aria=False)
    layers = [ticks.encode(x=x), rule([{"value": found}], "best", strokeWidth=3).encode(x=x)]
    text = (
        f"Strip of {len(rows):,} searches on drawn outcomes, {title}: half of them {typical:.4f} "
        f"or more, beside the run's {found:.4f}."
    )
    return both(lambda width: alt.layer(*layers).properties(width=width - 60, height=60), text)


def capture_chart(capture: Capture) -> Markup:
    """Draw what the best-scored share of accounts captures, by start, best and chance."""
    lines = (
        (capture.perfect, "quiet", [2, 3]),
        (GRID, "quiet", [6, 4]),
        (capture.start, "start", [1, 0]),
        (capture.best, "best", [1, 0]),
    )
    axis = alt.Axis(format=".0%", tickCount=5)
    x = alt.X("x:Q", title="accounts, best score first", axis=axis)
    y = alt.Y("y:Q", title=None, axis=axis)
    layers = []
    for curve, ink, dash in lines:
        pairs = zip(GRID.tolist(), curve.tolist(), strict=True)
        points = [{"x": round(a, 4), "y": round(b, 5)} for a, b in pairs]
        layers.append(line(points, ink, strokeDash=dash).encode(x=x, y=y))
    at = int(0.2 * (len(GRID) - 1))
    text = (
        f"Capture curve. The best-scored 20 % of {capture.accounts:,} accounts hold "
        f"{capture.start[at]:.1%} of {capture.of} by the start's scores, {capture.best[at]:.1%} by "
        f"the best's, 20.0% in a random order, {capture.perfect[at]:.1%} in a perfect one."
    )
    return both(lambda width: layered(layers, width, 60, (320, 240), most=600), text)


def front_chart(front: Front) -> Markup | None:
    """Draw the best compromises of two metrics, with start and best; None of fewer than two."""
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
    axis = alt.Axis(tickCount=5)
    x = alt.X("x:Q", title=front.objective, scale=alt.Scale(zero=False, padding=12), axis=axis)
    y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False, padding=12), axis=axis)
    looks = (
        ("", "best", "paper", 30, "circle"),
        ("trade", "best", "paper", 130, "diamond"),
        ("start", "start", "start", 80, "circle"),
        ("best", "best", "best", 80, "circle"),
    )
    # Between two of them nothing was found.
    step = "step-before" if front.higher_is_better else "step-after"
    drawn = line([row for row in rows if row["on"]], "quiet", strokeWidth=1, interpolate=step)
    layers = [drawn.encode(x=x, y=y)]
    for mark, ink, fill, size, shape in looks:
        own = [row for row in rows if row["mark"] == mark]
        point = dots(own, ink, fill, size, shape=shape, aria=True)
        layers.append(point.encode(x=x, y=y, description=alt.Description("what:N")))
    text = (
        f"Chart of {len(front.points):,} best compromises: {front.metric} upwards against "
        f"{front.objective} to the right, with the start and the best. The table below lists them."
    )
    return both(lambda width: layered(layers, width, 60, (300, 240), most=600), legible(text))


# ---- one feature: value against points, with the accounts beneath and how many stay --------------


def encoder_chart(picture: EncoderPicture) -> Markup:
    """Draw a feature: points by value, beneath the share of accounts and how many of them stay."""
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
    """Stack three charts over one axis of values; each unknown has no place on it."""
    rows = _band_rows([band for band in picture.bands if band.low is not None])
    # A band of one value is as wide as the distance to the nearest other.
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
    """Set three charts beside each other, a line a category."""
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

    Altair copies lists at each step of a chart, and tuples at none; and for the class of a channel
    that is given as a text it goes through all its classes. So rows are tuples, channels classes.
    """
    # Altair's signature of Data takes anything, and says no type of it.
    make: Any = alt.Data
    return alt.Chart(make(values=tuple(rows)))


def line(rows: Sequence[Mapping[str, Any]], ink: str, **look: Any) -> alt.Chart:
    """Begin a line in an ink."""
    return _inked(rows, "line", ink, **{"strokeWidth": 2} | look)


def rule(rows: Sequence[Mapping[str, Any]], ink: str, **look: Any) -> alt.Chart:
    """Begin straight lines in an ink, such as intervals."""
    return _inked(rows, "rule", ink, **look)


def dots(
    rows: Sequence[Mapping[str, Any]],
    ink: str,
    fill: str | None = None,
    size: int = 40,
    **look: Any,
) -> alt.Chart:
    """Begin points in an ink, filled with that or another."""
    return _inked(rows, "point", ink, fill=INK[fill or ink], size=size, opacity=1, **look)


def _inked(rows: Sequence[Mapping[str, Any]], mark: str, ink: str, **look: Any) -> alt.Chart:
    """Begin marks of a kind in an ink; a screen reader needs ``aria=True``."""
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
    """Lay charts over each other; `side` is the room beside, `heights` of a desk and of a phone."""
    height = heights[width != WIDE]
    return alt.layer(*layers).properties(width=min(width - side, most), height=height)


def legible(text: str) -> str:
    """Replace what XML can't hold, such as control characters, by a mark."""
    return "".join(
        c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "\ufffd"
        for c in text
    )


def _room(names: Sequence[str], most: int) -> int:
    """Return the pixels that names need at the left, in a wide font, `most` at most."""
    return min(most, 8 * max(map(len, names), default=0) + 8)


def _names_axis(order: Sequence[str], pixels: int) -> alt.Y:
    """Return an axis of names; they have their room, whatever font the page finds.

    A long one loses its middle, since bins of one feature differ at the end.
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
    """Draw a chart twice, for a desk and for a phone; the page's CSS shows one of them."""
    # Charts of our own are checked against Vega-Lite's schema by tests: that takes half the time.
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
    # ElementTree escapes all text but quotes, which need it in attributes alone. They are escaped
    # too, by way of a character that `legible` lets nobody use.
    for node in root.iter():
        node.text = node.text and node.text.replace('"', _QUOTE)
    return Markup(ET.tostring(root, encoding="unicode").replace(_QUOTE, "&quot;"))


def _adapt(root: ET.Element) -> None:
    """Turn colours into variables, descriptions into titles; drop what repeats or is not seen."""
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
