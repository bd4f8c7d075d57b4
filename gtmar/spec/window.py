"""When features were taken and when outcomes came: columns of dates, or dates."""

from __future__ import annotations

import re
from datetime import date

from gtmar.spec.encoders import SpecModel

__all__ = ["Window", "stated_date"]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Window(SpecModel):
    """The day that features are of, and the first and last day that outcomes are counted on.

    Each is a column of the table, or one ISO date for all accounts.
    """

    features_asof: str
    outcome_start: str | None = None
    outcome_end: str | None = None


def stated_date(text: str) -> date | None:
    """Return the date that a text states; None where it names a column.

    Raises
    ------
    ValueError
        If it looks like a date and is none.

    Examples
    --------
    >>> stated_date("2026-01-31"), stated_date("snapshot_date")
    (datetime.date(2026, 1, 31), None)
    """
    return date.fromisoformat(text) if _DATE.fullmatch(text) else None
