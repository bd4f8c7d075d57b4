"""A column as numbers and as levels, and whether it says what another one says already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.accounts.association import one_to_one, proportional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

__all__ = ["Content", "content_of", "few", "readings"]

#: A text column of more values is no category.
_MOST_LEVELS = 50
#: Means of two columns that are one line lie as far from the middle, up to this.
_ALIKE = 1e-6


def readings(column: pl.Series) -> tuple[Doubles | None, NDArray[np.intp] | None]:
    """Return a column as doubles, NaN where unknown, and as codes of few levels; None for neither.

    Dates count as numbers.
    """
    dtype = column.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return None, None
    if dtype.is_temporal():
        column = column.to_physical()
    values: Doubles | None = None
    if column.dtype.is_numeric() or dtype == pl.Boolean:
        column = column.cast(pl.Float64).fill_nan(None)
        values = column.to_numpy()
    else:
        column = column.cast(pl.String)
    if column.n_unique() > _MOST_LEVELS:
        return values, None
    # Ranks of the values from 1, so that 0 is free for the unknown.
    return values, column.rank("dense").fill_null(0).to_numpy().astype(np.intp)


def few(codes: NDArray[np.intp]) -> bool:
    """Whether levels are so few that each has accounts enough to tell."""
    return len(np.unique(codes)) <= len(codes) / 5


@dataclass(frozen=True)
class Content:
    """A column and what it has in common with any that says the same."""

    name: str
    key: tuple[object, ...]
    content: NDArray[Any]
    #: How far the mean is from the middle between both ends, as a share; None for categories.
    lean: float | None

    def says_the_same_as(self, other: Content) -> bool:
        """Whether both are one line, up or down, or categories that go one to one."""
        if self.lean is None or other.lean is None:
            return one_to_one(self.content, other.content)
        return abs(self.lean - other.lean) < _ALIKE and proportional(self.content, other.content)


def content_of(column: pl.Series) -> Content | None:
    """Read a column; None where it doesn't vary, or is neither number nor category."""
    values, codes = readings(column)
    if values is None:
        if codes is None or not few(codes) or len(np.unique(codes)) < 2:
            return None
        return Content(column.name, ("levels", *sorted(np.bincount(codes).tolist())), codes, None)
    known = values[~np.isnan(values)]
    if not len(known) or not np.isfinite(known).all() or known.min() == known.max():
        return None
    lean = abs((known.mean() - known.min()) / (known.max() - known.min()) - 0.5)
    return Content(column.name, ("line", len(known)), values, float(lean))
