"""Walk-forward validation: search what was known by each date, and judge on the next one.

A random holdout flatters a score, because its accounts are of the window that was searched. Here
each step searches the dates whose outcomes were over, and judges on the next date, which began
after that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.data.scan import collect, scan
from gtmar.engine.equal_sizes import sums_at_sizes, tier_sizes, with_edges
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.tally import TierEdges
from gtmar.errors import AccountDataError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.lookup import checkout
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.plain_data import PlainData, html_sentence, html_table, percent, some
from gtmar.runs.backtest import only_columns, spec_of_column
from gtmar.runs.holdout import journal_if_there, without_holdout
from gtmar.runs.inputs import (
    TableOptions,
    load,
    outcome_end,
    outcomes_known,
    refuse_unknown_options,
    tables_by_date,
)
from gtmar.runs.plan import given_at_start
from gtmar.runs.run import run
from gtmar.spec.model import stated_date
from gtmar.stats.interval import Interval, from_groups
from gtmar.validation.intervals import at_sizes_of
from gtmar.validation.paired_scores import Scored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.runs.results import Progress
    from gtmar.spec.model import ScoringSpec

    Vectors = Mapping[str, tuple[int, ...]]

__all__ = ["OTHERS", "WalkStep", "Walked", "walk"]

#: What re-tuning is compared with: the weights as given; those of the first step, kept; a logistic
#: regression fitted to the same dates; the score in a column.
OTHERS = ("alone", "once", "logistic", "column")
_RETUNED = "retuned"
#: Groups of accounts that are left out in turn, for the intervals.
_GROUPS = 40
_LEVEL = 0.95


@dataclass(frozen=True)
class WalkStep:
    """One step: the dates searched, and the scores on the next date."""

    #: The date judged on, and the first and the last date searched.
    day: date
    known: tuple[date, date]
    run_id: str
    accounts: int
    #: The objective on that date, of `retuned` and of each of `OTHERS`; null without a value.
    values: dict[str, float | None]
    #: Share of the accounts that left which were in the worst tier, at the tier sizes of the given
    #: weights; null if none left.
    caught: dict[str, float | None]
    weights: dict[str, int]


@dataclass(frozen=True)
class Walked(PlainData):
    """The result of a walk-forward validation."""

    _beside = ("verdict", "sentence")

    walk_id: str
    source: str
    model: str
    objective: str
    higher_is_better: bool
    steps: tuple[WalkStep, ...]
    accounts: int
    #: The objective after re-tuning minus that of each of `OTHERS`, mean over the dates.
    gains: dict[str, Interval]
    #: Share of all accounts that left which were in the worst tier, over all dates.
    caught: dict[str, float | None]
    #: Dates that can't be judged, each with the reason.
    left_out: tuple[tuple[date, str], ...]
    event_id: str | None = None
    #: Steps whose run was in the journal already.
    reused: int = 0

    @property
    def verdict(self) -> str:
        """Whether re-tuning beats the given weights beyond chance: `pays`, `costs` or `alone`."""
        gain = self._better("alone")
        if gain.above_zero:
            return "pays"
        return "costs" if gain.below_zero else "alone"

    def _better(self, other: str) -> Interval:
        gain = self.gains[other]
        return gain if self.higher_is_better else gain.negated()

    def wins(self, other: str) -> int:
        """Return on how many dates re-tuning was better than one of `OTHERS`."""
        sign = 1 if self.higher_is_better else -1
        pairs = ((step.values[_RETUNED], step.values.get(other)) for step in self.steps)
        return sum(a is not None and b is not None and sign * (a - b) > 0 for a, b in pairs)

    @property
    def sentence(self) -> str:
        """The result in a sentence, for a lead."""
        dates = f"{self.wins('alone')} of {some(len(self.steps), 'date')}"
        gain = self.gains["alone"]
        measured = (
            f"{self.objective} {gain.value:+.4f} on average" if gain.value is not None else ""
        )
        if gain.low is not None and gain.high is not None:
            measured += f" ({gain.low:+.4f} to {gain.high:+.4f})"
        old, new = self.caught["alone"], self.caught[_RETUNED]
        caught = ""
        if old is not None and new is not None:
            then, now = percent(old), percent(new)
            caught = f"; the worst tier would have held {now} of those who left, not {then}"
            if now == then:
                caught = f"; the worst tier holds {now} of those who left either way"
        if self.verdict == "pays":
            return (
                f"Re-tuning on each date would have paid, on {dates}: {measured}{caught}."
                f"{self._tuned_once}"
            )
        if self.verdict == "costs":
            return f"Leave the weights alone: re-tuning would have cost, {measured}{caught}."
        return (
            f"Leave the weights alone: re-tuning was better on {dates}, and no better beyond "
            f"chance: {measured}{caught}."
        )

    @property
    def _tuned_once(self) -> str:
        """A sentence if tuning once, on the first date, does as well; empty else."""
        gain = self._better("once") if "once" in self.gains else None
        if gain is None or gain.low is None or gain.above_zero or len(self.steps) == 1:
            return ""
        if gain.below_zero:
            own = self.gains["once"].negated()
            return (
                " Weights tuned once, on the first date, would have been better: "
                f"{own.value:+.4f} ({own.low:+.4f} to {own.high:+.4f})."
            )
        return " It is no better beyond chance than weights tuned once, on the first date."

    def _repr_html_(self) -> str:
        dates = len(self.steps)
        rows = [
            (name, gain.value, gain.low, gain.high, f"{self.wins(name)} of {dates}")
            for name, gain in self.gains.items()
        ]
        heads = ("re-tuned against", "gain", "from", "to", "better on")
        return html_sentence(self.sentence) + html_table(heads, rows, caption=self.objective)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return super().as_json() | {
            "wins": {name: self.wins(name) for name in self.gains},
            "left_out": [{"day": day, "why": why} for day, why in self.left_out],
        }


def walk(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    score_column: str | None = None,
    metric: str | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    author: str | None = None,
    journal: str | Path = "journal",
    announce: Callable[[str], None] | None = None,
    watch: Callable[[Progress], None] | None = None,
    **table_options: Unpack[TableOptions],
) -> Walked:
    """Search what was known by each date, judge on the next, and measure whether re-tuning pays.

    Parameters and errors are those of `gtmar.walk`; `limits` are those of each step's search. The
    result is also written to the journal, once, as an event. Steps that an earlier walk has done
    are read from the journal, so that a walk that was cut off continues.

    Notes
    -----
    Each step starts from the weights of the step before. Intervals are of the mean gain over dates.
    Accounts are independent, their rows aren't; so 40 groups of accounts are left out in turn, with
    all their rows: the delete-a-group jackknife (Kott 2001). Cost: a run for each step, and 40
    evaluations of each score on each date.
    """
    refuse_unknown_options(table_options, TableOptions)
    given = specs.reading_dates(spec, table_options.get("date_format"))
    given = without_holdout(given)
    judge = Judge.of(given, metric)
    limits = limits or Limits()
    # Read once: a database may change in between.
    every = scan(data)
    tables = tables_by_date(data, every)
    judged, left_out = _steps(tables, given)
    if not judged:
        raise AccountDataError(
            f"no date of {len(tables)} can be judged: none begins after the outcomes of another "
            "were over",
            hint="give dates a whole window apart whose outcomes are known, or a shorter window; "
            + "; ".join(f"{day}: {why}" for day, why in left_out[-2:]),
        )
    panel = _JudgedDates.load(every, given, [day for day, _ in judged], score_column, table_options)
    walk_id = _walk_id(panel.accounts, given, judge, limits, seed, score_column)
    incumbent, once, steps, reused = given, None, [], 0
    for number, (day, known) in enumerate(judged, start=1):
        train = _at(every, known[0], known[-1])
        accounts, _ = load(train, given, **table_options)
        note = f"walk {walk_id}: judged on {day}"
        run_id = _recorded_step(Path(journal), note, accounts, incumbent)
        if run_id is None:
            if announce is not None:
                announce(f"Step {number} of {len(judged)}: search until {known[-1]}, judge {day}.")
            run_id = run(
                train,
                incumbent,
                metric=metric,
                limits=limits,
                seed=seed,
                journal=journal,
                holdout_file=_at(every, day, day),
                author=author,
                note=note,
                cold=True,
                watch=watch,
                **table_options,
            ).run_id
        else:
            reused += 1
        with Journal(journal) as opened:
            incumbent = without_holdout(checkout(opened, run_id))
        once = once or incumbent.vector
        vectors = {
            "alone": given.vector,
            "once": once,
            _RETUNED: incumbent.vector,
            "logistic": _logistic(accounts.search, given, judge),
        }
        steps.append((day, (known[0], known[-1]), run_id, vectors))
    result = panel.walked(judge, steps)
    walked = replace(
        result,
        walk_id=walk_id,
        source=panel.accounts.table.source,
        model=given.model,
        left_out=tuple(left_out),
        reused=reused,
    )
    return replace(walked, event_id=_put_on_record(Path(journal), walked, given))


# ---- which dates judge -------------------------------------------------------------------------


def _steps(
    tables: Mapping[date, AccountTable], spec: ScoringSpec
) -> tuple[list[tuple[date, list[date]]], list[tuple[date, str]]]:
    """Return the dates to judge on with the dates known by then, and other dates with a reason."""
    ends = {day: outcome_end(table, spec) for day, table in tables.items()}
    there = {day: outcomes_known(table, spec) for day, table in tables.items()}
    judged, left_out = [], []
    for day, table in sorted(tables.items()):
        begins = _features_until(table, spec, day)
        known = [d for d in sorted(tables) if there[d] and (end := ends[d]) and end <= begins]
        if not there[day]:
            left_out.append((day, "its outcomes aren't known"))
        elif not known:
            left_out.append((day, "no outcomes were over before it"))
        else:
            judged.append((day, known))
    return judged, left_out


def _features_until(table: AccountTable, spec: ScoringSpec, day: date) -> date:
    """Return the last day of a date's features."""
    column = "features_until" if spec.window is None else spec.window.features_asof
    stated = stated_date(column)
    if stated is not None or column not in table.columns:
        return stated or day - timedelta(days=1)
    first = table.frame.select(pl.col(column).min().cast(pl.Date))
    newest: date | None = collect(table, first).item()
    return newest or day - timedelta(days=1)


def _at(table: AccountTable, first: date, last: date) -> AccountTable:
    """Return the rows of a range of a table's dates."""
    days = f"{first}" if first == last else f"{first}..{last}"
    column = "" if table.dates is None else f"{table.dates.column}="
    return scan(replace(table, dates=None), at=column + days)


# ---- the steps' weights --------------------------------------------------------------------------


def _logistic(matrix: AccountMatrix, spec: ScoringSpec, judge: Judge) -> tuple[int, ...] | None:
    """Return the weights of a logistic regression, on the spec's scale; None without labels."""
    try:
        given = given_at_start("logistic", matrix, spec)
    except UsageError:
        return None
    if given is None or not given.vectors:
        return None
    evaluator = LocalEvaluator(matrix, spec)
    values = judge.values(evaluator.frame([list(v) for v in given.vectors]))
    ranked = [
        (-np.inf if value is None else judge.sign * value, -number)
        for number, value in enumerate(values)
    ]
    return given.vectors[-max(ranked)[1]]


def _recorded_step(
    journal: Path, note: str, accounts: Accounts, incumbent: ScoringSpec
) -> str | None:
    """Return the run of a step that an earlier walk did on the same table; None if none did."""
    with journal_if_there(journal) as opened:
        if opened is None:
            return None
        rows = opened.query(
            "select run_id from runs where note = getvariable('note') "
            "and outcomes_fingerprint = getvariable('outcomes') "
            "and features_fingerprint = getvariable('features') "
            "and spec_id = getvariable('spec') "
            "and state in ('finished', 'exhausted', 'patience', 'time_budget') "
            "order by run_id",
            columns=(),
            note=note,
            outcomes=accounts.outcomes_fingerprint,
            features=accounts.features_fingerprint,
            spec=specs.spec_id(incumbent),
        )
    return None if rows.is_empty() else str(rows["run_id"][0])


def _walk_id(
    accounts: Accounts,
    spec: ScoringSpec,
    judge: Judge,
    limits: Limits,
    seed: int,
    column: str | None,
) -> str:
    """Return an id of the walk: a hash of its tables, spec, objective, limits, seed and column."""
    identity = (
        accounts.outcomes_fingerprint,
        accounts.features_fingerprint,
        specs.spec_id(spec),
        judge.name,
        str(limits),
        seed,
        column,
    )
    return "w" + sha256(json.dumps(identity).encode()).hexdigest()[:12]


def _put_on_record(journal: Path, walked: Walked, spec: ScoringSpec) -> str:
    """Write the walk as an event, unless the journal has it; return the event's id."""
    with Journal(journal) as opened:
        there = opened.query(
            "select event_id from events where kind = 'walk' "
            "and details ->> '$.walk_id' = getvariable('walk') order by event_id",
            walk=walked.walk_id,
        )["event_id"]
    if len(there):
        return str(there[0])
    details = {k: v for k, v in walked.as_json().items() if k not in ("event_id", "reused")}
    return write_event(
        journal,
        EventKind.WALK,
        details=json.loads(json.dumps(details, default=str)),
        model=walked.model,
        spec_id=specs.spec_id(spec),
        source=walked.source,
    )


# ---- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _JudgedDates:
    """The accounts of all dates to judge on, with the team's own score if there is one."""

    accounts: Accounts
    spec: ScoringSpec
    #: A spec whose score is the column; None without one.
    column: ScoringSpec | None
    days: tuple[date, ...]

    @classmethod
    def load(
        cls,
        every: AccountTable,
        spec: ScoringSpec,
        days: Sequence[date],
        column: str | None,
        options: TableOptions,
    ) -> _JudgedDates:
        """Load all accounts of the dates."""
        table = _at(every, days[0], days[-1])
        own = None if column is None else spec_of_column(table, column, spec, None, None, [])
        features = spec.features if own is None else {**spec.features, **own.features}
        accounts, _ = load(table, spec.model_copy(update={"features": features}), **options)
        return cls(accounts, spec, own, tuple(days))

    def walked(
        self,
        judge: Judge,
        steps: Sequence[tuple[date, tuple[date, date], str, Mapping[str, Any]]],
    ) -> Walked:
        """Judge each step on its date, and all of them together."""
        matrix = self.accounts.search
        dates = np.zeros(matrix.accounts) if matrix.date_of is None else matrix.date_of
        numbers = {day: number for number, day in enumerate(matrix.dates or self.days)}
        parts = [matrix.take(np.flatnonzero(dates == numbers[step[0]])) for step in steps]
        sides = [
            _DateScores.of(part, self.spec, self.column, judge, vectors)
            for part, (*_, vectors) in zip(parts, steps, strict=True)
        ]
        values = [side.values() for side in sides]
        accounts = matrix.distinct
        names = [n for n in OTHERS if all(n in each for each in values)]
        gains = {name: _mean_gain(values, name) for name in names}
        left_out: dict[str, list[float]] = {name: [] for name in names}
        for group in range(_GROUPS):
            without = [side.without(group).values() for side in sides]
            for name in names:
                gain = _mean_gain(without, name)
                if gain is not None:
                    left_out[name].append(gain)
        caught = [side.caught() for side in sides]
        return Walked(
            walk_id="",
            source="",
            model=self.spec.model,
            objective=judge.name,
            higher_is_better=judge.sign > 0,
            steps=tuple(
                WalkStep(
                    day=day,
                    known=known,
                    run_id=run_id,
                    accounts=part.accounts,
                    values=value,
                    caught={n: lost and held / lost for n, (held, lost) in caught_and_lost.items()},
                    weights=dict(zip(part.names, vectors[_RETUNED], strict=False)),
                )
                for (day, known, run_id, vectors), part, value, caught_and_lost in zip(
                    steps, parts, values, caught, strict=True
                )
            ),
            accounts=accounts,
            gains={
                name: from_groups(gains[name], left_out[name], level=_LEVEL, accounts=accounts)
                for name in names
            },
            caught={
                name: _ratio([each[name] for each in caught])
                for name in (*names, _RETUNED)
                if all(name in each for each in caught)
            },
            left_out=(),
        )


def _ratio(parts: Sequence[tuple[float, float]]) -> float | None:
    held, lost = (sum(each) for each in zip(*parts, strict=True))
    return held / lost if lost else None


def _mean_gain(values: Sequence[Mapping[str, float | None]], other: str) -> float | None:
    """Return the mean over dates of re-tuning minus another; None if a date has no value."""
    gains = []
    for each in values:
        new, old = each[_RETUNED], each[other]
        if new is None or old is None:
            return None
        gains.append(new - old)
    return float(np.mean(gains))


@dataclass(frozen=True)
class _DateScores:
    """The scores that are compared on one date: by name a spec and weights."""

    judge: Judge
    matrix: AccountMatrix
    scores: Mapping[str, tuple[ScoringSpec, tuple[int, ...]]]

    @classmethod
    def of(
        cls,
        matrix: AccountMatrix,
        spec: ScoringSpec,
        column: ScoringSpec | None,
        judge: Judge,
        vectors: Mapping[str, Any],
    ) -> _DateScores:
        """Return the scores of a date; all but the column's are by `spec`, with its tiers."""
        spec = with_edges(spec, only_columns(matrix, spec))
        scores = {name: (spec, vector) for name, vector in vectors.items() if vector is not None}
        if column is not None:
            scores["column"] = column, column.vector
        return cls(judge, matrix, scores)

    def without(self, group: int) -> _DateScores:
        """Return the same scores without one group of accounts."""
        whose = self.matrix.account_of
        rows = np.arange(self.matrix.accounts) if whose is None else whose
        # Neighbouring ids may be alike: a multiplication spreads them over the groups.
        groups = (rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
        kept = np.flatnonzero(groups % np.uint64(_GROUPS) != group)
        return replace(self, matrix=self.matrix.take(kept))

    def values(self) -> dict[str, float | None]:
        """Return the objective of each score; one of a tier at the given weights' tier sizes."""
        by_name: dict[str, float | None] = {}
        if not self.judge.metric.by_tier:
            # Scores of one spec are evaluated together, in a fraction of the time.
            for _, together in groupby(self.scores, key=lambda name: id(self.scores[name][0])):
                names = list(together)
                spec = self.scores[names[0]][0]
                evaluator = LocalEvaluator(only_columns(self.matrix, spec), spec)
                sums = evaluator.frame([self.scores[name][1] for name in names])
                by_name.update(zip(names, self.judge.values(sums), strict=True))
            return by_name
        sizes = None
        for name, (spec, weights) in self._ordered():
            matrix = only_columns(self.matrix, spec)
            sizes = sizes or tier_sizes(matrix, spec, weights)
            tiers = self.scores["alone"][0].tier_names
            by_name[name] = self.judge.decide(sums_at_sizes(matrix, spec, weights, sizes, tiers))[0]
        return by_name

    def _ordered(self) -> list[tuple[str, tuple[ScoringSpec, tuple[int, ...]]]]:
        return sorted(self.scores.items(), key=lambda each: each[0] != "alone")

    def caught(self) -> dict[str, tuple[float, float]]:
        """Return for each score how many accounts of its worst tier left, and how many in all."""
        first: Scored | None = None
        by_name = {}
        movement = self.matrix.codes // ACTIVATION_STATES
        lost = (movement == Movement.LOST_NONPAYING) | (movement == Movement.LOST_PAYING)
        for name, (spec, weights) in self._ordered():
            evaluator = LocalEvaluator(only_columns(self.matrix, spec), spec)
            bins = evaluator.scores(weights).astype(np.intp)
            if first is None:
                edges = TierEdges.of(spec)
                scored = first = Scored(bins, edges.tiers_of(bins), edges.tiers, edges.risk)
            else:
                alike = spec.orientation == self.scores["alone"][0].orientation
                scored = at_sizes_of(first, bins if alike else -bins)
            worst = 0 if first.risk else len(first.tier_names) - 1
            by_name[name] = (float(scored.inside(worst)[lost].sum()), float(lost.sum()))
        return by_name
