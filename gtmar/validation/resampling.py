"""An account matrix drawn anew: its outcomes shuffled among its accounts, or its accounts repeated.

Both stay ordinary matrices, so that the very same search runs over them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix

__all__ = ["bootstrapped", "repeated", "shuffled"]


def shuffled(matrix: AccountMatrix, *, seed: int, number: int) -> AccountMatrix:
    """Give every account the whole outcome of another: what is left between them is chance.

    Parameters
    ----------
    matrix
        N accounts.
    seed, number
        Key the generator; the n-th shuffle of a seed is always the same.

    Notes
    -----
    Features move, outcomes stay: MRR, end MRR and flags of an account keep together. A segment is
    what an account is, so it moves with the features.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, number]))
    order = generator.permutation(matrix.accounts)
    return replace(
        matrix,
        columns=tuple(_frozen(column[order]) for column in matrix.columns),
        segments=tuple(replace(s, codes=_frozen(s.codes[order])) for s in matrix.segments),
    )


def bootstrapped(matrix: AccountMatrix, *, seed: int, number: int) -> AccountMatrix:
    """Draw N accounts with replacement; the n-th draw of a seed is always the same."""
    generator = np.random.Generator(np.random.Philox(key=[seed, number]))
    drawn = generator.integers(0, matrix.accounts, matrix.accounts)
    return repeated(matrix, np.bincount(drawn, minlength=matrix.accounts))


def repeated(matrix: AccountMatrix, times: NDArray[np.intp]) -> AccountMatrix:
    """Return the matrix with each account as often as said, shape (N,), 0 leaving it out."""
    return matrix.take(np.repeat(np.arange(matrix.accounts), times))


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    values = np.ascontiguousarray(values)
    values.flags.writeable = False
    return values
