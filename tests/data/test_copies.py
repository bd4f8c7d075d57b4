"""Copied accounts: found where coincidence doesn't explain them, and drawn together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec

from gtmar.autospec import first_spec as profile
from gtmar.autospec.first_spec import first_spec
from gtmar.data import synthetic
from gtmar.data.matrix import Accounts, load_accounts, part, search_sample
from gtmar.data.scan import scan
from gtmar.runs.results import copies_finding

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = make_spec()


def copied(table: pl.DataFrame, times: int) -> pl.DataFrame:
    name = pl.col("account_id").cast(pl.String)
    return pl.concat([table.with_columns(account_id=name + f"-{i}") for i in range(times)])


def coarse(n: int, seed: int, kind: str) -> pl.DataFrame:
    draw = np.random.default_rng([seed, n])
    active = draw.random(n) < 0.4
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "flags": lambda: {f"x{i}": draw.random(n) < 0.5 for i in range(3)},
        "rare flags": lambda: {f"x{i}": draw.random(n) < 0.02 for i in range(12)},
        "counts": lambda: {f"x{i}": draw.poisson(3, n) for i in range(4)},
        "idle": lambda: {f"x{i}": np.where(active, draw.poisson(5, n), 0) for i in range(12)},
        "dependent": lambda: {
            **{f"t{i}": np.sort(draw.integers(0, 1000, n)) * i + 1 for i in (1, 2)},
            **{f"x{i}": draw.random(n) < 0.4 for i in range(4)},
        },
    }
    columns = kinds[kind]()
    # Dependent columns go one to one.
    if kind == "dependent":
        columns["t2"] = columns["t1"] * 3
    ids = [f"a{i}" for i in range(n)]
    return pl.DataFrame(
        {"account_id": ids, **columns, "retained_6mo": (draw.random(n) < 0.7).astype(int)}
    )


def priced(table: pl.DataFrame, kind: str, seed: int) -> pl.DataFrame:
    """Return accounts with amounts: a price list's, one of many seats, or of any size."""
    draw, n = np.random.default_rng([seed, 7]), table.height
    kinds: dict[str, Callable[[], Any]] = {
        "list": lambda: draw.choice([49.0, 99.0, 249.0, 999.0], n),
        "seats": lambda: 12.5 * draw.integers(1, 60, n),
        "any": lambda: draw.lognormal(5, 1, n).round(2),
    }
    mrr = pl.Series("mrr", kinds[kind]())
    end = (mrr * draw.choice([0.9, 1.0, 1.0, 1.2], n)).round(2) * table["retained_6mo"]
    return table.with_columns(mrr, mrr_end=end)


def loaded(table: pl.DataFrame) -> Accounts:
    return load_accounts(scan(table), first_spec(scan(table)).spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "n"),
    [("flags", 2_000), ("rare flags", 300), ("counts", 300), ("idle", 2_000), ("dependent", 2_000)],
)
def test_coincidence_is_no_copy(kind: str, n: int) -> None:
    table = coarse(n, 1, kind)
    assert table.drop("account_id").is_duplicated().any()
    assert loaded(table).copies is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "times"), [("counts", 2), ("idle", 6), ("rare flags", 2), ("dependent", 6)]
)
def test_a_table_copied_as_a_whole_is_found_however_coarse_it_is(kind: str, times: int) -> None:
    accounts = loaded(copied(coarse(300, 2, kind), times))
    assert accounts.copies is not None
    assert accounts.copies.repeated >= 300 * (times - 1)


def test_300_accounts_copied_six_times_are_in_one_part_each() -> None:
    table = copied(make_accounts(300, seed=1), 6)
    accounts = load_accounts(scan(table), SPEC)
    assert accounts.copies is not None
    assert (accounts.copies.repeated, accounts.copies.largest) == (1_500, 6)
    assert sum(accounts.repeated) == 1_500
    assert accounts.holdout is not None
    sides = []
    for held in (False, True):
        side = part(scan(table), "account_id", SPEC.split, held=held, copies=accounts.copies)
        sides.append(set(side.frame.collect()["account_id"].str.replace(r"-\d$", "")))
    assert not sides[0] & sides[1]
    assert accounts.holdout.accounts == 6 * len(sides[1])
    apart = load_accounts(scan(table), SPEC, copies_together=False)
    assert apart.outcomes_fingerprint != accounts.outcomes_fingerprint
    shuffled = load_accounts(scan(table.sample(fraction=1.0, shuffle=True, seed=1)), SPEC)
    assert shuffled.outcomes_fingerprint == accounts.outcomes_fingerprint


@pytest.mark.slow
def test_some_copies_among_many_are_found_and_only_they_move() -> None:
    table = synthetic.generate("health_score", accounts=1_000, seed=3)
    spec = first_spec(scan(table)).spec
    some = table.head(20).with_columns(account_id=pl.col("account_id").cast(pl.String) + "-again")
    accounts = load_accounts(scan(pl.concat([table, some])), spec)
    assert accounts.copies is not None
    assert (accounts.copies.repeated, len(accounts.copies.rows)) == (20, 40)
    before = load_accounts(scan(table), spec)
    assert before.copies is None
    together = load_accounts(scan(table), spec, copies_together=False)
    assert before.outcomes_fingerprint == together.outcomes_fingerprint


def test_one_account_of_its_own_values_that_stands_twice_is_found() -> None:
    draw = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(400)],
            **{f"x{i}": draw.random(400) for i in range(3)},
            "retained_6mo": draw.integers(0, 2, 400),
        }
    )
    twice = pl.concat([table, table.head(1).with_columns(account_id=pl.lit("again"))])
    accounts = loaded(twice)
    assert accounts.copies is not None
    assert accounts.copies.repeated == 1


@pytest.mark.slow
def test_a_first_spec_is_fitted_to_what_a_run_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    table = copied(synthetic.generate("health_score", accounts=300, seed=3), 3)
    samples = []
    drawn = search_sample

    def noted(*arguments: Any, **options: Any) -> pl.DataFrame:
        samples.append(drawn(*arguments, **options))
        return samples[-1]

    monkeypatch.setattr(profile, "search_sample", noted)
    spec = first_spec(scan(table)).spec
    accounts = load_accounts(scan(table), spec)
    assert samples[-1].height == accounts.search.accounts
    assert samples[-1]["account_id"].str.replace(r"-\d$", "").unique_counts().unique().item() == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "price", "n"),
    # Either number of accounts meets each kind of amounts.
    [
        ("flags", "list", 300),
        ("rare flags", "seats", 300),
        ("counts", "any", 300),
        ("idle", "list", 2_000),
        ("dependent", "seats", 2_000),
        ("flags", "any", 2_000),
    ],
)
def test_amounts_that_are_alike_by_coincidence_make_no_copies(
    kind: str, price: str, n: int
) -> None:
    assert loaded(priced(coarse(n, 1, kind), price, n)).copies is None


@pytest.mark.parametrize("share", [0.00005, 0.004])
def test_copies_whose_amounts_differ_by_cents_are_found(share: float) -> None:
    table = make_accounts(300, seed=1)
    off = 1 + share * pl.col("account_id").hash(seed=3).mod(3)
    table = copied(table, 6).with_columns((pl.col("mrr", "mrr_end") * off).round(2))
    accounts = load_accounts(scan(table), SPEC)
    assert accounts.copies is not None
    assert accounts.copies.near
    assert accounts.copies.repeated == 1_500
    assert "amounts within 1 %" in copies_finding(accounts)[0].text
