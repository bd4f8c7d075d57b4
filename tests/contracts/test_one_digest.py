"""One run, however it is computed: batches, threads and parts of a table change no digit."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tables

from gtmar import spec as specs
from gtmar.accounts.matrix import Accounts
from gtmar.evaluate import LocalEvaluator, local
from gtmar.journal.writer import RunWriter
from gtmar.objective import Judge
from gtmar.runs import Limits
from gtmar.runs.loop import Search
from gtmar.runs.plan import Plan
from gtmar.runs.records import new_run_id, start_record
from gtmar.synthetic import generate

SPEC = specs.load(Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml")


@pytest.fixture(scope="module")
def accounts() -> Accounts:
    return tables.loaded(generate("health_score", accounts=1_200, seed=5), SPEC)


def digest(
    accounts: Accounts, journal: Path, *, batch: int | None, threads: int, part_rows: int
) -> str:
    evaluator = LocalEvaluator(accounts.search, SPEC, threads=threads, part_rows=part_rows)
    plan = Plan(limits=Limits(80), seed=4, batch=batch)
    search = Search(accounts, SPEC, Judge.of(SPEC), plan, evaluator=evaluator)
    with RunWriter(journal, new_run_id()) as writer:
        found = search.run(writer, start=start_record(search))
    assert found.wins > 3
    return found.digest


@pytest.fixture(scope="module")
def sequential(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the plain loop: one candidate after the other, one thread, one part."""
    folder = tmp_path_factory.mktemp("sequential")
    return digest(accounts, folder, batch=1, threads=1, part_rows=local.PART_ROWS)


@pytest.mark.parametrize("part_rows", [500, local.PART_ROWS])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 7, 64, None])
def test_batches_threads_and_parts_give_one_digest(
    accounts: Accounts,
    tmp_path: Path,
    sequential: str,
    batch: int | None,
    threads: int,
    part_rows: int,
) -> None:
    found = digest(accounts, tmp_path, batch=batch, threads=threads, part_rows=part_rows)
    assert found == sequential


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
    alone = LocalEvaluator(matrix, spec, threads=1)
    expected = np.concatenate([alone.sums([weights]) for weights in candidates])
    for threads, part_rows in ((1, 7), (3, 25), (2, 10_000)):
        many = LocalEvaluator(matrix, spec, threads=threads, part_rows=part_rows)
        np.testing.assert_array_equal(many.sums(candidates), expected)
        many.move(candidates[3])
        np.testing.assert_array_equal(many.reduce(many.counts(candidates)), expected)


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
