"""The digest over a run's experiments: of each row its numbers as bits, then its texts as JSON.

What it is of is described in `docs/journal-format.md`. Rows are put together from columns: a text
is worded once however many rows say it, and numbers are never Python objects.
"""

from __future__ import annotations

import hashlib
import json
import json.encoder
from itertools import chain, pairwise, repeat
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["OUTSIDE_DIGEST", "RunDigest"]

#: What a digest leaves out: the run's id, times, durations, and wording, which follows from the
#: values and may get better from version to version.
OUTSIDE_DIGEST = ("run_id", "evaluated_at", "duration_us", "null_reasons", "breaches")

#: A number as the digest takes it in: a byte for null, then its 64 bits, little-endian.
_CELL = np.dtype([("known", "u1"), ("bits", "<u8")])
#: Rows hashed at once: a megabyte or two, during which Python's lock is free.
_HASHED_AT_ONCE = 512

_AS_JSON = json.JSONEncoder(ensure_ascii=False).encode


class RunDigest:
    """A hash over a run's rows in order, whatever parts they are written in.

    It leaves out the run's id, times, durations, null reasons and breaches, so that the same table,
    spec, seed, parameters and memory give the same digest on any machine. Of each row it takes in
    the numbers as their 64 bits, little-endian, each with a byte for null before it, then the texts
    as JSON.
    """

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def update(self, table: pa.Table) -> None:
        """Take in the next rows. Cost: about 4 microseconds a row, a third of it the hash."""
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
    """Return the keys of a MAP of numbers whose rows all have the same ones; else None."""
    if not pa.types.is_map(column.type) or column.null_count:
        return None
    if not _is_number(column.type.item_type):
        return None
    keys = column.keys
    width = len(keys) // len(column)
    if width == 0 or not (np.diff(column.offsets.to_numpy()) == width).all():
        return None
    # Each key is the one a row before: so all are those of the first row.
    same = keys.slice(width).equals(keys.slice(0, len(keys) - width))
    return keys.slice(0, width).to_pylist() if same else None


def _number_bytes(columns: Sequence[tuple[pa.Array, int]], count: int) -> list[bytes]:
    """Return the bytes of each row's cells; a column has as many a row as stand beside it."""
    total = sum(width for _, width in columns)
    if not total:
        return [b""] * count
    cells = np.empty((count, total), dtype=_CELL)
    place = 0
    for column, width in columns:
        known, bits = _bits(column)
        there = slice(place, place + width)
        cells["known"][:, there] = known.reshape(count, width)
        cells["bits"][:, there] = bits.reshape(count, width)
        place += width
    row = np.dtype((np.void, total * _CELL.itemsize))
    # The stubs don't know that nothing but bytes is made of `void`.
    return cast("list[bytes]", cells.view(row).ravel().tolist())


def _bits(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Return for each number whether it is known, and its 64 bits, 0 of a null."""
    here = slice(column.offset, column.offset + len(column))
    validity, data = column.buffers()
    bits = np.frombuffer(data, dtype="<u8")[here]
    if validity is None or not column.null_count:
        return np.ones(len(column), dtype=np.uint8), bits
    known = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), bitorder="little")[here]
    # What lies under a null is anything.
    return known, np.where(known, bits, 0)


def _joined(columns: Sequence[str | list[str]], count: int) -> list[bytes]:
    """Return the JSON array of each row's values; a text alone is the same in all rows."""
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
    """Return each value of a column as JSON; one text where all are the same."""
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
    """Word a text as JSON, at a third of the cost of the whole encoder."""
    return "null" if text is None else json.encoder.encode_basestring(text)


def _is_plain_change(column: pa.Array) -> bool:
    """Whether a column is a MAP from text to integers with names, without any null."""
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
    """Return each row's changes as JSON, from the flat arrays of all of them."""
    keys = column.keys.to_numpy(zero_copy_only=False).tolist()
    heads = {key: f"[{_quoted(key)}, {{" for key in set(keys)}
    pieces = [[heads[key] for key in keys]]
    lead = ""
    for field in column.type.item_type:
        numbers = column.items.field(field.name).to_numpy().tolist()
        # Weights are few numbers, said over and over.
        words = {number: f"{lead}{_quoted(field.name)}: {number}" for number in set(numbers)}
        pieces.append([words[number] for number in numbers])
        lead = ", "
    flat = ["".join(row) + "}]" for row in zip(*pieces, strict=True)]
    ends = column.offsets.to_numpy().tolist()
    return [f"[{', '.join(flat[first:last])}]" for first, last in pairwise(ends)]
