"""Encoders as Polars expressions: columns of an account table to integer feature values.

A feature value is an integer count of 1/10,000ths, ``floor(x * 10000 + 0.5)``, whatever the
encoder; the operations and their order are those that `spec.encoders` states, so that the same
text in SQL gives the same integer. What may stand in a column is checked in `contract`; here it is
taken as checked.
"""

from __future__ import annotations

import operator
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.accounts.categories import category
from gtmar.spec.encoders import (
    Bins,
    BoolEncoder,
    CurveEncoder,
    DaysBeforeEncoder,
    IdentityEncoder,
    MissingValue,
    OneOfEncoder,
    QuantileEncoder,
    RangeEncoder,
)
from gtmar.spec.model import VALUE_UNITS

if TYPE_CHECKING:
    from gtmar.spec.encoders import ScaleEncoder
    from gtmar.spec.model import Feature, ScoringSpec, Term

__all__ = [
    "NUMERIC",
    "divided",
    "encoded_terms",
    "encoded_value",
    "half_up",
    "is_missing",
    "points",
]


def half_up(x: pl.Expr, scale: int) -> pl.Expr:
    """``floor(x * scale + 0.5)``, the one rounding of this project, as a double."""
    return (x * scale + 0.5).floor()


def divided(x: pl.Expr, divisor: float) -> pl.Expr:
    """``x / divisor``, correctly rounded.

    Polars divides by a literal by multiplying with its reciprocal, which is off by one unit in the
    last place for about half of all doubles. A divisor that is a column is divided by as IEEE says;
    hence the detour.
    """
    return x / (x * 0.0 + divisor)


def is_missing(column: str, dtype: pl.DataType) -> pl.Expr:
    """Whether a value is unknown: null, or NaN in a column of floats."""
    unknown = pl.col(column).is_null()
    return unknown | pl.col(column).is_nan().fill_null(value=False) if dtype.is_float() else unknown


def _scaled(encoder: ScaleEncoder, x: pl.Expr) -> pl.Expr:
    """Apply one of the encoders that take a number."""
    if isinstance(encoder, RangeEncoder):
        low, high = encoder.from_, encoder.to
        inside = x.clip(low, high)
        return divided(high - inside if encoder.invert else inside - low, high - low)
    if isinstance(encoder, CurveEncoder):
        points = encoder.points
        shape: Any = pl.when(x <= points[0][0]).then(pl.lit(points[0][1]))
        for (x0, y0), (x1, y1) in pairwise(points):
            shape = shape.when(x <= x1).then(y0 + (y1 - y0) * divided(x - x0, x1 - x0))
        curve: pl.Expr = shape.otherwise(pl.lit(points[-1][1]))
        return curve
    if isinstance(encoder, QuantileEncoder):
        reached = reduce(operator.add, [(x >= cut).cast(pl.Int32) for cut in encoder.cuts])
        count = len(encoder.cuts)
        return divided((count - reached if encoder.invert else reached).cast(pl.Float64), count)
    return x


def _unscaled(feature: Feature, column: str, dtype: pl.DataType, as_of: pl.Expr | None) -> pl.Expr:
    """Return the encoder's double, unknowns not yet replaced."""
    encoder = feature.encode
    x = pl.col(column)
    if isinstance(encoder, BoolEncoder):
        flag = x.cast(pl.Float64)
        return 1.0 - flag if encoder.invert else flag
    if isinstance(encoder, OneOfEncoder):
        return category(column, dtype, encoder.values).replace_strict(
            list(encoder.values),
            list(encoder.values.values()),
            default=encoder.default,
            return_dtype=pl.Float64,
        )
    if isinstance(encoder, DaysBeforeEncoder):
        if as_of is None:
            raise ValueError("days_before needs as_of")  # the contract has refused this before
        # Days already, by `prepare`, in the spec's time zone.
        days = (as_of - x.dt.date()).dt.total_days().cast(pl.Float64)
        return _scaled(encoder.then, days)
    if isinstance(encoder, Bins):
        raise TypeError("bins are encoded a term at a time")
    return _scaled(encoder, x.cast(pl.Float64))


def encoded_value(
    spec: ScoringSpec, term: Term, schema: pl.Schema, as_of: pl.Expr | None = None
) -> pl.Expr:
    """Return a term's feature value in 1/10,000ths, as a double that holds an integer.

    Parameters
    ----------
    spec
        The spec.
    term
        One of its terms.
    schema
        The table's types.
    as_of
        The date that `days_before` counts from, as an expression.
    """
    feature = spec.features[term.feature]
    dtype = schema[term.column]
    unknown = is_missing(term.column, dtype)
    if isinstance(feature.encode, Bins):
        return _membership(feature.encode, term, dtype, unknown) * VALUE_UNITS
    value = _unscaled(feature, term.column, dtype, as_of)
    if isinstance(feature.missing, MissingValue):
        value = pl.when(unknown).then(pl.lit(feature.missing.value)).otherwise(value)
    return half_up(value, VALUE_UNITS)


def _membership(encoder: Bins, term: Term, dtype: pl.DataType, unknown: pl.Expr) -> pl.Expr:
    """1.0 where the account falls into the term's bin, else 0.0."""
    key = str(term.bin)
    intervals, categories = encoder.intervals, encoder.categories
    if key == "missing":
        inside = unknown
    elif key in intervals:
        x = pl.col(term.column).cast(pl.Float64)
        inside = (x >= intervals[key].low) & (x < intervals[key].high) & ~unknown
    elif key == "other":
        x = pl.col(term.column)
        named = (
            reduce(operator.or_, [(x >= i.low) & (x < i.high) for i in intervals.values()])
            if intervals
            else category(term.column, dtype, categories).is_in(categories)
        )
        inside = ~named & ~unknown
    else:
        inside = category(term.column, dtype, categories) == key
    return inside.fill_null(value=False).cast(pl.Float64)


def encoded_terms(
    spec: ScoringSpec, schema: pl.Schema, as_of: pl.Expr | None = None
) -> dict[str, pl.Expr]:
    """Return each term's feature value in 1/10,000ths as an Int64 expression, by term name."""
    return {
        term.name: encoded_value(spec, term, schema, as_of).cast(pl.Int64).alias(term.name)
        for term in spec.terms
    }


def points(term: Term) -> pl.Expr:
    """Return a term's points, unrounded, from its encoded column: weight x value / 10,000."""
    return divided((pl.col(term.name) * term.weight).cast(pl.Float64), VALUE_UNITS)


#: Encoders whose column must be a number.
NUMERIC = (IdentityEncoder, RangeEncoder, CurveEncoder, QuantileEncoder)
