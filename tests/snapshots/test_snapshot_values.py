"""What small histories give: payments, months, activation, zones; and the same bytes again."""

from __future__ import annotations

import tempfile
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from histories import DAY, random_history, recipe_text
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot_tables import snapshot_table

from gtmar.snapshots.build import build
from gtmar.snapshots.recipe import parse

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.slow
def test_the_order_of_rows_changes_no_byte_and_a_later_date_none_before(tmp_path: Path) -> None:
    history = random_history(7, accounts=200)
    recipe = parse(recipe_text(history.write(tmp_path / "a")))
    build(recipe, tmp_path / "one")
    history.write(tmp_path / "a", shuffle=Random(3))
    build(recipe, tmp_path / "two", memory=200_000_000)
    later = parse(recipe_text(tmp_path / "a").replace(f"[{DAY}]", f"[{DAY}, 2024-06-01]"))
    build(later, tmp_path / "three")
    name = f"features_asof={DAY}/accounts.parquet"
    one = (tmp_path / "one" / name).read_bytes()
    assert one == (tmp_path / "two" / name).read_bytes()
    assert one == (tmp_path / "three" / name).read_bytes()
    assert (tmp_path / "three" / "features_asof=2024-06-01").is_dir()


# ---- payments and monthly tables -----------------------------------------------------------------


def paid(
    tmp_path: Path, rows: list[tuple[str, date, str]], shape: str, **more: str
) -> pl.DataFrame:
    frame = pl.DataFrame(
        [(a, d, Decimal(x)) for a, d, x in rows],
        schema={"id": pl.String, "day": pl.Date, "amount": pl.Decimal(12, 2)},
        orient="row",
    )
    frame.write_parquet(tmp_path / "paid.parquet")
    said = {
        "name": "paid",
        "id": "id",
        "sources": f"{{paid: {{data: {tmp_path}/paid.parquet, account: id, at: day}}}}",
        "dates": f"[{DAY}]",
        "window": "3 months",
        "data_until": "2024-06-01",
        "revenue": shape,
        "features": "{payments: {count: paid}}",
        **more,
    }
    return snapshot_table(parse("\n".join(f"{k}: {v}" for k, v in said.items())), DAY)


@settings(max_examples=6, deadline=None)
@given(
    seed=SEEDS, months=st.sampled_from([1, 3]), negative=st.sampled_from(["subtract", "leave out"])
)
def test_payments_are_what_plain_python_says(seed: int, months: int, negative: str) -> None:
    rng = Random(seed)
    rows = [
        (f"{rng.randrange(9)}", date(2023, 10, 1) + timedelta(rng.randrange(250)), amount)
        for amount in (f"{rng.randrange(-3_000, 20_000) / 100:.2f}" for _ in range(60))
    ]
    said = f"source: paid, amount: amount, months: {months}, negative: {negative}"
    shape = f"{{transactions: {{{said}}}}}"
    with tempfile.TemporaryDirectory() as folder:
        found = paid(Path(folder), rows, shape)

    def sums(first: date, end: date, account: str) -> Decimal:
        own = [Decimal(x) for a, d, x in rows if a == account and first <= d < end]
        return sum((max(x, Decimal(0)) if negative == "leave out" else x for x in own), Decimal(0))

    start, end = {1: date(2024, 2, 1), 3: date(2023, 12, 1)}[months], date(2024, 6, 1)
    before = {1: date(2024, 5, 1), 3: DAY}[months]
    wanted = {}
    for account in sorted({a for a, _, _ in rows}):
        if (mrr := sums(start, DAY, account)) > 0:
            kept = any(a == account and DAY <= d < end and Decimal(x) >= 0 for a, d, x in rows)
            wanted[account] = (mrr / months, sums(before, end, account) / months, int(kept))
    assert found["id"].to_list() == list(wanted)
    for row in found.iter_rows(named=True):
        mrr, at_end, kept_ = wanted[row["id"]]
        assert row["mrr"] == pytest.approx(float(mrr), abs=1e-4)
        assert row["retained_6mo"] == kept_
        assert row["churned"] == 1 - kept_
        # Credits alone make no MRR below 0.
        assert row["mrr_end"] == pytest.approx(max(float(at_end), 0), abs=1e-4)


def test_monthly_amounts_hold_from_the_month_before(tmp_path: Path) -> None:
    rows = [
        ("a", date(2024, 2, 1), "10"),
        ("a", date(2024, 3, 1), "99"),
        ("a", date(2024, 5, 31), "30"),
        ("b", date(2024, 2, 1), "20"),
        ("b", date(2024, 4, 1), "20"),
        ("c", date(2024, 3, 1), "40"),
    ]
    found = paid(tmp_path, rows, "{monthly: {source: paid, amount: amount}}")
    assert found.select("id", "mrr", "mrr_end", "retained_6mo", "churned").rows() == [
        ("a", 10, 30, 1, 0),
        ("b", 20, 0, 0, 1),
    ]


def test_former_accounts_are_won_back_or_not_and_no_churn(tmp_path: Path) -> None:
    rows = [
        ("back", date(2023, 6, 1), "5"),
        ("back", date(2024, 4, 1), "7"),
        ("gone", date(2023, 6, 1), "5"),
        ("stays", date(2024, 2, 10), "5"),
        ("stays", date(2024, 5, 10), "6"),
        ("new", date(2024, 4, 1), "5"),
    ]
    shape = "{transactions: {source: paid, amount: amount, months: 1}}"
    found = paid(tmp_path, rows, shape, population="paying and former")
    kept = found.select("id", "mrr", "retained_6mo", "churned", "won_back").rows()
    assert kept == [
        ("back", None, None, None, 1),
        ("gone", None, None, None, 0),
        ("stays", 5, 1, 0, None),
    ]


def test_activation_counts_from_the_accounts_own_start(tmp_path: Path) -> None:
    rows = [(account, date(2024, 2, 20), "5") for account in "abcd"]
    pl.DataFrame(
        {
            "id": ["a", "b", "b", "c", "d"],
            "at": [
                date(2024, 2, 25),
                date(2024, 3, 22),  # 31 days after the start
                date(2024, 1, 1),  # before it
                date(2024, 2, 21),
                date(2024, 2, 22),
            ],
            "what": ["setup", "setup", "setup", "other", "setup"],
            "test": [False, False, False, False, True],
        }
    ).write_parquet(tmp_path / "did.parquet")
    did = f"{{data: {tmp_path}/did.parquet, account: id, at: at, where: not test}}"
    found = paid(
        tmp_path,
        rows,
        "{transactions: {source: paid, amount: amount}}",
        sources=f"{{paid: {{data: {tmp_path}/paid.parquet, account: id, at: day}}, did: {did}}}",
        activation="{source: did, within: 30 days, where: \"what = 'setup'\"}",
    )
    assert found.select("id", "activated", "days_to_activate").rows() == [
        ("a", 1, 5),
        ("b", 0, None),
        ("c", 0, None),
        ("d", 0, None),
    ]


def test_nothing_is_counted_of_a_time_in_which_nobody_counted(tmp_path: Path) -> None:
    """A source that begins too late, or broke off, tells nothing: not that nothing happened."""
    rows = [("a", date(2024, 2, 20), "5"), ("a", date(2024, 4, 20), "5")]
    for number, (first, last) in enumerate(
        [("2023-11-01", "2024-02-20"), ("2024-02-01", "2024-02-20"), ("2023-01-01", "2023-11-20")]
    ):
        pl.DataFrame(
            {"id": ["a", "a"], "at": [date.fromisoformat(d) for d in (first, last)]}
        ).write_parquet(tmp_path / f"did{number}.parquet")
    did = ", ".join(
        f"did{n}: {{data: {tmp_path}/did{n}.parquet, account: id, at: at}}" for n in range(3)
    )
    found = paid(
        tmp_path,
        rows,
        "{transactions: {source: paid, amount: amount}}",
        sources=f"{{paid: {{data: {tmp_path}/paid.parquet, account: id, at: day}}, {did}}}",
        features="{" + ", ".join(f"f{n}: {{count: did{n}, last: 60 days}}" for n in range(3)) + "}",
    )
    assert found.select("f0", "f1", "f2").rows() == [(1, None, None)]


def test_a_moment_with_a_zone_is_of_its_day_in_utc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever zone the machine is in; ids of text files keep their zeros."""
    monkeypatch.setenv("TZ", "America/New_York")
    zone = ZoneInfo("America/New_York")
    moments = [datetime(2024, 2, 29, 18, 59, tzinfo=zone), datetime(2024, 2, 29, 19, tzinfo=zone)]
    pl.DataFrame(
        {"id": ["007", "007"], "moment": moments},
        schema_overrides={"moment": pl.Datetime("us", "America/New_York")},
    ).write_parquet(tmp_path / "did.parquet")
    (tmp_path / "paid.csv").write_text("id;day;amount\n007;2024-02-20;5,50\n007;2024-04-20;6,00\n")
    found = paid(
        tmp_path,
        [("unused", DAY, "1")],
        "{transactions: {source: paid, amount: amount}}",
        sources=f"{{paid: {{data: {tmp_path}/paid.csv, account: id, at: day}}, "
        f"did: {{data: {tmp_path}/did.parquet, account: id, at: moment}}}}",
        features="{seen: {count: did}, quiet: {days_since: did}}",
    )
    assert found.select("id", "seen", "quiet", "mrr").rows() == [("007", 1, 1, 5.5)]
