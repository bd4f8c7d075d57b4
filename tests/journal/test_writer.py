"""The writer: whole files or none, chained, one writer a run, and what is written stays."""

import errno
import fcntl
import hashlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gtmar.errors import JournalError
from gtmar.journal import writer as room
from gtmar.journal.columns import EXPERIMENTS
from gtmar.journal.digest import RunDigest
from gtmar.journal.schema import first_format, schema_of
from gtmar.journal.writer import RunWriter

RUN = "r20260101-120000-abc123"


def rows(first: int, count: int) -> pa.Table:
    made = [
        {
            "run_id": RUN,
            "experiment_id": f"exp_{n:05d}",
            "number": n,
            "outcome": "lose",
            "weights": [("nps", n)],
        }
        for n in range(first, first + count)
    ]
    return pa.Table.from_pylist(made, schema=first_format(schema_of(EXPERIMENTS)))


def start_fields(**more: Any) -> dict[str, Any]:
    return {"seed": 7, "started_at": datetime(2026, 1, 1, tzinfo=UTC), **more}


def parts(journal: Path) -> list[Path]:
    return sorted((journal / "experiments" / f"run_id={RUN}").glob("part-*.parquet"))


def records(journal: Path) -> Path:
    return journal / "runs" / f"run_id={RUN}"


def numbers(path: Path) -> list[int]:
    found: list[int] = pq.ParquetFile(path).read()["number"].to_pylist()
    return found


def footer(path: Path) -> dict[str, str]:
    metadata = pq.ParquetFile(path).schema_arrow.metadata
    return {key.decode(): value.decode() for key, value in metadata.items()}


# ---- what is written ------------------------------------------------------------------------


def test_files_carry_the_format_and_the_hash_of_the_one_before(tmp_path: Path) -> None:
    journal = tmp_path / "new" / "journal"
    with RunWriter(journal, RUN) as writer:
        writer.record("start", start_fields())
        writer.append(rows(0, 2))
        writer.flush()
        writer.append(rows(2, 3))
        writer.append(rows(5, 1))
        writer.record("end", {"state": "finished"})
    files = [records(journal) / "start.parquet", *parts(journal), records(journal) / "end.parquet"]
    assert [path.name for path in files] == [
        "start.parquet",
        "part-000001.parquet",
        "part-000002.parquet",
        "end.parquet",
    ]
    before = ""
    for place, path in enumerate(files):
        assert footer(path) == {
            "gtmar_format": "1",
            "gtmar_previous": before,
            "gtmar_place": str(place),
        }
        before = hashlib.sha256(path.read_bytes()).hexdigest()
    assert [numbers(path) for path in parts(journal)] == [[0, 1], [2, 3, 4, 5]]


def test_records_say_what_was_asked_and_how_it_ended(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN) as writer:
        writer.record("start", start_fields(note="why", packages=[("numpy", "2")]))
        writer.record("end", {"state": "patience", "wins": 3})
    [start] = pq.ParquetFile(records(tmp_path) / "start.parquet").read().to_pylist()
    assert (start["run_id"], start["record"], start["seed"]) == (RUN, "start", 7)
    assert (start["note"], start["packages"], start["state"]) == ("why", [("numpy", "2")], None)
    [end] = pq.ParquetFile(records(tmp_path) / "end.parquet").read().to_pylist()
    assert (end["record"], end["state"], end["wins"], end["seed"]) == ("end", "patience", 3, None)


def written_name(path: Path) -> str:
    """Return a file's name, without what is drawn where it is still being written."""
    return re.sub(r"\.[0-9a-f]{12}\.partial$", ".partial", path.name)


def test_nothing_but_whole_files_is_left(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN) as writer:
        writer.record("start", start_fields())
        writer.append(rows(0, 2))
        writer.record("end", {"state": "finished"})
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == [
        f"experiments/run_id={RUN}/part-000001.parquet",
        f"runs/run_id={RUN}/end.parquet",
        f"runs/run_id={RUN}/lock",
        f"runs/run_id={RUN}/seal",
        f"runs/run_id={RUN}/start.parquet",
    ]


def test_the_end_is_sealed_before_it_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a run that has ended has a seal, whenever it was killed."""
    seen: list[list[str]] = []

    def look(handle: int) -> None:
        seen.append(sorted(written_name(p) for p in records(tmp_path).glob("[es]*")))

    with RunWriter(tmp_path, RUN) as writer:
        writer.append(rows(0, 1))
        writer.flush()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", look)
            writer.record("end", {"state": "finished"})
    assert seen == [
        ["end.parquet.partial"],
        ["end.parquet.partial", "seal.partial"],
        ["end.parquet.partial", "seal"],
        ["end.parquet", "seal"],
    ]
    digest = hashlib.sha256((records(tmp_path) / "end.parquet").read_bytes()).hexdigest()
    assert (records(tmp_path) / "seal").read_text() == f"{digest}\n"


def test_pages_carry_checksums(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN) as writer:
        writer.append(rows(0, 2))
        writer.flush()
    path = parts(tmp_path)[0]
    whole = path.read_bytes()
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(2)
    last = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size
    path.write_bytes(whole[: last - 1] + bytes([whole[last - 1] ^ 1]) + whole[last:])
    with pytest.raises(OSError, match="CRC checksum"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


def test_the_lock_has_word_of_the_newest_file(tmp_path: Path) -> None:
    lock = records(tmp_path) / "lock"
    with RunWriter(tmp_path, RUN) as writer:
        for place in range(3):
            writer.append(rows(place, 1))
            writer.flush()
            digest = hashlib.sha256(parts(tmp_path)[-1].read_bytes()).hexdigest()
            assert lock.read_text() == f"{place:06d} {digest}\n"
        before = lock.read_text()
        writer.record("end", {})
    assert lock.read_text() == before


# ---- what goes on ---------------------------------------------------------------------------


def half_written(journal: Path) -> None:
    with RunWriter(journal, RUN) as writer:
        writer.append(rows(0, 1))
        writer.flush()
        writer.record("start", start_fields())
        for first in (1, 3):
            writer.append(rows(first, 2))
            writer.flush()


def test_a_resumed_run_goes_on_from_its_last_file(tmp_path: Path) -> None:
    half_written(tmp_path)
    with RunWriter(tmp_path, RUN, resumed=True) as writer:
        writer.record("resume-1", start_fields())
        writer.append(rows(5, 1))
        writer.flush()
        digest = writer.digest.hexdigest()
    assert [numbers(path) for path in parts(tmp_path)] == [[0], [1, 2], [3, 4], [5]]
    before = hashlib.sha256(parts(tmp_path)[2].read_bytes()).hexdigest()
    resume = footer(records(tmp_path) / "resume-1.parquet")
    assert (resume["gtmar_place"], resume["gtmar_previous"]) == ("4", before)
    expected = RunDigest()
    expected.update(rows(0, 6))
    assert digest == expected.hexdigest()


@pytest.mark.parametrize("cut", [0, 3, 4, 11, 12, 100, -100, -4, -1])
def test_a_torn_last_part_is_put_aside(tmp_path: Path, cut: int) -> None:
    half_written(tmp_path)
    last = parts(tmp_path)[-1]
    torn = last.read_bytes()[:cut]
    last.write_bytes(torn)
    with RunWriter(tmp_path, RUN, resumed=True) as writer:
        writer.append(rows(3, 3))
        writer.flush()
    assert last.with_suffix(".torn").read_bytes() == torn
    assert [numbers(path) for path in parts(tmp_path)] == [[0], [1, 2], [3, 4, 5]]


def test_what_can_not_be_gone_on_with_is_refused_and_let_go_of(tmp_path: Path) -> None:
    half_written(tmp_path)
    gone = parts(tmp_path)[1]
    content = gone.read_bytes()
    gone.unlink()
    for _ in range(2):
        with pytest.raises(JournalError, match="is damaged: a part is missing or was changed"):
            RunWriter(tmp_path, RUN, resumed=True)
    gone.write_bytes(content)
    with RunWriter(tmp_path, RUN, resumed=True) as writer:
        writer.record("end", {})
    with pytest.raises(JournalError, match="has ended; there is nothing to resume"):
        RunWriter(tmp_path, RUN, resumed=True)


def test_the_digest_is_that_of_all_rows(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN) as writer:
        for first in (0, 3, 6):
            writer.append(rows(first, 3))
            writer.flush()
    expected = RunDigest()
    expected.update(rows(0, 9))
    assert writer.digest.hexdigest() == expected.hexdigest()


def test_flushing_nothing_writes_nothing(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN) as writer:
        writer.flush()
        writer.flush()
    assert parts(tmp_path) == []


def test_parts_are_flushed_by_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FLUSH_ROWS", 5)
    with RunWriter(tmp_path, RUN) as writer:
        writer.append(rows(0, 2))
        writer.append(rows(2, 2))
        assert parts(tmp_path) == []
        writer.append(rows(4, 2))
        assert [numbers(path) for path in parts(tmp_path)] == [[0, 1, 2, 3, 4, 5]]


def test_parts_are_flushed_by_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gtmar.journal.writer.time.monotonic", lambda: now)
    with RunWriter(tmp_path, RUN) as writer:
        now = 200.0
        # The clock runs from the oldest waiting row, not from the last flush.
        writer.append(rows(0, 1))
        assert parts(tmp_path) == []
        now = 203.0
        writer.append(rows(1, 1))
        assert [numbers(path) for path in parts(tmp_path)] == [[0, 1]]


# ---- one writer -----------------------------------------------------------------------------


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN) as writer:
        writer.record("start", start_fields())
        with pytest.raises(JournalError, match="exists"):
            RunWriter(tmp_path, RUN)
    with pytest.raises(JournalError, match="exists"):
        RunWriter(tmp_path, RUN)
    assert (records(tmp_path) / "start.parquet").is_file()


def test_a_lock_is_held_while_a_run_is_running(tmp_path: Path) -> None:
    with (
        RunWriter(tmp_path, RUN),
        (records(tmp_path) / "lock").open() as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (records(tmp_path) / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_is_let_go_of_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), RunWriter(tmp_path, RUN):
        raise RuntimeError("boom")
    with (records(tmp_path) / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ---- what goes wrong ------------------------------------------------------------------------


def test_a_journal_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text("not a folder")
    with pytest.raises(JournalError, match=r'journal ".*journal": can\'t be written') as caught:
        RunWriter(journal, RUN)
    assert caught.value.exit_code == 5
    assert "--journal" in str(caught.value.hint)
    assert journal.read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(JournalError, match="Permission denied"):
            RunWriter(tmp_path / "journal", RUN)
    finally:
        tmp_path.chmod(0o700)


def assert_intact(journal: Path) -> None:
    """The first part is there and whole, and of the second nothing is."""
    assert [numbers(path) for path in parts(journal)] == [[0, 1]]
    assert [p for p in journal.rglob("*") if p.suffix == ".partial"] == []


@pytest.mark.parametrize("call", ["fsync", "write", "rename"])
def test_a_full_disk_leaves_what_was_written_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "part")

    with RunWriter(tmp_path, RUN) as writer:
        writer.record("start", start_fields())
        writer.append(rows(0, 2))
        writer.flush()
        with monkeypatch.context() as patch:
            if call == "rename":
                patch.setattr(Path, "rename", full)
            elif call == "write":
                patch.setattr(pq, "write_table", full)
            else:
                patch.setattr(os, "fsync", full)
            writer.append(rows(2, 2))
            with pytest.raises(JournalError, match=r"No space left on device.*is intact"):
                writer.flush()
    assert_intact(tmp_path)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_disk_that_fills_up_at_the_end_leaves_a_run_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Whichever write it is: of the end, of its seal, or the renames of the two."""
    real, left = os.fsync, [times]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with RunWriter(tmp_path, RUN) as writer:
        writer.append(rows(0, 2))
        writer.flush()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(JournalError, match="No space left on device"):
                writer.record("end", {"state": "finished"})
    ended = (records(tmp_path) / "end.parquet").exists()
    # Only the last one comes after the end is in its place.
    assert ended is (times == 4)
    assert (records(tmp_path) / "seal").exists() is ended
    if not ended:
        with RunWriter(tmp_path, RUN, resumed=True) as writer:
            writer.record("end", {"state": "finished"})


def test_a_folder_that_is_lost_is_said_to_be_gone(tmp_path: Path) -> None:
    journal, aside = tmp_path / "journal", tmp_path / "aside"
    with RunWriter(journal, RUN) as writer:
        writer.append(rows(0, 2))
        writer.flush()
        journal.rename(aside)
        writer.append(rows(2, 2))
        with pytest.raises(JournalError, match=r"can't be written.*the folder is gone") as caught:
            writer.flush()
    assert "put it back" in str(caught.value.hint)
    assert not journal.exists()
    assert_intact(aside)


@pytest.mark.parametrize("name", ["part-000002.partial", "part-000002.parquet.partial"])
def test_what_lies_under_another_name_is_not_written_through(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    with RunWriter(tmp_path / "journal", RUN) as writer:
        beside = tmp_path / "journal" / "experiments" / f"run_id={RUN}" / name
        beside.symlink_to(mine)
        for first in (0, 2):
            writer.append(rows(first, 2))
            writer.flush()
    assert mine.read_text() == "mine"
    assert beside.is_symlink()
    assert len(parts(tmp_path / "journal")) == 2


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    half_written(tmp_path / "journal")
    mine = tmp_path / "mine"
    mine.write_text("mine, and longer than a line of the lock" * 3)
    lock = records(tmp_path / "journal") / "lock"
    lock.unlink()
    lock.symlink_to(mine)
    before = mine.read_text()
    with pytest.raises(JournalError, match="can't be written"):
        RunWriter(tmp_path / "journal", RUN, resumed=True)
    assert mine.read_text() == before


def test_a_part_that_is_being_written_is_no_part_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def look(_: int) -> None:
        seen.append(sorted(written_name(p) for p in tmp_path.rglob("part-*")))

    with RunWriter(tmp_path, RUN) as writer:
        writer.append(rows(0, 2))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", look)
            writer.flush()
    # Synced before it is renamed, then the folder once more.
    assert seen == [["part-000001.parquet.partial"], ["part-000001.parquet"]]
