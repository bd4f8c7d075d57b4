"""An import that is killed, refused by the disk, made twice at once, or taken back."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any

import forks
import pytest
from journals import IDS, Killed, Mortal, begin, content, finish, kills
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.errors import JournalError
from gtmar.integrations.jsonl_import import import_jsonl, undo_import
from gtmar.journal.catalog import Journal
from gtmar.journal.compaction import compact
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.verify import verify

if TYPE_CHECKING:
    from pathlib import Path


def lines(*, timed: bool) -> str:
    """Two runs of three experiments."""
    made = [
        {
            "experiment_id": f"exp_{number:05d}",
            "metric": "auc_roc_retain",
            "baseline_value": 0.6,
            "variant_value": 0.5,
            "outcome": "lose",
            "changes": [f"nps: 5 -> {5 + number}"],
            "weights_snapshot": {"nps": 5 + number, "logins": 2},
            "metrics": {},
            "seed": seed,
            **({"timestamp": f"2026-01-0{seed + 1}T00:00:0{number}Z"} if timed else {}),
        }
        for seed in range(2)
        for number in range(1, 4)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in made)


@pytest.fixture(params=[True, False])
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "old.jsonl"
    path.write_text(lines(timed=request.param))
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    finish(begin(tmp_path / "journal", IDS[0]))
    return tmp_path / "journal"


def counts(journal: Path) -> tuple[int, int, int]:
    with Journal(journal) as opened:
        runs, experiments, events = opened.query(
            "select (select count(*) from runs), (select count(*) from experiments),"
            " (select count(*) from events)"
        ).row(0)
    return runs, experiments, events


def changes_until(last: int, act: Any) -> Mortal:
    """Act, killed before the disk's change of a number; return what changes there were."""
    with pytest.MonkeyPatch.context() as patch:
        mortal = Mortal(patch, last, (os, "pwrite"))
        with suppress(Killed):
            act()
    return mortal


def again(act: Any, refusal: str) -> None:
    """Act, or be refused with a reason."""
    with suppress(JournalError):
        try:
            act()
        except JournalError as err:
            if refusal not in err.message:
                raise AssertionError(err.message) from err
            raise


@pytest.mark.slow
def test_an_import_killed_anywhere_comes_in_once_when_it_comes_again(
    journal: Path, tmp_path: Path
) -> None:
    """Lines with times and lines without take turns: what is written when is the same."""
    kept, files = verify(journal).digest, (tmp_path / "timed.jsonl", tmp_path / "untimed.jsonl")
    for file, timed in zip(files, (True, False), strict=True):
        file.write_text(lines(timed=timed))
    whole, untimed = (
        changes_until(
            10**6, lambda file=file: import_jsonl(file, copy(journal, tmp_path / file.stem))
        )
        for file in files
    )
    assert whole.calls > 40
    assert untimed.kinds == whole.kinds
    for last, file in zip(kills(whole.kinds), cycle(files), strict=False):
        folder = copy(journal, tmp_path / "cut")
        changes_until(last, lambda file=file, folder=folder: import_jsonl(file, folder))
        between = verify(folder, against=kept)
        assert (between.findings, between.against_holds) == ((), True), last
        if last % 3 == 0:
            compact(folder)
        again(lambda file=file, folder=folder: import_jsonl(file, folder), "already")
        runs, rows, events = counts(folder)
        assert (runs, rows) == (3, 17), last
        assert events in (1, 2)
        found = verify(folder, against=kept)
        assert (found.findings, found.against_holds) == ((), True)
        assert not any("import" in note for note in found.notes)


def copy(journal: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(journal, folder)
    return folder


@pytest.mark.parametrize("after", range(1, 30, 4))
def test_a_full_disk_on_the_way_leaves_no_run_twice(
    file: Path, journal: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    real, calls = os.fsync, [0]

    def full(handle: int) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        again(lambda: import_jsonl(file, journal), "No space left")
    again(lambda: import_jsonl(file, journal), "already")
    assert counts(journal)[:2] == (3, 17)
    assert verify(journal).findings == ()


@pytest.mark.slow
def test_two_imports_of_one_file_at_once(file: Path, journal: Path) -> None:
    code = (
        "import sys; from gtmar.integrations.jsonl_import import import_jsonl; "
        "import_jsonl(sys.argv[1], sys.argv[2])"
    )
    started = [forks.start(str(file), str(journal), code=code) for _ in range(3)]
    ended = sorted(process.ended().returncode for process in started)
    assert ended[0] == 0
    assert counts(journal) == (3, 17, 1)


@pytest.mark.slow
def test_an_import_is_taken_back_on_record(file: Path, journal: Path) -> None:
    before, kept = content(journal), verify(journal).digest
    found = import_jsonl(file, journal, author="RevOps")
    between = verify(journal).digest
    with pytest.raises(JournalError, match="already"):
        import_jsonl(file, journal)
    [event] = [path.name for path in (journal / "events").iterdir()]
    done = CliRunner().invoke(
        app,
        [
            *("journal", "import", "--undo", event.partition("=")[2].partition(".")[0]),
            *("--journal", str(journal), "--note", "the wrong file", "--json"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["runs"] == list(found.runs)
    assert counts(journal) == (1, 9, 2)
    now = content(journal)
    assert {k: now[k] for k in before} == before
    for digest in (kept, between):
        held = verify(journal, against=digest)
        assert (held.findings, held.notes, held.against_holds) == ((), (), True)
    with Journal(journal) as opened:
        assert opened.sql("events").is_empty()
    with pytest.raises(JournalError, match="was taken back already"):
        undo_import(event[9:20], journal)
    import_jsonl(file, journal)
    assert counts(journal) == (3, 17, 3)


@pytest.mark.slow
@pytest.mark.parametrize("file", [True], indirect=True)
def test_an_undo_killed_anywhere_goes_on(file: Path, journal: Path, tmp_path: Path) -> None:
    import_jsonl(file, journal)
    kept = verify(journal).digest
    whole = changes_until(10**6, lambda: undo_import("e", copy(journal, tmp_path / "all")))
    for last in kills(whole.kinds):
        folder = copy(journal, tmp_path / "cut")
        changes_until(last, lambda folder=folder: undo_import("e", folder))
        between = verify(folder, against=kept)
        assert (between.findings, between.against_holds) == ((), True), last
        again(lambda folder=folder: undo_import("e", folder), "was taken back already")
        assert counts(folder) == (1, 9, 2), last
        found = verify(folder, against=kept)
        assert (found.findings, found.against_holds) == ((), True)


def test_what_others_depend_on_is_not_taken_back(file: Path, journal: Path) -> None:
    found = import_jsonl(file, journal)
    write_event(journal, EventKind.LOOK, run_id=found.runs[0], details={"found": 1})
    before = content(journal)
    with pytest.raises(JournalError, match="came from it"):
        undo_import(min(p.name for p in (journal / "events").iterdir())[9:24], journal)
    assert content(journal) == before


def test_one_file_brought_in_on_two_machines_is_said(
    file: Path, journal: Path, tmp_path: Path
) -> None:
    other = copy(journal, tmp_path / "other")
    import_jsonl(file, journal)
    import_jsonl(file, other)
    shutil.copytree(other, journal, dirs_exist_ok=True)
    [note] = verify(journal).notes
    assert "was brought in 2 times" in note
    undo_import(note.split("--undo ")[1].split(" ")[0], journal)
    assert (verify(journal).notes, counts(journal)[:2]) == ((), (3, 17))
