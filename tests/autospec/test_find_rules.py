"""Rules of two or three conditions: where planted, none in noise, said in plain numbers."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from gtmar.autospec.find_rules import (
    FoundRule,
    find_rules,
    rule_names,
    rules_that_pay,
    spoken,
    weigh_rules,
)
from gtmar.autospec.first_spec import FirstSpec, first_spec
from gtmar.data.scan import scan
from gtmar.spec.encoders import TableEncoder
from gtmar.spec.rule import Rule
from gtmar.stats.interplay import Corner, LevelColumns, Predicted, proven_corners

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Accounts of a table, and of one whose interplay takes more to be proven.
N, MANY = 2_000, 3_000


def outcome(rng: np.random.Generator, logit: Any) -> Any:
    return (rng.random(len(logit)) < 1 / (1 + np.exp(-np.asarray(logit)))) * 1


def table(seed: int, interplay: Any = None, *, n: int = N, **effects: Any) -> pl.DataFrame:
    """Draw five kinds of features; the outcome follows logins, and `interplay` of the columns."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "account_id": np.arange(n),
            "logins": rng.poisson(6, n),
            "tenure": np.round(rng.exponential(14, n), 1),
            "seats": np.exp(rng.normal(2, 1, n)),
            "plan": rng.choice(["free", "gold", "tin", "team"], n, p=[0.4, 0.2, 0.3, 0.1]),
            "admin": rng.random(n) < 0.4,
        }
    ).with_columns(
        seats=pl.when(pl.Series(rng.random(n) < 0.8)).then("seats"),
    )
    logit = 0.15 * (frame["logins"].to_numpy() - 6)
    if interplay is not None:
        logit = logit + frame.select(interplay.cast(pl.Float64)).to_series().to_numpy()
    for name, effect in effects.items():
        logit = logit + effect(frame[name].to_numpy())
    return frame.with_columns(retained_6mo=pl.Series(outcome(rng, logit)))


def first(frame: pl.DataFrame, rules: int = 3, **more: Any) -> FirstSpec:
    return first_spec(scan(frame), rules=rules, **more)


def rules_of(found: FirstSpec) -> list[str]:
    return [each.rule for each in found.spec.features.values() if each.rule is not None]


@cache
def with_planted_rule(n: int = N) -> pl.DataFrame:
    return table(1, -2.0 * ((pl.col("logins") < 5) & (pl.col("tenure") < 10)), n=n)


@cache
def planted(rules: int) -> FirstSpec:
    """The first spec of all accounts of a table with one rule, with so many rules at most."""
    return first(with_planted_rule(), rules=rules, holdout=0)


# ---- found ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_planted_rule_is_found_at_its_thresholds() -> None:
    found = planted(1)
    [text] = rules_of(found)
    rule = Rule.parse(text)
    at = {each.column: (each.operator, each.number) for each in rule.conditions}
    assert set(at) == {"logins", "tenure"}
    assert at["logins"] == ("<", 5)
    assert at["tenure"][1] == pytest.approx(10, abs=2)
    feature = found.spec.features["logins_and_tenure"]
    assert feature.weight is not None
    assert -25 <= feature.weight < 0


@pytest.mark.slow
def test_a_third_condition_is_there_where_it_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    all_three = (pl.col("logins") < 7) & (pl.col("tenure") < 20) & pl.col("admin")
    frame = table(2, -3.0 * all_three, n=MANY)
    [text] = rules_of(first(frame, rules=1))
    assert {*Rule.parse(text).columns} == {"logins", "tenure", "admin"}
    monkeypatch.setattr("gtmar.autospec.find_rules._SURE", 99)
    [text] = rules_of(first(frame, rules=1))
    assert len(Rule.parse(text).columns) == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_two_planted_conditions_get_no_third(seed: int) -> None:
    frame = table(20 + seed, 2.0 * ((pl.col("tenure") < 10) & pl.col("admin")))
    [text] = rules_of(first(frame, rules=1))
    assert {*Rule.parse(text).columns} == {"tenure", "admin"}


@pytest.mark.slow
def test_what_is_said_of_a_rule_is_so() -> None:
    frame, found = with_planted_rule(), planted(1)
    [(line, more)] = [
        pair for pair in pairwise(found.text.splitlines()) if pair[0].startswith("  # holds for")
    ]
    [text] = rules_of(found)
    holds = pl.sql_expr(text)
    inside, others = (frame.filter(each)["retained_6mo"] for each in (holds, ~holds))
    assert f"holds for {len(inside):,} of {N:,} accounts: retention {_mean(inside):.1%}, " in line
    assert re.search(rf"others {_mean(others):.1%}; p = 0\.00\d+$", line)
    said = re.fullmatch(
        r"  # from the columns alone ([\d.]+)% is expected; with the rule \+0\.0\d+ AUC here", more
    )
    assert said
    assert 100 * _mean(inside) < float(said[1])


@pytest.mark.slow
def test_categories_flags_and_unknowns_are_conditions_too() -> None:
    category = first(table(2, 2.0 * ((pl.col("plan") == "free") & pl.col("admin"))), rules=1)
    [text] = rules_of(category)
    assert {*Rule.parse(text).columns} == {"plan", "admin"}
    assert "'free'" in text or "'gold', 'team', 'tin'" in text
    unknown = first(table(3, -2.5 * (pl.col("seats").is_null() & (pl.col("logins") < 6))), rules=1)
    [text] = rules_of(unknown)
    assert {*Rule.parse(text).columns} == {"seats", "logins"}
    assert "seats is" in text
    assert "logins < 6" in text or "logins >= 6" in text


@pytest.mark.slow
def test_names_and_categories_may_be_anything() -> None:
    frame = table(2, 2.0 * ((pl.col("plan") == "free") & pl.col("admin")))
    odd = 'and "it\'s" < 3'
    frame = frame.rename({"plan": odd}).with_columns(pl.col(odd).replace({"free": "o'clock, \\"}))
    [text] = rules_of(first(frame, rules=1))
    assert {*Rule.parse(text).columns} == {odd, "admin"}


@pytest.mark.slow
def test_a_scorecard_of_bins_may_have_rules() -> None:
    found = first(with_planted_rule(MANY), rules=1, bins=True)
    assert rules_of(found)
    assert found.spec.features["logins"].encode.kind == "bins"


@pytest.mark.slow
def test_a_step_stays_that_a_rule_shows_in_part() -> None:
    """Beside the rule it isn't proven among all places, as fewer accounts speak for it."""
    rule = (pl.col("logins") < 5) & (pl.col("tenure") >= 20)
    frame = table(4, 2.0 * rule, n=MANY, tenure=lambda tenure: 0.6 * (tenure >= 20))
    without, beside = (first(frame, rules=rules, holdout=0) for rules in (0, 1))
    assert rules_of(beside) == ["logins < 5 and tenure >= 20"]
    for each in (without, beside):
        assert re.findall("a step at [0-9.]+", each.text) == ["a step at 19.8"]


@pytest.mark.slow
def test_the_order_of_rows_changes_nothing() -> None:
    frame = table(4, -1.5 * ((pl.col("seats") < 8) & (pl.col("tenure") < 10)))
    again = first(frame.sample(fraction=1, shuffle=True, seed=5))
    assert rules_of(again)
    assert again.text == first(frame).text


@pytest.mark.slow
def test_an_amount_has_rules_by_its_rank() -> None:
    frame = table(6).drop("retained_6mo")
    rng = np.random.default_rng(6)
    holds = (frame["logins"] < 5) & (frame["tenure"] < 10)
    ltv = np.exp(rng.normal(5, 1, N) - 1.5 * holds.to_numpy())
    found = first(frame.with_columns(actual_ltv=ltv), rules=1)
    [text] = rules_of(found)
    assert {*Rule.parse(text).columns} == {"logins", "tenure"}
    assert re.search(r"holds for [\d,]+ of 1,\d+ accounts: LTV rank 0\.\d\d, others", found.text)


@pytest.mark.slow
def test_each_rule_is_sought_beside_encoders_that_know_of_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(12)
    frame = pl.DataFrame({name: rng.normal(size=N) for name in "abcdef"})
    a, b, c, d, e, f = frame.to_numpy().T
    one, two, three = (a > 0) & (b > 0), (c < 0) & (d < 0), (e < 0) & (f < 0)
    y = outcome(rng, 2.0 * two - 3.0 * one + 1.5 * three).astype(float)
    asked: list[tuple[Rule | TableEncoder, ...]] = []
    bars: list[int] = []

    def proven(*given: Any, above: int) -> list[Corner]:
        bars.append(above)
        return proven_corners(*given, above=above)

    monkeypatch.setattr("gtmar.autospec.find_rules.proven_corners", proven)

    def encoded(rules: tuple[Rule | TableEncoder, ...]) -> NDArray[np.float64]:
        asked.append(rules)
        # Beside the first rule, they say what the second would have been.
        return np.column_stack([frame.to_numpy() / 8, two & bool(rules)])

    fitted = {name: _number() for name in frame.columns}
    [best, *others] = find_rules(frame, fitted, encoded, y, most=2)
    assert asked == [(), (best.rule,)]
    assert bars == [3, 7]
    assert {*best.rule.columns} == {"a", "b"}
    assert {*others[0].rule.columns} == {"e", "f"}


@pytest.mark.slow
def test_a_planted_table_of_cells_is_found_as_one() -> None:
    rng = np.random.default_rng(21)
    count = 4_000
    a, b = rng.normal(size=count), rng.choice(["x", "y", "z"], count)
    row = np.searchsorted([-0.5, 0.5], a, side="right")
    place = np.searchsorted(["x", "y", "z"], b)
    effect = np.array([[1.5, -1.5, 0], [-1.5, 0, 1.5], [0, 1.5, -1.5]])[row, place]
    frame = pl.DataFrame(
        {
            "account_id": np.arange(count),
            "a": a,
            "b": b,
            "c": rng.normal(size=count),
            "retained_6mo": outcome(rng, effect),
        }
    )
    found = first(frame, rules=1)
    [feature] = [f for f in found.spec.features.values() if f.encode.kind == "table"]
    assert isinstance(feature.encode, TableEncoder)
    assert feature.encode.columns == ("a", "b")
    assert [c.number for c in feature.encode.sides[0]] == pytest.approx([-0.5, 0.5], abs=0.2)
    # The values lie in the order of the planted effects, and each cell's points too.
    listed = {text: at for at, text in enumerate(("x", "y", "z"))}
    places = [listed[each.categories[0]] for each in feature.encode.sides[1]]
    places.append(({0, 1, 2} - {*places}).pop())
    assert feature.weight is not None
    points = feature.weight * np.array(feature.encode.values)[:, np.argsort(places)]
    planted = np.array([[1.5, -1.5, 0], [-1.5, 0, 1.5], [0, 1.5, -1.5]])
    assert points[planted == 1.5].min() > points[planted == 0].max()
    assert points[planted == 0].min() > points[planted == -1.5].max()
    assert "with the table" in found.text


#: Interplay of three rows and three places, 0 along both.
CELLS = np.array([[1.0, -1, 0], [-1, 0, 1], [0, 1, -1]])


def two_tables(count: int) -> pl.DataFrame:
    """Draw accounts and two planted tables: a, cut between tenths, and b; c and d, weaker."""
    rng = np.random.default_rng(22)
    a, c = rng.integers(0, 100, (2, count))
    b, d = rng.choice(["x", "y", "z"], (2, count))
    rows = [np.searchsorted([25, 75], each, side="right") for each in (a, c)]
    places = [np.searchsorted(["x", "y", "z"], each) for each in (b, d)]
    effect = 1.5 * CELLS[rows[0], places[0]] + 0.6 * CELLS[rows[1], places[1]]
    columns = {"account_id": np.arange(count), "a": a, "b": b, "c": c, "d": d}
    return pl.DataFrame(columns | {"retained_6mo": outcome(rng, effect)})


def tables_of(found: FirstSpec) -> list[TableEncoder]:
    return [f.encode for f in found.spec.features.values() if isinstance(f.encode, TableEncoder)]


@pytest.mark.slow
def test_a_table_is_cut_finer_than_a_rule_where_accounts_are_many() -> None:
    frame = two_tables(12_000)
    [table] = tables_of(first(frame, rules=1))
    assert table.columns == ("a", "b")
    assert {25, 75} <= {each.number for each in table.sides[0]}


@pytest.mark.slow
def test_the_next_table_is_held_to_less_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = two_tables(6_000)
    monkeypatch.setattr("gtmar.autospec.find_rules._SURE_OF_NEXT", 99)
    assert [table.columns for table in tables_of(first(frame, rules=2))] == [("a", "b")]
    monkeypatch.undo()
    # None is held to it beside no table.
    monkeypatch.setattr("gtmar.autospec.find_rules._SURE_OF_TABLE", 99)
    assert tables_of(first(frame, rules=2)) == []
    monkeypatch.undo()
    found = [table.columns for table in tables_of(first(frame, rules=2))]
    assert found == [("a", "b"), ("c", "d")]


# ---- not found -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_columns_that_act_by_themselves_give_no_rule(seed: int) -> None:
    found = first(
        table(
            10 + seed,
            tenure=lambda x: 1.5 * (x < 10),
            seats=lambda x: np.nan_to_num((np.log(x) - 2) ** 2, nan=1.0) / 2,
            plan=lambda x: np.where(x == "free", -1.0, 0.3),
        )
    )
    assert rules_of(found) == []
    assert "Rules: none; chance explains as much as the best that was found." in found.taken


@pytest.mark.slow
def test_without_being_asked_for_there_is_none() -> None:
    found = planted(0)
    assert rules_of(found) == []
    assert not [each for each in found.taken if "ules" in each]


@pytest.mark.slow
def test_copies_of_accounts_prove_nothing() -> None:
    """Eight copies make chance look eight times as sure."""
    groups, proven = np.tile(np.arange(200), 8), [0, 0]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        once = pl.DataFrame({name: rng.normal(size=200) for name in "abcd"})
        frame, y = pl.concat([once] * 8), np.tile(outcome(rng, np.zeros(200)).astype(float), 8)
        fitted = {name: _number() for name in frame.columns}
        encoded = (frame.to_numpy() + 4) / 8
        for number, same in enumerate((None, groups)):
            proven[number] += len(
                find_rules(frame, fitted, lambda _, own=encoded: own, y, most=1, groups=same)  # type: ignore[misc] # bound at once
            )
    # One in fifty by chance.
    assert proven[0] == 3
    assert proven[1] <= 1


def test_a_rule_pays_that_puts_unseen_accounts_in_better_order() -> None:
    rng = np.random.default_rng(11)
    encoded, apart = rng.random((N, 2)), rng.random(N) < 0.2
    lowest = encoded[:, 0] < 0.1
    y = outcome(rng, 3 * encoded[:, 0] - 1 - 1.5 * apart).astype(float)
    y[:100] = np.nan
    parts = []

    def fitted_to(some: NDArray[np.bool_]) -> NDArray[np.float64]:
        parts.append(some)
        return encoded

    def paying(*holds: NDArray[np.bool_], **more: Any) -> int:
        return rules_that_pay(fitted_to, [each[:, None].astype(float) for each in holds], y, **more)

    # Those at the lowest end stay there, wherever a rule moves them.
    assert [paying(apart), paying(apart, lowest), paying(lowest, apart)] == [1, 1, 0]
    assert np.array_equal(sum(part.astype(int) for part in parts[:5]), 4 * ~np.isnan(y))
    # Rows of one account are in one fold.
    parts.clear()
    groups = np.arange(N) // 3
    assert paying(apart, groups=groups) == 1
    assert all(len(np.unique(groups[100:][~part[100:]] % 5)) == 1 for part in parts)
    # Nobody can tell where a fold has one outcome alone.
    y[100:] = np.arange(N - 100) == 0
    assert paying(apart) == 0


@pytest.mark.slow
def test_what_is_proven_and_pays_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    without = planted(0)
    monkeypatch.setattr("gtmar.autospec.first_spec.rules_that_pay", lambda *_: 0)
    found = first(with_planted_rule(), rules=1, holdout=0)
    said = "Rules: none. What was found is proven, but ranks unseen accounts no better."
    assert said in found.taken
    assert found.text == without.text


def test_an_outcome_that_never_varies_has_no_rule() -> None:
    frame = pl.DataFrame({"a": np.arange(100.0), "b": np.arange(100.0)[::-1]})
    fitted = {name: _number() for name in frame.columns}
    assert find_rules(frame, fitted, lambda _: frame.to_numpy() / 100, np.ones(100), most=3) == []


def _mean(column: pl.Series) -> float:
    return float(column.to_numpy().mean())


def _number() -> Any:
    from gtmar.autospec.fit_encoders import Fitted

    return Fitted("number", 0.0, 0.0)


# ---- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "near", "number"),
    [
        (4.6, 5.2, 4.8731, 5),
        (0, 1, 1, 1),
        (2, 3, 3, 3),
        (0.47, 0.512, 0.493, 0.5),
        (1234, 1432, 1300, 1400),
        (-0.3, 0.2, 0.1, 0),
        (-18, -12, -13.7, -15),
        (5.25, 5.26, 5.26, 5.26),
        (1e-7, 3e-7, 2e-7, 2e-7),
    ],
)
def test_a_cut_is_a_number_that_a_person_would_say(
    low: float, high: float, near: float, number: float
) -> None:
    assert spoken(low, high, near) == number


@pytest.mark.slow
def test_a_number_that_nearly_all_share_is_cut_beside_it() -> None:
    """No tenth of the accounts lies apart: 96 of 100 have no ticket, the others many counts."""
    rng = np.random.default_rng(4)
    tickets = np.where(rng.random(6_000) < 0.96, 0, rng.integers(1, 40, 6_000))
    logins = rng.integers(0, 30, 6_000)
    stays = rng.random(6_000) < np.where((tickets > 0) & (logins < 15), 0.1, 0.8)
    found = {"account_id": np.arange(6_000), "tickets": tickets, "logins": logins}
    table = pl.DataFrame(found).with_columns(retained_6mo=pl.Series(stays).cast(pl.Int8))
    assert rules_of(first(table, rules=1, holdout=0)) == ["tickets >= 1 and logins < 15"]


def test_no_rule_takes_a_name_that_is_there() -> None:
    rules = [Rule.parse("a < 1 and b < 2"), Rule.parse("a >= 1 and b < 2"), Rule.parse('"c d" < 1')]
    assert rule_names(rules, ["a_and_b"]) == ["a_and_b_2", "a_and_b_3", "c d"]


def test_a_corners_score_is_what_a_likelihood_ratio_says() -> None:
    """The reference: logistic regression with and without the corner, levels one-hot."""
    rng = np.random.default_rng(8)
    codes = rng.integers(0, 4, (2, MANY))
    y = outcome(rng, 0.3 * codes[0] - 0.2 * codes[1] - 0.8 * ((codes[0] < 2) & (codes[1] < 1)))
    below = np.tril(np.ones((3, 4)))
    columns = [LevelColumns(each, np.concatenate([below, 1 - below])) for each in codes]
    table = np.concatenate([each.indicators() for each in columns], axis=1)

    def fitted(table: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        model = LogisticRegression(C=10, tol=1e-8, max_iter=1_000).fit(table, y)
        chance = model.predict_proba(table)[:, 1]
        return float(np.log(np.where(y == 1, chance, 1 - chance)).sum()), chance

    height, chance = fitted(table)
    constant = np.column_stack([np.ones(MANY), table])
    penalty = np.array([0.0, *np.full(table.shape[1], 0.1)])
    [best, *_] = proven_corners(columns, Predicted(constant, penalty, chance, y), 20, above=3)
    assert best.columns == (0, 1)
    assert best.p == 1 / 150
    corner = columns[0].members(best.sides[0]) * columns[1].members(best.sides[1])
    ratio = 2 * (fitted(np.column_stack([table, corner]))[0] - height)
    assert abs(best.score) == pytest.approx(np.sqrt(ratio), rel=0.05)


@pytest.mark.slow
def test_a_later_rule_is_proven_at_five_in_a_hundred() -> None:
    """Corners between the two bars are none for a first rule, and some for the next."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        codes = rng.integers(0, 3, (2, 400))
        y = outcome(rng, 0.6 * ((codes[0] < 1) & (codes[1] < 1))).astype(float)
        sides = np.array([[1.0, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]])
        columns = [LevelColumns(each, sides) for each in codes]
        table = np.concatenate([each.indicators() for each in columns], axis=1)
        model = Predicted(
            np.column_stack([np.ones(400), table]),
            np.array([0.0, *np.full(6, 0.1)]),
            np.full(400, y.mean()),
            y,
        )
        first_bar, later = (proven_corners(columns, model, 20, above=n) for n in (3, 7))
        assert {*first_bar} <= {*later}
        assert all(each.p <= 3 / 150 for each in first_bar)
        assert all(each.p <= 7 / 150 for each in later)
        if len(later) > len(first_bar):
            return
    pytest.fail("no corner between the bars")


def test_a_rules_points_are_its_slope_on_the_scale_of_the_spec() -> None:
    rng = np.random.default_rng(9)
    encoded = rng.random((MANY, 3))
    holds = (encoded[:, 0] < 0.5) & (encoded[:, 1] < 0.5)
    y = outcome(rng, encoded @ [2.0, -1.0, 0.5] + 1.5 * holds).astype(float)
    found = [FoundRule(Rule.parse("a < 0.5 and b < 0.5"), 0.01)]
    weights = np.array([33.0, 33.0, 33.0])
    said = {"alone": encoded, "weights": weights, "bound": 99, "oriented": "retention"}
    [own] = weigh_rules(found, holds[:, None], encoded, y, **said)  # type: ignore[arg-type] # mixed
    model = LogisticRegression(C=10).fit(np.column_stack([encoded, holds]), y)
    [slopes] = model.coef_
    scale = (encoded @ weights).std() / (encoded @ slopes[:3]).std()
    assert own.weight == pytest.approx(slopes[3] * scale, rel=0.05)
    said["bound"] = 10
    [cut] = weigh_rules(found, holds[:, None], encoded, y, **said)  # type: ignore[arg-type] # mixed
    assert cut.weight == 10
