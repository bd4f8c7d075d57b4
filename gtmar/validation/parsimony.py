"""The parsimony curve: how well fewer features separate accounts that stay from those that leave.

Backward elimination drops the feature that matters least, given those that are left, by Wald's
approximation of the change of Akaike's criterion. Five-fold cross-validation gives the AUC of each
size: for each fold, the other four select the features, fit their weights, and fit the encoders
that depend on outcomes. Encoders that had seen the fold's outcomes would make a column of noise
seem predictive. So the curve favours neither large sizes nor the sizes that were selected.

References
----------
Lawless & Singhal 1978 for backward elimination without refitting each candidate; Breiman, Friedman,
Olshen & Stone 1984, section 3.4.3, for the smallest size within one standard error; DeLong, DeLong
& Clarke-Pearson 1988 for that error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.stats.logistic import fit_logistic
from gtmar.stats.paired_auc import folded_difference, placed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gtmar.stats.logistic import Fit

    Doubles = NDArray[np.float64]

__all__ = ["Parsimony", "Size", "parsimony"]

_FOLDS = 5
#: Ridge penalty on each coefficient, per whole range of its feature, in units of information; the
#: same as in `optimize.logistic_start`.
_RIDGE = 1.0


@dataclass(frozen=True)
class Size:
    """The performance of a number of features."""

    features: int
    #: Mean AUC over the folds; None if a fold has accounts of one class only.
    auc: float | None
    #: The best size's AUC minus this one, and its standard error, accounts paired.
    loss: float | None
    error: float | None
    #: The AUC of all features minus this one, and its standard error.
    behind_all: float | None
    behind_all_error: float | None
    #: The feature that is dropped next, selected on all accounts; None for the last size.
    next_out: str | None


@dataclass(frozen=True)
class Parsimony:
    """The curve, all features first, and the smallest size within one standard error."""

    sizes: tuple[Size, ...]
    chosen: int

    def kept(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the features of the chosen size, in the order of `names`."""
        out = {size.next_out for size in self.sizes if size.features > self.chosen}
        return tuple(name for name in names if name not in out)


def parsimony(
    columns: Doubles,
    feature_of: Sequence[str],
    stayed: NDArray[np.bool_],
    groups: NDArray[np.integer],
    *,
    always: Sequence[str] = (),
    encoded: Callable[[NDArray[np.bool_]], Doubles] | None = None,
) -> Parsimony:
    """Compute the curve over N accounts.

    Parameters
    ----------
    columns
        Shape (N, P): encoded values.
    feature_of
        P names: the feature of each column.
    stayed
        Shape (N,): whether each account stayed; both classes must occur.
    groups
        Shape (N,), 0 or more: rows with the same number, as of one account, are in the same fold.
    always
        Features that are never dropped.
    encoded
        Returns `columns` with the encoders fitted to the accounts in a mask, shape (N,); None if no
        encoder depends on outcomes.

    Returns
    -------
    Parsimony
        Of all features alone, without values, if a fold has accounts of one class only.

    Notes
    -----
    Cost: six times as many regressions as features, each some ten passes over N x P values.
    """
    x = _scaled(columns)
    names = tuple(dict.fromkeys(feature_of))
    place = np.array([names.index(name) for name in feature_of])
    fixed = frozenset(names.index(name) for name in always)
    order, _ = _eliminate(x, stayed, place, fixed)
    least = len(names) - len(order)
    fold_of = groups % _FOLDS
    by_fold: list[list[tuple[Doubles, Doubles]]] = []
    for fold in range(_FOLDS):
        out = fold_of == fold
        if not (_both(stayed[out]) and _both(stayed[~out])):
            sizes = (Size(len(names), None, None, None, None, None, None),)
            return Parsimony(sizes, len(names))
        own = x if encoded is None else _scaled(encoded(~out))
        _, fits = _eliminate(own[~out], stayed[~out], place, fixed)
        by_fold.append([placed(own[out] @ fit, stayed[out]) for fit in fits])
    by_size = list(zip(*by_fold, strict=True))
    aucs = [float(np.mean([up.mean() for up, _ in folds])) for folds in by_size]
    best = by_size[int(np.argmax(aucs))]
    listed = []
    for step, (auc, folds) in enumerate(zip(aucs, by_size, strict=True)):
        behind = folded_difference(folds, best), folded_difference(folds, by_size[0])
        following = names[order[step]] if step < len(order) else None
        listed.append(Size(len(names) - step, auc, *behind[0], *behind[1], following))
    within = [s.features for s in listed if s.loss is not None and s.loss <= (s.error or 0.0)]
    return Parsimony(tuple(listed), max(1, least, min(within)))


def _scaled(columns: Doubles) -> Doubles:
    reach = np.ptp(columns, axis=0)
    return np.asarray(columns / np.where(reach > 0, reach, 1.0))


def _both(stayed: NDArray[np.bool_]) -> bool:
    return len(stayed) > 0 and bool(stayed.any()) and not bool(stayed.all())


def _eliminate(
    x: Doubles, stayed: NDArray[np.bool_], place: NDArray[np.intp], fixed: frozenset[int]
) -> tuple[list[int], list[Doubles]]:
    """Return the features in the order of elimination, and the weights (P,) of each size."""
    y = stayed.astype(np.float64)
    left = list(range(x.shape[1]))
    order: list[int] = []
    fits: list[Doubles] = []
    start: Doubles | None = None
    while left:
        own = np.ascontiguousarray(x[:, left])
        fit = fit_logistic(lambda own=own: [(own, y)], _RIDGE * np.eye(len(left)), start=start)  # type: ignore[misc] # bound at once
        whole = np.zeros(x.shape[1])
        whole[left] = fit.coefficients
        fits.append(whole)
        there = sorted({int(place[column]) for column in left})
        free = [feature for feature in there if feature not in fixed]
        if len(there) == 1 or not free:
            break
        going = min(free, key=lambda feature: _worth(fit, place[left] == feature))
        order.append(going)
        stays = place[left] != going
        start = fit.place[np.concatenate([[True], stays])]
        left = [column for column, kept in zip(left, stays, strict=True) if kept]
    return order, fits


def _worth(fit: Fit, own: NDArray[np.bool_]) -> float:
    """Return how much dropping a feature's columns would raise Akaike's criterion, by Wald."""
    b = fit.coefficients[own]
    spread = fit.covariance[np.ix_(own, own)]
    return float(b @ np.linalg.solve(spread, b)) - 2 * len(b)
