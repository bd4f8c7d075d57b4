"""Raw history with a planted truth: the score recovers it, and a CRM of today spoils it.

The folder's README is run as it is written, and so are the four commands of docs/snapshots.md.
"""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import printed
from examples.test_examples import blocks, missing
from short_searches import short_searches
from sklearn.metrics import roc_auc_score

from gtmar import runs, spec
from gtmar.snapshots import recipe
from gtmar.snapshots.build import build

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "from_history"
README = (EXAMPLE / "README.md").read_text("utf-8")
MADE: dict[str, Any] = runpy.run_path(str(EXAMPLE / "generate.py"))
#: The feature of each planted cause.
FEATURES = {what: f"{what}es_90" if what == "search" else f"{what}s_90" for what in MADE["PLANTED"]}
CRM_FEATURE = "\n  crm_status: {latest: crm.status}\n"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    MADE["write"](folder)
    for name in ("snapshots.yaml", "spec.yaml"):
        shutil.copy(EXAMPLE / name, folder)
    return folder


@pytest.fixture(scope="module")
def tables(history: Path) -> list[pl.DataFrame]:
    """The tables of both dates, with the CRM's status, which the example's recipe leaves out."""
    text = (history / "snapshots.yaml").read_text("utf-8") + CRM_FEATURE
    built = build(recipe.parse(text), history / "with_crm", base=history)
    assert any('Source "crm" is as it is today' in note for note in built.notes)
    return [pl.read_parquet(Path(table.data) / "accounts.parquet") for table in built.tables]


def searched(table: pl.DataFrame, folder: Path, *, crm: bool) -> runs.RunResult:
    text = (EXAMPLE / "spec.yaml").read_text("utf-8")
    if crm:
        [extra] = [content for language, content in blocks(README) if language == "yaml"]
        text = text.replace("\ntiers:", f"\n{extra}\ntiers:", 1)
    limits = runs.Limits(2_000)
    return runs.run(table, spec.parse(text), seed=0, limits=limits, journal=folder / "journal")


def auc(table: pl.DataFrame, found: runs.RunResult) -> float:
    scores = runs.score(table, found.spec)
    return float(roc_auc_score(table["retained_6mo"], scores["score"]))


def planted_auc(table: pl.DataFrame) -> float:
    pulls = [
        strength * table[FEATURES[what]].to_numpy() / MADE["FULL"][what]
        for what, strength in MADE["PLANTED"].items()
    ]
    return float(roc_auc_score(table["retained_6mo"], np.sum(pulls, axis=0)))


@pytest.fixture(scope="module")
def honest(tables: list[pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    return searched(tables[0], tmp_path_factory.mktemp("honest"), crm=False)


@pytest.fixture(scope="module")
def lying(tables: list[pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    return searched(tables[0], tmp_path_factory.mktemp("lying"), crm=True)


def held_out(found: runs.RunResult) -> float:
    assert found.holdout is not None
    return float(found.holdout["best_value"])


def test_weights_have_the_sign_and_the_rank_of_what_was_planted(honest: runs.RunResult) -> None:
    planted = {FEATURES[what]: strength for what, strength in MADE["PLANTED"].items()}
    assert list(honest.weights) == list(planted)
    assert (
        np.sign(list(honest.weights.values())).tolist() == np.sign(list(planted.values())).tolist()
    )
    by_strength = [
        sorted((name for name in named if named[name] >= 0), key=lambda name: named[name])
        for named in (honest.weights, planted)
    ]
    assert by_strength[0] == by_strength[1]


def test_the_score_ranks_as_well_as_the_planted_formula(
    honest: runs.RunResult, tables: list[pl.DataFrame]
) -> None:
    assert held_out(honest) == pytest.approx(planted_auc(tables[0]), abs=0.02)
    for table in tables:
        assert auc(table, honest) == pytest.approx(planted_auc(table), abs=0.003)


def test_the_crm_of_today_looks_better_on_paper_and_fails_forward(
    honest: runs.RunResult, lying: runs.RunResult, tables: list[pl.DataFrame]
) -> None:
    later = tables[1]
    assert held_out(lying) > held_out(honest) + 0.1
    assert auc(later, lying) < auc(later, honest) - 0.04
    rows = re.findall(r"^\| [\w' ]+ \| (0\.\d+) \| (0\.\d+) \|$", README, re.MULTILINE)
    assert rows == [
        (f"{held_out(found):.3f}", f"{auc(later, found):.3f}") for found in (honest, lying)
    ]


def test_leakage_warns_of_the_crm_alone(honest: runs.RunResult, lying: runs.RunResult) -> None:
    assert honest.findings == ()
    [finding] = lying.findings
    assert (finding.kind, finding.column) == ("leak", "crm_status")
    assert "AUC 0.866" in finding.text
    assert "AUC of 0.866" in README


def test_closing_table_is_what_was_planted_guessed_and_found(honest: runs.RunResult) -> None:
    guess = {term.name: term.weight for term in spec.load(EXAMPLE / "spec.yaml").terms}
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|$", README, re.MULTILINE)
    assert [(name, *map(float, cells)) for name, *cells in rows] == [
        (FEATURES[what], strength, guess[FEATURES[what]], honest.weights[FEATURES[what]])
        for what, strength in MADE["PLANTED"].items()
    ]


def test_what_the_planted_formula_reaches_is_said(tables: list[pl.DataFrame]) -> None:
    first, second = (f"{planted_auc(table):.3f}" for table in tables)
    assert f"reaches {first} on the first date and {second} on" in README


@pytest.mark.slow
def test_walk_through_runs_and_quotes_what_comes_out(history: Path) -> None:
    found = [block for block in blocks(README) if block[0] != "yaml"]
    assert [language for language, _ in found] == ["sh", "text"] * 3
    for (_, command), (_, quoted) in zip(found[::2], found[1::2], strict=True):
        assert missing(quoted, printed(command, history)) == []


@pytest.mark.slow
def test_four_commands_of_the_page_lead_from_raw_files_to_a_review(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "snapshots.md").read_text("utf-8")
    section = page.partition("\n## From raw files to a reviewed run\n")[2].partition("\n## ")[0]
    [commands] = [content for language, content in blocks(section) if language == "text"]
    MADE["write"](tmp_path)
    shutil.copy(EXAMPLE / "snapshots.yaml", tmp_path)
    lines = commands.splitlines()
    assert [line.split()[1] for line in lines] == ["snapshot", "init", "run", "review"]
    with short_searches():
        outputs = [printed(line, tmp_path) for line in lines]
    assert re.search(r"the score ranks \d+ right; it was \d+", outputs[-1])
    assert (tmp_path / "best.yaml").is_file()
