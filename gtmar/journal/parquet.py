"""How a journal's rows lie in a Parquet file: compression, dictionaries, statistics, checksums.

A part is written while its run goes on, so it is written fast; what is packed is there to stay and
to be read, so it is small.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FAST", "SMALL", "write_parquet"]

#: Snappy takes two thirds of zstd's time with several rows and half with few, and a third more
#: room.
FAST = "snappy"
SMALL = "zstd"


def write_parquet(
    table: pa.Table, file: IO[bytes], footer: dict[str, str], rows: int, compression: str
) -> None:
    """Write a table as all of a journal's files are: with checksums of its pages.

    Parameters
    ----------
    table
        What to write.
    file
        Receives it.
    footer
        Metadata, in place of the table's own.
    rows
        Most rows of a row group.
    compression
        `FAST` or `SMALL`.
    """
    # Into memory first: each of some hundred small writes to a file of Python would take its lock.
    whole = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(footer),
        whole,
        compression=compression,
        # Numbers hardly repeat: to look for it takes a third of the time of writing them.
        use_dictionary=[path for field in table.schema for path in _texts(field.name, field.type)],
        # The least and the greatest of a map's values are of all its keys together: no use.
        write_statistics=[f.name for f in table.schema if not pa.types.is_nested(f.type)],
        row_group_size=rows,
        write_page_checksum=True,
    )
    file.write(whole.getvalue())


def _texts(path: str, kind: pa.DataType) -> Iterator[str]:
    """Name the columns of text that a field is stored in, as Parquet does."""
    if pa.types.is_map(kind):
        yield from _texts(f"{path}.key_value.key", kind.key_type)
        yield from _texts(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_list(kind):
        yield from _texts(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _texts(f"{path}.{field.name}", field.type)
    elif pa.types.is_string(kind):
        yield path
