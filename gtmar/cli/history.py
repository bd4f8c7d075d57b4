"""Commands for what a person changes: try, checkout, promote, record."""

from __future__ import annotations

from typing import Annotated

import typer

from gtmar.cli import completion
from gtmar.cli import options as a
from gtmar.cli.error_boundary import bounded
from gtmar.cli.options import app

__all__ = ["best", "checkout", "diff", "lineage", "log", "promote", "record", "show", "try_change"]


@app.command("try", epilog='Example: gtmar try --data accounts.parquet --set nps=12 --note "why"')
@bounded
@a.takes_tables
def try_change(
    data: a.Data,
    spec: a.SpecPath,
    settings: Annotated[list[str], typer.Option("--set", help="A weight: nps=12")],
    note: Annotated[str, typer.Option(help="Why.")],
    author: a.Author = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the changed spec, to -o.")] = False,
    output_path: a.OutputSpec = None,
    force: a.Force = False,
    metric: a.Metric = None,
    as_of: a.AsOf = None,
    drop_unlabelled: a.DropUnlabelled = False,
    set_aside: a.SetAside = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Measure a change of yours and journal it, kept or not."""
    from gtmar import runs
    from gtmar.cli import files, history_text
    from gtmar.errors import UsageError
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal

    if keep != (output_path is not None):
        raise UsageError("--keep and -o go together", hint="--keep -o new.yaml")
    new = files.output(output_path, data, spec, journal, force=force)
    result = runs.try_weights(
        data,
        spec,
        files.weights(settings),
        note=note,
        author=author,
        metric=metric,
        as_of=as_of,
        drop_unlabelled=drop_unlabelled,
        set_aside=set_aside,
        journal=journal,
    )
    with Journal(journal) as opened:
        found = history.experiment(opened, f"{result.run_id}/1")
        if new is not None:
            files.write_found(
                new,
                history.checkout(opened, str(found.reference)),
                heading=f"try, experiment {found.reference}.",
                experiment=str(found.reference),
                journal=journal,
            )
    history_text.tried(found, result, written=output_path, as_json=as_json)


@app.command(epilog="Example: gtmar checkout RUN/EXP -o spec.yaml")
@bounded
def checkout(
    experiment: a.Experiment,
    output_path: a.NewSpec,
    force: a.Force = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Write the spec of any experiment, its lineage in it."""
    from gtmar.cli import files, history_text
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal
    from gtmar.outputs import Output

    new = Output(output_path, (journal,), force=force)
    with Journal(journal) as opened:
        reference = history.resolve(opened, experiment)
        spec = history.checkout(opened, str(reference))
    files.write_spec(new, spec, heading=f"checkout, experiment {reference}.")
    history_text.checked_out(reference, spec, written=output_path, journal=journal, as_json=as_json)


@app.command(epilog='Example: gtmar promote RUN/EXP --note "approved by the CS team"')
@bounded
def promote(
    experiment: a.ExperimentOrSpec,
    note: Annotated[str, typer.Option(help="Why.")],
    author: a.Author = None,
    expect: Annotated[str | None, typer.Option(help="What should happen.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Put on record that a spec is live from now on. It changes nothing outside the journal."""
    from gtmar import runs
    from gtmar.cli import files, history_text

    spec = files.spec_of(experiment, journal)
    found = runs.promote(spec, note=note, author=author, expect=expect, journal=journal)
    history_text.went_live(found, as_json=as_json)


@app.command(epilog="Example: gtmar record --spec tool.yaml --since 2026-03-31 --note N --author A")
@bounded
@a.takes_tables
def record(
    spec: a.SpecPath,
    since: Annotated[str, typer.Option(help="Date since when it is live.")],
    note: Annotated[str, typer.Option(help="Why.")],
    author: Annotated[str, typer.Option(help="Who made the change.")],
    data: a.OptionalTable = None,
    metric: a.Metric = None,
    as_of: a.AsOf = None,
    drop_unlabelled: a.DropUnlabelled = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Put a change made elsewhere on record. Where a table is given, it is measured."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import history_text

    found = runs.record(
        specs.load(spec),
        since=since,
        note=note,
        author=author,
        data=data,
        metric=metric,
        as_of=as_of,
        drop_unlabelled=drop_unlabelled,
        journal=journal,
    )
    history_text.went_live(found, as_json=as_json)


@app.command(epilog="Example: gtmar log")
@bounded
def log(
    model: Annotated[str | None, typer.Option(help="One model; none: all.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Entries shown.")] = 20,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Say what is live, then runs and changes, newest first. With each: who, why, what it did."""
    from gtmar.cli import files, history_text
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        live, entries = opened.sql("live"), opened.sql("log")
        bases = dict(opened.query("select run_id, basis from runs").rows())
    if model is not None:
        files.refuse_unknown("model", model, entries["model"].drop_nulls().to_list())
        live = live.filter(live["model"] == model)
        entries = entries.filter(entries["model"] == model)
    history_text.log(live, entries.head(most), bases, journal=journal, as_json=as_json)


@app.command(epilog="Example: gtmar show RUN/EXP")
@bounded
def show(
    experiment: a.Experiment, journal: a.JournalPath = a.DEFAULT_JOURNAL, as_json: a.Json = False
) -> None:
    """Show one experiment: who, why, its change, its effect."""
    from gtmar.cli import history_text
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        found = history.experiment(opened, experiment)
    history_text.experiment(found, journal=journal, as_json=as_json)


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
    """Say what differs between two experiments, runs or specs."""
    from gtmar import runs
    from gtmar.cli import history_text

    found = runs.difference(one, two, journal=journal, data=data, as_of=as_of)
    history_text.difference(found, as_json=as_json)


@app.command(epilog="Example: gtmar lineage best.yaml")
@bounded
def lineage(
    experiment: a.ExperimentOrSpec,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Follow an experiment or a spec back to the first spec."""
    from gtmar.cli import files, history_text
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        reference = history.resolve(opened, files.experiment_of(experiment))
        rows = opened.sql("lineage", run=reference.run_id, experiment=reference.experiment_id)
    history_text.lineage(rows, journal=journal, as_json=as_json)


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
    """Name the best experiments kept on a table, by any metric."""
    from gtmar.cli import history_text
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        name, rows = history.best(opened, metric, run=run_id, most=most)
    history_text.best(rows, name, journal=journal, as_json=as_json)
