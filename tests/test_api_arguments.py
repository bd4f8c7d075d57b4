"""Arguments and results of every function of the package: kinds, refusals, frames."""

import inspect
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import typer
from factories import make_accounts, make_spec

import gtmar
from gtmar import api, runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.other_frames import in_kind_of
from gtmar.errors import AccountDataError, GtmarError, SpecError, UsageError

ACCOUNTS = make_accounts(150)
FUNCTIONS = sorted(n for n in api.__all__ if inspect.isfunction(getattr(api, n)))
SPECS = {"spec", "like", "other", "candidate", "against", "one", "two", "shadows", "path"}
TABLES = {"data", "holdout_file"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a run over the accounts, in a folder that holds their spec, too."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("spec.yaml").write_text(specs.to_yaml(make_spec()), "utf-8")
        Path("named").write_text(specs.to_yaml(make_spec()), "utf-8")
        Path("folder").mkdir()
        yield gtmar.run(ACCOUNTS, "spec.yaml", n=20, seed=1)


@pytest.fixture
def alone(made: gtmar.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gtmar.Run:
    """Return the run in a copy of its folder: a journal that others' runs grew is read longer."""
    shutil.copytree(Path.cwd(), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    journal = tmp_path / "copy" / Path(made.journal).name
    return gtmar.Run(replace(made.result, journal=str(journal)))


def good(name: str, made: gtmar.Run) -> dict[str, Any]:
    """Return arguments by which a function can be called."""
    table: dict[str, Any] = {"data": ACCOUNTS, "spec": "spec.yaml"}
    return {
        "account_list": table | {"spec": made},
        "check": table,
        "decide": {"candidate": made, "data": ACCOUNTS},
        "diff": {"one": "spec.yaml", "two": made},
        "explain": table | {"account": ACCOUNTS["account_id"][0]},
        "front": {"run": made},
        "init": {"data": ACCOUNTS},
        "load_spec": {"path": "spec.yaml"},
        "run": table | {"n": 2},
        "try_weights": table | {"weights": {"depth": 40}, "note": "why"},
        "watch": {"data": ACCOUNTS},
    }.get(name, table)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_whatever_is_no_argument_is_refused_by_its_name(name: str, made: gtmar.Run) -> None:
    function, there = getattr(gtmar, name), set(Path().rglob("*"))
    for parameter in inspect.signature(function).parameters:
        for odd in (object(), b"x"):
            with pytest.raises(UsageError) as refused:
                function(**{**good(name, made), parameter: odd})
            assert parameter in TABLES or f"{parameter} expects " in refused.value.message
    for parameter in SPECS & inspect.signature(function).parameters.keys():
        for odd in (5, {}, ACCOUNTS, "", "none.yaml", "r0/1", Path("folder"), "x" * 300, "a\0b"):
            given: Any = [odd] if parameter == "shadows" else odd
            with pytest.raises(GtmarError):
                function(**{**good(name, made), parameter: given})
    empty = (ACCOUNTS.clear(), ACCOUNTS.clear().to_pandas(), pl.DataFrame())
    tables = TABLES & inspect.signature(function).parameters.keys()
    for parameter in tables:
        for odd in (5, {}, [], "", "none.csv", Path("folder"), made, made.best, *empty):
            with pytest.raises(GtmarError):
                function(**{**good(name, made), parameter: odd})
    assert set(Path().rglob("*")) == there


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_odd_values_of_the_right_kind_end_in_errors_of_the_package_alone(
    name: str, alone: gtmar.Run
) -> None:
    odds: tuple[Any, ...] = (
        None,
        -1,
        7,
        float("nan"),
        True,
        {},
        {"a": 1},
        {"a": float("nan")},
        [],
        ["a"],
    )
    odds += ("", "spec.yaml", "a\0b", "x" * 300, "2024-13-01", Path("folder"), alone)
    # Each value is given to a third of the parameters, and each parameter a third of the values:
    # one that is taken is a whole decision, or a whole run. `GTMAR_DRAWS=1000` gives all to all.
    step = 1 if "GTMAR_DRAWS" in os.environ else 3
    defaults = {n: p.default for n, p in inspect.signature(getattr(gtmar, name)).parameters.items()}
    for number, (parameter, default) in enumerate(defaults.items()):
        for odd in odds[number % step :: step]:
            # A default is given by every call that leaves the parameter out.
            if odd is default and parameter not in good(name, alone):
                continue
            with suppress(GtmarError):
                getattr(gtmar, name)(**{**good(name, alone), parameter: odd})


def test_a_workbench_refuses_what_no_search_would_take() -> None:
    spec = make_spec()
    with pytest.raises(UsageError, match=r"seed must be .* got -1; holdout must be .* got 1"):
        gtmar.workbench(ACCOUNTS, spec, seed=-1, holdout=1)
    with pytest.raises(UsageError, match="weights are numbers by name, got a list"):
        gtmar.workbench(ACCOUNTS, spec).measure(["depth"])  # type: ignore[arg-type] # that is the point


def test_all_that_is_wrong_is_said_at_once_with_what_was_expected() -> None:
    with pytest.raises(UsageError) as refused:
        gtmar.run(ACCOUNTS, {"model": "x"}, n="many", no_worse="nrr", seed=True, journal=None)  # type: ignore[arg-type] # that is the point
    assert refused.value.message == (
        "spec expects a ScoringSpec, a Run, a text, a Path or None, "
        "got the dict {'model': 'x'}; no_worse expects a list of which each is a text, "
        'got "nrr"; n expects a whole number, got "many"; '
        "seed expects a whole number, got True; journal expects a text or a Path, got None"
    )
    assert refused.value.hint == "help(gtmar.run) says what each may be"
    with pytest.raises(UsageError, match=r"reading: columns\.mrr: Input should be 'text'"):
        gtmar.init(ACCOUNTS, reading={"columns": {"mrr": "euros"}})
    with pytest.raises(UsageError, match="outcomes: lost: Extra inputs"):
        gtmar.init(ACCOUNTS, outcomes={"lost": "churned"})


@pytest.mark.slow
def test_a_spec_may_be_given_in_every_way(made: gtmar.Run) -> None:
    best = f"{made.id}/{made.result.best_experiment}"
    scores = gtmar.score(ACCOUNTS, made.best)
    for same in (made, best, made.id):
        assert gtmar.score(ACCOUNTS, same).equals(scores)
    # In a journal of its own, where this run is the latest whatever other tests do.
    alone = gtmar.run(ACCOUNTS, "spec.yaml", n=20, seed=1, journal="alone")
    assert alone.best.weights == made.best.weights
    assert gtmar.score(ACCOUNTS, "latest", journal="alone").equals(scores)
    plain = gtmar.score(ACCOUNTS, gtmar.load_spec("spec.yaml"))
    for file in ("spec.yaml", Path("spec.yaml"), "named", f"{made.id}/start"):
        assert gtmar.score(ACCOUNTS, file).equals(plain)
    # What a run found is the experiment that it is, by whichever name.
    by_name = gtmar.diff("spec.yaml", best)
    for two in (made, made.best):
        found = gtmar.diff("spec.yaml", two)
        assert (found.weights, found.two.name) == (by_name.weights, best)
        assert found.metrics is not None
        assert by_name.metrics is not None
        assert found.metrics.equals(by_name.metrics)
    assert gtmar.diff(make_spec(model="new"), "spec.yaml", journal="none").one.name == "new"
    with pytest.raises(SpecError, match="Is a directory"):
        gtmar.score(ACCOUNTS, Path("folder"))


@pytest.mark.slow
def test_frames_come_back_in_the_kind_they_came_in(made: gtmar.Run) -> None:
    scores = gtmar.score(ACCOUNTS, made)
    table = ACCOUNTS.to_pandas().set_index(pl.Series(range(100, 250)).to_pandas())
    seen: Any = gtmar.score(table, made)
    assert type(seen).__module__.startswith("pandas")
    # So that what is put beside the table stands beside its own account.
    assert list(seen.index) == list(table.index)
    assert seen["score"].tolist() == scores["score"].to_list()
    assert gtmar.score(ACCOUNTS.to_arrow(), made).equals(scores.to_arrow())
    relation = duckdb.sql("select * from ACCOUNTS")  # a query, so the result is Polars'
    for data in (ACCOUNTS.lazy(), relation):
        assert gtmar.score(data, made).equals(scores)
    own = gtmar.account_list(ACCOUNTS, made, most=7)
    listed: Any = gtmar.account_list(table, made, most=7)
    assert isinstance(listed, runs.AccountList)
    assert list(listed.rows["account_id"]) == own.rows["account_id"].to_list()
    assert (listed.sentence, listed.as_json()) == (own.sentence, own.as_json())
    assert (listed._repr_html_(), repr(listed)) == (own._repr_html_(), repr(own))
    moved = gtmar.diff("spec.yaml", made, data=ACCOUNTS.to_arrow()).moved
    assert type(moved).__module__.startswith("pyarrow")
    judged: Any = gtmar.backtest(table, spec="spec.yaml")
    assert type(judged.red_and_renewed).__module__.startswith("pandas")
    assert in_kind_of(ACCOUNTS, own) is own


@pytest.mark.slow
def test_the_other_use_cases_are_those_of_the_commands(made: gtmar.Run) -> None:
    first = gtmar.init(ACCOUNTS.to_pandas(), keep=["depth"], tiers={"A": 0.5, "B": 0.5})
    assert specs.parse(first.text) == first.spec
    assert first.spec.tier_names == ("A", "B")
    checked = gtmar.check(ACCOUNTS, "spec.yaml")
    assert checked == runs.check(ACCOUNTS, "spec.yaml")
    one = ACCOUNTS["account_id"][0]
    assert gtmar.explain(one, ACCOUNTS, made) == runs.explain(str(one), ACCOUNTS, made.best)
    halves = gtmar.tiers(ACCOUNTS, "spec.yaml", rule="share", sizes={"A": 0.5, "B": 0.5})
    assert [line.share for line in halves.lines] == [0.5, 0.5]
    alone: tuple[dict[str, Any], ...] = ({"rule": "share"}, {"sizes": {"A": 1.0}})
    for part in (*alone, alone[0] | alone[1] | {"like": made}):
        with pytest.raises(UsageError, match="a rule and its sizes go together"):
            gtmar.tiers(ACCOUNTS, "spec.yaml", **part)
    with pytest.raises(AccountDataError, match="searched a data frame"):
        gtmar.decide(made)
    decided = gtmar.decide(made, data=ACCOUNTS, min_gain=0.5, author="A")
    assert decided.stated.min_gain == 0.5
    assert decided.verdict == "KEEP_INCUMBENT"
    with pytest.raises(UsageError, match="a spec is decided on against another, on a table"):
        gtmar.decide("spec.yaml")
    with pytest.raises(UsageError, match=r"without .as_of"):
        gtmar.decide(made, as_of="2026-01-01")


#: Options by another name in Python, where a notebook has another way, or none is needed.
NAMES = {"time_budget": "seconds", "outcome": "outcomes", "label": "labels", "versus": "other"}
NAMES |= {"shadow": "shadows", "run_id": "run", "settings": "weights"}
OF_FILES = {"output_path", "force", "quiet", "as_json", "spreadsheet_safe", "keep_file"}
ANOTHER_WAY = {
    *("at_version", "query", "other", "at"),  # a `Source`
    *("memory", "engine", "address", "shards", "own_rows"),  # an `Engine`
    *("parse", "nulls", "no_null_markers"),  # `reading`
    *("shares", "capacity", "lift"),  # `rule` and `sizes`
    "full",
}
COMMANDS = {"try_weights": "try", "account_list": "list", "workbench": "desk"}


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "load_spec"])
def test_what_a_command_takes_its_function_takes_with_the_same_default(name: str) -> None:
    command = typer.main.get_command(app).commands[COMMANDS.get(name, name)]  # type: ignore[attr-defined] # a group
    own = inspect.signature(getattr(gtmar, name)).parameters
    tables = tuple(f"{each}_" for each in ("holdout_file", "data"))
    lacking = []
    for option in command.params:
        known = NAMES.get(str(option.name), str(option.name))
        if option.name in OF_FILES | ANOTHER_WAY or known.startswith(tables):
            continue
        if known in own and not option.required:
            usual = own[known].default
            same = (option.default or None) == (usual or None)
            assert same or known in OWN_DEFAULTS, (known, usual)
        elif known not in own:
            lacking.append(known)
    assert not set(lacking) - LEFT_OUT.get(name, set())


#: What stands for a command's default in Python: nothing is written, or the run's own.
OWN_DEFAULTS = {"set_aside_to", "journal", "author", "proposer"}
#: What a function leaves to others: writing to files, above all.
LEFT_OUT = {
    "init": {"set_aside_to"},
    "score": {"since", "least", "tier_only", "history", "set_aside", "set_aside_to"},
    "account_list": {"set_aside_to"},
    "try_weights": {"keep"},
    "decide": {"output_path"},
    "workbench": {"author", "host", "port", "token", "browser", "read_only", "no_accounts"},
}
