"""The digest of a run's experiments, and the digest of a whole journal.

`docs/journal-format.md` describes what they cover. A run's rows are serialised column by column: a
text is encoded once, however many rows share it, and numbers never become Python objects.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import json.encoder
import re
from dataclasses import dataclass
from itertools import chain, combinations, pairwise, repeat
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from gtmar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gtmar.journal.files import JournalFile, Link

__all__ = [
    "OUTSIDE_DIGEST",
    "DigestEntry",
    "Held",
    "RunDigest",
    "digest_of",
    "event_entry",
    "hold_against",
    "run_entry",
    "saved_list",
]


#: Columns that a digest leaves out: the run's id, times, durations, and texts that follow from the
#: values, whose wording may change between versions.
OUTSIDE_DIGEST = ("run_id", "evaluated_at", "duration_us", "null_reasons", "breaches")

#: A number in the digest: one byte, 1 or for null 0, then its 64 bits, little-endian.
_CELL = np.dtype([("known", "u1"), ("bits", "<u8")])
#: Rows that are hashed in one call: a megabyte or two, for which the GIL is released.
_HASHED_AT_ONCE = 512

_AS_JSON = json.JSONEncoder(ensure_ascii=False).encode


class RunDigest:
    """A hash over a run's rows in order, independent of how they are divided into parts.

    It leaves out the run's id, times, durations, null reasons and breaches, so that the same table,
    spec, seed, parameters and memory give the same digest on any machine. Each row is hashed as its
    numbers, 64 bits each, little-endian, after a byte for null, and then its texts as JSON.
    """

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def update(self, table: pa.Table) -> None:
        """Add the next rows. Cost: about 4 microseconds a row, a third of it for the hash."""
        count = table.num_rows
        numbers: list[tuple[pa.Array, int]] = []
        constants: list[str] = []
        texts: list[str | list[str]] = []
        for name in table.column_names:
            if name in OUTSIDE_DIGEST or count == 0:
                continue
            column = table[name].combine_chunks()
            keys = _shared_keys(column)
            if keys is not None:
                constants.append(json.dumps([name, keys]))
                numbers.append((column.items, len(keys)))
            elif _is_number(column.type):
                numbers.append((column, 1))
            else:
                texts.append(_worded(column))
        head = "".join(constants).encode()
        heads = repeat(head, count)
        rows = zip(heads, _number_bytes(numbers, count), _joined(texts, count), strict=True)
        pieces = list(chain.from_iterable(rows))
        step = 3 * _HASHED_AT_ONCE
        for first in range(0, len(pieces), step):
            self._state.update(b"".join(pieces[first : first + step]))

    def hexdigest(self) -> str:
        """Return the digest so far."""
        return self._state.hexdigest()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _shared_keys(column: pa.Array) -> list[str] | None:
    """Return the keys of a MAP column of numbers if all rows have the same ones, else None."""
    if not pa.types.is_map(column.type) or column.null_count:
        return None
    if not _is_number(column.type.item_type):
        return None
    keys = column.keys
    width = len(keys) // len(column)
    if width == 0 or not (np.diff(column.offsets.to_numpy()) == width).all():
        return None
    # Each key equals that of the row before, so all rows have the keys of the first.
    same = keys.slice(width).equals(keys.slice(0, len(keys) - width))
    return keys.slice(0, width).to_pylist() if same else None


def _number_bytes(columns: Sequence[tuple[pa.Array, int]], count: int) -> list[bytes]:
    """Return the bytes of each row's cells, from columns with their numbers of cells per row."""
    total = sum(width for _, width in columns)
    if not total:
        return [b""] * count
    cells = np.empty((count, total), dtype=_CELL)
    offset = 0
    for column, width in columns:
        known, bits = _bits(column)
        there = slice(offset, offset + width)
        cells["known"][:, there] = known.reshape(count, width)
        cells["bits"][:, there] = bits.reshape(count, width)
        offset += width
    row = np.dtype((np.void, total * _CELL.itemsize))
    # The type stubs don't know that a list of `void` is one of bytes.
    return cast("list[bytes]", cells.view(row).ravel().tolist())


def _bits(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Return for each number whether it is known, and its 64 bits, which are 0 for a null."""
    here = slice(column.offset, column.offset + len(column))
    validity, data = column.buffers()
    bits = np.frombuffer(data, dtype="<u8")[here]
    if validity is None or not column.null_count:
        return np.ones(len(column), dtype=np.uint8), bits
    known = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), bitorder="little")[here]
    # The bits under a null are arbitrary.
    return known, np.where(known, bits, 0)


def _joined(columns: Sequence[str | list[str]], count: int) -> list[bytes]:
    """Return the JSON array of each row's values; a column that is one text is constant."""
    runs: list[str | list[str]] = []
    for column in columns:
        if isinstance(column, str) and runs and isinstance(runs[-1], str):
            runs[-1] = f"{runs[-1]}, {column}"
        else:
            runs.append(column)
    each = [repeat(run, count) if isinstance(run, str) else run for run in runs]
    if not each:
        return [b"[]"] * count
    return [f"[{', '.join(row)}]".encode() for row in zip(*each, strict=True)]


def _worded(column: pa.Array) -> str | list[str]:
    """Return the values of a column as JSON; a single text if all are the same."""
    if pa.types.is_string(column.type):
        values = column.to_numpy(zero_copy_only=False).tolist()
        words = {value: _quoted(value) for value in set(values)}
        if len(words) == 1:
            return next(iter(words.values()))
        return [words[value] for value in values]
    if _is_plain_change(column):
        return _worded_changes(column)
    return [_AS_JSON(value) for value in column.to_pylist()]


def _quoted(text: str | None) -> str:
    """Encode a text as JSON, at a third of the cost of the whole encoder."""
    return "null" if text is None else json.encoder.encode_basestring(text)


def _is_plain_change(column: pa.Array) -> bool:
    """Return whether a column is a MAP from text to structs of integers, without any null."""
    if not pa.types.is_map(column.type) or not pa.types.is_struct(column.type.item_type):
        return False
    fields = [column.type.item_type.field(i) for i in range(column.type.item_type.num_fields)]
    arrays = [column, column.items, *(column.items.field(field.name) for field in fields)]
    return (
        pa.types.is_string(column.type.key_type)
        and all(pa.types.is_integer(field.type) for field in fields)
        and not any(array.null_count for array in arrays)
    )


def _worded_changes(column: pa.Array) -> list[str]:
    """Return each row's changes as JSON, computed from the flat arrays of all rows."""
    keys = column.keys.to_numpy(zero_copy_only=False).tolist()
    heads = {key: f"[{_quoted(key)}, {{" for key in set(keys)}
    pieces = [[heads[key] for key in keys]]
    lead = ""
    for field in column.type.item_type:
        numbers = column.items.field(field.name).to_numpy().tolist()
        # Weights repeat, so each distinct number is formatted once.
        words = {number: f"{lead}{_quoted(field.name)}: {number}" for number in set(numbers)}
        pieces.append([words[number] for number in numbers])
        lead = ", "
    flat = ["".join(row) + "}]" for row in zip(*pieces, strict=True)]
    ends = column.offsets.to_numpy().tolist()
    return [f"[{', '.join(flat[first:last])}]" for first, last in pairwise(ends)]


_PREFIX, _OLD_PREFIX = "gtmar2", "gtmar1"
_TOKEN = re.compile(
    rf"(?:{_PREFIX}:([0-9]{{1,9}}):([0-9a-f]{{64}}):([\w=-]+)|{_OLD_PREFIX}:([0-9]{{1,9}}):([0-9a-f]{{64}}))",
    re.ASCII,
)
#: Number of power sums in a digest, thus the most later entries that can be identified among
#: earlier ones; and the prime field of the sums.
_SUMS = 16
_FIELD = 2**61 - 1
#: Most sets of entries that are tried for a digest of the old form (gtmar1).
_MOST_TRIES = 4000


@dataclass(frozen=True)
class DigestEntry:
    """A run that has ended, or an event."""

    #: The run's id; for an event, the name of its file, which includes its id.
    name: str
    #: Hash over all files of the run as first written; for an event, of its file.
    sha256: str
    #: Time at which the file system says that it reached this disk: only a hint for the search.
    arrived: int = 0
    #: Line that a digest of the old form covers: time, name and hash; empty if unknown.
    old_line: str = ""

    @property
    def line(self) -> str:
        """The entry as a line of text."""
        return f"{self.name} {self.sha256}"


@dataclass(frozen=True)
class Held:
    """The comparison of a journal with an older digest or list."""

    holds: bool
    #: Number of entries added since; None if unknown.
    added: int | None
    #: Names of entries that are gone or have changed; only a list can tell, a digest can't.
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def run_entry(run_id: str, links: Sequence[Link], arrived: int, old_line: str = "") -> DigestEntry:
    """Return the entry of a run, over the files of its chain, packed parts in their old form."""
    files = sorted({(link.name, link.sha256) for link in links})
    return DigestEntry(run_id, _sha256(json.dumps(files)), arrived, old_line)


def event_entry(file: JournalFile, arrived: int, old_line: str = "") -> DigestEntry:
    """Return the entry of an event."""
    return DigestEntry(file.path.name, file.sha256, arrived, old_line)


def digest_of(entries: Sequence[DigestEntry]) -> str:
    """Return the digest of a set of entries, to be stored outside the journal."""
    sums = b"".join(each.to_bytes(8, "big") for each in _power_sums(entries))
    stated = base64.urlsafe_b64encode(sums).decode().rstrip("=")
    return f"{_PREFIX}:{len(entries)}:{_hash(entry.line for entry in entries)}:{stated}"


def saved_list(entries: Sequence[DigestEntry]) -> str:
    """Return the entries as text, for a file that a later journal is compared with."""
    return "".join(f"{line}\n" for line in sorted(entry.line for entry in entries))


def hold_against(
    entries: Sequence[DigestEntry], against: str, withdrawn: Sequence[DigestEntry] = ()
) -> Held:
    """Return whether everything that a digest or a saved list covers is unchanged.

    Parameters
    ----------
    entries
        The present entries.
    against
        An earlier digest, or the path of a saved list.
    withdrawn
        Entries of undone imports, which count as present.

    Raises
    ------
    UsageError
        If `against` is neither.
    """
    match = _TOKEN.fullmatch(against)
    pool = [*entries, *withdrawn]
    if match is None:
        return _against_list(pool, against)
    count = int(match[1] or match[4])
    if count > len(pool):
        return Held(holds=False, added=None)
    candidates = (
        _reconciled(pool, count, _sums_in(against, match[3])) if match[3] else _likely(pool, count)
    )
    stated = match[2] or match[5]
    for kept in candidates:
        lines = [entry.line if match[3] else entry.old_line for entry in kept]
        if _hash(lines) == stated:
            there = set(kept)
            return Held(holds=True, added=sum(entry not in there for entry in entries))
    return Held(holds=False, added=None)


def _against_list(pool: Sequence[DigestEntry], against: str) -> Held:
    try:
        lines = Path(against).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    saved = dict(line.split(" ", 1) for line in lines if line.count(" ") == 1)
    if not saved or len(saved) != len(lines):
        raise UsageError(
            f'"{against}" is no digest of a journal, and no list of its entries',
            hint=f"a digest looks like {_PREFIX}:12:0f3a...:Qx..., as gtmar verify prints it; "
            "gtmar verify --save FILE writes a list",
        )
    now = {entry.name: entry.sha256 for entry in pool}
    missing = tuple(sorted(saved.keys() - now.keys()))
    changed = tuple(sorted(n for n in saved.keys() & now.keys() if saved[n] != now[n]))
    added = len(now.keys() - saved.keys())
    return Held(not missing and not changed, added, missing, changed)


def _sums_in(against: str, stated: str) -> list[int]:
    try:
        raw = base64.urlsafe_b64decode(stated + "=" * (-len(stated) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 8 * _SUMS:
        raise UsageError(
            f'"{against}" is no digest of a journal: its end was cut off or changed',
            hint="give it whole, as gtmar verify printed it",
        )
    return [int.from_bytes(raw[n : n + 8], "big") for n in range(0, len(raw), 8)]


def _reconciled(
    pool: Sequence[DigestEntry], count: int, before: Sequence[int]
) -> Iterator[Sequence[DigestEntry]]:
    """Yield sets of `count` entries that may be the earlier ones, by the power sums `before`.

    Of the first entries in an order, those are left out whose sums make up the difference.
    """
    # Ids of runs and events begin with a letter, then the time.
    by_time = sorted(pool, key=lambda entry: entry.name.removeprefix("event_id=")[1:])
    for order in (by_time, _by_arrival(pool)):
        for reach in range(count, min(len(order), count + _SUMS) + 1):
            first = order[:reach]
            now = _power_sums(first)
            added = _with_sums(first, [(n - b) % _FIELD for n, b in zip(now, before, strict=True)])
            if len(added) == reach - count:
                yield [entry for entry in first if entry not in added]


def _with_sums(entries: Sequence[DigestEntry], sums: Sequence[int]) -> set[DigestEntry]:
    """Return the entries whose hashes have these power sums; wrong if there are more than sums."""
    # Newton's identities: k e_k = sum over i from 1 to k of (-1)^(i-1) e_(k-i) p_i.
    symmetric = [1]
    for k in range(1, _SUMS + 1):
        total = sum((-1) ** (i - 1) * symmetric[k - i] * sums[i - 1] for i in range(1, k + 1))
        symmetric.append(total * pow(k, -1, _FIELD) % _FIELD)
    while symmetric and not symmetric[-1]:
        symmetric.pop()
    signed = [(-1) ** k * each for k, each in enumerate(symmetric)]
    listed = set()
    for entry in entries:
        value = 0
        for each in signed:
            value = (value * _point(entry) + each) % _FIELD
        if value == 0:
            listed.add(entry)
    return listed


def _likely(pool: Sequence[DigestEntry], count: int) -> Iterator[Sequence[DigestEntry]]:
    """Yield sets of `count` entries that a digest of the old form may cover, likely ones first."""
    orders = sorted(pool, key=lambda entry: entry.old_line), _by_arrival(pool)
    tries = 0
    for order in orders:
        for first in range(min(len(order) - count, _MOST_TRIES // 4) + 1):
            tries += 1
            yield order[first : first + count]
    for order in orders:
        for late in range(1, len(order) - count + 1):
            reach = order[: count + late]
            if comb(len(reach), late) + tries > _MOST_TRIES:
                # Late entries are probably among the last ones.
                reach = reach[-60:]
            if late > 2 and comb(len(reach), late) + tries > _MOST_TRIES:
                break
            kept_always = order[: count + late - len(reach)]
            for left_out in combinations(reach, late):
                tries += 1
                yield [*kept_always, *(entry for entry in reach if entry not in left_out)]


def _by_arrival(entries: Sequence[DigestEntry]) -> list[DigestEntry]:
    return sorted(entries, key=lambda entry: (entry.arrived, entry.name))


def _point(entry: DigestEntry) -> int:
    return int(_sha256(entry.line)[:16], 16) % _FIELD


def _power_sums(entries: Sequence[DigestEntry]) -> list[int]:
    sums = [0] * _SUMS
    for entry in entries:
        point = power = _point(entry)
        for n in range(_SUMS):
            sums[n] = (sums[n] + power) % _FIELD
            power = power * point % _FIELD
    return sums


def _hash(lines: Iterable[str]) -> str:
    return _sha256("\n".join(sorted(lines)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
