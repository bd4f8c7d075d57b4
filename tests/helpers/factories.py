"""Small specs and account tables that several tests share."""

import random
from typing import Any

import polars as pl

from gtmar.spec import ScoringSpec

#: What `make_accounts` holds, with its types: the id, four features, then all outcomes.
SCHEMA: dict[str, type[pl.DataType]] = {
    "account_id": pl.String,
    "alert_created": pl.Int64,
    "depth": pl.Float64,
    "logins": pl.Int64,
    "plan": pl.String,
    "retained_6mo": pl.Int64,
    "churned": pl.Int64,
    "mrr": pl.Float64,
    "mrr_end": pl.Float64,
    "actual_ltv": pl.Float64,
    "activated": pl.Int64,
    "days_to_activate": pl.Int64,
    "won_back": pl.Int64,
}
OUTCOMES = (
    "retained_6mo",
    "churned",
    "mrr",
    "mrr_end",
    "actual_ltv",
    "activated",
    "days_to_activate",
    "won_back",
)


def weighted(weight: int = 5, low: int = -25, high: int = 25, **more: Any) -> dict[str, Any]:
    """Return a feature as a spec states it."""
    return {"weight": weight, "min": low, "max": high, **more}


def binned(*keys: str, weight: int = 5, low: int = -25, high: int = 25) -> dict[str, Any]:
    """Return a feature with a bin per key."""
    bins = {key: {"weight": weight, "min": low, "max": high} for key in keys}
    return {"encode": {"kind": "bins", "bins": bins}}


def make_spec(**overrides: Any) -> ScoringSpec:
    """Return a spec that fits `make_accounts`; keywords replace its top keys."""
    data: dict[str, Any] = {
        "model": "test",
        "max_score": 100,
        "id": "account_id",
        "base": 10,
        "features": {
            "alert_created": weighted(20, encode={"kind": "bool"}),
            "depth": weighted(25, low=-50, high=50),
            "logins": weighted(30, low=-50, high=50, encode={"kind": "range", "from": 0, "to": 40}),
            "plan": weighted(
                -8,
                encode={
                    "kind": "one_of",
                    "values": {"basic": 1, "team": 0.25},
                    "default": 0,
                },
            ),
        },
        "tiers": {
            "A": {"min": 60, "max": 101},
            "B": {"min": 35, "max": 60},
            "C": {"min": 15, "max": 35},
            "D": {"min": 0, "max": 15},
        },
    }
    return ScoringSpec.model_validate({**data, **overrides})


def make_accounts(
    n: int = 60, seed: int = 0, *, former: float = 0.15, unpaying: float = 0.1
) -> pl.DataFrame:
    """Return accounts with all outcomes: current and former, new and old, paying and not.

    Parameters
    ----------
    n
        Number of accounts.
    seed
        Another seed, other accounts.
    former
        Expected share of accounts that had left before the window.
    unpaying
        Expected share of the current ones without start MRR.
    """
    draw = random.Random(seed)
    accounts = [_account(i, draw, former, unpaying) for i in range(n)]
    return pl.DataFrame(accounts, schema=SCHEMA, orient="row")


def _account(i: int, draw: random.Random, former: float, unpaying: float) -> dict[str, Any]:
    depth = draw.randrange(65) / 64
    row: dict[str, Any] = dict.fromkeys(SCHEMA)
    row |= {
        "account_id": f"acct-{i:05}",
        "alert_created": int(draw.random() < 0.2 + 0.4 * depth),
        "depth": depth,
        "logins": draw.randrange(61),
        "plan": draw.choice(["basic", "team", "enterprise"]),
    }
    if draw.random() < former:
        return row | {"won_back": draw.randrange(2)}
    start = 0 if draw.random() < unpaying else draw.randrange(1, 500_00)
    retained = int(draw.random() < 0.1 + 0.8 * depth)
    kept = draw.choice([0, start // 2, start, start, start + draw.randrange(1, 100_00)])
    row |= {
        "retained_6mo": retained,
        "churned": 1 - retained,
        "mrr": start / 100,
        "mrr_end": kept * retained / 100,
        "actual_ltv": draw.randrange(-50_00, 2_000_00) / 100,
    }
    if draw.random() < 0.3:
        activated = draw.randrange(2)
        row |= {"activated": activated, "days_to_activate": draw.randrange(60) or None}
        row["days_to_activate"] = row["days_to_activate"] if activated else None
    return row
