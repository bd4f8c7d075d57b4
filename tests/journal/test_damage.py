"""Readers and damaged journals: either the values as they were, or a word on which file is not."""

import json
import os
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import forks
import polars as pl
import pytest
from journals import IDS, begin, finish

from gtmar import outputs
from gtmar.errors import DamagedJournalWarning, GtmarError, JournalError
from gtmar.journal.catalog import Journal
from gtmar.journal.compaction import compact
from gtmar.journal.events import EventKind, write_event

VIEWS = ("run_records", "experiments", "events")
#: Bits flipped, one at a time, in each region of a file, drawn by the file's kind; `GTMAR_FLIPS=8`
#: tries more.
FLIPS = int(os.environ.get("GTMAR_FLIPS", "1"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal: a packed run, one that was resumed and has ended, one that was cut off; events."""
    folder = tmp_path_factory.mktemp("damage") / "journal"
    finish(begin(folder, IDS[0]))
    compact(folder)
    finish(begin(folder, IDS[1], resumed=True))
    begin(folder, IDS[2])
    write_event(folder, EventKind.PROMOTION, author="ann", note="n", model="m", spec="{}")
    return folder


@pytest.fixture
def journal(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "journal"))


def everything(folder: Path) -> tuple[list[pl.DataFrame], str]:
    """All rows, and what was said of what they lack."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with Journal(folder) as opened:
            frames = [opened.query(f"from {view} order by all") for view in VIEWS]
    return frames, "\n".join(str(warning.message) for warning in told)


@pytest.fixture(scope="module")
def sound(made: Path) -> list[pl.DataFrame]:
    """All rows of the journal as it was made."""
    frames, told = everything(made)
    assert not told
    return frames


def damaged(folder: Path, name: str, sound: list[pl.DataFrame]) -> str:
    """What is said of a damaged file; fails where values differ and nothing is said."""
    try:
        frames, told = everything(folder)
    except GtmarError as err:
        return "refused" if name in err.message else f"refused for another reason: {err}"
    if all(one.equals(other) for one, other in zip(frames, sound, strict=True)):
        return "the same values"
    assert name in told, "other values, and nothing said"
    return "named"


KINDS = {
    "start record": f"runs/run_id={IDS[1]}/start.parquet",
    "end record": f"runs/run_id={IDS[1]}/end.parquet",
    "resume record": f"runs/run_id={IDS[1]}/resume-1.parquet",
    "part": f"experiments/run_id={IDS[1]}/part-000002.parquet",
    "last part": f"experiments/run_id={IDS[1]}/part-000004.parquet",
    "packed part": f"experiments/run_id={IDS[0]}/part-000001.parquet",
    "record of a run cut off": f"runs/run_id={IDS[2]}/start.parquet",
    "part of a run cut off": f"experiments/run_id={IDS[2]}/part-000002.parquet",
    "last part of a run cut off": f"experiments/run_id={IDS[2]}/part-000004.parquet",
    "event": "events/event_id=*.parquet",
}


def regions(content: bytes) -> Iterator[range]:
    """Magic and first page header, pages, the footer's columns, its metadata, length and magic."""
    end = len(content) - 8
    footer = end - int.from_bytes(content[end : end + 4], "little")
    metadata = max(footer, content.rfind(b"gtmar_format"))
    yield range(40)
    yield range(40, footer)
    yield range(footer, metadata)
    yield range(metadata, end)
    yield range(end, len(content))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_changes_no_answer_in_silence(
    journal: Path, sound: list[pl.DataFrame], kind: str
) -> None:
    path = next(journal.glob(KINDS[kind]))
    name = path.relative_to(journal).as_posix()
    content = path.read_bytes()
    draw = random.Random(kind)
    places = [draw.choice(region) for region in regions(content) for _ in range(FLIPS) if region]
    seen = set()
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        seen.add(damaged(journal, name, sound))
    # The hash of the whole file is seen to, so that none passes for the same.
    assert seen <= {"named", "refused"}
    path.write_bytes(content)
    assert damaged(journal, name, sound) == "the same values"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["gone", "torn", "empty"])
def test_what_is_missing_or_torn_is_named(
    journal: Path, sound: list[pl.DataFrame], kind: str, how: str
) -> None:
    path = next(journal.glob(KINDS[kind]))
    name = path.relative_to(journal).as_posix()
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2 if how == "torn" else 0])
    if (kind, how) == ("event", "gone"):
        pytest.skip("an event that is gone shows in the journal's digest alone")
    if kind == "last part of a run cut off" and how != "gone":
        # As after a loss of power: gtmar resume puts it aside and goes on.
        frames, told = everything(journal)
        assert not told
        assert frames[1].height == sound[1].height - 2
        return
    assert damaged(journal, name, sound) == "named"


@pytest.mark.slow
def test_a_seal_that_is_missing_is_named(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GTMAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gtmar.journal.file_index._MANY_FILES", 0)
    sound, _ = everything(journal)
    # Sound by what is kept of it, too: the seal is of a run's state.
    everything(journal)
    for run_id in IDS[:2]:
        name = f"runs/run_id={run_id}/seal"
        content = (journal / name).read_bytes()
        (journal / name).unlink()
        assert damaged(journal, name, sound) == "named"
        (journal / name).write_bytes(content.replace(content[:4], b"0000"))
        assert damaged(journal, name.replace("seal", "end.parquet"), sound) == "named"
        (journal / name).write_bytes(content)
        assert damaged(journal, name, sound) == "the same values"


@pytest.mark.slow
def test_a_run_that_ends_this_moment_is_not_damaged(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    real = outputs.settle

    def settle(beside: Path, path: Path, *, replace: bool) -> None:
        said.append(everything(journal)[1])
        real(beside, path, replace=replace)
        said.append(everything(journal)[1])

    monkeypatch.setattr("gtmar.journal.writer.settle", settle)
    finish(begin(journal, "r20260102-120000-abc123"))
    assert len(said) > 8
    assert [each for each in said if each] == []


def test_the_rest_of_a_damaged_journal_is_answered(journal: Path) -> None:
    (journal / KINDS["part"]).unlink()
    with Journal(journal) as opened:
        with pytest.warns(DamagedJournalWarning, match="1 run left out.*part-000002.* is missing"):
            frame = opened.query("select distinct run_id from experiments order by 1")
        assert frame["run_id"].to_list() == [IDS[0], IDS[2]]
        # It is said once, and a question about that run alone is refused.
        assert opened.query("select count(*) from runs").item() == 2
        with pytest.raises(JournalError, match=f"run {IDS[1]} is damaged: .*part-000002"):
            opened.run_id(IDS[1])
        assert opened.run_id(IDS[0][-3:]) == IDS[0]


def test_bytes_that_change_under_the_same_size_and_time_are_found(journal: Path) -> None:
    path = journal / KINDS["part"]
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.warns(DamagedJournalWarning, match="part-000002"):
        Journal(journal).query("from experiments")


@pytest.mark.slow
def test_a_copied_run_folder_counts_no_run_twice(journal: Path, sound: list[pl.DataFrame]) -> None:
    for folder in ("runs", "experiments"):
        source = journal / folder / f"run_id={IDS[0]}"
        shutil.copytree(source, source.with_name(f"{source.name} (conflicted copy)"))
    frames, told = everything(journal)
    # It lacks nothing; gtmar verify names the copy.
    assert not told
    for one, other in zip(frames, sound, strict=True):
        assert one.equals(other)


def test_a_record_of_another_run_among_a_runs_own_is_damage(journal: Path) -> None:
    shutil.copy(journal / KINDS["record of a run cut off"], journal / KINDS["start record"])
    frames, told = everything(journal)
    assert f"{KINDS['start record']} is another's, under this name" in told
    assert set(frames[0]["run_id"]) == {IDS[0], IDS[2]}


def test_a_copied_event_counts_once(journal: Path, sound: list[pl.DataFrame]) -> None:
    path = next(journal.glob("events/*.parquet"))
    stem, digest, ending = path.name.rsplit(".", 2)
    shutil.copy(path, path.with_name(f"{stem} copy.{digest}.{ending}"))
    shutil.copy(path, path.with_name(f"{stem}.{digest} copy.{ending}"))
    frames, told = everything(journal)
    assert not told
    assert frames[2].equals(sound[2])


@pytest.mark.slow
def test_parts_that_were_packed_are_read_once(
    journal: Path, sound: list[pl.DataFrame], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    finish(begin(other, IDS[0]))
    folder = journal / "experiments" / f"run_id={IDS[0]}"
    for part in sorted((other / "experiments" / folder.name).iterdir())[1:]:
        # As after rsync -a of a packed copy over an older one.
        shutil.copy(part, folder)
    frames, told = everything(journal)
    assert not told
    for one, expected in zip(frames, sound, strict=True):
        assert one.equals(expected)


@pytest.mark.slow
def test_a_command_names_what_it_leaves_out_and_exits_with_5(journal: Path) -> None:
    (journal / KINDS["part"]).unlink()
    words = ["sql", "--journal", str(journal), "--json", "-c", "select run_id from runs order by 1"]
    done = forks.gtmar(*words)
    assert done.returncode == 5
    assert [row["run_id"] for row in json.loads(done.stdout)] == [IDS[0], IDS[2]]
    assert KINDS["part"] in json.loads(done.stderr)["warning"]["message"]
