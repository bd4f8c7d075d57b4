"""Shards beside one process: time an experiment, memory, and what more shards cost.

Run it from the checkout: ``python tests/benchmarks/shards.py``. One process with all cores and
a cluster of 1, 2 or 4 shards on the same cores evaluate the same batches in alternating rounds;
each figure is the median of the rounds: by clock, and the processor time of driver and workers,
which depends less on what else the machine does. Their sums are compared. Then, in one process,
what the parts of an experiment cost. It prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import re
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.large_tables import SPEC, make_table

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.numpy_kernel import Counts
from gtmar.engine.ray_cluster import connected
from gtmar.engine.ray_shards import ClusterEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def busy(process: int) -> float:
    """Return the processor seconds that a process has used; Linux alone."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(process: int) -> dict[str, float]:
    """Return a process's memory in MB: its own, and what it shares, as the object store is."""
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    kinds = ("RssAnon", "RssFile", "RssShmem")
    return {kind: int(re.findall(rf"{kind}:\s+(\d+)", text)[0]) / 1e3 for kind in kinds}


def batches(spec: ScoringSpec, size: int) -> list[list[tuple[int, ...]]]:
    """Return batches of vectors that differ from the spec's in one weight, or in two."""
    source = np.random.default_rng(4)
    start = [term.weight for term in spec.terms]

    def changed() -> tuple[int, ...]:
        vector = list(start)
        for i in source.choice(len(vector), size=source.integers(1, 3), replace=False):
            vector[i] = int(source.integers(spec.terms[i].min, spec.terms[i].max + 1))
        return tuple(vector)

    return [[changed() for _ in range(size)] for _ in range(4)]


def measure(
    matrix: AccountMatrix, spec: ScoringSpec, arguments: argparse.Namespace, cluster: Any
) -> list[str]:
    """Return a line: one process beside a cluster, round by round."""
    asked = batches(spec, arguments.batch)
    ways = (LocalEvaluator(matrix, spec, by_rule=True, compiled=True), cluster)
    processes = ([os.getpid()], [os.getpid(), *cluster.processes])
    for evaluator in ways:
        evaluator.move([term.weight for term in spec.terms])
        evaluator.sums(asked[0])  # compiles
    rounds = []
    for _ in range(arguments.rounds):
        times, found = [], []
        for evaluator, own in zip(ways, processes, strict=True):
            used, began = sum(map(busy, own)), time.perf_counter()
            found.append([evaluator.sums(batch) for batch in asked])
            times += [time.perf_counter() - began, sum(map(busy, own)) - used]
        assert all(map(np.array_equal, *found))
        used, began = sum(map(busy, processes[1])), time.perf_counter()
        for batch in asked:
            cluster.sums(batch[:1])
        times += [time.perf_counter() - began, sum(map(busy, processes[1])) - used]
        rounds.append(times)
    medians = 1e3 * np.median(rounds, axis=0) / len(asked)
    by_clock, by_cores, clock, cores = medians[:4] / arguments.batch
    # A batch of one costs a candidate and a batch, one of eight eight candidates and a batch.
    beside, beside_cores = (arguments.batch * medians[4:] - medians[2:4]) / (arguments.batch - 1)
    pace, pace_by_cores = (statistics.median(r[i] / r[i + 2] for r in rounds) for i in (0, 1))
    held = [memory(process) for process in processes[1]]
    workers = ", ".join(f"{each['RssAnon']:.0f} + {each['RssShmem']:.0f}" for each in held[1:])
    return [
        f"{matrix.accounts:,}",
        str(len(held) - 1),
        f"{by_clock:.1f} ({by_cores:.1f})",
        f"{clock:.1f} ({cores:.1f})",
        f"{pace:.2f} ({pace_by_cores:.2f})",
        f"{beside:.1f} ({beside_cores:.1f})",
        f"{held[0]['RssAnon']:.0f}",
        workers,
    ]


def cpu_of(work: Callable[[], Any], rounds: int) -> float:
    """Return the median of this process's processor seconds, the first round aside."""
    times = []
    for _ in range(rounds + 1):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


def costs(
    matrix: AccountMatrix, spec: ScoringSpec, arguments: argparse.Namespace
) -> dict[str, float]:
    """Return what an experiment's parts cost a core, in seconds, and a shard's answer in bytes.

    A worker's time is a straight line through two shards, of all rows and of a twentieth.
    """
    [batch], size, rounds = batches(spec, arguments.batch)[:1], arguments.batch, arguments.rounds
    start = [term.weight for term in spec.terms]

    def evaluator(rows: int, *, shard: bool) -> LocalEvaluator:
        part, options = matrix.part(0, rows), {"compiled": True, "by_rule": True, "shard": shard}
        one = LocalEvaluator(part, spec, threads=1, **options)
        one.move(start)
        return one

    n, few = matrix.accounts, matrix.accounts // 20
    here = evaluator(n, shard=False)
    large, small = evaluator(n, shard=True), evaluator(few, shard=True)
    alone, long, short = (
        cpu_of(work, rounds) / size
        for work in (
            lambda: here.sums(batch),
            lambda: large.counts(batch).packed(),
            lambda: small.counts(batch).packed(),
        )
    )
    packed = large.counts(batch).packed()
    two, ten = (
        cpu_of(partial(Counts.total, [packed] * shards), rounds) / size for shards in (2, 10)
    )
    total = Counts.total([packed])
    account = (long - short) / (n - few)
    return {
        "one process, an account": alone / n,
        "worker, an account": account,
        "worker, beside": short - account * few,
        "driver, a shard": (ten - two) / 8,
        "driver, beside": cpu_of(lambda: here.reduce(total), rounds) / size,
        "bytes": len(pickle.dumps(packed, protocol=5)) / size,
    }


def main() -> None:
    """Print a line for each table and way of holding it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--numpy", action="store_true", help="shards count without machine code")
    parser.add_argument("--spec", type=Path, default=SPEC)
    parser.add_argument("--tables", type=Path, help="keep tables in this folder, and take them")
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "numba", "numpy"))
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} cores\n")
    print(
        "| accounts searched | shards | ms an experiment, one process (cores) | shards (cores) ",
        end="",
    )
    print("| their pace (cores) | a batch, ms (cores) | driver, MB | workers, MB: own + shared |")
    print("|" + " ---: |" * 8, flush=True)
    spec = specs.load(arguments.spec)
    with ExitStack() as stack:
        folder = arguments.tables or stack.enter_context(tempfile.TemporaryDirectory())
        ray = stack.enter_context(connected())
        for accounts in arguments.accounts:
            table = Path(folder) / f"{accounts}-parquet"
            if not table.is_dir():
                make_table(table, accounts, "parquet")
            matrix = load_accounts(scan(table), spec).search
            for shards in arguments.shards:
                way = not arguments.numpy
                cluster = ClusterEvaluator(
                    ray, matrix, spec, shards=shards, by_rule=True, compiled=way
                )
                with closing(cluster):
                    line = measure(matrix, spec, arguments, cluster)
                print("| " + " | ".join(line) + " |", flush=True)
            print("\nProcessor time of an experiment's parts:\n", flush=True)
            for name, cost in costs(matrix, spec, arguments).items():
                unit = f"{cost / 1e3:.0f} kB" if name == "bytes" else f"{1e6 * cost:.3g} µs"
                print(f"- {name}: {unit}")


if __name__ == "__main__":
    main()
