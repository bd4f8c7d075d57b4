"""The loop that drives every search: ask for candidates, evaluate, judge, keep or revert.

Runs, replays, null searches and stability searches all use it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.engine.threads import set_aside
from gtmar.objective.guardrails import Guard
from gtmar.optimize.hill_climb import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.engine.evaluator import Evaluator
    from gtmar.objective.objective import Judge
    from gtmar.optimize.hill_climb import Batch, Climb, Step
    from gtmar.spec.model import ScoringSpec

__all__ = ["STAGES", "Limits", "SearchLoop"]

#: Bounds of the number of candidates evaluated ahead of their turn. Within them, it is half the
#: number of experiments since the last win: evaluations after a win in the batch are wasted.
_SMALLEST_BATCH = 4
_LARGEST_BATCH = 64
#: Experiments without a win after which a batch may go on beyond a proposer's block.
_SETTLED = 32

#: Stages of an experiment whose time is measured, in the order of the loop.
STAGES = ("propose", "evaluate", "judge", "journal")


@dataclass(frozen=True)
class Limits:
    """Limits at which a search stops.

    Parameters
    ----------
    experiments
        Number of evaluated experiments, without the baseline and results of earlier runs.
    patience
        Number of consecutive experiments without a win; None for no limit.
    seconds
        Time budget in seconds; None for no limit. The run records how far it came, for replays.
    proposals
        Number of proposals used, which a replay sets; None for no limit.
    """

    #: Number of evaluated experiments, without the baseline and results of earlier runs.
    experiments: int = 2000
    #: Number of consecutive experiments without a win.
    patience: int | None = None
    #: Time budget. The run records how far it came, for replays.
    seconds: float | None = None
    #: Number of proposals used, which a replay sets.
    proposals: int | None = None


class SearchLoop:
    """Drives searches over one matrix; holds evaluator, judge and guardrails.

    Parameters
    ----------
    matrix
        The accounts searched.
    spec
        The spec whose weights are the start.
    judge
        Objective and guardrails.
    evaluator
        Computes sums over the matrix; it is moved to the start.
    """

    def __init__(
        self, matrix: AccountMatrix, spec: ScoringSpec, judge: Judge, evaluator: Evaluator
    ) -> None:
        self.judge, self.evaluator = judge, evaluator
        self.start = tuple(term.weight for term in spec.terms)
        self._free = any(not term.fixed for term in spec.terms)
        lows = (tier_sum(TIER_LOW, tier) for tier in spec.tier_names)
        #: Names of the sums with the tiers' lower ends, if a rule of the spec sets these.
        self._edges = frozenset(lows if spec.has_rule else ())
        evaluator.move(self.start)
        #: Sums of the start, and of the best so far; shape (1, L, S).
        self.start_sums = self.best_sums = evaluator.sums([self.start])
        at_start = evaluator.frame_of(self.start_sums, only=judge.limited) if judge.held else None
        self.guard = Guard(matrix, spec, judge, self.start, at_start)
        #: Seconds spent in each stage.
        self.spent = dict.fromkeys(STAGES, 0.0)
        self._mark = 0.0
        # If a batch's fixed cost is small compared with a candidate's, smaller batches waste less.
        growth = math.sqrt(max(1.0, matrix.accounts / evaluator.batch_cost))
        self._batches = [max(1, round(end / growth)) for end in (_SMALLEST_BATCH, _LARGEST_BATCH)]
        self._settled = _SETTLED * growth**2

    @cached_property
    def start_value(self) -> float | None:
        """Objective of the start; None if null."""
        [value] = self.judge.values(self.evaluator.frame_of(self.start_sums))
        return value

    def resume(self, climb: Climb) -> None:
        """Continue from the incumbent of a restored climb."""
        self.evaluator.move(climb.weights)
        self.best_sums = self.evaluator.sums([climb.weights])

    def drive(
        self,
        climb: Climb,
        limits: Limits,
        *,
        batch: int | None = None,
        began: float | None = None,
        record: Callable[[list[Step], NDArray[np.int64], int], None] | None = None,
        interrupted: Callable[[], bool] | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> str:
        """Search until a limit.

        Parameters
        ----------
        climb
            The search, at its start or restored.
        limits
            When to stop.
        batch
            Number of candidates evaluated ahead of their turn; it doesn't affect results. None for
            an adaptive number.
        began
            Begin of the time budget, by `time.perf_counter`; None for now.
        record
            Called with the steps judged, the sums of those that were evaluated, and microseconds
            per experiment.
        interrupted
            Called before each batch; the search stops if it returns true.
        after_batch
            Called after every batch.

        Returns
        -------
        str
            The state of the run: `finished`, `patience`, `time_budget`, `interrupted` or
            `exhausted`.
        """
        if not self._free:
            return "exhausted"
        began = time.perf_counter() if began is None else began
        with set_aside():
            while climb.experiments < limits.experiments and climb.proposals != limits.proposals:
                if interrupted is not None and interrupted():
                    return "interrupted"
                if limits.seconds is not None and time.perf_counter() - began >= limits.seconds:
                    return "time_budget"
                if limits.patience is not None and climb.since_win >= limits.patience:
                    return "patience"
                self._mark = time.perf_counter()
                proposed = climb.ask(
                    self._ahead(climb, limits, batch),
                    until=limits.proposals,
                    goes_on=climb.since_win >= self._settled,
                )
                self.lap("propose")
                self._evaluate(climb, proposed, record)
                if after_batch is not None:
                    after_batch()
                if climb.exhausted:
                    return "exhausted"
        return "finished"

    def _ahead(self, climb: Climb, limits: Limits, batch: int | None) -> int:
        """Return the number of candidates to evaluate in the next batch."""
        least, most = self._batches
        ahead = batch or min(max(least, climb.since_win // 2), most)
        ahead = min(ahead, limits.experiments - climb.experiments)
        return ahead if limits.patience is None else min(ahead, limits.patience - climb.since_win)

    def breaches(
        self,
        sums: NDArray[np.int64],
        weights: Sequence[int],
        value: float | None,
        than: float | None,
    ) -> tuple[str, ...]:
        """Return the names of the guardrails that a candidate breaks.

        Parameters
        ----------
        sums
            The candidate's sums, shape (1, L, S).
        weights
            Its weights, F of them.
        value, than
            Its objective, and the incumbent's.
        """
        judge = self.judge
        if not (judge.limits or judge.held or judge.comparisons):
            return ()
        read = judge.limited | judge.reads | self._edges
        frame = self.evaluator.frame_of(sums, only=read)
        return self.guard.breaches(frame, weights, value, than)

    def lap(self, stage: str, *, since: float | None = None) -> None:
        """Add the time since the last lap, or since a `time.perf_counter` value, to a stage."""
        now = time.perf_counter()
        self.spent[stage] += now - (self._mark if since is None else since)
        self._mark = now

    def _evaluate(
        self,
        climb: Climb,
        batch: Batch,
        record: Callable[[list[Step], NDArray[np.int64], int], None] | None,
    ) -> None:
        """Evaluate and judge a batch, record its steps, and move the evaluator after a win."""
        began = self._mark
        # A batch without fresh candidates still uses up proposals, so it is told too.
        sums = self.start_sums[:0]
        values: Sequence[float | None] = []
        if batch.fresh:
            sums = self.evaluator.sums([candidate.weights for candidate in batch.fresh])
            self.lap("evaluate")
            values = self.judge.decide(self.evaluator.known_of(sums, self.judge.reads))

        def breaches(index: int) -> tuple[str, ...]:
            weights = batch.fresh[index].weights
            return self.breaches(sums[index : index + 1], weights, values[index], climb.value)

        steps = climb.tell(batch, values, breaches)
        self.lap("judge")
        judged = sum(not step.candidate.taken_over for step in steps)
        if record is not None and steps:
            took = int((self._mark - began) * 1e6 / max(1, len(batch.fresh)))
            record(steps, sums[:judged], took)
        self.lap("journal")
        if steps and steps[-1].outcome is Outcome.WIN:
            self.evaluator.move(climb.weights)
            self.best_sums = sums[judged - 1 : judged]
            self.lap("evaluate")
