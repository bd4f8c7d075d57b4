"""A change on a later table, apart for customers of the one searched and for those who came since.

What a score does for the customers that it was searched on, half a year later, and what it does for
new ones are two questions; one number over both answers neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.data.matrix import load_accounts
from gtmar.data.rules import OWN
from gtmar.data.split import key_expression
from gtmar.objective.guardrails import SMALLEST_SEGMENT
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import ids_in_both
from gtmar.runs.tier_table import objectives
from gtmar.stats.interval import reading_of, unknown
from gtmar.validation.intervals import paired, panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = ["Customers", "customers_apart"]

_OLD, _NEW = "old", "new"


@dataclass(frozen=True)
class Customers(PlainData):
    """One of the two groups under incumbent and candidate."""

    _beside = ("reading", "sentence")

    #: `old`, who stood in the table searched as well, or `new`.
    group: str
    accounts: int
    objective: str
    higher_is_better: bool
    #: The objective of the incumbent, of the candidate, and the latter less the former, accounts
    #: paired; without a value below `SMALLEST_SEGMENT` accounts.
    before: Interval
    after: Interval
    gain: Interval

    @property
    def reading(self) -> str:
        """Say what the gain is: `better`, `worse`, `no proven change` or `unknown`."""
        return reading_of(self.gain, "higher" if self.higher_is_better else "lower")

    @property
    def sentence(self) -> str:
        """Say it in words."""
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
    """Measure two weight vectors of F each on old customers and on new ones.

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
        Old and new; nothing where the holdout is no table of its own, or no id stands in both.

    Notes
    -----
    Tiers of a by-tier objective have the incumbent's sizes in each group. Cost: the later table is
    loaded once more, and an interval for each group.
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
        # As it was read: to read its text once more would lose the column.
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
    count = matrix.distinct
    few = f"too few: {count:,} accounts, {SMALLEST_SEGMENT} needed"
    nothing = unknown(None, level=level, accounts=count, reason=few)
    three = (nothing, nothing, nothing)
    if count >= SMALLEST_SEGMENT:
        metrics = {judge.name.partition(".")[0]}
        found = uncertainty(panel_of(matrix, spec, before, after), level=level, metrics=metrics)
        lacking = replace(nothing, reason="the metric has no interval")
        one, two = objectives(judge, matrix, spec, before, after)
        three = paired(found, judge.name, one, two, lacking)
    return Customers(group, count, judge.name, judge.sign > 0, *three)
