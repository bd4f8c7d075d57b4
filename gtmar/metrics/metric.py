"""The `Metric` record, and the two kinds of quantity that its formula works on.

A formula runs either over columns of sums in a Polars query, or, for a few candidates, over Python
integers: even the smallest query costs a tenth of a millisecond. Python's integers are exact at any
size, and converting them to doubles and dividing these follow IEEE 754, as in Polars; a test
compares the results bit by bit.

Polars is imported only where an expression is built, as readers of a journal need just names and
units.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from operator import add, ge, gt, mul, ne, sub, truediv
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from gtmar.engine.sum_names import tier_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import polars as pl

__all__ = [
    "BINARY",
    "Exact",
    "Metric",
    "Quantity",
    "Sums",
    "added",
    "basis_note",
    "marked",
    "nonzero",
    "nothing",
    "ratio",
    "real",
    "where",
    "wide",
]


#: Basis of revenue retention of a table without end MRR.
BINARY = "binary"
#: Metrics whose meaning depends on the basis.
_ON_BASIS = ("nrr_by_tier", "grr_by_tier", "nrr_at_20")


def basis_note(basis: str | None) -> str | None:
    """Return the note that goes with NRR and GRR on this basis; None unless it is binary."""
    if basis != BINARY:
        return None
    return (
        "Revenue retention (NRR, GRR) is on the binary basis: MRR is assumed flat for who stays, "
        "so it is logo retention weighted by MRR."
    )


def marked(metric: str, basis: str | None) -> str:
    """Return a metric's name, marked if it is revenue retention on the binary basis.

    Examples
    --------
    >>> marked("nrr_by_tier.A", "binary"), marked("nrr_by_tier.A", "observed")
    ('nrr_by_tier.A (binary)', 'nrr_by_tier.A')
    >>> marked("auc_roc_retain", "binary")
    'auc_roc_retain'
    """
    on_basis = basis == BINARY and metric.partition(".")[0] in _ON_BASIS
    return f"{metric} ({BINARY})" if on_basis else metric


class Quantity(Protocol):
    """The operand type of formulas: a Polars expression, or Python numbers (`Exact`)."""

    def __add__(self, other: Any, /) -> Quantity: ...
    def __radd__(self, other: Any, /) -> Quantity: ...
    def __sub__(self, other: Any, /) -> Quantity: ...
    def __mul__(self, other: Any, /) -> Quantity: ...
    def __rmul__(self, other: Any, /) -> Quantity: ...
    def __truediv__(self, other: Any, /) -> Quantity: ...
    def __gt__(self, other: Any, /) -> Quantity: ...
    def __ge__(self, other: Any, /) -> Quantity: ...
    def sqrt(self) -> Quantity:
        """Return the square root."""
        ...

    def pow(self, exponent: int, /) -> Quantity:
        """Return a power."""
        ...


class Exact:
    """A column of K Python integers or doubles, or None; arithmetic with None gives None."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values

    def _with(self, other: object, operator: Callable[[Any, Any], Any]) -> Exact:
        others = other.values if isinstance(other, Exact) else [other] * len(self.values)
        if None in self.values or None in others:
            pairs = zip(self.values, others, strict=True)
            return Exact([None if a is None or b is None else operator(a, b) for a, b in pairs])
        return Exact(list(map(operator, self.values, others)))

    def __add__(self, other: object) -> Exact:
        return self._with(other, add)

    __radd__ = __add__

    def __sub__(self, other: object) -> Exact:
        return self._with(other, sub)

    def __mul__(self, other: object) -> Exact:
        return self._with(other, mul)

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Exact:
        """Divide doubles; None where the divisor is 0, which `ratio` masks anyway."""
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


@dataclass(frozen=True)
class Sums:
    """The sums that a formula works on, by name: of one tier, or of all accounts.

    Parameters
    ----------
    tiers
        All tier names of the spec.
    tier
        The metric's tier; None for all accounts, where a tier sum is added up over the tiers.
    known
        The sums, K integers each by name; None to refer to columns of a frame.
    """

    #: All tier names of the spec.
    tiers: tuple[str, ...]
    #: The metric's tier; None for all accounts, where a tier sum is added up over the tiers.
    tier: str | None = None
    #: The sums, K integers each by name; None to refer to columns of a frame.
    known: Mapping[str, Sequence[Any]] | None = None

    def __call__(self, name: str) -> Quantity:
        """Return the sum of the tier, or the total over all tiers."""
        if self.tier is not None:
            return self.whole(tier_sum(name, self.tier))
        return added(self.each(name))

    def each(self, name: str) -> list[Quantity]:
        """Return the sum of every tier."""
        return [self.whole(tier_sum(name, tier)) for tier in self.tiers]

    def whole(self, name: str) -> Quantity:
        """Return a sum by its full name."""
        if self.known is not None:
            return Exact(self.known[name])
        import polars as pl

        return pl.col(name)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: its formula, and its description for readers of its value."""

    #: Journal column, and name on the command line.
    key: str
    #: The question that the metric answers.
    answers: str
    formula_of: Callable[[Sums], Quantity]
    by_tier: bool = False
    #: Required outcome roles; ``label`` is any source of retention.
    needs: tuple[str, ...] = ()
    #: Why the value is null although the required columns exist.
    null_when: str = "no account"
    unit: str = "ratio"
    range: str = "0 to 1"
    better: Literal["higher", "lower", "neither"] = "higher"
    formula: str
    source: str = "gtmar"
    #: True for counts, which are integers and never null.
    count: bool = False

    @property
    def sign(self) -> int:
        """-1 where less is better, else 1."""
        return -1 if self.better == "lower" else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest possible value by `range`; infinite where it names no number."""
        stated = self.range.partition(";")[0]
        ends = re.fullmatch(r"(?:above )?([\d.]+)(?: and up| to (?:([\d.]+)|\w+))?", stated)
        if ends is None:
            return -math.inf, math.inf
        return float(ends[1]), math.inf if ends[2] is None else float(ends[2])

    def expression(self, sums: Sums) -> pl.Expr:
        """Return the formula as an expression over a frame of sums."""
        return cast("pl.Expr", self.formula_of(sums))


def ratio(numerator: Quantity, denominator: Quantity) -> Quantity:
    """Divide two exact integers as doubles; null where the denominator is 0."""
    return where(nonzero(denominator), real(numerator) / real(denominator))


def nonzero(value: Quantity) -> Quantity:
    """Return a condition: whether a quantity isn't 0."""
    return cast("Any", value) != 0  # type: ignore[no-any-return]  # both kinds give one of theirs


def where(condition: Quantity, value: Any) -> Quantity:
    """Return a value where a condition holds, null elsewhere."""
    if isinstance(condition, Exact):
        pairs = zip(condition.values, value.values, strict=True)
        return Exact([each if holds else None for holds, each in pairs])
    import polars as pl

    return pl.when(cast("pl.Expr", condition)).then(value)


def real(value: Quantity) -> Quantity:
    """Convert to the nearest doubles."""
    if isinstance(value, Exact):
        return Exact([None if a is None else float(a) for a in value.values])
    import polars as pl

    return cast("pl.Expr", value).cast(pl.Float64)


def wide(value: Quantity) -> Quantity:
    """Widen a sum to 128 bits, so that a product can't overflow."""
    if isinstance(value, Exact):
        return value
    import polars as pl

    return cast("pl.Expr", value).cast(pl.Int128)


def added(values: Iterable[Any]) -> Quantity:
    """Add up integers."""
    listed = list(values)
    if isinstance(listed[0], Exact):
        return Exact([sum(row) for row in zip(*(each.values for each in listed), strict=True)])
    import polars as pl

    return pl.sum_horizontal(listed)


def nothing(like: Quantity) -> Quantity:
    """Return nulls in the shape of `like`."""
    if isinstance(like, Exact):
        return Exact([None] * len(like.values))
    import polars as pl

    return pl.lit(None, dtype=pl.Float64)
