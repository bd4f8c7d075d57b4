"""Tiers by a rule: one digest on every path, and edges that give the same sums once they stand."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import closing
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import reference
import tables
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.synthetic import generate
from gtmar.engine import numba_table
from gtmar.engine.equal_sizes import edges_by_rule, tier_sizes
from gtmar.engine.local import PART_ROWS, LocalEvaluator
from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.journal import writer
from gtmar.journal.catalog import Journal
from gtmar.journal.compaction import compact
from gtmar.journal.files import RunFiles
from gtmar.journal.lookup import checkout
from gtmar.journal.verify import verify
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.runs import Engine, Limits
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import Plan
from gtmar.spec.tier_rule import MILLION, TierRule

if TYPE_CHECKING:
    from types import ModuleType

    from gtmar.data.matrix import Accounts

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OLD = ROOT / "tests" / "golden" / "journal_0_1_0"
EXPERIMENTS = 120
#: Of each run whose digest is that of the plain loop.
COMPARED = 60

SHARES = {"A": {"share": 0.1}, "B": {"share": 0.25}, "C": {"share": 0.4}, "D": {"share": 0.25}}
ACCOUNTS = {"A": {"accounts": 90}, "B": {}, "C": {"accounts": 200}, "D": {"accounts": 111}}
LIFT = {"hot": {"lift": 2.0}, "warm": {"lift": 1.25}, "cold": {}}
#: Example, rule and objective. A by-tier objective follows edges in every comparison.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "share": ("health_score", SHARES, "nrr_by_tier.A"),
    "accounts": ("health_score", ACCOUNTS, "tier_separation"),
    "activation": ("health_score", SHARES, "activation_rate_by_tier.A"),
    "share of risk": ("churn_risk", SHARES, "logo_retention_by_tier.A"),
    "accounts of risk": ("churn_risk", ACCOUNTS, "grr_by_tier.D"),
    "lift": ("churn_risk", LIFT, "nrr_by_tier.cold"),
}


def with_tiers(spec: specs.ScoringSpec, tiers: dict[str, Any], **more: Any) -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(
        {**spec.model_dump(by_alias=True), "guardrails": (), "tiers": tiers, **more}
    )


class Case:
    """A table, and a spec whose tiers have a rule."""

    def __init__(self, name: str) -> None:
        example, tiers, objective = CASES[name]
        spec = specs.load(EXAMPLES / example / "spec.yaml")
        self.table = generate(example, accounts=1_000, seed=5)
        self.spec = with_tiers(spec, tiers, objective=objective)
        self.accounts: Accounts = tables.loaded(self.table, self.spec)

    def digest(self, journal: Path, evaluator: Any, batch: int | None = None) -> str:
        plan = Plan(limits=Limits(COMPARED), seed=4, batch=batch)
        search = Search(self.accounts, self.spec, Judge.of(self.spec), plan, evaluator=evaluator)
        with RunWriter(journal, new_run_id()) as writer_:
            found = search.run(writer_, start=start_record(search))
        assert found.wins > 2, "a run in which hardly anything is kept shows little"
        with Journal(journal) as opened:
            column = opened.query("select tier_edges from experiments", among=[found.run_id])
        assert len({json.dumps(row) for row in column["tier_edges"].to_list()}) > 3
        return found.digest

    def local(self, **how: Any) -> LocalEvaluator:
        how = {"compiled": False, "threads": 1, **how}
        return LocalEvaluator(self.accounts.search, self.spec, by_rule=True, **how)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def plain(case: Case, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the plain loop: one candidate after the other, one thread, one part."""
    return case.digest(tmp_path_factory.mktemp("plain"), case.local(), batch=1)


# ---- one digest -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "batch", "threads", "part_rows"),
    # Each rule once; either batch meets each way to share the rows.
    [
        (case, (7, None)[place % 2], *[(1, PART_ROWS), (1, 130), (3, 90)][place % 3])
        for place, case in enumerate(CASES)
    ],
    indirect=["case"],
)
def test_parts_threads_and_batches_give_one_digest(
    case: Case, plain: str, tmp_path: Path, threads: int, part_rows: int, batch: int | None
) -> None:
    evaluator = case.local(threads=threads, part_rows=part_rows)
    assert case.digest(tmp_path, evaluator, batch) == plain


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "threads", "many_rows"),
    # Each rule once, by rows or by candidates, which either number of threads meets. Sums of each
    # kind of rule are compared both ways below.
    [
        ("share", 1, 100),
        ("accounts", 3, 10_000),
        ("activation", 1, 10_000),
        ("share of risk", 3, 100),
        ("accounts of risk", 1, 100),
        ("lift", 3, 10_000),
    ],
    indirect=["case"],
)
def test_machine_code_gives_the_digest_of_numpy(
    case: Case,
    plain: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    many_rows: int,
) -> None:
    for name, value in (("_MANY_ROWS", many_rows), ("_FEW_ROWS", 0), ("_PIECE", 64)):
        monkeypatch.setattr(numba_table, name, value)
    evaluator = case.local(compiled=True, threads=threads)
    assert evaluator.compiles
    assert case.digest(tmp_path, evaluator) == plain


def test_a_table_on_disk_gives_the_same_digest(case: Case, plain: str, tmp_path: Path) -> None:
    found = runs.run(
        case.table,
        case.spec,
        limits=Limits(COMPARED),
        seed=4,
        journal=tmp_path,
        engine=Engine(memory=0),
    )
    assert found.digest == plain


@pytest.mark.slow
@pytest.mark.parametrize("case", ["share", "accounts of risk", "lift"], indirect=True)
def test_shards_give_the_same_digest(
    warm_ray: ModuleType, case: Case, plain: str, tmp_path: Path
) -> None:
    """Each kind of rule, and both orientations."""
    from gtmar.engine.ray_shards import ClusterEvaluator

    evaluator = ClusterEvaluator(warm_ray, case.accounts.search, case.spec, shards=2, by_rule=True)
    with closing(evaluator):
        assert case.digest(tmp_path, evaluator) == plain


# ---- the same sums ----------------------------------------------------------------------------


def ruled(kind: str, orientation: str) -> list[specs.ScoringSpec]:
    """Specs over `tables.FEATURES`, one for each rule that the orientation has."""
    base = tables.make_spec(base=5, orientation=orientation)
    few = {"A": {"accounts": 7}, "B": {}, "C": {"accounts": 20}, "D": {"accounts": 1}}
    rules: list[dict[str, Any]] = [SHARES, few]
    if orientation == "risk" and kind in tables.LABELLED:
        rules.append(LIFT)
    return [with_tiers(base, tiers) for tiers in rules]


def lows_in(row: dict[str, Any], spec: specs.ScoringSpec) -> list[int]:
    return [row[tier_sum(TIER_LOW, tier)] for tier in spec.tier_names]


def lows_by_definition(
    drawn: list[tables.Row], kind: str, spec: specs.ScoringSpec, weights: list[int]
) -> list[int]:
    """Count accounts by score, and of them who left and of whom it is known, and ask the rule."""
    rule = TierRule.of(spec)
    assert rule is not None
    everyone, left, labelled = np.zeros((3, 10_001), dtype=np.int64)
    for row in tables.scored(drawn, kind, weights, base=5):
        everyone[row["score"]] += 1
        labelled[row["score"]] += reference.is_current(row)
        left[row["score"]] += reference.is_current(row) and row["retained"] == 0
    return rule.lows(everyone, left, labelled, first=0)


CANDIDATES = [
    *np.random.default_rng(8).integers(-100, 101, size=(9, 3)).tolist(),
    # All at one score, at either end.
    *([weight] * 3 for weight in (0, 200, -200)),
]


@pytest.mark.parametrize("orientation", ["health", "risk"])
@pytest.mark.parametrize("kind", list(tables.KINDS))
def test_sums_are_those_of_the_same_edges_frozen(kind: str, orientation: str) -> None:
    drawn = tables.draw_table(random.Random(3), 70, kind)
    matrix = tables.drawn_matrix(kind, 70, seed=3)
    for spec in ruled(kind, orientation):
        by_rule = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True)
        found = by_rule.frame(CANDIDATES)
        for weights, row in zip(CANDIDATES, found.to_dicts(), strict=True):
            lows = lows_in(row, spec)
            assert lows == list(edges_by_rule(matrix, spec, weights))
            assert lows == lows_by_definition(drawn, kind, spec, weights)
            frozen = LocalEvaluator(matrix, spec.with_edges(lows), threads=1, compiled=False)
            expected = frozen.frame([weights]).to_dicts()[0]
            assert {name: row[name] for name in expected} == expected
            sizes = tier_sizes(matrix, spec.with_edges(lows), weights)
            assert sizes == tuple(row[tier_sum("accounts", tier)] for tier in spec.tier_names)


@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_parts_that_are_counted_apart_come_to_the_same_edges(orientation: str) -> None:
    matrix = tables.drawn_matrix("everything", 90, seed=4)
    for spec in ruled("everything", orientation):
        whole = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True)
        ends = (0, 1, 40, 40, matrix.accounts)
        parts = [
            LocalEvaluator(matrix.part(*ends[i : i + 2]), spec, threads=1, by_rule=True)
            for i in range(4)
        ]
        counts = reduce(add, [part.counts(CANDIDATES, untiered=True) for part in parts])
        lows = whole.lows_of(counts)
        tiers = reduce(add, [part.tiers(CANDIDATES, lows) for part in parts])
        got = whole.reduce(counts.with_tiers(tiers))
        np.testing.assert_array_equal(got, whole.sums(CANDIDATES))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "orientation", "many_rows"),
    # Each kind by rows and by candidates, and either orientation with each of both.
    [
        (kind, ("health", "risk")[(place + way) % 2], many_rows)
        for place, kind in enumerate(tables.KINDS)
        for way, many_rows in enumerate([10, 10_000])
    ],
)
def test_machine_code_gives_the_sums_of_numpy(
    monkeypatch: pytest.MonkeyPatch, kind: str, orientation: str, many_rows: int
) -> None:
    for name, value in (("_MANY_ROWS", many_rows), ("_FEW_ROWS", 0), ("_PIECE", 7)):
        monkeypatch.setattr(numba_table, name, value)
    for size in (1, 60):
        matrix = tables.drawn_matrix(kind, size, seed=size)
        for spec in ruled(kind, orientation):
            plain = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True)
            expected = plain.sums(CANDIDATES)
            for threads in (1, 3):
                quick = LocalEvaluator(matrix, spec, threads=threads, compiled=True, by_rule=True)
                assert quick.compiles
                np.testing.assert_array_equal(quick.sums(CANDIDATES), expected)


# ---- the twin in machine code -----------------------------------------------------------------

BINS = 700
COUNTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=60)
RULES = st.one_of(
    st.lists(
        # Of few parts of the whole and whole accounts, so that two edges are often as near.
        st.tuples(
            st.integers(0, 8).map(lambda part: part * MILLION // 8),
            st.integers(-9, 9).map(lambda accounts: accounts * MILLION // 2),
        ),
        max_size=4,
    ).map(lambda goals: TierRule(goals=tuple(goals))),
    st.lists(st.integers(1, 400), min_size=1, max_size=4).map(
        lambda lifts: TierRule(lifts=tuple(lifts))
    ),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(COUNTS, RULES, st.integers(1, 300), st.integers(1, 9))
@example([(0, 0, 0)], TierRule(goals=((MILLION // 2, 0),)), 1, 1)
@example([(1, 0, 0), (2, 0, 0), (1, 0, 0)], TierRule(goals=((MILLION // 2, 0),)), 5, 1)
@example([(1, 0, 0)] * 60, TierRule(goals=((1, 0), (1, 0), (MILLION, 0))), 3, 9)
def test_machine_code_sets_the_edges_that_the_rule_says(
    drawn: list[tuple[int, int, int]], rule: TierRule, low: int, gap: int
) -> None:
    numba_kernel = pytest.importorskip("gtmar.engine.numba_kernel")
    from gtmar.engine.numba_layout import Order

    counts = np.zeros((6, BINS), dtype=np.int32)
    # Bins with gaps between them, as scores of few weights have.
    places = (low + gap * np.arange(len(drawn)))[: max(1, (BINS - low) // gap)]
    own = np.array(drawn[: len(places)]).T
    counts[:3, places] = own
    left, stayed, rest = counts[:3].astype(np.int64)
    held = np.flatnonzero(counts[:3].any(axis=0))
    first, last = (int(held[0]), int(held[-1]) + 1) if len(held) else (low, low)
    expected = rule.lows(left + stayed + rest, left, left + stayed, first=0)

    # As `_locate` leaves them.
    counts[numba_kernel._NEGATIVE] += counts[numba_kernel._POSITIVE] + counts[numba_kernel._REST]
    order = Order(
        bins=BINS,
        lows=np.zeros(rule.tiers, dtype=np.int64),
        by_rule=True,
        goals=np.array(rule.goals, dtype=np.int64).reshape(-1, 2),
        lifts=np.array(rule.lifts, dtype=np.int64),
        risk=False,
        paying=0,
        valued=0,
        paying_direct=True,
        valued_direct=True,
    )
    lows = np.full(rule.tiers, -9, dtype=np.int64)
    numba_kernel._set_lows(order, counts, first, last, lows)
    assert lows.tolist() == expected
    if not len(held):
        assert expected == list(range(rule.tiers - 1, -1, -1))


# ---- on record --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "accounts.parquet"
    generate("health_score", accounts=1_000, seed=5).write_parquet(path)
    return path


SPEC = with_tiers(
    specs.load(EXAMPLES / "health_score" / "spec.yaml"), SHARES, objective="nrr_by_tier.A"
)


@pytest.fixture(scope="module")
def done(table: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.RunResult:
    """A run of tiers by share that was never cut off."""
    journal = tmp_path_factory.mktemp("done") / "journal"
    return runs.run(table, SPEC, limits=Limits(EXPERIMENTS), seed=4, journal=journal)


def rows_of(journal: Path | str, run_id: str) -> list[dict[str, Any]]:
    parts = [pq.ParquetFile(path).read() for path in RunFiles(Path(journal), run_id).parts]
    return [row for part in parts for row in part.to_pylist()]


def test_a_replayed_run_is_the_same(done: runs.RunResult) -> None:
    assert runs.replay(done.run_id, journal=done.journal).identical


@pytest.mark.slow
@pytest.mark.parametrize("memory", [None, 0])
def test_a_run_that_was_cut_off_goes_on_to_the_same_digest(
    table: Path,
    done: runs.RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: int | None,
) -> None:
    record: Any = RunWriter.record

    def die(self: RunWriter, kind: str, fields: Any) -> None:
        if kind == "end":
            raise RuntimeError("died")
        record(self, kind, fields)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "FLUSH_ROWS", 25)
        patch.setattr("gtmar.runs.journaled_search._MEASURED_AT_ONCE", 20)
        patch.setattr(RunWriter, "record", die)
        with pytest.raises(RuntimeError, match="died"):
            runs.run(table, SPEC, limits=Limits(EXPERIMENTS), seed=4, journal=tmp_path)
    [folder] = (tmp_path / "runs").iterdir()
    run_id = folder.name.removeprefix("run_id=")
    # The last part is lost, as where a process is killed: what it held is searched anew.
    RunFiles(tmp_path, run_id).parts[-1].unlink()
    assert len(rows_of(tmp_path, run_id)) < EXPERIMENTS
    resumed = runs.resume(run_id, journal=tmp_path, engine=Engine(memory=memory))
    assert resumed.resumed_from
    assert resumed.digest == done.digest
    assert specs.score_id(resumed.spec) == specs.score_id(done.spec)
    assert resumed.holdout == done.holdout


@pytest.mark.slow
def test_every_way_to_a_spec_writes_the_edges_on_record(
    table: Path, done: runs.RunResult, tmp_path: Path
) -> None:
    by_id = {row["experiment_id"]: row for row in rows_of(done.journal, done.run_id)}
    best = dict(by_id[done.best_experiment]["tier_edges"])
    assert len({tuple(row["tier_edges"]) for row in by_id.values()}) > 10

    def edges(spec: specs.ScoringSpec) -> dict[str, float | None]:
        assert TierRule.of(spec) == TierRule.of(SPEC), "the rule stands beside the edges"
        return {name: spec.tiers[name].min for name in spec.tier_names}

    assert edges(done.spec) == best
    with Journal(Path(done.journal)) as opened:
        for experiment in (done.best_experiment, "exp_00000", "exp_00007", "exp_00100"):
            found = checkout(opened, f"{done.run_id}/{experiment}")
            assert edges(found) == dict(by_id[experiment]["tier_edges"])
            # They are what the rule comes to on the accounts searched.
            search = tables.loaded(pl.read_parquet(table), SPEC).search
            assert found.tier_lows == edges_by_rule(search, found)

    def ask(*words: str) -> None:
        answer = CliRunner().invoke(app, [*words])
        assert answer.exit_code == 0, answer.output

    journal, written = ["--journal", done.journal], tmp_path / "checked-out.yaml"
    ask("checkout", f"{done.run_id}/exp_00007", "-o", str(written), *journal)
    assert edges(specs.load(written)) == dict(by_id["exp_00007"]["tier_edges"])
    ask("checkout", done.run_id, "-o", str(tmp_path / "best.yaml"), *journal)
    assert edges(specs.load(tmp_path / "best.yaml")) == best
    (tmp_path / "spec.yaml").write_text(specs.to_yaml(SPEC), "utf-8")
    words = ["run", "--data", str(table), "--spec", str(tmp_path / "spec.yaml"), "--seed", "4"]
    words += ["--n", str(EXPERIMENTS), "-o", str(tmp_path / "found.yaml")]
    ask(*words, "--journal", str(tmp_path / "journal"))
    assert edges(specs.load(tmp_path / "found.yaml")) == best


@pytest.mark.slow
def test_what_a_run_takes_over_is_checked_out_with_the_edges_measured_first(
    table: Path, done: runs.RunResult, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    shutil.copytree(done.journal, journal)
    warm = runs.run(table, SPEC, limits=Limits(40), seed=9, journal=journal)
    rows = {row["experiment_id"]: row for row in rows_of(journal, warm.run_id)}
    taken = [row for row in rows.values() if row["repeats"]]
    assert taken, "nothing was taken over"
    search = tables.loaded(pl.read_parquet(table), SPEC).search
    with Journal(journal) as opened:
        for row in taken[:3]:
            found = checkout(opened, f"{warm.run_id}/{row['experiment_id']}")
            assert found.tier_lows == edges_by_rule(search, found)
    best = warm.spec
    assert best.tier_lows == edges_by_rule(search, best)


@pytest.mark.slow
def test_old_and_new_runs_are_read_in_one_journal(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(OLD, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    journal = tmp_path / "made" / "journal"
    with Journal(journal) as opened:
        before = opened.query("select run_id, digest from runs order by run_id")
        counted = opened.query("select count(*) as n from experiments")["n"][0]
        [old, *_] = before["run_id"].to_list()
        logged = opened.sql("log")
    new = runs.run(table, SPEC, limits=Limits(30), seed=4, journal=journal)
    with Journal(journal) as opened:
        both = opened.query("select run_id, digest, equal_sizes from runs order by run_id")
        rows = opened.query("select run_id, tier_edges from experiments")
        again = opened.sql("log").filter(pl.col("reference").str.starts_with(new.run_id).not_())
        assert opened.sql("review", run=old).height == 1
        assert opened.sql("review", run=new.run_id).height == 1
    assert_frame_equal(again, logged)
    kept = both.filter(pl.col("run_id") != new.run_id).select("run_id", "digest")
    assert_frame_equal(kept, before)
    assert rows.height == counted + 31
    has = rows.group_by("run_id").agg(pl.col("tier_edges").is_not_null().all())
    assert dict(has.iter_rows())[new.run_id]
    assert sum(dict(has.iter_rows()).values()) == 1
    assert both.filter(run_id=new.run_id)["equal_sizes"][0] is not None
    assert verify(journal).findings == ()


def test_packing_keeps_rows_edges_and_digest(done: runs.RunResult, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    shutil.copytree(done.journal, journal)
    before = rows_of(journal, done.run_id)
    compact(journal)
    assert rows_of(journal, done.run_id) == before
    assert all(row["tier_edges"] for row in before)
    found = verify(journal)
    assert found.findings == ()
    with Journal(journal) as opened:
        [digest] = opened.query("select digest from runs", among=[done.run_id])["digest"]
        best = checkout(opened, f"{done.run_id}/{done.best_experiment}")
    assert digest == done.digest
    assert specs.score_id(best) == specs.score_id(done.spec)
    assert runs.replay(done.run_id, journal=journal).identical
