"""Rows built by column say what their steps and metrics say, one by one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from gtmar.journal.schema import baseline_fields, experiment_rows, step_fields
from gtmar.metrics.registry import Measured, all_metrics, metric_column
from gtmar.optimize.hill_climb import Candidate, Known, Outcome, Step

NAMES = ("nps", "logins", "tickets")
TIERS = ("A", "B")
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def measured_of(count: int) -> Measured:
    """Values that all differ, every seventh of them null; two mappings of reasons in turn."""
    columns: dict[str, pl.Series] = {}
    number = 0
    for key, metric in all_metrics().items():
        for tier in TIERS if metric.by_tier else (None,):
            values: list[Any] = []
            for _ in range(count):
                number += 1
                value = None if number % 7 == 0 else number
                values.append(value if metric.count or value is None else value / 3)
            kind = pl.Int64 if metric.count else pl.Float64
            columns[metric_column(key, tier)] = pl.Series(values, dtype=kind)
    mappings: tuple[dict[str, str], ...] = ({}, {"hhi": "no revenue", "nrr.A": "nobody pays"})
    reasons = tuple(mappings[row // 2 % 2] for row in range(count))
    return Measured(pl.DataFrame(columns), TIERS, reasons)


def steps_of(count: int) -> list[Step]:
    """Steps of which every third wins, every fifth is known and every seventh is blocked."""
    draw = np.random.default_rng(1)
    incumbent: tuple[int, ...] = (5, 0, -3)
    parent, steps = 0, []
    for number in range(1, count + 1):
        weights = tuple(w + int(s) for w, s in zip(incumbent, draw.integers(-1, 2, 3), strict=True))
        changes = {
            i: new
            for i, (old, new) in enumerate(zip(incumbent, weights, strict=True))
            if old != new
        }
        known = Known(0.25, "r1/exp_00007") if number % 5 == 0 else None
        outcome = Outcome.WIN if number % 3 == 0 else Outcome.LOSE
        broken = ("share_by_tier.A: 1 % < 5 %",) if number % 7 == 0 else ()
        candidate = Candidate(number * 2, changes, weights, "learned", known, known is not None)
        value = None if number == 4 else number / 7
        steps.append(Step(number, candidate, parent, incumbent, number / 9, value, outcome, broken))
        if outcome is Outcome.WIN:
            incumbent, parent = weights, number
    return steps


def built(fields: dict[str, Any], measured: Measured, **more: Any) -> list[dict[str, Any]]:
    count = measured.values.height
    since = int(WHEN.timestamp() * 1_000_000)
    shared: dict[str, Any] = {"run_id": "r1", "objective": "auc", "names": NAMES}
    shared |= {"basis": "binary", "author": None, "note": None, **more}
    times, durations = since + np.arange(count), np.arange(count) * 10
    table = experiment_rows(fields, measured, times=times, durations=durations, **shared)
    table.validate(full=True)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_a_row_says_what_its_step_and_its_metrics_say(count: int) -> None:
    measured, steps = measured_of(count), steps_of(count)
    rows = built(step_fields(steps, NAMES), measured, author="mk", note="why")
    for place, (row, step) in enumerate(zip(rows, steps, strict=True)):
        changes = {
            NAMES[i]: {"before": step.before_weights[i], "after": new}
            for i, new in sorted(step.candidate.changes.items())
        }
        metrics = {
            key: list(value.items()) if isinstance(value, dict) else value
            for key, value in measured.row(place).items()
        }
        assert row == {
            "run_id": "r1",
            "experiment_id": f"exp_{step.number:05}",
            "number": step.number,
            "proposal": step.candidate.proposal,
            "parent": f"exp_{step.parent:05}",
            "objective": "auc",
            "value_before": step.before,
            "value_after": step.value,
            "outcome": str(step.outcome),
            "changes": list(changes.items()),
            "weights": list(zip(NAMES, step.candidate.weights, strict=True)),
            **metrics,
            "basis": "binary",
            "null_reasons": list(measured.reasons[place].items()),
            "breaches": list(step.breaches),
            "repeats": step.candidate.known and step.candidate.known.source,
            "proposer": "learned",
            "author": "mk",
            "note": "why",
            "evaluated_at": WHEN + timedelta(microseconds=place),
            "duration_us": place * 10,
        }


def test_a_baseline_changes_nothing_and_is_nobodys() -> None:
    [row] = built(baseline_fields((5, 0, -3), 0.5), measured_of(1), author="mk", note="why")
    assert row["weights"] == [("nps", 5), ("logins", 0), ("tickets", -3)]
    assert row["changes"] == row["breaches"] == row["null_reasons"] == []
    assert (row["number"], row["parent"], row["value_after"]) == (0, None, 0.5)
    assert (row["author"], row["note"], row["outcome"]) == (None, None, "baseline")
