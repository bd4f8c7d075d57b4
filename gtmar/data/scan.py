"""Any source of an account table as a lazy Polars frame, and the one place that collects it.

Of formats that have types only names and types are read here; what the columns of text files hold
takes a pass over them. Polars' and the file system's errors are worded here, in `collect`, so that
a broken file is named as such wherever it comes to light.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from polars.exceptions import PolarsError

from gtmar.data.memory_budget import default_budget
from gtmar.data.sources import Source, Tabular, opened
from gtmar.data.table_files import (
    CSV_ENDINGS,
    broken_file,
    located,
    scan_text,
    scan_typed,
    text_file,
)
from gtmar.data.text_columns import NULL_MARKERS, TEXT_TYPES, Texts, stated_kinds
from gtmar.errors import AccountDataError
from gtmar.spec.model import Reading
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gtmar.data.table_files import TextFile

__all__ = ["ID_NAMES", "AccountTable", "collect", "likely_id", "refuse_empty", "scan"]

#: How many times its bytes text takes in memory, and of a table's memory what it may take.
_TIMES, _SHARE = 5, 0.5
#: Column names taken for the account id where the spec names none, best first.
ID_NAMES = ("account_id", "customer_id", "company_id", "accountid", "customerid", "id")
#: The same under any spelling, for where the name is written down or nothing depends on it.
_ID_NAME = re.compile(
    r"(account|acct|customer|cust|company|client|user|tenant|workspace|org|organi[sz]ation|"
    r"subscriber)u?u?id|(account|acct|customer|cust)(no|nr|number|key)|id"
)


@dataclass(frozen=True)
class AccountTable:
    """A lazy account table and what to call it."""

    #: What messages and the journal call it: the path as given, or "frame".
    source: str
    frame: pl.LazyFrame
    schema: pl.Schema
    #: What a run's record says of the source beside its name: version, query.
    origin: Mapping[str, str] = field(default_factory=dict)
    #: Columns that the source has and that can't be read, with the reason.
    unread: Mapping[str, str] = field(default_factory=dict)
    #: What is worth knowing of how its files fit together, and of what was made of its columns.
    notes: tuple[str, ...] = ()
    #: Its columns of text as the source has them, and what their cells are.
    texts: Texts | None = None
    #: Runs a query once more with columns of its tables as the text that they are.
    requery: Callable[..., pl.LazyFrame] | None = field(default=None, compare=False)

    @property
    def columns(self) -> list[str]:
        """Column names, in the table's order."""
        return self.schema.names()

    @property
    def nulls(self) -> tuple[str, ...]:
        """Cells of text that mean nothing, where text is to be something else."""
        return NULL_MARKERS if self.texts is None else self.texts.nulls

    def unlike(self, column: str) -> tuple[str, str] | None:
        """Word what keeps a text column from being numbers, or dates: problem and hint."""
        return None if self.texts is None else self.texts.unlike(column)

    def with_text(self, *columns: str | None) -> AccountTable:
        """Return the table with columns as the text that they are: an id such as 00012."""
        if self.requery is not None:
            texts = [name for name in columns if name is not None]
            if all(self.schema.get(name, pl.String) == pl.String for name in texts):
                return self
            lazy = self.requery(*texts)
            return replace(self, frame=lazy, schema=lazy.collect_schema(), texts=None)
        if self.texts is None or not self.texts.typeless:
            return self
        return self.read_as(self.texts.identifying(filter(None, columns)))

    def detected(self, reading: Reading | None = None) -> AccountTable:
        """Return the table with each text column as what its cells are."""
        texts = self.texts_by(reading or Reading())
        looked_at = texts.looked_at(texts.columns, lambda lazy: collect(self, lazy))
        return self.read_as(looked_at.taken_as(stated_kinds(texts.reading)))

    def texts_by(self, reading: Reading) -> Texts:
        """Return the columns of text as the source has them, to be read in a stated way."""
        if self.texts is None:
            names = tuple(name for name, dtype in self.schema.items() if dtype in TEXT_TYPES)
            return Texts(self.frame, names, typeless=False, reading=reading)
        return self.texts.read_by(reading)

    def read_as(self, texts: Texts) -> AccountTable:
        """Return the table with its columns of text as what they are taken for."""
        frame = texts.typed()
        return replace(self, frame=frame, schema=frame.collect_schema(), texts=texts)


def scan(data: Tabular) -> AccountTable:
    """Open an account table.

    It is a Parquet, CSV or Arrow IPC file; a glob or a folder of such files, hive partitions
    included; a Polars frame; or what `sources.opened` takes. Raises `AccountDataError` if nothing
    is there, the format is unknown, or a file can't be read.
    """
    if isinstance(data, pl.DataFrame | pl.LazyFrame):
        lazy = data.lazy()
        return AccountTable("frame", lazy, lazy.collect_schema())
    there = opened(data, lambda other: scan(other).frame)
    if there is not None:
        if there.text is not None:
            return _of_text(there.name, [there.text], None, there.origin)
        queried = isinstance(data, Source) and data.query is not None

        def requery(*texts: str) -> pl.LazyFrame:
            again = opened(data, lambda other: scan(other).with_text(*texts).frame)
            assert again is not None
            return again.frame

        return AccountTable(
            there.name,
            there.frame,
            there.frame.collect_schema(),
            there.origin,
            there.unread,
            requery=requery if queried else None,
        )
    source = data.location if isinstance(data, Source) else str(data)
    kind, files = located(source)
    try:
        if f".{kind}" in CSV_ENDINGS:
            return _of_text(source, [text_file(file) for file in files], Path(source), {})
        lazy, notes = scan_typed(kind, files, Path(source))
        return AccountTable(source, lazy, lazy.collect_schema(), notes=tuple(notes))
    except (PolarsError, OSError) as err:
        raise broken_file(source, first_line(err)) from err


def _of_text(
    name: str, files: Sequence[TextFile], source: Path | None, origin: Mapping[str, str]
) -> AccountTable:
    """Open files of text, read once where memory suffices, and see what their columns are."""
    raw = scan_text(files, source)
    schema = raw.collect_schema()
    table = AccountTable(name, raw, schema, origin)
    if _TIMES * sum(file.size for file in files) <= _SHARE * default_budget():
        raw = collect(table, raw).lazy()
    columns = tuple(name for name, dtype in schema.items() if dtype == pl.String)
    signs = {file.separator for file in files}
    texts = Texts(raw, columns, typeless=True, comma=signs != {","}, ask=";" in signs)
    ids = [name for name in columns if name.lower() in ID_NAMES]
    return replace(table, frame=raw, texts=texts).detected().with_text(*ids)


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
    """Run a query over the table, streaming; a source that breaks off is an `AccountDataError`."""
    try:
        return lazy.collect(engine="streaming")
    except (PolarsError, OSError) as err:
        raise broken_file(table.source, first_line(err)) from err


def refuse_empty(table: AccountTable) -> None:
    """Raise `AccountDataError` where the table has no row; types mean nothing then."""
    if collect(table, table.frame.head(1)).is_empty():
        raise AccountDataError(
            f"{table.source}: the table is empty", hint="does --data name the right file?"
        )
