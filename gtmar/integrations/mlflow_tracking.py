"""Log a run to a local MLflow store, with its parameters, metrics, specs and page.

MLflow shows runs beside those of other tools. The journal stays the source of truth: an MLflow run
carries the run's id and digest as tags, and each run is logged once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import warnings
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from gtmar.errors import JournalError, ResourceError, UsageError
from gtmar.metrics.registry import all_metrics, metric_column
from gtmar.outputs import refuse_inputs
from gtmar.plain_data import PlainData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlflow import MlflowClient

    from gtmar.journal.catalog import Journal

__all__ = ["Logged", "log_run"]

_SQLITE = "sqlite:///"
#: MLflow's limits of entries in one request.
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE = 1000, 100
#: Characters that MLflow doesn't allow in names.
_FOREIGN = re.compile(r"[^\w\-. :/]")
#: Most characters of a name, so that it fits MLflow's limit of 250 with what is put around it.
_MOST_OF_A_NAME = 220
#: MLflow's limit of characters in a parameter's value.
_MOST_CHARACTERS = 6000
#: Fields of a run's record that are logged as parameters.
_PARAMETERS = (
    *("kind", "model", "objective", "orientation", "seed", "spec_id", "source"),
    *("outcomes_fingerprint", "features_fingerprint"),
    *("accounts", "search_accounts", "holdout_accounts", "basis", "evaluator_version", "state"),
)
_TAGS = ("run_id", "digest", "author", "note")


@dataclass(frozen=True)
class Logged(PlainData):
    """The MLflow run that a run was logged as."""

    #: The journal's run, and MLflow's.
    run_id: str
    mlflow_run_id: str
    experiment: str
    store: str
    #: False where it was there already: then nothing was written.
    new: bool


def log_run(
    journal: Journal,
    run: str | None,
    store: str,
    *,
    experiment: str = "gtmar",
    texts: Mapping[str, str] | None = None,
) -> Logged:
    """Log an ended run to MLflow, unless it was logged before.

    Metrics: ``objective`` and ``best_so_far`` with one step an experiment, and every metric under
    ``start/``, ``best/``, ``holdout_start/`` and ``holdout_best/``. Null values are left out, since
    MLflow has no null.

    Parameters
    ----------
    journal
        The journal.
    run
        The run's name; None for the latest.
    store
        ``sqlite:///mlflow.db``. Artifacts are stored beside it, in a folder with the database's
        name and ``-artifacts``.
    experiment
        MLflow's experiment, created if it doesn't exist.
    texts
        Artifacts, such as specs and the run's page: text by file name.

    Raises
    ------
    UsageError
        If the store isn't one of SQLite, or is the database of another program.
    JournalError
        If the run has not ended.
    ResourceError
        If the store can't be opened.
    """
    run_id = journal.run_id(run)
    [record] = journal.query(
        "select * from runs where run_id = getvariable('run')", run=run_id
    ).to_dicts()
    if record["ended_at"] is None:
        raise JournalError(
            f"run {run_id} has not ended", hint=f"gtmar resume {run_id}, then log it again"
        )
    with warnings.catch_warnings():
        # MLflow raises these itself, with newer versions of its dependencies.
        warnings.simplefilter("ignore", DeprecationWarning)
        client, experiment_id = _opened(store, experiment, journal.path)
        there = client.search_runs([experiment_id], f"tags.`gtmar.run_id` = '{run_id}'")
        if there:
            return Logged(run_id, there[0].info.run_id, experiment, store, new=False)
        rows = journal.query(
            "select * from experiments where run_id = getvariable('run') order by number",
            run=run_id,
        ).to_dicts()
        tags = {f"gtmar.{name}": str(record[name]) for name in _TAGS if record[name] is not None}
        logged = client.create_run(
            experiment_id,
            start_time=_milliseconds(record["started_at"]),
            run_name=run_id,
            tags={**tags, "mlflow.source.name": "gtmar"},
        )
        target = logged.info.run_id
        try:
            _log(client, target, record, rows)
            for name, text in (texts or {}).items():
                client.log_text(target, text, name)
            client.set_terminated(target, end_time=_milliseconds(record["ended_at"]))
        except BaseException:
            # Otherwise the next call would take a partly logged run for a complete one.
            client.delete_run(target)
            raise
        return Logged(run_id, target, experiment, store, new=True)


def _refuse_foreign(path: Path, journal: Path) -> None:
    """Refuse a file inside the journal, a broken link, and the database of another program."""
    refuse_inputs(path, [journal])
    if not path.exists():
        if path.is_symlink():
            raise UsageError(f'store "{path}" is a link that leads nowhere; it is not followed')
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            names = {row[0] for row in database.execute("select name from sqlite_master")}
    except sqlite3.Error as err:
        raise ResourceError(f'store "{path}": {err}') from err
    if names and not {"experiments", "alembic_version"} <= names:
        raise UsageError(
            f'store "{path}" is a database of another program, and MLflow would add its own tables',
            hint="--store sqlite:///mlflow.db",
        )


def _opened(store: str, experiment: str, journal: Path) -> tuple[MlflowClient, str]:
    """Return a client of the store and the experiment's id, creating the experiment if needed."""
    path = Path(store.removeprefix(_SQLITE)).absolute()
    if not store.startswith(_SQLITE) or store == _SQLITE:
        raise UsageError(
            f'"{store}": expected a store of SQLite',
            hint="sqlite:///mlflow.db; MLflow no longer writes folders of files",
        )
    # No telemetry; and MLflow's log messages about its own tables would only distract.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not path.parent.is_dir():
        raise ResourceError(f'store "{path}": there is no folder {path.parent}')
    _refuse_foreign(path, journal)
    try:
        client = MlflowClient(tracking_uri=f"{_SQLITE}{path}")
        existing = client.get_experiment_by_name(experiment)
        if existing is not None:
            return client, existing.experiment_id
        files = path.with_name(f"{path.stem}-artifacts")
        return client, client.create_experiment(experiment, artifact_location=files.as_uri())
    except (MlflowException, SQLAlchemyError) as err:
        reason = (str(err).strip() or type(err).__name__).splitlines()[0]
        raise ResourceError(f'store "{path}": {reason}') from err


def _log(
    client: MlflowClient, target: str, record: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    """Log parameters and metrics of a run's record and experiments to the MLflow run `target`."""
    from mlflow.entities import Metric, Param

    best = next(row for row in rows if row["experiment_id"] == record["best_experiment"])
    parameters = {name: record[name] for name in _PARAMETERS if record[name] is not None}
    parameters |= dict(record["parameters"] or {})
    keys = _names(parameters)
    parameters = {keys[name]: value for name, value in parameters.items()}
    weights = _names(dict(rows[0]["weights"]))
    for end, row in (("start", rows[0]), ("best", best)):
        parameters |= {f"{end}_weight/{weights[n]}": w for n, w in dict(row["weights"]).items()}
    listed = [Param(name, str(value)[:_MOST_CHARACTERS]) for name, value in parameters.items()]
    ended = _milliseconds(record["ended_at"])
    metrics = [Metric(name, value, at, step) for name, value, at, step in _path(record, rows)]
    ends = {"start": rows[0], "best": best}
    for end, column in (("holdout_start", "baseline"), ("holdout_best", "best")):
        ends[end] = json.loads(record[f"holdout_{column}_metrics"] or "{}")
    values = {end: dict(_values(row)) for end, row in ends.items()}
    keys = _names(name for of_end in values.values() for name in of_end)
    metrics += [
        Metric(f"{end}/{keys[name]}", float(value), ended, 0)
        for end, of_end in values.items()
        for name, value in of_end.items()
    ]
    for at in range(0, len(listed), _PARAMETERS_AT_ONCE):
        client.log_batch(target, params=listed[at : at + _PARAMETERS_AT_ONCE])
    for at in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(target, metrics=metrics[at : at + _METRICS_AT_ONCE])


def _path(
    record: dict[str, Any], rows: list[dict[str, Any]]
) -> Iterator[tuple[str, float, int, int]]:
    """Yield objective and best so far as (name, value, milliseconds, step) for each experiment."""
    best = record["baseline_value"]
    for row in rows:
        at, value = _milliseconds(row["evaluated_at"]), row["value_after"]
        if value is not None:
            yield "objective", value, at, row["number"]
        if row["outcome"] == "win":
            best = value
        if best is not None:
            yield "best_so_far", best, at, row["number"]


def _values(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, metric in all_metrics().items():
        value = row.get(key)
        tiers = dict(value or {}) if metric.by_tier else {None: value}
        for tier, each in tiers.items():
            if each is not None:
                yield metric_column(key, tier), each


def _names(texts: Iterable[str]) -> dict[str, str]:
    """Return a name that MLflow allows for each text; no two texts have the same.

    Characters that it doesn't allow become underscores, and so do slashes where it would take the
    name for another path. A name that is taken already ends in a number.
    """
    names: dict[str, str] = {}
    taken = set[str]()
    for text in dict.fromkeys(texts):
        name = _FOREIGN.sub("_", text)[:_MOST_OF_A_NAME]
        if normpath(f"end/{name}") != f"end/{name}":
            name = name.replace("/", "_").replace(".", "_")
        first, number = name, 2
        while name in taken:
            name, number = f"{first}_{number}", number + 1
        taken.add(name)
        names[text] = name
    return names


def _milliseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1000)
