"""Scans the local files of a table, or text files at URLs, as one lazy Polars frame.

A source is a file, a folder or a glob. The separator and header of text files are detected. Columns
in the names of folders, as in Hive's layout, are added.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import math
import re
import zlib
from dataclasses import dataclass
from functools import partial
from glob import escape
from itertools import groupby
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl

from gtmar.data.text_columns import TEXT_TYPES, contents, converted
from gtmar.errors import AccountDataError, alike, culprits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "FORMATS",
    "SCANS",
    "SOURCES_FILE",
    "TextFile",
    "broken_file",
    "ending_of",
    "located",
    "named_partitions",
    "refuse_alike",
    "refuse_repeated",
    "scan_text",
    "scan_typed",
    "snapshot_origin",
    "text_file",
    "told_origin",
]


#: Scan functions of the formats with types; the other formats are separated text.
SCANS: dict[str, Callable[..., pl.LazyFrame]] = {"parquet": pl.scan_parquet, "ipc": pl.scan_ipc}
#: Format by a file's ending; text may be compressed.
FORMATS = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **{f".{kind}{packed}": kind for kind in ("csv", "tsv", "txt") for packed in ("", ".gz")},
    **dict.fromkeys((".arrow", ".ipc", ".feather"), "ipc"),
}
#: Separators, the most common first.
_SEPARATORS = (",", ";", "\t", "|")
#: Assumed compression ratio of gzipped text.
_PACKED = 10
#: Bytes read to find the header.
_HEAD = 2**18
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
#: A cell that is a number, a share or an amount, and so no column's name.
_NUMBER = re.compile(r"[^\w\s]*\d[\d\s.,:/%-]*\D{0,3}")
#: How Polars says that a row has more cells than the header.
_RAGGED = "found more fields than defined in"
#: Column of a scan with each row's file. No column of a user's table has this name.
_PATH = "\x00file"
#: Hive's folder name for a null value.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def broken_file(source: str | Path, reason: str, *, hint: str | None = None) -> AccountDataError:
    """Return the error for a file that can't be read."""
    if hint is None and reason.startswith(_RAGGED):
        reason = "a row has more cells than the first line has names"
        hint = "is the first line the header, and each text quoted that has the separator in it?"
    return AccountDataError(
        f'"{source}": can\'t be read: {reason}',
        hint=hint or "is the file complete, and of the format its ending says?",
    )


def refuse_repeated(source: str, names: Iterable[str]) -> None:
    """Raise `AccountDataError` if a table has two columns of one name."""
    listed = list(names)
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise AccountDataError(
            f'"{source}": more than one column is called {culprits(twice)}',
            hint="rename or drop one of them: gtmar can't know which is meant",
        )


def refuse_alike(source: str, names: Iterable[str]) -> None:
    """Raise `AccountDataError` if names of columns differ by capitals alone.

    That is for tables that DuckDB reads: either name would give the first of these columns.
    """
    if found := alike(names):
        raise AccountDataError(
            f'"{source}": {culprits(found)} differ by capitals alone, and SQL can\'t tell them '
            "apart",
            hint="rename or drop all but one of them",
        )


# ---- which files --------------------------------------------------------------------------------


def located(source: str) -> tuple[str, list[Path]]:
    """Return the format and the sorted files of a source: a file, a folder or a glob.

    Raises
    ------
    AccountDataError
        If there is no file, or the files have no readable format in common.
    """
    path = Path(source)
    if any(sign in source for sign in "*?[") and not path.exists():
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(anchor)) if path.is_absolute() else source
        files = sorted(file for file in anchor.glob(pattern) if file.is_file())
        problem, hint = "no file matches", "quote the pattern, and look whether its folder is right"
    elif path.is_dir():
        # The .txt files of a folder are usually documents, not tables. Pipes and devices are left
        # out because reading them may never end.
        endings = {ending for ending, kind in FORMATS.items() if kind != "txt"}
        files = sorted(f for f in path.rglob("*") if ending_of(f) in endings and f.is_file())
        problem = "a folder without a data file in it"
        hint = f"expected files ending in {', '.join(sorted(endings))}"
    else:
        files = [path] if path.is_file() else []
        problem, hint = "no such file or folder", "give --data a file, a folder or a glob"
    if not files:
        raise AccountDataError(f'"{source}": {problem}', hint=hint)
    kinds = {FORMATS.get(ending_of(file), file.suffix or "no ending") for file in files}
    if len(kinds) > 1 or not kinds <= set(FORMATS.values()):
        raise AccountDataError(
            f'"{source}": expected files of one format, got {", ".join(sorted(kinds))}',
            hint=f"endings that are read: {', '.join(sorted(FORMATS))}",
        )
    return kinds.pop(), files


def ending_of(path: Path) -> str:
    """Return a file's ending in lower case, with .gz included: ``.csv.gz``."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() + ending if ending == ".gz" else ending


# ---- columns in folders' names ------------------------------------------------------------------


def _with_partitions(
    scanned: Callable[..., pl.LazyFrame], files: Sequence[Path], source: Path
) -> pl.LazyFrame:
    """Scan files and add the columns in names of folders below a source, as ``region=emea``."""
    named = [_partitions(file.parent, source) for file in files]
    if not any(named):
        return scanned()
    if len({tuple(names) for names in named}) > 1:
        raise AccountDataError(
            f'"{source}": expected folders that name the same columns, got '
            f"{' and '.join(sorted({'/'.join(names) or 'none' for names in named}))}",
            hint="--data with a pattern can name some of the files",
        )
    paths = pl.Series(list(map(str, files)))
    columns = {}
    for name in named[0]:
        # Values become numbers or dates if all of them are. Codes such as 01 stay text.
        texts = pl.DataFrame({name: pl.Series([values[name] for values in named], dtype=pl.String)})
        kind = contents(texts.lazy(), [name], pl.LazyFrame.collect, nulls=())[name].kind
        typed = texts.select(converted(pl.col(name), kind)).to_series()
        columns[name] = pl.col(_PATH).replace_strict(paths, typed, default=None)
    return scanned(include_file_paths=_PATH).with_columns(**columns).drop(_PATH)


def named_partitions(parts: Iterable[str]) -> dict[str, str | None]:
    """Return values by column from the parts of a path such as ``region=emea``; null is None."""
    pairs = (part.split("=", 1) for part in parts if "=" in part)
    return {name: None if value == _NO_VALUE else unquote(value) for name, value in pairs}


def _partitions(folder: Path, source: Path) -> dict[str, str | None]:
    """Return the partition values in a folder's path, or in its part below a source folder."""
    below = folder.relative_to(source) if source.is_dir() else folder
    return named_partitions(below.parts)


# ---- the origin of snapshots --------------------------------------------------------------------


#: File beside a snapshot's table that describes its sources.
SOURCES_FILE = "sources.json"
#: Metadata key of a snapshot by the key of a run's record.
_SAID = {
    "recipe": "gtmar_recipe",
    "recipe_conventions": "gtmar_conventions",
    "recipe_sources": "gtmar_versions",
}


def snapshot_origin(files: Sequence[str | Path]) -> dict[str, str]:
    """Return the recipe, conventions and sources of Parquet files that gtmar snapshot wrote.

    Empty for other files, and for files of different recipes. For several files only the entries
    that all of them share are returned.
    """
    origins = []
    for file in files:
        origin = told_origin(pl.read_parquet_metadata(file))
        if origin and (beside := Path(file).with_name(SOURCES_FILE)).is_file():
            origin["recipe_sources"] = beside.read_text(encoding="utf-8").strip()
        origins.append(origin)
        # A table of files from several recipes has no origin, whatever the other files are.
        if origin.get("recipe") is None or origin["recipe"] != origins[0]["recipe"]:
            return {}
    first = origins[0] if origins else {}
    return {key: text for key, text in first.items() if all(text == f.get(key) for f in origins)}


def told_origin(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the entries for a run's record from a snapshot's metadata; empty for other tables."""
    return {key: metadata[name] for key, name in _SAID.items() if name in metadata}


# ---- Parquet and Arrow --------------------------------------------------------------------------


def scan_typed(kind: str, files: Sequence[Path], source: Path) -> tuple[pl.LazyFrame, list[str]]:
    """Scan Parquet or Arrow files as one table, with notes on columns that some files lack.

    A column gets the common type of all files: an integer in one file and a double in another is a
    double. It is null for the rows of files that lack it.

    Raises
    ------
    AccountDataError
        If a column's types have no common type, or folders name different columns.
    """

    def alike(part: Iterable[Path], **more: Any) -> pl.LazyFrame:
        if kind == "parquet":
            return pl.scan_parquet(list(part), glob=False, hive_partitioning=False, **more)
        named = [Path(escape(str(file))) for file in part]
        return pl.scan_ipc(named, hive_partitioning=False, **more)

    several = files if len(files) > 1 else []
    schemas = [tuple(alike([file]).collect_schema().items()) for file in several]
    if len(set(schemas)) <= 1:
        return _with_partitions(partial(alike, files), files, source), []
    types: dict[str, list[pl.DataType]] = {}
    for name, dtype in (pair for schema in schemas for pair in schema):
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

    notes = [
        f'Column "{name}" is in {len(dtypes):,} of {len(files):,} files; accounts of the '
        "others have it unknown."
        for name, dtypes in types.items()
        if len(dtypes) < len(files)
    ]
    return _with_partitions(unlike_ones, files, source), notes


def _common(dtypes: Sequence[pl.DataType]) -> pl.DataType | None:
    """Return the common type of columns of these types; None if there is none."""
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


# ---- separated text -----------------------------------------------------------------------------


@dataclass(frozen=True)
class TextFile:
    """A file of separated text with its detected form."""

    #: Path, or URL as a string.
    location: str | Path
    separator: str
    #: Column names without surrounding blanks; ``column_N`` where a name is empty.
    columns: tuple[str, ...]
    #: Lines before the header: 1 if the file begins with a line such as ``sep=;``, else 0.
    before: int

    @property
    def size(self) -> float:
        """Estimated uncompressed size in bytes; infinity for a URL."""
        if isinstance(self.location, str):
            return math.inf
        packed = self.location.suffix.lower() == ".gz"
        return self.location.stat().st_size * (_PACKED if packed else 1)

    @property
    def dialect(self) -> tuple[object, ...]:
        """The properties that files must share to be scanned together."""
        return self.separator, self.columns, self.before


def text_file(location: str | Path) -> TextFile:
    """Detect the separator and the columns of a text file from its first lines.

    Parameters
    ----------
    location
        A path, or a string with the URL of a file in an object store.

    Raises
    ------
    AccountDataError
        If the file has no header, repeats a column's name, or is no UTF-8 text.
    """
    lines = _first_lines(location)
    before, separator = 0, ""
    if lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == len("sep=;"):
        separator, before = lines[0][4], 1
    header = lines[before:]
    if not header or not header[0].strip():
        reason = "no header line" if "".join(lines).strip() else "empty CSV"
        raise broken_file(location, reason)
    if not separator:
        separator = max(_SEPARATORS, key=lambda sign: len(_fields(header, sign)))
    fields = _fields(header, separator)
    names = tuple(name.strip() or f"column_{i}" for i, name in enumerate(fields, start=1))
    _refuse_title(location, header, separator, before)
    refuse_repeated(str(location), names)
    return TextFile(location, separator, names, before)


def _refuse_title(location: str | Path, lines: list[str], separator: str, before: int) -> None:
    """Refuse a file whose first line is a title, filled up to the width of the header below it."""
    reader = csv.reader(lines, delimiter=separator)
    try:
        title = [cell.strip() for cell in next(reader)]
        if len(title) < 2 or sum(map(bool, title)) > 1:
            return
        for row in reader:
            named = [cell.strip() for cell in row if cell.strip()]
            if len(named) > 1:
                break
        else:
            return
    except (csv.Error, StopIteration):
        return
    if any(_NUMBER.fullmatch(cell) for cell in named):
        # Accounts, under a header with names left out.
        return
    line = before + reader.line_num
    first = culprits(filter(None, title)) or "nothing"
    without = f"without it the file begins with line {line:,}"
    if isinstance(location, Path):
        without = _through(f"tail -n +{line}", location)
    raise broken_file(
        location,
        f"the first line has {first} and no more for {len(title):,} columns, "
        f"line {line:,} has {len(named):,} names: {culprits(named)}",
        hint=f"is the first line a title? {without}",
    )


def _fields(lines: list[str], separator: str) -> list[str]:
    try:
        return next(csv.reader(lines, delimiter=separator))
    except (csv.Error, StopIteration):
        return [lines[0]]


def scan_text(files: Sequence[TextFile], source: Path | None) -> pl.LazyFrame:
    """Scan text files as one lazy frame of text columns.

    A column is null for the rows of files that lack it. Folders below `source`, a folder or glob,
    may name further columns; None leaves folders' names out.
    """

    def scanned(**more: Any) -> pl.LazyFrame:
        alike = groupby(files, key=lambda file: file.dialect)
        frames = [_scan_alike(list(group), **more) for _, group in alike]
        return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")

    paths = [Path(file.location) for file in files]
    return scanned() if source is None else _with_partitions(scanned, paths, source)


def _scan_alike(files: Sequence[TextFile], **more: Any) -> pl.LazyFrame:
    first = files[0]
    names = list(first.columns)
    any_cell = pl.any_horizontal(pl.col(name).str.strip_chars() != "" for name in names)
    shape: dict[str, Any] = {"separator": first.separator, "skip_lines": first.before}
    shape |= {"infer_schema": False, "glob": False, **more}
    if isinstance(first.location, str):
        # With `with_column_names` Polars would look for a local file, so columns are renamed after.
        lazy = pl.scan_csv(first.location, **shape)
        lazy = lazy.rename(dict(zip(lazy.collect_schema().names(), names, strict=True)))
    else:
        paths = [Path(file.location) for file in files]
        lazy = pl.scan_csv(paths, with_column_names=lambda _: names, **shape)
    # Lines whose cells are all blank are no accounts.
    return lazy.filter(any_cell.fill_null(value=False))


def _first_lines(location: str | Path) -> list[str]:
    """Return a file's first lines as text, without a byte order mark."""
    if isinstance(location, str):
        # The separator is a byte that text doesn't contain, so each line is one cell.
        head = pl.scan_csv(
            location,
            has_header=False,
            infer_schema=False,
            separator="\x1f",
            quote_char=None,
            n_rows=50,
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
        ).collect()
        lines = [f"{cell or ''}\n" for cell in head.to_series(0)] or [""]
        return [lines[0].removeprefix("\ufeff"), *lines[1:]]
    try:
        with (gzip.open if location.suffix.lower() == ".gz" else open)(location, "rb") as file:
            raw = file.read(_HEAD)
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise broken_file(location, f"broken gzip ({err})") from err
    # Of plain text in UTF-16 every other byte is a NUL.
    if raw.startswith(_UTF16) or 4 * raw[:200].count(b"\x00") > len(raw[:200]):
        raise broken_file(
            location,
            "UTF-16, and not UTF-8 text",
            hint=f"{_through('iconv -f UTF-16 -t UTF-8', location)}; or save it as CSV UTF-8",
        )
    if b"\x00" in raw[:200]:
        line = raw[: raw.index(b"\x00")].count(b"\n") + 1
        raise broken_file(
            location,
            f"a NUL byte in line {line}, which no text has",
            hint=_through(r"tr -d '\000'", location),
        )
    if b"\r" in raw and b"\n" not in raw:
        mended = r"tr '\r' '\n'"
        raise broken_file(
            location,
            "its lines end in CR alone",
            hint=f"{_through(mended, location)}; or save it as CSV UTF-8",
        )
    try:
        # The incremental decoder accepts a character that is cut at the end of the read bytes.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw)
    except UnicodeDecodeError as err:
        line = raw[: err.start].count(b"\n") + 1
        raise broken_file(
            location,
            f"invalid utf-8 in line {line}, so perhaps Latin-1 or Windows-1252",
            hint=f"{_through('iconv -f WINDOWS-1252 -t UTF-8', location)}; or save it as UTF-8",
        ) from err
    return text.splitlines(keepends=True) or [""]


def _through(command: str, location: Path) -> str:
    """Word the shell's line that sends a file through a command, from where the user stands."""
    name = quote(str(location))
    packed = location.suffix.lower() == ".gz"
    return (
        f"gzip -dc {name} | {command} > mended.csv"
        if packed
        else f"{command} < {name} > mended.csv"
    )
