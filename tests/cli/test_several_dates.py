"""Every command that takes a table, given one of several dates: as docs/time.md says of it."""

from __future__ import annotations

import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import journals
import polars as pl
import pytest
from benchmarks import panel as panels
from blank_charts import blank_charts
from typer.main import get_command
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.scan import Source
from gtmar.journal.writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, LAST = panels.DAYS[0], panels.DAYS[3]
AT = f"{FIRST}..{LAST}"
ROWS, ACCOUNTS = 480, 120
GUIDE = Path(__file__).parents[2] / "docs" / "time.md"

#: Its words after `gtmar`, and what it prints of dates: all of them pooled, the newest, or each;
#: `columns` of one that reads no row. Words in capitals are filled in.
ASKED: dict[str, tuple[list[str], str, str]] = {
    "init": (["TABLE", "-o", "first.yaml"], "pooled", "120 accounts on 4 dates, 480 rows"),
    "check": (["TABLE", "--spec", "spec.yaml"], "pooled", "120 accounts on 4 dates, 480 rows"),
    "run": (
        ["TABLE", "--spec", "spec.yaml", "--n", "5", "-q"],
        "pooled",
        "120 accounts on 4 dates, 480 rows",
    ),
    "simplify": (
        ["spec.yaml", "TABLE", "--features", "1", "--n", "3", "-q"],
        "pooled",
        "120 accounts on 4 dates, 480 rows",
    ),
    "try": (
        ["TABLE", "--spec", "spec.yaml", "--set", "x0=31", "--note", "why"],
        "pooled",
        "75 accounts on 4 dates, 300 rows",
    ),
    "desk": (
        ["TABLE", "--spec", "spec.yaml", "--no-open"],
        "pooled",
        "75 accounts on 4 dates, 300 rows",
    ),
    "refresh": (
        [
            *("--train", "accounts", "--at", AT, "--holdout", "later.parquet", "--holdout-at", AT),
            *("--spec", "spec.yaml", "--n", "3", "-q"),
        ],
        "pooled",
        "60 accounts on 4 dates",
    ),
    "record": (
        ["TABLE", "--spec", "spec.yaml", "--since", "2026-01-01", "--note", "n", "--author", "a"],
        "pooled",
        "Measured as",
    ),
    "calibrate": (["spec.yaml", "TABLE", "-o", "new.yaml"], "pooled", "rows left"),
    "drift": (
        ["TABLE", "--spec", "spec.yaml", "--against", "accounts", "--against-at", AT],
        "pooled",
        "120 accounts on 4 dates",
    ),
    "score": (
        ["TABLE", "--spec", "spec.yaml", "-o", "scored.parquet"],
        "pooled",
        "120 accounts, 480 rows scored",
    ),
    "bench": (["TABLE", "--spec", "spec.yaml", "--n", "3"], "pooled", "120 accounts, 480 rows"),
    "backtest": (
        ["TABLE", "--score-column", "health"],
        "pooled",
        "health on 120 accounts on 4 dates, 480 rows",
    ),
    "tiers": (
        ["spec.yaml", "TABLE", "--shares", "10,25,40,25"],
        "newest",
        f"Edges by the accounts of {LAST}, the newest date whose outcomes are over.",
    ),
    "list": (["TABLE", "--spec", "calibrated.yaml"], "newest", f"Accounts as of {LAST}"),
    "explain": (["a000001", "TABLE", "--spec", "spec.yaml"], "newest", f"Accounts as of {LAST}"),
    "grid": (["spec.yaml", "second.yaml", "TABLE"], "newest", f"Accounts as of {LAST}"),
    "diff": (["spec.yaml", "calibrated.yaml", "TABLE"], "newest", f"Accounts as of {LAST}"),
    "resume": (
        ["latest", "--data", "accounts", "-q", "--journal", "cut"],
        "recorded",
        "120 accounts on 4 dates, 480 rows",
    ),
    "replay": (["RUN", "--data", "accounts"], "recorded", "are the same"),
    "null": (["RUN", "--runs", "2", "--data", "accounts", "-q"], "recorded", "among all accounts"),
    "stability": (["RUN", "--runs", "2", "--data", "accounts", "-q"], "recorded", "of 4"),
    "segments": (
        ["RUN", "--segment", "plan", "--data", "accounts"],
        "recorded",
        "accounts searched",
    ),
    "decide": (["RUN", "--data", "accounts"], "recorded", "accounts on 4 dates"),
    "report": (["RUN", "--data", "accounts", "-o", "report.html"], "recorded", "report.html"),
    "export mlflow": (["RUN", "--data", "accounts"], "recorded", "report.html"),
    "walk": (["--data", "windowed", "--spec", "windows.yaml", "--n", "5", "-q"], "each", "3 dates"),
    "watch": (["--data", "windowed"], "each", f"accounts of {LAST}, live"),
    "export sql": (
        ["TABLE", "--spec", "spec.yaml", "--table", "accounts"],
        "columns",
        "FROM accounts",
    ),
    "export dbt": (
        ["TABLE", "--spec", "spec.yaml", "--relation", "accounts", "-o", "models"],
        "columns",
        "models",
    ),
}


RECORD = RunWriter.record


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))
    if not hasattr(group, "commands"):
        yield " ".join(words), group


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dates")
    number = pl.col("account_id").str.tail(1).cast(pl.Int64)
    plan = pl.when(number < 5).then(pl.lit("pro")).otherwise(pl.lit("free"))
    table = panels.accounts(ACCOUNTS, 3, dates=4).with_columns(plan=plan, health="x0")
    ends = pl.col("features_asof").dt.offset_by("2mo")
    for (day,), part in table.partition_by("features_asof", as_dict=True).items():
        for name, rows in (("accounts", part), ("windowed", part.with_columns(outcome_end=ends))):
            file = place / name / f"features_asof={day}" / "accounts.parquet"
            file.parent.mkdir(parents=True)
            rows.drop("features_asof").write_parquet(file)
    later = panels.accounts(60, 9, dates=4).with_columns(plan=pl.lit("pro"))
    renamed = pl.concat_str(pl.lit("n"), "account_id")
    later.with_columns(account_id=renamed).write_parquet(place / "later.parquet")
    own = panels.spec()
    own = own.model_copy(update={"split": own.split.model_copy(update={"holdout": 0.4})})
    (place / "spec.yaml").write_text(specs.to_yaml(own))
    second = own.model_copy(update={"model": "second"})
    (place / "second.yaml").write_text(specs.to_yaml(second))
    (place / "windows.yaml").write_text(specs.to_yaml(own))
    return place


def ran(*words: str, code: int | None = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert code is None or done.exit_code == code, done.output
    return " ".join(done.output.split())


def killed_before_its_end(writer: RunWriter, kind: str, fields: Any) -> None:
    if kind == "end":
        raise journals.Killed
    RECORD(writer, kind, fields)


@pytest.fixture(scope="module")
def searched(folder: Path) -> tuple[Path, str]:
    """Return the folder with a run over all dates, a spec of it that is live, and one cut off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("GTMAR_JOURNAL", raising=False)
        table = ["--data", "accounts", "--at", AT]
        ran("run", *table, "--spec", "spec.yaml", "--n", "20", "-q", "-o", "calibrated.yaml")
        ran("promote", "calibrated.yaml", "--note", "agreed")
        patch.setattr(RunWriter, "record", killed_before_its_end)
        with pytest.raises(journals.Killed):
            runs.run(Source("accounts", at=AT), "spec.yaml", limits=runs.Limits(20), journal="cut")
    text = (folder / "calibrated.yaml").read_text()
    found: str = re.findall(r"r\d{8}-\d{6}-[0-9a-f]{6}", text)[0]
    return folder, found


@pytest.fixture
def run_id(searched: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the run's id, in a copy: what one command writes isn't read by the next one, too."""
    folder, found = searched
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return found


def test_it_names_every_command_that_takes_a_table() -> None:
    known = {
        name
        for name, command in commands(get_command(app))
        if any("--at" in parameter.opts for parameter in command.params)
    }
    assert known == set(ASKED)


def test_the_guide_says_of_each_what_it_does() -> None:
    section = GUIDE.read_text("utf-8").partition("### Which command takes which dates")[2]
    rows = re.findall(r"^\| (`.*?) \| .* \| (\w+) \|$", section.partition("\n## ")[0], re.M)
    told = {name: kind for names, kind in rows for name in re.findall(r"`([^`]+)`", names)}
    assert told == {name: kind for name, (_, kind, _) in ASKED.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_command_says_which_dates_it_took(
    name: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A desk is closed as soon as it is open.
    monkeypatch.setattr("gtmar.desk.server.listen", lambda *_: None)
    words, kind, said = ASKED[name]
    filled = [
        each
        for word in words
        for each in (
            {"TABLE": ["--data", "accounts", "--at", AT], "RUN": [run_id]}.get(word, [word])
        )
    ]
    if "TABLE" in words:
        # Without --at nothing is pooled: refused with the dates, or the newest is said.
        at = filled.index("--at")
        bare = [*filled[:at], *filled[at + 2 :]]
        alone = CliRunner().invoke(app, [*name.split(), *bare])
        told = " ".join(alone.output.split())
        if kind == "newest" and name != "tiers":
            assert alone.exit_code == 0, alone.output
            assert said in told
        elif kind == "columns":
            assert alone.exit_code == 0, alone.output
            shutil.rmtree("models", ignore_errors=True)
        else:
            assert alone.exit_code == 3, alone.output
            assert f"--at {AT}" in told
    # A verdict has an exit code of its own; a fault or a misuse has others.
    with blank_charts() if "report" in said else nullcontext():
        answer = CliRunner().invoke(app, [*name.split(), *filled])
    assert answer.exit_code in (0, 10, 11), answer.output
    assert said in " ".join(answer.output.split()), answer.output
