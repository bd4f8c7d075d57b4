"""What a journal knows of one weight: who moved it, to what, and how that ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from gtmar.journal.catalog import Journal

__all__ = ["WeightTrial", "WeightTrials", "weight_trials"]

_COLUMNS = (
    "run_id",
    "experiment_id",
    "number",
    "proposer",
    "author",
    "note",
    "outcome",
    "value_before",
    "value_after",
    "changes",
    "breaches",
    "evaluated_at",
)
#: Experiments of a model that moved a weight; those that people read one by one are named.
_MOVED = """
    select
        experiments.run_id || '/' || experiments.experiment_id as experiment,
        experiments.evaluated_at as "at",
        runs.kind as kind,
        coalesce(experiments.author, runs.author) as author,
        coalesce(experiments.note, runs.note) as note,
        experiments.changes[getvariable('weight')].before as before,
        experiments.changes[getvariable('weight')].after as after,
        cardinality(experiments.changes) - 1 as others,
        experiments.outcome as outcome,
        experiments.breaches as breaches,
        runs.objective as objective,
        experiments.value_before as value_before,
        experiments.value_after as value_after,
        runs.outcomes_fingerprint = getvariable('outcomes') as same_table,
        experiments.proposer in ('human', 'import') or experiments.outcome = 'win' as named
    from experiments
    join runs on runs.run_id = experiments.run_id
    where runs.model = getvariable('model')
        and experiments.outcome in ('win', 'lose', 'blocked')
        and experiments.changes[getvariable('weight')] is not null
"""


@dataclass(frozen=True)
class WeightTrial:
    """One experiment that moved a weight."""

    #: ``RUN/EXP``, and when it was evaluated.
    experiment: str
    at: datetime
    #: Of its run: ``search``, ``human``, ``record`` or ``import``.
    kind: str
    author: str | None
    note: str | None
    before: int | None
    after: int | None
    #: How many other weights moved with it.
    others: int
    #: ``win``, ``lose`` or ``blocked``; then the guardrails that it broke.
    outcome: str
    breaches: tuple[str, ...]
    objective: str
    value_before: float | None
    value_after: float | None
    #: Whether it was measured on this very table and split.
    same_table: bool


@dataclass(frozen=True)
class WeightTrials:
    """All experiments of a model that moved a weight."""

    weight: str
    #: How many there are, by outcome.
    counts: dict[str, int]
    #: Changes by people and what searches kept, the newest first.
    trials: tuple[WeightTrial, ...]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def weight_trials(
    journal: Journal, weight: str, *, model: str, outcomes_fingerprint: str, most: int = 50
) -> WeightTrials:
    """Find the experiments of a model that moved a weight.

    Parameters
    ----------
    journal, weight, model
        The journal, the weight's name and the model's.
    outcomes_fingerprint
        Of the table that is at hand.
    most
        Experiments that are named.
    """
    runs = journal.query(
        "select run_id from runs where model = getvariable('model')", columns=(), model=model
    )["run_id"].to_list()
    if not runs:
        return WeightTrials(weight, {}, ())
    asked = {
        "among": runs,
        "columns": _COLUMNS,
        "weight": weight,
        "model": model,
        "outcomes": outcomes_fingerprint,
    }
    counts = journal.query(
        f"select outcome, count(*) from ({_MOVED}) group by outcome order by outcome",
        **asked,
    )
    rows = journal.query(
        f"select * exclude (named) from ({_MOVED}) where named "
        f'order by "at" desc, experiment limit {int(most)}',
        **asked,
    ).to_dicts()
    trials = tuple(WeightTrial(**{**row, "breaches": tuple(row["breaches"] or ())}) for row in rows)
    return WeightTrials(weight, dict(counts.rows()), trials)
