"""The metrics as Polars expressions over accounts, for users who have a scored table of their own.

Each function takes column names and returns one expression, for ``select`` or
``group_by("tier").agg``. Money may be in any unit; integers give exact sums. Tests hold the values
equal to those that the search computes from sums. If the table has a label, pass its column to the
revenue metrics as `retained`: an account with a null label has no known end, even if its end MRR is
filled in.
"""

from __future__ import annotations

import polars as pl

__all__ = [
    "arpa",
    "auc",
    "contraction_rate",
    "expansion_rate",
    "grr",
    "hhi",
    "logo_retention",
    "nrr",
    "quick_ratio",
    "rate",
    "tier_separation",
    "top_share",
]


def _divided(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    return pl.when(denominator != 0).then(numerator / denominator)


def _payers(start: str, retained: str | None) -> pl.Expr:
    paying = pl.col(start) > 0
    return paying if retained is None else paying & pl.col(retained).is_not_null()


def _paying(start: str, end: str, retained: str | None) -> tuple[pl.Expr, pl.Expr]:
    known, cohort = pl.col(end), _payers(start, retained)
    if retained is not None:
        # A churned account without an end MRR pays 0 at the end.
        known = pl.when(pl.col(retained) == 0).then(known.fill_null(0)).otherwise(known)
    cohort = cohort & known.is_not_null()
    return pl.col(start).filter(cohort), known.filter(cohort)


def auc(score: str = "score", label: str = "retained_6mo") -> pl.Expr:
    """Area under the ROC curve by average ranks.

    Parameters
    ----------
    score
        Column of scores; a high score means that a label of 1 is likelier.
    label
        Column of 0, 1 or null.

    Returns
    -------
    Expr
        A scalar in [0, 1] over accounts with score and label; null with one class only.

    Examples
    --------
    >>> frame = pl.DataFrame({"score": [1, 2, 2, 3], "retained_6mo": [0, 0, 1, 1]})
    >>> frame.select(auc()).item()
    0.875
    """
    known = pl.col(label).is_not_null() & pl.col(score).is_not_null()
    positive = pl.col(label).filter(known) == 1
    ranks = pl.col(score).filter(known).rank("average")
    m = positive.sum().cast(pl.Int64)
    n = positive.len().cast(pl.Int64) - m
    return _divided(ranks.filter(positive).sum() - m * (m + 1) / 2, m * n)


def nrr(start: str = "mrr", end: str = "mrr_end", retained: str | None = None) -> pl.Expr:
    """Net revenue retention of accounts with start MRR and a known end, 0 and up.

    Parameters
    ----------
    start, end
        Columns of MRR at both ends of the window.
    retained
        Column of the label; None if the table has none, so that end MRR alone shows who stayed.

    Returns
    -------
    Expr
        A scalar: end MRR over start MRR; null without start MRR.

    Examples
    --------
    >>> frame = pl.DataFrame({"mrr": [100, 50], "mrr_end": [120, 0], "retained_6mo": [1, None]})
    >>> frame.select(nrr()).item(), frame.select(nrr(retained="retained_6mo")).item()
    (0.8, 1.2)
    """
    s, e = _paying(start, end, retained)
    return _divided(e.sum(), s.sum())


def grr(start: str = "mrr", end: str = "mrr_end", retained: str | None = None) -> pl.Expr:
    """Gross revenue retention, in [0, 1]: as `nrr`, but each account's end is at most its start."""
    s, e = _paying(start, end, retained)
    return _divided(pl.min_horizontal(s, e).sum(), s.sum())


def expansion_rate(
    start: str = "mrr", end: str = "mrr_end", retained: str | None = None
) -> pl.Expr:
    """MRR gained by accounts that grew, over start MRR, 0 and up; null without start MRR."""
    s, e = _paying(start, end, retained)
    return _divided((e - s).clip(lower_bound=0).sum(), s.sum())


def contraction_rate(
    start: str = "mrr", end: str = "mrr_end", retained: str | None = None
) -> pl.Expr:
    """MRR lost by accounts that shrank but stayed, over start MRR, in [0, 1]; null if that is 0."""
    s, e = _paying(start, end, retained)
    return _divided(((s - e).clip(lower_bound=0) * (e > 0)).sum(), s.sum())


def quick_ratio(start: str = "mrr", end: str = "mrr_end", retained: str | None = None) -> pl.Expr:
    """MRR gained over MRR lost, churned MRR included, 0 and up; null without losses."""
    s, e = _paying(start, end, retained)
    return _divided((e - s).clip(lower_bound=0).sum(), (s - e).clip(lower_bound=0).sum())


def rate(outcome: str) -> pl.Expr:
    """Share of ones among known values, for win-back and activation; null if none is known."""
    known = pl.col(outcome).drop_nulls().cast(pl.Int64)
    return _divided(known.sum(), known.len())


def logo_retention(retained: str = "retained_6mo") -> pl.Expr:
    """Retained accounts over accounts with a label, in [0, 1]; null without any."""
    return rate(retained)


def arpa(start: str = "mrr", retained: str | None = None) -> pl.Expr:
    """Mean start MRR of paying accounts, in the unit of `start`; null without any."""
    paying = pl.col(start).filter(_payers(start, retained))
    return _divided(paying.sum(), paying.len())


def hhi(start: str = "mrr", tier: str = "tier", retained: str | None = None) -> pl.Expr:
    """Herfindahl-Hirschman index of start MRR over tiers, up to 10,000 points; null without MRR."""
    mrr = pl.when(_payers(start, retained)).then(pl.col(start)) if retained else pl.col(start)
    total = mrr.sum()
    by_tier = mrr.sum().over(tier)
    first = pl.col(tier).is_first_distinct()
    return pl.when(total != 0).then(((100 * by_tier.filter(first) / total) ** 2).sum())


def _beyond(score: pl.Expr, parts: int) -> pl.Expr:
    """Each account's membership in the top 1/parts by score: 1, 0, or a fraction if tied there."""
    n = score.len().cast(pl.Int64)
    lowest = score.rank("min", descending=True).cast(pl.Int64)
    tied = score.rank("max", descending=True).cast(pl.Int64) - lowest + 1
    fit = n - parts * (lowest - 1)
    return (fit / (parts * tied)).clip(0, 1)


def top_share(
    score: str = "score", start: str = "mrr", *, parts: int = 5, retained: str | None = None
) -> pl.Expr:
    """Share of MRR in the top 1/parts of paying accounts by score; null without MRR.

    Accounts tied on the boundary count in part.

    Examples
    --------
    >>> frame = pl.DataFrame({"score": [9, 5, 5, 5, 1], "mrr": [50, 20, 10, 10, 10]})
    >>> frame.select(top_share()).item()
    0.5
    """
    paying = _payers(start, retained)
    mrr = pl.col(start).filter(paying)
    share = _beyond(pl.col(score).filter(paying), parts)
    return _divided((mrr * share).sum(), mrr.sum())


def tier_separation(score: str = "score", ltv: str = "actual_ltv") -> pl.Expr:
    """Mean LTV of the best quarter by score over that of the worst quarter, above 0.

    Of accounts with LTV above 0; null with fewer than four.
    """
    valued = pl.col(ltv) > 0
    # A signed type, since the worst quarter is the top one by the negated score.
    value, by = pl.col(ltv).filter(valued), pl.col(score).cast(pl.Float64).filter(valued)
    best = (value * _beyond(by, 4)).sum()
    worst = (value * _beyond(-by, 4)).sum()
    return pl.when(valued.sum() >= 4).then(best / worst)
