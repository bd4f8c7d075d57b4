"""Features as pictures: every value has its points, every account its band."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pages
import polars as pl
import pytest
from factories import binned, make_accounts, make_spec, weighted
from report.conftest import Searched, search

from gtmar import runs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.report.account_table import encoder_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.spec.model import ScoringSpec

PLANS = ["pro", "free", None, "team"]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    accounts = make_accounts(600, 11)
    plans = [PLANS[i % 4] for i in range(600)]
    return accounts.with_columns(
        plan=pl.Series(plans), tenure=pl.Series([float(i % 50) for i in range(600)])
    )


@pytest.fixture(scope="module")
def spec() -> ScoringSpec:
    curve = {"kind": "curve", "points": [[0, 0], [20, 1], [49, 0.5]]}
    values = {"kind": "one_of", "values": {"pro": 1, "free": 0.5}, "default": 0}
    return make_spec(
        features={
            "tenure": weighted(25, encode=curve),
            "plan": weighted(20, encode=values, missing={"value": 0.25}),
            "alert_created": weighted(5, encode={"kind": "bool", "invert": True}),
            "slow": weighted(2, rule="tenure < 10 and plan is missing"),
            "depth": binned("[-inf,5)", "[5,inf)", "missing"),
        }
    ).with_weights({"depth[5,inf)": 9})


def test_pictures_are_of_the_accounts_searched(table: pl.DataFrame, spec: ScoringSpec) -> None:
    accounts = load_accounts(scan(table), spec)
    pictures = {each.feature: each for each in encoder_pictures(accounts, spec)}
    assert [*pictures] == ["tenure", "plan", "alert_created", "slow", "depth"]
    scored = runs.score(table, spec)
    ids = table["account_id"].to_list()
    searched = accounts.search.accounts
    points = dict(zip(ids, scored["points.tenure"], strict=True))
    tenure = dict(zip(ids, table["tenure"], strict=True))
    given = {(tenure[each], round(points[each], 9)) for each in ids}
    assert {(x, round(y, 9)) for x, y in pictures["tenure"].line} <= given
    for picture in pictures.values():
        assert sum(band.share for band in picture.bands) == pytest.approx(1)
        assert all(round(band.share * searched, 6).is_integer() for band in picture.bands)
    plan = {band.name: band for band in pictures["plan"].bands}
    assert {name: band.points for name, band in plan.items()} == {
        "pro": 20,
        "free": 10,
        "team": 0,
        "(unknown)": 5,
    }
    mask = pl.Series(runs_mask(table, spec))
    stay = table.filter(~mask).filter(pl.col("plan") == "pro")["retained_6mo"].mean()
    assert plan["pro"].retention == pytest.approx(stay)
    assert plan["pro"].retention_low < stay < plan["pro"].retention_high  # type: ignore[operator]
    assert pictures["depth"].steps
    slow = {band.name: band for band in pictures["slow"].bands}
    assert {name: band.points for name, band in slow.items()} == {"holds": 2, "doesn't hold": 0}
    hold = table.filter(~mask, pl.col("tenure") < 10, pl.col("plan").is_null()).height
    assert slow["holds"].share * searched == pytest.approx(hold)
    assert not pictures["tenure"].steps


def runs_mask(table: pl.DataFrame, spec: ScoringSpec) -> list[bool]:
    """Draw the holdout as docs/spec.md has it."""
    from hashlib import md5

    salt, share = spec.split.salt, spec.split.holdout
    numbers = (int(md5(f"{salt}:{x}".encode()).hexdigest()[:8], 16) for x in table["account_id"])
    return [number < share * 2**32 for number in numbers]


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame, spec: ScoringSpec
) -> Searched:
    return search(tmp_path_factory.mktemp("pictures"), table, spec, n=5)


@pytest.mark.slow
def test_a_page_has_each_picture_and_its_numbers(made: Searched) -> None:
    html = made.report.html
    found = pages.values_in(html)
    assert {"values.plan.pro.points", "values.tenure.0 to 4.083.share"} <= {*found}
    assert html.count('id="values"') == 1
    for name in ("tenure", "plan", "depth", "alert_created"):
        assert f"{name}: points from " in html


@pytest.mark.slow
def test_without_its_table_a_page_says_that_pictures_are_left_out(
    made: Searched, tmp_path: Path
) -> None:
    moved = made.table.rename(tmp_path / "elsewhere.parquet")
    try:
        page = made.page()
    finally:
        moved.rename(made.table)
    assert 'id="values"' not in page.html
    assert "values against points" in page.left_out[0]


@pytest.mark.slow
def test_hostile_names_stay_text(hostile: Searched) -> None:
    assert "<img src=x" not in hostile.drawn.html.replace("&lt;img", "")
    assert 'id="values"' in hostile.drawn.html
