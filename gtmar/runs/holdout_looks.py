"""Looks at a holdout: how many there have been, and this one put on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.errors import RunNotFoundError
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["looks_at", "record_look"]


def looks_at(journal: Path, outcomes_fingerprint: str, comparison: str) -> int:
    """Count the comparisons on a holdout, this one included; the same again is none.

    Parameters
    ----------
    journal
        The journal's folder; where there is none yet, this is the first look.
    outcomes_fingerprint
        Of the table that holds the holdout.
    comparison
        What is compared with its incumbent.
    """
    try:
        opened = Journal(journal)
    except RunNotFoundError:
        return 1
    with opened:
        looks = opened.sql("holdout_looks")
    same = looks.filter(pl.col("outcomes_fingerprint") == outcomes_fingerprint)
    return len({*same["comparison"].to_list(), comparison})


def record_look(
    journal: Path,
    outcomes_fingerprint: str,
    comparison: str,
    *,
    objective: str,
    before: float | None,
    after: float | None,
    higher_is_better: bool,
    **fields: Any,
) -> str:
    """Write a look as an event; `fields` are its columns. Returns the event's id."""
    details = {
        "outcomes_fingerprint": outcomes_fingerprint,
        "comparison": comparison,
        "objective": objective,
        "baseline_value": before,
        "best_value": after,
        "higher_is_better": higher_is_better,
    }
    return write_event(journal, EventKind.LOOK, details=details, **fields)
