"""What the results of judging commands look like, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.history_text import WHY
from gtmar.cli.next_step import elsewhere, follow, unused
from gtmar.cli.output import data, number, say, some, table
from gtmar.cli.output import data as print_json
from gtmar.metrics.metric import marked
from gtmar.validation.repeated_search import CHANCE

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.runs import Backtest, Decided, Explanation, FoundStability, NullSearch
    from gtmar.stats.interval import Interval

__all__ = ["backtest", "decision", "explanation", "null", "stability"]


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


#: As many searches on noise can have a p-value that says more than chance.
_ENOUGH = 20


def null(found: NullSearch, *, journal: Path, as_json: bool) -> None:
    """Print a run's gain beside those of the same search on noise."""
    if as_json:
        data(found.as_json())
        return
    searches = len(found.gains)
    as_much = sum(gain >= found.found for gain in found.gains)
    say(
        f"Run {found.run_id}: {found.objective} got better by {found.found:.4f} on the accounts "
        "searched."
    )
    say(
        f"The same search of {found.experiments:,} experiments on shuffled outcomes, "
        f"{some(searches, 'time')}: half of them gained {found.typical:.4f} or more, 1 in 20 "
        f"{found.high:.4f} or more."
    )
    say(
        f"{as_much:,} of them gained as much as the run: p = (1 + {as_much}) / (1 + {searches}) = "
        f"{found.p_value:.3f}."
    )
    few = as_much == 0 and found.p_value > CHANCE
    if few:
        say(f"So few searches can't say less than {found.p_value:.3f}: {_ENOUGH} or more can.")
    elif found.p_value > CHANCE:
        say("Noise gives as much: on these accounts the gain proves nothing.")
    say()
    if few:
        follow("null", found.run_id, searches=50, journal=elsewhere(journal))
    else:
        follow("stability", found.run_id, journal=elsewhere(journal))


def stability(found: FoundStability, *, journal: Path, as_json: bool) -> None:
    """Print what other accounts of the same kind would make of each weight."""
    if as_json:
        data(found.as_json())
        return
    say(
        f"Run {found.run_id}: its search of {found.experiments:,} experiments, on "
        f"{found.searches:,} resamples of the accounts searched."
    )
    table(
        ["weight", "start", "found", "2.5 %", "median", "97.5 %", "sign held", ""],
        (
            (
                w.name,
                w.start,
                w.found,
                f"{w.low:.0f}",
                f"{w.middle:.0f}",
                f"{w.high:.0f}",
                f"{w.sign_held:.0%}",
                w.reading,
            )
            for w in found.weights
        ),
    )
    noise = [w.name for w in found.weights if w.reading == "noise"]
    if noise:
        say(
            f"Noise, for all that these accounts can say: {', '.join(noise)}. Whether such a "
            "weight is for or against an account changes with the accounts drawn."
        )
    say()
    follow("review", found.run_id, journal=elsewhere(journal))


def decision(found: Decided, *, journal: Path, as_json: bool) -> None:
    """Print a verdict with every reason."""
    if as_json:
        data(found.as_json())
        return
    say(str(found.verdict))
    for sentence in found.headline:
        say(sentence, "warning" if sentence != found.headline[-1] else None)
    say(
        f"{found.experiment} against its start, on {some(found.accounts, 'account')} of "
        f"{found.source} that the search never saw."
    )
    if found.looks > 1:
        say(
            f"Comparison number {found.looks} on them: intervals at {found.level:.2%}. Each look "
            "makes them less unseen."
        )
    table(
        ["gate", "stated beforehand", "measured", ""],
        ((gate.name, gate.limit, gate.found, gate.outcome) for gate in found.gates),
    )
    for note in found.notes:
        say(f"Note: {note}")
    if found.folder:
        say(f"All of it: {found.folder}. The folder holds customer data.")
    say()
    if found.verdict == "READY_FOR_REVIEW":
        follow("promote", found.experiment, note=WHY, journal=elsewhere(journal))
    else:
        follow("review", found.run_id, journal=elsewhere(journal))
