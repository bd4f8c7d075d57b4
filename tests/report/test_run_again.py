"""A run with a holdout's own table: what its report measures, and how it says to do it again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.journal.catalog import Journal
from gtmar.report.content import gather
from gtmar.runs.session import commands_of

NOW = make_accounts(400, seed=1)
LATER = make_accounts(300, seed=2).with_columns(account_id=pl.format("later-{}", "account_id"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    NOW.write_parquet("now.parquet")
    LATER.write_parquet("later.parquet")
    return tmp_path


def command(*words: object) -> Any:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done


def searched(**more: Any) -> runs.RunResult:
    return runs.run("now.parquet", make_spec(), limits=runs.Limits(20), **more)


@pytest.mark.slow
def test_revenue_is_that_of_the_accounts_in_the_holdout_s_own_table(here: Path) -> None:
    searched(holdout_file="later.parquet")
    with Journal("journal") as journal:
        table = gather(journal).table
    assert table is not None
    assert table.revenue is not None
    assert (table.revenue.part, table.revenue.accounts) == ("held out", 300)


@pytest.mark.slow
@pytest.mark.parametrize("gone", [True, False])
def test_no_revenue_of_other_accounts_where_the_holdout_s_table_is_gone(
    here: Path, gone: bool
) -> None:
    searched(holdout_file="later.parquet")
    if gone:
        (here / "later.parquet").unlink()
    else:
        LATER.head(200).write_parquet("later.parquet")
    with Journal("journal") as journal:
        table = gather(journal).table
    assert table is not None
    assert table.revenue is None
    assert table.revenue_absent is not None
    assert "later.parquet" in table.revenue_absent


@pytest.mark.slow
def test_the_commands_name_the_holdout_s_table_and_the_start(here: Path) -> None:
    found = searched(holdout_file="later.parquet", start="logistic")
    with Journal("journal") as journal:
        commands = gather(journal).commands
    last = shlex.split(commands[-1])
    assert last[last.index("--holdout-file") + 1] == "later.parquet"
    assert last[last.index("--start") + 1] == "logistic"
    assert "--holdout" not in last
    assert _done_again(commands[1:]) == found.digest


@pytest.mark.slow
def test_the_commands_repeat_queries_and_their_tables(here: Path) -> None:
    NOW.select("account_id").write_parquet("ids.parquet")
    (here / "now.sql").write_text("select * from accounts semi join ids using (account_id)")
    (here / "then.sql").write_text("select * from accounts where account_id <> 'it''s'")
    command("init", "--data", "now.parquet", "--holdout", "none", "-o", "spec.yaml")
    words = ["run", "--data", "now.parquet", "--query", "now.sql", "--source", "ids=ids.parquet"]
    words += ["--holdout-file", "later.parquet", "--holdout-file-query", "then.sql"]
    words += ["--spec", "spec.yaml", "--n", "20", "--cold", "--json"]
    first = json.loads(command(*words).stdout)
    assert first["holdout"]["accounts"] == 300
    with Journal("journal") as journal:
        commands = gather(journal).commands
    assert _done_again(commands[1:]) == first["digest"]


def test_versions_are_repeated() -> None:
    parameters = {"source_version": "3", "holdout_source": "lake", "holdout_source_version": "4"}
    start = {"run_id": "r1", "source": "lake", "objective": "auc", "seed": 0, "memory": None}
    last = commands_of({**start, "parameters": parameters})[-1]
    assert "--data lake --at-version 3 " in last
    assert "--holdout-file lake --holdout-file-at-version 4 " in last


def _done_again(commands: list[str]) -> str:
    """Do what a report says, in this folder; return the digest of the run that it makes."""
    for line in commands:
        words = shlex.split(line)
        if words[0] == "printf":
            Path(words[-1]).write_text(words[2], encoding="utf-8")
        elif words[1] == "run":
            return str(json.loads(command(*words[1:], "--cold", "--json").stdout)["digest"])
        else:
            command(*words[1:])
    raise AssertionError("no run among the commands")
