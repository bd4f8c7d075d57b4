"""Rows that shards read by themselves, each a run of the source's rows, and what is gathered of it.

Whoever asks holds no table: while it loads, ids and one column at a time; then outcomes, and the
accounts that are held out. The order of rows is the one of a table that is read in one piece, so
that the parts put together are its arrays.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from gtmar.data.contract import id_column
from gtmar.data.matrix import class_offsets, read_only
from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.data.scan import collect
from gtmar.data.storage import Storage
from gtmar.errors import AccountDataError, UsageError, culprits
from gtmar.spec.model import COMPARISONS
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = ["CodeOrder", "OwnRows", "gathered", "part_of", "refused", "rows_of", "rows_read"]

_CODES = len(Movement) * ACTIVATION_STATES
#: How Polars words that the second row is cut out where files are read, and not behind that.
_CUT_IN_SCAN = "SLICE: Positive { offset: 1, len: 1 }"


def refused(source: str, reason: str) -> UsageError:
    """Word why shards can't read the rows of a table by themselves."""
    return UsageError(
        f'shards can\'t read their own rows of "{source}": {reason}',
        hint="without --own-rows this process reads the table, and sends each shard its part",
    )


def rows_of(
    table: AccountTable, query: Callable[[pl.LazyFrame], pl.LazyFrame], spec: ScoringSpec
) -> int:
    """Count the rows of a table that shards can read by themselves; `UsageError` for any other.

    `query` is what they are to read of it.
    """
    reason = None
    compared = [g.metric for g in spec.guardrails if g.metric in COMPARISONS and g.metric != "gain"]
    if compared:
        reason = f"guardrail {culprits(compared)} compares accounts with how they were at the start"
    elif id_column(spec, table.columns) is None:
        reason = "its rows have no account id, and are told apart by all that they contain"
    elif table.several is not None:
        reason = "an account has rows of several dates"
    elif _CUT_IN_SCAN not in query(part_of(table, 1, 2)).explain(optimizations=pl.QueryOptFlags()):
        reason = (
            "only Parquet, Arrow and Delta files of one schema can be read by runs of rows, and "
            "only where none of them are left out"
        )
    if reason is not None:
        raise refused(table.source, reason)
    return int(collect(table, table.frame.select(pl.len())).item())


def part_of(table: AccountTable, first: int, last: int) -> pl.LazyFrame:
    """Return the rows from `first` to before `last`; of files no others are read."""
    return table.frame.slice(first, last - first)


def rows_read(source: str, query: pl.LazyFrame) -> pl.DataFrame:
    """Run a query over rows of a source; `AccountDataError` where they can't be read."""
    try:
        return query.collect(engine="streaming")
    except (PolarsError, OSError) as err:
        raise AccountDataError(
            f"{source}: a shard can't read its rows: {first_line(err)}",
            hint="with --own-rows each machine of the cluster has to reach the source, under "
            "the same path, or with the credentials in its own environment",
        ) from err


class OwnRows:
    """What a shard holds: first the columns that it read, then arrays of them.

    Parameters
    ----------
    source
        What the table is called.
    query
        Reads the shard's rows, and no others. It runs when a row is first asked for.
    """

    def __init__(self, source: str, query: pl.LazyFrame) -> None:
        self._source, self._query = source, query
        self._parts: list[AccountMatrix] = []

    @cached_property
    def _columns(self) -> dict[str, pl.Series]:
        return rows_read(self._source, self._query).to_dict()

    def size(self) -> int:
        """Count the rows."""
        return len(self._columns["movement"])

    def column(self, name: str, *, last: bool = False) -> pl.Series:
        """Return a column; `last` where nobody will ask for it again."""
        return self._columns.pop(name) if last else self._columns[name]

    def freeze(self, how: Callable[..., list[AccountMatrix]], held_out: NDArray[np.int8]) -> str:
        """Make arrays of the columns, searched and held out; return a hash of those searched.

        `how` is `freeze` with all arguments but these. Another reading of the same rows gives the
        same hash.
        """
        self._columns.pop("key", None)
        self._parts = how(self._columns, held_out=held_out, storage=Storage(), both=True)
        del self._columns
        state = hashlib.sha256()
        for name, values in sorted(_arrays(self.search).items()):
            state.update(f"{name} {values.dtype.str} {len(values)}\n".encode())
            state.update(values.data)
        return state.hexdigest()

    @property
    def search(self) -> AccountMatrix:
        """The accounts searched."""
        return self._parts[0]

    def days(self) -> list[NDArray[np.int64] | None]:
        """Return the days that its accounts took, of those searched and of those held out."""
        return [part.days for part in self._parts]

    def number_days(self, days: Sequence[NDArray[np.int64] | None]) -> None:
        """Number days as they are in all shards together: the same, in the same order."""
        self._parts = [_numbered(*pair) for pair in zip(self._parts, days, strict=True)]

    def outline(self, part: int) -> AccountMatrix:
        """Return the searched (0) or the held out part (1) without any account."""
        return self._parts[part].part(0, 0)

    def array(self, part: int, name: str) -> NDArray[Any]:
        """Return an array of one of the two by its name, as `gathered` asks for it."""
        return _arrays(self._parts[part])[name]

    def let_go(self) -> None:
        """Keep the accounts searched alone."""
        del self._parts[1:]


def _arrays(matrix: AccountMatrix) -> dict[str, NDArray[Any]]:
    """Return the arrays of a matrix that have a value an account."""
    arrays = {name: getattr(matrix, name) for name in ("codes", "start", "end", "ltv", "day_codes")}
    arrays |= {
        f"x.{name}": column for name, column in zip(matrix.names, matrix.columns, strict=True)
    }
    arrays |= {f"s.{each.column}": each.codes for each in matrix.segments}
    arrays |= {f"f.{name}": flag for name, flag in matrix.flags.items()}
    return {name: values for name, values in arrays.items() if values is not None}


def _numbered(matrix: AccountMatrix, days: NDArray[np.int64] | None) -> AccountMatrix:
    if matrix.days is None or matrix.day_codes is None or days is None:
        return matrix
    places = np.append(np.searchsorted(days, matrix.days), -1).astype(np.int32)
    return replace(matrix, day_codes=read_only(places[matrix.day_codes]), days=days)


@dataclass(frozen=True)
class CodeOrder:
    """Where the rows of each shard are among all, which stand in the order of their codes.

    Rows of one code stand in the order of the table, as the shards do.
    """

    #: Shape (S, C): how many rows of each code a shard has, and where among all the first one is.
    sizes: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, codes: Sequence[NDArray[np.int16]]) -> CodeOrder:
        """Take the codes of each shard's rows, ascending."""
        sizes = np.stack([np.bincount(each, minlength=_CODES) for each in codes]).astype(np.int64)
        # By code, and by shard within.
        ends = np.cumsum(sizes.T.ravel()).reshape(sizes.T.shape).T
        return cls(sizes, ends - sizes)

    def joined(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Put the values of each shard's rows where they are among all."""
        whole = np.empty(int(self.sizes.sum()), dtype=parts[0].dtype)
        for part, sizes, places in zip(parts, self.sizes, self.places, strict=True):
            ends = np.cumsum(sizes)
            for start, size, end in zip(
                places.tolist(), sizes.tolist(), ends.tolist(), strict=True
            ):
                whole[start : start + size] = part[end - size : end]
        return whole


def gathered(
    outline: AccountMatrix,
    fetch: Callable[[str], list[NDArray[Any]]],
    storage: Storage,
    *,
    features: bool,
) -> tuple[AccountMatrix, CodeOrder]:
    """Put together what shards have of the accounts searched, or held out.

    Parameters
    ----------
    outline
        One shard's part without any account.
    fetch
        Asks all shards for an array by name.
    storage
        Keeps the arrays.
    features
        False leaves the columns with the shards: the matrix then has none, and scores are theirs to
        give.

    Returns
    -------
    AccountMatrix, CodeOrder
        The same arrays as of a table that was read in one piece; and where each shard's rows are.
    """
    codes = fetch("codes")
    order = CodeOrder.of(codes)
    every = np.arange(int(order.sizes.sum()), dtype=np.int32)

    def kept(values: NDArray[Any]) -> NDArray[Any]:
        return storage.keep(values, every)

    arrays = {"codes": kept(order.joined(codes))}
    for name in _arrays(outline):
        if name != "codes" and (features or not name.startswith(("x.", "f."))):
            arrays[name] = kept(order.joined(fetch(name)))
    optional: dict[str, Any] = {
        name: arrays[name] for name in ("start", "end", "ltv", "day_codes") if name in arrays
    }
    classes = arrays["codes"] // ACTIVATION_STATES
    if "ltv" in arrays:
        cohort = (arrays["ltv"] > 0) & (classes < Movement.FORMER_LOST)
        optional["ltv_rows"] = read_only(np.flatnonzero(cohort).astype(np.int32))
    matrix = replace(
        outline,
        codes=arrays["codes"],
        offsets=class_offsets(classes),
        columns=tuple(arrays[f"x.{name}"] for name in outline.names) if features else (),
        flags={name: arrays[f"f.{name}"] for name in outline.flags} if features else {},
        segments=tuple(replace(s, codes=arrays[f"s.{s.column}"]) for s in outline.segments),
        **optional,
    )
    return matrix, order
