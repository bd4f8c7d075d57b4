"""The top fifth and both end quarters: which place each ends on, and the cents on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gtmar.kernel.scores import PLACE_BLOCK
from gtmar.kernel.totals import boundary_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["boundaries"]

#: As `numpy.sum`, without the detour that small arrays feel.
_sum = np.add.reduce


def boundaries(cohorts: NDArray[np.int64], money: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum the top fifth of the paying accounts, and both end quarters of the LTV cohort.

    Parameters
    ----------
    cohorts
        int64, shape (K, 2, places): paying and valued accounts, in whole blocks of places.
    money
        int64, shape (K, 5, L, places): as in `Counts`.

    Returns
    -------
    ndarray of int64, shape (K, L, 16)
        As `boundary_rows` gives them.
    """
    candidates = len(money)
    blocks = cohorts.reshape(candidates, 2, -1, PLACE_BLOCK)
    reached = np.cumsum(_sum(blocks, axis=-1), axis=-1)
    paying, valued = reached[..., -1].T
    # Each boundary is the first place up to which more accounts lie than these: four fifths of the
    # paying, three quarters of the valued, and, of the worst quarter, one less than a quarter.
    least = np.stack([paying * 4 // 5, valued * 3 // 4, -(-valued // 4) - 1], axis=1)
    cohort = np.array([0, 1, 1])
    reached, each = reached[:, cohort], np.arange(candidates)[:, None]
    block = np.minimum(_sum(reached <= least[..., None], axis=-1), reached.shape[-1] - 1)
    inner = blocks[each, cohort, block]
    within = np.cumsum(inner, axis=-1)
    within += (reached[each, np.arange(3), block] - within[..., -1])[..., None]
    place = np.minimum(_sum(within <= least[..., None], axis=-1), PLACE_BLOCK - 1)
    upto, tied = within[each, np.arange(3), place], inner[each, np.arange(3), place]
    place += block * PLACE_BLOCK

    _, on, above = _around(money, place[:, [0, 0, 0, 0, 1]])
    below, last, _ = _around(money[:, -1:], place[:, 2:])
    return boundary_rows(
        (paying, valued),
        np.stack([upto, tied], axis=-1),
        (above[..., :-1], on[..., :-1]),
        np.concatenate([above[..., -1:], on[..., -1:], below, last], axis=-1),
    )


def _around(
    money: NDArray[np.int64], place: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sum what lies below, on and above a place; (K, M, L, places) and (K, M) to (K, L, M) each."""
    *rows, places = money.shape
    ends = np.stack([np.zeros_like(place), place, np.minimum(place + 1, places - 1)], axis=-1)
    first = places * np.arange(np.prod(rows)).reshape(*rows, 1)
    parts = np.add.reduceat(money.reshape(-1), (first + ends[:, :, None]).reshape(-1))
    below, on, above = parts.reshape(*rows, 3).transpose(3, 0, 2, 1)
    # Of an empty run, `reduceat` gives the place itself.
    return below * (place > 0)[:, None], on, above * (place < places - 1)[:, None]
