"""AccountMatrix: frozen, narrow, in the order of movements, every account in one part."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest
from factories import binned, make_accounts, make_spec, weighted

from gtmar.data.matrix import AccountMatrix, Accounts, check_reach, load_accounts
from gtmar.data.outcomes import Movement
from gtmar.data.scan import scan
from gtmar.errors import SpecError, ViolationsError

ACCOUNTS = make_accounts(300)
#: The row number as a feature, so that accounts can be told apart in the arrays.
NUMBERED = ACCOUNTS.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
ROW = {"row": weighted()}


def load(data: pl.DataFrame, *, drop_unlabelled: bool = False, **overrides: Any) -> Accounts:
    return load_accounts(scan(data), make_spec(**overrides), drop_unlabelled=drop_unlabelled)


def parts(accounts: Accounts) -> list[AccountMatrix]:
    return [part for part in (accounts.search, accounts.holdout) if part is not None]


def rows(part: AccountMatrix) -> list[int]:
    numbers: list[int] = (part.columns[0] // 10_000).tolist()
    return numbers


def arrays(part: AccountMatrix) -> dict[str, np.ndarray[Any, Any]]:
    named = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    named |= {f"columns[{i}]": column for i, column in enumerate(part.columns)}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


# Frozen


def test_every_array_is_read_only_and_contiguous() -> None:
    for part in parts(load(ACCOUNTS)):
        found = arrays(part)
        assert set(found) == {
            *(f"columns[{i}]" for i in range(4)),
            *("codes", "offsets", "start", "end", "ltv", "ltv_rows", "day_codes", "days"),
        }
        for name, array in found.items():
            assert array.flags.c_contiguous, name
            with pytest.raises(ValueError, match="read-only"):
                array[:1] = 0


def test_records_are_frozen() -> None:
    accounts = load(ACCOUNTS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        accounts.search.start = None  # type: ignore[misc] # frozen
    with pytest.raises(dataclasses.FrozenInstanceError):
        accounts.holdout = None  # type: ignore[misc] # frozen


# Narrow


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 127, "int8"),
        (-128, 0, "int8"),
        (0, 128, "int16"),
        (-129, 0, "int16"),
        (0, 32_767, "int16"),
        (0, 32_768, "int32"),
        (-32_769, 0, "int32"),
        (0, 2**31 - 1, "int32"),
        (0, 2**31, "int64"),
        (-(2**31) - 1, 0, "int64"),
    ],
)
def test_columns_have_the_narrowest_type_that_holds_them(low: int, high: int, dtype: str) -> None:
    ends = pl.Series([low, high] * 150) / 10_000
    accounts = load(ACCOUNTS.with_columns(depth=ends), features={"depth": weighted()})
    for part in parts(accounts):
        assert part.columns[0].dtype == dtype
        assert set(part.columns[0].tolist()) == {low, high}


def test_both_parts_have_the_same_types() -> None:
    """A large value in the holdout alone still widens the search part: the parts can be added."""
    accounts = load(NUMBERED, features=ROW)
    assert accounts.holdout is not None
    assert accounts.search.columns[0].dtype == accounts.holdout.columns[0].dtype == "int32"


def test_other_arrays_have_their_stated_types() -> None:
    search = load(ACCOUNTS).search
    types = {name: str(array.dtype) for name, array in arrays(search).items()}
    assert {name: types[name] for name in types if not name.startswith("columns")} == {
        "codes": "int16",
        "offsets": "int64",
        "start": "int64",
        "end": "int64",
        "ltv": "int64",
        "ltv_rows": "int32",
        "day_codes": "int32",
        "days": "int64",
    }


# The order of movements


def movement_of(row: dict[str, Any]) -> Movement:
    if row["won_back"] is not None:
        return Movement.FORMER_WON_BACK if row["won_back"] else Movement.FORMER_LOST
    start, end = row["mrr"], row["mrr_end"]
    if not row["retained_6mo"]:
        return Movement.LOST_PAYING if start else Movement.LOST_NONPAYING
    if not start:
        return Movement.KEPT_NONPAYING
    if not end:
        return Movement.KEPT_REVENUE_LOST
    if end == start:
        return Movement.KEPT_FLAT
    return Movement.KEPT_EXPANDED if end > start else Movement.KEPT_CONTRACTED


def test_offsets_cut_the_rows_by_movement() -> None:
    table = NUMBERED.rows(named=True)
    for part in parts(load(NUMBERED, features=ROW)):
        assert part.offsets[0] == 0
        assert part.offsets[-1] == part.accounts
        assert len(part.offsets) == len(Movement) + 1 == 12
        numbers = rows(part)
        expected = [movement_of(table[number]) for number in numbers]
        for movement in Movement:
            run = part.rows(movement, movement)
            assert expected[run] == [movement] * (run.stop - run.start)
        assert (part.codes // 3).tolist() == expected
        activated = {None: 0, 0: 1, 1: 2}
        assert (part.codes % 3).tolist() == [activated[table[n]["activated"]] for n in numbers]


def test_values_stay_with_their_account() -> None:
    table = NUMBERED.rows(named=True)

    def cents(number: int, column: str) -> int:
        return round((table[number][column] or 0) * 100)

    for part in parts(load(NUMBERED, features=ROW)):
        numbers = rows(part)
        assert part.start is not None
        assert part.end is not None
        assert part.ltv is not None
        assert part.ltv_rows is not None
        assert part.days is not None
        assert part.day_codes is not None
        assert part.start.tolist() == [cents(n, "mrr") for n in numbers]
        assert part.end.tolist() == [cents(n, "mrr_end") for n in numbers]
        assert part.ltv.tolist() == [cents(n, "actual_ltv") for n in numbers]
        assert part.ltv_rows.tolist() == [
            i for i, n in enumerate(numbers) if cents(n, "actual_ltv") > 0
        ]
        days = [
            table[n]["days_to_activate"] if table[n]["activated"] == 1 else None for n in numbers
        ]
        assert part.days.tolist() == sorted({day for day in days if day is not None})
        assert [part.days[code] if code >= 0 else None for code in part.day_codes] == days


def test_cohorts_are_runs_of_rows() -> None:
    table = NUMBERED.rows(named=True)
    for part in parts(load(NUMBERED, features=ROW)):
        numbers = rows(part)
        paying = [n for n in numbers if table[n]["won_back"] is None and table[n]["mrr"] > 0]
        assert sorted(numbers[part.paying_rows]) == sorted(paying)
        kept = part.rows(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING)
        assert {table[n]["retained_6mo"] for n in numbers[kept]} == {1}
        lost = part.rows(Movement.LOST_NONPAYING, Movement.LOST_PAYING)
        assert {table[n]["retained_6mo"] for n in numbers[lost]} == {0}


def test_paying_rows_of_a_table_that_says_nothing_of_the_end() -> None:
    frame = NUMBERED.filter(pl.col("won_back").is_null()).select("account_id", "row", "mrr")
    for part in parts(load(frame, features=ROW)):
        assert part.start is not None
        assert part.end is None
        assert (part.start[part.paying_rows] > 0).all()
        assert part.paying_rows.stop - part.paying_rows.start == (part.start > 0).sum()


def test_ltv_of_former_accounts_does_not_count() -> None:
    frame = NUMBERED.with_columns(actual_ltv=1.0)
    for part in parts(load(frame, features=ROW)):
        assert part.ltv_rows is not None
        former = part.rows(Movement.FORMER_LOST, Movement.FORMER_WON_BACK)
        assert former.stop > former.start
        assert part.ltv_rows.tolist() == list(range(former.start))


def test_columns_that_the_table_lacks_are_none() -> None:
    search = load(
        ACCOUNTS.select("account_id", "depth", "churned").drop_nulls(),
        features={"depth": weighted()},
    ).search
    for name in ("start", "end", "ltv", "ltv_rows", "day_codes", "days"):
        assert getattr(search, name) is None, name


def test_binary_basis_has_an_end() -> None:
    frame = NUMBERED.filter(pl.col("won_back").is_null()).drop("mrr_end", "won_back")
    for part in parts(load(frame, features=ROW)):
        assert part.start is not None
        assert part.end is not None
        kept = part.rows(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING)
        assert (part.end[kept] == part.start[kept]).all()
        assert not part.end[: kept.start].any()
        assert part.offsets[Movement.KEPT_FLAT] == part.offsets[Movement.KEPT_REVENUE_LOST]


# Two parts


def test_every_account_is_in_exactly_one_part() -> None:
    found = parts(load(NUMBERED, features=ROW))
    assert len(found) == 2
    assert sorted(number for part in found for number in rows(part)) == list(range(300))
    assert all(part.accounts > 50 for part in found)


def test_without_a_holdout_there_is_one_part() -> None:
    accounts = load(NUMBERED, features=ROW, split={"holdout": 0})
    assert accounts.holdout is None
    assert sorted(rows(accounts.search)) == list(range(300))


def test_terms_are_columns_in_the_order_of_the_spec() -> None:
    features = {"plan": binned("basic", "other"), "row": weighted()}
    search = load(NUMBERED, features=features).search
    assert search.names == ("plan[basic]", "plan[other]", "row")
    plans = NUMBERED["plan"].to_list()
    numbers = (search.columns[2] // 10_000).tolist()
    assert search.columns[0].tolist() == [10_000 * (plans[n] == "basic") for n in numbers]
    assert search.columns[1].tolist() == [10_000 * (plans[n] != "basic") for n in numbers]


def test_order_of_rows_changes_no_account() -> None:
    def content(frame: pl.DataFrame) -> list[Any]:
        found = []
        for part in parts(load(frame, features=ROW)):
            assert part.start is not None
            found.append(
                sorted(zip(rows(part), part.codes.tolist(), part.start.tolist(), strict=True))
            )
        return found

    assert content(NUMBERED.sample(fraction=1, shuffle=True, seed=5)) == content(NUMBERED)


# Unlabelled accounts


def test_drop_unlabelled_leaves_out_and_counts() -> None:
    blank = pl.col("row") % 10 == 3
    outcomes = ["retained_6mo", "churned", "mrr_end", "actual_ltv", "activated", "won_back"]
    frame = NUMBERED.with_columns(
        pl.when(blank).then(None).otherwise(pl.col(name)).alias(name) for name in outcomes
    )
    with pytest.raises(ViolationsError, match="30 of 300 accounts have no outcome of any kind"):
        load(frame, features=ROW)
    accounts = load(frame, features=ROW, drop_unlabelled=True)
    assert (accounts.checked.accounts, accounts.checked.dropped) == (270, 30)
    kept = sorted(number for part in parts(accounts) for number in rows(part))
    assert kept == [number for number in range(300) if number % 10 != 3]


def test_drop_unlabelled_drops_nobody_from_a_labelled_table() -> None:
    accounts = load(NUMBERED, features=ROW, drop_unlabelled=True)
    assert (accounts.checked.accounts, accounts.checked.dropped) == (300, 0)
    assert accounts.outcomes_fingerprint == load(NUMBERED, features=ROW).outcomes_fingerprint


def test_drop_unlabelled_where_mrr_is_the_only_outcome() -> None:
    frame = pl.DataFrame({"account_id": list("abcd"), "row": [0, 1, 2, 3], "mrr": [5, None, 0, 1]})
    accounts = load(frame, features=ROW, split={"holdout": 0}, drop_unlabelled=True)
    assert (accounts.checked.accounts, accounts.checked.dropped) == (3, 1)
    assert sorted(rows(accounts.search)) == [0, 2, 3]


# Reach


def test_reach_is_what_the_bounds_allow() -> None:
    spec = make_spec(base=-7, features={"depth": weighted(0, -3, 2), "logins": weighted(4, 4, 5)})
    ranges = {"depth": (-20_000, 10_000), "logins": (0, 100)}
    assert check_reach(spec, ranges) == 7 * 10_000 + 100 + 3 * 20_000 + 5 * 100


def test_reach_beyond_64_bits_is_refused() -> None:
    spec = make_spec(base=0, features={"depth": weighted(1, 0, 512)})
    just_below = (2**62 - 101) // 512
    assert check_reach(spec, {"depth": (0, just_below)}) < 2**62
    with pytest.raises(SpecError, match="beyond what 64-bit integers hold"):
        check_reach(spec, {"depth": (0, just_below + 1)})
    with pytest.raises(SpecError, match="beyond what 64-bit integers hold"):
        check_reach(spec, {"depth": (-just_below - 1, 0)})
