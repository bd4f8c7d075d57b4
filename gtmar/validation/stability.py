"""Whether the same weights would be found from other accounts of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gtmar.validation.resampling import bootstrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.validation.permutation import Rehearsal

__all__ = ["WeightStability", "read_weights", "searched_again"]


@dataclass(frozen=True)
class WeightStability:
    """One weight in searches over resampled accounts.

    Parameters
    ----------
    name
        The term's.
    start, found
        Weight that the searches start from, and the one in question.
    low, middle, high
        Median of the weights found, and the ends between which 95 % of them lie.
    sign_held
        Share of searches whose weight has the sign of `found`, 0 being a sign of its own.
    direction_held
        Share of searches that moved the weight from its start the way `found` lies; None where
        that is the start.
    reading
        `holds` where the ends have one sign; `noise` where 0 lies between them, so that nobody can
        say whether it is for or against an account; `fixed` where its bounds leave no room.
    """

    name: str
    start: int
    found: int
    low: float
    middle: float
    high: float
    sign_held: float
    direction_held: float | None
    reading: Literal["holds", "noise", "fixed"]


def searched_again(
    rehearsal: Rehearsal,
    matrix: AccountMatrix,
    *,
    searches: int,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Search bootstrap resamples of the accounts.

    Returns
    -------
    ndarray of int64, shape (searches, F)
        The weights that each one ended with. Cost: that of `searches` runs.
    """
    found = []
    for number in range(1, searches + 1):
        found.append(rehearsal.over(bootstrapped(matrix, seed=seed, number=number)).weights)
        if watch is not None:
            watch(number, searches)
    return np.array(found, dtype=np.int64)


def read_weights(
    rehearsal: Rehearsal, found: Sequence[int], drawn: NDArray[np.int64]
) -> tuple[WeightStability, ...]:
    """Say of each weight what the searches made of it.

    Parameters
    ----------
    rehearsal
        The search; its spec has the starts and bounds.
    found
        Weights in question, F of them.
    drawn
        Shape (searches, F).
    """
    read = []
    for place, term in enumerate(rehearsal.spec.terms):
        column, weight = drawn[:, place], found[place]
        low, middle, high = (float(v) for v in np.quantile(column, [0.025, 0.5, 0.975]))
        moved = weight - term.weight
        reading: Literal["holds", "noise", "fixed"] = "noise" if low <= 0 <= high else "holds"
        read.append(
            WeightStability(
                name=term.name,
                start=term.weight,
                found=weight,
                low=low,
                middle=middle,
                high=high,
                sign_held=float((np.sign(column) == np.sign(weight)).mean()),
                direction_held=float((np.sign(column - term.weight) == np.sign(moved)).mean())
                if moved
                else None,
                reading="fixed" if term.fixed else reading,
            )
        )
    return tuple(read)
