"""Commands that judge scores as they are: explain, backtest."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import app
from gtmar.cli.boundary import bounded

__all__ = ["backtest", "explain"]


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
    """Take one account's score apart: points that add up, and what the next tier would take."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import files, judging_pages

    other = None if versus is None else files.spec_of(versus, journal)
    loaded = specs.load(spec)
    found = runs.explain(account, data, loaded, other=other, as_of=as_of)
    run = None if loaded.lineage is None else loaded.lineage.run
    known = run is not None and (journal / "runs" / f"run_id={run}" / "start.parquet").is_file()
    start = f"{run}/start" if known else None
    judging_pages.explanation(found, spec=spec, versus=versus, start=start, as_json=as_json)


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
    """Judge the score that you have today by what became of its accounts."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import files, judging_pages

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
    judging_pages.backtest(found, spec=spec, as_json=as_json)
