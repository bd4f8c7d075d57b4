"""A run's start and best on each of several dates: on how many a gain and a sign hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.engine.local import LocalEvaluator
from gtmar.metrics.registry import all_metrics, measure
from gtmar.runs.tier_table import objectives

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from gtmar.data.matrix import AccountMatrix
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec

__all__ = ["by_date", "by_day", "signs_by_date"]


def _parts(matrix: AccountMatrix) -> list[AccountMatrix]:
    """Return the rows of each date, in the order of dates."""
    assert matrix.date_of is not None  # a table of several dates has it
    return [
        matrix.take(np.flatnonzero(matrix.date_of == number)) for number in range(len(matrix.dates))
    ]


def by_day(matrix: AccountMatrix) -> list[tuple[date, AccountMatrix]]:
    """Return each date of a table of several that has rows, and these; nothing of one date."""
    parts = _parts(matrix) if matrix.dates else []
    return [(day, part) for day, part in zip(matrix.dates, parts, strict=True) if part.accounts]


def by_date(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    judge: Judge,
    before: Sequence[int],
    after: Sequence[int],
) -> dict[str, Any] | None:
    """Measure two weight vectors on each date of a table of several.

    Returns
    -------
    dict or None
        None of a table of one date. `accounts` and `rows` in all; and a list each, an entry a date:
        `dates`, `rows_by_date`, the objective `before` and `after`, null where it has none, whether
        it `gained`, null where that isn't known, and all metrics of the whole score of either,
        `metrics_before` and `metrics_after`. The objective of a tier is taken at the first vector's
        sizes.
    """
    if not matrix.dates:
        return None
    whole = [key for key, metric in all_metrics().items() if not metric.by_tier]
    found: dict[str, Any] = {"accounts": matrix.distinct, "rows": matrix.accounts}
    lists: dict[str, list[Any]] = {}
    for day, part in zip(matrix.dates, _parts(matrix), strict=True):
        one = two = None
        rows = [dict.fromkeys(whole)] * 2
        if part.accounts:
            one, two = objectives(judge, part, spec, before, after)
            frame = LocalEvaluator(part, spec).frame([before, after])
            measured = measure(frame, spec.tier_names, part.outcomes)
            rows = [{key: measured.row(n).get(key) for key in whole} for n in (0, 1)]
        each = {
            "dates": str(day),
            "rows_by_date": part.accounts,
            "before": one,
            "after": two,
            "gained": None if one is None or two is None else judge.gain(two, one),
            "metrics_before": rows[0],
            "metrics_after": rows[1],
        }
        for name, value in each.items():
            lists.setdefault(name, []).append(value)
    return found | lists


def signs_by_date(
    matrix: AccountMatrix, spec: ScoringSpec, judge: Judge, weights: Sequence[int]
) -> dict[str, list[bool | None]]:
    """Say of each weight other than 0, date by date, whether its sign holds there.

    It does where the objective is better with the weight than with 0 in its place, all other
    weights as they are; null where the objective has no value. Cost: two evaluations of a date's
    rows a weight.
    """
    parts = _parts(matrix)
    found: dict[str, list[bool | None]] = {}
    for index, term in enumerate(spec.terms):
        if not weights[index]:
            continue
        without = [*weights[:index], 0, *weights[index + 1 :]]
        signs: list[bool | None] = []
        for part in parts:
            ends = objectives(judge, part, spec, without, weights) if part.accounts else (None,)
            signs.append(None if None in ends else judge.gain(ends[-1], ends[0]))
        found[term.name] = signs
    return found
