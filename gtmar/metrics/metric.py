"""What revenue retention rests on: observed end MRR, or MRR that is assumed flat (binary)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import polars as pl

from gtmar.engine.tally import tier_sum
from gtmar.metrics.exact import Exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "BINARY",
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
    told = basis == BINARY and metric.partition(".")[0] in _ON_BASIS
    return f"{metric} ({BINARY})" if told else metric


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
    known: Mapping[str, Sequence[int]] | None = None

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
        if self.known is None:
            return pl.col(name)
        return Exact(self.known[name])


@dataclass(frozen=True)
class Metric:
    """One metric: its expression and all that people need to read its value."""

    #: Journal column, and name on the command line.
    key: str
    #: The question it answers.
    answers: str
    formula_of: Callable[[Sums], Quantity]
    by_tier: bool
    #: Outcome roles that it needs; ``label`` is any source of retention.
    needs: tuple[str, ...]
    #: Why it is null where the columns are there.
    null_when: str
    unit: str
    range: str
    better: Literal["higher", "lower", "neither"]
    formula: str
    source: str
    #: True for counts, which are integers and never null.
    count: bool = False

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
    return pl.when(cast("pl.Expr", condition)).then(cast("pl.Expr", value))


def real(value: Quantity) -> Quantity:
    """Return the nearest doubles."""
    return value.real() if isinstance(value, Exact) else cast("pl.Expr", value).cast(pl.Float64)


def wide(value: Quantity) -> Quantity:
    """Widen a sum, so that a product of two can't wrap."""
    return value if isinstance(value, Exact) else cast("pl.Expr", value).cast(pl.Int128)


def added(values: Iterable[Quantity]) -> Quantity:
    """Add up integers."""
    listed = list(values)
    if isinstance(listed[0], Exact):
        return Exact.added(cast("list[Exact]", listed))
    return pl.sum_horizontal(cast("list[pl.Expr]", listed))


def nothing(like: Quantity) -> Quantity:
    """Return nulls, as many as `like` has values."""
    return like.nothing() if isinstance(like, Exact) else pl.lit(None, dtype=pl.Float64)
