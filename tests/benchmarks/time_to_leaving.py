"""How often the interval of the share that is gone holds the truth, by accounts and by rows.

    python tests/benchmarks/time_to_leaving.py --panels 1000

Accounts differ for good: each has a monthly hazard of its own, drawn anew for every panel. Each
month of eight, those still here are followed for three. The truth is the share over two million
accounts. Exit code 1 where intervals by accounts hold it in fewer than 93 or more than 97 % of
panels, or such by rows do so as well.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from gtmar.runs.leaving import GONE, THERE, UNKNOWN, share_gone

MONTHS, FOLLOWED, DATES = 11, 3, 8


def rows_of(draw: np.random.Generator, accounts: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a panel: what is known of each row at three looks, and whose row it is."""
    hazard = draw.beta(0.4, 6.0, accounts)
    leaves = draw.geometric(hazard.clip(1e-9))
    # One in ten is lost sight of at some time, whoever it is.
    lost = np.where(draw.random(accounts) < 0.1, draw.integers(1, MONTHS, accounts), MONTHS + 1)
    looks, whose = [], []
    for month in range(DATES):
        here = np.flatnonzero((leaves > month) & (lost > month))
        after = month + np.arange(1, FOLLOWED + 1)
        known = np.where(leaves[here, None] <= after, GONE, THERE)
        unseen = (lost[here, None] <= after) & (leaves[here, None] > lost[here, None] - 1)
        looks.append(np.where(unseen, UNKNOWN, known).astype(np.int8))
        whose.append(here)
    return np.concatenate(looks), np.concatenate(whose)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--panels", type=int, default=1000)
    parser.add_argument("--accounts", type=int, default=300)
    asked = parser.parse_args()
    draw = np.random.default_rng(7)
    looks, whose = rows_of(draw, 2_000_000)
    truth = share_gone(looks, whose, level=0.95).value
    assert truth is not None
    held = {"by accounts": 0, "by rows": 0}
    for _ in range(asked.panels):
        looks, whose = rows_of(draw, asked.accounts)
        for name, of in (("by accounts", whose), ("by rows", np.arange(len(looks)))):
            found = share_gone(looks, of, level=0.95)
            assert found.low is not None
            assert found.high is not None
            held[name] += found.low <= truth <= found.high
    print(f"truth {truth:.4f}; {asked.panels:,} panels of {asked.accounts:,} accounts")
    shares = {name: count / asked.panels for name, count in held.items()}
    for name, share in shares.items():
        print(f"95 % intervals {name}: {share:.1%} hold it")
    sound = 0.93 <= shares["by accounts"] <= 0.97 and shares["by rows"] < 0.93
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
