"""The opening story: each of its questions in one command and in one SQL query."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.cli.history import _print_went_live
from gtmar.data import synthetic
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.runs.promote import WentLive

NOTE = "VP of CS: alerts are noise"
FEATURE = "alert_created"


@dataclass(frozen=True)
class Story:
    """A journal of three searches and two changes by people, and what is known of it."""

    folder: Path
    searches: tuple[runs.RunResult, ...]
    #: The first change: `RUN/exp_00001`, the weight before, its row.
    tried: str
    before: int
    #: What commands said, by their words.
    said: dict[tuple[str, ...], Result] = field(default_factory=dict)

    def ask(self, *words: str, code: int = 0) -> str:
        """Run a command, once for all tests: none changes the journal."""
        if words not in self.said:
            journal = ["--journal", str(self.folder / "journal")]
            self.said[words] = CliRunner().invoke(app, [*words, *journal])
        result = self.said[words]
        assert result.exit_code == code, result.output
        return result.output

    def facts(self, *words: str) -> Any:
        return json.loads(self.ask(*words, "--json"))

    def sql(self, name: str, **values: Any) -> list[dict[str, Any]]:
        with Journal(self.folder / "journal") as journal:
            return journal.sql(name, **values).to_dicts()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    table, journal = folder / "accounts.parquet", folder / "journal"
    synthetic.generate("health_score", accounts=500, seed=4).write_parquet(table)
    spec = Path(__file__).parents[1] / "golden" / "fixed_edges.yaml"
    start = specs.load(spec)
    (folder / "spec.yaml").write_text(specs.to_yaml(start), "utf-8")
    runs.record(start, since="2026-01-31", note="set up", author="RevOps", journal=journal)
    searches = [
        runs.run(
            table,
            start,
            limits=runs.Limits(60),
            seed=seed,
            journal=journal,
            cold=True,
            note=f"search {seed}",
        )
        for seed in (1, 2, 3)
    ]
    best = searches[0].spec
    (folder / "best.yaml").write_text(specs.to_yaml(best), "utf-8")
    before = best.weights[FEATURE]
    words = f"try --data {table} --spec {folder / 'best.yaml'} --journal {journal}".split()
    words += ["--set", f"{FEATURE}=0", "--note", NOTE, "--author", "CS ops"]
    words += ["--keep", "-o", str(folder / "changed.yaml")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    with Journal(journal) as opened:
        # The change is no search, which is what a journal's run is where none is named.
        assert opened.run_id() == searches[-1].run_id
        [run_id] = opened.query("select run_id from runs where kind = 'human'")["run_id"]
        tried = f"{run_id}/exp_00001"
    runs.promote(
        specs.load(folder / "changed.yaml"),
        note="asked for by the VP of CS",
        author="CS ops",
        expect="fewer false alarms",
        journal=journal,
    )
    changes = {FEATURE: start.weights[FEATURE] + 1}
    runs.try_weights(table, start, changes, note="a little more", author="RevOps", journal=journal)
    return Story(folder, tuple(searches), tried, before)


@pytest.mark.slow
def test_who_changed_the_weight_when_and_why(story: Story) -> None:
    said = story.ask("log")
    assert f"{NOTE} (CS ops)\n  {FEATURE}: {story.before} -> 0\n" in said
    entries = [e for e in story.facts("log")["log"] if e["reference"] == story.tried]
    # The change, and its going live.
    assert [e["kind"] for e in entries] == ["promotion", "human"]
    assert (entries[1]["author"], entries[1]["note"]) == ("CS ops", NOTE)
    row = next(r for r in story.sql("weight_history", feature=FEATURE) if r["kind"] == "human")
    assert (row["author"], row["note"]) == ("CS ops", NOTE)
    assert (row["before"], row["after"]) == (story.before, 0)


@pytest.mark.slow
def test_what_it_was_before(story: Story) -> None:
    assert f"Change: {FEATURE}: {story.before} -> 0" in story.ask("show", story.tried)
    [row] = story.sql("weight_history", feature=FEATURE)[:1]
    assert row["kind"] in ("record", "search")
    run_id = story.tried.partition("/")[0]
    [difference] = story.sql(
        "weight_difference",
        run=run_id,
        experiment="exp_00000",
        other=run_id,
        other_experiment="exp_00001",
    )
    assert (difference["feature"], difference["one"], difference["two"]) == (
        FEATURE,
        story.before,
        0,
    )


@pytest.mark.slow
def test_a_value_says_on_which_accounts_it_was_measured(story: Story) -> None:
    on = r"auc_roc_retain .* on the accounts searched"
    for words in (["log"], ["show", story.tried], ["best"]):
        assert re.search(on, story.ask(*words)), words
    assert "All of it was measured on the accounts searched" in story.ask("front")
    assert re.search(on, story.ask("lineage", str(story.folder / "changed.yaml")))
    assert "What it did to the metrics, on the accounts searched" in story.ask("show", story.tried)


@pytest.mark.slow
def test_whether_it_was_measured_and_helped(story: Story) -> None:
    facts = story.facts("show", story.tried)
    assert facts["outcome"] == "lose"
    assert facts["value_after"] < facts["value_before"] == story.searches[0].best_value
    metrics = {row["metric"]: row for row in facts["effect"]}
    assert metrics["auc_roc_retain"]["reading"] == "worse"
    assert re.search(
        r"auc_roc_retain .* -> .* searched: worse, not kept\.", story.ask("show", story.tried)
    )
    run_id = story.tried.partition("/")[0]
    rows = story.sql(
        "difference",
        run=run_id,
        experiment="exp_00000",
        other=run_id,
        other_experiment="exp_00001",
    )
    assert {row["metric"]: row for row in rows} == metrics
    moved = story.facts(
        "diff", f"{run_id}/start", story.tried, "--data", str(story.folder / "accounts.parquet")
    )
    change = {"weight": FEATURE, "one": story.before, "two": 0, "earned_by": None}
    assert moved["weights"] == [change]
    assert sum(move["accounts"] for move in moved["moves"]) == len(moved["moved"]) > 0


@pytest.mark.slow
def test_which_version_was_best(story: Story) -> None:
    best = max(story.searches, key=lambda run: run.best_value or 0)
    [top, *_] = story.facts("best")
    assert (top["run_id"], top["experiment_id"]) == (best.run_id, best.best_experiment)
    assert top["value"] == best.best_value
    assert f"{best.run_id}/{best.best_experiment}" in story.ask("best")
    [row, *_] = story.sql("leaderboard")
    assert (row["run_id"], row["experiment_id"]) == (best.run_id, best.best_experiment)
    # By any metric, over everything that was kept.
    by_capture = story.facts("best", "--metric", "revenue_capture_at_20", "--most", "1")
    with Journal(story.folder / "journal") as journal:
        [highest] = journal.query(
            "select max(revenue_capture_at_20) as value from experiments "
            "where outcome in ('baseline', 'win')"
        ).to_dicts()
    assert by_capture[0]["value"] == highest["value"]


@pytest.mark.slow
def test_take_me_back(story: Story, tmp_path: Path) -> None:
    back = tmp_path / "back.yaml"
    first = story.searches[0]
    story.ask("checkout", f"{first.run_id}/{first.best_experiment}", "-o", str(back))
    spec = specs.load(back)
    assert spec.weights == first.weights
    assert spec.lineage is not None
    assert (spec.lineage.run, spec.lineage.experiment) == (first.run_id, first.best_experiment)
    chain = story.facts("lineage", str(story.folder / "changed.yaml"))
    assert f"{chain[0]['run_id']}/{chain[0]['experiment_id']}" == story.tried
    assert chain[-1]["run_id"] == first.run_id
    assert chain[-1]["experiment_id"] == "exp_00000"
    run_id, _, experiment = story.tried.partition("/")
    rows = story.sql("lineage", run=run_id, experiment=experiment)
    assert [row["experiment_id"] for row in rows] == [row["experiment_id"] for row in chain]
    said = story.ask("lineage", str(story.folder / "changed.yaml"))
    assert f"{first.wins} changes kept" in said or first.wins <= 1


@pytest.mark.slow
def test_what_is_live_since_when_and_by_whom(story: Story) -> None:
    [live] = story.facts("log")["live"]
    assert (live["author"], live["note"]) == ("CS ops", "asked for by the VP of CS")
    assert live["expect"] == "fewer false alarms"
    assert live["experiment"] == story.tried
    assert "asked for by the VP of CS (CS ops)" in story.ask("log").splitlines()[0]
    assert story.sql("live")[0]["event_id"] == live["event_id"]
    newest, first = story.sql("live_history")
    assert newest["until"] is None
    assert first["until"] == newest["since"]
    assert (first["author"], f"{first['since']:%Y-%m-%d}") == ("RevOps", "2026-01-31")


@pytest.mark.slow
def test_the_journal_of_the_story_is_sound(story: Story) -> None:
    assert verify(story.folder / "journal").sound
    for name in ("human_machine", "holdout_looks", "acceptance"):
        assert story.sql(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "r1999"], 5, 'has no run "r1999"'),
        (["show", "9999"], 5, "has no experiment exp_09999"),
        (["show", "r2/x"], 5, "stands for"),
        (["checkout", "0", "-o", "{folder}/spec.yaml"], 2, "is not replaced"),
        (["best", "--metric", "nps"], 2, 'no metric "nps"'),
        (["promote", "{folder}/changed.yaml", "--note", "again"], 2, "is live already"),
        (["promote", "{folder}/none.yaml", "--note", "n"], 3, "none.yaml"),
        (["lineage", "{folder}/spec.yaml"], 2, "has no lineage"),
        (["diff", "{folder}/none.csv", "1"], 3, "none.csv"),
    ],
)
def test_what_isnt_there_is_said_and_nothing_is_written(
    story: Story, words: list[str], code: int, said: str
) -> None:
    digest = verify(story.folder / "journal").digest
    output = story.ask(*(word.format(folder=story.folder) for word in words), code=code)
    assert said in output
    assert verify(story.folder / "journal").digest == digest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "nps"], 'got "nps"'),
        (["--set", f"{FEATURE}=1.5", "--set", "=3"], f'got "{FEATURE}=1.5", "=3"'),
        (["--set", f"{FEATURE}=1", "--keep"], "--keep and -o go together"),
    ],
)
def test_a_change_that_cant_be_read_is_refused(story: Story, words: list[str], said: str) -> None:
    asked = ["try", "--data", "none.csv", "--spec", str(story.folder / "spec.yaml"), "--note", "n"]
    assert said in story.ask(*asked, *words, code=2)


def test_diff_needs_no_journal_for_two_files(story: Story, tmp_path: Path) -> None:
    files = [str(story.folder / "spec.yaml"), str(story.folder / "changed.yaml")]
    asked = ["diff", *files, "--journal", str(tmp_path / "none")]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "Weights that differ" in result.output
    assert "neither was measured" in result.output


@pytest.mark.slow
def test_diff_finds_a_file_that_a_run_started_from(story: Story) -> None:
    first = story.searches[0]
    facts = story.facts("diff", str(story.folder / "spec.yaml"), first.run_id)
    assert facts["unmeasured"] is None
    assert any(row["metric"] == "auc_roc_retain" for row in facts["metrics"])


@pytest.mark.slow
def test_log_marks_values_on_the_binary_basis(tmp_path: Path) -> None:
    def logged(name: str, *dropped: str) -> str:
        table, journal = tmp_path / f"{name}.parquet", tmp_path / name
        accounts = synthetic.generate("health_score", accounts=500, seed=4)
        accounts.drop(*dropped).write_parquet(table)
        spec = Path(__file__).parents[1] / "golden" / "fixed_edges.yaml"
        runs.run(table, spec, metric="nrr_by_tier.A", limits=runs.Limits(20), journal=journal)
        result = CliRunner().invoke(app, ["log", "--journal", str(journal)])
        assert result.exit_code == 0, result.output
        assert "nrr_by_tier.A" in result.output
        return result.output

    assert "nrr_by_tier.A (binary)" in logged("binary", "mrr_end")
    assert "(binary)" not in logged("observed")


@pytest.mark.parametrize("verdict", [None, "READY_FOR_REVIEW"])
def test_what_goes_live_undecided_is_said_to_be(
    verdict: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    lacking: dict[str, Any] = dict.fromkeys(
        ("author", "expect", "changes", "replaced_since", "tiers")
    )
    went_live = WentLive(
        event_id="e1",
        model="m",
        since=at,
        note="n",
        spec_id="s1",
        experiment="r1/exp_00001",
        verdict=verdict,
        decided_at=at if verdict else None,
        **lacking,
    )
    _print_went_live(went_live)
    undecided = "No decision on it is on record: gtmar decide says whether it holds"
    assert (undecided in " ".join(capsys.readouterr().out.split())) is (verdict is None)
