"""Searches that stop early, where what is printed or asked next doesn't depend on how far."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gtmar import runs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["short_searches"]


@contextmanager
def short_searches(most: int = 60) -> Iterator[None]:
    """Have no search of a command or of `gtmar.api` go beyond so many experiments meanwhile.

    For tests of what is printed, written and asked next. How good a search gets is tested where
    searches are.
    """
    limits = runs.Limits

    def fewer(experiments: int = most, *more: Any, **named: Any) -> runs.Limits:
        return limits(min(experiments, most), *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits.__init__, "__defaults__", (most, None, None, None))
        patch.setattr(runs, "Limits", fewer)
        yield
