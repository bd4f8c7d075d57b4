"""What the history page says, gathered from a journal: runs and changes, who, why, what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtmar.journal.catalog import Journal

__all__ = ["History", "HistoryEntry", "gather_history"]

_ENTRIES = """
    select
        history.*,
        case
            when weights_before is null or weights_after is null then null
            else worded_changes(changed_weights(weights_before, weights_after))
        end as change,
        runs.experiments as experiments,
        runs.higher_is_better as higher_is_better,
        coalesce(event_id, run_id) as id
    from history
    left join runs using (run_id)
    order by happened_at desc, id desc
"""
#: What was kept, or a person's, or better and yet not kept: the rest is not listed one by one.
_EXPERIMENTS = """
    select
        run_id,
        experiment_id,
        number,
        outcome,
        proposer,
        worded_changes(changes) as changes,
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
    """One run, or one spec that went live."""

    #: The row of the view `history`, and the run's number of experiments.
    row: dict[str, Any]
    #: Its experiments that were kept, blocked, or proposed by a person, baseline first.
    experiments: tuple[dict[str, Any], ...]

    @property
    def reference(self) -> str:
        """Its name to other commands: ``RUN/EXP``, or the event where it has no experiment."""
        row = self.row
        if row["run_id"] and row["experiment_id"]:
            return f"{row['run_id']}/{row['experiment_id']}"
        return str(row["id"])


@dataclass(frozen=True)
class History:
    """A journal's runs and changes, newest first."""

    #: What is live, a row a model, as ``live.sql`` gives it.
    live: tuple[dict[str, Any], ...]
    entries: tuple[HistoryEntry, ...]
    #: Older entries that are not shown.
    older: int

    def choices(self, column: str) -> list[str]:
        """Return the values of a column that there are, in order, to filter by."""
        return sorted({str(e.row[column]) for e in self.entries if e.row[column] is not None})

    @property
    def comparable(self) -> dict[str, dict[str, Any]]:
        """Weights and value by reference, of all that can be compared."""
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
    """Read all that the history page shows: the newest entries, `most` of them at most.

    Cost: the runs' records, and of the runs shown the experiments that were kept.
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
