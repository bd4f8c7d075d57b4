"""Ctrl-C during a run: noted, and obeyed between two batches, so that nothing found is lost."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Interruption", "noticed"]


class Interruption:
    """Whether somebody has asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def noticed() -> Iterator[Interruption]:
    """Note the first Ctrl-C instead of raising; a second one raises `KeyboardInterrupt`.

    Outside the main thread signals can't be handled; nothing is noted there.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.getsignal(signal.SIGINT)

    def note(_signal: int, _frame: FrameType | None) -> None:
        if interruption.asked:
            raise KeyboardInterrupt
        interruption.asked = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
