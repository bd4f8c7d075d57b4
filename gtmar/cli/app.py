"""The commands. Each translates its arguments, makes one call, and hands the result to `output`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gtmar import __version__
from gtmar.cli.boundary import bounded

__all__ = ["app", "main"]

app = typer.Typer(
    name="gtmar",
    help="Finds better weights for account scores, and keeps a journal of every experiment.",
    epilog="First steps: gtmar demo. With your own table: gtmar init --data accounts.parquet",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
spec_app = typer.Typer(help="The spec's JSON Schema, and what a spec says.", no_args_is_help=True)
app.add_typer(spec_app, name="spec", rich_help_panel=None)

Data = Annotated[
    str,
    typer.Option("--data", help="Account table: a file, a folder or a glob.", show_default=False),
]
SpecPath = Annotated[Path, typer.Option("--spec", help="Scoring spec.", show_default=False)]
OptionalSpec = Annotated[
    Path | None, typer.Option("--spec", help="Scoring spec; none: detect one.")
]
JournalPath = Annotated[
    Path,
    typer.Option("--journal", envvar="GTMAR_JOURNAL", help="The journal's folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="Date that days_before counts from.")]
Metric = Annotated[str | None, typer.Option("--metric", help="Objective; none: the spec's.")]
DropUnlabelled = Annotated[
    bool, typer.Option("--drop-unlabelled", help="Leave accounts without any outcome out.")
]
DEFAULT_JOURNAL = Path("journal")


def main() -> None:
    """Run the command line."""
    app()


def _version(value: bool) -> None:
    if value:
        typer.echo(f"gtmar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: gtmar demo")
@bounded
def demo(
    folder: Annotated[Path, typer.Option(help="Where to put table, specs and journal.")] = Path(
        "gtmar-demo"
    ),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Generate a table, search it, review the run: the whole way in a few seconds."""
    from gtmar.cli import demonstration

    demonstration.show(folder, as_json=as_json, quiet=quiet)


@app.command(epilog="Example: gtmar generate health_score -o accounts.parquet")
@bounded
def generate(
    kind: Annotated[str, typer.Argument(help="health_score, churn_risk or icp_fit")],
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="Parquet, CSV or Arrow file.")
    ],
    accounts: Annotated[int | None, typer.Option(help="Number of accounts.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another table.")] = None,
    as_json: Json = False,
) -> None:
    """Generate an account table with planted signals."""
    from gtmar import runs, synthetic
    from gtmar.cli import output

    table = synthetic.generate(kind, accounts=accounts, seed=seed)
    path = runs.write_table(table, output_path)
    if as_json:
        output.data({"output": str(path), "accounts": table.height, "columns": table.columns})
    else:
        output.say(f"{table.height:,} accounts in {path}.")
        output.following(f"gtmar check --data {path}")


@app.command(epilog="Example: gtmar init --data accounts.parquet -o spec.yaml")
@bounded
def init(
    data: Data,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="New file; - for stdout.")
    ] = Path("spec.yaml"),
    outcome: Annotated[
        list[str] | None, typer.Option(help="Your name of an outcome: retained=renewed")
    ] = None,
    identifier: Annotated[str | None, typer.Option("--id", help="Column of account ids.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Share held out, or none.")] = None,
    as_json: Json = False,
) -> None:
    """Detect features and write a first spec, commented, to edit."""
    from gtmar.accounts.profile import first_spec
    from gtmar.accounts.scan import scan
    from gtmar.cli import files, output

    files.refuse_to_replace(output_path)
    found = first_spec(
        scan(data),
        holdout=files.share(holdout),
        outcomes=files.outcomes(outcome or []),
        identifier=identifier,
    )
    if str(output_path) == "-":
        typer.echo(found.text, nl=False)
        return
    files.write_text(output_path, found.text)
    if as_json:
        features = list(found.spec.features)
        output.data({"output": str(output_path), "features": features, "left_out": found.left_out})
    else:
        output.say(
            f"{len(found.spec.features)} features in {output_path}, {len(found.left_out)} columns "
            "left out; the file says why. Read it and edit it: it is yours."
        )
        output.following(f"gtmar run --data {data} --spec {output_path} -o best.yaml")


@app.command(epilog="Example: gtmar check --data accounts.parquet --spec spec.yaml")
@bounded
def check(
    data: Data,
    spec: OptionalSpec = None,
    metric: Metric = None,
    as_of: AsOf = None,
    drop_unlabelled: DropUnlabelled = False,
    as_json: Json = False,
) -> None:
    """Check a table and a spec before any search: every violation, every note."""
    from gtmar import runs
    from gtmar.cli import output

    found = runs.check(data, spec, metric=metric, as_of=as_of, drop_unlabelled=drop_unlabelled)
    output.check(found, as_json=as_json)


@app.command(epilog="Example: gtmar run --data accounts.parquet --spec spec.yaml -o best.yaml")
@bounded
def run(
    data: Data,
    spec: OptionalSpec = None,
    metric: Metric = None,
    n: Annotated[int, typer.Option("--n", help="Experiments to evaluate.")] = 2000,
    seed: Annotated[int, typer.Option(help="Same seed, same experiments.")] = 0,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many experiments without a win.")
    ] = None,
    time_budget: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    holdout: Annotated[
        str | None, typer.Option(help="Share that the search never sees, or none.")
    ] = None,
    journal: JournalPath = DEFAULT_JOURNAL,
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the best spec.")
    ] = None,
    author: Annotated[str | None, typer.Option(help="Who asks for this run.")] = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    as_of: AsOf = None,
    drop_unlabelled: DropUnlabelled = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for better weights: change, measure, keep or revert, journal everything."""
    from gtmar import runs
    from gtmar.cli import files, output
    from gtmar.cli.progress import watching

    if output_path is not None:
        files.refuse_to_replace(output_path)
    with watching(quiet=quiet or as_json) as watch:
        result = runs.run(
            data,
            spec,
            metric=metric,
            limits=runs.Limits(n, patience, time_budget),
            seed=seed,
            journal=journal,
            holdout=files.share(holdout),
            as_of=as_of,
            drop_unlabelled=drop_unlabelled,
            author=author,
            note=note,
            watch=watch,
        )
    if output_path is not None:
        files.write_best(output_path, result)
    output.run(result, written=str(output_path) if output_path else None, as_json=as_json)
    if result.state == "interrupted":
        raise typer.Exit(130)


@app.command(
    epilog="Example: gtmar score --data accounts.parquet --spec best.yaml -o scored.parquet"
)
@bounded
def score(
    data: Data,
    spec: SpecPath,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="Parquet, CSV or Arrow file.")
    ],
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Score a table: id, score, tier, and the points that add up to the score."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import output

    loaded = specs.load(spec)
    scored = runs.score(data, loaded, as_of=as_of)
    path = runs.write_table(scored, output_path)
    tiers = {t: int((scored["tier"] == t).sum()) for t in loaded.tier_names}
    if as_json:
        output.data({"output": str(path), "accounts": scored.height, "accounts_by_tier": tiers})
    else:
        listed = ", ".join(f"{name} {count:,}" for name, count in tiers.items())
        output.say(f"{scored.height:,} accounts scored into {path}. Tiers: {listed}.")


@app.command(epilog="Example: gtmar review r20260101-120000-abc123")
@bounded
def review(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="None: the latest.")] = None,
    journal: JournalPath = DEFAULT_JOURNAL,
    as_json: Json = False,
) -> None:
    """Say what a run found: verdict, wins, weights, tiers, what else moved."""
    from gtmar.cli import output
    from gtmar.journal import reading
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        output.review(reading.review(opened, run_id), journal=str(journal), as_json=as_json)


@app.command(epilog="Example: gtmar compare RUN OTHER")
@bounded
def compare(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    other: Annotated[str, typer.Argument(metavar="RUN")],
    journal: JournalPath = DEFAULT_JOURNAL,
    as_json: Json = False,
) -> None:
    """Put two runs over one table and objective side by side."""
    from gtmar.cli import output
    from gtmar.journal import reading
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        found = reading.compare(opened, run_id, other)
    output.comparison(found, journal=str(journal), as_json=as_json)


@app.command(epilog="Example: gtmar sql weights --set run=r20260101-120000-abc123")
@bounded
def sql(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE]", help="None: list the library.")
    ] = None,
    text: Annotated[str | None, typer.Option("-c", "--command", help="One SELECT.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter: run=r2026...")
    ] = None,
    journal: JournalPath = DEFAULT_JOURNAL,
    as_json: Json = False,
) -> None:
    """Ask the journal in SQL: a query of the library, a file, or one SELECT. Read only."""
    from gtmar.cli import files, output
    from gtmar.journal.catalog import Journal
    from gtmar.journal.library import library

    if name is None and text is None:
        output.listing(library(), as_json=as_json)
        return
    with Journal(journal) as opened:
        output.frame(files.ask(opened, name, text, settings or []), as_json=as_json)


@spec_app.command("schema", epilog="Example: gtmar spec schema > gtmar.schema.json")
@bounded
def spec_schema() -> None:
    """Print the JSON Schema that editors complete and check specs by."""
    from gtmar import spec as specs
    from gtmar.cli import output

    output.data(specs.json_schema())


@spec_app.command("show", epilog="Example: gtmar spec show spec.yaml")
@bounded
def spec_show(
    path: Annotated[Path, typer.Argument(help="The spec's file.")], as_json: Json = False
) -> None:
    """Print what a spec says, defaults left out, and its ids."""
    import json

    from gtmar import spec as specs
    from gtmar.cli import output

    spec = specs.load(path)
    ids = {"spec_id": specs.spec_id(spec), "score_id": specs.score_id(spec)}
    if as_json:
        output.data({**ids, "spec": json.loads(specs.to_json(spec))})
    else:
        heading = "\n".join(f"{key} {value}" for key, value in ids.items())
        typer.echo(specs.to_yaml(spec, heading=heading), nl=False)
