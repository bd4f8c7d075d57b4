"""Searches of `gtmar null` in several processes against one after another, rounds alternating.

Run it from the checkout: ``python tests/benchmarks/side_by_side.py``. Whole commands are timed,
Python's start, imports and reading the table included, on the clock and in processor time of all
processes; the answers must be the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from gtmar import runs
from gtmar.data import synthetic

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


def timed(command: list[str]) -> tuple[float, float, object]:
    """Run a command; return seconds on the clock, those of processor time, and its answer."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, used, {k: v for k, v in json.loads(said).items() if k != "event_id"}


def main() -> None:
    """Print a Markdown table: a line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--n", type=int, default=1_000, help="experiments of a search")
    parser.add_argument("--searches", type=int, default=20, help="for each of two questions")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    took: dict[int, list[tuple[float, float]]] = {workers: [] for workers in asked.workers}
    answers = []
    with tempfile.TemporaryDirectory() as scratch:
        data, journal = Path(scratch) / "accounts.parquet", Path(scratch) / "journal"
        synthetic.generate("health_score", accounts=asked.accounts).write_parquet(data)
        runs.run(data, SPEC, limits=runs.Limits(asked.n), journal=journal)
        words = ["null", "--runs", str(asked.searches), "--json", "--journal", str(journal)]
        for _ in range(asked.rounds):
            for workers in asked.workers:
                more = ["--workers", str(workers)]
                *seconds, answer = timed([sys.executable, "-m", "gtmar", *words, *more])
                took[workers].append((seconds[0], seconds[1]))
                answers.append(answer)
    if any(answer != answers[0] for answer in answers):
        raise SystemExit("the answers differ")
    first = took[asked.workers[0]]
    print("| processes | median s | processor s | times as fast |")
    print("| ---: | ---: | ---: | ---: |")
    for workers, pairs in took.items():
        clock, used = (median(each) for each in zip(*pairs, strict=True))
        times = median(a / b for (a, _), (b, _) in zip(first, pairs, strict=True))
        print(f"| {workers} | {clock:.1f} | {used:.1f} | {times:.2f} |")


if __name__ == "__main__":
    main()
