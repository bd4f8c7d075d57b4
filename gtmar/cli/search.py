"""Commands that search: demo, run, simplify, resume, replay, bench."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtmar.cli import option_values, progress
from gtmar.cli import options as a
from gtmar.cli.next_step import print_next, table_options_of
from gtmar.cli.options import app
from gtmar.cli.output import Answer, complain, for_programs, say, say_all, some, table
from gtmar.documents import is_spec_file
from gtmar.errors import UsageError
from gtmar.outputs import Output

if TYPE_CHECKING:
    import polars as pl

    from gtmar.runs import Pace, Replay, RunResult, Simplified

__all__ = ["bench", "demo", "example_spec", "replay", "resume", "run", "simplify"]


_BestSpec = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where to write the best spec.")
]


@a.command(app, "demo")
def demo(
    folder: Annotated[Path, typer.Option(help="Where to put table, specs and journal.")] = Path(
        "gtmar-demo"
    ),
    force: a.Force = False,
    quiet: a.Quiet = False,
) -> Answer:
    """Try everything on a generated table, in a few seconds."""
    from gtmar import runs
    from gtmar.cli.journal import print_review
    from gtmar.data import synthetic
    from gtmar.journal import review as reading

    table, guess, best = folder / "accounts.parquet", folder / "spec.yaml", folder / "best.yaml"
    accounts = synthetic.generate("health_score")
    example = example_spec("health_score").read_text("utf-8")
    _refuse_existing(folder, accounts, example, force=force)
    new = Output(best, (table, guess, folder / "journal"), force=force, parents=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise new.unwritable(err) from err
    if not table.exists():
        runs.write_table(accounts, table)
    if not guess.exists():
        Output(guess).write(example)
    if not for_programs():
        say(f"A table of 5,000 accounts: {table}")
        say(f"A health score as a team might have guessed it: {guess}")
        say("Searching for better weights ...")
        say()
    quiet = quiet or for_programs()
    with progress.watching(quiet=quiet) as watch:
        result = runs.run(
            table,
            guess,
            journal=folder / "journal",
            announce=None if quiet else progress.announce,
            watch=watch,
        )
    option_values.write_best(new, result)
    with option_values.open_journal(folder / "journal") as journal:
        result_review = reading.review(journal, result.run_id)

    def text() -> None:
        print_review(result_review, journal=str(folder / "journal"), best=str(best))
        say()
        say("With your own table: gtmar init --data YOUR_TABLE -o spec.yaml")

    return Answer(result_review.as_json, text)


@a.command(app, "run --data accounts.parquet --spec spec.yaml -o best.yaml")
def run(
    data: a.Data,
    spec: a.OptionalSpec = None,
    metric: a.Metric = None,
    no_worse: a.NoWorse = None,
    n: Annotated[int, typer.Option("--n", help="Experiments to evaluate.")] = 2000,
    seed: Annotated[int, typer.Option(help="Same seed, same experiments.")] = 0,
    patience: Annotated[
        int | None, typer.Option(help="Stop after this many experiments without a win.")
    ] = None,
    time_budget: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    holdout: Annotated[
        str | None, typer.Option(help="Share that the search never sees, or none.")
    ] = None,
    holdout_file: a.HoldoutTable = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: _BestSpec = None,
    force: a.Force = False,
    author: a.Author = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    proposer: Annotated[
        str | None,
        typer.Option(help="learned (default) or random.", autocompletion=a.complete_proposers),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="What to try first: spec, or logistic for fitted weights.",
            autocompletion=a.complete_starts,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Folds to ask whether a search pays; 0 searches in any case."),
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Learn nothing from earlier runs in the journal.")
    ] = False,
    *,
    tables: a.TwoTablesOptions,
    engine: a.EngineOptions,
    quiet: a.Quiet = False,
) -> Answer:
    """Search for better weights and journal every experiment."""
    from gtmar import runs
    from gtmar.journal.events import clock_note, dated_ahead

    new = option_values.output(output_path, data, spec, holdout_file, journal, force=force)
    clock = clock_note(dated_ahead(journal))
    if clock:
        complain("note", f"{clock}. Name this run where the latest is meant.")
    with progress.watching(quiet=quiet) as watch:
        result = runs.run(
            data,
            spec,
            metric=metric,
            no_worse=tuple(no_worse or ()),
            limits=runs.Limits(n, patience, time_budget),
            seed=seed,
            journal=journal,
            holdout=option_values.share(holdout),
            holdout_file=holdout_file,
            **tables,
            author=author,
            note=note,
            proposer=proposer or runs.DEFAULT_PROPOSER,
            start=start,
            folds=folds,
            cold=cold,
            engine=option_values.engine(**engine),
            announce=None if quiet else progress.announce,
            watch=watch,
        )
    return _answer(result, new)


@a.command(app, "simplify RUN -o simple.yaml")
def simplify(
    spec: a.ExperimentOrSpec,
    data: a.OptionalTable = None,
    features: Annotated[
        int | None,
        typer.Option(help="Features to keep; none: the fewest that do as well as all."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Experiments over what is left.")] = 2000,
    holdout_file: a.HoldoutTable = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: _BestSpec = None,
    force: a.Force = False,
    author: a.Author = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    *,
    tables: a.TwoTablesOptions,
    quiet: a.Quiet = False,
) -> Answer:
    """Leave out the features that a score can do without."""
    from gtmar import runs
    from gtmar.journal.files import RunFiles
    from gtmar.runs.session import tables_of

    read: list[Any] = [data, spec, holdout_file, journal]
    given: dict[str, Any] = {"data": data, "holdout_file": holdout_file, **tables}
    # Once the new search is on record, "latest" means another run.
    against = spec if is_spec_file(spec) else runs.run_or_experiment(spec, journal)
    # What `decide` is told of the tables; options of this command line are kept anyway.
    named: dict[str, object] | None = {}
    if data is None:
        if is_spec_file(spec):
            raise UsageError(
                f'"{spec}" doesn\'t say which accounts it is for', hint="--data accounts.parquet"
            )
        run_id = against.partition("/")[0]
        given |= tables_of(RunFiles(journal, run_id).record("start"))
        named = table_options_of(journal, run_id)
        read += option_values.recorded_tables(journal, run_id)
    new = option_values.output(output_path, *read, force=force)
    with progress.watching(quiet=quiet) as watch:
        simplified = runs.simplify(
            spec=runs.spec_of(spec, journal),
            most=features,
            limits=runs.Limits(n),
            journal=journal,
            author=author,
            note=note,
            announce=None if quiet else progress.announce,
            watch=watch,
            **given,
        )
    if new is not None and simplified.result is not None:
        option_values.write_best(new, simplified.result)
    written = None if new is None or simplified.result is None else str(new.path)
    return Answer(
        lambda: {**simplified.as_json(), "output": written},
        lambda: _print_simplified(simplified, against=against, tables=named, written=written),
        0 if simplified.dropped else 10,
    )


@a.command(app, "resume r20260101-120000-abc123")
def resume(
    run_id: a.Run,
    data: a.MovedData = None,
    holdout_file: a.MovedHoldout = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: _BestSpec = None,
    force: a.Force = False,
    *,
    engine: a.EngineOptions,
    quiet: a.Quiet = False,
) -> Answer:
    """Continue a run that was cut off. It ends as the uninterrupted run would have."""
    from gtmar import runs

    run_id = option_values.full_id(journal, run_id)
    read = (data, holdout_file, *option_values.recorded_tables(journal, run_id))
    new = option_values.output(output_path, *read, force=force)
    with progress.watching(quiet=quiet) as watch:
        result = runs.resume(
            run_id,
            journal=journal,
            data=data,
            holdout_file=holdout_file,
            engine=option_values.engine(**engine),
            watch=watch,
        )
    return _answer(result, new)


@a.command(app, "replay r20260101-120000-abc123")
def replay(
    run_id: a.OptionalRun = None,
    data: a.MovedData = None,
    holdout_file: a.MovedHoldout = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Repeat a run and say whether every value is the same."""
    from gtmar import runs

    run_id = option_values.full_id(journal, run_id)
    result = runs.replay(run_id, journal=journal, data=data, holdout_file=holdout_file)
    code = 0 if result.identical else 5
    return Answer(result.as_json, lambda: _print_replayed(result), code)


@a.command(app, "bench --accounts 100000 --n 500")
def bench(
    accounts: Annotated[
        int, typer.Option(help="Accounts of the generated table, unless --data names one.")
    ] = 5000,
    data: a.OptionalTable = None,
    spec: Annotated[
        Path | None, typer.Option(help="Scoring spec; none: the health_score example's.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Experiments of a round.")] = 2000,
    rounds: Annotated[int, typer.Option(help="Rounds; the best counts.")] = 5,
    threads: Annotated[int | None, typer.Option(help="Threads; none: one a core.")] = None,
) -> Answer:
    """Time searches on this machine. Says where an experiment's time goes."""
    from gtmar import runs
    from gtmar.data import synthetic

    source = synthetic.generate("health_score", accounts=accounts) if data is None else data
    pace = runs.bench(
        source, spec or example_spec("health_score"), experiments=n, rounds=rounds, threads=threads
    )
    return Answer(pace.as_json, lambda: _print_pace(pace, given=data is not None))


def _answer(result: RunResult, output: Output | None) -> Answer:
    """Write the best spec, if a file is given, and return the run's answer."""
    if output is not None:
        option_values.write_best(output, result)
    written = None if output is None else str(output.path)
    return Answer(
        lambda: {**result.as_json(), "output": written},
        lambda: _print_run(result, written=written),
        130 if result.state == "interrupted" else 0,
    )


def _print_run(result: RunResult, *, written: str | None) -> None:
    from gtmar.cli.journal import verdict_lines
    from gtmar.journal.sentences import verdict
    from gtmar.runs.results import warnings_of

    improved, held = result.improved, result.held
    say_all(*result.dates_held)
    sentences = verdict(result.row, improved=improved, held=held)
    sentences[1:1] = [result.resized] if result.resized else []
    verdict_lines(
        result.sentences,
        sentences,
        improved=improved,
        held=held,
        warnings=warnings_of(result.findings),
    )
    say_all(*(each["sentence"] for each in result.customers))
    say_all(None if result.search_pays is None else result.search_pays.sentence)
    if result.state != "finished":
        say(f"The run ended early: {_ENDED[result.state]}")
    say(
        f"Run {result.run_id}: {result.seconds:.1f} s, "
        f"{result.experiments_per_second:,.0f} experiments a second."
    )
    if written:
        say(f"Best spec: {written}")
    say()
    print_next("review", result.run_id, journal=result.journal)


def _print_simplified(
    simplified: Simplified,
    *,
    against: str,
    tables: dict[str, object] | None,
    written: str | None,
) -> None:
    """Print how many features suffice, the curve, and what the search over them found.

    `against` is the score with all features; `tables` are the options that name its tables, if any.
    """
    say(simplified.sentence, "good" if simplified.dropped else None)
    lines = [
        (
            s.features,
            s.auc,
            s.loss,
            s.error,
            s.next_out or "",
            "chosen" * (s.features == len(simplified.kept)),
        )
        for s in simplified.curve.sizes
    ]
    if lines[0][1] is not None:
        table(["features", "AUC", "below the best", "error", "goes next", ""], lines)
        say(simplified.unseen)
    if simplified.result is None:
        say("Nothing is left out, so there is no new search, and no spec is written.")
        return
    result, count = simplified.result, some(len(simplified.kept), "feature")
    verb = "comes" if len(simplified.kept) == 1 else "come"
    text = f"Searched anew, {count} {verb} to {result.metric} {result.best_value:.4f}"
    say(f"{text} on the accounts searched.")
    say_all(*result.dates_held)
    say(f"Run {result.run_id}")
    if written is not None:
        say(f"Best spec: {written}")
    say()
    if written is None or tables is None:
        print_next("review", result.run_id, journal=result.journal)
    else:
        print_next("decide", written, against=against, **tables, journal=result.journal)


_ENDED = {
    "patience": "no win for as long as --patience allows.",
    "time_budget": "the time budget was up.",
    "exhausted": "a thousand proposals in a row were known already; nothing near is left to try.",
    "interrupted": "interrupted; everything found so far is in the journal.",
}


def _print_replayed(replay: Replay) -> None:
    """Print whether a run came out the same."""
    count = replay.experiments
    all_are = "the one experiment is" if count == 1 else f"all {count:,} experiments are"
    again, d = f"Run {replay.run_id} again", replay.difference
    if replay.identical:
        say(f"{again}: {all_are} the same.", "good")
        say(f"Digest {replay.digest}")
    elif d and "column" in d:
        values = f"{d['then']} then, {d['now']} now"
        say(f"{again}: {d['experiment']} differs in {d['column']}: {values}.")
    else:
        say(f"{again}: not the same: {d or 'another digest'}.")
    if replay.evaluator_code_changed:
        say("Note: the evaluator's code has changed since, its version has not.")


def _print_pace(pace: Pace, *, given: bool) -> None:
    """Print how fast searches are; `given` says whether the table is the user's own."""
    each = 1e6 / pace.experiments_per_second
    stages = ", ".join(f"{stage} {share:.0%}" for stage, share in pace.spent.items())
    several = pace.rows > pace.accounts
    size = some(pace.accounts, "account") + (f", {some(pace.rows, 'row')}" if several else "")
    say(
        f"{pace.experiments_per_second:,.0f} experiments a second, all metrics journaled: "
        f"{size}, {some(pace.features, 'feature')}, "
        f"{some(pace.threads, 'thread')}, the best of {some(pace.rounds, 'round')}."
    )
    say(f"An experiment takes {each:,.0f} us: {stages}.")
    say(
        f"To read once what it must touch takes {pace.floor_microseconds:,.0f} us; "
        f"{pace.evaluated:.2f} candidates were evaluated for each experiment."
    )
    say(
        f"Loaded and encoded in {pace.load_seconds:.2f} s; "
        f"{pace.bytes_per_account:,.0f} bytes {'a row' if several else 'an account'} stay in "
        "memory."
    )
    if pace.peak_bytes is not None:
        say(f"Largest size of the process, libraries included: {pace.peak_bytes / 1e6:,.0f} MB.")
    print_next("run" if given else "demo")


def example_spec(kind: str) -> Path:
    """Return the spec of an example: `health_score`, `churn_risk`, `icp_fit`."""
    package = Path(__file__).parent.parent
    inside = package / "_examples"
    # An installed package has the examples inside; in a checkout they are beside it.
    return (inside if inside.is_dir() else package.parent / "examples") / kind / "spec.yaml"


def _refuse_existing(folder: Path, accounts: pl.DataFrame, example: str, *, force: bool) -> None:
    """Refuse a folder that has files under the demo's names, unless an earlier demo made them."""
    import polars as pl
    from polars.exceptions import PolarsError

    from gtmar.errors import culprits

    names = ("accounts.parquet", "spec.yaml", "best.yaml", "journal")
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not force:
        raise UsageError(
            f'"{folder}": {culprits(there)} of the demo\'s names is there already; it is kept',
            hint="gtmar demo --folder NEW, or --force to add a run to an earlier demo",
        )
    others = []
    for name in {"accounts.parquet", "spec.yaml"} & set(there):
        path = folder / name
        try:
            if name == "spec.yaml":
                own = path.read_text("utf-8") == example
            else:
                own = pl.read_parquet(path, glob=False).equals(accounts)
        except (OSError, ValueError, PolarsError):
            own = False
        if not own:
            others.append(name)
    if others:
        raise UsageError(
            f"\"{folder}\": {culprits(sorted(others))} isn't the demo's own, and is kept",
            hint="gtmar demo --folder NEW",
        )
