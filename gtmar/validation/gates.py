"""The gates of a decision: what a candidate must pass on accounts that no search has used.

Also the smallest gain that a number of accounts can prove, which `check` reports before a search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.errors import UsageError
from gtmar.metrics.metric import marked
from gtmar.metrics.registry import all_metrics
from gtmar.objective.guardrails import SMALLEST_SEGMENT
from gtmar.objective.objective import held_metric
from gtmar.optimize.proposers import RandomProposer, SearchSpace
from gtmar.plain_data import PlainData, digits, percent
from gtmar.validation.intervals import CHANCE_LEVEL, REPLICATES, panel_of, uncertainty, upside_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval
    from gtmar.validation.intervals import Uncertainty
    from gtmar.validation.paired_scores import Panel
    from gtmar.validation.reliability import Reliability

__all__ = [
    "COPIES_SHARE",
    "DEFAULT_SEGMENT_DROP",
    "LARGE_SEGMENT",
    "LEAST_MAX_MOVED",
    "Gate",
    "Gates",
    "Grounds",
    "Verdict",
    "default_max_moved",
    "judged",
    "reason_of",
    "segment_safety",
    "smallest_gain",
    "verdict_of",
]


#: Random walks away from the start, and the proposals accepted in each.
_WALKS, _STEPS = 5, 40
#: Probability of proving a true gain of the size that `smallest_gain` returns.
POWER = 0.8
_LEVEL = 0.95
_REPLICATES = 200


def smallest_gain(
    matrix: AccountMatrix, spec: ScoringSpec, judge: Judge, *, accounts: int
) -> float | None:
    """Return the true gain that four decisions in five would prove.

    Parameters
    ----------
    matrix
        Accounts to estimate the error from: those to be searched, never the holdout.
    spec
        Its weights are the start.
    accounts
        Number of accounts that will decide, with as many dates each; the error shrinks with the
        square root of it.

    Returns
    -------
    float or None
        In the objective's own unit; None if it has no interval, or no weight can change.

    Notes
    -----
    (z of 97.5 % + z of 80 %) x standard error. The error depends on how similar the two scores are.
    So it is the median over a few seeded random walks from the start, which change weights about
    as much as a search does; outcomes don't guide them. Cost: five intervals.
    """
    ends = zip(*((t.min, t.max) for t in spec.terms), strict=True)
    space = SearchSpace(tuple(t.name for t in spec.terms), *(tuple(e) for e in ends))
    start = tuple(term.weight for term in spec.terms)
    if not space.free or not accounts:
        return None
    key = judge.name.partition(".")[0]
    normal = NormalDist()
    reach = normal.inv_cdf((1 + _LEVEL) / 2)
    errors = []
    for walk in range(_WALKS):
        proposer, weights = RandomProposer(space, seed=walk), list(start)
        for number in range(1, _STEPS + 1):
            for index, weight in proposer.propose(number, weights).items():
                weights[index] = weight
        panel = panel_of(matrix, spec, start, weights)
        intervals = uncertainty(panel, level=_LEVEL, replicates=_REPLICATES, metrics={key})
        gain = intervals.gain.get(judge.name)
        if gain is not None and gain.low is not None and gain.high is not None:
            errors.append((gain.high - gain.low) / 2 / reach)
    if not errors:
        return None
    shrunk = math.sqrt(matrix.distinct / accounts)
    return (reach + normal.inv_cdf(POWER)) * median(errors) * shrunk


#: Largest measured loss of a segment. If a candidate is a little better everywhere, chance exceeds
#: it in 5 of 100 segments of 50 accounts, in 1 of 100 segments of 100 accounts, and in none of 200
#: (AUC, resampled from the health_score example).
DEFAULT_SEGMENT_DROP = 0.05
#: Share of copied accounts that narrows an interval by 3 % at most.
COPIES_SHARE = 0.05
#: Lower bound of `default_max_moved`.
LEAST_MAX_MOVED = 0.8
#: Share of accounts or of MRR above which a segment is checked without being requested.
LARGE_SEGMENT = 0.1
#: Name of a segment's gate, followed by ``COLUMN=VALUE``; and of the gate of all large segments.
_SEGMENT, _LARGE = "segment ", "large segments"
_COLUMNS_SHOWN = 4


class Verdict(StrEnum):
    """The result of a decision."""

    READY = "READY_FOR_REVIEW"
    #: The gain is proven and no gate failed, but one could not be measured.
    UNVERIFIED = "UNVERIFIED"
    KEEP = "KEEP_INCUMBENT"


@dataclass(frozen=True)
class Gates(PlainData):
    """The limits that a candidate must keep, stated before the holdout is looked at.

    Parameters
    ----------
    min_gain
        Smallest gain of the objective, as an improvement, 0 or more; its interval must also lie
        above 0.
    max_moved
        Largest share of accounts that may change tier, in [0, 1]; None for `default_max_moved`.
        For MRR, the larger of this and the default is the limit.
    segments
        Columns; each of their values is a segment that must not get worse.
    max_segment_drop
        Largest measured loss of the objective in a segment, whether proven or not; relative to the
        incumbent's value there if that is above 1. A proven loss fails, however small. None for
        `DEFAULT_SEGMENT_DROP`.
    keep
        Columns that may be features although they seem to leak the outcome.
    no_worse
        Metrics that must not be proven worse.
    max_calibration_error
        Largest calibration error of the candidate's probabilities, in [0, 1]; None for no limit.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    min_gain: float = 0.0
    max_moved: float | None = None
    segments: tuple[str, ...] = ()
    max_segment_drop: float | None = None
    keep: tuple[str, ...] = ()
    no_worse: tuple[str, ...] = ()
    max_calibration_error: float | None = None

    def __post_init__(self) -> None:
        wrong = []
        if not self.min_gain >= 0:
            wrong.append(f"the least gain must be 0 or more, got {self.min_gain}")
        if self.max_moved is not None and not 0 <= self.max_moved <= 1:
            wrong.append(f"the share that may move must be in [0, 1], got {self.max_moved}")
        error = self.max_calibration_error
        if error is not None and not 0 <= error <= 1:
            wrong.append(f"the largest calibration error must be in [0, 1], got {error}")
        if not self.segment_drop >= 0:
            wrong.append(
                f"the largest drop of a segment must be 0 or more, got {self.max_segment_drop}"
            )
        if wrong:
            raise UsageError("; ".join(wrong))

    @property
    def segment_drop(self) -> float:
        """`max_segment_drop`, or `DEFAULT_SEGMENT_DROP`."""
        return DEFAULT_SEGMENT_DROP if self.max_segment_drop is None else self.max_segment_drop

    def asking(self, spec: ScoringSpec) -> Gates:
        """Return these gates with a spec's `no_worse`, and its segments unless they have their own.

        Raises
        ------
        UsageError
            If a largest drop is stated without any segment; or a metric of `no_worse` doesn't
            exist or has no better direction.
        """
        segments = self.segments or spec.segments
        held = tuple(dict.fromkeys((*spec.no_worse, *self.no_worse)))
        for name in held:
            held_metric(name, spec, same_sizes=True)
        if self.max_segment_drop is not None and not segments:
            raise UsageError(
                f"a largest drop of {self.max_segment_drop:g} is stated, but no segment is asked",
                hint="--segment COLUMN, or segments: [COLUMN] in the spec",
            )
        return replace(self, segments=segments, no_worse=held)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**super().as_json(), "max_segment_drop": self.segment_drop}


@dataclass(frozen=True)
class Gate(PlainData):
    """One gate and its outcome.

    Parameters
    ----------
    name
        `change`, `level`, `gain`, `movement`, `movement of MRR`, `guardrails`, `calibration`,
        `leakage`, `copies`, `large segments`, ``no_worse METRIC`` or ``segment COLUMN=VALUE``.
    limit
        The requirement, in words.
    found
        The measurement, in words.
    passed
        None if it couldn't be measured, for example with too few accounts; that is no pass.
    mrr_share
        A segment's share of the MRR at the start, in [0, 1]; None for other gates, or without MRR.
    cause
        Why the candidate doesn't pass, worded for the first line of a verdict.
    """

    name: str
    limit: str
    found: str
    passed: bool | None
    mrr_share: float | None = None
    cause: str = ""

    @property
    def outcome(self) -> str:
        """Return `passed`, `failed` or `unknown`."""
        return {True: "passed", False: "failed", None: "unknown"}[self.passed]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        cause = "" if self.passed else self.cause
        return self.values("name limit found outcome mrr_share") | {"cause": cause}


def _objective(
    panel: Panel, judge: Judge, level: float, draws: int = REPLICATES
) -> tuple[float, Interval | None]:
    """Return the incumbent's objective, 0 if it has none, and the gain as an improvement."""
    key = judge.name.partition(".")[0]
    intervals = uncertainty(panel, level=level, replicates=draws, metrics={key})
    before = intervals.before.get(judge.name)
    return (before.value if before else None) or 0.0, _improvement(intervals, judge)


def _improvement(intervals: Uncertainty, judge: Judge) -> Interval | None:
    """Return the objective's gain, above 0 if better; None if the objective isn't measured."""
    gain = intervals.gain.get(judge.name)
    return gain if gain is None or judge.sign > 0 else gain.negated()


@dataclass(frozen=True)
class Grounds:
    """The evidence of a decision."""

    #: Holdout accounts, scored by incumbent and candidate.
    panel: Panel
    #: The objective and guardrails, and the stated limits.
    judge: Judge
    gates: Gates
    #: All metrics of both scores, with tiers of equal sizes, and the level of their intervals.
    intervals: Uncertainty
    level: float
    #: Why there is no candidate; None if there is one.
    unchanged: str | None = None
    #: Share of the accounts, and of their MRR, that changes tier, each score with its own edges;
    #: the latter is None without MRR.
    moved: float = 0.0
    moved_mrr: float | None = None
    #: Guardrails that the candidate breaks on these accounts.
    breaches: Sequence[str] = ()
    #: Panel by ``COLUMN=VALUE``, of the requested segments and of other large ones; None for a
    #: segment without holdout accounts.
    segments: Mapping[str, Panel | None] = field(default_factory=dict)
    large: Mapping[str, Panel] = field(default_factory=dict)
    #: Features that seem to know the outcome.
    leaking: Sequence[str] = ()
    #: Number of holdout accounts that are copies of another one.
    repeated: int = 0
    #: Basis of revenue retention: `observed` or `binary`.
    basis: str | None = None
    #: The candidate's probabilities compared with outcomes; None if it has none.
    reliability: Reliability | None = None

    @property
    def name(self) -> str:
        """The objective's name, with its basis if that is binary."""
        return marked(self.judge.name, self.basis)


def judged(grounds: Grounds) -> tuple[Gate, ...]:
    """Return all gates of a candidate, in the order in which a verdict gives its reasons."""
    if grounds.unchanged is not None:
        limit, reason = "the candidate differs from the incumbent", grounds.unchanged
        cause = reason[:1].lower() + reason[1:].removesuffix(".")
        change = Gate("change", limit, reason, passed=False, cause=cause)
        return (*(gate for gate in _level(grounds) if not gate.passed), change)
    return tuple(gate for make in _MAKERS for gate in make(grounds))


def _level(of: Grounds) -> Iterator[Gate]:
    auc = of.intervals.after.get("auc_roc_retain")
    if auc is None or auc.value is None or auc.low is None or auc.high is None:
        return
    limit = f"its AUC is not proven to be below {CHANCE_LEVEL}, a coin's"
    measured = f"{auc.value:.4f}, from {auc.low:.4f} to {auc.high:.4f}"
    both = of.intervals
    sentence = upside_down(both if of.unchanged is None else replace(both, after={})) or ""
    cause = sentence[:1].lower() + sentence[1:].removesuffix(".")
    yield Gate("level", limit, measured, auc.high >= CHANCE_LEVEL, cause=cause)


def _gain(of: Grounds) -> Iterator[Gate]:
    gain, least = _improvement(of.intervals, of.judge), of.gates.min_gain
    limit = f"{of.name} gets better, its {100 * of.level:.5g}% interval above 0"
    if least:
        limit += f", by {digits(least)} or more"
    if gain is None or gain.value is None or gain.low is None:
        measured = f"no interval: {'the metric has none' if gain is None else gain.reason}"
        yield Gate("gain", limit, measured, passed=False, cause=f"no gain is proven, {measured}")
        return
    measured, passed = _ends(gain), gain.above_zero and gain.value >= least
    cause = f"{of.name} gets worse" if gain.below_zero else "no gain is proven"
    if gain.above_zero:
        cause = f"the gain of {of.name} is below the {digits(least)} asked"
    yield Gate("gain", limit, measured, passed, cause=f"{cause} ({measured})")


def default_max_moved(sizes: Sequence[int] | NDArray[np.intp]) -> float:
    """Return the default limit on the share that may change tier.

    It is half way between the share that a score independent of the incumbent would move, at these
    tier sizes, and 1, but at least `LEAST_MAX_MOVED`. Ordinary gains move less (decision 71).

    Examples
    --------
    >>> default_max_moved([25, 25, 25, 25]), default_max_moved([100, 0])
    (0.875, 0.8)
    """
    total = sum(sizes)
    alike = sum((size / total) ** 2 for size in sizes) if total else 1.0
    return max(LEAST_MAX_MOVED, float(1 - alike / 2))


def _movement(of: Grounds) -> Iterator[Gate]:
    stated, usual = of.gates.max_moved, default_max_moved(np.bincount(of.panel.before.tiers))
    # To repair an upside-down incumbent is to reverse its order, so everyone may move.
    turned = upside_down(replace(of.intervals, after={})) is not None
    # In a table of several dates, an account has a tier on each.
    counted = "accounts" if of.panel.account_of is None else "rows"
    for what, share, verb in ((counted, of.moved, "do"), ("MRR", of.moved_mrr, "does")):
        if share is None:
            continue
        most = (1.0 if turned else usual) if stated is None else stated
        most = max(most, usual) if what == "MRR" else most
        limit = f"at most {most:.1%} of {what} change{'' if verb == 'do' else 's'} tier"
        limit += ", the incumbent being upside down" if turned and stated is None else ""
        cause = f"{percent(share, 1)} of the {what} would change tier, {most:.1%} at most may"
        name = "movement" if verb == "do" else "movement of MRR"
        yield Gate(name, limit, f"{percent(share, 1)} {verb}", share <= most, cause=cause)


def _guardrails(of: Grounds) -> Iterator[Gate]:
    if of.judge.limits or of.judge.comparisons:
        broken = "; ".join(of.breaches)
        measured, cause = broken or "none is broken", f"it breaks a guardrail, {broken}"
        limit = "the candidate breaks none of the spec's"
        yield Gate("guardrails", limit, measured, not of.breaches, cause=cause)


def _no_worse(of: Grounds) -> Iterator[Gate]:
    for name in of.gates.no_worse:
        gain = of.intervals.gain.get(name)
        limit, called = f"{name} is not proven worse", f"no_worse {name}"
        if gain is None or gain.value is None or gain.low is None:
            measured = f"unknown: {'the metric has no interval' if gain is None else gain.reason}"
            yield Gate(called, limit, measured, None, cause=f"whether {name} got worse is unknown")
            continue
        sign = all_metrics()[name.partition(".")[0]].sign
        worse = gain.below_zero if sign > 0 else gain.above_zero
        cause = f"{name} gets worse beyond chance ({_ends(gain)})"
        yield Gate(called, limit, _ends(gain), not worse, cause=cause)


def _leakage(of: Grounds) -> Iterator[Gate]:
    leaking = [name for name in of.leaking if name not in of.gates.keep]
    if leaking:
        # A feature that knows the outcome can't be measured by it, so this is no failure.
        measured = f"unknown: {', '.join(leaking)}; --keep says that it was known beforehand"
        cause = f"{', '.join(leaking)} seem{'s' if len(leaking) == 1 else ''} to know the outcome"
        limit = "no feature seems to know the outcome"
        yield Gate("leakage", limit, measured, None, cause=cause)


def _copies(of: Grounds) -> Iterator[Gate]:
    accounts = of.panel.accounts
    if of.repeated > COPIES_SHARE * accounts:
        cause = f"{of.repeated:,} of {accounts:,} accounts repeat another one"
        limit = f"at most {COPIES_SHARE:.0%} of the accounts are copies, so that intervals hold"
        measured = f"unknown: {of.repeated:,} of {accounts:,} repeat another one"
        yield Gate("copies", limit, measured, None, cause=cause)


def _calibration(of: Grounds) -> Iterator[Gate]:
    most = of.gates.max_calibration_error
    if most is None:
        return
    limit = f"the calibration error of its probabilities is {digits(most)} at most"
    error = None if of.reliability is None else of.reliability.calibration_error
    if error is None or error.value is None:
        cause = "it has no probabilities that could be checked"
        yield Gate("calibration", limit, f"unknown: {cause}", None, cause=cause)
        return
    measured = f"{error.value:.4f}, from {error.low:.4f} to {error.high:.4f}"
    cause = f"its probabilities are off by {error.value:.4f} on average"
    yield Gate("calibration", limit, measured, error.value <= most, cause=cause)


def _asked_segments(of: Grounds) -> Iterator[Gate]:
    for segment, part in of.segments.items():
        gate = _segment_gate(segment, part, of.panel, of.judge, of.gates.segment_drop, of.level)
        yield replace(gate, limit=gate.limit.replace(of.judge.name, of.name, 1))


def _large_segments(of: Grounds) -> Iterator[Gate]:
    """Yield a failed gate for each large segment that is proven worse, or one passed gate.

    Bonferroni's correction keeps the level over all of them together. A segment without an
    interval, as where all accounts stayed, says nothing, so it isn't one of them.
    """
    sized = {n: part for n, part in of.large.items() if part.accounts >= SMALLEST_SEGMENT}
    untold = {n: why for n, part in sized.items() if (why := _no_interval(part, of)) is not None}
    measured = {n: part for n, part in sized.items() if n not in untold}
    if not measured:
        return
    count = len(measured)
    level = 1 - (1 - of.level) / count
    limit = (
        f"in no segment of over {LARGE_SEGMENT:.0%} of accounts or MRR is {of.name} proven worse, "
        f"at {100 * level:.5g}%, {count:,} of them"
    )
    failed = []
    for segment, part in measured.items():
        gain = _loss(part, of.judge, level)
        if gain is not None:
            worded = f"{_ends(gain)}, {part.accounts:,} accounts"
            cause = _lost(segment, part, of.panel, gain, of.name)
            share = _mrr_share(part, of.panel)
            failed.append(
                Gate(
                    f"{_SEGMENT}{segment}",
                    limit,
                    worded,
                    passed=False,
                    mrr_share=share,
                    cause=cause,
                )
            )
    columns = list(dict.fromkeys(name.partition("=")[0] for name in measured))
    shown = ", ".join([*columns[:_COLUMNS_SHOWN], *["..."] * (len(columns) > _COLUMNS_SHOWN)])
    worded = f"none of the {count:,} large ones, by {shown}, is proven worse"
    few = [
        f"{name} ({part.accounts:,} accounts{_of_mrr(part, of.panel)})"
        for name, part in of.large.items()
        if name not in sized
    ]
    worded += f"; too few accounts to tell in {', '.join(few)}" if few else ""
    silent = [
        f"{name} ({why}, {sized[name].accounts:,} accounts{_of_mrr(sized[name], of.panel)})"
        for name, why in untold.items()
    ]
    worded += f"; no interval in {', '.join(silent)}" if silent else ""
    yield from failed or [Gate(_LARGE, limit, worded, passed=True)]


#: Makers of gates, in the order in which a verdict gives its reasons.
_MAKERS: tuple[Callable[[Grounds], Iterator[Gate]], ...] = (
    _level,
    _gain,
    _no_worse,
    _guardrails,
    _asked_segments,
    _large_segments,
    _movement,
    _calibration,
    _leakage,
    _copies,
)
#: Number of reasons in the first line of a verdict.
_REASONS = 3


def reason_of(gates: Sequence[Gate]) -> str | None:
    """Return why a candidate isn't ready, in words: the failed gates, else the unknown ones.

    None if every gate passed.

    Examples
    --------
    >>> reason_of([Gate("copies", "", "", None, cause="9 of 10 accounts repeat another one")])
    '9 of 10 accounts repeat another one'
    """
    failed, unknown = (
        [gate.cause for gate in gates if gate.passed is outcome] for outcome in (False, None)
    )
    causes = failed or unknown
    more = f"; and {len(causes) - _REASONS:,} more" if len(causes) > _REASONS else ""
    return "; ".join(causes[:_REASONS]) + more or None


def verdict_of(gates: Sequence[Gate]) -> Verdict:
    """Return READY if every gate passed, the gain among them.

    KEEP without a proven gain or with any failed gate; else UNVERIFIED with any unknown gate.
    """
    proven = any(gate.name == "gain" and gate.passed for gate in gates)
    if not proven or any(gate.passed is False for gate in gates):
        return Verdict.KEEP
    return Verdict.UNVERIFIED if any(gate.passed is None for gate in gates) else Verdict.READY


def segment_safety(gates: Iterable[Mapping[str, Any]]) -> str:
    """Return a summary of the segments' gates, given as in `Gate.as_json`.

    Examples
    --------
    >>> segment_safety([{"name": "gain", "outcome": "passed"}])
    'not asked'
    >>> segment_safety([{"name": "segment plan=pro", "outcome": "unknown"}])
    'unknown in plan=pro'
    """
    by_outcome: dict[str, list[str]] = {"failed": [], "unknown": [], "passed": []}
    large = ""
    for gate in gates:
        if gate["name"] == "change":
            return "not measured, nothing would change"
        if gate["name"] == _LARGE:
            large = gate["found"]
        if gate["name"].startswith(_SEGMENT):
            share = gate.get("mrr_share")
            of_all = "" if share is None else f" ({percent(share)} of the MRR)"
            by_outcome[gate["outcome"]].append(gate["name"].removeprefix(_SEGMENT) + of_all)
    parts = [f"{outcome} in {', '.join(names)}" for outcome, names in by_outcome.items() if names]
    if not parts:
        parts = ["not asked"]
    return "; ".join(parts + [large] * bool(large))


def _ends(gain: Interval) -> str:
    return f"{gain.value:+.4f}, from {gain.low:+.4f} to {gain.high:+.4f}"


def _no_interval(part: Panel, of: Grounds) -> str | None:
    """Return why a segment's gain has no interval, so that no loss can show; None if it has one."""
    # Whether there is one depends neither on bootstrap draws nor on the level.
    gain = _objective(part, of.judge, of.level, draws=0)[1]
    if gain is not None and gain.low is not None:
        return None
    return (gain and gain.reason) or "not measured"


def _loss(part: Panel, judge: Judge, level: float) -> Interval | None:
    """Return a segment's gain if it is a proven loss, else None.

    Bootstrap draws only widen an interval, so a loss that isn't proven without them needs none.
    """
    gain = None
    for draws in (0, REPLICATES):
        gain = _objective(part, judge, level, draws)[1]
        if gain is None or not gain.below_zero:
            return None
    return gain


def _lost(segment: str, part: Panel, panel: Panel, gain: Interval, name: str) -> str:
    share = part.accounts / max(1, panel.accounts)
    return f"in {segment}, {percent(share)} of the accounts, {name} gets worse ({_ends(gain)})"


def _segment_gate(
    name: str, part: Panel | None, panel: Panel, judge: Judge, most: float, level: float
) -> Gate:
    """Return the gate of a segment, which fails if it is proven worse or loses too much."""
    before, gain = (0.0, None) if part is None else _objective(part, judge, level)
    allowed = most * max(1.0, abs(before))
    limit = f"{judge.name} is not proven worse, and falls by {digits(allowed, 4)} at most"
    value = None if gain is None else gain.value
    lost = value is not None and value < -allowed
    count = 0 if part is None else part.accounts
    size = f"{count:,} account{'' if count == 1 else 's'}"
    measured = "" if value is None else f", measured {value:+.4f}"
    passed: bool | None = None
    cause = f"{name} can't be measured, {size}"
    if part is None:
        worded = "unknown: it has accounts in the table searched, and none among these"
    elif count < SMALLEST_SEGMENT:
        worded = f"unknown: {size}, {SMALLEST_SEGMENT} needed{measured}"
    elif gain is None or gain.low is None or not np.isfinite(gain.low):
        reason = "the metric has no interval" if gain is None else gain.reason
        worded = f"{'' if lost else 'unknown: '}{reason}, {size}{measured}"
        passed = False if lost else None
        cause = f"in {name} it loses {-(value or 0):.4f}" if lost else cause
    else:
        worded = f"{_ends(gain)}, {size}"
        passed, cause = not (gain.below_zero or lost), _lost(name, part, panel, gain, judge.name)
    return Gate(f"{_SEGMENT}{name}", limit, worded, passed, _mrr_share(part, panel), cause)


def _of_mrr(part: Panel, panel: Panel) -> str:
    share = _mrr_share(part, panel)
    return "" if share is None else f", {percent(share)} of the MRR"


def _mrr_share(part: Panel | None, panel: Panel) -> float | None:
    """Return a segment's share of the MRR at the start; None without MRR."""
    if part is None or part.start is None or panel.start is None or not panel.start.sum() > 0:
        return None
    return float(part.start.sum() / panel.start.sum())
