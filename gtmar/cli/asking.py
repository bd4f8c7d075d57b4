"""Commands that ask the journal: review, compare, sql."""

from __future__ import annotations

from typing import Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli import completion
from gtmar.cli.arguments import app
from gtmar.cli.boundary import bounded
from gtmar.locks import DEFAULT_SECONDS, memory_of

__all__ = ["compare", "review", "sql"]


@app.command(epilog="Example: gtmar review r20260101-120000-abc123")
@bounded
def review(
    run_id: a.OptionalRun = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Say what a run found: verdict, wins, weights, tiers, what else moved."""
    from gtmar.cli import pages
    from gtmar.journal import reading
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        pages.review(reading.review(opened, run_id), journal=str(journal), as_json=as_json)


@app.command(epilog="Example: gtmar compare RUN OTHER")
@bounded
def compare(
    run_id: a.Run,
    other: a.Run,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Put two runs over one table and objective side by side."""
    from gtmar.cli import pages
    from gtmar.journal import reading
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        found = reading.compare(opened, run_id, other)
    pages.comparison(found, journal=str(journal), as_json=as_json)


@app.command(epilog="Example: gtmar sql weights --set run=r20260101-120000-abc123")
@bounded
def sql(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="None: list the library.",
            autocompletion=completion.queries,
        ),
    ] = None,
    text: Annotated[str | None, typer.Option("-c", "--command", help="One SELECT.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter: run=r2026...")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.001, help="Seconds it may take.")
    ] = DEFAULT_SECONDS,
    memory: Annotated[
        str | None,
        typer.Option(help="What it may take, such as 2GB; none: half the machine's, 4 GB at most."),
    ] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Ask the journal in SQL: a query of the library, a file, or one SELECT. Read only."""
    from gtmar.cli import files, output, pages
    from gtmar.journal.catalog import Journal
    from gtmar.journal.library import library

    if name is None and text is None:
        pages.listing(library(), as_json=as_json)
        return
    size = None if memory is None else memory_of(memory)
    with Journal(journal, time_limit=time_limit, memory=size) as opened:
        found = files.ask(opened, name, text, settings or [])
    output.frame(found, as_json=as_json)
