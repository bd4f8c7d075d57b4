"""Packing: one part a run, not a row changed, and a kill at any moment leaves old or new parts."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from journals import IDS, WHEN, Killed, Mortal, begin, content, finish, rows
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.data import synthetic
from gtmar.errors import JournalError, RunNotFoundError
from gtmar.journal import compaction as room
from gtmar.journal.catalog import Journal
from gtmar.journal.compaction import Compaction, compact
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import run_ids, verify
from gtmar.journal.writer import RunWriter
from gtmar.outputs import exchange

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of three runs that have ended; the second was resumed once."""
    folder = tmp_path_factory.mktemp("made") / "journal"
    for number, run_id in enumerate(IDS):
        finish(begin(folder, run_id, resumed=number == 1))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of one run of two parts."""
    folder = tmp_path_factory.mktemp("small") / "journal"
    finish(begin(folder, IDS[0], parts=2))
    return folder


@pytest.fixture
def journal(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "journal")
    return tmp_path / "journal"


def experiments(journal: Path) -> pl.DataFrame:
    """All rows, as somebody who knows nothing of gtmar reads them."""
    read = pl.read_parquet(journal / "experiments" / "*" / "*.parquet", hive_partitioning=False)
    return read.sort("run_id", "number")


def events(journal: Path) -> list[dict[str, Any]]:
    found = [pq.ParquetFile(p).read().to_pylist()[0] for p in journal.glob("events/*.parquet")]
    return sorted(found, key=lambda event: str(event["at"]))


def parts_of(journal: Path) -> dict[str, list[str]]:
    found = {run_id: RunFiles(journal, run_id).parts for run_id in run_ids(journal)}
    return {run_id: [path.name for path in paths] for run_id, paths in found.items()}


PACKED = {run_id: ["part-000001.parquet"] for run_id in IDS}


# ---- what it does ---------------------------------------------------------------------------


def test_every_row_is_there_as_it_was_in_one_part_a_run(journal: Path) -> None:
    before, records = experiments(journal), content(journal / "runs")
    schema = pq.ParquetFile(RunFiles(journal, IDS[0]).parts[1]).schema_arrow
    found = compact(journal)
    assert parts_of(journal) == PACKED
    assert_frame_equal(experiments(journal), before)
    assert content(journal / "runs") == records
    for run_id in IDS:
        file = pq.ParquetFile(RunFiles(journal, run_id).parts[0])
        assert file.schema_arrow.equals(schema)
        numbers = file.read()["number"].to_pylist()
        assert numbers == list(range(9))
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert [(run.run_id, run.parts_before, run.parts_after, run.rows) for run in found.packed] == [
        (run_id, 4, 1, 9) for run_id in IDS
    ]
    assert content(journal / "packing") == {"lock": b""}


def test_it_is_kept_as_an_event(journal: Path) -> None:
    found = compact(journal)
    [event] = events(journal)
    assert (event["event_id"], event["kind"]) == (found.event_id, "compaction")
    details = json.loads(event["details"])
    assert (details["parts_before"], details["parts_after"]) == (12, 3)
    assert {run["run_id"]: run["sha256"] for run in details["runs"]} == {
        run_id: hashlib.sha256(RunFiles(journal, run_id).parts[0].read_bytes()).hexdigest()
        for run_id in IDS
    }


def test_the_packed_file_keeps_the_links_of_its_parts(journal: Path) -> None:
    files = RunFiles(journal, IDS[1])
    expected = []
    for path in files.parts:
        footer = pq.ParquetFile(path).schema_arrow.metadata
        expected.append(
            {
                "name": path.name,
                "place": int(footer[b"gtmar_place"]),
                "previous": footer[b"gtmar_previous"].decode(),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        )
    compact(journal)
    footer = pq.ParquetFile(files.parts[0]).schema_arrow.metadata
    assert json.loads(footer[b"gtmar_packed"]) == expected
    assert [link["place"] for link in expected] == [0, 2, 4, 5]
    assert footer[b"gtmar_previous"] == b""


def test_a_digest_printed_before_holds_after(journal: Path) -> None:
    before = verify(journal)
    compact(journal)
    after = verify(journal, against=before.digest)
    assert after.sound
    assert after.against_holds
    assert after.notes == ()
    assert (after.runs, after.experiments, after.events) == (3, 24, 1)
    assert after.digest.startswith("gtmar2:4:")
    finish(begin(journal, "r20260102-120000-abc120"))
    assert verify(journal, against=after.digest).against_holds
    compact(journal)
    assert verify(journal, against=before.digest).against_holds
    assert verify(journal, against=after.digest).against_holds


def test_to_compact_again_changes_nothing(journal: Path) -> None:
    compact(journal)
    before = content(journal)
    inodes = [path.stat().st_ino for path in journal.rglob("*.parquet")]
    again = compact(journal)
    assert again == Compaction(packed=(), left_alone={}, event_id=None)
    assert content(journal) == before
    assert [path.stat().st_ino for path in journal.rglob("*.parquet")] == inodes


def test_only_what_is_new_is_packed_the_next_time(journal: Path) -> None:
    compact(journal)
    finish(begin(journal, "r20260102-120000-abc120", parts=3))
    found = compact(journal)
    assert [(run.run_id, run.parts_before) for run in found.packed] == [
        ("r20260102-120000-abc120", 3)
    ]
    assert len(events(journal)) == 2


def test_a_run_of_one_part_stays_as_it_is(tmp_path: Path) -> None:
    finish(begin(tmp_path, IDS[0], parts=1))
    before = content(tmp_path / "experiments")
    assert compact(tmp_path).packed == ()
    assert content(tmp_path / "experiments") == before
    assert events(tmp_path) == []


def test_rows_come_in_groups_of_sensible_size(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_GROUP_ROWS", 4)
    compact(journal)
    metadata = pq.ParquetFile(RunFiles(journal, IDS[0]).parts[0]).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [4, 4, 1]
    assert verify(journal).sound


def test_a_torn_part_put_aside_by_a_resume_is_kept(journal: Path) -> None:
    torn = RunFiles(journal, IDS[1]).experiments / "part-000002.torn"
    torn.write_bytes(b"PAR1 cut")
    compact(journal)
    assert torn.read_bytes() == b"PAR1 cut"


# ---- what it leaves alone -------------------------------------------------------------------


def test_what_runs_or_may_be_resumed_or_is_damaged_is_left_alone(journal: Path) -> None:
    ids = {name: f"r20260103-12000{n}-abc12{n}" for n, name in enumerate(["cut", "runs", "hole"])}
    begin(journal, ids["cut"])
    finish(begin(journal, ids["hole"]))
    RunFiles(journal, ids["hole"]).parts[2].unlink()
    finish(begin(journal, ids["runs"]))
    folders = [RunFiles(journal, run_id).experiments for run_id in ids.values()]
    before = [content(folder) for folder in folders]
    with RunFiles(journal, ids["runs"]).lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = compact(journal)
    assert found.left_alone == {
        "cut off, and may be resumed": (ids["cut"],),
        "running": (ids["runs"],),
        "damaged; gtmar verify --rows says how": (ids["hole"],),
    }
    assert [content(folder) for folder in folders] == before
    assert parts_of(journal).items() > PACKED.items()


def test_a_resumed_run_goes_on_beside_packed_ones_and_is_packed_later(journal: Path) -> None:
    run_id = "r20260103-120000-abc120"
    begin(journal, run_id, parts=3)
    compact(journal)
    with RunWriter(journal, run_id, resumed=True) as writer:
        writer.record("resume-1", {"started_at": WHEN})
        writer.append(rows(run_id, 6, 2))
        writer.flush()
        finish(writer)
    assert [run.parts_before for run in compact(journal).packed] == [4]
    assert verify(journal).sound


def test_a_second_compaction_at_the_same_time_is_refused(journal: Path) -> None:
    compact(journal)
    before = content(journal)
    with (journal / "packing" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(JournalError, match="another process is compacting it"):
            compact(journal)
    assert content(journal) == before


def test_a_journal_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="no run in it"):
        compact(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- kills and full disks -------------------------------------------------------------------


def compact_until(journal: Path, last: int, *, exchange: bool = True) -> bool:
    """Compact, killed before the given call; say whether it got to its end."""
    with pytest.MonkeyPatch.context() as patch:
        if not exchange:
            patch.setattr(room, "_exchange", lambda one, other: False)
        Mortal(patch, last, (room, "_exchange"))
        try:
            compact(journal)
        except Killed:
            return False
    return True


def calls_of(made: Path, folder: Path, *, exchange: bool = True) -> int:
    """Count the calls of a compaction that nobody kills."""
    shutil.copytree(made, folder)
    with pytest.MonkeyPatch.context() as patch:
        if not exchange:
            patch.setattr(room, "_exchange", lambda one, other: False)
        mortal = Mortal(patch, 10**6, (room, "_exchange"))
        compact(folder)
    shutil.rmtree(folder)
    return mortal.calls


def mended(journal: Path, before: pl.DataFrame, kept: str) -> None:
    """Another compaction ends what was begun, and every run is on record once."""
    compact(journal)
    assert {len(names) for names in parts_of(journal).values()} == {1}
    assert_frame_equal(experiments(journal), before)
    after = verify(journal, against=kept)
    assert after.sound
    assert after.notes == ()
    listed = [run["run_id"] for e in events(journal) for run in json.loads(e["details"])["runs"]]
    assert sorted(listed) == sorted(parts_of(journal))
    assert content(journal / "packing") == {"lock": b""}


@pytest.mark.slow
def test_a_kill_leaves_the_old_parts_or_the_new_one(small: Path, tmp_path: Path) -> None:
    """Killed before each change of the disk in turn."""
    before, kept = experiments(small), verify(small).digest
    count = calls_of(small, tmp_path / "counted")
    assert count > 15
    for last in range(1, count + 1):
        journal = tmp_path / str(last)
        shutil.copytree(small, journal)
        assert not compact_until(journal, last)
        assert_frame_equal(experiments(journal), before)
        assert {len(names) for names in parts_of(journal).values()} <= {1, 2}
        found = verify(journal, against=kept)
        assert found.sound, found.findings
        mended(journal, before, kept)


def test_a_kill_after_packing_is_made_up_for(made: Path, tmp_path: Path) -> None:
    count = calls_of(made, tmp_path / "counted")
    journal = tmp_path / "journal"
    shutil.copytree(made, journal)
    # The last call syncs the events' folder, the one before it puts the event there.
    assert not compact_until(journal, count - 1)
    assert {len(names) for names in parts_of(journal).values()} == {1}
    assert events(journal) == []
    noted = verify(journal)
    assert noted.sound
    assert len([note for note in noted.notes if "isn't on record" in note]) == 3
    again = compact(journal)
    assert [(run.parts_before, run.rows) for run in again.packed] == [(4, 9)] * 3


@pytest.mark.slow
def test_where_folders_cannot_be_exchanged_the_next_compaction_puts_things_right(
    small: Path, tmp_path: Path
) -> None:
    before, kept = experiments(small), verify(small).digest
    without = 0
    for last in range(1, calls_of(small, tmp_path / "counted", exchange=False) + 1):
        journal = tmp_path / str(last)
        shutil.copytree(small, journal)
        assert not compact_until(journal, last, exchange=False)
        gone = [run_id for run_id, names in parts_of(journal).items() if not names]
        without += len(gone)
        for run_id in gone:
            named = {f.kind for f in verify(journal).findings if f.run_id == run_id}
            assert named == {"missing"}
            assert any("gtmar journal compact" in note for note in verify(journal).notes)
        mended(journal, before, kept)
    # Between the two renames, and nowhere else.
    assert without == 1


def test_a_system_that_cannot_exchange_folders_is_noticed(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        pass

    class Unable:
        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    class Forbidding:
        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

    one, other = journal / "one", journal / "other"
    one.mkdir()
    other.mkdir()
    for library in (Old, Unable):
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, library=library, **__: library())
        assert not exchange(one, other)
    compact(journal)
    assert parts_of(journal) == PACKED
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Forbidding())
    with pytest.raises(OSError, match="Operation not permitted"):
        exchange(one, other)


def test_two_folders_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    if not exchange(one, other):
        pytest.skip("this system can't exchange folders")
    assert ((one / "file").read_text(), (other / "file").read_text()) == ("other", "one")


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_leaves_the_old_parts(
    journal: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = content(journal)
    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(pq, "write_table", full)
        with pytest.raises(JournalError, match="No space left on device"):
            compact(journal)
    assert content(journal) == {**before, "packing/lock": b""}
    compact(journal)
    assert parts_of(journal) == PACKED


def test_packed_rows_that_came_out_different_replace_nothing(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Any = pq.write_table
    before = content(journal)
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", lambda t, *a, **k: write(t.slice(1), *a, **k))
        with pytest.raises(JournalError, match="packed rows are not those of its parts"):
            compact(journal)
    assert content(journal) == {**before, "packing/lock": b""}


# ---- trust ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.05, 0.3, 0.6, 0.9, "packed", "statistics"])
def test_a_flipped_byte_in_a_packed_part_is_found_by_name(
    journal: Path, place: float | str
) -> None:
    compact(journal)
    path = RunFiles(journal, IDS[1]).parts[0]
    data = bytearray(path.read_bytes())
    if place == "packed":
        spot = data.rindex(b'"sha256"') + 14
    elif place == "statistics":
        # Of the time column: outside the run's digest, and under no checksum of a page.
        spot = data.rindex(int(WHEN.timestamp() * 1e6).to_bytes(8, "little"))
    else:
        assert isinstance(place, float)
        spot = int(len(data) * place)
    data[spot] ^= 0x01
    path.write_bytes(data)
    found = verify(journal).findings
    within = path.relative_to(journal).as_posix()
    assert {(f.kind, f.file) for f in found if f.file} == {("changed", within)}
    assert {f.run_id for f in found} == {IDS[1]}


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    table = pq.ParquetFile(path).read()
    listed = table.to_pylist()
    change(listed)
    pq.write_table(pa.Table.from_pylist(listed, schema=table.schema), path)


def test_a_packed_part_rewritten_with_its_footer_is_found(journal: Path) -> None:
    compact(journal)
    path = RunFiles(journal, IDS[1]).parts[0]
    rewrite(path, lambda listed: listed[3].update(value_after=0.99))
    found = {(f.kind, f.file) for f in verify(journal).findings}
    assert found == {("changed", path.relative_to(journal).as_posix()), ("digest", "")}


def test_a_time_rewritten_in_a_packed_part_is_found_though_no_digest_has_it(journal: Path) -> None:
    compact(journal)
    path = RunFiles(journal, IDS[1]).parts[0]
    rewrite(path, lambda listed: listed[3].update(duration_us=1))
    found = {(f.kind, f.file) for f in verify(journal).findings}
    assert found == {("changed", path.relative_to(journal).as_posix())}


def test_a_forger_who_rewrites_the_event_too_is_found_by_the_rows(journal: Path) -> None:
    kept = verify(journal).digest
    compact(journal)
    path = RunFiles(journal, IDS[1]).parts[0]
    rewrite(path, lambda listed: listed[3].update(value_after=0.99))
    [event] = journal.glob("events/*.parquet")
    event.unlink()
    run = {"run_id": IDS[1], "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    write_event(journal, EventKind.COMPACTION, details={"runs": [run]})
    found = verify(journal, against=kept)
    assert [f.kind for f in found.findings] == ["digest"]


def test_a_changed_old_part_beside_the_packed_one_was_added(journal: Path) -> None:
    path = RunFiles(journal, IDS[1]).parts[2]
    old = bytearray(path.read_bytes())
    old[len(old) // 3] ^= 1
    compact(journal)
    path.write_bytes(old)
    found = {(f.kind, f.file) for f in verify(journal).findings}
    assert found == {("added", path.relative_to(journal).as_posix())}
    assert compact(journal).left_alone == {"damaged; gtmar verify --rows says how": (IDS[1],)}


def test_the_parts_of_a_backup_put_back_are_sound(made: Path, journal: Path) -> None:
    compact(journal)
    shutil.rmtree(journal / "experiments")
    shutil.copytree(made / "experiments", journal / "experiments")
    assert verify(journal).sound


def test_reading_goes_on_while_parts_are_packed(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are listed, then packed, then opened: whoever reads looks again."""
    files = RunFiles(journal, IDS[0])
    expected = files.rows()
    listed = files.whole_parts
    compact(journal)
    shown = [listed]
    real: Any = RunFiles.whole_parts

    def stale(self: RunFiles) -> list[Path]:
        found: list[Path] = shown.pop() if shown else real.fget(self)
        return found

    monkeypatch.setattr(RunFiles, "whole_parts", property(stale))
    assert files.rows().equals(expected)
    assert shown == []


# ---- the command, over a real run -----------------------------------------------------------


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, journal = tmp_path / "accounts.parquet", tmp_path / "journal"
    synthetic.generate("health_score", accounts=300).write_parquet(table)
    limits = runs.Limits(30)
    result = runs.run(table, SPEC, limits=limits, journal=journal, cold=True)

    def invoke(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--journal", str(journal)])
        assert done.exit_code == 0, done.output
        return done.stdout

    with Journal(journal) as opened:
        review = opened.sql("review", run=result.run_id)
    said = invoke("journal", "compact")
    assert said == "1 run: 2 parts packed into 1.\n"
    assert invoke("journal", "compact") == "Nothing to pack.\n"
    assert json.loads(invoke("journal", "compact", "--json"))["packed"] == []
    assert "1 run, 30 experiments, 1 event: nothing is missing" in invoke("verify")
    assert "all 30 experiments are the same" in invoke("replay", result.run_id)
    with Journal(journal) as opened:
        assert_frame_equal(opened.sql("review", run=result.run_id), review)
    begin(journal, IDS[0])
    assert f'Left alone, cut off, and may be resumed: "{IDS[0]}".' in invoke("journal", "compact")
    missing = CliRunner().invoke(app, ["journal", "compact", "--journal", str(tmp_path / "no")])
    assert missing.exit_code == 5


# ---- what isn't the journal's ----------------------------------------------------------------


def test_a_link_in_place_of_the_packing_folder_is_not_followed(
    journal: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    for name in ("precious", f"run_id={next(iter(PACKED))}"):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "part-000001.parquet").write_text("mine")
    (journal / "packing").symlink_to(foreign)
    before, held = content(journal), content(foreign)
    with pytest.raises(JournalError, match='packing" is a link'):
        compact(journal)
    assert (content(journal), content(foreign)) == (before, held)


@pytest.mark.parametrize("kind", ["folder", "run", "parts", "old", "link", "old link", "lock"])
def test_what_others_put_into_the_packing_folder_is_kept(
    journal: Path, tmp_path: Path, kind: str
) -> None:
    foreign, packing = tmp_path / "foreign", journal / "packing"
    foreign.mkdir()
    (foreign / "part-000001.parquet").write_text("mine")
    packing.mkdir()
    if kind == "folder":
        shutil.copytree(foreign, packing / "notes")
    elif kind == "run":
        shutil.copytree(foreign, packing / "run_id=other")
        (packing / "run_id=other" / "notes.txt").write_text("mine")
    elif kind in ("parts", "old"):
        # Named as a run is, and nothing in it but what is named as a run's parts are.
        run = next(iter(PACKED)) if kind == "parts" else "rx.old"
        shutil.copytree(foreign, packing / f"run_id={run}")
    else:
        name = {"link": "run_id=other", "old link": "run_id=other.old", "lock": "lock"}[kind]
        place = foreign / "part-000001.parquet" if kind == "lock" else foreign
        (packing / name).symlink_to(place)
    if kind == "lock":
        with pytest.raises(JournalError, match="can't be written"):
            compact(journal)
    else:
        compact(journal)
        assert parts_of(journal) == PACKED
        assert len(list(packing.iterdir())) == 2
    assert content(foreign) == {"part-000001.parquet": b"mine"}


def test_a_file_of_others_beside_the_parts_stays(journal: Path) -> None:
    run = next(iter(PACKED))
    notes = journal / "experiments" / f"run_id={run}" / "notes.txt"
    notes.write_text("mine")
    compact(journal)
    assert notes.read_text() == "mine"


def test_a_run_whose_folder_is_a_link_is_left_alone(journal: Path, tmp_path: Path) -> None:
    run = next(iter(PACKED))
    folder = journal / "experiments" / f"run_id={run}"
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    held = content(tmp_path / "elsewhere")
    found = compact(journal)
    assert found.left_alone["a folder of it is a link"] == (run,)
    assert content(tmp_path / "elsewhere") == held
