"""gtmar's commands and scripts in processes of their own that start with all imports done.

One process imports everything and begins nothing; each command is a fork of it. A second of imports
a command is saved so. Where the start of an interpreter is what a test is about, it starts one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from multiprocessing import reduction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from weakref import finalize

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Ended", "Fork", "gtmar", "plain_environment", "script", "start"]

_IMPORTED = [
    *("pytest", "duckdb", "numpy", "polars", "pyarrow.parquet", "pyarrow.compute", "deltalake"),
    # Arrow brings it wherever it makes arrays of Python's values.
    "pandas",
    *("rich.console", "rich.live", "typer.rich_utils", "gtmar.cli.app", "gtmar.runs"),
    *("gtmar.cli.data", "gtmar.cli.search", "gtmar.journal.catalog", "gtmar.snapshots.build"),
    *("gtmar.optimize.surrogate_proposer", "gtmar.integrations.tables_by_date", "forks"),
]


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote; a negative code is the signal that ended it."""

    returncode: int
    stdout: str
    stderr: str


class Fork:
    """A process that was started.

    Parameters
    ----------
    process
        What multiprocessing knows of it.
    written
        Files that it writes stdout and stderr to.
    """

    def __init__(self, process: Any, written: tuple[IO[bytes], IO[bytes]]) -> None:
        self._process, self._written = process, written
        self.pid: int = process.pid
        for file in written:
            finalize(self, file.close)

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for its end, for so long at most; return its code, None where it goes on."""
        self._process.join(seconds)
        code: int | None = self._process.exitcode
        return code

    def signal(self, sign: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.wait(0) is None:
            os.kill(self.pid, sign)

    def printed(self) -> list[str]:
        """Return the whole lines that it has written to stdout by now."""
        # From a place of its own: the process writes on where its own place in the file is.
        file = self._written[0].fileno()
        whole, _, _ = os.pread(file, os.fstat(file).st_size, 0).rpartition(b"\n")
        return whole.decode("utf-8").splitlines()

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.join()

    def ended(self) -> Ended:
        """Wait for its end, and say how that was."""
        code = self.wait()
        assert code is not None
        for file in self._written:
            file.seek(0)
        out, err = (file.read().decode("utf-8") for file in self._written)
        return Ended(code, out, err)


class _Handle:
    """An open file that the process gets, by its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _taken, (reduction.DupFd(self.number),)


def _taken(given: Any) -> int:
    number: int = given.detach()
    return number


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def plain_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment, without a journal of a person's, and with changes."""
    return {k: v for k, v in os.environ.items() if k != "GTMAR_JOURNAL"} | changes


def start(
    *words: str,
    code: str | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    terminal: int | None = None,
    strict: bool = False,
) -> Fork:
    """Start gtmar with these words, or a script of Python with these arguments.

    Parameters
    ----------
    words
        Of the command; or arguments of the script.
    code
        The script; None for gtmar.
    folder
        Where it runs; None for this process's.
    environment
        All of it; None for this process's.
    terminal
        What stdin, stdout and stderr are all bound to; None for an empty stdin, and for the rest
        files that `Fork.ended` reads.
    strict
        Whether warnings are errors.
    """
    # `Fork` closes them.
    written = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    with Path(os.devnull).open("rb") as nothing:
        own = [file.fileno() for file in (nothing, *written)]
        process = _server().Process(
            target=_begun,
            args=(
                words,
                code,
                str(folder or Path.cwd()),
                dict(os.environ if environment is None else environment),
                [_Handle(n) for n in (own if terminal is None else [terminal] * 3)],
                strict,
            ),
        )
        process.start()
    return Fork(process, written)


def gtmar(*words: str, **how: Any) -> Ended:
    """Run gtmar to its end; arguments are those of `start`."""
    return start(*words, **how).ended()


def script(code: str, *words: str, **how: Any) -> Ended:
    """Run a script of Python to its end; arguments are those of `start`."""
    return start(*words, code=code, **how).ended()


def _begun(
    words: tuple[str, ...],
    code: str | None,
    folder: str,
    environment: dict[str, str],
    handles: list[int],
    strict: bool,
) -> None:
    """Be the process that was asked for."""
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
    for handle in handles:
        os.close(handle)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    # By lines where there is a terminal, as Python has it.
    sys.stdout = os.fdopen(1, "w", 1 if os.isatty(1) else -1, encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    # Ctrl-C is heard as in a terminal, even where all of this was started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if strict:
        warnings.simplefilter("error")
    sys.argv = ["gtmar" if code is None else "-c", *words]
    try:
        if code is None:
            from gtmar.cli import main

            main()
        else:
            exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    finally:
        # As at the end of any process, which forks don't come to.
        atexit._run_exitfuncs()
        sys.stdout.flush()
