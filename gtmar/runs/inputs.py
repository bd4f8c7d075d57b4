"""What a use case reads: tables and the options that they are read by, files and their hashes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from os.path import isdir, isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack
from urllib.parse import unquote, urlsplit

import polars as pl

from gtmar.data.dates import ASOF
from gtmar.data.locations import duckdb_place, local_path
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import AccountTable, Source, collect, days_of, scan
from gtmar.errors import AccountDataError, culprits
from gtmar.runs.holdout import load_with_holdout
from gtmar.runs.score import write_rows_aside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "ReadOptions",
    "TableOptions",
    "file_hashes",
    "file_stamps",
    "load",
    "local_inputs",
    "newest_date",
    "of_day",
    "recorded_inputs",
    "refuse_changed",
    "refuse_unknown_options",
]


class ReadOptions(TypedDict, total=False):
    """How a table is read."""

    #: ISO date that `days_before` counts from.
    as_of: str | None
    #: How texts write a date, as ``%m/%d/%Y``; None takes the spec's.
    date_format: str | None
    #: Share of rows that may be left out since they break the data contract; None refuses them.
    set_aside: float | None
    #: File for these rows, each with its reasons; None writes none.
    set_aside_to: str | Path | None


class TableOptions(ReadOptions, total=False):
    """How a table with outcomes is read."""

    #: Leave accounts without any outcome out.
    drop_unlabelled: bool


def newest_date(table: AccountTable, identifier: str | None) -> tuple[AccountTable, date | None]:
    """Return the newest date of a table on which accounts stand on several dates, and the date.

    Those are the dates that were asked for, or all where nobody asked and an account's id comes
    more than once. Any other table is returned as it is, and None. Cost: a pass over the dates,
    and over the ids where nobody asked.
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
    """Return the rows of one date of a table, as if that alone had been asked for."""
    at = f"{day}" if column == ASOF else f"{column}={day}"
    return scan(replace(table, dates=None), at=at)


def refuse_unknown_options(options: Mapping[str, object], known: type) -> None:
    """Raise a `TypeError`, as any function does, for arguments by name that a type doesn't list."""
    unknown = options.keys() - known.__annotations__.keys()
    if unknown:
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(unknown))}")


def load(
    table: AccountTable,
    spec: ScoringSpec,
    *,
    holdout_file: Tabular | None = None,
    holdout_as_of: str | None = None,
    spec_file: str | Path | None = None,
    memory: int | None = None,
    keep_ids: bool = False,
    coded: Sequence[str] = (),
    **options: Unpack[TableOptions],
) -> tuple[Accounts, list[str]]:
    """Load a table, and the later one that is its holdout, by a spec that reads dates as asked.

    Rows set aside are written where `options` say; the sentences about them come second. `memory`,
    `keep_ids` and `coded` are as for `load_accounts`, `spec_file` and errors those of
    `load_with_holdout`.
    """
    refuse_unknown_options(options, TableOptions)
    shared: dict[str, Any] = {
        "as_of": options.get("as_of"),
        "drop_unlabelled": options.get("drop_unlabelled", False),
        "set_aside": options.get("set_aside"),
        "memory": memory,
        "keep_ids": keep_ids,
        "coded": coded,
    }
    if holdout_file is None:
        accounts = load_accounts(table, spec, **shared)
    else:
        later = scan(holdout_file)
        shared |= {"later_as_of": holdout_as_of, "spec_file": spec_file}
        accounts = load_with_holdout(table, later, spec, **shared)
    sides = [each.checked.set_aside for each in (accounts, accounts.later) if each is not None]
    return accounts, write_rows_aside(sides, options.get("set_aside_to"))


#: Parameters of a start record that name a table: of the query, and the holdout's own.
_SOURCE = re.compile(r"(holdout_)?source(\..+)?")


def local_inputs(*sources: object) -> tuple[Path, ...]:
    """Return the files, folders and globs of this machine that sources name.

    Sources are whatever an account table may be given as, and paths of other inputs. Frames, None
    and addresses of other machines have none.
    """
    return tuple(path for source in sources for path in _local(source))


def _local(source: object) -> Iterator[Path]:
    if isinstance(source, Source):
        for place in (source.location, *(other.location for _, other in source.others)):
            yield from _local(place)
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
    # A frame's source is no path.
    return local_inputs(*(place for place in (start["source"], *others) if place != "frame"))


def file_hashes(*sources: object) -> dict[str, str]:
    """Return the SHA-256 of every local file that sources name: those of folders and globs, too.

    Frames and addresses have no file here, and no hash.
    """
    hashes = {}
    for path in _files_of(sources):
        with path.open("rb") as file:
            hashes[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def file_stamps(*sources: object) -> dict[str, tuple[int, int]]:
    """Return size and time of the last write of the files that `file_hashes` reads."""
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
    """Refuse to go on where a file isn't what it was: `AccountDataError` names them."""
    after = file_hashes(*sources)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        raise AccountDataError(
            f"{culprits(changed)} changed while the decision was made: it is void, and nothing "
            "was written",
            hint="do it again when nobody writes there",
            changed=changed,
        )
