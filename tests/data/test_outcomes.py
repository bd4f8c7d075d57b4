"""Outcomes as canonical integers, and what became of every account."""

import math
from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.data.outcomes import (
    Movement,
    OutcomeColumns,
    canonical_outcomes,
    known_number,
    movement_class,
)
from gtmar.spec import Outcomes

NAMES = Outcomes()
CANONICAL = ["retained", "start", "end", "ltv", "activated", "days", "won_back"]


def canonical(frame: pl.DataFrame, names: Outcomes = NAMES) -> pl.DataFrame:
    found = OutcomeColumns.matching(names, frame.columns)
    result = frame.select(**canonical_outcomes(found, frame.schema))
    assert result.columns == CANONICAL
    return result


def one(**columns: Any) -> dict[str, Any]:
    """Return the canonical outcomes of a table of one account."""
    frame = pl.DataFrame({name: [value] for name, value in columns.items()})
    return canonical(frame).row(0, named=True)


def movement(**columns: Any) -> Movement:
    frame = pl.DataFrame({name: [value] for name, value in columns.items()})
    found = OutcomeColumns.matching(NAMES, frame.columns)
    outcomes = frame.select(**canonical_outcomes(found, frame.schema))
    return Movement(outcomes.select(movement_class(found)).item())


# Which columns, and which basis


@pytest.mark.parametrize(
    ("columns", "labelled", "basis"),
    [
        (["retained_6mo"], True, None),
        (["churned"], True, None),
        (["mrr_end"], True, None),
        (["mrr"], False, None),
        (["mrr", "actual_ltv"], False, None),
        (["mrr", "retained_6mo"], True, "binary"),
        (["mrr", "churned"], True, "binary"),
        (["mrr", "mrr_end"], True, "observed"),
        (["mrr", "mrr_end", "churned"], True, "observed"),
        (["mrr", "won_back"], False, None),
        (["x"], False, None),
    ],
    ids=str,
)
def test_basis(columns: list[str], labelled: bool, basis: str | None) -> None:
    found = OutcomeColumns.matching(NAMES, columns)
    assert (found.labelled, found.basis) == (labelled, basis)


def test_roles_follow_the_names_of_the_spec() -> None:
    names = make_spec(outcomes={"retained": "stayed", "ltv": "value"}).outcomes
    found = OutcomeColumns.matching(names, ["value", "stayed", "retained_6mo", "mrr"])
    assert found.columns == {"retained": "stayed", "mrr": "mrr", "ltv": "value"}
    assert found.has("churned", "ltv")
    assert not found.has("churned", "mrr_end")


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ((), None),
        (("mrr",), None),
        (("label",), "no retained_6mo, churned or mrr_end column"),
        (("mrr", "ltv"), "no actual_ltv column"),
        (("days_to_activate",), "no days_to_activate column"),
    ],
    ids=str,
)
def test_what_a_metric_lacks_is_named_by_its_column(
    needs: tuple[str, ...], reason: str | None
) -> None:
    assert OutcomeColumns.matching(NAMES, ["mrr"]).missing_reason(needs) == reason


# The label


@pytest.mark.parametrize(
    ("columns", "retained"),
    [
        ({"retained_6mo": 1}, 1),
        ({"retained_6mo": 0.0}, 0),
        ({"retained_6mo": True}, 1),
        ({"retained_6mo": None}, None),
        ({"churned": 1}, 0),
        ({"churned": 0}, 1),
        ({"churned": False}, 1),
        ({"churned": math.nan}, None),
        ({"retained_6mo": None, "churned": 1}, 0),
        ({"retained_6mo": 1, "churned": None}, 1),
        ({"mrr_end": 12.5}, 1),
        ({"mrr_end": 0.0}, 0),
        ({"mrr_end": 0.004}, 0),
        ({"mrr_end": None}, None),
        ({"retained_6mo": 1, "mrr_end": 0}, 1),
        ({"retained_6mo": None, "mrr_end": 3}, None),
        ({"retained_6mo": None, "mrr_end": 0}, None),
        ({"churned": None, "mrr_end": 3}, None),
        ({"churned": math.nan, "mrr_end": 0}, None),
        ({"retained_6mo": None, "churned": None, "mrr_end": 3}, None),
        ({"won_back": 0}, None),
        ({"won_back": 1, "mrr_end": 7}, None),
        ({"actual_ltv": 7}, None),
    ],
    ids=str,
)
def test_label(columns: dict[str, Any], retained: int | None) -> None:
    assert one(**columns)["retained"] == retained


@pytest.mark.parametrize("label", ["retained_6mo", "churned"])
def test_end_of_an_account_without_its_label_is_unknown(label: str) -> None:
    assert one(**{label: None, "mrr": 5, "mrr_end": 5})["end"] is None
    assert movement(**{label: None, "mrr": 5, "mrr_end": 5}) == Movement.UNLABELLED
    # A former account's label is null by definition.
    assert one(**{label: None, "won_back": 1, "mrr": 5, "mrr_end": 5})["end"] == 500


# Money


@pytest.mark.parametrize(
    ("amount", "cents"),
    [(0, 0), (1, 100), (0.29, 29), (1.005, 100), (0.125, 13), (-0.125, -12), (9e13, 9 * 10**15)],
)
def test_money_is_cents_rounded_half_up(amount: float, cents: int) -> None:
    assert one(mrr=amount)["start"] == cents
    assert one(actual_ltv=amount)["ltv"] == cents


def test_unknown_money_is_unknown() -> None:
    found = one(mrr=math.nan, mrr_end=None, actual_ltv=math.nan)
    assert (found["start"], found["end"], found["ltv"]) == (None, None, None)


@pytest.mark.parametrize("label", [{"retained_6mo": 0}, {"churned": 1}], ids=str)
@pytest.mark.parametrize("end", [None, math.nan])
def test_unknown_end_mrr_of_a_churned_account_is_0(label: dict[str, int], end: Any) -> None:
    frame = pl.DataFrame({"mrr": [5.0], "mrr_end": [end], **{k: [v] for k, v in label.items()}})
    assert canonical(frame.cast({"mrr_end": pl.Float64}))["end"].to_list() == [0]


def test_unknown_end_mrr_of_anybody_else_stays_unknown() -> None:
    assert one(mrr=5.0, mrr_end=None, retained_6mo=1)["end"] is None
    assert one(mrr=5.0, mrr_end=None, retained_6mo=None)["end"] is None


def test_without_an_end_mrr_it_is_taken_as_flat_for_who_stays() -> None:
    assert one(mrr=5.5, retained_6mo=1)["end"] == 550
    assert one(mrr=5.5, retained_6mo=0)["end"] == 0
    assert one(mrr=5.5, retained_6mo=None)["end"] is None
    assert one(mrr=5.5)["end"] is None


def test_days_are_whole() -> None:
    assert one(days_to_activate=7.9, activated=1)["days"] == 7
    assert one(days_to_activate=None, activated=1)["days"] is None


def test_known_number() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [math.nan, 2.5], "c": [True, False]})
    found = frame.select(known_number(name, frame.schema[name]) for name in frame.columns)
    assert found.rows() == [(1.0, None, 1.0), (None, 2.5, 0.0)]


# What became of an account


@pytest.mark.parametrize(
    ("expected", "columns"),
    [
        (Movement.LOST_NONPAYING, {"retained_6mo": 0}),
        (Movement.LOST_NONPAYING, {"retained_6mo": 0, "mrr": 0, "mrr_end": 0}),
        (Movement.LOST_PAYING, {"retained_6mo": 0, "mrr": 5, "mrr_end": 0}),
        (Movement.LOST_PAYING, {"retained_6mo": 0, "mrr": 5, "mrr_end": None}),
        (Movement.LOST_PAYING, {"churned": 1, "mrr": 5}),
        (Movement.LOST_PAYING, {"mrr": 5, "mrr_end": 0}),
        (Movement.KEPT_REVENUE_LOST, {"retained_6mo": 1, "mrr": 5, "mrr_end": 0}),
        (Movement.KEPT_CONTRACTED, {"retained_6mo": 1, "mrr": 5, "mrr_end": 4.99}),
        (Movement.KEPT_CONTRACTED, {"mrr": 5, "mrr_end": 0.01}),
        (Movement.KEPT_FLAT, {"retained_6mo": 1, "mrr": 5, "mrr_end": 5}),
        (Movement.KEPT_FLAT, {"retained_6mo": 1, "mrr": 5}),
        (Movement.KEPT_FLAT, {"retained_6mo": 1, "mrr": 5, "mrr_end": 5.001}),
        (Movement.KEPT_EXPANDED, {"retained_6mo": 1, "mrr": 5, "mrr_end": 5.01}),
        (Movement.KEPT_NONPAYING, {"retained_6mo": 1}),
        (Movement.KEPT_NONPAYING, {"retained_6mo": 1, "mrr": 0, "mrr_end": 5}),
        (Movement.KEPT_NONPAYING, {"retained_6mo": 1, "mrr": 0.004, "mrr_end": 5}),
        (Movement.KEPT_NONPAYING, {"mrr_end": 5}),
        (Movement.UNLABELLED, {"actual_ltv": 5}),
        (Movement.UNLABELLED, {"mrr": 0, "actual_ltv": 5}),
        (Movement.UNLABELLED, {"retained_6mo": None, "mrr": 5, "actual_ltv": 5}),
        (Movement.UNLABELLED_PAYING, {"mrr": 5, "actual_ltv": 5}),
        (Movement.FORMER_LOST, {"won_back": 0}),
        (Movement.FORMER_LOST, {"won_back": 0, "retained_6mo": None, "mrr": 5}),
        (Movement.FORMER_WON_BACK, {"won_back": 1}),
        (Movement.FORMER_WON_BACK, {"won_back": 1, "mrr": 0, "mrr_end": 5}),
    ],
    ids=str,
)
def test_movement(expected: Movement, columns: dict[str, Any]) -> None:
    assert movement(**columns) is expected


def test_order_of_movements_keeps_the_cohorts_together() -> None:
    order = [movement.name for movement in sorted(Movement)]
    assert order == [
        "LOST_NONPAYING",
        "LOST_PAYING",
        "KEPT_REVENUE_LOST",
        "KEPT_CONTRACTED",
        "KEPT_FLAT",
        "KEPT_EXPANDED",
        "KEPT_NONPAYING",
        "UNLABELLED",
        "UNLABELLED_PAYING",
        "FORMER_LOST",
        "FORMER_WON_BACK",
    ]


def in_words(row: dict[str, Any]) -> str:
    """Say what became of an account with all outcome columns, as the definitions put it."""
    if row["won_back"] is not None:
        return "FORMER_WON_BACK" if row["won_back"] else "FORMER_LOST"
    start, end = row["mrr"], row["mrr_end"]
    label = row["retained_6mo"]
    if label is None:  # the table has labels, so the end MRR says nothing of it
        return "UNLABELLED"
    if not start:
        return "KEPT_NONPAYING" if label else "LOST_NONPAYING"
    if not label:
        return "LOST_PAYING"
    if not end:
        return "KEPT_REVENUE_LOST"
    if end == start:
        return "KEPT_FLAT"
    return "KEPT_EXPANDED" if end > start else "KEPT_CONTRACTED"


cents = st.sampled_from([0, 1, 2, 499, 500, 10**9]).map(lambda value: value / 100)
current = st.fixed_dictionaries(
    {
        "retained_6mo": st.just(1),
        "mrr": cents,
        "mrr_end": cents,
        "won_back": st.none(),
    }
)
churned = st.fixed_dictionaries(
    {
        "retained_6mo": st.just(0),
        "mrr": cents,
        "mrr_end": st.sampled_from([0.0, None]),
        "won_back": st.none(),
    }
)
unlabelled = st.fixed_dictionaries(
    {"retained_6mo": st.none(), "mrr": cents, "mrr_end": st.none() | cents, "won_back": st.none()}
)
former = st.fixed_dictionaries(
    {
        "retained_6mo": st.none(),
        "mrr": st.none() | cents,
        "mrr_end": st.none() | cents,
        "won_back": st.sampled_from([0, 1]),
    }
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(rows=st.lists(current | churned | unlabelled | former, min_size=1, max_size=30))
def test_movement_of_whole_tables(rows: list[dict[str, Any]]) -> None:
    types = {
        "retained_6mo": pl.Int8,
        "mrr": pl.Float64,
        "mrr_end": pl.Float64,
        "won_back": pl.Int8,
    }
    frame = pl.DataFrame(rows, schema=types)
    found = OutcomeColumns.matching(NAMES, frame.columns)
    classes = canonical(frame).select(movement_class(found)).to_series()
    assert [Movement(place).name for place in classes] == [in_words(row) for row in rows]


def test_shared_table_has_every_movement_that_labels_allow() -> None:
    frame = make_accounts(300)
    found = OutcomeColumns.matching(NAMES, frame.columns)
    classes = set(canonical(frame).select(movement_class(found)).to_series())
    assert classes == set(Movement) - {Movement.UNLABELLED, Movement.UNLABELLED_PAYING}
