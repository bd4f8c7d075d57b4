"""Fitted encoders fitted anew: to the same accounts the same, to others their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from factories import make_accounts

from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.autospec.refit_encoders import EncoderRefit, columns_of
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.spec.encoders import TableEncoder
from gtmar.spec.ids import encoder_id, fitted_features
from gtmar.spec.model import Feature, Split
from gtmar.validation.resampling import halved, in_order_of_content, shuffled

if TYPE_CHECKING:
    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec
    from gtmar.spec.rule import Rule

N = 900
NO_HOLDOUT = Split(holdout=0)


def table(*, seed: int = 1) -> pl.DataFrame:
    """Numbers with gaps and a bend, a flag, texts, noise; kept by `bent`, `flag` and `plan`."""
    draw = np.random.default_rng(seed)
    bent, flag = draw.gamma(2, size=N).round(2), draw.random(N) < 0.4
    plan = draw.choice(["basic", "pro", "team"], N)
    logit = np.minimum(bent, 2) * 2 - 2.5 + flag + (plan == "pro")
    gaps = pl.Series(draw.random(N).round(3)).set(pl.Series(draw.random(N) < 0.1), None)
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(N)],
            "bent": bent,
            "flag": flag,
            "plan": pl.Series(plan).set(pl.Series(draw.random(N) < 0.05), None),
            "gaps": gaps,
            "noise": draw.integers(0, 9, N),
            "retained_6mo": (draw.random(N) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


def opened(
    accounts: pl.DataFrame, spec: ScoringSpec | None = None
) -> tuple[EncoderRefit, AccountMatrix]:
    spec = spec or first_spec(scan(accounts)).spec
    names = fitted_features(spec)
    loaded = load_accounts(scan(accounts), spec, coded=columns_of(spec, names))
    return EncoderRefit.of(loaded.table, spec, names), loaded.search


def encoders(spec: ScoringSpec) -> dict[str, Any]:
    return {name: (each.encode, each.missing) for name, each in spec.features.items()}


@pytest.mark.parametrize("target", ["retained", "ltv", "start", "activated"])
def test_fitted_to_the_same_accounts_they_are_what_init_wrote(target: str) -> None:
    accounts = table()
    if target != "retained":
        outcomes = {"ltv": "actual_ltv", "start": "mrr", "activated": "activated"}
        ones = make_accounts(N, seed=3)[outcomes[target]]
        accounts = accounts.drop("retained_6mo").with_columns(ones).drop_nulls(outcomes[target])
    refit, matrix = opened(accounts)
    assert set(refit.names) == set(refit.spec.features)
    again = refit.fitted(in_order_of_content(matrix))
    assert encoders(again) == encoders(refit.spec)
    # Encoded by the spec, the matrix is what it is without codes.
    plain = load_accounts(scan(accounts), refit.spec).search
    for spec in (None, refit.spec.model_copy()):
        encoded = refit.encoded(matrix, spec)
        assert encoded.names == plain.names
        assert all(
            (one == two).all() for one, two in zip(encoded.columns, plain.columns, strict=True)
        )


@pytest.mark.slow
def test_codes_move_with_their_accounts_and_change_no_fingerprint() -> None:
    accounts = table()
    refit, matrix = opened(accounts)
    other = opened(accounts.reverse(), refit.spec)[1]
    one, two = (in_order_of_content(each) for each in (matrix, other))
    assert all((a == b).all() for a, b in zip(one.columns, two.columns, strict=True))
    for drawn in (halved(one, seed=1, number=2), shuffled(one, seed=1, number=1)):
        fitted = refit.fitted(drawn)
        assert encoders(fitted)["bent"] != encoders(refit.spec)["bent"]
        # What the new encoders make of these accounts is what they make of their cells.
        columns = refit.encoded(drawn, fitted).columns
        codes = drawn.columns[len(columns) :]
        cells = {n: v.gather(c) for (n, v), c in zip(refit.values.items(), codes, strict=True)}
        made = pl.DataFrame(
            {"account_id": [f"b{i}" for i in range(drawn.accounts)], **cells}
        ).with_columns(retained_6mo=1)
        there = load_accounts(scan(made), fitted.model_copy(update={"split": NO_HOLDOUT})).search
        rows = np.lexsort([np.array(each) for each in columns])
        theirs = np.lexsort([np.array(each) for each in there.columns])
        for mine, own in zip(columns, there.columns, strict=True):
            assert (mine[rows] == own[theirs]).all()
    prints = [
        load_accounts(scan(accounts), refit.spec, coded=coded).features_fingerprint
        for coded in ((), ("bent", "plan"))
    ]
    assert prints[0] == prints[1]


def test_an_edited_encoder_is_fitted_no_more_and_another_weight_changes_nothing() -> None:
    first = first_spec(scan(table()))
    assert fitted_features(first.spec) == tuple(first.spec.features)
    reread = specs.parse(first.text.replace("weight: 20", "weight: 7"), source="edited")
    assert fitted_features(reread) == tuple(first.spec.features)
    assert specs.parse(specs.to_yaml(reread), source="written").fitted == first.spec.fitted
    bent = first.spec.features["bent"]
    features = first.spec.features | {"bent": bent.model_copy(update={"missing": "error"})}
    edited = first.spec.model_copy(update={"features": features})
    assert "bent" not in fitted_features(edited)
    assert specs.spec_id(reread) == specs.spec_id(reread.model_copy(update={"fitted": {}}))
    refit, matrix = opened(table(), edited)
    assert refit.fitted(matrix).features["bent"] == edited.features["bent"]
    assert first_spec(scan(table()), bins=True).spec.fitted.keys() == {"flag"}


def test_what_doesnt_vary_among_the_accounts_drawn_keeps_its_encoder() -> None:
    refit, matrix = opened(table())
    rows = np.flatnonzero(matrix.columns[len(refit.spec.terms)] == 7)[:1]
    alone = matrix.take(np.repeat(rows, 40))
    assert refit.fitted(alone) is refit.spec


# ---- rules and tables ----------------------------------------------------------------------------

CELLS = {
    "kind": "table",
    "down": ["noise < 3", "noise < 6"],
    "across": ["plan = 'pro'", "plan is missing"],
    "values": [[0.5] * 3] * 3,
}


def beside(accounts: pl.DataFrame, **asked: Any) -> ScoringSpec:
    """Add features to a first spec, fitted to its accounts and listed as `init` lists its own."""
    spec = first_spec(scan(accounts), holdout=0).spec
    limits = {"weight": 9, "min": -25, "max": 25}
    more = {name: Feature.model_validate({**limits, **each}) for name, each in asked.items()}
    return listed(spec.model_copy(update={"features": spec.features | more}))


def listed(spec: ScoringSpec) -> ScoringSpec:
    ids = {name: encoder_id(each) for name, each in spec.features.items()}
    return spec.model_copy(update={"fitted": ids})


def interplay(seed: int, *, worse: bool = False) -> pl.DataFrame:
    """Draw accounts of which those with few visits and short tenure do better, or worse."""
    draw = np.random.default_rng(seed)
    visits, tenure = draw.poisson(6, 2 * N), draw.gamma(1, 12, 2 * N).round(1)
    corner = 2.5 * ((visits < 5) & (tenure < 10)) * (-1 if worse else 1)
    return pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(2 * N)],
            "visits": visits,
            "tenure": tenure,
            "plan": draw.choice(["basic", "pro", "team"], 2 * N),
            "retained_6mo": (draw.random(2 * N) < 1 / (1 + np.exp(-corner))).astype(int),
        }
    )


def asked_of(spec: ScoringSpec, name: str = "rule") -> Rule:
    rule = spec.features[name].parsed_rule
    assert rule is not None
    return rule


@pytest.mark.slow
def test_cells_are_fitted_anew_and_rows_and_places_stay() -> None:
    accounts = table()
    refit, matrix = opened(accounts, beside(accounts, cells={"encode": CELLS}))
    assert "cells" in refit.names
    whole = listed(refit.fitted(matrix))
    own = whole.features["cells"].encode
    assert isinstance(own, TableEncoder)
    assert {min(map(min, own.values)), max(map(max, own.values))} == {0.0, 1.0}
    # To the same accounts they are the same, to others their own.
    refit, matrix = opened(accounts, whole)
    assert encoders(refit.fitted(in_order_of_content(matrix))) == encoders(whole)
    drawn = shuffled(in_order_of_content(matrix), seed=1, number=1)
    again = refit.fitted(drawn)
    other = again.features["cells"].encode
    assert isinstance(other, TableEncoder)
    assert other.values != own.values
    assert (other.down, other.across) == (own.down, own.across)
    # What the new cells give these accounts is what they give their columns.
    plan, noise = (refit._frame(drawn)[name].to_list() for name in ("plan", "noise"))
    [place] = [at for at, term in enumerate(again.terms) if term.feature == "cells"]
    expected = [
        other.values[(each >= 3) + (each >= 6)][{"pro": 0, None: 1}.get(name, 2)]
        for name, each in zip(plan, noise, strict=True)
    ]
    encoded = refit.encoded(drawn, again).columns[place]
    assert encoded.tolist() == [round(10_000 * each) for each in expected]


@pytest.mark.slow
def test_cells_say_what_the_columns_by_themselves_dont() -> None:
    accounts = interplay(3)
    four = {"down": ["visits < 5"], "across": ["tenure < 10"], "values": [[0, 1], [1, 0]]}
    refit, matrix = opened(accounts, beside(accounts, cells={"encode": {**CELLS, **four}}))
    cells = refit.fitted(matrix).features["cells"].encode
    assert isinstance(cells, TableEncoder)
    (corner, alone), (other, neither) = cells.values
    # Few visits say more of those with a short tenure than of the others.
    assert corner - other > 0.5 > alone - neither


@pytest.mark.slow
@pytest.mark.parametrize("worse", [False, True])
def test_a_rules_conditions_are_looked_for_again_in_the_direction_of_its_weight(
    worse: bool,
) -> None:
    accounts = interplay(3, worse=worse)
    # Thresholds far from where they should be.
    weight, given = -9 if worse else 9, "tenure < 40 and visits < 9"
    spec = beside(accounts, rule={"rule": given, "weight": weight})
    refit, matrix = opened(accounts, spec)
    for drawn in (matrix, halved(in_order_of_content(matrix), seed=1, number=1)):
        again = refit.fitted(drawn)
        rule = asked_of(again)
        at = {each.column: (each.operator, each.number) for each in rule.conditions}
        assert at["visits"] == ("<", 5)
        assert at["tenure"][0] == "<"
        assert at["tenure"][1] == pytest.approx(10, abs=2)
        # Encoded, it holds for whom it says.
        [place] = [at for at, term in enumerate(again.terms) if term.feature == "rule"]
        frame = refit._frame(drawn)
        holds = frame.select(pl.sql_expr(str(rule))).to_series().to_numpy()
        assert (refit.encoded(drawn, again).columns[place] == 10_000 * holds).all()
    other = asked_of(refit.fitted(shuffled(in_order_of_content(matrix), seed=1, number=2)))
    assert {*other.columns} == {"visits", "tenure"}
    assert str(other) != str(rule)
    # The other way nothing is found that holds for the same accounts.
    turned = beside(accounts, rule={"rule": given, "weight": -weight})
    assert str(asked_of(opened(accounts, turned)[0].fitted(matrix))) != str(rule)


@pytest.mark.slow
def test_a_rule_may_ask_for_categories_flags_and_what_is_missing() -> None:
    accounts = table()
    spec = beside(accounts, rule={"rule": "plan = 'basic' and flag = 0 and gaps is missing"})
    refit, matrix = opened(accounts, spec)
    found = asked_of(refit.fitted(matrix))
    assert {*found.columns} == {"plan", "flag", "gaps"}
    # The rule may be all that there is.
    only = spec.model_copy(update={"features": {"rule": spec.features["rule"]}})
    alone, own = opened(accounts, only)
    assert {*asked_of(alone.fitted(own)).columns} == {*found.columns}
    # Where a column doesn't vary, the rule stays as it is.
    plan = matrix.columns[len(spec.terms) + columns_of(spec, refit.names).index("plan")]
    same = matrix.take(np.flatnonzero(plan == plan.max()))
    assert asked_of(refit.fitted(same)) == asked_of(spec)


def test_a_rule_that_a_person_stated_or_edited_stays() -> None:
    accounts = table()
    spec = beside(
        accounts,
        own={"rule": "bent < 1 and noise < 3"},
        edited={"rule": "bent < 1 and noise < 4"},
        cells={"encode": CELLS},
    )
    ids = {name: each for name, each in spec.fitted.items() if name != "own"}
    features = dict(spec.features)
    features["edited"] = features["edited"].model_copy(update={"rule": "bent < 2 and noise < 4"})
    moved = {**CELLS, "values": [[0.5, 0.5, 0.4]] * 3}
    features["cells"] = Feature.model_validate(
        {"weight": 9, "min": -25, "max": 25, "encode": moved}
    )
    spec = spec.model_copy(update={"features": features, "fitted": ids})
    assert {*features} - {*fitted_features(spec)} == {"own", "edited", "cells"}
    refit, matrix = opened(accounts, spec)
    again = refit.fitted(shuffled(in_order_of_content(matrix), seed=1, number=1))
    assert all(again.features[name] == features[name] for name in ("own", "edited", "cells"))
    # Neither the order of conditions nor their spelling is an edit.
    swapped = features["own"].model_copy(update={"rule": "noise<3 AND bent<1.0"})
    assert encoder_id(swapped) == encoder_id(features["own"]) != encoder_id(features["edited"])


@pytest.mark.slow
def test_init_lists_the_rules_that_it_found() -> None:
    accounts = interplay(4)
    first = first_spec(scan(accounts), rules=1)
    [name] = [name for name, each in first.spec.features.items() if each.rule is not None]
    assert fitted_features(first.spec) == tuple(first.spec.features)
    assert specs.parse(specs.to_yaml(first.spec), source="written").fitted == first.spec.fitted
    # To other outcomes it is another one.
    refit, matrix = opened(accounts, first.spec)
    again = refit.fitted(shuffled(in_order_of_content(matrix), seed=2, number=1))
    assert asked_of(again, name) != asked_of(first.spec, name)
    assert {*asked_of(again, name).columns} == {*asked_of(first.spec, name).columns}
