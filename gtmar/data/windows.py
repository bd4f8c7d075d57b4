"""The order of time: features before outcomes, outcomes complete, one window after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.rules import ACCOUNT, Rule, endless_rule
from gtmar.data.scan import AccountTable, collect
from gtmar.errors import Violation, nearest
from gtmar.spec.encoders import DaysBeforeEncoder
from gtmar.spec.model import Window, stated_date

if TYPE_CHECKING:
    from datetime import date

    from gtmar.spec.model import ScoringSpec

__all__ = ["complete_by", "overlap", "window_rules", "window_violations"]


def window_violations(window: Window, table: AccountTable) -> list[Violation]:
    """Say which of a window's columns aren't there or hold no dates.

    Parameters
    ----------
    window, table
        What has to fit.
    """
    found = []
    for key, text in _named(window).items():
        try:
            column = None if stated_date(text) else text
        except ValueError as err:
            found.append(Violation("", f'window {key} is no date: "{text}" ({err})'))
            continue
        if column is None:
            continue
        if column not in table.schema:
            likely = nearest(column, table.columns)
            hint = f'did you mean "{likely}"?' if likely else "or write a date, as YYYY-MM-DD"
            found.append(Violation(column, f"no such column (window {key})", hint=hint))
        elif table.schema[column] != pl.Date:
            problem = f"window {key} expects dates, got {table.schema[column]}"
            hint = "store it as a date, or say how it is written with --date-format %m/%d/%Y"
            found.append(Violation(column, problem, hint=hint))
    return found


def window_rules(window: Window, by: date | None) -> list[Rule]:
    """Features are of a day before the outcomes' first; these end after it, and are complete.

    Parameters
    ----------
    window
        Its columns are there, and hold dates.
    by
        The day by which outcomes must be complete; None not to ask.
    """
    days = _named(window)
    rules = [
        Rule(
            text,
            pl.col(text).is_null(),
            pl.col(ACCOUNT),
            f"{{count}} values of window {key} are null",
            "every account has its own window, or write one date for all",
        )
        for key, text in days.items()
        if stated_date(text) is None
    ]
    rules += [
        endless_rule(text, f"window {key}")
        for key, text in days.items()
        if stated_date(text) is None
    ]

    def order(first: str, then: str, *, broken: pl.Expr, problem: str, why: str) -> None:
        rules.append(Rule(_place(days, first, then), broken, pl.col(ACCOUNT), problem, why))

    known = "what was known on the outcomes' own days may be the outcome"
    for then in ("outcome_start", "outcome_end"):
        if then in days:
            broken = _day(days["features_asof"]) >= _day(days[then])
            problem = f"{{count}} accounts have features_asof not before {then}"
            order("features_asof", then, broken=broken, problem=problem, why=known)
            break
    if "outcome_start" in days and "outcome_end" in days:
        broken = _day(days["outcome_end"]) < _day(days["outcome_start"])
        problem = "{count} accounts have outcome_end before outcome_start"
        why = "a window ends after it begins"
        order("outcome_start", "outcome_end", broken=broken, problem=problem, why=why)
    if by is not None and "outcome_end" in days:
        problem = f"{{count}} accounts have outcomes that aren't complete by {by}"
        late = _day(days["outcome_end"]) > pl.lit(by)
        hint = "leave them out until their window is over"
        rules.append(Rule(_place(days, "outcome_end"), late, pl.col(ACCOUNT), problem, hint))
    return rules


def complete_by(spec: ScoringSpec, as_of: date | None) -> date | None:
    """Return the day by which outcomes must be complete: `as_of`, where it has no other meaning.

    Where a feature counts days before it, it is the day of the features.
    """
    counted = any(isinstance(f.encode, DaysBeforeEncoder) for f in spec.features.values())
    return None if counted else as_of


def overlap(window: Window, searched: AccountTable, later: AccountTable) -> list[Violation]:
    """Say how many accounts of a later table have features from before the searched window's end.

    Parameters
    ----------
    window
        Its columns are in both tables. Without `outcome_end` nothing is asked.
    searched, later
        The tables; `later` is the holdout.
    """
    if window.outcome_end is None:
        return []
    last = stated_date(window.outcome_end)
    if last is None:
        ends = searched.frame.select(_day(window.outcome_end).max())
        last = collect(searched, ends).item()
    early = _day(window.features_asof) < pl.lit(last)
    counted = collect(later, later.frame.select(pl.len(), early.sum().alias("early"))).row(0)
    if not counted[1]:
        return []
    return [
        Violation(
            "",
            f"{counted[1]:,} of {counted[0]:,} accounts have features from before {last}, when the "
            "last outcome that is searched was complete",
            hint="the holdout begins where the search window is over",
            rows=counted[1],
        )
    ]


def _named(window: Window) -> dict[str, str]:
    return {key: text for key, text in window.model_dump().items() if text is not None}


def _place(days: dict[str, str], *keys: str) -> str:
    """Return the first of a window's columns; an empty text where all of these are dates."""
    return next((days[key] for key in keys if stated_date(days[key]) is None), "")


def _day(text: str) -> pl.Expr:
    stated = stated_date(text)
    # Once for every account, so that comparisons of two stated dates count accounts.
    if stated is not None:
        return pl.repeat(stated, pl.len(), dtype=pl.Date)
    return pl.col(text)
