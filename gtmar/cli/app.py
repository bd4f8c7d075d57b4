"""The command line put together: every command is registered by its module's import."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gtmar import __version__
from gtmar.cli import (  # noqa: F401 - they register commands
    data,
    export,
    history,
    journal,
    search,
    validation,
)
from gtmar.cli.error_boundary import Commands, set_debug, set_yes
from gtmar.cli.next_step import Command
from gtmar.cli.options import app, export_app, journal_app, spec_app
from gtmar.cli.output import text

__all__ = ["app", "main"]


#: Commands in the order in which people need them.
_ORDER = [
    "demo",
    "generate",
    "init",
    "check",
    "drift",
    "run",
    "review",
    "report",
    "null",
    "stability",
    "decide",
    "refresh",
    "try_change",
    "promote",
    "log",
    "show",
    "diff",
    "best",
    "lineage",
    "checkout",
    "record",
    "score",
    "explain",
    "backtest",
    "compare",
    "sql",
]


def _place(command: typer.models.CommandInfo) -> int:
    name = getattr(command.callback, "__name__", "")
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


app.registered_commands.sort(key=_place)
for _group in (app, export_app, journal_app, spec_app):
    for _registered in _group.registered_commands:
        _registered.cls = Command


#: When Polars' allocator, jemalloc, gives freed pages back: after a tenth of a second, and then
#: at once. By itself it keeps what one stage of loading freed through the next ones, half as
#: much again as the table takes. The environment may say otherwise.
_ALLOCATOR = ("_RJEM_MALLOC_CONF", "dirty_decay_ms:100,muzzy_decay_ms:0")


def main() -> None:
    """Run the command line."""
    # Where stdin, stdout or stderr is closed, the next file opened would take its number, and get
    # what a library prints.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    # Before Polars is loaded, which no import so far has done.
    os.environ.setdefault(*_ALLOCATOR)
    app()


def _version(value: bool) -> None:
    if value:
        text(f"gtmar {__version__}\n")
        raise typer.Exit


@app.callback(cls=Commands)
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=set_debug,
            expose_value=False,
            help="With an error, print where it came from. Before or after a command's name.",
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            callback=set_yes,
            expose_value=False,
            help="Open what a run's record names elsewhere than on this machine.",
        ),
    ] = False,
) -> None:
    pass
