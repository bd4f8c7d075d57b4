"""How often a decision is right: noise that passes, and a planted gain that is found.

Run it as ``python tests/benchmarks/decisions.py``. Noise: tables of features that mean nothing, of
several sizes and base rates, 20 seeds each, the spec detected. A planted gain: `health_score`
tables of other seeds, from the example's wrong guess. What is planted to be said: a trade of
captured MRR for AUC, a score that is upside down, a lost segment, a leak, copied accounts; each
must stand in the first three lines.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar import runs
from gtmar import spec as specs
from gtmar.data import synthetic

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
READY = "READY_FOR_REVIEW"


def noise(n: int, rate: float, seed: int) -> pl.DataFrame:
    """Accounts whose outcome nothing tells."""
    draw = np.random.default_rng([seed, n])
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            **{f"x{i}": draw.random(n) for i in range(15)},
            "retained_6mo": (draw.random(n) < rate).astype(int),
        }
    )


def ready(table: Callable[[int], pl.DataFrame], spec: Path | None, seeds: int, n: int) -> int:
    """Count decisions that put the best of a run forward."""
    count = 0
    for seed in range(seeds):
        accounts = table(seed)
        with tempfile.TemporaryDirectory() as journal:
            found = runs.run(accounts, spec, limits=runs.Limits(n), seed=seed, journal=journal)
            done = runs.decide(found.run_id, data=accounts, journal=journal)
        count += done.verdict == READY
    return count


def planted(n: int, seed: int, *, pro: float = 0.0, trade: bool = False) -> pl.DataFrame:
    """Accounts that stay the more, the more they use; by `pro` more or less so on that plan."""
    draw = np.random.default_rng([seed, n, 7])
    used, other = draw.random(n), draw.random(n)
    plan = np.where(draw.random(n) < 0.4, "pro", "basic")
    pull = 5 + np.where(plan == "pro", pro, 0.0)
    stays = draw.random(n) < 1 / (1 + np.exp(-pull * (used - 0.5)))
    mrr = 100 * (1.2 - used) + 100 * other if trade else 50 + 400 * draw.random(n) ** 3
    return pl.DataFrame(
        {
            "account_id": [f"p{i}" for i in range(n)],
            "used": used,
            "other": other,
            "survey": stays * 0.9 + draw.random(n) * 0.5,
            "plan": plan,
            "mrr": mrr.round(2),
            "retained_6mo": stays.astype(int),
        }
    )


def guess(**weights: tuple[int, int, int]) -> specs.ScoringSpec:
    """A spec of these weights, each with its bounds."""
    return specs.ScoringSpec.model_validate(
        {
            "model": "guess",
            "base": 30,
            "features": {
                k: dict(zip(("weight", "min", "max"), v, strict=True)) for k, v in weights.items()
            },
            "tiers": {tier: {"share": 0.25} for tier in "ABCD"},
        }
    )


def copied(seed: int) -> pl.DataFrame:
    """A table in which each account stands four times."""
    four = pl.concat([planted(500, seed)] * 4)
    return four.with_columns(account_id=pl.format("c{}", pl.int_range(pl.len())))


_GUESS = guess(used=(5, -25, 25), other=(20, -25, 25))
#: What is planted: tables, spec, and words that the first three lines must have.
_SAID: dict[str, tuple[Callable[[int], pl.DataFrame], specs.ScoringSpec, str]] = {
    "a trade, AUC up and captured MRR down": (
        lambda seed: planted(4_000, seed, trade=True),
        _GUESS,
        "MRR that the best-scored fifth holds",
    ),
    "a score upside down, and kept so by its bounds": (
        lambda seed: planted(3_000, seed),
        guess(used=(-20, -25, -18), other=(5, -10, 10)),
        "is upside down: of 100 pairs",
    ),
    "a segment of 40 % that loses": (
        lambda seed: planted(4_000, seed, pro=-9.0),
        _GUESS,
        "in plan=pro",
    ),
    "a leak": (
        lambda seed: planted(2_000, seed),
        guess(used=(10, -25, 25), survey=(10, -25, 25)),
        "to know the outcome",
    ),
    "accounts copied three times": (copied, _GUESS, "repeat another one"),
}


def said(table: Callable[[int], pl.DataFrame], spec: specs.ScoringSpec, words: str, n: int) -> int:
    """Count, of as many tables as `n` says, those whose decision has words in its first lines."""
    count = 0
    for seed in range(n):
        accounts = table(seed)
        with tempfile.TemporaryDirectory() as journal:
            found = runs.run(accounts, spec, limits=runs.Limits(120), seed=seed, journal=journal)
            done = runs.decide(found.run_id, data=accounts, journal=journal)
        count += any(words in line for line in (done.sentence, *done.headline[:2]))
    return count


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--n", type=int, default=300)
    arguments = parser.parse_args()
    seeds, n = arguments.seeds, arguments.n
    print(f"| table, {n} experiments | accounts | READY_FOR_REVIEW |")
    print("| --- | ---: | ---: |")
    total = 0
    cells = [(size, rate) for size in (300, 1_000, 4_000) for rate in (0.3, 0.7, 0.92)]
    for size, rate in cells:
        count = ready(lambda seed, s=size, r=rate: noise(s, r, seed), None, seeds, n)  # type: ignore[misc] # bound # bound now
        total += count
        print(f"| noise, {rate:.0%} retained | {size:,} | {count} of {seeds} |", flush=True)
    share = total / (seeds * len(cells))
    print(f"| noise, all | | {total} of {seeds * len(cells)} ({share:.1%}) |")
    for size in (1_500, 5_000):
        count = ready(
            lambda seed, s=size: synthetic.generate("health_score", accounts=s, seed=1_000 + seed),  # type: ignore[misc] # bound # bound now
            SPEC,
            seeds,
            n,
        )
        print(f"| health_score, planted | {size:,} | {count} of {seeds} |", flush=True)
    print("\n| planted, 120 experiments | said in the first three lines |\n| --- | ---: |")
    for what, (table, spec, words) in _SAID.items():
        print(f"| {what} | {said(table, spec, words, seeds)} of {seeds} |", flush=True)


if __name__ == "__main__":
    main()
