"""A table with US dates and rows that break the contract, through every command that takes both."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from asked_once import asked_once
from factories import make_spec, weighted
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.journal.files import RunFiles

N = 400
SCALE = {"kind": "range", "from": 0, "to": 28, "invert": True}
SPEC = make_spec(
    features={
        "logins": weighted(20, encode={"kind": "range", "from": 0, "to": 50}),
        "last_login": weighted(10, encode={"kind": "days_before", "then": SCALE}),
    }
)
#: Days above 12 are none of these, so nothing but the option tells days from months.
US = ("--date-format", "%m/%d/%Y")
DATED = (*US, "--as-of", "2026-06-30")
ASIDE = ("--set-aside", "--set-aside-to", "left.csv")
#: Accounts that break the contract: the second by its feature, the others by their MRR alone.
BROKEN = ("a7", "a9", "a11")


def accounts(prefix: str = "a") -> pl.DataFrame:
    place = pl.int_range(pl.len())
    days = [date(2026, 1 + i % 6, 1 + i * 31 % 12) for i in range(N)]
    return pl.DataFrame(
        {
            "account_id": [f"{prefix}{i}" for i in range(N)],
            "logins": [i * 7919 % 50 for i in range(N)],
            "last_login": [f"{day:%m/%d/%Y}" for day in days],
            "retained_6mo": [int(i * 7919 % 50 > 15 or i % 9 == 0) for i in range(N)],
            "mrr": [100.0 + i for i in range(N)],
            "health": [i * 31 % 101 for i in range(N)],
        }
    ).with_columns(
        mrr=pl.when(place.is_in([7, 11])).then(-5.0).otherwise("mrr"),
        logins=pl.when(place == 9).then(None).otherwise("logins"),
    )


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    accounts().write_csv("a.csv")
    accounts("b").write_csv("b.csv")
    Path("s.json").write_text(SPEC.model_dump_json(by_alias=True, exclude_defaults=True), "utf-8")


def invoked(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


_BY_HAND = ("--note", "as agreed", "--author", "RevOps")
COMMANDS = {
    "try": ("try", "--data", "a.csv", "--set", "logins=21", *_BY_HAND),
    "record": ("record", "--data", "a.csv", "--since", "2026-01-31", *_BY_HAND),
    "backtest": ("backtest", "--data", "a.csv", "--score-column", "health"),
    "refresh": ("refresh", "--train", "a.csv", "--holdout", "b.csv", "--n", "5"),
    "drift": ("drift", "--data", "a.csv", "--against", "b.csv"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_rows_are_set_aside_and_dates_read_as_they_are_written(name: str) -> None:
    words = (*COMMANDS[name], "--spec", "s.json")
    for given, missing in ((DATED, "of the data contract"), ((*ASIDE, *DATED[2:]), "date")):
        refused = invoked(*words, *given)
        assert refused.exit_code == 3, refused.output
        assert missing in refused.output
    assert not Path("journal").exists()
    with asked_once(name if name != "try" else "try_weights"):
        done = invoked(*words, *DATED, *ASIDE)
        if name != "record":  # what is live already isn't recorded again
            as_json = invoked(*words, *DATED, *ASIDE, "--json")
            assert as_json.exit_code in (0, 10, 11), as_json.output
            json.loads(as_json.stdout)
    assert done.exit_code in (0, 10, 11), done.output
    assert "set aside: " in done.output
    assert "They are in left.csv, with the reasons." in done.output
    both = name in ("refresh", "drift")
    # Without outcomes a table breaks the contract by its features alone.
    broken = {"a9"} if name == "drift" else set(BROKEN)
    broken |= {each.replace("a", "b") for each in broken} if both else set()
    assert set(pl.read_csv("left.csv")["account_id"]) == broken


def test_explain_reads_dates_as_they_are_written() -> None:
    accounts().with_columns(pl.col("logins").fill_null(0)).write_csv("a.csv")
    words = ("explain", "a5", "--data", "a.csv", "--spec", "s.json", "--as-of", "2026-06-30")
    assert invoked(*words).exit_code == 3
    points = []
    for dated in (US, ("--date-format", "%d/%m/%Y")):
        done = invoked(*words, *dated, "--json")
        assert done.exit_code == 0, done.output
        lines = {line["name"]: line["points"] for line in json.loads(done.stdout)["lines"]}
        points.append(lines["last_login"])
    # It logged in on June 12, which read day first is December 6.
    assert accounts()["last_login"][5] == "06/12/2026"
    assert date(2026, 6, 30) - date(2026, 6, 12) == timedelta(18)
    assert points[0] == pytest.approx(10 * (1 - 18 / 28), abs=0.01)
    assert points[1] == 10


@pytest.mark.slow
def test_the_run_that_follows_a_checkout_sets_the_same_rows_aside() -> None:
    assert invoked(*COMMANDS["try"], "--spec", "s.json", *DATED, *ASIDE).exit_code == 0
    [folder] = Path("journal/runs").iterdir()
    run_id = folder.name.partition("=")[2]
    kept = dict(RunFiles(Path("journal"), run_id).record("start")["parameters"])
    assert float(kept["set_aside"]) == 0.01
    done = invoked("checkout", f"{run_id}/1", "-o", "out.yaml")
    [line] = [line for line in done.output.splitlines() if line.startswith("Next: ")]
    assert "--set-aside 0.01" in line
    again = invoked(*line.split()[2:], "--n", "5", "-q")
    assert again.exit_code == 0, again.output
