"""Revenue metrics of a run's start and best, each with its interval, and what that proves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gtmar.engine.local import LocalEvaluator
from gtmar.metrics.registry import all_metrics, measure, metric_column
from gtmar.stats.interval import unknown
from gtmar.validation.intervals import panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = ["Revenue", "RevenueLine", "revenue_of"]

#: What is shown, as people call it, and how its values are written: first of the whole score, then
#: tier by tier.
_WHOLE = {
    "revenue_capture_at_20": ("MRR held by the best-scored fifth", "percent"),
    "nrr_at_20": ("NRR of the best-scored fifth", "percent"),
}
_BY_TIER = {
    "logo_retention_by_tier": ("Logos kept", "percent"),
    "nrr_by_tier": ("NRR", "percent"),
    "grr_by_tier": ("GRR", "percent"),
    "expansion_rate_by_tier": ("Expansion", "percent"),
    "contraction_rate_by_tier": ("Contraction", "percent"),
    "arpa_by_tier": ("ARPA", "money"),
}
#: Shown first; the others are what these are made of.
_FIRST = (*_WHOLE, "logo_retention_by_tier", "nrr_by_tier", "grr_by_tier")


@dataclass(frozen=True)
class RevenueLine:
    """One metric, of the whole score or of a tier.

    Parameters
    ----------
    column
        Its name in the journal, with its tier: ``nrr_by_tier.A``.
    label, unit
        As people call it; `percent` or `money`.
    first
        Whether it is shown before the others.
    start, best, change
        With their intervals, accounts paired.
    reading
        `better`, `worse` or `moved` (where neither way is good) where the whole interval of the
        change lies on one side of 0; `no proven change`, or `unknown` without one.
    """

    column: str
    label: str
    unit: str
    first: bool
    start: Interval
    best: Interval
    change: Interval
    reading: str


@dataclass(frozen=True)
class Revenue:
    """Revenue metrics on the accounts held out, or on those searched where none are."""

    part: str
    accounts: int
    level: float
    lines: tuple[RevenueLine, ...]

    def named(self, reading: str) -> list[str]:
        """Return the labels of all lines of a reading."""
        return [line.label for line in self.lines if line.reading == reading]


def revenue_of(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    start: Sequence[int],
    best: Sequence[int],
    *,
    part: str,
    level: float,
) -> Revenue | None:
    """Measure a matrix under two weight vectors.

    Parameters
    ----------
    matrix
        The accounts.
    spec
        The scoring model.
    start, best
        Weight vectors, F each.
    part
        Which accounts these are, in words.
    level
        Of the intervals.

    Returns
    -------
    Revenue or None
        None where the table has none of the columns.

    Notes
    -----
    Cost: that of the intervals, about half a second for 1,500 accounts.
    """
    outcomes = matrix.outcomes
    keys = [
        key
        for key in (*_WHOLE, *_BY_TIER)
        if outcomes.missing_reason(all_metrics()[key].needs) is None
    ]
    if not keys:
        return None
    frame = LocalEvaluator(matrix, spec).frame([start, best])
    measured = measure(frame, spec.tier_names, outcomes).values
    found = uncertainty(panel_of(matrix, spec, start, best), level=level, metrics=set(keys))
    lines = []
    for key in keys:
        for tier in spec.tier_names if key in _BY_TIER else (None,):
            column = metric_column(key, tier)
            word, unit = (_WHOLE | _BY_TIER)[key]
            before, after = measured[column].to_list()
            moved = None if before is None or after is None else after - before
            none = unknown(None, level=level, accounts=0, reason="no value")
            sides = ((found.before, before), (found.after, after), (found.gain, moved))
            start_at, best_at, change = (
                replace(side.get(column, none), value=value) for side, value in sides
            )
            lines.append(
                RevenueLine(
                    column=column,
                    label=word if tier is None else f"{word}, tier {tier}",
                    unit=unit,
                    first=key in _FIRST,
                    start=start_at,
                    best=best_at,
                    change=change,
                    reading=_reading(change, all_metrics()[key].better),
                )
            )
    return Revenue(part, matrix.accounts, level, tuple(lines))


def _reading(change: Interval, better: str) -> str:
    if change.low is None or change.high is None or change.value is None:
        return "unknown"
    if not (change.above_zero or change.below_zero):
        return "no proven change"
    if better == "neither":
        return "moved"
    return "better" if change.above_zero == (better == "higher") else "worse"
