"""What a run's report says, gathered from its journal: every number before it is worded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.errors import GtmarError
from gtmar.journal import review as reading
from gtmar.metrics.registry import all_metrics
from gtmar.report.account_table import read_table
from gtmar.report.null_and_stability import null_record, stability_record
from gtmar.runs.holdout import looks_at
from gtmar.runs.session import commands_of
from gtmar.stats.interval import level_of
from gtmar.stats.wilson import wilson

if TYPE_CHECKING:
    import polars as pl

    from gtmar.data.sources import Tabular
    from gtmar.journal.catalog import Journal
    from gtmar.journal.review import Review
    from gtmar.report.account_table import TableEvidence
    from gtmar.report.null_and_stability import NullRecord, StabilityRecord

__all__ = ["Evidence", "TierLine", "gather"]

#: Windows by which a report shows what was tried, equally wide on a square-root scale.
_WINDOWS = 24

_TRIED = """
    select
        floor(getvariable('windows') * sqrt((number - 1) / getvariable('last'))) as place,
        min(number) as first,
        max(number) as last,
        quantile_cont(value_after, 0.1) as low,
        quantile_cont(value_after, 0.9) as high
    from experiments
    where run_id = getvariable('run')
        and outcome not in ('baseline', 'known')
        and value_after is not null
    group by place
    order by place
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


@dataclass(frozen=True)
class TierLine:
    """One tier at the start or at the best."""

    stage: str
    tier: str
    accounts: int
    #: Shares, or None where nothing is known of the tier.
    logo_retention: float | None
    #: 95 % interval of it, by Wilson.
    logo_interval: tuple[float, float] | None
    nrr: float | None
    grr: float | None
    #: Start MRR a paying account, in the table's currency.
    arpa: float | None


@dataclass(frozen=True)
class Evidence:
    """All that the report of one run shows.

    Parameters
    ----------
    review
        The run as ``gtmar review`` has it.
    run
        Its row of the view `runs`: what was asked, and how it ended.
    tried
        By window of experiments: place, first, last, and the 10 % and 90 % quantiles of the
        objective over what was evaluated there.
    by_hand
        What a person proposed, kept or not: number, changes, value before and after, outcome.
    tiers
        A line per stage and tier.
    unseen
        Metrics of the whole score, on the accounts searched and on the holdout: metric, start and
        best on each; empty without a holdout.
    table
        What the account table adds; None where it isn't there, or is another by now.
    absent
        Why it isn't; None where it is.
    null, stability
        The latest on record; None where nobody has done one.
    """

    review: Review
    run: dict[str, Any]
    tried: pl.DataFrame
    by_hand: pl.DataFrame
    tiers: tuple[TierLine, ...]
    unseen: tuple[dict[str, Any], ...]
    table: TableEvidence | None
    absent: str | None
    null: NullRecord | None
    stability: StabilityRecord | None

    @property
    def commands(self) -> list[str]:
        """The commands that do the run again; none for an imported one."""
        run = self.run
        if run["kind"] == "import":
            return []
        lines = [f"gtmar replay {run['run_id']}"]
        if run["kind"] != "search":
            return lines
        return [*lines, *commands_of(run)]


def gather(
    journal: Journal,
    name: str | None = None,
    *,
    data: Tabular | None = None,
) -> Evidence:
    """Read all that a run's report shows.

    Parameters
    ----------
    journal
        The journal.
    name
        The run; None for the latest.
    data
        Its account table. None looks where it was, and goes without where it isn't the one.

    Raises
    ------
    RunNotFoundError
        If there is no such run, or it has no experiment yet.
    AccountDataError, NotComparableError
        If `data` can't be read, or isn't the run's table.

    Notes
    -----
    Cost: a few queries over the run's own files, and a few passes over the table where it is there.
    """
    review = reading.review(journal, name)
    run_id = review.summary["run_id"]
    [run] = journal.query(
        "select * from runs where run_id = getvariable('run')", run=run_id
    ).to_dicts()
    last = max(1, review.summary["experiments"] + review.summary["known"])
    weights = dict(review.weights.select("feature", "best").rows())
    looks = _looks(journal, run, review)
    table, absent = _table(run, weights, data, looks)
    return Evidence(
        review=review,
        run=run,
        tried=journal.query(_TRIED, run=run_id, windows=_WINDOWS, last=last),
        by_hand=journal.query(_BY_HAND, run=run_id),
        tiers=_tiers(journal, review),
        unseen=_unseen(run, review),
        table=table,
        absent=absent,
        null=null_record(journal, run_id),
        stability=stability_record(journal, run_id),
    )


def _looks(journal: Journal, run: dict[str, Any], review: Review) -> int:
    """Count the looks at the run's holdout; its own as it ended is one."""
    if not run["outcomes_fingerprint"]:
        return 1
    comparison = f"{run['run_id']}/{review.summary['best_experiment']}"
    return looks_at(Path(journal.path), run["outcomes_fingerprint"], comparison)


def _table(
    run: dict[str, Any], weights: dict[str, int], data: Any, looks: int
) -> tuple[TableEvidence | None, str | None]:
    """Read the account table; what was named and doesn't fit is an error, what wasn't is absent."""
    if run["kind"] == "import":
        return None, "The run was imported, so its account table is not known here."
    try:
        return read_table(run, weights, data, level=level_of(looks)), None
    except GtmarError as err:
        if data is not None:
            raise
        return None, err.message


def _tiers(journal: Journal, review: Review) -> tuple[TierLine, ...]:
    best = int(review.summary["best_experiment"].removeprefix("exp_"))
    rows = journal.query(_MEASURED, run=review.summary["run_id"], best=best).to_dicts()
    labelled = {"start": rows[0]["labelled_by_tier"], "best": rows[-1]["labelled_by_tier"]}
    lines = []
    for row in review.tiers.to_dicts():
        count = (labelled[row["stage"]] or {}).get(row["tier"]) or 0
        share = row["logo_retention"]
        # A share of whole accounts, so that their number comes back exactly.
        interval = None if share is None else wilson(round(share * count), count)
        lines.append(
            TierLine(
                **{k: row[k] for k in ("stage", "tier", "accounts", "nrr", "grr", "arpa")},
                logo_retention=share,
                logo_interval=interval,
            )
        )
    return tuple(lines)


def _unseen(run: dict[str, Any], review: Review) -> tuple[dict[str, Any], ...]:
    """Put the score's own metrics on the holdout beside those on the accounts searched."""
    if run["holdout_best_metrics"] is None:
        return ()
    start, best = (json.loads(run[f"holdout_{x}_metrics"]) for x in ("baseline", "best"))
    searched = {
        row["metric"]: row for row in review.drift.select("metric", "start", "best").to_dicts()
    }
    name = run["objective"]
    own = {"start": review.summary["baseline_value"], "best": review.summary["best_value"]}
    searched[name] = {"metric": name, **own}
    shown = [m.key for m in all_metrics().values() if not m.by_tier and m.better == "higher"]
    rows = []
    for metric in dict.fromkeys([name, *(key for key in shown if key in searched)]):
        key, _, tier = metric.partition(".")
        ends = [(side[key] or {}).get(tier) if tier else side[key] for side in (start, best)]
        rows.append(
            {
                "metric": metric,
                "search_start": searched[metric]["start"],
                "search_best": searched[metric]["best"],
                "holdout_start": ends[0],
                "holdout_best": ends[1],
            }
        )
    return tuple(rows)
