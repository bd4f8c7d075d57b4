"""Segments: how a run's start and best do on the accounts with each value of a column."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.contract import check_segments
from gtmar.data.matrix import add_segments
from gtmar.data.scan import collect
from gtmar.errors import UsageError, culprits, did_you_mean
from gtmar.objective.guardrails import SMALLEST_SEGMENT, Guard, gap_of
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import count_looks
from gtmar.runs.session import ended_run
from gtmar.runs.side_by_side import best_and_worst, both_objectives, unknown_of_few
from gtmar.stats.interval import level_of, reading_of
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

#: Segment columns that are looked at unasked: their types beside numbers, the most values of one,
#: and the most columns.
_KINDS = (pl.String, pl.Boolean, pl.Categorical, pl.Enum)
_FEW_VALUES, _MOST_COLUMNS = 12, 20
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
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
    #: With fewer than `SMALLEST_SEGMENT` accounts, nothing else has a value.
    accounts: int
    #: The objective of start and best, and best minus start, accounts paired.
    start: Interval
    best: Interval
    change: Interval
    #: What the interval of the change says, see `reading_of`.
    reading: str
    #: `RETENTION` by short name, over all tiers: no score changes it.
    retention: dict[str, Interval]
    #: `RETENTION` by short name, of the accounts that start or best put in the best tier.
    at_start: dict[str, Interval]
    at_best: dict[str, Interval]


@dataclass(frozen=True)
class SegmentPart:
    """All segments of the accounts searched, or of those held out."""

    #: `searched` or `held out`.
    part: str
    level: float
    lines: tuple[SegmentLine, ...]
    #: The objective of the best segment minus that of the worst; None with fewer than two segments.
    gap_start: float | None
    gap_best: float | None


@dataclass(frozen=True)
class BySegment(PlainData):
    """A run's start and best, segment by segment."""

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
    """Measure a run's start and best on each segment, of the accounts searched and held out.

    The run compared the two on the holdout when it ended, so this counts as no further look, and
    nothing is written to the journal. `columns` are those of which each value is a segment; empty
    for the spec's `segments`. All else is as for `open_run`.

    Raises
    ------
    UsageError
        If there are no segments, or a column isn't there, or the run was imported.
    NotResumableError
        If the run hasn't ended, or the table isn't the run's.
    """
    session = ended_run(run_id, journal, data, numbered=True)
    spec, judge = session.spec, session.judge
    columns = tuple(columns) or spec.segments
    if not columns:
        raise UsageError(
            f"the spec of run {run_id} names no segments",
            hint="--segment COLUMN, or segments: [COLUMN] in the spec",
        )
    judged_by = (spec, judge, spec.vector, session.best)
    experiment = f"{run_id}/{session.end['best_experiment']}"
    accounts = with_segments(session.accounts, spec, columns, as_of=session.plan.as_of)
    parts = [segment_part(accounts.search, *judged_by)]
    if accounts.holdout is not None:
        level = level_of(count_looks(Path(journal), accounts.outcomes_fingerprint, experiment))
        parts.append(segment_part(accounts.holdout, *judged_by, part="held out", level=level))
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

    `part` is `SegmentPart.part`, `level` that of the intervals. Cost: some tenths of a second for a
    segment of a thousand accounts, mostly for the intervals.
    """
    old, new = segment_objectives(matrix, spec, judge, before, after)
    lines = [
        _line(name, panel, judge, old[name], new[name], best_and_worst(spec)[0], level)
        for name, panel in segment_panels(matrix, spec, before, after).items()
    ]
    # By number where values are numbers; by text, as the matrix has them, 10 comes before 2.
    order = {
        column.name(index): (place, float(value) if _NUMBER.fullmatch(value) else math.inf)
        for place, column in enumerate(matrix.segments)
        for index, value in enumerate(column.values)
    }
    lines.sort(key=lambda line: order[line.name])
    gaps = [gap_of(v for v in side.values() if v is not None) for side in (old, new)]
    return SegmentPart(part, level, tuple(lines), *gaps)


def segment_objectives(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    judge: Judge,
    before: Sequence[int],
    after: Sequence[int],
) -> list[dict[str, float | None]]:
    """Return the objective of each segment under two weight vectors.

    An objective of one tier is measured at the first vector's tier sizes.
    """
    if not judge.metric.by_tier:
        guard = Guard(matrix, spec, judge, before)
        return [guard.segment_values(weights) for weights in (before, after)]
    sides: list[dict[str, float | None]] = [{}, {}]
    for name, rows in segment_rows(matrix):
        part = matrix.take(rows)
        enough = part.distinct >= SMALLEST_SEGMENT
        values = both_objectives(judge, part, spec, before, after) if enough else (None, None)
        for side, value in zip(sides, values, strict=True):
            side[name] = value
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
    nothing = unknown_of_few(count, level)
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
    """Return accounts, whose rows are numbered, with these segment columns.

    Accounts without a value are a segment, too. Raises `UsageError` if the table lacks a column,
    `ViolationsError` if a column has too many values.
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
        check_segments(table, spec, columns, as_of=as_of)
        return add_segments(accounts, columns)
    holdout = None if accounts.holdout is None else only_segments(accounts.holdout, columns)
    return replace(accounts, search=only_segments(accounts.search, columns), holdout=holdout)


def only_segments(matrix: AccountMatrix, columns: Sequence[str]) -> AccountMatrix:
    """Return a matrix with some of its segment columns."""
    own = {each.column: each for each in matrix.segments}
    return replace(matrix, segments=tuple(own[name] for name in columns))


def columns_of_few_values(accounts: Accounts, spec: ScoringSpec) -> list[str]:
    """Return the first columns of few values that are no id, outcome or date, in table order.

    Columns that features read may be among them.
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
    """Return panels of the segments with more than `LARGE_SEGMENT` of all accounts or MRR."""
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
    """Return a panel of each segment's accounts under two weight vectors, by ``COLUMN=VALUE``.

    None for a segment that has none of the matrix's accounts.
    """
    return {
        name: panel_of(matrix.take(rows), spec, before, after) if len(rows) else None
        for name, rows in segment_rows(matrix)
    }


def segment_rows(matrix: AccountMatrix) -> list[tuple[str, NDArray[np.intp]]]:
    """Return each segment, as ``COLUMN=VALUE``, with the row numbers of its accounts."""
    return [
        (column.name(index), column.rows(index))
        for column in matrix.segments
        for index in range(len(column.values))
    ]
