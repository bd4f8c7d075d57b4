"""Folders that several people share: rights, groups, links and names."""

from __future__ import annotations

import json
import os
import shutil
import stat
from itertools import takewhile
from typing import TYPE_CHECKING

import forks
import pytest
from journals import IDS, begin, content, finish
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.errors import JournalError, JournalWarning
from gtmar.journal.catalog import Journal
from gtmar.journal.compaction import compact
from gtmar.journal.events import EventKind, event_files, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify
from gtmar.journal.writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = [
    "a [b] c",
    "*",
    "?",
    "it's",
    "two words",
    "line\nbreak",
    "{a,b}",
    os.fsdecode(b"n\xf6n-utf-8"),
    'q"uote',
]
#: What somebody without rights finds out about a journal.
LOOKS = """
import os, sys, warnings
from pathlib import Path
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
folder = Path(sys.argv[1])
def look():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Journal(folder) as opened:
            runs, events = (
                opened.query(f"select count(*) as n from {view}")["n"].item()
                for view in ("runs", "events")
            )
    left_out = sum("not yours to read" in str(w.message) for w in caught)
    return runs, events, left_out, sorted(f.kind for f in verify(folder).findings)
# Once before, so that all code is loaded: it may lie where nobody else may read.
look()
os.setgid(65534)
os.setuid(65534)
print(*look())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "journal"
    for run_id in IDS:
        finish(begin(folder, run_id))
    write_event(folder, EventKind.RECORD, note="one")
    write_event(folder, EventKind.RECORD, note="two")
    return folder


@pytest.fixture
def journal(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "journal")
    return tmp_path / "journal"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become somebody else")
@pytest.mark.parametrize("what", ["folder", "file", "parts"])
def test_what_may_not_be_read_is_named_and_left_out(journal: Path, what: str) -> None:
    files = RunFiles(journal, IDS[1])
    {"folder": files.records, "file": files.start, "parts": files.experiments}[what].chmod(0)
    event_files(journal)[0].chmod(0)
    for folder in takewhile(lambda each: each.stat().st_mode & 0o005 != 0o005, journal.parents):
        folder.chmod(0o755)
    done = forks.script(LOOKS, str(journal))
    assert done.returncode == 0, done.stderr
    # Without its parts a run can't be held against its chain: it is left out whole.
    assert done.stdout.strip() == "2 1 1 ['unreadable', 'unreadable']"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_journal_that_is_a_groups_to_write_stays_so(tmp_path: Path, mask: int) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    folder.chmod(0o2775)
    before = os.umask(mask)
    try:
        finish(begin(folder, IDS[0]))
        write_event(folder, EventKind.RECORD, note="one")
        compact(folder)
    finally:
        os.umask(before)
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        assert mode & stat.S_IRGRP, path
        if path.is_dir():
            assert mode & 0o2070 == 0o2070, path


def test_without_a_group_that_may_write_the_umask_holds(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    before = os.umask(0o077)
    try:
        finish(begin(folder, IDS[0]))
    finally:
        os.umask(before)
    assert not any(path.stat().st_mode & 0o077 for path in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_journal_under_any_name(journal: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "in here" / name
    shutil.copytree(journal, other)
    with Journal(other) as opened:
        assert opened.query("select count(*) as n from experiments")["n"].item() == 27
        assert opened.query("select count(*) as n from events")["n"].item() == 2
    kept = verify(other).digest
    compact(other)
    found = verify(other, against=kept)
    assert (found.findings, found.experiments, found.against_holds) == ((), 24, True)
    assert RunFiles(other, IDS[0]).rows().num_rows == 9
    done = CliRunner().invoke(
        app, ["sql", "-c", "select count(*) as n from runs", "--journal", str(other)]
    )
    assert (done.exit_code, "3" in done.stdout) == (0, True)


@pytest.mark.slow
def test_a_run_whose_folder_is_a_link_is_named_and_left_alone(
    journal: Path, tmp_path: Path
) -> None:
    folder = RunFiles(journal, IDS[1]).experiments
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    before = content(tmp_path / "elsewhere")
    with pytest.warns(JournalWarning, match=IDS[1]), Journal(journal) as opened:
        assert opened.query("select count(*) as n from experiments")["n"].item() == 18
    words = ["sql", "--json", "-c", "from runs", "--journal", str(journal)]
    done = CliRunner().invoke(app, words)
    [said] = [json.loads(line)["warning"] for line in done.stderr.splitlines()]
    assert (done.exit_code, said["code"]) == (5, "damaged_journal")
    assert f"experiments/run_id={IDS[1]} is a link" in said["message"]
    [finding] = verify(journal).findings
    assert (finding.kind, finding.file) == ("link", f"experiments/run_id={IDS[1]}")
    assert compact(journal).left_alone == {"a folder of it is a link": (IDS[1],)}
    assert content(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("kind", ["runs", "experiments", "events"])
def test_nothing_is_read_or_written_through_a_folder_of_the_journal_that_is_a_link(
    journal: Path, tmp_path: Path, kind: str
) -> None:
    (journal / kind).rename(tmp_path / "elsewhere")
    (journal / kind).symlink_to(tmp_path / "elsewhere")
    before = content(tmp_path)
    acts: list[Callable[[], object]] = [
        lambda: Journal(journal),
        lambda: verify(journal),
        lambda: compact(journal),
        lambda: write_event(journal, EventKind.LOOK),
        lambda: RunWriter(journal, "r20260101-120000-abcdef"),
    ]
    for act in acts:
        with pytest.raises(JournalError, match=f"{kind}.* is a link; nothing is read or written"):
            act()
    words = ["log", "--journal", str(journal)]
    assert CliRunner().invoke(app, words).exit_code == 5
    assert content(tmp_path) == before
    # The journal's own folder may be one.
    (journal / kind).unlink()
    (tmp_path / "elsewhere").rename(journal / kind)
    (tmp_path / "named").symlink_to(journal)
    assert verify(tmp_path / "named").findings == ()


def test_a_link_in_place_of_the_folder_for_packing_is_refused(
    journal: Path, tmp_path: Path
) -> None:
    other = tmp_path / "precious"
    (other / f"run_id={IDS[0]}").mkdir(parents=True)
    (other / "folder").mkdir()
    (journal / "packing").symlink_to(other)
    with pytest.raises(JournalError, match="is a link"):
        compact(journal)
    assert sorted(path.name for path in other.iterdir()) == ["folder", f"run_id={IDS[0]}"]


def test_what_somebody_put_beside_a_runs_parts_stays(journal: Path) -> None:
    theirs = RunFiles(journal, IDS[1]).experiments / "notes"
    theirs.mkdir()
    (theirs / "mine.txt").write_text("mine")
    assert compact(journal).left_alone == {"its folder holds links or folders": (IDS[1],)}
    assert (theirs / "mine.txt").read_text() == "mine"
