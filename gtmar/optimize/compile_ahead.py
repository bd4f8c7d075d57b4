"""The process that compiles machine code beside a search; see `engine.numba_cache`."""

from __future__ import annotations

import os
import resource

__all__ = ["main"]

#: Nice level of the process. On a contended core it gets a quarter of the time; at the lowest
#: priority it would get a sixtieth, and large tables, which gain most, would wait half an hour.
_NICE = 5
#: Limit of processor time in seconds, far above what compilation needs.
_MOST_SECONDS = 600


def main(part: str) -> None:
    """Compile the named part and the proposer's into numba's cache, unless they are cached."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    # The imported libraries need no thread pools here.
    os.environ |= {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}

    from gtmar.engine.numba_table import kernel_part
    from gtmar.optimize.surrogate import MACHINE_CODE

    if part != MACHINE_CODE.name:
        kernel_part(part).compile()
    MACHINE_CODE.compile()
