"""This engine beside the loop that most teams would write, and beside the floor of the machine.

Run it from the checkout: ``python tests/benchmarks/throughput.py``. Rounds of both alternate in one
process, so that other work on the machine slows both; the best round of each counts, and ratios are
what is worth comparing. The engine journals every experiment with all metrics; the reference loop
(`reference_loop.py`) writes a JSON line each.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from benchmarks.reference_loop import ReferenceLoop

from gtmar import spec as specs
from gtmar.data import synthetic
from gtmar.runs.bench import Track, floor_bytes, read_seconds
from gtmar.runs.journaled_search import Ledger

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "tests" / "golden" / "fixed_edges.yaml"
#: Accounts, features, experiments of a round of the engine, and of the reference loop.
SIZES = (
    (5_000, 14, 2_000, 20),
    (5_000, 60, 2_000, 20),
    (100_000, 14, 600, 3),
    (1_000_000, 14, 100, 1),
)


def made(accounts: int, features: int) -> tuple[pl.DataFrame, specs.ScoringSpec]:
    """Generate a table; beyond the 14 features of the example, random ones are added."""
    table = synthetic.generate("health_score", accounts=accounts)
    spec = specs.load(SPEC)
    extra = [f"extra_{i}" for i in range(features - len(spec.terms))]
    if extra:
        draw = np.random.default_rng(0)
        table = table.with_columns(
            pl.Series(name, np.round(draw.random(accounts), 4)) for name in extra
        )
        document = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        document["features"] |= {name: {"weight": 0, "min": -10, "max": 25} for name in extra}
        spec = specs.ScoringSpec.model_validate(document)
    return table, spec


def reference(table: pl.DataFrame, spec: specs.ScoringSpec) -> ReferenceLoop:
    """Set the reference loop up on the same table and spec."""
    terms = spec.terms
    return ReferenceLoop(
        table.to_pandas(),
        {term.name: term.weight for term in terms},
        {term.name: (term.min, term.max) for term in terms},
        base=spec.base,
        top=spec.max_score,
        tiers={name: spec.tiers[name].low / 100 for name in spec.tier_names},
    )


def row(size: tuple[int, int, int, int], rounds: int) -> dict[str, Any]:
    """Time one size; say so on the way."""
    accounts, features, ours, theirs = size
    table, spec = made(accounts, features)
    loop, track = reference(table, spec), Track(table, spec)
    del table
    best = np.full(3, np.inf)
    for number in range(1, rounds + 1):
        rate = track.round(ours)
        between, began = time.process_time(), time.perf_counter()
        loop.run(theirs, io.StringIO())
        spent = (time.perf_counter() - began) / theirs
        cpu = track.cpu_seconds / ours, (time.process_time() - between) / theirs
        best = np.minimum(best, (spent, *cpu))
        print(
            f"{accounts:,} x {features}, round {number}: {rate:,.0f} experiments/s, reference "
            f"{1 / spent:,.2f}, {rate * spent:,.0f} times, "
            f"by processor time {cpu[1] / cpu[0]:,.0f}",
            flush=True,
        )
    seconds, own_cpu, reference_cpu = best.tolist()
    pace = track.pace(ours)
    floor = read_seconds(floor_bytes(track.accounts))
    return {
        "accounts x features": f"{accounts:,} x {features}",
        "experiments/s": f"{pace.experiments_per_second:,.0f}",
        "reference loop/s": f"{1 / seconds:,.2f}",
        "times as fast": f"{pace.experiments_per_second * seconds:,.0f}",
        "by processor time": f"{reference_cpu / own_cpu:,.0f}",
        "times the floor": f"{1 / (pace.experiments_per_second * floor):,.0f}",
        "evaluated": f"{pace.evaluated:.2f}",
        "load s": f"{pace.load_seconds:.2f}",
        "bytes/account": f"{pace.bytes_per_account:.0f}",
        **{stage: f"{share:.0%}" for stage, share in pace.spent.items()},
    }


def peak(accounts: int) -> str:
    """Measure the largest size of a process that does nothing but load a file and search it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "accounts.parquet"
        synthetic.generate("health_score", accounts=accounts).write_parquet(file)
        command = [sys.executable, "-m", "gtmar", "bench", "--data", str(file), "--spec", str(SPEC)]
        command += ["--n", "20", "--rounds", "1", "--json"]
        # As from a shell: importing Polars leaves how its allocator is set in the environment.
        shell = {name: value for name, value in os.environ.items() if "_RJEM_" not in name}

        def measured() -> dict[str, Any]:
            done = subprocess.run(command, check=True, capture_output=True, env=shell)
            found: dict[str, Any] = json.loads(done.stdout)
            return found

        found = measured()
        # What the libraries alone take, machine code and a search over very few accounts included.
        synthetic.generate("health_score", accounts=500).write_parquet(file)
        few = measured()
    peaks = found["peak_bytes"], few["peak_bytes"]
    return (
        f"{accounts:,} accounts from Parquet: peak {peaks[0] / 1e6:,.0f} MB, "
        f"{peaks[1] / 1e6:,.0f} MB with 500: {(peaks[0] - peaks[1]) / accounts:,.0f} bytes an "
        f"account at most, {found['bytes_per_account']:.0f} resident"
    )


def process_seconds(rounds: int) -> float:
    """Time `gtmar run --n 2000` on 5,000 accounts as a process, start to finish; the least.

    In a fresh environment with ``gtmar[fast]``: pandas and scipy, of development's own, would be
    imported by other libraries where they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        python = f"{folder}/venv/bin/python"
        install = [python, "-m", "pip", "install", "--quiet", f"{ROOT}[fast]"]
        subprocess.run(install, check=True, capture_output=True)
        file = Path(folder) / "accounts.parquet"
        synthetic.generate("health_score", accounts=5_000).write_parquet(file)
        # Compiles first; a run would do that beside itself.
        first = [python, "-m", "gtmar", "bench", "--data", str(file), "--spec", str(SPEC), "--json"]
        subprocess.run(first, check=True, capture_output=True)
        least = float("inf")
        for number in range(rounds):
            command = [python, "-m", "gtmar", "run", "--data", str(file), "--spec", str(SPEC)]
            command += ["--n", "2000", "--quiet", "--json"]
            command += ["--journal", str(Path(folder) / str(number))]
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            least = min(least, time.perf_counter() - began)
    return least


def threads_against_processes(accounts: int, experiments: int, rounds: int) -> str:
    """Compare two threads with two processes of one thread each, over the same table."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "accounts.parquet"
        synthetic.generate("health_score", accounts=accounts).write_parquet(file)
        command = [sys.executable, "-m", "gtmar", "bench", "--data", str(file), "--spec", str(SPEC)]
        # Of two rounds the better one counts: the first loads machine code.
        command += ["--n", str(experiments), "--rounds", "2", "--json"]

        def rate(process: subprocess.Popen[bytes]) -> float:
            return float(json.loads(process.communicate()[0])["experiments_per_second"])

        def started(threads: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen([*command, "--threads", str(threads)], stdout=subprocess.PIPE)

        shares = []
        for _ in range(rounds):
            both = rate(started(2))
            apart = [started(1), started(1)]
            shares.append(both / sum(rate(process) for process in apart))
    return (
        f"two threads do {max(shares):.0%} of what two processes do together "
        f"({', '.join(f'{share:.0%}' for share in shares)})"
    )


class Unwritten:
    """In the place of a run's ledger: measures nothing, writes nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def nothing(self, *_: object) -> None:
        pass

    open = add = write = nothing


def journal_share(accounts: int, experiments: int, rounds: int) -> str:
    """Compare the same seeded search with a journal and without one."""
    table, spec = made(accounts, 14)
    track = Track(table, spec)
    least = {"journaled": math.inf, "alone": math.inf}
    for _ in range(rounds):
        for kind, ledger in (("journaled", Ledger), ("alone", Unwritten)):
            with mock.patch("gtmar.runs.journaled_search.Ledger", ledger):
                least[kind] = min(least[kind], 1e6 / track.round(experiments))
    spent, alone = least.values()
    return (
        f"{accounts:,} accounts, {experiments:,} experiments: {spent:.1f} microseconds each, "
        f"{alone:.1f} without a journal: {1 - alone / spent:.1%} of the loop"
    )


def main() -> None:
    """Print a line a round, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accounts", type=int, help="this size alone")
    parser.add_argument("--only", choices=("table", "peak", "process", "threads", "journal"))
    arguments = parser.parse_args()
    asked = arguments.only or "all"
    if asked in ("table", "all"):
        sizes = [s for s in SIZES if arguments.accounts in (None, s[0])]
        rows = [row(size, arguments.rounds) for size in sizes]
        print("\n| " + " | ".join(rows[0]) + " |")
        print("| --- " + "| ---: " * (len(rows[0]) - 1) + "|")
        for found in rows:
            print("| " + " | ".join(found.values()) + " |")
    if asked in ("peak", "all"):
        print("\n" + peak(arguments.accounts or 1_000_000))
    if asked in ("process", "all"):
        least = process_seconds(arguments.rounds)
        print(f"\ngtmar run --n 2000 on 5,000 accounts, start to finish: {least:.2f} s")
    if asked in ("threads", "all"):
        accounts = arguments.accounts or 1_000_000
        print("\n" + threads_against_processes(accounts, 500, arguments.rounds))
    if asked in ("journal", "all"):
        print()
        for accounts, experiments in ((5_000, 2_000), (5_000, 20_000), (100_000, 600)):
            if arguments.accounts in (None, accounts):
                print(journal_share(accounts, experiments, 2 * arguments.rounds), flush=True)
    packages = ("polars", "numpy", "pyarrow", "pandas", "scikit-learn")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"\n{os.cpu_count()} cores{load}, Python {platform.python_version()}, {versions}")


if __name__ == "__main__":
    main()
