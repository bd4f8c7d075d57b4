"""One run in progress: ties search, evaluator and journal together, and has the clock.

Candidates are evaluated ahead of their turn, in batches that grow while nothing wins. The search
judges them in order, so that the journal is the one of a strictly sequential loop. To decide takes
the objective alone; the full metrics are computed when rows are written, many in one query.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar import spec as specs
from gtmar.errors import AccountDataError
from gtmar.evaluate.local import LocalEvaluator
from gtmar.journal.rows import baseline_fields, experiment_rows, step_fields
from gtmar.journal.schema import experiment_id
from gtmar.metrics.registry import measure
from gtmar.runs.interruption import Interruption, noticed
from gtmar.runs.results import Limits, Progress, RunResult
from gtmar.search.climb import Climb, Outcome
from gtmar.search.proposers import Levers, RandomProposer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gtmar.accounts.matrix import Accounts
    from gtmar.journal.writer import RunWriter
    from gtmar.objective import Judge
    from gtmar.search.climb import Batch, Step
    from gtmar.spec.model import ScoringSpec

__all__ = ["Search"]

#: Candidates evaluated ahead of their turn: doubled after a batch without a win, up to this.
_LARGEST_BATCH = 64
_SMALLEST_BATCH = 4
#: Experiments whose metrics are computed in one query.
_MEASURED_AT_ONCE = 512
#: Or after so many seconds, so that a slow run reaches the journal too.
_MEASURED_AFTER = 1.0


class Search:
    """One run in progress: its parts, and the loop that ties them together."""

    def __init__(
        self,
        accounts: Accounts,
        spec: ScoringSpec,
        judge: Judge,
        *,
        seed: int,
        limits: Limits,
        batch: int | None,
        watch: Callable[[Progress], None] | None,
    ) -> None:
        self.accounts, self.spec, self.judge = accounts, spec, judge
        self.seed, self.limits, self.watch = seed, limits, watch
        self.names = tuple(term.name for term in spec.terms)
        self.start = tuple(term.weight for term in spec.terms)
        self.evaluator = LocalEvaluator(accounts.search, spec)
        self.evaluator.move(self.start)
        self.baseline_sums = self.evaluator.sums([self.start])
        self.baseline = self._objective_or_error()
        self.best_sums = self.baseline_sums
        self.wins = 0
        self._resumed_from = 0
        self._fixed_batch = batch
        self._batch = batch or _SMALLEST_BATCH
        self._waiting: list[tuple[list[Step], NDArray[np.int64], int, datetime]] = []
        self._waiting_since = 0.0

    def _objective_or_error(self) -> float:
        """Return the baseline's objective; a null one can't guide a search."""
        lacking = self.judge.lacking(self.accounts.checked.outcomes)
        if lacking:
            listed = "; ".join(f'"{name}": {reason}' for name, reason in lacking.items())
            raise AccountDataError(
                f"{self.accounts.table.source}: objective or guardrail can't be computed: {listed}",
                hint="choose another with --metric, or drop the guardrail",
            )
        frame = self.evaluator.frame_of(self.baseline_sums)
        value = self.judge.values(frame)[0]
        if value is None:
            reasons = self._measure(self.baseline_sums).reasons[0]
            reason = reasons.get(self.judge.name, "no value")
            raise AccountDataError(
                f'{self.accounts.table.source}: objective "{self.judge.name}" is null on this '
                f"table: {reason}",
                hint="choose another with --metric, or look at gtmar check",
            )
        return value

    def _measure(self, sums: NDArray[np.int64]) -> Any:
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
        if done is None:
            self._write_rows(
                writer,
                baseline_fields(self.start, self.baseline),
                self.baseline_sums,
                datetime.now(UTC),
                0,
            )
            writer.flush()
        if start is not None:
            writer.record("start", start)
        ends = zip(*((t.min, t.max) for t in self.spec.terms), strict=True)
        levers = Levers(self.names, *(tuple(e) for e in ends))
        proposer = RandomProposer(levers, seed=self.seed)
        climb = Climb(proposer, self.start, self.baseline, better=self.judge.gain)
        if done is not None:
            self._restore(climb, done)
        if not levers.free:
            state = "exhausted"
        else:
            with noticed() as interruption:
                state = self._loop(climb, writer, interruption)
        self._write_waiting(writer)
        writer.flush()
        seconds = time.perf_counter() - began
        return self._finish(climb, writer, state, seconds)

    def _restore(self, climb: Climb, done: list[dict[str, Any]]) -> None:
        """Bring a search to where the journal leaves it."""
        for row in done:
            if row["outcome"] != "baseline":
                weights = tuple(dict(row["weights"])[name] for name in self.names)
                won = row["outcome"] == "win"
                climb.restore(row["proposal"], weights, row["value_after"], row["outcome"])
                self.wins += won
        self._resumed_from = climb.experiments
        self.evaluator.move(climb.weights)
        self.best_sums = self.evaluator.sums([climb.weights])

    def _loop(self, climb: Climb, writer: RunWriter, interruption: Interruption) -> str:
        limits = self.limits
        while climb.experiments < limits.experiments:
            if interruption.asked:
                return "interrupted"
            spent = time.perf_counter() - self._began
            if limits.seconds is not None and spent >= limits.seconds:
                return "time_budget"
            if limits.patience is not None and climb.since_win >= limits.patience:
                return "patience"
            ahead = min(self._batch, limits.experiments - climb.experiments)
            if limits.patience is not None:
                ahead = min(ahead, limits.patience - climb.since_win)
            batch = climb.ask(ahead)
            if not batch.candidates:
                # The known proposals that were looked at are used up all the same.
                climb.tell(batch, [], lambda _: ())
                return "exhausted"
            self._evaluate(climb, batch, writer)
            if climb.exhausted:
                return "exhausted"
        return "finished"

    def _evaluate(self, climb: Climb, batch: Batch, writer: RunWriter) -> None:
        began = time.perf_counter()
        sums = self.evaluator.sums([c.weights for c in batch.candidates])
        frame = self.evaluator.frame_of(sums)
        values = self.judge.values(frame)
        steps = climb.tell(batch, values, lambda place: self.judge.breaches(frame[place]))
        took = int((time.perf_counter() - began) * 1e6 / len(batch.candidates))
        if not self._waiting:
            self._waiting_since = began
        self._waiting.append((steps, sums[: len(steps)], took, datetime.now(UTC)))
        won = steps[-1].outcome is Outcome.WIN
        if won:
            self.evaluator.move(climb.weights)
            self.best_sums = sums[len(steps) - 1 : len(steps)]
            self.wins += 1
        if self._fixed_batch is None:
            self._batch = (
                max(_SMALLEST_BATCH, self._batch // 4)
                if won
                else min(_LARGEST_BATCH, self._batch * 2)
            )
        if (
            sum(len(s) for s, *_ in self._waiting) >= _MEASURED_AT_ONCE
            or time.perf_counter() - self._waiting_since > _MEASURED_AFTER
        ):
            self._write_waiting(writer)
        if self.watch is not None:
            self.watch(
                Progress(
                    run_id=writer.run_id,
                    experiments=climb.experiments,
                    limit=self.limits.experiments,
                    wins=self.wins,
                    baseline=self.baseline,
                    best=climb.value,
                    seconds=time.perf_counter() - self._began,
                )
            )

    def _write_waiting(self, writer: RunWriter) -> None:
        """Measure what waits in one query, and hand it to the journal."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        steps = [step for steps, *_ in waiting for step in steps]
        fields = step_fields(steps, self.names, proposer=RandomProposer.name)
        times = [at for steps, _, _, at in waiting for _ in steps]
        durations = [took for steps, _, took, _ in waiting for _ in steps]
        rows = experiment_rows(
            fields,
            self._measure(np.concatenate([sums for _, sums, _, _ in waiting])),
            times=times,
            durations=durations,
            **self._common(writer),
        )
        writer.append(rows)

    def _write_rows(
        self,
        writer: RunWriter,
        fields: dict[str, list[Any]],
        sums: NDArray[np.int64],
        at: datetime,
        took: int,
    ) -> None:
        rows = experiment_rows(
            fields, self._measure(sums), times=[at], durations=[took], **self._common(writer)
        )
        writer.append(rows)

    def _common(self, writer: RunWriter) -> dict[str, Any]:
        return {
            "run_id": writer.run_id,
            "objective": self.judge.name,
            "names": self.names,
            "basis": self.accounts.checked.outcomes.basis,
        }

    def _finish(self, climb: Climb, writer: RunWriter, state: str, seconds: float) -> RunResult:
        best = experiment_id(climb.incumbent)
        holdout = self._on_holdout(climb.weights)
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
        writer.seal()
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
            wins=self.wins,
            seconds=seconds,
            best_experiment=best,
            weights=weights,
            metrics=self._measure(self.best_sums).row(0),
            holdout=holdout,
            digest=digest,
            higher_is_better=self.judge.sign > 0,
            spec=found,
            notes=self.accounts.checked.notes,
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
