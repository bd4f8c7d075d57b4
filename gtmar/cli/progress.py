"""Progress of a run on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gtmar.runs import Progress

__all__ = ["announce", "counting", "watching"]

#: Seconds between plain lines, and between redraws of the bar.
_LINE_SECONDS = 5.0
_DRAW_SECONDS = 0.1


def announce(sentence: str) -> None:
    """Say something before a run begins; on stderr, since stdout is data."""
    sys.stderr.write(f"{sentence}\n")


def counting(*, quiet: bool) -> Callable[[int, int], None] | None:
    """Give something to tell how many of how many searches are done; None where nobody watches."""
    if quiet:
        return None
    last = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_SECONDS:
            last = now
            sys.stderr.write(f"{done:,} of {of:,} searches\n")

    return tell


@contextmanager
def watching(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Give a run something to tell its progress to; None where nobody watches."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield _lines()


def _words(at: Progress) -> str:
    rate = at.experiments / at.seconds if at.seconds else 0
    best = "-" if at.best is None else f"{at.best:.4f}"
    return f"best {best}, {at.wins} wins, {rate:,.0f}/s"


def _lines() -> Callable[[Progress], None]:
    last = time.monotonic()

    def tell(at: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_SECONDS:
            last = now
            sys.stderr.write(f"{at.experiments:,} of {at.limit:,} experiments, {_words(at)}\n")

    return tell


def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.description}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        last = 0.0

        def tell(at: Progress) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _DRAW_SECONDS or at.experiments >= at.limit:
                last = now
                done, total = at.experiments, at.limit
                bar.update(task, completed=done, total=total, description=_words(at))

        yield tell
