"""Which account is which: row keys, the holdout that they draw, and content fingerprints.

All three are functions of the accounts' content alone: not of row order, file layout, compression,
or the version of any package. So only MD5 and SHA-256 are used here, which don't change. An id has
one canonical text, whatever the type that a source gives it: 1001 from integers, doubles, decimals
and texts alike.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.accounts.digests import md5_heads
from gtmar.accounts.scan import collect
from gtmar.errors import culprits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gtmar.accounts.scan import AccountTable
    from gtmar.spec.model import Split

__all__ = [
    "KeyOrder",
    "canonical_id",
    "content_keys",
    "fingerprint",
    "held_out",
    "holdout_mask",
    "inexact_id",
    "key_expression",
    "look_alikes",
    "may_identify",
]

#: Rows that a fingerprint reads at a time: a multiple of eight, since eight flags make a byte.
_SLICE = 2**16


#: Below this, by type, a float holds every integer, so that an id in it is the one that was meant.
_WHOLE: dict[type[pl.DataType], int] = {pl.Float32: 2**24, pl.Float64: 2**53}
#: Ids that aren't in canonical form: blanks around, or an integer written with decimals.
_ODD = r"^\s|\s$|^$|\.0+$"
_DECIMALS = r"^(-?(?:0|[1-9][0-9]*))\.0+$"


def may_identify(dtype: pl.DataType) -> bool:
    """Whether a column of this type can hold account ids."""
    return not dtype.is_nested() and dtype != pl.Object


def canonical_id(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column's ids in their one canonical text; null where unknown, blank or inexact.

    Parameters
    ----------
    name, dtype
        The column of ids.

    Notes
    -----
    Integers stand as their digits, and so do whole numbers in floats, decimals and texts such as
    ``1001.0``, as pandas writes ids where one is unknown. Texts lose blanks around them, and keep
    zeros before them and their case. Bytes are read as UTF-8; 16 of them that are no text stand
    for a UUID.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": [" 00012", "1001.0", "A-7 ", ""]})
    >>> frame.select(canonical_id("id", frame.schema["id"])).to_series().to_list()
    ['00012', '1001', 'A-7', None]
    """
    x = pl.col(name)
    if dtype.is_float():
        whole = (x.floor() == x) & (x.abs() < _WHOLE.get(type(dtype), 2**53))
        # The sum turns -0.0 into 0.0.
        return pl.when(whole).then((x + 0.0).cast(pl.Int64, strict=False).cast(pl.String))
    if dtype.is_decimal():
        text = x.cast(pl.String).str.replace(_DECIMALS, "$1")
        return pl.when(~text.str.contains(".", literal=True)).then(text)
    if dtype == pl.Binary:
        return x.map_batches(_texts_of_bytes, return_dtype=pl.String, is_elementwise=True)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = x.cast(pl.String)
        return texts.map_batches(_plain_texts, return_dtype=pl.String, is_elementwise=True)
    return x.cast(pl.String)


def inexact_id(name: str, dtype: pl.DataType) -> pl.Expr | None:
    """Whether an id is known but has no canonical text; None for a type where all have one."""
    if not (dtype.is_float() or dtype.is_decimal() or dtype == pl.Binary):
        return None
    known = pl.col(name).is_not_null()
    if dtype.is_float():
        known &= pl.col(name).is_not_nan()
    return known & canonical_id(name, dtype).is_null()


def _plain_texts(ids: pl.Series) -> pl.Series:
    """Bring texts into canonical form; where all are in it, as in most tables, change nothing."""
    odd = ids.str.contains(_ODD).fill_null(value=False)
    if not odd.any():
        return ids
    plain = ids.filter(odd).str.strip_chars().str.replace(_DECIMALS, "$1")
    plain = plain.set(plain == "", None)
    return ids.scatter(odd.arg_true(), plain)


def _texts_of_bytes(ids: pl.Series) -> pl.Series:
    def text(value: bytes) -> str | None:
        if len(value) == 16 and not (value.isascii() and value.decode("ascii").isprintable()):
            return str(uuid.UUID(bytes=value))
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None

    texts = [None if value is None else text(value) for value in ids]
    return _plain_texts(pl.Series(ids.name, texts, dtype=pl.String))


def look_alikes(table: AccountTable, identifier: str | None) -> list[str]:
    """Say which ids are the same but for case or zeros before them; each stays an account's own.

    Parameters
    ----------
    table
        The account table, which keeps the contract.
    identifier
        The id's column; None where the table has none.
    """
    if identifier is None or table.schema[identifier].is_numeric():
        return []
    key = canonical_id(identifier, table.schema[identifier])
    keys = collect(table, table.frame.select(key.alias("key")))["key"]
    sentences = []
    for differ, loose in (
        ("case", keys.str.to_lowercase()),
        ("zeros before them", keys.str.strip_chars_start("0")),
    ):
        alike = loose.is_duplicated()
        if alike.any():
            # Two that are alike stand side by side.
            shown = keys.filter(alike).gather(loose.filter(alike).arg_sort()).head(4).to_list()
            sentences.append(
                f'{int(alike.sum()):,} ids in "{identifier}" differ from another by {differ} '
                f"alone, {culprits(shown)}: each is taken as an account of its own."
            )
    return sentences


def key_expression(identifier: str | None, schema: pl.Schema) -> pl.Expr:
    """Return each account's key: its id's canonical text, or its content where it has none.

    Without an id two rows of equal content have equal keys, so that a split keeps twins together.
    Doubles stand as their bits, so that no engine's way of printing them matters.
    """
    if identifier is not None:
        return canonical_id(identifier, schema[identifier])
    parts = []
    for name in sorted(schema.names()):
        dtype = schema[name]
        if dtype.is_float():
            bits = pl.col(name).cast(pl.Float64).reinterpret(signed=True)
            text = bits.cast(pl.String)
        elif dtype.is_temporal():
            text = pl.col(name).to_physical().cast(pl.String)
        elif dtype.is_nested():
            continue
        else:
            text = pl.col(name).cast(pl.String)
        parts.append(text.fill_null("\x00"))
    return pl.concat_str(parts, separator="\x1f")


def held_out(key: pl.Expr, split: Split) -> pl.Expr:
    """Draw the holdout within a query: `holdout_mask` over an expression of keys."""
    return key.map_batches(
        lambda keys: pl.Series(holdout_mask(keys, share=split.holdout, salt=split.salt)),
        return_dtype=pl.Boolean,
        is_elementwise=True,
    )


def content_keys(keys: pl.Series) -> pl.Series:
    """Shorten content keys to 128-bit hashes, so that they don't hold the table twice."""
    short = [hashlib.md5(k.encode(), usedforsecurity=False).hexdigest() for k in keys]
    return pl.Series(keys.name, short, dtype=pl.String)


def holdout_mask(keys: pl.Series, *, share: float, salt: str) -> NDArray[np.bool_]:
    """Draw the holdout: accounts whose hashed key falls below the share.

    Parameters
    ----------
    keys
        Account keys, shape (N,).
    share
        Expected share of accounts in the holdout, in [0, 1).
    salt
        Another salt draws another holdout.

    Returns
    -------
    ndarray of bool, shape (N,)
        True for accounts of the holdout.

    Notes
    -----
    The first eight hexadecimal digits of ``md5(salt || ':' || key)``, as a fraction of 16^8: any
    database can draw the same holdout.

    Examples
    --------
    >>> holdout_mask(pl.Series(["a-2", "a-3", "a-4"]), share=0.5, salt="gtmar").tolist()
    [True, True, False]
    """
    if share <= 0:
        return np.zeros(len(keys), dtype=bool)
    drawn: NDArray[np.bool_] = md5_heads(keys, f"{salt}:") < share * 2**32
    return drawn


@dataclass(frozen=True)
class KeyOrder:
    """Accounts in the order of their keys, which is the one that fingerprints are taken in."""

    keys: pl.Series
    #: UInt32, shape (N,): row numbers.
    rows: pl.Series
    #: UInt32: places in `rows` whose key another account has too.
    tied: pl.Series

    @classmethod
    def of(cls, keys: pl.Series) -> KeyOrder:
        """Sort account keys, shape (N,).

        Cost: some 0.5 microseconds an account, and next to nothing where they stand in order.
        """
        if keys.is_sorted():
            rows = pl.int_range(len(keys), dtype=pl.UInt32, eager=True)
            ordered = keys
        else:
            rows = keys.arg_sort()
            ordered = keys.gather(rows)
        # Slices, where `shift` would copy the keys.
        alike = (ordered.slice(1) == ordered.slice(0, max(0, len(ordered) - 1))).arg_true()
        return cls(keys, rows, pl.concat([alike, alike + 1]).unique().sort())

    def settled(self, columns: Mapping[str, Callable[[], pl.Series]]) -> pl.Series:
        """Return row numbers, accounts of equal keys in the order of their values."""
        if self.tied.is_empty():
            return self.rows
        twins = self.rows.gather(self.tied)
        frame = pl.DataFrame(
            {"": self.keys.gather(twins), **{f"c.{n}": columns[n]().gather(twins) for n in columns}}
        )
        order = frame.select(pl.arg_sort_by(["", *sorted(frame.columns[1:])])).to_series()
        return self.rows.clone().scatter(self.tied, twins.gather(order))


def fingerprint(order: KeyOrder, columns: Mapping[str, Callable[[], pl.Series]]) -> str:
    """Hash columns of integers, accounts in the order of their keys.

    Parameters
    ----------
    order
        Of the N accounts.
    columns
        By name what gives an integer column, shape (N,), nulls allowed. Their order doesn't matter.

    Returns
    -------
    str
        The first 32 hexadecimal digits of a SHA-256.

    Notes
    -----
    One column is held at a time, and read a slice of rows at a time.
    """
    rows = order.settled(columns)
    slices = [rows.slice(start, _SLICE) for start in range(0, len(rows), _SLICE)]
    state = hashlib.sha256(str(len(rows)).encode())
    for part in slices:
        state.update((order.keys.gather(part).str.join("\x00").item() + "\x00").encode())
    for name in sorted(columns):
        known = columns[name]()
        unknown = known.is_null()
        state.update(f"c.{name}".encode() + b"\x00")
        for part in slices:
            state.update(np.packbits(unknown.gather(part).to_numpy()).tobytes())
        for part in slices:
            values = known.gather(part).cast(pl.Int64).fill_null(0).to_numpy()
            state.update(values.astype("<i8", copy=False).data)
    return state.hexdigest()[:32]
