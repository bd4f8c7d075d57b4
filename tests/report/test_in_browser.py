"""Pages opened in headless Chromium: no error, no request, what is seen is what the journal has."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pages
import polars as pl
import pytest
from browser import DRIVER, Browser
from report.conftest import HOSTILE, Searched
from short_searches import short_searches
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.journal.catalog import Journal

if TYPE_CHECKING:
    from browser import Seen

pytestmark = [
    pytest.mark.skipif(
        DRIVER is None, reason="no chromium and chromedriver here; Debian's packages bring them"
    ),
    pytest.mark.slow,
]

REAL = Path(os.environ.get("GTMAR_REAL_TABLES", Path(__file__).parents[3] / "shared" / "data"))
TABLES = ("saas_churn", "cdnow", "iranian_churn", "bank_marketing")
WIDTHS = (1280, 390)
#: Where set, pictures of all pages are left in this folder, to be looked at.
PICTURES = os.environ.get("GTMAR_PICTURES")


def script(name: str) -> str:
    return (Path(__file__).parent / f"{name}.js").read_text("utf-8")


def is_quiet(seen: Seen) -> bool:
    return not seen.console and not seen.requests


def contrast(browser: Browser) -> list[list[Any]]:
    """Return all texts that are too faint to read."""
    found: list[list[Any]] = browser.ask(script("contrast"))
    return found


NUMBERS = """
return [...document.querySelectorAll("[data-key]")].map(
  (e) => [e.dataset.key, e.textContent.trim(), e.tagName === "DATA" ? e.value : null]);
"""


def check_report(browser: Browser, page: Path, searched: Searched, width: int) -> None:
    """Open a report and hold what is seen, light and dark, against the journal's own files."""
    assert is_quiet(browser.open(page, width=width))
    size = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
    assert size[0] <= size[1], "the page is wider than the window"
    browser.ask("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    size = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
    assert size[0] <= size[1], "the page is wider than the window where all is unfolded"
    expected = numbers_of(searched.journal, searched.run_id)
    seen: dict[str, list[pages.Shown]] = {}
    for key, text, exact in browser.ask(NUMBERS):
        seen.setdefault(key, []).append(pages.Shown(text, exact))
    assert expected.keys() <= seen.keys()
    wrong = [
        (key, shown, value)
        for key, value in expected.items()
        for shown in seen[key]
        if not pages.agrees(shown, value)
    ]
    assert not wrong
    assert len(browser.ask(VISIBLE_CHARTS)) == browser.ask(
        "return document.querySelectorAll('figure').length"
    )
    for scheme in browser.by_day_and_night():
        ground = browser.ask("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        assert contrast(browser) == [], scheme
        picture(browser, f"{page.stem}-{width}-{scheme}")


@cache
def numbers_of(journal: Path, run_id: str) -> dict[str, float | None]:
    """What a report must show of a run; in each way of looking at it the same."""
    of_run = (journal, run_id)
    expected = pages.report_numbers(*of_run) | pages.proof_numbers(*of_run)
    return expected | pages.revenue_numbers(*of_run) | segment_numbers(*of_run)


def segment_numbers(journal: Path, run_id: str) -> dict[str, float | None]:
    """What a report must show of segments, as `gtmar segments --json` has it."""
    words = ["segments", run_id, "--journal", str(journal), "--json"]
    told = CliRunner().invoke(app, words)
    if told.exit_code:
        assert "names no segments" in told.stderr
        return {}
    found: dict[str, float | None] = {}
    for part in json.loads(told.stdout)["parts"]:
        of_part = f"segments.{part['part']}"
        gaps = {f"{of_part}.gap.{end}": part[f"gap_{end}"] for end in ("start", "best")}
        found |= gaps if None not in gaps.values() else {}
        for line in part["lines"]:
            key = f"{of_part}.{line['name']}"
            found[f"{key}.accounts"] = line["accounts"]
            spans = {name: line[name] for name in ("start", "best", "change")}
            if line["start"]["value"] is not None:
                for side in ("retention", "at_start", "at_best"):
                    spans |= {f"{side}.{name}": span for name, span in line[side].items()}
            for name, span in spans.items():
                found[f"{key}.{name}"] = span["value"]
                if span["low"] is not None:
                    found |= {f"{key}.{name}.{end}": span[end] for end in ("low", "high")}
    return found


#: Charts that are seen: one of the two drawings of each figure, with its text.
VISIBLE_CHARTS = """
return [...document.querySelectorAll("svg")]
  .filter((s) => s.getBoundingClientRect().width > 200 && s.getAttribute("aria-label"))
  .map((s) => s.getAttribute("aria-label"));
"""


def picture(browser: Browser, name: str) -> None:
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        browser.shoot(Path(PICTURES) / f"{name}.png")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Searched]:
    """The demo and its report, made by the two commands; the search is a shorter one."""
    folder = tmp_path_factory.mktemp("demo")
    page = folder / "demo.html"
    with short_searches(300):
        for words in (
            ["demo", "--folder", str(folder), "--quiet"],
            ["report", "-o", str(page), "--journal", str(folder / "journal")],
        ):
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, result.output
    with Journal(folder / "journal") as journal:
        return page, Searched(folder, folder / "accounts.parquet", journal.run_id())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_of_the_demo(browser: Browser, demo: tuple[Path, Searched], width: int) -> None:
    page, searched = demo
    check_report(browser, page, searched, width)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_verdict_costs_and_tiers_are_on_the_first_screen(
    browser: Browser, demo: tuple[Path, Searched], width: int, height: int
) -> None:
    page, _ = demo
    browser.open(page, width=width)
    for scheme in browser.by_day_and_night():
        # The lowest edge of each, in CSS pixels: sentences, what got worse, the chart of tiers.
        ends = browser.ask(
            "return ['h1', 'header .lead', '.costs', 'header figure svg'].map((s) => "
            "[...document.querySelectorAll(s)].filter((e) => e.getClientRects().length))"
            ".map((all) => Math.max(...all.map((e) => e.getBoundingClientRect().bottom)))"
        )
        assert all(0 < end <= height for end in ends), (scheme, ends)


OFF_SCREEN = """
return [...document.querySelectorAll("main table :is(th, td)")]
  .filter((cell) => cell.getBoundingClientRect().right > innerWidth + 0.5)
  .map((cell) => [cell.closest("table").caption.textContent, cell.textContent]);
"""


def test_on_a_phone_no_column_is_off_the_screen(
    browser: Browser, demo: tuple[Path, Searched]
) -> None:
    page, _ = demo
    browser.open(page, width=390)
    browser.ask("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    heads = browser.ask(
        "return [...document.querySelectorAll('thead th')].map((h) => h.textContent)"
    )
    assert {"Change", "Reading"} <= {*heads}
    assert browser.ask(OFF_SCREEN) == []


@pytest.mark.parametrize("name", TABLES)
def test_the_report_of_a_real_table(name: str, browser: Browser, tmp_path: Path) -> None:
    whole = REAL / f"{name}.parquet"
    if not whole.is_file():
        pytest.skip(f"{whole} is not here; GTMAR_REAL_TABLES names the tables' folder")
    # Names, categories and outcomes of a real table, of as many accounts as they need.
    table = tmp_path / f"{name}.parquet"
    real = pl.read_parquet(whole)
    real.sample(min(1_000, real.height), seed=1).write_parquet(table)
    page, journal = tmp_path / f"{name}.html", tmp_path / "journal"
    for words in (
        ["run", "--data", str(table), "--n", "30", "--quiet", "--journal", str(journal)],
        ["report", "-o", str(page), "--journal", str(journal)],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    with Journal(journal) as opened:
        searched = Searched(tmp_path, table, opened.run_id())
    for width in WIDTHS:
        check_report(browser, page, searched, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_of_a_run_with_segments_and_proof(
    browser: Browser, proven: Searched, tmp_path: Path, width: int
) -> None:
    page = saved(proven.drawn, tmp_path, "proven")
    shown = numbers_of(proven.journal, proven.run_id)
    assert {"segments", "null", "stability"} <= {key.partition(".")[0] for key in shown}
    check_report(browser, page, proven, width)
    for section in ("revenue", "segments", "chance"):
        assert browser.visible(f"nav a[href='#{section}']")
        said = browser.ask(
            "return document.querySelector(`#${arguments[0]} p`).textContent", section
        )
        assert len(said.split()) > 8, "a sentence comes first"
    assert browser.ask(script("faults")) == []


# ---- for everybody ----------------------------------------------------------------------------


def saved(page: Any, folder: Path, name: str) -> Path:
    path = folder / f"{name}.html"
    path.write_text(page.html, "utf-8")
    return path


def test_every_win_is_marked_and_named(
    browser: Browser, searched: Searched, tmp_path: Path
) -> None:
    browser.open(saved(searched.drawn, tmp_path, "wins"))
    titles = browser.ask(
        "return [...document.querySelectorAll('#progress svg.wide path > title')]"
        ".map((t) => t.textContent)"
    )
    rows = pages.experiments_of(searched.journal, searched.run_id)
    wins = [row for row in rows if row["outcome"] == "win"]
    assert len(titles) == len(wins) > 5
    for title, row in zip(titles, wins, strict=True):
        size = {n: -abs(c["after"] - c["before"]) for n, c in row["changes"].items()}
        three = sorted(size, key=lambda name: (size[name], name))[:3]
        ends = {name: row["changes"][name] for name in three}
        changes = ", ".join(f"{n}: {c['before']} \u2192 {c['after']}" for n, c in ends.items())
        changes += f" and {len(size) - 3} more" if len(size) > 3 else ""
        gain = row["value_after"] - row["value_before"]
        assert title == f"{row['experiment_id']}: {changes} ({gain:+.4f})"


def test_it_can_be_read_by_keyboard_and_by_ear(
    browser: Browser, searched: Searched, tmp_path: Path
) -> None:
    for name, page in (("report", searched.drawn), ("history", searched.past)):
        browser.open(saved(page, tmp_path, name))
        assert browser.ask("return document.documentElement.lang") == "en"
        levels = browser.ask(
            "return [...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))"
        )
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels)), "a level skipped"
        faults = browser.ask(script("faults"))
        assert faults == [], name
        first = browser.tab()
        assert first["text"] == "Skip to the content"
        assert first["outline"] != "none"
        browser.press_enter()
        assert browser.ask("return document.activeElement.id") == "content"
        assert browser.tab()["outline"] != "none"


def test_it_prints_on_white_without_what_only_a_screen_needs(
    browser: Browser, searched: Searched, tmp_path: Path
) -> None:
    browser.open(saved(searched.drawn, tmp_path, "print"), scheme="dark")
    browser.print_media()
    look = (
        "return [getComputedStyle(document.body).backgroundColor, "
        "document.querySelector('nav').offsetHeight]"
    )
    assert browser.ask(look) == ["rgb(255, 255, 255)", 0]
    assert contrast(browser) == []


# ---- history ----------------------------------------------------------------------------------

SHOWN = "return [...document.querySelectorAll('.entry')].filter((e) => !e.hidden).map((e) => e.id)"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, searched: Searched) -> Path:
    """The history of a journal with two searches and a person's change."""
    folder = tmp_path_factory.mktemp("story")
    journal = searched.journal
    shutil.copytree(journal, folder / "journal")
    spec = folder / "best.yaml"
    changed = ["--set", "logins=1", "--note", "logins are noise", "--author", "CS ops"]
    for line in (
        ["checkout", searched.run_id, "-o", str(spec)],
        ["try", "--data", str(searched.table), "--spec", str(spec), *changed],
        ["promote", str(spec), "--note", "measured", "--author", "RevOps"],
        ["report", "--history", "-o", str(folder / "history.html")],
    ):
        result = CliRunner().invoke(app, [*line, "--journal", str(folder / "journal")])
        assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("width", WIDTHS)
def test_a_history_is_seen_whole(browser: Browser, story: Path, width: int) -> None:
    assert is_quiet(browser.open(story / "history.html", width=width))
    assert len(browser.ask(SHOWN)) == 3
    browser.ask("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    size = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
    assert size[0] <= size[1]
    for scheme in browser.by_day_and_night():
        assert contrast(browser) == [], scheme
        picture(browser, f"history-{width}-{scheme}")


def test_a_history_can_be_filtered(browser: Browser, story: Path) -> None:
    browser.open(story / "history.html")
    choose = (
        "const f = document.getElementById('filter');"
        "f.elements[arguments[0]].value = arguments[1];"
        "f.dispatchEvent(new Event('input'))"
    )
    browser.ask(choose, "kind", "human")
    [only] = browser.ask(SHOWN)
    assert browser.ask("return document.getElementById('shown').textContent") == "1 of 3 shown"
    browser.ask(choose, "author", "RevOps")
    assert browser.ask(SHOWN) == []
    browser.ask("document.querySelector('#filter button').click()")
    browser.ask(choose, "words", "NOISE logins")
    assert browser.ask(SHOWN) == [only]


def test_two_experiments_can_be_compared(browser: Browser, story: Path, searched: Searched) -> None:
    browser.open(story / "history.html")
    rows = pages.experiments_of(searched.journal, searched.run_id)
    kept = [row for row in rows if row["outcome"] in ("baseline", "win")]
    one, two = kept[0], kept[-1]
    for row in (one, two):
        browser.ask(
            "document.querySelector(`td input[value='${arguments[0]}']`).click()",
            f"{searched.run_id}/{row['experiment_id']}",
        )
    table = browser.ask(
        "return [...document.querySelectorAll('#compared tbody tr')].map((r) => "
        "[r.cells[0].textContent, ...[...r.querySelectorAll('data')].map((d) => Number(d.value))])"
    )
    expected = {n: [w, two["weights"][n]] for n, w in one["weights"].items()}
    expected = {n: pair for n, pair in expected.items() if pair[0] != pair[1]}
    expected["auc_roc_retain"] = [one["value_after"], two["value_after"]]
    assert {row[0]: row[1:] for row in table} == expected
    picture(browser, "compared")


def test_without_script_all_of_it_is_there(browser: Browser, story: Path) -> None:
    seen = browser.open(story / "history.html", script=False)
    assert not seen.requests
    shown = browser.visible(".entry")
    assert shown == 3
    assert browser.visible("form") == 0
    assert browser.visible("input") == 0


def test_a_link_leads_down_to_one_experiment(
    browser: Browser, story: Path, searched: Searched
) -> None:
    name = f"{searched.run_id}/exp_00000"
    browser.open(story / "history.html", anchor=name)
    box = browser.ask("return document.getElementById(arguments[0]).getBoundingClientRect()", name)
    assert box["height"] > 0
    assert 0 <= box["top"] < 900


# ---- hostile words ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["report", "history"])
def test_hostile_words_do_nothing(
    kind: str, browser: Browser, hostile: Searched, tmp_path: Path
) -> None:
    page = hostile.drawn if kind == "report" else hostile.past
    path = saved(page, tmp_path, "hostile")
    assert is_quiet(browser.open(path, width=390))
    browser.ask(
        "document.querySelectorAll('details').forEach((d) => (d.open = true));"
        "document.querySelectorAll('input[type=checkbox]').forEach((c) => c.click());"
        "for (const e of document.querySelectorAll('*')) e.dispatchEvent(new Event('mouseover'))"
    )
    assert browser.ask("return window.pwned ?? null") is None
    strays = "img, iframe, object, embed, a:not([href^='#'])"
    assert browser.ask("return document.querySelectorAll(arguments[0]).length", strays) == 0
    size = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
    assert size[0] <= size[1]
    text = browser.ask("return document.body.textContent")
    # Tiers stand in the report alone; who promoted it and why, in the history alone.
    said = {*HOSTILE} - ({HOSTILE[3], HOSTILE[5]} if kind == "report" else {HOSTILE[1]})
    assert all(word in text for word in said)


@pytest.mark.parametrize("kind", ["report", "history"])
def test_the_pages_own_policy_stops_what_would_get_through(
    kind: str, browser: Browser, searched: Searched, tmp_path: Path
) -> None:
    page = searched.drawn if kind == "report" else searched.past
    inside = (
        "<script>window.pwned=1</script><img src='https://example.org/x' onerror='window.pwned=1'>"
    )
    path = tmp_path / "broken.html"
    path.write_text(page.html.replace("<main", f"{inside}<main"), "utf-8")
    seen = browser.open(path)
    assert browser.ask("return window.pwned ?? null") is None
    assert len(seen.console) >= 2
    assert all("Content Security Policy" in line for line in seen.console)
