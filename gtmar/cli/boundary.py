"""The one error boundary: gtmar's own errors become a message and an exit code.

So does an answer that leaves out what is damaged in a journal. Everything else is a fault of ours
and keeps its traceback.
"""

from __future__ import annotations

import functools
import json
import sys
import warnings
from typing import TYPE_CHECKING, ParamSpec, TextIO

import typer

from gtmar.errors import DamagedJournalWarning, GtmarError, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bounded"]

P = ParamSpec("P")
#: Commands whose answer is the journal's: one that lacks what is damaged isn't whole. Others do
#: their work, say what they did without, and end with their own code.
_ANSWERING = {
    "best",
    "compare",
    "diff",
    "export_mlflow",
    "journal_export",
    "journal_publish",
    "lineage",
    "log",
    "review",
    "show",
    "sql",
}


def bounded(command: Callable[P, None]) -> Callable[P, None]:
    """Catch gtmar's errors around a command: text or JSON on stderr, exit code by kind."""

    @functools.wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        partial = False

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            nonlocal partial
            if issubclass(category, DamagedJournalWarning):
                partial = True
                _warn(str(message), as_json=as_json)
            else:
                usual(message, category, filename, lineno, file, line)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", DamagedJournalWarning)
                usual, warnings.showwarning = warnings.showwarning, show
                command(*args, **kwargs)
        except GtmarError as err:
            _show(err, as_json=as_json)
            raise typer.Exit(err.exit_code) from err
        except BrokenPipeError:
            # The reader has gone, as with `| head`: nothing is wrong.
            sys.stderr.close()
            raise typer.Exit(0) from None
        if partial and command.__name__ in _ANSWERING:
            raise typer.Exit(JournalError.exit_code)

    return inner


def _warn(message: str, *, as_json: bool) -> None:
    hint = "gtmar verify names all that is damaged"
    if as_json:
        told = {"code": "damaged_journal", "message": message, "hint": hint}
        typer.echo(json.dumps({"warning": told}), err=True)
        return
    from gtmar.cli.output import complain

    complain("damaged", message, "bad")
    complain("hint", hint)


def _show(err: GtmarError, *, as_json: bool) -> None:
    if as_json:
        fault = {"code": err.code, "message": err.message, "hint": err.hint, **err.facts}
        typer.echo(json.dumps({"error": fault}, default=str), err=True)
        return
    from gtmar.cli.output import complain

    complain("error", err.message, "bad")
    if err.hint:
        complain("hint", err.hint)
