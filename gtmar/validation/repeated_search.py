"""A run's search repeated over shuffled outcomes (null) and halves of the accounts (stability).

A null search answers two questions. Does the score know anything? Outcomes are shuffled among all
accounts, and the best value is compared with the best values there. Is it better than the start?
Outcomes are shuffled among accounts of similar score at the start, so that the start keeps its
order but nothing is left to find, and the gain is compared with the gains there.

Encoders that depend on outcomes are refitted to each draw, so that the null distribution includes
the optimism of fitting them. The terminal and a run's page use the same sentences.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gtmar.engine.local import LocalEvaluator
from gtmar.engine.processes import Processes
from gtmar.optimize.hill_climb import Climb
from gtmar.optimize.search_loop import SearchLoop
from gtmar.validation.resampling import halved, in_order_of_content, shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gtmar.autospec.refit_encoders import EncoderRefit
    from gtmar.data.matrix import AccountMatrix
    from gtmar.objective.objective import Judge
    from gtmar.optimize.hill_climb import Given
    from gtmar.optimize.proposers import Proposer
    from gtmar.optimize.search_loop import Limits
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "CHANCE",
    "Chance",
    "NullAnswers",
    "RepeatedSearch",
    "SearchOutcome",
    "WeightStability",
    "gain_by_chance",
    "read_weights",
    "searched_again",
    "value_by_chance",
]

#: p-value above which a result counts as due to chance.
CHANCE = 0.05


@dataclass(frozen=True)
class SearchOutcome:
    """The result of one search."""

    start_value: float | None
    value: float | None
    weights: tuple[int, ...]
    experiments: int
    #: The spec that was searched, with refitted encoders if there are any.
    spec: ScoringSpec = field(repr=False)
    #: The best of the weights that were tried before any proposal, the start's own among them.
    first: tuple[int, ...] = ()

    def gain(self, sign: int) -> float | None:
        """Return the improvement over the start; None without a value on either side."""
        if self.start_value is None or self.value is None:
            return None
        return sign * (self.value - self.start_value)


@dataclass(frozen=True)
class RepeatedSearch:
    """A search that can be repeated over any matrix; nothing is journaled.

    Parameters
    ----------
    spec
        Its weights are the start.
    judge
        Objective and guardrails.
    proposer
        Returns a new proposer; each search needs its own, since some learn.
    limits
        Limits at which a search stops.
    given
        Returns the weight vectors to try first, fitted to a matrix; None for none.
    refit
        Fits encoders to a matrix, whose columns must include those to be encoded; None if no
        encoder depends on outcomes.
    only_first
        Whether to try `given` alone, and no proposal.
    """

    spec: ScoringSpec
    judge: Judge
    proposer: Callable[[], Proposer]
    limits: Limits
    given: Callable[[AccountMatrix], Given | None] | None = None
    refit: EncoderRefit | None = None
    only_first: bool = False

    def over(self, matrix: AccountMatrix) -> SearchOutcome:
        """Search over one matrix."""
        spec = self.spec if self.refit is None else self.refit.fitted(matrix)
        matrix = self.encoded(matrix, spec)
        evaluator = LocalEvaluator(matrix, spec, expected=self.limits.experiments, by_rule=True)
        loop = SearchLoop(matrix, spec, self.judge, evaluator)
        given = self.given(matrix) if self.given else None
        climb = Climb(
            self.proposer(),
            loop.start,
            loop.start_value,
            better=self.judge.gain,
            given=(given,) if given else (),
        )
        if given:
            loop.drive(climb, replace(self.limits, proposals=len(given.vectors)))
        first = climb.weights
        if not self.only_first:
            loop.drive(climb, self.limits)
        found = climb.value, climb.weights, climb.experiments
        return SearchOutcome(loop.start_value, *found, spec, first)

    def encoded(self, matrix: AccountMatrix, spec: ScoringSpec) -> AccountMatrix:
        """Return a matrix encoded by a spec, the search's own or one with refitted encoders."""
        return matrix if self.refit is None else self.refit.encoded(matrix, spec)

    def over_drawn(self, draw: Callable[..., AccountMatrix], number: int) -> SearchOutcome:
        """Search over the draw of a number."""
        return self.over(draw(number=number))

    def over_each(
        self,
        draw: Callable[..., AccountMatrix],
        searches: int,
        watch: Callable[[int, int], None] | None,
        processes: Processes | None,
    ) -> list[SearchOutcome]:
        """Search over the draws 1 to `searches`, in parallel where that is quicker.

        What is quicker is judged by the processor time of a search, so that a crowded machine, on
        which more processes only wait for each other, isn't taken for a long search.
        `watch` is called with the numbers of finished and of all searches.
        """
        task, finished = partial(self.over_drawn, draw), 0

        def done() -> None:
            nonlocal finished
            finished += 1
            if watch is not None:
                watch(finished, searches)

        outcomes: list[SearchOutcome] = []
        processes, took = processes or Processes(), 0.0
        while len(outcomes) < searches:
            left = range(len(outcomes) + 1, searches + 1)
            if processes.worth(took * len(left)):
                return outcomes + processes.each(task, left, done)
            began = time.process_time()
            outcomes.append(task(left[0]))
            took = time.process_time() - began
            done()
        return outcomes


@dataclass(frozen=True)
class Chance:
    """The result of a search beside those of the same search on resampled outcomes.

    Parameters
    ----------
    found
        The value or gain in question.
    drawn
        The value or gain of each search on resampled outcomes, smallest first.
    sign
        1 where more is better, -1 where less is.
    """

    found: float
    drawn: tuple[float, ...]
    sign: int = 1

    @property
    def as_good(self) -> int:
        """Number of searches on resampled outcomes with a result at least as good."""
        return sum(self.sign * value >= self.sign * self.found for value in self.drawn)

    @property
    def p_value(self) -> float:
        """(1 + `as_good`) / (1 + searches); never 0.

        References
        ----------
        Phipson & Smyth 2010.
        """
        return (1 + self.as_good) / (1 + len(self.drawn))

    def quantile(self, share: float) -> float:
        """Return the quantile of the resampled results, ordered from the worst up."""
        return self.sign * float(np.quantile([self.sign * value for value in self.drawn], share))

    @property
    def facts(self) -> dict[str, float]:
        """`found`, `p_value`, and the median (`typical`) and 95 % quantile (`high`) by chance."""
        ends = {"typical": self.quantile(0.5), "high": self.quantile(0.95)}
        return {"found": self.found, "p_value": self.p_value, **ends}


def value_by_chance(
    search: RepeatedSearch,
    matrix: AccountMatrix,
    value: float,
    *,
    searches: int,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
    processes: Processes | None = None,
) -> Chance:
    """Compare a search's best value with those on outcomes shuffled among all accounts.

    Parameters
    ----------
    searches
        1 or more; a p-value can't be below 1 / (searches + 1).
    seed
        Keys the draws; the order of the matrix's rows makes no difference.
    watch
        Called with the numbers of finished and of all searches.
    processes
        Runs searches in parallel; the result is the same.

    Notes
    -----
    A search whose objective has no value on shuffled outcomes counts as having reached 0. Cost:
    that of `searches` runs.
    """
    matrix = in_order_of_content(matrix)
    draw = partial(shuffled, matrix, seed=seed)
    outcomes = search.over_each(draw, searches, watch, processes)
    values = sorted(outcome.value or 0.0 for outcome in outcomes)
    return Chance(value, tuple(values), search.judge.sign)


def gain_by_chance(
    search: RepeatedSearch,
    matrix: AccountMatrix,
    gain: float,
    *,
    searches: int,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
    processes: Processes | None = None,
) -> Chance:
    """Compare a gain, above 0 if better, with those where there is nothing to find.

    Outcomes are shuffled among accounts of similar score at the start. All else is as for
    `value_by_chance`.
    """
    matrix = in_order_of_content(matrix)
    start = [term.weight for term in search.spec.terms]
    scores = LocalEvaluator(search.encoded(matrix, search.spec), search.spec).scores(start)
    draw = partial(shuffled, matrix, seed=seed, scores=scores)
    outcomes = search.over_each(draw, searches, watch, processes)
    gains = sorted(outcome.gain(search.judge.sign) or 0.0 for outcome in outcomes)
    return Chance(gain, tuple(gains))


@dataclass(frozen=True)
class WeightStability:
    """One weight in searches over halves of the accounts.

    Parameters
    ----------
    name
        The term's name.
    start, found
        The weight at the start of the searches, and the weight in question.
    low, middle, high
        The 2.5 % quantile, median and 97.5 % quantile of the searches' weights.
    sign_held
        Share of searches whose weight has the sign of `found`; 0 is a sign of its own.
    direction_held
        Share of searches that moved the weight from the start in the direction of `found`; None if
        `found` is the start.
    reading
        ``holds`` if complementary halves agree on the sign more often than they do in 95 % of cases
        of noise; ``noise`` if not, as the sign may be wrong; ``fixed`` if the bounds leave no room.
    """

    name: str
    start: int
    found: int
    low: float
    middle: float
    high: float
    sign_held: float
    direction_held: float | None
    reading: Literal["holds", "noise", "fixed"]


def searched_again(
    search: RepeatedSearch,
    matrix: AccountMatrix,
    *,
    searches: int,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
    processes: Processes | None = None,
) -> NDArray[np.int64]:
    """Search over halves of the accounts, keyed by `seed`: 1 and 2 are complementary, and so on.

    Returns
    -------
    ndarray of int64, shape (searches, F)
        The final weights of each search, independent of the order of the matrix's rows. Where an
        encoder refitted to a half runs opposite to the spec's, the weight's sign is reversed.

    Notes
    -----
    Cost: that of `searches` runs over half the accounts.
    """
    matrix = in_order_of_content(matrix)
    draw = partial(halved, matrix, seed=seed)
    outcomes = search.over_each(draw, searches, watch, processes)
    weights = np.array([outcome.weights for outcome in outcomes], dtype=np.int64)
    if search.refit is None:
        return weights
    own = search.encoded(matrix, search.spec).columns
    columns = [search.encoded(matrix, outcome.spec).columns for outcome in outcomes]
    for term, _ in enumerate(own):
        like = np.array([_alike(own[term], each[term]) for each in columns])
        weights[:, term] *= np.where(like < 0, -1, 1)
        for one in range(0, searches - 1, 2):
            # If the encoders of two halves oppose each other, they can't both agree with that of
            # the whole. If both seem to, the one that correlates less with it is reversed.
            turned = _alike(columns[one][term], columns[one + 1][term]) * np.prod(
                like[one : one + 2]
            )
            if turned < 0:
                weights[one + int(np.argmin(np.abs(like[one : one + 2]))), term] *= -1
    return weights


def _alike(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    """Return the correlation of two encodings of a column, shape (N,); 1 if either is constant."""
    if one is other or one.min() == one.max() or other.min() == other.max():
        return 1.0
    return float(np.corrcoef(one, other)[0, 1])


def read_weights(
    spec: ScoringSpec, weights: Sequence[int], drawn: NDArray[np.int64]
) -> tuple[WeightStability, ...]:
    """Return the stability of F weights, from those of the searches, shape (searches, F)."""
    read = []
    for term, weight, column in zip(spec.terms, weights, drawn.T, strict=True):
        low, middle, high = (float(v) for v in np.quantile(column, [0.025, 0.5, 0.975]))
        moved = np.sign(column - term.weight) == np.sign(weight - term.weight)
        reading: Literal["holds", "noise", "fixed"] = "holds" if _holds(column) else "noise"
        read.append(
            WeightStability(
                name=term.name,
                start=term.weight,
                found=weight,
                low=low,
                middle=middle,
                high=high,
                sign_held=float((np.sign(column) == np.sign(weight)).mean()),
                direction_held=float(moved.mean()) if weight != term.weight else None,
                reading="fixed" if term.fixed else reading,
            )
        )
    return tuple(read)


def _holds(drawn: NDArray[np.int64]) -> bool:
    """Return whether complementary halves agree on a weight's sign more often than by chance.

    On noise, every number of disagreeing pairs is equally likely.
    """
    signs = np.sign(drawn)
    pairs = signs[: len(signs) // 2 * 2].reshape(-1, 2).sum(axis=1)
    if not len(pairs):
        return bool(signs.all())
    disagree = len(pairs) - max((pairs == 2).sum(), (pairs == -2).sum())
    return bool(disagree <= max(0, int(CHANCE * (1 + len(pairs))) - 1))


# ---- the answers of a null search ----------------------------------------------------------------


@dataclass(frozen=True)
class NullAnswers:
    """The results of a null search, as recorded in an event, and their interpretation."""

    objective: str
    #: Gain of the run, as an improvement.
    found: float
    #: Gains where nothing is left to find beyond the start, smallest first; where `knows` is None,
    #: as an earlier version had it, on outcomes shuffled among all accounts.
    gains: tuple[float, ...]
    p_value: float
    #: Median of these gains, and what 95% of them stay below.
    typical: float
    high: float
    #: Experiments of each search.
    experiments: int
    #: `found`, the run's best value; `values` on outcomes shuffled among all accounts; and of these
    #: `p_value`, `typical` and `high`; `fitted`, whether the start may have been made from the same
    #: accounts and know them beforehand; `unseen`, the value on those held out. None where nobody
    #: asked.
    knows: dict[str, Any] | None

    @property
    def as_good(self) -> int:
        """Number of searches that gained at least as much as the run."""
        return _as_good(self.p_value, self.gains)

    @property
    def reading(self) -> Literal["proven", "chance", "few"]:
        """Whether the run is better than its start; ``few`` if more searches could prove it."""
        return _reading(self.p_value, self.gains)

    @property
    def sentences(self) -> list[str]:
        """Both answers, that about the score first; one for events of an earlier version."""
        p = f"(p = {self.p_value:.2g})"
        if self.knows is None:
            return [
                f"The search gained {self.found:+.4f} on the accounts searched; on shuffled "
                f"outcomes it gains {self.typical:+.4f} typically, and as much as the run in "
                f"{self.as_good:,} of {self._tries} {p}. There it climbs from chance, the run from "
                "its start: that doesn't say whether the run is better than its start. Done again, "
                "gtmar null asks just that."
            ]
        return [self._knows(self.knows), self._better(p)]

    @property
    def _tries(self) -> str:
        return f"{len(self.gains):,} {'try' if len(self.gains) == 1 else 'tries'}"

    def _knows(self, knows: dict[str, Any]) -> str:
        """Return the sentence on whether the score knows anything."""
        value, p = f"{knows['found']:.4f}", f"(p = {knows['p_value']:.2g})"
        as_good = _as_good(knows["p_value"], knows["values"])
        there = (
            f"on shuffled outcomes the same search reaches {knows['typical']:.4f} typically, and "
            f"the run's {value} or better "
            + (f"in {as_good:,} of {self._tries} {p}" if as_good else f"never in {self._tries} {p}")
        )
        reading = _reading(knows["p_value"], knows["values"])
        if knows["fitted"] and reading != "chance":
            unseen = knows["unseen"]
            held = "those that it never saw can (gtmar decide)."
            if unseen is not None:
                held = f"on those that it never saw, which can say it, it reaches {unseen:.4f}."
            return (
                "Whether the score knows anything, these accounts can't say: its start may know "
                "them beforehand, as the best of an earlier run, an edited first spec, a "
                "scorecard, one with rules or one of a wide table does, and would on noise too. On "
                f"shuffled outcomes the same search reaches {knows['typical']:.4f} typically, the "
                f"run {value}; {held}"
            )
        return {
            "proven": f"The score knows something: {there}.",
            "few": f"Whether the score knows anything: {there}. {_FEW}",
            "chance": f"Nothing here shows that the score knows anything: {there}. These accounts "
            "can't tell its order from a random one.",
        }[reading]

    def _better(self, p: str) -> str:
        """Return the sentence on whether the run is better than its start."""
        if self.found <= 0:
            return "The search found nothing better than the start: there is no gain to doubt."
        often = f"in {self.as_good:,} of them" if self.as_good else "in none of them"
        there = (
            f"where nothing is left to find, the same search gains {self.typical:+.4f} typically, "
            f"{max(self.gains):+.4f} at the most of {self._tries}, as much as the run {often} {p}; "
            f"this run gained {self.found:+.4f}."
        )
        return {
            "proven": f"It is better than the start: {there}",
            "few": f"Whether it is better than the start: {there} {_FEW}",
            "chance": f"Nothing here shows that it is better than the start: {there} That doesn't "
            "say that it is no better: these accounts can't tell, those that the search never saw "
            "may (gtmar decide).",
        }[self.reading]


_FEW = "So few searches can't prove anything; 20 or more can."


def _as_good(p_value: float, drawn: Any) -> int:
    return round(p_value * (1 + len(drawn))) - 1


def _reading(p_value: float, drawn: Any) -> Literal["proven", "chance", "few"]:
    if p_value <= CHANCE:
        return "proven"
    return "chance" if _as_good(p_value, drawn) else "few"
