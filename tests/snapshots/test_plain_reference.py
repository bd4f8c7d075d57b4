"""Tables and bridges are what plain Python says: random histories, recipes of every convention."""

from __future__ import annotations

import json
import tempfile
from datetime import date
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_snapshots import account_table, movements
from raw_tables import DAYS, MORE, random_history, random_recipe

from gtmar.snapshots.bridge import MOVEMENTS, bridge
from gtmar.snapshots.conflicts import conflicts, refuse_unsettled
from gtmar.snapshots.raw_history import history
from gtmar.snapshots.recipe import parse

if TYPE_CHECKING:
    from plain_snapshots import Recipe

SEEDS = st.integers(0, 2**32 - 1)
#: Columns rounded to four decimals.
ROUNDED = ("mrr", "mrr_end")
DATES = ("features_asof", "features_until", "outcome_start", "outcome_end")


def alike(name: str, found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is None and wanted is None
    if isinstance(wanted, str | date):
        return bool(found == wanted)
    # Of a row's money a millionth is rounded, of MRR the fourth decimal.
    room = 6e-5 if name in ROUNDED else 1e-4 if name == "actual_ltv" else 1e-7
    return abs(float(found) - float(wanted)) <= room + 1e-9 * abs(float(wanted))


def compared(seed: int, recipes: int, days: int) -> int:
    """Hold tables of some recipes and dates of one history against plain Python; count them."""
    rng, raw, count = Random(seed), random_history(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        base = raw.write(Path(folder))
        drawn = [random_recipe(rng.randrange(2**32)) for _ in range(recipes)]
        with history(parse(json.dumps(drawn[0])), base=base) as opened:
            refuse_unsettled(conflicts(opened))
            for recipe in drawn:
                opened.recipe = parse(json.dumps(recipe))
                opened.until = date.fromisoformat(recipe["data_until"])
                for day in rng.sample(DAYS, days):
                    text, _ = opened.statement(day)
                    answer = opened.connection.execute(text)
                    names = [column[0] for column in answer.description or ()]
                    rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
                    same(rows, account_table(recipe, raw.tables, day), recipe, day)
                    count += 1
    return count


def same(rows: list[dict[str, Any]], wanted: dict[str, Any], recipe: Recipe, day: date) -> None:
    assert [row["who"] for row in rows] == list(wanted), (recipe, day)
    wrong = []
    for row in rows:
        whole = wanted[row["who"]]
        assert row.keys() - {"who", *DATES} == whole.keys()
        wrong += [
            (day, row["who"], name, row[name], value, recipe["features"].get(name))
            for name, value in whole.items()
            if not alike(name, row[name], value)
        ]
    assert wrong == [], recipe


def counted(examples: int, recipes: int, days: int) -> int:
    cases = 0

    @settings(max_examples=examples, deadline=None)
    @given(seed=SEEDS)
    def each(seed: int) -> None:
        nonlocal cases
        cases += compared(seed, recipes, days)

    each()
    print(f"{cases:,} tables held against plain Python")
    return cases


@pytest.mark.slow
def test_tables_are_what_plain_python_says() -> None:
    """A case is one table: a history, a recipe of 14 features, and a date.

    `GTMAR_HISTORIES=20` tries thousands.
    """
    assert counted(6 * MORE, 4, 3) >= 57 * MORE


# ---- the bridge ----------------------------------------------------------------------------------


def bridged(seed: int) -> int:
    """Hold a bridge against plain Python; count the movements of accounts and months."""
    raw, recipe = random_history(seed, accounts=6), random_recipe(seed, features=1)
    with tempfile.TemporaryDirectory() as folder:
        found = bridge(parse(json.dumps(recipe)), base=raw.write(Path(folder)))
    assert found.sound, recipe
    moved = {
        (row["month"], row["account"]): {
            name: row[name]
            for name in ("start", *MOVEMENTS, "end")
            if row[name] or name in ("start", "end")
        }
        for row in found.accounts.iter_rows(named=True)
    }
    wanted = movements(recipe, raw.tables)
    assert moved == wanted, recipe
    return len(moved)


@pytest.mark.slow
def test_bridges_are_what_plain_python_says() -> None:
    cases = 0

    @settings(max_examples=12, deadline=None)
    @given(seed=SEEDS)
    def each(seed: int) -> None:
        nonlocal cases
        cases += bridged(seed)

    each()
    print(f"{cases:,} months of accounts held against plain Python")
    assert cases >= 180
