"""The typer application, and the options that commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gtmar.cli import completion

__all__ = [
    "DEFAULT_ASIDE",
    "DEFAULT_JOURNAL",
    "Address",
    "AnyRun",
    "AsOf",
    "AtVersion",
    "Author",
    "Data",
    "DateFormat",
    "DropUnlabelled",
    "EngineKind",
    "Experiment",
    "ExperimentOrSpec",
    "HoldoutAsOf",
    "JournalPath",
    "Json",
    "Memory",
    "Metric",
    "MovedData",
    "MovedHoldout",
    "NewSpec",
    "NewTable",
    "OptionalRun",
    "OptionalSpec",
    "OtherSources",
    "OutputSpec",
    "Query",
    "Quiet",
    "Run",
    "SetAside",
    "SetAsideTo",
    "Shards",
    "SpecPath",
    "app",
    "export_app",
    "journal_app",
    "spec_app",
]


class _Commands(TyperGroup):
    """Commands, where an option may stand without the number that it has by default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the share after a ``--set-aside`` that has none."""
        for place in reversed([i for i, arg in enumerate(args) if arg == "--set-aside"]):
            after = args[place + 1] if place + 1 < len(args) else "-"
            if not re.fullmatch(r"-?[0-9.]+(?:e-?[0-9]+)?", after):
                args.insert(place + 1, "0.01")
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Commands,
    name="gtmar",
    help="Finds better weights for account scores, and keeps a journal of every experiment.",
    epilog="First steps: gtmar demo. With your own table: gtmar init --data accounts.parquet",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
spec_app = typer.Typer(help="The spec's JSON Schema, and what a spec says.", no_args_is_help=True)
app.add_typer(spec_app, name="spec", rich_help_panel=None)
journal_app = typer.Typer(
    help="The journal as files: into other formats, from them, packed.", no_args_is_help=True
)
app.add_typer(journal_app, name="journal", rich_help_panel=None)
export_app = typer.Typer(
    help="A score for other systems: as SQL, as a dbt model.", no_args_is_help=True
)
app.add_typer(export_app, name="export", rich_help_panel=None)

Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Account table: a file, folder or glob, a Delta, Iceberg or DuckDB table, a URL.",
        show_default=False,
    ),
]
AtVersion = Annotated[
    int | None, typer.Option("--at-version", help="Version of a Delta table, Iceberg snapshot.")
]
Query = Annotated[
    Path | None,
    typer.Option("--query", help="File of one SELECT that makes the table from accounts, --data."),
]
OtherSources = Annotated[
    list[str] | None,
    typer.Option("--source", help="Another table for the query: usage=usage.parquet"),
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
DateFormat = Annotated[
    str | None, typer.Option("--date-format", help="How texts write a date: %m/%d/%Y")
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric", help="Objective; none: the spec's.", autocompletion=completion.metrics
    ),
]
DropUnlabelled = Annotated[
    bool, typer.Option("--drop-unlabelled", help="Leave accounts without any outcome out.")
]
SetAside = Annotated[
    float | None,
    typer.Option(
        "--set-aside", help="Leave rows that break the contract out: up to this share, or 0.01."
    ),
]
SetAsideTo = Annotated[
    str, typer.Option("--set-aside-to", help="File for those rows, with the reasons.")
]
DEFAULT_ASIDE = "set-aside.csv"
Memory = Annotated[
    str | None,
    typer.Option(help="What the table may take, as 4GB; beyond, it is mapped from disk."),
]
EngineKind = Annotated[str, typer.Option("--engine", help="Who computes: local or ray.")]
Address = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster; none: one on this machine.")
]
Shards = Annotated[int | None, typer.Option(help="Parts of the table; none: one a core.")]
DEFAULT_JOURNAL = Path("journal")
MovedData = Annotated[str | None, typer.Option("--data", help="The table, where it has moved.")]
MovedHoldout = Annotated[
    str | None, typer.Option("--holdout-file", help="The holdout's own table, where it has moved.")
]
HoldoutAsOf = Annotated[str | None, typer.Option(help="The same for the holdout's own table.")]
OptionalRun = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="None: the latest.", autocompletion=completion.runs),
]
AnyRun = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="None: all runs.", autocompletion=completion.runs),
]
Run = Annotated[str, typer.Argument(metavar="RUN", autocompletion=completion.runs)]
NewTable = Annotated[Path, typer.Option("-o", "--output", help="Parquet, CSV or Arrow file.")]
OutputSpec = Annotated[Path | None, typer.Option("-o", "--output", help="Where to write the spec.")]
NewSpec = Annotated[Path, typer.Option("-o", "--output", help="Where to write the spec.")]
Author = Annotated[str | None, typer.Option("--author", help="Who.")]
Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXP",
        help="RUN/EXP, RUN for its best, or EXP of the latest run.",
        autocompletion=completion.experiments,
    ),
]
ExperimentOrSpec = Annotated[
    str,
    typer.Argument(
        metavar="EXP|SPEC",
        help="RUN/EXP, RUN for its best, or a spec's file.",
        autocompletion=completion.experiments,
    ),
]
