"""journal export and journal import: what they print and write, and how they fail."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from gtmar.cli.app import app


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("GTMAR_JOURNAL", raising=False)
    metrics = {"auc_roc_retain": 0.7, "nrr_by_tier": {"A": 1.0, "B": 0.9}, "mystery": 1}
    entries = [
        entry("exp_00001", 0.6, 0.7, "win", 5, 6, metrics=metrics),
        entry("exp_00002", 0.7, 0.5, "lose", 6, 7, metrics={"mystery": 2}, tool="old"),
    ]
    write("old.jsonl", entries)


def entry(
    name: str, before: float, after: float, outcome: str, low: int, high: int, **other: Any
) -> dict[str, Any]:
    return {
        "experiment_id": name,
        "metric": "auc_roc_retain",
        "baseline_value": before,
        "variant_value": after,
        "outcome": outcome,
        "changes": [f"nps: {low} -> {high}"],
        "weights_snapshot": {"nps": high, "logins": 3},
        "timestamp": "2026-01-05T09:00:00+00:00",
        **other,
    }


def write(name: str, entries: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")


def gtmar(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def succeeded(*arguments: str) -> str:
    result = gtmar(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def failed(code: int, *arguments: str) -> str:
    result = gtmar(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def brought_in() -> str:
    """Import the file; return the new run's id."""
    return str(json.loads(succeeded("journal", "import", "old.jsonl", "--json"))["runs"][0])


@pytest.mark.slow
def test_import_says_what_came_in_and_what_stayed_out() -> None:
    said = succeeded("journal", "import", "old.jsonl", "--author", "RevOps", "--note", "before")
    [folder] = Path("journal/runs").iterdir()
    run = folder.name.partition("=")[2]
    assert said == (
        "2 experiments, 1 of them wins, imported from old.jsonl as 1 run:\n"
        f"  {run}\n"
        "Kept as they are for an export, since no column of the journal has them: "
        "metrics.mystery, tool.\n"
        f"Next: gtmar review {run}\n"
    )
    [row] = json.loads(succeeded("sql", "-c", "select * from runs", "--json"))
    assert (row["kind"], row["author"], row["note"]) == ("import", "RevOps", "before")
    assert row["run_id"] in succeeded("review", run)
    assert "nothing is missing" in succeeded("verify")


def test_import_as_json_and_into_a_journal_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(succeeded("journal", "import", "old.jsonl", "--journal", "j", "--json"))
    assert found == {
        "source": "old.jsonl",
        "runs": found["runs"],
        "experiments": 2,
        "wins": 1,
        "ignored": {"metrics.mystery": 2, "tool": 1},
    }
    assert Path("j/runs", f"run_id={found['runs'][0]}").is_dir()
    write("other.jsonl", [entry("exp_1", 0.6, 0.5, "lose", 5, 6, metrics=None)])
    said = succeeded("journal", "import", "other.jsonl", "--journal", "j")
    assert said.endswith(" --journal j\n")
    assert "Kept as they are" not in said
    monkeypatch.setenv("GTMAR_JOURNAL", "k")
    assert "--journal" not in succeeded("journal", "import", "old.jsonl")
    assert Path("k").is_dir()


def test_import_names_the_most_frequent_of_what_it_leaves_out() -> None:
    metrics = {f"m{n}": 1 for n in range(8)}
    lines = [entry("exp_1", 0.6, 0.5, "lose", 5, 6, metrics=metrics)]
    lines.append(entry("exp_2", 0.6, 0.5, "lose", 5, 7, metrics={"m7": 1, "m6": 1}))
    write("many.jsonl", lines)
    said = succeeded("journal", "import", "many.jsonl")
    listed = ", ".join(f"metrics.m{n}" for n in (6, 7, 0, 1, 2))
    assert f"column of the journal has them: {listed} and 3 more.\n" in said


def test_a_file_with_faults_ends_in_one_message_and_writes_nothing() -> None:
    wrong = entry("exp_1", 0.6, 0.5, "perhaps", 5, 6, metrics=[])
    write("wrong.jsonl", [wrong, wrong])
    assert failed(5, "journal", "import", "wrong.jsonl") == (
        'error: "wrong.jsonl": nothing was imported, 2 problems\n'
        "  - lines 1, 2: metrics must be an object from name to value, got []\n"
        '  - lines 1, 2: outcome must be "win" or "lose", got "perhaps"\n'
    )
    error = json.loads(failed(5, "journal", "import", "wrong.jsonl", "--json"))["error"]
    assert error["code"] == "journal"
    assert len(error["problems"]) == 2
    assert "No such file" in failed(5, "journal", "import", "none.jsonl")
    assert not Path("journal").exists()


def test_the_same_file_again_is_refused() -> None:
    run = brought_in()
    said = failed(5, "journal", "import", "old.jsonl")
    assert said == (
        f'error: "old.jsonl" is in the journal "journal" already, as run "{run}"\n'
        f"hint: gtmar review {run}\n"
    )


@pytest.mark.parametrize("ending", ["\n", ""])
def test_a_file_that_has_grown_is_refused_until_its_import_is_undone(ending: str) -> None:
    old = Path("old.jsonl").read_text().rstrip("\n")
    Path("old.jsonl").write_text(old + ending)
    run = brought_in()
    more = json.dumps(entry("exp_00003", 0.7, 0.8, "win", 6, 8, metrics={}))
    Path("old.jsonl").write_text(f"{old}\n{more}\n")
    said = failed(5, "journal", "import", "old.jsonl")
    lines = len(old.splitlines())
    assert f"its first {lines} lines are in the journal" in " ".join(said.split())
    assert run in said
    event = re.search(r"--undo (\S+),", said)
    assert event is not None
    succeeded("journal", "import", "--undo", event[1])
    assert brought_in() != run


@pytest.mark.slow
def test_export_prints_a_line_an_experiment() -> None:
    run = brought_in()
    lines = [json.loads(text) for text in succeeded("journal", "export").splitlines()]
    assert [e["experiment_id"] for e in lines] == [f"{run}/exp_00001", f"{run}/exp_00002"]
    lines = [json.loads(text) for text in succeeded("journal", "export", run[-6:]).splitlines()]
    assert [e["experiment_id"] for e in lines] == ["exp_00001", "exp_00002"]
    assert [e["changes"] for e in lines] == [["nps: 5 -> 6"], ["nps: 6 -> 7"]]
    assert succeeded("journal", "export", "-o", "-") == succeeded("journal", "export")


@pytest.mark.slow
def test_an_export_says_what_a_tool_without_encoders_would_score_otherwise() -> None:
    kinds = {"kind": "range", "from": 0, "to": 10}
    weight = {"weight": 5, "min": 0, "max": 10}
    features = {
        "logins": weight | {"encode": kinds},
        "nps": weight | {"missing": {"value": 0}},
        "seats": weight,
    }
    table = pl.DataFrame({"seats": [0.0, 1.0] * 20}).with_columns(
        logins=pl.col("seats").cum_count(), nps=pl.col("seats") * 2, retained_6mo=pl.col("seats")
    )
    table.write_parquet("accounts.parquet")
    for name, used in (("plain", ["seats"]), ("encoded", list(features))):
        spec = {"model": name, "features": {each: features[each] for each in used}}
        tiers = {"A": {"min": 5, "max": 101}, "B": {"min": 0, "max": 5}}
        Path(f"{name}.json").write_text(json.dumps(spec | {"tiers": tiers}), encoding="utf-8")
        place = ["--data", "accounts.parquet", "--spec", f"{name}.json", "--journal", name]
        made = gtmar("run", *place, "--n", "3", "--holdout", "none", "-o", f"{name}_best.json")
        exported = gtmar("journal", "export", "--journal", name)
        assert (made.exit_code, exported.exit_code) == (0, 0), made.output
        for said in (made.stderr, exported.stderr):
            note = 'the spec encodes "logins", "nps": a tool that multiplies weights'
            assert (note in " ".join(said.split())) == (name == "encoded")
        assert all("metrics" in json.loads(text) for text in exported.stdout.splitlines())


@pytest.mark.slow
def test_export_writes_a_new_file_and_replaces_none() -> None:
    run = brought_in()
    said = succeeded("journal", "export", run, "--format", "jsonl", "-o", "out.jsonl")
    assert said == "2 experiments in out.jsonl.\n"
    assert Path("out.jsonl").read_text("utf-8") == succeeded("journal", "export", run)
    before = Path("old.jsonl").read_bytes()
    assert "is not replaced" in failed(2, "journal", "export", "-o", "old.jsonl")
    assert Path("old.jsonl").read_bytes() == before
    found = json.loads(succeeded("journal", "export", "-o", "two.jsonl", "--json"))
    assert found == {"output": "two.jsonl", "experiments": 2}


@pytest.mark.slow
def test_an_export_that_fails_leaves_no_file() -> None:
    run = brought_in()
    assert 'no format "csv"; there is "jsonl"' in failed(2, "journal", "export", "--format", "csv")
    assert "can't be written" in failed(2, "journal", "export", "-o", "nowhere/out.jsonl")
    assert "has no run" in failed(5, "journal", "export", "r1999", "-o", "out.jsonl")
    part = next(Path("journal/experiments").glob("*/part-000002.parquet"))
    content = part.read_bytes()
    part.write_bytes(content[:4] + bytes(60) + content[64:])
    assert "is damaged" in failed(5, "journal", "export", run, "-o", "out.jsonl")
    assert not list(Path().glob("out*"))


@pytest.mark.slow
def test_an_export_of_a_damaged_journal_says_what_it_leaves_out() -> None:
    damaged = brought_in()
    write("other.jsonl", [entry("exp_1", 0.6, 0.5, "lose", 5, 6, metrics=None)])
    [sound] = json.loads(succeeded("journal", "import", "other.jsonl", "--json"))["runs"]
    part = Path(f"journal/experiments/run_id={damaged}/part-000002.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    result = gtmar("journal", "export", "-o", "out.jsonl")
    assert (result.exit_code, damaged in result.stderr) == (5, True)
    [line] = Path("out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["experiment_id"].startswith(f"{sound}/")


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_ends_with_an_example(command: str) -> None:
    said = succeeded("journal", command, "--help")
    assert f"Example: gtmar journal {command} " in said
    assert command in succeeded("journal", "--help")
