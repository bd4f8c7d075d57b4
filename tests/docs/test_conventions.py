"""The numbers that conventions change, as docs/snapshots.md has them, are those of its examples."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from gtmar.snapshots.bridge import MOVEMENTS, bridge
from gtmar.snapshots.recipe import Monthly, Subscriptions, Transactions, parse

PAGE = Path(__file__).parents[2] / "docs" / "snapshots.md"
TIMES = {
    "subscriptions": {"from": "start", "until": "end"},
    "transactions": {"at": "at"},
}
MONTHS = [date(2024, month, 1) for month in (1, 2, 3, 4)]


def section(heading: str) -> str:
    text = PAGE.read_text("utf-8")
    return re.split(r"^##+ ", text.partition(f"# {heading}\n")[2], flags=re.MULTILINE)[0]


def lines(text: str) -> list[list[str]]:
    """Return the cells of each line of a table that begins with an option."""
    found = re.findall(r"^\| (?=`|without)(.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in found]


def made(folder: Path, shape: str, said: dict[str, Any]) -> list[str]:
    """Return MRR at the ends of four months, and what moved it in the last two."""
    source = {"data": f"{shape}.csv", "account": "account", **TIMES[shape]}
    recipe = {
        "name": "example",
        "sources": {"rows": source},
        "dates": ["2024-02-01"],
        "window": "1 month",
        "data_until": "2024-06-01",
        "revenue": {shape: {"source": "rows", "amount": "amount", **said}},
        "rules": {"overlaps": "add"},
        "features": {"n": {"count": "rows"}},
    }
    months = bridge(parse(json.dumps(recipe)), base=folder).months
    rows = {row["month"]: row for row in months.to_dicts()}
    moves = [
        f"{kind} {rows[month][kind] / 100:,g}"
        for month in MONTHS[2:]
        for kind in MOVEMENTS
        if rows[month][kind]
    ]
    return [*(f"{rows[month]['end'] / 100:,g}" for month in MONTHS), ", ".join(moves) or "nothing"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", TIMES)
def test_the_numbers_of_the_page_are_those_of_its_example(shape: str, tmp_path: Path) -> None:
    text = section(f"What they change: {shape}")
    for name, table in re.findall(r"`(\w+\.csv)`:\n\n```text\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).write_text(table, "utf-8")
    shown = lines(text)
    assert len(shown) >= 5
    first: dict[str, Any] = yaml.safe_load(f"{{{shown[0][0].strip('`')}}}")
    wrong = []
    for words, *cells in shown:
        # Each line adds to the first one, or goes without a part of it.
        if words.startswith("without "):
            said = {k: v for k, v in first.items() if k != words.split("`")[1]}
        else:
            said = first | yaml.safe_load(f"{{{words.strip('`')}}}")
        if (numbers := made(tmp_path, shape, said)) != cells:
            wrong.append((words, cells, numbers))
    assert wrong == []


def test_each_option_of_revenue_is_in_the_table_of_conventions() -> None:
    named = set(re.findall(r"`(\w+)`", " ".join(cells[0] for cells in lines(section("Revenue")))))
    options = {
        key for shape in (Transactions, Monthly, Subscriptions) for key in shape.model_fields
    }
    assert options - {"source", "amount"} <= named
