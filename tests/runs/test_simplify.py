"""Fewer features for the same score."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from factories import weighted
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.equal_sizes import tier_sizes
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.runs.session import chosen_columns
from gtmar.spec.ids import encoder_id
from gtmar.spec.model import Feature, ScoringSpec

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["usage", "tickets", *(f"noise_{i}" for i in range(6))]


def table(seed: int = 5, accounts: int = 1_500) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    x = random.random((accounts, len(NAMES)))
    logit = 4 * x[:, 0] - 3 * x[:, 1] + 0.5
    stayed = (random.random(accounts) < 1 / (1 + np.exp(-logit))).astype(int)
    frame = pl.DataFrame({name: x[:, i].round(3) for i, name in enumerate(NAMES)})
    ids = pl.Series([f"a{i}" for i in range(accounts)])
    return frame.with_columns(account_id=ids, retained_6mo=pl.Series(stayed))


def spec(**more: object) -> ScoringSpec:
    data = {
        "model": "many",
        "id": "account_id",
        "features": {name: weighted(10, low=-40, high=40) for name in NAMES},
        "tiers": {
            "A": {"min": 45, "max": 101},
            "B": {"min": 35, "max": 45},
            "C": {"min": 0, "max": 35},
        },
    }
    return ScoringSpec.model_validate({**data, **more})


@pytest.mark.slow
def test_what_is_left_is_searched_journaled_and_keeps_its_tiers_sizes(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    found = runs.simplify(table(), spec(), journal=journal, limits=runs.Limits(50))
    assert {"usage", "tickets"} <= {*found.kept}
    assert len(found.kept) <= 4
    assert {*found.dropped} == {*NAMES} - {*found.kept}
    assert found.result is not None
    assert [*found.result.spec.features] == [n for n in NAMES if n in found.kept]
    accounts = load_accounts(scan(table()), spec()).search
    before = tier_sizes(accounts, spec(), [10] * len(NAMES))
    reduced = load_accounts(scan(table()), found.result.spec).search
    start = [10] * len(found.kept)
    after = tier_sizes(reduced, found.result.spec, start)
    # Accounts that tie on an edge fall to one side of it.
    assert np.abs(np.subtract(before, after)).max() <= 5
    with Journal(journal) as opened:
        [note] = opened.query("select note from runs")["note"]
        assert note.startswith(f"{len(found.kept)} of 8 features; without ")


def test_groups_and_vetoes_stay_without_the_features_that_went(tmp_path: Path) -> None:
    groups = {"all": {"features": NAMES, "max": 60}, "none": {"features": ["noise_5"], "max": 5}}
    groups["all"]["features"] = NAMES[:-1]
    shaped = spec(groups=groups, veto={"rule": "tickets > 0.95", "tier": "C"})
    found = runs.simplify(table(), shaped, journal=tmp_path, most=2, limits=runs.Limits(5))
    assert found.result is not None
    assert [*found.result.spec.groups] == ["all"]
    assert {*found.result.spec.groups["all"].features} == {"usage", "tickets"}
    scored = runs.score(table().filter(pl.col("tickets") > 0.95), found.result.spec)
    assert {*scored["tier"]} == {"C"}


@pytest.mark.slow
def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    one = runs.simplify(table(), spec(), journal=tmp_path / "1", limits=runs.Limits(5))
    shuffled = table().sample(fraction=1, shuffle=True, seed=3)
    two = runs.simplify(shuffled, spec(), journal=tmp_path / "2", limits=runs.Limits(5))
    assert one.curve == two.curve
    assert one.result is not None
    assert two.result is not None
    assert one.result.spec.weights == two.result.spec.weights


@pytest.mark.slow
def test_encoders_are_fitted_without_the_accounts_that_judge_them(tmp_path: Path) -> None:
    random = np.random.default_rng(110)
    kinds = {f"kind_{i}": pl.Series(random.integers(0, 25, 800)).cast(pl.String) for i in range(4)}
    noise = pl.DataFrame({**kinds, "retained_6mo": random.integers(0, 2, 800)})
    first = first_spec(scan(noise)).spec
    # As encoders that a person has written stay as they are.
    own = first.model_copy(update={"fitted": {}})
    fitted, kept = (
        runs.simplify(noise, each, journal=tmp_path, limits=runs.Limits(1)).curve.sizes[0].auc or 0
        for each in (first, own)
    )
    assert fitted < kept - 0.02


def test_which_columns_were_chosen_is_said_of_features_and_of_rules() -> None:
    stated = spec()
    assert chosen_columns(stated) is None
    wide = stated.model_copy(update={"chosen_from": 1_240})
    assert chosen_columns(wide) == "its features out of 1,240 columns"
    rule = Feature.model_validate({"rule": "usage < 3", "weight": 5, "min": 0, "max": 9})
    ruled = {"features": {**stated.features, "few": rule}, "fitted": {"few": encoder_id(rule)}}
    assert chosen_columns(stated.model_copy(update=ruled)) == "the columns of its rules"
    both = chosen_columns(wide.model_copy(update=ruled))
    assert both == "its features out of 1,240 columns and the columns of its rules"


def test_a_best_that_clips_where_its_start_did_not_is_said_aloud(tmp_path: Path) -> None:
    tried = runs.try_weights(table(), spec(base=40), {"usage": 40}, note="far", journal=tmp_path)
    assert tried.improved
    [clips] = [each.text for each in tried.findings if "clips" in each.text]
    assert clips.startswith("The best clips ")
    assert not [n for n in runs.check(table(), spec(base=40)).notes if "clips" in n]


def test_a_person_may_say_how_many(tmp_path: Path) -> None:
    found = runs.simplify(table(), spec(), most=1, journal=tmp_path, limits=runs.Limits(5))
    assert found.kept == ("usage",)
    assert "1 of 8 features do less well than all" in found.sentence


def test_where_none_can_go_nothing_is_written(tmp_path: Path) -> None:
    two = spec(features={name: weighted(10, low=-40, high=40) for name in NAMES[:2]})
    found = runs.simplify(table(), two, journal=tmp_path / "journal")
    assert found.result is None
    assert found.sentence.startswith("Every one of the 2 features is needed")
    assert found.unseen.startswith("Each AUC is of accounts that chose no feature")
    one = spec(features={NAMES[0]: weighted(10, low=-40, high=40)})
    alone = runs.simplify(table(), one, journal=tmp_path / "journal")
    assert alone.sentence == "The spec has 1 feature, so none can go."
    assert not (tmp_path / "journal").exists()


def test_what_cant_be_simplified_is_refused(tmp_path: Path) -> None:
    held = spec(constraints={"total": 80})
    with pytest.raises(UsageError, match="constraints hold its weights together"):
        runs.simplify(table(), held, journal=tmp_path)
    fixed = {**{n: weighted(10) for n in NAMES}, "noise_0": weighted(3, 3, 3)}
    with pytest.raises(UsageError, match="at least 1 feature is left, got 0"):
        runs.simplify(table(), spec(), most=0, journal=tmp_path)
    kept = runs.simplify(
        table(), spec(features=fixed), journal=tmp_path, limits=runs.Limits(2)
    ).kept
    assert "noise_0" in kept
    money = table().drop("retained_6mo").with_columns(actual_ltv=pl.lit(5.0))
    with pytest.raises(UsageError, match="judged by who stays"):
        runs.simplify(money, spec(objective="hhi_normalised"), journal=tmp_path)


@pytest.mark.slow
def test_the_command_writes_the_spec_and_names_the_next_step(tmp_path: Path) -> None:
    table().write_parquet(tmp_path / "a.parquet")
    (tmp_path / "s.yaml").write_text(specs.to_yaml(spec()))
    options = ["--data", str(tmp_path / "a.parquet"), "--journal", str(tmp_path / "j"), "--n", "5"]
    new = tmp_path / "new.yaml"
    given = ["simplify", str(tmp_path / "s.yaml"), *options, "-o", str(new)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0].endswith(".")
    assert "of 8 features do as well as all, as far as " in done.output
    proposed = f"gtmar decide {new} {' '.join(options[:2])} --against {given[1]}"
    assert proposed in done.output.replace("\n", " ")
    found = json.loads(CliRunner().invoke(app, [*given, "--force", "--json"]).stdout)
    assert [*specs.load(new).features] == found["kept"]
    assert found["sizes"][0]["features"] == 8
