"""Generate the DuckDB SELECT that builds the account table of one date from a recipe.

Every source is exposed under its own name as a CTE that holds only rows known on the snapshot date.
All features read these CTEs, including the recipe's own SQL; the table's accounts and their MRR at
the start also depend only on rows known then. Outcomes read the raw tables, whose names the
recipe's own SQL can't use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gtmar.data.locations import literal, quoted
from gtmar.snapshots.recipe import Monthly, RateTable, Span, Subscriptions, Transactions

if TYPE_CHECKING:
    from datetime import date

    from gtmar.snapshots.recipe import FeatureRule, RawTable, SnapshotRecipe

__all__ = [
    "RATES",
    "RAW",
    "SnapshotDays",
    "account_of",
    "counted",
    "feature",
    "interval",
    "life",
    "mrr_at",
    "paid_amount",
    "recurring",
    "row_amount",
    "seen_before",
    "source_rows",
    "sql_date",
    "statement",
    "with_rates",
]

#: Prefix of the names of raw tables.
RAW = "raw:"
#: Unit prices, exchange rates and shares need more decimal digits than money.
_FACTOR = "decimal(38, 12)"
#: The raw table of rates by date.
RATES = f"{RAW}gtmar rates"
#: Numbers are added as decimals, so that a sum doesn't depend on the order of rows.
_EXACT = "decimal(38, 6)"


@dataclass(frozen=True)
class SnapshotDays:
    """The days of one snapshot."""

    #: The snapshot date, on which the outcome window starts.
    day: date
    #: End of the rows that features read, exclusive: `day` minus the recipe's lead.
    cut: date
    #: End of the outcome window, exclusive.
    end: date
    #: Whether the history is long enough for outcomes to be known.
    over: bool

    @classmethod
    def of(cls, recipe: SnapshotRecipe, day: date, until: date | None) -> SnapshotDays:
        """Return a snapshot's days; `until` ends the history (exclusive), None: it has no end."""
        end = recipe.window.after(day)
        # An end counts as churn only once the gap for a return is over.
        settled = recipe.revenue.shape.gap.after(end)
        return cls(day, recipe.lead.after(day, -1), end, until is None or settled <= until)


def sql_date(day: date) -> str:
    """Write a date in SQL."""
    return f"date '{day.isoformat()}'"


def _rounded(value: str, digits: int) -> str:
    """Round a double half up by ``floor``, since ``round`` differs between engines and versions."""
    return f"floor({value} * 1e{digits} + 0.5) / 1e{digits}"


def _flag(condition: str) -> str:
    """Return 1 where a condition holds, else 0; not every engine can cast a boolean to a number."""
    return f"cast(case when {condition} then 1 else 0 end as tinyint)"


def account_of(source: RawTable) -> str:
    """Return the account id of a source's row, cast to text since sources differ in its type."""
    return f"cast({quoted(source.account)} as varchar)"


def source_rows(recipe: SnapshotRecipe, name: str, cut: date | None = None) -> str:
    """Return a SELECT of a source's rows that have an account and a date.

    With `cut`, only rows known before that day remain. The source's own condition is applied last,
    to rows as they were known then.
    """
    source = recipe.sources[name]
    conditions = [f"{quoted(source.account)} is not null"]
    for time in (source.time, source.known_at if cut else None):
        if time is not None:
            seen = "is not null" if cut is None else f"< {sql_date(cut)}"
            conditions.append(f"{quoted(time)} {seen}")
    shown = "*"
    if source.until is not None:
        until, shape = quoted(source.until), recipe.revenue.shape
        ends = {source.until}
        if isinstance(shape, Subscriptions) and shape.source == name and shape.cancelled:
            ends.add(shape.cancelled)
        if cut is not None:
            # A later end wasn't known on that day, even though the row has it today: it is null.
            masked = (
                f"case when {end} < {sql_date(cut)} then {end} end as {end}"
                for end in map(quoted, sorted(ends))
            )
            shown = f"* replace ({', '.join(masked)})"
        if recipe.rules.ends_before_start == "leave out":
            begin = quoted(str(source.from_))
            conditions.append(f"({until} is null or {until} >= {begin})")
    text = f"select {shown} from {quoted(f'{RAW}{name}')} where {' and '.join(conditions)}"
    # The condition gets a SELECT of its own, so that an OR in it can't bypass those above.
    return text if source.where is None else f"select * from ({text}) where ({source.where}\n)"


# ---- money ---------------------------------------------------------------------------------------


def with_rates(recipe: SnapshotRecipe, rows: str) -> str:
    """Return a SELECT of rows of revenue with ``gtmar:rate``, the exchange rate of their day.

    Rows without a rate get null. Without a table of rates, the rows are unchanged.
    """
    shape = recipe.revenue.shape
    rates, source = shape.rates, recipe.sources[shape.source]
    if not isinstance(rates, RateTable):
        return f"select * from {rows}"
    currency = f"cast({quoted(str(shape.currency))} as varchar)"
    day = f"cast({quoted(str(source.time))} as date)"
    name = f"cast({quoted(rates.currency)} as varchar)"
    first = f"cast({quoted(rates.date)} as date)"
    # Rates are looked up once for each day and currency, of which there are far fewer than rows.
    return (
        f'select paid.*, "gtmar:rate" from {rows} as paid left join (select asked.currency as '
        '"gtmar:currency", asked.day as "gtmar:day", rated.rate as "gtmar:rate" from '
        f"(select distinct {currency} as currency, {day} as day from {rows} as paid) as asked "
        f"join (select {name} as currency, {first} as first, {quoted(rates.rate)} as rate, "
        f"lead({first}) over (partition by {name} order by {first}) as later "
        f"from {quoted(RATES)}) as rated on rated.currency = asked.currency "
        "and asked.day >= rated.first and (rated.later is null or asked.day < rated.later)"
        f') as rates on "gtmar:currency" = {currency} and "gtmar:day" = {day}'
    )


def recurring(recipe: SnapshotRecipe, rows: str, *, one_off: bool = False) -> str:
    """Return a SELECT of recurring rows of revenue, or of the one-off ones, with their rates."""
    shape = recipe.revenue.shape
    if shape.one_off is None:
        return with_rates(recipe, rows) + (" where false" if one_off else "")
    held = "is true" if one_off else "is not true"
    # The condition is evaluated before the join, since it may only see the source's own columns.
    own = f"(select * from {rows} as paid where ({shape.one_off}\n) {held})"
    return with_rates(recipe, own)


def _whole_amount(recipe: SnapshotRecipe) -> str:
    """Return the amount of a row in one currency, unrounded: with quantity, discount and rate."""
    shape = recipe.revenue.shape
    amount = f"cast({quoted(shape.amount)} as {_FACTOR})"
    if shape.currency is not None:
        rate = '"gtmar:rate"'
        if not isinstance(shape.rates, RateTable):
            rates = " ".join(
                f"when {literal(name)} then {rate!r}" for name, rate in sorted(shape.rates.items())
            )
            rate = f"case cast({quoted(shape.currency)} as varchar) {rates} end"
        amount = f"cast({amount} * cast({rate} as {_FACTOR}) as {_FACTOR})"
    if isinstance(shape, Subscriptions):
        share = None if shape.discount is None else f"1 - coalesce({quoted(shape.discount)}, 0)"
        for factor in (None if shape.quantity is None else quoted(shape.quantity), share):
            if factor is not None:
                amount = f"cast({amount} * cast({factor} as {_FACTOR}) as {_FACTOR})"
    elif shape.negative == "leave out":
        amount = f"case when {amount} > 0 then {amount} else 0 end"
    return amount


def paid_amount(recipe: SnapshotRecipe) -> str:
    """Return the full amount of a row of revenue as a decimal in one currency."""
    return f"cast({_whole_amount(recipe)} as {_EXACT})"


def row_amount(recipe: SnapshotRecipe) -> str:
    """Return a row's contribution to the MRR of each day on which it counts.

    A decimal in one currency. An amount for several months is divided by their number and rounded
    to a millionth.
    """
    shape, amount = recipe.revenue.shape, _whole_amount(recipe)
    if isinstance(shape, Monthly):
        return paid_amount(recipe)
    months = quoted(shape.months) if isinstance(shape.months, str) else str(shape.months)
    if isinstance(shape, Transactions) and shape.paid_until is not None:
        begin = quoted(str(recipe.sources[shape.source].at))
        days = f"date_diff('day', cast({begin} as date), cast({quoted(shape.paid_until)} as date))"
        month = f"cast({_MONTH_DAYS} as double)"
        whole = f"floor({days} / {month} + 0.5)"
        months = (
            f"case when {whole} >= 1 and abs({days} - {whole} * {month}) <= 3 then {whole} "
            f"else {days} / {month} end"
        )
    if months == "1":
        return paid_amount(recipe)
    return f"cast({_rounded(f'cast({amount} as double) / {months}', 6)} as {_EXACT})"


#: Mean length of a month over four years, in days. A period within three days of a whole number of
#: months counts as that number, since months differ: one from 29 January may end on 1 March.
_MONTH_DAYS = 30.4375


def interval(span: Span) -> str:
    """Write a span as a SQL interval; a span has either months or days."""
    return f"interval {span.months} month" if span.months else f"interval {span.days} day"


def _months(shape: Transactions) -> str:
    """Write the number of months that a payment covers as a SQL interval."""
    months = shape.months
    return f"interval {f'({quoted(months)})' if isinstance(months, str) else months} month"


def life(recipe: SnapshotRecipe) -> tuple[str, str]:
    """Return SQL for the time from which a row of revenue counts, and for its exclusive end."""
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    begin = quoted(str(source.time))
    if isinstance(shape, Monthly):
        begin = f"date_trunc('month', {begin})"
        return begin, f"({begin} + interval 1 month)"
    if isinstance(shape, Transactions):
        if shape.paid_until is not None:
            return begin, quoted(shape.paid_until)
        return begin, f"({begin} + {_months(shape)})"
    end = quoted(str(source.until))
    if shape.until == "last day":
        # The whole last day is paid for, whatever time of day the column has.
        end = f"(cast({end} as date) + interval 1 day)"
    if shape.cancelled is not None:
        cancelled = quoted(shape.cancelled)
        end = f"(case when {cancelled} < {end} or {end} is null then {cancelled} else {end} end)"
    return begin, end


def _ends_with(recipe: SnapshotRecipe, day: str) -> str:
    """Return the exclusive end of the month that the MRR just before `day` covers."""
    shape = recipe.revenue.shape
    calendar = isinstance(shape, Monthly) or shape.month == "calendar"
    return f"date_trunc('month', {day})" if calendar else day


def seen_before(recipe: SnapshotRecipe, day: str) -> str:
    """Return the time before which a row must begin to count in the MRR just before `day`."""
    shape, end = recipe.revenue.shape, _ends_with(recipe, day)
    if isinstance(shape, Subscriptions) and shape.deciding_day == "first day":
        return f"({end} - interval 1 month + interval 1 day)"
    return end


def counted(recipe: SnapshotRecipe, day: str) -> str:
    """Return the condition that a row of revenue counts in the MRR just before `day`, in SQL."""
    shape, end, before = recipe.revenue.shape, _ends_with(recipe, day), seen_before(recipe, day)
    begin, after = life(recipe)
    if isinstance(shape, Monthly):
        return f"{begin} = {end} - interval 1 month"
    if isinstance(shape, Transactions) and shape.paid_until is None:
        return f"{begin} < {end} and {begin} >= {end} - {_months(shape)}"
    if isinstance(shape, Subscriptions) and shape.deciding_day == "any day":
        # A subscription that ends on the day on which it begins is never counted.
        return (
            f"{begin} < {end} and ({after} is null or ({after} >= {end} - interval 1 month + "
            f"interval 1 day and cast({begin} as date) < cast({after} as date)))"
        )
    # `after` is exclusive: the last paid day is the one before.
    return f"{begin} < {before} and ({after} is null or {after} >= {before})"


def mrr_at(recipe: SnapshotRecipe, day: date, rows: str) -> str:
    """Return a SELECT of `account` and its `mrr` (double) just before a day begins.

    Accounts without rows that count have no row.
    """
    shape = recipe.revenue.shape
    amount, divided = row_amount(recipe), ""
    spread = isinstance(shape, Transactions) and (shape.paid_until or shape.months)
    if isinstance(spread, int) and spread:
        # Dividing the sum, not each row, avoids a rounding error per payment.
        amount, divided = paid_amount(recipe), f" / {spread}"
    return (
        f"select {account_of(recipe.sources[shape.source])} as account, "
        f"cast(sum({amount}) as double){divided} as mrr "
        f"from {rows} where {counted(recipe, sql_date(day))} group by 1"
    )


def _retained(recipe: SnapshotRecipe, days: SnapshotDays, rows: str) -> str:
    """Return a SELECT of the accounts retained at the window's end, with their `mrr` then.

    For payments, `retained_by` of the recipe decides; by default an account with any payment in the
    window is retained. Otherwise accounts with MRR at the window's end are retained, and those that
    return within the recipe's `gap`, with the `mrr` of their return.
    """
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    account, end = account_of(source), sql_date(days.end)
    ends = mrr_at(recipe, days.end, rows)
    if isinstance(shape, Transactions) and shape.retained_by != "mrr":
        at, amount = quoted(str(source.at)), paid_amount(recipe)
        # Refunds don't show that an account is active.
        paid = f"count(*) filter (where {quoted(shape.amount)} >= 0) > 0"
        if shape.retained_by == "amount":
            paid = f"sum({amount}) > 0"
        return (
            f"select account, coalesce(mrr, 0) as mrr from (select {account} as account "
            f"from {rows} where {at} >= {sql_date(days.day)} and {at} < {end} group by 1 "
            f"having {paid}) left join ({ends}) using (account)"
        )
    there = f"select account, mrr from ({ends}) where mrr > 0"
    if shape.gap == Span(0, 0):
        return there
    begin, after = life(recipe)
    before = seen_before(recipe, end)
    # A row that ends when it begins was never paid for: it neither is a return nor extends an end.
    paying = f"{row_amount(recipe)} > 0 and ({after} is null or {after} > {begin})"
    left = (
        f"select {account} as account, max({after}) as gone from {rows} "
        f"where {paying} and {begin} < {before} group by 1"
    )
    back = (
        f"select {account} as account, min({begin}) as back from {rows} "
        f"where {paying} and {begin} >= {before} group by 1"
    )
    returned = (
        f"select {account} as account, cast(sum({row_amount(recipe)}) as double) as mrr "
        f'from {rows} join (select account as "gtmar:key", back as "gtmar:back" from ({left}) '
        f"join ({back}) using (account) where back <= gone + {interval(shape.gap)}) "
        f'on {account} = "gtmar:key" and {begin} = "gtmar:back" and {paying} group by 1'
    )
    others = f"({returned}) where account not in (select account from ({there}))"
    return f"{there} union all select account, mrr from {others}"


def _population(recipe: SnapshotRecipe, day: date) -> str:
    """Return a SELECT of the accounts in a date's table, by the revenue known then."""
    paying = 'select account from "gtmar:start" where mrr > 0'
    if recipe.population == "paying":
        return paying
    source = recipe.sources[recipe.revenue.shape.source]
    seen = f'select distinct {account_of(source)} as account from "gtmar:known"'
    if recipe.population == "seen":
        return seen
    former = f"{seen} where {row_amount(recipe)} > 0"
    if (again := recipe.revenue.shape.new_again) is not None:
        # Accounts gone for longer than `new_again` would return as new: they aren't former ones.
        _, after = life(recipe)
        former = (
            f"select account from ({former.replace('distinct ', '')} group by 1 having "
            f"count(*) > count({after}) or max({after}) + {interval(again)} >= {sql_date(day)})"
        )
    return f"{former} union {paying}"


# ---- features ------------------------------------------------------------------------------------


def feature(recipe: SnapshotRecipe, rule: FeatureRule, days: SnapshotDays) -> str:
    """Return the SQL aggregate of a feature over its source's rows of one account."""
    source = recipe.sources[rule.source]
    column = None if rule.column is None else quoted(rule.column)
    number = f"cast({column} as {_EXACT})"
    time = None if source.time is None else quoted(source.time)
    where = None if rule.where is None else f"({rule.where}\n)"

    def over(
        aggregate: str, times: int = 1, *, filtered: bool = True, of: str | None = None
    ) -> str:
        """Filter an aggregate to the rule's `where` and to the `times`-th `last` before the cut."""
        conditions = [where] if filtered and where else []
        if of is not None:
            conditions.append(of)
        if rule.last is not None:
            conditions.append(f"{time} >= {sql_date(rule.last.after(days.cut, -times))}")
        if times > 1 and rule.last is not None:
            conditions.append(f"{time} < {sql_date(rule.last.after(days.cut, 1 - times))}")
        return f"{aggregate} filter (where {' and '.join(conditions)})" if conditions else aggregate

    def double(aggregate: str) -> str:
        return f"cast({aggregate} as double)"

    kind = rule.kind
    if kind == "count":
        return over("count(*)")
    if kind == "sum":
        return f"coalesce({double(over(f'sum({number})'))}, 0)"
    if kind == "mean":
        return f"{double(over(f'sum({number})'))} / nullif({over(f'count({column})')}, 0)"
    if kind in ("min", "max"):
        return over(f"{kind}({column})")
    if kind == "share":
        return f"{double(over('count(*)'))} / nullif({over('count(*)', filtered=False)}, 0)"
    if kind == "distinct":
        return over(f"count(distinct {column})")
    if kind in ("days_since", "tenure"):
        seen = over(f"{'max' if kind == 'days_since' else 'min'}({time})")
        return f"date_diff('day', cast({seen} as date), {sql_date(days.day)})"
    if kind == "latest" and time is None:
        return over(f"max({column})")
    if kind == "latest":
        # Of two rows of the same time, the larger value wins: their order is unknown.
        pair = f"max({{'at': {time}, 'known': {column} is not null, 'value': {column}}})"
        return f"({over(pair)}).value"
    if kind == "change":
        counted = "count(*)" if column is None else f"sum({number})"
        return double(f"coalesce({over(counted)}, 0) - coalesce({over(counted, 2)}, 0)")
    # `trend`: slope per day of the least-squares line. Its sums are exact decimals, so that the
    # order of rows changes no digit.
    x = f"cast(date_diff('day', {sql_date(days.cut)}, cast({time} as date)) as decimal(18, 0))"
    known = f"{column} is not null"
    n, sx = double(over(f"count({column})")), double(over(f"sum({x})", of=known))
    sy, sxx = double(over(f"sum({number})")), double(over(f"sum({x} * {x})", of=known))
    sxy = double(over(f"sum(cast({x} * {number} as {_EXACT}))"))
    return f"({n} * {sxy} - {sx} * {sy}) / nullif({n} * {sxx} - {sx} * {sx}, 0)"


def _group(rule: FeatureRule) -> str:
    """Return the CTE that computes a feature: over all visible rows, or over the recent ones."""
    return quoted(f"gtmar:{'of' if rule.last is None else 'last'}:{rule.source}")


def _reaches_to(rule: FeatureRule, days: SnapshotDays) -> date:
    """Return the first day whose rows a feature with a `last` reads."""
    assert rule.last is not None
    return rule.last.after(days.cut, -2 if rule.kind == "change" else -1)


#: Kinds of features that are 0, not null, for an account without rows in the source.
_OF_NOTHING = ("count", "sum", "distinct", "change")
_TWICE = "feature {}: its SELECT gives an account more than one row"


def statement(recipe: SnapshotRecipe, days: SnapshotDays) -> str:
    """Return the SELECT of one date: one row per account, ordered by id.

    Columns: the id, ``features_asof`` (the date), ``features_until`` (the last day that features
    read), and the features. If outcomes are known, these follow: ``outcome_start``,
    ``outcome_end``, ``mrr``, ``mrr_end``, ``retained_6mo``, ``churned``, and those of ``won_back``,
    ``actual_ltv``, ``activated`` and ``days_to_activate`` for which the recipe asks. Otherwise only
    ``mrr`` follows.
    """
    revenue = recipe.revenue.shape.source
    ctes = [f"{quoted(name)} as ({source_rows(recipe, name, days.cut)})" for name in recipe.sources]
    ctes += [
        f'"gtmar:known" as ({recurring(recipe, f"({source_rows(recipe, revenue, days.day)})")})',
        f'"gtmar:start" as ({mrr_at(recipe, days.day, chr(34) + "gtmar:known" + chr(34))})',
        f'"gtmar:account" as ({_population(recipe, days.day)})',
    ]
    joins, columns = [], []
    groups: dict[str, dict[str, FeatureRule]] = {}
    for name, rule in recipe.features.items():
        if rule.kind != "sql":
            groups.setdefault(_group(rule), {})[name] = rule
    for alias, rules in groups.items():
        any_rule = next(iter(rules.values()))
        source, rows = recipe.sources[any_rule.source], quoted(any_rule.source)
        if any_rule.last is not None:
            # Only as much of a long history is read as the longest `last` needs.
            first = min(_reaches_to(rule, days) for rule in rules.values())
            seen = source_rows(recipe, any_rule.source, days.cut)
            rows = f"({seen}) where {quoted(str(source.time))} >= {sql_date(first)}"
        made = ", ".join(f"{feature(recipe, r, days)} as {quoted(f)}" for f, r in rules.items())
        grouped = f'select {account_of(source)} as "gtmar:key", {made} from {rows} group by 1'
        ctes.append(f"{alias} as ({grouped})")
        joins.append(f'left join {alias} on {alias}."gtmar:key" = "gtmar:account".account')
    for name in dict.fromkeys(r.source for r in recipe.features.values() if r.kind != "sql"):
        source = recipe.sources[name]
        if source.time is not None:
            time, span = quoted(source.time), quoted(f"gtmar:span:{name}")
            ctes.append(
                f"{span} as (select min({time}) as begins, max({time}) as ends from {quoted(name)})"
            )
            joins.append(f"cross join {span}")
    for number, (name, rule) in enumerate(recipe.features.items()):
        if rule.kind == "sql":
            alias = quoted(f"gtmar:sql:{number}")
            ctes.append(
                f"{alias} as (select cast(account as varchar) as account, "
                f"any_value(value) as value, count(*) as answers "
                f"from ({rule.sql}\n) as own(account, value) group by 1)"
            )
            joins.append(f'left join {alias} on {alias}.account = "gtmar:account".account')
            columns.append(
                f"case when {alias}.answers > 1 then error({literal(_TWICE.format(name))}) "
                f"else {alias}.value end as {quoted(name)}"
            )
        else:
            columns.append(f"{_known(recipe, name, rule, days)} as {quoted(name)}")
    columns += _outcomes(recipe, days, ctes, joins)
    listed = ",\n    ".join(
        [
            f'"gtmar:account".account as {quoted(recipe.id)}',
            f"{sql_date(days.day)} as features_asof",
            f"{sql_date(Span(0, 1).after(days.cut, -1))} as features_until",
            *columns,
        ]
    )
    return (
        f'with {("," + chr(10)).join(ctes)}\nselect\n    {listed}\nfrom "gtmar:account"\n'
        f'left join "gtmar:start" on "gtmar:start".account = "gtmar:account".account\n'
        + "\n".join(joins)
        + '\norder by "gtmar:account".account'
    )


def _known(recipe: SnapshotRecipe, name: str, rule: FeatureRule, days: SnapshotDays) -> str:
    """Return a feature's value, or null where its source doesn't cover the feature's time.

    Before a source begins and after it ends nothing was recorded, so a count is unknown and not 0.
    """
    value = f"{_group(rule)}.{quoted(name)}"
    if rule.kind in _OF_NOTHING:
        value = f"coalesce({value}, 0)"
    if recipe.sources[rule.source].time is None:
        return value
    span = quoted(f"gtmar:span:{rule.source}")
    if rule.last is None:
        return f"case when {span}.begins is not null then {value} end"
    first = sql_date(_reaches_to(rule, days))
    recent = sql_date(rule.last.after(days.cut, -1))
    return f"case when {span}.begins <= {first} and {span}.ends >= {recent} then {value} end"


def _outcomes(
    recipe: SnapshotRecipe, days: SnapshotDays, ctes: list[str], joins: list[str]
) -> list[str]:
    """Return the outcome columns; append the CTEs and joins that they need."""
    # An account with more refunds than payments has no MRR here; the bridge keeps it negative.
    start = 'greatest(coalesce("gtmar:start".mrr, 0), 0)'
    if not days.over:
        return [f"{_rounded(start, 4)} as mrr"]
    shape = recipe.revenue.shape
    source = recipe.sources[shape.source]
    account = account_of(source)

    def add(name: str, text: str) -> str:
        alias = quoted(f"gtmar:{name}")
        ctes.append(f"{alias} as ({text})")
        return alias

    def join(name: str, text: str) -> str:
        alias = add(name, text)
        joins.append(f'left join {alias} on {alias}.account = "gtmar:account".account')
        return alias

    history = f"({source_rows(recipe, shape.source)})"
    rows = add("revenue", recurring(recipe, history))
    ends = join("end", mrr_at(recipe, days.end, rows))
    stays = join("kept", _retained(recipe, days, rows))
    kept, end = f"{stays}.account is not null", f"greatest(coalesce({ends}.mrr, 0), 0)"
    if shape.gap != Span(0, 0):
        end = f"coalesce({stays}.mrr, 0)"
    there = f"{start} > 0" if recipe.population == "paying and former" else "true"
    columns = [
        f"{sql_date(days.day)} as outcome_start",
        f"{sql_date(Span(0, 1).after(days.end, -1))} as outcome_end",
        f"case when {there} then {_rounded(start, 4)} end as mrr",
        f"case when {there} then {_rounded(end, 4)} end as mrr_end",
        f"case when {there} then {_flag(kept)} end as retained_6mo",
        f"case when {there} then {_flag(f'not ({kept})')} end as churned",
    ]
    if recipe.population == "paying and former":
        columns.append(f"case when not ({there}) then {_flag(kept)} end as won_back")
    if recipe.ltv is not None:
        amount = f"cast(sum({paid_amount(recipe)}) as double)"
        all_paid = f"({with_rates(recipe, history)})"
        worth = join(
            "worth", f"select {account} as account, {amount} as worth from {all_paid} group by 1"
        )
        columns.append(f"{worth}.worth as actual_ltv")
    if recipe.activation is not None:
        event = recipe.sources[recipe.activation.source]
        at, begins = quoted(str(event.time)), quoted(str(source.time))
        where = "" if recipe.activation.where is None else f" where ({recipe.activation.where}\n)"
        within = interval(recipe.activation.within)
        began = join(
            "began", f"select {account} as account, min({begins}) as began from {rows} group by 1"
        )
        events = (
            f'select {account_of(event)} as "gtmar:key", {at} as "gtmar:at" from '
            f"({source_rows(recipe, recipe.activation.source)}){where}"
        )
        active = join(
            "active",
            f'select account, min("gtmar:at") as at from ({events}) join {began} '
            f'on "gtmar:key" = account where "gtmar:at" >= began and "gtmar:at" < began + {within} '
            "group by 1",
        )
        known = f"{began}.began + {within} <= {sql_date(days.end)}"
        columns += [
            f"case when {known} then {_flag(f'{active}.at is not null')} end as activated",
            f"case when {known} then date_diff('day', cast({began}.began as date), "
            f"cast({active}.at as date)) end as days_to_activate",
        ]
    return columns
