"""The SELECT that makes an account table of one date: DuckDB's SQL, from a recipe.

Each source is seen through a table of its own name that ends where the date can see no further; all
features read these, a person's own SQL included. Outcomes and MRR read the raw tables, which have
names that no SQL of a recipe can write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gtmar.data.locations import quoted
from gtmar.snapshots.recipe import Monthly, Subscriptions, Transactions

if TYPE_CHECKING:
    from datetime import date

    from gtmar.snapshots.recipe import Feature, Recipe, Source, Span

__all__ = ["RAW", "Window", "amount_of", "mrr_at", "statement"]

#: Before the name of a raw table.
RAW = "raw:"
#: Money and other numbers are added up as decimals, so that no order of rows changes a sum.
_EXACT = "decimal(38, 6)"


@dataclass(frozen=True)
class Window:
    """One snapshot's days."""

    day: date
    #: Rows from this day on are no feature's.
    cut: date
    end: date
    #: Whether the history reaches the end, so that outcomes are known.
    over: bool

    @classmethod
    def of(cls, recipe: Recipe, day: date, until: date | None) -> Window:
        """Return the days of a snapshot, given the first day that the history doesn't know."""
        end = recipe.window.after(day)
        return cls(day, recipe.lead.after(day, -1), end, until is None or end <= until)


def _day(day: date) -> str:
    return f"date '{day.isoformat()}'"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _account(source: Source) -> str:
    return f"cast({quoted(source.account)} as varchar)"


def as_of(name: str, source: Source, cut: date) -> str:
    """Return the rows of a source that a day can see: those before it, known before it."""
    raw = quoted(f"{RAW}{name}")
    conditions = [f"{quoted(source.account)} is not null"]
    if source.time is not None:
        conditions.append(f"{quoted(source.time)} < {_day(cut)}")
    if source.known_at is not None:
        conditions.append(f"{quoted(source.known_at)} < {_day(cut)}")
    shown = "*"
    if source.until is not None:
        until = quoted(source.until)
        # An end that lies ahead is not known yet, whatever the row says today.
        shown = f"* replace (case when {until} < {_day(cut)} then {until} end as {until})"
    if source.where is not None:
        conditions.append(f"({source.where}\n)")
    return f"select {shown} from {raw} where {' and '.join(conditions)}"


def amount_of(recipe: Recipe) -> str:
    """Return the money of a row of the source of revenue, in one currency, as a decimal."""
    shape = recipe.revenue.shape
    amount = f"cast({quoted(shape.amount)} as {_EXACT})"
    if shape.currency is not None:
        rates = " ".join(
            f"when {_text(name)} then {rate!r}" for name, rate in sorted(shape.rates.items())
        )
        rate = f"cast(case {quoted(shape.currency)} {rates} end as decimal(18, 9))"
        amount = f"cast({amount} * {rate} as {_EXACT})"
    if isinstance(shape, Subscriptions):
        if shape.quantity is not None:
            amount = f"{amount} * coalesce({quoted(shape.quantity)}, 1)"
        if shape.discount is not None:
            share = f"cast(1 - coalesce({quoted(shape.discount)}, 0) as decimal(9, 6))"
            amount = f"cast({amount} * {share} as {_EXACT})"
    elif shape.negative == "leave out":
        amount = f"greatest({amount}, 0)"
    return amount


def mrr_at(recipe: Recipe, day: date) -> str:
    """Return a SELECT of `account` and `mrr` just before a day begins, of accounts that have rows."""
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    raw, amount = quoted(f"{RAW}{shape.source}"), amount_of(recipe)
    extra = "" if source.where is None else f" and ({source.where}\n)"
    head = f"select {_account(source)} as account"
    tail = f"{extra} and {quoted(source.account)} is not null group by all"
    if isinstance(shape, Transactions):
        from gtmar.snapshots.recipe import Span

        first = Span(shape.months, 0).after(day, -1)
        at = quoted(str(source.at))
        return (
            f"{head}, cast(sum({amount}) as double) / {shape.months} as mrr from {raw} "
            f"where {at} >= {_day(first)} and {at} < {_day(day)}{tail}"
        )
    if isinstance(shape, Monthly):
        month = f"date_trunc('month', {_day(day)})"
        if shape.month == "before":
            month = f"({month} - interval 1 month)"
        at = f"date_trunc('month', {quoted(str(source.at))})"
        return f"{head}, cast(sum({amount}) as double) as mrr from {raw} where {at} = {month}{tail}"
    begin, until = quoted(str(source.from_)), quoted(str(source.until))
    months = str(shape.months) if isinstance(shape.months, int) else quoted(shape.months)
    return (
        f"{head}, sum(cast({amount} as double) / {months}) as mrr from {raw} "
        f"where {begin} < {_day(day)} and ({until} is null or {until} >= {_day(day)}){tail}"
    )


def _retained_ids(recipe: Recipe, window: Window) -> str:
    """Return a SELECT of the accounts that are there at the end of the window."""
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    if isinstance(shape, Transactions):
        at, raw = quoted(str(source.at)), quoted(f"{RAW}{shape.source}")
        extra = "" if source.where is None else f" and ({source.where}\n)"
        paid = "" if shape.retained_by == "any row" else f" having sum({amount_of(recipe)}) > 0"
        return (
            f"select {_account(source)} as account from {raw} where {at} >= {_day(window.day)} "
            f"and {at} < {_day(window.end)}{extra} group by all{paid}"
        )
    return f"select account from ({mrr_at(recipe, window.end)}) where mrr > 0"


def _population(recipe: Recipe, window: Window) -> str:
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    seen = f"select distinct {_account(source)} as account from {quoted(shape.source)}"
    paying = f"select account from ({mrr_at(recipe, window.day)}) where mrr > 0"
    if recipe.population == "paying":
        return paying
    if recipe.population == "seen":
        return seen
    amount = quoted(shape.amount)
    return f"{seen} where {amount} > 0 union {paying}"


# ---- features ------------------------------------------------------------------------------------


def _feature(recipe: Recipe, feature: Feature, window: Window) -> str:
    """Return an aggregate over the rows of a feature's source, of one account."""
    source = recipe.sources[feature.source]
    column = None if feature.column is None else quoted(feature.column)
    number = f"cast({column} as {_EXACT})"
    time = None if source.time is None else quoted(source.time)
    where = None if feature.where is None else f"({feature.where}\n)"

    def over(aggregate: str, span: Span | None, times: int = 1, *, asked: bool = True) -> str:
        """Filter an aggregate to some time before the date, and to the rows asked for."""
        conditions = [where] if asked and where else []
        if span is not None:
            conditions.append(f"{time} >= {_day(span.after(window.cut, -times))}")
        if times > 1 and span is not None:
            conditions.append(f"{time} < {_day(span.after(window.cut, 1 - times))}")
        return f"{aggregate} filter (where {' and '.join(conditions)})" if conditions else aggregate

    last, kind = feature.last, feature.kind
    rows = "count(*)" if column is None else f"cast(coalesce(sum({number}), 0) as double)"
    if kind == "count":
        return f"coalesce({over('count(*)', last)}, 0)"
    if kind == "sum":
        return f"coalesce(cast({over(f'sum({number})', last)} as double), 0)"
    if kind == "mean":
        total, count = over(f"sum({number})", last), over(f"count({column})", last)
        return f"cast({total} as double) / nullif({count}, 0)"
    if kind in ("min", "max"):
        return over(f"{kind}({column})", last)
    if kind == "share":
        part, whole = over("count(*)", last), over("count(*)", last, asked=False)
        return f"cast({part} as double) / nullif({whole}, 0)"
    if kind == "distinct":
        return f"coalesce({over(f'count(distinct {column})', last)}, 0)"
    if kind == "days_since":
        return f"date_diff('day', cast({over(f'max({time})', last)} as date), {_day(window.day)})"
    if kind == "tenure":
        return f"date_diff('day', cast({over(f'min({time})', last)} as date), {_day(window.day)})"
    if kind == "latest":
        if time is None:
            return over(f"max({column})", None)
        # Of two rows of one moment, the larger value: nothing else about them is known to be later.
        return over(f"max({{'at': {time}, 'value': {column}}})", last) + ".value"
    if kind == "change":
        now = over("count(*)" if column is None else f"sum({number})", last)
        before = over("count(*)" if column is None else f"sum({number})", last, 2)
        return f"cast(coalesce({now}, 0) - coalesce({before}, 0) as double)"
    # A line through the rows: the slope a day, of exact sums, so that no order changes a digit.
    x = f"cast(date_diff('day', {_day(window.cut)}, cast({time} as date)) as {_EXACT})"
    known = f"case when {column} is not null then {x} end"
    n, sx, sy = (over(a, last) for a in (f"count({column})", f"sum({known})", f"sum({number})"))
    sxy = over(f"sum(cast({x} * {number} as {_EXACT}))", last)
    sxx = over(f"sum(cast({known} * {known} as {_EXACT}))", last)
    doubles = [f"cast({part} as double)" for part in (n, sx, sy, sxy, sxx)]
    n, sx, sy, sxy, sxx = doubles
    return f"({n} * {sxy} - {sx} * {sy}) / nullif({n} * {sxx} - {sx} * {sx}, 0)"


#: What a feature is of an account without any row in its source.
_OF_NOTHING = {"count": "0", "sum": "0", "distinct": "0", "change": "0"}


def statement(recipe: Recipe, window: Window) -> str:
    """Return the SELECT of one date: an account a row, in the order of their ids.

    Columns: the id, ``features_asof``, then the features; where the window is over also
    ``outcome_start``, ``outcome_end``, ``mrr``, ``mrr_end``, ``retained_6mo``, ``churned``, and what the
    recipe asks for of ``actual_ltv``, ``activated``, ``days_to_activate`` and ``won_back``. Without outcomes
    ``mrr`` stands alone.
    """
    ctes = [
        f"{quoted(name)} as ({as_of(name, source, window.cut)})"
        for name, source in recipe.sources.items()
    ]
    ctes.append(f'"gtmar:account" as ({_population(recipe, window)})')
    joins, columns = [], []
    groups: dict[str, dict[str, Feature]] = {}
    for name, feature in recipe.features.items():
        if feature.kind != "sql":
            groups.setdefault(feature.source, {})[name] = feature
    for source, features in groups.items():
        made = ", ".join(
            f"{_feature(recipe, feature, window)} as {quoted(name)}"
            for name, feature in features.items()
        )
        account = _account(recipe.sources[source])
        alias = quoted(f"gtmar:of:{source}")
        ctes.append(f"{alias} as (select {account} as account, {made} from {quoted(source)} group by all)")
        joins.append(f"left join {alias} using (account)")
    for number, (name, feature) in enumerate(recipe.features.items()):
        if feature.kind == "sql":
            alias = quoted(f"gtmar:sql:{number}")
            ctes.append(
                f"{alias} as (select cast(account as varchar) as account, any_value(value) as {quoted(name)}, "
                f"count(*) as answers from ({feature.sql}\n) as own(account, value) group by all)"
            )
            joins.append(f"left join {alias} using (account)")
            columns.append(
                f"case when {alias}.answers > 1 then error({_text(_TWICE.format(name))}) "
                f"else {alias}.{quoted(name)} end as {quoted(name)}"
            )
            continue
        value = f"{quoted(f'gtmar:of:{feature.source}')}.{quoted(name)}"
        if feature.kind in _OF_NOTHING:
            value = f"coalesce({value}, {_OF_NOTHING[feature.kind]})"
        time = recipe.sources[feature.source].time
        if feature.last is not None and time is not None:
            # Nobody counted before the source begins: then it is not known, and not zero.
            times = 2 if feature.kind == "change" else 1
            first = feature.last.after(window.cut, -times)
            begins = f"(select min({quoted(time)}) from {quoted(feature.source)})"
            value = f"case when {begins} <= {_day(first)} then {value} end"
        columns.append(f"{value} as {quoted(name)}")
    ctes.append(f'"gtmar:start" as ({mrr_at(recipe, window.day)})')
    joins.append('left join "gtmar:start" using (account)')
    own = ['round(coalesce("gtmar:start".mrr, 0), 4) as mrr']
    if window.over:
        more_ctes, more_joins, own = _outcomes(recipe, window)
        ctes += more_ctes
        joins += more_joins
    listed = ",\n    ".join(
        [
            f'"gtmar:account".account as {quoted(recipe.id)}',
            f"{_day(window.day)} as features_asof",
            *columns,
            *own,
        ]
    )
    with_ = ",\n".join(ctes)
    joined = "\n".join(joins)
    return (
        f"with {with_}\nselect\n    {listed}\nfrom \"gtmar:account\"\n{joined}\n"
        'order by "gtmar:account".account'
    )


_TWICE = "feature {}: its SELECT gives an account more than one row"


def _outcomes(recipe: Recipe, window: Window) -> tuple[list[str], list[str], list[str]]:
    """Return the tables, joins and columns of what became of the accounts."""
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    raw, account = quoted(f"{RAW}{shape.source}"), _account(source)
    ctes = [
        f'"gtmar:end" as ({mrr_at(recipe, window.end)})',
        f'"gtmar:kept" as ({_retained_ids(recipe, window)})',
    ]
    joins = ['left join "gtmar:end" using (account)', 'left join "gtmar:kept" using (account)']
    start, end = 'coalesce("gtmar:start".mrr, 0)', 'coalesce("gtmar:end".mrr, 0)'
    kept, there = '"gtmar:kept".account is not null', f"{start} > 0"
    if recipe.population != "paying and former":
        there = "true"
    if isinstance(shape, Subscriptions) and shape.gap.after(window.end) > window.end:
        later = mrr_at(recipe, shape.gap.after(window.end))
        until = quoted(str(source.until))
        ctes.append(
            f'"gtmar:back" as (select account, mrr from ({later}) semi join (select {account} as '
            f"account from {raw} where {until} >= {_day(shape.gap.after(window.end, -1))}) using (account) "
            "where mrr > 0)"
        )
        joins.append('left join "gtmar:back" using (account)')
        end = f'coalesce(nullif({end}, 0), "gtmar:back".mrr, 0)'
        kept = f'({kept} or "gtmar:back".account is not null)'
    columns = [
        f"{_day(window.day)} as outcome_start",
        f"{_day(window.end)} - 1 as outcome_end",
        f"case when {there} then round({start}, 4) end as mrr",
        f"case when {there} then round({end}, 4) end as mrr_end",
        f"case when {there} then cast({kept} as tinyint) end as retained_6mo",
        f"case when {there} then cast(not {kept} as tinyint) end as churned",
    ]
    if recipe.population == "paying and former":
        columns.append(f"case when not {there} then cast({kept} as tinyint) end as won_back")
    if recipe.ltv is not None:
        amount = amount_of(recipe)
        ctes.append(
            f'"gtmar:worth" as (select {account} as account, cast(sum({amount}) as double) as worth '
            f"from {raw} group by all)"
        )
        joins.append('left join "gtmar:worth" using (account)')
        columns.append('"gtmar:worth".worth as actual_ltv')
    if recipe.activation is not None:
        event = recipe.sources[recipe.activation.source]
        at = quoted(str(event.time))
        asked = "" if recipe.activation.where is None else f" and ({recipe.activation.where}\n)"
        begins = quoted(str(source.time))
        span = recipe.activation.within
        within = f"interval {span.months} month" if span.months else f"interval {span.days} day"
        ctes.append(
            f'"gtmar:began" as (select {account} as account, min({begins}) as began from {raw} group by all)'
        )
        ctes.append(
            f'"gtmar:active" as (select account, min({at}) as at from (select *, {_account(event)} as account '
            f"from {quoted(f'{RAW}{recipe.activation.source}')}) join \"gtmar:began\" using (account) "
            f"where {at} >= began and {at} < began + {within}{asked} group by all)"
        )
        joins += [
            'left join "gtmar:began" using (account)',
            'left join "gtmar:active" using (account)',
        ]
        known = f'"gtmar:began".began + {within} <= {_day(window.end)}'
        columns.append(
            f"case when {known} then cast(\"gtmar:active\".at is not null as tinyint) end as activated"
        )
        columns.append(
            f'case when {known} then date_diff(\'day\', cast("gtmar:began".began as date), '
            'cast("gtmar:active".at as date)) end as days_to_activate'
        )
    return ctes, joins, columns
