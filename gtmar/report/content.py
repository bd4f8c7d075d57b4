"""Gather the content of pages from a journal: all numbers, before templates format them."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from gtmar.errors import GtmarError
from gtmar.journal import review as reading
from gtmar.journal.front import front
from gtmar.journal.lookup import checkout
from gtmar.journal.sentences import DATED
from gtmar.metrics.registry import all_metrics
from gtmar.report.account_table import read_table
from gtmar.runs.holdout import count_looks
from gtmar.runs.session import commands_of, desk_command
from gtmar.stats.interval import level_of, wilson
from gtmar.validation.repeated_search import NullAnswers

if TYPE_CHECKING:
    import polars as pl

    from gtmar.data.scan import Tabular
    from gtmar.journal.catalog import Journal
    from gtmar.journal.front import Front
    from gtmar.journal.review import Review
    from gtmar.report.account_table import TableEvidence
    from gtmar.runs.watch import Watched
    from gtmar.stats.interval import Interval

__all__ = ["Evidence", "StabilityRecord", "gather", "gather_history", "promotions"]

#: Number of windows of experiments in the chart of the objective, equally wide on its square-root
#: scale.
_WINDOWS = 24
_TRIED = """
    select
        floor(getvariable('windows') * sqrt((number - 1) / getvariable('last'))) as bucket,
        min(number) as first,
        max(number) as last,
        quantile_cont(value_after, 0.1) as low,
        quantile_cont(value_after, 0.9) as high
    from experiments
    where run_id = getvariable('run')
        and outcome not in ('baseline', 'known')
        and value_after is not null
    group by bucket
    order by bucket
"""
_BY_HAND = """
    select
        number,
        worded_changes(changes) as changes,
        value_before,
        value_after,
        outcome
    from experiments
    where run_id = getvariable('run')
        and proposer = 'human'
        and number > 0
    order by number
"""
_MEASURED = """
    select number, labelled_by_tier
    from experiments
    where run_id = getvariable('run')
        and number in (0, getvariable('best'))
    order by number
"""
#: Keys of a part's lists with one entry per date: rows, start, best, and whether the gain holds.
_BY_DATE = ("rows_by_date", "before", "after", "gained")
#: The latest event of a kind (null search or stability) on a run.
_LATEST = """
    select details
    from events
    where kind = getvariable('kind')
        and run_id = getvariable('run')
    order by "at" desc, event_id desc
    limit 1
"""


@dataclass(frozen=True)
class StabilityRecord:
    """The latest stability check of a run, on halves of its accounts, as recorded in its event."""

    searches: int
    #: Experiments of each search.
    experiments: int
    #: For each weight: `name`, `start`, `found`, `low`, `middle`, `high`, `sign_held`, `reading`.
    weights: list[dict[str, Any]]
    #: What no half chose anew, in a sentence; None for nothing.
    note: str | None = None

    def named(self, reading: str) -> list[str]:
        """Return the names of all weights with a reading."""
        return [weight["name"] for weight in self.weights if weight["reading"] == reading]


_Record = TypeVar("_Record", NullAnswers, StabilityRecord)


def _latest(journal: Journal, record: type[_Record], kind: str, run_id: str) -> _Record | None:
    """Return the latest record of a kind; None if there is none."""
    rows = journal.query(_LATEST, kind=kind, run=run_id)
    if rows.is_empty():
        return None
    details = json.loads(rows["details"].item())
    # Events of earlier versions may lack newer fields, which become None.
    return record(**{field.name: details.get(field.name) for field in fields(record)})


@dataclass(frozen=True)
class Cost:
    """A headline metric that got worse, in words."""

    text: str
    #: Whether the change is beyond chance.
    beyond: bool


@dataclass(frozen=True)
class WeightGroup:
    """The weights of one feature."""

    feature: str
    #: Rows of the review, each with its `label` within the feature.
    rows: list[dict[str, Any]]
    #: Whether the weights belong to the feature's bins.
    binned: bool


@dataclass(frozen=True)
class Evidence:
    """The content of a run's report."""

    #: The run as shown by ``gtmar review``.
    review: Review
    #: Its row of the view `runs`, with its parameters and its end.
    run: dict[str, Any]
    #: One row per window of experiments: `bucket`, `first`, `last`, and `low` and `high`, the 10 %
    #: and 90 % quantiles of the objective in the window.
    tried: pl.DataFrame
    #: Experiments proposed by a person: number, changes, value before and after, outcome.
    by_hand: pl.DataFrame
    #: The review's row per stage and tier, with the 95 % interval of its logo retention: Wilson's,
    #: or from the table, over whole accounts, if these have several rows.
    tiers: tuple[dict[str, Any], ...]
    #: Metrics of the whole score: start and best, on the accounts searched and on the holdout.
    #: Empty without a holdout.
    unseen: tuple[dict[str, Any], ...]
    #: The parts from the account table; None if it is missing or has changed, and why.
    table: TableEvidence | None
    absent: str | None
    #: The latest recorded null search and stability check; None if there is none.
    null: NullAnswers | None
    stability: StabilityRecord | None
    #: The best compromises between the objective and revenue capture, or tier separation.
    front: Front

    @property
    def sentences(self) -> list[str]:
        """The summary at the top of the report, without `costs`.

        If the table is available, it also states whether the gain on unseen accounts is beyond
        chance.
        """
        lines, seen = self.review.sentences_on(costs=False), self.review.seen
        revenue = self.table.revenue if self.table else None
        if not self.review.held or seen is None or revenue is None:
            return lines
        gain = revenue.gain
        if gain is None or gain.value is None or gain.low is None or gain.high is None:
            return lines
        beyond = "beyond" if revenue.gain_reading == "better" else "within"
        chance = (
            f"The gain there, {gain.value:+.4f}, is {beyond} chance "
            f"({100 * revenue.level:.5g}% interval {gain.low:+.4f} to {gain.high:+.4f})."
        )
        return [lines[0], chance, *lines[1:]]

    @property
    def costs(self) -> list[Cost]:
        """Metrics that got worse; only with the table is it known whether beyond chance."""
        measured, seen = self.review.costs, self.review.seen
        unseen = seen is not None and seen.unseen
        known = self.table.costs if self.table and self.review.improved else None
        decided = self.review.decided_costs
        if known is None and decided is not None:
            return [Cost(text, beyond=True) for text in decided]
        proven = known or {}
        mark = "chance not excluded" if known is None else "within chance"
        rest = {
            key: f"Worse as measured, {mark}: {text}."
            for key, text in measured.items()
            if key not in proven
        }
        where = "" if unseen else "In-sample. "
        return [
            *(Cost(f"{where}{text}", beyond=True) for text in proven.values()),
            *(Cost(f"{where}{text}", beyond=False) for text in rest.values()),
        ]

    @property
    def weights(self) -> list[WeightGroup]:
        """The weights grouped by feature; features with the largest weights come first."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in self.review.weights:
            feature = row["of"] or row["feature"]
            label = row["feature"].removeprefix(feature) or feature
            groups.setdefault(feature, []).append(row | {"label": label})
        ordered = sorted(groups.items(), key=lambda each: -max(abs(w["best"]) for w in each[1]))
        return [
            WeightGroup(feature, rows, binned=any(w["feature"] != feature for w in rows))
            for feature, rows in ordered
        ]

    @property
    def drawn_tiers(self) -> tuple[dict[str, Any], ...]:
        """The rows of the chart of tiers: at equal sizes if these are known, else by edges.

        Only the start's rows if no experiment was kept.
        """
        if self.review.improved:
            return self.sized_tiers or self.tiers
        return tuple(line for line in self.tiers if line["stage"] == "start")

    @property
    def sized_tiers(self) -> tuple[dict[str, Any], ...]:
        """The rows of the chart of tiers with tiers of the start's sizes; empty if unknown."""
        if self.review.tiers_at_equal_sizes is None or not self.review.improved:
            return ()
        part, rows = self.review.tiers_at_equal_sizes
        lines = []
        for stage in ("start", "best"):
            labelled = self.review.equal_sizes[part][f"labelled_{stage}"]
            for row, count in zip(rows, labelled, strict=True):
                share = row[f"logo_retention_{stage}"]
                interval = None if share is None else wilson(share * count, count)
                if self.review.by_date is not None:
                    interval = self._kept_of(part, row["tier"], stage)
                lines.append(
                    {
                        "tier": row["tier"],
                        "accounts": row["accounts"],
                        "stage": stage,
                        "logo_retention": share,
                        "logo_interval": interval,
                    }
                )
        return tuple(lines)

    @property
    def tier_level(self) -> float:
        """The level of the intervals in the chart of tiers, in (0, 1)."""
        revenue = self.table.revenue if self.table else None
        drawn = self.review.by_date is not None and self.sized_tiers
        return revenue.level if drawn and revenue else 0.95

    def _kept_of(self, part: str, tier: str, stage: str) -> tuple[float, float] | None:
        """Return the interval of a tier's share retained, from the table; None if unknown."""
        revenue = self.table.revenue if self.table else None
        if revenue is None or revenue.part != part.replace("_", " "):
            return None
        column = f"logo_retention_by_tier.{tier}"
        return _ends(next((getattr(x, stage) for x in revenue.lines if x.column == column), None))

    @property
    def dates(self) -> list[dict[str, Any]]:
        """The objective by date, then for all dates together; empty for a table of one date.

        Each row has its `day` and, for each part with that date, `rows`, `start`, `best` and
        `gained`, whether the gain holds.
        """
        by_date, summary = self.review.by_date, self.review.summary
        if by_date is None:
            return []
        parts = {name: by_date["parts"][name] for name in DATED if name in by_date["parts"]}
        rows: list[dict[str, Any]] = []
        heads = ("rows", "start", "best", "gained")
        for day in by_date["dates"]:
            row: dict[str, Any] = {"day": day}
            for name, part in parts.items():
                if day in part["dates"]:
                    at = part["dates"].index(day)
                    values = (part[key][at] for key in _BY_DATE)
                    row[name] = dict(zip(heads, values, strict=True))
            rows.append(row)
        pooled = {
            "searched": (summary["baseline_value"], summary["best_value"]),
            "held_out": (summary["holdout_baseline_value"], summary["holdout_best_value"]),
        }
        ends = {
            name: dict(zip(heads, (part["rows"], *pooled[name], None), strict=True))
            for name, part in parts.items()
        }
        return [*rows, {"day": "all", **ends}]

    @property
    def metrics_by_date(self) -> tuple[str, list[str], dict[str, list[float | None]]] | None:
        """The best score's metrics by date: the part's label, dates, and values by metric.

        None for a table of one date. The part is the holdout if there is one.
        """
        if self.review.by_date is None:
            return None
        parts = self.review.by_date["parts"]
        name = "held_out" if "held_out" in parts else "searched"
        measured = parts[name]["metrics_after"]
        keys = [m.key for m in all_metrics().values() if not m.by_tier and m.better != "neither"]
        values = {key: [each.get(key) for each in measured] for key in keys}
        known = {key: row for key, row in values.items() if any(v is not None for v in row)}
        return DATED[name], parts[name]["dates"], known

    @property
    def commands(self) -> list[str]:
        """The commands that reproduce the run; none for an imported one."""
        run = self.run
        if run["kind"] == "import":
            return []
        more = commands_of(run) if run["kind"] == "search" else []
        return [f"gtmar replay {run['run_id']}", *more]

    @property
    def desk(self) -> str | None:
        """The command that opens the best on the desk; None for a run on a frame or an import."""
        return None if self.run["kind"] == "import" else desk_command(self.run)


def _ends(interval: Interval | None) -> tuple[float, float] | None:
    if interval is None or interval.low is None or interval.high is None:
        return None
    return interval.low, interval.high


def gather(journal: Journal, name: str | None = None, *, data: Tabular | None = None) -> Evidence:
    """Gather the content of a run's report; `name` None is the latest run.

    `data` is its account table. None uses the recorded location, and leaves the table out if it is
    missing or has changed. Errors are those of `run_page`. Cost: a few queries over the run's own
    files, and a few passes over the table.
    """
    review = reading.review(journal, name)
    run_id = review.summary["run_id"]
    [run] = journal.query(
        "select * from runs where run_id = getvariable('run')", run=run_id
    ).to_dicts()
    last = max(1, review.summary["experiments"] + review.summary["known"])
    table, absent = _table(journal, run, review, data)
    return Evidence(
        review=review,
        run=run,
        tried=journal.query(_TRIED, run=run_id, windows=_WINDOWS, last=last),
        by_hand=journal.query(_BY_HAND, run=run_id),
        tiers=_tiers(journal, review, table),
        unseen=_unseen(run, review),
        table=table,
        absent=absent,
        null=_latest(journal, NullAnswers, "null", run_id),
        stability=_latest(journal, StabilityRecord, "stability", run_id),
        front=front(journal, run_id),
    )


def _table(
    journal: Journal, run: dict[str, Any], review: Review, data: Any
) -> tuple[TableEvidence | None, str | None]:
    """Return what the account table adds, or why it can't be read; an error if `data` was given."""
    if run["kind"] == "import":
        return None, "The run was imported, so its account table is not known here."
    # The comparison at the run's end counts as a look at the holdout.
    comparison = f"{run['run_id']}/{review.summary['best_experiment']}"
    looks = count_looks(journal, run["outcomes_fingerprint"], comparison)
    try:
        best = checkout(journal, comparison)
        return read_table(run, best, data, level=level_of(looks)), None
    except GtmarError as err:
        if data is not None:
            raise
        return None, err.message


def _tiers(
    journal: Journal, review: Review, table: TableEvidence | None
) -> tuple[dict[str, Any], ...]:
    best = int(review.summary["best_experiment"].removeprefix("exp_"))
    rows = journal.query(_MEASURED, run=review.summary["run_id"], best=best).to_dicts()
    labelled = {"start": rows[0]["labelled_by_tier"], "best": rows[-1]["labelled_by_tier"]}
    lines = []
    for row in review.tiers:
        count = (labelled[row["stage"]] or {}).get(row["tier"]) or 0
        share = row["logo_retention"]
        if review.by_date is not None:
            # The interval needs to know which rows belong to one account: only the table does.
            kept = {} if table is None else table.kept
            interval = _ends(kept.get((row["stage"], row["tier"])))
        else:
            # The share is a ratio of counts, so rounding recovers the count exactly.
            interval = None if share is None else wilson(round(share * count), count)
        lines.append(row | {"logo_interval": interval})
    return tuple(lines)


def _unseen(run: dict[str, Any], review: Review) -> tuple[dict[str, Any], ...]:
    """Return `Evidence.unseen`: metrics on the holdout beside those on the accounts searched."""
    if run["holdout_best_metrics"] is None:
        return ()
    start, best = (json.loads(run[f"holdout_{x}_metrics"]) for x in ("baseline", "best"))
    name = run["objective"]
    columns = [(row["metric"], row["start"], row["best"]) for row in review.drift]
    searched = {metric: ends for metric, *ends in columns}
    searched[name] = [review.summary["baseline_value"], review.summary["best_value"]]
    shown = [m.key for m in all_metrics().values() if not m.by_tier and m.better == "higher"]
    heads = ("metric", "search_start", "search_best", "holdout_start", "holdout_best")
    rows = []
    for metric in dict.fromkeys([name, *(key for key in shown if key in searched)]):
        key, _, tier = metric.partition(".")
        ends = [(side[key] or {}).get(tier) if tier else side[key] for side in (start, best)]
        if tier and review.equal_sizes:
            # A tier's metric is compared at one size of the tier.
            searched[metric], ends = (
                [review.equal_sizes[part][side][metric] for side in ("start", "best")]
                for part in ("searched", "held_out")
            )
        rows.append(dict(zip(heads, (metric, *searched[metric], *ends), strict=True)))
    return tuple(rows)


_ENTRIES = """
    select
        history.*,
        case
            when weights_before is null or weights_after is null then null
            else largest_changes(changed_weights(weights_before, weights_after))
        end as change,
        runs.experiments as experiments,
        runs.higher_is_better as higher_is_better,
        latest_decisions.verdict as verdict,
        cast(null as varchar) as reason,
        latest_decisions.event_id as decision,
        expect,
        measured_on,
        measurement,
        coalesce(history.event_id, history.run_id) as id
    from history
    left join runs on runs.run_id = history.run_id
    left join latest_decisions
        on latest_decisions.run_id = history.run_id
        and latest_decisions.experiment_id = history.experiment_id
    left join promises on promised_by = history.event_id
    union all by name
    select
        "at" as happened_at,
        'decision' as kind,
        author,
        note,
        model,
        verdict,
        reason,
        run_id,
        experiment_id,
        event_id,
        event_id as id
    from decisions
    order by happened_at desc, id desc
"""
#: Experiments that the history lists: baselines, wins, blocked ones, and those of a person.
_EXPERIMENTS = """
    select
        run_id,
        experiment_id,
        number,
        outcome,
        proposer,
        largest_changes(changes) as changes,
        value_before,
        value_after,
        value_after - value_before as gain,
        weights
    from experiments
    where list_contains(getvariable('ids'), run_id)
        and (outcome in ('baseline', 'win', 'blocked') or proposer = 'human')
    order by run_id, number
"""


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of the history: a run, a decision, or a spec that went live."""

    #: The row of the view `history` or of `decisions`, with columns of the run.
    row: dict[str, Any]
    #: Its experiments that were kept, blocked, or proposed by a person, baseline first.
    experiments: tuple[dict[str, Any], ...]

    @property
    def reference(self) -> str:
        """Its name for other commands: ``RUN/EXP``, or the event's id without an experiment."""
        row = self.row
        if row["run_id"] and row["experiment_id"]:
            return f"{row['run_id']}/{row['experiment_id']}"
        return str(row["id"])


@dataclass(frozen=True)
class History:
    """A journal's runs and changes, newest first."""

    #: The live specs, a row per model, from ``live.sql``.
    live: tuple[dict[str, Any], ...]
    entries: tuple[HistoryEntry, ...]
    #: Number of older entries that are not shown.
    older: int

    def choices(self, column: str) -> list[str]:
        """Return the distinct values of a column, sorted, for a filter."""
        return sorted({str(e.row[column]) for e in self.entries if e.row[column] is not None})

    @property
    def comparable(self) -> dict[str, dict[str, Any]]:
        """Objective, value and weights of everything that can be compared, by reference."""
        sides: dict[str, dict[str, Any]] = {}
        for entry in self.entries:
            row = entry.row
            if row["weights_after"] is not None:
                sides[entry.reference] = _side(row, row["weights_after"])
            for experiment in entry.experiments:
                name = f"{experiment['run_id']}/{experiment['experiment_id']}"
                sides[name] = _side({**row, **experiment}, experiment["weights"])
        return sides


def _side(row: dict[str, Any], weights: dict[str, int]) -> dict[str, Any]:
    return {"objective": row["objective"], "value": row["value_after"], "weights": weights}


def gather_history(journal: Journal, *, most: int) -> History:
    """Gather the content of the history page: the newest entries, at most `most`.

    Cost: reading all runs' records, and the experiments of the runs shown.
    """
    rows = journal.query(_ENTRIES).to_dicts()
    shown = rows[:most]
    ids = sorted({row["run_id"] for row in shown if row["run_id"] and not row["event_id"]})
    experiments: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in ids}
    for experiment in journal.query(_EXPERIMENTS, ids=ids).to_dicts() if ids else ():
        experiments[experiment["run_id"]].append(experiment)
    entries = (
        HistoryEntry(row, () if row["event_id"] else tuple(experiments.get(row["run_id"], ())))
        for row in shown
    )
    live = tuple(journal.sql("live").to_dicts())
    return History(live=live, entries=tuple(entries), older=len(rows) - len(shown))


def promotions(watched: Watched) -> list[dict[str, Any]]:
    """Return the promotions in order, each with its expectation and whether that was met.

    `kept` is the result of the newest conclusive measurement of that score; None if there is none.
    """
    rows = []
    for each in watched.history:
        row = each.as_json()
        own = [m for m in watched.measurements if m.score_id == row["score_id"]]
        judged = [m for m in own if m.promise_kept is not None and m.verdict != "unknown"]
        newest = judged[-1] if judged and each.expectation is not None else None
        rows.append(
            row
            | {
                "checked": each.expectation is not None,
                "kept": newest and newest.promise_kept,
                "day": newest and newest.day,
                "measured": len(own),
            }
        )
    return rows
