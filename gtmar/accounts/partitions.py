"""Columns that the names of folders hold, as Hive lays tables out, whatever the files' format."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import polars as pl

from gtmar.accounts.text_values import contents, converted
from gtmar.errors import AccountDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["with_partitions"]

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
