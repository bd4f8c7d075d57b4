"""The pages of a live score and of a walk: what is seen is what was found, and no account is."""

from __future__ import annotations

import html
import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from browser import DRIVER, Browser
from report.conftest import HOSTILE
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app

pytestmark = pytest.mark.slow

DAYS = [date(2025, 1, 1), date(2025, 4, 1), date(2025, 7, 1), date(2025, 10, 1)]
SPEC = {
    "model": HOSTILE[0],
    "max_score": 100,
    "id": "account_id",
    "window": {
        "features_asof": "features_until",
        "outcome_start": "outcome_start",
        "outcome_end": "outcome_end",
    },
    "features": {
        name: {
            "weight": weight,
            "min": -100,
            "max": 100,
            "encode": {"kind": "range", "from": 0, "to": top},
        }
        for name, weight, top in (("logins", 60, 30), ("tickets", 5, 10))
    },
    "tiers": {
        HOSTILE[2]: {"min": 40, "max": 101},
        "B": {"min": 20, "max": 40},
        "C": {"min": 0, "max": 20},
    },
    "split": {"holdout": 0},
}


def write(folder: Path) -> None:
    """Write four quarters of the same accounts, those who left gone; the last turns round."""
    draw = np.random.default_rng(3)
    here = np.arange(400)
    for number, day in enumerate(DAYS):
        logins = draw.integers(0, 31, len(here))
        sign = -1 if number == 3 else 1
        stays = draw.random(len(here)) < 1 / (1 + np.exp(-sign * (logins - 5) / 3))
        place = folder / f"features_asof={day}"
        place.mkdir(parents=True)
        pl.DataFrame(
            {
                "account_id": [f"secret{n}" for n in here],
                "features_until": [day - timedelta(days=1)] * len(here),
                "logins": logins,
                "tickets": draw.integers(0, 11, len(here)),
                "outcome_start": [day] * len(here),
                "outcome_end": [day + timedelta(days=85)] * len(here),
                "mrr": [100.0] * len(here),
                "mrr_end": np.where(stays, 100.0, 0.0),
                "retained_6mo": stays.astype(int),
            }
        ).write_parquet(place / "accounts.parquet")
        here = np.concatenate([here[stays], 1000 * (number + 1) + np.arange(60)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Any:
    """Return a folder with both pages, and what --json says of each."""
    place = tmp_path_factory.mktemp("team")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        spec = specs.ScoringSpec.model_validate(SPEC)
        calibrated = spec.model_copy(update={"model": spec.model})
        runs.promote(
            specs.reweighed(calibrated, {"logins": 30, "tickets": 30}),
            note="first",
            author=HOSTILE[1],
            expect=HOSTILE[4],
        )
        runs.promote(calibrated, note="agreed", expect="auc_roc_retain >= 0.6")
        for name, weights in (("one", {"logins": 90}), ("two", {"logins": 20, "tickets": 60})):
            shadow = specs.reweighed(calibrated, weights)
            Path(f"{name}.yaml").write_text(specs.to_json(shadow), "utf-8")
        every = place / "every"
        write(every)
        (place / "accounts").mkdir()
        for day in DAYS:
            name = f"features_asof={day}"
            (every / name).rename(place / "accounts" / name)
            page = ("-o", "live.html") if day == DAYS[-1] else ()
            words = ("--shadow", "one.yaml", "--shadow", "two.yaml", *page)
            watched = invoke("watch", "--data", "accounts", *words)
        Path("spec.yaml").write_text(specs.to_json(calibrated), "utf-8")
        words = ("walk", "--data", "accounts", "--spec", "spec.yaml", "--n", "20")
        walked = invoke(*words, "-o", "walk.html", "--quiet")
    return place, watched, walked


def invoke(*words: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code in (0, 10, 11), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


NUMBER = re.compile(r'<data data-key="([^"]+)" value="([^"]+)">')


def numbers(page: str) -> dict[str, float]:
    return {html.unescape(key): float(value) for key, value in NUMBER.findall(page)}


def test_the_live_page_has_what_was_measured(folder: Any) -> None:
    place, said, _ = folder
    page = (place / "live.html").read_text("utf-8")
    shown = numbers(page)
    assert said["output"] == "live.html"
    assert len(said["measurements"]) == 4
    for each in said["measurements"]:
        day, own = each["day"], each["metrics"][each["objective"]]
        assert shown[f"{day}.value"] == own["value"]
        assert shown[f"{day}.value.low"] == own["low"]
        assert shown[f"{day}.gain.predecessor"] == each["gains"]["predecessor"]["value"]
        for tier in each["tiers"]:
            assert shown[f"{day}.{tier['tier']}.accounts"] == tier["accounts"]
            assert shown[f"{day}.{tier['tier']}.retained"] == tier["retained"]
    assert shown["2025-10-01.psi"] == said["drifts"][-1]["psi"]
    assert len(said["drifts"]) == 4
    assert said["drifts"][0]["psi"] is None
    assert [each["expect"] for each in said["history"]] == [HOSTILE[4], "auc_roc_retain >= 0.6"]
    assert page.count("▼ broken") == 1
    assert 'class="worse">' in page.split("<h1")[0] + page.split("<h1")[1][:20]
    rows = {row["days"]: row for row in said["before_leaving"]}
    assert shown["before.30.leavers"] == rows[30]["leavers"]


def test_names_of_metrics_break_between_their_words(folder: Any) -> None:
    page = (folder[0] / "live.html").read_text("utf-8")
    assert "<td>auc_<wbr>roc_<wbr>retain</td>" in page
    assert "<td>auc_<wbr>roc_<wbr>retain &gt;= 0.6</td>" in page


def test_the_live_page_draws_shadows_beside_the_live_score(folder: Any) -> None:
    place, said, _ = folder
    page = (place / "live.html").read_text("utf-8")
    shown = numbers(page)
    names = {name for each in said["measurements"] for name in each["gains"]} - {"predecessor"}
    assert len(names) == 2
    for each in said["measurements"]:
        for name in names:
            assert shown[f"{each['day']}.gain.{name}"] == each["gains"][name]["value"]
    drawn = page.partition("Gain over the live score, by date:")
    assert all(f"</i>{name}</span>" in drawn[2].partition("</figcaption>")[0] for name in names)
    chart = drawn[0].rpartition("<figure>")[2]
    assert "Chart of the gain of 2 shadows over the live score" in chart
    # Wide and narrow: an interval a shadow and date, and the line at 0.
    assert chart.count("<svg") == 2


def test_the_live_page_has_the_time_to_leaving(folder: Any) -> None:
    place, said, _ = folder
    page = (place / "live.html").read_text("utf-8")
    shown = numbers(page)
    bands = said["time_to_leaving"]["bands"]
    known = [each for each in bands if each["gone"]["value"] is not None]
    assert {each["days"] for each in known} == {90, 180}
    for each in known:
        key = f"leaves.{each['by']}.{each['band']}.{each['days']}"
        assert shown[key] == each["gone"]["value"]
        assert shown[f"{key}.high"] == each["gone"]["high"]
    assert "no date lies about 30 days after another" in page
    # Those in the best tier leave least.
    at = [each["gone"]["value"] for each in known if each["by"] == "tier" and each["days"] == 90]
    assert at[0] < at[-1]


def test_the_walks_page_has_what_was_found(folder: Any) -> None:
    place, _, said = folder
    page = (place / "walk.html").read_text("utf-8")
    shown = numbers(page)
    assert len(said["steps"]) == 3
    for step in said["steps"]:
        assert step["run_id"] in page
        for side, value in step["values"].items():
            assert value is None or shown[f"{step['day']}.{side}"] == value
    for name, gain in said["gains"].items():
        assert shown[f"gain.{name}"] == gain["value"]
        assert shown[f"gain.{name}.low"] == gain["low"]
        assert shown[f"wins.{name}"] == said["wins"][name]
        assert shown[f"caught.{name}"] == said["caught"][name]
    assert html.escape(said["sentence"], quote=False) in page


@pytest.mark.parametrize("name", ["live.html", "walk.html"])
def test_a_page_names_no_account_and_runs_nothing(folder: Any, name: str) -> None:
    page = (folder[0] / name).read_text("utf-8")
    assert "secret" not in page
    assert "<script" not in page.lower()
    assert "<img" not in page.lower()
    assert "default-src &#39;none&#39;" in page


@pytest.mark.skipif(DRIVER is None, reason="no chromium and chromedriver here")
@pytest.mark.parametrize("name", ["live", "walk"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_seen_whole(browser: Browser, folder: Any, name: str, width: int) -> None:
    seen = browser.open(folder[0] / f"{name}.html", width=width)
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
    assert browser.ask(charts) == {"live": 4, "walk": 2}[name]
    assert browser.ask("return window.pwned ?? null") is None
