"""Kills, crowds, full disks and lost folders: what was written is read at once, and gone on with.

Runs to be killed are forked from one process that has imported everything and begun nothing, so
that a kill costs no start of an interpreter. They are killed by SIGKILL before a given change of
the disk; `benchmarks/kills.py` does the same at random moments of whole processes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from sql_files import files_of

from gtmar import runs
from gtmar.data import synthetic
from gtmar.errors import JournalError, RunNotFoundError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify

session = import_module("gtmar.runs.session")
if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
EXPERIMENTS = 48
SEED = 5
#: Rows of a part, and experiments measured at once: a run of several parts.
FLUSH_ROWS, MEASURED, BATCH = 12, 12, 12

NURSERY = f"""
import json, os, signal, sys
from pathlib import Path
import pandas, pyarrow.parquet as pq
import gtmar.runs
import gtmar.journal.catalog
from gtmar.journal import writer
from gtmar.runs import journaled_search

writer.FLUSH_ROWS, journaled_search._MEASURED_AT_ONCE = {FLUSH_ROWS}, {MEASURED}


class Mortal:
    def __init__(self, last, by):
        self.calls, self.last, self.by = 0, last, by
        for owner, name in (
            (os, "fsync"), (os, "pwrite"), (Path, "rename"), (Path, "mkdir"), (pq, "write_table"),
        ):
            setattr(owner, name, self.mortal(getattr(owner, name)))

    def mortal(self, call):
        def mortal(*arguments, **more):
            self.calls += 1
            if self.calls == self.last:
                os.kill(os.getpid(), self.by)
            return call(*arguments, **more)
        return mortal


def live(table, spec, journal, seed, last, by, resume):
    mortal = Mortal(last, by)
    if resume:
        gtmar.runs.resume(resume, journal=journal)
    else:
        limits = gtmar.runs.Limits({EXPERIMENTS})
        more = dict(limits=limits, seed=seed, batch={BATCH}, cold=True)
        gtmar.runs.run(table, spec, journal=journal, **more)
    Path(journal, "calls").write_text(str(mortal.calls))


for line in sys.stdin:
    order = json.loads(line)
    children = []
    for job in order.get("jobs", []):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                live(**job)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    if "kill" in order:
        os.kill(order["kill"], signal.SIGKILL)
        children = [order["kill"]]
    ends = [(child, os.waitpid(child, os.WUNTRACED)[1]) for child in children]
    print(json.dumps(ends), flush=True)
"""


@dataclass
class Nursery:
    """The process that runs are forked from."""

    process: subprocess.Popen[str]
    table: Path

    def order(self, **order: Any) -> list[tuple[int, int]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        ends: list[tuple[int, int]] = json.loads(self.process.stdout.readline())
        return ends

    def job(self, journal: Path, last: int = 0, **more: Any) -> dict[str, Any]:
        plain = {"seed": SEED, "by": int(signal.SIGKILL), "resume": None, "spec": str(SPEC)}
        return {**plain, "table": str(self.table), "journal": str(journal), "last": last, **more}

    def killed(self, journal: Path, last: int, **more: Any) -> int:
        """Run until a change of the disk, counted from 1; return the signal that ended it."""
        [(_, status)] = self.order(jobs=[self.job(journal, last, **more)])
        return os.WTERMSIG(status)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kills") / "accounts.parquet"
    synthetic.generate("health_score", accounts=300).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def nursery(table: Path) -> Iterator[Nursery]:
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Nursery(process, table)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0


@dataclass
class Whole:
    """The run that nobody kills."""

    journal: Path
    digest: str
    calls: int


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    journal = tmp_path_factory.mktemp("whole") / "journal"
    assert nursery.killed(journal, 0) == 0
    digest = RunFiles(journal, run_of(journal)).record("end")["digest"]
    assert len(RunFiles(journal, run_of(journal)).parts) >= 5
    return Whole(journal, digest, int((journal / "calls").read_text()))


def run_of(journal: Path) -> str:
    [folder] = journal.glob("runs/run_id=*")
    return folder.name.partition("=")[2]


def read_at_once(journal: Path, *, queries: bool = False) -> None:
    """Read the journal with gtmar and without; on request ask and check all that there is."""
    rows = pl.read_parquet(journal / "experiments" / "*" / "*.parquet", hive_partitioning=False)
    assert rows["number"].sort().to_list() == list(range(rows.height))
    with Journal(journal) as opened:
        assert opened.sql("runs").height == 1
        counted = opened.query("select count(*) as n from experiments")["n"].item()
        assert counted == rows.height
        for name in files_of("journal") if queries else ():
            opened.sql(name)
        for name in files_of("checks") if queries else ():
            assert opened.sql(name).is_empty(), name
    assert not queries or verify(journal).sound


def finished_as(whole: Whole, journal: Path) -> None:
    files = RunFiles(journal, run_of(journal))
    if not files.end.exists():
        assert runs.resume(files.run_id, journal=journal).digest == whole.digest
    assert files.record("end")["digest"] == whole.digest
    assert files.rows().num_rows == EXPERIMENTS + 1
    found = verify(journal)
    assert (found.findings, found.notes) == ((), ())


# ---- kills ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_at_any_change_of_the_disk_is_read_and_resumed(
    nursery: Nursery, whole: Whole, tmp_path: Path
) -> None:
    """Eight kills, from the first folder made to the last folder synced."""
    early = [6, 10, 13]
    late = [14 + place * (whole.calls - 14) // 4 for place in range(5)]
    for last in early + late:
        journal = tmp_path / str(last)
        assert nursery.killed(journal, last) == signal.SIGKILL
        begun = bool(list(journal.glob("runs/*/start.parquet")))
        assert begun is (last in late)
        if begun:
            read_at_once(journal, queries=last in late[::4])
            finished_as(whole, journal)
        else:
            # Nothing that anybody was told of is lost.
            assert verify(journal).sound
            with pytest.raises(RunNotFoundError):
                Journal(journal)


@pytest.mark.slow
def test_a_run_killed_again_while_it_is_resumed(
    nursery: Nursery, whole: Whole, tmp_path: Path
) -> None:
    assert nursery.killed(tmp_path, whole.calls // 3) == signal.SIGKILL
    run_id = run_of(tmp_path)
    for last in (3, 6, 11):
        assert nursery.killed(tmp_path, last, resume=run_id) == signal.SIGKILL
        assert verify(tmp_path).sound
    read_at_once(tmp_path)
    finished_as(whole, tmp_path)


@pytest.mark.slow
def test_a_run_killed_at_its_very_end_is_resumed_to_it(
    nursery: Nursery, whole: Whole, tmp_path: Path
) -> None:
    """Before and after the seal, and before and after the end record is in its place."""
    states = set()
    for last in (whole.calls - 3, whole.calls - 1, whole.calls):
        journal = tmp_path / str(last)
        assert nursery.killed(journal, last) == signal.SIGKILL
        files = RunFiles(journal, run_of(journal))
        states.add((files.seal.exists(), files.end.exists()))
        assert verify(journal).sound
        finished_as(whole, journal)
    assert states == {(False, False), (True, False), (True, True)}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 1])
def test_a_torn_last_part_is_passed_over_and_done_again(
    nursery: Nursery, whole: Whole, tmp_path: Path, share: float
) -> None:
    assert nursery.killed(tmp_path, whole.calls * 2 // 3) == signal.SIGKILL
    files = RunFiles(tmp_path, run_of(tmp_path))
    last = files.parts[-1]
    before = sum(pl.read_parquet(part).height for part in files.parts[:-1])
    last.write_bytes(last.read_bytes()[: int((last.stat().st_size - 1) * share)])
    with Journal(tmp_path) as opened:
        assert opened.query("select count(*) as n from experiments")["n"].item() == before
        for name in ("runs", "review", "leaderboard"):
            opened.sql(name)
    assert verify(tmp_path).sound
    finished_as(whole, tmp_path)


# ---- who may resume -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_still_runs_is_not_resumed(
    nursery: Nursery, whole: Whole, tmp_path: Path
) -> None:
    """The process stands still in the middle, and holds its lock."""
    stop = {"by": int(signal.SIGSTOP)}
    [(child, status)] = nursery.order(jobs=[nursery.job(tmp_path, whole.calls // 2, **stop)])
    assert os.WIFSTOPPED(status)
    try:
        run_id = run_of(tmp_path)
        assert RunFiles(tmp_path, run_id).running()
        read_at_once(tmp_path)
        assert verify(tmp_path).notes == (f"run {run_id} is running",)
        with pytest.raises(JournalError, match=f"run {run_id} is still running"):
            runs.resume(run_id, journal=tmp_path)
    finally:
        nursery.order(kill=child)
    finished_as(whole, tmp_path)


# ---- many at once ---------------------------------------------------------------------------


@pytest.mark.slow
def test_eight_runs_at_once_each_end_as_they_do_alone(
    nursery: Nursery, whole: Whole, tmp_path: Path
) -> None:
    together = tmp_path / "together"
    seeds = [SEED, *range(10, 17)]
    ends = nursery.order(jobs=[nursery.job(together, seed=seed) for seed in seeds])
    assert [status for _, status in ends] == [0] * 8
    found = verify(together)
    assert (found.findings, found.notes) == ((), ())
    assert (found.runs, found.experiments) == (8, 8 * EXPERIMENTS)
    with Journal(together) as opened:
        listed = opened.query("select seed, digest, state from runs order by seed")
        mixed = opened.query(
            "select run_id, count(distinct number) as n, count(*) as all_rows from experiments"
            " group by run_id"
        )
    assert listed["state"].to_list() == ["finished"] * 8
    assert listed["digest"].n_unique() == 8
    assert mixed.select("n", "all_rows").unique().rows() == [(EXPERIMENTS + 1,) * 2]
    assert listed.row(0) == (SEED, whole.digest, "finished")
    limits = runs.Limits(EXPERIMENTS)
    for seed, digest in listed.select("seed", "digest").rows()[-2:]:
        alone = runs.run(
            nursery.table, SPEC, limits=limits, seed=seed, journal=tmp_path / "alone", cold=True
        )
        assert alone.digest == digest


# ---- disks ----------------------------------------------------------------------------------


def here(table: Path, journal: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """The same run, in this process."""
    monkeypatch.setattr("gtmar.journal.writer.FLUSH_ROWS", FLUSH_ROWS)
    monkeypatch.setattr("gtmar.runs.journaled_search._MEASURED_AT_ONCE", MEASURED)
    limits = runs.Limits(EXPERIMENTS)
    runs.run(table, SPEC, limits=limits, seed=SEED, journal=journal, cold=True, batch=BATCH, **more)


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 9])
def test_a_full_disk_ends_a_run_with_all_that_it_wrote(
    table: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    real, calls = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(JournalError, match=r"No space left on device.*is intact") as caught:
            here(table, tmp_path, patch)
    assert caught.value.exit_code == 5
    assert verify(tmp_path).sound
    assert not list(tmp_path.rglob("*.partial"))
    if last > 1:
        read_at_once(tmp_path)
        finished_as(whole, tmp_path)


def small_disk(folder: Path, size: str) -> bool:
    """Mount a disk of so many bytes; say whether that could be done."""
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "gtmar-test", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_disk_that_is_really_full(
    table: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    if not small_disk(disk, "160k"):
        pytest.skip("a small disk can't be mounted here")
    try:
        with monkeypatch.context() as patch, pytest.raises(JournalError, match="No space left"):
            here(table, disk / "journal", patch)
        shutil.copytree(disk / "journal", tmp_path / "journal")
        assert verify(disk / "journal").sound
        read_at_once(disk / "journal")
        with pytest.raises(JournalError, match="No space left"):
            runs.resume(run_of(disk / "journal"), journal=disk / "journal")
        assert verify(disk / "journal").sound
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert len(RunFiles(tmp_path / "journal", run_of(tmp_path / "journal")).parts) > 1
    finished_as(whole, tmp_path / "journal")


@pytest.mark.slow
def test_a_folder_lost_on_the_way_ends_the_run_and_put_back_it_goes_on(
    table: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, aside = tmp_path / "journal", tmp_path / "aside"

    def lose(progress: runs.Progress) -> None:
        if progress.experiments >= EXPERIMENTS // 2 and journal.exists():
            journal.rename(aside)

    with (
        monkeypatch.context() as patch,
        pytest.raises(JournalError, match="the folder is gone") as caught,
    ):
        here(table, journal, patch, watch=lose)
    assert caught.value.exit_code == 5
    assert not journal.exists()
    aside.rename(journal)
    read_at_once(journal)
    finished_as(whole, journal)


@pytest.mark.slow
def test_a_folder_removed_on_the_way_ends_the_run(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal"

    def remove(_: runs.Progress) -> None:
        shutil.rmtree(journal, ignore_errors=True)

    with monkeypatch.context() as patch, pytest.raises(JournalError, match="the folder is gone"):
        here(table, journal, patch, watch=remove)
    assert not journal.exists()
