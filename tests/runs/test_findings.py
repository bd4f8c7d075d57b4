"""What was found against a run's table or start stands in its record and in every verdict."""

from __future__ import annotations

import json
from contextlib import nullcontext
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from asked_once import asked_once
from blank_charts import blank_charts
from typer.testing import CliRunner

from gtmar import api, runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data import synthetic
from gtmar.errors import UsageError
from gtmar.journal import review as reading
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.sentences import unimproved
from gtmar.report import run_page
from gtmar.runs.results import findings_in
from gtmar.runs.segments import with_segments
from gtmar.runs.session import ended_run
from gtmar.validation.gates import Gates, Verdict

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
LIMITS = runs.Limits(60)


def table_of(n: int = 1_200, seed: int = 3) -> pl.DataFrame:
    return synthetic.generate("health_score", accounts=n, seed=seed)


def leaky_spec(**more: Any) -> specs.ScoringSpec:
    spec = specs.load(EXAMPLE)
    data = json.loads(specs.to_json(spec))
    data["features"]["exit_survey"] = {"weight": 5, "min": 0, "max": 25}
    return specs.ScoringSpec.model_validate({**data, **more})


def leaky_table(**sizes: int) -> pl.DataFrame:
    table = table_of(**sizes)
    noise = np.random.default_rng(1).normal(size=table.height) * 0.2
    label = pl.col("retained_6mo").cast(pl.Float64).fill_null(0.5)
    return table.with_columns(exit_survey=(label + pl.Series(noise)).clip(0, 1))


def copied_table() -> pl.DataFrame:
    table = table_of(300)
    name = pl.col("account_id").cast(pl.String)
    return pl.concat([table.with_columns(account_id=name + f"-{i}") for i in range(6)])


def page_of(journal: Path, run_id: str) -> str:
    """Return a run's page; what is sought on it is never in a drawing."""
    with Journal(journal) as opened, blank_charts():
        return run_page(opened, run_id).html


def invoke(*words: str, code: int = 0) -> str:
    found = CliRunner().invoke(app, list(words))
    assert found.exit_code == code, found.output
    return found.output


# ---- leaks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, runs.RunResult]:
    folder = tmp_path_factory.mktemp("leaky")
    leaky_table().write_parquet(folder / "a.parquet")
    (folder / "spec.yaml").write_text(specs.to_yaml(leaky_spec()), "utf-8")
    found = runs.run(
        folder / "a.parquet", folder / "spec.yaml", limits=LIMITS, journal=folder / "journal"
    )
    return folder, found


@pytest.mark.slow
def test_a_leak_stands_in_the_record_and_in_every_verdict(
    leaky: tuple[Path, runs.RunResult],
) -> None:
    folder, found = leaky
    journal = folder / "journal"
    start = RunFiles(journal, found.run_id).record("start")
    kept = findings_in(dict(start["parameters"]))
    assert kept == found.findings
    assert [(each.kind, each.grade, each.column) for each in kept if each.grade == "error"] == [
        ("leak", "error", "exit_survey")
    ]
    assert "exit_survey" in json.dumps(found.as_json()["findings"])
    place = ["--journal", str(journal)]
    assert "Leak: Column" in invoke("review", found.run_id, *place)
    assert (
        "exit_survey"
        in json.loads(invoke("review", found.run_id, *place, "--json"))["findings"][0]["text"]
    )
    page = page_of(journal, found.run_id)
    assert "Leak: Column" in page
    assert "Segment safety: not asked." in page
    assert "Leak: Column" in api.Run(found)._repr_html_()
    again = runs.backtest(folder / "a.parquet", spec=found.spec, journal=journal)
    assert [note for note in again.notes if note.startswith("Leak")]
    result = invoke(
        "run", "--data", str(folder / "a.parquet"), "--spec", str(folder / "spec.yaml"),
        "--n", "5", "--journal", str(folder / "other"), "-q",
    )  # fmt: skip
    assert "Leak: Column" in result


@pytest.mark.slow
def test_with_a_certain_leak_nothing_is_ready_unless_somebody_says_so(
    leaky: tuple[Path, runs.RunResult],
) -> None:
    folder, found = leaky
    journal = folder / "journal"
    done = runs.decide(found.run_id, journal=journal, folder=folder / "decision")
    assert done.verdict is Verdict.UNVERIFIED
    assert [gate.name for gate in done.gates if gate.passed is None] == ["leakage"]
    report = (folder / "decision" / "report.md").read_text("utf-8")
    assert report.split("\n\n")[:1] == ["# UNVERIFIED: exit_survey seems to know the outcome."]
    assert "exit_survey" in report.split("\n\n")[1]
    assert json.loads((folder / "decision" / "report.json").read_text("utf-8"))["findings"]
    assert "exit_survey" in done._repr_html_()
    words = ["decide", found.run_id, "--journal", str(journal)]
    assert "exit_survey" in invoke(*words, code=11).splitlines()[1]
    ready = invoke(*words, "--keep", "exit_survey")
    assert ready.startswith("READY_FOR_REVIEW: of 100 pairs")
    assert ready.splitlines()[1] == 'Beware: column "exit_survey" seems to know the outcome.'
    with Journal(journal) as opened:
        [details] = opened.query(
            "select details from events where kind = 'decision' order by event_id limit 1"
        )["details"]
    assert json.loads(details)["findings"]


@pytest.mark.slow
def test_refresh_says_it_too(tmp_path: Path) -> None:
    done = runs.refresh(
        leaky_table(n=600),
        leaky_table(n=600, seed=9),
        leaky_spec(),
        limits=runs.Limits(40),
        journal=tmp_path / "j",
    )
    assert done.verdict is not Verdict.READY
    assert "exit_survey" in done.headline[0]


# ---- copies ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_copies_are_said_and_no_narrow_interval_makes_ready(tmp_path: Path) -> None:
    table = copied_table()
    found = runs.run(table, EXAMPLE, limits=LIMITS, journal=tmp_path / "j")
    assert any(
        "1,500 of 1,800 accounts repeat" in text for text in runs.warnings_of(found.findings)
    )
    done = runs.decide(found.run_id, data=table, journal=tmp_path / "j")
    assert done.verdict is not Verdict.READY
    assert "repeat another one" in done.sentence
    assert runs.check(table, EXAMPLE).repeated == 1_500
    assert runs.replay(found.run_id, data=table, journal=tmp_path / "j").identical


@pytest.mark.slow
def test_a_run_from_before_copies_were_drawn_together_is_done_again_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = copied_table()
    with monkeypatch.context() as patch:
        patch.setattr("gtmar.data.matrix.find_copies", lambda *_: None)
        found = runs.run(table, EXAMPLE, limits=LIMITS, journal=tmp_path / "j")
    assert runs.replay(found.run_id, data=table, journal=tmp_path / "j").identical
    # Its segments are of the accounts that it held out, and of no others.
    session = ended_run(found.run_id, tmp_path / "j", table, numbered=True)
    parts = with_segments(session.accounts, session.spec, ["has_saved"], as_of=None)
    assert parts.outcomes_fingerprint == session.accounts.outcomes_fingerprint
    assert parts.search.accounts == session.accounts.search.accounts


# ---- better, and blocked ---------------------------------------------------------------------


def blocked_spec(**more: Any) -> specs.ScoringSpec:
    data = json.loads(specs.to_json(specs.load(EXAMPLE)))
    limit = {"metric": "share_by_tier.D", "min": 0.9}
    return specs.ScoringSpec.model_validate({**data, "guardrails": [limit], **more})


@pytest.mark.slow
def test_a_start_that_breaks_a_guardrail_is_said_before_and_after(tmp_path: Path) -> None:
    table = table_of(800)
    said: list[str] = []
    journal = tmp_path / "j"
    found = runs.run(table, blocked_spec(), limits=LIMITS, journal=journal, announce=said.append)
    assert any("The start breaks a guardrail, share_by_tier.D" in text for text in said)
    assert any(", by 0." in text for text in said)
    assert found.wins == 0
    assert found.blocked > 0
    assert found.broken == {"share_by_tier.D min 0.9": found.blocked}
    with Journal(journal) as opened:
        review = reading.review(opened, found.run_id)
    assert review.verdict == [
        f"No experiment of 60 was kept: {found.blocked} were better than the baseline's "
        f"auc_roc_retain of {found.baseline_value:.4f} and broke a guardrail: "
        f"share_by_tier.D min 0.9 ({found.blocked})."
    ]
    assert review.as_json()["broken"] == found.as_json()["broken"]
    done = runs.decide(found.run_id, data=table, journal=journal)
    [gate] = done.gates
    assert gate.found == review.verdict[0]
    assert "broke a guardrail" in api.Run(found)._repr_html_()
    table.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "s.yaml").write_text(specs.to_yaml(blocked_spec()), "utf-8")
    words = ["run", "--data", str(tmp_path / "a.parquet"), "--spec", str(tmp_path / "s.yaml")]
    shown = invoke(*words, "--n", "60", "--journal", str(tmp_path / "k"), "-q")
    assert shown.startswith("No experiment of 60 was kept")
    assert "keep the spec" not in shown


def test_a_gain_that_is_out_of_reach_is_a_guardrail_too(tmp_path: Path) -> None:
    spec = blocked_spec(guardrails=[{"metric": "gain", "min": 0.9}])
    found = runs.run(table_of(800), spec, limits=LIMITS, journal=tmp_path / "j")
    assert found.broken == {"gain min 0.9": found.blocked}


def test_weights_that_change_nothing_and_weights_that_can_not_move(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(300)],
            "x": draw.random(300),
            "retained_6mo": draw.integers(0, 2, 300),
        }
    )

    def spec(low: int, high: int) -> specs.ScoringSpec:
        return specs.ScoringSpec.model_validate(
            {
                "model": "one",
                "features": {"x": {"weight": 100, "min": low, "max": high}},
                "tiers": {"A": {"min": 50, "max": 101}, "B": {"min": 0, "max": 50}},
            }
        )

    fixed = runs.run(table, spec(100, 100), limits=LIMITS, journal=tmp_path / "j")
    assert any("No weight can move" in text for text in runs.warnings_of(fixed.findings))
    row = {"objective": "auc", "experiments": 40, "baseline_value": 0.5, "blocked": 0, "tied": 40}
    assert unimproved(row).startswith("All 40 experiments tie with")


# ---- in-sample -------------------------------------------------------------------------------


@pytest.mark.slow
def test_backtest_says_that_the_spec_was_searched_on_these_accounts(tmp_path: Path) -> None:
    table = table_of(450).with_columns(account_id=1_000 + pl.int_range(pl.len()))
    table.write_parquet(tmp_path / "a.parquet")
    journal = tmp_path / "j"
    found = runs.run(tmp_path / "a.parquet", EXAMPLE, limits=LIMITS, journal=journal)
    same = runs.backtest(tmp_path / "a.parquet", spec=found.spec, journal=journal)
    assert same.in_sample is True
    assert same.as_json()["in_sample"] is True
    searched = RunFiles(journal, found.run_id).record("start")["search_accounts"]
    assert f"In-sample: run {found.run_id} searched {searched:,} of these 450" in same.notes[0]
    # Fewer of the same accounts are still the same accounts.
    part = runs.backtest(table.head(250), spec=found.spec, journal=journal)
    assert part.in_sample is True
    # So are ids that a tool wrote as 1000.0, as pandas does where one is unknown.
    floats = table.head(250).with_columns(pl.col("account_id").cast(pl.Float64))
    again = runs.backtest(floats, spec=found.spec, journal=journal)
    assert again.notes[0] == part.notes[0]
    assert again.in_sample is True
    later = runs.backtest(
        table_of(450, seed=8).with_columns(account_id="b" + pl.col("account_id").cast(pl.String)),
        spec=found.spec,
        journal=journal,
    )
    assert later.in_sample is False
    assert not [note for note in later.notes if note.startswith("In-sample")]
    # The run started from that one; its weights were a person's.
    start = runs.backtest(tmp_path / "a.parquet", spec=specs.load(EXAMPLE), journal=journal)
    assert start.in_sample is None
    assert not [note for note in start.notes if note.startswith("In-sample")]
    # Without its lineage the best is known by its weights, whatever it is called by now.
    bare = found.spec.model_copy(update={"lineage": None, "model": "renamed"})
    assert runs.backtest(tmp_path / "a.parquet", spec=bare, journal=journal).in_sample is True
    # Weights that a person put in are nobody's search, though the model's name was searched here.
    own = specs.reweighed(
        specs.load(EXAMPLE), {n: w + 1 for n, w in specs.load(EXAMPLE).weights.items()}
    )
    by_hand = runs.backtest(tmp_path / "a.parquet", spec=own, journal=journal)
    assert by_hand.in_sample is None
    assert not [note for note in by_hand.notes if note.startswith("In-sample")]


@pytest.mark.slow
def test_whatever_measures_a_searched_table_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table_of(450).write_parquet("a.parquet")
    later = table_of(450, seed=8)
    later.with_columns(account_id="b" + pl.col("account_id").cast(pl.String)).write_parquet(
        "b.parquet"
    )
    found = runs.run("a.parquet", EXAMPLE, limits=LIMITS, journal="journal")
    Path("best.yaml").write_text(specs.to_yaml(found.spec))
    says = f"In-sample: run {found.run_id} searched"
    for words in (
        ("diff", EXAMPLE, "best.yaml"),
        ("drift", "--spec", "best.yaml", "--against", "a.parquet"),
        ("tiers", "best.yaml"),
    ):
        searched, unseen = (
            CliRunner().invoke(app, [*map(str, words), "--data", data]).stdout
            for data in ("a.parquet", "b.parquet")
        )
        assert says in searched
        assert "In-sample" not in unseen
    shown = runs.difference(EXAMPLE, "best.yaml", data="a.parquet")
    assert shown.searched is not None
    assert shown.searched in shown._repr_html_()
    assert shown.as_json()["searched"] == shown.searched


# ---- segments --------------------------------------------------------------------------------


def segment_tables(small: int, pull: float) -> list[pl.DataFrame]:
    """Accounts that x0 ranks well, but in a small plan as badly as `pull` has it."""
    tables = []
    for seed in (1, 2):
        draw = np.random.default_rng([seed, small])
        n = 1_500
        x = {f"x{i}": draw.random(n) for i in range(2)}
        rare = np.arange(n) < small
        logit = np.where(rare, (x["x1"] - 0.5) * pull, (x["x0"] - 0.5) * 5 - (x["x1"] - 0.5))
        tables.append(
            pl.DataFrame(
                {
                    "account_id": [f"w{seed}-{i}" for i in range(n)],
                    "plan": np.where(rare, "enterprise", "self-serve"),
                    **x,
                    "mrr": np.where(rare, 5_000.0, 50.0) + draw.random(n),
                    "retained_6mo": (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(int),
                }
            )
        )
    return tables


def two_features() -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(
        {
            "model": "plain",
            "id": "account_id",
            "base": 30,
            "features": {f"x{i}": {"weight": 10, "min": -25, "max": 25} for i in range(2)},
            "tiers": {"A": {"min": 40, "max": 101}, "B": {"min": 0, "max": 40}},
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(("small", "verdicts"), [(40, {"UNVERIFIED"}), (60, {"KEEP_INCUMBENT"})])
def test_a_segment_that_fell_or_is_too_small_is_never_ready(
    tmp_path: Path, small: int, verdicts: set[str]
) -> None:
    train, later = segment_tables(small, 8.0)
    asked = runs.refresh(
        train, later, two_features(), limits=LIMITS, journal=tmp_path / "j",
        gates=Gates(segments=("plan",)), folder=tmp_path / "d",
    )  # fmt: skip
    assert str(asked.verdict) in verdicts
    [gate] = [gate for gate in asked.gates if gate.name == "segment plan=enterprise"]
    assert gate.passed is not True
    share = later.group_by("plan").agg(pl.col("mrr").sum()).sort("plan")["mrr"]
    assert gate.mrr_share == pytest.approx(share[0] / share.sum(), abs=1e-6)
    assert f"plan=enterprise ({gate.mrr_share:.0%} of the MRR)" in asked.segment_safety
    report = json.loads((tmp_path / "d" / "report.json").read_text("utf-8"))
    assert report["segment_safety"] == asked.segment_safety
    assert asked.segment_safety in (tmp_path / "d" / "report.md").read_text("utf-8")
    with Journal(tmp_path / "j") as opened:
        [details] = opened.query("select details from events where kind = 'decision'")["details"]
        review = reading.review(opened)
    assert json.loads(details)["segment_safety"] == asked.segment_safety
    assert asked.segment_safety in review.warnings[-1]
    unasked = runs.decide(asked.run_id, data=train, holdout_file=later, journal=tmp_path / "j")
    # Large by its MRR: what is proven is found though nobody asked, what can't be told is said.
    mrr = f"{gate.mrr_share:.0%} of the MRR"
    if small < 50:
        assert unasked.verdict is Verdict.READY
        few = f"too few accounts to tell in plan=enterprise ({small} accounts, {mrr})"
        assert unasked.segment_safety.endswith(few)
    else:
        assert unasked.verdict is Verdict.KEEP
        assert unasked.segment_safety == f"failed in plan=enterprise ({mrr})"


@pytest.mark.slow
def test_a_stated_limit_decides_and_what_is_no_limit_is_refused(tmp_path: Path) -> None:
    train, later = segment_tables(60, 8.0)
    gates = Gates(segments=("plan",), max_segment_drop=10.0)
    done = runs.refresh(
        train, later, two_features(), limits=LIMITS, journal=tmp_path / "j", gates=gates
    )
    [gate] = [gate for gate in done.gates if gate.name == "segment plan=enterprise"]
    # However much may be lost, what is proven worse stays so.
    low, high = (float(word.strip(",")) for word in gate.found.split(" ")[2:5:2])
    assert gate.passed is not (high < 0)
    assert low < high
    with pytest.raises(UsageError, match="largest drop of a segment"):
        Gates(max_segment_drop=-0.1)


# ---- rows left out, and categories that the spec doesn't know ---------------------------------


@pytest.mark.slow
def test_what_was_left_out_or_not_known_stands_in_every_verdict(tmp_path: Path) -> None:
    table = table_of(800)
    count = table.height
    table = table.with_columns(
        mrr=pl.when(pl.int_range(count) < 3).then(-1.0).otherwise("mrr"),
        plan_code=pl.when(pl.int_range(count) < 40).then(pl.lit("pro")).otherwise(pl.lit("new")),
    )
    data = json.loads(specs.to_json(specs.load(EXAMPLE)))
    data["features"]["plan_code"] = {
        "weight": 3, "min": 0, "max": 9,
        "encode": {"kind": "one_of", "values": {"pro": 1.0, "basic": 0.2}, "default": 0.0},
    }  # fmt: skip
    table.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "spec.yaml").write_text(
        specs.to_yaml(specs.ScoringSpec.model_validate(data)), "utf-8"
    )
    journal, folder = str(tmp_path / "journal"), str(tmp_path / "decision")
    done = CliRunner().invoke(
        app,
        [
            *("run", "--data", str(tmp_path / "a.parquet"), "--spec", str(tmp_path / "spec.yaml")),
            *("--set-aside", "0.01", "--set-aside-to", str(tmp_path / "aside.csv")),
            *("--n", "20", "--journal", journal, "-q"),
        ],
    )
    assert done.exit_code == 0, done.output
    decided = CliRunner().invoke(app, ["decide", "--journal", journal, "-o", folder])
    assert decided.exit_code in (0, 10, 11), decided.output
    with Journal(journal) as opened:
        run_id = opened.query("select run_id from runs")["run_id"].item()
    said = {
        "run": done.output,
        "review": invoke("review", "--journal", journal),
        "decide": decided.output,
        "report.md": (tmp_path / "decision" / "report.md").read_text("utf-8"),
        "report.json": (tmp_path / "decision" / "report.json").read_text("utf-8"),
        "page": page_of(Path(journal), run_id),
    }
    for where, text in said.items():
        words = " ".join(unescape(text).split())
        assert "3 rows that break the data contract are set aside" in words, where
        assert "known values are none of the spec's 2 categories" in words, where


# ---- the binary basis ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, runs.RunResult]:
    folder = tmp_path_factory.mktemp("binary")
    table_of().drop("mrr_end").write_parquet(folder / "a.parquet")
    found = runs.run(folder / "a.parquet", EXAMPLE, limits=LIMITS, journal=folder / "journal")
    return folder, found


@pytest.mark.slow
def test_retention_on_the_binary_basis_is_marked_wherever_it_stands(
    binary: tuple[Path, runs.RunResult],
) -> None:
    folder, found = binary
    place = ["--journal", str(folder / "journal")]
    best = f"{found.run_id}/{found.best_experiment}"
    start = f"{found.run_id}/exp_00000"
    pages = {
        "show": ["show", best, *place],
        "diff": ["diff", start, best, *place],
        "best": ["best", "--metric", "nrr_by_tier.A", *place],
        "segments": ["segments", found.run_id, "--segment", "has_saved", *place],
        "review": ["review", found.run_id, *place],
        "backtest": [
            "backtest",
            "--data",
            str(folder / "a.parquet"),
            "--spec",
            str(EXAMPLE),
            *place,
        ],
        "decide": ["decide", found.run_id, *place, "-o", str(folder / "decision")],
    }
    for name, words in pages.items():
        function = {"segments": "by_segment", "decide": "decide_on", "backtest": "backtest"}
        with asked_once(function[name]) if name in function else nullcontext():
            assert "binary" in invoke(*words), name
            if name != "decide":
                assert "binary" in invoke(*words, "--json"), f"{name} --json"
    assert "nrr_by_tier.A (binary)" in (folder / "decision" / "report.md").read_text("utf-8")
    report = json.loads((folder / "decision" / "report.json").read_text("utf-8"))
    assert report["basis"] == "binary"
    assert "NRR (binary)" in page_of(folder / "journal", found.run_id)
    with Journal(folder / "journal") as opened:
        for query in ("tier_table", "review", "compare"):
            values = {"other": found.run_id} if query == "compare" else {}
            assert set(opened.sql(query, run=found.run_id, **values)["basis"]) == {"binary"}
        drift = opened.sql("proxy_drift", run=found.run_id)
    marked = drift.filter(pl.col("basis") == "binary")["metric"].to_list()
    assert "nrr_by_tier.A" in marked
    assert "revenue_capture_at_20" not in marked
    assert "binary basis" in api.Run(found)._repr_html_()
    exported = invoke("journal", "export", found.run_id, *place).splitlines()
    assert all(json.loads(line)["basis"] == "binary" for line in exported)


@pytest.mark.slow
def test_revenue_weighted_retention_survives_import_and_export(
    tmp_path: Path, binary: tuple[Path, runs.RunResult]
) -> None:
    folder, found = binary
    lines = invoke("journal", "export", found.run_id, "--journal", str(folder / "journal"))
    rows = [json.loads(line) for line in lines.splitlines()]
    rows[0]["metrics"]["revenue_weighted_retention"] = 0.8312345
    rows[1]["metrics"]["revenue_weighted_retention"] = {"A": 0.5, "B": None}
    file = tmp_path / "old.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    place = ["--journal", str(tmp_path / "j")]
    told = json.loads(invoke("journal", "import", str(file), *place, "--json"))
    assert "metrics.revenue_weighted_retention" not in told["ignored"]
    again = [json.loads(x) for x in invoke("journal", "export", *place).splitlines()]
    kept = [row["metrics"].get("revenue_weighted_retention") for row in again]
    assert kept[:3] == [0.8312345, {"A": 0.5, "B": None}, None]
    assert {row["basis"] for row in again} == {"binary"}
