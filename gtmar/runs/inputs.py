"""Inputs of the use cases: tables of one date or several, how they are read, specs by name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import date
from functools import partial
from os.path import isdir, isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack
from urllib.parse import unquote, urlsplit

import polars as pl

from gtmar import spec as specs
from gtmar.data.dates import ASOF, AskedDates, day_of
from gtmar.data.locations import duckdb_place, local_path
from gtmar.data.matrix import load_accounts
from gtmar.data.outcomes import OutcomeColumns
from gtmar.data.own_rows import refused
from gtmar.data.scan import AccountTable, Source, collect, days_of, scan
from gtmar.documents import is_spec_file
from gtmar.errors import AccountDataError, culprits
from gtmar.journal.catalog import Journal
from gtmar.journal.lookup import checkout, resolve
from gtmar.runs.holdout import load_with_holdout
from gtmar.runs.score import write_rows_aside
from gtmar.spec.model import ScoringSpec, stated_date

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gtmar.data.matrix import Accounts, RowShards
    from gtmar.data.scan import Tabular

__all__ = [
    "HoldoutOptions",
    "ReadOptions",
    "TableOptions",
    "file_hashes",
    "file_stamps",
    "load",
    "local_inputs",
    "newest_date",
    "of_day",
    "outcome_end",
    "outcomes_known",
    "recorded_inputs",
    "refuse_changed",
    "refuse_unknown_options",
    "run_or_experiment",
    "spec_of",
    "tables_by_date",
]


class ReadOptions(TypedDict, total=False):
    """Options for reading a table."""

    #: ISO date that `days_before` counts from.
    as_of: str | None
    #: How texts write a date, as ``%m/%d/%Y``; None takes the spec's.
    date_format: str | None
    #: Share of rows that may be left out since they break the data contract; None refuses them.
    set_aside: float | None
    #: File for these rows, each with its reasons; None writes none.
    set_aside_to: str | Path | None


class TableOptions(ReadOptions, total=False):
    """Options for reading a table with outcomes."""

    #: Leave accounts without any outcome out.
    drop_unlabelled: bool


class HoldoutOptions(TableOptions, total=False):
    """Options for reading a table with outcomes, and a later one as its holdout."""

    #: The later table; then all of the first one is searched. None for none.
    holdout_file: Tabular | None
    #: ISO date that `days_before` counts from there; None for that of the other.
    holdout_as_of: str | None


def newest_date(table: AccountTable, identifier: str | None) -> tuple[AccountTable, date | None]:
    """Return the rows of a table's newest date, and that date, if accounts have several dates.

    A table has several dates if they were asked for with ``--at``, or if it has a column of dates
    and an id occurs more than once. Any other table is returned as it is, with None. Cost: a pass
    over the dates, and over the ids if no dates were asked for.
    """
    if table.several is not None:
        return of_day(table, table.several.column, table.several.days[-1]), table.several.days[-1]
    days = [] if table.dates else days_of(table)
    if len(days) < 2 or identifier is None or identifier not in table.schema:
        return table, None
    ids = pl.col(identifier).drop_nulls()
    if not collect(table, table.frame.select(ids.is_duplicated().any())).item():
        return table, None
    return of_day(table, ASOF, days[-1]), days[-1]


def of_day(table: AccountTable, column: str, day: date) -> AccountTable:
    """Return the rows of one date of a table, as if only that date had been asked for."""
    at = f"{day}" if column == ASOF else f"{column}={day}"
    return scan(replace(table, dates=None), at=at)


def refuse_unknown_options(options: Mapping[str, object], known: type) -> None:
    """Raise a `TypeError` for keyword arguments that a TypedDict doesn't have."""
    unknown = options.keys() - known.__annotations__.keys()
    if unknown:
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(unknown))}")


def load(
    table: AccountTable,
    spec: ScoringSpec,
    *,
    spec_file: str | Path | None = None,
    memory: int | None = None,
    keep_ids: bool = False,
    coded: Sequence[str] = (),
    shards: RowShards | None = None,
    **options: Unpack[HoldoutOptions],
) -> tuple[Accounts, list[str]]:
    """Load a table, and its holdout's own table if `options` has one.

    Rows set aside are written to the file that `options` names. `memory`, `keep_ids`, `coded` and
    `shards` are as for `load_accounts`, `spec_file` is as for `load_with_holdout`; the errors of
    both are raised.

    Returns
    -------
    tuple of Accounts and list of str
        The accounts, and sentences about the rows set aside.
    """
    refuse_unknown_options(options, HoldoutOptions)
    shared: dict[str, Any] = {
        "as_of": options.get("as_of"),
        "drop_unlabelled": options.get("drop_unlabelled", False),
        "set_aside": options.get("set_aside"),
        "memory": memory,
        "keep_ids": keep_ids,
        "coded": coded,
    }
    holdout_file = options.get("holdout_file")
    if holdout_file is None:
        accounts = load_accounts(table, spec, **shared, shards=shards)
    elif shards is not None:
        raise refused(table.source, "a later table is held beside it, row by row")
    else:
        later = scan(holdout_file)
        shared |= {"later_as_of": options.get("holdout_as_of"), "spec_file": spec_file}
        accounts = load_with_holdout(table, later, spec, **shared)
    sides = [each.checked.set_aside for each in (accounts, accounts.later) if each is not None]
    return accounts, write_rows_aside(sides, options.get("set_aside_to"))


#: Parameters of a start record that name a table: other tables of a query, the holdout's own.
_SOURCE = re.compile(r"(holdout_)?source(\..+)?")


def local_inputs(*sources: object) -> tuple[Path, ...]:
    """Return the local files, folders and globs that sources name.

    A source is anything that an account table may be given as, or a path of another input. Frames,
    None and addresses of other machines have no local file.
    """
    return tuple(path for source in sources for path in _local(source))


def _local(source: object) -> Iterator[Path]:
    if isinstance(source, Source):
        for location in (source.location, *(other.location for _, other in source.others)):
            yield from _local(location)
        yield from _local(source.query_file)
    elif isinstance(source, Path):
        yield source
    elif isinstance(source, str):
        path = local_path(source)
        if path is not None:
            yield path


def recorded_inputs(start: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the local files, folders and globs of the tables that a run's start record names."""
    others = (v for k, v in dict(start["parameters"] or {}).items() if _SOURCE.fullmatch(k))
    # "frame" stands for a table in a program's memory; it is no path.
    return local_inputs(
        *(location for location in (start["source"], *others) if location != "frame")
    )


def file_hashes(*sources: object) -> dict[str, str]:
    """Return the SHA-256 of every local file that sources name, by path.

    Folders and globs stand for their files; frames and addresses of other machines have none.
    """
    hashes = {}
    for path in _files_of(sources):
        with path.open("rb") as file:
            hashes[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def file_stamps(*sources: object) -> dict[str, tuple[int, int]]:
    """Return size and modification time (ns) of the files that `file_hashes` reads, by path."""
    stats = ((path, path.stat()) for path in _files_of(sources))
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in stats}


def _files_of(sources: Iterable[object]) -> Iterator[Path]:
    for source in sources:
        for location in _locations(source):
            yield from _files(location)


def _locations(source: object) -> list[str]:
    if isinstance(source, Source):
        others = [location for _, other in source.others for location in _locations(other)]
        return [source.location, *others]
    return [str(source)] if isinstance(source, str | Path) else []


def _files(source: str) -> list[Path]:
    if source.startswith("duckdb://"):
        return [path for path in (duckdb_place(source)[0],) if isfile(path)]  # noqa: PTH113
    if source.startswith("file://"):
        source = unquote(urlsplit(source).path)
    path = Path(source.removeprefix("delta:"))
    # Unlike `Path.is_file`, it takes a name that is too long for a path.
    if isfile(path):  # noqa: PTH113
        return [path]
    if isdir(path):  # noqa: PTH112
        return sorted(file for file in path.rglob("*") if file.is_file())
    if any(sign in source for sign in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(anchor)) if path.is_absolute() else source
        return sorted(file for file in anchor.glob(pattern) if file.is_file())
    return []


def refuse_changed(before: Mapping[str, str], *sources: object) -> None:
    """Raise `AccountDataError` if a file's hash isn't the one in `before`; it names the files."""
    after = file_hashes(*sources)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        raise AccountDataError(
            f"{culprits(changed)} changed while the decision was made: it is void, and nothing "
            "was written",
            hint="do it again when nobody writes there",
            changed=changed,
        )


# ---- specs and experiments by name ---------------------------------------------------------------


def spec_of(spec: ScoringSpec | str | Path, journal: str | Path) -> ScoringSpec:
    """Return a spec, given as itself, as a file, or as an experiment in the journal.

    Raises
    ------
    SpecError, RunNotFoundError, JournalError
        If it can't be read, or doesn't exist.
    """
    if isinstance(spec, ScoringSpec):
        return spec
    if isinstance(spec, Path) or is_spec_file(spec):
        return specs.load(spec)
    with Journal(journal) as opened:
        return checkout(opened, spec)


def run_or_experiment(name: str | None, journal: str | Path) -> str:
    """Return the full id of a run, or ``RUN/EXP`` if an experiment is named.

    None stands for the last search.
    """
    with Journal(journal) as opened:
        return str(resolve(opened, name)) if name and "/" in name else opened.run_id(name)


# ---- the table of each date ----------------------------------------------------------------------

_FOLDER = re.compile(rf"{ASOF}=(\d{{4}}-\d{{2}}-\d{{2}})")
#: Outcomes from which it follows who stayed.
_LABELS = ("retained", "churned", "mrr_end")


def tables_by_date(data: Tabular, opened: AccountTable | None = None) -> dict[date, AccountTable]:
    """Return the account table of each date, by the date of its features.

    The data are folders ``features_asof=DATE``, whose columns may differ, or one table with a
    column of dates: `features_asof`, or the one named with ``--at``. `opened` is the whole table,
    if it is open already.

    Raises
    ------
    AccountDataError
        If there is no such column.
    """
    if folders := _folders(data):
        return {day: scan(Source(str(folder))) for day, folder in folders.items()}
    table = opened or scan(data)
    column, days = (table.dates.column, table.dates.days) if table.dates else (ASOF, days_of(table))
    if not days:
        raise AccountDataError(
            f'{table.source}: no column "{ASOF}" says of which date a row is',
            hint="gtmar snapshot makes a folder of tables by date; --at COLUMN=FIRST..LAST names "
            "another column",
        )
    every = replace(table, dates=None)
    return {day: every.keeping(partial(_of_day, column, day)) for day in days}


def _of_day(column: str, day: date, schema: pl.Schema) -> pl.Expr:
    return day_of(column, schema[column]) == pl.lit(day)


def _folders(data: Tabular) -> dict[date, Path]:
    """Return the folders of dates within a local folder, by date; empty if it has none."""
    if isinstance(data, Source) and data.query is not None:
        return {}
    if not isinstance(data, str | Source) and not hasattr(data, "iterdir"):
        return {}
    folder = local_path(data.location if isinstance(data, Source) else str(data))
    if folder is None or not folder.is_dir():
        return {}
    named = ((_FOLDER.fullmatch(each.name), each) for each in sorted(folder.iterdir()))
    folders = {date.fromisoformat(match[1]): each for match, each in named if match is not None}
    if isinstance(data, Source) and data.at is not None:
        requested = AskedDates.parse(data.at)
        return {
            day: each for day, each in folders.items() if requested.first <= day <= requested.last
        }
    return folders


def outcome_end(table: AccountTable, spec: ScoringSpec) -> date | None:
    """Return the last day of a table's outcomes, by the spec's window or column `outcome_end`.

    None if neither is there.
    """
    stated = None if spec.window is None else spec.window.outcome_end
    column = stated or "outcome_end"
    fixed = stated_date(column)
    if fixed is not None or column not in table.columns:
        return fixed
    last = table.frame.select(day_of(column, table.schema[column]).max())
    newest: date | None = collect(table, last).item()
    return newest


def outcomes_known(table: AccountTable, spec: ScoringSpec) -> bool:
    """Return whether a table says of any account whether it stayed."""
    outcomes = OutcomeColumns.matching(spec.outcomes, table.columns)
    labels = [outcomes.columns[role] for role in _LABELS if role in outcomes.columns]
    known = pl.any_horizontal(pl.col(labels).is_not_null().any())
    return bool(labels) and bool(collect(table, table.frame.select(known)).item())
