"""One rule for the outputs of all commands: never onto an input, never over what is there unasked.

The table below names every command that writes somewhere; a new one that isn't in it fails the
first test.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forks
import polars as pl
import pytest
import typer
from blank_charts import blank_charts
from factories import make_accounts, make_spec
from short_searches import short_searches
from typer.testing import CliRunner

from gtmar import outputs, runs
from gtmar.cli.app import app
from gtmar.spec import load, to_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

SCORE = "score --data accounts.parquet --spec spec.yaml -o"
READS = ("accounts.parquet", "spec.yaml")


@dataclass(frozen=True)
class Case:
    """A command that writes a file, `{}` standing for it, and what it reads."""

    words: str
    name: str
    reads: tuple[str, ...] = READS
    prints: bool = False


FILES = {
    "generate": Case("generate health_score --accounts 50 -o {}", "new.parquet", ()),
    "init": Case("init --data accounts.parquet -o {}", "new.yaml", READS[:1], prints=True),
    "run": Case(
        "run --data accounts.parquet --spec spec.yaml --holdout-file later.parquet --n 5 -q -o {}",
        "new.yaml",
        (*READS, "later.parquet"),
    ),
    "simplify": Case(
        "simplify spec.yaml --data accounts.parquet --features 1 --n 3 -q -o {}", "new.yaml"
    ),
    "grid": Case(
        "grid spec.yaml other.yaml --data accounts.parquet -o {}",
        "new.parquet",
        ("accounts.parquet",),
    ),
    "resume": Case("resume {run} -q -o {}", "new.yaml", ("accounts.parquet",)),
    "tiers": Case("tiers spec.yaml --data accounts.parquet --shares 20,30,50 -o {}", "new.yaml"),
    "try": Case(
        "try --data accounts.parquet --query query.sql --source other=other.parquet "
        "--spec spec.yaml --set plan=-3 --note n --keep -o {}",
        "new.yaml",
        (*READS, "query.sql", "other.parquet"),
    ),
    "checkout": Case("checkout {run}/0 -o {}", "new.json", ()),
    "report": Case("report {run} -o {}", "new.html", ("accounts.parquet",)),
    "score": Case(
        "score --data accounts.parquet --spec spec.yaml --changed-since old.parquet -o {}",
        "new.parquet",
        # A spec's name isn't a table's.
        ("accounts.parquet", "old.parquet"),
    ),
    "list": Case(
        "list --data accounts.parquet --spec calibrated.yaml --most 5 -o {}",
        "new.csv",
        ("accounts.parquet",),
    ),
    "calibrate": Case("calibrate spec.yaml --data accounts.parquet -o {}", "new.yaml"),
    "export sql": Case(
        "export sql --spec spec.yaml --table t --data accounts.parquet -o {}",
        "new.sql",
        prints=True,
    ),
    "journal export": Case("journal export -o {}", "new.jsonl", (), prints=True),
}
#: Those that write a folder, or into a store; each has tests of its own below or beside its module.
OTHERS = {
    "demo",
    "decide",
    "refresh",
    "export dbt",
    "export mlflow",
    "journal publish",
    "snapshot",
    "bridge",
    "walk",
    "watch",
}
#: A folder of a decision is never replaced.
NEVER_REPLACED = {"decide", "refresh"}
every_file = pytest.mark.parametrize("name", FILES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_accounts(120).write_parquet(folder / "accounts.parquet")
    make_accounts(60, seed=9).with_columns(
        account_id=pl.col("account_id").cast(pl.String) + "-later"
    ).write_parquet(folder / "later.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(folder / "other.parquet")
    runs.score(make_accounts(120), make_spec()).write_parquet(folder / "old.parquet")
    (folder / "spec.yaml").write_text(to_yaml(make_spec()), "utf-8")
    calibrated = runs.calibrate(make_accounts(120), make_spec()).spec
    (folder / "calibrated.yaml").write_text(to_yaml(calibrated), "utf-8")
    other = make_spec(model="other")
    (folder / "other.yaml").write_text(to_yaml(other), "utf-8")
    (folder / "query.sql").write_text("select * from accounts", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        gtmar("run --data accounts.parquet --spec spec.yaml --n 5 -q")
        [run] = Path("journal/runs").iterdir()
        (run / "end.parquet").unlink()
        (run / "seal").unlink()
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def gtmar(words: str, output: str | Path = "", code: int = 0) -> str:
    runs_there = sorted(Path("journal/runs").glob("run_id=*"))
    run = runs_there[0].name.removeprefix("run_id=") if runs_there else ""
    filled = [w.replace("{run}", run).replace("{}", str(output)) for w in words.split()]
    with blank_charts() if filled[0] == "report" else nullcontext():
        done = CliRunner().invoke(app, filled)
    assert done.exit_code == code, (filled, done.output, done.exception)
    return done.stdout if code == 0 else done.stderr


def snapshot(folder: Path = Path()) -> dict[str, Any]:
    """Return what each path of a folder is: a file's hash, where a link leads, a folder."""
    return {
        str(path): path.readlink()
        if path.is_symlink()
        else "folder"
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def refused(words: str, output: str | Path, reason: str) -> str:
    """Run a command that is to be refused; nothing anywhere has changed then."""
    before = snapshot()
    said = gtmar(words, output, code=2)
    assert reason in said
    assert snapshot() == before
    return said


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", {o for p in command.params for o in p.opts}


def test_every_command_that_writes_is_in_the_table() -> None:
    writing = {"-o", "--output", "--folder", "--to", "--store"}
    found = {n: o for n, o in commands(typer.main.get_command(app)) if o & writing}
    assert set(found) == {*FILES, *OTHERS}
    forced = {name for name, options in found.items() if "--force" in options}
    assert {name for name, options in found.items() if "-o" in options} - forced == NEVER_REPLACED
    assert "demo" in forced


# ---- what is there ----------------------------------------------------------------------------


def leftovers(name: str) -> None:
    """Leave beside an output what another command, and an editor, would: links to a file."""
    Path("mine").write_text("mine")
    for left in (f"{name}.partial", f"{name}.tmp", f".{name}.swp"):
        Path(left).symlink_to("mine")


@pytest.mark.slow
@every_file
def test_a_file_that_is_there_is_replaced_by_force_alone(here: Path, name: str) -> None:
    case = FILES[name]
    # Nor is one that looks like one of gtmar's own.
    own = b'{"lineage": "Written by gtmar"}\n'
    Path(case.name).write_bytes(own)
    said = refused(case.words, case.name, "is not replaced")
    assert "--force" in said
    leftovers(case.name)
    before = {f for f in snapshot() if not f.startswith("journal")}
    gtmar(f"{case.words} --force", case.name)
    assert Path(case.name).read_bytes() != own
    assert {f for f in snapshot() if not f.startswith("journal")} == before
    assert Path("mine").read_text() == "mine"


#: A table, a spec after a search, one after none, a page, text that may be printed, lines.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["score", "resume", "calibrate", "report", "export sql", "journal export"]
)
def test_a_new_file_is_written_past_what_others_left(here: Path, name: str) -> None:
    case = FILES[name]
    leftovers(case.name)
    before = {f for f in snapshot() if not f.startswith("journal")}
    gtmar(case.words, case.name)
    after = {f for f in snapshot() if not f.startswith("journal")}
    assert after - before == {case.name}
    assert Path("mine").read_text() == "mine"


@pytest.mark.slow
@every_file
def test_folders_links_and_places_that_are_not_there(here: Path, name: str) -> None:
    case = FILES[name]
    ending = Path(case.name).suffix
    Path(f"folder{ending}").mkdir()
    Path(f"dangling{ending}").symlink_to("nowhere")
    Path(f"loop{ending}").symlink_to(f"loop{ending}")
    Path(f"link{ending}").symlink_to("other.parquet" if name != "try" else "old.parquet")
    Path("plain").touch()
    refused(case.words, f"folder{ending}", "can't be written: Is a directory")
    refused(case.words, f"link{ending}", "link")
    # Nor by force.
    words = f"{case.words} --force"
    refused(words, f"folder{ending}", "can't be written: Is a directory")
    for link in ("dangling", "loop", "link"):
        refused(words, f"{link}{ending}", "link")
    refused(words, f"no/such/x{ending}", "can't be written: No such file or directory")
    refused(words, f"plain/x{ending}", "can't be written: Not a directory")
    refused(words, "x" * 300 + ending, "can't be written: File name too long")
    if not case.prints:
        refused(words, "-", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
@every_file
def test_a_folder_that_may_not_be_written_to(here: Path, name: str) -> None:
    Path("shut").mkdir(mode=0o500)
    refused(FILES[name].words, f"shut/{FILES[name].name}", "Permission denied")


# ---- inputs -----------------------------------------------------------------------------------


@pytest.mark.slow
@every_file
def test_no_output_goes_onto_an_input_by_any_name(here: Path, name: str) -> None:
    case = FILES[name]
    ending = Path(case.name).suffix
    for number, read in enumerate(case.reads):
        os.link(read, f"hard{number}{ending}")
        names = [Path(f"hard{number}{ending}")]
        if name != "score" or read.endswith(".parquet"):
            names += [Path(read), here / read, Path("journal") / ".." / read]
        for path in names:
            refused(f"{case.words} --force", path, "no output goes onto an input")


@pytest.mark.slow
@every_file
def test_no_output_goes_into_any_journal(here: Path, name: str) -> None:
    case = FILES[name]
    shutil.copytree("journal", "elsewhere")
    Path("linked").symlink_to("elsewhere/experiments")
    [run] = Path("elsewhere/experiments").iterdir()
    ending = Path(case.name).suffix
    for path in (
        Path("journal", case.name),
        run / case.name,
        Path("linked", run.name, f"part-000002{ending}"),
    ):
        refused(f"{case.words} --force", path, "into a journal")


@pytest.mark.slow
@pytest.mark.parametrize(
    "data", ["folder", "folder/*.parquet", "folder/*/*.parquet", "f*/**/*.pa*"]
)
def test_no_table_goes_where_the_next_reading_would_find_it(here: Path, data: str) -> None:
    folder = Path("folder/month=1" if "/*/" in data or "**" in data else "folder")
    folder.mkdir(parents=True)
    shutil.copy("accounts.parquet", folder / "part.parquet")
    words = SCORE.replace("accounts.parquet", data)
    refused(f"{words} {{}}", folder / "new.parquet", "no output goes onto an input")
    Path("link.parquet").symlink_to(folder / "part.parquet")
    for path in (folder / "part.parquet", "link.parquet"):
        refused(f"{words} {{}} --force", path, "no output goes onto an input")
    Path("outside").symlink_to(folder)
    refused(f"{words} {{}}", "outside/new.parquet", "no output goes onto an input")
    gtmar(f"{words} {{}}", "new.parquet")


@pytest.mark.parametrize("journal", ["new.yaml", "new.yaml/journal"])
def test_an_output_under_the_name_of_a_journal_to_be(here: Path, journal: str) -> None:
    words = f"run --data accounts.parquet --spec spec.yaml --n 2 --journal {journal} -o {{}}"
    refused(words, "new.yaml", "into a journal")


@pytest.mark.slow
def test_a_duckdb_file_that_is_the_source_takes_new_tables_alone(here: Path) -> None:
    import duckdb

    with duckdb.connect("crm.db") as connection:
        connection.execute("create table accounts as from 'accounts.parquet'")
        connection.execute("create table other as select 1")
    words = SCORE.replace("accounts.parquet", "duckdb:///crm.db?table=accounts")
    for table in ("accounts", "ACCOUNTS", "other"):
        refused(f"{words} {{}} --force", f"duckdb:///crm.db?table={table}", "is not replaced")
    refused(f"{words} {{}} --force", "crm.parquet/../crm.csv/", "can't be written")
    gtmar(f"{words} {{}}", "duckdb:///crm.db?table=scores")
    with duckdb.connect("crm.db") as connection:
        assert (
            connection.sql("from accounts").fetchall()
            == connection.sql("from 'accounts.parquet'").fetchall()
        )


def test_a_delta_table_that_is_the_source(here: Path) -> None:
    pytest.importorskip("deltalake")
    gtmar(f"{SCORE} {{}}", "delta:scores")
    refused(f"{SCORE} {{}}", "delta:scores", "is not replaced")
    refused(f"{SCORE} {{}}", "delta:journal", "no Delta table")
    for data in ("scores", "delta:scores"):
        words = SCORE.replace("accounts.parquet", data)
        refused(f"{words} {{}} --force", "delta:scores", "no output goes onto an input")


# ---- what happens meanwhile -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "resume", "try"])
def test_a_file_that_appears_during_a_search_is_kept_and_the_run_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case = FILES[name]
    settle = outputs.settle

    def late(beside: Path, path: Path, *, replace: bool) -> None:
        path.write_text("mine")
        settle(beside, path, replace=replace)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "settle", late)
        said = gtmar(case.words, case.name, code=2)
    assert Path(case.name).read_text() == "mine"
    assert not list(Path().glob("*.partial"))
    assert "Nothing is lost" in said
    [hint] = [line for line in said.splitlines() if line.startswith("hint: ")]
    gtmar(hint.removeprefix("hint: gtmar "))
    assert load("NEW.yaml").lineage is not None


@pytest.mark.slow
def test_a_folder_that_is_lost_during_a_search(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out").mkdir()
    search = runs.run

    def losing(*arguments: Any, **more: Any) -> runs.RunResult:
        Path("out").rmdir()
        return search(*arguments, **more)

    monkeypatch.setattr(runs, "run", losing)
    words = "run --data accounts.parquet --spec spec.yaml --n 2 -q -o {} --json"
    said = json.loads(gtmar(words, "out/best.yaml", code=2))["error"]
    assert "No such file" in said["message"]
    assert said["hint"] == f"gtmar checkout {said['experiment']} -o NEW.yaml"


FULL = """
import resource
from gtmar.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["new.parquet", "new.csv", "new.arrow", "duckdb:///new.db?table=t"]
)
def test_a_disk_that_is_full_leaves_nothing(here: Path, name: str) -> None:
    before = snapshot()
    ended = forks.script(FULL, *f"{SCORE} {name}".split())
    said = ended.stderr
    assert ended.returncode == 2, said
    assert "can't be written" in said
    assert "Traceback" not in said
    assert snapshot() == before


@pytest.mark.slow
def test_two_at_once_write_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    words = ["generate", "health_score", "--accounts", "500", "-o", str(path), "--seed"]
    both = [forks.start(*words, seed) for seed in ("1", "2")]
    ended = sorted((running.ended() for running in both), key=lambda each: each.returncode)
    assert [each.returncode for each in ended] == [0, 2], ended
    assert "is not replaced" in ended[1].stderr
    assert pl.read_parquet(path).height == 500
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before", "after"])
def test_a_kill_around_the_placing_leaves_all_or_nothing(here: Path, point: str) -> None:
    code = (
        "import os, signal\nfrom gtmar import outputs\nfrom gtmar.cli import main\n"
        "real = outputs.settle\n"
        "def settle(*a, **k):\n"
        f"    {'real(*a, **k)' if point == 'after' else 'pass'}\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "outputs.settle = settle\nmain()"
    )
    assert forks.script(code, *f"{SCORE} new.parquet".split()).returncode == -signal.SIGKILL
    assert Path("new.parquet").exists() is (point == "after")
    if point == "before":
        [left] = Path().glob("*.partial")
        gtmar(f"{SCORE} {{}}", "new.parquet")
        assert left.exists()
    assert pl.read_parquet("new.parquet").height == 120


# ---- folders and stores -----------------------------------------------------------------------


def finished() -> None:
    gtmar("resume {run} -q")


@pytest.mark.slow
def test_a_decision_leaves_folders_of_others_alone(here: Path) -> None:
    finished()
    for name in ("decision.partial", "taken"):
        Path(name).mkdir()
        (Path(name) / "mine").write_text("mine")
    Path("dangling").symlink_to("nowhere")
    for name in ("taken", "dangling"):
        refused("decide {run} -o {}", name, "is not replaced")
    refused("decide {run} -o {}", "journal/new", "into a journal")
    refused("decide {run} -o {}", "spec.yaml/new", "can't be written")
    gtmar("decide {run} -o {}", "new/decision", code=10)
    assert (Path("decision.partial") / "mine").read_text() == "mine"
    assert {path.name for path in Path("new").iterdir()} == {"decision"}
    assert len(list(Path("new/decision").iterdir())) == 6


@pytest.mark.slow
def test_a_decision_is_not_put_into_the_folder_that_it_reads(here: Path) -> None:
    finished()
    Path("folder").mkdir()
    shutil.move("accounts.parquet", "folder/accounts.parquet")
    words = "decide {run} --data folder -o {}"
    refused(words, "folder/decision", "no output goes onto an input")
    gtmar("run --data folder --spec spec.yaml --n 5 -q --journal second")
    [run] = Path("second/runs").iterdir()
    words = f"decide {run.name.removeprefix('run_id=')} --journal second -o {{}}"
    refused(words, "folder/decision", "no output goes onto an input")


@pytest.mark.slow
def test_a_decision_that_finds_its_folder_taken_is_on_record(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished()
    settle = outputs.settle

    def late(beside: Path, path: Path, *, replace: bool) -> None:
        if path.name == "decision":
            path.mkdir()
        settle(beside, path, replace=replace)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "settle", late)
        said = gtmar("decide {run} -o {}", "decision", code=2)
    assert "The decision itself, KEEP_INCUMBENT, is in the journal as e2" in said
    assert list(Path("decision").iterdir()) == []
    assert not list(Path().glob("*.partial"))


def test_a_refresh_is_refused_before_it_searches(here: Path) -> None:
    words = "refresh --train accounts.parquet --holdout later.parquet --spec spec.yaml --n 5 -o {}"
    for name in ("accounts.parquet", "spec.yaml", "journal", "journal/new"):
        refused(words, name, "")


def test_a_dbt_model_is_written_whole_or_not_at_all(here: Path) -> None:
    words = "export dbt --spec spec.yaml --relation accounts --name m -o {}"
    Path("models").mkdir()
    Path("models/m.yml").write_text("mine")
    refused(words, "models", "is not replaced")
    Path("models/m.yml").unlink()
    Path("models/m.yml").symlink_to("nowhere")
    refused(f"{words} --force", "models", "is not replaced")
    refused(words, "query.sql", "Not a directory")
    gtmar(words, "new/models")
    assert {path.name for path in Path("new/models").iterdir()} == {"m.sql", "m.yml"}


@pytest.mark.slow
def test_nothing_is_published_or_logged_into_the_journal(here: Path) -> None:
    finished()
    for target in ("duckdb:///journal/lake.db", "delta:journal/lake", "delta:journal"):
        refused("journal publish --to {}", target, "into a journal")
    pytest.importorskip("mlflow", reason="MLflow isn't installed")
    refused("export mlflow --store {}", "sqlite:///journal/mlflow.db", "into a journal")


@pytest.mark.slow
def test_a_store_of_another_program_gets_no_tables(here: Path) -> None:
    pytest.importorskip("mlflow", reason="MLflow isn't installed")
    import sqlite3

    finished()
    with sqlite3.connect("mine.db") as database:
        database.execute("create table mine (a)")
    database.close()
    Path("link.db").symlink_to("nowhere.db")
    refused("export mlflow --store {}", "sqlite:///mine.db", "database of another program")
    refused("export mlflow --store {}", "sqlite:///link.db", "leads nowhere")


@pytest.mark.parametrize("name", ["accounts.parquet", "spec.yaml", "best.yaml", "journal"])
def test_the_demo_refuses_a_folder_with_files_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new").mkdir()
    mine = Path("new") / name
    mine.write_text("mine")
    for folder in ("new", "new/../new"):
        refused("demo --folder {}", folder, f'"{name}" of the demo')
    if name in ("accounts.parquet", "spec.yaml"):
        refused("demo --force --folder {}", "new", "isn't the demo's own")
    refused("demo --folder {}", f"new/{name}", "can't be written")


@pytest.mark.slow
def test_the_demo_done_again_adds_a_run_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with short_searches():
        gtmar("demo -q")
    refused("demo", "", "is there already")
    before = snapshot()
    with short_searches():
        gtmar("demo -q --force")
    after = snapshot()
    assert len(list(Path("gtmar-demo/journal/runs").iterdir())) == 2
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"gtmar-demo/best.yaml"}
