"""Encoders by what each feature adds beside the others: a line that may bend, a level a category.

Every encoder goes from 0, its worst, to 1, its best; so equal weights say equal reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.autospec.one_column import written
from gtmar.stats.logistic import Part, fit_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.autospec.one_column import Fitted

    Doubles = NDArray[np.float64]

__all__ = ["ENOUGH_UNKNOWN", "Shape", "fit_shapes", "flag_shape", "said", "unknown_accounts"]

#: With fewer accounts whose value is unknown and whose outcome is known, theirs says nothing.
ENOUGH_UNKNOWN = 10

#: Quantiles of its known values at which a number's line may bend: the first of these that leave
#: the fit small, by the number of features.
_KNOTS = {50: (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98), 100: (0.1, 0.5, 0.9)}
#: From the first to the second of these, outermost accounts are not far out.
_INNER = (0.02, 0.98)
#: Quantiles at which a line ends where the outermost accounts lie further out than others do.
_ENDS = (0.01, 0.99)
#: A knot this near to the line through its neighbours isn't written.
_FLAT = 0.02


@dataclass(frozen=True)
class Shape:
    """An encoder's parameters as plain data, the value of an unknown, and a comment for people."""

    encode: dict[str, Any]
    #: On the encoder's scale; None for bins, which have one of their own for it.
    missing: float | None
    comment: str


def fit_shapes(frame: pl.DataFrame, fitted: dict[str, Fitted], y: Doubles) -> dict[str, Shape]:
    """Fit the encoders of all features together.

    Parameters
    ----------
    frame
        The search part, N accounts.
    fitted
        What each feature is, by its column.
    y
        Outcomes, shape (N,), more being better; NaN where unknown.

    Returns
    -------
    dict
        By feature: a number as a straight line or a curve, a flag turned, categories; the unknown
        at its own level, or at the mean where there are too few to fit one.
    """
    quantiles = next((q for most, q in _KNOTS.items() if len(fitted) <= most), ())
    marks = {name: _marks(frame[name], each, quantiles) for name, each in fitted.items()}
    parts = [_part(frame[name], each, marks[name]) for name, each in fitted.items()]
    levels = fit_levels(parts, y)
    labelled = ~np.isnan(y)
    return {
        name: _shape(each, marks[name], part, own, unknown_accounts(frame[name], labelled))
        for (name, each), part, own in zip(fitted.items(), parts, levels, strict=True)
    }


def unknown_accounts(column: pl.Series, labelled: NDArray[np.bool_]) -> int:
    """Count the accounts of which a column doesn't know the value, and `y` the outcome."""
    unknown = column.is_null()
    if column.dtype.is_float():
        unknown |= column.is_nan().fill_null(value=False)
    return int((unknown.to_numpy() & labelled).sum())


def _marks(column: pl.Series, fitted: Fitted, quantiles: tuple[float, ...]) -> tuple[Any, ...]:
    """Return what the first levels stand for: a number's knots, or the categories listed."""
    if fitted.kind != "number":
        return fitted.listed
    known = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    inner, middle = np.quantile(known, _INNER), float(np.median(known))
    low, high = float(known.min()), float(known.max())
    cut_low, cut_high = np.quantile(known, _ENDS)
    # A tail longer than all between it and the middle is cut.
    low = low if inner[0] - low <= middle - inner[0] else cut_low
    high = high if high - inner[-1] <= inner[-1] - middle else cut_high
    bends = np.quantile(known, quantiles) if quantiles else ()
    knots = sorted({written(float(q)) for q in (low, *bends, high)})
    return tuple(knots) if len(knots) > 1 else (float(known.min()), float(known.max()))


def _part(column: pl.Series, fitted: Fitted, marks: tuple[Any, ...]) -> Part:
    if fitted.kind == "flag":
        return Part.of_flag(column.cast(pl.Float64).to_numpy())
    if fitted.kind == "number":
        return Part.of_line(column.cast(pl.Float64).to_numpy(), np.array(marks))
    text = column.cast(pl.String)
    members = [(text == mark).fill_null(value=False).to_numpy() for mark in marks]
    rest = ~text.is_in(marks).fill_null(value=True)
    return Part.of_groups([*members, rest.to_numpy(), text.is_null().to_numpy()])


def _shape(
    fitted: Fitted, marks: tuple[Any, ...], part: Part, levels: Doubles, unknowns: int
) -> Shape:
    """Return a feature's encoder by its levels."""
    if fitted.kind == "flag":
        return flag_shape(fitted, part, levels, unknowns)
    count = len(marks)
    own = unknowns >= ENOUGH_UNKNOWN
    listed, unknown = levels[:count], levels[-1]
    used = [*listed, *([unknown] if own else [])]
    low, high = min(used), max(used)

    def scaled(level: float) -> float:
        return round(float(np.clip((level - low) / (high - low or 1), 0, 1)), 2)

    values = [scaled(level) for level in listed]
    sizes = part.columns.sum(axis=0)
    if fitted.kind == "number":
        encode = _line(marks, values)
        mean = float(np.average(_at(encode, marks), weights=sizes[:count]))
        missing = scaled(unknown) if own else round(mean, 2)
        points = len(encode.get("points", ()))
        text = said(fitted, f"{points} points" if points else "a line", unknowns)
        return Shape(encode, missing, text)
    # Whoever is in no listed category: their own level where there are any.
    rest = levels[count] if sizes[count] else np.average(listed, weights=sizes[:count])
    by_name = dict(zip(marks, values, strict=True))
    encode = {"kind": "one_of", "values": by_name, "default": scaled(rest)}
    mean = float(np.average([*values, scaled(rest)], weights=sizes[: count + 1]))
    missing = scaled(unknown) if own else round(mean, 2)
    return Shape(encode, missing, said(fitted, f"{count} categories", unknowns))


def flag_shape(fitted: Fitted, part: Part, levels: Doubles, unknowns: int) -> Shape:
    """Return a flag's encoder by its level and that of the unknown."""
    level, unknown = levels.tolist()
    inverted = level < 0
    encode = {"kind": "bool", **({"invert": True} if inverted else {})}
    true, absent = part.columns.mean(axis=0).tolist()
    place = true / ((1 - absent) or 1)
    if unknowns >= ENOUGH_UNKNOWN:
        place = unknown / level if level else 0.5
    missing = round(float(np.clip(1 - place if inverted else place, 0, 1)), 2)
    return Shape(encode, missing, said(fitted, "flag", unknowns))


def _line(knots: tuple[float, ...], values: list[float]) -> dict[str, Any]:
    """Write a number's shape, without the knots that lie on the line through the others."""
    kept = list(range(len(knots)))
    while len(kept) > 2:
        off = [
            abs(values[b] - np.interp(knots[b], [knots[a], knots[c]], [values[a], values[c]]))
            for a, b, c in zip(kept, kept[1:], kept[2:], strict=False)
        ]
        if min(off) > _FLAT:
            break
        del kept[1 + int(np.argmin(off))]
    ends = values[0], values[-1]
    if len(kept) == 2 and ends in ((0, 1), (1, 0), (0, 0)):
        line = {"kind": "range", "from": knots[0], "to": knots[-1]}
        return line | ({"invert": True} if ends == (1, 0) else {})
    return {"kind": "curve", "points": [[knots[place], values[place]] for place in kept]}


def _at(encode: dict[str, Any], knots: tuple[float, ...]) -> Doubles:
    """Return what a written line gives at a number's knots."""
    ends = [(encode.get("from"), 0), (encode.get("to"), 1)]
    xs, ys = zip(*encode.get("points", ends), strict=True)
    drawn = np.interp(knots, xs, ys)
    return np.asarray(1 - drawn if encode.get("invert") else drawn, dtype=np.float64)


def said(fitted: Fitted, shape: str, unknowns: int) -> str:
    """Say of a feature what people want to know first, and how its `missing` came about."""
    if unknowns >= ENOUGH_UNKNOWN:
        unknown = f"{fitted.unknown:.1%} unknown, which count as their outcomes say"
    elif fitted.unknown:
        unknown = f"{fitted.unknown:.1%} unknown, too few to fit, which count as the mean"
    else:
        unknown = "none unknown; one that comes counts as the mean"
    return f"r = {fitted.r:+.3f}; {shape}; {unknown}"
