"""The desk's server: binds its port, answers requests, and stops on Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from gtmar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

__all__ = ["bind", "listen", "until_closed"]

#: Most concurrent requests, and seconds that open requests have to finish when the server stops.
_AT_ONCE, _LAST_SECONDS = 64, 5


def bind(host: str, port: int) -> socket.socket:
    """Bind a port, or a free one for 0, so that a taken port is reported before any work is done.

    Raises
    ------
    UsageError
        If the host is no name or address of this machine, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol given, asyncio sets TCP_NODELAY. Otherwise each small response would
        # wait about 40 ms for an acknowledgement.
        opened = socket.socket(family, kind, protocol)
    except OSError as err:
        raise UsageError(
            f'--host expects a name or address of this machine, got "{host}": {err.strerror}',
            hint="--host 127.0.0.1",
        ) from err
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_AT_ONCE)
    except OSError as err:
        opened.close()
        raise UsageError(
            f'can\'t listen on "{host}", port {port}: {err.strerror}', hint="--port 0"
        ) from err
    return opened


class _Server(uvicorn.Server):
    """A server that announces a stop at once, since an open event stream would delay it."""

    def __init__(self, config: uvicorn.Config, stopped: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopped = stopped

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Call `stopped`, then stop as uvicorn does."""
        self._stopped()
        super().handle_exit(sig, frame)


def listen(app: ASGIApp, opened: socket.socket, stopped: Callable[[], None]) -> None:
    """Answer requests until Ctrl-C or SIGTERM, at which `stopped` is called at once."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_AT_ONCE,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    _Server(config, stopped).run(sockets=[opened])


@contextmanager
def until_closed() -> Iterator[None]:
    """End the block without an error on Ctrl-C or SIGTERM, by which a user closes the desk.

    uvicorn raises the signal again after the server has stopped, so it has to be caught here.
    """
    others = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, others)
