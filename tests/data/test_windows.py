"""The order of time: every account that breaks it is counted, all in one message."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from factories import make_accounts, make_spec, weighted

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import ViolationsError

if TYPE_CHECKING:
    from pathlib import Path

N = 100
FIRST = date(2026, 1, 1)
COLUMNS = {"features_asof": "taken", "outcome_start": "from", "outcome_end": "to"}


def table(**days: list[date | None]) -> pl.DataFrame:
    """Return accounts of one window: taken on 1 January, outcomes from the 2nd to 30 June."""
    usual: dict[str, list[date | None]] = {
        "taken": [FIRST] * N,
        "from": [FIRST + timedelta(1)] * N,
        "to": [date(2026, 6, 30)] * N,
    }
    return make_accounts(N).with_columns(
        pl.Series(name, values, dtype=pl.Date) for name, values in {**usual, **days}.items()
    )


def problems(frame: Any, window: dict[str, str] | None = None, **more: Any) -> list[str]:
    spec = make_spec(window=window or COLUMNS, **more.pop("spec", {}))
    try:
        load_accounts(scan(frame), spec, **more)
    except ViolationsError as err:
        return [f"{v.column}: {v.problem}" for v in err.violations]
    return []


def late(count: int, day: date, usual: date) -> list[date | None]:
    return [*[day] * count, *[usual] * (N - count)]


def test_a_window_in_order_is_no_finding() -> None:
    assert problems(table()) == []
    assert problems(table(), as_of="2026-06-30") == []
    assert problems(table(), {"features_asof": "2025-12-31", "outcome_end": "2026-06-30"}) == []
    assert problems(table(), {"features_asof": "taken"}) == []


def test_all_that_is_out_of_order_is_counted_in_one_error() -> None:
    frame = table(taken=late(3, FIRST + timedelta(1), FIRST), to=late(2, FIRST, date(2026, 6, 30)))
    found = problems(frame, as_of="2026-06-29")
    assert [each.partition(":")[0] for each in found] == ["taken", "from", "to"]
    assert "3 of 100 accounts have features_asof not before outcome_start" in found[0]
    assert "2 of 100 accounts have outcome_end before outcome_start" in found[1]
    assert "98 of 100 accounts have outcomes that aren't complete by 2026-06-29" in found[2]
    assert '"acct-00000"' in found[0]


def test_without_a_start_features_come_before_the_end() -> None:
    frame = table(to=late(4, FIRST, date(2026, 6, 30)))
    [found] = problems(frame, {"features_asof": "taken", "outcome_end": "to"})
    assert "4 of 100 accounts have features_asof not before outcome_end" in found


def test_stated_dates_are_held_against_columns_and_each_other() -> None:
    window = {"features_asof": "2026-01-02", "outcome_start": "from", "outcome_end": "2026-01-01"}
    found = problems(table(), window)
    assert "100 of 100 accounts have features_asof not before outcome_start" in found[0]
    assert "100 of 100 accounts have outcome_end before outcome_start" in found[1]
    stated = {"features_asof": "2026-01-02", "outcome_end": "2026-01-02"}
    [alone] = problems(table(), stated)
    assert "100 of 100 accounts have features_asof not before outcome_end" in alone


def test_times_count_by_their_day() -> None:
    frame = table().with_columns(
        pl.lit(datetime(2026, 1, 1, 23, 59)).alias("taken"),
        pl.lit(datetime(2026, 1, 2, 0, 1)).alias("from"),
    )
    assert problems(frame) == []
    same = frame.with_columns(pl.lit(datetime(2026, 1, 2, 0, 0)).alias("taken"))
    assert "100 of 100 accounts have features_asof" in problems(same)[0]


def test_columns_that_are_not_there_or_hold_no_dates_are_named_with_all_else() -> None:
    frame = table().with_columns(pl.lit("06/05/2026").alias("to")).drop("depth")
    window = {"features_asof": "takn", "outcome_start": "2026-13-01", "outcome_end": "to"}
    found = problems(frame, window)
    assert found[0].startswith('depth: no such column (feature "depth")')
    assert "takn: no such column (window features_asof)" in found[1:]
    assert any(each.startswith(': window outcome_start is no date: "2026-13-01"') for each in found)
    assert 'to: window outcome_end expects dates, got String: "06/05/2026"' in found


def test_unknown_days_are_counted() -> None:
    [found] = problems(table(to=[None] * 5 + [date(2026, 6, 30)] * 95))
    assert "5 of 100 values of window outcome_end are null" in found


def test_where_days_are_counted_before_as_of_it_is_the_features_day() -> None:
    encode = {"kind": "days_before", "then": {"kind": "range", "from": 0, "to": 400}}
    features = {"seen": weighted(encode=encode)}
    frame = table().with_columns(seen=pl.lit(date(2025, 12, 1)))
    assert problems(frame, as_of="2026-01-01", spec={"features": features}) == []


def test_csv_and_the_order_of_rows_make_no_difference(tmp_path: Path) -> None:
    frame = table(taken=late(3, FIRST + timedelta(1), FIRST))
    frame.reverse().write_csv(tmp_path / "a.csv")
    counted = [each.partition(": ")[2].partition(":")[0] for each in problems(frame)]
    again = [each.partition(": ")[2].partition(":")[0] for each in problems(tmp_path / "a.csv")]
    assert again == counted
    assert len(counted) == 1


def test_a_table_that_is_only_scored_needs_no_window() -> None:
    scored = runs.score(table().drop("taken", "from", "to"), make_spec(window=COLUMNS))
    assert scored.height == N


def test_the_ids_of_a_spec_do_not_depend_on_it() -> None:
    plain, timed = make_spec(), make_spec(window=COLUMNS)
    assert specs.spec_id(plain) == specs.spec_id(timed)
    assert specs.score_id(plain) == specs.score_id(timed)
    assert specs.parse(specs.to_yaml(timed)) == timed
    written = specs.to_yaml(timed).replace("features_asof: taken", "features_asof: 2026-01-01")
    window = specs.parse(written).window
    assert window is not None
    assert window.features_asof == "2026-01-01"


@pytest.mark.slow
def test_the_search_window_is_over_before_the_holdout_begins(tmp_path: Path) -> None:
    spec = make_spec(window=COLUMNS)
    other = pl.format("b-{}", "account_id").alias("account_id")

    def later(shift: int, **days: list[date | None]) -> pl.DataFrame:
        moved = table(**days).with_columns(pl.col("taken", "from", "to").dt.offset_by(f"{shift}d"))
        return moved.with_columns(other)

    def search(holdout: pl.DataFrame, name: str) -> runs.RunResult:
        return runs.run(
            table(), spec, limits=runs.Limits(2), journal=tmp_path / name, holdout_file=holdout
        )

    # 180 days from 1 January is 30 June, the last day of the outcomes searched.
    assert search(later(180), "a").holdout is not None
    with pytest.raises(
        ViolationsError, match="100 of 100 accounts have features from before 2026-06-30"
    ):
        search(later(179), "b")
    mixed = later(180, taken=late(6, FIRST - timedelta(1), FIRST))
    with pytest.raises(ViolationsError, match="6 of 100 accounts have features from before"):
        search(mixed, "c")
    assert not (tmp_path / "b").exists()
    stated = make_spec(window={"features_asof": "2026-01-01", "outcome_end": "2026-06-30"})
    with pytest.raises(ViolationsError, match="100 of 100 accounts have features from before"):
        runs.run(table(), stated, holdout_file=later(180), journal=tmp_path / "d")
