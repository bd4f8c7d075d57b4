"""Going back: any experiment ever made by its name, its spec, and what is live.

An experiment is named ``RUN/EXP``; the run's id may be cut short, ``exp_00034`` written as 34, and
``RUN`` alone means its best.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.errors import RunNotFoundError, SpecError
from gtmar.journal.schema import experiment_id
from gtmar.metrics.registry import expression

if TYPE_CHECKING:
    import polars as pl

    from gtmar.journal.catalog import Journal
    from gtmar.spec.model import ScoringSpec

__all__ = ["Experiment", "Reference", "best", "checkout", "experiment", "measured_as", "resolve"]

#: Beyond this an experiment's number is shown as it was given.
_MOST_NUMBER = 10**9
_NUMBER = re.compile(r"(?:exp_)?(\d+)")


@dataclass(frozen=True)
class Reference:
    """One experiment of one run."""

    run_id: str
    experiment_id: str

    def __str__(self) -> str:
        return f"{self.run_id}/{self.experiment_id}"


def resolve(journal: Journal, name: str) -> Reference:
    """Return the experiment that a name stands for.

    Parameters
    ----------
    journal
        The journal.
    name
        ``RUN/EXP``, ``RUN`` for its best, ``RUN/start`` for its baseline, ``EXP`` of the latest
        run, or ``live`` for what is live. ``RUN`` may be ``latest`` or ``live``, too.

    Raises
    ------
    RunNotFoundError
        If there is no such run or experiment, or the name stands for several.
    """
    name = name.strip()
    run, slash, experiment = (journal.live() if name == "live" else name).partition("/")
    if not slash and _NUMBER.fullmatch(run):
        run_id, experiment = journal.run_id(), run
    else:
        run_id = journal.run_id(run)
    rows = journal.query(
        "select number, outcome from experiments where run_id = getvariable('run') order by number",
        run=run_id,
    )
    kept = rows.filter(rows["outcome"].is_in(["baseline", "win"]))["number"]
    if kept.is_empty():
        raise RunNotFoundError(
            f"run {run_id} has no experiment yet", hint="wait for its first part, or resume it"
        )
    matched = _NUMBER.fullmatch(experiment)
    if experiment in ("", "best"):
        number = kept[-1]
    elif experiment == "start":
        number = 0
    elif matched:
        number = int(matched[1])
    else:
        raise RunNotFoundError(
            f'"{name}": "{experiment}" names no experiment',
            hint=f"{run_id}/{experiment_id(kept[-1])}, or {run_id}/best, or {run_id}/start",
        )
    # Compared as Python's integers: a column can't be asked for one of four hundred digits.
    if number not in set(rows["number"]):
        last = experiment_id(rows["number"][-1])
        wanted = experiment_id(number) if number < _MOST_NUMBER else experiment
        raise RunNotFoundError(f"run {run_id} has no experiment {wanted}; the last is {last}")
    return Reference(run_id, experiment_id(number))


def checkout(journal: Journal, name: str) -> ScoringSpec:
    """Return the spec of an experiment, its lineage in it.

    Raises
    ------
    RunNotFoundError
        If there is no such experiment.
    SpecError
        If its run has no spec, as imported ones have none.
    """
    reference = resolve(journal, name)
    [row] = journal.query(
        "select runs.spec, runs.spec_id, runs.objective, experiments.weights "
        "from experiments join runs on runs.run_id = experiments.run_id "
        "where experiments.run_id = getvariable('run') "
        "and experiments.experiment_id = getvariable('experiment')",
        run=reference.run_id,
        experiment=reference.experiment_id,
    ).to_dicts()
    if row["spec"] is None:
        raise SpecError(
            f"run {reference.run_id} was imported without its spec: its weights are known, "
            "features and tiers are not",
            hint=f"gtmar show {reference} prints the weights",
        )
    spec = specs.parse(row["spec"], source=f"spec of run {reference.run_id}")
    lineage = specs.Lineage(
        run=reference.run_id,
        experiment=reference.experiment_id,
        parent_spec_id=row["spec_id"],
    )
    return specs.reweighed(spec, row["weights"]).model_copy(
        update={"objective": row["objective"], "lineage": lineage}
    )


def measured_as(journal: Journal, spec: ScoringSpec) -> Reference | None:
    """Return an experiment that measured a spec as it is; None where none did.

    That is the one in its lineage, if the spec wasn't edited since; else the baseline of the latest
    run that started from the same scores.
    """
    score_id = specs.score_id(spec)
    if spec.lineage is not None:
        rows = journal.query(
            "select run_id from experiments where run_id = getvariable('run') "
            "and experiment_id = getvariable('experiment')",
            run=spec.lineage.run,
            experiment=spec.lineage.experiment,
        )
        if not rows.is_empty():
            reference = Reference(spec.lineage.run, spec.lineage.experiment)
            if specs.score_id(checkout(journal, str(reference))) == score_id:
                return reference
    rows = journal.query(
        "select run_id from runs where score_id = getvariable('score_id') "
        "order by started_at desc, run_id desc limit 1",
        score_id=score_id,
    )
    return None if rows.is_empty() else Reference(rows["run_id"].item(), experiment_id(0))


@dataclass(frozen=True)
class Experiment:
    """One experiment: who, why, what it changed, and what that did."""

    reference: Reference
    #: The row that ``experiment.sql`` gives.
    row: dict[str, Any]
    #: Metrics beside those of the weights it started from; None for a baseline or known result.
    effect: pl.DataFrame | None = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        effect = None if self.effect is None else self.effect.to_dicts()
        return {"experiment": str(self.reference), **self.row, "effect": effect}


def experiment(journal: Journal, name: str) -> Experiment:
    """Read one experiment.

    Raises
    ------
    RunNotFoundError
        If there is no such experiment.
    """
    reference = resolve(journal, name)
    [row] = journal.sql(
        "experiment", run=reference.run_id, experiment=reference.experiment_id
    ).to_dicts()
    effect = None
    if row["parent"] is not None and row["outcome"] != "known":
        effect = journal.sql(
            "difference",
            run=reference.run_id,
            experiment=row["parent"],
            other=reference.run_id,
            other_experiment=reference.experiment_id,
        )
    return Experiment(reference, row, effect)


def best(
    journal: Journal, metric: str | None = None, *, run: str | None = None, most: int = 5
) -> tuple[str, pl.DataFrame]:
    """Return the best experiments ever kept on a table, by any metric.

    Parameters
    ----------
    journal
        The journal.
    metric
        Its name, with a tier where it is by tier; None for the run's objective.
    run
        A run on the table that is meant; None for the latest run's.
    most
        Experiments at most.

    Returns
    -------
    tuple of str and DataFrame
        The metric, and the rows of ``leaderboard.sql``.

    Raises
    ------
    RunNotFoundError
        If there is no such run.
    UsageError
        If there is no such metric or tier.
    """
    [row] = journal.query(
        "select outcomes_fingerprint, tiers_id, tiers, objective from runs "
        "where run_id = getvariable('run')",
        run=journal.run_id(run),
    ).to_dicts()
    name = metric or row["objective"]
    expression(name, row["tiers"])
    rows = journal.sql(
        "leaderboard",
        metric=name,
        outcomes_fingerprint=row["outcomes_fingerprint"],
        tiers_id=row["tiers_id"],
        most=most,
    )
    return name, rows
