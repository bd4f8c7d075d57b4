"""Backtest: today's score, or a spec, judged by the known outcomes of the accounts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.outcomes import CENTS, canonical_outcomes
from gtmar.data.prepare import read_for
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.data.split import key_expression
from gtmar.engine.cohorts import cohorts_of
from gtmar.engine.equal_sizes import with_edges
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.tally import TierEdges
from gtmar.errors import AccountDataError, UsageError
from gtmar.metrics.registry import measure
from gtmar.objective.objective import Judge
from gtmar.plain_data import PlainData, digits, some
from gtmar.runs.holdout import count_looks, record_look, searched_before, without_holdout
from gtmar.runs.inputs import load, of_day
from gtmar.runs.results import copies_finding, leak_findings, warnings_of
from gtmar.runs.score import score
from gtmar.runs.side_by_side import best_and_worst, date_parts
from gtmar.spec.model import SCORE_UNITS
from gtmar.stats.interval import level_of
from gtmar.validation.intervals import (
    CHANCE_LEVEL,
    Uncertainty,
    at_sizes_of,
    uncertainty,
    upside_down,
)
from gtmar.validation.paired_scores import Panel, Scored
from gtmar.validation.reliability import Reliability, reliability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.scan import Tabular
    from gtmar.runs.inputs import TableOptions
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "Backtest",
    "BacktestDate",
    "backtest",
    "candidate_at_sizes",
    "only_columns",
    "scored_by",
    "share_held",
    "spec_of_column",
]

#: Metrics that are measured on each date of a table of several.
BY_DATE = ("auc_roc_retain", "logo_retention_by_tier", "nrr_by_tier", "revenue_capture_at_20")
#: Shares of accounts at which the curve is read.
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
_QUARTERS = {"A": 0.75, "B": 0.5, "C": 0.25}
_LARGEST = 1_000
#: Name of today's score among a candidate's features; no column has it.
_TODAY = "\x00today"


@dataclass(frozen=True)
class BacktestDate(PlainData):
    """How a score did on one date of a table of several."""

    day: date
    accounts: int
    #: Of the metrics in `BY_DATE`; tier edges are those of all dates together.
    intervals: Uncertainty = field(repr=False)


@dataclass(frozen=True)
class Backtest(PlainData):
    """How a score did, and a candidate beside it."""

    _beside = ("upside_down", "rows", "dates_sentence")

    source: str
    #: The column, or the spec's model.
    name: str
    accounts: int
    tiers: tuple[str, ...]
    #: Lower edge of each tier in the score's own units.
    edges: tuple[float, ...]
    #: All metrics of today's score, by-tier ones as mappings.
    metrics: dict[str, Any]
    #: `before` is today's score, `after` a candidate, `gain` the difference.
    intervals: Uncertainty = field(repr=False)
    level: float
    #: Candidate's model; None without one.
    candidate: str | None
    #: Rows of: a share of accounts, the share of MRR that the best-scored ones of that share have,
    #: and the share of lost accounts among the worst-scored ones.
    curve: tuple[tuple[float, float | None, float | None], ...]
    #: Accounts in the best tier that left, and in the worst tier that stayed; largest MRR first.
    green_and_churned: pl.DataFrame
    red_and_renewed: pl.DataFrame
    notes: tuple[str, ...]
    #: `observed` or `binary` revenue retention; None without MRR.
    basis: str | None = None
    #: Whether a search chose the spec's weights on these accounts; None where it isn't known.
    in_sample: bool | None = None
    #: The spec's probabilities beside what became of these accounts; None where it has none.
    reliability: Reliability | None = None
    #: Each date by itself, ascending; empty for a table of one date. Everything else is of all rows
    #: together, with intervals that resample accounts with all their rows.
    by_date: tuple[BacktestDate, ...] = ()
    #: The date of the accounts in the two lists; None for a table of one date.
    listed: date | None = None

    @property
    def rows(self) -> int:
        """Rows that were judged, one for each account and date."""
        return sum(each.accounts for each in self.by_date) or self.accounts

    @property
    def dates_sentence(self) -> str | None:
        """On how many dates the score beats chance, or the candidate beats the score, in words.

        None for a table of one date.
        """
        key, chance = "auc_roc_retain", CHANCE_LEVEL
        who, than, side = f"Score {self.name}", "a coin", "before"
        if self.candidate is not None:
            who, than, side, chance = f"Candidate {self.candidate}", "today's score", "gain", 0.0
        intervals = [getattr(each.intervals, side).get(key) for each in self.by_date]
        known = [each for each in intervals if each is not None and each.value is not None]
        if not known:
            return None
        better = sum(each.value > chance for each in known)
        proven = sum(each.low is not None and each.low > chance for each in known)
        return (
            f"{who} ranks better than {than} on {better:,} of {some(len(known), 'date')}, on "
            f"{proven:,} "
            "of them beyond chance."
        )

    @property
    def upside_down(self) -> str | None:
        """A sentence if a score ranks worse than a coin, beyond chance; else None."""
        intervals = self.intervals
        if self.candidate is None:
            intervals = replace(intervals, after={})
        names = f"score {self.name}", f"candidate {self.candidate}"
        return upside_down(intervals, names, rows=bool(self.by_date))


def backtest(
    data: Tabular,
    *,
    score_column: str | None = None,
    spec: ScoringSpec | None = None,
    tiers: Mapping[str, float] | None = None,
    orientation: str | None = None,
    journal: str | Path = "journal",
    drop_unscored: bool = False,
    **table_options: Unpack[TableOptions],
) -> Backtest:
    """Judge a score by the outcomes of the accounts that had it.

    Parameters are those of `gtmar.backtest`. A comparison on accounts held out counts as a look at
    them, which the journal records. A table of several dates is judged date by date and as a whole,
    in which an account counts with all of its rows; intervals resample whole accounts.

    Raises
    ------
    UsageError
        If there is nothing to judge.
    AccountDataError
        If the column holds no score, or not for every account.

    Notes
    -----
    If the candidate's spec holds accounts out, only these are compared: a search may have chosen
    the candidate's weights on the others.
    """
    table = scan(data)
    as_of = table_options.get("as_of")
    if spec is not None:
        spec = specs.reading_dates(spec, table_options.get("date_format"))
        table = read_for(table, spec)
    notes: list[str] = []
    candidate = None
    if score_column is not None:
        today = spec_of_column(table, score_column, spec, tiers, orientation, notes)
        table = _with_score(table, score_column, notes, drop=drop_unscored)
        candidate = spec
    elif spec is not None:
        today = spec
    else:
        raise UsageError(
            "nothing to judge: give the column of today's score, or a spec",
            hint="--score-column current_health",
        )
    if candidate is None:
        joined = without_holdout(today)
    else:
        # Today's score as one feature more, so that both are loaded at once.
        features = {**candidate.features, **today.features}
        joined = candidate.model_copy(update={"features": features})
    accounts, aside = load(table, joined, **table_options)
    before = None if spec is None else searched_before(accounts, spec, Path(journal), as_of)
    in_sample = None if before is None else before.searched > 0
    if before is not None and before.note is not None:
        notes.append(before.note)
    matrix = accounts.search
    if candidate is not None and accounts.holdout is not None:
        matrix, in_sample = accounts.holdout, False
        notes.append(
            f"Compared on the {some(matrix.distinct, 'account')} that the candidate's spec holds "
            "out."
        )
    elif candidate is not None and in_sample is None:
        notes.append("The candidate may have been searched on these very accounts.")
    today = _edged(matrix, today)
    scored, evaluator = scored_by(matrix, today)
    other = (
        None if candidate is None else candidate_at_sizes(scored, scored_by(matrix, candidate)[0])
    )
    panel = Panel.of(matrix, scored, other)
    level, intervals = _intervals(panel, candidate, accounts, Path(journal), notes)
    own = None if spec is None else (only_columns(matrix, spec), spec)
    judged = None if own is None else reliability(*own, level=level)
    weights = today.vector
    days = _by_date(matrix, today, candidate, level)
    listed = days[-1].day if days else None
    green, red = _surprises(today, accounts, as_of, listed)
    scale = weights[0] if score_column is not None else 1
    findings = [*leak_findings(accounts, joined), *copies_finding(accounts)]
    return Backtest(
        source=table.source,
        name=score_column or today.model,
        accounts=matrix.distinct,
        tiers=today.tier_names,
        edges=tuple(low / SCORE_UNITS / scale for low in today.tier_lows),
        metrics=measure(evaluator.frame([weights]), today.tier_names, matrix.outcomes).row(0),
        intervals=intervals,
        level=level,
        candidate=None if candidate is None else candidate.model,
        curve=_curve(matrix, scored),
        green_and_churned=green,
        red_and_renewed=red,
        notes=(*notes, *warnings_of(findings), *accounts.checked.notes, *aside[1:]),
        basis=accounts.checked.outcomes.basis,
        in_sample=in_sample,
        reliability=judged,
        by_date=days,
        listed=listed,
    )


def _by_date(
    matrix: AccountMatrix, today: ScoringSpec, candidate: ScoringSpec | None, level: float
) -> tuple[BacktestDate, ...]:
    """Measure a few metrics on each date that has rows; empty for a table of one date."""
    dates = []
    for day, rows in date_parts(matrix):
        one = scored_by(rows, today)[0]
        two = None if candidate is None else candidate_at_sizes(one, scored_by(rows, candidate)[0])
        intervals = uncertainty(Panel.of(rows, one, two), level=level, metrics=BY_DATE)
        dates.append(BacktestDate(day, rows.distinct, intervals))
    return tuple(dates)


def _with_score(table: AccountTable, column: str, notes: list[str], *, drop: bool) -> AccountTable:
    """Return the accounts that have a score today; raise if others aren't to be dropped."""
    known = pl.col(column).cast(pl.Float64).is_not_nan().fill_null(value=False)
    accounts, scored = collect(table, table.frame.select(pl.len(), known.sum().alias("k"))).row(0)
    if scored == accounts:
        return table
    counted = "accounts" if table.several is None else "rows"
    has = "has" if accounts - scored == 1 else "have"
    sentence = f"{accounts - scored:,} of {accounts:,} {counted} {has} no score"
    if not drop:
        raise AccountDataError(
            f'{table.source}: column "{column}": {sentence}',
            hint="--drop-unscored leaves them out and counts them",
        )
    notes.append(f'{sentence} in "{column}" and are left out.')
    return replace(table.keeping(lambda _: known), texts=None, requery=None)


def spec_of_column(
    table: AccountTable,
    column: str,
    like: ScoringSpec | None,
    tiers: Mapping[str, float] | None,
    orientation: str | None,
    notes: list[str],
) -> ScoringSpec:
    """Return a spec whose score is a column of the table, so that it is judged like any spec.

    Parameters
    ----------
    table, column
        The account table, and its column with scores from 0 to 1, 100 or 1,000.
    like
        A spec whose id, outcomes and labels are taken, and its orientation if none is given.
    tiers
        Lower edge by tier, in the column's units; None for quarters of the accounts.
    orientation
        ``health`` or ``risk``; None for that of `like`, else health.
    notes
        Receives a sentence where tiers are quarters.

    Raises
    ------
    AccountDataError
        If the column isn't there, or holds no such score.
    UsageError
        If the lowest tier doesn't begin at 0.
    """
    if column not in table.columns:
        raise AccountDataError(
            f'{table.source}: no column "{column}"',
            hint=f"columns are {', '.join(table.columns[:8])}",
        )
    if not table.schema[column].is_numeric():
        raise AccountDataError(
            f'{table.source}: column "{column}" must be a number to be a score, '
            f"got {table.schema[column]}",
            hint="put levels such as green and red in order as 2, 1, 0",
        )
    values = collect(table, table.frame.select(pl.col(column).cast(pl.Float64)))[column]
    known = values.drop_nulls().drop_nans()
    low, high = float(known.min() or 0.0), float(known.max() or 0.0)  # type: ignore[arg-type] # doubles, as cast
    if known.is_empty() or low < 0 or high > _LARGEST:
        raise AccountDataError(
            f'{table.source}: column "{column}" must lie in 0 to {_LARGEST:,} to be a score, '
            f"got {digits(low)} to {digits(high)}",
            hint="scale it first",
        )
    if tiers is None:
        tiers = {name: float(known.quantile(q) or 0.0) for name, q in _QUARTERS.items()}
        tiers["D"] = 0.0
        counted = "accounts" if table.several is None else "rows"
        notes.append(f"Tiers are quarters of the {counted}; --tiers states your own.")
    scale = 100 if high <= 1 else 1
    top = 100 if high * scale <= 100 else _LARGEST
    feature = {"weight": scale, "min": scale, "max": scale, "column": column}
    shared = {} if like is None else like.model_dump(include={"id", "outcomes", "labels"})
    return specs.ScoringSpec.model_validate(
        {
            "model": column,
            "max_score": top,
            "orientation": orientation or (like.orientation if like else "health"),
            "features": {_TODAY: feature},
            "tiers": _tiers(tiers, scale, top),
            "split": {"holdout": 0},
            **shared,
        }
    )


def _tiers(edges: Mapping[str, float], scale: int, top: int) -> dict[str, dict[str, float]]:
    """Return tiers as a spec has them from lower edges; of tiers with equal edges one is kept."""
    lowest = min(edges.values())
    if lowest > 0:
        raise UsageError(
            f"the lowest tier must begin at 0, got {digits(lowest)}", hint="--tiers A=80,B=60,C=0"
        )
    tiers: dict[str, dict[str, float]] = {}
    ceiling = float(top + 1)
    for name, edge in sorted(edges.items(), key=lambda item: -item[1]):
        low = round(edge * scale, 2)
        if low < ceiling:
            tiers[name] = {"min": low, "max": ceiling}
            ceiling = low
    return tiers


def _intervals(
    panel: Panel,
    candidate: ScoringSpec | None,
    accounts: Accounts,
    journal: Path,
    notes: list[str],
) -> tuple[float, Uncertainty]:
    """Return the level, and all intervals; on accounts held out, record the look in the journal."""
    if candidate is None or accounts.holdout is None:
        return 0.95, uncertainty(panel)
    fingerprint, comparison = accounts.outcomes_fingerprint, specs.spec_id(candidate)
    looks = count_looks(journal, fingerprint, comparison)
    level = level_of(looks)
    intervals = uncertainty(panel, level=level)
    judge = Judge.of(candidate)
    sides = (part.get(judge.name) for part in (intervals.before, intervals.after))
    before, after = (None if side is None else side.value for side in sides)
    record_look(
        journal,
        fingerprint,
        comparison,
        objective=judge.name,
        before=before,
        after=after,
        higher_is_better=judge.sign > 0,
        model=candidate.model,
        spec_id=comparison,
        source=accounts.table.source,
    )
    if looks > 1:
        notes.append(f"Comparison number {looks} on them: intervals at {100 * level:.5g}%.")
    return level, intervals


def only_columns(matrix: AccountMatrix, spec: ScoringSpec) -> AccountMatrix:
    """Return a matrix with the columns that a spec reads, and no others."""
    names = [term.name for term in spec.terms]
    columns = tuple(matrix.columns[matrix.names.index(name)] for name in names)
    return replace(matrix, names=tuple(names), columns=columns)


def _edged(matrix: AccountMatrix, spec: ScoringSpec) -> ScoringSpec:
    """Return a spec with tier edges: its own, or those that its rule gives on these accounts."""
    return spec if spec.has_edges else with_edges(spec, only_columns(matrix, spec))


def scored_by(matrix: AccountMatrix, spec: ScoringSpec) -> tuple[Scored, LocalEvaluator]:
    """Score the accounts by a spec that reads some of the matrix's columns."""
    spec = _edged(matrix, spec)
    evaluator = LocalEvaluator(only_columns(matrix, spec), spec)
    scores = evaluator.scores(spec.vector).astype(np.intp)
    edges = TierEdges.of(spec)
    return Scored(scores, edges.tiers_of(scores), edges.tiers, edges.risk), evaluator


def candidate_at_sizes(today: Scored, candidate: Scored) -> Scored:
    """Return a candidate's score, cut into tiers of the sizes of today's, from the best down."""
    turned = candidate.places if today.risk == candidate.risk else -candidate.places
    cut = at_sizes_of(today, turned)
    return replace(cut, places=candidate.places, risk=candidate.risk)


def _curve(
    matrix: AccountMatrix, scored: Scored
) -> tuple[tuple[float, float | None, float | None], ...]:
    """Return `Backtest.curve`."""
    cohorts, best_first = cohorts_of(matrix), scored.places if scored.risk else -scored.places
    labelled = slice(cohorts.negatives.start, cohorts.positives.stop)
    lost = np.arange(labelled.start, labelled.stop) < cohorts.negatives.stop
    missed = share_held(-best_first[labelled], lost, SHARES)
    held = None
    if matrix.start is not None:
        held = share_held(best_first[cohorts.paying], matrix.start[cohorts.paying], SHARES)
    none = (None,) * len(SHARES)
    curves = (none if curve is None else curve.tolist() for curve in (held, missed))
    return tuple(zip(SHARES, *curves, strict=True))


def share_held(
    order: NDArray[np.number], amounts: NDArray[np.generic], shares: Sequence[float]
) -> NDArray[np.float64] | None:
    """Return which share of all amounts the first accounts have, for shares of the accounts.

    Parameters
    ----------
    order
        Shape (n,): accounts are sorted by it, ascending. Tied accounts share their positions
        evenly, as in the metrics.
    amounts
        Shape (n,), not below 0; added up as doubles.
    shares
        Shares of the accounts, in [0, 1].

    Returns
    -------
    ndarray of float64 or None
        One value in [0, 1] for each share; None if all amounts are 0.
    """
    _, groups = np.unique(order, return_inverse=True)
    sizes, held = np.bincount(groups), np.bincount(groups, weights=amounts.astype(np.float64))
    accounts, total = np.cumsum(sizes), np.cumsum(held)
    if not len(total) or not total[-1]:
        return None
    target = np.asarray(shares) * len(order)
    edge = np.searchsorted(accounts, np.maximum(np.ceil(target), 1))
    inside = (target - (accounts - sizes)[edge]) / sizes[edge]
    curve: NDArray[np.float64] = ((total - held)[edge] + inside * held[edge]) / total[-1]
    return curve


def _surprises(
    today: ScoringSpec, accounts: Accounts, as_of: str | None, day: date | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the accounts of the best tier that left, and those of the worst that stayed.

    `day` is the date taken from a table of several.
    """
    table, identifier = accounts.table, accounts.checked.id_column
    if day is not None and table.several is not None:
        table = of_day(table.as_read, table.several.column, day)
    scored = score(table.as_read, today, as_of=as_of)
    outcomes = collect(
        table,
        table.frame.select(canonical_outcomes(accounts.checked.outcomes, table.schema).values()),
    )
    account = pl.int_range(1, scored.height + 1)
    if identifier:
        account = key_expression(identifier, scored.schema)
    both = scored.select(
        account.alias("account"),
        "score",
        "tier",
        mrr=outcomes["start"] / CENTS,
        retained=outcomes["retained"],
    ).sort("mrr", "account", descending=[True, False], nulls_last=True)
    best, worst = best_and_worst(today)
    green = both.filter((pl.col("tier") == best) & (pl.col("retained") == 0))
    red = both.filter((pl.col("tier") == worst) & (pl.col("retained") == 1))
    return green.drop("retained"), red.drop("retained")
