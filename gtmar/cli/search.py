"""Commands that search: demo, run, resume, replay, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtmar.cli import completion
from gtmar.cli import options as a
from gtmar.cli.error_boundary import bounded
from gtmar.cli.options import app

__all__ = ["bench", "demo", "replay", "resume", "run"]


@app.command(epilog="Example: gtmar demo")
@bounded
def demo(
    folder: Annotated[Path, typer.Option(help="Where to put table, specs and journal.")] = Path(
        "gtmar-demo"
    ),
    force: a.Force = False,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Generate a table, search it, review the run: the whole way in a few seconds."""
    from gtmar.cli import demo as demonstration

    demonstration.show(folder, force=force, as_json=as_json, quiet=quiet)


@app.command(epilog="Example: gtmar run --data accounts.parquet --spec spec.yaml -o best.yaml")
@bounded
@a.takes_tables
def run(
    data: a.Data,
    spec: a.OptionalSpec = None,
    metric: a.Metric = None,
    n: Annotated[int, typer.Option("--n", help="Experiments to evaluate.")] = 2000,
    seed: Annotated[int, typer.Option(help="Same seed, same experiments.")] = 0,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many experiments without a win.")
    ] = None,
    time_budget: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    holdout: Annotated[
        str | None, typer.Option(help="Share that the search never sees, or none.")
    ] = None,
    holdout_file: a.HoldoutTable = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the best spec.")
    ] = None,
    force: a.Force = False,
    author: a.Author = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    proposer: Annotated[
        str | None,
        typer.Option(help="learned (default) or random.", autocompletion=completion.proposers),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="What to try first: spec, or logistic for fitted weights.",
            autocompletion=completion.starts,
        ),
    ] = "spec",
    cold: Annotated[
        bool, typer.Option("--cold", help="Learn nothing from earlier runs in the journal.")
    ] = False,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    holdout_as_of: a.HoldoutAsOf = None,
    drop_unlabelled: a.DropUnlabelled = False,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    memory: a.Memory = None,
    engine: a.EngineKind = "local",
    address: a.Address = None,
    shards: a.Shards = None,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Search for better weights: change, measure, keep or revert, journal everything."""
    from gtmar import runs
    from gtmar.cli import files, progress, run_text
    from gtmar.cli.output import complain
    from gtmar.journal.events import clock_note, dated_ahead

    new = files.output(output_path, data, spec, holdout_file, journal, force=force)
    clock = clock_note(dated_ahead(journal))
    if clock:
        complain("note", f"{clock}. Name this run where the latest is meant.")
    with progress.watching(quiet=quiet or as_json) as watch:
        result = runs.run(
            data,
            spec,
            metric=metric,
            limits=runs.Limits(n, patience, time_budget),
            seed=seed,
            journal=journal,
            holdout=files.share(holdout),
            holdout_file=holdout_file,
            as_of=as_of,
            date_format=date_format,
            holdout_as_of=holdout_as_of,
            drop_unlabelled=drop_unlabelled,
            set_aside=set_aside,
            set_aside_to=set_aside_to,
            author=author,
            note=note,
            proposer=proposer or runs.DEFAULT_PROPOSER,
            start=start,
            cold=cold,
            engine=files.engine(engine, memory=memory, address=address, shards=shards),
            announce=None if quiet else progress.announce,
            watch=watch,
        )
    if new is not None:
        files.write_best(new, result)
    run_text.run(result, written=str(output_path) if output_path else None, as_json=as_json)
    if result.state == "interrupted":
        raise typer.Exit(130)


@app.command(epilog="Example: gtmar resume r20260101-120000-abc123")
@bounded
@a.takes_tables
def resume(
    run_id: a.Run,
    data: a.MovedData = None,
    holdout_file: a.MovedHoldout = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the best spec.")
    ] = None,
    force: a.Force = False,
    memory: a.Memory = None,
    engine: a.EngineKind = "local",
    address: a.Address = None,
    shards: a.Shards = None,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Go on with a run that was cut off; it ends as the uninterrupted run would have."""
    from gtmar import runs
    from gtmar.cli import files, run_text
    from gtmar.cli.progress import watching
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    read = (data, holdout_file, *files.recorded(journal, run_id))
    new = files.output(output_path, *read, force=force)
    with watching(quiet=quiet or as_json) as watch:
        result = runs.resume(
            run_id,
            journal=journal,
            data=data,
            holdout_file=holdout_file,
            engine=files.engine(engine, memory=memory, address=address, shards=shards),
            watch=watch,
        )
    if new is not None:
        files.write_best(new, result)
    run_text.run(result, written=str(output_path) if output_path else None, as_json=as_json)
    if result.state == "interrupted":
        raise typer.Exit(130)


@app.command(epilog="Example: gtmar replay r20260101-120000-abc123")
@bounded
@a.takes_tables
def replay(
    run_id: a.OptionalRun = None,
    data: a.MovedData = None,
    holdout_file: a.MovedHoldout = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Do a run again and say whether every value is the same."""
    from gtmar import runs
    from gtmar.cli import run_text
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    found = runs.replay(run_id, journal=journal, data=data, holdout_file=holdout_file)
    run_text.replayed(found, as_json=as_json)
    if not found.identical:
        raise typer.Exit(5)


@app.command(epilog="Example: gtmar bench --accounts 100000 --n 500")
@bounded
@a.takes_tables
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
    as_json: a.Json = False,
) -> None:
    """Time searches on this machine, and say where an experiment's time goes."""
    from gtmar import runs
    from gtmar.cli import run_text
    from gtmar.cli.demo import example_spec
    from gtmar.data import synthetic

    table = synthetic.generate("health_score", accounts=accounts) if data is None else data
    found = runs.bench(
        table, spec or example_spec("health_score"), experiments=n, rounds=rounds, threads=threads
    )
    run_text.pace(found, given=data is not None, as_json=as_json)
