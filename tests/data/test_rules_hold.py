"""Whether a rule holds, against plain Python over accounts full of edge values."""

import math
import random
from datetime import date
from decimal import Decimal

import polars as pl
import pytest
from scorecards import draw_accounts, draw_rule, draw_table

from gtmar.data.encode import encoded_terms, rule_holds
from gtmar.spec import ScoringSpec
from gtmar.spec.rule import Condition, Rule

Cell = None | bool | int | float | Decimal | str | date


def same(cell: Cell, category: str) -> bool:
    """Whether a known cell is a category, by value where both are numbers or flags."""
    if isinstance(cell, str):
        return cell.strip(" ") == category.strip(" ")
    if isinstance(cell, bool):
        return category == str(cell).lower()
    try:
        return cell == Decimal(category)
    except ArithmeticError:
        return False


def holds(condition: Condition, cell: Cell) -> bool:
    """Whether one cell keeps a condition."""
    unknown = cell is None or (isinstance(cell, float) and math.isnan(cell))
    operator, value = condition.operator, condition.value
    if value is None or unknown:
        return operator == ("is missing" if unknown else "is not missing")
    if isinstance(value, tuple):
        return any(same(cell, each) for each in value) == (operator == "in")
    number = float(cell)  # type: ignore[arg-type] # dates are compared with nothing
    return {
        "<": number < value,
        "<=": number <= value,
        ">": number > value,
        ">=": number >= value,
        "=": number == value,
        "!=": number != value,
    }[operator]


@pytest.mark.slow
def test_random_rules_hold_where_plain_python_says_so() -> None:
    accounts = draw_accounts(1_500, seed=3)
    rows = accounts.rows(named=True)
    draw, some = random.Random(11), 0
    for number in range(150):
        rule = draw_rule(draw)
        got = accounts.select(rule_holds(rule, accounts.schema).alias("x"))["x"]
        expected = [all(holds(c, row[c.column]) for c in rule.conditions) for row in rows]
        assert got.to_list() == expected, f"{number}: {rule}"
        some += 0 < sum(expected) < len(rows)
    assert some > 75, "most rules part the accounts"


@pytest.mark.slow
def test_random_tables_give_the_cell_that_plain_python_finds() -> None:
    accounts = draw_accounts(1_500, seed=5)
    rows = accounts.rows(named=True)
    draw, cells = random.Random(12), 0
    for number in range(100):
        table = draw_table(draw)
        spec = ScoringSpec.model_validate(
            {
                "model": "tables",
                "features": {"t": {"encode": table, "weight": 1, "min": 0, "max": 1}},
                "tiers": {"A": {"min": 0, "max": 101}},
            }
        )
        sides = [
            [Rule.parse(text).conditions[0] for text in table[side]] for side in ("down", "across")
        ]
        got = accounts.select(encoded_terms(spec, accounts.schema)["t"])["t"].to_list()
        places = [
            tuple(
                next((i for i, c in enumerate(side) if holds(c, row[c.column])), len(side))
                for side in sides
            )
            for row in rows
        ]
        expected = [math.floor(table["values"][i][j] * 10_000 + 0.5) for i, j in places]
        assert got == expected, f"{number}: {table}"
        cells += len(set(places))
    assert cells > 300, "most tables part the accounts"


def test_a_rule_is_one_or_nothing_and_never_null() -> None:
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "logins": pl.Float32,
        "seats": pl.UInt8,
        "plan": pl.Categorical,
        "price": pl.Decimal(9, 2),
        "nothing": pl.Null,
    }
    frame = pl.DataFrame(
        {
            "logins": [1.0, math.nan, None, math.inf],
            "seats": [None, 3, 3, 250],
            "plan": ["gold", None, " gold", "tin"],
            "price": [Decimal("1.10"), None, Decimal("2.00"), Decimal("1.10")],
            "nothing": [None] * 4,
        },
        schema_overrides=schema,
    )
    expected = {
        "logins < 3": [1, 0, 0, 0],
        "logins != 3": [1, 0, 0, 1],
        "logins is missing": [0, 1, 1, 0],
        "logins >= 1 and seats > 249": [0, 0, 0, 1],
        "plan = 'gold'": [1, 0, 1, 0],
        "plan != 'gold'": [0, 0, 0, 1],
        "price in (1.1, 7)": [1, 0, 0, 1],
        "nothing is missing and seats in ('3')": [0, 1, 1, 0],
        "nothing < 3": [0, 0, 0, 0],
        "nothing != 'gold'": [0, 0, 0, 0],
    }
    features = {f"f{i}": text for i, text in enumerate(expected)}
    spec = ScoringSpec.model_validate(
        {
            "model": "rules",
            "features": {
                n: {"rule": t, "weight": 1, "min": 0, "max": 1} for n, t in features.items()
            },
            "tiers": {"A": {"min": 0, "max": 101}},
        }
    )
    got = frame.select(**encoded_terms(spec, frame.schema))
    assert got.schema == dict.fromkeys(features, pl.Int64)
    for name, text in features.items():
        assert (got[name] / 10_000).to_list() == expected[text], text
        assert Rule.parse(text) == Rule.parse(str(Rule.parse(text)))
