"""A desk that runs in a process of its own, and a browser's part played over plain HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import forks
import pages

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["RunningDesk"]


#: Takes a fork's place with an interpreter of its own, which imports all anew.
_ALONE = """
import os, sys
os.execv(sys.executable, [sys.executable, "-m", "gtmar", *sys.argv[1:]])
"""


class RunningDesk:
    """`gtmar desk` with some options, in a folder; a context manager that ends it by SIGINT.

    Parameters
    ----------
    folder
        Where it runs.
    words
        Its options.
    wait
        Seconds that it may take to open.
    alone
        Whether an interpreter of its own runs it, as a person's does, and no fork of one that has
        all imported.
    """

    def __init__(self, folder: Path, *words: str, wait: float = 60, alone: bool = False) -> None:
        self.process = forks.start(
            *("desk", *words, "--no-open"),
            code=_ALONE if alone else None,
            folder=folder,
            environment={k: v for k, v in os.environ.items() if not k.startswith("GTMAR_")},
        )
        self.address = ""
        end = time.monotonic() + wait
        while not self.address and self.process.wait(0.01) is None and time.monotonic() < end:
            self.said = self.process.printed()
            self.address = next((line for line in self.said if line.startswith("http://")), "")
        if not self.address:
            self.process.kill()
            raise AssertionError(f"the desk didn't open: {self.process.ended()}")
        self.origin = "http://" + urlsplit(self.address).netloc
        self.cookie = ""
        self.number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.wait(0) is None:
            code, _, errors = self.stop()
            assert kind is not None or (code, errors) == (0, "")

    def stop(self, sign: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
        """End it by a signal; return its exit code and what it wrote."""
        self.process.signal(sign)
        assert self.process.wait(60) is not None, f"the desk goes on after {sign.name}"
        ended = self.process.ended()
        return ended.returncode, ended.stdout, ended.stderr

    def get(self, path: str = "/") -> str:
        """Return a page, let in by the address first."""
        if not self.cookie:
            query = urlsplit(self.address).query
            answer, _ = self._ask("GET", f"/?{query}", None)
            assert answer.status == 200, answer.status
            self.cookie = str(answer.getheader("set-cookie")).partition(";")[0]
        answer, text = self._ask("GET", path, None)
        assert answer.status == 200, (answer.status, text)
        return text

    def post(self, path: str, *, fails: int = 200, page: str = "test", **body: Any) -> str:
        """Send what the page's script would, and return the answer's HTML."""
        if not self.cookie:
            self.get()
        self.number += 1
        whole = {"page": page, "number": self.number, **body}
        answer, text = self._ask("POST", f"/{quote(path)}", json.dumps(whole))
        assert answer.status == fails, (answer.status, text)
        return text

    def values(self, path: str, **body: Any) -> dict[str, list[pages.Shown]]:
        """Return the numbers of an answer by their keys."""
        return pages.values_in(self.post(path, **body))

    def _ask(
        self, method: str, path: str, body: str | None
    ) -> tuple[http.client.HTTPResponse, str]:
        place = urlsplit(self.origin)
        link = http.client.HTTPConnection(str(place.hostname), place.port, timeout=120)
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if body is not None:
            headers |= {"Origin": self.origin, "Content-Type": "application/json"}
        link.request(method, path, body, headers)
        answer = link.getresponse()
        text = answer.read().decode()
        link.close()
        return answer, text
