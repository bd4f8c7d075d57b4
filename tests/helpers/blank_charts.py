"""Pages whose charts are left blank: drawing them takes most of the time that a page takes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from altair.utils.schemapi import debug_mode
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["blank_charts"]


def _blank(draw: object, alt_text: str) -> Markup:
    """Take the place of a chart for a desktop and one for a phone, with the chart's own text."""
    each = '<svg class="chart {}" role="img" aria-label="{}"></svg>'
    return Markup("\n").join(Markup(each).format(kind, alt_text) for kind in ("wide", "narrow"))


@contextmanager
def blank_charts() -> Iterator[None]:
    """Have no chart drawn meanwhile; all else of a page is as people get it.

    For tests of sentences, tables and numbers. What a drawing holds, such as hostile names, is seen
    in a page that is drawn. What is put together of a chart before it is drawn isn't held against
    Vega-Lite's schema, which takes a third of such a page; a test of its own does that.
    """
    from gtmar.report import charts, time_charts

    with pytest.MonkeyPatch.context() as patch, debug_mode(arg=False):
        for module in (charts, time_charts):
            patch.setattr(module, "both", _blank)
        yield
