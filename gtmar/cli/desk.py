"""The command that opens a page where weights are moved by hand: desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import options as a
from gtmar.cli.options import app
from gtmar.cli.output import Answer, announce, say
from gtmar.errors import UsageError

if TYPE_CHECKING:
    from gtmar.desk import Listening

__all__ = ["desk"]


@a.command(app, "desk --data accounts.parquet --spec best.yaml", as_json=False)
def desk(
    data: a.Data,
    spec: Annotated[
        str | None,
        typer.Option(help="Scoring spec, or RUN/EXP; none: what is live.", show_default=False),
    ] = None,
    metric: a.Metric = None,
    holdout_file: a.HoldoutTable = None,
    author: a.Author = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; this machine alone unless told otherwise.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen; 0 for a free one.")
    ] = 0,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="GTMAR_DESK_TOKEN",
            help="What opens the page, as often as used; none: one made for one browser.",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing, and leave the holdout shut.")
    ] = False,
    no_accounts: Annotated[bool, typer.Option("--no-accounts", help="Name no account.")] = False,
    *,
    tables: a.TwoTablesOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer | None:
    """Open a page to move weights by hand, and see at once what it does."""
    from gtmar.desk import require_extra, serve

    require_extra()

    serve(
        data,
        spec,
    )
    return None
