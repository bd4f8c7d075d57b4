"""Commands that ask whether a found score holds: null, stability."""

from __future__ import annotations

from typing import Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import app
from gtmar.cli.boundary import bounded

__all__ = ["null", "stability"]

Searches = Annotated[int, typer.Option("--runs", help="Searches to do.")]
Seed = Annotated[int, typer.Option(help="Same seed, same draws.")]


@app.command(epilog="Example: gtmar null --runs 50")
@bounded
def null(
    run_id: a.OptionalRun = None,
    searches: Searches = 50,
    data: a.MovedData = None,
    seed: Seed = 0,
    author: a.Author = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Say how much gain noise gives: a run's search again, on shuffled outcomes."""
    from gtmar import runs
    from gtmar.cli import progress, proof_pages
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    found = runs.null_search(
        run_id,
        journal=journal,
        data=data,
        searches=searches,
        seed=seed,
        author=author,
        watch=progress.counting(quiet=quiet or as_json),
    )
    proof_pages.null(found, journal=journal, as_json=as_json)


@app.command(epilog="Example: gtmar stability --runs 50")
@bounded
def stability(
    run_id: a.OptionalRun = None,
    searches: Searches = 50,
    data: a.MovedData = None,
    seed: Seed = 0,
    author: a.Author = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Say which weights hold and which are noise: a run's search on resampled accounts."""
    from gtmar import runs
    from gtmar.cli import progress, proof_pages
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    found = runs.stability(
        run_id,
        journal=journal,
        data=data,
        searches=searches,
        seed=seed,
        author=author,
        watch=progress.counting(quiet=quiet or as_json),
    )
    proof_pages.stability(found, journal=journal, as_json=as_json)
