"""The desk: a local web page on which a user changes weights and sees their effect.

Starlette and uvicorn, of the extra ``gtmar[desk]``, are imported only when the desk is served.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from gtmar.errors import UsageError, require_packages

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.runs.workbench import Workbench

__all__ = ["require_extra", "serve"]


def require_extra() -> None:
    """Raise `UsageError` if packages of ``gtmar[desk]`` are missing, before any work is done."""
    require_packages("the desk", "desk", "starlette", "uvicorn", "jinja2")


def serve(
    open_bench: Callable[[], Workbench],
    *,
    opened: Callable[[Workbench, str], None],
    renewed: Callable[[str], None],
    fault: Callable[[BaseException], None],
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    author: str | None = None,
    read_only: bool = False,
    no_accounts: bool = False,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    A running search is then stopped after its current experiments, and its results are kept.

    Parameters
    ----------
    open_bench
        Opens the workbench; called once the port is bound.
    opened
        Called with the workbench and the page's address just before the server starts.
    renewed
        Called with a new address when the used one is opened in a second browser.
    host, port
        Where to listen; port 0 for a free one.
    token
        A token of 16 characters or more that opens the page any number of times; None to make one
        that opens it in one browser.
    author, read_only, no_accounts, fault
        As for `server.Desk`.

    Raises
    ------
    UsageError
        If the host or port can't be bound, or the token is too short.
    GtmarError
        If opening the workbench fails.
    """
    from gtmar.desk.access import LEAST_TOKEN, Access
    from gtmar.desk.server import Desk, bind, listen, until_closed

    if token is not None and len(token) < LEAST_TOKEN:
        raise UsageError(
            f"--token expects {LEAST_TOKEN} characters or more, got {len(token)}",
            hint="leave it out, and one is made",
        )
    with closing(bind(host, port)) as taken:
        bench = open_bench()
        desk = Desk(
            bench,
            author=author,
            read_only=read_only,
            no_accounts=no_accounts,
            fault=fault,
        )
        number = taken.getsockname()[1]
        access = Access(desk.app, host=host, port=number, token=token, renewed=renewed)
        try:
            with until_closed():
                opened(bench, access.address)
                listen(access, taken, desk.stop)
        finally:
            desk.stop()
            if desk.search is not None:
                desk.search.join()
