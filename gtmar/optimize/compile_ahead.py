"""The process that compiles machine code beside a search; see `engine.numba_cache`."""

from __future__ import annotations

import os
import resource

__all__ = ["main"]

#: Of a core that others want too it gets a quarter at this level; at the lowest, a sixtieth, and a
#: large table, which gains most, would wait for half an hour.
_NICE = 5
#: Seconds of processor time after which something is wrong.
_MOST_SECONDS = 600


def main(part: str) -> None:
    """Compile a part, by its name, and the proposer's, into numba's cache, as far as need be."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    # Whatever is imported has few uses for threads here.
    os.environ |= {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}

    from gtmar.engine.numba_table import kernel_part
    from gtmar.optimize.surrogate import MACHINE_CODE

    if part != MACHINE_CODE.name:
        kernel_part(part).compile()
    MACHINE_CODE.compile()
