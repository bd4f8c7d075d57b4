"""Runs of another tool's journal: which lines of a file belong together, and from which incumbent.

Such a file is appended to by run after run, and doesn't say where one begins: that follows from
what each line starts from.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from gtmar.errors import JournalError
from gtmar.integrations.jsonl_export import (
    KEPT_REASON,
    ORIGINAL,
    REVENUE_WEIGHTED,
    Entry,
    Problems,
    entry_of,
    objects,
)
from gtmar.journal.schema import experiment_id, experiment_schema, first_format
from gtmar.metrics.registry import all_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["ForeignFile", "ForeignRun", "Placed", "baseline_row", "foreign_rows"]

#: Values of a file are rounded; the chain of its incumbents is not broken by that.
_ROUNDING = 1e-6
#: A list of all experiments may stand on one line; without an end it is no such file.
_LONGEST_LINE = 256 * 1024 * 1024
_NOT_THERE = "imported: not in the file"


@dataclass(frozen=True)
class Placed:
    """A line in its place."""

    #: Place of its run in the file, from 0.
    run: int
    #: Number of the experiment in its run, from 1, and of the incumbent that it changed.
    number: int
    parent: int
    #: Weight before and after, by name.
    changes: dict[str, tuple[int, int]]
    entry: Entry


class ForeignRun:
    """One run of a file: its incumbent while lines are read, and what they add up to.

    Parameters
    ----------
    first
        Its first line.
    start
        Weights that this line changed.
    """

    def __init__(self, first: Entry, start: dict[str, int]) -> None:
        self.first, self.start = first, start
        #: Weights and objective of the incumbent, and its number, 0 for the baseline.
        self.weights, self.value, self.incumbent = start, first.before, 0
        #: Whether more of the objective is better.
        self.higher_is_better = True
        self.experiments = 0
        self.wins = 0
        self.last_line = first.line
        #: Microseconds of all lines; None where none says.
        self.duration_us: int | None = None
        #: Tiers in the order of the longest list of them.
        self.tiers: tuple[str, ...] = ()
        #: What the lines say of revenue retention's basis, None where one doesn't.
        self.bases: set[str | None] = set()
        #: By-tier metrics that the file has.
        self.by_tier: set[str] = set()

    def goes_on_with(self, entry: Entry) -> bool:
        """Whether a line starts from this run's incumbent."""
        return (
            self.keeps(entry)
            and self.weights.keys() == entry.weights.keys()
            and all(
                self.weights[name] == (weight if name not in entry.changes else before)
                for name, weight in entry.weights.items()
                if (before := entry.changes.get(name, (0, 0))[0]) is not None
            )
        )

    def keeps(self, entry: Entry) -> bool:
        """Whether a line is of the same origin, and starts from this run's incumbent's value."""
        near = math.isclose(entry.before, self.value, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        return entry.origin == self.first.origin and near

    def take(self, entry: Entry, run: int) -> Placed:
        """Take in the next line."""
        self.experiments += 1
        changes = {
            name: (self.weights[name] if before is None else before, after)
            for name, (before, after) in entry.changes.items()
        }
        placed = Placed(run, self.experiments, self.incumbent, changes, entry)
        if entry.won and entry.after is not None:
            self.wins += 1
            self.weights, self.value, self.incumbent = entry.weights, entry.after, self.experiments
        self.last_line = entry.line
        self.bases.add(entry.basis)
        if entry.duration_us is not None:
            self.duration_us = (self.duration_us or 0) + entry.duration_us
        for key, values in entry.by_tier.items():
            self.by_tier.add(key)
            if not values.keys() <= set(self.tiers):
                listed = (
                    [*values, *self.tiers]
                    if len(values) > len(self.tiers)
                    else [*self.tiers, *values]
                )
                self.tiers = tuple(dict.fromkeys(listed))
        return placed


class ForeignFile:
    """One pass over a file: iterating gives its lines, each in its place.

    Parameters
    ----------
    path
        The file.
    problems
        Takes in what is wrong; such lines are passed over.
    """

    def __init__(self, path: Path, problems: Problems) -> None:
        self.path, self.problems = path, problems
        #: Runs found so far.
        self.runs: list[ForeignRun] = []
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[Placed]:
        for entry in self._entries():
            run = self._run_of(entry)
            if run is None:
                continue
            if entry.won and entry.after is not None:
                if run.wins == 0:
                    run.higher_is_better = _higher_is_better(entry)
                gain = entry.after - entry.before
                if (gain if run.higher_is_better else -gain) <= 0:
                    self.problems.add(
                        entry.line, "outcome is win, but variant_value is no better", entry.after
                    )
            yield run.take(entry, len(self.runs) - 1)

    def hexdigest(self) -> str:
        """Return the SHA-256 of what was read."""
        return self._hash.hexdigest()

    def _entries(self) -> Iterator[Entry]:
        try:
            with self.path.open("rb") as file:
                for number, text in objects(self._lines(file), self.problems):
                    entry = entry_of(text, number, self.problems)
                    if entry is not None:
                        yield entry
        except OSError as err:
            raise JournalError(f'"{self.path}": can\'t be read: {err.strerror}') from err

    def _lines(self, file: IO[bytes]) -> Iterator[tuple[int, str]]:
        for number, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
            self._hash.update(raw)
            if len(raw) == _LONGEST_LINE:
                self.problems.add(number, f"a line of more than {_LONGEST_LINE:,} bytes")
                return
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
            except UnicodeDecodeError:
                self.problems.add(number, "not UTF-8 text")
                continue
            yield number, text

    def _run_of(self, entry: Entry) -> ForeignRun | None:
        """Return the run that a line belongs to, a new one where it must be; None for no run."""
        if self.runs:
            run = self.runs[-1]
            if run.goes_on_with(entry):
                return run
            others = sorted(run.weights.keys() ^ entry.weights.keys())
            if others and run.keeps(entry):
                self.problems.add(
                    entry.line,
                    "weights_snapshot has or lacks names beside the lines before it; "
                    "if another run begins here, split the file",
                    others,
                )
                return None
        start = dict(entry.weights)
        for name, (before, _) in entry.changes.items():
            if before is None:
                self.problems.add(
                    entry.line,
                    "the first experiment of a run must say what a changed weight was before",
                    name,
                )
                return None
            start[name] = before
        self.runs.append(ForeignRun(entry, start))
        return self.runs[-1]


def _higher_is_better(win: Entry) -> bool:
    """Which way is better: as the metric has it; for one that we don't know, as its win went."""
    metric = all_metrics().get(win.metric.partition(".")[0])
    if metric is not None:
        return metric.better != "lower"
    return win.after is None or win.after >= win.before


def baseline_row(run: ForeignRun, run_id: str) -> pa.Table:
    """Return a run's baseline as a row of the journal: what its first line started from."""
    columns: dict[str, list[Any]] = {
        "run_id": [run_id],
        "experiment_id": [experiment_id(0)],
        "number": [0],
        "proposal": [0],
        "objective": [run.first.metric],
        "value_after": [run.first.before],
        "outcome": ["baseline"],
        "changes": [[]],
        "weights": [list(run.start.items())],
        "null_reasons": [[("*", _NOT_THERE)]],
        "breaches": [[]],
        "proposer": ["baseline"],
        "evaluated_at": [run.first.at],
    }
    for key in run.by_tier:
        columns[key] = [[(tier, None) for tier in run.tiers]]
    return _table(columns)


def foreign_rows(run: ForeignRun, placed: Sequence[Placed], run_id: str) -> pa.Table:
    """Return lines of a run as rows of the journal.

    Parameters
    ----------
    run
        The run, read to its end.
    placed
        Some of its lines.
    run_id
        Its id in the journal.
    """
    entries = [each.entry for each in placed]
    columns: dict[str, list[Any]] = {
        "run_id": [run_id] * len(placed),
        "experiment_id": [experiment_id(each.number) for each in placed],
        "number": [each.number for each in placed],
        "proposal": [each.number for each in placed],
        "parent": [experiment_id(each.parent) for each in placed],
        "objective": [entry.metric for entry in entries],
        "value_before": [entry.before for entry in entries],
        "value_after": [entry.after for entry in entries],
        "outcome": ["win" if entry.won else "lose" for entry in entries],
        "changes": [
            [(name, {"before": b, "after": a}) for name, (b, a) in each.changes.items()]
            for each in placed
        ],
        # In one order, since JSON's doesn't mean anything.
        "weights": [[(name, entry.weights[name]) for name in run.start] for entry in entries],
        "null_reasons": [_reasons(entry) for entry in entries],
        "basis": [entry.basis for entry in entries],
        "breaches": [[]] * len(placed),
        "proposer": ["import"] * len(placed),
        "note": [entry.hypothesis for entry in entries],
        "evaluated_at": [entry.at for entry in entries],
        "duration_us": [entry.duration_us for entry in entries],
    }
    for key, metric in all_metrics().items():
        if key in run.by_tier:
            of_tiers = [entry.by_tier.get(key, {}) for entry in entries]
            columns[key] = [[(tier, each.get(tier)) for tier in run.tiers] for each in of_tiers]
        elif not metric.by_tier:
            columns[key] = [entry.scalars.get(key) for entry in entries]
    return _table(columns)


def _reasons(entry: Entry) -> list[tuple[str, str]]:
    """Say why metrics are null, and keep what no column has."""
    reasons = [("*", _NOT_THERE)]
    if entry.revenue_weighted is not None:
        reasons.append((REVENUE_WEIGHTED, KEPT_REASON.replace("(.*)", entry.revenue_weighted)))
    reasons.append((ORIGINAL, entry.original))
    return reasons


def _table(columns: dict[str, list[Any]]) -> pa.Table:
    """Put columns in the schema's order; those that aren't given are null."""
    schema = first_format(experiment_schema())
    nulls = [None] * len(columns["run_id"])
    arrays = [pa.array(columns.get(each.name, nulls), type=each.type) for each in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
