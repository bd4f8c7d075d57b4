"""The exported SELECT against `gtmar score`, on engines that gtmar did not write."""

import os
import random
from collections.abc import Iterator

import polars as pl
import pytest
import sqlglot
from engines import DuckDB, Engine, postgres, spark
from polars.testing import assert_frame_equal
from scorecards import draw_accounts, draw_combined, draw_rule, draw_spec, draw_table
from sqlglot import exp

from gtmar.integrations.sql import DIALECTS, column_kinds, select, select_grid
from gtmar.runs import grid, score
from gtmar.spec import ScoringSpec

SPECS = 20
#: By each spec; each value at an edge is drawn hundreds of times. `GTMAR_ACCOUNTS` draws more.
ACCOUNTS = int(os.environ.get("GTMAR_ACCOUNTS", "10000"))

#: One engine after the other, so that only one is running at a time.
NAMES = ("duckdb", "postgres", "spark")


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "duckdb":
        yield DuckDB()
        return
    with (postgres if request.param == "postgres" else spark)() as started:
        if started is None:
            pytest.skip(f"{request.param} is not installed here: no SQL can be run on it")
        yield started


@pytest.fixture(scope="module")
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


@pytest.mark.slow
def test_no_score_differs_from_what_gtmar_gives(engine: Engine, accounts: pl.DataFrame) -> None:
    engine.load("accounts", accounts)
    kinds = column_kinds(accounts.schema)
    compared = 0
    # Spark plans a statement for longer than it runs: by default it gets one spec of four.
    step = 4 if engine.dialect == "spark" and "GTMAR_ACCOUNTS" not in os.environ else 1
    for seed in range(0, SPECS, step):
        spec = draw_spec(seed)
        text = select(spec, "accounts", dialect=engine.dialect, kinds=kinds)
        assert differing(engine.ask(text), score(accounts, spec)) == 0, f"spec {seed}"
        compared += accounts.height
    assert compared == SPECS // step * ACCOUNTS


@pytest.mark.slow
def test_without_knowing_the_columns_too(engine: Engine) -> None:
    accounts = draw_accounts(2_000, seed=1)
    engine.load("few accounts", accounts)
    quote = "`" if engine.dialect == "spark" else '"'
    for seed in range(100, 102 if engine.dialect == "spark" else 105):
        spec = draw_spec(seed)
        text = select(spec, f"{quote}few accounts{quote}", dialect=engine.dialect)
        assert differing(engine.ask(text), score(accounts, spec)) == 0, f"spec {seed}"


@pytest.mark.slow
def test_groups_shared_weights_fading_and_vetoes_are_the_same_in_duckdb() -> None:
    assert {"group", "redistributed", "veto"} <= combined(DuckDB(), seeds=range(4), accounts=200)


@pytest.mark.slow
def test_groups_shared_weights_fading_and_vetoes_are_the_same(engine: Engine) -> None:
    specs = 2 if engine.dialect == "spark" else 6
    combined(engine, seeds=range(6, 6 + specs), accounts=ACCOUNTS // 4)


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
    two = draw_combined(seeds[1]).model_copy(update={"model": 'an "other"'})
    text = select_grid(one, two, "combined", dialect=engine.dialect, kinds=kinds)
    cells = engine.ask(text).sort("account_id")["cell"]
    assert cells.to_list() == grid(drawn, one, two).rows.sort("account_id")["cell"].to_list()
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_grid_names_each_step_of_either_score_once(dialect: str) -> None:
    kinds = column_kinds(draw_accounts(10, seed=3).schema)
    one, two = draw_combined(6), draw_combined(7).model_copy(update={"model": "other"})
    text = select_grid(one, two, "combined", dialect=dialect, kinds=kinds)
    steps = [cte.alias for cte in sqlglot.parse_one(text, dialect=dialect).find_all(exp.CTE)]
    assert len(steps) == len(set(steps)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_rules_and_tables_count_for_the_same_accounts(engine: Engine, *, known: bool) -> None:
    accounts, draw = draw_accounts(1_000, seed=4), random.Random(7)
    rules = {
        f"rule {i}": {
            "rule": str(draw_rule(draw)),
            "weight": draw.randint(-9, 9),
            "min": -9,
            "max": 9,
        }
        for i in range(20)
    }
    rules |= {
        f"table {i}": {"encode": draw_table(draw), "weight": 9, "min": -9, "max": 9}
        for i in range(20)
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
