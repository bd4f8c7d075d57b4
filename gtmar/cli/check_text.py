"""What a check of a table looks like, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.next_step import follow, unused
from gtmar.cli.output import data, number, say, some, table
from gtmar.metrics.metric import BINARY, basis_note

if TYPE_CHECKING:
    from gtmar.runs import Checkup, Drift
    from gtmar.runs.segments import BySegment, SegmentPart
    from gtmar.stats.interval import Interval
    from gtmar.validation.psi import Shift

__all__ = ["by_segment", "check", "drift"]


def check(found: Checkup, *, scorecard: bool, as_json: bool) -> None:
    """Print what a table offers; a scorecard is best searched from fitted weights."""
    if as_json:
        data(found.as_json())
        return
    by = "features detected" if found.detected else f"spec {found.model}"
    say(f"{found.source} keeps the data contract ({by}, {some(found.features, 'feature')}).")
    left_out = f", {found.dropped:,} without an outcome left out" if found.dropped else ""
    say(
        f"{found.accounts:,} accounts{left_out}: {found.search_accounts:,} to search, "
        f"{found.holdout_accounts:,} held out."
    )
    cohorts = ", ".join(f"{count:,} {name}" for name, count in found.cohorts.items() if count)
    say(f"Cohorts: {cohorts}.")
    basis = {"observed": "start and end MRR are there", "binary": "MRR is assumed flat", None: None}
    if found.basis:
        say(f"Revenue retention: {found.basis} ({basis[found.basis]}).")
    table(
        ["metric, search part, all tiers", "value", ""],
        (
            (name, value, found.reasons.get(name, ""))
            for name, value in found.metrics.items()
            if not name.startswith(("share_clipped", "score_"))
        ),
    )
    _leaks(found)
    _drift(found)
    for note in found.notes:
        say(f"Note: {note}")
    if found.objective_value is None:
        say(f"Objective {found.objective} has no value here: choose another with --metric.")
        return
    say(f"Objective {found.objective}: {found.objective_value:.4f} at the start.")
    deciding = found.holdout_accounts or found.search_accounts
    if found.smallest_gain is None:
        say(
            f"{some(deciding, 'account')} can't prove a gain of it: too few, or it has no interval."
        )
    else:
        say(
            f"Smallest gain that {some(deciding, 'account')} would prove four times in five: about "
            f"{found.smallest_gain:.2g}."
        )
    fitted = scorecard and found.cohorts["retained"] and found.cohorts["lost"]
    start = "logistic" if fitted else None
    follow("run", start=start, output_path=unused("best.yaml"))


def _leaks(found: Checkup) -> None:
    """Print what was found of leakage, each with why and what to do."""
    if not found.leaks:
        say("Leakage: nothing suspicious in the columns read.")
        return
    errors = sum(leak.grade == "error" for leak in found.leaks)
    say(f"Leakage: {some(errors, 'error')}, {some(len(found.leaks) - errors, 'warning')}.")
    for leak in found.leaks:
        bad = leak.grade == "error"
        left = " (left out)" if bad and leak.column not in found.leaking else ""
        say(
            f'{leak.grade}: column "{leak.column}"{left}: {leak.found}.',
            "bad" if bad else "warning",
        )
        say(f"  Why: {leak.why}.")
        say(f"  Do: {leak.advice}.")


def _drift(found: Checkup) -> None:
    """Say whether the holdout is spread as the search part is."""
    moved = [each for each in found.drift if each.reading in ("moderate", "large")]
    if moved:
        listed = ", ".join(f"{each.name} ({each.index:.2f}, {each.reading})" for each in moved)
        say(f"Drift between search part and holdout, by stability index: {listed}.", "warning")
    elif found.drift:
        say("Drift between search part and holdout: none beyond what chance gives.")


def drift(found: Drift, *, as_json: bool) -> None:
    """Print what moved, the largest first."""
    if as_json:
        data(found.as_json())
        return
    say(
        f"{found.model}: {some(found.accounts, 'account')} of {found.source} against "
        f"{found.accounts_before:,} of {found.against}."
    )
    ordered = sorted(found.shifts, key=lambda each: -each.index)
    table(
        ["feature", "index", "by chance below", "reading", "most in", "then", "now"],
        (
            (
                each.name,
                f"{each.index:.3f}",
                f"{each.chance:.3f}",
                str(each.reading),
                *_most(each),
            )
            for each in ordered
        ),
        title="Population stability",
    )
    say("Stable below 0.1, moderate below 0.25, else large; unclear where chance gives as much.")
    if found.moved:
        names = ", ".join(each.name for each in found.moved)
        say(f"Moved: {names}. The spec was made on accounts that were spread otherwise.", "warning")
    else:
        say("Nothing moved by as much as 0.25.", "good")


def _most(shift: Shift) -> tuple[str, str, str]:
    """Return the bin that adds most, and its share then and now."""
    if not shift.index:
        return "", "", ""
    label, then, now = shift.bins[shift.most]
    before = sum(row[1] for row in shift.bins)
    after = sum(row[2] for row in shift.bins)
    return label, f"{then / before:.1%}", f"{now / after:.1%}"


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
