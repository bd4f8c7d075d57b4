"""Keep or revert: whatever the batch, the steps are those of a strictly sequential loop."""

import hashlib
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.objective.objective import better
from gtmar.optimize.hill_climb import EXHAUSTED_AFTER, Climb, Given, Known, Outcome, Step
from gtmar.optimize.proposers import RandomProposer, Result, SearchSpace

Vector = tuple[int, ...]
Value = Callable[[Vector], float | None]
Breaches = Callable[[Vector], tuple[str, ...]]


def nothing_broken(_: Vector) -> tuple[str, ...]:
    return ()


# ---- a plain loop, for comparison -----------------------------------------------------------


@dataclass
class Plain:
    """What a loop gives that knows no batches: rows, and where it stands in the end."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    weights: Vector = ()
    proposals: int = 0
    exhausted: bool = False


def plain_loop(
    proposer: Any, start: Vector, value: Value, broken: Breaches, experiments: int
) -> Plain:
    """Propose, evaluate, keep or revert, one at a time."""
    incumbent, incumbent_value, parent = start, value(start), 0
    known, in_row = {start}, 0
    done = Plain()
    while len(done.rows) < experiments and in_row < 1000:
        done.proposals += 1
        changes = proposer.propose(done.proposals, incumbent)
        candidate = tuple(changes.get(i, w) for i, w in enumerate(incumbent))
        if candidate in known:
            in_row += 1
            continue
        in_row = 0
        known.add(candidate)
        found = value(candidate)
        wins = found is not None and (incumbent_value is None or found - incumbent_value > 1e-12)
        breaches = broken(candidate) if wins else ()
        row = {
            "number": len(done.rows) + 1,
            "proposal": done.proposals,
            "changes": changes,
            "weights": candidate,
            "parent": parent,
            "before_weights": incumbent,
            "before": incumbent_value,
            "value": found,
            "outcome": "blocked" if breaches else "win" if wins else "lose",
            "breaches": breaches,
        }
        done.rows.append(row)
        if row["outcome"] == "win":
            incumbent, incumbent_value, parent = candidate, found, len(done.rows)
    done.weights, done.exhausted = incumbent, in_row >= 1000
    return done


def as_row(step: Step) -> dict[str, Any]:
    return {
        "number": step.number,
        "proposal": step.candidate.proposal,
        "changes": step.candidate.changes,
        "weights": step.candidate.weights,
        "parent": step.parent,
        "before_weights": step.before_weights,
        "before": step.before,
        "value": step.value,
        "outcome": str(step.outcome),
        "breaches": step.breaches,
    }


def climbed(
    climb: Climb, sizes: Iterable[int], value: Value, broken: Breaches, experiments: int
) -> list[dict[str, Any]]:
    """Drive a search with batches of these sizes."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        if climb.experiments >= experiments or climb.exhausted:
            break
        batch = climb.ask(min(size, experiments - climb.experiments))
        steps = climb.tell(
            batch,
            [value(candidate.weights) for candidate in batch.candidates],
            lambda place, batch=batch: broken(batch.candidates[place].weights),  # type: ignore[misc]
        )
        rows += [as_row(step) for step in steps]
    return rows


def bumpy(seed: int) -> Value:
    """Make an objective without any order, null here and there, the same for the same weights."""

    def value(weights: Vector) -> float | None:
        drawn = hashlib.sha256(f"{seed}:{weights}".encode()).digest()
        return None if drawn[0] < 20 else drawn[1] / 255

    return value


def smooth(weights: Vector) -> float:
    return -sum((w - goal) ** 2 for w, goal in zip(weights, (12, -7, 3), strict=False)) / 1000


def breaking(weights: Vector) -> tuple[str, ...]:
    return ("too odd",) if sum(weights) % 5 == 0 else ()


def forever(size: int) -> Iterable[int]:
    while True:
        yield size


def search(start: Vector, value: Value, *, span: int = 40, seed: int = 0) -> Climb:
    proposer = RandomProposer(levers(len(start), span), seed=seed)
    return Climb(proposer, start, value(start), better=better)


def levers(width: int, span: int) -> SearchSpace:
    names = tuple(f"w{i}" for i in range(width))
    return SearchSpace(names, (-span,) * width, (span,) * width)


# ---- the same steps -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("value", [smooth, bumpy(1)], ids=["smooth", "bumpy"])
@pytest.mark.parametrize("broken", [nothing_broken, breaking], ids=["free", "guarded"])
def test_any_batch_gives_the_steps_of_the_plain_loop(
    size: int, value: Value, broken: Breaches
) -> None:
    start = (5, 5, 5)
    expected = plain_loop(RandomProposer(levers(3, 40), seed=0), start, value, broken, 150)
    climb = search(start, value)
    assert climbed(climb, forever(size), value, broken, 150) == expected.rows
    assert climb.weights == expected.weights
    assert climb.proposals == expected.proposals
    assert climb.experiments == len(expected.rows) > 90
    outcomes = {row["outcome"] for row in expected.rows}
    assert outcomes == {"win", "lose"} | ({"blocked"} if broken is breaking else set())


@pytest.mark.slow
@given(
    start=st.lists(st.integers(-2, 2), min_size=1, max_size=3),
    span=st.integers(2, 4),
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=8),
    experiments=st.integers(0, 60),
)
@settings(max_examples=24, deadline=None)
def test_batches_of_any_sizes_give_the_plain_steps_up_to_exhaustion(
    start: list[int], span: int, seed: int, sizes: list[int], experiments: int
) -> None:
    # A small space, so that known vectors are the rule and the search runs dry.
    value, at = bumpy(seed), tuple(start)
    proposer = RandomProposer(levers(len(at), span), seed=seed)
    expected = plain_loop(proposer, at, value, breaking, experiments)
    climb = search(at, value, span=span, seed=seed)
    cycle = (sizes[i % len(sizes)] for i in range(10**9))
    assert climbed(climb, cycle, value, breaking, experiments) == expected.rows
    assert (climb.weights, climb.proposals) == (expected.weights, expected.proposals)
    assert climb.exhausted == expected.exhausted


# ---- one by one -----------------------------------------------------------------------------


class Scripted:
    """Proposes from a list, whatever the incumbent; the last one for ever."""

    name = "scripted"
    block: int | None = None

    def __init__(self, *changes: dict[int, int]) -> None:
        self.changes = changes

    def learn(self, result: Result) -> None:
        pass

    def goes_on(self, _number: int, _tried: Collection[Vector], /) -> bool:
        return False

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        return self.changes[min(number, len(self.changes)) - 1]


def scripted(*changes: dict[int, int], value: float | None = 0.5) -> Climb:
    return Climb(Scripted(*changes), (0, 0), value, better=better)


def tell_all(climb: Climb, values: Sequence[float | None], limit: int | None = None) -> list[Step]:
    batch = climb.ask(limit or len(values))
    return climb.tell(batch, values, lambda _: ())


def test_known_vectors_use_up_a_number_and_are_no_experiment() -> None:
    climb = scripted({0: 1}, {1: 0}, {0: 1}, {0: 2}, {0: 3})
    steps = tell_all(climb, [0.1, 0.2])
    assert [(s.number, s.candidate.proposal) for s in steps] == [(1, 1), (2, 4)]
    assert (climb.experiments, climb.proposals) == (2, 4)


def test_a_vector_twice_in_one_batch_is_evaluated_once() -> None:
    batch = scripted({0: 1}, {0: 1}, {0: 2}).ask(2)
    assert [c.proposal for c in batch.candidates] == [1, 3]


def test_asking_changes_nothing() -> None:
    climb = search((5, 5, 5), smooth)
    first = climb.ask(10)
    assert climb.ask(10) == first
    assert climb.ask(3).candidates == first.candidates[:3]
    assert (climb.experiments, climb.proposals, climb.since_win) == (0, 0, 0)
    climb.tell(first, [smooth(c.weights) for c in first.candidates], lambda _: ())
    assert climb.ask(10) != first


def test_a_win_must_be_strict() -> None:
    climb = scripted({0: 1}, {0: 2}, {0: 3}, {0: 4}, value=0.5)
    steps = tell_all(climb, [0.5, 0.5 + 1e-13, None, 0.5 + 1e-11])
    assert [step.outcome for step in steps] == ["lose", "lose", "lose", "win"]
    assert climb.value == 0.5 + 1e-11
    assert climb.weights == (4, 0)


def test_what_follows_a_win_is_asked_anew_from_the_new_incumbent() -> None:
    climb = scripted({0: 1}, {1: 5}, {1: 6})
    steps = tell_all(climb, [0.9, 0.1, 0.1])
    assert len(steps) == 1
    assert (climb.incumbent, climb.proposals, climb.since_win) == (1, 1, 0)
    batch = climb.ask(2)
    assert batch.parent == (1, 0)
    assert [(c.proposal, c.weights) for c in batch.candidates] == [(2, (1, 5)), (3, (1, 6))]
    [one, two] = climb.tell(batch, [0.1, 0.2], lambda _: ())
    assert (one.parent, one.before, one.before_weights) == (1, 0.9, (1, 0))
    assert (two.number, climb.since_win) == (3, 2)


def test_a_breach_blocks_and_only_would_be_wins_are_asked_for_one() -> None:
    climb = scripted({0: 1}, {0: 2}, {0: 3})
    asked: list[int] = []

    def breaches(place: int) -> tuple[str, ...]:
        asked.append(place)
        return ("share_by_tier.A 0.01 < min 0.05",)

    steps = climb.tell(climb.ask(3), [0.4, 0.9, 0.3], breaches)
    assert asked == [1]
    assert [step.outcome for step in steps] == [Outcome.LOSE, Outcome.BLOCKED, Outcome.LOSE]
    assert steps[1].breaches == ("share_by_tier.A 0.01 < min 0.05",)
    assert (climb.weights, climb.value, climb.incumbent) == ((0, 0), 0.5, 0)
    assert climb.since_win == 3


def test_a_null_baseline_loses_to_any_value() -> None:
    climb = scripted({0: 1}, value=None)
    [step] = tell_all(climb, [0.0])
    assert (step.outcome, step.before) == (Outcome.WIN, None)


def test_a_thousand_known_proposals_in_a_row_exhaust_a_search() -> None:
    assert EXHAUSTED_AFTER == 1000
    climb = scripted({0: 1})
    tell_all(climb, [0.1])
    assert not climb.exhausted
    batch = climb.ask(4)
    assert batch.candidates == ()
    assert batch.last_proposal == 1001
    assert climb.tell(batch, [], lambda _: ()) == []
    assert (climb.exhausted, climb.proposals, climb.experiments) == (True, 1001, 1)


@pytest.mark.parametrize(("known", "candidates"), [(999, 1), (1000, 0)])
def test_one_short_of_a_thousand_is_not_exhausted(known: int, candidates: int) -> None:
    climb = scripted(*[{0: 0}] * known, {0: 1})
    assert len(climb.ask(1).candidates) == candidates


def test_a_win_after_a_dry_spell_ends_it() -> None:
    climb = scripted({0: 1}, *[{0: 0}] * 2000)
    batch = climb.ask(2)
    assert batch.trailing_known == 1000
    climb.tell(batch, [0.9], lambda _: ())
    assert not climb.exhausted


def test_values_must_be_one_a_candidate() -> None:
    climb = scripted({0: 1}, {0: 2})
    with pytest.raises(ValueError, match="zip"):
        climb.tell(climb.ask(2), [0.1], lambda _: ())


def test_the_incumbent_never_falls() -> None:
    source = random.Random(0)
    climb = search((5, 5, 5), smooth)
    best = climb.value
    for _ in range(60):
        batch = climb.ask(source.randint(1, 9))
        climb.tell(batch, [smooth(c.weights) for c in batch.candidates], lambda _: ())
        assert climb.value is not None
        assert best is not None
        assert climb.value >= best
        assert climb.value == smooth(climb.weights)
        best = climb.value


# ---- given vectors and known results --------------------------------------------------------


def test_given_vectors_come_first_whatever_the_incumbent() -> None:
    given = Given("memory", ((3, 3), (0, 0), (4, 4)))
    climb = Climb(Scripted({0: 9}), (0, 0), 0.5, better=better, given=(given,))
    steps = tell_all(climb, [0.9], limit=1)
    assert [(s.candidate.proposal, s.candidate.by, s.outcome) for s in steps] == [
        (1, "memory", Outcome.WIN)
    ]
    assert steps[0].candidate.changes == {0: 3, 1: 3}
    # The start is known; the next one is told as changes of the new incumbent.
    batch = climb.ask(2)
    assert [(c.proposal, c.by, c.changes) for c in batch.candidates] == [
        (3, "memory", {0: 4, 1: 4}),
        (4, "scripted", {0: 9}),
    ]


def test_known_results_are_taken_over_and_are_no_experiment() -> None:
    known: dict[Vector, Known] = {
        (1, 0): Known(0.4, "r1/exp_00007"),
        (2, 0): Known(None, "r1/exp_00008"),
    }
    climb = Climb(Scripted({0: 1}, {0: 2}, {0: 3}, {0: 4}), (0, 0), 0.5, better=better, known=known)
    batch = climb.ask(2)
    assert [c.proposal for c in batch.fresh] == [3, 4]
    steps = climb.tell(batch, [0.1, 0.2], lambda _: ())
    assert [(s.number, s.outcome, s.value) for s in steps] == [
        (1, Outcome.KNOWN, 0.4),
        (2, Outcome.KNOWN, None),
        (3, Outcome.LOSE, 0.1),
        (4, Outcome.LOSE, 0.2),
    ]
    assert (climb.experiments, climb.number, climb.since_win) == (2, 4, 2)
    assert steps[0].candidate.known == known[1, 0]


def test_a_known_result_that_would_be_kept_is_measured_anew() -> None:
    known: dict[Vector, Known] = {(1, 0): Known(0.9, "r1/exp_00007")}
    climb = Climb(Scripted({0: 1}), (0, 0), 0.5, better=better, known=known)
    batch = climb.ask(1)
    assert [c.taken_over for c in batch.candidates] == [False]
    [step] = climb.tell(batch, [0.9], lambda _: ("too odd",))
    assert (step.outcome, climb.weights) == (Outcome.BLOCKED, (0, 0))
    assert step.candidate.known == known[1, 0]


def test_known_results_alone_exhaust_a_search() -> None:
    known: dict[Vector, Known] = {(w, 0): Known(0.1, "r1/exp_00001") for w in range(1, 2001)}
    climb = Climb(
        Scripted(*({0: w} for w in range(1, 2001))), (0, 0), 0.5, better=better, known=known
    )
    batch = climb.ask(4)
    assert (len(batch.candidates), batch.fresh) == (1000, ())
    climb.tell(batch, [], lambda _: ())
    assert (climb.exhausted, climb.experiments, climb.number) == (True, 0, 1000)


def test_asking_ends_with_the_proposal_that_is_named() -> None:
    climb = scripted({0: 1}, {0: 2}, {0: 3})
    assert [c.proposal for c in climb.ask(9, until=2).candidates] == [1, 2]


class Learning(Scripted):
    """Proposes by what it was told before its block: the sum of all values so far."""

    name = "learning"
    block: int | None = 4

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Result] = []

    def learn(self, result: Result) -> None:
        self.told.append(result)

    def propose(self, number: int, weights: Sequence[int]) -> dict[int, int]:
        wins = [r.proposal for r in self.told if r.won]
        upto = max([(number - 1) // 4 * 4, *wins])
        sums = sum(int(1000 * (r.value or 0)) for r in self.told if r.proposal <= upto)
        index = (sums + number) % len(weights)
        return {index: weights[index] + 1 + (sums + 7 * number) % 401}


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("cut", [0, 5, 17])
def test_a_proposer_that_learns_sees_the_same_whatever_batch_or_cut(size: int, cut: int) -> None:
    start, value = (5, 5, 5), bumpy(3)
    known: dict[Vector, Known] = {(6, 5, 5): Known(value((6, 5, 5)), "r1/exp_00001")}

    def fresh() -> Climb:
        return Climb(Learning(), start, value(start), better=better, known=known)

    def driven(climb: Climb, sizes: int, experiments: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while climb.experiments < experiments and not climb.exhausted:
            batch = climb.ask(min(sizes, experiments - climb.experiments))
            steps = climb.tell(batch, [value(c.weights) for c in batch.fresh], lambda _: ())
            rows += [as_row(step) for step in steps]
        return rows

    whole = driven(fresh(), 1, 60)
    assert driven(fresh(), size, 60) == whole
    resumed = fresh()
    for row in whole[:cut]:
        resumed.restore(row["proposal"], row["weights"], row["value"], row["outcome"])
    assert whole[:cut] + driven(resumed, size, 60) == whole
    assert len(whole) >= 60


def test_what_is_restored_counts_towards_exhaustion() -> None:
    known: dict[Vector, Known] = {(w, 0): Known(0.1, "r1/exp_00001") for w in range(1, 3001)}

    def fresh() -> Climb:
        proposals = Scripted(*({0: w} for w in range(1, 3001)))
        return Climb(proposals, (0, 0), 0.5, better=better, known=known)

    resumed = fresh()
    for number in range(1, 401):
        resumed.restore(number, (number, 0), 0.1, "known")
    batch = resumed.ask(1)
    assert (len(batch.candidates), batch.last_proposal) == (600, 1000)
