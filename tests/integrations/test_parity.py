"""The exported SELECT against `gtmar score`, on engines that gtmar did not write."""

import os
import random
from functools import cache

import polars as pl
import pytest
import sqlglot
from engines import DuckDB, Engine
from polars.testing import assert_frame_equal
from scorecards import (
    ENCODERS,
    draw_accounts,
    draw_combined,
    draw_rule,
    draw_spec,
    draw_table,
)
from sqlglot import exp

from gtmar.integrations.sql import column_kinds, select, select_grid
from gtmar.runs import grid, score
from gtmar.spec import ScoringSpec

#: By each spec; each value at an edge is drawn dozens of times. `GTMAR_ACCOUNTS` draws more.
ACCOUNTS = int(os.environ.get("GTMAR_ACCOUNTS", "3000"))
#: Which specs an engine gets, and a share of how many accounts: a server takes longer over each
#: than DuckDB, and Spark plans a statement for seconds. The tenth has every encoder.
SPECS = {"duckdb": range(8, 12), "postgres": range(10, 12), "spark": range(10, 11)}
SHARE = {"duckdb": 1, "postgres": 2, "spark": 2}

NAMES = ("duckdb", "postgres", "spark")


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "duckdb":
        return DuckDB()
    started: Engine = request.getfixturevalue(request.param)
    return started


@cache
def accounts() -> pl.DataFrame:
    return draw_accounts(ACCOUNTS)


def in_doubles(frame: pl.DataFrame) -> pl.DataFrame:
    """Turn decimals, and whole columns of whole numbers, into doubles."""
    points = [name for name in frame.columns if name not in ("account_id", "tier")]
    return frame.with_columns(pl.col(points).cast(pl.Float64)).sort("account_id")


def differing(got: pl.DataFrame, expected: pl.DataFrame) -> int:
    """Count accounts whose score or tier differ, then compare all columns bit for bit."""
    # By place: where names differ in capitals alone, some engines number them.
    assert got.shape == expected.shape
    got.columns = expected.columns
    got, expected = in_doubles(got), in_doubles(expected)
    same = (got["score"] == expected["score"]) & (got["tier"] == expected["tier"])
    assert_frame_equal(got, expected, check_exact=True)
    return int((~same).sum())


@cache
def points_of(seed: int) -> pl.DataFrame:
    """Score all accounts as gtmar does: each engine is held against the same frame."""
    return score(accounts(), draw_spec(seed)).sort("account_id")


@pytest.mark.slow
def test_no_score_differs_from_what_gtmar_gives(engine: Engine) -> None:
    whole = engine.dialect == "duckdb" or "GTMAR_ACCOUNTS" in os.environ
    specs = SPECS["duckdb" if whole else engine.dialect]
    few = ACCOUNTS // (1 if whole else SHARE[engine.dialect])
    engine.load("accounts", accounts().head(few))
    kinds, encoders = column_kinds(accounts().schema), set()
    for seed in specs:
        spec = draw_spec(seed)
        text = select(spec, "accounts", dialect=engine.dialect, kinds=kinds)
        expected = points_of(seed).head(few)
        assert differing(engine.ask(text), expected) == 0, f"spec {seed}"
        encoders |= {feature.encode.kind for feature in spec.features.values()}
    assert encoders == ENCODERS


@pytest.mark.slow
def test_without_knowing_the_columns_too(engine: Engine) -> None:
    few = draw_accounts(1_000, seed=1)
    engine.load("few accounts", few)
    quote = "`" if engine.dialect == "spark" else '"'
    for seed in range(100, 101 if engine.dialect == "spark" else 102):
        spec = draw_spec(seed)
        text = select(spec, f"{quote}few accounts{quote}", dialect=engine.dialect)
        assert differing(engine.ask(text), score(few, spec)) == 0, f"spec {seed}"


@pytest.mark.slow
def test_groups_shared_weights_fading_and_vetoes_are_the_same(engine: Engine) -> None:
    seeds = {"duckdb": range(4), "postgres": range(6, 8), "spark": range(6, 7)}[engine.dialect]
    had = combined(engine, seeds=seeds, accounts=ACCOUNTS // (4 * SHARE[engine.dialect]))
    if engine.dialect == "duckdb":
        assert {"group", "redistributed", "veto"} <= had


def combined(engine: Engine, *, seeds: range, accounts: int) -> set[str]:
    """Compare scores that are more than a sum of points; return what else they had."""
    drawn = draw_accounts(accounts, seed=3)
    engine.load("combined", drawn)
    lines, kinds = set(), column_kinds(drawn.schema)
    for seed in seeds:
        spec = draw_combined(seed)
        text = select(spec, "combined", dialect=engine.dialect, kinds=kinds)
        scored = score(drawn, spec)
        assert differing(engine.ask(text), scored) == 0, f"spec {seed}"
        lines |= {name.partition(".")[0] for name in scored.columns}
    one = draw_combined(seeds[0])
    two = draw_combined(seeds[0] + 1).model_copy(update={"model": 'an "other"'})
    text = select_grid(one, two, "combined", dialect=engine.dialect, kinds=kinds)
    cells = engine.ask(text).sort("account_id")["cell"]
    assert cells.to_list() == grid(drawn, one, two).rows.sort("account_id")["cell"].to_list()
    return lines


@pytest.mark.slow
# Spark has the steps of both scores at the front of the statement, where they could clash.
@pytest.mark.parametrize("dialect", ["duckdb", "spark"])
def test_a_grid_names_each_step_of_either_score_once(dialect: str) -> None:
    kinds = column_kinds(draw_accounts(10, seed=3).schema)
    one, two = draw_combined(6), draw_combined(7).model_copy(update={"model": "other"})
    text = select_grid(one, two, "combined", dialect=dialect, kinds=kinds)
    steps = [cte.alias for cte in sqlglot.parse_one(text, dialect=dialect).find_all(exp.CTE)]
    assert len(steps) == len(set(steps)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "known"),
    [("duckdb", True), ("duckdb", False), ("postgres", True), ("spark", True)],
    indirect=["engine"],
)
def test_rules_and_tables_count_for_the_same_accounts(engine: Engine, *, known: bool) -> None:
    accounts, draw = draw_accounts(1_000, seed=4), random.Random(7)
    # Spark takes half a second to plan each.
    number = 8 if engine.dialect == "spark" else 20
    rules = {
        f"rule {i}": {
            "rule": str(draw_rule(draw)),
            "weight": draw.randint(-9, 9),
            "min": -9,
            "max": 9,
        }
        for i in range(number)
    }
    rules |= {
        f"table {i}": {"encode": draw_table(draw), "weight": 9, "min": -9, "max": 9}
        for i in range(number)
    }
    spec = ScoringSpec.model_validate(
        {
            "model": "rules",
            "id": "account_id",
            "base": 40,
            "features": rules,
            "tiers": {"A": {"min": 45, "max": 101}, "B": {"min": 0, "max": 45}},
        }
    )
    engine.load("ruled", accounts)
    kinds = column_kinds(accounts.schema) if known else None
    text = select(spec, "ruled", dialect=engine.dialect, kinds=kinds)
    assert differing(engine.ask(text), score(accounts, spec)) == 0


@pytest.mark.slow
def test_what_the_contract_refuses_has_no_score(engine: Engine) -> None:
    frame = pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(8)],
            "exact": [float("inf"), float("nan"), None, 1e12, 1.0, 1.0, 1.0, 1.0],
            "plan": ["basic", "basic", "basic", "basic", "unheard", None, "basic", "basic"],
            "tenure": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, float("-inf"), 1.0],
        }
    )
    bounds = {"weight": 10, "min": 0, "max": 10}
    spec = ScoringSpec.model_validate(
        {
            "model": "strict",
            "id": "account_id",
            "features": {
                "exact": bounds,
                "plan": {**bounds, "encode": {"kind": "one_of", "values": {"basic": 1}}},
                "tenure": {"encode": {"kind": "bins", "bins": {"[-inf,inf)": bounds}}},
            },
            "tiers": {"A": {"min": 0, "max": 101}},
        }
    )
    engine.load("refused", frame)
    text = select(spec, "refused", dialect=engine.dialect, kinds=column_kinds(frame.schema))
    got = in_doubles(engine.ask(text))
    assert got["score"].to_list() == [None] * 7 + [30.0]
    assert got["tier"].to_list() == [None] * 7 + ["A"]
