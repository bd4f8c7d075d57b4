"""What every evaluator gives a search, and which one computed a run: its version and its code."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

__all__ = ["EVALUATOR_VERSION", "Evaluator", "evaluator_code"]


#: Raised whenever a number moves for the same table and spec; golden tests see to it.
EVALUATOR_VERSION = 1

_ROOM = Path(__file__).parent.parent
#: All that a number passes through on its way from table to metric.
_CODE = (
    "data/encode.py",
    "data/outcomes.py",
    "data/matrix.py",
    "engine/*.py",
    "metrics/*.py",
    "objective/*.py",
    "spec/combination.py",
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


class Evaluator(Protocol):
    """Weights in, sums out. Every evaluator gives the same sums, to the last integer."""

    @property
    def batch_cost(self) -> int:
        """What a batch costs beside its candidates: accounts that one is counted over meanwhile."""
        ...

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector of F weights the incumbent, from which candidates are computed."""
        ...

    def sums(self, candidates: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Evaluate K candidates; return int64 (K, L, S), sums by limb as `TierEdges.names`."""
        ...

    def frame_of(
        self, rows: NDArray[np.int64], *, only: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return sums as the frame that metrics read, the table's own constants beside them.

        Parameters
        ----------
        rows
            From `sums`.
        only
            Names of the columns wanted; None for all.
        """
        ...

    def known_of(self, rows: NDArray[np.int64], names: Collection[str]) -> dict[str, list[int]]:
        """Return some sums of K candidates by name, K integers each; `rows` are from `sums`."""
        ...

    def frame(self, candidates: Sequence[Sequence[int]]) -> pl.DataFrame:
        """Evaluate K candidates; return K rows of sums."""
        ...

    def scores(self, weights: Sequence[int]) -> NDArray[np.int64]:
        """Return score values in hundredths of a point, clipped, shape (N,), in matrix order."""
        ...
