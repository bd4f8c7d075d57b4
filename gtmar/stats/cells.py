"""The few cells of two columns that hold most of what is left over: numpy alone.

Each column is cut into levels. Neighbouring levels of a number, and any of categories, make a row
or a place across, so that what is off a model's predictions differs from cell to cell as much as it
can, less a penalty for each cell. It is found by the best single corner, cuts added and moved one
at a time; greedy, as all ways to cut two columns three times each are too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = ["CellGroups", "best_cells"]

#: How many of the best corners are begun from.
_BEGUN = 3


@dataclass(frozen=True)
class CellGroups:
    """Which row each level of one column is in, shape (L,), and which place each of another."""

    down: NDArray[np.intp]
    across: NDArray[np.intp]
    #: Gain in log-likelihood, about, less the penalty.
    worth: float

    @property
    def count(self) -> int:
        """How many cells there are."""
        return int((self.down.max() + 1) * (self.across.max() + 1))


def best_cells(
    off: Doubles,
    known: Doubles,
    *,
    ordered: tuple[bool, bool],
    most: int,
    ridge: float,
    penalty: float,
) -> CellGroups | None:
    """Return the rows and places of two columns, of L and L' levels, that are worth most.

    Parameters
    ----------
    off, known
        What outcomes are off, and the information of the accounts, by both levels, shape (L, L').
    ordered
        Whether the levels of each column have an order that cuts keep to. Others are ordered by
        how their outcomes are off, along the levels of the other column.
    most
        Rows and places at most.
    ridge, penalty
        What a cell's level is drawn to nothing by, and what each cell costs.

    Returns
    -------
    CellGroups or None
        None where a column has one level.
    """
    if min(off.shape) < 2:
        return None
    own = _interplay(off, known)
    left, _, right = np.linalg.svd(own / np.sqrt(known + ridge), full_matrices=False)
    orders = []
    for axis, (in_order, along) in enumerate(zip(ordered, (left[:, 0], right[0]), strict=True)):
        # The sign of a singular vector is chance; rounding keeps ties in one order.
        sign = 1 if along[np.abs(along).argmax()] > 0 else -1
        place = np.round(sign * along / np.sqrt(known.sum(axis=1 - axis) + ridge), 9)
        orders.append(np.arange(len(place)) if in_order else np.argsort(place, kind="stable"))
    sums = _Sums.of(own[np.ix_(*orders)], known[np.ix_(*orders)], ridge, penalty)
    worth, cuts = max(
        (sums.climbed(start, most) for start in sums.corners()), key=lambda found: found[0]
    )
    groups = [np.empty(len(order), dtype=np.intp) for order in orders]
    for group, order, some in zip(groups, orders, cuts, strict=True):
        group[order] = np.searchsorted(some, np.arange(len(order)), side="right")
    return CellGroups(groups[0], groups[1], worth)


def _interplay(off: Doubles, known: Doubles) -> Doubles:
    """Take off what changes of both columns' own levels explain."""
    rows = len(off)
    bend = np.block([[np.diag(known.sum(1)), known], [known.T, np.diag(known.sum(0))]])
    own = np.concatenate([off.sum(1), off.sum(0)])
    levels = np.linalg.solve(bend + np.eye(len(bend)), own)
    return np.asarray(off - known * (levels[:rows, None] + levels[None, rows:]))


#: Where the two columns are cut, each ascending.
_Cuts = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class _Sums:
    """Sums over all levels below a row and a place, shape (L + 1, L' + 1)."""

    off: Doubles
    known: Doubles
    ridge: float
    penalty: float

    @classmethod
    def of(cls, off: Doubles, known: Doubles, ridge: float, penalty: float) -> _Sums:
        ends = (1, 0), (1, 0)
        off, known = (np.pad(x.cumsum(0).cumsum(1), ends) for x in (off, known))
        return cls(off, known, ridge, penalty)

    def worth(self, cuts: _Cuts) -> float:
        ends = np.ix_(
            *([0, *own, size - 1] for own, size in zip(cuts, self.off.shape, strict=True))
        )
        off, known = (np.diff(np.diff(x[ends], axis=0), axis=1) for x in (self.off, self.known))
        gain = float((off**2 / (known + self.ridge)).sum()) / 2
        return round(gain - self.penalty * off.size, 6)

    def corners(self) -> list[_Cuts]:
        """Return the best ways to cut either column once."""
        rows, places = (range(1, size - 1) for size in self.off.shape)
        every: list[_Cuts] = [((row,), (place,)) for row in rows for place in places]
        return sorted(every, key=lambda cuts: (-self.worth(cuts), cuts))[:_BEGUN]

    def climbed(self, cuts: _Cuts, most: int) -> tuple[float, _Cuts]:
        """Add, move and drop cuts, the best change first, while that is worth more."""
        now = self.worth(cuts)
        while True:
            reached, other = max(
                ((self.worth(each), each) for each in self._near(cuts, most)),
                default=(now, cuts),
                key=lambda found: found[0],
            )
            if reached <= now:
                return now, cuts
            now, cuts = reached, other

    def _near(self, cuts: _Cuts, most: int) -> Iterator[_Cuts]:
        for axis, size in enumerate(self.off.shape):
            own, free = cuts[axis], [at for at in range(1, size - 1) if at not in cuts[axis]]
            fewer = [tuple(each for each in own if each != cut) for cut in own]
            changed = [*fewer] if len(own) > 1 else []
            changed += [tuple(sorted((*some, at))) for some in fewer for at in free]
            if len(own) < most - 1:
                changed += [tuple(sorted((*own, at))) for at in free]
            for each in changed:
                yield (each, cuts[1]) if axis == 0 else (cuts[0], each)
