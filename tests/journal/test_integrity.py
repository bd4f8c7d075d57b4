"""What `verify` finds, by name; and what only a digest kept elsewhere finds."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from journals import IDS, WHEN, begin, content, finish, rows
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.data import synthetic
from gtmar.errors import JournalError, RunNotFoundError, UsageError
from gtmar.journal.digest import RunDigest
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles, sha256_of
from gtmar.journal.verify import verify
from gtmar.journal.writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of three runs, five parts each; the second was resumed once."""
    folder = tmp_path_factory.mktemp("sound") / "journal"
    for number, run_id in enumerate(IDS):
        finish(begin(folder, run_id, parts=5, resumed=number == 1))
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of two real runs, and the table that they were made on."""
    folder = tmp_path_factory.mktemp("real")
    table = folder / "accounts.parquet"
    synthetic.generate("health_score", accounts=300).write_parquet(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gtmar.journal.writer.FLUSH_ROWS", 20)
        patch.setattr("gtmar.runs.journaled_search._MEASURED_AT_ONCE", 10)
        for seed in range(2):
            limits = runs.Limits(90)
            runs.run(table, SPEC, limits=limits, seed=seed, journal=folder / "journal")
    return folder / "journal"


@pytest.fixture
def journal(sound: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(sound, tmp_path / "journal")
    return tmp_path / "journal"


def some_run(journal: Path) -> RunFiles:
    return RunFiles(journal, sorted(journal.glob("runs/*"))[1].name.partition("=")[2])


def named(journal: Path, kind: str | None = None) -> list[str]:
    """Return the files that findings name, of one kind or all."""
    found = verify(journal).findings
    return [f.file for f in found if f.file and kind in (None, f.kind)]


def within(journal: Path, path: Path) -> str:
    return path.relative_to(journal).as_posix()


def test_a_sound_journal(sound: Path) -> None:
    found = verify(sound)
    assert found.sound
    assert (found.runs, found.experiments, found.events) == (3, 33, 0)
    assert found.notes == ()
    assert verify(sound, against=found.digest).against_holds
    assert verify(sound, some_run(sound).run_id).runs == 1


def test_real_runs_are_sound(real: Path) -> None:
    found = verify(real)
    assert (found.findings, found.notes) == ((), ())
    assert (found.runs, len(some_run(real).parts) > 3) == (2, True)


# ---- bytes ----------------------------------------------------------------------------------


def flip(path: Path, place: float = 0.4) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("which", ["start", "first", "middle", "last", "resume", "end"])
def test_a_flipped_byte_is_found_by_name(journal: Path, which: str, place: float) -> None:
    files = some_run(journal)
    path = {
        "start": files.records / "start.parquet",
        "first": files.parts[0],
        "middle": files.parts[2],
        "last": files.parts[-1],
        "resume": files.records / "resume-1.parquet",
        "end": files.end,
    }[which]
    flip(path, place)
    found = verify(journal)
    assert [f.file for f in found.findings if f.file] == [path.relative_to(journal).as_posix()]
    assert {f.run_id for f in found.findings} == {files.run_id}


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.95])
def test_a_flipped_byte_in_a_real_run_is_found_by_name(
    real: Path, tmp_path: Path, place: float
) -> None:
    shutil.copytree(real, tmp_path / "journal")
    path = some_run(tmp_path / "journal").parts[2]
    flip(path, place)
    assert named(tmp_path / "journal") == [within(tmp_path / "journal", path)]


@pytest.mark.slow
def test_every_byte_of_the_last_part_of_a_run_cut_off_counts(tmp_path: Path) -> None:
    """No later file carries that part's hash: the writer has left word of it."""
    begin(tmp_path, IDS[0])
    last = RunFiles(tmp_path, IDS[0]).parts[-1]
    whole = last.read_bytes()
    for place in range(4, len(whole) - 4, len(whole) // 25):
        last.write_bytes(whole)
        flip(last, (place + 0.5) / len(whole))
        assert named(tmp_path, "changed") == [within(tmp_path, last)]
        before = content(tmp_path)
        with pytest.raises(JournalError, match="is damaged: a part is missing or was changed"):
            RunWriter(tmp_path, IDS[0], resumed=True)
        assert content(tmp_path) == before


def test_an_edited_value_in_the_last_part_of_a_run_cut_off(tmp_path: Path) -> None:
    begin(tmp_path, IDS[0])
    last = RunFiles(tmp_path, IDS[0]).parts[-1]
    rewrite(last, lambda rows: rows[0].update(value_after=0.99))
    assert named(tmp_path, "changed") == [within(tmp_path, last)]


def test_a_flipped_byte_in_a_page_is_found_without_any_hash(tmp_path: Path) -> None:
    """Pages carry checksums of their own."""
    begin(tmp_path, IDS[0])
    files = RunFiles(tmp_path, IDS[0])
    files.lock.unlink()
    last = files.parts[-1]
    chunk = pq.ParquetFile(last).metadata.row_group(0).column(1)
    begins = chunk.dictionary_page_offset or chunk.data_page_offset
    flip(last, (begins + chunk.total_compressed_size - 0.5) / last.stat().st_size)
    assert named(tmp_path, "changed") == [within(tmp_path, last)]


def test_a_flipped_byte_in_the_seal(journal: Path) -> None:
    files = some_run(journal)
    flip(files.seal)
    assert named(journal, "changed") == [within(journal, files.end)]


def test_a_torn_part_in_a_run_that_has_ended(journal: Path) -> None:
    path = some_run(journal).parts[-1]
    path.write_bytes(path.read_bytes()[:-10])
    found = verify(journal).findings
    assert ("torn", path.relative_to(journal).as_posix()) in {(f.kind, f.file) for f in found}
    assert named(journal) == [within(journal, path)]


# ---- files that are gone --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("part-000001", "start", "part-000002", "resume-1", "part-000003", "part-000005", "end"),
        "seal",
    ],
)
def test_a_removed_file_is_found_by_name(journal: Path, name: str) -> None:
    files = some_run(journal)
    folder = files.experiments if name.startswith("part") else files.records
    path = folder / (name if name == "seal" else f"{name}.parquet")
    path.unlink()
    found = verify(journal)
    assert [(f.kind, f.file) for f in found.findings if f.file] == [
        ("missing", within(journal, path))
    ]
    assert {f.run_id for f in found.findings} == {files.run_id}
    assert not found.sound


@pytest.mark.parametrize("numbers", [(2, 3), (1, 2), (4, 5), (2, 5), (1, 2, 3, 4, 5)])
def test_several_removed_parts_are_all_named(journal: Path, numbers: tuple[int, ...]) -> None:
    paths = [some_run(journal).parts[number - 1] for number in numbers]
    for path in paths:
        path.unlink()
    assert sorted(named(journal, "missing")) == [within(journal, path) for path in paths]
    assert named(journal, "changed") == []


def test_a_removed_part_beside_a_changed_one(journal: Path) -> None:
    files = some_run(journal)
    gone, changed = files.parts[1], files.parts[3]
    gone.unlink()
    rewrite(changed, lambda rows: rows[0].update(value_after=0.99))
    assert named(journal, "missing") == [within(journal, gone)]
    assert named(journal, "changed") == [within(journal, changed)]


def test_the_records_of_a_run_removed_altogether(journal: Path) -> None:
    files = some_run(journal)
    shutil.rmtree(files.records)
    assert within(journal, files.start) in named(journal, "missing")


def test_the_start_record_of_a_run_killed_after_it(tmp_path: Path) -> None:
    begin(tmp_path, IDS[0], parts=1)
    start = RunFiles(tmp_path, IDS[0]).start
    start.unlink()
    assert named(tmp_path, "missing") == [within(tmp_path, start)]


def test_a_record_without_its_row(journal: Path) -> None:
    files = some_run(journal)
    rewrite(files.end, lambda rows: rows.clear())
    assert named(journal, "changed") == [within(journal, files.end)]


# ---- rows -----------------------------------------------------------------------------------


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Rewrite a part's rows, its footer kept: what a clumsy forger does."""
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)


def test_an_edited_value(journal: Path) -> None:
    path = some_run(journal).parts[1]
    rewrite(path, lambda rows: rows[2].update(value_after=0.99))
    kinds = {(f.kind, f.file) for f in verify(journal).findings}
    assert kinds == {("changed", path.relative_to(journal).as_posix()), ("digest", "")}


@pytest.mark.parametrize("number", [1, 3, 5])
def test_an_edited_time_which_no_digest_has(journal: Path, number: int) -> None:
    path = some_run(journal).parts[number - 1]
    rewrite(path, lambda rows: rows[0].update(duration_us=1))
    kinds = {(f.kind, f.file) for f in verify(journal).findings}
    assert kinds == {("changed", path.relative_to(journal).as_posix())}


@pytest.mark.parametrize("name", ["start", "resume-1"])
def test_an_edited_record(journal: Path, name: str) -> None:
    path = some_run(journal).records / f"{name}.parquet"
    rewrite(path, lambda rows: rows[0].update(author="somebody else"))
    assert named(journal) == [within(journal, path)]


@pytest.mark.parametrize("name", ["part-000003", "part-000005", "resume-1", "end"])
@pytest.mark.parametrize(
    ("key", "lie"), [("gtmar_previous", "0" * 64), ("gtmar_place", "0"), ("gtmar_place", "7")]
)
def test_a_file_that_lies_about_the_one_before_is_the_one_named(
    journal: Path, name: str, key: str, lie: str
) -> None:
    files = some_run(journal)
    folder = files.experiments if name.startswith("part") else files.records
    path = folder / f"{name}.parquet"
    table = pq.read_table(path, partitioning=None)
    footer = {**table.schema.metadata, key.encode(): lie.encode()}
    pq.write_table(table.replace_schema_metadata(footer), path)
    assert named(journal) == [within(journal, path)]


def test_an_added_row(journal: Path) -> None:
    path = some_run(journal).parts[1]
    rewrite(path, lambda rows: rows.append(dict(rows[-1])))
    kinds = {f.kind for f in verify(journal).findings}
    assert kinds == {"changed", "sequence", "digest"}
    assert named(journal) == [within(journal, path)]


def test_parts_of_different_columns(journal: Path) -> None:
    path = some_run(journal).parts[1]
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["weights"]), path)
    found = {(f.kind, f.file) for f in verify(journal).findings}
    assert found == {("changed", within(journal, path)), ("digest", "")}
    with pytest.raises(JournalError, match="its parts don't have the same columns"):
        some_run(journal).rows()


# ---- files that were added ------------------------------------------------------------------


def test_an_added_part(journal: Path) -> None:
    files = some_run(journal)
    extra = files.experiments / f"part-{len(files.parts) + 1:06d}.parquet"
    shutil.copy(files.parts[-1], extra)
    found = verify(journal).findings
    assert {f.kind for f in found} == {"added", "sequence", "digest"}
    assert named(journal) == [within(journal, extra)]


def test_an_added_part_with_rows_that_fit(journal: Path) -> None:
    files = some_run(journal)
    footer = dict(pq.read_schema(files.parts[-1]).metadata)
    footer[b"gtmar_previous"] = sha256_of(files.parts[-1]).encode()
    footer[b"gtmar_place"] = b"7"
    extra = files.experiments / "part-000006.parquet"
    pq.write_table(rows(files.run_id, 12, 3).replace_schema_metadata(footer), extra)
    assert named(journal) == [within(journal, extra)]


def test_an_added_part_of_another_run(journal: Path) -> None:
    files = some_run(journal)
    extra = files.experiments / "part-000006.parquet"
    shutil.copy(RunFiles(journal, IDS[0]).parts[3], extra)
    assert named(journal) == [within(journal, extra)]


def test_an_added_part_in_a_run_cut_off(tmp_path: Path) -> None:
    begin(tmp_path, IDS[0])
    finish(begin(tmp_path, IDS[1], parts=20))
    extra = RunFiles(tmp_path, IDS[0]).experiments / "part-000005.parquet"
    shutil.copy(RunFiles(tmp_path, IDS[1]).parts[18], extra)
    assert named(tmp_path) == [within(tmp_path, extra)]


@pytest.mark.parametrize(
    "place", ["experiments/run_id={}/extra.parquet", "experiments/run_id={}/part-x.parquet"]
)
def test_a_stray_file_of_a_run(journal: Path, place: str) -> None:
    """Such files are in every glob: their rows would be taken for experiments."""
    stray = journal / place.format(IDS[1])
    shutil.copy(some_run(journal).parts[1], stray)
    assert named(journal) == [within(journal, stray)]


def test_parts_under_each_others_names(journal: Path) -> None:
    one, other = some_run(journal).parts[2:4]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert named(journal, "changed") == [within(journal, one)]


def test_a_part_under_another_name(journal: Path) -> None:
    path = some_run(journal).parts[2]
    other = path.rename(path.with_name("extra.parquet"))
    assert named(journal, "changed") == [within(journal, other)]


def test_a_stray_record(journal: Path) -> None:
    files = some_run(journal)
    stray = files.records / "other.parquet"
    pq.write_table(pa.table({"run_id": [IDS[1]]}), stray)
    assert named(journal) == [within(journal, stray)]


def test_a_stray_folder(journal: Path) -> None:
    stray = journal / "experiments" / "copy" / "part-000001.parquet"
    stray.parent.mkdir()
    shutil.copy(some_run(journal).parts[1], stray)
    assert named(journal, "added") == [within(journal, stray)]


# ---- runs that go on, or were cut off -------------------------------------------------------


def test_a_run_cut_off_is_a_note_and_no_finding(journal: Path) -> None:
    begin(journal, "r20260102-120000-abc120")
    found = verify(journal)
    assert found.sound
    assert found.notes == ("run r20260102-120000-abc120 was cut off; gtmar resume goes on with it",)
    assert found.digest.startswith("gtmar2:3:")


def test_a_run_that_is_running_is_a_note(tmp_path: Path) -> None:
    with RunWriter(tmp_path, IDS[0]) as writer:
        writer.append(rows(IDS[0], 0, 1))
        writer.flush()
        assert verify(tmp_path).notes == (f"run {IDS[0]} is beginning",)
        writer.record("start", {"started_at": WHEN})
        assert verify(tmp_path).notes == (f"run {IDS[0]} is running",)
    assert verify(tmp_path).sound


@pytest.mark.parametrize("parts", [0, 1])
def test_a_run_cut_off_before_it_began_is_a_note(tmp_path: Path, parts: int) -> None:
    with RunWriter(tmp_path, IDS[0]) as writer:
        if parts:
            writer.append(rows(IDS[0], 0, 1))
            writer.flush()
    found = verify(tmp_path)
    assert found.sound
    assert found.notes == (f"run {IDS[0]} was cut off before it began; pass over it",)


def test_a_run_killed_between_its_seal_and_its_end_was_cut_off(tmp_path: Path) -> None:
    """The seal is written before the end record is put in its place."""
    finish(begin(tmp_path, IDS[0]))
    files = RunFiles(tmp_path, IDS[0])
    files.end.rename(files.end.with_suffix(".partial"))
    found = verify(tmp_path)
    assert found.sound
    assert found.notes == (f"run {IDS[0]} was cut off; gtmar resume goes on with it",)
    files.end.with_suffix(".partial").write_bytes(b"being written anew")
    with RunWriter(tmp_path, IDS[0], resumed=True) as writer:
        writer.record("resume-1", {"started_at": WHEN})
    # Killed again: the seal of the first time says nothing any more.
    assert verify(tmp_path).sound
    with RunWriter(tmp_path, IDS[0], resumed=True) as writer:
        finish(writer)
    assert verify(tmp_path).notes == ()
    assert verify(tmp_path).sound


def test_a_run_is_not_taken_for_damaged_while_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part and the end are written while the files are listed: they are listed again."""
    writer = begin(tmp_path, IDS[0])
    real: Any = Path.glob
    written: list[Path] = []

    def glob(self: Path, pattern: str) -> list[Path]:
        listed = list(real(self, pattern))
        if not written and self.name == f"run_id={IDS[0]}":
            written.append(self)
            with RunWriter(tmp_path, IDS[0], resumed=True) as writer:
                writer.append(rows(IDS[0], 9, 2))
                finish(writer)
        return listed

    del writer
    monkeypatch.setattr(Path, "glob", glob)
    found = verify(tmp_path, IDS[0])
    assert written
    assert (found.findings, found.notes) == ((), ())


# ---- events ---------------------------------------------------------------------------------


@pytest.fixture
def promoted(journal: Path) -> Path:
    """The journal with two events."""
    write_event(journal, EventKind.PROMOTION, author="RevOps", note="live from today")
    write_event(journal, EventKind.RECORD, author="CS", since=WHEN)
    return journal


def an_event(journal: Path) -> Path:
    return sorted(journal.glob("events/*.parquet"))[0]


def test_events_are_counted_and_covered_by_the_digest(journal: Path, promoted: Path) -> None:
    found = verify(promoted)
    assert found.sound
    assert found.events == 2
    assert found.digest.startswith("gtmar2:5:")


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.95])
def test_a_flipped_byte_in_an_event_is_found_by_name(promoted: Path, place: float) -> None:
    flip(an_event(promoted), place)
    assert named(promoted) == [within(promoted, an_event(promoted))]
    assert named(promoted, "changed") == named(promoted)


def test_an_edited_event(promoted: Path) -> None:
    rewrite(an_event(promoted), lambda rows: rows[0].update(author="somebody else"))
    assert named(promoted, "changed") == [within(promoted, an_event(promoted))]


def test_a_torn_event(promoted: Path) -> None:
    path = an_event(promoted)
    path.write_bytes(path.read_bytes()[:-10])
    assert named(promoted, "torn") == [within(promoted, path)]


def test_an_event_under_another_name(promoted: Path) -> None:
    path = an_event(promoted)
    digest = path.name.split(".")[1]
    other = path.rename(path.with_name(f"event_id=e20200101-000000-abc123.{digest}.parquet"))
    assert named(promoted, "changed") == [within(promoted, other)]


@pytest.mark.parametrize("name", ["copy.parquet", "notes.of.somebody.parquet", "x.parquet"])
def test_a_stray_event(promoted: Path, name: str) -> None:
    stray = promoted / "events" / name
    shutil.copy(an_event(promoted), stray)
    assert named(promoted, "added") == [within(promoted, stray)]


def test_an_event_gone_or_forged_is_found_by_the_digest_kept_elsewhere(promoted: Path) -> None:
    kept = verify(promoted).digest
    path = an_event(promoted)
    before = path.read_bytes()
    rewrite(path, lambda rows: rows[0].update(author="somebody else"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    forged = path.rename(path.with_name(f"{path.name.split('.')[0]}.{digest}.parquet"))
    assert verify(promoted).sound
    assert verify(promoted, against=kept).against_holds is False
    forged.unlink()
    assert verify(promoted).sound
    assert verify(promoted, against=kept).against_holds is False
    path.write_bytes(before)
    assert verify(promoted, against=kept).against_holds


def test_a_journal_of_events_alone(tmp_path: Path) -> None:
    write_event(tmp_path, EventKind.RECORD, author="CS", since=WHEN)
    found = verify(tmp_path)
    assert found.sound
    assert (found.runs, found.experiments, found.events) == (0, 0, 1)
    assert verify(tmp_path, against=found.digest).against_holds
    done = CliRunner().invoke(app, ["verify", "--journal", str(tmp_path)])
    assert done.exit_code == 0
    assert "0 runs, 0 experiments, 1 event: nothing is missing" in done.stdout


def test_a_journal_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="no run in it"):
        verify(tmp_path)


def test_one_run_is_checked_alone(promoted: Path) -> None:
    flip(an_event(promoted))
    flip(RunFiles(promoted, IDS[0]).parts[1])
    found = verify(promoted, IDS[1])
    assert found.sound
    assert (found.runs, found.experiments, found.events) == (1, 11, 0)
    assert {f.run_id for f in verify(promoted, IDS[0]).findings} == {IDS[0]}


# ---- the digest kept elsewhere --------------------------------------------------------------


def forge(files: RunFiles) -> None:
    """Rewrite the end record and its seal together: what a careful forger does."""
    table = pq.read_table(files.end, partitioning=None)
    rows = table.to_pylist()
    rows[0]["best_value"] = 0.99
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), files.end)
    files.seal.write_text(sha256_of(files.end) + "\n")


def forge_rows(files: RunFiles) -> None:
    """Rewrite a value, the run's digest and all hashes after it: the most careful forger."""
    chain = [link.path for link in files.chain()]
    rewrite(files.parts[1], lambda rows: rows[2].update(value_after=0.99))
    digest = RunDigest()
    digest.update(files.rows())
    rewrite(files.end, lambda rows: rows[0].update(digest=digest.hexdigest()))
    previous = ""
    for path in chain:
        table = pq.read_table(path, partitioning=None)
        footer = {**table.schema.metadata, b"gtmar_previous": previous.encode()}
        pq.write_table(table.replace_schema_metadata(footer), path)
        previous = sha256_of(path)
    files.seal.write_text(previous + "\n")


@pytest.mark.parametrize("forgery", [forge, forge_rows])
def test_a_careful_forger_is_found_by_the_digest_kept_elsewhere(
    journal: Path, forgery: Callable[[RunFiles], None]
) -> None:
    kept = verify(journal).digest
    forgery(some_run(journal))
    assert verify(journal).findings == ()
    found = verify(journal, against=kept)
    assert found.against_holds is False
    assert not found.sound


def test_a_deleted_run_is_found_by_the_digest_kept_elsewhere(journal: Path) -> None:
    kept = verify(journal).digest
    files = some_run(journal)
    shutil.rmtree(files.records)
    shutil.rmtree(files.experiments)
    assert verify(journal).sound
    assert verify(journal, against=kept).against_holds is False


def test_the_newest_run_deleted_is_found_though_the_journal_grew(journal: Path) -> None:
    kept = verify(journal).digest
    for room in ("runs", "experiments"):
        shutil.rmtree(journal / room / f"run_id={IDS[2]}")
    for number in range(3):
        finish(begin(journal, f"r20260102-12000{number}-abc120"))
    assert verify(journal, against=kept).against_holds is False


@pytest.mark.slow
def test_a_digest_holds_while_the_journal_grows(real: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    shutil.copytree(real, journal)
    kept = verify(journal).digest
    runs.run(real.parent / "accounts.parquet", SPEC, limits=runs.Limits(5), journal=journal)
    grown = verify(journal, against=kept)
    assert grown.against_holds
    assert grown.digest != kept
    write_event(journal, EventKind.RECORD, note="later")
    assert verify(journal, against=kept).against_holds
    assert verify(journal, against=grown.digest).against_holds


def test_a_run_that_ended_before_the_digest_and_came_to_disk_after_it(journal: Path) -> None:
    kept = verify(journal).digest
    early = datetime.now(UTC) - timedelta(hours=1)
    for number in range(2):
        writer = begin(journal, f"r20260102-12000{number}-abc120")
        writer.record("end", {"ended_at": early, "digest": writer.digest.hexdigest()})
    found = verify(journal, against=kept)
    assert found.sound
    assert found.against_holds
    files = RunFiles(journal, IDS[0])
    shutil.rmtree(files.records)
    shutil.rmtree(files.experiments)
    assert verify(journal, against=kept).against_holds is False


def test_what_is_no_digest_is_refused(sound: Path) -> None:
    with pytest.raises(UsageError, match="is no digest of a journal"):
        verify(sound, against="abc")


# ---- notes, and the command -----------------------------------------------------------------


def test_an_evaluator_change_is_a_note_and_no_finding(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtmar.journal.verify.evaluator_code", lambda: "other")
    found = verify(sound)
    assert found.sound
    assert len(found.notes) == 3
    assert all("code has changed since" in note for note in found.notes)
    monkeypatch.setattr("gtmar.journal.verify.EVALUATOR_VERSION", 2)
    notes = verify(sound).notes
    assert len(notes) == 3
    assert all("evaluator version 1 then, 2 now" in note for note in notes)


def test_runs_that_others_came_or_learnt_from_are_missed(journal: Path) -> None:
    gone = ["r20250101-120000-abc120", "r20250101-120000-abc121"]
    memory = json.dumps({"runs": [*gone, IDS[0]], "names": [], "best": [], "known": []})
    finish(begin(journal, "r20260102-120000-abc120", parent_run=gone[0], memory=memory))
    finish(begin(journal, "r20260102-120000-abc121", parent_run=gone[0]))
    finish(begin(journal, "r20260102-120000-abc122", parent_run=IDS[1], memory="?"))
    found = verify(journal)
    assert found.sound
    assert found.notes == (
        f"run {gone[0]} isn't in this journal, though 2 of its runs came or learnt from it",
        f"run {gone[1]} isn't in this journal, though 1 of its runs came or learnt from it",
    )
    assert verify(journal, "r20260102-120000-abc120").notes == ()


def test_an_import_cut_off_can_not_be_resumed(tmp_path: Path) -> None:
    begin(tmp_path, IDS[0], kind="import")
    assert verify(tmp_path).notes == (f"run {IDS[0]} was cut off while it was brought in",)


def test_an_imported_run_has_no_evaluator_to_speak_of(tmp_path: Path) -> None:
    none: dict[str, Any] = {"evaluator_version": None, "evaluator_code": None}
    finish(begin(tmp_path, IDS[0], **none, kind="import"))
    found = verify(tmp_path)
    assert (found.findings, found.notes) == ((), ())


def test_looking_whether_a_run_runs_does_not_keep_it_from_running(tmp_path: Path) -> None:
    begin(tmp_path, IDS[0])
    lock = RunFiles(tmp_path, IDS[0]).lock.open("r")
    fcntl.flock(lock, fcntl.LOCK_SH)

    def let_go(_: float) -> None:
        lock.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gtmar.journal.files.time.sleep", let_go)
        with RunWriter(tmp_path, IDS[0], resumed=True) as writer:
            assert writer.run_id == IDS[0]


def test_the_command(journal: Path) -> None:
    def invoke(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["verify", *arguments, "--journal", str(journal)])
        return result.exit_code, result.stdout

    code, said = invoke()
    digest = said.splitlines()[-1]
    assert (code, digest.startswith("gtmar2:3:")) == (0, True)
    assert "nothing is missing, torn, changed or added" in said
    assert "holds" in invoke("--against", digest)[1]
    flip(some_run(journal).parts[1])
    code, said = invoke("--json")
    assert code == 5
    assert json.loads(said)["findings"][0]["kind"] == "changed"
    code, said = invoke(some_run(journal).run_id)
    assert "changed: experiments/" in said
    code, said = invoke("abc120")
    assert (code, "1 run, 11 experiments: nothing is missing" in said) == (0, True)
    code, said = invoke("abc12")
    assert (code, said) == (5, "")
