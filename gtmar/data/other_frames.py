"""Conversion of pandas, Arrow and DuckDB tables to Polars, and of results back to their library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
from polars.exceptions import PanicException, PolarsError

from gtmar.data.locations import quoted
from gtmar.data.table_files import refuse_repeated
from gtmar.errors import AccountDataError, UsageError, culprits
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_DIGITS", "TOO_WIDE", "in_kind_of", "readable", "taken_in"]

#: Digits of the widest decimal that Polars reads, and why a column of wider ones can't be.
MOST_DIGITS = 38
TOO_WIDE = f"of decimals with more than {MOST_DIGITS} digits; cast it to a narrower one"

#: DuckDB types that a Polars frame can't hold.
_FOREIGN = ("interval", "union", "bignum", "varint", "variant", "time with time zone", "geometry")

T = TypeVar("T")


def taken_in(data: Any) -> tuple[pl.DataFrame, dict[str, str]]:
    """Convert another library's table to a Polars frame.

    Parameters
    ----------
    data
        A pandas or Arrow frame, a DuckDB relation, or any object with an Arrow C stream.

    Returns
    -------
    tuple of DataFrame and dict
        The frame, and the reason by column for columns that can't be converted.

    Raises
    ------
    UsageError
        If `data` is no table.
    AccountDataError
        If no column can be read, or two columns have one name.
    """
    kind = type(data)
    if hasattr(data, "read_all"):
        # A reader of Arrow's batches, column by column as a table of them.
        data = data.read_all()
    library = kind.__module__.split(".")[0]
    frame: pl.DataFrame | None = None
    unread: dict[str, str] = {}
    if library == "pandas":
        # `from_pandas` turns NaN into null, since pandas writes unknown values as NaN.
        wide = data.to_frame() if data.ndim == 1 else data
        if levels := _named_levels(wide):
            wide = wide.reset_index(level=levels)
        names, types = list(map(str, wide.columns)), list(wide.dtypes)
        frame, unread = _column_by_column(
            lambda some: pl.from_pandas(wide.iloc[:, some]), names, types
        )
    elif library in ("duckdb", "_duckdb") and hasattr(data, "types"):
        selected, unread = readable(data)
        frame = data.project(", ".join(selected.values())).pl()
    elif hasattr(data, "select") and hasattr(data, "column_names"):
        names, types = list(data.column_names), list(data.schema.types)
        frame, unread = _column_by_column(
            lambda some: pl.DataFrame(data.select(some)), names, types
        )
    elif hasattr(data, "__arrow_c_stream__"):
        frame = pl.DataFrame(data)
    if frame is None:
        raise UsageError(
            f"an account table can't be a {kind.__module__}.{kind.__qualname__}",
            hint="give a path, a Polars, pandas or Arrow frame, or a DuckDB relation",
        )
    return frame, unread


def _named_levels(data: Any) -> list[Any]:
    """Return the names in a pandas index that no column has; `to_parquet` writes them too."""
    return [name for name in data.index.names if name not in (None, "", *data.columns)]


def _column_by_column(
    convert: Callable[[list[int]], pl.DataFrame], names: list[str], types: list[Any]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Convert a frame, or else each of its columns, with the reason for those that fail."""
    refuse_repeated("frame", names)
    # Polars panics at decimals of 256 bits, within lists and structs too.
    wide = {i for i, dtype in enumerate(types) if "decimal256" in str(dtype)}
    failures = (PolarsError, TypeError, ValueError, ArithmeticError, PanicException)
    tried = [i for i in range(len(names)) if i not in wide]
    unread = {names[i]: TOO_WIDE for i in sorted(wide)}
    try:
        if tried:
            return convert(tried), unread
    except failures:
        pass
    frames = []
    for i in tried:
        try:
            frames.append(convert([i]))
        except failures as err:
            unread[names[i]] = f"of values that no column has together: {first_line(err)}"
    if not frames:
        raise AccountDataError("frame: no column can be read: " + culprits(names))
    return pl.concat(frames, how="horizontal"), unread


def readable(relation: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return the SQL for each column of a relation that can be read, and reasons for the others."""

    def foreign(dtype: Any) -> bool:
        nested = dtype.id in ("list", "array", "struct", "map")
        parts = [part for _, part in dtype.children] if nested else []
        return dtype.id in _FOREIGN or any(foreign(part) for part in parts if hasattr(part, "id"))

    types = dict(zip(relation.columns, relation.types, strict=True))
    refuse_repeated("the table", relation.columns)
    unread = {
        name: f"of DuckDB's type {dtype}, neither number, date nor category"
        for name, dtype in types.items()
        if foreign(dtype)
    }
    if len(unread) == len(types):
        raise AccountDataError("no column can be read: " + culprits(types))
    selected = {name: quoted(name) for name in types if name not in unread}
    for name in selected:
        if types[name].id == "timestamp_s":
            # An infinite timestamp_s would become a timestamp of 1969 in the frame.
            selected[name] = f"cast({quoted(name)} as timestamp) as {quoted(name)}"
    return selected, unread


def in_kind_of(data: object, result: T, *, row_by_row: bool = False) -> T:
    """Convert a result's Polars frames to the library of the table that the caller gave.

    Parameters
    ----------
    data
        The caller's table. For pandas the result is pandas, for Arrow it is Arrow. For Polars
        frames, lazy or not, for paths and for DuckDB relations it is Polars; a relation is a query,
        which a result can't be.
    result
        A Polars frame, or an object some of whose attributes are Polars frames. Its other
        attributes are unchanged.
    row_by_row
        Whether a frame has the rows of `data` in their order, so that it gets the pandas index.
    """
    library = type(data).__module__.partition(".")[0]
    if library not in ("pandas", "pyarrow") or library not in sys.modules:
        return result
    index = data.index if library == "pandas" and row_by_row else None  # type: ignore[attr-defined] # pandas has it

    def converted(frame: pl.DataFrame) -> Any:
        if library == "pyarrow":
            return frame.to_arrow()
        if index is None:
            return frame.to_pandas()
        levels = [name for name in map(str, _named_levels(data)) if name in frame.columns]
        return frame.drop(levels).to_pandas().set_index(index)

    return converted(result) if isinstance(result, pl.DataFrame) else _seen(result, converted)


def _seen(result: T, converted: Callable[[pl.DataFrame], Any]) -> T:
    """Return a view of a result whose frames are converted; its own methods still see Polars."""

    def get(_self: object, name: str) -> Any:
        value = getattr(result, name)
        return converted(value) if isinstance(value, pl.DataFrame) else value

    kind = type(result)
    own = {"__getattribute__": get, "__repr__": lambda _self: repr(result), "__slots__": ()}
    seen: T = object.__new__(type(kind.__name__, (kind,), own))
    return seen
