"""The hot loop: exact whatever the way, rounded half up, clipped and counted, nothing lost."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tables import count_all

from gtmar.engine.cohorts import LIMB_BITS, Cohorts, limb_count, limbs
from gtmar.engine.numpy_kernel import (
    BIN_BLOCK,
    Counts,
    add_steps,
    bin_count,
    raw_scores,
    score_bins,
)
from gtmar.errors import ShapeError

Columns = list[NDArray[Any]]

TYPES: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16, np.int32, np.int64)


def frozen(values: Sequence[int], dtype: type[np.integer[Any]]) -> NDArray[Any]:
    column = np.array(values, dtype=dtype)
    column.flags.writeable = False
    return column


@st.composite
def columns(draw: st.DrawFn, *, most: int = 2**40) -> Columns:
    size = draw(st.integers(1, 12))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(TYPES))
        ends = np.iinfo(dtype)
        value = st.integers(max(int(ends.min), -most), min(int(ends.max), most))
        found.append(frozen(draw(st.lists(value, min_size=size, max_size=size)), dtype))
    return found


def vectors(width: int, limit: int) -> st.SearchStrategy[list[list[int]]]:
    vector = st.lists(st.integers(-limit, limit), min_size=width, max_size=width)
    return st.lists(vector, min_size=1, max_size=6)


def by_hand(columns: Columns, weights: Sequence[int], base: int) -> list[int]:
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [10_000 * base + sum(w * x for w, x in zip(weights, r, strict=True)) for r in rows]


# ---- raw scores -----------------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data(), base=st.integers(-1000, 1000))
def test_steps_give_what_a_full_score_gives(data: st.DataObject, base: int) -> None:
    table = data.draw(columns())
    walk = data.draw(vectors(len(table), 10**6))
    raw = raw_scores(table, np.array(walk[0]), base)
    candidate = np.empty_like(raw)
    for before, after in pairwise(walk):
        steps = [(i, new - old) for i, (old, new) in enumerate(zip(before, after, strict=True))]
        add_steps(raw, table, steps, out=candidate)
        assert candidate.tolist() == raw_scores(table, np.array(after), base).tolist()
        assert raw.tolist() == by_hand(table, before, base)
        add_steps(raw, table, steps, out=raw)
        assert raw.tolist() == candidate.tolist()
    assert raw.tolist() == by_hand(table, walk[-1], base)


@settings(deadline=None)
@given(data=st.data(), base=st.integers(-1000, 1000))
def test_narrow_scores_are_the_wide_ones(data: st.DataObject, base: int) -> None:
    # Four columns of at most 10^4 with weights of at most 10^4 stay below 2^31, but a change of a
    # weight times a column leaves the column's own type.
    table = data.draw(columns(most=10_000))
    walk = data.draw(vectors(len(table), 10_000))
    narrow = raw_scores(table, np.array(walk[0]), base, wide=False)
    assert narrow.dtype == np.int32
    for before, after in pairwise(walk):
        steps = [(i, new - old) for i, (old, new) in enumerate(zip(before, after, strict=True))]
        add_steps(narrow, table, steps, out=narrow)
    assert narrow.tolist() == by_hand(table, walk[-1], base)


def test_a_narrow_column_is_widened_before_it_is_multiplied() -> None:
    raw = raw_scores([frozen([127, -128], np.int8)], np.array([1_000_000]), 0)
    assert raw.tolist() == [127_000_000, -128_000_000]


def test_a_missing_weight_is_named() -> None:
    table = [frozen([1, 2], np.int8)] * 3
    with pytest.raises(
        ShapeError, match=r"^weights: expected one for each of F = 3 columns, got 2$"
    ):
        raw_scores(table, np.array([1, 2]), 0)


# ---- score places ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "place", "clipped"),
    [
        (0, 0, (0, 0)),
        (49, 0, (0, 0)),
        (50, 1, (0, 0)),
        (149, 1, (0, 0)),
        (150, 2, (0, 0)),
        (-50, 0, (0, 0)),
        (-51, 0, (1, 0)),
        (-150, 0, (1, 0)),
        (999_949, 9_999, (0, 0)),
        (999_950, 10_000, (0, 0)),
        (1_000_049, 10_000, (0, 0)),
        (1_000_050, 10_000, (0, 1)),
        (10**15, 10_000, (0, 1)),
        (-(10**15), 0, (1, 0)),
    ],
)
def test_rounding_is_half_up_and_ends_are_clipped(
    raw: int, place: int, clipped: tuple[int, int]
) -> None:
    places, counted = score_bins(np.array([[raw]]), 100)
    assert (places.tolist(), counted.tolist()) == ([[place]], [list(clipped)])


@settings(deadline=None)
@given(
    raw=st.lists(st.integers(-3_000_000, 3_000_000), max_size=20),
    max_score=st.sampled_from((1, 7, 100, 200)),
    dtype=st.sampled_from((np.int32, np.int64)),
)
def test_places_follow_the_definition(
    raw: list[int], max_score: int, dtype: type[np.integer[Any]]
) -> None:
    # The same accounts twice, as two candidates.
    two = np.array([raw, raw[::-1]], dtype=dtype).reshape(2, -1)
    places, clipped = score_bins(two, max_score)
    assert places is two
    rounded = [math.floor(Fraction(value, 100) + Fraction(1, 2)) for value in raw]
    top = 100 * max_score
    expected = [min(max(value, 0), top) for value in rounded]
    assert places.tolist() == [expected, expected[::-1]]
    assert clipped.tolist() == [[sum(v < 0 for v in rounded), sum(v > top for v in rounded)]] * 2
    assert bin_count(max_score) > top + 1
    assert bin_count(max_score) % BIN_BLOCK == 0


def test_rounding_does_not_wrap_next_to_the_end_of_int32() -> None:
    # Narrow scores keep a point's hundredth away from the end; the rounding must stay within it.
    raw = np.array([[2**31 - 101, -(2**31) + 101]], dtype=np.int32)
    places, clipped = score_bins(raw, 100)
    assert (places.tolist(), clipped.tolist()) == ([[10_000, 0]], [[1, 1]])


# ---- limbs ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**53 - 1) | st.integers(0, 10**6), max_size=30))
def test_limbs_give_values_and_sums_back(values: list[int]) -> None:
    money = np.array(values, dtype=np.int64)
    parts = limbs(money, limb_count(money))
    scales = [1, 2**LIMB_BITS][: len(parts)]
    for value, *pieces in zip(values, *(part.tolist() for part in parts), strict=True):
        assert sum(int(p) * s for p, s in zip(pieces, scales, strict=True)) == value
    # What the kernel does with them: sums in doubles, of which each must still be exact.
    sums = [np.bincount(np.zeros(len(values), dtype=int), part, minlength=1)[0] for part in parts]
    assert sum(int(total) * s for total, s in zip(sums, scales, strict=True)) == sum(values)
    assert len(parts) == 1 or max(values) >= 2**LIMB_BITS


def test_one_limb_would_round_where_two_are_taken() -> None:
    values = np.array([2**53 - 1] * 3)
    assert int(values.astype(np.float64).sum()) != 3 * (2**53 - 1)
    assert limb_count(values) == 2
    low, high = limbs(values, 2)
    assert int(low.sum()) + int(high.sum()) * 2**LIMB_BITS == 3 * (2**53 - 1)


# ---- counts ---------------------------------------------------------------------------------


def cohorts_by_hand(rows: list[dict[str, Any]], *, split: bool) -> Cohorts:
    """Make cohorts of accounts sorted as the kernel wants them: lost, retained, rest.

    With `split` money comes in two limbs, however small it is.
    """

    def column(name: str, dtype: type[np.integer[Any]] = np.int64) -> NDArray[Any]:
        return np.array([row[name] for row in rows], dtype=dtype)

    lost = sum(row["label"] == 0 for row in rows)
    kept = sum(row["label"] == 1 for row in rows)
    unpaying = sum(row["label"] == 0 and not row["pays"] for row in rows)
    freeloading = sum(row["label"] == 1 and not row["pays"] for row in rows)
    stay = [row for row in rows if row["label"] == 1 and row["pays"]]
    less = sum(row["end"] < row["start"] for row in stay)
    valued = np.flatnonzero(column("ltv")).astype(np.int32)
    others = np.flatnonzero(column("ltv") == 0).astype(np.int32)
    dated = np.flatnonzero(column("day") >= 0).astype(np.int32)
    return Cohorts(
        negatives=slice(0, lost),
        positives=slice(lost, lost + kept),
        rest=slice(lost + kept, len(rows)),
        paying=slice(unpaying, lost + kept - freeloading),
        gone=slice(unpaying, lost),
        stays=slice(lost, lost + kept - freeloading),
        contracted=slice(lost, lost + less),
        expanded=slice(lost + less, lost + kept - freeloading),
        codes=column("code", np.int16),
        start=column("start"),
        end=column("end"),
        ltv=column("ltv"),
        valued=valued,
        unvalued=others if len(others) < len(valued) else None,
        dated=dated,
        days=column("day", np.int32)[dated],
        depth=2 if split else 1,
        code_count=3,
        day_count=2,
    )


accounts = st.fixed_dictionaries(
    {
        "label": st.sampled_from((0, 1, 2)),
        "pays": st.booleans(),
        "code": st.integers(0, 2),
        "start": st.integers(1, 10**12),
        "end": st.integers(0, 10**12),
        "ltv": st.sampled_from((0, 1, 10**12)),
        "day": st.integers(-1, 1),
        "place": st.integers(0, 5),
    }
)


ACCOUNT: dict[str, Any] = {
    "label": 0,
    "pays": True,
    "code": 0,
    "start": 5,
    "end": 0,
    "ltv": 0,
    "day": -1,
    "place": 0,
}


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lost before retained before rest; the paying are one run across the first border.

    Of those that stay, the contracted come first.
    """

    def place(row: dict[str, Any]) -> tuple[int, bool, bool]:
        kept = row["label"] == 1
        return row["label"], row["pays"] != kept, kept and row["end"] >= row["start"]

    return sorted(rows, key=place)


tables = st.lists(accounts, max_size=15).map(in_order)
#: Six places and two tiers: high scores are tier 0.
TIER_LOWS = (3, 0)


def counted(
    rows: list[dict[str, Any]], *, split: bool = False, window: range = range(6), copies: int = 1
) -> Counts:
    places = np.array([[row["place"] for row in rows]] * copies, dtype=np.int32)
    clipped = np.array([[sum(row["place"] == end for row in rows) for end in (0, 5)]] * copies)
    part = cohorts_by_hand(rows, split=split).block(0, len(rows), copies=copies)
    return count_all(places, clipped, part, TIER_LOWS, window)


def cents(counts: NDArray[np.int64]) -> int:
    return sum(int(limb) << (LIMB_BITS * i) for i, limb in enumerate(counts))


@pytest.mark.slow
@settings(deadline=None)
@given(rows=tables, split=st.booleans(), copies=st.integers(1, 3))
def test_counts_are_what_loops_count(rows: list[dict[str, Any]], split: bool, copies: int) -> None:
    many = counted(rows, split=split, copies=copies)
    for candidate in range(copies):
        assert_counted(each(many, candidate), rows)


def each(counts: Counts, candidate: int) -> Counts:
    """Return one candidate's counts, without the axis of candidates."""
    arrays = (field.name for field in fields(Counts) if field.name != "first")
    return Counts(**{name: getattr(counts, name)[candidate] for name in arrays})


def assert_counted(counts: Counts, rows: list[dict[str, Any]]) -> None:
    names = ("negatives", "positives", "rest", "paying", "valued")
    by_place = dict(zip(names, counts.accounts, strict=True))
    gone, stays, contraction, expansion, ltv = counts.money
    for place in range(6):
        here = [row for row in rows if row["place"] == place]
        paying = [row for row in here if row["label"] < 2 and row["pays"]]
        for label, name in enumerate(names[:3]):
            assert by_place[name][place] == sum(row["label"] == label for row in here)
        assert by_place["paying"][place] == len(paying)
        assert by_place["valued"][place] == sum(row["ltv"] > 0 for row in here)
        for kind, label in ((gone, 0), (stays, 1)):
            expected = sum(row["start"] for row in paying if row["label"] == label)
            assert cents(kind[:, place]) == expected
        changes = [row["end"] - row["start"] for row in paying if row["label"] == 1]
        assert cents(expansion[:, place]) == sum(max(change, 0) for change in changes)
        assert cents(contraction[:, place]) == sum(max(-change, 0) for change in changes)
        assert cents(ltv[:, place]) == sum(row["ltv"] for row in here)
    for tier in range(2):
        inside = [row for row in rows if (row["place"] < TIER_LOWS[0]) == tier]
        for code in range(3):
            coded = [row for row in inside if row["code"] == code]
            assert counts.tier_counts[tier, code] == len(coded)
        days = [sum(row["day"] == day for row in inside) for day in (0, 1)]
        assert counts.tier_days[tier].tolist() == days


@settings(deadline=None)
@given(rows=tables, mask=st.integers(0, 2**15 - 1), split=st.booleans())
def test_counts_of_two_parts_add_up_to_the_whole(
    rows: list[dict[str, Any]], mask: int, split: bool
) -> None:
    one = [row for i, row in enumerate(rows) if mask >> i & 1]
    two = [row for i, row in enumerate(rows) if not mask >> i & 1]
    total = counted(one, split=split) + counted(two, split=split)
    whole = counted(rows, split=split)
    for field in fields(Counts):
        np.testing.assert_array_equal(getattr(total, field.name), getattr(whole, field.name))


def test_a_part_with_one_limb_adds_to_a_part_with_two() -> None:
    small = {
        "label": 0,
        "pays": True,
        "code": 0,
        "start": 5,
        "end": 0,
        "ltv": 0,
        "day": -1,
        "place": 1,
    }
    large = {**small, "start": 2**53 - 1}
    total = counted([small]) + counted([large], split=True)
    assert cents(total.money[0, 0, :, 1]) == 2**53 + 4


@settings(max_examples=20, deadline=None)
@given(rows=tables.filter(bool))
def test_nothing_wraps_with_the_money_of_ten_to_the_eight_accounts(
    rows: list[dict[str, Any]],
) -> None:
    # Doubled until there are more than 10^8 accounts, each with up to 10^12 cents: beyond Int64.
    rows = [{**row, "start": row["start"] + 10**12} for row in rows]
    counts, copies = counted(rows, split=True), 1
    while copies * len(rows) < 10**8:
        counts, copies = counts + counts, 2 * copies
    paying = [row for row in rows if row["label"] < 2 and row["pays"]]
    gone, stays = (sum(cents(m) for m in counts.money[0, kind].T) for kind in (0, 1))
    assert gone + stays == copies * sum(row["start"] for row in paying)
    assert int(counts.tier_counts.sum()) == copies * len(rows)


def test_clipped_accounts_add_up() -> None:
    row = {
        "label": 0,
        "pays": True,
        "code": 0,
        "start": 5,
        "end": 0,
        "ltv": 0,
        "day": -1,
        "place": 0,
    }
    total = counted([row, {**row, "place": 5}]) + counted([row])
    assert total.clipped.tolist() == [[2, 1]]


def test_counts_with_other_limbs_are_not_added_in_place() -> None:
    # The sum would be lost in a padded copy.
    counts = counted([ACCOUNT])
    with pytest.raises(ShapeError, match=r"^counts\.money: \(1, 5, 1, 6\) and \(1, 5, 2, 6\)"):
        counts += counted([ACCOUNT], split=True)


def test_counts_that_do_not_fit_are_refused_by_name() -> None:
    counts = counted([])
    other = replace(counts, accounts=np.zeros((2, 5, 6), dtype=np.int64))
    with pytest.raises(ShapeError, match=r"^counts\.accounts: \(1, 5, 6\) and \(2, 5, 6\) don't"):
        counts + other
    with pytest.raises(ShapeError, match="begin with"):
        counts += replace(counts, first=3)
    narrower = replace(counts, tier_days=np.zeros((1, 2, 1), dtype=np.int64))
    with pytest.raises(ShapeError, match=r"^counts\.tier_days: \(1, 2, 2\) and \(1, 2, 1\) don't"):
        counts += narrower


@settings(deadline=None)
@given(rows=tables.filter(bool), split=st.booleans())
def test_a_window_of_places_counts_the_same(rows: list[dict[str, Any]], split: bool) -> None:
    found = [row["place"] for row in rows]
    narrow = counted(rows, split=split, window=range(min(found), max(found) + 1), copies=2)
    wide = counted(rows, split=split, copies=2)
    widened = narrow.over(range(6), narrow.money.shape[2])
    for field in fields(Counts):
        np.testing.assert_array_equal(getattr(widened, field.name), getattr(wide, field.name))


@pytest.mark.slow
@settings(deadline=None)
@given(rows=tables, cuts=st.lists(st.integers(0, 15), max_size=3), split=st.booleans())
def test_parts_of_a_table_add_up_to_the_whole(
    rows: list[dict[str, Any]], cuts: list[int], split: bool
) -> None:
    cohorts = cohorts_by_hand(rows, split=split)
    places = np.array([[row["place"] for row in rows]], dtype=np.int32)
    ends = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    none = np.zeros((1, 2), dtype=np.int64)
    whole = count_all(places, none, cohorts.block(0, len(rows)), TIER_LOWS, range(6))
    total = count_all(places[:, :0], none, cohorts.block(0, 0), TIER_LOWS, range(6))
    for first, last in pairwise(ends):
        part = cohorts.block(first, last)
        total += count_all(places[:, first:last], none, part, TIER_LOWS, range(6))
    for field in fields(Counts):
        np.testing.assert_array_equal(getattr(total, field.name), getattr(whole, field.name))
