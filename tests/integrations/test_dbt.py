import os
import subprocess
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml
from factories import make_accounts, make_spec, weighted
from histories import DAY, random_history, recipe_text
from polars.testing import assert_frame_equal
from snapshot_tables import snapshot_table

from gtmar.errors import UsageError
from gtmar.integrations.dbt import DbtModel, dbt_model, snapshot_models
from gtmar.integrations.snapshot_sql import source_tables
from gtmar.runs import calibrate, score
from gtmar.snapshots.recipe import parse
from gtmar.spec import ScoringSpec

ROOT = Path(__file__).parents[2]
DBT = ROOT / ".venv-dbt" / "bin" / "dbt"

PROFILE = """
gtmar:
  target: dev
  outputs:
    dev: {type: duckdb, path: warehouse.db, threads: 1}
"""
PROJECT = """
name: gtmar
version: "1.0.0"
profile: gtmar
model-paths: [models]
"""


def odd_spec() -> ScoringSpec:
    """Return a spec whose names hold quotes and what dbt would take for Jinja."""
    features = make_spec().model_dump(by_alias=True)["features"]
    features["{{ depth }}"] = weighted(3, encode="identity", column="depth")
    return make_spec(
        features=features,
        tiers={"it's {{A}}": {"min": 35, "max": 101}, "B": {"min": 0, "max": 35}},
    )


def dbt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(DBT), *arguments, "--profiles-dir", str(folder), "--project-dir", str(folder)]
    environment = {**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if not DBT.is_file():
        pytest.skip("dbt is not installed in .venv-dbt: no model can be built")
    (tmp_path / "models").mkdir()
    (tmp_path / "profiles.yml").write_text(PROFILE, "utf-8")
    (tmp_path / "dbt_project.yml").write_text(PROJECT, "utf-8")
    (tmp_path / "models" / "accounts.sql").write_text("select * from raw_accounts", "utf-8")
    return tmp_path


def fill(folder: Path, frame: pl.DataFrame) -> None:
    with duckdb.connect(folder / "warehouse.db") as con:
        con.register("frame", frame)
        con.execute("create or replace table raw_accounts as from frame")


@pytest.mark.slow
def test_dbt_builds_the_model_and_its_tests_pass(project: Path) -> None:
    frame = make_accounts(200)
    spec = calibrate(frame, odd_spec()).spec
    fill(project, frame)
    model = dbt_model(spec, "accounts", name="health")
    (project / "models" / "health.sql").write_text(model.sql, "utf-8")
    (project / "models" / "health.yml").write_text(model.yml, "utf-8")
    done = dbt(project, "build")
    assert done.returncode == 0, done.stdout
    assert "PASS=8" in done.stdout  # two models, six tests
    with duckdb.connect(project / "warehouse.db") as con:
        got = con.sql("from health order by account_id").pl()
    expected = score(frame, spec).sort("account_id")
    assert got.columns == expected.columns
    assert got["score"].cast(pl.Float64).to_list() == expected["score"].to_list()
    assert got["tier"].to_list() == expected["tier"].to_list()
    assert got["probability"].cast(pl.Float64).to_list() == expected["probability"].to_list()

    # The tests are no ornament: an account without a score, and one twice, fail the build.
    fill(project, pl.concat([frame, frame[:1].with_columns(depth=None)]))
    done = dbt(project, "build")
    assert done.returncode == 1
    for test in ("unique_health__account_id_", "not_null_health_score"):
        assert f"Failure in test {test}" in done.stdout


def test_a_source_is_named_as_dbt_names_it() -> None:
    model = dbt_model(make_spec(model="score"), "crm.accounts", dialect="snowflake")
    assert "FROM {{ source('crm', 'accounts') }}" in model.sql
    assert model.name == "score"


def test_the_properties_are_yaml_and_name_every_tier() -> None:
    model = dbt_model(odd_spec(), "accounts", name="health")
    [described] = yaml.safe_load(model.yml)["models"]
    assert described["name"] == "health"
    columns = {column["name"]: column for column in described["columns"]}
    assert set(columns) == {"account_id", "score", "tier"}
    calibrated = calibrate(make_accounts(200), odd_spec()).spec
    [other] = yaml.safe_load(dbt_model(calibrated, "accounts", name="health").yml)["models"]
    assert {column["name"] for column in other["columns"]} == {*columns, "probability"}
    assert columns["account_id"]["data_tests"] == ["unique", "not_null"]
    accepted = columns["tier"]["data_tests"][1]["accepted_values"]["arguments"]["values"]
    assert accepted == ["it''s {{ \"{{\" }}A}}", "B"]


@pytest.mark.parametrize(
    ("name", "relation"), [("a b", "accounts"), ("a", "x.y.z"), ("a", "x'y"), ("../a", "accounts")]
)
def test_names_that_dbt_does_not_take_are_refused(name: str, relation: str) -> None:
    with pytest.raises(UsageError, match="dbt names are letters, digits and underscores"):
        dbt_model(make_spec(), relation, name=name)


# ---- snapshots -----------------------------------------------------------------------------------


def snapshots(folder: Path, **options: str) -> list[DbtModel]:
    """Write a history as Parquet; return models of two dates, the second without outcomes."""
    random_history(5, accounts=60).write(folder)
    recipe = parse(recipe_text(folder, **options))
    later = date(2025, 1, 1)
    tables = source_tables(recipe, ["states=crm.plans"])
    return snapshot_models(recipe, [DAY, later], tables)


@pytest.mark.slow
def test_dbt_makes_the_same_table_and_its_tests_pass(project: Path) -> None:
    folder = project / "raw"
    models = snapshots(folder)
    assert [model.name for model in models] == ["random_2024_03_01", "random_2025_01_01"]
    with duckdb.connect(project / "warehouse.db") as con:
        con.execute("create schema crm")
        for name, table in (("subs", "subs_"), ("events", "events_"), ("states", "crm.plans")):
            con.execute(f"create table {table} as from read_parquet('{folder / name}.parquet')")
    written = project / "models"
    (written / "accounts.sql").unlink()
    for name in ("subs", "events"):
        (written / f"{name}.sql").write_text(f"select * from {name}_", "utf-8")
    source = "version: 2\nsources: [{name: crm, schema: crm, tables: [{name: plans}]}]\n"
    (written / "sources.yml").write_text(source, "utf-8")
    for model in models:
        (written / f"{model.name}.sql").write_text(model.sql, "utf-8")
        (written / f"{model.name}.yml").write_text(model.yml, "utf-8")
    done = dbt(project, "build")
    assert done.returncode == 0, done.stdout
    assert "ERROR=0" in done.stdout
    recipe = parse(recipe_text(folder))
    with duckdb.connect(project / "warehouse.db") as con:
        for day, outcomes in ((DAY, True), (date(2025, 1, 1), False)):
            got = con.sql(f"from random_{day:%Y_%m_%d} order by acct").pl()
            wanted = snapshot_table(recipe, day)
            assert ("churned" in got.columns) is outcomes
            assert_frame_equal(got, wanted, check_exact=True)

    # The tests are no ornament: rows of another day, a flag that is none and an account twice.
    broken = models[0].sql.replace("CAST('2024-08-31' AS DATE)", "CAST('2024-09-30' AS DATE)")
    broken = broken.replace("THEN 1 ELSE 0 END", "THEN 7 ELSE 0 END")
    ordered = 'ORDER BY\n  "gtmar_account"."account"'
    broken = broken.replace(ordered, "CROSS JOIN (VALUES (1), (2)) AS v")
    (written / "random_2024_03_01.sql").write_text(broken, "utf-8")
    done = dbt(project, "build", "--select", "random_2024_03_01")
    assert done.returncode == 1
    for test in (
        "unique_random_2024_03_01__acct_",
        "accepted_values_random_2024_03_01__outcome_end___2024_08_31",
        "accepted_values_random_2024_03_01__retained_6mo___False__0__1",
    ):
        assert f"Failure in test {test}" in done.stdout, done.stdout


def test_a_snapshots_properties_are_yaml(tmp_path: Path) -> None:
    first, later = snapshots(tmp_path)
    assert "FROM {{ ref('subs') }}" in first.sql
    assert "FROM {{ source('crm', 'plans') }}" in first.sql
    [described] = yaml.safe_load(first.yml)["models"]
    tests = {column["name"]: column["data_tests"] for column in described["columns"]}
    assert tests["acct"] == ["unique", "not_null"]
    accepted = {"accepted_values": {"arguments": {"values": ["2024-08-31"]}}}
    assert tests["outcome_end"] == ["not_null", accepted]
    [unfinished] = yaml.safe_load(later.yml)["models"]
    assert {column["name"] for column in unfinished["columns"]} == {
        *("acct", "features_asof", "features_until", "mrr")
    }
    recipe = parse(recipe_text(tmp_path).replace("name: random", "name: our accounts"))
    with pytest.raises(UsageError, match="our accounts"):
        snapshot_models(recipe, [DAY], source_tables(recipe))
