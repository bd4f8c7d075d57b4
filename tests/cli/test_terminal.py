"""Commands as people see them: 80 columns, colours that have a meaning, completion, slips."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forks
import pytest
import typer
from factories import make_accounts, make_spec
from sql_files import files_of
from terminal import completions, in_terminal
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli import progress
from gtmar.cli.app import app
from gtmar.data.synthetic import generate
from gtmar.journal.catalog import Journal
from gtmar.journal.sql_library import library
from gtmar.metrics import all_metrics
from gtmar.metrics.registry import objective_keys

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
RUN = re.compile(r"r\d{8}-\d{6}-[0-9a-f]{6}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, specs, and a journal of two searches, a person's change and events."""
    made = tmp_path_factory.mktemp("terminal")
    make_accounts(300, 7).write_parquet(made / "accounts.parquet")
    spec = make_spec(guardrails=[{"metric": "share_by_tier.A", "min": 0.05}])
    (made / "spec.yaml").write_text(specs.to_yaml(spec), "utf-8")
    journal = ["--journal", str(made / "journal")]
    data = ["--data", str(made / "accounts.parquet")]
    best = str(made / "best.yaml")
    search = ["run", *data, "--spec", str(made / "spec.yaml"), "--n", "60", "-q"]
    long = "as set up in the tool, long ago, by somebody who has left since"
    since = ["--since", "2026-01-31", "--note", long, "--author", "CS"]
    for words in (
        ["record", "--spec", str(made / "spec.yaml"), *since],
        [*search, "-o", best, "--note", "first baseline"],
        [*search, "--seed", "1", "--cold"],
        ["try", *data, "--spec", best, "--set", "logins=1", "--note", "noise", "--author", "CS"],
        ["promote", best, "--note", "measured"],
    ):
        result = CliRunner().invoke(app, [*words, *journal])
        assert result.exit_code == 0, result.output
    return made


def run_ids(folder: Path) -> list[str]:
    """Return ids in the order of their starts, several of which may lie within one second."""
    with Journal(folder / "journal") as journal:
        found = journal.query("select run_id from runs order by started_at")["run_id"]
    return [str(run_id) for run_id in found]


def looks(folder: Path) -> dict[str, list[str]]:
    """Return the commands that are looked at; RUN, OTHER and CHANGE stand for the runs' ids."""
    return {
        name: line.split()
        for name, line in {
            "check": "check --data accounts.parquet --spec spec.yaml",
            "review": "review RUN",
            "review --full": "review RUN --full",
            "compare": "compare RUN OTHER",
            "log": "log",
            "show": "show CHANGE/1",
            "diff": "diff RUN/start RUN --data accounts.parquet",
            "lineage": "lineage best.yaml",
            "best": "best --metric nrr_by_tier.A",
            "verify": "verify",
            "sql": "sql",
            "score": "score --data accounts.parquet --spec best.yaml -o scored.parquet",
            "init": "init --data accounts.parquet -o first.yaml",
            "try": "try --data accounts.parquet --spec best.yaml --set depth=3 --note why",
            "replay": "replay RUN",
            "report": "report RUN -o page.html",
            "run": "run --data accounts.parquet --spec spec.yaml --n 30 --seed 3",
            "journal compact": "journal compact",
            "journal export": "journal export -o lines.jsonl",
        }.items()
    }


LOOKS = list(looks(Path()))


def real(words: list[str], folder: Path) -> list[str]:
    ids = run_ids(folder)
    for name, run in zip(("RUN", "OTHER", "CHANGE"), ids, strict=False):
        words = [re.sub(rf"\b{name}\b", run, word) for word in words]
    return words


def fits(line: str, columns: int = 80) -> bool:
    """Whether a line is within the terminal.

    Commands and digests to be copied are whole on one line; so are sentences where there is no
    terminal.
    """
    return len(line) <= columns or line.startswith(("Next: ", "Columns: ", "gtmar2:"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOKS)
def test_what_a_command_prints_fits_80_columns(name: str, folder: Path) -> None:
    for path in ("first.yaml", "lines.jsonl"):
        (folder / path).unlink(missing_ok=True)
    seen = in_terminal(*real(looks(folder)[name], folder), folder=folder)
    assert seen.exit_code == 0, seen.text
    assert [line for line in seen.lines if not fits(line)] == []


@pytest.mark.slow
@pytest.mark.parametrize("example", ["health_score", "churn_risk", "icp_fit"])
def test_a_review_fits_one_screen_of_24_lines(example: str, tmp_path: Path) -> None:
    table, spec = tmp_path / "accounts.parquet", EXAMPLE.parents[1] / example / "spec.yaml"
    generate(example).write_parquet(table)
    words = ["run", "--data", "accounts.parquet", "--spec", str(spec), "--n", "250", "-q"]
    assert in_terminal(*words, folder=tmp_path).exit_code == 0
    seen = in_terminal("review", folder=tmp_path)
    lines = seen.text.rstrip("\n").split("\n")
    assert len(lines) <= 24, seen.text
    assert max(map(len, lines)) <= 80, seen.text
    # What a lead asks, in the order in which it matters.
    order = [
        "Of 100 pairs",
        "At equal sizes tier",
        "auc_roc",
        "Tiers at",
        "Win ",
        "More: ",
        "Next: ",
    ]
    places = [next(i for i, line in enumerate(lines) if line.startswith(x)) for x in order]
    assert places == sorted(places)
    assert sum(line.startswith("Win ") for line in lines) == 3
    # All of it stands behind --full.
    full = in_terminal("review", "--full", folder=tmp_path).text
    for heading in ("Largest of ", "Weights", "Tiers by each score's own edges"):
        assert heading in full
    assert "Proxy drift" in full


@pytest.mark.slow
@pytest.mark.parametrize("name", files_of("journal"))
def test_the_result_of_a_query_fits_80_columns(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "run": run_ids(folder)[0],
        "other": run_ids(folder)[1],
        "experiment": "exp_00000",
        "other_experiment": "exp_00001",
        "metric": "auc_roc_retain",
        "feature": "depth",
    }
    values = {p.name: given[p.name] for p in library()[name].parameters if p.name in given}
    settings = [word for pair in values.items() for word in ("--set", "=".join(pair))]
    # Rich takes the width from there as from a terminal; a process a query would take minutes.
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["sql", name, *settings])
    assert result.exit_code == 0, result.output
    assert [line for line in result.output.splitlines() if not fits(line)] == []


@pytest.mark.slow
def test_an_empty_result_names_its_columns(folder: Path) -> None:
    seen = in_terminal("sql", "weight_history", "--set", "feature=no", folder=folder)
    assert seen.lines[0].startswith("Columns: at, kind")
    assert "0 rows" in seen.lines


@pytest.mark.slow
def test_an_indented_sentence_stays_indented(folder: Path) -> None:
    seen = in_terminal("log", folder=folder, columns=50)
    long = next(i for i, line in enumerate(seen.lines) if "as set up in the tool" in line)
    assert seen.lines[long].startswith("  as")
    assert seen.lines[long + 1].startswith("  ")


# ---- colour -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_colours_have_a_meaning(folder: Path) -> None:
    [run, *_] = run_ids(folder)
    review = in_terminal("review", run, folder=folder)
    green, yellow = (" ".join(review.coloured(colour)) for colour in (32, 33))
    assert "Of 100 pairs" in green
    # What got worse is no good news, whatever else is.
    assert "Worse as measured" in yellow
    assert "Worse" not in green
    diff = in_terminal("diff", f"{run}/start", run, folder=folder)
    assert "better" in " ".join(diff.coloured(32))
    assert "worse" in " ".join(diff.coloured(31))
    assert not any("moved" in text for c in (31, 32, 33) for text in diff.coloured(c))
    failed = in_terminal("review", "r1999", folder=folder)
    assert failed.exit_code == 5
    assert failed.coloured(31) == ["error: "]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["review", "run"])
def test_no_color_is_respected(name: str, folder: Path) -> None:
    words = real(looks(folder)[name], folder)
    seen = in_terminal(*words, folder=folder, NO_COLOR="1")
    assert seen.exit_code == 0
    assert not any(seen.coloured(colour) for colour in range(30, 50))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["review", "diff", "run"])
def test_where_there_is_no_terminal_there_is_no_escape(name: str, folder: Path) -> None:
    words = real(looks(folder)[name], folder)
    done = forks.gtmar(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


# ---- progress ---------------------------------------------------------------------------------


def at(**changes: Any) -> runs.Progress:
    standard: dict[str, Any] = {
        "run_id": "r",
        "experiments": 500,
        "limit": 2000,
        "wins": 12,
        "baseline": 0.61,
        "best": 0.7624,
        "seconds": 5.0,
    }
    return runs.Progress(**{**standard, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "best 0.7624, 12 wins, 100/s, 15 s left"),
        ({"budget": 9.0}, "best 0.7624, 12 wins, 100/s, 4 s left"),
        ({"limit": 30_500}, "best 0.7624, 12 wins, 100/s, 5 min 00 s left"),
        ({"limit": 1_000_500}, "best 0.7624, 12 wins, 100/s, 2 h 46 min left"),
        ({"seconds": 0.1}, "best 0.7624, 12 wins, 5,000/s"),
        ({"experiments": 0, "best": None, "wins": 1}, "best -, 1 win"),
    ],
)
def test_progress_says_rate_best_wins_and_time_left(changes: dict[str, Any], words: str) -> None:
    assert progress._words(at(**changes), since=at(experiments=0, seconds=0.0)) == words


def test_the_rate_is_that_since_something_was_said_first() -> None:
    # The first experiments waited half a minute for machine code.
    first = at(experiments=4, seconds=30.0)
    assert progress._words(first, first) == "best 0.7624, 12 wins"
    later = at(experiments=1_004, seconds=31.0)
    assert progress._words(later, first) == "best 0.7624, 12 wins, 1,000/s, 1 s left"


def test_the_next_search_of_a_command_has_a_rate_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A walk searches once a date: 1,990 experiments of the first are none of the second."""
    said: list[str] = []
    monkeypatch.setattr(progress, "announce", said.append)
    monkeypatch.setattr(progress, "_LINE_SECONDS", -1.0)
    tell = progress._lines()
    tell(at(experiments=10, seconds=1.0))
    tell(at(experiments=2_000, seconds=20.0))
    tell(at(run_id="r2", experiments=4, seconds=0.5))
    tell(at(run_id="r2", experiments=104, seconds=1.5))
    assert [line.rpartition(", ")[2] for line in said[2:]] == ["12 wins", "19 s left"]
    assert "100/s" in said[3]


@pytest.mark.slow
def test_progress_is_live_on_a_terminal_and_leaves_nothing(folder: Path) -> None:
    # Weights enough for a search of a second or two.
    generate("health_score", accounts=300, seed=4).write_parquet(folder / "many.parquet")
    words = ["run", "--data", "many.parquet", "--spec", str(EXAMPLE), "--n", "20000", "--cold"]
    seen = in_terminal(*words, folder=folder, NO_COLOR="1")
    assert seen.exit_code == 0
    shown = [text.rstrip() for text in re.split(r"[\r\n]+", seen.text) if "of 20,000" in text]
    assert shown
    assert re.search(r"[\d,]+ of 20,000 best 0\.\d{4}, \d+ wins, [\d,]+/s", shown[-1])
    assert max(map(len, shown)) <= 80
    assert not [line for line in seen.lines[-6:] if "of 20,000" in line], "it goes when it is done"


@pytest.mark.parametrize("share", [1.0, 0.05], ids=["alone", "on a busy machine"])
def test_drawing_takes_less_than_a_hundredth_of_the_work(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that stands still but for what is done: 1 ms a batch, 3 ms a redraw."""
    work = 0.0
    monkeypatch.setattr(time, "process_time", lambda: work)
    monkeypatch.setattr(time, "monotonic", lambda: work / share)
    pace, drawn = progress._Pace(), 0
    for _ in range(20_000):
        work += 0.001
        if pace.due():
            work += 0.003
            drawn += 1
            pace.done()
    assert drawn * 0.003 < 0.01 * work
    assert drawn >= 10, "it is live all the same"


# ---- completion -------------------------------------------------------------------------------


@pytest.mark.slow
def test_runs_and_experiments_are_offered_newest_first(folder: Path) -> None:
    # By their ids, which tell seconds apart and no more.
    ids = sorted(run_ids(folder), reverse=True)
    for line in ("review ", "diff ", "best --run "):
        assert completions(f"gtmar {line}", folder=folder) == ids, line
    assert completions(f"gtmar show {ids[0]}/", folder=folder) == [
        f"{ids[0]}/best",
        f"{ids[0]}/start",
    ]
    assert completions(f"gtmar compare {ids[1]} {ids[0][:-2]}", folder=folder) == [ids[0]]


@pytest.mark.slow
def test_another_journal_is_looked_into_where_it_is_named(folder: Path, tmp_path: Path) -> None:
    ids, journal = sorted(run_ids(folder), reverse=True), str(folder / "journal")
    assert completions("gtmar review ", folder=tmp_path) == []
    assert completions(f"gtmar review --journal {journal} ", folder=tmp_path) == ids
    assert completions("gtmar review ", folder=tmp_path, GTMAR_JOURNAL=journal) == ids


@pytest.mark.slow
def test_queries_metrics_kinds_and_commands_are_offered(folder: Path, tmp_path: Path) -> None:
    queries = {name.removeprefix("journal/") for name in library() if "metrics/" not in name}
    assert set(completions("gtmar sql ", folder=folder)) == queries
    assert completions("gtmar sql lea", folder=folder) == ["leaderboard"]
    offered = completions("gtmar run --spec spec.yaml --metric ", folder=folder)
    whole = [key for key in objective_keys() if not all_metrics()[key].by_tier]
    assert set(whole) < set(offered)
    assert {f"nrr_by_tier.{tier}" for tier in "ABCD"} < set(offered)
    assert completions("gtmar best --metric nrr_by", folder=folder) == ["nrr_by_tier."]
    (tmp_path / "bad.yaml").write_text("model: [", "utf-8")
    line = "gtmar run --spec bad.yaml --metric nrr_by"
    assert completions(line, folder=tmp_path) == ["nrr_by_tier."]
    assert completions("gtmar generate h", folder=folder) == ["health_score"]
    assert completions("gtmar run --proposer ", folder=folder) == ["random", "learned"]
    assert completions("gtmar rev", folder=folder) == ["review"]


def test_completion_is_installed_for_a_shell(tmp_path: Path) -> None:
    # The shell is the process that asks, so there must be one; and not by `exec`, in its place.
    asked = f"{Path(sys.executable).parent / 'gtmar'} --install-completion; exit $?"
    done = subprocess.run(
        ["/bin/bash", "-c", asked],
        env={"HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "gtmar" in (tmp_path / ".bashrc").read_text("utf-8")
    assert list(tmp_path.rglob("gtmar.sh"))


# ---- help and slips ---------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined] # a group has them
        below = getattr(command, "commands", None)
        found |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    return found


@pytest.mark.parametrize("name", commands())
def test_every_help_ends_with_an_example_of_its_command(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=80)
    assert result.exit_code == 0
    last = " ".join(result.output.partition("Example:")[2].split())
    assert last.startswith(f"gtmar {name}")
    assert all(len(line) <= 80 for line in result.output.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "likely"),
    [
        ("rewiew", "review"),
        ("spec shw", "show"),
        ("journal exprt", "export"),
        ("run --metrik x --data a", "--metric"),
        ("sql leadrboard", "leaderboard"),
        ("sql review --set rnu=1", "run"),
        ("best --metric auc_roc_retian", "auc_roc_retain"),
        ("run --data accounts.parquet --spec spec.yaml --metric nrr_by_teir.A", "nrr_by_tier"),
        ("generate helth_score -o x.parquet", "health_score"),
        ("run --data accounts.parquet --spec spec.yaml --proposer lerned", "learned"),
        ("try --data accounts.parquet --spec spec.yaml --set dept=1 --note x", "depth"),
        ("log --model tset", "test"),
        ("journal export --format jsnl", "jsonl"),
    ],
)
def test_a_slip_is_met_with_the_nearest_name(
    line: str, likely: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = run_ids(folder)
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code in (2, 3, 5, 6)
    assert likely in result.output.splitlines()[-1]
    assert run_ids(folder) == before, "a slip leaves nothing in the journal"
