"""A table of several dates: what is taken, what an account is, which side it is on."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.autospec.first_spec import first_spec
from gtmar.data.contract import check_contract
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import Source, scan
from gtmar.data.split import holdout_mask
from gtmar.errors import AccountDataError, UsageError, ViolationsError

if TYPE_CHECKING:
    from pathlib import Path

DAYS = [date(2024, 1, 1), date(2024, 4, 1), date(2024, 7, 1)]
ALL = "2024-01-01..2024-07-01"
OUTCOMES = ["retained_6mo", "churned", "mrr_end", "actual_ltv", "activated", "won_back"]


def panel(n: int = 40, *, days: list[date] | None = None) -> pl.DataFrame:
    """Return accounts on several dates, other features and outcomes on each."""
    return pl.concat(
        make_accounts(n, seed=seed).with_columns(features_asof=pl.lit(day))
        for seed, day in enumerate(days or DAYS)
    )


def hive(frame: pl.DataFrame, folder: Path, ending: str = "parquet") -> str:
    for (day,), part in frame.partition_by("features_asof", as_dict=True).items():
        place = folder / f"features_asof={day}"
        place.mkdir(parents=True)
        rows = part.drop("features_asof")
        if ending == "csv":
            rows.write_csv(place / "accounts.csv")
        else:
            rows.write_parquet(place / "accounts.parquet")
    return str(folder)


def test_a_repeated_account_is_an_error_that_names_the_dates() -> None:
    with pytest.raises(ViolationsError) as caught:
        load_accounts(scan(panel()), make_spec())
    [violation] = caught.value.violations
    assert "120 of 120 rows share their account id" in violation.problem
    assert "--at 2024-01-01..2024-07-01" in violation.hint
    assert "3 dates" in violation.hint
    with pytest.raises(AccountDataError, match="more than once") as refused:
        first_spec(scan(panel(200)))
    assert "--at 2024-01-01..2024-07-01" in str(refused.value.hint)


def test_rows_of_dates_without_ids_are_refused() -> None:
    bare = panel().drop("account_id")
    with pytest.raises(ViolationsError, match="no account id tells whose they are"):
        load_accounts(scan(bare), make_spec(id=None))
    with pytest.raises(ViolationsError, match="needs account ids"):
        load_accounts(scan(bare, at=ALL), make_spec(id=None))
    # Of one date there is no doubt.
    one = bare.filter(features_asof=DAYS[0])
    assert load_accounts(scan(one), make_spec(id=None)).checked.accounts == 40


def test_the_same_id_twice_on_a_date_is_an_error() -> None:
    twice = pl.concat([panel(), panel().head(2)])
    with pytest.raises(ViolationsError, match="4 of 122 rows share their account id and date"):
        load_accounts(scan(twice, at=ALL), make_spec())


def test_accounts_and_rows_are_counted_apart() -> None:
    loaded = load_accounts(scan(panel(), at=ALL), make_spec())
    assert (loaded.checked.accounts, loaded.checked.rows) == (40, 120)
    assert loaded.holdout is not None
    assert loaded.search.distinct + loaded.holdout.distinct == 40
    assert loaded.search.accounts + loaded.holdout.accounts == 120
    assert loaded.search.dates == tuple(DAYS)
    assert not any(" accounts " in note for note in loaded.checked.notes)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_one_date_is_the_table_of_that_date(tmp_path: Path, ending: str) -> None:
    folder = hive(panel(), tmp_path / "accounts", ending)
    one = load_accounts(scan(Source(folder, at="2024-04-01")), make_spec())
    alone = load_accounts(scan(f"{folder}/features_asof=2024-04-01"), make_spec())
    assert one.outcomes_fingerprint == alone.outcomes_fingerprint
    assert one.features_fingerprint == alone.features_fingerprint
    assert one.search.account_of is None
    assert one.table.origin["at"] == "2024-04-01"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_folders_columns_texts_and_queries_are_one_table(tmp_path: Path, ending: str) -> None:
    folder = hive(panel(), tmp_path / "accounts", ending)
    text = panel().with_columns(pl.col("features_asof").cast(pl.String))
    text.write_csv(tmp_path / "all.csv")
    moment = panel().with_columns(pl.col("features_asof").cast(pl.Datetime))
    other = panel().rename({"features_asof": "taken_on"})
    query = Source(str(tmp_path / "all.csv"), query="select * from accounts", at=ALL)
    tables = [
        scan(panel(), at=ALL),
        scan(Source(folder, at=ALL)),
        scan(folder, at=ALL),
        scan(str(tmp_path / "all.csv"), at=ALL),
        scan(text, at=ALL),
        scan(moment, at=ALL),
        scan(other, at=f"taken_on={ALL}"),
        scan(query),
        scan(panel().sample(fraction=1, shuffle=True, seed=3), at=ALL),
    ]
    prints = {
        (each.outcomes_fingerprint, each.features_fingerprint)
        for each in (load_accounts(table, make_spec()) for table in tables)
    }
    assert len(prints) == 1


@pytest.mark.parametrize(
    "at", ["soon", "2024-01-01..", "2024-07-01..2024-01-01", "2024-01-01..2024-02-01..2024-03-01"]
)
def test_what_is_no_date_is_refused(at: str) -> None:
    with pytest.raises(UsageError, match="--at expects"):
        scan(panel(), at=at)


def test_dates_that_are_not_there_are_refused_with_those_that_are() -> None:
    with pytest.raises(AccountDataError, match="it has 3 dates from 2024-01-01 to 2024-07-01"):
        scan(panel(), at="2023-01-01")
    with pytest.raises(AccountDataError, match='no column "features_asof"'):
        scan(make_accounts(20), at=ALL)
    with pytest.raises(AccountDataError, match='"logins" is to say of which date'):
        scan(panel(), at=f"logins={ALL}")
    holed = panel().with_columns(features_asof=pl.when(pl.col("logins") > 1).then("features_asof"))
    with pytest.raises(AccountDataError, match="rows have no date"):
        scan(holed, at=ALL)


def test_rows_whose_outcomes_are_not_over_are_left_out_and_said() -> None:
    newest = make_accounts(25, seed=9).with_columns(
        *(pl.lit(None).alias(name) for name in OUTCOMES), features_asof=pl.lit(date(2024, 10, 1))
    )
    table = pl.concat([panel(), newest], how="diagonal_relaxed")
    checked = check_contract(scan(table, at="2024-01-01..2024-10-01"), make_spec())
    assert (checked.accounts, checked.rows) == (40, 120)
    said = "25 rows of 2024-10-01 left out: their outcomes aren't over."
    assert said in checked.notes
    assert said in checked.reading
    assert checked.table.several is not None
    assert checked.table.several.days == tuple(DAYS)
    # A table that is only scored has them all.
    scored = check_contract(scan(table, at="2024-01-01..2024-10-01"), make_spec(), outcomes=False)
    assert scored.rows == 145
    # The one date alone is as it ever was.
    with pytest.raises(ViolationsError, match="no outcome"):
        check_contract(scan(table, at="2024-10-01"), make_spec())


def test_a_window_that_ends_after_a_date_is_not_over() -> None:
    window = {"features_asof": "features_asof", "outcome_end": "ends"}
    ends = pl.col("features_asof").dt.offset_by("6mo")
    table = panel().with_columns(ends=ends)
    spec = make_spec(window=window)
    checked = check_contract(scan(table, at=ALL), spec, as_of="2024-12-01")
    assert checked.rows == 80
    assert "40 rows of 2024-07-01 left out: their outcomes aren't over." in checked.notes


def test_days_count_from_the_date_of_a_row() -> None:
    since = {"weight": 5, "min": 0, "max": 9, "encode": {"kind": "days_before"}}
    spec = make_spec(features={"since": since})
    table = panel().with_columns(since=pl.lit(date(2023, 12, 31)))
    loaded = load_accounts(scan(table, at=ALL), spec.model_copy(update={"split": spec.split}))
    assert loaded.search.date_of is not None
    days = np.array([(day - date(2023, 12, 31)).days for day in DAYS])
    assert (loaded.search.columns[0] == days[loaded.search.date_of] * 10_000).all()
    with pytest.raises(UsageError, match="is one date to count from, and the table has 3"):
        load_accounts(scan(table, at=ALL), spec, as_of="2024-01-01")


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=12, unique=True),
    st.sampled_from(["gtmar", "other"]),
)
def test_an_account_is_on_one_side_and_on_the_same_as_in_a_table_of_one_date(
    cells: list[tuple[int, int]], salt: str
) -> None:
    keys = [f"acct-{account:05}|{DAYS[day]}" for account, day in cells]
    mark = pl.format("{}|{}", "account_id", "features_asof")
    table = panel(31).filter(mark.is_in(keys))
    spec = make_spec(split={"holdout": 0.4, "salt": salt})
    loaded = load_accounts(scan(table, at=ALL), spec, drop_unlabelled=True)
    sides = [side for side in (loaded.search, loaded.holdout) if side is not None]
    ids = table["account_id"].unique().sort()
    held = holdout_mask(ids, share=0.4, salt=salt)
    if loaded.search.account_of is None:
        return
    numbers = [set(side.account_of.tolist()) for side in sides if side.account_of is not None]
    if len(numbers) == 2:
        assert not numbers[0] & numbers[1]
    expected = set(np.flatnonzero(~held).tolist())
    assert numbers[0] == expected or (not expected and numbers[0])


def test_an_account_that_stays_as_it_was_is_no_copy_and_two_ids_alike_are() -> None:
    still = pl.concat(
        make_accounts(60, seed=1, former=0).with_columns(features_asof=pl.lit(day)) for day in DAYS
    )
    assert load_accounts(scan(still, at=ALL), make_spec()).copies is None
    again = still.with_columns(account_id=pl.col("account_id") + "-b")
    loaded = load_accounts(scan(pl.concat([still, again]), at=ALL), make_spec())
    assert loaded.copies is not None
    assert loaded.copies.repeated == 60
    assert sum(loaded.repeated) == 60
    for side in (loaded.search, loaded.holdout):
        assert side is not None
        assert side.account_of is not None
        # An id and its copy are on one side: numbers in the order of ids are 2k and 2k + 1.
        whose = np.unique(side.account_of)
        assert (np.diff(whose.reshape(-1, 2)) == 1).all()


@pytest.mark.slow
def test_the_first_spec_is_fitted_to_whole_accounts_of_the_search_side() -> None:
    table = panel(300)
    found = first_spec(scan(table, at=ALL))
    assert found.taken[0] == "300 accounts on 3 dates, 900 rows."
    assert found.left_out["features_asof"] == "the date that a row is of"
    ids = table["account_id"].unique()
    held = ids.filter(pl.Series(holdout_mask(ids, share=0.3, salt="gtmar")))
    # Whatever the holdout holds changes nothing.
    other = table.with_columns(
        retained_6mo=pl.when(pl.col("account_id").is_in(held.implode()))
        .then(1 - pl.col("retained_6mo"))
        .otherwise("retained_6mo"),
        churned=pl.when(pl.col("account_id").is_in(held.implode()))
        .then(1 - pl.col("churned"))
        .otherwise("churned"),
    )
    assert first_spec(scan(other, at=ALL)).spec == found.spec
    shuffled = first_spec(scan(table.sample(fraction=1, shuffle=True, seed=5), at=ALL))
    assert shuffled.spec == found.spec
