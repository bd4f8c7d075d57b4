"""The page of a run over several dates: it counts rows as rows, and adds up to the journal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pages
import polars as pl
import pytest
from benchmarks import panel as panels
from blank_charts import blank_charts

from gtmar import runs
from gtmar.data.scan import Source
from gtmar.journal.catalog import Journal
from gtmar.journal.review import review
from gtmar.report import run_page
from gtmar.report.content import gather

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.report import Page
    from gtmar.report.content import Evidence
    from gtmar.runs import RunResult

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dates")
    number = pl.col("account_id").str.tail(1).cast(pl.Int64)
    plan = pl.when(number < 5).then(pl.lit("pro")).otherwise(pl.lit("free"))
    table = panels.accounts(200, 3, dates=4).with_columns(plan=plan)
    # Two accounts are gone by the last date.
    gone = pl.col("account_id").is_in(["a000001", "a000002"])
    table.filter(~(gone & (pl.col("features_asof") == panels.DAYS[3]))).write_parquet(
        place / "accounts.parquet"
    )
    return place


@pytest.fixture(scope="module")
def done(folder: Path) -> RunResult:
    own = panels.spec()
    split = own.split.model_copy(update={"holdout": 0.4})
    own = own.model_copy(update={"split": split, "segments": ("plan",)})
    at = f"{panels.DAYS[0]}..{panels.DAYS[3]}"
    source = Source(str(folder / "accounts.parquet"), at=at)
    return runs.run(source, own, limits=runs.Limits(60), journal=folder / "journal")


@pytest.fixture(scope="module")
def page(folder: Path, done: RunResult) -> Page:
    with blank_charts(), Journal(folder / "journal") as journal:
        return run_page(journal, done.run_id)


@pytest.fixture(scope="module")
def evidence(folder: Path, done: RunResult, page: Page) -> Evidence:
    """What the page was made of."""
    with Journal(folder / "journal") as journal:
        return gather(journal, done.run_id)


def exact(page: Page) -> dict[str, float]:
    found = pages.values_in(page.html)
    return {key: float(str(shown[0].exact)) for key, shown in found.items() if shown[0].exact}


def test_it_opens_with_accounts_dates_and_where_the_gain_holds(
    folder: Path, done: RunResult, page: Page
) -> None:
    with Journal(folder / "journal") as journal:
        [sentence] = review(journal, done.run_id).dates
    assert "200 accounts on 4 dates, 798 rows. The gain holds in " in sentence
    assert sentence in page.html.partition("<nav")[0]
    text = re.sub(r"<[^>]+>", " ", page.html)
    # Of what is counted in rows nothing is called accounts.
    assert "by Wilson" not in text
    assert "paying rows" in text
    assert "Of the rows searched with a score" in text


def test_each_date_and_all_together_are_the_journals(
    folder: Path, done: RunResult, page: Page
) -> None:
    end = pages.record_of(folder / "journal", done.run_id, "end")
    by_date, found = json.loads(str(end["by_date"])), exact(page)
    for part in ("searched", "held_out"):
        own = by_date["parts"][part]
        for index, day in enumerate(by_date["dates"]):
            for shown, key in (("rows", "rows_by_date"), ("start", "before"), ("best", "after")):
                assert found[f"dates.{day}.{part}.{shown}"] == own[key][index]
        assert found[f"dates.all.{part}.rows"] == own["rows"] == sum(own["rows_by_date"])
    assert found["dates.all.searched.best"] == end["best_value"]
    assert found["dates.all.held_out.best"] == end["holdout_best_value"]
    for name, held in by_date["signs"].items():
        if f"weights.{name}.sign_held" in found:
            assert found[f"weights.{name}.sign_held"] == sum(map(bool, held))
    measured = by_date["parts"]["held_out"]["metrics_after"]
    for index, day in enumerate(by_date["dates"]):
        assert found[f"metrics.nrr_at_20.{day}"] == measured[index]["nrr_at_20"]


def test_moves_of_all_dates_add_up_to_the_tiers_and_of_the_newest_to_its_rows(
    folder: Path, done: RunResult, page: Page, evidence: Evidence
) -> None:
    found, tiers = exact(page), panels.spec().tier_names
    for tier in tiers:
        rows = sum(found[f"moves.{tier}.{other}"] for other in tiers)
        assert rows == found[f"tiers.start.{tier}.accounts"]
        rows = sum(found[f"moves.{other}.{tier}"] for other in tiers)
        assert rows == found[f"tiers.best.{tier}.accounts"]
    newest = sum(found[f"newest.{one}.{two}"] for one in tiers for two in tiers)
    end = pages.record_of(folder / "journal", done.run_id, "end")
    assert newest == json.loads(str(end["by_date"]))["parts"]["searched"]["rows_by_date"][-1]
    assert newest < sum(found[f"moves.{one}.{two}"] for one in tiers for two in tiers)
    # Those that are named are accounts of the newest date, by hand.
    last = Source(str(folder / "accounts.parquet"), at=str(panels.DAYS[3]))
    run = done.run_id
    same = runs.difference(f"{run}/start", run, journal=folder / "journal", data=last).moved
    table = evidence.table
    assert table is not None
    assert same is not None
    assert table.newest == panels.DAYS[3]
    assert table.moved_accounts == same.height
    assert table.moved["account"].n_unique() == table.moved.height
    assert f"as of {panels.DAYS[3]}" in page.html


def test_intervals_draw_whole_accounts_and_are_those_of_a_decision(
    folder: Path, done: RunResult, evidence: Evidence
) -> None:
    decided = runs.decide(done.run_id, journal=folder / "journal")
    table = evidence.table
    assert table is not None
    assert table.revenue is not None
    assert done.holdout is not None
    assert table.revenue.accounts == done.holdout["accounts"]
    lines = {line.column: line for line in table.revenue.lines}
    for tier in panels.spec().tier_names:
        column = f"logo_retention_by_tier.{tier}"
        gain = decided.intervals.gain[column]
        assert (lines[column].change.low, lines[column].change.high) == (gain.low, gain.high)
    drawn = {(line["tier"], line["stage"]): line["logo_interval"] for line in evidence.sized_tiers}
    own = lines["logo_retention_by_tier.A"]
    assert drawn["A", "best"] == (own.best.low, own.best.high)
    for part in table.segments:
        name = part.part.replace(" ", "_")
        assert done.by_date is not None
        size = done.by_date["parts"][name]["accounts"]
        assert sum(line.accounts for line in part.lines) == size


def test_without_its_table_a_page_has_no_interval_of_rows(folder: Path, done: RunResult) -> None:
    path = folder / "accounts.parquet"
    moved = path.rename(folder / "elsewhere.parquet")
    try:
        with blank_charts(), Journal(folder / "journal") as journal:
            alone = gather(journal, done.run_id)
            shown = run_page(journal, done.run_id)
    finally:
        moved.rename(path)
    assert alone.table is None
    assert {line["logo_interval"] for line in (*alone.tiers, *alone.sized_tiers)} == {None}
    assert 'id="dates"' in shown.html
    assert 'id="moves"' not in shown.html
