"""The desk in headless Chromium: weights are moved by hand and what is seen is what `try` says."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pages
import polars as pl
import pytest
from browser import DRIVER, Browser
from desk.conftest import asked
from desks import RunningDesk
from factories import make_accounts, make_spec, weighted
from report.conftest import HOSTILE
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from gtmar.data import synthetic
from gtmar.spec import load, to_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gtmar.spec import ScoringSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DRIVER is None, reason="no chromium and chromedriver here"),
]
OPENED = ("--data", "accounts.parquet", "--spec", "spec.yaml")
#: Where pictures go; none are taken otherwise.
PICTURES = os.environ.get("GTMAR_PICTURES")
EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
CONTRAST = (Path(__file__).parents[1] / "report" / "contrast.js").read_text("utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(folder: Path) -> Iterator[RunningDesk]:
    """The desk of the table, opened once: weights that one page moves are its own."""
    with RunningDesk(folder, *OPENED) as opened:
        yield opened


class Page:
    """A desk's page in the browser."""

    def __init__(self, browser: Browser, desk: RunningDesk) -> None:
        self.browser, self.driver, self.desk = browser, browser.driver, desk
        self.opened = False
        self.open()

    def open(self, query: str = "", *, width: int = 1280, scheme: str = "light") -> None:
        self.browser.size(width, 900, scheme)
        self.driver.get(self.desk.origin + f"/{query}" if self.opened else self.desk.address)
        self.opened = True
        self.until(lambda: self.driver.find_elements(By.ID, "sentence"))

    def until(self, there: Callable[[], Any], seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while not (found := there()):
            assert time.monotonic() < end, self.driver.find_element(By.TAG_NAME, "body").text
            time.sleep(0.02)
        return found

    def row(self, name: str) -> Any:
        rows = self.driver.find_elements(By.CSS_SELECTOR, ".weight")
        return next(row for row in rows if row.get_attribute("data-name") == name)

    def slider(self, name: str) -> Any:
        return self.row(name).find_element(By.CSS_SELECTOR, "input[type=range]")

    def weights(self) -> dict[str, int]:
        found: dict[str, int] = self.browser.ask(
            "return Object.fromEntries([...document.querySelectorAll('.weight')].map(r => "
            "[r.dataset.name, Number(r.querySelector('input[type=range]').value)]))"
        )
        return found

    def numbers(self) -> dict[str, list[pages.Shown]]:
        """What is shown once all is answered."""
        self.settled()
        return pages.values_in(self.driver.page_source)

    def settled(self) -> None:
        self.until(
            lambda: (
                "h-details" in self.driver.page_source
                and not self.driver.find_elements(
                    By.CSS_SELECTOR, "#details[aria-busy], #details p.quiet:only-of-type"
                )
            )
        )

    def press(self, act: str, within: str = "body") -> None:
        button = self.driver.find_element(By.CSS_SELECTOR, f"{within} button[data-act={act}]")
        self.browser.ask("arguments[0].click()", button)

    def type(self, form: str, **fields: str) -> None:
        for name, text in fields.items():
            box = self.driver.find_element(By.CSS_SELECTOR, f"#{form} [name={name}]")
            box.clear()
            box.send_keys(text)
        button = self.driver.find_element(By.CSS_SELECTOR, f"#{form} [type=submit]")
        self.browser.ask("arguments[0].click()", button)

    def text(self, name: str) -> str:
        # At once: an answer may replace the element between two questions of the driver.
        return str(self.browser.ask("return document.getElementById(arguments[0]).innerText", name))


def strange_requests(browser: Browser, origin: str) -> list[str]:
    """Return what was asked for elsewhere, by the browser's own log."""
    told = [json.loads(e["message"])["message"] for e in browser.logged("performance")]
    sent = [
        m["params"]["request"]["url"] for m in told if m["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.startswith(origin) for url in sent)
    return [url for url in sent if not url.startswith((f"{origin}/", "about:", "data:"))]


def test_weights_are_moved_recorded_promoted_and_searched_from(
    browser: Browser, folder: Path, desk: RunningDesk
) -> None:
    page = Page(browser, desk)
    browser.logged("performance")
    start = page.weights()
    # By keyboard: one a press.
    page.slider("depth").send_keys(*[Keys.ARROW_RIGHT] * 6)
    assert page.weights() == start | {"depth": start["depth"] + 6}
    # By pointer.
    ActionChains(page.driver).drag_and_drop_by_offset(page.slider("plan"), 40, 0).perform()
    moved = page.weights()
    assert moved["plan"] != start["plan"]
    assert moved["depth"] == start["depth"] + 6
    shown = page.numbers()
    assert "Of 100 pairs" in page.text("sentence")
    page.until(lambda: "first baseline" in page.text("tried"))

    own = [str(folder / each) if "." in each else each for each in OPENED]
    words = [w for n, v in moved.items() if v != start[n] for w in ("--set", f"{n}={v}")]
    told = asked(folder, "try", *own, *words, "--note", "by command")
    effect = {row["metric"]: row for row in told["effect"]}
    for name in ("auc_roc_retain", "nrr_by_tier.A", "logo_retention_by_tier.C"):
        assert pages.agrees(shown[f"metric.{name}.after"][0], effect[name]["two"])

    # Undo and redo, by button and by keys, and the link of what is there.
    page.press("undo")
    assert page.weights() == start | {"depth": start["depth"] + 6}
    page.slider("depth").send_keys(Keys.CONTROL, "z")
    page.until(lambda: page.weights()["depth"] < start["depth"] + 6)
    for _ in range(8):
        if page.driver.find_element(By.ID, "redo").is_enabled():
            page.press("redo")
    assert page.weights() == moved
    page.settled()
    page.until(lambda: "set=" in page.driver.current_url)
    page.driver.get(page.driver.current_url)
    assert page.weights() == moved

    # Two compared.
    page.press("keep")
    page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#compared table"))
    page.press("back")
    page.until(lambda: "depth" in page.text("compared"))
    page.press("swap", "#compared")
    assert page.weights() == moved
    # A page loaded anew goes on with both.
    page.settled()
    page.driver.get(page.driver.current_url)
    page.until(lambda: "depth" in page.text("compared"))
    page.press("undo")
    assert page.weights() == start
    page.press("redo")
    assert page.weights() == moved

    page.type("record-form", author="Ada", note="said in a meeting", expect="tier A")
    page.until(lambda: "On record as" in page.text("recorded"))
    log = asked(folder, "log")["log"]
    assert log[0]["note"] == "said in a meeting"
    page.press("promote")
    page.until(lambda: "On record: live" in page.text("recorded"))
    live = asked(folder, "log")["live"][0]
    assert (live["author"], live["expect"]) == ("Ada", "tier A")

    # A search within what is locked.
    page.row("plan").find_element(By.CSS_SELECTOR, ".lock").click()
    page.type("search-form", experiments="100", note="from here")
    page.until(lambda: "Done" in page.text("found"))
    page.press("take", "#found")
    assert page.weights()["plan"] == moved["plan"]
    assert "from here" in [row["note"] for row in asked(folder, "log")["log"]]
    assert strange_requests(browser, desk.origin) == []
    assert browser.logged("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_seen_whole_and_read_with_ease(
    browser: Browser, desk: RunningDesk, width: int
) -> None:
    page = Page(browser, desk)
    page.open("?set=depth%3D40", width=width)
    page.slider("logins").send_keys(Keys.ARROW_LEFT)
    page.settled()
    page.type("accounts", account="acct-00001")
    page.press("front")
    page.press("ask-look")
    page.until(lambda: page.driver.find_elements(By.ID, "look-now"))
    page.until(lambda: "points" in page.text("account"))
    page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#front li, #front p"))
    unnamed = browser.ask(
        "return [...document.querySelectorAll('input, button, select')].filter(e => "
        "!(e.labels && e.labels.length) && !e.getAttribute('aria-label') && "
        "!e.textContent.trim()).map(e => e.outerHTML)"
    )
    assert unnamed == []
    for scheme in browser.by_day_and_night():
        ground = browser.ask("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light"), scheme
        wide = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], scheme
        assert browser.ask(CONTRAST) == [], scheme
        if PICTURES:
            browser.shoot(Path(PICTURES) / f"desk-{width}-{scheme}.png")
    assert browser.logged("browser") == []


def made(folder: Path, table: pl.DataFrame, spec: ScoringSpec) -> None:
    table.write_parquet(folder / "accounts.parquet")
    (folder / "spec.yaml").write_text(to_yaml(spec), "utf-8")


def test_hostile_words_stay_words(browser: Browser, tmp_path: Path) -> None:
    table = make_accounts(300, 5)
    ids = [f"{HOSTILE[i % len(HOSTILE)]} {i}" for i in range(table.height)]
    plans = pl.Series([HOSTILE[i % 3] for i in range(table.height)])
    table = table.with_columns(account_id=pl.Series(ids), region=plans, area=plans)
    table = table.rename({"depth": HOSTILE[2], "logins": HOSTILE[4]})
    values = {HOSTILE[0]: 1, HOSTILE[1]: 0.5}
    features = {
        HOSTILE[2]: weighted(5, low=-50, high=50, description=HOSTILE[5]),
        HOSTILE[4]: weighted(5, encode={"kind": "range", "from": 0, "to": 40}),
        HOSTILE[1]: weighted(
            9, column="region", encode={"kind": "one_of", "values": values, "default": 0}
        ),
        "alert_created": weighted(20, encode={"kind": "bool"}),
    }
    tiers = {HOSTILE[0]: {"min": 20, "max": 101}, HOSTILE[1]: {"min": 0, "max": 20}}
    groups = {HOSTILE[0]: {"features": [HOSTILE[2]], "min": -40, "max": 40}}
    spec = make_spec(
        model=HOSTILE[4], features=features, tiers=tiers, groups=groups, segments=["area"]
    )
    made(tmp_path, table, spec)
    with RunningDesk(tmp_path, *OPENED, "--author", HOSTILE[1]) as desk:
        page = Page(browser, desk)
        for name in features:
            page.slider(name).send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        page.settled()
        page.type("accounts", account=ids[0])
        page.type("record-form", note=HOSTILE[4], expect=HOSTILE[2])
        page.until(lambda: "On record as" in page.text("recorded"))
        page.until(lambda: ids[0] in page.text("account"))
        page.slider("alert_created").send_keys(Keys.ARROW_LEFT)
        page.slider(HOSTILE[2]).send_keys(Keys.ARROW_LEFT)
        page.until(lambda: HOSTILE[2] in page.text("tried") and HOSTILE[4] in page.text("tried"))
        page.settled()
        page.driver.get(page.driver.current_url)
        assert page.weights()[HOSTILE[2]] == 2
        assert browser.ask("return window.pwned ?? null") is None
        assert browser.ask("return document.querySelectorAll('img, main script').length") == 0
        assert browser.logged("browser") == []


def test_sixty_features_are_moved_as_one(browser: Browser, tmp_path: Path) -> None:
    table = make_accounts(400, 3)
    names = [f"feature_number_{i:02}_of_a_long_list" for i in range(60)]
    columns = {
        name: pl.Series([(i * (7 + n)) % (11 + n) for i in range(400)])
        for n, name in enumerate(names)
    }
    encode = {"kind": "range", "from": 0, "to": 10}
    features = {name: weighted(2, low=-5, high=15, encode=encode) for name in names}
    made(tmp_path, table.with_columns(**columns), make_spec(features=features))
    with RunningDesk(tmp_path, *OPENED) as desk:
        page = Page(browser, desk)
        last = page.slider(names[-1])
        last.send_keys(*[Keys.ARROW_RIGHT] * 5)
        page.settled()
        assert page.weights()[names[-1]] == 7
        page.open(width=390)
        wide = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]


def test_a_table_that_changes_underneath_is_said_and_nothing_recorded(
    browser: Browser, tmp_path: Path
) -> None:
    made(tmp_path, make_accounts(300, 5), make_spec())
    with RunningDesk(tmp_path, *OPENED) as desk:
        page = Page(browser, desk)
        make_accounts(300, 6).write_parquet(tmp_path / "accounts.parquet")
        time.sleep(0.6)
        page.slider("depth").send_keys(Keys.ARROW_LEFT)
        page.settled()
        assert "The table has changed" in page.text("measured")
        page.type("record-form", note="too late")
        page.until(lambda: "isn't what it was" in page.text("status"))
        assert not (tmp_path / "journal").exists()


def experiments(desk: RunningDesk) -> int:
    shown = pages.values_in(desk.get()).get("search.experiments")
    return int(shown[0].exact or 0) if shown else 0


def until(there: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_two_desks_on_one_journal_and_one_that_is_killed(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path
    made(folder, synthetic.generate("health_score", accounts=1500), load(EXAMPLE))
    with RunningDesk(folder, *OPENED) as one, RunningDesk(folder, *OPENED) as two:
        page = Page(browser, one)
        page.slider("session_depth").send_keys(Keys.ARROW_LEFT)
        page.type("record-form", note="by the first")
        page.until(lambda: "On record as" in page.text("recorded"))
        assert "by the first" in two.post("tried", weight="session_depth")
        weights = page.weights()
        two.post("search", weights=weights, experiments="1000000", note="to be killed")
        page.type("search-form", experiments="60", note="beside it")
        page.until(lambda: "Done" in page.text("found"))
        until(lambda: experiments(two))
        assert two.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    with RunningDesk(folder, *OPENED) as again:
        assert "by the first" in again.post("tried", weight="session_depth")
        again.post("record", weights=weights | {"session_depth": 3}, note="after the kill")
    found = asked(folder, "verify")
    assert not found.get("problems"), found
    ended = {row["note"]: row["state"] for row in asked(folder, "sql", "runs")}
    assert ended.pop("to be killed") == "running or cut off"
    assert ended == dict.fromkeys(("by the first", "beside it", "after the kill"), "finished")


def test_a_stopped_search_and_a_closed_desk_keep_what_was_found(tmp_path: Path) -> None:
    folder = tmp_path
    made(folder, synthetic.generate("health_score", accounts=1500), load(EXAMPLE))
    with RunningDesk(folder, *OPENED) as desk:
        html = desk.post("search", weights={}, experiments="1000000", note="stopped by hand")
        assert 'data-going="1"' in html
        until(lambda: experiments(desk))
        desk.post("stop")
        until(lambda: "Stopped" in desk.get())
        assert "On record as" in desk.get()
        desk.post("search", weights={}, experiments="1000000", note="closed")
        until(lambda: experiments(desk))
    ended = {row["note"]: row for row in asked(folder, "sql", "runs")}
    assert {*ended} == {"stopped by hand", "closed"}
    for row in ended.values():
        assert row["state"] == "interrupted"
        assert row["experiments"] > 0
