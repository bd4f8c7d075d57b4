"""Commands for what a person changes: try, checkout, promote, record."""

from __future__ import annotations

from typing import Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import app
from gtmar.cli.boundary import bounded

__all__ = ["checkout", "promote", "record", "try_change"]


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
    """Measure a change of yours against the spec it starts from; journal it, kept or not."""
    from gtmar import runs
    from gtmar.cli import files, history_pages
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
    history_pages.tried(found, result, written=output_path, as_json=as_json)


@app.command(epilog="Example: gtmar checkout RUN/EXP -o spec.yaml")
@bounded
def checkout(
    experiment: a.Experiment,
    output_path: a.NewSpec,
    force: a.Force = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Write the spec of any experiment ever made, its lineage in it."""
    from gtmar.cli import files, history_pages
    from gtmar.journal import history
    from gtmar.journal.catalog import Journal
    from gtmar.outputs import Output

    new = Output(output_path, (journal,), force=force)
    with Journal(journal) as opened:
        reference = history.resolve(opened, experiment)
        spec = history.checkout(opened, str(reference))
    files.write_spec(new, spec, heading=f"checkout, experiment {reference}.")
    history_pages.checked_out(
        reference, spec, written=output_path, journal=journal, as_json=as_json
    )


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
    from gtmar.cli import files, history_pages

    spec = files.spec_of(experiment, journal)
    found = runs.promote(spec, note=note, author=author, expect=expect, journal=journal)
    history_pages.went_live(found, as_json=as_json)


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
    """Put a change on record that was made elsewhere, and measure it where a table is given."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import history_pages

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
    history_pages.went_live(found, as_json=as_json)
