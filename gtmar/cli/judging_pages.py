"""What the results of judging commands look like, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.next_step import follow, unused
from gtmar.cli.output import data as print_json
from gtmar.cli.output import number, say, some, table
from gtmar.metrics.basis import marked

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.proof.interval import Interval
    from gtmar.runs import Backtest, Explanation

__all__ = ["backtest", "explanation"]

#: Features shown that could lead to the tier above.
_STEPS_SHOWN = 5
_SURPRISES_SHOWN = 5


def explanation(
    found: Explanation, *, spec: Path, versus: str | None, start: str | None, as_json: bool
) -> None:
    """Print a score line by line; `start` names what the spec's run began with, if it is known."""
    if as_json:
        print_json(found.as_json())
        return
    say(f"{found.account}: {found.model} {found.score:.2f}, tier {found.tier}.")
    if found.other_score is None:
        table(
            ["", "value", "weight", "points"],
            (
                (line.name, line.value or "", _weight(line.weight), f"{line.points:+.4f}")
                for line in found.lines
            ),
        )
        say(f"Sum of the points: {found.score:.2f}.")
    else:
        say(f"By {versus}: {found.other_score:.2f}, tier {found.other_tier}. What moved it:")
        table(
            ["", "value", "by the other", "points", "change"],
            (
                (
                    line.name,
                    line.value or "",
                    f"{line.other_points or 0:+.4f}",
                    f"{line.points:+.4f}",
                    f"{line.points - (line.other_points or 0):+.4f}",
                )
                for line in found.lines
            ),
        )
        say(f"Sum of the changes: {found.score - found.other_score:+.2f}.")
    if found.above is not None:
        say(f"{found.points_to_above:.2f} points to tier {found.above}.")
        rows = [
            (s.feature, f"{s.points:+.2f}", f"{s.possible:+.2f}", "yes" if s.reaches else "no")
            for s in found.up[:_STEPS_SHOWN]
        ]
        if rows:
            head = ["feature", "now", "best of any account", "enough by itself"]
            table(head, rows, title=f"What tier {found.above} would take")
    if found.below is not None:
        say(f"{found.points_to_below:.2f} points down, and it is in tier {found.below}.")
    say("Points say what goes with the outcome, not what causes it.")
    say()
    if versus is not None:
        follow("diff", versus, spec)
    elif start is not None:
        follow("explain", found.account, versus=start)
    else:
        follow("score", output_path=unused("scored.parquet"))


def backtest(found: Backtest, *, spec: Path | None, as_json: bool) -> None:
    """Print what a score was worth: a column's alone, or beside a spec's."""
    if as_json:
        print_json(found.as_json())
        return
    say(f"{found.name} on {some(found.accounts, 'account')} of {found.source}.")
    for note in found.notes:
        if note.startswith(("In-sample", "Leak", "The candidate may")):
            say(note, "warning")
    mark = " (binary)" if found.basis == "binary" else ""
    by_tier = found.metrics
    columns = {
        "accounts": "accounts_by_tier",
        "logos kept": "logo_retention_by_tier",
        f"NRR{mark}": "nrr_by_tier",
        f"GRR{mark}": "grr_by_tier",
        "ARPA": "arpa_by_tier",
    }
    shown = {head: key for head, key in columns.items() if any(by_tier[key].values())}
    table(
        ["tier", "from", *shown],
        (
            (tier, f"{edge:g}", *(by_tier[key][tier] for key in shown.values()))
            for tier, edge in zip(found.tiers, found.edges, strict=True)
        ),
        title="Tier and outcome",
    )
    before, after, gain = found.intervals.before, found.intervals.after, found.intervals.gain
    names = [name for name in before if "." not in name or name.endswith(".*")]
    heads = ["metric", found.name]
    rows = [[marked(name, found.basis), _worded(before[name])] for name in names]
    if found.candidate is not None:
        heads += [found.candidate, "gain"]
        names = [name for name in names if name in gain]
        rows = [
            [marked(n, found.basis), _worded(before[n]), _worded(after[n]), _worded(gain[n])]
            for n in names
        ]
    table(heads, rows, title=f"Metrics with {found.level:.1%} intervals")
    table(
        ["share of accounts", "MRR held by the best", "lost among the worst"],
        (
            [f"{share:.0%}", *("-" if v is None else f"{v:.1%}" for v in values)]
            for share, *values in found.curve
        ),
        title="Capture",
    )
    for frame, title in (
        (
            found.green_and_churned,
            f"In the best tier, and left: {found.green_and_churned.height:,}",
        ),
        (found.red_and_renewed, f"In the worst tier, and stayed: {found.red_and_renewed.height:,}"),
    ):
        if not frame.is_empty():
            table(frame.columns, frame.head(_SURPRISES_SHOWN).rows(), title=title)
    for note in found.notes:
        say(f"Note: {note}")
    say()
    if spec is None:
        follow("init", output_path=unused("spec.yaml"))
    else:
        follow("run", output_path=unused("best.yaml"))


def _worded(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{number(interval.value)} ({interval.reason})"
    return f"{number(interval.value)} ({number(interval.low)} to {number(interval.high)})"


def _weight(weight: int | None) -> str:
    return "" if weight is None else str(weight)
