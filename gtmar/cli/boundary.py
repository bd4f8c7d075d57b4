"""The one error boundary: gtmar's own errors become a message and an exit code.

Everything else is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import functools
import json
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import typer

from gtmar.errors import GtmarError, JournalWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["bounded"]

P = ParamSpec("P")


def bounded(command: Callable[P, None]) -> Callable[P, None]:
    """Catch gtmar's errors around a command: text or JSON on stderr, exit code by kind."""

    @functools.wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _warnings_as_notes():
                command(*args, **kwargs)
        except GtmarError as err:
            _show(err, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(err.exit_code) from err
        except BrokenPipeError:
            # The reader has gone, as with `| head`: nothing is wrong.
            sys.stderr.close()
            raise typer.Exit(0) from None

    return inner


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Print what a journal's reader warns of as a note on stderr, once each."""
    said: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", JournalWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if not issubclass(category, JournalWarning):
                others(message, category, *rest)
            elif str(message) not in said:
                from gtmar.cli.output import complain

                said.add(str(message))
                complain("note", str(message))

        warnings.showwarning = cast("Any", show)
        yield


def _show(err: GtmarError, *, as_json: bool) -> None:
    if as_json:
        fault = {"code": err.code, "message": err.message, "hint": err.hint, **err.facts}
        typer.echo(json.dumps({"error": fault}, default=str), err=True)
        return
    from gtmar.cli.output import complain

    complain("error", err.message, "bad")
    if err.hint:
        complain("hint", err.hint)
