"""Scoring a table: the column of points adds up, tiers fit, and the search sees the same scores."""

import math
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import OUTCOMES, binned, make_accounts, make_spec, weighted
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import AccountDataError, SpecError, UsageError, ViolationsError
from gtmar.runs.score import score, write_table
from gtmar.spec import ScoringSpec

ACCOUNTS = make_accounts(200)
SPEC = make_spec()


def exact(value: float, per_point: int) -> int:
    """Read points as the integer that they stand for, and refuse what stands for none."""
    units = round(value * per_point)
    assert value == units / per_point
    return units


def by_hand(row: dict[str, Any], weights: dict[str, int]) -> dict[str, Fraction]:
    """Value the features of `make_spec` for one account, in exact points."""
    logins = Fraction(math.floor(min(row["logins"], 40) / 40 * 10_000 + 0.5), 10_000)
    plan = {"basic": Fraction(1), "team": Fraction(1, 4)}.get(row["plan"], Fraction(0))
    depth = Fraction(math.floor(row["depth"] * 10_000 + 0.5), 10_000)
    values = {
        "alert_created": Fraction(row["alert_created"]),
        "depth": depth,
        "logins": logins,
        "plan": plan,
    }
    return {name: weights[name] * value for name, value in values.items()}


def check_sums(scored: pl.DataFrame, spec: ScoringSpec) -> None:
    """Hold every row against exact integer arithmetic: units of 1/10,000 of a point."""
    for row in scored.iter_rows(named=True):
        raw = spec.base * 10_000 + sum(
            exact(row[f"points.{term.name}"], 10_000) for term in spec.terms
        )
        rounded = (raw + 50) // 100
        clipped = min(max(rounded, 0), 100 * spec.max_score)
        assert row["base"] == spec.base
        assert exact(row["rounding"], 10_000) == 100 * rounded - raw
        assert -50 < 100 * rounded - raw <= 50
        assert exact(row["clipping"], 100) == clipped - rounded
        assert exact(row["score"], 100) == clipped
        [tier] = [n for n, t in spec.tiers.items() if t.low <= clipped < t.high]
        assert row["tier"] == tier


# The column of points


def test_points_are_weight_times_value() -> None:
    scored = score(ACCOUNTS, SPEC)
    for row, account in zip(scored.rows(named=True), ACCOUNTS.rows(named=True), strict=True):
        assert row["account_id"] == account["account_id"]
        for name, points in by_hand(account, SPEC.weights).items():
            assert Fraction(exact(row[f"points.{name}"], 10_000), 10_000) == points


def test_columns_and_types() -> None:
    scored = score(ACCOUNTS, SPEC)
    assert dict(scored.schema) == {
        "account_id": pl.String,
        "score": pl.Float64,
        "tier": pl.String,
        "base": pl.Float64,
        "points.alert_created": pl.Float64,
        "points.depth": pl.Float64,
        "points.logins": pl.Float64,
        "points.plan": pl.Float64,
        "rounding": pl.Float64,
        "clipping": pl.Float64,
    }
    assert scored.null_count().sum_horizontal().item() == 0


def test_column_of_points_adds_up() -> None:
    scored = score(ACCOUNTS, SPEC)
    check_sums(scored, SPEC)
    assert scored["tier"].n_unique() == 4


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.floats(-3, 3), min_size=1, max_size=25),
    weights=st.tuples(st.integers(-60, 60), st.integers(-60, 60)),
    base=st.integers(-80, 80),
    max_score=st.sampled_from([1, 10, 100]),
    edge=st.integers(1, 99),
)
def test_column_of_points_adds_up_for_any_spec(
    values: list[float], weights: tuple[int, int], base: int, max_score: int, edge: int
) -> None:
    cut = edge * max_score / 100
    spec = make_spec(
        id=None,
        base=base,
        max_score=max_score,
        features={
            "x": weighted(weights[0], -60, 60),
            "y": weighted(
                weights[1],
                -60,
                60,
                column="x",
                encode={"kind": "curve", "points": [[-1, 0.3], [0.1, 0.77], [2, -0.4]]},
            ),
        },
        tiers={"top": {"min": cut, "max": max_score + 1}, "rest": {"min": 0, "max": cut}},
    )
    check_sums(score(pl.DataFrame({"x": values}), spec), spec)


@pytest.mark.parametrize(
    ("value", "rounded", "rounding"),
    [
        (0.500_0, 0.5, 0.0),
        (0.505_0, 0.51, 0.005),
        (0.504_9, 0.5, -0.004_9),
        (0.494_9, 0.49, -0.004_9),
        (0.495_0, 0.5, 0.005),
    ],
)
def test_score_is_rounded_half_up_to_hundredths(
    value: float, rounded: float, rounding: float
) -> None:
    frame = pl.DataFrame({"x": [value]})
    spec = make_spec(id=None, base=0, features={"x": weighted(1)})
    row = score(frame, spec).row(0, named=True)
    assert (row["score"], row["rounding"], row["clipping"]) == (rounded, rounding, 0.0)


@pytest.mark.parametrize(
    ("value", "points", "clipping"),
    [(3.0, 0.0, 20.0), (-9.0, 100.0, 0.0), (-9.5, 100.0, -5.0), (1.0, 0.0, 0.0), (1.5, 0.0, 5.0)],
)
def test_clipping_is_a_line_of_its_own(value: float, points: float, clipping: float) -> None:
    spec = make_spec(id=None, base=10, features={"x": weighted(-10)})
    row = score(pl.DataFrame({"x": [value]}), spec).row(0, named=True)
    assert (row["score"], row["clipping"]) == (points, clipping)
    assert row["points.x"] == -10 * value


def test_negative_ties_are_rounded_up() -> None:
    spec = make_spec(id=None, base=0, features={"x": weighted(-1)})
    row = score(pl.DataFrame({"x": [0.005, 0.005_1]}), spec)
    assert row["rounding"].to_list() == [0.005, -0.004_9]
    assert row["clipping"].to_list() == [0.0, 0.01]
    assert row["score"].to_list() == [0.0, 0.0]


# Tiers


@pytest.mark.parametrize(
    ("points", "tier"),
    [
        (0, "D"),
        (14.99, "D"),
        (14.994_9, "D"),
        (14.995, "C"),
        (15, "C"),
        (34.99, "C"),
        (35, "B"),
        (59.99, "B"),
        (60, "A"),
        (100, "A"),
        (-5, "D"),
        (500, "A"),
    ],
)
def test_tier_holds_its_lower_edge(points: float, tier: str) -> None:
    spec = make_spec(id=None, base=0, features={"x": weighted(1)})
    assert score(pl.DataFrame({"x": [points]}), spec)["tier"].to_list() == [tier]


def test_one_tier_takes_all() -> None:
    spec = make_spec(tiers={"all": {"min": 0, "max": 101}})
    assert set(score(ACCOUNTS, spec)["tier"]) == {"all"}


def test_orientation_changes_no_score() -> None:
    assert_frame_equal(score(ACCOUNTS, make_spec(orientation="risk")), score(ACCOUNTS, SPEC))


# Terms, ids, dates


def test_bins_have_points_of_their_own() -> None:
    spec = make_spec(base=0, features={"plan": binned("basic", "other", weight=7)})
    scored = score(ACCOUNTS, spec)
    basic = (ACCOUNTS["plan"] == "basic").to_list()
    assert scored["points.plan[basic]"].to_list() == [7.0 * flag for flag in basic]
    assert scored["points.plan[other]"].to_list() == [7.0 * (not flag) for flag in basic]
    assert set(scored["score"]) == {7.0}


def test_table_without_an_id() -> None:
    scored = score(ACCOUNTS.drop("account_id"), make_spec(id=None))
    assert_frame_equal(scored, score(ACCOUNTS, SPEC).drop("account_id"))


def test_id_is_found_under_a_usual_name() -> None:
    frame = ACCOUNTS.rename({"account_id": "customer_id"})
    assert score(frame, make_spec(id=None)).columns[0] == "customer_id"


def test_integer_ids_stay_integers() -> None:
    frame = ACCOUNTS.with_columns(account_id=pl.int_range(pl.len(), dtype=pl.Int64))
    assert score(frame, SPEC)["account_id"].to_list() == list(range(200))


@pytest.mark.parametrize("name", ["raw", "rounded", "value"])
def test_id_named_like_a_step_of_the_computation(name: str) -> None:
    scored = score(ACCOUNTS.rename({"account_id": name}), make_spec(id=name))
    assert_frame_equal(scored, score(ACCOUNTS, SPEC).rename({"account_id": name}))


@pytest.mark.parametrize("name", ["score", "tier", "base", "rounding", "clipping"])
def test_id_named_like_a_result(name: str) -> None:
    frame = ACCOUNTS.rename({"account_id": name})
    with pytest.raises((SpecError, UsageError, ViolationsError), match=name):
        score(frame, make_spec(id=name))


def test_order_of_a_large_table_is_kept() -> None:
    n = 150_000
    frame = pl.DataFrame({"account_id": range(n), "x": [(i * 7) % 101 for i in range(n)]})
    scored = score(frame, make_spec(features={"x": weighted(1)}, base=0))
    assert scored["account_id"].to_list() == list(range(n))
    assert scored["score"].to_list() == [float((i * 7) % 101) for i in range(n)]


def test_as_of_counts_days_from_the_day_that_is_given() -> None:
    frame = pl.DataFrame(
        {"x": [date(2026, 1, 1), date(2026, 1, 31)], "today": [date(2026, 2, 1)] * 2}
    )
    spec = make_spec(
        id=None, base=0, features={"x": weighted(1, encode="days_before")}, as_of="today"
    )
    assert score(frame, spec)["score"].to_list() == [31.0, 1.0]
    assert score(frame, spec, as_of="2026-02-03")["score"].to_list() == [33.0, 3.0]


def test_any_source_gives_the_same_scores(tmp_path: Path) -> None:
    ACCOUNTS.write_parquet(tmp_path / "a.parquet")
    ACCOUNTS.write_csv(tmp_path / "a.csv")
    expected = score(ACCOUNTS, SPEC)
    for source in (tmp_path / "a.parquet", str(tmp_path / "a.csv"), ACCOUNTS.lazy()):
        assert_frame_equal(score(source, SPEC), expected)


# Outcomes aren't looked at


def test_outcomes_are_not_needed() -> None:
    expected = score(ACCOUNTS, SPEC)
    assert_frame_equal(score(ACCOUNTS.drop(OUTCOMES), SPEC), expected)
    wrong = ACCOUNTS.with_columns(retained_6mo=pl.lit("?"), mrr=-1)
    assert_frame_equal(score(wrong, SPEC), expected)


def test_features_are_held_against_the_contract() -> None:
    with pytest.raises(ViolationsError, match='column "depth": no such column') as caught:
        score(ACCOUNTS.drop("depth").with_columns(logins=None), SPEC)
    assert {violation.column for violation in caught.value.violations} == {"depth", "logins"}
    with pytest.raises(AccountDataError, match="the table is empty"):
        score(ACCOUNTS.clear(), SPEC)
    with pytest.raises(SpecError, match="beyond what 64-bit integers hold"):
        score(
            ACCOUNTS.with_columns(depth=8e11),
            make_spec(features={"depth": weighted(1, 0, 1_000_000)}),
        )


# The search sees the same


@pytest.mark.parametrize("weights", [None, {"depth": -50, "logins": 50, "plan": 25}])
def test_evaluator_gives_the_same_scores(weights: dict[str, int] | None) -> None:
    spec = SPEC.with_weights(weights or {})
    numbered = ACCOUNTS.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    # A feature of weight 0 that tells the rows of the arrays apart.
    stated = {name: f.model_dump(by_alias=True) for name, f in spec.features.items()}
    tracked = make_spec(features={**stated, "row": weighted(0, 0, 0)})
    scores = score(numbered, tracked)["score"].to_list()
    accounts = load_accounts(scan(numbered), tracked)
    seen = 0
    for part in (accounts.search, accounts.holdout):
        assert part is not None
        found = LocalEvaluator(part, tracked).scores([term.weight for term in tracked.terms])
        rows = (part.columns[-1] // 10_000).tolist()
        assert found.tolist() == [exact(scores[row], 100) for row in rows]
        seen += len(rows)
    assert seen == 200


# Writing


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.arrow", "a.ipc", "a.feather", "A.CSV"])
def test_written_table_reads_back(tmp_path: Path, name: str) -> None:
    scored = score(ACCOUNTS, SPEC)
    path = write_table(scored, tmp_path / name)
    assert path == tmp_path / name
    readers: dict[str, Any] = {".parquet": pl.read_parquet, ".csv": pl.read_csv}
    assert_frame_equal(readers.get(path.suffix.lower(), pl.read_ipc)(path), scored)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_writing_replaces_a_file_by_force_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(UsageError, match="is not replaced"):
        write_table(ACCOUNTS, str(path))
    assert path.read_text("utf-8") == "old"
    write_table(ACCOUNTS, str(path), force=True)
    assert_frame_equal(pl.read_parquet(path), ACCOUNTS)


@pytest.mark.parametrize(
    ("name", "ending"), [("a.xlsx", ".xlsx"), ("a", ""), ("a.parquet.gz", ".gz")]
)
def test_unknown_ending(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / name
    with pytest.raises(UsageError) as caught:
        write_table(ACCOUNTS, path)
    assert caught.value.message == f'"{path}": can\'t tell the format from the ending "{ending}"'
    assert caught.value.hint == "end it in .parquet, .csv, .arrow, .ipc, .feather"
    assert list(tmp_path.iterdir()) == []


def test_target_that_is_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.mkdir()
    with pytest.raises(UsageError, match="can't be written: Is a directory"):
        write_table(ACCOUNTS, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.arrow"])
def test_folder_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"can't be written: .*[Nn]o such file"):
        write_table(ACCOUNTS, tmp_path / "nowhere" / name)


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    nested = pl.DataFrame({"x": [[1, 2]]})
    with pytest.raises(UsageError, match="can't be written: "):
        write_table(nested, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
