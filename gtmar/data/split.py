"""Identity of accounts: canonical ids, fingerprints of a table, the holdout split, and copies.

The holdout is drawn by the MD5 of each account's key, so that any database can draw the same one.
`hashlib` takes half a microsecond per key and holds the GIL, which for ten million keys would cost
as much as the rest of loading. So this module computes MD5 in numpy, many keys at a time.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gtmar.data.scan import AccountTable, collect
from gtmar.errors import culprits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from numpy.typing import NDArray

    from gtmar.data.storage import Columns
    from gtmar.spec.model import Split

    Words = NDArray[np.uint32]
    Doubles = NDArray[np.float64]
    Hashes = NDArray[np.uint64]

__all__ = [
    "Copies",
    "KeyOrder",
    "canonical_id",
    "content_keys",
    "find_copies",
    "fingerprint",
    "held_out",
    "holdout_mask",
    "inexact_id",
    "key_expression",
    "look_alikes",
    "may_identify",
    "md5_heads",
    "row_key",
]


# ---- MD5 of many keys --------------------------------------------------------------------------

#: Keys hashed at a time, few enough that their words stay in the CPU's cache.
_TOGETHER = 16_384
#: Largest message, in bytes, that fits one MD5 block with its padding and length.
_ONE_BLOCK = 55
_START = tuple(np.uint32(word) for word in (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476))
_TERMS = tuple(np.uint32(int(abs(math.sin(i)) * 2**32)) for i in range(1, 65))
_BITS = np.uint32(32)
_SHIFTS = tuple(
    np.uint32(shift)
    for four in ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
    for shift in four * 4
)
#: Index of the message word that each of the 64 steps adds, from a factor and an offset per round.
_WORDS = tuple((a * i + b) % 16 for (a, b) in ((1, 0), (5, 1), (3, 5), (7, 0)) for i in range(16))
#: Mixing function of each round of 16 steps.
_ROUNDS: tuple[Callable[[Words, Words, Words], Words], ...] = (
    lambda b, c, d: d ^ (b & (c ^ d)),
    lambda b, c, d: c ^ (d & (b ^ c)),
    lambda b, c, d: b ^ c ^ d,
    lambda b, c, d: c ^ (b | ~d),
)


def md5_heads(keys: pl.Series, prefix: str) -> NDArray[np.uint32]:
    """Return the first four bytes of ``md5(prefix || key)`` of N texts as big-endian uint32.

    Cost: about 0.1 microseconds per key and core. A block of keys with one of more than 55 bytes,
    prefix included, is hashed by `hashlib`, one key at a time. Source: R. Rivest, RFC 1321.
    """
    starts = range(0, len(keys), _TOGETHER)
    if not starts:
        return np.zeros(0, dtype=np.uint32)
    head = prefix.encode()
    with ThreadPoolExecutor() as pool:
        heads = pool.map(lambda start: _heads(keys.slice(start, _TOGETHER), head), starts)
        return np.concatenate(list(heads))


def _heads(keys: pl.Series, prefix: bytes) -> NDArray[np.uint32]:
    sizes = keys.str.len_bytes().to_numpy()
    widest = len(prefix) + int(sizes.max())
    if widest > _ONE_BLOCK:
        digests = (hashlib.md5(prefix + k.encode(), usedforsecurity=False).digest() for k in keys)
        heads = np.frombuffer(b"".join(digest[:4] for digest in digests), dtype=">u4")
        return heads.astype(np.uint32)
    # A block is prefix, key, a set bit, zeros, and the length in bits in its last eight bytes.
    message = np.zeros((len(keys), 64), dtype=np.uint8)
    message[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    within = np.arange(widest - len(prefix)) < sizes[:, None]
    joined = keys.str.join("").item().encode()
    message[:, len(prefix) : widest][within] = np.frombuffer(joined, dtype=np.uint8)
    length = len(prefix) + sizes.astype(np.int64)
    message[np.arange(len(keys)), length] = 0x80
    words = message.view("<u4").astype(np.uint32).T.copy()
    words[14] = 8 * length
    return _first_words(words).byteswap()


def _first_words(words: Words) -> Words:
    """Return the first word of the MD5 of N one-block messages, given as uint32, shape (16, N)."""
    a, b, c, d = (np.full(words.shape[1], word) for word in _START)
    for step in range(64):
        mixed = _ROUNDS[step // 16](b, c, d)
        mixed += a
        mixed += _TERMS[step]
        mixed += words[_WORDS[step]]
        mixed = (mixed << _SHIFTS[step]) | (mixed >> (_BITS - _SHIFTS[step]))
        mixed += b
        a, b, c, d = d, mixed, b, c
    return a + _START[0]


# ---- ids ----------------------------------------------------------------------------------------

#: By type, the bound below which a float holds every integer, so that ids in it are exact.
_WHOLE: dict[type[pl.DataType], int] = {pl.Float32: 2**24, pl.Float64: 2**53}
#: Ids that aren't in canonical form: with surrounding blanks, or an integer with a fraction of 0.
_ODD = r"^\s|\s$|^$|\.0+$"
_DECIMALS = r"^(-?(?:0|[1-9][0-9]*))\.0+$"


def may_identify(dtype: pl.DataType) -> bool:
    """Return whether a column of this type can hold account ids."""
    return not dtype.is_nested() and dtype != pl.Object


def canonical_id(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column's ids as canonical text; null where unknown, blank or inexact.

    Whole numbers become their digits, whether they are integers, floats, decimals or texts such as
    ``1001.0``, which pandas writes for ids where one is unknown. Texts lose surrounding blanks and
    keep leading zeros and case. Bytes are read as UTF-8, except 16 bytes that aren't printable
    ASCII, which are a UUID.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": [" 00012", "1001.0", "A-7 ", ""]})
    >>> frame.select(canonical_id("id", frame.schema["id"])).to_series().to_list()
    ['00012', '1001', 'A-7', None]
    """
    x = pl.col(name)
    if dtype.is_float():
        whole = (x.floor() == x) & (x.abs() < _WHOLE.get(type(dtype), 2**53))
        # Adding 0.0 turns -0.0 into 0.0.
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
    """Return whether an id is known but has no canonical text; None for types where all have one.

    Blank texts are not counted here.
    """
    if not (dtype.is_float() or dtype.is_decimal() or dtype == pl.Binary):
        return None
    known = pl.col(name).is_not_null()
    if dtype.is_float():
        known &= pl.col(name).is_not_nan()
    return known & canonical_id(name, dtype).is_null()


def _plain_texts(ids: pl.Series) -> pl.Series:
    """Return ids in canonical form; without a copy where all are in it, as in most tables."""
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
    """Return notes on ids that differ only by case or leading zeros, and stay apart."""
    if identifier is None or table.schema[identifier].is_numeric():
        return []
    key = canonical_id(identifier, table.schema[identifier])
    keys = collect(table, table.frame.select(key.alias("key")))["key"]
    keys = keys.unique(maintain_order=True) if table.several else keys
    sentences = []
    for differ, loose in (
        ("case", keys.str.to_lowercase()),
        ("zeros before them", keys.str.strip_chars_start("0")),
    ):
        alike = loose.is_duplicated()
        if alike.any():
            # Sorting puts ids that are alike next to each other.
            shown = keys.filter(alike).gather(loose.filter(alike).arg_sort()).head(4).to_list()
            sentences.append(
                f'{int(alike.sum()):,} ids in "{identifier}" differ from another by {differ} '
                f"alone, {culprits(shown)}: each is taken as an account of its own."
            )
    return sentences


def key_expression(identifier: str | None, schema: pl.Schema) -> pl.Expr:
    """Return each account's key: its canonical id, or its row's content where there is no id.

    Without an id, rows of equal content have equal keys, so that the split keeps them together.
    Floats are written as the bits of their double, so that the key doesn't depend on how an engine
    formats numbers. Nested columns are left out.
    """
    if identifier is not None:
        return canonical_id(identifier, schema[identifier])
    parts = []
    for name in sorted(schema.names()):
        x, dtype = pl.col(name), schema[name]
        if dtype.is_float():
            x = x.cast(pl.Float64).reinterpret(signed=True)
        elif dtype.is_temporal():
            x = x.to_physical()
        if not dtype.is_nested():
            parts.append(x.cast(pl.String).fill_null("\x00"))
    return pl.concat_str(parts, separator="\x1f")


def held_out(key: pl.Expr, split: Split) -> pl.Expr:
    """Return whether each key is drawn into the holdout: `holdout_mask` as an expression."""
    return key.map_batches(
        lambda keys: pl.Series(holdout_mask(keys, share=split.holdout, salt=split.salt)),
        return_dtype=pl.Boolean,
        is_elementwise=True,
    )


def content_keys(keys: pl.Series) -> pl.Series:
    """Return 128-bit hashes of content keys, which take less memory than the content itself."""
    short = [hashlib.md5(k.encode(), usedforsecurity=False).hexdigest() for k in keys]
    return pl.Series(keys.name, short, dtype=pl.String)


def row_key(identifier: str | None, schema: pl.Schema) -> pl.Expr:
    """Return the key that the split draws by: an account's id, or a hash of its content."""
    key = key_expression(identifier, schema).fill_null("")
    if identifier is None:
        key = key.map_batches(content_keys, return_dtype=pl.String, is_elementwise=True)
    return key


def holdout_mask(keys: pl.Series, *, share: float, salt: str) -> NDArray[np.bool_]:
    """Return, for each of N keys, whether its account is in the holdout.

    It is if the first eight hexadecimal digits of ``md5(salt || ':' || key)``, as a fraction of
    16^8, are below `share`, in [0, 1).

    Examples
    --------
    >>> holdout_mask(pl.Series(["a-2", "a-3", "a-4"]), share=0.5, salt="gtmar").tolist()
    [True, True, False]
    """
    if share <= 0:
        return np.zeros(len(keys), dtype=bool)
    drawn: NDArray[np.bool_] = md5_heads(keys, f"{salt}:") < share * 2**32
    return drawn


# ---- fingerprints -------------------------------------------------------------------------------

#: Rows that a fingerprint reads at a time: a multiple of eight, since null flags fill whole bytes.
_SLICE = 2**16


@dataclass(frozen=True)
class KeyOrder:
    """The order of accounts by their keys, in which fingerprints read columns."""

    #: String, shape (N,): in the table's order.
    keys: pl.Series
    #: UInt32, shape (N,): row numbers, sorted by key.
    rows: pl.Series
    #: UInt32: indices into `rows` of keys that occur more than once.
    tied: pl.Series

    @classmethod
    def of(cls, keys: pl.Series) -> KeyOrder:
        """Sort account keys, shape (N,).

        Cost: about 0.5 microseconds per account, and almost nothing for keys already in order.
        """
        if keys.is_sorted():
            rows = pl.int_range(len(keys), dtype=pl.UInt32, eager=True)
            ordered = keys
        else:
            rows = keys.arg_sort()
            ordered = keys.gather(rows)
        # Slices don't copy the keys, as `shift` would.
        alike = (ordered.slice(1) == ordered.slice(0, max(0, len(ordered) - 1))).arg_true()
        return cls(keys, rows, pl.concat([alike, alike + 1]).unique().sort())

    def settled(self, columns: Mapping[str, Callable[[], pl.Series]]) -> pl.Series:
        """Return row numbers sorted by key, and rows of equal keys by the values of `columns`."""
        if self.tied.is_empty():
            return self.rows
        twins = self.rows.gather(self.tied)
        frame = pl.DataFrame(
            {"": self.keys.gather(twins), **{f"c.{n}": columns[n]().gather(twins) for n in columns}}
        )
        order = frame.select(pl.arg_sort_by(["", *sorted(frame.columns[1:])])).to_series()
        return self.rows.clone().scatter(self.tied, twins.gather(order))


def fingerprint(order: KeyOrder, columns: Mapping[str, Callable[[], pl.Series]]) -> str:
    """Return a SHA-256 fingerprint of keys and integer columns, of 32 hexadecimal digits.

    It depends neither on the order of rows nor on the order of columns.

    Parameters
    ----------
    order
        The keys of N accounts and their order.
    columns
        By name, a function that returns a column of shape (N,), with nulls where unknown. Only one
        column is held in memory at a time.
    """
    rows = order.settled(columns)
    slices = [rows.slice(start, _SLICE) for start in range(0, len(rows), _SLICE)]
    state = hashlib.sha256(str(len(rows)).encode())
    for part in slices:
        state.update((order.keys.gather(part).str.join("\x00").item() + "\x00").encode())
    # In numpy, as each operation of Polars takes longer than the hash of a small column.
    places = [part.to_numpy() for part in slices]
    for name in sorted(columns):
        known = columns[name]()
        unknown = known.is_null().to_numpy() if known.null_count() else np.zeros(len(rows), bool)
        values = (known.fill_null(0) if known.null_count() else known).to_numpy()
        state.update(f"c.{name}".encode() + b"\x00")
        for place in places:
            state.update(np.packbits(unknown[place]).tobytes())
        for place in places:
            state.update(values[place].astype("<i8", copy=False).data)
    return state.hexdigest()[:32]


# ---- copies -------------------------------------------------------------------------------------

#: Repeats must exceed this many times the number that independent columns would give, since columns
#: seldom are independent.
_BEYOND = 10.0
#: Fewer repeated contents than this are no evidence by their number.
_FEW = 3
#: Outcomes that are amounts.
_MONEY = ("start", "end", "ltv")
#: The sizes of this many contents have a common divisor by chance about once in a million tables.
_MANY = 20


@dataclass(frozen=True)
class Copies:
    """Accounts that repeat the content of another one."""

    #: Row numbers of all accounts of repeated content, the first of each content included.
    rows: pl.Series
    #: Keys of these accounts.
    keys: pl.Series
    #: Smallest key of each account's content, by which the split draws all accounts of the content.
    first: pl.Series
    #: Number of accounts of the most frequent content.
    largest: int
    #: Whether amounts are compared within 1 % instead of exactly.
    near: bool = False

    @property
    def repeated(self) -> int:
        """Number of accounts that repeat another one: all but one of each content."""
        return len(self.rows) - self.first.n_unique()

    def repeated_in(self, held_out: NDArray[np.bool_], *, held: bool) -> int:
        """Return the number of repeats in the holdout, or with `held` False in the search part.

        `held_out`, shape (N,), must have all accounts of a content in one part.
        """
        inside = pl.Series(held_out[self.rows.to_numpy()] == held)
        return int(inside.sum()) - self.first.filter(inside).n_unique()

    def drawn_by(self, keys: pl.Series) -> pl.Series:
        """Return the keys, shape (N,), that the split draws by: one key per repeated content."""
        return keys.clone().scatter(self.rows, self.first)


def find_copies(
    keys: pl.Series, columns: Columns, blocks: Mapping[str, Collection[str]]
) -> Copies | None:
    """Find accounts of equal features and outcomes, more of them than chance explains.

    Amounts are compared exactly and within 1 %, and the comparison that finds more accounts counts.

    Parameters
    ----------
    keys
        Keys of N accounts.
    columns
        Features and outcomes as integers, shape (N,).
    blocks
        Names of columns that depend on each other, by block: the terms of one column, all outcomes.

    Returns
    -------
    Copies or None
        The accounts of repeated content; None where chance explains them, or there are none.

    Notes
    -----
    A content is rare if, with independent blocks, fewer than one of N accounts would be expected to
    have it: N times the product of its values' shares is below 1. Rare contents that occur more
    than once are copies if their number exceeds two limits:

    - ten times the number of repeats expected by coincidence, plus three standard deviations;
    - the number of pairs of contents, one of them rare, that differ in a single block. If equal
      rows were coincidence, almost equal rows would be more frequent, however columns depend on
      each other.

    One or two repeated contents may belong to accounts without any activity. They count only if at
    least two of their blocks have values that no other content has. A table of 20 contents or more
    whose frequencies have a common divisor above 1 was copied as a whole, and all of it counts.

    Cost: a hash of each column, and a hash table of N numbers, 8 bytes each; about three times that
    where rows repeat.
    """
    equal = _repeated(keys, columns, blocks, {})
    steps = _near_amounts(columns, blocks)
    near = _repeated(keys, columns, blocks, steps) if steps else None
    if near is None or (equal is not None and len(equal.rows) >= len(near.rows)):
        return equal
    return replace(near, near=True)


def _near_amounts(columns: Columns, blocks: Mapping[str, Collection[str]]) -> dict[str, pl.Series]:
    """Return amounts as numbers of 1 % steps; empty if no accounts are equal in all else.

    Among accounts that are equal in all else, amounts within 1 % of each other get the same step,
    even if a step's edge lies between them.
    """
    others = ([name for name in names if name not in _MONEY] for names in blocks.values())
    seeded = {seed: names for seed, names in enumerate(others) if names}
    group = pl.Series("group", sum(_hashes(columns, seeded, {}), np.zeros(1, np.uint64)))
    rows = group.is_duplicated().arg_true()
    amounts = {n: columns[n] for names in blocks.values() for n in names if n in _MONEY}
    money = [name for name, amount in amounts.items() if amount.count()]
    if not money or rows.is_empty():
        return {}
    frame = pl.DataFrame([group.gather(rows), *(amounts[name].gather(rows) for name in money)])
    frame = frame.with_row_index("row")
    for name in money:
        frame = frame.sort("group", name, "row")
        x, last = pl.col(name), pl.col(name).shift()
        further = (x - last) * 100 > pl.max_horizontal(last.abs(), pl.when(last != 0).then(100))
        apart = (pl.col("group") != pl.col("group").shift()) | further.fill_null(value=True)
        frame = frame.with_columns(apart.fill_null(value=True).cum_sum().alias("run"))
        low = x.min().over("run")
        within = (x.max().over("run") - low) * 100 <= pl.max_horizontal(low.abs(), 100)
        one = pl.when(within).then(low).otherwise(x)
        step = one.map_batches(_steps, return_dtype=pl.Int64)
        frame = frame.with_columns(step.alias(name))
        frame = frame.with_columns(pl.struct("group", name).hash().alias("group"))
    frame = frame.sort("row")
    return {name: _steps(amounts[name]).scatter(rows, frame[name]) for name in money}


def _steps(amounts: pl.Series) -> pl.Series:
    """Return each amount's step of about 1 %: its exponent and its first seven binary digits."""
    digits, exponent = np.frexp(amounts.fill_null(0).to_numpy().astype(np.float64))
    steps = pl.Series(amounts.name, exponent * 512 + np.floor(digits * 128).astype(np.int64))
    return steps.cast(pl.Int64).set(amounts.is_null(), None)


def _hashes(
    columns: Columns, blocks: Mapping[int, Collection[str]], steps: Mapping[str, pl.Series]
) -> Iterator[Hashes]:
    """Yield the row hashes of each block, with amounts replaced by their `steps`, if any."""
    # One block at a time, since a table may exceed memory.
    for seed, names in blocks.items():
        block = [steps[n] if n in steps else columns[n].alias(n) for n in names]
        yield pl.DataFrame(block).hash_rows(seed=seed).to_numpy()


def _repeated(
    keys: pl.Series,
    columns: Columns,
    blocks: Mapping[str, Collection[str]],
    steps: Mapping[str, pl.Series],
) -> Copies | None:
    """Find accounts whose columns, or steps of amounts, are equal beyond coincidence."""
    seeded = dict(enumerate(blocks.values()))

    def hashes() -> Iterator[Hashes]:
        return _hashes(columns, seeded, steps)

    whole = pl.Series(sum(hashes(), np.zeros(len(keys), np.uint64)))
    if not whole.is_duplicated().any():
        return None
    distinct = pl.DataFrame({"whole": whole}).with_row_index("row").unique("whole", keep="first")
    at = distinct["row"].sort().to_numpy()
    sizes = _sizes(whole)[at]
    # In a table copied as a whole, the frequencies of contents have a common divisor.
    whole_table = len(at) >= _MANY and np.gcd.reduce(sizes.astype(np.int64)) > 1
    repeats = sizes > 1 if whole_table else _beyond_coincidence(hashes, whole, at, sizes)
    if not repeats.any():
        return None
    contents_repeated = pl.DataFrame({"whole": whole.gather(at[repeats])})
    frame = pl.DataFrame({"whole": whole, "key": keys}).with_row_index("row")
    frame = frame.join(contents_repeated, on="whole", how="semi").sort("row")
    return Copies(
        rows=frame["row"],
        keys=frame["key"],
        first=frame.select(pl.col("key").min().over("whole")).to_series(),
        largest=int(sizes[repeats].max()),
    )


def _beyond_coincidence(
    hashes: Callable[[], Iterator[Hashes]], whole: pl.Series, at: NDArray[np.uint32], sizes: Doubles
) -> NDArray[np.bool_]:
    """Return which contents are repeated beyond coincidence: rare ones, or none at all."""
    shares, own = np.zeros(len(at)), np.zeros(len(at))
    for values in hashes():
        alike = _sizes(pl.Series(values))[at]
        shares += np.log(alike / len(whole))
        own += alike == sizes
    expected = len(whole) * np.exp(shares)
    rare = expected < 1
    repeats: NDArray[np.bool_] = rare & (sizes > 1)
    if repeats.sum() < _FEW:
        repeats &= own > 1
    by_chance = _BEYOND * float(expected[rare].sum()) / 2
    least = max(by_chance + 3 * by_chance**0.5, _almost(hashes, whole.to_numpy()[at], at, rare))
    return repeats if repeats.sum() > least else np.zeros_like(repeats)


def _sizes(values: pl.Series) -> Doubles:
    """Return the frequency of each value."""
    counted = values.to_frame("v").select(pl.len().over("v"))
    return counted.to_series().cast(pl.Float64).to_numpy()


def _almost(
    hashes: Callable[[], Iterator[Hashes]],
    whole: Hashes,
    at: NDArray[np.uint32],
    rare: NDArray[np.bool_],
) -> float:
    """Return the number of pairs of a rare content and another that differ in one block only."""
    # Hash sums wrap around, so subtracting a block's hash leaves the sum of the others.
    others = (pl.Series(whole - values[at]) for values in hashes())
    return sum(float((_sizes(rest)[rare] - 1).sum()) for rest in others) / 2
