"""One search in progress: it drives the loop, writes the journal, and makes the result."""

from __future__ import annotations

import json
import secrets
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gtmar import spec as specs
from gtmar.engine.equal_sizes import with_edges
from gtmar.engine.evaluator import EVALUATOR_VERSION, evaluator_code
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.errors import AccountDataError
from gtmar.journal.columns import FORMAT_VERSION, experiment_id
from gtmar.journal.schema import baseline_fields, experiment_rows, step_fields
from gtmar.journal.sentences import Seen, at_its_size, lead, old_customers
from gtmar.metrics.registry import measure
from gtmar.objective.objective import guardrail_of
from gtmar.optimize.hill_climb import Climb
from gtmar.optimize.search_loop import SearchLoop
from gtmar.runs.holdout import holdout_parameters, order_unverified
from gtmar.runs.results import Progress, RunResult, clipping, findings_of, recorded_findings
from gtmar.runs.side_by_side import (
    at_equal_sizes,
    both_objectives,
    by_date,
    customers_apart,
    signs_by_date,
)
from gtmar.safe_text import without_credentials
from gtmar.spec.model import SCORE_UNITS
from gtmar.validation.reliability import calibrated, reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from numpy.typing import NDArray

    from gtmar.data.matrix import Accounts
    from gtmar.engine.evaluator import Evaluator
    from gtmar.journal.schema import Fields
    from gtmar.journal.writer import RunWriter
    from gtmar.metrics.registry import Measured
    from gtmar.objective.objective import Judge
    from gtmar.optimize.hill_climb import Step
    from gtmar.runs.plan import Plan
    from gtmar.runs.results import Finding
    from gtmar.spec.calibration import Calibration
    from gtmar.spec.model import ScoringSpec

__all__ = ["Ledger", "Search", "first_interrupt", "new_run_id", "start_record"]


@contextmanager
def first_interrupt() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; a second Ctrl-C raises `KeyboardInterrupt`.

    Only the main thread can handle signals; in any other the event is never set.
    """
    interruption = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.getsignal(signal.SIGINT)

    def note(_signal: int, _frame: FrameType | None) -> None:
        if interruption.is_set():
            raise KeyboardInterrupt
        interruption.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


def _moved_edges(before: ScoringSpec, after: ScoringSpec) -> str | None:
    """Word that a spec's tier edges differ from those that its rule gives on the accounts searched.

    None if they differ by less than a point.
    """
    ends = list(zip(after.tier_names, before.tier_lows, after.tier_lows, strict=True))
    if all(abs(new - old) < SCORE_UNITS for _, old, new in ends):
        return None
    listed = ", ".join(f"{n} from {new / 100:g} (was {old / 100:g})" for n, old, new in ends[:-1])
    return f"The tiers' rule sets their edges anew on the accounts searched: {listed}."


class Search:
    """One run in progress.

    Parameters
    ----------
    accounts, spec, judge, plan
        The accounts, the spec whose weights are searched, the objective, and how to search.
    watch
        Called with a `Progress` after every batch.
    evaluator
        Computes sums over the search part; None makes one in this process.
    announce
        Called with sentences for people: about tier edges set anew by a rule, and about machine
        code.
    stop
        Called between two batches; True ends the search as Ctrl-C does.

    Raises
    ------
    AccountDataError
        If the objective or a guardrail can't be computed on this table.
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
        stop: Callable[[], bool] | None = None,
    ) -> None:
        given, spec = spec, with_edges(spec, accounts.search, evaluator)
        if announce is not None and given.has_edges and (moved := _moved_edges(given, spec)):
            announce(moved)
        self.accounts, self.spec, self.judge = accounts, spec, judge
        self.plan, self.watch, self._announce = plan, watch, announce
        self._stop = stop
        self.names = tuple(term.name for term in spec.terms)
        self.start = spec.vector
        if evaluator is None:
            evaluator = LocalEvaluator(
                accounts.search, spec, expected=plan.limits.experiments, by_rule=True
            )
        self.evaluator: Evaluator = evaluator
        self.loop = SearchLoop(accounts.search, spec, judge, evaluator)
        self.baseline_sums = self.loop.start_sums
        self.baseline = self._objective_or_error()
        self.wins = 0
        #: Results taken over from earlier runs, not evaluated here.
        self.known = 0
        #: Candidates better than the incumbent that broke a guardrail; the same by guardrail.
        self.blocked = 0
        self.broken: Counter[str] = Counter()
        #: Candidates with exactly the baseline's objective; and candidates without a value.
        self.tied = self.null = 0
        self._resumed_from = 0

    def _objective_or_error(self) -> float:
        """Return the baseline's objective; raise if it has no value to compare with."""
        lacking = self.judge.lacking(self.accounts.checked.outcomes) or self.loop.guard.lacking()
        source, name, value = self.accounts.table.source, self.judge.name, self.loop.start_value
        if lacking:
            listed = "; ".join(f'"{what}": {reason}' for what, reason in lacking.items())
            raise AccountDataError(
                f"{source}: objective or guardrail can't be computed: {listed}",
                hint="choose another with --metric, or drop the guardrail",
            )
        if value is None:
            reason = self._measured_start.reasons[0].get(name, "no value")
            raise AccountDataError(
                f'{source}: objective "{name}" is null on this table: {reason}',
                hint="choose another with --metric, or look at gtmar check",
            )
        return value

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the check of table and start: recorded ones of a resumed run, else new."""
        if self.plan.findings is not None:
            return self.plan.findings
        frame = self.evaluator.frame_of(self.baseline_sums)
        auc = cast("float | None", self._measured_start.row(0).get("auc_roc_retain"))
        return findings_of(self.accounts, self.spec, self.judge, frame, auc)

    @cached_property
    def _measured_start(self) -> Measured:
        """All metrics of the start, for its findings and for its row in the journal."""
        return self.measure(self.baseline_sums)

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
        """Do the experiments, then write the end record.

        Parameters
        ----------
        writer
            Writes the run's files.
        start
            The start record of a new run; None for a run that is resumed or replayed. It is written
            after the baseline, so that every run in a journal has an experiment.
        done
            The rows of the experiments that a resumed run has done; None for a new run.
        """
        self._began = began = time.perf_counter()
        plan, memory = self.plan, self.plan.memory
        # A person's change has author and note in its row; a search has them in its start record.
        author, note = (None, None) if plan.kind == "search" else (plan.author, plan.note)
        shared = {
            "run_id": writer.run_id,
            "objective": self.judge.name,
            "names": self.names,
            "basis": self.accounts.checked.outcomes.basis,
            "author": author,
            "note": note,
        }
        ledger = Ledger(writer, self.measure, shared)
        if done is None:
            ledger.open(self.start, self.baseline, self._measured_start)
        if start is not None:
            writer.record("start", start)
        climb = Climb(
            plan.make_proposer(self.spec, sign=self.judge.sign, warm=True),
            self.start,
            self.baseline,
            better=self.judge.gain,
            given=plan.tried_first,
            known=memory.known if memory else None,
        )
        if done is not None:
            self._restore(climb, done)

        def record(steps: Sequence[Step], sums: NDArray[np.int64], took: int) -> None:
            for step in steps:
                self._count(step.outcome, step.value, step.breaches)
            ledger.add(steps, sums, took)

        with first_interrupt() as interruption:
            state = self.loop.drive(
                climb,
                plan.limits,
                batch=plan.batch,
                began=began,
                record=record,
                interrupted=lambda: (
                    interruption.is_set() or (self._stop is not None and self._stop())
                ),
                after_batch=lambda: self._show(climb, writer.run_id),
            )
        ended = time.perf_counter()
        ledger.write()
        writer.flush()
        self.loop.lap("journal", since=ended)
        seconds = time.perf_counter() - began
        known = self.evaluator
        note = known.machine_code if isinstance(known, LocalEvaluator) else None
        if self._announce is not None and note is not None:
            self._announce(note)
        return self._finish(climb, writer, state, seconds)

    def _restore(self, climb: Climb, done: list[dict[str, Any]]) -> None:
        """Restore the state of a search from the experiments that it has done."""
        for row in done:
            if row["outcome"] != "baseline":
                weights = tuple(dict(row["weights"])[name] for name in self.names)
                climb.restore(row["proposal"], weights, row["value_after"], row["outcome"])
                self._count(row["outcome"], row["value_after"], row["breaches"] or ())
        self._resumed_from = climb.experiments
        self.loop.resume(climb)

    def _count(self, outcome: str, value: float | None, breaches: Sequence[str]) -> None:
        """Count an experiment by its outcome, and by why it was not kept."""
        self.wins += outcome == "win"
        self.known += outcome == "known"
        if outcome == "blocked":
            self.blocked += 1
            self.broken.update({guardrail_of(breach) for breach in breaches})
        elif outcome != "known":
            self.tied += value == self.baseline
            self.null += value is None

    def _show(self, climb: Climb, run_id: str) -> None:
        if self.watch is None:
            return
        seconds, limits = time.perf_counter() - self._began, self.plan.limits
        wins, baseline, best = self.wins, self.baseline, climb.value
        n, most = climb.experiments, min(limits.experiments, limits.proposals or limits.experiments)
        weights = dict(zip(self.names, climb.weights, strict=True))
        self.watch(
            Progress(run_id, n, most, wins, baseline, best, seconds, limits.seconds, weights)
        )

    def _finish(self, climb: Climb, writer: RunWriter, state: str, seconds: float) -> RunResult:
        best = experiment_id(climb.incumbent)
        # Each look at the holdout makes later proof harder, so a person's change that was not kept
        # isn't measured there.
        looks = self.plan.kind == "search" or climb.incumbent > 0
        best_spec = self._spec_of(climb.weights)
        fitted, checked = self._calibration(best_spec, looks=looks)
        sized = self._at_equal_sizes(climb.weights, looks=looks)
        holdout = self._on_holdout(best_spec) if looks else None
        customers = self._customers(climb.weights) if looks else ()
        dated = self._by_date(climb.weights, looks=looks)
        ended: dict[str, Any] = {
            "state": state,
            "experiments": climb.experiments,
            "wins": self.wins,
            "seconds": seconds,
            "baseline_value": self.baseline,
            "best_value": climb.value,
            "best_experiment": best,
            "digest": writer.digest.hexdigest(),
        }
        looked = holdout or {}
        own = {
            "ended_at": datetime.now(UTC),
            "proposals": climb.proposals,
            "holdout_baseline_value": looked.get("baseline_value"),
            "holdout_best_value": looked.get("best_value"),
            "holdout_baseline_metrics": _json(looked.get("baseline_metrics")),
            "holdout_best_metrics": _json(looked.get("metrics")),
            "equal_sizes": _json(sized),
            # Always written: files with the same columns are read together.
            "customers": _json(customers or None),
            "by_date": _json(dated),
        }
        if fitted is not None:
            table = fitted.model_dump(mode="json", by_alias=True)
            own["calibration"] = _json({"table": table, "held_out": checked})
        writer.record("end", ended | own)
        weights = dict(zip(self.names, climb.weights, strict=True))
        lineage = specs.Lineage(
            run=writer.run_id, experiment=best, parent_spec_id=specs.spec_id(self.spec)
        )
        changes: dict[str, Any] = {"objective": self.judge.name, "lineage": lineage}
        changes["calibration"] = fitted
        result = RunResult(
            **ended,
            run_id=writer.run_id,
            journal=str(writer.journal),
            metric=self.judge.name,
            known=self.known,
            weights=weights,
            metrics=self.measure(self.loop.best_sums).row(0),
            holdout=holdout,
            higher_is_better=self.judge.sign > 0,
            spec=best_spec.model_copy(update=changes),
            notes=self.accounts.checked.notes,
            findings=(*self.findings, *self._clipped()),
            blocked=self.blocked,
            broken=dict(self.broken.most_common()),
            tied=self.tied,
            null=self.null,
            basis=self.accounts.checked.outcomes.basis,
            resumed_from=self._resumed_from,
            reliability=checked,
            customers=customers,
            time_order=None
            if self.accounts.later is None
            else order_unverified(self.accounts, self.spec),
            resized=self._resized(sized["searched"]),
            by_date=dated,
            search_pays=self.plan.search_pays,
        )
        seen = self._seen(holdout, sized, customers)
        sentences = lead(result.row, seen, improved=result.improved, held=result.held)
        return replace(result, sentences=tuple(sentences))

    def _clipped(self) -> list[Finding]:
        """Return a finding if the best clips many accounts and the start didn't."""
        frame = self.loop.evaluator.frame_of
        sums = frame(self.loop.start_sums), frame(self.loop.best_sums)
        start, best = (clipping(self.spec, own, "best") for own in sums)
        return [] if start else best

    def _seen(
        self,
        holdout: dict[str, Any] | None,
        sized: dict[str, Any],
        customers: tuple[dict[str, Any], ...],
    ) -> Seen:
        """Return start and best on the accounts held out; on those searched without a look."""
        if holdout is not None:
            accounts, ends = holdout["accounts"], [holdout["baseline_metrics"], holdout["metrics"]]
        else:
            accounts = self.accounts.search.distinct
            sums = (self.baseline_sums, self.loop.best_sums)
            ends = [self.measure(each).row(0) for each in sums]
        return Seen(
            unseen=holdout is not None,
            accounts=accounts,
            start=ends[0],
            best=ends[1],
            sized=sized["searched" if holdout is None else "held_out"],
            risk=self.spec.orientation == "risk",
            old=0 if holdout is None else old_customers(customers),
            rows=bool(self.accounts.search.dates),
        )

    def _customers(self, best: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
        """Measure start and best on old and on new customers of a later table."""
        as_of = self.plan.holdout_as_of or self.plan.as_of
        compared = (self.spec, self.judge, self.start, best)
        return tuple(x.as_json() for x in customers_apart(self.accounts, *compared, as_of=as_of))

    def _by_date(self, best: tuple[int, ...], *, looks: bool) -> dict[str, Any] | None:
        """Measure start and best on each date; None for a table of one date.

        Whether signs of weights hold is tested on the accounts held out, if these are looked at,
        else on those searched.
        """
        search, holdout = self.accounts.search, self.accounts.holdout
        if not search.dates:
            return None
        parts = {"searched": search}
        if looks and holdout is not None and holdout.dates:
            parts["held_out"] = holdout
        judged_by = (self.spec, self.judge)
        # A holdout of its own has dates of its own.
        days = {day for each in parts.values() for day in each.dates}
        return {
            "dates": list(map(str, sorted(days))),
            "signs": signs_by_date(list(parts.values())[-1], *judged_by, best),
            "parts": {n: by_date(each, *judged_by, self.start, best) for n, each in parts.items()},
        }

    def _calibration(
        self, best: ScoringSpec, *, looks: bool
    ) -> tuple[Calibration | None, dict[str, Any] | None]:
        """Fit the best's probabilities on the accounts searched; check them on those held out."""
        accounts = self.accounts
        scores = self.evaluator.scores(best.vector)
        fitted = calibrated(accounts.search, best, datetime.now(UTC).date(), scores)
        if fitted is None or accounts.holdout is None or not looks:
            return fitted, None
        known = best.model_copy(update={"calibration": fitted})
        checked = reliability(accounts.holdout, known)
        return fitted, None if checked is None else checked.as_json()

    def _resized(self, measured: dict[str, Any]) -> str | None:
        """Word what is left of the gain if the objective's tier keeps its size; else None."""
        if not (self.wins and self.judge.metric.by_tier):
            return None
        name = tier_sum("accounts", self.judge.name.partition(".")[2])
        ends = np.concatenate([self.baseline_sums, self.loop.best_sums])
        before, after = self.evaluator.known_of(ends, [name])[name]
        return at_its_size(self.judge.name, before, after, measured)

    def _spec_of(self, weights: tuple[int, ...]) -> ScoringSpec:
        """Return the best's spec, with the tier edges that it was measured at."""
        by_name = dict(zip(self.names, weights, strict=True))
        spec = specs.reweighed(self.spec, by_name)
        if not spec.has_rule:
            return spec
        names = [tier_sum(TIER_LOW, tier) for tier in spec.tier_names]
        lows = self.evaluator.known_of(self.loop.best_sums, names)
        return spec.with_edges([lows[name][0] for name in names])

    def _on_holdout(self, best: ScoringSpec) -> dict[str, Any] | None:
        """Measure start and best on the accounts held out, each by its own tier edges."""
        holdout = self.accounts.holdout
        if holdout is None:
            return None
        outcomes = self.accounts.checked.outcomes
        rows = []
        for spec in (self.spec, best):
            weights = spec.vector
            frame = LocalEvaluator(holdout, spec).frame([weights])
            rows.append(measure(frame, spec.tier_names, outcomes).row(0))
        before, after = both_objectives(self.judge, holdout, self.spec, self.start, best.vector)
        return {
            "accounts": holdout.distinct,
            "baseline_value": before,
            "best_value": after,
            "improved": self.judge.gain(after, before),
            "baseline_metrics": rows[0],
            "metrics": rows[1],
        }

    def _at_equal_sizes(self, best: tuple[int, ...], *, looks: bool) -> dict[str, Any]:
        """Measure start and best by tier at the start's sizes, on both parts of the accounts."""
        accounts, compared = self.accounts, (self.spec, best, self.accounts.checked.outcomes)
        parts = {"searched": at_equal_sizes(accounts.search, *compared, self.evaluator)}
        if looks and accounts.holdout is not None:
            parts["held_out"] = at_equal_sizes(accounts.holdout, *compared)
        return parts


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def start_record(search: Search) -> dict[str, Any]:
    """Return the start record of a search: what was asked for, over which table."""
    spec, accounts, plan = search.spec, search.accounts, search.plan
    checked = accounts.checked
    lineage = spec.lineage
    parameters = {
        **plan.parameters,
        "holdout": spec.split.holdout,
        "salt": spec.split.salt,
        "drop_unlabelled": any(each.checked.dropped for each in (accounts, accounts.later) if each),
        **checked.set_aside.parameters,
        "segments_fingerprint": accounts.segments_fingerprint,
        "rows": checked.rows if accounts.search.dates else None,
        "dates": " ".join(map(str, accounts.search.dates)) or None,
        "reading": "\n".join(checked.reading) or None,
        "findings": recorded_findings(search.findings),
        "copies_together": accounts.copies.repeated if accounts.copies else None,
        **accounts.table.origin,
        **holdout_parameters(accounts),
        "order_of_time": accounts.later and (order_unverified(accounts, spec) or "declared"),
    }
    packages = ("gtmar", "polars", "duckdb", "numpy", "pyarrow")
    return {
        "format_version": FORMAT_VERSION,
        "kind": plan.kind,
        "started_at": datetime.now(UTC),
        "author": plan.author,
        "note": plan.note,
        "seed": plan.seed,
        "parameters": [(k, str(v)) for k, v in parameters.items() if v is not None],
        "objective": search.judge.name,
        "higher_is_better": search.judge.sign > 0,
        "orientation": spec.orientation,
        "model": spec.model,
        "spec_id": specs.spec_id(spec),
        "score_id": specs.score_id(spec),
        "spec": specs.to_json(spec),
        "tiers": list(spec.tier_names),
        "tiers_id": specs.tiers_id(spec),
        "source": without_credentials(accounts.table.source),
        "outcomes_fingerprint": accounts.outcomes_fingerprint,
        "features_fingerprint": accounts.features_fingerprint,
        "accounts": checked.accounts,
        "accounts_dropped": checked.dropped,
        "search_accounts": accounts.search.distinct,
        "holdout_accounts": accounts.holdout.distinct if accounts.holdout else 0,
        "basis": checked.outcomes.basis,
        "evaluator_version": EVALUATOR_VERSION,
        "evaluator_code": evaluator_code(),
        "packages": [(name, version(name)) for name in packages],
        "memory": plan.memory.to_json() if plan.memory else None,
        "memory_digest": plan.memory.digest if plan.memory else None,
        "parent_run": lineage.run if lineage else None,
        "parent_experiment": lineage.experiment if lineage else None,
    }


def new_run_id() -> str:
    """Return a new run id: a letter, the time in UTC, and random digits."""
    return f"r{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


#: Experiments whose metrics are computed in one query, and written as one part. A query takes at
#: least three milliseconds.
_MEASURED_AT_ONCE = 4096
#: Experiments are written after so many seconds at the latest, for slow runs.
_MEASURED_AFTER = 1.0


class Ledger:
    """Steps that were decided but not yet journaled, until their metrics are computed together.

    Keeping or reverting a step needs only the objective. `measure` computes all metrics of K rows
    of sums; `shared` are the arguments of `experiment_rows` that are the same for the whole run.
    """

    def __init__(
        self,
        writer: RunWriter,
        measure: Callable[[NDArray[np.int64]], Measured],
        shared: dict[str, Any],
    ) -> None:
        self._writer, self._measure, self._shared = writer, measure, shared
        self._steps: list[Step] = []
        self._sums: list[NDArray[np.int64]] = []
        self._times: list[int] = []
        self._durations: list[int] = []
        self._since = 0.0

    def open(self, weights: Sequence[int], value: float | None, measured: Measured) -> None:
        """Write the baseline as the run's first part."""
        fields = baseline_fields(weights, value)
        self._append(fields, measured, np.array([_now()]), np.array([0]))
        self._writer.flush()

    def add(self, steps: Sequence[Step], sums: NDArray[np.int64], took: int) -> None:
        """Add decided steps, in order.

        `sums`, int64 (K, L, S), are of those steps that were evaluated, `took` is the time in
        microseconds of each evaluation.
        """
        if not self._steps:
            self._since = time.perf_counter()
        self._steps += steps
        self._sums.append(sums)
        self._times += [_now()] * len(steps)
        self._durations += [0 if step.candidate.taken_over else took for step in steps]
        waited = time.perf_counter() - self._since
        if len(self._steps) >= _MEASURED_AT_ONCE or waited > _MEASURED_AFTER:
            self.write()

    def write(self) -> None:
        """Compute the metrics of all waiting steps in one query, and write them."""
        if not self._steps:
            return
        steps, self._steps = self._steps, []
        measured = self._measure(np.concatenate(self._sums))
        if len(steps) > measured.values.height:
            measured = measured.spread(*_measured_rows(steps))
        fields = step_fields(steps, self._shared["names"])
        self._append(fields, measured, np.array(self._times), np.array(self._durations))
        self._sums, self._times, self._durations = [], [], []

    def _append(
        self,
        fields: Fields,
        measured: Measured,
        times: NDArray[np.int64],
        durations: NDArray[np.int64],
    ) -> None:
        rows = experiment_rows(fields, measured, times=times, durations=durations, **self._shared)
        self._writer.append(rows)


def _now() -> int:
    """Return the time in microseconds since 1970."""
    return time.time_ns() // 1000


def _measured_rows(steps: Sequence[Step]) -> tuple[list[int | None], list[str]]:
    """Return for each step the index of its measured row, or None, and the reason for None."""
    indices: list[int | None] = []
    evaluated = 0
    for step in steps:
        indices.append(None if step.candidate.taken_over else evaluated)
        evaluated += not step.candidate.taken_over
    sources = [step.candidate.known.source if step.candidate.known else "" for step in steps]
    return indices, [f"not evaluated here: known from {source}" for source in sources]
