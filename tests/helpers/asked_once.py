"""An answer that commands say in several forms, worked out once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gtmar import runs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["asked_once"]


@contextmanager
def asked_once(name: str) -> Iterator[None]:
    """Have commands call a function of `gtmar.runs` once meanwhile: later ones get its answer.

    For tests of what is said of one answer, to people and to programs. How options reach the
    function is for other tests.
    """
    function = getattr(runs, name)
    answers: list[Any] = []

    def answered(*given: Any, **options: Any) -> Any:
        if not answers:
            answers.append(function(*given, **options))
        return answers[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, name, answered)
        yield
