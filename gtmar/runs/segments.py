"""Segments of a table: its accounts, value by value of a column."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gtmar.accounts.matrix import load_accounts
from gtmar.errors import UsageError
from gtmar.proof.uncertainty import panel_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.accounts.matrix import AccountMatrix, Accounts
    from gtmar.proof.panel import Panel
    from gtmar.spec.model import ScoringSpec

__all__ = ["segment_panels", "segmented"]


def segmented(
    accounts: Accounts, spec: ScoringSpec, columns: Sequence[str], *, as_of: str | None
) -> Accounts:
    """Return a table with these segment columns: as it is, or loaded again where it lacks one.

    Parameters
    ----------
    accounts, spec
        The table, loaded by this spec.
    columns
        Columns whose every value is a segment; an unknown value is one too.
    as_of
        ISO date that `days_before` counts from.

    Raises
    ------
    UsageError
        If a column isn't there.
    ViolationsError
        If it has too many values to be segments.
    """
    table = accounts.table
    unknown = [name for name in columns if name not in table.columns]
    if unknown:
        raise UsageError(
            f"{table.source}: no column {', '.join(unknown)} to take segments from",
            hint=f"columns are {', '.join(table.columns[:8])}",
        )
    own = {each.column: each for each in accounts.search.segments}
    if not set(columns) <= own.keys():
        other = spec.model_copy(update={"segments": tuple(dict.fromkeys(columns))})
        dropped = accounts.checked.dropped > 0
        return load_accounts(table, other, as_of=as_of, drop_unlabelled=dropped)

    def only(matrix: AccountMatrix) -> AccountMatrix:
        held = {each.column: each for each in matrix.segments}
        return replace(matrix, segments=tuple(held[name] for name in dict.fromkeys(columns)))

    holdout = None if accounts.holdout is None else only(accounts.holdout)
    return replace(accounts, search=only(accounts.search), holdout=holdout)


def segment_panels(
    matrix: AccountMatrix, spec: ScoringSpec, before: Sequence[int], after: Sequence[int]
) -> dict[str, Panel | None]:
    """Score each segment's accounts by two weight vectors.

    Parameters
    ----------
    matrix
        The accounts, with their segments.
    spec
        The scoring model.
    before, after
        Weight vectors, F each.

    Returns
    -------
    dict
        Panel by ``COLUMN=VALUE``; None where none of the matrix's accounts is in the segment.
    """
    found: dict[str, Panel | None] = {}
    for column in matrix.segments:
        for place in range(len(column.values)):
            rows = column.rows(place)
            part = panel_of(matrix.take(rows), spec, before, after) if len(rows) else None
            found[column.name(place)] = part
    return found
