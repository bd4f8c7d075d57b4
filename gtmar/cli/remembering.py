"""Commands that look back: log, show, diff, lineage, best."""

from __future__ import annotations

from typing import Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli import completion
from gtmar.cli.arguments import app
from gtmar.cli.boundary import bounded

__all__ = ["best", "diff", "lineage", "log", "show"]


@app.command(epilog="Example: gtmar log")
@bounded
def log(
    model: Annotated[str | None, typer.Option(help="One model; none: all.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Entries shown.")] = 20,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Say what is live since when, then runs and changes, newest first: who, why, what it did."""
    from gtmar.cli import files, history_pages
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        live, entries = opened.sql("live"), opened.sql("log")
    if model is not None:
        files.refuse_unknown("model", model, entries["model"].drop_nulls().to_list())
        live = live.filter(live["model"] == model)
        entries = entries.filter(entries["model"] == model)
    history_pages.log(live, entries.head(most), journal=journal, as_json=as_json)


@app.command(epilog="Example: gtmar show RUN/EXP")
@bounded
def show(
    experiment: a.Experiment, journal: a.JournalPath = a.DEFAULT_JOURNAL, as_json: a.Json = False
) -> None:
    """Show one experiment: who, why, its change, its weights, what it did to every metric."""
    from gtmar.cli import history_pages
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        found = history.experiment(opened, experiment)
    history_pages.experiment(found, journal=journal, as_json=as_json)


@app.command(epilog="Example: gtmar diff RUN/EXP spec.yaml --data accounts.parquet")
@bounded
@a.takes_tables
def diff(
    one: a.ExperimentOrSpec,
    two: a.ExperimentOrSpec,
    data: a.OptionalTable = None,
    as_of: a.AsOf = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Say what differs between two experiments, runs or spec files, and nothing else."""
    from gtmar import runs
    from gtmar.cli import history_pages

    found = runs.difference(one, two, journal=journal, data=data, as_of=as_of)
    history_pages.difference(found, as_json=as_json)


@app.command(epilog="Example: gtmar lineage best.yaml")
@bounded
def lineage(
    experiment: a.ExperimentOrSpec,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Follow an experiment or a spec back to the first spec, across runs."""
    from gtmar.cli import files, history_pages
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        reference = history.resolve(opened, files.experiment_of(experiment))
        rows = opened.sql("lineage", run=reference.run_id, experiment=reference.experiment_id)
    history_pages.lineage(rows, journal=journal, as_json=as_json)


@app.command(epilog="Example: gtmar best --metric revenue_capture_at_20")
@bounded
def best(
    metric: Annotated[
        str | None,
        typer.Option(
            help="Any metric; none: the run's objective.", autocompletion=completion.metrics
        ),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="A run on the table meant; none: the latest.",
            autocompletion=completion.runs,
        ),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Experiments shown.")] = 5,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Name the best experiments ever kept on a table, by any metric."""
    from gtmar.cli import history_pages
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        name, rows = history.best(opened, metric, run=run_id, most=most)
    history_pages.best(rows, name, journal=journal, as_json=as_json)
