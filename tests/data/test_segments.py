"""Segments of a table: every value one, the unknown too, whatever the order, type or file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from factories import make_accounts, make_spec

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.contract import MOST_SEGMENTS
from gtmar.data.matrix import Accounts, add_segments, load_accounts
from gtmar.data.outcomes import OutcomeColumns
from gtmar.data.scan import scan
from gtmar.errors import SpecError, ViolationsError
from gtmar.validation.resampling import halved, shuffled

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.data.matrix import AccountMatrix

REGIONS = ["emea", "apac", None, "amer", "emea", "emea", None]
#: The row number as an outcome, so that accounts can be told apart in the arrays.
TABLE = make_accounts(210).with_columns(
    region=pl.Series([REGIONS[i % 7] for i in range(210)]),
    size=pl.Series([i % 3 for i in range(210)]),
    actual_ltv=pl.int_range(1, 211),
)
SPEC = make_spec(segments=["region", "size"])


def load(table: pl.DataFrame, spec: specs.ScoringSpec = SPEC, **more: Any) -> Accounts:
    return load_accounts(scan(table), spec, **more)


def by_account(accounts: Accounts) -> dict[int, tuple[str, ...]]:
    """Return each account's segments by its lifetime value, which tells accounts apart."""
    found = {}
    for part in (accounts.search, accounts.holdout):
        assert part is not None
        assert part.ltv is not None
        for row, cents in enumerate(part.ltv.tolist()):
            found[cents // 100] = tuple(s.values[s.codes[row]] for s in part.segments)
    return found


def expected(table: pl.DataFrame) -> dict[int, tuple[str, ...]]:
    return {
        row["actual_ltv"]: (row["region"] or "(unknown)", str(row["size"]))
        for row in table.iter_rows(named=True)
    }


def test_every_account_is_in_the_segment_of_its_value_and_the_unknown_is_one() -> None:
    accounts = load(TABLE)
    assert by_account(accounts) == expected(TABLE)
    region, size = accounts.search.segments
    assert region.column == "region"
    assert region.values == ("amer", "apac", "emea", "(unknown)")
    assert region.name(3) == "region=(unknown)"
    assert size.values == ("0", "1", "2")
    assert region.codes.dtype == np.int8
    with pytest.raises(ValueError, match="read-only"):
        region.codes[:1] = 0


@pytest.mark.slow
def test_neither_order_nor_type_nor_file_nor_memory_changes_them(tmp_path: Path) -> None:
    TABLE.write_csv(tmp_path / "a.csv")
    TABLE.head(100).write_parquet(tmp_path / "1.parquet")
    TABLE.tail(110).write_parquet(tmp_path / "2.parquet")
    plain = load(TABLE)
    others = [
        load(TABLE.sample(fraction=1, shuffle=True, seed=1)),
        load(TABLE.with_columns(pl.col("region").cast(pl.Categorical))),
        load_accounts(scan(tmp_path / "a.csv"), SPEC),
        load_accounts(scan(str(tmp_path / "*.parquet")), SPEC),
        load(TABLE, memory=0),
    ]
    assert others[-1].on_disk
    for other in others:
        assert by_account(other) == expected(TABLE)
        assert other.segments_fingerprint == plain.segments_fingerprint


@pytest.mark.slow
def test_a_fingerprint_of_their_own_leaves_the_others_as_they_are() -> None:
    without = load(TABLE, make_spec())
    assert without.segments_fingerprint is None
    assert without.search.segments == ()
    whole = load(TABLE)
    assert whole.segments_fingerprint is not None
    moved = TABLE.with_columns(
        region=pl.when(pl.col("actual_ltv") == 7).then(pl.lit("apac")).otherwise("region")
    )
    renamed = TABLE.with_columns(region=pl.col("region").replace({"apac": "apax"}))
    prints = {load(each).segments_fingerprint for each in (TABLE, moved, renamed)}
    assert len(prints) == 3
    for other in (load(moved), whole):
        assert other.outcomes_fingerprint == without.outcomes_fingerprint
        assert other.features_fingerprint == without.features_fingerprint


def test_a_value_that_is_called_unknown_is_another_segment_than_the_unknown() -> None:
    table = TABLE.with_columns(region=pl.col("region").replace({"emea": "(unknown)"}))
    [region] = load(table, make_spec(segments=["region"])).search.segments
    assert region.values == ("(unknown)", "amer", "apac", "((unknown))")


def test_too_many_values_and_no_such_column_are_refused_in_one_message() -> None:
    table = TABLE.with_columns(city=pl.int_range(pl.len()), tags=pl.lit([1, 2]))
    spec = make_spec(segments=["city", "regoin", "tags", "region"])
    with pytest.raises(ViolationsError) as caught:
        load(table.drop("logins"), spec)
    said = str(caught.value)
    assert f"210 values, more than {MOST_SEGMENTS} segments" in said
    assert "regoin" in said
    assert 'did you mean "region"?' in said
    assert "expected values of a segment, got List(Int64)" in said
    assert "logins" in said
    assert len(caught.value.violations) == 4


def test_as_many_values_as_may_be_are_segments_and_one_more_is_too_many() -> None:
    many = TABLE.with_columns(city=pl.int_range(pl.len()) % MOST_SEGMENTS)
    spec = make_spec(segments=["city"])
    assert len(load(many, spec).search.segments[0].values) == MOST_SEGMENTS
    unknown = pl.when(pl.int_range(pl.len()) > 0).then("city")
    with pytest.raises(ViolationsError, match=f"{MOST_SEGMENTS + 1} values"):
        load(many.with_columns(city=unknown), spec)


def test_segments_added_later_are_those_that_loading_gives() -> None:
    # Accounts dropped or set aside lie among others, and all lie in another order in the matrix.
    spec = make_spec(split={"holdout": 0.4})
    names = OutcomeColumns.matching(spec.outcomes, TABLE.columns).columns.values()
    bare = TABLE.head(4).with_columns(
        pl.col("account_id") + "-bare", *(pl.when(False).then(name).alias(name) for name in names)
    )
    broken = TABLE.slice(20, 3).with_columns(pl.col("account_id") + "-broken", mrr=pl.lit(-1.0))
    table = scan(pl.concat([TABLE.head(9), bare, TABLE.slice(9, 8), broken, TABLE.slice(17)]))
    options: dict[str, Any] = {"drop_unlabelled": True, "set_aside": 0.1}
    added = add_segments(load_accounts(table, spec, numbered=True, **options), ["size", "region"])
    stated = make_spec(split={"holdout": 0.4}, segments=["size", "region"])
    loaded = load_accounts(table, stated, **options)
    assert loaded.checked.dropped == 4
    assert loaded.checked.set_aside is not None
    for one, two in ((added.search, loaded.search), (added.holdout, loaded.holdout)):
        assert one is not None
        assert two is not None
        for a, b in zip(one.segments, two.segments, strict=True):
            assert (a.column, a.values) == (b.column, b.values)
            np.testing.assert_array_equal(a.codes, b.codes)
            assert not a.codes.flags.writeable


def test_scoring_needs_no_segments() -> None:
    assert runs.score(TABLE.drop("region"), SPEC).height == TABLE.height


def test_parts_and_rows_of_a_matrix_keep_their_segments() -> None:
    matrix: AccountMatrix = load(TABLE).search
    codes = matrix.segments[0].codes
    np.testing.assert_array_equal(matrix.part(20, 50).segments[0].codes, codes[20:50])
    rows = matrix.segments[0].rows(2)
    np.testing.assert_array_equal(rows, np.flatnonzero(codes == 2))
    taken = matrix.take(np.repeat(rows, 2))
    assert set(taken.segments[0].codes.tolist()) == {2}
    assert matrix.ltv is not None
    assert taken.ltv is not None
    np.testing.assert_array_equal(taken.ltv, np.repeat(matrix.ltv[rows], 2))
    sizes = np.bincount(matrix.codes[np.repeat(rows, 2)] // 3, minlength=11)
    np.testing.assert_array_equal(np.diff(taken.offsets), sizes)


def test_shuffled_outcomes_leave_accounts_in_their_segments() -> None:
    """Features say which account it is: each keeps its segment, whatever outcome it gets."""
    table = TABLE.with_columns(row=pl.int_range(pl.len()), region=(pl.int_range(pl.len()) % 7))
    feature = {"weight": 1, "min": 0, "max": 2}
    spec = make_spec(segments=["region"], features={"row": feature})
    for drawn in (shuffled(load(table, spec).search, seed=1, number=1),
                  halved(load(table, spec).search, seed=1, number=1)):  # fmt: skip
        region = [int(drawn.segments[0].values[code]) for code in drawn.segments[0].codes]
        assert region == (drawn.columns[0] // 10_000 % 7).tolist()


# ---- the key of the spec ---------------------------------------------------------------------


def test_segments_change_the_spec_id_and_never_the_score_id() -> None:
    plain, turned = make_spec(), make_spec(segments=["size", "region"])
    assert specs.score_id(SPEC) == specs.score_id(plain)
    assert specs.spec_id(SPEC) != specs.spec_id(plain)
    assert specs.spec_id(turned) == specs.spec_id(SPEC)
    assert specs.parse(specs.to_yaml(SPEC)) == specs.parse(specs.to_json(SPEC)) == SPEC


def test_columns_that_are_no_segments_are_refused_each_with_its_reason() -> None:
    with pytest.raises(SpecError) as caught:
        specs.parse(
            "model: m\n"
            "id: who\n"
            "segments: [who, mrr, plan, region, region]\n"
            "guardrails: []\n"
            "features: {tier: {weight: 1, min: 0, max: 2, column: plan}}\n"
            "tiers: {A: {min: 0, max: 101}}\n"
        )
    said = str(caught.value)
    assert 'spec:3: segments: segment column "who" is the account id' in said
    assert 'segment column "mrr" is the outcome "mrr"' in said
    assert 'segment column "plan" is what feature "tier" reads' in said
    assert 'segment column "region" stands twice' in said


@pytest.mark.parametrize(
    ("guardrail", "said"),
    [
        ("{metric: worst_segment_change, min: -0.01}", "needs segments in the spec"),
        ("{metric: segment_gap, max: 0.1}", "needs segments in the spec"),
        ("{metric: segment_gap, min: 0.1}", "guardrail on segment_gap takes a max"),
        ("{metric: gain, max: 0.1}", "guardrail on gain takes a min"),
        ("{metric: gain, min: 0, max: 0.1}", "guardrail on gain takes a min alone"),
        ("{metric: moved_share, max: 20}", "moved_share is a share of accounts, in [0, 1], got 20"),
    ],
)
def test_guardrails_that_can_not_hold_are_refused(guardrail: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        specs.parse(
            f"model: m\nguardrails:\n  - {guardrail}\n"
            "features: {x: {weight: 1, min: 0, max: 2}}\ntiers: {A: {min: 0, max: 101}}\n"
        )
    assert said in str(caught.value)
