"""The page of a bridge: what is seen is what the bridge has, on a desk and on a phone."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from blank_charts import blank_charts
from browser import DRIVER, Browser
from report.conftest import HOSTILE
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.snapshots.bridge import MOVEMENTS

#: Two accounts stay, one pauses, one leaves and returns, one has a hostile name and sells once.
ROWS = [
    ("one", date(2023, 1, 1), None, 120.25, "plan"),
    ("one", date(2023, 6, 1), None, 30.5, "plan"),
    ("two", date(2023, 1, 1), date(2023, 5, 10), 80.0, "plan"),
    ("two", date(2023, 6, 5), date(2023, 9, 1), 90.0, "plan"),
    ("three", date(2023, 2, 1), date(2023, 4, 1), 55.0, "plan"),
    ("three", date(2023, 10, 1), None, 45.0, "plan"),
    (HOSTILE[0], date(2023, 3, 1), date(2023, 3, 2), 999.0, "setup"),
    (HOSTILE[0], date(2023, 3, 1), None, 0.0, "plan"),
]
RECIPE = """
name: "{name}"
id: id
sources: {{subs: {{data: subs.parquet, account: id, from: start, until: end}}}}
dates: [2023-03-01]
window: 1 month
data_until: 2024-01-01
revenue: {{subscriptions: {{source: subs, amount: amount, gap: 30 days, one_off: kind = 'setup'}}}}
totals: {{data: books.parquet, month: month, amount: amount}}
rules: {{overlaps: add}}
features: {{tenure: {{tenure: subs}}}}
"""


def write(folder: Path) -> None:
    """Write the rows, the recipe and the totals of the books."""
    schema = {"id": pl.String, "start": pl.Date, "end": pl.Date, "amount": pl.Float64}
    pl.DataFrame(ROWS, schema={**schema, "kind": pl.String}, orient="row").write_parquet(
        folder / "subs.parquet"
    )
    (folder / "snapshots.yaml").write_text(RECIPE.format(name="books & <b>"), "utf-8")
    books = {"month": [date(2023, 6, 1), date(2023, 7, 1)], "amount": [240.75, 250.75]}
    pl.DataFrame(books).write_parquet(folder / "books.parquet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with its charts, and what `made` told of it."""
    folder = tmp_path_factory.mktemp("drawn")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "told.json").write_text(json.dumps(made()), "utf-8")
    return folder / "bridge.html"


def made(*more: str) -> dict[str, Any]:
    words = ["bridge", "snapshots.yaml", "-o", "bridge.html", "--force", "--json", *more]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 3, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


NUMBER = re.compile(r'<data data-key="(\d{4}-\d{2})\.(\w+)" value="(-?[\d.]+)">')


def cents(page: str) -> dict[tuple[str, str], int]:
    return {(m, k): round(float(v) * 100) for m, k, v in NUMBER.findall(page)}


@pytest.mark.slow
def test_the_page_has_all_numbers_of_the_bridge_and_what_is_wrong_with_it(drawn: Path) -> None:
    found = json.loads(drawn.with_name("told.json").read_text("utf-8"))
    page = drawn.read_text("utf-8")
    assert "<script" not in page.lower()
    assert "script-src" not in page
    assert "default-src &#39;none&#39;" in page
    names = ("start", *MOVEMENTS, "end", "one_off")
    assert cents(page) == {
        (row["month"], name): row[name] for row in found["months"] for name in names if row[name]
    }
    assert {name for _, name in cents(page)} == {*names} - {"contraction"}
    assert "1 difference, and 1 kind of contradiction without a rule" in page
    assert "2023-07: 240.75 here, 250.75 by the totals of the recipe: 10.00 less." in page
    assert page.count("▼ differs") == 1
    # In both charts, on a desk, each month has its place, also where nothing moved.
    wide = re.findall(r'<svg[^>]*class="chart wide".*?</svg>', page, re.DOTALL)
    assert [[f">{row['month']}<" in chart for row in found["months"]] for chart in wide] == (
        [[True] * 12] * 2
    )
    assert "1 subscription has an amount of 0" in page
    assert "zero_amounts: not paying, in rules, says that they are no revenue" in page
    assert "kind = &#39;setup&#39;" in page


def test_the_page_of_one_account_has_its_months_alone(folder: Path) -> None:
    with blank_charts():
        found = made("--account", "two")
    page = (folder / "bridge.html").read_text("utf-8")
    assert cents(page)["2023-05", "pause"] == -8000
    assert cents(page)["2023-06", "resumption"] == 9000
    assert cents(page)["2023-09", "churn"] == -9000
    assert {month for month, _ in cents(page)} == {row["month"] for row in found["months"]}
    assert "▼ differs" not in page
    assert "of two alone" in page


@pytest.mark.slow
@pytest.mark.skipif(DRIVER is None, reason="no chromium and chromedriver here")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_seen_whole(browser: Browser, drawn: Path, width: int) -> None:
    seen = browser.open(drawn, width=width)
    assert not seen.console
    assert not seen.requests
    size = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
    assert size[0] <= size[1]
    script = (Path(__file__).parent / "contrast.js").read_text("utf-8")
    assert [browser.ask(script) for _ in browser.by_day_and_night()] == [[], []]
    off = (
        "return [...document.querySelectorAll('main table :is(th, td)')]"
        ".filter((c) => c.getBoundingClientRect().right > innerWidth + 0.5).length"
    )
    assert browser.ask(off) == 0
    charts = (
        "return [...document.querySelectorAll('svg')].filter((s) => "
        "s.getBoundingClientRect().width > 200).length"
    )
    assert browser.ask(charts) == 2
    assert browser.ask("return window.pwned ?? null") is None
