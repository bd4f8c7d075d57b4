import json
import os
import shutil
import subprocess
from dataclasses import dataclass
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
PYTHON = ROOT / ".venv-dbt" / "bin" / "python"

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


#: Builds projects, each in a fork: to import dbt takes longer than to build one of these.
BUILD = """
import os, shutil, sys
import dbt.adapters.duckdb
from dbt.cli.main import dbtRunner

first = sys.argv[1]
for folder in sys.argv[1:]:
    if folder != first:
        # dbt parses again what differs, and takes the rest, its own macros too, from there.
        shutil.copytree(f"{first}/target", f"{folder}/target")
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        places = ["--profiles-dir", folder, "--project-dir", folder]
        done = dbtRunner().invoke(["build", *places])
        sys.stdout.flush()
        os._exit(0 if done.success else 1)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

FRAME = make_accounts(200)


@dataclass(frozen=True)
class Built:
    """A project's folder, and how each of its models and tests ended, by dbt's name for it."""

    folder: Path
    ended: dict[str, str]

    def about(self, model: str) -> dict[str, str]:
        """How the model and the tests that bear its name ended."""
        return {name: how for name, how in self.ended.items() if model in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Built]:
    """Build two projects of all models: one as written, one over what its tests must refuse."""
    if not PYTHON.is_file():
        pytest.skip("dbt is not installed in .venv-dbt: no model can be built")
    sound, broken = (tmp_path_factory.mktemp(name) for name in ("sound", "broken"))
    write_project(sound, FRAME)
    shutil.rmtree(broken)
    shutil.copytree(sound, broken)
    # An account without a score, and one twice.
    fill(broken, pl.concat([FRAME, FRAME[:1].with_columns(depth=None)]))
    # Rows of another day, a flag that is none, and accounts twice.
    snapshot = broken / "models" / "random_2024_03_01.sql"
    text = snapshot.read_text("utf-8")
    for right, wrong in (
        ("CAST('2024-08-31' AS DATE)", "CAST('2024-09-30' AS DATE)"),
        ("THEN 1 ELSE 0 END", "THEN 7 ELSE 0 END"),
        ('ORDER BY\n  "gtmar_account"."account"', "CROSS JOIN (VALUES (1), (2)) AS v"),
    ):
        assert right in text
        text = text.replace(right, wrong)
    snapshot.write_text(text, "utf-8")
    done = subprocess.run(
        [str(PYTHON), "-c", BUILD, str(sound), str(broken)],
        env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    codes = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert codes == ["ended 0", "ended 1"], done.stdout + done.stderr
    one, other = (Built(folder, results(folder)) for folder in (sound, broken))
    return one, other


def results(folder: Path) -> dict[str, str]:
    written = json.loads((folder / "target" / "run_results.json").read_text("utf-8"))
    return {result["unique_id"]: result["status"] for result in written["results"]}


def fill(folder: Path, frame: pl.DataFrame) -> None:
    with duckdb.connect(folder / "warehouse.db") as con:
        con.register("frame", frame)
        con.execute("create or replace table raw_accounts as from frame")


def write_project(project: Path, frame: pl.DataFrame) -> None:
    """Write a project of a score's model and of a history's, with the tables that they read."""
    written = project / "models"
    written.mkdir()
    (project / "profiles.yml").write_text(PROFILE, "utf-8")
    (project / "dbt_project.yml").write_text(PROJECT, "utf-8")
    folder = project / "raw"
    models = [
        dbt_model(calibrate(frame, odd_spec()).spec, "accounts", name="health"),
        *snapshots(folder),
    ]
    assert [model.name for model in models[1:]] == ["random_2024_03_01", "random_2025_01_01"]
    fill(project, frame)
    with duckdb.connect(project / "warehouse.db") as con:
        con.execute("create schema crm")
        for name, table in (("subs", "subs_"), ("events", "events_"), ("states", "crm.plans")):
            con.execute(f"create table {table} as from read_parquet('{folder / name}.parquet')")
    for name, table in (("accounts", "raw_accounts"), ("subs", "subs_"), ("events", "events_")):
        (written / f"{name}.sql").write_text(f"select * from {table}", "utf-8")
    source = "version: 2\nsources: [{name: crm, schema: crm, tables: [{name: plans}]}]\n"
    (written / "sources.yml").write_text(source, "utf-8")
    for model in models:
        (written / f"{model.name}.sql").write_text(model.sql, "utf-8")
        (written / f"{model.name}.yml").write_text(model.yml, "utf-8")


@pytest.mark.slow
def test_dbt_builds_the_model_and_its_tests_pass(built: tuple[Built, Built]) -> None:
    sound, broken = built
    ended = sound.about("health")
    assert sorted(ended.values()) == ["pass"] * 6 + ["success"]
    with duckdb.connect(sound.folder / "warehouse.db") as con:
        got = con.sql("from health order by account_id").pl()
    expected = score(FRAME, calibrate(FRAME, odd_spec()).spec).sort("account_id")
    assert got.columns == expected.columns
    assert got["score"].cast(pl.Float64).to_list() == expected["score"].to_list()
    assert got["tier"].to_list() == expected["tier"].to_list()
    assert got["probability"].cast(pl.Float64).to_list() == expected["probability"].to_list()

    # The tests are no ornament.
    for test in ("unique_health__account_id_", "not_null_health__score_"):
        assert [how for name, how in broken.ended.items() if test in name] == ["fail"], test


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
    # As the model does: Snowflake has no column SCORE.
    assert all(column["quote"] is True for column in other["columns"])
    assert 'AS "score"' in dbt_model(odd_spec(), "accounts", dialect="snowflake", name="a").sql
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
def test_dbt_makes_the_same_table_and_its_tests_pass(built: tuple[Built, Built]) -> None:
    sound, broken = built
    ended = sound.about("random_2024_03_01") | sound.about("random_2025_01_01")
    assert set(ended.values()) == {"pass", "success"}
    recipe = parse(recipe_text(sound.folder / "raw"))
    with duckdb.connect(sound.folder / "warehouse.db") as con:
        for day, outcomes in ((DAY, True), (date(2025, 1, 1), False)):
            got = con.sql(f"from random_{day:%Y_%m_%d} order by acct").pl()
            wanted = snapshot_table(recipe, day)
            assert ("churned" in got.columns) is outcomes
            assert_frame_equal(got, wanted, check_exact=True)

    # The tests are no ornament.
    for test in (
        "unique_random_2024_03_01__acct_",
        "accepted_values_random_2024_03_01__outcome_end___2024_08_31",
        "accepted_values_random_2024_03_01__retained_6mo___False__0__1",
    ):
        assert [how for name, how in broken.ended.items() if test in name] == ["fail"], test


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
