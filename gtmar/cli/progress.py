"""Progress of a run on stderr: a bar on a terminal, a plain line now and then elsewhere.

It is called after every batch and draws seldom, so that it slows no search.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gtmar.cli.output import announce, for_programs, is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich import progress

    from gtmar.runs import Progress

__all__ = ["announce", "counting", "stepping", "watching"]

#: Seconds between plain lines, and between redraws of the bar.
_LINE_SECONDS = 5.0
_DRAW_SECONDS = 0.25
#: Seconds before which a rate says nothing about the time left.
_SETTLED = 0.5
#: Work between two redraws, as a multiple of what a redraw costs: at most 0.5 % goes to drawing.
_WORK = 200
#: Cells of the bar; the words beside it need the rest of 80 columns.
_BAR = 16


def counting(*, quiet: bool) -> Callable[[int, int], None] | None:
    """Return a function that shows how many of how many searches are done; None to show nothing."""
    if quiet or for_programs():
        return None
    last = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_SECONDS:
            last = now
            announce(f"{done:,} of {of:,} searches")

    return tell


@contextmanager
def stepping() -> Iterator[Callable[[str, int, int], None] | None]:
    """Yield a function that shows the current step, and how many of how many dates are done.

    None where stderr is no terminal. Steps are few and long, so each call draws.
    """
    if for_programs() or not is_terminal(sys.stderr):
        yield None
        return
    with _shown() as bar:
        task = bar.add_task("", total=1, visible=False)

        def tell(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of, visible=True, refresh=True)

        yield tell


@contextmanager
def watching(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Yield a function that shows the progress of a run; None to show nothing."""
    if quiet or for_programs():
        yield None
    elif is_terminal(sys.stderr):
        yield from _bar()
    else:
        yield _lines()


def _words(at: Progress, since: Progress) -> str:
    """Word the progress: best value so far, wins, experiments a second, time left.

    The rate is taken since an earlier moment, not the run's beginning, when machine code may not be
    loaded yet.
    """
    best = "-" if at.best is None else f"{at.best:.4f}"
    words = [f"best {best}", f"{at.wins:,} win{'' if at.wins == 1 else 's'}"]
    done, seconds = at.experiments - since.experiments, at.seconds - since.seconds
    if done and seconds:
        left = _left(at, done / seconds) if seconds >= _SETTLED else None
        words += [f"{done / seconds:,.0f}/s", *([f"{left} left"] if left else [])]
    return ", ".join(words)


def _left(at: Progress, rate: float) -> str:
    """Word the most time that the run can still take."""
    seconds = (at.limit - at.experiments) / rate
    if at.budget is not None:
        seconds = min(seconds, at.budget - at.seconds)
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _since(first: Progress | None, at: Progress) -> Progress:
    """Return the moment that a rate is taken since; a command's next search begins anew."""
    return at if first is None or first.run_id != at.run_id else first


def _lines() -> Callable[[Progress], None]:
    last = time.monotonic()
    first: Progress | None = None

    def tell(at: Progress) -> None:
        nonlocal first, last
        first = _since(first, at)
        now = time.monotonic()
        if now - last >= _LINE_SECONDS:
            last = now
            words = _words(at, first)
            announce(f"{at.experiments:,} of {at.limit:,} experiments, {words}")

    return tell


def _shown() -> progress.Progress:
    """Return a progress bar that draws only when updated, and disappears at the end."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(bar_width=_BAR),
        progress.TextColumn("{task.completed:,.0f} of {task.total:,.0f}", markup=False),
        progress.TextColumn("{task.description}", markup=False),
    )
    return progress.Progress(
        *columns,
        console=Console(stderr=True, highlight=False),
        transient=True,
        # No drawing thread: it would take processor time from the search.
        auto_refresh=False,
    )


def _bar() -> Iterator[Callable[[Progress], None]]:
    with _shown() as bar:
        task = bar.add_task("", total=1, visible=False)
        first: Progress | None = None
        pace = _Pace()

        def tell(at: Progress) -> None:
            nonlocal first, pace
            if first is None:
                pace = _Pace()
            first = _since(first, at)
            if pace.due():
                bar.update(
                    task,
                    completed=at.experiments,
                    total=at.limit,
                    description=_words(at, first),
                    visible=True,
                    refresh=True,
                )
                pace.done()

        yield tell


class _Pace:
    """Decides when to redraw: a few times a second at most, and after enough work in between.

    On a busy machine a search gets little done in a quarter of a second, so time alone won't do.
    """

    def __init__(self) -> None:
        # The first drawing costs most, and there is nothing to show yet.
        self._next_at = time.monotonic() + _DRAW_SECONDS
        self._next_work = 0.0
        self._began = 0.0

    def due(self) -> bool:
        """Return whether to draw now; if so, call `done` after drawing."""
        self._began = time.process_time()
        return time.monotonic() >= self._next_at and self._began >= self._next_work

    def done(self) -> None:
        """Measure what drawing cost, and set the time of the next."""
        now = time.process_time()
        self._next_at = time.monotonic() + _DRAW_SECONDS
        self._next_work = now + _WORK * (now - self._began)
