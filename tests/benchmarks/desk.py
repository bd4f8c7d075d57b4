"""How long a workbench takes to answer a moved weight, and to open a table.

Run it from the checkout: ``python tests/benchmarks/desk.py``. Each round moves one weight by a
point and asks; medians over the rounds count, and processor seconds beside them, since other work
on a machine moves what a clock says.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.throughput import made

from gtmar import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

#: Accounts and features.
SIZES = ((5_000, 14), (5_000, 60), (1_000_000, 14))


def timed(
    bench: Workbench, ask: Callable[[dict[str, int]], Any], rounds: int
) -> tuple[float, float, float]:
    """Return median and 95th percentile of milliseconds, and processor milliseconds a round.

    The first answer, which fills what later ones share, is left out.
    """
    free = [line for line in bench.lines if not line.fixed]
    ask({})
    took, cpu = [], time.process_time()
    for number in range(rounds):
        line = free[number % len(free)]
        moved = {line.name: line.max - number % (line.max - line.min)}
        began = time.perf_counter()
        ask(moved)
        took.append(1000 * (time.perf_counter() - began))
    cpu = 1000 * (time.process_time() - cpu) / rounds
    took.sort()
    return statistics.median(took), took[int(0.95 * (rounds - 1))], cpu


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--size", help="accounts x features, as 5000x14; all where not given")
    rounds, size = vars(parser.parse_args()).values()
    sizes = SIZES if size is None else (tuple(map(int, size.split("x"))),)
    print("| accounts x features | open s | measure ms | 95 % below | processor ms | details ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for accounts, features in sizes:
        table, spec = made(accounts, features)
        with tempfile.TemporaryDirectory() as journal:
            began = time.perf_counter()
            bench = Workbench.open(table, spec, journal=journal)
            bench.measure({})
            opened = time.perf_counter() - began
            median, most, cpu = timed(bench, bench.measure, rounds)
            details, _, _ = timed(bench, bench.details, max(3, rounds // 4))
        print(
            f"| {accounts:,} x {features} | {opened:.2f} | {median:.1f} | {most:.1f} | {cpu:.1f} "
            f"| {details:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
