"""What a run has judged and not yet written: measured in one query, handed to the journal.

To decide takes the objective alone; the full metrics are computed here, many rows at once. All of
it is done in the background: most of it is work of Polars, pyarrow and the disk, which lets the
search go on meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gtmar.evaluate.resources import cores
from gtmar.journal.rows import baseline_fields, experiment_rows, step_fields
from gtmar.runs.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from gtmar.journal.rows import Fields
    from gtmar.journal.writer import RunWriter
    from gtmar.metrics.registry import Measured
    from gtmar.search.climb import Step

__all__ = ["Ledger", "Signature"]

#: Experiments whose metrics are computed in one query, and that make a part: half of those still to
#: come, since the loop waits for the last ones, and within these ends. A query and a part cost
#: some milliseconds each, however few their rows.
_MEASURED_AT_LEAST = 256
_MEASURED_AT_ONCE = 4096
#: Or after so many seconds, so that a slow run reaches the journal too.
_MEASURED_AFTER = 1.0


@dataclass(frozen=True)
class Signature:
    """What is the same in all rows of a run.

    Parameters
    ----------
    objective, names, basis
        The metric that decides, the weights' names, the basis of revenue metrics.
    author, note
        Who asked for each experiment, and why; None where a proposer did.
    """

    objective: str
    names: tuple[str, ...]
    basis: str | None
    author: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class _Judged:
    """Steps of one batch of the search.

    Parameters
    ----------
    steps
        In order.
    sums
        Of those that were evaluated, shape (K, L, S).
    at, took
        When they were judged, in microseconds since 1970; how many each evaluated one took.
    """

    steps: Sequence[Step]
    sums: NDArray[np.int64]
    at: int
    took: int


class Ledger:
    """Judged steps on their way to the journal; a context manager that ends the work on it.

    Parameters
    ----------
    writer
        Of the run. From here on it is the ledger's alone, until `finish` or the context's end.
    measure
        Gives all metrics of K rows of sums; called from another thread.
    signature
        What every row says.
    expected
        Steps to come at most, about.
    """

    def __init__(
        self,
        writer: RunWriter,
        measure: Callable[[NDArray[np.int64]], Measured],
        signature: Signature,
        *,
        expected: int,
    ) -> None:
        self._writer = writer
        self._measure = measure
        self._signature = signature
        self._expected = expected
        self._waiting: list[_Judged] = []
        self._count = 0
        self._since = 0.0
        # On one core it would take the search's own time, and the changing of threads besides.
        self._background = Background(threaded=cores() > 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._background.__exit__(kind, error, trace)

    def open(self, weights: Sequence[int], value: float | None, sums: NDArray[np.int64]) -> None:
        """Write the baseline as the run's first part; `sums` have shape (1, L, S)."""
        self._background.do(partial(self._write_baseline, weights, value, sums, _now()))

    def record(self, kind: str, fields: dict[str, Any]) -> None:
        """Write a record of the run after all that came before it."""
        self._background.do(partial(self._writer.record, kind, fields))

    def add(self, steps: Sequence[Step], sums: NDArray[np.int64], took: int) -> None:
        """Take in judged steps.

        Parameters
        ----------
        steps
            In order.
        sums
            Of those that were evaluated, shape (K, L, S).
        took
            Microseconds that each of these took.

        Raises
        ------
        JournalError
            If what came before couldn't be written.
        """
        if not self._waiting:
            self._since = time.perf_counter()
        self._waiting.append(_Judged(steps, sums, _now(), took))
        self._count += len(steps)
        self._expected -= len(steps)
        coming = (self._expected + self._count) // 2
        full = self._count >= min(max(_MEASURED_AT_LEAST, coming), _MEASURED_AT_ONCE)
        if full or time.perf_counter() - self._since > _MEASURED_AFTER:
            self._hand_over(flush=full)

    def finish(self) -> None:
        """Write all that waits, and wait until it is written."""
        self._hand_over(flush=True)
        self._background.finish()

    def _hand_over(self, *, flush: bool) -> None:
        waiting, self._waiting, self._count = self._waiting, [], 0
        self._background.do(partial(self._write, waiting, flush=flush))

    # What follows is done in the background.

    def _write_baseline(
        self, weights: Sequence[int], value: float | None, sums: NDArray[np.int64], at: int
    ) -> None:
        self._append(baseline_fields(weights, value), self._measure(sums), [at], [0])
        self._writer.flush()

    def _write(self, waiting: Sequence[_Judged], *, flush: bool) -> None:
        """Measure what waits in one query, and hand it to the journal."""
        if waiting:
            steps = [step for judged in waiting for step in judged.steps]
            measured = self._measure(np.concatenate([judged.sums for judged in waiting]))
            if len(steps) > measured.values.height:
                measured = measured.spread(*_places(steps))
            times = [judged.at for judged in waiting for _ in judged.steps]
            durations = [
                0 if step.candidate.taken_over else judged.took
                for judged in waiting
                for step in judged.steps
            ]
            fields = step_fields(steps, self._signature.names)
            self._append(fields, measured, times, durations)
        if flush:
            self._writer.flush()

    def _append(
        self, fields: Fields, measured: Measured, times: list[int], durations: list[int]
    ) -> None:
        signature = self._signature
        rows = experiment_rows(
            fields,
            measured,
            run_id=self._writer.run_id,
            objective=signature.objective,
            names=signature.names,
            basis=signature.basis,
            author=signature.author,
            note=signature.note,
            times=np.array(times),
            durations=np.array(durations),
        )
        self._writer.append(rows)


def _now() -> int:
    """Return the microseconds since 1970."""
    return time.time_ns() // 1000


def _places(steps: Sequence[Step]) -> tuple[list[int | None], list[str]]:
    """Say for each step which measured row is its own, and why it has none."""
    places: list[int | None] = []
    evaluated = 0
    for step in steps:
        places.append(None if step.candidate.taken_over else evaluated)
        evaluated += not step.candidate.taken_over
    sources = [step.candidate.known.source if step.candidate.known else "" for step in steps]
    return places, [f"not evaluated here: known from {source}" for source in sources]
