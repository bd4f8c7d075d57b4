"""Fitting one column's encoder to an outcome: ends, shapes, category values, unknowns.

Plain numpy on the search part's values; the numbers found go into the spec, rounded as people
would write them, and are never refitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = ["Fitted", "fit_categories", "fit_flag", "fit_number"]

#: A curve is preferred to a range only where its correlation is clearly larger.
_CURVE_GAIN = 0.01
_CURVE_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
#: A category's rate is drawn to the mean as if this many average accounts were in it.
_SHRINKAGE = 20
#: Rarer categories take the default.
_LEAST_ACCOUNTS = 10


@dataclass(frozen=True)
class Fitted:
    """An encoder's parameters as plain data, the value of an unknown, and a comment for people."""

    encode: dict[str, Any]
    missing: float | None
    comment: str
    #: Correlation with the outcome, before any turn.
    r: float


def correlation(x: Doubles, y: Doubles) -> float:
    """Pearson correlation over pairs known on both sides; 0 where either doesn't vary."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _unknown_value(x: Doubles, y: Doubles) -> float | None:
    """Place the unknown where their mean outcome lies on the line through the known."""
    unknown = np.isnan(x)
    if not unknown.any():
        return None
    known = ~unknown & ~np.isnan(y)
    their = y[unknown & ~np.isnan(y)]
    if not len(their) or known.sum() < 2 or x[known].std() == 0:
        return 0.0
    slope, intercept = np.polyfit(x[known], y[known], 1)
    if abs(slope) < 1e-12:
        return 0.5
    return round(float(np.clip((their.mean() - intercept) / slope, 0, 1)), 2)


def _comment(r: float, x: Doubles, shape: str) -> str:
    unknown = float(np.isnan(x).mean())
    missing = f"; {unknown:.1%} unknown" if unknown else ""
    return f"r = {r:+.3f}; {shape}{missing}"


def fit_flag(column: pl.Series, y: Doubles) -> Fitted:
    """Fit a flag: 1 where it goes with the better outcome."""
    x = column.cast(pl.Float64).to_numpy()
    r = correlation(x, y)
    encode: dict[str, Any] = {"kind": "bool", **({"invert": True} if r < 0 else {})}
    if r < 0:
        x = 1 - x
    return Fitted(encode, _unknown_value(x, y), _comment(r, x, "flag"), r)


def fit_number(column: pl.Series, y: Doubles) -> Fitted | str:
    """Fit a number: a straight line between its 1st and 99th percentile, or a curve by rank."""
    x = column.cast(pl.Float64).to_numpy()
    known = x[~np.isnan(x)]
    if known.min() == known.max():
        return f"always {known[0]:g} where it is known"
    low, high = _ends(known)
    straight = (np.clip(x, low, high) - low) / (high - low)
    r = correlation(straight, y)
    points = _rank_points(known)
    bent = straight
    if len(points) > 2:
        bent = np.interp(x, [p for p, _ in points], [share for _, share in points])
    r_bent = correlation(bent, y)
    if abs(r_bent) > abs(r) + _CURVE_GAIN:
        if r_bent < 0:
            points, bent = [(p, round(1 - share, 2)) for p, share in points], 1 - bent
        encode: dict[str, Any] = {"kind": "curve", "points": [list(p) for p in points]}
        comment = _comment(r_bent, x, "curve through its ranks")
        return Fitted(encode, _unknown_value(bent, y), comment, r_bent)
    encode = {"kind": "range", "from": low, "to": high}
    if r < 0:
        encode["invert"], straight = True, 1 - straight
    return Fitted(encode, _unknown_value(straight, y), _comment(r, x, "1st to 99th percentile"), r)


def _ends(known: Doubles) -> tuple[float, float]:
    """Return two different ends, outliers cut where that leaves something."""
    low, high = (_written(float(q)) for q in np.quantile(known, [0.01, 0.99]))
    if low < high:
        return low, high
    return float(known.min()), float(known.max())


def _rank_points(known: Doubles) -> list[tuple[float, float]]:
    """Return points (value, share of accounts below it), ascending in both, from 0 to 1."""
    ordered = np.sort(known)
    xs = sorted({_written(float(q)) for q in np.quantile(known, _CURVE_QUANTILES)})
    below = np.searchsorted(ordered, xs, side="left") + np.searchsorted(ordered, xs, side="right")
    share = below / (2 * len(ordered))
    if len(xs) < 2 or share[-1] == share[0]:
        return []
    scaled = (share - share[0]) / (share[-1] - share[0])
    return [(x, round(float(s), 2)) for x, s in zip(xs, scaled, strict=True)]


def _written(value: float) -> float:
    """Round to four significant digits, as a person would write it."""
    return float(f"{value:.4g}")


def fit_categories(column: pl.Series, y: Doubles) -> Fitted | str:
    """Fit categories: each worth its mean outcome, the rare drawn to the mean, from 0 to 1."""
    frame = pl.DataFrame({"category": column.cast(pl.String), "y": y}).filter(
        pl.col("y").is_not_nan() & pl.col("y").is_not_null()
    )
    mean = frame["y"].mean()
    if not isinstance(mean, float):
        return "no account has both it and an outcome"
    groups = (
        frame.group_by("category")
        .agg(accounts=pl.len(), total=pl.col("y").sum())
        .with_columns(
            rate=(pl.col("total") + _SHRINKAGE * mean) / (pl.col("accounts") + _SHRINKAGE)
        )
        .sort("category", nulls_last=True)
    )
    listed = groups.filter(pl.col("category").is_not_null(), pl.col("accounts") >= _LEAST_ACCOUNTS)
    low, high = listed["rate"].min(), listed["rate"].max()
    if not isinstance(low, float) or not isinstance(high, float) or low == high:
        return "no category differs from the others"

    def scaled(rate: float) -> float:
        return round(min(1.0, max(0.0, (rate - low) / (high - low))), 2)

    values = {row["category"]: scaled(row["rate"]) for row in listed.iter_rows(named=True)}
    unknown = groups.filter(pl.col("category").is_null())
    missing = None
    if column.null_count():
        missing = scaled(unknown["rate"][0]) if len(unknown) else scaled(mean)
    encode = {"kind": "one_of", "values": values, "default": scaled(mean)}
    replaced = frame["category"].replace_strict(
        list(values), list(values.values()), default=scaled(mean), return_dtype=pl.Float64
    )
    r = correlation(replaced.to_numpy(), frame["y"].to_numpy())
    share = column.null_count() / len(column)
    shape = f"{len(values)} categories by their mean outcome"
    comment = f"r = {r:+.3f}; {shape}" + (f"; {share:.1%} unknown" if share else "")
    return Fitted(encode, missing, comment, r)
