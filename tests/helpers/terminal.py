"""A terminal of a given width that commands run in, as people have one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

import forks

__all__ = ["Output", "completions", "in_terminal"]

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Output:
    """What a command wrote to its terminal."""

    raw: str
    exit_code: int

    @property
    def text(self) -> str:
        """What is read: without colours and movements of the cursor."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        """Lines as they stand in the end; what a line was drawn over with is not among them."""
        return [line.rpartition("\r")[2] for line in self.text.split("\n")]

    def coloured(self, colour: int) -> list[str]:
        """Return the texts in an ANSI colour: 31 red, 32 green, 33 yellow."""
        return re.findall(rf"\x1b\[(?:\d+;)*{colour}m(.*?)\x1b\[0m", self.raw)


def in_terminal(*words: str, folder: Path, columns: int = 80, **environment: str) -> Output:
    """Run gtmar in a pseudo-terminal of so many columns, all three streams bound to it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    kept.pop("GTMAR_JOURNAL", None)
    process = forks.start(
        *words,
        terminal=theirs,
        folder=folder,
        environment={**kept, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    read = bytearray()
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            # Linux says so when the other end is closed.
            break
        if not chunk:
            break
        read += chunk
    os.close(ours)
    code = process.wait()
    assert code is not None
    return Output(read.decode("utf-8"), code)


def completions(line: str, *, folder: Path, **environment: str) -> list[str]:
    """Return what bash is offered after a line and a tab."""
    words = line.split(" ")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "gtmar")],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if k != "GTMAR_JOURNAL"},
            "_GTMAR_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()
