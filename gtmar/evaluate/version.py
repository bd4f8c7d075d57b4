"""Which evaluator computed a run: a version that people raise, and a hash of the code."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

__all__ = ["EVALUATOR_VERSION", "evaluator_code"]

#: Raised whenever a number moves for the same table and spec; golden tests see to it.
EVALUATOR_VERSION = 1

_ROOM = Path(__file__).parent.parent
#: All that a number passes through on its way from table to metric.
_CODE = (
    "accounts/encode.py",
    "accounts/outcomes.py",
    "accounts/arrays.py",
    "accounts/matrix.py",
    "kernel/*.py",
    "tally.py",
    "metrics/*.py",
    "objective.py",
    "evaluate/cohorts.py",
    "evaluate/guard.py",
    "evaluate/local.py",
    "evaluate/parts.py",
)


@cache
def evaluator_code() -> str:
    """Return a hash of the evaluator's source files: information, not a condition."""
    state = hashlib.sha256()
    for pattern in _CODE:
        for path in sorted(_ROOM.glob(pattern)):
            state.update(path.relative_to(_ROOM).as_posix().encode())
            state.update(path.read_bytes())
    return state.hexdigest()[:16]
