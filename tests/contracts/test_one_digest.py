"""One run, however it is computed: batches, threads and parts of a table change no digit."""

import random
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tables
from machine_code import ready_after

from gtmar import spec as specs
from gtmar.data.matrix import Accounts
from gtmar.data.synthetic import generate
from gtmar.engine import numba_kernel
from gtmar.engine import numba_table as fused
from gtmar.engine.local import PART_ROWS, LocalEvaluator
from gtmar.engine.numba_table import NumbaTable
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.runs import Limits
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import Plan

ROOT = Path(__file__).parents[2]
#: The same score, its tiers by edges that stand still and by shares.
SPECS = {
    "edges": specs.load(ROOT / "tests" / "golden" / "fixed_edges.yaml"),
    "shares": specs.load(ROOT / "examples" / "health_score" / "spec.yaml"),
}


@pytest.fixture(scope="module", params=SPECS)
def spec(request: pytest.FixtureRequest) -> specs.ScoringSpec:
    return SPECS[request.param]


@pytest.fixture(scope="module")
def accounts(spec: specs.ScoringSpec) -> Accounts:
    return tables.loaded(generate("health_score", accounts=1_200, seed=5), spec)


def digest(
    accounts: Accounts,
    spec: specs.ScoringSpec,
    journal: Path,
    *,
    batch: int | None,
    threads: int,
    part_rows: int = PART_ROWS,
    compiled: bool = False,
) -> str:
    evaluator = LocalEvaluator(
        accounts.search,
        spec,
        threads=threads,
        part_rows=part_rows,
        compiled=compiled,
        by_rule=True,
    )
    plan = Plan(limits=Limits(60), seed=4, batch=batch)
    search = Search(accounts, spec, Judge.of(spec), plan, evaluator=evaluator)
    with RunWriter(journal, new_run_id()) as writer:
        found = search.run(writer, start=start_record(search))
    assert found.wins > 3
    return found.digest


@pytest.fixture(scope="module")
def sequential(
    accounts: Accounts, spec: specs.ScoringSpec, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The digest of the plain loop: one candidate after the other, one thread, one part."""
    folder = tmp_path_factory.mktemp("sequential")
    return digest(accounts, spec, folder, batch=1, threads=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "batch", "threads", "part_rows"),
    # Any two values of two of them meet in one run.
    [
        ("shares", 1, 1, PART_ROWS),
        ("edges", 1, 2, 500),
        ("edges", 7, 1, PART_ROWS),
        ("shares", 7, 2, 500),
        ("edges", 64, 1, 500),
        ("shares", 64, 2, PART_ROWS),
        ("shares", None, 1, 500),
        ("edges", None, 2, PART_ROWS),
    ],
    indirect=["spec"],
)
def test_batches_threads_and_parts_give_one_digest(
    accounts: Accounts,
    spec: specs.ScoringSpec,
    tmp_path: Path,
    sequential: str,
    batch: int | None,
    threads: int,
    part_rows: int,
) -> None:
    found = digest(accounts, spec, tmp_path, batch=batch, threads=threads, part_rows=part_rows)
    assert found == sequential


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "batch", "threads", "many_rows"),
    # Any two values of two of them meet in one run.
    [
        ("edges", 1, 1, 100),
        ("shares", 1, 2, 10_000),
        ("edges", 7, 2, 100),
        ("shares", 7, 1, 10_000),
        ("edges", None, 2, 10_000),
        ("shares", None, 1, 100),
    ],
    indirect=["spec"],
)
def test_machine_code_gives_the_digest_of_numpy(
    accounts: Accounts,
    spec: specs.ScoringSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sequential: str,
    batch: int | None,
    threads: int,
    many_rows: int,
) -> None:
    for name, value in (("_MANY_ROWS", many_rows), ("_FEW_ROWS", 0), ("_PIECE", 64)):
        monkeypatch.setattr(fused, name, value)
    found = digest(accounts, spec, tmp_path, batch=batch, threads=threads, compiled=True)
    assert found == sequential


def test_without_numba_numpy_counts(
    accounts: Accounts,
    spec: specs.ScoringSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sequential: str,
) -> None:
    monkeypatch.setitem(sys.modules, "gtmar.engine.numba_kernel", None)
    assert not LocalEvaluator(accounts.search, spec, compiled=True).compiles
    assert digest(accounts, spec, tmp_path, batch=None, threads=2, compiled=True) == sequential


@pytest.mark.parametrize(
    ("spec", "frame"),
    [
        (tables.make_spec((1,), max_score=1000, id=None), {"x0": [0.5, 900.0]}),
        (tables.make_spec((1,), id=None), {"x0": [0.5, 3e5]}),
        (tables.make_spec((1,), id=None), {"x0": [0.5, 3.0], "mrr": [6e13, 6e13]}),
    ],
    ids=["places", "scores", "cents"],
)
def test_what_is_too_wide_for_machine_code_is_left_to_numpy(
    spec: specs.ScoringSpec, frame: dict[str, list[float]]
) -> None:
    table = pl.DataFrame({**frame, "retained_6mo": [0, 1]})
    matrix = tables.loaded(table, spec).search
    quick = LocalEvaluator(matrix, spec, compiled=True)
    assert not quick.compiles
    plain = LocalEvaluator(matrix, spec, compiled=False)
    np.testing.assert_array_equal(quick.sums([[1]]), plain.sums([[1]]))


@pytest.mark.slow
def test_cents_that_need_64_bits_are_counted_by_machine_code() -> None:
    spec = tables.make_spec((1,), id=None)
    table = pl.DataFrame(
        {"x0": [10.0, 90.0, 50.0], "retained_6mo": [0, 1, 1], "mrr": [3e8, 5.0, 4e9]}
    ).with_columns(mrr_end=pl.Series([0.0, 6e8, 1.0]))
    matrix = tables.loaded(table, spec).search
    quick = LocalEvaluator(matrix, spec, compiled=True)
    assert quick.compiles
    plain = LocalEvaluator(matrix, spec, compiled=False)
    np.testing.assert_array_equal(quick.sums([[1], [-1]]), plain.sums([[1], [-1]]))


@pytest.mark.parametrize(
    ("kernel", "proposer"), [(1, 1), (2, 9), (3, 1), (5, 2), (9, 5), (1, 99), (99, 1)]
)
def test_a_run_goes_over_to_machine_code_between_any_two_batches(
    accounts: Accounts,
    spec: specs.ScoringSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sequential: str,
    kernel: int,
    proposer: int,
) -> None:
    waiting = ready_after(monkeypatch, kernel=kernel, proposer=proposer)
    evaluator = LocalEvaluator(accounts.search, spec, threads=1, by_rule=True, expected=10**6)
    counted: list[int] = []
    original = NumbaTable.sums

    def noted(self: NumbaTable, raw: Any, changes: Any, workers: Any, width: int) -> Any:
        # Not those of the holdout, which has an evaluator of its own.
        counted.append(len(changes) if self is evaluator._prepared else 0)
        return original(self, raw, changes, workers, width)

    monkeypatch.setattr(NumbaTable, "sums", noted)
    plan = Plan(limits=Limits(60), seed=4)
    said: list[str] = []
    search = Search(accounts, spec, Judge.of(spec), plan, evaluator=evaluator, announce=said.append)
    with RunWriter(tmp_path, new_run_id()) as writer:
        found = search.run(writer, start=start_record(search))
    assert found.digest == sequential
    assert (sum(counted) == 0) == (kernel == 99)
    assert (sum(counted) == evaluator.evaluated) == (kernel == 1)
    assert waiting["proposer"] >= min(proposer, 9)
    # That the compiler is at work is said, too, where another test has just started it.
    took_over = ["took over" in sentence for sentence in said if "being compiled" not in sentence]
    assert took_over == [True] * (1 < kernel < 99)


@pytest.mark.parametrize("orientation", ["health", "risk"])
@pytest.mark.parametrize("kind", tables.LABELLED)
def test_parts_and_groups_give_the_sums_of_one_candidate_over_the_whole(
    kind: str, orientation: str
) -> None:
    drawn = tables.draw_table(random.Random(3), 60, kind)
    spec = tables.make_spec(base=5, orientation=orientation)
    matrix = tables.loaded(tables.frame_of(drawn, kind), spec).search
    source = np.random.default_rng(8)
    candidates = source.integers(-100, 101, size=(11, 3)).tolist()
    alone = LocalEvaluator(matrix, spec, threads=1, compiled=False)
    expected = np.concatenate([alone.sums([weights]) for weights in candidates])
    for threads, part_rows in ((1, 7), (3, 25), (2, 10_000)):
        many = LocalEvaluator(matrix, spec, threads=threads, part_rows=part_rows)
        np.testing.assert_array_equal(many.sums(candidates), expected)
        many.move(candidates[3])
        np.testing.assert_array_equal(many.reduce(many.counts(candidates)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "orientation", "many_rows", "narrow"),
    # Each kind in each way, and either orientation with each of both.
    [
        (kind, ("health", "risk")[(place + way) % 2], *sizes)
        for place, kind in enumerate(tables.KINDS)
        for way, sizes in enumerate([(10, 10_000), (10_000, 10_000), (10_000, 10)])
    ],
)
def test_machine_code_gives_the_sums_of_numpy(
    monkeypatch: pytest.MonkeyPatch, kind: str, orientation: str, many_rows: int, narrow: int
) -> None:
    for name, value in (("_MANY_ROWS", many_rows), ("_FEW_ROWS", 0), ("_PIECE", 7)):
        monkeypatch.setattr(fused, name, value)
    monkeypatch.setattr(fused, "_MOST_COUNTED", narrow)
    spec = tables.make_spec(base=5, orientation=orientation)
    source = np.random.default_rng(8)
    candidates = source.integers(-100, 101, size=(19, 3)).tolist()
    for size in (1, 60):
        matrix = tables.drawn_matrix(kind, size, seed=size)
        expected = LocalEvaluator(matrix, spec, threads=1, compiled=False).sums(candidates)
        for threads in (1, 3):
            quick = LocalEvaluator(matrix, spec, threads=threads, compiled=True)
            assert quick.compiles
            np.testing.assert_array_equal(quick.sums(candidates), expected)
            quick.move(candidates[threads])
            np.testing.assert_array_equal(quick.sums(candidates), expected)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_scores_on_the_edges_are_counted_where_they_belong(*, compiled: bool) -> None:
    # Rounded half up to hundredths: the last that is clipped and the first that isn't, and so on.
    edges = {"low": (-0.0051, -0.005), "high": (100.0049, 100.005), "A": (59.9949, 59.995)}
    points = [value for pair in edges.values() for value in pair]
    frame = pl.DataFrame({"x0": points, "retained_6mo": [0, 1] * 3})
    spec = tables.make_spec((1,), id=None)
    assert spec.tiers["A"].min == 60
    matrix = tables.loaded(frame, spec).search
    evaluator = LocalEvaluator(matrix, spec, threads=1, compiled=compiled)
    sums = evaluator.frame([[1]]).row(0, named=True)
    assert (sums["clipped_low"], sums["clipped_high"]) == (1, 1)
    assert sums["accounts[A]"] == 3
    assert sums["score_sum"] == 0 + 0 + 10_000 + 10_000 + 5_999 + 6_000


@pytest.mark.slow
@pytest.mark.parametrize("orientation", ["health", "risk"])
def test_what_two_threads_counted_is_put_together(
    monkeypatch: pytest.MonkeyPatch, orientation: str
) -> None:
    for name, value in (("_MANY_ROWS", 10), ("_PIECE", 7)):
        monkeypatch.setattr(fused, name, value)
    both, met = threading.Barrier(2), set()
    tabulate, gather = numba_kernel.tabulate, numba_kernel.gather
    gathered = []

    def together(*arguments: Any) -> None:
        # Nobody goes on before both threads have rows to count.
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            both.wait(timeout=60)
        tabulate(*arguments)

    def noted(*arguments: Any) -> None:
        gathered.append(arguments[-2:])
        gather(*arguments)

    spec = tables.make_spec(base=5, orientation=orientation)
    drawn = tables.draw_table(random.Random(5), 60, "everything")
    matrix = tables.loaded(tables.frame_of(drawn, "everything"), spec).search
    candidates = np.random.default_rng(8).integers(-100, 101, size=(3, 3)).tolist()
    quick = LocalEvaluator(matrix, spec, threads=2, compiled=True)
    assert quick.compiles
    monkeypatch.setattr(numba_kernel, "tabulate", together)
    monkeypatch.setattr(numba_kernel, "gather", noted)
    plain = LocalEvaluator(matrix, spec, threads=1, compiled=False)
    np.testing.assert_array_equal(quick.sums(candidates), plain.sums(candidates))
    assert len(met) == 2
    assert sorted(gathered) == [(0, 1), (1, 2), (2, 3)]


def test_money_in_two_limbs_is_the_same_in_parts() -> None:
    drawn = tables.draw_table(random.Random(4), 60, "everything")
    spec = tables.make_spec()
    matrix = tables.loaded(tables.frame_of(drawn, "everything"), spec).search
    assert matrix.start is not None
    assert matrix.ltv is not None
    large = replace(matrix, start=matrix.start << 30, ltv=matrix.ltv << 30)
    whole = LocalEvaluator(large, spec).sums([[40, 25, -10]])
    assert whole.shape[1] == 2
    parts = LocalEvaluator(large, spec, part_rows=7)
    np.testing.assert_array_equal(parts.sums([[40, 25, -10]]), whole)
