"""Processes side by side: what they share, what they give back, and that none is left over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from side_by_side import Sum, end, fail, refuse, threads_of_linear_algebra

from gtmar import runs
from gtmar.data import synthetic
from gtmar.engine.processes import Processes
from gtmar.engine.threads import cores
from gtmar.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")
#: Seconds within which processes are gone, on a machine that is busy.
SOON = 30


@pytest.mark.slow
@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("2", min(2, cores()))])
def test_each_has_one_thread_for_linear_algebra_unless_somebody_said_otherwise(
    given: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    before = dict(os.environ)
    with Processes(1) as processes:
        assert processes.each(threads_of_linear_algebra, range(1)) == [threads]
    # The one that started it keeps its own environment.
    assert dict(os.environ) == before


@pytest.mark.slow
@LINUX
def test_arrays_are_in_memory_once_and_results_in_order() -> None:
    values = np.arange(8_000_000)
    told: list[None] = []
    with Processes(2) as processes:
        found = processes.each(Sum(values), range(1, 8), lambda: told.append(None))
        again = processes.each(Sum(values[:10]), range(2))
    assert [total for total, *_ in found] == [values.sum() + n for n in range(1, 8)]
    assert [total for total, *_ in again] == [45, 46]
    assert len({pid for _, pid, *_ in found}) == 2
    assert not any(writeable for *_, writeable, _ in found)
    # 64 MB were read, none of them the process's own.
    assert max(taken for *_, taken in found) < values.nbytes / 8
    assert len(told) == 7


@pytest.mark.slow
def test_an_error_arrives_as_it_was_raised() -> None:
    with Processes(2) as processes, pytest.raises(UsageError) as caught:
        processes.each(refuse, range(1, 9))
    assert caught.value.hint == "take four"
    assert caught.value.facts == {"number": 3}


@pytest.mark.slow
def test_what_nobody_foresaw_arrives_with_the_place_where_it_happened() -> None:
    with Processes(1) as processes:
        with pytest.raises(IndexError) as caught:
            processes.each(fail, range(1, 2))
        with pytest.raises(RuntimeError, match=r"^OddError: no 2\n") as other:
            processes.each(fail, range(2, 3))
    for error in (caught.value, other.value):
        [note] = error.__notes__
        assert "side_by_side.py" in note
        assert "in fail" in note


@pytest.mark.slow
def test_a_process_that_is_killed_is_an_error() -> None:
    with Processes(2) as processes, pytest.raises(ResourceError, match="ended by SIGKILL"):
        processes.each(partial(end, signal.SIGKILL), range(1, 9))


def test_processes_are_for_work_that_is_worth_their_start() -> None:
    assert not Processes().worth(1e9)
    assert Processes(2).worth(0)
    assert not Processes(None).worth(1)
    assert Processes(None).worth(1e9) is (cores() > 1)


def sessions() -> list[int]:
    """Return the session of each process of the machine that still runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if state != "Z":
            found.append(int(session))
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with a short run, whose table lies beside it."""
    folder = tmp_path_factory.mktemp("searched")
    data, journal = folder / "accounts.parquet", folder / "journal"
    synthetic.generate("health_score", accounts=300).write_parquet(data)
    runs.run(data, SPEC, limits=runs.Limits(10), journal=journal)
    return journal


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(
    searched: Path, tmp_path: Path, how: signal.Signals
) -> None:
    journal = shutil.copytree(searched, tmp_path / "journal")
    words = ["null", "--runs", "1000000", "--workers", "2", "--journal", str(journal)]
    command = subprocess.Popen(
        [sys.executable, "-m", "gtmar", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # This one, two that search, and Python's tracker of resources.
    assert soon(lambda: sessions().count(command.pid) >= 3), "no processes were started"
    if how is signal.SIGINT:
        # As a terminal sends it.
        os.killpg(command.pid, how)
    else:
        command.send_signal(how)
    try:
        _, said = command.communicate(timeout=SOON)
    except subprocess.TimeoutExpired:
        command.kill()
        raise
    assert command.returncode == (130 if how is signal.SIGINT else -how)
    assert how is not signal.SIGINT or "Traceback" not in said
    assert soon(lambda: sessions().count(command.pid) == 0), "processes are left over"


#: Has two processes work at what takes long.
_LONG = """
import sys
from functools import partial
from pathlib import Path
from gtmar.engine.processes import Processes
from side_by_side import stay

with Processes(2) as processes:
    processes.each(partial(stay, Path(sys.argv[1])), range(2))
"""


@pytest.mark.slow
@LINUX
def test_no_process_goes_on_with_its_work_when_the_command_is_killed(tmp_path: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", _LONG, str(tmp_path)],
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert soon(lambda: len(list(tmp_path.iterdir())) == 2), "no processes were started"
    finally:
        command.kill()
        command.wait()
    assert soon(lambda: sessions().count(command.pid) == 0), "processes are left over"


def soon(holds: Callable[[], bool]) -> bool:
    """Wait until something holds."""
    end = time.monotonic() + SOON
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
