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
from gtmar.spec.ids import fitted_features
from gtmar.spec.model import Split
from gtmar.validation.resampling import halved, in_order_of_content, shuffled

if TYPE_CHECKING:
    from gtmar.data.matrix import AccountMatrix
    from gtmar.spec.model import ScoringSpec

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
