"""Encoders as Polars expressions: a cell's category, a column's encoded value, a rule's flag."""

from __future__ import annotations

import math
import operator
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.spec.combination import Combination
from gtmar.spec.encoders import (
    Bins,
    BoolEncoder,
    CurveEncoder,
    DaysBeforeEncoder,
    DecayEncoder,
    IdentityEncoder,
    MissingValue,
    OneOfEncoder,
    QuantileEncoder,
    RangeEncoder,
    TableEncoder,
)
from gtmar.spec.model import VALUE_UNITS
from gtmar.spec.spellings import value_forms

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gtmar.spec.encoders import BinInterval, ScaleEncoder, SpecModel
    from gtmar.spec.model import Feature, ScoringSpec, Term
    from gtmar.spec.rule import Condition, Rule

__all__ = [
    "NUMERIC",
    "as_text",
    "categories_of",
    "category",
    "cell_of",
    "counts_unknown",
    "divided",
    "encoded_terms",
    "encoded_value",
    "flag_values",
    "half_up",
    "is_missing",
    "lies_in",
    "rule_holds",
    "written_otherwise",
]


#: Encoders whose column must be a number.
NUMERIC = (IdentityEncoder, RangeEncoder, CurveEncoder, QuantileEncoder, BoolEncoder)
#: Whole doubles below this fit Int64.
_WHOLE = 2.0**63


def categories_of(encoder: SpecModel) -> list[str] | None:
    """Return the categories that an encoder lists; None for an encoder without categories."""
    if isinstance(encoder, OneOfEncoder):
        return list(encoder.values)
    if isinstance(encoder, Bins) and not encoder.intervals:
        return encoder.categories
    return None


def counts_unknown(feature: Feature) -> bool:
    """Return whether a spec gives a feature's unknown values a value, instead of refusing them."""
    encoder = feature.encode
    return feature.missing != "error" or (isinstance(encoder, Bins) and "missing" in encoder.bins)


def as_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column as text, without surrounding spaces.

    Numbers lose trailing zeros of their fraction, so that 1, 1.0 and 1.00 are the same text.
    """
    x = pl.col(column)
    text = x.cast(pl.String)
    if dtype.is_float():
        # Polars writes a double beyond 10^15 with a fraction or an exponent.
        whole = (x == x.floor()) & (x.abs() < _WHOLE)
        text = pl.when(whole).then(x.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(text)
    if dtype.is_float() or dtype.is_decimal():
        text = _trimmed(text)
    elif dtype in (pl.String, pl.Categorical, pl.Enum):
        text = text.str.strip_chars(" ")
    return text.alias(column)


def category(column: str, dtype: pl.DataType, listed: Collection[str]) -> pl.Expr:
    """Return each cell's category as the spec spells it, or the cell's text if it isn't listed.

    A cell that differs from a category only by surrounding spaces, by trailing zeros of a number,
    or by the case of true and false, is that category.
    """
    text = as_text(column, dtype)
    bare = {name.strip(" "): name for name in listed}
    # Each replacement adds a step to the query plan, and dozens of them cost a second whatever the
    # number of rows, so a replacement that would change nothing is left out.
    if blanks := {b: n for b, n in bare.items() if b not in listed}:
        text = text.replace(blanks)
    forms = value_forms(listed)
    if not forms:
        return text
    form = text
    # `as_text` has already normalised numbers and flags.
    if not (dtype.is_numeric() or dtype == pl.Boolean):
        lowered = text.str.to_lowercase()
        form = pl.when(lowered.is_in(["true", "false"])).then(lowered).otherwise(_trimmed(text))
    other = {form: name for form, name in forms.items() if form != name}
    named: Any = pl.when(text.is_in(list(listed))).then(text)
    if len(other) < len(forms):
        named = named.when(form.is_in([name for name in forms if name not in other])).then(form)
    if other:
        same = form.replace_strict(other, default=None, return_dtype=pl.String)
        text = pl.coalesce(same, text)
    cell: pl.Expr = named.otherwise(text)
    return cell.alias(column)


def _trimmed(text: pl.Expr) -> pl.Expr:
    """Return numbers without trailing zeros of their fraction, as `value_form` does."""
    shorter = text.str.replace(r"^(-?(?:0|[1-9]\d*)(?:\.\d*[1-9])?)\.?0*$", "$1")
    fraction = text.str.contains(r"^-?(?:0|[1-9]\d*)\.\d+$")
    trimmed = pl.when(fraction).then(shorter).otherwise(text)
    return pl.when(trimmed == "-0").then(pl.lit("0")).otherwise(trimmed)


def written_otherwise(
    column: str, dtype: pl.DataType, listed: Collection[str]
) -> tuple[pl.Expr, list[str]] | None:
    """Return which cells equal a category as numbers but not by their spelling: 1 beside 01.

    The second item is the list of categories that are numbers. None where no category is one.
    """
    numbers = {name: each for name in listed if (each := _number(name)) is not None}
    if not numbers:
        return None
    # Two numbers in plain form are equal only if their texts are, so plain categories need a
    # comparison only with cells in another form.
    forms = set(value_forms(listed).values())
    plain = [each for name, each in numbers.items() if name in forms]
    odd = [each for name, each in numbers.items() if name not in forms]
    text = as_text(column, dtype)
    number = text.cast(pl.Float64, strict=False)
    needless = ~text.str.contains(r"^-?(?:0|[1-9]\d*)(?:\.\d+)?$")
    equal = number.is_in(odd) | (number.is_in(plain) & needless)
    return equal & ~category(column, dtype, listed).is_in(list(listed)), list(numbers)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def half_up(x: pl.Expr, scale: int) -> pl.Expr:
    """Return ``floor(x * scale + 0.5)`` as a double. All rounding in this package is this one."""
    return (x * scale + 0.5).floor()


def divided(x: pl.Expr, divisor: float) -> pl.Expr:
    """Return ``x / divisor``, correctly rounded.

    Polars replaces division by a literal with multiplication by its reciprocal, which is off by one
    unit in the last place for about half of all doubles. Division by a column follows IEEE 754, so
    the divisor is made a column here.
    """
    return x / (x * 0.0 + divisor)


def is_missing(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return whether a value is unknown: null, or NaN in a column of floats."""
    unknown = pl.col(column).is_null()
    return unknown | pl.col(column).is_nan().fill_null(value=False) if dtype.is_float() else unknown


def _scaled(encoder: ScaleEncoder | DecayEncoder, x: pl.Expr) -> pl.Expr:
    """Apply a numeric encoder to a column of doubles."""
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
    if isinstance(encoder, DecayEncoder):
        fading: Any = pl.when(x <= 0).then(1.0).when(x >= encoder.end).then(0.0)
        for day, units in encoder.near.items():
            fading = fading.when(x == day).then(units / VALUE_UNITS)
        faded: pl.Expr = fading.otherwise(pl.lit(2.0).pow(x / -encoder.half_life))
        return faded
    return x


def _unscaled(feature: Feature, column: str, dtype: pl.DataType, as_of: pl.Expr | None) -> pl.Expr:
    """Return the encoded value as a double, before unknown values are replaced."""
    encoder = feature.encode
    x = pl.col(column)
    if isinstance(encoder, BoolEncoder):
        flag = x.cast(pl.Float64)
        return 1.0 - flag if encoder.invert else flag
    if isinstance(encoder, OneOfEncoder):
        cell = category(column, dtype, encoder.values)
        values = dict(encoder.values)
        return cell.replace_strict(values, default=encoder.default, return_dtype=pl.Float64)
    if isinstance(encoder, DaysBeforeEncoder):
        if as_of is None:
            raise ValueError("days_before needs as_of")  # the contract has refused this before
        # `prepare` has already made this column days in the spec's time zone.
        days = (as_of - x.dt.date()).dt.total_days().cast(pl.Float64)
        return _scaled(encoder.then, days)
    if isinstance(encoder, Bins | TableEncoder):
        raise TypeError("bins are encoded a term at a time, and tables read no column alone")
    return _scaled(encoder, x.cast(pl.Float64))


def encoded_value(
    spec: ScoringSpec, term: Term, schema: pl.Schema, as_of: pl.Expr | None = None
) -> pl.Expr:
    """Return a term's encoded value in 1/10,000ths, as a double that holds an integer.

    Parameters
    ----------
    spec, term
        The spec, and one of its terms.
    schema
        Types of the columns that the term reads; all of them have passed the data contract.
    as_of
        The date that `days_before` counts from; None where no feature uses it.
    """
    feature = spec.features[term.feature]
    if (rule := feature.parsed_rule) is not None:
        return rule_holds(rule, schema).cast(pl.Float64) * VALUE_UNITS
    if isinstance(feature.encode, TableEncoder):
        return half_up(_in_cell(feature.encode, feature.encode.values, schema), VALUE_UNITS)
    [column] = term.columns
    dtype = schema[column]
    unknown = is_missing(column, dtype)
    if isinstance(feature.encode, Bins):
        return _membership(feature.encode, str(term.bin), column, dtype, unknown) * VALUE_UNITS
    value = _unscaled(feature, column, dtype, as_of)
    if isinstance(feature.missing, MissingValue):
        value = pl.when(unknown).then(pl.lit(feature.missing.value)).otherwise(value)
    elif feature.missing == "redistribute":
        value = pl.when(unknown).then(pl.lit(0.0)).otherwise(value)
    return half_up(value, VALUE_UNITS)


#: Numeric comparison by a rule's operator.
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


def rule_holds(rule: Rule, schema: pl.Schema) -> pl.Expr:
    """Return whether a rule holds for each account; never null.

    An unknown value fulfils no condition but ``is missing``.
    """
    return reduce(operator.and_, [_holds(c, schema[c.column]) for c in rule.conditions])


def cell_of(encoder: TableEncoder, schema: pl.Schema) -> pl.Expr:
    """Return in words which cell of a table an account is in."""
    return _in_cell(encoder, encoder.cells, schema)


def _in_cell(encoder: TableEncoder, cells: Sequence[Sequence[Any]], schema: pl.Schema) -> pl.Expr:
    """Return what stands in the cell of a table that each account is in, never null."""

    def first(side: Sequence[Condition], given: Sequence[pl.Expr]) -> pl.Expr:
        value = given[-1]
        for condition, each in reversed([*zip(side, given, strict=False)]):
            value = pl.when(_holds(condition, schema[condition.column])).then(each).otherwise(value)
        return value

    down, across = encoder.sides
    return first(down, [first(across, [*map(pl.lit, row)]) for row in cells])


def _holds(condition: Condition, dtype: pl.DataType) -> pl.Expr:
    unknown = is_missing(condition.column, dtype)
    if condition.value is None:
        return ~unknown if condition.operator == "is not missing" else unknown
    if condition.number is None:
        listed = condition.categories
        inside = category(condition.column, dtype, listed).is_in(list(listed))
        holds = ~inside if condition.operator == "not in" else inside
    else:
        x = pl.col(condition.column).cast(pl.Float64)
        holds = _COMPARE[condition.operator](x, condition.number)
    return holds.fill_null(value=False) & ~unknown


def _lies_between(column: str, interval: BinInterval) -> pl.Expr:
    x = pl.col(column).cast(pl.Float64)
    return (x >= interval.low) & (x < interval.high)


def lies_in(encoder: SpecModel, column: str, dtype: pl.DataType) -> pl.Expr:
    """Return whether a cell is one of an encoder's categories, or lies in one of its intervals."""
    if isinstance(encoder, Bins) and encoder.intervals:
        intervals = encoder.intervals.values()
        return reduce(operator.or_, [_lies_between(column, interval) for interval in intervals])
    listed = categories_of(encoder) or []
    return category(column, dtype, listed).is_in(listed)


def _membership(
    encoder: Bins, key: str, column: str, dtype: pl.DataType, unknown: pl.Expr
) -> pl.Expr:
    """Return 1.0 where an account falls into the bin of this key, else 0.0."""
    intervals = encoder.intervals
    if key == "missing":
        inside = unknown
    elif key in intervals:
        inside = _lies_between(column, intervals[key]) & ~unknown
    elif key == "other":
        inside = ~lies_in(encoder, column, dtype) & ~unknown
    else:
        inside = category(column, dtype, encoder.categories) == key
    return inside.fill_null(value=False).cast(pl.Float64)


def encoded_terms(
    spec: ScoringSpec, schema: pl.Schema, as_of: pl.Expr | None = None
) -> dict[str, pl.Expr]:
    """Return each term's encoded value in 1/10,000ths as an Int64 expression, by term name."""
    return {
        term.name: encoded_value(spec, term, schema, as_of).cast(pl.Int64).alias(term.name)
        for term in spec.terms
    }


def flag_values(spec: ScoringSpec, schema: pl.Schema) -> dict[str, pl.Expr]:
    """Return the flags that a spec's `Combination` needs of each account, 1 or 0 as Int8, by name.

    A flag tells whether a column is unknown, or whether a veto rule holds.
    """
    combination = Combination.of(spec)
    if combination is None:
        return {}
    columns = {column for each in combination.sets for column in each.shared.values()}
    flags = {f"unknown.{column}": is_missing(column, schema[column]) for column in columns}
    for rule, _ in spec.veto_ends:
        flags[f"veto.{rule.canonical}"] = rule_holds(rule, schema)
    return {name: flags[name].cast(pl.Int8) for name in combination.flags}
