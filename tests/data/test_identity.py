"""The split and the fingerprints: reproduced independently, and moved by content alone."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from factories import OUTCOMES, make_accounts, make_spec, weighted
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.data.matrix import Accounts, load_accounts
from gtmar.data.scan import scan
from gtmar.data.split import (
    KeyOrder,
    content_keys,
    fingerprint,
    holdout_mask,
    key_expression,
)

ACCOUNTS = make_accounts(200)
SPEC = make_spec()

texts = st.text(st.characters(codec="utf-8"), max_size=12)


def drawn(key: str, *, share: float, salt: str) -> bool:
    """Say whether an account is in the holdout, by the rule as the docs state it."""
    head = hashlib.md5(f"{salt}:{key}".encode()).hexdigest()[:8]
    return int(head, 16) / 16**8 < share


def load(data: Any, **overrides: Any) -> Accounts:
    return load_accounts(scan(data), make_spec(**overrides))


def prints(data: Any, **overrides: Any) -> tuple[str, str]:
    accounts = load(data, **overrides)
    return accounts.outcomes_fingerprint, accounts.features_fingerprint


# The split


@given(keys=st.lists(texts, max_size=30), share=st.floats(0, 0.99), salt=st.text(max_size=5))
def test_split_is_the_stated_rule(keys: list[str], share: float, salt: str) -> None:
    mask = holdout_mask(pl.Series(keys, dtype=pl.String), share=share, salt=salt)
    assert mask.tolist() == [drawn(key, share=share, salt=salt) for key in keys]


@pytest.mark.parametrize(("share", "salt"), [(0.3, "gtmar"), (0.5, "other"), (0.123, "é")])
def test_a_database_draws_the_same_split(share: float, salt: str) -> None:
    ids = [*(f"acct-{i}" for i in range(500)), "00012", "12", "é", "a:b", ""]
    with duckdb.connect() as con:
        rows = con.execute(
            "select ('0x' || left(md5(? || ':' || id), 8))::ubigint < ? * 4294967296 "
            "from unnest(?::varchar[]) as t(id)",
            [salt, share, ids],
        ).fetchall()
    mask = holdout_mask(pl.Series(ids), share=share, salt=salt)
    assert [row[0] for row in rows] == mask.tolist()
    assert 0 < mask.sum() < len(ids)


def test_split_is_written_for_reading_back() -> None:
    """These accounts were drawn once; a spec of last year must draw them again."""
    mask = holdout_mask(pl.Series([f"acct-{i:05}" for i in range(20)]), share=0.3, salt="gtmar")
    assert np.flatnonzero(mask).tolist() == [3, 4, 8, 9, 11, 14, 17]


def test_share_holds_on_average() -> None:
    ids = pl.Series([f"acct-{i}" for i in range(20_000)])
    assert holdout_mask(ids, share=0.3, salt="gtmar").mean() == pytest.approx(0.3, abs=0.01)
    assert not holdout_mask(ids, share=0.0, salt="gtmar").any()


def test_larger_holdout_holds_the_smaller_one() -> None:
    ids = pl.Series([f"acct-{i}" for i in range(1_000)])
    small, large = (holdout_mask(ids, share=share, salt="x") for share in (0.2, 0.4))
    assert (large | ~small).all()
    assert large.sum() > small.sum()


def rows_of(accounts: Accounts) -> tuple[set[int], set[int]]:
    """Return the rows of search part and holdout of a table whose feature is the row number."""
    search, holdout = (
        set((part.columns[0] // 10_000).tolist()) if part is not None else set()
        for part in (accounts.search, accounts.holdout)
    )
    return search, holdout


def test_table_is_split_by_its_ids() -> None:
    frame = ACCOUNTS.with_columns(depth=pl.int_range(pl.len(), dtype=pl.Int64))
    search, holdout = rows_of(load(frame, features={"depth": weighted()}))
    expected = {
        i for i, key in enumerate(frame["account_id"]) if drawn(key, share=0.3, salt="gtmar")
    }
    assert holdout == expected
    assert search == set(range(200)) - expected


def test_integer_ids_are_split_as_their_text() -> None:
    frame = ACCOUNTS.with_columns(
        account_id=pl.int_range(1_000, 1_200), depth=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    _, holdout = rows_of(load(frame, features={"depth": weighted()}))
    assert holdout == {i for i in range(200) if drawn(str(1_000 + i), share=0.3, salt="gtmar")}


def test_another_salt_draws_another_holdout() -> None:
    frame = ACCOUNTS.with_columns(depth=pl.int_range(pl.len(), dtype=pl.Int64))
    splits = [
        rows_of(load(frame, features={"depth": weighted()}, split={"holdout": 0.3, "salt": salt}))
        for salt in ("a", "b")
    ]
    assert splits[0] != splits[1]


# Without an id

PLAIN = {"id": None, "features": {"depth": weighted()}}


def test_twins_without_ids_stay_together() -> None:
    frame = (
        ACCOUNTS.drop("account_id")
        .with_columns(depth=pl.int_range(pl.len(), dtype=pl.Int64) // 4)
        .select("depth", retained_6mo=pl.col("depth") % 2)
    )
    search, holdout = rows_of(load(frame, **PLAIN))
    assert not search & holdout
    assert len(search) + len(holdout) == 50
    assert len(holdout) > 5
    accounts = load(frame, **PLAIN)
    assert accounts.holdout is not None
    assert accounts.holdout.accounts == 4 * len(holdout)


def test_split_without_ids_does_not_depend_on_the_order_of_rows_or_columns() -> None:
    frame = ACCOUNTS.drop("account_id").with_columns(depth=pl.int_range(pl.len(), dtype=pl.Int64))
    turned = frame.reverse().select(reversed(frame.columns))
    assert rows_of(load(frame, **PLAIN)) == rows_of(load(turned, **PLAIN))
    assert prints(frame, **PLAIN) == prints(turned, **PLAIN)


def test_key_without_an_id_tells_rows_apart() -> None:
    rows = {
        "x": [1, 1, None, 12, 1],
        "y": ["2", None, "1", "", "2"],
        "z": [0.5, 0.5, 0.5, 0.5, 0.1 + 0.2],
        "w": [True, True, True, True, True],
    }
    frame = pl.DataFrame(rows)
    found = frame.select(key_expression(None, frame.schema)).to_series()
    assert found.n_unique() == 5
    assert found.null_count() == 0


def test_content_keys_are_short_and_equal_for_twins() -> None:
    short = content_keys(pl.Series("key", ["a", "b", "a"]))
    assert short.to_list() == [hashlib.md5(k.encode()).hexdigest() for k in "aba"]
    assert short.name == "key"


# Fingerprints, reproduced


def sha(keys: list[str], columns: dict[str, list[int | None]]) -> str:
    """Hash columns as the fingerprint does, byte by byte: the format that journals rest on."""
    names = sorted(columns)
    order = sorted(
        range(len(keys)),
        key=lambda i: (
            keys[i].encode(),
            *((columns[n][i] is not None, columns[n][i] or 0) for n in names),
        ),
    )
    state = hashlib.sha256(str(len(keys)).encode())
    for i in order:
        state.update(keys[i].encode() + b"\0")
    for name in names:
        values = [columns[name][i] for i in order]
        nulls = "".join("1" if value is None else "0" for value in values)
        nulls = nulls.ljust(-(-len(nulls) // 8) * 8, "0")
        state.update(f"c.{name}".encode() + b"\0")
        state.update(bytes(int(nulls[i : i + 8], 2) for i in range(0, len(nulls), 8)))
        for value in values:
            state.update((value or 0).to_bytes(8, "little", signed=True))
    return state.hexdigest()[:32]


def hashed(keys: pl.Series, columns: dict[str, pl.Series]) -> str:
    return fingerprint(
        KeyOrder.of(keys), {name: partial(columns.__getitem__, name) for name in columns}
    )


integers = st.none() | st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(texts, integers, integers),
        max_size=20,
    )
)
def test_fingerprint_is_a_plain_hash(rows: list[tuple[str, int | None, int | None]]) -> None:
    columns = {"b": [row[1] for row in rows], "a": [row[2] for row in rows]}
    ids = [row[0] for row in rows]
    found = hashed(
        pl.Series(ids, dtype=pl.String),
        {name: pl.Series(values, dtype=pl.Int64) for name, values in columns.items()},
    )
    assert found == sha(ids, columns)


@pytest.mark.slow
def test_twins_among_many_are_settled_by_their_values() -> None:
    """Keys in any order, a few of them shared: more than what is read at a time."""
    source = np.random.default_rng(5)
    ids = [f"acct-{i:06}" for i in source.permutation(70_000) // 2 * 2]
    columns: dict[str, list[int | None]] = {
        "b": source.integers(-3, 3, len(ids)).tolist(),
        "a": [None if v == 1 else v for v in source.integers(0, 3, len(ids)).tolist()],
    }
    expected = sha(ids, columns)
    for keys, values in ((ids, columns), (ids[::-1], {n: v[::-1] for n, v in columns.items()})):
        found = hashed(
            pl.Series(keys), {n: pl.Series(v, dtype=pl.Int64) for n, v in values.items()}
        )
        assert found == expected


def test_narrow_types_hash_like_wide_ones() -> None:
    ids = pl.Series(["a", "b"])
    narrow, wide = (
        hashed(ids, {"x": pl.Series([1, None], dtype=dtype)}) for dtype in (pl.Int8, pl.Int64)
    )
    assert narrow == wide


# Fingerprints of tables: what doesn't move them


def shuffled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sample(fraction=1, shuffle=True, seed=3)


def turned(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(reversed(frame.columns))


def widened(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(note=pl.lit("nobody reads this"))


def narrowed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.cast({"logins": pl.UInt8, "churned": pl.Boolean, "retained_6mo": pl.Float64})


@pytest.mark.parametrize("change", [shuffled, turned, widened, narrowed])
def test_layout_does_not_move_the_fingerprints(
    change: Callable[[pl.DataFrame], pl.DataFrame],
) -> None:
    assert prints(change(ACCOUNTS)) == prints(ACCOUNTS)


@pytest.mark.slow
def test_format_and_compression_do_not_move_the_fingerprints(tmp_path: Path) -> None:
    frame = shuffled(ACCOUNTS)
    frame.write_parquet(tmp_path / "zstd.parquet", compression="zstd", row_group_size=17)
    frame.write_parquet(tmp_path / "plain.parquet", compression="uncompressed")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_ipc(tmp_path / "a.arrow")
    (tmp_path / "parts").mkdir()
    for i, part in enumerate(frame.iter_slices(33)):
        part.write_parquet(tmp_path / "parts" / f"{i}.parquet")
    expected = prints(ACCOUNTS)
    for name in ("zstd.parquet", "plain.parquet", "a.csv", "a.arrow", "parts", "parts/*.parquet"):
        assert prints(tmp_path / name) == expected, name


@pytest.mark.parametrize(
    "overrides",
    [
        {"model": "other"},
        {"base": 3},
        {"objective": "tier_separation"},
        {"tiers": {"all": {"min": 0, "max": 101}}},
    ],
    ids=str,
)
def test_what_is_not_of_the_table_does_not_move_the_fingerprints(overrides: Any) -> None:
    assert prints(ACCOUNTS, **overrides) == prints(ACCOUNTS)


def test_weights_and_the_order_of_features_do_not_move_the_fingerprints() -> None:
    features = {name: f.model_dump(by_alias=True) for name, f in SPEC.features.items()}
    other = dict(reversed(features.items()))
    other["depth"] = {**other["depth"], "weight": -3}
    assert prints(ACCOUNTS, features=other) == prints(ACCOUNTS)


# What does


def altered(column: str, value: Any) -> pl.DataFrame:
    """Return the table with one current account's value replaced."""
    row = ACCOUNTS.with_row_index().filter(pl.col("mrr") > 1)["index"][0]
    here = pl.int_range(pl.len()) == row
    return ACCOUNTS.with_columns(pl.when(here).then(value).otherwise(column).alias(column))


def test_altered_feature_moves_the_features_alone() -> None:
    before, after = prints(ACCOUNTS), prints(altered("depth", pl.col("depth") + 0.000_1))
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_alteration_below_the_units_of_a_feature_moves_nothing() -> None:
    assert prints(altered("depth", pl.col("depth") + 0.000_01)) == prints(ACCOUNTS)


@pytest.mark.parametrize("column", ["mrr", "actual_ltv"])
def test_altered_money_moves_the_outcomes_alone(column: str) -> None:
    before, after = prints(ACCOUNTS), prints(altered(column, pl.col(column) + 0.01))
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("column", [name for name in OUTCOMES if name != "won_back"])
def test_every_outcome_is_in_the_fingerprint(column: str) -> None:
    """Without `churned` the labels still say the same; without any other column they don't."""
    before, after = prints(ACCOUNTS), prints(ACCOUNTS.drop(column))
    said_anyway = column in ("churned", "retained_6mo")
    assert (after[0] == before[0]) is said_anyway
    assert after[1] == before[1]


def test_win_backs_are_in_the_fingerprint() -> None:
    before = prints(ACCOUNTS)
    after = prints(ACCOUNTS.with_columns(won_back=1 - pl.col("won_back")))
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_altered_id_moves_both() -> None:
    before, after = prints(ACCOUNTS), prints(altered("account_id", pl.lit("somebody else")))
    assert after[0] != before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    "split", [{"holdout": 0.31}, {"holdout": 0}, {"holdout": 0.3, "salt": "x"}], ids=str
)
def test_another_split_moves_the_outcomes_alone(split: Any) -> None:
    before, after = prints(ACCOUNTS), prints(ACCOUNTS, split=split)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_another_encoder_moves_the_features_alone() -> None:
    features = {name: f.model_dump(by_alias=True) for name, f in SPEC.features.items()}
    features["logins"]["encode"] = {"kind": "range", "from": 0, "to": 50}
    before, after = prints(ACCOUNTS), prints(ACCOUNTS, features=features)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_fewer_or_more_accounts_move_both() -> None:
    before, after = prints(ACCOUNTS), prints(ACCOUNTS.head(199))
    assert after[0] != before[0]
    assert after[1] != before[1]
