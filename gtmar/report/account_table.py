"""The parts of a run's report that need its account table.

These are moves between tiers, capture curves, segments, revenue metrics with intervals, and a
picture of each feature: points by value, with the share of accounts and of those retained.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.data.contract import as_of_date
from gtmar.data.encode import as_text, cell_of, encoded_terms
from gtmar.data.matrix import search_sample
from gtmar.data.rules import OWN
from gtmar.engine.cohorts import cohorts_of
from gtmar.engine.equal_sizes import tier_sizes
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.tally import TierEdges
from gtmar.errors import GtmarError, NotComparableError
from gtmar.metrics.registry import all_metrics, metric_column
from gtmar.objective.objective import Judge
from gtmar.plain_data import digits
from gtmar.runs.backtest import share_held
from gtmar.runs.holdout import holdout_parameters
from gtmar.runs.inputs import of_day
from gtmar.runs.score import tier_changes
from gtmar.runs.segments import segment_part
from gtmar.runs.session import load_tables
from gtmar.runs.side_by_side import best_and_worst, measured_at_sizes
from gtmar.spec.encoders import TableEncoder
from gtmar.spec.model import VALUE_UNITS
from gtmar.stats.interval import reading_of, unknown, wilson
from gtmar.validation.intervals import HEADLINES, costs_of, paired, panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.scan import Tabular
    from gtmar.runs.segments import SegmentPart
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = ["GRID", "Band", "Capture", "EncoderPicture", "TableEvidence", "read_table"]

#: Shares of accounts at which curves are drawn, including 0.2, at which the metric is defined.
GRID = np.arange(201) / 200


@dataclass(frozen=True)
class Capture:
    """Capture curves over `GRID`: cumulative shares, float64 in [0, 1]."""

    #: The captured quantity: ``MRR``, or ``retained accounts`` if the table has no MRR.
    of: str
    #: Number of rows in the cohort: paying accounts, or those with a label.
    accounts: int
    #: Shape (201,): with accounts ordered by the start's and by the best's scores.
    start: NDArray[np.float64]
    best: NDArray[np.float64]
    #: Shape (201,): with accounts ordered by the captured quantity, the upper bound for any score.
    perfect: NDArray[np.float64]


def capture_of(
    matrix: AccountMatrix, scores: Sequence[NDArray[np.int64]], *, risk: bool
) -> Capture | None:
    """Return the capture curves of the start's and the best's scores; None if nothing is captured.

    Parameters
    ----------
    matrix
        The accounts searched.
    scores
        Scores by the start and by the best weights, shape (N,) each, in the order of the matrix.
    risk
        Whether high scores are bad, so that accounts with the lowest scores come first.
    """
    cohorts = cohorts_of(matrix)
    rows, of = cohorts.paying, "MRR"
    if matrix.start is not None and matrix.start[rows].any():
        amounts = matrix.start[rows]
    else:
        rows, of = slice(cohorts.negatives.start, cohorts.positives.stop), "retained accounts"
        amounts = (np.arange(rows.start, rows.stop) >= cohorts.positives.start).astype(np.int64)
    orders = [*(each[rows] if risk else -each[rows] for each in scores), -amounts]
    start, best, perfect = (share_held(order, amounts, GRID.tolist()) for order in orders)
    if start is None or best is None or perfect is None:
        return None
    return Capture(of=of, accounts=len(amounts), start=start, best=best, perfect=perfect)


#: Labels of revenue metrics, and the format of their values.
_SHOWN = {
    "revenue_capture_at_20": ("MRR held by the best-scored fifth", "percent"),
    "nrr_at_20": ("NRR of the best-scored fifth", "percent"),
    "logo_retention_by_tier": ("Logos kept", "percent"),
    "nrr_by_tier": ("NRR", "percent"),
    "grr_by_tier": ("GRR", "percent"),
    "expansion_rate_by_tier": ("Expansion", "percent"),
    "contraction_rate_by_tier": ("Contraction", "percent"),
    "arpa_by_tier": ("ARPA", "money"),
}
#: Metrics shown first; the others are their components.
_FIRST = tuple(_SHOWN)[:5]


@dataclass(frozen=True)
class RevenueLine:
    """One revenue metric, of the whole score or of a tier."""

    #: Its name in the journal, with its tier if it has one: ``nrr_by_tier.A``.
    column: str
    #: Its label in the report.
    label: str
    #: `percent` or `money`.
    unit: str
    #: Whether it is shown before the others.
    first: bool
    #: Values with paired intervals.
    start: Interval
    best: Interval
    change: Interval
    #: Reading of the change, by `stats.interval.reading_of`.
    reading: str


@dataclass(frozen=True)
class Revenue:
    """Revenue metrics on the accounts held out, or on those searched if there is no holdout."""

    #: `held out` or `searched`.
    part: str
    #: Number of distinct accounts.
    accounts: int
    #: Level of the intervals, in (0, 1).
    level: float
    lines: tuple[RevenueLine, ...]
    #: By headline metric that got worse beyond chance, a sentence.
    costs: dict[str, str]
    #: Gain of the objective; None without an interval.
    gain: Interval | None
    #: Reading of the gain, by `stats.interval.reading_of`.
    gain_reading: str

    def named(self, reading: str) -> list[str]:
        """Return the labels of all lines with a reading."""
        return [line.label for line in self.lines if line.reading == reading]


#: Number of accounts listed: those whose scores change most.
_NAMED = 10
_SAME = {"outcomes_fingerprint": "ids, outcomes or split", "features_fingerprint": "features"}
_SAME_HOLDOUT = tuple(f"holdout_{key}" for key in _SAME)


@dataclass(frozen=True)
class TableEvidence:
    """A run's accounts under two scores, the start's and the best's."""

    #: int64, shape (T, T): number of rows searched, by tier at the start and tier at the best.
    moves: NDArray[np.int64]
    capture: Capture | None
    #: Accounts of the whole table, holdout included, whose tier changes: account, score_one and
    #: tier_one at the start, score_two and tier_two at the best. The 10 whose score changes most.
    moved: pl.DataFrame
    #: Number of accounts of the whole table whose tier changes.
    moved_accounts: int
    #: If the table has several dates: the newest date among the accounts searched, which `moved`
    #: covers, and `moves` of that date; else None.
    newest: date | None
    moves_newest: NDArray[np.int64] | None
    #: Share of accounts retained, by stage and tier at each score's own edges, on the accounts
    #: searched. Empty for a single date, for which Wilson's interval needs no table.
    kept: dict[tuple[str, str], Interval]
    #: The spec's segments, on the accounts searched and on those held out; empty without segments.
    segments: tuple[SegmentPart, ...]
    #: None without columns for revenue or retention, or if `revenue_absent` has a reason.
    revenue: Revenue | None
    #: Why revenue can't be measured on the accounts held out, whose own table is missing; else
    #: None.
    revenue_absent: str | None = None
    #: The features whose points vary most between the accounts searched, by the best weights.
    encoders: tuple[EncoderPicture, ...] = ()

    @property
    def costs(self) -> dict[str, str] | None:
        """By headline metric that got worse beyond chance, a sentence; None if unknown."""
        return None if self.revenue is None else self.revenue.costs


def read_table(
    run: Mapping[str, Any],
    best: ScoringSpec,
    data: Tabular | None = None,
    *,
    level: float = 0.95,
) -> TableEvidence:
    """Load a run's table and score it with its start and its best weights.

    Parameters
    ----------
    run
        The run's row of the view `runs`.
    best
        Its best spec.
    data
        Its account table if that has moved; None for the recorded location.
    level
        Level of intervals on the holdout, in (0, 1), given how often it was looked at.

    Raises
    ------
    AccountDataError
        If the table can't be read.
    NotComparableError
        If it isn't the table that the run was made on.
    """
    as_of = run["parameters"].get("as_of")
    start, accounts, absent = _tables(run, data)
    differing = [word for key, word in _SAME.items() if getattr(accounts, key) != run[key]]
    if accounts.segments_fingerprint != run["parameters"].get("segments_fingerprint"):
        differing.append("segments")
    if differing:
        raise NotComparableError(
            f"{accounts.table.source} is not the table that run {run['run_id']} was made on: "
            f"other {' and '.join(differing)}",
            hint="give that table with --data",
            differing=differing,
        )
    before, after = (spec.vector for spec in (start, best))
    evaluator, tiers = LocalEvaluator(accounts.search, start), len(start.tier_names)
    scores = [evaluator.scores(weights) for weights in (before, after)]
    own = [TierEdges.of(s).tiers_of(x) for s, x in zip((start, best), scores, strict=True)]
    pairs = own[0] * tiers + own[1]

    def counted(of: NDArray[np.intp]) -> NDArray[np.int64]:
        return np.bincount(of, minlength=tiers * tiers).reshape(tiers, tiers)

    table, newest, last = accounts.table.as_read, None, None
    kept: dict[tuple[str, str], Interval] = {}
    if accounts.search.date_of is not None and table.several is not None:
        number = int(accounts.search.date_of.max())
        newest = accounts.search.dates[number]
        last = counted(pairs[accounts.search.date_of == number])
        table = of_day(table, table.several.column, newest)
        kept = _kept(accounts.search, start, best)
    moved = tier_changes(table, start, best, as_of=as_of, as_text=True)
    judge = Judge.of(start, run["objective"])
    parts = [(accounts.search, "searched", 0.95)]
    if accounts.holdout is not None:
        parts.append((accounts.holdout, "held out", level))
    matrix, part, at = parts[-1]
    return TableEvidence(
        moves=counted(pairs),
        capture=capture_of(accounts.search, scores, risk=start.orientation == "risk"),
        moved=moved.head(_NAMED),
        moved_accounts=moved.height,
        newest=newest,
        moves_newest=last,
        kept=kept,
        segments=tuple(
            segment_part(each, start, judge, before, after, part=name, level=interval_level)
            for each, name, interval_level in parts
            if each.segments
        ),
        revenue=None
        if absent
        else _revenue_of(
            matrix, start, before, after, part=part, level=at, objective=run["objective"]
        ),
        revenue_absent=absent,
        encoders=encoder_pictures(accounts, best, as_of=as_of),
    )


def _kept(
    matrix: AccountMatrix, start: ScoringSpec, best: ScoringSpec
) -> dict[tuple[str, str], Interval]:
    """Return `TableEvidence.kept`; the intervals resample whole accounts, with all their rows."""
    before, after = (spec.vector for spec in (start, best))
    key = "logo_retention_by_tier"
    panel = panel_of(matrix, start, before, after, own_edges=best)
    intervals = uncertainty(panel, metrics={key}, gains=False)
    return {
        (stage, tier): side[metric_column(key, tier)]
        for stage, side in (("start", intervals.before), ("best", intervals.after))
        for tier in start.tier_names
        if metric_column(key, tier) in side
    }


def _tables(
    run: Mapping[str, Any], data: Tabular | None
) -> tuple[ScoringSpec, Accounts, str | None]:
    """Load a run's start spec and tables; if its holdout table is missing, return why as well."""
    try:
        start, accounts = load_tables(run, data)
    except GtmarError as err:
        start, accounts = load_tables(run, data, untouched=False)
        return start, accounts, err.message
    own = holdout_parameters(accounts)
    if any(own[key] != run["parameters"].get(key) for key in _SAME_HOLDOUT if key in own):
        start, accounts = load_tables(run, data, untouched=False)
        return start, accounts, f"{own['holdout_source']} is another table by now."
    return start, accounts, None


def _revenue_of(
    matrix: AccountMatrix,
    spec: ScoringSpec,
    start: Sequence[int],
    best: Sequence[int],
    *,
    part: str,
    level: float,
    objective: str,
) -> Revenue | None:
    """Measure the revenue metrics under two weight vectors; None if the table has none of them.

    Metrics by tier are compared with tiers of the start's sizes. Cost: that of the intervals, about
    half a second for 1,500 accounts.
    """
    metrics, outcomes = all_metrics(), matrix.outcomes
    known = {key for key, each in metrics.items() if outcomes.missing_reason(each.needs) is None}
    keys = [key for key in _SHOWN if key in known]
    if not keys:
        return None
    decides = objective.partition(".")[0]
    wanted = {*keys, *(known & {*HEADLINES, decides})}
    sizes = tier_sizes(matrix, spec, start)
    measured = [measured_at_sizes(matrix, spec, w, sizes, outcomes) for w in (start, best)]
    intervals = uncertainty(panel_of(matrix, spec, start, best), level=level, metrics=wanted)
    none = unknown(None, level=level, accounts=0, reason="no value")
    lines = []
    for key in keys:
        word, unit = _SHOWN[key]
        for tier in spec.tier_names if metrics[key].by_tier else (None,):
            column = metric_column(key, tier)
            label = word if tier is None else f"{word}, tier {tier}"
            before, after = (side[column] for side in measured)
            three = paired(intervals, column, before, after, none)
            # Only a change in the best tier is good or bad: what one tier gains, another loses.
            good = tier is None or tier == best_and_worst(spec)[0]
            reading = reading_of(three[2], metrics[key].better if good else "neither")
            lines.append(RevenueLine(column, label, unit, key in _FIRST, *three, reading))
    gain = intervals.gain.get(objective)
    return Revenue(
        part,
        matrix.distinct,
        level,
        tuple(lines),
        costs=costs_of(intervals, objective),
        gain=gain,
        gain_reading=reading_of(gain or none, metrics[decides].better),
    )


# ---- features as pictures ------------------------------------------------------------------------

#: Most features drawn.
_MOST = 12
#: Most accounts that pictures are drawn from.
_MOST_ACCOUNTS = 200_000
#: A numeric feature is cut into this many bands of equal width between these quantiles; values
#: beyond are in the outermost bands. A feature with no more distinct values has one band for each.
_BANDS, _ENDS = 12, (0.01, 0.99)
#: Most points of a line, and most categories.
_MOST_POINTS, _MOST_CATEGORIES = 80, 12


@dataclass(frozen=True)
class Band:
    """Accounts with similar values of a feature."""

    #: Label; ends of a numeric band, which may be equal, else None.
    name: str
    low: float | None
    high: float | None
    #: Mean points of its accounts.
    points: float
    #: Share of the accounts searched, in [0, 1].
    share: float
    #: Share retained of those with a known outcome, in [0, 1]; None if there are none.
    retention: float | None
    #: Ends of Wilson's 95 % interval; None if accounts have several rows, which aren't independent.
    retention_low: float | None
    retention_high: float | None


@dataclass(frozen=True)
class EncoderPicture:
    """A feature's points by value under the best weights, with the accounts that have the value."""

    feature: str
    #: What earns its points, in words; empty for a column's own numbers and for bins.
    earned_by: str
    bands: tuple[Band, ...]
    #: Pairs of value and points for a numeric feature, at most 81; empty for other features.
    line: tuple[tuple[float, float], ...] = ()
    #: Whether the points change in steps.
    steps: bool = False


def encoder_pictures(
    accounts: Accounts, spec: ScoringSpec, *, as_of: str | None = None
) -> tuple[EncoderPicture, ...]:
    """Return pictures of the 12 features whose points vary most between the accounts searched.

    `as_of` is the date that `days_before` counts from, if the run had one. Cost: one pass over the
    features' columns.
    """
    table, outcomes = accounts.checked.table, accounts.checked.outcomes
    day = as_of_date(spec, table.schema, as_of, table.dates)
    frame = search_sample(
        table,
        outcomes,
        accounts.checked.id_column,
        spec.split,
        copies=accounts.copies,
        most=_MOST_ACCOUNTS,
    )
    kept = frame[f"{OWN}retained"].cast(pl.Float64)
    frame = frame.select(table.columns)
    encoded = encoded_terms(spec, frame.schema, day)
    terms: dict[str, list[pl.Expr]] = {}
    for term in spec.terms:
        terms.setdefault(term.feature, []).append(encoded[term.name] * term.weight)
    points = frame.select(
        (pl.sum_horizontal(own) / VALUE_UNITS).alias(name) for name, own in terms.items()
    )
    ends = points.select(pl.all().max() - pl.all().min()).row(0, named=True)
    shown = sorted(terms, key=lambda name: -ends[name])[:_MOST]
    earned = spec.earned_by
    days = frame.select(day.alias("day")) if day is not None else None
    pictures = tuple(
        _picture(name, earned.get(name, ""), values, points[name], kept)
        for name in shown
        for values in [_values(spec, name, frame, encoded, days)]
    )
    if accounts.search.account_of is None:
        return pictures
    return tuple(
        replace(
            each,
            bands=tuple(
                replace(band, retention_low=None, retention_high=None) for band in each.bands
            ),
        )
        for each in pictures
    )


def _values(
    spec: ScoringSpec,
    name: str,
    frame: pl.DataFrame,
    encoded: dict[str, pl.Expr],
    days: pl.DataFrame | None,
) -> pl.Series:
    """Return a feature's values as numbers, as days before the reference date, or as text."""
    feature = spec.features[name]
    if feature.rule is not None:
        holds = pl.when(encoded[name] > 0).then(pl.lit("holds")).otherwise(pl.lit("doesn't hold"))
        return frame.select(holds).to_series()
    if isinstance(feature.encode, TableEncoder):
        return frame.select(cell_of(feature.encode, frame.schema)).to_series()
    column, encode = frame[feature.reads(name)[0]], feature.encode
    if encode.kind == "days_before" and days is not None:
        dated = days.with_columns(then=column.cast(pl.Date))
        return dated.select((pl.col("day") - pl.col("then")).dt.total_days()).to_series()
    texts = encode.kind == "one_of" or (encode.kind == "bins" and not encode.intervals)
    if column.dtype.is_numeric() and not texts and encode.kind != "bool":
        return column.cast(pl.Float64).fill_nan(None)
    return column.to_frame().select(as_text(column.name, column.dtype)).to_series()


def _picture(
    name: str, earned: str, values: pl.Series, points: pl.Series, kept: pl.Series
) -> EncoderPicture:
    """Return the picture of one feature; the three series have one entry per account."""
    frame = pl.DataFrame({"value": values, "points": points, "kept": kept})
    known = frame.drop_nulls("value")
    if not values.dtype.is_numeric() or known.is_empty():
        # The most frequent categories, then all others, then unknown values.
        counts = (
            known["value"]
            .value_counts(sort=True)
            .sort(["count", "value"], descending=[True, False])
        )
        listed = counts["value"].head(_MOST_CATEGORIES).to_list()
        named = frame.with_columns(
            pl.when(pl.col("value").is_in(listed) | pl.col("value").is_null())
            .then(pl.col("value").fill_null("(unknown)"))
            .otherwise(pl.lit("(others)"))
        )
        order = [*listed, "(others)", "(unknown)"]
        bands = [
            _band(str(each), None, None, rows, frame.height)
            for each in dict.fromkeys(order)
            if (rows := named.filter(pl.col("value") == each)).height
        ]
        return EncoderPicture(name, earned, tuple(bands))
    x = known["value"].cast(pl.Float64)
    known = known.with_columns(x).sort("value")
    distinct = x.unique().sort().to_numpy()
    if len(distinct) <= _BANDS:
        ends = [(float(each), float(each)) for each in distinct]
    else:
        low, high = np.quantile(x.to_numpy(), _ENDS)
        if low == high:
            low, high = distinct[0], distinct[-1]
        cuts = np.linspace(low, high, _BANDS + 1)
        ends = [(float(a), float(b)) for a, b in itertools.pairwise(cuts)]
    bands = []
    for i, (a, b) in enumerate(ends):
        v = pl.col("value")
        inside = (v == a) if a == b else pl.lit(value=True)
        if a != b:
            inside &= (v >= a) if i else pl.lit(value=True)
            inside &= (v < b) if i < len(ends) - 1 else pl.lit(value=True)
        rows = known.filter(inside)
        if rows.height:
            text = digits(a) if a == b else f"{digits(a, 4)} to {digits(b, 4)}"
            bands.append(_band(text, a, b, rows, frame.height))
    unknown = frame.filter(pl.col("value").is_null())
    if unknown.height:
        bands.append(_band("(unknown)", None, None, unknown, frame.height))
    drawn = (
        known.filter(pl.col("value").is_between(ends[0][0], ends[-1][1]))
        .unique("value")
        .sort("value")
    )
    every = max(1, -(-drawn.height // _MOST_POINTS))
    thinned = pl.concat([drawn.gather_every(every), drawn.tail(1)]).unique("value").sort("value")
    steps = len(set(thinned["points"])) < max(3, thinned.height // 3)
    line = tuple(thinned.select("value", "points").rows())
    return EncoderPicture(name, earned, tuple(bands), line, steps)


def _band(
    name: str, low: float | None, high: float | None, rows: pl.DataFrame, accounts: int
) -> Band:
    """Return a band of `rows`, a part of all `accounts`."""
    kept = rows["kept"].drop_nulls().drop_nans()
    points = float(rows["points"].mean())  # type: ignore[arg-type] # there is an account
    staying, known = int(kept.sum()), kept.len()
    low_end, high_end = wilson(staying, known) or (None, None)
    share = staying / known if known else None
    return Band(name, low, high, points, rows.height / accounts, share, low_end, high_end)
