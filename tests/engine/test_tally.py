"""Sums: every one of them as a plain loop counts it, for any table, and exact beyond Int64."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
import reference
import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gtmar.data.matrix import AccountMatrix
from gtmar.data.outcomes import Movement, OutcomeColumns
from gtmar.engine.cohorts import cohorts_of
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.numpy_kernel import Counts, bin_count, raw_scores, score_bins
from gtmar.engine.sum_names import SCALAR_SUMS, TIER_SUMS, tier_sum
from gtmar.engine.tally import TierEdges, sums_frame
from gtmar.metrics import measure

Row = dict[str, Any]

BASE = 5


# ---- every sum by a plain loop --------------------------------------------------------------


def total(rows: Sequence[Row], value: Callable[[Row], int]) -> int:
    return sum(value(row) for row in rows)


def boundary(rows: Sequence[Row], parts: int, keys: Sequence[str]) -> dict[str, int]:
    """Walk down the ranks until the top 1/parts is full; say what is beyond, tied, and fits.

    `rank` is the place value, the greater the better; `fit` is in parts of an account.
    """
    found = {"tied": 0, "fit": 0, **dict.fromkeys(keys, 0), **{f"{k}_tied": 0 for k in keys}}
    beyond = 0
    for rank in sorted({row["rank"] for row in rows}, reverse=True):
        tied = [row for row in rows if row["rank"] == rank]
        if parts * (beyond + len(tied)) >= len(rows):
            found |= {"tied": len(tied), "fit": len(rows) - parts * beyond}
            found |= {f"{key}_tied": sum(row[key] for row in tied) for key in keys}
            return found
        beyond += len(tied)
        found |= {key: found[key] + sum(row[key] for row in tied) for key in keys}
    return found


def scalar_sums(rows: Sequence[Row], orientation: str) -> dict[str, int]:
    sign = -1 if orientation == "risk" else 1
    ranked = [{**row, "rank": sign * row["score"]} for row in rows]
    current = [row for row in ranked if reference.is_current(row)]
    paying = [row for row in ranked if reference.is_paying(row)]
    valued = [r for r in ranked if r["won_back"] is None and r["ltv"] is not None and r["ltv"] > 0]
    doubled = 0
    for row in current:
        below = sum(other["rank"] < row["rank"] for other in current)
        level = sum(other["rank"] == row["rank"] for other in current)
        doubled += row["retained"] * (2 * below + level + 1)
    top = boundary(paying, 5, ("start", "end"))
    best = boundary(valued, 4, ("ltv",))
    worst = boundary([{**row, "rank": -row["rank"]} for row in valued], 4, ("ltv",))
    return {
        "scored": len(rows),
        "clipped_low": sum(row["unclipped"] < 0 for row in rows),
        "clipped_high": sum(row["unclipped"] > 10_000 for row in rows),
        "score_sum": total(rows, lambda row: row["score"]),
        "score_squares": total(rows, lambda row: row["score"] ** 2),
        "positives": total(current, lambda row: row["retained"]),
        "negatives": total(current, lambda row: 1 - row["retained"]),
        "rank_doubled": doubled,
        "top_accounts": len(paying),
        **{f"top_{name}": value for name, value in top.items()},
        "ltv_accounts": len(valued),
        **{f"best_{name}": value for name, value in best.items()},
        **{f"worst_{name}": value for name, value in worst.items()},
    }


def tier_sums(rows: Sequence[Row]) -> dict[str, int]:
    current = [row for row in rows if reference.is_current(row)]
    paying = [row for row in rows if reference.is_paying(row)]
    kept = [row for row in paying if row["retained"] == 1]
    former = [row for row in rows if row["won_back"] is not None]
    days = sorted(row["days"] for row in rows if row["activated"] == 1 and row["days"] is not None)
    middle = [days[(len(days) - 1) // 2], days[len(days) // 2]] if days else []
    return {
        "accounts": len(rows),
        "labelled": len(current),
        "retained": total(current, lambda row: row["retained"]),
        "paying": len(paying),
        "kept_paying": len(kept),
        "expanded": sum(row["end"] > row["start"] for row in paying),
        "contracted": sum(0 < row["end"] < row["start"] for row in paying),
        "former": len(former),
        "won_back": total(former, lambda row: row["won_back"]),
        "applies": sum(row["activated"] is not None for row in rows),
        "activated": sum(row["activated"] == 1 for row in rows),
        "start": total(paying, lambda row: row["start"]),
        "end": total(paying, lambda row: row["end"]),
        "expansion": total(paying, lambda row: max(row["end"] - row["start"], 0)),
        "contraction": total(
            paying, lambda row: max(row["start"] - row["end"], 0) if row["end"] else 0
        ),
        "churned": total(paying, lambda row: 0 if row["end"] else row["start"]),
        "days_known": len(days),
        "days_doubled": sum(middle),
    }


def expected_sums(
    drawn: Sequence[Row], kind: str, weights: Sequence[int], orientation: str
) -> dict[str, int]:
    rows = tables.scored(drawn, kind, weights, base=BASE)
    for row in rows:
        row["unclipped"] = tables.unclipped(row["units"], weights, BASE)
    found = scalar_sums(rows, orientation)
    for tier in tables.TIERS:
        inside = tier_sums([row for row in rows if row["tier"] == tier])
        found |= {tier_sum(name, tier): value for name, value in inside.items()}
    return found


@pytest.mark.slow
@given(
    kind=st.sampled_from(tables.LABELLED),
    orientation=st.sampled_from(("health", "risk")),
    size=st.sampled_from((1, 4, 5, 20)) | st.integers(1, 30),
    seed=st.integers(0, 2**32),
    weights=st.lists(st.integers(-60, 120), min_size=3, max_size=3),
)
@settings(max_examples=32, deadline=None)
def test_sums_are_what_loops_give(
    kind: str, orientation: str, size: int, seed: int, weights: list[int]
) -> None:
    drawn = tables.draw_table(random.Random(seed), size, kind)
    spec = tables.make_spec(base=BASE, orientation=orientation)
    matrix = tables.loaded(tables.frame_of(drawn, kind), spec).search
    expected = expected_sums(drawn, kind, weights, orientation)
    for compiled in (False, True):
        evaluator = LocalEvaluator(matrix, spec, compiled=compiled)
        got = evaluator.frame([weights]).row(0, named=True)
        got.pop("ceiling_fifths")
        assert got == expected


def test_the_loops_know_every_sum() -> None:
    assert list(tier_sums([])) == list(TIER_SUMS)
    assert set(scalar_sums([], "health")) == set(SCALAR_SUMS)


@pytest.mark.parametrize("paying", [1, 4, 5, 7, 10])
def test_ceiling_is_the_fifth_that_pays_most(paying: int) -> None:
    amounts = [100 * (7 * i % 11 + 1) for i in range(paying)]
    frame = pl.DataFrame(
        {
            "account_id": [str(i) for i in range(paying + 1)],
            **{name: [0.5] * (paying + 1) for name in tables.FEATURES},
            "retained_6mo": [1] * (paying + 1),
            "mrr": [*(amount / 100 for amount in amounts), 0.0],
        }
    )
    spec = tables.make_spec()
    sums = LocalEvaluator(tables.loaded(frame, spec).search, spec).frame([[1, 1, 1]])
    left, fifths = Fraction(paying, 5), Fraction(0)
    for amount in sorted(amounts, reverse=True):
        taken = min(left, Fraction(1))
        fifths += 5 * amount * taken
        left -= taken
    assert sums["ceiling_fifths"].item() == fifths


# ---- bands ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_score", "tiers"),
    [
        (100, tables.TIERS),
        (100, {"top": 100.0, "rest": 0.0}),
        (100, {"only": 0.0}),
        (7, {"A": 6.99, "B": 0.01, "C": 0.0}),
        (1000, {"A": 999.99, "B": 500.0, "C": 0.0}),
    ],
)
def test_every_score_is_counted_in_its_own_tier(max_score: int, tiers: dict[str, float]) -> None:
    # One account a score value, through one feature of weight 1.
    values = [score / 100 for score in range(100 * max_score + 1)]
    frame = pl.DataFrame({"x0": values, "retained_6mo": [1] * len(values)})
    spec = tables.make_spec((1,), max_score=max_score, tiers=tiers, id=None)
    matrix = tables.loaded(frame, spec).search
    bands = TierEdges.of(spec)
    assert bands.tiers == tuple(tiers)
    assert len(values) < bands.bins == bin_count(max_score)
    sums = LocalEvaluator(matrix, spec).frame([[1]])
    expected = Counter(tables.tier_at(score, tiers) for score in range(100 * max_score + 1))
    assert {t: sums[tier_sum("accounts", t)].item() for t in tiers} == expected


def test_a_score_on_the_edge_is_in_the_upper_tier() -> None:
    frame = pl.DataFrame({"x0": [33.34, 33.35], "retained_6mo": [0, 1]})
    spec = tables.make_spec((1,), tiers={"A": 33.35, "B": 0.0}, id=None)
    sums = LocalEvaluator(tables.loaded(frame, spec).search, spec).frame([[1]])
    assert sums[tier_sum("retained", "A")].item() == 1
    assert sums[tier_sum("retained", "B")].item() == 0


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), size=st.integers(1, 30))
@settings(max_examples=12, deadline=None)
def test_risk_turns_the_order_once_and_nothing_else(seed: int, size: int) -> None:
    drawn = tables.draw_table(random.Random(seed), size, "everything")
    frame = tables.frame_of(drawn, "everything")
    found = {}
    for orientation in ("health", "risk"):
        spec = tables.make_spec(base=BASE, orientation=orientation)
        matrix = tables.loaded(frame, spec).search
        found[orientation] = LocalEvaluator(matrix, spec).frame([[40, 25, -10]]).row(0, named=True)
    health, risk = found["health"], found["risk"]
    labelled = health["positives"] + health["negatives"]
    assert risk["rank_doubled"] == (
        2 * health["positives"] * (labelled + 1) - health["rank_doubled"]
    )
    for name in ("ltv", "ltv_tied", "tied", "fit"):
        assert risk[f"best_{name}"] == health[f"worst_{name}"]
        assert risk[f"worst_{name}"] == health[f"best_{name}"]
    turned = ("rank_doubled", "top_", "best_", "worst_")
    same = [name for name in health if not name.startswith(turned)]
    assert len(same) > len(TIER_SUMS) * len(tables.TIERS)
    assert {n: health[n] for n in same} == {n: risk[n] for n in same}


@pytest.mark.parametrize(
    ("days", "doubled"),
    [
        ([], 0),
        ([9], 18),
        ([3, 10], 13),
        ([10, 3, 4], 8),
        ([5, 5, 1, 30], 10),
        ([0, 0], 0),
        ([1, 2, 2, 2, 90], 4),
    ],
)
def test_median_of_days_is_that_of_the_two_middle_ones(days: list[int], doubled: int) -> None:
    count = len(days) + 2
    frame = pl.DataFrame(
        {
            "account_id": [str(i) for i in range(count)],
            **{name: [0.5] * count for name in tables.FEATURES},
            # One was not activated, and of one the days are unknown: neither counts.
            "activated": [1] * len(days) + [0, 1],
            "days_to_activate": pl.Series([*days, 99, None], dtype=pl.Int64),
        }
    )
    spec = tables.make_spec(tiers={"only": 0.0})
    sums = LocalEvaluator(tables.loaded(frame, spec).search, spec).frame([[1, 1, 1]])
    assert sums["days_known[only]"].item() == len(days)
    assert sums["days_doubled[only]"].item() == doubled


# ---- parts of a table -----------------------------------------------------------------------


def part_of(matrix: AccountMatrix, rows: NDArray[np.intp]) -> AccountMatrix:
    """Cut rows out of a matrix; `rows` ascend, so that they stay in the order of movement."""
    sizes = np.bincount(matrix.codes[rows] // 3, minlength=len(Movement))
    assert matrix.ltv_rows is not None
    cut: dict[str, Any] = {
        name: None if (values := getattr(matrix, name)) is None else values[rows]
        for name in ("codes", "start", "end", "ltv", "day_codes")
    }
    return dataclasses.replace(
        matrix,
        columns=tuple(column[rows] for column in matrix.columns),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        ltv_rows=np.flatnonzero(np.isin(rows, matrix.ltv_rows)).astype(np.int32),
        **cut,
    )


def counts_of(matrix: AccountMatrix, bands: TierEdges, weights: Sequence[int]) -> Counts:
    raw = raw_scores(matrix.columns, np.array(weights), BASE)
    places, clipped = score_bins(raw[None], 100)
    part = cohorts_of(matrix).block(0, matrix.accounts)
    return tables.count_all(places, clipped, part, bands.tier_lows, range(bands.bins))


@pytest.mark.slow
@given(
    kind=st.sampled_from(("everything", "retained", "binary")),
    seed=st.integers(0, 2**32),
    size=st.integers(1, 30),
    mask=st.integers(0, 2**30 - 1),
)
@settings(max_examples=16, deadline=None)
def test_counts_of_two_halves_give_the_sums_of_the_whole(
    kind: str, seed: int, size: int, mask: int
) -> None:
    drawn = tables.draw_table(random.Random(seed), size, kind)
    spec = tables.make_spec(base=BASE)
    matrix = tables.loaded(tables.frame_of(drawn, kind), spec).search
    bands = TierEdges.of(spec, matrix.days)
    inside = np.array([bool(mask >> i & 1) for i in range(size)])
    one, two = (part_of(matrix, np.flatnonzero(m)) for m in (inside, ~inside))
    weights = [40, 25, -10]
    halves = counts_of(one, bands, weights) + counts_of(two, bands, weights)
    whole = LocalEvaluator(matrix, spec).sums([weights])[0]
    np.testing.assert_array_equal(bands.sums(halves)[0], whole)


# ---- beyond Int64 ---------------------------------------------------------------------------


def large_table(amounts: Sequence[tuple[int, int]]) -> tuple[pl.DataFrame, list[Row]]:
    """Make accounts with these start and end cents, half of them in the top tier."""
    rows: list[Row] = [
        {
            "id": f"a{i}",
            "units": (10_000 * (i % 2), 1_000 * (i % 3), 0),
            "retained": int(end > 0),
            "start": start,
            "end": end,
            "ltv": start // 2 + 1,
            "activated": None,
            "days": None,
            "won_back": None,
        }
        for i, (start, end) in enumerate(amounts)
    ]
    return tables.frame_of(rows, "retained"), rows


def test_money_near_the_limit_of_the_contract_is_exact() -> None:
    # The largest whole amounts that the contract lets in: their sums pass what doubles add exactly.
    largest = 2**53 // 100
    pairs = [(100 * (largest - i), 100 * (largest - 3 * i) * (i % 3 > 0)) for i in range(12)]
    frame, rows = large_table(pairs)
    spec = tables.make_spec((80, 5, 0))
    matrix = tables.loaded(frame, spec).search
    assert matrix.start is not None
    assert sorted(matrix.start.tolist()) == sorted(start for start, _ in pairs)
    sums = LocalEvaluator(matrix, spec).frame([[80, 5, 0]])
    got = sums.row(0, named=True)
    expected = tables.scored(rows, "retained", (80, 5, 0))
    for tier in tables.TIERS:
        inside = tier_sums([row for row in expected if row["tier"] == tier])
        for name in ("start", "end", "expansion", "contraction", "churned"):
            assert got[tier_sum(name, tier)] == inside[name]
    whole = scalar_sums([{**row, "unclipped": 0} for row in expected], "health")
    for name in ("top_start", "top_start_tied", "top_end", "top_end_tied", "best_ltv", "worst_ltv"):
        assert got[name] == whole[name]


def test_the_ceiling_of_many_large_accounts_does_not_wrap() -> None:
    count, cents = 330_000, 2**53 - 1
    matrix = AccountMatrix(
        names=tables.FEATURES,
        columns=(np.zeros(count, dtype=np.int8),) * len(tables.FEATURES),
        codes=np.full(count, Movement.LOST_PAYING * 3, dtype=np.int16),
        offsets=np.array([0, *[0] * Movement.LOST_PAYING, *[count] * 10], dtype=np.int64),
        outcomes=OutcomeColumns({"mrr": "mrr", "retained": "retained_6mo"}),
        start=np.full(count, cents, dtype=np.int64),
        end=np.zeros(count, dtype=np.int64),
    )
    sums = LocalEvaluator(matrix, tables.make_spec()).frame([[1, 1, 1]])
    assert sums["top_start_tied"].item() == count * cents
    assert sums["ceiling_fifths"].item() == count * cents


def test_a_sum_beyond_int64_stays_exact() -> None:
    names = ("small", "large", "negative")
    rows = np.array([[[1, 7, -3], [0, 2**62, 5]], [[2, 0, 4], [0, 0, 0]]], dtype=np.int64)
    frame = sums_frame(names, rows)
    assert frame.to_dict(as_series=False) == {
        "small": [1, 2],
        "large": [7 + 2**88, 0],
        "negative": [5 * 2**26 - 3, 4],
    }
    assert frame.schema["small"] == pl.Int64


def test_one_limb_makes_int64_columns() -> None:
    frame = sums_frame(("a", "b"), np.array([[[1, 2]], [[3, 4]]], dtype=np.int64))
    assert frame.schema == {"a": pl.Int64, "b": pl.Int64}
    assert frame.rows() == [(1, 2), (3, 4)]


@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_the_metrics_of_ten_to_the_eight_accounts_of_ten_to_the_twelve_cents(
    orientation: str,
) -> None:
    # The table doubled until it has more than 10^8 accounts: no rate may move, nothing may wrap.
    source = random.Random(5)
    pairs = [(10**12 - source.randrange(10**9), source.randrange(10**12)) for _ in range(40)]
    frame, rows = large_table([(s, e if i % 4 else 0) for i, (s, e) in enumerate(pairs)])
    spec = tables.make_spec((50, 30, 0), orientation=orientation)
    accounts = tables.loaded(frame, spec)
    matrix, bands = accounts.search, TierEdges.of(spec)
    # In two limbs, as a table of that size has them.
    cohorts = dataclasses.replace(cohorts_of(matrix), depth=2)
    raw = raw_scores(matrix.columns, np.array([50, 30, 0]), 0)
    part = cohorts.block(0, matrix.accounts)
    bins, clipped = score_bins(raw[None], 100)
    counts = tables.count_all(bins, clipped, part, bands.tier_lows, range(bands.bins))
    copies = 1
    while copies * len(rows) < 10**8:
        counts, copies = counts + counts, 2 * copies
    sums = sums_frame(bands.names, bands.sums(counts))
    assert sum(sums[tier_sum("start", tier)].item() for tier in tables.TIERS) == copies * sum(
        row["start"] for row in rows
    )
    assert sums[tier_sum("start", "D")].dtype == pl.Int128
    ceiling = pl.lit(0, dtype=pl.Int128).alias("ceiling_fifths")
    measured = measure(sums.with_columns(ceiling), spec.tier_names, accounts.checked.outcomes)
    got = measured.row(0)
    expected = reference.metrics(
        tables.scored(rows, "retained", (50, 30, 0)), list(tables.TIERS), orientation
    )
    for key in ("scored", "accounts_by_tier", "revenue_capture_random", "revenue_capture_ceiling"):
        expected.pop(key)
    tables.assert_same_metrics({key: got[key] for key in expected}, expected)
    assert got["scored"] == copies * len(rows)
