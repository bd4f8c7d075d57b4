"""Which account is which, and in which part: ids, fingerprints, the holdout, and copies.

Any database can draw the same holdout by the MD5 of each account's key. `hashlib` takes half a
microsecond a key and holds Python's lock meanwhile, so that ten million keys would cost as much as
the rest of their loading; here all keys of a block take each step of MD5 together, in numpy.
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

#: Keys that go through the algorithm together: few enough that their words stay in cache.
_TOGETHER = 16_384
#: Bytes of a message that fits one block of MD5, its end mark and length aside.
_ONE_BLOCK = 55
_START = tuple(np.uint32(word) for word in (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476))
_TERMS = tuple(np.uint32(int(abs(math.sin(i)) * 2**32)) for i in range(1, 65))
_BITS = np.uint32(32)
_SHIFTS = tuple(
    np.uint32(shift)
    for four in ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
    for shift in four * 4
)
#: Which word of the message each of the 64 steps takes in: a factor and an offset a round.
_WORDS = tuple((a * i + b) % 16 for (a, b) in ((1, 0), (5, 1), (3, 5), (7, 0)) for i in range(16))
#: How each round of 16 steps mixes three words of the state.
_ROUNDS: tuple[Callable[[Words, Words, Words], Words], ...] = (
    lambda b, c, d: d ^ (b & (c ^ d)),
    lambda b, c, d: c ^ (d & (b ^ c)),
    lambda b, c, d: b ^ c ^ d,
    lambda b, c, d: c ^ (b | ~d),
)


def md5_heads(keys: pl.Series, prefix: str) -> NDArray[np.uint32]:
    """Return the first four bytes of ``md5(prefix || key)`` of N texts as big-endian uint32.

    Cost: about 0.1 microseconds a key and core. Where prefix and key take more than 55 bytes, the
    standard library's own MD5 does it, a key at a time. R. Rivest, RFC 1321.
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
    # Prefix, key, a set bit, zeros, and in the last eight bytes the length in bits.
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
    """Return the first word of the MD5 of N one-block messages, given as uint32 (16, N)."""
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
    """Say which ids are the same but for case or zeros before them; each stays an account's own."""
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
        x, dtype = pl.col(name), schema[name]
        if dtype.is_float():
            x = x.cast(pl.Float64).reinterpret(signed=True)
        elif dtype.is_temporal():
            x = x.to_physical()
        if not dtype.is_nested():
            parts.append(x.cast(pl.String).fill_null("\x00"))
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


def row_key(identifier: str | None, schema: pl.Schema) -> pl.Expr:
    """Return what the split draws by: an account's id, or a hash of its content."""
    key = key_expression(identifier, schema).fill_null("")
    if identifier is None:
        key = key.map_batches(content_keys, return_dtype=pl.String, is_elementwise=True)
    return key


def holdout_mask(keys: pl.Series, *, share: float, salt: str) -> NDArray[np.bool_]:
    """Draw the holdout: True for accounts, of N, whose hashed key falls below the share, in [0, 1).

    The first eight hexadecimal digits of ``md5(salt || ':' || key)``, as a fraction of 16^8.

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

#: Rows that a fingerprint reads at a time: a multiple of eight, since eight flags make a byte.
_SLICE = 2**16


@dataclass(frozen=True)
class KeyOrder:
    """Accounts in the order of their keys, which is the one that fingerprints are taken in."""

    keys: pl.Series
    #: UInt32, shape (N,): row numbers.
    rows: pl.Series
    #: UInt32: indices into `rows` whose key another account has too.
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
    """Hash integer columns of N accounts, in the order of their keys, to 32 hexadecimal digits.

    `columns` has by name what gives a column, shape (N,), nulls allowed; their order doesn't
    matter. One is held at a time, and read a slice of rows at a time.
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


# ---- copies -------------------------------------------------------------------------------------

#: Repeated rows must be so many times those that independent columns give: columns seldom are.
_BEYOND = 10.0
#: Fewer contents than this prove nothing by their number.
_FEW = 3
#: Outcomes that are amounts.
_MONEY = ("start", "end", "ltv")
#: So many contents have sizes with a common divisor once in a million times.
_MANY = 20


@dataclass(frozen=True)
class Copies:
    """Accounts that repeat another one, and which one."""

    #: Row numbers of all accounts of repeated content, the first of each included; and their keys.
    rows: pl.Series
    keys: pl.Series
    #: For each the smallest key of its content, by which the split draws all of them.
    first: pl.Series
    #: Accounts of the content that is repeated most.
    largest: int
    #: Whether their amounts are alike, and not all equal.
    near: bool = False

    @property
    def repeated(self) -> int:
        """How many accounts repeat another one: those that would be left away to have each once."""
        return len(self.rows) - self.first.n_unique()

    def repeated_in(self, held_out: NDArray[np.bool_], *, held: bool) -> int:
        """Count the same of the holdout, or of the other part; a content lies in one as a whole."""
        inside = pl.Series(held_out[self.rows.to_numpy()] == held)
        return int(inside.sum()) - self.first.filter(inside).n_unique()

    def drawn_by(self, keys: pl.Series) -> pl.Series:
        """Return the keys, shape (N,), that the split draws by."""
        return keys.clone().scatter(self.rows, self.first)


def find_copies(
    keys: pl.Series, columns: Columns, blocks: Mapping[str, Collection[str]]
) -> Copies | None:
    """Find accounts of equal features and outcomes, where chance doesn't explain them.

    Amounts are equal, or within 1 % of each other: whichever finds more. Keys, and features and
    outcomes as integers, have shape (N,). `blocks` has names of columns, by what they say together:
    the terms of a column, all outcomes.

    Notes
    -----
    A content is rare where fewer than one account in all would have it by coincidence, were blocks
    independent: the product of its values' shares, times N. Of rare contents alone, two questions
    are asked. Are more of them repeated than ten times what coincidence gives, and its chance? And
    more than there are pairs of them that differ in one block alone? Where equal rows are
    coincidence, almost equal ones are more frequent still, however columns depend on each other.
    One or two contents may be those of accounts that never did anything, and count where two blocks
    have values that no other content has. Apart from all that, twenty contents or more that each
    occur twice, or six times, or a multiple of it, are a table that was copied as a whole.

    Cost: a hash of each column, and a hash table of N numbers, 8 bytes each; twice more where a row
    repeats.
    """
    equal = _repeated(keys, columns, blocks, {})
    steps = _near_amounts(columns, blocks)
    near = _repeated(keys, columns, blocks, steps) if steps else None
    if near is None or (equal is not None and len(equal.rows) >= len(near.rows)):
        return equal
    return replace(near, near=True)


def _near_amounts(columns: Columns, blocks: Mapping[str, Collection[str]]) -> dict[str, pl.Series]:
    """Return amounts in steps of 1 %; none where no accounts are alike in all else.

    Of accounts that are, amounts within 1 % are in one step, which has no edge between them.
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
    """Return the step of about 1 % that each amount is in: its exponent and seven binary digits."""
    digits, exponent = np.frexp(amounts.fill_null(0).to_numpy().astype(np.float64))
    steps = pl.Series(amounts.name, exponent * 512 + np.floor(digits * 128).astype(np.int64))
    return steps.cast(pl.Int64).set(amounts.is_null(), None)


def _hashes(
    columns: Columns, blocks: Mapping[int, Collection[str]], steps: Mapping[str, pl.Series]
) -> Iterator[Hashes]:
    """Hash each block of columns by its seed, in place of some their steps."""
    # One block at a time, since a table may outgrow memory.
    for seed, names in blocks.items():
        block = [steps[n] if n in steps else columns[n].alias(n) for n in names]
        yield pl.DataFrame(block).hash_rows(seed=seed).to_numpy()


def _repeated(
    keys: pl.Series,
    columns: Columns,
    blocks: Mapping[str, Collection[str]],
    steps: Mapping[str, pl.Series],
) -> Copies | None:
    """Find accounts whose columns, or their steps, are equal, where chance doesn't explain them."""
    seeded = dict(enumerate(blocks.values()))

    def hashes() -> Iterator[Hashes]:
        return _hashes(columns, seeded, steps)

    whole = pl.Series(sum(hashes(), np.zeros(len(keys), np.uint64)))
    if not whole.is_duplicated().any():
        return None
    distinct = pl.DataFrame({"whole": whole}).with_row_index("row").unique("whole", keep="first")
    at = distinct["row"].sort().to_numpy()
    sizes = _sizes(whole)[at]
    # A table that was copied as a whole has every content as often, or a multiple of it.
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
    """Say which contents are repeated beyond coincidence: rare ones, or none."""
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
    """Return for each value how often it occurs."""
    counted = values.to_frame("v").select(pl.len().over("v"))
    return counted.to_series().cast(pl.Float64).to_numpy()


def _almost(
    hashes: Callable[[], Iterator[Hashes]],
    whole: Hashes,
    at: NDArray[np.uint32],
    rare: NDArray[np.bool_],
) -> float:
    """Count pairs of rare contents and others that differ from them in one block alone."""
    # Sums of hashes wrap, so that taking a block away leaves the sum of the others.
    others = (pl.Series(whole - values[at]) for values in hashes())
    return sum(float((_sizes(rest)[rare] - 1).sum()) for rest in others) / 2
