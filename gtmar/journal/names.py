"""Names of a journal's own files and folders, and which of a run's files stand for its rows.

Tools that sync or copy folders leave others beside them: ``run_id=R (conflicted copy)``,
``part-000002.sync-conflict-20260101.parquet``, ``start (1).parquet``. Readers take in what bears a
name of the journal's own and, by its footer, holds rows of the run that its folder names. A packed
part replaces the parts that its footer lists, so those that a sync has put back beside it aren't
read either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PACKED_NAME", "event_of", "holds_rows_of", "is_own", "replaced_names", "run_of"]

#: The part that all others of its run are packed into.
PACKED_NAME = "part-000001.parquet"
_RUN = re.compile(r"run_id=(r[0-9a-z-]+)")
_EVENT = re.compile(r"event_id=(e[0-9a-z-]+)\.([0-9a-f]+)\.parquet")
_OWN = {
    "runs": re.compile(r"(?:start|end|resume-[0-9]+)\.parquet"),
    "experiments": re.compile(r"part-[0-9]{6,}\.parquet"),
    "events": _EVENT,
}
#: Length of a text in a footer is one byte up to this.
_SHORT = 128


def run_of(folder: str) -> str | None:
    """Return the id in the name of a run's folder; None where it isn't a name that gtmar gives.

    Examples
    --------
    >>> run_of("run_id=r20260101-120000-abc123")
    'r20260101-120000-abc123'
    >>> run_of("run_id=r20260101-120000-abc123 (conflicted copy)")
    """
    match = _RUN.fullmatch(folder)
    return match[1] if match else None


def event_of(file: str) -> tuple[str, str] | None:
    """Return an event's id and the digits of its hash from its file's name; None for another."""
    match = _EVENT.fullmatch(file)
    return (match[1], match[2]) if match else None


def is_own(room: str, file: str) -> bool:
    """Whether a file has a name that gtmar gives in `runs`, `experiments` or `events`."""
    return _OWN[room].fullmatch(file) is not None


def holds_rows_of(run_id: str, footer: bytes) -> bool:
    """Whether a file's rows are of a run, by the least and greatest `run_id` in its footer."""
    stated = run_id.encode()
    return len(stated) >= _SHORT or bytes([len(stated)]) + stated in footer


def replaced_names(file: str, listed: Iterable[str]) -> set[str]:
    """Return names of a run's parts that one of its files stands for.

    Parameters
    ----------
    file
        The file's name.
    listed
        Names of the parts that were packed into it, by its footer.
    """
    return {*listed} - {PACKED_NAME} if file == PACKED_NAME else set()
