"""Evidence into HTML: one file, no script but the history's own, nothing loaded from anywhere.

All text is escaped by Jinja2. Besides, the page's own policy forbids every request, and every
script but the one it came with, so that a text which got through could still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import __version__
from gtmar.errors import UsageError

if TYPE_CHECKING:
    from gtmar.data.sources import Tabular
    from gtmar.journal.catalog import Journal

__all__ = ["Page", "history_page", "run_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_EXTRA = ("altair", "vl_convert", "jinja2")


@dataclass(frozen=True)
class Page:
    """A page, ready to be written."""

    html: str
    title: str
    #: The run that it is about; None for a history.
    run_id: str | None = None
    #: Sections left out, and why.
    left_out: tuple[str, ...] = ()


def run_page(
    journal: Journal,
    run: str | None = None,
    *,
    data: Tabular | None = None,
) -> Page:
    """Make the report of one run.

    Parameters
    ----------
    journal
        The journal.
    run
        The run; None for the latest.
    data
        Its account table, where it has moved since. What needs it is left out where it isn't there.

    Raises
    ------
    UsageError
        If ``gtmar[report]`` isn't installed.
    RunNotFoundError
        If there is no such run, or it has no experiment yet.
    AccountDataError, NotComparableError
        If `data` can't be read, or isn't the run's table.
    """
    _require_extra()
    from gtmar.report import charts
    from gtmar.report import charts as spans
    from gtmar.report.run_content import gather

    found = gather(journal, run, data=data)
    table = found.table
    drawings = {
        "objective": charts.objective_chart(found),
        "weights": charts.weight_chart(found),
        "tiers": charts.tier_chart(found.tiers),
        "capture": charts.capture_chart(table.capture) if table and table.capture else None,
        "noise": spans.noise_chart(found.null) if found.null else None,
        "stability": spans.stability_chart(found.stability) if found.stability else None,
        "segments": {
            part.part: spans.segment_chart(part, found.run["objective"])
            for part in (table.segments if table else ())
        },
    }
    s = found.review.summary
    title = f"{s['model']}: what run {s['run_id']} found"
    html = _fill("run.html", title=title, e=found, s=s, charts=drawings, tiers=found.run["tiers"])
    needy = "moves between tiers, capture, revenue with intervals, segments"
    left_out = (f"{needy}: {found.absent}",) if found.absent else ()
    return Page(html, title, s["run_id"], left_out)


def history_page(journal: Journal, *, most: int = 200) -> Page:
    """Make the history of a journal: runs and changes as a timeline, down to one experiment.

    Parameters
    ----------
    journal
        The journal.
    most
        Entries at most, the newest.

    Raises
    ------
    UsageError
        If ``gtmar[report]`` isn't installed.
    """
    _require_extra()
    from gtmar.report.history_content import gather_history

    found = gather_history(journal, most=most)
    title = f"History of the journal {journal.path}"
    script = (_TEMPLATES / "history.js").read_text(encoding="utf-8")
    return Page(_fill("history.html", title=title, h=found, script=script), title)


def _require_extra() -> None:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a report needs {', '.join(missing)}, which is not installed",
            hint="pip install 'gtmar[report]'",
        )


def _fill(template: str, *, script: str = "", **values: Any) -> str:
    """Fill in a template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from gtmar.report.words import FILTERS

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, json=_json)
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        version=__version__,
        made=datetime.now(UTC),
        policy=_policy(script),
        # Both are files of this package.
        style=Markup(style),
        script=Markup(script),
        **values,
    )


def _policy(script: str) -> str:
    """Return the content policy: nothing but the page's own style and, by its hash, its script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    return (
        f"default-src 'none'; style-src 'unsafe-inline'{allowed}; base-uri 'none'; "
        "form-action 'none'"
    )


def _json(value: object) -> Any:
    """Write data for a script element, where only `<` could end it."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=True, default=str, sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e"))
