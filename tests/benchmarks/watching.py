"""What it costs a search to be watched: the share of its processor time that progress takes.

Run it from the checkout, in a terminal: ``python tests/benchmarks/watching.py``. Both times are the
search's own thread's, in one run each, so that it doesn't matter what else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gtmar import runs
from gtmar.cli import progress
from gtmar.data import synthetic

if TYPE_CHECKING:
    from gtmar.runs import Progress

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


def watched(experiments: int) -> float:
    """Do a watched search; return the share that watching took."""
    table = synthetic.generate("health_score")
    spent = 0.0
    with progress.watching(quiet=False) as tell, tempfile.TemporaryDirectory() as journal:
        assert tell is not None

        def timed(at: Progress) -> None:
            nonlocal spent
            began = time.thread_time()
            tell(at)
            spent += time.thread_time() - began

        began = time.thread_time()
        limits = runs.Limits(experiments)
        runs.run(table, SPEC, limits=limits, holdout=0.0, journal=journal, watch=timed)
        return spent / (time.thread_time() - began)


def main() -> None:
    """Print a line a round, then the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--experiments", type=int, default=2_000)
    arguments = parser.parse_args()
    if not sys.stderr.isatty():
        parser.error("run it in a terminal: elsewhere no bar is drawn")
    shares = []
    for number in range(arguments.rounds):
        shares.append(watched(arguments.experiments))
        print(f"round {number + 1}: {shares[-1]:.2%}")
    print(f"median {statistics.median(shares):.2%}")


if __name__ == "__main__":
    main()
