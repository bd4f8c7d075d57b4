"""Wherever a run computes, it is the same run: on disk, in shards, with a worker killed."""

import json
import os
import random
import signal
import sys
from contextlib import closing
from functools import reduce
from operator import add
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import tables
from typer.testing import CliRunner

from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.cli.app import app
from gtmar.data.matrix import Accounts, load_accounts
from gtmar.data.scan import scan
from gtmar.data.synthetic import generate
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.numpy_kernel import Counts
from gtmar.engine.ray_shards import ClusterEvaluator
from gtmar.errors import ResourceError, UsageError
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.runs import Engine, Limits, Progress, RunResult, resume, run
from gtmar.runs.journaled_search import Search
from gtmar.runs.plan import Plan

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "health_score" / "spec.yaml"
SPEC = specs.load(EXAMPLE)
TABLE = generate("health_score", accounts=1_200, seed=4)
LIMITS = Limits(80)
SEED = 5


@pytest.fixture(scope="module")
def accounts() -> Accounts:
    return load_accounts(scan(TABLE), SPEC)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run in this process and in memory, which all others have to equal."""
    journal = tmp_path_factory.mktemp("plain")
    return run(TABLE, SPEC, limits=LIMITS, seed=SEED, journal=journal)


def same(result: RunResult, plain: RunResult) -> None:
    assert result.digest == plain.digest
    assert result.holdout == plain.holdout
    assert result.weights == plain.weights
    assert result.reliability == plain.reliability
    assert plain.wins > 3, "a run in which nothing is kept shows little"


# ---- on disk --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_over_mapped_files_is_the_same(plain: RunResult, tmp_path: Path) -> None:
    engine = Engine(memory=0)
    found = run(TABLE, SPEC, limits=LIMITS, seed=SEED, journal=tmp_path, engine=engine)
    same(found, plain)


# ---- parts that add up ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_counts_of_parts_add_up_to_those_of_the_whole(count: int, orientation: str) -> None:
    drawn = tables.draw_table(random.Random(count), 90, "retained")
    frame = tables.frame_of(drawn, "retained")
    # One account's money takes a second limb; the parts without it need but one.
    huge = pl.int_range(pl.len()) == 40
    frame = frame.with_columns(
        pl.when(huge & (pl.col(name) > 0)).then(6e13).otherwise(name).alias(name)
        for name in ("mrr", "mrr_end", "actual_ltv")
    )
    spec = tables.make_spec((40, 25, -10), base=5, orientation=orientation)
    matrix = tables.loaded(frame, spec).search
    candidates = [(40, 25, -10), (0, 0, 0), (-7, 90, 3)]
    whole = LocalEvaluator(matrix, spec)
    ends = [matrix.accounts * place // count for place in range(count + 1)]
    parts = [
        LocalEvaluator(matrix.part(*ends[place : place + 2]), spec).counts(candidates)
        for place in range(count)
    ]
    assert len({part.money.shape[-2] for part in parts}) == min(count, 2), "limbs are not mixed"
    # A sum's limbs may be others, the sum is the same.
    found = whole.frame_of(LocalEvaluator(matrix.part(0, 0), spec).reduce(reduce(add, parts)))
    assert found.cast(pl.Int128).equals(whole.frame(candidates).cast(pl.Int128))


def test_parts_hold_every_account_once(accounts: Accounts) -> None:
    matrix = accounts.search
    ends = (0, 1, 300, 300, matrix.accounts)
    parts = [matrix.part(ends[i], ends[i + 1]) for i in range(4)]
    assert [part.accounts for part in parts] == [1, 299, 0, matrix.accounts - 300]
    assert matrix.ltv_rows is not None
    rows: list[int] = []
    for first, part in zip(ends, parts, strict=False):
        assert part.ltv_rows is not None
        rows += (part.ltv_rows + first).tolist()
    assert rows == matrix.ltv_rows.tolist()
    np.testing.assert_array_equal(
        np.sum([np.diff(part.offsets) for part in parts], axis=0), np.diff(matrix.offsets)
    )
    with pytest.raises(ValueError, match="read-only"):
        parts[1].columns[0][:1] = 0


# ---- in shards ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2])
def test_a_run_in_shards_is_the_same(
    warm_ray: ModuleType, plain: RunResult, shards: int, tmp_path: Path
) -> None:
    engine = Engine("ray", shards=shards)
    found = run(TABLE, SPEC, limits=LIMITS, seed=SEED, journal=tmp_path, engine=engine)
    same(found, plain)


@pytest.mark.slow
def test_a_run_in_shards_asks_in_folds_as_any_other(warm_ray: ModuleType, tmp_path: Path) -> None:
    table = TABLE.head(400)
    spec = first_spec(scan(table)).spec
    limits = Limits(30)
    here, there = (
        run(table, spec, limits=limits, seed=SEED, journal=tmp_path / engine.kind, engine=engine)
        for engine in (Engine(), Engine("ray", shards=2))
    )
    assert here.search_pays is not None
    assert there.search_pays == here.search_pays
    assert there.digest == here.digest


#: Limits that are held against the start, whose accounts, segments and metrics shards have in part.
HELD: dict[str, dict[str, dict[str, float]]] = {
    "guardrails": {
        "worst_segment_change": {"min": -0.006},
        "segment_gap": {"max": 0.039},
        "moved_share": {"max": 0.3},
        "gain": {"min": 0.0005},
    },
    "no_worse": {"revenue_capture_at_20": {}},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HELD)
def test_verdicts_are_the_same_in_shards(warm_ray: ModuleType, kind: str, tmp_path: Path) -> None:
    limits = HELD[kind].items()
    held = {kind: [{"metric": name, **limit} if limit else name for name, limit in limits]}
    spec = specs.ScoringSpec.model_validate(
        {**SPEC.model_dump(mode="json", by_alias=True), "segments": ["plan"], **held}
    )
    exports = pl.col("has_exported") == 1
    table = TABLE.with_columns(plan=pl.when(exports).then(pl.lit("pro")).otherwise(pl.lit("free")))
    here, there = (
        run(table, spec, limits=LIMITS, seed=SEED, journal=tmp_path / engine.kind, engine=engine)
        for engine in (Engine(), Engine("ray", shards=2))
    )
    assert there.digest == here.digest
    assert there.broken == here.broken
    assert {text.split()[0] for text in here.broken} == set(HELD[kind]), "each is broken"
    assert here.wins


def search_with(evaluator: ClusterEvaluator, accounts: Accounts, watch: Any, to: Path) -> RunResult:
    judge = Judge.of(SPEC, None)
    plan = Plan(seed=SEED, limits=LIMITS)
    search = Search(accounts, SPEC, judge, plan, watch=watch, evaluator=evaluator)
    with RunWriter(to, "r20260101-000000-abcdef") as writer:
        return search.run(writer)


@pytest.mark.slow
def test_a_run_that_loses_workers_is_the_same(
    ray: ModuleType, plain: RunResult, accounts: Accounts, tmp_path: Path
) -> None:
    with closing(ClusterEvaluator(ray, accounts.search, SPEC, shards=3, by_rule=True)) as evaluator:
        before = evaluator.processes
        # More than there are cores, which they share.
        assert len(set(before)) == 3 > ray.cluster_resources()["CPU"]
        pending = before[:2]

        def kill_each_once(at: Progress) -> None:
            # After wins, so that the search is on its way; the second at another time.
            if pending and at.wins > 3 - len(pending):
                os.kill(pending.pop(), signal.SIGKILL)

        same(search_with(evaluator, accounts, kill_each_once, tmp_path), plain)
        assert not pending
        after = evaluator.processes
        assert after[2] == before[2]
        assert not set(after[:2]) & set(before)


@pytest.mark.slow
def test_a_worker_killed_while_it_counts_is_replaced(
    warm_ray: ModuleType, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = [tuple(term.weight for term in SPEC.terms)]
    expected = LocalEvaluator(accounts.search, SPEC).frame(weights)
    with closing(ClusterEvaluator(warm_ray, accounts.search, SPEC, shards=1)) as evaluator:
        evaluator.move(weights[0])
        [before] = evaluator.processes
        asked: list[int] = []

        def killed_at_work(actor: Any) -> Any:
            answer = actor.counts.remote(weights * 100)
            if not asked:
                os.kill(before, signal.SIGKILL)
            asked.append(1)
            return answer

        [counts] = evaluator._everywhere(killed_at_work)
        assert len(asked) == 2
        counts = Counts.total([counts])
        assert evaluator.frame_of(evaluator._reducer.reduce(counts)[:1]).equals(expected)

        # A fault of ours is no lost worker, and keeps its kind and its traceback.
        with pytest.raises(ValueError, match=r"shorter|longer|expected") as fault:
            evaluator.sums([(1, 2, 3)])
        assert "test_engines" not in str(fault.value)
        assert "engine/local.py" in str(fault.value)

        # Lost again and again is an error; and the next batch finds a worker again.
        [actor], [process] = evaluator._actors, evaluator.processes
        os.kill(process, signal.SIGKILL)
        with monkeypatch.context() as lost:
            lost.setattr(evaluator, "_started_on", lambda _: actor)
            with pytest.raises(ResourceError, match="shard 0 was lost 5 times in a row"):
                evaluator.frame(weights)
        assert evaluator.frame(weights).equals(expected)


@pytest.mark.slow
def test_more_shards_than_accounts(warm_ray: ModuleType) -> None:
    frame = pl.DataFrame({"account_id": list("ab"), "x0": [0.6, 0.2], "retained_6mo": [1, 0]})
    spec = tables.make_spec((100,))
    matrix = tables.loaded(frame, spec).search
    expected = LocalEvaluator(matrix, spec).frame([[100], [3]])
    with closing(ClusterEvaluator(warm_ray, matrix, spec, shards=9)) as evaluator:
        assert len(set(evaluator.processes)) == 2
        assert evaluator.frame([[100], [3]]).equals(expected)


@pytest.mark.slow
def test_a_cluster_of_our_own_is_for_this_machine_alone(ray: ModuleType) -> None:
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.slow
def test_shards_of_our_own_cluster_have_our_priority(
    warm_ray: ModuleType, accounts: Accounts
) -> None:
    with closing(ClusterEvaluator(warm_ray, accounts.search, SPEC, shards=1)) as evaluator:
        [process] = evaluator.processes
        assert os.getpriority(os.PRIO_PROCESS, process) == os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.slow
def test_a_run_begun_here_goes_on_in_shards(
    warm_ray: ModuleType, plain: RunResult, tmp_path: Path
) -> None:
    class CutOffError(Exception):
        pass

    def cut_off(at: Progress) -> None:
        if at.experiments > 40:
            raise CutOffError

    table = tmp_path / "accounts.parquet"
    TABLE.write_parquet(table)
    journal = tmp_path / "journal"
    with pytest.raises(CutOffError):
        run(table, SPEC, limits=LIMITS, seed=SEED, journal=journal, watch=cut_off)
    [folder] = (journal / "runs").iterdir()
    run_id = folder.name.removeprefix("run_id=")
    engine = Engine("ray", shards=2, memory=0)
    assert resume(run_id, journal=journal, engine=engine).digest == plain.digest


@pytest.mark.slow
def test_the_command_line_prints_its_result_and_nothing_else(
    warm_ray: ModuleType, plain: RunResult, tmp_path: Path
) -> None:
    """A process and a cluster of its own are tried in `test_own_rows`."""
    TABLE.write_parquet(tmp_path / "accounts.parquet")
    command = ["run", "--data", str(tmp_path / "accounts.parquet"), "--spec", str(EXAMPLE)]
    command += ["--n", str(LIMITS.experiments), "--seed", str(SEED)]
    command += ["--journal", str(tmp_path / "journal")]
    command += ["--engine", "ray", "--shards", "2", "--json", "--quiet"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["digest"] == plain.digest
    assert done.stderr == ""


# ---- what can't be --------------------------------------------------------------------------


def test_without_ray_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="the engine ray needs a package") as caught:
        run(TABLE, SPEC, journal=tmp_path / "journal", engine=Engine("ray"))
    assert caught.value.hint == "pip install 'gtmar[ray]'"
    assert not (tmp_path / "journal").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"kind": "rya"}, 'no engine "rya"; there are local, ray', "--engine ray"),
        ({"address": "auto"}, "an address and a number of shards are for", "--engine ray"),
        ({"shards": 2}, "an address and a number of shards are for", "--engine ray"),
        ({"kind": "ray", "shards": 0}, "shards must be 1 or more, got 0", None),
        ({"memory": -1}, "memory must be 0 bytes or more, got -1", None),
    ],
    ids=str,
)
def test_engines_that_can_not_be(settings: Any, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Engine(**settings)
    assert caught.value.hint == hint
