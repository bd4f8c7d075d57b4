"""A search killed as it goes over to machine code: resumed, it ends as any other."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import forks
import pytest

from gtmar import runs
from gtmar.data.synthetic import generate
from gtmar.journal.verify import verify
from gtmar.runs import Limits

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "tests" / "golden" / "fixed_edges.yaml"
#: A search that ends itself as it takes a part up: before, once it is loaded, or in the first batch
#: that it counts.
_SEARCH = """
import os, signal, sys
import numba
import pytest
from machine_code import ready_after
from gtmar import runs
from gtmar.engine.numba_table import NumbaTable
from gtmar.journal import writer
from gtmar.optimize import surrogate
from gtmar.runs import Limits, journaled_search

part, moment, switch = sys.argv[1], sys.argv[2], int(sys.argv[3])

def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def taken_up(own, at):
    if own == part and at == moment:
        end()
    if own == part and at == "loaded" and moment == "first":
        if part == "kernel":
            NumbaTable.sums = end
        else:
            surrogate._compiled = end

with pytest.MonkeyPatch.context() as patch:
    # As a slow search does: all that is judged reaches the journal after each batch.
    patch.setattr(journaled_search, "_MEASURED_AFTER", 0.0)
    patch.setattr(writer, "FLUSH_SECONDS", 0.0)
    ready_after(patch, kernel=switch, proposer=switch, taken_up=taken_up)
    runs.run("accounts.parquet", "spec.yaml", journal="journal", limits=Limits(50))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the run that nobody kills."""
    folder = tmp_path_factory.mktemp("whole")
    table = generate("health_score", accounts=300, seed=4)
    return runs.run(table, SPEC, journal=folder, limits=Limits(50)).digest


@pytest.mark.parametrize(
    ("part", "moment"),
    [("kernel", "before"), ("kernel", "first"), ("proposer", "loaded"), ("proposer", "first")],
)
def test_a_search_killed_as_it_goes_over_to_machine_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: str, part: str, moment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    generate("health_score", accounts=300, seed=4).write_parquet("accounts.parquet")
    shutil.copy(SPEC, "spec.yaml")
    killed = forks.script(_SEARCH, part, moment, "6")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    [run] = (tmp_path / "journal" / "runs").iterdir()
    done = runs.resume(run.name.removeprefix("run_id="), journal=tmp_path / "journal")
    assert done.resumed_from > 0
    assert done.digest == whole
    assert verify(tmp_path / "journal").findings == ()
