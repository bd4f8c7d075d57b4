"""Self-contained HTML pages: of a run, a journal's history, MRR's bridge, a walk, a live score.

Drawn by Altair and filled in by Jinja2, both of the extra ``gtmar[report]``, imported late.
"""

from gtmar.report.pages import (
    Page,
    bridge_page,
    history_page,
    live_page,
    require_extra,
    run_page,
    walk_page,
)

__all__ = [
    "Page",
    "bridge_page",
    "history_page",
    "live_page",
    "require_extra",
    "run_page",
    "walk_page",
]
