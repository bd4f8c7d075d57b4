"""Find contradictions in a history; those that no rule of the recipe settles are refused.

Duplicate rows and skipped months only raise suspicion: a source alone can't prove that a row is
missing or duplicated, so these become notes. The recipe's `totals` can prove it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gtmar.data.locations import literal, quoted
from gtmar.errors import AccountDataError, culprits
from gtmar.plain_data import singular
from gtmar.snapshots.recipe import Monthly, RateTable, Subscriptions, Transactions
from gtmar.snapshots.statement import (
    RATES,
    RAW,
    account_of,
    life,
    mrr_at,
    recurring,
    source_rows,
    sql_date,
    with_rates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.snapshots.raw_history import RawHistory

    _Look = Callable[..., None]

__all__ = ["Conflict", "conflicts", "refuse_unsettled", "suspects"]


@dataclass(frozen=True)
class Conflict:
    """One kind of contradiction."""

    kind: str
    count: int
    #: Description with the count.
    text: str
    #: The first accounts concerned, at most three.
    accounts: tuple[str, ...]
    #: The rule that settles it, in the recipe's words; None without one.
    rule: str | None = None
    #: Advice on how to settle it.
    remedy: str = "a where in the source leaves them out"

    def __str__(self) -> str:
        named = f": {culprits(self.accounts)}" if self.accounts else ""
        return f"{self.text}{named}"


def refuse_unsettled(conflicts: list[Conflict]) -> None:
    """Raise an `AccountDataError` that lists each contradiction without a rule, if any."""
    wrong = [each for each in conflicts if each.rule is None]
    if wrong:
        lines = [f"{each}; {each.remedy}" for each in wrong]
        raise AccountDataError.of_all(
            lines,
            f"the history has {len(lines)} contradictions",
            hint="each needs a rule in the recipe; docs/snapshots.md says what they mean",
            conflicts=[{"kind": each.kind, "count": each.count} for each in wrong],
        )


def conflicts(opened: RawHistory) -> list[Conflict]:
    """Return all contradictions of a history.

    Rows without an account, a date or a `known_at` are left out of everything; their counts are
    appended to `opened.notes`. Cost: one query or more for each source, kind and flag.
    """
    recipe, listed = opened.recipe, []
    rules = recipe.rules

    def look(
        kind: str, accounts: str, words: str, rule: str | None = None, remedy: str = ""
    ) -> None:
        """Record a contradiction if a SELECT of accounts has rows; `words` has {} for the count."""
        [[count, first]] = opened.ask(
            "select cast(coalesce(sum(times), 0) as bigint), min(account, 3) from (select "
            f"cast(account as varchar) as account, count(*) as times from ({accounts}) as "
            "found(account) group by 1)"
        )
        if count:
            settled = None if rule is None or rule.endswith(": refuse") else rule
            remedy_ = {"remedy": remedy} if remedy else {}
            words_ = singular(words.format(f"{count:,}"))
            listed.append(Conflict(kind, count, words_, tuple(first or ()), settled, **remedy_))

    for name, source in recipe.sources.items():
        raw, account = quoted(f"{RAW}{name}"), account_of(source)
        if source.where is not None:
            raw = f"(select * from {raw} where ({source.where}\n))"
        blank = {"account": source.account, "date": source.time, "known_at": source.known_at}
        blanks = {what: column for what, column in blank.items() if column is not None}
        absent = ", ".join(f"count(*) - count({quoted(column)})" for column in blanks.values())
        [[rows, *nones]] = opened.ask(f"select count(*), {absent} from {raw}")
        for what, none in zip(blanks, nones, strict=True):
            if none:
                opened.notes.append(
                    f'Source "{name}": {none:,} of {rows:,} rows have no {what}; left out.'
                )
        if source.until is not None:
            begin, until = quoted(str(source.from_)), quoted(source.until)
            early = f"{until} < {begin}"
            shape = recipe.revenue.shape
            if isinstance(shape, Subscriptions) and shape.source == name and shape.cancelled:
                early += f" or {quoted(shape.cancelled)} < {begin}"
            look(
                "ends_before_start",
                f"select {account} from {raw} where {early}",
                f'source "{name}": {{}} rows end before they begin',
                f"ends_before_start: {rules.ends_before_start}",
                "ends_before_start: leave out would leave them out",
            )
        if source.kind == "today" or name == recipe.accounts:
            look(
                "repeated_accounts",
                f"select {account} from {raw} where {account} is not null "
                "group by 1 having count(*) > 1",
                f'source "{name}": {{}} accounts stand there more than once',
            )
    _of_revenue(opened, look)
    return listed


def _of_revenue(opened: RawHistory, look: _Look) -> None:
    """Record contradictions of the revenue, with other sources and with flags."""
    recipe = opened.recipe
    shape, rules = recipe.revenue.shape, recipe.rules
    source = recipe.sources[shape.source]
    rows, account = f"({source_rows(recipe, shape.source)})", account_of(source)
    amount = quoted(shape.amount)
    look(
        "unknown_amounts",
        f"select {account} from {rows} where {amount} is null",
        "revenue: {} amounts are unknown",
    )
    _of_rates(opened, rows, look)
    if isinstance(shape, Transactions | Monthly):
        look(
            "negative_amounts",
            f"select {account} from {rows} where {amount} < 0",
            "revenue: {} amounts are negative",
            f"negative: {shape.negative}",
            "negative: subtract, or leave out, says what they mean",
        )
        _of_months(opened, rows, look)
    else:
        _of_subscriptions(opened, shape, rows, look)
    if recipe.accounts is not None:
        crm = recipe.sources[recipe.accounts]
        look(
            "unknown_accounts",
            f"select distinct {account} as account from {rows} where {account} not in (select "
            f"{account_of(crm)} from ({source_rows(recipe, recipe.accounts)}))",
            f'revenue: {{}} accounts aren\'t in "{recipe.accounts}"',
            f"unknown_accounts: {rules.unknown_accounts}",
            "unknown_accounts: keep, in rules, keeps them",
        )
    for name, other in recipe.sources.items():
        theirs = f"select {account_of(other)} as account from ({source_rows(recipe, name)})"
        ours = f"where account in (select {account} from {rows})"
        [[any_of_ours]] = opened.ask(f"select exists (select 1 from ({theirs}) {ours})")
        if not any_of_ours:
            # Ids written in two forms would otherwise silently give features without any rows.
            look(
                "strangers",
                theirs,
                f'source "{name}": none of its {{}} rows is of an account that has revenue',
                remedy="are ids written alike in both?",
            )
    kept = f"({recurring(recipe, rows)})"
    paying = f"select account from ({mrr_at(recipe, opened.until, kept)}) where mrr > 0"
    seen = f"select distinct {account} as account from {rows}"
    for flag in recipe.flags:
        raw = recipe.sources[flag.source]
        when = "" if raw.time is None else f" and {quoted(raw.time)} < {sql_date(opened.until)}"
        where = "" if flag.where is None else f" and ({flag.where}\n)"
        flagged = (
            f"select distinct {account_of(raw)} as account from "
            f"({source_rows(recipe, flag.source)}) where true{when}{where}"
        )
        rule = f"flags: {rules.flags}"
        remedy = "flags: believe revenue, in rules, says which of the two holds"
        look(
            "flagged_and_paying",
            f"select account from ({flagged}) semi join ({paying}) using (account)",
            f'flag of "{flag.source}": {{}} accounts have left by it, still paying on '
            f"{opened.until}",
            rule,
            remedy,
        )
        look(
            "gone_and_unflagged",
            f"select account from ({seen}) anti join ({paying}) using (account) anti join "
            f"({flagged}) using (account)",
            f'flag of "{flag.source}": {{}} accounts pay nothing on {opened.until}, without having '
            "left by it",
            rule,
            remedy,
        )


def _of_rates(opened: RawHistory, rows: str, look: _Look) -> None:
    """Record faults in the table of rates, and amounts in currencies without a rate."""
    recipe, shape = opened.recipe, opened.recipe.revenue.shape
    account = account_of(recipe.sources[shape.source])
    if isinstance(shape.rates, RateTable):
        names = (shape.rates.currency, shape.rates.date, shape.rates.rate)
        name, first, rate = map(quoted, names)
        look(
            "bad_rates",
            f"select {name} from {quoted(RATES)} where {name} is null or {first} is null or "
            f"{rate} is null or {rate} <= 0",
            "revenue: {} rates are unknown, not above 0, or of no currency or date",
            remedy="mend the table of rates",
        )
        look(
            "repeated_rates",
            f"select {name} from {quoted(RATES)} group by {name}, cast({first} as date) "
            "having count(*) > 1",
            "revenue: {} rates stand twice for their date",
            remedy="mend the table of rates",
        )
        look(
            "currencies",
            f'select {account} from ({with_rates(recipe, rows)}) where "gtmar:rate" is null',
            "revenue: {} amounts are of a currency without a rate on or before their date",
            remedy="add the rates to their table",
        )
    elif shape.currency is not None:
        known = ", ".join(map(literal, shape.rates))
        currency = f"cast({quoted(shape.currency)} as varchar)"
        look(
            "currencies",
            f"select {account} from {rows} where {currency} is null or {currency} not in ({known})",
            "revenue: {} amounts are of a currency without a rate",
            remedy="rates in the recipe say what one unit of each counts",
        )


def _of_months(opened: RawHistory, rows: str, look: _Look) -> None:
    """Record payments whose number of months, or whose period, is invalid."""
    recipe, shape = opened.recipe, opened.recipe.revenue.shape
    account = account_of(recipe.sources[shape.source])
    if not isinstance(shape, Transactions):
        return
    months, paid_until, bad = shape.months, shape.paid_until, None
    if isinstance(months, str):
        column = quoted(months)
        bad = f"{column} is null or {column} < 1 or {column} <> floor({column})"
    elif paid_until is not None:
        begin, end = (f"cast({each} as date)" for each in life(recipe))
        bad = f"{end} is null or {end} <= {begin}"
    if bad is not None:
        look(
            "bad_months",
            f"select {account} from {rows} where {bad}",
            "revenue: {} payments are for no whole months, or for a time that doesn't end "
            "after it begins",
        )


def _of_subscriptions(opened: RawHistory, shape: Subscriptions, rows: str, look: _Look) -> None:
    """Record invalid amounts and overlaps of subscriptions, and events outside of all of them."""
    recipe, rules = opened.recipe, opened.recipe.rules
    account = account_of(recipe.sources[shape.source])
    amount = quoted(shape.amount)
    look(
        "negative_amounts",
        f"select {account} from {rows} where {amount} < 0",
        "revenue: {} amounts are negative",
    )
    look(
        "zero_amounts",
        f"select {account} from {rows} where {amount} = 0",
        "revenue: {} subscriptions have an amount of 0",
        f"zero_amounts: {rules.zero_amounts}",
        "zero_amounts: not paying, in rules, says that they are no revenue",
    )
    for what, column, bad in (
        ("months", shape.months, "{0} is null or {0} <= 0"),
        ("quantities", shape.quantity, "{0} is null or {0} < 0"),
        ("discounts", shape.discount, "{0} < 0 or {0} > 1"),
    ):
        if isinstance(column, str):
            look(
                f"bad_{what}",
                f"select {account} from {rows} where {bad.format(quoted(column))}",
                f"revenue: {{}} {what} can't be",
            )
    begin, last = life(recipe)
    kept = f"({recurring(recipe, rows)})"
    over = (
        f"select account from (select {account} as account, {begin} as b, max(coalesce({last}, "
        f"date '9999-12-31')) over (partition by {account} order by {begin}, {last} nulls last "
        f"rows between unbounded preceding and 1 preceding) as e from {kept} "
        f"where {last} is null or {last} > {begin}) where b < e"
    )
    look(
        "overlaps",
        over,
        "revenue: {} subscriptions begin while another of their account runs",
        f"overlaps: {rules.overlaps}",
        "overlaps: add, in rules, adds them up",
    )
    for name, events in recipe.sources.items():
        if events.kind == "events" and name != shape.source:
            at = quoted(str(events.at))
            look(
                "events_outside",
                f"select e.account from (select {account_of(events)} as account, {at} as at "
                f"from ({source_rows(recipe, name)})) as e anti join (select {account} as "
                f"account, {begin} as b, {last} as e from {rows}) as s on "
                "s.account = e.account and s.b <= e.at and (s.e is null or e.at < s.e)",
                f'source "{name}": {{}} rows are of a day on which no subscription of their '
                "account runs",
                f"events_outside: {rules.events_outside}",
                "events_outside: keep, in rules, counts them all the same",
            )


# ---- what looks like a slip ----------------------------------------------------------------------

#: Consecutive months with payments, before and after a gap, that mark the gap as suspicious.
_REGULAR = 3


def suspects(opened: RawHistory) -> list[str]:
    """Return notes on duplicate rows of revenue and on skipped months.

    Rows are duplicates if all their columns are equal. A month counts as skipped if its account
    paid nothing in it, but paid in each of the three months before and after it. The cause may be a
    lost invoice or a late payment. Subscriptions are not examined for skipped months, since the
    bridge shows their gaps.
    """
    recipe = opened.recipe
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    account, rows = account_of(source), f"({source_rows(recipe, shape.source)})"
    twice = (
        f'select {account} as account, count(*) - 1 as times from {rows} as "gtmar:row" '
        'group by 1, "gtmar:row" having count(*) > 1'
    )
    notes = _noted(
        opened,
        f"select account, sum(times) as times from ({twice}) group by 1",
        "Of revenue {} rows are like another in every column, of {} accounts: {}; "
        "if they came twice, so did their money.",
    )
    if isinstance(shape, Subscriptions):
        return notes
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
    return notes + _noted(
        opened,
        skipped,
        f"{{}} months were skipped, with payments in each of the {_REGULAR} before and the "
        f"{_REGULAR} after, by {{}} accounts: {{}}; an invoice may be missing.",
    )


def _noted(opened: RawHistory, counted: str, words: str) -> list[str]:
    """Return a note on a SELECT of `account` and `times`, or nothing if it has no rows."""
    [[times, accounts, first]] = opened.ask(
        f"select sum(times), count(*), min(account, 4) from ({counted})"
    )
    if not accounts:
        return []
    named = culprits([*first, *[""] * (accounts - len(first))], limit=3)
    return [singular(words.format(f"{times:,}", f"{accounts:,}", "{}")).format(named)]
