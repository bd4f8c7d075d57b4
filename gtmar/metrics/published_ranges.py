"""Published ranges of metrics for B2B SaaS, each with its source, and when they are comparable.

`docs/metrics.md` quotes the same ranges, and explains why other metrics have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PUBLISHED", "PublishedRange", "published_sentences"]

#: Shortest and longest window, in days, that counts as the year of all published figures.
_YEAR = (350, 380)


@dataclass(frozen=True)
class PublishedRange:
    """A published range of a metric over all accounts of a company."""

    key: str
    #: Its common name.
    name: str
    low: float
    high: float
    #: The companies, and the meaning of the two ends.
    of: str
    source: str
    #: Required basis of revenue retention; None for metrics that count accounts.
    basis: str | None = None


_SAAS_CAPITAL = (
    "SaaS Capital, 2023 B2B SaaS Retention Benchmarks (Research Brief 28, early 2023, over 1,500 "
    "private companies)"
)
_CHARTMOGUL = (
    "ChartMogul, SaaS Benchmarks Report 2023 (over 2,100 companies), as Finerva reported it on 28 "
    "June 2023"
)
PUBLISHED = (
    PublishedRange(
        "nrr_by_tier",
        "NRR",
        1.00,
        1.10,
        "medians, from contracts below $12,000 a year to those above $250,000",
        _SAAS_CAPITAL,
        "observed",
    ),
    PublishedRange(
        "grr_by_tier",
        "GRR",
        0.90,
        0.93,
        "medians, from contracts below $12,000 a year to those above $250,000",
        _SAAS_CAPITAL,
        "observed",
    ),
    PublishedRange(
        "logo_retention_by_tier",
        "logo retention",
        0.75,
        0.92,
        "what the best companies reach, from accounts below $25 a month to those above $1,000",
        _CHARTMOGUL,
    ),
)


def published_sentences(
    totals: Mapping[str, float | None], *, days: int | None, basis: str | None
) -> list[str]:
    """Compare a table's own values with published ranges, one sentence a metric.

    Parameters
    ----------
    totals
        Values over all tiers by the key of the metric.
    days
        Length of the outcome window; None if unknown. The published figures are of a year, so
        there are no sentences for any other length.
    basis
        `observed` or `binary` revenue retention; None without MRR.

    Examples
    --------
    >>> published_sentences({"grr_by_tier": 0.881}, days=365, basis="observed")[0][:52]
    'GRR over all tiers: 88.1%. Published: 90% to 93%, me'
    >>> published_sentences({"grr_by_tier": 0.881}, days=181, basis="observed")
    []
    """
    if days is None or not _YEAR[0] <= days <= _YEAR[1]:
        return []
    return [
        f"{each.name[0].upper()}{each.name[1:]} over all tiers: {value:.1%}. Published: "
        f"{each.low:.0%} to {each.high:.0%}, {each.of}. {each.source}."
        for each in PUBLISHED
        if (value := totals.get(each.key)) is not None and each.basis in (None, basis)
    ]
