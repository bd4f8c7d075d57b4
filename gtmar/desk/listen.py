"""Where the desk listens, and how it stops: by Ctrl-C or SIGTERM, with what is under way ended."""

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

#: Requests at a time, and seconds that those under way have once it stops.
_AT_ONCE, _LAST_SECONDS = 64, 5


def bind(host: str, port: int) -> socket.socket:
    """Take a port, a free one where 0 is given, before any work is done for who comes to it.

    Raises
    ------
    UsageError
        If there is no such host here, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # By its protocol asyncio knows it for TCP, and sends small answers at once: else each waits
        # some 40 ms for the other side.
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
    """A server that tells at once that it is to stop: a stream that is open would keep it going."""

    def __init__(self, config: uvicorn.Config, stopped: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopped = stopped

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop."""
        self._stopped()
        super().handle_exit(sig, frame)


def listen(app: ASGIApp, opened: socket.socket, stopped: Callable[[], None]) -> None:
    """Answer requests until Ctrl-C or SIGTERM; `stopped` is called as soon as one comes."""
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
    """End the block without an error by Ctrl-C or SIGTERM: both are how a desk is closed.

    What stops the server is raised again once it has stopped.
    """
    others = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, others)
