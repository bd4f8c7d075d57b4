"""The best compromises of all runs over a table, each with weights that can be taken up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.errors import SpecError
from gtmar.journal.front import Front, front
from gtmar.runs.results import PlainData
from gtmar.runs.weight_vectors import vector_of
from gtmar.spec.ids import form_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gtmar.journal.catalog import Journal
    from gtmar.spec.model import ScoringSpec

__all__ = ["FrontPoint", "TradeFront", "trade_front"]


@dataclass(frozen=True)
class FrontPoint(PlainData):
    """One of the best compromises that a journal has of this table, with its weights."""

    #: ``RUN/EXP``.
    experiment: str
    #: Values of the objective and of the other metric.
    value: float
    metric_value: float
    outcome: str
    weights: dict[str, int]
    #: Why it can't be taken up here; None where it can.
    refusal: str | None


@dataclass(frozen=True)
class TradeFront(PlainData):
    """The best compromises of the objective and another metric, the best objective first."""

    front: Front
    points: tuple[FrontPoint, ...]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        points = [point.as_json() for point in self.points]
        return {**self.front.as_json(), "points": points}


def trade_front(
    journal: Journal,
    outcomes_fingerprint: str,
    spec: ScoringSpec,
    objective: str,
    *,
    by: str | None = None,
) -> TradeFront | None:
    """Find the best compromises of all runs over a table; None where there is no run of it.

    Parameters
    ----------
    journal, outcomes_fingerprint
        The journal, and what it knows the table by.
    spec, objective
        Whose tiers, and which objective; a point of other features can't be taken up by the spec.
    by
        The other metric, as for `front`, whose errors there are.
    """
    runs = journal.query(
        "select run_id from runs where outcomes_fingerprint = getvariable('outcomes') "
        "and objective = getvariable('objective') and tiers_id = getvariable('tiers') "
        "and evaluator_version = getvariable('version') "
        "order by kind = 'search' desc, started_at desc limit 1",
        columns=(),
        outcomes=outcomes_fingerprint,
        objective=objective,
        tiers=specs.tiers_id(spec),
        version=EVALUATOR_VERSION,
    )
    if runs.is_empty():
        return None
    found = front(journal, runs["run_id"].item(), by=by, whole_table=True)
    named = [point["experiment"] for point in found.points]
    rows = journal.query(
        "select experiments.run_id || '/' || experiment_id as experiment, weights, spec "
        "from experiments join runs on runs.run_id = experiments.run_id "
        "where list_contains(getvariable('named'), runs.run_id || '/' || experiment_id)",
        among=sorted({name.partition("/")[0] for name in named}),
        columns=("run_id", "experiment_id", "weights"),
        named=named,
    ).rows_by_key("experiment", named=True, unique=True)
    points = []
    for point in found.points:
        row = rows[point["experiment"]]
        own = {n: point[n] for n in ("experiment", "value", "metric_value", "outcome")}
        weights = dict(row["weights"])
        points.append(FrontPoint(**own, weights=weights, refusal=_refusal(spec, row, weights)))
    return TradeFront(found, tuple(points))


def _refusal(spec: ScoringSpec, row: Mapping[str, Any], weights: dict[str, int]) -> str | None:
    """Say why a spec can't take the weights of an experiment; None where it can."""
    try:
        if row["spec"] is None or form_id(specs.parse(row["spec"])) != form_id(spec):
            return "it has other features, encoders or tiers"
        vector_of(spec, weights)
    except SpecError as err:
        return err.message
    return None
