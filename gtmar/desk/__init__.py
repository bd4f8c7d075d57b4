"""A page on which weights are moved by hand, served to the browser of whoever started it.

Starlette and uvicorn, of the extra ``gtmar[desk]``, are imported late.
"""

from __future__ import annotations

from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gtmar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.runs.workbench import Workbench

__all__ = ["require_extra", "serve"]

_EXTRA = ("starlette", "uvicorn", "jinja2")


def require_extra() -> None:
    """Raise `UsageError` where ``gtmar[desk]`` isn't installed, before any work."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the desk needs {', '.join(missing)}, which is not installed",
            hint="pip install 'gtmar[desk]'",
        )


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
    """Serve the page until Ctrl-C or SIGTERM; a search under way is ended, and what it found stays.

    Parameters
    ----------
    open_bench
        Opens the workbench, once the port is taken.
    opened
        Called with the workbench and the page's address once it answers.
    renewed
        Called with another address, where the first one was opened in a second browser.
    fault
        Called with an error that nobody foresaw.
    host, port
        Where to listen; 0 for a free port.
    token
        What opens the page as often as it is used, 16 characters or more; None for one that opens
        it in one browser.
    author
        Who, as the page's form proposes it.
    read_only, no_accounts
        Whether nothing is written and the holdout stays shut; whether no account is named.

    Raises
    ------
    UsageError
        If the port or the host can't be had, or the token is too short.
    GtmarError
        Whatever opening the workbench raises.
    """
    from gtmar.desk.access import LEAST_TOKEN, Access
    from gtmar.desk.listen import bind, listen, until_closed
    from gtmar.desk.server import Desk

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
