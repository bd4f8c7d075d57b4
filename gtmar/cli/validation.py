"""Commands that ask whether a found score holds: null, stability, segments, decide, refresh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtmar.cli import options as a
from gtmar.cli.error_boundary import bounded
from gtmar.cli.options import app

__all__ = ["backtest", "decide", "explain", "null", "refresh", "segments", "stability"]


#: As `proof.decision` has it, which is imported when it is needed alone.
DEFAULT_SEGMENT_DROP = 0.05
Searches = Annotated[int, typer.Option("--runs", help="Searches to do.")]
MinGain = Annotated[float, typer.Option(help="Least gain of the objective.")]
MaxMoved = Annotated[
    float | None, typer.Option(help="Largest share of accounts that may change tier.")
]
Segments = Annotated[
    list[str] | None, typer.Option("--segment", help="Column whose values must not get worse.")
]
MaxDrop = Annotated[float, typer.Option(help="Largest loss of the objective in a segment.")]
Kept = Annotated[
    list[str] | None, typer.Option("--keep", help="Column that seems to know the outcome, and may.")
]
NewFolder = Annotated[Path | None, typer.Option("-o", "--output", help="New folder for it all.")]
Note = Annotated[str | None, typer.Option(help="Why.")]
#: Exit codes of the decisions that put nothing forward, which are no errors.
_CODES = {"KEEP_INCUMBENT": 10, "UNVERIFIED": 11}
Seed = Annotated[int, typer.Option(help="Same seed, same draws.")]


@app.command(epilog="Example: gtmar null --runs 50")
@bounded
@a.takes_tables
def null(
    run_id: a.OptionalRun = None,
    searches: Searches = 50,
    data: a.MovedData = None,
    seed: Seed = 0,
    author: a.Author = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Say how much gain noise gives. It does a run's search again on shuffled outcomes."""
    from gtmar import runs
    from gtmar.cli import progress, validation_text
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    found = runs.null_search(
        run_id,
        journal=journal,
        data=data,
        searches=searches,
        seed=seed,
        author=author,
        watch=progress.counting(quiet=quiet or as_json),
    )
    validation_text.null(found, journal=journal, as_json=as_json)


@app.command(epilog="Example: gtmar stability --runs 50")
@bounded
@a.takes_tables
def stability(
    run_id: a.OptionalRun = None,
    searches: Searches = 50,
    data: a.MovedData = None,
    seed: Seed = 0,
    author: a.Author = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Say which weights hold and which are noise. It does a run's search again on resamples."""
    from gtmar import runs
    from gtmar.cli import progress, validation_text
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    found = runs.stability(
        run_id,
        journal=journal,
        data=data,
        searches=searches,
        seed=seed,
        author=author,
        watch=progress.counting(quiet=quiet or as_json),
    )
    validation_text.stability(found, journal=journal, as_json=as_json)


@app.command(epilog="Example: gtmar segments RUN --segment plan")
@bounded
@a.takes_tables
def segments(
    run_id: a.OptionalRun = None,
    data: a.MovedData = None,
    columns: Annotated[
        list[str] | None, typer.Option("--segment", help="Column whose values are looked at apart.")
    ] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Say what a run's best does to each segment."""
    from gtmar import runs
    from gtmar.cli import check_text
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    found = runs.by_segment(run_id, journal=journal, data=data, columns=tuple(columns or ()))
    check_text.by_segment(found, as_json=as_json)


@app.command(epilog="Example: gtmar decide RUN -o decision")
@bounded
@a.takes_tables
def decide(
    run_id: a.OptionalRun = None,
    data: a.MovedData = None,
    holdout_file: a.MovedHoldout = None,
    min_gain: MinGain = 0.0,
    max_moved: MaxMoved = None,
    segments: Segments = None,
    max_segment_drop: MaxDrop = DEFAULT_SEGMENT_DROP,
    keep: Kept = None,
    output_path: NewFolder = None,
    author: a.Author = None,
    note: Note = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Decide on a run's best, on the accounts it never saw."""
    from gtmar import runs
    from gtmar.cli import validation_text
    from gtmar.journal.catalog import Journal
    from gtmar.validation.gates import Gates

    gates = Gates(min_gain, max_moved, tuple(segments or ()), max_segment_drop, tuple(keep or ()))
    with Journal(journal) as opened:
        run_id = opened.run_id(run_id)
    found = runs.decide(
        run_id,
        journal=journal,
        data=data,
        holdout_file=holdout_file,
        gates=gates,
        folder=output_path,
        author=author,
        note=note,
    )
    validation_text.decision(found, journal=journal, as_json=as_json)
    if code := _CODES.get(found.verdict):
        raise typer.Exit(code)


@app.command(epilog="Example: gtmar refresh --train q1.parquet --holdout q2.parquet --spec s.yaml")
@bounded
@a.takes_tables
def refresh(
    train: a.TrainTable,
    holdout: a.LaterTable,
    spec: a.SpecPath,
    metric: a.Metric = None,
    n: Annotated[int, typer.Option("--n", help="Experiments to evaluate.")] = 2000,
    seed: Seed = 0,
    min_gain: MinGain = 0.0,
    max_moved: MaxMoved = None,
    segments: Segments = None,
    max_segment_drop: MaxDrop = DEFAULT_SEGMENT_DROP,
    keep: Kept = None,
    output_path: NewFolder = None,
    as_of: a.AsOf = None,
    holdout_as_of: a.HoldoutAsOf = None,
    drop_unlabelled: a.DropUnlabelled = False,
    author: a.Author = None,
    note: Note = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
    quiet: a.Quiet = False,
) -> None:
    """Search one table and decide on a later one, in one go."""
    from gtmar import runs
    from gtmar.cli import progress, validation_text
    from gtmar.validation.gates import Gates

    gates = Gates(min_gain, max_moved, tuple(segments or ()), max_segment_drop, tuple(keep or ()))
    with progress.watching(quiet=quiet or as_json) as watch:
        found = runs.refresh(
            train,
            holdout,
            spec,
            metric=metric,
            limits=runs.Limits(n),
            seed=seed,
            gates=gates,
            folder=output_path,
            as_of=as_of,
            holdout_as_of=holdout_as_of,
            drop_unlabelled=drop_unlabelled,
            author=author,
            note=note,
            journal=journal,
            watch=watch,
        )
    validation_text.decision(found, journal=journal, as_json=as_json)
    if code := _CODES.get(found.verdict):
        raise typer.Exit(code)


@app.command(epilog="Example: gtmar explain acct-00042 --data accounts.parquet --spec best.yaml")
@bounded
@a.takes_tables
def explain(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its id, or its row from 1.")],
    data: a.Data,
    spec: a.SpecPath,
    versus: Annotated[
        str | None, typer.Option("--vs", help="Another spec, or an experiment: RUN/EXP.")
    ] = None,
    as_of: a.AsOf = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Take one account's score apart. Points add up; what the next tier would take."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import files, validation_text

    other = None if versus is None else files.spec_of(versus, journal)
    loaded = specs.load(spec)
    found = runs.explain(account, data, loaded, other=other, as_of=as_of)
    run = None if loaded.lineage is None else loaded.lineage.run
    known = run is not None and (journal / "runs" / f"run_id={run}" / "start.parquet").is_file()
    start = f"{run}/start" if known else None
    validation_text.explanation(found, spec=spec, versus=versus, start=start, as_json=as_json)


@app.command(epilog="Example: gtmar backtest --data accounts.parquet --score-column current_health")
@bounded
@a.takes_tables
def backtest(
    data: a.Data,
    score_column: Annotated[str | None, typer.Option(help="Column with today's score.")] = None,
    tiers: Annotated[
        str | None, typer.Option(help="Lower edges of today's tiers: A=80,B=60,C=0")
    ] = None,
    orientation: Annotated[str | None, typer.Option(help="health or risk, of the column.")] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", help="Spec to judge, or beside the column.")
    ] = None,
    as_of: a.AsOf = None,
    drop_unlabelled: a.DropUnlabelled = False,
    drop_unscored: Annotated[
        bool, typer.Option("--drop-unscored", help="Leave accounts without a score today out.")
    ] = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Judge today's score by what became of its accounts."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import files, validation_text

    found = runs.backtest(
        data,
        score_column=score_column,
        spec=None if spec is None else specs.load(spec),
        tiers=None if tiers is None else files.edges(tiers),
        orientation=orientation,
        journal=journal,
        as_of=as_of,
        drop_unlabelled=drop_unlabelled,
        drop_unscored=drop_unscored,
    )
    validation_text.backtest(found, spec=spec, as_json=as_json)
