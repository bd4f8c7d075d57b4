"""Commands over tables and specs: generate, init, check, drift, score, spec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import completion
from gtmar.cli import options as a
from gtmar.cli.error_boundary import bounded
from gtmar.cli.next_step import follow
from gtmar.cli.options import app, spec_app

if TYPE_CHECKING:
    from gtmar.data.rules import SetAside

__all__ = ["check", "drift", "generate", "init", "score", "spec_schema", "spec_show"]

Keep = Annotated[
    list[str] | None, typer.Option(help="Column that may be a feature though it seems to leak.")
]
#: Exit code where a feature tells the outcome, as for a table that breaks the contract.
_LEAKS = 3
#: A finding that is no error: what the spec was made on has moved.
_MOVED = 10


@app.command(epilog="Example: gtmar generate health_score -o accounts.parquet")
@bounded
def generate(
    kind: Annotated[
        str,
        typer.Argument(help="health_score, churn_risk or icp_fit", autocompletion=completion.kinds),
    ],
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="Parquet, CSV or Arrow file.")
    ],
    accounts: Annotated[int | None, typer.Option(help="Number of accounts.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another table.")] = None,
    spreadsheet_safe: a.SpreadsheetSafe = True,
    force: a.Force = False,
    as_json: a.Json = False,
) -> None:
    """Generate an account table with planted signals."""
    from gtmar import runs
    from gtmar.cli import output
    from gtmar.data import synthetic

    runs.refuse_table(output_path, force=force)
    table = synthetic.generate(kind, accounts=accounts, seed=seed)
    path = runs.write_table(table, output_path, force=force, spreadsheet_safe=spreadsheet_safe)
    if as_json:
        output.data({"output": str(path), "accounts": table.height, "columns": table.columns})
    else:
        output.say(f"{table.height:,} accounts in {path}.")
        follow("check", data=path)


@app.command(epilog="Example: gtmar init --data accounts.parquet -o spec.yaml")
@bounded
@a.takes_tables
def init(
    data: a.Data,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="New file; - for stdout.")
    ] = Path("spec.yaml"),
    outcome: Annotated[
        list[str] | None, typer.Option(help="Your name of an outcome: retained=renewed")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="What a word of a label counts: churned:Lapsed=1")
    ] = None,
    identifier: Annotated[str | None, typer.Option("--id", help="Column of account ids.")] = None,
    date_format: a.DateFormat = None,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    keep: Keep = None,
    holdout: Annotated[str | None, typer.Option(help="Share held out, or none.")] = None,
    bins: Annotated[
        bool, typer.Option("--bins", help="A scorecard: a weight for each bin of a feature.")
    ] = False,
    parse: a.Parse = None,
    nulls: a.Nulls = None,
    no_null_markers: a.NoNullMarkers = False,
    force: a.Force = False,
    as_json: a.Json = False,
) -> None:
    """Detect features and write a first spec, commented, to edit."""
    from gtmar import runs
    from gtmar.autospec.first_spec import first_spec
    from gtmar.cli import files, output
    from gtmar.data.scan import scan

    path = None if files.printed(output_path) else output_path
    new = files.output(path, data, force=force)
    found = first_spec(
        scan(data),
        holdout=files.share(holdout),
        outcomes=files.outcomes(outcome or []),
        identifier=identifier,
        labels=files.labels(label or []),
        date_format=date_format,
        set_aside=set_aside,
        keep=keep or (),
        bins=bins,
        reading=files.reading(parse, nulls, usual=not no_null_markers),
    )
    aside = runs.write_rows_aside([found.set_aside], set_aside_to)
    if new is None:
        output.text(found.text)
        return
    new.write(found.text)
    if as_json:
        features = list(found.spec.features)
        output.data(
            {
                "output": str(output_path),
                "features": features,
                "left_out": found.left_out,
                "id": found.spec.id,
                "outcomes": found.outcomes,
                "labels": found.spec.labels,
                "objective": found.spec.objective,
                "notes": list(found.notes),
            }
        )
    else:
        output.say(
            f"{len(found.spec.features)} features in {output_path}, {len(found.left_out)} columns "
            "left out; the file says why. Read it and edit it: it is yours."
        )
        for sentence in (*found.taken, *aside[1:]):
            output.say(sentence)
        for note in found.notes:
            output.complain("note", note)
        follow("check", spec=output_path)


@app.command(epilog="Example: gtmar check --data accounts.parquet --spec spec.yaml")
@bounded
@a.takes_tables
def check(
    data: a.Data,
    spec: a.OptionalSpec = None,
    metric: a.Metric = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    drop_unlabelled: a.DropUnlabelled = False,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    keep: Keep = None,
    parse: a.Parse = None,
    nulls: a.Nulls = None,
    no_null_markers: a.NoNullMarkers = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Check a table and a spec before any search: every violation, leakage, every note."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import check_text, files
    from gtmar.errors import ViolationsError

    try:
        found = runs.check(
            data,
            spec,
            metric=metric,
            as_of=as_of,
            date_format=date_format,
            drop_unlabelled=drop_unlabelled,
            set_aside=set_aside,
            set_aside_to=set_aside_to,
            keep=keep or (),
            reading=files.reading(parse, nulls, usual=not no_null_markers),
            journal=journal,
        )
    except ViolationsError as err:
        err.hint = files.aside_hint(err)
        raise
    loaded = None if spec is None else specs.load(spec)
    scorecard = loaded is not None and any(term.bin is not None for term in loaded.terms)
    check_text.check(found, scorecard=scorecard, as_json=as_json)
    if found.leaking:
        raise typer.Exit(_LEAKS)


@app.command(epilog="Example: gtmar drift --data july.parquet --spec best.yaml")
@bounded
@a.takes_tables
def drift(
    data: a.Data,
    spec: a.SpecPath,
    against: a.Against = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    against_as_of: Annotated[str | None, typer.Option(help="The same for --against.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Say whether a table's features, and the score, are spread as they were."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import check_text

    found = runs.drift(
        data,
        specs.reading_dates(specs.load(spec), date_format),
        against=against,
        journal=journal,
        as_of=as_of,
        against_as_of=against_as_of,
    )
    check_text.drift(found, as_json=as_json)
    if found.moved:
        raise typer.Exit(_MOVED)


@app.command(
    epilog="Example: gtmar score --data accounts.parquet --spec best.yaml -o scored.parquet"
)
@bounded
@a.takes_tables
def score(
    data: a.Data,
    spec: a.SpecPath,
    output_path: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="Parquet, CSV or Arrow file; delta:FOLDER; duckdb:///file.db?table=NAME.",
            show_default=False,
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option("--changed-since", help="Earlier scores: only what moved, with the reason."),
    ] = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    spreadsheet_safe: a.SpreadsheetSafe = True,
    force: a.Force = False,
    as_json: a.Json = False,
) -> None:
    """Score a table: id, score, tier, and the points that add up to the score."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.cli import output
    from gtmar.runs.input_files import local_inputs

    inputs = local_inputs(data, spec, since)
    runs.refuse_table(output_path, inputs=inputs, force=force)
    loaded = specs.reading_dates(specs.load(spec), date_format)
    notes: list[str] = []
    sides: list[SetAside] = []
    scored = runs.score(
        data, loaded, as_of=as_of, announce=notes.append, set_aside=set_aside, asides=sides
    )
    for note in notes:
        output.complain("note", note)
    if since is not None:
        scored = runs.changed_since(since, scored, loaded)
    aside = runs.write_rows_aside(sides, set_aside_to)
    path = runs.write_table(
        scored, output_path, inputs=inputs, force=force, spreadsheet_safe=spreadsheet_safe
    )
    tiers = {t: int((scored["tier"] == t).sum()) for t in loaded.tier_names}
    if as_json:
        counts = {"accounts": scored.height, "accounts_by_tier": tiers}
        rows_aside = {k: n for side in sides for k, n in side.counts.items()}
        output.data({"output": str(path), **counts, "set_aside": rows_aside, "notes": notes})
    else:
        did = "scored" if since is None else "whose score or tier moved,"
        listed = ", ".join(f"{name} {count:,}" for name, count in tiers.items())
        for sentence in aside:
            output.say(sentence)
        output.say(f"{scored.height:,} accounts {did} into {path}. Tiers: {listed}.")
        for note in notes:
            output.say(f"Note: {note}")
        if scored.height:
            key = scored.columns[0]
            follow("explain", 1 if key == "score" else scored[key][0])


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
    path: Annotated[Path, typer.Argument(help="The spec's file.")], as_json: a.Json = False
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
        output.text(specs.to_yaml(spec, heading=heading))
