"""Which columns of a wide table become features: those that predict outcomes best by themselves.

A feature has at least one point. With more features than `max_score` has points, every account
could reach the maximum; and many columns of noise would outweigh the few that tell something.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from gtmar.autospec.fit_encoders import Fitted

    Doubles = NDArray[np.float64]

__all__ = ["MOST_FEATURES", "weakest"]

#: Most features. A table with fewer columns keeps all of them.
MOST_FEATURES = 100
#: Least features of a wide table, even if chance explains them all.
_LEAST_FEATURES = 10
#: Largest share of the kept columns that may be noise.
_BY_CHANCE = 0.5
#: Numbers are cut into groups at these quantiles, so that curved effects are found, too.
_CUTS = (0.2, 0.4, 0.6, 0.8)


def weakest(
    frame: pl.DataFrame, fitted: Mapping[str, Fitted], y: Doubles, keep: Collection[str] = ()
) -> dict[str, str]:
    """Return the columns of a wide table that are too weak to be features, with the reason.

    Parameters
    ----------
    frame
        The search part, N rows.
    fitted
        What each of F columns is.
    y
        Outcomes, shape (N,), NaN where unknown.
    keep
        Columns that are never left out.

    Returns
    -------
    dict
        The reason by column; empty for a table with at most `MOST_FEATURES` columns.

    Notes
    -----
    Columns are ordered by the probability that outcomes differ as much by chance: between groups
    (fifths of a number, categories, unknown), or along a number. So many are kept that the expected
    share of noise among them is at most a half (Benjamini & Hochberg, Controlling the false
    discovery rate, 1995), but at least 10 and at most 100. Cost: F sorts of N values.
    """
    if len(fitted) <= MOST_FEATURES:
        return {}
    chance = {name: _chance(frame[name], each, y) for name, each in fitted.items()}
    order = sorted(fitted, key=chance.__getitem__)
    proven = [
        n for n, name in enumerate(order, 1) if chance[name][0] <= _BY_CHANCE * n / len(order)
    ]
    most = min(max(_LEAST_FEATURES, *proven, 0), MOST_FEATURES)
    chosen = {*order[:most], *keep}
    return {
        name: f"number {order.index(name) + 1} of {len(order)} columns by how well each alone "
        f"tells outcomes apart; {most} of them are taken"
        for name in fitted
        if name not in chosen
    }


def _chance(column: pl.Series, fitted: Fitted, y: Doubles) -> tuple[float, float]:
    """Return the p-value of a column, in [0, 1], and a number that orders columns of equal p."""
    groups = _groups(column, fitted)
    known = ~np.isnan(y)
    groups, y = groups[known], y[known] - y[known].mean()
    sizes = np.bincount(groups)
    sums = np.bincount(groups, weights=y)[sizes > 0]
    sizes = sizes[sizes > 0]
    freedom = len(sizes) - 1
    if not freedom or not y.any():
        return 1.0, 0.0
    square = float((sums**2 / sizes).sum()) / float((y**2).mean())
    # Chi-squared to a standard normal: Wilson & Hilferty 1931.
    spread = 2 / (9 * freedom)
    between = ((square / freedom) ** (1 / 3) - 1 + spread) / spread**0.5
    if fitted.kind == "categories":
        return _above(between), -between
    along = abs(fitted.r) * len(y) ** 0.5
    # The smaller of two p-values, corrected for taking the smaller one.
    return min(1.0, 2 * _above(between), 4 * _above(along)), -max(between, along)


def _above(score: float) -> float:
    """Return the probability that a standard normal variable is above a value."""
    return 0.5 * math.erfc(score / math.sqrt(2))


def _groups(column: pl.Series, fitted: Fitted) -> NDArray[np.int64]:
    """Return each account's group; 0 is the group of unknown values."""
    if fitted.kind == "categories":
        text = column.cast(pl.String).str.strip_chars(" ")
        numbers = {name: number for number, name in enumerate(fitted.listed, start=2)}
        groups = text.replace_strict(numbers, default=1, return_dtype=pl.Int64)
        return groups.set(text.is_null(), 0).to_numpy()
    x = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = x[~np.isnan(x)]
    cuts = np.unique(np.quantile(known, _CUTS)) if fitted.kind == "number" else np.array([0.5])
    return np.where(np.isnan(x), 0, 1 + np.searchsorted(cuts, x, side="right"))
