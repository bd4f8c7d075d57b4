"""Tasks for processes of `engine.processes`: each imports this file, so it imports little."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gtmar.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OddError", "Sum", "end", "fail", "refuse", "stay", "threads_of_linear_algebra"]


@dataclass(frozen=True)
class Sum:
    """Adds up an array, and says what that took."""

    values: NDArray[np.int64]

    def __call__(self, number: int) -> tuple[int, int, bool, int]:
        before = own_bytes()
        total = int(self.values.sum()) + number
        return total, os.getpid(), bool(self.values.flags.writeable), own_bytes() - before


def own_bytes() -> int:
    """Return the memory that is of no file."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def threads_of_linear_algebra(number: int) -> int:
    """Return how many threads a process's own numpy shares its products among."""
    import numpy as np  # noqa: F401 - loads the library that is asked
    from threadpoolctl import threadpool_info

    assert number >= 0
    found = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    return int(max(found))


def refuse(number: int) -> int:
    if number == 3:
        raise UsageError("three is refused", hint="take four", number=3)
    return number


def end(how: int, number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), how)
    return number


def stay(folder: Path, number: int) -> int:
    """Leave a file that says so, and do nothing for longer than a test waits."""
    (folder / str(number)).touch()
    time.sleep(600)
    return number


class OddError(Exception):
    """An error whose constructor asks for more than the message that it keeps."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what} {number}")


def fail(number: int) -> int:
    """Fail as code does that nobody foresaw: by a library's error, or by one that can't travel."""
    if number == 1:
        return [0][number]
    raise OddError("no", number)
