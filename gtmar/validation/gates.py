"""The smallest gain that so many accounts can prove, before anybody searches.

The error of a gain depends on how alike the two scores are. So it is taken from changes of the size
that a search makes: each of a few walks of proposals away from the start, seeded, no outcome asked.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.errors import UsageError
from gtmar.metrics.metric import marked
from gtmar.objective.guardrails import SMALLEST_SEGMENT
from gtmar.optimize.proposers import RandomProposer, SearchSpace
from gtmar.validation.intervals import panel_of, uncertainty

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gtmar.data.matrix import AccountMatrix
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval
    from gtmar.validation.paired_scores import Panel

__all__ = [
    "COPIES_SHARE",
    "DEFAULT_SEGMENT_DROP",
    "Gate",
    "Gates",
    "Verdict",
    "gain_of",
    "judged",
    "segment_safety",
    "smallest_gain",
    "verdict_of",
]


#: Walks away from the start, and proposals taken in each.
_WALKS, _STEPS = 5, 40
#: Chance of proving a gain of the size returned.
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
        Accounts to learn the error from; those to be searched, never the holdout.
    spec
        Its weights are the start.
    judge
        The objective.
    accounts
        Accounts that will decide: the error shrinks with the root of their number.

    Returns
    -------
    float or None
        In the objective's own unit; None where it has no interval, or nothing can move.

    Notes
    -----
    (z of 97.5 % + z of 80 %) x standard error, the median over the walks. Cost: five intervals.
    """
    ends = zip(*((t.min, t.max) for t in spec.terms), strict=True)
    levers = SearchSpace(tuple(t.name for t in spec.terms), *(tuple(e) for e in ends))
    start = tuple(term.weight for term in spec.terms)
    if not levers.free or not accounts:
        return None
    key = judge.name.partition(".")[0]
    normal = NormalDist()
    reach = normal.inv_cdf((1 + _LEVEL) / 2)
    errors = []
    for walk in range(_WALKS):
        proposer, weights = RandomProposer(levers, seed=walk), list(start)
        for number in range(1, _STEPS + 1):
            for index, weight in proposer.propose(number, weights).items():
                weights[index] = weight
        panel = panel_of(matrix, spec, start, weights)
        found = uncertainty(panel, level=_LEVEL, replicates=_REPLICATES, metrics={key})
        gain = found.gain.get(judge.name)
        if gain is not None and gain.low is not None and gain.high is not None:
            errors.append((gain.high - gain.low) / 2 / reach)
    if not errors:
        return None
    shrunk = math.sqrt(matrix.accounts / accounts)
    return (reach + normal.inv_cdf(POWER)) * median(errors) * shrunk


#: Loss of a segment that is too large. Where a candidate is better everywhere by a little, chance
#: gives as much in 5 of 100 segments of 50 accounts, in 1 of 100 of a hundred, in none of two
#: hundred (AUC, resampled from the health_score example).
DEFAULT_SEGMENT_DROP = 0.05
#: Copied accounts up to this share of all narrow an interval by no more than 3 %.
COPIES_SHARE = 0.05
#: How the gates of segments are called, before ``COLUMN=VALUE``.
_SEGMENT = "segment "


class Verdict(StrEnum):
    """What comes of it."""

    READY = "READY_FOR_REVIEW"
    #: The gain is proven and no gate failed, but one could not be measured.
    UNVERIFIED = "UNVERIFIED"
    KEEP = "KEEP_INCUMBENT"


@dataclass(frozen=True)
class Gates:
    """What a candidate must pass, stated before anybody looks.

    Parameters
    ----------
    min_gain
        Least gain of the objective, as an improvement; its interval must lie above 0 besides.
    max_moved
        Largest share of accounts that may change tier, in [0, 1]; None for any.
    segments
        Columns whose every value is a segment that must not get worse.
    max_segment_drop
        Largest loss of the objective in a segment, measured, whether chance may give it or not;
        where the incumbent's value there is above 1, a share of that value. A loss that is proven
        is too large in any case. None for `DEFAULT_SEGMENT_DROP`.
    keep
        Columns that may be features though they seem to know the outcome.
    """

    min_gain: float = 0.0
    max_moved: float | None = None
    segments: tuple[str, ...] = ()
    max_segment_drop: float | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = []
        if not self.min_gain >= 0:
            wrong.append(f"the least gain must be 0 or more, got {self.min_gain}")
        if self.max_moved is not None and not 0 <= self.max_moved <= 1:
            wrong.append(f"the share that may move must be in [0, 1], got {self.max_moved}")
        if not self.segment_drop >= 0:
            wrong.append(
                f"the largest drop of a segment must be 0 or more, got {self.max_segment_drop}"
            )
        if wrong:
            raise UsageError("; ".join(wrong))

    @property
    def segment_drop(self) -> float:
        """`max_segment_drop`, or what holds where none is stated."""
        return DEFAULT_SEGMENT_DROP if self.max_segment_drop is None else self.max_segment_drop

    def asking(self, columns: Sequence[str]) -> Gates:
        """Return these gates with segments of a spec, where they have none of their own.

        Raises
        ------
        UsageError
            If a largest drop is stated, and there is no segment that it could be of.
        """
        segments = self.segments or tuple(columns)
        if self.max_segment_drop is not None and not segments:
            raise UsageError(
                f"a largest drop of {self.max_segment_drop:g} is stated, but no segment is asked",
                hint="--segment COLUMN, or segments: [COLUMN] in the spec",
            )
        return replace(self, segments=segments)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "max_segment_drop": self.segment_drop}


@dataclass(frozen=True)
class Gate:
    """One gate and what became of it.

    Parameters
    ----------
    name
        `change`, `gain`, `movement`, `guardrails`, `leakage`, `copies`, or
        ``segment COLUMN=VALUE``.
    limit
        What was asked, in words.
    found
        What was measured, in words.
    passed
        None where the accounts are too few to say; that is no pass.
    mrr_share
        A segment's share of the MRR at the start; None of other gates, and without MRR.
    """

    name: str
    limit: str
    found: str
    passed: bool | None
    mrr_share: float | None = None

    @property
    def outcome(self) -> str:
        """Return `passed`, `failed` or `unknown`."""
        return {True: "passed", False: "failed", None: "unknown"}[self.passed]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "name": self.name,
            "limit": self.limit,
            "found": self.found,
            "outcome": self.outcome,
            "mrr_share": self.mrr_share,
        }


def gain_of(panel: Panel, judge: Judge, *, level: float) -> Interval | None:
    """Return the objective's gain as an improvement, None where it has no interval of any kind."""
    return _objective(panel, judge, level)[1]


def _objective(panel: Panel, judge: Judge, level: float) -> tuple[float, Interval | None]:
    """Return the incumbent's objective, 0 where it has none, and the gain as an improvement."""
    found = uncertainty(panel, level=level, metrics={judge.name.partition(".")[0]})
    before, gain = found.before.get(judge.name), found.gain.get(judge.name)
    value = (before.value if before else None) or 0.0
    return value, gain if gain is None or judge.sign > 0 else gain.negated()


def judged(
    panel: Panel,
    judge: Judge,
    gates: Gates,
    *,
    level: float,
    changed: bool,
    moved: float,
    breaches: Sequence[str],
    segments: Mapping[str, Panel | None],
    leaking: Sequence[str] = (),
    repeated: int = 0,
    basis: str | None = None,
) -> tuple[Gate, ...]:
    """Hold a candidate against the gates.

    Parameters
    ----------
    panel
        Untouched accounts, scored by incumbent and candidate.
    judge
        The objective and guardrails.
    gates
        What was stated.
    level
        Of the intervals.
    changed
        Whether the candidate differs from the incumbent at all.
    moved
        Share of the accounts that change tier, each score by its own edges.
    breaches
        Guardrails that the candidate breaks on these accounts.
    segments
        Panel by ``COLUMN=VALUE``; None where none of its accounts is among the untouched.
    leaking
        Features that tell the outcome.
    repeated
        How many of the untouched accounts repeat another one.
    basis
        Of revenue retention on these accounts.
    """
    name = marked(judge.name, basis)
    if not changed:
        return (
            Gate(
                "change",
                "the candidate differs from the incumbent",
                "nothing better than the incumbent was found",
                passed=False,
            ),
        )
    found = [_gain_gate(gain_of(panel, judge, level=level), name, gates.min_gain, level)]
    if gates.max_moved is not None:
        found.append(
            Gate(
                "movement",
                f"at most {gates.max_moved:.1%} of accounts change tier",
                f"{moved:.1%} do",
                passed=moved <= gates.max_moved,
            )
        )
    if judge.limits or judge.comparisons:
        found.append(
            Gate(
                "guardrails",
                "the candidate breaks none of the spec's",
                "; ".join(breaches) or "none is broken",
                passed=not breaches,
            )
        )
    leaking = [name for name in leaking if name not in gates.keep]
    if leaking:
        # What the outcome tells can't be measured by it: neither a gain nor the lack of one.
        text = f"unknown: {', '.join(leaking)}; --keep says that it was known beforehand"
        found.append(Gate("leakage", "no feature seems to know the outcome", text, passed=None))
    if repeated > COPIES_SHARE * panel.accounts:
        text = f"unknown: {repeated:,} of {panel.accounts:,} repeat another one"
        limit = f"at most {COPIES_SHARE:.0%} of the accounts are copies, so that intervals hold"
        found.append(Gate("copies", limit, text, passed=None))
    for segment, part in segments.items():
        gate = _segment_gate(segment, part, panel, judge, gates.segment_drop, level)
        found.append(replace(gate, limit=gate.limit.replace(judge.name, name, 1)))
    return tuple(found)


def verdict_of(gates: Sequence[Gate]) -> Verdict:
    """Return READY where the gain is proven and every gate passed.

    One that failed is enough for KEEP; one that could not be measured makes it UNVERIFIED.
    """
    proven = any(gate.name == "gain" and gate.passed for gate in gates)
    if not proven or any(gate.passed is False for gate in gates):
        return Verdict.KEEP
    return Verdict.UNVERIFIED if any(gate.passed is None for gate in gates) else Verdict.READY


def segment_safety(gates: Iterable[Mapping[str, Any]]) -> str:
    """Say what is known of the segments, from gates as `Gate.as_json` gives them.

    Examples
    --------
    >>> segment_safety([{"name": "gain", "outcome": "passed"}])
    'not asked'
    >>> segment_safety([{"name": "segment plan=pro", "outcome": "unknown"}])
    'unknown in plan=pro'
    """
    by_outcome: dict[str, list[str]] = {"failed": [], "unknown": [], "passed": []}
    for gate in gates:
        if gate["name"] == "change":
            return "not measured, nothing would change"
        if gate["name"].startswith(_SEGMENT):
            share = gate.get("mrr_share")
            of_all = "" if share is None else f" ({share:.0%} of the MRR)"
            by_outcome[gate["outcome"]].append(gate["name"].removeprefix(_SEGMENT) + of_all)
    said = [f"{outcome} in {', '.join(names)}" for outcome, names in by_outcome.items() if names]
    return "; ".join(said) or "not asked"


def _gain_gate(gain: Interval | None, name: str, least: float, level: float) -> Gate:
    limit = f"{name} gets better, its {level:.1%} interval above 0"
    if least:
        limit += f", by {least:g} or more"
    if gain is None or gain.value is None or gain.low is None:
        reason = "the metric has none" if gain is None else gain.reason
        return Gate("gain", limit, f"no interval: {reason}", passed=False)
    found = f"{gain.value:+.4f}, from {gain.low:+.4f} to {gain.high:+.4f}"
    return Gate("gain", limit, found, passed=gain.above_zero and gain.value >= least)


def _segment_gate(
    name: str, part: Panel | None, panel: Panel, judge: Judge, most: float, level: float
) -> Gate:
    """Ask whether a segment is proven worse, or loses more than it may."""
    before, gain = (0.0, None) if part is None else _objective(part, judge, level)
    allowed = most * max(1.0, abs(before))
    limit = f"{judge.name} is not proven worse, and falls by {allowed:.4g} at most"
    value = None if gain is None else gain.value
    lost = value is not None and value < -allowed
    count = 0 if part is None else part.accounts
    size = f"{count:,} account{'' if count == 1 else 's'}"
    measured = "" if value is None else f", measured {value:+.4f}"
    passed: bool | None = None
    if part is None:
        found = "unknown: it has accounts in the table searched, and none among these"
    elif count < SMALLEST_SEGMENT:
        found = f"unknown: {size}, {SMALLEST_SEGMENT} needed{measured}"
    elif gain is None or gain.low is None or not np.isfinite(gain.low):
        reason = "the metric has no interval" if gain is None else gain.reason
        found = f"{'' if lost else 'unknown: '}{reason}, {size}{measured}"
        passed = False if lost else None
    else:
        found = f"{gain.value:+.4f}, from {gain.low:+.4f} to {gain.high:+.4f}, {size}"
        passed = not (gain.below_zero or lost)
    return Gate(f"{_SEGMENT}{name}", limit, found, passed, _mrr_share(part, panel))


def _mrr_share(part: Panel | None, panel: Panel) -> float | None:
    """Return a segment's share of the MRR at the start; None where there is none."""
    if part is None or part.start is None or panel.start is None or not panel.start.sum() > 0:
        return None
    return float(part.start.sum() / panel.start.sum())
