"""What a metric is, and what its formula calculates with.

A formula runs over columns of sums in a query, or over integers of Python for a few candidates: the
smallest query takes a Polars thread a tenth of a millisecond to begin. Python's integers are exact
at any size, and their conversion to doubles and the division of these are IEEE 754's, as those of
Polars are; a test compares bit by bit.

Polars is imported by what makes an expression: a journal's readers need names and units alone.
"""

from __future__ import annotations

import math
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


#: The basis of a table without end MRR.
BINARY = "binary"
#: Metrics that say something else on either basis.
_ON_BASIS = ("nrr_by_tier", "grr_by_tier", "nrr_at_20")


def basis_note(basis: str | None) -> str | None:
    """Return what to say beside NRR and GRR of this basis; None where it is observed."""
    if basis != BINARY:
        return None
    return (
        "Revenue retention (NRR, GRR) is on the binary basis: MRR is assumed flat for who stays, "
        "so it is logo retention weighted by MRR."
    )


def marked(metric: str, basis: str | None) -> str:
    """Return a metric's name, marked where it is revenue retention on the binary basis.

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
    """What formulas calculate with: a Polars expression, or integers of Python (`Exact`)."""

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
    """K integers or doubles of Python, or nulls; what is calculated with a null is null."""

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

    def where(self, others: Any) -> Exact:
        """Return the values of another where these are true, null elsewhere."""
        pairs = zip(self.values, others.values, strict=True)
        return Exact([value if holds else None for holds, value in pairs])

    def nothing(self) -> Exact:
        """Return as many nulls."""
        return Exact([None] * len(self.values))

    @staticmethod
    def added(columns: Sequence[Exact]) -> Exact:
        """Add up columns of integers."""
        return Exact([sum(row) for row in zip(*(c.values for c in columns), strict=True)])


@dataclass(frozen=True)
class Sums:
    """Names of sums, as a metric asks for them: of the whole, or of one tier.

    Parameters
    ----------
    tiers
        All tier names of the spec.
    tier
        The tier meant; None for the whole, where a tier sum is added up over all tiers.
    known
        The sums themselves, K integers each by name; None for columns of a frame to come.
    """

    tiers: tuple[str, ...]
    tier: str | None = None
    known: Mapping[str, Sequence[Any]] | None = None

    def __call__(self, name: str) -> Quantity:
        """Return a tier's sum, or the total over all tiers."""
        if self.tier is not None:
            return self.whole(tier_sum(name, self.tier))
        return added(self.each(name))

    def each(self, name: str) -> list[Quantity]:
        """Return a sum of every tier."""
        return [self.whole(tier_sum(name, tier)) for tier in self.tiers]

    def whole(self, name: str) -> Quantity:
        """Return a sum by its own name, one of the whole."""
        if self.known is not None:
            return Exact(self.known[name])
        import polars as pl

        return pl.col(name)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: its expression and all that people need to read its value."""

    #: Journal column, and name on the command line.
    key: str
    #: The question it answers.
    answers: str
    formula_of: Callable[[Sums], Quantity]
    by_tier: bool = False
    #: Outcome roles that it needs; ``label`` is any source of retention.
    needs: tuple[str, ...] = ()
    #: Why it is null where the columns are there.
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

    def expression(self, sums: Sums) -> pl.Expr:
        """Return the formula as an expression over a frame of sums."""
        return cast("pl.Expr", self.formula_of(sums))


def ratio(numerator: Quantity, denominator: Quantity) -> Quantity:
    """Divide two exact integers as doubles; null where the denominator is 0."""
    return where(nonzero(denominator), real(numerator) / real(denominator))


def nonzero(value: Quantity) -> Quantity:
    """Return where a quantity isn't 0."""
    return cast("Any", value) != 0  # type: ignore[no-any-return]  # both kinds give one of theirs


def where(condition: Quantity, value: Quantity) -> Quantity:
    """Return a value where a condition holds, null elsewhere."""
    if isinstance(condition, Exact):
        return condition.where(value)
    import polars as pl

    return pl.when(cast("pl.Expr", condition)).then(cast("pl.Expr", value))


def real(value: Quantity) -> Quantity:
    """Return the nearest doubles."""
    if isinstance(value, Exact):
        return value.real()
    import polars as pl

    return cast("pl.Expr", value).cast(pl.Float64)


def wide(value: Quantity) -> Quantity:
    """Widen a sum, so that a product of two can't wrap."""
    if isinstance(value, Exact):
        return value
    import polars as pl

    return cast("pl.Expr", value).cast(pl.Int128)


def added(values: Iterable[Quantity]) -> Quantity:
    """Add up integers."""
    listed = list(values)
    if isinstance(listed[0], Exact):
        return Exact.added(cast("list[Exact]", listed))
    import polars as pl

    return pl.sum_horizontal(cast("list[pl.Expr]", listed))


def nothing(like: Quantity) -> Quantity:
    """Return nulls, as many as `like` has values."""
    if isinstance(like, Exact):
        return like.nothing()
    import polars as pl

    return pl.lit(None, dtype=pl.Float64)
