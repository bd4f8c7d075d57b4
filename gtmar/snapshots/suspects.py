"""What in a source of revenue looks like a slip, though it contradicts nothing: said, not refused.

A source alone can't prove that a row is missing from it or came twice; books can (`totals`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.data.locations import quoted
from gtmar.errors import culprits
from gtmar.snapshots.recipe import Subscriptions
from gtmar.snapshots.statement import account_of, all_rows

if TYPE_CHECKING:
    from gtmar.snapshots.raw_history import RawHistory

__all__ = ["suspects"]

#: Months in a row before and after one without, in which an account paid.
_REGULAR = 3


def suspects(opened: RawHistory) -> list[str]:
    """Return notes on rows of revenue that stand there twice, and on months that were skipped.

    Rows are the same if all their columns are. A month is skipped if its account paid in each of
    the three months before it and of the three after it, and not in it: an invoice that was lost
    looks so, and so does a late payment. Of subscriptions a gap is in the bridge.
    """
    recipe = opened.recipe
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    account, rows = account_of(source), f"({all_rows(recipe, shape.source)})"
    twice = (
        f'select {account} as account, count(*) - 1 as times from {rows} as "gtmar:row" '
        'group by 1, "gtmar:row" having count(*) > 1'
    )
    found = _noted(
        opened,
        f"select account, sum(times) as times from ({twice}) group by 1",
        "{} rows of revenue are like another in every column, of {} accounts: {}; "
        "if they came twice, so did their money.",
    )
    if isinstance(shape, Subscriptions):
        return found
    month = (
        f"cast(datediff('month', date '1970-01-01', cast({quoted(str(source.at))} as date)) as int)"
    )
    skipped = f"""
        with paid as (
            select distinct {account} as account, {month} as month from {rows}
            where {quoted(shape.amount)} > 0
        ),
        around as (
            select account, count(*) over before as before, count(*) over gap as gap,
                count(*) over after as after from paid
            window before as (partition by account order by month
                    range between {_REGULAR - 1} preceding and current row),
                gap as (partition by account order by month
                    range between 1 following and 1 following),
                after as (partition by account order by month
                    range between 2 following and {_REGULAR + 1} following)
        )
        select account, count(*) as times from around
        where before = {_REGULAR} and gap = 0 and after = {_REGULAR} group by 1"""
    return found + _noted(
        opened,
        skipped,
        f"{{}} months were skipped, with payments in each of the {_REGULAR} before and the "
        f"{_REGULAR} after, by {{}} accounts: {{}}; an invoice may be missing.",
    )


def _noted(opened: RawHistory, counted: str, words: str) -> list[str]:
    """Word a SELECT of accounts and times; nothing where it has no row."""
    [[times, accounts, first]] = opened.ask(
        f"select sum(times), count(*), min(account, 4) from ({counted})"
    )
    if not accounts:
        return []
    named = culprits([*first, *[""] * (accounts - len(first))], limit=3)
    return [words.format(f"{times:,}", f"{accounts:,}", named)]
