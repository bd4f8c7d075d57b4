"""The search part of a table in memory, a hash's draw of it where it is large.

What a first spec is fitted to, and what leakage is looked for in: nothing of the holdout is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from gtmar.accounts.identity import content_keys, held_out, key_expression
from gtmar.accounts.outcomes import OutcomeColumns, canonical_outcomes
from gtmar.accounts.rules import OWN
from gtmar.accounts.scan import AccountTable, collect
from gtmar.spec.model import Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.accounts.copies import Copies

__all__ = ["MOST_SAMPLED", "part", "search_sample"]

#: More accounts than this teach a first spec nothing more; a hash draws them.
MOST_SAMPLED = 200_000


def part(
    table: AccountTable,
    identifier: str | None,
    split: Split,
    *,
    held: bool = False,
    copies: Copies | None = None,
) -> AccountTable:
    """Return the search part of a table, or its holdout, as a table of its own.

    Parameters
    ----------
    table
        The account table.
    identifier
        The account id's column; None to split by the rows' content.
    split
        Share and salt of the holdout.
    held
        Whether the holdout is meant.
    copies
        Accounts of one content, which are drawn together.
    """
    key = _key(table, identifier)
    if copies is not None and identifier is not None:
        key = key.replace(copies.keys, copies.first)
    drawn = held_out(key, split)
    return AccountTable(table.source, table.frame.filter(drawn if held else ~drawn), table.schema)


def search_sample(
    table: AccountTable,
    found: OutcomeColumns,
    identifier: str | None,
    split: Split,
    *,
    copies: Copies | None = None,
    columns: Sequence[str] | None = None,
    most: int = MOST_SAMPLED,
) -> pl.DataFrame:
    """Collect the accounts of the search part, with their canonical outcomes.

    Parameters
    ----------
    table
        The account table.
    found
        Its outcome columns.
    identifier, split, copies
        As for `part`.
    columns
        Which of the table's columns; None for all.
    most
        Accounts at most, about; a hash of their ids draws them.

    Returns
    -------
    DataFrame
        The table's own columns, and each canonical outcome under its name with `OWN` before it. At
        most some 200,000 accounts, drawn by a hash of their ids. In the order of their ids, so that
        the order of the table's rows changes no digit of what is fitted to them.
    """
    lazy = part(table, identifier, split, copies=copies).frame
    seen = collect(table, lazy.select(pl.len())).item()
    if seen > most:
        fewer = Split(holdout=most / seen, salt="profile")
        sampled = AccountTable(table.source, lazy, table.schema)
        lazy = part(sampled, identifier, fewer, held=True).frame
    outcomes = canonical_outcomes(found, table.schema)
    key = f"{OWN}key"
    named = {f"{OWN}{name}": value for name, value in outcomes.items()}
    named[key] = _key(table, identifier)
    own = table.columns if columns is None else columns
    return collect(table, lazy.select(*own, **named)).sort(key).drop(key)


def _key(table: AccountTable, identifier: str | None) -> pl.Expr:
    key = key_expression(identifier, table.schema).fill_null("")
    if identifier is None:
        key = key.map_batches(content_keys, return_dtype=pl.String, is_elementwise=True)
    return key
