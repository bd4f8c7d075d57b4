"""Commands that write for other systems: export sql, dbt and mlflow, journal publish, report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import option_values, output
from gtmar.cli import options as a
from gtmar.cli.next_step import free_path, print_next
from gtmar.cli.options import app, export_app, journal_app
from gtmar.cli.output import Answer, say, say_all, some
from gtmar.errors import SpecError, UsageError, needing
from gtmar.outputs import Output, write_together

if TYPE_CHECKING:
    from gtmar.report import Page

__all__ = ["export_dbt", "export_mlflow", "export_sql", "journal_publish", "report"]


_Dialect = Annotated[
    str,
    typer.Option(
        "--dialect",
        help="duckdb, postgres, snowflake, bigquery, databricks, spark, redshift or trino.",
    ),
]


@a.command(export_app, "export sql --spec best.yaml --table crm.accounts")
def export_sql(
    spec: a.SpecPath,
    table: Annotated[str, typer.Option("--table", help="The table's name.", show_default=False)],
    dialect: _Dialect = "duckdb",
    as_of: a.AsOf = None,
    data: a.SpecTable = None,
    by: Annotated[
        Path | None, typer.Option("--by", help="Another spec, for the cells of a grid of both.")
    ] = None,
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="New file; none: stdout.")
    ] = None,
    force: a.Force = False,
) -> Answer:
    """Write a spec as one SELECT: id, score, tier, points, equal to gtmar score."""
    from gtmar import spec as specs
    from gtmar.integrations.sql import column_kinds, select, select_grid
    from gtmar.runs.tiers import named_apart, refuse_unlike

    new = option_values.output_or_print(output_path, spec, data, force=force)
    loaded = specs.load(spec)
    kinds = column_kinds(option_values.schema_of(data)) if data else None
    if by is None:
        text = select(loaded, table, dialect=dialect, as_of=as_of, kinds=kinds)
    else:
        loaded, other = named_apart(loaded, specs.load(by), (spec, by))
        refuse_unlike(loaded, other)
        text = select_grid(loaded, other, table, dialect=dialect, as_of=as_of, kinds=kinds)
    if new is not None:
        new.write(f"{text};\n")

    def print_text() -> None:
        if new is None:
            output.text(f"{text};\n")
        else:
            say(f'"{loaded.model}" as one SELECT over {table} in {output_path} ({dialect}).')

    return Answer(
        lambda: {"dialect": dialect, "spec_id": specs.spec_id(loaded), "sql": text}, print_text
    )


@a.command(export_app, "export dbt --spec best.yaml --relation accounts -o models")
def export_dbt(
    spec: a.SpecPath,
    relation: Annotated[
        str,
        typer.Option(help="A model, accounts, or a source, crm.accounts.", show_default=False),
    ],
    folder: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of models.", show_default=False)
    ],
    name: Annotated[str | None, typer.Option(help="The model's name; none: the spec's.")] = None,
    dialect: _Dialect = "duckdb",
    as_of: a.AsOf = None,
    data: a.SpecTable = None,
    force: a.Force = False,
) -> Answer:
    """Write a spec as a dbt model with its tests."""
    from gtmar import spec as specs
    from gtmar.integrations.dbt import dbt_model
    from gtmar.integrations.sql import column_kinds
    from gtmar.runs.inputs import local_inputs

    inputs = local_inputs(spec, data)
    model = dbt_model(
        specs.load(spec),
        relation,
        dialect=dialect,
        name=name,
        as_of=as_of,
        kinds=column_kinds(option_values.schema_of(data)) if data else None,
    )
    written = write_together(
        {
            Output(folder / f"{model.name}.{kind}", inputs, force=force, parents=True): text
            for kind, text in (("sql", model.sql), ("yml", model.yml))
        }
    )

    def text() -> None:
        say(f"Model {model.name} in {written[0]}, its tests in {written[1]}.")
        output.print_command(shlex.join(["dbt", "build", "--select", model.name]))

    return Answer(lambda: {"model": model.name, "output": [str(path) for path in written]}, text)


@a.command(export_app, "export mlflow --store sqlite:///mlflow.db")
def export_mlflow(
    run_id: a.OptionalRun = None,
    store: Annotated[
        str, typer.Option("--store", help="MLflow's store: sqlite:///FILE.")
    ] = "sqlite:///mlflow.db",
    experiment: Annotated[
        str, typer.Option("--experiment", help="MLflow's experiment; made where there is none.")
    ] = "gtmar",
    data: a.MovedData = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Log a run to a local MLflow store: parameters, metrics, specs, page; each run once."""
    from gtmar import spec as specs
    from gtmar.integrations.mlflow_tracking import log_run
    from gtmar.journal.lookup import checkout

    with needing("mlflow"), option_values.open_journal(journal) as opened:
        run = opened.run_id(run_id)
        texts, without = {}, []
        try:
            for name, which in (("start.yaml", f"{run}/0"), ("best.yaml", run)):
                texts[name] = specs.to_yaml(checkout(opened, which))
        except SpecError as err:
            without.append(str(err))
        try:
            from gtmar.report import run_page

            texts["report.html"] = run_page(opened, run, data=data).html
        except UsageError as err:
            without.append(str(err))
        logged = log_run(opened, run, store, experiment=experiment, texts=texts)

    def text() -> None:
        if not logged.new:
            say(f"Run {run} is in {store} already, as {logged.mlflow_run_id}: nothing written.")
            return
        say(
            f"Run {run} in {store}, experiment {experiment}, as {logged.mlflow_run_id}, "
            f"with {', '.join(sorted(texts)) or 'no file'}."
        )
        say_all(*(f"Left out: {reason}" for reason in without))
        say("To look at it, with all of MLflow installed:")
        output.print_command(shlex.join(["mlflow", "ui", "--backend-store-uri", store]))

    return Answer(lambda: {**logged.as_json(), "files": sorted(texts), "without": without}, text)


@a.command(journal_app, "journal publish --to delta:lake/gtmar")
def journal_publish(
    target: Annotated[
        str,
        typer.Option("--to", help="delta:FOLDER or duckdb:///file.db.", show_default=False),
    ],
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Append runs, experiments, events to Delta or DuckDB tables, each once."""
    from gtmar.integrations.lakehouse import publish

    with option_values.open_journal(journal) as opened:
        published = publish(opened, target)

    def text() -> None:
        say(
            f"{some(published.runs, 'run')} appended to {published.runs_table}, "
            f"{some(published.experiments, 'experiment')} to {published.experiments_table}, "
            f"{some(published.events, 'event')} to {published.events_table}."
        )
        if published.waiting:
            say(f"{some(published.waiting, 'run')} not ended yet, left for later.")

    return Answer(published.as_json, text)


@a.command(app, "report r20260101-120000-abc123 -o report.html")
def report(
    run_id: a.OptionalRun = None,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write the page.")
    ] = Path("report.html"),
    history: Annotated[
        bool, typer.Option("--history", help="All runs and changes, instead of one run.")
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="Entries of a history.")] = 200,
    force: a.Force = False,
    data: a.MovedData = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Write what a run found, or the history, as one HTML page."""
    from gtmar import report as reports
    from gtmar.runs.inputs import local_inputs

    if history and (run_id or data):
        raise UsageError("--history is about all runs: it takes no RUN and no --data")
    with option_values.open_journal(journal) as opened:
        read = (
            [journal] if history else option_values.recorded_tables(journal, opened.run_id(run_id))
        )
        new = Output(output_path, local_inputs(data, *read), force=force)
        if history:
            page = reports.history_page(opened, most=most)
        else:
            page = reports.run_page(opened, run_id, data=data)
    new.write(page.html)
    return Answer(
        lambda: {
            "output": str(output_path),
            "run_id": page.run_id,
            "title": page.title,
            "bytes": len(page.html.encode()),
            "left_out": list(page.left_out),
        },
        lambda: _print_reported(page, written=output_path, journal=str(journal)),
    )


def _print_reported(page: Page, *, written: Path, journal: str) -> None:
    say(f"{page.title}: {written}. Open it in any browser; it needs nothing else.")
    say_all(*(f"Left out, {reason}" for reason in page.left_out))
    whole = page.run_id is None
    print_next(
        "report",
        history=not whole,
        output_path=free_path("report.html" if whole else "history.html"),
        journal=journal,
        **dict.fromkeys(("data", "at_version", "query", "other")),
    )
