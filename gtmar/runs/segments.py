"""Segments of a table: its untouched accounts, value by value of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from gtmar.accounts.matrix import load_accounts
from gtmar.accounts.scan import AccountTable, collect
from gtmar.errors import UsageError
from gtmar.proof.uncertainty import panel_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.accounts.matrix import Accounts
    from gtmar.proof.panel import Panel
    from gtmar.spec.model import ScoringSpec

__all__ = ["segment_panels"]

#: Values of a segment column at most; more are no segments but ids.
_MOST_SEGMENTS = 50
_UNKNOWN = "(unknown)"


def segment_panels(
    accounts: Accounts,
    spec: ScoringSpec,
    columns: Sequence[str],
    before: Sequence[int],
    after: Sequence[int],
    *,
    held_out: bool,
    as_of: str | None,
) -> dict[str, Panel | None]:
    """Score each segment's untouched accounts by two weight vectors.

    Parameters
    ----------
    accounts
        The table.
    spec
        The scoring model.
    columns
        Columns whose every value is a segment; an unknown value is one too.
    before, after
        Weight vectors, F each.
    held_out
        Whether the untouched accounts are the holdout of the table, or all of it.
    as_of
        ISO date that `days_before` counts from.

    Returns
    -------
    dict
        Panel by ``COLUMN=VALUE``; None where no account of it is among the untouched.

    Raises
    ------
    UsageError
        If a column isn't there, or has too many values to be segments.

    Notes
    -----
    Cost: the table is loaded once a segment.
    """
    table = accounts.table
    unknown = [name for name in columns if name not in table.columns]
    if unknown:
        raise UsageError(
            f"{table.source}: no column {', '.join(unknown)} to take segments from",
            hint=f"columns are {', '.join(table.columns[:8])}",
        )
    found: dict[str, Panel | None] = {}
    for name in columns:
        values = collect(table, table.frame.select(pl.col(name).cast(pl.String)).unique())
        listed = sorted(values[name].fill_null(_UNKNOWN).to_list())
        if len(listed) > _MOST_SEGMENTS:
            raise UsageError(
                f'column "{name}" has {len(listed):,} values, more than {_MOST_SEGMENTS} segments'
            )
        for value in listed:
            inside = pl.col(name).cast(pl.String).fill_null(_UNKNOWN) == value
            part = AccountTable(table.source, table.frame.filter(inside), table.schema)
            dropped = accounts.checked.dropped > 0
            loaded = load_accounts(part, spec, as_of=as_of, drop_unlabelled=dropped)
            matrix = loaded.holdout if held_out else loaded.search
            if matrix is None or not matrix.accounts:
                found[f"{name}={value}"] = None
            else:
                found[f"{name}={value}"] = panel_of(matrix, spec, before, after)
    return found
