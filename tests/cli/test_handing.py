import json
import sys
from contextlib import nullcontext
from pathlib import Path

import duckdb
import polars as pl
import pytest
from blank_charts import blank_charts
from factories import make_accounts, make_spec
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.runs import score
from gtmar.spec import spec_id, to_yaml


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(to_yaml(make_spec()), "utf-8")
    make_accounts(30).write_parquet("accounts.parquet")
    return tmp_path


def gtmar(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def test_export_sql_prints_a_statement_that_runs(folder: Path) -> None:
    text = gtmar("export", "sql", "--spec", "spec.yaml", "--table", "accounts")
    con = duckdb.connect()
    con.execute("create view accounts as from 'accounts.parquet'")
    got = con.sql(text).pl()["score"].cast(pl.Float64).to_list()
    assert got == score("accounts.parquet", make_spec())["score"].to_list()


def test_export_sql_as_json_and_into_a_file_that_it_does_not_replace(folder: Path) -> None:
    words = ("export", "sql", "--spec", "spec.yaml", "--table", "a", "--data", "accounts.parquet")
    found = json.loads(gtmar(*words, "--dialect", "trino", "-o", "score.sql", "--json"))
    assert found["spec_id"] == spec_id(make_spec())
    assert Path("score.sql").read_text("utf-8") == found["sql"] + ";\n"
    assert "is not replaced" in gtmar(*words, "-o", "score.sql", code=2)


@pytest.mark.slow
def test_export_dbt_writes_both_files_or_none(folder: Path) -> None:
    words = ("export", "dbt", "--spec", "spec.yaml", "--relation", "accounts", "-o", "models")
    said = gtmar(*words, "--name", "health")
    assert "Next: dbt build --select health" in said
    assert {path.name for path in Path("models").iterdir()} == {"health.sql", "health.yml"}
    assert "is not replaced" in gtmar(*words, "--name", "health", code=2)
    gtmar(*words, "--name", "health", "--force")
    Path("models/mine.sql").write_text("select 1", "utf-8")
    assert "is not replaced" in gtmar(*words, "--name", "mine", code=2)
    assert Path("models/mine.sql").read_text("utf-8") == "select 1"
    assert not Path("models/mine.yml").exists()


def test_a_library_that_is_missing_is_named_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    Path("table/_delta_log").mkdir(parents=True)
    said = gtmar("check", "--data", "table", code=2)
    assert "this needs deltalake, which is not installed" in said
    assert "hint: pip install 'gtmar[delta]'" in said


@pytest.mark.slow
def test_export_mlflow_says_where_the_run_is_and_what_is_with_it(folder: Path) -> None:
    pytest.importorskip("mlflow", reason="MLflow isn't installed")
    gtmar("run", "--data", "accounts.parquet", "--spec", "spec.yaml", "--n", "10", "--quiet")
    with blank_charts():
        said = gtmar("export", "mlflow", "--store", "sqlite:///here.db")
        again = gtmar("export", "mlflow", "--store", "sqlite:///here.db")
        found = json.loads(gtmar("export", "mlflow", "--store", "sqlite:///here.db", "--json"))
    assert "with best.yaml, report.html, start.yaml." in said
    assert "Next: mlflow ui --backend-store-uri sqlite:///here.db" in said
    assert Path("here.db").exists()
    assert "already" in again
    assert (found["new"], found["without"]) == (False, [])
    written = next(Path("here-artifacts").rglob("best.yaml"))
    assert "weight" in written.read_text("utf-8")


@pytest.mark.slow
def test_every_answer_of_several_runs_that_lacks_one_ends_in_5(folder: Path) -> None:
    words = "run --data accounts.parquet --spec spec.yaml --n 5 -q"
    gtmar(*f"{words} --seed 1 -o best.yaml".split())
    [first] = Path("journal/runs").iterdir()
    gtmar(*f"{words} --seed 2".split())
    [other] = {*Path("journal/runs").iterdir()} - {first}
    gtmar("run", "--data", "accounts.parquet", "--spec", "best.yaml", "--n", "5", "-q")
    [last] = {*Path("journal/runs").iterdir()} - {first, other}
    (first / "seal").unlink()
    last_id, other_id = (path.name.removeprefix("run_id=") for path in (last, other))
    # What it doesn't rest on is no loss to an answer.
    gtmar("lineage", other_id)
    for words in (
        *("", "log", "best", "sql runs", "journal export", f"lineage {last_id}"),
        *(f"report {last_id} -o one.html", "report --history -o all.html"),
        *("journal publish --to duckdb:///lake.db",),
    ):
        with blank_charts() if words.startswith("report") else nullcontext():
            assert "1 run left out" in gtmar(*words.split(), code=5), words
    assert Path("one.html").is_file()
    assert Path("all.html").is_file()
