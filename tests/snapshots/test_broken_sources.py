"""A source that lost, doubled, changed, moved or turned a row is found by the bridge."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from plain_snapshots import later, movements

from gtmar.snapshots.bridge import Bridge, bridge
from gtmar.snapshots.recipe import parse

if TYPE_CHECKING:
    from pathlib import Path

    from plain_snapshots import Recipe, Row

UNTIL = date(2024, 7, 1)
SHAPES: dict[str, dict[str, Any]] = {
    "transactions": {"months": 1, "negative": "subtract"},
    "monthly": {"negative": "subtract"},
    "subscriptions": {},
}
FAULTS = ("deleted", "doubled", "amount", "moved", "sign")


def recipe_of(shape: str) -> Recipe:
    times = {"from": "at", "until": "ended"} if shape == "subscriptions" else {"at": "at"}
    return {
        "name": "books",
        "id": "who",
        "sources": {"paid": {"data": "paid.parquet", "account": "who", **times}},
        "dates": ["2024-03-01"],
        "window": "1 month",
        "data_until": UNTIL.isoformat(),
        "revenue": {shape: {"source": "paid", "amount": "amount", **SHAPES[shape]}},
        "rules": {"overlaps": "add"},
        "features": {"n": {"count": "paid"}},
        "totals": {"data": "books.parquet", "month": "month", "amount": "amount"},
    }


def drawn(rng: Random) -> list[Row]:
    """Draw rows of a hundred days to half a year, each of which pays at the end of some month."""
    rows = []
    for number in range(40):
        at = date(2024, 1, 2) + timedelta(rng.randrange(120))
        ended = at + timedelta(rng.randrange(32, 60))
        amount = Decimal(rng.randrange(100, 9_999)) / 100
        rows.append({"who": str(number % 9), "at": at, "ended": ended, "amount": amount})
    return rows


def sums(recipe: Recipe, rows: list[Row]) -> dict[date, Decimal]:
    """Return what books have of a month: MRR at its end; of payments, what was paid in it."""
    [shape] = recipe["revenue"]
    month, found = date(2024, 1, 1), {}
    if shape == "transactions":
        while month < UNTIL:
            own = [row["amount"] for row in rows if row["at"].replace(day=1) == month]
            found[month] = sum(own, Decimal(0))
            month = later(month, "1 month")
        return found
    moved = movements(recipe, {"paid": rows})
    while month < UNTIL:
        cents = sum(move["end"] for (of, _), move in moved.items() if of == month)
        found[month] = Decimal(cents) / 100
        month = later(month, "1 month")
    return found


def broken(fault: str, rows: list[Row], rng: Random) -> list[Row]:
    number = rng.randrange(len(rows))
    row, others = rows[number], rows[:number] + rows[number + 1 :]
    month = {name: later(row[name], "1 month") for name in ("at", "ended")}
    made = {
        "deleted": [],
        "doubled": [row, row],
        "amount": [{**row, "amount": row["amount"] + Decimal("0.01")}],
        "moved": [{**row, **month}],
        "sign": [{**row, "amount": -row["amount"]}],
    }
    return others + made[fault]


def bridged(folder: Path, recipe: Recipe, rows: list[Row]) -> Bridge:
    pl.DataFrame(rows).write_parquet(folder / "paid.parquet")
    return bridge(parse(json.dumps(recipe)), base=folder)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_books_find_a_broken_row_in_its_months_to_the_cent(
    tmp_path: Path, shape: str, fault: str
) -> None:
    # Three histories, of which each shape and each fault meets all.
    recipe, rng = recipe_of(shape), Random(([*SHAPES].index(shape) + FAULTS.index(fault)) % 3)
    rows = drawn(rng)
    books = sums(recipe, rows)
    pl.DataFrame(
        {"month": list(books), "amount": list(books.values())},
        schema_overrides={"amount": pl.Decimal(14, 2)},
    ).write_parquet(tmp_path / "books.parquet")
    whole = bridged(tmp_path, recipe, rows)
    assert whole.sound
    assert whole.differences == ()
    with_fault = broken(fault, rows, rng)
    now = sums(recipe, with_fault)
    wanted = {m: int((now[m] - books[m]) * 100) for m in books if now[m] != books[m]}
    assert wanted
    found = bridged(tmp_path, recipe, with_fault)
    assert not found.sound
    assert {each.month: each.cents for each in found.differences} == wanted
    assert {each.against for each in found.differences} == {"books"}
    if shape == "subscriptions" and fault == "sign":
        assert [each.kind for each in found.conflicts if each.rule is None] == ["negative_amounts"]


# ---- without books -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["transactions", "monthly"])
def test_a_lost_or_doubled_row_of_a_regular_payer_is_noted(tmp_path: Path, shape: str) -> None:
    recipe = recipe_of(shape)
    del recipe["totals"]
    rows: list[Row] = [
        {"who": who, "at": date(2024, month, 5), "amount": paid}
        for who, paid in (("a", Decimal(10)), ("b", Decimal(20)))
        for month in range(1, 8)
    ]
    assert not [note for note in bridged(tmp_path, recipe, rows).notes if "revenue" in note]
    lost = [row for row in rows if (row["who"], row["at"].month) != ("b", 4)]
    notes = " ".join(bridged(tmp_path, recipe, lost).notes)
    assert "1 month was skipped, with payments in each of the 3 before and the 3 after" in notes
    assert 'by 1 account: "b"; an invoice may be missing.' in notes
    # Nothing is said of the second month from the start: who knows how regularly they pay.
    early = [row for row in rows if (row["who"], row["at"].month) != ("b", 3)]
    assert "skipped" not in " ".join(bridged(tmp_path, recipe, early).notes)
    notes = " ".join(bridged(tmp_path, recipe, [*rows, rows[0], rows[0]]).notes)
    assert 'Of revenue 2 rows are like another in every column, of 1 account: "a";' in notes
