"""Columns that the names of folders hold, as Hive lays tables out, whatever the files' format."""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl

from gtmar.data.text_columns import contents, converted
from gtmar.errors import AccountDataError, culprits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "CSV_ENDINGS",
    "TextFile",
    "refuse_repeated",
    "scan_text",
    "text_file",
    "with_partitions",
]


#: Where a scan keeps the file of each row; no column of a table is called so.
_PATH = "\x00file"
#: How Hive writes an unknown value as a folder's name.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def with_partitions(
    scanned: Callable[..., pl.LazyFrame], files: Sequence[Path], source: Path
) -> pl.LazyFrame:
    """Scan files, and add the columns that folders such as ``region=emea`` name.

    Parameters
    ----------
    scanned
        Scans the files; takes `include_file_paths`, a column for each row's file.
    files
        The files, in the order in which they are scanned.
    source
        The folder that the user named, or a pattern; only folders below it name columns.

    Raises
    ------
    AccountDataError
        If files lie in folders that name different columns.
    """
    named = [_partitions(file.parent, source) for file in files]
    if not any(named):
        return scanned()
    if len({tuple(found) for found in named}) > 1:
        raise AccountDataError(
            f'"{source}": expected folders that name the same columns, got '
            f"{' and '.join(sorted({'/'.join(found) or 'none' for found in named}))}",
            hint="--data with a pattern can name some of the files",
        )
    place = pl.col(_PATH)
    columns = {
        name: place.replace_strict(
            list(map(str, files)), _typed([found[name] for found in named]), default=None
        )
        for name in named[0]
    }
    return scanned(include_file_paths=_PATH).with_columns(**columns).drop(_PATH)


def _partitions(folder: Path, source: Path) -> dict[str, str | None]:
    """Read names and values off a folder's path: below the source, where that is a folder."""
    below = folder.relative_to(source) if source.is_dir() else folder
    pairs = (part.split("=", 1) for part in below.parts if "=" in part)
    return {name: None if value == _NO_VALUE else unquote(value) for name, value in pairs}


def _typed(values: list[str | None]) -> pl.Series:
    """Take texts for numbers or dates where all of them are, codes such as 01 for texts."""
    texts = pl.DataFrame({"value": pl.Series(values, dtype=pl.String)})
    kind = contents(texts.lazy(), ["value"], pl.LazyFrame.collect, nulls=())["value"].kind
    return texts.select(converted(pl.col("value"), kind).alias("value")).to_series()


#: How the names of text tables end; each may be compressed.
CSV_ENDINGS = tuple(
    f"{ending}{packed}" for ending in (".csv", ".tsv", ".txt") for packed in ("", ".gz")
)
#: Separators that files use, the likeliest first.
_SEPARATORS = (",", ";", "\t", "|")
#: Bytes that the header is looked for in.
_HEAD = 2**18
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class TextFile:
    """A file of separated text."""

    #: Its path or URL.
    location: str | Path
    separator: str
    #: Its columns, without blanks around their names.
    columns: tuple[str, ...]
    #: Lines before the header: one where the file begins by naming its separator.
    before: int

    @property
    def dialect(self) -> tuple[object, ...]:
        """What files must share to be read as one."""
        return self.separator, self.columns, self.before

    @property
    def decimal_comma(self) -> bool:
        """Whether a comma may be a decimal one."""
        return self.separator != ","


def text_file(location: str | Path) -> TextFile:
    """Look at the first lines of a file.

    Parameters
    ----------
    location
        A path, or the URL of a file in an object store.

    Raises
    ------
    AccountDataError
        If the file is empty, isn't UTF-8, or names a column twice.
    """
    lines = _first_lines(location)
    before, separator = 0, ""
    if lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == len("sep=;"):
        separator, before = lines[0][4], 1
    header = lines[before:]
    if not header or not header[0].strip():
        raise _refused(location, "empty CSV" if not "".join(lines).strip() else "no header line")
    if not separator:
        widths = {sign: len(_fields(header, sign)) for sign in _SEPARATORS}
        separator = max(widths, key=lambda sign: widths[sign])
    fields = enumerate(_fields(header, separator), start=1)
    names = tuple(name.strip() or f"column_{place}" for place, name in fields)
    refuse_repeated(str(location), names)
    return TextFile(location, separator, names, before)


def _fields(lines: list[str], separator: str) -> list[str]:
    try:
        return next(csv.reader(lines, delimiter=separator))
    except (csv.Error, StopIteration):
        return [lines[0]]


def refuse_repeated(source: str, names: Iterable[str]) -> None:
    """Refuse a table that has two columns of one name.

    Raises
    ------
    AccountDataError
        With their names.
    """
    listed = list(names)
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise AccountDataError(
            f'"{source}": more than one column is called {culprits(twice)}',
            hint="rename or drop one of them: gtmar can't know which is meant",
        )


def scan_text(files: Sequence[TextFile], source: Path | None) -> pl.LazyFrame:
    """Return files of text as one lazy frame, every column text.

    Parameters
    ----------
    files
        The files. What one lacks of the others' columns is null there.
    source
        The folder or pattern that was named, below which folders name columns; None where there
        are no such folders.
    """

    def scanned(**more: Any) -> pl.LazyFrame:
        alike = groupby(files, key=lambda file: file.dialect)
        frames = [_scan_alike(list(group), **more) for _, group in alike]
        return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")

    paths = [Path(file.location) for file in files]
    return scanned() if source is None else with_partitions(scanned, paths, source)


def _scan_alike(files: Sequence[TextFile], **more: Any) -> pl.LazyFrame:
    first = files[0]
    shape: dict[str, Any] = {
        "separator": first.separator,
        "skip_lines": first.before,
        "infer_schema": False,
        "glob": False,
        **more,
    }
    if isinstance(first.location, str):
        # Polars looks for the file here where it is to name the columns itself.
        lazy = pl.scan_csv(first.location, **shape)
        return lazy.rename(dict(zip(lazy.collect_schema().names(), first.columns, strict=True)))
    paths = [Path(file.location) for file in files]
    names = list(first.columns)
    return pl.scan_csv(paths, with_column_names=lambda _: names, **shape)


def _first_lines(location: str | Path) -> list[str]:
    """Return a file's first lines as text."""
    if isinstance(location, str):
        # One column, so that each line is a cell.
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
        lines = [f"{cell or ''}\n" for cell in head.to_series(0)]
        if lines:
            lines[0] = lines[0].removeprefix("\ufeff")
        return lines or [""]
    raw = _unpacked(location) if location.suffix.lower() == ".gz" else _head(location)
    if raw.startswith(_UTF16) or b"\x00" in raw[:200]:
        raise _refused(
            location,
            "UTF-16, and not UTF-8 text",
            hint=f"iconv -f UTF-16 -t UTF-8 {location.name} > utf8.csv; or save it as CSV UTF-8",
        )
    try:
        # A sign that is cut at the end of what was read is no fault.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw)
    except UnicodeDecodeError as err:
        line = raw[: err.start].count(b"\n") + 1
        raise _refused(
            location,
            f"invalid utf-8 in line {line}, so perhaps Latin-1 or Windows-1252",
            hint=f"iconv -f WINDOWS-1252 -t UTF-8 {location.name} > utf8.csv; or save it as UTF-8",
        ) from err
    return text.splitlines(keepends=True) or [""]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(_HEAD)
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise _refused(path, f"broken gzip ({err})") from err


def _refused(location: str | Path, reason: str, *, hint: str | None = None) -> AccountDataError:
    return AccountDataError(
        f'"{location}": can\'t be read: {reason}',
        hint=hint or "is the file complete, and of the format its ending says?",
    )
