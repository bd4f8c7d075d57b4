"""A table as a spec reads it: ids as the texts of their file, dates as days, labels as 0 and 1.

What isn't settled here stays as it is, for `contract` to refuse with everything else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gtmar.data.dates import with_days
from gtmar.data.outcomes import with_labels

if TYPE_CHECKING:
    from gtmar.data.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = ["prepared"]


def prepared(table: AccountTable, spec: ScoringSpec, *, outcomes: bool = True) -> AccountTable:
    """Return a table with the columns that a spec reads in the types that it reads them in.

    Parameters
    ----------
    table, spec
        The table, and what is read of it.
    outcomes
        False where the table is only scored.

    Returns
    -------
    AccountTable
        Prepared once more it is the same. What was made of columns is among its notes.
    """
    table = table.read_for(spec)
    dated = [f.column or n for n, f in spec.features.items() if f.encode.kind == "days_before"]
    dated += [] if spec.as_of is None else [spec.as_of]
    if outcomes and spec.window is not None:
        dated += [text for text in spec.window.model_dump().values() if text is not None]
    if dated:
        frame, schema, read = with_days(
            table, dated, date_format=spec.date_format, zone=spec.time_zone
        )
        notes = tuple(each for each in read if each not in table.notes)
        table = replace(table, frame=frame, schema=schema, notes=(*table.notes, *notes))
    if not outcomes:
        return table
    table, labels = with_labels(table, spec.outcomes, spec.labels)
    said = tuple(each.sentence for each in labels if not each.unknown)
    return replace(table, notes=(*table.notes, *said)) if said else table
