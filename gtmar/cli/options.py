"""The typer application, the options that commands share, and `command`, which registers one."""

from __future__ import annotations

import functools
import inspect
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, get_type_hints, is_typeddict

import typer

from gtmar.cli.error_boundary import within_boundary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gtmar.cli.output import Answer

#: Option types aren't listed: commands write them as ``options.Data``.
__all__ = ["DEFAULT_JOURNAL", "app", "command", "export_app", "journal_app", "spec_app"]


app = typer.Typer(
    name="gtmar",
    help="Finds better weights for account scores, and keeps a journal of every experiment.",
    epilog="First steps: gtmar demo. With your own table: gtmar init --data accounts.parquet",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _group(name: str, words: str) -> typer.Typer:
    return typer.Typer(
        name=name, help=words, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )


spec_app = _group("spec", "Print the spec's JSON Schema, or what a spec says.")
journal_app = _group("journal", "Export, import, compact and publish the journal.")
export_app = _group("export", "Write a score for other systems: SQL, dbt, MLflow.")


# ---- shell completion: reads names of files, and opens only what it must ----


def _offered(options: Iterable[str], incomplete: str) -> list[str]:
    return [option for option in options if option.startswith(incomplete)]


def _run_ids(ctx: typer.Context) -> list[str]:
    """Return the ids of all runs in the journal that the command line names, newest first."""
    named = ctx.params.get("journal") or os.environ.get("GTMAR_JOURNAL") or "journal"
    folders = Path(named).glob("runs/run_id=*")
    return sorted((path.name.partition("=")[2] for path in folders), reverse=True)


def complete_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the journal's runs, and ``latest`` and ``live`` once something is typed."""
    return _offered([*_run_ids(ctx), *(("latest", "live") if incomplete else ())], incomplete)


def complete_experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer runs; after ``RUN/``, its start and its best."""
    run, slash, _ = incomplete.partition("/")
    if not slash:
        return complete_runs(ctx, incomplete)
    return _offered([f"{run}/best", f"{run}/start"], incomplete)


def complete_queries(incomplete: str) -> list[str]:
    """Offer the SQL library's queries."""
    from gtmar.journal.sql_library import sql_folder

    names = sorted(path.stem for path in sql_folder().glob("journal/*.sql"))
    checks = sorted(f"checks/{path.stem}" for path in sql_folder().glob("checks/*.sql"))
    return _offered([*names, *checks], incomplete)


def complete_metrics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer metrics, those by tier with the tiers of the spec that the command line names."""
    from gtmar.metrics.registry import all_metrics, objective_keys

    tiers = _tiers(ctx.params.get("spec"))
    names = []
    for key in objective_keys():
        if all_metrics()[key].by_tier:
            names += [f"{key}.{tier}" for tier in tiers]
        else:
            names.append(key)
    return _offered(names, incomplete)


def _tiers(spec: object) -> list[str]:
    from gtmar import spec as specs
    from gtmar.errors import GtmarError

    if spec is None:
        return [""]
    try:
        return list(specs.load(Path(str(spec))).tier_names)
    except GtmarError:
        return [""]


def _complete_names(module: str, names: str) -> Callable[[str], list[str]]:
    """Return a completion that offers the names in a module's list, imported when it is used."""
    return lambda incomplete: _offered(getattr(import_module(module), names), incomplete)


complete_kinds = _complete_names("gtmar.data.synthetic", "KINDS")
complete_proposers = _complete_names("gtmar.runs.plan", "PROPOSERS")
complete_starts = _complete_names("gtmar.runs.plan", "STARTS")


# ---- options that commands share ----


class _Required:
    """Marks an option for an account table that must be given; see `command`."""


class _Optional:
    """Marks an option for an account table that may be left out."""


class _OwnQuery:
    """Marks an option for an account table that may be left out and has its own ``--query``."""


Data = Annotated[
    Any,
    _Required,
    typer.Option(
        "--data",
        help="Account table: a file, folder or glob, a Delta, Iceberg or DuckDB table, a URL.",
        show_default=False,
    ),
]
MovedData = Annotated[Any, _Optional, typer.Option("--data", help="The table, where it has moved.")]
OptionalTable = Annotated[Any, _Optional, typer.Option("--data", help="Account table.")]
SpecTable = Annotated[
    Any,
    _Optional,
    typer.Option("--data", help="The account table, or a few rows of it, for its column types."),
]
TrainTable = Annotated[Any, _Required, typer.Option("--train", help="Account table to search.")]
HoldoutTable = Annotated[
    Any,
    _OwnQuery,
    typer.Option("--holdout-file", help="A later table as holdout; all of --data is searched."),
]
LaterTable = Annotated[
    Any, _Required, typer.Option("--holdout", help="Account table to decide on.")
]
Against = Annotated[
    Any,
    _Optional,
    typer.Option("--against", help="Table to compare with; none: that of the spec's run."),
]
#: Help of the options that come with a command's first table.
_VERSION = "Version of a Delta table, or Iceberg snapshot."
_AT = "Dates to read of a table of several: 2024-07-01, or 2024-01-01..2025-01-01."
_SOURCE = "Another table for --query: usage=usage.parquet"
_QUERY = "File with one SELECT over the table in --data, there called accounts."
SpecPath = Annotated[Path, typer.Option("--spec", help="Scoring spec.", show_default=False)]
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="Scoring spec.")]
OptionalSpec = Annotated[
    Path | None, typer.Option("--spec", help="Scoring spec; none: detect one.")
]


def _local(path: Path) -> Path:
    """Expand ``~``, which a shell doesn't do within a variable, and file URLs."""
    from gtmar.data.locations import expanded

    return expanded(path)


JournalPath = Annotated[
    Path,
    typer.Option(
        "--journal", envvar="GTMAR_JOURNAL", help="The journal's folder.", callback=_local
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="Date that days_before counts from.")]
DateFormat = Annotated[
    str | None, typer.Option("--date-format", help="How texts write a date: %m/%d/%Y")
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help="Objective; none: the spec's.", autocompletion=complete_metrics),
]
NoWorse = Annotated[
    list[str] | None,
    typer.Option(
        "--no-worse",
        help="Metric that must not get worse.",
        autocompletion=complete_metrics,
    ),
]
DropUnlabelled = Annotated[
    bool, typer.Option("--drop-unlabelled", help="Leave out accounts without any outcome.")
]
SetAside = Annotated[
    float | None,
    typer.Option(
        "--set-aside", help="Leave out rows that break the contract, up to this share or 0.01."
    ),
]
SetAsideTo = Annotated[
    str, typer.Option("--set-aside-to", help="File for those rows, with the reasons.")
]
DEFAULT_ASIDE = "set-aside.csv"
SpreadsheetSafe = Annotated[
    bool,
    typer.Option(
        "--spreadsheet-safe/--no-spreadsheet-safe",
        help="In CSV, put an apostrophe before texts that a spreadsheet would run.",
    ),
]
DEFAULT_JOURNAL = Path("journal")
MovedHoldout = Annotated[
    str | None, typer.Option("--holdout-file", help="The holdout's own table, where it has moved.")
]
HoldoutAsOf = Annotated[str | None, typer.Option(help="As --as-of, for the holdout's own table.")]
OptionalRun = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="None: the last search; else a start of its id, latest or live.",
        autocompletion=complete_runs,
    ),
]
AnyRun = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="None: all runs.", autocompletion=complete_runs),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A start of its id, latest or live.", autocompletion=complete_runs
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")]
NewTable = Annotated[Path, typer.Option("-o", "--output", help="Parquet, CSV or Arrow file.")]
OutputSpec = Annotated[Path | None, typer.Option("-o", "--output", help="Where to write the spec.")]
NewSpec = Annotated[Path, typer.Option("-o", "--output", help="Where to write the spec.")]
Author = Annotated[str | None, typer.Option("--author", help="Who does this, for the journal.")]
Seed = Annotated[int, typer.Option(help="Same seed, same draws.")]
Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXP",
        help="RUN/EXP, RUN for its best, EXP of the last search, latest or live.",
        autocompletion=complete_experiments,
    ),
]
ExperimentOrSpec = Annotated[
    str,
    typer.Argument(
        metavar="EXP|SPEC",
        help="RUN/EXP, RUN for its best, latest, live, or a spec's file.",
        autocompletion=complete_experiments,
    ),
]


# ---- bundles of options: a command has all of them if a parameter is of such a type ----


class OutcomeTableOptions(TypedDict):
    """How a table with outcomes is read."""

    as_of: AsOf
    date_format: DateFormat
    drop_unlabelled: DropUnlabelled
    set_aside: SetAside
    set_aside_to: SetAsideTo


class TwoTablesOptions(OutcomeTableOptions):
    """How a table and the later one that is its holdout are read."""

    holdout_as_of: HoldoutAsOf


#: Where searches compute.
EngineName = Annotated[str, typer.Option("--engine", help="Where to compute: local or ray.")]
ClusterAddress = Annotated[
    str | None,
    typer.Option(help="Address of a running Ray cluster; none: starts one on this machine."),
]


class EngineOptions(TypedDict):
    """Where a run computes."""

    memory: Annotated[
        str | None,
        typer.Option(help="Memory for the table, as 4GB; a larger one is mapped from disk."),
    ]
    engine: EngineName
    address: ClusterAddress
    shards: Annotated[
        int | None, typer.Option(help="With ray: parts of the table; none: one a machine.")
    ]
    own_rows: Annotated[
        bool,
        typer.Option("--own-rows", help="With ray: each shard reads its own part of the table."),
    ]


class ReadingOptions(TypedDict):
    """How cells of text are read."""

    parse: Annotated[
        list[str] | None,
        typer.Option(
            help="How a text column's numbers are written: mrr=money, rate=percent, code=text."
        ),
    ]
    nulls: Annotated[
        str | None,
        typer.Option(help="More cells that mean unknown, beside the usual ones: TBD,n.v."),
    ]
    no_null_markers: Annotated[
        bool,
        typer.Option("--no-null-markers", help="Take NULL, N/A, - and their like as they stand."),
    ]


class GateOptions(TypedDict):
    """What a candidate must pass."""

    min_gain: Annotated[float, typer.Option(help="Least gain of the objective.")]
    no_worse: NoWorse
    max_moved: Annotated[
        float | None,
        typer.Option(
            help="Largest share of accounts that may change tier; none: by the tiers' sizes."
        ),
    ]
    segments: Annotated[
        list[str] | None,
        typer.Option("--segment", help="Column of segments, none of which may get worse."),
    ]
    max_segment_drop: Annotated[
        float | None,
        typer.Option(help="Largest loss of the objective in a segment; none: 0.05."),
    ]
    max_calibration_error: Annotated[
        float | None,
        typer.Option(help="Largest calibration error of the probabilities; none: any."),
    ]
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="Column to accept though it seems to leak the outcome."),
    ]


class RepeatOptions(TypedDict):
    """Options of commands that do a run's search again many times."""

    run_id: OptionalRun
    searches: Annotated[int, typer.Option("--runs", help="Searches to do.")]
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that search side by side; none: one a core."),
    ]
    engine: EngineName
    address: ClusterAddress
    data: MovedData
    seed: Seed
    author: Author
    journal: JournalPath
    quiet: Quiet


#: Defaults of options in bundles. The others' is None, a flag's is False.
_DEFAULTS = {
    "engine": "local",
    "journal": DEFAULT_JOURNAL,
    "min_gain": 0.0,
    "searches": 50,
    "seed": 0,
    "set_aside_to": DEFAULT_ASIDE,
}


def _parameters(
    function: Callable[..., Any],
) -> tuple[dict[str, inspect.Parameter], dict[str, dict[str, Any]]]:
    """Return a command's parameters by name, bundles expanded, and the options of each bundle."""
    hints = get_type_hints(function, include_extras=True)
    parameters, bundles = {}, {}
    for name, parameter in inspect.signature(function).parameters.items():
        if is_typeddict(hints[name]):
            bundles[name] = get_type_hints(hints[name], include_extras=True)
            for each, hint in bundles[name].items():
                default = False if hint.__origin__ is bool else _DEFAULTS.get(each)
                parameters[each] = _parameter(each, hint, default=default)
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters[name] = parameter.replace(annotation=hints[name], kind=kind)
    return parameters, bundles


def command(
    group: typer.Typer, example: str, *, as_json: bool = True
) -> Callable[[Callable[..., Answer | None]], Callable[..., None]]:
    """Return a decorator that registers a command and puts it within the error boundary.

    The function's parameters are the command's, with two exceptions. A parameter of a table's type
    (`Data`, `MovedData`, ...) also adds the options ``--query``, ``--at``, ``--at-version`` and
    ``--source``; the function gets one value that stands for all of them, from
    `option_values.source`. For a second table, the options have its name as a prefix, such as
    ``--holdout-at-version``, and only `HoldoutTable` has its own query. A parameter of a bundle's
    type (`OutcomeTableOptions`, ...) stands for all options of the bundle; the function gets them
    as a dict.

    Parameters
    ----------
    group
        The application, or a group of commands.
    example
        An example of a command line, without ``gtmar``; it begins with the command's name.
    as_json
        Whether the command has ``--json``.
    """

    def register(function: Callable[..., Answer | None]) -> Callable[..., None]:
        parameters, bundles = _parameters(function)
        tables, with_query = [], set()
        for name, parameter in parameters.items():
            kind, *option = getattr(parameter.annotation, "__metadata__", (None,))
            if kind in (_Required, _Optional, _OwnQuery):
                tables.append(name)
                with_query |= {name} if kind is _OwnQuery else set()
                taken: Any = str if kind is _Required else str | None
                parameters[name] = parameter.replace(annotation=Annotated[taken, *option])
        own = [
            each
            for name in tables
            for each in _beside(name, first=name == tables[0], with_query=name in with_query)
        ]
        if as_json:
            own.append(_parameter("as_json", Json, default=False))
        parameters |= {parameter.name: parameter for parameter in own}
        # --json and --quiet come last in a command's help.
        last = ["as_json", "quiet"]
        order = sorted(
            parameters.values(), key=lambda each: last.index(each.name) if each.name in last else -1
        )

        @functools.wraps(function)
        def opened(**given: Any) -> Answer | None:
            from gtmar.cli import option_values

            query = given.pop("query", None)
            for name in tables:
                names = _names(name, first=name == tables[0])
                version, others, at = (given.pop(each) for each in names)
                text = given.pop(f"{name}_query") if name in with_query else query
                given[name] = option_values.source(
                    given[name], version, text, others, at, option=_flag(name)
                )
            together = {name: {each: given.pop(each) for each in b} for name, b in bundles.items()}
            return function(**given, **together)

        inner = within_boundary(opened)
        inner.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined] # typer reads it
        inner.__annotations__ = {each.name: each.annotation for each in order}
        name = example.split()[0 if group is app else 1]
        return group.command(name, epilog=f"Example: gtmar {example}")(inner)

    return register


def _parameter(name: str, annotation: Any, *, default: object = None) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _names(table: str, *, first: bool) -> tuple[str, str, str]:
    """Return names of parameters: a table's version, other tables for its query, and dates."""
    if first:
        return "at_version", "other", "at"
    return f"{table}_at_version", f"{table}_source", f"{table}_at"


def _flag(table: str) -> str:
    return f"--{table.replace('_', '-')}"


def _beside(table: str, *, first: bool, with_query: bool) -> Iterator[inspect.Parameter]:
    """Yield the parameters that come with a table's option."""

    def option(name: str, kind: Any, flag: str, words: str) -> inspect.Parameter:
        return _parameter(name, Annotated[kind, typer.Option(flag, help=words)])

    version, others, at = _names(table, first=first)
    same = f"The same for {_flag(table)}."
    yield option(at, str | None, _flag(at), _AT if first else same)
    yield option(version, int | None, _flag(version), _VERSION if first else same)
    if with_query:
        yield option(f"{table}_query", Path | None, _flag(f"{table}_query"), same)
    elif first:
        yield option("query", Path | None, "--query", _QUERY)
    flag = "--source" if first else _flag(others)
    yield option(others, list[str] | None, flag, _SOURCE if first else same)
