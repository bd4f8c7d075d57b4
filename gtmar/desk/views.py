"""Renders results of the workbench as HTML, from templates that escape all text."""

from __future__ import annotations

import json
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.journal.sentences import on_dates
from gtmar.metrics import all_metrics
from gtmar.report.pages import TEMPLATES, environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jinja2 import Environment

    from gtmar.runs.weight_change import MetricChange
    from gtmar.runs.workbench import WeightLine, Workbench
    from gtmar.spec.calibration import Calibration

__all__ = ["ASSETS", "filled", "groups_of", "sizes_of"]

_HERE = Path(__file__).parent
#: Static files that a browser may load, by name: path and media type.
ASSETS = {
    "desk.js": (_HERE / "assets" / "desk.js", "text/javascript"),
    "desk.css": (_HERE / "assets" / "desk.css", "text/css"),
    "desk.svg": (_HERE / "assets" / "desk.svg", "image/svg+xml"),
    "style.css": (TEMPLATES / "style.css", "text/css"),
}
#: Template variables that default to None.
_ABSENT = dict.fromkeys(("a", "asked", "f", "live", "look", "looks", "r", "said", "t", "x"))
#: Width and height of the chart of probabilities, in SVG units.
_WIDE, _HIGH = 360, 150


@cache
def _templates() -> Environment:
    made = environment(_HERE / "templates", TEMPLATES)
    made.filters.update(
        by_tier=_by_tier,
        pairs=lambda moves: {(each.before, each.after): each.accounts for each in moves},
        points=lambda value: f"{value:g}",
        figures=lambda names: [f"#{name}" for name in names],
        plain_json=partial(json.dumps, sort_keys=True),
        staircase=_staircase,
    )
    made.globals.update(width=_WIDE, height=_HIGH)
    return made


def sizes_of(bench: Workbench) -> str:
    """Return the number of accounts searched, of their dates, and of accounts held out, as text."""
    search, held = bench.accounts.search, bench.accounts.holdout
    searched = f"{search.distinct:,} account{'' if search.distinct == 1 else 's'}"
    if search.dates:
        searched = on_dates(search.distinct, len(search.dates), search.accounts)
    unseen = "none held out" if held is None else f"{held.distinct:,} never seen"
    return f"{searched} searched, {unseen}"


def filled(template: str, **values: Any) -> str:
    """Render one template, or several separated by blanks and concatenated, by name."""
    given = {**_ABSENT, **values}
    return "".join(
        _templates().get_template(f"{name}.html").render(given) for name in template.split()
    )


def groups_of(
    lines: Iterable[WeightLine], weights: dict[str, int], limits: dict[str, str]
) -> list[dict[str, Any]]:
    """Return weights by their group or binned feature, in the spec's order, for the template.

    `limits` has, by group, the bounds of its points as text.
    """
    several = {name for name, of in groupby(sorted(x.feature for x in lines)) if len([*of]) > 1}
    by_group: dict[str | None, list[dict[str, Any]]] = {}
    for number, line in enumerate(lines):
        name = line.group or (line.feature if line.feature in several else None)
        shown = {**line.as_json(), "number": number, "start": line.weight}
        by_group.setdefault(name, []).append({**shown, "weight": weights[line.name]})
    return [
        {"name": name, "limits": limits.get(name or ""), "weights": each}
        for name, each in by_group.items()
    ]


def _by_tier(
    changes: Iterable[MetricChange],
) -> list[tuple[str, str, dict[str, MetricChange]]]:
    """Return key, question and values by tier of each metric by tier, without counts."""
    by_key: dict[str, dict[str, MetricChange]] = {}
    for each in changes:
        if each.tier is not None and not all_metrics()[each.key].count:
            by_key.setdefault(each.key, {})[each.tier] = each
    return [(key, next(iter(of.values())).answers, of) for key, of in by_key.items()]


def _staircase(table: Calibration, most: float) -> str:
    """Return the SVG path of the probability over scores from 0 to `most`, in SVG units."""
    ends = [*(step.from_ for step in table.steps[1:]), most]
    heights = [round(_HIGH * (1 - step.left / step.accounts), 1) for step in table.steps]
    parts: Sequence[str] = [
        f"V{height:g}H{round(_WIDE * end / most, 1):g}"
        for height, end in zip(heights, ends, strict=True)
    ]
    return f"M0 {heights[0]:g}" + "".join(parts)
