"""Commands run together, or killed by SIGKILL at exact system calls as strace injects it.

Each command runs in a fork of one process that has imported everything and begun nothing, so that
a kill costs no start of an interpreter. The fork stops itself, strace seizes it with all threads
that it will have, and it goes on until the N-th call that changes a disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["CHANGES", "Change", "Ended", "Nursery", "spread", "strace_works"]

#: The system calls that change a disk, or a lock on it.
CHANGES = (
    *("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile", "ftruncate"),
    *("fsync", "fdatasync", "flock", "rename", "renameat", "renameat2", "link", "linkat"),
    *("symlink", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
)
#: Seconds after which a fork that neither ends nor dies is a failure.
PATIENCE = 120

_SOURCE = """
import json, os, signal, sys
import deltalake, duckdb, numpy, pandas, polars, pyarrow.parquet, typer.rich_utils
import gtmar.cli.app, gtmar.runs, gtmar.journal.catalog


def command(folder, arguments, traced, n):
    status = 99
    try:
        os.chdir(folder)
        for path, number in (("/dev/null", 0), (f"out{n}", 1), (f"err{n}", 2)):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(handle, number)
        if traced:
            os.kill(os.getpid(), signal.SIGSTOP)
        sys.argv = ["gtmar", *arguments]
        try:
            gtmar.cli.app.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
    finally:
        os._exit(status)


for line in sys.stdin:
    order = json.loads(line)
    children = []
    for n, arguments in enumerate(order["commands"]):
        child = os.fork()
        if child == 0:
            command(order["folder"], arguments, order["traced"], n)
        children.append(child)
    if order["traced"]:
        os.waitpid(children[0], os.WUNTRACED)
        print(children[0], flush=True)
    print(json.dumps([os.waitpid(child, 0)[1] for child in children]), flush=True)
"""


def strace_works() -> bool:
    """Whether strace is installed and may trace here."""
    if shutil.which("strace") is None:
        return False
    command = ["strace", "-e", "trace=none", "true"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def spread(changes: list[Change], most: int) -> list[Change]:
    """Choose at most so many changes, evenly, the last among them.

    The first comes only where all do: who is killed at it has done nothing yet.
    """
    if len(changes) <= most:
        return changes
    last = len(changes) - 1
    return [changes[n] for n in sorted({round(k * last / most) for k in range(1, most + 1)})]


@dataclass(frozen=True)
class Change:
    """A system call by its name and its number among a thread's calls of that name, from 1."""

    call: str
    number: int


@dataclass
class Ended:
    """How a command ended: the signal that killed it, or its exit code."""

    signal: int
    code: int
    error: str


class Nursery:
    """The process that commands are forked from; a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SOURCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE)
        self._process.stdout.close()

    def _order(self, folder: Path, commands: list[list[str]], *, traced: bool) -> None:
        assert self._process.stdin is not None
        order = {"folder": str(folder), "commands": commands, "traced": traced}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _ended(self, folder: Path) -> list[Ended]:
        """Wait for all commands of an order, and read how they ended."""
        assert self._process.stdout is not None
        return [
            Ended(
                os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                os.WEXITSTATUS(status),
                (folder / f"err{n}").read_text(encoding="utf-8", errors="replace"),
            )
            for n, status in enumerate(json.loads(self._process.stdout.readline()))
        ]

    def together(self, folder: Path, commands: list[list[str]]) -> list[Ended]:
        """Run commands in one folder at the same time."""
        self._order(folder, commands, traced=False)
        return self._ended(folder)

    def _traced(self, folder: Path, arguments: list[str], *options: str) -> Ended:
        """Run a command in a folder under strace, from its first own system call on."""
        assert self._process.stdout is not None
        self._order(folder, [arguments], traced=True)
        child = int(self._process.stdout.readline())
        names = ",".join(CHANGES)
        log = folder / "strace"
        command = ["strace", "-f", "-qq", "-p", str(child), "-o", str(log), "-e", f"trace={names}"]
        tracer = subprocess.Popen([*command, *options])
        try:
            _wait_until_traced(child)
            os.kill(child, signal.SIGCONT)
            [ended] = self._ended(folder)
        finally:
            tracer.wait(timeout=PATIENCE)
        return ended

    def changes(self, folder: Path, arguments: list[str]) -> tuple[Ended, list[Change]]:
        """Run a command to its end; list the changes that it makes within its folder, in order."""
        ended = self._traced(folder, arguments, "-y")
        counted: Counter[tuple[str, str]] = Counter()
        made: dict[Change, None] = {}
        for line in (folder / "strace").read_text(errors="replace").splitlines():
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found is None or found[2] not in CHANGES:
                continue
            thread, call = found[1], found[2]
            counted[thread, call] += 1
            inside = str(folder) in line or re.search(r'\("[^/"]', line)
            if inside and not re.search(r"/(out0|err0|strace)>", line):
                made[Change(call, counted[thread, call])] = None
        return ended, list(made)

    def kill(self, folder: Path, arguments: list[str], at: Change) -> Ended:
        """Run a command until a thread of it makes a change, and kill it there."""
        inject = f"inject={at.call}:signal=SIGKILL:when={at.number}"
        return self._traced(folder, arguments, "-e", inject)


def _wait_until_traced(process: int) -> None:
    for _ in range(PATIENCE * 100):
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        if "TracerPid:\t0\n" not in status:
            return
        time.sleep(0.01)
    raise AssertionError(f"strace did not seize process {process}")
