"""Who is let in: a request of another page, name or browser is refused unanswered."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gtmar.desk.access import LARGEST_BODY, Access

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request


@dataclass
class Inside:
    """A server behind `Access`, and what got through to it."""

    access: Access
    port: int
    came: list[str]
    renewed: list[str]
    cookie: str = ""

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], str]:
        own: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie}
        if method == "POST":
            own |= {
                "Origin": f"http://127.0.0.1:{self.port}",
                "Content-Type": "application/json",
            }
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        link.putrequest(method, path, skip_host=True)
        for name, value in own.items():
            if value:
                link.putheader(name, value)
        if body is not None and "Content-Length" not in own:
            link.putheader("Content-Length", str(len(body)))
        link.endheaders(body)
        answer = link.getresponse()
        text = answer.read().decode()
        link.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text

    def enter(self) -> None:
        parts = urlsplit(self.access.address)
        status, headers, _ = self.ask("GET", f"/?{parts.query}")
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]


def serving(**options: Any) -> Iterator[Inside]:
    came: list[str] = []
    renewed: list[str] = []

    async def inner(request: Request) -> PlainTextResponse:
        came.append(f"{request.method} {request.url.path} {len(await request.body())}")
        return PlainTextResponse("inside")

    app = Starlette(routes=[Route("/{path:path}", inner, methods=["GET", "POST"])])
    opened = socket.create_server(("127.0.0.1", 0))
    port = opened.getsockname()[1]
    host = options.pop("host", "127.0.0.1")
    access = Access(app, host=host, port=port, renewed=renewed.append, **options)
    config = uvicorn.Config(
        access, http="h11", ws="none", lifespan="off", log_config=None, server_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[opened]),))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Inside(access, port, came, renewed)
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def opened() -> Iterator[Inside]:
    for inside in serving():
        inside.enter()
        yield inside


@pytest.fixture
def inside(opened: Inside) -> Inside:
    """A server whose browser has been let in."""
    opened.came.clear()
    return opened


def test_a_token_opens_once_and_the_cookie_from_then_on() -> None:
    for inside in serving():
        opens_once(inside)


def opens_once(inside: Inside) -> None:
    first = inside.access.address
    status, _, text = inside.ask("GET", "/")
    assert (status, inside.came) == (403, [])
    assert "terminal" in text
    query = f'{urlsplit(first).query}&set=nps%3D3&x="><b>'.replace('"><b>', "%22%3E%3Cb%3E")
    status, headers, text = inside.ask("GET", f"/?{query}")
    assert (status, inside.came) == (200, [])
    assert 'content="0;url=/?set=nps%3D3&amp;x=%22%3E%3Cb%3E"' in text
    flags = headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=strict" in flags
    inside.cookie = headers["set-cookie"].partition(";")[0]
    assert inside.ask("GET", "/")[0] == 200
    # The same browser may come by its address again, another may not.
    assert inside.ask("GET", f"/?{urlsplit(first).query}")[0] == 200
    assert not inside.renewed
    assert inside.ask("GET", f"/?{urlsplit(first).query}", Cookie=None)[0] == 403
    # Whoever has the terminal finds the next address there; a guess prints nothing.
    assert inside.renewed == [inside.access.address] != [first]
    assert inside.ask("GET", "/?token=guess", Cookie=None)[0] == 403
    assert len(inside.renewed) == 1
    inside.cookie = ""
    inside.enter()
    assert inside.ask("GET", "/")[0] == 200


def test_a_token_of_ones_own_opens_as_often_as_it_is_used() -> None:
    for inside in serving(token="0123456789abcdef"):
        for _ in range(2):
            inside.cookie = ""
            inside.enter()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": None}, 400),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        # The page of another name of this machine is another page.
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Cookie": None}, 403),
        ({"Cookie": "gtmar_desk_{port}=x"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": None}, 415),
        ({"Content_Length": str(LARGEST_BODY + 1)}, 413),
        ({"Content_Length": "-1"}, 400),
    ],
)
def test_a_post_of_another_is_refused(
    inside: Inside, headers: dict[str, str | None], status: int
) -> None:
    given = {k: v and v.replace("{port}", str(inside.port)) for k, v in headers.items()}
    assert inside.ask("POST", "/record", b"{}", **given)[0] == status
    assert inside.came == []
    assert inside.ask("POST", "/record", b"{}")[0] == 200
    assert inside.came == ["POST /record 2"]


def test_a_body_without_a_length_is_measured_as_it_comes(inside: Inside) -> None:
    chunk = b"%x\r\n%s\r\n" % (65536, b"a" * 65536)
    chunks = chunk * (LARGEST_BODY // 65536)
    end = b"0\r\n\r\n"
    headers = {"Transfer_Encoding": "chunked", "Content_Length": None}
    assert inside.ask("POST", "/x", chunks + end, **headers)[0] == 200
    assert inside.ask("POST", "/x", chunks + b"1\r\na\r\n" + end, **headers)[0] == 413
    assert inside.came == [f"POST /x {LARGEST_BODY}"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_do_nothing(inside: Inside, method: str) -> None:
    assert inside.ask(method, "/")[0] == 405
    assert inside.came == []


def test_every_answer_is_sealed(inside: Inside) -> None:
    for answer in (
        inside.ask("GET", "/"),
        inside.ask("GET", "/", Cookie=None),
        inside.ask("POST", "/", b"x" * (LARGEST_BODY + 1)),
        inside.ask("GET", "/", Host="evil.example"),
    ):
        headers = answer[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_on_a_network_names_are_its_own_or_addresses() -> None:
    for inside in serving(host="0.0.0.0"):
        inside.enter()
        port = inside.port
        assert inside.ask("GET", "/", Host=f"10.1.2.3:{port}")[0] == 200
        assert inside.ask("GET", "/", Host=f"{socket.gethostname()}:{port}")[0] == 200
        assert inside.ask("GET", "/", Host=f"evil.example:{port}")[0] == 421
        assert f"http://{socket.gethostname()}:{port}/?token=" in inside.access.address
