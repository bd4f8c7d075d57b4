"""How often a decision is right: noise that passes, and a planted gain that is found.

Run it as ``python tests/benchmarks/decisions.py``. Noise: tables of features that mean nothing, of
several sizes and base rates, 20 seeds each, the spec detected. A planted gain: `health_score`
tables of other seeds, from the example's wrong guess.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar import runs
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


if __name__ == "__main__":
    main()
