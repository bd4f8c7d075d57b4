"""Kill `gtmar run` and `gtmar resume` at random moments; each time read, verify, and resume.

Run it from the checkout: ``python tests/benchmarks/kills.py --kills 200``. Each round starts a
run in a process group of its own and a journal of its own, waits until the run is in the journal,
and sends SIGKILL after a random time between that and shortly after its end. After every kill all
queries of the SQL library read the journal, and `verify` finds nothing. Then the run is resumed,
now and then killed again while it resumes, until it ends; its digest must be that of the run that
nobody killed. Parts are written every 40 experiments instead of every 4,096, so that kills fall
between and into them. It ends with exit code 1 at the first thing that isn't as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gtmar.data import synthetic
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.sql_library import library
from gtmar.journal.verify import verify

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
COMMAND = """
from gtmar.cli.app import main
from gtmar.journal import writer
from gtmar.runs import journaled_search
writer.FLUSH_ROWS, journaled_search._MEASURED_AT_ONCE = 40, 20
main()
"""
#: How often a resumed run is killed as well.
AGAIN = 0.4


@dataclass
class Bench:
    """What all rounds share."""

    table: Path
    experiments: int
    chance: random.Random
    #: Of a process that nobody kills: seconds until its run is in the journal, seconds from there
    #: to its end, and the run's digest.
    startup: float = 0.0
    seconds: float = 0.0
    digest: str = ""

    def start(self, journal: Path, resumed: str | None = None) -> subprocess.Popen[bytes]:
        """Start the command in a process group of its own."""
        words = ["resume", resumed] if resumed else ["run", "--data", str(self.table), "--cold"]
        if not resumed:
            words += ["--spec", str(SPEC), "--n", str(self.experiments), "--seed", "7"]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words, "--journal", str(journal), "--json"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def killed(self, process: subprocess.Popen[bytes], *, wait: float = 0.0) -> bool:
        """Kill a process a random time after `wait` seconds; say whether it was still alive."""
        try:
            process.wait(wait + self.chance.uniform(0, self.seconds * 1.05))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"the process ended with {process.returncode}:\n{said.decode()}")
        return process.returncode != 0

    def begun(self, journal: Path) -> subprocess.Popen[bytes]:
        """Start a run, and wait until it is in the journal."""
        process = self.start(journal)
        while process.poll() is None and not list(journal.glob("runs/*")):
            time.sleep(0.001)
        return process

    def ended(self, journal: Path, resumed: str | None = None) -> None:
        """Let a process come to its end."""
        process = self.start(journal, resumed)
        _, said = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"{journal}: exit code {process.returncode}:\n{said.decode()}")


def run_of(journal: Path) -> RunFiles | None:
    """Return the journal's run; None where it was killed before it had a start record."""
    found = list(journal.glob("runs/*/start.parquet"))
    return RunFiles(journal, found[0].parent.name.partition("=")[2]) if found else None


def read(journal: Path) -> None:
    """Ask all that the library asks, check all that it checks, and verify."""
    with Journal(journal) as opened:
        for name in library():
            if name.startswith("journal/"):
                opened.sql(name)
        checks = [name for name in library() if name.startswith("checks/")]
        wrong = [name for name in checks if not opened.sql(name).is_empty()]
    found = verify(journal)
    if wrong or not found.sound:
        raise SystemExit(f"{journal}: not as it must be: {wrong} {found.findings}")


def one_round(bench: Bench, journal: Path, seen: Counter[str]) -> None:
    """Kill a run, perhaps its resumption too, and see it end as it must."""
    if not bench.killed(bench.begun(journal)):
        seen["ended before the kill"] += 1
    else:
        seen["kills"] += 1
        files = run_of(journal)
        if files is None:
            seen["kills before the start record"] += 1
            return
        read(journal)
        seen["kills at or after the end record" if files.end.exists() else "kills on the way"] += 1
    files = run_of(journal)
    assert files is not None
    while not files.end.exists():
        again = bench.chance.random() < AGAIN
        if again and bench.killed(bench.start(journal, files.run_id), wait=bench.startup):
            seen["kills"] += 1
            seen["kills while it was resumed"] += 1
            read(journal)
        elif not files.end.exists():
            bench.ended(journal, files.run_id)
    if not verify(journal).sound:
        raise SystemExit(f"{journal}: {verify(journal).findings}")
    digest = files.record("end")["digest"]
    if digest != bench.digest:
        raise SystemExit(f"{journal}: digest {digest}, not {bench.digest}")
    seen["runs that ended with the same digest"] += 1


def main() -> None:
    """Kill until there were so many kills; print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--accounts", type=int, default=300)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gtmar-kills-"))
    table = folder / "accounts.parquet"
    synthetic.generate("health_score", accounts=arguments.accounts).write_parquet(table)
    bench = Bench(table, arguments.experiments, random.Random(arguments.seed))
    began = time.perf_counter()
    process = bench.begun(folder / "whole")
    bench.startup = time.perf_counter() - began
    process.communicate()
    bench.seconds = time.perf_counter() - began - bench.startup
    whole = run_of(folder / "whole")
    assert whole is not None
    bench.digest = whole.record("end")["digest"]
    shown = {"startup": round(bench.startup, 2), "seconds": round(bench.seconds, 2)}
    print(json.dumps({**shown, "parts": len(whole.parts)}), flush=True)
    seen: Counter[str] = Counter()
    number = 0
    while seen["kills"] < arguments.kills:
        number += 1
        journal = folder / f"journal-{number}"
        one_round(bench, journal, seen)
        if journal.exists():
            shutil.rmtree(journal)
        if number % 20 == 0:
            print(json.dumps({"rounds": number, **seen}), flush=True)
    shutil.rmtree(folder)
    print(json.dumps({"rounds": number, **seen}, indent=2))
    print(f"{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
