"""What a metric is, and the sums that its expression reads.

A metric is one Polars expression over sums: exact integers in, one division last. The same
expression decides a search, fills the journal and stands on every page; there is no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from gtmar.tally import tier_sum

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Metric", "Sums", "ratio", "wide"]


@dataclass(frozen=True)
class Sums:
    """Names of sums, as a metric asks for them: of the whole, or of one tier.

    Parameters
    ----------
    tiers
        All tier names of the spec.
    tier
        The tier meant; None for the whole, where a tier sum is added up over all tiers.
    """

    tiers: tuple[str, ...]
    tier: str | None = None

    def __call__(self, name: str) -> pl.Expr:
        """Return a tier's sum, or the total over all tiers."""
        if self.tier is not None:
            return pl.col(tier_sum(name, self.tier))
        return pl.sum_horizontal(self.each(name))

    def each(self, name: str) -> list[pl.Expr]:
        """Return a sum of every tier."""
        return [pl.col(tier_sum(name, tier)) for tier in self.tiers]


@dataclass(frozen=True)
class Metric:
    """One metric: its expression and all that people need to read its value."""

    #: Journal column, and name on the command line.
    key: str
    #: The question it answers.
    answers: str
    expression: Callable[[Sums], pl.Expr]
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


def ratio(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """Divide two exact integers as doubles; null where the denominator is 0."""
    divided = numerator.cast(pl.Float64) / denominator.cast(pl.Float64)
    return pl.when(denominator != 0).then(divided)


def wide(value: pl.Expr) -> pl.Expr:
    """Widen a sum, so that a product of two can't wrap."""
    return value.cast(pl.Int128)
