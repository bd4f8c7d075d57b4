"""Tables of millions of accounts: loading, starting, time an experiment, and memory.

Run it from the checkout: ``python tests/benchmarks/large_tables.py``. Tables of the health_score
kind are made part by part in a temporary folder. Each line is measured in a process of its own: how
long the table takes to load (check, encode, fingerprints, arrays) and the search to start
(evaluator and baseline), the best batch's time to evaluate an experiment, by clock and cores, and
the most memory that the process ever had, all of it and what is not mapped from files. It prints
Markdown. How time grows with accounts is taken from the time of all cores, which hardly depends on
what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar import runs
from gtmar import spec as specs
from gtmar.data import synthetic
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.journal.writer import RunWriter
from gtmar.memory import parse_size
from gtmar.objective.objective import Judge
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = Path(__file__).parents[1] / "golden" / "fixed_edges.yaml"
PART = 500_000
FORMATS = ("parquet", "hive", "csv")


def make_table(folder: Path, accounts: int, kind: str) -> Path:
    """Write a table in parts, none of which needs the others in memory."""
    folder.mkdir(parents=True)
    csv = folder / "accounts.csv"
    for number, first in enumerate(range(0, accounts, PART)):
        size = min(PART, accounts - first)
        ids = pl.int_range(first + 1, first + size + 1, dtype=pl.Int64).cast(pl.String)
        part = synthetic.generate("health_score", accounts=size, seed=1_000 + number)
        part = part.with_columns(account_id=pl.format("acct-{}", ids.str.zfill(9)))
        if kind == "csv":
            with csv.open("ab") as file:
                part.write_csv(file, include_header=number == 0)
        elif kind == "hive":
            place = folder / f"region={number % 4}" / f"part-{number:04}.parquet"
            place.parent.mkdir(exist_ok=True)
            part.write_parquet(place)
        else:
            part.write_parquet(folder / f"part-{number:04}.parquet")
    return csv if kind == "csv" else folder


@contextmanager
def anonymous_peak() -> Iterator[list[int]]:
    """Note the most memory of this process that isn't mapped from files, in kB; Linux alone."""
    status, peak, done = Path("/proc/self/status"), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            found = re.search(r"RssAnon:\s+(\d+)", status.read_text(encoding="ascii"))
            peak[0] = max(peak[0], int(found[1]) if found else 0)

    if status.is_file():
        threading.Thread(target=look, daemon=True).start()
    yield peak
    done.set()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Load one table, run some experiments over it, and say how long each took."""
    spec = specs.load(SPEC)
    memory = parse_size(arguments.memory) if arguments.memory else None
    engine = runs.Engine(arguments.engine, memory=memory)
    judge = Judge.of(spec, None)
    best = [float("inf")] * 2
    before = [0.0, 0.0]

    def evaluated(sums: Any) -> Any:
        """Take the time of a batch: all that it evaluates, followers of a win included."""

        def timed(candidates: Any) -> Any:
            before[:] = time.perf_counter(), time.process_time()
            found = sums(candidates)
            after = time.perf_counter(), time.process_time()
            for i in (0, 1):
                best[i] = min(best[i], (after[i] - before[i]) / len(candidates))
            return found

        return timed

    with anonymous_peak() as peak, tempfile.TemporaryDirectory() as journal:
        began, used = time.perf_counter(), time.process_time()
        accounts = load_accounts(scan(arguments.measure), spec, memory=memory)
        loaded, loading = time.perf_counter(), time.process_time() - used
        with engine.evaluator(accounts.search, spec) as evaluator:
            plan = Plan(seed=1, limits=runs.Limits(arguments.experiments), batch=arguments.batch)
            search = Search(accounts, spec, judge, plan, evaluator=evaluator)
            started = time.perf_counter()
            timed: Any = search.evaluator
            timed.sums = evaluated(timed.sums)
            with RunWriter(Path(journal), new_run_id()) as writer:
                result = search.run(writer, start=start_record(search))
    search_part = accounts.search
    arrays = [*search_part.columns, search_part.codes, search_part.start, search_part.end]
    arrays += [search_part.ltv, search_part.ltv_rows, search_part.day_codes]
    return {
        "load": loaded - began,
        "load_cpu": loading,
        "start": started - loaded,
        "experiment": best[0],
        "experiment_cpu": best[1],
        "matrix": sum(a.nbytes for a in arrays if a is not None) / search_part.accounts,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "anonymous": peak[0],
        "on_disk": accounts.on_disk,
        "digest": result.digest,
    }


def line(table: Path, arguments: argparse.Namespace, **options: str) -> dict[str, Any]:
    """Measure a table in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(table)]
    command += ["--experiments", str(arguments.experiments), "--batch", str(arguments.batch)]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a row a table and way of holding it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--experiments", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tables", type=Path, help="keep tables in this folder, and take them")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="local", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("polars", "numpy", "pyarrow"))
    print(f"Python {platform.python_version()}, {packages}, {platform.machine()}\n")
    print(
        "| accounts | table | held | load, s (cores) | start, s | ms an experiment (cores) |",
        end="",
    )
    print(" bytes an account | peak, GB | not mapped, GB | digest |")
    print("| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    times: dict[int, float] = {}
    keeping = nullcontext(arguments.tables) if arguments.tables else tempfile.TemporaryDirectory()
    with keeping as folder:
        for accounts in arguments.accounts:
            for kind in arguments.formats:
                ways: list[tuple[str, dict[str, str]]] = [("memory", {})]
                if kind == "parquet":
                    ways += [("disk", {"memory": "0"}), ("Ray", {"engine": "ray"})]
                place = Path(folder) / f"{accounts}-{kind}"
                table = place / "accounts.csv" if kind == "csv" else place
                if not place.is_dir():
                    table = make_table(place, accounts, kind)
                for held, options in ways:
                    found = line(table, arguments, **options)
                    if held == "memory":
                        taken = found["experiment_cpu"]
                        times[accounts] = min(times.get(accounts, taken), taken)
                    cores = f"{1e3 * found['experiment_cpu']:.1f}"
                    if "engine" in options:
                        cores = "elsewhere"
                    print(
                        f"| {accounts:,} | {kind} | {held} | {found['load']:.1f} "
                        f"({found['load_cpu']:.1f}) | {found['start']:.1f} | "
                        f"{1e3 * found['experiment']:.1f} ({cores}) | {found['matrix']:.0f} | "
                        f"{found['peak'] / 1e6:.2f} | {found['anonymous'] / 1e6:.2f} | "
                        f"`{found['digest'][:8]}` |",
                        flush=True,
                    )
    few, many = min(times), max(times)
    if few < many:
        print(
            f"\nFrom {few:,} to {many:,} accounts the time of an experiment (cores, in memory) "
            f"grows {times[many] / times[few]:.1f} times."
        )


if __name__ == "__main__":
    main()
