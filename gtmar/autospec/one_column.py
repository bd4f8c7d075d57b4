"""What a column alone says of an outcome: which sort of feature it is, and its correlation.

Its encoder comes later, beside all others: see `additive`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.stats.logistic import correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = ["Fitted", "fit_categories", "fit_flag", "fit_number", "written"]

#: Numbers beyond these quantiles count as these.
_ENDS = (0.01, 0.99)
#: A category's rate is drawn to the mean as if this many average accounts were in it.
_SHRINKAGE = 20
#: Rarer categories aren't listed.
_LEAST_ACCOUNTS = 10


@dataclass(frozen=True)
class Fitted:
    """A column as a feature.

    Parameters
    ----------
    kind
        `flag`, `number` or `categories`.
    r
        Correlation with the outcome, in [-1, 1]; 0 where either doesn't vary. Of a number, its
        own or its ranks', whichever is further from 0; of categories, that of their mean outcomes.
    unknown
        Share of accounts without a value.
    listed
        Of categories, those with ten accounts or more, sorted.
    """

    kind: str
    r: float
    unknown: float
    listed: tuple[str, ...] = ()


def written(value: float) -> float:
    """Round to four significant digits, as a person would write it."""
    return float(f"{value:.4g}")


def fit_flag(column: pl.Series, y: Doubles) -> Fitted:
    """Look at a flag."""
    x = column.cast(pl.Float64).to_numpy()
    return Fitted("flag", correlation(x, y), float(np.isnan(x).mean()))


def fit_number(column: pl.Series, y: Doubles) -> Fitted | str:
    """Look at a number, or say why it is no feature."""
    x = column.cast(pl.Float64).to_numpy()
    known = x[~np.isnan(x)]
    if known.min() == known.max():
        return f"always {known[0]:g} where it is known"
    low, high = np.quantile(known, _ENDS)
    own = correlation(np.clip(x, low, high) if low < high else x, y)
    ranks = pl.Series(x).fill_nan(None).rank("average").cast(pl.Float64).to_numpy()
    by_rank = correlation(ranks, y)
    r = by_rank if abs(by_rank) > abs(own) else own
    return Fitted("number", r, float(np.isnan(x).mean()))


def fit_categories(column: pl.Series, y: Doubles) -> Fitted | str:
    """Look at categories, or say why they are no feature."""
    frame = pl.DataFrame({"category": column.cast(pl.String).str.strip_chars(" "), "y": y}).filter(
        pl.col("y").is_not_nan() & pl.col("y").is_not_null()
    )
    mean = frame["y"].mean()
    if not isinstance(mean, float):
        return "no account has both it and an outcome"
    groups = (
        frame.drop_nulls("category")
        .group_by("category")
        .agg(accounts=pl.len(), total=pl.col("y").sum())
        .with_columns(
            rate=(pl.col("total") + _SHRINKAGE * mean) / (pl.col("accounts") + _SHRINKAGE)
        )
        .filter(pl.col("accounts") >= _LEAST_ACCOUNTS)
        .sort("category")
    )
    if groups["rate"].n_unique() < 2:
        return "no category differs from the others"
    rates = frame["category"].replace_strict(
        groups["category"], groups["rate"], default=mean, return_dtype=pl.Float64
    )
    r = correlation(rates.to_numpy(), frame["y"].to_numpy())
    unknown = column.null_count() / len(column)
    return Fitted("categories", r, unknown, tuple(groups["category"]))
