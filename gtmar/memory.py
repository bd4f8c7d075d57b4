"""Limits of memory for tables and queries, and the folder for larger temporary files."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from gtmar.errors import UsageError

__all__ = ["default_budget", "parse_size", "roomy_folder"]

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
#: Share of the machine's memory that a table may take by default. The rest is for the search, the
#: system, and its cache of mapped files.
_OF_MACHINE = 0.5
#: Files with the memory limit of this process's control group, versions 2 and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 4GB, 512M or 2GiB; raise `UsageError` for another text.

    Examples
    --------
    >>> parse_size("4GB"), parse_size("500M"), parse_size("1.5 MiB")
    (4000000000, 500000000, 1572864)
    """
    size = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if size is None:
        raise UsageError(
            f'memory expects a size, got "{text}"', hint="write it as 4GB, 512MB or 2GiB"
        )
    return int(float(size[1]) * (1024 if size[3] else 1000) ** _POWERS[size[2]])


def roomy_folder() -> str:
    """Return the folder for large temporary files: TMPDIR, or /var/tmp, as /tmp often is memory."""
    lasting = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
    return os.environ.get("TMPDIR") or lasting


def default_budget() -> int:
    """Return half of the memory that this machine, or this process's control group, has."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        try:
            sizes.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or one without a limit ("max")
            continue
    return int(min(sizes) * _OF_MACHINE)
