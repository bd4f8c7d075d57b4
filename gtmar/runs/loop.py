"""Ctrl-C during a run: noted, and obeyed between two batches, so that nothing found is lost."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from gtmar import spec as specs
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.threads import set_aside
from gtmar.errors import AccountDataError
from gtmar.journal.schema import experiment_id
from gtmar.metrics.registry import measure
from gtmar.objective.guardrails import Guard
from gtmar.objective.objective import guardrail_of
from gtmar.optimize.hill_climb import Climb, Outcome
from gtmar.runs.findings import findings_of
from gtmar.runs.ledger import Ledger, Signature
from gtmar.runs.plan import constraints_of, make_proposer
from gtmar.runs.results import Progress, RunResult
from gtmar.runs.starting import levers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    import numpy as np
    from numpy.typing import NDArray

    from gtmar.data.matrix import Accounts
    from gtmar.engine.evaluator import Evaluator
    from gtmar.journal.writer import RunWriter
    from gtmar.metrics.registry import Measured
    from gtmar.objective.objective import Judge
    from gtmar.optimize.hill_climb import Batch
    from gtmar.runs.findings import Finding
    from gtmar.runs.plan import Plan
    from gtmar.spec.model import ScoringSpec

__all__ = ["STAGES", "Interruption", "Search", "noticed"]


class Interruption:
    """Whether somebody has asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def noticed() -> Iterator[Interruption]:
    """Note the first Ctrl-C instead of raising; a second one raises `KeyboardInterrupt`.

    Outside the main thread signals can't be handled; nothing is noted there.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.getsignal(signal.SIGINT)

    def note(_signal: int, _frame: FrameType | None) -> None:
        if interruption.asked:
            raise KeyboardInterrupt
        interruption.asked = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


#: Candidates evaluated ahead of their turn: half as many as experiments since the last win, since
#: what follows a win is thrown away, and within these ends.
_SMALLEST_BATCH = 4
_LARGEST_BATCH = 64
#: Where a batch's own cost is little beside a candidate's, both ends shrink: with the square root
#: of how many times these accounts a table has.
_SMALL_TABLE = 50_000


_COMPILING = "Compiling machine code; it takes about half a minute and is done once."

#: What an experiment's time goes to, in the order of the loop.
STAGES = ("propose", "evaluate", "judge", "journal")


class Search:
    """One run in progress: its parts, and the loop that ties them together.

    Parameters
    ----------
    accounts, spec, judge, plan
        What is searched, for what, and how.
    watch
        Called after every batch.
    evaluator
        Who computes sums over the search part; None computes them in this process.
    announce
        Called with a sentence where the first experiment keeps one waiting.
    """

    def __init__(
        self,
        accounts: Accounts,
        spec: ScoringSpec,
        judge: Judge,
        plan: Plan,
        *,
        watch: Callable[[Progress], None] | None = None,
        evaluator: Evaluator | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.accounts, self.spec, self.judge = accounts, spec, judge
        self.plan, self.watch = plan, watch
        self.names = tuple(term.name for term in spec.terms)
        self.start = tuple(term.weight for term in spec.terms)
        self.levers = levers_of(spec)
        if evaluator is None:
            evaluator = LocalEvaluator(accounts.search, spec, expected=plan.limits.experiments)
            if announce is not None and evaluator.compiles_first:
                announce(_COMPILING)
        self.evaluator: Evaluator = evaluator
        self.guard = Guard(accounts.search, spec, judge, self.start)
        self.evaluator.move(self.start)
        self.baseline_sums = self.evaluator.sums([self.start])
        self.baseline = self._objective_or_error()
        self.best_sums = self.baseline_sums
        self.wins = 0
        #: Results taken over from earlier runs.
        self.known = 0
        #: Better than the incumbent, and breaking a guardrail; by guardrail.
        self.blocked = 0
        self.broken: Counter[str] = Counter()
        #: Evaluated, and exactly the baseline's objective; and without a value.
        self.tied = self.null = 0
        self._resumed_from = 0
        #: Seconds that each stage of the loop took.
        self.spent = dict.fromkeys(STAGES, 0.0)
        self._mark = 0.0
        growth = max(1.0, accounts.search.accounts / _SMALL_TABLE)
        self._batches = [
            max(1, round(end / math.sqrt(growth))) for end in (_SMALLEST_BATCH, _LARGEST_BATCH)
        ]

    def _objective_or_error(self) -> float:
        """Return the baseline's objective; a null one can't guide a search."""
        lacking = self.judge.lacking(self.accounts.checked.outcomes)
        lacking = lacking or self.guard.lacking()
        if lacking:
            listed = "; ".join(f'"{name}": {reason}' for name, reason in lacking.items())
            raise AccountDataError(
                f"{self.accounts.table.source}: objective or guardrail can't be computed: {listed}",
                hint="choose another with --metric, or drop the guardrail",
            )
        frame = self.evaluator.frame_of(self.baseline_sums)
        value = self.judge.values(frame)[0]
        if value is None:
            reasons = self.measure(self.baseline_sums).reasons[0]
            reason = reasons.get(self.judge.name, "no value")
            raise AccountDataError(
                f'{self.accounts.table.source}: objective "{self.judge.name}" is null on this '
                f"table: {reason}",
                hint="choose another with --metric, or look at gtmar check",
            )
        return value

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What a check of table and start brings out, or brought out as the run began."""
        if self.plan.findings is not None:
            return self.plan.findings
        frame = self.evaluator.frame_of(self.baseline_sums)
        auc = cast("float | None", self.measure(self.baseline_sums).row(0).get("auc_roc_retain"))
        return findings_of(self.accounts, self.spec, self.judge, frame, auc)

    def measure(self, sums: NDArray[np.int64]) -> Measured:
        """Return all metrics of K rows of sums, shape (K, L, S)."""
        frame = self.evaluator.frame_of(sums)
        return measure(frame, self.spec.tier_names, self.accounts.checked.outcomes)

    def run(
        self,
        writer: RunWriter,
        *,
        start: dict[str, Any] | None = None,
        done: list[dict[str, Any]] | None = None,
    ) -> RunResult:
        """Do the experiments, then write how it ended.

        Parameters
        ----------
        writer
            Of the run.
        start
            The start record, for a new run. It is written after the baseline, so that whoever finds
            a run finds an experiment too.
        done
            Experiments in the journal already, for a run that is resumed.
        """
        began = time.perf_counter()
        self._began = began
        ledger = Ledger(writer, self.measure, self._signature())
        if done is None:
            ledger.open(self.start, self.baseline, self.baseline_sums)
        if start is not None:
            writer.record("start", start)
        climb = self._climb()
        if done is not None:
            self._restore(climb, done)
        if not self.levers.free:
            state = "exhausted"
        else:
            with noticed() as interruption, set_aside():
                state = self._loop(climb, ledger, writer.run_id, interruption)
        self._mark = time.perf_counter()
        ledger.write()
        writer.flush()
        self._lap("journal")
        seconds = time.perf_counter() - began
        return self._finish(climb, writer, state, seconds)

    def _signature(self) -> Signature:
        """Say what all rows share; the words of a person stand in the rows that are hers."""
        own = self.plan.kind == "search"
        return Signature(
            objective=self.judge.name,
            names=self.names,
            basis=self.accounts.checked.outcomes.basis,
            author=None if own else self.plan.author,
            note=None if own else self.plan.note,
        )

    def _climb(self) -> Climb:
        plan, memory = self.plan, self.plan.memory
        remembered = memory.remembered if memory else ()
        return Climb(
            make_proposer(
                plan.proposer,
                self.levers,
                seed=plan.seed,
                sign=self.judge.sign,
                remembered=remembered,
                constraints=constraints_of(self.spec),
            ),
            self.start,
            self.baseline,
            better=self.judge.gain,
            given=plan.tried_first,
            known=memory.known if memory else None,
        )

    def _restore(self, climb: Climb, done: list[dict[str, Any]]) -> None:
        """Bring a search to where the journal leaves it."""
        for row in done:
            if row["outcome"] != "baseline":
                weights = tuple(dict(row["weights"])[name] for name in self.names)
                climb.restore(row["proposal"], weights, row["value_after"], row["outcome"])
                self.wins += row["outcome"] == "win"
                self.known += row["outcome"] == "known"
                self._count(row["outcome"], row["value_after"], row["breaches"] or ())
        self._resumed_from = climb.experiments
        self.evaluator.move(climb.weights)
        self.best_sums = self.evaluator.sums([climb.weights])

    def _loop(self, climb: Climb, ledger: Ledger, run_id: str, interruption: Interruption) -> str:
        limits = self.plan.limits
        while climb.experiments < limits.experiments and climb.proposals != limits.proposals:
            if interruption.asked:
                return "interrupted"
            spent = time.perf_counter() - self._began
            if limits.seconds is not None and spent >= limits.seconds:
                return "time_budget"
            if limits.patience is not None and climb.since_win >= limits.patience:
                return "patience"
            least, most = self._batches
            ahead = self.plan.batch or min(max(least, climb.since_win // 2), most)
            ahead = min(ahead, limits.experiments - climb.experiments)
            if limits.patience is not None:
                ahead = min(ahead, limits.patience - climb.since_win)
            self._mark = time.perf_counter()
            batch = climb.ask(ahead, until=limits.proposals)
            self._lap("propose")
            self._evaluate(climb, batch, ledger)
            self._show(climb, run_id)
            if climb.exhausted:
                return "exhausted"
        return "finished"

    def _lap(self, stage: str) -> None:
        """Book the time since the last stage ended."""
        now = time.perf_counter()
        self.spent[stage] += now - self._mark
        self._mark = now

    def _evaluate(self, climb: Climb, batch: Batch, ledger: Ledger) -> None:
        began = self._mark
        if batch.fresh:
            sums = self.evaluator.sums([c.weights for c in batch.fresh])
            self._lap("evaluate")
            values = self.judge.decide(self.evaluator.known_of(sums, self.judge.reads))
        else:
            # Nothing but what is known already: it uses up proposals all the same.
            sums, values = self.baseline_sums[:0], []

        def breaches(place: int) -> tuple[str, ...]:
            frame = self.evaluator.frame_of(
                sums[place : place + 1], only=self.judge.limited | self.judge.reads
            )
            weights = batch.fresh[place].weights
            return self.guard.breaches(frame, weights, values[place], climb.value)

        steps = climb.tell(batch, values, breaches)
        self._lap("judge")
        took = int((self._mark - began) * 1e6 / max(1, len(batch.fresh)))
        judged = sum(not step.candidate.taken_over for step in steps)
        self.known += len(steps) - judged
        for step in steps:
            self._count(step.outcome, step.value, step.breaches)
        if steps:
            ledger.add(steps, sums[:judged], took)
        self._lap("journal")
        if steps and steps[-1].outcome is Outcome.WIN:
            self.evaluator.move(climb.weights)
            self.best_sums = sums[judged - 1 : judged]
            self.wins += 1
            self._lap("evaluate")

    def _count(self, outcome: str, value: float | None, breaches: Sequence[str]) -> None:
        """Count why a candidate was not kept."""
        if outcome == "blocked":
            self.blocked += 1
            self.broken.update({guardrail_of(breach) for breach in breaches})
        elif outcome != "known":
            self.tied += value == self.baseline
            self.null += value is None

    def _show(self, climb: Climb, run_id: str) -> None:
        if self.watch is not None:
            self.watch(
                Progress(
                    run_id=run_id,
                    experiments=climb.experiments,
                    limit=self.plan.limits.experiments,
                    wins=self.wins,
                    baseline=self.baseline,
                    best=climb.value,
                    seconds=time.perf_counter() - self._began,
                    budget=self.plan.limits.seconds,
                )
            )

    def _finish(self, climb: Climb, writer: RunWriter, state: str, seconds: float) -> RunResult:
        best = experiment_id(climb.incumbent)
        # A look at the holdout makes it a little less unseen: a person's change that was not kept
        # isn't worth one.
        looks = self.plan.kind == "search" or climb.incumbent > 0
        holdout = self._on_holdout(climb.weights) if looks else None
        digest = writer.digest.hexdigest()
        looked = holdout or {}
        writer.record(
            "end",
            {
                "ended_at": datetime.now(UTC),
                "state": state,
                "experiments": climb.experiments,
                "wins": self.wins,
                "proposals": climb.proposals,
                "seconds": seconds,
                "baseline_value": self.baseline,
                "best_value": climb.value,
                "best_experiment": best,
                "holdout_baseline_value": looked.get("baseline_value"),
                "holdout_best_value": looked.get("best_value"),
                "holdout_baseline_metrics": _json(looked.get("baseline_metrics")),
                "holdout_best_metrics": _json(looked.get("metrics")),
                "digest": digest,
            },
        )
        weights = dict(zip(self.names, climb.weights, strict=True))
        found = specs.reweighed(self.spec, weights).model_copy(
            update={
                "objective": self.judge.name,
                "lineage": specs.Lineage(
                    run=writer.run_id, experiment=best, parent_spec_id=specs.spec_id(self.spec)
                ),
            }
        )
        return RunResult(
            run_id=writer.run_id,
            journal=str(writer.journal),
            metric=self.judge.name,
            state=state,
            baseline_value=self.baseline,
            best_value=climb.value,
            experiments=climb.experiments,
            known=self.known,
            wins=self.wins,
            seconds=seconds,
            best_experiment=best,
            weights=weights,
            metrics=self.measure(self.best_sums).row(0),
            holdout=holdout,
            digest=digest,
            higher_is_better=self.judge.sign > 0,
            spec=found,
            notes=self.accounts.checked.notes,
            findings=self.findings,
            blocked=self.blocked,
            broken=dict(self.broken.most_common()),
            tied=self.tied,
            null=self.null,
            basis=self.accounts.checked.outcomes.basis,
            resumed_from=self._resumed_from,
        )

    def _on_holdout(self, best: tuple[int, ...]) -> dict[str, Any] | None:
        """Measure start and best where the search never looked."""
        if self.accounts.holdout is None:
            return None
        evaluator = LocalEvaluator(self.accounts.holdout, self.spec)
        frame = evaluator.frame([self.start, best])
        before, after = self.judge.values(frame)
        measured = measure(frame, self.spec.tier_names, self.accounts.checked.outcomes)
        return {
            "accounts": self.accounts.holdout.accounts,
            "baseline_value": before,
            "best_value": after,
            "improved": self.judge.gain(after, before),
            "baseline_metrics": measured.row(0),
            "metrics": measured.row(1),
        }


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)
