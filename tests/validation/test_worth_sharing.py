"""Repeated searches are shared out where that saves time, and not because others are at work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from gtmar.engine import processes
from gtmar.engine.processes import Processes
from gtmar.validation.repeated_search import RepeatedSearch

if TYPE_CHECKING:
    from collections.abc import Callable


def waits(_: object, _draw: object, number: int) -> int:
    time.sleep(0.05)
    return number


def works(_: object, _draw: object, number: int) -> int:
    began = time.process_time()
    while time.process_time() - began < 0.05:
        pass
    return number


@pytest.mark.parametrize(("task", "shared"), [(waits, []), (works, [2, 3])])
def test_what_counts_is_work_and_not_time_that_others_take(
    task: Callable[..., int], shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside other programs a short search takes long; more processes would make that worse."""
    given: list[int] = []

    def each(_: Processes, run: Callable[[int], Any], numbers: range, _done: object) -> list[Any]:
        given.extend(numbers)
        return [run(number) for number in numbers]

    monkeypatch.setattr(Processes, "each", each)
    monkeypatch.setattr(processes, "cores", lambda: 2)
    monkeypatch.setattr(processes, "_WORTH_SECONDS", 0.08)
    monkeypatch.setattr(RepeatedSearch, "over_drawn", task)
    search: Any = object.__new__(RepeatedSearch)
    assert search.over_each(None, 3, None, Processes(None)) == [1, 2, 3]
    assert given == shared
