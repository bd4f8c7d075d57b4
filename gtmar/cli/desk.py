"""The command `desk`: serves a page on which weights are moved by hand."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import options as a
from gtmar.cli.options import app
from gtmar.cli.output import Answer, announce, complain, flush_stdout, say, say_all, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gtmar.runs.workbench import Workbench

__all__ = ["desk"]


@a.command(app, "desk --data accounts.parquet --spec best.yaml", as_json=False)
def desk(
    data: a.Data,
    spec: Annotated[
        str | None, typer.Option(help="Scoring spec, or RUN/EXP; none: what is live.")
    ] = None,
    metric: a.Metric = None,
    holdout_file: a.HoldoutTable = None,
    author: a.Author = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; only this machine reaches the default.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0: a free one.")
    ] = 0,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="GTMAR_DESK_TOKEN",
            help="Token that opens the page in any browser; none: one that a single browser uses.",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing, and measure nothing on the holdout.")
    ] = False,
    no_accounts: Annotated[
        bool, typer.Option("--no-accounts", help="Show no account by its id.")
    ] = False,
    *,
    tables: a.TwoTablesOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer | None:
    """Move weights by hand on a page, and see at once what that does."""
    from gtmar.desk import require_extra, serve
    from gtmar.desk.server import sizes_of
    from gtmar.runs import spec_of
    from gtmar.runs.workbench import Workbench

    require_extra()
    with _browser_opener() as opens:

        def opened(bench: Workbench, address: str) -> None:
            say(f"{bench.spec.model}: {sizes_of(bench)}. Open in a browser:")
            # With its token, and not wrapped, so that it can be clicked or copied.
            text(f"{address}\n")
            say_all(*_what_to_know(host, token=token, read_only=read_only))
            flush_stdout()
            if browser and _has_screen():
                opens(address)

        serve(
            lambda: Workbench.open(
                data,
                None if spec is None else spec_of(spec, journal),
                metric=metric,
                holdout_file=holdout_file,
                journal=journal,
                announce=announce,
                **tables,
            ),
            opened=opened,
            renewed=_say_renewed,
            fault=lambda err: complain("fault", f"{type(err).__name__}: {err}", "bad"),
            host=host,
            port=port,
            token=token,
            author=author,
            read_only=read_only,
            no_accounts=no_accounts,
        )
    say("The desk is closed. What was put on record is in the journal: gtmar log")
    return None


def _what_to_know(host: str, *, token: str | None, read_only: bool) -> Iterator[str]:
    from gtmar.desk.access import is_loopback

    if not is_loopback(host):
        yield "Whoever has the address sees this table's accounts, and nothing is encrypted."
    elif token is None:
        yield "It opens in one browser of this machine, and in no other."
    yield f"Ctrl-C closes it. {'Nothing is written.' if read_only else 'Nothing is lost by that.'}"


def _say_renewed(address: str) -> None:
    say("The address was opened in a second browser. If that was you, here is one for it:")
    text(f"{address}\n")
    flush_stdout()


def _has_screen() -> bool:
    named = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform == "darwin" or any(os.environ.get(name) for name in named)


@contextmanager
def _browser_opener() -> Iterator[Callable[[str], None]]:
    """Yield a function that opens an address in a browser, without showing it to other users.

    Other users of the machine can read a browser's command line. So the browser is given a file
    that only this user can read, and that redirects to the address.
    """
    import webbrowser

    with tempfile.TemporaryDirectory(prefix="gtmar-desk-") as folder:

        def opens(address: str) -> None:
            door = Path(folder) / "desk.html"
            where = escape(address)
            door.write_text(f'<meta http-equiv="refresh" content="0;url={where}">', "utf-8")
            webbrowser.open(door.as_uri())

        yield opens
