"""Events: what came later than a run, or from a person, one small Parquet file each.

Promotions, changes made elsewhere and put on record, imports, compactions, looks at a holdout, and
what was done to prove a run. An event's file carries the hash of its own bytes in its name, so that
a changed one is found without any other file.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.journal.schema import FORMAT_VERSION
from gtmar.journal.store import unwritable
from gtmar.outputs import place_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EventKind", "event_files", "event_schema", "read_event", "untouched", "write_event"]

#: Hexadecimal digits of the file's hash in its name.
_DIGITS = 16


class EventKind(StrEnum):
    """What an event says."""

    #: A spec went live by somebody's word.
    PROMOTION = "promotion"
    #: A change made elsewhere, put on record after the fact.
    RECORD = "record"
    #: A journal of another tool was brought in.
    IMPORT = "import"
    #: Parts of runs were packed.
    COMPACTION = "compaction"
    #: Somebody measured something on a holdout.
    LOOK = "look"
    #: A run's gain was held against the same search on shuffled outcomes.
    NULL = "null"
    #: A run's search was done over resampled accounts.
    STABILITY = "stability"
    #: A candidate was put forward for review, or not.
    DECISION = "decision"


def event_schema() -> pa.Schema:
    """Return the schema of an event's row."""
    text = pa.string()
    return pa.schema(
        {
            "event_id": text,
            "kind": text,
            "at": pa.timestamp("us", tz="UTC"),
            "author": text,
            "note": text,
            "expect": text,
            "since": pa.timestamp("us", tz="UTC"),
            "model": text,
            "spec_id": text,
            "score_id": text,
            "spec": text,
            "run_id": text,
            "experiment_id": text,
            "source": text,
            "details": text,
        }
    )


def write_event(
    journal: Path, kind: EventKind, *, details: dict[str, Any] | None = None, **fields: Any
) -> str:
    """Write one event.

    Parameters
    ----------
    journal
        The journal's folder; made where it isn't there.
    kind
        What it says.
    details
        What has no column of its own; kept as JSON.
    fields
        Values by column; those not given are null.

    Returns
    -------
    str
        The event's id.

    Raises
    ------
    JournalError
        If the folder can't be written.
    """
    now = datetime.now(UTC)
    event_id = f"e{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    row = {
        "event_id": event_id,
        "kind": str(kind),
        "at": now,
        "details": json.dumps(details, sort_keys=True, ensure_ascii=False) if details else None,
        **fields,
    }
    schema = event_schema()
    unknown = sorted(set(row) - set(schema.names))
    if unknown:
        raise TypeError(f"an event has no column {unknown}")
    arrays = [pa.array([row.get(field.name)], type=field.type) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    table = table.replace_schema_metadata({"gtmar_format": str(FORMAT_VERSION)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
    try:
        folder = journal / "events"
        folder.mkdir(parents=True, exist_ok=True)
        place_file(folder / f"event_id={event_id}.{digest}.parquet", content)
    except OSError as err:
        raise unwritable(journal, err) from err
    return event_id


def event_files(journal: Path) -> list[Path]:
    """Return the files of all events, in the order of their ids."""
    return sorted(journal.glob("events/*.parquet"))


def untouched(path: Path) -> bool:
    """Whether an event's file is the one that was written, by the hash in its name."""
    stated = path.name.split(".")[-2]
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS] == stated


def read_event(path: Path) -> dict[str, Any]:
    """Return an event's row."""
    row: dict[str, Any] = pq.read_table(path, partitioning=None).to_pylist()[0]
    return row
