"""What a journal holds that is dated after this machine's clock.

Machines that share a journal have clocks of their own. An entry from the future means that the
clock that dated it was ahead, or that this one is behind; neither can be told from here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gtmar.journal.events import event_files
from gtmar.journal.names import event_of, run_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["ahead", "clock_note", "dated_ahead"]

#: Ids begin with a letter, then the time as this.
_TIME = "%Y%m%d-%H%M%S"
_TIME_LENGTH = len("20260101-120000")


def ahead(ids: Iterable[str], now: datetime | None = None) -> list[str]:
    """Return ids of runs and events that are dated after a moment, the earliest first."""
    limit = f"{now or datetime.now(UTC):{_TIME}}"
    return sorted((i for i in ids if i[1:][:_TIME_LENGTH] > limit), key=lambda i: i[1:])


def dated_ahead(journal: Path, now: datetime | None = None) -> list[str]:
    """Return ids of a journal's runs and events that are dated after a moment."""
    named = (event_of(path.name) for path in event_files(journal))
    ids = [event[0] for event in named if event is not None]
    if (journal / "runs").is_dir():
        ids += [run for each in (journal / "runs").iterdir() if (run := run_of(each.name))]
    return ahead(ids, now)


def clock_note(entries: list[str], now: datetime | None = None) -> str | None:
    """Say how far the last of some entries is ahead of this machine's clock; None without any."""
    if not entries:
        return None
    last = entries[-1]
    kind = "run" if last.startswith("r") else "event"
    try:
        dated = datetime.strptime(last[1:][:_TIME_LENGTH], _TIME).replace(tzinfo=UTC)
        by = f", by {_span((dated - (now or datetime.now(UTC))).total_seconds())}"
    except ValueError:
        by = ""
    others = f" and {len(entries) - 1:,} more are" if len(entries) > 1 else " is"
    return (
        f"{kind} {last}{others} dated after this machine's clock{by}: "
        "this clock is behind, or another was ahead"
    )


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, seconds):.0f} seconds"
