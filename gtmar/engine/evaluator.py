"""The interface of evaluators, and what identifies the one that computed a run."""

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


#: Goes up whenever any number changes for the same table and spec; golden tests notice that.
EVALUATOR_VERSION = 1

_ROOM = Path(__file__).parent.parent
#: The source files that compute a number on its way from table to metric.
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
    """Return a hash of the evaluator's source files.

    A run records it for information; a replay compares values whether it differs or not.
    """
    state = hashlib.sha256()
    for pattern in _CODE:
        for path in sorted(_ROOM.glob(pattern)):
            state.update(path.relative_to(_ROOM).as_posix().encode())
            state.update(path.read_bytes())
    return state.hexdigest()[:16]


class Evaluator(Protocol):
    """Turns weights into sums. All evaluators give the same sums, to the last integer.

    Letters of shapes: N accounts, F weights, K candidates, L limbs of money, S sums.
    """

    @property
    def batch_cost(self) -> int:
        """What a call costs whatever its number of candidates.

        In accounts: a candidate could be counted over so many of them in the same time.
        """
        ...

    def move(self, weights: Sequence[int]) -> None:
        """Make F weights the incumbent: a candidate costs only what differs from it."""
        ...

    def sums(self, candidates: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Evaluate K candidates; return int64 (K, L, S), in the order of `TierEdges.names`."""
        ...

    def frame_of(
        self, rows: NDArray[np.int64], *, only: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return sums as the frame that metrics read: K rows, a column for each sum.

        The table's own constant `CEILING` is a column, too.

        Parameters
        ----------
        rows
            int64 (K, L, S), from `sums`.
        only
            Names of the columns wanted; None for all.
        """
        ...

    def known_of(self, rows: NDArray[np.int64], names: Collection[str]) -> dict[str, list[int]]:
        """Return some sums of K candidates by name, K integers each; `rows` are from `sums`."""
        ...

    def frame(self, candidates: Sequence[Sequence[int]]) -> pl.DataFrame:
        """Evaluate K candidates; return their sums as `frame_of` does."""
        ...

    def scores(self, weights: Sequence[int]) -> NDArray[np.int64]:
        """Return int64 (N,): clipped scores in hundredths of a point, in the matrix's row order."""
        ...
