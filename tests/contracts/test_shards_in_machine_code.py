"""Shards give the sums of one process, whichever of them counts with machine code."""

import os
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import tables
from machine_code import ready_after

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.matrix import AccountMatrix, load_accounts
from gtmar.data.scan import scan
from gtmar.data.synthetic import generate
from gtmar.engine import numba_table
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.numba_cache import _without_compiling
from gtmar.engine.numpy_kernel import Counts
from gtmar.engine.ray_shards import ClusterEvaluator, shard_layout
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.runs import Limits
from gtmar.runs.journaled_search import Search
from gtmar.runs.plan import Plan

EXAMPLES = Path(__file__).parents[2] / "examples"
CANDIDATES = [
    *np.random.default_rng(8).integers(-100, 101, size=(9, 3)).tolist(),
    # All at one score, at either end.
    *([weight] * 3 for weight in (0, 200, -200)),
]
SIZES = {"A": {"share": 0.1}, "B": {"share": 0.25}, "C": {"share": 0.4}, "D": {"share": 0.25}}
LIFT = {"hot": {"lift": 2.0}, "warm": {"lift": 1.25}, "cold": {}}


def specs_of(kind: str, orientation: str) -> list[specs.ScoringSpec]:
    """Specs whose tiers end at fixed edges, at sizes and, where risk is known, by lift."""
    fixed = tables.make_spec(base=5, orientation=orientation)
    rules: list[dict[str, Any]] = [SIZES]
    if orientation == "risk" and kind in tables.LABELLED:
        rules.append(LIFT)
    plain = fixed.model_dump(by_alias=True)
    ruled = [specs.ScoringSpec.model_validate({**plain, "tiers": tiers}) for tiers in rules]
    return [fixed, *ruled]


def parts_of(matrix: AccountMatrix, ends: Sequence[int]) -> list[AccountMatrix]:
    return [matrix.part(first, last) for first, last in pairwise(ends)]


def summed(parts: list[LocalEvaluator], whole: LocalEvaluator, *, by_rule: bool) -> Any:
    """What a driver makes of what its shards send."""
    counts = Counts.total([p.counts(CANDIDATES, untiered=by_rule).packed() for p in parts])
    if by_rule:
        lows = whole.lows_of(counts)
        tiers = [part.tiers(CANDIDATES, lows).packed() for part in parts]
        counts = counts.with_tiers(Counts.total(tiers))
    return whole.reduce(counts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "orientation"),
    # Each kind once; half of those whose risk is known have tiers by lift.
    [(kind, ("risk", "health")[place % 2]) for place, kind in enumerate(tables.KINDS)],
)
def test_any_shards_give_the_sums_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, kind: str, orientation: str
) -> None:
    monkeypatch.setattr(numba_table, "_PIECE", 7)
    matrix = tables.drawn_matrix(kind, 61, seed=6)
    n = matrix.accounts
    for spec in specs_of(kind, orientation):
        whole = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True)
        expected = whole.sums(CANDIDATES)
        for ends, turns in (((0, n), [0]), ((0, 1, n - 3, n), [1]), ((0, 9, 9, 20, 50, n), [0, 1])):
            for turn in turns:
                # All with machine code, and every second one.
                parts = [
                    LocalEvaluator(
                        part,
                        spec,
                        threads=1 + index % 2,
                        compiled=(turn * index) % 2 == 0,
                        by_rule=True,
                        shard=True,
                    )
                    for index, part in enumerate(parts_of(matrix, ends))
                ]
                if turn:
                    for part in parts:
                        part.move(CANDIDATES[3])
                got = summed(parts, whole, by_rule=spec.has_rule)
                np.testing.assert_array_equal(got, expected)


def test_machine_code_counts_what_numpy_counts() -> None:
    matrix = tables.drawn_matrix("everything", 80, seed=7).part(3, 70)
    for spec in specs_of("everything", "risk"):
        plain = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True)
        quick = LocalEvaluator(matrix, spec, threads=2, compiled=True, by_rule=True, shard=True)
        for _ in range(2):
            # A second time, in room that was used before.
            one, other = (e.counts(CANDIDATES).narrowed() for e in (plain, quick))
            for field in fields(Counts):
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_tiers_of_other_candidates_than_the_last_are_counted_anew() -> None:
    spec = specs_of("everything", "health")[1]
    matrix = tables.drawn_matrix("everything", 80, seed=7)
    plain = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True)
    quick = LocalEvaluator(matrix, spec, threads=1, compiled=True, by_rule=True, shard=True)
    lows = plain.lows_of(plain.counts(CANDIDATES, untiered=True))
    expected = plain.tiers(CANDIDATES, lows)
    assert not np.array_equal(expected.tier_counts[0], expected.tier_counts[1])

    def check(at: slice) -> None:
        got = quick.tiers(CANDIDATES[at], lows[at])
        np.testing.assert_array_equal(got.tier_counts, expected.tier_counts[at])
        np.testing.assert_array_equal(got.tier_days, expected.tier_days[at])

    check(slice(0, 4))
    quick.counts(CANDIDATES[:4], untiered=True)
    check(slice(4, 8))
    quick.counts(CANDIDATES[:4], untiered=True)
    check(slice(0, 4))
    quick.counts(CANDIDATES[:4], untiered=True)
    quick.move(CANDIDATES[2])
    check(slice(0, 4))


def test_machine_code_is_taken_up_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    ready_after(monkeypatch, kernel=3, proposer=1)
    matrix = tables.drawn_matrix("everything", 80, seed=7)
    for spec in specs_of("everything", "risk"):
        whole = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True)
        parts = [
            LocalEvaluator(part, spec, threads=1, expected=10**9, by_rule=True, shard=True)
            for part in parts_of(matrix, (0, 30, matrix.accounts))
        ]
        for turn in range(3):
            got = summed(parts, whole, by_rule=spec.has_rule)
            np.testing.assert_array_equal(got, whole.sums(CANDIDATES))
            for each in (whole, *parts):
                each.move(CANDIDATES[turn])
        assert all(part.compiles for part in parts)


def test_what_a_shard_calls_is_loaded_before_it_counts() -> None:
    """Rehearsed in the compiler's process, so that none of it is left to compile in a shard."""
    spec = tables.make_spec(base=5)
    matrix = tables.drawn_matrix("everything", 80, seed=7)
    shard = LocalEvaluator(matrix, spec, threads=2, compiled=True, shard=True)
    assert shard.compiles
    with _without_compiling():
        lows = shard.counts(CANDIDATES).lows
        shard.move(CANDIDATES[1])
        shard.counts(CANDIDATES, untiered=True)
        shard.tiers(CANDIDATES, lows)


def test_packed_counts_are_small_and_the_same() -> None:
    """Money that is below 0 or leaves a type, and more accounts than a byte counts."""
    bins = 3 * 128
    values = {"accounts": np.zeros((2, 5, bins)), "money": np.zeros((2, 5, 1, bins))}
    shapes = {"clipped": (2, 2), "tier_counts": (2, 4, 33), "tier_days": (2, 4, 0), "lows": (2, 4)}
    values |= {name: np.zeros(shape) for name, shape in shapes.items()}
    arrays: dict[str, Any] = {name: each.astype(np.int64) for name, each in values.items()}
    counts = Counts(**arrays, first=256)
    counts.accounts[1, 2, 130], counts.tier_counts[0, 0, 0] = 255, 256
    for most, kind in ((2**31 - 1, np.int32), (-(2**31), np.int32), (2**31, np.int64)):
        counts.money[0, 4, 0, 140] = most
        packed = counts.packed()
        assert packed.first == 256 + 128
        assert packed.accounts.shape == (2, 5, 128)
        found = [each.dtype for each in (packed.accounts, packed.money, packed.tier_counts)]
        assert found == [np.uint8, kind, np.uint16]
        total = Counts.total([packed, packed, counts])
        assert total.first == 256
        assert total.accounts.shape[-1] == bins
        for name in arrays:
            expected = getattr(counts, name) * (1 if name == "lows" else 3)
            np.testing.assert_array_equal(getattr(total, name), expected)
            assert getattr(total, name).dtype == np.int64


def test_money_that_takes_two_limbs_is_left_to_numpy_where_it_is() -> None:
    frame = tables.frame_of(tables.draw_table(random.Random(2), 90, "retained"), "retained")
    huge = pl.int_range(pl.len()) == 40
    frame = frame.with_columns(
        pl.when(huge & (pl.col(name) > 0)).then(6e13).otherwise(name).alias(name)
        for name in ("mrr", "mrr_end", "actual_ltv")
    )
    spec = tables.make_spec(base=5)
    matrix = tables.loaded(frame, spec).search
    whole = LocalEvaluator(matrix, spec, threads=1)
    n = matrix.accounts
    pieces = parts_of(matrix, (0, n // 3, n // 2, n))
    parts = [LocalEvaluator(each, spec, threads=1, compiled=True, shard=True) for each in pieces]
    assert sorted(part.compiles for part in parts) == [False, True, True]
    got = whole.frame_of(summed(parts, whole, by_rule=False))
    assert got.cast(pl.Int128).equals(whole.frame(CANDIDATES).cast(pl.Int128))


@pytest.mark.parametrize(
    ("machines", "shards", "placed"),
    [
        # One for each machine, and more for a larger one; a driver's machine may have no cores.
        ([2], None, (1, 2)),
        ([16, 0, 16], None, (2, 16)),
        ([4, 16, 7], None, (6, 4)),
        # As many threads as find a place for all.
        ([16, 16], 3, (3, 8)),
        ([4, 16], 2, (2, 8)),
        ([2], 2, (2, 1)),
        # More shards than cores share them.
        ([2], 3, (3, 1)),
        ([1, 1], 5, (5, 1)),
    ],
)
def test_every_shard_finds_a_place(
    machines: list[int], shards: int | None, placed: tuple[int, int]
) -> None:
    count, threads, claimed = shard_layout(machines, shards, 1_000)
    assert (count, threads) == placed
    assert claimed == threads or claimed < 1
    assert sum(int(cores / claimed) for cores in machines) >= count


# ---- in a cluster -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_of_compiled_plain_and_lost_shards_is_the_same(
    warm_ray: ModuleType, tmp_path: Path
) -> None:
    # Each ends with the process that can't load machine code any more: no other test gets it.
    compiled_and_plain(warm_ray, "health_score", tmp_path / "one", lost=True)
    compiled_and_plain(warm_ray, "churn_risk", tmp_path / "two", lost=False)


def compiled_and_plain(ray: ModuleType, example: str, tmp_path: Path, *, lost: bool) -> None:
    spec = specs.load(EXAMPLES / example / "spec.yaml")
    frame = generate(example, accounts=1_200, seed=4)
    limits = Limits(60)

    # Sent by value, since workers can't import tests.
    def lose_numba(_shard: Any) -> None:
        sys.modules["gtmar.engine.numba_kernel"] = None  # type: ignore[assignment]

    def compiles(shard: Any) -> bool:
        return bool(shard._evaluator.compiles)

    expected = runs.run(frame, spec, limits=limits, seed=5, journal=tmp_path / "plain")
    assert expected.wins > 3
    accounts = load_accounts(scan(frame), spec)
    cluster = ClusterEvaluator(ray, accounts.search, spec, shards=2, by_rule=True, compiled=True)
    with closing(cluster):
        before = cluster.processes
        ray.get(cluster._actors[1].__ray_call__.remote(lose_numba))
        pending = before[:lost]

        def kill_once(at: runs.Progress) -> None:
            if pending and at.wins > 1:
                os.kill(pending.pop(), signal.SIGKILL)

        search = Search(
            accounts,
            spec,
            Judge.of(spec, None),
            Plan(seed=5, limits=limits),
            watch=kill_once,
            evaluator=cluster,
        )
        with RunWriter(tmp_path, "r20260101-000000-abcdef") as writer:
            found = search.run(writer)
        assert found.digest == expected.digest
        assert not pending
        after = cluster.processes
        assert (after[0] != before[0], after[1]) == (lost, before[1])
        # The lost one's successor too counts with machine code.
        ways = ray.get([actor.__ray_call__.remote(compiles) for actor in cluster._actors])
        assert ways == [True, False]
        os.kill(after[1], signal.SIGKILL)


def watched(cluster: ClusterEvaluator) -> list[int]:
    """Return a list to which each shard comes that is started from now on."""
    started, start = list[int](), cluster._started_on

    def noted(shard: int) -> Any:
        started.append(shard)
        return start(shard)

    cluster._started_on = noted
    return started


@pytest.mark.slow
def test_more_candidates_than_are_counted_at_once_keep_their_order(warm_ray: ModuleType) -> None:
    matrix = tables.drawn_matrix("everything", 80, seed=7)
    # Tiers at fixed edges, and by a rule.
    for spec in specs_of("everything", "risk")[::2]:
        many = np.random.default_rng(3).integers(-90, 91, size=(37, 3)).tolist()
        expected = LocalEvaluator(matrix, spec, threads=1, compiled=False, by_rule=True).sums(many)
        cluster = ClusterEvaluator(warm_ray, matrix, spec, shards=2, by_rule=True, compiled=True)
        with closing(cluster):
            cluster.move(many[0])
            np.testing.assert_array_equal(cluster.sums(many), expected)
            if not spec.has_rule:
                # A worker that is lost while it owes several answers is replaced once.
                started = watched(cluster)
                os.kill(cluster.processes[0], signal.SIGKILL)
                np.testing.assert_array_equal(cluster.sums(many), expected)
                assert started == [0]
