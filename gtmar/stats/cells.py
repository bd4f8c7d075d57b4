"""The few cells of two columns that hold most of what is left over: numpy alone.

Each column is cut into levels. Neighbouring levels of a number, and any of categories, make a row
or a place across, so that what is off a model's predictions differs from cell to cell as much as it
can, less a penalty for each cell. Rows are found beside places, then places beside these rows, and
so on while that is worth more, from a few starts: all ways to cut two columns at once are too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Places = NDArray[np.intp]

__all__ = ["CellGroups", "best_cells"]

#: So many of the best corners are begun from, and as many orders of the places across.
_BEGUN = 3
#: Worth is compared in these units, so that the last digits of sums of doubles decide nothing.
_UNIT = 1e-6
#: Rows are found beside places, and places beside rows, so many times at most.
_ROUNDS = 20


@dataclass(frozen=True)
class CellGroups:
    """Which row each level of one column is in, shape (L,), and which place each of another."""

    down: Places
    across: Places
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
        Whether the levels of each column have an order that cuts keep to. Any of the others may
        stand together.
    most
        Rows and places at most.
    ridge, penalty
        What a cell's level is drawn to nothing by, and what each cell costs.

    Returns
    -------
    CellGroups or None
        None where a column has one level.

    Notes
    -----
    Cuts of an ordered column are the best of all beside the groups of the other one, by dynamic
    programming. Categories move one at a time from group to group. Cost: some 20 ms for 32 x 32
    levels.
    """
    if min(off.shape) < 2:
        return None
    whole = _Sums(_interplay(off, known), known, ridge, penalty)
    best: CellGroups | None = None
    for start in whole.starts(ordered, most):
        groups = _alternated(whole, start, ordered, most)
        if best is None or groups.worth > best.worth + _UNIT:
            best = groups
    return best


def _alternated(whole: _Sums, across: Places, ordered: tuple[bool, bool], most: int) -> CellGroups:
    """Find rows beside places, then places beside these rows, and so on while that pays."""
    best: CellGroups | None = None
    down: Places | None = None
    for _ in range(_ROUNDS):
        down = whole.beside(across).grouped(down, most, ordered=ordered[0])
        beside = whole.turned.beside(down)
        across = beside.grouped(across, most, ordered=ordered[1])
        worth = beside.worth(across)
        if best is not None and worth <= best.worth + _UNIT:
            break
        best = CellGroups(down, across, round(worth, 6))
    assert best is not None  # of the first round
    return best


def _interplay(off: Doubles, known: Doubles) -> Doubles:
    """Take off what changes of both columns' own levels explain."""
    rows = len(off)
    bend = np.block([[np.diag(known.sum(1)), known], [known.T, np.diag(known.sum(0))]])
    own = np.concatenate([off.sum(1), off.sum(0)])
    levels = np.linalg.solve(bend + np.eye(len(bend)), own)
    return np.asarray(off - known * (levels[:rows, None] + levels[None, rows:]))


@dataclass(frozen=True)
class _Sums:
    """What is off, and the information, by levels of one column and levels or groups of another.

    Both have shape (L, G).
    """

    off: Doubles
    known: Doubles
    ridge: float
    penalty: float

    @property
    def turned(self) -> _Sums:
        return _Sums(self.off.T, self.known.T, self.ridge, self.penalty)

    def beside(self, groups: Places) -> _Sums:
        """Add up the levels of the second column that are in one group."""
        member = np.eye(groups.max() + 1)[groups]
        return _Sums(self.off @ member, self.known @ member, self.ridge, self.penalty)

    def gain(self, off: Doubles, known: Doubles) -> Doubles:
        """Return what groups of levels are worth, from their sums along the last axis."""
        return np.asarray((off**2 / (np.maximum(known, 0) + self.ridge)).sum(axis=-1) / 2)

    def worth(self, groups: Places) -> float:
        """Return what all cells are worth together."""
        rows = self.turned.beside(groups).turned
        return float(self.gain(rows.off, rows.known).sum()) - self.penalty * rows.off.size

    def order(self, vector: int) -> Places:
        """Order levels by what they are off along a singular vector of the other column."""
        scaled = self.off / np.sqrt(self.known + self.ridge)
        along = np.linalg.svd(scaled, full_matrices=False)[0][:, vector]
        # The sign of a singular vector is chance; rounding keeps ties in one order.
        sign = 1 if along[np.abs(along).argmax()] > 0 else -1
        at = np.round(sign * along / np.sqrt(self.known.sum(axis=1) + self.ridge), 9)
        return np.argsort(at, kind="stable")

    def starts(self, ordered: tuple[bool, bool], most: int) -> list[Places]:
        """Return places of the second column: as the best corners cut it, and of equal sizes."""
        down, across = (
            np.arange(len(each.off)) if in_order else each.order(0)
            for each, in_order in zip((self, self.turned), ordered, strict=True)
        )
        columns = len(across)
        begun = [
            _placed(across, [cut])
            for cut in dict.fromkeys(self._corners(down, across)[:_BEGUN].tolist())
        ]
        for vector in range(1 if ordered[1] else min(_BEGUN, *self.off.shape)):
            order = across if ordered[1] else self.turned.order(vector)
            share = self.known.sum(axis=0)[order].cumsum()
            ends = np.searchsorted(share, share[-1] * np.arange(1, most) / most) + 1
            if cuts := sorted({*ends.tolist()} - {columns}):
                begun.append(_placed(order, cuts))
        return begun

    def _corners(self, down: Places, across: Places) -> Places:
        """Return where the second column is cut once, the other one too, the best first."""
        off, known = (
            each[np.ix_(down, across)].cumsum(axis=0).cumsum(axis=1)
            for each in (self.off, self.known)
        )
        four = [
            np.stack(
                [
                    each[:-1, :-1],
                    each[:-1, -1:] - each[:-1, :-1],
                    each[-1:, :-1] - each[:-1, :-1],
                    each[-1, -1] - each[:-1, -1:] - each[-1:, :-1] + each[:-1, :-1],
                ],
                axis=-1,
            )
            for each in (off, known)
        ]
        worth = np.round(self.gain(*four), 6)
        return np.asarray(1 + np.argsort(-worth, axis=None, kind="stable") % worth.shape[1])

    def grouped(self, now: Places | None, most: int, *, ordered: bool) -> Places:
        """Return the groups of levels, two at least, that are worth most beside the others'."""
        if ordered:
            return self.cut(np.arange(len(self.off)), most)
        starts = [self.cut(self.order(0), most), *([] if now is None else [now])]
        options = [self.exchanged(each, most) for each in starts]
        return max(options, key=lambda groups: round(self.worth(groups), 6))

    def cut(self, order: Places, most: int) -> Places:
        """Cut levels in an order where that is worth most: the best of all ways to."""
        count, cells = self.off.shape
        off, known = (
            np.pad(each[order].cumsum(axis=0), ((1, 0), (0, 0))) for each in (self.off, self.known)
        )
        # Of all levels from one to before another, in whole units, whose sums have no rounding.
        gain = self.gain(off[None] - off[:, None], known[None] - known[:, None])
        units = np.round((gain - self.penalty * cells) / _UNIT)
        # What levels up to each are worth at best, in one group, two and so on.
        reached, begins = [units[0]], []
        for _ in range(1, min(most, count)):
            both = np.where(np.tri(count + 1, k=-1).T > 0, reached[-1][:, None] + units, -np.inf)
            # A group before has a level at least.
            both[: len(reached)] = -np.inf
            begins.append(both.argmax(axis=0))
            reached.append(both.max(axis=0))
        groups = 1 + int(np.argmax([each[-1] for each in reached[1:]]))
        cuts = [count]
        for begin in begins[groups - 1 :: -1]:
            cuts.append(int(begin[cuts[-1]]))
        return _placed(order, cuts[:0:-1])

    def exchanged(self, groups: Places, most: int) -> Places:
        """Move single levels to other groups, and join groups, while that is worth more."""
        groups = groups.copy()
        member = np.eye(most)[groups]
        off, known = member.T @ self.off, member.T @ self.known
        moved = True
        while moved:
            moved = False
            for level, here in enumerate(groups.tolist()):
                own = self.off[level], self.known[level]
                worth = self.gain(off, known)
                more = self.gain(off + own[0], known + own[1]) - worth
                more += self.gain(off[here] - own[0], known[here] - own[1]) - worth[here]
                more[here] = 0
                to = int(np.round(more, 6).argmax())
                if more[to] > _UNIT:
                    for sums, each in zip((off, known), own, strict=True):
                        sums[here] -= each
                        sums[to] += each
                    groups[level], moved = to, True
        return self._joined(_numbered(groups))

    def _joined(self, groups: Places) -> Places:
        """Make two groups one while that is worth more, two groups being left at least."""
        while (count := int(groups.max()) + 1) > 2:
            fewer = [
                _numbered(np.where(groups == one, other, groups))
                for one in range(count)
                for other in range(one)
            ]
            best = max(fewer, key=lambda each: round(self.worth(each), 6))
            if self.worth(best) <= self.worth(groups) + _UNIT:
                break
            groups = best
        return groups


def _placed(order: Places, cuts: list[int]) -> Places:
    """Return each level's group, where an order of the levels is cut, ascending."""
    groups = np.empty(len(order), dtype=np.intp)
    groups[order] = np.searchsorted(cuts, np.arange(len(order)), side="right")
    return groups


def _numbered(groups: Places) -> Places:
    """Number groups anew from 0, in the order in which their first levels come."""
    number = {each: at for at, each in enumerate(dict.fromkeys(groups.tolist()))}
    return np.array([number[each] for each in groups.tolist()], dtype=np.intp)
