"""Commands over scores through time: walk, watch."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import option_values, progress
from gtmar.cli import options as a
from gtmar.cli.next_step import free_path, print_next
from gtmar.cli.options import app
from gtmar.cli.output import Answer, complain, say, some, table
from gtmar.errors import UsageError
from gtmar.plain_data import percent

if TYPE_CHECKING:
    from gtmar.outputs import Output
    from gtmar.runs import TimeToLeaving, Walked, Watched

__all__ = ["print_leaving", "walk", "watch"]

#: Exit codes by verdict, for the script of a timer.
_EXITS = {"holds": 0, "worse": 10, "unknown": 11}
#: Measured dates that are shown; --json has all.
_SHOWN = 12
_NewPage = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where to write it as an HTML page.")
]


@a.command(app, "walk --data accounts --spec spec.yaml")
def walk(
    data: a.Data,
    spec: a.SpecPath,
    score_column: Annotated[
        str | None, typer.Option(help="A column with the score that you have today.")
    ] = None,
    metric: a.Metric = None,
    n: Annotated[int, typer.Option("--n", help="Experiments on each date.")] = 2000,
    seed: Annotated[int, typer.Option(help="Same seed, same experiments.")] = 0,
    author: a.Author = None,
    *,
    table_options: a.OutcomeTableOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: _NewPage = None,
    force: a.Force = False,
    quiet: a.Quiet = False,
) -> Answer:
    """Say whether re-tuning on each date would have paid on the next."""
    from gtmar import runs
    from gtmar.report import walk_page

    new = _new_page(output_path, data, spec, journal, force=force)
    with progress.watching(quiet=quiet) as watching:
        walked = runs.walk(
            data,
            spec,
            score_column=score_column,
            metric=metric,
            limits=runs.Limits(n),
            seed=seed,
            author=author,
            journal=journal,
            announce=None if quiet else progress.announce,
            watch=watching,
            **table_options,
        )
    written = None if new is None else new.write(walk_page(walked, _again()).html)
    return Answer(
        lambda: walked.as_json() | {"output": written and str(written)},
        lambda: _print_walked(walked, journal=journal, written=written),
    )


def _new_page(path: Path | None, *inputs: object, force: bool) -> Output | None:
    """Check, before any work, that a page can be written, and that its extra is installed."""
    from gtmar.report import require_extra

    new = option_values.output(path, *inputs, force=force)
    if new is not None:
        require_extra()
    return new


def _again() -> str:
    """Return the running command as a line for a shell, with --force, to make the page anew."""
    words = ["gtmar", *sys.argv[1:]]
    return shlex.join(words if "--force" in words else [*words, "--force"])


#: Table heads for what re-tuning is compared with, see `runs.walk.OTHERS`.
_OTHERS = {"alone": "alone", "once": "tuned once", "logistic": "logistic", "column": "your score"}


def _print_walked(walked: Walked, *, journal: Path, written: Path | None) -> None:
    say(walked.sentence, {"pays": "good", "costs": "bad"}.get(walked.verdict))  # type: ignore[arg-type] # of the two
    say(
        f"{some(walked.accounts, 'account')} on {some(len(walked.steps), 'date')}; each is judged "
        "by weights that were searched on outcomes which were over before it."
    )
    others = [name for name in _OTHERS if name in walked.gains]
    rows = [
        [
            step.day.isoformat(),
            step.known[1].isoformat(),
            f"{step.accounts:,}",
            *(step.values.get(name) for name in ("retuned", *others)),
        ]
        for step in walked.steps
    ]
    heads = ["judged", "known to", "accounts", "re-tuned", *(_OTHERS[name] for name in others)]
    table(heads, rows, title=walked.objective)
    rows = []
    for name in others:
        gain = walked.gains[name]
        ends = ("" if end is None else f"{end:+.4f}" for end in (gain.value, gain.low, gain.high))
        caught = (walked.caught.get(side) for side in ("retuned", name))
        rows.append(
            [
                _OTHERS[name],
                *ends,
                f"{walked.wins(name)} of {len(walked.steps)}",
                *("" if share is None else percent(share) for share in caught),
            ]
        )
    heads = ["against", "gain", "from", "to", "better on", "caught", "by it"]
    table(heads, rows, title="Re-tuned less each, mean over dates, 95%; leavers in worst tier")
    for day, why in walked.left_out:
        say(f"Not judged: {day}, {why}.")
    if written is not None:
        say(f"Written: {written}. Open it in any browser; it needs nothing else.")
    print_next("review", walked.steps[-1].run_id, journal=journal)


@a.command(app, "watch --data accounts")
def watch(
    data: a.Data,
    model: Annotated[str | None, typer.Option(help="Which model, where several are live.")] = None,
    shadow: Annotated[
        list[Path] | None,
        typer.Option(help="A spec to measure beside what is live; up to three."),
    ] = None,
    grace: Annotated[
        int, typer.Option(min=0, help="Days after a window's end until outcomes count as known.")
    ] = 0,
    forget_before: Annotated[
        str | None, typer.Option(help="Remove kept scores of dates before this one.")
    ] = None,
    scores: Annotated[
        str, typer.Option(help="What keeps scores by date: a folder, a Delta or DuckDB table.")
    ] = "scores",
    *,
    table_options: a.OutcomeTableOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: _NewPage = None,
    force: a.Force = False,
) -> Answer:
    """Keep the live score of each date, and say how well it did so far."""
    from datetime import date

    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.report import live_page

    try:
        before = None if forget_before is None else date.fromisoformat(forget_before)
    except ValueError as err:
        raise UsageError(f"--forget-before expects YYYY-MM-DD, got {forget_before}") from err
    new = _new_page(output_path, data, scores, journal, *(shadow or ()), force=force)
    watched = runs.watch(
        data,
        model=model,
        shadows=[specs.load(path) for path in shadow or ()],
        grace=grace,
        forget_before=before,
        scores=scores,
        journal=journal,
        **table_options,
    )
    written = None if new is None else new.write(live_page(watched, _again()).html)
    return Answer(
        lambda: watched.as_json() | {"output": written and str(written)},
        lambda: _print_watched(watched, written=written),
        _EXITS[watched.verdict],
    )


def _print_watched(watched: Watched, *, written: Path | None) -> None:
    tone = {"holds": "good", "worse": "bad"}.get(watched.verdict)
    say(watched.sentence, tone)  # type: ignore[arg-type] # of the two above
    for day, role, accounts in watched.kept:
        say(f"Kept: scores of {some(accounts, 'account')} of {day}, {role}.")
    if not watched.kept:
        say("Nothing new to keep: the newest date is scored already.")
    shown = watched.measurements[-_SHOWN:]
    if shown:
        rows = []
        for each in shown:
            own = each.metrics.get(each.objective)
            ends = ["", ""] if own is None or own.low is None else [own.low, own.high]
            gain = each.gains.get("predecessor")
            rows.append(
                [
                    each.day.isoformat(),
                    f"{each.accounts:,}",
                    None if own is None else own.value,
                    *ends,
                    None if gain is None or gain.value is None else f"{gain.value:+.4f}",
                    each.verdict,
                ]
            )
        title = f"{shown[-1].objective} on the outcomes, 95% intervals"
        table(
            ["date", "accounts", "value", "from", "to", "vs before", "verdict"], rows, title=title
        )
    rows = [
        [row["days"], row["leavers"], percent(row["lowest"]), percent(row["others"]), row["median"]]
        for row in watched.before_leaving.to_dicts()
        if row["leavers"] and row["others"] is not None
    ]
    if rows:
        heads = ["days before", "leavers", "in the worst tier", "others in it", "median score"]
        table(heads, rows, title="Of those who left, what the score said before")
    for day, why in watched.waiting:
        say(f"Not yet: {day}, {why}.")
    if watched.forgotten:
        say(f"Forgotten: the scores of {some(watched.forgotten, 'date')}; what was measured stays.")
    for note in watched.notes:
        complain("note", note)
    if written is not None:
        say(f"Written: {written}. Open it in any browser; it needs nothing else.")
    if watched.verdict == "worse" and watched.live.experiment is not None:
        print_next("checkout", "live", output_path=free_path("live.yaml"))
    else:
        print_next("log")


def print_leaving(times: TimeToLeaving) -> None:
    """Print the share of each tier that is gone after some days, or why it isn't known."""
    rows = []
    for tier, each in times.of("tier").items():
        for days, leaving in each.items():
            gone = leaving.gone
            if gone.value is not None and gone.low is not None and gone.high is not None:
                ends = f"{percent(gone.low, 1)} to {percent(gone.high, 1)}"
                rows.append([tier, days, percent(gone.value, 1), ends, f"{leaving.accounts:,}"])
    first, last = times.dates
    if rows:
        title = f"gone after days, 95% intervals; followed from {first} to {last}"
        table(["tier", "days", "gone", "interval", "accounts"], rows, title=title)
    for days, reason in times.unknown.items():
        say(f"Not known: who is gone after {days} days, {reason}.")
