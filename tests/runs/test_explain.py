"""One account's score taken apart."""

from __future__ import annotations

import polars as pl
import pytest
from factories import binned, make_accounts, make_spec, weighted

from gtmar import runs
from gtmar.errors import AccountDataError


@pytest.mark.slow
def test_lines_add_up_to_the_score_of_every_account() -> None:
    table, spec = make_accounts(40, seed=2), make_spec()
    other = spec.with_weights({"depth": -30, "logins": 44})
    scored = runs.score(table, spec)
    for row in scored.to_dicts()[:15]:
        found = runs.explain(row["account_id"], table, spec, other=other)
        assert (found.score, found.tier) == (row["score"], row["tier"])
        points = sum(round(line.points * 10_000) for line in found.lines)
        assert points == round(found.score * 10_000)
        others = sum(round((line.other_points or 0) * 10_000) for line in found.lines)
        assert others == round((found.other_score or 0) * 10_000)
        assert {"base", "rounding", "clipping"} <= {line.name for line in found.lines}


@pytest.mark.slow
@pytest.mark.parametrize("base", [10, -50])
def test_what_a_step_promises_comes_true(base: int) -> None:
    """Whoever gets the best value of a feature is in the tier above just where it says so.

    With a base far below 0 most scores are clipped there, and have that to make up for first.
    """
    table = make_accounts(60, seed=5)
    spec = make_spec(base=base, features={"depth": weighted(37, high=50), "logins": weighted(1)})
    checked = 0
    for row in runs.score(table, spec).to_dicts():
        found = runs.explain(row["account_id"], table, spec)
        for step in found.up:
            best = table[step.feature].max()
            chosen = pl.col("account_id") == row["account_id"]
            changed = table.with_columns(
                pl.when(chosen).then(pl.lit(best)).otherwise(step.feature).alias(step.feature)
            )
            after = runs.score(changed, spec).filter(chosen)["score"].item()
            assert step.reaches == (after >= spec.tiers[str(found.above)].min), step
            checked += 1
    assert checked > 40


@pytest.mark.slow
def test_distances_to_the_tiers_around_are_exact() -> None:
    table, spec = make_accounts(40, seed=2), make_spec()
    for row in runs.score(table, spec).to_dicts():
        found = runs.explain(row["account_id"], table, spec)
        if found.above is not None:
            up = row["score"] + (found.points_to_above or 0)
            assert up == pytest.approx(spec.tiers[found.above].low / 100)
        if found.below is not None:
            down = row["score"] - (found.points_to_below or 0)
            assert down == pytest.approx((spec.tiers[found.tier].low - 1) / 100)


def test_a_binned_feature_is_one_step_and_an_unknown_value_is_said() -> None:
    table = make_accounts(30, seed=1).with_columns(
        plan=pl.when(pl.int_range(pl.len()) == 0).then(None).otherwise("plan")
    )
    feature = binned("basic", "team", "enterprise", "missing")
    feature["encode"]["bins"]["team"]["weight"] = 25
    spec = make_spec(base=0, features={"plan": feature})
    found = runs.explain("acct-00000", table, spec)
    assert [line.value for line in found.lines if line.name.startswith("plan")] == ["unknown"] * 4
    [step] = found.up
    assert (step.feature, step.points, step.possible) == ("plan", 5.0, 25.0)


def test_an_account_that_is_not_there_is_named() -> None:
    table, spec = make_accounts(10), make_spec()
    with pytest.raises(AccountDataError, match='no account "nobody" in column "account_id"'):
        runs.explain("nobody", table, spec)
    twice = pl.concat([table, table.head(1)])
    with pytest.raises(AccountDataError, match=r"2 accounts|repeat|twice|stand"):
        runs.explain("acct-00000", twice, spec)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("825", 'did you mean "00825"?'),
        ("ab1", 'did you mean "AB1"?'),
        ("826", "the id as the table has it"),
    ],
)
def test_an_id_that_lost_its_zeros_or_capitals_is_found(asked: str, hint: str) -> None:
    table = make_accounts(3).with_columns(account_id=pl.Series(["00825", "AB1", "77"]))
    with pytest.raises(AccountDataError) as caught:
        runs.explain(asked, table, make_spec())
    assert caught.value.hint == hint


def test_a_mean_is_shown_with_the_digits_that_anybody_reads() -> None:
    table, spec = make_accounts(40), make_spec()
    [column] = [name for name in spec.columns if table.schema[name] == pl.Float64][:1]
    cells = pl.Series([78.23 / 3, 146.115, 0.1 + 0.2, 0.5, *table[column][4:].to_list()])
    frame = table.with_columns(cells.alias(column))
    shown = []
    for row in range(4):
        found = runs.explain(frame["account_id"][row], frame, spec)
        shown += [line.value for line in found.lines if line.name == column]
    assert shown == ["26.0767", "146.115", "0.3", "0.5"]


def test_without_ids_a_row_is_named_by_its_number() -> None:
    table = make_accounts(10).drop("account_id")
    spec = make_spec(id=None)
    found = runs.explain("3", table, spec)
    assert found.score == runs.score(table, spec)["score"][2]
    with pytest.raises(AccountDataError, match="named by their row, 1 to 10"):
        runs.explain("11", table, spec)
