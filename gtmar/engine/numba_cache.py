"""Machine code in numba's cache: loaded when it is there, compiled in the background when it isn't.

A search never waits for a compiler. It counts with numpy, looks into the cache between two batches,
and goes over to machine code as soon as all functions of a `CodePart` are there. What is missing is
compiled by another process, one at a time on a machine, which may outlive the search.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LOCK", "CodePart", "compiler_runs"]

#: Seconds between two looks into the cache; a look takes less than a thousandth of that.
_PAUSE = 0.25
#: Name of the file in the cache folder that a compiler holds locked. The lock ends with its
#: process, however that ends.
LOCK = "gtmar-compiler.lock"
#: Code that the compiler's process runs. Its first argument, the folder that gtmar was imported
#: from, goes to the front of the path, so that it compiles the same files.
_COMPILER = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from gtmar.optimize.compile_ahead import main; main(sys.argv[1])"
)


class CodePart:
    """Compiled functions that are of use only together, such as a kernel or a proposer.

    Parameters
    ----------
    name
        What the compiler's process knows the part by.
    rehearse
        Calls each function once on tiny arguments of the types that a search has. That loads it
        from the cache, or compiles it.
    """

    #: Whether some part of this process has work that is worth compiling for.
    _wanted = False

    def __init__(self, name: str, rehearse: Callable[[], None]) -> None:
        self.name, self._rehearse = name, rehearse
        self._ready = self._broken = self._asked = False
        self._again = 0.0

    def ready(self, *, wanted: bool) -> bool:
        """Return whether the machine code is loaded; until then, look into the cache now and then.

        `wanted` says whether the work is worth compiling in the background what isn't there.
        """
        CodePart._wanted |= wanted
        if self._ready or self._broken or time.monotonic() < self._again:
            return self._ready
        try:
            with _without_compiling():
                self._rehearse()
            self._ready = True
        except _NotCachedError:
            self._again = time.monotonic() + _PAUSE
            if CodePart._wanted and not self._asked:
                # Once: a compiler that failed would fail again.
                self._asked = _compile_beside(self.name)
        except Exception:  # A cache can be damaged in more ways than numba names; numpy counts on.
            self._broken = True
        return self._ready

    def compile(self) -> None:
        """Compile in this process, now, what is not in the cache, and load the rest."""
        if not self._ready:
            self._rehearse()
            self._ready = True


class _NotCachedError(Exception):
    """A function that is not in the cache."""


@contextmanager
def _without_compiling() -> Iterator[None]:
    """Let numba load functions from its cache; raise `_NotCachedError` where it would compile one.

    Other threads may compile meanwhile.
    """
    from numba.core import event

    own = threading.get_ident()

    class Refusal(event.Listener):
        def on_start(self, _event: object) -> None:
            if threading.get_ident() == own:
                raise _NotCachedError

        def on_end(self, _event: object) -> None:
            pass

    with event.install_listener("numba:compile", Refusal()):
        yield


@cache
def _folder() -> Path | None:
    """Return numba's cache folder for the kernel; None where it has none."""
    from gtmar.engine.numba_kernel import tabulate

    path = tabulate.stats.cache_path
    return None if path is None else Path(path)


def _lock() -> int | None:
    """Take the compiler's lock and return its handle; None where it is taken or can't be had."""
    folder = _folder()
    if folder is None:
        return None
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def compiler_runs() -> bool:
    """Return whether any process is compiling this installation's code in the background."""
    lock = _lock()
    if lock is None:
        folder = _folder()
        return folder is not None and (folder / LOCK).exists()
    os.close(lock)
    return False


def _compile_beside(part: str) -> bool:
    """Start a process that compiles a part, unless one runs already; return whether it started.

    It compiles the proposer's functions, too. It inherits the lock, so that no other can start, and
    nothing else of this process: no terminal, no files, no session. So neither Ctrl-C nor the end
    of this process ends it.
    """
    lock = _lock() if sys.executable and not getattr(sys, "frozen", False) else None
    if lock is None:
        return False
    root = Path(__file__).parents[2]
    try:
        compiler = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMPILER, str(root), part],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[lock],
        )
    except OSError:
        return False
    finally:
        os.close(lock)
    # Its exit status must be read, else it would stay as a zombie.
    threading.Thread(target=compiler.wait, name="gtmar-compiler", daemon=True).start()
    return True
