"""Access control of the desk: only a browser that opened the address on the terminal gets in.

Each request is checked before the desk's own code sees it: its Host, against DNS rebinding; its
Origin, against other pages; its session cookie, which scripts can't read; and its length. The
headers of every response forbid other pages to embed it, and browsers to cache it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from html import escape
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LARGEST_BODY", "LEAST_TOKEN", "Access", "is_loopback"]

#: Largest request body in bytes, enough for the weights of several thousand features and a note.
LARGEST_BODY = 256 * 1024
#: Seconds that a body may take to arrive.
_PATIENCE = 10.0
#: Least number of characters of a token that a user chooses.
LEAST_TOKEN = 16
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_CLOSED = "This desk is open to whoever has the address that its terminal shows; open that one.\n"
_OTHERS = "This request comes from another page than the desk's, and is refused.\n"


class Access:
    """ASGI middleware that admits only the desk's own page, and sets the headers of all responses.

    Parameters
    ----------
    app
        The application that answers admitted requests.
    host, port
        Where the desk listens.
    token
        A token that opens the desk any number of times; None to make one that opens it once. If a
        used token is presented again, by a second browser, a new one is made.
    renewed
        Called with the desk's address with the new token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        token: str | None = None,
        renewed: Callable[[str], None] | None = None,
    ) -> None:
        self._app = app
        self._host, self._port = host, port
        self._lasting = token is not None
        self._token: str | None = token or secrets.token_urlsafe(24)
        self._spent: set[str] = set()
        self._renewed = renewed or (lambda _address: None)
        self._session = secrets.token_urlsafe(32)
        # Browsers send a cookie to every port of a host, so two desks need two names.
        self._cookie = f"gtmar_desk_{port}"

    @property
    def address(self) -> str:
        """The URL that opens the desk, with its token."""
        name = self._host
        if name in ("", "0.0.0.0", "::"):
            name = socket.gethostname()
        name = f"[{name}]" if ":" in name else name
        return f"http://{name}:{self._port}/?{urlencode({'token': self._token})}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *named]}
            await send(message)

        request = Request(scope)
        refusal = self._refused(request)
        if refusal is not None:
            await refusal(scope, receive, sealed)
            return
        if request.method == "POST":
            body = await _body(request, receive)
            if body is None:
                answer_text = f"a request has at most {LARGEST_BODY:,} bytes\n"
                await PlainTextResponse(answer_text, 413)(scope, receive, sealed)
                return
            receive = _replayed(body, receive)
        await self._app(scope, receive, sealed)

    def _refused(self, request: Request) -> Response | None:
        """Return the response to a request that is refused or opens the desk; None to admit it."""
        headers = request.headers
        if not self._is_own(headers.get("host", "")):
            return PlainTextResponse(_OTHERS, 421)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host']}":
            return PlainTextResponse(_OTHERS, 403)
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("GET and POST alone\n", 405)
        site = headers.get("sec-fetch-site", "none")
        opens = request.method == "GET" and request.url.path == "/"
        if site not in ("none", "same-origin") and not opens:
            return PlainTextResponse(_OTHERS, 403)
        token = request.query_params.get("token")
        if opens and token is not None:
            return self._opened(request, token)
        if not self._knows(request):
            return PlainTextResponse(_CLOSED, 403)
        if request.method == "POST":
            if origin is None:
                return PlainTextResponse(_OTHERS, 403)
            if headers.get("content-type", "").partition(";")[0] != "application/json":
                return PlainTextResponse("a request's body is application/json\n", 415)
        return None

    def _is_own(self, host: str) -> bool:
        """Return whether a Host header names this desk."""
        name, _, port = host.rpartition(":")
        if port != str(self._port):
            # Browsers leave out port 80.
            name, port = host, "80"
        if port != str(self._port):
            return False
        name = name.removeprefix("[").removesuffix("]").lower()
        if is_loopback(self._host):
            return name == "localhost" or is_loopback(name)
        if name in (self._host.lower(), socket.gethostname().lower()):
            return True
        # An IP address needs no DNS lookup, so it is safe against rebinding.
        return _is_address(name)

    def _knows(self, request: Request) -> bool:
        return _same(request.cookies.get(self._cookie, ""), self._session)

    def _opened(self, request: Request, token: str) -> Response:
        """Return a page that sets the session cookie and reloads without the token in its URL."""
        known = self._knows(request)
        if not known:
            if self._token is None or not _same(token, self._token):
                if any(_same(token, each) for each in self._spent):
                    self._token = self._token or secrets.token_urlsafe(24)
                    self._renewed(self.address)
                return PlainTextResponse(_CLOSED, 403)
            if not self._lasting:
                self._spent.add(self._token)
                self._token = None
        rest = [pair for pair in parse_qsl(request.url.query) if pair[0] != "token"]
        where = f"/?{urlencode(rest)}" if rest else "/"
        # A page that refreshes, since after a redirect from another site's link the browser would
        # not send the strict cookie.
        answer = HTMLResponse(
            '<!doctype html><title>gtmar</title><link rel="icon" href="assets/desk.svg">'
            f'<meta http-equiv="refresh" content="0;url={escape(where)}">'
        )
        if not known:
            answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict")
        return answer


def is_loopback(host: str) -> bool:
    """Return whether a server on this host can be reached from this machine only.

    Examples
    --------
    >>> [is_loopback(each) for each in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.5")]
    [True, True, True, False, False]
    """
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _same(one: str, two: str) -> bool:
    return secrets.compare_digest(one.encode(), two.encode())


async def _body(request: Request, receive: Receive) -> bytes | None:
    """Read a request's body; None if it is too long, or takes too long to arrive."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > LARGEST_BODY:
        return None
    body: bytes = b""
    try:
        async with asyncio.timeout(_PATIENCE):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    return None
                if not message.get("more_body"):
                    return body
    except TimeoutError:
        return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a receive function that yields a body that was already read, then later messages."""
    given = False

    async def replay() -> dict[str, Any]:
        nonlocal given
        if given:
            return dict(await receive())
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
