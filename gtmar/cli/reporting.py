"""The command that makes pages to look at: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import app
from gtmar.cli.boundary import bounded

__all__ = ["report"]


@app.command(epilog="Example: gtmar report r20260101-120000-abc123 -o report.html")
@bounded
@a.takes_tables
def report(
    run_id: a.OptionalRun = None,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write the page.")
    ] = Path("report.html"),
    history: Annotated[
        bool, typer.Option("--history", help="All runs and changes, instead of one run.")
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="Entries of a history.")] = 200,
    force: a.Force = False,
    data: a.MovedData = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Write what a run found, or the journal's history, as one HTML page to look at."""
    from gtmar import report as reports
    from gtmar.cli import files, pages
    from gtmar.errors import UsageError
    from gtmar.journal.catalog import Journal
    from gtmar.outputs import Output
    from gtmar.runs.inputs import local_inputs

    if history and (run_id or data):
        raise UsageError("--history is about all runs: it takes no RUN and no --data")
    with Journal(journal) as opened:
        read = [journal] if history else files.recorded(journal, opened.run_id(run_id))
        new = Output(output_path, local_inputs(data, *read), force=force)
        if history:
            page = reports.history_page(opened, most=most)
        else:
            page = reports.run_page(opened, run_id, data=data)
    new.write(page.html)
    pages.reported(page, written=output_path, journal=str(journal), as_json=as_json)
