"""What a run has judged and not yet written: measured in one query, handed to the journal.

To decide takes the objective alone; the full metrics are computed here, many rows at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gtmar.journal.schema import baseline_fields, experiment_rows, step_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gtmar.journal.schema import Fields
    from gtmar.journal.writer import RunWriter
    from gtmar.metrics.registry import Measured
    from gtmar.optimize.hill_climb import Step

__all__ = ["Ledger", "Signature"]

#: Experiments whose metrics are computed in one query: as many as make a part. A query costs three
#: milliseconds however few they are.
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


class Ledger:
    """Judged steps on their way to the journal.

    Parameters
    ----------
    writer
        Of the run.
    measure
        Gives all metrics of K rows of sums.
    signature
        What every row says.
    """

    def __init__(
        self,
        writer: RunWriter,
        measure: Callable[[NDArray[np.int64]], Measured],
        signature: Signature,
    ) -> None:
        self._writer = writer
        self._measure = measure
        self._signature = signature
        self._steps: list[Step] = []
        self._sums: list[NDArray[np.int64]] = []
        self._times: list[int] = []
        self._durations: list[int] = []
        self._since = 0.0

    def open(self, weights: Sequence[int], value: float | None, sums: NDArray[np.int64]) -> None:
        """Write the baseline as the run's first part; `sums` have shape (1, L, S)."""
        fields = baseline_fields(weights, value)
        self._append(fields, self._measure(sums), np.array([_now()]), np.array([0]))
        self._writer.flush()

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
        """
        if not self._steps:
            self._since = time.perf_counter()
        self._steps += steps
        self._sums.append(sums)
        self._times += [_now()] * len(steps)
        self._durations += [0 if step.candidate.taken_over else took for step in steps]
        waited = time.perf_counter() - self._since
        if len(self._steps) >= _MEASURED_AT_ONCE or waited > _MEASURED_AFTER:
            self.write()

    def write(self) -> None:
        """Measure what waits in one query, and hand it to the journal."""
        if not self._steps:
            return
        steps, self._steps = self._steps, []
        measured = self._measure(np.concatenate(self._sums))
        if len(steps) > measured.values.height:
            measured = measured.spread(*_places(steps))
        fields = step_fields(steps, self._signature.names)
        self._append(fields, measured, np.array(self._times), np.array(self._durations))
        self._sums, self._times, self._durations = [], [], []

    def _append(
        self,
        fields: Fields,
        measured: Measured,
        times: NDArray[np.int64],
        durations: NDArray[np.int64],
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
            times=times,
            durations=durations,
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
