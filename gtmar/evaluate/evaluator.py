"""What a run asks of an evaluator, whoever computes: this process, or many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

__all__ = ["Evaluator"]


class Evaluator(Protocol):
    """Weights in, sums out. Every evaluator gives the same sums, to the last integer."""

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector of F weights the incumbent, from which candidates are computed."""
        ...

    def sums(self, candidates: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Evaluate K candidates; return int64 (K, L, S), sums by limb in `Bands.names`' order."""
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
