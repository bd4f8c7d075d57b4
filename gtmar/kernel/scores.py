"""Raw scores, changes of them, and the places that they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gtmar.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Integers = NDArray[np.integer]
    Int64s = NDArray[np.int64]

__all__ = ["PLACE_BLOCK", "add_steps", "place_total", "raw_scores", "score_places"]

#: Raw scores are in 1/10,000 of a point, score values in 1/100.
RAW_PER_SCORE = 100
#: P is a multiple of this. The places at the end, one at least, are nobody's: they fill a block.
PLACE_BLOCK = 128


def place_total(max_score: int) -> int:
    """Return P: a place per score value, and some at the end that fill whole blocks.

    Examples
    --------
    >>> place_total(100)
    10112
    """
    return -(-(RAW_PER_SCORE * max_score + 2) // PLACE_BLOCK) * PLACE_BLOCK


def raw_scores(
    columns: Sequence[Integers], weights: Int64s, base: int, *, wide: bool = True
) -> Integers:
    """Score every account in full.

    Parameters
    ----------
    columns
        F arrays of shape (N,), in 1/10,000ths.
    weights
        int64, shape (F,).
    base
        Points every account starts with.
    wide
        False where the caller knows that no raw score leaves int32.

    Returns
    -------
    ndarray of int64 or int32, shape (N,)
        Raw scores in 1/10,000 of a point.

    Raises
    ------
    ShapeError
        If there isn't one weight a column.
    """
    if len(columns) != len(weights):
        raise ShapeError(
            f"weights: expected one for each of F = {len(columns)} columns, got {len(weights)}"
        )
    kind = np.int64 if wide else np.int32
    raw: Integers = np.full(len(columns[0]), base * RAW_PER_SCORE**2, dtype=kind)
    add_steps(raw, columns, list(enumerate(weights.tolist())), out=raw)
    return raw


def add_steps(
    raw: Integers,
    columns: Sequence[Integers],
    steps: Sequence[tuple[int, int]],
    *,
    out: Integers,
    spare: Integers | None = None,
) -> None:
    """Add weight changes to every account's raw score.

    Equals a full recompute, since raw scores are exact integers, at one pass over N a changed
    weight instead of F passes.

    Parameters
    ----------
    raw
        Raw scores, shape (N,). Not modified unless it is `out`.
    columns
        F arrays of shape (N,).
    steps
        Pairs of a column's number and its weight's change.
    out
        Receives the result, shape (N,), of raw's type.
    spare
        Room for a product, as large as `out`; None takes it anew.
    """
    start = raw
    for index, change in steps:
        if change:
            # Widened first: the product may leave the column's own narrow type.
            product = np.multiply(columns[index], change, dtype=out.dtype, out=spare)
            np.add(start, product, out=out)
            start = out
    if start is not out:
        np.copyto(out, start)


def score_places(raw: Integers, max_score: int) -> tuple[Integers, Int64s]:
    """Round raw scores half up to 1/100 of a point, and clip; overwrites them.

    Parameters
    ----------
    raw
        Raw scores, shape (K, n), in 1/10,000 of a point. Turned into places.
    max_score
        In points.

    Returns
    -------
    places : ndarray of raw's type, shape (K, n)
        `raw` itself, now in [0, 100 x max_score].
    clipped : ndarray of int64, shape (K, 2)
        Accounts below 0, and above the maximum, after rounding.
    """
    raw += RAW_PER_SCORE // 2
    np.floor_divide(raw, RAW_PER_SCORE, out=raw)
    top = RAW_PER_SCORE * max_score
    clipped = np.zeros((len(raw), 2), dtype=np.int64)
    # A minimum costs a fraction of a comparison and its count, and most often nobody is clipped.
    if raw.min(initial=0) < 0:
        clipped[:, 0] = [np.count_nonzero(row < 0) for row in raw]
        np.maximum(raw, 0, out=raw)
    if raw.max(initial=0) > top:
        clipped[:, 1] = [np.count_nonzero(row > top) for row in raw]
        np.minimum(raw, top, out=raw)
    return raw, clipped
