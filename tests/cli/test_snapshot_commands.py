"""gtmar snapshot and gtmar bridge: what they say, and what the next command makes of it."""

import json
import re
import shlex
from datetime import date
from pathlib import Path

import forks
import histories
import polars as pl
import pytest
from terminal import in_terminal
from typer.testing import CliRunner

from gtmar.cli.app import app
from gtmar.journal.files import RunFiles
from gtmar.snapshots.bridge import bridge
from gtmar.snapshots.recipe import parse

RUNNER = CliRunner()


def gtmar(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    histories.random_history(5, accounts=300).write(tmp_path / "raw")
    text = histories.recipe_text(Path("raw")).replace("id: acct", "id: account_id")
    (tmp_path / "snapshots.yaml").write_text(text)
    return tmp_path


@pytest.mark.slow
def test_from_raw_files_to_a_reviewed_run_in_four_commands(folder: Path) -> None:
    said = gtmar("snapshot", "snapshots.yaml", "-o", "accounts")
    assert re.match(r"\d+ accounts of 2024-03-01; outcomes are known for it\.\n", said)
    [following] = re.findall(r"^Next: gtmar (init .*)$", said, re.MULTILINE)
    table = f"accounts/features_asof={histories.DAY}"
    assert following == f"init --data {table} -o spec.yaml"
    gtmar(*shlex.split(following))
    spec = Path("spec.yaml").read_text()
    assert "features_asof: features_until" in spec
    assert "outcome_end: outcome_end" in spec
    assert "made by recipe h" in gtmar("check", "--data", table, "--spec", "spec.yaml")
    gtmar("run", "--data", table, "--spec", "spec.yaml", "--n", 30, "-o", "best.yaml")
    assert "Next: gtmar decide" in gtmar("review")
    [run] = Path("journal").glob("runs/run_id=*")
    record = RunFiles(Path("journal"), run.name.partition("=")[2]).record("start")
    parameters = dict(record["parameters"])
    assert re.fullmatch(r"h[0-9a-f]{16}", parameters["recipe"])
    assert json.loads(parameters["recipe_conventions"])["rules"]["overlaps"] == "add"


@pytest.mark.slow
def test_the_newest_date_has_no_outcomes_and_says_so(folder: Path) -> None:
    said = gtmar("snapshot", "snapshots.yaml", "--date", "2025-05-01", "-o", "today")
    assert "outcomes are known for none yet: its window isn't over." in said
    assert "Next:" not in said
    found = json.loads(
        gtmar("snapshot", "snapshots.yaml", "--date", "2025-05-01", "-o", "today", "--json")
    )
    assert [(t["date"], t["outcomes"], t["change"]) for t in found["tables"]] == [
        ("2025-05-01", False, "same")
    ]


@pytest.mark.slow
def test_several_dates_are_several_tables_and_the_next_step_takes_one(folder: Path) -> None:
    words = ("--date", "2024-06-01", "--date", "2024-03-01")
    said = gtmar("snapshot", "snapshots.yaml", *words, "-o", "accounts")
    assert re.match(r"2 tables, \d+ rows in all; outcomes are known for 2 of 2 dates\.\n", said)
    together = "--data accounts --at 2024-03-01..2024-06-01"
    assert f"{together} searches them together" in said.replace("\n", " ")
    assert "Next: gtmar init --data accounts/features_asof=2024-06-01 -o spec.yaml" in said
    # All dates at once have each account twice, which no search takes unasked.
    gtmar("init", "--data", "accounts/features_asof=2024-03-01", "-o", "spec.yaml")
    assert "account_id" in gtmar("check", "--data", "accounts", "--spec", "spec.yaml", code=3)


@pytest.mark.slow
def test_the_select_is_printed_and_is_one(folder: Path) -> None:
    text = gtmar("snapshot", "snapshots.yaml", "--sql")
    assert text.startswith("with ")
    assert text.endswith(";\n")
    assert "date '2024-03-01'" in text
    assert "hint: -o accounts" in gtmar("snapshot", "snapshots.yaml", code=2)
    gtmar("snapshot", "snapshots.yaml", "--date", "1 March", "-o", "x", code=2)


@pytest.mark.slow
def test_a_terminal_shows_what_is_done_and_nobody_else(folder: Path) -> None:
    words = ("snapshot", "snapshots.yaml", "--date", "2024-03-01", "--date", "2024-06-01")
    shown = in_terminal(*words, "-o", "accounts", folder=folder)
    assert shown.exit_code == 0
    for step in ("reading subs", "reading events", "0 of 2", "1 of 2", "table of 2024-06-01"):
        assert step in shown.text, step
    # Nothing of it is left on the screen.
    assert not [line for line in shown.lines if "reading" in line]
    quiet = forks.gtmar(*words, "-o", "accounts", folder=folder)
    assert quiet.returncode == 0, quiet.stderr
    assert "reading" not in quiet.stdout + quiet.stderr
    assert "there already, the same" in " ".join(quiet.stdout.split())


# ---- the bridge -------------------------------------------------------------------------------


def test_the_bridge_is_what_plain_python_says(folder: Path) -> None:
    history = histories.random_history(5, accounts=300)
    found = bridge(parse(Path("snapshots.yaml").read_text()))
    assert found.sound
    rows = found.months.to_dicts()
    cents = {id(s): histories.cents_a_month(s) for s in history.subs}

    def at(day: date) -> dict[str, int]:
        held: dict[str, int] = {}
        for sub in history.subs:
            if histories.runs(sub, day):
                held[sub.acct] = held.get(sub.acct, 0) + cents[id(sub)]
        return held

    paid_before: set[str] = set()
    for row, later in zip(rows, [*rows[1:], None], strict=True):
        first = row["month"]
        end = (
            later["month"]
            if later
            else date(first.year + first.month // 12, first.month % 12 + 1, 1)
        )
        before, after = at(first), at(end)
        paid_before |= {a for a, c in before.items() if c > 0}
        moved = dict.fromkeys(("new", "expansion", "contraction", "churn", "reactivation"), 0)
        for acct in before.keys() | after.keys():
            one, two = before.get(acct, 0), after.get(acct, 0)
            if one == 0 and two > 0:
                moved["reactivation" if acct in paid_before else "new"] += two
            elif one > 0 and two == 0:
                moved["churn"] -= one
            elif two != one:
                moved["expansion" if two > one else "contraction"] += two - one
        assert {k: row[k] for k in moved} == moved, first
        assert (row["start"], row["end"]) == (sum(before.values()), sum(after.values()))
        assert row["start"] + sum(moved.values()) == row["end"]


def invoices(folder: Path, *, without: int | None = None) -> str:
    rows = [(f"a{n % 3}", date(2024, 1 + n // 3, 5), 100.25 + n) for n in range(12)]
    kept = [row for number, row in enumerate(rows) if number != without]
    schema = ["id", "day", "amount"]
    pl.DataFrame(kept, schema=schema, orient="row").write_parquet(folder / "invoices.parquet")
    books = pl.DataFrame(rows, schema=schema, orient="row").group_by_dynamic("day", every="1mo")
    books.agg(pl.col("amount").sum()).write_parquet(folder / "books.parquet")
    return """
name: paid
id: id
sources: {invoices: {data: invoices.parquet, account: id, at: day}}
dates: [2024-03-01]
window: 1 month
data_until: 2024-05-01
revenue: {transactions: {source: invoices, amount: amount}}
totals: {data: books.parquet, month: day, amount: amount}
features: {n: {count: invoices}}
"""


@pytest.mark.slow
def test_a_deleted_invoice_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("paid.yaml").write_text(invoices(tmp_path))
    said = gtmar("bridge", "paid.yaml")
    assert said.startswith("The bridge closes to the cent over 4 months: 330.75 MRR at the end of")
    invoices(tmp_path, without=4)
    said = gtmar("bridge", "paid.yaml", code=3)
    assert "2024-02: 208.50 here, 312.75 by the totals of the recipe: 104.25 less." in said.replace(
        "\n", " "
    )
    one = json.loads(gtmar("bridge", "paid.yaml", "--account", "a1", "--json", code=3))
    assert [(m["month"], m["churn"], m["reactivation"]) for m in one["months"]] == [
        ("2024-01", 0, 0),
        ("2024-02", -10125, 0),
        ("2024-03", 0, 10725),
        ("2024-04", 0, 0),
    ]


@pytest.mark.slow
def test_a_warehouse_gets_a_select_or_models(folder: Path) -> None:
    said = gtmar("snapshot", "snapshots.yaml", "--sql", "--dialect", "postgres")
    assert said.startswith('WITH "gtmar_raw_subs" AS (')
    assert said.endswith(";\n")
    said = gtmar("snapshot", "snapshots.yaml", "--sql", "--table", "subs=crm.subs")
    assert "FROM crm.subs" in said
    words = ("snapshot", "snapshots.yaml", "--dbt", "models")
    said = gtmar(*words)
    assert said.startswith("1 model in models, each with its tests: one a date.\n")
    assert "dbt build --select random_2024_03_01" in said
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        "random_2024_03_01.sql",
        "random_2024_03_01.yml",
    ]
    gtmar(*words, code=2)
    assert json.loads(gtmar(*words, "--force", "--json"))["models"] == ["random_2024_03_01"]
    gtmar(*words, "-o", "accounts", code=2)
    gtmar("snapshot", "snapshots.yaml", "-o", "accounts", "--dialect", "postgres", code=2)
    gtmar("snapshot", "snapshots.yaml", "-o", "accounts", "--force", code=2)
    assert not (folder / "accounts").exists()


# ---- a first recipe ------------------------------------------------------------------------------


def subscriptions(path: Path, *rows: str) -> None:
    periods = [f"{n:04},2023-{1 + n % 12:02}-10,2025-0{1 + n % 9}-01,{10 + n}" for n in range(60)]
    path.write_text("\n".join(["account_id,start_date,end_date,mrr", *periods, *rows]))


@pytest.mark.slow
def test_a_draft_says_what_it_took_its_sources_for_and_its_next_step_runs(folder: Path) -> None:
    subscriptions(Path("raw/subs.csv"))
    said = gtmar("snapshot", "--draft", "raw/subs.csv", "-o", "first.yaml")
    assert said.startswith(
        "A first recipe is in first.yaml: subscription periods in subs, ready to run once you read"
    )
    assert "check: subs: an end is taken for the first day that isn't paid for" in said
    [following] = re.findall(r"^Next: gtmar (.*)$", said, re.MULTILINE)
    assert following == "snapshot first.yaml -o accounts"
    assert "outcomes are known for" in gtmar(*shlex.split(following))
    before = Path("first.yaml").read_bytes()
    assert "is not replaced" in gtmar(
        "snapshot", "--draft", "raw/subs.csv", "-o", "first.yaml", code=2
    )
    assert Path("first.yaml").read_bytes() == before


@pytest.mark.slow
def test_a_draft_with_contradictions_asks_for_rules_first(folder: Path) -> None:
    subscriptions(Path("raw/subs.csv"), "0001,2023-03-01,,5")
    said = gtmar("snapshot", "--draft", "raw/subs.csv")
    # What was there is left as it is.
    assert "A first recipe is in snapshots-2.yaml" in said
    assert "subscription periods in subs, 1 contradiction for you to rule on." in said
    assert "rule: revenue: 1 subscription begins while another" in said
    [command] = re.findall(r"stands as a comment; then: gtmar (.*)$", said, re.MULTILINE)
    assert "overlaps: add" in gtmar(*shlex.split(command), code=3)
    recipe = Path("snapshots-2.yaml")
    text = recipe.read_text()
    recipe.write_text(
        text.replace("# rules:", "rules:").replace("#   overlaps: add", "  overlaps: add")
    )
    gtmar(*shlex.split(command))


def test_a_draft_as_json_has_everything(folder: Path) -> None:
    subscriptions(Path("raw/subs.csv"))
    facts = json.loads(gtmar("snapshot", "--draft", "mine=raw/subs.csv", "-o", "a.yaml", "--json"))
    assert facts["revenue"] == "subscription periods in mine"
    assert facts["recognised"] == {"mine": "subscription periods, mrr from start_date to end_date"}
    assert facts["dates_with_outcomes"] > 0
    assert facts["conflicts"] == []
    assert any("first day that isn't paid for" in text for text in facts["unsure"])


def test_a_draft_goes_onto_no_source_and_chooses_its_own_dates(folder: Path) -> None:
    subscriptions(Path("raw/subs.csv"))
    onto = gtmar("snapshot", "--draft", "raw/subs.csv", "-o", "raw/subs.csv", code=2)
    assert "not replaced" in onto or "no output goes onto an input" in onto
    assert "--draft chooses dates itself" in gtmar(
        "snapshot", "--draft", "raw/subs.csv", "--sql", code=2
    )
    assert "expected one recipe, got 2" in gtmar("snapshot", "a.yaml", "b.yaml", "-o", "x", code=2)


def test_one_command_prints_both_schemas(folder: Path) -> None:
    recipe = json.loads(gtmar("spec", "schema", "--recipe"))
    assert recipe["title"] == "gtmar snapshot recipe"
    assert "tables" in recipe["$defs"]["RawTable"]["properties"]
    assert json.loads(gtmar("spec", "schema"))["title"] != recipe["title"]
