"""Benchmark of searches on this machine: experiments a second, and where their time goes."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import UsageError
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.optimize.surrogate import MACHINE_CODE
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import without_holdout
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import Plan

if TYPE_CHECKING:
    import polars as pl

    from gtmar.data.matrix import Accounts
    from gtmar.spec.model import ScoringSpec

__all__ = ["Pace", "Track", "bench", "floor_bytes", "read_seconds"]

#: Weights that a random proposal changes on average: one to three.
_CHANGES = 2
#: Times that the floor is measured; the least counts.
_FLOOR_ROUNDS = 7


@dataclass(frozen=True)
class Pace(PlainData):
    """How fast a search is over one table on this machine."""

    accounts: int
    #: Rows that are searched: one for each account and date.
    rows: int
    features: int
    threads: int
    #: Experiments of a round, and rounds. Figures are of the fastest round, the one that other work
    #: on the machine disturbed least.
    experiments: int
    rounds: int
    #: Time to check, encode, split and fingerprint the table.
    load_seconds: float
    #: Memory that a row takes during the whole search.
    bytes_per_account: float
    #: Largest resident size of the process so far, in bytes; None where the system doesn't say.
    peak_bytes: int | None
    #: Experiments are counted once they are in the journal, with all metrics.
    experiments_per_second: float
    #: Candidates evaluated for each experiment; more than 1, since those that were evaluated ahead
    #: are thrown away after a win.
    evaluated: float
    #: Share of the loop's time by stage, in [0, 1].
    spent: dict[str, float]
    #: Time to read once the bytes that a candidate depends on: a lower bound for one thread.
    floor_microseconds: float
    #: Of the best round's run; the same on every machine.
    digest: str


class Track:
    """A loaded table, without a holdout, on which searches are timed round by round.

    `data` and `spec` are what `gtmar run` takes; `threads` are the evaluator's, None lets it
    choose.
    """

    def __init__(
        self,
        data: str | Path | pl.DataFrame,
        spec: ScoringSpec | str | Path,
        *,
        threads: int | None = None,
    ) -> None:
        self.spec = without_holdout(
            spec if isinstance(spec, specs.ScoringSpec) else specs.load(spec)
        )
        self.judge = Judge.of(self.spec)
        began = time.perf_counter()
        self.accounts: Accounts = load_accounts(scan(data), self.spec)
        self.load_seconds = time.perf_counter() - began
        self._threads = threads
        self._rates: list[float] = []
        #: Processor time of the last round's search, of all threads together.
        self.cpu_seconds = 0.0
        self._best: tuple[Search, LocalEvaluator, str] | None = None

    def round(self, experiments: int) -> float:
        """Do one seeded search, journaled in a folder that is deleted; return experiments/s."""
        evaluator = LocalEvaluator(
            self.accounts.search,
            self.spec,
            threads=self._threads,
            expected=experiments,
            by_rule=True,
        )
        # The timing is of machine code, so compile it first.
        if evaluator.compile():
            MACHINE_CODE.compile()
        plan = Plan(limits=Limits(experiments))
        search = Search(self.accounts, self.spec, self.judge, plan, evaluator=evaluator)
        with (
            tempfile.TemporaryDirectory() as journal,
            RunWriter(Path(journal), new_run_id()) as writer,
        ):
            began = time.process_time()
            result = search.run(writer, start=start_record(search))
            self.cpu_seconds = time.process_time() - began
        rate = result.experiments_per_second
        if rate >= max(self._rates, default=0.0):
            self._best = (search, evaluator, result.digest)
        self._rates.append(rate)
        return rate

    def pace(self, experiments: int) -> Pace:
        """Return the figures of the rounds so far; at least one is needed."""
        if self._best is None:
            raise UsageError("no round has been timed yet", hint="call round first")
        search, evaluator, digest = self._best
        total = sum(search.loop.spent.values()) or 1.0
        matrix = self.accounts.search
        return Pace(
            accounts=matrix.distinct,
            rows=matrix.accounts,
            features=len(matrix.names),
            threads=evaluator.threads,
            experiments=experiments,
            rounds=len(self._rates),
            load_seconds=self.load_seconds,
            bytes_per_account=evaluator.nbytes / max(1, matrix.accounts),
            peak_bytes=_peak(),
            experiments_per_second=max(self._rates),
            evaluated=evaluator.evaluated / max(1, experiments),
            spent={stage: seconds / total for stage, seconds in search.loop.spent.items()},
            floor_microseconds=read_seconds(floor_bytes(self.accounts)) * 1e6,
            digest=digest,
        )


def floor_bytes(accounts: Accounts) -> int:
    """Return the bytes that any evaluation of a candidate must read.

    Those are two changed columns on average, the incumbent's raw scores, each account's code of
    movement class and activation, and its cents.
    """
    matrix = accounts.search
    columns = sum(column.nbytes for column in matrix.columns) / max(1, len(matrix.columns))
    cents = sum(m.nbytes for m in (matrix.start, matrix.end, matrix.ltv) if m is not None)
    return int(_CHANGES * columns) + 4 * matrix.accounts + matrix.codes.nbytes + cents


def read_seconds(size: int) -> float:
    """Return the seconds to read so many bytes once, the least of several measurements."""
    buffer = np.ones(max(1, size // 8), dtype=np.int64)
    least = np.inf
    for _ in range(_FLOOR_ROUNDS):
        began = time.perf_counter()
        buffer.max()
        least = min(least, time.perf_counter() - began)
    return float(least)


def _peak() -> int | None:
    """Return the process's largest resident size in bytes; None on a system that doesn't say."""
    with suppress(OSError):
        # `getrusage` would count the parent's size at the time of the fork, too.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        match = re.search(r"^VmHWM:\s*(\d+) kB", status, re.M)
        if match is not None:
            return 1024 * int(match[1])
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def bench(
    data: str | Path | pl.DataFrame,
    spec: ScoringSpec | str | Path,
    *,
    experiments: int = 2000,
    rounds: int = 5,
    threads: int | None = None,
) -> Pace:
    """Time searches over a table.

    Parameters
    ----------
    data, spec
        What `gtmar run` takes; errors are those of a run, too.
    experiments, rounds
        Experiments of each round, and rounds, 1 or more; the best round counts.
    threads
        Of the evaluator, 1 or more; None lets it choose.

    Raises
    ------
    UsageError
        If a number is too small.
    """
    counts = {"n": experiments, "rounds": rounds, "threads": 1 if threads is None else threads}
    wrong = [
        f"{name} must be 1 or more, got {value}" for name, value in counts.items() if value < 1
    ]
    if wrong:
        raise UsageError("; ".join(wrong))
    track = Track(data, spec, threads=threads)
    for _ in range(rounds):
        track.round(experiments)
    return track.pace(experiments)
