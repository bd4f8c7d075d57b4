"""Render pages to HTML: one file each that loads nothing and, except the history, has no script.

Jinja2 escapes all text. In addition, the page's content security policy forbids every request and
every script but the page's own, so that unescaped text still couldn't do harm.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import __version__
from gtmar.errors import require_packages
from gtmar.metrics.metric import basis_note
from gtmar.plain_data import arrows, number, percent

if TYPE_CHECKING:
    import polars as pl
    from jinja2 import Environment
    from markupsafe import Markup

    from gtmar.data.scan import Tabular
    from gtmar.journal.catalog import Journal
    from gtmar.runs.walk import Walked
    from gtmar.runs.watch import Watched
    from gtmar.snapshots.bridge import Bridge

__all__ = [
    "TEMPLATES",
    "Page",
    "bridge_page",
    "environment",
    "history_page",
    "live_page",
    "require_extra",
    "run_page",
    "walk_page",
]

#: Folder of the templates of pages, their macros, and the common style sheet.
TEMPLATES = Path(__file__).parent / "templates"
#: Characters for null (en dash) and for the minus sign.
_NONE, _MINUS = "\u2013", "\u2212"


@dataclass(frozen=True)
class Page:
    """A rendered page."""

    html: str
    title: str
    #: The run that the page is about; None for pages on other subjects.
    run_id: str | None = None
    #: Sections left out, with the reason.
    left_out: tuple[str, ...] = ()


def run_page(journal: Journal, run: str | None = None, *, data: Tabular | None = None) -> Page:
    """Render the report of one run; `run` is its name, None for the latest.

    `data` is its account table, if that has moved. None uses the recorded location; without the
    table, sections that need it are left out.

    Raises
    ------
    UsageError
        If ``gtmar[report]`` isn't installed.
    RunNotFoundError
        If there is no such run, or it has no experiment yet.
    AccountDataError, NotComparableError
        If `data` can't be read, or isn't the run's table.
    """
    require_extra()
    from gtmar.report import charts, time_charts
    from gtmar.report.content import gather

    evidence = gather(journal, run, data=data)
    table, null, stability = evidence.table, evidence.null, evidence.stability
    summary, row = evidence.review.summary, evidence.run
    drawings = {
        "objective": charts.objective_chart(evidence),
        "weights": charts.weight_chart(evidence),
        "dates": time_charts.dates_chart(evidence.dates, row["objective"]),
        "tiers": charts.tier_chart(
            evidence.drawn_tiers, evidence.review.counted, evidence.tier_level
        ),
        "capture": charts.capture_chart(table.capture) if table and table.capture else None,
        "null": charts.null_charts(null) if null else None,
        "stability": charts.stability_chart(stability) if stability else None,
        "front": charts.front_chart(evidence.front),
        "encoders": [charts.encoder_chart(each) for each in (table.encoders if table else ())],
        "segments": {
            part.part: charts.segment_chart(part, row["objective"])
            for part in (table.segments if table else ())
        },
    }
    title = f"{summary['model']}: what run {summary['run_id']} found"
    needy = "moves between tiers, capture, revenue with intervals, segments, values against points"
    return _page(
        "run.html",
        title,
        run_id=summary["run_id"],
        left_out=(f"{needy}: {evidence.absent}",) if evidence.absent else (),
        e=evidence,
        s=summary,
        charts=drawings,
        tiers=row["tiers"],
        most_drawn=charts.MOST_DRAWN,
    )


def history_page(journal: Journal, *, most: int = 200) -> Page:
    """Render the history of a journal: a timeline of runs and changes with their experiments.

    It has the newest entries, at most `most`. Raises `UsageError` if ``gtmar[report]`` isn't
    installed.
    """
    require_extra()
    from gtmar.report.content import gather_history

    title = f"History of the journal {journal.path}"
    script = (TEMPLATES / "history.js").read_text(encoding="utf-8")
    history = gather_history(journal, most=most)
    return _page("history.html", title, h=history, script=script)


def bridge_page(
    bridge: Bridge, name: str, *, rows: pl.DataFrame | None = None, accounts: tuple[str, ...] = ()
) -> Page:
    """Render the page of a bridge: MRR, its movements by month, and contradictions.

    Parameters
    ----------
    bridge
        The bridge.
    name
        The recipe's name.
    rows
        Rows of `Bridge.accounts` to show instead of all accounts; None for all.
    accounts
        Ids of the accounts that `rows` are of.

    Raises
    ------
    UsageError
        If ``gtmar[report]`` isn't installed.
    """
    require_extra()
    from gtmar.report import time_charts
    from gtmar.snapshots.bridge import MOVEMENTS

    shown = bridge.months
    if rows is not None:
        moved = rows.drop("account").group_by("month").sum()
        shown = bridge.months.select("month").join(
            moved, on="month", how="left", maintain_order="left"
        )
    months = shown.fill_null(0).to_dicts()
    marked = () if accounts else tuple({each.month for each in bridge.differences})
    # Movements that never occur get no column.
    kinds = [kind for kind in MOVEMENTS if any(row[kind] for row in months)]
    title = f"{name}: MRR month by month"
    return _page(
        "bridge.html",
        title,
        b=bridge,
        months=months,
        kinds=kinds,
        one_off=any(row["one_off"] for row in months),
        accounts=accounts,
        marked=marked,
        level=time_charts.level_chart(months, marked),
        moves=time_charts.moves_chart(months, kinds) if kinds else None,
        marks=time_charts.MARKS,
    )


def live_page(watched: Watched, command: str) -> Page:
    """Render the page of a live score: its scores by date, and the outcomes of the accounts.

    `command` is shown as the one that renders the page again. The page contains no account ids.
    Raises `UsageError` if ``gtmar[report]`` isn't installed.
    """
    require_extra()
    from gtmar.report import time_charts
    from gtmar.report.content import promotions

    marks = promotions(watched)
    shown = [each for each in watched.measurements if each.objective in each.metrics]
    title = f"{watched.model}: the live score"
    return _page(
        "live.html",
        title,
        w=watched,
        command=command,
        promotions=marks,
        metric=time_charts.metric_chart(shown, [each["since"].date() for each in marks]),
        shadows=time_charts.shadows_chart(watched.measurements),
        tiers=time_charts.tiers_chart(watched.measurements),
        probability=time_charts.probability_chart(watched.measurements),
        leaving=time_charts.leaving_chart(watched.leaving) if watched.leaving else None,
        unknown=watched.leaving.unknown if watched.leaving else {},
    )


def walk_page(walked: Walked, command: str) -> Page:
    """Render the page of a walk forward: whether re-tuning would have paid, date by date.

    `command` is shown as the one that repeats the walk. Raises `UsageError` if ``gtmar[report]``
    isn't installed.
    """
    require_extra()
    from gtmar.report import time_charts

    title = f"{walked.model}: does re-tuning pay?"
    return _page(
        "walk.html",
        title,
        w=walked,
        command=command,
        sides=[name for name in time_charts.SIDES if name in walked.steps[0].values],
        looks=time_charts.SIDES,
        values=time_charts.walk_chart(walked),
        gains=time_charts.gains_chart(walked),
    )


def require_extra() -> None:
    """Raise `UsageError` if ``gtmar[report]`` isn't installed, before any work for a page."""
    require_packages("a report", "report", "altair", "vl_convert", "jinja2")


@cache
def environment(*folders: Path) -> Environment:
    """Return a Jinja2 environment that escapes text and has the filters of pages.

    Templates are loaded from the first of the folders that has them.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        arrows=arrows,
        basis_note=basis_note,
        number=partial(number, none=_NONE),
        signed=_signed,
        percent=_percent,
        signed_percent=partial(_formatted, form="+.1%"),
        whole=partial(_formatted, form=","),
        moment=_moment,
        breakable=_breakable,
        json=_json,
    )
    return made


def _breakable(name: str) -> Markup:
    """Let a long name go on in the next line after an underscore, not within a word."""
    from markupsafe import Markup

    return Markup("_<wbr>").join(name.split("_"))


def _page(
    template: str,
    title: str,
    *,
    run_id: str | None = None,
    left_out: tuple[str, ...] = (),
    script: str = "",
    **values: Any,
) -> Page:
    """Render a template. All text is escaped except the package's own style and script."""
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'{allowed}; base-uri 'none'; "
        "form-action 'none'"
    )
    html = (
        environment(TEMPLATES)
        .get_template(template)
        .render(
            version=__version__,
            made=datetime.now(UTC),
            policy=policy,
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            title=title,
            **values,
        )
    )
    return Page(html, title, run_id, left_out)


# ---- formatted values: templates also give the exact value of each ------------------------------


def _percent(value: float | None) -> str:
    """Write a share in percent, to a tenth; a dash for null."""
    return _NONE if value is None else percent(value, 1).replace("-", _MINUS)


def _formatted(value: float | None, *, form: str) -> str:
    """Format a number by a format specification, with a true minus sign; a dash for null.

    Examples
    --------
    >>> (
    ...     _formatted(0.0312, form="+.1%"),
    ...     _formatted(12345, form=","),
    ... )
    ('+3.1%', '12,345')
    """
    return _NONE if value is None else format(value, form).replace("-", _MINUS)


def _signed(value: float | None) -> str:
    """Format a change of a metric with its sign.

    Examples
    --------
    >>> _signed(0.1309), _signed(20.53), _signed(3)
    ('+0.1309', '+20.53', '+3')
    """
    if isinstance(value, int):
        return _formatted(value, form="+,")
    large = value is not None and abs(value) >= 10
    return _formatted(value, form="+,.2f" if large else "+.4f")


def _moment(at: datetime | None) -> str:
    """Format a time to the minute in UTC; only its date if it is midnight."""
    if at is None:
        return _NONE
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d}" if (at.hour, at.minute) == (0, 0) else f"{at:%Y-%m-%d %H:%M} UTC"


def _json(value: object) -> Any:
    """Serialise data as JSON for a script element, which only ``<`` could close."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=True, default=str, sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e"))
