"""Events of a journal, each in a file that is written once; and entries dated in the future.

Machines that share a journal have their own clocks. An entry from the future means that the clock
of its writer was ahead or that this one is behind; a reader can't tell which.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gtmar.errors import JournalError
from gtmar.journal.files import (
    JournalFile,
    event_of,
    make_folder,
    parquet_files,
    place_file,
    refuse_journal_elsewhere,
    run_of,
    sha256_of,
    unwritable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "EventKind",
    "ahead",
    "clock_note",
    "dated_ahead",
    "event_files",
    "read_event",
    "untouched",
    "write_event",
]


#: Format of the time in an id, after its first letter.
_TIME = "%Y%m%d-%H%M%S"
_TIME_LENGTH = len("20260101-120000")


def ahead(ids: Iterable[str], now: datetime | None = None) -> list[str]:
    """Return the ids of runs and events that are dated after `now`, the earliest first."""
    limit = f"{now or datetime.now(UTC):{_TIME}}"
    return sorted((i for i in ids if i[1:][:_TIME_LENGTH] > limit), key=lambda i: i[1:])


def dated_ahead(journal: Path, now: datetime | None = None) -> list[str]:
    """Return the ids of a journal's runs and events that are dated after `now`."""
    named = (event_of(path.name) for path in event_files(journal))
    ids = [event[0] for event in named if event is not None]
    if (journal / "runs").is_dir():
        ids += [run for each in (journal / "runs").iterdir() if (run := run_of(each.name))]
    return ahead(ids, now)


def clock_note(entries: list[str], now: datetime | None = None) -> str | None:
    """Return a note of how far the last of `entries` is ahead of the clock; None without any."""
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


#: Number of hexadecimal digits of the file's hash in its name.
_HASH_DIGITS = 16


class EventKind(StrEnum):
    """The kind of an event."""

    #: A person declared a spec live.
    PROMOTION = "promotion"
    #: A change that was made elsewhere was recorded after the fact.
    RECORD = "record"
    #: A journal of another tool was imported.
    IMPORT = "import"
    #: An import was undone.
    UNDO = "undo"
    #: Parts of runs were packed.
    COMPACTION = "compaction"
    #: Something was measured on a holdout.
    LOOK = "look"
    #: A run's search was repeated on shuffled outcomes.
    NULL = "null"
    #: A run's search was repeated on halves of its accounts.
    STABILITY = "stability"
    #: A decision on a candidate was made.
    DECISION = "decision"
    #: The live score of a date was measured by the accounts' outcomes.
    MEASUREMENT = "measurement"
    #: Searches on each of several dates were evaluated on the next date.
    WALK = "walk"


def write_event(
    journal: Path, kind: EventKind, *, details: dict[str, Any] | None = None, **fields: Any
) -> str:
    """Write one event.

    Parameters
    ----------
    journal
        The journal's folder; created if it doesn't exist.
    details
        Values without a column of their own; stored as JSON.
    fields
        Values by column; the other columns are null.

    Returns
    -------
    str
        The event's id.

    Raises
    ------
    JournalError
        If the folder can't be written.
    TypeError
        If there is no column of a field's name.
    """
    import pyarrow as pa

    from gtmar.journal.columns import EVENTS
    from gtmar.journal.schema import SMALL, format_of, schema_of, write_parquet

    refuse_journal_elsewhere(journal)
    now = datetime.now(UTC)
    event_id = f"e{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    row = {
        "event_id": event_id,
        "kind": str(kind),
        "at": now,
        "details": json.dumps(details, sort_keys=True, ensure_ascii=False) if details else None,
        **fields,
    }
    schema = schema_of(EVENTS)
    unknown = sorted(set(row) - set(schema.names))
    if unknown:
        raise TypeError(f"an event has no column {unknown}")
    arrays = [pa.array([row.get(field.name)], type=field.type) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    buffer = io.BytesIO()
    write_parquet(table, buffer, {"gtmar_format": format_of(table)}, 1, SMALL)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
    try:
        folder = journal / "events"
        make_folder(folder, exist_ok=True)
        place_file(folder / f"event_id={event_id}.{digest}.parquet", content)
    except OSError as err:
        raise unwritable(journal, err) from err
    return event_id


def event_files(journal: Path) -> list[Path]:
    """Return the files of all events, in the order of their ids."""
    return parquet_files(journal / "events")


def untouched(path: Path, sha256: str = "") -> bool:
    """Return whether an event's file is as it was written, by the hash in its name.

    `sha256` is the file's hash; if empty, it is computed.
    """
    named = event_of(path.name)
    return named is not None and (sha256 or sha256_of(path))[:_HASH_DIGITS] == named[1]


def read_event(path: Path) -> dict[str, Any]:
    """Return an event's row; raise `JournalError` if the file is damaged."""
    row = JournalFile.load(path).row()
    if row is None:
        raise JournalError(f'"{path}" isn\'t what was written', hint="gtmar verify names it")
    return row
