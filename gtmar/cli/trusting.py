"""Commands that check the journal itself: verify."""

from __future__ import annotations

from typing import Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import app
from gtmar.cli.boundary import bounded

__all__ = ["verify"]


@app.command(epilog="Example: gtmar verify --against gtmar1:12:0f3a...")
@bounded
def verify(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="None: all runs.")] = None,
    against: Annotated[str | None, typer.Option(help="A digest printed earlier.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Check that the journal is what was written: files, hashes, sequence, chain."""
    from gtmar.cli import pages
    from gtmar.journal.catalog import Journal
    from gtmar.journal.integrity import verify as verified

    if run_id is not None:
        with Journal(journal) as opened:
            run_id = opened.run_id(run_id)
    found = verified(journal, run_id, against=against)
    pages.verification(found, as_json=as_json)
    if not found.sound:
        raise typer.Exit(5)
