"""Segments of an account table: which values a column has, and each account's as a code.

A value is a column's text, a number's without zeros behind its fraction. An unknown value is a
segment of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.encode import as_text
from gtmar.data.scan import collect
from gtmar.errors import Violation, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gtmar.data.scan import AccountTable

__all__ = ["MOST_SEGMENTS", "UNKNOWN", "segment_codes", "segment_values", "segment_violations"]

#: Values of a segment column at most; more are no segments but ids.
MOST_SEGMENTS = 100
#: How the segment of accounts without a value is called.
UNKNOWN = "(unknown)"


def segment_violations(table: AccountTable, columns: Sequence[str]) -> list[Violation]:
    """Say which columns are no segments: absent, nested, or of too many values.

    Notes
    -----
    Cost: one pass over those columns, none where there are none.
    """
    found = []
    usable = []
    for name in columns:
        dtype = table.schema.get(name)
        if dtype is None:
            likely = nearest(name, table.columns)
            hint = f'did you mean "{likely}"?' if likely else "take it out of the spec's segments"
            found.append(Violation(name, "no such column (a segment)", hint=hint))
        elif dtype.is_nested():
            found.append(Violation(name, f"expected values of a segment, got {dtype}"))
        else:
            usable.append(name)
    if not usable:
        return found
    counts = collect(
        table, table.frame.select(as_text(name, table.schema[name]).n_unique() for name in usable)
    )
    for name in usable:
        count = counts[name].item()
        if count > MOST_SEGMENTS:
            found.append(
                Violation(
                    name,
                    f"has {count:,} values, more than {MOST_SEGMENTS} segments",
                    hint="name a column with few values, such as a plan or a region",
                )
            )
    return found


def segment_values(table: AccountTable, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return each column's values, V of them, in the order of their text, the unknown last.

    The columns must have passed `segment_violations`. Where a value is written as the unknown is
    called, the unknown is called by one more pair of brackets.
    """
    found = {}
    for name in columns:
        text = as_text(name, table.schema[name])
        values = collect(table, table.frame.select(text.unique()))[name].to_list()
        known = sorted(value for value in values if value is not None)
        label = UNKNOWN
        while label in known:
            label = f"({label})"
        found[name] = (*known, *([label] if None in values else []))
    return found


def segment_codes(values: Mapping[str, tuple[str, ...]], schema: pl.Schema) -> list[pl.Expr]:
    """Return each column's codes as int8, by the places of `segment_values`, named `s.COLUMN`."""
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
