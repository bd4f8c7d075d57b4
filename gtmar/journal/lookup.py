"""Look up what a journal holds: experiments by name, their specs, the log, a weight's trials.

An experiment is named ``RUN/EXP``. The run's id may be shortened, ``exp_00034`` may be written as
34, and ``RUN`` alone means its best.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gtmar.earning import Earning, earnings
from gtmar.errors import RunNotFoundError, SpecError
from gtmar.journal.columns import experiment_id
from gtmar.metrics.registry import metric_named
from gtmar.plain_data import PlainData

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from gtmar.journal.catalog import Journal
    from gtmar.journal.files import Row
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "Experiment",
    "Reference",
    "RunFacts",
    "WeightTrial",
    "WeightTrials",
    "best",
    "checkout",
    "decided_on",
    "experiment",
    "lineage",
    "log",
    "measured_as",
    "models",
    "resolve",
    "run_facts",
    "weight_trials",
]

#: From this on, an experiment's number is shown in messages as it was given.
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
    """Return the experiment of a name.

    Parameters
    ----------
    name
        ``RUN/EXP``; ``RUN`` or ``RUN/best`` for its best; ``RUN/start`` for its baseline; ``EXP``
        of the latest run; or ``live`` for the live experiment. ``RUN`` may be ``latest`` or
        ``live``.

    Raises
    ------
    RunNotFoundError
        If there is no such run or experiment, or the name matches several.
    """
    name = name.strip()
    run, slash, experiment = (journal.live() if name == "live" else name).partition("/")
    if not slash and _NUMBER.fullmatch(run):
        run_id, experiment = journal.run_id(), run
    else:
        run_id = journal.run_id(run)
    rows = journal.query_rows(
        "select number, outcome from experiments where run_id = getvariable('run') order by number",
        among=[run_id],
        columns=("run_id", "number", "outcome"),
        run=run_id,
    )
    kept = [row["number"] for row in rows if row["outcome"] in ("baseline", "win")]
    if not kept:
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
    # Compared in Python, as a number with hundreds of digits doesn't fit a column.
    if number not in {row["number"] for row in rows}:
        last = experiment_id(rows[-1]["number"])
        wanted = experiment_id(number) if number < _MOST_NUMBER else experiment
        raise RunNotFoundError(f"run {run_id} has no experiment {wanted}; the last is {last}")
    return Reference(run_id, experiment_id(number))


def checkout(journal: Journal, name: str) -> ScoringSpec:
    """Return the spec of an experiment, with its lineage.

    The tier edges are those that a tier rule set in the experiment. The best of a run also has its
    calibration.

    Raises
    ------
    RunNotFoundError
        If there is no such experiment.
    SpecError
        If its run has no spec, as imported runs may not.
    """
    reference = resolve(journal, name)
    [row] = journal.query_rows(
        "select runs.spec, runs.spec_id, runs.objective, runs.best_experiment, runs.calibration, "
        "experiments.weights, experiments.tier_edges, experiments.repeats "
        "from experiments join runs on runs.run_id = experiments.run_id "
        "where experiments.run_id = getvariable('run') "
        "and experiments.experiment_id = getvariable('experiment')",
        among=[reference.run_id],
        columns=("run_id", "experiment_id", "weights", "tier_edges", "repeats"),
        run=reference.run_id,
        experiment=reference.experiment_id,
    )
    if row["spec"] is None:
        raise SpecError(
            f"run {reference.run_id} was imported without its spec: its weights are known, "
            "features and tiers are not",
            hint=f"gtmar show {reference} prints the weights",
        )
    from gtmar import spec as specs

    spec = specs.parse(row["spec"], source=f"spec of run {reference.run_id}")
    lineage = specs.Lineage(
        run=reference.run_id, experiment=reference.experiment_id, parent_spec_id=row["spec_id"]
    )
    changes: dict[str, Any] = {"objective": row["objective"], "lineage": lineage}
    if row["calibration"] and row["best_experiment"] == reference.experiment_id:
        table = json.loads(row["calibration"])["table"]
        changes["calibration"] = specs.Calibration.model_validate(table)
    reweighed = specs.reweighed(spec, row["weights"]).model_copy(update=changes)
    edges = row["tier_edges"] or {}
    if None not in edges.values() and edges:
        return reweighed.with_edges([round(edges[name] * 100) for name in reweighed.tier_names])
    if spec.has_rule and row["repeats"]:
        # A repeated candidate wasn't evaluated again: the edges are those of the first experiment.
        return reweighed.with_edges(checkout(journal, row["repeats"]).tier_lows)
    return reweighed


def measured_as(journal: Journal, spec: ScoringSpec) -> Reference | None:
    """Return an experiment that measured the same scores as a spec; None if there is none.

    It is the one in the spec's lineage, unless the spec has been edited since; else the baseline of
    the latest run that started from the same scores. The run must also read them the same way
    round: with the other orientation, the same scores have other values.
    """
    from gtmar import spec as specs

    score_id = specs.score_id(spec)
    if spec.lineage is not None:
        rows = journal.query_rows(
            "select run_id from experiments where run_id = getvariable('run') "
            "and experiment_id = getvariable('experiment')",
            among=[spec.lineage.run],
            run=spec.lineage.run,
            experiment=spec.lineage.experiment,
        )
        if rows:
            reference = Reference(spec.lineage.run, spec.lineage.experiment)
            measured = checkout(journal, str(reference))
            if (specs.score_id(measured), measured.orientation) == (score_id, spec.orientation):
                return reference
    rows = journal.query_rows(
        "select run_id from runs where score_id = getvariable('score_id') "
        "and orientation = getvariable('orientation') "
        "order by started_at desc, run_id desc limit 1",
        score_id=score_id,
        orientation=spec.orientation,
    )
    return Reference(rows[0]["run_id"], experiment_id(0)) if rows else None


def decided_on(
    journal: Journal, reference: Reference | None, score_id: str
) -> dict[str, Any] | None:
    """Return the last decision on an experiment, or on a spec with the same scores, or None.

    The result is a row of the view `decisions`.
    """
    rows = journal.query_rows(
        "select decisions.* from decisions join events on events.event_id = decisions.event_id "
        "where decisions.run_id = getvariable('run') "
        "and decisions.experiment_id = getvariable('experiment') "
        "or details ->> '$.candidate' = getvariable('score') "
        'order by decisions."at" desc, decisions.event_id desc limit 1',
        among=(),
        columns=(),
        run=None if reference is None else reference.run_id,
        experiment=None if reference is None else reference.experiment_id,
        score=score_id,
    )
    return rows[0] if rows else None


@dataclass(frozen=True)
class Experiment:
    """One experiment: its author, reason, changes and effect."""

    reference: Reference
    #: The row of ``experiment.sql``.
    row: dict[str, Any]
    #: Metrics compared with those of the parent's weights; None for a baseline or known result.
    effect: list[Row] | None = field(repr=False)
    #: The points of each weight and what earns them; empty if the run has no spec.
    points: dict[str, str] = field(default_factory=dict, repr=False)
    #: Whether it was measured on the whole table, not on the accounts searched.
    whole_table: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        more = {"points": self.points, "effect": self.effect}
        return {"experiment": str(self.reference), **self.row, **more}


def experiment(journal: Journal, name: str) -> Experiment:
    """Return one experiment by name.

    Raises
    ------
    RunNotFoundError
        If there is no such experiment.
    """
    reference = resolve(journal, name)
    [row] = journal.sql_rows("experiment", run=reference.run_id, experiment=reference.experiment_id)
    effect = None
    if row["parent"] is not None and row["outcome"] != "known":
        effect = journal.sql_rows(
            "difference",
            run=reference.run_id,
            experiment=row["parent"],
            other=reference.run_id,
            other_experiment=reference.experiment_id,
        )
    facts = run_facts(journal, [reference.run_id])[reference.run_id]
    earned = facts.earned
    points = {n: earned[n].points(weight) for n, weight in row["weights"].items() if n in earned}
    return Experiment(reference, row, effect, points, whole_table=facts.whole_table)


@dataclass(frozen=True)
class RunFacts:
    """What the text on a run needs to know of it, beside its experiments."""

    #: The basis of revenue retention; None if there is none.
    basis: str | None = None
    #: What earns each weight's points; empty for a run without a spec.
    earned: dict[str, Earning] = field(default_factory=dict)
    #: Whether it was measured on the whole table: setting the edges of tiers searches nothing, and
    #: holds nothing out.
    whole_table: bool = False


def run_facts(journal: Journal, runs: Iterable[str]) -> dict[str, RunFacts]:
    """Return facts by run, for the runs that the journal has."""
    text = "select run_id, basis, spec, parameters['tiers_before'] as tiers_before from runs"
    rows = journal.query_rows(text, among=[*runs], columns=())
    return {
        row["run_id"]: RunFacts(
            row["basis"], earnings(json.loads(row["spec"] or "{}")), row["tiers_before"] is not None
        )
        for row in rows
    }


#: Most trials of a weight that are returned.
_MOST_TRIALS = 50
#: Most runs whose files are read one by one; for more, a query reads the cached rows of all runs.
_MOST_READ = 64
#: Most runs of a lineage that are looked up one by one; for more, the records of all runs are read.
_MOST_ALONE = 12

#: Runs with one of the highest values of a metric: the only ones in `leaderboard.sql`'s rows.
_FOREMOST = """
    select run_id
    from runs
    join (
        select
            run_id,
            max({value}) as highest,
            min({value}) as lowest
        from experiments
        where outcome in ('baseline', 'win')
        group by run_id
    ) using (run_id)
    where outcomes_fingerprint = getvariable('outcomes_fingerprint')
        and tiers_id = getvariable('tiers_id')
    qualify dense_rank() over (
        partition by evaluator_version
        order by
            case
                when if(
                    objective = getvariable('metric'),
                    higher_is_better,
                    better_direction(getvariable('metric')) >= 0
                )
                    then highest
                else -lowest
            end desc nulls last
    ) <= getvariable('most')
"""

#: Runs of the newest entries of `log.sql`, of one model or of all.
_NEWEST = """
    with entry as (
        select
            started_at as happened_at,
            run_id,
            kind,
            model
        from runs
        union all
        select
            since,
            run_id,
            null,
            model
        from went_live
    ),
    entry_of_model as (
        select * from entry where getvariable('model') is null or model = getvariable('model')
    )
    select distinct run_id
    from entry_of_model
    where happened_at is null or happened_at >= coalesce(
        (
            select happened_at
            from entry_of_model
            -- A change made elsewhere may be in the log by its event alone.
            where kind is distinct from 'record'
            order by happened_at desc
            limit 1
            offset cast(getvariable('most') as bigint) - 1
        ),
        '-infinity'
    )
"""

#: Columns of experiments that `log.sql` reads.
_LOGGED = (
    *("run_id", "experiment_id", "number", "objective"),
    *("value_after", "outcome", "weights", "proposer"),
)


def _few(runs: list[str]) -> list[str] | None:
    """Return the runs as a filter of a query; None (all runs) if they are many."""
    return runs if len(runs) <= _MOST_READ else None


def models(journal: Journal) -> list[str]:
    """Return the models of all runs and of all specs that went live, in order."""
    rows = journal.query_rows(
        "select model from runs union select model from went_live order by model", columns=()
    )
    return [row["model"] for row in rows if row["model"] is not None]


def log(journal: Journal, *, model: str | None, most: int) -> tuple[list[Row], list[Row]]:
    """Return the live specs and the newest entries of the log, of one model or of all.

    Returns
    -------
    tuple of list of dict and list of dict
        The rows of ``live.sql`` and of ``log.sql``.
    """
    newest = journal.query_rows(_NEWEST, columns=(), model=model, most=most)
    runs = [row["run_id"] for row in newest if row["run_id"] is not None]
    live = journal.sql_rows("live", among=())
    entries = journal.sql_rows("log", among=_few(runs), columns=_LOGGED)
    if model is not None:
        live, entries = ([r for r in rows if r["model"] == model] for rows in (live, entries))
    return live, entries[:most]


def lineage(journal: Journal, reference: Reference) -> list[Row]:
    """Return the rows of ``lineage.sql``: an experiment's ancestors, back to the first spec."""
    chain = [reference.run_id]
    parents: dict[str, str | None] = {}
    among: list[str] | None = chain[:]
    while chain[-1] not in parents:
        rows = journal.query_rows("select run_id, parent_run from runs", among=among, columns=())
        parents |= {row["run_id"]: row["parent_run"] for row in rows}
        while (parent := parents.get(chain[-1])) is not None and parent not in chain:
            chain.append(parent)
        if among is None:
            break
        # Few parents are read one by one. If one is missing, all runs are queried, with a warning
        # that names the damaged ones.
        alone = len(chain) <= _MOST_ALONE and chain[-1:] != among
        among = chain[-1:] if alone else None
    return journal.sql_rows(
        "lineage", among=_few(chain), run=reference.run_id, experiment=reference.experiment_id
    )


def best(
    journal: Journal, metric: str | None = None, *, run: str | None = None, most: int = 5
) -> tuple[str, list[Row]]:
    """Return the best experiments ever kept on a table, by any metric.

    Parameters
    ----------
    metric
        Name of the metric, with a tier if it is by tier; None for the run's objective.
    run
        A run on the table; None for the latest run.
    most
        Number of experiments to return.

    Returns
    -------
    tuple of str and list of dict
        The metric, and the rows of ``leaderboard.sql``.

    Raises
    ------
    RunNotFoundError
        If there is no such run.
    UsageError
        If there is no such metric or tier.
    """
    run_id = journal.run_id(run)
    [row] = journal.query_rows(
        "select outcomes_fingerprint, tiers_id, tiers, objective from runs "
        "where run_id = getvariable('run')",
        among=[run_id],
        columns=(),
        run=run_id,
    )
    name = metric or row["objective"]
    metric_named(name, row["tiers"] or ())
    column, _, tier = name.partition(".")
    foremost = journal.query_rows(
        _FOREMOST.format(value=f"{column}[getvariable('tier')]" if tier else column),
        columns=("run_id", "outcome", column),
        metric=name,
        tier=tier,
        outcomes_fingerprint=row["outcomes_fingerprint"],
        tiers_id=row["tiers_id"],
        most=most,
    )
    rows = journal.sql_rows(
        "leaderboard",
        among=_few([row["run_id"] for row in foremost]),
        metric=name,
        outcomes_fingerprint=row["outcomes_fingerprint"],
        tiers_id=row["tiers_id"],
        most=most,
    )
    return name, rows


# ---- the trials of one weight --------------------------------------------------------------------

#: Columns of experiments that the trials of a weight need.
_TRIED = (
    *("run_id", "experiment_id", "number", "proposer", "author", "note", "outcome"),
    *("value_before", "value_after", "changes", "breaches", "evaluated_at"),
)
#: Experiments of a model that moved a weight; `named` are people's changes and kept ones.
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
    #: Kind of its run: ``search``, ``human``, ``record`` or ``import``.
    kind: str
    author: str | None
    note: str | None
    before: int | None
    after: int | None
    #: Number of other weights that moved with it.
    others: int
    #: ``win``, ``lose`` or ``blocked``, and the guardrails that it broke.
    outcome: str
    breaches: tuple[str, ...]
    objective: str
    value_before: float | None
    value_after: float | None
    #: Whether it was measured on the same outcomes and split.
    same_table: bool


@dataclass(frozen=True)
class WeightTrials(PlainData):
    """All experiments of a model that moved a weight."""

    weight: str
    #: Number of experiments by outcome.
    counts: dict[str, int]
    #: Changes by people, and experiments that a search kept, the newest first.
    trials: tuple[WeightTrial, ...]


def weight_trials(
    journal: Journal, weight: str, *, model: str, outcomes_fingerprint: str
) -> WeightTrials:
    """Return the experiments of a model that moved a weight.

    Parameters
    ----------
    journal, weight, model
        The journal, the weight's name and the model's.
    outcomes_fingerprint
        Fingerprint of the present table, for `WeightTrial.same_table`.

    Returns
    -------
    WeightTrials
        The newest trials, `_MOST_TRIALS` at most; the counts are of all.
    """
    runs = journal.query(
        "select run_id from runs where model = getvariable('model')", columns=(), model=model
    )["run_id"].to_list()
    if not runs:
        return WeightTrials(weight, {}, ())
    parameters = {
        "among": runs,
        "columns": _TRIED,
        "weight": weight,
        "model": model,
        "outcomes": outcomes_fingerprint,
    }
    counts = journal.query(
        f"select outcome, count(*) from ({_MOVED}) group by outcome order by outcome", **parameters
    )
    rows = journal.query(
        f"select * exclude (named) from ({_MOVED}) where named "
        f'order by "at" desc, experiment limit {_MOST_TRIALS}',
        **parameters,
    ).to_dicts()
    trials = tuple(WeightTrial(**{**row, "breaches": tuple(row["breaches"] or ())}) for row in rows)
    return WeightTrials(weight, dict(counts.rows()), trials)
