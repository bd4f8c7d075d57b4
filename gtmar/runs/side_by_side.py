"""Two scores of the same accounts compared: by tier, on each date, on old and on new customers.

Both scores are cut into tiers of the first score's sizes, so that tiers can be compared. How a
score does half a year later on the customers that it was searched on, and how it does on new
customers, are two questions: one number for both would answer neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.data.matrix import load_accounts
from gtmar.data.outcomes import CENTS
from gtmar.data.rules import OWN
from gtmar.data.split import key_expression
from gtmar.engine.equal_sizes import sums_at_sizes, tier_sizes
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import tier_sum
from gtmar.metrics.registry import CONCENTRATION_KEYS, all_metrics, measure, measure_exact
from gtmar.objective.guardrails import SMALLEST_SEGMENT
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import ids_in_both
from gtmar.stats.interval import reading_of, too_few, unknown
from gtmar.validation.intervals import paired, panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date
    from fractions import Fraction

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.outcomes import OutcomeColumns
    from gtmar.engine.evaluator import Evaluator
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

    _Scored = tuple[AccountMatrix, ScoringSpec, Sequence[int]]

__all__ = [
    "Customers",
    "at_equal_sizes",
    "best_and_worst",
    "both_objectives",
    "by_date",
    "customers_apart",
    "date_parts",
    "measured_at_sizes",
    "one_side",
    "side_by_side",
    "signs_by_date",
    "unknown_of_few",
]


def best_and_worst(spec: ScoringSpec) -> tuple[str, str]:
    """Return the names of a spec's best and worst tier; for a risk score, the best is the last."""
    first, last = spec.tier_names[0], spec.tier_names[-1]
    return (last, first) if spec.orientation == "risk" else (first, last)


def measured_at_sizes(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    weights: Sequence[int],
    sizes: Sequence[int],
    outcomes: OutcomeColumns,
) -> dict[str, float | None]:
    """Return all metrics but counts, at given tier sizes; by-tier ones as ``key.tier``."""
    return measure_exact(sums_at_sizes(matrix, spec, weights, sizes), spec.tier_names, outcomes)


def at_equal_sizes(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    best: Sequence[int],
    outcomes: OutcomeColumns,
    evaluator: Evaluator | None = None,
) -> dict[str, Any]:
    """Measure a spec and other weights by tier, at the sizes that the spec's tiers have.

    `evaluator` scores the accounts; None makes one here.

    Returns
    -------
    dict
        `tiers`, from the highest scores down, and their `sizes`. `start` and `best`: by-tier
        metrics as ``key.tier``, and HHI, null if the table lacks a column. `labelled_start` and
        `labelled_best`: accounts with a label in each tier. `churned_mrr_start` and
        `churned_mrr_best`: start MRR of each tier's accounts that left, null without MRR.
    """
    return side_by_side((matrix, spec, spec.vector), (matrix, spec, best), outcomes, evaluator)


def side_by_side(
    one: _Scored, two: _Scored, outcomes: OutcomeColumns, evaluator: Evaluator | None = None
) -> dict[str, Any]:
    """Measure two scores of the same accounts by tier, at the first one's tier sizes.

    Each score is a matrix, a spec and weights. Returns what `at_equal_sizes` does, with the tier
    names of the first score.
    """
    spec = one[1]
    sizes, tiers = tier_sizes(*one, evaluator), spec.tier_names
    sides: dict[str, Any] = {}
    for name, (matrix, own, weights) in (("start", one), ("best", two)):
        known = sums_at_sizes(matrix, own, weights, sizes, tiers, evaluator)
        sides |= one_side(name, known, tiers, outcomes)
    return {"tiers": list(tiers), "sizes": list(sizes), **sides}


def one_side(
    name: str,
    known: Mapping[str, Sequence[int | Fraction]],
    tiers: Sequence[str],
    outcomes: OutcomeColumns,
) -> dict[str, Any]:
    """Return one score's part of `side_by_side`: `name` is ``start`` or ``best``.

    `known` are the score's sums at the given tier sizes.
    """
    has_mrr = outcomes.missing_reason(all_metrics()["grr_by_tier"].needs) is None
    values = measure_exact(known, tiers, outcomes)
    labelled = (known[tier_sum("labelled", tier)][0] for tier in tiers)
    gone = [float(known[tier_sum("churned", tier)][0]) / CENTS for tier in tiers]
    return {
        name: {k: v for k, v in values.items() if "." in k or k in CONCENTRATION_KEYS},
        f"labelled_{name}": list(map(float, labelled)),
        f"churned_mrr_{name}": gone if has_mrr else None,
    }


def both_objectives(
    judge: Judge,
    matrix: AccountMatrix,
    spec: ScoringSpec,
    before: Sequence[int],
    after: Sequence[int],
) -> tuple[float | None, float | None]:
    """Return the objective of two weight vectors; one of a tier at the first one's tier sizes."""
    if not judge.metric.by_tier:
        one, two = judge.values(LocalEvaluator(matrix, spec).frame([before, after]))
        return one, two
    sizes = tier_sizes(matrix, spec, before)
    one, two = (
        judge.decide(sums_at_sizes(matrix, spec, each, sizes))[0] for each in (before, after)
    )
    return one, two


# ---- date by date --------------------------------------------------------------------------------


def _parts(matrix: AccountMatrix) -> list[AccountMatrix]:
    """Return the rows of each date, in the order of dates."""
    assert matrix.date_of is not None  # a table of several dates has it
    return [
        matrix.take(np.flatnonzero(matrix.date_of == number)) for number in range(len(matrix.dates))
    ]


def date_parts(matrix: AccountMatrix) -> list[tuple[date, AccountMatrix]]:
    """Return each date that has rows, with these; empty for a table of one date."""
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
        None for a table of one date. Else the numbers of `accounts` and `rows`, and lists with an
        entry for each date: `dates`, `rows_by_date`, the objective `before` and `after`, null
        without a value, whether it `gained`, null if that isn't known, and all metrics over all
        tiers, `metrics_before` and `metrics_after`. An objective of one tier is measured at the
        first vector's tier sizes.
    """
    if not matrix.dates:
        return None
    whole = [key for key, metric in all_metrics().items() if not metric.by_tier]
    counts: dict[str, Any] = {"accounts": matrix.distinct, "rows": matrix.accounts}
    lists: dict[str, list[Any]] = {}
    for day, part in zip(matrix.dates, _parts(matrix), strict=True):
        one = two = None
        rows = [dict.fromkeys(whole)] * 2
        if part.accounts:
            one, two = both_objectives(judge, part, spec, before, after)
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
    return counts | lists


def signs_by_date(
    matrix: AccountMatrix, spec: ScoringSpec, judge: Judge, weights: Sequence[int]
) -> dict[str, list[bool | None]]:
    """Return for each weight other than 0 whether its sign holds on each date.

    It holds if the objective is better with the weight than with 0 in its place, all else equal;
    null if the objective has no value. Cost: two evaluations of all rows for each weight.
    """
    parts = _parts(matrix)
    by_term: dict[str, list[bool | None]] = {}
    for index, term in enumerate(spec.terms):
        if not weights[index]:
            continue
        without = [*weights[:index], 0, *weights[index + 1 :]]
        signs: list[bool | None] = []
        for part in parts:
            ends = (
                both_objectives(judge, part, spec, without, weights) if part.accounts else (None,)
            )
            signs.append(None if None in ends else judge.gain(ends[-1], ends[0]))
        by_term[term.name] = signs
    return by_term


# ---- old and new customers of a later table ------------------------------------------------------

_OLD, _NEW = "old", "new"


@dataclass(frozen=True)
class Customers(PlainData):
    """Incumbent and candidate on old or on new customers."""

    _beside = ("reading", "sentence")

    #: `old`: accounts that are in the table searched, too; or `new`.
    group: str
    accounts: int
    objective: str
    higher_is_better: bool
    #: The objective of incumbent and candidate, and the difference, accounts paired; without a
    #: value if there are fewer than `SMALLEST_SEGMENT` accounts.
    before: Interval
    after: Interval
    gain: Interval

    @property
    def reading(self) -> str:
        """What the gain's interval says: `better`, `worse`, `no proven change` or `unknown`."""
        return reading_of(self.gain, "higher" if self.higher_is_better else "lower")

    @property
    def sentence(self) -> str:
        """The comparison in a sentence."""
        some = f"{self.group.capitalize()} customers ({self.accounts:,})"
        before, after, gain = self.before.value, self.after.value, self.gain
        if self.reading == "unknown" or before is None or after is None:
            return f"{some}: unknown, {gain.reason}."
        return (
            f"{some}: {self.objective} {before:.4f} -> {after:.4f}, {self.reading} "
            f"({gain.value:+.4f}, from {gain.low:+.4f} to {gain.high:+.4f})."
        )


def customers_apart(
    accounts: Accounts,
    spec: ScoringSpec,
    judge: Judge,
    before: Sequence[int],
    after: Sequence[int],
    *,
    as_of: str | None,
    level: float = 0.95,
) -> tuple[Customers, ...]:
    """Measure two weight vectors of F each on old and on new customers of a later table.

    Parameters
    ----------
    accounts
        A table, and the later one that is its holdout.
    as_of
        ISO date that `days_before` counts from in the later table.
    level
        That of the intervals, in (0, 1).

    Returns
    -------
    tuple of Customers
        Old and new; empty if the holdout is no table of its own, or no id is in both tables.

    Notes
    -----
    An objective of one tier is measured at the incumbent's tier sizes in each group. Cost: the
    later table is loaded again, and an interval is computed for each group.
    """
    later = accounts.later
    again = None if later is None else ids_in_both(accounts, later)
    if later is None or again is None or again.is_empty():
        return ()
    column, table = f"{OWN}customers", later.table
    key = key_expression(str(later.checked.id_column), table.schema)
    group = pl.when(key.is_in(again.implode())).then(pl.lit(_OLD)).otherwise(pl.lit(_NEW))
    frame = table.frame.with_columns(group.alias(column))
    loaded = load_accounts(
        # Reading the source again would lose the new column, so what was read is kept.
        replace(table, frame=frame, schema=frame.collect_schema(), texts=None, requery=None),
        spec.model_copy(update={"segments": (column,)}),
        as_of=as_of,
        drop_unlabelled=later.checked.dropped > 0,
    ).search
    [known] = loaded.segments
    rows = {value: known.rows(number) for number, value in enumerate(known.values)}
    nobody = np.empty(0, dtype=np.intp)
    return tuple(
        _measured(name, loaded.take(rows.get(name, nobody)), spec, judge, before, after, level)
        for name in (_OLD, _NEW)
    )


def _measured(
    group: str,
    matrix: AccountMatrix,
    spec: ScoringSpec,
    judge: Judge,
    before: Sequence[int],
    after: Sequence[int],
    level: float,
) -> Customers:
    count, nothing = matrix.distinct, unknown_of_few(matrix.distinct, level)
    three = (nothing, nothing, nothing)
    if count >= SMALLEST_SEGMENT:
        metrics = {judge.name.partition(".")[0]}
        intervals = uncertainty(panel_of(matrix, spec, before, after), level=level, metrics=metrics)
        one, two = both_objectives(judge, matrix, spec, before, after)
        lacking = replace(nothing, reason="the metric has no interval")
        three = paired(intervals, judge.name, one, two, lacking)
    return Customers(group, count, judge.name, judge.sign > 0, *three)


def unknown_of_few(accounts: int, level: float) -> Interval:
    """Return the interval without a value of a part that has too few accounts to be measured."""
    few = f"{too_few(accounts)}, {SMALLEST_SEGMENT} needed"
    return unknown(None, level=level, accounts=accounts, reason=few)
