"""Synthetic account tables with planted signals, for examples, tests and first steps.

The planted effects are public (`KINDS`), so that anyone can check whether a search finds them. A
table depends only on its kind, size and seed. All draws are uniform draws of numpy's PCG64, shaped
here by closed formulas, because numpy guarantees that bit stream across releases but not the
streams of its other distributions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from gtmar.errors import UsageError, culprits, did_you_mean

__all__ = ["KINDS", "Logit", "TableKind", "generate"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Column = npt.NDArray[Any]
Signals = Mapping[str, Column]
Planted = Mapping[str, "Logit"]
Columns = dict[str, Column | pl.Series]


@dataclass(frozen=True)
class Logit:
    """The planted log-odds of an event, linear in the signals.

    A signal is a feature as it is in the table, or its value after the example spec's encoder. Each
    category is a signal of its own, such as `industry=software`, which is 1 where it holds.
    """

    #: Log-odds where all signals are 0.
    intercept: float
    #: Change of the log-odds per unit, by signal. 0.0 for a feature without effect.
    strengths: Mapping[str, float]

    def probability(self, signals: Signals) -> Floats:
        """Return each account's probability of the event, shape (N,)."""
        pulls = (strength * signals[name] for name, strength in self.strengths.items())
        return np.asarray(1.0 / (1.0 + np.exp(-sum(pulls, self.intercept))))


@dataclass(frozen=True)
class TableKind:
    """One kind of table: its description, its shipped size and seed, and its planted effects."""

    #: One line for a list of kinds.
    description: str
    #: Accounts in the shipped table.
    accounts: int
    #: Seed of the shipped table.
    seed: int
    #: Log-odds by event, the label first. The other events concern retained accounts (expanded,
    #: contracted), new ones (activated) or former ones (won_back).
    planted: Planted


def _logit(intercept: float, **strengths: float) -> Logit:
    return Logit(intercept, MappingProxyType(strengths))


# Piecewise linear encoders of signals that saturate, as in the example specs.
LOGIN_CURVE = ((0.0, 14.0, 60.0), (0.0, 0.3, 1.0))
VISITS_CURVE = ((0.0, 500.0, 5_000.0, 50_000.0), (0.0, 0.3, 0.7, 1.0))
# By feature and category: the share of accounts, and the change of the log-odds of staying.
# "missing" is null in the table. The formatter is off, so that the literals keep their table form.
# fmt: off
FIRMOGRAPHICS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "industry": {
        "software": (0.24, 0.9), "fintech": (0.12, 0.7), "healthcare": (0.14, 0.3),
        "manufacturing": (0.14, 0.0), "retail": (0.13, -0.6), "education": (0.08, -0.2),
        "media": (0.08, -0.4), "logistics": (0.07, 0.0)},
    "region": {
        "north_america": (0.46, 0.2), "emea": (0.31, 0.0), "apac": (0.15, -0.2),
        "latam": (0.08, -0.4)},
    "employee_band": {
        "missing": (0.08, -0.5), "1-10": (0.20, -0.9), "11-50": (0.24, 0.0), "51-200": (0.21, 0.7),
        "201-1000": (0.15, 0.9), "1001-5000": (0.08, 0.4), "5001+": (0.04, 0.0)},
    "funding_stage": {
        "missing": (0.22, 0.0), "bootstrapped": (0.24, 0.0), "seed": (0.15, -0.5),
        "series_a": (0.14, 0.0), "series_b": (0.10, 0.5), "series_c_plus": (0.08, 0.7),
        "public": (0.07, 0.4)},
}
TECH_STACK: Mapping[str, tuple[float, float]] = {
    "uses_salesforce": (0.38, 1.0), "uses_hubspot": (0.31, -0.3), "uses_slack": (0.64, 0.0),
    "uses_snowflake": (0.22, 0.7)}

#: Every kind of table by name, in display order.
KINDS: Mapping[str, TableKind] = MappingProxyType({
    "health_score": TableKind(
        description="product usage of current and former accounts, all outcomes known",
        # The table is small for strengths as close as 2.0 and 1.8. With 14 of the first 42 seeds,
        # each of 20 searches from the example spec finds the planted order and drops the noise.
        accounts=5_000, seed=22,
        planted=MappingProxyType({
            # Hitting the credit limit is a good sign, since it takes real use.
            "retained_6mo": _logit(
                -1.5, alert_created=2.5, session_depth=2.0, activation_speed=1.8, has_exported=1.0,
                credit_limit_hits=0.8, days_active_norm=0.5, email_engagement=0.3, rage_clicks=-0.5,
                search_intensity=0.0, export_activity=0.0, has_searched=0.0, has_saved=0.0,
                noise_feature_1=0.0, noise_feature_2=0.0),
            "expanded": _logit(-2.3, credit_limit_hits=1.6, session_depth=1.2),
            "contracted": _logit(-1.9, rage_clicks=1.6, days_active_norm=-1.4),
            "activated": _logit(-2.0, activation_speed=4.0, alert_created=1.0),
            "won_back": _logit(-2.6, email_engagement=2.0, session_depth=1.5)})),
    "churn_risk": TableKind(
        description="warning signs of paying accounts; a high score is bad",
        accounts=4_000, seed=1,
        planted=MappingProxyType({
            "churned": _logit(
                -2.4, recency_drop=1.8, payment_failures=2.4, days_since_login=1.5,
                onboarding_complete=-1.0, billing_monthly=0.8, support_tickets=0.4,
                feature_breadth=-1.4, noise_feature=0.0),
            "expanded": _logit(-2.2, feature_breadth=2.4),
            "contracted": _logit(-2.7, recency_drop=1.6)})),
    "icp_fit": TableKind(
        description="firmographics and tech stack at signing, with gaps; no revenue at the end",
        accounts=3_000, seed=1,
        planted=MappingProxyType({
            "retained_6mo": _logit(
                -1.0, website_visits=0.9, company_age_years=0.0,
                **{flag: pull for flag, (_, pull) in TECH_STACK.items()},
                **{f"{feature}={category}": pull for feature, categories in FIRMOGRAPHICS.items()
                   for category, (_, pull) in categories.items()})})),
})
# fmt: on


#: Largest table, since it is made in memory.
_MOST_ACCOUNTS = 100_000_000


def generate(kind: str, *, accounts: int | None = None, seed: int | None = None) -> pl.DataFrame:
    """Return an account table with planted signals; the same arguments give the same table.

    Parameters
    ----------
    kind
        A key of `KINDS`.
    accounts
        Number of accounts, in [0, 10^8]; None for the shipped size.
    seed
        Seed, in [0, 2^128); None for the shipped seed.

    Returns
    -------
    DataFrame
        `account_id`, the features, then the outcomes. Money is rounded to cents.

    Raises
    ------
    UsageError
        If there is no such kind, or the size or seed is out of range.

    Examples
    --------
    >>> generate("icp_fit", accounts=2)["account_id"].to_list()
    ['acct-00001', 'acct-00002']
    """
    if kind not in KINDS:
        raise UsageError(
            f'no kind of synthetic table is called "{kind}"; there are {culprits(KINDS)}',
            hint=did_you_mean(kind, KINDS) or None,
        )
    shipped = KINDS[kind]
    size = shipped.accounts if accounts is None else accounts
    if not 0 <= size <= _MOST_ACCOUNTS or (seed is not None and not 0 <= seed < 2**128):
        raise UsageError(
            f"a synthetic table has 0 to {_MOST_ACCOUNTS:,} accounts and a seed of 0 or more, "
            f"got {size} and {seed if seed is not None else shipped.seed}"
        )
    draw = _Draw(size, shipped.seed if seed is None else seed)
    ids = [f"acct-{number:05d}" for number in range(1, size + 1)]
    return pl.DataFrame(
        {"account_id": pl.Series(ids, dtype=pl.String), **_MAKERS[kind](draw, shipped.planted)}
    )


class _Draw:
    """A stream of random columns, each of one value per account."""

    def __init__(self, accounts: int, seed: int) -> None:
        self._accounts = accounts
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self) -> Floats:
        """Draw from [0, 1)."""
        return self._generator.random(self._accounts)

    def share(self, first: float, second: float) -> Floats:
        """Draw from Kumaraswamy's distribution on [0, 1], beta-like with a closed inverse.

        Values are rounded to 1/10,000.
        """
        return _round((1.0 - (1.0 - self.uniform()) ** (1.0 / second)) ** (1.0 / first), 10_000)

    def normal(self) -> Floats:
        """Draw standard normal values (Box and Muller)."""
        radius = np.sqrt(-2.0 * np.log(1.0 - self.uniform()))
        return np.asarray(radius * np.cos(2.0 * np.pi * self.uniform()))

    def count(self, mean: float, *, most: int) -> Column:
        """Draw counts that fall off geometrically from 0, cut at `most`."""
        steps = np.log(1.0 - self.uniform()) / np.log(mean / (1.0 + mean))
        return np.asarray(np.minimum(np.floor(steps), most), dtype=np.int16)

    def happens(self, probability: float | Floats) -> Flags:
        """Draw whether an event of this probability happens."""
        return np.asarray(self.uniform() < probability)


def _health_score(draw: _Draw, planted: Planted) -> Columns:
    has_searched = draw.happens(0.55).astype(np.int8)
    features: dict[str, Column] = {
        "days_active_norm": draw.share(1.6, 1.6),
        "session_depth": draw.share(0.8, 1.5),
        "has_searched": has_searched,
        "search_intensity": has_searched * draw.share(1.2, 2.0),
        "has_saved": draw.happens(0.35).astype(np.int8),
        "has_exported": draw.happens(0.25).astype(np.int8),
        # Visits to the export page, with or without an export.
        "export_activity": draw.share(1.1, 2.4),
        "alert_created": draw.happens(0.15).astype(np.int8),
        "activation_speed": draw.share(1.3, 1.3),
        "email_engagement": draw.share(1.3, 2.5),
        "credit_limit_hits": draw.share(0.5, 0.7),
        "rage_clicks": draw.share(0.8, 3.0),
        # Two noise features, one binary and one continuous.
        "noise_feature_1": draw.happens(0.5).astype(np.int8),
        "noise_feature_2": draw.share(1.0, 1.0),
    }
    stays = planted["retained_6mo"].probability(features)
    # Former accounts resemble those that leave during the window. The draw depends on features
    # alone, so it doesn't distort the planted log-odds of current accounts.
    former = draw.happens(0.06 / 0.275 * (1.0 - stays))
    current = ~former
    retained = draw.happens(stays)
    free = draw.happens(0.006) | former
    mrr = _start_mrr(draw, (features["days_active_norm"] - 0.52) / 0.24, free=free)
    new = current & draw.happens(0.20)
    activated = draw.happens(planted["activated"].probability(features))
    wait = (1.0 - features["activation_speed"]) * 24.0 + draw.uniform() * 6.0
    won_back = draw.happens(planted["won_back"].probability(features))
    return {
        **features,
        "retained_6mo": _known(current, retained, pl.Int8),
        "churned": _known(current, ~retained, pl.Int8),
        "mrr": mrr,
        "mrr_end": _known(current, _end_mrr(draw, mrr, retained, features, planted)),
        "actual_ltv": _known(current, _lifetime_value(draw, mrr, retained)),
        "activated": _known(new, activated, pl.Int8),
        "days_to_activate": _known(new & activated, np.floor(1.0 + wait), pl.Int16),
        "won_back": _known(former, won_back, pl.Int8),
    }


def _churn_risk(draw: _Draw, planted: Planted) -> Columns:
    recency_drop = draw.share(1.1, 2.2)
    # The two signals are correlated: accounts whose usage drops have also been away for longer.
    away = 0.5 * recency_drop + 0.5 * draw.share(0.6, 2.0)
    features: dict[str, Column] = {
        "days_since_login": np.minimum(np.floor(160.0 * away**1.6), 120.0).astype(np.int16),
        "recency_drop": recency_drop,
        "payment_failures": draw.count(0.55, most=8),
        "billing_monthly": draw.happens(0.6),
        "onboarding_complete": draw.happens(0.7),
        "feature_breadth": np.floor(12.999 * draw.share(1.6, 2.6)).astype(np.int16),
        "support_tickets": draw.count(1.8, most=40),
        "noise_feature": draw.share(1.0, 1.0),
    }
    signals = features | {
        "days_since_login": np.interp(features["days_since_login"], *LOGIN_CURVE),
        "payment_failures": np.minimum(features["payment_failures"], 5) / 5.0,
        "feature_breadth": features["feature_breadth"] / 12.0,
        "support_tickets": np.searchsorted((1, 3, 6), features["support_tickets"], "right") / 3.0,
    }
    churned = draw.happens(planted["churned"].probability(signals))
    mrr = _start_mrr(draw, (signals["feature_breadth"] - 0.41) / 0.23, free=draw.happens(0.006))
    return {
        **features,
        "churned": churned.astype(np.int8),
        "mrr": mrr,
        "mrr_end": _end_mrr(draw, mrr, ~churned, signals, planted),
        "actual_ltv": _lifetime_value(draw, mrr, ~churned),
    }


def _icp_fit(draw: _Draw, planted: Planted) -> Columns:
    named: dict[str, Column] = {}
    for feature, categories in FIRMOGRAPHICS.items():
        edges = np.cumsum([share for share, _ in categories.values()])[:-1]
        named[feature] = np.array(list(categories))[np.searchsorted(edges, draw.uniform(), "right")]
    stack = {flag: draw.happens(share) for flag, (share, _) in TECH_STACK.items()}
    visits = np.floor(np.exp(6.6 + 1.7 * draw.normal()))
    visited = draw.happens(0.88)
    age = np.floor(1.0 + 60.0 * draw.share(0.9, 4.0)).astype(np.int16)
    signals: Signals = {
        **stack,
        "website_visits": visited * np.interp(visits, *VISITS_CURVE),
        "company_age_years": age,
        **{
            f"{feature}={category}": named[feature] == category
            for feature, categories in FIRMOGRAPHICS.items()
            for category in categories
        },
    }
    retained = draw.happens(planted["retained_6mo"].probability(signals))
    # Larger companies buy more seats.
    large = np.isin(named["employee_band"], ["201-1000", "1001-5000", "5001+"])
    mrr = _start_mrr(draw, (large - 0.27) / 0.44, free=np.zeros_like(retained))
    return {
        **{name: _known(held != "missing", held, pl.String) for name, held in named.items()},
        "company_age_years": age,
        **stack,
        "website_visits": _known(visited, visits, pl.Int64),
        "retained_6mo": retained.astype(np.int8),
        "mrr": mrr,
        "actual_ltv": _lifetime_value(draw, mrr, retained),
    }


def _start_mrr(draw: _Draw, pull: Column, *, free: Flags) -> Floats:
    """Draw log-normal start MRR around 500, in [50, 5,000], weakly correlated with `pull`."""
    spread = 0.2 * pull + np.sqrt(1.0 - 0.2**2) * draw.normal()
    return np.where(free, 0.0, _round(np.clip(500.0 * np.exp(0.75 * spread), 50.0, 5_000.0), 100))


def _end_mrr(draw: _Draw, mrr: Floats, kept: Flags, signals: Signals, planted: Planted) -> Floats:
    """Draw MRR at the window's end: 0 for accounts that left, else higher, lower or equal."""
    turn = draw.uniform()
    grows = turn < planted["expanded"].probability(signals)
    shrinks = turn > 1.0 - planted["contracted"].probability(signals)
    size = draw.share(1.0, 3.0)
    factor = np.where(grows, 1.05 + 0.75 * size, np.where(shrinks, 0.95 - 0.7 * size, 1.0))
    # A few retained accounts stop paying, and some of those that never paid begin to.
    factor[draw.happens(0.005)] = 0.0
    begins = (mrr == 0.0) & draw.happens(0.25)
    return np.where(kept, np.where(begins, 50.0, _round(mrr * factor, 100)), 0.0)


def _lifetime_value(draw: _Draw, mrr: Floats, kept: Flags) -> Floats:
    """Draw lifetime value: start MRR over about 42 months for retained accounts, 6 for others."""
    return _round(mrr * np.where(kept, 42.0, 6.0) * (0.5 + draw.uniform()), 100)


def _round(values: Column, scale: int) -> Floats:
    """Round half up to a multiple of 1 / `scale`."""
    return np.asarray(np.floor(values * float(scale) + 0.5) / scale)


def _known(known: Flags, values: Column, dtype: type[pl.DataType] = pl.Float64) -> pl.Series:
    """Return a column that is null where the value is unknown or doesn't apply."""
    return pl.Series(values).cast(dtype).set(pl.Series(~known), None)


_MAKERS = {"health_score": _health_score, "churn_risk": _churn_risk, "icp_fit": _icp_fit}
