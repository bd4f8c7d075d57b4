"""AccountMatrix: N accounts as frozen integer arrays, ready for the kernel.

Rows are put in the order of their movement class and activation, so that each cohort of the kernel
is a run of rows; since every tally is an exact sum, no result depends on that order.
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
from gtmar.spec.combination import Combination
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS, ScoringSpec, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
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
    "check_reach",
    "freeze",
    "load_accounts",
    "own_value",
    "part",
    "search_sample",
]


#: How the segment of accounts without a value is called.
_UNKNOWN = "(unknown)"
_BYTES: dict[type[pl.DataType], int] = {pl.Int8: 1, pl.Int16: 2, pl.Int32: 4, pl.Int64: 8}
#: Bytes an account: of `codes`, `ltv_rows` and `day_codes`, and while a table is read of its key
#: (some 30), the key's order, seven outcomes and the movement class.
_OTHER_BYTES = 10
#: And of `account_of` and `date_of`, where there are several dates.
_DATED_BYTES = 6
_READING_BYTES = 110
#: Before the name of a column that is kept as codes.
_CODED = "\x00coded."
#: Points of a group, times its weights, in 1/10,000ths: doubles divide them exactly, in SQL too.
_SHARED_REACH = 2**50
#: More accounts than this teach a first spec nothing more; a hash draws them.
MOST_SAMPLED = 200_000


@dataclass(frozen=True)
class Segments:
    """One column whose every value is a segment, over N accounts."""

    column: str
    #: V values in the order of their text, the unknown last where there is one.
    values: tuple[str, ...]
    #: int8, shape (N,), in [0, V): each account's value.
    codes: NDArray[np.int8]

    def rows(self, index: int) -> NDArray[np.intp]:
        """Return the row numbers of one value's accounts, ascending."""
        return np.flatnonzero(self.codes == index)

    def name(self, index: int) -> str:
        """Return how a segment is called: ``COLUMN=VALUE``."""
        return f"{self.column}={self.values[index]}"


@dataclass(frozen=True)
class AccountMatrix:
    """Encoded features and outcomes of N accounts, F features; every array is read-only."""

    #: Term names, F of them, in the spec's order.
    names: tuple[str, ...]
    #: F arrays of shape (N,), each of the narrowest integer type that holds it, in 1/10,000ths;
    #: none where `RowShards` have them.
    columns: tuple[NDArray[np.integer], ...]
    #: Shape (N,), ascending: movement class x 3 + activation (0 unknown, 1 missed, 2 reached).
    codes: NDArray[np.int16]
    #: Shape (12,): where each movement class begins, the last entry being N.
    offsets: NDArray[np.int64]
    outcomes: OutcomeColumns
    #: Shape (N,), in cents, unknown taken as 0; None where the table has no such column.
    start: NDArray[np.int64] | None = None
    end: NDArray[np.int64] | None = None
    ltv: NDArray[np.int64] | None = None
    #: Row numbers of the LTV cohort (current, LTV above 0), ascending; None without LTV.
    ltv_rows: NDArray[np.int32] | None = None
    #: Index of each activated account's days in `days`, the sorted distinct values, or -1; None
    #: without such a column.
    day_codes: NDArray[np.int32] | None = None
    days: NDArray[np.int64] | None = None
    segments: tuple[Segments, ...] = ()
    #: Of a table of several dates, where an account has a row on each: number of each row's
    #: account, in the order of ids, and of its date in `dates`, ascending. None where a row is an
    #: account.
    account_of: NDArray[np.int32] | None = None
    date_of: NDArray[np.int16] | None = None
    dates: tuple[date, ...] = ()
    #: Shape (N,): where each row stood in the table, from 0; None where nobody asked for it.
    numbers: NDArray[np.int32] | None = None
    #: int8, shape (N,), 1 or 0 by name: what a `Combination` asks of each account.
    flags: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    @property
    def accounts(self) -> int:
        """N, the number of rows: an account has one, or one on each of several dates."""
        return len(self.codes)

    @property
    def distinct(self) -> int:
        """How many accounts the rows are of."""
        return self.accounts if self.account_of is None else len(np.unique(self.account_of))

    def rows(self, first: Movement, last: Movement) -> slice:
        """Return the run of rows whose movement class lies between two, both included."""
        return slice(int(self.offsets[first]), int(self.offsets[last + 1]))

    def part(self, first: int, last: int) -> AccountMatrix:
        """Return the rows from `first` to before `last`, without copying any but a few."""
        ltv_rows = None
        if self.ltv_rows is not None:
            low, high = np.searchsorted(self.ltv_rows, (first, last))
            ltv_rows = _frozen(self.ltv_rows[low:high] - np.int32(first))
        offsets = _frozen(self.offsets.clip(first, last) - first)
        return self._of_rows(lambda values: values[first:last], offsets, ltv_rows)

    def take(self, rows: NDArray[np.intp]) -> AccountMatrix:
        """Copy some rows, whose numbers ascend, a row as often as it is named."""
        ltv_rows = None
        if self.ltv_rows is not None:
            valued = np.zeros(self.accounts, dtype=bool)
            valued[self.ltv_rows] = True
            ltv_rows = _frozen(np.flatnonzero(valued[rows]).astype(np.int32))
        offsets = _offsets(self.codes[rows] // ACTIVATION_STATES)
        return self._of_rows(lambda values: _frozen(values[rows]), offsets, ltv_rows)

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


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
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
    """Freeze columns, rows by code: the search part, then the holdout, if there is one, or `both`.

    The columns are the canonical outcomes, `movement`, each term's encoded values as `x.` and its
    name, each of the `flags` as `f.` and its name, and each segment column's codes as `s.` and its
    name; `segments` has its values, and
    `held_out` is 1 where an account is of the holdout, else 0; `rows` says whose row each is, in a
    table of several dates, and with `numbered` each row keeps where it stood. A column is let go of
    once it is frozen, so that there are no two copies of the table.
    """
    movement = columns.pop("movement").to_numpy()
    activated = columns.pop("activated")
    states = activated.fill_null(-1).to_numpy() + np.int8(1)
    codes = movement.astype(np.int8) * np.int8(ACTIVATION_STATES) + states
    # Sorted stably: numpy puts small integers in order by counting them, in one pass.
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
            offsets=_offsets(movement[order]),
            outcomes=outcomes,
            segments=tuple(Segments(n, v, part[f"s.{n}"]) for n, v in (segments or {}).items()),
            dates=() if rows is None else rows.days,
            flags={name: part[f"f.{name}"] for name in flags},
            **optional,
        )

    return list(map(frozen, parts, orders))


@dataclass(frozen=True)
class AccountDates:
    """Whose row each of N is, and of which date, in a table of several dates."""

    #: int32, shape (N,): number of the account, in the order of ids.
    accounts: NDArray[np.int32]
    #: int16, shape (N,): number of the date in `days`, which ascend.
    dates: NDArray[np.int16]
    days: tuple[date, ...]

    @classmethod
    def of(cls, keys: pl.Series, day: pl.Series, days: tuple[date, ...]) -> AccountDates:
        """Number the accounts by their ids and the rows' days by the table's."""
        accounts = (keys.rank("dense") - 1).cast(pl.Int32).to_numpy()
        dates = np.searchsorted(np.array(days, dtype="datetime64[D]"), day.to_numpy())
        return cls(accounts, dates.astype(np.int16), days)

    @property
    def last(self) -> NDArray[np.intp]:
        """The number of each account's last row, ascending."""
        order = np.lexsort((self.dates, self.accounts))
        ends = np.diff(self.accounts[order], append=-1) != 0
        return np.sort(order[ends])

    def keys(self, keys: pl.Series) -> pl.Series:
        """Return a key for each row: its account's, and its date."""
        texts = pl.Series(list(map(str, self.days))).gather(self.dates.astype(np.uint32))
        return keys + "\x1f" + texts


def _offsets(classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each movement class begins, and the number of rows."""
    sizes = np.bincount(classes, minlength=len(Movement))
    return _frozen(np.concatenate([[0], np.cumsum(sizes)]))


def _days(reached: pl.Series) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return day codes from days (N,), null where an account did not activate; and their days."""
    days = reached.drop_nulls().unique().sort().to_numpy()
    codes = np.searchsorted(days, reached.fill_null(0).to_numpy()).astype(np.int32)
    codes[reached.is_null().to_numpy()] = -1
    return codes, _frozen(days)


def _segment_values(table: AccountTable, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return each column's values, V of them, in the order of their text, the unknown last.

    Where a value is written as the unknown is called, that gets one more pair of brackets.
    """
    segments = {}
    for name in columns:
        text = as_text(name, table.schema[name])
        values = collect(table, table.frame.select(text.unique()))[name].to_list()
        known = sorted(value for value in values if value is not None)
        label = _UNKNOWN
        while label in known:
            label = f"({label})"
        segments[name] = (*known, *([label] if None in values else []))
    return segments


def _segment_codes(values: Mapping[str, tuple[str, ...]], schema: pl.Schema) -> list[pl.Expr]:
    """Return each account's index in the values of each segment column, named `s.COLUMN`."""
    return [
        as_text(name, schema[name])
        .replace_strict(
            pl.Series(listed, dtype=pl.String),
            pl.Series(range(len(listed)), dtype=pl.Int8),
            # What is no listed text is unknown; that is the last one, where there is any.
            default=pl.lit(len(listed) - 1, dtype=pl.Int8),
            return_dtype=pl.Int8,
        )
        .alias(f"s.{name}")
        for name, listed in values.items()
    ]


@dataclass(frozen=True)
class Accounts:
    """An account table, loaded: the search part, the holdout, and what identifies them."""

    table: AccountTable
    checked: Checked
    search: AccountMatrix
    #: None where there is no holdout.
    holdout: AccountMatrix | None
    outcomes_fingerprint: str
    features_fingerprint: str
    #: Of ids and segments; None where the spec has none.
    segments_fingerprint: str | None = None
    #: Whether the arrays are mapped from files, since memory would not do.
    on_disk: bool = False
    #: The table that the holdout is all of, where it isn't a part of this one.
    later: Accounts | None = None
    #: Accounts of one content under several ids; None where there are none.
    copies: Copies | None = None
    #: How many accounts repeat another one, of those searched and of those held out.
    repeated: tuple[int, int] = (0, 0)
    #: Each row's id in its canonical text, in the table's order; None where nobody asked for it, or
    #: rows have no id.
    ids: pl.Series | None = None


class RowShards(Protocol):
    """Who reads the rows of a table in this process's place, some of them each."""

    def facts(
        self,
        table: AccountTable,
        query: Callable[[pl.LazyFrame], pl.LazyFrame],
        spec: ScoringSpec,
    ) -> list[dict[str, Any]]:
        """Ask a query of parts of the rows; give its one row for each."""
        ...

    def columns(
        self,
        table: AccountTable,
        query: Callable[[pl.LazyFrame], pl.LazyFrame],
    ) -> AbstractContextManager[Columns]:
        """Have what a query gives of a frame of rows read; give its columns."""
        ...

    def freeze(
        self,
        how: Callable[..., list[AccountMatrix]],
        held_out: NDArray[np.int8],
        storage: Storage,
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
    shards: RowShards | None = None,
) -> Accounts:
    """Check, encode and split an account table.

    Parameters
    ----------
    as_of, drop_unlabelled, set_aside
        As for `check_contract`.
    memory
        Bytes that the table may take; arrays that need more are mapped from a temporary file. None
        for half of the machine's. Changes no result.
    copies_together
        Whether copies, see `find_copies`, are in one part of the split, drawn by the smallest of
        their ids. False for runs from before this was so.
    coded
        Table columns to keep beside the encoded terms, behind them in the matrices: of each cell
        the number of its `own_value` among all that the column has, from 1, or 0 where unknown.
    keep_ids
        Whether the id of each row is kept, which takes some 30 bytes an account.
    shards
        Who reads rows and keeps the features of those searched; None for this process. Changes no
        result, but that the matrix of the accounts searched has no columns.

    Raises
    ------
    ViolationsError
        If the table breaks the data contract.
    UsageError
        If shards can't read rows of such a table by themselves.
    SpecError
        If a score could leave Int64 within the spec's bounds.
    ResourceError
        If the arrays have to go to disk, and it is full.

    Notes
    -----
    Two streaming passes over the needed columns: one to check, one to encode. Memory is the encoded
    columns' own and one more of them; with the arrays on disk, that of the ids, which must be told
    apart and sorted.
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
        # The contract has seen to it that these are 0 and 1.
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
        # No feature's name begins so.
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
            numbered=ids is not None,
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
        # Of several rows of an account the last one alone is among the copies'.
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
    """Return a column's own cells, unknown ones null, as something that has an order."""
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
    """Find accounts that repeat another one; by their last rows, where they have several."""
    if rows is None:
        return find_copies(keys, columns, blocks)
    # From one date to the next an account may well be as it was: that is no copy.
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
            f"{source}: {len(twice):,} accounts that were there once are there twice by now: "
            f"{listed}",
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
    """Return the fingerprints of ids, outcomes and split; of ids and features; and of segments.

    `names` has the column of each feature and flag.
    """

    def column(name: str) -> Callable[[], pl.Series]:
        return lambda: columns[name]

    of_outcomes = {"split": lambda: held_out, **{n: column(n) for n in outcomes}}
    of_features = {name: column(own) for name, own in names.items()}
    with ThreadPoolExecutor(2) as pool:
        # Hashing lets go of Python's lock, so the two go on side by side.
        first, second = pool.map(lambda each: fingerprint(order, each), (of_outcomes, of_features))
    if not segments:
        return first, second, None
    # Values stand in the name, since a code says nothing without them.
    named = {json.dumps([name, *values]): column(f"s.{name}") for name, values in segments.items()}
    return first, second, fingerprint(order, named)


def check_reach(spec: ScoringSpec, ranges: dict[str, tuple[int, int]]) -> int:
    """Return the largest raw score, either way, that the bounds allow, in 1/10,000ths of a point.

    Raises `SpecError` if it leaves Int64, where a sum would wrap.
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
    """Return how far a score reaches where weights of the unknown are shared out."""
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
    """Return the search part of a table, or its holdout where it is `held`, as a table of its own.

    Without an identifier the rows' content splits. `copies` of one content are drawn together.
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
    """Collect accounts of the search part with their canonical outcomes, ordered by their ids.

    So the order of the table's rows changes no digit of what is fitted to them. Each outcome stands
    under its name with `OWN` before it. A hash of ids draws `most` accounts, about.
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
