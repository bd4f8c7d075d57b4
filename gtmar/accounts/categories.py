"""Which category of a spec a cell is, as Polars expressions; the rule is `spec.categories`'."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from gtmar.spec.categories import value_forms
from gtmar.spec.encoders import Bins, OneOfEncoder

if TYPE_CHECKING:
    from collections.abc import Collection

    from gtmar.spec.encoders import SpecModel

__all__ = ["as_text", "categories_of", "category", "written_otherwise"]

#: Below this every whole double is an Int64.
_WHOLE = 2.0**63


def categories_of(encoder: SpecModel) -> list[str] | None:
    """Return the categories that an encoder lists; None for one that reads something else."""
    if isinstance(encoder, OneOfEncoder):
        return list(encoder.values)
    if isinstance(encoder, Bins) and not encoder.intervals:
        return encoder.categories
    return None


def as_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column as text; a number as it is written without zeros behind its fraction."""
    x = pl.col(column)
    text = x.cast(pl.String)
    if dtype.is_float():
        # A double beyond 10^15 would be written with a fraction or an exponent.
        whole = (x == x.floor()) & (x.abs() < _WHOLE)
        text = pl.when(whole).then(x.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(text)
    trimmed = _trimmed(text) if dtype.is_float() or dtype.is_decimal() else text
    return trimmed.alias(column)


def category(column: str, dtype: pl.DataType, listed: Collection[str]) -> pl.Expr:
    """Return each cell's category: as the spec writes it, or the cell's text where it lists none.

    Parameters
    ----------
    column
        The column.
    dtype
        Its type.
    listed
        The spec's categories.
    """
    text = as_text(column, dtype)
    forms = value_forms(listed)
    if not forms:
        return text
    lowered = text.str.to_lowercase()
    form = pl.when(lowered.is_in(["true", "false"])).then(lowered).otherwise(_trimmed(text))
    same = form.replace_strict(
        list(forms), list(forms.values()), default=None, return_dtype=pl.String
    )
    named = pl.when(text.is_in(list(listed))).then(text).otherwise(pl.coalesce(same, text))
    return named.alias(column)


def _trimmed(text: pl.Expr) -> pl.Expr:
    """Write numbers without zeros behind their fraction, as `value_form` does."""
    shorter = text.str.replace(r"^(-?(?:0|[1-9]\d*)(?:\.\d*[1-9])?)\.?0*$", "$1")
    fraction = text.str.contains(r"^-?(?:0|[1-9]\d*)\.\d+$")
    trimmed = pl.when(fraction).then(shorter).otherwise(text)
    return pl.when(trimmed == "-0").then(pl.lit("0")).otherwise(trimmed)


def written_otherwise(
    column: str, dtype: pl.DataType, listed: Collection[str]
) -> tuple[pl.Expr, list[str]] | None:
    """Say which cells equal a category as numbers and are none by their spelling: 1 beside 01.

    Returns
    -------
    tuple or None
        Whether a cell is one, and the categories meant; None where no category is a number.
    """
    numbers = {name: each for name in listed if (each := _number(name)) is not None}
    if not numbers:
        return None
    # Two numbers that are written without need are equal only where they are alike.
    forms = value_forms(listed)
    plain = [each for name, each in numbers.items() if name in forms.values()]
    odd = [each for name, each in numbers.items() if name not in forms.values()]
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
