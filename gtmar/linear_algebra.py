"""How many threads linear algebra gets in a process that is gtmar's own: one.

Its matrices are small. OpenBLAS shares each product among all cores, and threads that have nothing
to do wait by spinning; where other processes want the cores that costs many times the work itself.
numpy loads OpenBLAS, which reads its settings then and never again. `import gtmar` sets nothing, as
the process is somebody else's.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_thread_each", "use_one_thread"]

#: What OpenBLAS goes by, the first that is set.
_SETTINGS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")


def use_one_thread() -> None:
    """Have numpy, which isn't loaded yet, use one thread, unless the environment says otherwise."""
    if not any(os.environ.get(name) for name in _SETTINGS):
        os.environ[_SETTINGS[0]] = "1"


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Do the same for processes that are started meanwhile; this one's environment is put back."""
    before = os.environ.get(_SETTINGS[0])
    use_one_thread()
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SETTINGS[0], None)
        else:
            os.environ[_SETTINGS[0]] = before
