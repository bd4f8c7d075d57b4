"""Events: one file each, whole or not there, and found when they were changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from journals import content

from gtmar.errors import JournalError
from gtmar.journal.columns import EVENTS
from gtmar.journal.events import (
    EventKind,
    event_files,
    read_event,
    untouched,
    write_event,
)
from gtmar.journal.schema import schema_of

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_event_is_a_row_of_its_own(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    event_id = write_event(
        tmp_path / "new" / "journal",
        EventKind.PROMOTION,
        details={"é": [1, None]},
        author="RevOps",
        note="live from today",
        since=WHEN,
    )
    [path] = event_files(tmp_path / "new" / "journal")
    assert re.fullmatch(r"e\d{8}-\d{6}-[0-9a-f]{6}", event_id)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"event_id={event_id}.{digest[:16]}.parquet"
    [row] = pq.ParquetFile(path).read().to_pylist()
    assert row == read_event(path)
    assert (row["event_id"], row["kind"]) == (event_id, "promotion")
    assert (row["author"], row["note"], row["since"]) == ("RevOps", "live from today", WHEN)
    assert before <= row["at"] <= datetime.now(UTC)
    assert json.loads(row["details"]) == {"é": [1, None]}
    assert row["run_id"] is None
    assert set(row) == set(schema_of(EVENTS).names)
    footer = pq.ParquetFile(path).schema_arrow.metadata
    assert footer == {b"gtmar_format": b"1"}


def test_events_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    assert event_files(tmp_path) == []
    written = [write_event(tmp_path, kind) for kind in EventKind]
    found = [read_event(path)["event_id"] for path in event_files(tmp_path)]
    assert found == sorted(written)


def test_a_changed_event_is_told_by_its_name(tmp_path: Path) -> None:
    write_event(tmp_path, EventKind.RECORD)
    [path] = event_files(tmp_path)
    assert untouched(path)
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not untouched(path)
    path.write_bytes(whole[:-1])
    assert not untouched(path)
    path.write_bytes(whole)
    assert untouched(path)


@pytest.mark.parametrize("name", ["x.parquet", "event_id=e1.parquet", ".parquet"])
def test_a_file_that_states_no_hash_is_not_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1")
    assert not untouched(tmp_path / name)


def test_an_unknown_column_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"an event has no column \['autor'\]"):
        write_event(tmp_path, EventKind.RECORD, autor="x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("not a folder")
    with pytest.raises(JournalError, match=r'journal ".*journal": can\'t be written'):
        write_event(tmp_path / "journal", EventKind.RECORD)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_no_event_and_no_half_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_event(tmp_path, EventKind.RECORD)
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else type(tmp_path), call, full)
        with pytest.raises(JournalError, match="No space left on device"):
            write_event(tmp_path, EventKind.RECORD)
    assert content(tmp_path) == before


def test_every_column_is_described_with_its_type() -> None:
    page = (Path(__file__).parents[2] / "docs" / "journal-format.md").read_text("utf-8")
    section = page.partition("\n## Events\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.+) \|$", section, re.MULTILINE)
    types = [(field.name, str(field.type).replace("tz=", "")) for field in schema_of(EVENTS)]
    assert [(name, kind) for name, kind, _ in listed] == types
    assert all(f"`{kind}`" in listed[1][2] for kind in EventKind)
