"""Every next step that a command prints is run as printed, and destroys nothing."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
from blank_charts import blank_charts
from factories import make_accounts, make_spec
from short_searches import short_searches
from typer.testing import CliRunner, Result

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.cli.next_step import free_path, next_command
from gtmar.data import synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Exit codes that are no failure: done, and findings that are none.
FINE = (0, 10)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("GTMAR_JOURNAL", raising=False)
    monkeypatch.chdir(tmp_path)
    null_search = runs.null_search

    def few(run: str, *, searches: int, **more: Any) -> Any:
        return null_search(run, searches=min(searches, 3), **more)

    monkeypatch.setattr(runs, "null_search", few)
    # No next step depends on how far a search as printed gets, or on how many there are.
    with short_searches():
        yield


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def invoke(words: list[str]) -> Result:
    """Run a command; a page's charts are left blank."""
    with blank_charts() if words[0] == "report" else nullcontext():
        return CliRunner().invoke(app, words)


def step(words: list[str], folder: Path) -> list[str] | None:
    """Run a command; return the words of the next one, and see that no file was written over."""
    before = hashes(folder)
    result = invoke(words)
    assert result.exit_code in FINE, f"{shlex.join(words)}\n{result.output}"
    after = hashes(folder)
    # Nothing written over or taken away; the next command's own journal only grows.
    assert {name: after.get(name) for name in before} == before, shlex.join(words)
    lines = [x for x in result.stdout.splitlines() if x.startswith("Next: ")]
    assert len(lines) <= 1
    if not lines:
        return None
    first, *rest = shlex.split(lines[0].removeprefix("Next: "))
    assert first == "gtmar"
    return rest


def chain(words: list[str], folder: Path, most: int) -> list[list[str]]:
    """Run a command and those that each proposes, so many at most.

    Return all of them, and the one that the last proposes.
    """
    done: list[list[str]] = []
    following: list[str] | None = words
    while following is not None and len(done) < most:
        done.append(following)
        following = step(following, folder)
    return done if following is None else [*done, following]


def names(commands: list[list[str]]) -> list[str]:
    return [words[0] for words in commands]


def accounts(folder: Path, name: str = "accounts.parquet", n: int = 400) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    synthetic.generate("health_score", accounts=n).write_parquet(path)
    return path


WAY = ["init", "check", "run", "review", "decide", "promote", "show", "checkout", "run"]
#: The steps that have words on where the data is; a plain file and a version of a table go on, to a
#: second search.
FIRST = 3


def start_of(sources: list[str]) -> list[str]:
    return ["init", *sources, "-o", "first spec.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["accounts.parquet", 'my data/it\'s "all" of $HOME.parquet', "-accounts.parquet"]
)
def test_the_whole_way_from_a_file(name: str, tmp_path: Path) -> None:
    accounts(tmp_path, name)
    most = len(WAY) if name == "accounts.parquet" else FIRST
    done = chain(start_of(["--data", name]), tmp_path, most)
    assert names(done)[: FIRST + 1] == WAY[: FIRST + 1]
    for words in done[:FIRST]:
        assert any(word in (name, f"--data={name}") for word in words)
    assert "first spec.yaml" in done[2]


@pytest.mark.slow
def test_the_whole_way_from_a_query_and_its_tables(tmp_path: Path) -> None:
    table = pl.read_parquet(accounts(tmp_path))
    table.select("account_id", "session_depth").write_parquet("usage.parquet")
    table.drop("session_depth").write_parquet("crm.parquet")
    Path("my query.sql").write_text(
        "select accounts.*, usage.session_depth from accounts join usage using (account_id)"
    )
    given = ["--data", "crm.parquet", "--query", "my query.sql", "--source", "usage=usage.parquet"]
    done = chain(start_of(given), tmp_path, FIRST)
    assert names(done) == WAY[: FIRST + 1]
    for words in done[1:3]:
        assert [word for word in words if word in given] == given
    # The query's text is on record, its file isn't: no command is made up that would lack it.
    spec = next(w for w in done[2] if w.endswith(".yaml"))
    score = ["score", *given, "--spec", spec, "-o", "scored.parquet"]
    explained = chain(score, tmp_path, 2)
    assert names(explained)[:2] == ["score", "explain"]
    assert [word for word in explained[1] if word in given] == given


@pytest.mark.slow
def test_the_whole_way_from_duckdb(tmp_path: Path) -> None:
    table = pl.read_parquet(accounts(tmp_path))
    with duckdb.connect("crm.db") as connection:
        connection.register("frame", table)
        connection.execute('create table "my accounts" as select * from frame')
    data = "duckdb:///crm.db?table=my%20accounts"
    done = chain(start_of(["--data", data]), tmp_path, FIRST)
    assert names(done) == WAY[: FIRST + 1]
    assert data in done[2]


@pytest.mark.slow
def test_the_whole_way_from_a_version_of_a_delta_table(tmp_path: Path) -> None:
    pytest.importorskip("deltalake")
    table = pl.read_parquet(accounts(tmp_path))
    table.write_delta("lake")
    table.head(300).write_delta("lake", mode="overwrite")
    done = chain(start_of(["--data", "lake", "--at-version", "0"]), tmp_path, len(WAY))
    assert names(done)[: FIRST + 1] == WAY[: FIRST + 1]
    for words in done[1:]:
        if words[0] in ("check", "run"):
            assert words[words.index("--at-version") + 1] == "0"


@pytest.mark.slow
@pytest.mark.parametrize("by", ["option", "environment"])
def test_another_journal_is_the_next_steps_too(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts(tmp_path)
    words = ["check", "--data", "accounts.parquet"]
    if by == "option":
        words += ["--journal", "my journal"]
    else:
        monkeypatch.setenv("GTMAR_JOURNAL", "my journal")
    # Where the environment names it, a decision's words are any journal's.
    done = chain(words, tmp_path, 4 if by == "option" else 3)
    assert names(done)[:4] == ["check", "run", "review", "decide"]
    assert all(("--journal" in words) is (by == "option") for words in done)
    assert (tmp_path / "my journal").is_dir()
    assert not (tmp_path / "journal").exists()


@pytest.mark.slow
def test_dates_and_accounts_left_out_are_kept(tmp_path: Path) -> None:
    table = pl.read_parquet(accounts(tmp_path))
    money = [c for c in ("retained_6mo", "churned", "mrr_end", "actual_ltv") if c in table.columns]
    gone = pl.int_range(pl.len()) < 5
    table.with_columns(
        pl.when(gone).then(None).otherwise(pl.col(c)).alias(c)
        for c in [*money, *(c for c in ("activated", "won_back") if c in table.columns)]
    ).write_csv("accounts.csv")
    spec = str(EXAMPLES / "health_score" / "spec.yaml")
    words = ["check", "--data", "accounts.csv", "--spec", spec, "--as-of", "2026-01-31"]
    words += ["--metric", "revenue_capture_at_20", "--drop-unlabelled"]
    _, run, *_ = chain(words, tmp_path, 2)
    for option, value in zip(words[1:-1:2], words[2:-1:2], strict=True):
        assert run[run.index(option) + 1] == value
    assert "--drop-unlabelled" in run


@pytest.mark.slow
@pytest.mark.parametrize("first", ["init", "check"])
def test_how_cells_are_read_stands_in_the_spec_from_then_on(first: str, tmp_path: Path) -> None:
    table = pl.read_parquet(accounts(tmp_path))
    euros = pl.format("{} \u20ac", pl.col("mrr").round(2))
    written = table.with_columns(mrr=euros.str.replace(".", ",", literal=True))
    written.write_csv("accounts.csv", separator=";")
    words = [first, "--data", "accounts.csv", "--parse", "mrr=money-comma"]
    done = chain(words, tmp_path, 3)
    way = WAY if first == "init" else ["check", *WAY]
    assert names(done) == way[:4]
    assert [each[0] for each in done if "--parse" in each] == way[: way.index("init") + 1]


@pytest.mark.slow
def test_no_output_is_proposed_that_is_there(tmp_path: Path) -> None:
    accounts(tmp_path)
    runs.run("accounts.parquet", EXAMPLES / "health_score" / "spec.yaml", limits=runs.Limits(30))
    for name in ("best.yaml", "spec.yaml", "new.yaml", "scored.parquet", "report.html"):
        Path(name).write_text("somebody's")
    chain(["check", "--data", "accounts.parquet"], tmp_path, 2)
    assert step(["show", "0"], tmp_path) is not None
    assert str(free_path("best.yaml")) == "best-3.yaml"
    back = step(
        ["backtest", "--data", "accounts.parquet", "--score-column", "session_depth"], tmp_path
    )
    assert back is not None
    assert back[-2:] == ["-o", "spec-2.yaml"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    path = accounts(folder)
    plan = pl.Series("plan", ["free", "paid"] * 200)
    pl.read_parquet(path).with_columns(plan).write_parquet(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (1, 2):
            words = ["run", "--data", path.name, "--spec", str(EXAMPLES / "health_score/spec.yaml")]
            words += ["--n", "30", "--seed", str(seed), "-q", "-o", f"best{seed}.yaml"]
            result = CliRunner().invoke(app, [*words, "--journal", "the journal"])
            assert result.exit_code == 0, result.output
    return folder


J = ["--journal", "the journal"]
D = ["--data", "accounts.parquet"]
#: Next steps that were run where the command before had written nothing: many lead to the same.
RUN_BEFORE: set[tuple[str, ...]] = set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["null", "--runs", "3", *J],
        ["stability", "--runs", "3", *J],
        ["segments", "--segment", "plan", *J],
        ["segments", *D, "--segment", "plan", *J],
        ["decide", "-o", "the folder", *J],
        ["report", *D, "-o", "page.html", *J],
        ["report", "--history", "-o", "all.html", *J],
        ["log", *J],
        ["best", *J],
        ["front", *J],
        ["front", "--by", "nrr_by_tier.A", "--all", *J],
        ["show", "0", *J],
        ["lineage", "best2.yaml", *J],
        ["sql", *J],
        ["checkout", "0", "-o", "start.yaml", *J],
        ["simplify", "latest", "--features", "2", "--n", "20", "-q", "-o", "few.yaml", *J],
        ["simplify", "best2.yaml", *D, "--features", "2", "--n", "20", "-q", "-o", "few.yaml", *J],
        ["tiers", "best2.yaml", *D, "--shares", "10,25,40,25", "-o", "sized.yaml", *J],
        ["list", *D, "--spec", "best2.yaml"],
        ["promote", "best2.yaml", "--note", "so", *J],
        ["try", *D, "--spec", "best2.yaml", "--set", "FEATURE=3", "--note", "so", *J],
        ["explain", "acct-00001", *D, "--spec", "best2.yaml", *J],
        ["explain", "acct-00001", *D, "--spec", "best2.yaml"],
        ["explain", "acct-00001", *D, "--spec", "best2.yaml", "--vs", "best1.yaml", *J],
        ["score", *D, "--spec", "best2.yaml", "-o", "some scores.parquet"],
        ["backtest", *D, "--spec", "best2.yaml", *J],
        ["bench", *D, "--n", "50", "--rounds", "1"],
        ["bench", "--accounts", "500", "--n", "50", "--rounds", "1"],
    ],
    ids=lambda words: " ".join(words).replace("the journal", "J"),
)
def test_what_each_command_proposes(
    words: list[str], searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    weight = next(iter(specs.load("best2.yaml").weights))
    words = [word.replace("FEATURE", weight) for word in words]
    before = hashes(Path())
    proposed = step(words, tmp_path / "copy")
    assert proposed is not None
    if "--journal" in words and proposed[0] not in ("score", "init", "spec"):
        assert proposed[proposed.index("--journal") + 1] == "the journal"
    nothing_written = hashes(Path()) == before
    if nothing_written and tuple(proposed) in RUN_BEFORE:
        return
    step(proposed, tmp_path / "copy")
    if nothing_written:
        RUN_BEFORE.add(tuple(proposed))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["simplify", "checkout"])
def test_a_later_table_that_was_the_holdout_is_named(command: str, tmp_path: Path) -> None:
    accounts(tmp_path, n=400)
    accounts(tmp_path, "later.parquet", n=300)
    words = ["run", *D, "--spec", str(EXAMPLES / "health_score/spec.yaml"), "--n", "10", "-q"]
    result = CliRunner().invoke(app, [*words, "--holdout-file", "later.parquet"])
    assert result.exit_code == 0, result.output
    less = ["--features", "2", "--n", "10", "-q"] if command == "simplify" else []
    proposed = step([command, "latest", *less, "-o", "new.yaml"], tmp_path)
    assert proposed is not None
    assert proposed[proposed.index("--data") + 1] == "accounts.parquet"
    assert proposed[proposed.index("--holdout-file") + 1] == "later.parquet"
    step(proposed, tmp_path)


@pytest.mark.slow
def test_compare_proposes_the_second(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(searched)
    one, two = sorted(p.name.partition("=")[2] for p in Path("the journal/runs").iterdir())
    proposed = step(["compare", one, two, *J], searched)
    assert proposed == ["review", two, *J]
    step(proposed, searched)


@pytest.mark.slow
def test_after_a_try_bare_commands_mean_the_last_search(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    before = sorted(p.name.partition("=")[2] for p in Path("the journal/runs").iterdir())
    name, weight = next(iter(specs.load("best2.yaml").weights.items()))
    done = ["try", *D, "--spec", "best2.yaml", "--set", f"{name}={weight - 1}", "--note", "so", *J]
    step(done, tmp_path / "copy")
    started = {
        run: pl.read_parquet(f"the journal/runs/run_id={run}/start.parquet")["started_at"].item()
        for run in before
    }
    last = max(before, key=lambda run: started[run])
    for words in (["review"], ["report", "-o", "r.html"], ["decide"], ["show", "0"], ["best"]):
        result = invoke([*words, *J, "--json"])
        assert result.exit_code in FINE, result.output
        assert last in result.stdout or words == ["best"], words
    result = CliRunner().invoke(app, ["checkout", "0", "-o", "c.yaml", *J])
    assert f"{last}/exp_00000" in " ".join(result.stdout.split())
    result = CliRunner().invoke(app, ["sql", "review", *J, "--json"])
    assert last in result.stdout


def test_secrets_are_left_out_and_odd_words_are_quoted() -> None:
    words = next_command(
        "check",
        data="s3://key:secret@bucket/a b.parquet?token=x",
        other=["usage=s3://key:secret@bucket/u.parquet", "plain=it's.csv"],
        spec="-spec.yaml",
    )
    assert "secret" not in words
    assert "token" not in words
    assert shlex.split(words) == [
        *("gtmar", "check", "--data", "s3://bucket/a b.parquet"),
        *("--source", "usage=s3://bucket/u.parquet", "--source", "plain=it's.csv"),
        "--spec=-spec.yaml",
    ]
    assert next_command("show", "-x", journal="j") == "gtmar show --journal j -- -x"


@pytest.mark.slow
def test_leaving_rows_out_is_not_proposed_where_most_are_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = make_accounts(200)
    (tmp_path / "spec.yaml").write_text(specs.to_yaml(make_spec()), "utf-8")
    for broken, proposed in ((20, True), (40, False), (120, False), (200, False)):
        table.with_columns(
            mrr=pl.when(pl.int_range(200) < broken).then(-1.0).otherwise(pl.col("mrr"))
        ).write_parquet("a.parquet")
        words = ["check", "--data", "a.parquet", "--spec", "spec.yaml"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 3, done.output
        assert ("--set-aside" in done.output) is proposed, done.output
