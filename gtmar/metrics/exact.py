"""Integers of Python as quantities: a formula over a few candidates, without a query.

The smallest query takes a Polars thread a tenth of a millisecond to begin, more than a formula over
eight candidates takes. Python's integers are exact at any size, and their conversion to doubles and
the division of these are IEEE 754's, as those of Polars are; a test compares bit by bit.
"""

from __future__ import annotations

import math
from operator import add, ge, gt, mul, ne, sub, truediv
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Exact"]


class Exact:
    """K integers or doubles of Python, or nulls; what is calculated with a null is null.

    Parameters
    ----------
    values
        K of them.
    """

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values

    def _with(self, other: object, operator: Callable[[Any, Any], Any]) -> Exact:
        if isinstance(other, Exact):
            pairs = zip(self.values, other.values, strict=True)
            return Exact([None if a is None or b is None else operator(a, b) for a, b in pairs])
        return Exact([None if a is None else operator(a, other) for a in self.values])

    def __add__(self, other: object) -> Exact:
        return self._with(other, add)

    __radd__ = __add__

    def __sub__(self, other: object) -> Exact:
        return self._with(other, sub)

    def __mul__(self, other: object) -> Exact:
        return self._with(other, mul)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Exact:
        """Divide doubles; null where the divisor is 0, which no formula asks for."""
        return self._with(other, lambda a, b: truediv(a, b) if b else None)

    def __gt__(self, other: object) -> Exact:
        return self._with(other, gt)

    def __ge__(self, other: object) -> Exact:
        return self._with(other, ge)

    def __ne__(self, other: object) -> Exact:  # type: ignore[override]  # as an expression has it
        return self._with(other, ne)

    __hash__ = None  # type: ignore[assignment]  # a column is not one value

    def sqrt(self) -> Exact:
        """Return square roots."""
        return Exact([None if a is None else math.sqrt(a) for a in self.values])

    def pow(self, exponent: int) -> Exact:
        """Return powers."""
        return Exact([None if a is None else a**exponent for a in self.values])

    def real(self) -> Exact:
        """Return the nearest doubles."""
        return Exact([None if a is None else float(a) for a in self.values])

    def where(self, value: Any) -> Exact:
        """Return the values of another where these are true, null elsewhere."""
        pairs = zip(self.values, value.values, strict=True)
        return Exact([found if holds else None for holds, found in pairs])

    def nothing(self) -> Exact:
        """Return as many nulls."""
        return Exact([None] * len(self.values))

    @staticmethod
    def added(columns: Sequence[Exact]) -> Exact:
        """Add up columns of integers."""
        return Exact([sum(row) for row in zip(*(c.values for c in columns), strict=True)])
