"""Any source of an account table as a lazy Polars frame, and the one place that collects it.

Nothing is read here but names and types. Polars' and the file system's errors are worded here, in
`collect`, so that a broken file is named as such wherever it comes to light.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from polars.exceptions import PolarsError

from gtmar.accounts.sources import Source, Tabular, opened
from gtmar.errors import AccountDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["ID_NAMES", "AccountTable", "collect", "refuse_empty", "scan"]

#: Column names taken for the account id where the spec names none, best first.
ID_NAMES = ("account_id", "customer_id", "company_id", "accountid", "customerid", "id")

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

    def with_text(self, column: str | None) -> AccountTable:
        """Return the table with a column as the text that it is: an id such as 00012."""
        if column is None or self.reopen is None:
            return self
        if self.schema.get(column) in (None, pl.String):
            return self
        lazy = self.reopen(column)
        return AccountTable(self.source, lazy, lazy.collect_schema(), self.reopen)

    @property
    def columns(self) -> list[str]:
        """Column names, in the table's order."""
        return self.schema.names()


def scan(data: Tabular) -> AccountTable:
    """Open an account table without reading it.

    Parameters
    ----------
    data
        A Parquet, CSV or Arrow IPC file; a glob of such files; a folder of Parquet files, hive
        partitions included; or a Polars frame.

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
        return AccountTable(
            found.name, found.frame, found.frame.collect_schema(), origin=found.origin
        )
    source = data.location if isinstance(data, Source) else str(data)
    kind, files = _locate(source)
    try:
        if kind in ("csv", "tsv"):
            lazy, reopen = _scan_csv(files), partial(_scan_csv, files)
            return AccountTable(source, lazy, lazy.collect_schema(), reopen)
        lazy = (_scan_parquet if kind == "parquet" else _scan_ipc)(files, Path(source))
        return AccountTable(source, lazy, lazy.collect_schema())
    except (PolarsError, OSError) as err:
        raise _unreadable(source, err) from err


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
    endings = {file.suffix for file in files}
    if source.is_dir() and len(endings) == 1:
        # As a pattern, so that partitions are read from the folders below this one alone.
        pattern = Path(escape(str(source))) / "**" / f"*{endings.pop()}"
        return pl.scan_parquet(pattern, hive_partitioning=True)
    in_hive = all("=" in file.parent.name for file in files)
    return pl.scan_parquet(list(files), hive_partitioning=in_hive, glob=False)


def _scan_ipc(files: Sequence[Path], _source: Path) -> pl.LazyFrame:
    return pl.scan_ipc([Path(escape(str(file))) for file in files])


def _scan_csv(files: Sequence[Path], text: str | None = None) -> pl.LazyFrame:
    separator = "\t" if files[0].suffix.lower() == ".tsv" else ","
    with files[0].open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
    names = [name.strip().strip('"') for name in first.rstrip("\r\n").split(separator)]
    # An id such as "00012" must stay the text that it is.
    texts = {name: pl.String for name in names if name.lower() in ID_NAMES or name == text}

    def lazily(rows: int | None) -> pl.LazyFrame:
        return pl.scan_csv(
            list(files),
            separator=separator,
            glob=False,
            schema_overrides=texts,
            infer_schema_length=rows,
            try_parse_dates=True,
        )

    lazy = lazily(10_000)
    try:
        # Types guessed from the first rows may fail later on: one pass that keeps nothing tells.
        lazy.select(pl.all().count()).collect(engine="streaming")
    except PolarsError:
        return lazily(None)
    return lazy


def _unreadable(source: str, err: Exception) -> AccountDataError:
    reason = (str(err).strip() or type(err).__name__).splitlines()[0]
    return AccountDataError(
        f'"{source}": can\'t be read: {reason}',
        hint="is the file complete, and of the format its ending says?",
    )
