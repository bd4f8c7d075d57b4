"""Self-contained HTML pages on a run, a journal's history, an MRR bridge, a walk, a live score.

Charts are drawn by Altair and pages are rendered by Jinja2. Both belong to the extra
``gtmar[report]`` and are imported late.
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
