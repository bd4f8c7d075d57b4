"""Fully journaled experiments a second, on the health_score example: rounds, median, best.

Run it from the checkout: ``python tests/benchmarks/throughput.py``. Each round is a whole run of
2,000 experiments over 5,000 accounts and 14 features in one process, all metrics of every
experiment written.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path

from gtmar import runs, synthetic

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


def main() -> None:
    """Print a line a round, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--accounts", type=int, default=5_000)
    arguments = parser.parse_args()
    table = synthetic.generate("health_score", accounts=arguments.accounts)
    rates = []
    for seed in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as journal:
            found = runs.run(table, SPEC, seed=seed, holdout=0.0, journal=journal)
        rates.append(found.experiments_per_second)
        print(f"round {seed + 1}: {rates[-1]:,.0f} experiments/s")
    packages = ", ".join(f"{name} {version(name)}" for name in ("polars", "numpy", "pyarrow"))
    print(f"{arguments.accounts:,} accounts x 14 features, Python {platform.python_version()}")
    print(packages)
    print(f"median {statistics.median(rates):,.0f}, best {max(rates):,.0f} experiments/s")


if __name__ == "__main__":
    main()
