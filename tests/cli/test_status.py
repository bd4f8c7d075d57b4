"""`gtmar` alone says where things stand; help in groups; runs by `latest` and `live`."""

from __future__ import annotations

import json
import shlex
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
import typer
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app, first_sentence
from gtmar.data import synthetic
from gtmar.journal.catalog import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
FINE = (0, 10)
Searches: TypeAlias = "Callable[..., tuple[str, ...]]"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GTMAR_JOURNAL", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def done(*words: str, codes: tuple[int, ...] = (0,)) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code in codes, result.output
    return result.output


def next_words(output: str) -> list[str]:
    [line] = [x for x in output.splitlines() if x.startswith("Next: gtmar ")]
    return shlex.split(line)[2:]


@cache
def searched_before(folder: Path, accounts: int, seeds: tuple[int, ...]) -> tuple[str, ...]:
    """Search a table in a folder by some seeds, one after the other; return the runs' ids."""
    table = folder / "accounts.parquet"
    synthetic.generate("health_score", accounts=accounts, seed=4).write_parquet(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return tuple(
            runs.run(table.name, SPEC, limits=runs.Limits(60), seed=seed).run_id for seed in seeds
        )


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Searches:
    """Return what has the folder of a test hold a table, and searches of it: a copy."""
    kept = tmp_path_factory.mktemp("searches")

    def copied(*seeds: int, accounts: int = 300) -> tuple[str, ...]:
        folder = kept / f"{accounts}-{seeds}"
        folder.mkdir(exist_ok=True)
        ids = searched_before(folder, accounts, seeds)
        shutil.copytree(folder, ".", dirs_exist_ok=True)
        return ids

    return copied


def test_an_empty_folder_leads_to_the_demo() -> None:
    assert next_words(done()) == ["demo"]


@pytest.mark.slow
@pytest.mark.parametrize("spec", [False, True])
def test_a_table_leads_to_a_first_spec_and_then_to_a_check(*, spec: bool) -> None:
    synthetic.generate("health_score", accounts=300, seed=4).write_parquet("a table.parquet")
    if spec:
        Path("spec.yaml").write_text(SPEC.read_text("utf-8"), "utf-8")
    words = next_words(done())
    assert words[0] == ("check" if spec else "init")
    done(*words, codes=FINE)


@pytest.mark.slow
def test_a_journal_leads_from_the_last_run_to_what_is_live(search: Searches) -> None:
    [run] = search(0)
    output = done()
    assert 'Journal "journal": 1 run.' in output
    assert f"Last run: {run} (finished)" in output
    assert "Live: nothing on record" in output
    done(*next_words(output), codes=FINE)
    done("promote", "latest", "--note", "approved")
    output = done()
    assert "Live: health_score since" in output
    assert next_words(output)[0] == "log"
    done(*next_words(output))


@pytest.mark.slow
@pytest.mark.parametrize("most", ["1", "0"])
def test_a_decision_is_said_wherever_its_run_is(most: str, search: Searches) -> None:
    [run] = search(0, accounts=1_500)
    done("decide", "--max-moved", most, codes=(0, 10, 11))
    [decision] = json.loads(done("sql", "decisions", "--json"))
    verdict, day = decision["verdict"], decision["at"][:10]
    ready = verdict == "READY_FOR_REVIEW"
    assert most == "1" or decision["failed"] == ["movement"]
    assert decision["reason"].partition(" (")[0] in ("gain", *decision["failed"])
    assert decision["gain_low"] < decision["gain"] < decision["gain_high"]
    output = done()
    assert verdict in output
    assert next_words(output)[0] == ("promote" if ready else "sql")
    if not ready:
        done(*next_words(output))
    said = {words[0]: done(*words) for words in (["log"], ["show", run], ["lineage", run])}
    for command, text in said.items():
        assert f"Decided {day}" in text, command
        assert f": {verdict}." in text, command
    assert decision["reason"] in " ".join(said["show"].split())
    [entry] = json.loads(done("log", "--json"))["log"]
    shown = json.loads(done("show", run, "--json"))
    [first, *_] = json.loads(done("lineage", run, "--json"))
    reviewed = json.loads(done("review", run, "--json"))["decision"]
    assert {each["verdict"] for each in (entry, shown, first, reviewed)} == {verdict}
    times = {shown["decided_at"], entry["decided_at"], first["decided_at"], reviewed["at"]}
    assert times == {decision["at"]}
    promoted = done("promote", run, "--note", "all the same")
    assert f": {verdict}." in promoted
    assert ("It goes live against that." in promoted) != ready
    [live, *_] = done("log").split("\n\n")
    assert f": {verdict}." in " ".join(live.split())
    assert json.loads(done("log", "--json"))["live"][0]["verdict"] == verdict
    # Another's run is no decided one.
    other = runs.run("accounts.parquet", SPEC, limits=runs.Limits(5), seed=1)
    assert "Decided" not in done("show", other.run_id)


@pytest.mark.slow
def test_a_run_whose_table_is_elsewhere_leads_to_its_review(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: Searches
) -> None:
    [run] = search(0)
    Path("below").mkdir()
    monkeypatch.chdir("below")
    monkeypatch.setenv("GTMAR_JOURNAL", str(tmp_path / "journal"))
    words = next_words(done())
    assert words == ["review", run]
    done(*words)


@pytest.mark.parametrize("torn", ["start.parquet", "end.parquet", "part-*.parquet"])
def test_a_damaged_journal_is_no_traceback(torn: str, search: Searches) -> None:
    search(0)
    for file in Path("journal").rglob(torn):
        file.write_bytes(b"torn")
    result = CliRunner().invoke(app, [])
    assert result.exit_code in (0, 5)
    assert "Traceback" not in result.output
    assert "fault of gtmar" not in result.output


def test_help_lists_every_command_once_and_cuts_no_sentence() -> None:
    output = done("--help")
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined] # a group has them
        lines = [x for x in output.splitlines() if x.startswith(f"  {name} ")]
        assert lines == [f"  {name:<9}  {first_sentence(command)}"], name
        assert lines[0].endswith(".")
    assert all(len(line) <= 80 for line in output.splitlines())
    groups = [
        "Prepare:",
        "Search:",
        "Change by hand:",
        "Prove:",
        "Look:",
        "Score and explain:",
        "Journal:",
    ]
    assert [line for line in output.splitlines() if line in groups] == groups


@pytest.mark.slow
def test_latest_and_live_name_runs_and_experiments(search: Searches) -> None:
    first, second = search(0, 1)
    done("promote", f"{first}/start", "--note", "as it was")
    with Journal("journal") as journal:
        assert journal.run_id("latest") == second
        assert journal.run_id("live") == first
        assert journal.live() == f"{first}/exp_00000"
    assert done("show", "live") == done("show", f"{first}/start")
    assert done("show", "live/best") == done("show", first)
    assert done("show", "latest/3") == done("show", f"{second}/3")
    assert done("review", "live") == done("review", first)
    assert done("verify", "live") == done("verify", first)
    assert done("sql", "review", "--set", "run=latest") == done("sql", "review")
    assert "one: live\ntwo: latest\n" in done("diff", "live", "latest")


@pytest.mark.slow
def test_live_is_refused_where_it_names_nothing_or_several(search: Searches) -> None:
    [run] = search(0)
    assert "nothing is on record as live" in done("review", "live", codes=(5,))
    done("promote", run, "--note", "one")
    other = SPEC.read_text("utf-8").replace("model: health_score", "model: another")
    Path("other.yaml").write_text(other, "utf-8")
    again = runs.run("accounts.parquet", "other.yaml", limits=runs.Limits(60)).run_id
    done("promote", again, "--note", "two")
    output = " ".join(done("review", "live", codes=(5,)).split())
    assert '"live" stands for 2 experiments' in output
    assert run in output
    assert again in output


@pytest.mark.slow
def test_a_start_that_several_runs_share_is_refused_with_their_names(search: Searches) -> None:
    ids = search(0, 1)
    output = done("review", "r20", codes=(5,))
    assert all(run in output for run in ids)
