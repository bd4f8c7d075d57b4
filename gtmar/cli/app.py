"""The command line put together: every command is registered by its module's import."""

from __future__ import annotations

from typing import Annotated

import typer

from gtmar import __version__
from gtmar.cli import asking, running, tables, trusting  # noqa: F401 - they register commands
from gtmar.cli.arguments import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    app()


def _version(value: bool) -> None:
    if value:
        typer.echo(f"gtmar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
