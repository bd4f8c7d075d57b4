"""Self-contained HTML pages: what one run found, the history of a journal, the bridge of MRR.

Drawn by Altair and filled in by Jinja2, both of the extra ``gtmar[report]``, imported late.
"""

from gtmar.report.pages import Page, bridge_page, history_page, run_page

__all__ = ["Page", "bridge_page", "history_page", "run_page"]
