"""What is usual is said where it is like the value beside it, and as the page of metrics has it."""

from pathlib import Path

import pytest

from gtmar.metrics.published_ranges import PUBLISHED, published_sentences
from gtmar.metrics.registry import all_metrics

TOTALS = {"nrr_by_tier": 1.034, "grr_by_tier": 0.91, "logo_retention_by_tier": 0.8}


def test_each_is_said_for_a_year_of_observed_revenue() -> None:
    said = published_sentences(TOTALS, days=365, basis="observed")
    assert len(said) == len(PUBLISHED)
    assert said[0].startswith("NRR over all tiers: 103.4%. Published: 100% to 110%, medians")
    assert "SaaS Capital" in said[0]
    assert said[2].startswith("Logo retention over all tiers: 80.0%. Published: 75% to 92%")


@pytest.mark.parametrize(("days", "basis"), [(181, "observed"), (None, "observed"), (400, None)])
def test_another_window_has_none(days: int | None, basis: str | None) -> None:
    assert published_sentences(TOTALS, days=days, basis=basis) == []


@pytest.mark.parametrize("basis", ["binary", None])
def test_revenue_needs_its_basis_and_accounts_do_not(basis: str | None) -> None:
    [said] = published_sentences(TOTALS, days=365, basis=basis)
    assert said.startswith("Logo retention")


def test_a_value_that_is_not_there_has_none() -> None:
    assert published_sentences({"nrr_by_tier": None}, days=365, basis="observed") == []


def test_the_page_of_metrics_has_the_same_figures() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    table = page.partition("## What is usual")[2].partition("\n## ")[0]
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table.splitlines()}
    for each in PUBLISHED:
        assert each.key in all_metrics()
        row = rows[each.name]
        assert f"{each.low * 100:.0f}% to {each.high * 100:.0f}%" in row
    for source in {each.source for each in PUBLISHED}:
        assert source in table
