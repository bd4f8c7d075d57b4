"""Machine code in numba's cache: taken up when it is there, compiled beside a search when it isn't.

A search never waits for a compiler. It counts with numpy, looks into the cache between two batches,
and goes over to machine code as soon as all that a part of it calls is there. What isn't there is
compiled by a process of its own, one at a time, which outlives the search if it must.
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

#: Seconds between two looks into the cache; one takes less than a thousandth of that.
_PAUSE = 0.25
#: Name of the file in the cache folder that a compiler holds locked. The lock ends with its
#: process, however that ends.
LOCK = "gtmar-compiler.lock"
#: What the compiler runs; the folder that gtmar was imported from comes first, so that it compiles
#: the same files.
_COMPILER = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from gtmar.optimize.compile_ahead import main; main(sys.argv[1])"
)


class CodePart:
    """Functions that a search takes up together.

    Parameters
    ----------
    name
        What the compiler is asked for.
    rehearse
        Calls each of them once, on arguments of the types that a search has, and little to do.
    """

    #: Whether this process has work that is worth a compiler.
    _wanted = False

    def __init__(self, name: str, rehearse: Callable[[], None]) -> None:
        self.name, self._rehearse = name, rehearse
        self._ready = self._broken = self._asked = False
        self._again = 0.0

    def ready(self, *, wanted: bool) -> bool:
        """Whether the machine code is loaded; looks into the cache now and then while it is not.

        `wanted` says whether it is worth compiling beside this process.
        """
        CodePart._wanted |= wanted
        if self._ready or self._broken or time.monotonic() < self._again:
            return self._ready
        try:
            with _kept_alone():
                self._rehearse()
            self._ready = True
        except _NotKeptError:
            self._again = time.monotonic() + _PAUSE
            if CodePart._wanted and not self._asked:
                # Once: a compiler that failed would fail again.
                self._asked = _compile_beside(self.name)
        except Exception:  # A cache can be damaged in more ways than numba names; numpy counts on.
            self._broken = True
        return self._ready

    def compile(self) -> None:
        """Compile here and now what is not in the cache, and load the rest."""
        if not self._ready:
            self._rehearse()
            self._ready = True


class _NotKeptError(Exception):
    """A function that is not in the cache."""


@contextmanager
def _kept_alone() -> Iterator[None]:
    """Load from the cache what is called, and raise where this thread would have to compile it."""
    from numba.core import event

    own = threading.get_ident()

    class Refusal(event.Listener):
        def on_start(self, _event: object) -> None:
            if threading.get_ident() == own:
                raise _NotKeptError

        def on_end(self, _event: object) -> None:
            pass

    with event.install_listener("numba:compile", Refusal()):
        yield


@cache
def _folder() -> Path | None:
    """Return where numba keeps the kernel's code."""
    from gtmar.engine.numba_kernel import tabulate

    path = tabulate.stats.cache_path
    return None if path is None else Path(path)


def _lock() -> int | None:
    """Take the compiler's lock; None where another has it, or there can be none."""
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
    """Whether a compiler is at work on this installation's code, whoever started it."""
    lock = _lock()
    if lock is None:
        folder = _folder()
        return folder is not None and (folder / LOCK).exists()
    os.close(lock)
    return False


def _compile_beside(part: str) -> bool:
    """Start a compiler of a part and the proposer's, unless there is one; say whether so.

    It has the lock from its first moment on, by inheritance, and nothing else of this process: no
    terminal, no files, no session. So it ends neither with Ctrl-C nor with this process.
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
    # Somebody has to take note of its end, and nobody waits for that.
    threading.Thread(target=compiler.wait, name="gtmar-compiler", daemon=True).start()
    return True
