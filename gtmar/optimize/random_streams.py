"""What chance decides for `learned`: numbers from a pinned stream, and moves by them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Raw = NDArray[np.uint64]

__all__ = ["Draws", "Stream", "random_moves"]

#: A move changes one to this many weights.
_MOST_CHANGES = 3

#: A sum of four uniform 16-bit numbers, less its mean, over this is about standard normal.
_LOW_HALVES = np.uint64(0x0000FFFF0000FFFF)
_NORMAL_MEAN, _NORMAL_SPREAD = 131_070.0, math.sqrt((65_536**2 - 1) / 3)


class Stream:
    """The pinned stream of a seed: the raw output of one generator, a sequence for each number."""

    def __init__(self, seed: int) -> None:
        # Sent to the start of another sequence: a new generator costs three times as much.
        self._philox = np.random.Philox(key=[seed, 0])
        self._start = self._philox.state
        self._key = self._start["state"]["key"]

    def raw(self, number: int, count: int) -> Raw:
        """Return the first numbers of a sequence, 64 bits each."""
        self._key[1] = number
        self._philox.state = self._start
        return self._philox.random_raw(count)


class Draws:
    """Numbers in the order of a stream, mapped by integers alone.

    Parameters
    ----------
    raw
        What the stream gave, 64 bits each; at least as many as are drawn.
    """

    def __init__(self, raw: Raw) -> None:
        self._left = raw

    def raw(self, count: int) -> Raw:
        """Return 64 bits each."""
        drawn, self._left = self._left[:count], self._left[count:]
        return drawn

    def uniform(self, count: int) -> Doubles:
        """Return numbers in [0, 1)."""
        return (self.raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, rows: int, columns: int) -> Doubles:
        """Return about standard normal numbers."""
        raw = self.raw(rows * columns)
        low = (raw & _LOW_HALVES) + ((raw >> np.uint64(16)) & _LOW_HALVES)
        sums = (low & np.uint64(2**32 - 1)) + (low >> np.uint64(32))
        scaled: Doubles = (sums.astype(np.float64) - _NORMAL_MEAN) / _NORMAL_SPREAD
        return scaled.reshape(rows, columns)


def below(raw: Raw, ends: int | Integers) -> Integers:
    """Return whole numbers in [0, end), for one end or for one each, at most 2^32."""
    high = raw >> np.uint64(32)
    scaled: Raw = (high * np.asarray(ends, dtype=np.uint64)) >> np.uint64(32)
    return scaled.astype(np.int64)


def random_moves(
    draws: Draws, here: Integers, lows: Integers, highs: Integers, *, count: int
) -> Integers:
    """Return moves by chance as `RandomProposer` makes them.

    Parameters
    ----------
    draws
        The stream.
    here, lows, highs
        int64, shape (F,): the incumbent's weights that may move, and their bounds.
    count
        How many.

    Returns
    -------
    ndarray of int64, shape (count, F)
        A vector a row, each different from the incumbent.
    """
    width = len(here)
    sizes = 1 + below(draws.raw(count), min(_MOST_CHANGES, width))
    chosen = draws.raw(_MOST_CHANGES * count)
    stepped = draws.raw(int(sizes.sum()))
    reach = np.maximum(1, -(-3 * np.abs(here) // 10))
    down = np.minimum(reach, here - lows)
    span = down + np.minimum(reach, highs - here)
    # Distinct places: each is drawn from those that are left.
    first, second, third = (
        below(raw, max(1, width - order)) for order, raw in enumerate(np.split(chosen, 3))
    )
    second += second >= first
    third += third >= np.minimum(first, second)
    third += third >= np.maximum(first, second)
    moves = np.tile(here, (count, 1))
    rows = np.arange(count)
    used_up = 0
    for order, places in enumerate((first, second, third)):
        used = sizes > order
        place = places[used]
        drawn = below(stepped[used_up : used_up + len(place)], span[place])
        used_up += len(place)
        moves[rows[used], place] += drawn - down[place] + (drawn >= down[place])
    return moves
