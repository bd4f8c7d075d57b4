"""Results in the kind of frame that the table came in: pandas, Arrow, else Polars."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_kind_of"]

T = TypeVar("T")


def in_kind_of(data: object, found: T, *, row_by_row: bool = False) -> T:
    """Return a frame, or a result with its frames, in the kind of the table that was given.

    Parameters
    ----------
    data
        The table as it was given. pandas gives pandas and Arrow gives Arrow. Polars, lazy or not,
        gives a Polars frame, and so do paths, and relations of DuckDB: these are queries, and a
        result is none.
    found
        A frame of Polars, or a result whose attributes are such frames. Other attributes stay.
    row_by_row
        Whether a frame has the rows of `data` in its order, so that it takes the index of pandas.
    """
    library = type(data).__module__.partition(".")[0]
    if library not in ("pandas", "pyarrow") or library not in sys.modules:
        return found
    index = data.index if library == "pandas" and row_by_row else None  # type: ignore[attr-defined] # pandas has it

    def converted(frame: pl.DataFrame) -> Any:
        if library == "pyarrow":
            return frame.to_arrow()
        return frame.to_pandas() if index is None else frame.to_pandas().set_index(index)

    return converted(found) if isinstance(found, pl.DataFrame) else _seen(found, converted)


def _seen(found: T, converted: Callable[[pl.DataFrame], Any]) -> T:
    """Return a result as it is seen from outside: its own methods go on with Polars."""

    def get(_self: object, name: str) -> Any:
        value = getattr(found, name)
        return converted(value) if isinstance(value, pl.DataFrame) else value

    kind = type(found)
    own = {"__getattribute__": get, "__repr__": lambda _self: repr(found), "__slots__": ()}
    seen: T = object.__new__(type(kind.__name__, (kind,), own))
    return seen
