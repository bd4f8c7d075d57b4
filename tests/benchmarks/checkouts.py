"""Searches of this checkout beside those of another, rounds alternating, by processor time.

Run it from the checkout: ``python tests/benchmarks/checkouts.py OTHER``. Each has one process, and
both search the same table, which this checkout makes. The loop is timed by the processor time of
its process, so that other work on the machine costs it caches alone; or by the clock, for what
threads share, which wants a quiet machine. Digests must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
#: Accounts, features, experiments of a round.
SIZES = ((5_000, 14, 2_000), (5_000, 60, 2_000), (100_000, 14, 300))


def serve(accounts: int, features: int, experiments: int, clocked: int) -> None:
    """Do a round for each line of the standard input; answer with a line of JSON."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "helpers")]
    from benchmarks.throughput import made

    from gtmar.optimize import search_loop
    from gtmar.runs import journaled_search
    from gtmar.runs.bench import Track

    track = Track(*made(accounts, features))
    if not clocked:
        clock: Any = SimpleNamespace(**vars(time) | {"perf_counter": time.process_time})
        search_loop.time = journaled_search.time = clock  # type: ignore[attr-defined]
    for _ in sys.stdin:
        rate = track.round(experiments)
        print(json.dumps({"rate": rate, "digest": track.pace(experiments).digest}), flush=True)


def compared(folders: list[Path], size: tuple[int, ...], rounds: int, cache: Path) -> str:
    """Return a line of the table."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--serve", *map(str, size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(at), "NUMBA_CACHE_DIR": str(cache / str(number))},
        )
        for number, at in enumerate(folders)
    ]

    def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        print(file=process.stdin, flush=True)
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found

    # The first round compiles.
    digests = {answer(process)["digest"] for process in processes}
    assert len(digests) == 1, "the two searches differ"
    rates: list[list[float]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            rates[which].append(answer(processes[which])["rate"])
    for process in processes:
        process.communicate()
    own, other = rates
    ratio = median(a / b for a, b in zip(own, other, strict=True))
    return (
        f"| {size[0]:,} x {size[1]} | {median(own):,.0f} | {median(other):,.0f} | {ratio:.2f} | "
        f"{max(own) / max(other):.2f} |"
    )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--cache", type=Path, help="where machine code is kept, or a fresh folder")
    parser.add_argument("--clock", action="store_true", help="by the clock, not processor time")
    parser.add_argument("--serve", type=int, nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    print("| accounts x features | this/s | the other/s | ratio, median | of the best |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as fresh:
        for size in SIZES:
            folders, cache = [ROOT, arguments.other.resolve()], arguments.cache or Path(fresh)
            asked = *size, int(arguments.clock)
            print(compared(folders, asked, arguments.rounds, cache), flush=True)
    packages = ", ".join(f"{name} {version(name)}" for name in ("polars", "numpy", "numba"))
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {packages}")


if __name__ == "__main__":
    main()
