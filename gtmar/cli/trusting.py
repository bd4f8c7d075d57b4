"""Commands that look after the journal itself: verify, journal compact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import app, journal_app
from gtmar.cli.boundary import bounded

if TYPE_CHECKING:
    from gtmar.journal.compaction import Compaction

__all__ = ["compact", "verify"]


@app.command(epilog="Example: gtmar verify --against gtmar1:12:0f3a...")
@bounded
def verify(
    run_id: a.AnyRun = None,
    against: Annotated[str | None, typer.Option(help="A digest printed earlier.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Check that the journal is what was written: files, hashes, sequence, chain, events."""
    from gtmar.cli import pages
    from gtmar.journal.integrity import run_named
    from gtmar.journal.integrity import verify as verified

    if run_id is not None:
        run_id = run_named(journal, run_id)
    found = verified(journal, run_id, against=against)
    pages.verification(found, as_json=as_json)
    if not found.sound:
        raise typer.Exit(5)


@journal_app.command("compact", epilog="Example: gtmar journal compact")
@bounded
def compact(journal: a.JournalPath = a.DEFAULT_JOURNAL, as_json: a.Json = False) -> None:
    """Pack the small parts of each run that has ended into one; no row changes."""
    from gtmar.journal.compaction import compact as compacted

    _packing(compacted(journal), as_json=as_json)


def _packing(found: Compaction, *, as_json: bool) -> None:
    from gtmar.cli.output import data, say, some
    from gtmar.errors import culprits

    if as_json:
        data(found.as_json())
        return
    if found.packed:
        before = sum(run.parts_before for run in found.packed)
        after = sum(run.parts_after for run in found.packed)
        say(f"{some(len(found.packed), 'run')}: {before:,} parts packed into {after:,}.")
    else:
        say("Nothing to pack.")
    for reason, runs in found.left_alone.items():
        say(f"Left alone, {reason}: {culprits(runs)}.")
