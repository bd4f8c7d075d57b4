"""The effect of a change of weights on the accounts searched: quick numbers, and details."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar import spec as specs
from gtmar.data.outcomes import CENTS
from gtmar.engine.equal_sizes import scores_at_sizes
from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.engine.tally import TierEdges
from gtmar.journal.sentences import Seen, worse
from gtmar.metrics.metric import basis_note
from gtmar.metrics.registry import (
    DISTRIBUTION_KEYS,
    MAIN_KEYS,
    all_metrics,
    measure_exact,
    metric_column,
)
from gtmar.objective.guardrails import SMALLEST_SEGMENT
from gtmar.objective.objective import better
from gtmar.optimize.hill_climb import Outcome
from gtmar.plain_data import PlainData, digits
from gtmar.runs.segments import segment_objectives, segment_rows
from gtmar.runs.side_by_side import one_side
from gtmar.spec.model import SCORE_UNITS
from gtmar.validation.reliability import calibrated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from gtmar.data.outcomes import OutcomeColumns
    from gtmar.engine.local import LocalEvaluator
    from gtmar.runs.journaled_search import Search
    from gtmar.spec.calibration import Calibration
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

    Vector = tuple[int, ...]
    Scores = NDArray[np.int64]

__all__ = ["Incumbent", "MeasuredDetails", "MeasuredWeights", "MetricChange", "metric_changes"]

#: Most accounts that change tier which are named.
MOST_NAMED = 20


@dataclass(frozen=True)
class MetricChange(PlainData):
    """One metric under two weight vectors: the incumbent's, and a change of it."""

    #: ``auc_roc_retain``; by tier ``nrr_by_tier.A``.
    name: str
    #: The metric's key, the question that it answers, and the tier; None for all tiers together.
    key: str
    answers: str
    tier: str | None
    #: Whether it is one of the 13 main metrics.
    main: bool
    unit: str
    before: float | None
    after: float | None
    #: After minus before; None where either has no value.
    change: float | None
    #: ``better``, ``worse``, ``same``, ``moved`` where neither way is better, ``unknown`` where a
    #: value is missing.
    reading: str
    #: Why a value is missing; None if none is.
    reason: str | None
    #: Interval of the change, on accounts held out; None on those searched.
    interval: Interval | None = None


@dataclass(frozen=True)
class TierChange(PlainData):
    """One tier under two weight vectors, each with its own edges."""

    tier: str
    #: The rule that sets its edge: ``share 0.2``; None if the edge is fixed.
    rule: str | None
    #: Lower edge in points, and number of accounts.
    low_before: float
    low_after: float
    accounts_before: int
    accounts_after: int
    share_after: float


@dataclass(frozen=True)
class MeasuredWeights(PlainData):
    """A weight vector compared with the incumbent's on the accounts searched, never the holdout."""

    _beside = ("kept", "sentence", "got_worse")

    #: All weights; and those that differ from the incumbent's, before and after.
    weights: dict[str, int]
    changes: dict[str, tuple[int, int]]
    accounts: int
    objective: str
    higher_is_better: bool
    #: The objective of the incumbent and of these weights, as a journal has them.
    baseline_value: float
    value: float | None
    #: The outcome that `try` would have: ``win``, ``lose``, ``blocked``; or ``unchanged``.
    outcome: str
    #: Guardrails that these weights break, whether the objective is better or not.
    breaches: tuple[str, ...]
    #: Whether `try` would keep the weights, in a sentence; and sentences on what the score does,
    #: the most important first.
    verdict: str
    sentences: tuple[str, ...]
    metrics: tuple[MetricChange, ...]
    tiers: tuple[TierChange, ...]
    #: A note on revenue retention if end MRR isn't known; else None.
    basis_note: str | None
    #: Whether the table's files changed since they were read. Values are of what was read.
    changed: bool = False

    @property
    def kept(self) -> bool:
        """Whether `try` would keep the weights."""
        return self.outcome == Outcome.WIN

    @property
    def sentence(self) -> str:
        """The sentences in one text."""
        return " ".join(self.sentences)

    @property
    def got_worse(self) -> tuple[str, ...]:
        """Names of the metrics that got worse."""
        return tuple(each.name for each in self.metrics if each.reading == "worse")


@dataclass(frozen=True)
class TierMove(PlainData):
    """Number and MRR of accounts by their tier before and after; `mrr` is None without MRR."""

    before: str
    after: str
    accounts: int
    mrr: float | None


@dataclass(frozen=True)
class MovedAccount(PlainData):
    """An account that changes tier."""

    #: None in a table without ids.
    account: str | None
    mrr: float | None
    score_before: float
    score_after: float
    tier_before: str
    tier_after: str


@dataclass(frozen=True)
class SegmentChange(PlainData):
    """The objective within one segment, ``COLUMN=VALUE``; `reading` as in `MetricChange`."""

    name: str
    accounts: int
    before: float | None
    after: float | None
    change: float | None
    reading: str
    reason: str | None


@dataclass(frozen=True)
class MeasuredDetails(PlainData):
    """The part that takes longer: equal tier sizes, moved accounts, probabilities, segments."""

    _beside = ("sentence",)

    weights: dict[str, int]
    #: Those of `MeasuredWeights`, with tiers compared at the incumbent's sizes.
    sentences: tuple[str, ...]
    #: Sizes of the incumbent's tiers, and by-tier metrics at these sizes on both sides.
    sizes: dict[str, int]
    at_equal_sizes: tuple[MetricChange, ...]
    #: All accounts by tier before and after.
    moves: tuple[TierMove, ...]
    #: How many accounts change tier, and their share of accounts and of MRR (None without MRR).
    moved: int
    moved_share: float
    moved_mrr_share: float | None
    #: Accounts that change tier: those that pay most; without MRR, those that move farthest.
    largest: tuple[MovedAccount, ...]
    #: Probabilities fitted to either score on the accounts searched; None if the spec has none.
    calibration: tuple[Calibration, Calibration] | None = field(default=None, repr=False)
    #: None if the spec names no segments.
    segments: tuple[SegmentChange, ...] | None = None

    @property
    def sentence(self) -> str:
        """The sentences in one text."""
        return " ".join(self.sentences)


def metric_changes(
    before: Mapping[str, float | None],
    after: Mapping[str, float | None],
    tiers: Sequence[str],
    outcomes: OutcomeColumns,
    *,
    by_tier_alone: bool = False,
    intervals: Mapping[str, Interval] | None = None,
) -> tuple[MetricChange, ...]:
    """Compare all metrics under two weight vectors, the 13 main ones first.

    Metrics of the score's own distribution are left out.

    Parameters
    ----------
    before, after
        Values by name, by-tier ones as ``key.tier``, from `measure_exact`.
    tiers, outcomes
        The spec's tier names; and the table's outcomes, which say why a value is missing.
    by_tier_alone
        Whether to return only by-tier metrics.
    intervals
        Intervals of changes, by name; None for none.
    """
    others = [k for k in all_metrics() if k not in (*MAIN_KEYS, *DISTRIBUTION_KEYS)]
    changes = []
    for key in (*MAIN_KEYS, *others):
        metric = all_metrics()[key]
        for tier in tiers if metric.by_tier else (None,) * (not by_tier_alone):
            name = metric_column(key, tier)
            old, new = before[name], after[name]
            reason = None
            if old is None or new is None:
                reason = outcomes.missing_reason(metric.needs) or metric.null_when
            changes.append(
                MetricChange(
                    name=name,
                    key=key,
                    answers=metric.answers,
                    tier=tier,
                    main=key in MAIN_KEYS,
                    unit=metric.unit,
                    before=old,
                    after=new,
                    change=_difference(old, new),
                    reading=_reading(old, new, metric.better),
                    reason=reason,
                    interval=None if intervals is None else intervals.get(name),
                )
            )
    return tuple(changes)


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _reading(before: float | None, after: float | None, direction: str) -> str:
    """Return `MetricChange.reading`; `direction` is ``higher``, ``lower`` or ``neither``."""
    if before is None or after is None:
        return "unknown"
    up, down = better(after, before), better(before, after)
    if not (up or down):
        return "same"
    if direction == "neither":
        return "moved"
    return "better" if up == (direction == "higher") else "worse"


@dataclass(frozen=True)
class _Candidate:
    """F weights, their sums by name, and the scores of N accounts."""

    weights: Vector
    known: dict[str, list[int]]
    scores: Scores


class Incumbent:
    """A spec's weights on the accounts searched, with which other weights are compared.

    Several threads may call its methods; a lock protects the evaluator. The holdout is never read.

    Parameters
    ----------
    search
        A search that isn't run: its evaluator, objective and guardrails are used.
    account_ids
        Ids by row of the table, as `load_accounts` keeps them; None if there are none.
    """

    def __init__(self, search: Search, account_ids: pl.Series | None = None) -> None:
        self.spec, self.judge, self.start = search.spec, search.judge, search.start
        self.matrix = search.accounts.search
        self._outcomes: OutcomeColumns = search.accounts.checked.outcomes
        self._search, self._ids, self._lock = search, account_ids, RLock()
        # The search was made without an evaluator, so it has a local one.
        self._evaluator: LocalEvaluator = search.evaluator  # type: ignore[assignment]
        self._sums = self._evaluator.frame_of(search.baseline_sums).columns
        self._before = self._evaluator.known_of(search.baseline_sums, self._sums)
        self.metrics = measure_exact(self._before, self.spec.tier_names, self._outcomes)

    def measure(self, weights: Vector, *, changed: bool = False) -> MeasuredWeights:
        """Measure F weights: verdict, sentences, metrics and sizes of tiers.

        Notes
        -----
        Cost: an evaluation, and about a millisecond; with guardrails on segments, half a
        millisecond more for each segment.
        """
        search, spec, judge = self._search, self.spec, self.judge
        with self._lock:
            sums = self._evaluator.sums([weights])
            known = self._evaluator.known_of(sums, self._sums)
            [value] = judge.decide(known)
            broken = search.loop.breaches(sums, weights, value, search.baseline)
        outcome = self._outcome(weights, value, broken)
        after = measure_exact(known, spec.tier_names, self._outcomes)
        by_name = dict(zip(search.names, weights, strict=True))
        old = spec.weights
        return MeasuredWeights(
            weights=by_name,
            changes={n: (old[n], w) for n, w in by_name.items() if w != old[n]},
            accounts=self.matrix.distinct,
            objective=judge.name,
            higher_is_better=judge.sign > 0,
            baseline_value=search.baseline,
            value=value,
            outcome=outcome,
            breaches=broken,
            verdict=self._verdict(outcome, value, broken),
            sentences=self._sentences(outcome, value, after, None),
            metrics=metric_changes(self.metrics, after, spec.tier_names, self._outcomes),
            tiers=self._tiers(known),
            basis_note=basis_note(self._outcomes.basis),
            changed=changed,
        )

    def edged(self, weights: Vector) -> ScoringSpec:
        """Return the spec with F weights, and the tier edges that its rule gives on these accounts.

        The incumbent's probabilities are kept only if the scores are the same.
        """
        spec = specs.reweighed(self.spec, dict(zip(self._search.names, weights, strict=True)))
        if not spec.has_rule:
            return spec
        return spec.with_edges(self._lows(self._known(weights)))

    def details(
        self, weights: Vector, *, stale: Callable[[], bool] | None = None
    ) -> MeasuredDetails | None:
        """Measure the details of F weights.

        `stale` is called between the parts; if it returns True, nobody needs the details any more,
        and None is returned.

        Notes
        -----
        Cost: some ten passes over the accounts, for each of the parts.
        """
        candidate = _Candidate(weights, self._known(weights), self._evaluator.scores(weights))
        parts: dict[str, Any] = {}
        for part in (self._by_size, self._moved, self._probabilities, self._by_segment):
            if stale is not None and stale():
                return None
            parts |= part(candidate)
        return MeasuredDetails(dict(zip(self._search.names, weights, strict=True)), **parts)

    # ---- quick numbers -----------------------------------------------------------------------

    def _known(self, weights: Vector) -> dict[str, list[int]]:
        with self._lock:
            return self._evaluator.known_of(self._evaluator.sums([weights]), self._sums)

    def _outcome(self, weights: Vector, value: float | None, broken: Sequence[str]) -> str:
        """Return the outcome that a search of this one candidate would have, as `Climb.tell`."""
        if weights == self.start:
            return "unchanged"
        if not self.judge.gain(value, self._search.baseline):
            return Outcome.LOSE.value
        return (Outcome.BLOCKED if broken else Outcome.WIN).value

    def _verdict(self, outcome: str, value: float | None, broken: Sequence[str]) -> str:
        name, before = self.judge.name, self._search.baseline
        if outcome == "unchanged":
            return "These are the incumbent's weights."
        if value is None:
            reason = self._outcomes.missing_reason(self.judge.metric.needs)
            why = reason or self.judge.metric.null_when
            return f"Would be reverted: {name} has no value, {why}."
        moved = f"{name} {before:.4f} -> {value:.4f} on the accounts searched"
        if outcome == Outcome.BLOCKED:
            return f"Would be reverted: {moved}, but it breaks {'; '.join(broken)}."
        if outcome == Outcome.WIN:
            return f"Would be kept: {moved}."
        return f"Would be reverted: {moved}, no better."

    def _sentences(
        self,
        outcome: str,
        value: float | None,
        after: Mapping[str, Any],
        sized: Mapping[str, Any] | None,
    ) -> tuple[str, ...]:
        seen = Seen(
            unseen=False,
            accounts=self.matrix.distinct,
            start=self.metrics,
            best=after,
            sized=sized,
            risk=self.spec.orientation == "risk",
            rows=bool(self.matrix.dates),
        )
        changed = outcome != "unchanged"
        sentences = seen.sentences_on(improved=changed)
        if not sentences:
            # A table without labels has only the objective.
            sentences = [self._verdict(outcome, value, ())]
        return (*sentences, *(worse(seen, self.judge.name) if changed else ()))

    def _lows(self, known: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
        """Return the lowest bins of a candidate's tiers, from the highest tier down."""
        if not self.spec.has_rule:
            return self.spec.tier_lows
        return tuple(known[tier_sum(TIER_LOW, tier)][0] for tier in self.spec.tier_names)

    def _tiers(self, known: Mapping[str, Sequence[int]]) -> tuple[TierChange, ...]:
        spec, lines = self.spec, []
        ends = zip(spec.tier_names, self._lows(self._before), self._lows(known), strict=True)
        for tier, low, new_low in ends:
            rule, size = spec.tiers[tier].rule, tier_sum("accounts", tier)
            accounts = known[size][0]
            lines.append(
                TierChange(
                    tier=tier,
                    rule=None if rule is None else f"{rule[0]} {digits(rule[1])}",
                    low_before=low / SCORE_UNITS,
                    low_after=new_low / SCORE_UNITS,
                    accounts_before=self._before[size][0],
                    accounts_after=accounts,
                    share_after=accounts / max(1, self.matrix.accounts),
                )
            )
        return tuple(lines)

    # ---- details, which take passes over the accounts ----------------------------------------

    @cached_property
    def _start_scores(self) -> Scores:
        return self._evaluator.scores(self.start)

    @cached_property
    def _start_tiers(self) -> NDArray[np.intp]:
        return self._tiers_of(self._start_scores, self._before)

    @cached_property
    def _start_sized(self) -> dict[str, Any]:
        return self._sized("start", self._before, self._start_scores)

    @property
    def _sizes(self) -> list[int]:
        return [self._before[tier_sum("accounts", tier)][0] for tier in self.spec.tier_names]

    def _sized(
        self, side: str, known: Mapping[str, Sequence[int]], scores: Scores
    ) -> dict[str, Any]:
        tiers = self.spec.tier_names
        sums = scores_at_sizes(self.matrix, scores, known, self._sizes, tiers)
        return one_side(side, sums, tiers, self._outcomes)

    def _by_size(self, candidate: _Candidate) -> dict[str, Any]:
        tiers = self.spec.tier_names
        both = {**self._start_sized, **self._sized("best", candidate.known, candidate.scores)}
        sized = {"tiers": list(tiers), "sizes": self._sizes, **both}
        after = measure_exact(candidate.known, tiers, self._outcomes)
        [value] = self.judge.decide(candidate.known)
        outcome = self._outcome(candidate.weights, value, ())
        ends = (both["start"], both["best"])
        return {
            "sentences": self._sentences(outcome, value, after, sized),
            "sizes": dict(zip(tiers, self._sizes, strict=True)),
            "at_equal_sizes": metric_changes(*ends, tiers, self._outcomes, by_tier_alone=True),
        }

    def _tiers_of(self, scores: Scores, known: Mapping[str, Sequence[int]]) -> NDArray[np.intp]:
        edges = replace(TierEdges.of(self.spec), tier_lows=self._lows(known))
        return edges.tiers_of(scores.astype(np.intp))

    def _moved(self, candidate: _Candidate) -> dict[str, Any]:
        matrix, names, scores = self.matrix, self.spec.tier_names, candidate.scores
        before, after = self._start_tiers, self._tiers_of(scores, candidate.known)
        pairs, size = before * len(names) + after, len(names) ** 2
        counts = np.bincount(pairs, minlength=size).tolist()
        rows = np.flatnonzero(before != after)
        start = matrix.start
        cents = None
        if start is not None:
            # Exact: cents are integers.
            cents = [int(start[pairs == pair].sum()) if counts[pair] else 0 for pair in range(size)]
        moves = tuple(
            TierMove(
                names[pair // len(names)],
                names[pair % len(names)],
                counts[pair],
                None if cents is None else cents[pair] / CENTS,
            )
            for pair in range(size)
            if counts[pair]
        )
        whole = 0 if cents is None else sum(cents)
        stay = sum((cents or [])[:: len(names) + 1])
        return {
            "moves": moves,
            "moved": len(rows),
            "moved_share": len(rows) / max(1, matrix.accounts),
            "moved_mrr_share": (whole - stay) / whole if whole else None,
            "largest": self._largest(rows, (self._start_scores, scores), (before, after)),
        }

    def _largest(
        self,
        rows: NDArray[np.intp],
        scores: tuple[Scores, Scores],
        tiers: tuple[NDArray[np.intp], NDArray[np.intp]],
    ) -> tuple[MovedAccount, ...]:
        """Return the rows that pay most, or move farthest, among those that change tier."""
        start, names = self.matrix.start, self.spec.tier_names
        size = abs(scores[1][rows] - scores[0][rows]) if start is None else start[rows]
        if len(rows) > MOST_NAMED:
            least = np.partition(size, -MOST_NAMED)[-MOST_NAMED]
            rows, size = rows[size >= least], size[size >= least]
        ids: list[str | None] = [None] * len(rows)
        if self._ids is not None and self.matrix.numbers is not None:
            ids = self._ids.gather(self.matrix.numbers[rows]).to_list()
        order = sorted(zip((-size).tolist(), ids, rows.tolist(), strict=True))[:MOST_NAMED]
        return tuple(
            MovedAccount(
                account=account,
                mrr=None if start is None else int(start[row]) / CENTS,
                score_before=int(scores[0][row]) / SCORE_UNITS,
                score_after=int(scores[1][row]) / SCORE_UNITS,
                tier_before=names[tiers[0][row]],
                tier_after=names[tiers[1][row]],
            )
            for _, account, row in order
        )

    @cached_property
    def _start_calibration(self) -> Calibration | None:
        today = datetime.now(UTC).date()
        return calibrated(self.matrix, self.spec, today, self._start_scores)

    def _probabilities(self, candidate: _Candidate) -> dict[str, Any]:
        if self.spec.calibration is None or self._start_calibration is None:
            return {}
        day, spec = self._start_calibration.fitted, self.edged(candidate.weights)
        fitted = calibrated(self.matrix, spec, day, candidate.scores)
        return {"calibration": fitted and (self._start_calibration, fitted)}

    @cached_property
    def _start_segments(self) -> dict[str, float | None]:
        return self._search.loop.guard.segment_values(self.start)

    def _by_segment(self, candidate: _Candidate) -> dict[str, Any]:
        matrix, judge = self.matrix, self.judge
        if not matrix.segments:
            return {}
        with self._lock:
            if judge.metric.by_tier:
                old, new = segment_objectives(
                    matrix, self.spec, judge, self.start, candidate.weights
                )
            else:
                guard, lows = self._search.loop.guard, self._lows(candidate.known)
                old = self._start_segments
                new = guard.segment_values(candidate.weights, lows)
        lines = []
        # For concentration, of which neither more nor less is better, more reads as better.
        direction = "lower" if judge.metric.sign < 0 else "higher"
        for name, held in segment_rows(matrix):
            whose, before, after = matrix.account_of, old[name], new[name]
            accounts = len(held) if whose is None else len(np.unique(whose[held]))
            few = accounts < SMALLEST_SEGMENT
            lacking = f"fewer than {SMALLEST_SEGMENT} accounts" if few else "no value"
            lines.append(
                SegmentChange(
                    name=name,
                    accounts=accounts,
                    before=before,
                    after=after,
                    change=_difference(before, after),
                    reading=_reading(before, after, direction),
                    reason=lacking if before is None or after is None else None,
                )
            )
        return {"segments": tuple(lines)}
