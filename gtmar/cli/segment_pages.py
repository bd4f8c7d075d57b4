"""What segments look like under a run's start and best, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.next_step import follow
from gtmar.cli.output import data, number, say, some, table
from gtmar.metrics.basis import BINARY, basis_note

if TYPE_CHECKING:
    from gtmar.proof.interval import Interval
    from gtmar.runs.segments import BySegment, SegmentPart

__all__ = ["by_segment"]

_HEADS = {"logo_retention": "logos kept", "nrr": "NRR", "grr": "GRR"}


def by_segment(found: BySegment, *, as_json: bool) -> None:
    """Print what a run's best does to each segment."""
    if as_json:
        data(found.as_json())
        return
    say(f"{found.experiment} against its start, by {', '.join(found.columns)}.")
    if note := basis_note(found.basis):
        say(note)
    for part in found.parts:
        _part(part, found)
    if len(found.parts) == 1:
        say("In-sample: the weights were chosen on these very accounts.")
    say()
    if len(found.parts) > 1:
        follow("decide", found.run_id, segments=found.columns)
    else:
        follow("review", found.run_id)


def _part(part: SegmentPart, found: BySegment) -> None:
    lines = part.lines
    total = sum(line.accounts for line in lines) // len(found.columns)
    say()
    say(f"On the {some(total, 'account')} {part.part}: {_said(part)}")
    known = [line for line in lines if line.start.value is not None]
    table(
        ["segment", "accounts", "", found.objective, "from", "to"],
        (
            (line.name, line.accounts, stage, *(_ends(interval, signed=stage == "change")))
            for line in known
            for stage, interval in (
                ("start", line.start),
                ("best", line.best),
                ("change", line.change),
            )
        ),
        title=f"The objective, with {part.level:.1%} intervals",
    )
    gaps = (part.gap_start, part.gap_best)
    if None not in gaps:
        say(f"Gap between the best and the worst segment: {number(gaps[0])} -> {number(gaps[1])}.")
    binary = " (binary)" if found.basis == BINARY else ""
    mark = {"logo_retention": "", "nrr": binary, "grr": binary}
    for key, head in _HEADS.items():
        if any(line.retention[key].value is not None for line in known):
            table(
                ["segment", "tier", "accounts", head, "from", "to"],
                (
                    (line.name, tier, interval.accounts, *_percents(interval))
                    for line in known
                    for tier, interval in (
                        ("all", line.retention[key]),
                        (f"{found.tier}, start", line.at_start[key]),
                        (f"{found.tier}, best", line.at_best[key]),
                    )
                ),
                title=f"{head[0].upper()}{head[1:]}{mark[key]}, of all and of tier {found.tier}",
            )


def _said(part: SegmentPart) -> str:
    """Put all segments in a sentence, the worse ones first."""
    words = []
    for reading in ("worse", "better", "no proven change"):
        names = [line.name for line in part.lines if line.reading == reading]
        if names:
            words.append(f"{reading} in {', '.join(names)}")
    silent = [f"{x.name} ({x.change.reason})" for x in part.lines if x.reading == "unknown"]
    if silent:
        words.append(f"unknown in {', '.join(silent)}")
    return f"{'; '.join(words)}."


def _ends(interval: Interval, *, signed: bool) -> tuple[str, str, str]:
    value, low, high = (
        f"{v:+.4f}" if signed and v is not None else number(v)
        for v in (interval.value, interval.low, interval.high)
    )
    return value, low, high


def _percents(interval: Interval) -> tuple[str, str, str]:
    value, low, high = (
        "-" if v is None else f"{v:.1%}" for v in (interval.value, interval.low, interval.high)
    )
    return value, low, high
