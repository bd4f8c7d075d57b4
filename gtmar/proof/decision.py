"""Whether a candidate is put forward in the incumbent's place: gates stated beforehand, all named.

A decision is a value, not an error. It puts nothing live; a person does that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.errors import UsageError
from gtmar.evaluate.guard import SMALLEST_SEGMENT
from gtmar.proof.uncertainty import uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gtmar.objective import Judge
    from gtmar.proof.interval import Interval
    from gtmar.proof.panel import Panel

__all__ = ["Gate", "Gates", "Verdict", "gain_of", "judged", "verdict_of"]


class Verdict(StrEnum):
    """What comes of it."""

    READY = "READY_FOR_REVIEW"
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
        Columns whose every value is a segment that must not be proven worse.
    """

    min_gain: float = 0.0
    max_moved: float | None = None
    segments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = []
        if not self.min_gain >= 0:
            wrong.append(f"the least gain must be 0 or more, got {self.min_gain}")
        if self.max_moved is not None and not 0 <= self.max_moved <= 1:
            wrong.append(f"the share that may move must be in [0, 1], got {self.max_moved}")
        if wrong:
            raise UsageError("; ".join(wrong))

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Gate:
    """One gate and what became of it.

    Parameters
    ----------
    name
        `change`, `gain`, `movement`, `guardrails`, or ``segment COLUMN=VALUE``.
    limit
        What was asked, in words.
    found
        What was measured, in words.
    passed
        None where the accounts are too few to say; that is no pass.
    """

    name: str
    limit: str
    found: str
    passed: bool | None

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
        }


def gain_of(panel: Panel, judge: Judge, *, level: float) -> Interval | None:
    """Return the objective's gain as an improvement, None where it has no interval of any kind."""
    key = judge.name.partition(".")[0]
    gain = uncertainty(panel, level=level, metrics={key}).gain.get(judge.name)
    return gain if gain is None or judge.sign > 0 else gain.negated()


def judged(
    panel: Panel,
    judge: Judge,
    gates: Gates,
    *,
    level: float,
    changed: bool,
    breaches: Sequence[str],
    segments: Mapping[str, Panel | None],
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
    breaches
        Guardrails that the candidate breaks on these accounts.
    segments
        Panel by ``COLUMN=VALUE``; None where none of its accounts is among the untouched.
    """
    if not changed:
        return (
            Gate(
                "change",
                "the candidate differs from the incumbent",
                "nothing better than the incumbent was found",
                passed=False,
            ),
        )
    found = [_gain_gate(gain_of(panel, judge, level=level), judge.name, gates.min_gain, level)]
    moved = float((panel.before.tiers != panel.after.tiers).mean())
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
    for name, part in segments.items():
        gain = None if part is None else gain_of(part, judge, level=level)
        found.append(_segment_gate(name, part, gain, judge.name))
    return tuple(found)


def verdict_of(gates: Sequence[Gate]) -> Verdict:
    """Return READY where no gate failed and the gain itself is proven."""
    proven = any(gate.name == "gain" and gate.passed for gate in gates)
    failed = any(gate.passed is False for gate in gates)
    return Verdict.READY if proven and not failed else Verdict.KEEP


def _gain_gate(gain: Interval | None, name: str, least: float, level: float) -> Gate:
    limit = f"{name} gets better, its {level:.1%} interval above 0"
    if least:
        limit += f", by {least:g} or more"
    if gain is None or gain.value is None or gain.low is None:
        reason = "the metric has none" if gain is None else gain.reason
        return Gate("gain", limit, f"no interval: {reason}", passed=False)
    found = f"{gain.value:+.4f}, from {gain.low:+.4f} to {gain.high:+.4f}"
    return Gate("gain", limit, found, passed=gain.above_zero and gain.value >= least)


def _segment_gate(name: str, part: Panel | None, gain: Interval | None, objective: str) -> Gate:
    limit = f"{objective} is not proven worse"
    if part is not None and part.accounts < SMALLEST_SEGMENT:
        few = f"unknown: {part.accounts:,} accounts, {SMALLEST_SEGMENT} needed"
        return Gate(f"segment {name}", limit, few, passed=None)
    if gain is None or gain.low is None or not np.isfinite(gain.low):
        reason = "none of its accounts is among them" if gain is None else gain.reason
        return Gate(f"segment {name}", limit, f"unknown: {reason}", passed=None)
    found = (
        f"{gain.value:+.4f}, from {gain.low:+.4f} to {gain.high:+.4f}, {gain.accounts:,} accounts"
    )
    return Gate(f"segment {name}", limit, found, passed=not gain.below_zero)
