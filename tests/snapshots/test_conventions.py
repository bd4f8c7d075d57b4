"""Conventions of revenue: plain Python's MRR is the snapshot's and the bridge's, to the cent."""

from __future__ import annotations

import calendar
import tempfile
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot_tables import snapshot_table

from gtmar.errors import AccountDataError, RecipeError
from gtmar.snapshots.bridge import MOVEMENTS, bridge
from gtmar.snapshots.recipe import json_schema, parse, recipe_id

SEEDS = st.integers(0, 2**32 - 1)
FIRST, UNTIL = date(2023, 1, 1), date(2024, 7, 1)
MONTHS = [date(2023 + m // 12, m % 12 + 1, 1) for m in range(19)]
#: What one unit counts, by currency and from which day on.
RATES: dict[str, dict[date, int]] = {
    "EUR": {date(2022, 1, 1): 1},
    "USD": {date(2022, 1, 1): 2, date(2023, 9, 15): 3},
}


def months_after(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def random_rows(seed: int) -> list[dict[str, Any]]:
    """Draw rows that serve as payments, monthly amounts and subscriptions; few overlap by chance.

    Amounts are multiples of 12 in cents, so that no part of them is rounded.
    """
    rng = Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(12):
        # The first one begins on the very day of another rate.
        at = FIRST + timedelta(rng.randrange(200)) if number else max(RATES["USD"])
        for _ in range(rng.randrange(1, 7)):
            months = rng.choice([1, 1, 3, 12])
            end = months_after(at, months)
            rows.append(
                {
                    "id": f"a{number}",
                    "at": at,
                    "end": rng.choice([None, at, *[end] * 4, *[end - timedelta(9)] * 3]),
                    "paid_until": end,
                    "cancelled": at + timedelta(rng.randrange(60)) if rng.random() < 0.2 else None,
                    "amount": rng.randrange(1, 900) * 12 / 100,
                    "months": months,
                    "currency": rng.choice(["EUR", "USD"]) if number else "USD",
                    "setup": rng.random() < 0.2,
                }
            )
            at = end + timedelta(rng.choice([0, 0, 1, 20, 40, 100, 400]))
            if at >= UNTIL:
                break
    return [row for row in rows if row["at"] < UNTIL]


def written(folder: Path, rows: list[dict[str, Any]]) -> None:
    dates = dict.fromkeys(("at", "end", "paid_until", "cancelled"), pl.Date)
    pl.DataFrame(rows, schema_overrides=dates).write_parquet(folder / "rows.parquet")
    rates = [(c, d, float(r)) for c, by_day in RATES.items() for d, r in by_day.items()]
    pl.DataFrame(rates, schema=["cur", "day", "rate"], orient="row").write_parquet(
        folder / "rates.parquet"
    )


def recipe_of(folder: Path, shape: str, said: dict[str, str], *, day: date = FIRST) -> Any:
    time = "from: at, until: end" if shape == "subscriptions" else "at: at"
    money = ", ".join(
        f"{k}: {v}" for k, v in {"source": "rows", "amount": "amount", **said}.items()
    )
    return parse(
        f"""
name: conventions
id: id
sources: {{rows: {{data: {folder}/rows.parquet, account: id, {time}}}}}
dates: [{day}]
window: 1 month
data_until: {UNTIL}
population: seen
revenue: {{{shape}: {{{money}}}}}
rules: {{overlaps: add, ends_before_start: leave out}}
features: {{n: {{count: rows}}}}
""".replace("FOLDER", str(folder))
    )


class Plain:
    """The same in plain Python, from the words of the guide."""

    def __init__(self, rows: list[dict[str, Any]], shape: str, said: dict[str, str]) -> None:
        self.shape, self.said = shape, said
        self.recurring = [r for r in rows if not ("one_off" in said and r["setup"])]
        self.held: dict[tuple[str, date], int] = {}
        for row, first in product(self.recurring, MONTHS):
            if self.counts(row, first):
                key = row["id"], first
                self.held[key] = self.held.get(key, 0) + self.cents(row)

    def months(self, row: dict[str, Any]) -> int:
        given = self.said.get("months", "1")
        return int(row["months"] if given == "months" else given)

    def cents(self, row: dict[str, Any], *, whole: bool = False) -> int:
        rate = 1
        if "rates" in self.said:
            rate = max((d, r) for d, r in RATES[row["currency"]].items() if d <= row["at"])[1]
        months = 1 if self.shape == "monthly" or whole else self.months(row)
        if "paid_until" in self.said and not whole:
            # All of them are of whole months here.
            months = row["months"]
        cents = Fraction(round(row["amount"] * 100) * rate, months)
        assert cents.denominator == 1
        return int(cents)

    def life(self, row: dict[str, Any]) -> tuple[date, date]:
        """From which day on it counts, and the first on which it doesn't."""
        if self.shape == "monthly":
            return row["at"].replace(day=1), months_after(row["at"].replace(day=1), 1)
        if self.shape == "transactions":
            if "paid_until" in self.said:
                return row["at"], row["paid_until"]
            return row["at"], months_after(row["at"], self.months(row))
        end = row["end"] or date.max
        if self.said.get("until") == "last day" and row["end"]:
            end += timedelta(1)
        if "cancelled" in self.said and row["cancelled"]:
            end = min(end, row["cancelled"])
        return row["at"], end

    def on(self, row: dict[str, Any], day: date) -> bool:
        begin, after = self.life(row)
        return begin <= day < after

    def counts(self, row: dict[str, Any], first: date) -> bool:
        """Whether it is in the MRR just before the first of a month."""
        last = first - timedelta(1)
        begin, _ = self.life(row)
        if self.shape == "transactions" and "paid_until" not in self.said:
            return months_after(first, -self.months(row)) <= begin < first
        deciding = self.said.get("deciding_day", "last day")
        days = [last.replace(day=d + 1) for d in range(last.day)]
        asked = {"last day": days[-1:], "first day": days[:1], "any day": days}[deciding]
        return any(self.on(row, day) for day in asked)

    def mrr(self, account: str, first: date) -> int:
        return self.held.get((account, first), 0)

    def away(self, account: str, first: date) -> tuple[date, date | None]:
        """When an account without MRR before a day had left, and when it comes back."""
        decides = first
        if self.said.get("deciding_day") == "first day":
            decides = months_after(first, -1) + timedelta(1)
        own = [self.life(r) for r in self.recurring if r["id"] == account]
        # What ends as it begins was never paid for: it is no return.
        own = [(begin, after) for begin, after in own if after > begin]
        gone = max(after for begin, after in own if begin < decides)
        return gone, min((begin for begin, _ in own if begin >= decides), default=None)

    def moves(self, account: str, first: date, later: date) -> dict[str, int]:
        start, end = self.mrr(account, first), self.mrr(account, later)
        before = any(self.mrr(account, m) > 0 for m in MONTHS if m <= first)
        gap = int(self.said.get("gap", "0 days").split()[0])
        again = int(self.said.get("new_again", "99999 days").split()[0])
        kind = "expansion" if end > start else "contraction"
        if start > 0 == end:
            gone, back = self.away(account, later)
            paused = bool(gap and back and (back - gone).days <= gap)
            kind = "pause" if paused else "churn"
        elif end > 0 == start:
            kind = "new"
            if before:
                gone, back = self.away(account, first)
                assert back
                days = (back - gone).days
                kind = "new" if days > again else "reactivation"
                kind = "resumption" if gap and days <= gap else kind
        return {name: (end - start) * (name == kind) for name in MOVEMENTS}


MONEY = [
    {},
    {"one_off": "setup"},
    {
        "currency": "currency",
        "rates": "{data: FOLDER/rates.parquet, currency: cur, date: day, rate: rate}",
    },
    {"gap": "30 days", "new_again": "200 days", "one_off": "setup"},
]
SHAPES = [
    ("monthly", {}),
    ("monthly", {"gap": "31 days", "new_again": "100 days"}),
    *(("subscriptions", {"deciding_day": day}) for day in ("last day", "first day", "any day")),
    ("subscriptions", {"months": "months", "until": "last day"}),
    ("subscriptions", {"cancelled": "cancelled", "deciding_day": "any day", "month": "calendar"}),
    ("subscriptions", {"months": "12", "deciding_day": "first day"}),
    ("transactions", {"retained_by": "mrr"}),
    ("transactions", {"months": "3", "retained_by": "mrr"}),
    ("transactions", {"months": "months", "retained_by": "mrr", "month": "calendar"}),
    ("transactions", {"paid_until": "paid_until", "retained_by": "mrr"}),
]


def agree(seed: int, case: tuple[str, dict[str, str]], money: dict[str, str]) -> None:
    """Start, movements and end by account; MRR, its end and churn of a snapshot a month."""
    shape, said = case[0], {**money, **case[1]}
    rows = random_rows(seed)
    plain = Plain(rows, shape, said)
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), rows)
        found = bridge(recipe_of(Path(folder), shape, said))
        day, after = Random(seed).choice(list(pairwise(MONTHS[:-1])))
        table = snapshot_table(recipe_of(Path(folder), shape, said, day=day), day)
    assert found.sound, (found.differences, found.conflicts)
    by_account = {(r["month"], r["account"]): r for r in found.accounts.to_dicts()}
    accounts = sorted({row["id"] for row in rows})
    for first, later in pairwise(MONTHS):
        if first not in found.months["month"].to_list():
            continue
        for account in accounts:
            row = by_account.get((first, account), dict.fromkeys(("start", *MOVEMENTS, "end"), 0))
            assert row["start"] == plain.mrr(account, first), (account, first)
            assert row["end"] == plain.mrr(account, later), (account, first)
            moves = plain.moves(account, first, later)
            assert {name: row[name] for name in MOVEMENTS} == moves, (account, first)
    once = sum(plain.cents(r, whole=True) for r in rows if "one_off" in said and r["setup"])
    if shape != "subscriptions":
        assert found.months["one_off"].sum() == once
    for row in table.iter_rows(named=True):
        start, end = plain.mrr(row["id"], day), plain.mrr(row["id"], after)
        assert round(row["mrr"] * 100) == start
        if "churned" not in row:
            # The time for a return is not over when the history ends.
            continue
        paused = by_account.get((day, row["id"]), {}).get("pause")
        if start and not end:
            assert row["churned"] == (0 if paused else 1)
        if end:
            assert round(row["mrr_end"] * 100) == end
            assert row["churned"] == 0


CASES = st.sampled_from(SHAPES), st.sampled_from(MONEY)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(SEEDS, *CASES)
def test_snapshot_and_bridge_have_plain_pythons_mrr(
    seed: int, case: tuple[str, dict[str, str]], money: dict[str, str]
) -> None:
    agree(seed, case, money)


@pytest.mark.slow
@pytest.mark.parametrize("money", MONEY, ids=lambda said: "-".join(said) or "plain")
@pytest.mark.parametrize("case", SHAPES, ids=lambda case: "-".join((case[0], *case[1].values())))
def test_they_do_for_each_shape_and_convention(
    case: tuple[str, dict[str, str]], money: dict[str, str]
) -> None:
    agree((SHAPES.index(case) + MONEY.index(money)) % 2, case, money)


# ---- what is refused, and on record -------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "said", "words"),
    [
        ("transactions", {"months": "months"}, "need retained_by: mrr"),
        ("transactions", {"paid_until": "end"}, "need retained_by: mrr"),
        ("transactions", {"gap": "9 days"}, "gap needs retained_by: mrr"),
        (
            "transactions",
            {"paid_until": "end", "months": "3", "retained_by": "mrr"},
            "say the same thing",
        ),
        ("monthly", {"gap": "9 days", "new_again": "9 days"}, "must be longer than gap"),
        ("monthly", {"rates": "{data: x, currency: c, date: d, rate: r}"}, "stand together"),
        ("monthly", {"one_off": "'true) or (true'"}, "revenue.one_off: not readable as SQL"),
        ("monthly", {"one_off": "'id in (select id from rows)'"}, "of its own row alone"),
        ("monthly", {"one_off": "'nope > 1'"}, "revenue: .*nope"),
        ("subscriptions", {"cancelled": "gone"}, 'no column "gone"'),
        ("transactions", {"paid_until": "currency", "retained_by": "mrr"}, "must hold dates"),
    ],
)
def test_what_cant_hold_is_refused(
    tmp_path: Path, shape: str, said: dict[str, str], words: str
) -> None:
    written(tmp_path, random_rows(1))
    with pytest.raises(RecipeError, match=words):
        snapshot_table(recipe_of(tmp_path, shape, said), FIRST)


@pytest.mark.parametrize(
    ("said", "window"),
    [
        ("monthly: {source: rows, amount: amount}", "2 weeks"),
        ("subscriptions: {source: rows, amount: amount, deciding_day: any day}", "2 weeks"),
        ("subscriptions: {source: rows, amount: amount, month: calendar}", "2 weeks"),
        ("transactions: {source: rows, amount: amount, month: calendar}", "1 month"),
    ],
)
def test_mrr_at_a_windows_end_is_of_no_day_before_it(said: str, window: str) -> None:
    """In the middle of a month: else who left before the date would stay, or the reverse."""
    time = "from: at, until: end" if "subscriptions" in said else "at: at"
    text = f"""
name: early
sources: {{rows: {{data: rows.parquet, account: id, {time}}}}}
dates: [2023-03-15]
window: {window}
revenue: {{{said}}}
features: {{n: {{count: rows}}}}
"""
    with pytest.raises(RecipeError, match="2023-03-15 is of days before it"):
        parse(text)
    parse(text.replace(window, "3 months"))


def rated(folder: Path, rates: list[tuple[str | None, date, float]]) -> Any:
    rows = [r for r in random_rows(2) if r["currency"] == "USD"]
    written(folder, rows)
    pl.DataFrame(rates, schema=["cur", "day", "rate"], orient="row").write_parquet(
        folder / "rates.parquet"
    )
    return recipe_of(folder, "monthly", MONEY[2])


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([("USD", date(2023, 6, 1), 2.0)], "amounts are of a currency without a rate on or before"),
        ([("usd", date(2022, 6, 1), 2.0)], "amounts are of a currency without a rate on or before"),
        ([("USD", date(2022, 6, 1), 2.0)] * 2, '1 rate stands twice for their date: "USD"'),
        ([("USD", date(2022, 6, 1), 0.0)], '1 rate is unknown, not above 0.*"USD"'),
        ([("USD", date(2022, 6, 1), 2.0), (None, date(2022, 6, 1), 2.0)], "1 rate is unknown"),
    ],
)
def test_a_rate_that_is_missing_or_bad_is_refused(
    tmp_path: Path, rates: list[tuple[str | None, date, float]], words: str
) -> None:
    with pytest.raises(AccountDataError, match=words):
        snapshot_table(rated(tmp_path, rates), FIRST)


@pytest.mark.parametrize(
    ("said", "column", "bad"),
    [
        ({"months": "months"}, "months", 0),
        ({"months": "months"}, "months", None),
        ({"months": "months"}, "months", 1.5),
        ({"paid_until": "paid_until"}, "paid_until", None),
        ({"paid_until": "paid_until"}, "paid_until", date(2022, 1, 1)),
    ],
)
def test_a_payment_for_no_time_is_refused(
    tmp_path: Path, said: dict[str, str], column: str, bad: Any
) -> None:
    rows = random_rows(3)
    rows[4] = {**rows[4], column: bad}
    written(tmp_path, rows)
    recipe = recipe_of(tmp_path, "transactions", {**said, "retained_by": "mrr"})
    with pytest.raises(AccountDataError, match=f'1 payment is for .*"{rows[4]["id"]}"'):
        snapshot_table(recipe, FIRST)


def test_each_convention_is_in_the_recipes_id_and_its_schema(tmp_path: Path) -> None:
    said = [(shape, {**money, **more}) for shape, more in SHAPES for money in MONEY]
    ids = {recipe_id(recipe_of(tmp_path, *each)) for each in said}
    assert len(ids) == len({(shape, *sorted(more.items())) for shape, more in said})
    moved = recipe_of(tmp_path / "elsewhere", "monthly", MONEY[2])
    assert recipe_id(moved) == recipe_id(recipe_of(tmp_path, "monthly", MONEY[2]))
    rates = json_schema()["$defs"]["Monthly"]["properties"]["rates"]
    assert {each.get("$ref") for each in rates["oneOf"]} == {None, "#/$defs/RateTable"}


def test_a_return_in_mid_pause_is_unsettled_until_the_gap_is_over(tmp_path: Path) -> None:
    late = {"id": "late", "at": date(2024, 1, 1), "end": date(2024, 6, 10), "paid_until": None}
    rows = [*random_rows(4), {**random_rows(4)[0], **late, "currency": "EUR", "setup": False}]
    written(tmp_path, rows)
    found = bridge(recipe_of(tmp_path, "subscriptions", {"gap": "60 days"}))
    [note] = [note for note in found.notes if "may yet turn out to be a pause" in note]
    assert "on 2024-07-01 their gap isn't over" in note
    [row] = found.accounts.filter(account="late", month=date(2024, 6, 1)).to_dicts()
    assert (row["churn"], row["pause"]) == (-row["start"], 0)


def test_who_has_been_gone_for_long_is_no_former_account(tmp_path: Path) -> None:
    one = random_rows(5)[0]
    gone = [("long", date(2023, 2, 1)), ("short", date(2023, 11, 1)), ("stays", None)]
    rows = [{**one, "id": n, "at": date(2023, 1, 1), "end": end, "setup": False} for n, end in gone]
    written(tmp_path, rows)
    for said, names in (
        ({}, ["long", "short", "stays"]),
        ({"new_again": "6 months"}, ["short", "stays"]),
    ):
        recipe = recipe_of(tmp_path, "subscriptions", said).model_copy(
            update={"population": "paying and former"}
        )
        assert snapshot_table(recipe, date(2024, 1, 1))["id"].to_list() == names


def test_one_off_items_are_worth_something_and_no_mrr(tmp_path: Path) -> None:
    rows = [{**row, "setup": True} if row["id"] == "a1" else row for row in random_rows(6)]
    written(tmp_path, rows)
    recipe = recipe_of(tmp_path, "transactions", {"one_off": "setup"}, day=date(2023, 8, 1))
    table = snapshot_table(recipe.model_copy(update={"ltv": "all revenue"}), date(2023, 8, 1))
    # Who has bought one-off items alone has no revenue that recurs.
    assert "a1" not in table["id"].to_list()
    for row in table.iter_rows(named=True):
        own = sum(round(r["amount"] * 100) for r in rows if r["id"] == row["id"])
        assert round(row["actual_ltv"] * 100) == own


def test_a_cancellation_that_lies_ahead_is_not_known_yet(tmp_path: Path) -> None:
    """Neither by MRR nor by a feature that asks for it; from the next day on it is."""
    day = date(2023, 8, 1)
    row = {**random_rows(7)[0], "at": FIRST, "end": None}
    said = {"cancelled": "cancelled"}
    tables = []
    for gone in (None, day, day - timedelta(1)):
        written(tmp_path, [{**row, "cancelled": gone}, {**row, "id": "other", "cancelled": FIRST}])
        recipe = recipe_of(tmp_path, "subscriptions", said, day=day)
        asks = recipe.features["n"].model_copy(update={"where": "cancelled is null"})
        recipe = recipe.model_copy(update={"features": {"n": asks}})
        tables.append(snapshot_table(recipe, day).filter(id=row["id"]).select("n", "mrr").row(0))
    assert tables == [(1, row["amount"]), (1, row["amount"]), (0, 0.0)]
