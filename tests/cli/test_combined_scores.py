"""A score of groups, shared weights, fading points and a veto, from the file to a decision."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from factories import make_accounts, weighted
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app

TODAY = date(2026, 1, 31)
FADING = {"kind": "days_before", "then": {"kind": "decay", "half_life": 30}}
EDGES = {"A": {"min": 50, "max": 101}, "B": {"min": 20, "max": 50}, "C": {"min": 0, "max": 20}}
SHARES = {"A": {"share": 0.3}, "B": {"share": 0.3}, "C": {"share": 0.4}}


def gtmar(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def write_spec(tiers: dict[str, Any]) -> specs.ScoringSpec:
    spec = specs.ScoringSpec.model_validate(
        {
            "model": "today",
            "id": "account_id",
            "as_of": "today",
            "base": 25,
            "features": {
                "depth": weighted(25, 0, 50, missing="redistribute"),
                "logins": weighted(
                    20, 0, 50, encode={"kind": "range", "from": 0, "to": 40}, missing={"value": 0}
                ),
                "alert_created": weighted(10, 0, 30, encode={"kind": "bool"}),
                "seen": weighted(15, 0, 30, encode=FADING, missing="redistribute"),
            },
            "groups": {
                "usage": {"features": ["depth", "logins"], "max": 30},
                "signs": {"features": ["alert_created", "seen"], "min": 0, "max": 20},
            },
            "veto": {"rule": "tickets > 8", "tier": "C"},
            "tiers": tiers,
        }
    )
    Path("today.yaml").write_text(specs.to_yaml(spec), "utf-8")
    return spec


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    monkeypatch.chdir(tmp_path)
    row = pl.int_range(pl.len())
    ages = [TODAY - timedelta(days=7 * i % 200) for i in range(600)]
    frame = make_accounts(600, seed=8).with_columns(
        depth=pl.when(row % 5 > 0).then("depth"),
        seen=pl.when(row % 7 > 0).then(pl.Series(ages)),
        tickets=pl.when(row % 11 > 0).then(row % 10),
        today=pl.lit(TODAY),
    )
    frame.write_parquet("accounts.parquet")
    return frame


@pytest.mark.slow
@pytest.mark.parametrize("tiers", [EDGES, SHARES], ids=["edges", "shares"])
def test_from_the_file_to_a_decision(table: pl.DataFrame, tiers: dict[str, Any]) -> None:
    given = write_spec(tiers)
    data = ("--data", "accounts.parquet")
    gtmar("check", *data, "--spec", "today.yaml")
    gtmar("run", *data, "--spec", "today.yaml", "--n", "60", "-o", "best.yaml")
    best = specs.load("best.yaml")
    assert (best.groups, best.veto) == (given.groups, given.veto)
    assert best.weights != given.weights

    gtmar("score", *data, "--spec", "best.yaml", "-o", "scored.parquet")
    scored = pl.read_parquet("scored.parquet")
    vetoed = table["tickets"].fill_null(0) > 8
    assert set(scored.filter(vetoed)["tier"]) == {"C"}
    assert set(scored.filter(~vetoed)["tier"]) != {"C"}
    assert (scored.filter(vetoed)["score"] < 20).all()
    lines = json.loads(gtmar("explain", "acct-00009", *data, "--spec", "best.yaml", "--json"))
    assert sum(round(x["points"] * 10_000) for x in lines["lines"]) == round(
        lines["score"] * 10_000
    )
    assert {"group.usage", "redistributed.signs", "veto"} <= {x["name"] for x in lines["lines"]}
    assert "tickets > 8" in [x["value"] for x in lines["lines"] if x["name"] == "veto"]

    listed = gtmar("list", *data, "--spec", "best.yaml", "--most", "600", "--json")
    reasons = {r["account_id"]: r["reasons"] for r in json.loads(listed)["rows"]}
    # Former accounts can't leave, and are on no list.
    held = scored.filter(vetoed & (scored["veto"] < -5) & table["won_back"].is_null())["account_id"]
    assert len(held)
    assert all("veto by tickets > 8" in reasons[account] for account in held)

    gtmar("try", *data, "--spec", "best.yaml", "--set", "alert_created=2", "--note", "less")
    run = json.loads(gtmar("log", "--json"))
    gtmar("verify")
    assert run
    decided = CliRunner().invoke(
        app, ["decide", "best.yaml", "--against", "today.yaml", *data, "--json"]
    )
    assert json.loads(decided.stdout)["verdict"] in ("KEEP_INCUMBENT", "READY_FOR_REVIEW")

    text = gtmar("export", "sql", "--spec", "best.yaml", "--table", "accounts", *data)
    connection = duckdb.connect()
    connection.execute("create view accounts as from 'accounts.parquet'")
    exported = connection.sql(text.rstrip(";\n")).pl().sort("account_id")
    assert exported["score"].cast(pl.Float64).to_list() == scored["score"].to_list()


@pytest.mark.slow
def test_what_a_step_promises_comes_true(table: pl.DataFrame) -> None:
    """Whoever gets the best value of a feature has the points that it says, caps and all."""
    spec = write_spec(EDGES)
    checked = 0
    scored = runs.score(table, spec)
    for row in scored.head(40).to_dicts():
        found = runs.explain(row["account_id"], table, spec)
        for step in found.up:
            chosen = pl.col("account_id") == row["account_id"]
            if step.feature == "veto":
                changed = {"tickets": pl.lit(0)}
            else:
                points = f"points.{step.feature}"
                best = table.row(int(scored[points].arg_max() or 0), named=True)[step.feature]
                changed = {step.feature: pl.lit(best)}
            other = table.with_columns(
                **{n: pl.when(chosen).then(x).otherwise(pl.col(n)) for n, x in changed.items()}
            )
            after = runs.score(other, spec).filter(chosen).row(0, named=True)
            assert step.reaches == (after["score"] >= spec.tiers[str(found.above)].min), step
            gained = after["score"] - row["score"]
            assert gained == pytest.approx(step.possible - step.points, abs=0.0101)
            checked += 1
    assert checked > 30


@pytest.mark.slow
def test_a_grid_counts_the_accounts_of_two_tiers(table: pl.DataFrame) -> None:
    write_spec(EDGES)
    other = """
model: fit
id: account_id
features: {mrr_band: {column: days_to_activate, weight: 1, min: 0, max: 1, missing: {value: 0}}}
tiers: {"1": {min: 20, max: 101}, "2": {min: 0, max: 20}}
"""
    other = other.replace("column: days_to_activate", "column: logins")
    Path("fit.yaml").write_text(other, "utf-8")
    words = ("grid", "fit.yaml", "today.yaml", "--data", "accounts.parquet")
    found = json.loads(gtmar(*words, "-o", "grid.parquet", "--json"))
    assert "A" in gtmar(*words)
    rows = pl.read_parquet("grid.parquet")
    tiers = runs.score(table, specs.load("fit.yaml"))["tier"]
    assert (
        rows["cell"].to_list()
        == (tiers + runs.score(table, specs.load("today.yaml"))["tier"]).to_list()
    )
    connection = duckdb.connect()
    connection.register("joined", rows.join(table, on="account_id"))
    expected = connection.sql(
        "select cell, count(*), avg(coalesce(retained_6mo, 1 - churned)), sum(mrr) "
        "from joined group by cell"
    ).fetchall()
    known = {c["cell"]: c for c in found["cells"]}
    assert {cell for cell, *_ in expected} == {n for n, c in known.items() if c["accounts"]}
    assert [c["cell"] for c in found["cells"]] == ["1A", "1B", "1C", "2A", "2B", "2C"]
    for cell, count, kept, money in expected:
        assert known[cell]["accounts"] == count
        assert known[cell]["logo_retention"] == pytest.approx(kept)
        assert known[cell]["mrr"] == pytest.approx(money)
    sql = ("export", "sql", "--spec", "fit.yaml", "--by", "today.yaml", "--table", "accounts")
    text = gtmar(*sql, "--data", "accounts.parquet").rstrip(";\n")
    connection.execute("create view accounts as from 'accounts.parquet'")
    assert connection.sql(text).pl().sort("account_id")["cell"].to_list() == rows["cell"].to_list()
    assert "both specs are called" in gtmar("grid", *["fit.yaml"] * 2, *words[3:], code=2)
    # Two specs of one name, as `init` gives each, go by their files.
    Path("again.yaml").write_bytes(Path("fit.yaml").read_bytes())
    twice = gtmar("grid", "fit.yaml", "again.yaml", "--data", "accounts.parquet", "--json")
    assert json.loads(twice)["models"] == ["fit", "again"]
    assert "again_tier" in gtmar(*(word.replace("today", "again") for word in sql))
    bare = table.drop("retained_6mo", "churned", "mrr", "mrr_end", "won_back", "actual_ltv")
    bare.drop("activated", "days_to_activate").write_parquet("bare.parquet")
    assert "isn't known" in gtmar("grid", "fit.yaml", "today.yaml", "--data", "bare.parquet")
    assert found["searched"] is None
    done = runs.run(table, specs.load("today.yaml"), limits=runs.Limits(20), journal="journal")
    Path("today.yaml").write_text(specs.to_yaml(done.spec), "utf-8")
    assert f"In-sample: run {done.run_id} searched" in gtmar(*words)
