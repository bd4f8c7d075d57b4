import os
import subprocess
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml
from factories import make_accounts, make_spec, weighted

from gtmar.errors import UsageError
from gtmar.integrations.dbt import dbt_model
from gtmar.runs import calibrate, score
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
