"""Self-contained HTML pages: what one run found, and the history of a journal.

Drawn by Altair and filled in by Jinja2, both of the extra ``gtmar[report]``, imported late.
"""

from gtmar.report.pages import Page, history_page, run_page

__all__ = ["Page", "history_page", "run_page"]
