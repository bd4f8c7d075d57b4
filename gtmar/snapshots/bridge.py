"""MRR month by month: start, what came and went, end; held against sums made another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from gtmar.data.locations import quoted
from gtmar.errors import AccountDataError
from gtmar.snapshots.conflicts import Conflict, conflicts
from gtmar.snapshots.raw_history import TOTALS, RawHistory, history
from gtmar.snapshots.recipe import Monthly, Span, Subscriptions, Transactions
from gtmar.snapshots.statement import account_of, all_rows, row_amount, runs_on, sql_date
from gtmar.snapshots.suspects import suspects
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from datetime import date

    from gtmar.snapshots.recipe import SnapshotRecipe

__all__ = ["MOVEMENTS", "Bridge", "Mismatch", "bridge"]

#: What moves MRR from a month's start to its end; contraction and churn are below 0.
MOVEMENTS = ("new", "expansion", "contraction", "churn", "reactivation")
#: Two centuries of months: more come of a date that is a slip.
_MOST_MONTHS = 2_400


@dataclass(frozen=True)
class Mismatch:
    """A month in which two sums of one thing differ."""

    month: date
    #: `own`: the source added up another way; `books`: what the recipe's totals say.
    against: str
    bridge_cents: int
    other_cents: int

    @property
    def cents(self) -> int:
        """How much more the bridge has."""
        return self.bridge_cents - self.other_cents


@dataclass(frozen=True)
class Bridge:
    """The movements of MRR, in cents."""

    #: A row a month: `month`, `start`, the movements, `end`.
    months: pl.DataFrame
    #: The same by account, of those with MRR at a month's start or end.
    accounts: pl.DataFrame
    differences: tuple[Mismatch, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether all sums agree, and each contradiction has a rule."""
        return not self.differences and all(each.rule is not None for each in self.conflicts)


def bridge(recipe: SnapshotRecipe, **options: Any) -> Bridge:
    """Follow the MRR of all accounts from month to month, over the whole months of a history.

    Parameters
    ----------
    recipe
        The recipe; `options` and errors are those of `history`. Contradictions without a rule are
        listed, not refused.

    Notes
    -----
    A month starts with the MRR just before its first day, and ends with that just before the next
    one's. The monthly amount of each row is rounded to the cent, and all sums are of whole cents.
    Who comes from 0 is new the first time, and a reactivation later; who goes to 0 is churn.
    """
    with history(recipe, **options) as opened:
        found = conflicts(opened)
        bounds = _bounds(opened)
        accounts = _by_account(opened, bounds)
        moved = [pl.col(name).sum() for name in ("start", *MOVEMENTS, "end")]
        frame = pl.DataFrame({"month": bounds[:-1]}, schema={"month": pl.Date})
        months = frame.join(
            accounts.group_by("month").agg(moved), on="month", how="left", maintain_order="left"
        ).fill_null(0)
        differences = [*_against_own(opened, months, bounds), *_against_books(opened, months)]
        opened.notes += suspects(opened)
    return Bridge(months, accounts, tuple(differences), tuple(found), tuple(opened.notes))


def _bounds(opened: RawHistory) -> list[date]:
    """Return the first days of the history's months, and of the one after the last whole one."""
    source = opened.recipe.sources[opened.recipe.revenue.shape.source]
    rows = all_rows(opened.recipe, opened.recipe.revenue.shape.source)
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


def _cents(recipe: SnapshotRecipe) -> str:
    """Return the cents that a row adds to a month's MRR."""
    shape = recipe.revenue.shape
    amount = f"{row_amount(recipe)} * 100"
    if isinstance(shape, Transactions) and shape.months > 1:
        amount = f"cast({amount} as double) / {shape.months}"
    return f"cast(round({amount}) as bigint)"


def _by_account(opened: RawHistory, bounds: list[date]) -> pl.DataFrame:
    recipe = opened.recipe
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    if isinstance(shape, Subscriptions):
        counts = runs_on(recipe, '"gtmar:bound"')
    elif isinstance(shape, Monthly):
        month = f"date_trunc('month', {quoted(str(source.at))})"
        counts = f'{month} = "gtmar:bound" - interval 1 month'
    else:
        at = quoted(str(source.at))
        counts = f'{at} < "gtmar:bound" and {at} >= "gtmar:bound" - interval {shape.months} month'
    listed = ", ".join(f"({sql_date(day)}, {number})" for number, day in enumerate(bounds))
    text = f"""
        with bounds as (from (values {listed}) as b("gtmar:bound", "gtmar:number")),
        held as (
            select {account_of(source)} as account, "gtmar:number" as number,
                sum({_cents(recipe)}) as cents
            from ({all_rows(recipe, shape.source)}) join bounds on {counts} group by all
        ),
        ends as (
            select account, number, cents, min(number) filter (where cents > 0) over (
                partition by account) as first from held
        ),
        pairs as (
            select account, number - 1 as number, 0 as start, cents as "end", first from ends
            union all select account, number, cents, 0, first from ends
        )
        select account, number, cast(sum(start) as bigint) as start, cast(sum("end") as bigint)
            as "end", min(first) as first
        from pairs where number between 0 and {len(bounds) - 2}
        group by all order by number, account
    """
    try:
        frame = pl.DataFrame(opened.connection.sql(text).pl())
    except duckdb.Error as err:
        raise AccountDataError(f"the bridge can't be made: {first_line(err)}") from err
    start, end = pl.col("start"), pl.col("end")
    came, went = (start <= 0) & (end > 0), (start > 0) & (end <= 0)
    before = pl.col("first") <= pl.col("number")
    stays, more = ~came & ~went, end - start
    kinds = (
        came & ~before,
        stays & (more > 0),
        stays & (more < 0),
        went,
        came & before,
    )
    days = pl.Series(bounds)
    return frame.select(
        pl.lit(days).gather(pl.col("number")).alias("month"),
        "account",
        "start",
        *(
            pl.when(kind).then(more).otherwise(0).alias(name)
            for name, kind in zip(MOVEMENTS, kinds, strict=True)
        ),
        "end",
    )


def _own_totals(opened: RawHistory, last: date) -> list[tuple[date, int]]:
    """Return by day what is added to the MRR of all accounts from that day on, without accounts.

    Until a last day: an open end may be written as one that Python has no date for.
    """
    recipe = opened.recipe
    shape = recipe.revenue.shape
    source, cents = recipe.sources[shape.source], _cents(recipe)
    rows = f"({all_rows(recipe, shape.source)})"
    if isinstance(shape, Subscriptions):
        begin, until = quoted(str(source.from_)), quoted(str(source.until))
        extra = 1 if shape.until == "last day" else 0
        # From the day after the one on which it begins it is seen; so is its end.
        changes = (
            f"select cast({begin} as date) + 1 as day, {cents} as cents from {rows} union all "
            f"select cast({until} as date) + {1 + extra}, -{cents} from {rows} "
            f"where {until} is not null"
        )
    else:
        at = f"cast({quoted(str(source.at))} as date)"
        begins, length = f"{at} + 1", 1
        if isinstance(shape, Monthly):
            begins = f"cast(date_trunc('month', {at}) + interval 1 month as date)"
        else:
            length = shape.months
        changes = f"select {begins} as day, {at} as paid_on, {cents} as cents from {rows}"
        if isinstance(shape, Monthly):
            ends = "cast(day + interval 1 month as date)"
        else:
            # It counts at the first days of so many months after the one that it is of.
            ends = f"cast(date_trunc('month', paid_on) + interval {length + 1} month as date)"
        changes = (
            f"select day, cents from ({changes}) union all select {ends}, -cents from ({changes})"
        )
    return [
        (day, int(cents))
        for day, cents in opened.ask(
            f"select day, sum(cents) from ({changes}) where day <= {sql_date(last)} "
            "group by 1 order by 1"
        )
    ]


def _against_own(opened: RawHistory, months: pl.DataFrame, bounds: list[date]) -> list[Mismatch]:
    changes, total, at, found = _own_totals(opened, bounds[-1]), 0, 0, []
    ends = [0, *months["end"].to_list()]
    starts = [*months["start"].to_list(), ends[-1]]
    for bound, end, start in zip(bounds, ends, starts, strict=True):
        while at < len(changes) and changes[at][0] <= bound:
            total += changes[at][1]
            at += 1
        month = Span(1, 0).after(bound, -1)
        found += [Mismatch(month, "own", sum_, total) for sum_ in {end, start} if sum_ != total]
    return found


def _against_books(opened: RawHistory, months: pl.DataFrame) -> list[Mismatch]:
    """Compare with the recipe's totals: MRR at a month's end, or what was paid in it."""
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
                f"cast(round(sum({row_amount(recipe)}) * 100) as bigint) "
                f"from ({all_rows(recipe, shape.source)}) group by 1"
            )
        )
        ours = {day: paid.get(day, 0) for day in ours}
    # A month whose rows are all gone may be none of the bridge's.
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
