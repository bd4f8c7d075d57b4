"""The desk's server: the page, the effect of changed weights, searches, records; its port.

It contains no scoring logic. Each response is a result of the workbench, which is also available in
a notebook, rendered as HTML. A search runs in its own thread.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from gtmar import __version__
from gtmar.documents import is_text, parse_json
from gtmar.errors import AccountDataError, GtmarError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.lookup import experiment
from gtmar.journal.sentences import on_dates
from gtmar.metrics import all_metrics
from gtmar.optimize.search_loop import Limits
from gtmar.report.pages import TEMPLATES, environment
from gtmar.safe_text import without_credentials
from gtmar.spec.ids import spec_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from jinja2 import Environment
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from gtmar.runs import Progress, RunResult
    from gtmar.runs.weight_change import MetricChange
    from gtmar.runs.workbench import WeightLine, Workbench
    from gtmar.spec.calibration import Calibration

__all__ = ["Desk", "bind", "listen", "sizes_of", "until_closed"]

#: Number of wins that the page shows.
_MOST_WINS = 8


class LiveSearch:
    """One search that runs in its own thread.

    Parameters
    ----------
    search
        Runs the search. It receives a callback for progress, and a function that returns whether to
        stop.
    """

    def __init__(
        self, search: Callable[[Callable[[Progress], None], Callable[[], bool]], RunResult]
    ) -> None:
        #: Latest progress; None before the first experiments are done.
        self.progress: Progress | None = None
        self.result: RunResult | None = None
        self.error: str | None = None
        #: Progress at each of the last wins, with the winning weights.
        self.wins: list[Progress] = []
        #: Counter of changes, by which a stream notices news.
        self.version = 0
        self._stop = threading.Event()
        self._search = search
        self._thread = threading.Thread(target=self._run, name="gtmar-search", daemon=True)
        self._thread.start()

    @property
    def going(self) -> bool:
        """Whether the search is still running."""
        return self.result is None and self.error is None

    @property
    def best_weights(self) -> dict[str, int]:
        """The best weights so far; empty before the first win."""
        if self.result is not None:
            return self.result.weights if self.result.improved else {}
        return self.wins[-1].weights if self.wins else {}

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Request a stop after the current experiments; completed ones are kept."""
        self._stop.set()
        self.version += 1

    def join(self, seconds: float | None = None) -> None:
        """Wait until the search is over, at most `seconds` if given."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.result = self._search(self._tell, self._stop.is_set)
        except GtmarError as err:
            self.error = str(err)
        except Exception as err:
            self.error = f"a fault of gtmar: {type(err).__name__}: {err}"
            raise
        finally:
            if self.going:
                self.error = "the search ended without a result"
            self.version += 1

    def _tell(self, at: Progress) -> None:
        before = self.progress
        if at.wins > (0 if before is None else before.wins):
            self.wins = [*self.wins[1 - _MOST_WINS :], at]
        self.progress = at
        self.version += 1


#: Most pages whose newest request is remembered, and most characters of a user's text.
_PAGES, _LONGEST = 200, 2_000
_MOST_EXPERIMENTS = 1_000_000
#: Seconds between two checks for news of a search, and the longest silence of a stream.
_TICK, _SILENT = 0.2, 15.0
#: Requests that write to the journal, open the holdout or control a search; and those that show
#: accounts.
_WRITING = {"look", "record", "promote", "search", "stop"}
_NAMING = {"account"}


class _SupersededError(Exception):
    """A newer request of the same page makes this one obsolete."""


class Desk:
    """The HTTP application of a workbench, which measures, searches and records.

    Parameters
    ----------
    author
        The author that the page's forms suggest.
    read_only, no_accounts
        Whether to refuse everything that writes to the journal or opens the holdout; and to show
        single accounts.
    fault
        Called with an unexpected error; the page shows its type only.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        author: str | None = None,
        read_only: bool = False,
        no_accounts: bool = False,
        fault: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.bench = bench
        self.search: LiveSearch | None = None
        self.stopping = False
        held = bench.accounts.holdout
        self._shown = {
            "max_score": bench.spec.max_score,
            "held_out": 0 if held is None else held.distinct,
            "version": __version__,
            "title": f"{bench.spec.model}: the desk",
            "table": without_credentials(bench.accounts.table.source),
            # In a table of several dates an account counts once per date.
            "noun": "row" if bench.accounts.search.dates else "account",
            # Whether constraints or ordered bins move other weights along with a changed one.
            "follows": bool(bench.spec.constraints or bench.spec.ordered_terms),
            "author": author or "",
            "read_only": read_only,
            "no_accounts": no_accounts,
        }
        self._shut = (_WRITING if read_only else set()) | (_NAMING if no_accounts else set())
        self._fault = fault or (lambda _err: None)
        # One computation at a time, since two in parallel would only slow each other down.
        self._turn = threading.Lock()
        self._noting = threading.Lock()
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._acts: dict[str, Callable[[dict[str, Any]], str]] = {
            "measure": self._measure,
            "details": self._details,
            "compare": self._compare,
            "account": self._account,
            "tried": self._tried,
            "front": self._front,
            "look": self._look,
            "record": self._record,
            "promote": self._promote,
            "search": self._begin,
            "stop": self._stop,
        }
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/assets/{name}", self._asset),
                Route("/progress", self._progress),
                Route("/{act}", self._answer, methods=["POST"]),
            ]
        )

    def stop(self) -> None:
        """End open streams, and stop a running search after its current experiments."""
        self.stopping = True
        if self.search is not None:
            self.search.stop()

    # ---- HTTP ----

    async def _page(self, request: Request) -> Response:
        return await self._guarded(lambda: HTMLResponse(self._whole(request)))

    async def _asset(self, request: Request) -> Response:
        asset = _ASSETS.get(request.path_params["name"])
        if asset is None:
            return PlainTextResponse("there is no such file\n", 404)
        return FileResponse(asset[0], media_type=asset[1])

    async def _answer(self, request: Request) -> Response:
        name = request.path_params["act"]
        act = self._acts.get(name)
        if act is None:
            return PlainTextResponse("there is no such question\n", 404)
        if name in self._shut:
            option = "--no-accounts" if name in _NAMING else "--read-only"
            return PlainTextResponse(f"The desk was started with {option}.", 403)
        body = await request.body()

        def answer() -> Response:
            fields = _fields_of(body)
            if name in ("measure", "details"):
                self._take_in(fields)
            return HTMLResponse(act(fields))

        return await self._guarded(answer)

    async def _guarded(self, answer: Callable[[], Response]) -> Response:
        """Compute a response in a thread, and turn errors into responses."""
        try:
            return await run_in_threadpool(answer)
        except _SupersededError:
            return Response(status_code=204)
        except GtmarError as err:
            return PlainTextResponse(str(err), 422)
        except Exception as err:
            self._fault(err)
            return PlainTextResponse(
                f"a fault of gtmar: {type(err).__name__}; see its terminal", 500
            )

    async def _progress(self, _request: Request) -> Response:
        return StreamingResponse(self._news(), media_type="text/event-stream")

    async def _news(self) -> AsyncIterator[str]:
        """Yield events with the search's progress whenever it changes, until it is over."""
        last, silent = -1, 0.0
        while not self.stopping and self.search is not None:
            search = self.search
            over = not search.going
            if search.version != last or over:
                last, silent = search.version, 0.0
                html = await run_in_threadpool(self._search_html)
                yield _event("end" if over else "progress", html)
                if over:
                    return
            await asyncio.sleep(_TICK)
            silent += _TICK
            if silent >= _SILENT:
                silent = 0.0
                yield ": still here\n\n"

    # ---- validation of requests ----

    def _take_in(self, fields: dict[str, Any]) -> None:
        """Remember the newest request of a page, which numbers its requests in ascending order."""
        page, number = fields["page"], fields["number"]
        with self._noting:
            self._newest[page] = max(number, self._newest.get(page, 0))
            self._newest.move_to_end(page)
            while len(self._newest) > _PAGES:
                self._newest.popitem(last=False)

    def _stale(self, fields: dict[str, Any]) -> bool:
        return self.stopping or self._newest.get(fields["page"], 0) > fields["number"]

    def _weights(self, fields: Mapping[str, Any], key: str = "weights") -> dict[str, int]:
        """Return the weights that a page sent, integers by name; the workbench validates them."""
        given = fields.get(key)
        if not isinstance(given, dict) or any(type(each) is not int for each in given.values()):
            raise UsageError(f"{key} expects a whole number by name")
        return given

    def _text(self, fields: Mapping[str, Any], key: str) -> str | None:
        """Return a text that the user typed; None if it is empty."""
        given = fields.get(key) or ""
        if not isinstance(given, str) or len(given) > _LONGEST or not is_text(given):
            raise UsageError(f"{key} expects a text of at most {_LONGEST:,} characters")
        return given.strip() or None

    # ---- responses ----

    def _whole(self, request: Request) -> str:
        bench = self.bench
        weights, message = self._linked(request)
        lineage = bench.spec.lineage
        where = "" if str(bench.journal) == "journal" else f" --journal {quote(str(bench.journal))}"
        reports = [f"gtmar report {lineage.run} -o report.html{where}"] if lineage else []
        spec = bench.spec
        limits = {
            name: f"{each.min:g} to {each.max:g} points together"
            for name, each in spec.groups.items()
        }
        d = {
            **self._shown,
            "kicker": f"{spec.model} · {self._shown['table']} · {sizes_of(bench)}",
            "page": secrets.token_hex(8),
            "spec_id": spec_id(spec),
            "journal": str(bench.journal),
            "weights": weights,
            "groups": _groups_of(bench.lines, weights, limits),
            "message": message,
            "report_commands": [*reports, f"gtmar report --history -o history.html{where}"],
        }
        with self._turn:
            m = bench.measure(weights)
        return _filled("desk", d=d, m=m, s=self.search)

    def _linked(self, request: Request) -> tuple[dict[str, int], str]:
        """Return the weights that a URL names, and a message if it names others or is invalid."""
        own = {line.name: line.weight for line in self.bench.lines}
        query = request.query_params
        named = query.getlist("set")
        if not named:
            return own, ""
        try:
            weights = own | {
                name: int(weight) for name, _, weight in (each.rpartition("=") for each in named)
            }
            self.bench.measure(weights)
        except (GtmarError, ValueError):
            return own, "The link names weights that this spec doesn't have; it begins at its own."
        if query.get("spec") not in (None, spec_id(self.bench.spec)):
            return weights, "The link was made on another spec; its weights are shown on this one."
        return weights, ""

    def _measure(self, fields: dict[str, Any]) -> str:
        weights = self._weights(fields)
        with self._turn:
            if self._stale(fields):
                raise _SupersededError
            moved, followed = fields.get("moved"), None
            if isinstance(moved, str) and moved in weights and "before" in fields:
                change = {moved: weights[moved]}
                followed = self.bench.follow(self._weights(fields, "before"), change)
            m = self.bench.measure(weights if followed is None else followed)
        return _filled("sentence measured", m=m) + (
            "" if followed in (None, weights) else _filled("followed", weights=followed)
        )

    def _details(self, fields: dict[str, Any]) -> str:
        weights = self._weights(fields)
        with self._turn:
            if self._stale(fields):
                raise _SupersededError
            m = self.bench.measure(weights)
            x = self.bench.details(weights, stale=lambda: self._stale(fields))
            if x is None:
                raise _SupersededError
        shown = _filled("details", m=m, x=x, d=self._shown)
        name = self._text(fields, "account")
        if name and "account" not in self._shut:
            shown += self._account(fields)
        return shown

    def _compare(self, fields: dict[str, Any]) -> str:
        one, two = self._weights(fields, "other"), self._weights(fields)
        with self._turn:
            ends = [self.bench.measure(each) for each in (one, two)]
        return _filled("compared", one=ends[0], two=ends[1])

    def _account(self, fields: dict[str, Any]) -> str:
        name = self._text(fields, "account")
        explanation, message = None, ""
        try:
            explanation = None if name is None else self.bench.account(name, self._weights(fields))
        except AccountDataError as err:
            message = err.message
        return _filled("account", a=explanation, message=message)

    def _tried(self, fields: dict[str, Any]) -> str:
        weight = self._text(fields, "weight")
        return _filled("tried", t=self.bench.tried(weight or ""))

    def _front(self, fields: dict[str, Any]) -> str:
        return _filled("front", f=self.bench.front(self._text(fields, "by")), requested=True)

    def _look(self, fields: dict[str, Any]) -> str:
        weights = self._weights(fields)
        if fields.get("sure") is not True:
            return _filled("look", looks=self.bench.looks(weights), d=self._shown)
        with self._turn:
            look = self.bench.look(
                weights, author=self._text(fields, "author"), note=self._text(fields, "note")
            )
        return _filled("look", look=look, d=self._shown)

    def _record(self, fields: dict[str, Any]) -> str:
        with self._turn:
            result = self.bench.record(
                self._weights(fields),
                note=self._text(fields, "note") or "",
                author=self._text(fields, "author"),
                expect=self._text(fields, "expect"),
            )
        with Journal(self.bench.journal) as journal:
            row = experiment(journal, f"{result.run_id}/1").row
        return _filled("recorded", r=result, row=row, live=None)

    def _promote(self, fields: dict[str, Any]) -> str:
        live = self.bench.promote(
            self._text(fields, "experiment") or "",
            note=self._text(fields, "note") or "",
            author=self._text(fields, "author"),
            expect=self._text(fields, "expect"),
        )
        return _filled("recorded", live=live, r=None)

    # ---- search ----

    def _begin(self, fields: dict[str, Any]) -> str:
        weights, locked = self._weights(fields), fields.get("locked") or []
        if not isinstance(locked, list) or not all(isinstance(each, str) for each in locked):
            raise UsageError("locked expects names of weights")
        count = self._text(fields, "experiments") or ""
        if not count.isdecimal() or not 1 <= int(count) <= _MOST_EXPERIMENTS:
            raise UsageError(f"experiments expects a whole number from 1 to {_MOST_EXPERIMENTS:,}")
        note, author = self._text(fields, "note"), self._text(fields, "author")
        with self._turn:
            if self.search is not None and self.search.going:
                raise UsageError("a search is going on: stop it, or wait until it is over")
            self.search = LiveSearch(
                lambda tell, stop: self.bench.search(
                    weights,
                    locked=locked,
                    limits=Limits(int(count)),
                    author=author,
                    note=note or "from the desk",
                    on_progress=tell,
                    stop=stop,
                )
            )
        return self._search_html()

    def _stop(self, _fields: dict[str, Any]) -> str:
        if self.search is not None:
            self.search.stop()
        return self._search_html()

    def _search_html(self) -> str:
        return _filled("found", s=self.search)


def _fields_of(body: bytes) -> dict[str, Any]:
    """Parse a request's body: an object with the page's name and the number of the request."""
    try:
        fields = parse_json(body.decode("utf-8"))
    except ValueError as err:
        raise UsageError(f"a request's body is JSON: {err}") from err
    page, number = (
        (fields.get("page"), fields.get("number")) if isinstance(fields, dict) else (0, 0)
    )
    if not isinstance(page, str) or len(page) > 64 or type(number) is not int:
        raise UsageError("a request names its page and its number")
    return dict(fields)


def _event(name: str, html: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"event: {name}\n{lines}\n"


# ---- rendering: results of the workbench as HTML, from templates that escape all text ---------

_HERE = Path(__file__).parent
#: Static files that a browser may load, by name: path and media type.
_ASSETS = {
    "desk.js": (_HERE / "assets" / "desk.js", "text/javascript"),
    "desk.css": (_HERE / "assets" / "desk.css", "text/css"),
    "desk.svg": (_HERE / "assets" / "desk.svg", "image/svg+xml"),
    "style.css": (TEMPLATES / "style.css", "text/css"),
}
#: Template variables that default to None.
_ABSENT = dict.fromkeys(("a", "f", "live", "look", "looks", "message", "r", "requested", "t", "x"))
#: Width and height of the chart of probabilities, in SVG units.
_WIDE, _HIGH = 360, 150


@cache
def _templates() -> Environment:
    made = environment(_HERE / "templates", TEMPLATES)
    made.filters.update(
        by_tier=_by_tier,
        pairs=lambda moves: {(each.before, each.after): each.accounts for each in moves},
        points=lambda value: f"{value:g}",
        figures=lambda names: [f"#{name}" for name in names],
        plain_json=partial(json.dumps, sort_keys=True),
        staircase=_staircase,
    )
    made.globals.update(width=_WIDE, height=_HIGH)
    return made


def sizes_of(bench: Workbench) -> str:
    """Return the number of accounts searched, of their dates, and of accounts held out, as text."""
    search, held = bench.accounts.search, bench.accounts.holdout
    searched = f"{search.distinct:,} account{'' if search.distinct == 1 else 's'}"
    if search.dates:
        searched = on_dates(search.distinct, len(search.dates), search.accounts)
    unseen = "none held out" if held is None else f"{held.distinct:,} never seen"
    return f"{searched} searched, {unseen}"


def _filled(template: str, **values: Any) -> str:
    """Render one template, or several separated by blanks and concatenated, by name."""
    given = {**_ABSENT, **values}
    return "".join(
        _templates().get_template(f"{name}.html").render(given) for name in template.split()
    )


def _groups_of(
    lines: Iterable[WeightLine], weights: dict[str, int], limits: dict[str, str]
) -> list[dict[str, Any]]:
    """Return weights by their group or binned feature, in the spec's order, for the template.

    `limits` has, by group, the bounds of its points as text.
    """
    several = {name for name, of in groupby(sorted(x.feature for x in lines)) if len([*of]) > 1}
    by_group: dict[str | None, list[dict[str, Any]]] = {}
    for number, line in enumerate(lines):
        name = line.group or (line.feature if line.feature in several else None)
        shown = {**line.as_json(), "number": number, "start": line.weight}
        by_group.setdefault(name, []).append({**shown, "weight": weights[line.name]})
    return [
        {"name": name, "limits": limits.get(name or ""), "weights": each}
        for name, each in by_group.items()
    ]


def _by_tier(
    changes: Iterable[MetricChange],
) -> list[tuple[str, str, dict[str, MetricChange]]]:
    """Return key, question and values by tier of each metric by tier, without counts."""
    by_key: dict[str, dict[str, MetricChange]] = {}
    for each in changes:
        if each.tier is not None and not all_metrics()[each.key].count:
            by_key.setdefault(each.key, {})[each.tier] = each
    return [(key, next(iter(of.values())).answers, of) for key, of in by_key.items()]


def _staircase(table: Calibration, most: float) -> str:
    """Return the SVG path of the probability over scores from 0 to `most`, in SVG units."""
    ends = [*(step.from_ for step in table.steps[1:]), most]
    heights = [round(_HIGH * (1 - step.left / step.accounts), 1) for step in table.steps]
    parts: Sequence[str] = [
        f"V{height:g}H{round(_WIDE * end / most, 1):g}"
        for height, end in zip(heights, ends, strict=True)
    ]
    return f"M0 {heights[0]:g}" + "".join(parts)


# ---- the port ----------------------------------------------------------------------------------

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
