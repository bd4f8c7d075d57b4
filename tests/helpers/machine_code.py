"""Machine code that is there from the n-th time on that a search asks for it.

Whether a search finds machine code in the cache depends on what ran on the machine before, and so
does what it says of it: `say_nothing` keeps that out of all tests but those of machine code.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gtmar.engine.local import LocalEvaluator
from gtmar.engine.numba_cache import CodePart

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["ready_after", "say_nothing"]

_SAID = LocalEvaluator.machine_code


def say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what searches of this process say of machine code."""
    monkeypatch.setattr(LocalEvaluator, "machine_code", None)


def ready_after(
    monkeypatch: pytest.MonkeyPatch,
    *,
    kernel: int,
    proposer: int,
    taken_up: Callable[[str, str], None] = lambda _part, _moment: None,
) -> Counter[str]:
    """Make parts ready at so manieth asking, which is said; return how often each was asked for.

    `taken_up` is called with part and moment, "before" or "loaded".
    """
    asked: Counter[str] = Counter()

    def ready(part: CodePart, *, wanted: bool) -> bool:
        del wanted
        name = "proposer" if part.name == "proposer" else "kernel"
        asked[name] += 1
        at = {"kernel": kernel, "proposer": proposer}[name]
        if asked[name] == at:
            taken_up(name, "before")
        if asked[name] >= at:
            part.compile()
        if asked[name] == at:
            taken_up(name, "loaded")
        return asked[name] >= at

    monkeypatch.setattr(CodePart, "ready", ready)
    monkeypatch.setattr(LocalEvaluator, "machine_code", _SAID)
    return asked
