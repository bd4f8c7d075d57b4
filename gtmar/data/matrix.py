"""AccountMatrix: N accounts as frozen integer arrays, ready for the kernel.

Rows are sorted by movement class and activation, so that each cohort of the kernel is a contiguous
range of rows. Every tally is an exact sum, so no result depends on that order.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from gtmar.data.contract import Checked, as_of_date, check_contract
from gtmar.data.encode import as_text, encoded_terms, flag_values
from gtmar.data.outcomes import (
    ACTIVATION_STATES,
    Movement,
    OutcomeColumns,
    canonical_outcomes,
    lacks_outcome,
    movement_class,
)
from gtmar.data.rules import OWN
from gtmar.data.scan import AccountTable, collect
from gtmar.data.split import (
    Copies,
    KeyOrder,
    find_copies,
    fingerprint,
    held_out,
    holdout_mask,
    row_key,
)
from gtmar.data.storage import Columns, Storage
from gtmar.errors import AccountDataError, SpecError, culprits
from gtmar.plain_data import some
from gtmar.spec.combination import Combination
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS, ScoringSpec, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import date

    from numpy.typing import NDArray


__all__ = [
    "MOST_SAMPLED",
    "AccountDates",
    "AccountMatrix",
    "Accounts",
    "RowShards",
    "Segments",
    "add_segments",
    "check_reach",
    "class_offsets",
    "freeze",
    "load_accounts",
    "own_value",
    "part",
    "read_only",
    "search_sample",
]


#: Name of the segment of accounts without a value.
_UNKNOWN = "(unknown)"
_BYTES: dict[type[pl.DataType], int] = {pl.Int8: 1, pl.Int16: 2, pl.Int32: 4, pl.Int64: 8}
#: Bytes per row of `codes`, `ltv_rows` and `day_codes`.
_OTHER_BYTES = 10
#: Bytes per row of `account_of` and `date_of`, in a table of several dates.
_DATED_BYTES = 6
#: Bytes per row while a table is read: its key (about 30), the key's order, seven outcomes and the
#: movement class.
_READING_BYTES = 110
#: Prefix of a column that is kept as codes.
_CODED = "\x00coded."
#: Limit for a set's points times its weights, in 1/10,000ths of a point, so that their division in
#: doubles is exact, in SQL too.
_SHARED_REACH = 2**50
#: Accounts that a first spec is fitted to at most. More would not improve it.
MOST_SAMPLED = 200_000


def _ranks(codes: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the rank of each code among 0 and the codes that there are, shape (N,)."""
    return np.asarray(np.unique(np.append(0, codes), return_inverse=True)[1][1:])


@dataclass(frozen=True)
class Segments:
    """The segments of one column, one per value, over N accounts."""

    column: str
    #: V values, sorted as text; ``(unknown)`` is last where some accounts have no value.
    values: tuple[str, ...]
    #: int8, shape (N,), in [0, V): index of each account's value.
    codes: NDArray[np.int8]

    def rows(self, index: int) -> NDArray[np.intp]:
        """Return the row numbers of a segment's accounts, ascending."""
        return np.flatnonzero(self.codes == index)

    def name(self, index: int) -> str:
        """Return a segment's name, ``COLUMN=VALUE``."""
        return f"{self.column}={self.values[index]}"


@dataclass(frozen=True)
class AccountMatrix:
    """Encoded features and outcomes of N accounts, F features; every array is read-only."""

    #: Term names, F of them, in the spec's order.
    names: tuple[str, ...]
    #: F arrays of shape (N,): encoded values in 1/10,000ths, in the narrowest integer type. None of
    #: them where `RowShards` hold the features.
    columns: tuple[NDArray[np.integer], ...]
    #: Shape (N,), ascending: movement class x 3 + activation (0 unknown, 1 missed, 2 reached).
    codes: NDArray[np.int16]
    #: Shape (12,): first row of each movement class; the last entry is N.
    offsets: NDArray[np.int64]
    outcomes: OutcomeColumns
    #: Shape (N,), in cents, 0 where unknown; None where the table has no such column.
    start: NDArray[np.int64] | None = None
    end: NDArray[np.int64] | None = None
    ltv: NDArray[np.int64] | None = None
    #: Row numbers of the LTV cohort (current, LTV above 0), ascending; None without LTV.
    ltv_rows: NDArray[np.int32] | None = None
    #: Shape (N,): index of an activated account's days in `days`, else -1; None without the column.
    day_codes: NDArray[np.int32] | None = None
    #: Distinct days to activation, ascending.
    days: NDArray[np.int64] | None = None
    segments: tuple[Segments, ...] = ()
    #: Shape (N,): number of each row's account, in the order of ids. None unless the table has
    #: several dates; a row is then one account on one date.
    account_of: NDArray[np.int32] | None = None
    #: Shape (N,): index of each row's date in `dates`; None unless the table has several dates.
    date_of: NDArray[np.int16] | None = None
    #: Ascending.
    dates: tuple[date, ...] = ()
    #: Shape (N,): each row's position in the table, from 0; None unless that is asked for.
    numbers: NDArray[np.int32] | None = None
    #: int8, shape (N,), 1 or 0, by name: the flags of the spec's `Combination`.
    flags: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    @property
    def accounts(self) -> int:
        """N, the number of rows. In a table of several dates an account has a row on each."""
        return len(self.codes)

    @property
    def distinct(self) -> int:
        """Number of distinct accounts."""
        return self.accounts if self.account_of is None else len(np.unique(self.account_of))

    @property
    def content(self) -> Iterator[NDArray[np.integer]]:
        """Columns and segments, each of shape (N,), that know of no value of other accounts.

        A code is a rank among the values of the whole table, the holdout's included; here it is the
        rank among 0, which is unknown in a column, and the values of these rows.
        """
        for name, column in zip(self.names, self.columns, strict=True):
            yield _ranks(column) if name.startswith(_CODED) else column
        for each in self.segments:
            yield _ranks(each.codes)

    def rows(self, first: Movement, last: Movement) -> slice:
        """Return the range of rows whose movement class lies between two, both included."""
        return slice(int(self.offsets[first]), int(self.offsets[last + 1]))

    def part(self, first: int, last: int) -> AccountMatrix:
        """Return the rows [first, last); all arrays but `offsets` and `ltv_rows` are views."""
        ltv_rows = None
        if self.ltv_rows is not None:
            low, high = np.searchsorted(self.ltv_rows, (first, last))
            ltv_rows = read_only(self.ltv_rows[low:high] - np.int32(first))
        offsets = read_only(self.offsets.clip(first, last) - first)
        return self._of_rows(lambda values: values[first:last], offsets, ltv_rows)

    def take(self, rows: NDArray[np.intp]) -> AccountMatrix:
        """Copy the rows of these numbers, which must ascend; repeated numbers repeat their row."""
        ltv_rows = None
        if self.ltv_rows is not None:
            valued = np.zeros(self.accounts, dtype=bool)
            valued[self.ltv_rows] = True
            ltv_rows = read_only(np.flatnonzero(valued[rows]).astype(np.int32))
        offsets = class_offsets(self.codes[rows] // ACTIVATION_STATES)
        return self._of_rows(lambda values: read_only(values[rows]), offsets, ltv_rows)

    def _of_rows(
        self,
        chosen: Callable[[NDArray[Any]], NDArray[Any]],
        offsets: NDArray[np.int64],
        ltv_rows: NDArray[np.int32] | None,
    ) -> AccountMatrix:
        optional: dict[str, Any] = {
            name: chosen(values)
            for name in ("start", "end", "ltv", "day_codes", "account_of", "date_of", "numbers")
            if (values := getattr(self, name)) is not None
        }
        return replace(
            self,
            columns=tuple(chosen(column) for column in self.columns),
            codes=chosen(self.codes),
            offsets=offsets,
            ltv_rows=ltv_rows,
            segments=tuple(replace(each, codes=chosen(each.codes)) for each in self.segments),
            flags={name: chosen(flag) for name, flag in self.flags.items()},
            **optional,
        )

    @property
    def paying_rows(self) -> slice:
        """The revenue cohort: current accounts with start MRR above 0."""
        unlabelled = self.rows(Movement.UNLABELLED_PAYING, Movement.UNLABELLED_PAYING)
        if unlabelled.start < unlabelled.stop:
            return unlabelled
        return self.rows(Movement.LOST_PAYING, Movement.KEPT_EXPANDED)


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Return values as a contiguous array that can't be changed; no copy where they are."""
    values = np.ascontiguousarray(values)
    values.flags.writeable = False
    return values


def freeze(
    columns: Columns,
    names: list[str],
    outcomes: OutcomeColumns,
    held_out: NDArray[np.int8],
    storage: Storage,
    segments: Mapping[str, tuple[str, ...]] | None = None,
    rows: AccountDates | None = None,
    flags: Sequence[str] = (),
    *,
    numbered: bool = False,
    both: bool = False,
) -> list[AccountMatrix]:
    """Sort rows by movement class and activation, and return the search part and the holdout.

    Each column is released once it is frozen, so that the table is never in memory twice.

    Parameters
    ----------
    columns
        Columns of N rows: the canonical outcomes, `movement`, the encoded values of a term as
        ``x.NAME``, a flag as ``f.NAME``, and the codes of a segment column as ``s.NAME``.
    names
        Terms, F of them.
    outcomes
        The outcome columns of the table.
    held_out
        Shape (N,): 1 for rows of the holdout, else 0.
    storage
        Where the arrays are kept.
    segments
        The values of each segment column.
    rows
        The account and date of each row, in a table of several dates.
    flags
        Names of the flags.
    numbered
        Whether to keep each row's position in the table.
    both
        Whether to return both parts, even one without rows.

    Returns
    -------
    list of AccountMatrix
        The parts that have rows, or `both`: the search part first, then the holdout.
    """
    movement = columns.pop("movement").to_numpy()
    activated = columns.pop("activated")
    states = activated.fill_null(-1).to_numpy() + np.int8(1)
    codes = movement.astype(np.int8) * np.int8(ACTIVATION_STATES) + states
    # numpy's stable sort of small integers is a radix sort, with one pass per byte.
    orders = [
        rows[np.argsort(codes[rows], kind="stable")].astype(np.int32)
        for rows in (np.flatnonzero(held_out == part) for part in (0, 1))
        if len(rows) or both
    ]
    reached = None
    if outcomes.has("days_to_activate"):
        reached = columns.pop("days").set((activated != 1).fill_null(value=True), None)
    money = (outcomes.has("mrr"), outcomes.basis is not None, outcomes.has("ltv"))
    present = list(compress(("start", "end", "ltv"), money))
    parts: list[dict[str, NDArray[Any]]] = [{} for _ in orders]
    coded = (*(f"s.{n}" for n in segments or ()), *(f"f.{n}" for n in flags))
    for name in (*(f"x.{n}" for n in names), *coded, *present):
        known = columns.pop(name).fill_null(0).to_numpy()
        for part, order in zip(parts, orders, strict=True):
            part[name] = storage.keep(known, order)

    def whole(values: NDArray[np.int32]) -> NDArray[np.int32]:
        return storage.keep(values, np.arange(len(values), dtype=np.int32))

    def frozen(part: dict[str, NDArray[Any]], order: NDArray[np.int32]) -> AccountMatrix:
        optional = {name: part[name] for name in present}
        if "ltv" in part:
            cohort = (part["ltv"] > 0) & (movement[order] < Movement.FORMER_LOST)
            optional["ltv_rows"] = whole(np.flatnonzero(cohort).astype(np.int32))
        if reached is not None:
            day_codes, optional["days"] = _days(reached.gather(order))
            optional["day_codes"] = whole(day_codes)
        if rows is not None:
            optional["account_of"] = storage.keep(rows.accounts, order)
            optional["date_of"] = storage.keep(rows.dates, order)
        if numbered:
            optional["numbers"] = whole(order)
        return AccountMatrix(
            names=tuple(names),
            columns=tuple(part[f"x.{name}"] for name in names),
            codes=storage.keep(codes.astype(np.int16), order),
            offsets=class_offsets(movement[order]),
            outcomes=outcomes,
            segments=tuple(Segments(n, v, part[f"s.{n}"]) for n, v in (segments or {}).items()),
            dates=() if rows is None else rows.days,
            flags={name: part[f"f.{name}"] for name in flags},
            **optional,
        )

    return list(map(frozen, parts, orders))


@dataclass(frozen=True)
class AccountDates:
    """The account and the date of each of N rows, in a table of several dates."""

    #: int32, shape (N,): number of the account, in the order of ids.
    accounts: NDArray[np.int32]
    #: int16, shape (N,): index of the date in `days`.
    dates: NDArray[np.int16]
    #: Ascending.
    days: tuple[date, ...]

    @classmethod
    def of(cls, keys: pl.Series, day: pl.Series, days: tuple[date, ...]) -> AccountDates:
        """Number accounts in the order of their keys, and look up each row's day in `days`."""
        accounts = (keys.rank("dense") - 1).cast(pl.Int32).to_numpy()
        dates = np.searchsorted(np.array(days, dtype="datetime64[D]"), day.to_numpy())
        return cls(accounts, dates.astype(np.int16), days)

    @property
    def last(self) -> NDArray[np.intp]:
        """The row number of each account's latest date, ascending."""
        order = np.lexsort((self.dates, self.accounts))
        ends = np.diff(self.accounts[order], append=-1) != 0
        return np.sort(order[ends])

    def keys(self, keys: pl.Series) -> pl.Series:
        """Return a key for each row: its account's key joined with its date."""
        texts = pl.Series(list(map(str, self.days))).gather(self.dates.astype(np.uint32))
        return keys + "\x1f" + texts


def class_offsets(classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the first row of each movement class, and the number of rows last."""
    sizes = np.bincount(classes, minlength=len(Movement))
    return read_only(np.concatenate([[0], np.cumsum(sizes)]))


def _days(reached: pl.Series) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    days = reached.drop_nulls().unique().sort().to_numpy()
    codes = np.searchsorted(days, reached.fill_null(0).to_numpy()).astype(np.int32)
    codes[reached.is_null().to_numpy()] = -1
    return codes, read_only(days)


def _segment_values(table: AccountTable, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return each column's V values, sorted as text, the unknown last.

    Where a value is itself ``(unknown)``, the unknown gets one more pair of brackets.
    """
    if not columns:
        return {}
    listed = [as_text(name, table.schema[name]).unique().implode().alias(name) for name in columns]
    segments = {}
    for name, values in collect(table, table.frame.select(listed)).row(0, named=True).items():
        known = sorted(value for value in values if value is not None)
        label = _UNKNOWN
        while label in known:
            label = f"({label})"
        segments[name] = (*known, *([label] if None in values else []))
    return segments


def _segment_codes(values: Mapping[str, tuple[str, ...]], schema: pl.Schema) -> list[pl.Expr]:
    """Return each account's index in the values of each segment column, as `s.COLUMN`."""
    return [
        as_text(name, schema[name])
        .replace_strict(
            pl.Series(listed, dtype=pl.String),
            pl.Series(range(len(listed)), dtype=pl.Int8),
            # Only null is not listed, and the unknown is the last value.
            default=pl.lit(len(listed) - 1, dtype=pl.Int8),
            return_dtype=pl.Int8,
        )
        .alias(f"s.{name}")
        for name, listed in values.items()
    ]


def add_segments(accounts: Accounts, columns: Sequence[str]) -> Accounts:
    """Return accounts, whose rows are numbered, with the segments of these columns alone.

    A later table, which has its own, is left out.
    """
    table, checked = accounts.table, accounts.checked
    values = _segment_values(table, columns)
    outcomes = canonical_outcomes(checked.outcomes, table.schema).values()
    lazy = table.frame.select(*outcomes, *_segment_codes(values, table.schema))
    if checked.dropped:
        lazy = lazy.filter(~lacks_outcome(checked.outcomes))
    codes = collect(table, lazy.select(f"s.{name}" for name in values))

    def of(matrix: AccountMatrix) -> AccountMatrix:
        assert matrix.numbers is not None, "accounts are loaded with `numbered`"
        own = {name: codes[f"s.{name}"].to_numpy()[matrix.numbers] for name in values}
        segments = tuple(Segments(n, listed, read_only(own[n])) for n, listed in values.items())
        return replace(matrix, segments=segments)

    own_holdout = accounts.holdout if accounts.later is None else None
    holdout = None if own_holdout is None else of(own_holdout)
    return replace(accounts, search=of(accounts.search), holdout=holdout, later=None)


@dataclass(frozen=True)
class Accounts:
    """A loaded account table: the search part, the holdout, and their fingerprints."""

    table: AccountTable
    checked: Checked
    search: AccountMatrix
    #: None where there is no holdout.
    holdout: AccountMatrix | None
    outcomes_fingerprint: str
    features_fingerprint: str
    #: Of ids and segments; None where the spec has no segments.
    segments_fingerprint: str | None = None
    #: Whether the arrays are mapped from files because they exceed the memory budget.
    on_disk: bool = False
    #: The later table that is the whole holdout; None where the holdout is a part of this table.
    later: Accounts | None = None
    #: Accounts of equal content under several ids; None where there are none.
    copies: Copies | None = None
    #: Number of accounts that repeat another one, in the search part and in the holdout.
    repeated: tuple[int, int] = (0, 0)
    #: Each row's canonical id, in the table's order; None unless requested by `keep_ids`, or where
    #: the table has no ids.
    ids: pl.Series | None = None


class RowShards(Protocol):
    """Who reads the rows of a table in this process's place, some of them each."""

    def facts(
        self, table: AccountTable, query: Callable[[pl.LazyFrame], pl.LazyFrame], spec: ScoringSpec
    ) -> list[dict[str, Any]]:
        """Ask a query of parts of the rows; give its one row for each."""
        ...

    def columns(
        self, table: AccountTable, query: Callable[[pl.LazyFrame], pl.LazyFrame]
    ) -> AbstractContextManager[Columns]:
        """Have what a query gives of a frame of rows read; give its columns."""
        ...

    def freeze(
        self, how: Callable[..., list[AccountMatrix]], held_out: NDArray[np.int8], storage: Storage
    ) -> list[AccountMatrix]:
        """Have `freeze`, which `how` is, but for the rows, done; give what `gathered` does."""
        ...


def load_accounts(
    table: AccountTable,
    spec: ScoringSpec,
    *,
    as_of: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    memory: int | None = None,
    copies_together: bool = True,
    coded: Sequence[str] = (),
    keep_ids: bool = False,
    numbered: bool = False,
    shards: RowShards | None = None,
) -> Accounts:
    """Validate, encode and split an account table.

    Parameters
    ----------
    as_of, drop_unlabelled, set_aside
        As for `check_contract`.
    memory
        Bytes that the table may take; arrays that need more are mapped from a temporary file. None
        for half of the machine's memory. Changes no result.
    copies_together
        Whether copies, see `find_copies`, are kept in one part of the split, drawn by the smallest
        of their ids. False for runs made before copies were kept together.
    coded
        Table columns to add after the encoded terms. A cell becomes the rank of its `own_value`
        among the column's distinct values, from 1, or 0 where unknown.
    keep_ids
        Whether to keep the id of each row, which takes about 30 bytes an account.
    numbered
        Whether to keep each row's position in the table, by which `add_segments` adds segments.
    shards
        Who reads the rows and holds the features of the accounts searched; None for this process.
        Changes no result, but the matrix of the accounts searched has no columns.

    Raises
    ------
    ViolationsError
        If the table breaks the data contract.
    AccountDataError
        If the table is empty or can't be read.
    UsageError
        If shards can't read rows of such a table by themselves.
    SpecError
        If a score could leave Int64 within the spec's bounds.
    ResourceError
        If the arrays don't fit in memory and the disk is full.

    Notes
    -----
    Cost: two streaming passes over the needed columns, one to validate and one to encode. Memory
    holds the encoded columns and one more of them; with the arrays on disk it holds the ids, which
    must be sorted and compared.
    """
    check = partial(
        check_contract,
        table,
        spec,
        as_of=as_of,
        drop_unlabelled=drop_unlabelled,
        set_aside=set_aside,
    )
    checked = check(count=None if shards is None else partial(shards.facts, spec=spec))
    table = checked.table
    check_reach(spec, checked.ranges)
    widths = {name: _narrowest(*checked.ranges[name]) for name in checked.ranges}
    day, several = as_of_date(spec, table.schema, as_of, table.dates), table.several
    encoded = [
        expression.cast(widths[name]).alias(f"x.{name}")
        for name, expression in encoded_terms(spec, table.schema, day).items()
    ]
    dated = [] if several is None else [several.day(table.schema).alias("day")]
    key = row_key(checked.id_column, table.schema).alias("key")
    outcomes = canonical_outcomes(checked.outcomes, table.schema)
    segments = _segment_values(table, spec.segments)
    codes = _segment_codes(segments, table.schema)
    for name in coded:
        code = own_value(name, table.schema[name]).rank("dense").fill_null(0).cast(pl.Int32)
        encoded.append(code.alias(f"x.{_CODED}{name}"))
    flags = flag_values(spec, table.schema)
    encoded += [flag.alias(f"f.{name}") for name, flag in flags.items()]

    def rows_encoded(frame: pl.LazyFrame) -> pl.LazyFrame:
        lazy = frame.select(key, *dated, *outcomes.values(), *encoded, *codes)
        if checked.dropped:
            lazy = lazy.filter(~lacks_outcome(checked.outcomes))
        # The contract guarantees that these are 0 and 1.
        labels = pl.col("retained", "activated", "won_back").cast(pl.Int8)
        return lazy.with_columns(movement_class(checked.outcomes), labels)

    names = [term.name for term in spec.terms]
    features = sum(_BYTES[width] for width in widths.values()) + _BYTES[pl.Int32] * len(coded)
    if shards is not None:
        # Those of the holdout alone come here.
        features = math.ceil(features * spec.split.holdout)
    others = len(segments) + len(flags) + _DATED_BYTES * len(dated)
    storage = _room(checked, features, others, memory)
    with (
        storage.columns(table, rows_encoded(table.frame))
        if shards is None
        else shards.columns(table, rows_encoded)
    ) as columns:
        keys = columns.pop("key")
        ids = keys if keep_ids and checked.id_column is not None else None
        rows = AccountDates.of(keys, columns.pop("day"), several.days) if several else None
        blocks = _blocks(spec, outcomes, flags)
        copies = _copies(keys, columns, blocks, rows)
        mask = _drawn(keys, copies if copies_together else None, rows, spec.split)
        repeated = [copies.repeated_in(mask, held=h) if copies else 0 for h in (False, True)]
        held_out = pl.Series(mask, dtype=pl.Int8)
        if rows is not None:
            checked = replace(checked, accounts=len(rows.last))
            keys = rows.keys(keys)
        named = {name: f"x.{name}" for name in names}
        # No feature's name begins with `OWN`.
        named |= {f"{OWN}{name}": f"f.{name}" for name in flags}
        order = _key_order(keys, table.source, check if checked.id_column is not None else None)
        prints = _fingerprints(columns, order, held_out, list(outcomes), named, segments)
        del keys, order
        how = partial(
            freeze,
            names=[*names, *(f"{_CODED}{name}" for name in coded)],
            outcomes=checked.outcomes,
            segments=segments,
            flags=list(flags),
            rows=rows,
            numbered=numbered or ids is not None,
        )
        if shards is None:
            matrices = how(columns, held_out=held_out.to_numpy(), storage=storage)
        else:
            matrices = shards.freeze(how, held_out.to_numpy(), storage)
    return Accounts(
        table=table,
        checked=checked,
        search=matrices[0],
        holdout=matrices[1] if len(matrices) > 1 else None,
        outcomes_fingerprint=prints[0],
        features_fingerprint=prints[1],
        segments_fingerprint=prints[2],
        on_disk=storage.on_disk,
        copies=copies,
        repeated=(repeated[0], repeated[1]),
        ids=ids,
    )


def _drawn(
    keys: pl.Series, copies: Copies | None, rows: AccountDates | None, split: Split
) -> NDArray[np.bool_]:
    """Draw the holdout, shape (N,); `copies` of one content are drawn together."""
    if copies is not None:
        # In a table of several dates `copies` has only each account's last row.
        several = rows is not None
        keys = keys.replace(copies.keys, copies.first) if several else copies.drawn_by(keys)
    return holdout_mask(keys, share=split.holdout, salt=split.salt)


def _room(checked: Checked, features: int, others: int, memory: int | None) -> Storage:
    """Choose where arrays go, by the bytes that an account's features take, and what is beside."""
    money = sum(map(checked.outcomes.has, ("mrr", "mrr_end", "ltv"))) * 8
    kept = features + money + others + _OTHER_BYTES
    needed = checked.rows * (features + kept + _READING_BYTES)
    return Storage.fitting(needed=needed, kept=checked.rows * kept, budget=memory)


def _blocks(
    spec: ScoringSpec, outcomes: Iterable[str], flags: Iterable[str]
) -> dict[str, list[str]]:
    """Return columns by what they say together, as `find_copies` takes them."""
    blocks: dict[str, list[str]] = {"": list(outcomes)}
    for term in spec.terms:
        blocks.setdefault(f"x.{term.columns[0]}", []).append(f"x.{term.name}")
    for name in flags:
        blocks.setdefault(f"x.{name.removeprefix('unknown.')}", []).append(f"f.{name}")
    return blocks


def own_value(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column's cells in a type that can be ranked, null where unknown."""
    x = pl.col(column)
    if dtype.is_float():
        return x.fill_nan(None)
    if dtype == pl.Boolean:
        return x.cast(pl.Int8)
    return x.cast(pl.String) if dtype in (pl.Categorical, pl.Enum) else x


def _copies(
    keys: pl.Series,
    columns: Columns,
    blocks: Mapping[str, Sequence[str]],
    rows: AccountDates | None,
) -> Copies | None:
    """Find accounts that repeat another one, by their last row in a table of several dates."""
    if rows is None:
        return find_copies(keys, columns, blocks)
    # An account that doesn't change between two dates is no copy of itself.
    last = pl.Series(rows.last, dtype=pl.UInt32)
    of_last = {n: columns[n].gather(last) for names in blocks.values() for n in names}
    copies = find_copies(keys.gather(last), of_last, blocks)
    return copies and replace(copies, rows=last.gather(copies.rows))


def _key_order(keys: pl.Series, source: str, check: Callable[[], Checked] | None) -> KeyOrder:
    """Sort keys. Where each is there once, `check` is asked what it says of one that isn't."""
    order = KeyOrder.of(keys)
    if check is not None and not order.tied.is_empty():
        check()
        twice = order.keys.gather(order.rows.gather(order.tied)).unique(maintain_order=True)
        listed = culprits(twice.head(5).to_list())
        raise AccountDataError(
            f"{source}: {some(len(twice), 'account that was', 'accounts that were')} there once "
            f"{'is' if len(twice) == 1 else 'are'} there twice by now: {listed}",
            hint="does somebody write to it? do it again, or name a version: --at-version",
        )
    return order


def _fingerprints(
    columns: Columns,
    order: KeyOrder,
    held_out: pl.Series,
    outcomes: list[str],
    names: Mapping[str, str],
    segments: Mapping[str, tuple[str, ...]],
) -> tuple[str, str, str | None]:
    """Return the fingerprints of outcomes and split, of features, and of segments.

    Each includes the ids. `names` maps a feature or flag to its column.
    """

    def column(name: str) -> Callable[[], pl.Series]:
        return lambda: columns[name]

    of_outcomes = {"split": lambda: held_out, **{n: column(n) for n in outcomes}}
    of_features = {name: column(own) for name, own in names.items()}
    with ThreadPoolExecutor(2) as pool:
        # Hashing releases the GIL, so the two run in parallel.
        first, second = pool.map(lambda each: fingerprint(order, each), (of_outcomes, of_features))
    if not segments:
        return first, second, None
    # The values are part of the name, since a code means nothing without them.
    named = {json.dumps([name, *values]): column(f"s.{name}") for name, values in segments.items()}
    return first, second, fingerprint(order, named)


def check_reach(spec: ScoringSpec, ranges: dict[str, tuple[int, int]]) -> int:
    """Return the largest absolute raw score within the bounds, in 1/10,000ths of a point.

    `ranges` has the smallest and largest encoded value by term.

    Raises
    ------
    SpecError
        If it reaches 2^62, since a sum beyond Int64 would wrap.
    """
    reach = abs(spec.base) * VALUE_UNITS + SCORE_UNITS
    for term in spec.terms:
        reach += max(abs(term.min), abs(term.max)) * max(map(abs, ranges[term.name]))
    combination = Combination.of(spec)
    if combination is not None:
        reach = _shared_reach(spec, combination, ranges, reach)
    if reach >= 2**62:
        raise SpecError(
            f'spec "{spec.model}": scores may reach {reach / VALUE_UNITS:.3g} points within the '
            "bounds, beyond what 64-bit integers hold",
            hint="scale the largest feature with `encode: {kind: range, ...}`",
        )
    return reach


def _shared_reach(
    spec: ScoringSpec, combination: Combination, ranges: dict[str, tuple[int, int]], reach: int
) -> int:
    """Return `reach` plus the points that redistributed weights of unknown values can add."""
    terms = spec.terms
    most = [max(abs(term.min), abs(term.max)) for term in terms]
    for each in combination.sets:
        if each.shared:
            points = sum(most[i] * max(map(abs, ranges[terms[i].name])) for i in each.terms)
            reached = points * sum(each.sizes(most).values())
            if reached >= _SHARED_REACH:
                raise SpecError(
                    f'spec "{spec.model}": with `missing: redistribute` points may reach '
                    f"{reached / VALUE_UNITS:.3g} within the bounds, more than is shared out "
                    "exactly",
                    hint="scale the largest feature with `encode: {kind: range, ...}`",
                )
            reach += reached
    return reach


def _narrowest(low: int, high: int) -> type[pl.DataType]:
    ends = {dtype: 2 ** (8 * size - 1) for dtype, size in _BYTES.items()}
    return next((dtype for dtype, end in ends.items() if -end <= low and high < end), pl.Int64)


def part(
    table: AccountTable,
    identifier: str | None,
    split: Split,
    *,
    held: bool = False,
    copies: Copies | None = None,
) -> AccountTable:
    """Return the search part of a table, or with `held` its holdout, as a table.

    Without an identifier the split draws by the rows' content. `copies` of one content are drawn
    together, where there is an identifier.
    """
    key = row_key(identifier, table.schema)
    if copies is not None and identifier is not None:
        key = key.replace(copies.keys, copies.first)
    drawn = held_out(key, split)
    drawn = drawn if held else ~drawn
    return AccountTable(table.source, table.frame.filter(drawn), table.schema, dates=table.dates)


def search_sample(
    table: AccountTable,
    outcomes: OutcomeColumns,
    identifier: str | None,
    split: Split,
    *,
    copies: Copies | None = None,
    columns: Sequence[str] | None = None,
    most: int = MOST_SAMPLED,
) -> pl.DataFrame:
    """Collect a sample of the search part with its canonical outcomes, sorted by id.

    The sort makes a fit to the sample independent of the order of the table's rows. An outcome's
    column has the prefix `OWN`. About `most` accounts are drawn by a hash of their ids.
    """
    lazy = part(table, identifier, split, copies=copies).frame
    account = row_key(identifier, table.schema)
    seen = collect(table, lazy.select(pl.len())).item()
    if seen > most:
        lazy = lazy.filter(held_out(account, Split(holdout=most / seen, salt="profile")))
    canonical = canonical_outcomes(outcomes, table.schema)
    named = {f"{OWN}{name}": value for name, value in canonical.items()}
    order = {f"{OWN}key": account}
    if table.several is not None:
        order[f"{OWN}day"] = table.several.day(table.schema)
    own = table.columns if columns is None else columns
    return collect(table, lazy.select(*own, **named, **order)).sort(*order).drop(*order)
