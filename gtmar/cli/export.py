"""Commands that hand over: export sql, export dbt, export mlflow, journal publish."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gtmar.cli import options as a
from gtmar.cli.error_boundary import bounded
from gtmar.cli.options import app, export_app, journal_app

__all__ = ["export_dbt", "export_mlflow", "export_sql", "journal_publish", "report"]


_Dialect = Annotated[
    str,
    typer.Option(
        "--dialect",
        help="duckdb, postgres, snowflake, bigquery, databricks, spark, redshift or trino.",
    ),
]


@export_app.command("sql", epilog="Example: gtmar export sql --spec best.yaml --table crm.accounts")
@bounded
@a.takes_tables
def export_sql(
    spec: a.SpecPath,
    table: Annotated[str, typer.Option("--table", help="The table's name.", show_default=False)],
    dialect: _Dialect = "duckdb",
    as_of: a.AsOf = None,
    data: a.SpecTable = None,
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="New file; none: stdout.")
    ] = None,
    force: a.Force = False,
    as_json: a.Json = False,
) -> None:
    """Write a spec as one SELECT: id, score, tier, points, equal to gtmar score."""
    from gtmar import spec as specs
    from gtmar.cli import files, output
    from gtmar.errors import needing

    with needing("export"):
        from gtmar.integrations.sql import column_kinds, select

    path = None if files.printed(output_path) else output_path
    new = files.output(path, spec, data, force=force)
    loaded = specs.load(spec)
    kinds = column_kinds(files.schema_of(data)) if data else None
    text = select(loaded, table, dialect=dialect, as_of=as_of, kinds=kinds)
    if new is not None:
        new.write(f"{text};\n")
    if as_json:
        output.data({"dialect": dialect, "spec_id": specs.spec_id(loaded), "sql": text})
    elif new is None:
        output.text(f"{text};\n")
    else:
        output.say(f'"{loaded.model}" as one SELECT over {table} in {output_path} ({dialect}).')


@export_app.command(
    "dbt", epilog="Example: gtmar export dbt --spec best.yaml --relation accounts -o models"
)
@bounded
@a.takes_tables
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
    as_json: a.Json = False,
) -> None:
    """Write a spec as a dbt model with its tests."""
    from gtmar import spec as specs
    from gtmar.cli import files, output
    from gtmar.errors import needing

    with needing("export"):
        from gtmar.integrations.dbt import dbt_model
        from gtmar.integrations.sql import column_kinds
    from gtmar.outputs import Output, write_together
    from gtmar.runs.input_files import local_inputs

    inputs = local_inputs(spec, data)
    model = dbt_model(
        specs.load(spec),
        relation,
        dialect=dialect,
        name=name,
        as_of=as_of,
        kinds=column_kinds(files.schema_of(data)) if data else None,
    )
    written = write_together(
        {
            Output(folder / f"{model.name}.{kind}", inputs, force=force, parents=True): text
            for kind, text in (("sql", model.sql), ("yml", model.yml))
        }
    )
    if as_json:
        output.data({"model": model.name, "output": [str(path) for path in written]})
    else:
        output.say(f"Model {model.name} in {written[0]}, its tests in {written[1]}.")
        output.following(shlex.join(["dbt", "build", "--select", model.name]))


@export_app.command("mlflow", epilog="Example: gtmar export mlflow --store sqlite:///mlflow.db")
@bounded
@a.takes_tables
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
    as_json: a.Json = False,
) -> None:
    """Log a run to a local MLflow store: parameters, metrics, specs, page; each run once."""
    from gtmar import spec as specs
    from gtmar.cli import output
    from gtmar.errors import SpecError, UsageError, needing
    from gtmar.integrations.mlflow_tracking import log_run
    from gtmar.journal.catalog import Journal
    from gtmar.journal.history import checkout

    with needing("mlflow"), Journal(journal) as opened:
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
        found = log_run(opened, run, store, experiment=experiment, texts=texts)
    if as_json:
        output.data({**found.as_json(), "files": sorted(texts), "without": without})
        return
    if not found.new:
        output.say(f"Run {run} is in {store} already, as {found.mlflow_run_id}: nothing written.")
        return
    output.say(
        f"Run {run} in {store}, experiment {experiment}, as {found.mlflow_run_id}, "
        f"with {', '.join(sorted(texts)) or 'no file'}."
    )
    for reason in without:
        output.say(f"Left out: {reason}")
    output.say("To look at it, with all of MLflow installed:")
    output.following(shlex.join(["mlflow", "ui", "--backend-store-uri", store]))


@journal_app.command("publish", epilog="Example: gtmar journal publish --to delta:lake/gtmar")
@bounded
def journal_publish(
    target: Annotated[
        str,
        typer.Option("--to", help="delta:FOLDER or duckdb:///file.db.", show_default=False),
    ],
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Append runs and experiments to Delta or DuckDB tables, each run once."""
    from gtmar.cli import output
    from gtmar.integrations.lakehouse import publish
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        found = publish(opened, target)
    if as_json:
        output.data(found.as_json())
    else:
        output.say(
            f"{output.some(found.runs, 'run')} appended to {found.runs_table}, "
            f"{output.some(found.experiments, 'experiment')} to {found.experiments_table}."
        )
        if found.waiting:
            output.say(f"{output.some(found.waiting, 'run')} not ended yet, left for later.")


@app.command(epilog="Example: gtmar report r20260101-120000-abc123 -o report.html")
@bounded
@a.takes_tables
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
    as_json: a.Json = False,
) -> None:
    """Write what a run found, or the journal's history, as one HTML page to look at."""
    from gtmar import report as reports
    from gtmar.cli import files, run_text
    from gtmar.errors import UsageError
    from gtmar.journal.catalog import Journal
    from gtmar.outputs import Output
    from gtmar.runs.input_files import local_inputs

    if history and (run_id or data):
        raise UsageError("--history is about all runs: it takes no RUN and no --data")
    with Journal(journal) as opened:
        read = [journal] if history else files.recorded(journal, opened.run_id(run_id))
        new = Output(output_path, local_inputs(data, *read), force=force)
        if history:
            page = reports.history_page(opened, most=most)
        else:
            page = reports.run_page(opened, run_id, data=data)
    new.write(page.html)
    run_text.reported(page, written=output_path, journal=str(journal), as_json=as_json)
