"""Any source of an account table as a lazy Polars frame, and the one place that collects it.

Nothing is read here but names and types. Polars' and the file system's errors are worded here, in
`collect`, so that a broken file is named as such wherever it comes to light.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from polars.exceptions import PolarsError

from gtmar.accounts.locations import unreadable, without_credentials
from gtmar.accounts.partitions import with_partitions
from gtmar.accounts.sources import Source, Tabular, opened
from gtmar.errors import AccountDataError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "ID_NAMES",
    "AccountTable",
    "collect",
    "likely_id",
    "no_room",
    "read_column",
    "refuse_empty",
    "scan",
    "write_rows",
]

#: Column names taken for the account id where the spec names none, best first.
ID_NAMES = ("account_id", "customer_id", "company_id", "accountid", "customerid", "id")
#: The same under any spelling, for where the name is written down or nothing depends on it.
_ID_NAME = re.compile(
    r"(account|acct|customer|cust|company|client|user|tenant|workspace|org|organi[sz]ation|"
    r"subscriber)u?u?id|(account|acct|customer|cust)(no|nr|number|key)|id"
)

#: How the operating system says that a file, a disk, or somebody's share of it, is full.
_NO_ROOM = re.compile(r"(File too large|No space left|quota exceeded).*", re.IGNORECASE)

_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".arrow": "ipc",
    ".ipc": "ipc",
    ".feather": "ipc",
}


@dataclass(frozen=True)
class AccountTable:
    """A lazy account table and what to call it."""

    #: What messages and the journal call it: the path as given, or "frame".
    source: str
    frame: pl.LazyFrame
    schema: pl.Schema
    #: Opens the source again with other columns taken as text; None for a format with types.
    reopen: Callable[[str], pl.LazyFrame] | None = None
    #: What a run's record says of the source beside its name: version, query.
    origin: Mapping[str, str] = field(default_factory=dict)
    #: What was made of its columns before anything else read them, a sentence each.
    notes: tuple[str, ...] = ()

    def with_text(self, column: str | None) -> AccountTable:
        """Return the table with a column as the text that it is: an id such as 00012."""
        if column is None or self.reopen is None:
            return self
        if self.schema.get(column) in (None, pl.String):
            return self
        lazy = self.reopen(column)
        return replace(self, frame=lazy, schema=lazy.collect_schema())

    @property
    def columns(self) -> list[str]:
        """Column names, in the table's order."""
        return self.schema.names()


def scan(data: Tabular) -> AccountTable:
    """Open an account table without reading it.

    Parameters
    ----------
    data
        A Parquet, CSV or Arrow IPC file; a glob or a folder of such files, hive partitions
        included; a Polars frame; or what `sources.opened` takes.

    Raises
    ------
    AccountDataError
        If nothing is there, the format is unknown, or the file can't be read.
    """
    if isinstance(data, pl.DataFrame | pl.LazyFrame):
        lazy = data.lazy()
        return AccountTable("frame", lazy, lazy.collect_schema())
    found = opened(data, lambda other: scan(other).frame)
    if found is not None:

        def again(column: str) -> pl.LazyFrame:
            other = opened(data, lambda other: scan(other).with_text(column).frame)
            assert other is not None
            return other.frame

        reopen = again if isinstance(data, Source) and data.query is not None else None
        return AccountTable(
            found.name, found.frame, found.frame.collect_schema(), reopen, origin=found.origin
        )
    source = data.location if isinstance(data, Source) else str(data)
    try:
        if "://" in source:
            # In an object store text files alone come here; all else `opened` has opened.
            reopen = partial(_scan_csv, [source], None)
            lazy = reopen()
            name = without_credentials(source)
            return AccountTable(name, lazy, lazy.collect_schema(), reopen)
        kind, files = _locate(source)
        if kind in ("csv", "tsv"):
            reopen = partial(_scan_csv, files, Path(source))
            lazy = reopen()
            return AccountTable(source, lazy, lazy.collect_schema(), reopen)
        lazy = (_scan_parquet if kind == "parquet" else _scan_ipc)(files, Path(source))
        return AccountTable(source, lazy, lazy.collect_schema())
    except (PolarsError, OSError) as err:
        raise (unreadable if "://" in source else _unreadable)(source, err) from err


def likely_id(columns: Sequence[str]) -> str | None:
    """Return the column that is named like an account id, the usual names first.

    Examples
    --------
    >>> likely_id(["MRR", "Customer ID"]), likely_id(["MRR"])
    ('Customer ID', None)
    """
    lowered = {name.lower(): name for name in columns}
    usual = next((lowered[name] for name in ID_NAMES if name in lowered), None)
    spelt = (c for c in columns if _ID_NAME.fullmatch(re.sub(r"[^0-9a-z]+", "", c.lower())))
    return usual or next(spelt, None)


def collect(table: AccountTable, lazy: pl.LazyFrame) -> pl.DataFrame:
    """Run a query over the table, streaming.

    Raises
    ------
    AccountDataError
        If the source can't be read to its end.
    """
    try:
        return lazy.collect(engine="streaming")
    except (PolarsError, OSError) as err:
        raise _unreadable(table.source, err) from err


def write_rows(table: AccountTable, lazy: pl.LazyFrame, path: Path) -> None:
    """Write the rows of a query over the table to an Arrow file, streaming.

    Raises
    ------
    AccountDataError
        If the source can't be read to its end.
    ResourceError
        If there is no room for the file.
    """
    try:
        lazy.sink_ipc(path, compression="uncompressed")
    except (PolarsError, OSError) as err:
        if reason := _NO_ROOM.search(str(err)):
            raise no_room(path.parent.parent, reason[0]) from err
        raise _unreadable(table.source, err) from err


def no_room(folder: Path, reason: str) -> ResourceError:
    """Word that a table finds no room in a folder for large files."""
    return ResourceError(
        f"{folder}: no room for the account table: {reason}",
        hint="TMPDIR names another folder, and --memory lets the table stay in memory",
    )


def read_column(table: AccountTable, path: Path, name: str) -> pl.Series:
    """Read one column of what `write_rows` wrote."""
    return collect(table, pl.scan_ipc(path, glob=False).select(name)).to_series()


def refuse_empty(table: AccountTable) -> None:
    """Raise `AccountDataError` where the table has no row; types mean nothing then."""
    if collect(table, table.frame.head(1)).is_empty():
        raise AccountDataError(
            f"{table.source}: the table is empty", hint="does --data name the right file?"
        )


def _locate(source: str) -> tuple[str, list[Path]]:
    """Find the files that a source names and the format they share."""
    path = Path(source)
    if any(sign in source for sign in "*?[") and not path.exists():
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(anchor)) if path.is_absolute() else source
        files = sorted(found for found in anchor.glob(pattern) if found.is_file())
        if not files:
            raise AccountDataError(
                f'"{source}": no file matches',
                hint="quote the pattern, and look whether its folder is right",
            )
    elif path.is_dir():
        files = sorted(found for found in path.rglob("*") if found.suffix.lower() in _FORMATS)
        if not files:
            raise AccountDataError(
                f'"{source}": a folder without a data file in it',
                hint=f"expected files ending in {', '.join(sorted(_FORMATS))}",
            )
    elif path.is_file():
        files = [path]
    else:
        raise AccountDataError(
            f'"{source}": no such file or folder', hint="give --data a file, a folder or a glob"
        )
    kinds = {_FORMATS.get(file.suffix.lower(), file.suffix or "no ending") for file in files}
    if len(kinds) > 1 or not kinds <= set(_FORMATS.values()):
        raise AccountDataError(
            f'"{source}": expected files of one format, got {", ".join(sorted(kinds))}',
            hint=f"endings that are read: {', '.join(sorted(_FORMATS))}",
        )
    return kinds.pop(), files


def _scan_parquet(files: Sequence[Path], source: Path) -> pl.LazyFrame:
    scanned = partial(pl.scan_parquet, list(files), hive_partitioning=False, glob=False)
    return with_partitions(scanned, files, source)


def _scan_ipc(files: Sequence[Path], source: Path) -> pl.LazyFrame:
    escaped = [Path(escape(str(file))) for file in files]
    return with_partitions(partial(pl.scan_ipc, escaped, hive_partitioning=False), files, source)


def _scan_csv(
    files: Sequence[Path] | Sequence[str], source: Path | None, text: str | None = None
) -> pl.LazyFrame:
    """Scan text files, or with no source the one that a URL names."""
    separator = "\t" if str(files[0]).partition("?")[0].lower().endswith(".tsv") else ","
    if isinstance(files[0], Path):
        with files[0].open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline()
        names = [name.strip().strip('"') for name in first.rstrip("\r\n").split(separator)]
    else:
        names = pl.scan_csv(str(files[0]), separator=separator).collect_schema().names()
    # An id such as "00012" must stay the text that it is.
    texts = {name: pl.String() for name in names if name.lower() in ID_NAMES or name == text}

    def lazily(types: dict[str, pl.DataType], rows: int | None) -> pl.LazyFrame:
        scanned = partial(
            pl.scan_csv,
            [str(file) for file in files],
            separator=separator,
            glob=False,
            schema_overrides={**types, **texts},
            infer_schema_length=rows,
            try_parse_dates=True,
        )
        local = [file for file in files if isinstance(file, Path)]
        return scanned() if source is None else with_partitions(scanned, local, source)

    def guessed(rows: int | None) -> list[pl.Schema]:
        return [
            pl.scan_csv(
                file,
                separator=separator,
                glob=False,
                infer_schema_length=rows,
                try_parse_dates=True,
            ).collect_schema()
            for file in files
        ]

    def not_year_first(lazy: pl.LazyFrame, rows: int | None) -> list[str]:
        """Return the columns taken for dates by a guess at the order of day and month."""
        dates = [name for name, dtype in lazy.collect_schema().items() if dtype.is_temporal()]
        dates = [name for name in dates if name in names]
        found = set[str]()
        for file in files if dates else ():
            raw = pl.scan_csv(
                file, separator=separator, glob=False, infer_schema=False, n_rows=rows
            )
            present = [pl.col(n) for n in dates if n in raw.collect_schema()]
            year_first = raw.select(present).select(
                pl.all().str.strip_chars().str.contains(r"^(?:\d{4}[-/]|$)").all()
            )
            found |= {n for n, fine in year_first.collect().row(0, named=True).items() if not fine}
        return sorted(found)

    # Polars guesses by the first file. Where a column is empty there it says text, for another type
    # elsewhere; so all files are asked.
    lazy = lazily(_common(guessed(10_000)) if len(files) > 1 else {}, 10_000)
    try:
        texts |= dict.fromkeys(not_year_first(lazy, 10_000), pl.String())
        lazy = lazily(_common(guessed(10_000)) if len(files) > 1 else {}, 10_000)
        # Types guessed from the first rows may fail later on: one pass that keeps nothing tells.
        lazy.select(pl.all().count()).collect(engine="streaming")
    except PolarsError:
        text_wins = _common(guessed(None), text=True) if len(files) > 1 else {}
        texts |= dict.fromkeys(not_year_first(lazily(text_wins, None), None), pl.String())
        return lazily(text_wins, None)
    return lazy


def _common(schemas: list[pl.Schema], *, text: bool = False) -> dict[str, pl.DataType]:
    """Return each column's type over several files: text where nothing else fits all.

    Parameters
    ----------
    schemas
        A file's types each.
    text
        Whether a file that says text is believed, as after all its rows were read; else the column
        may just be empty there.
    """
    seen: dict[str, list[pl.DataType]] = {}
    for schema in schemas:
        for name, dtype in schema.items():
            seen.setdefault(name, []).append(dtype)
    common: dict[str, pl.DataType] = {}
    for name, dtypes in seen.items():
        kinds = set(dtypes) if text else set(dtypes) - {pl.String()} or {pl.String()}
        numbers = all(kind.is_numeric() for kind in kinds)
        common[name] = kinds.pop() if len(kinds) == 1 else pl.Float64() if numbers else pl.String()
    return common


def _unreadable(source: str, err: Exception) -> AccountDataError:
    reason = (str(err).strip() or type(err).__name__).splitlines()[0]
    return AccountDataError(
        f'"{source}": can\'t be read: {reason}',
        hint="is the file complete, and of the format its ending says?",
    )
