"""Who has how much of a table: one process, a driver that sends shards, shards that read their own.

Run it from the checkout: ``python tests/benchmarks/own_rows.py``. The table of the health_score
kind is made part by part. Each line is a process of its own, which loads the table, starts a search
and evaluates some experiments: processor time of the process that was started and of its workers,
by stage; the most memory of each that isn't mapped from files or shared; and the bytes that came
from workers while the table was loaded. Digests are compared. It prints Markdown. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.large_tables import SPEC, make_table

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.journal.writer import RunWriter
from gtmar.memory import parse_size
from gtmar.objective.objective import Judge
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import Plan

_TICK = os.sysconf("SC_CLK_TCK")
WAYS = ("local", "sent", "own")


class Watched:
    """Looks at this process and its workers: most memory in kB, and processor seconds, of each."""

    def __init__(self) -> None:
        self.memory: Counter[int] = Counter()
        self.busy: dict[int, float] = {}
        self._done = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self.look()

    def look(self) -> None:
        """Look once."""
        for place in Path("/proc").iterdir():
            if not place.name.isdecimal():
                continue
            process = int(place.name)
            try:
                if process != os.getpid() and b"Shard" not in (place / "cmdline").read_bytes():
                    continue
                status = (place / "status").read_text(encoding="ascii")
                fields = (place / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            found = re.search(r"RssAnon:\s+(\d+)", status)
            self.memory[process] = max(self.memory[process], int(found[1]) if found else 0)
            self.busy[process] = (int(fields[11]) + int(fields[12])) / _TICK

    def stage(self) -> tuple[float, float]:
        """Return what this process and its workers have used so far, in processor seconds."""
        self.look()
        own = self.busy[os.getpid()]
        return own, sum(self.busy.values()) - own


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Load one table one way, search it, and say what each stage took."""
    spec, way = specs.load(SPEC), arguments.way
    memory = parse_size(arguments.memory) if arguments.memory else None
    engine = runs.Engine("local", memory)
    if way != "local":
        engine = runs.Engine("ray", memory, shards=arguments.shards, own_rows=way == "own")
    watched, fetched = Watched(), Counter[str]()
    stages = [(time.perf_counter(), *watched.stage())]
    with engine.rows() as rows, tempfile.TemporaryDirectory() as journal:
        if rows is not None:
            asked = rows.ask

            def counted(name: str, *arguments: Any, **named: Any) -> list[Any]:
                answers = asked(name, *arguments, **named)
                for each in answers:
                    size = each.estimated_size() if name == "column" else getattr(each, "nbytes", 0)
                    fetched[name] += int(size)
                return answers

            rows.ask = counted  # type: ignore[method-assign]
        accounts = load_accounts(scan(arguments.measure), spec, memory=memory, shards=rows)
        stages.append((time.perf_counter(), *watched.stage()))
        with engine.evaluator(accounts.search, spec, rows) as evaluator:
            plan = Plan(seed=1, limits=runs.Limits(arguments.experiments), batch=8)
            judge = Judge.of(spec, None)
            search = Search(accounts, spec, judge, plan, evaluator=evaluator)
            with RunWriter(Path(journal), new_run_id()) as writer:
                result = search.run(writer, start=start_record(search))
            stages.append((time.perf_counter(), *watched.stage()))
    workers = sorted(kb for process, kb in watched.memory.items() if process != os.getpid())
    return {
        "load": [b - a for a, b in zip(stages[0], stages[1], strict=True)],
        "search": [b - a for a, b in zip(stages[1], stages[2], strict=True)],
        "driver": watched.memory[os.getpid()],
        "workers": workers,
        "fetched": fetched,
        "digest": result.digest,
    }


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=10_000_000)
    parser.add_argument("--experiments", type=int, default=50)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--memory", help="as for gtmar run")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--table", type=Path, help="keep the table in this folder, and take it")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("polars", "ray", "numpy"))
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} cores\n")
    print(
        "| way | load: s, driver s, workers s | search: the same | driver, MB | workers, MB ",
        end="",
    )
    print("| fetched, MB |\n|" + " --- |" * 6, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        table = arguments.table or Path(folder) / "table"
        if not table.is_dir():
            make_table(table, arguments.accounts, "parquet")
        digests = set()
        for way in arguments.ways:
            command = [sys.executable, __file__, "--measure", str(table), "--way", way]
            command += ["--shards", str(arguments.shards)]
            command += ["--experiments", str(arguments.experiments)]
            command += ["--memory", arguments.memory] if arguments.memory else []
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            digests.add(found["digest"])
            cells = [way]
            cells += [", ".join(f"{x:.0f}" for x in found[name]) for name in ("load", "search")]
            cells += [f"{found['driver'] / 1e3:,.0f}"]
            cells += [", ".join(f"{kb / 1e3:,.0f}" for kb in found["workers"]) or "none"]
            cells += [", ".join(f"{n} {b / 1e6:,.0f}" for n, b in found["fetched"].items() if b)]
            print("| " + " | ".join(cells) + " |", flush=True)
        assert len(digests) == 1, digests


if __name__ == "__main__":
    main()
