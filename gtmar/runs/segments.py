"""Segments of a table: its accounts, value by value of a column, under a run's start and best."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.data.matrix import load_accounts
from gtmar.errors import UsageError
from gtmar.objective.guardrails import SMALLEST_SEGMENT, Guard, gap_of
from gtmar.runs.holdout import looks_at
from gtmar.runs.session import ended_run
from gtmar.stats.interval import level_of, unknown
from gtmar.validation.intervals import OVERALL, panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.sources import Tabular
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval
    from gtmar.validation.paired_scores import Panel

__all__ = [
    "RETENTION",
    "BySegment",
    "SegmentLine",
    "SegmentPart",
    "best_tier",
    "by_segment",
    "segment_panels",
    "segment_part",
    "segmented",
]

#: Retention by segment: short name, and the metric behind it.
RETENTION = {
    "nrr": "nrr_by_tier",
    "grr": "grr_by_tier",
    "logo_retention": "logo_retention_by_tier",
}


@dataclass(frozen=True)
class SegmentLine:
    """One segment under a run's start and best.

    Parameters
    ----------
    name
        ``COLUMN=VALUE``.
    accounts
        How many; below `SMALLEST_SEGMENT` there is nothing but this.
    start, best
        The objective, with its interval.
    change
        Best minus start, accounts paired.
    reading
        `better` or `worse` where the whole interval of the change says so, `no proven change` where
        it doesn't, `unknown` where there is none.
    retention
        By short name: of all accounts, whatever their tier, which no score changes.
    at_start, at_best
        By short name: of the accounts in the best tier, by either score.
    """

    name: str
    accounts: int
    start: Interval
    best: Interval
    change: Interval
    reading: str
    retention: dict[str, Interval]
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
class BySegment:
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

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def by_segment(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    columns: Sequence[str] = (),
) -> BySegment:
    """Say what a run's best does to each segment, on the accounts searched and those held out.

    It compares what the run itself compared as it ended, so it is no further look at the holdout.

    Parameters
    ----------
    run_id
        The run's full id.
    journal
        The journal's folder; nothing is written to it.
    data
        The account table, where it has moved since.
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
    spec, judge, as_of = session.spec, session.judge, session.plan.as_of
    columns = tuple(columns) or spec.segments
    if not columns:
        raise UsageError(
            f"the spec of run {run_id} names no segments",
            hint="--segment COLUMN, or segments: [COLUMN] in the spec",
        )
    ends = (session.baseline, session.best)
    experiment = f"{run_id}/{session.end['best_experiment']}"
    accounts = segmented(session.accounts, spec, columns, as_of=as_of)
    looks = looks_at(Path(journal), accounts.outcomes_fingerprint, experiment)
    parts = [segment_part(accounts.search, spec, judge, *ends)]
    if accounts.holdout is not None:
        parts.append(
            segment_part(
                accounts.holdout,
                spec,
                judge,
                *ends,
                part="held out",
                level=level_of(looks),
            )
        )
    return BySegment(
        run_id=run_id,
        experiment=experiment,
        objective=judge.name,
        higher_is_better=judge.sign > 0,
        tier=best_tier(spec),
        columns=tuple(columns),
        parts=tuple(parts),
        basis=session.accounts.checked.outcomes.basis,
    )


def best_tier(spec: ScoringSpec) -> str:
    """Return the tier of the accounts that a score thinks best of."""
    return spec.tier_names[-1 if spec.orientation == "risk" else 0]


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
    """Measure each segment of a matrix under two weight vectors.

    Parameters
    ----------
    matrix
        The accounts, with their segments.
    spec, judge
        The scoring model, and what decides.
    before, after
        Weight vectors, F each.
    part
        Which accounts these are, in words.
    level
        Of the intervals.

    Notes
    -----
    Cost: some tenths of a second a segment of a thousand accounts, for the intervals.
    """
    guard = Guard(matrix, spec, judge, before)
    values = [guard.segment_values(weights) for weights in (before, after)]
    lines = []
    for name, panel in segment_panels(matrix, spec, before, after).items():
        objective = tuple(side[name] for side in values)
        lines.append(_line(name, panel, judge, objective, best_tier(spec), level))
    gaps = [gap_of(v for v in side.values() if v is not None) for side in values]
    return SegmentPart(part, level, tuple(lines), *gaps)


def _line(
    name: str,
    panel: Panel | None,
    judge: Judge,
    objective: tuple[float | None, ...],
    tier: str,
    level: float,
) -> SegmentLine:
    count = 0 if panel is None else panel.accounts
    few = f"too few: {count:,} accounts, {SMALLEST_SEGMENT} needed"
    nothing = unknown(None, level=level, accounts=count, reason=few)
    none = dict.fromkeys(RETENTION, nothing)
    if panel is None or count < SMALLEST_SEGMENT:
        return SegmentLine(name, count, nothing, nothing, nothing, "unknown", none, none, none)
    keys = {judge.name.partition(".")[0], *RETENTION.values()}
    found = uncertainty(panel, level=level, metrics=keys)
    then, now = objective
    change = None if then is None or now is None else now - then
    sides = ((found.before, then), (found.after, now), (found.gain, change))
    lacking = replace(nothing, reason="the metric has no interval")
    # The value is the one that decides, to the last bit.
    start, best, gain = (
        replace(side.get(judge.name, lacking), value=value) for side, value in sides
    )
    return SegmentLine(
        name=name,
        accounts=count,
        start=start,
        best=best,
        change=gain,
        reading=_reading(gain, judge.sign),
        retention=_retention(found.after, OVERALL, nothing),
        at_start=_retention(found.before, tier, nothing),
        at_best=_retention(found.after, tier, nothing),
    )


def _retention(found: dict[str, Interval], tier: str, nothing: Interval) -> dict[str, Interval]:
    lacking = replace(nothing, reason="the table has no column for it")
    return {short: found.get(f"{key}.{tier}", lacking) for short, key in RETENTION.items()}


def _reading(change: Interval, sign: int) -> str:
    if change.low is None or change.high is None:
        return "unknown"
    improvement = change if sign > 0 else change.negated()
    if improvement.below_zero:
        return "worse"
    return "better" if improvement.above_zero else "no proven change"


def segmented(
    accounts: Accounts, spec: ScoringSpec, columns: Sequence[str], *, as_of: str | None
) -> Accounts:
    """Return a table with these segment columns: as it is, or loaded again where it lacks one.

    Parameters
    ----------
    accounts, spec
        The table, loaded by this spec.
    columns
        Columns whose every value is a segment; an unknown value is one too.
    as_of
        ISO date that `days_before` counts from.

    Raises
    ------
    UsageError
        If a column isn't there.
    ViolationsError
        If it has too many values to be segments.
    """
    table = accounts.table
    unknown = [name for name in columns if name not in table.columns]
    if unknown:
        raise UsageError(
            f"{table.source}: no column {', '.join(unknown)} to take segments from",
            hint=f"columns are {', '.join(table.columns[:8])}",
        )
    own = {each.column: each for each in accounts.search.segments}
    if not set(columns) <= own.keys():
        other = spec.model_copy(update={"segments": tuple(dict.fromkeys(columns))})
        dropped = accounts.checked.dropped > 0
        return load_accounts(table, other, as_of=as_of, drop_unlabelled=dropped)

    def only(matrix: AccountMatrix) -> AccountMatrix:
        held = {each.column: each for each in matrix.segments}
        return replace(matrix, segments=tuple(held[name] for name in dict.fromkeys(columns)))

    holdout = None if accounts.holdout is None else only(accounts.holdout)
    return replace(accounts, search=only(accounts.search), holdout=holdout)


def segment_panels(
    matrix: AccountMatrix, spec: ScoringSpec, before: Sequence[int], after: Sequence[int]
) -> dict[str, Panel | None]:
    """Score each segment's accounts by two weight vectors.

    Parameters
    ----------
    matrix
        The accounts, with their segments.
    spec
        The scoring model.
    before, after
        Weight vectors, F each.

    Returns
    -------
    dict
        Panel by ``COLUMN=VALUE``; None where none of the matrix's accounts is in the segment.
    """
    found: dict[str, Panel | None] = {}
    for column in matrix.segments:
        for place in range(len(column.values)):
            rows = column.rows(place)
            part = panel_of(matrix.take(rows), spec, before, after) if len(rows) else None
            found[column.name(place)] = part
    return found
