"""What is judged reaches the journal beside the search: the same rows, in order, or an error."""

from __future__ import annotations

import errno
import math
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import polars as pl
import pytest

from gtmar import runs, synthetic
from gtmar.errors import JournalError
from gtmar.journal import store
from gtmar.journal.integrity import verify
from gtmar.journal.store import RunFiles
from gtmar.runs import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPERIMENTS = 900
#: Columns that differ from run to run.
OWN = ("run_id", "evaluated_at", "duration_us")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "accounts.parquet"
    synthetic.generate("health_score", accounts=300).write_parquet(path)
    return path


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part because of a slow machine."""
    monkeypatch.setattr(ledger, "_MEASURED_AFTER", math.inf)
    monkeypatch.setattr("gtmar.journal.writer.FLUSH_SECONDS", math.inf)


def searched(table: Path, journal: Path, **more: Any) -> runs.RunResult:
    limits = runs.Limits(more.pop("experiments", EXPERIMENTS))
    spec = "examples/health_score/spec.yaml"
    return runs.run(table, spec, limits=limits, seed=3, journal=journal, cold=True, **more)


def heights(journal: Path, run_id: str) -> list[int]:
    return [pl.read_parquet(part).height for part in RunFiles(journal, run_id).parts]


@contextmanager
def full_from(name: str) -> Iterator[None]:
    """Let the disk be full when a file of this name is to be put in its place."""

    def settle(beside: Path, path: Path) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        store.settle(beside, path)

    with mock.patch("gtmar.journal.writer.settle", settle):
        yield


def test_with_and_without_a_thread_the_rows_are_the_same(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, threads = [], []
    for cores in (1, 2):
        monkeypatch.setattr(ledger, "cores", lambda count=cores: count)
        names: set[str] = set()

        def watch(_: runs.Progress, names: set[str] = names) -> None:
            names |= {t.name for t in threading.enumerate() if "background" in t.name}

        result = searched(table, tmp_path / str(cores), watch=watch)
        files = RunFiles(tmp_path / str(cores), result.run_id)
        found.append((result.digest, files.rows().drop_columns(list(OWN)).to_pylist()))
        threads.append(len(names))
        assert verify(tmp_path / str(cores)).notes == ()
        assert not [t for t in threading.enumerate() if "background" in t.name]
    assert threads == [0, 1]
    assert found[0] == found[1]


def test_parts_get_smaller_towards_the_end(table: Path, tmp_path: Path) -> None:
    """The search goes on while a part is written, but for the last."""
    least = ledger._MEASURED_AT_LEAST
    found = searched(table, tmp_path, batch=1)
    assert heights(tmp_path, found.run_id) == [1, 450, least, EXPERIMENTS - 450 - least]
    few = searched(table, tmp_path, batch=1, experiments=least // 2)
    assert heights(tmp_path, few.run_id) == [1, least // 2]


def test_parts_are_never_larger_than_a_bound(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_MEASURED_AT_ONCE", 40)
    found = searched(table, tmp_path, batch=1, experiments=100)
    assert heights(tmp_path, found.run_id) == [1, 40, 40, 20]


@pytest.mark.parametrize("cores", [1, 2])
def test_an_error_of_the_disk_ends_the_run_and_nothing_before_it_is_lost(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """The fourth part can't be synced: the loop hears of it before all is searched."""
    monkeypatch.setattr(ledger, "cores", lambda: cores)
    monkeypatch.setattr(ledger, "_MEASURED_AT_ONCE", 50)
    seen = [0]

    def watch(progress: runs.Progress) -> None:
        seen[0] = progress.experiments

    refused = pytest.raises(JournalError, match=r"No space left on device.*is intact")
    with full_from("part-000004.parquet"), refused as caught:
        searched(table, tmp_path, batch=1, watch=watch)
    assert caught.value.exit_code == 5
    assert 149 <= seen[0] <= 150 + 3 * 50
    [folder] = (tmp_path / "runs").iterdir()
    run_id = folder.name.partition("=")[2]
    assert heights(tmp_path, run_id) == [1, 50, 50]
    assert not RunFiles(tmp_path, run_id).end.exists()
    assert not list(tmp_path.rglob("*.partial"))
    assert verify(tmp_path).sound
    monkeypatch.undo()
    resumed = runs.resume(run_id, journal=tmp_path)
    assert resumed.digest == searched(table, tmp_path / "whole").digest


def test_an_error_at_the_end_leaves_a_run_without_an_end(table: Path, tmp_path: Path) -> None:
    with full_from("part-000002.parquet"), pytest.raises(JournalError, match="No space left"):
        searched(table, tmp_path, experiments=30)
    [folder] = (tmp_path / "runs").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["lock", "start.parquet"]
    assert verify(tmp_path).sound
