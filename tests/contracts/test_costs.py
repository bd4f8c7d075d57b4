"""What an experiment costs, counted and not timed: passes, bytes, memory, candidates in vain.

Each number is exact or bounded tightly, so that a pass more than needed is seen on any machine.
"""

import gc
import signal
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
import tables

from gtmar import spec as specs
from gtmar.data.matrix import AccountMatrix
from gtmar.data.outcomes import Movement
from gtmar.data.synthetic import generate
from gtmar.engine import numba_kernel
from gtmar.engine import numba_table as fused
from gtmar.engine import numpy_kernel as counts
from gtmar.engine import numpy_kernel as scores
from gtmar.engine.local import PART_ROWS, LocalEvaluator
from gtmar.engine.threads import set_aside
from gtmar.runs import Limits, run
from gtmar.runs.bench import Track

SPEC = specs.load(Path(__file__).parents[1] / "golden" / "fixed_edges.yaml")
WEIGHTS = [term.weight for term in SPEC.terms]


class Recording:
    """numpy, with a note of every call of some of its functions."""

    def __init__(self, *names: str) -> None:
        self.calls: dict[str, list[tuple[Any, ...]]] = {name: [] for name in names}

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if name not in self.calls:
            return function

        def noted(*arguments: Any, **keywords: Any) -> Any:
            self.calls[name].append(arguments)
            return function(*arguments, **keywords)

        return noted


def matrix_of(accounts: int) -> AccountMatrix:
    whole = SPEC.split.model_copy(update={"holdout": 0.0})
    table = generate("health_score", accounts=accounts, seed=2)
    return tables.loaded(table, SPEC.model_copy(update={"split": whole})).search


def changed(places: dict[int, int]) -> list[int]:
    return [weight + places.get(place, 0) for place, weight in enumerate(WEIGHTS)]


def size(rows: slice) -> int:
    return int(rows.stop - rows.start)


@pytest.fixture(scope="module")
def matrix() -> AccountMatrix:
    return matrix_of(3_000)


@pytest.fixture
def evaluator(matrix: AccountMatrix) -> Callable[..., LocalEvaluator]:
    def made(part_rows: int = PART_ROWS) -> LocalEvaluator:
        found = LocalEvaluator(matrix, SPEC, threads=1, part_rows=part_rows, compiled=False)
        found.move(WEIGHTS)
        return found

    return made


@pytest.mark.parametrize("part_rows", [500, 65_536])
@pytest.mark.parametrize("candidates", [1, 8])
def test_a_candidate_is_counted_in_the_fewest_passes(
    monkeypatch: pytest.MonkeyPatch,
    matrix: AccountMatrix,
    evaluator: Callable[..., LocalEvaluator],
    candidates: int,
    part_rows: int,
) -> None:
    ready = evaluator(part_rows=part_rows)
    numpy = Recording("bincount")
    monkeypatch.setattr(counts, "np", numpy)
    ready.sums([changed({place: 1}) for place in range(candidates)])
    given = [arguments for arguments in numpy.calls["bincount"] if len(arguments[0])]
    rows = sum(len(arguments[0]) for arguments in given)
    paying = size(matrix.paying_rows)
    labelled = size(matrix.rows(Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING))
    assert matrix.ltv_rows is not None
    assert matrix.day_codes is not None
    # Every account once by place and once by tier, the paying once, all with an LTV once, and
    # beside these the few that are taken away, changed, or have a date.
    few = [
        labelled - paying,
        matrix.accounts - len(matrix.ltv_rows),
        size(matrix.rows(Movement.KEPT_CONTRACTED, Movement.KEPT_CONTRACTED)),
        size(matrix.rows(Movement.KEPT_EXPANDED, Movement.KEPT_EXPANDED)),
        int((matrix.day_codes >= 0).sum()),
    ]
    assert rows == candidates * (3 * matrix.accounts + paying + sum(few))
    assert rows < candidates * 4.5 * matrix.accounts
    # What isn't of the platform's index type would be copied before it is counted.
    assert {arguments[0].dtype for arguments in given} == {np.dtype(np.intp)}
    if part_rows > matrix.accounts:
        # All candidates of a small table share each call.
        assert len(given) <= 10


def test_a_candidate_touches_the_columns_that_changed_alone(
    monkeypatch: pytest.MonkeyPatch, matrix: AccountMatrix, evaluator: Callable[..., LocalEvaluator]
) -> None:
    ready = evaluator()
    numpy = Recording("multiply", "add", "floor_divide", "copyto")
    monkeypatch.setattr(scores, "np", numpy)
    ready.sums([changed({2: 1, 5: -2}), changed({11: 3}), WEIGHTS])
    read = [arguments[0] for arguments in numpy.calls["multiply"]]
    assert [column.nbytes for column in read] == [matrix.columns[i].nbytes for i in (2, 5, 11)]
    for column, place in zip(read, (2, 5, 11), strict=True):
        assert np.shares_memory(column, matrix.columns[place])
    # A product is added where it is needed; only a candidate without a change is copied.
    added = [arguments[0] for arguments in numpy.calls["add"]]
    assert sum(values.shape == (matrix.accounts,) for values in added) == 3
    assert len(numpy.calls["copyto"]) == 1
    # All three are rounded in one pass.
    assert len(numpy.calls["floor_divide"]) == 1


def test_columns_have_the_narrowest_type(matrix: AccountMatrix) -> None:
    assert sum(column.itemsize for column in matrix.columns) <= 2 * len(matrix.columns)


def peak_of(matrix: AccountMatrix, *, compiled: bool) -> int:
    """Measure the most memory that an evaluation needs beyond what is held."""
    evaluator = LocalEvaluator(matrix, SPEC, threads=1, part_rows=1_024, compiled=compiled)
    evaluator.move(WEIGHTS)
    candidates = [changed({place: 1}) for place in range(4)]
    evaluator.sums(candidates)
    tracemalloc.start()
    try:
        evaluator.sums(candidates)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_an_evaluation_does_not_grow_with_the_table() -> None:
    small, large = (peak_of(matrix_of(n), compiled=False) for n in (6_000, 18_000))
    assert large < 1.05 * small
    # Counts of four candidates: thirteen arrays of 10,112 places each, and room to add to them.
    assert small < 3 * 4 * 13 * 8 * 10_112


@pytest.mark.slow
def test_machine_code_keeps_its_room() -> None:
    small, large = (peak_of(matrix_of(n), compiled=True) for n in (6_000, 18_000))
    # Sums and changes of four candidates; whoever comes second finds all else there.
    assert large < 1.05 * small
    assert small < 4 * 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("many_rows", "slots", "each"),
    # An account's bin and five counts of a bin, for one candidate at a time; or for four together
    # five counts, one more of each code that occurs, and five histograms.
    [(10_000, 1, (2, 5 * 2)), (1_000, 4, (0, 5 * 4 + 5 * 8))],
)
def test_room_is_for_the_candidates_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, many_rows: int, slots: int, each: tuple[int, int]
) -> None:
    monkeypatch.setattr(fused, "_MANY_ROWS", many_rows)
    matrix = matrix_of(3_000)
    evaluator = LocalEvaluator(matrix, SPEC, threads=1, compiled=True)
    table = evaluator._numba_table(1)
    assert table is not None
    before = sum(array.nbytes for array in table.arrays)
    for candidates in (4, 1, 3):
        evaluator.sums([changed({place: 1}) for place in range(candidates)])
    room = sum(array.nbytes for array in table.arrays) - before
    codes = 0 if each[0] else len(np.unique(matrix.codes))
    expected = slots * (each[0] * matrix.accounts + (each[1] + 4 * codes) * 10_001)
    assert expected < room < 1.05 * expected + 4 * 8 * 4 * 100


@pytest.mark.parametrize("compiled", [False, True])
def test_what_stays_in_memory_is_the_matrix_and_its_scores(
    matrix: AccountMatrix, *, compiled: bool
) -> None:
    held = LocalEvaluator(matrix, SPEC, part_rows=256, compiled=compiled)
    held.sums([WEIGHTS])
    features = sum(column.nbytes for column in matrix.columns)
    # Besides: three columns of cents, the class, the scores, the LTV cohort's rows, the days; and
    # ready to be counted the class again, start MRR, LTV, and the changes of some.
    beside = (3 * 8 + 2 + 4 + 4 + 4) + (4 + 8 + 8 + 0.3 * 8)
    if compiled:
        # Beside the matrix: start MRR, LTV and the changes of some, narrow.
        beside = (3 * 8 + 2 + 4 + 4 + 4) + (4 + 4 + 0.3 * 4)
    # The room of a candidate is the same for any number of accounts.
    fixed = 10 * 10_001 if compiled else 0
    # Its own places.
    beside += 2 if compiled else 0
    assert held.nbytes < fixed + features + 1.1 * beside * matrix.accounts
    assert held.nbytes > fixed + features + 0.9 * beside * matrix.accounts
    assert (held.nbytes - fixed) / matrix.accounts <= 100


@pytest.mark.slow
@pytest.mark.parametrize("accounts", [2_000, 20_000])
def test_few_candidates_are_evaluated_in_vain(accounts: int) -> None:
    track = Track(generate("health_score", accounts=accounts), SPEC)
    track.round(300)
    assert track.pace(300).evaluated < 1.5


#: Evaluates candidates with the addresses of some columns made invalid: to read one is the end.
_TRAPPED = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_costs import SPEC, WEIGHTS, changed, matrix_of
from gtmar.engine.local import LocalEvaluator

evaluator = LocalEvaluator(matrix_of(1_000), SPEC, threads=1, compiled=True)
evaluator.move(WEIGHTS)
table = evaluator._numba_table(1)
trapped = [int(place) for place in sys.argv[2].split(",")]
table._rows.columns[trapped] = 8
evaluator.sums([changed({2: 1, 5: -2}), changed({11: 3})])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trapped", "survives"), [("0,1,3,4,6,7,8,9,10,12,13", True), ("5", False)]
)
def test_machine_code_reads_the_columns_that_changed_alone(trapped: str, *, survives: bool) -> None:
    done = forks.script(_TRAPPED, str(Path(__file__).parent), trapped)
    assert (done.returncode == 0) is survives, done.stderr
    if not survives:
        assert done.returncode == -signal.SIGSEGV


#: Calls of machine code for eight candidates: all at once, two at a time, and a thousand rows at a
#: time of three, whose candidates are put together one by one.
_CALLS = {
    "few rows": ({}, {"evaluate": 1}),
    "candidates": ({"_FEW_ROWS": 0}, {"evaluate": 4}),
    "rows": ({"_MANY_ROWS": 1_000, "_PIECE": 1_000}, {"tabulate": 3, "conclude": 8}),
}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shared", list(_CALLS))
def test_machine_code_is_called_a_few_times_a_batch(
    monkeypatch: pytest.MonkeyPatch, threads: int, shared: str
) -> None:
    sizes, expected = _CALLS[shared]
    for name, value in sizes.items():
        monkeypatch.setattr(fused, name, value)
    evaluator = LocalEvaluator(matrix_of(3_000), SPEC, threads=threads, compiled=True)
    evaluator.sums([WEIGHTS])
    noted: list[str] = []

    def note(module: Any, name: str) -> None:
        function = getattr(module, name)

        def noting(*arguments: Any) -> None:
            noted.append(name)
            function(*arguments)

        monkeypatch.setattr(module, name, noting)

    for name in numba_kernel.__all__:
        note(numba_kernel, name)
    evaluator.sums([changed({place: 1}) for place in range(8)])
    # What the other thread counted, if it came in time to, is gathered for each candidate.
    assert noted.count("gather") in ({0, 8} if shared == "rows" and threads == 2 else {0})
    assert {name: noted.count(name) for name in noted if name != "gather"} == expected
    noted.clear()
    evaluator.move(WEIGHTS)
    assert noted == ["move"] * (3 if shared == "rows" else 1)


@pytest.fixture
def nothing_aside() -> None:
    """Bring back what other tests, or tools that they ran, have set aside."""
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_aside")
def test_a_search_does_not_look_through_what_was_there_before_for_garbage(tmp_path: Path) -> None:
    counts: list[int] = []
    table = generate("health_score", accounts=300, seed=2)
    seen = len(gc.get_objects()) // 2

    def watch(_: object) -> None:
        counts.append(gc.get_freeze_count())

    run(table, SPEC, watch=watch, limits=Limits(20), journal=tmp_path)
    assert counts
    assert min(counts) > seen
    assert gc.get_freeze_count() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_aside")
def test_what_somebody_else_has_set_aside_stays_so() -> None:
    gc.freeze()
    try:
        with set_aside():
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    with pytest.raises(ZeroDivisionError), set_aside():
        1 / 0  # noqa: B018  # what is raised inside
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(("set_before", "within"), [(700, 50_000), (10**6, 10**6), (0, 0)])
def test_garbage_is_looked_for_seldom_and_as_somebody_else_has_it_afterwards(
    set_before: int, within: int
) -> None:
    own = gc.get_threshold()
    gc.set_threshold(set_before, *own[1:])
    try:
        for error in (None, ZeroDivisionError):
            with suppress(ZeroDivisionError), set_aside():
                assert gc.get_threshold()[0] == within
                if error is not None:
                    raise error
            assert gc.get_threshold()[0] == set_before
    finally:
        gc.set_threshold(*own)
