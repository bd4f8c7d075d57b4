"""Journals that were copied, synced and merged: nothing counts twice, and nothing cries wolf."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from journals import IDS, begin, content, finish
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.compaction import compact
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify

#: How tools that sync folders name the other side's copy.
COPIES = [
    "{} (conflicted copy)",
    "{} (1)",
    "{} 2",
    "{}.sync-conflict-20260101-120000-ABCDEFG",
    "{}-LAPTOP",
    "{}-laptop",
    "{} ",
    "{}~",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "journal"
    for run_id in IDS:
        finish(begin(folder, run_id))
    write_event(folder, EventKind.RECORD, note="an event")
    return folder


@pytest.fixture
def journal(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "journal")
    return tmp_path / "journal"


def counts(journal: Path) -> tuple[int, int, int]:
    """Runs, rows and events, as the views have them."""
    with Journal(journal) as opened:
        return tuple(
            opened.query(f"select count(*) as n from {view}")["n"].item()
            for view in ("runs", "experiments", "events")
        )


def rsync(source: Path, target: Path, *, replace: bool = True) -> None:
    """Copy what differs, and delete nothing, as ``rsync -a`` does."""
    for name, data in content(source).items():
        path = target / name
        if not path.exists() or (replace and path.read_bytes() != data):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


# ---- second copies --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("room", ["runs", "experiments"])
def test_second_copies_of_a_runs_folder_are_named_and_not_read(journal: Path, room: str) -> None:
    before = counts(journal)
    kept = verify(journal).digest
    folder = f"run_id={IDS[1]}"
    others = {*(name.format(folder) for name in COPIES), folder.upper(), folder[:-1]}
    for other in others:
        shutil.copytree(journal / room / folder, journal / room / other)
    assert counts(journal) == before
    for against in (None, kept):
        found = verify(journal, against=against)
        assert {Path(f.file).parts[1] for f in found.findings if f.file} == others
        assert found.against_holds is not False


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", ["runs/run_id={}/start", "runs/run_id={}/end", "experiments/run_id={}/part-000002"]
)
def test_second_copies_of_a_file_are_named_and_not_read(journal: Path, file: str) -> None:
    before = counts(journal)
    path = journal / f"{file.format(IDS[1])}.parquet"
    others = {path.with_name(f"{name.format(path.stem)}.parquet") for name in COPIES}
    for other in others:
        shutil.copy(path, other)
    assert counts(journal) == before
    assert RunFiles(journal, IDS[1]).rows().num_rows == 9
    named = {f.file for f in verify(journal).findings}
    assert named >= {other.relative_to(journal).as_posix() for other in others}


@pytest.mark.slow
def test_second_copies_of_an_event_are_named_and_not_read(journal: Path) -> None:
    before = counts(journal)
    [path] = (journal / "events").iterdir()
    others = {path.with_name(f"{name.format(path.stem)}.parquet") for name in COPIES}
    for other in others:
        shutil.copy(path, other)
    assert counts(journal) == before
    named = sorted(f.file or "" for f in verify(journal).findings)
    assert named == sorted(f"events/{other.name}" for other in others)


@pytest.mark.slow
def test_a_second_copy_is_named_where_it_is_the_only_one(journal: Path) -> None:
    """Each name is that of one file's copy, of records and of parts."""
    before = counts(journal)
    files = [
        journal / room / f"run_id={run_id}" / f"{stem}.parquet"
        for run_id in IDS
        for room, stem in (("runs", "start"), ("runs", "end"), ("experiments", "part-000002"))
    ]
    others = []
    for path, name in zip(files, COPIES, strict=False):
        others.append(path.with_name(f"{name.format(path.stem)}.parquet"))
        shutil.copy(path, others[-1])
    assert len(others) == len(COPIES)
    assert counts(journal) == before
    named = {found.file for found in verify(journal).findings}
    assert named >= {other.relative_to(journal).as_posix() for other in others}


# ---- packed and unpacked copies -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("packed_first", [True, False])
def test_a_packed_copy_and_one_that_is_not_merge_either_way(
    journal: Path, tmp_path: Path, *, replace: bool, packed_first: bool
) -> None:
    rows = RunFiles(journal, IDS[0]).rows()
    kept = verify(journal).digest
    packed = tmp_path / "packed"
    shutil.copytree(journal, packed)
    compact(packed)
    source, target = (journal, packed) if packed_first else (packed, journal)
    rsync(source, target, replace=replace)
    assert counts(target) == (3, 27, 2)
    assert RunFiles(target, IDS[0]).rows().equals(rows)
    found = verify(target, against=kept)
    assert (found.findings, found.against_holds, found.experiments) == ((), True, 24)
    compact(target)
    assert [len(RunFiles(target, run).parts) for run in IDS] == [1, 1, 1]
    assert counts(target)[:2] == (3, 27)
    after = verify(target, against=kept)
    assert (after.findings, after.against_holds) == ((), True)
    assert not any("beside" in note for note in after.notes)


# ---- merged journals and the digest kept elsewhere ------------------------------------------


def grow(journal: Path, days: float, count: int = 1, mark: str = "a") -> None:
    """Add runs and events, dated so many days from now, as another clock may say."""
    when = datetime.now(UTC) + timedelta(days=days)
    for number in range(count):
        finish(begin(journal, f"r{when:%Y%m%d-%H%M%S}-{mark}{number:05d}"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "days", "into_the_other"),
    [
        ("rsync", -400, True),
        ("rsync", -0.5, False),
        ("rsync", 0, True),
        ("copytree", -400, False),
        ("copytree", -0.5, True),
        ("copytree", 0, False),
    ],
)
def test_a_digest_holds_after_a_merge_from_another_machine(
    journal: Path, tmp_path: Path, *, how: str, days: float, into_the_other: bool
) -> None:
    other = tmp_path / "other"
    shutil.copytree(journal, other)
    grow(other, days, count=4, mark="b")
    grow(journal, -200, count=2)
    grow(journal, -0.1, count=2, mark="c")
    kept = verify(journal).digest
    source, target = (journal, other) if into_the_other else (other, journal)
    if how == "rsync":
        rsync(source, target)
    else:
        shutil.copytree(source, target, dirs_exist_ok=True)
    found = verify(target, against=kept)
    assert (found.findings, found.against_holds, found.against_added) == ((), True, 4)
    done = CliRunner().invoke(app, ["verify", "--against", kept, "--journal", str(target)])
    assert (done.exit_code, "4 entries added since" in done.stdout) == (0, True)
    shutil.rmtree(target / "runs" / f"run_id={IDS[1]}")
    shutil.rmtree(target / "experiments" / f"run_id={IDS[1]}")
    assert verify(target, against=kept).against_holds is False


@pytest.mark.slow
def test_a_saved_list_holds_after_any_merge_and_names_what_is_gone(
    journal: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "entries.txt"
    command = ["verify", "--journal", str(journal)]
    assert CliRunner().invoke(app, [*command, "--save", str(saved)]).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--save", str(saved)]).exit_code == 2
    for number in range(24):
        write_event(journal, EventKind.RECORD, note=str(number))
    grow(journal, -400, count=3)
    found = verify(journal, against=str(saved))
    assert (found.against_holds, found.against_added) == (True, 27)
    shutil.rmtree(journal / "runs" / f"run_id={IDS[1]}")
    shutil.rmtree(journal / "experiments" / f"run_id={IDS[1]}")
    done = CliRunner().invoke(app, [*command, "--against", str(saved)])
    assert done.exit_code == 5
    assert f"gone: {IDS[1]}" in done.stdout


@pytest.mark.parametrize(
    "text",
    ["gtmar1:²:x", "gtmar2:²:x:y", "gtmar1:1:", "gtmar2:3:" + "0" * 64 + ":abc", "", "no/such"],
)
def test_what_is_neither_digest_nor_list_is_refused(journal: Path, text: str) -> None:
    with pytest.raises(UsageError, match="is no digest of a journal"):
        verify(journal, against=text)
