"""Machine code is taken up from the cache, compiled beside a search, and never waited for."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forks
import numpy as np
import pytest
import tables

from gtmar import spec as specs
from gtmar.data.synthetic import generate
from gtmar.engine import numba_cache, numba_table
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.numba_cache import (
    LOCK,
    CodePart,
    _compile_beside,
    _without_compiling,
    compiler_runs,
)
from gtmar.optimize import surrogate

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "tests" / "golden" / "fixed_edges.yaml"
#: Stands in for the compiler: says who it is, and works until somebody ends it.
_STAND_IN = (
    "import json, os, time; "
    "files = [os.path.realpath(f'/proc/self/fd/{{n}}') for n in os.listdir('/proc/self/fd')]; "
    "open({note!r}, 'w').write(json.dumps([os.getpid(), os.getsid(0), files])); "
    "time.sleep(60)"
)


def until(true: Callable[[], Any]) -> Any:
    """Wait until something is true, for a minute at most; return it."""
    for _ in range(1200):
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come true")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Put a stand-in in the compiler's place; return what waits for its words about itself."""
    note = tmp_path / "note"
    monkeypatch.setattr(numba_cache, "_folder", lambda: tmp_path)
    monkeypatch.setattr(numba_cache, "_COMPILER", _STAND_IN.format(note=str(note)))
    return lambda: until(
        lambda: note.exists() and note.read_text() and json.loads(note.read_text())
    )


def test_one_compiler_at_a_time_and_a_killed_one_leaves_no_lock(
    stand_in: Callable[[], Any], tmp_path: Path
) -> None:
    assert not compiler_runs()
    assert _compile_beside("any")
    try:
        # From the first moment on, before the other process has done anything.
        assert compiler_runs()
        assert not _compile_beside("any")
    finally:
        compiler, _, _ = stand_in()
        os.kill(compiler, signal.SIGKILL)
    until(lambda: not compiler_runs())
    # What it leaves is a file that nobody has locked.
    assert (tmp_path / LOCK).exists()
    # Its end was taken note of, so that it is no zombie.
    until(lambda: not Path(f"/proc/{compiler}").exists())


def test_a_compiler_has_nothing_of_the_search_but_its_own_lock(
    stand_in: Callable[[], Any], tmp_path: Path
) -> None:
    with (tmp_path / "of the search").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert _compile_beside("any")
        compiler, session, files = stand_in()
    os.kill(compiler, signal.SIGKILL)
    until(lambda: not compiler_runs())
    assert session == compiler
    # The folder of the listing itself is no more.
    held = sorted(file for file in files if not file.startswith("/proc/"))
    assert held == ["/dev/null"] * 3 + [str(tmp_path / LOCK)]


def test_a_search_ends_without_its_compiler(tmp_path: Path) -> None:
    """Exit is not held up, and nothing is printed, warnings included."""
    note = tmp_path / "note"
    script = (
        "import pathlib\nfrom gtmar.engine import numba_cache as n\n"
        f"n._folder = lambda: pathlib.Path({str(tmp_path)!r})\n"
        f"n._COMPILER = {_STAND_IN.format(note=str(note))!r}\n"
        "assert n._compile_beside('any')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        check=False,
        capture_output=True,
        timeout=50,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    compiler = until(lambda: note.exists() and note.read_text() and json.loads(note.read_text()))[0]
    os.kill(compiler, signal.SIGKILL)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_is_not_in_the_cache_is_asked_for_once_and_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numba_cache, "_PAUSE", 0.0)
    monkeypatch.setattr(CodePart, "_wanted", False)
    started: list[str] = []

    def start(name: str) -> bool:
        started.append(name)
        return True

    monkeypatch.setattr(numba_cache, "_compile_beside", start)
    there = False

    def rehearse() -> None:
        if not there:
            raise numba_cache._NotCachedError

    part = CodePart("some", rehearse)
    assert not part.ready(wanted=False)
    assert started == []
    assert [part.ready(wanted=True) for _ in range(3)] == [False] * 3
    assert started == ["some"]
    there = True
    assert part.ready(wanted=True)


@pytest.mark.parametrize("fault", [pickle.UnpicklingError(), EOFError(), OSError(), ImportError()])
def test_a_damaged_cache_is_left_alone(fault: Exception) -> None:
    looked: list[int] = []

    def rehearse() -> None:
        looked.append(1)
        raise fault

    part = CodePart("some", rehearse)
    assert [part.ready(wanted=True) for _ in range(3)] == [False] * 3
    assert looked == [1]


@pytest.mark.parametrize("folder", [None, Path("/proc/nowhere")])
def test_without_a_folder_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, folder: Path | None
) -> None:
    monkeypatch.setattr(numba_cache, "_folder", lambda: folder)
    assert not _compile_beside("any")
    assert not compiler_runs()


#: A search of a process whose compiler is broken, and has ended before the search goes on.
_SHORT = """
import sys, time
from gtmar.data.synthetic import generate
from gtmar.engine import numba_cache
from gtmar.runs import Limits, run

numba_cache._COMPILER = "1 / 0"
asked, start = [], numba_cache._compile_beside

def started(part):
    asked.append(start(part))
    for _ in range(6_000):
        if not numba_cache.compiler_runs():
            break
        time.sleep(0.01)
    return asked[-1]

numba_cache._compile_beside = started
table, limits = generate("health_score", accounts=300, seed=4), Limits(2_000, proposals=60)
print(run(table, sys.argv[1], journal=sys.argv[2], limits=limits, announce=print).digest)
print(any(asked), file=sys.stderr)
"""


@pytest.mark.slow
def test_where_nothing_can_be_written_or_compiled_numpy_counts(tmp_path: Path) -> None:
    found = []
    for name, changes, compiles in (
        ("nowhere to write", {"NUMBA_CACHE_DIR": "/proc/nowhere", "HOME": "/proc/nowhere"}, False),
        ("empty", {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}, True),
    ):
        environment = dict(os.environ) | changes
        done = forks.script(_SHORT, str(SPEC), str(tmp_path / name), environment=environment)
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines() == [str(compiles)]
        found.append(done.stdout)
    # The digest alone: it is the same, and nothing is said of machine code.
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", tables.LABELLED)
@pytest.mark.parametrize(("many_rows", "narrow"), [(10, 10_000), (10_000, 10_000), (10_000, 10)])
def test_a_rehearsal_loads_all_that_a_search_calls(
    monkeypatch: pytest.MonkeyPatch, kind: str, many_rows: int, narrow: int
) -> None:
    """Arguments of a search have the types of the rehearsal's: nothing is left to compile."""
    monkeypatch.setattr(numba_table, "_MANY_ROWS", many_rows)
    monkeypatch.setattr(numba_table, "_MOST_COUNTED", narrow)
    matrix = tables.drawn_matrix(kind, 60, seed=3)
    evaluator = LocalEvaluator(matrix, tables.make_spec(base=5), threads=2, compiled=True)
    assert evaluator.compiles
    candidates = np.random.default_rng(8).integers(-100, 101, size=(11, 3)).tolist()
    with _without_compiling():
        evaluator.sums(candidates)
        evaluator.move(candidates[3])
        evaluator.sums(candidates)


#: Waits for machine code as a search does, and says whether it started the compiler and, at the
#: end, what numba loaded and what it would have had to compile.
_SEARCH = """
import json, sys
from gtmar.data.synthetic import generate
from gtmar.engine import numba_cache, numba_kernel
from gtmar.optimize import surrogate
from gtmar.runs import Limits, run

# The compiler is still there when either search ends, however late that one began.
numba_cache._COMPILER = f'''
import os, time
for _ in range(6_000):
    if os.path.exists({sys.argv[4]!r}):
        break
    time.sleep(0.05)
{numba_cache._COMPILER}
'''
started, start = [], numba_cache._compile_beside
numba_cache._compile_beside = lambda part: started.append(start(part)) or started[-1]
limits = Limits(2_000, proposals=int(sys.argv[3]))
table, said = generate("health_score", accounts=300, seed=4), []
done = run(table, sys.argv[1], limits=limits, journal=sys.argv[2], announce=said.append)
names = ("evaluate", "move")
kernel = [getattr(numba_kernel, name) for name in names]
functions = [*kernel, *(surrogate.machine_code() or ())]
print(json.dumps({
    "digest": done.digest,
    "started": sum(started),
    "said": said,
    "hits": [sum(f.stats.cache_hits.values()) for f in functions],
    "misses": [sum(f.stats.cache_misses.values()) for f in functions],
    "runs": numba_cache.compiler_runs(),
}))
"""


def all_but_one(cache: Path) -> None:
    """Copy the machine code of this installation into a cache folder, one function left out.

    To compile all of it takes half a minute, and shows no more than one function does.
    """
    from numba.core import caching

    from gtmar.engine import numba_kernel

    locator: Any = caching.UserProvidedCacheLocator

    spec = specs.load(SPEC)
    matrix = tables.loaded(generate("health_score", accounts=300, seed=4), spec).search
    evaluator = LocalEvaluator(matrix, spec, compiled=True)
    evaluator.sums([[term.weight for term in spec.terms]])
    surrogate.MACHINE_CODE.compile()
    functions: Any = surrogate.machine_code()
    kernel: Any = numba_kernel
    for source, function in ((kernel.__file__, kernel.move), (surrogate.__file__, functions[0])):
        kept = cache / locator.get_suitable_cache_subpath(source)
        kept.mkdir(parents=True, exist_ok=True)
        for file in Path(function.stats.cache_path).glob("*.nb[ic]"):
            if ".move-" not in file.name:
                shutil.copy(file, kept)


@pytest.mark.slow
def test_two_searches_at_once_start_one_compiler_and_the_next_compiles_nothing(
    tmp_path: Path,
) -> None:
    all_but_one(tmp_path / "cache")
    environment = dict(os.environ) | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def search(number: int) -> forks.Fork:
        words = [str(SPEC), str(tmp_path / str(number)), "60", str(tmp_path / "go")]
        return forks.start(*words, code=_SEARCH, environment=environment)

    def ended(process: forks.Fork) -> dict[str, Any]:
        done = process.ended()
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    try:
        both = [ended(process) for process in [search(0), search(1)]]
    finally:
        (tmp_path / "go").touch()
    assert sum(each["started"] for each in both) == 1
    assert all(each["runs"] for each in both)
    assert all("in the background" in " ".join(each["said"]) for each in both)
    [lock] = (tmp_path / "cache").rglob(LOCK)

    def over() -> bool:
        tried = subprocess.run(["flock", "-n", str(lock), "true"], check=False)
        return tried.returncode == 0

    began = time.monotonic()
    while not over():
        assert time.monotonic() - began < 1800
        time.sleep(0.1)
    warm = ended(search(2))
    assert warm["digest"] == both[0]["digest"] == both[1]["digest"]
    assert warm["misses"] == [0] * 13
    assert warm["hits"] == [1] * 13
    assert (warm["started"], warm["said"], warm["runs"]) == (0, [], False)
