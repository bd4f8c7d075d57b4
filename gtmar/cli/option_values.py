"""Values of options, parsed and checked: shares, tier edges, labels, tables, output files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from shlex import quote
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from gtmar.documents import is_spec_file, read_text
from gtmar.errors import QueryError, UsageError, culprits, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import polars as pl

    from gtmar.data.scan import Source
    from gtmar.journal.catalog import Journal
    from gtmar.outputs import Output
    from gtmar.runs import Engine, NewTable, RunResult
    from gtmar.spec import Outcomes, ScoringSpec
    from gtmar.spec.model import Reading

__all__ = [
    "edges",
    "engine",
    "experiment_of",
    "full_id",
    "labels",
    "new_table",
    "note_encoders",
    "open_journal",
    "outcomes",
    "output",
    "output_or_print",
    "reading",
    "recorded_tables",
    "refuse_unknown",
    "run_query",
    "schema_of",
    "share",
    "sizes",
    "source",
    "weights",
    "write_best",
    "write_found",
    "write_spec",
]


K = TypeVar("K")
V = TypeVar("V")


def engine(
    *,
    engine: str,
    address: str | None,
    memory: str | None = None,
    shards: int | None = None,
    own_rows: bool = False,
) -> Engine:
    """Return where to compute; `memory` is a size such as 4GB."""
    from gtmar.memory import parse_size
    from gtmar.runs import Engine

    size = None if memory is None else parse_size(memory)
    return Engine(engine, size, address, shards, own_rows)


def share(text: str | None) -> float | None:
    """Read a share in [0, 1), or "none" for 0; None where nothing was given.

    Examples
    --------
    >>> share("0.3"), share("none"), share(None)
    (0.3, 0.0, None)
    """
    if text is None:
        return None
    if text.lower() == "none":
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(
            f'--holdout expects a share from 0 to below 1, or none, got "{text}"',
            hint="--holdout 0.3 is the default",
        )
    return value


def _settings(
    option: str,
    form: str,
    settings: Iterable[str],
    read: Callable[[str], tuple[K, V]],
    *,
    hint: str,
) -> dict[K, V]:
    """Parse settings by `read`, which returns a name and a value or raises ValueError.

    All settings that can't be parsed are refused in one message, which says that `option` expects
    `form`.
    """
    named: dict[K, V] = {}
    wrong = []
    for setting in settings:
        try:
            name, value = read(setting)
        except ValueError:
            wrong.append(setting)
            continue
        wrong += [] if name else [setting]
        named[name] = value
    if wrong:
        raise UsageError(f"{option} expects {form}, got {culprits(wrong)}", hint=hint)
    return named


def cuts(settings: list[str]) -> dict[str, tuple[float, ...]]:
    """Read ``column=3,12,36`` settings: ascending cut points by column.

    Examples
    --------
    >>> cuts(["tenure=3,12,36"])
    {'tenure': (3.0, 12.0, 36.0)}
    """

    def read(setting: str) -> tuple[str, tuple[float, ...]]:
        column, _, listed = setting.rpartition("=")
        points = tuple(map(float, listed.split(",")))
        if not all(map(math.isfinite, points)) or list(points) != sorted(set(points)):
            raise ValueError(setting)
        return column.strip(), points

    hint = "--cuts tenure=3,12,36"
    named = _settings("--cuts", "a column and ascending numbers", settings, read, hint=hint)
    if len(named) < len(settings):
        raise UsageError("--cuts: a column stands twice", hint=hint)
    return named


def outcomes(settings: list[str]) -> Outcomes:
    """Parse ``role=column`` settings; raise `UsageError` for another form or an unknown role."""
    from gtmar.spec import Outcomes

    roles = list(Outcomes.model_fields)
    named = {}
    for setting in settings:
        role, _, column = setting.partition("=")
        if not column or role not in roles:
            raise UsageError(
                f'--outcome expects role=column, got "{setting}"; roles are {", ".join(roles)}',
                hint="--outcome retained=renewed",
            )
        named[role] = column
    return Outcomes(**named)


def reading(*, parse: list[str] | None, nulls: str | None, no_null_markers: bool) -> Reading | None:
    """Return how cells of text are read; `parse` has ``column=kind``. None if nothing is given."""
    from gtmar.data.text_columns import NULL_MARKERS
    from gtmar.spec.model import Reading, WrittenAs

    kinds = get_args(WrittenAs)
    columns = {}
    wrong = []
    usual = not no_null_markers
    for setting in parse or ():
        name, _, kind = setting.rpartition("=")
        columns[name] = kind
        if not name or kind not in kinds:
            wrong.append(setting)
    if wrong:
        raise UsageError(
            f"--parse expects column=kind, a kind being one of {', '.join(kinds)}; "
            f"got {culprits(wrong)}",
            hint="--parse mrr=money",
        )
    if not columns and nulls is None and usual:
        return None
    more = [mark.strip() for mark in (nulls or "").split(",") if mark.strip()]
    markers = None if usual and not more else (*(NULL_MARKERS if usual else ()), *more)
    return Reading.model_validate({"nulls": markers, "columns": columns})


def labels(settings: list[str]) -> dict[str, dict[str, int]]:
    """Parse ``role:word=1`` settings: what each word of a label counts, by outcome.

    Examples
    --------
    >>> labels(["churned:Lapsed=1", "churned:Live=0"])
    {'churned': {'Lapsed': 1, 'Live': 0}}
    """
    from gtmar.spec.model import LABELS

    def read(setting: str) -> tuple[tuple[str, str], int]:
        named, _, value = setting.rpartition("=")
        role, _, word = named.partition(":")
        if role not in LABELS or not word or value not in ("0", "1"):
            raise ValueError
        return (role, word), int(value)

    form = f"role:word=1 or =0, a role of {', '.join(LABELS)}"
    hint = '--label "churned:Lapsed=1" --label "churned:Live=0"'
    labelled: dict[str, dict[str, int]] = {}
    for (role, word), count in _settings("--label", form, settings, read, hint=hint).items():
        labelled.setdefault(role, {})[word] = count
    return labelled


def weights(settings: list[str]) -> dict[str, int]:
    """Parse ``name=weight`` settings.

    Examples
    --------
    >>> weights(["nps=12", "tenure[0,3)=-4"])
    {'nps': 12, 'tenure[0,3)': -4}
    """

    def read(setting: str) -> tuple[str, int]:
        name, _, value = setting.rpartition("=")
        return name, int(value)

    form = "name=weight with a whole number"
    return _settings("--set", form, settings, read, hint="--set nps=12")


def edges(text: str) -> dict[str, float]:
    """Parse lower edges by tier, ``A=80,B=60,C=0``.

    Examples
    --------
    >>> edges("A=80,B=0")
    {'A': 80.0, 'B': 0.0}
    """

    def read(part: str) -> tuple[str, float]:
        name, _, value = part.partition("=")
        return name.strip(), float(value)

    return _settings("--tiers", "tier=edge", text.split(","), read, hint="--tiers A=80,B=60,C=0")


def sizes(
    rule: str, text: str, spec: ScoringSpec | None = None, *, option: str | None = None
) -> dict[str, float]:
    """Parse a number for each tier: ``A=200,B=500``, or for shares alone also ``10,40,50``.

    Shares without names are of the spec's tiers in order, or of A, B, ... where these don't fit.
    They may be percents or parts of 1, and are returned as parts of 1.

    Examples
    --------
    >>> sizes("share", "10,40,50")
    {'A': 0.1, 'B': 0.4, 'C': 0.5}
    >>> sizes("accounts", "A=200,B=500")
    {'A': 200.0, 'B': 500.0}
    """
    option = option or {"share": "--shares", "accounts": "--accounts", "lift": "--lift"}[rule]
    parts = [part.strip() for part in text.split(",")]
    if rule == "share" and not any("=" in part for part in parts):
        own = () if spec is None else spec.tier_names
        names = own if len(own) == len(parts) else ascii_uppercase[: len(parts)]
        parts = [f"{name}={part}" for name, part in zip(names, parts, strict=False)]

    def read(part: str) -> tuple[str, float]:
        name, _, value = part.partition("=")
        number = float(value)
        whole = rule != "accounts" or number == math.floor(number)
        if not (math.isfinite(number) and number > 0 and whole):
            raise ValueError(part)
        return name.strip(), number

    form = "a whole number above 0 by tier" if rule == "accounts" else "a number above 0 by tier"
    named = _settings(option, form, parts, read, hint=f"{option} {_SIZES[rule]}")
    if len(named) < len(parts):
        raise UsageError(f"{option}: a tier stands twice", hint=f"{option} {_SIZES[rule]}")
    if rule != "share":
        return named
    total = sum(named.values())
    whole = next((w for w in (1, 100) if math.isclose(total, w, abs_tol=1e-6 * w)), None)
    if whole is None:
        raise UsageError(
            f"{option} must add up to 100 percent, they add up to {total:g}",
            hint=f"{option} {_SIZES[rule]}",
        )
    return {name: round(value / whole, 8) for name, value in named.items()}


#: An example for each rule of tier sizes, for hints.
_SIZES = {"share": "10,25,40,25", "accounts": "A=200,B=500", "lift": "hot=3,warm=1.5"}


def source(
    data: str | None,
    at_version: int | None,
    query: Path | None,
    others: list[str] | None,
    at: str | None = None,
    *,
    option: str = "--data",
) -> str | Source | None:
    """Return the account table that a table's options name together; None if they name none."""
    from gtmar.data.scan import Source, named_sources

    # A second table is read by the first one's query, except a holdout, which has its own.
    own_query = ("--data", "--holdout-file")
    if data is None:
        own = query is not None and option in own_query
        if at_version is not None or others or own or at is not None:
            raise UsageError(
                f"a version, dates, a query or its tables are for a table, and {option} names none",
                hint=f"{option} accounts.parquet",
            )
        return None
    named = named_sources(others or [])
    if query is None:
        if named:
            raise UsageError("--source is for a query", hint="--query accounts.sql")
        plain = at_version is None and at is None
        return data if plain else Source(data, at_version, at=at)
    try:
        text = read_text(query)
    except ValueError as err:
        raise UsageError(f'"{query}": can\'t be read: {err}') from err
    return Source(data, at_version, text, named, at=at, query_file=query)


def open_journal(journal: Path, **limits: Any) -> Journal:
    """Open the journal; `limits` are the arguments of `Journal` for time and memory of a query."""
    from gtmar.journal.catalog import Journal

    return Journal(journal, **limits)


def experiment_of(name: str) -> str:
    """Return the experiment in a spec file's lineage; a name that is no file is returned as is."""
    if not is_spec_file(name):
        return name
    from gtmar import spec as specs

    lineage = specs.load(name).lineage
    if lineage is None:
        raise UsageError(
            f'"{name}" has no lineage: no run or checkout wrote it',
            hint="gtmar log lists what the journal has",
        )
    return f"{lineage.run}/{lineage.experiment}"


def refuse_unknown(noun: str, name: str, known: Iterable[str]) -> None:
    """Raise `UsageError` for a name that isn't known, and suggest the nearest."""
    options = sorted(set(known))
    if name not in options:
        likely = nearest(name, options)
        raise UsageError(
            f'no {noun} "{name}"; there is {culprits(options) or "none"}',
            hint=f'did you mean "{likely}"?' if likely else None,
        )


def output(path: Path | None, *inputs: object, force: bool = False) -> Output | None:
    """Check, before any work, that a file can be written and is none of the `inputs`."""
    if path is None:
        return None
    from gtmar.outputs import Output
    from gtmar.runs.inputs import local_inputs

    return Output(path, local_inputs(*inputs), force=force)


def output_or_print(path: Path | None, *inputs: object, force: bool = False) -> Output | None:
    """Check an output file as `output` does; None, or ``-``, stands for stdout: returns None."""
    return output(None if str(path) == "-" else path, *inputs, force=force)


def new_table(path: str | None, *inputs: object, **how: bool) -> NewTable | None:
    """Check, before any work, that a table can be written; None if `path` is. See `NewTable`."""
    from gtmar.runs import NewTable
    from gtmar.runs.inputs import local_inputs

    return None if path is None else NewTable(path, inputs=local_inputs(*inputs), **how)


def full_id(journal: Path, run: str | None) -> str:
    """Return the full id of a run, given a start of it, ``latest`` or ``live``.

    None stands for the last search.
    """
    with open_journal(journal) as own:
        return own.run_id(run)


def recorded_tables(journal: Path, run_id: str) -> list[Path]:
    """Return the journal's folder, and the local files of the tables that a run's record names."""
    from gtmar.errors import JournalError
    from gtmar.journal.files import RunFiles
    from gtmar.runs.inputs import recorded_inputs

    try:
        return [journal, *recorded_inputs(RunFiles(journal, run_id).record("start"))]
    except JournalError:
        return [journal]


def schema_of(data: str) -> pl.Schema:
    """Return the names and types of an account table's columns."""
    from gtmar.data.scan import scan

    return scan(data).schema


def note_encoders(features: list[str]) -> None:
    """Print a note with the features that a tool without encoders would score otherwise."""
    from gtmar.cli.output import complain

    if features:
        complain(
            "note",
            f"the spec encodes {culprits(features)}: a tool that multiplies weights by the "
            "columns as they are gives other scores",
        )


def write_spec(output: Output, spec: ScoringSpec, *, heading: str) -> None:
    """Write a spec as YAML, or as JSON to a file ``.json``; YAML begins with `heading`."""
    from gtmar import spec as specs
    from gtmar.spec.import_specs import encoded_features

    if output.path.suffix.lower() == ".json":
        text = specs.to_json(spec)
        output.write(text)
        note_encoders(encoded_features(json.loads(text)))
    else:
        output.write(specs.to_yaml(spec, heading=f"Written by gtmar {heading}"))


def write_found(
    output: Output, spec: ScoringSpec, *, heading: str, experiment: str, journal: str | Path
) -> None:
    """Write an experiment's spec; if that fails, the error says how to check it out again."""
    try:
        write_spec(output, spec, heading=heading)
    except UsageError as err:
        flag = "" if str(journal) == "journal" else f" --journal {quote(str(journal))}"
        raise UsageError(
            f'{err.message}. Nothing is lost: {experiment} is in the journal "{journal}"',
            hint=f"gtmar checkout {experiment} -o NEW.yaml{flag}",
            experiment=experiment,
        ) from err


def write_best(output: Output, result: RunResult) -> None:
    """Write the best spec of a run."""
    write_found(
        output,
        result.spec,
        heading=(
            f"run {result.run_id}, experiment {result.best_experiment}.\n"
            f"{result.metric}: {result.baseline_value:.4f} -> {result.best_value:.4f} on the "
            "accounts searched."
        ),
        experiment=f"{result.run_id}/{result.best_experiment}",
        journal=result.journal,
    )


def run_query(
    journal: Journal, name: str | None, text: str | None, settings: list[str]
) -> pl.DataFrame:
    """Run a query by name, by file, or as text, with ``name=value`` settings."""
    from gtmar.journal.sql_library import find_file

    values = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key.isidentifier():
            raise QueryError(
                f'--set expects name=value, got "{setting}"', hint="--set run=r2026..."
            )
        values[key] = value
    if name is not None and text is not None:
        raise QueryError("give a query's name or -c TEXT, not both")
    if name is None:
        return journal.query(text or "", **values)
    path = Path(name)
    if path.suffix == ".sql" and path.is_file():
        try:
            text = read_text(path)
        except ValueError as err:
            raise QueryError(f'"{path}": can\'t be read: {err}') from err
        return journal.query(text, **values)
    if find_file(name).name.startswith("metrics/"):
        raise QueryError(
            f'"{name}" reads a scored table, not the journal',
            hint="docs/sql.md says how to run it in DuckDB",
        )
    values |= {key: journal.run_id(values[key]) for key in ("run", "other") if values.get(key)}
    return journal.sql(name, **values)
