"""One table, every path to its metrics: kernel in full and in steps, reference, SQL twins."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
import reference
import tables

from gtmar import spec as specs
from gtmar.data.matrix import Accounts
from gtmar.data.synthetic import KINDS, generate
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import GtmarError
from gtmar.metrics import all_metrics, measure
from gtmar.runs import score

ROOT = Path(__file__).parents[2]
TWINS = sorted((ROOT / "sql" / "metrics").glob("*.sql"))
ACCOUNTS = 600
ROLES = {
    "mrr": "start",
    "mrr_end": "end",
    "actual_ltv": "ltv",
    "activated": "activated",
    "days_to_activate": "days",
    "won_back": "won_back",
}
#: Null without an observed end MRR, whatever a formula would make of a flat one.
OBSERVED_ONLY = re.compile(r"^(expansion|expanded|contraction|contracted|quick)_")


@dataclass(frozen=True)
class Case:
    """An example's spec with weights of its own, a table, and the table scored."""

    spec: specs.ScoringSpec
    accounts: Accounts
    frame: pl.DataFrame
    scores: pl.DataFrame
    #: One row per account: score, tier, and the outcome columns that the twins expect.
    joined: pl.DataFrame

    @property
    def weights(self) -> list[int]:
        return [term.weight for term in self.spec.terms]

    def metrics(self) -> dict[str, object]:
        sums = LocalEvaluator(self.accounts.search, self.spec).frame([self.weights])
        found = measure(sums, self.spec.tier_names, self.accounts.checked.outcomes)
        return found.row(0)


def at_the_bounds(spec: specs.ScoringSpec, seed: int) -> specs.ScoringSpec:
    """Put every weight at one of its ends, so that some scores clip and all tiers are filled."""
    source = np.random.default_rng(seed)
    drawn = {term.name: int(source.choice([term.min, term.max])) for term in spec.terms}
    return specs.reweighed(spec, drawn)


@pytest.fixture(scope="module", params=list(KINDS))
def case(request: pytest.FixtureRequest) -> Case:
    kind: str = request.param
    frame = generate(kind, accounts=ACCOUNTS, seed=8)
    spec = at_the_bounds(specs.load(ROOT / "examples" / kind / "spec.yaml"), seed=44)
    spec = spec.model_copy(update={"split": specs.Split(holdout=0)})
    scores = score(frame, spec)
    label = pl.col("retained_6mo") if "retained_6mo" in frame.columns else 1 - pl.col("churned")
    known = scores.select("account_id", "score", "tier").join(frame, on="account_id")
    joined = known.select(
        "score",
        "tier",
        label.cast(pl.Int64).alias("retained_6mo"),
        *(
            pl.col(name) if name in frame.columns else pl.lit(None, dtype=pl.Int64).alias(name)
            for name in ROLES
        ),
    )
    if "mrr_end" not in frame.columns:
        joined = joined.with_columns(mrr_end=pl.col("mrr") * pl.col("retained_6mo"))
    return Case(spec, tables.loaded(frame, spec), frame, scores, joined)


def cents(value: float | None) -> int | None:
    return None if value is None else round(value * 100)


def reference_rows(joined: pl.DataFrame) -> list[dict[str, Any]]:
    money = {"mrr", "mrr_end", "actual_ltv"}
    return [
        {
            "score": round(row["score"] * 100),
            "tier": row["tier"],
            "retained": row["retained_6mo"],
            **{
                name: cents(row[column]) if column in money else row[column]
                for column, name in ROLES.items()
            },
        }
        for row in joined.iter_rows(named=True)
    ]


def without_missing(case: Case, found: dict[str, object]) -> dict[str, object]:
    """Leave out what the table has no columns for, where formulas alone can't know it."""
    basis = case.accounts.checked.outcomes.basis
    return {k: v for k, v in found.items() if basis == "observed" or not OBSERVED_ONLY.match(k)}


# ---- the metrics ----------------------------------------------------------------------------


@pytest.mark.slow
def test_kernel_and_metrics_equal_the_reference(case: Case) -> None:
    expected = reference.metrics(
        reference_rows(case.joined), list(case.spec.tier_names), case.spec.orientation
    )
    expected.pop("revenue_capture_random")
    got = case.metrics()
    found = without_missing(case, expected)
    tables.assert_same_metrics({key: got[key] for key in found}, found)


@pytest.fixture(scope="module")
def connection() -> Iterator["duckdb.DuckDBPyConnection"]:
    with duckdb.connect(config={"threads": 1}) as opened:
        yield opened


def run_twins(
    connection: "duckdb.DuckDBPyConnection", joined: pl.DataFrame, spec: specs.ScoringSpec
) -> dict[str, object]:
    """Run every twin over a scored table; return its metrics as `Measured.row` has them."""
    connection.register("scored", joined)
    connection.execute("set variable tiers = ?", [list(spec.tier_names)])
    connection.execute("set variable orientation = ?", [spec.orientation])
    found: dict[str, object] = {}
    for twin in TWINS:
        rows = connection.sql(twin.read_text(encoding="utf-8")).pl().to_dicts()
        for column in rows[0].keys() & all_metrics().keys():
            assert column not in found
            found[column] = (
                {row["tier"]: row[column] for row in rows} if "tier" in rows[0] else rows[0][column]
            )
    connection.unregister("scored")
    return found


def test_sql_twins_over_the_scored_table_give_the_same(
    case: Case, connection: "duckdb.DuckDBPyConnection"
) -> None:
    found = run_twins(connection, case.joined, case.spec)
    counts = {key for key, metric in all_metrics().items() if metric.count}
    own = {"score_mean", "score_deviation", "share_clipped_low", "share_clipped_high"}
    assert found.keys() == all_metrics().keys() - counts - own - {"share_by_tier"}
    found = without_missing(case, found)
    got = case.metrics()
    tables.assert_same_metrics({key: got[key] for key in found}, found)


@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_sql_twins_read_gaps_in_the_outcomes_as_the_contract_does(
    connection: "duckdb.DuckDBPyConnection", orientation: str
) -> None:
    # The outcome columns as they stand in the table: who left may have no end MRR, others no label.
    drawn = tables.draw_table(random.Random(6), 300, "retained")
    frame = tables.frame_of(drawn, "retained")
    spec = tables.make_spec((40, 25, -10), base=5, orientation=orientation)
    joined = score(frame, spec).select("account_id", "score", "tier").join(frame, on="account_id")
    assert joined.filter(pl.col("mrr_end").is_null() & (pl.col("retained_6mo") == 0)).height
    found = run_twins(connection, joined, spec)
    got = tables.tallied(frame, spec).row(0)
    tables.assert_same_metrics({key: got[key] for key in found}, found)


def test_metrics_without_their_columns_are_null_by_every_name(case: Case) -> None:
    row = case.metrics()
    outcomes = case.accounts.checked.outcomes
    lacking = {key for key, m in all_metrics().items() if outcomes.missing_reason(m.needs)}
    for key in lacking:
        values = row[key]
        assert values is None or (isinstance(values, dict) and set(values.values()) == {None})
    if outcomes.basis == "binary":
        assert lacking >= {key for key in row if OBSERVED_ONLY.match(key)}
    else:
        assert not {key for key in lacking if OBSERVED_ONLY.match(key)}


# ---- scores ---------------------------------------------------------------------------------


def test_kernel_and_polars_score_every_account_the_same(case: Case) -> None:
    evaluator = LocalEvaluator(case.accounts.search, case.spec)
    # The matrix has its own order of rows, so scores are compared as a sorted list.
    got = sorted(evaluator.scores(case.weights).tolist())
    assert got == sorted(round(value * 100) for value in case.scores["score"])
    assert got[0] == 0 < got[-1], "no account is clipped, so clipping is not tested"
    assert set(case.scores["tier"]) == set(case.spec.tiers)


def test_every_line_of_points_adds_up(case: Case) -> None:
    parts = [n for n in case.scores.columns if n.startswith("points.")]
    total = case.scores.select(
        pl.sum_horizontal("base", *parts, "rounding", "clipping").alias("total"), "score"
    )
    assert total["total"].to_list() == pytest.approx(total["score"].to_list(), abs=1e-9)
    terms = [name.removeprefix("points.") for name in parts]
    assert terms == [term.name for term in case.spec.terms]


@pytest.mark.parametrize("name", ["value", "raw", "rounded", "x.x0", "movement"])
def test_an_id_column_of_any_name_comes_back_as_it_is(name: str) -> None:
    frame = pl.DataFrame({name: ["b", "a"], "x0": [0.6, 0.2], "retained_6mo": [1, 0]})
    spec = tables.make_spec((100,), id=name)
    assert LocalEvaluator(tables.loaded(frame, spec).search, spec).scores([100]).sum() == 8000
    scores = score(frame, spec)
    assert scores.to_series(0).to_list() == ["b", "a"]
    assert scores["base"].to_list() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["score", "tier", "base", "rounding", "clipping"])
def test_an_id_column_named_as_a_result_is_refused_by_name(name: str) -> None:
    frame = pl.DataFrame({name: ["b", "a"], "x0": [0.6, 0.2]})
    with pytest.raises(GtmarError, match=f'"{name}"') as caught:
        score(frame, tables.make_spec((100,), id=name))
    # The file is as it should be; it is the name that has to change.
    assert "can't be read" not in caught.value.message


# ---- in steps -------------------------------------------------------------------------------


def test_incremental_sums_are_the_full_ones_bit_for_bit(case: Case) -> None:
    source = np.random.default_rng(4)
    low = np.array([term.min for term in case.spec.terms])
    high = np.array([term.max for term in case.spec.terms])
    walking = LocalEvaluator(case.accounts.search, case.spec)
    walking.move(case.weights)
    for _ in range(4):
        batch = source.integers(low, high + 1, size=(3, len(low))).tolist()
        fresh = LocalEvaluator(case.accounts.search, case.spec).sums(batch)
        np.testing.assert_array_equal(walking.sums(batch), fresh)
        # Asked again the answer is the same: a candidate leaves nothing behind.
        np.testing.assert_array_equal(walking.sums(batch[::-1]), fresh[::-1])
        walking.move(batch[1])
    assert walking.frame_of(fresh).height == 3


def test_counts_come_down_to_sums_and_two_of_them_add_up(case: Case) -> None:
    evaluator = LocalEvaluator(case.accounts.search, case.spec)
    batch = [case.weights, [0] * len(case.weights)]
    counts, sums = evaluator.counts(batch), evaluator.sums(batch)
    arrays = [getattr(counts, field.name) for field in fields(counts) if field.name != "first"]
    assert {len(array) for array in arrays} == {len(batch)}
    np.testing.assert_array_equal(evaluator.reduce(counts), sums)
    twice = evaluator.frame_of(evaluator.reduce(counts + counts))
    assert twice["scored"].to_list() == [2 * case.accounts.search.accounts] * 2


def test_the_matrix_can_not_be_written_to(case: Case) -> None:
    matrix = case.accounts.search
    arrays = [*matrix.columns, matrix.codes, matrix.offsets]
    arrays += [
        array
        for array in (matrix.start, matrix.end, matrix.ltv, matrix.ltv_rows, matrix.day_codes)
        if array is not None
    ]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


# ---- the ends of integers -------------------------------------------------------------------


@pytest.mark.parametrize("points", [214_748, 214_749, 3_000_000])
def test_scores_next_to_the_end_of_int32_do_not_wrap(points: int) -> None:
    # The weight's bound makes the reach fall just below, or just above, what int32 holds.
    units = 10_000 * points + 3_547
    frame = pl.DataFrame(
        {"account_id": ["top", "low"], "x0": [units / 10_000, 0.5], "retained_6mo": [1, 0]}
    )
    spec = tables.make_spec((1,), bounds=(0, 1))
    evaluator = LocalEvaluator(tables.loaded(frame, spec).search, spec)
    assert sorted(evaluator.scores([1]).tolist()) == [50, 10_000]
    assert score(frame, spec)["score"].to_list() == [100.0, 0.5]


def test_accounts_without_any_label_count_where_their_lifetime_value_does() -> None:
    # "Current" is who has no `won_back`: a missing label does not take the account's value away.
    frame = pl.DataFrame(
        {
            "account_id": list("abcdef"),
            "x0": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            "retained_6mo": [0, None, 1, 1, None, 1],
            "actual_ltv": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "won_back": [None, None, None, None, None, None],
        },
        schema_overrides={"won_back": pl.Int64},
    )
    spec = tables.make_spec((100,))
    got = tables.tallied(frame, spec).row(0)
    # A quarter of six is one and a half account.
    assert got["tier_separation"] == pytest.approx((6 + 2.5) / (1 + 1))
    assert got["ltv_accounts"] == 6
