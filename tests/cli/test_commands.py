"""Every command: exit code, stdout, stderr; errors by kind; output at 80 columns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from asked_once import asked_once
from short_searches import short_searches
from typer.main import get_command
from typer.testing import CliRunner, Result

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data import synthetic

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = str(EXAMPLES / "health_score" / "spec.yaml")


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("GTMAR_JOURNAL", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a journal of two runs."""
    path = tmp_path_factory.mktemp("cli")
    synthetic.generate("health_score", accounts=900).write_parquet(path / "accounts.parquet")
    for seed in (1, 2):
        runs.run(
            path / "accounts.parquet",
            SPEC,
            limits=runs.Limits(60),
            seed=seed,
            journal=path / "journal",
        )
    return path


def gtmar(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def succeeded(*arguments: object) -> str:
    result = gtmar(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def failed(code: int, *arguments: object) -> str:
    result = gtmar(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def as_json(*arguments: object) -> Any:
    return json.loads(gtmar(*arguments, "--json").stdout)


@pytest.mark.slow
def test_generate_writes_the_table_and_names_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    said = succeeded("generate", "churn_risk", "-o", path, "--accounts", 300)
    assert "300 accounts" in said
    assert f"Next: gtmar check --data {path}" in said
    assert pl.read_csv(path).height == 300
    assert as_json("generate", "icp_fit", "-o", tmp_path / "t.parquet")["accounts"] == 3000


def test_generate_of_an_unknown_kind_lists_the_known(tmp_path: Path) -> None:
    said = failed(2, "generate", "health", "-o", tmp_path / "x.parquet")
    assert "health_score" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_init_writes_a_spec_that_runs_and_never_replaces_one(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    said = succeeded("init", "--data", folder / "accounts.parquet", "-o", path)
    assert "14 features" in said
    before = path.read_text("utf-8")
    assert len(specs.load(path).features) == 14
    said = failed(2, "init", "--data", folder / "accounts.parquet", "-o", path)
    assert "is not replaced" in said
    assert path.read_text("utf-8") == before


@pytest.mark.slow
def test_init_takes_an_order_and_a_persons_cuts(folder: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "own.yaml", folder / "accounts.parquet"
    succeeded("init", "--data", data, "--monotone", "--cuts", "session_depth=0.2,0.5", "-o", path)
    text = path.read_text()
    assert '"[0.2,0.5)"' in text or "'[0.2,0.5)'" in text or "[0.2,0.5):" in text
    assert "monotone: up" in text
    said = failed(2, "init", "--data", data, "--cuts", "a=3,1", "--cuts", "b", "-o", "-")
    assert "--cuts expects a column and ascending numbers, got" in said
    said = failed(2, "init", "--data", data, "--cuts", "a=3", "--cuts", "a=4", "-o", "-")
    assert "--cuts: a column stands twice" in said


def test_init_to_stdout_prints_the_spec_alone(folder: Path) -> None:
    text = gtmar("init", "--data", folder / "accounts.parquet", "-o", "-").stdout
    assert specs.parse(text).split.holdout == 0.3


@pytest.mark.slow
def test_check_says_what_the_table_offers(folder: Path) -> None:
    said = succeeded("check", "--data", folder / "accounts.parquet", "--spec", SPEC)
    assert "keeps the data contract" in " ".join(said.split())
    assert "observed" in said
    found = as_json("check", "--data", folder / "accounts.parquet", "--spec", SPEC)
    assert found["accounts"] == 900
    assert found["objective"] == "auc_roc_retain"
    assert found["search_accounts"] + found["holdout_accounts"] == 900


def test_run_prints_one_object_with_all_that_is_promised(folder: Path, tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    arguments = ["--data", folder / "accounts.parquet", "--spec", SPEC, "--n", 80, "--seed", 5]
    found = as_json("run", *arguments, "--journal", tmp_path / "j", "-o", best)
    promised = (
        "run_id journal metric baseline_value best_value experiments wins seconds "
        "experiments_per_second best_experiment weights metrics holdout"
    )
    assert set(promised.split()) <= found.keys()
    assert found["experiments"] == 80
    assert {"baseline_value", "best_value", "metrics"} <= found["holdout"].keys()
    written = specs.load(best)
    assert written.weights == found["weights"]
    assert written.lineage is not None
    assert written.lineage.run == found["run_id"]
    assert written.lineage.experiment == found["best_experiment"]


@pytest.mark.slow
def test_run_says_what_it_found_and_names_the_next_command(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    arguments = ["--data", folder / "accounts.parquet", "--spec", SPEC, "--n", 40, "-q"]
    said = succeeded("run", *arguments, "--journal", journal)
    assert "auc_roc_retain rose from" in said
    assert "accounts never seen by the search" in said.replace("\n", " ")
    assert f"--journal {journal}" in said.splitlines()[-1]
    said = succeeded("run", *arguments, "--journal", journal, "--holdout", "none")
    assert "In-sample" in said


@pytest.mark.slow
def test_run_without_a_spec_detects_one(folder: Path, tmp_path: Path) -> None:
    data = folder / "accounts.parquet"
    found = as_json("run", "--data", data, "--n", 10, "--journal", tmp_path / "j")
    assert len(found["weights"]) == 14
    assert found["spec"]["model"] == "first_spec"


@pytest.mark.slow
def test_run_replaces_a_best_spec_by_force_alone(folder: Path, tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    arguments = ["run", "--data", folder / "accounts.parquet", "--spec", SPEC, "--n", 5, "-q"]
    arguments += ["--journal", tmp_path / "j", "-o", best]
    succeeded(*arguments)
    first = best.read_text("utf-8")
    assert "is not replaced" in failed(2, *arguments)
    assert len(list((tmp_path / "j" / "runs").iterdir())) == 1
    assert best.read_text("utf-8") == first
    succeeded(*arguments, "--force")
    assert best.read_text("utf-8") != first


def test_best_spec_as_json(folder: Path, tmp_path: Path) -> None:
    best = tmp_path / "best.json"
    arguments = ["run", "--data", folder / "accounts.parquet", "--spec", SPEC, "--n", 5, "-q"]
    succeeded(*arguments, "--journal", tmp_path / "j", "-o", best)
    assert json.loads(best.read_text("utf-8"))["model"] == "health_score"
    assert specs.load(best).model == "health_score"


@pytest.mark.slow
def test_the_journal_comes_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GTMAR_JOURNAL", str(folder / "journal"))
    said = succeeded("review")
    assert "health_score on" in said


def test_score_adds_up(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "scored.parquet"
    data = folder / "accounts.parquet"
    said = succeeded("score", "--data", data, "--spec", SPEC, "-o", path)
    assert "900 accounts scored" in said
    scored = pl.read_parquet(path)
    parts = [c for c in scored.columns if c.startswith("points.")]
    total = scored.select(pl.sum_horizontal("base", *parts, "rounding", "clipping")).to_series()
    assert (total - scored["score"]).abs().max() < 1e-9  # type: ignore[operator] # a float
    assert (
        sum(
            as_json("score", "--data", data, "--spec", SPEC, "-o", path, "--force")[
                "accounts_by_tier"
            ].values()
        )
        == 900
    )


def test_score_says_once_what_it_noticed(folder: Path, tmp_path: Path) -> None:
    data = json.loads(specs.to_json(specs.load(SPEC)))
    column = next(iter(data["features"]))
    data["features"][column]["missing"] = {"value": 0}
    (tmp_path / "spec.yaml").write_text(json.dumps(data), "utf-8")
    rows = pl.read_parquet(folder / "accounts.parquet").with_row_index()
    known = pl.when(pl.col("index") < 90).then(pl.col(column))
    table = tmp_path / "some.parquet"
    rows.with_columns(known.alias(column)).drop("index").write_parquet(table)
    spec, path = tmp_path / "spec.yaml", tmp_path / "scored.parquet"
    said = succeeded("score", "--data", table, "--spec", spec, "-o", path)
    assert len([line for line in said.splitlines() if column in line]) == 1


@pytest.mark.slow
def test_review_of_the_latest_and_of_a_named_run(folder: Path) -> None:
    journal = ["--journal", folder / "journal"]
    latest = as_json("review", *journal)
    said = succeeded("review", latest["run_id"], *journal)
    assert latest["sentence"].startswith("Of 100 pairs of a kept and a lost account")
    assert f"{latest['baseline_value']:.4f} -> {latest['best_value']:.4f}" in said
    assert "Tiers at the start's sizes" in said
    assert "Weights" not in said
    full = succeeded("review", latest["run_id"], "--full", *journal)
    assert f"{latest['baseline_value']:.4f} to {latest['best_value']:.4f}" in full
    for heading in ("Weights", "Tiers", "Largest of", "Proxy drift"):
        assert heading in full
    for text in (said, full):
        assert " ".join(latest["sentence"].split()) in " ".join(text.split())
    assert len(latest["tiers"]) == 8
    assert len(latest["weights"]) == 14


@pytest.mark.slow
def test_compare_two_runs(folder: Path) -> None:
    journal = ["--journal", folder / "journal"]
    ids = [row["run_id"] for row in as_json("sql", "runs", *journal)]
    said = succeeded("compare", *ids, *journal)
    assert ids[0] in said
    assert {row["run_id"] for row in as_json("compare", *ids, *journal)["runs"]} == set(ids)


@pytest.mark.slow
def test_runs_over_different_objectives_are_not_compared(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    ids = [
        runs.run(
            folder / "accounts.parquet",
            SPEC,
            metric=metric,
            limits=runs.Limits(3),
            journal=journal,
        ).run_id
        for metric in ("auc_roc_retain", "tier_separation")
    ]
    said = failed(5, "compare", *ids, "--journal", journal)
    assert "objectives: auc_roc_retain and tier_separation" in said
    assert "tables" not in said


def test_sql_lists_runs_files_and_text(folder: Path, tmp_path: Path) -> None:
    journal = ["--journal", folder / "journal"]
    said = succeeded("sql")
    assert "tier_table" in said
    assert "quick_ratio_by_tier" in said
    said = succeeded("sql", "-c", "select count(*) as n from runs", *journal)
    assert "1 row" in said
    file = tmp_path / "q.sql"
    file.write_text("select number from experiments where number < getvariable('below')::int")
    rows = as_json("sql", file, "--set", "below=2", *journal)
    assert {row["number"] for row in rows} == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("sql", "-c", "copy runs to 'x.csv'"), 6, "expected one SELECT"),
        (("sql", "-c", "select 1; select 2"), 6, "2 statements"),
        (("sql", "revew"), 6, 'did you mean "review"'),
        (("sql", "review", "--set", "runn=x"), 6, "no parameter"),
        (("sql", "review", "--set", "run"), 6, "name=value"),
        (("sql", "review", "-c", "select 1"), 6, "not both"),
        (("review", "r1"), 5, "has no run"),
        (("compare", "r1", "r2"), 5, "has no run"),
    ],
)
def test_journal_errors(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in failed(code, *arguments, "--journal", folder / "journal")


def test_no_journal_at_all(tmp_path: Path) -> None:
    assert "no such folder" in failed(5, "review", "--journal", tmp_path / "none")


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        (("--metric", "auc"), 2, "no metric"),
        (("--metric", "nrr_by_tier"), 2, "needs one"),
        (("--metric", "nrr_by_tier.Z"), 2, 'no tier "Z"'),
        (("--holdout", "2"), 2, "--holdout expects"),
        (("--seed", "-1"), 2, "seed must be"),
        (("--n", "-1"), 2, "number of experiments"),
        (("--spec", "nothere.yaml"), 3, "No such file"),
    ],
)
def test_bad_arguments_write_nothing(
    folder: Path, tmp_path: Path, extra: tuple[str, ...], code: int, said: str
) -> None:
    journal, best = tmp_path / "j", tmp_path / "best.yaml"
    arguments = ["--data", folder / "accounts.parquet", "--spec", SPEC, *extra]
    assert said in failed(code, "run", *arguments, "--journal", journal, "-o", best)
    assert not journal.exists()
    assert not best.exists()


def test_errors_as_json_go_to_stderr() -> None:
    result = gtmar("check", "--data", "nothere.parquet", "--json")
    assert result.stdout == ""
    fault = json.loads(result.stderr)["error"]
    assert fault["code"] == "account_data"
    assert fault["hint"]


def test_a_broken_table_lists_all_violations_as_json(tmp_path: Path) -> None:
    frame = synthetic.generate("health_score", accounts=200).with_columns(
        mrr=pl.lit(-1.0), alert_created=pl.lit(None, dtype=pl.Float64)
    )
    frame.write_parquet(tmp_path / "t.parquet")
    result = gtmar("check", "--data", tmp_path / "t.parquet", "--spec", SPEC, "--json")
    assert result.exit_code == 3
    columns = [v["column"] for v in json.loads(result.stderr)["error"]["violations"]]
    assert {"mrr", "alert_created"} <= set(columns)


@pytest.mark.slow
def test_spec_schema_and_show() -> None:
    assert "features" in json.loads(succeeded("spec", "schema"))["properties"]
    shown = gtmar("spec", "show", SPEC).stdout
    assert specs.parse(shown) == specs.load(SPEC)
    assert as_json("spec", "show", SPEC)["spec_id"] == specs.spec_id(specs.load(SPEC))


@pytest.mark.slow
def test_demo_goes_the_whole_way(tmp_path: Path) -> None:
    with short_searches():
        said = succeeded("demo", "--folder", tmp_path / "d", "-q")
    assert "accounts never seen by the search" in said.replace("\n", " ")
    assert specs.load(tmp_path / "d" / "best.yaml").model == "health_score"
    assert "With your own table: gtmar init --data YOUR_TABLE" in said
    assert not [line for line in said.splitlines() if line.startswith("Next:") and "YOUR" in line]


def _commands() -> list[list[str]]:
    names = ["demo", "generate", "init", "check", "run", "score", "review", "compare", "sql"]
    return [[name] for name in names] + [["spec", "schema"], ["spec", "show"]]


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_help_text_ends_with_an_example(command: list[str]) -> None:
    said = succeeded(*command, "--help").replace("\n", " ")
    assert f"Example: gtmar {' '.join(command)}" in " ".join(said.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "allocator", "threads"),
    [
        ({}, "muzzy_decay_ms:0", 1),
        ({"_RJEM_MALLOC_CONF": "narenas:1", "OPENBLAS_NUM_THREADS": "2"}, "narenas:1", 2),
        ({"OMP_NUM_THREADS": "2"}, "muzzy_decay_ms:0", 2),
    ],
)
def test_memory_goes_back_and_algebra_has_one_thread_unless_somebody_said_otherwise(
    given: dict[str, str], allocator: str, threads: int, tmp_path: Path
) -> None:
    words = ["gtmar", "generate", "health_score", "--accounts", "50", "-o", str(tmp_path / "a.csv")]
    code = (
        f"import os, sys, runpy; sys.argv = {words}\n"
        "try: runpy.run_module('gtmar', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'polars' in sys.modules\n"
        "from threadpoolctl import threadpool_info\n"
        "blas = [each for each in threadpool_info() if each['user_api'] == 'blas']\n"
        "print(os.environ['_RJEM_MALLOC_CONF'])\n"
        "print(*(each['num_threads'] for each in blas))\n"
    )
    settings = {"_RJEM_MALLOC_CONF", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"}
    shell = {name: value for name, value in os.environ.items() if name not in settings} | given
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=shell
    )
    *_, told, counts = done.stdout.splitlines()
    assert allocator in told
    assert {*counts.split()} == {str(min(threads, os.cpu_count() or 1))}


def test_the_module_is_the_command_and_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['gtmar', '--help']\n"
        "try: runpy.run_module('gtmar', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'polars', 'duckdb', 'numpy', 'pyarrow', 'pydantic', 'rich.console'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "Search:" in done.stdout


#: What no question to a journal needs: to search, to read a spec or an account table, to draw.
UNASKED = {
    *("numba", "scipy", "ray", "pandas", "altair", "jinja2", "sqlglot", "mlflow"),
    *("pydantic", "gtmar.cli.data", "gtmar.cli.search"),
    *("pyarrow.compute", "pyarrow.dataset"),
    *("gtmar.spec", "gtmar.data.scan", "gtmar.data.outcomes", "gtmar.engine.tally"),
    *("gtmar.objective", "gtmar.optimize", "gtmar.runs", "gtmar.report"),
}


def test_every_command_is_found_where_it_is_registered() -> None:
    from gtmar.cli import app as root
    from gtmar.cli import options

    for module in root._HOMES:
        import_module(f"gtmar.cli.{module}")
    listed = {name for names in root._GROUPS.values() for name in names}
    registered = {str(command.name) for command in options.app.registered_commands}
    assert listed == registered | {"spec", "journal", "export"}
    made = get_command(app).commands  # type: ignore[attr-defined] # a group has them
    assert {name for name in made if made[name].name == name} == listed
    for name, group in root._SUBGROUPS.items():
        assert len(made[name].commands) == len(group.registered_commands) > 1


@pytest.mark.slow
def test_an_answer_imports_no_more_than_it_uses(folder: Path) -> None:
    questions = [["log"], ["best"], ["review"], ["compare"], ["lineage", "latest"], ["show", "1"]]
    questions += [["sql", "runs"], ["sql", "-c", "select count(*) from experiments"]]
    runs = sorted(path.name.partition("=")[2] for path in folder.glob("journal/runs/*"))
    questions[3] += runs
    answered_without(UNASKED, questions, folder / "journal")


@pytest.mark.slow
def test_a_version_comes_back_without_pandas(folder: Path, tmp_path: Path) -> None:
    run = min(path.name.partition("=")[2] for path in folder.glob("journal/runs/*"))
    checkout = ["checkout", f"{run}/best", "-o", str(tmp_path / "best.yaml")]
    answered_without({"pandas"}, [checkout], folder / "journal")


#: What no answer needs whose rows are kept: frames, and what reads files.
KEPT = {*UNASKED, "polars", "pyarrow", "numpy", "gtmar.journal.schema"}


@pytest.mark.slow
def test_an_answer_from_what_is_kept_brings_neither_arrow_nor_polars(
    folder: Path, tmp_path: Path
) -> None:
    runs = sorted(path.name.partition("=")[2] for path in folder.glob("journal/runs/*"))
    questions = [["log"], ["best"], ["review"], ["review", "--full"], ["review", "--json"]]
    questions += [["compare", *runs], ["lineage", "latest"], ["show", "1"], ["front"], []]
    cache = {"GTMAR_CACHE": str(tmp_path / "cache")}
    answered_without(UNASKED, questions, folder / "journal", few=True, **cache)
    answered_without(KEPT, questions, folder / "journal", few=True, **cache)
    # Without a cache, what reads files is there; what makes frames isn't.
    answered_without({*UNASKED, "polars"}, questions, folder / "journal", GTMAR_CACHE="")


def answered_without(
    unasked: set[str],
    questions: list[list[str]],
    journal: Path,
    *,
    few: bool = False,
    **shell: str,
) -> None:
    """Ask in another process, and see that some modules aren't loaded; `few` files are kept too."""
    code = (
        "import json, sys\n"
        "from typer.testing import CliRunner\n"
        "from gtmar.cli.app import app\n"
        "from gtmar.journal import file_index\n"
        f"file_index._MANY_FILES = {0 if few else 200}\n"
        "questions, unasked = map(json.loads, sys.argv[1:])\n"
        "for words in questions:\n"
        "    said = CliRunner().invoke(app, words)\n"
        "    assert said.exit_code == 0, said.output\n"
        "    brought = {*unasked} & {*sys.modules}\n"
        "    assert not brought, (words, brought)\n"
    )
    words = [json.dumps(questions), json.dumps(sorted(unasked))]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GTMAR_JOURNAL": str(journal), **shell},
    )
    assert done.returncode == 0, done.stderr


def test_version() -> None:
    assert succeeded("--version").startswith("gtmar 0.")


@pytest.mark.slow
def test_progress_off_a_terminal_is_plain_lines_on_stderr(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtmar.cli import progress

    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    arguments = ["run", "--data", folder / "accounts.parquet", "--spec", SPEC, "--n", 20]
    result = gtmar(*arguments, "--journal", tmp_path / "j")
    assert "of 20 experiments" in result.stderr
    assert "of 20 experiments" not in result.stdout


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_all_it_has_found(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    arguments = ["run", "--data", folder / "accounts.parquet", "--spec", SPEC, "--n", 1_000_000]
    arguments += ["--journal", journal, "--json"]
    command = [sys.executable, "-m", "gtmar", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(journal.glob("experiments/*/part-000001.parquet")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        found = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 130
    assert found["state"] == "interrupted"
    rows = as_json("sql", "-c", "select count(*) as n from experiments", "--journal", journal)
    assert rows[0]["n"] == found["experiments"] + 1
    assert as_json("review", "--journal", journal)["state"] == "interrupted"


# ---- bench ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_bench_says_how_fast_and_where_the_time_goes(folder: Path) -> None:
    page = succeeded("bench", "--accounts", 300, "--n", 30, "--rounds", 2, "--threads", 1)
    assert "experiments a second, all metrics journaled: 300 accounts, 14 features" in page
    assert "the best of 2 rounds" in page
    for stage in ("propose", "evaluate", "judge", "journal"):
        assert f"{stage} " in page
    assert page.rstrip().endswith("Next: gtmar demo")


@pytest.mark.slow
def test_bench_does_what_a_run_does(folder: Path, tmp_path: Path) -> None:
    table = folder / "accounts.parquet"
    found = json.loads(
        succeeded("bench", "--data", table, "--spec", SPEC, "--n", 40, "--rounds", 1, "--json")
    )
    run = runs.run(table, SPEC, limits=runs.Limits(40), holdout=0.0, journal=tmp_path)
    assert found["digest"] == run.digest
    assert found["accounts"] == 900
    assert sum(found["spent"].values()) == pytest.approx(1)
    assert found["evaluated"] >= 1
    assert found["bytes_per_account"] > 28
    assert found["floor_microseconds"] > 0


def test_bench_refuses_numbers_that_are_too_small_all_at_once() -> None:
    page = failed(2, "bench", "--n", 0, "--rounds", -1, "--threads", 0)
    for name, value in (("n", 0), ("rounds", -1), ("threads", 0)):
        assert f"{name} must be 1 or more, got {value}" in " ".join(page.split())


# ---- leakage ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_init_and_check_name_leaks_and_keep_what_they_are_told_to(tmp_path: Path) -> None:
    table, spec = tmp_path / "t.parquet", tmp_path / "spec.yaml"
    generated = synthetic.generate("health_score", accounts=300)
    generated.with_columns(churn_reason=1 - pl.col("retained_6mo")).write_parquet(table)
    succeeded("init", "--data", table, "-o", spec)
    assert "#   churn_reason: each of its values goes with one value of ret" in spec.read_text(
        "utf-8"
    )
    assert "Leakage: nothing suspicious" in succeeded("check", "--data", table, "--spec", spec)
    assert 'error: column "churn_reason" (left out)' in succeeded("check", "--data", table)
    kept = tmp_path / "kept.yaml"
    succeeded("init", "--data", table, "--keep", "churn_reason", "-o", kept)
    assert "churn_reason" in specs.load(kept).features
    with asked_once("check"):
        result = gtmar("check", "--data", table, "--spec", kept)
        assert as_json("check", "--data", table, "--spec", kept)["leaking"] == ["churn_reason"]
    assert result.exit_code == 3
    assert result.stderr == ""
    said = " ".join(result.stdout.split())
    assert 'error: column "churn_reason": each of its values goes with one value' in said
    assert "Why: it is the outcome under another name" in said
    assert "Do: leave it out" in said
    words = ("check", "--data", table, "--spec", kept, "--keep", "churn_reason")
    assert "Leakage: nothing suspicious" in succeeded(*words)


@pytest.mark.slow
def test_init_with_bins_names_the_start_that_suits_them(folder: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.yaml"
    done = gtmar("init", "--data", str(folder / "accounts.parquet"), "--bins", "-o", str(card))
    assert done.exit_code == 0
    assert f"Next: gtmar check --data {folder / 'accounts.parquet'} --spec {card}" in done.stdout
    said = succeeded("check", "--data", folder / "accounts.parquet", "--spec", card)
    assert f"--spec {card} --start logistic" in said
    assert "kind: bins" in card.read_text("utf-8")
    assert "All features reach equally far" in card.read_text("utf-8")


@pytest.mark.parametrize(
    "words",
    [
        "review --journal ~nobody-of-this-name/j",
        "verify --journal ~nobody-of-this-name/j",
        "score --data a.csv --spec s.yaml -o ~nobody-of-this-name/x.parquet",
        "run --data ~nobody-of-this-name/a.csv",
        "init --data a.csv -o ~nobody-of-this-name/s.yaml",
    ],
)
def test_a_home_folder_that_is_not_there_is_worded(words: str) -> None:
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code in (2, 3), done.output
    assert "~nobody-of-this-name" in done.output
    assert "fault of gtmar" not in done.output


@pytest.mark.parametrize(
    "words", ["verify", "log", "review", "journal compact", "journal export", "best"]
)
def test_a_journal_elsewhere_is_refused_by_every_command(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GTMAR_JOURNAL", "s3://bucket/journal")
    done = CliRunner().invoke(app, words.split())
    assert (done.exit_code, "a journal is a local folder, got a URL" in done.output) == (2, True)
