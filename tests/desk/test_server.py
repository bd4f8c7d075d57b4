"""What the desk answers is what the commands say, and no more than it was opened for."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
from html import unescape
from typing import TYPE_CHECKING, Any

import pages
import pytest
from desk.conftest import asked
from desks import RunningDesk
from factories import make_accounts, make_spec

from gtmar.desk import serve
from gtmar.desk.server import Desk, bind
from gtmar.errors import SpecError, UsageError
from gtmar.runs.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPENED = ("--data", "accounts.parquet", "--spec", "spec.yaml")
MOVED = {"depth": 31, "plan": -2}


@pytest.fixture(scope="module")
def desk(folder: Path) -> Iterator[RunningDesk]:
    with RunningDesk(folder, *OPENED) as opened:
        yield opened


@pytest.fixture(scope="module")
def start(desk: RunningDesk) -> dict[str, int]:
    found = re.search(r'data-weights="([^"]*)"', desk.get())
    assert found is not None
    weights: dict[str, int] = json.loads(unescape(found[1]))
    return weights


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_numbers_are_those_of_try(desk: RunningDesk, folder: Path, start: dict[str, int]) -> None:
    weights = start | MOVED
    before = files(folder)
    shown = desk.values("measure", weights=weights)
    details = desk.values("details", weights=weights)
    assert files(folder) == before
    recorded = desk.post("record", weights=weights, note="from the page", author="Ada")
    run = re.search(r'data-experiment="([^"]+)/1"', recorded)
    assert run is not None
    words = [w for name, weight in MOVED.items() for w in ("--set", f"{name}={weight}")]
    own = [str(folder / each) if "." in each else each for each in OPENED]
    told = asked(folder, "try", *own, *words, "--note", "by command")
    effect = {row["metric"]: row for row in told["effect"]}
    compared = 0
    for name, row in effect.items():
        for side, value in (("after", row["two"]), ("before", row["one"])):
            for cell in shown.get(f"metric.{name}.{side}", ()):
                assert pages.agrees(cell, value), (name, side, cell, value)
                compared += 1
    assert compared > 20
    assert told["run"]["metrics"]["auc_roc_retain"] is not None
    on_page, by_command = (
        asked(folder, "show", each) for each in (f"{run[1]}/1", f"{told['run']['run_id']}/1")
    )
    assert on_page["value_after"] == by_command["value_after"]
    assert (on_page["author"], on_page["note"]) == ("Ada", "from the page")
    moves = sum(int(cell[0].exact or 0) for key, cell in details.items() if key.startswith("moves"))
    accounts = float(shown["tier.A.accounts"][0].exact or 0)
    assert moves == sum(float(shown[f"tier.{t}.accounts"][0].exact or 0) for t in "ABC") > accounts


def test_what_is_behind_a_newer_question_is_left_out(
    desk: RunningDesk, start: dict[str, int]
) -> None:
    desk.post("measure", weights=start, page="two")
    newest = desk.number
    for path in ("measure", "details"):
        desk.number = newest - 5
        assert desk.post(path, weights=start, page="two", fails=204) == ""
    desk.number = 0
    # Another page counts by itself.
    assert "h-measured" in desk.post("measure", weights=start, page="three")
    desk.number = newest


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("measure", {}, 422),
        ("measure", {"weights": []}, 422),
        ("measure", {"weights": {"depth": 1.5}}, 422),
        ("measure", {"weights": {"depth": True}}, 422),
        ("measure", {"weights": {"depth": 51}}, 422),
        ("measure", {"weights": {"nobody": 1}}, 422),
        ("measure", {"weights": {}, "number": "1"}, 422),
        ("measure", {"weights": {}, "page": "x" * 65}, 422),
        ("record", {"weights": {}, "note": "nothing moved"}, 422),
        ("record", {"weights": MOVED, "note": " "}, 422),
        ("record", {"weights": MOVED, "note": "x" * 2001}, 422),
        ("record", {"weights": MOVED, "note": "half \ud800"}, 422),
        ("search", {"weights": {}, "experiments": "0"}, 422),
        ("search", {"weights": {}, "experiments": "many"}, 422),
        ("search", {"weights": {}, "experiments": "5", "locked": "depth"}, 422),
        ("search", {"weights": {}, "experiments": "5", "locked": ["nobody"]}, 200),
        ("tried", {"weight": "nobody"}, 422),
        ("promote", {"experiment": "nobody/1", "note": "n"}, 422),
        ("nothing", {}, 404),
        ("../measure", {}, 404),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    desk: RunningDesk, folder: Path, path: str, body: dict[str, Any], status: int
) -> None:
    before = files(folder)
    answer = desk.post(path, fails=status, **body)
    assert answer.strip()
    assert "Traceback" not in answer
    assert "fault" not in answer
    assert files(folder).keys() == before.keys()


def test_a_link_opens_the_weights_that_it_names(desk: RunningDesk, start: dict[str, int]) -> None:
    def opened(query: str) -> tuple[dict[str, int], str]:
        page = desk.get(f"/?{query}")
        weights = re.search(r'data-weights="([^"]*)"', page)
        said = re.search(r'<p id="status" role="status">(.*?)</p>', page)
        assert weights is not None
        assert said is not None
        return json.loads(unescape(weights[1])), unescape(said[1])

    assert opened("set=depth%3D31&set=plan%3D-2") == (start | MOVED, "")
    assert opened("set=depth%3D99")[0] == start
    assert "doesn't have" in opened("set=depth%3D99")[1]
    assert "doesn't have" in opened("set=%3Cscript%3E%3D1")[1]
    assert "another spec" in opened("set=depth%3D31&spec=s000")[1]


def test_accounts_are_taken_apart_beside_the_incumbent(
    desk: RunningDesk, folder: Path, start: dict[str, int]
) -> None:
    own = [str(folder / each) if "." in each else each for each in OPENED]
    told = asked(folder, "explain", "acct-00001", *own)
    shown = desk.values("account", weights=start | MOVED, account="acct-00001")
    assert pages.agrees(shown["account.before"][0], told["score"])
    points = [v[0] for k, v in shown.items() if k.startswith("account.points.")]
    assert sum(float(p.exact or 0) for p in points) == pytest.approx(
        float(shown["account.score"][0].exact or 0)
    )
    assert "no account" in desk.post("account", weights=start, account="<b>")


@pytest.mark.slow
def test_a_look_is_counted_and_said_before(desk: RunningDesk, start: dict[str, int]) -> None:
    weights = start | {"logins": 12}
    said = desk.post("look", weights=weights)
    assert "this is one more" in said
    before = re.search(r"served (\d+) comparison", said)
    assert before is not None
    # Asking what a look would cost is none.
    assert f"served {before[1]} comparison" in desk.post("look", weights=weights)
    look = desk.post("look", weights=weights, sure=True)
    assert f"Comparison {int(before[1]) + 1} on these accounts" in look
    assert "no further look" in desk.post("look", weights=weights)


@pytest.mark.slow
def test_what_is_recorded_is_promoted_and_tried(
    desk: RunningDesk, folder: Path, start: dict[str, int]
) -> None:
    note = "<b>why</b> & so"
    recorded = desk.post("record", weights=start | {"depth": 7}, note=note, expect="tier A")
    name = re.search(r'data-experiment="([^"]+)"', recorded)
    assert name is not None
    assert "live from now on" in desk.post("promote", experiment=name[1], note="approved")
    live = asked(folder, "log")["live"]
    assert (live[0]["note"], live[0]["expect"]) == ("approved", "tier A")
    tried = desk.post("tried", weight="depth")
    assert "25 → 7" in unescape(tried)
    assert "&lt;b&gt;why&lt;/b&gt; &amp; so" in tried
    assert "<b>why" not in tried


@pytest.mark.slow
def test_it_does_no_more_than_it_is_opened_for(folder: Path) -> None:
    """Nothing is written with --read-only, the holdout's included, and no account named."""
    before = files(folder)
    with RunningDesk(folder, *OPENED, "--read-only", "--no-accounts", alone=True) as desk:
        assert all(len(line) <= 80 for line in desk.said)
        page = desk.get()
        assert 'data-act="record"' not in page
        assert 'data-act="ask-look"' not in page
        assert 'name="account"' not in page
        for path in ("record", "promote", "look", "search", "stop"):
            refused = desk.post(path, fails=403, weights=MOVED, note="n", sure=True)
            assert "--read-only" in refused
        assert "--no-accounts" in desk.post("account", fails=403, weights={}, account="acct-00001")
        details = desk.post("details", weights=MOVED, account="acct-00001")
        assert "not named" in details
        assert "acct-" not in page + details
        assert "h-front" in desk.post("front")
        code, out, errors = desk.stop(signal.SIGTERM)
    assert (code, errors) == (0, "")
    assert "gtmar log" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert files(folder) == before


def test_what_weights_hold_together_they_hold_on_the_page_too() -> None:
    accounts = make_accounts(120, 3)
    bench = Workbench.open(accounts, make_spec(constraints={"total": 67}))
    before = {line.name: line.weight for line in bench.lines}
    moved = before | {"depth": before["depth"] + 5}
    own = {"page": "one", "number": 1}
    html = Desk(bench)._measure({**own, "weights": moved, "before": before, "moved": "depth"})
    found = re.search(r'id="followed" data-weights="([^"]*)"', html)
    assert found is not None
    followed = json.loads(unescape(found[1]))
    assert sum(followed.values()) == 67
    assert followed["depth"] == moved["depth"]
    with pytest.raises(SpecError, match="total"):
        Desk(bench)._measure({**own, "weights": moved})


def test_answers_are_sent_at_once() -> None:
    """Else each waits for the browser's word that it has the first part, some 40 ms."""
    with bind("127.0.0.1", 0) as opened:
        assert opened.proto == socket.IPPROTO_TCP


def test_what_keeps_it_from_opening_is_said_before_the_table_is_read() -> None:
    def unread() -> Any:
        raise AssertionError("the table was read")

    told: dict[str, Any] = dict.fromkeys(("opened", "renewed", "fault"), lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"can't listen on .*, port {port}"):
            serve(unread, port=port, **told)
    with pytest.raises(UsageError, match="16 characters or more, got 5"):
        serve(unread, token="short", **told)
    with pytest.raises(UsageError, match="--host expects"):
        serve(unread, host="no such host", **told)
