"""Segments of a table: its accounts, value by value of a column, under a run's start and best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.matrix import load_accounts
from gtmar.data.scan import collect
from gtmar.errors import UsageError, culprits, did_you_mean
from gtmar.objective.guardrails import SMALLEST_SEGMENT, Guard, gap_of
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import count_looks
from gtmar.runs.session import ended_run
from gtmar.runs.side_by_side import best_and_worst, both_objectives
from gtmar.stats.interval import level_of, reading_of, too_few, unknown
from gtmar.validation.gates import LARGE_SEGMENT
from gtmar.validation.intervals import OVERALL, paired, panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.scan import Tabular
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval
    from gtmar.validation.paired_scores import Panel

__all__ = [
    "RETENTION",
    "BySegment",
    "SegmentLine",
    "SegmentPart",
    "by_segment",
    "columns_of_few_values",
    "large_segment_panels",
    "only_segments",
    "segment_objectives",
    "segment_panels",
    "segment_part",
    "segment_rows",
    "with_segments",
]

#: Columns that are looked at though nobody asked: what they may hold beside numbers, values of one
#: at most, and how many columns.
_KINDS = (pl.String, pl.Boolean, pl.Categorical, pl.Enum)
_FEW_VALUES, _MOST_COLUMNS = 12, 20
#: Retention by segment: short name, and the metric behind it.
RETENTION = {
    "nrr": "nrr_by_tier",
    "grr": "grr_by_tier",
    "logo_retention": "logo_retention_by_tier",
}


@dataclass(frozen=True)
class SegmentLine:
    """One segment under a run's start and best."""

    #: ``COLUMN=VALUE``.
    name: str
    #: Below `SMALLEST_SEGMENT` of them nothing else is known.
    accounts: int
    #: The objective, and best minus start, accounts paired.
    start: Interval
    best: Interval
    change: Interval
    #: Of the change, see `reading_of`.
    reading: str
    #: By short name: of all accounts, whatever their tier, which no score changes.
    retention: dict[str, Interval]
    #: By short name: of the accounts in the best tier, by either score.
    at_start: dict[str, Interval]
    at_best: dict[str, Interval]


@dataclass(frozen=True)
class SegmentPart:
    """All segments of the accounts searched, or of those held out."""

    #: `searched` or `held out`.
    part: str
    level: float
    lines: tuple[SegmentLine, ...]
    #: The objective of the best segment less that of the worst; None of fewer than two.
    gap_start: float | None
    gap_best: float | None


@dataclass(frozen=True)
class BySegment(PlainData):
    """What a run's best does to each segment."""

    run_id: str
    experiment: str
    objective: str
    higher_is_better: bool
    #: The tier that `at_start` and `at_best` are about.
    tier: str
    columns: tuple[str, ...]
    parts: tuple[SegmentPart, ...]
    #: `observed` or `binary` revenue retention; None without MRR.
    basis: str | None = None


def by_segment(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    columns: Sequence[str] = (),
) -> BySegment:
    """Say what a run's best does to each segment, on the accounts searched and those held out.

    It compares what the run itself compared as it ended, so it is no further look at the holdout,
    and nothing is written to the journal. Run, journal and table are given as for `open_run`.

    Parameters
    ----------
    columns
        Columns whose every value is a segment; none for the spec's `segments`.

    Raises
    ------
    UsageError
        If there are no segments, or a column isn't there, or the run was imported.
    NotResumableError
        If the run hasn't ended, or the table isn't the run's.
    """
    session = ended_run(run_id, journal, data)
    spec, judge = session.spec, session.judge
    columns = tuple(columns) or spec.segments
    if not columns:
        raise UsageError(
            f"the spec of run {run_id} names no segments",
            hint="--segment COLUMN, or segments: [COLUMN] in the spec",
        )
    asked = (spec, judge, session.baseline, session.best)
    experiment = f"{run_id}/{session.end['best_experiment']}"
    accounts = with_segments(session.accounts, spec, columns, as_of=session.plan.as_of)
    parts = [segment_part(accounts.search, *asked)]
    if accounts.holdout is not None:
        level = level_of(count_looks(Path(journal), accounts.outcomes_fingerprint, experiment))
        parts.append(segment_part(accounts.holdout, *asked, part="held out", level=level))
    return BySegment(
        run_id=run_id,
        experiment=experiment,
        objective=judge.name,
        higher_is_better=judge.sign > 0,
        tier=best_and_worst(spec)[0],
        columns=columns,
        parts=tuple(parts),
        basis=session.accounts.checked.outcomes.basis,
    )


def segment_part(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    judge: Judge,
    before: Sequence[int],
    after: Sequence[int],
    *,
    part: str = "searched",
    level: float = 0.95,
) -> SegmentPart:
    """Measure each segment of a matrix under two weight vectors of F each.

    `part` says in words which accounts these are; `level` is that of the intervals. Cost: some
    tenths of a second a segment of a thousand accounts, for the intervals.
    """
    old, new = segment_objectives(matrix, spec, judge, before, after)
    lines = [
        _line(name, panel, judge, old[name], new[name], best_and_worst(spec)[0], level)
        for name, panel in segment_panels(matrix, spec, before, after).items()
    ]
    gaps = [gap_of(v for v in side.values() if v is not None) for side in (old, new)]
    return SegmentPart(part, level, tuple(lines), *gaps)


def segment_objectives(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    judge: Judge,
    before: Sequence[int],
    after: Sequence[int],
) -> list[dict[str, float | None]]:
    """Return the objective of each segment before and after; of a tier at equal sizes."""
    if not judge.metric.by_tier:
        guard = Guard(matrix, spec, judge, before)
        return [guard.segment_values(weights) for weights in (before, after)]
    sides: list[dict[str, float | None]] = [{}, {}]
    for column in matrix.segments:
        for index in range(len(column.values)):
            rows = column.rows(index)
            part = matrix.take(rows)
            enough = part.distinct >= SMALLEST_SEGMENT
            values = both_objectives(judge, part, spec, before, after) if enough else (None, None)
            for side, value in zip(sides, values, strict=True):
                side[column.name(index)] = value
    return sides


def _line(
    name: str,
    panel: Panel | None,
    judge: Judge,
    before: float | None,
    after: float | None,
    tier: str,
    level: float,
) -> SegmentLine:
    count = 0 if panel is None else panel.accounts
    few = f"{too_few(count)}, {SMALLEST_SEGMENT} needed"
    nothing = unknown(None, level=level, accounts=count, reason=few)
    if panel is None or count < SMALLEST_SEGMENT:
        none = dict.fromkeys(RETENTION, nothing)
        return SegmentLine(name, count, nothing, nothing, nothing, "unknown", none, none, none)
    keys = {judge.name.partition(".")[0], *RETENTION.values()}
    intervals = uncertainty(panel, level=level, metrics=keys)
    lacking = replace(nothing, reason="the metric has no interval")
    three = paired(intervals, judge.name, before, after, lacking)
    absent = replace(nothing, reason="the table has no column for it")

    def retention(side: dict[str, Interval], among: str) -> dict[str, Interval]:
        return {short: side.get(f"{key}.{among}", absent) for short, key in RETENTION.items()}

    return SegmentLine(
        name,
        count,
        *three,
        reading=reading_of(three[2], "higher" if judge.sign > 0 else "lower"),
        retention=retention(intervals.after, OVERALL),
        at_start=retention(intervals.before, tier),
        at_best=retention(intervals.after, tier),
    )


def with_segments(
    accounts: Accounts, spec: ScoringSpec, columns: Sequence[str], *, as_of: str | None
) -> Accounts:
    """Return a table with these segment columns: as it is, or loaded again where it lacks one.

    An unknown value is a segment, too. `UsageError` where a column isn't there, `ViolationsError`
    where it has too many values.
    """
    table = accounts.table
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UsageError(
            f"{table.source}: no column {culprits(absent)} to take segments from",
            hint=did_you_mean(absent[0], table.columns)
            or f"columns are {culprits(table.columns, limit=8)}",
        )
    columns = tuple(dict.fromkeys(columns))
    if not {*columns} <= {each.column for each in accounts.search.segments}:
        other = spec.model_copy(update={"segments": columns})
        options: dict[str, Any] = {"as_of": as_of, "drop_unlabelled": accounts.checked.dropped > 0}
        again = load_accounts(table, other, **options)
        if again.outcomes_fingerprint != accounts.outcomes_fingerprint:
            # Of a run from before copies were drawn together: another split.
            again = load_accounts(table, other, copies_together=False, **options)
        return again
    holdout = None if accounts.holdout is None else only_segments(accounts.holdout, columns)
    return replace(accounts, search=only_segments(accounts.search, columns), holdout=holdout)


def only_segments(matrix: AccountMatrix, columns: Sequence[str]) -> AccountMatrix:
    """Return a matrix with some of its segment columns."""
    own = {each.column: each for each in matrix.segments}
    return replace(matrix, segments=tuple(own[name] for name in columns))


def columns_of_few_values(accounts: Accounts, spec: ScoringSpec) -> list[str]:
    """Return a table's columns of few values that are neither id nor outcome nor date.

    Features may be among them. They are the first of them, in the table's order.
    """
    table, checked = accounts.table, accounts.checked
    dated = spec.window.model_dump().values() if spec.window else ()
    others = {checked.id_column, *checked.outcomes.columns.values(), spec.as_of, *dated}
    usable = [
        name
        for name, dtype in table.schema.items()
        if name not in others and (dtype.is_numeric() or dtype in _KINDS)
    ]
    if not usable:
        return []
    counts = collect(table, table.frame.select(pl.col(usable).n_unique())).row(0, named=True)
    return [name for name in usable if 1 < counts[name] <= _FEW_VALUES][:_MOST_COLUMNS]


def large_segment_panels(
    matrix: AccountMatrix, spec: ScoringSpec, before: Sequence[int], after: Sequence[int]
) -> dict[str, Panel]:
    """Score, by two weight vectors, each segment of over `LARGE_SEGMENT` of accounts or MRR."""
    start = matrix.start
    total = 0 if start is None else int(start.sum())

    def large(rows: NDArray[np.intp]) -> bool:
        most = len(rows) / max(1, matrix.accounts)
        if start is not None and total:
            most = max(most, int(start[rows].sum()) / total)
        return most > LARGE_SEGMENT

    return {
        name: panel_of(matrix.take(rows), spec, before, after)
        for name, rows in segment_rows(matrix)
        if large(rows)
    }


def segment_panels(
    matrix: AccountMatrix, spec: ScoringSpec, before: Sequence[int], after: Sequence[int]
) -> dict[str, Panel | None]:
    """Score each segment's accounts by two weight vectors of F each, by ``COLUMN=VALUE``.

    None stands where none of the matrix's accounts is in the segment.
    """
    return {
        name: panel_of(matrix.take(rows), spec, before, after) if len(rows) else None
        for name, rows in segment_rows(matrix)
    }


def segment_rows(matrix: AccountMatrix) -> list[tuple[str, NDArray[np.intp]]]:
    """Return each segment, as ``COLUMN=VALUE``, with the positions of its accounts."""
    return [
        (column.name(index), column.rows(index))
        for column in matrix.segments
        for index in range(len(column.values))
    ]
