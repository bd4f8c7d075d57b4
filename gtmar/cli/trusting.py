"""Commands that look after the journal itself: verify, journal compact."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import app, journal_app
from gtmar.cli.boundary import bounded
from gtmar.errors import UsageError

if TYPE_CHECKING:
    from gtmar.journal.compaction import Compaction

__all__ = ["compact", "verify"]


@app.command(epilog="Example: gtmar verify --against gtmar2:12:0f3a...:Qx...")
@bounded
def verify(
    run_id: a.AnyRun = None,
    against: Annotated[
        str | None, typer.Option(help="A digest printed earlier, or a list saved by --save.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="New file: a list of all that the digest covers.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Read all rows, where hashes hold too.")
    ] = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Check that the journal is what was written: files, hashes, sequence, chain, events."""
    from gtmar.cli import files, pages
    from gtmar.journal.integrity import run_named
    from gtmar.journal.integrity import verify as verified

    if run_id is not None:
        run_id = run_named(journal, run_id)
    if save is not None and run_id is not None:
        raise UsageError("--save is of the whole journal", hint="leave the run out")
    new = files.output(save, journal)
    found = verified(journal, run_id, against=against, rows=rows)
    pages.verification(found, as_json=as_json)
    if new is not None and not found.findings:
        new.write(found.entries)
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
    elif not found.tidied:
        say("Nothing to pack.")
    if found.tidied:
        say(
            f"{some(len(found.tidied), 'run')}: old parts that lay beside the packed one were "
            "taken away."
        )
    for reason, runs in found.left_alone.items():
        say(f"Left alone, {reason}: {culprits(runs)}.")
