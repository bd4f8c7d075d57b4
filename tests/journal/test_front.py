"""What is said of the best compromises: counted and priced anew from the journal's own rows."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from factories import make_accounts, make_spec
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.integrations.jsonl_import import import_jsonl
from gtmar.journal import tables
from gtmar.journal.catalog import Journal
from gtmar.journal.front import Front, front
from gtmar.journal.tables import Tables
from gtmar.spec import load

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

CAPTURE = "revenue_capture_at_20"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two searches on one table, one on another, one with tiers of fixed sizes, one guarded."""
    made = tmp_path_factory.mktemp("fronts")
    table, other = make_accounts(400, 7), make_accounts(300, 8)
    guard = [{"metric": CAPTURE, "min": 0.2}]

    def search(name: str, accounts: pl.DataFrame, seed: int = 1, **changes: Any) -> None:
        path = made / f"{accounts.height}.parquet"
        accounts.write_parquet(path)
        spec = make_spec(**changes)
        found = runs.run(
            path, spec, limits=runs.Limits(150), seed=seed, cold=True, journal=made / "journal"
        )
        names[name] = found.run_id

    names: dict[str, str] = {}
    search("elsewhere", other)
    search("guarded", table, guardrails=guard)
    search("sized", table, tiers={n: {"share": s} for n, s in (("A", 0.3), ("B", 0.7))})
    search("second", table, 2)
    search("first", table)
    (made / "names.json").write_text(json.dumps(names))
    return made


def opened(folder: Path, name: str, **options: Any) -> Front:
    with Journal(folder / "journal") as journal:
        return front(journal, run(folder, name), **options)


def run(folder: Path, name: str) -> str:
    return str(json.loads((folder / "names.json").read_text())[name])


def pairs(folder: Path, name: str, metric: str) -> list[tuple[str, float, float]]:
    """Experiments with both values, as DuckDB by itself reads them off the files."""
    run_id = run(folder, name)
    files = str(folder / "journal" / "experiments" / f"run_id={run_id}" / "*.parquet")
    text = (
        f"select '{run_id}/' || experiment_id, value_after, {metric} from read_parquet('{files}') "
        f"where outcome not in ('known', 'blocked') and {metric} is not null order by number"
    )
    with duckdb.connect() as shell:
        return shell.execute(text).fetchall()


def undefeated(found: list[tuple[str, float, float]]) -> dict[tuple[float, float], str]:
    return {
        (a, b): name
        for name, a, b in reversed(found)
        if not any(x >= a and y >= b and (x, y) != (a, b) for _, x, y in found)
    }


def ask(folder: Path, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(
        app, [*words, "--journal", str(folder / "journal")], env={"COLUMNS": "80"}
    )
    assert result.exit_code == code, result.output
    return result.output


def test_what_a_compromise_costs_and_brings_is_the_journals(folder: Path) -> None:
    found = opened(folder, "first", by="tier_separation")
    every = pairs(folder, "first", "tier_separation")
    best = undefeated(every)
    ordered = sorted(best, reverse=True)
    assert [(p["value"], p["metric_value"]) for p in found.points] == ordered
    assert len(ordered) > 4
    first, *rest = ordered
    # How much of what there is to have, for how much of what there is to lose.
    most = max(
        rest,
        key=lambda pair: (
            (pair[1] - first[1]) / (rest[-1][1] - first[1])
            - (first[0] - pair[0]) / (first[0] - rest[-1][0])
        ),
    )
    said = found.sentences
    assert said[0].startswith(
        f"Of {len(every)} experiments {len(best)} are best compromises of auc_roc_retain and "
    )
    assert said[1] == (
        f"The run's best has auc_roc_retain {first[0]:.4f} and tier_separation {first[1]:.4f}."
    )
    assert said[2] == (
        f"Giving up {first[0] - most[0]:.4f} of auc_roc_retain brings tier_separation to "
        f"{most[1]:.4f} (+{most[1] - first[1]:.4f}): {best[most]}."
    )
    assert "on the accounts searched" in said[-1]
    assert found.bend is not None
    assert found.bend["experiment"] == best[most]


@pytest.mark.slow
def test_the_command_proposes_a_checkout_that_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = ask(folder, "front", run(folder, "first"), "--by", "tier_separation")
    assert all(len(line) <= 80 for line in output.splitlines() if line.startswith("r2"))
    assert "\n" in output
    words = shlex.split(output[output.index("Next: ") :])[2:]
    found = opened(folder, "first", by="tier_separation")
    assert found.bend is not None
    assert words[:2] == ["checkout", found.bend["experiment"]]
    assert CliRunner().invoke(app, words).exit_code == 0
    lineage = load(tmp_path / "compromise.yaml").lineage
    assert lineage is not None
    assert f"{lineage.run}/{lineage.experiment}" == found.bend["experiment"]


def test_json_has_every_point_and_the_sentences(folder: Path) -> None:
    told = json.loads(ask(folder, "front", run(folder, "first"), "--json"))
    found = opened(folder, "first")
    assert told["metric"] == CAPTURE
    assert told["sentences"] == found.sentences
    assert [p["experiment"] for p in told["points"]] == [p["experiment"] for p in found.points]
    assert told["best"]["mark"] == "best"


@pytest.mark.slow
def test_all_runs_of_the_table_are_looked_at_and_no_other_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[set[str] | None, Any]] = []
    of = Tables.of

    def watched(self: Tables, asked: Any, **options: Any) -> Any:
        read.append((asked and set(asked), options["columns"]))
        return of(self, asked, **options)

    monkeypatch.setattr(Tables, "of", watched)
    found = opened(folder, "first", whole_table=True)
    alike = {run(folder, name) for name in ("first", "second", "guarded")}
    both = [each for n in ("first", "second", "guarded") for each in pairs(folder, n, CAPTURE)]
    assert {(p["value"], p["metric_value"]) for p in found.points} == set(undefeated(both))
    rows = {(asked and frozenset(asked), columns) for asked, columns in read if columns != ()}
    last = (*("run_id", "experiment_id", "number", "outcome", "value_after"), CAPTURE)
    assert (frozenset(alike), last) in rows
    assert not any(asked is None or run(folder, "elsewhere") in asked for asked, _ in rows)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [CAPTURE, "logo_retention_by_tier.A"])
def test_of_large_files_it_is_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    expected = opened(folder, "first", by=metric, whole_table=True)
    for limit in ("_SMALL_BYTES", "_SMALL_ALONE"):
        monkeypatch.setattr(tables, limit, 0)
    assert opened(folder, "first", by=metric, whole_table=True).rows.equals(expected.rows)


@pytest.mark.slow
def test_a_tier_that_has_other_sizes_is_said(folder: Path) -> None:
    found = opened(folder, "first", by="logo_retention_by_tier.A")
    sizes = [point["accounts"] for point in found.points]
    [said] = [text for text in found.sentences if "own edges" in text]
    assert f"from {min(sizes)} to {max(sizes)} accounts" in said
    heads, _ = found.cells(found.shown())
    assert "accounts" in heads
    # A rule keeps them as they are.
    kept = opened(folder, "sized", by="logo_retention_by_tier.A")
    assert not any("own edges" in text for text in kept.sentences)


@pytest.mark.slow
def test_what_broke_a_guardrail_is_left_out_and_what_was_not_asked_is_said(folder: Path) -> None:
    found = opened(folder, "guarded")
    said = " ".join(found.sentences)
    with Journal(folder / "journal") as journal:
        [row] = journal.query(
            "select count(*) filter (outcome = 'blocked') as broke from experiments "
            "where run_id = getvariable('run')",
            run=run(folder, "guarded"),
        ).to_dicts()
    assert row["broke"] > 1
    assert f"Left out: {row['broke']} that broke a guardrail; --blocked looks" in said
    lost = sum(point["outcome"] == "lose" for point in found.points)
    assert (f"Guardrails were not asked of {lost} of them" in said) == (lost > 0)
    assert not any(point["outcome"] == "blocked" for point in found.points)
    wide = opened(folder, "guarded", blocked=True)
    assert any(point["outcome"] == "blocked" for point in wide.points)
    assert "Left out" not in " ".join(wide.sentences)
    assert "Guardrails" not in " ".join(opened(folder, "first").sentences)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("auc_roc_retain", "is the objective already"),
        ("revenue_concentration_hhi", "no direction of"),
        ("nrr_by_tier", "is by tier and needs one"),
        ("nrr_by_tier.Z", 'has no tier "Z"'),
        ("nps", 'no metric "nps"'),
    ],
)
def test_what_nothing_can_be_held_against_is_refused(folder: Path, metric: str, said: str) -> None:
    assert said in ask(folder, "front", run(folder, "first"), "--by", metric, code=2)


@pytest.mark.slow
@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_without_revenue_it_is_held_against_retention(tmp_path: Path, orientation: str) -> None:
    accounts = make_accounts(300, 5).drop("mrr", "mrr_end", "actual_ltv")
    spec = make_spec(orientation=orientation)
    found = runs.run(accounts, spec, limits=runs.Limits(20), journal=tmp_path / "journal")
    with Journal(tmp_path / "journal") as journal:
        usual = front(journal)
        none = front(journal, by=CAPTURE)
    assert usual.metric == f"logo_retention_by_tier.{'A' if orientation == 'health' else 'D'}"
    assert usual.points
    assert none.sentences == [f"No experiment has a value of {CAPTURE}: {none.reason}."]
    assert "mrr" in str(none.reason)
    assert none.points == none.shown() == []
    assert none.best is none.bend is None
    output = ask(tmp_path, "front", "--by", CAPTURE)
    assert f"Next: gtmar review {found.run_id}" in output


@pytest.mark.slow
def test_an_imported_run_without_metrics_or_tiers_says_so(tmp_path: Path) -> None:
    lines = [
        {
            "experiment_id": f"exp_{number:05d}",
            "metric": "auc_roc_retain",
            "baseline_value": 0.6,
            "variant_value": 0.5,
            "outcome": "lose",
            "changes": {"nps": {"from": 5, "to": 5 + number}},
            "weights_snapshot": {"nps": 5 + number, "logins": 3},
            "metrics": {},
        }
        for number in (1, 2)
    ]
    file = tmp_path / "old.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    imported = import_jsonl(file, tmp_path / "journal").runs[-1]
    said = ask(tmp_path, "front", imported)
    assert "No experiment has a value of" in said
    assert f"Next: gtmar review {imported}" in said
    output = ask(tmp_path, "front", imported, "--by", "nrr_by_tier.A", code=2)
    assert 'has no tier "A"' in output


def test_a_run_without_any_experiment_is_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "journal", tmp_path / "journal")
    name = run(folder, "first")
    shutil.rmtree(tmp_path / "journal" / "experiments" / f"run_id={name}")
    for record in ("end.parquet", "seal"):
        (tmp_path / "journal" / "runs" / f"run_id={name}" / record).unlink()
    assert "has no experiment yet" in ask(tmp_path, "front", name, code=5)


def made_of(*pairs: tuple[float, float, bool, str | None], higher: bool = True) -> Front:
    """A front of invented rows."""
    rows = [
        {
            "run_id": "r1",
            "experiment_id": f"exp_{number:05d}",
            "value": value,
            "metric_value": amount,
            "on_front": on_front,
            "mark": mark,
            "outcome": "lose",
            "accounts": None,
            "alike": 1,
            "looked_at": 500,
            "broke": 0,
            "runs": 1,
        }
        for number, (value, amount, on_front, mark) in enumerate(pairs)
    ]
    return Front(
        run_id="r1",
        objective="auc_roc_retain",
        metric="nrr_at_20",
        higher_is_better=higher,
        metric_higher_is_better=True,
        whole_table=False,
        found=rows,
        guardrails=0,
        with_blocked=False,
        basis=None,
    )


def test_a_best_that_something_beats_is_said_and_trades_start_from_what_beats_it() -> None:
    found = made_of((0.8, 0.5, True, None), (0.8, 0.4, False, "best"), (0.7, 0.9, True, None))
    said = " ".join(found.sentences)
    assert "The run's best has auc_roc_retain 0.8000 and nrr_at_20 0.4000." in said
    assert "r1/exp_00000 is no worse in either: auc_roc_retain 0.8000 and nrr_at_20 0.5000." in said
    assert "Giving up 0.1000 of auc_roc_retain brings nrr_at_20 to 0.9000 (+0.4000)" in said
    assert [row[-1] for row in found.cells(found.shown())[1]] == ["", "best, beaten", "trade"]


def test_one_that_is_best_in_both_leaves_nothing_to_choose() -> None:
    found = made_of((0.8, 0.5, True, "best"), (0.7, 0.4, False, "start"))
    said = found.sentences
    assert said[0] == "Of 500 experiments one is best in both auc_roc_retain and nrr_at_20."
    assert "there is nothing to choose" in said[2]
    assert found.bend is None


def test_where_less_is_better_the_trade_is_told_the_same() -> None:
    found = made_of((0.1, 0.5, True, "best"), (0.3, 0.9, True, None), higher=False)
    assert "Giving up 0.2000 of auc_roc_retain brings nrr_at_20 to 0.9000" in found.sentences[2]
    beaten = replace(
        found,
        found=[
            row | {"on_front": on_front, "value": 0.3}
            for row, on_front in zip(found.found, (False, True), strict=True)
        ],
    )
    assert "r1/exp_00001 is no worse in either" in " ".join(beaten.sentences)


@pytest.mark.parametrize("count", [20, 21, 23, 400])
def test_twenty_are_shown_both_ends_and_all_that_is_marked_among_them(count: int) -> None:
    def mark(n: int) -> str | None:
        return {count // 3: "best", count // 3 + 1: "start"}.get(n)

    found = made_of(*((1 - n / count, (n / count) ** 0.5, True, mark(n)) for n in range(count)))
    shown = found.shown()
    numbers = [int(row["experiment_id"][4:]) for row in shown]
    assert len(numbers) == 20
    assert numbers == sorted(set(numbers))
    assert {0, count - 1, count // 3, count // 3 + 1} <= set(numbers)
    assert found.bend in shown
    gaps = [b - a for a, b in pairwise(numbers)]
    assert max(gaps) <= 3 * count / 20
