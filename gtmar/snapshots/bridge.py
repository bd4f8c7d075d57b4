"""The MRR bridge: MRR at each month's start and end, and the movements in between.

The bridge is reconciled with two independent sums: the same source added up without accounts, and
the totals of the recipe, if there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from gtmar.data.locations import quoted
from gtmar.errors import AccountDataError
from gtmar.plain_data import some
from gtmar.snapshots.conflicts import Conflict, conflicts, suspects
from gtmar.snapshots.raw_history import TOTALS, RawHistory, history
from gtmar.snapshots.recipe import Monthly, Span, Subscriptions, Transactions, conventions
from gtmar.snapshots.statement import (
    account_of,
    counted,
    interval,
    life,
    paid_amount,
    recurring,
    row_amount,
    seen_before,
    source_rows,
    sql_date,
    with_rates,
)
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from datetime import date

    from gtmar.snapshots.recipe import SnapshotRecipe

__all__ = ["MOVEMENTS", "Bridge", "Mismatch", "bridge", "money"]

#: The movements of MRR from a month's start to its end; contraction, churn and pause are negative.
MOVEMENTS = ("new", "expansion", "contraction", "churn", "reactivation", "pause", "resumption")
#: SQL name of a month's first day in statements that join it to the rows of a source.
_BOUND = '"gtmar:bound"'
#: Two centuries of months. A longer history contains a mistyped date.
_MOST_MONTHS = 2_400


_AGAINST = {"own": "the source added up another way", "books": "the totals of the recipe"}


def money(cents: int) -> str:
    """Format cents as an amount with two decimals and thousands separators.

    Examples
    --------
    >>> money(-123456), money(5)
    ('-1,234.56', '0.05')
    """
    sign, whole = "-" if cents < 0 else "", abs(cents)
    return f"{sign}{whole // 100:,}.{whole % 100:02}"


@dataclass(frozen=True)
class Mismatch:
    """A month for which the bridge and an independent sum disagree."""

    month: date
    #: The other sum. `own`: the source added up without accounts; `books`: the recipe's totals.
    against: str
    bridge_cents: int
    other_cents: int

    @property
    def cents(self) -> int:
        """The bridge's amount minus the other sum, in cents."""
        return self.bridge_cents - self.other_cents

    def __str__(self) -> str:
        return (
            f"{self.month:%Y-%m}: {money(self.bridge_cents)} here, {money(self.other_cents)} by "
            f"{_AGAINST[self.against]}: {money(abs(self.cents))} "
            f"{'more' if self.cents > 0 else 'less'}."
        )


@dataclass(frozen=True)
class Bridge:
    """The movements of MRR by month and account; amounts in cents."""

    #: One row a month: `month`, `start`, the movements, `end`, and `one_off`: payments that don't
    #: recur and are part of no MRR.
    months: pl.DataFrame
    #: The same columns and `account`, one row a month and account. Accounts without MRR at the
    #: month's start and end and without `one_off` payments have no row.
    accounts: pl.DataFrame
    differences: tuple[Mismatch, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]
    #: The shape of the revenue, and the values of the recipe's options that decide how it is
    #: counted.
    conventions: dict[str, Any]

    @property
    def unsettled(self) -> tuple[Conflict, ...]:
        """The contradictions for which the recipe has no rule."""
        return tuple(each for each in self.conflicts if each.rule is None)

    @property
    def headline(self) -> str:
        """One sentence: whether the bridge closes, and whether contradictions remain."""
        count, kinds = len(self.differences), len(self.unsettled)
        end = f"{money(self.months['end'][-1])} MRR at the end of {self.months['month'][-1]:%Y-%m}"
        months = f"{self.months.height:,} month{'' if self.months.height == 1 else 's'}"
        open_ = f"{kinds} kind{'' if kinds == 1 else 's'} of contradiction without a rule"
        if count:
            also = f", and {open_}" if kinds else ""
            return f"The bridge doesn't close: {count} difference{'' if count == 1 else 's'}{also}."
        if kinds:
            return (
                f"The bridge adds up to the cent over {months}, but isn't to be relied on: "
                f"{open_}. As it is, {end}."
            )
        return f"The bridge closes to the cent over {months}: {end}."

    @property
    def sound(self) -> bool:
        """Whether all sums agree and every contradiction has a rule."""
        return not self.differences and not self.unsettled


def bridge(recipe: SnapshotRecipe, **options: Any) -> Bridge:
    """Compute the MRR movements of all accounts for every whole month of a history.

    Parameters
    ----------
    recipe
        The recipe.
    options
        Keyword arguments of `history`.

    Raises
    ------
    RecipeError, AccountDataError
        As for `history`; also if the history has no whole month or spans more than two centuries.
        Contradictions without a rule are listed in the result and raise no error.

    Notes
    -----
    A month's start is the MRR just before its first day; its end is the MRR just before the first
    day of the next month. The monthly amount of each row is rounded to the cent before it is added,
    so all sums are of whole cents. MRR that rises from 0 counts as `new` the first time and as
    `reactivation` later; MRR that falls to 0 counts as `churn`. If the account returns within the
    recipe's `gap`, the two movements are `pause` and `resumption` instead. An account that returns
    later than `new_again` counts as `new`.
    """
    with history(recipe, **options) as opened:
        conflicting = conflicts(opened)
        bounds = _bounds(opened)
        accounts = _by_account(opened, bounds)
        moved = [pl.col(name).sum() for name in ("start", *MOVEMENTS, "end", "one_off")]
        frame = pl.DataFrame({"month": bounds[:-1]}, schema={"month": pl.Date})
        months = frame.join(
            accounts.group_by("month").agg(moved), on="month", how="left", maintain_order="left"
        ).fill_null(0)
        differences = [*_against_own(opened, months, bounds), *_against_books(opened, months)]
        opened.notes += suspects(opened)
    [(shape, shape_conventions)] = conventions(recipe)["revenue"].items()
    return Bridge(
        months,
        accounts,
        tuple(differences),
        tuple(conflicting),
        tuple(opened.notes),
        {"revenue": shape, **shape_conventions, **conventions(recipe)["rules"]},
    )


def _bounds(opened: RawHistory) -> list[date]:
    """Return the first day of each whole month, and of the month after the last of them."""
    source = opened.recipe.sources[opened.recipe.revenue.shape.source]
    rows = source_rows(opened.recipe, opened.recipe.revenue.shape.source)
    [[first]] = opened.ask(f"select cast(min({quoted(str(source.time))}) as date) from ({rows})")
    days, number = [], 0
    while (day := Span(number, 0).after(first.replace(day=1))) <= opened.until:
        days.append(day)
        number += 1
        if number > _MOST_MONTHS:
            raise AccountDataError(
                f"the history goes from {first} to {opened.until}",
                hint="a date is a slip; a where in the source leaves it out",
            )
    if len(days) < 2:
        raise AccountDataError(f"the history has no whole month between {first} and {opened.until}")
    return days


def _in_cents(amount: str) -> str:
    """Write SQL that rounds an amount to whole cents, as an integer."""
    return f"cast(round({amount} * 100) as bigint)"


def _revenue(recipe: SnapshotRecipe, *, one_off: bool = False) -> str:
    """Return a SELECT of all recurring rows of revenue, or of all one-off ones."""
    source = recipe.revenue.shape.source
    return f"({recurring(recipe, f'({source_rows(recipe, source)})', one_off=one_off)})"


def _by_account(opened: RawHistory, bounds: list[date]) -> pl.DataFrame:
    recipe = opened.recipe
    shape = recipe.revenue.shape
    account = account_of(recipe.sources[shape.source])
    paid = _in_cents(row_amount(recipe))
    begin, after = life(recipe)
    again = "true" if shape.new_again is None else f"back <= gone + {interval(shape.new_again)}"
    gap, before = interval(shape.gap), seen_before(recipe, _BOUND)
    soon = "false" if shape.gap == Span(0, 0) else f"back <= gone + {gap}"
    listed = ", ".join(f"({sql_date(day)}, {number})" for number, day in enumerate(bounds))
    text = f"""
        with bounds as (from (values {listed}) as b({_BOUND}, "gtmar:number")),
        rows as (from {_revenue(recipe)}),
        held as (
            select {account} as account, "gtmar:number" as number, sum({paid}) as cents
            from rows join bounds on {counted(recipe, _BOUND)} group by all
        ),
        ends as (
            select account, number, cents, min(number) filter (where cents > 0) over (
                partition by account) as first from held
        ),
        pairs as (
            select account, number - 1 as number, 0 as start, cents as "end", first from ends
            union all select account, number, cents, 0, first from ends
        ),
        months as (
            select account, number, cast(sum(start) as bigint) as start,
                cast(sum("end") as bigint) as "end", min(first) as first
            from pairs where number between 0 and {len(bounds) - 2} group by all
        ),
        lives as (
            select {account} as of, {begin} as begin, {after} as after from rows
            where {row_amount(recipe)} > 0 and ({after} is null or {after} > {begin})
        ),
        without as (
            select account, months.number, max(after) filter (where begin < {before}) as gone,
                min(begin) filter (where begin >= {before}) as back
            from months join lives on of = account
            join bounds on "gtmar:number" = months.number + cast("end" <= 0 as integer)
            where (start > 0) <> ("end" > 0) group by all
        )
        select account, number, start, "end", first, coalesce({soon}, false) as soon,
            coalesce({again}, true) as again,
            coalesce(back is null and gone + {gap} >= {sql_date(opened.until)}, false) as open
        from months left join without using (account, number) order by number, account
    """
    try:
        frame = pl.DataFrame(opened.connection.sql(text).pl())
    except duckdb.Error as err:
        raise AccountDataError(f"the bridge can't be made: {first_line(err)}") from err
    start, end, within = pl.col("start"), pl.col("end"), pl.col("soon")
    came, went = (start <= 0) & (end > 0), (start > 0) & (end <= 0)
    returned = came & (pl.col("first") <= pl.col("number")) & (pl.col("again") | within)
    stays, more = ~came & ~went, end - start
    kinds = (
        came & ~returned,
        stays & (more > 0),
        stays & (more < 0),
        went & ~within,
        returned & ~within,
        went & within,
        returned & within,
    )
    unsettled = frame.filter(went & ~within & pl.col("open")).height
    if unsettled and shape.gap != Span(0, 0):
        opened.notes.append(
            f"Churn of {some(unsettled, 'account')} may yet turn out to be a pause: on "
            f"{opened.until} their gap isn't over."
        )
    moved = frame.select(
        pl.lit(pl.Series(bounds)).gather(pl.col("number")).alias("month"),
        "account",
        "start",
        *(
            pl.when(kind).then(more).otherwise(0).alias(name)
            for name, kind in zip(MOVEMENTS, kinds, strict=True)
        ),
        "end",
    )
    return (
        moved.join(_one_offs(opened, bounds), on=["month", "account"], how="full", coalesce=True)
        .with_columns(pl.exclude("month", "account").fill_null(0))
        .sort("month", "account")
    )


def _one_offs(opened: RawHistory, bounds: list[date]) -> pl.DataFrame:
    """Return the payments that don't recur, in cents, by month and account."""
    recipe = opened.recipe
    source = recipe.sources[recipe.revenue.shape.source]
    month = f"cast(date_trunc('month', {quoted(str(source.time))}) as date)"
    text = (
        f"select {month} as month, {account_of(source)} as account, "
        f"cast(sum({_in_cents(paid_amount(recipe))}) as bigint) as one_off "
        f"from {_revenue(recipe, one_off=True)} where {month} < {sql_date(bounds[-1])} group by all"
    )
    return pl.DataFrame(opened.connection.sql(text).pl())


def _own_totals(opened: RawHistory, until: date) -> list[tuple[date, int]]:
    """Return the changes of total MRR by day, up to `until`, without grouping by account.

    Each row contributes two changes: its amount on the first day from which month starts count it,
    and the negative amount on the first day from which they no longer do. Later days are left out,
    since an open end may be stored as a date that Python can't represent.
    """
    recipe = opened.recipe
    shape = recipe.revenue.shape
    begin, after = (f"cast({each} as date)" for each in life(recipe))
    first, last = f"{begin} + 1", f"{after} + 1"
    if isinstance(shape, Monthly):
        first, last = after, f"cast({after} + interval 1 month as date)"
    elif isinstance(shape, Transactions) and shape.paid_until is None:
        # The payment counts at the next `months` month starts.
        last = f"cast(date_trunc('month', {after}) + interval 1 month as date)"
    elif isinstance(shape, Subscriptions) and shape.deciding_day != "last day":
        # The subscription counts last at the end of the month that holds its last day.
        last = f"cast(date_trunc('month', {after} - 1) + interval 2 month as date)"
        if shape.deciding_day == "first day":
            first = f"cast(date_trunc('month', {begin} - 1) + interval 2 month as date)"
    cents, rows = _in_cents(row_amount(recipe)), _revenue(recipe)
    changes = (
        f"select {first} as day, {cents} as cents from {rows} where {after} > {begin} "
        f"or {after} is null union all select {last}, -{cents} from {rows} where {after} > {begin}"
    )
    return [
        (day, int(cents))
        for day, cents in opened.ask(
            f"select day, sum(cents) from ({changes}) where day <= {sql_date(until)} "
            "group by 1 order by 1"
        )
    ]


def _against_own(opened: RawHistory, months: pl.DataFrame, bounds: list[date]) -> list[Mismatch]:
    """Compare the bridge's MRR at each month's end with `_own_totals`."""
    changes, total, at, mismatches = _own_totals(opened, bounds[-1]), 0, 0, []
    ends = [0, *months["end"].to_list()]
    starts = [*months["start"].to_list(), ends[-1]]
    for bound, end, start in zip(bounds, ends, starts, strict=True):
        while at < len(changes) and changes[at][0] <= bound:
            total += changes[at][1]
            at += 1
        month = Span(1, 0).after(bound, -1)
        mismatches += [
            Mismatch(month, "own", sum_, total) for sum_ in {end, start} if sum_ != total
        ]
    return mismatches


def _against_books(opened: RawHistory, months: pl.DataFrame) -> list[Mismatch]:
    """Compare with the recipe's totals: MRR at month's end, or for payments the amount paid."""
    recipe = opened.recipe
    if recipe.totals is None:
        return []
    month, amount = quoted(recipe.totals.month), quoted(recipe.totals.amount)
    books = dict(
        opened.ask(
            f"select cast(date_trunc('month', {month}) as date), "
            f"cast(round(sum(cast({amount} as decimal(38, 6))) * 100) as bigint) "
            f"from {quoted(TOTALS)} where {month} is not null and {amount} is not null group by 1"
        )
    )
    shape = recipe.revenue.shape
    ours = dict(months.select("month", "end").rows())
    if isinstance(shape, Transactions):
        at = quoted(str(recipe.sources[shape.source].at))
        paid = dict(
            opened.ask(
                f"select cast(date_trunc('month', {at}) as date), "
                f"{_in_cents(f'sum({paid_amount(recipe)})')} "
                f"from ({with_rates(recipe, f'({source_rows(recipe, shape.source)})')}) group by 1"
            )
        )
        ours = {day: paid.get(day, 0) for day in ours}
    # If the source has lost all rows of early months, the bridge begins later: they count as 0.
    ours |= {day: 0 for day in books if day < min(ours)}
    for few, what in (
        (sorted(ours.keys() - books.keys()), "The totals have no row for"),
        (sorted(books.keys() - ours.keys()), "The history isn't known to the end of"),
    ):
        if few:
            opened.notes.append(
                f"{what} {len(few):,} of {len(ours | books):,} months, the first of them "
                f"{few[0]:%Y-%m}; these are held against nothing."
            )
    return [
        Mismatch(day, "books", cents, int(books[day]))
        for day, cents in ours.items()
        if day in books and int(books[day]) != cents
    ]
