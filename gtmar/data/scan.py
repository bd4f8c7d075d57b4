"""Any source of an account table as a lazy Polars frame, and the one place that collects it.

Nothing is read here but names and types. Polars' and the file system's errors are worded here, in
`collect`, so that a broken file is named as such wherever it comes to light.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from glob import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from gtmar.data.csv_files import CSV_ENDINGS, TextFile, scan_text, text_file, with_partitions
from gtmar.data.sources import Source, Tabular, opened
from gtmar.data.text_columns import NULL_MARKERS, TEXT_TYPES, Texts, stated_kinds, texts_for
from gtmar.errors import AccountDataError, ResourceError
from gtmar.spec.model import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gtmar.spec.model import ScoringSpec

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
    **{ending: ending.split(".")[1] for ending in CSV_ENDINGS},
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
        return self._read(self.texts.identifying(filter(None, columns)))

    def read_for(self, spec: ScoringSpec) -> AccountTable:
        """Return the table with its text read as a spec wants it.

        A column of categories stays the text that it is; what is to be a number becomes one where
        all of its cells are. Dates stay text, for `dates` to read. Columns of formats that have
        types are left as they are, but for text that is to be a number.
        """
        table = self.with_text(spec.id)
        texts = texts_for(table._texts(spec.read), spec, table.columns, table._collected)
        return table._read(texts)

    def detected(self, reading: Reading | None = None) -> AccountTable:
        """Return the table with each text column as what its cells are."""
        texts = self._texts(reading or Reading())
        looked_at = texts.looked_at(texts.columns, self._collected)
        return self._read(looked_at.taken_as(stated_kinds(texts.reading)))

    def _texts(self, reading: Reading) -> Texts:
        """Return the columns of text as the source has them, to be read in a stated way."""
        if self.texts is None:
            dtypes = self.schema.items()
            names = tuple(name for name, dtype in dtypes if dtype in TEXT_TYPES)
            return Texts(self.frame, names, typeless=False, reading=reading)
        return self.texts.read_by(reading)

    def _read(self, texts: Texts) -> AccountTable:
        frame = texts.typed()
        return replace(self, frame=frame, schema=frame.collect_schema(), texts=texts)

    def _collected(self, lazy: pl.LazyFrame) -> pl.DataFrame:
        return collect(self, lazy)


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
        if found.text is not None:
            return _of_text(found.name, [found.text], None, found.origin)
        queried = isinstance(data, Source) and data.query is not None

        def requery(*texts: str) -> pl.LazyFrame:
            again = opened(data, lambda other: scan(other).with_text(*texts).frame)
            assert again is not None
            return again.frame

        return AccountTable(
            found.name,
            found.frame,
            found.frame.collect_schema(),
            found.origin,
            found.unread,
            requery=requery if queried else None,
        )
    source = data.location if isinstance(data, Source) else str(data)
    kind, files = _locate(source)
    try:
        if f".{kind}" in CSV_ENDINGS:
            return _of_text(source, [text_file(file) for file in files], Path(source), {})
        lazy, notes = _scan_typed(kind, files, Path(source))
        return AccountTable(source, lazy, lazy.collect_schema(), notes=tuple(notes))
    except (PolarsError, OSError) as err:
        raise _unreadable(source, err) from err


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


def _of_text(
    name: str, files: Sequence[TextFile], source: Path | None, origin: Mapping[str, str]
) -> AccountTable:
    """Open files of text, and see what their columns are."""
    raw = scan_text(files, source)
    schema = raw.collect_schema()
    columns = tuple(name for name, dtype in schema.items() if dtype == pl.String)
    comma = any(file.decimal_comma for file in files)
    texts = Texts(raw, columns, typeless=True, comma=comma)
    ids = [name for name in columns if name.lower() in ID_NAMES]
    return AccountTable(name, raw, schema, origin, texts=texts).detected().with_text(*ids)


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
        # A folder's .txt files are more often read than scored; a pipe or a device never ends.
        endings = {ending for ending, kind in _FORMATS.items() if kind != "txt"}
        files = sorted(
            found for found in path.rglob("*") if _ending(found) in endings and found.is_file()
        )
        if not files:
            raise AccountDataError(
                f'"{source}": a folder without a data file in it',
                hint=f"expected files ending in {', '.join(sorted(endings))}",
            )
    elif path.is_file():
        files = [path]
    else:
        raise AccountDataError(
            f'"{source}": no such file or folder', hint="give --data a file, a folder or a glob"
        )
    kinds = {_FORMATS.get(_ending(file), file.suffix or "no ending") for file in files}
    if len(kinds) > 1 or not kinds <= set(_FORMATS.values()):
        raise AccountDataError(
            f'"{source}": expected files of one format, got {", ".join(sorted(kinds))}',
            hint=f"endings that are read: {', '.join(sorted(_FORMATS))}",
        )
    return kinds.pop(), files


def _ending(path: Path) -> str:
    """Return what a file's name ends in, what it is packed by included."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() + ending if ending == ".gz" else ending


def _scan_typed(kind: str, files: Sequence[Path], source: Path) -> tuple[pl.LazyFrame, list[str]]:
    """Scan Parquet or Arrow files as one table, and say which columns some of them lack.

    A column that is an integer here and a double there is a double; what a file lacks is null.
    """
    scanner: Any = partial(pl.scan_parquet, glob=False) if kind == "parquet" else pl.scan_ipc

    def alike(part: Iterable[Path], **more: Any) -> pl.LazyFrame:
        named = [file if kind == "parquet" else Path(escape(str(file))) for file in part]
        lazy: pl.LazyFrame = scanner(named, hive_partitioning=False, **more)
        return lazy

    several = files if len(files) > 1 else []
    schemas = [tuple(alike([file]).collect_schema().items()) for file in several]
    if len(set(schemas)) <= 1:
        return with_partitions(partial(alike, files), files, source), []
    types: dict[str, list[pl.DataType]] = {}
    for schema in schemas:
        for name, dtype in schema:
            types.setdefault(name, []).append(dtype)
    common = {name: _common(dtypes) for name, dtypes in types.items()}
    if unlike := [name for name, dtype in common.items() if dtype is None]:
        listed = "; ".join(f'"{n}" is {" and ".join(map(str, set(types[n])))}' for n in unlike)
        raise AccountDataError(
            f'"{source}": its files differ in columns\' types: {listed}',
            hint="write the files with one schema",
        )

    def unlike_ones(**more: Any) -> pl.LazyFrame:
        frames = []
        pairs = zip(files, schemas, strict=True)
        for schema, group in groupby(pairs, key=lambda pair: pair[1]):
            frame = alike((file for file, _ in group), **more)
            frames.append(frame.cast({name: common[name] for name, _ in schema}))  # type: ignore[misc] # None is refused above
        return pl.concat(frames, how="diagonal")

    lacking = {name: len(files) - len(dtypes) for name, dtypes in types.items()}
    notes = [
        f'Column "{name}" is in {len(files) - count:,} of {len(files):,} files; accounts of the '
        "others have it unknown."
        for name, count in lacking.items()
        if count
    ]
    return with_partitions(unlike_ones, files, source), notes


def _common(dtypes: Sequence[pl.DataType]) -> pl.DataType | None:
    """Return the type that holds all that columns of these types hold; None for no such."""
    kinds = {dtype for dtype in dtypes if dtype != pl.Null}
    if len(kinds) <= 1:
        return kinds.pop() if kinds else pl.Null()
    if all(dtype.is_integer() for dtype in kinds) and pl.UInt64 not in kinds:
        return pl.Int64()
    if all(dtype.is_numeric() for dtype in kinds):
        return pl.Float64()
    if all(dtype in TEXT_TYPES for dtype in kinds):
        return pl.String()
    if all(dtype in (pl.Date, pl.Datetime) for dtype in kinds):
        zones = {getattr(dtype, "time_zone", None) for dtype in kinds}
        return pl.Datetime("us") if zones == {None} else None
    return None


def _unreadable(source: str, err: Exception) -> AccountDataError:
    reason = (str(err).strip() or type(err).__name__).splitlines()[0]
    return AccountDataError(
        f'"{source}": can\'t be read: {reason}',
        hint="is the file complete, and of the format its ending says?",
    )
