"""The cache of a journal's rows: quicker answers, the same ones, whatever becomes of it."""

import dataclasses
import os
import shutil
import threading
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import journals
import polars as pl
import pytest
from journals import begin, finish

from gtmar.errors import DamagedJournalWarning, QueryError
from gtmar.journal import file_index
from gtmar.journal.catalog import Journal
from gtmar.journal.columns import ADDED, EXPERIMENTS
from gtmar.journal.file_index import Cache, FileIndex
from gtmar.journal.schema import schema_of
from gtmar.journal.verify import verify

IDS = [f"r20260101-1200{n:02d}-abc1{n:02d}" for n in range(6)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "journal"
    with pytest.MonkeyPatch.context() as patched:
        # With all columns: files that have fewer are read where they are.
        patched.setattr(journals, "SCHEMA", schema_of(EXPERIMENTS))
        for run_id in IDS:
            finish(begin(folder, run_id, parts=2))
    return folder


@pytest.fixture
def journal(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "journal"))


def keep_in(folder: Path, patched: pytest.MonkeyPatch) -> Path:
    patched.setenv("GTMAR_CACHE", str(folder))
    # These runs are enough of a journal for a cache.
    patched.setattr(file_index, "_MANY_FILES", 2 * len(IDS))
    return folder


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return keep_in(tmp_path / "cache", monkeypatch)


@pytest.fixture(scope="module")
def filled(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[pl.DataFrame]]:
    """What the first answers of a journal leave in its cache, and these answers."""
    with pytest.MonkeyPatch.context() as patched:
        cache = keep_in(tmp_path_factory.mktemp("filled") / "cache", patched)
        first = answers(made)
    return cache, first


@pytest.fixture
def first(filled: tuple[Path, list[pl.DataFrame]], kept: Path) -> list[pl.DataFrame]:
    """The first answers of the journal `made`, which are in the cache; for tests that only read."""
    shutil.copytree(filled[0], kept)
    return filled[1]


def answers(folder: Path) -> list[pl.DataFrame]:
    with Journal(folder) as opened:
        return [opened.query(f"from {view} order by all") for view in ("experiments", "runs")]


def same(one: list[pl.DataFrame], other: list[pl.DataFrame]) -> bool:
    return all(a.equals(b) for a, b in zip(one, other, strict=True))


def entries(kept: Path) -> dict[str, Path]:
    return {path.name: path for path in kept.glob("*/*")}


@pytest.mark.slow
def test_a_second_answer_comes_from_the_cache_and_is_the_same(
    journal: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {p: p.stat().st_mtime_ns for p in journal.rglob("*")}
    first = answers(journal)
    assert set(entries(kept)) == {"experiments.duckdb", "runs.duckdb", "files", "journal"}
    assert {p: p.stat().st_mtime_ns for p in journal.rglob("*")} == listed
    read: list[str] = []
    monkeypatch.setattr(
        "gtmar.journal.file_index.FileIndex.read", lambda _, name: read.append(name)
    )
    assert same(answers(journal), first)
    assert not read


@pytest.mark.slow
def test_what_is_asked_about_is_kept_and_what_is_new_comes_to_it(
    journal: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(*runs: str) -> list[int]:
        with Journal(journal) as opened:
            text = "select count(*) from experiments group by run_id order by run_id"
            return opened.query(text, among=runs)["count_star()"].to_list()

    new = "r20260102-120000-abc999"
    sizes = counted(IDS[0])
    assert counted(IDS[0], IDS[1]) == 2 * sizes
    finish(begin(journal, new, parts=2))
    first = answers(journal)
    assert first[1].height == len(IDS) + 1
    plainly = FileIndex.read
    monkeypatch.setattr(FileIndex, "read", lambda *_: pytest.fail("a file was read"))
    assert counted(IDS[0], new) == 2 * sizes
    assert same(answers(journal), first)
    monkeypatch.setattr(FileIndex, "read", plainly)
    for room in ("runs", "experiments"):
        shutil.rmtree(journal / room / f"run_id={new}")
    assert answers(journal)[1].height == len(IDS)
    with duckdb.connect(entries(kept)["runs.duckdb"], read_only=True) as written:
        ids = written.execute("select distinct run_id from entries order by run_id").fetchall()
    assert [run_id for (run_id,) in ids] == IDS


@pytest.mark.slow
def test_what_is_kept_is_changed_by_no_query(
    made: Path, kept: Path, first: list[pl.DataFrame]
) -> None:
    content = {path: path.read_bytes() for path in kept.glob("*/*.duckdb")}
    own = str(entries(kept)["runs.duckdb"])
    with Journal(made) as opened:
        [path] = opened.query(
            "select path from duckdb_databases() where database_name = 'kept_runs'"
        )["path"]
        assert path != own
        # The name that it was attached by is one that is gone.
        for gone in (path, f"{path}.wal"):
            assert opened.query(f"from read_blob('{gone}')").is_empty()
        for text in (
            f"from read_blob('{own}')",
            *(
                f"with x as (copy (select 1 as a) to '{place}' (format parquet)) from x"
                for place in (own, path, f"{path}.wal")
            ),
            "insert into kept_runs.entries select * from kept_runs.entries",
            "delete from kept_experiments.entries returning *",
            "with x as (update kept_runs.about set contents = '{}' returning *) from x",
            "detach kept_runs",
            f"attach '{own}' as mine",
        ):
            with pytest.raises(QueryError):
                opened.query(text)
    assert {path: path.read_bytes() for path in kept.glob("*/*.duckdb")} == content
    assert same(answers(made), first)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["experiments.duckdb", "runs.duckdb"])
def test_what_a_version_with_fewer_columns_kept_is_kept_anew(
    made: Path, kept: Path, first: list[pl.DataFrame], name: str
) -> None:
    with duckdb.connect(entries(kept)[name]) as written:
        there = {column for (column, *_) in written.execute("describe entries").fetchall()}
        for column in sorted(ADDED & there):
            written.execute(f"alter table entries drop column {column}")
        written.execute("update about set columns = '{}'")
    # Some columns of all runs, and all columns.
    with Journal(made) as opened:
        assert opened.query("select run_id from runs", columns=()).height == len(IDS)
    assert same(answers(made), first)


def test_what_a_version_with_other_facts_of_files_kept_is_no_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = [(each.name, each.type) for each in dataclasses.fields(file_index.File)]
    older = dataclasses.make_dataclass("Older", [*fields, ("place", int)])
    written = file_index._written.__wrapped__
    ours = written()
    monkeypatch.setattr(file_index, "File", older)
    assert written() != ours


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how"),
    # What is DuckDB's and what is JSON in each way; the other file of DuckDB's where its rows are.
    [
        *product(
            ["experiments.duckdb", "files"], ["gone", "empty", "torn", "flipped", "another's"]
        ),
        ("runs.duckdb", "flipped"),
    ],
)
def test_a_cache_that_is_damaged_is_made_anew(
    made: Path, kept: Path, first: list[pl.DataFrame], name: str, how: str
) -> None:
    path = entries(kept)[name]
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "flipped":
        # A bit of each page: wherever it is, it counts.
        changed = bytearray(content)
        for at in range(900, len(content), 4_096):
            changed[at] ^= 1
        path.write_bytes(changed)
    elif how == "another's":
        Cache(path.parent, made).write(name, b"{}")
    else:
        path.write_bytes(content[: 0 if how == "empty" else len(content) // 2])
    assert same(answers(made), first)
    assert same(answers(made), first)


def test_an_entry_is_read_only_with_the_content_it_was_written_with(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "entries", tmp_path)
    cache.write("files", b'{"rows": 12}')
    assert cache.read("files") == b'{"rows": 12}'
    path = cache.path("files")
    assert path is not None
    # Still JSON, and of the same length: nothing but the hash tells.
    path.write_bytes(path.read_bytes().replace(b"12", b"13"))
    assert cache.read("files") is None
    cache.write("files", b'{"rows": 14}')
    assert cache.read("files") == b'{"rows": 14}'


@pytest.mark.slow
def test_what_changes_in_the_journal_shows_at_once(journal: Path, made: Path) -> None:
    first = answers(journal)
    finish(begin(journal, "r20260102-120000-abc999", parts=2))
    assert answers(journal)[1].height == len(IDS) + 1
    for room in ("runs", "experiments"):
        shutil.rmtree(journal / room / "run_id=r20260102-120000-abc999")
    assert same(answers(journal), first)
    part = journal / "experiments" / f"run_id={IDS[3]}" / "part-000002.parquet"
    status, content = part.stat(), bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.warns(DamagedJournalWarning, match=IDS[3]):
        assert answers(journal)[1].height == len(IDS) - 1
    assert not verify(journal).sound
    shutil.copy(made / part.relative_to(journal), part)
    assert same(answers(journal), first)
    # A run of the same name that has other rows, as a folder that is put back has.
    before = first[0].filter(run_id=IDS[3]).height
    for room in ("runs", "experiments"):
        shutil.rmtree(journal / room / f"run_id={IDS[3]}")
    finish(begin(journal, IDS[3], parts=3))
    assert answers(journal)[0].filter(run_id=IDS[3]).height == before + 3


@pytest.mark.slow
def test_a_folder_that_is_as_it_was_is_not_listed(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtmar.journal.file_index._SETTLED", 0)
    first = answers(journal)
    listed: list[str] = []
    plainly = FileIndex._list_folder

    def noted(index: FileIndex, listing: Any, folder: str, within: str, *, is_link: bool) -> None:
        listed.append(within)
        plainly(index, listing, folder, within, is_link=is_link)

    monkeypatch.setattr(FileIndex, "_list_folder", noted)
    assert same(answers(journal), first)
    assert not listed
    folder = journal / "experiments" / f"run_id={IDS[5]}"
    part, more = folder / "part-000002.parquet", folder / "part-000003.parquet"
    content = part.read_bytes()
    more.write_bytes(content)
    with pytest.warns(DamagedJournalWarning, match=IDS[5]):
        answers(journal)
    assert {*listed} == {f"{room}/run_id={IDS[5]}" for room in ("runs", "experiments")}
    more.unlink()
    assert same(answers(journal), first)
    # The folder doesn't say that a file in it has changed where it was.
    changed = bytearray(content)
    changed[100] ^= 1
    part.write_bytes(changed)
    with pytest.warns(DamagedJournalWarning, match=IDS[5]):
        answers(journal)
    part.write_bytes(content)
    assert same(answers(journal), first)


@pytest.mark.slow
def test_what_verify_says_does_not_rest_on_it(journal: Path, kept: Path) -> None:
    digest = verify(journal).digest
    answers(journal)
    assert verify(journal).digest == digest
    shutil.rmtree(kept)
    assert verify(journal).digest == digest


@pytest.mark.slow
@pytest.mark.parametrize("where", ["", "file", "locked"])
def test_where_nothing_can_be_kept_answers_are_the_same(
    made: Path,
    first: list[pl.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.setenv("GTMAR_CACHE", where and str(tmp_path / where))
    assert same(answers(made), first)


@pytest.mark.slow
def test_what_cannot_be_kept_is_tried_once(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def full(_: Cache, name: str, fill: object) -> None:
        tried.append(name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cache, "place", full)
    with Journal(journal) as opened:
        for columns in ("run_id", "run_id, number", "run_id, outcome"):
            opened.query(f"select {columns} from experiments join runs using (run_id)")
            opened.query("from experiments", columns=columns.split(", "))
    assert sorted(name for name in tried if name.endswith(".duckdb")) == [
        "experiments.duckdb",
        "runs.duckdb",
    ]


@pytest.mark.slow
def test_two_at_once_read_and_keep_the_same(journal: Path) -> None:
    found: list[list[pl.DataFrame]] = []
    threads = [threading.Thread(target=lambda: found.append(answers(journal))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(same(each, found[0]) for each in found)
    assert same(answers(journal), found[0])


@pytest.mark.slow
def test_the_cache_of_a_journal_that_is_gone_is_cleared(
    journal: Path, kept: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    answers(journal)
    journal.rename(moved)
    answers(moved)
    assert [path.read_bytes() for path in kept.glob("*/journal")] == [os.fsencode(moved)]
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o700}
